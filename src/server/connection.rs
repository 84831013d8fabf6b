//! One client from its first byte to its last: a request head, then WebSocket frames. Bytes in, events out; bytes to
//! send wait in a buffer that the loop empties. No socket and no clock in here.
//!
//! The frames are tungstenite's, run over memory whose empty input says "would block", so bytes give the same events
//! whether they come one by one or all at once. Errors of tungstenite send no close frame by themselves: the right
//! one is ours to send.

use std::io::{self, Read, Write};

use httparse::{Request, Status};
use tungstenite::Message;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};

use super::http::{self, Access, Answer, Caller, Door};
use super::limits::Limits;

/// What a client did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It wants to come online. [`Connection::accept`] or [`Connection::refuse`] answers it.
    Knock(Caller),
    /// It wants to read the metrics. [`Connection::respond`] answers it.
    Metrics,
    /// It sent a text message.
    Text(String),
    /// It sent a binary message.
    Binary,
    /// It sent a ping, which is answered already, or a pong.
    Control,
}

/// One client.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    door: Door,
    has_left: bool,
    /// Bytes that wait to be sent, from `sent` on.
    output: Vec<u8>,
    sent: usize,
}

#[derive(Debug)]
enum Phase {
    /// The request head is not complete.
    Head(Vec<u8>),
    /// The upgrade waits for a yes or no, with the 101 response and the bytes that came behind the head.
    Knocking { response: Vec<u8>, rest: Vec<u8> },
    /// Frames go both ways. Once a close frame was sent, only the client's is still awaited.
    Open(Box<WebSocketContext>),
    /// What is in the output is the last; what comes in is thrown away.
    Ending,
}

impl Connection {
    /// A client that has come in by this door and has sent nothing yet.
    pub fn new(door: Door) -> Self {
        Self { phase: Phase::Head(Vec::new()), door, has_left: false, output: Vec::new(), sent: 0 }
    }

    /// Takes bytes that the client sent and returns what they say.
    pub fn receive(&mut self, bytes: &[u8], limits: &Limits, access: &Access) -> Vec<Event> {
        match &mut self.phase {
            Phase::Head(head) => {
                head.extend_from_slice(bytes);
                let head = std::mem::take(head);
                self.receive_head(head, limits, access).into_iter().collect()
            }
            Phase::Knocking { rest, .. } => {
                rest.extend_from_slice(bytes);
                Vec::new()
            }
            Phase::Open(_) => self.receive_frames(bytes),
            Phase::Ending => Vec::new(),
        }
    }

