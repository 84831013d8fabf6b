//! Who a peer is: the proof of its identity, the safety number that two people compare, the peers that were seen before, and
//! links that name a peer with its identity (protocol part 2). Pure but for the randomness of a proof's nonce.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use super::keys::{self, KEY_BYTES, KeyPair, PublicKey};

/// What is known of who a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It has proven the identity that its user was verified by: by the safety number, or by a link.
    Verified,
    /// It has proven the identity that it had before.
    Known,
    /// It has proven an identity, which was not seen before.
    New,
    /// It is an old app, which proves nothing.
    Unproven,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::Known => "seen before",
            Self::New => "new",
            Self::Unproven => "an old app, which cannot prove who it is",
        })
    }
}

/// What one side of a proof is, as the checking side saw it.
#[derive(Debug, Clone, Copy)]
pub struct Party<'a> {
    /// The name that the server gives it.
    pub username: &'a str,
    /// Its long-term key.
    pub identity: PublicKey,
    /// Its session key.
    pub key: PublicKey,
    /// Its features, as it sent them, joined by commas.
    pub features: &'a str,
    /// The SHA-256 fingerprint of its DTLS certificate, from its description.
    pub fingerprint: [u8; 32],
}

/// Which side of a call the sender of a proof is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has called, and offers the connection.
    Initiator,
    /// It was called, and answers.
    Responder,
}

/// Makes the proof that `sender` owns its identity, its session key and its transport (protocol 2.3). `identity` is its
/// long-term pair; only the receiver can open it, and could have made it, too. What is `added` stands in the box behind the hash.
pub fn prove(identity: &KeyPair, role: Role, sender: &Party<'_>, receiver: &Party<'_>, added: &[u8]) -> String {
    let bytes = [&proof_hash(role, sender, receiver)[..], added].concat();
    keys::seal(&identity.shared_with(receiver.key), &bytes).1
}

/// Checks a proof of `sender`, made for the session pair `own` of the receiver: what was added to it, if it holds.
pub fn check(proof: &str, own: &KeyPair, role: Role, sender: &Party<'_>, receiver: &Party<'_>) -> Option<Vec<u8>> {
    let (_, bytes) = keys::open(&own.shared_with(sender.identity), proof)?;
    let (hash, added) = bytes.split_first_chunk::<64>()?;
    bool::from(hash.ct_eq(&proof_hash(role, sender, receiver))).then(|| added.to_vec())
}

/// What a proof holds: the SHA-512 of all that could be changed on the way, each item behind its length.
fn proof_hash(role: Role, sender: &Party<'_>, receiver: &Party<'_>) -> [u8; 64] {
    let role: &[u8] = match role {
        Role::Initiator => b"initiator",
        Role::Responder => b"responder",
    };
    let mut hash = Sha512::new();
    let mut item = |bytes: &[u8]| {
        hash.update((bytes.len() as u32).to_be_bytes());
        hash.update(bytes);
    };
    item(b"lowkey proof v1");
    item(role);
    for party in [sender, receiver] {
        item(party.username.as_bytes());
        item(party.identity.as_bytes());
        item(party.key.as_bytes());
        item(party.features.as_bytes());
        item(&party.fingerprint);
    }
    hash.finalize().into()
}

/// Sixty digits that are the same for both sides of a chat, to be compared by voice or in person (protocol 2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetyNumber(String);

impl SafetyNumber {
    /// The number of two sides, each with the key that stands for it and its name. Takes some milliseconds.
    pub fn new(one: (PublicKey, &str), other: (PublicKey, &str)) -> Self {
        let mut halves = [one, other].map(|(key, username)| half(key, username));
        halves.sort();
        Self(halves.concat())
    }

    /// Whether somebody typed this number, with or without spaces.
    pub fn is(&self, typed: &str) -> bool {
        typed.chars().filter(|c| !c.is_whitespace()).eq(self.0.chars())
    }
}

impl fmt::Display for SafetyNumber {
    /// Twelve groups of five digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for start in (0..self.0.len()).step_by(GROUP) {
            let space = if start == 0 { "" } else { " " };
            write!(f, "{space}{}", &self.0[start..start + GROUP])?;
        }
        Ok(())
    }
}

