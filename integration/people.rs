//! `lowkey` and who its user is, whom it remembers, and what it says to those who mistype: the real program, through
//! pipes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lowkey::peer::{CloseReason, Event};
use serde_json::json;

use crate::evil_server::EvilServer;
use crate::world::{Folder, Program, Server, lowkey, until};

/// Runs `lowkey` to its end with a home of its own: exit code, output and errors.
fn run(home: &Folder, arguments: &[&str]) -> (i32, Vec<String>, Vec<String>) {
    let mut program = Program::start("lowkey", arguments, &[("HOME", home.path())]);
    program.stdin = None;
    let code = program.wait().code().expect("no signal ends it");
    (code, program.stdout.rest(), program.stderr.rest())
}

#[test]
fn an_identity_moves_to_another_device_and_replaces_none() {
    let (home, other) = (Folder::new("identity-old"), Folder::new("identity-new"));
    let file = home.0.join("alice.identity");
    let path = file.to_str().unwrap();
    let (code, _, errors) = run(&home, &["identity"]);
    assert!(code == 2 && errors[0].contains("no username yet"), "{errors:?}");
    let (code, _, errors) = run(&home, &["--name", "alice", "identity", "export", path]);
    assert!(code == 2 && errors[0].contains("no identity of alice yet"), "{errors:?}");
    let server = ["--server", "wss://chat.example", "--name", "alice"];
    let (code, shown, _) = run(&home, &[&server[..], &["identity"]].concat());
    assert_eq!((code, &*shown[0]), (0, "name  alice"));
    assert!(shown[1].starts_with("key   ") && shown[3].starts_with("link  lowkey://chat.example/alice#"), "{shown:?}");
    let kept = home.0.join(".config/lowkey/identity-alice");
    assert_eq!(shown[2], format!("file  {}", kept.display()));
    assert_eq!(run(&home, &["--name", "alice", "identity", "export", path]).0, 0);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _, errors) = run(&home, &["--name", "alice", "identity", "export", path]);
    assert!(code == 2 && errors[0].contains("is there already and is not replaced"), "{errors:?}");
    // The other device is alice from then on.
    let (code, out, errors) = run(&other, &["identity", "import", path]);
    assert_eq!((code, out[0].starts_with("You are alice here")), (0, true), "{out:?} {errors:?}");
    let (_, moved, _) = run(&other, &["--server", "wss://chat.example", "identity"]);
    assert_eq!((&moved[..2], &moved[3]), (&shown[..2], &shown[3]));
    let new = other.0.join(".config/lowkey/identity-alice");
    assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&new).unwrap(), fs::read(&kept).unwrap());
    let (code, _, errors) = run(&other, &["identity", "import", path]);
    assert!(code == 2 && errors[0].contains("is not replaced"), "{errors:?}");
    // Under another name it is somebody else's, unless it is a bare key.
    let (code, _, errors) = run(&other, &["--name", "bob", "identity", "import", path]);
    assert!(code == 2 && errors[0].contains("the identity of alice, and not of bob"), "{errors:?}");
    assert_eq!(run(&other, &["--name", "bob", "identity", "import", kept.to_str().unwrap()]).0, 0);
    // An editor may have put a mark in front.
    let marked = home.0.join("marked.identity");
    fs::write(&marked, format!("\u{feff}{}", fs::read_to_string(&file).unwrap())).unwrap();
    let (code, out, _) = run(&Folder::new("identity-marked"), &["identity", "import", marked.to_str().unwrap()]);
    assert!(code == 0 && out[0].starts_with("You are alice here"), "{out:?}");
    fs::write(&file, "alice nonsense\n").unwrap();
    let (code, _, errors) = run(&Folder::new("identity-none"), &["identity", "import", path]);
    assert!(code == 2 && errors[0].contains("this is no identity"), "{errors:?}");
}

