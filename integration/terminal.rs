//! The line client on a real pseudo-terminal, whose screen is read as a person would see it.

use lowkey::peer::{CloseReason, Event};
use portable_pty::CommandBuilder;

use crate::window::{Terminal, chat};
use crate::world::{Folder, Server, path, until};

#[test]
fn the_first_start_asks_for_a_name_and_keeps_it() {
    let server = Server::start();
    let home = Folder::new("first-start");
    let mut terminal = Terminal::start(&home, &["--server", &server.url()]);
    terminal.shows("Choose a username");
    terminal.type_keys("a b\r");
    terminal.shows("a username is 3 to 20 of");
    terminal.type_keys("alice_7\r");
    terminal.shows("you are alice_7;");
    terminal.shows("online");
    terminal.last_line(">");
    terminal.type_keys("/quit\r");
    assert_eq!(terminal.wait(), 0);
    let mut again = Terminal::start(&home, &["--server", &server.url()]);
    again.shows("you are alice_7;");
    assert!(!again.screen().contains("Choose"));
    again.last_line(">");
    again.type_keys("\x04");
    assert_eq!(again.wait(), 0);
}

#[test]
fn lines_typed_ahead_are_all_sent() {
    let server = Server::start();
    let _bot = server.bot();
    let home = Folder::new("typed-ahead");
    let mut terminal = Terminal::start(&home, &["--server", &server.url(), "--name", "alice", "echo"]);
    // Typed before there is a prompt, a server or a chat.
    terminal.type_keys("one\rtwo\rthree\r");
    for text in ["echo: one", "echo: two", "echo: three"] {
        terminal.shows(text);
    }
}

#[test]
fn a_paste_is_one_text_and_never_a_command() {
    let server = Server::start();
    let home = Folder::new("paste");
    let (mut terminal, mut bob) = chat(&server, &home);
    terminal.type_keys("\x1b[200~first\r/quit\x1b[201~\r");
    terminal.shows("send these 2 lines to bob as one text? y or n");
    terminal.type_keys("y\r");
    assert_eq!(bob.message().1, "first\n/quit");
}

#[test]
fn what_comes_in_does_not_tear_what_is_being_typed() {
    let server = Server::start();
    let home = Folder::new("tear");
    let (mut terminal, mut bob) = chat(&server, &home);
    terminal.type_keys("half a li");
    terminal.last_line("bob> half a li");
    for number in 0..5 {
        bob.peer.send("alice", &format!("message {number}"));
        terminal.shows(&format!("\nbob: message {number}\n"));
        terminal.last_line("bob> half a li");
    }
    terminal.type_keys("ne\r");
    assert_eq!(bob.message().1, "half a line");
    terminal.last_line("bob>");
}

#[test]
fn a_call_is_a_question_that_is_accepted_or_declined() {
    let server = Server::start();
    let home = Folder::new("question");
    let mut bob = server.peer("bob");
    let mut terminal = Terminal::start(&home, &["--server", &server.url(), "--name", "alice"]);
    terminal.shows("online");
    bob.peer.call("alice");
    terminal.shows("* bob wants to talk to you (new to you, and anybody can take a name): /accept");
    terminal.type_keys("/decline\r");
    let declined = lowkey::peer::CloseReason::Declined;
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: declined });
    bob.peer.call("alice");
    until("asked again", || (terminal.screen().matches("* bob wants to talk").count() == 2).then_some(()));
    terminal.type_keys("/accept bob\r");
    bob.wait(&Event::Open { peer: "alice".to_owned() });
    terminal.shows("* connected with bob");
    bob.peer.send("alice", "hello");
    terminal.shows("\nbob: hello\n");
    bob.peer.leave("alice");
    terminal.shows("* bob left");
    terminal.type_keys("/leave\r");
    terminal.shows("* you are writing to nobody now");
    terminal.type_keys("/help\r");
    terminal.shows("* /connect NAME");
    terminal.type_keys("/who\r");
    terminal.shows("* you are writing to nobody");
    terminal.type_keys("/qiut\r");
    terminal.shows("* there is no command /qiut");
}

#[test]
fn several_chats_share_one_prompt() {
    let server = Server::start();
    let home = Folder::new("several");
    let (mut terminal, mut bob) = chat(&server, &home);
    terminal.last_line("bob>");
    let mut carol = server.peer("carol");
    carol.peer.call("alice");
    terminal.shows("* carol wants to talk to you");
    terminal.type_keys("/accept\r");
    carol.wait(&Event::Open { peer: "alice".to_owned() });
    terminal.last_line("carol>");
    bob.peer.send("alice", "are you there?");
    bob.peer.send("alice", "hello?");
    terminal.shows("bob: hello?");
    // The count is painted into the prompt that stands there.
    until("two unread", || terminal.screen().lines().last()?.starts_with("+2").then_some(()));
    terminal.type_keys("/msg bob a moment\r");
    assert_eq!(bob.message().1, "a moment");
    terminal.last_line("carol>");
    terminal.type_keys("/to bob\r");
    terminal.last_line("bob>");
    terminal.type_keys("here I am\r");
    assert_eq!(bob.message().1, "here I am");
    terminal.type_keys("/who\r");
    terminal.shows("* you are writing to bob");
}

