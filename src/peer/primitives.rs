//! What the keys of a call are calculated with, each from a kept library: X-Wing, SHA-512, HKDF and XSalsa20-Poly1305
//! (protocol 2.2). Secrets stay at one place on the heap and are overwritten there; the stack that was used is
//! overwritten too.
//!
//! The boxes are dryoc's, which uses what vectors the processor has: sealing 32 KiB of a file takes a sixth of what
//! it takes with `crypto_secretbox`, on which `crypto_box` stands, and files spend their time there.

use std::fmt;

use data_encoding::BASE64;
use dryoc::classic::crypto_secretbox::{crypto_secretbox_easy_inplace, crypto_secretbox_open_easy_inplace};
use hkdf::Hkdf;
use sha2::{Digest, Sha512};
use x_wing::{Decapsulate, DecapsulationKey, Decapsulator, Encapsulate, EncapsulationKey, KeyExport, TryKeyInit};
use zeroize::{Zeroize, Zeroizing};

use super::keys::{NONCE_BYTES, STACK_OF_BOX, on_clean_stack};
use super::{hidden, random};

/// A secret from which others are derived: a pseudorandom key of HKDF-SHA-512 (RFC 5869).
#[cfg_attr(test, derive(Clone))]
pub(super) struct Secret(Box<Zeroizing<[u8; SECRET_BYTES]>>);

/// How long a [`Secret`] and a hash are, in bytes.
pub(super) const SECRET_BYTES: usize = 64;

impl Secret {
    /// HKDF-Extract: what is common to those who know all of `parts`, put together.
    pub(super) fn extract(salt: &[u8], parts: &[&[u8]]) -> Self {
        let mut secret = Box::new(Zeroizing::new([0; SECRET_BYTES]));
        let material = Zeroizing::new(parts.concat());
        on_clean_stack::<STACK_OF_HASH, _>(|| {
            let (mut bytes, _) = Hkdf::<Sha512>::extract(Some(salt), &material);
            secret.copy_from_slice(&bytes);
            bytes.zeroize();
        });
        Self(secret)
    }

    /// HKDF-Expand of this secret, for the use that `label`'s parts name together.
    pub(super) fn expand<const LENGTH: usize>(&self, label: &[&[u8]]) -> Zeroizing<[u8; LENGTH]> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        on_clean_stack::<STACK_OF_HASH, _>(|| {
            let hkdf = Hkdf::<Sha512>::from_prk(&self.0[..]).expect("a secret is as long as a hash");
            hkdf.expand_multi_info(label, &mut bytes[..]).expect("so much can be expanded");
        });
        bytes
    }

    /// The secret's bytes, of which others are extracted.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0[..]
    }
}

/// SHA-512 of items, each behind its length as 4 bytes, big-endian, so that no two lists have the same bytes.
pub(super) fn hash(items: &[&[u8]]) -> [u8; SECRET_BYTES] {
    let mut hash = Sha512::new();
    for item in items {
        hash.update((item.len() as u32).to_be_bytes());
        hash.update(item);
    }
    hash.finalize().into()
}

/// A pair of X-Wing (draft-connolly-cfrg-xwing-kem), which is X25519 and ML-KEM-768 in one. The secret half is its
/// seed.
#[cfg_attr(test, derive(Clone))]
pub(super) struct KemPair {
    seed: Box<Zeroizing<[u8; x_wing::DECAPSULATION_KEY_SIZE]>>,
    public: Box<KemKey>,
}

/// The public half of a [`KemPair`].
pub type KemKey = [u8; x_wing::ENCAPSULATION_KEY_SIZE];

/// What hides a secret that the holder of a [`KemKey`]'s other half finds in it.
pub type Ciphertext = [u8; x_wing::CIPHERTEXT_SIZE];

impl KemPair {
    /// Makes a fresh pair.
    pub(super) fn generate() -> Self {
        Self::with(random::fill)
    }

    /// The pair whose seed is written to its place by `fill`.
    fn with(fill: impl FnOnce(&mut [u8])) -> Self {
        let mut seed = Box::new(Zeroizing::new([0; x_wing::DECAPSULATION_KEY_SIZE]));
        let public = on_clean_stack::<STACK_OF_KEM, _>(|| {
            fill(&mut seed[..]);
            Box::new(DecapsulationKey::from(**seed).encapsulation_key().to_bytes().into())
        });
        Self { seed, public }
    }

