//! The main thread of `lowkey`: it serves the mail of all others, and does what the conversation wants. Beneath: the
//! [`end`].

mod end;

use std::cell::{Cell, OnceCell};
use std::io;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::clock::{local, timestamp};
use super::command::Command;
use super::command::usage::SETTINGS;
use super::conversation::Conversation;
use super::display::Display;
use super::downloads::{self, Downloads};
use super::effect::{Effect, OwnFile, notice};
use super::input::Stdin;
use super::json;
use super::leaving::MainPulse;
use super::mail::MainMail;
use super::notify::Notifier;
use super::records::Records;
use super::report::{FileReport, Report};
use super::screen::{self, Look};
use super::words::files;
use crate::options::{self, ON_OR_OFF, config, is_on};
use crate::peer::{Event, Peer};
use crate::profile::transcript::{Logged, TranscriptEntry};
use crate::profile::{Profile, Username};

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Wanted,
    Timeout,
    /// What was to be told could not be written.
    Unwritable,
}

/// What the main thread works with: the state of the conversation, and all that it acts on.
pub struct MainLoop {
    pub conversation: Conversation,
    pub peer: Peer,
    pub display: Display,
    pub records: Records,
    pub look: Look,
    pub bells: Bells,
    /// Whose texts are kept in the log.
    pub logs: Logged,
    pub has_log_failed: Cell<bool>,
    /// The name that the user wants from now on.
    pub renamed: Option<Username>,
    /// The name that was chosen at this start, until the server has taken it.
    pub name_to_keep: Option<Username>,
    /// Commands that came while the chats under the old name ended.
    pub postponed: Vec<MainMail>,
    /// Why standard output takes no more.
    pub unwritable: OnceCell<io::Error>,
    /// Where files of others go.
    pub downloads: Downloads,
    /// Where commands are read, if not at a prompt.
    pub stdin: Stdin,
    /// The user has ended it, and wants nothing else of what was read.
    pub has_quit: bool,
    /// How the program has ended before the end of all chats was there: at a signal, say, or at once as the user wants
    /// it. That is waited for no longer.
    pub cut_short: Option<Ending>,
    /// Shows other threads that the main thread goes on.
    pub pulse: MainPulse,
}

impl MainLoop {
    pub fn serve(&mut self, mailbox: &Receiver<MainMail>) -> Ending {
        let mut held = None;
        self.update_prompt();
        for mail in mailbox {
            self.pulse.beat();
            let is_command = matches!(mail, MainMail::Command(..));
            let asks_to_quit = matches!(mail, MainMail::Command(Command::Quit, _));
            let mut served = None;
            let mut receipt = None;
            let effects = match mail {
                MainMail::Command(command, taken) => {
                    held = taken;
                    if let Display::Teletype(teletype) = &self.display {
                        teletype.enter();
                    }
                    self.conversation.command(command)
                }
                MainMail::Event(event, of_text, taken) => {
                    (receipt, served) = (of_text, Some(taken));
                    let is_online = event == Event::Online;
                    let mut effects = self.conversation.event(event, Instant::now());
                    effects.extend(self.name_to_keep.take_if(|_| is_online).and_then(|name| self.keep_name(&name)));
                    effects
                }
                MainMail::EndOfInput => {
                    self.conversation.finish();
                    Vec::new()
                }
                MainMail::Timeout | MainMail::Signal => {
                    self.give_up();
                    return if matches!(mail, MainMail::Timeout) { Ending::Timeout } else { Ending::Wanted };
                }
            };
            let is_quit = self.carry_out(effects);
            self.has_quit |= is_quit && is_command && self.renamed.is_none();
            let is_end = is_quit || {
                let effects = self.conversation.end_if_finished();
                self.carry_out(effects)
            };
            if self.unwritable.get().is_some() {
                return Ending::Unwritable;
            }
            // It is written, and so it cannot be lost any more.
            receipt.into_iter().for_each(|receipt| self.peer.taken(receipt));
            if is_end {
                // Events go on to the end, and the editor behind it where only the name is another one.
                let held = held.take().filter(|_| self.renamed.is_some());
                for taken in [served, held].into_iter().flatten() {
                    let _ = taken.send(());
                }
                return Ending::Wanted;
            }
            self.update_prompt();
            // A program can write faster than a chat opens; a person cannot. Who asks for the end is not kept waiting.
            let released = if asks_to_quit || self.conversation.has_room() { held.take() } else { None };
            for taken in [served, released].into_iter().flatten() {
                let _ = taken.send(());
            }
        }
        Ending::Wanted
    }

    /// Ends all chats of the conversation, whatever is still to be done in them.
    pub fn give_up(&mut self) {
        let effects = self.conversation.give_up();
        self.carry_out(effects);
    }

    pub fn update_prompt(&self) {
        match &self.display {
            Display::Terminal(terminal) => terminal.update(self.conversation.prompt(), self.conversation.names()),
            Display::Teletype(teletype) => teletype.update(&self.conversation.prompt()),
            Display::Plain(row) | Display::Aside(row) => row.update(|| self.conversation.file_under_way()),
            Display::Json => {}
        }
    }

