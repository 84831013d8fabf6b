//! What is sent of a file or a folder on the disk, from any place on: of a folder the sequence of its entries.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::file_offer::{Branch, Stamp, Tree};
use super::super::files::note::EndReason;
use crate::trouble;

/// What is sent: a file, or a folder as one sequence.
pub enum Content {
    /// A file.
    File {
        /// The file, which is held open.
        file: File,
        /// Where it is.
        path: PathBuf,
        /// As it was when it was offered.
        stamp: Stamp,
    },
    /// A folder.
    Folder {
        /// What is in it.
        tree: Tree,
        /// The file in it that was read last, by its number.
        open: Option<(usize, File)>,
    },
}

/// Why a file or a folder that is sent cannot be read any further.
pub struct ReadError {
    /// What the other side is told.
    pub reason: EndReason,
    /// What our user is told beyond that.
    pub trouble: Option<String>,
}

impl Content {
    /// Reads as much from there on as there is room for; 0 at the end.
    ///
    /// # Errors
    /// It cannot be read, or has changed.
    pub fn read(&mut self, position: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        match self {
            Self::File { file, path, stamp } => read(file, path, stamp.size(), position, buffer),
            Self::Folder { tree, open } => {
                let number = tree.branches.partition_point(|branch| branch.start <= position).saturating_sub(1);
                match tree.branches.get(number).filter(|_| position < tree.size) {
                    Some(branch) => read_branch(branch, number, open, position - branch.start, buffer),
                    None => Ok(0),
                }
            }
        }
    }

    /// Looks whether it is as it was when it was offered.
    ///
    /// # Errors
    /// It is not, or cannot be looked at.
    pub fn check(&self) -> Result<(), ReadError> {
        match self {
            Self::File { file, path, stamp } => check(file, path, stamp),
            Self::Folder { tree, .. } => tree.branches.iter().try_for_each(|branch| {
                let metadata = fs::symlink_metadata(&branch.path).map_err(|error| read_error(&branch.path, &error))?;
                let is_same = match &branch.stamp {
                    Some(stamp) => metadata.is_file() && Stamp::of(&metadata) == *stamp,
                    None => metadata.is_dir(),
                };
                if is_same { Ok(()) } else { Err(CHANGED) }
            }),
        }
    }
}

/// Reads of an entry: its header, and what is behind that.
fn read_branch(
    branch: &Branch,
    number: usize,
    open: &mut Option<(usize, File)>,
    position: u64,
    buffer: &mut [u8],
) -> Result<usize, ReadError> {
    let header = branch.entry.header();
    if let Some(rest) =
        usize::try_from(position).ok().and_then(|position| header.get(position..)).filter(|rest| !rest.is_empty())
    {
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        return Ok(count);
    }
    let Some(stamp) = &branch.stamp else { return Ok(0) };
    let file = match open.take() {
        Some((of, file)) if of == number => file,
        _ => {
            let file = File::open(&branch.path).map_err(|error| read_error(&branch.path, &error))?;
            // It could be another one by now.
            check(&file, &branch.path, stamp)?;
            file
        }
    };
    let count = read(&file, &branch.path, stamp.size(), position - header.len() as u64, buffer)?;
    *open = Some((number, file));
    Ok(count)
}

/// Reads of a file of this length.
fn read(file: &File, path: &Path, size: u64, position: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
    let left = size.saturating_sub(position);
    let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    let read = loop {
        match file.read_at(&mut buffer[..room], position) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => break read,
        }
    };
    match read.map_err(|error| read_error(path, &error))? {
        0 if room > 0 => Err(CHANGED),
        count => Ok(count),
    }
}

fn check(file: &File, path: &Path, stamp: &Stamp) -> Result<(), ReadError> {
    let metadata = file.metadata().map_err(|error| read_error(path, &error))?;
    if Stamp::of(&metadata) == *stamp { Ok(()) } else { Err(CHANGED) }
}

fn read_error(path: &Path, error: &io::Error) -> ReadError {
    ReadError { reason: EndReason::Failed, trouble: Some(trouble::said(path, error)) }
}

const CHANGED: ReadError = ReadError { reason: EndReason::Changed, trouble: None };
