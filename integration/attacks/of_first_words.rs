//! A server that changes or strips what two programs say first, so that they take each other for others than they are:
//! in memory, as in `in_memory`.

use lowkey::peer::agreement::{self, Names, OwnKeys};
use lowkey::peer::engine::{Engine, Input, Setup};
use lowkey::peer::hello;
use lowkey::peer::keys::KeyPair;
use lowkey::peer::trust::Trust;
use lowkey::peer::{CloseReason, Event};
use serde_json::{Value, json};

use crate::engine_pair::{ALICE, BOB, EnginePair, closed};
use crate::in_memory::{base64, call, ends, is_open};

/// What may be done on the way to what a caller says first, or to what is answered.
type Change = Box<dyn Fn(&mut Value)>;

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

/// Goal: talk without a proof to somebody who wants one.
#[test]
fn who_is_strict_takes_no_old_app() {
    let mut pair = EnginePair::new();
    pair.engines[BOB] = Engine::new("bob", Setup { is_strict: true, ..Setup::default() });
    pair.handle(BOB, Input::Online);
    pair.server = strip(&[ALICE, BOB]);
    pair.command(ALICE, |peer| Input::Call { peer });
    pair.settle();
    let reason = CloseReason::Unproven;
    assert_eq!(pair.taken(BOB), [Event::Refused { peer: "alice".to_owned(), reason: reason.clone() }]);
    // Nor as one who answers.
    pair.command(ALICE, |peer| Input::Leave { peer });
    pair.command(BOB, |peer| Input::Call { peer });
    pair.settle();
    pair.command(ALICE, |peer| Input::Accept { peer });
    pair.settle();
    assert_eq!(pair.taken(BOB).last(), Some(&closed("alice", reason)));
}

/// The server makes peers of ours look like old apps to these users.
fn strip(users: &'static [usize]) -> Box<dyn FnMut(usize, String) -> Vec<String>> {
    change("key:exchange", users, |payload| {
        payload.as_object_mut().unwrap().remove("lowkey");
    })
}

/// Goal: have two programs of ours take each other for old apps: for one side, for the other, for both, for neither; of
/// strangers, and of such as know each other.
#[test]
fn who_is_made_to_look_like_an_old_app_is_talked_to_only_if_both_users_say_so() {
    for (users, is_known) in [(&[][..], false), (&[ALICE], false), (&[BOB], false), (&[ALICE, BOB], false)]
        .into_iter()
        .chain([(&[ALICE][..], true), (&[BOB], true), (&[ALICE, BOB], true)])
    {
        let mut pair = EnginePair::new();
        if is_known {
            call(&mut pair);
            pair.command(ALICE, |peer| Input::Leave { peer });
            pair.settle();
            pair.taken(ALICE);
            pair.taken(BOB);
        }
        pair.added = Default::default();
        pair.server = strip(users);
        pair.command(ALICE, |peer| Input::Call { peer });
        pair.settle();
        let asked = |events: &[Event]| {
            events.iter().find_map(|event| match event {
                Event::Request { trust, .. } => Some(*trust),
                Event::OldApp { .. } => Some(Trust::Unproven),
                _ => None,
            })
        };
        let bobs = asked(&pair.taken(BOB));
        let is_stripped = |user| users.contains(&user);
        let expected = match (is_stripped(BOB), is_stripped(ALICE)) {
            (true, _) if is_known => None,
            (true, _) => Some(Trust::Unproven),
            // Alice drops out before she has said who she is.
            (false, true) => None,
            (false, false) => Some(Trust::New),
        };
        assert_eq!(bobs, expected, "{users:?} {is_known}");
        pair.command(BOB, |peer| Input::Accept { peer });
        pair.settle();
        let told = pair.taken(ALICE);
        let alices = asked(&told);
        assert_eq!(alices.is_some(), !users.is_empty() && !is_known, "{users:?} {told:?}");
        assert!(pair.added.iter().all(Vec::is_empty) || users.is_empty(), "no address before she has said yes");
        pair.command(ALICE, |peer| Input::Accept { peer });
        pair.settle();
        // Where bob has taken her for an old app, too, the two are connected.
        let trusts = [is_open(&mut pair, ALICE, "bob"), is_open(&mut pair, BOB, "alice")];
        let both = match (is_stripped(BOB), users.is_empty()) {
            (true, _) if !is_known => [Some(Trust::Unproven); 2],
            (_, true) => continue,
            _ => [None; 2],
        };
        assert_eq!(trusts, both, "{users:?} {is_known}");
    }
}

