//! Chats that outlive their connection, with engines in memory: each way to lose it and to find it again.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;

use lowkey::peer::FileId;
use lowkey::peer::engine::{Engine, Input, PeerConnectionEnd, Setup};
use lowkey::peer::files::work::OfferedFile;
use lowkey::peer::{CloseReason, Event, NotSentReason, Trust};

use crate::engine_pair::{ALICE, BOB, EnginePair, NAMES, closed, delivered, message, open};

fn peer(user: usize) -> String {
    NAMES[1 - user].to_owned()
}

pub fn interrupted(user: usize) -> Event {
    Event::Interrupted { peer: peer(user) }
}

pub fn resumed(user: usize) -> Event {
    Event::Resumed { peer: peer(user) }
}

pub fn send(engines: &mut EnginePair, user: usize, id: u64) {
    let text = format!("{} {id}", NAMES[user]);
    engines.handle(user, Input::Send { peer: peer(user), id, text });
}

/// Time enough for calls and acknowledgements.
fn wait(engines: &mut EnginePair) {
    for _ in 0..3 {
        engines.pass(2);
        engines.settle();
    }
}

#[test]
fn a_chat_goes_on_where_it_was_interrupted() {
    let mut engines = EnginePair::open();
    send(&mut engines, ALICE, 1);
    engines.settle();
    assert_eq!(engines.taken(BOB), [message("alice", "alice 1")]);
    // The second is lost with the connection, and so is the acknowledgement of the first.
    send(&mut engines, ALICE, 2);
    engines.lose(0);
    engines.settle();
    send(&mut engines, ALICE, 3);
    send(&mut engines, BOB, 1);
    assert_eq!([engines.taken(ALICE), engines.taken(BOB)], [vec![interrupted(ALICE)], vec![interrupted(BOB)]]);
    wait(&mut engines);
    let told = engines.taken(BOB);
    assert_eq!(told, [resumed(BOB), message("alice", "alice 2"), message("alice", "alice 3")]);
    wait(&mut engines);
    let told = engines.taken(ALICE);
    assert_eq!(told, [resumed(ALICE), delivered("bob", 1), message("bob", "bob 1"), delivered("bob", 3)]);
    wait(&mut engines);
    assert_eq!(engines.taken(BOB), [delivered("alice", 1)]);
}

#[test]
fn a_chat_whose_long_texts_do_not_arrive_goes_on_with_shorter_datagrams() {
    let mut engines = EnginePair::open();
    engines.network = Box::new(|_, _| vec![]);
    send(&mut engines, ALICE, 1);
    engines.settle();
    engines.network = Box::new(|_, text| vec![text]);
    engines.stall(ALICE);
    wait(&mut engines);
    assert_eq!(engines.taken(BOB).last(), Some(&message("alice", "alice 1")));
    wait(&mut engines);
    assert_eq!(engines.taken(ALICE), [interrupted(ALICE), resumed(ALICE), delivered("bob", 1)]);
    assert_eq!(engines.narrow.each_ref().map(HashSet::len), [1, 0], "only she knows");
    // It is remembered for the connections to come, and where it is of no use all is told.
    engines.lose(0);
    wait(&mut engines);
    assert_eq!(engines.narrow.each_ref().map(HashSet::len), [2, 0]);
    engines.taken(ALICE);
    engines.network = Box::new(|_, _| vec![]);
    send(&mut engines, ALICE, 2);
    engines.settle();
    engines.stall(ALICE);
    engines.settle();
    let told = engines.taken(ALICE);
    assert!(matches!(&told[0], Event::NotSent { id: 2, .. }), "{told:?}");
    assert_eq!(told[1..], [closed("bob", CloseReason::NoLongTexts)]);
}

#[test]
fn a_long_text_that_does_not_arrive_at_an_old_app_is_told_by_the_end_of_the_chat() {
    let mut engines = EnginePair::new();
    // Nobody says anything of themselves, as old apps do not.
    engines.server = Box::new(|_, text| {
        let mut message: serde_json::Value = serde_json::from_str(&text).unwrap();
        if message["type"] == "key:exchange" {
            message["payload"].as_object_mut().unwrap().remove("lowkey");
        }
        vec![message.to_string()]
    });
    let call = |engines: &mut EnginePair| {
        engines.handle(ALICE, Input::Call { peer: peer(ALICE) });
        engines.settle();
        engines.handle(BOB, Input::Accept { peer: peer(BOB) });
        engines.settle();
        engines.handle(ALICE, Input::Accept { peer: peer(ALICE) });
        engines.settle();
        assert!(engines.taken(ALICE).contains(&open("bob")));
    };
    call(&mut engines);
    engines.network = Box::new(|_, _| vec![]);
    send(&mut engines, ALICE, 1);
    engines.settle();
    engines.taken(ALICE);
    engines.stall(ALICE);
    engines.settle();
    assert_eq!(engines.taken(ALICE), [closed("bob", CloseReason::NoLongTexts)]);
    // The next call knows of it.
    engines.network = Box::new(|_, text| vec![text]);
    wait(&mut engines);
    call(&mut engines);
    assert_eq!(engines.narrow[ALICE].len(), 1);
}

