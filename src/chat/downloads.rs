//! Files of the disk as the client offers and takes them: what was typed is looked for, and what comes is given a
//! folder with room for it, or standard output.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::effect::{FileSource, OwnFile};
use super::paths;
use super::script::{Destination, Quota};
use crate::options::space::FolderSpace;
use crate::peer::keys::PublicKey;
use crate::peer::{ComingFile, EndReason, FileId, FileOffer, Folder, Sink};
use crate::profile::config_home;
use crate::trouble;

/// Where files of others go, if nobody says otherwise.
#[derive(Debug, Clone)]
pub struct Downloads {
    home: Option<PathBuf>,
    /// What the setting says.
    chosen: Option<PathBuf>,
    /// The folder that was opened last, which takes a look at all in it.
    opened: Option<Folder>,
    space: FolderSpace,
}

impl Downloads {
    /// The folder of the setting, or the usual one.
    pub fn new(chosen: Option<PathBuf>) -> Self {
        let is_said = |value: &OsString| !value.is_empty();
        Self {
            home: env::var_os("HOME").filter(is_said).map(PathBuf::from),
            chosen,
            opened: None,
            space: FolderSpace::default(),
        }
    }

    /// The paths that were typed.
    ///
    /// # Errors
    /// What is wrong with the line; for people.
    pub fn find(&self, typed: &str) -> Result<Vec<PathBuf>, String> {
        paths::read(typed, self.home.as_deref(), |path| path.symlink_metadata().is_ok())
    }

    /// Whether a part of this file has come before, in the usual folder.
    pub fn has_begun(&mut self, identity: PublicKey, file: FileId, size: Option<u64>) -> bool {
        let there = self.path().ok().filter(|path| path.is_dir()).and_then(|path| self.open(&path).ok());
        there.is_some_and(|folder| folder.has_begun(identity, file, size))
    }

    /// The folder at this path, which is made if it is not there.
    fn open(&mut self, path: &Path) -> io::Result<Folder> {
        let is_it = |folder: &&Folder| fs::canonicalize(path).is_ok_and(|path| path == folder.path());
        let folder = self.opened.as_ref().filter(is_it).cloned().map_or_else(|| Folder::open(path), Ok)?;
        Ok(self.opened.insert(folder).clone())
    }

    /// What takes this file, of this length. Its disk bounds it, and so does the `quota`, beside others that are
    /// `coming`.
    ///
    /// # Errors
    /// Why the file is refused, and what is wrong here, for people.
    pub fn sink(
        &mut self,
        (file, is_folder): (FileId, bool),
        place: Destination,
        size: Option<u64>,
        quota: Option<Quota>,
        coming: &[ComingFile],
    ) -> Result<Sink, (EndReason, Option<String>)> {
        let failed = |words: String| (EndReason::Failed, Some(words));
        let (path, name) = match place {
            Destination::Output => {
                let output = io::stdout().as_fd().try_clone_to_owned();
                let output = output.map_err(|error| failed(trouble::output(&error)))?;
                let at_most = quota.map_or(u64::MAX, |quota| quota.of_one);
                return Ok(Sink::write(File::from(output)).at_most(at_most));
            }
            Destination::Downloads { name } => (self.path().map_err(failed)?, name),
            Destination::Folder { folder, name } => (folder, name),
        };
        let said = |error: io::Error| failed(trouble::said(&path, &error));
        let folder = self.open(&path).map_err(said)?;
        check_writable(&path).map_err(said)?;
        folder.has_room(file, size, is_folder, coming).map_err(|words| (EndReason::NoSpace, Some(words)))?;
        let at_most = match quota {
            None => u64::MAX,
            Some(quota) => {
                let space = self.space.left(&folder, quota, (file, size), coming).map_err(said)?;
                let full = || format!("{} holds as much as --max-files allows", path.display());
                space.ok_or_else(|| (EndReason::NoSpace, Some(full())))?
            }
        };
        let sink = match name {
            Some(name) => Sink::folder_as(folder, name),
            None => Sink::folder(folder),
        };
        Ok(sink.at_most(at_most))
    }

    /// The folder.
    fn path(&self) -> Result<PathBuf, String> {
        if let Some(chosen) = &self.chosen {
            // A shell has done this for a flag; for a variable and the settings file nobody has.
            return match (chosen.strip_prefix("~"), &self.home) {
                (Ok(rest), Some(home)) => Ok(home.join(rest)),
                _ => Ok(chosen.clone()),
            };
        }
        let home =
            self.home.as_ref().ok_or("there is no folder for it, since HOME is not set: give --downloads one")?;
        let dirs = config_home(|name| env::var_os(name)).map(|config| config.join("user-dirs.dirs"));
        let text = dirs.and_then(|dirs| fs::read_to_string(dirs).ok()).unwrap_or_default();
        Ok(paths::download_folder(&text, home).unwrap_or_else(|| home.join("Downloads")))
    }
}

/// Opens a file or a folder that is to be offered.
///
/// # Errors
/// It cannot be read; for people.
pub fn open(file: &OwnFile) -> Result<FileOffer, String> {
    let offer = match &file.source {
        FileSource::Path(path) => FileOffer::open(path).map_err(|error| trouble::why(&error))?,
        FileSource::Input => {
            let input = io::stdin().as_fd().try_clone_to_owned().map_err(|error| trouble::why(&error))?;
            FileOffer::stream("input", BufReader::new(File::from(input)))
        }
    };
    Ok(match &file.name {
        Some(name) => offer.with_name(name),
        None => offer,
    })
}

/// Checks that a file can be offered.
///
/// # Errors
/// It cannot be offered; for people.
pub fn check(path: &Path) -> Result<(), String> {
    FileOffer::open(path).map(drop).map_err(|error| trouble::said(path, &error))
}

/// Checks that files can be put into a folder, which is made if it is not there.
///
/// # Errors
/// They cannot be put there; for people.
pub fn check_folder(path: &Path) -> Result<(), String> {
    Folder::open(path).and_then(|_| check_writable(path)).map_err(|error| trouble::said(path, &error))
}

/// Whether a folder can be written in. Where it cannot, that is said before anything is agreed to.
fn check_writable(path: &Path) -> io::Result<()> {
    Ok(access(path, AccessFlags::W_OK)?)
}
