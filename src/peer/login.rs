//! Who goes online where: the server's URL, the name, and the secrets that go with them. Pure.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha512};
use url::{Host, Url};

use super::socks::ProxyUrl;
use crate::protocol::WEBSOCKET_PATH;

/// Where a server is: a `ws://` or `wss://` URL whose path ends in `/ws`.
#[derive(Debug, Clone)]
pub struct ServerUrl {
    /// Without the dot of the root, so that a host is one place however it is spelled.
    url: Url,
    /// Whether that dot was there: then the name is looked up as it is, and completed by no search domain.
    has_root_dot: bool,
}

impl PartialEq for ServerUrl {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
    }
}

impl Eq for ServerUrl {}

/// Why a text is no [`ServerUrl`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrlError {
    url: String,
    expected: &'static str,
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let error = |expected| ServerUrlError { url: text.to_owned(), expected };
        let mut url = Url::parse(text).map_err(|_| error("a URL such as wss://chat.example or ws://localhost:8080"))?;
        if !matches!(url.scheme(), "ws" | "wss") || url.host().is_none() {
            return Err(error("ws://HOST or wss://HOST"));
        }
        if url.port() == Some(0) {
            return Err(error("another port than 0, at which nobody listens"));
        }
        let is_plain =
            url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        if !is_plain {
            return Err(error("a URL without a user, a query or a fragment"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&if path.ends_with(WEBSOCKET_PATH) { path } else { path + WEBSOCKET_PATH });
        let without_dot = url.domain().and_then(|name| name.strip_suffix('.')).map(str::to_owned);
        if let Some(name) = &without_dot
            && (name.is_empty() || name.ends_with('.') || url.set_host(Some(name)).is_err())
        {
            return Err(error("a host such as chat.example"));
        }
        Ok(Self { url, has_root_dot: without_dot.is_some() })
    }
}

impl ServerUrl {
    /// Whether the server is on this machine, so that peers may be too.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// The host, with its port and path where those are not the usual ones: how the server is called in lists of peers,
    /// and without a path in links.
    pub fn place(&self) -> String {
        let (host, port) = (self.url.host_str().unwrap_or_default(), self.url.port());
        let path = self.url.path().strip_suffix(WEBSOCKET_PATH).unwrap_or_default();
        port.map_or(format!("{host}{path}"), |port| format!("{host}:{port}{path}"))
    }

    /// Whether the connection to it is not encrypted.
    pub fn is_plain(&self) -> bool {
        self.url.scheme() == "ws"
    }

    /// Whether it is a service of Tor, to which a connection by Tor is encrypted in any case.
    #[cfg(feature = "chat")]
    pub(crate) fn is_onion(&self) -> bool {
        self.url.domain().is_some_and(|name| name.ends_with(".onion"))
    }

    /// Whether both are behind the same scheme, host and port.
    #[cfg(feature = "chat")]
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        self.url.origin() == other.url.origin()
    }

    /// The URL that takes `username` online.
    pub(super) fn for_user(&self, username: &str) -> String {
        format!("{}?username={}", self.url, utf8_percent_encode(username, NON_ALPHANUMERIC))
    }

    /// Host and port to connect to.
    pub(super) fn address(&self) -> (String, u16) {
        let host = match self.url.host() {
            Some(Host::Domain(name)) if self.has_root_dot => format!("{name}."),
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => String::new(),
        };
        (host, self.url.port_or_known_default().unwrap_or(80))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Display for ServerUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In front of an @ there may stand a password, which nobody else is to see.
        match self.url.contains('@') {
            true => write!(f, "a URL with an @ is no server; give {}", self.expected),
            false => write!(f, "{:?} is no server; give {}", self.url, self.expected),
        }
    }
}

impl std::error::Error for ServerUrlError {}

/// Who goes online where, and with which secrets.
#[derive(Clone)]
pub struct Login {
    /// The server to go online at.
    pub server: ServerUrl,
    /// The name to be online as.
    pub username: String,
    /// The secret that names are held with. No server sees it: each is given a hash of its own.
    pub secret: String,
    /// What a private server wants to know.
    pub access_token: Option<String>,
    /// The proxy to reach the server by.
    pub proxy: Option<ProxyUrl>,
}