#[test]
fn one_side_alone_may_notice_the_loss() {
    let mut engines = EnginePair::open();
    send(&mut engines, BOB, 1);
    engines.settle();
    engines.lose_for(ALICE);
    wait(&mut engines);
    // Bob was not asked; his old connection gave way to the new one.
    assert_eq!(engines.taken(ALICE), [message("bob", "bob 1"), interrupted(ALICE), resumed(ALICE)]);
    assert_eq!(engines.taken(BOB), [interrupted(BOB), resumed(BOB)]);
    wait(&mut engines);
    assert_eq!(engines.taken(BOB), [delivered("alice", 1)]);
}

#[test]
fn a_chat_is_sought_until_the_server_is_back_and_for_a_day() {
    let mut engines = EnginePair::open();
    engines.go_offline(ALICE);
    engines.lose(0);
    wait(&mut engines);
    assert_eq!([engines.taken(ALICE), engines.taken(BOB)], [vec![interrupted(ALICE)], vec![interrupted(BOB)]]);
    for _ in 0..100 {
        engines.pass(600);
        engines.settle();
    }
    assert_eq!([engines.taken(ALICE), engines.taken(BOB)], [vec![], vec![]]);
    engines.go_online(ALICE);
    engines.pass(0);
    engines.settle();
    assert_eq!([engines.taken(ALICE), engines.taken(BOB)], [vec![resumed(ALICE)], vec![resumed(BOB)]], "at once");
    engines.go_offline(ALICE);
    engines.lose(0);
    engines.settle();
    send(&mut engines, BOB, 7);
    engines.pass(24 * 60 * 60);
    engines.settle();
    assert_eq!(engines.taken(ALICE), [interrupted(ALICE), closed("bob", CloseReason::ConnectionLost)]);
    let (text, reason) = ("bob 7".to_owned(), NotSentReason::NotOpen);
    let back = Event::NotSent { peer: "alice".to_owned(), id: 7, text, reason };
    assert_eq!(engines.taken(BOB), [interrupted(BOB), back, closed("alice", CloseReason::ConnectionLost)]);
    assert_eq!([ALICE, BOB].map(|user| engines.engines[user].next_deadline(engines.now())), [None, None]);
}

#[test]
fn a_program_that_was_started_anew_is_called_and_nothing_is_sent_twice() {
    let mut engines = EnginePair::open();
    send(&mut engines, ALICE, 1);
    engines.settle();
    engines.taken(BOB);
    wait(&mut engines);
    send(&mut engines, ALICE, 2);
    engines.settle();
    engines.restart(BOB);
    engines.settle();
    send(&mut engines, ALICE, 3);
    wait(&mut engines);
    assert_eq!(engines.taken(BOB), [engines.request_to(BOB)], "an ordinary call");
    assert_eq!(engines.taken(ALICE), [delivered("bob", 1), interrupted(ALICE)]);
    engines.command(BOB, |peer| Input::Accept { peer });
    engines.settle();
    let (text, reason) = ("alice 2".to_owned(), NotSentReason::Unconfirmed);
    let back = Event::NotSent { peer: "bob".to_owned(), id: 2, text, reason };
    assert_eq!(engines.taken(ALICE), [back, resumed(ALICE)]);
    let told = engines.taken(BOB);
    assert!(told.ends_with(&[open("alice"), message("alice", "alice 3")]), "{told:?}");
    wait(&mut engines);
    assert_eq!(engines.taken(ALICE), [delivered("bob", 3)]);
}

#[test]
fn a_program_that_was_started_anew_and_calls_is_a_call_like_any_other() {
    let mut engines = EnginePair::open();
    engines.restart(BOB);
    engines.settle();
    engines.command(BOB, |peer| Input::Call { peer });
    engines.settle();
    // It does not know the chat any more, and proves no more than who it is.
    assert_eq!(engines.taken(ALICE), [interrupted(ALICE), engines.request_of(ALICE, Trust::Known)]);
    engines.command(ALICE, |peer| Input::Accept { peer });
    engines.settle();
    assert_eq!(engines.taken(ALICE), [resumed(ALICE)]);
    assert!(engines.taken(BOB).ends_with(&[open("alice")]));
}

