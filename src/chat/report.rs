//! What the terminal chat has to tell. [`words`](super::words) says it to people, [`json`](super::json) to programs.
//! Pure.
//!
//! Some reports say no more than the event of the peer that they come from. They are reports of their own all the same:
//! each has words and a name in JSON, so that what is told is a closed list, to which a new event adds nothing by
//! itself.

use std::path::PathBuf;
use std::time::Duration;

use crate::peer::SafetyNumber;
use crate::peer::keys::PublicKey;
use crate::peer::{CloseReason, Digest, EndReason, FileId, NotSentReason, PauseReason, Trust};
use crate::profile::known_peers::KnownPeer;
use crate::profile::transcript::TranscriptEntry;

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The program has begun.
    Started {
        /// The user's name.
        name: String,
    },
    /// The user can call and be called.
    Online,
    /// The server cannot be reached, or was lost.
    Offline {
        /// Why, for people.
        reason: String,
        /// After which time it is tried again; `None` when it is not.
        retry_in: Option<Duration>,
        /// Whether chats are open, which go on.
        has_chats: bool,
    },
    /// A peer is being called.
    Calling {
        peer: String,
        /// Whether that has to wait for the server.
        is_waiting: bool,
    },
    /// Somebody calls.
    Request {
        peer: String,
        /// By which number the request can be answered. It is never used again.
        number: u64,
        /// How many have called within a minute. People are not told of each of many.
        count: u64,
        /// What is known of who it is.
        trust: Trust,
        /// Whether a chat with them is open, which the answer may end.
        has_chat: bool,
    },
    /// Whom we have called uses an old app, and the user is asked whether to talk to it.
    OldApp {
        peer: String,
        /// By which number that can be answered. It is never used again.
        number: u64,
    },
    /// A request is over.
    RequestEnded {
        peer: String,
        /// Whether people were told that it came.
        is_told: bool,
    },
    /// Both sides want to talk, and know who they are. A direct connection is being sought.
    Connecting { peer: String },
    /// Who the other side of a chat is.
    Identified {
        peer: String,
        /// What is known of it.
        trust: Trust,
        /// The safety number with it.
        number: SafetyNumber,
    },
    /// A chat is open.
    Open {
        peer: String,
        /// Whether lines go to it.
        is_current: bool,
    },
    /// A text came.
    Message {
        peer: String,
        /// The text as it was sent.
        text: String,
        /// The key that stands for the peer, which gives it its colour.
        key: Option<PublicKey>,
    },
    /// Texts have arrived.
    Delivered {
        peer: String,
        /// What the user calls each of them, if anything.
        ids: Vec<Option<String>>,
    },
    /// The connection of an open chat was lost and is sought again.
    Interrupted { peer: String },
    /// An interrupted chat goes on.
    Resumed { peer: String },
    /// The peer has changed its key in mid-chat, as an old app may do.
    KeyChanged { peer: String },
    /// A text was not sent, or may not have arrived.
    NotSent {
        /// To whom, if to anybody.
        peer: Option<String>,
        text: String,
        /// What the user calls it.
        id: Option<String>,
        reason: Unsent,
        /// Whether it is kept for a later time.
        is_kept: bool,
    },
    /// A chat has ended, or a call that did not become one.
    Closed { peer: String, reason: CloseReason },
    /// An accepted request came to nothing; a chat that was open with the peer goes on.
    Refused { peer: String, reason: CloseReason },
    /// Something has happened to a file.
    File { file: FileReport, news: FileNews },
    /// A file was not offered.
    FileNotOffered {
        /// To whom, if to anybody.
        peer: Option<String>,
        /// The file, as the user named it.
        path: String,
        /// What the user calls it.
        id: Option<String>,
        /// Why, for people.
        message: String,
    },
    /// All files, the oldest first.
    Files(Vec<(FileReport, FileState)>),
    /// A peer is not who they were.
    IdentityChanged {
        peer: String,
        /// What was known.
        known: KnownPeer,
        /// The safety number of what was known.
        known_number: SafetyNumber,
        /// The safety number of what it shows now, if anything.
        number: Option<SafetyNumber>,
    },
    /// The safety number with a peer.
    SafetyNumber {
        peer: String,
        /// Who it is in the open chat; `None` where there is none, and the number is of what is known.
        trust: Option<Trust>,
        number: SafetyNumber,
        /// What it would be with whom they have become, where they were refused for that.
        new_number: Option<SafetyNumber>,
    },
    /// Who was seen before, and who is here now.
    Peers(Vec<PeerReport>),
    /// Who may not call.
    Blocked(Vec<String>),
    /// The last texts of the log.
    Log {
        /// With whom; with everybody without it.
        peer: Option<String>,
        /// Those texts, the oldest first.
        entries: Vec<TranscriptEntry>,
    },
    /// The user's own link.
    Link(String),
    /// Whom lines go to, and who else is there.
    Who {
        /// The peer that lines go to.
        current: Option<String>,
        /// All chats and calls.
        chats: Vec<ChatReport>,
        /// Who is calling, with the number of each request.
        requests: Vec<(String, u64)>,
        /// Who was refused, because they are not who they were.
        refused: Vec<String>,
    },
    /// The settings of the screen.
    Settings(Vec<(&'static str, String)>),
    /// What can be typed; all, or more of one command.
    Help(Option<String>),
    /// The server could not serve a message of ours.
    ServerError {
        /// One of the protocol's error codes.
        code: String,
        /// The server's words.
        message: String,
        /// How many of this kind have come in a row.
        count: u64,
    },
    /// A command could not be done.
    Mistake(String),
    /// A command of a script could not be read.
    Misread {
        /// Why, for people.
        message: String,
        /// What the script calls what it was to do.
        id: String,
    },
    /// Something else, in words.
    Notice(String),
}

/// Why a text was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsent {
    /// The peer says so.
    Peer(NotSentReason),
    /// It waited for a chat that did not come about, or ended.
    Closed(CloseReason),
    /// The end of the program came first.
    Ended,
}

