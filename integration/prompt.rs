//! What stands at the prompt and what is done there, on ordinary and on bad days: bad bytes, windows of other sizes,
//! signals and shells.

use std::time::{SystemTime, UNIX_EPOCH};

use lowkey::peer::{CloseReason, Event};
use portable_pty::CommandBuilder;

use crate::window::{Kind, Terminal, chat, chat_in, in_home, lowkey};
use crate::world::{Folder, Program, Server, path, until};

#[test]
fn bytes_that_are_no_text_are_told_and_the_chat_goes_on() {
    let server = Server::start();
    let home = Folder::new("bad-bytes");
    let (mut terminal, mut bob) = chat(&server, &home);
    for bad in [&b"\xfc\xdf"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff"] {
        for (start, end) in [(&b""[..], &b""[..]), (b"\x1b[200~", b"\x1b[201~")] {
            terminal.type_bytes(&[start, b"gr", bad, b"e", end, b"\r"].concat());
            assert_eq!(bob.message().1, "gre");
        }
    }
    terminal.shows("left out: not UTF-8");
    terminal.type_keys("grüße\r");
    assert_eq!(bob.message().1, "grüße");
}

#[test]
fn bytes_that_are_no_text_do_not_answer_the_first_question() {
    let server = Server::start();
    let home = Folder::new("bad-answer");
    let mut terminal = Terminal::start(&home, &["--server", &server.url()]);
    terminal.shows("Choose a username");
    terminal.type_bytes(b"\xff\xfe");
    terminal.shows("left out: not UTF-8");
    terminal.type_keys("alice\r");
    terminal.shows("you are alice;");
    terminal.last_line(">");
}

/// A shell in which `lowkey` runs as alice, in a chat with bob.
pub fn in_shell(server: &Server, home: &Folder) -> Terminal {
    let mut command = CommandBuilder::new("bash");
    command.args(["--norc", "--noprofile", "-i"]);
    in_home(&mut command, home);
    command.env("PS1", "shell$ ");
    command.cwd(home.path());
    let mut terminal = Terminal::run(command);
    terminal.last_line("shell$");
    terminal.type_keys(&format!("{} --server {} --name alice\r", path("lowkey"), server.url()));
    terminal.shows("online");
    terminal.last_line(">");
    terminal
}

#[test]
fn a_text_makes_no_row_that_looks_like_a_line_of_the_program() {
    let server = Server::start();
    let home = Folder::new("soft-wrap");
    let (terminal, bob) = chat(&server, &home);
    for spaces in [70, 71, 72, 73, 74, 75, 76] {
        bob.peer.send("alice", &format!("ok{}21:23 * bob is verified", " ".repeat(spaces)));
    }
    bob.peer.send("alice", &format!("{}* bob is verified", "❤️".repeat(38)));
    bob.peer.send("alice", &format!("{}* bob is verified", "世".repeat(75)));
    bob.peer.send("alice", "the end");
    terminal.shows("bob: the end");
    for row in terminal.screen().lines() {
        let is_ours =
            ["* ", "    "].iter().any(|start| row.starts_with(start)) || row.contains("> ") || row.ends_with('>');
        assert!(is_ours || row.starts_with("bob: ") || row.starts_with("  | "), "{row:?}");
        assert!(!row.starts_with("* bob is verified"), "{row:?}");
    }
    assert_eq!(terminal.screen().matches("  | 21:23 * bob is verified").count(), 7);
}

#[test]
fn a_text_makes_no_such_row_where_there_is_no_prompt_and_none_in_the_log() {
    let server = Server::start();
    let home = Folder::new("soft-wrap-plain");
    let text = |author: &str| format!("ok{}* bob is verified", " ".repeat(80 - author.len() - 4));
    let listener = Terminal::start(&home, &["--server", &server.url(), "--name", "alice", "listen"]);
    let mut bob = server.peer("bob");
    listener.shows("online");
    bob.call("alice");
    bob.peer.send("alice", &text("bob"));
    bob.peer.send("alice", "the end");
    listener.shows("bob: the end");
    assert!(listener.screen().contains("\n  | * bob is verified"), "{}", listener.screen());
    assert!(!listener.screen().lines().any(|row| row.starts_with("* bob is verified")));
    drop((listener, bob));
    let server = Server::start();
    let (mut terminal, bob) = chat(&server, &Folder::new("soft-wrap-log"));
    terminal.type_keys("/log on\r");
    terminal.shows("all texts are kept");
    bob.peer.send("alice", &format!("ok{}* bob is verified", " ".repeat(80 - "2026-11-26 01:04 bob: ok".len())));
    terminal.shows("bob is verified");
    terminal.type_keys("\x0c/log\r");
    terminal.shows(" bob: ok");
    assert!(terminal.screen().contains("\n  | * bob is verified"), "{}", terminal.screen());
}

