//! The load: pairs of raw sockets that send each other frames which were built once. Everything that comes is compared,
//! byte by byte and in its order, with what has to come.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream as StdStream;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::Value;

use super::subject::Subject;

/// Different messages that each side sends in turn.
const VARIETY: usize = 64;

/// The first byte of a ping.
const PING: u8 = 0x89;

/// Where a message has its number. No other text of it looks like this.
const NUMBER: &str = "#0000";

/// Pairs of clients at one subject.
pub struct Pairs {
    poll: Poll,
    lanes: Vec<Lane>,
    buffer: Vec<u8>,
    /// Messages that have arrived.
    pub received: u64,
}

struct Lane {
    stream: TcpStream,
    /// The frames that it sends, one behind the other.
    frames: Vec<u8>,
    /// The frames that come from its partner.
    expected: Vec<u8>,
    sent: usize,
    /// Bytes received so far, modulo the length of `expected`.
    position: usize,
}

impl Pairs {
    /// Connects `count` pairs whose messages are texts of `size` bytes.
    pub fn connect(subject: &Subject, count: usize, size: usize) -> Self {
        Self::connect_to([subject, subject], count, size)
    }

    /// The same with the two of each pair at different servers, which may be one.
    pub fn connect_to(subjects: [&Subject; 2], count: usize, size: usize) -> Self {
        let poll = Poll::new().unwrap();
        let mut lanes = Vec::new();
        for number in 0..count {
            let names = [format!("a{number:04}s{size:05}"), format!("b{number:04}s{size:05}")];
            let mut streams = [0, 1].map(|side| client(subjects[side], &names[side], None));
            let frames = [frames(&names[1], size), frames(&names[0], size)];
            // The first message of each side shows what the server makes of one.
            let expected = [0, 1].map(|side: usize| {
                streams[1 - side].write_all(&frames[1 - side][..frames[1 - side].len() / VARIETY]).unwrap();
                let frame = read_frame(&mut streams[side]);
                if !subjects[side].is_forwarder {
                    check(&frame, &names[1 - side], &names[side]);
                }
                numbered(&frame)
            });
            for (stream, (frames, expected)) in streams.into_iter().zip(frames.into_iter().zip(expected)) {
                stream.set_nonblocking(true).unwrap();
                let mut stream = TcpStream::from_std(stream);
                poll.registry().register(&mut stream, Token(lanes.len()), Interest::READABLE).unwrap();
                lanes.push(Lane { stream, frames, expected, sent: 0, position: 0 });
            }
        }
        Self { poll, lanes, buffer: vec![0; 64 * 1024], received: 0 }
    }

    /// Keeps `depth` messages of each pair under way for a time, then waits until all have arrived.
    pub fn run(&mut self, depth: usize, time: Duration) {
        for lane in self.lanes.iter_mut().step_by(2) {
            lane.send(depth);
        }
        let mut under_way = depth * self.lanes.len() / 2;
        let mut events = Events::with_capacity(1024);
        let end = Instant::now() + time;
        while under_way > 0 {
            self.poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "{under_way} messages have not arrived");
            let goes_on = Instant::now() < end;
            for event in &events {
                let lane = &mut self.lanes[event.token().0];
                let count = lane.receive(&mut self.buffer);
                self.received += count as u64;
                if goes_on {
                    lane.send(count);
                } else {
                    under_way -= count;
                }
            }
        }
    }
}

impl Lane {
    /// Sends the next `count` frames, in one piece if it can be.
    fn send(&mut self, mut count: usize) {
        let length = self.frames.len() / VARIETY;
        while count > 0 {
            let first = self.sent % VARIETY;
            let now = count.min(VARIETY - first);
            let mut bytes = &self.frames[first * length..(first + now) * length];
            while !bytes.is_empty() {
                match self.stream.write(bytes) {
                    Ok(length) => bytes = &bytes[length..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
            }
            self.sent += now;
            count -= now;
        }
    }

    /// Reads what there is and compares it; how many messages were completed.
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let length = self.expected.len() / VARIETY;
        let mut count = 0;
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => panic!("the server has closed the connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
                Err(error) => panic!("{error}"),
            };
            let mut bytes = &buffer[..read];
            while !bytes.is_empty() {
                // A ping may stand between two messages.
                if self.position.is_multiple_of(length) && bytes[0] == PING {
                    bytes = &bytes[2 + usize::from(bytes[1])..];
                    continue;
                }
                let now = bytes.len().min(length - self.position % length);
                assert!(bytes[..now] == self.expected[self.position..][..now], "not what was to come");
                self.position = (self.position + now) % self.expected.len();
                count += usize::from(self.position.is_multiple_of(length));
                bytes = &bytes[now..];
            }
            if read < buffer.len() {
                return count;
            }
        }
    }
}

