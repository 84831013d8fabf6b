//! The list of origins that browsers may come from, each brought into the form in which a browser sends it (RFC 6454,
//! section 6.2; of hosts, the URL standard): what is compared later are these texts. An entry that no browser could
//! ever send is refused, since it would shut out whom it was meant to let in. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Reads a comma list of origins; `None` is all of them, which a `*` by itself stands for.
///
/// # Errors
/// What is wrong with which entry, for people.
pub fn parse(list: &str) -> Result<Option<Vec<String>>, String> {
    let entries: Vec<&str> = list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    if entries.is_empty() {
        return Err("there is none".to_owned());
    }
    if entries == ["*"] {
        return Ok(None);
    }
    let origins = entries.iter().map(|entry| origin(entry).map_err(|reason| format!("{entry:?} {reason}")));
    origins.collect::<Result<_, _>>().map(Some)
}

fn origin(entry: &str) -> Result<String, &'static str> {
    if entry == "*" {
        return Err("stands for all origins, so no other is named beside it");
    }
    let quotes = ['"', '\'', '`'];
    if entry.starts_with(['[', '<', '(']) || entry.contains(quotes) || entry.ends_with(['>', ')']) {
        return Err("has quotes or brackets around it");
    }
    let (scheme, rest) = entry.split_once("://").ok_or("has no scheme, such as https://, in front")?;
    let scheme = scheme.to_ascii_lowercase();
    if !is_scheme(&scheme) {
        return Err("has no scheme, such as https://, in front");
    }
    if matches!(&*scheme, "ws" | "wss") {
        return Err("is a server's URL; the origin is that of the page, with https:// or http://");
    }
    if rest.contains(['/', '?', '#', '\\']) {
        return Err("has something behind the host and port");
    }
    if rest.contains('@') {
        return Err("has a user in it");
    }
    if rest.contains('*') {
        return Err("has a * in it; each origin has to be named");
    }
    if !rest.is_ascii() {
        return Err("has an international name; browsers send it in its ASCII form, which begins with xn--");
    }
    // The last colon stands before the port, but for those within an IPv6 address.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let host = host_name(&host.to_ascii_lowercase()).ok_or("has a host that is no name and no address")?;
    let port = match port.map(number) {
        None => None,
        Some(Some(port)) => Some(port).filter(|port| Some(*port) != default_port(&scheme)),
        Some(None) => return Err("has a port that is none from 1 to 65535"),
    };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{scheme}://{host}{port}"))
}

/// A scheme (RFC 3986, section 3.1). Apps that are pages have schemes of their own.
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

fn number(port: &str) -> Option<u16> {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|port| is_number && *port > 0)
}

/// A host as browsers write it. A name whose last part is a number is an address to them, and has to be a whole one.
fn host_name(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(match address.to_ipv4_mapped() {
            Some(_) => {
                let [.., high, low] = address.segments();
                format!("[::ffff:{high:x}:{low:x}]")
            }
            None => format!("[{address}]"),
        });
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
    if !labels.clone().all(is_label) {
        return None;
    }
    let last = labels.next_back()?;
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match is_number {
        true => host.parse().ok().map(|address: Ipv4Addr| address.to_string()),
        false => Some(host.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_origin_is_brought_into_the_form_that_browsers_send() {
        for (entry, sent) in [
            ("https://chat.example", "https://chat.example"),
            ("HTTPS://Chat.Example", "https://chat.example"),
            ("https://chat.example:443", "https://chat.example"),
            ("http://chat.example:80", "http://chat.example"),
            ("https://chat.example:0443", "https://chat.example"),
            ("https://chat.example:80", "https://chat.example:80"),
            ("http://chat.example:443", "http://chat.example:443"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:80", "http://[::1]"),
            ("http://[2001:DB8:0:0:0:0:0:1]:81", "http://[2001:db8::1]:81"),
            ("http://[::ffff:192.0.2.9]", "http://[::ffff:c000:209]"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("https://my_host.example.", "https://my_host.example."),
            ("https://1.chat.example", "https://1.chat.example"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ] {
            assert_eq!(parse(entry), Ok(Some(vec![sent.to_owned()])), "{entry}");
        }
        let two = vec!["https://a.example".to_owned(), "http://b.example".to_owned()];
        assert_eq!(parse(" https://a.example:443 ,, http://b.example:80,"), Ok(Some(two)));
        assert_eq!(parse("*"), Ok(None));
        assert_eq!(parse(" *, "), Ok(None));
    }

    #[test]
    fn an_origin_that_no_browser_sends_is_named_with_the_reason() {
        for (entry, reason) in [
            ("*", "stands for all origins"),
            ("https://*.chat.example", "has a *"),
            ("https://*", "has a *"),
            ("*.chat.example", "has no scheme"),
            ("chat.example", "has no scheme"),
            ("chat.example:443", "has no scheme"),
            ("//chat.example", "has no scheme"),
            ("://chat.example", "has no scheme"),
            ("null", "has no scheme"),
            ("\"https://chat.example\"", "has quotes"),
            ("'https://chat.example'", "has quotes"),
            ("https://chat.example\"", "has quotes"),
            ("[https://chat.example]", "has quotes or brackets"),
            ("[\"https://chat.example\"", "has quotes or brackets"),
            ("<https://chat.example>", "has quotes or brackets"),
            ("https://chat.example]", "has a host"),
            ("https://alice@chat.example", "has a user"),
            ("https://alice:secret@chat.example", "has a user"),
            ("https://chat.example/", "has something behind"),
            ("https://chat.example/app", "has something behind"),
            ("https://chat.example?", "has something behind"),
            ("https://chat.example#top", "has something behind"),
            ("https://bücher.example", "has an international name"),
            ("wss://chat.example", "is a server's URL"),
            ("https://chat.example:", "has a port"),
            ("https://chat.example:0", "has a port"),
            ("https://chat.example:+443", "has a port"),
            ("https://chat.example:65536", "has a port"),
            ("https://chat.example:https", "has a port"),
            ("https://", "has a host"),
            ("https://:443", "has a host"),
            ("https://.chat.example", "has a host"),
            ("https://chat..example", "has a host"),
            ("https://chat example", "has a host"),
            ("https://chat%2eexample", "has a host"),
            ("https://127.1", "has a host"),
            ("https://0x7f000001", "has a host"),
            ("https://2001:db8::1", "has a host"),
            ("https://[2001:db8::1", "has a host"),
            ("https://[2001:db8::1%25eth0]", "has a host"),
        ] {
            let error = parse(&format!("https://a.example,{entry}")).unwrap_err();
            assert!(error.starts_with(&format!("{entry:?} {reason}")), "{entry}: {error}");
        }
        assert!(parse(",").is_err() && parse("").is_err());
    }
}
