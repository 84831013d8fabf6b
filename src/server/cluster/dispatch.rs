//! What goes from node to node, as bytes: dispatches, one behind the other in one message of the database.
//!
//! A dispatch is a length of four bytes, for all that follows, then its kind, the connection that it is for in six
//! bytes, and what belongs to that kind. A kind that is not known is passed over, so that a node can be newer than
//! another: the layout of a kind never changes. What was sent on says so in a byte, and by which node stands before it
//! in a dispatch of its own, which earlier versions pass over. Pure.

use uuid::Uuid;

use crate::protocol::{MAX_USERNAME_BYTES, MessageType};
use crate::server::ids::ConnId;
use crate::server::nodes::{Arrival, ClusterCounts, Dispatch, NodeId, Parcel, ParcelRef, Route, Undelivered};

/// A dispatch for a connection that only the database knows: what stands before the connection, and what stands
/// behind it.
pub(super) struct Split {
    /// The length and the kind.
    pub(super) head: Vec<u8>,
    /// The rest.
    pub(super) tail: Vec<u8>,
}

/// Something for the user `target`, from `origin`, wherever that user is. `via`: the node that sends it on.
pub(super) fn parcel(origin: Route, via: Option<NodeId>, target: &str, parcel: &Parcel) -> Split {
    let (mut head, nobody, is_sent_on) = (Vec::new(), ConnId(0), via.is_some());
    if let Some(node) = via {
        put(&mut head, SENT_ON_BY, nobody, |bytes| bytes.extend_from_slice(&node.0));
    }
    let start = head.len();
    match parcel {
        Parcel::Message { kind, text } => put_message(&mut head, nobody, origin, is_sent_on, target, *kind, text),
        Parcel::Joined { id, peer } => put(&mut head, JOINED, nobody, |bytes| {
            put_origin(bytes, origin, is_sent_on, target);
            bytes.extend_from_slice(id.as_bytes());
            bytes.extend_from_slice(peer.as_bytes());
        }),
    }
    let tail = head.split_off(start + HEAD_BYTES + CONN_BYTES);
    head.truncate(start + HEAD_BYTES);
    Split { head, tail }
}

/// Appends a message for the user `target`, who is at the connection `to`.
pub(super) fn put_message(
    bytes: &mut Vec<u8>,
    to: ConnId,
    origin: Route,
    is_sent_on: bool,
    target: &str,
    kind: MessageType,
    text: &[u8],
) {
    put(bytes, MESSAGE, to, |bytes| {
        bytes.reserve(ORIGIN_BYTES + target.len() + 1 + text.len());
        put_origin(bytes, origin, is_sent_on, target);
        bytes.push(number(kind));
        bytes.extend_from_slice(text);
    });
}

/// Appends word to a sender that its message did not reach `target`.
pub(super) fn put_undelivered(bytes: &mut Vec<u8>, to: ConnId, target: &str, reason: Undelivered) {
    let reason = match reason {
        Undelivered::Offline => 0,
        Undelivered::Unread => 1,
    };
    put(bytes, UNDELIVERED, to, |bytes| {
        bytes.push(reason);
        put_name(bytes, target);
    });
}

/// Appends a dispatch; its length is known once the rest stands there.
fn put(bytes: &mut Vec<u8>, kind: u8, to: ConnId, write: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0, 0, 0, 0, kind]);
    put_conn(bytes, to);
    write(bytes);
    let length = u32::try_from(bytes.len() - start - 4).expect("what goes into a dispatch is bounded");
    bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_origin(bytes: &mut Vec<u8>, origin: Route, is_sent_on: bool, target: &str) {
    put_route(bytes, origin);
    bytes.push(u8::from(is_sent_on));
    put_name(bytes, target);
}

/// The dispatches of a bundle, one after the other.
pub struct Dispatches<'a> {
    bytes: &'a [u8],
    counts: &'a mut ClusterCounts,
}

