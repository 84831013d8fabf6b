//! A real server that lies, between real peers with real data channels: each trick by itself. The peers detect it and
//! say so, show no false text, and their other chats go on ([`Friends`] sees to that). The same in memory, where time
//! can be moved: `in_memory`.

use std::collections::HashMap;
use std::sync::mpsc::TryRecvError;

use lowkey::peer::trust::Trust;
use lowkey::peer::{CloseReason, Event};
use serde_json::{Value, json};

use crate::evil_server::{Frame, Friends, Outcome, change, fresh_key, honest, known, user};
use crate::world::{identity, until};

/// Whose messages are changed.
const FOOLED: [&[&str]; 3] = [&["alice"], &["bob"], &["alice", "bob"]];

/// Goal: read along by keys of the server's own, in place of a peer's.
#[test]
fn keys_that_are_changed_on_the_way_open_no_chat_and_show_nobody() {
    for users in FOOLED {
        Friends::with(change("key:exchange", users, |payload| payload["publicKey"] = fresh_key()), |friends| {
            friends.alice.peer.call("bob");
            // To bob they are the keys of a caller, and to alice those of an answer.
            until("all is said", || {
                let answered = !friends.server.sent("bob", "alice").is_empty();
                let is_over = users.contains(&"bob") || friends.server.sent("alice", "bob").len() > 2;
                (answered && is_over).then_some(())
            });
            friends.hear_nothing();
            friends.alice.peer.leave("bob");
            friends.alice.wait(&Event::Closed { peer: "bob".to_owned(), reason: CloseReason::Left });
        });
    }
}

fn strip(users: &'static [&'static str]) -> impl FnMut(Frame) -> Vec<Frame> + Send + 'static {
    change("key:exchange", users, |payload| {
        payload.as_object_mut().unwrap().remove("lowkey");
    })
}

/// Goal: have no proof asked for, by passing a peer off as an old app.
#[test]
fn a_hidden_introduction_is_told_of_a_stranger_and_refused_of_one_who_is_known() {
    Friends::with(strip(FOOLED[2]), |friends| {
        assert_eq!(friends.call(), [Outcome::Open(Trust::Unproven), Outcome::Open(Trust::Unproven)]);
        friends.talk();
        // Who was seen before is refused, on the side that looks first; the other is told no more than that.
        friends.alice.peer.leave("bob");
        friends.bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
        friends.alice.wait(&Event::Closed { peer: "bob".to_owned(), reason: CloseReason::Left });
        friends.have_met();
        let outcomes = friends.call();
        assert!(
            matches!(&outcomes[1], Outcome::Closed(CloseReason::IdentityChanged { identity: None, .. })),
            "{outcomes:?}"
        );
        assert_eq!(outcomes[0], Outcome::Closed(CloseReason::Declined));
    });
}

/// Who is on the other side.
fn other(name: &str) -> &'static str {
    if name == "alice" { "bob" } else { "alice" }
}

/// A message to its author, as if the other side had written it.
fn back(frame: &Frame) -> Frame {
    let mut back = Frame { to: other(&frame.to).to_owned(), message: frame.message.clone() };
    back.message["sender"] = json!(frame.to);
    back
}

fn kind(frame: &Frame) -> &str {
    frame.message["type"].as_str().unwrap()
}

/// Goal: change a call by playing its signals back, to their author too.
#[test]
fn signals_that_come_twice_or_come_back_have_no_effect() {
    let trick = |frame: Frame| match kind(&frame) {
        "signal:offer" | "signal:answer" | "signal:ice" => vec![back(&frame), frame.clone(), frame],
        _ => vec![frame.clone(), frame],
    };
    Friends::with(trick, |friends| {
        assert_eq!(friends.call(), [Outcome::Open(Trust::New), Outcome::Open(Trust::New)]);
        friends.talk();
    });
}

