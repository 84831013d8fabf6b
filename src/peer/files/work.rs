//! What the files of a chat have a disk do, and what it tells of that. Pure.

use std::path::PathBuf;

use super::super::event::Event;
use super::super::keys::PublicKey;
use super::note::{Digest, EndReason, FileId, Note, PauseReason};

/// What is known of a file before its first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedFile {
    /// Its id.
    pub file: FileId,
    /// Its name, as the sender has it. It may hold anything.
    pub name: String,
    /// Its length in bytes; `None` where that is known only at its end.
    pub size: Option<u64>,
    /// When it was changed last, in seconds since 1970.
    pub modified: Option<u64>,
    /// How many files and folders are in it, where it is a folder.
    pub entries: Option<u64>,
}

/// A file that was taken, and has not come to its end as far as was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComingFile {
    /// Its id.
    pub file: FileId,
    /// Its length in bytes; where nobody knows it, the most that may come.
    pub size: u64,
    /// How much of it has come, as far as was told. The disk may have more.
    pub done: u64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Tell the other side.
    Note(Note),
    /// Tell our user.
    Event(Event),
    /// Have the disk do something about this file.
    Work(FileId, Work),
}

/// What a disk is to do about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Send it from this byte on, if what is before that has this digest, and else from its beginning. It comes to
    /// [`News::Begun`], then [`News::AllSent`] or [`News::Failed`].
    Send {
        /// The number of the take that asks for it.
        take: u64,
        /// The first byte to send.
        from: u64,
        /// The digest of what is before `from`; `None` at the beginning.
        digest_before: Option<Digest>,
    },
    /// Send nothing more of it.
    StopSending,
    /// Look how much of it is here already, and be ready for the rest. It comes to [`News::Ready`], [`News::Stored`] or
    /// [`News::Failed`].
    Prepare {
        /// What is to be expected.
        offered: OfferedFile,
        /// Whom it is from.
        identity: PublicKey,
        /// The number of the take that the other side will be sent, and which its bytes begin with.
        take: u64,
    },
    /// Take nothing more of it.
    StopTaking {
        /// Whether what is here is kept, so that it can go on.
        is_kept: bool,
    },
}

/// What a disk tells of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A part of it is here, which may be nothing.
    Ready {
        /// How many bytes, and so the first one that is to be sent.
        from: u64,
        /// Their digest; `None` at the beginning.
        digest_before: Option<Digest>,
    },
    /// Its bytes begin to go, from this one on.
    Begun(u64),
    /// So many bytes of it are on the receiver's disk.
    Progress(u64),
    /// Nothing of it moves for now.
    Paused(PauseReason),
    /// All of it was sent.
    AllSent,
    /// It is on the disk under its name, and is what was sent.
    Stored {
        /// Where it is; `None` in a stream.
        path: Option<PathBuf>,
        /// Its length in bytes.
        size: u64,
        /// Its digest.
        digest: Digest,
    },
    /// It cannot be read or stored, or is not what was sent.
    Failed {
        /// Why it has ended.
        reason: EndReason,
        /// What went wrong, in words for people.
        trouble: Option<String>,
    },
}
