//! The STUN and TURN servers of a peer: which of those that its user and the server name are used, why they may be of
//! no use, and what is taken out of a description where only a relay may show.

use std::fmt;

use crate::protocol::ice::{self, IceScheme, IceUrl};

/// A STUN or TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:host:port` or `turn:host:port`, both over UDP; over TCP `turn:host:port?transport=tcp`, and over TLS
    /// `turns:host:port`. The port may be missing.
    pub url: String,
    /// The user at a TURN server; empty for STUN.
    pub username: String,
    /// The secret of that user; empty for STUN.
    pub credential: String,
}

impl IceServer {
    /// Whether it is a TURN server.
    pub(crate) fn is_turn(&self) -> bool {
        IceUrl::parse(&self.url).is_ok_and(|url| url.scheme != IceScheme::Stun)
    }

    /// The same with its URL in the one form in which others here look at it.
    fn spelled(&self) -> Self {
        let url = IceUrl::parse(&self.url).map_or(self.url.clone(), |url| url.to_string());
        Self { url, ..self.clone() }
    }

    /// Whether it is reached over TCP, with or without TLS.
    pub(crate) fn is_stream(&self) -> bool {
        IceUrl::parse(&self.url).is_ok_and(|url| url.is_tcp)
    }
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What there is of use in servers that somebody else names: with fit credentials, and not too many.
pub fn offered(servers: Vec<ice::IceServer>) -> Vec<IceServer> {
    let mut offered = Vec::new();
    let mut seen = 0;
    for server in servers {
        for url in server.urls {
            seen += 1;
            if seen > MAX_URLS {
                return offered;
            }
            let Ok(url) = IceUrl::parse(&url) else { continue };
            let is_fit = |text: &str| (1..=MAX_CREDENTIAL).contains(&text.len()) && !text.contains(char::is_control);
            let (username, credential) = match url.scheme {
                IceScheme::Stun => ("", ""),
                _ if is_fit(&server.username) && is_fit(&server.credential) => (&*server.username, &*server.credential),
                _ => continue,
            };
            let (username, credential) = (username.to_owned(), credential.to_owned());
            offered.push(IceServer { url: url.to_string(), username, credential });
        }
    }
    offered
}

/// The servers for one connection. What the user names of a kind, STUN or TURN, takes the place of what the server
/// offers of it. A TURN server over UDP is asked for our address too, as any of them can tell it (RFC 8445, section
/// 5.1.1.2), unless only relays are wanted.
pub fn chosen(own: &[IceServer], offered: &[IceServer], is_relay_only: bool) -> Vec<IceServer> {
    let of_kind = |is_turn: bool| {
        let kind = move |servers: &[IceServer]| -> Vec<IceServer> {
            servers.iter().filter(|server| server.is_turn() == is_turn).map(IceServer::spelled).collect()
        };
        Some(kind(own)).filter(|own| !own.is_empty()).unwrap_or_else(|| kind(offered))
    };
    let turn = of_kind(true);
    if is_relay_only {
        return turn;
    }
    let mut chosen = of_kind(false);
    for url in turn.iter().filter_map(|server| IceUrl::parse(&server.url).ok()).filter(|url| !url.is_tcp) {
        let url = IceUrl { scheme: IceScheme::Stun, ..url }.to_string();
        let stun = IceServer { url, username: String::new(), credential: String::new() };
        if !chosen.contains(&stun) {
            chosen.push(stun);
        }
    }
    chosen.extend(turn);
    chosen
}

/// A candidate attribute as somebody may see it who is to know the relay alone: `None` for any other candidate. What a
/// relay's candidate is related to is the address behind it, for which RFC 8839, section 5.1, has a placeholder.
pub fn relay_alone(candidate: &str) -> Option<String> {
    let words: Vec<&str> = candidate.split_whitespace().collect();
    let kind = words.iter().position(|word| *word == "typ")?;
    if words.get(kind + 1) != Some(&"relay") {
        return None;
    }
    let mut shown: Vec<&str> = words[..kind + 2].to_vec();
    shown.extend(["raddr", if words.get(4)?.contains(':') { "::" } else { "0.0.0.0" }, "rport", "9"]);
    Some(shown.join(" "))
}

/// A description with its candidates as [`relay_alone`] has them.
pub fn relays_alone(sdp: &str) -> String {
    let lines = sdp.split_inclusive('\n').filter_map(|line| match line.trim_end().strip_prefix("a=candidate:") {
        Some(candidate) => relay_alone(candidate).map(|candidate| format!("a=candidate:{candidate}\r\n")),
        None => Some(line.to_owned()),
    });
    lines.collect()
}

/// Why there is no relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRelay {
    /// What went wrong with the last TURN server that was tried.
    pub cause: NoRelayCause,
    /// Whether the chat server has named it, and not the user.
    pub is_offered: bool,
}

