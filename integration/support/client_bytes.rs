//! A connection of the server that takes whatever bytes from a client. For `make fuzz` and
//! `make cargo-fuzz TARGET=connection`.

use lowkey::server::access::Access;
use lowkey::server::connection::{Connection, Event};
use lowkey::server::http::Endpoints;
use lowkey::server::limits::Limits;

/// A head that is let in.
pub const UPGRADE: &[u8] = b"GET /ws?username=bob HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// All that a connection makes of these pieces: its events, what it says, and whether it is closing.
pub fn outcome<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Vec<u8>, bool) {
    let (limits, access) = (Limits::default(), Access::default());
    let mut connection = Connection::new(Endpoints { users: true, metrics: true });
    let mut events = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        loop {
            let mut rest = Vec::new();
            let mut input = &mut piece[..];
            while let Some(event) = connection.receive(&mut input, &limits, &access) {
                events.push(format!("{event:?}"));
                if matches!(event, Event::Upgrade(_)) {
                    rest = connection.accept(false);
                }
            }
            assert!(input.is_empty(), "all bytes are taken");
            if rest.is_empty() {
                break;
            }
            piece = rest;
        }
    }
    (events, connection.output().to_vec(), connection.is_closing())
}
