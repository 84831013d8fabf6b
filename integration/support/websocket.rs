//! What a client of the server sends, by hand, and what of the answer tells how it ended.

use std::io::Read;
use std::net::TcpStream;

use crate::masked::masked;

/// The head of a request for a name.
pub fn upgrade(name: &str) -> String {
    format!(
        "GET /ws?username={name} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A client's frame with this first byte, masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    masked(first, payload, [0x11, 0x22, 0x33, 0x44])
}

/// A client's text frame.
pub fn text_frame(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

/// Everything to the end of the stream.
pub fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) => panic!("{error} after {bytes:?}"),
    }
}

/// The code of the close frame that stands at the end of these bytes.
pub fn close_code(bytes: &[u8]) -> Option<u16> {
    let start = bytes.windows(2).rposition(|pair| pair[0] == 0x88 && pair[1] as usize >= 2)?;
    let code = bytes.get(start + 2..start + 4)?;
    Some(u16::from_be_bytes([code[0], code[1]]))
}
