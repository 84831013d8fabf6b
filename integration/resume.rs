//! Chats that outlive their connection: first engines in memory, at any moment and in any order, then the real thing.

use std::cell::Cell;
use std::collections::HashSet;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lowkey::peer::FileId;
use lowkey::peer::engine::{Engine, Input, PeerConnectionEnd, Setup};
use lowkey::peer::files::work::OfferedFile;
use lowkey::peer::{CloseReason, Event, NotSentReason, Settings, Trust};
use proptest::prelude::*;

use crate::engine_pair::{ALICE, BOB, EnginePair, NAMES, closed, delivered, message, open};
use crate::world::{Folder, Program, Server, User, identity, in_namespace, pass_in_namespace};

fn peer(user: usize) -> String {
    NAMES[1 - user].to_owned()
}

fn interrupted(user: usize) -> Event {
    Event::Interrupted { peer: peer(user) }
}

fn resumed(user: usize) -> Event {
    Event::Resumed { peer: peer(user) }
}

fn send(world: &mut EnginePair, user: usize, id: u64) {
    let text = format!("{} {id}", NAMES[user]);
    world.handle(user, Input::Send { peer: peer(user), id, text });
}

/// Time enough for calls and acknowledgements.
fn wait(world: &mut EnginePair) {
    for _ in 0..3 {
        world.pass(2);
        world.settle();
    }
}

#[test]
fn a_chat_goes_on_where_it_was_interrupted() {
    let mut world = EnginePair::open();
    send(&mut world, ALICE, 1);
    world.settle();
    assert_eq!(world.taken(BOB), [message("alice", "alice 1")]);
    // The second is lost with the connection, and so is the acknowledgement of the first.
    send(&mut world, ALICE, 2);
    world.lose(0);
    world.settle();
    send(&mut world, ALICE, 3);
    send(&mut world, BOB, 1);
    assert_eq!([world.taken(ALICE), world.taken(BOB)], [vec![interrupted(ALICE)], vec![interrupted(BOB)]]);
    wait(&mut world);
    let told = world.taken(BOB);
    assert_eq!(told, [resumed(BOB), message("alice", "alice 2"), message("alice", "alice 3")]);
    wait(&mut world);
    let told = world.taken(ALICE);
    assert_eq!(told, [resumed(ALICE), delivered("bob", 1), message("bob", "bob 1"), delivered("bob", 3)]);
    wait(&mut world);
    assert_eq!(world.taken(BOB), [delivered("alice", 1)]);
}

#[test]
fn a_chat_whose_long_texts_do_not_arrive_goes_on_with_shorter_datagrams() {
    let mut world = EnginePair::open();
    world.network = Box::new(|_, _| vec![]);
    send(&mut world, ALICE, 1);
    world.settle();
    world.network = Box::new(|_, text| vec![text]);
    world.stall(ALICE);
    wait(&mut world);
    assert_eq!(world.taken(BOB).last(), Some(&message("alice", "alice 1")));
    wait(&mut world);
    assert_eq!(world.taken(ALICE), [interrupted(ALICE), resumed(ALICE), delivered("bob", 1)]);
    assert_eq!(world.narrow.each_ref().map(HashSet::len), [1, 0], "only she knows");
    // It is remembered for the connections to come, and where it is of no use all is told.
    world.lose(0);
    wait(&mut world);
    assert_eq!(world.narrow.each_ref().map(HashSet::len), [2, 0]);
    world.taken(ALICE);
    world.network = Box::new(|_, _| vec![]);
    send(&mut world, ALICE, 2);
    world.settle();
    world.stall(ALICE);
    world.settle();
    let told = world.taken(ALICE);
    assert!(matches!(&told[0], Event::NotSent { id: 2, .. }), "{told:?}");
    assert_eq!(told[1..], [closed("bob", CloseReason::NoLongTexts)]);
}