    /// The pair with this seed.
    #[cfg(test)]
    pub(super) fn from_seed(seed: &[u8; x_wing::DECAPSULATION_KEY_SIZE]) -> Self {
        Self::with(|place| place.copy_from_slice(seed))
    }

    /// The public half.
    pub(super) fn public(&self) -> &KemKey {
        &self.public
    }

    /// The secret in a ciphertext. Of one that was changed it is another secret, which nobody knows.
    pub(super) fn decapsulate(&self, ciphertext: &Ciphertext) -> Zeroizing<[u8; 32]> {
        on_clean_stack::<STACK_OF_KEM, _>(|| {
            Zeroizing::new(DecapsulationKey::from(**self.seed).decapsulate(&(*ciphertext).into()).into())
        })
    }
}

/// A fresh secret, and what hides it from all but the holder of `key`'s other half; `None` for what is no key (FIPS
/// 203, section 7.2).
pub(super) fn encapsulate(key: &KemKey) -> Option<(Box<Ciphertext>, Zeroizing<[u8; 32]>)> {
    on_clean_stack::<STACK_OF_KEM, _>(|| {
        let key = EncapsulationKey::new_from_slice(key).ok()?;
        #[cfg(test)]
        if random::row::is_begun() {
            let mut bytes = [0; x_wing::ENCAPSULATION_RANDOMNESS_SIZE];
            random::fill(&mut bytes);
            let (ciphertext, secret) = key.encapsulate_deterministic(&bytes.into());
            return Some((Box::new(ciphertext.into()), Zeroizing::new(secret.into())));
        }
        let (ciphertext, secret) = key.encapsulate();
        Some((Box::new(ciphertext.into()), Zeroizing::new(secret.into())))
    })
}

/// A key for boxes of NaCl's `crypto_secretbox`, for one direction and one use.
#[cfg_attr(test, derive(Clone))]
pub(super) struct BoxKey(Box<Zeroizing<[u8; 32]>>);

/// The nonce of a box.
pub(super) type BoxNonce = [u8; NONCE_BYTES];

/// How much longer a box is than what is in it: nonce and MAC.
pub(super) const BOX_EXTRA_BYTES: usize = NONCE_BYTES + MAC_BYTES;

/// How long a MAC is.
pub(super) const MAC_BYTES: usize = 16;

impl BoxKey {
    /// The key with these bytes.
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let mut place = Box::new(Zeroizing::new([0; 32]));
        place.copy_from_slice(key);
        Self(place)
    }

    /// Boxes bytes under a fresh nonce: the base64 of nonce and box.
    pub(super) fn seal(&self, bytes: &[u8]) -> String {
        let mut nonce = BoxNonce::default();
        random::fill(&mut nonce);
        self.seal_under(&nonce, bytes)
    }

    fn seal_under(&self, nonce: &BoxNonce, bytes: &[u8]) -> String {
        let mut sealed = Vec::with_capacity(BOX_EXTRA_BYTES + bytes.len());
        for part in [&nonce[..], bytes, &[0; MAC_BYTES]] {
            sealed.extend_from_slice(part);
        }
        self.seal_in_place(nonce, &mut sealed[NONCE_BYTES..]);
        BASE64.encode(&sealed)
    }

    /// Boxes what stands before the room for a MAC, under this nonce, which is to be used once only. The MAC stands
    /// first then.
    pub(super) fn seal_in_place(&self, nonce: &BoxNonce, content: &mut [u8]) {
        let seal = || crypto_secretbox_easy_inplace(content, nonce, &self.0);
        on_clean_stack::<STACK_OF_BOX, _>(seal).expect("there is room for a MAC");
    }

    /// What is in a box of this nonce, which it takes the place of; `None` if it was not sealed under this key.
    pub(super) fn open_in_place<'a>(&self, nonce: &BoxNonce, sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let length = sealed.len().checked_sub(MAC_BYTES)?;
        on_clean_stack::<STACK_OF_BOX, _>(|| crypto_secretbox_open_easy_inplace(sealed, nonce, &self.0)).ok()?;
        Some(&mut sealed[..length])
    }

    /// What is in a box, taken apart by [`unpack`]; `None` if it was not sealed under this key.
    pub(super) fn open(&self, (nonce, sealed): (&BoxNonce, &[u8])) -> Option<Vec<u8>> {
        let mut sealed = sealed.to_vec();
        let length = self.open_in_place(nonce, &mut sealed)?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

/// The nonce and the rest of what [`BoxKey::seal`] made, once its base64 is read.
pub(super) fn unpack(bytes: &[u8]) -> Option<(&BoxNonce, &[u8])> {
    bytes.split_first_chunk()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hidden::write(f, "Secret", || **self.0)
    }
}

