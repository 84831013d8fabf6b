//! What a person at the terminal waits for, and how they end that; and what is said meanwhile, which stands above the
//! line that they edit.

use std::fs;

use portable_pty::CommandBuilder;

use crate::pipe::listening;
use crate::window::{Terminal, in_home, lowkey};
use crate::world::{Folder, Program, Server, path, until};

/// Alice, a text of whom is not acknowledged: bob's program stands still.
fn unacknowledged(server: &Server, home: &Folder, other: &Folder, term: &str) -> (Terminal, Program) {
    let mut bob = listening(server, other, "/dev/null", &["listen"]);
    bob.stderr.find("online");
    let mut command = lowkey(home, &["--server", &server.url(), "--name", "alice", "bob"]);
    command.env("TERM", term);
    let mut terminal = Terminal::run(command);
    terminal.shows("connected with bob");
    bob.signal("STOP");
    terminal.type_keys("hello\r");
    terminal.shows("bob> hello");
    (terminal, bob)
}

/// Alice, who wants another name in such a chat.
fn renaming(server: &Server, home: &Folder, other: &Folder, term: &str) -> (Terminal, Program) {
    let (mut terminal, bob) = unacknowledged(server, home, other, term);
    terminal.type_keys("/nick carol\r");
    terminal.shows("Do it all the same?");
    terminal.type_keys("y\r");
    terminal.shows("* waiting until what was sent has arrived; /quit, Ctrl-D or Ctrl-C twice ends");
    (terminal, bob)
}

#[test]
fn who_waits_for_another_name_types_on_below_what_is_said() {
    let server = Server::start();
    let (mut terminal, bob) = renaming(&server, &Folder::new("nick-types"), &Folder::new("nick-types-bob"), "xterm");
    let screen = terminal.screen();
    assert!(screen.lines().any(|row| row.starts_with("* waiting until")), "in a row of its own: {screen}");
    terminal.type_keys("/link");
    terminal.last_line("bob> /link");
    terminal.type_keys("\r");
    bob.signal("CONT");
    terminal.shows("* you are carol;");
    terminal.shows("lowkey://");
    terminal.shows("/carol");
    assert!(!terminal.screen().contains("may not have arrived"));
}

#[test]
fn who_waits_for_another_name_ends_it_at_once() {
    for keys in ["\x03\x03", "\x04", "/quit\r", "/who\r/quit\r"] {
        let server = Server::start();
        let (mut terminal, _bob) = renaming(&server, &Folder::new("nick"), &Folder::new("nick-bob"), "xterm");
        terminal.type_keys(keys);
        assert_eq!(terminal.wait(), 1, "{keys:?}");
        terminal.shows("* what was sent last may not have arrived");
        assert!(!terminal.screen().contains("you are carol"), "{}", terminal.screen());
    }
    for keys in ["\x03", "\x04", "/who\r/quit\r"] {
        let server = Server::start();
        let (mut terminal, _bob) = renaming(&server, &Folder::new("nick-dumb"), &Folder::new("nick-dumb-bob"), "dumb");
        terminal.type_keys(keys);
        assert_eq!(terminal.wait(), 1, "{keys:?}");
        terminal.shows("* what was sent last may not have arrived");
        assert!(!terminal.screen().contains("you are carol"), "{}", terminal.screen());
    }
}

#[test]
fn a_signal_ends_a_program_that_waits_for_another_name() {
    let server = Server::start();
    let (mut terminal, _bob) = renaming(&server, &Folder::new("nick-term"), &Folder::new("nick-term-bob"), "xterm");
    terminal.signal("TERM");
    assert_eq!(terminal.wait(), 1);
    assert!(!terminal.screen().contains("you are carol"), "{}", terminal.screen());
    assert!(terminal.is_cooked());
}

#[test]
fn a_start_that_waits_is_ended_by_the_keyboard() {
    let home = Folder::new("waiting-start");
    let fifo = home.0.join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let arguments = ["--name", "alice", "--access-token-file", fifo.to_str().unwrap()];
    let mut terminal = Terminal::start(&home, &arguments);
    terminal.shows("* waiting for what comes from");
    // The first one is a key for whoever edits lines, and nobody does.
    until("it ends", || {
        terminal.type_keys("\x03");
        terminal.has_ended().then_some(())
    });
    assert_eq!(terminal.wait(), 1);
    assert!(terminal.is_cooked());
}

#[test]
fn what_is_said_after_a_key_that_ends_the_program_has_a_row_of_its_own() {
    for (term, key) in [("dumb", "\x03"), ("dumb", "\x04"), ("xterm", "\x03"), ("xterm", "\x04")] {
        let home = Folder::new("question-ended");
        let mut shell = CommandBuilder::new("sh");
        // The shell goes on where Ctrl-C ends the program.
        shell.args(["-c", "trap : INT; \"$0\"; echo \"the code is $?\"", path("lowkey")]);
        in_home(&mut shell, &home);
        shell.env("TERM", term);
        let mut terminal = Terminal::run(shell);
        terminal.shows("Choose a username");
        terminal.type_keys(key);
        terminal.shows("\nthe code is ");
        let screen = terminal.screen();
        assert!(screen.lines().skip(1).all(|row| row.starts_with(['l', 't'])), "{screen}");
    }
    for term in ["dumb", "xterm"] {
        let server = Server::start();
        let (home, other) = (Folder::new("quit-ended"), Folder::new("quit-ended-bob"));
        let (mut terminal, _bob) = unacknowledged(&server, &home, &other, term);
        terminal.type_keys("/quit\r");
        terminal.shows("* waiting until what was sent has arrived; Ctrl-C ends at once");
        terminal.type_keys("\x03");
        terminal.shows("\n* what was sent last may not have arrived");
        assert_eq!(terminal.wait(), 1);
    }
}

#[test]
fn what_is_logged_stands_above_the_line_that_is_edited() {
    for term in ["xterm", "dumb"] {
        let server = Server::start();
        let home = Folder::new("logged");
        let mut command = lowkey(&home, &["--server", &server.url(), "--name", "alice"]);
        command.env("RUST_LOG", "lowkey::peer::signaling=debug");
        command.env("TERM", term);
        let mut terminal = Terminal::run(command);
        terminal.shows("* online;");
        if term == "xterm" {
            terminal.type_keys("a line");
            terminal.last_line("> a line");
        }
        drop(server);
        terminal.shows("lowkey::peer::signaling] server lost");
        terminal.shows("* offline");
        terminal.last_line(if term == "xterm" { "> a line" } else { ">" });
        let screen = terminal.screen();
        let logged = |row: &&str| row.contains("DEBUG") || row.contains("* ");
        assert!(screen.lines().filter(logged).all(|row| row.starts_with(['[', '*'])), "{screen}");
    }
}

#[test]
fn what_is_logged_goes_where_standard_error_leads() {
    let server = Server::start();
    let home = Folder::new("logged-aside");
    let log = home.0.join("log");
    let mut shell = CommandBuilder::new("sh");
    let script = format!("exec \"$0\" \"$@\" 2>'{}'", log.display());
    shell.args(["-c", &script, path("lowkey"), "--server", &server.url(), "--name", "alice"]);
    in_home(&mut shell, &home);
    shell.env("RUST_LOG", "lowkey::peer::signaling=debug");
    let terminal = Terminal::run(shell);
    terminal.shows("* online;");
    drop(server);
    terminal.shows("* offline");
    until("it is logged", || fs::read_to_string(&log).unwrap().contains("server lost").then_some(()));
    assert!(!terminal.screen().contains("DEBUG"), "{}", terminal.screen());
}