#[test]
fn what_could_not_be_sent_is_kept_for_a_retry() {
    let server = Server::start();
    let home = Folder::new("retry");
    let (mut terminal, bob) = chat(&server, &home);
    drop(bob);
    terminal.shows("* bob left");
    terminal.type_keys("one more thing\r");
    terminal.shows("not sent to bob (no chat is open; kept, /retry sends it again): one more thing");
    until("the prompt shows that there is no chat", || {
        terminal.screen().lines().last()?.trim_start().starts_with("× bob>").then_some(())
    });
    let mut bob = server.peer("bob");
    terminal.type_keys("/retry\r");
    bob.answer("alice");
    assert_eq!(bob.message().1, "one more thing");
}

#[test]
fn the_tab_key_completes_commands_and_names() {
    let server = Server::start();
    let home = Folder::new("completion");
    let (mut terminal, mut bob) = chat(&server, &home);
    terminal.type_keys("/ms\tb\thello\r");
    assert_eq!(bob.message().1, "hello");
    terminal.type_keys("/set ti\to\t");
    terminal.shows("on");
    terminal.shows("off");
}

#[test]
fn commands_outlive_the_program_in_its_history_and_texts_do_not() {
    let server = Server::start();
    let home = Folder::new("history");
    let (mut terminal, mut bob) = chat(&server, &home);
    terminal.type_keys("a secret\r");
    assert_eq!(bob.message().1, "a secret");
    terminal.type_keys("/msg bob another\r");
    assert_eq!(bob.message().1, "another");
    terminal.type_keys("/quit\r");
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: lowkey::peer::CloseReason::PeerLeft });
    assert_eq!(terminal.wait(), 0);
    let file = home.0.join(".config/lowkey/history");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "/connect bob\n/quit\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mut again = Terminal::start(&home, &["--server", &server.url(), "--name", "alice"]);
    again.shows("online");
    again.type_keys("\x1b[A\x1b[A");
    again.last_line("> /connect bob");
}

#[test]
fn who_is_blocked_does_not_disturb_and_stays_blocked() {
    let server = Server::start();
    let home = Folder::new("block");
    let (mut terminal, mut bob) = chat(&server, &home);
    let closed = |reason| Event::Closed { peer: "alice".to_owned(), reason };
    terminal.type_keys("/block bob\r");
    bob.wait(&closed(lowkey::peer::CloseReason::PeerLeft));
    terminal.type_keys("/quit\r");
    assert_eq!(terminal.wait(), 0);
    let mut again = Terminal::start(&home, &["--server", &server.url(), "--name", "alice"]);
    again.shows("online");
    bob.peer.call("alice");
    // He hears nothing, not even that.
    until("he has said who he is", || (!again.screen().contains("wants to talk")).then_some(()));
    bob.peer.leave("alice");
    bob.wait(&closed(lowkey::peer::CloseReason::Left));
    again.type_keys("/block\r");
    again.shows("* blocked: bob");
    again.type_keys("/unblock bob\r");
    again.shows("* bob can call again");
    bob.peer.call("alice");
    again.shows("* bob wants to talk to you");
}

#[test]
fn times_colours_and_the_bell_can_be_set() {
    let server = Server::start();
    let home = Folder::new("looks");
    let (mut terminal, bob) = chat(&server, &home);
    for setting in ["bell", "color", "times"] {
        terminal.type_keys(&format!("/set {setting} on\r"));
        terminal.shows(&format!("{setting:<8} on"));
    }
    bob.peer.send("alice", "ding");
    until("time and text", || {
        let screen = terminal.screen();
        let line = screen.lines().find(|line| line.ends_with("bob: ding"))?;
        let (time, _) = line.split_once(' ')?;
        (time.len() == 5 && time.as_bytes()[2] == b':').then_some(())
    });
    until("the bell", || terminal.output.lock().unwrap().contains(&7).then_some(()));
    let output = String::from_utf8_lossy(&terminal.output.lock().unwrap()).into_owned();
    assert!(output.contains("\x1b[1;3"), "names have colours");
    terminal.type_keys("/set nonsense on\r");
    terminal.shows("there is no setting nonsense");
}

