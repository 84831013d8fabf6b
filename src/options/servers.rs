//! The values of options that have a syntax of their own: STUN and TURN servers, and access tokens. Pure.

use std::fmt;
use std::str::FromStr;

use crate::peer::IceServer;
use crate::protocol::ice::IceUrl;
use crate::scheme::strip_scheme;

/// A STUN server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer(pub IceServer);

impl FromStr for StunServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = format!("stun:{}", strip_scheme(text, "stun:").unwrap_or(text));
        IceUrl::parse(&url)?;
        Ok(Self(IceServer { url, username: String::new(), credential: String::new() }))
    }
}

/// A TURN server's address with the user and the secret for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnServer(pub IceServer);

impl FromStr for TurnServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected =
            "a TURN server is given as USER:SECRET@HOST[:PORT], with turns: in front for TLS or ?transport=tcp behind";
        let over_tls = strip_scheme(text, "turns:");
        let rest = over_tls.or_else(|| strip_scheme(text, "turn:")).unwrap_or(text);
        let (user, address) = rest.rsplit_once('@').ok_or(expected)?;
        let (username, credential) = user.split_once(':').ok_or(expected)?;
        if username.is_empty() || credential.is_empty() {
            return Err(expected);
        }
        let url = format!("{}:{address}", if over_tls.is_some() { "turns" } else { "turn" });
        let url = IceUrl::parse(&url)?.to_string();
        Ok(Self(IceServer { url, username: username.to_owned(), credential: credential.to_owned() }))
    }
}

/// What a private server wants to know.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    /// The token itself.
    pub fn secret(&self) -> String {
        self.0.clone()
    }
}

impl FromStr for AccessToken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text.to_owned())),
            false => Err("the access token is empty, or has spaces or other characters that no token has"),
        }
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_for_nats_are_read_with_or_without_their_scheme() {
        let stun = |text: &str| text.parse::<StunServer>().map(|server| server.0.url);
        assert_eq!(stun("stun.example").as_deref(), Ok("stun:stun.example"));
        assert_eq!(stun("stun:[2001:db8::1]:3478").as_deref(), Ok("stun:[2001:db8::1]:3478"));
        assert_eq!(stun("STUN:stun.example").as_deref(), Ok("stun:stun.example"));
        for bad in ["", "stuns:x", "x:0", "x:99999", "2001:db8::1", "x?transport=tcp", "a b", ":1"] {
            assert!(stun(bad).is_err(), "{bad}");
        }
        let turn: TurnServer = "turn:bob:p:w@d@turn.example:3478".parse().unwrap();
        let expected = IceServer {
            url: "turn:turn.example:3478".to_owned(),
            username: "bob".to_owned(),
            credential: "p:w@d".to_owned(),
        };
        assert_eq!(turn.0, expected);
        let url = |text: &str| text.parse::<TurnServer>().map(|server| server.0.url);
        assert_eq!(url("turn:bob:x@turn.example?transport=udp").as_deref(), Ok("turn:turn.example"));
        assert_eq!(url("bob:x@turn.example:80?transport=tcp").as_deref(), Ok("turn:turn.example:80?transport=tcp"));
        assert_eq!(url("turns:bob:x@turn.example?transport=tcp").as_deref(), Ok("turns:turn.example"));
        assert_eq!(url("turns:bob:a?b@[2001:db8::1]:443").as_deref(), Ok("turns:[2001:db8::1]:443"));
        assert_eq!(url("TURNS:bob:x@turn.example").as_deref(), Ok("turns:turn.example"));
        assert_eq!(url("Turn:bob:x@turn.example").as_deref(), Ok("turn:turn.example"));
        for bad in ["turn.example", "bob@turn.example", "bob:@turn.example", "bob:x@", "turns:bob:x@a?transport=udp"] {
            assert!(bad.parse::<TurnServer>().is_err(), "{bad}");
        }
        assert!(!format!("{turn:?}").contains("p:w@d"), "secrets stay out of debug texts");
    }
}
