//! One request head to one answer: `/ws`, `/health`, `/metrics` and CORS (protocol 1.1). Pure; bytes are the connection's
//! matter, and whether a name is free is the hub's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use data_encoding::BASE64;
use httparse::Request;
use percent_encoding::percent_decode;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use crate::protocol::{LINK_SCHEME, MAX_USERNAME_BYTES, WEBSOCKET_PATH};

/// What a request head gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The switch to WebSocket, if the client may have the name.
    Upgrade {
        /// Who wants to come online.
        caller: Caller,
        /// The bytes of the 101 response.
        response: Vec<u8>,
    },
    /// The metrics, as they are now.
    Metrics,
    /// A response after which the connection ends.
    Respond(Vec<u8>),
}

/// Who wants to come online. Its token is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name that it asks for, decoded.
    pub username: String,
    /// The token that the name is to be held with (protocol 2.6).
    pub token: Option<String>,
    /// The addresses that proxies say the request has come from, the nearest last.
    pub forwarded_for: Vec<IpAddr>,
    /// The one address that a proxy says it has come from, in the other header that there is for that.
    pub real_ip: Option<IpAddr>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "(not shown)");
        let Self { username, forwarded_for, real_ip, .. } = self;
        write!(f, "Caller {{ {username:?}, token {token:?}, {forwarded_for:?}, {real_ip:?} }}")
    }
}

/// What a listening socket is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// Users may come in: `/ws`.
    pub users: bool,
    /// The metrics may be read: `/metrics`.
    pub metrics: bool,
}

/// Who may come in from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The origins of browsers.
    pub cors: Cors,
    /// On a private server, what a client has to know to come online: one of these.
    pub tokens: Vec<AccessToken>,
    /// The server is about to stop: it lets nobody in, and tells whoever asks to come again after so many seconds.
    pub retry_after: Option<u64>,
}

impl Default for Access {
    /// Everybody may come in.
    fn default() -> Self {
        Self { cors: Cors::Any, tokens: Vec::new(), retry_after: None }
    }
}

/// A secret that users of a private server know. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    /// Takes the token, if it is one: not empty, and such as a header can carry.
    pub fn new(token: &str) -> Option<Self> {
        let is_fit = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_fit.then(|| Self(token.to_owned()))
    }

    fn is(&self, given: &str) -> bool {
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
    fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(origins) => origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)),
        }
    }
}

