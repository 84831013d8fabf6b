//! Files as the user of `lowkey` sends and takes them at the prompt.

use std::fs;

use lowkey::peer::{EndReason, Event, FileOffer};

use crate::file_commands::{file, offered, sha256sum, start};
use crate::file_users::{bytes, lies_in, names, user as taker};
use crate::window::Terminal;
use crate::world::{Folder, Server, until};

/// Alice and bob at their prompts, in a chat.
pub fn two_prompts(server: &Server, home: &Folder) -> (Terminal, Terminal) {
    let url = server.url();
    let mut bob = Terminal::start(home, &["--server", &url, "--name", "bob"]);
    bob.shows("online");
    let mut alice = Terminal::start(home, &["--server", &url, "--name", "alice", "bob"]);
    bob.shows("alice wants to talk to you");
    bob.type_keys("/accept\r");
    for prompt in [&mut alice, &mut bob] {
        prompt.shows("connected with");
    }
    (alice, bob)
}

#[test]
fn a_file_goes_from_prompt_to_prompt_while_both_type_on() {
    let (server, home) = (Server::start(), Folder::new("two-prompts"));
    let path = file(&home, "report.pdf", &bytes(192 << 20));
    let downloads = home.0.join("Downloads");
    fs::create_dir(&downloads).unwrap();
    fs::write(downloads.join("report.pdf"), "mine").unwrap();
    let (mut alice, mut bob) = two_prompts(&server, &home);
    alice.type_keys(&format!("/file {path}\r"));
    alice.shows("* offering report.pdf (201 MB, file 1) to bob");
    bob.shows("* alice offers report.pdf (201 MB, file 1): /take or /refuse");
    assert_eq!(names(&downloads), ["report.pdf"], "nothing is written before he says yes");
    bob.type_keys("/take\rhello\r");
    alice.shows("* bob takes report.pdf");
    alice.type_keys("I see it\r");
    bob.shows("alice: I see it");
    alice.shows("bob: hello");
    alice.shows("* bob has report.pdf (201 MB)");
    let taken = downloads.join("report (1).pdf");
    bob.shows("* alice's report.pdf is in");
    for (prompt, arrow) in [(&alice, "↑"), (&bob, "↓")] {
        let written = String::from_utf8_lossy(&prompt.output.lock().unwrap()).into_owned();
        let has_shown = |percent: usize| written.contains(&format!("{arrow}{percent}% "));
        assert!((1..99).any(has_shown), "the prompt shows how far it is");
    }
    assert_eq!(fs::read(&taken).unwrap(), fs::read(&path).unwrap());
    assert_eq!(fs::read_to_string(downloads.join("report.pdf")).unwrap(), "mine");
    let digest = sha256sum(&taken)[..64].to_owned();
    for prompt in [&mut alice, &mut bob] {
        prompt.type_keys("/files\r");
        prompt.shows(&digest);
    }
    let mut parts = fs::read_dir(downloads.join(".lowkey")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!parts.any(|part| part.to_string_lossy().ends_with(".part")), "no part is left");
}

#[test]
fn what_a_terminal_pastes_on_a_drop_is_offered_and_tab_completes_paths() {
    let (server, home) = (Server::start(), Folder::new("drop"));
    let folder = Folder(home.0.join("my files"));
    fs::create_dir(&folder.0).unwrap();
    for name in ["my report (1).pdf", "it's.txt", "ä.txt"] {
        file(&folder, name, b"x");
    }
    let mut bob = taker(&server, "bob");
    let mut alice = Terminal::start(&home, &["--server", &server.url(), "--name", "alice", "bob"]);
    bob.answer("alice");
    alice.shows("connected with bob");
    let at = home.path();
    for (typed, name) in [
        (format!("'{at}/my files/my report (1).pdf' "), "my report (1).pdf"),
        (format!("file://{at}/my%20files/%C3%A4.txt"), "ä.txt"),
        (format!("'{at}/my files/it'\\''s.txt'"), "it's.txt"),
        // What was offered ends, and the same can be offered again.
        ("~/my\\ files/my\\ report\\ \\(1\\).pdf".to_owned(), "my report (1).pdf"),
        ("~/my\tmy\t".to_owned(), "my report (1).pdf"),
        (format!("{at}/my files/ä.txt"), "ä.txt"),
        (format!("\x1b[200~'{at}/my files/ä.txt' \x1b[201~"), "ä.txt"),
    ] {
        alice.type_keys(&format!("/file {typed}\r"));
        let (file, offered) = offered(&mut bob);
        assert_eq!(offered, name, "{typed}");
        bob.peer.refuse_file("alice", file, EndReason::Declined);
        until("she is told", || alice.screen().contains("bob does not want it").then_some(()));
        alice.type_keys("\x0c");
        until("an empty screen", || (!alice.screen().contains("bob does not want it")).then_some(()));
    }
    alice.type_keys("/file nothing here\r");
    alice.shows("not offered to bob: nothing: it, or the folder for it, is not there;");
    alice.type_keys("/file /dev/null\r");
    alice.shows("that is no file, but a device");
    alice.type_keys(&format!("{at}/my files/ä.txt\r"));
    alice.shows("/file /");
}

