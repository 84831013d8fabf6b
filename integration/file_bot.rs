//! Files and `lowkey-bot`: refused unless its operator wants them, and then of whom and how much he has said.

use std::fs;

use crate::file_commands::{file, start};
use crate::file_users::{bytes, names};
use crate::world::{Folder, Program, Server};

/// The bot at a home with these options, online.
fn bot(server: &Server, home: &Folder, options: &[&str]) -> Program {
    let url = server.url();
    let all = [&["--server", &url], options].concat();
    let mut bot = Program::start("lowkey-bot", &all, &[("HOME", home.path())]);
    bot.stderr.find("online as echo");
    bot
}

/// Sends files to the bot as `name`: the exit code, and what was said.
fn send(server: &Server, home: &Folder, name: &str, paths: &[&str]) -> (i32, String) {
    let mut arguments = vec!["send", "echo"];
    arguments.extend(paths.iter().flat_map(|path| ["--file", path]));
    let mut alice = start(server, home, name, &arguments);
    (alice.wait().code().unwrap(), alice.stderr.rest().join("\n"))
}

#[test]
fn the_bot_takes_no_files_unless_its_operator_says_whose() {
    let (server, home, bots) = (Server::start(), Folder::new("bot-files"), Folder::new("bot-files-home"));
    let path = file(&home, "x.pdf", &bytes(1000));
    let inbox = bots.0.join("inbox");
    let inbox_path = inbox.to_str().unwrap();
    for (options, words) in [
        (&["--accept-files", inbox_path][..], "say --from NAME, --from-known or --from-anybody"),
        (&["--accept-files", &path, "--from-anybody"], "x.pdf"),
        (&["--from", "alice"], "--accept-files"),
    ] {
        let url = server.url();
        let mut bot = Program::start("lowkey-bot", &[&["--server", &url], options].concat(), &[("HOME", bots.path())]);
        assert_ne!(bot.wait().code(), Some(0), "{options:?}");
        let told = bot.stderr.rest().join("\n");
        assert!(told.contains(words), "{options:?}: {told}");
    }
    for options in
        [&[][..], &["--accept-files", inbox_path, "--from", "bob"], &["--accept-files", inbox_path, "--from-known"]]
    {
        let _bot = bot(&server, &bots, options);
        let (code, told) = send(&server, &home, "alice", &[&path]);
        assert!(code == 4 && told.contains("echo takes no files"), "{options:?}: {code}: {told}");
    }
}

#[test]
fn the_bot_takes_files_of_whom_it_is_told_and_of_nobody_who_takes_their_name() {
    let (server, home, bots) = (Server::start(), Folder::new("bot-names"), Folder::new("bot-names-home"));
    let inbox = bots.0.join("inbox");
    let mut bot = bot(&server, &bots, &["--accept-files", inbox.to_str().unwrap(), "--from", "alice"]);
    assert_eq!(send(&server, &home, "alice", &[&file(&home, "x.pdf", &bytes(1000))]).0, 0);
    bot.stderr.find("inbox/x.pdf (1 so far)");
    assert_eq!(fs::read(inbox.join("x.pdf")).unwrap(), bytes(1000));
    // The server has forgotten who has the name, and another one comes under it.
    let url = server.url();
    drop(server);
    let server = Server::start_with(&[("PORT", url.rsplit_once(':').unwrap().1)]);
    bot.stderr.find("online as echo");
    let other = Folder::new("bot-names-other");
    let (code, told) = send(&server, &other, "alice", &[&file(&other, "y.pdf", b"y")]);
    assert!(code == 4 && told.contains("echo takes no files"), "{code}: {told}");
    bot.stderr.find("another one has that name");
    assert_eq!(names(&inbox), ["x.pdf"]);
}

#[test]
fn the_bot_keeps_within_what_a_file_a_sender_and_its_folder_may_have() {
    let (server, home, bots) = (Server::start(), Folder::new("bot-quota"), Folder::new("bot-quota-home"));
    let inbox = bots.0.join("inbox");
    let limits = ["--max-file", "3K", "--max-peer", "5K", "--max-count", "3", "--max-files", "9K"];
    let options = [&["--accept-files", inbox.to_str().unwrap(), "--from-anybody"], &limits[..]].concat();
    let mut bot = bot(&server, &bots, &options);
    let path = |name: &str, length| file(&home, name, &bytes(length));
    let send = |name: &str, path: &str, words: &str| {
        let (code, told) = send(&server, &home, name, &[path]);
        assert_eq!(code == 0, words.is_empty(), "{name}: {code}: {told}");
        assert!(told.contains(words), "{name}: {told}");
    };
    send("alice", &path("long", 3001), "it is longer than echo takes");
    send("alice", &path("a", 2500), "");
    send("alice", &path("b", 2600), "there is no room for it at echo's");
    send("alice", &path("c", 100), "");
    send("alice", &path("d", 100), "");
    send("alice", &path("e", 0), "too many files");
    send("carol", &path("f", 3000), "");
    send("david", &path("g", 3000), "");
    send("emily", &path("h", 3000), "there is no room for it at echo's");
    bot.stderr.find("holds as much as --max-files allows");
    assert_eq!(names(&inbox), ["a", "c", "d", "f", "g"]);
}

#[test]
fn a_limit_on_files_ends_no_bot() {
    let (server, home, bots) = (Server::start(), Folder::new("bot-limit"), Folder::new("bot-limit-home"));
    let inbox = bots.0.join("inbox");
    let mut shell = std::process::Command::new("sh");
    shell.args([
        "-c",
        "ulimit -f 2048 && exec \"$@\"",
        "sh",
        crate::world::path("lowkey-bot"),
        "--server",
        &server.url(),
    ]);
    shell.args(["--accept-files", inbox.to_str().unwrap(), "--from-anybody"]).env_clear().env("HOME", bots.path());
    let mut bot = Program::spawn(shell);
    bot.stderr.find("online as echo");
    let (code, told) = send(&server, &home, "alice", &[&file(&home, "long", &bytes(5_000_000))]);
    assert!(code == 4 && told.contains("there is no room for it at echo's"), "{code}: {told}");
    bot.stderr.find("no file may become so long there; look at ulimit -f");
    assert_eq!(send(&server, &home, "alice", &[&file(&home, "short", b"x")]).0, 0, "it lives");
}