/// Answers one complete request head.
pub fn answer(request: &Request<'_, '_>, door: Door, access: &Access) -> Answer {
    let cors = &access.cors;
    let method = request.method.unwrap_or_default();
    let (path, query) = split_target(request.path.unwrap_or_default());
    let origin = origin(request);
    let response = |status| Response::new(status).cors(cors, origin).without_body_if(method == "HEAD");
    let origins = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("origin"));
    if origins.count() > 1 {
        // Which of them is the browser's cannot be told (RFC 6454, section 7.3: there is one at most).
        return Response::new("400 Bad Request").text("a request has one Origin at most").finish();
    }
    let draining = |seconds: u64| response("503 Service Unavailable").header("Retry-After", &seconds.to_string());
    if method == "OPTIONS" {
        return response("204 No Content").finish();
    }
    match path {
        "/health" => match method {
            "GET" | "HEAD" => match access.retry_after {
                Some(seconds) => draining(seconds).body("application/json", r#"{"status":"draining"}"#).finish(),
                None => response("200 OK").body("application/json", r#"{"status":"ok"}"#).finish(),
            },
            _ => response("405 Method Not Allowed").header("Allow", "GET, HEAD, OPTIONS").finish(),
        },
        WEBSOCKET_PATH if door.users => match method {
            "GET" => match access.retry_after {
                Some(seconds) => draining(seconds).text("the server is about to stop").finish(),
                None => upgrade(request, query, origin, access, response),
            },
            _ => response("405 Method Not Allowed").header("Allow", "GET, OPTIONS").finish(),
        },
        METRICS_PATH if door.metrics && (!door.users || is_from_here(request)) => match method {
            "GET" => Answer::Metrics,
            _ => response("405 Method Not Allowed").header("Allow", "GET, OPTIONS").finish(),
        },
        _ => response("404 Not Found").text("not found").finish(),
    }
}

/// The answer that carries the metrics.
pub fn metrics(text: &str) -> Vec<u8> {
    Response::new("200 OK")
        .body("text/plain; version=0.0.4; charset=utf-8", text)
        .header("Connection", "close")
        .into_bytes()
}

/// The answer to a request that does not get as far as any of these.
pub fn refusal(status: &'static str, reason: &str) -> Vec<u8> {
    Response::new(status).text(reason).header("Connection", "close").into_bytes()
}

fn upgrade(
    request: &Request<'_, '_>,
    query: &str,
    origin: Option<&str>,
    access: &Access,
    response: impl Fn(&'static str) -> Response,
) -> Answer {
    if !access.tokens.is_empty()
        && !given_access_token(request, query).is_some_and(|given| access.tokens.iter().any(|token| token.is(&given)))
    {
        return response("401 Unauthorized")
            .header("WWW-Authenticate", "Bearer")
            .text("this server is private")
            .finish();
    }
    let username = match username(query) {
        Ok(username) => username,
        Err(reason) => return response("400 Bad Request").text(reason).finish(),
    };
    let upgrade_required = |reason| {
        response("426 Upgrade Required")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .text(reason)
            .finish()
    };
    if request.version != Some(1)
        || !has_token(request, "connection", "upgrade")
        || !has_token(request, "upgrade", "websocket")
    {
        return upgrade_required("this is a WebSocket endpoint");
    }
    if header(request, "sec-websocket-version") != Some("13") {
        return upgrade_required("only WebSocket version 13 is spoken here");
    }
    let Some(key) = header(request, "sec-websocket-key").filter(|key| is_websocket_key(key)) else {
        return response("400 Bad Request").text("Sec-WebSocket-Key is missing or malformed").finish();
    };
    let token = match token(request, query) {
        Ok(token) => token,
        Err(reason) => return response("400 Bad Request").text(reason).finish(),
    };
    if origin.is_some_and(|origin| !access.cors.allows(origin)) {
        return response("403 Forbidden").text("this origin is not allowed").finish();
    }
    let response = response("101 Switching Protocols")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Accept", &accept_key(key))
        .into_bytes();
    let (forwarded_for, real_ip) = (addresses(request, "x-forwarded-for"), addresses(request, "x-real-ip").pop());
    Answer::Upgrade { caller: Caller { username, token, forwarded_for, real_ip }, response }
}

fn given_access_token(request: &Request<'_, '_>, query: &str) -> Option<String> {
    let bearer = header(request, "authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    bearer.or_else(|| parameter(query, "access_token")?.ok())
}

/// The token for the name: from the header, or from the query where a client can set no header.
fn token(request: &Request<'_, '_>, query: &str) -> Result<Option<String>, &'static str> {
    let token = match header(request, "lowkey-token") {
        Some(token) => Some(token.to_owned()),
        None => parameter(query, "token").transpose().map_err(|()| "the token is not UTF-8")?,
    };
    match token {
        Some(token) if token.len() > MAX_TOKEN_BYTES => Err("the token is longer than 128 bytes"),
        token => Ok(token.filter(|token| !token.is_empty())),
    }
}

/// Whether a program on this machine asks for itself, and neither for somebody behind a proxy nor for a page that a browser on
/// this machine shows: a page may have any name look up as this machine (DNS rebinding), but that name stands in `Host`.
fn is_from_here(request: &Request<'_, '_>) -> bool {
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

/// Whether a proxy has passed the request on, as far as it tells: one that says nothing and calls this server by an address of
/// loopback looks like a program on this machine.
fn is_forwarded(request: &Request<'_, '_>) -> bool {
    let is_proxys = |name: &str| name.starts_with("x-forwarded-") || PROXY_HEADERS.contains(&name);
    request.headers.iter().any(|header| is_proxys(&header.name.to_ascii_lowercase()))
}

/// The addresses in a header of proxies. What is no address stands for an unknown one: left out, it would let the client's own
/// word move up.
fn addresses(request: &Request<'_, '_>, name: &str) -> Vec<IpAddr> {
    let headers = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let items = headers.flat_map(|header| header.value.split(|byte| *byte == b','));
    items
        .map(|item| std::str::from_utf8(item).ok().and_then(|item| parse_address(item.trim())).unwrap_or(UNKNOWN))
        .collect()
}

/// An address as proxies write it, perhaps with a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Path and query of a request target, be it in origin form or, as a server must take too, in absolute form
/// (RFC 9112, section 3.2).
fn split_target(target: &str) -> (&str, &str) {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |start| &rest[start..]),
        _ => target,
    };
    target.split_once('?').unwrap_or((target, ""))
}

/// The `username` of a query.
fn username(query: &str) -> Result<String, &'static str> {
    let username = match parameter(query, "username") {
        Some(Ok(username)) if !username.is_empty() => username,
        Some(Err(())) => return Err("the username is not UTF-8"),
        _ => return Err("the query parameter username is missing"),
    };
    if username.len() > MAX_USERNAME_BYTES {
        return Err("the username is longer than 64 bytes");
    }
    if username.chars().any(char::is_control) {
        return Err("the username has a control character");
    }
    if username.starts_with(LINK_SCHEME) {
        return Err("the username begins with lowkey://, as only a link does");
    }
    Ok(username)
}