/// Thirty digits for one side.
fn half(key: PublicKey, username: &str) -> String {
    let mut hash = [&[0, 0], key.as_bytes().as_slice(), username.as_bytes()].concat();
    for _ in 0..ITERATIONS {
        hash = Sha512::new().chain_update(&hash).chain_update(key.as_bytes()).finalize().to_vec();
    }
    let group = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte)) % 100_000;
    hash[..30].chunks(5).map(|bytes| format!("{:05}", group(bytes))).collect()
}

/// A peer that was seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The identity that it has proven.
    pub identity: PublicKey,
    /// Whether its user was verified: by the safety number, or by a link.
    pub is_verified: bool,
    /// Since when, as a date: `2026-11-23`.
    pub since: String,
}

/// The peers that were seen before, by name and server: one line each, as `name@server key since seen|verified`. What in a name
/// could be taken for something else is percent-encoded, since names come from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPeers {
    peers: BTreeMap<String, Known>,
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
                    let known = Known { identity, is_verified: *state == "verified", since: (*since).to_owned() };
                    ((*name).to_owned(), known)
                }
                _ => return Err(number + 1),
            };
            peers.extend([known]);
        }
        Ok(Self { peers, notes })
    }

    /// What is known of a peer at a server.
    pub fn get(&self, name: &str, server: &str) -> Option<&Known> {
        self.peers.get(&place(name, server))
    }

    /// Remembers a peer.
    pub fn insert(&mut self, name: &str, server: &str, known: Known) {
        self.peers.insert(place(name, server), known);
    }

    /// Forgets a peer; whether there was one.
    pub fn remove(&mut self, name: &str, server: &str) -> bool {
        self.peers.remove(&place(name, server)).is_some()
    }

    /// The peers at a server, by name.
    pub fn at<'a>(&'a self, server: &'a str) -> impl Iterator<Item = (String, &'a Known)> {
        self.peers.iter().filter_map(move |(place, known)| {
            let (name, at) = place.split_once('@')?;
            let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
            (at == server).then(|| (name.into_owned(), known))
        })
    }
}

impl fmt::Display for KnownPeers {
    /// The text of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        for (place, Known { identity, is_verified, since }) in &self.peers {
            let state = if *is_verified { "verified" } else { "seen" };
            writeln!(f, "{place} {} {since} {state}", identity.to_base64())?;
        }
        Ok(())
    }
}

/// How a peer at a server is called in the file.
fn place(name: &str, server: &str) -> String {
    format!("{}@{server}", percent_encoding::utf8_percent_encode(name, NAME))
}

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
        let (place, key) = text.strip_prefix("lowkey://").and_then(|rest| rest.split_once('#')).ok_or(expected)?;
        let (place, is_plain) = match place.strip_suffix("?plain") {
            Some(place) => (place, true),
            None => (place, false),
        };
        let (host, name) = place.split_once('/').ok_or(expected)?;
        let is_host = !host.is_empty() && !host.contains(['@', '?', ' ']);
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
const NAME: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'_');

/// What is said of a link whose end is not a key.
const WRONG_KEY: &str = "the link is not whole: what stands behind its # was cut off or changed, so ask for it again";

/// How often a safety number is hashed, so that looking for a similar one is slow.
const ITERATIONS: usize = 5200;