#[test]
fn words_are_not_torn_and_our_own_are_set_in() {
    let server = Server::start();
    let home = Folder::new("words");
    let command = lowkey(&home, &["--server", &server.url(), "--name", "alice"]);
    let (mut terminal, bob) = chat_in(&server, command, 40, Kind::Cuts);
    bob.peer.send("alice", "a text of more words than there is room for in forty columns");
    terminal.shows("bob: a text of more words than there is\n  | room for in forty columns");
    terminal.type_keys("/verify\r");
    terminal.shows(" count ");
    let screen = terminal.screen();
    assert!(screen.contains("\n    "), "{screen}");
    let is_group = |word: &str| word.len() == 5 && word.bytes().all(|byte| byte.is_ascii_digit());
    let number =
        |row: &&str| row.get(6..).is_some_and(|row| row.split(' ').all(is_group) && row.split(' ').count() == 3);
    assert_eq!(screen.lines().filter(number).count(), 4, "{screen}");
    // A window that has become wider counts from then on.
    terminal.resize(100);
    bob.peer.send("alice", "a text of more words than there is room for in forty columns");
    terminal.shows("bob: a text of more words than there is room for in forty columns");
}

#[test]
fn a_window_of_another_size_erases_nothing_and_shows_the_line_once() {
    for kind in [Kind::Cuts, Kind::Breaks] {
        for (sizes, length) in [
            (&[80, 100][..], 80),
            (&[40, 100], 80),
            (&[80, 1, 100], 20),
            (&[80, 40], 60),
            (&[80, 79, 78, 77], 90),
            (&[100, 30, 100], 90),
            (&[80, 120, 40, 80], 100),
        ] {
            // Each alice is another one, who could not have the name of the one before so soon.
            let server = Server::start();
            let home = Folder::new("sizes");
            let mut command = lowkey(&home, &["--server", &server.url(), "--name", "alice"]);
            if kind == Kind::Breaks {
                command.env("TERM", "tmux-256color");
            }
            let (mut terminal, mut bob) = chat_in(&server, command, sizes[0], kind);
            for number in 0..5 {
                bob.peer.send("alice", &format!("line {number}"));
            }
            terminal.shows("bob: line 4");
            let typed: String = ('a'..='z').cycle().take(length).collect();
            terminal.type_keys(&typed);
            let once = |terminal: &Terminal| {
                let screen = terminal.screen().replace('\n', "");
                (screen.matches(&typed).count() == 1 && screen.matches("bob> ").count() == 1).then_some(())
            };
            until("the line is typed", || once(&terminal));
            for &columns in &sizes[1..] {
                terminal.resize(columns);
            }
            // Painted anew once the window keeps its size: that is seen by a line that comes then.
            bob.peer.send("alice", "after");
            terminal.shows("bob: after");
            until("the line stands once", || once(&terminal));
            let screen = terminal.screen();
            for number in 0..5 {
                // Of a row of one column such a terminal keeps one letter; that is not our doing.
                let is_cut = kind == Kind::Cuts && sizes.contains(&1);
                let count = screen.matches(&format!("bob: line {number}\n")).count();
                assert!(is_cut || count == 1, "{sizes:?}\n{screen}");
            }
            terminal.type_keys("!\r");
            assert_eq!(bob.message().1, typed + "!");
        }
    }
}

#[test]
fn the_first_prompt_names_whom_a_line_goes_to() {
    let server = Server::start();
    let _bot = server.bot();
    for _ in 0..12 {
        let home = Folder::new("first-prompt");
        let mut terminal = Terminal::start(&home, &["--server", &server.url(), "--name", "alice", "echo"]);
        terminal.last_line("echo>");
        let output = String::from_utf8_lossy(&terminal.output.lock().unwrap()).into_owned();
        for prompt in ["h> ", "J> ", "l> ", "\n> ", "\r> "] {
            assert!(!output.contains(prompt), "{output:?}");
        }
        terminal.type_keys("\x04");
        assert_eq!(terminal.wait(), 0);
    }
}

#[test]
fn a_signal_ends_the_program_whatever_is_open() {
    let server = Server::start();
    let home = Folder::new("signal-anywhere");
    for keys in ["\x12bo", "\x1b[200~half a paste", "\x16", "\x1b", "\x1b[", "x\x1b\ry"] {
        for signal in ["TERM", "HUP", "INT"] {
            let (mut terminal, mut bob) = chat(&server, &home);
            terminal.type_keys(keys);
            // Both are told while the search or the paste is open.
            bob.peer.send("alice", "hello");
            terminal.shows("bob: hello");
            terminal.signal(signal);
            bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
            assert_eq!(terminal.wait(), 0, "{keys:?}");
            assert!(terminal.is_cooked());
            let (row, column) = terminal.cursor();
            assert_eq!((column, terminal.screen().lines().count() <= row.into()), (0, true), "{}", terminal.screen());
        }
    }
}

