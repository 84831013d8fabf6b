//! The hub: who is online, who holds which name, and who is told what. It knows no socket and no clock; the loop
//! hands it texts with the time, and carries out the [`Output`]s that come back.
//!
//! Users are keyed by connection and names point to connections, so the end of a connection that was replaced never
//! takes its successor offline. What a user may do in how much time is counted here too, since only the hub knows what
//! a message asks for; what a connection may hold is the connection's and the loop's.

mod calls;
mod counts;
mod elsewhere;
mod forwarding;
mod message;
mod names;
mod output;
mod remote;
mod user;

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::deadlines::Deadlines;
pub(crate) use super::ids::ByConn;
pub use super::ids::ConnId;
use super::limits::Limits;
use super::misses::Misses;
use super::sessions::{Bounds, Sessions};
use super::table::Table;
use super::turn_servers::TurnServers;
use crate::protocol::{ErrorCode, ErrorPayload, MessageType, REPLACED};
pub use counts::HubCounts;
pub use message::Forwarded;
use message::{ClientMessage, Malformed, Unreached};
use names::HeldNames;
pub use names::{Departure, NameTaken};
pub(crate) use output::{GOING_AWAY, POLICY};
pub use output::{Output, Outputs, Refused, RemoteMessage};
use output::{close, only, send};
#[cfg(all(test, feature = "cluster"))]
pub(super) use remote::CLAIM_TIME;
use remote::Remote;
use user::User;

/// Everybody who is online, with the sessions between them.
#[derive(Debug)]
pub struct Hub {
    users: ByConn<User>,
    names: HeldNames,
    /// Who was joined with whom a moment ago, each pair in both directions.
    meetings: Deadlines<(ConnId, Rc<str>)>,
    sessions: Sessions,
    misses: Misses,
    limits: Limits,
    new_session_id: fn() -> Uuid,
    /// What users of a session are told of STUN and TURN servers, and the Unix time in seconds, by which credentials
    /// expire.
    turn_servers: Option<(TurnServers, fn() -> u64)>,
    counts: HubCounts,
    /// The other servers, where there are any.
    remote: Option<Box<Remote>>,
}

impl Hub {
    /// Nobody online. Sessions live `session_ttl` and get their ids from `new_session_id`, which has to give a fresh
    /// random UUID each time.
    pub fn new(session_ttl: Duration, limits: Limits, new_session_id: fn() -> Uuid) -> Self {
        let bounds = Bounds { in_all: limits.sessions, per_name: limits.sessions_per_name };
        Self {
            users: Table::default(),
            names: HeldNames::new(limits.reservation, limits.reservations),
            meetings: Deadlines::new(MEETING),
            sessions: Sessions::new(session_ttl, bounds),
            misses: Misses::new(limits.misses),
            limits,
            new_session_id,
            turn_servers: None,
            counts: HubCounts::default(),
            remote: None,
        }
    }

    /// Tells users of these STUN and TURN servers when they join a session. `unix_time` gives the time of day in
    /// seconds: unlike the clock of `now`, it is the TURN server's, too.
    pub(crate) fn with_turn_servers(self, turn_servers: Option<TurnServers>, unix_time: fn() -> u64) -> Self {
        Self { turn_servers: turn_servers.map(|servers| (servers, unix_time)), ..self }
    }

    /// Tells them of these from now on.
    pub(crate) fn set_turn_servers(&mut self, turn_servers: Option<TurnServers>, unix_time: fn() -> u64) {
        self.turn_servers = turn_servers.map(|servers| (servers, unix_time));
    }

