//! A server that lies, and a network that does, where a test has to look into the peers, to stop at each step, or to change
//! what nobody but the peers can: engines and a hub joined in memory; what lies is a function on what is on its way. What a
//! server can do to real peers is in `by_server` and `in_the_middle`.

use lowkey::peer::engine::{Engine, Input, Setup};
use lowkey::peer::keys::KeyPair;
use lowkey::peer::trust::{Known, Trust};
use lowkey::peer::{CloseReason, Event};
use serde_json::{Value, json};

use crate::engine::{ALICE, BOB, CANDIDATE, NAMES, World, closed, message, open, text};

/// Changes the messages of one type to these users.
fn change(
    kind: &'static str,
    users: &'static [usize],
    mut change: impl FnMut(&mut Value) + 'static,
) -> Box<dyn FnMut(usize, String) -> Vec<String>> {
    Box::new(move |user, text| {
        let mut message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] == kind && users.contains(&user) {
            change(&mut message["payload"]);
        }
        vec![message.to_string()]
    })
}

/// Alice calls and bob accepts.
fn call(world: &mut World) {
    world.command(ALICE, |peer| Input::Connect { peer });
    world.settle();
    world.command(BOB, |peer| Input::Accept { peer });
    world.settle();
}

/// The end of a call that came to nothing: no chat was open, and no text was shown.
fn ends(world: &mut World) -> [Vec<CloseReason>; 2] {
    world.command(ALICE, text);
    world.command(BOB, text);
    world.settle();
    world.pass(60);
    world.settle();
    [ALICE, BOB].map(|user| {
        let events = world.taken(user);
        let is_false = |event: &Event| matches!(event, Event::Open { .. } | Event::Message { .. });
        assert!(!events.iter().any(is_false), "{} sees {events:?}", NAMES[user]);
        let reason = |event| match event {
            Event::Closed { reason, .. } | Event::Refused { reason, .. } => Some(reason),
            _ => None,
        };
        events.into_iter().filter_map(reason).collect()
    })
}

fn is_open(world: &mut World, user: usize, other: &str) -> Option<Trust> {
    let events = world.taken(user);
    let trust = events.iter().find_map(|event| match event {
        Event::Identified { trust, .. } => Some(*trust),
        _ => None,
    });
    trust.filter(|_| events.contains(&open(other)))
}

fn base64(bytes: [u8; 32]) -> String {
    data_encoding::BASE64.encode(&bytes)
}

/// Goal of none: what the attacks below are told apart from.
#[test]
fn honest_peers_prove_themselves_and_are_known_the_next_time() {
    let mut world = World::new();
    call(&mut world);
    assert_eq!([is_open(&mut world, ALICE, "bob"), is_open(&mut world, BOB, "alice")], [Some(Trust::New); 2]);
    world.command(ALICE, |peer| Input::Leave { peer });
    world.settle();
    call(&mut world);
    assert_eq!([is_open(&mut world, ALICE, "bob"), is_open(&mut world, BOB, "alice")], [Some(Trust::Known); 2]);
    world.command(ALICE, text);
    world.settle();
    assert_eq!(world.taken(BOB), [message("alice", "hello")]);
}

/// Goal: learn addresses and certificates by looking at signals.
#[test]
fn descriptions_and_candidates_are_sealed() {
    let mut world = World::new();
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let all = seen.clone();
    world.server = Box::new(move |_, text| {
        all.borrow_mut().push(text.clone());
        vec![text]
    });
    call(&mut world);
    assert_eq!(is_open(&mut world, ALICE, "bob"), Some(Trust::New));
    let seen = seen.borrow();
    let signals: Vec<&String> = seen.iter().filter(|text| text.contains("\"signal:")).collect();
    assert!(signals.len() >= 3, "{seen:?}");
    for text in signals {
        assert!(text.contains("sealed") && !text.contains("fingerprint") && !text.contains("candidate"), "{text}");
    }
}

