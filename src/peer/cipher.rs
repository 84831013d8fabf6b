//! NaCl box for one chat with an old app: both text formats of protocol 1.4, and the memory of nonces. Pure but
//! for the randomness that keys and nonces are made of.

use std::collections::{HashSet, VecDeque};
use std::fmt;

use crypto_box::Nonce;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::hidden;
use super::keys::{self, KeyPair, NONCE_BYTES, PublicKey, SharedKey};

/// How texts are laid out on the data channel (protocol 1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextFormat {
    /// The base64 of nonce and box.
    #[default]
    V1,
    /// A JSON object that also names the sender's current key.
    V2,
}

/// A message that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The text that the peer sealed.
    pub bytes: Vec<u8>,
    /// The peer has changed its key in mid-chat, for the first time. The box of any fresh key opens, so by itself this
    /// proves nothing.
    pub key_changed: bool,
}

/// Why a text is dropped. It changes nothing in the cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// Neither of the two formats.
    Malformed,
    /// The MAC is not that of the peer's key.
    Forged,
    /// Its nonce was seen before: a text that was taken already, or one of our own, played back.
    Replayed,
    /// The chat has had [`MAX_TEXTS`].
    Exhausted,
}

/// No more texts fit into this chat; see [`MAX_TEXTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

/// The cipher of one chat.
#[cfg_attr(test, derive(Clone))]
pub struct Cipher {
    /// Own pairs: the current one first, then the older ones that a crossing text may still be sealed for.
    own: VecDeque<KeyPair>,
    /// The latest key of the peer.
    peer: PublicKey,
    /// Between the current own pair and the peer's latest key.
    shared: SharedKey,
    format: TextFormat,
    /// Makes a fresh pair before the next text, since the peer's key has changed.
    follow: bool,
    peer_has_changed: bool,
    /// The first eight bytes of each nonce taken or sent. Nonces are random, so two of them share these by chance once
    /// in 2^64, and a text played back always shares them with itself.
    seen: HashSet<u64>,
}

impl Cipher {
    /// A cipher between our session key pair and the peer's session key. Texts are sent in `format` at first, and in v2
    /// as soon as a v2 text has come.
    ///
    /// # Errors
    /// `None` where the peer's key is our own, which it never is in honest hands.
    pub fn new(own: KeyPair, peer: PublicKey, format: TextFormat) -> Option<Self> {
        if own.public() == peer {
            return None;
        }
        Some(Self {
            shared: own.shared_with(peer),
            own: VecDeque::from([own]),
            peer,
            format,
            follow: false,
            peer_has_changed: false,
            seen: HashSet::new(),
        })
    }

    /// Seals a text into one message of the data channel.
    ///
    /// # Errors
    /// [`Exhausted`] when the chat has had [`MAX_TEXTS`].
    pub fn seal(&mut self, bytes: impl AsRef<[u8]>) -> Result<String, Exhausted> {
        if self.seen.len() >= MAX_TEXTS {
            return Err(Exhausted);
        }
        if self.follow {
            self.follow = false;
            let fresh = KeyPair::generate();
            self.shared = fresh.shared_with(self.peer);
            self.own.push_front(fresh);
            self.own.truncate(KEPT_PAIRS);
        }
        let (nonce, sealed) = keys::seal(&self.shared, bytes.as_ref());
        self.seen.insert(prefix(&nonce));
        Ok(match self.format {
            TextFormat::V1 => sealed,
            TextFormat::V2 => {
                let text = V2 { rk: self.own[0].public().to_base64(), ct: sealed };
                serde_json::to_string(&text).expect("texts serialize")
            }
        })
    }

