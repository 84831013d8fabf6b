//! One client from its first byte to its last: a request head, then WebSocket frames. Bytes in, events out; bytes to
//! send wait in a buffer that the loop empties. No socket and no clock in here.
//!
//! The WebSocket is tungstenite's, run over memory. An idle client has none of it, though, and a relay does not need it:
//! a text in one frame, which is what everybody sends, is unmasked where it lies in the loop's buffer and goes on from
//! there, and a text to send is written behind its header into the output. A message in fragments is put together here,
//! too, so that what it takes is known to the byte. Whatever else comes (control frames, the close handshake, every
//! mistake) goes frame by frame through a `WebSocketContext` that is there as long as it has something to remember.
//! Measured, it is its buffer, zeroed and copied for each message, and its hundreds of bytes for each client that this
//! saves; `make bench` shows what is left.
//!
//! Bytes give the same events whether they come one by one or all at once. Errors of tungstenite send no close frame by
//! themselves: the right one is ours to send.

use std::borrow::Cow;
use std::io::{self, Cursor, Read, Write};

use httparse::{Request, Status};
use tungstenite::Message;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};

use super::http::{self, Access, Answer, Caller, Door};
use super::limits::Limits;

/// What a client did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// It wants to come online. [`Connection::accept`] or [`Connection::refuse`] answers it.
    Knock(Box<Caller>),
    /// It wants to read the metrics. [`Connection::respond`] answers it.
    Metrics,
    /// It sent a text message.
    Text(Cow<'a, str>),
    /// It sent a binary message.
    Binary,
    /// It sent a part of a message that goes on.
    Fragment,
    /// It sent a ping, which is answered already, or a pong.
    Control,
}

/// One client. What it has sent may hold secrets, so it has no `Debug`.
pub struct Connection {
    phase: Phase,
    door: Door,
    has_left: bool,
    /// Bytes that wait to be sent, from `sent` on.
    output: Vec<u8>,
    sent: u32,
}

enum Phase {
    /// The request head is not complete.
    Head(Vec<u8>),
    /// The upgrade waits for a yes or no, with the 101 response and the bytes that came behind the head.
    Knocking(Box<Knocking>),
    /// Frames go both ways. Once a close frame was sent, only the client's is still awaited.
    Open(Frames),
    /// What is in the output is the last; what comes in is thrown away.
    Ending,
}

struct Knocking {
    response: Vec<u8>,
    rest: Vec<u8>,
}

/// The frames of a client that is in.
#[derive(Default)]
struct Frames {
    /// The beginning of a frame whose end has not come yet.
    partial: Vec<u8>,
    /// The WebSocket, while there is something to remember: the close handshake.
    websocket: Option<Box<WebSocketContext>>,
    /// A message in fragments that has begun and not ended.
    message: Option<Box<Fragments>>,
}

/// What has come of a message in fragments, unmasked.
struct Fragments {
    is_text: bool,
    bytes: Vec<u8>,
    /// How many of its fragments had nothing in them.
    empty: usize,
}

/// A data frame as a client may send it: where its payload lies, and with what it is masked.
#[derive(Clone, Copy)]
struct DataFrame {
    start: usize,
    mask: [u8; 4],
    kind: Data,
    is_final: bool,
}

/// Bytes that hold one whole frame, or all that it takes to see that there is none.
enum Whole<'a> {
    /// They lie in the loop's buffer.
    Borrowed(&'a mut [u8]),
    /// They came in pieces.
    Owned(Vec<u8>),
}

impl Connection {
    /// A client that has come in by this door and has sent nothing yet.
    pub fn new(door: Door) -> Self {
        Self { phase: Phase::Head(Vec::new()), door, has_left: false, output: Vec::new(), sent: 0 }
    }

