//! The programs without a terminal: pipes, options and settings.

use std::process::Output;

use lowkey::peer::{CloseReason, Event};

use crate::world::{Folder, Program, Server, run};

pub fn chat(server: &Server, name: &str, arguments: &[&str]) -> Program {
    let url = server.url();
    let mut all = vec!["--server", &url, "--name", name];
    all.extend(arguments);
    Program::start("lowkey", &all, &[])
}

#[test]
fn two_programs_chat_through_pipes() {
    let server = Server::start();
    let mut alice = chat(&server, "alice", &[]);
    alice.stderr.find("online");
    let mut bob = chat(&server, "bob", &["alice"]);
    alice.stderr.find("* bob wants to talk to you");
    alice.write("/accept");
    for program in [&mut alice, &mut bob] {
        program.stderr.find("connecting with");
        program.stderr.find("connected with");
    }
    bob.write("hello, alice");
    assert_eq!(alice.stdout.next(), "bob: hello, alice");
    alice.write("");
    alice.write("//not a command");
    assert_eq!(bob.stdout.next(), "alice: ");
    assert_eq!(bob.stdout.next(), "alice: /not a command");
    bob.write("/quit");
    assert_eq!(bob.wait().code(), Some(0));
    alice.stderr.find("* bob left");
}

#[test]
fn the_end_of_input_sends_what_is_left_and_ends_the_program() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let mut alice = chat(&server, "alice", &["bob"]);
    for number in 0..100 {
        alice.write(&format!("line {number}"));
    }
    alice.stdin = None;
    bob.answer("alice");
    for number in 0..100 {
        assert_eq!(bob.message().1, format!("line {number}"));
    }
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
    assert_eq!(alice.wait().code(), Some(0));
}

#[test]
fn a_script_learns_that_something_was_not_sent() {
    let server = Server::start();
    // Without a home none of these has another's name.
    for (name, peer, reason, not_sent) in [
        ("alice", "nobody", "nobody is not online", "not sent to nobody (they are not online"),
        ("narcissus", "narcissus", "that is you", "not sent (no chat is open): hello"),
    ] {
        let mut alice = chat(&server, name, &[peer]);
        alice.write("hello");
        alice.stdin = None;
        assert_eq!(alice.wait().code(), Some(4));
        alice.stderr.find(reason);
        alice.stderr.find(not_sent);
    }
    // Whether its end or the answer comes first, a text is kept where a line could still send it again, and never
    // without a word.
    let mut alice = chat(&server, "alice_2", &["nobody"]);
    alice.write("hello");
    alice.stderr.find("not sent to nobody (they are not online; kept, /retry sends it again): hello");
    alice.stdin = None;
    alice.stderr.find("one text for nobody: not sent, and not kept any longer");
    assert_eq!(alice.wait().code(), Some(4));
    let mut alice = chat(&server, "alice_3", &["send", "nobody", "hello"]);
    alice.stderr.find("not sent to nobody (they are not online): hello");
    assert_eq!(alice.wait().code(), Some(4));
    assert!(!alice.stderr.seen.iter().any(|line| line.contains("as soon as the server")), "it is there");
    let mut lonely = Program::start("lowkey", &["--server", "ws://127.0.0.1:1", "--name", "alice", "bob"], &[]);
    lonely.write("hello");
    lonely.stdin = None;
    assert_eq!(lonely.wait().code(), Some(3), "without a server the end of input is the end");
}

#[test]
fn a_pipe_may_be_faster_than_the_chat() {
    let server = Server::start();
    let _bot = server.bot();
    let mut alice = chat(&server, "alice", &[]);
    let mut stdin = alice.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        writeln!(stdin, "/connect echo").unwrap();
        for number in 0..20_000 {
            writeln!(stdin, "{number}").unwrap();
        }
        stdin
    });
    for number in 0..20_000 {
        assert_eq!(alice.stdout.next(), format!("echo: {number}"));
    }
    drop(writer.join().unwrap());
    assert_eq!(alice.wait().code(), Some(0));
}

#[test]
fn a_signal_ends_the_program_in_order() {
    let server = Server::start();
    for signal in ["INT", "TERM", "HUP"] {
        let mut alice = chat(&server, "alice", &[]);
        alice.stderr.find("online");
        alice.signal(signal);
        assert_eq!(alice.wait().code(), Some(0), "{signal}");
    }
}

