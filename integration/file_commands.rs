//! Files as the user of `lowkey` sends and takes them in scripts, in JSON, and with the bots that are printed.
//! At the prompt: `file_prompts`.

use std::fs;
use std::path::Path;
use std::process::Command;

use lowkey::peer::{EndReason, Event, FileId};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::examples::example;
use crate::file_users::{bytes, lies_in, names, user as taker};
use crate::old_app::OldApp;
use crate::script::bot;
use crate::window::Terminal;
use crate::world::{Folder, Program, Server, User, until};

/// A file with this content: where it is.
pub fn file(folder: &Folder, name: &str, content: &[u8]) -> String {
    let path = folder.0.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The line that `sha256sum` prints of a file.
pub fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Starts `lowkey` as `name` at this home.
pub fn start(server: &Server, home: &Folder, name: &str, arguments: &[&str]) -> Program {
    let url = server.url();
    let all = [&["--server", &url, "--name", name], arguments].concat();
    Program::start("lowkey", &all, &[("HOME", home.path())])
}

/// Somebody who listens with these arguments, and is online.
pub fn listener(server: &Server, home: &Folder, arguments: &[&str]) -> Program {
    let mut program = start(server, home, "bob", &[&["listen"], arguments].concat());
    program.stderr.find("online");
    program
}

/// The next event of this name in a program's JSON.
pub fn find(program: &mut Program, name: &str) -> Value {
    loop {
        let event: Value = serde_json::from_str(&program.stdout.next()).expect("each line is an object");
        if event["event"] == name {
            return event;
        }
    }
}

/// Waits for the offer of a file: which, and by what name.
pub fn offered(user: &mut User) -> (FileId, String) {
    user.find("an offer", |event| match event {
        Event::FileOffered { file, name, .. } => Some((*file, name.clone())),
        _ => None,
    })
}

#[test]
fn send_ends_once_all_its_files_have_arrived() {
    let (server, home) = (Server::start(), Folder::new("send-files"));
    let contents = [bytes(0), bytes(1), bytes(3 << 20)];
    let paths: Vec<String> =
        contents.iter().enumerate().map(|(at, content)| file(&home, &format!("{at}.pdf"), content)).collect();
    let inbox = home.0.join("inbox");
    let _bob = listener(&server, &home, &["--accept-files", inbox.to_str().unwrap(), "--from", "alice"]);
    let mut arguments = vec!["send", "bob"];
    arguments.extend(paths.iter().flat_map(|path| ["--file", path]));
    arguments.push("three files");
    let mut alice = start(&server, &home, "alice", &arguments);
    assert_eq!(alice.wait().code(), Some(0));
    let told = alice.stderr.rest();
    assert_eq!(told.iter().filter(|line| line.starts_with("* bob has")).count(), 3, "{told:?}");
    assert!(!told.iter().any(|line| line.contains('\r') || line.contains('%')), "no row off a terminal: {told:?}");
    assert_eq!(names(&inbox), ["0.pdf", "1.pdf", "2.pdf"]);
    for (at, content) in contents.iter().enumerate() {
        assert!(fs::read(inbox.join(format!("{at}.pdf"))).unwrap() == *content, "{at}");
    }
    // What is there is never overwritten, and what is there already does not come twice.
    let other = file(&home, "other", b"another");
    for path in [&other, &paths[2]] {
        let mut alice = start(&server, &home, "alice", &["send", "bob", "--file", path, "--as", "2.pdf"]);
        assert_eq!(alice.wait().code(), Some(0));
    }
    assert_eq!(names(&inbox), ["0.pdf", "1.pdf", "2 (1).pdf", "2.pdf"]);
}

#[test]
fn on_a_terminal_a_script_shows_in_one_row_how_far_a_file_is() {
    let (server, home) = (Server::start(), Folder::new("file-row"));
    let path = file(&home, "big.tar", &bytes(32 << 20));
    let inbox = home.0.join("inbox");
    let _bob = listener(&server, &home, &["--accept-files", inbox.to_str().unwrap(), "--from", "alice"]);
    let arguments = ["--server", &server.url(), "--name", "alice", "send", "bob", "--file", &path];
    let mut alice = Terminal::start(&home, &arguments);
    assert_eq!(alice.wait(), 0);
    alice.shows("* bob has big.tar (33 MB)");
    let written = String::from_utf8_lossy(&alice.output.lock().unwrap()).into_owned();
    assert!(written.contains("\r↑ big.tar [") && written.contains(" % of 33 MB"), "{written}");
    assert!(!alice.screen().contains('↑'), "it is gone at the end");
}

#[test]
fn more_files_than_wait_at_once_all_arrive() {
    let (server, home) = (Server::start(), Folder::new("many-files"));
    let paths: Vec<String> = (0..40).map(|at| file(&home, &format!("{at:02}"), at.to_string().as_bytes())).collect();
    let inbox = home.0.join("inbox");
    let _bob = listener(&server, &home, &["--accept-files", inbox.to_str().unwrap(), "--from-anybody"]);
    let arguments: Vec<&str> =
        ["send", "bob"].into_iter().chain(paths.iter().flat_map(|path| ["--file", path])).collect();
    assert_eq!(start(&server, &home, "alice", &arguments).wait().code(), Some(0));
    assert_eq!(names(&inbox).len(), 40);
    for at in 0..40 {
        assert_eq!(fs::read_to_string(inbox.join(format!("{at:02}"))).unwrap(), at.to_string());
    }
}

#[test]
fn what_comes_from_a_pipe_goes_to_a_pipe() {
    let (server, home) = (Server::start(), Folder::new("piped-file"));
    let content = bytes(2 << 20);
    let (input, output) = (file(&home, "in", &content), home.0.join("out"));
    let shell = |script: String| {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).env("HOME", home.path());
        Program::spawn(command)
    };
    let program = |name: &str, rest: &str| {
        format!("'{}' --server {} --name {name} {rest}", crate::world::path("lowkey"), server.url())
    };
    let rest = format!("listen --accept-files - --from alice > '{}'", output.display());
    let mut bob = shell(program("bob", &rest));
    bob.stderr.find("online");
    let mut alice = shell(format!("cat '{input}' | {}", program("alice", "send bob --file - --as x.tar 'a text'")));
    assert_eq!(alice.wait().code(), Some(0), "{:?}", alice.stderr.rest());
    alice.stderr.find("* bob has x.tar (2.0 MB)");
    assert_eq!(bob.wait().code(), Some(0), "it ends with the file");
    let told = bob.stderr.rest();
    assert!(told.iter().any(|line| line == "* alice's x.tar is whole (2.0 MB)"), "{told:?}");
    assert!(told.iter().any(|line| line == "alice: a text"), "texts go aside: {told:?}");
    assert!(fs::read(&output).unwrap() == content);
}

