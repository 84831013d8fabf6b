//! Each option of `lowkey` that no other file tries, by what it does; the tests have their names.

use std::net::UdpSocket;

use crate::old_app::OldApp;
use crate::world::{Program, SOON, Server};

/// Waits until a call sends a STUN message of this kind (RFC 8489, section 5) to a server given by `option`.
fn asked(option: &str, user: &str, kind: u16) {
    let server = Server::start();
    let _bot = server.bot();
    let stun = UdpSocket::bind("127.0.0.1:0").unwrap();
    stun.set_read_timeout(Some(SOON)).unwrap();
    let (url, address) = (server.url(), format!("{user}{}", stun.local_addr().unwrap()));
    let _alice = Program::start("lowkey", &["--server", &url, "--name", "alice", option, &address, "echo"], &[]);
    let mut message = [0; 2048];
    while u16::from_be_bytes([message[0], message[1]]) != kind {
        stun.recv_from(&mut message).expect("the server is asked");
    }
}

#[test]
fn the_option_stun_asks_that_server_in_a_call() {
    let binding = 0x0001;
    asked("--stun", "", binding);
}

#[test]
fn the_option_turn_asks_that_server_in_a_call() {
    // RFC 8656.
    let allocate = 0x0003;
    asked("--turn", "user:secret@", allocate);
}

#[test]
fn the_option_text_format_chooses_how_the_first_text_is_written() {
    let server = Server::start();
    for (name, format, is_json) in [("alice", "v1", false), ("carol", "v2", true)] {
        let mut alice = None;
        let call = || {
            let arguments = ["--server", &server.url(), "--name", name, "--old-apps", "--text-format", format, "old"];
            alice = Some(Program::start("lowkey", &arguments, &[]));
        };
        let mut app = OldApp::answer(&server, "old", call, || {});
        alice.as_mut().unwrap().write("hello");
        let text = app.raw_text(SOON).unwrap();
        assert_eq!(text.starts_with('{'), is_json, "{text}");
    }
}
