//! The words that server and peer share: the envelope, message types, payloads and error codes of the Lowkey
//! protocol. Types and serde only: nothing in here reads a socket, a clock or a file.
//!
//! Below stands the protocol itself, `src/protocol/README.md`, which comments cite by number.
//!
#![doc = include_str!("protocol/README.md")]

pub mod ice;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::scheme::strip_scheme;

/// The path on which the server takes WebSocket upgrades.
pub(crate) const WEBSOCKET_PATH: &str = "/ws";

/// What the server says to a connection whose name has gone to a newer one, as it closes it (protocol 2.6).
pub(crate) const REPLACED: &str = "replaced by new connection";

/// By this header of the upgrade response a client learns that another one under its name had to go (protocol 2.6).
pub(crate) const HAS_REPLACED: &str = "Lowkey-Replaced";

/// Whether a user can have this name: 1 to 64 bytes of UTF-8 without control characters, which do not begin as a link
/// does.
#[cfg(feature = "peer")]
pub(crate) fn is_username(name: &str) -> bool {
    (1..=MAX_USERNAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control) && !is_link(name)
}

/// Whether a text begins as a link to a user does. That says at which server they are, so it must not be taken for a
/// name, nor a name for it.
pub(crate) fn is_link(text: &str) -> bool {
    strip_scheme(text, LINK_SCHEME).is_some()
}

/// How a link to a user begins.
pub(crate) const LINK_SCHEME: &str = "lowkey://";

/// The longest username, in bytes.
pub(crate) const MAX_USERNAME_BYTES: usize = 64;

/// What a message asks for or tells: the envelope's `type` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// Client to server: open a session with `target`.
    SessionConnect,
    /// Server to client: a session of two is complete; the payload is a [`Joined`].
    SessionJoined,
    /// Client to server: open a session that waits for somebody to join.
    SessionCreate,
    /// Server to client: the answer to `session:create`; the payload is a [`Created`].
    SessionCreated,
    /// Client to server: take the second place of the session `sessionId`.
    SessionJoin,
    /// Client to client: the sender's session key; the payload is a [`KeyExchange`].
    KeyExchange,
    /// Client to client: an SDP offer; the payload is a [`Description`].
    SignalOffer,
    /// Client to client: an SDP answer; the payload is a [`Description`].
    SignalAnswer,
    /// Client to client: one ICE candidate; the payload is a [`Candidate`].
    SignalIce,
    /// Client to client: the called user agrees. Its `key:exchange` says the same, so nobody needs this one.
    SessionAccept,
    /// Client to client: the called user does not want to talk.
    SessionDecline,
    /// Server to client: a message could not be served; the payload is an [`ErrorPayload`].
    Error,
}

impl MessageType {
    /// All of them.
    pub(crate) const ALL: [MessageType; 12] = [
        Self::SessionConnect,
        Self::SessionJoined,
        Self::SessionCreate,
        Self::SessionCreated,
        Self::SessionJoin,
        Self::KeyExchange,
        Self::SignalOffer,
        Self::SignalAnswer,
        Self::SignalIce,
        Self::SessionAccept,
        Self::SessionDecline,
        Self::Error,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionConnect => "session:connect",
            Self::SessionJoined => "session:joined",
            Self::SessionCreate => "session:create",
            Self::SessionCreated => "session:created",
            Self::SessionJoin => "session:join",
            Self::KeyExchange => "key:exchange",
            Self::SignalOffer => "signal:offer",
            Self::SignalAnswer => "signal:answer",
            Self::SignalIce => "signal:ice",
            Self::SessionAccept => "session:accept",
            Self::SessionDecline => "session:decline",
            Self::Error => "error",
        }
    }

    /// The type with this name on the wire, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the server passes this type on to its `target` without looking into the payload.
    #[cfg(feature = "server")]
    pub(crate) const fn is_forwarded(self) -> bool {
        matches!(
            self,
            Self::KeyExchange
                | Self::SignalOffer
                | Self::SignalAnswer
                | Self::SignalIce
                | Self::SessionAccept
                | Self::SessionDecline
        )
    }
}

