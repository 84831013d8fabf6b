//! The file of the peers that were seen before. Pure: it is read and written elsewhere.

use std::collections::BTreeMap;
use std::fmt;

use crate::peer::keys::PublicKey;
use crate::peer::link;
use crate::peer::trust::Known;

/// A peer that was seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// The identity that it has proven.
    pub identity: PublicKey,
    /// Whether its user was verified: by the safety number, or by a link.
    pub is_verified: bool,
    /// Since when it is known, or verified, as a date: `2026-11-23`. Empty where that is only since this program runs.
    pub since: String,
}

impl From<KnownPeer> for Known {
    fn from(KnownPeer { identity, is_verified, .. }: KnownPeer) -> Self {
        Self { identity, is_verified }
    }
}

/// The peers that were seen before, by name and server: one line each, as `name@server key since seen|verified`. What
/// in a name could be taken for something else is percent-encoded, because names come from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPeers {
    peers: BTreeMap<String, KnownPeer>,
    /// The lines that begin with `#`, which are kept.
    notes: Vec<String>,
}

impl KnownPeers {
    /// Reads the text of a file. Empty lines are passed over, and those that begin with `#` are notes.
    ///
    /// # Errors
    /// The number of the first line that cannot be understood: to pass over it would be to forget a peer.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let (mut peers, mut notes) = (BTreeMap::new(), Vec::new());
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let known = match &words[..] {
                [] => continue,
                [first, ..] if first.starts_with('#') => {
                    notes.push(line.to_owned());
                    continue;
                }
                [name, key, since, state @ ("seen" | "verified")] if name.contains('@') => {
                    let identity = PublicKey::from_base64(key).map_err(|_| number + 1)?;
                    let known = KnownPeer { identity, is_verified: *state == "verified", since: (*since).to_owned() };
                    ((*name).to_owned(), known)
                }
                _ => return Err(number + 1),
            };
            peers.extend([known]);
        }
        Ok(Self { peers, notes })
    }

    /// What is known of the peer of this name at a server.
    pub fn get(&self, name: &str, server: &str) -> Option<&KnownPeer> {
        self.peers.get(&place(name, server))
    }

    /// Remembers a peer.
    pub fn insert(&mut self, name: &str, server: &str, known: KnownPeer) {
        self.peers.insert(place(name, server), known);
    }

    /// Forgets a peer, and returns whether there was one.
    pub fn remove(&mut self, name: &str, server: &str) -> bool {
        self.peers.remove(&place(name, server)).is_some()
    }

    /// The peers at a server, by name.
    pub fn at<'a>(&'a self, server: &'a str) -> impl Iterator<Item = (String, &'a KnownPeer)> {
        self.peers.iter().filter_map(move |(place, known)| {
            let (name, at) = read_place(place)?;
            (at == server).then_some((name, known))
        })
    }
}

impl fmt::Display for KnownPeers {
    /// The text of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        for (place, KnownPeer { identity, is_verified, since }) in &self.peers {
            let state = if *is_verified { "verified" } else { "seen" };
            writeln!(f, "{place} {} {since} {state}", identity.to_base64())?;
        }
        Ok(())
    }
}

/// How a peer at a server is called in files: whatever the name is, it is one word and no other's.
pub fn place(name: &str, server: &str) -> String {
    format!("{}@{server}", percent_encoding::utf8_percent_encode(name, link::NAME))
}

/// The name and the server that [`place`] was made of.
pub(crate) fn read_place(place: &str) -> Option<(String, &str)> {
    let (name, server) = place.rsplit_once('@')?;
    Some((percent_encoding::percent_decode_str(name).decode_utf8().ok()?.into_owned(), server))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::keys::counted;

    #[test]
    fn known_peers_are_what_was_written() {
        let mut peers = KnownPeers::default();
        for (name, server, is_verified) in [("alice", "a.example", true), ("bob", "b.example:1", false)] {
            peers.insert(name, server, KnownPeer { identity: counted(1), is_verified, since: "2026-11-23".to_owned() });
        }
        let text = peers.to_string();
        assert!(text.starts_with("alice@a.example ") && text.ends_with(" 2026-11-23 seen\n"), "{text}");
        assert_eq!(KnownPeers::parse(&text), Ok(peers.clone()));
        let with_note = format!("# a note\n{text}");
        assert_eq!(KnownPeers::parse(&format!("\n{with_note}")).unwrap().to_string(), with_note);
        assert_eq!(peers.at("b.example:1").map(|(name, _)| name).collect::<Vec<_>>(), ["bob"]);
        assert!(peers.remove("bob", "b.example:1") && peers.get("bob", "b.example:1").is_none());
        for bad in ["alice", "alice@a key 2026 seen", &text.replace("seen", "known"), &text.replace('@', " ")] {
            assert!(KnownPeers::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_name_can_pass_for_another_line() {
        let known = KnownPeer { identity: counted(1), is_verified: false, since: "2026-11-23".to_owned() };
        let forged =
            format!("x@y {} 2026-11-23 seen\nbob@a.example {0} 2026-11-23 verified\nq", counted(2).to_base64());
        for name in [&forged, "a b", "#a", "a@b", "a%20b", "ö", "a\u{2028}b"] {
            let mut peers = KnownPeers::default();
            peers.insert(name, "a.example", known.clone());
            let read = KnownPeers::parse(&peers.to_string()).unwrap();
            assert_eq!(read.at("a.example").collect::<Vec<_>>(), [(name.to_owned(), &known)], "{name}");
            assert_eq!(read.get("bob", "a.example"), None);
        }
    }
}