/// Digits in a group of a safety number.
const GROUP: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(first: u8) -> PublicKey {
        PublicKey::from_bytes(std::array::from_fn(|place| first + place as u8)).unwrap()
    }

    fn party(username: &'static str, identity: u8, session: u8, fingerprint: u8) -> Party<'static> {
        let (identity, key) = (key(identity), key(session));
        Party { username, identity, key, features: "proof,seal", fingerprint: [fingerprint; 32] }
    }

    /// The vectors are those of protocol 2.3 and 2.4.
    #[test]
    fn proof_hashes_are_those_of_the_protocol() {
        let (alice, bob) = (party("alice", 0x00, 0x40, 0xaa), party("bob", 0x20, 0x60, 0xbb));
        let hex = |hash: [u8; 64]| data_encoding::HEXLOWER.encode(&hash);
        let of_alice = hex(proof_hash(Role::Initiator, &alice, &bob));
        assert!(of_alice.starts_with("7035a68efa12da80") && of_alice.ends_with("4a75dc"), "{of_alice}");
        let of_bob = hex(proof_hash(Role::Responder, &bob, &alice));
        assert!(of_bob.starts_with("f0bb05341c048297") && of_bob.ends_with("2882ed6e"), "{of_bob}");
    }

    #[test]
    fn the_safety_number_is_that_of_the_protocol_from_both_sides() {
        let number = SafetyNumber::new((key(0), "alice"), (key(0x20), "bob"));
        let expected = "30995 66850 10881 98914 36086 86589 42897 09292 78922 06503 11987 06478";
        assert_eq!(number.to_string(), expected);
        assert_eq!(SafetyNumber::new((key(0x20), "bob"), (key(0), "alice")), number);
        assert!(number.is(expected) && number.is(&expected.replace(' ', "")) && !number.is(&expected[1..]));
    }

    #[test]
    fn a_proof_holds_for_what_it_was_made_for_and_for_nothing_else() {
        let (identity, session, other) = (KeyPair::generate(), KeyPair::generate(), KeyPair::generate());
        let alice = Party { identity: identity.public(), ..party("alice", 1, 0x40, 0xaa) };
        let bob = Party { key: session.public(), ..party("bob", 0x20, 0x60, 0xbb) };
        let proof = prove(&identity, Role::Initiator, &alice, &bob, b"added");
        let is_proven =
            |proof: &str, own, role, sender: &_, receiver: &_| check(proof, own, role, sender, receiver).is_some();
        assert_eq!(check(&proof, &session, Role::Initiator, &alice, &bob), Some(b"added".to_vec()));
        assert!(!is_proven(&proof, &session, Role::Responder, &alice, &bob));
        assert!(!is_proven(&proof, &other, Role::Initiator, &alice, &bob));
        for alice in [
            Party { username: "alicf", ..alice },
            Party { identity: other.public(), ..alice },
            Party { key: other.public(), ..alice },
            Party { features: "proof", ..alice },
            Party { fingerprint: [0xab; 32], ..alice },
        ] {
            assert!(!is_proven(&proof, &session, Role::Initiator, &alice, &bob), "{alice:?}");
        }
        assert!(!is_proven("", &session, Role::Initiator, &alice, &bob));
    }

    #[test]
    fn known_peers_are_what_was_written() {
        let mut peers = KnownPeers::default();
        for (name, server, is_verified) in [("alice", "a.example", true), ("bob", "b.example:1", false)] {
            peers.insert(name, server, Known { identity: key(1), is_verified, since: "2026-11-23".to_owned() });
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
        let known = Known { identity: key(1), is_verified: false, since: "2026-11-23".to_owned() };
        let forged = format!("x@y {} 2026-11-23 seen\nbob@a.example {0} 2026-11-23 verified\nq", key(2).to_base64());
        for name in [&forged, "a b", "#a", "a@b", "a%20b", "ö", "a\u{2028}b"] {
            let mut peers = KnownPeers::default();
            peers.insert(name, "a.example", known.clone());
            let read = KnownPeers::parse(&peers.to_string()).unwrap();
            assert_eq!(read.at("a.example").collect::<Vec<_>>(), [(name.to_owned(), &known)], "{name}");
            assert_eq!(read.get("bob", "a.example"), None);
        }
    }

    #[test]
    fn links_are_what_was_printed() {
        for (host, is_plain, name) in
            [("chat.example", false, "bob"), ("localhost:8080", true, "b_1"), ("h", false, "b/ö")]
        {
            let link = Link { host: host.to_owned(), is_plain, name: name.to_owned(), identity: key(1) };
            assert_eq!(link.to_string().parse(), Ok(link));
        }
        let link = format!("lowkey://chat.example/bob#{}", BASE64URL_NOPAD.encode(key(1).as_bytes()));
        assert_eq!(link.parse::<Link>().map(|link| link.server()).as_deref(), Ok("wss://chat.example"));
        for bad in
            ["", "lowkey://", "lowkey://h/bob", "lowkey://h/#x", "lowkey:///bob#x", &link[..link.len() - 1], &link[1..]]
        {
            assert!(bad.parse::<Link>().is_err(), "{bad}");
        }
    }
}
