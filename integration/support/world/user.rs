//! Users of the library, who wait for their events.

use std::thread;
use std::time::{Duration, Instant};

use lowkey::peer::keys::KeyPair;
use lowkey::peer::{Event, Events, Peer, Settings};

use super::SOON;

/// The long-term pair of a user of this name: the same in every program of a test.
pub fn identity(name: &str) -> KeyPair {
    let mut secret = [7; 32];
    secret.iter_mut().zip(name.bytes()).for_each(|(secret, byte)| *secret = byte);
    KeyPair::from_base64(&data_encoding::BASE64.encode(&secret)).unwrap()
}

/// A user of the library: a peer with its events.
pub struct User {
    pub peer: Peer,
    pub events: Events,
}

impl User {
    /// Goes online.
    pub fn online(url: &str, name: &str, settings: Settings) -> Self {
        let (peer, events) = Peer::connect_with(url.parse().unwrap(), name, settings).unwrap();
        let mut user = Self { peer, events };
        user.expect(&Event::Online);
        user
    }

    /// The next event.
    pub fn next(&mut self) -> Event {
        self.events.next_timeout(SOON).expect("an event")
    }

    /// The next event, which has to be this one.
    pub fn expect(&mut self, event: &Event) {
        assert_eq!(&self.next(), event);
    }

    /// The next event that `find` has something for; those before it are passed over.
    pub fn find<T>(&mut self, what: &str, mut find: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + SOON;
        let mut seen = Vec::new();
        while let Some(event) = self.events.next_timeout(deadline.saturating_duration_since(Instant::now())) {
            if let Some(found) = find(&event) {
                return found;
            }
            seen.push(event);
        }
        panic!("{what}: not within {SOON:?}, but {seen:#?}")
    }

    /// Waits for the event, whatever comes before it.
    pub fn wait(&mut self, event: &Event) {
        self.find(&format!("{event:?}"), |other| (other == event).then_some(()));
    }

    /// Waits until somebody calls, whatever comes before it.
    pub fn asked_by(&mut self, peer: &str) {
        let is_it = |event: &Event| matches!(event, Event::Request { peer: caller, .. } if caller == peer);
        self.find(&format!("a call of {peer}"), |event| is_it(event).then_some(()));
    }

    /// The next event, which has to be somebody's call.
    pub fn asked_next_by(&mut self, peer: &str) {
        let event = self.next();
        assert!(matches!(&event, Event::Request { peer: caller, .. } if caller == peer), "{event:?} and not {peer}");
    }

    /// Waits to be told that who was called uses an old app, and agrees to talk to it.
    pub fn talk_to_app(&mut self, peer: &str) {
        self.wait(&Event::OldApp { peer: peer.to_owned() });
        self.peer.accept(peer);
    }

    /// Calls `peer` and waits for the open chat.
    pub fn call(&mut self, peer: &str) {
        self.peer.call(peer);
        self.wait(&Event::Open { peer: peer.to_owned() });
    }

    /// Calls `peer`, who may be about to come online, until the chat is open.
    pub fn call_soon(&mut self, peer: &str) {
        self.peer.call(peer);
        let again = self.peer.clone();
        self.find(&format!("a chat with {peer}"), |event| match event {
            Event::Open { .. } => Some(()),
            Event::Closed { .. } => {
                thread::sleep(Duration::from_millis(50));
                again.call(peer);
                None
            }
            _ => None,
        });
    }

    /// Waits for a call of `peer`, takes it, and waits for the open chat.
    pub fn answer(&mut self, peer: &str) {
        self.asked_by(peer);
        self.peer.accept(peer);
        self.wait(&Event::Open { peer: peer.to_owned() });
    }

    /// The next text, from whom and which.
    pub fn message(&mut self) -> (String, String) {
        self.find("a message", |event| match event {
            Event::Message { peer, text } => Some((peer.clone(), text.clone())),
            _ => None,
        })
    }
}

/// Alice and bob in an open chat that alice has called.
pub fn pair([mut alice, mut bob]: [User; 2]) -> (User, User) {
    alice.peer.call("bob");
    bob.answer("alice");
    alice.wait(&Event::Open { peer: "bob".to_owned() });
    (alice, bob)
}
