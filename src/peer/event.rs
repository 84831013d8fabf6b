//! What a peer tells its user.

use std::path::PathBuf;
use std::time::Duration;

use super::files::note::{Digest, EndReason, FileId, PauseReason};
use super::keys::PublicKey;
pub use super::reasons::{CloseReason, NotSentReason, OfflineReason};
use super::trust::Trust;

/// Something that happened to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The server has taken us online: we can call and be called.
    Online,
    /// Another program was online under our name, with the same secret for it, and had to go for this one. Told behind
    /// [`Online`](Self::Online), once at most; a server of another make does not say so.
    TookOver,
    /// The server cannot be reached, or was lost. Open chats live on.
    Offline {
        /// Why it is not reached.
        reason: OfflineReason,
        /// After which time it is tried again; `None` where it is not.
        retry_in: Option<Duration>,
    },
    /// Somebody calls. Answer with [`accept`](super::Peer::accept), [`decline`](super::Peer::decline) or
    /// [`ignore`](super::Peer::ignore) within a minute.
    Request {
        /// The caller's name.
        peer: String,
        /// What is known of who it is. All but old apps have proven it.
        trust: Trust,
        /// The identity that it has proven; `None` of an old app.
        identity: Option<PublicKey>,
    },
    /// A request is over: the caller gave up, the minute has passed, or the server was lost.
    RequestEnded {
        /// The caller's name.
        peer: String,
    },
    /// Whom we have called uses an old app, by all that can be known, and the server may be listening. Nothing is sent
    /// to them until [`accept`](super::Peer::accept) is said within a minute; [`leave`](super::Peer::leave) ends the
    /// call.
    OldApp {
        /// The peer's name.
        peer: String,
    },
    /// Both sides want to talk, and know who they are. A peer connection is being sought.
    Connecting {
        /// The peer's name.
        peer: String,
    },
    /// Who the other side of a chat is, told just before it is open.
    Identified {
        /// The peer's name.
        peer: String,
        /// What is known of who it is.
        trust: Trust,
        /// The key that stands for us in the [`SafetyNumber`](super::SafetyNumber): the identity, or
        /// this call's session key where the other side has none.
        own: PublicKey,
        /// The key that stands for the other side.
        other: PublicKey,
    },
    /// A chat is open: texts can be sent.
    Open {
        /// The peer's name.
        peer: String,
    },
    /// A text came.
    Message {
        /// The sender's name.
        peer: String,
        /// The text as it was sent. It may hold anything, so make it harmless before it goes to a terminal.
        text: String,
    },
    /// The peer has changed its key in mid-chat, as an old app may do.
    KeyChanged {
        /// The peer's name.
        peer: String,
    },
    /// The peer's program has taken the text with this number, and all that were sent to it before. Old apps never say
    /// so.
    Delivered {
        /// The peer's name.
        peer: String,
        /// The number that [`send`](super::Peer::send) returned for the text.
        id: u64,
    },
    /// The peer connection of an open chat was lost, and is sought again. Texts that are sent meanwhile are kept.
    Interrupted {
        /// The peer's name.
        peer: String,
    },
    /// An interrupted chat goes on, with the same identity. What was kept goes out.
    Resumed {
        /// The peer's name.
        peer: String,
    },
    /// A text could not be sent, or it is not known whether it arrived.
    NotSent {
        /// The peer's name.
        peer: String,
        /// The number that [`send`](super::Peer::send) returned for it.
        id: u64,
        /// The text, as it was given to [`send`](super::Peer::send).
        text: String,
        /// Why it comes back.
        reason: NotSentReason,
    },
    /// A chat has ended, or a call that did not become one.
    Closed {
        /// The peer's name.
        peer: String,
        /// Why it has ended.
        reason: CloseReason,
    },
    /// A call was refused without asking, because the caller has another identity than before, or proves none; or a
    /// request that was accepted has come to nothing. A chat that is open with the peer goes on.
    Refused {
        /// The caller's name.
        peer: String,
        /// Why there is no chat.
        reason: CloseReason,
    },
    /// A file is offered. Answer with [`take_file`](super::Peer::take_file) or
    /// [`refuse_file`](super::Peer::refuse_file) within a day. Nothing of it comes before.
    FileOffered {
        /// The sender's name.
        peer: String,
        /// The identity that the peer has proven.
        identity: PublicKey,
        /// The file's id. No other one in this chat has it, be it theirs or ours.
        file: FileId,
        /// Its name, as the sender has it. It may hold anything, so make it harmless before it goes to a terminal.
        name: String,
        /// Its length in bytes; `None` where that is known only at its end.
        size: Option<u64>,
        /// When it was changed last, in seconds since 1970.
        modified: Option<u64>,
        /// How many files and folders are in it, where it is a folder: that is taken as a file is, but not into a
        /// stream.
        entries: Option<u64>,
    },
    /// The bytes of a file begin to go, or go on after the chat was interrupted.
    FileStarted {
        /// The peer's name.
        peer: String,
        /// The file's id.
        file: FileId,
        /// The byte that is the first to go. What is before it was there already.
        from: u64,
    },
    /// The receiver's disk has more of a file. Comes twice a second at most, and ends a pause.
    FileProgress {
        /// The peer's name.
        peer: String,
        /// The file's id.
        file: FileId,
        /// How many bytes of it are there.
        done: u64,
    },
    /// Nothing of a file moves for now.
    FilePaused {
        /// The peer's name.
        peer: String,
        /// The file's id.
        file: FileId,
        /// What it waits for.
        reason: PauseReason,
    },
    /// All of a file that we have offered is on the other side's disk under its name, and is what was sent.
    FileSent {
        /// The receiver's name.
        peer: String,
        /// The file's id.
        file: FileId,
        /// Its length in bytes.
        size: u64,
        /// Its SHA-256.
        digest: Digest,
    },
    /// All of a file that was offered to us is on our disk under its name, or in the stream that was given for it, and
    /// is what was sent.
    FileReceived {
        /// The sender's name.
        peer: String,
        /// The file's id.
        file: FileId,
        /// Where it is; `None` in a stream.
        path: Option<PathBuf>,
        /// Its length in bytes.
        size: u64,
        /// Its SHA-256.
        digest: Digest,
    },
    /// A file that was offered was not sent, or no further. The last word about it.
    FileEnded {
        /// The peer's name.
        peer: String,
        /// The file's id.
        file: FileId,
        /// Why it has ended.
        reason: EndReason,
        /// What went wrong on this side, in words for people.
        trouble: Option<String>,
        /// Whether what came of it is kept here, and goes on once the same file is offered again.
        is_kept: bool,
    },
    /// WebRTC did not answer for ten seconds, for a fault of its own, and was started anew. Chats that were open are
    /// interrupted, or at their end, which is told of each.
    Restarted,
    /// The server could not serve a message of ours, and does not say which.
    ServerError {
        /// One of the protocol's error codes.
        code: String,
        /// The server's words.
        message: String,
    },
}