#[test]
fn a_long_text_that_does_not_arrive_at_an_old_app_is_told_by_the_end_of_the_chat() {
    let mut world = EnginePair::new();
    // Nobody says anything of themselves, as old apps do not.
    world.server = Box::new(|_, text| {
        let mut message: serde_json::Value = serde_json::from_str(&text).unwrap();
        if message["type"] == "key:exchange" {
            message["payload"].as_object_mut().unwrap().remove("lowkey");
        }
        vec![message.to_string()]
    });
    let call = |world: &mut EnginePair| {
        world.handle(ALICE, Input::Call { peer: peer(ALICE) });
        world.settle();
        world.handle(BOB, Input::Accept { peer: peer(BOB) });
        world.settle();
        world.handle(ALICE, Input::Accept { peer: peer(ALICE) });
        world.settle();
        assert!(world.taken(ALICE).contains(&open("bob")));
    };
    call(&mut world);
    world.network = Box::new(|_, _| vec![]);
    send(&mut world, ALICE, 1);
    world.settle();
    world.taken(ALICE);
    world.stall(ALICE);
    world.settle();
    assert_eq!(world.taken(ALICE), [closed("bob", CloseReason::NoLongTexts)]);
    // The next call knows of it.
    world.network = Box::new(|_, text| vec![text]);
    wait(&mut world);
    call(&mut world);
    assert_eq!(world.narrow[ALICE].len(), 1);
}

#[test]
fn one_side_alone_may_notice_the_loss() {
    let mut world = EnginePair::open();
    send(&mut world, BOB, 1);
    world.settle();
    world.lose_for(ALICE);
    wait(&mut world);
    // Bob was not asked; his old connection gave way to the new one.
    assert_eq!(world.taken(ALICE), [message("bob", "bob 1"), interrupted(ALICE), resumed(ALICE)]);
    assert_eq!(world.taken(BOB), [interrupted(BOB), resumed(BOB)]);
    wait(&mut world);
    assert_eq!(world.taken(BOB), [delivered("alice", 1)]);
}

#[test]
fn a_chat_is_sought_until_the_server_is_back_and_for_a_day() {
    let mut world = EnginePair::open();
    world.go_offline(ALICE);
    world.lose(0);
    wait(&mut world);
    assert_eq!([world.taken(ALICE), world.taken(BOB)], [vec![interrupted(ALICE)], vec![interrupted(BOB)]]);
    for _ in 0..100 {
        world.pass(600);
        world.settle();
    }
    assert_eq!([world.taken(ALICE), world.taken(BOB)], [vec![], vec![]]);
    world.go_online(ALICE);
    world.pass(0);
    world.settle();
    assert_eq!([world.taken(ALICE), world.taken(BOB)], [vec![resumed(ALICE)], vec![resumed(BOB)]], "at once");
    world.go_offline(ALICE);
    world.lose(0);
    world.settle();
    send(&mut world, BOB, 7);
    world.pass(24 * 60 * 60);
    world.settle();
    assert_eq!(world.taken(ALICE), [interrupted(ALICE), closed("bob", CloseReason::ConnectionLost)]);
    let (text, reason) = ("bob 7".to_owned(), NotSentReason::NotOpen);
    let back = Event::NotSent { peer: "alice".to_owned(), id: 7, text, reason };
    assert_eq!(world.taken(BOB), [interrupted(BOB), back, closed("alice", CloseReason::ConnectionLost)]);
    assert_eq!([ALICE, BOB].map(|user| world.engines[user].next_deadline(world.now())), [None, None]);
}

#[test]
fn a_program_that_was_started_anew_is_called_and_nothing_is_sent_twice() {
    let mut world = EnginePair::open();
    send(&mut world, ALICE, 1);
    world.settle();
    world.taken(BOB);
    wait(&mut world);
    send(&mut world, ALICE, 2);
    world.settle();
    world.restart(BOB);
    world.settle();
    send(&mut world, ALICE, 3);
    wait(&mut world);
    assert_eq!(world.taken(BOB), [world.request_to(BOB)], "an ordinary call");
    assert_eq!(world.taken(ALICE), [delivered("bob", 1), interrupted(ALICE)]);
    world.command(BOB, |peer| Input::Accept { peer });
    world.settle();
    let (text, reason) = ("alice 2".to_owned(), NotSentReason::Unconfirmed);
    let back = Event::NotSent { peer: "bob".to_owned(), id: 2, text, reason };
    assert_eq!(world.taken(ALICE), [back, resumed(ALICE)]);
    let told = world.taken(BOB);
    assert!(told.ends_with(&[open("alice"), message("alice", "alice 3")]), "{told:?}");
    wait(&mut world);
    assert_eq!(world.taken(ALICE), [delivered("bob", 3)]);
}

