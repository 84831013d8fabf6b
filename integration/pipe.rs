//! The programs without a terminal: pipes, options and settings.

use std::process::Output;

use lowkey::peer::{CloseReason, Event};

use crate::world::{Folder, Program, Server, command};

fn chat(server: &Server, name: &str, arguments: &[&str]) -> Program {
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
        program.stderr.find("keys exchanged");
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
    for (peer, reason) in [("nobody", "not online"), ("alice", "that is you")] {
        let mut alice = chat(&server, "alice", &[peer]);
        alice.write("hello");
        alice.stdin = None;
        assert_eq!(alice.wait().code(), Some(4));
        alice.stderr.find(reason);
        alice.stderr.find(&format!("not sent to {peer} (no chat is open): hello"));
    }
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

fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(program).args(arguments).envs(variables.iter().copied()).output().unwrap()
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
fn the_readme_and_the_help_tell_every_setting_and_every_bound() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let help = String::from_utf8(run("lowkey-server", &["--help"], &[]).stdout).unwrap();
    for (name, meaning, default) in lowkey::server::config::VARIABLES {
        assert!(readme.contains(&format!("| `{name}` | {meaning} | {default} |")), "{name}");
        assert!(help.contains(&format!("{meaning} [default: {default}]")), "{name}");
    }
    for (what, limit, variable, beyond) in lowkey::server::limits::TABLE {
        let variable = if variable.is_empty() { String::new() } else { format!("`{variable}`") };
        assert!(readme.contains(&format!("| {what} | {limit} | {variable} | {beyond} |")), "{what}");
        assert!(help.contains(what), "{what}");
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