/// Bob, who listens with this as his standard output, in a home of his own.
pub fn listening(server: &Server, home: &Folder, output: &str, arguments: &[&str]) -> Program {
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$@\" >'{output}'")).args(["sh", crate::world::path("lowkey")]);
    shell.args(["--server", &server.url(), "--name", "bob"]).args(arguments);
    shell.env_clear().env("HOME", home.path());
    Program::spawn(shell)
}

#[test]
fn what_could_not_be_written_was_not_taken_and_comes_again() {
    let server = Server::start();
    for (arguments, said) in [(&["listen"][..], "alice: two"), (&["--json", "listen"], "\"two\"")] {
        let mut alice = server.peer("alice");
        let home = Folder::new("unwritable");
        let fifo = home.0.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let mut bob = listening(&server, &home, fifo.to_str().unwrap(), arguments);
        let mut reader = std::io::BufReader::new(std::fs::File::open(&fifo).unwrap());
        let mut written = |part: &str| {
            let mut line = String::new();
            while !line.contains(part) {
                line.clear();
                assert!(std::io::BufRead::read_line(&mut reader, &mut line).unwrap() > 0, "no {part}");
            }
        };
        match arguments[0] {
            "--json" => written("\"online\""),
            _ => drop(bob.stderr.find("online")),
        }
        alice.call("bob");
        alice.peer.send("bob", "one");
        written("one");
        alice.wait(&Event::Delivered { peer: "bob".to_owned(), id: 1 });
        drop(reader);
        for text in ["two", "three"] {
            alice.peer.send("bob", text);
        }
        assert_eq!(bob.wait().code(), Some(1));
        bob.stderr.find("lowkey: whoever read standard output has closed it; what was not written was not taken");
        // To her the chat is interrupted, and goes on with his next start, which writes what the first could not.
        let interrupted = Event::Interrupted { peer: "bob".to_owned() };
        let delivered = |event: &Event| match event {
            event if *event == interrupted => Some(None),
            Event::Delivered { id, .. } => Some(Some(*id)),
            _ => None,
        };
        assert_eq!(alice.find("the loss", delivered), None, "nothing was taken that was not written");
        let output = home.0.join("output");
        let mut bob = listening(&server, &home, output.to_str().unwrap(), arguments);
        let delivered = |event: &Event| matches!(event, Event::Delivered { id: 3, .. }).then_some(());
        alice.find("the rest is delivered", delivered);
        let written = std::fs::read_to_string(output).unwrap();
        let texts = ["one", "two", "three"].map(|text| written.matches(text).count());
        assert_eq!(texts, [0, 1, 1], "{written}");
        assert!(written.contains(said), "{written}");
        bob.signal("TERM");
        bob.wait();
    }
}

#[test]
fn a_full_device_ends_whoever_writes_to_it() {
    let server = Server::start();
    let home = Folder::new("full");
    let mut bob = listening(&server, &home, "/dev/full", &["listen"]);
    bob.stderr.find("online");
    let mut alice = chat(&server, "alice", &["send", "bob", "hello", "--timeout", "4"]);
    assert_eq!(bob.wait().code(), Some(1));
    bob.stderr.find("lowkey: standard output cannot be written: there is no space left for it");
    assert_eq!(alice.wait().code(), Some(6), "it was not delivered");
    alice.stderr.find("* the time that --timeout gave is over");
    // With the first event already, and what has nothing else to do than to print.
    for arguments in [
        &["--json"][..],
        &["--help"],
        &["-h"],
        &["--version"],
        &["config"],
        &["man"],
        &["--qr"],
        &["identity"],
        &["identity", "export", "-"],
    ] {
        let mut program = listening(&server, &home, "/dev/full", arguments);
        assert_eq!(program.wait().code(), Some(1), "{arguments:?}");
        program.stderr.find("there is no space left");
    }
}

