//! Who a peer is, and the proof of its identity (protocol 2.3). Pure but for the randomness of a proof's nonce.

use std::fmt;

use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use super::keys::{self, KeyPair, PublicKey};

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

/// What is known of a peer that was seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The identity that it has proven.
    pub identity: PublicKey,
    /// Whether its user was verified: by the safety number, or by a link.
    pub is_verified: bool,
}

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
}
