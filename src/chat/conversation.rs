//! What the terminal client does on each command and event: whom a line goes to, what is kept, and what is told. Pure: it
//! knows neither the terminal nor the peer.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::callee::Callee;
use super::command::Command;
use super::flood::{Flood, Minute, SHOWN};
use super::people::People;
use super::report::{ChatReport, ChatState, Mark, Prompt, Report};
use super::screen;
use crate::options::is_on;
use crate::peer::trust::{Known, Link};
use crate::peer::{CloseReason, Event, NotSentReason, Trust};
use crate::profile::Username;
use crate::protocol::{ErrorCode, is_username};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Call this peer.
    Connect(String),
    /// Take its request.
    Accept(String),
    /// Turn its request down.
    Decline(String),
    /// Send a text, and say with [`Conversation::sent`] what number it got.
    Send {
        /// To this peer.
        peer: String,
        /// The text.
        text: Text,
    },
    /// End the chat or call with this peer.
    Leave(String),
    /// Take nobody else than this one as `peer`, as long as the program runs; or whoever comes.
    Pin {
        /// Its name.
        peer: String,
        /// Who it is.
        known: Option<Known>,
    },
    /// Remember who a peer is, for this program and the next.
    Remember {
        /// Its name.
        peer: String,
        /// Who it is.
        known: Known,
        /// The user wants it so, even where another program has seen somebody else under that name.
        replaces: bool,
    },
    /// Forget who it was.
    Forget(String),
    /// Remember that a peer may not call, or may again.
    Block {
        /// Its name.
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

/// Who types the lines, and how a program without a person at it goes on and ends.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// A person at a terminal, so it is none.
    pub has_person: bool,
    /// The end of any chat or call is the end of its input too.
    pub ends_with_chat: bool,
    /// What ends it once there are no more commands; without it, that nothing waits to be sent.
    pub until: Option<Until>,
    /// Whose calls are taken without asking.
    pub accepts: Accepts,
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
}

/// Whose calls are taken without asking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Accepts {
    /// Nobody's.
    #[default]
    None,
    /// Everybody's.
    All,
    /// Those of these peers; others are declined.
    Only(Vec<String>),
}

/// Why a script did not do all that it was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Something was not sent, or a command could not be done.
    Lost,
    /// There was no server.
    NoServer,
    /// The other side could not be reached, or did not want to talk.
    Unreached,
    /// The other side was not who it was, or did not prove who it is.
    Untrusted,
}

/// The state of the prompt.
#[derive(Debug)]
pub struct Conversation {
    people: People,
    script: Script,
    /// Who may not call.
    blocked: BTreeSet<String>,
    /// The peer that lines go to, in a chat that is open, on its way or at its end. Nobody becomes it but by the user's word.
    current: Option<String>,
    /// The most recent last.
    chats: Vec<Chat>,
    /// Who waits for an answer, in the order of their calls, each with a number that is never used again.
    requests: Vec<(String, u64)>,
    last_request: u64,
    /// Whose calls were taken although nobody has named them.
    unnamed: BTreeSet<String>,
    /// Whom the user has called.
    called: BTreeSet<String>,
    errors: Flood,
    /// How many calls come from strangers, whatever names they make up, and from those who are known.
    strange_calls: Minute,
    known_calls: Minute,
    /// Whose request came among so many that it was not told.
    untold: BTreeSet<String>,
    server: Server,
    /// Lines that were pasted and for whom, until the user says whether to send them.
    pasted: Option<(String, String)>,
    /// What the user was asked about last, since texts would be lost by it. The same word again does it.
    asked: Option<Command>,
    /// Whom lines went to before the user turned to the current one.
    before: Option<String>,
    /// The server will not be sought again.
    is_cut_off: bool,
    /// There is no more input: end as soon as what the script waits for has happened.
    is_finishing: bool,
    /// What has happened of what a script can wait for.
    has_opened: bool,
    has_message: bool,
    has_closed: bool,
    failure: Option<Failure>,
    /// Why the last call or chat failed.
    cause: Option<Failure>,
}

/// Everything about one peer.
#[derive(Debug)]
struct Chat {
    peer: String,
    state: State,
    /// Texts for the chat that is on its way. They go out as soon as it is open.
    waiting: VecDeque<Text>,
    /// Texts that could not be sent, and whether they go out again only at the user's word: since they may have arrived, or the
    /// peer was not who it was.
    kept: VecDeque<(Text, bool)>,
    /// Texts that were sent, by their numbers, until they have arrived.
    underway: VecDeque<(u64, Option<String>)>,
    /// Texts that came while lines went to others.
    unread: usize,
    has_delivered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// To be called once the server is there.
    Pending,
    Calling,
    Open,
    Interrupted,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Server {
    /// It has not answered yet.
    #[default]
    Sought,
    Online,
    /// It could not be reached, or was lost.
    Lost,
}

impl Chat {
    /// Whether one more text may wait for it to open.
    fn has_room(&self) -> bool {
        let bytes: usize = self.waiting.iter().map(|text| text.text.len()).sum();
        self.waiting.len() < MAX_WAITING && bytes < MAX_WAITING_BYTES
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Interrupted)
    }

    /// How many texts were typed and not sent.
    fn unsent(&self) -> usize {
        self.waiting.len() + self.kept.len()
    }
}

impl Conversation {
    /// Nobody to talk to yet.
    pub fn new(people: People, blocked: BTreeSet<String>, script: Script) -> Self {
        Self {
            people,
            script,
            blocked,
            current: None,
            chats: Vec::new(),
            requests: Vec::new(),
            last_request: 0,
            unnamed: BTreeSet::new(),
            called: BTreeSet::new(),
            errors: Flood::default(),
            strange_calls: Minute::default(),
            known_calls: Minute::default(),
            untold: BTreeSet::new(),
            server: Server::Sought,
            pasted: None,
            asked: None,
            before: None,
            is_cut_off: false,
            is_finishing: false,
            has_opened: false,
            has_message: false,
            has_closed: false,
            failure: None,
            cause: None,
        }
    }

    /// Whether there is room for another line.
    pub fn has_room(&self) -> bool {
        self.chats.iter().all(Chat::has_room)
    }

    /// Why not all was done that was to be done, if so.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// What the prompt shows.
    pub fn prompt(&self) -> Prompt {
        let unread = self.chats.iter().map(|chat| chat.unread).sum();
        let Some(peer) = self.current.clone() else { return Prompt { unread, ..Prompt::default() } };
        let mark = match self.chat(&peer) {
            None => Mark::Closed,
            Some(chat) => match chat.state {
                State::Closed => Mark::Closed,
                State::Open if !chat.kept.is_empty() => Mark::Kept,
                State::Open if chat.underway.is_empty() && chat.has_delivered => Mark::Delivered,
                State::Open if chat.underway.is_empty() => Mark::None,
                State::Pending | State::Calling | State::Interrupted | State::Open => Mark::Busy,
            },
        };
        let (trust, alias) = (self.people.trust_in(&peer), self.people.alias_of(&peer));
        Prompt { trust, alias, peer: Some(peer), mark, unread }
    }

    /// Who can be named in a command, the most likely first.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.requests.iter().map(|(peer, _)| peer.clone()).collect();
        names.extend(self.chats.iter().rev().map(|chat| chat.peer.clone()));
        names.extend(self.people.aliases.keys().cloned());
        names.extend(self.people.names());
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// Takes what the user asks for.
    pub fn command(&mut self, mut command: Command) -> Vec<Effect> {
        if let Some(peer) = command.peer_mut()
            && let Some(name) = self.people.aliases.get(peer).cloned()
        {
            if self.is_met(peer) {
                let alias = screen::name(peer);
                let line = format!(
                    "{alias} is what you call {}, and also the name of somebody who is here: /unalias {alias} first, \
                     or say the number of the call",
                    screen::name(&name)
                );
                return self.refuse(&line);
            }
            *peer = name;
        }
        if !self.script.has_person && runs_a_program(&command) {
            // A script passes on what others have written, and one slip of its quotes would make a command of that.
            return self.refuse(ONLY_BY_HAND);
        }
        let asked = self.asked.take();
        match (asked, yes_or_no(&command)) {
            (Some(asked), Some(true)) => return self.perform(asked),
            (Some(_), Some(false)) => return vec![notice("then all stays as it is")],
            (asked, _) => {
                if let Some(question) = self.question(&command).filter(|_| asked.as_ref() != Some(&command)) {
                    self.asked = Some(command);
                    return vec![question];
                }
            }
        }
        self.perform(command)
    }