/// The standard library takes what is written to such a stream for written.
#[test]
fn an_output_that_can_only_be_read_ends_whoever_writes_to_it() {
    let server = Server::start();
    let home = Folder::new("read-only-output");
    let start = |arguments: &[&str]| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "exec \"$@\" 1</dev/null", "sh", crate::world::path("lowkey"), "--server", &server.url()]);
        shell.args(["--name", "bob"]).args(arguments).env_clear().env("HOME", &home.0);
        Program::spawn(shell)
    };
    let mut bob = start(&["listen"]);
    bob.stderr.find("online");
    let mut alice = chat(&server, "alice", &["send", "bob", "hello", "--timeout", "4"]);
    assert_eq!(bob.wait().code(), Some(1));
    bob.stderr.find("lowkey: standard output cannot be written: it is closed");
    assert_eq!(alice.wait().code(), Some(6), "it was not delivered");
    for arguments in [&["--json"][..], &["--help"], &["config"], &["man"], &["--qr"], &["identity"]] {
        assert_eq!(start(arguments).wait().code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn a_file_of_any_length_is_sent_and_no_faster_than_it_goes_out() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let folder = Folder::new("long-file");
    let file = folder.0.join("file");
    let line = "0123456789abcdef".repeat(64);
    let text: String = (0..12 * 1024).map(|number| format!("{number} {line}\n")).collect();
    std::fs::write(&file, &text).unwrap();
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg("exec \"$@\" <\"$FILE\"").args(["sh", crate::world::path("lowkey")]);
    shell.args(["--server", &server.url(), "--name", "alice", "send", "bob"]).env_clear().env("FILE", &file);
    let mut alice = Program::spawn(shell);
    bob.answer("alice");
    let mut came = String::new();
    while came.len() < text.len() {
        came += &bob.message().1;
        came.push('\n');
    }
    assert!(came == text, "all of it, in order");
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
    assert_eq!(alice.wait().code(), Some(0));
}

/// The demo, with this on its standard input and these as its programs.
fn demo(programs: &str, input: &str) -> Output {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut demo = std::process::Command::new(format!("{root}/integration/demo.sh"));
    let server = std::path::Path::new(crate::world::path("lowkey-server")).parent().unwrap();
    demo.arg(programs).arg(server).stdin(std::process::Stdio::piped());
    let mut demo = demo.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut demo.stdin.take().unwrap(), input.as_bytes()).unwrap();
    demo.wait_with_output().unwrap()
}

#[test]
fn the_demo_proves_itself_without_a_terminal_too() {
    let programs = std::path::Path::new(crate::world::path("lowkey")).parent().unwrap().to_str().unwrap();
    for (input, expected) in [
        ("hello\n", &["you> hello", "echo: hello"][..]),
        ("", &["you> hello", "echo: hello"]),
        ("one\n/quit\n", &["you> one", "you> /quit", "echo: one", "echo: /quit"]),
    ] {
        let output = demo(programs, input);
        let lines = String::from_utf8(output.stdout).unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected, "{input:?}: {words}");
        assert!(output.status.success(), "{words}");
    }
    // With a bot that is not there, it fails.
    let folder = Folder::new("demo-without-bot");
    std::os::unix::fs::symlink(crate::world::path("lowkey"), folder.0.join("lowkey")).unwrap();
    let bot = folder.0.join("lowkey-bot");
    std::fs::write(&bot, "#!/bin/sh\necho 'online as echo' >&2\n").unwrap();
    std::fs::set_permissions(&bot, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = demo(folder.path(), "hello\n");
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn without_a_name_there_is_no_start() {
    let home = Folder::new("no-name");
    let mut alice = Program::start("lowkey", &[], &[("HOME", home.path())]);
    assert_eq!(alice.wait().code(), Some(2));
    assert_eq!(alice.stderr.rest(), ["lowkey: no username yet; give one with --name or LOWKEY_NAME"]);
}

#[test]
fn a_kept_name_serves_without_a_terminal() {
    let server = Server::start();
    let home = Folder::new("kept-name");
    let folder = home.0.join("lowkey");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "name = \"alice\"\n").unwrap();
    let mut bob = server.peer("bob");
    let variables = [("XDG_CONFIG_HOME", home.path()), ("LOWKEY_SERVER", &*server.url())];
    let mut alice = Program::start("lowkey", &["bob"], &variables);
    bob.answer("alice");
    alice.stderr.find("connected with");
    std::fs::write(folder.join("config.toml"), "name = ???").unwrap();
    let mut broken = Program::start("lowkey", &["bob"], &variables);
    assert_eq!(broken.wait().code(), Some(2));
    let lines = broken.stderr.rest();
    assert!(lines.len() == 1 && lines[0].contains("config.toml"), "{lines:?}");
}