    /// Takes bytes that the client sent from the front of `input`, up to the next event that they make; `None` once all
    /// are taken. Frames are unmasked where they lie.
    pub fn receive<'a>(&mut self, input: &mut &'a mut [u8], limits: &Limits, access: &Access) -> Option<Event<'a>> {
        loop {
            match &mut self.phase {
                Phase::Head(head) => {
                    head.extend_from_slice(input);
                    *input = &mut [];
                    let head = std::mem::take(head);
                    return self.receive_head(head, limits, access);
                }
                Phase::Knocking(knocking) => {
                    knocking.rest.extend_from_slice(input);
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

    /// Lets a client in that has knocked, and returns the bytes that it has sent in the meantime.
    pub fn accept(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.phase, Phase::Ending) {
            Phase::Knocking(knocking) => {
                self.output = knocking.response;
                self.phase = Phase::Open(Frames::default());
                knocking.rest
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
        if let Phase::Head(_) | Phase::Knocking(_) = self.phase {
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
        // The length is known behind the text, and nearly always calls for a header of four bytes.
        let start = self.output.len();
        self.output.extend_from_slice(&[TEXT, IN_TWO_BYTES, 0, 0]);
        write(&mut self.output);
        let length = self.output.len() - start - 4;
        match u16::try_from(length) {
            Ok(length) if length >= IN_TWO_BYTES.into() => {
                self.output[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
            }
            _ => {
                let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
                let mut bytes = Vec::new();
                header.format(length as u64, &mut bytes).expect("writing to memory succeeds");
                self.output.splice(start..start + 4, bytes);
            }
        }
    }

    /// Begins the close handshake. The first close code wins: a connection that is closing already goes on as it was.
    /// One that has not upgraded yet just ends.
    pub fn close(&mut self, code: u16, reason: &'static str, limits: &Limits) {
        match &mut self.phase {
            Phase::Head(_) | Phase::Knocking(_) => self.phase = Phase::Ending,
            Phase::Open(frames) => {
                // Whoever is being closed is no longer listened to.
                frames.message = None;
                let websocket = frames.websocket.get_or_insert_with(|| websocket(limits));
                let mut memory = Memory { input: &[], output: &mut self.output };
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
    pub fn ping(&mut self) {
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
            Phase::Head(_) | Phase::Knocking(_) => false,
            Phase::Open(frames) => frames.websocket.as_ref().is_some_and(|websocket| !websocket.can_write()),
            Phase::Ending => true,
        }
    }

    /// Whether nothing will ever be sent again, and all that was to be sent is.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Ending) && self.output().is_empty()
    }

    fn receive_head(&mut self, head: Vec<u8>, limits: &Limits, access: &Access) -> Option<Event<'static>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = Request::new(&mut headers);
        let within = &head[..head.len().min(limits.head_bytes)];
        match request.parse(within) {
            Ok(Status::Complete(length)) => match http::answer(&request, self.door, access) {
                Answer::Upgrade { caller, response } => {
                    self.phase = Phase::Knocking(Box::new(Knocking { response, rest: head[length..].to_vec() }));
                    return Some(Event::Knock(Box::new(caller)));
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

    fn receive_data<'a>(&mut self, frame: Whole<'a>, data: DataFrame, limits: &Limits) -> Option<Event<'a>> {
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

    /// Takes a control frame, or what is no frame that a client may send.
    fn receive_other(&mut self, frame: &Whole<'_>, limits: &Limits) -> Option<Event<'static>> {
        let Phase::Open(frames) = &mut self.phase else { return None };
        let websocket = frames.websocket.get_or_insert_with(|| websocket(limits));
        let mut memory = Memory { input: frame.bytes(), output: &mut self.output };
        let mut event = None;
        let error = loop {
            let was_open = websocket.can_write();
            match websocket.read(&mut memory) {
                Ok(Message::Close(_)) => self.has_left = was_open,
                Ok(_) if !was_open => {}
                Ok(_) => event = Some(Event::Control),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    // It has had whole frames only, so nothing else is left in it.
                    if websocket.can_write() {
                        frames.websocket = None;
                    }
                    return event;
                }
                Err(error) => break error,
            }
        };
        match close_frame_for(&error) {
            Some((code, reason)) => self.fail(code, reason, limits),
            None => self.phase = Phase::Ending,
        }
        event
    }

    /// Ends the connection with a close frame and frees all that it holds of what the client has sent. Unlike with
    /// [`close`](Self::close), the client's close frame is not awaited.
    pub fn expel(&mut self, code: u16, reason: &'static str, limits: &Limits) {
        self.close(code, reason, limits);
        self.phase = Phase::Ending;
    }

    /// How many bytes are held of what the client has begun and not finished: a request head, a frame, a message.
    pub fn unfinished(&self) -> usize {
        match &self.phase {
            Phase::Head(head) => head.capacity(),
            Phase::Open(frames) => {
                frames.partial.capacity() + frames.message.as_ref().map_or(0, |message| message.bytes.capacity())
            }
            Phase::Knocking(_) | Phase::Ending => 0,
        }
    }

    /// How many bytes are held for the client to take.
    pub fn unsent(&self) -> usize {
        if self.output().is_empty() { 0 } else { self.output.capacity() }
    }

    /// Ends the connection for a mistake. After an error tungstenite must not be read again, but it still writes the
    /// close frame, unless the one that it sent before was the last word.
    fn fail(&mut self, code: CloseCode, reason: &'static str, limits: &Limits) {
        self.close(code.into(), reason, limits);
        self.phase = Phase::Ending;
    }

    fn end_with(&mut self, response: Vec<u8>) {
        self.output = response;
        self.phase = Phase::Ending;
    }
}

impl Frames {
    /// Takes bytes from the front of `input` until they make a frame; `None` where they do not. Says, too, how to read the
    /// frame if it is a data frame.
    fn next<'a>(&mut self, input: &mut &'a mut [u8], limits: &Limits) -> Option<(Whole<'a>, Option<DataFrame>)> {
        if self.partial.is_empty() {
            return match extent(input, limits) {
                Some((length, data)) if length <= input.len() => {
                    let (frame, rest) = std::mem::take(input).split_at_mut(length);
                    *input = rest;
                    Some((Whole::Borrowed(frame), data))
                }
                _ => {
                    self.partial.extend_from_slice(input);
                    *input = &mut [];
                    None
                }
            };
        }
        loop {
            let extent = extent(&self.partial, limits);
            // As long as the header is not complete, byte by byte: what is behind the frame is another's.
            let missing = extent.map_or(1, |(length, _)| length - self.partial.len());
            if let (0, Some((_, data))) = (missing, extent) {
                return Some((Whole::Owned(std::mem::take(&mut self.partial)), data));
            }
            if input.is_empty() {
                return None;
            }
            let count = missing.min(input.len());
            let (taken, rest) = std::mem::take(input).split_at_mut(count);
            self.partial.extend_from_slice(taken);
            *input = rest;
        }
    }

    /// Adds a fragment to its message, and gives the message if that was the last one.
    fn collect(
        &mut self,
        frame: Whole<'_>,
        data: DataFrame,
        limits: &Limits,
    ) -> Result<Event<'static>, (CloseCode, &'static str)> {
        let is_text = data.kind == Data::Text;
        let message = self.message.get_or_insert_with(|| Box::new(Fragments { is_text, bytes: Vec::new(), empty: 0 }));
        let payload = frame.unmask(data);
        if message.bytes.len() + payload.len() > limits.message_bytes {
            return Err((CloseCode::Size, TOO_LONG));
        }
        message.empty += usize::from(payload.is_empty());
        if message.empty > MAX_EMPTY_FRAGMENTS {
            return Err((CloseCode::Policy, TOO_EMPTY));
        }
        if message.bytes.is_empty() {
            message.bytes = payload.into_owned();
        } else {
            message.bytes.extend_from_slice(&payload);
        }
        if !data.is_final {
            return Ok(Event::Fragment);
        }
        match self.message.take() {
            Some(message) if message.is_text => match String::from_utf8(message.bytes) {
                Ok(text) => Ok(Event::Text(Cow::Owned(text))),
                Err(_) => Err((CloseCode::Invalid, NOT_UTF8)),
            },
            _ => Ok(Event::Binary),
        }
    }
}

impl<'a> Whole<'a> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }

    /// The payload, unmasked.
    fn unmask(self, DataFrame { start, mask, .. }: DataFrame) -> Cow<'a, [u8]> {
        match self {
            Self::Borrowed(bytes) => {
                let payload = &mut bytes[start..];
                apply_mask(payload, mask);
                Cow::Borrowed(payload)
            }
            Self::Owned(mut bytes) => {
                bytes.drain(..start);
                apply_mask(&mut bytes, mask);
                Cow::Owned(bytes)
            }
        }
    }

    /// The same as a text; `None` if it is not UTF-8.
    fn unmask_text(self, data: DataFrame) -> Option<Cow<'a, str>> {
        match self.unmask(data) {
            Cow::Borrowed(payload) => std::str::from_utf8(payload).ok().map(Cow::Borrowed),
            Cow::Owned(payload) => String::from_utf8(payload).ok().map(Cow::Owned),
        }
    }
}

/// How long the frame is that begins here, with its header, and how to read it if it is a data frame. `None` if the header
/// is not complete. What can be no frame of a client is as long as what shows it.
fn extent(bytes: &[u8], limits: &Limits) -> Option<(usize, Option<DataFrame>)> {
    if let Some((start, length, mask)) = usual_text(bytes).filter(|(_, length, _)| *length <= limits.message_bytes) {
        return Some((start + length, Some(DataFrame { start, mask, kind: Data::Text, is_final: true })));
    }
    let mut cursor = Cursor::new(bytes);
    let Ok(parsed) = FrameHeader::parse(&mut cursor) else { return Some((bytes.len(), None)) };
    let (header, length) = parsed?;
    let start = cursor.position() as usize;
    if length > limits.message_bytes as u64 {
        return Some((start, None));
    }
    let data = match (header.opcode, header.mask) {
        (OpCode::Data(kind @ (Data::Continue | Data::Text | Data::Binary)), Some(mask))
            if !header.rsv1 && !header.rsv2 && !header.rsv3 =>
        {
            Some(DataFrame { start, mask, kind, is_final: header.is_final })
        }
        _ => None,
    };
    Some((start + length as usize, data))
}

/// Where the text begins in a frame that is a text of its own and shorter than 64 KiB, which nearly every frame is; how long the text
/// is, and its mask (RFC 6455, section 5.2).
fn usual_text(bytes: &[u8]) -> Option<(usize, usize, [u8; 4])> {
    match *bytes {
        [TEXT, length, a, b, c, d, ..] if (MASKED..MASKED | IN_TWO_BYTES).contains(&length) => {
            Some((6, (length & !MASKED).into(), [a, b, c, d]))
        }
        [TEXT, length, high, low, a, b, c, d, ..] if length == MASKED | IN_TWO_BYTES => {
            Some((8, u16::from_be_bytes([high, low]).into(), [a, b, c, d]))
        }
        _ => None,
    }
}

/// Masks or unmasks (RFC 6455, section 5.3), four bytes at a time.
fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let (chunks, rest) = payload.as_chunks_mut::<4>();
    for chunk in chunks {
        *chunk = (u32::from_ne_bytes(*chunk) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// The close frame that an error calls for (RFC 6455, section 7.4.1), if it calls for any.
fn close_frame_for(error: &Error) -> Option<(CloseCode, &'static str)> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some((CloseCode::Size, TOO_LONG)),
        Error::Utf8(_) => Some((CloseCode::Invalid, NOT_UTF8)),
        Error::Protocol(ProtocolError::ReceivedAfterClosing | ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some((CloseCode::Protocol, PROTOCOL_ERROR)),
        _ => None,
    }
}

fn websocket(limits: &Limits) -> Box<WebSocketContext> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.message_bytes));
    Box::new(WebSocketContext::new(Role::Server, Some(config)))
}

/// Output buffers that are empty for the moment. A client has one only while something waits for it, and in the next
/// moment it is another's, so that a message on its way takes nothing new.
#[derive(Default)]
pub struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    fn put(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_BUFFER_BYTES {
            buffer.clear();
            self.0.push(buffer);
        }
    }
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

/// What tungstenite reads at once out of a frame that is there as a whole; a longer one makes its own room.
const READ_BUFFER_BYTES: usize = 512;

/// Buffers that are kept for others, and how large they may have grown: 8 MiB together at most.
const SPARE_BUFFERS: usize = 128;
const SPARE_BUFFER_BYTES: usize = 64 * 1024;

/// The first byte of a text that is a frame of its own (RFC 6455, section 5.2): the message ends with it, and it is a text.
const TEXT: u8 = 0x80 | 0x01;

/// In the second byte: a mask follows; and so does the length, in two bytes.
const MASKED: u8 = 0x80;
const IN_TWO_BYTES: u8 = 126;

/// Fragments of one message with nothing in them: some libraries begin or end with such a one, or send what a stream hands
/// them, and more are only work.
const MAX_EMPTY_FRAGMENTS: usize = 16;

const NOT_UTF8: &str = "text is not UTF-8";
const TOO_EMPTY: &str = "too many empty fragments";
const TOO_LONG: &str = "message too long";
const PROTOCOL_ERROR: &str = "WebSocket protocol error";

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE: &[u8] = b"GET /ws?username=bob HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    const USERS: Door = Door { users: true, metrics: false };

    fn knock() -> Event<'static> {
        Event::Knock(Box::new(Caller {
            username: "bob".to_owned(),
            token: None,
            forwarded_for: Vec::new(),
            real_ip: None,
        }))
    }

    /// Hands bytes in, and lets the client in as soon as it knocks.
    fn receive(connection: &mut Connection, bytes: &[u8]) -> Vec<Event<'static>> {
        let mut events = take(connection, bytes);
        if events.contains(&knock()) {
            let rest = connection.accept();
            events.extend(take(connection, &rest));
        }
        events
    }

    /// The events that bytes make.
    fn take(connection: &mut Connection, bytes: &[u8]) -> Vec<Event<'static>> {
        let (limits, access) = (Limits::default(), Access::default());
        let mut bytes = bytes.to_vec();
        let mut input = &mut bytes[..];
        let mut events = Vec::new();
        while let Some(event) = connection.receive(&mut input, &limits, &access) {
            events.push(match event {
                Event::Text(text) => self::text(&text),
                Event::Knock(caller) => Event::Knock(caller),
                Event::Metrics => Event::Metrics,
                Event::Binary => Event::Binary,
                Event::Fragment => Event::Fragment,
                Event::Control => Event::Control,
            });
        }
        assert!(input.is_empty());
        events
    }

    fn text(text: &str) -> Event<'static> {
        Event::Text(Cow::Owned(text.to_owned()))
    }

    fn send(connection: &mut Connection, text: &str) {
        connection.send(&mut Buffers::default(), |output| output.extend_from_slice(text.as_bytes()));
    }

    fn sent(connection: &mut Connection, count: usize) {
        connection.sent(count, &mut Buffers::default());
    }

    fn close(connection: &mut Connection, code: u16, reason: &'static str) {
        connection.close(code, reason, &Limits::default());
    }

    fn new() -> Connection {
        Connection::new(USERS)
    }

    fn open() -> Connection {
        let mut connection = new();
        assert_eq!(receive(&mut connection, UPGRADE), [knock()]);
        let length = connection.output().len();
        sent(&mut connection, length);
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
        let (last, fragment) = (text(&"x".repeat(65_000)), Event::Fragment);
        let expected = [knock(), text("one"), fragment, Event::Control, text("two"), Event::Binary, last];
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
        send(&mut connection, "hi");
        send(&mut connection, "you");
        assert_eq!(connection.output(), b"\x81\x02hi\x81\x03you");
        sent(&mut connection, 5);
        assert_eq!(connection.output(), b"\x03you");
        sent(&mut connection, 4);
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
            assert_eq!(receive(&mut connection, &input), [text("before")], "{code}");
            assert_eq!(connection.output(), close_frame(code, reason));
            assert!(connection.is_closing() && !connection.is_finished());
            assert_eq!(receive(&mut connection, &frame(0x81, b"later")), []);
            let length = connection.output().len();
            sent(&mut connection, length);
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
    fn a_message_may_have_some_empty_fragments_and_not_many() {
        let mut connection = open();
        let begin = [frame(0x01, b""), frame(0x00, b"").repeat(MAX_EMPTY_FRAGMENTS - 1)].concat();
        for _ in 0..2 {
            assert_eq!(receive(&mut connection, &begin), vec![Event::Fragment; MAX_EMPTY_FRAGMENTS]);
            assert_eq!(receive(&mut connection, &frame(0x80, b"text")), [text("text")]);
        }
        receive(&mut connection, &begin);
        assert_eq!(receive(&mut connection, &frame(0x00, b"").repeat(1000)), []);
        assert_eq!(connection.output(), close_frame(1008, "too many empty fragments"));
    }

    #[test]
    fn what_is_begun_is_held_to_the_byte_and_freed_at_the_end() {
        let mut connection = open();
        let fragment = frame(0x01, &vec![b'x'; 60_000]);
        receive(&mut connection, &fragment[..30_000]);
        assert!((30_000..=60_010).contains(&connection.unfinished()), "{}", connection.unfinished());
        receive(&mut connection, &fragment[30_000..]);
        assert!((60_000..=65_536).contains(&connection.unfinished()), "{}", connection.unfinished());
        receive(&mut connection, &frame(0x89, b"in between"));
        assert_eq!(receive(&mut connection, &frame(0x80, b"")), [text(&"x".repeat(60_000))]);
        assert_eq!(connection.unfinished(), 0);
        receive(&mut connection, &fragment[..30_000]);
        connection.expel(1008, "too slow", &Limits::default());
        assert!(connection.output().ends_with(&close_frame(1008, "too slow")));
        assert!(connection.unfinished() == 0 && connection.unsent() >= connection.output().len());
        let mut head = new();
        receive(&mut head, b"GET / HTTP/1.1\r\n");
        assert!(head.unfinished() >= 16);
    }

    #[test]
    fn a_close_of_the_client_is_answered_and_ends_the_connection() {
        let mut connection = open();
        assert_eq!(receive(&mut connection, &frame(0x88, &1000u16.to_be_bytes())), []);
        assert_eq!(connection.output(), close_frame(1000, ""));
        assert!(connection.is_closing() && connection.has_left());
        sent(&mut connection, 4);
        assert!(connection.is_finished());
    }

    #[test]
    fn a_close_of_ours_waits_for_the_clients_and_the_first_code_wins() {
        let mut connection = open();
        close(&mut connection, 1001, "going");
        close(&mut connection, 1008, "other");
        send(&mut connection, "late");
        assert_eq!(connection.output(), close_frame(1001, "going"));
        let length = connection.output().len();
        sent(&mut connection, length);
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
        for _ in 0..16 * 1024 {
            receive(&mut long, b"x");
        }
        assert_eq!(status(&long), "431");
        let mut cookies = new();
        receive(&mut cookies, format!("GET /health HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(15 * 1024)).as_bytes());
        assert_eq!(status(&cookies), "200");
        let mut many = new();
        receive(&mut many, format!("GET / HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(65)).as_bytes());
        assert_eq!(status(&many), "431");
    }

    #[test]
    fn a_client_that_knocks_waits_for_the_answer_with_all_that_it_has_sent() {
        let mut bytes = UPGRADE.to_vec();
        bytes.extend(frame(0x81, b"one"));
        let mut connection = new();
        assert_eq!(take(&mut connection, &bytes), [knock()]);
        assert_eq!(take(&mut connection, &frame(0x81, b"two")), []);
        assert_eq!(connection.output(), b"", "not a word before the answer");
        let rest = connection.accept();
        assert_eq!(take(&mut connection, &rest), [text("one"), text("two")]);
        assert!(connection.output().starts_with(b"HTTP/1.1 101 "));
        connection.refuse("409 Conflict", "too late");
        assert!(!connection.is_closing());
        let mut refused = new();
        take(&mut refused, &bytes);
        refused.refuse("409 Conflict", "the name is taken");
        assert!(refused.output().starts_with(b"HTTP/1.1 409 Conflict\r\n") && refused.is_closing());
        assert_eq!(refused.accept(), b"");
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

    #[test]
    fn texts_to_send_have_a_header_of_their_length() {
        for (length, header) in [
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 255, 255]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut connection = open();
            send(&mut connection, &"x".repeat(length));
            assert_eq!(connection.output(), [header, vec![b'x'; length]].concat());
        }
    }

    #[test]
    fn a_mask_is_taken_off_wherever_a_text_ends() {
        let mask = [0x11, 0x22, 0x33, 0x44];
        for length in 0..40 {
            let text: Vec<u8> = (0..length).map(|number| b'a' + number % 26).collect();
            let masked: Vec<u8> = text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            let mut payload = masked.clone();
            apply_mask(&mut payload, mask);
            assert_eq!(payload, text);
        }
    }
}
