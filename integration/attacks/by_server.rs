//! A real server that lies, between real peers with real data channels: each trick by itself. The peers detect it and say so,
//! show no false text, and their other chats go on ([`World`] sees to that). The same in memory, where time can be moved: `in_memory`.

use std::collections::HashMap;
use std::thread;

use lowkey::peer::trust::Trust;
use lowkey::peer::{CloseReason, Event};
use serde_json::{Value, json};

use crate::evil_server::{Frame, Outcome, World, change, fresh_key, honest, known, user};
use crate::world::identity;

/// Whose messages are changed.
const FOOLED: [&[&str]; 3] = [&["alice"], &["bob"], &["alice", "bob"]];

/// Runs a test for each case at the same time: some wait half a minute for what never comes.
fn each<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| test(case));
        }
    });
}

fn is_open(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Open(_))
}

fn not_proven() -> Outcome {
    Outcome::Closed(CloseReason::NotProven)
}

/// Goal: read along by a session key of the server's own, in place of a peer's.
#[test]
fn a_swapped_session_key_opens_no_chat_and_is_told() {
    each(FOOLED, |users| {
        World::with(change("key:exchange", users, |payload| payload["publicKey"] = fresh_key()), |world| {
            let outcomes = world.call();
            assert!(!outcomes.iter().any(is_open), "{users:?} {outcomes:?}");
            assert_eq!(outcomes[1], not_proven(), "{users:?}: bob cannot open the offer");
        });
    });
}

/// Goal: pass for somebody by an identity of the server's own.
#[test]
fn a_swapped_identity_opens_no_chat_and_is_told() {
    each(FOOLED, |users| {
        let mallory = fresh_key();
        let trick = change("key:exchange", users, move |payload| payload["lowkey"]["identity"] = mallory.clone());
        World::with(trick, |world| {
            let outcomes = world.call();
            // Whoever was not fooled may be shown a true proof; then the other side leaves.
            let fooled = if users.contains(&"alice") { 0 } else { 1 };
            assert_eq!(outcomes[fooled], not_proven(), "{users:?} {outcomes:?}");
            if is_open(&outcomes[1 - fooled]) {
                let user = if fooled == 0 { &mut world.bob } else { &mut world.alice };
                let peer = ["alice", "bob"][fooled].to_owned();
                user.wait(&Event::Closed { peer, reason: CloseReason::PeerLeft });
            }
        });
    });
}

/// Goal: weaken a chat by taking away what the peers can do.
#[test]
fn changed_features_open_no_chat_and_are_told() {
    let features = [json!(["proof"]), json!(["proof", "seal", "x"]), json!(["seal", "proof"])];
    let cases = features.into_iter().flat_map(|features| FOOLED.map(|users| (features.clone(), users)));
    each(cases, |(features, users)| {
        let changed = features.clone();
        let trick = change("key:exchange", users, move |payload| payload["lowkey"]["features"] = changed.clone());
        World::with(trick, |world| {
            let outcomes = world.call();
            assert!(!outcomes.iter().any(is_open), "{features} {users:?} {outcomes:?}");
            assert!(outcomes.contains(&not_proven()), "{features} {users:?} {outcomes:?}");
        });
    });
}

/// Goal: be the far end of the connection by a certificate of the server's own.
#[test]
fn a_swapped_certificate_opens_no_chat() {
    // Descriptions are sealed, so the server has to talk the peers out of that first.
    let fingerprint = format!("a=fingerprint:sha-256 {}", vec!["AB"; 32].join(":"));
    let mut features = change("key:exchange", FOOLED[2], |payload| payload["lowkey"]["features"] = json!(["proof"]));
    let trick = move |frame: Frame| {
        let mut frames = features(frame);
        for frame in &mut frames {
            if let Some(Value::String(sdp)) = frame.message.pointer_mut("/payload/sdp") {
                let line = sdp.lines().find(|line| line.starts_with("a=fingerprint:")).unwrap().to_owned();
                *sdp = sdp.replace(&line, &fingerprint);
            }
        }
        frames
    };
    World::with(trick, |world| {
        let outcomes = world.call();
        assert!(!outcomes.iter().any(is_open), "{outcomes:?}");
    });
}

fn strip(users: &'static [&'static str]) -> impl FnMut(Frame) -> Vec<Frame> + Send + 'static {
    change("key:exchange", users, |payload| {
        payload.as_object_mut().unwrap().remove("lowkey");
    })
}

/// Goal: have no proof asked for, by passing a peer off as an old app.
#[test]
fn a_hidden_introduction_is_told_of_a_stranger_and_refused_of_one_who_is_known() {
    World::with(strip(FOOLED[2]), |world| {
        assert_eq!(world.call(), [Outcome::Open(Trust::Unproven), Outcome::Open(Trust::Unproven)]);
        world.talk();
        // Who was seen before is refused, on the side that looks first; the other is told no more than that.
        world.alice.peer.leave("bob");
        world.bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
        world.alice.wait(&Event::Closed { peer: "bob".to_owned(), reason: CloseReason::Left });
        world.have_met();
        let outcomes = world.call();
        assert!(
            matches!(&outcomes[1], Outcome::Closed(CloseReason::IdentityChanged { identity: None, .. })),
            "{outcomes:?}"
        );
        assert_eq!(outcomes[0], Outcome::Closed(CloseReason::Declined));
    });
}