/// Goal: spoil a call by the order of its signals.
#[test]
fn signals_that_come_in_another_order_have_no_effect() {
    // A description behind the first candidate, for which the early ones wait.
    let mut held: HashMap<String, Vec<Frame>> = HashMap::new();
    let trick = move |frame: Frame| {
        let held = held.entry(frame.to.clone()).or_default();
        let is_description = ["signal:offer", "signal:answer"].contains(&kind(&frame));
        if is_description && held.is_empty() {
            held.push(frame);
            return Vec::new();
        }
        let mut frames = vec![frame];
        frames.append(held);
        frames
    };
    Friends::with(trick, |friends| {
        assert_eq!(friends.call(), [Outcome::Open(Trust::New), Outcome::Open(Trust::New)]);
        friends.talk();
    });
}

/// Alice calls somebody who cannot read who she is, since she knows bob by another identity.
fn calls_in_vain(friends: &mut Friends) {
    friends.alice.peer.call("bob");
    until("her hello is said", || {
        let hello = |message: &Value| message["type"] == "signal:ice";
        friends.server.sent("alice", "bob").iter().any(hello).then_some(())
    });
    friends.hear_nothing();
}

/// Goal: have somebody else answer under a name that is known.
#[test]
fn a_name_that_is_given_to_somebody_else_is_not_told_who_calls() {
    Friends::with(honest, |friends| {
        // Alice has met a dave, who is away.
        friends.alice.peer.trust("dave", Some(known(identity("dave").public(), false)));
        let url = friends.server.url();
        let mut mallory = user(&url, "dave", identity("mallory"));
        friends.alice.peer.call("dave");
        until("her hello is said", || {
            let hello = |message: &Value| message["type"] == "signal:ice";
            friends.server.sent("alice", "dave").iter().any(hello).then_some(())
        });
        friends.hear_nothing();
        assert_eq!(mallory.events.try_next(), Err(TryRecvError::Empty), "nobody was asked");
        // Who calls her under that name is refused, and hears nothing until alice says so.
        friends.alice.peer.leave("dave");
        friends.alice.wait(&Event::Closed { peer: "dave".to_owned(), reason: CloseReason::Left });
        mallory.peer.call("alice");
        let reason = friends.alice.find("a refusal", |event| match event {
            Event::Refused { peer, reason } if peer == "dave" => Some(reason.clone()),
            _ => None,
        });
        let known = Box::new(known(identity("dave").public(), false));
        let [own, mallorys] = ["alice", "mallory"].map(|name| identity(name).public());
        assert_eq!(reason, CloseReason::IdentityChanged { own, known, identity: Some(mallorys) });
        friends.alice.peer.decline("dave");
        mallory.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::NotRecognized });
    });
}

/// Goal: have somebody else answer a call by a link.
#[test]
fn somebody_else_than_the_link_names_is_not_told_who_calls() {
    Friends::with(honest, |friends| {
        friends.alice.peer.trust("bob", Some(known(identity("the bob of the link").public(), true)));
        calls_in_vain(friends);
        friends.alice.peer.leave("bob");
        friends.alice.wait(&Event::Closed { peer: "bob".to_owned(), reason: CloseReason::Left });
        // And with the right link it is bob.
        friends.alice.peer.trust("bob", Some(known(identity("bob").public(), true)));
        assert_eq!(friends.call(), [Outcome::Open(Trust::Verified), Outcome::Open(Trust::New)]);
        friends.talk();
    });
}

