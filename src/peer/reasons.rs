//! Why something has ended, or did not come about. Each `Display` is a sentence for people, without a full stop.

use std::fmt;

use super::ice::NoRelay;
use super::keys::PublicKey;
use super::trust::Known;
use super::unfit::Unfit;
use crate::escape::quoted;
use crate::protocol::ErrorCode;

/// Why the server is out of reach.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OfflineReason {
    /// Somebody else is online under the name, or holds it.
    NameTaken,
    /// The server is private, and does not know the access token.
    AccessToken,
    /// Another program has gone online under the name.
    Replaced,
    /// Another reason.
    Other {
        /// What went wrong, and what is to be done, in words for people.
        message: String,
    },
}

impl fmt::Display for OfflineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameTaken => "the name is taken by somebody else",
            Self::AccessToken => "the server is private, and does not know the access token; ask who runs it for one",
            Self::Replaced => "another program, perhaps of yours, has gone online under this name",
            Self::Other { message } => message,
        })
    }
}

impl std::error::Error for OfflineReason {}

impl From<String> for OfflineReason {
    fn from(message: String) -> Self {
        Self::Other { message }
    }
}

/// Why a text could not be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSentReason {
    /// There is no open chat with that peer.
    NotOpen,
    /// It was on its way when the chat ended; it may have arrived.
    Unconfirmed,
    /// So much is waiting to be sent already that there is no room for more.
    Busy,
    /// It is longer than the other side takes.
    TooLong {
        /// The longest text that it takes, in bytes of UTF-8.
        max_bytes: usize,
    },
}

/// Why a chat has ended, or did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// We left.
    Left,
    /// The other side left.
    PeerLeft,
    /// A new chat with the same peer takes its place.
    Replaced,
    /// The peer connection was lost.
    ConnectionLost,
    /// The other side is not online.
    NotOnline,
    /// The other side does not want to talk.
    Declined,
    /// The other side did not answer within a minute: nobody is there, or does not want to talk.
    NoAnswer,
    /// Somebody who is known did not answer within a minute, though a program is there under their name: they may be
    /// away, it may be somebody else's, and they may have another identity, or know us by another.
    NoHello,
    /// The other side knows us by another identity, and refuses this one.
    NotRecognized,
    /// No connection came about, though both sides may be reached from outside.
    NoConnection,
    /// No connection came about: this machine has found no network address of its own to offer.
    NoCandidates,
    /// No connection came about: the other side has told no network address at all.
    PeerHasNoCandidates,
    /// No connection came about: both sides know only the addresses of their own networks.
    LocalOnly,
    /// A way to the other side was found, and no connection came about on it.
    NotOpened,
    /// No connection came about: there is a relay on our side, and none on the other.
    PeerHasNoRelay,
    /// Long texts do not arrive, however short the datagrams are that they are sent in.
    NoLongTexts,
    /// No connection came about, and no TURN server relays.
    NoRelay(NoRelay),
    /// One cannot call oneself.
    Oneself,
    /// The other side's request was over before it was accepted.
    NotCalling,
    /// The server is out of reach.
    ServerLost,
    /// The other side's key is none, of low order, or our own.
    BadKey,
    /// The other side's description of its connection is of no use; it was told so.
    BadDescription(Unfit),
    /// The other side's program could not make a connection of our description.
    NotUnderstood,
    /// The other side's program could make no connection, for lack of something on its own machine.
    PeerHasNoRoom,
    /// The other side is not who it was: it has another identity, or none. Nothing was sent to it.
    IdentityChanged {
        /// Our identity.
        own: PublicKey,
        /// What is known of it.
        known: Box<Known>,
        /// The identity that it shows now, if any.
        identity: Option<PublicKey>,
    },
    /// The other side did not prove that the keys and the connection are its own: somebody on the way has changed them,
    /// or it is not who it says.
    NotProven,
    /// The other side is an old app that cannot prove who it is, and we are strict.
    Unproven,
    /// The other side has changed its key in mid-chat, and we are strict.
    KeyChanged,
    /// Too many texts in a row could not be opened.
    Unreadable,
    /// The chat has had as many texts as one pair of session keys allows.
    Exhausted,
    /// The other side kept sending what no program that keeps to the rules of WebRTC sends.
    RulesBroken {
        /// What it has sent.
        what: &'static str,
    },
    /// A fault of WebRTC on our side, which is no fault of the connection.
    Crashed,
    /// This machine lacks something that a connection needs.
    NotBegun {
        /// What it lacks, and what is to be done, in words for people.
        message: String,
    },
    /// WebRTC failed.
    Failed {
        /// What is to be done, in words for people.
        message: String,
    },
    /// The server refused the call.
    Refused {
        /// One of the protocol's error codes.
        code: String,
        /// The server's words.
        message: String,
    },
}

