//! NaCl box for one chat: keys and their checks, both text formats of protocol 1.4, and the memory of nonces. Pure but
//! for the randomness that keys and nonces are made of.

use std::collections::{HashSet, VecDeque};
use std::fmt;

use crypto_box::aead::{Aead, AeadCore, OsRng};
use crypto_box::{Nonce, SalsaBox};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

/// How long a key is, in bytes.
pub const KEY_BYTES: usize = 32;

/// An X25519 public key that is fit for use: not of low order, and with bit 255 cleared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

/// Why a peer's key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// It is not standard base64 of exactly 32 bytes.
    Malformed,
    /// It is one of the seven points of low order, with which everybody has the same shared secret.
    LowOrder,
}

impl PublicKey {
    /// Reads a key as it stands in a `key:exchange` or an `rk`: strict base64 of 32 bytes.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it. NaCl takes them all, so this check is ours (protocol 1.5).
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| KeyError::Malformed)?;
        Self::from_bytes(bytes.try_into().map_err(|_| KeyError::Malformed)?)
    }

    /// Takes the 32 bytes of a key.
    ///
    /// # Errors
    /// [`KeyError::LowOrder`].
    pub fn from_bytes(mut bytes: [u8; KEY_BYTES]) -> Result<Self, KeyError> {
        // X25519 ignores this bit (RFC 7748, section 5), so keys that differ in it alone are the same key.
        bytes[KEY_BYTES - 1] &= 0x7f;
        if LOW_ORDER_POINTS.contains(&bytes) {
            return Err(KeyError::LowOrder);
        }
        Ok(Self(bytes))
    }

    /// The key as it goes onto the wire.
    pub fn to_base64(self) -> String {
        BASE64.encode(&self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(..)")
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the key is not base64 of 32 bytes",
            Self::LowOrder => "the key is of low order",
        })
    }
}

impl std::error::Error for KeyError {}

/// A key pair of X25519. The secret half is wiped when it is dropped.
#[derive(Clone)]
pub struct KeyPair {
    secret: crypto_box::SecretKey,
    public: PublicKey,
}