fn changes(user: usize) -> Vec<(String, Change)> {
    let mut changes: Vec<(String, Change)> = Vec::new();
    let mut add = |name: &str, change: Change| changes.push((name.to_owned(), change));
    let field = |pointer: &'static str, value: Value| -> Change {
        Box::new(move |payload: &mut Value| *payload.pointer_mut(pointer).unwrap() = value.clone())
    };
    let key = || json!(KeyPair::generate().public().to_base64());
    let names = Names { caller: "alice", called: "bob" };
    let own = OwnKeys::generate();
    let greeting = serde_json::to_value(hello::write_greeting(&own.greeting())).unwrap();
    let (answer, _) = agreement::answer(&own.greeting(), names).unwrap();
    let answer = serde_json::to_value(hello::write_answer(&answer)).unwrap();
    add("another key", field("/publicKey", key()));
    add("a key of low order", field("/publicKey", json!(base64([0; 32]))));
    add("no key", field("/publicKey", json!("")));
    for version in [json!(1), json!(3), json!("2"), json!(2.5), json!(null), json!(-2)] {
        add(&format!("version {version}"), field("/lowkey/version", version));
    }
    add("no object", field("/lowkey", json!([2])));
    add("nothing in it", field("/lowkey", json!({})));
    add("what an old one said", field("/lowkey", json!({"identity": key(), "features": ["proof"]})));
    let fields: Vec<(&'static str, Value)> = match user {
        BOB => vec![("/lowkey/kem", greeting.clone())],
        _ => vec![("/lowkey/ciphertext", answer.clone()), ("/lowkey/answers", answer.clone())],
    };
    for (pointer, other) in fields {
        add(&format!("another {pointer}"), field(pointer, other.pointer(pointer).unwrap().clone()));
        add(
            &format!("half {pointer}"),
            Box::new(move |payload: &mut Value| {
                let value = payload.pointer_mut(pointer).unwrap();
                *value = json!(value.as_str().unwrap()[4..].to_owned());
            }),
        );
        add(
            &format!("one bit of {pointer}"),
            Box::new(move |payload: &mut Value| {
                let value = payload.pointer_mut(pointer).unwrap();
                let mut bytes = data_encoding::BASE64.decode(value.as_str().unwrap().as_bytes()).unwrap();
                bytes[7] ^= 1;
                *value = json!(data_encoding::BASE64.encode(&bytes));
            }),
        );
    }
    add(
        "both",
        Box::new(move |payload: &mut Value| {
            for field in ["kem", "ciphertext", "answers"] {
                let value = greeting["lowkey"].get(field).or(answer["lowkey"].get(field)).unwrap();
                payload["lowkey"][field] = value.clone();
            }
        }),
    );
    // Coefficients beyond the modulus are no key (FIPS 203, section 7.2).
    add(
        "no kem",
        Box::new(|payload: &mut Value| {
            if payload["lowkey"]["kem"].is_string() {
                payload["lowkey"]["kem"] = json!(data_encoding::BASE64.encode(&[0xff; 1216]));
            } else {
                payload["lowkey"].as_object_mut().unwrap().remove("answers");
            }
        }),
    );
    changes
}

/// Goal: a chat between two who were told other keys, versions or kems than were sent.
#[test]
fn whatever_of_greeting_and_answer_is_changed_no_chat_opens_and_nothing_of_the_network_is_told() {
    for user in [ALICE, BOB] {
        for (what, changed) in changes(user) {
            let mut pair = EnginePair::new();
            let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
            let all = seen.clone();
            pair.server = Box::new(move |to, text| {
                let mut message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == "key:exchange" && to == user {
                    changed(&mut message["payload"]);
                }
                all.borrow_mut().push(message["type"].as_str().unwrap().to_owned());
                vec![message.to_string()]
            });
            call(&mut pair);
            let [_, bobs] = ends(&mut pair);
            assert_eq!(bobs, [CloseReason::NotCalling], "bob is not asked: {what} to {user}");
            let seen = seen.borrow();
            assert!(
                !seen.iter().any(|kind| kind == "signal:offer" || kind == "signal:answer"),
                "{what} to {user}: {seen:?}"
            );
            // At most alice's hello, which nobody can read.
            assert!(seen.iter().filter(|kind| *kind == "signal:ice").count() <= 1, "{what} to {user}: {seen:?}");
            assert!(pair.engines.iter().all(|engine| engine.is_idle()), "{what} to {user}");
        }
    }
}