#[test]
fn a_link_that_leads_nowhere_from_elsewhere_is_said_to_be_one() {
    let home = Folder::new("identity-local");
    for (server, is_local) in [("ws://localhost:8080", true), ("ws://[::1]:8080", true), ("wss://chat.example", false)]
    {
        let (code, out, errors) = run(&home, &["--server", server, "--name", "alice", "identity"]);
        let is_told = errors.iter().any(|line| line.starts_with("* this link is good on this machine alone"));
        assert!(code == 0 && out[3].starts_with("link  lowkey://") && is_told == is_local, "{server} {errors:?}");
    }
}

/// Ends with a sentence, in which no library and no system speaks.
fn refused_in_words(home: &Folder, arguments: &[&str], words: &str) {
    let (code, _, errors) = run(home, arguments);
    let line = errors.last().map_or("", String::as_str);
    assert!(code == 2 && errors.len() == 1 && line.contains(words), "{arguments:?} {code} {errors:?}");
    for foreign in
        ["os error", "No such file", "invalid digit", "unrecognized", "unexpected argument", "UTF-8 sequence"]
    {
        assert!(!line.contains(foreign), "{line}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_in_words_of_ours() {
    let alice = ["--name", "alice", "--server", "ws://localhost:1", "-e", "/quit"];
    let home = Folder::new("trouble");
    refused_in_words(&home, &["identity", "import", "/nope"], "/nope: it, or the folder for it, is not there");
    refused_in_words(&home, &["identity", "import", home.path()], "it is a folder");
    let binary = home.0.join("binary");
    fs::write(&binary, [0xff, 0xfe]).unwrap();
    refused_in_words(&home, &["identity", "import", binary.to_str().unwrap()], "it is no text in UTF-8");
    run(&home, &["--name", "alice", "identity"]);
    refused_in_words(
        &home,
        &["--name", "alice", "identity", "export", "/nope/x"],
        "or the folder for it, is not there",
    );
    refused_in_words(&home, &["--access-token-file", "/nope", "--name", "alice"], "there is no such file");
    let folder = home.0.join(".config/lowkey");
    fs::create_dir_all(folder.join("config.toml")).unwrap();
    refused_in_words(&home, &alice, "config.toml: it is a folder, and no regular file");
    refused_in_words(&home, &["config", "set", "strict", "on"], "config.toml: it is a folder, and no regular file");
    let other = Folder::new("trouble-home");
    fs::write(other.0.join(".config"), "").unwrap();
    refused_in_words(&other, &["config", "get", "name"], "a part of that path is a file");
    refused_in_words(&other, &["config", "set", "name", "alice"], "a part of that path is a file");
}

#[test]
fn a_mistyped_command_line_is_told_in_words_of_ours_with_what_was_meant() {
    let home = Folder::new("command-line");
    let cases: [(&[&str], &str); 22] = [
        (&["--name", "alice", "connect", "bob"], "there is no command connect; lowkey bob calls bob"),
        (&["--name", "alice", "sned", "bob", "hi"], "did you mean lowkey send?"),
        (&["connect", "bob"], "there is no command connect; lowkey bob calls bob"),
        (&["sned", "bob", "hi"], "there is no command sned; did you mean lowkey send?"),
        (&["config", "server"], "there is no command server here; did you mean config get server?"),
        (&["config", "get", "srever"], "did you mean server?"),
        (&["bob@localhost"], "a name has no @ and no server in it"),
        (&["send", "bob@localhost", "hi"], "a name has no @ and no server in it"),
        (&["--server", "localhost:1"], "lowkey: --server <URL>: \"localhost:1\" is no server"),
        (&["--timeout", "x"], "--timeout <SECONDS> is not to be \"x\": it takes a whole number, as 60"),
        (&["--timeout", ""], "it takes a whole number"),
        (&["--timeout", "99999999999999999999999"], "it takes a whole number"),
        (&["--timeout=-1"], "it takes a whole number"),
        (&["config", "lst"], "there is no command lst here; see lowkey --help"),
        (&["identity", "exprt"], "there is no command exprt here; did you mean export?"),
        (&["bob", "alice"], "there is no command alice here"),
        (&["--sevrer", "ws://x"], "there is no option --sevrer here; did you mean --server?"),
        (&["--colour", "x"], "there is no option --colour here; did you mean --color?"),
        (&["--text-format", "v3"], "--text-format <FORMAT> is not to be \"v3\"; did you mean v1?"),
        (&["--color", "purple"], "is not to be \"purple\", only auto, always, never"),
        (&["identity", "import"], "<FILE> is missing"),
        (&["--name", "a b"], "--name <NAME> is not to be \"a b\": a username is 3 to 20"),
    ];
    for (arguments, words) in cases {
        refused_in_words(&home, arguments, words);
    }
}

#[test]
fn what_is_no_text_on_the_command_line_or_in_a_variable_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let bad = std::ffi::OsStr::from_bytes(b"a\xffb");
    let home = Folder::new("no-text");
    for name in ["LOWKEY_NAME", "LOWKEY_ACCESS_TOKEN", "LOWKEY_STUN", "LOWKEY_STRICT", "LOWKEY_SERVER", "LOWKEY_NOTIFY"]
    {
        let mut command = std::process::Command::new(crate::world::path("lowkey"));
        command.args(["-e", "/quit"]).env_clear().env("HOME", home.path()).env(name, bad);
        let mut program = Program::spawn(command);
        assert_eq!(program.wait().code(), Some(2), "{name}");
        let said = program.stderr.rest();
        assert_eq!(said, [format!("lowkey: {name} is no text in UTF-8; is it what you meant?")]);
    }
    let mut command = std::process::Command::new(crate::world::path("lowkey"));
    command.args(["--name", "alice", "send", "bob"]).arg(bad).env_clear().env("HOME", home.path());
    let mut program = Program::spawn(command);
    assert_eq!(program.wait().code(), Some(2));
    assert!(program.stderr.rest()[0].starts_with("lowkey: \"a\u{fffd}b\" on the command line is no text in UTF-8"));
}

#[test]
fn what_a_server_says_takes_no_terminal_over_by_way_of_the_log() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let said = "bye\u{202e}\u{9b}31m\u{7f}\nfaked line";
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut socket = tungstenite::accept(stream.unwrap()).unwrap();
            let reason = tungstenite::protocol::CloseFrame {
                code: tungstenite::protocol::frame::coding::CloseCode::Policy,
                reason: said.into(),
            };
            let _ = socket.close(Some(reason));
            while socket.read().is_ok() {}
        }
    });
    let home = Folder::new("log-lines");
    for (program, arguments) in
        [("lowkey", &["--name", "alice", "--server", &url][..]), ("lowkey-bot", &["--server", &url])]
    {
        let mut program = Program::start(program, arguments, &[("HOME", home.path()), ("RUST_LOG", "debug")]);
        program.stderr.find("server lost: ");
        program.stderr.find("server lost: ");
        program.signal("TERM");
        program.wait();
        program.stderr.rest();
        let told = |line: &&String| line.contains("bye");
        assert!(program.stderr.seen.iter().any(|line| told(&line) && line.contains("\\u202e")));
        for line in &program.stderr.seen {
            assert!(!line.contains(['\u{202e}', '\u{9b}', '\u{7f}']) && !line.starts_with("faked"), "{line:?}");
        }
    }
}