impl fmt::Display for NotSentReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen => f.write_str("no chat is open"),
            Self::Unconfirmed => f.write_str("it may have arrived or not"),
            Self::Busy => f.write_str("too much is waiting to be sent already"),
            Self::TooLong { max_bytes } => {
                write!(f, "the text is longer than the {max_bytes} bytes that can be sent at once")
            }
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("you left"),
            Self::PeerLeft => f.write_str("the other side left"),
            Self::Replaced => f.write_str("a new chat takes its place"),
            Self::ConnectionLost => f.write_str("the connection was lost"),
            Self::NotOnline => f.write_str("not online"),
            Self::Declined => f.write_str("declined"),
            Self::NoAnswer => f.write_str("no answer: they may be away"),
            Self::NoHello => f.write_str(
                "no answer, though a program is there under that name: they may be away, it may be somebody else's, \
                 or one of you has another identity than before (a new device?)",
            ),
            Self::NotRecognized => {
                f.write_str("they know you by another identity, and refuse this one (a new device?)")
            }
            Self::NoConnection => f.write_str(
                "no connection came about; where NATs or firewalls stand between you, each side needs a TURN server",
            ),
            Self::NoCandidates => f.write_str(
                "no connection came about: this machine has no network address to offer; is it connected to a network?",
            ),
            Self::PeerHasNoCandidates => f.write_str(
                "no connection came about: the other side has told no network address; \
                 is it connected to a network, and does a relay serve it where it wants one?",
            ),
            Self::PeerHasNoRoom => {
                f.write_str("the other side's program has no room for another connection now; call again later")
            }
            Self::LocalOnly => f.write_str(
                "no connection came about: both sides know only the addresses of their own networks; \
                 unless these are one network, each needs a STUN server or a TURN server",
            ),
            Self::NotOpened => f.write_str(
                "a way to the other side was found, but no connection came about on it: \
                 much may be lost on the way; call again",
            ),
            Self::PeerHasNoRelay => f.write_str(
                "no connection came about: a TURN server relays for you, and none for the other side; \
                 theirs may be full or refuse them, or they have to name one",
            ),
            Self::NoLongTexts => f.write_str(
                "long texts do not arrive on the way to the other side, which passes only short datagrams: \
                 what was said last may be lost; call again, and say it in several short texts",
            ),
            Self::NoRelay(reason) => reason.fmt(f),
            Self::Oneself => f.write_str("that is you"),
            Self::NotCalling => f.write_str("no longer calling"),
            Self::ServerLost => f.write_str("the server is out of reach"),
            Self::IdentityChanged { identity: Some(_), .. } => f.write_str("this is not who it was before"),
            Self::IdentityChanged { identity: None, .. } => f.write_str("this does not prove any more who it is"),
            Self::NotProven => f.write_str(
                "the other side could not prove who it is: \
                 somebody on the way, such as the server, may have changed the keys",
            ),
            Self::Unproven => f.write_str("an old app, which cannot prove who it is, is refused"),
            Self::KeyChanged => f.write_str("the other side changed its key in mid-chat, which is refused"),
            Self::BadKey => f.write_str("the other side's key is not fit for use"),
            Self::BadDescription(unfit) => write!(
                f,
                "the other side's program describes its connection in a way that cannot be answered: {unfit}; \
                 one of the two programs may be out of date"
            ),
            Self::NotUnderstood => f.write_str(
                "the other side's program could not make a connection of how this one describes its own; \
                 one of the two programs may be out of date",
            ),
            Self::Unreadable => f.write_str("too many texts in a row could not be decrypted"),
            Self::Exhausted => f.write_str("the keys of this chat are used up; call again for new ones"),
            Self::RulesBroken { what } => {
                write!(f, "the other side's program broke the rules of WebRTC and was cut off: it sent {what}")
            }
            Self::Crashed => f.write_str("WebRTC met with a fault of its own; call again, and tell its maintainers"),
            Self::NotBegun { message } => write!(f, "this machine cannot begin a connection: {message}"),
            Self::Failed { message } => write!(f, "the connection failed: {message}"),
            Self::Refused { code, message } => f.write_str(&refused(code, message)),
        }
    }
}

/// That the server has refused a call.
fn refused(code: &str, message: &str) -> String {
    match code == ErrorCode::RateLimited.name() {
        true => "too many calls at once; call again in a minute".to_owned(),
        false => format!("the server refused: {} ({})", quoted(message), quoted(code)),
    }
}
