//! A server that is reached by a SOCKS5 proxy, and what peers then see of the user.

use std::net::{TcpListener, UdpSocket};

use data_encoding::BASE64;
use lowkey::peer::{CloseReason, Event};
use serde_json::json;

use crate::socks_proxy::{Proxy, take};
use crate::tls_terminator::terminator;
use crate::world::{Client, Folder, Program, Server};

#[test]
fn the_server_is_reached_by_the_proxy_which_looks_its_name_up() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let port = server.address.rsplit_once(':').unwrap().1;
    for (name, login) in [("alice", None), ("carol", Some(("alice", "hunter2")))] {
        let proxy = Proxy::start(login);
        // A name that nobody else could look up.
        let url = format!("ws://chat.invalid:{port}");
        let arguments = ["--server", &url, "--name", name, "--proxy", &proxy.url, "--direct", "bob"];
        let mut alice = Program::start("lowkey", &arguments, &[]);
        bob.answer(name);
        alice.write("through the proxy");
        assert_eq!(bob.message().1, "through the proxy");
        assert_eq!(proxy.asked.recv().unwrap(), format!("chat.invalid:{port}"));
        alice.write("/quit");
        bob.wait(&Event::Closed { peer: name.to_owned(), reason: CloseReason::PeerLeft });
        assert_eq!(alice.wait().code(), Some(0));
    }
}

#[test]
fn tls_goes_through_the_proxy_to_the_server() {
    let server = Server::start();
    let (port, certificate) = terminator(server.address.clone());
    let folder = Folder::new("proxy-tls");
    let file = folder.0.join("certificate.pem");
    std::fs::write(&file, certificate).unwrap();
    let proxy = Proxy::start(None);
    let url = format!("wss://localhost:{port}");
    let variables = [("SSL_CERT_FILE", file.to_str().unwrap()), ("LOWKEY_PROXY", &*proxy.url)];
    let mut bot = Program::start("lowkey-bot", &["--server", &url], &variables);
    bot.stderr.find("online as echo");
    assert_eq!(proxy.asked.recv().unwrap(), format!("localhost:{port}"));
}

#[test]
fn a_proxy_that_cannot_be_used_is_told_of_and_never_passed_by() {
    let server = Server::start();
    let (open, closed) = (Proxy::start(None), Proxy::start(Some(("alice", "hunter2"))));
    let wrong = closed.url.replace("hunter2", "hunter3");
    let unknown = closed.url.replace("alice:hunter2@", "");
    let nothing = server.url();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (proxy, url, reason) in [
        (format!("socks5://{free}"), &nothing, "cannot reach the proxy 127.0.0.1 port".to_owned()),
        (wrong, &nothing, "the proxy refuses: the user or the secret is wrong".to_owned()),
        (unknown, &nothing, "the proxy refuses: it wants to know a user and a secret".to_owned()),
        (open.url.clone(), &format!("ws://{free}"), "the proxy refuses: the server refuses the connection".to_owned()),
        (nothing.replace("ws:", "socks5:"), &nothing, "the proxy".to_owned()),
    ] {
        let mut bot = Program::start("lowkey-bot", &["--server", url, "--proxy", &proxy, "--direct"], &[]);
        let line = bot.stderr.find("offline: ");
        assert!(line.contains(&reason) && !line.contains("hunter"), "{proxy}: {line}");
    }
}

/// What peers and the server see of a user who calls somebody: up to an address, or to where the user has asked the
/// TURN server by the proxy, which is when any address of its own would have been sent.
fn signals(arguments: &[&str], shows_address: bool) -> String {
    let server = Server::start();
    let turn = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = format!("user:secret@{}?transport=tcp", turn.local_addr().unwrap());
    let mut bob = server.client("bob");
    let url = server.url();
    let mut all = vec!["--server", &*url, "--name", "alice", "--turn", &*relay];
    all.extend(arguments);
    all.push("bob");
    let mut alice = Program::start("lowkey", &all, &[]);
    while bob.json()["type"] != "key:exchange" {}
    // An old app, so that nothing is sealed.
    let key = json!({"publicKey": BASE64.encode(&[7; 32])});
    let answer = json!({"type": "key:exchange", "target": "alice", "payload": key}).to_string();
    bob.send(answer);
    alice.stderr.find("bob answers by an old app");
    alice.write("/accept bob");
    let mut seen = String::new();
    let mut find = |part: &str, bob: &mut Client| {
        while {
            let message = bob.text();
            seen += &message;
            !message.contains(part)
        } {}
    };
    if shows_address {
        find(" typ host", &mut bob);
        return seen;
    }
    find("signal:offer", &mut bob);
    let mut stream = turn.accept().unwrap().0;
    assert_eq!(take(&mut stream).unwrap(), [0, 3], "the TURN server is asked for a relay");
    drop(stream);
    alice.stderr.find("no connection came about: the TURN server");
    alice.write("/quit");
    alice.wait();
    // What the server has forwarded comes before its answer to this.
    bob.send(json!({"type": "session:create"}).to_string());
    find("session:created", &mut bob);
    seen
}

