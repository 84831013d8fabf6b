//! What goes into the engine and comes out of it, and what all of its rooms are given: the [`Round`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::cipher::{Exhausted, TextFormat};
use super::super::event::{CloseReason, Event};
use super::super::files::lane::FileKeys;
use super::super::files::note::{EndReason, FileId};
use super::super::files::work::{News, OfferedFile, Work};
use super::super::ice::IceServer;
use super::super::keys::KeyPair;
use super::super::trust::Known;
use crate::protocol::{self, Candidate, MessageType, Sealed};

/// One WebRTC peer connection. Never used again for another, so what is still told of an old one has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerConnectionId(pub u64);

/// Everything that can happen to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The user calls a peer.
    Call {
        /// The peer's name.
        peer: String,
    },
    /// The user takes a peer's request, or the chat with an old app that was called.
    Accept {
        /// The peer's name.
        peer: String,
    },
    /// The user turns a peer's request down.
    Decline {
        /// The peer's name.
        peer: String,
    },
    /// The user wants to hear nothing of a peer's request, and its caller nothing of that.
    Ignore {
        /// The peer's name.
        peer: String,
    },
    /// The user sends a text.
    Send {
        /// The peer's name.
        peer: String,
        /// The number that events have for it.
        id: u64,
        /// The text, as the user wrote it.
        text: String,
    },
    /// The user says who a peer is; `None` forgets it.
    Trust {
        /// The peer's name.
        peer: String,
        /// What is known of it.
        known: Option<Known>,
    },
    /// The user ends a chat, or a call that is not open yet.
    Leave {
        /// The peer's name.
        peer: String,
    },
    /// The user offers a file.
    OfferFile {
        /// The peer's name.
        peer: String,
        /// What is known of it before its first byte.
        offered: OfferedFile,
    },
    /// The user takes a file that is offered.
    TakeFile {
        /// The peer's name.
        peer: String,
        /// The file's id.
        file: FileId,
        /// Whether what comes of it is kept where it does not come to its end.
        is_kept: bool,
    },
    /// The user refuses a file, or ends one that is on its way.
    EndFile {
        /// The peer's name.
        peer: String,
        /// The file's id.
        file: FileId,
        /// Why it ends.
        reason: EndReason,
    },
    /// The disk tells something of what an [`Output::File`] has asked for.
    File {
        /// The peer's name.
        peer: String,
        /// The file's id.
        file: FileId,
        /// The number of the take that asked for it.
        take: u64,
        /// What has become of it.
        news: News,
    },
    /// The server sent a text message.
    Signal(String),
    /// The server has taken us online.
    Online,
    /// The server is out of reach.
    Offline,
    /// WebRTC has made our description of a peer connection, which is an offer or an answer as was asked.
    Described {
        /// The peer connection.
        id: PeerConnectionId,
        /// The description as SDP.
        sdp: String,
    },
    /// WebRTC has found a candidate of ours.
    Candidate {
        /// The peer connection.
        id: PeerConnectionId,
        /// The candidate.
        candidate: Candidate,
    },
    /// WebRTC has found a way to the other side, on which the peer connection is to open.
    WayFound {
        /// The peer connection.
        id: PeerConnectionId,
    },
    /// Long texts do not arrive over a peer connection that lives.
    Stalled {
        /// The peer connection.
        id: PeerConnectionId,
    },
    /// The data channel is open.
    Opened {
        /// The peer connection.
        id: PeerConnectionId,
    },
    /// A message came over the data channel.
    Received {
        /// The peer connection.
        id: PeerConnectionId,
        /// A text message; `None` for a binary one, which is none of the protocol's.
        text: Option<String>,
    },
    /// The peer connection has ended, by our doing or not.
    Closed {
        /// The peer connection.
        id: PeerConnectionId,
        /// How it ended.
        reason: CloseReason,
    },
    /// The user's program has taken a text, and all that came before it in the same chat.
    Taken(Receipt),
    /// The user's program ends: all chats are left.
    End,
    /// The user's program can take no more. All chats end on this side; to the others they are interrupted, and what
    /// was not taken waits there for a program that can.
    Stop,
    /// Time has passed.
    Tick,
}

