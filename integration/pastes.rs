//! What is pasted at the prompt: one line or many, too much, without an end, and where the program has ended meanwhile.

use crate::prompt::in_shell;
use crate::window::chat;
use crate::world::{Folder, Server};

#[test]
fn what_is_left_of_a_paste_is_not_run_by_the_shell() {
    let server = Server::start();
    let home = Folder::new("left-of-a-paste");
    let mut terminal = in_shell(&server, &home);
    // Pasted where the terminal marks no pastes: the rest of it comes when the program has ended already.
    terminal.type_keys("/quit\rtouch made-by-shell\r");
    terminal.type_keys("touch made-by-shell\r");
    terminal.last_line("shell$");
    terminal.type_keys("echo it is $((6 * 7))\r");
    terminal.shows("it is 42");
    assert!(!home.0.join("made-by-shell").exists());
}

#[test]
fn a_paste_without_an_end_does_not_lock_the_keyboard() {
    let server = Server::start();
    let home = Folder::new("endless-paste");
    let (mut terminal, mut bob) = chat(&server, &home);
    terminal.type_keys("\x1b[200~half a paste");
    terminal.shows("the paste has no end");
    terminal.last_line("bob> half a paste");
    terminal.type_keys(" and more\r");
    assert_eq!(bob.message().1, "half a paste and more");
    terminal.type_keys("\x1b[200~never sent");
    terminal.type_keys("\x03");
    terminal.shows("the paste is given up");
    terminal.type_keys("typed\r");
    assert_eq!(bob.message().1, "typed");
}

#[test]
fn one_line_that_is_pasted_with_its_end_waits_for_enter() {
    let server = Server::start();
    let home = Folder::new("one-line");
    let (mut terminal, mut bob) = chat(&server, &home);
    for end in ["", "\r", "\n", "\r\n"] {
        terminal.type_keys(&format!("\x1b[200~a line{end}\x1b[201~"));
        terminal.last_line("bob> a line");
        terminal.type_keys("\r");
        assert_eq!(bob.message().1, "a line");
        terminal.last_line("bob>");
    }
    assert!(!terminal.screen().contains("as one text"));
}

#[test]
fn a_paste_that_is_too_long_is_said_before_the_question() {
    let server = Server::start();
    let home = Folder::new("long-paste");
    let (mut terminal, mut bob) = chat(&server, &home);
    let long = "a line of a file\r".repeat(20_000);
    terminal.type_keys(&format!("\x1b[200~{long}\x1b[201~"));
    terminal.shows("the paste is too long: it has 340000 bytes, and a text at most 196547");
    assert!(!terminal.screen().contains("as one text"));
    let fits = "a line of a file\r".repeat(10_000);
    terminal.type_keys(&format!("\x1b[200~{fits}\x1b[201~\r"));
    terminal.shows("send these 10000 lines to bob as one text? y or n");
    terminal.type_keys("y\r");
    assert_eq!(bob.message().1, fits.trim_end().replace('\r', "\n"));
}
