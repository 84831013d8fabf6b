//! One text message of a client, read: what it asks for, and, where it is to be forwarded, what goes on from it. Nearly
//! every message is read the quick way ([`Plain`]); all others are serde's to judge. Pure.

use std::borrow::Cow;
use std::rc::Rc;

use crate::protocol::{Envelope, ErrorCode, MessageType};
use crate::server::plain::Plain;

/// What a client asks for.
pub(super) enum ClientMessage<'a> {
    /// A message is to go to another user.
    Forward {
        kind: MessageType,
        /// To whom; it may be empty.
        target: Cow<'a, str>,
        /// All that stands before the sender.
        head: Cow<'a, str>,
        /// All that stands behind.
        tail: Cow<'a, str>,
    },
    /// A session with this user, who is there already; `None` names nobody.
    Connect { target: Option<String> },
    /// A session that waits for its second user.
    Create,
    /// The second place of this session; `None` names none.
    Join { id: Option<String> },
    /// Nothing that there is, or nothing that a client sends.
    Unknown,
}

/// The text is no message.
pub(super) struct Malformed;

/// A message on its way from one user to another: as it came, but for what says from whom it is.
#[derive(Debug, PartialEq)]
pub struct Forwarded<'a> {
    /// What it is.
    pub kind: MessageType,
    /// All that stands before the sender.
    pub(super) head: Cow<'a, str>,
    /// From whom it really is.
    pub(super) sender: Rc<str>,
    /// All that stands behind.
    pub(super) tail: Cow<'a, str>,
}

impl Forwarded<'_> {
    /// Appends the message as JSON, its payload byte for byte as it came.
    pub fn write(&self, output: &mut Vec<u8>) {
        output.reserve(self.head.len() + SENDER.len() + self.sender.len() + 2 + self.tail.len());
        output.extend_from_slice(self.head.as_bytes());
        output.extend_from_slice(SENDER);
        serde_json::to_writer(&mut *output, &*self.sender).expect("texts serialize");
        output.extend_from_slice(self.tail.as_bytes());
    }
}

/// Why a message goes to nobody here.
pub(super) enum Unreached {
    Because(ErrorCode),
    /// Its target may be at another server. Nobody has paid for the answer yet if it is a stranger.
    Elsewhere {
        is_stranger: bool,
    },
}

impl<'a> ClientMessage<'a> {
    /// Reads a text message.
    ///
    /// # Errors
    /// [`Malformed`] where it is no JSON object with a type.
    #[inline]
    pub(super) fn read(text: &'a str) -> Result<Self, Malformed> {
        match Plain::read(text) {
            Some(Plain { kind, target, head, tail }) => {
                Ok(Self::Forward { kind, target: target.into(), head: head.into(), tail: tail.into() })
            }
            None => Self::read_any(text),
        }
    }

    fn read_any(text: &'a str) -> Result<Self, Malformed> {
        let envelope = Envelope::parse(text).map_err(|_| Malformed)?;
        let target = || envelope.target.as_ref().map_or("", |target| &target.0);
        let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(match MessageType::from_name(&envelope.kind) {
            Some(kind) if kind.is_forwarded() => {
                let (head, tail) = (head(kind, &envelope, target()).into(), tail(&envelope).into());
                Self::Forward { kind, target: target().to_owned().into(), head, tail }
            }
            Some(MessageType::SessionConnect) => Self::Connect { target: named(target()) },
            Some(MessageType::SessionCreate) => Self::Create,
            Some(MessageType::SessionJoin) => {
                Self::Join { id: envelope.session_id.as_ref().and_then(|id| named(&id.0)) }
            }
            _ => Self::Unknown,
        })
    }
}

/// What stands before the sender in a message to be forwarded.
fn head(kind: MessageType, envelope: &Envelope<'_>, target: &str) -> String {
    let session_id = envelope.session_id.as_ref().map(|id| format!(r#","sessionId":{}"#, json(&id.0)));
    format!(r#"{{"type":"{}"{},"target":{}"#, kind.name(), session_id.unwrap_or_default(), json(target))
}

/// What stands behind it.
fn tail(envelope: &Envelope<'_>) -> String {
    envelope.payload.map_or("}".to_owned(), |payload| format!(r#","payload":{payload}}}"#))
}

const SENDER: &[u8] = br#","sender":"#;

/// A text as JSON.
fn json(text: &str) -> String {
    serde_json::to_string(text).expect("texts serialize")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::Output;
    use super::super::tests::{ALICE, BOB, CAROL, hub};
    use super::*;
    use crate::protocol::EnvelopeText;

    #[test]
    fn a_forwarded_message_has_its_true_sender_and_keeps_its_payload_byte_for_byte() {
        let forwarded = |kind: &str| {
            let sent = format!(r#"{{"payload":{{"a" : [1.0e0]}},"sender":"mallory","target":"bob","type":"{kind}"}}"#);
            let stamped = format!(r#"{{"type":"{kind}","target":"bob","sender":"alice","payload":{{"a" : [1.0e0]}}}}"#);
            let outputs = hub().receive(ALICE, &sent, Instant::now());
            let [Output::Forward { from: ALICE, to: BOB, message }] = &outputs[..] else { panic!("{outputs:?}") };
            let mut text = Vec::new();
            message.write(&mut text);
            assert_eq!((String::from_utf8(text).unwrap(), message.kind.name()), (stamped, kind));
        };
        for kind in ["key:exchange", "signal:offer", "signal:answer", "signal:ice", "session:accept", "session:decline"]
        {
            forwarded(kind);
        }
    }

    #[test]
    fn a_forwarded_message_is_what_serde_would_write() {
        for name in ["bob", "böb", "b\"o\\b", "b\u{7f}ob "] {
            let mut hub = hub();
            hub.connect(CAROL, name, None, Instant::now()).unwrap();
            for rest in ["", r#","sessionId":"a\nb""#, r#","payload":null"#, r#","payload":"\u0000""#] {
                let target = serde_json::to_string(name).unwrap();
                let sent = format!(r#"{{"type":"signal:ice","target":{target}{rest}}}"#);
                let outputs = hub.receive(CAROL, &sent, Instant::now());
                let [Output::Forward { message, .. }] = &outputs[..] else { panic!("{outputs:?}") };
                let mut text = Vec::new();
                message.write(&mut text);
                let stamped = Envelope { sender: Some(EnvelopeText::from(name)), ..Envelope::parse(&sent).unwrap() };
                assert_eq!(String::from_utf8(text).unwrap(), serde_json::to_string(&stamped).unwrap());
            }
        }
    }
}
