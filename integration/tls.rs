//! `wss`: a TLS terminator of the test's own in front of the server, as nginx is one.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use rustls::pki_types::PrivateKeyDer;

use crate::tls_terminator::{terminating, terminator};
use crate::world::{Folder, Program, Server};

/// What answers every connection on a free port with these bytes, and hangs up; the port.
fn answering(bytes: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            // What has come is read before, or the answer would be lost with a reset.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(bytes.as_bytes());
        }
    });
    port
}

/// A certificate for these names on a free port, and its text in PEM.
fn certified(parameters: rcgen::CertificateParams) -> (u16, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let port = terminating(certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()), String::new());
    (port, certificate.pem())
}

#[test]
fn whatever_listens_in_place_of_a_server_is_told_in_words_with_what_to_do() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let names = || rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let (mut authority, mut old, mut early) = (names(), names(), names());
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    early.not_before = rcgen::date_time_ymd(2090, 1, 1);
    early.not_after = rcgen::date_time_ymd(2099, 1, 1);
    let (untrusted, _) = certified(names());
    let folder = Folder::new("listening");
    let trusted = |parameters: rcgen::CertificateParams, name: &str| {
        let (port, text) = certified(parameters);
        let file = folder.0.join(name);
        std::fs::write(&file, text).unwrap();
        (port, file.to_str().unwrap().to_owned())
    };
    let other = rcgen::CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
    let tls = [
        (trusted(authority, "authority"), "make one without CA:TRUE, and name it by SSL_CERT_FILE=FILE"),
        (trusted(old, "old"), "has expired"),
        (trusted(early, "early"), "is not valid yet"),
        (trusted(other, "other"), "is for another name"),
        (
            (untrusted, String::new()),
            "whom this machine trusts; if the server is your own, name its certificate, or its issuer's, by \
             SSL_CERT_FILE=FILE",
        ),
    ];
    let tls = tls.map(|((port, file), words)| (format!("wss://localhost:{port}"), file, words));
    let unread = "SSL_CERT_FILE=/dev/zero: it is a pipe, a socket or a device, and no regular file";
    let unread = (format!("wss://localhost:{untrusted}"), "/dev/zero".to_owned(), unread);
    let plain = |bytes, words| (format!("ws://127.0.0.1:{}", answering(bytes)), String::new(), words);
    let mut cases = tls.to_vec();
    cases.extend([
        unread,
        (format!("ws://127.0.0.1:{closed}"), String::new(), "nothing listens there; is the server running"),
        ("ws://no-such-host.invalid:1".to_owned(), String::new(), "nobody knows that name"),
        (format!("ws://localhost:{untrusted}"), String::new(), "reached by wss://"),
        plain("", "hangs up: it is no chat server"),
        plain("SSH-2.0-OpenSSH_9.2\r\n", "is no chat server"),
        plain("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "a web server answers there, and no chat server"),
        plain("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "a web server answers there, and no chat server"),
        plain("HTTP/1.1 301 Moved\r\nlocation: https://new.example/\x1b[31m\r\n\r\n", "is no chat server"),
        plain(
            "HTTP/1.1 301 Moved\r\nlocation: https://new.example/\r\n\r\n",
            "is elsewhere, at \"https://new.example/\"",
        ),
        plain("HTTP/1.1 400 Bad Request\r\ncontent-length: 6\r\n\r\n<html>", "perhaps it wants TLS"),
        plain("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "give it as access_token"),
        plain("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", "the chat server behind it is away"),
        plain("HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nboom", "an error of its own (500): \"boom\"; ask"),
        plain("HTTP/1.1 101 Switching Protocols\r\n\r\n", "is no chat server"),
    ]);
    for (url, roots, words) in cases {
        let mut alice = Program::start(
            "lowkey",
            &["--server", &url, "--name", "alice"],
            &[("SSL_CERT_FILE", roots.as_str())][usize::from(roots.is_empty())..],
        );
        let line = alice.stderr.find("offline: ");
        assert!(line.contains(words), "{url}: {line}");
        for foreign in ["os error", "httparse", "andshake not", "CaUsed", "rustls", "invalid peer", "Error", "\u{1b}"] {
            assert!(!line.contains(foreign), "{url}: {line}");
        }
    }
}

/// Passes bytes on to a port of this machine, and after so many of what comes back something that is no TLS; the port.
fn spoiling(target: u16, after: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let back = TcpStream::connect(("127.0.0.1", target)).unwrap();
            let (mut there, mut here) = (back.try_clone().unwrap(), stream.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut here, &mut there));
            let _ = std::io::copy(&mut back.take(after), &mut stream);
            // More than any record of TLS holds.
            let _ = stream.write_all(&b"HTTP/1.1 400 Bad Request\r\n".repeat(1000));
        }
    });
    port
}

/// Goal: make somebody give up TLS, by what anybody on the way can do.
#[test]
fn what_is_changed_on_the_way_brings_nobody_to_give_up_tls() {
    let server = Server::start();
    let (port, certificate) = terminator(server.address.clone());
    let folder = Folder::new("changed");
    let file = folder.0.join("certificate.pem");
    std::fs::write(&file, certificate).unwrap();
    // Before anything, within a record, behind the server's first words, and where all but the last of them have come.
    for after in [0, 3, 127, 140, 200, 300, 400] {
        let url = format!("wss://localhost:{}", spoiling(port, after));
        let trust = [("SSL_CERT_FILE", file.to_str().unwrap())];
        let mut alice = Program::start("lowkey", &["--server", &url, "--name", "alice"], &trust);
        let line = alice.stderr.find("offline: ");
        assert!(!line.contains("ws://") && !line.contains("without"), "after {after} bytes: {line}");
    }
}

#[test]
fn a_chat_goes_through_tls_and_an_unknown_certificate_is_refused() {
    let server = Server::start();
    let (port, certificate) = terminator(server.address.clone());
    let folder = Folder::new("tls");
    let file = folder.0.join("certificate.pem");
    std::fs::write(&file, certificate).unwrap();
    let url = format!("wss://localhost:{port}");
    // The system's roots are taken from where this variable says, as OpenSSL's users know it.
    let trust = [("SSL_CERT_FILE", file.to_str().unwrap())];
    let mut bot = Program::start("lowkey-bot", &["--server", &url], &trust);
    bot.stderr.find("online as echo");
    let mut alice = Program::start("lowkey", &["--server", &url, "--name", "alice", "echo"], &trust);
    alice.write("through TLS");
    assert_eq!(alice.stdout.next(), "echo: through TLS");
    let mut doubter = Program::start("lowkey-bot", &["--server", &url, "--name", "doubter"], &[]);
    let line = doubter.stderr.find("offline: ");
    assert!(line.contains("certificate"), "{line}");
}

#[test]
fn a_server_without_tls_and_a_taken_name_are_told_in_words() {
    let server = Server::start();
    let url = format!("wss://{}", server.address);
    let mut bot = Program::start("lowkey-bot", &["--server", &url], &[]);
    bot.stderr.find("what comes from there is no TLS: is the port right, and does the server have TLS?");
    let url = format!("ws://{}", server.address);
    let (mine, yours) = (Folder::new("mine"), Folder::new("yours"));
    let start = |folder: &Folder| {
        let home = [("XDG_CONFIG_HOME", folder.0.to_str().unwrap())];
        Program::start("lowkey", &["--server", &url, "--name", "alice"], &home)
    };
    let mut first = start(&mine);
    first.stderr.find("online");
    start(&yours).stderr.find("the name is taken by somebody else; --name chooses another one");
}