/// What went wrong with a TURN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoRelayCause {
    /// No TURN server is known, and nothing but a relay is allowed.
    NoServer,
    /// No TURN server is known that the proxy leads to, and nothing goes past the proxy.
    NoneByProxy,
    /// Its name could not be looked up.
    NotFound,
    /// It did not answer.
    NoAnswer,
    /// No connection to it came about over TCP.
    NotReached,
    /// No connection to it came about by the proxy.
    NotByProxy,
    /// Its certificate is not for its name, or from nobody who is trusted.
    Certificate,
    /// It speaks another TLS, or none.
    NoTls,
    /// It took a connection over TCP, and said nothing.
    Silent,
    /// It took a connection over TCP, and ended it.
    HungUp,
    /// It refused, with this code of RFC 8656, section 19.
    Refused(u16),
}

impl NoRelayCause {
    /// Whether the server has no room for another relay now.
    pub fn is_full(self) -> bool {
        matches!(self, Self::Refused(486 | 508))
    }
}

impl fmt::Display for NoRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.cause {
            NoRelayCause::NoServer => {
                return f.write_str("only a relay may be used, and no TURN server is known");
            }
            NoRelayCause::NoneByProxy => {
                return f.write_str("nothing goes past the proxy, and no TURN server is known that it leads to");
            }
            NoRelayCause::NotFound => "cannot be found by its name".to_owned(),
            NoRelayCause::NoAnswer => "does not answer over UDP".to_owned(),
            NoRelayCause::NotReached => "cannot be reached over TCP".to_owned(),
            NoRelayCause::NotByProxy => "cannot be reached by the proxy".to_owned(),
            NoRelayCause::Certificate => "has a certificate that is not trusted, or not for its name".to_owned(),
            NoRelayCause::NoTls => "does not speak TLS".to_owned(),
            NoRelayCause::Silent => "does not answer over TCP".to_owned(),
            NoRelayCause::HungUp => "breaks off the connection".to_owned(),
            NoRelayCause::Refused(401 | 441) => "does not take the user or the secret".to_owned(),
            cause if cause.is_full() => {
                return f
                    .write_str("no connection came about: the TURN server has no room for another; try again later");
            }
            NoRelayCause::Refused(code) => format!("refuses to relay (error {code})"),
        };
        let advice = if self.is_offered { "; tell whoever runs the chat server, which named it" } else { "" };
        write!(f, "no connection came about: the TURN server {what}{advice}")
    }
}

/// URLs that are looked at of those which a server names. Each costs a look-up and some datagrams in every call.
const MAX_URLS: usize = 8;

/// The longest username or credential, in bytes: a STUN attribute takes no more (RFC 8489, section 14.3).
const MAX_CREDENTIAL: usize = 508;

#[cfg(test)]
mod tests {
    use super::*;

    fn named(urls: &[&str], username: &str, credential: &str) -> ice::IceServer {
        let urls = urls.iter().map(|&url| url.to_owned()).collect();
        ice::IceServer { urls, username: username.to_owned(), credential: credential.to_owned() }
    }

    fn urls(servers: &[IceServer]) -> Vec<&str> {
        servers.iter().map(|server| &*server.url).collect()
    }