    fn perform(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Send { peer: None, text, id } => match self.pasted.take() {
                Some(pasted) => self.answer_paste(pasted, text, id),
                None => self.text(Text { text, id }),
            },
            Command::Send { peer: Some(peer), text, id } => self.message(peer, Text { text, id }),
            Command::Paste(text) => self.paste(text),
            Command::Connect { peer: Callee::Link(link) } => match link.parse::<Link>() {
                Ok(link) => self.connect_by(&link),
                Err(reason) => self.refuse(reason),
            },
            Command::Connect { peer: Callee::Name(peer) } => self.connect(peer),
            Command::To { peer } => self.to(peer),
            Command::Retry { peer } => self.retry(peer),
            Command::Accept { peer, number } => self.answer(peer, number, true),
            Command::Decline { peer, number } => self.answer(peer, number, false),
            Command::Leave { peer } => self.leave(peer),
            Command::Who => vec![self.who()],
            Command::Verify { peer } => self.with(peer, |people, peer| people.verify(peer)),
            Command::Verified { peer, number } => self.with(peer, |people, peer| people.verified(peer, &number)),
            Command::Compared { peer } => self.noting_mistakes(|people| people.compared(peer)),
            Command::Unverify { peer } => self.with(peer, |people, peer| people.unverify(peer)),
            Command::Trust { peer, number } => self.noting_mistakes(|people| people.trust(&peer, &number)),
            Command::Peers => self.people.peers(),
            Command::Alias { names: None } => self.people.all_aliases(),
            Command::Alias { names: Some((alias, peer)) } => {
                let met = [&alias, &peer].map(|name| self.is_met(name));
                let is_met = |name: &str| if name == alias { met[0] } else { met[1] };
                let (first, second) = (alias.clone(), peer);
                self.noting_mistakes(|people| people.alias(first, second, is_met))
            }
            Command::Unalias { alias } => self.noting_mistakes(|people| people.unalias(alias)),
            Command::Forget { peer } => self.noting_mistakes(|people| people.forget(&peer)),
            Command::Block { peer: None } => {
                vec![Effect::Show(Report::Blocked(self.blocked.iter().cloned().collect()))]
            }
            Command::Block { peer: Some(peer) } => self.block(peer),
            Command::Unblock { peer } => match self.blocked.remove(&peer) {
                true => {
                    let line = notice(&format!("{} can call again", screen::name(&peer)));
                    vec![line, Effect::Block { peer, is_blocked: false }]
                }
                false => self.refuse(&format!("{} is not blocked", screen::name(&peer))),
            },
            Command::Link => self.noting_mistakes(|people| people.link()),
            Command::Online => self.go_online(),
            Command::Nick { name } => self.rename(&name),
            Command::Log { peer, is_on } => self.log(peer, is_on),
            Command::Set { name, value } => vec![Effect::Set { name, value }],
            Command::Help { about } => vec![Effect::Show(Report::Help(about))],
            Command::Quit => self.give_up(),
            Command::Mistake(reason) => self.refuse(&reason),
        }
    }

    /// A text was handed over and got this number.
    pub fn sent(&mut self, peer: &str, number: u64, id: Option<String>) {
        // An old app never says what has arrived.
        if self.people.trust_in(peer).is_some_and(|trust| trust != Trust::Unproven)
            && let Some(chat) = self.chat_mut(peer)
        {
            chat.underway.push_back((number, id));
        }
    }

    /// There will be no more input. What waits for a chat still goes out, if there is a server to find it.
    pub fn finish(&mut self) {
        self.is_finishing = true;
    }

    /// The end has come, whatever is still to be done: says what was not.
    pub fn give_up(&mut self) -> Vec<Effect> {
        self.is_finishing = true;
        let mut effects = Vec::new();
        for peer in self.chats.iter().map(|chat| chat.peer.clone()).collect::<Vec<_>>() {
            effects.extend(self.give_back(&peer, Failure::Lost));
            let kept = self.chat(&peer).map_or(0, |chat| chat.kept.len());
            if kept > 0 {
                effects.push(lost(kept, &peer));
            }
        }
        effects.push(Effect::Quit);
        effects
    }

    /// What a person is asked before texts that were not sent are lost by a command.
    fn question(&self, command: &Command) -> Option<Effect> {
        let leaving = match command {
            Command::Leave { peer } => self.chat(peer.as_ref().or(self.current.as_ref())?).into_iter().collect(),
            Command::Quit | Command::Nick { .. } => self.chats.iter().collect::<Vec<_>>(),
            _ => return None,
        };
        let lost = leaving.iter().filter(|chat| chat.unsent() > 0);
        let lost: Vec<_> =
            lost.map(|chat| format!("{} for {}", texts(chat.unsent()), screen::name(&chat.peer))).collect();
        (self.script.has_person && !lost.is_empty()).then(|| {
            notice(&format!(
                "not sent yet and lost by this: {}. Do it all the same? y or n; /retry sends them",
                lost.join(", ")
            ))
        })
    }

    /// Seeks the server again that was given up.
    fn go_online(&mut self) -> Vec<Effect> {
        match self.server {
            Server::Online => vec![notice("you are online")],
            Server::Sought | Server::Lost => {
                self.is_cut_off = false;
                self.server = Server::Sought;
                vec![notice("going online"), Effect::GoOnline]
            }
        }
    }

    fn rename(&mut self, name: &str) -> Vec<Effect> {
        if !self.script.has_person {
            return self.refuse("the name of a script is given by --name");
        }
        match name.parse::<Username>() {
            Ok(name) => {
                let mut effects = self.give_up();
                effects.pop();
                effects.push(Effect::Rename(name));
                effects
            }
            Err(reason) => self.refuse(reason),
        }
    }

    /// Shows the last texts of the log, or switches it.
    fn log(&mut self, peer: Option<String>, is_on: Option<bool>) -> Vec<Effect> {
        let peer = if is_on.is_none() { peer.or_else(|| self.current.clone()) } else { peer };
        vec![Effect::Log { peer, is_on }]
    }

    /// Ends the program once nothing is left to be done and to be read.
    pub fn end_if_finished(&mut self) -> Vec<Effect> {
        if !self.is_finishing {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if self.server == Server::Lost {
            let pending = self.chats.iter().filter(|chat| chat.state == State::Pending);
            for peer in pending.map(|chat| chat.peer.clone()).collect::<Vec<_>>() {
                self.set_state(&peer, State::Closed);
                self.cause = Some(Failure::NoServer);
                self.fail(Failure::NoServer);
                effects.extend(self.give_back(&peer, Failure::NoServer));
            }
        }
        let is_waiting = self.chats.iter().any(|chat| !chat.waiting.is_empty());
        let is_hopeless = (self.script.accepts == Accepts::None || self.is_cut_off)
            && self.chats.iter().all(|chat| chat.state == State::Closed);
        let is_reached = match self.script.until {
            // Who was called is called, also where there is nothing to say to them.
            None => !is_waiting && !self.chats.iter().any(|chat| matches!(chat.state, State::Pending | State::Calling)),
            Some(Until::Delivered) => !is_waiting && self.chats.iter().all(|chat| chat.underway.is_empty()),
            Some(Until::Open) => self.has_opened,
            Some(Until::Message) => self.has_message,
            Some(Until::Closed) => self.has_closed,
        };
        if !is_reached && is_hopeless && !is_waiting {
            self.fail(self.cause.unwrap_or(Failure::Lost));
        }
        if is_reached || is_hopeless && !is_waiting {
            effects.push(Effect::Quit);
        }
        effects
    }

    /// Takes what happened to the peer. What comes back has to be done before it is asked whether this was the end.
    pub fn event(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match event {
            Event::Online => {
                self.server = Server::Online;
                let mut effects = vec![Effect::Show(Report::Online)];
                for chat in self.chats.iter_mut().filter(|chat| chat.state == State::Pending) {
                    chat.state = State::Calling;
                    effects.extend([calling(&chat.peer, false), Effect::Connect(chat.peer.clone())]);
                }
                effects
            }
            Event::Offline { reason, retry_in } => {
                self.server = Server::Lost;
                // Nobody can be listened to any more.
                self.is_cut_off |= retry_in.is_none();
                if self.is_cut_off && self.script.accepts != Accepts::None {
                    self.is_finishing = true;
                    self.cause = Some(Failure::NoServer);
                    self.script.until.get_or_insert(Until::Message);
                }
                let has_chats = self.chats.iter().any(Chat::is_open);
                vec![Effect::Show(Report::Offline { reason, retry_in, has_chats })]
            }
            Event::Request { peer } => self.request(peer, now),
            Event::RequestEnded { peer } => {
                let is_told = self.end_request(&peer);
                vec![Effect::Show(Report::RequestEnded { peer, is_told })]
            }
            Event::KeysExchanged { peer } => vec![Effect::Show(Report::KeysExchanged { peer })],
            Event::Identified { peer, trust, own, other } => {
                let is_named = !self.unnamed.remove(&peer);
                self.people.identified(&peer, trust, own, other, is_named)
            }
            Event::Open { peer } => self.opened(peer),
            Event::Message { peer, text } => {
                self.has_message = true;
                let is_current = self.current.as_ref() == Some(&peer);
                let key = self.people.key(&peer);
                self.chat_or_new(&peer).unread += usize::from(!is_current);
                vec![Effect::Show(Report::Message { peer, text, key })]
            }
            Event::Delivered { peer, id } => self.delivered(peer, id),
            Event::Interrupted { peer } => {
                self.set_state(&peer, State::Interrupted);
                vec![Effect::Show(Report::Interrupted { peer })]
            }
            Event::Resumed { peer } => {
                let mut effects = vec![Effect::Show(Report::Resumed { peer: peer.clone() })];
                effects.extend(self.send_waiting(peer));
                effects
            }
            Event::KeyChanged { peer } => vec![Effect::Show(Report::KeyChanged { peer })],
            Event::NotSent { peer, id, text, reason } => self.not_sent(peer, id, text, reason),
            Event::Closed { peer, reason } => self.closed(peer, reason),
            Event::Refused { peer, reason } => self.refused(peer, reason),
            Event::Restarted => {
                vec![notice("WebRTC did not answer for ten seconds, by a fault of its own, and was started anew")]
            }
            Event::ServerError { code, message } => {
                // A server that lies makes up codes too, so all of those are one kind.
                let kind =
                    ErrorCode::ALL.iter().map(|known| known.name()).find(|known| *known == code).unwrap_or_default();
                let count = self.errors.count(kind, now);
                count.map(|count| Effect::Show(Report::ServerError { code, message, count })).into_iter().collect()
            }
        }
    }

    fn request(&mut self, peer: String, now: Instant) -> Vec<Effect> {
        let is_taken = match &self.script.accepts {
            _ if self.blocked.contains(&peer) => false,
            Accepts::None => {
                self.end_request(&peer);
                self.last_request += 1;
                self.requests.push((peer.clone(), self.last_request));
                let is_stranger = !self.people.is_known(&peer) && !self.called.contains(&peer);
                let count = if is_stranger { &mut self.strange_calls } else { &mut self.known_calls }.count(now);
                if count > SHOWN {
                    self.untold.insert(peer.clone());
                }
                let called = self.people.aliases.get(&peer).filter(|_| count <= SHOWN).map(|name| {
                    let (alias, name) = (screen::name(&peer), screen::name(name));
                    notice(&format!("{alias} is what you call {name}, but this is somebody else, whose name it is"))
                });
                let mut effects = vec![Effect::Show(Report::Request { peer, number: self.last_request, count })];
                effects.extend(called);
                return effects;
            }
            Accepts::All => true,
            Accepts::Only(peers) => peers.contains(&peer),
        };
        if !is_taken {
            return vec![Effect::Decline(peer)];
        }
        if self.script.accepts == Accepts::All && !self.called.contains(&peer) {
            self.unnamed.insert(peer.clone());
        }
        self.set_state(&peer, State::Calling);
        vec![Effect::Accept(peer)]
    }

    fn opened(&mut self, peer: String) -> Vec<Effect> {
        self.has_opened = true;
        let is_current = self.current.as_ref() == Some(&peer);
        let mut effects = vec![Effect::Show(Report::Open { peer: peer.clone(), is_current })];
        effects.extend(self.send_waiting(peer));
        effects
    }

    /// A chat is open, or open again: what waits for it goes out.
    fn send_waiting(&mut self, peer: String) -> Vec<Effect> {
        let is_proven = matches!(self.people.trust_in(&peer), Some(Trust::Known | Trust::Verified));
        self.set_state(&peer, State::Open);
        let chat = self.chat_or_new(&peer);
        let mut texts = VecDeque::new();
        // What was kept is for whoever it was typed for.
        if is_proven {
            let (unsure, kept) = chat.kept.drain(..).partition(|(_, needs_word)| *needs_word);
            chat.kept = unsure;
            texts.extend(kept.into_iter().map(|(text, _)| text));
        }
        texts.append(&mut chat.waiting);
        texts.into_iter().map(|text| Effect::Send { peer: peer.clone(), text }).collect()
    }

    fn delivered(&mut self, peer: String, number: u64) -> Vec<Effect> {
        let Some(chat) = self.chat_mut(&peer) else { return Vec::new() };
        let count = chat.underway.iter().take_while(|(sent, _)| *sent <= number).count();
        if count == 0 {
            return Vec::new();
        }
        chat.has_delivered = true;
        let ids = chat.underway.drain(..count).map(|(_, id)| id).collect();
        vec![Effect::Show(Report::Delivered { peer, ids })]
    }

    fn not_sent(&mut self, peer: String, number: u64, text: String, reason: NotSentReason) -> Vec<Effect> {
        self.fail(self.cause.unwrap_or(Failure::Lost));
        let is_finishing = self.is_finishing;
        let chat = self.chat_or_new(&peer);
        let at = chat.underway.iter().position(|(sent, _)| *sent == number);
        let id = at.and_then(|at| chat.underway.remove(at)).and_then(|(_, id)| id);
        let is_kept =
            !is_finishing && !matches!(reason, NotSentReason::TooLong { .. }) && chat.kept.len() < MAX_WAITING;
        if is_kept {
            let needs_word = reason == NotSentReason::Unconfirmed;
            chat.kept.push_back((Text { text: text.clone(), id: id.clone() }, needs_word));
        }
        vec![Effect::Show(Report::NotSent { peer: Some(peer), text, id, reason, is_kept })]
    }

    fn closed(&mut self, peer: String, reason: CloseReason) -> Vec<Effect> {
        if let CloseReason::IdentityChanged { identity, .. } = reason
            && self.people.has_made_way(&peer, identity)
        {
            let name = screen::name(&peer);
            return vec![notice(&format!("the chat with {name} that was open ends: the link may name somebody else"))];
        }
        let mut effects = vec![Effect::Show(Report::Closed { peer: peer.clone(), reason: reason.clone() })];
        if let CloseReason::IdentityChanged { own, known, identity } = &reason {
            effects.extend(self.people.changed(&peer, *own, known, *identity));
        }
        if reason == CloseReason::NoAnswer {
            effects.extend(self.people.unanswered(&peer));
        }
        // Lines go on to a chat that takes the place of this one.
        if reason == CloseReason::Replaced {
            self.set_state(&peer, State::Calling);
            return effects;
        }
        self.has_closed |= self.chat(&peer).is_some_and(Chat::is_open);
        self.people.left(&peer);
        let failure = cause(&reason);
        self.cause = failure.or(self.cause);
        if self.script.ends_with_chat {
            self.is_finishing = true;
            failure.into_iter().for_each(|failure| self.fail(failure));
        }
        if self.is_finishing && self.chat(&peer).is_some_and(|chat| chat.state == State::Calling) {
            failure.into_iter().for_each(|failure| self.fail(failure));
        }
        self.set_state(&peer, State::Closed);
        effects.extend(self.give_back(&peer, failure.unwrap_or(Failure::Lost)));
        if let Some(chat) = self.chat_mut(&peer) {
            chat.underway.clear();
        }
        if reason == CloseReason::Left && self.current.as_ref() == Some(&peer) {
            self.current = None;
        }
        if matches!(reason, CloseReason::NotOnline | CloseReason::Oneself) {
            effects.extend(self.mistyped(&peer));
        }
        self.forget_if_empty(&peer);
        effects
    }

    /// A call has found nobody. A name that was never met may be mistyped, so what is typed next is not kept for it.
    fn mistyped(&mut self, peer: &str) -> Vec<Effect> {
        let is_kept = self.chat(peer).is_some_and(|chat| !chat.kept.is_empty());
        if !self.script.has_person || is_kept || self.people.is_known(peer) || self.people.is_present(peer) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if self.current.as_deref() == Some(peer) {
            // Nothing was typed for it, so lines go on to whom they went before.
            self.current = self.before.take().filter(|before| self.chat(before).is_some_and(Chat::is_open));
            effects.extend(self.current.as_deref().map(lines_go_to));
        }
        let near = self.people.nearest(peer);
        effects.extend(near.map(|near| notice(&format!("did you mean {0}? /connect {0}", screen::name(&near)))));
        effects
    }

    /// An accepted request came to nothing; a chat that was open before still is.
    fn refused(&mut self, peer: String, reason: CloseReason) -> Vec<Effect> {
        let mut effects = vec![Effect::Show(Report::Refused { peer: peer.clone(), reason: reason.clone() })];
        if let CloseReason::IdentityChanged { own, known, identity } = &reason {
            effects.extend(self.people.changed(&peer, *own, known, *identity));
        }
        self.cause = cause(&reason).or(self.cause);
        let state = if self.people.is_present(&peer) { State::Open } else { State::Closed };
        self.set_state(&peer, state);
        // What was typed since was meant for whom the user had accepted.
        effects.extend(self.give_back(&peer, Failure::Untrusted));
        self.forget_if_empty(&peer);
        effects
    }

    fn text(&mut self, text: Text) -> Vec<Effect> {
        let Some(peer) = self.current.clone() else {
            // Where a line goes to nobody, these words are meant for the program.
            if self.script.has_person {
                match text.text.trim() {
                    "quit" | "exit" => return self.give_up(),
                    "help" | "?" => return vec![Effect::Show(Report::Help(None))],
                    _ => {}
                }
            }
            let open = self.chats.iter().rev().find(|chat| chat.is_open());
            let hint = match (self.requests.first(), open) {
                (Some((peer, _)), _) => format!("/accept {} first", screen::name(peer)),
                (None, Some(chat)) => format!("/to {} to write to them", screen::name(&chat.peer)),
                (None, None) => "/connect NAME first".to_owned(),
            };
            self.fail(Failure::Lost);
            let Text { text, id } = text;
            let report = Report::NotSent { peer: None, text, id, reason: NotSentReason::NotOpen, is_kept: false };
            return vec![Effect::Show(report), notice(&hint)];
        };
        self.send(&peer, text)
    }

    /// Sends a text in the chat with `peer`, or keeps it until there is one.
    fn send(&mut self, peer: &str, text: Text) -> Vec<Effect> {
        let cause = self.cause;
        let is_finishing = self.is_finishing;
        let chat = self.chat_or_new(peer);
        chat.unread = 0;
        match chat.state {
            State::Open | State::Interrupted => return vec![Effect::Send { peer: peer.to_owned(), text }],
            State::Pending | State::Calling if chat.has_room() => {
                chat.waiting.push_back(text);
                return Vec::new();
            }
            _ => {}
        }
        let is_kept = !is_finishing && chat.kept.len() < MAX_WAITING;
        if is_kept {
            chat.kept.push_back((text.clone(), false));
        }
        self.fail(cause.unwrap_or(Failure::Lost));
        let Text { text, id } = text;
        let peer = Some(peer.to_owned());
        vec![Effect::Show(Report::NotSent { peer, text, id, reason: NotSentReason::NotOpen, is_kept })]
    }

    /// A text for `peer`, who is called if there is no chat yet; lines go where they went.
    fn message(&mut self, peer: String, text: Text) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.chat(&peer).is_none_or(|chat| chat.state == State::Closed) {
            match self.call(&peer) {
                Ok(called) => effects = called,
                Err(refused) => return refused,
            }
        }
        effects.extend(self.send(&peer, text));
        effects
    }

    fn paste(&mut self, text: String) -> Vec<Effect> {
        let Some(peer) = self.current.clone() else { return self.text(Text { text, id: None }) };
        let text = text.strip_suffix('\n').map_or(text.clone(), str::to_owned);
        let count = text.split('\n').count();
        let question = format!("send these {count} lines to {} as one text? y or n", screen::name(&peer));
        let mut effects = self.drop_paste();
        self.pasted = Some((peer, text));
        effects.push(notice(&question));
        effects
    }

    /// What was pasted for another, or before something else, is not sent by a word that may be meant otherwise.
    fn drop_paste(&mut self) -> Vec<Effect> {
        let pasted = self.pasted.take();
        pasted.map(|_| notice("the lines that were pasted before are not sent")).into_iter().collect()
    }

    fn answer_paste(&mut self, (peer, pasted): (String, String), answer: String, id: Option<String>) -> Vec<Effect> {
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => self.send(&peer, Text { text: pasted, id: None }),
            "n" | "no" => vec![notice("the pasted lines are not sent")],
            // It is a text of its own. What was pasted goes on waiting.
            _ => {
                let mut effects = self.text(Text { text: answer, id });
                effects.push(notice(&format!("the pasted lines for {} still wait: y or n", screen::name(&peer))));
                self.pasted = Some((peer, pasted));
                effects
            }
        }
    }

    fn connect(&mut self, peer: String) -> Vec<Effect> {
        if self.is_requesting(&peer) {
            return self.answer(Some(peer), None, true);
        }
        match self.chat(&peer).map_or(State::Closed, |chat| chat.state) {
            State::Closed => match self.call(&peer) {
                Ok(effects) => {
                    self.turn_to(&peer);
                    effects
                }
                Err(effects) => effects,
            },
            State::Open | State::Interrupted => {
                self.turn_to(&peer);
                vec![lines_go_to(&peer)]
            }
            state => {
                self.turn_to(&peer);
                vec![calling(&peer, state == State::Pending)]
            }
        }
    }

    fn connect_by(&mut self, link: &Link) -> Vec<Effect> {
        match self.people.connect_by(link) {
            Ok((peer, mut effects)) => {
                // A chat with somebody else under that name ends by this, and is called anew.
                if !self.people.is_with(&peer, link.identity) && self.chat(&peer).is_some_and(Chat::is_open) {
                    self.set_state(&peer, State::Closed);
                }
                effects.extend(self.connect(peer));
                effects
            }
            Err(effects) => {
                self.fail(Failure::Lost);
                effects
            }
        }
    }

    /// Calls a peer, now or as soon as the server is there.
    fn call(&mut self, peer: &str) -> Result<Vec<Effect>, Vec<Effect>> {
        if !is_username(peer) {
            return Err(self.refuse(&format!("nobody can be called {}", screen::name(peer))));
        }
        self.unnamed.remove(peer);
        self.called.insert(peer.to_owned());
        if self.blocked.contains(peer) {
            let name = screen::name(peer);
            return Err(self.refuse(&format!("{name} is blocked; /unblock {name} first")));
        }
        if self.is_cut_off {
            return Err(self.refuse("you are offline, and the server is not sought any more; /online seeks it again"));
        }
        let is_waiting = self.server != Server::Online;
        self.set_state(peer, if is_waiting { State::Pending } else { State::Calling });
        let mut effects = vec![calling(peer, is_waiting)];
        effects.extend((!is_waiting).then(|| Effect::Connect(peer.to_owned())));
        Ok(effects)
    }

    fn to(&mut self, peer: String) -> Vec<Effect> {
        if self.chat(&peer).is_none() {
            let name = screen::name(&peer);
            return self.refuse(&format!("there is no chat with {name}; /connect {name} begins one"));
        }
        self.turn_to(&peer);
        let mut effects = self.drop_paste();
        effects.push(lines_go_to(&peer));
        effects
    }

    fn retry(&mut self, peer: Option<String>) -> Vec<Effect> {
        let with_kept = || self.chats.iter().rev().find(|chat| !chat.kept.is_empty()).map(|chat| chat.peer.clone());
        let Some(peer) = peer.or_else(|| self.current.clone()).or_else(with_kept) else {
            return self.refuse("nothing is kept to be sent again");
        };
        let Some(chat) = self.chat_mut(&peer).filter(|chat| !chat.kept.is_empty()) else {
            return self.refuse(&format!("nothing is kept for {}", screen::name(&peer)));
        };
        let kept: Vec<Text> = chat.kept.drain(..).map(|(text, _)| text).collect();
        if chat.is_open() {
            return kept.into_iter().map(|text| Effect::Send { peer: peer.clone(), text }).collect();
        }
        chat.waiting.extend(kept);
        match chat.state {
            State::Closed => self.connect(peer),
            state => vec![calling(&peer, state == State::Pending)],
        }
    }

    /// Whether there is somebody of this name, as far as is known here.
    fn is_met(&self, peer: &str) -> bool {
        let is_here = self.chat(peer).is_some_and(Chat::is_open) || self.is_requesting(peer);
        is_here || self.people.is_known(peer) || self.people.is_present(peer)
    }

    /// A request waits no longer; whether it was told that it came.
    fn end_request(&mut self, peer: &str) -> bool {
        self.requests.retain(|(caller, _)| caller != peer);
        !self.untold.remove(peer)
    }

    fn is_requesting(&self, peer: &str) -> bool {
        self.requests.iter().any(|(caller, _)| caller == peer)
    }

    fn answer(&mut self, peer: Option<String>, number: Option<u64>, is_accepted: bool) -> Vec<Effect> {
        let numbered = self.requests.iter().find(|(_, other)| Some(*other) == number).map(|(peer, _)| peer.clone());
        if !is_accepted
            && let Some(peer) = peer.as_ref().filter(|peer| numbered.is_none() && !self.is_requesting(peer))
            && self.people.was_turned_away(peer)
        {
            let line = format!("{} is told that you will not talk to them", screen::name(peer));
            return vec![notice(&line), Effect::Decline(peer.clone())];
        }
        let peer = match (numbered.or(peer), number, &self.requests[..]) {
            (_, _, []) => return self.refuse("nobody is calling"),
            (Some(peer), _, _) if self.is_requesting(&peer) => peer,
            (Some(peer), _, _) => return self.refuse(&format!("{} is not calling", screen::name(&peer))),
            (None, Some(number), _) => return self.refuse(&format!("there is no call {number}")),
            (None, None, [(only, _)]) => only.clone(),
            (None, None, requests) => {
                let request = |(peer, number): &(String, u64)| format!("{} (call {number})", screen::name(peer));
                let names: Vec<String> = requests.iter().map(request).collect();
                return self.refuse(&format!("several are calling, so say whom: {}", names.join(", ")));
            }
        };
        self.end_request(&peer);
        if !is_accepted {
            return vec![notice(&format!("declined {}", screen::name(&peer))), Effect::Decline(peer)];
        }
        // A chat that is open with the same peer makes room for the new one.
        self.set_state(&peer, State::Calling);
        self.turn_to(&peer);
        vec![lines_go_to(&peer), Effect::Accept(peer)]
    }

    fn leave(&mut self, peer: Option<String>) -> Vec<Effect> {
        let Some(peer) = peer.or_else(|| self.current.clone()) else {
            return match self.still_open() {
                Some(line) => vec![line],
                None => self.refuse("there is no chat to leave"),
            };
        };
        let Some(chat) = self.chat_mut(&peer) else {
            return self.refuse(&format!("there is no chat with {}", screen::name(&peer)));
        };
        let kept = std::mem::take(&mut chat.kept).len();
        let mut effects: Vec<Effect> = (kept > 0).then(|| lost(kept, &peer)).into_iter().collect();
        match chat.state {
            State::Calling | State::Open | State::Interrupted => {
                effects.push(Effect::Leave(peer));
                effects
            }
            // A call that was not made yet ends here.
            State::Closed | State::Pending => {
                if chat.state == State::Pending {
                    chat.state = State::Closed;
                    effects.push(notice(&format!("{} is not called", screen::name(&peer))));
                }
                effects.extend(self.give_back(&peer, Failure::Lost));
                self.chats.retain(|chat| chat.peer != peer);
                if self.current.as_ref() == Some(&peer) {
                    self.current = None;
                    effects.push(self.still_open().unwrap_or_else(|| notice("you are writing to nobody now")));
                }
                effects
            }
        }
    }

    fn block(&mut self, peer: String) -> Vec<Effect> {
        if peer == self.people.name {
            return self.refuse("that is you");
        }
        self.blocked.insert(peer.clone());
        let mut effects = vec![notice(&format!("{} is blocked", screen::name(&peer)))];
        if self.is_requesting(&peer) {
            self.end_request(&peer);
            effects.push(Effect::Decline(peer.clone()));
        }
        if self.chat(&peer).is_some_and(|chat| chat.state != State::Closed) {
            effects.extend(self.leave(Some(peer.clone())));
        }
        effects.push(Effect::Block { peer, is_blocked: true });
        effects
    }

    fn who(&self) -> Effect {
        let report = |chat: &Chat| ChatReport {
            peer: chat.peer.clone(),
            state: match chat.state {
                State::Closed => ChatState::Closed,
                State::Pending | State::Calling => ChatState::Calling,
                State::Open => ChatState::Open,
                State::Interrupted => ChatState::Interrupted,
            },
            trust: self.people.trust_in(&chat.peer),
            unread: chat.unread,
            underway: chat.underway.len(),
            kept: chat.waiting.len() + chat.kept.len(),
        };
        Effect::Show(Report::Who {
            current: self.current.clone(),
            chats: self.chats.iter().map(report).collect(),
            requests: self.requests.clone(),
        })
    }

    /// Does something about a peer; without a name, about the current one.
    fn with(&mut self, peer: Option<String>, act: impl FnOnce(&mut People, &str) -> Vec<Effect>) -> Vec<Effect> {
        match peer.or_else(|| self.current.clone()) {
            Some(peer) => self.noting_mistakes(|people| act(people, &peer)),
            None => self.refuse("you are writing to nobody, so say whom you mean"),
        }
    }

    /// A script wants to know that a line of it did nothing.
    fn noting_mistakes(&mut self, act: impl FnOnce(&mut People) -> Vec<Effect>) -> Vec<Effect> {
        let effects = act(&mut self.people);
        if effects.iter().any(|effect| matches!(effect, Effect::Show(Report::Mistake(_)))) {
            self.fail(Failure::Lost);
        }
        effects
    }

    fn refuse(&mut self, reason: &str) -> Vec<Effect> {
        self.fail(Failure::Lost);
        vec![mistake(reason)]
    }

    /// The first failure is the one that is told.
    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// Lines go to `peer` from now on.
    fn turn_to(&mut self, peer: &str) {
        let before = self.current.replace(peer.to_owned());
        if before.as_deref() != Some(peer) {
            self.before = before;
        }
        self.chat_or_new(peer).unread = 0;
    }

    /// Says of each text that waits for `peer` that it was not sent, and keeps it unless the program is about to end.
    fn give_back(&mut self, peer: &str, failure: Failure) -> Vec<Effect> {
        let is_kept = !self.is_finishing;
        let Some(chat) = self.chat_mut(peer) else { return Vec::new() };
        let waiting = std::mem::take(&mut chat.waiting);
        if is_kept {
            chat.kept.extend(waiting.iter().map(|text| (text.clone(), failure == Failure::Untrusted)));
        }
        if !waiting.is_empty() {
            self.fail(failure);
        }
        let report = |Text { text, id }| {
            let (peer, reason) = (Some(peer.to_owned()), NotSentReason::NotOpen);
            Effect::Show(Report::NotSent { peer, text, id, reason, is_kept })
        };
        waiting.into_iter().map(report).collect()
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
                state: State::Closed,
                waiting: VecDeque::new(),
                kept: VecDeque::new(),
                underway: VecDeque::new(),
                unread: 0,
                has_delivered: false,
            },
        };
        self.chats.push(chat);
        self.chats.last_mut().expect("it was just put there")
    }

    fn set_state(&mut self, peer: &str, state: State) {
        self.chat_or_new(peer).state = state;
    }

    /// A chat that is over and of which nothing is left is not listed any more.
    fn forget_if_empty(&mut self, peer: &str) {
        let current = self.current.as_deref();
        self.chats.retain(|chat| {
            chat.peer != peer
                || chat.state != State::Closed
                || chat.unread + chat.kept.len() > 0
                || current == Some(peer)
        });
    }
}