    /// Opens one message of the data channel, in whichever format it is.
    ///
    /// # Errors
    /// [`OpenError`]; nothing has changed then.
    pub fn open(&mut self, message: &str) -> Result<Opened, OpenError> {
        let v2: Option<V2> = match message.starts_with('{') {
            true => Some(serde_json::from_str(message).map_err(|_| OpenError::Malformed)?),
            false => None,
        };
        let peer = match &v2 {
            Some(v2) => PublicKey::from_base64(&v2.rk).map_err(|_| OpenError::Malformed)?,
            None => self.peer,
        };
        if self.own.iter().any(|own| own.public() == peer) {
            // A text of our own, played back.
            return Err(OpenError::Replayed);
        }
        let sealed = v2.as_ref().map_or(message, |v2| &v2.ct);
        let bytes = BASE64.decode(sealed.as_bytes()).map_err(|_| OpenError::Malformed)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Malformed)?;
        let nonce = Nonce::from_slice(nonce);
        if self.seen.contains(&prefix(nonce)) {
            return Err(OpenError::Replayed);
        }
        if self.seen.len() >= MAX_TEXTS {
            return Err(OpenError::Exhausted);
        }
        let bytes = self.decrypt(peer, nonce, sealed).ok_or(OpenError::Forged)?;
        // Only now that the text is proven does it change anything.
        self.seen.insert(prefix(nonce));
        if v2.is_some() {
            self.format = TextFormat::V2;
        }
        let is_new_key = peer != self.peer;
        let key_changed = is_new_key && !self.peer_has_changed;
        if is_new_key {
            self.peer = peer;
            self.peer_has_changed = true;
            self.follow = true;
            self.shared = self.own[0].shared_with(peer);
        }
        Ok(Opened { bytes, key_changed })
    }

    /// The own key that texts are sealed with now.
    pub(crate) fn own_key(&self) -> PublicKey {
        self.own[0].public()
    }

    /// The longest text, in bytes, that takes at most `max_message` bytes on the data channel.
    pub(crate) fn longest_text(&self, max_message: usize) -> usize {
        let base64 = match self.format {
            TextFormat::V1 => max_message,
            TextFormat::V2 => max_message.saturating_sub(V2_EXTRA_BYTES),
        };
        (base64 / 4 * 3).saturating_sub(NONCE_BYTES + MAC_BYTES)
    }

    fn decrypt(&self, peer: PublicKey, nonce: &Nonce, sealed: &[u8]) -> Option<Vec<u8>> {
        if peer == self.peer
            && let Some(opened) = keys::open_under(nonce, &self.shared, sealed)
        {
            return Some(opened);
        }
        // It may have crossed with a change of keys.
        let untried = self.own.iter().skip(usize::from(peer == self.peer));
        untried.into_iter().find_map(|own| keys::open_under(nonce, &own.shared_with(peer), sealed))
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = (&self.own, self.peer, self.format, self.follow, self.seen.len());
        hidden::write(f, "Cipher", || format!("{all:?}"))
    }
}

/// A text of format v2.
#[derive(Serialize, Deserialize)]
struct V2 {
    rk: String,
    ct: String,
}

fn prefix(nonce: &Nonce) -> u64 {
    u64::from_le_bytes(nonce[..8].try_into().expect("a nonce has 24 bytes"))
}

/// Texts of one chat, both ways together. The memory of nonces ends here, at some 20 MB, and with it the chat; a new
/// one has fresh keys.
pub const MAX_TEXTS: usize = 1_000_000;

/// Own pairs that are kept: as many as can be behind by texts that cross with changes of key (protocol 1.4).
const KEPT_PAIRS: usize = 4;

const MAC_BYTES: usize = 16;