    fn server(url: &str) -> IceServer {
        IceServer { url: url.to_owned(), username: "u".to_owned(), credential: "c".to_owned() }
    }

    #[test]
    fn of_what_a_server_offers_only_so_much_is_taken_and_only_what_works() {
        let mixed = ["stun:a", "turn:b?transport=udp", "turn:b?transport=tcp", "turns:b", "http://c", "turn:[::1]:1"];
        let taken = offered(vec![named(&mixed, "u", "c")]);
        assert_eq!(urls(&taken), ["stun:a", "turn:b", "turn:b?transport=tcp", "turns:b", "turn:[::1]:1"]);
        assert_eq!((&*taken[0].username, &*taken[0].credential), ("", ""), "STUN needs no credentials");
        assert_eq!((&*taken[3].username, &*taken[3].credential), ("u", "c"));
        assert_eq!(offered(vec![named(&["stun:a"; 100], "", "")]).len(), 8);
        assert_eq!(offered((0..100).map(|_| named(&["x", "turn:a"], "u", "c")).collect()).len(), 4);
        for (username, credential) in
            [("", "c"), ("u", ""), (&*"x".repeat(509), "c"), ("u", &*"x".repeat(509)), ("u\n", "c")]
        {
            assert_eq!(offered(vec![named(&["turn:a"], username, credential)]), [], "{username:?} {credential:?}");
        }
    }

    #[test]
    fn what_the_user_names_comes_in_the_place_of_what_the_server_offers() {
        let offered = [server("stun:s"), server("turn:t")];
        let chosen = |own: &[&str], only| {
            let own: Vec<IceServer> = own.iter().map(|url| server(url)).collect();
            urls(&chosen(&own, &offered, only)).join(" ")
        };
        assert_eq!(chosen(&[], false), "stun:s stun:t turn:t");
        assert_eq!(chosen(&["stun:x"], false), "stun:x stun:t turn:t");
        assert_eq!(chosen(&["turn:y"], false), "stun:s stun:y turn:y");
        assert_eq!(chosen(&["stun:x", "turn:y"], false), "stun:x stun:y turn:y");
        assert_eq!(chosen(&["STUN:x", "TURN:y"], false), "stun:x stun:y turn:y");
        assert_eq!(chosen(&[], true), "turn:t");
        assert_eq!(chosen(&["stun:x", "turn:y"], true), "turn:y");
        // Over TCP nobody need speak STUN as well, and it would not tell an address for UDP.
        assert_eq!(chosen(&["turns:y", "turn:z?transport=tcp"], false), "stun:s turns:y turn:z?transport=tcp");
    }

    #[test]
    fn no_address_but_the_relays_is_left() {
        let relay = "candidate:1 1 udp 5 203.0.113.1 50000 typ relay raddr 10.1.0.2 rport 4242 url turn:x";
        let shown = "candidate:1 1 udp 5 203.0.113.1 50000 typ relay raddr 0.0.0.0 rport 9";
        assert_eq!(relay_alone(relay).as_deref(), Some(shown));
        let six = relay_alone("1 1 udp 5 2001:db8::1 50000 typ relay raddr fd00::2 rport 4242");
        assert_eq!(six.as_deref(), Some("1 1 udp 5 2001:db8::1 50000 typ relay raddr :: rport 9"));
        for other in [
            "candidate:1 1 udp 5 10.1.0.2 50000 typ host",
            "candidate:1 1 udp 5 192.0.2.2 50000 typ srflx raddr 10.1.0.2 rport 1",
            "candidate:1 1 udp 5 10.1.0.2 5 typ",
            "typ relay",
            "",
        ] {
            assert_eq!(relay_alone(other), None, "{other}");
        }
        let sdp = format!("v=0\r\na={relay}\r\na=candidate:2 1 udp 5 10.1.0.2 5 typ host\r\na=mid:0\r\n");
        assert_eq!(relays_alone(&sdp), format!("v=0\r\na={shown}\r\na=mid:0\r\n"));
    }
}