#[test]
fn exit_codes_say_why_a_file_was_not_sent() {
    let (server, home) = (Server::start(), Folder::new("file-codes"));
    let (path, inbox) = (file(&home, "x.pdf", &bytes(2000)), home.0.join("inbox"));
    let inbox = inbox.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let mut program = start(&server, &home, "alice", arguments);
        program.stdin = None;
        (program.wait().code().unwrap(), program.stderr.rest().join("\n"))
    };
    let send = |more: &[&str]| run(&[&["send", "bob", "--file", &path], more].concat());
    // Wrong from the start, and nobody is called.
    for (arguments, code, words) in [
        (&["send", "bob", "--file", "/nowhere/x"][..], 1, "/nowhere/x: it, or the folder for it, is not there"),
        (&["send", "bob", "--file", "-"], 2, "has no name: give it one with --as"),
        (&["send", "bob", "--as", "x", "--file", &path, "--file", &path], 2, "--as names one file"),
        (&["send", "bob", "--follow", "--file", &path], 2, "--file"),
        (&["listen", "--accept-files", inbox], 2, "say --from NAME, --from-known or --from-anybody"),
        (&["--json", "listen", "--from-anybody", "--accept-files", "-"], 2, "both want standard output"),
        (&["listen", "--from-anybody", "--accept-files", &path], 2, "x.pdf"),
        (&["listen", "--from-anybody", "--from", "bob"], 2, "--from-anybody"),
        (&["listen", "--from-anybody", "--accept-files", inbox, "--max-file", "much"], 2, "an amount of bytes"),
    ] {
        let (ended, errors) = run(arguments);
        assert_eq!(ended, code, "{arguments:?}: {errors}");
        assert!(errors.contains(words), "{arguments:?}: {errors}");
    }
    let (code, errors) = send(&[]);
    assert!(code == 4 && errors.contains("bob is not online"), "{code}: {errors}");
    assert!(errors.contains("not offered to bob"), "{errors}");
    for (listens, words) in [
        (&[][..], "x.pdf was not sent to bob: bob takes no files"),
        (&["--accept-files", inbox, "--from-anybody", "--max-file", "1K"], "it is longer than bob takes"),
        (&["--accept-files", inbox, "--from-anybody", "--max-files", "1K"], "there is no room for it at bob's"),
    ] {
        let mut bob = listener(&server, &home, listens);
        let (code, errors) = send(&[]);
        assert!(code == 4 && errors.contains(words), "{listens:?}: {code}: {errors}");
        bob.signal("TERM");
        bob.wait();
    }
    let mut carol = taker(&server, "carol");
    let mut alice = start(&server, &home, "alice", &["send", "carol", "--file", &path]);
    carol.answer("alice");
    let (file, _) = offered(&mut carol);
    carol.peer.refuse_file("alice", file, EndReason::Declined);
    assert_eq!(alice.wait().code(), Some(4));
    alice.stderr.find("x.pdf was not sent to carol: carol does not want it");
    let mut alice = start(&server, &home, "alice", &["send", "carol", "--timeout", "2", "--file", &path]);
    carol.answer("alice");
    assert_eq!(alice.wait().code(), Some(6), "nobody has answered");
    assert!(names(Path::new(inbox)).is_empty());
}

