//! How the handshake of two of Lowkey's own programs is written down (protocol 2.1 and 2.3): the `lowkey` in a
//! `key:exchange`, and what is inside of sealed signals. Pure. Whatever is not written so is a manipulation, and no
//! newer version of ours: that one carries all of this too.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::agreement::{Greeting, GreetingAnswer, PROOF_BYTES};
use super::frame::ChatPosition;
use super::keys::PublicKey;
use crate::protocol::{self, Candidate, Description, KeyExchange, MessageType};

/// What a `key:exchange` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It is from an old app, which has nothing but a key.
    OldApp(PublicKey),
    /// The greeting of a caller that is no old app (C1).
    Greeting(Greeting),
    /// The answer of a called side that is no old app (S1).
    Answer(GreetingAnswer),
    /// No program writes this: somebody on the way has changed it.
    Manipulated,
}

/// The `lowkey` of a `key:exchange`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Lowkey {
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<String>,
}

impl Said {
    /// Reads a `key:exchange`.
    pub fn read(exchange: &KeyExchange) -> Self {
        Self::try_read(exchange).unwrap_or(Self::Manipulated)
    }

    fn try_read(exchange: &KeyExchange) -> Option<Self> {
        let key = PublicKey::from_base64(&exchange.public_key).ok()?;
        let Some(lowkey) = &exchange.lowkey else { return Some(Self::OldApp(key)) };
        // An object, for serde would take an array too.
        let lowkey: Lowkey = lowkey.is_object().then(|| Lowkey::deserialize(lowkey).ok())??;
        let version = Some(lowkey.version).filter(|version| *version >= 2)?;
        match lowkey {
            Lowkey { kem: Some(kem), ciphertext: None, answers: None, .. } => {
                let kem = Box::new(bytes(&kem)?);
                Some(Self::Greeting(Greeting { version, key, kem }))
            }
            Lowkey { kem: None, ciphertext: Some(ciphertext), answers: Some(answers), .. } => {
                let (ciphertext, answers) = (Box::new(bytes(&ciphertext)?), PublicKey::from_base64(&answers).ok()?);
                Some(Self::Answer(GreetingAnswer { version, key, ciphertext, answers }))
            }
            _ => None,
        }
    }
}

/// The `key:exchange` of a caller.
pub fn write_greeting(greeting: &Greeting) -> KeyExchange {
    let kem = Some(BASE64.encode(&greeting.kem[..]));
    exchange(greeting.key, Lowkey { version: greeting.version, kem, ..Lowkey::default() })
}

/// The `key:exchange` of a called side.
pub fn write_answer(answer: &GreetingAnswer) -> KeyExchange {
    let ciphertext = Some(BASE64.encode(&answer.ciphertext[..]));
    let answers = Some(answer.answers.to_base64());
    exchange(answer.key, Lowkey { version: answer.version, ciphertext, answers, kem: None })
}

fn exchange(key: PublicKey, lowkey: Lowkey) -> KeyExchange {
    let lowkey: Value = serde_json::to_value(lowkey).expect("strings are JSON");
    KeyExchange { public_key: key.to_base64(), lowkey: Some(lowkey) }
}

/// What is inside of a sealed signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inside {
    /// Who somebody is (C2 and S2).
    Hello(Hello),
    /// The call is over.
    Refused(Refusal),
    /// One candidate more.
    Candidate(Candidate),
    /// A description, as text: an offer where that is due, or an answer.
    Description(String),
}

/// Who somebody is, and its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The long-term key.
    pub identity: PublicKey,
    /// The proof that it is the sender's.
    pub proof: [u8; PROOF_BYTES],
    /// What it can do beyond what is always in force.
    pub features: Vec<String>,
    /// Where it is in the chat with the other side; `None` for one that carries nothing on.
    pub position: Option<ChatPosition>,
}

/// Why somebody ends a call before it is a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// Its user says no, or has left.
    Declined,
    /// The other side's proof is wrong.
    Proof,
    /// The other side has shown another identity than the one that this side knows.
    Identity,
    /// The other side's description could not be answered.
    Description,
    /// Its machine lacks what a peer connection needs, whatever the other side's description is.
    Room,
}

#[derive(Serialize, Deserialize)]
struct HelloFields {
    identity: String,
    proof: String,
    features: Vec<String>,
    resume: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    hello: Option<HelloFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Refusal>,
}

impl Inside {
    /// Reads what was inside of a sealed signal of this type. `None` for what does not belong there.
    pub fn read(kind: MessageType, bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_INSIDE_BYTES)?;
        match kind {
            MessageType::SignalIce => match protocol::from_object(text).ok()? {
                Fields { hello: Some(hello), refused: None } => Some(Self::Hello(Hello::read(hello)?)),
                Fields { hello: None, refused: Some(refusal) } => Some(Self::Refused(refusal)),
                Fields { hello: None, refused: None } => Some(Self::Candidate(protocol::from_object(text).ok()?)),
                Fields { .. } => None,
            },
            _ => {
                let Description { sdp, kind: named } = protocol::from_object(text).ok()?;
                let due = if kind == MessageType::SignalOffer { OFFER } else { ANSWER };
                (named == due).then_some(Self::Description(sdp))
            }
        }
    }
}

impl Hello {
    fn read(fields: HelloFields) -> Option<Self> {
        let HelloFields { identity, proof, features, resume } = fields;
        let is_feature = |name: &String| {
            (1..=MAX_FEATURES).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        if features.len() > MAX_FEATURES || !features.iter().all(is_feature) {
            return None;
        }
        let position = match resume {
            Some(position) => Some(ChatPosition::read(&BASE64.decode(position.as_bytes()).ok()?)?),
            None => None,
        };
        Some(Self { identity: PublicKey::from_base64(&identity).ok()?, proof: bytes(&proof)?, features, position })
    }

    /// The bytes that are sealed.
    pub fn write(&self) -> Vec<u8> {
        let hello = HelloFields {
            identity: self.identity.to_base64(),
            proof: BASE64.encode(&self.proof),
            features: self.features.clone(),
            resume: self.position.map(|position| BASE64.encode(&position.to_bytes())),
        };
        padded(&Fields { hello: Some(hello), refused: None })
    }
}

impl Refusal {
    /// The bytes that are sealed.
    pub fn write(self) -> Vec<u8> {
        padded(&Fields { hello: None, refused: Some(self) })
    }
}

/// The JSON of what is sealed, filled up with spaces, so that its length tells little.
pub fn padded(inside: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(inside).expect("payloads serialize");
    bytes.resize(bytes.len().next_multiple_of(PADDED_TO), b' ');
    bytes
}

/// Strict base64 of exactly so many bytes.
fn bytes<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    BASE64.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// The `type` of descriptions.
pub(crate) const OFFER: &str = "offer";
/// See [`OFFER`].
pub(crate) const ANSWER: &str = "answer";

/// What is sealed has a multiple of so many bytes: as many as a hello, a candidate and a refusal take at most.
const PADDED_TO: usize = 384;

/// The most bytes inside of a sealed signal. The Go server takes messages of 32 KiB, and there is a box and base64
/// around this.
const MAX_INSIDE_BYTES: usize = 16 * 1024;

/// How many features somebody may have, and how many bytes each.
const MAX_FEATURES: usize = 32;