#[test]
fn a_wrong_option_or_setting_is_one_line_and_exit_2() {
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&[&str], Variables<'_>); 14] = [
        (&["--sevrer", "ws://x"], &[]),
        (&["--server"], &[]),
        (&["--server", "http://x"], &[]),
        (&["--server", "nonsense"], &[]),
        (&["--name", "a b"], &[]),
        (&["--name", "ab"], &[]),
        (&["--text-format", "v3"], &[]),
        (&["--stun", "stuns:x"], &[]),
        (&["--turn", "turn.example"], &[]),
        (&["--turn", "turns:a:b@turn.example?transport=udp"], &[]),
        (&["one", "two"], &[]),
        (&[], &[("LOWKEY_SERVER", "ftp://x")]),
        (&[], &[("LOWKEY_NAME", "x")]),
        (&[], &[("LOWKEY_TURN", "secret")]),
    ];
    for program in ["lowkey", "lowkey-bot"] {
        for (arguments, variables) in cases {
            let output = run(program, arguments, variables);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{program} {arguments:?} {variables:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(error.starts_with(&format!("{program}: ")), "{error}");
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn relay_only_without_any_relay_is_refused_at_the_start() {
    let output = run("lowkey", &["--name", "alice", "--relay-only", "--no-server-relays"], &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("needs a TURN server: name one with --turn") && error.lines().count() == 1, "{error}");
    let mut settings = lowkey::peer::Settings::default();
    (settings.is_relay_only, settings.uses_offered_relays) = (true, false);
    let peer = lowkey::peer::Peer::connect_with("ws://localhost".parse().unwrap(), "alice", settings);
    assert!(matches!(peer, Err(lowkey::peer::Error::NoRelay)));
}

#[test]
fn the_guide_and_the_help_tell_every_setting_and_every_bound() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/README.md")).unwrap();
    let help = String::from_utf8(run("lowkey-server", &["--help"], &[]).stdout).unwrap();
    for (name, meaning, default) in lowkey::server::config::VARIABLES {
        assert!(guide.contains(&format!("| `{name}` | {meaning} | {default} |")), "{name}");
        assert!(help.contains(&format!("{meaning} [default: {default}]")), "{name}");
    }
    let bounds = lowkey::server::bounds::bounds(&lowkey::server::limits::Limits::default());
    let row = |bound: &lowkey::server::bounds::Bound| {
        let variable = if bound.variable.is_empty() { String::new() } else { format!("`{}`", bound.variable) };
        format!("| {} | {} | {variable} | {} |\n", bound.what, bound.limit, bound.beyond)
    };
    let table: String = bounds.iter().map(row).collect();
    let (_, told) = guide.split_once("| what | limit | changed by | beyond it |\n|---|---|---|---|\n").unwrap();
    assert_eq!(told.split_once("\n\n").unwrap().0.to_owned() + "\n", table, "the table in deploy/README.md");
    for bound in bounds {
        assert!(help.contains(bound.what) && help.contains(&bound.limit), "{bound:?}");
    }
}

#[test]
fn every_program_has_help_and_a_version() {
    for program in ["lowkey", "lowkey-bot", "lowkey-server"] {
        let version = run(program, &["--version"], &[]);
        assert_eq!(version.status.code(), Some(0));
        assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
        let help = run(program, &["--help"], &[]);
        assert_eq!(help.status.code(), Some(0));
        let help = String::from_utf8(help.stdout).unwrap();
        let words: &[&str] = match program {
            "lowkey-server" => &["PORT", "HOST", "SESSION_TTL", "CORS_ORIGINS", "RUST_LOG", "/health"],
            _ => &[
                "--server",
                "LOWKEY_SERVER",
                "--name",
                "LOWKEY_NAME",
                "--stun",
                "--turn",
                "--relay-only",
                "--no-server-relays",
                "--text-format",
            ],
        };
        for word in words {
            assert!(help.contains(word), "{program} --help says nothing of {word}");
        }
    }
}
