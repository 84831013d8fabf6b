//! Control frames, mistakes and the close handshake, which are the WebSocket's to read and to answer. Pure.

use std::io;

use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::frame::coding::CloseCode;

use super::frames::WholeFrame;
use super::websocket::{MemoryStream, PROTOCOL_ERROR, close_frame_for, websocket};
use super::{Connection, Event, Phase};
use crate::server::limits::Limits;

impl Connection {
    /// Takes a control frame, or what is no frame that a client may send.
    pub(super) fn receive_other(&mut self, frame: &WholeFrame<'_>, limits: &Limits) -> Option<Event<'static>> {
        let Phase::Open(frames) = &mut self.phase else { return None };
        let websocket = frames.websocket.get_or_insert_with(|| websocket(limits));
        if closes_with_no_code(frame.bytes()) && websocket.can_write() {
            // tungstenite would answer it as well, in words of its own.
            self.has_left = true;
            self.fail(CloseCode::Protocol, PROTOCOL_ERROR, limits);
            return None;
        }
        let mut memory = MemoryStream { input: frame.bytes(), output: &mut self.output };
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
    pub(crate) fn expel(&mut self, code: u16, reason: &'static str, limits: &Limits) {
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

/// Whether it is a close frame as a client sends it, whose code is none that may be sent (RFC 6455, section 7.4).
fn closes_with_no_code(frame: &[u8]) -> bool {
    let [CLOSE, length, a, b, _, _, high, low, ..] = *frame else { return false };
    length & 0x80 != 0 && !CloseCode::from(u16::from_be_bytes([high ^ a, low ^ b])).is_allowed()
}

/// The first byte of a close frame: it is final, and its opcode is 8.
const CLOSE: u8 = 0x88;

#[cfg(test)]
mod tests {
    use super::super::tests::{close, close_frame, frame, open, receive, send, sent, text};

    #[test]
    fn each_kind_of_error_has_its_close_code() {
        let rows: [(Vec<u8>, u16, &str); 13] = [
            (vec![0x81, 0x01, b'x'], 1002, "WebSocket protocol error"),
            (frame(0xc1, b"x"), 1002, "WebSocket protocol error"),
            (frame(0x83, b"x"), 1002, "WebSocket protocol error"),
            (frame(0x09, b"x"), 1002, "WebSocket protocol error"),
            (frame(0x80, b"x"), 1002, "WebSocket protocol error"),
            (frame(0x89, &[0; 126]), 1002, "WebSocket protocol error"),
            (frame(0x88, &999u16.to_be_bytes()), 1002, "WebSocket protocol error"),
            (frame(0x88, &1005u16.to_be_bytes()), 1002, "WebSocket protocol error"),
            (frame(0x88, b"\x03\xee going"), 1002, "WebSocket protocol error"),
            (frame(0x88, &5000u16.to_be_bytes()), 1002, "WebSocket protocol error"),
            (frame(0x88, b"x"), 1002, "WebSocket protocol error"),
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
