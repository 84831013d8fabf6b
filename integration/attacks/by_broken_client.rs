//! Broken and slow clients on real sockets: heads, frames, pings and ends that are not as they ought to be. After each,
//! a fresh pair still gets through, and no connection, name or memory is left over.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use tungstenite::Message;

use crate::attacked_server::AttackedServer;
use crate::websocket::{close_code, frame, rest, upgrade};
use crate::world::{SOON, until};

/// Goal: confuse the server about where a request's head ends.
#[test]
fn a_head_may_come_byte_by_byte_or_with_everything_behind_it() {
    let attacked = AttackedServer::new(&[]);
    let mut slow = attacked.raw();
    for byte in upgrade("slow").bytes() {
        slow.write_all(&[byte]).unwrap();
    }
    let mut buffer = [0; 12];
    slow.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"HTTP/1.1 101");
    let mut all = upgrade("all").into_bytes();
    for _ in 0..50 {
        all.extend(frame(0x81, br#"{"type":"session:create"}"#));
    }
    let mut stream = attacked.raw();
    stream.write_all(&all).unwrap();
    let mut answer: Vec<u8> = Vec::new();
    while answer.windows(15).filter(|window| window == b"session:created").count() < 50 {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        answer.extend(&buffer[..length]);
    }
    attacked.is_well();
}

/// Goal: hold connections and memory with request heads that never end.
#[test]
fn a_head_that_does_not_end_is_refused_in_time_and_size() {
    let attacked = AttackedServer::new(&[]);
    let mut slow: Vec<TcpStream> = (0..50).map(|_| attacked.raw()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /ws?username=slow HTTP/1.1\r\n").unwrap();
    }
    let mut long = attacked.raw();
    long.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let _ = long.write_all("X: y\r\n".repeat(5000).as_bytes());
    assert!(rest(&mut long).starts_with(b"HTTP/1.1 431 "));
    let mut none = attacked.raw();
    none.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    assert!(rest(&mut none).starts_with(b"HTTP/1.1 400 "));
    for stream in &mut slow {
        assert!(rest(stream).starts_with(b"HTTP/1.1 408 "));
    }
    attacked.is_well();
}

/// Goal: bring the server out of step by frames that are against the rules.
/// RFC 6455, sections 5 to 7: each violation, and the close code that it calls for.
#[test]
fn each_violation_of_the_websocket_protocol_has_its_close_code() {
    let attacked = AttackedServer::new(&[]);
    let too_long = vec![b'x'; 64 * 1024 + 1];
    let half_euro = [b'x', 0xe2, 0x82];
    let unmasked = vec![0x81, 0x01, b'x'];
    let huge = [&[0x81, 0xff][..], &(1u64 << 63).to_be_bytes(), &[0; 4]].concat();
    let largest = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let rows: [(&str, Vec<u8>, u16); 28] = [
        ("5.1 an unmasked frame", unmasked, 1002),
        ("5.2 RSV1", frame(0xc1, b"x"), 1002),
        ("5.2 RSV2", frame(0xa1, b"x"), 1002),
        ("5.2 RSV3", frame(0x91, b"x"), 1002),
        ("5.2 opcode 3", frame(0x83, b"x"), 1002),
        ("5.2 opcode 7", frame(0x87, b"x"), 1002),
        ("5.2 opcode 11", frame(0x8b, b"x"), 1002),
        ("5.2 opcode 15", frame(0x8f, b"x"), 1002),
        ("5.2 a length of 2^63", huge, 1009),
        ("5.2 a length of 2^64 - 1", largest, 1009),
        ("5.4 a continuation of nothing", frame(0x80, b"x"), 1002),
        ("5.4 a middle of nothing", frame(0x00, b"x"), 1002),
        ("5.4 a text within a text", [frame(0x01, b"x"), frame(0x81, b"y")].concat(), 1002),
        ("5.4 a binary within a text", [frame(0x01, b"x"), frame(0x02, b"y")].concat(), 1002),
        ("5.5 a fragmented ping", frame(0x09, b"x"), 1002),
        ("5.5 a fragmented pong", frame(0x0a, b"x"), 1002),
        ("5.5 a fragmented close", frame(0x08, b""), 1002),
        ("5.5 a ping of 126 bytes", frame(0x89, &[b'x'; 126]), 1002),
        ("5.5 a close of 126 bytes", frame(0x88, &[b'x'; 126]), 1002),
        ("5.5.1 a close of one byte", frame(0x88, b"x"), 1002),
        ("5.5.1 a reason that is not UTF-8", frame(0x88, &[0x03, 0xe8, 0xff]), 1007),
        ("7.4.1 a close code that may not be sent", frame(0x88, &1005u16.to_be_bytes()), 1002),
        ("7.4.2 a close code that is none", frame(0x88, &99u16.to_be_bytes()), 1002),
        ("8.1 a text that is not UTF-8", frame(0x81, b"\xc0\xaf"), 1007),
        ("8.1 half a character at the end", frame(0x81, &half_euro), 1007),
        ("8.1 not UTF-8 in a fragment", [frame(0x01, b"\xff"), frame(0x80, b"x")].concat(), 1007),
        ("a message over 64 KiB", frame(0x81, &too_long), 1009),
        ("fragments over 64 KiB", [frame(0x01, &too_long[..40_000]), frame(0x80, &too_long[..40_000])].concat(), 1009),
    ];
    for (name, bytes, code) in rows {
        let mut stream = attacked.upgraded("breaker");
        let _ = stream.write_all(&bytes);
        let answer = rest(&mut stream);
        assert_eq!(close_code(&answer), Some(code), "{name}: {answer:?}");
    }
    for (name, bytes) in [
        ("5.4 a character split between fragments", [frame(0x01, &half_euro), frame(0x80, &[0xac])].concat()),
        ("5.4 a ping between fragments", [frame(0x01, b"x"), frame(0x89, b""), frame(0x80, b"y")].concat()),
        ("5.4 empty fragments", [frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")].concat()),
        ("a message of 64 KiB", frame(0x81, &too_long[1..])),
    ] {
        let mut stream = attacked.upgraded("keeper");
        stream.write_all(&bytes).unwrap();
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        let answer = String::from_utf8_lossy(&buffer[..length]);
        assert!(answer.contains("INVALID_MESSAGE") || answer.starts_with('\u{fffd}'), "{name}: {answer}");
        stream.write_all(&frame(0x88, &1000u16.to_be_bytes())).unwrap();
        let answer = rest(&mut stream);
        assert_eq!(close_code(&answer), Some(1000), "{name}: {answer:?}");
    }
    attacked.is_well();
}

/// Goal: hold a name and a place for ever without being there.
#[test]
fn a_client_without_a_sign_of_life_is_cut_and_one_that_answers_pings_is_not() {
    let attacked = AttackedServer::new(&[("PING_INTERVAL", "100ms")]);
    let started = Instant::now();
    let mut dead = attacked.upgraded("dead");
    let mut alive = attacked.server.client("alive");
    alive.socket.get_ref().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut pings = 0;
    while started.elapsed() < Duration::from_secs(1) {
        match alive.socket.read() {
            Ok(Message::Ping(_)) => pings += 1,
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("{other:?}"),
        }
        let _ = alive.socket.flush();
    }
    assert!(pings >= 5, "{pings} pings in a second");
    assert_eq!(close_code(&rest(&mut dead)), Some(1008));
    attacked.is_well();
}

/// Goal: fill the server's memory with what others send, by not reading it.
#[test]
fn who_does_not_read_is_cut_and_whoever_sent_to_it_is_told() {
    let attacked = AttackedServer::new(&[("RATE_LIMITS", "off")]);
    let deaf = attacked.upgraded("deaf");
    let mut alice = attacked.server.client("alice");
    let text = json!({"type": "signal:ice", "target": "deaf", "payload": "x".repeat(60_000)}).to_string();
    alice.socket.get_ref().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let failed = until("the flood fails", || {
        alice.send(text.as_str());
        alice.socket.read().ok()
    });
    let failed: serde_json::Value = serde_json::from_str(failed.to_text().unwrap()).unwrap();
    assert_eq!((&failed["payload"]["code"], &failed["payload"]["target"]), (&json!("RELAY_FAILED"), &json!("deaf")));
    drop(deaf);
    attacked.is_well();
}

/// Goal: lose messages by reading slowly, which must not come about.
#[test]
fn who_reads_late_gets_all_of_it() {
    let attacked = AttackedServer::new(&[("RATE_LIMITS", "off"), ("METRICS", "loopback")]);
    let mut late = attacked.upgraded("late");
    let mut alice = attacked.server.client("alice");
    let payload = "x".repeat(60_000);
    let text = json!({"type": "signal:ice", "target": "late", "payload": payload}).to_string();
    // What the server has written, but for the metrics themselves.
    let mut asked = 0;
    let (before, forwarded) = counts(&attacked, &mut asked);
    let mut sent = 0;
    // More and more, until the system takes no more of it. Then some waits in the server, and not enough to be cut for.
    loop {
        alice.send(text.as_str());
        sent += 1;
        until("it is queued", || (counts(&attacked, &mut asked).1 == forwarded + sent).then_some(()));
        // The turn that has queued it is over now, and with it all writing.
        let (written, _) = counts(&attacked, &mut asked);
        if written - before < sent * payload.len() {
            break;
        }
    }
    late.set_read_timeout(Some(SOON)).unwrap();
    for _ in 0..sent {
        let mut header = [0; 4];
        late.read_exact(&mut header).unwrap();
        let mut message = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]]))];
        late.read_exact(&mut message).unwrap();
        assert!(String::from_utf8(message).unwrap().ends_with(&format!("{payload}\"}}")));
    }
    attacked.is_well();
}

