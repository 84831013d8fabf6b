//! What somebody has of a call who recorded it and finds some of its secrets, or who has stolen an identity (protocol
//! 2.12).

#![cfg(test)]

use super::super::keys::KeyPair;
use super::tests::{NAMES, agreed};
use super::{Agreement, OwnKeys, Side, answer};

/// Who recorded all of a call, and finds one half of its secret later, by whatever means.
#[test]
fn one_half_of_the_secret_of_a_call_opens_nothing_of_it() {
    let [alice, bob] = [(); 2].map(|()| KeyPair::generate());
    let own = OwnKeys::generate();
    let (answer, mut called) = answer(&own.greeting(), NAMES).unwrap();
    let mut caller = own.clone().agree(&answer, NAMES);
    let transcript = caller.transcript();
    let firsts = [caller.seal_first(b"x", None), caller.seal_first(b"x", Some(bob.public()))];
    let signals = [caller.signals().seal(b"x").unwrap(), called.signals().seal(b"x").unwrap()];
    let text = caller.clone().conclude(b"first", b"second").0.seal(b"x").unwrap();
    // A quantum computer finds each secret of X25519, the identities' too, and not what ML-KEM hides.
    let quantum = |kem: &[u8]| Agreement::new(Side::Called, called.own.clone(), caller.own.public(), transcript, kem);
    // ML-KEM may be broken, and X25519 not.
    let kem = own.kem.decapsulate(&answer.ciphertext);
    let classical = Agreement::new(Side::Called, alice.clone(), caller.own.public(), transcript, &kem[..]);
    for mut recorder in [quantum(&[0; 32]), classical] {
        assert!(firsts.iter().all(|first| recorder.open_first(first, &bob).is_none()));
        assert!(signals.iter().all(|signal| recorder.signals().open(signal).is_err()));
        assert!(recorder.conclude(b"first", b"second").0.open(&text).is_err());
    }
    // Both together do.
    assert_eq!(quantum(&kem[..]).open_first(&firsts[0], &alice), Some((b"x".to_vec(), false)));
}

#[test]
fn who_has_stolen_an_identity_reads_nothing_that_was_said_before_and_proves_nothing_to_its_owner() {
    let [alice, bob] = [(); 2].map(|()| KeyPair::generate());
    let (caller, _) = agreed();
    let first = caller.seal_first(b"x", Some(bob.public()));
    // The thief has bob's identity, and calls of its own.
    let (to_owner, owner) = agreed();
    assert!(to_owner.open_first(&first, &bob).is_none());
    // To bob it would be alice.
    assert!(!owner.is_proven(&to_owner.prove(&bob, &[]), alice.public(), &[]));
    assert!(owner.is_proven(&to_owner.prove(&bob, &[]), bob.public(), &[]), "which bob takes from nobody");
}
