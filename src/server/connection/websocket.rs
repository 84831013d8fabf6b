//! The WebSocket of tungstenite, run over memory, for all that is no data frame: control frames, the close handshake,
//! every mistake. Pure.

use std::io::{self, Read, Write};

use tungstenite::Message;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::frames::Whole;
use super::{Connection, Event, Phase};
use crate::server::limits::Limits;

impl Connection {
    /// Takes a control frame, or what is no frame that a client may send.
    pub(super) fn receive_other(&mut self, frame: &Whole<'_>, limits: &Limits) -> Option<Event<'static>> {
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

    /// Ends the connection for a mistake. After an error tungstenite must not be read again, but it still writes the
    /// close frame, unless the one that it sent before was the last word.
    pub(super) fn fail(&mut self, code: CloseCode, reason: &'static str, limits: &Limits) {
        self.close(code.into(), reason, limits);
        self.phase = Phase::Ending;
    }
}

pub(super) fn websocket(limits: &Limits) -> Box<WebSocketContext> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.message_bytes));
    Box::new(WebSocketContext::new(Role::Server, Some(config)))
}

/// The close frame that an error calls for (RFC 6455, section 7.4.1), if it calls for any.
pub(super) fn close_frame_for(error: &Error) -> Option<(CloseCode, &'static str)> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some((CloseCode::Size, TOO_LONG)),
        Error::Utf8(_) => Some((CloseCode::Invalid, NOT_UTF8)),
        Error::Protocol(ProtocolError::ReceivedAfterClosing | ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some((CloseCode::Protocol, PROTOCOL_ERROR)),
        _ => None,
    }
}

/// The stream that tungstenite sees: reads take from a slice, writes append to a buffer.
pub(super) struct Memory<'a> {
    pub(super) input: &'a [u8],
    pub(super) output: &'a mut Vec<u8>,
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

/// What tungstenite reads at once out of a frame that is there as a whole; a longer one makes its own room.
const READ_BUFFER_BYTES: usize = 512;

pub(super) const NOT_UTF8: &str = "text is not UTF-8";
pub(super) const TOO_LONG: &str = "message too long";
pub(super) const PROTOCOL_ERROR: &str = "WebSocket protocol error";

#[cfg(test)]
mod tests {
    use super::super::tests::{close, close_frame, frame, open, receive, send, sent, text};

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
}
