//! What clients send, and the database of a cluster, against the pure parts that read it: the head parser, the frame
//! path, the hub and the guard (proptest, which prints the smallest case that fails). `make fuzz` runs a million cases
//! of each, and `make cargo-fuzz` has libFuzzer choose them.

use std::time::{Duration, Instant};

use lowkey::protocol::{Envelope, EnvelopeText};
use lowkey::server::hub::{ConnId, Departure, Hub, Output, Outputs};
use lowkey::server::limits::{Limits, Rate};
use lowkey::server::plain::Plain;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;
use uuid::Uuid;

use crate::client_bytes::{UPGRADE, outcome};
use crate::{database_bytes, sctp};

fn head() -> impl Strategy<Value = Vec<u8>> {
    let methods = vec!["GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "", "G\0T"];
    let targets = vec!["/ws?username=bob", "/ws?username=%", "/ws?username=%00", "/ws", "/health", "/", "*", "//"];
    let versions = vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2", ""];
    let lines: Vec<&[u8]> = vec![
        b"Connection: Upgrade\r\n",
        b"Upgrade: websocket\r\n",
        b"Sec-WebSocket-Version: 13\r\n",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        b"Origin: https://a.example\r\n",
        b"Lowkey-Token: x\r\n",
        b"X-Forwarded-For: 1.2.3.4, ::1\r\n",
        b"Authorization: Bearer x\r\n",
        b"X: \xff\xfe\r\n",
        b"\x00: y\r\n",
    ];
    let ends: Vec<&[u8]> = vec![b"\r\n", b"\r\n", b"\n", b""];
    let first = (select(methods), select(targets), select(versions));
    (first, prop::collection::vec(select(lines), 0..9), select(ends)).prop_map(
        |((method, target, version), lines, end)| {
            [format!("{method} {target} {version}\r\n").as_bytes(), &lines.concat(), end].concat()
        },
    )
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let opcodes = vec![0x81u8, 0x81, 0x01, 0x80, 0x00, 0x82, 0x89, 0x8a, 0x88, 0xc1, 0x8f, 0x83];
    let lengths = vec![0usize, 1, 2, 5, 125, 126, 300, 70_000];
    let masked = prop_oneof![19 => Just(0x80u8), 1 => Just(0)];
    let letter = prop_oneof![9 => Just(b'x'), 1 => Just(0xff)];
    (select(opcodes), select(lengths), masked, letter, any::<bool>()).prop_map(
        |(opcode, length, masked, letter, high)| {
            let mut bytes = vec![opcode];
            match length {
                0..126 => bytes.push(masked | length as u8),
                126..0x1_0000 => {
                    bytes.push(masked | 126);
                    bytes.extend((length as u16).to_be_bytes());
                }
                _ => {
                    bytes.push(masked | 127);
                    bytes.extend((length as u64 | u64::from(high) << 63).to_be_bytes());
                }
            }
            if masked != 0 {
                bytes.extend([0; 4]);
            }
            bytes.extend(std::iter::repeat_n(letter, length));
            bytes
        },
    )
}

/// A head, mostly a good one, with frames behind it, and sometimes one bit that is wrong.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![2 => Just(UPGRADE.to_vec()), 1 => head()];
    let rest = prop::collection::vec(any::<u8>(), 0..=8);
    let flipped = prop::option::weighted(0.25, (any::<Index>(), 0u8..8));
    (head, prop::collection::vec(frame(), 0..6), rest, flipped).prop_map(|(head, frames, rest, flipped)| {
        let mut bytes = [head, frames.concat(), rest].concat();
        if let Some((place, bit)) = flipped.filter(|_| !bytes.is_empty()) {
            let place = place.index(bytes.len());
            bytes[place] ^= 1u8 << bit;
        }
        bytes
    })
}

/// What happens to a hub; an index chooses among those that there are by then.
#[derive(Debug, Clone)]
enum Happening {
    Connect(&'static str, Option<&'static str>),
    Disconnect(Index, Departure),
    Pass(u64),
    Binary(Index),
    Control(Index),
    Bytes(Index, usize),
    Text { from: Index, kind: &'static str, target: &'static str, with_payload: bool, cut: Option<Index> },
}

fn happening() -> impl Strategy<Value = Happening> {
    let name = select(vec!["alice", "bob", "carol", "dave"]);
    let token = select(vec![None, Some("a"), Some("b")]);
    let departure = select(vec![Departure::Left, Departure::Lost]);
    let kind = select(vec!["session:connect", "session:create", "session:join", "session:accept", "signal:ice"]);
    let target = select(vec!["alice", "bob", "nobody", "", "\\ud800"]);
    let cut = prop::option::weighted(0.1, any::<Index>());
    let text = (any::<Index>(), kind, target, prop::bool::weighted(0.33), cut);
    prop_oneof![
        12 => (name, token).prop_map(|(name, token)| Happening::Connect(name, token)),
        12 => (any::<Index>(), departure).prop_map(|(who, departure)| Happening::Disconnect(who, departure)),
        12 => (0u64..40).prop_map(Happening::Pass),
        5 => any::<Index>().prop_map(Happening::Binary),
        5 => any::<Index>().prop_map(Happening::Control),
        5 => (any::<Index>(), 0usize..5 << 20).prop_map(|(from, count)| Happening::Bytes(from, count)),
        45 => text.prop_map(|(from, kind, target, with_payload, cut)| {
            Happening::Text { from, kind, target, with_payload, cut }
        }),
    ]
}

