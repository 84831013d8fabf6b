//! Files that go on, whatever becomes of a program or a connection: each test has a program of its own that is killed
//! or stopped, which is this one, started again for one of the two tests at the end that nobody runs otherwise.

use std::env::{current_exe, var};
use std::fs;
use std::process::Command;
use std::time::Duration;

use lowkey::peer::{Event, Folder, Offer, Settings, Sink};

use crate::files::{bytes, offered, received, sent, sum};
use crate::world::{Folder as Scratch, Program, SOON, Server, User, identity};

const LENGTH: usize = 24 * 1024 * 1024;

/// Beyond the first place that is written down.
const SOME: u64 = 5 * 1024 * 1024;

/// Starts this program as one of the tests below, with that folder to itself.
fn program(test: &str, server: &Server, scratch: &Scratch) -> Program {
    let mut command = Command::new(current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", &format!("file_kills::{test}")]);
    command.env("LOWKEY_TEST_SERVER", server.url()).env("LOWKEY_TEST_FOLDER", scratch.path());
    Program::spawn(command)
}

/// Somebody who offers the file `x` of its folder to alice, says on standard output what becomes of it, and waits for
/// its end.
#[test]
#[ignore = "a part of other tests"]
fn a_sender() {
    let (url, folder) = (var("LOWKEY_TEST_SERVER").unwrap(), var("LOWKEY_TEST_FOLDER").unwrap());
    let mut user = User::online(&url, "bob", settings("bob"));
    user.peer.call("alice");
    user.wait(&Event::Open { peer: "alice".to_owned() });
    user.peer.offer_file("alice", Offer::open(format!("{folder}/x")).unwrap());
    tell(&mut user, |_, _| {});
}

/// Somebody who takes what alice offers into its folder, likewise.
#[test]
#[ignore = "a part of other tests"]
fn a_taker() {
    let (url, folder) = (var("LOWKEY_TEST_SERVER").unwrap(), var("LOWKEY_TEST_FOLDER").unwrap());
    let folder = Folder::open(folder).unwrap();
    let mut user = User::online(&url, "bob", settings("bob"));
    tell(&mut user, |user, event| match event {
        Event::Request { peer, .. } => user.peer.accept(peer),
        Event::FileOffered { peer, file, identity, size, .. } => {
            println!("offered, {}", if folder.has_begun(*identity, *file, *size) { "begun" } else { "new" });
            user.peer.take_file(peer, *file, Sink::folder(folder.clone()));
        }
        _ => {}
    });
}

fn settings(name: &str) -> Settings {
    let mut settings = Settings::default();
    settings.token = Some(format!("the token of {name}"));
    settings.identity = Some(identity(name));
    settings.takes_files = true;
    settings.lost_after = Duration::from_secs(3);
    settings
}

/// Says what happens to files, until the one that there is has ended.
fn tell(user: &mut User, mut act: impl FnMut(&User, &Event)) {
    while let Some(event) = user.events.next_timeout(3 * SOON) {
        act(user, &event);
        match event {
            Event::FileStarted { from, .. } => println!("started {from}"),
            Event::FileProgress { done, .. } => println!("progress {done}"),
            Event::FileSent { .. } => println!("sent"),
            Event::FileReceived { .. } => println!("received"),
            Event::FileEnded { reason, .. } => println!("ended: {reason}"),
            // The last word is on its way.
            Event::Delivered { .. } => {}
            _ => continue,
        }
        if matches!(event, Event::FileSent { .. } | Event::FileReceived { .. }) {
            user.peer.shutdown();
        }
    }
}

/// From which byte on a file begins to go.
fn started(user: &mut User) -> u64 {
    user.find("a file begins", |event| match event {
        Event::FileStarted { from, .. } => Some(*from),
        Event::FileEnded { .. } => panic!("{event:?}"),
        _ => None,
    })
}

/// Waits until at least so much of a file has gone.
fn gone(user: &mut User, least: u64) -> u64 {
    user.find("some of a file", |event| match event {
        Event::FileProgress { done, .. } if *done >= least => Some(*done),
        Event::FileEnded { .. } | Event::FileSent { .. } | Event::FileReceived { .. } => panic!("{event:?}"),
        _ => None,
    })
}

#[test]
fn a_receiver_that_is_killed_goes_on_where_it_was() {
    let (server, scratch, elsewhere) = (Server::start(), Scratch::new("kill-taker"), Scratch::new("kill-taker-x"));
    let content = bytes(LENGTH);
    let path = elsewhere.0.join("x");
    fs::write(&path, &content).unwrap();
    let mut alice = User::online(&server.url(), "alice", settings("alice"));
    let mut bob = program("a_taker", &server, &scratch);
    alice.call_soon("bob");
    let file = alice.peer.offer_file("bob", Offer::open(&path).unwrap());
    assert_eq!(started(&mut alice), 0);
    gone(&mut alice, SOME);
    bob.signal("KILL");
    bob.wait();
    assert!(!scratch.0.join("x").exists(), "what is not whole has no name");
    let mut bob = program("a_taker", &server, &scratch);
    let from = started(&mut alice);
    assert!(from > 0, "it goes on");
    assert_eq!(sent(&mut alice, file), (LENGTH as u64, sum(&content)));
    bob.stdout.find("offered, begun");
    assert_eq!(bob.stdout.find("started"), format!("started {from}"));
    bob.stdout.find("received");
    assert!(fs::read(scratch.0.join("x")).unwrap() == content);
}

#[test]
fn a_sender_that_is_killed_goes_on_by_the_same_offer() {
    let (server, scratch, elsewhere) = (Server::start(), Scratch::new("kill-sender"), Scratch::new("kill-sender-x"));
    let content = bytes(LENGTH);
    fs::write(elsewhere.0.join("x"), &content).unwrap();
    let folder = Folder::open(&scratch.0).unwrap();
    let mut alice = User::online(&server.url(), "alice", settings("alice"));
    let mut bob = program("a_sender", &server, &elsewhere);
    alice.answer("bob");
    let file = offered(&mut alice);
    alice.peer.take_file("bob", file, Sink::folder(folder.clone()));
    assert_eq!(started(&mut alice), 0);
    let done = gone(&mut alice, SOME);
    bob.signal("KILL");
    bob.wait();
    let mut bob = program("a_sender", &server, &elsewhere);
    // It is asked for the chat, and not for the file.
    alice.asked_by("bob");
    alice.peer.accept("bob");
    let from = started(&mut alice);
    assert!(from >= done, "{from} of {done}");
    let (stored, size, digest) = received(&mut alice, file);
    assert_eq!((size, digest), (LENGTH as u64, sum(&content)));
    assert!(fs::read(stored.unwrap()).unwrap() == content);
    bob.stdout.find("sent");
}

#[test]
fn a_file_goes_on_after_its_connection_was_lost() {
    let (server, scratch, elsewhere) = (Server::start(), Scratch::new("lost"), Scratch::new("lost-x"));
    let content = bytes(LENGTH);
    let path = elsewhere.0.join("x");
    fs::write(&path, &content).unwrap();
    let mut alice = User::online(&server.url(), "alice", settings("alice"));
    let bob = program("a_taker", &server, &scratch);
    alice.call_soon("bob");
    let file = alice.peer.offer_file("bob", Offer::open(&path).unwrap());
    assert_eq!(started(&mut alice), 0);
    let done = gone(&mut alice, SOME);
    bob.signal("STOP");
    alice.wait(&Event::Interrupted { peer: "bob".to_owned() });
    bob.signal("CONT");
    let from = started(&mut alice);
    assert!(from >= done, "not a byte is sent twice that was there: {from} of {done}");
    assert_eq!(sent(&mut alice, file), (LENGTH as u64, sum(&content)));
    assert!(fs::read(scratch.0.join("x")).unwrap() == content);
}
