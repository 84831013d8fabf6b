//! What an engine does in calls and chats, in memory ([`EnginePair`]).

use std::time::Instant;

use lowkey::peer::engine::{Engine, Input, Output, PeerConnectionId, Setup};
use lowkey::peer::{CloseReason, Event, Trust};
use serde_json::json;

use crate::engine_pair::{ALICE, BOB, EnginePair, NAMES, closed, delivered, description, message, open, text};

#[test]
fn a_call_goes_from_connect_to_texts_and_to_its_end() {
    let mut pair = EnginePair::open();
    pair.command(ALICE, text);
    pair.command(BOB, text);
    pair.settle();
    assert_eq!(pair.taken(BOB), [message("alice", "hello")]);
    assert_eq!(pair.taken(ALICE), [message("bob", "hello")]);
    pair.command(BOB, |peer| Input::Leave { peer });
    pair.settle();
    assert_eq!(pair.taken(BOB), [delivered("alice", 1), closed("alice", CloseReason::Left)]);
    assert_eq!(pair.taken(ALICE), [delivered("bob", 1), closed("bob", CloseReason::PeerLeft)]);
    assert_eq!([ALICE, BOB].map(|user| pair.engines[user].next_deadline(pair.now())), [None, None]);
}

#[test]
fn both_calling_at_once_end_in_one_open_chat_in_any_order_of_events() {
    for seed in 0..3000u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut choose = move || {
            // An xorshift: any will do, as long as the same seed gives the same order.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize
        };
        let mut pair = EnginePair::new();
        pair.command(ALICE, |peer| Input::Call { peer });
        // The other call comes somewhere in the course of the first one.
        for _ in 0..choose() % 6 {
            pair.step(choose());
        }
        pair.command(BOB, |peer| Input::Call { peer });
        while pair.step(choose()) {}
        // Whoever was asked, because its own call had come to an end before, says yes.
        for user in [ALICE, BOB] {
            if pair.seen(user).iter().any(|event| matches!(event, Event::Request { .. })) {
                pair.command(user, |peer| Input::Accept { peer });
            }
        }
        while pair.step(choose()) {}
        for (user, peer) in [(ALICE, "bob"), (BOB, "alice")] {
            let events = pair.taken(user);
            let opened = events.iter().filter(|event| **event == open(peer)).count();
            assert_eq!(opened, 1, "seed {seed}: {} has {events:?}", NAMES[user]);
            assert!(!events.iter().any(|event| matches!(event, Event::Closed { .. })), "seed {seed}: {events:?}");
        }
        pair.command(ALICE, text);
        pair.command(BOB, text);
        pair.settle();
        assert_eq!(pair.taken(BOB), [message("alice", "hello")], "seed {seed}");
        assert_eq!(pair.taken(ALICE), [message("bob", "hello")], "seed {seed}");
    }
}

#[test]
fn a_request_and_a_call_are_over_after_a_minute() {
    let mut pair = EnginePair::new();
    pair.command(ALICE, |peer| Input::Call { peer });
    pair.settle();
    assert_eq!(pair.taken(BOB), [pair.request_to(BOB)]);
    pair.pass(59);
    assert_eq!((pair.taken(ALICE), pair.taken(BOB)), (vec![], vec![]));
    pair.pass(1);
    assert_eq!(pair.taken(ALICE), [closed("bob", CloseReason::NoAnswer)]);
    assert_eq!(pair.taken(BOB), [Event::RequestEnded { peer: "alice".to_owned() }]);
    pair.command(BOB, |peer| Input::Accept { peer });
    pair.settle();
    assert_eq!(pair.taken(ALICE), []);
    assert_eq!(pair.taken(BOB), [closed("alice", CloseReason::NotCalling)], "too late");
}

#[test]
fn a_call_that_is_left_before_the_server_has_answered_stops_ringing() {
    let mut pair = EnginePair::new();
    pair.command(ALICE, |peer| Input::Call { peer });
    pair.command(ALICE, |peer| Input::Leave { peer });
    pair.settle();
    assert_eq!(pair.taken(ALICE), [closed("bob", CloseReason::Left)]);
    assert_eq!(pair.taken(BOB), [], "it never rang");
    // And a new call is a new call.
    pair.command(ALICE, |peer| Input::Call { peer });
    pair.command(ALICE, |peer| Input::Leave { peer });
    pair.command(ALICE, |peer| Input::Call { peer });
    pair.settle();
    pair.command(BOB, |peer| Input::Accept { peer });
    pair.settle();
    assert_eq!(pair.taken(ALICE).last(), Some(&open("bob")));
    assert_eq!(pair.taken(BOB).last(), Some(&open("alice")));
}

