//! `lowkey` driven by other programs: its options for that, JSON, exit codes, and the bots of bot/README.md as they are
//! printed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use lowkey::peer::{CloseReason, Event};
use serde_json::{Value, json};

use crate::world::{Folder, Lines, Program, Server, path};

/// `lowkey` with JSON both ways.
struct Json(Program);

impl Json {
    fn start(server: &Server, name: &str, home: &Folder, arguments: &[&str]) -> Self {
        let url = server.url();
        let mut all = vec!["--json", "--server", &url, "--name", name];
        all.extend(arguments);
        Self(Program::start("lowkey", &all, &[("HOME", home.path())]))
    }

    fn write(&mut self, command: &Value) {
        self.0.write(&command.to_string());
    }

    /// The next event of this name; those before it are passed over.
    fn find(&mut self, name: &str) -> Value {
        loop {
            let event: Value = serde_json::from_str(&self.0.stdout.next()).expect("each line is an object");
            assert_eq!(event["v"], 1);
            if event["event"] == name {
                return event;
            }
        }
    }
}

/// Runs `lowkey` as `name` to its end, with nothing on its standard input: exit code, output and errors.
fn run(server: &Server, name: &str, arguments: &[&str]) -> (i32, Vec<String>, Vec<String>) {
    let url = server.url();
    let mut all = vec!["--server", &url, "--name", name];
    all.extend(arguments);
    let mut program = Program::start("lowkey", &all, &[]);
    program.stdin = None;
    let code = program.wait().code().expect("no signal ends it");
    (code, program.stdout.rest(), program.stderr.rest())
}

#[test]
fn two_programs_chat_in_json() {
    let server = Server::start();
    let home = Folder::new("json");
    let mut alice = Json::start(&server, "alice", &home, &[]);
    let mut bob = Json::start(&server, "bob", &home, &[]);
    assert_eq!(alice.find("started")["name"], "alice");
    bob.find("online");
    alice.write(&json!({ "command": "send", "peer": "bob", "text": "hello\nbob", "id": "7" }));
    assert_eq!(bob.find("request")["peer"], "alice");
    bob.write(&json!({ "command": "accept", "peer": "alice" }));
    let (of_alice, of_bob) = (alice.find("identified"), bob.find("identified"));
    assert_eq!(of_alice["trust"], "new");
    assert_eq!(of_alice["safety_number"], of_bob["safety_number"]);
    let message = bob.find("message");
    assert_eq!((&message["peer"], &message["text"]), (&json!("alice"), &json!("hello\nbob")));
    bob.write(&json!({ "command": "who" }));
    assert_eq!(bob.find("who")["chats"][0]["peer"], "alice");
    bob.write(&json!({ "command": "nonsense" }));
    assert!(bob.find("mistake")["message"].as_str().unwrap().contains("nonsense"));
    alice.write(&json!({ "command": "leave", "peer": "bob" }));
    assert_eq!(alice.find("closed")["reason"], "left");
    assert_eq!(bob.find("closed")["reason"], "peer_left");
    alice.write(&json!({ "command": "quit" }));
    assert_eq!(alice.0.wait().code(), Some(0));
    assert!(alice.0.stderr.rest().is_empty(), "everything is an event");
    bob.write(&json!({ "command": "quit" }));
    assert_eq!(bob.0.wait().code(), Some(1), "something could not be done");
}

#[test]
fn execute_runs_lines_in_place_of_standard_input() {
    let server = Server::start();
    let _bot = server.bot();
    let lines = ["-e", "/connect echo", "-e", "one", "-e", "//two", "--until", "message"];
    let (code, out, _) = run(&server, "alice", &lines);
    assert_eq!(code, 0);
    assert_eq!(out.first().map(String::as_str), Some("echo: one"));
    let (code, _, errors) = run(&server, "alice", &["-e", "/nonsense"]);
    assert_eq!(code, 1);
    assert!(errors.iter().any(|line| line.contains("there is no command /nonsense")), "{errors:?}");
}

