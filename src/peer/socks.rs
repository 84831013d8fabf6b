//! The way through a SOCKS5 proxy (RFC 1928, with the username and password of RFC 1929), over any stream. It is the
//! proxy that looks the host's name up, so that nobody else hears of it. Pure.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;
use zeroize::Zeroizing;

/// Where a SOCKS5 proxy is: `socks5://[USER:SECRET@]HOST[:PORT]`. `socks5h` says the same.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// Host and port.
    pub address: (String, u16),
    /// User and secret, where the proxy wants to know them.
    login: Option<(String, Zeroizing<String>)>,
}

impl FromStr for ProxyUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "a proxy is given as socks5://[USER:SECRET@]HOST[:PORT]";
        let url = Url::parse(text).map_err(|_| expected)?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "socks5" | "socks5h") || !is_bare || url.port() == Some(0) {
            return Err(expected);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(expected)?;
        let host = percent_decode_str(host).decode_utf8().map_err(|_| expected)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let decoded = |text| percent_decode_str(text).decode_utf8().map_err(|_| expected);
        let login = match (decoded(url.username())?.into_owned(), url.password()) {
            (user, None) if user.is_empty() => None,
            (user, secret) => Some((user, Zeroizing::new(decoded(secret.unwrap_or_default())?.into_owned()))),
        };
        if let Some((user, secret)) = &login
            && [user.len(), secret.len()].iter().any(|length| !(1..=255).contains(length))
        {
            return Err("a proxy takes a user and a secret of 1 to 255 bytes each");
        }
        Ok(Self { address: (host, url.port().unwrap_or(PORT)), login })
    }
}

impl fmt::Debug for ProxyUrl {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyUrl").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ProxyUrl {
    /// Whether it is on this machine.
    #[cfg(feature = "chat")]
    pub(crate) fn is_loopback(&self) -> bool {
        let host = &self.address.0;
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Asks the proxy at the other end of `stream` for a connection to `host`: what is written to the stream and read
    /// from it from then on is the host's.
    ///
    /// # Errors
    /// The stream's, or why the proxy refuses, for people.
    pub fn connect(&self, stream: &mut (impl Read + Write), host: &str, port: u16) -> io::Result<()> {
        let method = if self.login.is_some() { PASSWORD } else { NONE };
        stream.write_all(&[VERSION, 1, method])?;
        match read(stream)? {
            [VERSION, chosen] if chosen == method => {}
            [VERSION, 0xff] if self.login.is_none() => return refused("it wants to know a user and a secret"),
            [VERSION, 0xff] => return refused("it takes no user and secret"),
            _ => return refused("it does not speak SOCKS5"),
        }
        if let Some((user, secret)) = &self.login {
            // In one piece, as all of these are, since some proxies read a message by a single call.
            let lengths = (user.len() as u8, secret.len() as u8);
            let words: [&[u8]; 5] = [&[LOGIN_VERSION], &[lengths.0], user.as_bytes(), &[lengths.1], secret.as_bytes()];
            stream.write_all(&Zeroizing::new(words.concat()))?;
            if read(stream)? != [LOGIN_VERSION, 0] {
                return refused("the user or the secret is wrong");
            }
        }
        let address = match host.parse() {
            Ok(IpAddr::V4(address)) => [&[IPV4][..], &address.octets()].concat(),
            Ok(IpAddr::V6(address)) => [&[IPV6][..], &address.octets()].concat(),
            Err(_) => {
                let length = u8::try_from(host.len()).or_else(|_| refused("the server's name is too long for it"))?;
                [&[NAME, length], host.as_bytes()].concat()
            }
        };
        stream.write_all(&[&[VERSION, CONNECT, 0], &*address, &port.to_be_bytes()].concat())?;
        let [version, reply, _, kind] = read(stream)?;
        if version != VERSION {
            return refused("it does not speak SOCKS5");
        }
        if reply != 0 {
            return refused(REPLIES.get(usize::from(reply) - 1).unwrap_or(&"it does not say why"));
        }
        // The address that it connects from, which is of no use to us, and its port.
        let length = match kind {
            IPV4 => 4,
            IPV6 => 16,
            NAME => usize::from(read::<1>(stream)?[0]),
            _ => return refused("it does not speak SOCKS5"),
        };
        stream.read_exact(&mut vec![0; length + 2])
    }
}

fn read<const LENGTH: usize>(stream: &mut impl Read) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    stream.read_exact(&mut bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => io::Error::new(ErrorKind::UnexpectedEof, "the proxy closed the connection"),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => io::Error::new(ErrorKind::TimedOut, "the proxy does not answer"),
        _ => error,
    })?;
    Ok(bytes)
}

fn refused<T>(reason: &str) -> io::Result<T> {
    Err(io::Error::other(format!("the proxy refuses: {reason}")))
}

/// The port of SOCKS (IANA).
const PORT: u16 = 1080;

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;

// Methods (RFC 1928, section 3).
const NONE: u8 = 0;
const PASSWORD: u8 = 2;

const CONNECT: u8 = 1;

