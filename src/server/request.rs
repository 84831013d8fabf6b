//! What stands in a request head: its target, its headers, and what clients and proxies say in them. Pure.

use std::net::{IpAddr, SocketAddr};

use httparse::Request;
use percent_encoding::percent_decode;

use super::proxies::UNKNOWN;
use crate::protocol::{MAX_USERNAME_BYTES, is_link};

/// The addresses in a header of proxies. What is no address stands for an unknown one: left out, it would let the
/// client's own word move up.
pub(super) fn addresses(request: &Request<'_, '_>, name: &str) -> Vec<IpAddr> {
    let headers = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let items = headers.flat_map(|header| header.value.split(|byte| *byte == b','));
    items
        .map(|item| std::str::from_utf8(item).ok().and_then(|item| parse_address(item.trim())).unwrap_or(UNKNOWN))
        .collect()
}

/// An address as proxies write it, perhaps with a port.
pub(super) fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Path and query of a request target, be it in origin form or, as a server must take too, in absolute form
/// (RFC 9112, section 3.2).
pub(super) fn split_target(target: &str) -> (&str, &str) {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |start| &rest[start..]),
        _ => target,
    };
    target.split_once('?').unwrap_or((target, ""))
}

/// The `username` of a query.
pub(super) fn username(query: &str) -> Result<String, &'static str> {
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
    if is_link(&username) {
        return Err("the username begins with lowkey://, as only a link does");
    }
    Ok(username)
}

/// The first value of a query's parameter, decoded as the Go server decodes it: `%XX`, and `+` for a space. An error
/// if it is not UTF-8.
pub(super) fn parameter(query: &str, name: &str) -> Option<Result<String, ()>> {
    let value = query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })?;
    let spaced = value.replace('+', " ");
    Some(percent_decode(spaced.as_bytes()).decode_utf8().map(|text| text.into_owned()).map_err(|_| ()))
}

/// Where a browser comes from. An origin that is not text is none that could be allowed, but it is one.
pub(super) fn origin<'a>(request: &Request<'_, 'a>) -> Option<&'a str> {
    let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("origin"))?;
    Some(std::str::from_utf8(header.value).unwrap_or_default().trim())
}

/// The one value of a header; none if it is absent or not text. Names are compared without case.
pub(super) fn header<'a>(request: &Request<'_, 'a>, name: &str) -> Option<&'a str> {
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
pub(super) fn has_token(request: &Request<'_, '_>, name: &str, token: &str) -> bool {
    values(request, name).flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The token for the name: from the header, or from the query where a client can set no header.
pub(super) fn token(request: &Request<'_, '_>, query: &str) -> Result<Option<String>, &'static str> {
    let token = match header(request, "lowkey-token") {
        Some(token) => Some(token.to_owned()),
        None => parameter(query, "token").transpose().map_err(|()| "the token is not UTF-8")?,
    };
    match token {
        Some(token) if token.len() > MAX_TOKEN_BYTES => Err("the token is longer than 128 bytes"),
        token => Ok(token.filter(|token| !token.is_empty())),
    }
}

/// The longest token for a name, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 128;