#[test]
fn ctrl_c_clears_the_line_and_twice_ends_the_program() {
    let server = Server::start();
    let home = Folder::new("ctrl-c");
    let (mut terminal, mut bob) = chat(&server, &home);
    terminal.type_keys("not this");
    terminal.last_line("bob> not this");
    terminal.type_keys("\x03");
    terminal.shows("Ctrl-C again");
    terminal.type_keys("but this\r");
    assert_eq!(bob.message().1, "but this");
    terminal.last_line("bob>");
    terminal.type_keys("\x03");
    until("it is said again", || (terminal.screen().matches("Ctrl-C again").count() == 2).then_some(()));
    terminal.last_line("bob>");
    terminal.type_keys("\x03");
    let left = lowkey::peer::CloseReason::PeerLeft;
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: left });
    assert_eq!(terminal.wait(), 0);
    assert!(terminal.is_cooked());
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let server = Server::start();
    let home = Folder::new("hostile");
    let (terminal, bob) = chat(&server, &home);
    bob.peer.send("alice", "\x1b[2J\x1b]0;title\x07\u{9b}2J\rfake> \u{202e}desrever\nalice: forged");
    terminal.shows("fake> desrever\n  | alice: forged");
    terminal.last_line("bob>");
    let output = terminal.output.lock().unwrap();
    let output = String::from_utf8_lossy(&output);
    for hostile in ["\x1b[2J", "\x1b]0;", "\x07", "\u{9b}", "\u{202e}"] {
        assert!(!output.contains(hostile), "{hostile:?}");
    }
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was_and_the_chat_in_order() {
    let server = Server::start();
    let home = Folder::new("signal");
    for signal in ["TERM", "HUP"] {
        let (mut terminal, mut bob) = chat(&server, &home);
        terminal.type_keys("half a li");
        terminal.last_line("bob> half a li");
        assert!(!terminal.is_cooked());
        terminal.signal(signal);
        assert_eq!(terminal.wait(), 0);
        assert!(terminal.is_cooked());
        let left = lowkey::peer::CloseReason::PeerLeft;
        bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: left });
    }
}

#[test]
fn a_signal_at_the_first_question_leaves_the_terminal_as_it_was() {
    let home = Folder::new("signal-at-question");
    let mut terminal = Terminal::start(&home, &[]);
    terminal.shows("Choose a username");
    until("the prompt is there", || (!terminal.is_cooked()).then_some(()));
    terminal.signal("TERM");
    assert_eq!(terminal.wait(), 1);
    assert!(terminal.is_cooked());
}

#[test]
fn losing_the_server_and_finding_it_again_is_said() {
    let server = Server::start();
    let port = server.address.rsplit_once(':').unwrap().1.to_owned();
    let home = Folder::new("server-lost");
    let (mut terminal, mut bob) = chat(&server, &home);
    drop(server);
    terminal.shows("* offline: ");
    terminal.type_keys("still here\r");
    assert_eq!(bob.message().1, "still here");
    let _server = Server::start_with(&[("PORT", &port)]);
    until("online again", || (terminal.screen().matches("* online").count() == 2).then_some(()));
}

#[test]
fn the_demo_is_a_chat_with_the_bot_and_leaves_nothing_behind() {
    let folder = Folder::new("demo");
    let root = env!("CARGO_MANIFEST_DIR");
    let mut command = CommandBuilder::new(format!("{root}/integration/demo.sh"));
    let programs = std::path::Path::new(path("lowkey")).parent().unwrap();
    command.args([programs, programs]);
    command.env("TERM", "xterm");
    command.env("HOME", folder.path());
    command.env("TMPDIR", folder.path());
    let mut terminal = Terminal::run(command);
    terminal.shows("connected with echo");
    terminal.type_keys("hello, bot\r");
    terminal.shows("echo: hello, bot");
    terminal.type_keys("/quit\r");
    assert_eq!(terminal.wait(), 0);
    let left = std::fs::read_dir(&folder.0).unwrap().count();
    assert_eq!(left, 0, "no file is left, and the script has waited for the end of its programs");
}

