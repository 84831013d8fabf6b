//! Credentials for a TURN server that shares a secret with this one, as coturn does with `use-auth-secret`
//! (draft-uberti-behave-turn-rest-00, section 2.2): whoever joins a session gets a pair that expires. No clock in here.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::protocol::ice::{IceScheme, IceServer, IceUrl};

/// The STUN and TURN servers that users are told of, and what makes their credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnServers {
    urls: Vec<String>,
    secret: TurnSecret,
    ttl: Duration,
}

/// What this server and the TURN server know, and nobody else. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnSecret(String);

impl TurnSecret {
    /// Takes the secret, if it is one that a line of the TURN server's settings can hold.
    pub fn new(secret: &str) -> Option<Self> {
        let is_fit = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        is_fit.then(|| Self(secret.to_owned()))
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        let mut mac = Hmac::<Sha1>::new_from_slice(self.0.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }
}

impl fmt::Debug for TurnSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnSecret(..)")
    }
}

impl TurnServers {
    /// These URLs, with credentials that last `ttl`.
    pub fn new(urls: Vec<String>, secret: TurnSecret, ttl: Duration) -> Self {
        Self { urls, secret, ttl }
    }

    /// The servers with credentials for this user, which expire after the time to live from `unix_time`, in seconds.
    ///
    /// The TURN server may count and limit what one user takes. A user to it is everybody from one `place`, an
    /// address or the network that stands for it: names are free, and whoever takes a new one for each call would
    /// have no limit. Where that is not known, as with who is on this machine, it is the name. It learns neither: a
    /// keyed hash stands for them.
    pub fn servers(&self, username: &str, place: Option<IpAddr>, unix_time: u64) -> Vec<IceServer> {
        let user = place.map_or_else(|| format!("name:{username}"), |place| format!("place:{place}"));
        let pseudonym = HEXLOWER.encode(&self.secret.sign(&user)[..PSEUDONYM]);
        let username = format!("{}:{pseudonym}", unix_time.saturating_add(self.ttl.as_secs()));
        let credential = BASE64.encode(&self.secret.sign(&username));
        vec![IceServer { urls: self.urls.clone(), username, credential }]
    }
}

/// Reads a comma list of URLs, eight at most, with a TURN server among them.
///
/// # Errors
/// Says for people what is wrong with the list, and names the entry.
pub fn parse_urls(list: &str) -> Result<Vec<String>, String> {
    let urls: Vec<&str> = list.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
    let parsed = urls.iter().map(|url| IceUrl::parse(url).map_err(|why| format!("of {url:?}: {why}")));
    let parsed: Vec<IceUrl<'_>> = parsed.collect::<Result<_, String>>()?;
    if parsed.len() > MAX_URLS {
        return Err(format!("there are {}", parsed.len()));
    }
    if !parsed.iter().any(|url| url.scheme != IceScheme::Stun) {
        return Err("there is no TURN server among them".to_owned());
    }
    Ok(urls.into_iter().map(str::to_owned).collect())
}

/// URLs that a session is told of. Peers of ours take no more either.
const MAX_URLS: usize = 8;

/// Bytes of the hash that stands for a user: enough to tell them apart.
const PSEUDONYM: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_is_the_signed_username() {
        // printf 1700003600:7f6e511bd7e45ef3 | openssl dgst -sha1 -hmac north -binary | base64
        let turn = TurnServers::new(
            vec!["turn:t.example".to_owned()],
            TurnSecret::new("north").unwrap(),
            Duration::from_secs(3600),
        );
        let expected = IceServer {
            urls: vec!["turn:t.example".to_owned()],
            username: "1700003600:7f6e511bd7e45ef3".to_owned(),
            credential: "e9YCn48wS52jSpAHDBoIp09roPo=".to_owned(),
        };
        let servers = turn.servers("alice", None, 1_700_000_000);
        assert_eq!(servers, [expected], "{} {}", servers[0].username, servers[0].credential);
        let user = |name, place: &str| turn.servers(name, place.parse().ok(), 1_700_000_000)[0].username.clone();
        assert_ne!(user("bob", ""), servers[0].username);
        assert_eq!(user("alice", "192.0.2.1"), user("bob", "192.0.2.1"), "new names are no new users");
        assert_ne!(user("alice", "192.0.2.1"), user("alice", "192.0.2.2"));
        assert_ne!(user("192.0.2.1", ""), user("alice", "192.0.2.1"));
        assert!(!format!("{turn:?}").contains("north"));
    }

    #[test]
    fn urls_are_a_list_with_a_turn_server_in_it() {
        let urls = |list: &str| parse_urls(list).map(|urls| urls.join(" "));
        assert_eq!(urls("turn:a").as_deref(), Ok("turn:a"));
        assert_eq!(
            urls("stun:a, turn:a:3478?transport=tcp,turns:a,").as_deref(),
            Ok("stun:a turn:a:3478?transport=tcp turns:a")
        );
        for bad in ["", ",", "a", "stun:a", "turn:a turn:b", "turn:a,http:b", &["turn:a"; 9].join(",")] {
            assert!(urls(bad).is_err(), "{bad}");
        }
        assert!(urls("turn:a,stuns:b").unwrap_err().contains("\"stuns:b\": an address begins with"));
    }
}