/// A hub with who is online at it, by what it said.
struct WatchedHub {
    hub: Hub,
    online: Vec<(ConnId, &'static str)>,
    /// How many connections there have been.
    count: usize,
    /// The newest session.
    session: String,
    now: Instant,
}

impl WatchedHub {
    fn new() -> Self {
        let few = Rate { amount: 1, per: Duration::from_secs(1), burst: 5 };
        let limits = Limits { strikes: few, sessions: 8, sessions_per_name: 3, reservations: 2, ..Limits::default() };
        let hub = Hub::new(TTL, limits, Uuid::new_v4);
        Self { hub, online: Vec::new(), count: 0, session: Uuid::nil().to_string(), now: Instant::now() }
    }

    fn handle(&mut self, happening: &Happening, is_delivered: bool) {
        let Self { now, count, .. } = *self;
        // One more than there are: that one is nobody.
        let conn = |index: &Index| ConnId(index.index(count + 1));
        let mut text;
        let outputs = match happening {
            Happening::Connect(name, token) => {
                self.count += 1;
                match self.hub.connect(ConnId(count), name, *token, now) {
                    Ok(outputs) => {
                        self.online.push((ConnId(count), name));
                        outputs
                    }
                    Err(_) => Outputs::new(),
                }
            }
            Happening::Disconnect(who, departure) if !self.online.is_empty() => {
                let (conn, _) = self.online.swap_remove(who.index(self.online.len()));
                self.hub.disconnect(conn, *departure, now);
                Outputs::new()
            }
            Happening::Disconnect(..) => Outputs::new(),
            Happening::Pass(seconds) => {
                self.now += Duration::from_secs(*seconds);
                self.hub.tick(self.now);
                assert!(self.hub.next_deadline().is_none_or(|deadline| deadline > self.now), "what is due is done");
                Outputs::new()
            }
            Happening::Binary(from) => self.hub.receive_binary(conn(from), now),
            Happening::Control(from) => self.hub.receive_control(conn(from), now),
            Happening::Bytes(from, bytes) => self.hub.receive_bytes(conn(from), *bytes, now),
            Happening::Text { from, kind, target, with_payload, cut } => {
                text = match with_payload {
                    true => format!(r#"{{"type":"{kind}","target":"{target}","payload":{{"sdpMLineIndex":0}}}}"#),
                    false => format!(r#"{{"type":"{kind}","target":"{target}","sessionId":"{}"}}"#, self.session),
                };
                if let Some(cut) = cut {
                    text.truncate(cut.index(text.len()));
                }
                self.hub.receive(conn(from), &text, now)
            }
        };
        for output in outputs {
            match output {
                Output::Send { to, text } => {
                    assert!(self.online.iter().any(|(conn, _)| *conn == to), "only who is online is told");
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if let Some(id) = message["payload"]["sessionId"].as_str() {
                        self.session = id.to_owned();
                    }
                }
                Output::Forward { from, to, message } => {
                    let mut text = Vec::new();
                    message.write(&mut text);
                    let forwarded: Value = serde_json::from_slice(&text).unwrap();
                    let is_at =
                        |conn, field| self.online.iter().any(|(at, name)| *at == conn && forwarded[field] == *name);
                    assert!(is_at(from, "sender") && is_at(to, "target"), "from whom it is, to whom it is for");
                    if is_delivered {
                        self.hub.queued(&message);
                    } else {
                        self.hub.not_queued(from, to, now);
                    }
                }
                Output::Close { conn, .. } => {
                    self.hub.disconnect(conn, Departure::Lost, now);
                    self.online.retain(|(other, _)| *other != conn);
                }
                other => panic!("{other:?}, without a cluster"),
            }
        }
        assert_eq!(self.hub.online(), self.online.len());
    }

    /// Everybody leaves, and all times pass.
    fn end(mut self) {
        for (conn, _) in self.online {
            self.hub.disconnect(conn, Departure::Lost, self.now);
        }
        self.hub.tick(self.now + TTL + TTL);
        let left = (self.hub.online(), self.hub.names(), self.hub.sessions());
        assert_eq!(left, (0, 0, 0), "nothing is left over");
    }
}

const TTL: Duration = Duration::from_secs(60);

/// Pieces of JSON, in any order.
fn letters(most: usize) -> impl Strategy<Value = String> {
    let letters = vec![
        "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "1", "-", ".", "e", "null", "true", "\\n", "\\u00e9", " ", "\n",
        "ö",
    ];
    prop::collection::vec(select(letters), 0..most).prop_map(|letters| letters.concat())
}

/// What a database may say, and what is nearly that.
fn of_a_database() -> impl Strategy<Value = Vec<u8>> {
    // Of a user here and one elsewhere: a message, a session, word of a successor and of a message that came to
    // nothing.
    let here = b"\0\0\0\0\0\0";
    let origin = [&b"other1\0\0\0\0\0\x07\0\x05alice"[..]].concat();
    let dispatch =
        |kind: u8, rest: &[u8]| [&(7 + rest.len() as u32).to_be_bytes()[..], &[kind], &here[..], rest].concat();
    let dispatches = [
        dispatch(b'M', &[&origin[..], b"\x04{\"type\":\"signal:ice\"}"].concat()),
        dispatch(b'J', &[&origin[..], &[7; 16], b"carol"].concat()),
        dispatch(b'R', b""),
        dispatch(b'N', b"\0\x05carol"),
        dispatch(b'?', b"later"),
    ];
    let push = |bundle: &[u8]| {
        let head = format!(">3\r\n$7\r\nmessage\r\n$6\r\nlk1:to\r\n${}\r\n", bundle.len());
        [head.as_bytes(), bundle, b"\r\n"].concat()
    };
    let replies = [":0", ":1", ":2", "_", "+OK", "$6\r\n123456", "-OOM full", "*0"];
    let mut parts: Vec<Vec<u8>> = replies.iter().map(|reply| format!("{reply}\r\n").into_bytes()).collect();
    parts.push(b"$14\r\nother1\0\x01\0\0\0\0\0\x07\r\n".to_vec());
    parts.push(push(&dispatches.concat()));
    parts.extend(dispatches.iter().map(|dispatch| push(dispatch)));
    parts.extend(dispatches);
    // Lists in lists, a few and more than any stack has room for.
    for list in ["*1\r\n", "~1\r\n", ">1\r\n", "%1\r\n+a\r\n", "|1\r\n+a\r\n"] {
        parts.extend([1, 3, 20_000].map(|depth| list.repeat(depth).into_bytes()));
    }
    let part = prop_oneof![5 => select(parts), 1 => prop::collection::vec(any::<u8>(), 0..20)];
    let flipped = prop::option::weighted(0.5, (any::<Index>(), 0..8));
    (prop::collection::vec(part, 0..8), flipped).prop_map(|(parts, flipped)| {
        let mut bytes = parts.concat();
        if let Some((place, bit)) = flipped.filter(|_| !bytes.is_empty()) {
            let place = place.index(bytes.len());
            bytes[place] ^= 1u8 << bit;
        }
        bytes
    })
}

proptest! {
    // How many cases there are comes from the environment (PROPTEST_CASES).
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_mean_the_same_in_whatever_pieces_they_come(
        bytes in stream(),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let whole = outcome(std::iter::once(&bytes[..]));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        prop_assert_eq!(outcome(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]])), whole);
    }