#[test]
fn texts_that_were_not_sent_are_not_lost_without_a_word() {
    let server = Server::start();
    let home = Folder::new("unsent");
    let mut terminal = Terminal::start(&home, &["--server", &server.url(), "--name", "alice", "bob"]);
    terminal.type_keys("hello\r");
    terminal.shows("bob is not online");
    for keys in ["/leave\r", "\x04", "/quit\r"] {
        terminal.type_keys(keys);
        terminal.shows("not sent yet and lost by this: one text for bob");
        // Whatever else is done takes the question back.
        until("the prompt is back, which drops what is typed right behind Ctrl-D", || {
            terminal.type_keys("/set color\r");
            terminal.screen().contains("* color").then_some(())
        });
        terminal.type_keys("\x0c");
        until("the screen is empty", || (!terminal.screen().contains("not sent yet")).then_some(()));
    }
    terminal.type_keys("/quit\r");
    terminal.shows("Do it all the same?");
    terminal.type_keys("y\r");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn who_was_replaced_by_a_second_start_comes_back() {
    let server = Server::start();
    let home = Folder::new("come-back");
    let arguments = ["--server", &server.url(), "--name", "alice"];
    let mut first = Terminal::start(&home, &arguments);
    first.shows("online; you can call");
    let second = Terminal::start(&home, &arguments);
    second.shows("online; you can call");
    second.shows("* another program of yours was online under this name");
    assert!(!first.screen().contains("another program of yours was"), "it was the first");
    first.shows("has gone online under this name;");
    first.type_keys("/connect bob\r");
    first.shows("you are offline, and the server is not sought");
    let mut bob = server.peer("bob");
    first.type_keys("/online\r");
    first.shows("online; you can call");
    second.shows("another program, perhaps of yours");
    first.type_keys("/connect bob\r");
    bob.answer("alice");
    first.shows("connected with bob");
}

#[test]
fn a_log_is_kept_for_who_asks_for_one() {
    let server = Server::start();
    let home = Folder::new("log");
    let file = home.0.join(".config/lowkey/log");
    let (mut terminal, mut bob) = chat(&server, &home);
    terminal.type_keys("before\r");
    assert_eq!(bob.message().1, "before");
    terminal.type_keys("/log\r");
    terminal.shows("the log has no texts yet; /log on keeps them");
    assert!(!file.exists(), "nothing is kept without the user's word");
    terminal.type_keys("/log bob on\r");
    terminal.shows("texts with bob are kept in");
    terminal.type_keys("hello\r");
    assert_eq!(bob.message().1, "hello");
    bob.peer.send("alice", "two\nlines \x1b[31m");
    terminal.shows("bob: two");
    terminal.type_keys("/log bob off\r");
    terminal.shows("texts with bob are no longer kept");
    terminal.type_keys("after\r");
    assert_eq!(bob.message().1, "after");
    let metadata = std::fs::metadata(&file).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let entries: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        entries.iter().map(|entry| (entry["peer"].as_str(), entry["sent"].as_bool(), entry["text"].as_str())).collect();
    assert_eq!(
        told,
        [(Some("bob"), Some(true), Some("hello")), (Some("bob"), Some(false), Some("two\nlines \x1b[31m"))]
    );
    terminal.type_keys("/log\r");
    terminal.shows(" you to bob: hello");
}

#[test]
fn a_name_can_be_changed_without_another_start() {
    let server = Server::start();
    let home = Folder::new("nick");
    let (mut terminal, mut bob) = chat(&server, &home);
    terminal.type_keys("/nick a b\r");
    terminal.shows("that is not how /nick goes");
    terminal.type_keys("/nick x\r");
    terminal.shows("a username is 3 to 20");
    terminal.type_keys("/nick carol\r");
    terminal.shows("under another name the chat with bob ends. Do it all the same? y or n");
    terminal.type_keys("y\r");
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
    terminal.shows("you are carol;");
    terminal.type_keys("/connect bob\r");
    bob.answer("carol");
    terminal.shows("connected with bob");
    terminal.type_keys("it is me\r");
    assert_eq!(bob.message(), ("carol".to_owned(), "it is me".to_owned()));
    // And back again.
    terminal.type_keys("/nick alice\ry\r");
    bob.wait(&Event::Closed { peer: "carol".to_owned(), reason: CloseReason::PeerLeft });
    let is_alice_again = |screen: &str| screen.rfind("you are alice;") > screen.find("you are carol;");
    until("the first name is back", || is_alice_again(&terminal.screen()).then_some(()));
    terminal.type_keys("/quit\r");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn a_name_that_cannot_be_used_leaves_everything_as_it_is() {
    let server = Server::start();
    let home = Folder::new("nick-unusable");
    let (mut terminal, mut bob) = chat(&server, &home);
    // Where the identity of that name would be kept.
    std::fs::create_dir(home.0.join(".config/lowkey/identity-carol")).unwrap();
    terminal.type_keys("/nick carol\ry\r");
    terminal.shows("identity-carol");
    terminal.type_keys("/who\r");
    terminal.type_keys("still here\r");
    assert_eq!(bob.message(), ("alice".to_owned(), "still here".to_owned()));
    terminal.type_keys("/quit\r");
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn a_person_is_told_that_the_time_is_over_and_a_script_learns_it_from_the_exit_code() {
    let (server, home) = (Server::start(), Folder::new("time_over"));
    let arguments = ["--server", &server.url(), "--name", "tom", "--timeout", "1", "nobody"];
    let mut terminal = Terminal::start(&home, &arguments);
    terminal.shows("* the time that --timeout gave is over");
    assert_eq!(terminal.wait(), 6);
}