impl From<NotSentReason> for Unsent {
    fn from(reason: NotSentReason) -> Self {
        Self::Peer(reason)
    }
}

/// One peer, as `/peers` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// Its name.
    pub peer: String,
    /// What the user calls it.
    pub alias: Option<String>,
    /// What is known of it, if anything for good.
    pub known: Option<KnownPeer>,
    /// Whether a chat with it is open.
    pub is_here: bool,
}

/// One chat, as `/who` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatReport {
    /// With whom.
    pub peer: String,
    /// How far it is.
    pub state: ChatState,
    /// Who the other side is; `None` until that is known.
    pub trust: Option<Trust>,
    /// Texts that came while lines went to others.
    pub unread: usize,
    /// Texts that were sent and are not known to have arrived.
    pub underway: usize,
    /// Texts that wait for the chat to open.
    pub waiting: usize,
    /// Texts that could not be sent and are kept.
    pub kept: usize,
}

/// A file that is offered, by whomever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// To or from whom.
    pub peer: String,
    /// By what both sides name it.
    pub file: FileId,
    /// By which number the user names it. It is never used again.
    pub number: u64,
    /// Whether we send it.
    pub is_ours: bool,
    /// Its name as the sender has it. It may hold anything.
    pub name: String,
    /// Its length in bytes, where it is known.
    pub size: Option<u64>,
    /// How many files and folders are in it, where it is a folder.
    pub entries: Option<u64>,
    /// What the user calls it, of our own.
    pub id: Option<String>,
}

/// What has happened to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileNews {
    /// We offer it.
    Offering,
    /// It is offered to us.
    Offered {
        /// When it was changed last, in seconds since 1970.
        modified: Option<u64>,
        /// It is the only one that is offered in the chat that lines go to, so it needs no number.
        is_only: bool,
    },
    /// Its bytes begin to go, or go on.
    Started {
        /// From which byte on.
        from: u64,
    },
    /// So much of it is there.
    Progress {
        /// So many bytes.
        done: u64,
        /// So many go in a second, where that is known.
        rate: Option<u64>,
    },
    /// Nothing of it moves for now.
    Paused(PauseReason),
    /// The other side has it.
    Sent {
        /// Its SHA-256.
        digest: Digest,
    },
    /// It is here.
    Received {
        /// Where; standard output without it.
        path: Option<PathBuf>,
        /// Its SHA-256.
        digest: Digest,
    },
    /// It was not sent, or no further.
    Ended {
        reason: EndReason,
        /// What went wrong on this side, for people.
        trouble: Option<String>,
        /// Whether what came of it is kept, and goes on once it is offered again.
        is_kept: bool,
        /// Whether our user has ended it.
        is_by_us: bool,
    },
}

/// How far a file is, as `/files` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// It is offered.
    Offered,
    /// It is taken, and nothing has moved yet.
    Taken,
    /// It is on its way.
    Running {
        /// So many bytes are there.
        done: u64,
        /// So many go in a second, where that is known.
        rate: Option<u64>,
        /// How long it will take yet, where that is known.
        time_left: Option<Duration>,
    },
    /// Nothing of it moves for now: so many bytes are there, and why.
    Paused { done: u64, reason: PauseReason },
    /// It is there.
    Done {
        /// Where; of our own that the other side has, and on standard output, without it.
        path: Option<PathBuf>,
        /// Its SHA-256.
        digest: Digest,
    },
    /// It was not sent, or no further: why, whether what came of it is kept, and whether our user has ended it.
    Ended { reason: EndReason, is_kept: bool, is_by_us: bool },
}

/// How far a chat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatState {
    /// There is none; texts are kept for one.
    Closed,
    /// The peer is to be called once the server is there, or is being called.
    Calling,
    /// Texts can be sent.
    Open,
    /// The connection was lost and is sought again.
    Interrupted,
}

/// What the prompt shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Whom lines go to.
    pub peer: Option<String>,
    /// What the user calls it.
    pub alias: Option<String>,
    /// Who that is, where it is known.
    pub trust: Option<Trust>,
    /// How it stands with what was sent.
    pub mark: Mark,
    /// Texts that came from others and were not answered.
    pub unread: usize,
    /// The file that is on its way.
    pub file: Option<FileMark>,
}

/// What the prompt shows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMark {
    /// Whether we send it.
    pub is_ours: bool,
    /// So many bytes are there.
    pub done: u64,
    /// Of so many, where that is known.
    pub size: Option<u64>,
}

/// How it stands with the chat that lines go to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mark {
    /// Nothing to say.
    #[default]
    None,
    /// A call or a text is on its way.
    Busy,
    /// Everything has arrived.
    Delivered,
    /// Something could not be sent, and is kept.
    Kept,
    /// There is no connection.
    Closed,
}
