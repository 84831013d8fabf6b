//! Descriptions and candidates as others write them, and ours in answer: each with the real WebRTC, up to a text in
//! both directions, or to the word that there will be none.

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use lowkey::peer::Unfit;
use lowkey::peer::{CloseReason, Event};
use serde_json::json;

use crate::old_app::OldApp;
use crate::world::Server;

type Rewrite = fn(String) -> String;

/// The lines of a description with these put in the place of those that begin with one of `starts`.
fn instead(sdp: &str, starts: &[&str], lines: &[&str]) -> String {
    let kept = sdp.lines().filter(|line| !starts.iter().any(|start| line.starts_with(start)));
    kept.chain(lines.iter().copied()).flat_map(|line| [line, "\r\n"]).collect()
}

/// The digits of the certificate's fingerprint in a description.
fn digits(sdp: &str) -> String {
    sdp.lines().find_map(|line| line.strip_prefix("a=fingerprint:sha-256 ")).unwrap().to_owned()
}

/// How others describe a data channel, as the crate by itself did not take it, or answered to its own loss.
const FIT: &[(&str, Rewrite)] = &[
    ("with a bad candidate", |sdp| instead(&sdp, &[], &["a=candidate:bad", "a=candidate:"])),
    ("with a host name", |sdp| instead(&sdp, &[], &["a=candidate:1 1 udp 1 host.example 9 typ host"])),
    ("with a zone", |sdp| instead(&sdp, &[], &["a=candidate:1 1 udp 1 fe80::1%eth0 9 typ host"])),
    ("with an unknown type", |sdp| instead(&sdp, &[], &["a=candidate:1 1 udp 1 192.0.2.1 9 typ wormhole"])),
    ("with fingerprints of other hashes in front", |sdp| {
        let ours = format!("a=fingerprint:sha-256 {}", digits(&sdp));
        let long = format!("a=fingerprint:sha-512 {}", vec!["AB"; 64].join(":"));
        instead(&sdp, &["a=fingerprint"], &[&long, "a=fingerprint:sha-1 AB:CD", &ours])
    }),
    ("with its fingerprint in another case", |sdp| {
        let ours = format!("a=fingerprint:SHA-256 {}", digits(&sdp).to_lowercase());
        instead(&sdp, &["a=fingerprint"], &[&ours, &ours])
    }),
    ("without names", |sdp| instead(&sdp, &["a=mid", "a=group"], &[])),
    ("without a bundle", |sdp| instead(&sdp, &["a=group"], &[])),
    ("without a session's name and origin", |sdp| instead(&sdp, &["s=", "o=", "t=", "c="], &[])),
    ("with lines that nobody knows", |sdp| instead(&sdp, &[], &["y=1", "nonsense", "a=unheard-of:1", "b=X:y", "k=?"])),
    ("with bare line feeds", |sdp| sdp.replace("\r\n", "\n")),
    ("without a setup", |sdp| instead(&sdp, &["a=setup"], &[])),
    ("without a size", |sdp| instead(&sdp, &["a=max-message-size"], &[])),
];

/// What only an offer may say.
const FIT_OFFERS: &[(&str, Rewrite)] = &[
    ("whose author begins", |sdp| instead(&sdp, &["a=setup"], &["a=setup:active"])),
    ("whose author waits", |sdp| instead(&sdp, &["a=setup"], &["a=setup:passive"])),
];

/// What cannot be made a connection of, and why.
const UNFIT: &[(&str, Rewrite, Unfit)] = &[
    ("of sha-512 alone", |sdp| sdp.replace("sha-256", "sha-512"), Unfit::Hash),
    ("of no certificate", |sdp| instead(&sdp, &["a=fingerprint"], &[]), Unfit::NoFingerprint),
    (
        "of two",
        |sdp| {
            let ours = format!("a=fingerprint:sha-256 {}", digits(&sdp));
            let other = format!("a=fingerprint:sha-256 {}", vec!["AB"; 32].join(":"));
            instead(&sdp, &["a=fingerprint"], &[&ours, &other])
        },
        Unfit::SeveralFingerprints,
    ),
    ("without a user", |sdp| instead(&sdp, &["a=ice-ufrag"], &[]), Unfit::Credentials),
    (
        "with a long user",
        |sdp| instead(&sdp, &["a=ice-ufrag"], &[&format!("a=ice-ufrag:{}", "x".repeat(480))]),
        Unfit::Credentials,
    ),
    (
        "of sound",
        |sdp| sdp.replace("application 9 UDP/DTLS/SCTP webrtc-datachannel", "audio 9 UDP/TLS/RTP/SAVPF 0"),
        Unfit::NoChannel,
    ),
    ("that is refused", |sdp| sdp.replace("application 9", "application 0"), Unfit::NoChannel),
    ("that is none", |_| "hello".to_owned(), Unfit::Unreadable),
];

#[test]
fn offers_of_others_are_answered_and_open_a_chat() {
    let server = Server::start();
    let _bot = server.bot();
    for (number, (what, rewrite)) in FIT.iter().chain(FIT_OFFERS).enumerate() {
        println!("an offer {what}");
        let mut app = OldApp::online(&server, &format!("app{number}"));
        app.rewrite = Box::new(rewrite);
        app.connect("echo");
        app.send_key();
        app.meet_consent();
        app.send("hello");
        assert_eq!(app.text(), "hello", "{what}");
    }
}

