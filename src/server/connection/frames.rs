//! The WebSocket frames of a client that is in: where one begins and ends, messages in fragments, and the header of
//! what goes out (RFC 6455, section 5). Pure.

use std::borrow::Cow;
use std::io::Cursor;

use tungstenite::protocol::WebSocketContext;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

use super::event::Event;
use super::websocket::{NOT_UTF8, TOO_LONG};
use crate::server::limits::Limits;

/// The WebSocket frames of a client that is in.
#[derive(Default)]
pub(super) struct WebSocketFrames {
    /// The beginning of a frame whose end has not come yet.
    pub(super) partial: Vec<u8>,
    /// The WebSocket, while there is something to remember: the close handshake.
    pub(super) websocket: Option<Box<WebSocketContext>>,
    /// A message in fragments that has begun and not ended.
    pub(super) message: Option<Box<Fragments>>,
}

/// What has come of a message in fragments, unmasked.
pub(super) struct Fragments {
    is_text: bool,
    pub(super) bytes: Vec<u8>,
    /// How many of its fragments had nothing in them.
    empty: usize,
}

/// A data frame (RFC 6455, section 5.6) as a client may send it: where its payload lies, and with what it is masked.
#[derive(Clone, Copy)]
pub(super) struct DataFrame {
    start: usize,
    mask: [u8; 4],
    pub(super) kind: Data,
    pub(super) is_final: bool,
}

/// Bytes that hold one whole WebSocket frame, or all that it takes to see that there is none.
pub(super) enum WholeFrame<'a> {
    /// They lie in the loop's buffer.
    Borrowed(&'a mut [u8]),
    /// They came in pieces.
    Owned(Vec<u8>),
}

impl WebSocketFrames {
    /// Takes bytes from the front of `input` until they make a frame; `None` where they do not. Says, too, how to
    /// read the frame if it is a data frame.
    pub(super) fn next<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        limits: &Limits,
    ) -> Option<(WholeFrame<'a>, Option<DataFrame>)> {
        if self.partial.is_empty() {
            return match extent(input, limits) {
                Some((length, data)) if length <= input.len() => {
                    let (frame, rest) = std::mem::take(input).split_at_mut(length);
                    *input = rest;
                    Some((WholeFrame::Borrowed(frame), data))
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
                return Some((WholeFrame::Owned(std::mem::take(&mut self.partial)), data));
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
    pub(super) fn collect(
        &mut self,
        frame: WholeFrame<'_>,
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

impl<'a> WholeFrame<'a> {
    pub(super) fn bytes(&self) -> &[u8] {
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
    pub(super) fn unmask_text(self, data: DataFrame) -> Option<Cow<'a, str>> {
        match self.unmask(data) {
            Cow::Borrowed(payload) => std::str::from_utf8(payload).ok().map(Cow::Borrowed),
            Cow::Owned(payload) => String::from_utf8(payload).ok().map(Cow::Owned),
        }
    }
}

/// How long the frame is that begins here, with its header, and how to read it if it is a data frame. `None` if the
/// header is not complete. What can be no frame of a client is as long as what shows it.
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

/// Where the text begins in a frame that is a text of its own and shorter than 64 KiB, which nearly every frame is;
/// how long the text is, and its mask (RFC 6455, section 5.2).
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

/// Appends a text message, which `write` appends, behind its header.
pub(super) fn write_text(output: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    // The length is known behind the text, and nearly always calls for a header of four bytes.
    let start = output.len();
    output.extend_from_slice(&[TEXT, IN_TWO_BYTES, 0, 0]);
    write(output);
    let length = output.len() - start - 4;
    match u16::try_from(length) {
        Ok(length) if length >= IN_TWO_BYTES.into() => {
            output[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
        }
        _ => {
            let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
            let mut bytes = Vec::new();
            header.format(length as u64, &mut bytes).expect("writing to memory succeeds");
            output.splice(start..start + 4, bytes);
        }
    }
}

/// The first byte of a text that is a frame of its own (RFC 6455, section 5.2): the message ends with it, and it is a
/// text.
const TEXT: u8 = 0x80 | 0x01;

/// In the second byte: a mask follows; and so does the length, in two bytes.
const MASKED: u8 = 0x80;
const IN_TWO_BYTES: u8 = 126;

/// Fragments of one message with nothing in them: some libraries begin or end with such a one, or send what a stream
/// hands them, and more are only work.
pub(in crate::server) const MAX_EMPTY_FRAGMENTS: usize = 16;

const TOO_EMPTY: &str = "too many empty fragments";

#[cfg(test)]
mod tests {
    use super::super::tests::{close_frame, frame, new, open, receive, send, sent, text};
    use super::*;

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
