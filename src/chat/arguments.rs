//! The command line of `lowkey`.

use std::path::{Path, PathBuf};

use clap::{Parser, ValueHint};

use super::callee::{self, Callee, NO_ADDRESS};
use super::harmless;
use super::identity::IdentityTask;
use super::script::{Accepts, Destination, InputFormat, OldApps, Script, Takes, Until};
use crate::options::quota::QuotaOptions;
use crate::options::{ChatOptions, PeerOptions};

/// Private chat from peer to peer, in a terminal.
///
/// On the first start it asks for a username and keeps it. Type /help for what can be typed then. Without a terminal it
/// reads lines from standard input, writes messages to standard output, and everything else to standard error.
#[derive(Debug, Parser)]
#[command(name = "lowkey", version, max_term_width = 100, subcommand_precedence_over_arg = true)]
#[command(after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    pub peer: PeerOptions,
    #[command(flatten)]
    pub chat: ChatOptions,
    /// Speak JSON: an object a line, events to standard output and commands from standard input
    #[arg(long, global = true)]
    pub json: bool,
    /// Run this command, or send this text, instead of reading standard input; may be repeated
    #[arg(short = 'e', long = "execute", value_name = "LINE")]
    pub execute: Vec<String>,
    /// End when this has happened and there is nothing more to read
    #[arg(long, value_enum, global = true)]
    pub until: Option<Until>,
    /// Give up after so many seconds, with exit code 6
    #[arg(long, value_name = "SECONDS", global = true)]
    pub timeout: Option<u64>,
    /// Print your link, and the same as a QR code for whoever stands beside you, and end
    #[arg(long)]
    pub qr: bool,
    /// Call this user at once, by name or by a link, which names the server too
    #[arg(value_name = "PEER", value_parser = callee_of)]
    pub call: Option<Callee>,
    #[command(subcommand)]
    pub task: Option<Task>,
}

/// What to do other than to chat.
#[derive(Debug, clap::Subcommand)]
pub enum Task {
    /// Send a text or files, and end when all has arrived
    Send {
        /// Send each line of standard input as a text, as soon as it comes: none is a command. It ends with the input,
        /// or with the chat
        #[arg(short, long)]
        follow: bool,
        /// Send this file; may be repeated. With - it is standard input, and --as says its name. Where the other side
        /// has a part of it already, it goes on from there
        #[arg(long, value_name = "PATH", conflicts_with = "follow")]
        file: Vec<PathBuf>,
        /// What the file is called for the other side
        #[arg(long = "as", id = "file_name", value_name = "NAME", requires = "file")]
        file_name: Option<String>,
        /// To this user, by name or by a link
        #[arg(value_parser = callee_of)]
        peer: Callee,
        /// The text; without it and without a file, all of standard input
        #[arg(conflicts_with = "follow")]
        text: Vec<String>,
    },
    /// Take calls without asking, print what comes, and do what is read
    Listen {
        /// Only take calls of this user; may be repeated
        #[arg(long, value_name = "PEER", value_parser = peer_name)]
        from: Vec<String>,
        /// Only take calls of those who were seen before, and of those that --from names
        #[arg(long)]
        from_known: bool,
        /// Take calls of everybody, as without any of these; of files it has to be said
        #[arg(long, conflicts_with_all = ["from", "from_known"])]
        from_anybody: bool,
        /// Take files without asking, into this folder. With - one file goes to standard output, and all else to
        /// standard error; it ends when that file is whole. It wants --from, --from-known or --from-anybody
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        accept_files: Option<PathBuf>,
        #[command(flatten)]
        quota: QuotaOptions,
    },
    /// Show your name, its long-term key, where that is kept, and your link
    #[command(disable_help_subcommand = true)]
    Identity {
        /// What is to be done with it instead
        #[command(subcommand)]
        task: Option<IdentityTask>,
    },
}

/// Whether standard input or output is meant.
pub fn is_dash(path: &Path) -> bool {
    path == Path::new("-")
}

/// A name as it is printed, so that a script can hand it on.
fn peer_name(word: &str) -> Result<String, &'static str> {
    harmless::read_name(word).ok_or(NO_NAME)
}

/// A name in the same form, or a link.
fn callee_of(word: &str) -> Result<Callee, &'static str> {
    match callee::is_address(word) {
        true => Err(NO_ADDRESS),
        false => Callee::read(word).ok_or(NO_NAME),
    }
}

