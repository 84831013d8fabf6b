//! Candidates (RFC 8839, section 5.1) as others write them, in descriptions and one by one, and which of them have any
//! effect. Each makes this machine send to an address of the other side's choice: so there are few, over UDP alone, and
//! to addresses where a peer can be.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::protocol;

/// One candidate, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    foundation: String,
    priority: u32,
    address: Address,
    port: u16,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Ip(IpAddr),
    /// A name that only a look-up by multicast in the same network finds (RFC 6762), behind which browsers hide
    /// addresses.
    Name(String),
}

/// How its author knows of the address (RFC 8445, section 5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is one of the machine's own.
    Host,
    /// Somebody outside has seen it.
    Reflexive,
    /// A TURN server relays what comes there.
    Relayed,
}

impl Candidate {
    /// Reads a candidate attribute, with or without `a=` and `candidate:` in front. `None` for what nothing can be sent
    /// to: another transport than UDP, a component other than that of the data, a host name, a zone, a type that is not
    /// known.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("a=").unwrap_or(text);
        let text = match text.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("candidate") => value,
            _ => text,
        };
        let mut words = text.split_ascii_whitespace();
        let foundation = words.next().filter(|foundation| is_token(foundation, MAX_FOUNDATION))?.to_owned();
        let component = words.next()?;
        let transport = words.next()?;
        let priority = words.next()?.parse().ok()?;
        let address = Address::read(words.next()?)?;
        let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
        let is_fit =
            component == "1" && transport.eq_ignore_ascii_case("udp") && words.next()?.eq_ignore_ascii_case("typ");
        let kind = match words.next()?.to_ascii_lowercase().as_str() {
            "host" => Kind::Host,
            "srflx" | "prflx" => Kind::Reflexive,
            "relay" => Kind::Relayed,
            _ => return None,
        };
        // A name says where in its own network somebody is, and nothing else.
        let is_host = kind == Kind::Host || matches!(address, Address::Ip(_));
        (is_fit && is_host).then_some(Self { foundation, priority, address, port, kind })
    }

    /// How its author knows of the address.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    fn is_name(&self) -> bool {
        matches!(self.address, Address::Name(_))
    }
}

impl fmt::Display for Candidate {
    /// The attribute's value, in the plainest form. What the address is related to serves nothing but curiosity, and so
    /// has RFC 8839's placeholder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { foundation, priority, address, port, kind } = self;
        let kind = match kind {
            Kind::Host => "host",
            Kind::Reflexive => "srflx",
            Kind::Relayed => "relay",
        };
        write!(f, "candidate:{foundation} 1 udp {priority} ")?;
        match address {
            Address::Ip(ip) => write!(f, "{ip}")?,
            Address::Name(name) => f.write_str(name)?,
        }
        write!(f, " {port} typ {kind}")?;
        match address {
            _ if self.kind == Kind::Host => Ok(()),
            Address::Ip(IpAddr::V6(_)) => f.write_str(" raddr :: rport 9"),
            _ => f.write_str(" raddr 0.0.0.0 rport 9"),
        }
    }
}

impl Address {
    fn read(text: &str) -> Option<Self> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(Self::Ip(ip.to_canonical()));
        }
        let name = text.to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let is_local = name.strip_suffix(".local").is_some_and(|host| host.split('.').all(is_label));
        (is_local && name.len() <= 253).then_some(Self::Name(name))
    }

    /// Whether a peer can be there. `with_loopback`: it may be on this very machine.
    fn is_fit(&self, with_loopback: bool) -> bool {
        match self {
            Self::Ip(ip) => is_fit(*ip, with_loopback),
            Self::Name(_) => true,
        }
    }
}

fn is_fit(ip: IpAddr, with_loopback: bool) -> bool {
    match ip {
        // "This network" (RFC 1122, section 3.2.1.3) reaches this machine on some systems, and from 240 on are the
        // broadcast address and others that nobody has (RFC 1112, section 4).
        IpAddr::V4(ip) => {
            let first = ip.octets()[0];
            first != 0 && first < 240 && !ip.is_multicast() && (with_loopback || !ip.is_loopback())
        }
        IpAddr::V6(ip) => {
            let is_there = !ip.is_unspecified() && !ip.is_multicast();
            is_there
                && (with_loopback || !ip.is_loopback())
                && embedded(ip).is_none_or(|ip| is_fit(ip.into(), with_loopback))
        }
    }
}

/// The IPv4 address that what is sent to this one may end up at.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = ip.segments();
    let at = |place: usize| {
        let ([a, b], [c, d]) = (segments[place].to_be_bytes(), segments[place + 1].to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Compatible and mapped (RFC 4291, section 2.5.5), translated (RFC 2765, section 2.1).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Some(at(6)),
        // NAT64 (RFC 6052, section 2.1, and RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => Some(at(6)),
        // 6to4 (RFC 3056, section 2).
        [0x2002, ..] => Some(at(1)),
        // Teredo (RFC 4380, section 4).
        [0x2001, 0, ..] => Some(Ipv4Addr::from_bits(!at(6).to_bits())),
        // ISATAP (RFC 5214, section 6.1).
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some(at(6)),
        _ => None,
    }
}

