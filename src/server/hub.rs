//! The hub: who is online, who holds which name, and who is told what. It knows no socket and no clock; the loop
//! hands it texts with the time, and carries out the [`Output`]s that come back.
//!
//! Users are keyed by connection and names point to connections, so the end of a connection that was replaced never
//! takes its successor offline.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use uuid::Uuid;

use super::sessions::Sessions;
use crate::protocol::{self, Created, Envelope, ErrorCode, ErrorPayload, Joined, MessageType, Text};

/// One connection. Never used again for another, so whatever still speaks of a gone one finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub usize);

/// What the loop is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this text message.
    Send {
        /// To this connection.
        to: ConnId,
        /// One envelope as JSON.
        text: String,
    },
    /// Begin the close handshake.
    Close {
        /// Of this connection, which the hub has forgotten already.
        conn: ConnId,
        /// The close code (RFC 6455, section 7.4).
        code: u16,
        /// The reason for people.
        reason: &'static str,
    },
}

/// Everybody who is online, with the sessions between them.
#[derive(Debug)]
pub struct Hub {
    users: HashMap<ConnId, Box<str>>,
    names: HashMap<Box<str>, ConnId>,
    sessions: Sessions,
    new_session_id: fn() -> Uuid,
}

impl Hub {
    /// Nobody online. Sessions live `session_ttl` and get their ids from `new_session_id`, which has to give a fresh
    /// random UUID each time.
    pub fn new(session_ttl: Duration, new_session_id: fn() -> Uuid) -> Self {
        Self { users: HashMap::new(), names: HashMap::new(), sessions: Sessions::new(session_ttl), new_session_id }
    }

    /// Takes `username` online at `conn`. Whoever held the name is replaced (protocol 2.6).
    pub fn connect(&mut self, conn: ConnId, username: &str) -> Vec<Output> {
        self.users.insert(conn, username.into());
        match self.names.insert(username.into(), conn) {
            Some(replaced) => {
                self.users.remove(&replaced);
                vec![Output::Close { conn: replaced, code: GOING_AWAY, reason: "replaced by new connection" }]
            }
            None => Vec::new(),
        }
    }

    /// Takes the user of `conn` offline. A connection that was replaced has none any more.
    pub fn disconnect(&mut self, conn: ConnId) {
        if let Some(username) = self.users.remove(&conn) {
            self.names.remove(&username);
        }
    }

    /// Serves one text message of `conn`. A connection without a user is not answered.
    pub fn receive(&mut self, conn: ConnId, text: &str, now: Instant) -> Vec<Output> {
        let Some(sender) = self.users.get(&conn) else { return Vec::new() };
        let Ok(envelope) = Envelope::parse(text) else { return self.receive_binary(conn) };
        let target = envelope.target.as_ref().map(|target| &*target.0).filter(|target| !target.is_empty());
        match MessageType::from_name(&envelope.kind) {
            Some(MessageType::SessionConnect) => {
                let sender = sender.clone();
                self.session_connect(conn, &sender, target, now)
            }
            Some(MessageType::SessionCreate) => {
                let id = (self.new_session_id)();
                self.sessions.create(id, sender, now);
                vec![send(conn, MessageType::SessionCreated, &Created { session_id: id.to_string() })]
            }
            Some(MessageType::SessionJoin) => {
                let sender = sender.clone();
                let id = envelope.session_id.as_ref().map(|id| &*id.0).filter(|id| !id.is_empty());
                self.session_join(conn, &sender, id, now)
            }
            Some(kind) if kind.is_relayed() => self.relay(conn, sender, target, &envelope),
            _ => vec![error(conn, ErrorCode::UnknownType, "unknown message type", None)],
        }
    }

    /// Answers a binary message of `conn`, which is none of the protocol's.
    pub fn receive_binary(&mut self, conn: ConnId) -> Vec<Output> {
        vec![error(conn, ErrorCode::InvalidMessage, "a message is a JSON object with a string `type`", None)]
    }

    /// Ends what is over at `now`.
    pub fn tick(&mut self, now: Instant) {
        self.sessions.tick(now);
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sessions.next_deadline()
    }