/// The bytes that the server has written without its metrics, and the messages that it has forwarded.
fn counts(attacked: &AttackedServer, asked: &mut usize) -> (usize, usize) {
    let mut stream = attacked.raw();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let text = String::from_utf8(rest(&mut stream)).unwrap();
    let number = |name: &str| -> usize {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
        line.trim().parse().unwrap()
    };
    let written = number("lowkey_sent_bytes_total ") - *asked;
    *asked += text.len();
    (written, number("lowkey_relays_total{type=\"signal:ice\"} "))
}

/// Goal: fill the server's memory with its own answers.
#[test]
fn who_pings_and_never_reads_is_cut() {
    let attacked = AttackedServer::new(&[("RATE_LIMITS", "off")]);
    let mut deaf = attacked.upgraded("deaf");
    let pings = frame(0x89, &[b'x'; 125]).repeat(100);
    deaf.set_write_timeout(Some(SOON)).unwrap();
    until("it is cut", || deaf.write_all(&pings).is_err().then_some(()));
    drop(deaf);
    attacked.is_well();
}

/// Goal: leave half a connection behind, whose end stands behind more bytes than one read takes.
#[test]
fn an_end_behind_more_than_one_read_is_seen() {
    let mut attacked = AttackedServer::new(&[]);
    let mut half = attacked.upgraded("half_open");
    // All of it is there before the server looks: more than it reads at once, and the end.
    attacked.server.program.signal("STOP");
    half.write_all(&frame(0x89, b"x").repeat(6000)).unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    attacked.server.program.signal("CONT");
    half.set_read_timeout(Some(SOON)).unwrap();
    rest(&mut half);
    attacked.server.program.signal("USR1");
    let line = attacked.server.program.stderr.find(" users, ");
    assert!(line.contains(" 0 users"), "{line}");
}

/// Goal: not hear of one's own end, by a buffer that is full.
#[test]
fn a_close_reaches_a_client_whose_buffer_is_full() {
    let attacked = AttackedServer::new(&[("RATE_LIMITS", "off")]);
    let mut deaf = attacked.upgraded("deaf");
    let mut alice = attacked.server.client("alice");
    let text = json!({"type": "signal:ice", "target": "deaf", "payload": "x".repeat(60_000)}).to_string();
    alice.socket.get_ref().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    until("the flood fails", || {
        alice.send(text.as_str());
        alice.socket.read().ok()
    });
    // It begins to read just in time: all that was queued, and the close frame at its end.
    assert_eq!(close_code(&rest(&mut deaf)), Some(1008));
    attacked.is_well();
}
