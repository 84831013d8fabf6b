//! What holds for any input, in any order (proptest, which prints the smallest case that fails and keeps its seed).

use lowkey::peer::agreement::{self, Names, OwnKeys};
use lowkey::peer::candidate::{Candidate, Candidates};
use lowkey::peer::cipher::{Cipher, TextFormat};
use lowkey::peer::description::Description;
use lowkey::peer::engine::{Engine, Input, Output, PeerConnectionId, Setup};
use lowkey::peer::hello;
use lowkey::peer::keys::KeyPair;
use lowkey::peer::link::Link;
use lowkey::peer::trust::Known;
use lowkey::peer::{CloseReason, Event};
use lowkey::profile::known_peers::{KnownPeer, KnownPeers};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use webrtc::peer_connection::RTCSessionDescription;

use crate::engine_pair::{ALICE, BOB, CANDIDATE, EnginePair, description, message, open, text};

/// A message that a server may send to alice, honest or not.
fn signal() -> impl Strategy<Value = String> {
    let key = KeyPair::generate().public().to_base64();
    let names = Names { caller: "alice", called: "bob" };
    let answer = hello::write_answer(&agreement::answer(&OwnKeys::generate().greeting(), names).unwrap().0);
    let payloads = vec![
        json!({"sessionId": "x", "peer": "bob"}),
        json!({"publicKey": key}),
        serde_json::to_value(hello::write_greeting(&OwnKeys::generate().greeting())).unwrap(),
        serde_json::to_value(answer).unwrap(),
        json!({"publicKey": key, "lowkey": {"version": 2}}),
        json!({"publicKey": "AAAA"}),
        json!({"sdp": "v=0", "type": "offer"}),
        json!({"sdp": description(BOB, "p"), "type": "offer"}),
        json!({"sealed": "AAAA"}),
        json!({"candidate": "c"}),
        json!({"candidate": CANDIDATE}),
        json!({"code": "USER_OFFLINE", "message": "x", "target": "bob"}),
        json!({"code": "RELAY_FAILED", "message": "x"}),
        json!(null),
    ];
    let kinds = [
        "session:joined",
        "key:exchange",
        "signal:offer",
        "signal:answer",
        "signal:ice",
        "session:decline",
        "session:accept",
        "error",
        "dance",
    ];
    let senders = prop_oneof![Just(Some("bob")), Just(Some("mallory")), Just(Some("alice")), Just(None)];
    let parts = (prop::sample::select(kinds.to_vec()), senders, prop::sample::select(payloads));
    parts.prop_map(|(kind, sender, payload)| json!({"type": kind, "sender": sender, "payload": payload}).to_string())
}

fn input() -> impl Strategy<Value = Input> {
    let peer = || prop_oneof![4 => Just("bob".to_owned()), 1 => Just("mallory".to_owned())];
    let id = || (0u64..4).prop_map(PeerConnectionId);
    prop_oneof![
        6 => signal().prop_map(Input::Signal),
        2 => peer().prop_map(|peer| Input::Call { peer }),
        2 => peer().prop_map(|peer| Input::Accept { peer }),
        1 => peer().prop_map(|peer| Input::Decline { peer }),
        1 => peer().prop_map(|peer| Input::Leave { peer }),
        2 => peer().prop_map(|peer| Input::Send { peer, id: 1, text: "PLAIN".to_owned() }),
        1 => peer().prop_map(|peer| Input::Trust { peer, known: None }),
        1 => peer().prop_map(|peer| {
            let known = Known { identity: KeyPair::generate().public(), is_verified: true };
            Input::Trust { peer, known: Some(known) }
        }),
        1 => Just(Input::Online),
        1 => Just(Input::Offline),
        1 => Just(Input::Tick),
        2 => id().prop_map(|id| Input::Described { id, sdp: description(ALICE, "p") }),
        2 => id().prop_map(|id| Input::Opened { id }),
        2 => id().prop_map(|id| Input::Received { id, text: Some("AAAA".to_owned()) }),
        1 => peer().prop_map(|peer| Input::Ignore { peer }),
        1 => id().prop_map(|id| Input::Received { id, text: None }),
        1 => id().prop_map(|id| Input::Closed { id, reason: CloseReason::PeerLeft }),
    ]
}

