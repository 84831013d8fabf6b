//! What the terminal client does on each command and event: whom a line goes to, and what is said. Pure: it knows
//! neither the terminal nor the peer.

use std::collections::VecDeque;

use super::command::Command;
use super::people::People;
use super::screen::{self, Line};
use crate::peer::trust::{Known, Link};
use crate::peer::{CloseReason, Event};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Call this peer.
    Connect(String),
    /// Take its request.
    Accept(String),
    /// Turn its request down.
    Decline(String),
    /// Send a text.
    Send {
        /// To this peer.
        peer: String,
        /// The text.
        text: String,
    },
    /// End the chat or call with this peer.
    Leave(String),
    /// Take nobody else than this one as `peer`, as long as the program runs.
    Pin {
        /// Its name.
        peer: String,
        /// Who it is.
        known: Known,
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
    /// Show a line.
    Show(Line),
    /// End the program.
    Quit,
}

/// The state of the prompt.
#[derive(Debug)]
pub struct Conversation {
    people: People,
    /// The peer that lines go to, in a chat that is open or on its way. Nobody becomes it but by the user's word.
    current: Option<String>,
    open: Vec<String>,
    /// Who waits for an answer, in the order of their calls.
    requests: Vec<String>,
    /// Lines typed before the current chat was open. They go out as soon as it is.
    waiting: VecDeque<String>,
    server: Server,
    /// The current peer is to be called once the server is there.
    is_call_pending: bool,
    /// There is no more input: end as soon as nothing waits.
    is_finishing: bool,
    has_lost_lines: bool,
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

impl Conversation {
    /// Nobody to talk to yet. `call` is called as soon as the server is there.
    pub fn new(people: People, call: Option<String>) -> Self {
        Self {
            people,
            is_call_pending: call.is_some(),
            current: call,
            open: Vec::new(),
            requests: Vec::new(),
            waiting: VecDeque::new(),
            server: Server::Sought,
            is_finishing: false,
            has_lost_lines: false,
        }
    }

    /// Whether there is room for another line.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// Whether a line could not be sent.
    pub fn has_lost_lines(&self) -> bool {
        self.has_lost_lines
    }

    /// Takes what the user typed.
    pub fn command(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Text(text) | Command::Paste(text) => self.text(text),
            Command::Connect(peer) if peer.starts_with("lowkey://") => match peer.parse::<Link>() {
                Ok(link) => match self.people.connect_by(&link) {
                    Ok((peer, mut effects)) => {
                        // A chat with somebody else under that name ends by this, and is called anew.
                        if !self.people.is_with(&peer, link.identity) {
                            self.open.retain(|open| *open != peer);
                        }
                        effects.extend(self.connect(peer));
                        effects
                    }
                    Err(effects) => effects,
                },
                Err(mistake) => vec![notice(mistake)],
            },
            Command::Connect(peer) => self.connect(peer),
            Command::Verify(Some(peer)) => self.people.verify(&peer),
            Command::Verify(None) => self.with_current(|people, peer| people.verify(peer)),
            Command::Verified => self.with_current(|people, peer| people.verified(peer)),
            Command::Trust(peer, number) => self.people.trust(&peer, &number),
            Command::Peers => self.people.peers(),
            Command::Forget(peer) => self.people.forget(&peer),
            Command::Link => self.people.link(),
            Command::Accept(peer) => self.answer(peer, true),
            Command::Decline(peer) => self.answer(peer, false),
            Command::Leave(peer) => self.leave(peer),
            Command::Who => self.who(),
            Command::Help => screen::help().into_iter().map(Effect::Show).collect(),
            Command::Quit => vec![Effect::Quit],
            Command::Mistake(mistake) => {
                // A script wants to know that a line of it did nothing.
                self.has_lost_lines = true;
                vec![notice(&screen::harmless(&mistake))]
            }
        }
    }

