//! What people bring along from other programs: files that begin with a byte order mark, commands of other chats, keys
//! typed ahead, and calls while the server is away.

use std::io::Write;

use lowkey::peer::{CloseReason, Event};
use serde_json::json;

use crate::evil_server::{EvilServer, fresh_key};
use crate::window::{Terminal, chat};
use crate::world::{Folder, Program, Server, until};

fn lowkey(server: &str, name: &str, arguments: &[&str]) -> Program {
    Program::start("lowkey", &[&["--server", server, "--name", name], arguments].concat(), &[])
}

#[test]
fn a_byte_order_mark_is_no_part_of_what_is_piped_in() {
    let server = Server::start();
    let url = server.url();
    let home = Folder::new("byte-order-mark");
    let mut bob = server.peer("bob");
    let cases: [(&[&str], &str, &str); 6] = [
        (&["bob"], "hello\n", "hello"),
        (&["bob"], "/msg bob hello\n", "hello"),
        (&["--until", "delivered", "bob"], "//hello\n", "/hello"),
        (&["send", "bob"], "hello\n", "hello"),
        (&["send", "--follow", "bob"], "/hello\n", "/hello"),
        (&["--json", "--until", "delivered"], "{\"command\":\"send\",\"peer\":\"bob\",\"text\":\"hello\"}\n", "hello"),
    ];
    for (arguments, input, text) in cases {
        let arguments = &[&["--server", &*url, "--name", "alice"], arguments].concat();
        let mut alice = Program::start("lowkey", arguments, &[("HOME", home.path())]);
        alice.stdin.take().unwrap().write_all(format!("\u{feff}{input}").as_bytes()).unwrap();
        bob.answer("alice");
        assert_eq!(bob.message().1, text, "{arguments:?}");
        bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
        assert_eq!(alice.wait().code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn who_is_called_while_the_server_is_away_is_called_when_it_is_back() {
    let server = Server::start();
    let home = Folder::new("server-away");
    let address = server.address.clone();
    let mut terminal = Terminal::start(&home, &["--server", &server.url(), "--name", "alice"]);
    terminal.shows("online; you can call");
    drop(server);
    terminal.shows("* offline: ");
    terminal.type_keys("/connect bob\r");
    terminal.shows("* bob is called as soon as the server is there");
    terminal.last_line("bob>");
    terminal.type_keys("hello\r");
    let port = address.rsplit(':').next().unwrap();
    let mut program = Program::start("lowkey-server", &[], &[("HOST", "127.0.0.1"), ("PORT", port)]);
    program.stderr.find("listening on ");
    let server = Server::of(program, address);
    let mut bob = server.peer("bob");
    // Whoever comes back first may find nobody; the call that waits is not made before.
    bob.answer("alice");
    assert_eq!(bob.message().1, "hello");
    terminal.shows("* connected with bob");
}

#[test]
fn commands_of_other_programs_have_an_answer_in_a_chat_and_are_never_sent() {
    let server = Server::start();
    let home = Folder::new("habits");
    let (mut terminal, mut bob) = chat(&server, &home);
    for (typed, answer) in [
        ("/whois bob", "there is no command /whois: /who says with whom you are talking"),
        ("/join #rust", "there is no command /join: there are no rooms"),
        ("/me waves", "there is no command /me: what you do is a text like any other"),
        ("/clear", "there is no command /clear: Ctrl-L clears the screen"),
        ("/names", "you are writing to bob"),
        ("/query bob", "you are writing to bob now"),
        ("/call bob", "you are writing to bob now"),
        ("/h", "/help [COMMAND]"),
        ("/?", "/help [COMMAND]"),
        ("/conect bob", "there is no command /conect; did you mean /connect? and //conect sends it as text"),
        ("/qiut", "did you mean /quit?"),
        ("/blub", "there is no command /blub; /help lists them, and //blub sends it as text"),
    ] {
        // Each on a screen of its own.
        terminal.type_keys("\x0c");
        terminal.type_keys(&format!("{typed}\r"));
        until(typed, || terminal.screen().replace("\n    ", " ").contains(answer).then_some(()));
    }
    terminal.type_keys("//me waves\r");
    assert_eq!(bob.message().1, "/me waves", "the first text that reaches bob");
    terminal.type_keys("/exit\r");
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn what_is_typed_behind_ctrl_c_and_ctrl_d_is_not_lost() {
    let server = Server::start();
    let home = Folder::new("typed-behind");
    let (mut terminal, mut bob) = chat(&server, &home);
    for number in 0..50 {
        terminal.type_keys(&format!("given up\x03text {number}\r"));
        assert_eq!(bob.message().1, format!("text {number}"));
    }
    // In a line, Ctrl-D takes a letter away.
    terminal.type_keys("ab\x02\x04c\r");
    assert_eq!(bob.message().1, "ac");
    bob.peer.leave("alice");
    terminal.shows("* bob left");
    terminal.type_keys("kept\r");
    terminal.shows("/retry sends it again");
    terminal.type_keys("\x04n\r/who\r");
    terminal.shows("* then all stays as it is");
    terminal.shows("* you are writing to bob");
    terminal.type_keys("\x04y\r");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn a_listener_has_read_what_it_has_printed() {
    let server = Server::start();
    let mut alice = lowkey(&server.url(), "alice", &["listen"]);
    alice.stderr.find("online");
    let mut bob = server.peer("bob");
    bob.call("alice");
    bob.peer.send("alice", "hello");
    assert_eq!(alice.stdout.next(), "bob: hello");
    alice.write("/who");
    alice.stderr.find("you are writing to nobody");
    assert_eq!(alice.stderr.next(), format!("* {:<20} new", "bob"));
}

#[test]
fn strangers_without_number_are_a_few_lines_to_a_listener() {
    let server = EvilServer::start();
    let mut alice = lowkey(&server.url(), "alice", &["--old-apps", "listen"]);
    alice.stderr.find("online");
    for number in 0.. {
        let sender = format!("stranger_{number}");
        let session = json!({ "sessionId": "x", "peer": sender });
        server.inject("alice", json!({ "type": "session:joined", "payload": session }));
        let key = json!({ "publicKey": fresh_key() });
        server.inject("alice", json!({ "type": "key:exchange", "sender": sender, "payload": key }));
        server.inject("alice", json!({ "type": "session:decline", "sender": sender, "payload": {} }));
        // An engine that is behind takes no more, so she is to come along.
        alice.write("/who");
        alice.stderr.find("you are writing to nobody");
        if alice.stderr.seen.iter().any(|line| line == "* 100 calls within a minute") {
            break;
        }
        assert!(number < 2000, "{:?}", alice.stderr.seen);
    }
    alice.signal("TERM");
    alice.wait();
    let rest = alice.stderr.rest();
    let seen: Vec<&str> = alice.stderr.seen.iter().chain(&rest).map(String::as_str).collect();
    assert!(seen.contains(&"* 5 calls within a minute: of more of them only texts are shown"), "{seen:?}");
    // What /who lists is asked for.
    let is_told = |line: &&&str| line.starts_with("* stranger_") && !line.ends_with("being called");
    assert!(seen.iter().filter(is_told).count() <= 5, "{seen:?}");
}

#[test]
fn what_cannot_be_read_from_standard_input_is_said() {
    let server = Server::start();
    for arguments in [&["send", "bob"][..], &["send", "--follow", "bob"], &["--until", "delivered"]] {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "exec \"$@\" </", "sh", crate::world::path("lowkey")]).env_clear();
        command.args(["--server", &server.url(), "--name", "alice"]).args(arguments);
        let mut alice = Program::spawn(command);
        let errors = alice.stderr.find("standard input cannot be read: ");
        assert!(errors.contains("it is a folder") && !errors.contains("os error"), "{errors}");
        assert_ne!(alice.wait().code(), Some(0), "{arguments:?}");
    }
}