#[test]
fn several_lines_are_written_by_hand_with_alt_enter() {
    let server = Server::start();
    let home = Folder::new("alt-enter");
    let (mut terminal, mut bob) = chat(&server, &home);
    terminal.type_keys("one\x1b\rtwo\x1b\nthree");
    terminal.shows("bob> one\ntwo\nthree");
    terminal.type_keys("\r");
    assert_eq!(bob.message().1, "one\ntwo\nthree");
    terminal.shows("bob> one\n  | two\n  | three");
    terminal.type_keys("/help\r");
    terminal.shows("* Alt-Enter ");
}

#[test]
fn after_a_stop_the_prompt_stands_once() {
    let server = Server::start();
    let home = Folder::new("stop");
    let mut terminal = in_shell(&server, &home);
    terminal.type_keys("half a li");
    terminal.last_line("> half a li");
    for _ in 0..3 {
        terminal.type_keys("\x1a");
        terminal.last_line("shell$");
        assert!(terminal.is_cooked() || !terminal.screen().contains("> half"), "{}", terminal.screen());
        terminal.type_keys("fg\r");
        terminal.last_line("> half a li");
        assert_eq!(terminal.screen().matches("half a li").count(), 1);
    }
    // In the background it goes on, and a line shows without the prompt.
    terminal.type_keys("\x1a");
    terminal.last_line("shell$");
    terminal.type_keys("bg\r");
    let bob = server.peer("bob");
    bob.peer.call("alice");
    terminal.shows("* bob wants to talk to you");
    terminal.type_keys("fg\r");
    terminal.last_line("> half a li");
    terminal.type_keys("\x15/quit\r");
    terminal.last_line("shell$");
}

#[test]
fn a_listener_in_the_background_of_a_shell_takes_texts() {
    let server = Server::start();
    let home = Folder::new("background");
    let mut command = CommandBuilder::new("bash");
    command.args(["--norc", "--noprofile", "-i"]);
    in_home(&mut command, &home);
    command.env("PS1", "shell$ ");
    command.cwd(home.path());
    let mut terminal = Terminal::run(command);
    terminal.last_line("shell$");
    let line = format!("{} --server {} --name alice listen >> inbox.txt 2>&1 &\r", path("lowkey"), server.url());
    terminal.type_keys(&line);
    let mut bob = server.peer("bob");
    let inbox = home.0.join("inbox.txt");
    until("online", || std::fs::read_to_string(&inbox).ok().filter(|text| text.contains("online")));
    bob.peer.call("alice");
    bob.wait(&Event::Open { peer: "alice".to_owned() });
    bob.peer.send("alice", "hello");
    until("the text is there", || std::fs::read_to_string(&inbox).ok().filter(|text| text.contains("bob: hello")));
    terminal.type_keys("kill %1; wait; echo it is $((6 * 7))\r");
    terminal.shows("it is 42");
    assert!(!terminal.screen().contains("Stopped"), "{}", terminal.screen());
}

#[test]
fn a_signal_that_is_ignored_from_the_start_stays_ignored() {
    let server = Server::start();
    let home = Folder::new("ignored");
    let variables = [("HOME", home.path()), ("HOST", "127.0.0.1"), ("PORT", "0")];
    let url = server.url();
    for (name, arguments, ready) in [
        ("lowkey", vec!["--server", &url, "--name", "alice", "listen"], "online"),
        ("lowkey-bot", vec!["--server", &url], "online as echo"),
        ("lowkey-server", vec![], "listening on"),
    ] {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\"", path(name)]).args(arguments);
        command.env_clear().envs(variables);
        let mut program = Program::spawn(command);
        program.stderr.find(ready);
        let ignored = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap()
        };
        // The server reads its settings anew on SIGHUP, which ends nothing.
        let wanted = if name == "lowkey-server" { 0b10 } else { 0b11 };
        assert_eq!(ignored() & wanted, wanted, "{name} leaves SIGHUP and SIGINT ignored");
        program.signal("INT");
        program.signal("HUP");
        program.signal("TERM");
        let status = program.wait();
        assert!(status.success(), "{name}: {status}");
    }
}

