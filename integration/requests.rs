//! Who may wait for an answer of a user: an engine alone, which the server tells of callers.

use std::collections::HashMap;
use std::time::Instant;

use lowkey::peer::engine::{Engine, Input, Output, Setup};
use lowkey::peer::keys::KeyPair;
use lowkey::peer::trust::Known;
use lowkey::peer::{CloseReason, Event};

/// Alice, who knows these, and is online.
fn alice(known: &[&str]) -> Engine {
    let known = known.iter().map(|name| {
        let known = Known { identity: KeyPair::generate().public(), is_verified: false };
        ((*name).to_owned(), known)
    });
    let known: HashMap<_, _> = known.collect();
    let mut engine = Engine::new("alice", Setup { known, ..Setup::default() });
    engine.handle(Input::Online, Instant::now());
    engine
}

/// The server says that `name` calls: whose request the user is told of.
fn calls(engine: &mut Engine, name: &str) -> Vec<String> {
    let payload = serde_json::json!({ "sessionId": "x", "peer": name });
    let joined = serde_json::json!({ "type": "session:joined", "payload": payload }).to_string();
    let request = |output| match output {
        Output::Event(Event::Request { peer }) => Some(peer),
        _ => None,
    };
    engine.handle(Input::Signal(joined), Instant::now()).into_iter().filter_map(request).collect()
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
fn who_is_not_who_they_were_hears_nothing_until_the_user_declines() {
    let mut engine = alice(&["bob"]);
    assert_eq!(calls(&mut engine, "bob"), ["bob"]);
    let [key, identity] = [(); 2].map(|()| KeyPair::generate().public().to_base64());
    let introduction = serde_json::json!({ "identity": identity, "features": ["proof", "seal", "ack"] });
    let payload = serde_json::json!({ "publicKey": key, "lowkey": introduction });
    let exchange = serde_json::json!({ "type": "key:exchange", "sender": "bob", "payload": payload }).to_string();
    let now = Instant::now();
    assert!(engine.handle(Input::Signal(exchange), now).is_empty());
    let told = engine.handle(Input::Accept { peer: "bob".to_owned() }, now);
    assert!(
        matches!(&told[..], [Output::Event(Event::Refused { reason: CloseReason::IdentityChanged { .. }, .. })]),
        "{told:?}"
    );
    let decline = || Input::Decline { peer: "bob".to_owned() };
    let told = engine.handle(decline(), now);
    assert!(matches!(&told[..], [Output::Signal(text)] if text.contains("session:decline")), "{told:?}");
    assert_eq!(engine.handle(decline(), now), [], "once");
}

#[test]
fn a_name_that_no_user_can_have_is_not_heard() {
    let mut engine = alice(&[]);
    assert_eq!(calls(&mut engine, &"x".repeat(64)), ["x".repeat(64)]);
    for name in [&*"x".repeat(65), &"\u{f6}".repeat(33), "", "a\nb", "a\u{85}b"] {
        assert!(calls(&mut engine, name).is_empty(), "{name:?}");
        let key = serde_json::json!({ "publicKey": KeyPair::generate().public().to_base64() });
        let exchange = serde_json::json!({ "type": "key:exchange", "sender": name, "payload": key }).to_string();
        let before = engine.dropped();
        assert!(engine.handle(Input::Signal(exchange), Instant::now()).is_empty());
        assert_eq!(engine.dropped(), before + 1, "{name:?}");
    }
}

/// What the engine does where the server says that it has refused something for `target`.
fn refused(engine: &mut Engine, target: &str, now: Instant) -> Vec<Output> {
    let payload = serde_json::json!({ "code": "RATE_LIMITED", "message": "too much", "target": target });
    let error = serde_json::json!({ "type": "error", "payload": payload }).to_string();
    engine.handle(Input::Signal(error), now)
}

/// Whether a call of the user's goes out at once.
fn goes_out(engine: &mut Engine, peer: &str, now: Instant) -> bool {
    let asks = |output: Output| matches!(output, Output::Signal(text) if text.contains("session:connect"));
    engine.handle(Input::Connect { peer: peer.to_owned() }, now).into_iter().any(asks)
}

#[test]
fn strangers_who_hang_up_do_not_make_our_own_calls_slower() {
    let (mut engine, now) = (alice(&[]), Instant::now());
    for number in 0..100 {
        let stranger = format!("stranger{number}");
        assert_eq!(calls(&mut engine, &stranger), [&*stranger]);
        engine.handle(Input::Accept { peer: stranger.clone() }, now);
        let key = serde_json::json!({ "publicKey": KeyPair::generate().public().to_base64() });
        let key = serde_json::json!({ "type": "key:exchange", "sender": stranger, "payload": key }).to_string();
        engine.handle(Input::Signal(key), now);
        engine.handle(Input::Leave { peer: stranger.clone() }, now);
        refused(&mut engine, &stranger, now);
    }
    assert!(goes_out(&mut engine, "bob", now));
    refused(&mut engine, "bob", now);
    assert!(!goes_out(&mut engine, "carol", now), "this was a call of ours");
    let later = now + std::time::Duration::from_secs(30);
    engine.handle(Input::Tick, later);
    assert!(goes_out(&mut engine, "dave", later));
}

#[test]
fn a_relay_that_is_refused_in_mid_call_does_not_end_the_call() {
    let (mut engine, now) = (alice(&[]), Instant::now());
    assert_eq!(calls(&mut engine, "bob"), ["bob"]);
    engine.handle(Input::Accept { peer: "bob".to_owned() }, now);
    let key = serde_json::json!({ "publicKey": KeyPair::generate().public().to_base64() });
    let key = serde_json::json!({ "type": "key:exchange", "sender": "bob", "payload": key }).to_string();
    let done = engine.handle(Input::Signal(key), now);
    assert!(done.iter().any(|output| matches!(output, Output::Event(Event::KeysExchanged { .. }))), "{done:?}");
    assert_eq!(refused(&mut engine, "bob", now), []);
    assert!(!engine.is_idle());
    // If it was more than a candidate, the call's own deadline tells.
    let ended = engine.handle(Input::Tick, now + std::time::Duration::from_secs(60));
    assert!(ended.iter().any(|output| matches!(output, Output::Event(Event::Closed { .. }))), "{ended:?}");
}