#[test]
fn a_negotiation_that_comes_to_nothing_is_given_up() {
    let mut pair = EnginePair::new();
    pair.command(ALICE, |peer| Input::Call { peer });
    pair.settle();
    pair.command(BOB, |peer| Input::Accept { peer });
    while pair.to_server[BOB].front().is_none_or(|text| !text.contains("signal:answer")) {
        pair.step(0);
    }
    pair.to_server[BOB].clear();
    pair.settle();
    pair.pass(30);
    assert_eq!(pair.taken(ALICE).last(), Some(&closed("bob", CloseReason::PeerHasNoCandidates)));
    assert_eq!(pair.taken(BOB).last(), Some(&closed("alice", CloseReason::NoCandidates)));
}

#[test]
fn a_connection_that_never_came_about_was_not_lost() {
    let mut pair = EnginePair::new();
    pair.command(ALICE, |peer| Input::Call { peer });
    pair.settle();
    pair.command(BOB, |peer| Input::Accept { peer });
    while pair.from_webrtc[ALICE].is_empty() {
        pair.step(0);
    }
    let reason = CloseReason::ConnectionLost;
    pair.handle(ALICE, Input::Closed { id: PeerConnectionId(0), reason });
    assert_eq!(pair.taken(ALICE).last(), Some(&closed("bob", CloseReason::NoCandidates)));
}

#[test]
fn a_caller_that_repeats_itself_gets_no_more_time() {
    let mut pair = EnginePair::new();
    for _ in 0..3 {
        pair.command(ALICE, |peer| Input::Call { peer });
        pair.settle();
        pair.pass(25);
        // Left without a word: a program that was killed.
        let identity = pair.identity(ALICE);
        pair.engines[ALICE] = Engine::new("alice", Setup { identity, ..Setup::default() });
        pair.handle(ALICE, Input::Online);
    }
    let peer = || "alice".to_owned();
    assert_eq!(pair.taken(BOB), [pair.request_to(BOB), Event::RequestEnded { peer: peer() }]);
}

