//! What somebody meets who is new to `lowkey`, by hand and in scripts: the first name, a screen of the usual size, an
//! end that comes while something is on its way, and what is said of it.

use std::fs;

use lowkey::peer::{CloseReason, Event};

use crate::pipe::listening;
use crate::window::{Terminal, chat, in_home, lowkey};
use crate::world::{Folder, Program, Server, path, until};

#[test]
fn a_name_that_is_taken_is_not_kept_and_another_one_is() {
    let server = Server::start();
    let home = Folder::new("first-name");
    let other = Folder::new("first-name-other");
    let holder = Terminal::start(&other, &["--server", &server.url(), "--name", "bob"]);
    holder.shows("online;");
    let mut terminal = Terminal::start(&home, &["--server", &server.url()]);
    terminal.shows("Choose a username");
    terminal.type_keys("bob\r");
    terminal.shows("the name is taken by somebody else; /nick NAME takes another one");
    let file = home.0.join(".config/lowkey/config.toml");
    assert!(!file.exists(), "the next start asks again");
    terminal.type_keys("/nick bobby\r");
    terminal.shows("* the name bobby is kept in");
    assert_eq!(fs::read_to_string(file).unwrap(), "name = \"bobby\"\n");
}

#[test]
fn a_long_paste_without_marks_is_painted_a_few_times_and_not_for_each_letter() {
    let server = Server::start();
    let home = Folder::new("quick-keys");
    let (mut terminal, mut bob) = chat(&server, &home);
    let before = terminal.output.lock().unwrap().len();
    let text: String = (0..400).map(|number| format!("{number:9} ")).collect();
    let text = text.trim();
    // In parts, as terminals hand on what is long.
    for part in text.as_bytes().chunks(500) {
        terminal.type_bytes(part);
    }
    terminal.type_keys("\r");
    assert_eq!(bob.message().1, text);
    let painted = terminal.output.lock().unwrap().len() - before;
    assert!(painted < 100 * text.len(), "{painted} bytes");
    // And what is typed by hand is there at once.
    terminal.type_keys("half a li");
    terminal.last_line("bob> half a li");
}

#[test]
fn the_qr_code_stands_whole_in_a_window_of_the_usual_size() {
    let home = Folder::new("qr-window");
    let arguments = ["--server", "ws://localhost:8080", "--name", "a_long_name_20_bytes", "--qr"];
    let mut printed = Program::start("lowkey", &arguments, &[("HOME", home.path())]);
    assert_eq!(printed.wait().code(), Some(0));
    let lines = printed.stdout.rest();
    let (link, picture) = lines.split_last().unwrap();
    assert!(
        link.starts_with("lowkey://localhost:8080/a_long_name_20_bytes?plain#"),
        "for a script it is the last line"
    );
    let mut terminal = Terminal::start(&home, &arguments);
    assert_eq!(terminal.wait(), 0);
    terminal.shows(picture.iter().rfind(|row| !row.is_empty()).unwrap());
    let screen = terminal.screen();
    assert!(picture.iter().all(|row| screen.contains(row.as_str())), "{screen}");
}

