//! What was said in one call, said in another, or back to who said it: engines and a hub joined in memory. All that can
//! be crossed is; `peer/engine/search` in `src` does so in every order.

use std::cell::RefCell;
use std::rc::Rc;

use lowkey::peer::engine::{Input, Output};
use lowkey::peer::frame::{ChatPosition, Instance};
use lowkey::peer::{CloseReason, Event};
use serde_json::Value;

use crate::engine_pair::{ALICE, BOB, EnginePair, NAMES, closed, message, open, text};
use crate::in_memory::{Liar, call};

/// What a server hears of a call: to whom each message is, in order.
type Heard = Rc<RefCell<Vec<(usize, Value)>>>;

fn record(pair: &mut EnginePair) -> Heard {
    let heard = Heard::default();
    let all = heard.clone();
    pair.server = Box::new(move |user, text| {
        all.borrow_mut().push((user, serde_json::from_str(&text).unwrap()));
        vec![text]
    });
    heard
}

/// Alice has called bob and has left, and all that was said is known.
fn called_before() -> (EnginePair, Vec<(usize, Value)>) {
    let mut pair = EnginePair::new();
    let heard = record(&mut pair);
    call(&mut pair);
    pair.command(ALICE, |peer| Input::Leave { peer });
    pair.settle();
    [ALICE, BOB].into_iter().for_each(|user| drop(pair.taken(user)));
    pair.added = Default::default();
    let said = heard.borrow().clone();
    (pair, said)
}

/// Whether the chat is open for both, or else for neither. `is_agreed`: both have proven who they are before anything
/// was done.
fn is_open_for_both(pair: &mut EnginePair, is_agreed: bool, what: &str) -> bool {
    let is_open = [(ALICE, "bob"), (BOB, "alice")].map(|(user, other)| pair.taken(user).contains(&open(other)));
    assert_eq!(is_open[0], is_open[1], "one alone believes in a chat: {what}");
    if !is_open[0] {
        assert!(is_agreed || pair.added.iter().all(Vec::is_empty), "told an address: {what}");
        pair.pass(60);
        pair.settle();
        assert!(pair.engines.iter().all(|engine| engine.is_idle()), "waits for ever: {what}");
    }
    is_open[0]
}

/// Goal: make a call of what was said in an earlier one, or let the earlier one go on in it.
#[test]
fn each_field_and_message_of_an_earlier_call_is_of_no_use_in_a_later_one() {
    let kinds = |said: &[(usize, Value)]| {
        let forwarded = said.iter().filter(|(_, message)| message["sender"].is_string());
        forwarded.map(|(user, message)| (*user, message["type"].as_str().unwrap().to_owned())).collect::<Vec<_>>()
    };
    let (_, said) = called_before();
    let count = kinds(&said).len();
    let fields =
        ["/publicKey", "/lowkey/version", "/lowkey/kem", "/lowkey/ciphertext", "/lowkey/answers", "/sealed", ""];
    for place in 0..count {
        for field in fields {
            for is_added in [false, true] {
                let (mut pair, before) = called_before();
                let forwarded: Vec<_> =
                    before.into_iter().filter(|(_, message)| message["sender"].is_string()).collect();
                let (old_to, old) = forwarded[place].clone();
                let pointer = format!("/payload{field}");
                let Some(old_value) = old.pointer(&pointer).cloned().filter(|value| !value.is_null()) else { continue };
                let mut number = 0;
                let is_used = Rc::new(RefCell::new(None));
                let used = is_used.clone();
                pair.server = Box::new(move |user, text| {
                    let mut new: Value = serde_json::from_str(&text).unwrap();
                    if !new["sender"].is_string() {
                        return vec![text];
                    }
                    number += 1;
                    if number - 1 != place || user != old_to || new["type"] != old["type"] {
                        return vec![text];
                    }
                    *used.borrow_mut() = Some(new.pointer(&pointer) != Some(&old_value));
                    *new.pointer_mut(&pointer).unwrap() = old_value.clone();
                    if is_added { vec![new.to_string(), text] } else { vec![new.to_string()] }
                });
                call(&mut pair);
                let what = format!("{:?} {field:?}, added: {is_added}", kinds(&said)[place]);
                let Some(differs) = is_used.take() else { continue };
                let is_open = is_open_for_both(&mut pair, place >= HELLOS, &what);
                if is_open {
                    // What is there is the call that both have made: a text goes through.
                    pair.command(ALICE, text);
                    pair.settle();
                    assert_eq!(pair.taken(BOB), [message("alice", "hello")], "{what}");
                }
                // Nothing can be left out but one of several candidates, and nothing can be another.
                let may_be_lost = is_added || kinds(&said)[place].1 == "signal:ice" && place >= HELLOS;
                assert!(is_open || differs, "{what}: nothing was changed");
                assert!(!is_open || !differs || may_be_lost, "{what} opens a chat");
            }
        }
    }
}

/// How many messages there are until both have proven who they are: greeting, answer and two hellos.
const HELLOS: usize = 4;

