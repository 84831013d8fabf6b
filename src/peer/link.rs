//! Links, which name a peer with its identity and its server (protocol 2.5). Pure.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;

use super::keys::{KEY_BYTES, PublicKey};
use crate::protocol::LINK_SCHEME;
use crate::scheme::strip_scheme;

/// A peer with its identity and where it is: `lowkey://host[:port]/name#key` (protocol 2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Host and perhaps port of the server.
    pub host: String,
    /// Whether the connection to the server is not encrypted.
    pub is_plain: bool,
    /// The peer's name.
    pub name: String,
    /// Its identity.
    pub identity: PublicKey,
}

impl Link {
    /// The server's URL.
    pub fn server(&self) -> String {
        format!("{}://{}", if self.is_plain { "ws" } else { "wss" }, self.host)
    }
}

impl FromStr for Link {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "a link is lowkey://HOST[:PORT]/NAME#KEY";
        let text = text.trim();
        let (place, key) = strip_scheme(text, LINK_SCHEME).and_then(|rest| rest.split_once('#')).ok_or(expected)?;
        let (place, is_plain) = match place.strip_suffix("?plain") {
            Some(place) => (place, true),
            None => (place, false),
        };
        let (host, name) = place.split_once('/').ok_or(expected)?;
        // Nobody listens at port 0, which is not to be mistaken for one that was left out.
        let has_port = host.rsplit_once(':').is_none_or(|(_, port)| port.parse() != Ok(0_u16));
        let is_host =
            !host.is_empty() && !host.contains(['@', '?', ' ']) && !name.contains(['?', '/', ' ']) && has_port;
        let name = percent_encoding::percent_decode_str(name).decode_utf8().map_err(|_| expected)?;
        if !is_host || name.is_empty() || name.chars().any(char::is_control) {
            return Err(expected);
        }
        let key = BASE64URL_NOPAD.decode(key.as_bytes()).map_err(|_| WRONG_KEY)?;
        let key: [u8; KEY_BYTES] = key.try_into().map_err(|_| WRONG_KEY)?;
        let identity = PublicKey::from_bytes(key).map_err(|_| WRONG_KEY)?;
        Ok(Self { host: host.to_owned(), is_plain, name: name.into_owned(), identity })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = percent_encoding::utf8_percent_encode(&self.name, NAME);
        let plain = if self.is_plain { "?plain" } else { "" };
        write!(f, "lowkey://{}/{name}{plain}#{}", self.host, BASE64URL_NOPAD.encode(self.identity.as_bytes()))
    }
}

/// What of a name is written as it is: what the app lets a name be made of.
pub(crate) const NAME: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'_');

/// What is said of a link whose end is not a key.
const WRONG_KEY: &str = "the link is not whole: what stands behind its # was cut off or changed, so ask for it again";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::keys::counted;

    #[test]
    fn links_are_what_was_printed() {
        for (host, is_plain, name) in
            [("chat.example", false, "bob"), ("localhost:8080", true, "b_1"), ("h", false, "b/ö")]
        {
            let link = Link { host: host.to_owned(), is_plain, name: name.to_owned(), identity: counted(1) };
            assert_eq!(link.to_string().parse(), Ok(link));
        }
        let link = format!("lowkey://chat.example/bob#{}", BASE64URL_NOPAD.encode(counted(1).as_bytes()));
        assert_eq!(link.parse::<Link>().map(|link| link.server()).as_deref(), Ok("wss://chat.example"));
        assert_eq!(format!(" {link}\n").parse::<Link>(), link.parse(), "as it was copied");
        for scheme in ["LOWKEY", "Lowkey"] {
            assert_eq!(link.replacen("lowkey", scheme, 1).parse::<Link>(), link.parse(), "RFC 3986, section 3.1");
        }
        for bad in [
            "",
            "lowkey://",
            "lowkey://h/bob",
            &link.replace("example", "example:0"),
            &link.replace('#', "?PLAIN#"),
            &link.replace('#', "?plain&x=1#"),
            "lowkey://h/#x",
            "lowkey:///bob#x",
            &link[..link.len() - 1],
            &link[1..],
        ] {
            assert!(bad.parse::<Link>().is_err(), "{bad}");
        }
    }
}
