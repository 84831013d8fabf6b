//! How a program without a person at it goes on and ends: what it waits for, and why it did not do all that it was to
//! do. Pure.

use std::path::PathBuf;

pub use crate::options::quota::{Accepts, Quota};
use crate::peer::{CloseReason, EndReason};

/// Who types the lines, and how a program without a person at it goes on and ends.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// A person types the lines, so it is no script.
    pub has_person: bool,
    /// What the lines of its input are.
    pub input: InputFormat,
    /// The end of any chat or call is the end of its input too.
    pub ends_with_chat: bool,
    /// What ends it once there are no more commands. Without it, it ends once no text waits and no call or
    /// file is on its way.
    pub until: Option<Until>,
    /// Whose calls are taken without asking.
    pub accepts: Accepts,
    /// Only who has proven to be somebody known may call.
    pub only_known: bool,
    /// Whether old apps are talked to, which cannot prove who they are.
    pub old_apps: OldApps,
    /// What becomes of files that others offer.
    pub takes: Takes,
}

/// What the lines of a program are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InputFormat {
    /// Commands and texts, as they are typed.
    #[default]
    Commands,
    /// Commands as JSON.
    Json,
    /// Texts alone.
    Texts,
}

/// What ends a program that has no more commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Until {
    /// Everything that was sent has arrived
    Delivered,
    /// A chat is open
    Open,
    /// A text has come
    Message,
    /// A chat has ended
    Closed,
    /// A file has come
    File,
}

impl Until {
    /// What is said where what was waited for has not happened.
    fn unmet(self) -> &'static str {
        match self {
            Self::Delivered => "not all that was sent has arrived",
            Self::Open => "no chat has opened",
            Self::Message => "no text has come",
            Self::Closed => "no chat has ended",
            Self::File => "no file has come",
        }
    }
}

/// What becomes of files that others offer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Takes {
    /// Whoever types, or the program that reads, is asked.
    #[default]
    Ask,
    /// Files are refused.
    Nothing,
    /// Files are taken without asking, of those whose calls are.
    All(Destination, Quota),
}

/// Where a file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The folder for files of others.
    Downloads {
        /// Under this name; without it, under its own.
        name: Option<String>,
    },
    /// Another folder.
    Folder {
        /// The path of that folder.
        folder: PathBuf,
        /// Under this name; without it, under its own.
        name: Option<String>,
    },
    /// Standard output.
    Output,
}

/// Whether old apps are talked to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OldApps {
    /// Only if whoever types says so.
    #[default]
    Ask,
    /// Always.
    Take,
    /// Never.
    Refuse,
}

/// Why a script did not do all that it was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptFailure {
    /// Something was not sent, or a command could not be done.
    Lost,
    /// There was no server.
    NoServer,
    /// The other side could not be reached, or did not want to talk.
    Unreached,
    /// The other side was not who it was, or did not prove who it is.
    Untrusted,
}

/// How far a script has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// There is no more input: it ends as soon as what it waits for has happened.
    pub is_finishing: bool,
    pub has_opened: bool,
    pub has_message: bool,
    pub has_closed: bool,
    pub has_file: bool,
    /// Whether something was sent, and all who got it say what has arrived.
    sent: Option<bool>,
    failure: Option<ScriptFailure>,
    /// Why the last call or chat that failed did.
    cause: Option<ScriptFailure>,
}

/// How a script ends.
#[derive(Debug, PartialEq, Eq)]
pub enum ScriptEnd {
    /// What it waits for has happened.
    Reached,
    /// What it waits for cannot happen any more. With what is to be told of that.
    Hopeless(Option<String>),
}

/// What there is still to be done, as far as a script can wait for it.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    /// Texts wait for a chat to open.
    pub has_waiting: bool,
    /// Texts are not known to have arrived.
    pub has_underway: bool,
    /// Files are on their way, or are to be offered or answered.
    pub has_files: bool,
    /// Some of these files are our own.
    pub has_own_files: bool,
    /// Somebody is being called, or is to be.
    pub has_calls: bool,
    /// There is no chat and no call, and none can come.
    pub is_hopeless: bool,
}

impl Progress {
    /// Why not all was done that was to be done; `None` if all was.
    pub fn failure(&self) -> Option<ScriptFailure> {
        self.failure
    }

