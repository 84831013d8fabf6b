//! The servers that help two peers to reach each other: STUN tells a peer its address, TURN relays for it. They are
//! written as the W3C's `RTCIceServer` writes them, with URLs after RFC 7064 and RFC 7065. Types and serde only.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::scheme::strip_scheme;

/// One entry of `iceServers` in the payload of a `session:joined` (W3C WebRTC, section 4.2.4).
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct IceServer {
    /// Its URLs, all with the same credentials. A single one may stand there without a list.
    #[serde(deserialize_with = "one_or_many")]
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// For TURN.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub credential: String,
}

impl fmt::Debug for IceServer {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// Reads a list of servers, and leaves out what is none: an addition of ours must not spoil the message that it is in.
pub(super) fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IceServer>, D::Error> {
    let Value::Array(entries) = Value::deserialize(deserializer)? else { return Ok(Vec::new()) };
    // serde would take an array for an object's fields in their order.
    let objects = entries.into_iter().filter(Value::is_object);
    Ok(objects.filter_map(|entry| IceServer::deserialize(entry).ok()).collect())
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Urls {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Urls::deserialize(deserializer)? {
        Urls::One(url) => vec![url],
        Urls::Many(urls) => urls,
    })
}

/// The URL of a STUN or TURN server, taken apart (RFC 7064, section 3.1; RFC 7065, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IceUrl<'a> {
    /// Which kind of server.
    pub scheme: IceScheme,
    /// `HOST` or `HOST:PORT`, where an IPv6 address stands in brackets.
    pub address: &'a str,
    /// Whether it is reached over TCP, with or without TLS. Otherwise it is UDP.
    pub is_tcp: bool,
}

/// The scheme of an [`IceUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IceScheme {
    /// `stun:`.
    Stun,
    /// `turn:`.
    Turn,
    /// `turns:`, which is TURN over TLS.
    Turns,
}

impl<'a> IceUrl<'a> {
    /// Reads `stun:HOST[:PORT]`, or `turn:` or `turns:` with the same, and perhaps `?transport=udp` or `tcp` behind it.
    ///
    /// # Errors
    /// Says for people what is wrong with it.
    pub fn parse(url: &'a str) -> Result<Self, &'static str> {
        let schemes = [("stun:", IceScheme::Stun), ("turn:", IceScheme::Turn), ("turns:", IceScheme::Turns)];
        let with = |(prefix, scheme)| strip_scheme(url, prefix).map(|rest| (scheme, rest));
        let (scheme, rest) =
            schemes.into_iter().find_map(with).ok_or("an address begins with stun:, turn: or turns:")?;
        let (address, query) = match rest.split_once('?') {
            Some((address, query)) => (address, Some(query)),
            None => (rest, None),
        };
        let is_tcp = match (scheme, query) {
            (_, None) => scheme == IceScheme::Turns,
            (IceScheme::Turn | IceScheme::Turns, Some(query)) if query.eq_ignore_ascii_case("transport=tcp") => true,
            (IceScheme::Turn, Some(query)) if query.eq_ignore_ascii_case("transport=udp") => false,
            _ => return Err("nothing but ?transport=udp or ?transport=tcp may follow the address of a TURN server"),
        };
        check_address(address)?;
        Ok(Self { scheme, address, is_tcp })
    }

    /// The host, an IPv6 address without its brackets, and the port, which is the scheme's own where none is named.
    #[cfg(feature = "peer")]
    pub fn host_and_port(&self) -> (&'a str, u16) {
        let (host, port) = split(self.address);
        let usual = if self.scheme == IceScheme::Turns { TLS_PORT } else { PORT };
        (host.trim_start_matches('[').trim_end_matches(']'), port.and_then(|port| port.parse().ok()).unwrap_or(usual))
    }
}

impl fmt::Display for IceUrl<'_> {
    /// Says how the server is reached only where its scheme does not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, transport) = match (self.scheme, self.is_tcp) {
            (IceScheme::Stun, _) => ("stun", ""),
            (IceScheme::Turn, false) => ("turn", ""),
            (IceScheme::Turn, true) => ("turn", "?transport=tcp"),
            (IceScheme::Turns, _) => ("turns", ""),
        };
        write!(f, "{scheme}:{}{transport}", self.address)
    }
}

/// Checks `HOST[:PORT]`.
fn check_address(address: &str) -> Result<(), &'static str> {
    let (host, port) = split(address);
    let is_host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|literal| literal.parse::<Ipv6Addr>().is_ok()),
        None => {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let is_label = |label: &str| {
                (1..=MAX_LABEL).contains(&label.len())
                    && label.bytes().all(is_plain)
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            // A name may end in the dot of the root.
            host.len() <= MAX_HOST
                && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
                // A name that ends in a number is an address, and one that begins with xn-- an international name.
                && url::Host::parse(host).is_ok()
        }
    };
    if host
        .trim_matches(['[', ']'])
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_unspecified() || address.is_multicast())
    {
        return Err("no server has this address");
    }
    if !is_host {
        return Err("an address is HOST or HOST:PORT");
    }
    match port.map(|port| (port.bytes().all(|byte| byte.is_ascii_digit()), port.parse::<u16>())) {
        None | Some((true, Ok(1..))) => Ok(()),
        _ => Err("a port is a number from 1 to 65535"),
    }
}

