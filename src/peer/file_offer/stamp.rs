//! By what it is seen whether a file has changed.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// What of a file changes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    /// That of a file.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// The length of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When the file was changed last, in seconds since 1970.
    pub fn seconds(&self) -> Option<u64> {
        u64::try_from(self.modified.0).ok()
    }

    /// All of it, to be hashed.
    pub fn bytes(&self) -> Vec<u8> {
        let (seconds, nanoseconds) = self.modified;
        [self.device, self.inode, self.size, seconds as u64, nanoseconds as u64].map(u64::to_be_bytes).concat()
    }
}
