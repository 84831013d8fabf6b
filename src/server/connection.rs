//! One client from its first byte to its last: a request head, then WebSocket frames. Bytes in, events out; bytes to
//! send wait in a buffer that the loop empties. No socket and no clock in here.
//!
//! The WebSocket is tungstenite's, run over memory. An idle client has none of it, though, and forwarding does not need
//! it: a text in one frame, which is what everybody sends, is unmasked where it lies in the loop's buffer and goes on
//! from there, and a text to send is written behind its header into the output. A message in fragments is put
//! together here, too, so that what it takes is known to the byte. Whatever else comes (control frames, the close
//! handshake, every mistake) goes frame by frame through a `WebSocketContext` that is there as long as it has
//! something to remember. Measured, it is its buffer, zeroed and copied for each message, and its hundreds of bytes
//! for each client that this saves; `make bench` shows what is left.
//!
//! Bytes give the same events whether they come one by one or all at once. Errors of tungstenite send no close frame by
//! themselves: the right one is ours to send.

mod buffers;
mod control;
mod event;
mod frames;
mod masked;
mod request_head;
mod websocket;

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data};

use super::access::Access;
use super::http::{self, Endpoints};
use super::limits::Limits;
use crate::protocol::HAS_REPLACED;
pub use buffers::Buffers;
pub use event::Event;
pub(super) use frames::MAX_EMPTY_FRAGMENTS;
use frames::{DataFrame, WebSocketFrames, WholeFrame};
use websocket::{MemoryStream, NOT_UTF8, PROTOCOL_ERROR, websocket};

/// One client. What it has sent may hold secrets, so it has no `Debug`.
pub struct Connection {
    phase: Phase,
    endpoints: Endpoints,
    has_left: bool,
    /// Bytes that wait to be sent, from `sent` on.
    output: Vec<u8>,
    sent: u32,
}

enum Phase {
    /// The request head is not complete.
    Head(Vec<u8>),
    /// The upgrade waits for a yes or no, with the 101 response and the bytes that came behind the head.
    Upgrading(Box<Upgrading>),
    /// WebSocket frames go both ways. Once a close frame was sent, only the client's is still awaited.
    Open(WebSocketFrames),
    /// What is in the output is the last; what comes in is thrown away.
    Ending,
}

struct Upgrading {
    response: Vec<u8>,
    rest: Vec<u8>,
}

impl Connection {
    /// A client that has come where these endpoints are served, and has sent nothing yet.
    pub fn new(endpoints: Endpoints) -> Self {
        Self { phase: Phase::Head(Vec::new()), endpoints, has_left: false, output: Vec::new(), sent: 0 }
    }

