//! Files that go on, whatever becomes of a program or a connection: each test has a program of its own that is killed
//! or stopped, which is this one, started again for one of the two tests at the end that nobody runs otherwise.

use std::env::{current_exe, var};
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use lowkey::peer::{EndReason, Event, FileId, FileOffer, Folder, Settings, Sink};

use crate::file_commands::{file, listener, start};
use crate::file_users::{self, bytes, lies_in, names, offered, received, sent, started, sum};
use crate::world::{Folder as Scratch, Program, SOON, Server, User};

/// Long enough that a program can be killed while it comes.
const LENGTH: usize = 32 * 1024 * 1024;

/// Beyond the first place that is written down.
const SOME: u64 = 5 * 1024 * 1024;

/// Starts this program as one of the two tests below, with that folder to itself. `dies`: at this moment, without a
/// word.
fn program(test: &str, url: &str, scratch: &Scratch, dies: &str) -> Program {
    let mut command = Command::new(current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", &format!("file_kills::{test}")]);
    command.env("KILLED_SERVER", url).env("KILLED_FOLDER", scratch.path());
    command.env("KILLED_AT", dies);
    Program::spawn(command)
}

/// Ends this program as a kill does, if this is the moment.
fn die(moment: &str) {
    if var("KILLED_AT").is_ok_and(|dies| dies == moment) {
        std::process::abort();
    }
}

/// Somebody who offers the file `x` of its folder to alice, says on standard output what becomes of it, and waits for
/// its end.
#[test]
#[ignore = "a part of other tests"]
fn a_sender() {
    let (url, folder) = (var("KILLED_SERVER").unwrap(), var("KILLED_FOLDER").unwrap());
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
    let (url, folder) = (var("KILLED_SERVER").unwrap(), var("KILLED_FOLDER").unwrap());
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
    let mut settings = file_users::settings(name);
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

/// A file that alice sends to bob, whose program is one of its own, into a folder.
struct Scene {
    server: Option<Server>,
    folder: Scratch,
    content: Vec<u8>,
    alice: User,
    bob: Program,
    file: FileId,
    /// Where the file is.
    _elsewhere: Scratch,
}

impl Scene {
    /// So much of it has come that there is something to go on from.
    fn midway(name: &str) -> (Self, u64) {
        let (server, folder) = (Server::start(), Scratch::new(name));
        let (elsewhere, content) = (Scratch::new(&format!("{name}-x")), bytes(LENGTH));
        let path = elsewhere.0.join("x");
        fs::write(&path, &content).unwrap();
        let mut alice = User::online(&server.url(), "alice", settings("alice"));
        let bob = program("a_taker", &server.url(), &folder, "");
        alice.call_soon("bob");
        let file = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
        assert_eq!(started(&mut alice), 0);
        let done = lies_in(&folder.0, SOME);
        let server = Some(server);
        (Self { server, folder, content, alice, bob, file, _elsewhere: elsewhere }, done)
    }

    /// It arrives whole under its name.
    fn arrives(&mut self) {
        assert_eq!(sent(&mut self.alice, self.file), (LENGTH as u64, sum(&self.content)));
        assert!(fs::read(self.folder.0.join("x")).unwrap() == self.content);
    }
}

#[test]
fn a_receiver_that_is_killed_goes_on_where_it_was() {
    let (mut scene, _) = Scene::midway("kill-taker");
    scene.bob.signal("KILL");
    scene.bob.wait();
    assert!(!scene.folder.0.join("x").exists(), "what is not whole has no name");
    let url = scene.server.as_ref().unwrap().url();
    let mut bob = program("a_taker", &url, &scene.folder, "");
    let from = started(&mut scene.alice);
    assert!(from > 0, "it goes on");
    scene.arrives();
    bob.stdout.find("offered, begun");
    assert_eq!(bob.stdout.find("started"), format!("started {from}"));
    bob.stdout.find("received");
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
    let done = lies_in(&scratch.0, SOME);
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
    let (mut scene, done) = Scene::midway("lost");
    scene.bob.signal("STOP");
    scene.alice.wait(&Event::Interrupted { peer: "bob".to_owned() });
    scene.bob.signal("CONT");
    let from = started(&mut scene.alice);
    assert!(from >= done, "not a byte is sent twice that was there: {from} of {done}");
    scene.arrives();
}

/// A stream without end. It is known when it is held no longer.
struct Endless(#[expect(dead_code, reason = "it is there to be dropped")] mpsc::Sender<()>);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(7);
        Ok(buffer.len())
    }
}

#[test]
fn nothing_of_a_file_is_held_after_its_connection_was_lost_with_much_on_its_way() {
    let (server, folder) = (Server::start(), Scratch::new("kill-left"));
    let mut alice = User::online(&server.url(), "alice", settings("alice"));
    let bob = program("a_taker", &server.url(), &folder, "");
    alice.call_soon("bob");
    let (held, released) = mpsc::channel();
    alice.peer.offer_file("bob", FileOffer::stream("x", Endless(held)));
    let is_fast = |event: &Event| matches!(event, Event::FileProgress { done, .. } if *done >= 4 * SOME).then_some(());
    alice.find("it goes as fast as it can", is_fast);
    bob.signal("STOP");
    alice.wait(&Event::Interrupted { peer: "bob".to_owned() });
    alice.peer.leave("bob");
    assert_eq!(released.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected), "a thread still waits to send it");
    bob.signal("KILL");
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
    let (mut scene, _) = Scene::midway("no-server");
    drop(scene.server.take());
    scene.arrives();
}

/// Being stopped is no standstill of the other side's, although nothing has come from it for longer.
#[test]
fn a_sender_that_was_stopped_says_nothing_of_a_standstill() {
    let (server, home) = (Server::start(), Scratch::new("stopped-sender"));
    let inbox = home.0.join("inbox");
    let bob = listener(&server, &home, &["--accept-files", inbox.to_str().unwrap(), "--from", "alice"]);
    let content = bytes(64 << 20);
    let path = file(&home, "x", &content);
    let mut alice = start(&server, &home, "alice", &["send", "bob", "--file", &path]);
    lies_in(&inbox, 12 << 20);
    // What alice sends until no more may be on its way is acknowledged once both go on.
    bob.signal("STOP");
    std::thread::sleep(Duration::from_secs(1));
    alice.signal("STOP");
    // Longer than bob may take nothing before that is told.
    std::thread::sleep(Duration::from_secs(32));
    alice.signal("CONT");
    bob.signal("CONT");
    assert_eq!(alice.wait().code(), Some(0));
    let said = alice.stderr.rest();
    assert!(!said.iter().any(|line| line.contains("takes nothing")), "{said:#?}");
    assert!(fs::read(inbox.join("x")).unwrap() == content);
}
