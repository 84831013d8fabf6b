//! The examples of the library, as programs: each does what its head says.

use std::path::Path;
use std::process::Command;

use crate::world::{self, Program, Server};

#[test]
fn the_greeter_takes_a_call_and_says_welcome() {
    let server = Server::start();
    let _greeter = example("greeter", &[&server.url()]);
    // It says nothing of itself, so it is called until it is there.
    let mut alice = server.peer("alice");
    alice.call_soon("greeter");
    assert_eq!(alice.message(), ("greeter".to_owned(), "welcome".to_owned()));
}

#[test]
fn a_reminder_on_tokio_waits_for_several_people_at_once() {
    let server = Server::start();
    let _reminder = example("reminder", &[&server.url()]);
    let mut alice = server.peer("alice");
    alice.call_soon("reminder");
    for text in ["hello", "1 the second", "0 the first"] {
        alice.peer.send("reminder", text);
    }
    let texts = [0; 3].map(|_| alice.message().1);
    assert_eq!(texts, ["write how many seconds, and what of: 30 call the dentist", "the first", "the second"]);
}

#[test]
fn a_peer_lives_in_the_event_loop_of_somebody_else() {
    let server = Server::start();
    let _bot = server.bot();
    let mut window = example("gui_loop", &[&server.url(), "alice", "echo"]);
    // Typed long before the chat is open.
    window.write("hello");
    window.stdout.find("* open");
    window.stdout.find("echo: hello");
    // More than wait for a user at once, so the loop has to be woken again for the rest.
    for number in 0..500 {
        window.write(&format!("text {number}"));
    }
    for number in 0..500 {
        assert_eq!(window.stdout.next(), format!("echo: text {number}"));
    }
    // The last text arrives, although the window is closed right after it; and the loop hears of the end.
    drop(window.stdin.take());
    assert!(window.wait().success());
}

#[test]
fn a_window_without_a_server_can_be_closed() {
    let mut window = example("gui_loop", &["ws://127.0.0.1:1", "alice", "echo"]);
    window.stdout.find("nothing listens there");
    drop(window.stdin.take());
    assert!(window.wait().success());
}

#[test]
fn an_engine_works_alone() {
    let mut program = example("engine_alone", &[]);
    program.stdout.find("alice to the server: {\"type\":\"session:connect\",\"target\":\"bob\"}");
    program.stdout.find("bob is told: Message { peer: \"alice\", text: \"hello, all in memory\" }");
    assert!(program.wait().success());
    let sealed = program.stdout.seen.iter().filter(|line| line.contains("hello, all in memory")).count();
    assert_eq!(sealed, 1, "the text is on no line but that of who reads it");
}

/// Starts an example. `cargo test` builds them too, but `cargo test --test integration` does not.
pub fn example(name: &str, arguments: &[&str]) -> Program {
    let program = Path::new(world::path("lowkey")).with_file_name("examples").join(name);
    assert!(program.exists(), "no {}: cargo build --examples makes it", program.display());
    let mut command = Command::new(program);
    command.env_clear().args(arguments);
    Program::spawn(command)
}