    /// Notes that something was not done. The first failure is the one that is told.
    pub fn fail(&mut self, failure: ScriptFailure) {
        self.failure.get_or_insert(failure);
    }

    /// A text was handed to the peer, for somebody who says what has arrived (`says_so`) or does not.
    pub fn sent(&mut self, says_so: bool) {
        self.sent = Some(says_so && self.sent != Some(false));
    }

    /// What has become of all that was sent, where nothing has failed.
    pub fn arrival(&self) -> Option<&'static str> {
        match (self.failure, self.sent) {
            (None, Some(true)) => Some("it has arrived"),
            (None, Some(false)) => Some("it was sent; an old app does not say whether it has arrived"),
            _ => None,
        }
    }

    /// A call or a chat has ended, and this is why it failed, if it did.
    pub fn ended(&mut self, cause: Option<ScriptFailure>) {
        self.cause = cause.or(self.cause);
    }

    /// How the script ends, if its end has come.
    pub fn end(&mut self, until: Option<Until>, left: Left) -> Option<ScriptEnd> {
        if self.is_reached(until, left) {
            return Some(ScriptEnd::Reached);
        }
        if !left.is_hopeless || left.has_waiting || left.has_files {
            return None;
        }
        // Where no call has come to a chat, that was said of each, and says it all.
        let is_told = self.cause.is_some() && !self.has_opened;
        self.fail(self.cause.unwrap_or(ScriptFailure::Lost));
        let words = until.filter(|_| !is_told).map(Until::unmet);
        Some(ScriptEnd::Hopeless(
            words.map(|words| format!("{words}, and now none can: no chat is open or on its way")),
        ))
    }

    /// The end has come by force: returns what is to be told, if that was not what the script waits for.
    pub fn give_up(&mut self, until: Option<Until>, left: Left) -> Option<String> {
        // What is underway comes back as not confirmed, and is told as that.
        let is_told_by_itself = |until| until == Until::Delivered && left.has_underway;
        let until = until.filter(|until| !is_told_by_itself(*until) && !self.is_reached(Some(*until), left))?;
        self.fail(self.cause.unwrap_or(ScriptFailure::Lost));
        Some(format!("{} before the end", until.unmet()))
    }

    /// Whether all was done, and what the script waits for beside that has happened.
    fn is_reached(&self, until: Option<Until>, left: Left) -> bool {
        let has_happened = match until {
            // Who was called is called, also where there is nothing to say to them.
            None => !left.has_calls && !left.has_files,
            Some(Until::Delivered) => !left.has_calls && !left.has_files && !left.has_underway,
            Some(Until::Open) => self.has_opened,
            Some(Until::Message) => self.has_message,
            Some(Until::Closed) => self.has_closed,
            // One that could not come was waited for, too.
            Some(Until::File) => self.has_file,
        };
        has_happened && !left.has_waiting && !left.has_own_files
    }
}

/// What it means for a script that a file has ended like this.
pub fn file_cause(reason: EndReason) -> ScriptFailure {
    match reason {
        EndReason::Declined
        | EndReason::NotAccepting
        | EndReason::TooLarge
        | EndReason::TooMany
        | EndReason::NoSpace
        | EndReason::Expired
        | EndReason::NotOpen
        | EndReason::Unsupported => ScriptFailure::Unreached,
        _ => ScriptFailure::Lost,
    }
}

/// What it means for a script that a chat has ended like this; nothing where it has ended well.
pub fn cause(reason: &CloseReason) -> Option<ScriptFailure> {
    match reason {
        CloseReason::Left | CloseReason::PeerLeft | CloseReason::Replaced => None,
        CloseReason::ServerLost => Some(ScriptFailure::NoServer),
        CloseReason::IdentityChanged { .. }
        | CloseReason::NotProven
        | CloseReason::NotRecognized
        | CloseReason::Unproven
        | CloseReason::KeyChanged
        | CloseReason::BadKey => Some(ScriptFailure::Untrusted),
        CloseReason::Unreadable | CloseReason::Exhausted | CloseReason::RulesBroken { .. } => Some(ScriptFailure::Lost),
        _ => Some(ScriptFailure::Unreached),
    }
}