// Kinds of addresses (RFC 1928, section 5).
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// What the replies from 1 on mean (RFC 1928, section 6).
const REPLIES: [&str; 8] = [
    "it failed",
    "its rules do not allow that server",
    "it cannot reach the network",
    "it cannot reach the server",
    "the server refuses the connection",
    "the way to the server is too long",
    "it does not know the command",
    "it does not know the kind of address",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy that says what it says, whatever it hears.
    struct Proxy {
        says: &'static [u8],
        heard: Vec<u8>,
    }

    impl Read for Proxy {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // A byte at a time, as a network may.
            let length = buffer.len().min(1);
            self.says.read(&mut buffer[..length])
        }
    }

    impl Write for Proxy {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn connect(url: &str, host: &str, says: &'static [u8]) -> (Result<(), String>, Proxy) {
        let mut proxy = Proxy { says, heard: Vec::new() };
        let connected = url.parse::<ProxyUrl>().unwrap().connect(&mut proxy, host, 443);
        (connected.map_err(|error| error.to_string()), proxy)
    }

    #[test]
    fn a_name_goes_to_the_proxy_as_it_is_and_what_comes_behind_is_left() {
        let (connected, proxy) =
            connect("socks5://proxy", "chat.example", b"\x05\0\x05\0\0\x01\x7f\0\0\x01\x01\xbbHTTP");
        assert_eq!(connected, Ok(()));
        assert_eq!(proxy.heard, b"\x05\x01\0\x05\x01\0\x03\x0cchat.example\x01\xbb");
        assert_eq!(proxy.says, b"HTTP");
    }

    #[test]
    fn addresses_go_as_addresses_and_the_answer_may_be_of_any_kind() {
        let (connected, proxy) = connect("socks5://proxy", "192.0.2.1", b"\x05\0\x05\0\0\x03\x02ab\0\0");
        assert_eq!((connected, proxy.heard), (Ok(()), b"\x05\x01\0\x05\x01\0\x01\xc0\0\x02\x01\x01\xbb".to_vec()));
        let (connected, proxy) =
            connect("socks5://proxy", "::1", b"\x05\0\x05\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!((connected, proxy.says.len()), (Ok(()), 0));
        assert!(proxy.heard.ends_with(b"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb"));
    }

    #[test]
    fn user_and_secret_are_told_if_there_are_some() {
        let (connected, proxy) = connect("socks5h://bob:p%40ss@proxy", "x", b"\x05\x02\x01\0\x05\0\0\x01\0\0\0\0\0\0");
        assert_eq!(connected, Ok(()));
        assert_eq!(proxy.heard, b"\x05\x01\x02\x01\x03bob\x04p@ss\x05\x01\0\x03\x01x\x01\xbb");
        let (connected, _) = connect("socks5://bob:x@proxy", "x", b"\x05\x02\x01\x01");
        assert_eq!(connected, Err("the proxy refuses: the user or the secret is wrong".to_owned()));
    }

    #[test]
    fn a_refusal_has_a_reason_and_nonsense_is_one() {
        for (says, reason) in [
            (&b"\x05\xff"[..], "it wants to know a user and a secret"),
            (b"HTTP/1.1 400", "it does not speak SOCKS5"),
            (b"\x05\0\x05\x02\0\x01", "its rules do not allow that server"),
            (b"\x05\0\x05\x05\0\x01", "the server refuses the connection"),
            (b"\x05\0\x05\xee\0\x01", "it does not say why"),
            (b"\x05\0\x05\0\0\x09", "it does not speak SOCKS5"),
            (b"\x05\0\x04\0\0\x01", "it does not speak SOCKS5"),
        ] {
            assert_eq!(connect("socks5://proxy", "x", says).0, Err(format!("the proxy refuses: {reason}")), "{says:?}");
        }
        assert_eq!(connect("socks5://proxy", "x", b"\x05").0, Err("the proxy closed the connection".to_owned()));
        let long = "x".repeat(256);
        assert!(connect("socks5://proxy", &long, b"\x05\0").0.unwrap_err().contains("too long"));
    }

    #[test]
    fn proxies_are_read_with_user_and_port_or_without_and_nothing_else_is() {
        let address = |text: &str| text.parse::<ProxyUrl>().map(|proxy| proxy.address);
        assert_eq!(address("socks5://127.0.0.1:9050"), Ok(("127.0.0.1".to_owned(), 9050)));
        assert_eq!(address("socks5h://[::1]"), Ok(("::1".to_owned(), 1080)));
        let here = ["socks5://127.0.0.2", "socks5://[::1]", "socks5://LOCALHOST", "socks5://192.0.2.1", "socks5://x"];
        let is_loopback = here.map(|text| text.parse::<ProxyUrl>().unwrap().is_loopback());
        assert_eq!(is_loopback, [true, true, true, false, false]);
        assert_eq!(address("socks5://bob:secret@proxy.example/"), Ok(("proxy.example".to_owned(), 1080)));
        let long = format!("socks5://{}:x@proxy", "x".repeat(256));
        for bad in [
            "",
            "proxy:1080",
            "http://proxy",
            "socks4://proxy",
            "socks5://",
            "socks5://proxy:0",
            "socks5://p/x",
            "socks5://p?x",
            "socks5://bob@proxy",
            "socks5://:x@proxy",
            "socks5:proxy",
            &long,
        ] {
            assert!(bad.parse::<ProxyUrl>().is_err(), "{bad}");
        }
        assert!(!format!("{:?}", "socks5://bob:secret@proxy".parse::<ProxyUrl>()).contains("secret"));
    }
}
