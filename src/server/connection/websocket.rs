//! The WebSocket of tungstenite, run over memory, for all that is no data frame: control frames, the close handshake,
//! every mistake. Pure.

use std::io::{self, Read, Write};

use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use crate::server::limits::Limits;

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
pub(super) struct MemoryStream<'a> {
    pub(super) input: &'a [u8],
    pub(super) output: &'a mut Vec<u8>,
}

impl Read for MemoryStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for MemoryStream<'_> {
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
