//! Chats that outlive their connection: programs, networks and servers that are lost and come back. With engines in
//! memory: `resume_in_memory` and `resume_at_random`.

use std::collections::HashSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lowkey::peer::{Event, NotSentReason, Settings};

use crate::engine_pair::{ALICE, BOB, open};
use crate::resume_in_memory::{interrupted, resumed};
use crate::world::{Folder, Program, Server, User, identity, in_namespace, pass_in_namespace, until};

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
    let (is_over, echoes) = (AtomicBool::new(false), AtomicUsize::new(0));
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
        let talk_on = |alice| scope.spawn(|| talk_on(alice, &echoes, &is_over));
        let talking: Vec<_> = busy.into_iter().map(talk_on).collect();
        until("all of them talk", || (echoes.load(Ordering::Relaxed) > 1000).then_some(()));
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

/// Sends the bot text after text until it is over, and counts what comes back: the loss of the chat, if that is lost.
fn talk_on(mut alice: User, echoes: &AtomicUsize, is_over: &AtomicBool) -> Option<Event> {
    for _ in 0..16 {
        alice.peer.send("echo", "text");
    }
    while !is_over.load(Ordering::Relaxed) {
        match alice.events.next_timeout(Duration::from_secs(40)).expect("an event") {
            Event::Message { .. } => {
                echoes.fetch_add(1, Ordering::Relaxed);
                alice.peer.send("echo", "text");
            }
            event @ (Event::Interrupted { .. } | Event::Closed { .. }) => return Some(event),
            _ => {}
        }
    }
    None
}