#[test]
fn a_pipe_or_a_device_in_the_place_of_a_file_is_refused_at_once() {
    let home = Folder::new("pipes");
    let (folder, pipe) = (home.0.join(".config/lowkey"), home.0.join("pipe"));
    fs::create_dir_all(&folder).unwrap();
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(home.0.join("socket")).unwrap();
    let start = ["--name", "alice", "--server", "ws://localhost:1", "-e", "/quit"];
    let cases: [(&str, &[&str]); 9] = [
        ("config.toml", &["config", "get", "name"]),
        ("config.toml", &["config", "set", "name", "alice"]),
        ("config.toml.lock", &["config", "set", "name", "alice"]),
        ("config.toml", &start),
        ("known_peers", &start),
        ("blocked", &start),
        ("aliases", &start),
        ("token", &start),
        ("identity-alice", &start),
    ];
    for target in [&pipe, &home.0.join("socket"), Path::new("/dev/zero")] {
        for (file, arguments) in cases {
            // A lock stays when its holder has ended.
            let _ = fs::remove_file(folder.join(file));
            std::os::unix::fs::symlink(target, folder.join(file)).unwrap();
            refused_in_words(&home, arguments, &format!("{file}: it is a pipe, a socket or a device, and no regular"));
            fs::remove_file(folder.join(file)).unwrap();
        }
    }
    // What is not needed to start says so when it is, or is done without.
    for file in ["log", "history"] {
        std::os::unix::fs::symlink(&pipe, folder.join(file)).unwrap();
    }
    let (_, _, errors) = run(&home, &["--name", "alice", "--server", "ws://localhost:1", "-e", "/log", "-e", "/quit"]);
    assert!(errors.iter().any(|line| line.contains("log: it is a pipe")), "{errors:?}");
}

