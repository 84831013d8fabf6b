//! The request head, which comes before all frames. Pure.

use httparse::{Request, Status};

use super::{Connection, Event, MAX_HEADERS, Phase, Upgrading};
use crate::server::access::Access;
use crate::server::http::{self, HttpAnswer};
use crate::server::limits::Limits;

impl Connection {
    pub(super) fn receive_head(&mut self, head: Vec<u8>, limits: &Limits, access: &Access) -> Option<Event<'static>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = Request::new(&mut headers);
        let within = &head[..head.len().min(limits.head_bytes)];
        match request.parse(within) {
            Ok(Status::Complete(length)) => match http::answer(&request, self.endpoints, access) {
                HttpAnswer::Upgrade { request, response } => {
                    self.phase = Phase::Upgrading(Box::new(Upgrading { response, rest: head[length..].to_vec() }));
                    return Some(Event::Upgrade(Box::new(request)));
                }
                HttpAnswer::Metrics => return Some(Event::Metrics),
                HttpAnswer::Respond(response) => self.end_with(response),
            },
            Ok(Status::Partial) if head.len() < limits.head_bytes => self.phase = Phase::Head(head),
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                self.refuse("431 Request Header Fields Too Large", "the request head is too large");
            }
            Err(_) => self.refuse("400 Bad Request", "this is not an HTTP/1 request"),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{new, receive};
    use super::*;

    #[test]
    fn a_plain_request_is_answered_and_ends_the_connection() {
        let mut connection = new();
        assert_eq!(receive(&mut connection, b"GET /health HTTP/1.1\r\n\r\nGET /health HTTP/1.1\r\n\r\n"), []);
        assert!(connection.output().starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(connection.is_closing());
    }

    #[test]
    fn a_head_that_is_none_or_too_long_is_refused() {
        let status = |connection: &Connection| String::from_utf8_lossy(&connection.output()[9..12]).into_owned();
        let mut none = new();
        receive(&mut none, b"\x16\x03\x01 TLS\r\n\r\n");
        assert_eq!(status(&none), "400");
        let mut long = new();
        receive(&mut long, b"GET / HTTP/1.1\r\nX: ");
        for _ in 0..16 * 1024 {
            receive(&mut long, b"x");
        }
        assert_eq!(status(&long), "431");
        let mut cookies = new();
        receive(&mut cookies, format!("GET /health HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(15 * 1024)).as_bytes());
        assert_eq!(status(&cookies), "200");
        let mut many = new();
        receive(&mut many, format!("GET / HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(65)).as_bytes());
        assert_eq!(status(&many), "431");
    }
}
