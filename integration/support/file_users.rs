//! Two users of the library who send each other files, and what they are told of them.

use std::fs;
use std::path::{Path, PathBuf};

use lowkey::peer::{Digest, EndReason, Event, FileId, Settings};
use sha2::{Digest as _, Sha256};

use crate::world::{self, Server, User, identity, until};

/// The settings of a user who is told of files.
pub fn settings(name: &str) -> Settings {
    let mut settings = Settings::default();
    settings.token = Some(format!("the token of {name}"));
    settings.identity = Some(identity(name));
    settings.takes_files = true;
    settings
}

/// A user who is told of files.
pub fn user(server: &Server, name: &str) -> User {
    User::online(&server.url(), name, settings(name))
}

/// From which byte on a file begins to go.
pub fn started(user: &mut User) -> u64 {
    user.find("a file begins", |event| match event {
        Event::FileStarted { from, .. } => Some(*from),
        Event::FileEnded { .. } => panic!("{event:?}"),
        _ => None,
    })
}

/// Alice and bob in an open chat.
pub fn pair(server: &Server) -> (User, User) {
    world::pair(["alice", "bob"].map(|name| user(server, name)))
}

/// So many bytes that are not like each other.
pub fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64).map(|number| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// The names in a folder, without that of what is not whole.
pub fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != ".lowkey").collect();
    names.sort();
    names
}

/// Waits until so much of the only file that comes into this folder lies there, and the list beside it has a place to
/// go on from; how much that is. The disk is asked for both, and not what is told twice a second: on a quick machine
/// all of it is there before.
pub fn lies_in(folder: &Path, least: u64) -> u64 {
    until("some of a file lies in the folder", || {
        let entries = fs::read_dir(folder.join(".lowkey")).ok()?.flatten();
        let part = entries.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "part"))?;
        // Behind the line that says whose it is.
        fs::read_to_string(part.with_extension("json")).ok()?.lines().nth(1)?;
        Some(fs::metadata(part).ok()?.len()).filter(|length| *length >= least)
    })
}

pub fn sum(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

pub fn offered(user: &mut User) -> FileId {
    user.find("an offer", |event| match event {
        Event::FileOffered { file, .. } => Some(*file),
        _ => None,
    })
}

/// Waits until a file is here: where.
pub fn received(user: &mut User, file: FileId) -> (Option<PathBuf>, u64, Digest) {
    user.find("a file", |event| match event {
        Event::FileReceived { file: of, path, size, digest, .. } if *of == file => Some((path.clone(), *size, *digest)),
        Event::FileEnded { .. } => panic!("{event:?}"),
        _ => None,
    })
}

pub fn sent(user: &mut User, file: FileId) -> (u64, Digest) {
    user.find("a file is sent", |event| match event {
        Event::FileSent { file: of, size, digest, .. } if *of == file => Some((*size, *digest)),
        Event::FileEnded { .. } => panic!("{event:?}"),
        _ => None,
    })
}

pub fn ended(user: &mut User, file: FileId) -> (EndReason, bool) {
    user.find("the end of a file", |event| match event {
        Event::FileEnded { file: of, reason, is_kept, .. } if *of == file => Some((*reason, *is_kept)),
        Event::FileSent { .. } | Event::FileReceived { .. } => panic!("{event:?}"),
        _ => None,
    })
}

/// A sink that takes nothing before it is told to.
pub struct Held(pub std::sync::mpsc::Receiver<()>, pub bool);

impl std::io::Write for Held {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.1 {
            let _ = self.0.recv();
            self.1 = true;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
