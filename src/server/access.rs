//! Who may come in, and from where: the origins of browsers, the tokens of a private server, and what only this
//! machine may read. Pure.

use std::fmt;

use httparse::Request;
use subtle::ConstantTimeEq;

use super::request::{header, origin, parameter, parse_address};

/// Who may come in from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The origins of browsers.
    pub cors: Cors,
    /// On a private server, what a client has to know to come online: one of these.
    pub tokens: Vec<AccessToken>,
    /// The server is about to stop: it lets nobody in, and tells whoever asks to come again after so many seconds.
    pub retry_after: Option<u64>,
    /// The other servers of its cluster cannot be asked, and could not for a while: a balancer had better send people
    /// elsewhere.
    pub is_cut_off: bool,
}

impl Default for Access {
    /// Everybody may come in.
    fn default() -> Self {
        Self { cors: Cors::Any, tokens: Vec::new(), retry_after: None, is_cut_off: false }
    }
}

/// A secret that users of a private server know. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    /// Takes the token, if it is one: not empty, such as a header can carry, and with room beside it in a request head.
    pub fn new(token: &str) -> Option<Self> {
        let is_fit = (1..=MAX_TOKEN_BYTES).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_fit.then(|| Self(token.to_owned()))
    }

    pub(super) fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(..)")
    }
}

/// Which origins a browser may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// All of them.
    Any,
    /// These, compared without case.
    Only(Vec<String>),
}

impl Cors {
    pub(super) fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(origins) => origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)),
        }
    }
}

impl Access {
    /// Whether whoever asks knows what a client of a private server has to know.
    pub(super) fn knows_token(&self, request: &Request<'_, '_>, query: &str) -> bool {
        self.tokens.is_empty()
            || given_access_token(request, query).is_some_and(|given| self.tokens.iter().any(|token| token.is(&given)))
    }
}

/// The longest access token. Three times as much, as an address carries it if need be, still fits in a request head.
pub(crate) const MAX_TOKEN_BYTES: usize = 4096;

fn given_access_token(request: &Request<'_, '_>, query: &str) -> Option<String> {
    let bearer = header(request, "authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    bearer.or_else(|| parameter(query, "access_token")?.ok())
}

/// Whether a program on this machine asks for itself, and neither for somebody behind a proxy nor for a page that a
/// browser on this machine shows: a page may have any name look up as this machine (DNS rebinding), but that name
/// stands in `Host`.
pub(super) fn is_from_here(request: &Request<'_, '_>) -> bool {
    let mut hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    let is_here = match (hosts.next(), hosts.next()) {
        // No browser leaves it out.
        (None, _) => true,
        (Some(host), None) => std::str::from_utf8(host.value).is_ok_and(|host| names_this_machine(host.trim())),
        _ => false,
    };
    is_here && !is_forwarded(request) && origin(request).is_none_or(is_origin_here)
}

/// Whether an `Origin` is a page that this machine serves.
fn is_origin_here(origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, host)| names_this_machine(host))
}

/// Whether a `Host` is `localhost` or an address of loopback, perhaps with a port.
fn names_this_machine(host: &str) -> bool {
    let port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = port.map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost")
        || parse_address(name).is_some_and(|address| address.to_canonical().is_loopback())
}

/// Whether a proxy has passed the request on, as far as it tells: one that says nothing and calls this server by an
/// address of loopback looks like a program on this machine.
fn is_forwarded(request: &Request<'_, '_>) -> bool {
    let is_proxys = |name: &str| name.starts_with("x-forwarded-") || PROXY_HEADERS.contains(&name);
    request.headers.iter().any(|header| is_proxys(&header.name.to_ascii_lowercase()))
}

/// The headers by which proxies tell of themselves or of whom they stand for, beside all of `X-Forwarded-`.
const PROXY_HEADERS: [&str; 14] = [
    "cdn-loop",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ray",
    "client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-real-ip",
];

#[cfg(test)]
mod tests {
    use super::super::http::Endpoints;
    use super::super::http::tests::{USERS, WS, ask, ask_at, status, text};
    use super::*;

    #[test]
    fn cors_headers_go_to_allowed_origins_alone() {
        let only = Cors::Only(vec!["https://a.example".to_owned()]);
        let rows = [
            (&Cors::Any, None, Some("*")),
            (&Cors::Any, Some("https://b.example"), Some("https://b.example")),
            (&only, Some("https://A.example"), Some("https://A.example")),
            (&only, Some("https://b.example"), None),
        ];
        for (cors, origin, allowed) in rows {
            let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
            for line in ["OPTIONS /ws HTTP/1.1\r\n", "GET /health HTTP/1.1\r\n", "GET /nowhere HTTP/1.1\r\n"] {
                let answer = text(ask(&format!("{line}{origin}"), cors));
                match allowed {
                    Some(allowed) => {
                        assert!(answer.contains(&format!("Access-Control-Allow-Origin: {allowed}\r\n")), "{answer}");
                        assert!(answer.contains("Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n"), "{answer}");
                        assert!(answer.contains("Access-Control-Allow-Headers: Content-Type\r\n"), "{answer}");
                    }
                    None => assert!(!answer.contains("Access-Control"), "{answer}"),
                }
            }
        }
    }

