//! How two of Lowkey's own programs come to the keys of a call (protocol 2.2) and prove who they are (2.3). Pure but
//! for the randomness of fresh keys and nonces. What is said to whom and when is the engine's; how it is written down
//! is `hello`'s.
//!
//! Both X25519 and X-Wing go into the one secret of a call, together with all that was said in the open; each direction
//! and each use has a key of its own that is derived of it. The identities have no part in it but in proofs, and in the
//! key of a first hello to somebody who is known, so that only they can read it.

mod thieves;

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::boxes::Boxes;
use super::files::lane::FileKeys;
use super::hidden;
use super::keys::{KEY_BYTES, KeyPair, PublicKey};
use super::planted::{self, Fault};
use super::primitives::{self, BoxKey, Ciphertext, KemKey, KemPair, SECRET_BYTES, Secret};

/// Which side of a call somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Has called, and offers the connection.
    Caller,
    /// Was called, and answers.
    Called,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Caller => Self::Called,
            Self::Called => Self::Caller,
        }
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Caller => b"caller",
            Self::Called => b"called",
        }
    }
}

/// The names of both sides of a call, as the server stamps them.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// Who has called.
    pub caller: &'a str,
    /// Who was called.
    pub called: &'a str,
}

/// What a caller says first (C1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The highest version of the protocol that it speaks.
    pub version: u64,
    /// Its key for this call.
    pub key: PublicKey,
    /// Its key of X-Wing for this call.
    pub kem: Box<KemKey>,
}

/// What the called side's program answers (S1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreetingAnswer {
    /// The highest version of the protocol that it speaks.
    pub version: u64,
    /// Its key for this call.
    pub key: PublicKey,
    /// A secret for the holder of the greeting's key of X-Wing.
    pub ciphertext: Box<Ciphertext>,
    /// The key of the greeting that it answers.
    pub answers: PublicKey,
}

/// The version that we speak.
pub(crate) const VERSION: u64 = 2;

/// A caller's keys for one call, before they are answered.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct OwnKeys {
    pair: KeyPair,
    kem: KemPair,
}

impl OwnKeys {
    /// Makes fresh ones.
    pub fn generate() -> Self {
        Self { pair: KeyPair::generate(), kem: KemPair::generate() }
    }

    /// What is said of them.
    pub fn greeting(&self) -> Greeting {
        Greeting { version: VERSION, key: self.key(), kem: Box::new(*self.kem.public()) }
    }

    /// The public half of the pair that an old app sees, too.
    pub fn key(&self) -> PublicKey {
        self.pair.public()
    }

    /// The pair alone, for a call with an old app.
    pub(crate) fn into_pair(self) -> KeyPair {
        self.pair
    }

    /// The caller's side, once its greeting is answered.
    pub fn agree(self, answer: &GreetingAnswer, names: Names<'_>) -> Agreement {
        let Self { pair, kem } = self;
        let greeting = Greeting { version: VERSION, key: pair.public(), kem: Box::new(*kem.public()) };
        let transcript = transcript(&greeting, answer, names);
        let shared = kem.decapsulate(&answer.ciphertext);
        Agreement::new(Side::Caller, pair, answer.key, transcript, &shared[..])
    }
}

/// Answers a greeting with fresh keys: what to say, and the called side's part. `None` for a key that is no key of
/// X-Wing.
pub fn answer(greeting: &Greeting, names: Names<'_>) -> Option<(GreetingAnswer, Agreement)> {
    let (ciphertext, shared) = primitives::encapsulate(&greeting.kem)?;
    let pair = KeyPair::generate();
    let answer = GreetingAnswer { version: VERSION, key: pair.public(), ciphertext, answers: greeting.key };
    let transcript = transcript(greeting, &answer, names);
    Some((answer, Agreement::new(Side::Called, pair, greeting.key, transcript, &shared[..])))
}