/// Goal: have a peer gather addresses or answer before its user agreed.
#[test]
fn an_offer_before_consent_or_before_keys_moves_bob_to_nothing() {
    let offer = json!({"type": "signal:offer", "sender": "alice", "payload": {"sdp": "v=0\r\n", "type": "offer"}});
    let candidate = json!({"type": "signal:ice", "sender": "alice", "payload": {"candidate": "x"}});
    let trick = move |frame: Frame| {
        let mut frames = vec![frame];
        // In front of all that bob hears of this call, and behind it.
        if frames[0].to == "bob" && !kind(&frames[0]).starts_with("signal:") {
            for message in [&offer, &candidate] {
                frames.insert(0, Frame { to: "bob".to_owned(), message: message.clone() });
                frames.push(Frame { to: "bob".to_owned(), message: message.clone() });
            }
        }
        frames
    };
    Friends::with(trick, |friends| {
        friends.alice.peer.call("bob");
        friends.bob.asked_by("alice");
        // What was injected came before this, and bob has taken it all.
        friends.server.inject("bob", json!({"type": "error", "payload": {"code": "X", "message": "the last"}}));
        friends.bob.wait(&Event::ServerError { code: "X".to_owned(), message: "the last".to_owned() });
        let said = friends.server.sent("bob", "alice");
        let is_answer = |message: &Value| message["payload"]["lowkey"]["answers"].is_string();
        assert!(said.len() == 1 && is_answer(&said[0]), "no word before consent but the program's: {said:?}");
        friends.bob.peer.accept("alice");
        assert_eq!(friends.answer(), [Outcome::Open(Trust::New), Outcome::Open(Trust::New)]);
        friends.talk();
    });
}

/// Goal: end a chat, or a program, by a flood.
#[test]
fn a_flood_of_candidates_and_errors_is_survived() {
    let junk = |other: &str, number: u32| {
        let candidate = format!("candidate:1 1 udp 5 10.0.{}.{} 9 typ host", number / 250, number % 250);
        [
            json!({"type": "signal:ice", "sender": other, "payload": {"sealed": "AAAA"}}),
            json!({"type": "signal:ice", "sender": other, "payload": {"candidate": candidate}}),
            json!({"type": "error", "payload": {"code": "INVALID_MESSAGE", "message": "no", "target": "nobody"}}),
            json!({"type": "error", "payload": {"code": "SESSION_JOIN_FAILED", "message": "no"}}),
        ]
    };
    let trick = move |frame: Frame| {
        let to = frame.to.clone();
        let flood = (0..200).flat_map(|number| junk(other(&to), number));
        std::iter::once(frame).chain(flood.map(|message| Frame { to: to.clone(), message })).collect()
    };
    Friends::with(trick, |friends| {
        assert_eq!(friends.call(), [Outcome::Open(Trust::New), Outcome::Open(Trust::New)]);
        for number in 0..500 {
            for message in junk("alice", number) {
                friends.server.inject("bob", message);
            }
            for code in ["RELAY_FAILED", "USER_OFFLINE", "RATE_LIMITED"] {
                let payload = json!({"code": code, "message": "no", "target": "alice"});
                friends.server.inject("bob", json!({"type": "error", "payload": payload}));
            }
        }
        friends.talk();
    });
}

/// Goal: come into an open chat, or end it, under anybody's name.
#[test]
fn a_third_user_in_mid_chat_gets_nothing_and_ends_nothing() {
    Friends::with(honest, |friends| {
        assert_eq!(friends.call(), [Outcome::Open(Trust::New), Outcome::Open(Trust::New)]);
        let key = json!({"publicKey": fresh_key()});
        let offer = json!({"sdp": "v=0\r\n", "type": "offer"});
        for sender in ["mallory", "alice"] {
            for (kind, payload) in [
                ("signal:offer", &offer),
                ("signal:answer", &offer),
                ("signal:ice", &json!({"candidate": "x"})),
                ("session:decline", &Value::Null),
                ("key:exchange", &key),
                ("signal:offer", &offer),
            ] {
                friends.server.inject("bob", json!({"type": kind, "sender": sender, "payload": payload}));
            }
        }
        // A key without a session is nothing, and no key of an old app is hers.
        friends.hear_nothing();
        assert_eq!(friends.server.sent("bob", "mallory"), Vec::<Value>::new());
        friends.talk();
    });
}