#[test]
fn who_sends_from_a_terminal_is_told_what_to_type_and_that_it_has_arrived() {
    let server = Server::start();
    let home = Folder::new("send-typed");
    let mut bob = server.peer("bob");
    let mut terminal = Terminal::start(&home, &["--server", &server.url(), "--name", "alice", "send", "bob"]);
    terminal.shows("* type the text; Ctrl-D on a line of its own sends it");
    terminal.type_keys("hello\r\x04");
    bob.answer("alice");
    assert_eq!(bob.message().1, "hello");
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
    terminal.shows("* it has arrived");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn keys_of_a_terminal_that_edits_nothing_are_no_part_of_a_text() {
    let server = Server::start();
    let home = Folder::new("dumb-keys");
    let mut bob = server.peer("bob");
    let mut command = lowkey(&home, &["--server", &server.url(), "--name", "alice", "bob"]);
    command.env("TERM", "dumb");
    let mut terminal = Terminal::run(command);
    bob.answer("alice");
    terminal.shows("connected with bob");
    terminal.type_keys("\x1b[200~one\x1b[201~\x1b[A two\r");
    assert_eq!(bob.message().1, "one two");
}

#[test]
fn a_script_learns_that_the_chat_has_ended_before_its_input() {
    let server = Server::start();
    let home = Folder::new("follow-end");
    let output = home.0.join("output");
    let mut bob = listening(&server, &home, output.to_str().unwrap(), &["listen"]);
    bob.stderr.find("online");
    let mut alice = crate::pipe::chat(&server, "alice", &["send", "--follow", "bob"]);
    alice.write("one");
    until("it has arrived", || fs::read_to_string(&output).unwrap().contains("one").then_some(()));
    bob.signal("TERM");
    assert_eq!(alice.wait().code(), Some(4), "there may be more to come, and nobody to send it to");
    alice.stderr.find("the chat ended before standard input did");
}

#[test]
fn what_is_typed_while_the_end_takes_its_time_reaches_no_shell() {
    let server = Server::start();
    let (home, other) = (Folder::new("slow-end"), Folder::new("slow-end-bob"));
    let mut bob = listening(&server, &other, "/dev/null", &["listen"]);
    bob.stderr.find("online");
    let script = "\"$0\" \"$@\"; echo \"the code is $?\"; read -r line; echo \"the shell reads $line\"";
    let mut shell = portable_pty::CommandBuilder::new("sh");
    shell.args(["-c", script, path("lowkey"), "--server", &server.url(), "--name", "alice", "bob"]);
    in_home(&mut shell, &home);
    let mut terminal = Terminal::run(shell);
    terminal.shows("connected with bob");
    bob.signal("STOP");
    terminal.type_keys("hello\r/quit\r");
    terminal.shows("* waiting until what was sent has arrived");
    terminal.type_keys("touch file\r");
    terminal.shows("what was sent last may not have arrived");
    terminal.shows("the code is 1");
    terminal.type_keys("more\r");
    terminal.shows("the shell reads more");
    bob.signal("CONT");
}

#[test]
fn who_calls_anew_while_a_chat_is_open_is_told_apart() {
    let server = Server::start();
    let (home, other) = (Folder::new("two-bobs"), Folder::new("two-bobs-bob"));
    let mut terminal = Terminal::start(&home, &["--server", &server.url(), "--name", "alice"]);
    terminal.shows("online;");
    let call = || {
        let arguments = ["--server", &server.url(), "--name", "bob", "alice"];
        Program::start("lowkey", &arguments, &[("HOME", other.path())])
    };
    let mut first = call();
    terminal.shows("* bob wants to talk to you (new to you");
    terminal.type_keys("/accept\r");
    terminal.shows("connected with bob");
    let mut second = call();
    first.stderr.find("another program, perhaps of yours, has gone online under this name");
    let anew = "bob, with whom a chat is open, calls anew";
    until(anew, || terminal.screen().replace("\n    ", " ").contains(anew).then_some(()));
    terminal.type_keys("/accept\r");
    second.stderr.find("connected with alice");
    terminal.type_keys("hello\r");
    assert_eq!(second.stdout.next(), "alice: hello");
    first.stdin = None;
    first.wait();
}

#[test]
fn who_was_written_to_while_away_gets_it_in_order_or_it_is_said_how() {
    let server = Server::start();
    let home = Folder::new("kept-order");
    let (mut terminal, bob) = chat(&server, &home);
    drop(bob);
    terminal.shows("* bob left");
    for text in ["one", "two"] {
        terminal.type_keys(&format!("{text}\r"));
    }
    terminal.shows("/retry sends it again): two");
    // Without a home he is somebody else to her each time, who has to be told apart by hand.
    let mut bob = server.peer("bob");
    terminal.type_keys("/forget bob\r/connect bob\r");
    bob.answer("alice");
    let told = "2 texts kept for bob, who has not proven to be the one of before: /retry sends them";
    until(told, || terminal.screen().replace("\n    ", " ").contains(told).then_some(()));
    terminal.type_keys("three\r/retry\r");
    for text in ["three", "one", "two"] {
        assert_eq!(bob.message().1, text);
    }
    bob.peer.leave("alice");
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::Left });
}
