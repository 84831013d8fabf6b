//! The list of origins that browsers may come from, each brought into the form in which a browser sends it (RFC 6454,
//! section 6.2; of hosts, the URL standard): what is compared later are these texts. An entry that no browser could
//! ever send is refused, since it would shut out whom it was meant to let in. Pure.

use url::Host;

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
    if OPAQUE.contains(&&*scheme) {
        return Err("has a scheme whose pages send null instead of an origin");
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
    // The last colon stands before the port, but for those within an IPv6 address.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let host = host_name(host)?;
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

/// A host as browsers write it (URL standard, section 3.5): an international name in its ASCII form, which begins with
/// `xn--`, and an address in its shortest. A name that no page can be at, since none can be looked up, is none.
fn host_name(host: &str) -> Result<String, &'static str> {
    const NONE: &str = "has a host that is no name and no address";
    let is_international = !host.is_ascii() || host.to_ascii_lowercase().contains("xn--");
    let none = if is_international { "has an international name that is none" } else { NONE };
    let host = Host::parse(host).map_err(|_| none)?;
    let can_be = |name: &str| name.len() <= MAX_NAME && name.split('.').all(is_label);
    match &host {
        // A name may end in the dot of the root.
        Host::Domain(name) if !can_be(name.strip_suffix('.').unwrap_or(name)) => Err(NONE),
        _ => Ok(host.to_string()),
    }
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Schemes of pages that have no origin of their own (URL standard, section 4.7), or that no browser opens any more.
const OPAQUE: [&str; 7] = ["about", "blob", "data", "file", "filesystem", "ftp", "javascript"];

/// The longest label of a name, and the longest name (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 253;

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
            ("https://XN--Bcher-KVA.example", "https://xn--bcher-kva.example"),
            ("https://bücher.example:443", "https://xn--bcher-kva.example"),
            ("https://Bu\u{308}cher.example", "https://xn--bcher-kva.example"),
            ("https://例え。jp", "https://xn--r8jz45g.jp"),
            ("https://127.1", "https://127.0.0.1"),
            ("https://0x7f000001", "https://127.0.0.1"),
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
            ("https://xn--", "has an international name"),
            ("https://xn--.example", "has an international name"),
            ("https://xn--a", "has an international name"),
            ("https://chat.xn--abc-", "has an international name"),
            ("https://xn--chat.xn--zz--zz", "has an international name"),
            ("https://xn--\u{fc}", "has an international name"),
            ("https://\u{200b}", "has an international name"),
            ("https://chat.exam\u{202e}ple", "has an international name"),
            ("file://host", "has a scheme whose pages send null"),
            ("ftp://chat.example", "has a scheme whose pages send null"),
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
            ("https://chat%00example", "has a host"),
            ("https://chat.example..", "has a host"),
            ("https://1.2.3.256", "has a host"),
            ("https://chat.1.2.3.4", "has a host"),
            ("https://2001:db8::1", "has a host"),
            ("https://[2001:db8::1", "has a host"),
            ("https://[2001:db8::1%25eth0]", "has a host"),
        ] {
            let error = parse(&format!("https://a.example,{entry}")).unwrap_err();
            assert!(error.starts_with(&format!("{entry:?} {reason}")), "{entry}: {error}");
        }
        assert!(parse(",").is_err() && parse("").is_err());
        let of = |label: usize, count: usize| format!("https://{}", vec!["a".repeat(label); count].join("."));
        assert_eq!(
            [of(63, 3), of(64, 1), of(49, 5), of(50, 5)].map(|entry| parse(&entry).is_ok()),
            [true, false, true, false]
        );
    }
}