impl fmt::Debug for KemPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hidden::write(f, "KemPair", || *self.public)
    }
}

impl fmt::Debug for BoxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An empty box tells one key from another.
        hidden::write(f, "BoxKey", || self.seal_under(&BoxNonce::default(), &[]))
    }
}

/// How much of the stack is overwritten, in words of 8 bytes, after hashes, and after a calculation with the matrices
/// of ML-KEM.
const STACK_OF_HASH: usize = 1024;
const STACK_OF_KEM: usize = 16384;

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::keys::tests::stack_of;
    use super::*;

    #[test]
    fn a_calculation_uses_no_more_of_the_stack_than_is_overwritten() {
        let key = [7; 32];
        for length in [1, 200, 32_768] {
            let mut content = vec![7; length + MAC_BYTES];
            let used = [
                stack_of(|| crypto_secretbox_easy_inplace(&mut content, &BoxNonce::default(), &key)),
                stack_of(|| crypto_secretbox_open_easy_inplace(&mut content, &BoxNonce::default(), &key)),
            ];
            assert!(used.into_iter().flatten().all(|words| words <= STACK_OF_BOX), "{length}: {used:?}");
        }
        let hash = [
            stack_of(|| Hkdf::<Sha512>::extract(Some(&key), &[7; 200])),
            stack_of(|| Hkdf::<Sha512>::from_prk(&[7; 64]).map(|hkdf| hkdf.expand(b"use", &mut [0; 64]))),
        ];
        assert!(hash.into_iter().flatten().all(|words| words <= STACK_OF_HASH), "{hash:?}");
        let pair = KemPair::from_seed(&[7; x_wing::DECAPSULATION_KEY_SIZE]);
        let (ciphertext, _) = encapsulate(pair.public()).unwrap();
        let decapsulate = || DecapsulationKey::from(**pair.seed).decapsulate(&(*ciphertext).into());
        let kem = [
            stack_of(|| DecapsulationKey::from(**pair.seed).encapsulation_key().to_bytes()),
            stack_of(decapsulate),
            stack_of(|| EncapsulationKey::new_from_slice(pair.public()).map(|key| key.encapsulate())),
        ];
        assert!(kem.into_iter().flatten().all(|words| words <= STACK_OF_KEM), "{kem:?}");
    }

    #[test]
    fn x_wing_is_that_of_the_draft() {
        #[derive(Deserialize)]
        struct File {
            vectors: Vec<Vector>,
        }
        #[derive(Deserialize)]
        struct Vector {
            seed: String,
            pk: String,
            ct: String,
            ss: String,
        }
        let file: File = serde_json::from_str(include_str!("../../integration/vectors/xwing.json")).unwrap();
        assert_eq!(file.vectors.len(), 3);
        let bytes = |hex: &str| data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        for Vector { seed, pk, ct, ss } in file.vectors {
            let pair = KemPair::from_seed(&bytes(&seed).try_into().unwrap());
            assert_eq!(pair.public()[..], bytes(&pk));
            let ciphertext: Ciphertext = bytes(&ct).try_into().unwrap();
            assert_eq!(pair.decapsulate(&ciphertext)[..], bytes(&ss));
            let (ciphertext, secret) = encapsulate(pair.public()).unwrap();
            assert_eq!(pair.decapsulate(&ciphertext), secret);
            // One that was changed hides another secret.
            let mut changed = ciphertext;
            changed[0] ^= 1;
            assert_ne!(pair.decapsulate(&changed), secret);
        }
    }

    #[test]
    fn what_is_no_key_of_ml_kem_is_refused() {
        assert!(encapsulate(&[0xff; x_wing::ENCAPSULATION_KEY_SIZE]).is_none());
    }

    #[test]
    fn hkdf_is_that_of_rfc_5869_with_sha_512() {
        // By Python's hmac: the input of test case 1.
        let secret = Secret::extract(&(0..13).collect::<Vec<u8>>(), &[&[0x0b; 11], &[0x0b; 11]]);
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(&hex(secret.as_bytes())[..32], EXTRACTED);
        let info: Vec<u8> = (0xf0..0xfa).collect();
        assert_eq!(&hex(&secret.expand::<42>(&[&info[..4], &info[4..]])[..])[..32], EXPANDED);
    }

    const EXTRACTED: &str = "665799823737ded04a88e47e54a5890b";
    const EXPANDED: &str = "832390086cda71fb47625bb5ceb168e4";
}