/// Goal: be told something under the name of somebody who is known.
#[test]
fn somebody_else_under_a_known_name_is_refused_before_anything_is_sent() {
    let mut world = World::new();
    call(&mut world);
    world.command(ALICE, |peer| Input::Leave { peer });
    world.settle();
    world.taken(ALICE);
    world.taken(BOB);
    // The server gives alice's name to another.
    world.engines[ALICE] = Engine::new("alice", Setup::default());
    world.handle(ALICE, Input::Online);
    let sent = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let to_alice = sent.clone();
    world.server = Box::new(move |user, text| {
        if user == ALICE {
            to_alice.borrow_mut().push(text.clone());
        }
        vec![text]
    });
    call(&mut world);
    let [_, bobs] = ends(&mut world);
    assert!(
        matches!(&bobs[..], [CloseReason::IdentityChanged { identity: Some(_), known, .. }] if !known.is_verified),
        "{bobs:?}"
    );
    assert!(!sent.borrow().iter().any(|text| text.contains("key:exchange")), "bob sent nothing but a no");
}

/// Goal: talk without a proof to somebody who wants one.
#[test]
fn who_is_strict_takes_no_old_app() {
    let mut world = World::new();
    world.engines[BOB] = Engine::new("bob", Setup { is_strict: true, ..Setup::default() });
    world.handle(BOB, Input::Online);
    world.server = change("key:exchange", &[ALICE, BOB], |payload| {
        payload.as_object_mut().unwrap().remove("lowkey");
    });
    call(&mut world);
    let [_, bobs] = ends(&mut world);
    assert_eq!(bobs, [CloseReason::Unproven]);
}

/// Goal: pass for a peer by a proof that is old, forged, or the other side's own.
#[test]
fn a_false_late_or_reflected_proof_ends_the_chat() {
    let tricks: [fn(usize, String) -> Vec<String>; 4] = [
        |_, _| vec![json!({"proof": base64([7; 32])}).to_string()],
        |_, _| vec!["a text before the proof".to_owned()],
        |_, _| Vec::new(),
        |_, text| vec![text.replacen(['A', 'B', 'C', 'D', 'E', 'F', 'G'], "+", 1)],
    ];
    for trick in tricks {
        let mut world = World::new();
        world.network = Box::new(trick);
        call(&mut world);
        let ends = ends(&mut world);
        assert!(ends.iter().flatten().any(|reason| *reason == CloseReason::NotProven), "{ends:?}");
    }
    // Each side is played its own proof.
    let mut world = World::new();
    let own = std::cell::RefCell::new([const { None }; 2]);
    world.network = Box::new(move |user, text| {
        own.borrow_mut()[1 - user] = Some(text);
        own.borrow()[user].clone().into_iter().collect()
    });
    call(&mut world);
    let ends = ends(&mut world);
    assert!(ends.iter().flatten().any(|reason| *reason == CloseReason::NotProven), "{ends:?}");
}

/// Goal: change a call by sealed signals that are not its own.
#[test]
fn sealed_signals_that_are_played_back_or_forged_have_no_effect() {
    let mut world = World::new();
    // Every sealed signal comes twice, once more to its author, and forged.
    let author = std::cell::RefCell::new([const { Vec::<String>::new() }; 2]);
    world.server = Box::new(move |user, text| {
        let mut all = vec![text.clone()];
        if text.contains("sealed") {
            let name = NAMES[1 - user];
            let back = text.replace(&format!("\"sender\":\"{name}\""), &format!("\"sender\":\"{}\"", NAMES[user]));
            author.borrow_mut()[1 - user].push(back);
            all.push(text.clone());
            all.push(text.replace("sealed\":\"", "sealed\":\"AAAA"));
        }
        all.append(&mut author.borrow_mut()[user]);
        all
    });
    call(&mut world);
    assert_eq!([is_open(&mut world, ALICE, "bob"), is_open(&mut world, BOB, "alice")], [Some(Trust::New); 2]);
    assert!(world.engines.iter().all(|engine| engine.dropped() > 0));
    world.command(ALICE, text);
    world.command(ALICE, |peer| Input::Leave { peer });
    world.settle();
    assert_eq!(world.taken(BOB), [message("alice", "hello"), closed("alice", CloseReason::PeerLeft)]);
}

