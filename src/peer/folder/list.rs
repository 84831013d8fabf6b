//! The list that lies beside the part of a file: whose it is, how far it has come for certain, and by which name it is
//! there once it is whole. Each is a line, and the last counts, if it was not cut off with the program.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::super::files::checksum::Checksum;
use super::super::files::note::Digest;
use super::super::keys::PublicKey;

/// The first line of a list: whose file offer it is.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The sender's identity, in base64.
    pub from: String,
    /// Its length as it was offered.
    pub size: Option<u64>,
    /// By which name our user wants it.
    #[serde(default)]
    pub name: Option<String>,
}

/// A line of a list that says by which name a file is there, written just before it is.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListedFile {
    /// Its name in the folder.
    pub name: String,
    inode: u64,
    /// When it was changed last, in seconds and nanoseconds.
    modified: (i64, i64),
    /// Its length in bytes, as it was sent.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// Whether it is a folder.
    #[serde(default)]
    is_folder: bool,
}

impl Head {
    /// That of a list.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text.split_once('\n')?.0).ok()
    }

    /// Whether it is of a file offer by this sender and of this length.
    pub fn is_of(&self, from: PublicKey, size: Option<u64>) -> bool {
        (&self.from, self.size) == (&from.to_base64(), size)
    }
}

impl ListedFile {
    /// That of a part that is whole and is to have this name.
    pub fn of(metadata: &Metadata, name: String, size: u64, digest: Digest) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { name, inode: metadata.ino(), modified, size, digest, is_folder: metadata.is_dir() }
    }

    /// Whether it is of this very file or folder, as it was; of a folder it is seen whether something has come into it
    /// or gone from it.
    pub fn is_of(&self, metadata: &Metadata) -> bool {
        let is_same = (self.inode, self.modified) == (metadata.ino(), (metadata.mtime(), metadata.mtime_nsec()));
        let is_alike = match self.is_folder {
            true => metadata.is_dir(),
            false => metadata.is_file() && self.size == metadata.size(),
        };
        is_same && is_alike
    }
}

/// How far a list says that a part of this length has come.
pub fn last_sum(list: &str, length: u64) -> Checksum {
    let sums = list.lines().skip(1).filter_map(read_sum).filter(|sum| sum.position() <= length);
    sums.last().unwrap_or_default()
}

/// The line that says how far it has come.
pub fn sum_line(sum: &Checksum) -> String {
    format!("{} {}\n", sum.position(), HEXLOWER.encode(&sum.state()))
}

/// The last line of a list that says where a whole file is.
pub fn last_listed(list: &str) -> Option<ListedFile> {
    list.lines().skip(1).filter_map(|line| serde_json::from_str(line).ok()).last()
}

/// A line of a list behind the first.
fn read_sum(line: &str) -> Option<Checksum> {
    let (position, state) = line.split_once(' ')?;
    Checksum::stored(position.parse().ok()?, &HEXLOWER.decode(state.as_bytes()).ok()?)
}
