//! How `lowkey` says to a script what came of it: for each `--until` and each way to an end the exit code, as its help
//! lists them, and a sentence wherever that is not 0.

use std::thread;

use lowkey::peer::{Event, Settings};

use crate::world::{Program, SOON, Server, User, identity};

/// What a script can wait for; the first is nothing but that all is done.
const UNTIL: [&str; 6] = ["", "delivered", "open", "message", "closed", "file"];

/// What is said where it waited for that in vain.
const UNMET: [&str; 6] = ["", "", "no chat has opened", "no text has come", "no chat has ended", "no file has come"];

/// Somebody who takes each call and leaves as soon as the chat is open, or declines each.
fn answering(server: &Server, name: &str, is_taken: bool) {
    let mut settings = Settings::default();
    settings.identity = Some(identity(name));
    // All rows at once may call.
    settings.max_requests = UNTIL.len();
    let user = User::online(&server.url(), name, settings);
    thread::spawn(move || {
        for event in user.events {
            match event {
                Event::Request { peer, .. } if is_taken => user.peer.accept(&peer),
                Event::Request { peer, .. } => user.peer.decline(&peer),
                Event::Open { peer } => user.peer.leave(&peer),
                _ => {}
            }
        }
    });
}

/// Runs `lowkey` to its end, with nothing on its standard input: the exit code, and what was said of it.
fn run(server: &str, name: &str, until: &str, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let mut all = vec!["--server", server, "--name", name];
    if !until.is_empty() {
        all.extend(["--until", until]);
    }
    all.extend(arguments);
    let mut program = Program::start("lowkey", &all, &[]);
    program.stdin = None;
    let code = program.wait().code();
    (code, program.stderr.rest())
}

