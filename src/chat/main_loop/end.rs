//! The end of the chats, of the program or under one name: what was sent is waited for, and what happens meanwhile is
//! told.

use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::{Ending, MainLoop, UNKNOWN_NEXT_TIME};
use crate::chat::command::Command;
use crate::chat::display::Display;
use crate::chat::effect::Effect;
use crate::chat::mail::MainMail;
use crate::chat::report::Report;
use crate::peer::Event;
use crate::stderr::say;

impl MainLoop {
    /// Ends the chats in order, and says what it is waiting for where that takes its time, and how that is ended.
    /// Returns whether all was read that was sent, and whether there was time for it.
    pub fn end(&mut self, mailbox: &Receiver<MainMail>, served: Ending) -> (bool, Ending) {
        self.peer.begin_end(self.unwritable.get().is_some());
        let (started, mut is_said) = (Instant::now(), false);
        let is_renaming = self.renamed.is_some();
        if !is_renaming {
            self.stdin.stop();
        }
        loop {
            self.pulse.beat();
            let is_late = started.elapsed() > LAST_WORDS;
            match mailbox.recv_timeout(END_POLL) {
                Ok(mail) => self.last_mail(mail, is_renaming),
                Err(_) if is_late && served == Ending::Timeout && self.cut_short.is_none() => {
                    self.cut_short = Some(served);
                }
                Err(_)
                    if (self.cut_short.is_some() || self.peer.has_ended())
                        && (is_late || self.stdin.is_handed_on()) =>
                {
                    break;
                }
                Err(_) if !is_said && is_late => {
                    is_said = true;
                    self.say_what_is_waited_for(is_renaming);
                }
                Err(_) => {}
            }
        }
        if !is_renaming && !self.has_quit && self.stdin.is_left() {
            let told = self.conversation.unread();
            self.carry_out(vec![told]);
        }
        self.cut_short.map_or_else(|| (self.peer.shutdown(), Ending::Wanted), |end| (false, end))
    }

    /// What still happens is still told: a text that came, or one that could not be sent. Where the user will be there
    /// under another name, what they type is for then, but for what ends the program.
    fn last_mail(&mut self, mail: MainMail, is_renaming: bool) {
        match mail {
            MainMail::Event(event, receipt, taken) => {
                self.last_event(event);
                if self.unwritable.get().is_none() {
                    receipt.into_iter().for_each(|receipt| self.peer.taken(receipt));
                }
                let _ = taken.send(());
            }
            MainMail::Timeout => self.cut_short = Some(Ending::Timeout),
            MainMail::Signal => self.cut_short = Some(Ending::Wanted),
            MainMail::Command(Command::Quit, _) | MainMail::EndOfInput if is_renaming => {
                self.has_quit = true;
                self.cut_short = Some(Ending::Wanted);
            }
            MainMail::Command(command, taken) if is_renaming => self.postpone(command, taken),
            MainMail::Command(command, _) if !self.has_quit => {
                let told = self.conversation.too_late(command);
                self.carry_out(vec![told]);
            }
            MainMail::Command(..) | MainMail::EndOfInput => {}
        }
    }

    /// Keeps a command for later. Who typed it types on, for the next one may be `/quit`.
    fn postpone(&mut self, command: Command, mut taken: Option<SyncSender<()>>) {
        if let Some(taken) = taken.take_if(|_| self.postponed.len() < MAX_POSTPONED) {
            let _ = taken.send(());
        }
        self.postponed.push(MainMail::Command(command, taken));
    }

    fn say_what_is_waited_for(&self, is_renaming: bool) {
        let how = if is_renaming { QUITS } else { "Ctrl-C ends at once" };
        let words = format!("waiting until what was sent has arrived; {how}");
        match &self.display {
            // It is for a person, who may look on.
            Display::Json => say(format!("* {words}")),
            _ => self.show(&Report::Notice(words)),
        }
    }

    /// What happens at the end is told and remembered, and nothing else is done.
    fn last_event(&mut self, event: Event) {
        for effect in self.conversation.event(event, Instant::now()) {
            match effect {
                Effect::Show(report) if self.unwritable.get().is_none() => self.show(&report),
                Effect::Record(report) if matches!(self.display, Display::Json) => self.show(&report),
                Effect::Remember { peer, known, replaces } => {
                    let (_, kept) = self.records.remember(&peer, known, replaces);
                    self.note(UNKNOWN_NEXT_TIME, kept);
                }
                _ => {}
            }
        }
    }
}

/// How often is looked whether all has ended.
const END_POLL: Duration = Duration::from_millis(5);

/// How long the end may take before a word is said of it, and how long it may take once `--timeout` is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Commands that are kept while chats end under another name. Beyond that, the keyboard waits.
const MAX_POSTPONED: usize = 1000;

/// The terminal hands on keys, and Ctrl-C is one: a first one clears the line.
const QUITS: &str = "/quit, Ctrl-D or Ctrl-C twice ends the program at once";