#[test]
fn a_listener_keeps_within_its_folders_bound() {
    let (server, home) = (Server::start(), Folder::new("file-quota"));
    let paths = ["a", "b", "c"].map(|name| file(&home, name, &bytes(2000)));
    let inbox = home.0.join("inbox");
    let arguments = ["--accept-files", inbox.to_str().unwrap(), "--from-anybody", "--max-files", "5K"];
    let _bob = listener(&server, &home, &arguments);
    let mut alice =
        start(&server, &home, "alice", &["send", "bob", "--file", &paths[0], "--file", &paths[1], "--file", &paths[2]]);
    assert_eq!(alice.wait().code(), Some(4));
    assert_eq!(names(&inbox).len(), 2);
    // Of a stream nobody knows how long it is, and it ends where there is no more room.
    let mut alice = start(&server, &home, "alice", &["send", "bob", "--file", "-", "--as", "d"]);
    std::io::Write::write_all(alice.stdin.as_mut().unwrap(), &bytes(4000)).unwrap();
    alice.stdin = None;
    assert_eq!(alice.wait().code(), Some(4));
    assert_eq!(names(&inbox).len(), 2);
}

#[test]
fn an_old_app_is_offered_nothing() {
    let (server, home) = (Server::start(), Folder::new("file-old-app"));
    let path = file(&home, "x", b"x");
    let mut alice = None;
    let call = || {
        let arguments = ["--server", &server.url(), "--name", "alice", "--old-apps", "send", "old", "--file", &path];
        alice = Some(Program::start("lowkey", &arguments, &[("HOME", home.path())]));
    };
    let _app = OldApp::answer(&server, "old", call, || {});
    let mut alice = alice.unwrap();
    assert_eq!(alice.wait().code(), Some(4));
    alice.stderr.find("an old app takes no files");
}

#[test]
fn files_go_in_json_both_ways() {
    let (server, home) = (Server::start(), Folder::new("json-files"));
    let path = file(&home, "x.pdf", &bytes(1 << 20));
    let mut alice = start(&server, &home, "alice", &["--json"]);
    let mut bob = start(&server, &home, "bob", &["--json", "listen", "--from", "alice"]);
    find(&mut bob, "online");
    let say = |program: &mut Program, command: Value| program.write(&command.to_string());
    say(&mut alice, json!({ "command": "offer_file", "peer": "bob", "path": path, "as": "\u{202e}y.pdf", "id": "7" }));
    let offering = find(&mut alice, "file_offering");
    assert_eq!((&offering["id"], &offering["name"]), (&json!("7"), &json!("\u{202e}y.pdf")));
    let offered = find(&mut bob, "file_offered");
    assert_eq!((&offered["file"], &offered["size"]), (&offering["file"], &json!(1 << 20)));
    assert_eq!(offered["name"], "\u{202e}y.pdf", "as it was sent");
    assert!(!bob.stdout.seen.iter().any(|line| line.contains('\u{202e}')), "but not raw");
    let target = home.0.join("z.pdf");
    say(&mut bob, json!({ "command": "take_file", "peer": "alice", "file": offered["file"], "path": target }));
    assert_eq!(find(&mut alice, "file_started")["from"], 0);
    let (sent, received) = (find(&mut alice, "file_sent"), find(&mut bob, "file_received"));
    let digest = &sha256sum(&target)[..64];
    assert_eq!((&sent["sha256"], &received["sha256"]), (&json!(digest), &json!(digest)));
    assert_eq!((&sent["id"], &received["path"]), (&json!("7"), &json!(target)));
    assert_eq!(fs::read(&target).unwrap(), fs::read(&path).unwrap());
    say(&mut bob, json!({ "command": "files" }));
    let files = find(&mut bob, "files");
    assert_eq!((&files["files"][0]["state"], &files["files"][0]["outgoing"]), (&json!("done"), &json!(false)));
    // By its number, and not.
    say(&mut alice, json!({ "command": "offer_file", "peer": "bob", "path": path, "id": "8" }));
    let number = find(&mut bob, "file_offered")["number"].clone();
    say(&mut bob, json!({ "command": "refuse_file", "number": number }));
    let ended = find(&mut alice, "file_ended");
    assert_eq!((&ended["id"], &ended["reason"]), (&json!("8"), &json!("declined")));
    say(&mut alice, json!({ "command": "offer_file", "peer": "bob", "path": "/nowhere", "id": "9" }));
    let told = find(&mut alice, "file_not_offered");
    assert_eq!((&told["id"], &told["path"]), (&json!("9"), &json!("/nowhere")));
    say(&mut alice, json!({ "command": "take_file" }));
    assert!(find(&mut alice, "mistake")["message"].as_str().unwrap().contains("no file is offered to you"));
}