/// Host and port of `HOST[:PORT]`.
fn split(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    }
}

/// The ports of STUN and TURN, without TLS and with it (RFC 7064, section 3.2; RFC 7065, section 3.2).
#[cfg(feature = "peer")]
const PORT: u16 = 3478;
#[cfg(feature = "peer")]
const TLS_PORT: u16 = 5349;

/// The longest name that the domain name system has, in bytes (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;

/// The longest part of one, between dots.
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Joined;

    #[test]
    fn urls_are_taken_apart() {
        let url = |scheme, address, is_tcp| Ok(IceUrl { scheme, address, is_tcp });
        assert_eq!(IceUrl::parse("stun:stun.example"), url(IceScheme::Stun, "stun.example", false));
        assert_eq!(IceUrl::parse("turn:192.0.2.1:3479"), url(IceScheme::Turn, "192.0.2.1:3479", false));
        assert_eq!(IceUrl::parse("turn:t.example?transport=udp"), url(IceScheme::Turn, "t.example", false));
        assert_eq!(IceUrl::parse("turn:[2001:db8::1]?transport=tcp"), url(IceScheme::Turn, "[2001:db8::1]", true));
        assert_eq!(IceUrl::parse("turns:t.example:443"), url(IceScheme::Turns, "t.example:443", true));
        assert_eq!(IceUrl::parse("STUN:t.example"), url(IceScheme::Stun, "t.example", false));
        assert_eq!(IceUrl::parse("Turns:t.example"), url(IceScheme::Turns, "t.example", true));
        assert_eq!(IceUrl::parse("TURN:t.example").map(|url| url.to_string()).as_deref(), Ok("turn:t.example"));
        for bad in [
            "",
            "stun",
            "stun:",
            "http:x",
            "stuns:x",
            "turn:x?",
            "turn:x?transport=sctp",
            "stun:x?transport=udp",
            "turn:x:0",
            "turn:x:99999",
            "turn:x:+1",
            "turn:x:",
            "turn:2001:db8::1",
            "turn:[x]",
            "turn:[::1",
            "turn:a b",
            "turn://x",
            "turn:ü",
            "turn:-",
            "turn:a..b",
            "turn:.a",
            "turn:0.0.0.0",
            "turn:[::]",
            "turn:224.0.0.1:3478",
            "turn:u@x",
            "turn:x/y",
            "turns:x?transport=udp",
        ] {
            assert!(IceUrl::parse(bad).is_err(), "{bad}");
        }
        assert!(IceUrl::parse(&format!("stun:{}", "x".repeat(64))).is_err());
        assert!(IceUrl::parse(&format!("stun:{}", ["x"; 128].join("."))).is_err());
    }

    #[test]
    fn a_port_that_is_not_named_is_the_schemes() {
        let place = |url| IceUrl::parse(url).unwrap().host_and_port();
        assert_eq!(place("turn:a?transport=tcp"), ("a", 3478));
        assert_eq!(place("turns:a"), ("a", 5349));
        assert_eq!(place("turns:[2001:db8::1]"), ("2001:db8::1", 5349));
        assert_eq!(place("turns:[2001:db8::1]:443?transport=tcp"), ("2001:db8::1", 443));
    }

    #[test]
    fn what_is_no_server_is_left_out_and_spoils_nothing() {
        let read = |servers: &str| {
            let text = format!(r#"{{"sessionId":"x","peer":"bob","iceServers":{servers}}}"#);
            let joined: Joined = serde_json::from_str(&text).unwrap();
            assert_eq!(joined.peer, "bob");
            joined.ice_servers
        };
        let server = |urls: &[&str], username: &str, credential: &str| IceServer {
            urls: urls.iter().map(|&url| url.to_owned()).collect(),
            username: username.to_owned(),
            credential: credential.to_owned(),
        };
        assert_eq!(
            read(
                r#"[{"urls":"stun:a"}, 1, {}, {"urls":[1]}, {"urls":"x","username":1},
                    {"urls":["turn:b","turns:b"],"username":"u","credential":"c","credentialType":"password"}]"#
            ),
            [server(&["stun:a"], "", ""), server(&["turn:b", "turns:b"], "u", "c")]
        );
        for none in ["null", "{}", "1", r#""stun:a""#, "[]", "[[[]]]"] {
            assert_eq!(read(none), []);
        }
        assert!(!format!("{:?}", server(&["turn:b"], "u", "s3cret")).contains("s3cret"));
    }
}