/// What format v2 puts around the base64: `{"rk":"…44 digits…","ct":"…"}`.
const V2_EXTRA_BYTES: usize = 61;

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Cipher, Cipher) {
        pair_with(TextFormat::V1)
    }

    fn pair_with(format: TextFormat) -> (Cipher, Cipher) {
        let (alice, bob) = (KeyPair::generate(), KeyPair::generate());
        let (alices, bobs) = (alice.public(), bob.public());
        (Cipher::new(alice, bobs, format).unwrap(), Cipher::new(bob, alices, TextFormat::V1).unwrap())
    }

    fn opened(text: &str) -> Result<Opened, OpenError> {
        Ok(Opened { bytes: text.into(), key_changed: false })
    }

    /// A peer that changes its `rk`, as format v2 allows.
    fn changed(cipher: &mut Cipher) {
        cipher.follow = true;
        cipher.format = TextFormat::V2;
    }

    fn bytes(hex: &str) -> [u8; 32] {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
    }

    /// A pair from both its halves in hexadecimal digits.
    fn key_pair(secret: &str, public: &str) -> KeyPair {
        let pair = KeyPair::from_base64(&BASE64.encode(&bytes(secret))).unwrap();
        assert_eq!(Ok(pair.public()), PublicKey::from_bytes(bytes(public)));
        pair
    }

    #[test]
    fn boxes_are_libsodiums_both_ways() {
        #[derive(Deserialize)]
        struct File {
            vectors: Vec<Vector>,
        }
        #[derive(Deserialize)]
        struct Vector {
            sender_secret: String,
            sender_public: String,
            receiver_secret: String,
            receiver_public: String,
            text: String,
            message: String,
        }
        let file: File = serde_json::from_str(include_str!("../../integration/vectors/box.json")).unwrap();
        assert_eq!(file.vectors.len(), 7);
        for vector in file.vectors {
            let sender = key_pair(&vector.sender_secret, &vector.sender_public);
            let receiver = key_pair(&vector.receiver_secret, &vector.receiver_public);
            // The same nonce gives the very same bytes, so what we seal is what libsodium opens.
            let nonce = *Nonce::from_slice(&BASE64.decode(vector.message.as_bytes()).unwrap()[..NONCE_BYTES]);
            let shared = sender.shared_with(receiver.public());
            assert_eq!(keys::seal_under(&nonce, &shared, vector.text.as_bytes()), vector.message);
            let mut cipher = Cipher::new(receiver, sender.public(), TextFormat::V1).unwrap();
            assert_eq!(cipher.open(&vector.message), opened(&vector.text));
        }
    }

    #[test]
    fn texts_come_through_in_both_formats_and_an_answer_follows_the_format() {
        for format in [TextFormat::V1, TextFormat::V2] {
            let (mut alice, mut bob) = pair_with(format);
            for text in ["", "hello", "👋🏽\0\n", &"x".repeat(48 * 1024)] {
                let message = alice.seal(text).unwrap();
                assert_eq!(message.starts_with('{'), format == TextFormat::V2);
                assert!((text.len()..text.len() + 3).contains(&alice.longest_text(message.len())));
                assert_eq!(bob.open(&message), opened(text));
                let answer = bob.seal(text).unwrap();
                assert_eq!(answer.starts_with('{'), format == TextFormat::V2);
                assert_eq!(alice.open(&answer), opened(text));
            }
        }
    }

    #[test]
    fn a_text_is_opened_once_and_none_of_ones_own() {
        for format in [TextFormat::V1, TextFormat::V2] {
            let (mut alice, mut bob) = pair_with(format);
            let message = alice.seal("once").unwrap();
            assert_eq!(bob.open(&message), opened("once"));
            assert_eq!(bob.open(&message), Err(OpenError::Replayed));
            assert_eq!(alice.open(&message), Err(OpenError::Replayed));
            let relabelled = message.replace(&alice.own[0].public().to_base64(), &bob.own[0].public().to_base64());
            assert_eq!(alice.open(&relabelled), Err(OpenError::Replayed));
        }
    }

    #[test]
    fn what_is_not_the_peers_changes_nothing() {
        let (mut alice, mut bob) = pair();
        let message = alice.seal("hello").unwrap();
        let mut forged = BASE64.decode(message.as_bytes()).unwrap();
        *forged.last_mut().unwrap() ^= 1;
        let rk = alice.own[0].public().to_base64();
        let low_order = BASE64.encode(&[0; 32]);
        for (garbage, error) in [
            (BASE64.encode(&forged), OpenError::Forged),
            (format!("{{\"rk\":\"{rk}\",\"ct\":\"{}\"}}", BASE64.encode(&forged)), OpenError::Forged),
            (BASE64.encode(&[7; 40]), OpenError::Forged),
            (BASE64.encode(&[7; 24]), OpenError::Forged),
            (BASE64.encode(&[7; 23]), OpenError::Malformed),
            (String::new(), OpenError::Malformed),
            ("hello".to_owned(), OpenError::Malformed),
            (message.trim_end_matches('=').to_owned() + " ", OpenError::Malformed),
            ("{}".to_owned(), OpenError::Malformed),
            (format!("{{\"rk\":\"{low_order}\",\"ct\":\"{message}\"}}"), OpenError::Malformed),
            (format!("{{\"rk\":\"{rk}\",\"ct\":\"hello\"}}"), OpenError::Malformed),
        ] {
            assert_eq!(bob.open(&garbage), Err(error), "{garbage}");
        }
        assert_eq!(bob.seen.len(), 0);
        assert_eq!(bob.format, TextFormat::V1);
        assert_eq!(bob.open(&message), opened("hello"));
    }

    #[test]
    fn a_change_of_key_is_told_once_and_followed_and_crossing_texts_still_open() {
        let (mut alice, mut bob) = pair_with(TextFormat::V2);
        let crossing = bob.seal("crossing").unwrap();
        let before = alice.own[0].public();
        changed(&mut alice);
        let message = alice.seal("new key").unwrap();
        assert_ne!(alice.own[0].public(), before);
        assert_eq!(bob.open(&message), Ok(Opened { bytes: "new key".into(), key_changed: true }));
        assert_eq!(alice.open(&crossing), opened("crossing"), "sealed for the key before");
        let bobs = bob.own[0].public();
        let answer = bob.seal("follows").unwrap();
        assert_ne!(bob.own[0].public(), bobs);
        assert_eq!(alice.open(&answer).map(|opened| opened.bytes), Ok("follows".into()));
        let message = alice.seal("again").unwrap();
        assert_eq!(bob.open(&message), opened("again"), "told once");
        for _ in 0..6 {
            changed(&mut bob);
            bob.seal("x").unwrap();
        }
        assert_eq!(bob.own.len(), KEPT_PAIRS);
    }

    #[test]
    fn a_key_of_ones_own_is_refused() {
        let own = KeyPair::generate();
        assert!(Cipher::new(own.clone(), own.public(), TextFormat::V1).is_none());
    }

    #[test]
    fn a_chat_ends_when_its_memory_of_nonces_is_full() {
        let (mut alice, mut bob) = pair();
        let message = alice.seal("one too many").unwrap();
        for cipher in [&mut alice, &mut bob] {
            cipher.seen = (0..MAX_TEXTS as u64).collect();
            assert_eq!(cipher.seal("x"), Err(Exhausted));
        }
        assert_eq!(bob.open(&message), Err(OpenError::Exhausted));
    }
}