/// Everything that a peer can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this text message to the server.
    Signal(String),
    /// Use these STUN and TURN servers, which the server names, for the peer connections to come.
    UseServers(Vec<IceServer>),
    /// The peer connection that is opened next goes a way that passes only short datagrams.
    Narrow {
        /// The new peer connection.
        id: PeerConnectionId,
    },
    /// Open a peer connection with a data channel and describe it as an offer.
    Offer {
        /// The new peer connection.
        id: PeerConnectionId,
    },
    /// Open a peer connection for the peer's offer and describe it as an answer.
    Answer {
        /// The new peer connection.
        id: PeerConnectionId,
        /// The offer.
        sdp: String,
    },
    /// Give the peer connection the peer's answer.
    Finish {
        /// The peer connection that was offered.
        id: PeerConnectionId,
        /// The answer.
        sdp: String,
    },
    /// Give the peer connection a candidate of the peer.
    AddCandidate {
        /// The peer connection, which has the peer's description.
        id: PeerConnectionId,
        /// The candidate.
        candidate: Candidate,
    },
    /// Send a text message over the data channel.
    Transmit {
        /// The peer connection.
        id: PeerConnectionId,
        /// The sealed text.
        text: String,
        /// Whether the text is kept in the engine until it is acknowledged, so that
        /// [`kept_bytes`](super::Engine::kept_bytes) counts it.
        is_kept: bool,
    },
    /// Have the disk do something about a file.
    File {
        /// The peer's name.
        peer: String,
        /// The file's id.
        file: FileId,
        /// The peer connection that it goes over, and the keys for that; `None` where nothing is to go.
        connection: Option<(PeerConnectionId, FileKeys)>,
        /// What is to be done.
        work: Work,
    },
    /// End the peer connection.
    Close {
        /// The peer connection.
        id: PeerConnectionId,
        /// What it waits for before.
        ending: PeerConnectionEnd,
    },
    /// Tell the user of a text.
    Message {
        /// The sender's name.
        peer: String,
        /// The text, as it was sent.
        text: String,
        /// What to hand back in [`Input::Taken`]; `None` where nobody waits for it.
        receipt: Option<Receipt>,
    },
    /// Tell the user.
    Event(Event),
}

/// When a peer connection ends that is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerConnectionEnd {
    /// Now, whatever is on its way.
    AtOnce,
    /// Once all that was sent has arrived, and a moment later: of an old app it is not known whether it closes too.
    WhenSent,
    /// Once the other side has read all, and closes in its turn.
    WhenClosedByPeer,
    /// Once all that was sent has arrived. The other side has left too, and does not close in its turn.
    WhenArrived,
}

/// Names a text that came, so that it can be acknowledged once the user's program has taken it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The sender's name.
    pub peer: String,
    /// The number of the chat, since one may follow another.
    pub chat: u64,
    /// The number of the text in that chat.
    pub number: u64,
}

/// How a peer behaves, and who it is.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Setup {
    /// How texts are sent at first to old apps.
    pub text_format: TextFormat,
    /// How many requests of strangers may wait for an answer at once, and as many of known peers.
    pub max_requests: usize,
    /// The long-term key pair.
    pub identity: KeyPair,
    /// The peers that were seen before, by name.
    pub known: HashMap<String, Known>,
    /// Whether peers are refused that cannot prove who they are, and chats end where the key changes in mid-chat.
    pub is_strict: bool,
    /// How long the peer connection of an interrupted chat is sought.
    pub resume_for: Duration,
    /// Whether the user is told of files that are offered. Otherwise each is refused.
    pub takes_files: bool,
    /// Whether a peer may be on this very machine, and its candidates loopback addresses.
    pub with_loopback: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            text_format: TextFormat::V1,
            max_requests: 3,
            identity: KeyPair::generate(),
            known: HashMap::new(),
            is_strict: false,
            resume_for: Duration::from_secs(24 * 60 * 60),
            takes_files: false,
            with_loopback: false,
        }
    }
}

/// What the handling of one input is given, and gathers: when it is, who we are, and what comes of it.
pub(super) struct Round<'a> {
    pub(super) now: Instant,
    /// Our own name.
    pub(super) username: &'a str,
    pub(super) setup: &'a mut Setup,
    /// All that is to be done, in order.
    pub(super) out: Vec<Output>,
}

impl Round<'_> {
    /// Tells the user.
    pub(super) fn tell(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    /// Says something to somebody by way of the server.
    pub(super) fn signal(&mut self, kind: MessageType, target: &str, payload: Option<&impl Serialize>) {
        self.out.push(Output::Signal(protocol::message(kind, Some(target), payload)));
    }

    /// Says no to an old app, which needs no reason.
    pub(super) fn decline(&mut self, target: &str) {
        self.signal(MessageType::SessionDecline, target, None::<&()>);
    }

    /// Says something sealed by way of the server. What can be sealed no more is not said.
    pub(super) fn sealed(&mut self, kind: MessageType, target: &str, sealed: Result<String, Exhausted>) {
        if let Ok(sealed) = sealed {
            self.signal(kind, target, Some(&Sealed { sealed }));
        }
    }
}