    /// Does what is to be done, and returns whether the program is to end.
    pub fn carry_out(&mut self, effects: Vec<Effect>) -> bool {
        for effect in effects {
            match effect {
                Effect::Call(name) => self.peer.call(&name),
                Effect::Accept(name) => self.peer.accept(&name),
                Effect::Decline(name) => self.peer.decline(&name),
                Effect::Ignore(name) => self.peer.ignore(&name),
                Effect::Send { peer, text } => {
                    let number = self.peer.send(&peer, &text.text);
                    self.log(&peer, true, &text.text);
                    self.conversation.sent(&peer, number, text.id);
                }
                Effect::FindFiles { peer, typed } => {
                    let effects = self.conversation.offer(&peer, self.downloads.find(&typed));
                    self.carry_out(effects);
                }
                Effect::OfferFile { peer, file } => self.offer_file(&peer, file),
                Effect::SeekPart { peer, file, identity, size, modified } => {
                    let is_there = self.downloads.has_begun(identity, file, size);
                    let effects = self.conversation.told_of_part(&peer, file, is_there, modified);
                    self.carry_out(effects);
                }
                Effect::TakeFile { peer, file, size, is_folder, place, quota, coming } => {
                    match self.downloads.sink((file, is_folder), place, size, quota, &coming) {
                        Ok(sink) => self.peer.take_file(&peer, file, sink),
                        Err((reason, trouble)) => {
                            let effects = self.conversation.not_taken(&peer, file, reason, trouble);
                            self.carry_out(effects);
                        }
                    }
                }
                Effect::RefuseFile { peer, file, reason } => self.peer.refuse_file(&peer, file, reason),
                Effect::CancelFile { peer, file } => self.peer.cancel_file(&peer, file),
                Effect::Leave(name) => self.peer.leave(&name),
                Effect::Pin { peer: name, known } => self.peer.trust(&name, known.map(Into::into)),
                Effect::Remember { peer: name, known, replaces } => {
                    let (other, kept) = self.records.remember(&name, known.clone(), replaces);
                    self.note(UNKNOWN_NEXT_TIME, kept);
                    // Somebody else ends the chat, before a text goes out.
                    self.peer.trust(&name, Some(other.unwrap_or(known).into()));
                }
                Effect::Forget(name) => {
                    self.peer.trust(&name, None);
                    self.note(UNKNOWN_NEXT_TIME, self.records.forget(&name));
                }
                Effect::Block { peer, is_blocked } => {
                    self.note(NOT_KEPT, self.records.block(&peer, is_blocked));
                }
                Effect::GoOnline => self.peer.go_online(),
                Effect::Rename(name) => {
                    self.renamed = Some(name);
                    return true;
                }
                Effect::Log { peer, is_on: None } => self.show_log(peer),
                Effect::Log { peer, is_on: Some(is_on) } => self.switch_log(peer, is_on),
                Effect::Alias { alias, peer } => self.note(NOT_KEPT, self.records.alias(&alias, peer)),
                Effect::Set { name, value } => self.set(name, value),
                Effect::Show(report) => self.show(&report),
                Effect::Record(report) if matches!(self.display, Display::Json) => self.show(&report),
                Effect::Record(_) => {}
                Effect::Quit => return true,
            }
        }
        false
    }

    fn offer_file(&mut self, peer: &str, file: OwnFile) {
        let effects = match downloads::open(&file) {
            Ok(offer) => {
                let (name, size, entries) = (offer.name().to_owned(), offer.size(), offer.entries());
                let skipped = files::skipped(&name, offer.skipped());
                let (number, id) = (0, file.id);
                let file = self.peer.offer_file(peer, offer);
                let peer = peer.to_owned();
                let report = FileReport { peer, file, number, is_ours: true, name, size, entries, id };
                let mut effects = self.conversation.offered(report);
                effects.extend(skipped.as_deref().map(notice));
                effects
            }
            Err(reason) => self.conversation.not_opened(peer, file, &reason),
        };
        self.carry_out(effects);
    }

    pub fn show(&self, report: &Report) {
        if let Err(error) = self.display.show(report, self.look) {
            let _ = self.unwritable.set(error);
            return;
        }
        if let Report::Message { peer, text, .. } = report {
            self.log(peer, false, text);
        }
        if screen::is_news(report) {
            if self.bells.rings
                && let Display::Terminal(terminal) = &self.display
            {
                terminal.ring();
            }
            if let Some(command) = &self.bells.command {
                let event = json::object(report, &timestamp(), self.bells.with_text);
                self.bells.notifier.run(command, &json::line(&event));
            }
        }
    }

    /// Keeps a name that is the user's from now on.
    fn keep_name(&self, name: &Username) -> Option<Effect> {
        let profile = self.records.profile.as_ref()?;
        let change = |text: &str| config::change(text, &options::every_setting(), "name", &[name.to_string()]);
        Some(notice(&match profile.change_config(change) {
            Ok(()) => format!("the name {name} is kept in {}; --name uses another one", profile.path().display()),
            Err(error) => format!("{NOT_KEPT}: {error}"),
        }))
    }

