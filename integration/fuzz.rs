//! A seeded generator against the head parser, the frame path, the hub and the guard: `make fuzz`. What fails is printed with the seed
//! of its case, and `FUZZ_SEED=… FUZZ_CASES=1 make fuzz` plays it again.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use lowkey::protocol::{Envelope, Text};
use lowkey::server::access::Access;
use lowkey::server::connection::{Connection, Event};
use lowkey::server::http::Endpoints;
use lowkey::server::hub::{ConnId, Departure, Hub, Output, Outputs};
use lowkey::server::limits::{Limits, Rate};
use lowkey::server::plain::Plain;
use uuid::Uuid;

use crate::sctp;

/// A small generator (xorshift64*): the same seed gives the same case everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    pub fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.below(256) as u8).collect()
    }
}

/// Runs as many cases as the environment asks for, each from a seed of its own.
fn cases(case: impl Fn(&mut Random)) {
    let number = |name, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let first: u64 = number("FUZZ_SEED", 0);
    for seed in first..first + number("FUZZ_CASES", 1_000_000) {
        let outcome = catch_unwind(AssertUnwindSafe(|| case(&mut Random::new(seed))));
        assert!(outcome.is_ok(), "failed: FUZZ_SEED={seed} FUZZ_CASES=1 make fuzz");
    }
}

fn head(random: &mut Random) -> Vec<u8> {
    let method = random.pick(&["GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "", "G\0T"]);
    let target =
        random.pick(&["/ws?username=bob", "/ws?username=%", "/ws?username=%00", "/ws", "/health", "/", "*", "//"]);
    let version = random.pick(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2", ""]);
    let mut head = format!("{method} {target} {version}\r\n").into_bytes();
    for _ in 0..random.below(9) {
        let line: &[u8] = random.pick(&[
            b"Connection: Upgrade\r\n".as_slice(),
            b"Upgrade: websocket\r\n",
            b"Sec-WebSocket-Version: 13\r\n",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            b"Origin: https://a.example\r\n",
            b"Lowkey-Token: x\r\n",
            b"X-Forwarded-For: 1.2.3.4, ::1\r\n",
            b"Authorization: Bearer x\r\n",
            b"X: \xff\xfe\r\n",
            b"\x00: y\r\n",
        ]);
        head.extend_from_slice(line);
    }
    head.extend_from_slice(random.pick(&[b"\r\n".as_slice(), b"\r\n", b"\n", b""]));
    head
}

const UPGRADE: &[u8] = b"GET /ws?username=bob HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn frames(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.below(6) {
        let opcode =
            random.pick(&[&0x81u8, &0x81, &0x01, &0x80, &0x00, &0x82, &0x89, &0x8a, &0x88, &0xc1, &0x8f, &0x83]);
        let length = *random.pick(&[&0usize, &1, &2, &5, &125, &126, &300, &70_000]);
        bytes.push(*opcode);
        let masked = if random.below(20) == 0 { 0 } else { 0x80 };
        match length {
            0..126 => bytes.push(masked | length as u8),
            126..0x1_0000 => {
                bytes.push(masked | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend((length as u64 | (random.below(2) as u64) << 63).to_be_bytes());
            }
        }
        if masked != 0 {
            bytes.extend([0; 4]);
        }
        let letter = if random.below(10) == 0 { 0xff } else { b'x' };
        bytes.extend(std::iter::repeat_n(letter, length));
    }
    bytes.extend(random.bytes(8));
    bytes
}

/// All that a connection makes of these pieces: its events, and what it says.
fn outcome<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Vec<u8>, bool) {
    let (limits, access) = (Limits::default(), Access::default());
    let mut connection = Connection::new(Endpoints { users: true, metrics: false });
    let mut events = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        loop {
            let mut rest = Vec::new();
            let mut input = &mut piece[..];
            while let Some(event) = connection.receive(&mut input, &limits, &access) {
                events.push(format!("{event:?}"));
                if matches!(event, Event::Upgrade(_)) {
                    rest = connection.accept();
                }
            }
            assert!(input.is_empty(), "all bytes are taken");
            if rest.is_empty() {
                break;
            }
            piece = rest;
        }
    }
    (events, connection.output().to_vec(), connection.is_closing())
}

fn same<T: PartialEq + Debug>(whole: &T, pieces: &T) {
    assert!(whole == pieces, "in one piece {whole:?}\nin pieces {pieces:?}");
}

#[test]
#[ignore = "a run of its own: make fuzz"]
fn any_bytes_mean_the_same_in_whatever_pieces_they_come() {
    cases(|random| {
        let mut bytes = if random.below(3) == 0 { head(random) } else { UPGRADE.to_vec() };
        bytes.extend(frames(random));
        if random.below(4) == 0 && !bytes.is_empty() {
            let place = random.below(bytes.len());
            bytes[place] ^= 1 << random.below(8);
        }
        let whole = outcome(std::iter::once(&bytes[..]));
        let mut cuts: Vec<usize> = (0..random.below(6)).map(|_| random.below(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        same(&whole, &outcome(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]])));
    });
}

