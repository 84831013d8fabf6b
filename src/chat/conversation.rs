//! What the terminal client does on each command and event: whom a line goes to, and what is said. Pure: it knows
//! neither the terminal nor the peer.

use std::collections::{HashSet, VecDeque};

use super::command::Command;
use super::screen::{self, Line};
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
    /// Show a line.
    Show(Line),
    /// End the program.
    Quit,
}

/// The state of the prompt.
#[derive(Debug, Default)]
pub struct Conversation {
    /// The peer that lines go to, in a chat that is open or on its way.
    current: Option<String>,
    open: HashSet<String>,
    /// Who waits for an answer, in the order of their calls.
    requests: Vec<String>,
    /// Lines typed before the current chat was open. They go out as soon as it is.
    waiting: VecDeque<String>,
    /// Whom to call once the server is there.
    first_call: Option<String>,
    /// There is no more input: end as soon as nothing waits.
    is_finishing: bool,
}

impl Conversation {
    /// Nobody to talk to yet. `first_call` is called as soon as the server is there.
    pub fn new(first_call: Option<String>) -> Self {
        Self { current: first_call.clone(), first_call, ..Self::default() }
    }

    /// Takes what the user typed.
    pub fn command(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Text(text) => self.text(text),
            Command::Connect(peer) => self.connect(peer),
            Command::Accept(peer) => self.answer(peer, true),
            Command::Decline(peer) => self.answer(peer, false),
            Command::Leave => match self.current.clone() {
                Some(peer) => vec![Effect::Leave(peer)],
                None => vec![notice("there is no chat to leave")],
            },
            Command::Help => screen::help().into_iter().map(Effect::Show).collect(),
            Command::Quit => vec![Effect::Quit],
            Command::Mistake(mistake) => vec![notice(&screen::harmless(&mistake))],
        }
    }

    /// Takes what happened to the peer.
    pub fn event(&mut self, event: Event) -> Vec<Effect> {
        let mut effects: Vec<Effect> = screen::describe(&event).map(Effect::Show).into_iter().collect();
        match event {
            Event::Online => {
                if let Some(peer) = self.first_call.take() {
                    effects.extend([calling(&peer), Effect::Connect(peer)]);
                }
            }
            Event::Request { peer } => self.requests.push(peer),
            Event::RequestEnded { peer } => self.requests.retain(|caller| *caller != peer),
            Event::Open { peer } => {
                self.open.insert(peer.clone());
                if self.current.as_ref() == Some(&peer) {
                    let send = |text| Effect::Send { peer: peer.clone(), text };
                    effects.extend(self.waiting.drain(..).map(send));
                } else if self.current.is_none() {
                    self.current = Some(peer);
                } else {
                    effects.push(notice(&format!("/connect {} to write to them", screen::name(&peer))));
                }
            }
            Event::Closed { peer, reason } => {
                self.open.remove(&peer);
                // Lines go on to a chat that takes the place of this one.
                if reason != CloseReason::Replaced && self.current.as_ref() == Some(&peer) {
                    self.current = None;
                    effects.extend(self.waiting.drain(..).map(|text| not_sent(&text)));
                }
            }
            _ => {}
        }
        effects.extend(self.end_if_finished());
        effects
    }

    /// There will be no more input. Lines that wait for a chat still go out.
    pub fn finish(&mut self) -> Vec<Effect> {
        self.is_finishing = true;
        self.end_if_finished().into_iter().collect()
    }

    fn end_if_finished(&self) -> Option<Effect> {
        (self.is_finishing && self.waiting.is_empty()).then_some(Effect::Quit)
    }

    fn text(&mut self, text: String) -> Vec<Effect> {
        match &self.current {
            Some(peer) if self.open.contains(peer) => vec![Effect::Send { peer: peer.clone(), text }],
            Some(_) if self.waiting.len() < MAX_WAITING => {
                self.waiting.push_back(text);
                Vec::new()
            }
            _ => {
                let hint = match self.requests.first() {
                    Some(peer) => format!("/accept {} first", screen::name(peer)),
                    None => "/connect NAME first".to_owned(),
                };
                vec![not_sent(&text), notice(&hint)]
            }
        }
    }

    fn connect(&mut self, peer: String) -> Vec<Effect> {
        if self.requests.contains(&peer) {
            return self.answer(Some(peer), true);
        }
        let mut effects = self.turn_to(&peer);
        if self.open.contains(&peer) {
            effects.push(notice(&format!("lines go to {} now", screen::name(&peer))));
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
        self.open.remove(&peer);
        let mut effects = self.turn_to(&peer);
        effects.push(Effect::Accept(peer));
        effects
    }

    /// Lines go to `peer` from now on. What was typed for another is given back, not sent to the wrong one.
    fn turn_to(&mut self, peer: &str) -> Vec<Effect> {
        if self.current.as_deref() == Some(peer) {
            return Vec::new();
        }
        self.current = Some(peer.to_owned());
        self.first_call = None;
        self.waiting.drain(..).map(|text| not_sent(&text)).collect()
    }
}