impl<'a> Dispatches<'a> {
    pub(super) fn new(bytes: &'a [u8], counts: &'a mut ClusterCounts) -> Self {
        Self { bytes, counts }
    }
}

impl<'a> Iterator for Dispatches<'a> {
    type Item = Dispatch<'a>;

    /// The next one that this version knows.
    fn next(&mut self) -> Option<Dispatch<'a>> {
        loop {
            match take(&mut self.bytes) {
                Ok(dispatch) => {
                    self.counts.dispatches[0] += u64::from(dispatch.is_some());
                    return dispatch;
                }
                Err(Strange) => self.counts.strange_dispatches += 1,
            }
        }
    }
}

/// Takes the next dispatch from the front of `bytes`, with what stands before it of who has sent it on: `Ok(None)` at
/// the end.
///
/// # Errors
/// [`Strange`] where it is none, or of a kind that is not known. What is behind it can be read all the same.
fn take<'a>(bytes: &mut &'a [u8]) -> Result<Option<Dispatch<'a>>, Strange> {
    let mut via = None;
    while let Some(dispatch) = take_bytes(bytes)? {
        match dispatch.split_first() {
            Some((&SENT_ON_BY, mut rest)) => {
                take_conn(&mut rest).ok_or(Strange)?;
                via = Some(NodeId(*take_array(&mut rest).ok_or(Strange)?));
            }
            _ => return read(dispatch, via).map(Some).ok_or(Strange),
        }
    }
    Ok(None)
}

/// Takes what a dispatch has behind its length.
fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Strange> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        *bytes = &[];
        return Err(Strange);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > MAX_DISPATCH_BYTES || length > rest.len() {
        *bytes = &[];
        return Err(Strange);
    }
    let (dispatch, rest) = rest.split_at(length);
    *bytes = rest;
    Ok(Some(dispatch))
}

/// Something that is no dispatch, or one that this version does not know.
#[derive(Debug, PartialEq, Eq)]
struct Strange;

/// Reads a dispatch that was sent on by this node, where that stands before it.
fn read(dispatch: &[u8], via: Option<NodeId>) -> Option<Dispatch<'_>> {
    let (kind, mut rest) = dispatch.split_first()?;
    let to = take_conn(&mut rest)?;
    match *kind {
        kind @ (MESSAGE | JOINED) => {
            let from = Route { node: NodeId(*take_array(&mut rest)?), conn: take_conn(&mut rest)? };
            // An earlier version says nothing more of who has sent it on than this byte.
            let via = match take_array::<1>(&mut rest)?[0] {
                0 => None,
                number => Some(via.unwrap_or(NodeId([number; 6]))),
            };
            let target = take_name(&mut rest)?;
            let parcel = match kind {
                MESSAGE => {
                    let kind = message_type(take_array::<1>(&mut rest)?[0])?;
                    ParcelRef::Message { kind, text: std::str::from_utf8(rest).ok()? }
                }
                _ => ParcelRef::Joined { id: Uuid::from_bytes(*take_array(&mut rest)?), peer: name(rest)? },
            };
            Some(Dispatch::Parcel(Arrival { to, from, via, target, parcel }))
        }
        REPLACED => Some(Dispatch::Replaced(to)),
        UNDELIVERED => {
            let reason = match take_array::<1>(&mut rest)?[0] {
                1 => Undelivered::Unread,
                _ => Undelivered::Offline,
            };
            Some(Dispatch::Undelivered { to, target: take_name(&mut rest)?, reason })
        }
        _ => None,
    }
}

fn put_conn(bytes: &mut Vec<u8>, conn: ConnId) {
    bytes.extend_from_slice(&conn_bytes(conn));
}

/// A connection in six bytes, which are enough for a million new ones each second for nine years.
pub(super) fn conn_bytes(conn: ConnId) -> [u8; CONN_BYTES] {
    let [_, _, bytes @ ..] = (conn.0 as u64).to_be_bytes();
    bytes
}

