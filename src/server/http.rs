//! One request head to one answer: `/ws`, `/health`, `/metrics` and CORS (protocol 1.1). Pure; bytes are the
//! connection's matter, and whether a name is free is the hub's.

use std::fmt;
use std::net::IpAddr;

use data_encoding::BASE64;
use httparse::Request;
use sha1::{Digest, Sha1};

use super::access::{Access, is_from_here};
use super::request::{addresses, has_token, header, origin, split_target, token, username};
use super::response::Response;
use crate::protocol::WEBSOCKET_PATH;

/// What a request head gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpAnswer {
    /// The switch to WebSocket, if the client may have the name.
    Upgrade {
        /// What it asks for.
        request: UpgradeRequest,
        /// The bytes of the 101 response.
        response: Vec<u8>,
    },
    /// The metrics, as they are now.
    Metrics,
    /// A response after which the connection ends.
    Respond(Vec<u8>),
}

/// What a request head says that asks to come online. Its token is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct UpgradeRequest {
    /// The name that it asks for, decoded.
    pub username: String,
    /// The token that the name is to be held with (protocol 2.6).
    pub token: Option<String>,
    /// The addresses that proxies say the request has come from, the nearest last.
    pub forwarded_for: Vec<IpAddr>,
    /// The one address that a proxy says it has come from, in the other header that there is for that.
    pub real_ip: Option<IpAddr>,
}

impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "(not shown)");
        let Self { username, forwarded_for, real_ip, .. } = self;
        write!(f, "UpgradeRequest {{ {username:?}, token {token:?}, {forwarded_for:?}, {real_ip:?} }}")
    }
}

/// What can be asked for at a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoints {
    /// Users may come in: `/ws`.
    pub users: bool,
    /// The metrics may be read: `/metrics`.
    pub metrics: bool,
}