#[test]
#[ignore = "a run of its own: make fuzz"]
fn any_messages_leave_the_hub_in_order() {
    const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];
    let ttl = Duration::from_secs(60);
    cases(|random| {
        let mut now = Instant::now();
        let few = Rate { amount: 1, per: Duration::from_secs(1), burst: 5 };
        let limits = Limits { strikes: few, sessions: 8, sessions_per_name: 3, reservations: 2, ..Limits::default() };
        let mut hub = Hub::new(ttl, limits, Uuid::new_v4);
        let mut online: Vec<(ConnId, &str)> = Vec::new();
        let mut next = 0;
        let mut session = Uuid::nil().to_string();
        for _ in 0..random.below(40) {
            let mut text;
            let outputs = match random.below(8) {
                0 => {
                    let conn = ConnId(next);
                    next += 1;
                    let token = *random.pick(&[&None, &Some("a"), &Some("b")]);
                    let name = random.pick(&NAMES);
                    match hub.connect(conn, name, token, now) {
                        Ok(outputs) => {
                            online.push((conn, name));
                            outputs
                        }
                        Err(_) => Outputs::new(),
                    }
                }
                1 if !online.is_empty() => {
                    let departure = *random.pick(&[&Departure::Left, &Departure::Lost]);
                    hub.disconnect(online.swap_remove(random.below(online.len())).0, departure, now);
                    Outputs::new()
                }
                2 => {
                    now += Duration::from_secs(random.below(40) as u64);
                    hub.tick(now);
                    assert!(hub.next_deadline().is_none_or(|deadline| deadline > now), "what is due is done");
                    Outputs::new()
                }
                _ => {
                    let conn = ConnId(random.below(next + 1));
                    let kind = random.pick(&[
                        "session:connect",
                        "session:create",
                        "session:join",
                        "session:accept",
                        "signal:ice",
                    ]);
                    let target = random.pick(&["alice", "bob", "nobody", "", "\\ud800"]);
                    text = match random.below(3) {
                        0 => format!(r#"{{"type":"{kind}","target":"{target}","payload":{{"sdpMLineIndex":0}}}}"#),
                        _ => format!(r#"{{"type":"{kind}","target":"{target}","sessionId":"{session}"}}"#),
                    };
                    if random.below(10) == 0 {
                        text.truncate(random.below(text.len()));
                    }
                    match random.below(12) {
                        0 => hub.receive_binary(conn, now),
                        1 => hub.receive_control(conn, now),
                        2 => hub.receive_bytes(conn, random.below(5 << 20), now),
                        _ => hub.receive(conn, &text, now),
                    }
                }
            };
            for output in outputs {
                match output {
                    Output::Send { to, text } => {
                        assert!(online.iter().any(|(conn, _)| *conn == to), "only who is online is told");
                        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
                        if let Some(id) = message["payload"]["sessionId"].as_str() {
                            session = id.to_owned();
                        }
                    }
                    Output::Relay { from, to, message } => {
                        let mut text = Vec::new();
                        message.write(&mut text);
                        let relayed: serde_json::Value = serde_json::from_slice(&text).unwrap();
                        let is_at =
                            |conn, field| online.iter().any(|(at, name)| *at == conn && relayed[field] == *name);
                        assert!(is_at(from, "sender") && is_at(to, "target"), "from whom it is, to whom it is for");
                        if random.below(2) == 0 {
                            hub.delivered(&message);
                        } else {
                            hub.undelivered(from, to, now);
                        }
                    }
                    Output::Close { conn, .. } => {
                        hub.disconnect(conn, Departure::Lost, now);
                        online.retain(|(other, _)| *other != conn);
                    }
                    other => panic!("{other:?}, without a cluster"),
                }
            }
            assert_eq!(hub.online(), online.len());
        }
        for (conn, _) in online {
            hub.disconnect(conn, Departure::Lost, now);
        }
        hub.tick(now + ttl + ttl);
        assert_eq!((hub.online(), hub.names(), hub.sessions()), (0, 0, 0), "nothing is left over");
    });
}

#[test]
#[ignore = "a run of its own: make fuzz"]
fn what_is_plain_is_the_same_to_serde() {
    const LETTERS: &[&str] = &[
        "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "1", "-", ".", "e", "null", "true", "\\n", "\\u00e9", " ", "\n",
        "ö",
    ];
    cases(|random| {
        let payload: String = (0..random.below(12)).map(|_| random.pick(LETTERS)).collect();
        let mut text = format!(r#"{{"type":"signal:ice","target":"bob","payload":{payload}}}"#);
        for _ in 0..random.below(3) {
            let at = random.below(text.len() + 1);
            if text.is_char_boundary(at) {
                text.insert_str(at, random.pick(LETTERS));
            }
        }
        let Some(plain) = Plain::read(&text) else { return };
        let envelope = Envelope::parse(&text).unwrap();
        assert!(envelope.session_id.is_none() && envelope.sender.is_none());
        assert_eq!(envelope.kind, plain.kind.name());
        assert_eq!(envelope.target, Some(Text::from(plain.target)));
        let payload = format!(r#","payload":{}}}"#, envelope.payload.unwrap());
        assert_eq!((plain.head.to_owned() + plain.tail, plain.tail), (text.clone(), &*payload));
    });
}

#[test]
#[ignore = "a run of its own: make fuzz"]
fn what_passes_the_guard_does_not_harm_the_crate() {
    cases(|random| sctp::play(&random.bytes(800)));
}

#[test]
fn a_thousand_cases_pass_the_guard_and_do_not_harm_the_crate() {
    for seed in 0..1000 {
        sctp::play(&Random::new(seed).bytes(800));
    }
}
