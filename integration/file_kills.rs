//! Files that go on, whatever becomes of a program or a connection: each test has a program of its own that is killed
//! or stopped, which is this one, started again for one of the two tests at the end that nobody runs otherwise.

use std::env::{current_exe, var};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lowkey::peer::{EndReason, Event, FileOffer, Folder, Settings, Sink};

use crate::files::{self, bytes, names, offered, received, sent, started, sum};
use crate::world::{Folder as Scratch, Program, SOON, Server, User, until};

/// Long enough that a program can be killed while it comes.
const LENGTH: usize = 32 * 1024 * 1024;

/// Beyond the first place that is written down.
const SOME: u64 = 5 * 1024 * 1024;

/// Starts this program as one of the two tests below, with that folder to itself. `dies`: at this moment, without a
/// word.
fn program(test: &str, url: &str, scratch: &Scratch, dies: &str) -> Program {
    let mut command = Command::new(current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", &format!("file_kills::{test}")]);
    command.env("LOWKEY_TEST_SERVER", url).env("LOWKEY_TEST_FOLDER", scratch.path());
    command.env("LOWKEY_TEST_DIES", dies);
    Program::spawn(command)
}

/// Ends this program as a kill does, if this is the moment.
fn die(moment: &str) {
    if var("LOWKEY_TEST_DIES").is_ok_and(|dies| dies == moment) {
        std::process::abort();
    }
}

/// Somebody who offers the file `x` of its folder to alice, says on standard output what becomes of it, and waits for
/// its end.
#[test]
#[ignore = "a part of other tests"]
fn a_sender() {
    let (url, folder) = (var("LOWKEY_TEST_SERVER").unwrap(), var("LOWKEY_TEST_FOLDER").unwrap());
    let mut user = User::online(&url, "bob", settings("bob"));
    user.call_soon("alice");
    user.peer.offer_file("alice", FileOffer::open(format!("{folder}/x")).unwrap());
    die("offered");
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
            die("offered");
            user.peer.take_file(peer, *file, Sink::folder(folder.clone()));
            die("taken");
        }
        _ => {}
    });
}

fn settings(name: &str) -> Settings {
    let mut settings = files::settings(name);
    settings.lost_after = Duration::from_secs(3);
    settings
}

/// Says what happens to files, until the one that there is has ended.
fn tell(user: &mut User, mut act: impl FnMut(&User, &Event)) {
    while let Some(event) = user.events.next_timeout(3 * SOON) {
        act(user, &event);
        match event {
            Event::FileStarted { from, .. } => {
                println!("started {from}");
                die("started");
            }
            Event::FileProgress { done, .. } if done >= SOME => die("some"),
            Event::FileSent { .. } => {
                println!("sent");
                die("done");
                user.peer.shutdown();
            }
            Event::FileReceived { .. } => {
                println!("received");
                die("done");
                user.peer.shutdown();
            }
            Event::FileEnded { reason, trouble, .. } => println!("ended: {reason}: {}", trouble.unwrap_or_default()),
            _ => {}
        }
    }
}

/// Waits until so much of the only file that comes into this folder lies there; how much that is. Its length is asked
/// for, and not what is told twice a second: on a quick machine all of it is there before.
fn lies_in(folder: &Scratch) -> u64 {
    until("some of a file lies in the folder", || {
        let entries = fs::read_dir(folder.0.join(".lowkey")).ok()?.flatten();
        let part = entries.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "part"))?;
        Some(fs::metadata(part).ok()?.len()).filter(|length| *length >= SOME)
    })
}

#[test]
fn a_receiver_that_is_killed_goes_on_where_it_was() {
    let (server, scratch, elsewhere) = (Server::start(), Scratch::new("kill-taker"), Scratch::new("kill-taker-x"));
    let content = bytes(LENGTH);
    let path = elsewhere.0.join("x");
    fs::write(&path, &content).unwrap();
    let mut alice = User::online(&server.url(), "alice", settings("alice"));
    let mut bob = program("a_taker", &server.url(), &scratch, "");
    alice.call_soon("bob");
    let file = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
    assert_eq!(started(&mut alice), 0);
    lies_in(&scratch);
    bob.signal("KILL");
    bob.wait();
    assert!(!scratch.0.join("x").exists(), "what is not whole has no name");
    let mut bob = program("a_taker", &server.url(), &scratch, "");
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
    let mut bob = program("a_sender", &server.url(), &elsewhere, "");
    alice.answer("bob");
    let file = offered(&mut alice);
    alice.peer.take_file("bob", file, Sink::folder(folder.clone()));
    assert_eq!(started(&mut alice), 0);
    let done = lies_in(&scratch);
    bob.signal("KILL");
    bob.wait();
    let mut bob = program("a_sender", &server.url(), &elsewhere, "");
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
    let bob = program("a_taker", &server.url(), &scratch, "");
    alice.call_soon("bob");
    let file = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
    assert_eq!(started(&mut alice), 0);
    let done = lies_in(&scratch);
    bob.signal("STOP");
    alice.wait(&Event::Interrupted { peer: "bob".to_owned() });
    bob.signal("CONT");
    let from = started(&mut alice);
    assert!(from >= done, "not a byte is sent twice that was there: {from} of {done}");
    assert_eq!(sent(&mut alice, file), (LENGTH as u64, sum(&content)));
    assert!(fs::read(scratch.0.join("x")).unwrap() == content);
}