    /// How many users are online.
    pub fn online(&self) -> usize {
        self.users.len()
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    fn session_connect(&mut self, conn: ConnId, sender: &str, target: Option<&str>, now: Instant) -> Vec<Output> {
        let Some(target) = target else {
            return vec![error(conn, ErrorCode::MissingTarget, "session:connect needs a target", None)];
        };
        if target == sender {
            return vec![error(conn, ErrorCode::InvalidTarget, "you cannot connect to yourself", Some(target))];
        }
        let Some(&other) = self.names.get(target) else {
            return vec![error(conn, ErrorCode::UserOffline, "the user is not online", Some(target))];
        };
        let id = (self.new_session_id)();
        self.sessions.connect(id, sender, target, now);
        vec![joined(conn, id, target), joined(other, id, sender)]
    }

    fn session_join(&mut self, conn: ConnId, sender: &str, id: Option<&str>, now: Instant) -> Vec<Output> {
        let Some(id) = id else {
            return vec![error(conn, ErrorCode::MissingSessionId, "session:join needs a sessionId", None)];
        };
        let Ok(id) = Uuid::parse_str(id) else {
            return vec![error(conn, ErrorCode::InvalidSessionId, "the sessionId is no UUID", None)];
        };
        match self.sessions.join(id, sender, now) {
            Ok(creator) => {
                let mut outputs = vec![joined(conn, id, &creator)];
                // A creator who is offline for the moment learns of it by nobody, as ever.
                outputs.extend(self.names.get(&*creator).map(|&other| joined(other, id, sender)));
                outputs
            }
            Err(cause) => vec![error(conn, ErrorCode::SessionJoinFailed, &cause.to_string(), None)],
        }
    }

    fn relay(&self, conn: ConnId, sender: &str, target: Option<&str>, envelope: &Envelope<'_>) -> Vec<Output> {
        let Some(target) = target else {
            return vec![error(conn, ErrorCode::MissingTarget, "this message needs a target", None)];
        };
        let Some(&to) = self.names.get(target) else {
            return vec![error(conn, ErrorCode::RelayFailed, "the user is not online", Some(target))];
        };
        let stamped = Envelope { sender: Some(Text::from(sender)), ..envelope.clone() };
        vec![Output::Send { to, text: serde_json::to_string(&stamped).expect("envelopes serialize") }]
    }
}

fn send(to: ConnId, kind: MessageType, payload: &impl Serialize) -> Output {
    Output::Send { to, text: protocol::message(kind, None, Some(payload)) }
}

fn joined(to: ConnId, id: Uuid, peer: &str) -> Output {
    send(to, MessageType::SessionJoined, &Joined { session_id: id.to_string(), peer: peer.to_owned() })
}

fn error(to: ConnId, code: ErrorCode, message: &str, target: Option<&str>) -> Output {
    let payload =
        ErrorPayload { code: code.name().to_owned(), message: message.to_owned(), target: target.map(str::to_owned) };
    send(to, MessageType::Error, &payload)
}

/// The close code of an endpoint that goes away (RFC 6455, section 7.4.1).
pub const GOING_AWAY: u16 = 1001;

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(600);
    const ID: &str = "00000000-0000-0000-0000-00000000002a";
    const ALICE: ConnId = ConnId(1);
    const BOB: ConnId = ConnId(2);
    const CAROL: ConnId = ConnId(3);

    fn hub() -> Hub {
        let mut hub = Hub::new(TTL, || Uuid::from_u128(42));
        for (conn, name) in [(ALICE, "alice"), (BOB, "bob")] {
            assert_eq!(hub.connect(conn, name), []);
        }
        hub
    }

    fn to(to: ConnId, text: &str) -> Output {
        Output::Send { to, text: text.to_owned() }
    }