impl Login {
    /// The token that holds this name at this server (protocol 2.6): a hash, so that no server learns what holds a name
    /// at another.
    pub(super) fn name_token(&self) -> String {
        let mut hash = Sha512::new();
        for item in ["lowkey name token", &self.secret, self.server.url.as_str(), &self.username] {
            hash.update((item.len() as u64).to_be_bytes());
            hash.update(item);
        }
        BASE64URL_NOPAD.encode(&hash.finalize()[..TOKEN_BYTES])
    }
}

/// How much of a hash makes a token, in bytes.
const TOKEN_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_where_it_is_missing() {
        for (text, url) in [
            ("ws://localhost:8080", "ws://localhost:8080/ws"),
            ("wss://chat.example/", "wss://chat.example/ws"),
            ("wss://chat.example/ws", "wss://chat.example/ws"),
            ("wss://chat.example/lowkey/", "wss://chat.example/lowkey/ws"),
            ("ws://[::1]:8080", "ws://[::1]:8080/ws"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().map(|server| server.to_string()), Ok(url.to_owned()));
        }
        for (text, place) in [
            ("wss://Chat.Example:443", "chat.example"),
            ("ws://localhost:8080", "localhost:8080"),
            ("wss://chat.example/lowkey", "chat.example/lowkey"),
            ("wss://CHAT.example/ws/", "chat.example"),
            ("WSS://chat.example:0443//", "chat.example"),
            ("ws://chat.example:80", "chat.example"),
            ("wss://chat.example:80", "chat.example:80"),
            ("ws://[0:0::1]:8080", "[::1]:8080"),
            ("wss://chat.example.", "chat.example"),
            ("wss://CHAT.example.:443/lowkey", "chat.example/lowkey"),
            ("ws://localhost.:8080", "localhost:8080"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().place(), place);
        }
        let server: ServerUrl = "ws://localhost".parse().unwrap();
        assert_eq!(server.for_user("a b/ö"), "ws://localhost/ws?username=a%20b%2F%C3%B6");
        let [plain, rooted] =
            ["wss://chat.example", "wss://chat.example."].map(|url| url.parse::<ServerUrl>().unwrap());
        assert_eq!((&plain, plain.for_user("a")), (&rooted, rooted.for_user("a")));
        assert_eq!(
            [plain.address().0, rooted.address().0],
            ["chat.example", "chat.example."],
            "it is looked up as it is"
        );
        assert!("ws://localhost.".parse::<ServerUrl>().unwrap().is_loopback());
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for text in [
            "",
            "chat.example",
            "http://chat.example",
            "ws://",
            "ws://a@b",
            "ws://a/?x",
            "ws://a/#x",
            "ws://.",
            "ws://a..",
            "ws://a:0",
            "wss://[::1]:0/ws",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_has_another_token_at_each_server_and_for_each_secret() {
        let token = |server: &str, username: &str, secret: &str| {
            let (server, username, secret) = (server.parse().unwrap(), username.to_owned(), secret.to_owned());
            Login { server, username, secret, access_token: None, proxy: None }.name_token()
        };
        let one = token("ws://a.example", "alice", "secret");
        assert_eq!(one, token("ws://a.example/ws", "alice", "secret"));
        assert_eq!(one, token("ws://a.example.", "alice", "secret"));
        assert_eq!(one.len(), 32);
        for other in [
            token("ws://b.example", "alice", "secret"),
            token("ws://a.example", "bob", "secret"),
            token("ws://a.example", "alice", "other"),
        ] {
            assert_ne!(other, one);
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_address() {
        let is_loopback = |text: &str| text.parse::<ServerUrl>().unwrap().is_loopback();
        assert!(is_loopback("ws://localhost") && is_loopback("ws://127.0.0.1:1") && is_loopback("ws://[::1]"));
        assert!(!is_loopback("ws://192.0.2.1") && !is_loopback("wss://chat.example"));
    }
}