#[test]
fn ctrl_c_leaves_an_empty_row_for_the_shell() {
    let server = Server::start();
    let home = Folder::new("empty-row");
    for (name, arguments) in [("lowkey", &["--name", "alice", "listen"][..]), ("lowkey-bot", &[])] {
        let mut command = CommandBuilder::new(path(name));
        command.args(["--server", &server.url()]);
        command.args(arguments);
        in_home(&mut command, &home);
        let mut terminal = Terminal::run(command);
        terminal.shows("online");
        terminal.type_keys("\x03");
        assert_eq!(terminal.wait(), 0);
        until("the row is ended", || (terminal.cursor().1 == 0).then_some(()));
        assert!(terminal.screen().contains("^C\n") || terminal.screen().ends_with("^C"), "{}", terminal.screen());
    }
}

#[test]
fn a_terminal_that_can_only_write_on_has_a_prompt_and_hints() {
    let server = Server::start();
    let home = Folder::new("dumb");
    let mut command = lowkey(&home, &["--server", &server.url()]);
    command.env("TERM", "dumb");
    let mut terminal = Terminal::run(command);
    terminal.shows("Choose a username (3 to 20 of a-z, A-Z, 0-9 and _):");
    terminal.type_keys("alice\r");
    terminal.shows("* you are alice; /connect NAME calls somebody");
    terminal.shows("online");
    terminal.last_line(">");
    let mut bob = server.peer("bob");
    terminal.type_keys("/connect bob\r");
    bob.answer("alice");
    terminal.shows("connected with bob");
    terminal.last_line("bob>");
    terminal.type_keys("hello\r");
    assert_eq!(bob.message().1, "hello");
    bob.peer.send("alice", "hi there");
    terminal.shows("\nbob: hi there\n");
    terminal.last_line("bob>");
    assert!(!terminal.output.lock().unwrap().contains(&0x1b), "nothing that such a terminal would show as rubbish");
    terminal.signal("TERM");
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
    assert_eq!(terminal.wait(), 0);
    assert_eq!(terminal.cursor().1, 0);
}

#[test]
fn times_that_are_off_are_off_for_ones_own_lines_too() {
    let server = Server::start();
    let home = Folder::new("own-times");
    let mut command = lowkey(&home, &["--server", &server.url(), "--name", "alice"]);
    command.env("LOWKEY_TIMES", "true");
    let (mut terminal, mut bob) = chat_in(&server, command, 80, Kind::Cuts);
    terminal.type_keys("with\r");
    assert_eq!(bob.message().1, "with");
    until("the time", || {
        terminal.screen().lines().any(|row| row.ends_with("bob> with") && row.as_bytes()[2] == b':').then_some(())
    });
    terminal.type_keys("/set times off\r");
    terminal.shows("* times    off");
    terminal.type_keys("without\r");
    assert_eq!(bob.message().1, "without");
    terminal.shows("\nbob> without\n");
}

#[test]
fn a_new_day_is_said_before_its_first_line() {
    let server = Server::start();
    let home = Folder::new("new-day");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // A zone in which it is midnight in a few seconds. What stands in TZ is what has to be added for UTC.
    let to_midnight = 86_400 - now % 86_400;
    let ahead = i64::try_from(to_midnight).unwrap() - 8;
    let (sign, ahead) = if ahead > 43_200 { ("", 86_400 - ahead) } else { ("-", ahead) };
    let zone = format!("XXX{sign}{}:{:02}:{:02}", ahead / 3600, ahead / 60 % 60, ahead % 60);
    let mut command = lowkey(&home, &["--server", &server.url(), "--name", "alice"]);
    command.env("TZ", &zone);
    let (terminal, bob) = chat_in(&server, command, 80, Kind::Cuts);
    bob.peer.send("alice", "before");
    terminal.shows("bob: before");
    assert!(!terminal.screen().contains("* it is "), "{zone}: {}", terminal.screen());
    until("midnight", || {
        bob.peer.send("alice", "again");
        terminal.screen().contains("* it is ").then_some(())
    });
    let screen = terminal.screen();
    let (_, after) = screen.split_once("* it is ").unwrap();
    let (date, next) = after.split_once('\n').unwrap();
    assert!(date.contains("day, ") && date.ends_with(|c: char| c.is_ascii_digit()), "{date}");
    assert!(next.starts_with("bob: again"), "{next}");
    assert_eq!(screen.matches("* it is ").count(), 1);
}

#[test]
fn a_qr_code_that_does_not_fit_is_not_drawn() {
    let home = Folder::new("narrow-qr");
    for (columns, fits) in [(100, true), (40, false)] {
        let command = lowkey(&home, &["--server", "wss://chat.example", "--name", "alice", "--qr"]);
        let mut terminal = Terminal::in_window(command, columns, Kind::Cuts);
        assert_eq!(terminal.wait(), 0);
        terminal.shows(if fits { "█" } else { "lowkey://chat.example/alice#" });
        assert_eq!(terminal.screen().contains('█'), fits);
        assert_eq!(terminal.screen().replace('\n', " ").contains("rows, and this window has 40 and 24"), !fits);
    }
}