    /// Takes `username` online at `conn`. A name with a token goes to the same token only; whoever holds the name and
    /// has to give way is closed (protocol 2.6).
    ///
    /// # Errors
    /// [`NameTaken`]; nothing has changed then.
    pub fn connect(
        &mut self,
        conn: ConnId,
        username: &str,
        token: Option<&str>,
        now: Instant,
    ) -> Result<Outputs<'static>, NameTaken> {
        let name: Rc<str> = username.into();
        let mut outputs = Outputs::new();
        if let Some(replaced) = self.names.take(&name, conn, token, now)? {
            self.users.remove(&replaced);
            outputs.push(close(replaced, GOING_AWAY, REPLACED));
        }
        self.users.insert(conn, User::new(conn, name));
        Ok(outputs)
    }

    /// Says by which [`place`](crate::server::addresses::place) the user of `conn` is counted. A hash of it also names
    /// the user to a TURN server.
    pub(crate) fn locate(&mut self, conn: ConnId, place: Option<IpAddr>) {
        if let Some(user) = self.users.get_mut(&conn) {
            user.place = place;
        }
    }

    /// Takes the user of `conn` offline. A connection that was replaced has none any more.
    pub fn disconnect(&mut self, conn: ConnId, departure: Departure, now: Instant) {
        let Some(User { name, .. }) = self.users.remove(&conn) else { return self.drop_claim(conn) };
        if self.remote().is_none() {
            return self.names.leave(name, departure, now);
        }
        self.names.remove(&name);
        self.release(conn, name, departure == Departure::Left);
    }

    /// Counts bytes that came from `conn`. Where they are too many, the next message is not served.
    pub fn receive_bytes(&mut self, conn: ConnId, count: usize, now: Instant) -> Outputs<'static> {
        if self.limits.bytes.is_none() {
            return Outputs::new();
        }
        let Some(user) = self.users.get_mut(&conn) else { return Outputs::new() };
        if user.bytes.take(count, self.limits.bytes, now) {
            return Outputs::new();
        }
        user.has_too_much = true;
        self.rate_limited(conn, None, now)
    }

    /// Counts a ping or a pong of `conn`.
    pub fn receive_control(&mut self, conn: ConnId, now: Instant) -> Outputs<'static> {
        let Some(user) = self.users.get_mut(&conn) else { return Outputs::new() };
        if user.charge_websocket_frame(&self.limits, now) { Outputs::new() } else { self.rate_limited(conn, None, now) }
    }

    /// Counts a fragment of a message of `conn`. Where there are too many, the message is not served.
    pub(crate) fn receive_fragment(&mut self, conn: ConnId, now: Instant) {
        if let Some(user) = self.users.get_mut(&conn) {
            user.has_too_much |= !user.websocket_frames.take(1, self.limits.websocket_frames, now);
        }
    }

    /// Answers a binary message of `conn`, which is none of the protocol's.
    pub fn receive_binary(&mut self, conn: ConnId, now: Instant) -> Outputs<'static> {
        let Some(user) = self.users.get_mut(&conn) else { return Outputs::new() };
        if !user.charge_websocket_frame(&self.limits, now) {
            return self.rate_limited(conn, None, now);
        }
        self.refuse_message(conn, now)
    }

    /// Serves one text message of `conn`. A connection without a user is not answered.
    pub fn receive<'a>(&mut self, conn: ConnId, text: &'a str, now: Instant) -> Outputs<'a> {
        let Some(user) = self.users.get_mut(&conn) else { return Outputs::new() };
        if !user.charge_websocket_frame(&self.limits, now) {
            return self.rate_limited(conn, None, now);
        }
        let (sender, last_target) = (user.name.clone(), user.last_target);
        match ClientMessage::read(text) {
            Ok(ClientMessage::Forward { kind, target, head, tail }) => {
                match self.reach(conn, &target, last_target, now) {
                    Ok(to) => only(Output::Forward { from: conn, to, message: Forwarded { kind, head, sender, tail } }),
                    Err(Unreached::Because(code)) => self.unreached(conn, code, &target, now),
                    Err(Unreached::Elsewhere { is_stranger }) => {
                        self.forward_elsewhere(conn, &Forwarded { kind, head, sender, tail }, &target, is_stranger, now)
                    }
                }
            }
            Ok(ClientMessage::Connect { target }) => self.session_connect(conn, target.as_deref(), now),
            Ok(ClientMessage::Create) => self.session_create(conn, now),
            Ok(ClientMessage::Join { id }) => self.session_join(conn, id.as_deref(), now),
            Ok(ClientMessage::Unknown) => self.error(conn, ErrorCode::UnknownType, "unknown message type", None, now),
            Err(Malformed) => self.refuse_message(conn, now),
        }
    }

    /// Learns that a message was queued for its target.
    pub fn queued(&mut self, message: &Forwarded<'_>) {
        self.counts.forwarded[message.kind as usize] += 1;
    }

    /// Tells `from` that its message found no room at `to`, which is about to be cut.
    pub fn not_queued(&mut self, from: ConnId, to: ConnId, now: Instant) -> Outputs<'static> {
        let Some(target) = self.users.get(&to).map(|user| user.name.clone()) else { return Outputs::new() };
        self.error(from, ErrorCode::RelayFailed, "the user does not read", Some(&target), now)
    }

    /// Ends what is over at `now`, as much as one turn has time for.
    pub fn tick(&mut self, now: Instant) {
        self.sessions.tick(now);
        self.misses.tick(now);
        self.names.tick(now);
        for _ in 0..MEETINGS_PER_TICK {
            let Some((conn, name)) = self.meetings.pop_due(now) else { break };
            self.forget_meeting(conn, &name, now);
        }
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let remote = self.remote().and_then(Remote::next_deadline);
        let (sessions, misses, names) =
            (self.sessions.next_deadline(), self.misses.next_deadline(), self.names.next_deadline());
        [sessions, misses, names, self.meetings.next(), remote].into_iter().flatten().min()
    }

    /// How many users are online.
    pub fn online(&self) -> usize {
        self.users.len()
    }

    /// How many names are held, by somebody online or for somebody who was lost.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// What was done.
    pub fn counts(&self) -> &HubCounts {
        &self.counts
    }

    fn refuse_message(&mut self, conn: ConnId, now: Instant) -> Outputs<'static> {
        self.error(conn, ErrorCode::InvalidMessage, "a message is a JSON object with a string `type`", None, now)
    }

    /// Answers a message that is more than the client may send. Whoever floods is told so some times and then not any
    /// more, since an answer is many times as long as what can cause it.
    fn rate_limited(&mut self, conn: ConnId, target: Option<&str>, now: Instant) -> Outputs<'static> {
        let Some(user) = self.users.get_mut(&conn) else { return Outputs::new() };
        if !user.conduct().refusals.take(1, Some(self.limits.refusals), now) {
            self.counts.errors[ErrorCode::RateLimited as usize] += 1;
            return Outputs::new();
        }
        self.error(conn, ErrorCode::RateLimited, "too much at once; this message was not delivered", target, now)
    }

    /// Answers with an error, and closes a connection that makes too many of its own ([`Strikes`]).
    fn error(
        &mut self,
        conn: ConnId,
        code: ErrorCode,
        message: &str,
        target: Option<&str>,
        now: Instant,
    ) -> Outputs<'static> {
        let Some(user) = self.users.get_mut(&conn) else { return Outputs::new() };
        let is_one_too_many = user.conduct().strikes.note(code, self.limits.strikes, now);
        self.counts.errors[code as usize] += 1;
        let payload = ErrorPayload {
            code: code.name().to_owned(),
            message: message.to_owned(),
            target: target.map(str::to_owned),
        };
        let mut outputs = only(send(conn, MessageType::Error, &payload));
        if is_one_too_many {
            outputs.push(close(conn, POLICY, "too many errors"));
        }
        outputs
    }
}