#[test]
fn a_program_that_was_started_anew_and_calls_is_a_call_like_any_other() {
    let mut world = EnginePair::open();
    world.restart(BOB);
    world.settle();
    world.command(BOB, |peer| Input::Call { peer });
    world.settle();
    // It does not know the chat any more, and proves no more than who it is.
    assert_eq!(world.taken(ALICE), [interrupted(ALICE), world.request_of(ALICE, Trust::Known)]);
    world.command(ALICE, |peer| Input::Accept { peer });
    world.settle();
    assert_eq!(world.taken(ALICE), [resumed(ALICE)]);
    assert!(world.taken(BOB).ends_with(&[open("alice")]));
}

#[test]
fn an_interrupted_chat_takes_nobody_else_under_that_name() {
    for is_caller in [true, false] {
        let mut world = EnginePair::open();
        send(&mut world, ALICE, 1);
        world.restart(BOB);
        // The server gives the name to another.
        world.engines[BOB] = Engine::new("bob", Setup::default());
        world.handle(BOB, Input::Online);
        world.handle(ALICE, Input::Trust { peer: "bob".to_owned(), known: None });
        world.settle();
        assert_eq!(world.taken(ALICE), [interrupted(ALICE)]);
        if is_caller {
            // Whoever calls anew is a request like any other.
            world.command(BOB, |peer| Input::Call { peer });
            world.settle();
            let told = world.taken(ALICE);
            assert!(matches!(&told[..], [Event::Request { trust: Trust::New, .. }]), "{told:?}");
            continue;
        }
        // Nobody but the bob of the chat can read who calls, so nobody else is even asked; and the chat ends by nothing
        // of it.
        for _ in 0..10 {
            world.pass(10);
            world.settle();
        }
        assert_eq!([world.taken(ALICE), world.taken(BOB)], [vec![], vec![]]);
        assert!(world.engines[ALICE].kept_bytes() > 0, "the text waits");
    }
}

#[test]
fn whoever_leaves_an_interrupted_chat_ends_it_for_both() {
    let mut world = EnginePair::open();
    world.lose(0);
    world.settle();
    send(&mut world, ALICE, 1);
    send(&mut world, BOB, 1);
    world.command(BOB, |peer| Input::Leave { peer });
    world.settle();
    let back = |user: usize| {
        let (text, reason) = (format!("{} 1", NAMES[user]), NotSentReason::NotOpen);
        Event::NotSent { peer: peer(user), id: 1, text, reason }
    };
    assert_eq!(world.taken(BOB), [interrupted(BOB), back(BOB), closed("alice", CloseReason::Left)]);
    assert_eq!(world.taken(ALICE), [interrupted(ALICE), back(ALICE), closed("bob", CloseReason::PeerLeft)]);
    wait(&mut world);
    assert_eq!([world.taken(ALICE), world.taken(BOB)], [vec![], vec![]]);
}

#[test]
fn who_leaves_waits_until_all_is_taken_and_half_a_minute_at_most() {
    let mut world = EnginePair::open();
    send(&mut world, ALICE, 1);
    world.command(ALICE, |peer| Input::Leave { peer });
    world.settle();
    world.pass(20);
    assert_eq!(world.taken(ALICE), []);
    assert_eq!(world.taken(BOB), [message("alice", "alice 1"), closed("alice", CloseReason::PeerLeft)]);
    world.settle();
    assert_eq!(world.taken(ALICE), [delivered("bob", 1), closed("bob", CloseReason::Left)]);
    let mut world = EnginePair::open();
    send(&mut world, ALICE, 1);
    world.command(ALICE, |peer| Input::Leave { peer });
    world.settle();
    world.pass(30);
    let (text, reason) = ("alice 1".to_owned(), NotSentReason::Unconfirmed);
    let back = Event::NotSent { peer: "bob".to_owned(), id: 1, text, reason };
    assert_eq!(world.taken(ALICE), [back, closed("bob", CloseReason::Left)]);
}