    /// Lets a client in that has knocked, and returns what the bytes say that it sent in the meantime.
    pub fn accept(&mut self, limits: &Limits) -> Vec<Event> {
        match std::mem::replace(&mut self.phase, Phase::Ending) {
            Phase::Knocking { response, rest } => {
                self.output = response;
                self.phase = Phase::Open(Box::new(WebSocketContext::new(Role::Server, Some(config(limits)))));
                self.receive_frames(&rest)
            }
            phase => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    /// Sends a client away that has not come in yet, with an HTTP status and a reason for people.
    pub fn refuse(&mut self, status: &'static str, reason: &str) {
        self.respond(http::refusal(status, reason));
    }

    /// Answers a client that has not come in, and ends the connection.
    pub fn respond(&mut self, response: Vec<u8>) {
        if let Phase::Head(_) | Phase::Knocking { .. } = self.phase {
            self.end_with(response);
        }
    }

    /// Queues a text message. Does nothing once the connection is closing.
    pub fn send(&mut self, text: String) {
        self.write(Message::text(text));
    }

    /// Begins the close handshake. The first close code wins: a connection that is closing already goes on as it was.
    /// One that has not upgraded yet just ends.
    pub fn close(&mut self, code: u16, reason: &'static str) {
        match &self.phase {
            Phase::Head(_) | Phase::Knocking { .. } => self.phase = Phase::Ending,
            Phase::Open(_) => {
                self.write(Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() })));
            }
            Phase::Ending => {}
        }
    }

    /// Takes the end of the client's stream: there is nothing to be expected from it, but it may still read.
    pub fn end(&mut self) {
        self.phase = Phase::Ending;
    }

    /// Sends a ping. Does nothing unless the client is in.
    pub fn ping(&mut self) {
        self.write(Message::Ping(Vec::new().into()));
    }

    /// The bytes that wait to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// Tells that the first `count` bytes of the output were sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.output.len() {
            self.output = Vec::new();
            self.sent = 0;
        } else if self.sent > self.output.len() / 2 {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Whether the client still has to complete its request head.
    pub fn is_awaiting_head(&self) -> bool {
        matches!(self.phase, Phase::Head(_))
    }

    /// Whether the client itself has begun the close handshake.
    pub fn has_left(&self) -> bool {
        self.has_left
    }

    /// Whether the end has begun: the user is no longer there, though last bytes may still have to go out.
    pub fn is_closing(&self) -> bool {
        match &self.phase {
            Phase::Head(_) | Phase::Knocking { .. } => false,
            Phase::Open(websocket) => !websocket.can_write(),
            Phase::Ending => true,
        }
    }

    /// Whether nothing will ever be sent again, and all that was to be sent is.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Ending) && self.output().is_empty()
    }

    fn receive_head(&mut self, head: Vec<u8>, limits: &Limits, access: &Access) -> Option<Event> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = Request::new(&mut headers);
        let within = &head[..head.len().min(limits.head_bytes)];
        match request.parse(within) {
            Ok(Status::Complete(length)) => match http::answer(&request, self.door, access) {
                Answer::Upgrade { caller, response } => {
                    self.phase = Phase::Knocking { response, rest: head[length..].to_vec() };
                    return Some(Event::Knock(caller));
                }
                Answer::Metrics => return Some(Event::Metrics),
                Answer::Respond(response) => self.end_with(response),
            },
            Ok(Status::Partial) if head.len() < limits.head_bytes => self.phase = Phase::Head(head),
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                self.refuse("431 Request Header Fields Too Large", "the request head is too large");
            }
            Err(_) => self.refuse("400 Bad Request", "this is not an HTTP/1 request"),
        }
        None
    }

    fn receive_frames(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        let Phase::Open(websocket) = &mut self.phase else { return events };
        let mut memory = Memory { input: bytes, output: &mut self.output };
        let error = loop {
            let was_open = websocket.can_write();
            match websocket.read(&mut memory) {
                Ok(Message::Close(_)) => self.has_left = was_open,
                // Whoever is being closed is no longer listened to; its close frame is all that is awaited.
                Ok(_) if !was_open => {}
                Ok(Message::Text(text)) => events.push(Event::Text(text.as_str().to_owned())),
                Ok(Message::Binary(_)) => events.push(Event::Binary),
                Ok(_) => events.push(Event::Control),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return events,
                Err(error) => break error,
            }
        };
        // After an error tungstenite must not be read again, but it still writes the close frame, unless the one that
        // it sent before was the last word.
        if let Some((code, reason)) = close_frame_for(&error) {
            let frame = CloseFrame { code, reason: reason.into() };
            // Fails where the handshake is over already, and then there is nothing to say any more.
            let _ = websocket.close(&mut memory, Some(frame));
        }
        self.phase = Phase::Ending;
        events
    }

    fn write(&mut self, message: Message) {
        if let Phase::Open(websocket) = &mut self.phase {
            let mut memory = Memory { input: &[], output: &mut self.output };
            // Writing to memory succeeds, but for a connection that is closing, whose client is past listening.
            let _ = websocket.write(&mut memory, message);
            let _ = websocket.flush(&mut memory);
        }
    }

    fn end_with(&mut self, response: Vec<u8>) {
        self.output = response;
        self.phase = Phase::Ending;
    }
}

/// The close frame that an error calls for (RFC 6455, section 7.4.1), if it calls for any.
fn close_frame_for(error: &Error) -> Option<(CloseCode, &'static str)> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some((CloseCode::Size, "message too long")),
        Error::Utf8(_) => Some((CloseCode::Invalid, "text is not UTF-8")),
        Error::Protocol(ProtocolError::ReceivedAfterClosing | ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some((CloseCode::Protocol, "WebSocket protocol error")),
        _ => None,
    }
}

fn config(limits: &Limits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.message_bytes))
}

