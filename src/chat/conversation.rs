//! What the terminal chat does on each command and event: whom a line goes to, what is kept, and what is told. Pure:
//! it knows neither the terminal nor the peer.
//!
//! Beneath: [`commands`] of the user and [`events`] of the peer; [`calls`] as the user wants them, [`texts`],
//! [`file_offers`] and [`files`], and the [`end`]. What each of them needs stands in rooms of its own:
//! [`outbox`](super::outbox), [`requests`](super::requests), [`people`](super::people) and [`script`](super::script).

mod calls;
mod commands;
mod end;
mod events;
mod file_offers;
mod files;
mod questions;
mod ringing;
mod texts;

use std::collections::BTreeSet;

use super::command::Command;
use super::effect::{Effect, mistake, notice};
use super::flood::Flood;
use super::outbox::Outbox;
use super::people::People;
use super::report::{Mark, Prompt};
use super::requests::Requests;
use super::screen;
use super::script::{Progress, Script, ScriptFailure};
use super::transfers::Transfers;
use crate::options::quota::Ledger;
use crate::peer::Trust;

/// All chats, calls and files as the user sees them, with or without a prompt.
#[derive(Debug)]
pub struct Conversation {
    people: People,
    script: Script,
    progress: Progress,
    /// Who may not call.
    blocked: BTreeSet<String>,
    /// The peer that lines go to, in a chat that is open, on its way or at its end. Nobody becomes it but by the user's
    /// word.
    current: Option<String>,
    /// Whom lines went to before the user turned to the current one.
    before: Option<String>,
    /// One for each peer with whom there is or was something; the most recent last.
    chats: Vec<Chat>,
    requests: Requests,
    transfers: Transfers,
    /// The files that were taken without asking.
    ledger: Ledger,
    /// A file goes to standard output, or went there.
    has_output: bool,
    /// Whose calls were taken although nobody has named them.
    unnamed: BTreeSet<String>,
    /// Whom the user has called.
    called: BTreeSet<String>,
    /// Counts the errors that the server tells of.
    errors: Flood,
    server: ServerState,
    /// Something was heard of the server, be it that it is not there.
    has_heard: bool,
    /// The server is not sought again, unless the user says so.
    is_cut_off: bool,
    /// What the user was asked about last, until the answer.
    asked: Option<Question>,
}

/// What the user was asked.
#[derive(Debug)]
enum Question {
    /// Whether to send this to a peer as one text.
    Paste { peer: String, text: String },
    /// Whether to do this. The same word again does it.
    Command { command: Command, words: String },
}

/// Everything about one peer.
#[derive(Debug)]
struct Chat {
    peer: String,
    stage: ChatStage,
    outbox: Outbox,
    /// Texts that came while lines went to others.
    unread: usize,
    /// The user has left it, and wants nothing kept of what was not sent.
    is_left: bool,
    /// Why it failed, or the call for it, if it did.
    cause: Option<ScriptFailure>,
}

/// How far a chat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChatStage {
    Closed,
    /// To be called once the server is there.
    Pending,
    Calling,
    Open,
    Interrupted,
}

/// Whether the server is there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ServerState {
    /// It has not answered yet.
    #[default]
    Sought,
    Online,
    /// It could not be reached, or was lost.
    Lost,
}

impl Chat {
    fn is_open(&self) -> bool {
        matches!(self.stage, ChatStage::Open | ChatStage::Interrupted)
    }

    fn is_called(&self) -> bool {
        matches!(self.stage, ChatStage::Pending | ChatStage::Calling)
    }
}

impl Conversation {
    /// A conversation in which nobody is there yet.
    pub fn new(people: People, blocked: BTreeSet<String>, script: Script) -> Self {
        Self {
            people,
            script,
            progress: Progress::default(),
            blocked,
            current: None,
            before: None,
            chats: Vec::new(),
            requests: Requests::default(),
            transfers: Transfers::default(),
            ledger: Ledger::default(),
            has_output: false,
            unnamed: BTreeSet::new(),
            called: BTreeSet::new(),
            errors: Flood::default(),
            server: ServerState::Sought,
            has_heard: false,
            is_cut_off: false,
            asked: None,
        }
    }

    /// Whether there is room for another line.
    pub fn has_room(&self) -> bool {
        self.transfers.has_room() && self.chats.iter().all(|chat| chat.outbox.has_room())
    }