#[test]
fn both_may_leave_at_once_and_neither_waits_for_the_other() {
    // Each of them waits for an acknowledgement of what it has sent, or for none.
    for senders in [&[ALICE, BOB][..], &[ALICE], &[BOB], &[]] {
        // The second has heard nothing of the first, its farewell alone, or all.
        for steps in 0..4 {
            let mut world = EnginePair::open();
            world.settle();
            world.endings = Default::default();
            senders.iter().for_each(|user| send(&mut world, *user, 1));
            world.command(ALICE, |peer| Input::Leave { peer });
            for _ in 0..steps {
                world.step(0);
            }
            world.command(BOB, |peer| Input::Leave { peer });
            world.settle();
            let what = format!("{senders:?} {steps}");
            // Until both have taken what came, and were heard.
            let mut told = [vec![], vec![]];
            for _ in 0..2 {
                for user in [ALICE, BOB] {
                    told[user].extend(world.taken(user));
                }
                world.settle();
            }
            for told in told {
                assert!(matches!(told.last(), Some(Event::Closed { .. })), "{what}: {told:?}");
            }
            for user in [ALICE, BOB] {
                assert!(world.engines[user].is_idle(), "{what}: {} waits", NAMES[user]);
            }
        }
    }
}

#[test]
fn who_leaves_and_is_heard_waits_for_nothing_more() {
    let mut world = EnginePair::open();
    world.settle();
    world.endings = Default::default();
    // Nothing is to end before the last word is said.
    world.lingers = true;
    world.command(ALICE, |peer| Input::Leave { peer });
    world.settle();
    assert_eq!(
        world.endings[ALICE],
        [PeerConnectionEnd::WhenClosedByPeer, PeerConnectionEnd::WhenArrived, PeerConnectionEnd::AtOnce]
    );
    assert_eq!(world.endings[BOB], [PeerConnectionEnd::AtOnce], "and so does who was left");
    // Both at the same time.
    let mut world = EnginePair::open();
    world.settle();
    world.endings = Default::default();
    world.lingers = true;
    for user in [ALICE, BOB] {
        world.command(user, |peer| Input::Leave { peer });
    }
    world.settle();
    for user in [ALICE, BOB] {
        assert_eq!(
            world.endings[user],
            [PeerConnectionEnd::WhenClosedByPeer, PeerConnectionEnd::WhenArrived, PeerConnectionEnd::AtOnce]
        );
    }
    // Who waits for an acknowledgement has not begun to end it, and answers.
    let mut world = EnginePair::open();
    world.settle();
    world.endings = Default::default();
    world.lingers = true;
    for user in [ALICE, BOB] {
        send(&mut world, user, 1);
        world.command(user, |peer| Input::Leave { peer });
    }
    world.settle();
    for user in [ALICE, BOB] {
        assert_eq!(world.endings[user], [PeerConnectionEnd::AtOnce]);
        assert!(world.engines[user].is_idle());
    }
}

#[test]
fn stop_is_the_last_word_and_nobody_waits_where_a_farewell_crosses_it() {
    for has_sent in [false, true] {
        let mut world = EnginePair::open();
        world.settle();
        world.endings = Default::default();
        world.lingers = true;
        if has_sent {
            send(&mut world, ALICE, 1);
        }
        world.command(ALICE, |peer| Input::Leave { peer });
        world.handle(BOB, Input::Stop);
        let said = Rc::new(Cell::new(0));
        let count = said.clone();
        world.network = Box::new(move |to, text| {
            count.set(count.get() + usize::from(to == ALICE));
            vec![text]
        });
        world.settle();
        assert_eq!(said.get(), 0, "behind it");
        assert_eq!(world.endings[BOB], [PeerConnectionEnd::WhenClosedByPeer, PeerConnectionEnd::WhenArrived]);
        assert_eq!(world.endings[ALICE].last(), Some(&PeerConnectionEnd::AtOnce));
        assert!(world.engines[ALICE].is_idle());
    }
}

#[test]
fn who_has_left_says_no_stop_and_waits_for_what_was_sent() {
    let mut world = EnginePair::open();
    send(&mut world, BOB, 1);
    world.command(BOB, |peer| Input::Leave { peer });
    world.settle();
    world.handle(BOB, Input::Stop);
    world.settle();
    assert_eq!(world.taken(ALICE), [message("bob", "bob 1"), closed("bob", CloseReason::PeerLeft)]);
    world.settle();
    assert_eq!(world.taken(BOB), [delivered("alice", 1), closed("alice", CloseReason::Left)]);
}