/// One WebSocket text message, in either direction (protocol 1.2).
///
/// The payload stays the text that it came as: whoever forwards it passes on the very same bytes.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Envelope<'a> {
    /// The message type's name; see [`MessageType`].
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// The session of a `session:join`.
    #[serde(rename = "sessionId", borrow, default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<EnvelopeText<'a>>,
    /// The username to reach.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub target: Option<EnvelopeText<'a>>,
    /// The username that the server vouches for. What a client writes here is replaced.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<EnvelopeText<'a>>,
    /// Any JSON value, byte for byte as it came.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub payload: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Reads one text message.
    ///
    /// # Errors
    /// Says why `text` is no JSON object with a string `type`.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        from_object(text)
    }
}

/// Reads a JSON object. serde would take an array for a struct's fields in their order, which is none of the
/// protocol's.
///
/// # Errors
/// Says why `text` is no such object.
pub(crate) fn from_object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, serde_json::Error> {
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(serde::de::Error::custom("not an object"));
    }
    serde_json::from_str(text)
}

/// A string of the envelope, borrowed from the message unless it was written with escapes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct EnvelopeText<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<'a> From<&'a str> for EnvelopeText<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

/// A payload of `null` is a payload: it is forwarded, not left out.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Writes the text of a message from its type, its target and its payload; `None` leaves a field out.
pub fn message(kind: MessageType, target: Option<&str>, payload: Option<&impl Serialize>) -> String {
    #[derive(Serialize)]
    struct Message<'a, P> {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<&'a P>,
    }
    serde_json::to_string(&Message { kind: kind.name(), target, payload }).expect("messages serialize")
}

/// The payload of a `session:joined`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Joined {
    /// The session's UUID.
    #[serde(rename = "sessionId")]
    pub session_id: String,
    /// The username of the other side.
    pub peer: String,
    /// STUN and TURN servers for this session, with credentials that expire (protocol 2.9).
    #[serde(rename = "iceServers", default, skip_serializing_if = "Vec::is_empty", deserialize_with = "ice::readable")]
    pub ice_servers: Vec<ice::IceServer>,
}

/// The payload of a `session:created`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Created {
    /// The session's UUID.
    #[serde(rename = "sessionId")]
    pub session_id: String,
}

/// The payload of a `key:exchange`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct KeyExchange {
    /// The session's X25519 public key: standard base64, with padding, of 32 bytes.
    #[serde(rename = "publicKey")]
    pub public_key: String,
    /// What a peer of ours says beside it (protocol 2.1), which others ignore. The original app says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowkey: Option<serde_json::Value>,
}

/// The payload of a signal whose content the server is not to see (protocol 2.2).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Sealed {
    /// The base64 of nonce and box, which holds the payload's JSON.
    pub sealed: String,
}

/// The payload of a `signal:offer` or `signal:answer`: an SDP session description.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Description {
    /// The description's text (RFC 8866).
    pub sdp: String,
    /// `offer` or `answer`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The payload of a `signal:ice`: one ICE candidate, as browsers write it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Candidate {
    /// The candidate attribute (RFC 8839, section 5.1); empty where there are no more.
    pub candidate: String,
    /// The media section that it belongs to, by name.
    #[serde(rename = "sdpMid", default)]
    pub sdp_mid: Option<String>,
    /// The media section that it belongs to, by place.
    #[serde(rename = "sdpMLineIndex", default)]
    pub sdp_mline_index: Option<u16>,
}

/// The payload of a `session:decline` that its sender's program says, and not its user (protocol 2.9).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct DeclinePayload {
    /// What it is that could not be dealt with: `description`.
    pub refused: String,
}

