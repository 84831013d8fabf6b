//! Any bytes from a client: no panic, and the same in one piece as byte by byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lowkey::server::connection::{Connection, Event};
use lowkey::server::access::Access;
use lowkey::server::http::Endpoints;
use lowkey::server::limits::Limits;

const UPGRADE: &[u8] = b"GET /ws?username=bob HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fuzz_target!(|bytes: &[u8]| {
    // Half of the cases are past the head.
    let bytes = match bytes.split_first() {
        Some((first, rest)) if first % 2 == 0 => [UPGRADE, rest].concat(),
        _ => bytes.to_vec(),
    };
    assert_eq!(outcome(bytes.chunks(usize::MAX)), outcome(bytes.chunks(1)));
});

fn outcome<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Vec<u8>, bool) {
    let (limits, access) = (Limits::default(), Access::default());
    let mut connection = Connection::new(Endpoints { users: true, metrics: true });
    let mut events = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        while !piece.is_empty() {
            let mut rest = Vec::new();
            let mut input = &mut piece[..];
            while let Some(event) = connection.receive(&mut input, &limits, &access) {
                events.push(format!("{event:?}"));
                if matches!(event, Event::Upgrade(_)) {
                    rest = connection.accept(false);
                }
            }
            piece = rest;
        }
    }
    (events, connection.output().to_vec(), connection.is_closing())
}