    /// Takes what happened to the peer.
    pub fn event(&mut self, event: Event) -> Vec<Effect> {
        let mut effects: Vec<Effect> = screen::describe(&event).map(Effect::Show).into_iter().collect();
        match event {
            Event::Online => {
                self.server = Server::Online;
                if let (true, Some(peer)) = (std::mem::take(&mut self.is_call_pending), self.current.clone()) {
                    effects.extend([calling(&peer), Effect::Connect(peer)]);
                }
            }
            Event::Offline { .. } => {
                self.server = Server::Lost;
                if !self.open.is_empty() {
                    effects.push(notice("open chats go on"));
                }
            }
            Event::Request { peer } => self.requests.push(peer),
            Event::RequestEnded { peer } => self.requests.retain(|caller| *caller != peer),
            Event::Identified { peer, trust, own, other } => {
                effects.extend(self.people.identified(&peer, trust, own, other));
            }
            Event::Open { peer } => effects.extend(self.opened(peer)),
            Event::Closed { peer, reason } => {
                if let CloseReason::IdentityChanged { own, known, identity } = &reason {
                    effects.extend(self.people.changed(&peer, *own, known, *identity));
                }
                if reason != CloseReason::Replaced {
                    self.people.left(&peer);
                }
                effects.extend(self.closed(&peer, &reason));
            }
            Event::Refused { peer, reason } => {
                if let CloseReason::IdentityChanged { own, known, identity } = &reason {
                    effects.extend(self.people.changed(&peer, *own, known, *identity));
                }
                effects.extend(self.refused(peer));
            }
            Event::NotSent { .. } => self.has_lost_lines = true,
            _ => {}
        }
        effects.extend(self.end_if_finished());
        effects
    }

    /// There will be no more input. Lines that wait for a chat still go out, if there is a server to find it.
    pub fn finish(&mut self) -> Vec<Effect> {
        self.is_finishing = true;
        self.end_if_finished()
    }