/// A description in which lines are missing, come twice, in another order, or are changed in some place.
fn strange_description() -> impl Strategy<Value = String> {
    let more = [
        "a=group:BUNDLE 0 1",
        "a=ice-lite",
        "a=bundle-only",
        "a=setup:passive",
        "a=max-message-size:0",
        "a=sctpmap:5000 x 1",
        "m=application 9 DTLS/SCTP 5000",
        "m=audio 9 RTP/AVP 0",
        "m=",
        "a=mid:",
        "a=candidate:",
        "a=",
        "=",
        "",
        "\u{0}",
        "ü=ü",
        "a=fingerprint:sha-512 AB",
        "a=fingerprint:sha-256 A:é",
        "a=mid:\u{7f}",
    ];
    let usual = format!("{}a={CANDIDATE}", description(ALICE, "p"));
    let lines: Vec<String> = usual.lines().map(str::to_owned).chain(more.map(str::to_owned)).collect();
    let usual: Vec<String> = lines[..usual.lines().count()].to_vec();
    let line = prop_oneof![4 => prop::sample::select(usual.clone()), 4 => prop::sample::select(lines), 1 => ".{0,40}"];
    let change = (any::<prop::sample::Index>(), prop::option::of(line));
    prop::collection::vec(change, 0..8).prop_map(move |changes| {
        let mut lines = usual.clone();
        for (place, line) in changes {
            let place = place.index(lines.len() + 1);
            match line {
                Some(line) => lines.insert(place, line),
                None if place < lines.len() => drop(lines.remove(place)),
                None => {}
            }
        }
        lines.join("\r\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    /// Whatever is taken is such that the crate reads it.
    #[test]
    fn no_description_and_no_candidate_is_too_much(sdp in strange_description(), text in ".{0,80}") {
        let text = format!("1 1 udp 1 {text}");
        let candidates = [Candidate::read(&text), Candidate::read(&sdp)];
        let own = Description::read(&description(BOB, "p")).unwrap();
        let mut taken: Vec<Candidate> = candidates.into_iter().flatten().collect();
        if let Ok(read) = Description::read(&sdp) {
            let written = read.for_webrtc();
            prop_assert_eq!(Description::read(&written).unwrap().for_webrtc(), written.clone());
            prop_assert!(written.lines().count() == 17 - usize::from(!written.contains("ice-lite")), "{}", written);
            let answer = own.answer(&read.layout(), &read.candidates().iter().collect::<Vec<_>>());
            prop_assert_eq!(Description::read(&answer).unwrap().fingerprint(), own.fingerprint());
            for sdp in [written, answer, read.offer(&[])] {
                let parsed = RTCSessionDescription::offer(sdp.clone()).and_then(|offer| offer.unmarshal());
                prop_assert!(parsed.is_ok(), "{} {:?}", sdp, parsed);
            }
            taken.extend(read.candidates().iter().cloned());
        }
        let mut admitted = Candidates::default();
        for candidate in taken {
            let text = candidate.to_string();
            prop_assert_eq!(Candidate::read(&text), Some(candidate.clone()));
            let bare = text.trim_start_matches("candidate:");
            prop_assert!(rtc::ice::candidate::unmarshal_candidate(bare).is_ok(), "{}", text);
            admitted.admit(&candidate, false);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_order_of_inputs_shows_no_text_and_sends_none_in_the_clear(inputs in prop::collection::vec(input(), 0..60)) {
        let mut engine = Engine::new("alice", Setup::default());
        let mut now = Instant::now();
        engine.handle(Input::Online, now);
        for input in inputs {
            now += Duration::from_millis(500);
            for output in engine.handle(input, now) {
                match output {
                    Output::Signal(text) | Output::Transmit { text, .. } => prop_assert!(!text.contains("PLAIN")),
                    // Nobody here has a key with which a text or a proof could be sealed.
                    Output::Message { .. } => prop_assert!(false, "a text from nobody"),
                    _ => {}
                }
            }
        }
        for peer in engine.peers() {
            // A chat, and a request beside it.
            engine.handle(Input::Leave { peer: peer.clone() }, now);
            engine.handle(Input::Leave { peer }, now);
        }
        // Who has called and not said who they are is forgotten by and by.
        now += Duration::from_secs(60);
        engine.handle(Input::Tick, now);
        prop_assert!(engine.peers().is_empty() && engine.next_deadline(now).is_none(), "nothing is kept after the end");
        let left = format!("{engine:?}");
        prop_assert_eq!(left.matches("KeyPair(").count(), 1, "the identity is the one secret that is left: {}", left);
        prop_assert!(!["Cipher", "Boxes", "Secret", "KemPair"].iter().any(|secret| left.contains(secret)), "{}", left);
    }

    #[test]
    fn nothing_but_an_answer_of_the_program_is_sent_and_no_connection_made_before_consent(
        inputs in prop::collection::vec(input(), 0..60),
    ) {
        let mut engine = Engine::new("alice", Setup::default());
        let mut now = Instant::now();
        engine.handle(Input::Online, now);
        // With whom the user wants to talk, or has wanted to: what was on its way may still get its answer.
        let mut wanted = HashSet::new();
        for input in inputs {
            now += Duration::from_millis(500);
            let turned_down = match &input {
                Input::Call { peer } | Input::Accept { peer } => {
                    wanted.insert(peer.clone());
                    None
                }
                Input::Decline { peer } | Input::Leave { peer } => Some(peer.clone()),
                _ => None,
            };
            for output in engine.handle(input, now) {
                match output {
                    Output::Signal(text) => {
                        let message: Value = serde_json::from_str(&text).unwrap();
                        let target = message["target"].as_str().unwrap().to_owned();
                        let is_no = message["type"] == "session:decline" && turned_down.as_ref() == Some(&target);
                        // It says that a program of ours is there, and nothing else.
                        let is_key = message["type"] == "key:exchange";
                        let is_answer = is_key && message["payload"]["lowkey"]["answers"].is_string();
                        prop_assert!(is_no || is_answer || wanted.contains(&target), "{} before consent", text);
                    }
                    Output::Offer { .. } | Output::Answer { .. } | Output::Finish { .. } | Output::AddCandidate { .. }
                    | Output::Transmit { .. } => prop_assert!(!wanted.is_empty(), "a connection before consent"),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn no_text_goes_in_or_out_before_it_is_told_who_is_there(
        steps in prop::collection::vec((0u8..8, any::<usize>()), 0..80),
    ) {
        let mut pair = EnginePair::new();
        let texts = std::rc::Rc::new(std::cell::RefCell::new([const { Vec::<String>::new() }; 2]));
        let seen = texts.clone();
        pair.network = Box::new(move |user, text| {
            seen.borrow_mut()[1 - user].push(text.clone());
            vec![text]
        });
        pair.command(ALICE, |peer| Input::Call { peer });
        for (command, choice) in steps {
            let user = choice % 2;
            match command {
                0 => pair.command(user, |peer| Input::Accept { peer }),
                1 => pair.command(user, text),
                _ => {
                    pair.step(choice);
                }
            }
        }
        pair.settle();
        let texts = texts.borrow();
        for user in [ALICE, BOB] {
            prop_assert!(!texts[user].iter().any(|text| text.contains("hello")), "in the clear");
            let events = pair.taken(user);
            let place = |find: fn(&Event) -> bool| events.iter().position(find);
            if let Some(message) = place(|event| matches!(event, Event::Message { .. })) {
                let identified = place(|event| matches!(event, Event::Identified { .. }));
                prop_assert!(identified.is_some_and(|identified| identified < message), "{:?}", events);
            }
        }
    }

    #[test]
    fn two_honest_peers_end_in_one_open_chat_or_in_none(
        at_once in any::<bool>(),
        steps in prop::collection::vec((0u8..12, any::<usize>()), 0..80),
    ) {
        let mut pair = EnginePair::new();
        let mut is_open = [false; 2];
        if at_once {
            pair.command(ALICE, |peer| Input::Call { peer });
            pair.command(BOB, |peer| Input::Call { peer });
        }
        for (command, choice) in steps {
            let user = choice % 2;
            match command {
                0 => pair.command(user, |peer| Input::Call { peer }),
                1 => pair.command(user, |peer| Input::Accept { peer }),
                2 => pair.command(user, |peer| Input::Leave { peer }),
                3 if choice % 8 < 2 => pair.command(user, |peer| Input::Decline { peer }),
                _ => {
                    pair.step(choice);
                }
            }
        }
        pair.settle();
        // Whose caller has not come calls in their turn, and may not be answered.
        for _ in 0..2 {
            pair.pass(120);
            pair.settle();
        }
        for (user, other) in [(ALICE, "bob"), (BOB, "alice")] {
            for event in pair.taken(user) {
                match event {
                    event if event == open(other) => is_open[user] = true,
                    Event::Closed { .. } => is_open[user] = false,
                    _ => {}
                }
            }
        }
        prop_assert_eq!(is_open[ALICE], is_open[BOB]);
        for user in [ALICE, BOB] {
            prop_assert_eq!(pair.engines[user].peers().len(), usize::from(is_open[user]), "half a chat is left over");
        }
        // And an open one is whole: texts go both ways.
        pair.command(ALICE, text);
        pair.command(BOB, text);
        pair.settle();
        for (user, other) in [(ALICE, "bob"), (BOB, "alice")] {
            let is_message = pair.taken(user).contains(&message(other, "hello"));
            prop_assert_eq!(is_message, is_open[user], "{} is half open", other);
        }
    }

    #[test]
    fn any_text_comes_through_the_cipher_and_nothing_else_does(text in any::<String>(), forged in any::<String>()) {
        let (alice, bob) = (KeyPair::generate(), KeyPair::generate());
        let (to_alice, to_bob) = (alice.public(), bob.public());
        let mut alice = Cipher::new(alice, to_bob, TextFormat::V1).unwrap();
        let mut bob = Cipher::new(bob, to_alice, TextFormat::V2).unwrap();
        let sealed = alice.seal(&text).unwrap();
        prop_assert!(bob.open(&forged).is_err());
        for cut in [0, sealed.len() / 2, sealed.len() - 1] {
            prop_assert!(bob.open(&sealed[..cut]).is_err());
        }
        prop_assert_eq!(bob.open(&sealed).unwrap().bytes, text.as_bytes());
        prop_assert!(bob.open(&sealed).is_err() && alice.open(&sealed).is_err());
        prop_assert_eq!(alice.open(&bob.seal(&text).unwrap()).unwrap().bytes, text.as_bytes());
    }

    #[test]
    fn any_name_is_known_by_itself_alone(names in prop::collection::vec(".+", 1..5)) {
        let mut peers = KnownPeers::default();
        for name in &names {
            let known = KnownPeer { identity: KeyPair::generate().public(), is_verified: false, since: "d".to_owned() };
            peers.insert(name, "h:1", known);
        }
        let read = KnownPeers::parse(&peers.to_string());
        prop_assert_eq!(read.as_ref(), Ok(&peers));
        prop_assert!(names.iter().all(|name| peers.get(name, "h:1").is_some()));
    }

    #[test]
    fn any_text_is_a_link_or_an_error(text in "(lowkey://)?[a-z:/@?#%A-Z0-9_-]{0,80}") {
        if let Ok(link) = text.parse::<Link>() {
            prop_assert_eq!(link.to_string().parse::<Link>(), Ok(link));
        }
        let _ = KnownPeers::parse(&text);
    }
}
