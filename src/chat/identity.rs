//! `lowkey identity`: shows the long-term key of the user's name, and moves it to another device.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::people::links;
use crate::options::peer::DEFAULT_SERVER;
use crate::options::{self, PeerOptions, config};
use crate::peer::keys::KeyPair;
use crate::peer::link::Link;
use crate::profile::{Profile, Username};
use crate::stderr::say;
use crate::trouble;

/// What to do with the identity.
#[derive(Debug, clap::Subcommand)]
pub enum IdentityTask {
    /// Write it to a new file, for another device of yours; whoever reads that file can pass for you
    Export {
        /// The file, which must not be there yet; - is standard output
        file: PathBuf,
    },
    /// Take one that was exported; it replaces none that is there
    Import {
        /// The file; - is standard input
        file: PathBuf,
    },
}

/// Does it, and returns what is to be printed.
///
/// # Errors
/// What is wrong, for people.
pub fn run(task: Option<&IdentityTask>, options: &PeerOptions, profile: &Profile) -> Result<Zeroizing<String>, String> {
    match task {
        None => show(options, profile).map(Zeroizing::new),
        Some(IdentityTask::Export { file }) => export(file, options, profile),
        Some(IdentityTask::Import { file }) => import(file, options, profile).map(Zeroizing::new),
    }
}

fn name(options: &PeerOptions) -> Result<&Username, String> {
    options.name.as_ref().ok_or_else(|| "no username yet; give one with --name".to_owned())
}

fn show(options: &PeerOptions, profile: &Profile) -> Result<String, String> {
    let name = name(options)?;
    let identity = profile.identity(name.as_str())?.public();
    let (host, is_plain) = (options.server.place(), options.server.is_plain());
    let link = match host.contains('/') {
        true => "none, since it has no place for the path of this server's URL".to_owned(),
        false => {
            let link = Link { host, is_plain, name: name.to_string(), identity };
            links::local(&link).into_iter().for_each(|words| say(format!("* {words}")));
            link.to_string()
        }
    };
    let file = profile.identity_path(name.as_str());
    Ok(format!("name  {name}\nkey   {}\nfile  {}\nlink  {link}\n", identity.to_base64(), file.display()))
}

fn export(file: &Path, options: &PeerOptions, profile: &Profile) -> Result<Zeroizing<String>, String> {
    let name = name(options)?;
    let said = |error: io::Error| trouble::said(file, &error);
    if !profile.has_identity(name.as_str()) {
        return Err(format!("there is no identity of {name} yet; it is made when you first chat"));
    }
    let identity = profile.identity(name.as_str())?;
    let text = Zeroizing::new(format!("{name} {}\n", *identity.secret_to_base64()));
    if file == Path::new(STREAM) {
        return Ok(text);
    }
    let mut new =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => format!("{} is there already and is not replaced", file.display()),
            _ => said(error),
        })?;
    new.write_all(text.as_bytes()).and_then(|()| new.sync_all()).map_err(said)?;
    let file = file.display();
    // Nothing else goes along.
    let server = match options.server.to_string() {
        server if server == DEFAULT_SERVER => String::new(),
        server => format!(", and lowkey config set server {server}"),
    };
    Ok(Zeroizing::new(format!(
        "The identity of {name} is in {file}; whoever reads that can pass for {name}.\n\
         On the other device: lowkey identity import {file}{server}. Then remove the file.\n"
    )))
}

fn import(file: &Path, options: &PeerOptions, profile: &Profile) -> Result<String, String> {
    let mut text = Zeroizing::new(String::new());
    let read = match file == Path::new(STREAM) {
        true => io::stdin().take(MAX_EXPORT).read_to_string(&mut text),
        false => std::fs::File::open(file).and_then(|file| file.take(MAX_EXPORT).read_to_string(&mut text)),
    };
    read.map_err(|error| trouble::said(file, &error))?;
    let no_identity = || format!("{}: this is no identity that was exported", file.display());
    let words: Vec<&str> = text.trim_start_matches(BYTE_ORDER_MARK).split_whitespace().collect();
    // A file that lowkey keeps has the key alone.
    let (named, key) = match words[..] {
        [key] => (None, key),
        [name, key] => (Some(name.parse::<Username>().map_err(|_| no_identity())?), key),
        _ => return Err(no_identity()),
    };
    let identity = KeyPair::from_base64(key).map_err(|_| no_identity())?;
    let name = match (&options.name, named) {
        (Some(name), Some(named)) if *name != named => {
            return Err(format!("this is the identity of {named}, and not of {name}; --name {named} takes it"));
        }
        (Some(name), _) => name.clone(),
        (None, Some(named)) => named,
        (None, None) => return Err("it is not said whose identity this is; give the username with --name".to_owned()),
    };
    profile.import_identity(name.as_str(), &identity)?;
    if options.name.is_none() {
        let keep = |text: &str| config::change(text, &options::every_setting(), "name", &[name.to_string()]);
        profile.change_config(keep)?;
    }
    Ok(format!("You are {name} here, with the key {}.\n", identity.public().to_base64()))
}

/// What some programs put in front of a text, so that others know it for UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// What stands for standard input and output.
const STREAM: &str = "-";

/// More than an exported identity has, in bytes.
const MAX_EXPORT: u64 = 1024;