#[test]
fn an_access_token_may_come_by_a_pipe() {
    let home = Folder::new("token-pipe");
    let pipe = home.0.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writer = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::write(pipe, "hunter 2\n").unwrap())
    };
    let file = pipe.to_str().unwrap();
    // It was read: what is wrong with the token is said.
    refused_in_words(&home, &["--name", "alice", "--access-token-file", file, "-e", "/quit"], "pipe: ");
    writer.join().unwrap();
}

#[test]
fn without_a_home_every_start_says_that_the_identity_does_not_last() {
    let server = Server::start();
    for _ in 0..2 {
        let mut alice = Program::start("lowkey", &["--server", &server.url(), "--name", "alice"], &[]);
        alice.stderr.find("this identity of alice lasts only as long as the program runs");
        alice.stderr.find("online");
        alice.write("/quit");
        alice.wait();
    }
}

#[test]
fn whom_nobody_has_named_is_not_kept_by_who_listens() {
    let server = Server::start();
    let home = Folder::new("listen-keeps");
    let known = home.0.join(".config/lowkey/known_peers");
    let left = Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft };
    for (arguments, is_kept) in [(&["listen"][..], false), (&["listen", "--from", "bob"], true)] {
        let mut bob = server.peer("bob");
        let mut alice = lowkey(&server.url(), &home, "alice", arguments);
        // Who comes again in the same run is the same.
        for text in ["one", "two"] {
            bob.call("alice");
            bob.peer.send("alice", text);
            assert_eq!(alice.stdout.next(), format!("bob: {text}"));
            bob.peer.leave("alice");
            bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::Left });
        }
        bob.call("alice");
        alice.signal("TERM");
        bob.wait(&left);
        alice.wait();
        let is_there = fs::read_to_string(&known).is_ok_and(|text| text.contains("bob@"));
        assert_eq!(is_there, is_kept, "{arguments:?}");
    }
}

#[test]
fn an_alias_is_there_at_the_next_start() {
    let server = Server::start();
    let home = Folder::new("alias");
    let mut bob = server.peer("bob");
    let url = server.url();
    let arguments = ["--server", &url, "--name", "alice"];
    let mut alice = Program::start("lowkey", &[&arguments[..], &["bob"]].concat(), &[("HOME", home.path())]);
    bob.answer("alice");
    alice.stderr.find("connected with bob");
    alice.write("/alias bob-laptop bob");
    alice.stderr.find("bob-laptop is what you call bob from now on");
    alice.write("/peers");
    alice.stderr.find("in a chat with you now; you call them bob-laptop");
    alice.write("/quit");
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
    alice.wait();
    let file = home.0.join(".config/lowkey/aliases");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("bob-laptop bob@{}\n", server.address));
    let mut alice = Program::start("lowkey", &[&arguments[..], &["bob-laptop"]].concat(), &[("HOME", home.path())]);
    bob.answer("alice");
    alice.write("/unalias bob-laptop");
    alice.stderr.find("bob is called by that name again");
    alice.write("/quit");
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
    alice.wait();
    assert_eq!(fs::read_to_string(&file).unwrap(), "");
}

