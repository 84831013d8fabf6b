//! The echo bot, through server and data channel.

use std::thread;

use lowkey::peer::{CloseReason, Event};

use crate::world::{Client, Folder, Program, Server, until};

#[test]
fn every_text_comes_back_as_it_was() {
    let server = Server::start();
    let _bot = server.bot();
    let mut alice = server.peer("alice");
    alice.call("echo");
    let mut texts: Vec<String> =
        ["hello", "", " ", "👩🏽‍🚀 grüße 世界", "two\nlines\r\n", "\0\x1b[31m", "{\"rk\":\"x\"}", "/quit"]
            .map(str::to_owned)
            .to_vec();
    texts.extend([1, 2, 100, 1191, 16_384, 49_151, 49_152].map(|length| "x".repeat(length)));
    texts.push("é".repeat(24_576));
    for text in &texts {
        alice.peer.send("echo", text);
    }
    for text in texts {
        assert_eq!(alice.message(), ("echo".to_owned(), text));
    }
}

#[test]
fn five_hundred_texts_come_back_in_order() {
    let server = Server::start();
    let _bot = server.bot();
    let mut alice = server.peer("alice");
    alice.call("echo");
    for number in 0..500 {
        alice.peer.send("echo", &format!("text {number}"));
    }
    for number in 0..500 {
        assert_eq!(alice.message().1, format!("text {number}"));
    }
}

#[test]
fn twenty_peers_are_served_at_once() {
    let server = Server::start();
    let _bot = server.bot();
    let users: Vec<_> = (0..20).map(|number| (number, server.peer(&format!("peer{number}")))).collect();
    let threads: Vec<_> = users
        .into_iter()
        .map(|(number, mut user)| {
            thread::spawn(move || {
                user.call("echo");
                for round in 0..20 {
                    user.peer.send("echo", &format!("{number}/{round}"));
                }
                for round in 0..20 {
                    assert_eq!(user.message().1, format!("{number}/{round}"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_peer_that_leaves_can_come_back() {
    let server = Server::start();
    let _bot = server.bot();
    let mut alice = server.peer("alice");
    for round in 0..3 {
        alice.call("echo");
        alice.peer.send("echo", &format!("round {round}"));
        assert_eq!(alice.message().1, format!("round {round}"));
        alice.peer.leave("echo");
        alice.wait(&Event::Closed { peer: "echo".to_owned(), reason: CloseReason::Left });
    }
    drop(alice);
    // And as a new program under the same name, without a farewell of the old one.
    let mut again = server.peer("alice");
    again.call("echo");
    again.peer.send("echo", "back");
    assert_eq!(again.message().1, "back");
}

#[test]
fn the_bot_ends_in_order_on_a_signal() {
    let server = Server::start();
    for signal in ["TERM", "INT", "HUP"] {
        let mut bot = server.bot();
        let mut alice = server.peer("alice");
        alice.call("echo");
        bot.signal(signal);
        alice.wait(&Event::Closed { peer: "echo".to_owned(), reason: CloseReason::PeerLeft });
        assert_eq!(bot.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_bot_whose_name_is_taken_over_says_so_and_ends() {
    let server = Server::start();
    let home = Folder::new("taken-over");
    let mut bot = Program::start("lowkey-bot", &["--server", &server.url()], &[("HOME", home.path())]);
    bot.stderr.find("online as echo");
    assert!(Client::try_connect(&server.address, "/ws?username=echo").is_err(), "its name is not for everybody");
    let mut other = Program::start("lowkey-bot", &["--server", &server.url()], &[("HOME", home.path())]);
    other.stderr.find("online as echo");
    other.stderr.find("another program was online as echo, and had to go for this one");
    assert_eq!(bot.wait().code(), Some(1));
    bot.stderr.find("another program, perhaps of yours, has gone online under this name");
}

#[test]
fn the_bot_waits_for_a_server_that_is_not_there_yet() {
    let server = Server::start();
    let address = server.address.clone();
    let port = address.rsplit_once(':').unwrap().1.to_owned();
    drop(server);
    let mut bot = Program::start("lowkey-bot", &["--server", &format!("ws://{address}")], &[]);
    bot.stderr.find("offline: ");
    let server = Server::start_with(&[("PORT", &port)]);
    bot.stderr.find("online as echo");

    let mut alice = server.peer("alice");
    alice.call("echo");
    alice.peer.send("echo", "x");
    assert_eq!(alice.message().1, "x");
}

#[test]
fn the_bot_opens_as_many_files_as_the_system_lets_it() {
    let server = Server::start();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -S -n 200 && exec \"$@\"", "sh", crate::world::path("lowkey-bot"), "--server"]);
    shell.arg(server.url()).env_clear();
    let mut bot = Program::spawn(shell);
    bot.stderr.find("online as echo");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", bot.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
    assert_ne!(words[3], "200");
}

#[test]
fn who_calls_a_bot_that_is_out_of_descriptors_is_told_that_it_has_no_room() {
    let server = Server::start();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 64 && exec \"$@\"", "sh", crate::world::path("lowkey-bot"), "--server"]);
    shell.arg(server.url()).env_clear();
    let mut bot = Program::spawn(shell);
    bot.stderr.find("online as echo");
    let mut open = Vec::new();
    let refused = loop {
        assert!(open.len() < 64, "each chat takes a descriptor at least");
        let mut caller = server.peer(&format!("caller{}", open.len()));
        caller.peer.call("echo");
        let end = caller.find("the end of the call", |event| match event {
            Event::Open { .. } => Some(None),
            Event::Closed { reason, .. } => Some(Some(reason.clone())),
            _ => None,
        });
        match end {
            Some(reason) => break reason,
            None => open.push(caller),
        }
    };
    assert_eq!(refused, CloseReason::PeerHasNoRoom);
    bot.stderr.find("this machine cannot begin a connection: too many files are open");
    // Whom it talks to it goes on talking to, and whoever leaves makes room.
    let mut first = open.swap_remove(0);
    first.peer.send("echo", "still there?");
    assert_eq!(first.message().1, "still there?");
    drop(open);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", bot.id())).unwrap().count();
    until("they have gone", || (descriptors() < 40).then_some(()));
    server.peer("late").call("echo");
}
