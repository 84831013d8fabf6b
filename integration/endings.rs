//! How a program without a person at it ends before all was done: what was not sent is told, and nothing keeps it.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::pipe::{chat, listening};
use crate::world::{Folder, Program, Server, path, until};

/// Alice, who reads this.
fn reading(server: &Server, input: &Path, arguments: &[&str]) -> Program {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$@\" <'{}'", input.display())).args(["sh", path("lowkey")]);
    shell.args(["--server", &server.url(), "--name", "alice"]).args(arguments).env_clear();
    Program::spawn(shell)
}

fn fifo(folder: &Folder) -> std::path::PathBuf {
    let fifo = folder.0.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    fifo
}

/// All that was said of texts that were not sent.
fn told(program: &mut Program) -> String {
    let mut lines = program.stderr.rest();
    lines.extend(program.stdout.rest());
    lines.join("\n")
}

#[test]
fn a_signal_that_cuts_a_text_short_is_told() {
    for signal in ["TERM", "HUP", "INT"] {
        let server = Server::start();
        let mut bob = server.peer("bob");
        let mut alice = chat(&server, "alice", &["send", "bob"]);
        for _ in 0..60 {
            alice.write(&"x".repeat(999));
        }
        bob.answer("alice");
        bob.message();
        // Who asks for more has taken what came before.
        std::thread::spawn(move || bob.events.by_ref().for_each(drop));
        alice.signal(signal);
        assert_eq!(alice.wait().code(), Some(1), "{signal}");
        assert!(told(&mut alice).contains("what was left of it was not sent"), "{signal}");
    }
}

#[test]
fn a_signal_that_cuts_lines_short_is_told() {
    let server = Server::start();
    let _bob = server.peer("bob");
    let folder = Folder::new("cut-short");
    for (arguments, line) in [(&["bob"][..], "line"), (&["--json", "bob"], r#"{"command":"send","text":"line"}"#)] {
        let input = folder.0.join("input");
        fs::write(&input, format!("{line}\n").repeat(5000)).unwrap();
        let mut alice = reading(&server, &input, arguments);
        match arguments[0] {
            "--json" => drop(alice.stdout.find("\"calling\"")),
            _ => drop(alice.stderr.find("calling bob")),
        }
        alice.signal("TERM");
        assert_eq!(alice.wait().code(), Some(1));
        let told = told(&mut alice);
        assert!(told.contains("what was left of it was not sent"), "{told}");
    }
}

#[test]
fn of_lines_that_were_read_each_is_sent_or_told_of() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let folder = Folder::new("swallowed");
    let fifo = fifo(&folder);
    let mut lines = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let all: BTreeSet<String> = (0..3000).map(|number| format!("line {number:04}")).collect();
    all.iter().for_each(|line| writeln!(lines, "{line}").unwrap());
    let mut alice = reading(&server, &fifo, &["send", "--follow", "bob"]);
    bob.asked_by("alice");
    bob.peer.decline("alice");
    assert_eq!(alice.wait().code(), Some(4));
    let told = told(&mut alice);
    let mut left = Vec::new();
    let mut rest = OpenOptions::new().read(true).custom_flags(0o4000).open(&fifo).unwrap();
    if let Err(error) = rest.read_to_end(&mut left) {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    let left = String::from_utf8(left).unwrap();
    let lost: Vec<&String> = all.iter().filter(|line| !told.contains(*line) && !left.contains(*line)).collect();
    assert!(lost.is_empty(), "{} of 3000, from {:?} on", lost.len(), lost[0]);
    assert!(!left.is_empty() && told.contains("what was left of it was not sent"));
}

#[test]
fn who_does_not_read_keeps_nobody_from_ending() {
    for (arguments, code) in [(&["listen", "--timeout", "4"][..], 6), (&["listen"], 1)] {
        let server = Server::start();
        let mut alice = server.peer("alice");
        let folder = Folder::new("unread");
        let fifo = fifo(&folder);
        let mut bob = listening(&server, &folder, fifo.to_str().unwrap(), arguments);
        let reader = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        bob.stderr.find("online");
        alice.call("bob");
        for _ in 0..20 {
            alice.peer.send("bob", &"x".repeat(40_000));
        }
        until("nothing more fits into the pipe", || {
            let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLOUT)];
            (poll(&mut fds, PollTimeout::ZERO) == Ok(0)).then_some(())
        });
        if code == 1 {
            bob.signal("TERM");
        }
        assert_eq!(bob.wait().code(), Some(code));
    }
}

#[test]
fn the_end_of_the_time_does_not_wait_for_who_does_not_read() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let mut alice = chat(&server, "alice", &["send", "bob", "--timeout", "3"]);
    alice.write("hello");
    // Standard input does not end.
    assert_eq!(alice.wait().code(), Some(6));
    let mut alice = chat(&server, "alice", &["send", "bob", "hello", "--timeout", "3"]);
    bob.answer("alice");
    let _unread = bob;
    assert_eq!(alice.wait().code(), Some(6));
}