#[test]
fn until_open_message_and_closed_say_when_it_ends() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let url = server.url();
    let start = |name: &str, until: &str| {
        let task = if name == "listener" { "listen" } else { "bob" };
        let arguments = ["--server", &url, "--name", name, "--until", until, task];
        let mut program = Program::start("lowkey", &arguments, &[]);
        program.stdin = None;
        program
    };
    let mut opener = start("opener", "open");
    bob.answer("opener");
    assert_eq!(opener.wait().code(), Some(0));
    let mut reader = start("reader", "message");
    bob.answer("reader");
    bob.peer.send("reader", "the end");
    assert_eq!(reader.wait().code(), Some(0));
    assert_eq!(reader.stdout.rest(), ["bob: the end"]);
    let mut closer = start("closer", "closed");
    bob.answer("closer");
    bob.peer.leave("closer");
    assert_eq!(closer.wait().code(), Some(0));
    let mut listener = start("listener", "message");
    listener.stderr.find("online");
    bob.peer.call("listener");
    bob.wait(&Event::Open { peer: "listener".to_owned() });
    bob.peer.send("listener", "heard");
    assert_eq!(listener.wait().code(), Some(0));
    assert_eq!(listener.stdout.rest(), ["bob: heard"]);
}

#[test]
fn send_sends_its_arguments_or_its_input_and_ends() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let url = server.url();
    let home = Folder::new("send");
    let variables = [("HOME", home.path())];
    let arguments = ["--server", &url, "--name", "alice", "send", "bob"];
    let mut alice = Program::start("lowkey", &arguments, &variables);
    for line in ["/quit is no command here", "", "last"] {
        alice.write(line);
    }
    alice.stdin = None;
    bob.answer("alice");
    assert_eq!(bob.message(), ("alice".to_owned(), "/quit is no command here\n\nlast".to_owned()));
    // Who looks for more has taken what came before.
    let left = Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft };
    bob.wait(&left);
    assert_eq!(alice.wait().code(), Some(0));
    let mut alice = Program::start("lowkey", &[&arguments[..], &["two", "words"]].concat(), &variables);
    bob.answer("alice");
    assert_eq!(bob.message().1, "two words");
    bob.wait(&left);
    assert_eq!(alice.wait().code(), Some(0));
    assert_eq!(run(&server, "alice", &["send", "nobody", "x"]).0, 4);
}

#[test]
fn listen_takes_calls_of_whom_it_is_told_and_goes_on() {
    let server = Server::start();
    let url = server.url();
    let arguments = ["--server", &url, "--name", "alice", "listen", "--from", "bob"];
    let mut alice = Program::start("lowkey", &arguments, &[]);
    alice.stderr.find("online");
    let (mut bob, mut carol) = (server.peer("bob"), server.peer("carol"));
    carol.peer.call("alice");
    bob.peer.call("alice");
    bob.wait(&Event::Open { peer: "alice".to_owned() });
    bob.peer.send("alice", "one");
    assert_eq!(alice.stdout.next(), "bob: one");
    alice.write("/msg bob answer");
    assert_eq!(bob.message().1, "answer");
    // Without a script at its other end it goes on listening.
    alice.stdin = None;
    bob.peer.send("alice", "two");
    assert_eq!(alice.stdout.next(), "bob: two");
    // Whom it is not told of hears nothing, not even that.
    assert!(carol.events.try_next().is_err());
    alice.signal("TERM");
    bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
    assert_eq!(alice.wait().code(), Some(0));
}

#[test]
fn exit_codes_say_what_was_wrong() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    assert_eq!(run(&server, "alice", &["--until", "nonsense"]).0, 2);
    assert_eq!(run(&server, "alice", &["send", "nobody", "x"]).0, 4, "not there");
    let url = server.url();
    let arguments = ["--server", &url, "--name", "alice", "-e", "/connect bob", "--until", "open"];
    let mut alice = Program::start("lowkey", &arguments, &[]);
    bob.asked_by("alice");
    bob.peer.decline("alice");
    assert_eq!(alice.wait().code(), Some(4), "declined");
    let nowhere = ["--server", "ws://127.0.0.1:1", "--name", "alice", "send", "bob", "x"];
    assert_eq!(Program::start("lowkey", &nowhere, &[]).wait().code(), Some(3), "no server");
    // Bob is known by an identity that he does not have any more.
    let home = Folder::new("exit-codes");
    let known = home.0.join(".config/lowkey/known_peers");
    fs::create_dir_all(known.parent().unwrap()).unwrap();
    let key = data_encoding::BASE64.encode(crate::world::identity("somebody else").public().as_bytes());
    fs::write(known, format!("bob@{} {key} 2026-11-23 seen\n", server.address)).unwrap();
    let arguments = ["--server", &url, "--name", "alice", "send", "bob", "a secret"];
    let arguments = [&arguments[..], &["--timeout", "2"]].concat();
    let mut alice = Program::start("lowkey", &arguments, &[("HOME", home.path())]);
    assert_eq!(alice.wait().code(), Some(6), "he cannot read who is calling");
    assert!(bob.events.try_next().is_err(), "and is not asked");
    // An old app may be anybody.
    let mut app = server.client("app");
    let arguments = ["--server", &url, "--name", "alice", "send", "app", "a secret"];
    let mut alice = Program::start("lowkey", &arguments, &[]);
    while app.json()["type"] != "key:exchange" {}
    let key = json!({ "publicKey": lowkey::peer::keys::KeyPair::generate().public().to_base64() });
    app.send(json!({ "type": "key:exchange", "target": "alice", "payload": key }).to_string());
    assert_eq!(alice.wait().code(), Some(5), "nothing is proven");
    assert_eq!(app.json()["type"], "session:decline", "and nothing offered");
    assert_eq!(run(&server, "alice", &["send", "bob", "x", "--timeout", "1"]).0, 6, "bob never answers");
}