    #[test]
    fn whatever_a_database_says_means_the_same_in_pieces_and_ends_no_server(bytes in of_a_database()) {
        database_bytes::play(&bytes);
    }

    #[test]
    fn any_messages_leave_the_hub_in_order(
        happenings in prop::collection::vec((happening(), any::<bool>()), 0..40),
    ) {
        let mut watched = WatchedHub::new();
        for (happening, is_delivered) in &happenings {
            watched.handle(happening, *is_delivered);
        }
        watched.end();
    }

    #[test]
    fn what_is_plain_is_the_same_to_serde(
        payload in letters(12),
        inserted in prop::collection::vec((any::<Index>(), letters(2)), 0..3),
    ) {
        let mut text = format!(r#"{{"type":"signal:ice","target":"bob","payload":{payload}}}"#);
        for (at, letters) in inserted {
            let at = at.index(text.len() + 1);
            if text.is_char_boundary(at) {
                text.insert_str(at, &letters);
            }
        }
        if let Some(plain) = Plain::read(&text) {
            let envelope = Envelope::parse(&text).unwrap();
            prop_assert!(envelope.session_id.is_none() && envelope.sender.is_none());
            prop_assert_eq!(&envelope.kind, plain.kind.name());
            prop_assert_eq!(envelope.target, Some(EnvelopeText::from(plain.target)));
            let payload = format!(r#","payload":{}}}"#, envelope.payload.unwrap());
            prop_assert_eq!((plain.head.to_owned() + plain.tail, plain.tail), (text.clone(), &*payload));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: ProptestConfig::default().cases.max(1000),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_passes_the_guard_does_not_harm_the_crate(bytes in prop::collection::vec(any::<u8>(), 0..=800)) {
        sctp::play(&bytes);
    }
}