/// The payload of an `error`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct ErrorPayload {
    /// One of [`ErrorCode`]'s names.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The `target` of the message that failed, where it had one (protocol 2.9): it is what tells a client with several
    /// calls under way which one was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Why the server could not serve a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// No JSON object with a string `type`, or a binary message.
    InvalidMessage,
    /// A `type` that is none of a client's.
    UnknownType,
    /// A connect, or a message to be forwarded, without a target.
    MissingTarget,
    /// A connect to oneself.
    InvalidTarget,
    /// A connect to a name that is not online.
    UserOffline,
    /// A message to be forwarded to a name that is not online.
    RelayFailed,
    /// A join without a session.
    MissingSessionId,
    /// A join to something that is no UUID.
    InvalidSessionId,
    /// A join to a session that is gone, full, or one's own.
    SessionJoinFailed,
    /// Over one of the server's limits; the message was not delivered.
    RateLimited,
}

impl ErrorCode {
    /// All of them.
    #[cfg(any(feature = "server", feature = "chat"))]
    pub(crate) const ALL: [ErrorCode; 10] = [
        Self::InvalidMessage,
        Self::UnknownType,
        Self::MissingTarget,
        Self::InvalidTarget,
        Self::UserOffline,
        Self::RelayFailed,
        Self::MissingSessionId,
        Self::InvalidSessionId,
        Self::SessionJoinFailed,
        Self::RateLimited,
    ];

    /// The code on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidMessage => "INVALID_MESSAGE",
            Self::UnknownType => "UNKNOWN_TYPE",
            Self::MissingTarget => "MISSING_TARGET",
            Self::InvalidTarget => "INVALID_TARGET",
            Self::UserOffline => "USER_OFFLINE",
            Self::RelayFailed => "RELAY_FAILED",
            Self::MissingSessionId => "MISSING_SESSION_ID",
            Self::InvalidSessionId => "INVALID_SESSION_ID",
            Self::SessionJoinFailed => "SESSION_JOIN_FAILED",
            Self::RateLimited => "RATE_LIMITED",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_name() {
        for kind in MessageType::ALL {
            assert_eq!(MessageType::from_name(kind.name()), Some(kind));
        }
        assert_eq!(MessageType::from_name("session:CONNECT"), None);
    }

    #[test]
    fn a_payload_keeps_its_bytes_and_null_is_one() {
        for payload in [r#"{"b" : 1.0e0,"a":[ "\u00e9" ]}"#, "null", "0", r#""x""#] {
            let text = format!(r#"{{"type":"key:exchange","target":"bob","payload":{payload}}}"#);
            let envelope = Envelope::parse(&text).unwrap();
            assert_eq!(envelope.payload.unwrap().get(), payload);
            assert_eq!(serde_json::to_string(&envelope).unwrap(), text);
        }
        assert!(Envelope::parse(r#"{"type":"key:exchange"}"#).unwrap().payload.is_none());
    }

    #[test]
    fn what_is_no_object_with_a_string_type_is_refused() {
        assert!(Envelope::parse(r#" {"type":"a"}"#).is_ok());
        for text in [
            r#"["session:create",null,null,null,null]"#,
            "",
            "null",
            "[]",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":null}"#,
            r#"{"type":"a"} x"#,
            r#"{"type":"a","target":1}"#,
        ] {
            assert!(Envelope::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn escaped_strings_are_read_and_fields_that_nobody_knows_are_ignored() {
        let envelope =
            Envelope::parse(r#"{"type":"key\u003aexchange","target":"b\u00f6b","extra":{"deep":[1]}}"#).unwrap();
        assert_eq!(envelope.kind, "key:exchange");
        assert_eq!(envelope.target, Some(EnvelopeText::from("böb")));
    }

    #[test]
    fn a_message_leaves_absent_fields_out() {
        assert_eq!(message(MessageType::SessionCreate, None, None::<&()>), r#"{"type":"session:create"}"#);
        let payload = Created { session_id: "x".into() };
        assert_eq!(
            message(MessageType::SessionCreated, None, Some(&payload)),
            r#"{"type":"session:created","payload":{"sessionId":"x"}}"#
        );
    }
}