#[test]
fn notify_runs_a_command_with_what_has_come() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let folder = Folder::new("notify");
    let file = folder.0.join("events");
    let command = format!("cat >> '{}'", file.display());
    let url = server.url();
    for (text_option, has_text) in
        [(&["--notify", &*command][..], false), (&["--notify", &command, "--notify-text"], true)]
    {
        let mut arguments = vec!["--server", &*url, "--name", "alice"];
        arguments.extend(text_option);
        arguments.push("listen");
        let mut alice = Program::start("lowkey", &arguments, &[("HOME", folder.path())]);
        alice.stderr.find("online");
        bob.peer.call("alice");
        bob.wait(&Event::Open { peer: "alice".to_owned() });
        bob.peer.send("alice", "a secret");
        alice.stdout.next();
        let event: Value = crate::world::until("the command has run", || {
            let text = fs::read_to_string(&file).ok()?;
            text.lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|event| event["event"] == "message")
        });
        assert_eq!(event["peer"], "bob");
        assert_eq!(event.get("text").is_some(), has_text);
        fs::remove_file(&file).unwrap();
        bob.peer.leave("alice");
        bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::Left });
    }
}

/// A bot of bot/README.md, by the name that its code gives it, as a program that runs at `server`.
pub fn bot(server: &Server, folder: &Folder, name: &str) -> (std::process::Child, Lines) {
    let readme = include_str!("../bot/README.md");
    let names = [format!("--name {name} "), format!("\"--name\", \"{name}\"")];
    let is_it = |code: &&str| code.contains("\n#!/") && names.iter().any(|name| code.contains(name));
    let code = readme.split("```").find(is_it).expect("the bot is in the paper").split_once('\n').unwrap().1;
    assert!(code.lines().count() <= 20);
    let file = folder.0.join("bot");
    fs::write(&file, code).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let programs = Path::new(path("lowkey")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(&file);
    command.current_dir(&folder.0).env("PATH", path).env("HOME", folder.path()).env("LOWKEY_SERVER", server.url());
    // With its chat program in a group that can be ended as a whole.
    let mut child = command.process_group(0).stderr(Stdio::piped()).spawn().unwrap();
    let lines = Lines::new(child.stderr.take().unwrap());
    (child, lines)
}

/// A name that would be a command if what a script does with it made a line end of its backslash.
const HOSTILE_NAME: &str = r"x\n/set notify touch pwned\n/quit";

#[test]
fn the_bots_of_the_readme_answer_somebody_whose_name_is_made_of_commands() {
    let server = Server::start();
    let mut mallory = server.peer(HOSTILE_NAME);
    for (name, answer) in [("counter", "that has 5 characters"), ("shouter", "HELLO")] {
        let folder = Folder::new(&format!("hostile-{name}"));
        let (mut child, _errors) = bot(&server, &folder, name);
        mallory.call_soon(name);
        for _ in 0..2 {
            mallory.peer.send(name, "hello");
            assert_eq!(mallory.message(), (name.to_owned(), answer.to_owned()), "it is the one who is answered");
        }
        let group = format!("-{}", child.id());
        assert!(Command::new("kill").args(["-TERM", "--", &group]).status().unwrap().success());
        let _ = child.wait();
    }
}

#[test]
fn no_line_of_a_script_sets_what_runs_a_program() {
    let server = Server::start();
    let folder = Folder::new("no-notify");
    let file = folder.0.join("pwned");
    let mut bob = server.peer("bob");
    let set = format!("/set notify touch {}", file.display());
    let json = json!({ "command": "set", "name": "notify", "value": format!("touch {}", file.display()) }).to_string();
    let (url, timeout) = (server.url(), ["--timeout", "60"]);
    let base = ["--server", &url, "--name", "alice"];
    for (arguments, line) in [(&["listen"][..], &set), (&["--json", "listen"], &json)] {
        let mut alice =
            Program::start("lowkey", &[&base[..], &timeout, arguments].concat(), &[("HOME", folder.path())]);
        alice.write(line);
        bob.call_soon("alice");
        bob.peer.send("alice", "hello");
        while !alice.stdout.next().contains("hello") {}
        alice.signal("TERM");
        assert_eq!(alice.wait().code(), Some(1), "it could not be done");
        assert!(!file.exists());
        bob.wait(&Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft });
    }
    assert_eq!(run(&server, "alice", &["-e", &set]).0, 1);
    assert_eq!(run(&server, "alice", &["-e", "/set notify off"]).0, 0);
}

