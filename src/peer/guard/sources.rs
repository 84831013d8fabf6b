//! Whom a datagram is taken of. Anybody can send to a port, and WebRTC hands to DTLS what comes from anywhere. But ICE
//! asks and answers the other side alone, by secrets of the call, so whom it has sent something to is known: of a
//! stranger nothing is taken but the question that may make him known. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Those to whom one connection has sent what a stranger is not sent.
#[derive(Debug, Default)]
pub struct Sources {
    /// Who was sent something last is the last.
    known: Vec<Source>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// An address of the other side.
    Peer(SocketAddr),
    /// A TURN server.
    Server(SocketAddr),
    /// An address of the other side, by way of this TURN server.
    Behind(SocketAddr, SocketAddr),
}

/// Who has sent a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatagramOrigin {
    /// The other side, or a TURN server that we use, with what is its own to say.
    Known,
    /// Anybody, who asks or answers as ICE does. ICE itself looks whether he knows the secrets.
    Asking,
    /// Anybody, with what is not taken of anybody.
    Stranger,
}

impl Sources {
    /// Learns of a datagram that is sent. Each connectivity check has a username in it, and only such are answered
    /// with success as know the password (RFC 8445, sections 7.2.2 and 7.3).
    pub fn sent(&mut self, to: SocketAddr, datagram: &[u8]) {
        let Some(kind) = stun(datagram) else { return };
        let to = plain(to);
        match kind {
            BINDING if attribute(datagram, USERNAME).is_some() => self.add(Source::Peer(to)),
            BINDING_SUCCESS => self.add(Source::Peer(to)),
            _ if is_binding(kind) => {}
            _ => {
                self.add(Source::Server(to));
                for value in attributes(datagram).filter_map(|(kind, value)| (kind == PEER).then_some(value)) {
                    if let Some(peer) = address(datagram, value) {
                        self.add(Source::Behind(to, peer));
                    }
                }
            }
        }
    }

    /// Who has sent a datagram that came from this address.
    pub fn origin(&self, from: SocketAddr, datagram: &[u8]) -> DatagramOrigin {
        let from = plain(from);
        match stun(datagram) {
            Some(kind) if is_binding(kind) => self.knows(Source::Peer(from)).unwrap_or(DatagramOrigin::Asking),
            Some(DATA_INDICATION) => self.behind(from, datagram),
            Some(_) => self.knows(Source::Server(from)).unwrap_or(DatagramOrigin::Stranger),
            // A channel belongs to one address, which we have chosen (RFC 8656, section 12).
            None if matches!(datagram.first(), Some(64..=79)) => {
                self.knows(Source::Server(from)).unwrap_or(DatagramOrigin::Stranger)
            }
            None => self.knows(Source::Peer(from)).unwrap_or(DatagramOrigin::Stranger),
        }
    }

    /// A TURN server passes on what comes from any port of an address that we have allowed (RFC 8656, section 9).
    fn behind(&self, server: SocketAddr, indication: &[u8]) -> DatagramOrigin {
        let peer = attribute(indication, PEER).and_then(|value| address(indication, value));
        match peer {
            Some(peer) if self.knows(Source::Behind(server, peer)).is_some() => DatagramOrigin::Known,
            Some(_) if self.knows(Source::Server(server)).is_some() => {
                match attribute(indication, DATA).and_then(stun) {
                    Some(kind) if is_binding(kind) => DatagramOrigin::Asking,
                    _ => DatagramOrigin::Stranger,
                }
            }
            _ => DatagramOrigin::Stranger,
        }
    }

    fn knows(&self, source: Source) -> Option<DatagramOrigin> {
        self.known.iter().rev().any(|known| *known == source).then_some(DatagramOrigin::Known)
    }

    fn add(&mut self, source: Source) {
        if let Some(at) = self.known.iter().rposition(|known| *known == source) {
            self.known.remove(at);
        } else if self.known.len() == MAX_KNOWN {
            self.known.remove(0);
        }
        self.known.push(source);
    }
}