    /// Says that something could not be done, if it could not.
    fn note(&self, what: &str, done: Result<(), String>) {
        if let Err(error) = done {
            self.show(&Report::Notice(format!("{what}: {error}")));
        }
    }

    /// Keeps a text that was sent or received, if its log is on.
    fn log(&self, peer: &str, sent: bool, text: &str) {
        if !self.logs.has(peer) {
            return;
        }
        let (time, server) = (timestamp(), self.records.place.clone());
        let entry = TranscriptEntry { time, server, peer: peer.to_owned(), sent, text: text.to_owned() };
        let kept = self.records.profile.as_ref().map_or(Ok(()), |profile| profile.add_to_log(&entry));
        // It is said once, and again after it has gone well.
        let has_failed = self.has_log_failed.replace(kept.is_err());
        if let Err(error) = kept
            && !has_failed
        {
            self.show(&Report::Notice(format!("texts are not in the log: {error}")));
        }
    }

    fn switch_log(&mut self, peer: Option<String>, is_on: bool) {
        let Some(profile) = &self.records.profile else {
            return self.show(&Report::Mistake(
                "there is no place for a log: neither HOME nor XDG_CONFIG_HOME is set".to_owned(),
            ));
        };
        let whose = peer.as_ref().map_or("all texts".to_owned(), |peer| format!("texts with {}", screen::name(peer)));
        let for_good = if peer.is_none() { "; lowkey config set log on keeps them in later starts too" } else { "" };
        let words = match is_on {
            true => format!(
                "{whose} are kept in {} from now on until you quit, for your eyes only{for_good}",
                profile.path().with_file_name("log").display()
            ),
            false => format!("{whose} are no longer kept; what is in the log stays there"),
        };
        self.logs.set(peer, is_on);
        self.show(&Report::Notice(words));
    }

    fn show_log(&self, peer: Option<String>) {
        match self.records.profile.as_ref().map_or(Ok(String::new()), Profile::last_of_log) {
            Ok(lines) => {
                let mut entries = TranscriptEntry::last(&lines, &self.records.place, peer.as_deref());
                if !matches!(self.display, Display::Json) {
                    entries.iter_mut().for_each(|entry| entry.time = local(&entry.time));
                    if entries.is_empty() {
                        let is_on = peer.as_ref().is_some_and(|peer| self.logs.has(peer)) || self.logs.is_on();
                        let hint = if is_on { "" } else { "; /log on keeps them from now on, for your eyes only" };
                        return self.show(&Report::Notice(format!("the log has no texts yet{hint}")));
                    }
                }
                self.show(&Report::Log { peer, entries });
            }
            Err(error) => self.show(&Report::Mistake(format!("the log cannot be read: {error}"))),
        }
    }

    /// Changes a setting, and shows it or all.
    fn set(&mut self, name: Option<String>, value: Option<String>) {
        let is_on = value.as_deref().and_then(is_on);
        match (name.as_deref(), &value, is_on) {
            (Some("bell"), Some(_), Some(is_on)) => self.bells.rings = is_on,
            (Some("color"), Some(_), Some(is_on)) => self.look.has_color = is_on,
            (Some("times"), Some(_), Some(is_on)) => self.look.has_times = is_on,
            (Some("notify"), Some(_), Some(false)) => self.bells.command = None,
            (Some("notify"), Some(command), None) => self.bells.command = Some(command.clone()),
            (Some(known), Some(_), _) if SETTINGS.contains(&known) => {
                let values = if known == "notify" { "a command or off" } else { ON_OR_OFF };
                return self.show(&Report::Mistake(format!("/set {known} takes {values}")));
            }
            (Some(known), None, _) if SETTINGS.contains(&known) => {}
            (Some(other), _, _) => {
                let words = format!("there is no setting {other}; there are {}", SETTINGS.join(", "));
                return self.show(&Report::Mistake(words));
            }
            (None, _, _) => {}
        }
        if let Display::Terminal(terminal) = &self.display {
            terminal.set_look(self.look);
        }
        let switch = |is_on| if is_on { "on" } else { "off" }.to_owned();
        let mut settings = vec![
            ("bell", switch(self.bells.rings)),
            ("color", switch(self.look.has_color)),
            ("notify", self.bells.command.clone().unwrap_or("off".to_owned())),
            ("times", switch(self.look.has_times)),
        ];
        settings.retain(|(setting, _)| name.as_deref().is_none_or(|name| name == *setting));
        self.show(&Report::Settings(settings));
    }
}

/// What is done when a text or a call comes.
pub struct Bells {
    pub rings: bool,
    pub command: Option<String>,
    pub with_text: bool,
    pub notifier: Notifier,
}

const UNKNOWN_NEXT_TIME: &str = "who this is could not be kept";
const NOT_KEPT: &str = "that could not be kept";