    fn end_if_finished(&mut self) -> Vec<Effect> {
        if !self.is_finishing {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if self.is_call_pending && self.server == Server::Lost {
            effects = self.give_back();
        }
        if self.waiting.is_empty() {
            effects.push(Effect::Quit);
        }
        effects
    }

    fn opened(&mut self, peer: String) -> Vec<Effect> {
        self.open.push(peer.clone());
        if self.current.as_ref() != Some(&peer) {
            return vec![notice(&format!("/connect {} to write to them", screen::name(&peer)))];
        }
        let send = |text| Effect::Send { peer: peer.clone(), text };
        self.waiting.drain(..).map(send).collect()
    }

    fn closed(&mut self, peer: &str, reason: &CloseReason) -> Vec<Effect> {
        self.open.retain(|open| open != peer);
        // Lines go on to a chat that takes the place of this one.
        if *reason == CloseReason::Replaced || self.current.as_deref() != Some(peer) {
            return Vec::new();
        }
        self.current = None;
        let mut effects = self.give_back();
        effects.extend(self.still_open());
        effects
    }

    /// An accepted request came to nothing; a chat that was open before still is.
    fn refused(&mut self, peer: String) -> Vec<Effect> {
        if self.people.is_present(&peer) && !self.open.contains(&peer) {
            self.open.push(peer.clone());
        }
        if self.current.as_ref() != Some(&peer) {
            return Vec::new();
        }
        self.current = None;
        let mut effects = self.give_back();
        effects.extend(self.still_open());
        effects
    }

    fn text(&mut self, text: String) -> Vec<Effect> {
        match &self.current {
            Some(peer) if self.open.contains(peer) => vec![Effect::Send { peer: peer.clone(), text }],
            Some(_) if self.has_room() => {
                self.waiting.push_back(text);
                Vec::new()
            }
            _ => {
                let hint = match (&self.current, self.requests.first(), self.open.first()) {
                    (Some(_), _, _) => "too many lines wait already".to_owned(),
                    (None, Some(peer), _) => format!("/accept {} first", screen::name(peer)),
                    (None, None, Some(peer)) => format!("/connect {} to write to them", screen::name(peer)),
                    (None, None, None) => "/connect NAME first".to_owned(),
                };
                vec![self.not_sent(&text), notice(&hint)]
            }
        }
    }

    fn connect(&mut self, peer: String) -> Vec<Effect> {
        if self.requests.contains(&peer) {
            return self.answer(Some(peer), true);
        }
        let mut effects = self.turn_to(&peer);
        if self.open.contains(&peer) {
            effects.push(lines_go_to(&peer));
        } else if self.server == Server::Sought {
            self.is_call_pending = true;
            effects.push(notice(&format!("{} is called as soon as the server is there", screen::name(&peer))));
        } else {
            effects.extend([calling(&peer), Effect::Connect(peer)]);
        }
        effects
    }

    fn answer(&mut self, peer: Option<String>, is_accepted: bool) -> Vec<Effect> {
        let peer = match (peer, &self.requests[..]) {
            (_, []) => return vec![notice("nobody is calling")],
            (Some(peer), requests) if requests.contains(&peer) => peer,
            (Some(peer), _) => return vec![notice(&format!("{} is not calling", screen::name(&peer)))],
            (None, [only]) => only.clone(),
            (None, _) => return vec![notice("several are calling: say the name too")],
        };
        self.requests.retain(|caller| *caller != peer);
        if !is_accepted {
            return vec![notice(&format!("declined {}", screen::name(&peer))), Effect::Decline(peer)];
        }
        // A chat that is open with the same peer makes room for the new one.
        self.open.retain(|open| *open != peer);
        let mut effects = self.turn_to(&peer);
        effects.extend([lines_go_to(&peer), Effect::Accept(peer)]);
        effects
    }

    fn leave(&mut self, peer: Option<String>) -> Vec<Effect> {
        match peer.or_else(|| self.current.clone()) {
            // A call that was not made yet ends here.
            Some(peer) if self.is_call_pending && self.current.as_ref() == Some(&peer) => {
                self.is_call_pending = false;
                self.current = None;
                let mut effects = vec![notice(&format!("{} is not called", screen::name(&peer)))];
                effects.extend(self.give_back());
                effects
            }
            Some(peer) if self.open.contains(&peer) || self.current.as_ref() == Some(&peer) => {
                vec![Effect::Leave(peer)]
            }
            Some(peer) => vec![notice(&format!("there is no chat with {}", screen::name(&peer)))],
            None if self.open.is_empty() => vec![notice("there is no chat to leave")],
            None => self.still_open().into_iter().collect(),
        }
    }

    fn who(&self) -> Vec<Effect> {
        let lines = match &self.current {
            Some(peer) if self.open.contains(peer) => {
                notice(&format!("lines go to {} now{}", screen::name(peer), self.people.describe(peer)))
            }
            Some(peer) => notice(&format!("calling {}; lines wait for them", screen::name(peer))),
            None => notice("lines go to nobody"),
        };
        let mut effects = vec![lines];
        let others = self.open.iter().filter(|peer| self.current.as_ref() != Some(peer));
        let others: Vec<String> =
            others.map(|peer| format!("{}{}", screen::name(peer), self.people.describe(peer))).collect();
        if !others.is_empty() {
            effects.push(notice(&format!("also open: {}", others.join(", "))));
        }
        if !self.requests.is_empty() {
            effects.push(notice(&format!("calling you: {}", list(&self.requests))));
        }
        effects
    }

    fn with_current(&mut self, act: impl FnOnce(&mut People, &str) -> Vec<Effect>) -> Vec<Effect> {
        match &self.current {
            Some(peer) => act(&mut self.people, peer),
            None => vec![notice("lines go to nobody; /connect NAME first")],
        }
    }

    /// Lines go to `peer` from now on. What was typed for another is given back, not sent to the wrong one.
    fn turn_to(&mut self, peer: &str) -> Vec<Effect> {
        if self.current.as_deref() == Some(peer) {
            return Vec::new();
        }
        self.current = Some(peer.to_owned());
        self.is_call_pending = false;
        self.give_back()
    }

    /// Says of each line that waits that it was not sent.
    fn give_back(&mut self) -> Vec<Effect> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.iter().map(|text| self.not_sent(text)).collect()
    }

    fn not_sent(&mut self, text: &str) -> Effect {
        self.has_lost_lines = true;
        notice(&format!("not sent: {}", screen::harmless(text)))
    }

    /// Reminds of the chats that lines do not go to.
    fn still_open(&self) -> Option<Effect> {
        let first = self.open.first()?;
        Some(notice(&format!("still open: {}; /connect {} to write on", list(&self.open), screen::name(first))))
    }
}

pub(super) fn notice(text: &str) -> Effect {
    Effect::Show(Line::Notice(text.to_owned()))
}

fn calling(peer: &str) -> Effect {
    notice(&format!("calling {}", screen::name(peer)))
}