/// Goal: have a peer talk with itself, by giving it back what is its own.
#[test]
fn what_comes_back_to_who_said_it_opens_nothing() {
    // All of it, and of each message one field alone.
    for field in ["", "/publicKey", "/lowkey/kem", "/lowkey/ciphertext", "/lowkey/answers", "/sealed"] {
        for caller in [ALICE, BOB] {
            for is_added in [false, true] {
                let mut pair = EnginePair::new();
                let mut own: [Option<Value>; 2] = [None, None];
                let is_used = Rc::new(RefCell::new(false));
                let used = is_used.clone();
                pair.server = Box::new(move |user, text| {
                    let new: Value = serde_json::from_str(&text).unwrap();
                    if !new["sender"].is_string() {
                        return vec![text];
                    }
                    own[1 - user] = Some(new["payload"].clone());
                    let mut back = new.clone();
                    let mine = own[user].as_ref().and_then(|own| own.pointer(field)).cloned();
                    match (back["payload"].pointer_mut(field), mine) {
                        (Some(place), Some(mine)) => {
                            *used.borrow_mut() |= std::mem::replace(place, mine.clone()) != mine
                        }
                        _ => return vec![text],
                    }
                    if is_added { vec![back.to_string(), text] } else { vec![back.to_string()] }
                });
                pair.command(caller, |peer| Input::Call { peer });
                pair.settle();
                pair.command(1 - caller, |peer| Input::Accept { peer });
                pair.settle();
                let what = format!("{field:?} of {}, added: {is_added}", NAMES[caller]);
                let is_open = is_open_for_both(&mut pair, false, &what);
                assert!(!is_open || is_added || !*is_used.borrow(), "{what} opens a chat");
            }
        }
    }
}

/// Goal: as the true other side of a chat, have it go wrong by what is said of where one is in it.
#[test]
fn a_peer_that_lies_about_where_it_is_in_a_chat_makes_nothing_lost_or_shown_twice_but_to_itself() {
    let honest = EnginePair::open().position_of(ALICE);
    let elsewhere = EnginePair::open().position_of(ALICE).instance;
    type Lie = fn(ChatPosition, Instance) -> ChatPosition;
    let lies: [(&str, Lie); 6] = [
        ("all", |position, _| ChatPosition { received: u64::MAX, ..position }),
        ("more than there is", |position, _| ChatPosition { received: 3, ..position }),
        ("nothing", |position, _| ChatPosition { received: 0, ..position }),
        ("another instance", |position, elsewhere| ChatPosition { instance: elsewhere, ..position }),
        ("bob's instance", |position, _| ChatPosition { instance: position.other, ..position }),
        ("no instance", |position, _| ChatPosition { instance: ChatPosition::nowhere().instance, ..position }),
    ];
    assert_eq!(honest.received, 0);
    for (what, lie) in lies {
        let mut pair = EnginePair::open();
        let [alice, bob] = [ALICE, BOB].map(|user| pair.identity(user));
        // Of two texts of bob's one was taken, and the other is kept for her.
        for id in [1, 2] {
            pair.command(BOB, |peer| Input::Send { peer, id, text: format!("text {id}") });
            if id == 1 {
                pair.settle();
                pair.taken(ALICE);
                pair.settle();
            }
        }
        let position = lie(pair.position_of(ALICE), elsewhere);
        let liar = Liar::greet(&mut pair, "alice");
        let sealed = liar.agreement.seal_first(&liar.hello(&alice, Some(position)).write(), Some(bob.public()));
        let outputs = liar.say(&mut pair, "signal:ice", sealed);
        // It names bob's side of the chat, and so is answered; the chat that there is goes on until a frame comes.
        assert!(matches!(&outputs[..], [Output::Signal(text)] if text.contains("signal:ice")), "{what}: {outputs:?}");
        pair.settle();
        assert_eq!(pair.taken(ALICE), [message("bob", "text 2")], "{what}");
        pair.settle();
        assert!(pair.taken(BOB).iter().all(|event| !matches!(event, Event::NotSent { .. })), "{what}");
        pair.pass(60);
        pair.settle();
        pair.command(ALICE, |peer| Input::Leave { peer });
        pair.settle();
        assert_eq!(pair.taken(BOB).last(), Some(&closed("alice", CloseReason::PeerLeft)), "{what}");
    }
}

/// Goal: have a chat that never was carried on.
#[test]
fn who_carries_on_a_chat_that_is_not_there_is_a_caller_like_any_other() {
    for position in
        [EnginePair::open().position_of(ALICE), ChatPosition { received: u64::MAX, ..ChatPosition::nowhere() }]
    {
        let mut pair = EnginePair::new();
        let [alice, bob] = [ALICE, BOB].map(|user| pair.identity(user));
        let liar = Liar::greet(&mut pair, "alice");
        let sealed = liar.agreement.seal_first(&liar.hello(&alice, Some(position)).write(), Some(bob.public()));
        let outputs = liar.say(&mut pair, "signal:ice", sealed);
        assert_eq!(outputs, [Output::Event(pair.request_to(BOB))]);
    }
}