/// The connection in six bytes.
pub(super) fn conn(bytes: [u8; CONN_BYTES]) -> ConnId {
    let [a, b, c, d, e, f] = bytes;
    ConnId(u64::from_be_bytes([0, 0, a, b, c, d, e, f]) as usize)
}

fn put_route(bytes: &mut Vec<u8>, route: Route) {
    bytes.extend_from_slice(&route.node.0);
    put_conn(bytes, route.conn);
}

fn put_name(bytes: &mut Vec<u8>, name: &str) {
    let name = &name.as_bytes()[..name.len().min(u8::MAX.into())];
    bytes.push(name.len() as u8);
    bytes.extend_from_slice(name);
}

fn take_array<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (array, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(array)
}

fn take_conn(bytes: &mut &[u8]) -> Option<ConnId> {
    take_array(bytes).copied().map(conn)
}

fn take_name<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = take_array::<1>(bytes)?[0];
    let (text, rest) = bytes.split_at_checked(length.into())?;
    *bytes = rest;
    name(text)
}

fn name(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|name| !name.is_empty() && name.len() <= MAX_USERNAME_BYTES)
}

/// A type of message in one byte. These numbers are the wire: they never change, and none is used again.
fn number(kind: MessageType) -> u8 {
    FORWARDED.iter().find(|(other, _)| *other == kind).map_or(0, |(_, number)| *number)
}

fn message_type(number: u8) -> Option<MessageType> {
    FORWARDED.iter().find(|(_, other)| *other == number).map(|(kind, _)| *kind)
}

const FORWARDED: [(MessageType, u8); 6] = [
    (MessageType::KeyExchange, 1),
    (MessageType::SignalOffer, 2),
    (MessageType::SignalAnswer, 3),
    (MessageType::SignalIce, 4),
    (MessageType::SessionAccept, 5),
    (MessageType::SessionDecline, 6),
];

const MESSAGE: u8 = b'M';
const JOINED: u8 = b'J';
/// The scripts write this one, too.
const REPLACED: u8 = b'R';
const UNDELIVERED: u8 = b'N';
const SENT_ON_BY: u8 = b'V';

const CONN_BYTES: usize = 6;

/// The length and the kind.
const HEAD_BYTES: usize = 4 + 1;

/// A route, whether it was sent on, and the length of a name.
const ORIGIN_BYTES: usize = 6 + CONN_BYTES + 1 + 1;

