//! What is offered to be sent: a file or a folder on the disk, or whatever comes out of a stream.

mod stamp;
mod tree;

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::note::FileId;
use super::files::work::OfferedFile;
use super::primitives::{self, Secret};
use super::random;
use crate::trouble;
pub use stamp::Stamp;
pub use tree::{Branch, Tree};

/// A file, a folder or a stream that is to be offered with [`Peer::offer_file`](crate::peer::Peer::offer_file).
pub struct FileOffer {
    name: String,
    size: Option<u64>,
    modified: Option<u64>,
    origin: FileOrigin,
}

/// Where the bytes come from.
pub enum FileOrigin {
    /// A file that can be read from any place on.
    File {
        /// The file, which is held open.
        file: File,
        /// Where it is.
        path: PathBuf,
        /// Shows whether it has changed since.
        stamp: Stamp,
    },
    /// A folder, with all that is in it.
    Folder {
        /// Where it is.
        path: PathBuf,
        /// What is in it.
        tree: Tree,
    },
    /// Something that can be read once.
    Stream(Box<dyn Read + Send>),
}

impl FileOffer {
    /// A file on the disk, or a folder with all that is in it but symbolic links, devices, pipes and sockets. It is
    /// looked at at once, which takes its time for a large folder, and is offered by the last part of its path.
    ///
    /// # Errors
    /// It, or something in it, cannot be read, or is a device, or the folder has too much in it. The words are for
    /// people.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = fs::canonicalize(&path).map_err(|error| of_link(path.as_ref(), error))?;
        let metadata = fs::metadata(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.replace(char::REPLACEMENT_CHARACTER, "_");
        if metadata.is_dir() {
            let tree = Tree::of(&path)?;
            return Ok(Self { name, size: Some(tree.size), modified: None, origin: FileOrigin::Folder { path, tree } });
        }
        // To open a pipe would wait for whoever writes it.
        is_file(&metadata)?;
        let file = File::open(&path)?;
        let metadata = file.metadata()?;
        is_file(&metadata)?;
        let stamp = Stamp::of(&metadata);
        if !has_its_size(&file, stamp.size())? {
            return Ok(Self::stream(name, file));
        }
        let (size, modified) = (Some(stamp.size()), stamp.seconds());
        Ok(Self { name, size, modified, origin: FileOrigin::File { file, path, stamp } })
    }

    /// What comes out of a stream until its end, offered by this name. It goes on after a connection was lost, but not
    /// after either program has ended.
    pub fn stream(name: impl Into<String>, stream: impl Read + Send + 'static) -> Self {
        Self { name: name.into(), size: None, modified: None, origin: FileOrigin::Stream(Box::new(stream)) }
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

    /// How many files and folders are in it, where it is a folder.
    pub fn entries(&self) -> Option<u64> {
        match &self.origin {
            FileOrigin::Folder { tree, .. } => Some(tree.branches.len() as u64),
            FileOrigin::File { .. } | FileOrigin::Stream(_) => None,
        }
    }

    /// How many symbolic links, devices, pipes and sockets in a folder are not sent.
    pub fn skipped(&self) -> u64 {
        match &self.origin {
            FileOrigin::Folder { tree, .. } => tree.skipped,
            FileOrigin::File { .. } | FileOrigin::Stream(_) => 0,
        }
    }

    /// The id that it has toward this peer. Nobody who does not have `key` can tell from it what the file is, or
    /// whether somebody else was offered the same.
    pub(super) fn id(&self, key: &Secret, server: &str, peer: &str) -> FileId {
        let (path, stamp) = match &self.origin {
            FileOrigin::File { path, stamp, .. } => (path, stamp.bytes()),
            FileOrigin::Folder { path, tree } => (path, tree.digest().0.to_vec()),
            FileOrigin::Stream(_) => {
                let mut id = [0; 16];
                random::fill(&mut id);
                return FileId(id);
            }
        };
        let path = path.as_os_str().as_encoded_bytes();
        FileId(*key.expand(&[&primitives::hash(&[server.as_bytes(), peer.as_bytes(), path, &stamp])]))
    }

    /// What the other side is told of it.
    pub(super) fn offered(&self, file: FileId) -> OfferedFile {
        let entries = self.entries();
        OfferedFile { file, name: self.name.clone(), size: self.size, modified: self.modified, entries }
    }

    /// Where the bytes come from.
    pub(super) fn into_origin(self) -> FileOrigin {
        self.origin
    }
}

/// What is said of a link that leads nowhere, which would seem to be there.
fn of_link(path: &Path, error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::NotFound if path.is_symlink() => {
            trouble::ours(ErrorKind::NotFound, "it is a symbolic link, and what it leads to is not there")
        }
        _ => error,
    }
}

/// Whether a file is as long as it says. What the system makes up as it is read, as below `/proc` and `/sys`, says 0 or
/// a page: it is sent as a stream.
fn has_its_size(file: &File, size: u64) -> io::Result<bool> {
    let mut byte = [0];
    let is_there = size == 0 || file.read_at(&mut byte, size - 1)? == 1;
    Ok(is_there && file.read_at(&mut byte, size)? == 0)
}

fn is_file(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(trouble::ours(ErrorKind::InvalidInput, "that is no file, but a device, a pipe or a socket"))
}

impl fmt::Debug for FileOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileOffer").field("name", &self.name).field("size", &self.size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_makes_up_is_sent_as_it_is_read() {
        for path in ["/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"] {
            if let Ok(text) = fs::read(path) {
                let FileOrigin::Stream(mut stream) = FileOffer::open(path).unwrap().into_origin() else {
                    panic!("{path}")
                };
                let mut read = Vec::new();
                stream.read_to_end(&mut read).unwrap();
                assert_eq!(read, text, "{path}");
            }
        }
        assert!(matches!(FileOffer::open(std::env::current_exe().unwrap()).unwrap().origin, FileOrigin::File { .. }));
    }
}
