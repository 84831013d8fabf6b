//! A response head, and perhaps a body, in the making. Pure.

use super::access::Cors;

/// A response head, and perhaps a body, in the making.
#[derive(Debug)]
pub(super) struct Response {
    head: String,
    body: String,
    has_body: bool,
}

impl Response {
    pub(super) fn new(status: &'static str) -> Self {
        let mut head = String::with_capacity(USUAL_HEAD_BYTES);
        for part in ["HTTP/1.1 ", status, "\r\n"] {
            head += part;
        }
        Self { head, body: String::new(), has_body: true }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.head += name;
        self.head += ": ";
        self.head += value;
        self.head += "\r\n";
        self
    }

    pub(super) fn cors(self, cors: &Cors, origin: Option<&str>) -> Self {
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

    pub(super) fn without_body_if(mut self, is_head: bool) -> Self {
        self.has_body = !is_head;
        self
    }

    pub(super) fn text(self, reason: &str) -> Self {
        self.body("text/plain; charset=utf-8", &format!("{reason}\n"))
    }

    pub(super) fn body(self, content_type: &str, body: &str) -> Self {
        let mut response = self.header("Content-Type", content_type).header("Content-Length", &body.len().to_string());
        response.body = body.to_owned();
        response
    }

    pub(super) fn finish(self) -> Vec<u8> {
        // A 204 has no body by its nature.
        let is_complete = !self.body.is_empty() || self.head.starts_with("HTTP/1.1 204");
        let response = if is_complete { self } else { self.header("Content-Length", "0") };
        response.header("Connection", "close").into_bytes()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
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
