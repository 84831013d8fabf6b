//! Keys of X25519, and the checks that NaCl leaves to its users (protocol 1.5). Pure but for the randomness of fresh
//! pairs.
//!
//! A secret is in memory once, on the heap, and is overwritten there when its last user drops it. `crypto_box` is given
//! it for one calculation at a time, since its own type for a secret key leaves the bytes behind when it is dropped;
//! and the stack that a calculation has used is overwritten after it.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use crypto_box::aead::{Aead, AeadCore, OsRng};
use crypto_box::{Nonce, SalsaBox};
use data_encoding::BASE64;
use zeroize::{Zeroize, Zeroizing};

use super::{hidden, random};

/// How long a key is, in bytes.
pub(crate) const KEY_BYTES: usize = 32;

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

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key as it goes onto the wire.
    pub fn to_base64(self) -> String {
        BASE64.encode(&self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hidden::write(f, "PublicKey", || self.0)
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

/// The key whose bytes count up from `first`.
#[cfg(test)]
pub(crate) fn counted(first: u8) -> PublicKey {
    PublicKey::from_bytes(std::array::from_fn(|place| first + place as u8)).expect("it is not of low order")
}

/// A key pair of X25519. Clones share the secret half, which is overwritten when the last of them is dropped.
#[derive(Clone)]
pub struct KeyPair {
    secret: Arc<Zeroizing<[u8; KEY_BYTES]>>,
    public: PublicKey,
}

impl KeyPair {
    /// Makes a fresh pair.
    pub fn generate() -> Self {
        Self::with(|secret| {
            random::fill(secret);
            Ok(())
        })
        .expect("any bytes are a secret")
    }

    /// The pair whose secret half is this, as [`secret_to_base64`](Self::secret_to_base64) gave it.
    ///
    /// # Errors
    /// It is not base64 of 32 bytes.
    pub fn from_base64(secret: &str) -> Result<Self, KeyError> {
        Self::with(|place| {
            // The buffer has room for the padding, which is no byte of the key.
            let mut bytes = Zeroizing::new([0; KEY_BYTES + 1]);
            if BASE64.decode_len(secret.len()) != Ok(bytes.len()) {
                return Err(KeyError::Malformed);
            }
            let length = BASE64.decode_mut(secret.as_bytes(), &mut *bytes).map_err(|_| KeyError::Malformed)?;
            if length != KEY_BYTES {
                return Err(KeyError::Malformed);
            }
            place.copy_from_slice(&bytes[..KEY_BYTES]);
            Ok(())
        })
    }

    /// The secret half, to be kept where nobody else can read it.
    pub fn secret_to_base64(&self) -> Zeroizing<String> {
        on_clean_stack::<STACK_OF_CURVE, _>(|| Zeroizing::new(BASE64.encode(&self.secret[..])))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The pair whose secret half is written to its place by `fill`.
    fn with(fill: impl FnOnce(&mut [u8; KEY_BYTES]) -> Result<(), KeyError>) -> Result<Self, KeyError> {
        let mut secret = Arc::new(Zeroizing::new([0; KEY_BYTES]));
        let public = on_clean_stack::<STACK_OF_CURVE, _>(|| {
            fill(Arc::get_mut(&mut secret).expect("nobody else has it yet"))?;
            Ok(crypto_box::SecretKey::from_bytes(**secret).public_key().to_bytes())
        })?;
        Ok(Self { secret, public: PublicKey(public) })
    }

    /// X25519 (RFC 7748, section 6.1): what only the two of them can calculate, as bytes that keys are derived from.
    pub(super) fn agree(&self, peer: PublicKey) -> Zeroizing<[u8; KEY_BYTES]> {
        on_clean_stack::<STACK_OF_CURVE, _>(|| {
            let secret = x25519_dalek::StaticSecret::from(**self.secret);
            Zeroizing::new(secret.diffie_hellman(&x25519_dalek::PublicKey::from(peer.0)).to_bytes())
        })
    }

    /// What only the two of them know, made ready for sealing and opening.
    pub(super) fn shared_with(&self, peer: PublicKey) -> SharedKey {
        on_clean_stack::<STACK_OF_CURVE, _>(|| {
            let secret = crypto_box::SecretKey::from_bytes(**self.secret);
            SharedKey(Arc::new(SalsaBox::new(&crypto_box::PublicKey::from_bytes(peer.0), &secret)))
        })
    }
}

/// The key that two pairs share. It stays where it is until it is dropped, and is overwritten then.
#[cfg_attr(test, derive(Clone))]
pub(super) struct SharedKey(Arc<SalsaBox>);

/// Does something with a secret, and overwrites so much of the stack beneath: what was calculated with stands there, in
/// copies that nobody drops.
pub(super) fn on_clean_stack<const WORDS: usize, T>(work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn apart<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    #[inline(never)]
    fn clean<const WORDS: usize>() {
        let mut stack = [0u64; WORDS];
        black_box(&mut stack).zeroize();
    }
    let done = apart(work);
    clean::<WORDS>();
    done
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hidden::write(f, "KeyPair", || self.public)
    }
}

/// Boxes bytes under a fresh nonce: the nonce, and the base64 of nonce and box (protocol 1.4).
pub(super) fn seal(shared: &SharedKey, bytes: &[u8]) -> (Nonce, String) {
    let nonce = SalsaBox::generate_nonce(&mut OsRng);
    (nonce, seal_under(&nonce, shared, bytes))
}

/// Boxes bytes under this nonce, which is to be used once only.
pub(super) fn seal_under(nonce: &Nonce, shared: &SharedKey, bytes: &[u8]) -> String {
    let seal = || shared.0.encrypt(nonce, bytes).expect("bytes in memory can be sealed");
    let sealed = on_clean_stack::<STACK_OF_BOX, _>(seal);
    BASE64.encode(&[nonce.as_slice(), &sealed].concat())
}

/// The bytes in a box that was sealed under this nonce; `None` if it was not.
pub(super) fn open_under(nonce: &Nonce, shared: &SharedKey, sealed: &[u8]) -> Option<Vec<u8>> {
    on_clean_stack::<STACK_OF_BOX, _>(|| shared.0.decrypt(nonce, sealed).ok())
}

/// How long a nonce is, in bytes.
pub(super) const NONCE_BYTES: usize = 24;

/// How much of the stack is overwritten, in words of 8 bytes, after a calculation on the curve, whose tables take up to
/// 11 kB there, and after a box was sealed or opened: that takes `dryoc` up to 3.3 kB with AVX-512, and `crypto_box` up
/// to 4.8 kB where little is optimized. What other compilers and processors leave there differs, so there is room for
/// more; the tests measure it.
const STACK_OF_CURVE: usize = 4096;
pub(super) const STACK_OF_BOX: usize = 1024;

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
pub(super) mod tests {
    use std::collections::HashSet;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use crypto_box::Nonce;
    use crypto_box::aead::Aead;

    use super::*;

    /// How many words of the stack a calculation uses, by what it changes of what was written there before; `None`
    /// where the system does not let us look.
    #[inline(never)]
    pub(in crate::peer) fn stack_of<T>(work: impl FnOnce() -> T) -> Option<usize> {
        #[inline(never)]
        fn fill() -> u64 {
            let mut stack = [FILL; FILLED];
            black_box(&mut stack).as_ptr() as u64
        }
        #[inline(never)]
        fn apart<T>(work: impl FnOnce() -> T) -> T {
            work()
        }
        let memory = File::open("/proc/self/mem").ok()?;
        let mut bytes = vec![0; 8 * FILLED];
        let start = fill();
        black_box(apart(work));
        memory.read_exact_at(&mut bytes, start).ok()?;
        let unused = bytes.chunks_exact(8).take_while(|word| **word == FILL.to_le_bytes()).count();
        assert!((1..FILLED).contains(&unused), "what was filled is seen, and was long enough");
        Some(FILLED - unused)
    }

    /// Words, and what is written there: half of the stack of a test's thread.
    const FILLED: usize = 1 << 17;
    const FILL: u64 = 0x5eed_0f57_ac4b_ed00;

    #[test]
    fn a_calculation_uses_no_more_of_the_stack_than_is_overwritten() {
        let (pair, peer) = (KeyPair::generate(), KeyPair::generate().public());
        let secret = || crypto_box::SecretKey::from_bytes(**pair.secret);
        let curve = [
            stack_of(|| secret().public_key()),
            stack_of(|| SalsaBox::new(&crypto_box::PublicKey::from_bytes(peer.0), &secret())),
            stack_of(|| {
                let secret = x25519_dalek::StaticSecret::from(**pair.secret);
                secret.diffie_hellman(&x25519_dalek::PublicKey::from(peer.0)).to_bytes()
            }),
        ];
        assert!(curve.into_iter().flatten().all(|words| words <= STACK_OF_CURVE), "{curve:?}");
        let (shared, nonce) = (pair.shared_with(peer), Nonce::default());
        for length in [1, 200, 32_768] {
            let bytes = vec![7; length];
            let sealed = shared.0.encrypt(&nonce, &bytes[..]).unwrap();
            let used =
                [stack_of(|| shared.0.encrypt(&nonce, &bytes[..])), stack_of(|| shared.0.decrypt(&nonce, &sealed[..]))];
            assert!(used.into_iter().flatten().all(|words| words <= STACK_OF_BOX), "{length}: {used:?}");
        }
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
                    KeyPair::generate().shared_with(PublicKey(point)).0.encrypt(&Nonce::default(), &b"x"[..]).unwrap()
                })
                .collect();
            assert!(shared.len() <= 8, "{}", shared.len());
        }
        let own = KeyPair::generate();
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
    fn bit_255_makes_no_other_key() {
        let mut bytes = [7; 32];
        let key = PublicKey::from_bytes(bytes);
        bytes[31] |= 0x80;
        assert_eq!(PublicKey::from_bytes(bytes), key);
    }
}
