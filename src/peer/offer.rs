//! What our user offers to send: a file on the disk, or whatever comes out of a stream.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::note::FileId;
use super::files::work::Offered;
use super::primitives::{self, Secret};
use super::random;

/// A file, or a stream, that is to be offered with [`Peer::offer_file`](crate::peer::Peer::offer_file).
pub struct Offer {
    name: String,
    size: Option<u64>,
    modified: Option<u64>,
    origin: Origin,
}

/// Where the bytes come from.
pub enum Origin {
    /// A file that can be read from any place on.
    File {
        /// The file.
        file: File,
        /// Where it is.
        path: PathBuf,
        /// By which it is seen whether it has changed.
        stamp: Stamp,
    },
    /// Something that can be read once.
    Stream(Box<dyn Read + Send>),
}

/// What of a file changes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Offer {
    /// A file on the disk. It is opened at once, and offered by the last part of its path.
    ///
    /// # Errors
    /// It cannot be read, or is none: a folder, or a device. The words are for people.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = fs::canonicalize(&path).map_err(|error| of_link(path.as_ref(), error))?;
        // To open a pipe would wait for whoever writes it.
        is_file(&fs::metadata(&path)?)?;
        let file = File::open(&path)?;
        let metadata = file.metadata()?;
        is_file(&metadata)?;
        let stamp = Stamp::of(&metadata);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Self {
            name: name.replace(char::REPLACEMENT_CHARACTER, "_"),
            size: Some(stamp.size),
            modified: u64::try_from(stamp.modified.0).ok(),
            origin: Origin::File { file, path, stamp },
        })
    }

    /// What comes out of a stream until its end, offered by this name. It goes on after a connection was lost, but not
    /// after either program has ended.
    pub fn stream(name: impl Into<String>, stream: impl Read + Send + 'static) -> Self {
        Self { name: name.into(), size: None, modified: None, origin: Origin::Stream(Box::new(stream)) }
    }

    /// The same, by another name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The name by which it is offered.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its length in bytes; `None` of a stream.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// When the file was changed last, in seconds since 1970; `None` of a stream.
    pub fn modified(&self) -> Option<u64> {
        self.modified
    }

    /// By what it is named toward this peer. Nobody who does not have `key` can tell from it what the file is, or
    /// whether somebody else was offered the same.
    pub(super) fn id(&self, key: &Secret, server: &str, peer: &str) -> FileId {
        let Origin::File { path, stamp, .. } = &self.origin else {
            let mut id = [0; 16];
            random::fill(&mut id);
            return FileId(id);
        };
        let Stamp { device, inode, size, modified: (seconds, nanoseconds) } = stamp;
        let stamp = [*device, *inode, *size, *seconds as u64, *nanoseconds as u64].map(u64::to_be_bytes).concat();
        let path = path.as_os_str().as_encoded_bytes();
        FileId(*key.expand(&[&primitives::hash(&[server.as_bytes(), peer.as_bytes(), path, &stamp])]))
    }

    /// What the other side is told of it.
    pub(super) fn offered(&self, file: FileId) -> Offered {
        Offered { file, name: self.name.clone(), size: self.size, modified: self.modified }
    }

    /// Where the bytes come from.
    pub(super) fn into_origin(self) -> Origin {
        self.origin
    }
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
}

/// What is said of a link that leads nowhere, which would seem to be there.
fn of_link(path: &Path, error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::NotFound if path.is_symlink() => {
            io::Error::new(ErrorKind::NotFound, "it is a link, and what it leads to is not there")
        }
        _ => error,
    }
}

fn is_file(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        Ok(())
    } else if metadata.is_dir() {
        Err(io::Error::new(
            ErrorKind::IsADirectory,
            "that is a folder; pack it, as tar does, and send what comes of that",
        ))
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "that is no file, but a device, a pipe or a socket"))
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("name", &self.name).field("size", &self.size).finish_non_exhaustive()
    }
}