#[test]
fn who_follows_a_file_sends_each_line_whatever_it_looks_like() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let url = server.url();
    let home = Folder::new("follow");
    let start = || {
        let arguments = ["--server", &url, "--name", "alice", "send", "--follow", "bob"];
        Program::start("lowkey", &arguments, &[("HOME", home.path())])
    };
    let lines = ["/quit", "//x", "/set notify touch pwned", "", " {\"command\":\"quit\"}"];
    let mut alice = start();
    bob.answer("alice");
    // Each goes out before the next is written.
    for line in lines {
        alice.write(line);
        assert_eq!(bob.message().1, line);
    }
    alice.write("last");
    alice.stdin = None;
    assert_eq!(bob.message().1, "last");
    let left = Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft };
    bob.wait(&left);
    assert_eq!(alice.wait().code(), Some(0));
    // Nothing is read for somebody who is gone.
    let mut alice = start();
    bob.asked_by("alice");
    bob.peer.decline("alice");
    assert_eq!(alice.wait().code(), Some(4));
}

#[test]
fn a_name_that_was_printed_can_be_handed_on() {
    let server = Server::start();
    let mut odd = server.peer("-o d\\n");
    let url = server.url();
    let (base, home) = (["--server", &url, "--name", "alice"], Folder::new("handed-on"));
    let variables = [("HOME", home.path())];
    let mut alice =
        Program::start("lowkey", &[&base[..], &["listen", "--from", "\"-o%20d%5Cn\""]].concat(), &variables);
    alice.stderr.find("online");
    odd.peer.call("alice");
    odd.wait(&Event::Open { peer: "alice".to_owned() });
    odd.peer.send("alice", "hello");
    let line = alice.stdout.next();
    let (name, text) = line.split_once(": ").unwrap();
    assert_eq!((name, text), ("\"-o%20d%5Cn\"", "hello"));
    alice.write(&format!("/msg {name} back"));
    assert_eq!(odd.message().1, "back");
    alice.signal("TERM");
    // Who looks for more has taken what came before.
    let left = Event::Closed { peer: "alice".to_owned(), reason: CloseReason::PeerLeft };
    odd.wait(&left);
    assert_eq!(alice.wait().code(), Some(0));
    let mut alice = Program::start("lowkey", &[&base[..], &["send", name, "by its name"]].concat(), &variables);
    odd.answer("alice");
    assert_eq!(odd.message().1, "by its name");
    odd.wait(&left);
    assert_eq!(alice.wait().code(), Some(0));
    // A name that says what a link says leads to no other server, whatever a server may have let in.
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let link =
        format!("lowkey://{}/b?plain#4kNG0fUgoVWgrSEIuBMjhBUkSHdeGgh4oJVUiWWWDlw", elsewhere.local_addr().unwrap());
    let (code, _, errors) = run(&server, "alice", &["send", &format!("\"{link}\""), "hi"]);
    assert!(code == 4 || code == 1, "{code} {errors:?}");
    assert!(errors.iter().any(|line| line.contains("nobody can be called \"lowkey%3A")), "{errors:?}");
    assert!(elsewhere.accept().is_err(), "nobody came");
}

#[test]
fn the_bots_of_the_readme_work_as_they_are_printed() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    for (name, answer) in [("counter", "that has 5 characters"), ("shouter", "HELLO")] {
        let folder = Folder::new(name);
        let (mut child, _errors) = bot(&server, &folder, name);
        bob.call_soon(name);
        bob.peer.send(name, "hello");
        assert_eq!(bob.message(), (name.to_owned(), answer.to_owned()));
        let group = format!("-{}", child.id());
        assert!(Command::new("kill").args(["-TERM", "--", &group]).status().unwrap().success());
        let _ = child.wait();
    }
}