/// Answers one complete request head.
pub fn answer(request: &Request<'_, '_>, endpoints: Endpoints, access: &Access) -> HttpAnswer {
    let cors = &access.cors;
    let method = request.method.unwrap_or_default();
    let (path, query) = split_target(request.path.unwrap_or_default());
    let origin = origin(request);
    let response = |status| Response::new(status).cors(cors, origin).without_body_if(method == "HEAD");
    let origins = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("origin"));
    if origins.count() > 1 {
        // Which of them is the browser's cannot be told (RFC 6454, section 7.3: there is one at most).
        let response = Response::new("400 Bad Request").text("a request has one Origin at most");
        return HttpAnswer::Respond(response.finish());
    }
    let draining = |seconds: u64| response("503 Service Unavailable").header("Retry-After", &seconds.to_string());
    if method == "OPTIONS" {
        return HttpAnswer::Respond(response("204 No Content").finish());
    }
    let response = match path {
        "/health" => match method {
            "GET" | "HEAD" => match access.retry_after {
                Some(seconds) => draining(seconds).body("application/json", r#"{"status":"draining"}"#),
                None => response("200 OK").body("application/json", WELL),
            },
            _ => response("405 Method Not Allowed").header("Allow", "GET, HEAD, OPTIONS"),
        },
        "/ready" => match method {
            "GET" | "HEAD" => match access.retry_after {
                Some(seconds) => draining(seconds).body("application/json", r#"{"status":"draining"}"#),
                None if access.is_cut_off => {
                    response("503 Service Unavailable").body("application/json", r#"{"status":"alone"}"#)
                }
                None => response("200 OK").body("application/json", r#"{"status":"ready"}"#),
            },
            _ => response("405 Method Not Allowed").header("Allow", "GET, HEAD, OPTIONS"),
        },
        WEBSOCKET_PATH if endpoints.users => match method {
            "GET" => match access.retry_after {
                Some(seconds) => draining(seconds).text("the server is about to stop"),
                None => return upgrade(request, query, origin, access, response),
            },
            _ => response("405 Method Not Allowed").header("Allow", "GET, OPTIONS"),
        },
        METRICS_PATH if endpoints.metrics && (!endpoints.users || is_from_here(request)) => match method {
            "GET" => return HttpAnswer::Metrics,
            _ => response("405 Method Not Allowed").header("Allow", "GET, OPTIONS"),
        },
        _ => response("404 Not Found").text("not found"),
    };
    HttpAnswer::Respond(response.finish())
}

/// The answer that carries the metrics.
pub fn metrics(text: &str) -> Vec<u8> {
    Response::new("200 OK")
        .body("text/plain; version=0.0.4; charset=utf-8", text)
        .header("Connection", "close")
        .into_bytes()
}

/// The answer to a client that cannot be let in for the moment.
pub(crate) fn come_again(reason: &str) -> Vec<u8> {
    let response = Response::new("503 Service Unavailable").header("Retry-After", RETRY_SECONDS);
    response.text(reason).header("Connection", "close").into_bytes()
}

/// The answer to a client whose name has no room in the database of a cluster. Every server of it would say the same,
/// so this is no status for which a balancer asks the next one, or takes this one for broken.
pub(crate) fn no_room(reason: &str) -> Vec<u8> {
    let response = Response::new("507 Insufficient Storage").header("Retry-After", FULL_RETRY_SECONDS);
    response.text(reason).header("Connection", "close").into_bytes()
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
) -> HttpAnswer {
    if !access.knows_token(request, query) {
        let refusal = response("401 Unauthorized").header("WWW-Authenticate", "Bearer").text("this server is private");
        return HttpAnswer::Respond(refusal.finish());
    }
    let username = match username(query) {
        Ok(username) => username,
        Err(reason) => return HttpAnswer::Respond(response("400 Bad Request").text(reason).finish()),
    };
    let upgrade_required = |reason| {
        let response = response("426 Upgrade Required").header("Upgrade", "websocket");
        HttpAnswer::Respond(response.header("Sec-WebSocket-Version", "13").text(reason).finish())
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
        return HttpAnswer::Respond(
            response("400 Bad Request").text("Sec-WebSocket-Key is missing or malformed").finish(),
        );
    };
    let token = match token(request, query) {
        Ok(token) => token,
        Err(reason) => return HttpAnswer::Respond(response("400 Bad Request").text(reason).finish()),
    };
    if origin.is_some_and(|origin| !access.cors.allows(origin)) {
        return HttpAnswer::Respond(response("403 Forbidden").text("this origin is not allowed").finish());
    }
    let response = response("101 Switching Protocols")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Accept", &accept_key(key))
        .into_bytes();
    let (forwarded_for, real_ip) = (addresses(request, "x-forwarded-for"), addresses(request, "x-real-ip").pop());
    HttpAnswer::Upgrade { request: UpgradeRequest { username, token, forwarded_for, real_ip }, response }
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

/// When to come again where the other servers cannot be asked.
const RETRY_SECONDS: &str = "2";

/// The same where the database is full: room comes as others go, or from whoever runs it.
const FULL_RETRY_SECONDS: &str = "10";

const METRICS_PATH: &str = "/metrics";

/// What a server that is well says of itself.
pub(super) const WELL: &str = r#"{"status":"ok"}"#;

#[cfg(test)]
pub(super) mod tests {
    use super::super::access::Cors;
    use super::*;

    pub(crate) const WS: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    pub(crate) const USERS: Endpoints = Endpoints { users: true, metrics: false };

    pub(crate) fn ask(head: &str, cors: &Cors) -> HttpAnswer {
        ask_at(head, USERS, &Access { cors: cors.clone(), ..Access::default() })
    }

    pub(crate) fn ask_at(head: &str, endpoints: Endpoints, access: &Access) -> HttpAnswer {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = Request::new(&mut headers);
        let head = format!("{head}\r\n");
        assert!(request.parse(head.as_bytes()).unwrap().is_complete());
        answer(&request, endpoints, access)
    }

    pub(crate) fn text(answer: HttpAnswer) -> String {
        match answer {
            HttpAnswer::Respond(bytes) | HttpAnswer::Upgrade { response: bytes, .. } => {
                String::from_utf8(bytes).unwrap()
            }
            HttpAnswer::Metrics => "HTTP/1.1 200 the metrics".to_owned(),
        }
    }

    pub(crate) fn status(head: &str, cors: &Cors) -> String {
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
            ("GET /ready HTTP/1.1\r\n", "", "200"),
            ("POST /ready HTTP/1.1\r\n", "", "405"),
            ("GET / HTTP/1.1\r\n", "", "404"),
            ("GET /ws/ HTTP/1.1\r\n", WS, "404"),
        ];
        for (line, headers, expected) in rows {
            assert_eq!(status(&format!("{line}{headers}"), &Cors::Any), expected, "{line}");
        }
    }

    #[test]
    fn the_upgrade_is_that_of_the_rfc() {
        let HttpAnswer::Upgrade { request, response } =
            ask(&format!("GET /ws?username=b%C3%B6b+1 HTTP/1.1\r\n{WS}"), &Cors::Any)
        else {
            panic!("no upgrade")
        };
        assert_eq!(request.username, "böb 1");
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

    fn request(query: &str, headers: &str) -> UpgradeRequest {
        match ask(&format!("GET /ws?username=bob{query} HTTP/1.1\r\n{WS}{headers}"), &Cors::Any) {
            HttpAnswer::Upgrade { request, .. } => request,
            answer => panic!("{}", text(answer)),
        }
    }

    #[test]
    fn a_token_comes_in_a_header_or_in_the_query() {
        let token = |query, headers| request(query, headers).token;
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
            let UpgradeRequest { forwarded_for, real_ip, .. } = request("", headers);
            (
                forwarded_for.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
                real_ip.map(|address| address.to_string()),
            )
        };
        assert_eq!(addresses(""), (vec![], None));
        assert_eq!(addresses("X-Real-IP: 192.0.2.1\r\n"), (vec![], Some("192.0.2.1".to_owned())));
        assert_eq!(addresses("X-Real-IP: 192.0.2.1\r\nX-Real-IP: me\r\n").1.as_deref(), Some("0.0.0.0"));
        let list = "X-Forwarded-For: 192.0.2.1, unknown, [2001:db8::1]\r\nX-Forwarded-For: 192.0.2.2:80\r\nX-Real-IP: \
                    1.1.1.1\r\n";
        assert_eq!(addresses(list).0, ["192.0.2.1", "0.0.0.0", "2001:db8::1", "192.0.2.2"]);
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