/// The longest dispatch: the longest message of a client, with what the server adds, twice over.
const MAX_DISPATCH_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId(*b"own123");
    const OTHER: Route = Route { node: NodeId(*b"other1"), conn: ConnId(77) };

    fn dispatches() -> Vec<(Vec<u8>, Dispatch<'static>)> {
        let to = ConnId(0x0102_0304_0506);
        let (kind, text) = (MessageType::SignalIce, r#"{"type":"signal:ice"}"#);
        let (id, own) = (Uuid::from_u128(42), Route { node: OWN, conn: ConnId(5) });
        let arrival = |from, via, parcel| Dispatch::Parcel(Arrival { to, from, via, target: "böb", parcel });
        let mut message = Vec::new();
        put_message(&mut message, to, own, false, "böb", kind, text.as_bytes());
        let sought = |origin, via, sent: ParcelRef<'_>| {
            let Split { head, tail } = parcel(origin, via, "böb", &sent.into_owned());
            [&head[..], &conn_bytes(to), &tail].concat()
        };
        let (letter, joined) = (ParcelRef::Message { kind, text }, ParcelRef::Joined { id, peer: "alice" });
        let mut not_delivered = Vec::new();
        put_undelivered(&mut not_delivered, to, "böb", Undelivered::Unread);
        vec![
            (message, arrival(own, None, letter)),
            (sought(own, Some(OWN), letter), arrival(own, Some(OWN), letter)),
            (sought(OTHER, None, joined), arrival(OTHER, None, joined)),
            (b"\0\0\0\x07R\x01\x02\x03\x04\x05\x06".to_vec(), Dispatch::Replaced(to)),
            (not_delivered, Dispatch::Undelivered { to, target: "böb", reason: Undelivered::Unread }),
        ]
    }

    #[test]
    fn the_layout_is_the_wire_between_versions_and_stays_as_it_is() {
        let arrival = b"\x01\x02\x03\x04\x05\x06own123\0\0\0\0\0\x05\0\x04b\xc3\xb6b\x04{\"type\":\"signal:ice\"}";
        let message = [&[0, 0, 0, 47, b'M'][..], arrival].concat();
        let not_delivered = b"\0\0\0\x0dN\x01\x02\x03\x04\x05\x06\x01\x04b\xc3\xb6b".to_vec();
        let joined =
            [&b"\0\0\0\x2eJ\x01\x02\x03\x04\x05\x06other1\0\0\0\0\0\x4d\0\x04b\xc3\xb6b"[..], &[0; 15], b"\x2aalice"]
                .concat();
        // The byte behind the sender's connection says that it was sent on, and what stands before it, by whom.
        let mut sent_on = [b"\0\0\0\x0dV\0\0\0\0\0\0own123", &message[..]].concat();
        sent_on[17 + 23] = 1;
        let written: Vec<Vec<u8>> = dispatches().into_iter().map(|(bytes, _)| bytes).collect();
        assert_eq!([&written[0], &written[1], &written[2], &written[4]], [&message, &sent_on, &joined, &not_delivered]);
        // An earlier version says less.
        let Ok(Some(Dispatch::Parcel(arrival))) = take(&mut &sent_on[17..]) else { panic!() };
        assert_eq!(arrival.via, Some(NodeId([1; 6])));
    }

    #[test]
    fn a_dispatch_is_read_as_it_was_written_and_those_behind_it_too() {
        let dispatches = dispatches();
        let bundle: Vec<u8> = dispatches.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut bytes = &bundle[..];
        for (_, dispatch) in &dispatches {
            assert_eq!(take(&mut bytes).unwrap().as_ref(), Some(dispatch));
        }
        assert_eq!(take(&mut bytes), Ok(None));
    }

    #[test]
    fn a_kind_of_a_later_version_is_passed_over_and_counted() {
        let (mut counts, known) = (ClusterCounts::default(), dispatches());
        let bundle: Vec<u8> =
            known.iter().flat_map(|(bytes, _)| [b"\0\0\0\x09X123456??".to_vec(), bytes.clone()].concat()).collect();
        let read: Vec<Dispatch> = Dispatches::new(&bundle, &mut counts).collect();
        assert!(read.iter().eq(known.iter().map(|(_, dispatch)| dispatch)));
        assert_eq!((counts.strange_dispatches, counts.dispatches[0]), (known.len() as u64, known.len() as u64));
    }

    #[test]
    fn every_forwarded_type_has_a_number_of_its_own() {
        for kind in MessageType::ALL.into_iter().filter(|kind| kind.is_forwarded()) {
            assert_eq!(message_type(number(kind)), Some(kind));
        }
    }

    #[test]
    fn whatever_comes_ends_and_panics_nowhere() {
        for (whole, _) in dispatches() {
            for end in 0..whole.len() {
                let mut cut = &whole[..end];
                assert!(!matches!(take(&mut cut), Ok(Some(_))), "{end} bytes");
                let mut shorter = whole[..end].to_vec();
                if end > 4 {
                    shorter[..4].copy_from_slice(&(end as u32 - 4).to_be_bytes());
                    let _ = take(&mut &shorter[..]);
                }
            }
            for place in 0..whole.len() {
                for byte in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut changed = whole.clone();
                    changed[place] = byte;
                    let mut bytes = &changed[..];
                    while !bytes.is_empty() {
                        let before = bytes.len();
                        let _ = take(&mut bytes);
                        assert!(bytes.len() < before, "it comes to an end");
                    }
                }
            }
        }
    }
}
