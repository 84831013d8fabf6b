//! Why a file or a folder could not be stored. Pure.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::super::files::entries::UnfitEntry;
use super::super::files::note::EndReason;
use crate::trouble;

/// Why a file could not be stored.
#[derive(Debug)]
pub enum Failure {
    /// The disk is full, or has no more room for us. There may be some again soon.
    NoSpace,
    /// There is no room for it, and will not be by itself, in words for people.
    NoRoom(String),
    /// What came is not what was sent.
    Damaged,
    /// What was sent is no folder, in words for people.
    Unfit(String),
    /// Another error of the system's, in words for people.
    Other(String),
}

impl Failure {
    /// What the other side is told of it.
    pub fn reason(&self) -> EndReason {
        match self {
            Self::NoSpace | Self::NoRoom(_) => EndReason::NoSpace,
            Self::Damaged | Self::Unfit(_) => EndReason::Damaged,
            Self::Other(_) => EndReason::Failed,
        }
    }

    /// What our user is told of it beyond that.
    pub fn trouble(self) -> Option<String> {
        match self {
            Self::NoRoom(words) | Self::Unfit(words) | Self::Other(words) => Some(words),
            Self::NoSpace | Self::Damaged => None,
        }
    }

    /// What an error with this file comes to.
    pub fn at(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoSpace,
            ErrorKind::FileTooLarge => Self::NoRoom(trouble::said(path, &error)),
            _ => Self::Other(trouble::said(path, &error)),
        }
    }
}

impl From<UnfitEntry> for Failure {
    fn from(unfit: UnfitEntry) -> Self {
        Self::Unfit(unfit.to_string())
    }
}