/// Goal: the same of one side only, so that the two disagree.
#[test]
fn an_introduction_that_is_hidden_from_one_side_opens_no_chat() {
    let cases = [false, true].into_iter().flat_map(|have_met| [FOOLED[0], FOOLED[1]].map(|users| (have_met, users)));
    each(cases, |(have_met, users)| {
        World::with(strip(users), |world| {
            if have_met {
                world.have_met();
            }
            let outcomes = world.call();
            assert!(!outcomes.iter().all(is_open), "{outcomes:?}");
            let told = outcomes.iter().any(|outcome| {
                *outcome == not_proven() || matches!(outcome, Outcome::Closed(CloseReason::IdentityChanged { .. }))
            });
            assert!(told, "{have_met} {users:?} {outcomes:?}");
        });
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
    World::with(trick, |world| {
        assert_eq!(world.call(), [Outcome::Open(Trust::New), Outcome::Open(Trust::New)]);
        world.talk();
    });
}

/// Goal: have a peer talk with itself, by giving it its own key.
#[test]
fn a_key_that_comes_back_is_refused() {
    let trick = |frame: Frame| match kind(&frame) {
        "key:exchange" => vec![back(&frame)],
        _ => vec![frame],
    };
    World::with(trick, |world| {
        world.alice.peer.call("bob");
        world.alice.wait(&Event::Closed { peer: "bob".to_owned(), reason: CloseReason::BadKey });
    });
}

/// Goal: change a call by the order of its signals.
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
    World::with(trick, |world| {
        assert_eq!(world.call(), [Outcome::Open(Trust::New), Outcome::Open(Trust::New)]);
        world.talk();
    });
}

/// Goal: have somebody else answer under a name that is known.
#[test]
fn a_name_that_is_given_to_somebody_else_is_refused() {
    World::with(honest, |world| {
        world.have_met();
        let url = world.server.url();
        let mut mallory = user(&url, "bob", identity("mallory"));
        world.alice.peer.call("bob");
        mallory.wait(&Event::Request { peer: "alice".to_owned() });
        mallory.peer.accept("alice");
        let reason = world.alice.find("an end", |event| match event {
            Event::Closed { peer, reason } if peer == "bob" => Some(reason.clone()),
            _ => None,
        });
        let mallorys = identity("mallory").public();
        let alice = identity("alice").public();
        let known = Box::new(known(identity("bob").public(), false));
        assert_eq!(reason, CloseReason::IdentityChanged { own: alice, known, identity: Some(mallorys) });
        // Nothing was said to who it is, until alice does so.
        world.alice.peer.decline("bob");
        mallory.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::Declined });
    });
}

/// Goal: have somebody else answer a call by a link.
#[test]
fn somebody_else_than_the_link_names_is_refused() {
    World::with(honest, |world| {
        world.alice.peer.trust("bob", Some(known(identity("the bob of the link").public(), true)));
        let [alices, _] = world.call();
        assert!(matches!(alices, Outcome::Closed(CloseReason::IdentityChanged { .. })), "{alices:?}");
        // And with the right link it is bob.
        world.alice.peer.trust("bob", Some(known(identity("bob").public(), true)));
        assert_eq!(world.call(), [Outcome::Open(Trust::Verified), Outcome::Open(Trust::New)]);
        world.talk();
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
    World::with(trick, |world| {
        world.alice.peer.call("bob");
        world.bob.wait(&Event::Request { peer: "alice".to_owned() });
        // What was injected came before this, and bob has taken it all.
        world.server.inject("bob", json!({"type": "error", "payload": {"code": "X", "message": "the last"}}));
        world.bob.wait(&Event::ServerError { code: "X".to_owned(), message: "the last".to_owned() });
        assert_eq!(world.server.sent("bob", "alice"), Vec::<Value>::new(), "not a word before consent");
        world.bob.peer.accept("alice");
        assert_eq!(world.answer(), [Outcome::Open(Trust::New), Outcome::Open(Trust::New)]);
        world.talk();
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
    World::with(trick, |world| {
        assert_eq!(world.call(), [Outcome::Open(Trust::New), Outcome::Open(Trust::New)]);
        for number in 0..500 {
            for message in junk("alice", number) {
                world.server.inject("bob", message);
            }
            for code in ["RELAY_FAILED", "USER_OFFLINE", "RATE_LIMITED"] {
                let payload = json!({"code": code, "message": "no", "target": "alice"});
                world.server.inject("bob", json!({"type": "error", "payload": payload}));
            }
        }
        world.talk();
    });
}

/// Goal: come into an open chat, or end it, under anybody's name.
#[test]
fn a_third_user_in_mid_chat_gets_nothing_and_ends_nothing() {
    World::with(honest, |world| {
        assert_eq!(world.call(), [Outcome::Open(Trust::New), Outcome::Open(Trust::New)]);
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
                world.server.inject("bob", json!({"type": kind, "sender": sender, "payload": payload}));
            }
        }
        // A key under alice's name is a new call, which bob is asked about; it is not hers, and her chat goes on.
        world.bob.wait(&Event::Request { peer: "alice".to_owned() });
        world.bob.peer.accept("alice");
        let reason = world.bob.find("a refusal", |event| match event {
            Event::Refused { peer, reason } if peer == "alice" => Some(reason.clone()),
            _ => None,
        });
        assert!(matches!(reason, CloseReason::IdentityChanged { identity: None, .. }), "{reason:?}");
        assert_eq!(world.server.sent("bob", "mallory"), Vec::<Value>::new());
        world.talk();
    });
}