#[test]
fn whose_program_ends_waits_half_a_second_for_one_who_has_left_and_does_not_end() {
    let mut world = EnginePair::open();
    world.settle();
    world.lingers = true;
    world.command(ALICE, |peer| Input::Leave { peer });
    world.network = Box::new(|_, _| vec![]);
    world.settle();
    assert_eq!(world.taken(BOB), [closed("alice", CloseReason::PeerLeft)]);
    world.endings = Default::default();
    world.handle(BOB, Input::End);
    assert!(!world.engines[BOB].is_idle());
    world.pass(1);
    assert_eq!(world.endings[BOB], [PeerConnectionEnd::WhenSent]);
    assert!(world.engines[BOB].is_idle());
}

/// What has happened to the texts of two users.
#[derive(Default)]
struct Account {
    sent: [u64; 2],
    /// The texts that each user has taken, in order.
    taken: [Vec<String>; 2],
    confirmed: [u64; 2],
    returned: [HashSet<u64>; 2],
    /// How many of a user's events were looked at.
    looked_at: [usize; 2],
}

impl Account {
    /// Looks at what is new. Nothing is ever told to be delivered that the other user has not taken.
    fn look(&mut self, world: &EnginePair) {
        for user in [ALICE, BOB] {
            for event in &world.seen(user)[self.looked_at[user]..] {
                match event {
                    Event::Delivered { id, .. } => {
                        assert!(*id > self.confirmed[user], "told once, and forwards");
                        let is_taken = self.taken[1 - user].contains(&format!("{} {id}", NAMES[user]));
                        assert!(is_taken, "{} {id} is delivered, and was not taken", NAMES[user]);
                        self.confirmed[user] = *id;
                    }
                    Event::NotSent { id, .. } => assert!(self.returned[user].insert(*id), "it comes back once"),
                    _ => {}
                }
            }
            self.looked_at[user] = world.seen(user).len();
        }
    }

    fn take(&mut self, world: &mut EnginePair, user: usize) {
        self.look(world);
        let is_text = |event| match event {
            Event::Message { text, .. } => Some(text),
            _ => None,
        };
        let events = world.take_events(user);
        self.taken[user].extend(events.into_iter().filter_map(is_text));
        self.looked_at[user] = 0;
        world.come_back(user);
        self.look(world);
    }

    fn step(&mut self, world: &mut EnginePair, command: u8, choice: usize) {
        let user = choice % 2;
        match command {
            0 | 1 => {
                self.sent[user] += 1;
                send(world, user, self.sent[user]);
            }
            2 | 3 => self.take(world, user),
            4 => world.lose(choice / 2),
            5 => world.go_offline(user),
            6 => world.go_online(user),
            7 => world.pass(choice as u64 % 40),
            8 => world.lose_for(user),
            _ => {
                world.step(choice);
            }
        }
        self.look(world);
    }

    /// Everything is well again for long enough, and all is read.
    fn recover(&mut self, world: &mut EnginePair) {
        for user in [ALICE, BOB] {
            world.go_online(user);
        }
        for _ in 0..30 {
            world.notice();
            world.settle();
            self.accept(world);
            world.settle();
            for user in [ALICE, BOB] {
                self.take(world, user);
            }
            world.pass(31);
        }
        world.settle();
        self.look(world);
    }