/// The type of a message of STUN (RFC 8489, section 5), if this is one.
fn stun(datagram: &[u8]) -> Option<[u8; 2]> {
    match *datagram {
        [high @ 0..=3, low, ..] => Some([high, low]),
        _ => None,
    }
}

/// Whether this type is of the method that ICE knows, of whatever class.
fn is_binding([high, low]: [u8; 2]) -> bool {
    high & !1 == 0 && low & !0x10 == 1
}

/// The attributes of a message of STUN, each with its type (RFC 8489, section 14).
fn attributes(message: &[u8]) -> impl Iterator<Item = ([u8; 2], &[u8])> {
    let mut rest = message.get(20..).unwrap_or_default();
    std::iter::from_fn(move || {
        let &[kind_high, kind_low, high, low, ref behind @ ..] = rest else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = behind.get(..length)?;
        rest = behind.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(([kind_high, kind_low], value))
    })
}

/// The first attribute of this type.
pub fn attribute(message: &[u8], kind: [u8; 2]) -> Option<&[u8]> {
    attributes(message).find_map(|(other, value)| (other == kind).then_some(value))
}

/// What stands in an XOR-PEER-ADDRESS of this message (RFC 8489, section 14.2).
fn address(message: &[u8], value: &[u8]) -> Option<SocketAddr> {
    let mask = message.get(4..20)?;
    let (head, masked) = value.split_at_checked(4)?;
    let port = u16::from_be_bytes([head[2] ^ mask[0], head[3] ^ mask[1]]);
    let bytes: Vec<u8> = masked.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    let ip = match head[1] {
        1 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        2 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(plain(SocketAddr::new(ip, port)))
}

/// An address without what systems add to it when a datagram comes, and not when it goes.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// How many are known at most; who was sent something longest ago is forgotten. That is for the other side's
/// candidates, each by itself and behind some relays. A stranger adds none, and whoever a connection goes to is asked
/// every few seconds.
const MAX_KNOWN: usize = 512;

// Types of messages (RFC 8489, section 5; RFC 8656, section 17).
const BINDING: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const DATA_INDICATION: [u8; 2] = [0x00, 0x17];

// Types of attributes (RFC 8489, section 14; RFC 8656, section 18).
const USERNAME: [u8; 2] = [0x00, 0x06];
const PEER: [u8; 2] = [0x00, 0x12];
/// The attribute with what is passed on.
pub const DATA: [u8; 2] = [0x00, 0x13];

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([203, 0, 113, 1], port).into()
    }

    fn message(kind: [u8; 2], attributes: &[([u8; 2], &[u8])]) -> Vec<u8> {
        let mut message = [&kind[..], &[0, 0, 0x21, 0x12, 0xa4, 0x42], &[7; 12]].concat();
        for (kind, value) in attributes {
            message.extend([&kind[..], &(value.len() as u16).to_be_bytes(), value].concat());
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    }

    fn masked(of: SocketAddr) -> Vec<u8> {
        let mask = [&[0x21, 0x12, 0xa4, 0x42], &[7; 12][..]].concat();
        let (family, ip) = match of.ip() {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        let port = (of.port() ^ 0x2112).to_be_bytes();
        let ip: Vec<u8> = ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        [&[0, family], &port[..], &ip].concat()
    }

    fn check() -> Vec<u8> {
        message(BINDING, &[(USERNAME, b"there:here")])
    }

    const RECORD: [u8; 13] = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn of_a_stranger_nothing_is_taken_but_questions_and_of_whom_ice_has_asked_or_answered_all() {
        let mut sources = Sources::default();
        let answer = message(BINDING_SUCCESS, &[]);
        for (kind, to) in [(check(), at(1)), (answer.clone(), at(2))] {
            assert_eq!(sources.origin(to, &check()), DatagramOrigin::Asking);
            assert_eq!(sources.origin(to, &answer), DatagramOrigin::Asking);
            for datagram in [&RECORD[..], &[23, 254], &[128, 0], &[10], &[64, 0, 0, 0], &[1, 0x13, 0, 0], &[]] {
                assert_eq!(sources.origin(to, datagram), DatagramOrigin::Stranger, "{datagram:?}");
            }
            sources.sent(to, &kind);
            assert_eq!(sources.origin(to, &check()), DatagramOrigin::Known);
            assert_eq!(sources.origin(to, &RECORD), DatagramOrigin::Known);
        }
        // Who is asked only how we look from there has no part in the call, and neither has one whom we refuse.
        sources.sent(at(3), &message(BINDING, &[]));
        sources.sent(at(3), &message([1, 0x11], &[(USERNAME, b"there:here")]));
        sources.sent(at(3), &RECORD);
        assert_eq!(sources.origin(at(3), &RECORD), DatagramOrigin::Stranger);
    }

    #[test]
    fn through_a_relay_it_counts_who_is_behind_it() {
        for peer in [at(9), "[2001:db8::9]:9".parse().unwrap()] {
            let stranger = SocketAddr::new(peer.ip(), 10);
            let indication =
                |of: SocketAddr, data: &[u8]| message(DATA_INDICATION, &[(PEER, &masked(of)), (DATA, data)]);
            let mut sources = Sources::default();
            assert_eq!(sources.origin(at(1), &indication(peer, &check())), DatagramOrigin::Stranger);
            assert_eq!(sources.origin(at(1), &[64, 0, 0, 0]), DatagramOrigin::Stranger);
            // A wish for a relay.
            sources.sent(at(1), &message([0, 3], &[]));
            assert_eq!(sources.origin(at(1), &[64, 0, 0, 0]), DatagramOrigin::Known);
            assert_eq!(sources.origin(at(1), &message([1, 0x13], &[])), DatagramOrigin::Known);
            assert_eq!(sources.origin(at(1), &RECORD), DatagramOrigin::Stranger);
            assert_eq!(sources.origin(at(1), &indication(peer, &RECORD)), DatagramOrigin::Stranger);
            assert_eq!(sources.origin(at(1), &indication(peer, &check())), DatagramOrigin::Asking);
            // One more for the other side to be allowed.
            sources.sent(at(1), &message([0, 8], &[(PEER, &masked(at(7))), (PEER, &masked(peer))]));
            assert_eq!(sources.origin(at(1), &indication(peer, &RECORD)), DatagramOrigin::Known);
            assert_eq!(sources.origin(at(1), &indication(stranger, &RECORD)), DatagramOrigin::Stranger);
            assert_eq!(sources.origin(at(2), &indication(peer, &RECORD)), DatagramOrigin::Stranger);
        }
    }

    #[test]
    fn who_is_asked_now_and_then_is_never_forgotten_and_there_is_a_bound() {
        let mut sources = Sources::default();
        for port in 1..=2000 {
            sources.sent(at(port), &check());
            sources.sent(at(1), &check());
            assert_eq!(sources.origin(at(port + 1), &RECORD), DatagramOrigin::Stranger);
        }
        assert_eq!(sources.known.len(), MAX_KNOWN);
        assert_eq!(sources.origin(at(1), &RECORD), DatagramOrigin::Known);
        assert_eq!(sources.origin(at(2), &RECORD), DatagramOrigin::Stranger);
    }

    #[test]
    fn an_address_is_the_same_however_the_system_writes_it() {
        let mut sources = Sources::default();
        sources.sent("[fe80::1]:5".parse().unwrap(), &check());
        sources.sent(at(5), &check());
        for from in ["[fe80::1%3]:5", "[::ffff:203.0.113.1]:5"] {
            assert_eq!(sources.origin(from.parse().unwrap(), &RECORD), DatagramOrigin::Known, "{from}");
        }
    }

    #[test]
    fn whatever_is_cut_short_does_no_harm() {
        let peer = message(DATA_INDICATION, &[(PEER, &masked(at(9)))]);
        let whole = message(DATA_INDICATION, &[(PEER, &masked(at(9))), (DATA, &RECORD)]);
        for length in 0..whole.len() {
            let mut sources = Sources::default();
            sources.sent(at(1), &whole[..length]);
            // An address counts once it is there as a whole.
            let expected = if length < peer.len() { DatagramOrigin::Stranger } else { DatagramOrigin::Known };
            assert_eq!(sources.origin(at(1), &whole[..length]), expected, "{length} bytes");
        }
    }
}