#[test]
fn stun_and_turn_servers_that_the_server_names_are_used_and_hostile_ones_do_no_harm() {
    let mut bob = Engine::new("bob", Setup::default());
    let mut joined = |servers: &str| {
        let payload = format!(r#"{{"sessionId":"x","peer":"alice","iceServers":{servers}}}"#);
        let outputs =
            bob.handle(Input::Signal(format!(r#"{{"type":"session:joined","payload":{payload}}}"#)), Instant::now());
        let servers = outputs.into_iter().find_map(|output| match output {
            Output::UseServers(servers) => Some(servers.iter().map(|server| server.url.clone()).collect::<Vec<_>>()),
            _ => None,
        });
        (servers, bob.dropped())
    };
    let turn = r#"[{"urls":["turn:a","turns:a"],"username":"u","credential":"c"}]"#;
    assert_eq!(joined(turn), (Some(vec!["turn:a".to_owned(), "turns:a".to_owned()]), 0));
    assert_eq!(joined(turn), (None, 0), "they are the same");
    let many = format!(r#"[{{"urls":[{}"stun:a"]}}]"#, r#""stun:b","#.repeat(1000));
    assert_eq!(joined(&many).0.unwrap().len(), 8);
    let long = "x".repeat(60_000);
    for hostile in [
        "null",
        "{}",
        "[[]]",
        "[null]",
        r#"[{"urls":{}}]"#,
        r#"[{"urls":"file:///etc/passwd"}]"#,
        r#"[{"urls":"stun:"}]"#,
        &format!(r#"["{long}"]"#),
        &format!(r#"[{{"urls":"stun:{long}"}}]"#),
        &format!(r#"[{{"urls":"turn:a","username":"{long}","credential":"c"}}]"#),
    ] {
        let (servers, dropped) = joined(hostile);
        assert!(servers.unwrap_or_default().is_empty() && dropped == 0, "{hostile}");
    }
    assert_eq!(joined("[]").1, 0);
}

#[test]
fn a_new_call_that_meets_the_end_of_the_old_chat_is_not_lost() {
    let mut pair = EnginePair::open();
    // She leaves and calls again; the end of the old connection is seen somewhere in the course of the new call.
    for steps in 0..12 {
        pair.command(ALICE, |peer| Input::Leave { peer });
        let farewells: Vec<Input> = pair.from_webrtc[BOB].drain(..).collect();
        pair.command(ALICE, |peer| Input::Call { peer });
        for _ in 0..steps {
            pair.step(0);
        }
        for input in farewells {
            pair.handle(BOB, input);
        }
        pair.settle();
        let told = pair.taken(BOB);
        assert!(told.contains(&pair.request_of(BOB, Trust::Known)), "{steps}: {told:?}");
        pair.command(BOB, |peer| Input::Accept { peer });
        pair.settle();
        assert_eq!(pair.taken(BOB).last(), Some(&open("alice")), "{steps}");
        assert_eq!(pair.taken(ALICE).last(), Some(&open("bob")), "{steps}");
    }
}

/// A session that somebody has opened with bob, as the server says.
fn joined(peer: &str) -> Input {
    Input::Signal(format!(r#"{{"type":"session:joined","payload":{{"sessionId":"x","peer":"{peer}"}}}}"#))
}

/// The key of an old app under alice's name.
fn key_of_app(letter: &str) -> Input {
    let payload = format!(r#"{{"publicKey":"{}="}}"#, letter.repeat(43));
    Input::Signal(format!(r#"{{"type":"key:exchange","target":"bob","sender":"alice","payload":{payload}}}"#))
}

#[test]
fn a_key_of_an_old_app_under_a_name_that_has_proven_an_identity_is_refused_and_told() {
    let mut pair = EnginePair::open();
    pair.command(ALICE, |peer| Input::Leave { peer });
    pair.settle();
    pair.taken(BOB);
    pair.handle(BOB, key_of_app("4"));
    assert_eq!(pair.taken(BOB), [], "without a session it is nothing");
    pair.handle(BOB, joined("alice"));
    pair.handle(BOB, key_of_app("4"));
    let told = pair.taken(BOB);
    assert!(
        matches!(&told[..], [Event::Refused { reason: CloseReason::IdentityChanged { identity: None, .. }, .. }]),
        "{told:?}"
    );
    assert!(pair.to_server[BOB].is_empty(), "not a word");
    pair.command(BOB, |peer| Input::Decline { peer });
    assert!(pair.to_server[BOB].pop_front().unwrap().contains("session:decline"), "until the user says so");
    pair.command(BOB, |peer| Input::Decline { peer });
    assert!(pair.to_server[BOB].is_empty(), "once");
}

#[test]
fn another_key_in_mid_chat_ends_nothing() {
    let mut pair = EnginePair::open();
    pair.handle(BOB, key_of_app("A"));
    assert_eq!(pair.taken(BOB), [], "a key of low order is none");
    pair.handle(BOB, joined("alice"));
    pair.handle(BOB, key_of_app("4"));
    // Whoever it is has not the identity of the alice that he talks to.
    let told = pair.taken(BOB);
    assert!(
        matches!(&told[..], [Event::Refused { reason: CloseReason::IdentityChanged { identity: None, .. }, .. }]),
        "{told:?}"
    );
    pair.command(ALICE, text);
    pair.settle();
    assert_eq!(pair.taken(BOB), [message("alice", "hello")]);
}

#[test]
fn what_a_third_user_sends_in_mid_chat_has_no_effect() {
    let mut pair = EnginePair::open();
    let frames = [
        r#"{"type":"key:exchange","sender":"mallory","payload":{"publicKey":"AAAA"}}"#,
        r#"{"type":"signal:offer","sender":"mallory","payload":{"sdp":"x","type":"offer"}}"#,
        r#"{"type":"signal:offer","sender":"alice","payload":{"sdp":"x","type":"offer"}}"#,
        r#"{"type":"signal:answer","sender":"alice","payload":{"sdp":"x","type":"answer"}}"#,
        r#"{"type":"signal:ice","sender":"mallory","payload":{"candidate":"x"}}"#,
        r#"{"type":"session:decline","sender":"mallory"}"#,
        r#"{"type":"session:decline","sender":"alice"}"#,
        r#"{"type":"signal:offer","payload":{"sdp":"x","type":"offer"}}"#,
        r#"{"type":"session:joined","payload":{"sessionId":"x","peer":"bob"}}"#,
        r#"{"type":"dance","sender":"alice"}"#,
        "[]",
    ];
    for frame in frames {
        pair.handle(BOB, Input::Signal(frame.to_owned()));
    }
    assert_eq!(pair.taken(BOB), []);
    assert!(pair.to_server[BOB].is_empty() && pair.from_webrtc[BOB].is_empty());
    assert_eq!(pair.engines[BOB].dropped(), frames.len() as u64);
}

#[test]
fn what_is_told_of_an_old_connection_has_no_effect() {
    let mut pair = EnginePair::open();
    let [old] = pair.connected.keys().filter(|(user, _)| *user == BOB).map(|(_, id)| *id).collect::<Vec<_>>()[..]
    else {
        panic!("one connection")
    };
    pair.command(BOB, |peer| Input::Leave { peer });
    pair.settle();
    pair.taken(BOB);
    let reason = CloseReason::ConnectionLost;
    for input in [
        Input::Opened { id: old },
        Input::Received { id: old, text: Some("x".to_owned()) },
        Input::Described { id: old, sdp: "x".to_owned() },
        Input::Closed { id: old, reason },
    ] {
        pair.handle(BOB, input);
    }
    assert_eq!(pair.taken(BOB), []);
    assert!(pair.to_server[BOB].is_empty());
}

#[test]
fn early_candidates_wait_for_the_description_up_to_a_limit() {
    let mut pair = EnginePair::new();
    let signal = |pair: &mut EnginePair, kind: &str, payload: &str| {
        let text = format!(r#"{{"type":"{kind}","sender":"alice","payload":{payload}}}"#);
        pair.engines[BOB].handle(Input::Signal(text), pair.now())
    };
    signal(&mut pair, "session:joined", r#"{"sessionId":"x","peer":"alice"}"#);
    signal(&mut pair, "key:exchange", &format!(r#"{{"publicKey":"{}="}}"#, "4".repeat(43)));
    let candidate = |number: usize, kind: &str| format!("candidate:1 1 udp 5 192.0.2.{number} 9 typ {kind}");
    for number in 1..71 {
        let payload = json!({ "candidate": candidate(number, "host") }).to_string();
        assert_eq!(signal(&mut pair, "signal:ice", &payload), []);
    }
    pair.engines[BOB].handle(Input::Accept { peer: "alice".to_owned() }, pair.now());
    let sdp = format!("{}a={}\r\n", description(ALICE, "p"), candidate(200, "host"));
    let outputs = signal(&mut pair, "signal:offer", &json!({"sdp": sdp, "type": "offer"}).to_string());
    let added: Vec<&str> = outputs[1..]
        .iter()
        .map(|output| match output {
            Output::AddCandidate { candidate, .. } => &*candidate.candidate,
            _ => panic!("{output:?}"),
        })
        .collect();
    assert!(matches!(&outputs[0], Output::Answer { sdp, .. } if !sdp.contains("candidate")), "they come one by one");
    let expected: Vec<String> = std::iter::once(200).chain(1..32).map(|number| candidate(number, "host")).collect();
    assert_eq!(added, expected, "those of the description, then as many as are taken");
    let mut late =
        |kind| signal(&mut pair, "signal:ice", &json!({ "candidate": candidate(99, kind) }).to_string()).len();
    assert_eq!([late("host"), late("srflx"), late("srflx"), late("relay")], [0, 1, 0, 1]);
}

#[test]
fn errors_of_a_server_that_names_no_target_end_the_right_call() {
    let mut pair = EnginePair::new();
    let error =
        |code: &str| Input::Signal(format!(r#"{{"type":"error","payload":{{"code":"{code}","message":"no"}}}}"#));
    for peer in ["one", "two"] {
        pair.handle(ALICE, Input::Call { peer: peer.to_owned() });
    }
    pair.handle(ALICE, error("USER_OFFLINE"));
    assert_eq!(pair.taken(ALICE), [closed("one", CloseReason::NotOnline)]);
    pair.handle(ALICE, error("RELAY_FAILED"));
    assert_eq!(pair.taken(ALICE), [closed("two", CloseReason::NotOnline)]);
    pair.handle(ALICE, error("INVALID_MESSAGE"));
    let event = Event::ServerError { code: "INVALID_MESSAGE".to_owned(), message: "no".to_owned() };
    assert_eq!(pair.taken(ALICE), [event]);
}