    /// Whoever is asked says yes.
    fn accept(&mut self, world: &mut EnginePair) {
        for user in [ALICE, BOB] {
            if world.seen(user).iter().any(|event| matches!(event, Event::Request { .. })) {
                world.command(user, |peer| Input::Accept { peer });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn every_text_is_taken_once_and_in_order_whatever_is_lost(
        steps in prop::collection::vec((0u8..20, any::<usize>()), 0..200)
    ) {
        let (mut world, mut account) = (EnginePair::open(), Account::default());
        for (command, choice) in steps {
            account.step(&mut world, command, choice);
        }
        account.recover(&mut world);
        for user in [ALICE, BOB] {
            let sent: Vec<String> = (1..=account.sent[user]).map(|id| format!("{} {id}", NAMES[user])).collect();
            prop_assert_eq!(&account.taken[1 - user], &sent);
            prop_assert_eq!(account.confirmed[user], account.sent[user]);
            prop_assert!(account.returned[user].is_empty());
        }
    }

    #[test]
    fn no_text_is_taken_twice_or_lost_in_silence_where_programs_are_killed(
        steps in prop::collection::vec((0u8..22, any::<usize>()), 0..200)
    ) {
        let (mut world, mut account) = (EnginePair::open(), Account::default());
        for (command, choice) in steps {
            match command {
                // Only bob's; alice is there to tell of it.
                20 if choice % 4 == 0 => {
                    account.look(&world);
                    world.restart(BOB);
                    account.looked_at[BOB] = 0;
                }
                20 => {}
                21 => account.accept(&mut world),
                0 | 1 => account.step(&mut world, command, 2 * choice.min(usize::MAX / 2)),
                _ => account.step(&mut world, command, choice),
            }
        }
        account.recover(&mut world);
        let taken = &account.taken[BOB];
        prop_assert_eq!(taken.iter().collect::<HashSet<_>>().len(), taken.len(), "twice");
        for id in 1..=account.sent[ALICE] {
            let is_taken = taken.contains(&format!("alice {id}"));
            prop_assert!(is_taken || account.returned[ALICE].contains(&id), "alice {} is lost: {:?}", id, taken);
        }
    }
}

/// A user who notices a loss soon.
fn user(server: &Server, name: &str) -> User {
    let mut settings = Settings::default();
    settings.token = Some(format!("the token of {name}"));
    settings.identity = Some(identity(name));
    settings.lost_after = Duration::from_secs(6);
    User::online(&server.url(), name, settings)
}

fn pair(server: &Server) -> (User, User) {
    let (mut alice, mut bob) = (user(server, "alice"), user(server, "bob"));
    alice.peer.call("bob");
    bob.answer("alice");
    alice.wait(&open("bob"));
    (alice, bob)
}

/// All texts that come from now on, up to the last of a user's being delivered.
fn texts_until_delivered(user: &mut User, id: u64) -> Vec<String> {
    let mut texts = Vec::new();
    user.find("the last is delivered", |event| match event {
        Event::Message { text, .. } => {
            texts.push(text.clone());
            None
        }
        Event::Delivered { id: last, .. } => (*last == id).then_some(()),
        Event::NotSent { .. } | Event::Closed { .. } => panic!("{event:?}"),
        _ => None,
    });
    texts
}

#[test]
fn a_chat_survives_the_loss_of_the_network() {
    let setup = "ip link set lo up";
    if !in_namespace(&format!("{setup}\nexit"), &[]).output().is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: this machine has no network namespaces for us, or no ip");
    }
    pass_in_namespace(&mut in_namespace(setup, &["--ignored", "--exact", "resume::in_a_network_of_its_own"]), 1);
}

/// What the test above runs where there is no network but its own, and that one can be taken away.
#[test]
#[ignore = "takes loopback down; run by a_chat_survives_the_loss_of_the_network"]
fn in_a_network_of_its_own() {
    let ip = |state: &str| {
        assert!(Command::new("ip").args(["link", "set", "lo", state]).status().unwrap().success());
    };
    assert!(std::fs::read_to_string("/proc/net/dev").unwrap().lines().count() == 3, "nothing but loopback");
    let server = Server::start();
    let (mut alice, mut bob) = pair(&server);
    alice.peer.send("bob", "before");
    assert_eq!(bob.message().1, "before");
    ip("down");
    for number in 0..100 {
        alice.peer.send("bob", &format!("down {number}"));
    }
    for (user, side) in [(&mut alice, ALICE), (&mut bob, BOB)] {
        user.wait(&interrupted(side));
    }
    let last = alice.peer.send("bob", "at the end");
    let bobs = bob.peer.send("alice", "and back");
    ip("up");
    let reader = std::thread::spawn(move || {
        bob.wait(&resumed(BOB));
        let texts = texts_until_delivered(&mut bob, bobs);
        (bob, texts)
    });
    alice.wait(&resumed(ALICE));
    let alices = texts_until_delivered(&mut alice, last);
    assert_eq!(alices, ["and back"]);
    // Alice comes back, so that bob's is delivered too.
    assert!(alice.events.next_timeout(Duration::from_millis(100)).is_none());
    let (_bob, texts) = reader.join().unwrap();
    let expected: Vec<String> =
        (0..100).map(|number| format!("down {number}")).chain(["at the end".to_owned()]).collect();
    assert_eq!(texts, expected, "once each, and in order");
}

#[test]
fn a_chat_survives_a_killed_bot_that_comes_back() {
    let server = Server::start();
    let home = Folder::new("resume-bot");
    let (url, variables) = (server.url(), [("HOME", home.path())]);
    let start = || {
        let mut bot = Program::start("lowkey-bot", &["--server", &url], &variables);
        bot.stderr.find("online as echo");
        bot
    };
    let mut bot = start();
    let mut alice = user(&server, "alice");
    alice.call("echo");
    let first = alice.peer.send("echo", "before");
    let mut told = HashSet::new();
    alice.find("told and answered", |event| {
        told.insert(format!("{event:?}").split(' ').next().unwrap().to_owned());
        (told.contains("Message") && told.contains("Delivered")).then_some(())
    });
    // Nobody takes this one: the bot stands still, and is killed.
    bot.signal("STOP");
    let lost = alice.peer.send("echo", "never shown");
    bot.signal("KILL");
    bot.wait();
    alice.expect(&Event::Interrupted { peer: "echo".to_owned() });
    let kept = alice.peer.send("echo", "kept");
    assert!(first < lost && lost < kept);
    let _bot = start();
    let (text, reason) = ("never shown".to_owned(), NotSentReason::Unconfirmed);
    alice.wait(&Event::NotSent { peer: "echo".to_owned(), id: lost, text, reason });
    alice.expect(&Event::Resumed { peer: "echo".to_owned() });
    let (mut echoes, mut is_delivered) = (Vec::new(), false);
    while echoes.is_empty() || !is_delivered {
        match alice.next() {
            Event::Message { text, .. } => echoes.push(text),
            Event::Delivered { id, .. } => is_delivered = id == kept,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(echoes, ["kept"]);
    assert_eq!(alice.events.next_timeout(Duration::from_millis(100)), None, "nothing twice");
}

#[test]
fn a_killed_chat_program_that_comes_back_shows_all_that_was_delivered_and_nothing_twice() {
    let server = Server::start();
    let home = Folder::new("resume-lowkey");
    let (url, variables) = (server.url(), [("HOME", home.path())]);
    let start = || {
        let mut alice = Program::start("lowkey", &["--server", &url, "--name", "alice"], &variables);
        alice.stderr.find("online");
        alice
    };
    let mut alice = start();
    let mut bob = user(&server, "bob");
    alice.write("/connect bob");
    bob.answer("alice");
    let ids: Vec<u64> = (0..50).map(|number| bob.peer.send("alice", &format!("text {number}"))).collect();
    let mut shown = 0;
    // What is delivered is shown already, whenever she is killed.
    let mut delivered = 0;
    while delivered < ids[30] {
        let Event::Delivered { id, .. } = bob.next() else { continue };
        delivered = id;
    }
    alice.signal("KILL");
    alice.wait();
    let before = alice.stdout.rest();
    shown += before.len();
    // What was on its way when she was killed may still be told.
    bob.find("the loss", |event| match event {
        Event::Delivered { id, .. } => {
            delivered = *id;
            None
        }
        Event::Interrupted { .. } => Some(()),
        _ => None,
    });
    let shown_ids = ids.iter().take(shown).max().copied().unwrap_or_default();
    assert!(shown_ids >= delivered, "{delivered} was delivered, and {shown_ids} is the last that was shown");
    let kept = bob.peer.send("alice", "kept");
    let mut alice = start();
    alice.stderr.find("bob");
    alice.write("/accept bob");
    let mut returned = HashSet::new();
    bob.find("the chat goes on", |event| match event {
        Event::NotSent { id, reason: NotSentReason::Unconfirmed, .. } => {
            returned.insert(*id);
            None
        }
        Event::Resumed { .. } => Some(()),
        _ => None,
    });
    let expected: HashSet<u64> = ids.iter().copied().filter(|id| *id > delivered).collect();
    assert_eq!(returned, expected, "what was not delivered comes back");
    assert_eq!(alice.stdout.next(), "bob: kept");
    bob.wait(&Event::Delivered { peer: "alice".to_owned(), id: kept });
}

#[test]
fn a_chat_whose_server_is_started_anew_goes_on_and_is_carried_on_there() {
    let server = Server::start();
    let (mut alice, mut bob) = pair(&server);
    let port = server.address.rsplit_once(':').unwrap().1.to_owned();
    drop(server);
    for user in [&mut alice, &mut bob] {
        user.find("offline", |event| matches!(event, Event::Offline { .. }).then_some(()));
    }
    alice.peer.send("bob", "without a server");
    assert_eq!(bob.message().1, "without a server");
    let _server = Server::start_with(&[("PORT", &port)]);
    for user in [&mut alice, &mut bob] {
        user.find("online", |event| match event {
            Event::Online => Some(()),
            Event::Interrupted { .. } | Event::Closed { .. } => panic!("{event:?}"),
            _ => None,
        });
    }
    alice.peer.send("bob", "with another one");
    assert_eq!(bob.message().1, "with another one");
}

/// Being stopped for longer than a silence may last is no silence of the other side's: neither for who says nothing,
/// nor for those with whom the program was in the middle of something.
#[test]
fn a_program_that_was_stopped_goes_on_with_its_chats() {
    let server = Server::start();
    let bot = server.bot();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let talks = |number: usize| {
            let mut settings = Settings::default();
            settings.identity = Some(identity(&format!("alice{number}")));
            // More than the bot's, so that the loss would be the bot's to see.
            settings.lost_after = Duration::from_secs(90);
            let mut alice = User::online(&server.url(), &format!("alice{number}"), settings);
            alice.call_soon("echo");
            alice
        };
        let mut quiet = talks(0);
        let busy: Vec<_> = (1..9).map(talks).collect();
        let talking: Vec<_> = busy.into_iter().map(|alice| scope.spawn(|| talk_on(alice, &is_over))).collect();
        thread::sleep(Duration::from_secs(1));
        bot.signal("STOP");
        // What is tried is just this: that so much time goes by, more than the 15 s after which the bot takes a peer for
        // lost.
        thread::sleep(Duration::from_secs(20));
        bot.signal("CONT");
        for text in ["still here", "and still"] {
            quiet.peer.send("echo", text);
            quiet.find("the echo", |event| match event {
                Event::Message { text: echo, .. } => (echo == text).then_some(()),
                Event::Interrupted { .. } | Event::Closed { .. } => panic!("{event:?}"),
                _ => None,
            });
            // Whoever takes the silence for a loss does so within the first look at it.
            assert!(!matches!(
                quiet.events.next_timeout(Duration::from_secs(3)),
                Some(Event::Interrupted { .. } | Event::Closed { .. })
            ));
        }
        is_over.store(true, Ordering::Relaxed);
        let ends: Vec<_> = talking.into_iter().map(|talk| talk.join().unwrap()).collect();
        assert!(ends.iter().all(Option::is_none), "{ends:?}");
    });
}

/// Sends the bot text after text until it is over: the loss of the chat, if that is lost.
fn talk_on(mut alice: User, is_over: &AtomicBool) -> Option<Event> {
    for _ in 0..16 {
        alice.peer.send("echo", "text");
    }
    while !is_over.load(Ordering::Relaxed) {
        match alice.events.next_timeout(Duration::from_secs(40)).expect("an event") {
            Event::Message { .. } => {
                alice.peer.send("echo", "text");
            }
            event @ (Event::Interrupted { .. } | Event::Closed { .. }) => return Some(event),
            _ => {}
        }
    }
    None
}

#[test]
fn to_offer_a_file_in_an_interrupted_chat_is_a_reason_to_call() {
    let mut world = EnginePair::open();
    world.lose(0);
    world.settle();
    // Calls come to nothing, so that there are long pauses between them.
    world.server = Box::new(|_, _| vec![]);
    for _ in 0..60 {
        world.pass(10);
        world.settle();
    }
    world.server = Box::new(|_, text| vec![text]);
    [ALICE, BOB].into_iter().for_each(|user| drop(world.taken(user)));
    let offered =
        OfferedFile { file: FileId([1; 16]), name: "x".to_owned(), size: Some(1), modified: None, entries: None };
    for _ in 0..3 {
        // Said again, it is the same offer, and a reason again.
        world.handle(ALICE, Input::OfferFile { peer: peer(ALICE), offered: offered.clone() });
        world.settle();
        world.pass(6);
        world.settle();
    }
    assert!(world.taken(ALICE).contains(&resumed(ALICE)));
}