    /// Takes bytes that the client sent from the front of `input`, up to the next event that they make; `None` once all
    /// are taken. WebSocket frames are unmasked where they lie.
    pub fn receive<'a>(&mut self, input: &mut &'a mut [u8], limits: &Limits, access: &Access) -> Option<Event<'a>> {
        loop {
            match &mut self.phase {
                Phase::Head(head) => {
                    head.extend_from_slice(input);
                    *input = &mut [];
                    let head = std::mem::take(head);
                    return self.receive_head(head, limits, access);
                }
                Phase::Upgrading(upgrading) => {
                    if upgrading.rest.len() + input.len() > MAX_EARLY_BYTES {
                        *input = &mut [];
                        self.refuse("400 Bad Request", "too much was sent before the answer");
                        return None;
                    }
                    upgrading.rest.extend_from_slice(input);
                    *input = &mut [];
                    return None;
                }
                Phase::Open(frames) => {
                    let (frame, data) = frames.next(input, limits)?;
                    let event = match data {
                        Some(data) => self.receive_data(frame, data, limits),
                        None => self.receive_other(&frame, limits),
                    };
                    if let Some(event) = event {
                        return Some(event);
                    }
                }
                Phase::Ending => {
                    *input = &mut [];
                    return None;
                }
            }
        }
    }

    /// Lets a client in that has asked for it, and returns the bytes that it has sent in the meantime.
    pub fn accept(&mut self, has_replaced: bool) -> Vec<u8> {
        match std::mem::replace(&mut self.phase, Phase::Ending) {
            Phase::Upgrading(upgrading) => {
                self.output = upgrading.response;
                if has_replaced {
                    // In front of the empty line that ends the head.
                    let end = self.output.len() - b"\r\n".len();
                    self.output.splice(end..end, format!("{HAS_REPLACED}: yes\r\n").bytes());
                }
                self.phase = Phase::Open(WebSocketFrames::default());
                upgrading.rest
            }
            phase => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    /// Sends a client away that has not come in yet, with an HTTP status and a reason for people.
    pub(crate) fn refuse(&mut self, status: &'static str, reason: &str) {
        self.respond(http::refusal(status, reason));
    }

    /// Answers a client that has not come in, and ends the connection.
    pub(crate) fn respond(&mut self, response: Vec<u8>) {
        if let Phase::Head(_) | Phase::Upgrading(_) = self.phase {
            self.end_with(response);
        }
    }

    /// Queues a text message, which `write` appends to the bytes that it is given. Does nothing once the connection is
    /// closing. A buffer, where there is none yet, comes from `spare`.
    pub fn send(&mut self, spare: &mut Buffers, write: impl FnOnce(&mut Vec<u8>)) {
        if self.is_closing() || !matches!(self.phase, Phase::Open(_)) {
            return;
        }
        if self.output.capacity() == 0 {
            self.output = spare.take();
        }
        frames::write_text(&mut self.output, write);
    }

    /// Begins the close handshake. The first close code wins: a connection that is closing already goes on as it was.
    /// One that has not upgraded yet just ends.
    pub fn close(&mut self, code: u16, reason: &'static str, limits: &Limits) {
        match &mut self.phase {
            Phase::Head(_) | Phase::Upgrading(_) => self.phase = Phase::Ending,
            Phase::Open(frames) => {
                // Whoever is being closed is no longer listened to.
                frames.message = None;
                let websocket = frames.websocket.get_or_insert_with(|| websocket(limits));
                let mut memory = MemoryStream { input: &[], output: &mut self.output };
                let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
                // Writing to memory succeeds, but for a connection that is closing already.
                let _ = websocket.close(&mut memory, Some(frame));
                let _ = websocket.flush(&mut memory);
            }
            Phase::Ending => {}
        }
    }

    /// Takes the end of the client's stream: there is nothing to be expected from it, but it may still read.
    pub fn end(&mut self) {
        self.phase = Phase::Ending;
    }

    /// Sends a ping. Does nothing unless the client is in.
    pub(crate) fn ping(&mut self) {
        if matches!(self.phase, Phase::Open(_)) && !self.is_closing() {
            Frame::ping(Vec::new()).format(&mut self.output).expect("writing to memory succeeds");
        }
    }

    /// The bytes that wait to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent as usize..]
    }

    /// Tells that the first `count` bytes of the output were sent. A buffer that is done with goes to `spare`.
    pub fn sent(&mut self, count: usize, spare: &mut Buffers) {
        let sent = self.sent as usize + count;
        self.sent = 0;
        if sent == self.output.len() {
            spare.put(std::mem::take(&mut self.output));
        } else if sent > self.output.len() / 2 {
            self.output.drain(..sent);
        } else {
            self.sent = u32::try_from(sent).expect("what waits is bounded far below 4 GiB");
        }
    }

    /// Whether the client still has to complete its request head.
    pub(crate) fn is_awaiting_head(&self) -> bool {
        matches!(self.phase, Phase::Head(_))
    }

    /// Whether the client itself has begun the close handshake.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left
    }

    /// Whether the end has begun: the user is no longer there, though last bytes may still have to go out.
    pub fn is_closing(&self) -> bool {
        match &self.phase {
            Phase::Head(_) | Phase::Upgrading(_) => false,
            Phase::Open(frames) => frames.websocket.as_ref().is_some_and(|websocket| !websocket.can_write()),
            Phase::Ending => true,
        }
    }

    /// Whether nothing will ever be sent again, and all that was to be sent is.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Ending) && self.output().is_empty()
    }

    fn receive_data<'a>(&mut self, frame: WholeFrame<'a>, data: DataFrame, limits: &Limits) -> Option<Event<'a>> {
        let Phase::Open(frames) = &mut self.phase else { return None };
        // Whoever is being closed is no longer listened to; its close frame is all that is awaited.
        if frames.websocket.is_some() {
            return None;
        }
        match (data.kind, data.is_final, &frames.message) {
            (Data::Text, true, None) => {
                let text = frame.unmask_text(data);
                if text.is_none() {
                    self.fail(CloseCode::Invalid, NOT_UTF8, limits);
                }
                text.map(Event::Text)
            }
            (Data::Binary, true, None) => Some(Event::Binary),
            (Data::Text | Data::Binary, false, None) | (Data::Continue, _, Some(_)) => {
                match frames.collect(frame, data, limits) {
                    Ok(event) => Some(event),
                    Err((code, reason)) => {
                        self.fail(code, reason, limits);
                        None
                    }
                }
            }
            _ => {
                self.fail(CloseCode::Protocol, PROTOCOL_ERROR, limits);
                None
            }
        }
    }

    /// How many bytes are held of what the client has begun and not finished: a request head, a frame, a message.
    pub fn unfinished(&self) -> usize {
        match &self.phase {
            Phase::Head(head) => head.capacity(),
            Phase::Open(frames) => {
                frames.partial.capacity() + frames.message.as_ref().map_or(0, |message| message.bytes.capacity())
            }
            Phase::Upgrading(upgrading) => upgrading.rest.capacity(),
            Phase::Ending => 0,
        }
    }

    /// How many bytes are held for the client to take.
    pub fn unsent(&self) -> usize {
        if self.output().is_empty() { 0 } else { self.output.capacity() }
    }

    fn end_with(&mut self, response: Vec<u8>) {
        self.output = response;
        self.phase = Phase::Ending;
    }
}