/// How long everybody who was joined with a client stays a contact of it: long enough for a busy one to get to its
/// answer.
pub(super) const MEETING: Duration = Duration::from_secs(60);

/// Meetings that one tick ends.
const MEETINGS_PER_TICK: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Envelope;

    pub(super) const TTL: Duration = Duration::from_secs(600);
    pub(super) const ID: &str = "00000000-0000-0000-0000-00000000002a";
    pub(super) const ALICE: ConnId = ConnId(1);
    pub(super) const BOB: ConnId = ConnId(2);
    pub(super) const CAROL: ConnId = ConnId(3);
    pub(super) const ICE: &str = r#"{"type":"signal:ice","target":"bob"}"#;

    pub(super) fn hub() -> Hub {
        hub_with(Limits::default())
    }

    pub(super) fn hub_with(limits: Limits) -> Hub {
        let mut hub = Hub::new(TTL, limits, || Uuid::from_u128(42));
        for (conn, name) in [(ALICE, "alice"), (BOB, "bob")] {
            assert_eq!(hub.connect(conn, name, None, Instant::now()), Ok(Outputs::new()));
        }
        hub
    }

    pub(super) fn to(to: ConnId, text: &str) -> Output<'static> {
        Output::Send { to, text: text.to_owned() }
    }

    pub(super) fn joined_text(peer: &str) -> String {
        format!(r#"{{"type":"session:joined","payload":{{"sessionId":"{ID}","peer":"{peer}"}}}}"#)
    }

    /// The codes of the errors in these outputs, and `closed` for a close.
    pub(super) fn codes(outputs: &[Output]) -> Vec<String> {
        let code = |output: &Output| match output {
            Output::Send { text, .. } => match Envelope::parse(text).unwrap() {
                Envelope { kind, payload: Some(payload), .. } if kind == "error" => {
                    serde_json::from_str::<ErrorPayload>(payload.get()).unwrap().code
                }
                envelope => envelope.kind.into_owned(),
            },
            Output::Forward { .. } => "forwarded".to_owned(),
            Output::Close { code, .. } => format!("closed {code}"),
            other => panic!("{other:?}, without a cluster"),
        };
        outputs.iter().map(code).collect()
    }

    /// Passes a message of alice on to bob, who has room for it.
    pub(super) fn forward(hub: &mut Hub, now: Instant) {
        let outputs = hub.receive(ALICE, ICE, now);
        let [Output::Forward { from: ALICE, to: BOB, message }] = &outputs[..] else { panic!("{outputs:?}") };
        hub.queued(message);
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
        assert_eq!(hub.connect(CAROL, "bob", None, Instant::now()), Ok(only(replaced)));
        hub.disconnect(BOB, Departure::Lost, Instant::now());
        assert_eq!(hub.online(), 2);
        let outputs = hub.receive(ALICE, r#"{"type":"session:connect","target":"bob"}"#, Instant::now());
        assert_eq!(outputs[..], [to(ALICE, &joined_text("bob")), to(CAROL, &joined_text("alice"))]);
        assert_eq!(hub.receive(BOB, r#"{"type":"session:create"}"#, Instant::now())[..], [], "a ghost is not served");
    }

    #[test]
    fn who_had_the_last_message_gets_the_next_one_only_as_long_as_the_name_is_theirs() {
        let mut hub = hub();
        let target = |hub: &mut Hub| match &hub.receive(ALICE, ICE, Instant::now())[..] {
            [Output::Forward { to, .. }] => Some(*to),
            _ => None,
        };
        assert_eq!([target(&mut hub), target(&mut hub)], [Some(BOB); 2]);
        hub.connect(CAROL, "bob", None, Instant::now()).unwrap();
        assert_eq!([target(&mut hub), target(&mut hub)], [Some(CAROL); 2]);
        hub.disconnect(CAROL, Departure::Left, Instant::now());
        assert_eq!(target(&mut hub), None);
        hub.connect(CAROL, "carol", None, Instant::now()).unwrap();
        assert_eq!(target(&mut hub), None, "the connection is there, under another name");
        assert_eq!(
            codes(&hub.receive(ALICE, &ICE.replace("bob", "alice"), Instant::now())),
            ["forwarded"],
            "to oneself"
        );
    }

    #[test]
    fn who_disconnects_is_offline() {
        let mut hub = hub();
        hub.disconnect(BOB, Departure::Lost, Instant::now());
        let outputs = hub.receive(ALICE, r#"{"type":"session:connect","target":"bob"}"#, Instant::now());
        let [Output::Send { to: ALICE, text }] = &outputs[..] else { panic!("{outputs:?}") };
        assert!(text.contains("USER_OFFLINE"), "{text}");
    }

    #[test]
    fn who_sends_to_somebody_who_does_not_read_is_told() {
        let mut hub = hub();
        let outputs = hub.not_queued(ALICE, BOB, Instant::now());
        assert_eq!(codes(&outputs), ["RELAY_FAILED"]);
        let [Output::Send { to: ALICE, text }] = &outputs[..] else { panic!() };
        assert!(text.contains(r#""target":"bob""#), "{text}");
    }
}