#[test]
fn each_end_has_the_exit_code_of_the_table_and_where_that_is_not_0_a_sentence() {
    let server = Server::start();
    let _bot = server.bot();
    answering(&server, "leaver", true);
    answering(&server, "decliner", false);
    let _mute = server.peer("mute");
    let nowhere = "ws://127.0.0.1:1";
    // What is done, and for each of the above what comes of it.
    let rows: [(&str, &[&str], [i32; 6]); 15] = [
        ("/who", &["-e", "/who"], [0, 0, 1, 1, 1, 1]),
        ("end of input", &[], [0, 0, 1, 1, 1, 1]),
        ("JSON", &["--json", "-e", r#"{"command":"who"}"#], [0, 0, 1, 1, 1, 1]),
        ("no command", &["-e", "/nonsense"], [1, 1, 1, 1, 1, 1]),
        ("a text for nobody", &["-e", "hello"], [1, 1, 1, 1, 1, 1]),
        ("no time", &["--timeout", "0", "-e", "/who"], [6, 6, 6, 6, 6, 6]),
        ("no time for a call", &["--timeout", "0", "echo"], [6, 6, 6, 6, 6, 6]),
        ("no time and an end", &["--timeout", "0", "-e", "/quit"], [6, 6, 6, 6, 6, 6]),
        ("nobody", &["nobody"], [4, 4, 4, 4, 4, 4]),
        ("who declines", &["-e", "/connect decliner"], [4, 4, 4, 4, 4, 4]),
        ("who leaves", &["leaver"], [0, 0, 0, 1, 0, 1]),
        ("who answers", &["-e", "/connect echo", "-e", "hello", "--timeout", "5"], [0, 0, 0, 0, 6, 6]),
        ("a text alone", &["send", "echo", "hello", "--timeout", "5"], [0, 0, 0, 0, 6, 6]),
        ("who is silent", &["-e", "/connect mute", "--timeout", "2"], [6, 6, 6, 6, 6, 6]),
        ("two calls", &["-e", "/msg decliner x", "-e", "/msg echo hello", "--timeout", "5"], [4, 4, 4, 4, 6, 6]),
    ];
    let url = server.url();
    thread::scope(|scope| {
        for (index, until) in UNTIL.into_iter().enumerate() {
            let (rows, url) = (&rows, &url);
            scope.spawn(move || {
                for (row, (what, arguments, codes)) in rows.iter().enumerate() {
                    let (code, said) = run(url, &format!("user_{index}_{row}"), until, arguments);
                    assert_eq!(code, Some(codes[index]), "{what}, --until {until:?}: {said:#?}");
                    let has = |part: &str| said.iter().any(|line| line.contains(part));
                    let has_sentence = match codes[index] {
                        0 => true,
                        1 if *what == "who leaves" => has(UNMET[index]),
                        1 if arguments.contains(&"/who") || arguments.is_empty() => has(UNMET[index]),
                        6 => has("the time that --timeout gave is over"),
                        // Of a program that speaks JSON it is on standard output.
                        _ => *what == "JSON" || !said.is_empty(),
                    };
                    assert!(has_sentence, "{what}, --until {until:?}: {said:#?}");
                }
                let (code, said) = run(nowhere, "user", until, &["-e", "/connect bob"]);
                assert_eq!(code, Some(3), "--until {until:?}: {said:#?}");
            });
        }
    });
}

#[test]
fn who_declines_hides_no_sentence_about_what_did_not_come_of_another_chat() {
    let server = Server::start();
    answering(&server, "leaver", true);
    answering(&server, "decliner", false);
    for (until, unmet) in [("message", "no text has come"), ("file", "no file has come")] {
        let calls = ["-e", "/connect decliner", "-e", "/connect leaver"];
        let (code, said) = run(&server.url(), &format!("for_{until}"), until, &calls);
        assert_eq!(code, Some(4), "{said:#?}");
        assert!(said.iter().any(|line| line.contains(unmet)), "{said:#?}");
    }
}

#[test]
fn a_signal_before_an_answer_is_no_success() {
    let server = Server::start();
    let _mute = server.peer("mute");
    let mut alice =
        Program::start("lowkey", &["--server", &server.url(), "--name", "alice", "-e", "/connect mute"], &[]);
    alice.stderr.find("calling mute");
    alice.signal("TERM");
    assert_eq!(alice.wait().code(), Some(4));
    let said = alice.stderr.rest().concat();
    assert!(said.contains("mute had not answered before the end"), "{said}");
}

#[test]
fn a_program_that_speaks_json_is_told_why_it_ends_too() {
    let server = Server::start();
    let arguments =
        ["--json", "--server", &server.url(), "--name", "alice", "--until", "file", "-e", r#"{"command":"who"}"#];
    let mut alice = Program::start("lowkey", &arguments, &[]);
    let told = alice.stdout.find("no file has come");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["event"], "notice");
    assert_eq!(alice.wait().code(), Some(1));
}

#[test]
fn a_signal_before_what_a_script_waits_for_is_no_success() {
    let server = Server::start();
    let url = server.url();
    for (until, code) in [("", 0), ("open", 1), ("message", 1), ("closed", 1), ("file", 1)] {
        let mut arguments = vec!["--server", &*url, "--name", "alice", "listen"];
        if !until.is_empty() {
            arguments.extend(["--until", until]);
        }
        let mut alice = Program::start("lowkey", &arguments, &[]);
        alice.stderr.find("online");
        alice.signal("TERM");
        assert_eq!(alice.wait().code(), Some(code), "{until}");
        let said = alice.stderr.rest().concat();
        assert_eq!(said.contains("before the end"), code == 1, "{until}: {said}");
    }
}

#[test]
fn a_wrong_setting_is_told_of_also_where_there_is_no_time() {
    for arguments in [["--timeout", "0", "--until", "nonsense"], ["--timeout", "0", "send", "lowkey://x/y#z"]] {
        let mut program = Program::start("lowkey", &[&["--name", "alice"], &arguments[..]].concat(), &[]);
        assert_eq!(program.wait().code(), Some(2), "{arguments:?}: {:?} within {SOON:?}", program.stderr.rest());
    }
}