/// A client that is in. It is reset at its end, so that no port waits; `from` is the address that it comes from.
pub fn client(subject: &Subject, name: &str, from: Option<[u8; 4]>) -> StdStream {
    let mut stream = connect(&subject.address, from);
    if subject.is_forwarder {
        return stream;
    }
    stream.write_all(upgrade(name).as_bytes()).unwrap();
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream
}

/// A TCP connection.
pub fn connect(address: &str, from: Option<[u8; 4]>) -> StdStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    if let Some(from) = from {
        socket.bind(&std::net::SocketAddr::from((from, 0)).into()).unwrap();
    }
    let address: std::net::SocketAddr = address.parse().unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    socket.into()
}

/// A request to come online.
pub fn upgrade(name: &str) -> String {
    format!(
        "GET /ws?username={name} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Reads the response to an upgrade.
pub fn read_head(stream: &mut StdStream) -> String {
    let mut head = [0; 1024];
    let mut length = 0;
    while !head[..length].ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut head[length..]).unwrap();
        assert!(read > 0, "no upgrade: {}", String::from_utf8_lossy(&head[..length]));
        length += read;
    }
    String::from_utf8_lossy(&head[..length]).into_owned()
}

/// A client's text frame, masked with zeros: the server does the same work for it, and the text stays readable.
pub fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Reads one frame, masked or not, with its header.
pub fn read_frame(stream: &mut StdStream) -> Vec<u8> {
    let mut frame = vec![0; 2];
    stream.read_exact(&mut frame).unwrap();
    let extra = if frame[1] & 0x7f == 126 { 2 } else { 0 } + if frame[1] & 0x80 == 0 { 0 } else { 4 };
    let mut rest = vec![0; extra];
    stream.read_exact(&mut rest).unwrap();
    frame.extend(rest);
    let length = match frame[1] & 0x7f {
        126 => usize::from(u16::from_be_bytes([frame[2], frame[3]])),
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).unwrap();
    frame.extend(payload);
    frame
}

/// What stands in a server's frame.
pub fn text(frame: &[u8]) -> &str {
    let start = if frame[1] & 0x7f == 126 { 4 } else { 2 };
    std::str::from_utf8(&frame[start..]).unwrap()
}

/// All frames that one side sends, each of a text of `size` bytes.
fn frames(target: &str, size: usize) -> Vec<u8> {
    let text = |filling: usize| {
        let filling = "x".repeat(filling);
        format!(r#"{{"type":"signal:ice","target":"{target}","payload":"{NUMBER}{filling}"}}"#)
    };
    numbered(&frame(&text(size - text(0).len())))
}

/// The frame in all its variety.
fn numbered(frame: &[u8]) -> Vec<u8> {
    let place = frame.windows(NUMBER.len()).position(|window| window == NUMBER.as_bytes()).expect("a number");
    let with = |number: usize| {
        let mut frame = frame.to_vec();
        frame[place..][..NUMBER.len()].copy_from_slice(format!("#{number:04}").as_bytes());
        frame
    };
    (0..VARIETY).flat_map(with).collect()
}

/// A forwarded message has to say from whom it is, and to hold the payload that was sent.
fn check(frame: &[u8], sender: &str, target: &str) {
    let message: Value = serde_json::from_str(text(frame)).unwrap();
    assert_eq!((&message["type"], &message["sender"]), (&"signal:ice".into(), &sender.into()));
    assert!(message["target"] == target && message["payload"].as_str().unwrap().starts_with(NUMBER));
}