#[test]
fn a_proxied_user_shows_peers_no_address_unless_direct_is_asked_for() {
    let proxy = Proxy::start(None);
    signals(&[], true);
    signals(&["--proxy", &proxy.url, "--direct"], true);
    let seen = signals(&["--proxy", &proxy.url], false);
    assert!(!seen.contains(" typ "), "{seen}");
}

/// The goal: a server that offers STUN and TURN servers over UDP learns the address that the proxy hides from it.
#[test]
fn no_server_that_is_offered_is_reached_past_the_proxy() {
    let (udp, proxy) = (UdpSocket::bind("127.0.0.1:0").unwrap(), Proxy::start(None));
    let at = udp.local_addr().unwrap();
    // A name, too, would be looked up past the proxy; nobody but the proxy could find this one.
    let urls = format!("stun:{at},turn:{at},turn:turn.invalid:{}", at.port());
    let server = Server::start_with(&[("TURN_URLS", &urls), ("TURN_SECRET", "a-secret-of-sixteen-characters")]);
    let url = server.url();
    // It has no proxy, and leaves alone what is offered.
    let mut bot = Program::start("lowkey-bot", &["--server", &url, "--no-server-relays"], &[]);
    bot.stderr.find("online as echo");
    let start = |name: &str, more: &[&str]| {
        let all = [&["--server", &url, "--name", name, "--proxy", &proxy.url], more, &["echo"]].concat();
        Program::start("lowkey", &all, &[])
    };
    let mut alice = start("alice", &[]);
    alice.stderr.find("nothing goes past the proxy, and no TURN server is known that it leads to");
    // Peers may see the address of who says so; a server that offers something is not thereby told.
    let mut carol = start("carol", &["--direct"]);
    carol.stderr.find("connected with echo");
    let mut dave = start("dave", &["--direct", "--relay-only"]);
    dave.stderr.find("no TURN server is known");
    udp.set_nonblocking(true).unwrap();
    assert!(udp.recv_from(&mut [0; 2048]).is_err(), "somebody was asked past the proxy");
}

#[test]
fn a_turn_server_over_udp_is_refused_beside_a_proxy_and_the_ways_out_are_named() {
    let relay = "user:secret@127.0.0.1";
    for (more, is_refused) in [
        (&["--turn", relay][..], true),
        (&["--relay-only", "--turn", relay], true),
        (&["--turn", relay, "--turn", "turns:user:secret@127.0.0.1"], true),
        (&["--turn", relay, "--direct"], false),
        (&["--turn", "user:secret@127.0.0.1?transport=tcp"], false),
    ] {
        for program in ["lowkey", "lowkey-bot"] {
            let arguments = [&["--name", "alice", "--proxy", "socks5://127.0.0.1:1"], more].concat();
            let mut program = Program::start(program, &arguments, &[]);
            if is_refused {
                assert_ne!(program.wait().code(), Some(0));
                let said = program.stderr.find("TURN");
                assert!(["?transport=tcp", "turns:", "--direct"].iter().all(|way| said.contains(way)), "{said}");
            } else {
                program.stderr.find("offline: ");
            }
        }
    }
}

#[test]
fn a_relay_over_tcp_or_tls_is_reached_by_the_proxy_which_looks_its_name_up() {
    let (server, proxy) = (Server::start(), Proxy::start(None));
    let _bot = server.bot();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let start = |name: &str, by: &str| {
        let url = server.url();
        let all = ["--server", &url, "--name", name, "--proxy", &proxy.url, "--turn", by, "echo"];
        Program::start("lowkey", &all, &[])
    };
    // A name that nobody else could look up; and what comes first: an Allocate request, or a TLS record with a
    // handshake in it.
    let over_tcp = format!("user:secret@turn.invalid:{port}?transport=tcp");
    let over_tls = format!("turns:user:secret@turn.invalid:{port}");
    for (name, by, first) in [("alice", &over_tcp, [0, 3]), ("carol", &over_tls, [22, 3])] {
        let mut caller = start(name, by);
        assert!(proxy.asked.recv().unwrap().starts_with("127.0.0.1:"), "the server");
        assert_eq!(proxy.asked.recv().unwrap(), format!("turn.invalid:{port}"));
        let mut stream = tcp.accept().unwrap().0;
        assert_eq!(take(&mut stream).unwrap(), first);
        drop(stream);
        caller.stderr.find("no connection came about: the TURN server");
    }
    // A proxy that does not lead there is told of, too.
    drop(tcp);
    start("dave", &over_tcp).stderr.find("the TURN server cannot be reached by the proxy");
}

#[test]
fn a_proxied_user_without_any_relay_is_told_to_name_one() {
    let start = |more: &[&str]| {
        let arguments = [&["--name", "alice", "--proxy", "socks5://127.0.0.1:1", "--no-server-relays"], more].concat();
        Program::start("lowkey", &arguments, &[])
    };
    let mut alice = start(&[]);
    assert_eq!(alice.wait().code(), Some(2));
    alice.stderr.find("--proxy without --direct with --no-server-relays needs a TURN server: name one with --turn");
    start(&["--direct"]).stderr.find("offline: ");
    start(&["--turn", "turns:user:secret@127.0.0.1"]).stderr.find("offline: ");
}