impl KeyPair {
    /// Makes a fresh pair.
    pub fn generate() -> Self {
        Self::from_secret(crypto_box::SecretKey::generate(&mut OsRng))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    fn from_secret(secret: crypto_box::SecretKey) -> Self {
        let public = PublicKey(secret.public_key().to_bytes());
        Self { secret, public }
    }

    fn shared_with(&self, peer: PublicKey) -> SalsaBox {
        SalsaBox::new(&crypto_box::PublicKey::from_bytes(peer.0), &self.secret)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

/// How texts are laid out on the data channel (protocol 1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextFormat {
    /// The base64 of nonce and box.
    #[default]
    V1,
    /// A JSON object that also names the sender's current key.
    V2,
}

/// A text that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the peer wrote.
    pub text: String,
    /// The peer has changed its key in mid-chat, for the first time. The box of any fresh key opens, so by itself this
    /// proves nothing.
    pub key_changed: bool,
}

/// Why a text is dropped. It changes nothing in the cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// Neither of the two formats, or not UTF-8 once opened.
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
pub struct Cipher {
    /// Own pairs: the current one first, then the older ones that a crossing text may still be sealed for.
    own: VecDeque<KeyPair>,
    /// The latest key of the peer.
    peer: PublicKey,
    /// Between the current own pair and the peer's latest key.
    shared: SalsaBox,
    format: TextFormat,
    /// Makes a fresh pair before the next text, since the peer's key has changed.
    follow: bool,
    peer_has_changed: bool,
    /// The first eight bytes of each nonce taken or sent. Nonces are random, so two of them share these by chance once
    /// in 2^64, and a text played back always shares them with itself.
    seen: HashSet<u64>,
}

impl Cipher {
    /// A cipher between our session pair and the peer's session key. Texts are sent in `format` at first, and in v2
    /// as soon as a v2 text has come.
    ///
    /// # Errors
    /// `None` where the peer's key is our own, which it never is in honest hands.
    pub fn new(own: KeyPair, peer: PublicKey, format: TextFormat) -> Option<Self> {
        if own.public == peer {
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

    /// Seals `text` into one message of the data channel.
    ///
    /// # Errors
    /// [`Exhausted`] when the chat has had [`MAX_TEXTS`].
    pub fn seal(&mut self, text: &str) -> Result<String, Exhausted> {
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
        let nonce = SalsaBox::generate_nonce(&mut OsRng);
        self.seen.insert(prefix(&nonce));
        let sealed = self.shared.encrypt(&nonce, text.as_bytes()).expect("a text in memory can be sealed");
        let sealed = BASE64.encode(&[nonce.as_slice(), &sealed].concat());
        Ok(match self.format {
            TextFormat::V1 => sealed,
            TextFormat::V2 => {
                let text = V2 { rk: self.own[0].public.to_base64(), ct: sealed };
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
        if self.own.iter().any(|own| own.public == peer) {
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
        let opened = self.decrypt(peer, nonce, sealed).ok_or(OpenError::Forged)?;
        let text = String::from_utf8(opened).map_err(|_| OpenError::Malformed)?;
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
        Ok(Opened { text, key_changed })
    }

    /// How many bytes a text of `length` bytes takes on the data channel.
    pub fn sealed_length(&self, length: usize) -> usize {
        let base64 = (NONCE_BYTES + MAC_BYTES + length).div_ceil(3) * 4;
        match self.format {
            TextFormat::V1 => base64,
            TextFormat::V2 => base64 + V2_EXTRA_BYTES,
        }
    }

    /// The longest text, in bytes, that takes at most `max_message` bytes on the data channel.
    pub fn longest_text(&self, max_message: usize) -> usize {
        let base64 = match self.format {
            TextFormat::V1 => max_message,
            TextFormat::V2 => max_message.saturating_sub(V2_EXTRA_BYTES),
        };
        (base64 / 4 * 3).saturating_sub(NONCE_BYTES + MAC_BYTES)
    }

    fn decrypt(&self, peer: PublicKey, nonce: &Nonce, sealed: &[u8]) -> Option<Vec<u8>> {
        if peer == self.peer
            && let Ok(opened) = self.shared.decrypt(nonce, sealed)
        {
            return Some(opened);
        }
        // It may have crossed with a change of keys.
        let untried = self.own.iter().skip(usize::from(peer == self.peer));
        untried.into_iter().find_map(|own| own.shared_with(peer).decrypt(nonce, sealed).ok())
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher").field("format", &self.format).finish_non_exhaustive()
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

const NONCE_BYTES: usize = 24;
const MAC_BYTES: usize = 16;

/// What format v2 puts around the base64: `{"rk":"…44 digits…","ct":"…"}`.
const V2_EXTRA_BYTES: usize = 61;

/// The points of order 1, 2, 4 and 8 of Curve25519 and of its twist, as their coordinates with bit 255 cleared:
/// 0, 1, two of order 8, p - 1, p and p + 1.
const LOW_ORDER_POINTS: [[u8; KEY_BYTES]; 7] = [
    [0; 32],
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    near_p(0xec),
    near_p(0xed),
    near_p(0xee),
];

/// `ff…ff7f` with another first byte; p itself begins with `ed`.
const fn near_p(first: u8) -> [u8; KEY_BYTES] {
    let mut bytes = [0xff; KEY_BYTES];
    bytes[0] = first;
    bytes[KEY_BYTES - 1] = 0x7f;
    bytes
}

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
        Ok(Opened { text: text.to_owned(), key_changed: false })
    }

    /// A peer that changes its `rk`, as format v2 allows.
    fn changed(cipher: &mut Cipher) {
        cipher.follow = true;
        cipher.format = TextFormat::V2;
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
        fn bytes(hex: &str) -> [u8; KEY_BYTES] {
            data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
        }
        fn key_pair(secret: &str, public: &str) -> KeyPair {
            let pair = KeyPair::from_secret(crypto_box::SecretKey::from_bytes(bytes(secret)));
            assert_eq!(Ok(pair.public), PublicKey::from_bytes(bytes(public)));
            pair
        }
        let file: File = serde_json::from_str(include_str!("../../integration/vectors/box.json")).unwrap();
        assert_eq!(file.vectors.len(), 7);
        for vector in file.vectors {
            let sender = key_pair(&vector.sender_secret, &vector.sender_public);
            let receiver = key_pair(&vector.receiver_secret, &vector.receiver_public);
            // The same nonce gives the very same bytes, so what we seal is what libsodium opens.
            let nonce = BASE64.decode(vector.message.as_bytes()).unwrap()[..NONCE_BYTES].to_vec();
            let sealed =
                sender.shared_with(receiver.public).encrypt(Nonce::from_slice(&nonce), vector.text.as_bytes()).unwrap();
            assert_eq!(BASE64.encode(&[nonce, sealed].concat()), vector.message);
            let mut cipher = Cipher::new(receiver, sender.public, TextFormat::V1).unwrap();
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
                assert_eq!(message.len(), alice.sealed_length(text.len()));
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
            let relabelled = message.replace(&alice.own[0].public.to_base64(), &bob.own[0].public.to_base64());
            assert_eq!(alice.open(&relabelled), Err(OpenError::Replayed));
        }
    }

    #[test]
    fn what_is_not_the_peers_changes_nothing() {
        let (mut alice, mut bob) = pair();
        let message = alice.seal("hello").unwrap();
        let mut forged = BASE64.decode(message.as_bytes()).unwrap();
        *forged.last_mut().unwrap() ^= 1;
        let rk = alice.own[0].public.to_base64();
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
        let before = alice.own[0].public;
        changed(&mut alice);
        let message = alice.seal("new key").unwrap();
        assert_ne!(alice.own[0].public, before);
        assert_eq!(bob.open(&message), Ok(Opened { text: "new key".to_owned(), key_changed: true }));
        assert_eq!(alice.open(&crossing), opened("crossing"), "sealed for the key before");
        let bobs = bob.own[0].public;
        let answer = bob.seal("follows").unwrap();
        assert_ne!(bob.own[0].public, bobs);
        assert_eq!(alice.open(&answer).map(|opened| opened.text), Ok("follows".to_owned()));
        let message = alice.seal("again").unwrap();
        assert_eq!(bob.open(&message), opened("again"), "told once");
        for _ in 0..6 {
            changed(&mut bob);
            bob.seal("x").unwrap();
        }
        assert_eq!(bob.own.len(), KEPT_PAIRS);
    }

    #[test]
    fn keys_that_are_no_keys_are_refused() {
        for mut point in LOW_ORDER_POINTS {
            assert_eq!(PublicKey::from_bytes(point), Err(KeyError::LowOrder));
            point[31] |= 0x80;
            assert_eq!(PublicKey::from_base64(&BASE64.encode(&point)), Err(KeyError::LowOrder));
            // Whoever's secret it meets, only a handful of shared secrets come of it, which is why it is refused.
            let shared: HashSet<Vec<u8>> = (0..64)
                .map(|_| {
                    KeyPair::generate().shared_with(PublicKey(point)).encrypt(&Nonce::default(), &b"x"[..]).unwrap()
                })
                .collect();
            assert!(shared.len() <= 8, "{}", shared.len());
        }
        let own = KeyPair::generate();
        assert!(Cipher::new(own.clone(), own.public, TextFormat::V1).is_none());
        let good = own.public.to_base64();
        assert_eq!(PublicKey::from_base64(&good), Ok(own.public));
        for bad in [
            "",
            &good[..43],
            &format!("{good}="),
            &format!("{good}\n"),
            &BASE64.encode(&[7; 31]),
            &BASE64.encode(&[7; 33]),
        ] {
            assert_eq!(PublicKey::from_base64(bad), Err(KeyError::Malformed), "{bad:?}");
        }
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

    #[test]
    fn bit_255_makes_no_other_key() {
        let mut bytes = [7; 32];
        let key = PublicKey::from_bytes(bytes);
        bytes[31] |= 0x80;
        assert_eq!(PublicKey::from_bytes(bytes), key);
    }
}