#[test]
fn answers_of_others_open_a_chat() {
    let server = Server::start();
    let mut alice = server.peer("alice");
    for (number, (what, rewrite)) in FIT.iter().enumerate() {
        println!("an answer {what}");
        let name = format!("app{number}");
        let mut app = OldApp::online(&server, &name);
        app.rewrite = Box::new(rewrite);
        alice.peer.call(&name);
        app.take_call(|| alice.talk_to_app(&name));
        alice.wait(&Event::Open { peer: name.clone() });
        app.send("hello");
        assert_eq!(alice.message(), (name.clone(), "hello".to_owned()), "{what}");
        alice.peer.send(&name, "and back");
        assert_eq!(app.text(), "and back", "{what}");
    }
}

#[test]
fn what_cannot_be_answered_is_declined_at_once_and_both_users_are_told() {
    let server = Server::start();
    let mut alice = server.peer("alice");
    for (number, (what, rewrite, unfit)) in UNFIT.iter().enumerate() {
        for is_offer in [true, false] {
            println!("a description {what}, of the caller: {is_offer}");
            let name = format!("app{number}{is_offer}");
            let mut app = OldApp::online(&server, &name);
            app.rewrite = Box::new(rewrite);
            if is_offer {
                app.connect("alice");
                app.send_key();
                alice.asked_by(&name);
                alice.peer.accept(&name);
                app.await_key();
                app.offer();
            } else {
                alice.peer.call(&name);
                app.be_called();
                app.send_key();
                app.await_key();
                alice.talk_to_app(&name);
                app.accept_offer();
            }
            let asked = Instant::now();
            assert_eq!(app.find("session:decline")["payload"], json!({"refused": "description"}), "{what}");
            let reason = CloseReason::BadDescription(*unfit);
            assert!(reason.to_string().contains("cannot be answered: "));
            alice.wait(&Event::Closed { peer: name, reason });
            assert!(asked.elapsed() < Duration::from_secs(10), "not when the time for a call is up: {what}");
        }
    }
}

#[test]
fn who_is_not_understood_is_told_so() {
    let server = Server::start();
    let mut alice = server.peer("alice");
    let mut app = OldApp::online(&server, "app");
    alice.peer.call("app");
    app.be_called();
    app.send_key();
    app.await_key();
    alice.talk_to_app("app");
    app.find("signal:offer");
    app.signal("session:decline", &json!({"refused": "description"}));
    alice.wait(&Event::Closed { peer: "app".to_owned(), reason: CloseReason::NotUnderstood });
}

#[test]
fn what_we_promise_to_take_is_taken_whatever_the_other_side_takes() {
    let server = Server::start();
    let mut alice = server.peer("alice");
    let sizes: [(&str, Rewrite); 3] = [
        ("65536", |sdp| instead(&sdp, &["a=max-message-size"], &["a=max-message-size:65536"])),
        ("none", |sdp| instead(&sdp, &["a=max-message-size"], &[])),
        ("1000", |sdp| instead(&sdp, &["a=max-message-size"], &["a=max-message-size:1000"])),
    ];
    for (name, rewrite) in sizes {
        let mut app = OldApp::online(&server, name);
        app.rewrite = Box::new(rewrite);
        alice.peer.call(name);
        app.take_call(|| alice.talk_to_app(name));
        alice.wait(&Event::Open { peer: name.to_owned() });
        // Sealed, these are 65,540 bytes and as many as we take.
        for length in [49_115, 196_568] {
            app.send(&"x".repeat(length));
            assert_eq!(alice.message().1.len(), length, "{name}");
        }
        // What the other side promises to take is kept, and told where it does not do.
        let id = alice.peer.send(name, &"x".repeat(49_113));
        let told = alice.find("what was not sent", |event| match event {
            Event::NotSent { id: of, reason, .. } if *of == id => Some(reason.to_string()),
            _ => None,
        });
        assert!(told.contains("longer than"), "{told}");
    }
}

#[test]
fn a_call_makes_nobody_ask_many_addresses_and_dial_none() {
    let server = Server::start();
    let _bot = server.bot();
    let sockets: Vec<UdpSocket> = (0..40).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let candidate = |number: usize, rest: &str| format!("candidate:{number} 1 {rest} typ host");
    let udp = |number: usize| {
        let port = sockets[number].local_addr().unwrap().port();
        candidate(number, &format!("udp 2130706431 127.0.0.1 {port}"))
    };
    let tcp = format!(
        "{} tcptype passive",
        candidate(1, &format!("tcp 2130706431 127.0.0.1 {}", listener.local_addr().unwrap().port()))
    );
    let described: Vec<String> =
        (0..20).map(|number| format!("a={}", udp(number))).chain([format!("a={tcp}")]).collect();
    let mut app = OldApp::online(&server, "app");
    app.rewrite =
        Box::new(move |sdp| instead(&sdp, &["a=candidate"], &described.iter().map(String::as_str).collect::<Vec<_>>()));
    app.connect("echo");
    app.send_key();
    app.await_key();
    app.offer();
    for candidate in (20..40).map(udp).chain([tcp]) {
        app.signal("signal:ice", &json!({"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0}));
    }
    // There is no room for its own any more, and it is found all the same, since it asks by itself.
    app.negotiate();
    app.send("hello");
    assert_eq!(app.text(), "hello");
    let is_asked = |socket: &&UdpSocket| {
        socket.set_nonblocking(true).unwrap();
        socket.recv(&mut [0; 2000]).is_ok()
    };
    assert!(sockets.iter().filter(is_asked).count() <= 32, "of 40 that were named");
    assert!(sockets[32..].iter().all(|socket| !is_asked(&socket)), "the first are taken");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nothing is dialled");
}
