//! One request head to one answer: `/ws`, `/health` and CORS (protocol 1.1). Pure; bytes are the connection's matter.

use httparse::Request;
use percent_encoding::percent_decode;
use tungstenite::handshake::derive_accept_key;

use crate::protocol::WEBSOCKET_PATH;

/// What a request head gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The switch to WebSocket, which takes `username` online.
    Upgrade {
        /// The name that the client asked for, decoded.
        username: String,
        /// The bytes of the 101 response.
        response: Vec<u8>,
    },
    /// A response after which the connection ends.
    Respond(Vec<u8>),
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
pub fn answer(request: &Request<'_, '_>, cors: &Cors) -> Answer {
    let method = request.method.unwrap_or_default();
    let (path, query) = split_target(request.path.unwrap_or_default());
    let origin = header(request, "origin");
    let response = |status| Response::new(status).cors(cors, origin).without_body_if(method == "HEAD");
    if method == "OPTIONS" {
        return response("204 No Content").finish();
    }
    match path {
        "/health" => match method {
            "GET" | "HEAD" => response("200 OK").body("application/json", r#"{"status":"ok"}"#).finish(),
            _ => response("405 Method Not Allowed").header("Allow", "GET, HEAD, OPTIONS").finish(),
        },
        WEBSOCKET_PATH => match method {
            "GET" => upgrade(request, query, origin, cors, response),
            _ => response("405 Method Not Allowed").header("Allow", "GET, OPTIONS").finish(),
        },
        _ => response("404 Not Found").text("not found").finish(),
    }
}

/// The answer to a request head that is none, or that is too long or too slow.
pub fn refusal(status: &'static str, reason: &str) -> Vec<u8> {
    Response::new(status).text(reason).into_bytes()
}

fn upgrade(
    request: &Request<'_, '_>,
    query: &str,
    origin: Option<&str>,
    cors: &Cors,
    response: impl Fn(&'static str) -> Response,
) -> Answer {
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
    if origin.is_some_and(|origin| !cors.allows(origin)) {
        return response("403 Forbidden").text("this origin is not allowed").finish();
    }
    let response = response("101 Switching Protocols")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Accept", &derive_accept_key(key.as_bytes()))
        .into_bytes();
    Answer::Upgrade { username, response }
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

/// The `username` of a query, decoded as the Go server decodes it: `%XX`, and `+` for a space.
fn username(query: &str) -> Result<String, &'static str> {
    let value = query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name == "username").then_some(value)
    });
    let value = value.filter(|value| !value.is_empty()).ok_or("the query parameter username is missing")?;
    let spaced = value.replace('+', " ");
    let username = percent_decode(spaced.as_bytes()).decode_utf8().map_err(|_| "the username is not UTF-8")?;
    if username.len() > MAX_USERNAME_BYTES {
        return Err("the username is longer than 64 bytes");
    }
    if username.chars().any(char::is_control) {
        return Err("the username has a control character");
    }
    Ok(username.into_owned())
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

/// A response head, and perhaps a body, in the making.
#[derive(Debug)]
struct Response {
    head: String,
    body: String,
    has_body: bool,
}

impl Response {
    fn new(status: &'static str) -> Self {
        Self { head: format!("HTTP/1.1 {status}\r\n"), body: String::new(), has_body: true }
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
        let has_length = !self.body.is_empty() || self.head.starts_with("HTTP/1.1 204");
        let response = if has_length { self } else { self.header("Content-Length", "0") };
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

/// The longest username, in bytes of UTF-8. The app lets people choose 3 to 20 ASCII characters.
const MAX_USERNAME_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const WS: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn ask(head: &str, cors: &Cors) -> Answer {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = Request::new(&mut headers);
        let head = format!("{head}\r\n");
        assert!(request.parse(head.as_bytes()).unwrap().is_complete());
        answer(&request, cors)
    }

    fn text(answer: Answer) -> String {
        match answer {
            Answer::Respond(bytes) | Answer::Upgrade { response: bytes, .. } => String::from_utf8(bytes).unwrap(),
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
        let Answer::Upgrade { username, response } =
            ask(&format!("GET /ws?username=b%C3%B6b+1 HTTP/1.1\r\n{WS}"), &Cors::Any)
        else {
            panic!("no upgrade")
        };
        assert_eq!(username, "böb 1");
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
}