    fn joined_text(peer: &str) -> String {
        format!(r#"{{"type":"session:joined","payload":{{"sessionId":"{ID}","peer":"{peer}"}}}}"#)
    }

    #[test]
    fn a_connect_opens_a_session_and_tells_both() {
        let outputs = hub().receive(ALICE, r#"{"type":"session:connect","target":"bob"}"#, Instant::now());
        assert_eq!(outputs, [to(ALICE, &joined_text("bob")), to(BOB, &joined_text("alice"))]);
    }

    #[test]
    fn a_created_session_is_joined_once() {
        let mut hub = hub();
        let now = Instant::now();
        let created = format!(r#"{{"type":"session:created","payload":{{"sessionId":"{ID}"}}}}"#);
        assert_eq!(hub.receive(ALICE, r#"{"type":"session:create"}"#, now), [to(ALICE, &created)]);
        let join = format!(r#"{{"type":"session:join","sessionId":"{ID}"}}"#);
        assert_eq!(hub.receive(BOB, &join, now), [to(BOB, &joined_text("alice")), to(ALICE, &joined_text("bob"))]);
        let full = r#"{"type":"error","payload":{"code":"SESSION_JOIN_FAILED","message":"session is full"}}"#;
        hub.connect(CAROL, "carol");
        assert_eq!(hub.receive(CAROL, &join, now), [to(CAROL, full)]);
    }

    #[test]
    fn a_relay_stamps_the_sender_and_keeps_the_payload_byte_for_byte() {
        let relayed = |kind: &str| {
            let sent = format!(r#"{{"payload":{{"a" : [1.0e0]}},"sender":"mallory","target":"bob","type":"{kind}"}}"#);
            let stamped = format!(r#"{{"type":"{kind}","target":"bob","sender":"alice","payload":{{"a" : [1.0e0]}}}}"#);
            assert_eq!(hub().receive(ALICE, &sent, Instant::now()), [to(BOB, &stamped)]);
        };
        for kind in ["key:exchange", "signal:offer", "signal:answer", "signal:ice", "session:accept", "session:decline"]
        {
            relayed(kind);
        }
    }

    #[test]
    fn each_mistake_has_its_code() {
        let cases = [
            ("[]", "INVALID_MESSAGE", None),
            ("{}", "INVALID_MESSAGE", None),
            (r#"{"type":7}"#, "INVALID_MESSAGE", None),
            (r#"{"type":"session:joined"}"#, "UNKNOWN_TYPE", None),
            (r#"{"type":""}"#, "UNKNOWN_TYPE", None),
            (r#"{"type":"session:connect"}"#, "MISSING_TARGET", None),
            (r#"{"type":"signal:ice","target":""}"#, "MISSING_TARGET", None),
            (r#"{"type":"session:connect","target":"alice"}"#, "INVALID_TARGET", Some("alice")),
            (r#"{"type":"session:connect","target":"dave"}"#, "USER_OFFLINE", Some("dave")),
            (r#"{"type":"signal:ice","target":"dave"}"#, "RELAY_FAILED", Some("dave")),
            (r#"{"type":"session:join"}"#, "MISSING_SESSION_ID", None),
            (r#"{"type":"session:join","sessionId":"x"}"#, "INVALID_SESSION_ID", None),
            (
                r#"{"type":"session:join","sessionId":"00000000-0000-0000-0000-000000000000"}"#,
                "SESSION_JOIN_FAILED",
                None,
            ),
        ];
        for (text, code, target) in cases {
            let outputs = hub().receive(ALICE, text, Instant::now());
            let [Output::Send { to: ALICE, text: answer }] = &outputs[..] else { panic!("{text}: {outputs:?}") };
            let envelope = Envelope::parse(answer).unwrap();
            let payload: ErrorPayload = serde_json::from_str(envelope.payload.unwrap().get()).unwrap();
            assert_eq!((&*envelope.kind, &*payload.code, payload.target.as_deref()), ("error", code, target), "{text}");
        }
    }

    #[test]
    fn a_replaced_connection_leaves_its_successor_online() {
        let mut hub = hub();
        let replaced = Output::Close { conn: BOB, code: 1001, reason: "replaced by new connection" };
        assert_eq!(hub.connect(CAROL, "bob"), [replaced]);
        hub.disconnect(BOB);
        assert_eq!(hub.online(), 2);
        let outputs = hub.receive(ALICE, r#"{"type":"session:connect","target":"bob"}"#, Instant::now());
        assert_eq!(outputs, [to(ALICE, &joined_text("bob")), to(CAROL, &joined_text("alice"))]);
        assert_eq!(hub.receive(BOB, r#"{"type":"session:create"}"#, Instant::now()), [], "a ghost is not served");
    }

    #[test]
    fn who_disconnects_is_offline() {
        let mut hub = hub();
        hub.disconnect(BOB);
        let outputs = hub.receive(ALICE, r#"{"type":"session:connect","target":"bob"}"#, Instant::now());
        let [Output::Send { to: ALICE, text }] = &outputs[..] else { panic!("{outputs:?}") };
        assert!(text.contains("USER_OFFLINE"), "{text}");
    }

    #[test]
    fn sessions_end_with_the_tick() {
        let mut hub = hub();
        let now = Instant::now();
        hub.receive(ALICE, r#"{"type":"session:create"}"#, now);
        assert_eq!((hub.sessions(), hub.next_deadline()), (1, Some(now + TTL)));
        hub.tick(now + TTL);
        assert_eq!((hub.sessions(), hub.next_deadline()), (0, None));
    }
}