/// What a client may have sent behind its request head before it is let in: as much as a message.
pub(super) const MAX_EARLY_BYTES: usize = 64 * 1024;

/// More header lines than any browser or proxy sends.
pub(super) const MAX_HEADERS: usize = 64;

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::http::UpgradeRequest;
    use super::masked::masked;
    use super::*;

    const UPGRADE: &[u8] = b"GET /ws?username=bob HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    const USERS: Endpoints = Endpoints { users: true, metrics: false };

    pub(super) fn upgrade() -> Event<'static> {
        Event::Upgrade(Box::new(UpgradeRequest {
            username: "bob".to_owned(),
            token: None,
            forwarded_for: Vec::new(),
            real_ip: None,
        }))
    }

    /// Hands bytes in, and lets the client in as soon as it asks for the upgrade.
    pub(super) fn receive(connection: &mut Connection, bytes: &[u8]) -> Vec<Event<'static>> {
        let mut events = take(connection, bytes);
        if events.contains(&upgrade()) {
            let rest = connection.accept(false);
            events.extend(take(connection, &rest));
        }
        events
    }

    /// The events that bytes make.
    pub(super) fn take(connection: &mut Connection, bytes: &[u8]) -> Vec<Event<'static>> {
        let (limits, access) = (Limits::default(), Access::default());
        let mut bytes = bytes.to_vec();
        let mut input = &mut bytes[..];
        let mut events = Vec::new();
        while let Some(event) = connection.receive(&mut input, &limits, &access) {
            events.push(match event {
                Event::Text(text) => self::text(&text),
                Event::Upgrade(request) => Event::Upgrade(request),
                Event::Metrics => Event::Metrics,
                Event::Binary => Event::Binary,
                Event::Fragment => Event::Fragment,
                Event::Control => Event::Control,
            });
        }
        assert!(input.is_empty());
        events
    }

    pub(super) fn text(text: &str) -> Event<'static> {
        Event::Text(Cow::Owned(text.to_owned()))
    }

    pub(super) fn send(connection: &mut Connection, text: &str) {
        connection.send(&mut Buffers::default(), |output| output.extend_from_slice(text.as_bytes()));
    }

    pub(super) fn sent(connection: &mut Connection, count: usize) {
        connection.sent(count, &mut Buffers::default());
    }

    pub(super) fn close(connection: &mut Connection, code: u16, reason: &'static str) {
        connection.close(code, reason, &Limits::default());
    }

    pub(super) fn new() -> Connection {
        Connection::new(USERS)
    }

    pub(super) fn open() -> Connection {
        let mut connection = new();
        assert_eq!(receive(&mut connection, UPGRADE), [upgrade()]);
        let length = connection.output().len();
        sent(&mut connection, length);
        connection
    }

    /// A client's frame: masked, with the mask 0, which leaves the payload readable.
    pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        masked(first, payload, [0; 4])
    }

    /// What a server's close frame with this code and reason looks like.
    pub(super) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
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
        let (last, fragment) = (text(&"x".repeat(65_000)), Event::Fragment);
        let expected = [upgrade(), text("one"), fragment, Event::Control, text("two"), Event::Binary, last];
        let mut whole = new();
        assert_eq!(receive(&mut whole, &bytes), expected);
        let mut single = new();
        let events: Vec<Event> = bytes.iter().flat_map(|byte| receive(&mut single, &[*byte])).collect();
        assert_eq!(events, expected);
        assert_eq!(whole.output(), single.output());
        assert!(whole.output().ends_with(b"\x8a\x04ping"), "the ping is answered");
    }

    #[test]
    fn a_client_that_asks_for_the_upgrade_waits_for_the_answer_with_all_that_it_has_sent() {
        let mut bytes = UPGRADE.to_vec();
        bytes.extend(frame(0x81, b"one"));
        let mut connection = new();
        assert_eq!(take(&mut connection, &bytes), [upgrade()]);
        assert_eq!(take(&mut connection, &frame(0x81, b"two")), []);
        assert_eq!(connection.output(), b"", "not a word before the answer");
        let rest = connection.accept(false);
        assert_eq!(take(&mut connection, &rest), [text("one"), text("two")]);
        assert!(connection.output().starts_with(b"HTTP/1.1 101 "));
        connection.refuse("409 Conflict", "too late");
        assert!(!connection.is_closing());
        let mut refused = new();
        take(&mut refused, &bytes);
        refused.refuse("409 Conflict", "the name is taken");
        assert!(refused.output().starts_with(b"HTTP/1.1 409 Conflict\r\n") && refused.is_closing());
        assert_eq!(refused.accept(false), b"");
    }

    #[test]
    fn an_idle_client_has_no_websocket_and_no_buffer() {
        let mut connection = open();
        for bytes in [
            frame(0x81, b"text"),
            frame(0x89, b"ping"),
            frame(0x8a, b""),
            frame(0x82, b"binary"),
            [frame(0x01, b"t"), frame(0x89, b""), frame(0x80, b"wo")].concat(),
        ] {
            for byte in &bytes {
                receive(&mut connection, &[*byte]);
            }
            let length = connection.output().len();
            if length > 0 {
                sent(&mut connection, length);
            }
            let Phase::Open(frames) = &connection.phase else { panic!("open") };
            assert!(frames.websocket.is_none() && connection.output.capacity() == 0);
            assert_eq!((connection.unfinished(), connection.unsent()), (0, 0));
        }
        assert!(size_of::<Connection>() <= 80, "{} bytes", size_of::<Connection>());
    }
}
