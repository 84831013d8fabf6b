//! Who may wait for an answer of a user: an engine alone, which the server tells of callers, and callers made of the
//! library's parts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use lowkey::peer::agreement::{Agreement, Names, OwnKeys};
use lowkey::peer::engine::{Engine, Input, Output, Setup};
use lowkey::peer::hello::{self, Hello, Inside, Refusal, Said};
use lowkey::peer::keys::KeyPair;
use lowkey::peer::trust::{Known, Trust};
use lowkey::peer::{CloseReason, Event};
use lowkey::protocol::{KeyExchange, MessageType, Sealed};
use serde_json::{Value, json};

use crate::world::identity;

/// Alice, who knows these, and is online.
fn alice(known: &[&str]) -> Engine {
    let known = known.iter().map(|name| {
        let known = Known { identity: identity(name).public(), is_verified: false };
        ((*name).to_owned(), known)
    });
    let known: HashMap<_, _> = known.collect();
    let mut engine = Engine::new("alice", Setup { known, ..Setup::default() });
    engine.handle(Input::Online, Instant::now());
    engine
}

/// A message of the server.
fn signal(kind: &str, sender: &str, payload: Value) -> Input {
    Input::Signal(json!({ "type": kind, "sender": sender, "payload": payload }).to_string())
}

/// The server has opened a session.
fn joined(name: &str) -> Input {
    signal("session:joined", "", json!({ "sessionId": "x", "peer": name }))
}

/// Somebody greets alice, and her program answers.
fn greets(engine: &mut Engine, name: &str, now: Instant) -> Agreement {
    engine.handle(joined(name), now);
    let own = OwnKeys::generate();
    let greeting = serde_json::to_value(hello::write_greeting(&own.greeting())).unwrap();
    let outputs = engine.handle(signal("key:exchange", name, greeting), now);
    let [Output::Signal(answer)] = &outputs[..] else { panic!("{outputs:?}") };
    let answer: Value = serde_json::from_str(answer).unwrap();
    let exchange: KeyExchange = serde_json::from_value(answer["payload"].clone()).unwrap();
    let Said::Answer(answer) = Said::read(&exchange) else { panic!("{exchange:?}") };
    own.agree(&answer, Names { caller: name, called: "alice" })
}

/// A caller says who it is: whose request the user is told of.
fn says(engine: &mut Engine, name: &str, agreement: &Agreement, pair: &KeyPair, now: Instant) -> Vec<Output> {
    let proof = agreement.prove(pair, &[]);
    let hello = Hello { identity: pair.public(), proof, features: Vec::new(), position: None };
    let sealed = agreement.seal_first(&hello.write(), None);
    engine.handle(signal("signal:ice", name, json!({ "sealed": sealed })), now)
}

/// Somebody calls and says who they are, who are known by this name alone: whose request the user is told of.
fn calls(engine: &mut Engine, name: &str) -> Vec<String> {
    let now = Instant::now();
    let agreement = greets(engine, name, now);
    let request = |output| match output {
        Output::Event(Event::Request { peer, .. }) => Some(peer),
        _ => None,
    };
    says(engine, name, &agreement, &identity(name), now).into_iter().filter_map(request).collect()
}

#[test]
fn strangers_take_no_place_of_those_who_are_known() {
    let mut engine = alice(&["bob", "carol", "dave", "erin"]);
    for stranger in ["one", "two", "three"] {
        assert_eq!(calls(&mut engine, stranger), [stranger]);
    }
    assert!(calls(&mut engine, "four").is_empty());
    for known in ["bob", "carol", "dave"] {
        assert_eq!(calls(&mut engine, known), [known]);
    }
    assert!(calls(&mut engine, "erin").is_empty(), "they have as many places, and not more");
    engine.handle(Input::Decline { peer: "two".to_owned() }, Instant::now());
    assert_eq!(calls(&mut engine, "four"), ["four"]);
    engine.handle(Input::Ignore { peer: "one".to_owned() }, Instant::now());
    assert_eq!(calls(&mut engine, "five"), ["five"]);
}

#[test]
fn a_caller_has_one_request_however_often_they_call() {
    let mut engine = alice(&[]);
    assert_eq!(calls(&mut engine, "bob"), ["bob"]);
    for _ in 0..10 {
        assert!(calls(&mut engine, "bob").is_empty());
    }
    assert_eq!(calls(&mut engine, "carol"), ["carol"], "there is room for others");
}