/// The stream that tungstenite sees: reads take from a slice, writes append to a buffer.
struct Memory<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// More header lines than any browser or proxy sends.
const MAX_HEADERS: usize = 64;

/// Enough to take most messages in one piece; a longer message makes its own room.
const READ_BUFFER_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::super::http::Cors;
    use super::*;

    const UPGRADE: &[u8] = b"GET /ws?username=bob HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    const USERS: Door = Door { users: true, metrics: false };

    fn knock() -> Event {
        Event::Knock(Caller { username: "bob".to_owned(), token: None, forwarded_for: Vec::new() })
    }

    /// Hands bytes in, and lets the client in as soon as it knocks.
    fn receive(connection: &mut Connection, bytes: &[u8]) -> Vec<Event> {
        let limits = Limits::default();
        let mut events = connection.receive(bytes, &limits, &Access { cors: Cors::Any, token: None });
        if events.contains(&knock()) {
            events.extend(connection.accept(&limits));
        }
        events
    }

    fn new() -> Connection {
        Connection::new(USERS)
    }

    fn open() -> Connection {
        let mut connection = new();
        assert_eq!(receive(&mut connection, UPGRADE), [knock()]);
        let length = connection.output().len();
        connection.sent(length);
        connection
    }

    /// A client's frame: masked, with the mask 0, which leaves the payload readable.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length @ 126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    /// What a server's close frame with this code and reason looks like.
    fn close_frame(code: u16, reason: &str) -> Vec<u8> {
        let mut frame = vec![0x88, 2 + reason.len() as u8];
        frame.extend(code.to_be_bytes());
        frame.extend(reason.as_bytes());
        frame
    }

    #[test]
    fn bytes_one_by_one_give_the_same_events_as_all_at_once() {
        let mut bytes = UPGRADE.to_vec();
        bytes.extend(frame(0x81, b"one"));
        bytes.extend(frame(0x01, b"t"));
        bytes.extend(frame(0x89, b"ping"));
        bytes.extend(frame(0x80, b"wo"));
        bytes.extend(frame(0x82, b"binary"));
        bytes.extend(frame(0x81, &[b'x'; 70_000][..65_000]));
        let expected = [
            knock(),
            Event::Text("one".to_owned()),
            Event::Control,
            Event::Text("two".to_owned()),
            Event::Binary,
            Event::Text("x".repeat(65_000)),
        ];
        let mut whole = new();
        assert_eq!(receive(&mut whole, &bytes), expected);
        let mut single = new();
        let events: Vec<Event> = bytes.iter().flat_map(|byte| receive(&mut single, &[*byte])).collect();
        assert_eq!(events, expected);
        assert_eq!(whole.output(), single.output());
        assert!(whole.output().ends_with(b"\x8a\x04ping"), "the ping is answered");
    }

    #[test]
    fn a_text_goes_out_as_one_frame() {
        let mut connection = open();
        connection.send("hi".to_owned());
        connection.send("you".to_owned());
        assert_eq!(connection.output(), b"\x81\x02hi\x81\x03you");
        connection.sent(5);
        assert_eq!(connection.output(), b"\x03you");
        connection.sent(4);
        assert_eq!(connection.output(), b"");
        assert!(!connection.is_finished());
    }

    #[test]
    fn each_kind_of_error_has_its_close_code() {
        let rows: [(Vec<u8>, u16, &str); 8] = [
            (vec![0x81, 0x01, b'x'], 1002, "WebSocket protocol error"),
            (frame(0xc1, b"x"), 1002, "WebSocket protocol error"),
            (frame(0x83, b"x"), 1002, "WebSocket protocol error"),
            (frame(0x09, b"x"), 1002, "WebSocket protocol error"),
            (frame(0x80, b"x"), 1002, "WebSocket protocol error"),
            (frame(0x89, &[0; 126]), 1002, "WebSocket protocol error"),
            (frame(0x81, b"\xff"), 1007, "text is not UTF-8"),
            (frame(0x81, &vec![b'x'; 64 * 1024 + 1]), 1009, "message too long"),
        ];
        for (bytes, code, reason) in rows {
            let mut connection = open();
            let mut input = frame(0x81, b"before");
            input.extend(&bytes);
            input.extend(frame(0x81, b"after"));
            assert_eq!(receive(&mut connection, &input), [Event::Text("before".to_owned())], "{code}");
            assert_eq!(connection.output(), close_frame(code, reason));
            assert!(connection.is_closing() && !connection.is_finished());
            assert_eq!(receive(&mut connection, &frame(0x81, b"later")), []);
            connection.sent(connection.output().len());
            assert!(connection.is_finished());
        }
    }

    #[test]
    fn a_message_in_fragments_is_as_limited_as_one_in_a_piece() {
        let mut connection = open();
        receive(&mut connection, &frame(0x01, &vec![b'x'; 40_000]));
        receive(&mut connection, &frame(0x80, &vec![b'x'; 40_000]));
        assert_eq!(connection.output(), close_frame(1009, "message too long"));
    }

    #[test]
    fn a_close_of_the_client_is_answered_and_ends_the_connection() {
        let mut connection = open();
        assert_eq!(receive(&mut connection, &frame(0x88, &1000u16.to_be_bytes())), []);
        assert_eq!(connection.output(), close_frame(1000, ""));
        assert!(connection.is_closing() && connection.has_left());
        connection.sent(4);
        assert!(connection.is_finished());
    }

    #[test]
    fn a_close_of_ours_waits_for_the_clients_and_the_first_code_wins() {
        let mut connection = open();
        connection.close(1001, "going");
        connection.close(1008, "other");
        connection.send("late".to_owned());
        assert_eq!(connection.output(), close_frame(1001, "going"));
        connection.sent(connection.output().len());
        assert!(connection.is_closing() && !connection.is_finished());
        assert_eq!(receive(&mut connection, &frame(0x81, b"late too")), []);
        assert_eq!(receive(&mut connection, &frame(0x88, &1001u16.to_be_bytes())), []);
        assert_eq!(connection.output(), b"");
        assert!(connection.is_finished() && !connection.has_left());
    }

    #[test]
    fn a_plain_request_is_answered_and_ends_the_connection() {
        let mut connection = new();
        assert_eq!(receive(&mut connection, b"GET /health HTTP/1.1\r\n\r\nGET /health HTTP/1.1\r\n\r\n"), []);
        assert!(connection.output().starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(connection.is_closing());
    }

    #[test]
    fn a_head_that_is_none_or_too_long_is_refused() {
        let status = |connection: &Connection| String::from_utf8_lossy(&connection.output()[9..12]).into_owned();
        let mut none = new();
        receive(&mut none, b"\x16\x03\x01 TLS\r\n\r\n");
        assert_eq!(status(&none), "400");
        let mut long = new();
        receive(&mut long, b"GET / HTTP/1.1\r\nX: ");
        for _ in 0..8192 {
            receive(&mut long, b"x");
        }
        assert_eq!(status(&long), "431");
        let mut many = new();
        receive(&mut many, format!("GET / HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(65)).as_bytes());
        assert_eq!(status(&many), "431");
    }

    #[test]
    fn a_client_that_knocks_waits_for_the_answer_with_all_that_it_has_sent() {
        let (limits, access) = (Limits::default(), Access { cors: Cors::Any, token: None });
        let mut bytes = UPGRADE.to_vec();
        bytes.extend(frame(0x81, b"one"));
        let mut connection = new();
        assert_eq!(connection.receive(&bytes, &limits, &access), [knock()]);
        assert_eq!(connection.receive(&frame(0x81, b"two"), &limits, &access), []);
        assert_eq!(connection.output(), b"", "not a word before the answer");
        assert_eq!(connection.accept(&limits), [Event::Text("one".to_owned()), Event::Text("two".to_owned())]);
        assert!(connection.output().starts_with(b"HTTP/1.1 101 "));
        connection.refuse("409 Conflict", "too late");
        assert!(!connection.is_closing());
        let mut refused = new();
        refused.receive(&bytes, &limits, &access);
        refused.refuse("409 Conflict", "the name is taken");
        assert!(refused.output().starts_with(b"HTTP/1.1 409 Conflict\r\n") && refused.is_closing());
        assert_eq!(refused.accept(&limits), []);
    }
}