/// The transcript T (protocol 2.2): a hash of all that was said in the open.
fn transcript(greeting: &Greeting, answer: &GreetingAnswer, names: Names<'_>) -> [u8; SECRET_BYTES] {
    let versions = [greeting.version, answer.version].map(|version| version.to_string());
    primitives::hash(&[
        b"lowkey 2",
        versions[0].as_bytes(),
        versions[1].as_bytes(),
        names.caller.as_bytes(),
        names.called.as_bytes(),
        greeting.key.as_bytes(),
        &greeting.kem[..],
        answer.key.as_bytes(),
        &answer.ciphertext[..],
    ])
}

/// What both sides of a call have in common once it was greeted and answered, before either has proven who it is.
#[cfg_attr(test, derive(Clone))]
pub struct Agreement {
    side: Side,
    transcript: [u8; SECRET_BYTES],
    secret: Secret,
    /// Our pair for this call.
    own: KeyPair,
    /// The other side's key for this call.
    other: PublicKey,
    /// What all signals behind the first hello are sealed with.
    signals: Boxes,
}

impl Agreement {
    fn new(side: Side, own: KeyPair, other: PublicKey, transcript: [u8; SECRET_BYTES], shared: &[u8]) -> Self {
        let secret = Secret::extract(&transcript, &[&own.agree(other)[..], shared]);
        let key = |side: Side| BoxKey::new(&secret.expand(&[b"signals ", side.name()]));
        let other_side = if planted::has(Fault::OneKeyBothWays) { side } else { side.other() };
        let signals = Boxes::new(key(side), key(other_side));
        Self { side, transcript, secret, own, other, signals }
    }

    /// The other side's key for this call.
    pub(crate) fn other_key(&self) -> PublicKey {
        self.other
    }

    /// Our own key for this call.
    pub(crate) fn own_key(&self) -> PublicKey {
        self.own.public()
    }

    /// The transcript T, for `engine::search`.
    #[cfg(test)]
    pub(super) fn transcript(&self) -> [u8; SECRET_BYTES] {
        self.transcript
    }

    /// What all signals behind the first hello are sealed with.
    pub fn signals(&mut self) -> &mut Boxes {
        &mut self.signals
    }

    /// Seals the caller's hello: for the holder of the identity `known`, or for whoever was called.
    pub fn seal_first(&self, hello: &[u8], known: Option<PublicKey>) -> String {
        self.first_key(known.map(|known| self.own.agree(known))).seal(hello)
    }

    /// Opens the caller's hello: what is in it, and whether it was sealed for the holder of our `identity`.
    pub fn open_first(&self, sealed: &str, identity: &KeyPair) -> Option<(Vec<u8>, bool)> {
        let bytes = data_encoding::BASE64.decode(sealed.as_bytes()).ok()?;
        let sealed = primitives::unpack(&bytes)?;
        let open = |is_known: bool| {
            let shared = is_known.then(|| identity.agree(self.other));
            Some((self.first_key(shared).open(sealed)?, is_known))
        };
        open(true).or_else(|| open(false))
    }

    /// The key of the caller's hello. `shared`: between the caller's key of this call and the called identity.
    fn first_key(&self, shared: Option<Zeroizing<[u8; KEY_BYTES]>>) -> BoxKey {
        let key = match shared {
            Some(shared) => {
                let secret = Secret::extract(self.secret.as_bytes(), &[&shared[..]]);
                secret.expand::<32>(&[b"hello known"])
            }
            None => self.secret.expand(&[b"hello caller"]),
        };
        BoxKey::new(&key)
    }

    /// Proves that we hold `identity`. The called side's proof is over the caller's hello, too: the bytes that were
    /// sealed in it.
    pub fn prove(&self, identity: &KeyPair, first: &[u8]) -> [u8; PROOF_BYTES] {
        self.proof(self.side, identity.public(), &identity.agree(self.other)[..], first)
    }

    /// Whether the other side has proven that it holds `identity`.
    pub fn is_proven(&self, proof: &[u8], identity: PublicKey, first: &[u8]) -> bool {
        self.proof(self.side.other(), identity, &self.own.agree(identity)[..], first).ct_eq(proof).into()
    }

