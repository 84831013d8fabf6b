//! What a user can ask for: a typed line, or the same as JSON, to a [`Command`]. Beneath: [`typed`] reads a line,
//! [`usage`] is the table of all commands as they are typed, and [`complete`] what the Tab key adds to one. Pure.

pub mod complete;
mod typed;
pub mod usage;

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::callee::Callee;

/// What a line asks for. As JSON it is an object whose `command` is the name in lower case and whose other members are
/// the fields here, as in `{"command":"send","peer":"bob","text":"hello"}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Send a text.
    Send {
        /// To this peer; without it, to the peer of the current chat.
        peer: Option<String>,
        text: String,
        /// What the script calls it: `delivered` and `not_sent` say it again.
        id: Option<String>,
    },
    /// Call a peer, or turn to the chat that is open with it.
    Connect {
        /// Its name or its link.
        peer: Callee,
    },
    /// Take a request; without a name and a number, the only one.
    Accept {
        peer: Option<String>,
        /// Which: the number that it was told with. It goes before the name.
        number: Option<u64>,
    },
    /// Turn a request down; without a name and a number, the only one. Who was refused is told so.
    Decline {
        peer: Option<String>,
        /// Which: the number that it was told with. It goes before the name.
        number: Option<u64>,
    },
    /// Lines go to this peer from now on.
    To { peer: String },
    /// Send what is kept for this peer; without a name, for the current one.
    Retry { peer: Option<String> },
    /// End the chat or call with this peer; without a name, the current one.
    Leave { peer: Option<String> },
    /// Offer files to the peer of the current chat.
    #[serde(skip)]
    OfferFiles {
        /// As they were typed.
        paths: String,
    },
    /// Offer a file.
    OfferFile {
        /// To this peer; without it, to the peer of the current chat.
        peer: Option<String>,
        /// Where it is.
        path: PathBuf,
        /// What it is called for the other side.
        #[serde(rename = "as")]
        name: Option<String>,
        /// What the script calls it: all that is told of this file says it again.
        id: Option<String>,
    },
    /// Offer what comes from standard input to the peer of the current chat.
    #[serde(skip)]
    OfferInput {
        /// What it is called for the other side.
        name: String,
    },
    /// Take a file that is offered; without `file`, `number` and `all`, the only one.
    TakeFile {
        /// Who offers it.
        peer: Option<String>,
        /// Which, by what it was offered as.
        file: Option<String>,
        /// Which, by the number that it was told with.
        number: Option<u64>,
        /// All that are offered.
        #[serde(default)]
        all: bool,
        /// Where it is to be; where something is there, a number is put behind its name.
        path: Option<PathBuf>,
        /// The folder where it is to be, by its own name; without both, the one for files of others.
        folder: Option<PathBuf>,
        /// What it is to be called in the folder for files of others.
        #[serde(skip)]
        name: Option<String>,
    },
    /// Turn down a file that is offered.
    RefuseFile {
        /// Who offers it.
        peer: Option<String>,
        /// Which, by what it was offered as.
        file: Option<String>,
        /// Which, by the number that it was told with.
        number: Option<u64>,
        /// All that are offered.
        #[serde(default)]
        all: bool,
    },
    /// End a file that is offered, waits or is on its way, in either direction.
    CancelFile {
        /// To whom or from whom.
        peer: Option<String>,
        /// Which, by what it was offered as.
        file: Option<String>,
        /// Which, by the number that it was told with.
        number: Option<u64>,
    },
    /// Say which files are offered, on their way and done.
    #[serde(deserialize_with = "nothing_more")]
    Files,
    /// Say with whom there are chats, and who is calling.
    #[serde(deserialize_with = "nothing_more")]
    Who,
    /// Show the safety number with a peer; without a name, of the current chat.
    Verify { peer: Option<String> },
    /// The safety number was compared: the peer is verified.
    Verified {
        /// Who; without a name, the peer of the current chat.
        peer: Option<String>,
        /// The number that was compared.
        number: String,
    },
    /// The safety number that was shown was compared: the peer is verified.
    #[serde(skip)]
    Compared {
        /// Who; without a name, the one whose number was shown last.
        peer: Option<String>,
    },
    /// The peer is not verified any more.
    Unverify {
        /// Who; without a name, the peer of the current chat.
        peer: Option<String>,
    },
    /// Take the new identity of a peer who was refused.
    Trust {
        peer: String,
        /// The safety number as it was typed in.
        number: String,
    },
    /// Say who was seen before, and who is in a chat now.
    #[serde(deserialize_with = "nothing_more")]
    Peers,
    /// Call a peer by another name, for oneself; without any, say which there are.
    #[serde(skip)]
    Alias {
        /// The other name, and whose it is.
        names: Option<(String, String)>,
    },
    /// Do so no longer.
    #[serde(skip)]
    Unalias {
        /// The other name.
        alias: String,
    },
    /// Forget a peer.
    Forget { peer: String },
    /// Let nobody of this name call; without a name, say who is blocked.
    Block { peer: Option<String> },
    /// Let them call again.
    Unblock { peer: String },
    /// Show the user's own link.
    #[serde(deserialize_with = "nothing_more")]
    Link,
    /// Seek the server again, if it was given up: since another program went online under the name, for instance.
    #[serde(deserialize_with = "nothing_more")]
    Online,
    /// Go online under another name, until the end of the program.
    Nick { name: String },
    /// Keep a log of the texts, or keep none any more; without either, show its last ones.
    Log {
        /// With whom; without a name, with everybody, or the last texts of the current chat.
        peer: Option<String>,
        /// Whether to keep it from now on.
        #[serde(rename = "on")]
        is_on: Option<bool>,
    },
    /// Change a setting of the screen for as long as the program runs; without a value, say what it is.
    Set {
        /// Which; all without it.
        name: Option<String>,
        /// Its new value.
        value: Option<String>,
    },
    /// Say what can be typed.
    Help {
        /// The command to explain; all without it.
        about: Option<String>,
    },
    /// End the program.
    #[serde(deserialize_with = "nothing_more")]
    Quit,
    /// Several lines that were pasted at once.
    #[serde(skip)]
    Paste(String),
    /// Something that begins with a slash but is no command, or one with too few or too many words. It is never sent as
    /// text; this says what is wrong.
    #[serde(skip)]
    Mistake(String),
    /// A mistake in a command to which a script has given a name.
    #[serde(skip)]
    Misread {
        /// What is wrong.
        reason: String,
        /// The script's name for it.
        id: String,
    },
}

