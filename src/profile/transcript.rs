//! The log of texts, for who asks for one: which chats are kept, and an entry as a line of JSON. Pure: the
//! [profile](super::Profile) has the file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::escape::escaped;

/// A text that was sent or received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptEntry {
    /// When it was sent or received (RFC 3339).
    pub time: String,
    /// At which server, as in the list of known peers.
    pub server: String,
    /// The other side's name.
    pub peer: String,
    /// Whether it was sent; else it was received.
    pub sent: bool,
    /// The text.
    pub text: String,
}

impl TranscriptEntry {
    /// The entry as a line, in which nothing takes over the terminal of who looks at it.
    pub fn to_line(&self) -> String {
        escaped(&serde_json::to_string(self).expect("an entry has only texts")).into_owned() + "\n"
    }

    /// The last entries among these lines, the oldest first: with this peer at this server, or with all peers there. A
    /// line that is none is passed over.
    pub fn last(lines: &str, server: &str, peer: Option<&str>) -> Vec<Self> {
        let entries = lines.lines().rev().filter_map(|line| serde_json::from_str::<Self>(line).ok());
        let wanted = entries.filter(|entry| entry.server == server && peer.is_none_or(|peer| entry.peer == peer));
        let mut last: Vec<Self> = wanted.take(SHOWN).collect();
        last.reverse();
        last
    }
}

/// Whose texts are kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Logged {
    by_default: bool,
    peers: BTreeMap<String, bool>,
}

impl Logged {
    /// Keeps the texts of everybody, or of nobody.
    pub fn new(by_default: bool) -> Self {
        Self { by_default, peers: BTreeMap::new() }
    }

    /// Says from now on whether the texts of this peer are kept, or without one those of everybody.
    pub fn set(&mut self, peer: Option<String>, is_on: bool) {
        match peer {
            Some(peer) => drop(self.peers.insert(peer, is_on)),
            None => *self = Self::new(is_on),
        }
    }

    /// Whether texts of anybody are kept.
    pub fn is_on(&self) -> bool {
        self.by_default || self.peers.values().any(|is_on| *is_on)
    }

    /// Whether texts of this peer are kept.
    pub fn has(&self, peer: &str) -> bool {
        self.peers.get(peer).copied().unwrap_or(self.by_default)
    }
}

/// How many entries are shown: what fits a screen.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entries_are_those_of_the_peer_and_the_server() {
        let entry = |peer: &str, server: &str, text: &str| TranscriptEntry {
            time: "T".to_owned(),
            server: server.to_owned(),
            peer: peer.to_owned(),
            sent: true,
            text: text.to_owned(),
        };
        let entries = [
            entry("bob", "a", "1\n\u{202e}"),
            entry("carol", "a", "2"),
            entry("bob", "b", "3"),
            entry("bob", "a", "4"),
        ];
        let lines: String = entries.iter().map(TranscriptEntry::to_line).collect();
        assert_eq!(lines.lines().count(), 4, "an entry is one line, whatever the text is");
        assert!(
            lines.starts_with(r#"{"time":"T","server":"a","peer":"bob","sent":true,"text":"1\n\u202e"}"#),
            "{lines}"
        );
        let lines = format!("cut off\"}}\n{lines}{{\"half");
        let texts =
            |peer| TranscriptEntry::last(&lines, "a", peer).into_iter().map(|entry| entry.text).collect::<Vec<_>>();
        assert_eq!(texts(Some("bob")), ["1\n\u{202e}", "4"]);
        assert_eq!(texts(None), ["1\n\u{202e}", "2", "4"]);
        let many: String = (0..100).map(|number| entry("bob", "a", &number.to_string()).to_line()).collect();
        let last = TranscriptEntry::last(&many, "a", None);
        assert_eq!((last.len(), &*last[0].text, &*last[19].text), (20, "80", "99"));
    }

    #[test]
    fn everybody_is_kept_or_nobody_but_for_those_who_are_named() {
        let mut kept = Logged::default();
        assert!(!kept.has("bob"));
        kept.set(Some("bob".to_owned()), true);
        assert!(kept.has("bob") && !kept.has("carol"));
        kept.set(None, true);
        kept.set(Some("bob".to_owned()), false);
        assert!(!kept.has("bob") && kept.has("carol"));
        kept.set(None, true);
        assert!(kept.has("bob"), "everybody is everybody");
    }
}