#[test]
fn an_interrupted_chat_takes_nobody_else_under_that_name() {
    for is_caller in [true, false] {
        let mut engines = EnginePair::open();
        send(&mut engines, ALICE, 1);
        engines.restart(BOB);
        // The server gives the name to another.
        engines.engines[BOB] = Engine::new("bob", Setup::default());
        engines.handle(BOB, Input::Online);
        engines.handle(ALICE, Input::Trust { peer: "bob".to_owned(), known: None });
        engines.settle();
        assert_eq!(engines.taken(ALICE), [interrupted(ALICE)]);
        if is_caller {
            // Whoever calls anew is a request like any other.
            engines.command(BOB, |peer| Input::Call { peer });
            engines.settle();
            let told = engines.taken(ALICE);
            assert!(matches!(&told[..], [Event::Request { trust: Trust::New, .. }]), "{told:?}");
            continue;
        }
        // Nobody but the bob of the chat can read who calls, so nobody else is even asked; and the chat ends by nothing
        // of it.
        for _ in 0..10 {
            engines.pass(10);
            engines.settle();
        }
        assert_eq!([engines.taken(ALICE), engines.taken(BOB)], [vec![], vec![]]);
        assert!(engines.engines[ALICE].kept_bytes() > 0, "the text waits");
    }
}

#[test]
fn whoever_leaves_an_interrupted_chat_ends_it_for_both() {
    let mut engines = EnginePair::open();
    engines.lose(0);
    engines.settle();
    send(&mut engines, ALICE, 1);
    send(&mut engines, BOB, 1);
    engines.command(BOB, |peer| Input::Leave { peer });
    engines.settle();
    let back = |user: usize| {
        let (text, reason) = (format!("{} 1", NAMES[user]), NotSentReason::NotOpen);
        Event::NotSent { peer: peer(user), id: 1, text, reason }
    };
    assert_eq!(engines.taken(BOB), [interrupted(BOB), back(BOB), closed("alice", CloseReason::Left)]);
    assert_eq!(engines.taken(ALICE), [interrupted(ALICE), back(ALICE), closed("bob", CloseReason::PeerLeft)]);
    wait(&mut engines);
    assert_eq!([engines.taken(ALICE), engines.taken(BOB)], [vec![], vec![]]);
}

#[test]
fn who_leaves_waits_until_all_is_taken_and_half_a_minute_at_most() {
    let mut engines = EnginePair::open();
    send(&mut engines, ALICE, 1);
    engines.command(ALICE, |peer| Input::Leave { peer });
    engines.settle();
    engines.pass(20);
    assert_eq!(engines.taken(ALICE), []);
    assert_eq!(engines.taken(BOB), [message("alice", "alice 1"), closed("alice", CloseReason::PeerLeft)]);
    engines.settle();
    assert_eq!(engines.taken(ALICE), [delivered("bob", 1), closed("bob", CloseReason::Left)]);
    let mut engines = EnginePair::open();
    send(&mut engines, ALICE, 1);
    engines.command(ALICE, |peer| Input::Leave { peer });
    engines.settle();
    engines.pass(30);
    let (text, reason) = ("alice 1".to_owned(), NotSentReason::Unconfirmed);
    let back = Event::NotSent { peer: "bob".to_owned(), id: 1, text, reason };
    assert_eq!(engines.taken(ALICE), [back, closed("bob", CloseReason::Left)]);
}

#[test]
fn both_may_leave_at_once_and_neither_waits_for_the_other() {
    // Each of them waits for an acknowledgement of what it has sent, or for none.
    for senders in [&[ALICE, BOB][..], &[ALICE], &[BOB], &[]] {
        // The second has heard nothing of the first, its farewell alone, or all.
        for steps in 0..4 {
            let mut engines = EnginePair::open();
            engines.settle();
            engines.endings = Default::default();
            senders.iter().for_each(|user| send(&mut engines, *user, 1));
            engines.command(ALICE, |peer| Input::Leave { peer });
            for _ in 0..steps {
                engines.step(0);
            }
            engines.command(BOB, |peer| Input::Leave { peer });
            engines.settle();
            let what = format!("{senders:?} {steps}");
            // Until both have taken what came, and were heard.
            let mut told = [vec![], vec![]];
            for _ in 0..2 {
                for user in [ALICE, BOB] {
                    told[user].extend(engines.taken(user));
                }
                engines.settle();
            }
            for told in told {
                assert!(matches!(told.last(), Some(Event::Closed { .. })), "{what}: {told:?}");
            }
            for user in [ALICE, BOB] {
                assert!(engines.engines[user].is_idle(), "{what}: {} waits", NAMES[user]);
            }
        }
    }
}