fn notice(text: &str) -> Effect {
    Effect::Show(Line::Notice(text.to_owned()))
}

fn calling(peer: &str) -> Effect {
    notice(&format!("calling {}", screen::name(peer)))
}

fn not_sent(text: &str) -> Effect {
    notice(&format!("not sent: {}", screen::harmless(text)))
}

/// Lines that may wait for a chat to open.
const MAX_WAITING: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(conversation: &mut Conversation, line: &str) -> Vec<Effect> {
        conversation.command(Command::parse(line))
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
        let mut chat = Conversation::new(None);
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
        let mut chat = Conversation::new(None);
        typed(&mut chat, "/connect carol");
        assert_eq!(typed(&mut chat, "for carol"), []);
        let effects = typed(&mut chat, "/connect bob");
        assert_eq!(effects, [notice("not sent: for carol"), notice("calling bob"), Effect::Connect(bob())]);
        chat.event(Event::Open { peer: "carol".to_owned() });
        typed(&mut chat, "for bob");
        assert_eq!(done(chat.event(Event::Open { peer: bob() })), [send("for bob")]);
    }

    #[test]
    fn a_call_that_fails_gives_its_lines_back() {
        let mut chat = Conversation::new(Some(bob()));
        assert_eq!(typed(&mut chat, "hello"), []);
        assert_eq!(done(chat.event(Event::Online)), [Effect::Connect(bob())]);
        let effects = chat.event(Event::Closed { peer: bob(), reason: CloseReason::NotOnline });
        assert_eq!(effects, [notice("bob is not online"), notice("not sent: hello")]);
        assert_eq!(done(chat.event(Event::Online)), [], "the first call is made once");
    }

    #[test]
    fn a_request_is_accepted_or_declined_by_name_or_as_the_only_one() {
        let mut chat = Conversation::new(None);
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
        let mut chat = Conversation::new(None);
        typed(&mut chat, "/connect bob");
        chat.event(Event::Open { peer: bob() });
        chat.event(Event::Open { peer: "carol".to_owned() });
        assert_eq!(typed(&mut chat, "x"), [send("x")]);
        assert_eq!(done(typed(&mut chat, "/connect carol")), []);
        assert_eq!(typed(&mut chat, "y"), [Effect::Send { peer: "carol".to_owned(), text: "y".to_owned() }]);
    }

    #[test]
    fn the_end_of_input_waits_for_lines_that_wait() {
        let mut chat = Conversation::new(None);
        assert_eq!(Conversation::new(None).finish(), [Effect::Quit]);
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        assert_eq!(chat.finish(), []);
        assert_eq!(done(chat.event(Event::Open { peer: bob() })), [send("hello"), Effect::Quit]);
    }

    #[test]
    fn a_mistake_is_said_and_not_sent() {
        let mut chat = Conversation::new(None);
        typed(&mut chat, "/connect bob");
        chat.event(Event::Open { peer: bob() });
        assert_eq!(done(typed(&mut chat, "/qiut")), []);
        assert_eq!(typed(&mut chat, "//qiut"), [send("/qiut")]);
    }
}