    /// The proof of one side. `shared`: between its identity and the key of the other side for this call, so that
    /// either of the two can have made it, and nobody else.
    fn proof(&self, side: Side, identity: PublicKey, shared: &[u8], first: &[u8]) -> [u8; PROOF_BYTES] {
        let transcript: &[u8] = if planted::has(Fault::ProofWithoutTranscript) { &[] } else { &self.transcript };
        let mut items: Vec<&[u8]> = vec![b"lowkey hello 2", side.name(), transcript, identity.as_bytes()];
        if side == Side::Called {
            items.push(first);
        }
        let digest = primitives::hash(&items);
        *Secret::extract(transcript, &[shared]).expand(&[b"proof", &digest])
    }

    /// What texts and files are sealed with once both hellos are known, as the bytes that were sealed in them, and what
    /// signals are sealed with from then on. All that they were derived of is wiped.
    pub fn conclude(self, first: &[u8], second: &[u8]) -> (Boxes, FileKeys, Boxes) {
        let hellos = primitives::hash(&[&self.transcript, first, second]);
        let key = |of: &[u8], side: Side| BoxKey::new(&self.secret.expand(&[of, side.name(), &hellos]));
        let keys = |of| (key(of, self.side), key(of, self.side.other()));
        let ((send, receive), (own, other)) = (keys(b"texts "), keys(b"files "));
        (Boxes::new(send, receive), FileKeys::new(own, other), self.signals)
    }
}

impl fmt::Debug for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = (self.side, self.transcript, &self.own, self.other, &self.signals);
        hidden::write(f, "Agreement", || format!("{all:?}"))
    }
}