    /// Why not all was done that was to be done; `None` if all was.
    pub fn failure(&self) -> Option<ScriptFailure> {
        self.progress.failure()
    }

    /// What the prompt shows.
    pub fn prompt(&self) -> Prompt {
        let unread = self.chats.iter().map(|chat| chat.unread).sum();
        let file = self.transfers.mark(self.current.as_deref());
        let Some(peer) = self.current.clone() else { return Prompt { unread, file, ..Prompt::default() } };
        let mark = self.chat(&peer).map_or(Mark::Closed, |chat| match chat.stage {
            ChatStage::Closed => Mark::Closed,
            ChatStage::Open => chat.outbox.mark(),
            ChatStage::Pending | ChatStage::Calling | ChatStage::Interrupted => Mark::Busy,
        });
        let (trust, alias) = (self.people.trust_in(&peer), self.people.alias_of(&peer));
        Prompt { trust, alias, peer: Some(peer), mark, unread, file }
    }

    /// Who can be named in a command, the most likely first.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.requests.all().iter().map(|(peer, _)| peer.clone()).collect();
        names.extend(self.chats.iter().rev().map(|chat| chat.peer.clone()));
        names.extend(self.people.aliases.keys().cloned());
        names.extend(self.people.names());
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// A text was handed to the peer, which has given it this number.
    pub fn sent(&mut self, peer: &str, number: u64, id: Option<String>) {
        // An old app never says what has arrived.
        let says_so = self.people.trust_in(peer).is_some_and(|trust| trust != Trust::Unproven);
        self.progress.sent(says_so);
        if let Some(chat) = self.chat_mut(peer).filter(|_| says_so) {
            chat.outbox.sent(number, id);
        }
    }

    /// What it means that a text for `peer` was not sent: the call to them has failed, or else the text is lost.
    fn fail_to_send(&mut self, peer: Option<&str>) {
        let cause = peer.and_then(|peer| self.chat(peer)?.cause);
        self.progress.fail(cause.unwrap_or(ScriptFailure::Lost));
    }

    fn refuse(&mut self, reason: &str) -> Vec<Effect> {
        self.refuse_as(ScriptFailure::Lost, reason)
    }

    fn refuse_as(&mut self, failure: ScriptFailure, reason: &str) -> Vec<Effect> {
        self.progress.fail(failure);
        vec![mistake(reason)]
    }

    /// Lines go to `peer` from now on.
    fn turn_to(&mut self, peer: &str) {
        let before = self.current.replace(peer.to_owned());
        if before.as_deref() != Some(peer) {
            self.before = before;
        }
        self.chat_or_new(peer).unread = 0;
    }

    /// Reminds of the chats that lines do not go to.
    fn still_open(&self) -> Option<Effect> {
        let open: Vec<&str> = self.chats.iter().filter(|chat| chat.is_open()).map(|chat| chat.peer.as_str()).collect();
        let first = screen::name(open.last()?);
        let names: Vec<_> = open.iter().map(|peer| screen::name(peer)).collect();
        Some(notice(&format!("still open: {}; /to {first} to write on", names.join(", "))))
    }

    fn chat(&self, peer: &str) -> Option<&Chat> {
        self.chats.iter().find(|chat| chat.peer == peer)
    }

    fn chat_mut(&mut self, peer: &str) -> Option<&mut Chat> {
        self.chats.iter_mut().find(|chat| chat.peer == peer)
    }

    /// The chat with this peer, which becomes the most recent one.
    fn chat_or_new(&mut self, peer: &str) -> &mut Chat {
        let at = self.chats.iter().position(|chat| chat.peer == peer);
        let chat = match at {
            Some(at) => self.chats.remove(at),
            None => Chat {
                peer: peer.to_owned(),
                stage: ChatStage::Closed,
                outbox: Outbox::default(),
                unread: 0,
                is_left: false,
                cause: None,
            },
        };
        self.chats.push(chat);
        self.chats.last_mut().expect("it was just put there")
    }

    fn set_stage(&mut self, peer: &str, stage: ChatStage) {
        let chat = self.chat_or_new(peer);
        chat.stage = stage;
        if chat.is_called() {
            // It is a new wish.
            (chat.is_left, chat.cause) = (false, None);
        }
    }