#[test]
fn of_too_many_who_do_not_say_who_they_are_the_oldest_gives_way_and_nobody_is_told() {
    let mut engine = alice(&[]);
    let start = Instant::now();
    let agreements: Vec<(String, Agreement)> = (0..70)
        .map(|number| {
            let name = format!("caller{number}");
            (name.clone(), greets(&mut engine, &name, start + Duration::from_millis(number)))
        })
        .collect();
    let now = start + Duration::from_secs(1);
    for (number, (name, agreement)) in agreements.iter().enumerate() {
        let outputs = says(&mut engine, name, agreement, &KeyPair::generate(), now);
        assert_eq!(!outputs.is_empty(), (6..9).contains(&number), "{number}: three may wait, and six have given way");
    }
    // Whoever takes too long is forgotten.
    let mut engine = alice(&[]);
    let agreement = greets(&mut engine, "bob", start);
    engine.handle(Input::Tick, start + Duration::from_secs(10));
    assert_eq!(says(&mut engine, "bob", &agreement, &identity("bob"), start + Duration::from_secs(10)), []);
    assert_eq!(engine.next_deadline(start), None);
}

#[test]
fn a_greeting_counts_once_for_each_session() {
    let (mut engine, now) = (alice(&[]), Instant::now());
    let greeting = || serde_json::to_value(hello::write_greeting(&OwnKeys::generate().greeting())).unwrap();
    let greets =
        |engine: &mut Engine, greeting: Value| engine.handle(signal("key:exchange", "bob", greeting), now).len();
    assert_eq!(greets(&mut engine, greeting()), 0, "nobody has opened a session");
    engine.handle(joined("bob"), now);
    let first = greeting();
    assert_eq!(greets(&mut engine, first.clone()), 1);
    assert_eq!(greets(&mut engine, greeting()), 0, "once");
    engine.handle(joined("bob"), now);
    assert_eq!(greets(&mut engine, first), 0, "the same again is no news");
    assert_eq!(greets(&mut engine, greeting()), 1);
}

#[test]
fn who_is_not_who_they_were_hears_nothing_until_the_user_declines() {
    let (mut engine, now) = (alice(&["bob"]), Instant::now());
    let mut agreement = greets(&mut engine, "bob", now);
    let told = says(&mut engine, "bob", &agreement, &KeyPair::generate(), now);
    assert!(
        matches!(&told[..], [Output::Event(Event::Refused { reason: CloseReason::IdentityChanged { .. }, .. })]),
        "{told:?}"
    );
    let decline = || Input::Decline { peer: "bob".to_owned() };
    let told = engine.handle(decline(), now);
    assert_eq!(refusal(&mut agreement, &told), Refusal::Identity);
    assert_eq!(engine.handle(decline(), now), [], "once");
}

/// What somebody is told, sealed.
fn refusal(agreement: &mut Agreement, outputs: &[Output]) -> Refusal {
    let [Output::Signal(text)] = outputs else { panic!("{outputs:?}") };
    let message: Value = serde_json::from_str(text).unwrap();
    let Sealed { sealed } = serde_json::from_value(message["payload"].clone()).unwrap();
    let inside = agreement.signals().open(&sealed).unwrap();
    assert_eq!(inside.len() % 384, 0, "its length tells nothing");
    let Some(Inside::Refused(refusal)) = Inside::read(MessageType::SignalIce, &inside) else { panic!("{text}") };
    refusal
}

#[test]
fn a_no_is_sealed_and_who_is_ignored_hears_none() {
    let (mut engine, now) = (alice(&[]), Instant::now());
    let mut agreement = greets(&mut engine, "bob", now);
    says(&mut engine, "bob", &agreement, &identity("bob"), now);
    let told = engine.handle(Input::Decline { peer: "bob".to_owned() }, now);
    assert_eq!(refusal(&mut agreement, &told), Refusal::Declined);
    let agreement = greets(&mut engine, "bob", now);
    says(&mut engine, "bob", &agreement, &identity("bob"), now);
    assert_eq!(engine.handle(Input::Ignore { peer: "bob".to_owned() }, now), []);
    assert_eq!(engine.handle(Input::Accept { peer: "bob".to_owned() }, now).len(), 1, "there is no request any more");
}

