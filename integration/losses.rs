//! Calls between peers of ours on networks that lose something.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lowkey::peer::{CloseReason, Event, Settings};

use crate::hop::{Hop, is_handshake};
use crate::world::{SOON, User};

const NAMES: [&str; 2] = ["alice", "bob"];

/// How long a chat may take to open, whichever datagram was lost.
const OPEN_TIME: Duration = Duration::from_secs(3);

/// Alice calls bob by this hop and both say something; how long it took until the chat was open.
fn call(hop: &Hop) -> Duration {
    let [mut alice, mut bob] = NAMES.map(|name| User::online(&hop.server.url(), name, Settings::default()));
    let begin = Instant::now();
    alice.peer.call("bob");
    bob.asked_by("alice");
    bob.peer.accept("alice");
    alice.talk_to_app("bob");
    bob.wait(&Event::Open { peer: "alice".to_owned() });
    alice.wait(&Event::Open { peer: "bob".to_owned() });
    let took = begin.elapsed();
    alice.peer.send("bob", "hello");
    assert_eq!(bob.message(), ("alice".to_owned(), "hello".to_owned()));
    bob.peer.send("alice", "hello yourself");
    assert_eq!(alice.message(), ("bob".to_owned(), "hello yourself".to_owned()));
    took
}

#[test]
fn who_finds_a_way_and_no_connection_on_it_is_told_so() {
    let hop = Hop::new(Duration::ZERO, |_, datagram| !is_handshake(datagram));
    let [mut alice, mut bob] = NAMES.map(|name| User::online(&hop.server.url(), name, Settings::default()));
    alice.peer.call("bob");
    bob.asked_by("alice");
    bob.peer.accept("alice");
    alice.talk_to_app("bob");
    for (mut user, peer) in [(alice, "bob"), (bob, "alice")] {
        // It takes half a minute until a call is given up.
        let reason = std::iter::from_fn(|| user.events.next_timeout(2 * SOON)).find_map(|event| match event {
            Event::Closed { peer: of, reason } if of == peer => Some(reason),
            _ => None,
        });
        assert!(matches!(reason, Some(CloseReason::NotOpened | CloseReason::PeerLeft)), "{reason:?}");
    }
}

/// What goes to one side of a handshake: all datagrams so far, each once.
#[derive(Default)]
struct Seen {
    /// How many times the other side's turn has come.
    flights: usize,
    is_others_turn: bool,
    datagrams: HashSet<Vec<u8>>,
}

#[test]
fn any_one_datagram_of_a_handshake_may_be_lost() {
    for to in NAMES {
        let mut lost = 0;
        // What one loses, and is told that there were no more.
        loop {
            let has_lost = Arc::new(Mutex::new(false));
            let (mut seen, note) = (0, has_lost.clone());
            let hop = Hop::new(Duration::ZERO, move |receiver, datagram| {
                seen += usize::from(receiver == to && is_handshake(datagram));
                let is_it = receiver == to && is_handshake(datagram) && seen == lost + 1;
                *note.lock().unwrap() |= is_it;
                !is_it
            });
            let took = call(&hop);
            if !*has_lost.lock().unwrap() {
                break;
            }
            println!("datagram {lost} to {to} was lost: open after {took:?}");
            assert!(took < OPEN_TIME, "datagram {lost} to {to} was lost: {took:?}");
            lost += 1;
        }
        assert!(lost >= 2, "{to} was sent a handshake");
    }
}

#[test]
fn any_one_flight_of_a_handshake_may_be_lost() {
    for to in NAMES {
        let mut lost = 0;
        loop {
            let has_lost = Arc::new(Mutex::new(false));
            let (mut seen, note) = (Seen::default(), has_lost.clone());
            let hop = Hop::new(Duration::ZERO, move |receiver, datagram| {
                if !is_handshake(datagram) {
                    return true;
                }
                if receiver != to {
                    seen.is_others_turn = true;
                    return true;
                }
                let is_new = seen.datagrams.insert(datagram.to_vec());
                seen.flights += usize::from(is_new && std::mem::take(&mut seen.is_others_turn));
                let is_it = is_new && seen.flights == lost + 1;
                *note.lock().unwrap() |= is_it;
                !is_it
            });
            let took = call(&hop);
            if !*has_lost.lock().unwrap() {
                break;
            }
            println!("flight {lost} to {to} was lost: open after {took:?}");
            assert!(took < OPEN_TIME, "flight {lost} to {to} was lost: {took:?}");
            lost += 1;
        }
        assert!(lost >= 1, "{to} was sent a handshake");
    }
}