fn lines_go_to(peer: &str) -> Effect {
    notice(&format!("lines go to {} now", screen::name(peer)))
}

fn list<'a>(peers: impl IntoIterator<Item = &'a String>) -> String {
    peers.into_iter().map(|peer| screen::name(peer)).collect::<Vec<_>>().join(", ")
}

/// Lines that may wait for a chat to open.
const MAX_WAITING: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::trust::KnownPeers;

    fn people() -> People {
        People::new("alice", None, "chat.example", false, KnownPeers::default(), "2026-11-23")
    }

    fn typed(conversation: &mut Conversation, line: &str) -> Vec<Effect> {
        conversation.command(Command::parse(line))
    }

    /// A prompt whose server is there.
    fn online() -> Conversation {
        let mut chat = Conversation::new(people(), None);
        chat.event(Event::Online);
        chat
    }

    fn bob() -> String {
        "bob".to_owned()
    }

    fn send(text: &str) -> Effect {
        Effect::Send { peer: bob(), text: text.to_owned() }
    }

    /// What is to be done, without what is only shown.
    fn done(effects: Vec<Effect>) -> Vec<Effect> {
        effects.into_iter().filter(|effect| !matches!(effect, Effect::Show(_))).collect()
    }

    #[test]
    fn lines_go_to_the_chat_and_those_typed_ahead_wait_for_it() {
        let mut chat = online();
        assert_eq!(typed(&mut chat, "/connect bob"), [notice("calling bob"), Effect::Connect(bob())]);
        assert_eq!(typed(&mut chat, "one"), []);
        assert_eq!(typed(&mut chat, "two"), []);
        assert_eq!(done(chat.event(Event::Open { peer: bob() })), [send("one"), send("two")]);
        assert_eq!(typed(&mut chat, "three"), [send("three")]);
        assert_eq!(typed(&mut chat, "/leave"), [Effect::Leave(bob())]);
        chat.event(Event::Closed { peer: bob(), reason: CloseReason::Left });
        assert_eq!(typed(&mut chat, "four"), [notice("not sent: four"), notice("/connect NAME first")]);
    }

    #[test]
    fn what_was_typed_for_one_is_never_sent_to_another() {
        let mut chat = online();
        typed(&mut chat, "/connect carol");
        assert_eq!(typed(&mut chat, "for carol"), []);
        let effects = typed(&mut chat, "/connect bob");
        assert_eq!(effects, [notice("not sent: for carol"), notice("calling bob"), Effect::Connect(bob())]);
        chat.event(Event::Open { peer: "carol".to_owned() });
        typed(&mut chat, "for bob");
        assert_eq!(done(chat.event(Event::Open { peer: bob() })), [send("for bob")]);
        chat.event(Event::Closed { peer: bob(), reason: CloseReason::PeerLeft });
        assert_eq!(done(typed(&mut chat, "a secret for bob")), []);
        chat.event(Event::Open { peer: "dave".to_owned() });
        assert_eq!(done(typed(&mut chat, "another secret for bob")), [], "who picks up late gets none of it");
        assert!(chat.has_lost_lines());
    }

    #[test]
    fn a_call_that_fails_gives_its_lines_back() {
        let mut chat = Conversation::new(people(), Some(bob()));
        assert_eq!(typed(&mut chat, "hello"), []);
        assert_eq!(done(chat.event(Event::Online)), [Effect::Connect(bob())]);
        let effects = chat.event(Event::Closed { peer: bob(), reason: CloseReason::NotOnline });
        assert_eq!(effects, [notice("bob is not online"), notice("not sent: hello")]);
        assert_eq!(done(chat.event(Event::Online)), [], "the first call is made once");
    }

    #[test]
    fn a_request_is_accepted_or_declined_by_name_or_as_the_only_one() {
        let mut chat = online();
        assert_eq!(typed(&mut chat, "/accept"), [notice("nobody is calling")]);
        chat.event(Event::Request { peer: bob() });
        assert_eq!(done(typed(&mut chat, "/accept carol")), []);
        assert_eq!(done(typed(&mut chat, "/accept")), [Effect::Accept(bob())]);
        assert_eq!(typed(&mut chat, "early"), []);
        assert_eq!(done(chat.event(Event::Open { peer: bob() })), [send("early")]);
        chat.event(Event::Request { peer: "carol".to_owned() });
        chat.event(Event::Request { peer: "dave".to_owned() });
        assert_eq!(typed(&mut chat, "/decline"), [notice("several are calling: say the name too")]);
        assert_eq!(done(typed(&mut chat, "/decline carol")), [Effect::Decline("carol".to_owned())]);
        chat.event(Event::RequestEnded { peer: "dave".to_owned() });
        assert_eq!(typed(&mut chat, "/accept"), [notice("nobody is calling")]);
    }

    #[test]
    fn a_chat_that_opens_beside_another_does_not_take_its_lines() {
        let mut chat = online();
        typed(&mut chat, "/connect bob");
        chat.event(Event::Open { peer: bob() });
        chat.event(Event::Open { peer: "carol".to_owned() });
        assert_eq!(typed(&mut chat, "x"), [send("x")]);
        assert_eq!(done(typed(&mut chat, "/connect carol")), []);
        assert_eq!(typed(&mut chat, "y"), [Effect::Send { peer: "carol".to_owned(), text: "y".to_owned() }]);
    }

    #[test]
    fn the_end_of_input_waits_for_lines_that_wait() {
        let mut chat = online();
        assert_eq!(online().finish(), [Effect::Quit]);
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        assert_eq!(chat.finish(), []);
        assert_eq!(done(chat.event(Event::Open { peer: bob() })), [send("hello"), Effect::Quit]);
    }

    #[test]
    fn a_mistake_is_said_and_not_sent() {
        let mut chat = online();
        typed(&mut chat, "/connect bob");
        chat.event(Event::Open { peer: bob() });
        assert_eq!(done(typed(&mut chat, "/qiut")), []);
        assert_eq!(typed(&mut chat, "//qiut"), [send("/qiut")]);
    }

    #[test]
    fn a_call_waits_for_the_server_unless_it_is_known_to_be_lost() {
        let mut chat = Conversation::new(people(), None);
        assert_eq!(done(typed(&mut chat, "/connect bob")), []);
        typed(&mut chat, "hello");
        assert_eq!(done(chat.event(Event::Online)), [Effect::Connect(bob())]);
        let mut chat = Conversation::new(people(), Some(bob()));
        typed(&mut chat, "hello");
        assert_eq!(typed(&mut chat, "/leave"), [notice("bob is not called"), notice("not sent: hello")]);
        assert_eq!(done(chat.event(Event::Online)), []);
    }

    #[test]
    fn without_a_server_the_end_of_input_is_the_end() {
        let mut chat = Conversation::new(people(), Some(bob()));
        typed(&mut chat, "hello");
        assert_eq!(chat.finish(), []);
        let lost = Event::Offline { reason: "no route".to_owned(), retry_in: None };
        assert_eq!(done(chat.event(lost)), [Effect::Quit]);
        assert!(chat.has_lost_lines());
    }

    #[test]
    fn after_a_chat_has_ended_the_others_are_named() {
        let mut chat = online();
        for peer in ["bob", "carol"] {
            typed(&mut chat, &format!("/connect {peer}"));
            chat.event(Event::Open { peer: peer.to_owned() });
        }
        assert_eq!(typed(&mut chat, "/who"), [notice("lines go to carol now"), notice("also open: bob")]);
        let effects = chat.event(Event::Closed { peer: "carol".to_owned(), reason: CloseReason::Left });
        assert_eq!(effects, [notice("left carol"), notice("still open: bob; /connect bob to write on")]);
        assert_eq!(typed(&mut chat, "/leave"), [notice("still open: bob; /connect bob to write on")]);
        assert_eq!(typed(&mut chat, "x"), [notice("not sent: x"), notice("/connect bob to write to them")]);
        assert_eq!(typed(&mut chat, "/leave bob"), [Effect::Leave(bob())]);
        assert_eq!(done(typed(&mut chat, "/leave dave")), []);
    }

    #[test]
    fn a_paste_is_never_a_command() {
        let mut chat = online();
        typed(&mut chat, "/connect bob");
        chat.event(Event::Open { peer: bob() });
        assert_eq!(chat.command(Command::Paste("/quit\nx".to_owned())), [send("/quit\nx")]);
    }
}