    /// A chat that is over and of which nothing is left is not listed any more.
    fn forget_if_empty(&mut self, peer: &str) {
        let current = self.current.as_deref();
        self.chats.retain(|chat| {
            chat.peer != peer
                || chat.stage != ChatStage::Closed
                || chat.unread + chat.outbox.kept() > 0
                || current == Some(peer)
        });
    }
}

#[cfg(test)]
mod tests {
    //! What the tests of all these rooms have in common.

    pub(super) use std::time::Instant;

    use super::*;
    pub(super) use crate::chat::effect::{Text, lost, mistake};
    pub(super) use crate::chat::people::People;
    pub(super) use crate::chat::report::{Mark, Report};
    pub(super) use crate::chat::script::{Script, Until};
    pub(super) use crate::peer::keys::KeyPair;
    pub(super) use crate::peer::trust::Known;
    pub(super) use crate::peer::{CloseReason, EndReason, Event, FileId, Trust};
    pub(super) use crate::profile::known_peers::KnownPeers;

    impl Conversation {
        /// An event, and what is done if that was the end.
        pub(super) fn happened(&mut self, event: Event) -> Vec<Effect> {
            let mut effects = self.event(event, Instant::now());
            effects.extend(self.end_if_finished());
            effects
        }

        pub(super) fn finished(&mut self) -> Vec<Effect> {
            self.finish();
            self.end_if_finished()
        }
    }

    pub(super) fn start(script: Script) -> Conversation {
        let people = People::new("alice", None, "chat.example", false, KnownPeers::default(), "2026-11-23");
        Conversation::new(people, BTreeSet::new(), script)
    }

    pub(super) fn typed(conversation: &mut Conversation, line: &str) -> Vec<Effect> {
        conversation.command(Command::parse(line))
    }

    /// A prompt whose server is there.
    pub(super) fn online() -> Conversation {
        let mut chat = start(Script::default());
        chat.happened(Event::Online);
        chat
    }

    /// Somebody new calls.
    pub(super) fn request(peer: impl Into<String>) -> Event {
        let identity = Some(KeyPair::generate().public());
        Event::Request { peer: peer.into(), trust: Trust::New, identity }
    }

    pub(super) fn bob() -> String {
        "bob".to_owned()
    }

    pub(super) fn open(peer: &str) -> Event {
        Event::Open { peer: peer.to_owned() }
    }

    pub(super) fn closed(peer: &str, reason: CloseReason) -> Event {
        Event::Closed { peer: peer.to_owned(), reason }
    }

    /// A prompt with an open chat with bob, who has proven who he is.
    pub(super) fn with_bob(trust: Trust) -> Conversation {
        let mut chat = online();
        typed(&mut chat, "/connect bob");
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: bob(), trust, own, other });
        chat.happened(open("bob"));
        chat
    }

    /// A person with an open chat with bob.
    pub(super) fn person() -> Conversation {
        let mut chat = with_bob(Trust::Known);
        chat.script.has_person = true;
        chat
    }

    /// A file that bob was sent or sends has come to its end.
    pub(super) fn ended(file: FileId, reason: EndReason) -> Event {
        Event::FileEnded { peer: bob(), file, reason, trouble: None, is_kept: false }
    }

    pub(super) fn is_mistake(effects: &[Effect], words: &str) -> bool {
        matches!(effects, [Effect::Show(Report::Mistake(told))] if told.contains(words))
    }

    pub(super) fn send(text: &str) -> Effect {
        Effect::Send { peer: bob(), text: Text { text: text.to_owned(), id: None } }
    }

    /// What is to be done, without what is only shown.
    pub(super) fn done(effects: Vec<Effect>) -> Vec<Effect> {
        effects.into_iter().filter(|effect| !matches!(effect, Effect::Show(_) | Effect::Record(_))).collect()
    }

    /// The texts that were told not to be sent, and whether they are kept.
    pub(super) fn not_sent(effects: &[Effect]) -> Vec<(&str, bool)> {
        let text = |effect: &'_ Effect| match effect {
            Effect::Show(Report::NotSent { text, is_kept, .. }) => Some((text.clone(), *is_kept)),
            _ => None,
        };
        effects.iter().filter_map(text).map(|(text, is_kept)| (&*text.leak(), is_kept)).collect()
    }
}