    #[test]
    fn an_upgrade_from_an_origin_that_is_not_allowed_is_forbidden() {
        let only = Cors::Only(vec!["https://a.example".to_owned()]);
        let request = |origin: &str| status(&format!("GET /ws?username=bob HTTP/1.1\r\n{WS}{origin}"), &only);
        assert_eq!(request("Origin: https://b.example\r\n"), "403");
        assert_eq!(request("Origin: https://a.example\r\n"), "101");
        assert_eq!(request(""), "101", "no browser sends none");
    }

    #[test]
    fn a_private_server_wants_its_token() {
        let tokens = ["another", "s3cret"].iter().filter_map(|token| AccessToken::new(token)).collect();
        let access = Access { tokens, ..Access::default() };
        let status = |query: &str, headers: &str| {
            let head = format!("GET /ws?username=bob{query} HTTP/1.1\r\n{WS}{headers}");
            text(ask_at(&head, USERS, &access))[9..12].to_owned()
        };
        for (query, headers) in [
            ("", ""),
            ("&access_token=", ""),
            ("&access_token=s3cre", ""),
            ("&access_token=s3cret1", ""),
            ("", "Authorization: Basic s3cret\r\n"),
            ("", "Authorization: Bearer S3CRET\r\n"),
        ] {
            assert_eq!(status(query, headers), "401", "{query} {headers}");
        }
        assert_eq!(status("&access_token=s3cret", ""), "101");
        assert_eq!(status("&access_token=another", ""), "101");
        assert_eq!(status("", "Authorization: bearer s3cret\r\n"), "101");
        let health = ask_at("GET /health HTTP/1.1\r\n", USERS, &access);
        assert!(text(health).contains("200 OK"), "health is for everybody");
    }

    #[test]
    fn metrics_are_read_at_their_endpoint_and_not_through_a_proxy_or_a_page() {
        let ask = |head: &str, users, metrics| {
            text(ask_at(head, Endpoints { users, metrics }, &Access::default()))[9..12].to_owned()
        };
        assert_eq!(ask("GET /metrics HTTP/1.1\r\n", true, false), "404");
        assert_eq!(ask("GET /metrics HTTP/1.1\r\n", true, true), "200");
        assert_eq!(ask("POST /metrics HTTP/1.1\r\n", true, true), "405");
        assert_eq!(ask(&format!("GET /ws?username=bob HTTP/1.1\r\n{WS}"), false, true), "404");
        let with = |header: &str, users| ask(&format!("GET /metrics HTTP/1.1\r\n{header}\r\n"), users, true);
        assert_eq!(with("X-Forwarded-For: 192.0.2.1", true), "404");
        assert_eq!(with("X-Forwarded-For: 192.0.2.1", false), "200", "at a port of their own");
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]", "[::1]:8080"] {
            assert_eq!(with(&format!("Host: {host}"), true), "200", "{host}");
        }
        for host in
            ["chat.example", "evil.example:8080", "192.0.2.1", "localhost.evil.example", "", "[::2]:8080", "x:y"]
        {
            assert_eq!(with(&format!("Host: {host}"), true), "404", "{host}");
            assert_eq!(with(&format!("Host: {host}"), false), "200", "{host} at a port of their own");
        }
        assert_eq!(with("Host: localhost\r\nHost: evil.example", true), "404");
        let proxys = ["X-Forwarded-Host", "X-FORWARDED-Anything"].into_iter().chain(PROXY_HEADERS);
        let named = ["CF-Connecting-IP", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Real-IP", "Via"];
        for header in proxys.chain(named) {
            assert_eq!(with(&format!("Host: 127.0.0.1:8080\r\n{header}: 127.0.0.1"), true), "404", "{header}");
        }
        for (origin, status) in [
            ("https://chat.example", "404"),
            ("null", "404"),
            ("http://127.0.0.1.evil.example", "404"),
            ("", "404"),
            ("http://localhost:9090", "200"),
            ("http://[::1]", "200"),
        ] {
            assert_eq!(with(&format!("Host: 127.0.0.1\r\nOrigin: {origin}"), true), status, "{origin}");
        }
    }

    #[test]
    fn two_origins_are_refused() {
        let request = |origins: &str| {
            let only = Cors::Only(vec!["https://a.example".to_owned()]);
            [Cors::Any, only].map(|cors| status(&format!("GET /ws?username=bob HTTP/1.1\r\n{WS}{origins}"), &cors))
        };
        assert_eq!(request("Origin: https://a.example\r\n"), ["101", "101"]);
        assert_eq!(request("Origin: https://a.example\r\nOrigin: https://b.example\r\n"), ["400", "400"]);
        assert_eq!(request("origin: https://b.example\r\nOrigin: https://a.example\r\n"), ["400", "400"]);
    }
}