#[test]
fn who_leaves_and_is_heard_waits_for_nothing_more() {
    let mut engines = EnginePair::open();
    engines.settle();
    engines.endings = Default::default();
    // Nothing is to end before the last word is said.
    engines.lingers = true;
    engines.command(ALICE, |peer| Input::Leave { peer });
    engines.settle();
    assert_eq!(
        engines.endings[ALICE],
        [PeerConnectionEnd::WhenClosedByPeer, PeerConnectionEnd::WhenArrived, PeerConnectionEnd::AtOnce]
    );
    assert_eq!(engines.endings[BOB], [PeerConnectionEnd::AtOnce], "and so does who was left");
    // Both at the same time.
    let mut engines = EnginePair::open();
    engines.settle();
    engines.endings = Default::default();
    engines.lingers = true;
    for user in [ALICE, BOB] {
        engines.command(user, |peer| Input::Leave { peer });
    }
    engines.settle();
    for user in [ALICE, BOB] {
        assert_eq!(
            engines.endings[user],
            [PeerConnectionEnd::WhenClosedByPeer, PeerConnectionEnd::WhenArrived, PeerConnectionEnd::AtOnce]
        );
    }
    // Who waits for an acknowledgement has not begun to end it, and answers.
    let mut engines = EnginePair::open();
    engines.settle();
    engines.endings = Default::default();
    engines.lingers = true;
    for user in [ALICE, BOB] {
        send(&mut engines, user, 1);
        engines.command(user, |peer| Input::Leave { peer });
    }
    engines.settle();
    for user in [ALICE, BOB] {
        assert_eq!(engines.endings[user], [PeerConnectionEnd::AtOnce]);
        assert!(engines.engines[user].is_idle());
    }
}

#[test]
fn stop_is_the_last_word_and_nobody_waits_where_a_farewell_crosses_it() {
    for has_sent in [false, true] {
        let mut engines = EnginePair::open();
        engines.settle();
        engines.endings = Default::default();
        engines.lingers = true;
        if has_sent {
            send(&mut engines, ALICE, 1);
        }
        engines.command(ALICE, |peer| Input::Leave { peer });
        engines.handle(BOB, Input::Stop);
        let said = Rc::new(Cell::new(0));
        let count = said.clone();
        engines.network = Box::new(move |to, text| {
            count.set(count.get() + usize::from(to == ALICE));
            vec![text]
        });
        engines.settle();
        assert_eq!(said.get(), 0, "behind it");
        assert_eq!(engines.endings[BOB], [PeerConnectionEnd::WhenClosedByPeer, PeerConnectionEnd::WhenArrived]);
        assert_eq!(engines.endings[ALICE].last(), Some(&PeerConnectionEnd::AtOnce));
        assert!(engines.engines[ALICE].is_idle());
    }
}

#[test]
fn who_has_left_says_no_stop_and_waits_for_what_was_sent() {
    let mut engines = EnginePair::open();
    send(&mut engines, BOB, 1);
    engines.command(BOB, |peer| Input::Leave { peer });
    engines.settle();
    engines.handle(BOB, Input::Stop);
    engines.settle();
    assert_eq!(engines.taken(ALICE), [message("bob", "bob 1"), closed("bob", CloseReason::PeerLeft)]);
    engines.settle();
    assert_eq!(engines.taken(BOB), [delivered("alice", 1), closed("alice", CloseReason::Left)]);
}

#[test]
fn whose_program_ends_waits_half_a_second_for_one_who_has_left_and_does_not_end() {
    let mut engines = EnginePair::open();
    engines.settle();
    engines.lingers = true;
    engines.command(ALICE, |peer| Input::Leave { peer });
    engines.network = Box::new(|_, _| vec![]);
    engines.settle();
    assert_eq!(engines.taken(BOB), [closed("alice", CloseReason::PeerLeft)]);
    engines.endings = Default::default();
    engines.handle(BOB, Input::End);
    assert!(!engines.engines[BOB].is_idle());
    engines.pass(1);
    assert_eq!(engines.endings[BOB], [PeerConnectionEnd::WhenSent]);
    assert!(engines.engines[BOB].is_idle());
}

#[test]
fn to_offer_a_file_in_an_interrupted_chat_is_a_reason_to_call() {
    let mut engines = EnginePair::open();
    engines.lose(0);
    engines.settle();
    // Calls come to nothing, so that there are long pauses between them.
    engines.server = Box::new(|_, _| vec![]);
    for _ in 0..60 {
        engines.pass(10);
        engines.settle();
    }
    engines.server = Box::new(|_, text| vec![text]);
    [ALICE, BOB].into_iter().for_each(|user| drop(engines.taken(user)));
    let offered =
        OfferedFile { file: FileId([1; 16]), name: "x".to_owned(), size: Some(1), modified: None, entries: None };
    for _ in 0..3 {
        // Said again, it is the same offer, and a reason again.
        engines.handle(ALICE, Input::OfferFile { peer: peer(ALICE), offered: offered.clone() });
        engines.settle();
        engines.pass(6);
        engines.settle();
    }
    assert!(engines.taken(ALICE).contains(&resumed(ALICE)));
}
