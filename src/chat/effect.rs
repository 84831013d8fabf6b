//! What is to be done after a command or an event, and the few lines that several rooms tell. Pure: the
//! [`main_loop`](super::main_loop) does it.

use std::path::PathBuf;

use super::report::Report;
use super::screen;
use super::script::{Destination, Quota};
use crate::peer::{ComingFile, EndReason, FileId, PublicKey};
use crate::profile::Username;
use crate::profile::known_peers::KnownPeer;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Call this peer.
    Call(String),
    /// Take its request.
    Accept(String),
    /// Turn its request down.
    Decline(String),
    /// Leave its request unanswered, as if nobody were there.
    Ignore(String),
    /// Send a text, and say with [`Conversation::sent`](super::conversation::Conversation::sent) what number it got.
    Send {
        /// To this peer.
        peer: String,
        text: Text,
    },
    /// Find out which files were typed, and offer them with
    /// [`Conversation::offer`](super::conversation::Conversation::offer).
    FindFiles {
        /// To this peer.
        peer: String,
        /// Their paths, as they were typed.
        typed: String,
    },
    /// Offer a file, and say with [`Conversation::offered`](super::conversation::Conversation::offered) as what, or
    /// with [`Conversation::not_opened`](super::conversation::Conversation::not_opened) why not.
    OfferFile {
        /// To this peer.
        peer: String,
        file: OwnFile,
    },
    /// See whether a part of a file that is offered has come before, and say so with
    /// [`Conversation::told_of_part`](super::conversation::Conversation::told_of_part).
    SeekPart {
        /// By whom it is offered.
        peer: String,
        file: FileId,
        /// The peer's identity.
        identity: PublicKey,
        /// The file's length, where it is known.
        size: Option<u64>,
        /// When it was changed last, in seconds since 1970.
        modified: Option<u64>,
    },
    /// Take a file, or say with
    /// [`Conversation::not_taken`](super::conversation::Conversation::not_taken) why not.
    TakeFile {
        /// From this peer.
        peer: String,
        file: FileId,
        /// Its length, where it is known.
        size: Option<u64>,
        /// Whether it is a folder.
        is_folder: bool,
        /// Where it is to go.
        place: Destination,
        /// How much may come; without it, whatever does.
        quota: Option<Quota>,
        /// What others are coming.
        coming: Vec<ComingFile>,
    },
    /// Say no to a file that is offered.
    RefuseFile {
        /// By this peer.
        peer: String,
        file: FileId,
        reason: EndReason,
    },
    /// End a file that is offered or on its way.
    CancelFile {
        /// To or from this peer.
        peer: String,
        file: FileId,
    },
    /// End the chat or call with this peer.
    Leave(String),
    /// Take nobody else than this one as `peer`, as long as the program runs; or whoever comes.
    Pin {
        peer: String,
        /// Who it is.
        known: Option<KnownPeer>,
    },
    /// Remember who a peer is, for this program and the next.
    Remember {
        peer: String,
        /// Who it is.
        known: KnownPeer,
        /// The user wants it so, even where another program has seen somebody else under that name.
        replaces: bool,
    },
    /// Forget who it was.
    Forget(String),
    /// Remember that a peer may not call, or may again.
    Block {
        peer: String,
        /// Whether it may not.
        is_blocked: bool,
    },
    /// Remember what the user calls a peer; or, without one, that nobody is called so.
    Alias {
        /// The user's name for it.
        alias: String,
        /// Its own name.
        peer: Option<String>,
    },
    /// Seek the server again.
    GoOnline,
    /// Go online under another name, once the chats have ended.
    Rename(Username),
    /// Switch the log of texts, or show its last ones.
    Log {
        /// With whom; with everybody without it.
        peer: Option<String>,
        /// Whether it is kept from now on; without it, it is shown.
        is_on: Option<bool>,
    },
    /// Change a setting of the screen, or show it.
    Set {
        /// Which; all without it.
        name: Option<String>,
        /// Its new value.
        value: Option<String>,
    },
    /// Tell something.
    Show(Report),
    /// Tell it to programs alone: people have heard of many like it.
    Record(Report),
    /// End the program.
    Quit,
}

/// A text of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The text itself.
    pub text: String,
    /// What the user calls it.
    pub id: Option<String>,
}

/// A file of the user's that is to be offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFile {
    /// Where its bytes come from.
    pub source: FileSource,
    /// What it is called for the other side; by default as on the disk.
    pub name: Option<String>,
    /// What the user calls it.
    pub id: Option<String>,
}

/// Where the bytes of a file come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// A file on the disk.
    Path(PathBuf),
    /// Standard input.
    Input,
}

impl OwnFile {
    /// The file as its user named it, for people.
    pub fn path(&self) -> String {
        match &self.source {
            FileSource::Path(path) => path.display().to_string(),
            FileSource::Input => "standard input".to_owned(),
        }
    }
}

/// A line of the program's own.
pub fn notice(text: &str) -> Effect {
    Effect::Show(Report::Notice(text.to_owned()))
}

/// Why a command was not done.
pub fn mistake(text: &str) -> Effect {
    Effect::Show(Report::Mistake(text.to_owned()))
}

/// So many texts, in words.
pub fn texts(count: usize) -> String {
    if count == 1 { "one text".to_owned() } else { format!("{count} texts") }
}

/// Texts that were kept to be sent later, and never will be.
pub fn lost(count: usize, peer: &str) -> Effect {
    notice(&format!("{} for {}: not sent, and not kept any longer", texts(count), screen::name(peer)))
}

pub fn calling(peer: &str, is_waiting: bool) -> Effect {
    Effect::Show(Report::Calling { peer: peer.to_owned(), is_waiting })
}

pub fn lines_go_to(peer: &str) -> Effect {
    notice(&format!("you are writing to {} now", screen::name(peer)))
}

/// What is said to who has gone online in the place of a program of their own.
pub const TOOK_OVER: &str = "another program of yours was online under this name, and is not any more: a name is \
                             online once, and this program has it now";

/// What is said where WebRTC had to be started anew.
pub const RESTARTED: &str = "WebRTC did not answer for ten seconds, by a fault of its own, and was started anew";