impl Arguments {
    /// Whether a program runs it and no person, whatever it runs on.
    pub fn is_script(&self) -> bool {
        self.json || self.task.is_some() || !self.execute.is_empty() || self.until.is_some()
    }

    /// Who is called at once.
    pub fn called(&self) -> Option<&Callee> {
        match &self.task {
            Some(Task::Send { peer, .. }) => Some(peer),
            _ => self.call.as_ref(),
        }
    }

    /// What becomes of files that others offer.
    pub fn takes(&self) -> Takes {
        match &self.task {
            Some(Task::Listen { accept_files: Some(place), quota, .. }) => {
                let place = if is_dash(place) {
                    Destination::Output
                } else {
                    Destination::Folder { folder: place.clone(), name: None }
                };
                Takes::All(place, quota.quota())
            }
            // A program that speaks JSON is asked as a person is.
            Some(Task::Listen { .. }) if self.json => Takes::Ask,
            Some(Task::Listen { .. } | Task::Send { .. }) => Takes::Nothing,
            _ => Takes::Ask,
        }
    }

    /// Whether one file is to come on standard output.
    pub fn is_for_one_file(&self) -> bool {
        matches!(self.takes(), Takes::All(Destination::Output, _))
    }

    /// Checks words that may contradict each other, where each by itself is right.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self) -> Result<(), &'static str> {
        match &self.task {
            Some(Task::Listen { from, from_known: false, from_anybody: false, accept_files: Some(_), .. })
                if from.is_empty() =>
            {
                Err("--accept-files wants to know whose: say --from NAME, --from-known or --from-anybody")
            }
            Some(Task::Listen { .. }) if self.json && self.is_for_one_file() => {
                Err("--json and --accept-files - both want standard output: give --accept-files a folder")
            }
            Some(Task::Send { file, file_name, .. }) => match (file.len(), file_name) {
                (2.., Some(_)) => Err("--as names one file, and there are several"),
                (_, None) if file.iter().any(|file| is_dash(file)) => {
                    Err("what comes from standard input has no name: give it one with --as, as in --file - --as x.tar")
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// How the program goes on and ends.
    pub fn script(&self, has_person: bool) -> Script {
        let is_sending = matches!(self.task, Some(Task::Send { .. }));
        Script {
            has_person,
            input: match is_sending {
                true => InputFormat::Texts,
                false if self.json => InputFormat::Json,
                false => InputFormat::Commands,
            },
            ends_with_chat: matches!(self.task, Some(Task::Send { follow: true, .. })),
            until: match self.until {
                None if is_sending => Some(Until::Delivered),
                None if self.is_for_one_file() => Some(Until::File),
                until => until,
            },
            accepts: match &self.task {
                Some(Task::Listen { from, from_known: false, .. }) if from.is_empty() => Accepts::All,
                Some(Task::Listen { from, from_known, .. }) => {
                    Accepts::Only { names: from.clone(), with_known: *from_known }
                }
                _ => Accepts::None,
            },
            only_known: self.chat.only_known,
            takes: self.takes(),
            old_apps: match &self.task {
                _ if self.chat.old_apps => OldApps::Take,
                Some(Task::Send { .. } | Task::Listen { .. }) => OldApps::Refuse,
                _ => OldApps::Ask,
            },
        }
    }
}

/// What is said of a word that is no name.
const NO_NAME: &str = "a name in quotes is as it was shown, such as \"a%20b\"";

/// What exit codes mean.
const EXIT_CODES: &str = "\
Exit codes:
  0  all done
  1  something was not sent, may not have arrived, or could not be done; or standard output takes no more
  2  a wrong option or setting
  3  no server, or none that lets you in
  4  the other side could not be reached, or did not want to talk or to have the file
  5  the other side is not who it was, or did not prove who it is
  6  --timeout is over";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Subcommand};

    use super::*;
    use crate::options;

    #[test]
    fn no_name_that_was_shown_is_a_command_on_the_command_line() {
        let command = options::manual::About::augment_subcommands(Arguments::command());
        let tasks: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert!(tasks.contains(&"listen") && tasks.contains(&"config"), "{tasks:?}");
        assert!(tasks.iter().all(|task| harmless::name(task).starts_with('"')), "{tasks:?}");
    }
}