/// The first value of a query's parameter, decoded as the Go server decodes it: `%XX`, and `+` for a space. An error if it is
/// not UTF-8.
fn parameter(query: &str, name: &str) -> Option<Result<String, ()>> {
    let value = query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })?;
    let spaced = value.replace('+', " ");
    Some(percent_decode(spaced.as_bytes()).decode_utf8().map(|text| text.into_owned()).map_err(|_| ()))
}

/// Where a browser comes from. An origin that is not text is none that could be allowed, but it is one.
fn origin<'a>(request: &Request<'_, 'a>) -> Option<&'a str> {
    let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("origin"))?;
    Some(std::str::from_utf8(header.value).unwrap_or_default().trim())
}

/// The one value of a header; none if it is absent or not text. Names are compared without case.
fn header<'a>(request: &Request<'_, 'a>, name: &str) -> Option<&'a str> {
    values(request, name).next()
}

fn values<'a>(request: &Request<'_, 'a>, name: &str) -> impl Iterator<Item = &'a str> {
    request
        .headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .filter_map(|header| std::str::from_utf8(header.value).ok())
        .map(str::trim)
}

/// Whether a header that is a comma list, perhaps in several lines, holds `token` (compared without case).
fn has_token(request: &Request<'_, '_>, name: &str, token: &str) -> bool {
    values(request, name).flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// Whether this is the base64 of 16 bytes (RFC 6455, section 4.1), which is 22 digits and two signs of padding.
fn is_websocket_key(key: &str) -> bool {
    key.strip_suffix("==").is_some_and(|digits| {
        digits.len() == 22 && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
    })
}

/// What shows that the server has read the key (RFC 6455, section 4.2.2).
fn accept_key(key: &str) -> String {
    BASE64.encode(&Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize())
}

/// A response head, and perhaps a body, in the making.
#[derive(Debug)]
struct Response {
    head: String,
    body: String,
    has_body: bool,
}

impl Response {
    fn new(status: &'static str) -> Self {
        let mut head = String::with_capacity(USUAL_HEAD_BYTES);
        for part in ["HTTP/1.1 ", status, "\r\n"] {
            head += part;
        }
        Self { head, body: String::new(), has_body: true }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.head += name;
        self.head += ": ";
        self.head += value;
        self.head += "\r\n";
        self
    }

    fn cors(self, cors: &Cors, origin: Option<&str>) -> Self {
        let response = match origin {
            None => self.header("Access-Control-Allow-Origin", "*"),
            Some(origin) if cors.allows(origin) => self.header("Access-Control-Allow-Origin", origin),
            Some(_) => return self.header("Vary", "Origin"),
        };
        response
            .header("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
            .header("Access-Control-Allow-Headers", "Content-Type")
            .header("Vary", "Origin")
    }

    fn without_body_if(mut self, is_head: bool) -> Self {
        self.has_body = !is_head;
        self
    }

    fn text(self, reason: &str) -> Self {
        self.body("text/plain; charset=utf-8", &format!("{reason}\n"))
    }

    fn body(self, content_type: &str, body: &str) -> Self {
        let mut response = self.header("Content-Type", content_type).header("Content-Length", &body.len().to_string());
        response.body = body.to_owned();
        response
    }

    fn finish(self) -> Answer {
        // A 204 has no body by its nature.
        let is_complete = !self.body.is_empty() || self.head.starts_with("HTTP/1.1 204");
        let response = if is_complete { self } else { self.header("Content-Length", "0") };
        Answer::Respond(response.header("Connection", "close").into_bytes())
    }

    fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.head.into_bytes();
        bytes.extend_from_slice(b"\r\n");
        if self.has_body {
            bytes.extend_from_slice(self.body.as_bytes());
        }
        bytes
    }
}

/// What a response head seldom exceeds.
const USUAL_HEAD_BYTES: usize = 512;

/// Stands for an address that a proxy did not tell.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

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

const METRICS_PATH: &str = "/metrics";

/// The longest token for a name, in bytes.
const MAX_TOKEN_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const WS: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    const USERS: Door = Door { users: true, metrics: false };

    fn ask(head: &str, cors: &Cors) -> Answer {
        ask_at(head, USERS, &Access { cors: cors.clone(), ..Access::default() })
    }

    fn ask_at(head: &str, door: Door, access: &Access) -> Answer {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = Request::new(&mut headers);
        let head = format!("{head}\r\n");
        assert!(request.parse(head.as_bytes()).unwrap().is_complete());
        answer(&request, door, access)
    }

    fn text(answer: Answer) -> String {
        match answer {
            Answer::Respond(bytes) | Answer::Upgrade { response: bytes, .. } => String::from_utf8(bytes).unwrap(),
            Answer::Metrics => "HTTP/1.1 200 the metrics".to_owned(),
        }
    }

    fn status(head: &str, cors: &Cors) -> String {
        text(ask(head, cors))[9..12].to_owned()
    }

    #[test]
    fn every_row_of_the_protocol_has_its_status() {
        let rows = [
            ("GET /ws?username=bob HTTP/1.1\r\n", WS, "101"),
            ("GET http://host/ws?x=1&username=bob HTTP/1.1\r\n", WS, "101"),
            ("GET /ws HTTP/1.1\r\n", WS, "400"),
            ("GET /ws?username= HTTP/1.1\r\n", WS, "400"),
            ("GET /ws?user=bob HTTP/1.1\r\n", WS, "400"),
            ("GET /ws?username=%ff HTTP/1.1\r\n", WS, "400"),
            ("GET /ws?username=a%00b HTTP/1.1\r\n", WS, "400"),
            ("GET /ws?username=lowkey%3A//x/b%23k HTTP/1.1\r\n", WS, "400"),
            ("GET /ws?username=bob HTTP/1.1\r\n", "", "426"),
            ("GET /ws?username=bob HTTP/1.0\r\n", WS, "426"),
            ("POST /ws?username=bob HTTP/1.1\r\n", WS, "405"),
            ("GET /health HTTP/1.1\r\n", "", "200"),
            ("GET /health?x HTTP/1.0\r\n", "", "200"),
            ("HEAD /health HTTP/1.1\r\n", "", "200"),
            ("DELETE /health HTTP/1.1\r\n", "", "405"),
            ("OPTIONS /anything HTTP/1.1\r\n", "", "204"),
            ("OPTIONS * HTTP/1.1\r\n", "", "204"),
            ("GET / HTTP/1.1\r\n", "", "404"),
            ("GET /ws/ HTTP/1.1\r\n", WS, "404"),
        ];
        for (line, headers, expected) in rows {
            assert_eq!(status(&format!("{line}{headers}"), &Cors::Any), expected, "{line}");
        }
    }

    #[test]
    fn the_upgrade_is_that_of_the_rfc() {
        let Answer::Upgrade { caller, response } =
            ask(&format!("GET /ws?username=b%C3%B6b+1 HTTP/1.1\r\n{WS}"), &Cors::Any)
        else {
            panic!("no upgrade")
        };
        assert_eq!(caller.username, "böb 1");
        // The key and its answer are those of RFC 6455, section 1.3.
        assert!(
            String::from_utf8(response).unwrap().contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
        );
    }

    #[test]
    fn an_upgrade_needs_version_13_and_a_key_of_16_bytes() {
        let request = |headers: &str| status(&format!("GET /ws?username=bob HTTP/1.1\r\n{headers}"), &Cors::Any);
        assert_eq!(request(&WS.replace("13", "8")), "426");
        assert_eq!(request(&WS.replace("dGhl", "")), "400");
        assert_eq!(request(&WS.replace("dGhl", "dG!l")), "400");
    }

    #[test]
    fn health_is_json_and_head_has_no_body() {
        let get = text(ask("GET /health HTTP/1.1\r\n", &Cors::Any));
        assert!(get.contains("Content-Type: application/json\r\n"), "{get}");
        assert!(get.ends_with("\r\n\r\n{\"status\":\"ok\"}"), "{get}");
        let head = text(ask("HEAD /health HTTP/1.1\r\n", &Cors::Any));
        assert_eq!(head, get.replace("{\"status\":\"ok\"}", ""));
    }

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

    fn caller(query: &str, headers: &str) -> Caller {
        match ask(&format!("GET /ws?username=bob{query} HTTP/1.1\r\n{WS}{headers}"), &Cors::Any) {
            Answer::Upgrade { caller, .. } => caller,
            answer => panic!("{}", text(answer)),
        }
    }

    #[test]
    fn a_token_comes_in_a_header_or_in_the_query() {
        let token = |query, headers| caller(query, headers).token;
        assert_eq!(token("", ""), None);
        assert_eq!(token("&token=", ""), None);
        assert_eq!(token("&token=a%20b", ""), Some("a b".to_owned()));
        assert_eq!(token("&token=a", "Lowkey-Token: b\r\n"), Some("b".to_owned()));
        let long = format!("GET /ws?username=bob&token={} HTTP/1.1\r\n{WS}", "x".repeat(129));
        assert_eq!(status(&long, &Cors::Any), "400");
    }

    #[test]
    fn what_proxies_say_is_read_in_their_order() {
        let addresses = |headers| {
            let Caller { forwarded_for, real_ip, .. } = caller("", headers);
            (
                forwarded_for.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
                real_ip.map(|address| address.to_string()),
            )
        };
        assert_eq!(addresses(""), (vec![], None));
        assert_eq!(addresses("X-Real-IP: 192.0.2.1\r\n"), (vec![], Some("192.0.2.1".to_owned())));
        assert_eq!(addresses("X-Real-IP: 192.0.2.1\r\nX-Real-IP: me\r\n").1.as_deref(), Some("0.0.0.0"));
        let list = "X-Forwarded-For: 192.0.2.1, unknown, [2001:db8::1]\r\nX-Forwarded-For: 192.0.2.2:80\r\nX-Real-IP: 1.1.1.1\r\n";
        assert_eq!(addresses(list).0, ["192.0.2.1", "0.0.0.0", "2001:db8::1", "192.0.2.2"]);
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
    fn metrics_are_read_at_their_door_and_not_through_a_proxy_or_a_page() {
        let ask = |head: &str, users, metrics| {
            text(ask_at(head, Door { users, metrics }, &Access::default()))[9..12].to_owned()
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

    #[test]
    fn a_server_that_is_about_to_stop_says_when_to_come_again() {
        let access = Access { retry_after: Some(7), ..Access::default() };
        for head in [&*format!("GET /ws?username=bob HTTP/1.1\r\n{WS}"), "GET /health HTTP/1.1\r\n"] {
            let answer = text(ask_at(head, USERS, &access));
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 7\r\n"), "{answer}");
        }
    }
}