/// Which candidates of one side of a call have had an effect, so that each has it once, and few have one. What is
/// beyond the bounds is dropped, and the call goes on.
#[derive(Debug, Clone, Default)]
pub struct Candidates(Vec<Candidate>);

impl Candidates {
    /// Whether this one is to have an effect, which it then counts as having. `with_loopback`: the peer may be on this
    /// very machine.
    pub fn admit(&mut self, candidate: &Candidate, with_loopback: bool) -> bool {
        let place = |other: &Candidate| (other.kind, other.address.clone(), other.port);
        let is_there = self.0.iter().any(|other| place(other) == place(candidate));
        let of_kind = self.0.iter().filter(|other| other.kind == candidate.kind).count();
        let names = self.0.iter().filter(|other| other.is_name()).count();
        let has_room = of_kind < candidate.kind.limit() && !(candidate.is_name() && names >= MAX_NAMES);
        let is_admitted = candidate.address.is_fit(with_loopback) && !is_there && has_room;
        if is_admitted {
            self.0.push(candidate.clone());
        }
        is_admitted
    }

    /// Those that have had an effect, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.0.iter()
    }

    /// Whether one of this kind is among them.
    pub fn has(&self, kind: Kind) -> bool {
        self.0.iter().any(|candidate| candidate.kind == kind)
    }
}

/// The candidates that the two sides of a call have told each other of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trickle {
    /// Those of ours that the other side was told of.
    pub own: Candidates,
    /// Those of the other side that WebRTC was told of.
    pub other: Candidates,
    /// The name, if it has one, and the place of the section that ours belong to, where that is the other side's to
    /// say.
    pub section: Option<(Option<String>, u16)>,
}

impl Trickle {
    /// One of ours, for the other side, which is told of no more than is taken of it.
    pub fn tell(&mut self, text: &str) -> Option<protocol::Candidate> {
        let candidate = Candidate::read(text)?;
        let (sdp_mid, place) = self.section.clone().unwrap_or((Some("0".to_owned()), 0));
        self.own.admit(&candidate, true).then(|| protocol::Candidate {
            candidate: candidate.to_string(),
            sdp_mid,
            sdp_mline_index: Some(place),
        })
    }

    /// One of the other side, for WebRTC, whose description has one section. `with_loopback`: the other side may be on
    /// this machine.
    pub fn take(&mut self, candidate: &Candidate, with_loopback: bool) -> Option<protocol::Candidate> {
        self.other.admit(candidate, with_loopback).then(|| protocol::Candidate {
            candidate: candidate.to_string(),
            sdp_mid: Some("0".to_owned()),
            sdp_mline_index: Some(0),
        })
    }
}

impl Kind {
    fn limit(self) -> usize {
        match self {
            Self::Host => MAX_HOST,
            Self::Reflexive => MAX_REFLEXIVE,
            Self::Relayed => MAX_RELAYED,
        }
    }
}