/// How long a proof is, in bytes.
pub const PROOF_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64, HEXLOWER};
    use serde::Deserialize;

    use super::super::frame::{Body, ChatPosition, Frame};
    use super::super::hello::{self, Hello, Inside, Said};
    use super::*;
    use crate::protocol::{KeyExchange, MessageType};

    /// What `integration/vectors/handshake.py` has written, and `files.py`.
    #[derive(Deserialize)]
    struct Vectors {
        identities: [String; 2],
        keys: [String; 2],
        kem_seed: String,
        greeting: KeyExchange,
        answer: KeyExchange,
        shared: String,
        transcript: String,
        secret: String,
        hello_caller: String,
        hello_known: String,
        signals: [String; 2],
        hellos: [String; 2],
        proofs: [String; 2],
        texts: [String; 2],
        sealed_first: String,
        sealed_first_known: String,
        sealed_second: String,
        text_of_caller: String,
        text_of_called: String,
    }

    pub(super) const NAMES: Names<'static> = Names { caller: "alice", called: "bob" };

    fn bytes<const LENGTH: usize>(hex: &str) -> [u8; LENGTH] {
        HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
    }

    fn pair(hex: &str) -> KeyPair {
        KeyPair::from_base64(&BASE64.encode(&bytes::<32>(hex))).unwrap()
    }

    #[test]
    fn every_step_is_that_of_another_implementation() {
        let vectors: Vectors = serde_json::from_str(include_str!("../../integration/vectors/handshake.json")).unwrap();
        let own = OwnKeys { pair: pair(&vectors.keys[0]), kem: KemPair::from_seed(&bytes(&vectors.kem_seed)) };
        assert_eq!(hello::write_greeting(&own.greeting()), vectors.greeting);
        let Said::Greeting(greeting) = Said::read(&vectors.greeting) else { panic!() };
        let Said::Answer(answer) = Said::read(&vectors.answer) else { panic!() };
        assert_eq!(hello::write_answer(&answer), vectors.answer);
        let (key, shared) = (pair(&vectors.keys[1]), bytes::<32>(&vectors.shared));
        let transcript = transcript(&greeting, &answer, NAMES);
        assert_eq!(transcript, bytes(&vectors.transcript));
        let mut caller = own.agree(&answer, NAMES);
        let called = Agreement::new(Side::Called, key, greeting.key, transcript, &shared);
        for agreement in [&caller, &called] {
            assert_eq!(agreement.secret.as_bytes(), bytes::<64>(&vectors.secret));
            let derived: [Zeroizing<[u8; 32]>; 2] =
                [b"caller", b"called"].map(|side| agreement.secret.expand(&[b"signals ", side]));
            assert_eq!(derived.map(|key| HEXLOWER.encode(&key[..])), vectors.signals);
        }
        assert_eq!(HEXLOWER.encode(&caller.secret.expand::<32>(&[b"hello caller"])[..]), vectors.hello_caller);
        let [alice, bob] = vectors.identities.each_ref().map(|identity| pair(identity));
        let known = Secret::extract(caller.secret.as_bytes(), &[&caller.own.agree(bob.public())[..]]);
        assert_eq!(HEXLOWER.encode(&known.expand::<32>(&[b"hello known"])[..]), vectors.hello_known);

        let hellos = vectors.hellos.each_ref().map(String::as_bytes);
        for (sealed, knows_us) in [(&vectors.sealed_first, false), (&vectors.sealed_first_known, true)] {
            assert_eq!(called.open_first(sealed, &bob), Some((hellos[0].to_vec(), knows_us)));
            assert_eq!(called.open_first(sealed, &alice).is_some(), !knows_us, "only he can read what is for him");
        }
        assert_eq!(caller.signals().open(&vectors.sealed_second), Ok(hellos[1].to_vec()));
        let proofs = [caller.prove(&alice, &[]), called.prove(&bob, hellos[0])];
        assert_eq!(proofs.map(|proof| BASE64.encode(&proof)), vectors.proofs);
        let read = hellos.map(|bytes| match Inside::read(MessageType::SignalIce, bytes) {
            Some(Inside::Hello(hello)) => hello,
            other => panic!("{other:?}"),
        });
        assert!(called.is_proven(&read[0].proof, alice.public(), &[]));
        assert!(caller.is_proven(&read[1].proof, bob.public(), hellos[0]));

        let files: serde_json::Value =
            serde_json::from_str(include_str!("../../integration/vectors/files.json")).unwrap();
        let hash = primitives::hash(&[&transcript, hellos[0], hellos[1]]);
        for (label, keys) in [(&b"texts "[..], &serde_json::json!(vectors.texts)), (b"files ", &files["keys"])] {
            let key = |side: &[u8]| HEXLOWER.encode(&caller.secret.expand::<32>(&[label, side, &hash])[..]);
            assert_eq!(&serde_json::json!([key(b"caller"), key(b"called")]), keys);
        }
        let (mut of_caller, ..) = caller.conclude(hellos[0], hellos[1]);
        let (mut of_called, ..) = called.conclude(hellos[0], hellos[1]);
        for (boxes, text) in [(&mut of_called, &vectors.text_of_caller), (&mut of_caller, &vectors.text_of_called)] {
            let frame = boxes.open(text).unwrap();
            assert_eq!(frame.len(), 256);
            assert_eq!(Frame::read(frame).map(|frame| frame.body), Some(Body::Text(1, "grüße".to_owned())));
            assert!(boxes.open(text).is_err(), "once only");
        }
    }

    pub(super) fn agreed() -> (Agreement, Agreement) {
        let own = OwnKeys::generate();
        let (answer, called) = answer(&own.greeting(), NAMES).unwrap();
        (own.agree(&answer, NAMES), called)
    }

    #[test]
    fn a_proof_holds_for_what_it_was_made_for_and_for_nothing_else() {
        let [alice, bob, mallory] = [(); 3].map(|()| KeyPair::generate());
        let (caller, called) = agreed();
        let first = caller.prove(&alice, &[]);
        assert!(called.is_proven(&first, alice.public(), &[]));
        assert!(!called.is_proven(&first, mallory.public(), &[]));
        assert!(!called.is_proven(&first[1..], alice.public(), &[]), "half a proof");
        assert!(!called.is_proven(&first.map(|byte| byte ^ 1), alice.public(), &[]));
        assert!(!caller.is_proven(&first, alice.public(), &[]), "it is no proof of the other side");
        let second = called.prove(&bob, b"hello");
        assert!(caller.is_proven(&second, bob.public(), b"hello"));
        assert!(!caller.is_proven(&second, bob.public(), b"hallo"), "nor an answer to another hello");
        let (_, other) = agreed();
        assert!(!other.is_proven(&first, alice.public(), &[]), "nor of another call");
        // Whoever it is for can have made it, so it is nobody's word to others.
        let forged = called.proof(Side::Caller, alice.public(), &called.own.agree(alice.public())[..], &[]);
        assert_eq!(forged, first);
    }

    #[test]
    fn each_direction_and_use_has_its_own_key() {
        let (mut caller, mut called) = agreed();
        let to_called = caller.signals().seal(b"x").unwrap();
        assert!(caller.signals().open(&to_called).is_err(), "what was sent does not come back");
        assert_eq!(called.signals().open(&to_called), Ok(b"x".to_vec()));
        let to_caller = called.signals().seal(b"x").unwrap();
        let first = caller.seal_first(b"hello", None);
        assert!(
            called.signals().open(&first).is_err() && called.open_first(&to_called, &KeyPair::generate()).is_none()
        );
        let (mut of_caller, _, mut signals) = caller.conclude(b"first", b"second");
        let (mut of_called, ..) = called.conclude(b"first", b"second");
        assert!(of_caller.open(&to_caller).is_err());
        assert_eq!(signals.open(&to_caller), Ok(b"x".to_vec()), "the signals' keys stay");
        let text = of_caller.seal(b"text").unwrap();
        assert!(of_caller.open(&text).is_err());
        assert_eq!(of_called.open(&text), Ok(b"text".to_vec()));
    }

    #[test]
    fn both_agree_on_all_that_was_said_or_on_nothing() {
        let bob = KeyPair::generate();
        let own = || OwnKeys { pair: pair(&"11".repeat(32)), kem: KemPair::from_seed(&[7; 32]) };
        let (answer, called) = answer(&own().greeting(), NAMES).unwrap();
        let opens = |answer: &GreetingAnswer, names| {
            let caller = own().agree(answer, names);
            called.open_first(&caller.seal_first(b"x", None), &bob).is_some()
        };
        assert!(opens(&answer, NAMES));
        assert!(!opens(&answer, Names { called: "bop", ..NAMES }));
        assert!(!opens(&answer, Names { caller: "bob", called: "alice" }));
        assert!(!opens(&GreetingAnswer { version: 3, ..answer.clone() }, NAMES));
        assert!(!opens(&GreetingAnswer { key: KeyPair::generate().public(), ..answer.clone() }, NAMES));
        let mut ciphertext = answer.ciphertext.clone();
        ciphertext[1119] ^= 1;
        assert!(!opens(&GreetingAnswer { ciphertext, ..answer.clone() }, NAMES));
        // And on what both hellos say, to the last space.
        let (caller, called) = agreed();
        let (mut of_caller, ..) = caller.conclude(b"first", b"second ");
        let (mut of_called, ..) = called.conclude(b"first", b"second");
        assert!(of_called.open(&of_caller.seal(b"x").unwrap()).is_err());
    }

    #[test]
    fn a_hello_is_read_as_it_was_written_and_has_the_length_of_any_other_signal() {
        let (caller, _) = agreed();
        let identity = KeyPair::generate();
        let position = ChatPosition { received: u64::MAX, ..ChatPosition::nowhere() };
        for position in [None, Some(position)] {
            let proof = caller.prove(&identity, &[]);
            let hello = Hello { identity: identity.public(), proof, features: vec!["a-1".to_owned()], position };
            let bytes = hello.write();
            assert_eq!(bytes.len(), 384);
            assert_eq!(Inside::read(MessageType::SignalIce, &bytes), Some(Inside::Hello(hello)));
            assert_eq!(Inside::read(MessageType::SignalOffer, &bytes), None);
        }
        assert_eq!(hello::Refusal::Declined.write().len(), 384);
    }
}