/// Goal: slip in a signal of one's own, in the clear.
#[test]
fn an_unsealed_signal_in_a_sealed_call_has_no_effect() {
    let mut world = World::new();
    // Behind every message, from the first one on: while a request waits, before the keys, and behind them.
    world.server = Box::new(|user, text| {
        let payload = json!({"candidate": CANDIDATE.replace("9000", "6666")});
        let plain = json!({"type": "signal:ice", "sender": NAMES[1 - user], "payload": payload});
        vec![text, plain.to_string()]
    });
    call(&mut world);
    assert_eq!(is_open(&mut world, ALICE, "bob"), Some(Trust::New));
    assert_eq!(world.added, [vec![], vec![CANDIDATE.to_owned()]], "bob has alice's, and there is no other");
}

/// Goal: keep the place of somebody whom the user now names by a link.
#[test]
fn who_is_named_by_a_link_takes_the_place_of_somebody_else_at_any_time() {
    let bob = Known { identity: KeyPair::generate().public(), is_verified: true };
    let trust = Input::Trust { peer: "bob".to_owned(), known: Some(bob.clone()) };
    // In the middle of a chat.
    let mut world = World::new();
    call(&mut world);
    world.taken(ALICE);
    world.handle(ALICE, trust.clone());
    world.settle();
    let [alices, bobs] = ends_of_open(&mut world);
    assert!(matches!(&alices[..], [CloseReason::IdentityChanged { known, .. }] if **known == bob), "{alices:?}");
    assert_eq!(bobs, [CloseReason::PeerLeft]);
    // After any number of steps of a call that is still on its way.
    for steps in 0..30 {
        let mut world = World::new();
        world.command(ALICE, |peer| Input::Connect { peer });
        world.settle();
        world.command(BOB, |peer| Input::Accept { peer });
        for _ in 0..steps {
            world.step(0);
        }
        world.handle(ALICE, trust.clone());
        world.settle();
        let [alices, _] = ends_of_open(&mut world);
        assert!(matches!(&alices[..], [CloseReason::IdentityChanged { .. }]), "{steps}: {alices:?}");
    }
}

/// How the chats of both have ended.
fn ends_of_open(world: &mut World) -> [Vec<CloseReason>; 2] {
    [ALICE, BOB].map(|user| {
        let closed = world.taken(user).into_iter().filter_map(|event| match event {
            Event::Closed { reason, .. } => Some(reason),
            _ => None,
        });
        closed.collect()
    })
}

/// Goal: be called under a name that nobody can have.
#[test]
fn a_name_that_nobody_can_have_calls_nobody() {
    let mut world = World::new();
    for name in ["bob\nalice", "\u{9b}bob", ""] {
        let joined = json!({"type": "session:joined", "payload": {"sessionId": "x", "peer": name}});
        world.handle(ALICE, Input::Signal(joined.to_string()));
    }
    assert_eq!(world.taken(ALICE), []);
}

/// Goal: pass for somebody by the identity of the one who is called.
#[test]
fn an_identity_of_our_own_is_refused() {
    let own = KeyPair::generate();
    let identity = own.public().to_base64();
    let mut world = World::new();
    world.engines[BOB] = Engine::new("bob", Setup { identity: own, ..Setup::default() });
    world.handle(BOB, Input::Online);
    world.server = change("key:exchange", &[BOB], move |payload| payload["lowkey"]["identity"] = json!(identity));
    world.command(ALICE, |peer| Input::Connect { peer });
    world.settle();
    let events = world.taken(BOB);
    assert!(matches!(&events[..], [Event::Request { .. }, Event::RequestEnded { .. }]), "{events:?}");
}