/// Whether this is a word of printable ASCII, no longer than so many bytes.
pub(super) fn is_token(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Candidates of each kind that are taken of one side of a call, in its description and after it. A machine with many
/// interfaces has some dozens of addresses; each is asked for an answer some times, by every address of ours.
pub(crate) const MAX_HOST: usize = 32;
/// See [`MAX_HOST`].
pub(crate) const MAX_REFLEXIVE: usize = 16;
/// See [`MAX_HOST`].
pub(crate) const MAX_RELAYED: usize = 16;

/// Names among them, each of which is asked for by multicast. A browser has one for IPv4 and one for IPv6.
pub(crate) const MAX_NAMES: usize = 4;

/// The longest foundation, in bytes (RFC 8839, section 5.1).
const MAX_FOUNDATION: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: &str) -> Option<Candidate> {
        Candidate::read(&format!("candidate:1 1 udp 5 {address} 9000 typ host"))
    }

    #[test]
    fn candidates_are_read_in_every_spelling_and_written_in_one() {
        let plain = "candidate:1 1 udp 2130706431 192.0.2.1 9000 typ host";
        for text in [
            plain,
            "a=candidate:1 1 UDP 2130706431 192.0.2.1 9000 typ host generation 0 ufrag abc network-id 1",
            " 1  1 Udp 2130706431 192.0.2.1 9000 typ host raddr\r\n",
            "candidate:1 1 udp 2130706431 ::ffff:192.0.2.1 9000 typ host",
        ] {
            assert_eq!(Candidate::read(text).unwrap().to_string(), plain, "{text}");
        }
        let others = [
            (
                "F+/ 1 udp 0 2001:db8::1 1 typ relay raddr :: rport 9",
                "candidate:F+/ 1 udp 0 2001:db8::1 1 typ relay raddr :: rport 9",
            ),
            (
                "1 1 udp 1 203.0.113.1 65535 typ prflx",
                "candidate:1 1 udp 1 203.0.113.1 65535 typ srflx raddr 0.0.0.0 rport 9",
            ),
            ("CANDIDATE:1 1 UDP 1 192.0.2.1 1 TYP Host", "candidate:1 1 udp 1 192.0.2.1 1 typ host"),
            ("1 1 udp 1 A-b.Local 1 typ host", "candidate:1 1 udp 1 a-b.local 1 typ host"),
        ];
        for (text, written) in others {
            assert_eq!(Candidate::read(text).unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_nothing_can_be_sent_to_is_no_candidate() {
        let long = "x".repeat(33);
        for text in [
            "",
            "candidate:",
            "1 1 udp 5 192.0.2.1 9000 typ",
            "1 1 udp 5 192.0.2.1 9000 host",
            "1 1 udp 5 192.0.2.1 9000 typ wormhole",
            "1 1 udp 5 192.0.2.1 0 typ host",
            "1 1 udp 5 192.0.2.1 70000 typ host",
            "1 1 udp -5 192.0.2.1 9000 typ host",
            "1 1 udp 5 999.1.1.1 9000 typ host",
            "1 1 udp 5 127.1 9000 typ host",
            "1 1 udp 5 2130706433 9000 typ host",
            "1 1 udp 5 example.com 9000 typ host",
            "1 1 udp 5 localhost 9000 typ host",
            "1 1 udp 5 .local 9000 typ host",
            "1 1 udp 5 a..local 9000 typ host",
            "1 1 udp 5 a.local 9000 typ srflx",
            "1 1 udp 5 fe80::1%eth0 9000 typ host",
            "1 1 tcp 5 192.0.2.1 9000 typ host tcptype passive",
            "1 1 TLS 5 192.0.2.1 9000 typ host",
            "1 2 udp 5 192.0.2.1 9000 typ host",
            "ü 1 udp 5 192.0.2.1 9000 typ host",
            &format!("{long} 1 udp 5 192.0.2.1 9000 typ host"),
            &format!("1 1 udp 5 {long}{long}.local 9000 typ host"),
        ] {
            assert_eq!(Candidate::read(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_sent_where_no_peer_can_be_however_that_is_spelled() {
        let is_admitted = |address: &str, with_loopback| {
            read(address).is_some_and(|candidate| Candidates::default().admit(&candidate, with_loopback))
        };
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.251",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "ff0e::1",
            "::ffff:0.0.0.0",
            "::ffff:224.0.0.1",
            "::ffff:255.255.255.255",
            "::224.0.0.1",
            "::ffff:0:255.255.255.255",
            "64:ff9b::255.255.255.255",
            "64:ff9b:1::224.0.0.1",
            "2002:ffff:ffff::1",
            "2001:0:1:2:3:4:0:0",
            "2001:db8::5efe:224.0.0.1",
        ] {
            assert!(!is_admitted(address, true), "{address}");
        }
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "2002:7f00:1::",
            "2001:0:1:2:3:4:80ff:fffe",
            "fe80::200:5efe:127.0.0.1",
            "fe80::5efe:127.0.0.1",
        ] {
            assert!(!is_admitted(address, false), "{address}");
            assert!(is_admitted(address, true), "{address}");
        }
        for address in [
            "192.0.2.1",
            "10.0.0.1",
            "169.254.1.1",
            "223.255.255.255",
            "2001:db8::1",
            "fe80::1",
            "fd00::1",
            "::ffff:192.0.2.1",
            "64:ff9b::192.0.2.1",
            "2002:c000:201::1",
            "a.local",
        ] {
            assert!(is_admitted(address, false), "{address}");
        }
    }

    #[test]
    fn few_of_each_kind_are_taken_each_once_and_what_is_beyond_is_dropped() {
        let mut candidates = Candidates::default();
        let mut admitted = |kind: &str, address: &dyn Fn(usize) -> String| {
            let text = |number| format!("1 1 udp 5 {} 9 typ {kind}", address(number));
            let is_admitted = |number: &usize| {
                let candidate = Candidate::read(&text(*number)).unwrap();
                candidates.admit(&candidate, false) && !candidates.admit(&candidate, false)
            };
            (0..700).filter(is_admitted).count()
        };
        let ip = |number: usize| format!("10.0.{}.{}", number / 250, number % 250);
        assert_eq!(admitted("host", &|number| format!("{number}.local")), MAX_NAMES);
        assert_eq!(admitted("host", &ip), MAX_HOST - MAX_NAMES);
        assert_eq!(admitted("srflx", &ip), MAX_REFLEXIVE);
        assert_eq!(admitted("prflx", &|number| format!("192.0.2.{}", number % 250)), 0, "it is reflexive too");
        assert_eq!(admitted("relay", &ip), MAX_RELAYED);
        assert_eq!(candidates.iter().count(), 64);
        assert!(candidates.has(Kind::Relayed) && !Candidates::default().has(Kind::Host));
    }
}