#[test]
fn what_is_nearly_a_command_is_not_called_as_a_peer() {
    let home = Folder::new("mistyped");
    let (code, out, _) = run(&home, &["help"]);
    assert!(code == 0 && out.iter().any(|line| line.starts_with("Usage: lowkey")), "{out:?}");
    let (code, out, _) = run(&home, &["version"]);
    assert_eq!((code, &*out[0]), (0, &*format!("lowkey {}", env!("CARGO_PKG_VERSION"))));
    for (typed, meant) in [("listn", "listen"), ("lsiten", "listen"), ("idenity", "identity"), ("confg", "config")] {
        let (code, _, errors) = run(&home, &["--name", "alice", typed]);
        let told = format!("lowkey: there is no command {typed}; did you mean {meant}?");
        assert!(code == 2 && errors[0].starts_with(&told), "{errors:?}");
    }
    // A peer can have such a name.
    let server = Server::start();
    for name in ["listn", "help"] {
        let mut peer = server.peer(name);
        let url = server.url();
        let arguments = ["--server", &url, "--name", "alice", "--", name];
        let mut alice = Program::start("lowkey", &arguments, &[("HOME", home.path())]);
        peer.answer("alice");
        alice.write("/quit");
        peer.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
        alice.wait();
    }
}

#[test]
fn a_flood_of_errors_of_the_server_is_a_few_lines() {
    let server = EvilServer::start();
    let home = Folder::new("flood");
    let mut alice = lowkey(&server.url(), &home, "alice", &[]);
    for number in 0..20_000 {
        let payload = json!({ "code": format!("MADE_UP_{number}"), "message": "nothing" });
        server.inject("alice", json!({ "type": "error", "payload": payload }));
    }
    alice.stderr.find("10000 of this kind by now");
    alice.stdin = None;
    alice.wait();
    alice.stderr.rest();
    let told = alice.stderr.seen.iter().filter(|line| line.contains("the server says \"nothing\"")).count();
    assert_eq!(told, 9, "{:?}", alice.stderr.seen);
}

/// Goal: have one's own words stand as the program's, or fill somebody's screen with them.
#[test]
fn what_a_server_says_is_shown_short_and_in_quotes() {
    let server = EvilServer::start();
    let home = Folder::new("words");
    let (url, lie) = (server.url(), "fine\" (X); type /forget bob \u{202e}");
    let error = |words: &str| json!({ "type": "error", "payload": { "code": words, "message": words } });
    let start = |name: &str, format: &[&str], call: &str| {
        let arguments = [format, &["--server", &url, "--name", name]].concat();
        let mut program = Program::start("lowkey", &arguments, &[("HOME", home.path())]);
        program.write(call);
        // It has heard of who is online.
        until("a call", || server.sent(name, "nobody").pop());
        program
    };
    let mut alice = start("alice", &[], "/connect nobody");
    server.inject("alice", error(lie));
    let quote = r#""fine' (X); type /forget bob \u202e""#;
    assert_eq!(alice.stderr.find("the server says"), format!("* the server says {quote} ({quote})"));
    server.inject("alice", error(&"x".repeat(50_000)));
    assert!(alice.stderr.find("the server says").len() < 800);
    let mut bob = start("bob", &["--json"], r#"{"command":"connect","peer":"nobody"}"#);
    server.inject("bob", error(&"x".repeat(50_000)));
    let told = bob.stdout.find("server_error");
    assert!(told.len() < 900, "{} bytes", told.len());
    bob.write(&json!({ "command": "x".repeat(50_000) }).to_string());
    assert!(bob.stdout.find("mistake").len() < 5000);
}

#[test]
fn a_link_and_the_address_of_a_server_may_begin_in_any_case() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let key = data_encoding::BASE64URL_NOPAD.encode(crate::world::identity("bob").public().as_bytes());
    let link = format!("LOWKEY://{}/bob?plain#{key}", server.address);
    let mut alice = Program::start("lowkey", &["--name", "alice", &link], &[]);
    bob.answer("alice");
    alice.stderr.find("bob is verified");
    let url = format!("WS://{}", server.address);
    let mut carol = Program::start("lowkey", &["--server", &url, "--name", "carol"], &[]);
    carol.write(&format!("/connect {link}"));
    bob.answer("carol");
    // Nobody is called like a link, in whatever case.
    let refused = crate::world::Client::try_connect(&server.address, "/ws?username=LowKey%3A%2F%2Fx");
    assert!(refused.is_err());
}