/// Whether this sets something that runs a program.
fn runs_a_program(command: &Command) -> bool {
    let Command::Set { name: Some(name), value: Some(value) } = command else { return false };
    name == "notify" && is_on(value) != Some(false)
}

/// What it means for a script that a chat has ended like this; nothing where it has ended well.
fn cause(reason: &CloseReason) -> Option<Failure> {
    match reason {
        CloseReason::Left | CloseReason::PeerLeft | CloseReason::Replaced => None,
        CloseReason::ServerLost => Some(Failure::NoServer),
        CloseReason::IdentityChanged { .. }
        | CloseReason::NotProven
        | CloseReason::Unproven
        | CloseReason::KeyChanged
        | CloseReason::BadKey => Some(Failure::Untrusted),
        CloseReason::Unreadable | CloseReason::Exhausted | CloseReason::RulesBroken { .. } => Some(Failure::Lost),
        _ => Some(Failure::Unreached),
    }
}

pub(super) fn notice(text: &str) -> Effect {
    Effect::Show(Report::Notice(text.to_owned()))
}

pub(super) fn mistake(text: &str) -> Effect {
    Effect::Show(Report::Mistake(text.to_owned()))
}

/// What a line says to a question.
fn yes_or_no(command: &Command) -> Option<bool> {
    let Command::Send { peer: None, text, .. } = command else { return None };
    match text.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

/// So many texts, in words.
fn texts(count: usize) -> String {
    if count == 1 { "one text".to_owned() } else { format!("{count} texts") }
}

/// Texts that were kept to be sent later, and never will be.
fn lost(count: usize, peer: &str) -> Effect {
    notice(&format!("{} for {}: not sent, and not kept any longer", texts(count), screen::name(peer)))
}

fn calling(peer: &str, is_waiting: bool) -> Effect {
    Effect::Show(Report::Calling { peer: peer.to_owned(), is_waiting })
}

fn lines_go_to(peer: &str) -> Effect {
    notice(&format!("you are writing to {} now", screen::name(peer)))
}

/// Texts that may wait for a chat to open, and as many that may be kept for another time.
const MAX_WAITING: usize = 1000;

/// Bytes of texts that may wait for a chat to open before there is no room for another. All of them go out at once then, and have to
/// fit into what may wait to be acknowledged.
const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// What a script is told that wants to set what runs a program.
const ONLY_BY_HAND: &str = "what runs a program is not set by a script's line, but with --notify, LOWKEY_NOTIFY, notify in \
     config.toml, or by hand at a terminal; off can be said everywhere";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::keys::KeyPair;
    use crate::peer::trust::KnownPeers;

    impl Conversation {
        /// An event, and what is done if that was the end.
        fn happened(&mut self, event: Event) -> Vec<Effect> {
            let mut effects = self.event(event, Instant::now());
            effects.extend(self.end_if_finished());
            effects
        }

        fn finished(&mut self) -> Vec<Effect> {
            self.finish();
            self.end_if_finished()
        }
    }

    fn start(script: Script) -> Conversation {
        let people = People::new("alice", None, "chat.example", false, KnownPeers::default(), "2026-11-23");
        Conversation::new(people, BTreeSet::new(), script)
    }

    fn typed(conversation: &mut Conversation, line: &str) -> Vec<Effect> {
        conversation.command(Command::parse(line))
    }

    /// A prompt whose server is there.
    fn online() -> Conversation {
        let mut chat = start(Script::default());
        chat.happened(Event::Online);
        chat
    }

    fn bob() -> String {
        "bob".to_owned()
    }

    fn open(peer: &str) -> Event {
        Event::Open { peer: peer.to_owned() }
    }

    fn closed(peer: &str, reason: CloseReason) -> Event {
        Event::Closed { peer: peer.to_owned(), reason }
    }

    /// A prompt with an open chat with bob, who has proven who he is.
    fn with_bob(trust: Trust) -> Conversation {
        let mut chat = online();
        typed(&mut chat, "/connect bob");
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: bob(), trust, own, other });
        chat.happened(open("bob"));
        chat
    }

    fn send(text: &str) -> Effect {
        Effect::Send { peer: bob(), text: Text { text: text.to_owned(), id: None } }
    }

    /// What is to be done, without what is only shown.
    fn done(effects: Vec<Effect>) -> Vec<Effect> {
        effects.into_iter().filter(|effect| !matches!(effect, Effect::Show(_))).collect()
    }

    /// The texts that were told not to be sent, and whether they are kept.
    fn not_sent(effects: &[Effect]) -> Vec<(&str, bool)> {
        let text = |effect: &'_ Effect| match effect {
            Effect::Show(Report::NotSent { text, is_kept, .. }) => Some((text.clone(), *is_kept)),
            _ => None,
        };
        effects.iter().filter_map(text).map(|(text, is_kept)| (&*text.leak(), is_kept)).collect()
    }

    #[test]
    fn lines_go_to_the_chat_and_those_typed_ahead_wait_for_it() {
        let mut chat = online();
        assert_eq!(typed(&mut chat, "/connect bob"), [calling("bob", false), Effect::Connect(bob())]);
        assert_eq!(typed(&mut chat, "one"), []);
        assert_eq!(typed(&mut chat, "two"), []);
        assert_eq!(done(chat.happened(open("bob"))), [send("one"), send("two")]);
        assert_eq!(typed(&mut chat, "three"), [send("three")]);
        assert_eq!(typed(&mut chat, "/leave"), [Effect::Leave(bob())]);
        chat.happened(closed("bob", CloseReason::Left));
        let effects = typed(&mut chat, "four");
        assert_eq!(not_sent(&effects), [("four", false)]);
        assert_eq!(effects[1], notice("/connect NAME first"));
    }

    #[test]
    fn what_was_typed_for_one_is_never_sent_to_another() {
        let mut chat = online();
        typed(&mut chat, "/connect carol");
        assert_eq!(typed(&mut chat, "for carol"), []);
        assert_eq!(done(typed(&mut chat, "/connect bob")), [Effect::Connect(bob())]);
        typed(&mut chat, "for bob");
        let for_carol = Text { text: "for carol".to_owned(), id: None };
        assert_eq!(done(chat.happened(open("carol"))), [Effect::Send { peer: "carol".to_owned(), text: for_carol }]);
        assert_eq!(done(chat.happened(open("bob"))), [send("for bob")]);
        chat.happened(closed("bob", CloseReason::PeerLeft));
        assert_eq!(not_sent(&typed(&mut chat, "a secret for bob")), [("a secret for bob", true)]);
        assert_eq!(done(chat.happened(open("dave"))), [], "who picks up late gets none of it");
        assert_eq!(done(typed(&mut chat, "/to dave")), []);
        assert_eq!(chat.failure(), Some(Failure::Lost));
    }

    #[test]
    fn what_could_not_be_sent_is_kept_and_goes_out_when_the_peer_is_back() {
        let mut chat = with_bob(Trust::Known);
        chat.happened(closed("bob", CloseReason::ConnectionLost));
        assert_eq!(not_sent(&typed(&mut chat, "kept")), [("kept", true)]);
        assert_eq!(chat.prompt().mark, Mark::Closed);
        chat.happened(Event::Request { peer: bob() });
        typed(&mut chat, "/accept");
        typed(&mut chat, "newer");
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: bob(), trust: Trust::Known, own, other });
        assert_eq!(done(chat.happened(open("bob"))), [send("kept"), send("newer")]);
    }

    #[test]
    fn what_is_kept_goes_to_a_stranger_only_if_the_user_says_so() {
        let mut chat = with_bob(Trust::Unproven);
        chat.happened(closed("bob", CloseReason::PeerLeft));
        typed(&mut chat, "for the bob of before");
        chat.happened(Event::Request { peer: bob() });
        typed(&mut chat, "/accept");
        assert_eq!(done(chat.happened(open("bob"))), []);
        assert_eq!(typed(&mut chat, "/retry"), [send("for the bob of before")]);
        assert!(matches!(typed(&mut chat, "/retry")[..], [Effect::Show(Report::Mistake(_))]), "nothing is left");
    }

    #[test]
    fn what_may_have_arrived_is_sent_again_only_if_the_user_says_so() {
        let mut chat = with_bob(Trust::Known);
        assert_eq!(typed(&mut chat, "perhaps"), [send("perhaps")]);
        chat.sent("bob", 1, None);
        let (text, reason) = ("perhaps".to_owned(), NotSentReason::Unconfirmed);
        chat.happened(Event::NotSent { peer: bob(), id: 1, text, reason });
        chat.happened(closed("bob", CloseReason::ConnectionLost));
        assert_eq!(done(typed(&mut chat, "/connect bob")), [Effect::Connect(bob())]);
        assert_eq!(done(chat.happened(open("bob"))), []);
        assert_eq!(done(typed(&mut chat, "/retry bob")), [send("perhaps")]);
    }

    #[test]
    fn the_prompt_shows_whether_all_has_arrived() {
        let mut chat = with_bob(Trust::Known);
        assert_eq!(chat.prompt().mark, Mark::None);
        for number in 1..=3 {
            typed(&mut chat, "x");
            chat.sent("bob", number, Some(format!("id {number}")));
        }
        assert_eq!(chat.prompt().mark, Mark::Busy);
        let ids = vec![Some("id 1".to_owned()), Some("id 2".to_owned())];
        let delivered = Event::Delivered { peer: bob(), id: 2 };
        assert_eq!(chat.happened(delivered.clone()), [Effect::Show(Report::Delivered { peer: bob(), ids })]);
        assert_eq!(chat.happened(delivered), []);
        assert_eq!(chat.prompt().mark, Mark::Busy);
        chat.happened(Event::Delivered { peer: bob(), id: 3 });
        assert_eq!(chat.prompt().mark, Mark::Delivered);
        chat.happened(Event::Interrupted { peer: bob() });
        assert_eq!(chat.prompt().mark, Mark::Busy);
        assert_eq!(typed(&mut chat, "kept by the peer"), [send("kept by the peer")]);
    }

    #[test]
    fn texts_of_others_are_counted_until_the_user_turns_to_them() {
        let mut chat = with_bob(Trust::Known);
        chat.happened(open("carol"));
        for text in ["one", "two"] {
            chat.happened(Event::Message { peer: "carol".to_owned(), text: text.to_owned() });
        }
        chat.happened(Event::Message { peer: bob(), text: "seen".to_owned() });
        assert_eq!((chat.prompt().peer, chat.prompt().unread), (Some(bob()), 2));
        typed(&mut chat, "/to carol");
        assert_eq!((chat.prompt().peer, chat.prompt().unread), (Some("carol".to_owned()), 0));
        assert_eq!(chat.names()[0], "carol");
    }

    #[test]
    fn a_message_goes_to_whom_it_names_and_calls_them() {
        let mut chat = with_bob(Trust::Known);
        assert_eq!(done(typed(&mut chat, "/msg carol hello")), [Effect::Connect("carol".to_owned())]);
        let hello = Effect::Send { peer: "carol".to_owned(), text: Text { text: "hello".to_owned(), id: None } };
        assert_eq!(done(chat.happened(open("carol"))), [hello]);
        assert_eq!(typed(&mut chat, "to bob"), [send("to bob")]);
    }

    #[test]
    fn a_call_that_fails_keeps_its_lines() {
        let mut chat = start(Script::default());
        assert_eq!(typed(&mut chat, "/connect bob"), [calling("bob", true)]);
        assert_eq!(typed(&mut chat, "hello"), []);
        assert_eq!(done(chat.happened(Event::Online)), [Effect::Connect(bob())]);
        assert_eq!(not_sent(&chat.happened(closed("bob", CloseReason::NotOnline))), [("hello", true)]);
        assert_eq!(chat.failure(), Some(Failure::Unreached));
        assert_eq!(done(chat.happened(Event::Online)), [], "the call is made once");
    }

    #[test]
    fn a_request_is_accepted_or_declined_by_name_or_as_the_only_one() {
        let mut chat = online();
        assert_eq!(typed(&mut chat, "/accept"), [mistake("nobody is calling")]);
        chat.happened(Event::Request { peer: bob() });
        assert_eq!(done(typed(&mut chat, "/accept carol")), []);
        assert_eq!(done(typed(&mut chat, "/accept")), [Effect::Accept(bob())]);
        assert_eq!(typed(&mut chat, "early"), []);
        assert_eq!(done(chat.happened(open("bob"))), [send("early")]);
        chat.happened(Event::Request { peer: "carol".to_owned() });
        chat.happened(Event::Request { peer: "dave".to_owned() });
        let several = "several are calling, so say whom: carol (call 2), dave (call 3)";
        assert_eq!(typed(&mut chat, "/decline"), [mistake(several)]);
        assert_eq!(done(typed(&mut chat, "/decline carol")), [Effect::Decline("carol".to_owned())]);
        chat.happened(Event::RequestEnded { peer: "dave".to_owned() });
        assert_eq!(typed(&mut chat, "/accept"), [mistake("nobody is calling")]);
    }

    #[test]
    fn a_hint_that_is_followed_means_whom_it_names() {
        let mut chat = online();
        let called = |peer: &str| Event::Request { peer: peer.to_owned() };
        for peer in ["other", "1", "yes"] {
            chat.happened(called(peer));
        }
        typed(&mut chat, "/decline other");
        let hint = typed(&mut chat, "hello").pop();
        assert_eq!(hint, Some(notice("/accept \"1\" first")));
        assert_eq!(done(typed(&mut chat, "/accept \"1\"")), [Effect::Accept("1".to_owned())]);
        typed(&mut chat, "/accept \"yes\"");
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        let told = chat.happened(Event::Identified { peer: "yes".to_owned(), trust: Trust::New, own, other });
        let Effect::Show(report) = &told[0] else { panic!("{told:?}") };
        let line = screen::line(report, screen::Look::default(), "").unwrap().text;
        assert!(line.contains("/verify \"yes\" tells"), "{line}");
        let shown = typed(&mut chat, "/verify \"yes\"");
        assert!(matches!(&shown[..], [Effect::Show(Report::SafetyNumber { peer, .. })] if peer == "yes"), "{shown:?}");
    }

    #[test]
    fn of_many_calls_five_are_told_and_all_can_be_answered() {
        let mut chat = with_bob(Trust::New);
        chat.happened(closed("bob", CloseReason::PeerLeft));
        let now = Instant::now();
        let told = |effects: &[Effect]| -> Vec<String> {
            let line = |effect: &Effect| match effect {
                Effect::Show(report) => screen::line(report, screen::Look::default(), "").map(|line| line.text),
                _ => None,
            };
            effects.iter().filter_map(line).collect()
        };
        let is_news = |effect: &Effect| matches!(effect, Effect::Show(report) if screen::is_news(report));
        let (mut lines, mut news) = (Vec::new(), 0);
        for index in 0..3000 {
            let peer = format!("stranger_{}", index % 7);
            let effects = chat.event(Event::Request { peer: peer.clone() }, now);
            news += effects.iter().filter(|effect| is_news(effect)).count();
            lines.extend(told(&effects));
            lines.extend(told(&chat.event(Event::RequestEnded { peer }, now)));
        }
        assert_eq!(lines.len(), 5 + 5 + 3, "and a line for each power of ten: {lines:?}");
        assert_eq!(news, 5, "bells, and runs of the user's command");
        assert!(lines[8].contains("more calls in this minute are only counted"), "{}", lines[8]);
        assert_eq!(lines[12], "* 1000 calls within a minute; /who lists who is calling");
        // Who is known is still heard of.
        assert_eq!(told(&chat.event(Event::Request { peer: bob() }, now)).len(), 1);
        chat.event(Event::RequestEnded { peer: bob() }, now);
        assert_eq!(told(&chat.event(Event::Request { peer: "late".to_owned() }, now)), [""; 0]);
        let who = told(&typed(&mut chat, "/who"));
        assert!(who[0].contains("calling you: late"), "{who:?}");
        assert_eq!(done(typed(&mut chat, "/accept")), [Effect::Accept("late".to_owned())]);
        let later = now + std::time::Duration::from_secs(60);
        assert_eq!(told(&chat.event(Event::Request { peer: "carol".to_owned() }, later)).len(), 1);
    }

    #[test]
    fn a_request_is_answered_by_its_number_which_is_never_used_again() {
        let mut chat = online();
        let call = |chat: &mut Conversation, peer: &str| chat.happened(Event::Request { peer: peer.to_owned() });
        let decline = |peer: &str| [Effect::Decline(peer.to_owned())];
        for (number, peer) in [(1, "bob"), (2, "a b"), (3, "2")] {
            let report = Report::Request { peer: peer.to_owned(), number, count: number };
            assert_eq!(call(&mut chat, peer), [Effect::Show(report)]);
        }
        assert_eq!(done(typed(&mut chat, "/decline 2")), decline("a b"), "the number goes before a name of digits");
        assert_eq!(done(typed(&mut chat, "/decline \"2\"")), decline("2"));
        assert_eq!(done(typed(&mut chat, "/decline 2")), []);
        call(&mut chat, "a b");
        assert_eq!(done(typed(&mut chat, "/decline \"a b\"")), decline("a b"));
        call(&mut chat, "carol");
        assert_eq!(done(typed(&mut chat, "/accept 4")), [], "who called again has another number");
        let command = super::super::json::command(r#"{"command":"accept","number":5}"#);
        assert_eq!(done(chat.command(command)), [Effect::Accept("carol".to_owned())]);
        for _ in 0..2 {
            call(&mut chat, "dave");
        }
        assert_eq!(done(typed(&mut chat, "/decline dave")), decline("dave"));
        assert_eq!(done(typed(&mut chat, "/decline dave")), [], "a caller has one request");
    }

    #[test]
    fn who_was_taken_without_being_named_is_known_for_this_run_only() {
        let identified = |chat: &mut Conversation, peer: &str| {
            let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
            let event = Event::Identified { peer: peer.to_owned(), trust: Trust::New, own, other };
            matches!(done(chat.happened(event))[..], [Effect::Remember { .. }])
        };
        let script = |accepts| Script { accepts, ..Script::default() };
        let mut all = start(script(Accepts::All));
        all.happened(Event::Online);
        all.happened(Event::Request { peer: bob() });
        assert!(!identified(&mut all, "bob"));
        // Whom the script calls by name is kept, and so is who calls back.
        typed(&mut all, "/msg carol hello");
        assert!(identified(&mut all, "carol"));
        typed(&mut all, "/msg dave hello");
        all.happened(closed("dave", CloseReason::NotOnline));
        all.happened(Event::Request { peer: "dave".to_owned() });
        assert!(identified(&mut all, "dave"));
        let mut only = start(script(Accepts::Only(vec![bob()])));
        only.happened(Event::Online);
        only.happened(Event::Request { peer: bob() });
        assert!(identified(&mut only, "bob"));
    }

    #[test]
    fn errors_of_the_server_are_told_five_times_and_then_counted() {
        let mut chat = online();
        let mut told = Vec::new();
        for number in 0..20_000 {
            let code = if number % 2 == 0 { "INVALID_MESSAGE".to_owned() } else { format!("MADE_UP_{number}") };
            for effect in chat.happened(Event::ServerError { code: code.clone(), message: "x".to_owned() }) {
                let Effect::Show(Report::ServerError { count, .. }) = effect else { panic!("{effect:?}") };
                told.push((number % 2, count));
            }
        }
        for kind in [0, 1] {
            let counts: Vec<u64> = told.iter().filter(|(other, _)| *other == kind).map(|(_, count)| *count).collect();
            assert_eq!(counts, [1, 2, 3, 4, 5, 10, 100, 1000, 10_000]);
        }
    }

    #[test]
    fn whom_verify_yes_means_is_whose_number_was_shown_last() {
        let mut chat = with_bob(Trust::New);
        let identified = |peer: &str, trust| {
            let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
            Event::Identified { peer: peer.to_owned(), trust, own, other }
        };
        chat.happened(identified("carol", Trust::New));
        chat.happened(open("carol"));
        assert!(matches!(typed(&mut chat, "/verify yes")[..], [Effect::Show(Report::Mistake(_))]), "none was shown");
        let verified = |effects: Vec<Effect>| match &done(effects)[..] {
            [Effect::Remember { peer, known, replaces: true }] => Some((peer.clone(), known.is_verified)),
            _ => None,
        };
        typed(&mut chat, "/verify bob");
        typed(&mut chat, "/verify carol");
        // Lines go to bob.
        assert_eq!(chat.prompt().peer, Some(bob()));
        assert_eq!(verified(typed(&mut chat, "/verify yes")), Some(("carol".to_owned(), true)));
        // Somebody else is there by now.
        chat.happened(identified("bob", Trust::New));
        assert!(matches!(typed(&mut chat, "/verify bob yes")[..], [Effect::Show(Report::Mistake(_))]));
        typed(&mut chat, "/verify bob");
        assert_eq!(verified(typed(&mut chat, "/verify bob yes")), Some((bob(), true)));
        assert_eq!(verified(typed(&mut chat, "/unverify")), Some((bob(), false)));
        assert_eq!(chat.prompt().trust, Some(Trust::Known));
        assert_eq!(verified(typed(&mut chat, "/unverify bob")), None, "once");
    }

    #[test]
    fn a_script_says_which_number_was_compared() {
        let mut chat = with_bob(Trust::New);
        let effects = typed(&mut chat, "/verify bob");
        let [Effect::Show(Report::SafetyNumber { number, .. })] = &effects[..] else { panic!("{effects:?}") };
        let command = |number: &str| {
            let line = serde_json::json!({ "command": "verified", "peer": "bob", "number": number }).to_string();
            super::super::json::command(&line)
        };
        let wrong = number.to_string().replace('1', "2").replace('3', "4");
        assert!(matches!(chat.command(command(&wrong))[..], [Effect::Show(Report::Mistake(_))]));
        assert_eq!(chat.prompt().trust, Some(Trust::New));
        chat.command(command(&number.to_string()));
        assert_eq!(chat.prompt().trust, Some(Trust::Verified));
    }

    #[test]
    fn after_a_mistyped_name_lines_go_to_nobody_and_words_for_the_program_are_commands() {
        let person = || {
            let mut chat = start(Script { has_person: true, ..Script::default() });
            chat.happened(Event::Online);
            chat
        };
        let mut chat = person();
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: "robert".to_owned(), trust: Trust::New, own, other });
        typed(&mut chat, "/connect robret");
        let effects = chat.happened(closed("robret", CloseReason::NotOnline));
        assert_eq!(effects.last(), Some(&notice("did you mean robert? /connect robert")));
        assert_eq!(chat.prompt().peer, None);
        assert_eq!(typed(&mut chat, "help"), [Effect::Show(Report::Help(None))]);
        assert_eq!(done(typed(&mut chat, "quit")), [Effect::Quit]);
        // What was typed meanwhile is kept, and so is whom it was for; and so is somebody who was met.
        let mut chat = person();
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        chat.happened(closed("bob", CloseReason::NotOnline));
        assert_eq!(chat.prompt().peer, Some(bob()));
        // In a chat, and in a script, they are texts.
        let mut chat = with_bob(Trust::Known);
        assert_eq!(typed(&mut chat, "quit"), [send("quit")]);
        assert_eq!(not_sent(&typed(&mut online(), "quit")), [("quit", false)]);
    }

    #[test]
    fn who_is_not_who_they_were_hears_nothing_until_they_are_declined() {
        let mut chat = with_bob(Trust::New);
        let [own, identity] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        let known = Known { identity: own, is_verified: false, since: "2026-11-23".to_owned() };
        let changed = CloseReason::IdentityChanged { own, known: Box::new(known), identity: Some(identity) };
        assert_eq!(done(typed(&mut chat, "/decline bob")), [], "not yet");
        let effects = chat.happened(closed("bob", changed));
        let report = effects.iter().find_map(|effect| match effect {
            Effect::Show(report @ Report::IdentityChanged { .. }) => Some(report),
            _ => None,
        });
        let words = screen::line(report.unwrap(), screen::Look::default(), "").unwrap().text;
        for way in ["/trust bob NUMBER", "/connect LINK", "/forget bob", "/decline bob"] {
            assert!(words.contains(way), "{way}: {words}");
        }
        assert_eq!(done(typed(&mut chat, "/decline bob")), [Effect::Decline(bob())]);
        // A link that names the new identity is a way to trust it.
        let link = |identity| Link { host: "chat.example".to_owned(), is_plain: false, name: bob(), identity };
        let other = KeyPair::generate().public();
        assert_eq!(done(typed(&mut chat, &format!("/connect {}", link(other)))), []);
        let effects = done(typed(&mut chat, &format!("/connect {}", link(identity))));
        assert!(matches!(&effects[..], [Effect::Pin { .. }, Effect::Connect(_)]), "{effects:?}");
    }

    #[test]
    fn who_is_not_answered_has_their_number_to_read_to_whom_they_know() {
        let people = People::new(
            "alice",
            Some(KeyPair::generate().public()),
            "chat.example",
            false,
            KnownPeers::default(),
            "2026-11-23",
        );
        let mut chat = Conversation::new(people, BTreeSet::new(), Script::default());
        chat.happened(Event::Online);
        let unanswered = |chat: &mut Conversation, peer: &str| {
            typed(chat, &format!("/connect {peer}"));
            chat.happened(closed(peer, CloseReason::NoAnswer)).len()
        };
        assert_eq!(unanswered(&mut chat, "bob"), 1, "of a stranger there is no number");
        typed(&mut chat, "/connect bob");
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: bob(), trust: Trust::New, own, other });
        chat.happened(open("bob"));
        chat.happened(closed("bob", CloseReason::PeerLeft));
        assert_eq!(unanswered(&mut chat, "bob"), 2);
    }

    #[test]
    fn an_alias_stands_in_the_prompt_and_in_commands_and_passes_for_nobody() {
        let mut chat = with_bob(Trust::New);
        let refused = |effects: Vec<Effect>| matches!(effects[..], [Effect::Show(Report::Mistake(_))]);
        let alias = |peer: Option<String>| Effect::Alias { alias: "bob-laptop".to_owned(), peer };
        assert_eq!(done(typed(&mut chat, "/alias bob-laptop bob")), [alias(Some(bob()))]);
        assert_eq!(done(typed(&mut chat, "/alias bob bob-laptop")), [alias(Some(bob()))], "one of them was met");
        assert_eq!(chat.prompt().alias.as_deref(), Some("bob-laptop"));
        assert!(chat.names().contains(&"bob-laptop".to_owned()));
        assert_eq!(typed(&mut chat, "/leave bob-laptop"), [Effect::Leave(bob())]);
        assert_eq!(done(typed(&mut chat, "/msg bob-laptop hello")), [send("hello")]);
        // Names of the wire, seen or here, stand for themselves.
        chat.happened(Event::Request { peer: "carol".to_owned() });
        for line in [
            "/alias carol bob",
            "/alias 7 bob",
            "/alias alice bob",
            "/alias yes bob",
            "/alias on bob",
            "/alias x y",
            "/alias \"a b\" bob",
        ] {
            assert!(refused(typed(&mut chat, line)), "{line}");
        }
        let effects = chat.happened(Event::Request { peer: "bob-laptop".to_owned() });
        assert_eq!(effects.len(), 2, "{effects:?}");
        assert!(refused(typed(&mut chat, "/accept bob-laptop")), "it is not said who is meant");
        assert_eq!(done(typed(&mut chat, "/decline 2")), [Effect::Decline("bob-laptop".to_owned())]);
        assert_eq!(done(typed(&mut chat, "/unalias bob-laptop")), [alias(None)]);
        assert_eq!(chat.prompt().alias, None);
    }

    #[test]
    fn peers_says_who_is_here_now() {
        let mut chat = with_bob(Trust::New);
        chat.happened(closed("bob", CloseReason::PeerLeft));
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: "app".to_owned(), trust: Trust::Unproven, own, other });
        chat.happened(open("app"));
        let effects = typed(&mut chat, "/peers");
        let [Effect::Show(Report::Peers(peers))] = &effects[..] else { panic!("{effects:?}") };
        let told: Vec<_> = peers.iter().map(|peer| (&*peer.peer, peer.known.is_some(), peer.is_here)).collect();
        assert_eq!(told, [("bob", true, false), ("app", false, true)]);
    }

    #[test]
    fn who_is_blocked_is_declined_without_a_word() {
        let mut chat = with_bob(Trust::Known);
        let block = Effect::Block { peer: bob(), is_blocked: true };
        assert_eq!(done(typed(&mut chat, "/block bob")), [Effect::Leave(bob()), block]);
        chat.happened(closed("bob", CloseReason::Left));
        assert_eq!(chat.happened(Event::Request { peer: bob() }), [Effect::Decline(bob())]);
        assert_eq!(typed(&mut chat, "/block"), [Effect::Show(Report::Blocked(vec![bob()]))]);
        typed(&mut chat, "/unblock bob");
        assert_eq!(done(chat.happened(Event::Request { peer: bob() })), []);
        assert_eq!(done(typed(&mut chat, "/accept")), [Effect::Accept(bob())]);
    }

    #[test]
    fn a_chat_that_opens_beside_another_does_not_take_its_lines() {
        let mut chat = with_bob(Trust::Known);
        chat.happened(open("carol"));
        assert_eq!(typed(&mut chat, "x"), [send("x")]);
        assert_eq!(done(typed(&mut chat, "/connect carol")), []);
        let to_carol = Effect::Send { peer: "carol".to_owned(), text: Text { text: "y".to_owned(), id: None } };
        assert_eq!(typed(&mut chat, "y"), [to_carol]);
    }

    #[test]
    fn the_end_of_input_waits_for_lines_that_wait() {
        let mut chat = online();
        assert_eq!(online().finished(), [Effect::Quit]);
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        assert_eq!(chat.finished(), []);
        assert_eq!(done(chat.happened(open("bob"))), [send("hello"), Effect::Quit]);
    }

    #[test]
    fn a_script_ends_when_what_it_waits_for_has_happened() {
        let waiting = |until| {
            let mut chat = start(Script { until: Some(until), ..Script::default() });
            chat.happened(Event::Online);
            typed(&mut chat, "/connect bob");
            assert_eq!(chat.finished(), []);
            chat
        };
        let message = Event::Message { peer: bob(), text: "hi".to_owned() };
        assert_eq!(done(waiting(Until::Open).happened(open("bob"))), [Effect::Quit]);
        let mut chat = waiting(Until::Message);
        assert_eq!(done(chat.happened(open("bob"))), []);
        assert_eq!(done(chat.happened(message)), [Effect::Quit]);
        let mut chat = waiting(Until::Closed);
        chat.happened(open("bob"));
        assert_eq!(done(chat.happened(closed("bob", CloseReason::PeerLeft))), [Effect::Quit]);
        assert_eq!(chat.failure(), None);
        for until in [Until::Open, Until::Message] {
            let mut chat = waiting(until);
            assert_eq!(
                done(chat.happened(closed("bob", CloseReason::Declined))),
                [Effect::Quit],
                "it cannot happen any more"
            );
            assert_eq!(chat.failure(), Some(Failure::Unreached));
        }
    }

    #[test]
    fn a_script_waits_until_all_has_arrived() {
        let mut chat = start(Script { until: Some(Until::Delivered), ..Script::default() });
        chat.happened(Event::Online);
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        chat.finished();
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: bob(), trust: Trust::New, own, other });
        assert_eq!(done(chat.event(open("bob"), Instant::now())), [send("hello")]);
        chat.sent("bob", 1, None);
        assert_eq!(chat.end_if_finished(), []);
        assert_eq!(chat.happened(Event::KeysExchanged { peer: bob() }).len(), 1, "it goes on");
        assert_eq!(done(chat.happened(Event::Delivered { peer: bob(), id: 1 })), [Effect::Quit]);
        assert_eq!(chat.failure(), None);
    }

    #[test]
    fn who_listens_takes_calls_of_those_who_may() {
        let mut all = start(Script { accepts: Accepts::All, ..Script::default() });
        all.happened(Event::Online);
        assert_eq!(all.happened(Event::Request { peer: bob() }), [Effect::Accept(bob())]);
        let mut only = start(Script { accepts: Accepts::Only(vec![bob()]), ..Script::default() });
        assert_eq!(only.happened(Event::Request { peer: bob() }), [Effect::Accept(bob())]);
        let carol = "carol".to_owned();
        assert_eq!(only.happened(Event::Request { peer: carol.clone() }), [Effect::Decline(carol)]);
    }

    #[test]
    fn what_runs_a_program_is_set_by_a_person_and_never_by_a_line_of_a_script() {
        let is_set = |has_person, line: &str| {
            let mut chat = start(Script { has_person, ..Script::default() });
            let effects = typed(&mut chat, line);
            assert_eq!(chat.failure().is_some(), effects == [mistake(ONLY_BY_HAND)], "{line}");
            matches!(effects[..], [Effect::Set { .. }])
        };
        for line in ["/set notify touch /tmp/x", "/set  notify  1", "/set \"notify\" x", "/set \"n%6Ftify\" on"] {
            assert!(is_set(true, line) && !is_set(false, line), "{line}");
        }
        for line in ["/set notify off", "/set notify", "/set bell on", "/set"] {
            assert!(is_set(true, line) && is_set(false, line), "{line}");
        }
        let json = r#"{"command":"set","name":"notify","value":"touch /tmp/x"}"#;
        let mut chat = start(Script::default());
        assert_eq!(chat.command(super::super::json::command(json)), [mistake(ONLY_BY_HAND)]);
    }

    #[test]
    fn who_follows_a_log_ends_with_the_chat() {
        let mut chat = start(Script { ends_with_chat: true, until: Some(Until::Delivered), ..Script::default() });
        chat.happened(Event::Online);
        typed(&mut chat, "/connect bob");
        chat.happened(open("bob"));
        assert_eq!(typed(&mut chat, "one"), [send("one")]);
        assert_eq!(done(chat.happened(closed("bob", CloseReason::PeerLeft))), [Effect::Quit]);
        let mut chat = start(Script { ends_with_chat: true, until: Some(Until::Delivered), ..Script::default() });
        chat.happened(Event::Online);
        typed(&mut chat, "/connect bob");
        assert_eq!(done(chat.happened(closed("bob", CloseReason::NotOnline))), [Effect::Quit]);
        assert_eq!(chat.failure(), Some(Failure::Unreached));
    }

    #[test]
    fn a_mistake_is_said_and_not_sent() {
        let mut chat = with_bob(Trust::Known);
        assert_eq!(done(typed(&mut chat, "/qiut")), []);
        assert_eq!(typed(&mut chat, "//qiut"), [send("/qiut")]);
        assert_eq!(done(typed(&mut chat, &format!("/connect {}", "x".repeat(65)))), []);
    }

    #[test]
    fn a_call_waits_for_the_server_unless_it_is_known_to_be_lost() {
        let mut chat = start(Script::default());
        assert_eq!(done(typed(&mut chat, "/connect bob")), []);
        typed(&mut chat, "hello");
        assert_eq!(done(chat.happened(Event::Online)), [Effect::Connect(bob())]);
        let mut chat = start(Script::default());
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        let effects = typed(&mut chat, "/leave");
        assert_eq!(effects[0], notice("bob is not called"));
        assert_eq!(not_sent(&effects).len(), 1);
        assert_eq!(done(chat.happened(Event::Online)), []);
    }

    #[test]
    fn without_a_server_the_end_of_input_is_the_end() {
        let mut chat = start(Script::default());
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        assert_eq!(chat.finished(), []);
        let lost = Event::Offline { reason: "no route".to_owned(), retry_in: None };
        let effects = chat.happened(lost);
        assert_eq!(not_sent(&effects), [("hello", false)]);
        assert_eq!(done(effects), [Effect::Quit]);
        assert_eq!(chat.failure(), Some(Failure::NoServer));
    }

    #[test]
    fn lines_for_a_peer_who_left_are_not_taken_for_others() {
        let mut chat = online();
        for peer in ["bob", "carol"] {
            typed(&mut chat, &format!("/connect {peer}"));
            chat.happened(open(peer));
        }
        chat.happened(closed("carol", CloseReason::Left));
        let effects = typed(&mut chat, "x");
        assert_eq!(not_sent(&effects), [("x", false)]);
        assert_eq!(effects[1], notice("/to bob to write to them"));
        assert_eq!(typed(&mut chat, "/leave bob"), [Effect::Leave(bob())]);
        assert_eq!(done(typed(&mut chat, "/leave dave")), []);
    }

    /// A prompt with a person at it, and two texts for bob, who is not there.
    fn with_kept_texts(has_person: bool) -> Conversation {
        let mut chat = start(Script { has_person, ..Script::default() });
        chat.happened(Event::Online);
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "one");
        typed(&mut chat, "two");
        chat.happened(closed("bob", CloseReason::NotOnline));
        chat
    }

    #[test]
    fn a_person_is_asked_once_before_texts_are_lost() {
        let question = "not sent yet and lost by this: 2 texts for bob. Do it all the same? y or n; /retry sends them";
        for (word, done_then) in [("/quit", Effect::Quit), ("/leave", lost(2, "bob"))] {
            for yes in [word, "y", " Yes "] {
                let mut chat = with_kept_texts(true);
                assert_eq!(typed(&mut chat, word), [notice(question)]);
                // Anything in between takes the question back, and a no does.
                typed(&mut chat, "/who");
                assert_eq!(typed(&mut chat, word), [notice(question)]);
                assert_eq!(typed(&mut chat, "n"), [notice("then all stays as it is")]);
                assert_eq!(typed(&mut chat, word), [notice(question)]);
                let effects = typed(&mut chat, yes);
                assert!(effects.contains(&lost(2, "bob")) && effects.contains(&done_then), "{effects:?}");
            }
        }
        let mut chat = with_kept_texts(true);
        typed(&mut chat, "/retry");
        chat.happened(open("bob"));
        assert_eq!(done(typed(&mut chat, "/quit")), [Effect::Quit], "nothing is lost");
        let effects = typed(&mut with_kept_texts(false), "/quit");
        assert_eq!(effects, [lost(2, "bob"), Effect::Quit], "a script is told, and asked nothing");
        let effects = typed(&mut with_kept_texts(false), "/leave bob");
        assert!(effects.contains(&lost(2, "bob")), "{effects:?}");
    }

    #[test]
    fn who_is_called_while_the_server_is_away_is_called_when_it_is_back() {
        let mut chat = online();
        let lost = |retry_in| Event::Offline { reason: "no route".to_owned(), retry_in };
        chat.happened(lost(Some(std::time::Duration::from_secs(1))));
        assert_eq!(typed(&mut chat, "/connect bob"), [calling("bob", true)]);
        typed(&mut chat, "hello");
        assert_eq!(done(chat.happened(Event::Online)), [Effect::Connect(bob())]);
        assert_eq!(done(chat.happened(open("bob"))), [send("hello")]);
        // Where nobody seeks it any more, that is said, until the user wants it sought.
        chat.happened(closed("bob", CloseReason::PeerLeft));
        chat.happened(lost(None));
        assert!(
            matches!(&typed(&mut chat, "/connect bob")[..], [Effect::Show(Report::Mistake(words))] if words.contains("/online"))
        );
        assert_eq!(done(typed(&mut chat, "/online")), [Effect::GoOnline]);
        assert_eq!(typed(&mut chat, "/connect bob"), [calling("bob", true)]);
        assert_eq!(done(chat.happened(Event::Online)), [Effect::Connect(bob())]);
        assert_eq!(done(typed(&mut chat, "/online")), []);
    }

    #[test]
    fn a_script_that_only_calls_waits_for_the_call_and_tells_how_it_ended() {
        for (reason, failure) in
            [(CloseReason::NotOnline, Failure::Unreached), (CloseReason::Unproven, Failure::Untrusted)]
        {
            let mut chat = start(Script::default());
            typed(&mut chat, "/connect bob");
            assert_eq!(done(chat.finished()), [], "the server is not there yet");
            assert_eq!(done(chat.happened(Event::Online)), [Effect::Connect(bob())]);
            assert_eq!(done(chat.happened(closed("bob", reason))), [Effect::Quit]);
            assert_eq!(chat.failure(), Some(failure));
        }
        let mut chat = online();
        typed(&mut chat, "/connect bob");
        assert_eq!(done(chat.finished()), []);
        assert_eq!(done(chat.happened(open("bob"))), [Effect::Quit]);
        assert_eq!(chat.failure(), None);
        let mut chat = start(Script::default());
        typed(&mut chat, "/connect bob");
        chat.finished();
        let lost = Event::Offline { reason: "no route".to_owned(), retry_in: Some(std::time::Duration::from_secs(1)) };
        assert_eq!(done(chat.happened(lost)), [Effect::Quit]);
        assert_eq!(chat.failure(), Some(Failure::NoServer));
    }

    #[test]
    fn a_name_that_finds_nobody_gives_the_prompt_back_to_the_chat_before() {
        let mut chat = start(Script { has_person: true, ..Script::default() });
        chat.happened(Event::Online);
        typed(&mut chat, "/connect bob");
        chat.happened(open("bob"));
        typed(&mut chat, "/connect bbo");
        let effects = chat.happened(closed("bbo", CloseReason::NotOnline));
        assert!(effects.contains(&lines_go_to("bob")), "{effects:?}");
        assert_eq!(done(typed(&mut chat, "hello")), [send("hello")]);
        // What was typed for it is kept for it, and the prompt stays.
        typed(&mut chat, "/connect bbo");
        typed(&mut chat, "hi");
        chat.happened(closed("bbo", CloseReason::NotOnline));
        assert_eq!(chat.prompt().peer.as_deref(), Some("bbo"));
    }

    #[test]
    fn who_is_blocked_is_not_called() {
        let mut chat = online();
        assert!(matches!(&typed(&mut chat, "/block alice")[..], [Effect::Show(Report::Mistake(_))]), "that is oneself");
        typed(&mut chat, "/block bob");
        for line in ["/connect bob", "/msg bob hello"] {
            let effects = typed(&mut chat, line);
            assert!(
                matches!(&effects[..], [Effect::Show(Report::Mistake(words))] if words.contains("/unblock bob")),
                "{effects:?}"
            );
        }
    }

    #[test]
    fn a_paste_is_never_a_command_and_is_sent_if_the_user_says_so() {
        let mut chat = with_bob(Trust::Known);
        let paste = || Command::Paste("/quit\nx".to_owned());
        assert_eq!(done(chat.command(paste())), []);
        assert_eq!(typed(&mut chat, "y"), [send("/quit\nx")]);
        chat.command(paste());
        assert_eq!(done(typed(&mut chat, "n")), []);
        assert_eq!(typed(&mut chat, "y"), [send("y")], "there is no question any more");
        chat.command(paste());
        assert_eq!(done(typed(&mut chat, "something else")), [send("something else")]);
        assert_eq!(typed(&mut chat, "yes"), [send("/quit\nx")]);
    }
}