/// Offers `path` to bob, whose program dies at this moment and is started again, until it has all of it.
fn send_to_one_who_dies(server: &Server, path: &Path, folder: &Scratch, moment: &str) {
    let mut alice = User::online(&server.url(), "alice", settings("alice"));
    let mut bob = program("a_taker", &server.url(), folder, moment);
    alice.call_soon("bob");
    let file = alice.peer.offer_file("bob", FileOffer::open(path).unwrap());
    bob.wait();
    let _bob = program("a_taker", &server.url(), folder, "");
    assert_eq!(sent(&mut alice, file).1, sum(&fs::read(path).unwrap()), "{moment}");
}

/// Takes what bob offers, whose program dies at this moment and is started again, until all of it is here.
fn take_from_one_who_dies(server: &Server, path: &Path, folder: &Scratch, moment: &str) {
    let scratch = Scratch::new(&format!("dying-sender-{moment}"));
    fs::hard_link(path, scratch.0.join("x")).unwrap();
    let mut alice = User::online(&server.url(), "alice", settings("alice"));
    let mut bob = program("a_sender", &server.url(), &scratch, moment);
    let into = Folder::open(&folder.0).unwrap();
    let (mut runs, mut is_here) = (1, false);
    alice.peer.trust("bob", None);
    let again = |bob: &mut Program| {
        bob.wait();
        program("a_sender", &server.url(), &scratch, "")
    };
    while runs < 2 || !is_here {
        match alice.next() {
            Event::Request { peer, .. } => alice.peer.accept(&peer),
            Event::FileOffered { peer, file, .. } => alice.peer.take_file(&peer, file, Sink::folder(into.clone())),
            Event::FileReceived { .. } => {
                is_here = true;
                if runs < 2 {
                    (bob, runs) = (again(&mut bob), 2);
                    is_here = false;
                }
            }
            Event::Interrupted { .. } if runs < 2 => (bob, runs) = (again(&mut bob), 2),
            Event::FileEnded { is_kept: false, reason: EndReason::Failed, trouble, .. } => panic!("{trouble:?}"),
            _ => {}
        }
    }
    bob.stdout.find("sent");
}

#[test]
fn a_file_arrives_once_and_whole_whenever_either_program_dies() {
    let (server, elsewhere) = (Server::start(), Scratch::new("dying"));
    let content = bytes(7 * 1024 * 1024);
    let path = elsewhere.0.join("x");
    fs::write(&path, &content).unwrap();
    for moment in ["offered", "taken", "started", "some", "done"] {
        for is_taker in [true, false] {
            // A sender that is asked has nothing to do at one of them.
            if !is_taker && moment == "taken" {
                continue;
            }
            let folder = Scratch::new(&format!("dying-{moment}-{is_taker}"));
            match is_taker {
                true => send_to_one_who_dies(&server, &path, &folder, moment),
                false => take_from_one_who_dies(&server, &path, &folder, moment),
            }
            assert_eq!(names(&folder.0), ["x"], "{moment}, {is_taker}: once");
            assert!(fs::read(folder.0.join("x")).unwrap() == content, "{moment}, {is_taker}: whole");
        }
    }
}

#[test]
fn a_file_goes_on_while_its_server_is_away() {
    let (server, scratch, elsewhere) = (Server::start(), Scratch::new("no-server"), Scratch::new("no-server-x"));
    let content = bytes(LENGTH);
    let path = elsewhere.0.join("x");
    fs::write(&path, &content).unwrap();
    let mut alice = User::online(&server.url(), "alice", settings("alice"));
    let _bob = program("a_taker", &server.url(), &scratch, "");
    alice.call_soon("bob");
    let file = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
    lies_in(&scratch);
    drop(server);
    assert_eq!(sent(&mut alice, file), (LENGTH as u64, sum(&content)));
    assert!(fs::read(scratch.0.join("x")).unwrap() == content);
}