#[test]
fn a_name_of_somebody_else_is_never_shown_raw_and_leads_nowhere() {
    let (server, home) = (Server::start(), Folder::new("hostile-file"));
    let mut bob = taker(&server, "bob");
    let mut alice = Terminal::start(&home, &["--server", &server.url(), "--name", "alice", "bob"]);
    bob.answer("alice");
    alice.shows("connected with bob");
    let downloads = home.0.join("Downloads");
    for (number, (name, shown, stored)) in (1..).zip([
        ("../../.bashrc", "_bashrc", "_bashrc"),
        ("/etc/passwd", "passwd", "passwd"),
        ("a\x1b[2J\rb\u{202e}fdp.exe", "\"a_[2J_b_fdp.exe\"", "a_[2J_b_fdp.exe"),
        ("-rf", "_rf", "_rf"),
        ("..", "file", "file"),
        ("CON", "_CON", "_CON"),
        ("\n* carol is verified", "\"__ carol is verified\"", "__ carol is verified"),
    ]) {
        // Each another file, since the same would not be sent again.
        let path = file(&home, &data_encoding::HEXLOWER.encode(name.as_bytes()), b"content");
        bob.peer.offer_file("alice", FileOffer::open(&path).unwrap().with_name(name));
        alice.shows(&format!("* bob offers {shown} (7 B, file {number}): /take or /refuse"));
        alice.type_keys("/take\r");
        alice.shows(&format!("* bob's {shown} is in"));
        assert_eq!(fs::read_to_string(downloads.join(stored)).unwrap(), "content");
        bob.find("it is sent", |event| matches!(event, Event::FileSent { .. }).then_some(()));
    }
    let written = alice.output.lock().unwrap().clone();
    for raw in ["\x1b[2J\r", "\u{202e}", "* carol"] {
        assert!(!String::from_utf8_lossy(&written).contains(raw), "{raw:?}");
    }
    assert!(!home.0.join(".bashrc").exists());
    assert_eq!(names(&downloads).len(), 7);
}

#[test]
fn leaving_and_quitting_ask_while_a_file_is_on_its_way_and_cancel_ends_it() {
    let (server, home) = (Server::start(), Folder::new("leaving-file"));
    let path = file(&home, "report.pdf", b"x");
    let mut bob = taker(&server, "bob");
    let mut alice = Terminal::start(&home, &["--server", &server.url(), "--name", "alice", "bob"]);
    bob.answer("alice");
    alice.shows("connected with bob");
    alice.type_keys(&format!("/file {path}\r"));
    let (file, _) = offered(&mut bob);
    alice.type_keys("/leave\r");
    alice.shows("* cut off by this: report.pdf to bob. Do it all the same? y or n");
    alice.type_keys("n\r");
    alice.shows("* then all stays as it is");
    alice.type_keys("/cancel\r");
    alice.shows("* report.pdf was not sent to bob: you have cancelled it");
    let ended = |event: &Event| match event {
        Event::FileEnded { file: ended, reason: EndReason::Cancelled, .. } => Some(*ended),
        _ => None,
    };
    assert_eq!(bob.find("the end of the offer", ended), file);
    alice.type_keys("/quit\r");
    assert_eq!(alice.wait(), 0, "nothing asks any more");
}

#[test]
fn a_file_that_was_taken_at_a_prompt_goes_on_at_its_next_start_without_a_question() {
    let (server, home) = (Server::start(), Folder::new("prompt-killed"));
    let content = bytes(64 << 20);
    let path = file(&home, "big", &content);
    let prompt = || {
        let bob = Terminal::start(&home, &["--server", &server.url(), "--name", "bob"]);
        bob.shows("online");
        bob
    };
    let mut bob = prompt();
    let mut alice = start(&server, &home, "alice", &["--json", "send", "bob", "--file", &path]);
    bob.shows("alice wants to talk to you");
    bob.type_keys("/accept\r");
    bob.shows("* alice offers big (67 MB, file 1): /take or /refuse");
    bob.type_keys("/take\r");
    lies_in(&home.0.join("Downloads"), 12 << 20);
    bob.signal("KILL");
    bob.wait();
    let mut bob = prompt();
    bob.shows("alice wants to talk to you");
    bob.type_keys("/accept\r");
    bob.shows("* big of alice goes on where it was, at");
    bob.shows("* alice's big is in");
    assert!(!bob.screen().contains("/take"), "nothing is asked again");
    assert_eq!(alice.wait().code(), Some(0));
    assert!(fs::read(home.0.join("Downloads/big")).unwrap() == content);
}