impl Command {
    /// A text for the peer of the current chat.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Send { peer: None, text: text.into(), id: None }
    }

    /// Whom it names.
    pub fn peer_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Connect { peer: Callee::Link(_) } => None,
            Self::Connect { peer: Callee::Name(peer) } | Self::To { peer } | Self::Trust { peer, .. } => Some(peer),
            Self::Forget { peer } | Self::Unblock { peer } => Some(peer),
            Self::Send { peer, .. } | Self::Accept { peer, .. } | Self::Decline { peer, .. } => peer.as_mut(),
            Self::Retry { peer } | Self::Leave { peer } | Self::Block { peer } => peer.as_mut(),
            Self::Verify { peer } | Self::Verified { peer, .. } | Self::Compared { peer } => peer.as_mut(),
            Self::Unverify { peer } | Self::Log { peer, .. } => peer.as_mut(),
            Self::Who | Self::Peers | Self::Alias { .. } | Self::Unalias { .. } | Self::Link | Self::Set { .. } => None,
            Self::OfferFile { peer, .. } | Self::TakeFile { peer, .. } => peer.as_mut(),
            Self::RefuseFile { peer, .. } | Self::CancelFile { peer, .. } => peer.as_mut(),
            Self::OfferFiles { .. } | Self::OfferInput { .. } | Self::Files | Self::Online | Self::Nick { .. } => None,
            Self::Help { .. } | Self::Quit | Self::Paste(_) | Self::Mistake(_) | Self::Misread { .. } => None,
        }
    }
}

/// Reads a command that has no fields, and refuses others: by itself serde takes them there.
fn nothing_more<'de, D: Deserializer<'de>>(members: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    Nothing::deserialize(members).map(drop)
}