/// One file of up to 64 MiB to or from a program that is killed or stopped up to three times at moments of chance. What
/// is wrong with what arrived, if anything is.
pub fn send_through_kills(server: &Server, number: usize) -> Result<(), String> {
    let (is_taker, kills) = (fastrand::bool(), fastrand::usize(1..=3));
    // As many short ones as long ones.
    let length = fastrand::usize(0..2usize.pow(fastrand::u32(0..=26)));
    let (from, into) = (Scratch::new(&format!("trial-{number}-from")), Scratch::new(&format!("trial-{number}-into")));
    let content = bytes(length);
    fs::write(from.0.join("x"), &content).unwrap();
    let mut alice = User::online(&server.url(), "alice", settings("alice"));
    let (test, scratch) = if is_taker { ("a_taker", &into) } else { ("a_sender", &from) };
    let folder = Folder::open(&into.0).unwrap();
    let (url, is_done) = (server.url(), AtomicBool::new(false));
    thread::scope(|scope| {
        let bob = scope.spawn(|| {
            for _ in 0..kills {
                let mut bob = program(test, &url, scratch, "");
                thread::sleep(Duration::from_millis(fastrand::u64(0..1500)));
                if fastrand::u8(0..8) == 0 {
                    bob.signal("STOP");
                    thread::sleep(Duration::from_secs(5));
                    bob.signal("CONT");
                    thread::sleep(Duration::from_millis(fastrand::u64(0..3000)));
                }
                bob.signal("KILL");
                bob.wait();
            }
            let bob = program(test, &url, scratch, "");
            is_done.store(true, Ordering::Relaxed);
            bob
        });
        let mut seen = Vec::new();
        let result = serve(&mut alice, is_taker, &from.0.join("x"), &folder, &is_done, &mut seen);
        let mut bob = bob.join().unwrap();
        result.map_err(|what| {
            let said: Vec<String> = std::iter::from_fn(|| bob.stdout.next_until(Instant::now() + SOON / 20)).collect();
            let parts: Vec<_> = fs::read_dir(into.0.join(".lowkey")).into_iter().flatten().flatten().collect();
            format!("{what}\nalice was told {seen:#?}\nbob said {said:#?}\nthere is {parts:?}")
        })
    })?;
    let what = format!("{length} bytes, {kills} kills of {test}");
    match (names(&into.0), fs::read(into.0.join("x"))) {
        (names, _) if names != ["x"] => Err(format!("{what}: {names:?}")),
        (_, Ok(came)) if came == content => Ok(()),
        _ => Err(format!("{what}: it is not what was sent")),
    }
}

/// Does alice's part, until it is done; whoever sends says the same again and again.
fn serve(
    alice: &mut User,
    is_sender: bool,
    path: &Path,
    folder: &Folder,
    is_last: &AtomicBool,
    seen: &mut Vec<String>,
) -> Result<(), String> {
    let begin = Instant::now();
    let until = Instant::now() + Duration::from_secs(180);
    let (mut received, mut silent) = (0, 0);
    if is_sender {
        alice.peer.call("bob");
    }
    while Instant::now() < until {
        let event = alice.events.next_timeout(Duration::from_millis(500));
        seen.extend(event.as_ref().map(|event| format!("{:.1?}: {event:?}", begin.elapsed())));
        match event {
            Some(Event::Request { peer, .. }) => alice.peer.accept(&peer),
            Some(Event::Open { .. } | Event::Resumed { .. }) if is_sender => {
                alice.peer.offer_file("bob", FileOffer::open(path).unwrap());
            }
            Some(Event::Closed { .. }) if is_sender => {
                thread::sleep(Duration::from_millis(100));
                alice.peer.call("bob");
            }
            Some(Event::FileOffered { peer, file, .. }) => {
                alice.peer.take_file(&peer, file, Sink::folder(folder.clone()));
            }
            Some(Event::FileSent { .. }) => return Ok(()),
            Some(Event::FileReceived { .. }) => received += 1,
            // What came before the last run began is said once more in it.
            Some(Event::Closed { .. }) | None if received > 0 && is_last.load(Ordering::Relaxed) => return Ok(()),
            Some(event @ Event::FileEnded { reason: EndReason::Damaged | EndReason::Changed, .. }) => {
                return Err(format!("{event:?}"));
            }
            // Who waits too long says it again.
            None if is_sender => {
                silent += 1;
                if silent % 20 == 0 {
                    alice.peer.offer_file("bob", FileOffer::open(path).unwrap());
                }
            }
            _ => {}
        }
    }
    Err(format!("it did not come to an end within three minutes; alice sends: {is_sender}, came: {received}"))
}