/// Sends what is there to bob's folder `inbox` by one command that is killed and said again, and so is he. What alice's
/// first program says of its offer, and bob's last of what he has received.
pub fn sent_through_kills(server: &Server, home: &Folder, path: &str) -> [Value; 2] {
    let inbox = home.0.join("inbox");
    let listens = ["--json", "listen", "--accept-files", inbox.to_str().unwrap(), "--from", "alice"];
    let online = || {
        let mut bob = start(server, home, "bob", &listens);
        find(&mut bob, "online");
        bob
    };
    let mut bob = online();
    let send = || start(server, home, "alice", &["--json", "send", "bob", "--file", path]);
    // The sender.
    let mut alice = send();
    let offering = find(&mut alice, "file_offering");
    lies_in(&inbox, 12 << 20);
    alice.signal("KILL");
    alice.wait();
    let mut alice = send();
    let from = find(&mut alice, "file_started")["from"].as_u64().unwrap();
    assert!(from > 0, "it goes on where it was");
    // The receiver. The sender needs no word for it.
    lies_in(&inbox, 28 << 20);
    bob.signal("KILL");
    bob.wait();
    let mut bob = online();
    assert!(find(&mut bob, "file_started")["from"].as_u64().unwrap() > 0);
    let received = find(&mut bob, "file_received");
    assert_eq!(alice.wait().code(), Some(0));
    [offering, received]
}

#[test]
fn the_same_command_goes_on_after_either_side_was_killed() {
    let (server, home) = (Server::start(), Folder::new("killed-file"));
    let content = bytes(64 << 20);
    let [_, received] = sent_through_kills(&server, &home, &file(&home, "big", &content));
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(&content));
    assert_eq!(received["sha256"], json!(digest));
    let inbox = home.0.join("inbox");
    assert_eq!(names(&inbox), ["big"]);
    assert!(fs::read(inbox.join("big")).unwrap() == content);
}

#[test]
fn the_program_in_rust_that_takes_files_takes_them_of_whom_it_is_told() {
    let (server, home) = (Server::start(), Folder::new("rust-inbox"));
    let folder = home.0.join("in");
    let _inbox = example("inbox", &[&server.url(), folder.to_str().unwrap(), "alice"]);
    let path = file(&home, "x.pdf", &bytes(1000));
    let mut alice = crate::world::until("the inbox is online", || {
        let mut alice = start(&server, &home, "alice", &["send", "inbox", "--file", &path]);
        (alice.wait().code() == Some(0)).then_some(alice)
    });
    alice.stderr.find("inbox has x.pdf");
    assert_eq!(fs::read(folder.join("x.pdf")).unwrap(), bytes(1000));
}

#[test]
fn the_bot_in_python_that_takes_files_works_as_it_is_printed() {
    let (server, home, folder) = (Server::start(), Folder::new("python-sender"), Folder::new("python-inbox"));
    let (mut child, _errors) = bot(&server, &folder, "collector");
    let path = file(&home, "x.pdf", &bytes(1000));
    until("the collector is online", || {
        let mut alice = start(&server, &home, "alice", &["send", "collector", "--file", &path]);
        (alice.wait().code() == Some(0)).then_some(())
    });
    assert_eq!(fs::read(folder.0.join("inbox/x.pdf")).unwrap(), bytes(1000));
    let mut alice = start(&server, &home, "alice", &["collector"]);
    alice.write(&format!("/file {path}"));
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(bytes(1000)));
    assert_eq!(alice.stdout.next(), format!("collector: {digest}"));
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-TERM", "--", &group]).status().unwrap().success());
    let _ = child.wait();
}