#[test]
fn who_calls_anew_while_the_user_is_asked_is_answered_as_whom_it_proves_to_be() {
    let (mut engine, now) = (alice(&[]), Instant::now());
    assert_eq!(calls(&mut engine, "bob"), ["bob"]);
    // The user says yes to somebody who has just called anew.
    let agreement = greets(&mut engine, "bob", now);
    assert_eq!(engine.handle(Input::Accept { peer: "bob".to_owned() }, now), [], "not to the call that is over");
    let told = says(&mut engine, "bob", &agreement, &identity("bob"), now);
    assert!(matches!(&told[..], [Output::Signal(text), Output::Event(_)] if text.contains("signal:ice")), "{told:?}");
    // The yes was not for somebody else.
    let mut engine = alice(&[]);
    assert_eq!(calls(&mut engine, "bob"), ["bob"]);
    let agreement = greets(&mut engine, "bob", now);
    engine.handle(Input::Accept { peer: "bob".to_owned() }, now);
    let told = says(&mut engine, "bob", &agreement, &identity("mallory"), now);
    let is_told = |told: &[Output]| {
        matches!(
            told,
            [
                Output::Event(Event::Refused { reason: CloseReason::Replaced, .. }),
                Output::Event(Event::Request { trust: Trust::New, .. })
            ]
        )
    };
    assert!(is_told(&told), "{told:?}");
}

#[test]
fn a_name_that_no_user_can_have_is_not_heard() {
    let mut engine = alice(&[]);
    assert_eq!(calls(&mut engine, &"x".repeat(64)), ["x".repeat(64)]);
    for name in [&*"x".repeat(65), &"\u{f6}".repeat(33), "", "a\nb", "a\u{85}b"] {
        let now = Instant::now();
        assert!(engine.handle(joined(name), now).is_empty(), "{name:?}");
        let key = json!({ "publicKey": KeyPair::generate().public().to_base64() });
        let before = engine.dropped();
        assert!(engine.handle(signal("key:exchange", name, key), now).is_empty());
        assert_eq!(engine.dropped(), before + 1, "{name:?}");
    }
}

/// What the engine does where the server says that it has refused something for `target`.
fn refused(engine: &mut Engine, target: &str, now: Instant) -> Vec<Output> {
    let payload = json!({ "code": "RATE_LIMITED", "message": "too much", "target": target });
    engine.handle(signal("error", "", payload), now)
}

/// Whether a call of the user's goes out at once.
fn goes_out(engine: &mut Engine, peer: &str, now: Instant) -> bool {
    let asks = |output: Output| matches!(output, Output::Signal(text) if text.contains("session:connect"));
    engine.handle(Input::Call { peer: peer.to_owned() }, now).into_iter().any(asks)
}

#[test]
fn strangers_who_hang_up_do_not_make_our_own_calls_slower() {
    let (mut engine, now) = (alice(&[]), Instant::now());
    for number in 0..100 {
        let stranger = format!("stranger{number}");
        assert_eq!(calls(&mut engine, &stranger), [&*stranger]);
        engine.handle(Input::Accept { peer: stranger.clone() }, now);
        engine.handle(Input::Leave { peer: stranger.clone() }, now);
        refused(&mut engine, &stranger, now);
    }
    assert!(goes_out(&mut engine, "bob", now));
    refused(&mut engine, "bob", now);
    assert!(!goes_out(&mut engine, "carol", now), "this was a call of ours");
    let later = now + Duration::from_secs(30);
    engine.handle(Input::Tick, later);
    assert!(goes_out(&mut engine, "dave", later));
}

#[test]
fn a_relay_that_is_refused_in_mid_call_does_not_end_the_call() {
    let (mut engine, now) = (alice(&[]), Instant::now());
    assert_eq!(calls(&mut engine, "bob"), ["bob"]);
    let done = engine.handle(Input::Accept { peer: "bob".to_owned() }, now);
    assert!(done.iter().any(|output| matches!(output, Output::Event(Event::Connecting { .. }))), "{done:?}");
    assert_eq!(refused(&mut engine, "bob", now), []);
    assert!(!engine.is_idle());
    // If it was more than a candidate, the call's own deadline tells.
    let ended = engine.handle(Input::Tick, now + Duration::from_secs(60));
    assert!(ended.iter().any(|output| matches!(output, Output::Event(Event::Closed { .. }))), "{ended:?}");
}
