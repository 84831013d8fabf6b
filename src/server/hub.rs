//! The hub: who is online, who holds which name, and who is told what. It knows no socket and no clock; the loop
//! hands it texts with the time, and carries out the [`Output`]s that come back.
//!
//! Users are keyed by connection and names point to connections, so the end of a connection that was replaced never
//! takes its successor offline. What a user may do in how much time is counted here too, since only the hub knows what
//! a message asks for; what a connection may hold is the connection's and the loop's.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use serde::Serialize;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::contacts::Contacts;
use super::deadlines::Deadlines;
use super::limits::{Bucket, Limits};
use super::misses::Misses;
use super::plain::Plain;
use super::relays::Relays;
use super::sessions::{Bounds, Sessions};
use super::strikes::Strikes;
use super::table::{Spread, Table};
use crate::protocol::{self, Created, Envelope, ErrorCode, ErrorPayload, Joined, MessageType};

/// One connection. Never used again for another, so whatever still speaks of a gone one finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub usize);

impl Spread for ConnId {
    fn spread(&self) -> usize {
        self.0
    }
}

/// A table by connection. The ids are our own, one after the other, so nobody can choose some that collide.
pub type ByConn<V> = Table<ConnId, V, BuildHasherDefault<IdHasher>>;

/// Hashes one number that nobody else chooses (Fibonacci hashing: Knuth, The Art of Computer Programming, 6.4).
#[derive(Debug, Clone, Copy, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize((*byte).into());
        }
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// What is to be done for one input: two things at most.
pub type Outputs<'a> = ArrayVec<Output<'a>, 2>;

/// What the loop is to do.
#[derive(Debug, PartialEq)]
pub enum Output<'a> {
    /// Send this text message.
    Send {
        /// To this connection.
        to: ConnId,
        /// One envelope as JSON.
        text: String,
    },
    /// Send this text message of another user. [`Hub::delivered`] or [`Hub::undelivered`] tells whether there was room.
    Relay {
        /// From this connection.
        from: ConnId,
        /// To this one.
        to: ConnId,
        /// The message.
        message: Relayed<'a>,
    },
    /// Begin the close handshake.
    Close {
        /// Of this connection, to which nothing more is sent.
        conn: ConnId,
        /// The close code (RFC 6455, section 7.4).
        code: u16,
        /// The reason for people.
        reason: &'static str,
    },
}

/// A message on its way from one user to another: as it came, but for what says from whom it is.
#[derive(Debug, PartialEq)]
pub struct Relayed<'a> {
    /// What it is.
    pub kind: MessageType,
    /// All that stands before the sender.
    head: Cow<'a, str>,
    /// From whom it really is.
    stamp: Rc<str>,
    /// All that stands behind.
    tail: Cow<'a, str>,
}

impl Relayed<'_> {
    /// Appends the message as JSON, its payload byte for byte as it came.
    pub fn write(&self, output: &mut Vec<u8>) {
        output.reserve(self.head.len() + self.stamp.len() + self.tail.len());
        for part in [&*self.head, &*self.stamp, &*self.tail] {
            output.extend_from_slice(part.as_bytes());
        }
    }
}

/// The name belongs to somebody who has proven by a token that it is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameTaken;

/// How a connection ends, as far as its name is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The client has said good-bye: its name is free at once.
    Left,
    /// It was lost or cut: a name with a token is kept for its owner.
    Lost,
}

/// What the hub has done since it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    relays: [u64; MessageType::ALL.len()],
    errors: [u64; ErrorCode::ALL.len()],
}

impl Counts {
    /// Messages of this type that were relayed.
    pub fn relays(&self, kind: MessageType) -> u64 {
        self.relays[kind as usize]
    }

    /// Errors of this code that were answered.
    pub fn errors(&self, code: ErrorCode) -> u64 {
        self.errors[code as usize]
    }
}

/// Everybody who is online, with the sessions between them.
#[derive(Debug)]
pub struct Hub {
    users: ByConn<User>,
    names: Table<Rc<str>, Holder>,
    /// Names that are kept for a time after their connection was lost.
    reservations: Deadlines<Rc<str>>,
    /// Who was joined with whom a moment ago, each pair in both directions.
    meetings: Deadlines<(ConnId, Rc<str>)>,
    sessions: Sessions,
    misses: Misses,
    limits: Limits,
    new_session_id: fn() -> Uuid,
    /// What users of a session are told of STUN and TURN servers, and the Unix time in seconds, by which credentials expire.
    relays: Option<(Relays, fn() -> u64)>,
    counts: Counts,
}

#[derive(Debug)]
struct User {
    name: Rc<str>,
    /// What the messages that are relayed for it say of their sender: a comma and a member of a JSON object.
    stamp: Rc<str>,
    /// Where it comes from, if that can be told from elsewhere.
    place: Option<IpAddr>,
    /// To whom its last message went, who is mostly meant by the next one, too.
    last_target: ConnId,
    frames: Bucket,
    bytes: Bucket,
    /// More was read than `bytes` allows, or in more fragments than `frames` does: the message that it belongs to is refused,
    /// whenever it is complete.
    has_too_much: bool,
    calls: Bucket,
    /// How often it is told that this is too much.
    refusals: Bucket,
    strikes: Strikes,
    contacts: Contacts,
}

/// Who has a name.
struct Holder {
    /// The token that was given for it, which only its owner knows.
    token: Option<Box<[u8]>>,
    at: At,
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.at)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Online(ConnId),
    /// Nobody until this time, when the name is free again.
    KeptUntil(Instant),
}

impl Hub {
    /// Nobody online. Sessions live `session_ttl` and get their ids from `new_session_id`, which has to give a fresh
    /// random UUID each time.
    pub fn new(session_ttl: Duration, limits: Limits, new_session_id: fn() -> Uuid) -> Self {
        let bounds = Bounds { in_all: limits.sessions, per_name: limits.sessions_per_name };
        Self {
            users: Table::default(),
            names: Table::default(),
            reservations: Deadlines::new(limits.reservation),
            meetings: Deadlines::new(MEETING),
            sessions: Sessions::new(session_ttl, bounds),
            misses: Misses::new(limits.misses),
            limits,
            new_session_id,
            relays: None,
            counts: Counts::default(),
        }
    }

    /// Tells users of these STUN and TURN servers when they join a session. `unix_time` gives the time of day in seconds:
    /// unlike the clock of `now`, it is the TURN server's, too.
    pub fn with_relays(self, relays: Option<Relays>, unix_time: fn() -> u64) -> Self {
        Self { relays: relays.map(|relays| (relays, unix_time)), ..self }
    }

    /// Tells them of these from now on.
    pub fn set_relays(&mut self, relays: Option<Relays>, unix_time: fn() -> u64) {
        self.relays = relays.map(|relays| (relays, unix_time));
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
        let mut outputs = Outputs::new();
        if let Some(holder) = self.names.get(username) {
            let is_kept = match holder.at {
                At::Online(_) => true,
                At::KeptUntil(end) => end > now,
            };
            let is_theirs = match &holder.token {
                Some(held) => token.is_some_and(|token| bool::from(held.ct_eq(token.as_bytes()))),
                None => true,
            };
            if is_kept && !is_theirs {
                return Err(NameTaken);
            }
            if let At::Online(replaced) = holder.at {
                self.users.remove(&replaced);
                outputs.push(close(replaced, GOING_AWAY, "replaced by new connection"));
            }
        }
        let name: Rc<str> = username.into();
        let user = User {
            name: name.clone(),
            stamp: format!(r#","sender":{}"#, json(username)).into(),
            place: None,
            last_target: conn,
            frames: Bucket::default(),
            bytes: Bucket::default(),
            has_too_much: false,
            calls: Bucket::default(),
            refusals: Bucket::default(),
            strikes: Strikes::default(),
            contacts: Contacts::default(),
        };
        self.users.insert(conn, user);
        let holder = Holder { token: token.map(|token| token.as_bytes().into()), at: At::Online(conn) };
        self.names.insert(name, holder);
        Ok(outputs)
    }

    /// Says where the user of `conn` comes from: an address, or the network that stands for it. By that a TURN server knows it.
    pub fn locate(&mut self, conn: ConnId, place: Option<IpAddr>) {
        if let Some(user) = self.users.get_mut(&conn) {
            user.place = place;
        }
    }

    /// Takes the user of `conn` offline. A connection that was replaced has none any more.
    pub fn disconnect(&mut self, conn: ConnId, departure: Departure, now: Instant) {
        let Some(User { name, .. }) = self.users.remove(&conn) else { return };
        match self.names.get_mut(&*name) {
            Some(holder) if holder.token.is_some() && departure == Departure::Lost => {
                holder.at = At::KeptUntil(self.reservations.set(name, now));
                if self.reservations.len() > self.limits.reservations
                    && let Some((due, oldest)) = self.reservations.pop()
                {
                    self.free(&oldest, due);
                }
            }
            _ => {
                self.names.remove(&*name);
            }
        }
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
        if user.charge_frame(&self.limits, now) { Outputs::new() } else { self.rate_limited(conn, None, now) }
    }

    /// Counts a part of a message of `conn`. Where there are too many, the message is not served.
    pub fn receive_fragment(&mut self, conn: ConnId, now: Instant) {
        if let Some(user) = self.users.get_mut(&conn) {
            user.has_too_much |= !user.frames.take(1, self.limits.frames, now);
        }
    }

    /// Answers a binary message of `conn`, which is none of the protocol's.
    pub fn receive_binary(&mut self, conn: ConnId, now: Instant) -> Outputs<'static> {
        let Some(user) = self.users.get_mut(&conn) else { return Outputs::new() };
        if !user.charge_frame(&self.limits, now) {
            return self.rate_limited(conn, None, now);
        }
        self.refuse_message(conn, now)
    }

    /// Serves one text message of `conn`. A connection without a user is not answered.
    pub fn receive<'a>(&mut self, conn: ConnId, text: &'a str, now: Instant) -> Outputs<'a> {
        let Some(user) = self.users.get_mut(&conn) else { return Outputs::new() };
        if !user.charge_frame(&self.limits, now) {
            return self.rate_limited(conn, None, now);
        }
        let (stamp, last_target) = (user.stamp.clone(), user.last_target);
        if let Some(Plain { kind, target, head, tail }) = Plain::read(text) {
            return match self.reach(conn, target, last_target, now) {
                Ok(to) => {
                    let message = Relayed { kind, head: head.into(), stamp, tail: tail.into() };
                    only(Output::Relay { from: conn, to, message })
                }
                Err(code) => self.unreached(conn, code, target, now),
            };
        }
        let sender = user.name.clone();
        let Ok(envelope) = Envelope::parse(text) else { return self.refuse_message(conn, now) };
        let kind = MessageType::from_name(&envelope.kind);
        if let Some(kind) = kind.filter(|kind| kind.is_relayed()) {
            let target = envelope.target.as_ref().map_or("", |target| &target.0);
            return match self.reach(conn, target, last_target, now) {
                Ok(to) => {
                    let (head, tail) = (head(kind, &envelope, target).into(), tail(&envelope).into());
                    only(Output::Relay { from: conn, to, message: Relayed { kind, head, stamp, tail } })
                }
                Err(code) => self.unreached(conn, code, target, now),
            };
        }
        let target = envelope.target.as_ref().map(|target| &*target.0).filter(|target| !target.is_empty());
        match kind {
            Some(MessageType::SessionConnect) => self.session_connect(conn, &sender, target, now),
            Some(MessageType::SessionCreate) => self.session_create(conn, &sender, now),
            Some(MessageType::SessionJoin) => {
                let id = envelope.session_id.as_ref().map(|id| &*id.0).filter(|id| !id.is_empty());
                self.session_join(conn, &sender, id, now)
            }
            _ => self.error(conn, ErrorCode::UnknownType, "unknown message type", None, now),
        }
    }

    /// Takes note that a message was queued for its target.
    pub fn delivered(&mut self, message: &Relayed<'_>) {
        self.counts.relays[message.kind as usize] += 1;
    }

    /// Tells `from` that its message found no room at `to`, which is about to be cut.
    pub fn undelivered(&mut self, from: ConnId, to: ConnId, now: Instant) -> Outputs<'static> {
        let Some(target) = self.users.get(&to).map(|user| user.name.clone()) else { return Outputs::new() };
        self.error(from, ErrorCode::RelayFailed, "the user does not read", Some(&target), now)
    }

    /// Ends what is over at `now`, as much as one turn has time for.
    pub fn tick(&mut self, now: Instant) {
        self.sessions.tick(now);
        self.misses.tick(now);
        for _ in 0..NAMES_PER_TICK {
            let Some(name) = self.reservations.pop_due(now) else { break };
            self.free(&name, now);
        }
        for _ in 0..NAMES_PER_TICK {
            let Some((conn, name)) = self.meetings.pop_due(now) else { break };
            self.forget_meeting(conn, &name, now);
        }
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.sessions.next_deadline(), self.misses.next_deadline(), self.reservations.next(), self.meetings.next()]
            .into_iter()
            .flatten()
            .min()
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
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn charge_call(&mut self, conn: ConnId, now: Instant) -> bool {
        self.users.get_mut(&conn).is_some_and(|user| user.calls.take(1, self.limits.calls, now))
    }

    fn session_connect(
        &mut self,
        conn: ConnId,
        sender: &Rc<str>,
        target: Option<&str>,
        now: Instant,
    ) -> Outputs<'static> {
        if !self.charge_call(conn, now) {
            return self.rate_limited(conn, target, now);
        }
        let Some(target) = target else {
            return self.error(conn, ErrorCode::MissingTarget, "session:connect needs a target", None, now);
        };
        if *target == **sender {
            return self.error(conn, ErrorCode::InvalidTarget, "you cannot connect to yourself", Some(target), now);
        }
        let place = match self.users.get(&conn) {
            Some(user) if !user.contacts.have(target, now) => user.place,
            _ => None,
        };
        if !self.misses.are_left(place, now) {
            return self.rate_limited(conn, Some(target), now);
        }
        let Some(other) = self.online_at(target) else {
            self.misses.note(place, now);
            return self.error(conn, ErrorCode::UserOffline, "the user is not online", Some(target), now);
        };
        let id = (self.new_session_id)();
        if self.sessions.connect(id, sender, now).is_err() {
            return self.rate_limited(conn, Some(target), now);
        }
        self.introduce(conn, other, now);
        [self.joined(conn, sender, id, target), self.joined(other, target, id, sender)].into()
    }

    fn session_create(&mut self, conn: ConnId, sender: &Rc<str>, now: Instant) -> Outputs<'static> {
        let id = (self.new_session_id)();
        if !self.charge_call(conn, now) || self.sessions.create(id, sender, now).is_err() {
            return self.rate_limited(conn, None, now);
        }
        only(send(conn, MessageType::SessionCreated, &Created { session_id: id.to_string() }))
    }

    fn session_join(&mut self, conn: ConnId, sender: &str, id: Option<&str>, now: Instant) -> Outputs<'static> {
        if !self.charge_call(conn, now) {
            return self.rate_limited(conn, None, now);
        }
        let Some(id) = id else {
            return self.error(conn, ErrorCode::MissingSessionId, "session:join needs a sessionId", None, now);
        };
        let Ok(id) = Uuid::parse_str(id) else {
            return self.error(conn, ErrorCode::InvalidSessionId, "the sessionId is no UUID", None, now);
        };
        match self.sessions.join(id, sender, now) {
            Ok(creator) => {
                let mut outputs = only(self.joined(conn, sender, id, &creator));
                // A creator who is offline for the moment is not told of it, now or later.
                if let Some(other) = self.online_at(&creator) {
                    self.introduce(conn, other, now);
                    outputs.push(self.joined(other, &creator, id, sender));
                }
                outputs
            }
            Err(cause) => self.error(conn, ErrorCode::SessionJoinFailed, &cause.to_string(), None, now),
        }
    }

    /// Where a message of `conn` to `target` goes, or the error that says why it goes nowhere. Whoever had its last one is
    /// mostly meant by the next one, too.
    fn reach(&mut self, conn: ConnId, target: &str, last_target: ConnId, now: Instant) -> Result<ConnId, ErrorCode> {
        // Who is online at a connection has its name, so the name need not be looked up.
        if self.users.get(&last_target).is_some_and(|user| *user.name == *target) {
            return Ok(last_target);
        }
        self.look_up(conn, target, now)
    }

    /// Where a message to somebody else than the last one goes.
    ///
    /// Who is not there cannot be reached, and that answer tells who is online, as that to a call does. So it is paid for
    /// like a call, unless the name is a contact of the client's. Who has no call left is not answered at all for strangers,
    /// be they online or not, since an answer to some of them would tell as much. So it is where others at the same address have
    /// taken all that the address has.
    fn look_up(&mut self, conn: ConnId, target: &str, now: Instant) -> Result<ConnId, ErrorCode> {
        if target.is_empty() {
            return Err(ErrorCode::MissingTarget);
        }
        let to = self.online_at(target);
        let name = to.and_then(|to| self.users.get(&to)).map(|user| user.name.clone());
        let user = self.users.get_mut(&conn).ok_or(ErrorCode::RelayFailed)?;
        let is_contact = user.contacts.have(target, now);
        let is_answered = || user.calls.holds(1, self.limits.calls, now) && self.misses.are_left(user.place, now);
        if !is_contact && !is_answered() {
            return Err(ErrorCode::RateLimited);
        }
        if let (Some(to), Some(name)) = (to, name) {
            user.last_target = to;
            user.contacts.relayed_to(&name);
            return Ok(to);
        }
        if !is_contact {
            user.calls.take(1, self.limits.calls, now);
            self.misses.note(user.place, now);
        }
        Err(ErrorCode::RelayFailed)
    }

    /// Answers a message that goes nowhere.
    fn unreached(&mut self, conn: ConnId, code: ErrorCode, target: &str, now: Instant) -> Outputs<'static> {
        match code {
            ErrorCode::MissingTarget => self.error(conn, code, "this message needs a target", None, now),
            ErrorCode::RateLimited => self.rate_limited(conn, Some(target), now),
            _ => self.error(conn, code, "the user is not online", Some(target), now),
        }
    }

    /// Makes two users contacts of each other.
    fn introduce(&mut self, one: ConnId, other: ConnId, now: Instant) {
        for (conn, met) in [(one, other), (other, one)] {
            if let Some(name) = self.users.get(&met).map(|user| user.name.clone())
                && let Some(user) = self.users.get_mut(&conn)
            {
                user.contacts.joined_with(&name, self.meetings.set((conn, name.clone()), now));
            }
        }
        while self.meetings.len() > self.limits.meetings
            && let Some((due, (conn, name))) = self.meetings.pop()
        {
            self.forget_meeting(conn, &name, due);
        }
    }

    fn forget_meeting(&mut self, conn: ConnId, name: &str, end: Instant) {
        if let Some(user) = self.users.get_mut(&conn) {
            user.contacts.forget(name, end);
        }
    }

    /// Tells `username` at `to` of a session with `peer`.
    fn joined(&self, to: ConnId, username: &str, id: Uuid, peer: &str) -> Output<'static> {
        let ice_servers = match &self.relays {
            Some((relays, unix_time)) => {
                let place = self.users.get(&to).and_then(|user| user.place);
                relays.servers(username, place, unix_time())
            }
            None => Vec::new(),
        };
        send(to, MessageType::SessionJoined, &Joined { session_id: id.to_string(), peer: peer.to_owned(), ice_servers })
    }

    fn online_at(&self, name: &str) -> Option<ConnId> {
        match self.names.get(name)?.at {
            At::Online(conn) => Some(conn),
            At::KeptUntil(_) => None,
        }
    }

    /// Ends a reservation that lasts until `end` at most. The owner may be back, and lost again, in the meantime.
    fn free(&mut self, name: &str, end: Instant) {
        if self.names.get(name).is_some_and(|holder| matches!(holder.at, At::KeptUntil(kept) if kept <= end)) {
            self.names.remove(name);
        }
    }

    fn refuse_message(&mut self, conn: ConnId, now: Instant) -> Outputs<'static> {
        self.error(conn, ErrorCode::InvalidMessage, "a message is a JSON object with a string `type`", None, now)
    }

    /// Answers a message that is more than the client may send. Whoever floods is told so some times and then not any more,
    /// or a few bytes of its would cost a hundred of ours.
    fn rate_limited(&mut self, conn: ConnId, target: Option<&str>, now: Instant) -> Outputs<'static> {
        let Some(user) = self.users.get_mut(&conn) else { return Outputs::new() };
        if !user.refusals.take(1, Some(self.limits.refusals), now) {
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
        let is_one_too_many = user.strikes.note(code, self.limits.strikes, now);
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

impl User {
    /// Counts one message, ping or pong; whether it is to be served.
    #[inline]
    fn charge_frame(&mut self, limits: &Limits, now: Instant) -> bool {
        let has_too_much = std::mem::take(&mut self.has_too_much);
        self.frames.take(1, limits.frames, now) && !has_too_much
    }
}

/// What stands before the sender in a message to be relayed.
fn head(kind: MessageType, envelope: &Envelope<'_>, target: &str) -> String {
    let session_id = envelope.session_id.as_ref().map(|id| format!(r#","sessionId":{}"#, json(&id.0)));
    format!(r#"{{"type":"{}"{},"target":{}"#, kind.name(), session_id.unwrap_or_default(), json(target))
}

/// What stands behind it.
fn tail(envelope: &Envelope<'_>) -> String {
    envelope.payload.map_or("}".to_owned(), |payload| format!(r#","payload":{payload}}}"#))
}

/// A text as JSON.
fn json(text: &str) -> String {
    serde_json::to_string(text).expect("texts serialize")
}

fn only(output: Output<'_>) -> Outputs<'_> {
    let mut outputs = Outputs::new();
    outputs.push(output);
    outputs
}

fn send(to: ConnId, kind: MessageType, payload: &impl Serialize) -> Output<'static> {
    Output::Send { to, text: protocol::message(kind, None, Some(payload)) }
}

fn close(conn: ConnId, code: u16, reason: &'static str) -> Output<'static> {
    Output::Close { conn, code, reason }
}

/// How long everybody who was joined with a client stays a contact of it: long enough for a busy one to get to its answer.
const MEETING: Duration = Duration::from_secs(60);

/// Names that one tick sets free.
const NAMES_PER_TICK: usize = 400;

/// The close codes of an endpoint that goes away, and of one that has seen its rules broken (RFC 6455, section 7.4.1).
pub const GOING_AWAY: u16 = 1001;
/// See [`GOING_AWAY`].
pub const POLICY: u16 = 1008;

#[cfg(test)]
mod tests {
    use super::super::limits::Rate;
    use super::*;
    use crate::protocol::Text;

    const TTL: Duration = Duration::from_secs(600);
    const ID: &str = "00000000-0000-0000-0000-00000000002a";
    const ALICE: ConnId = ConnId(1);
    const BOB: ConnId = ConnId(2);
    const CAROL: ConnId = ConnId(3);

    fn hub() -> Hub {
        hub_with(Limits::default())
    }

    fn hub_with(limits: Limits) -> Hub {
        let mut hub = Hub::new(TTL, limits, || Uuid::from_u128(42));
        for (conn, name) in [(ALICE, "alice"), (BOB, "bob")] {
            assert_eq!(hub.connect(conn, name, None, Instant::now()), Ok(Outputs::new()));
        }
        hub
    }

    fn to(to: ConnId, text: &str) -> Output<'static> {
        Output::Send { to, text: text.to_owned() }
    }

    fn joined_text(peer: &str) -> String {
        format!(r#"{{"type":"session:joined","payload":{{"sessionId":"{ID}","peer":"{peer}"}}}}"#)
    }

    #[test]
    fn a_connect_opens_a_session_and_tells_both() {
        let outputs = hub().receive(ALICE, r#"{"type":"session:connect","target":"bob"}"#, Instant::now());
        assert_eq!(outputs[..], [to(ALICE, &joined_text("bob")), to(BOB, &joined_text("alice"))]);
    }

    #[test]
    fn each_user_of_a_session_is_told_of_the_relays_with_credentials_of_its_own() {
        let secret = crate::server::relays::Secret::new("s3cret").unwrap();
        let relays = Relays::new(vec!["turn:turn.example".to_owned()], secret, Duration::from_secs(60));
        let mut hub = hub().with_relays(Some(relays.clone()), || 1000);
        let place = "192.0.2.1".parse().unwrap();
        hub.locate(BOB, Some(place));
        let expected = |name: &str, peer: &str| {
            let place = (name == "bob").then_some(place);
            let servers = serde_json::to_string(&relays.servers(name, place, 1000)).unwrap();
            joined_text(peer).replace("}}", &format!(r#","iceServers":{servers}}}}}"#))
        };
        let outputs = hub.receive(ALICE, r#"{"type":"session:connect","target":"bob"}"#, Instant::now());
        assert_eq!(outputs[..], [to(ALICE, &expected("alice", "bob")), to(BOB, &expected("bob", "alice"))]);
        assert!(expected("alice", "bob").contains(r#""username":"1060:"#));
        hub.receive(ALICE, r#"{"type":"session:create"}"#, Instant::now());
        let join = format!(r#"{{"type":"session:join","sessionId":"{ID}"}}"#);
        let outputs = hub.receive(BOB, &join, Instant::now());
        assert_eq!(outputs[..], [to(BOB, &expected("bob", "alice")), to(ALICE, &expected("alice", "bob"))]);
    }

    #[test]
    fn a_created_session_is_joined_once() {
        let mut hub = hub();
        let now = Instant::now();
        let created = format!(r#"{{"type":"session:created","payload":{{"sessionId":"{ID}"}}}}"#);
        assert_eq!(hub.receive(ALICE, r#"{"type":"session:create"}"#, now)[..], [to(ALICE, &created)]);
        let join = format!(r#"{{"type":"session:join","sessionId":"{ID}"}}"#);
        assert_eq!(hub.receive(BOB, &join, now)[..], [to(BOB, &joined_text("alice")), to(ALICE, &joined_text("bob"))]);
        let full = r#"{"type":"error","payload":{"code":"SESSION_JOIN_FAILED","message":"session is full"}}"#;
        hub.connect(CAROL, "carol", None, now).unwrap();
        assert_eq!(hub.receive(CAROL, &join, now)[..], [to(CAROL, full)]);
    }

    #[test]
    fn a_relay_stamps_the_sender_and_keeps_the_payload_byte_for_byte() {
        let relayed = |kind: &str| {
            let sent = format!(r#"{{"payload":{{"a" : [1.0e0]}},"sender":"mallory","target":"bob","type":"{kind}"}}"#);
            let stamped = format!(r#"{{"type":"{kind}","target":"bob","sender":"alice","payload":{{"a" : [1.0e0]}}}}"#);
            let outputs = hub().receive(ALICE, &sent, Instant::now());
            let [Output::Relay { from: ALICE, to: BOB, message }] = &outputs[..] else { panic!("{outputs:?}") };
            let mut text = Vec::new();
            message.write(&mut text);
            assert_eq!((String::from_utf8(text).unwrap(), message.kind.name()), (stamped, kind));
        };
        for kind in ["key:exchange", "signal:offer", "signal:answer", "signal:ice", "session:accept", "session:decline"]
        {
            relayed(kind);
        }
    }

    #[test]
    fn a_relayed_message_is_what_serde_would_write() {
        for name in ["bob", "böb", "b\"o\\b", "b\u{7f}ob "] {
            let mut hub = hub();
            hub.connect(CAROL, name, None, Instant::now()).unwrap();
            for rest in ["", r#","sessionId":"a\nb""#, r#","payload":null"#, r#","payload":"\u0000""#] {
                let target = serde_json::to_string(name).unwrap();
                let sent = format!(r#"{{"type":"signal:ice","target":{target}{rest}}}"#);
                let outputs = hub.receive(CAROL, &sent, Instant::now());
                let [Output::Relay { message, .. }] = &outputs[..] else { panic!("{outputs:?}") };
                let mut text = Vec::new();
                message.write(&mut text);
                let stamped = Envelope { sender: Some(Text::from(name)), ..Envelope::parse(&sent).unwrap() };
                assert_eq!(String::from_utf8(text).unwrap(), serde_json::to_string(&stamped).unwrap());
            }
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
            [Output::Relay { to, .. }] => Some(*to),
            _ => None,
        };
        assert_eq!([target(&mut hub), target(&mut hub)], [Some(BOB); 2]);
        hub.connect(CAROL, "bob", None, Instant::now()).unwrap();
        assert_eq!([target(&mut hub), target(&mut hub)], [Some(CAROL); 2]);
        hub.disconnect(CAROL, Departure::Left, Instant::now());
        assert_eq!(target(&mut hub), None);
        hub.connect(CAROL, "carol", None, Instant::now()).unwrap();
        assert_eq!(target(&mut hub), None, "the connection is there, under another name");
        assert_eq!(codes(&hub.receive(ALICE, &ICE.replace("bob", "alice"), Instant::now())), ["relayed"], "to oneself");
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
    fn sessions_end_with_the_tick() {
        let mut hub = hub();
        let now = Instant::now();
        hub.receive(ALICE, r#"{"type":"session:create"}"#, now);
        assert_eq!((hub.sessions(), hub.next_deadline()), (1, Some(now + TTL)));
        hub.tick(now + TTL);
        assert_eq!((hub.sessions(), hub.next_deadline()), (0, None));
    }

    const TOKEN: Option<&str> = Some("a secret of dave's");
    const DAVE: ConnId = ConnId(4);
    const ROBBER: ConnId = ConnId(5);

    #[test]
    fn a_name_with_a_token_goes_to_the_same_token_only() {
        let mut hub = hub();
        let now = Instant::now();
        assert_eq!(hub.connect(DAVE, "dave", TOKEN, now), Ok(Outputs::new()));
        for token in [None, Some(""), Some("a secret of dave'S"), Some("a secret of dave's ")] {
            assert_eq!(hub.connect(ROBBER, "dave", token, now), Err(NameTaken));
        }
        assert_eq!(hub.online(), 3);
        let replaced = Output::Close { conn: DAVE, code: 1001, reason: "replaced by new connection" };
        assert_eq!(hub.connect(CAROL, "dave", TOKEN, now), Ok(only(replaced)));
        hub.disconnect(DAVE, Departure::Lost, now);
        assert_eq!(hub.connect(ROBBER, "dave", None, now), Err(NameTaken), "the end of the older frees nothing");
    }

    #[test]
    fn a_lost_name_is_kept_for_a_minute_and_one_that_was_left_is_not() {
        let mut hub = hub();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        hub.connect(DAVE, "dave", TOKEN, at(0)).unwrap();
        hub.disconnect(DAVE, Departure::Lost, at(0));
        let call = r#"{"type":"session:connect","target":"dave"}"#;
        let [Output::Send { text, .. }] = &hub.receive(ALICE, call, at(1))[..] else { panic!() };
        assert!(text.contains("USER_OFFLINE"), "a name that is kept is not online");
        assert_eq!(hub.connect(ROBBER, "dave", None, at(59)), Err(NameTaken));
        assert_eq!(hub.connect(CAROL, "dave", TOKEN, at(59)), Ok(Outputs::new()), "back in time");
        hub.tick(at(60));
        assert_eq!(hub.connect(ROBBER, "dave", None, at(60)), Err(NameTaken), "the old reservation ends nothing");
        hub.disconnect(CAROL, Departure::Lost, at(70));
        assert_eq!(hub.next_deadline(), Some(at(130)));
        assert_eq!(hub.connect(ROBBER, "dave", None, at(130)), Ok(Outputs::new()), "even before the tick");
        hub.disconnect(ROBBER, Departure::Lost, at(131));
        hub.tick(at(200));
        assert_eq!(hub.names(), 2);
        hub.connect(DAVE, "dave", TOKEN, at(200)).unwrap();
        hub.disconnect(DAVE, Departure::Left, at(200));
        assert_eq!(hub.connect(ROBBER, "dave", None, at(200)), Ok(Outputs::new()));
    }

    #[test]
    fn only_so_many_names_are_kept_and_the_oldest_goes_first() {
        let mut hub = hub_with(Limits { reservations: 2, ..Limits::default() });
        let now = Instant::now();
        for (number, name) in ["one", "two", "three"].iter().enumerate() {
            let conn = ConnId(10 + number);
            hub.connect(conn, name, TOKEN, now).unwrap();
            hub.disconnect(conn, Departure::Lost, now + Duration::from_secs(number as u64));
        }
        let mut is_free = |name| hub.connect(ROBBER, name, None, now + Duration::from_secs(3)).is_ok();
        assert_eq!([is_free("one"), is_free("two"), is_free("three")], [true, false, false]);
    }

    #[test]
    fn the_byte_rate_is_not_got_round_by_a_last_byte_that_fits() {
        let mut hub = hub();
        let now = Instant::now();
        hub.receive_bytes(ALICE, 4 * 1024 * 1024, now);
        assert_eq!(codes(&hub.receive_bytes(ALICE, 60_000, now)), ["RATE_LIMITED"]);
        let later = now + Duration::from_millis(1);
        assert_eq!(hub.receive_bytes(ALICE, 1, later)[..], []);
        assert_eq!(codes(&hub.receive(ALICE, ICE, later)), ["RATE_LIMITED"], "the message is as long as it is");
        assert_eq!(codes(&hub.receive(ALICE, ICE, later)), ["relayed"]);
    }

    /// The codes of the errors in these outputs, and `closed` for a close.
    fn codes(outputs: &[Output]) -> Vec<String> {
        let code = |output: &Output| match output {
            Output::Send { text, .. } => match Envelope::parse(text).unwrap() {
                Envelope { kind, payload: Some(payload), .. } if kind == "error" => {
                    serde_json::from_str::<ErrorPayload>(payload.get()).unwrap().code
                }
                envelope => envelope.kind.into_owned(),
            },
            Output::Relay { .. } => "relayed".to_owned(),
            Output::Close { code, .. } => format!("closed {code}"),
        };
        outputs.iter().map(code).collect()
    }

    const ICE: &str = r#"{"type":"signal:ice","target":"bob"}"#;

    /// Passes a message of alice on to bob, who has room for it.
    fn relay(hub: &mut Hub, now: Instant) {
        let outputs = hub.receive(ALICE, ICE, now);
        let [Output::Relay { from: ALICE, to: BOB, message }] = &outputs[..] else { panic!("{outputs:?}") };
        hub.delivered(message);
    }

    #[test]
    fn messages_and_pings_are_limited_and_what_is_over_is_not_delivered() {
        let mut hub = hub();
        let now = Instant::now();
        for _ in 0..1000 {
            assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["relayed"]);
            assert_eq!(hub.receive_control(ALICE, now)[..], []);
        }
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["RATE_LIMITED"]);
        assert_eq!(codes(&hub.receive_control(ALICE, now)), ["RATE_LIMITED"]);
        assert_eq!(codes(&hub.receive_binary(ALICE, now)), ["RATE_LIMITED"]);
        assert_eq!(codes(&hub.receive(BOB, r#"{"type":"signal:ice","target":"alice"}"#, now)), ["relayed"]);
        let later = now + Duration::from_secs(1);
        relay(&mut hub, later);
        for _ in 0..199 {
            hub.receive(ALICE, ICE, later);
        }
        for _ in 0..900 {
            assert_eq!(codes(&hub.receive(ALICE, ICE, later)), ["RATE_LIMITED"]);
        }
        let floods = (0..10_000).map(|_| codes(&hub.receive(ALICE, ICE, later))).filter(|codes| !codes.is_empty());
        assert!(floods.count() < 200, "who goes on is told no more of it, and is not closed");
        assert_eq!(codes(&hub.receive(ALICE, ICE, later + Duration::from_secs(1))), ["relayed"]);
    }

    #[test]
    fn a_message_in_more_fragments_than_may_be_is_not_delivered() {
        let mut hub = hub();
        let now = Instant::now();
        (0..1999).for_each(|_| hub.receive_fragment(ALICE, now));
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["relayed"], "the last of two thousand");
        let later = now + Duration::from_secs(1);
        (0..201).for_each(|_| hub.receive_fragment(ALICE, later));
        let after = now + Duration::from_secs(2);
        assert_eq!(codes(&hub.receive(ALICE, ICE, after)), ["RATE_LIMITED"], "whenever it ends");
        assert_eq!(codes(&hub.receive(ALICE, ICE, after)), ["relayed"]);
    }

    #[test]
    fn bytes_are_limited() {
        let mut hub = hub();
        let now = Instant::now();
        assert_eq!(hub.receive_bytes(ALICE, 4 * 1024 * 1024, now)[..], []);
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["relayed"]);
        assert_eq!(codes(&hub.receive_bytes(ALICE, 1, now)), ["RATE_LIMITED"]);
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["RATE_LIMITED"]);
        let later = now + Duration::from_secs(1);
        assert_eq!(hub.receive_bytes(ALICE, 100, later)[..], []);
        assert_eq!(codes(&hub.receive(ALICE, ICE, later)), ["relayed"]);
    }

    #[test]
    fn calls_are_limited() {
        let mut hub = hub();
        let now = Instant::now();
        for _ in 0..20 {
            assert_eq!(codes(&hub.receive(ALICE, r#"{"type":"session:create"}"#, now)), ["session:created"]);
            hub.receive(ALICE, r#"{"type":"session:connect","target":"bob"}"#, now);
            hub.receive(ALICE, r#"{"type":"session:join"}"#, now);
        }
        for kind in ["create", "connect", "join"] {
            let text = format!(r#"{{"type":"session:{kind}","target":"bob"}}"#);
            assert_eq!(codes(&hub.receive(ALICE, &text, now)), ["RATE_LIMITED"]);
        }
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["relayed"]);
        assert_eq!(codes(&hub.receive(BOB, r#"{"type":"session:create"}"#, now)), ["session:created"]);
    }

    #[test]
    fn sessions_are_limited() {
        let mut hub = hub_with(Limits { sessions_per_name: 1, ..Limits::default() });
        let now = Instant::now();
        hub.receive(BOB, r#"{"type":"session:create"}"#, now);
        for text in [r#"{"type":"session:create"}"#, r#"{"type":"session:connect","target":"alice"}"#] {
            assert_eq!(codes(&hub.receive(BOB, text, now)), ["RATE_LIMITED"]);
        }
    }

    #[test]
    fn fifty_faults_at_once_close_and_they_fade() {
        let mut hub = hub();
        let start = Instant::now();
        for _ in 0..49 {
            assert_eq!(codes(&hub.receive(ALICE, "x", start)), ["INVALID_MESSAGE"]);
        }
        let later = start + Duration::from_secs(30);
        for _ in 0..30 {
            assert_eq!(codes(&hub.receive_binary(ALICE, later)), ["INVALID_MESSAGE"]);
        }
        assert_eq!(codes(&hub.receive(ALICE, "x", later)), ["INVALID_MESSAGE", "closed 1008"]);
        assert_eq!(hub.counts().errors(ErrorCode::InvalidMessage), 80);
    }

    #[test]
    fn a_heartbeat_of_an_unknown_type_ends_nothing() {
        let mut hub = hub();
        let start = Instant::now();
        for seconds in (0..24 * 3600).step_by(10) {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(codes(&hub.receive(ALICE, r#"{"type":"heartbeat"}"#, now)), ["UNKNOWN_TYPE"], "{seconds} s");
        }
    }

    #[test]
    fn candidates_for_somebody_who_has_just_left_end_nothing_and_cost_no_call() {
        let mut hub = hub();
        let now = Instant::now();
        relay(&mut hub, now);
        hub.disconnect(BOB, Departure::Lost, now);
        for _ in 0..500 {
            assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["RELAY_FAILED"]);
        }
        let create = r#"{"type":"session:create"}"#;
        let created = (0..100).filter(|_| codes(&hub.receive(ALICE, create, now)) == ["session:created"]);
        assert_eq!(created.count(), 60);
    }

    #[test]
    fn callers_that_hang_up_at_once_do_not_cut_the_called() {
        let mut hub = hub();
        let now = Instant::now();
        for number in 0..80 {
            let (conn, name) = (ConnId(100 + number), format!("caller{number}"));
            hub.connect(conn, &name, None, now).unwrap();
            hub.receive(conn, r#"{"type":"session:connect","target":"bob"}"#, now);
            hub.disconnect(conn, Departure::Left, now);
            let answer = format!(r#"{{"type":"key:exchange","target":"{name}"}}"#);
            assert_eq!(codes(&hub.receive(BOB, &answer, now)), ["RELAY_FAILED"]);
        }
        let create = hub.receive(BOB, r#"{"type":"session:create"}"#, now);
        assert_eq!(codes(&create), ["session:created"], "nor take their calls from them");
    }

    #[test]
    fn callers_that_have_hung_up_before_they_are_answered_cost_the_called_nothing() {
        let mut hub = hub();
        let now = Instant::now();
        let connect = r#"{"type":"session:connect","target":"bob"}"#;
        let answer = |hub: &mut Hub, name: &str, now| {
            codes(&hub.receive(BOB, &format!(r#"{{"type":"key:exchange","target":"{name}"}}"#), now)).concat()
        };
        let call = |hub: &mut Hub, number: usize| {
            hub.connect(ConnId(100 + number), &format!("caller{number}"), None, now).unwrap();
            assert_eq!(codes(&hub.receive(ConnId(100 + number), connect, now)), ["session:joined"; 2]);
        };
        (0..200).for_each(|number| call(&mut hub, number));
        (0..200).for_each(|number| hub.disconnect(ConnId(100 + number), Departure::Left, now));
        (200..230).for_each(|number| call(&mut hub, number));
        let later = now + Duration::from_secs(59);
        for number in 0..200 {
            assert_eq!(answer(&mut hub, &format!("caller{number}"), later), "RELAY_FAILED");
        }
        for number in 200..230 {
            assert_eq!(answer(&mut hub, &format!("caller{number}"), later), "relayed", "{number}");
        }
        let created =
            (0..100).filter(|_| codes(&hub.receive(BOB, r#"{"type":"session:create"}"#, later)) == ["session:created"]);
        assert_eq!(created.count(), 60, "it has all its calls");
        // A minute later they are strangers again, and nothing is kept of them.
        let end = now + MEETING;
        hub.tick(end);
        assert_eq!(answer(&mut hub, "caller0", end), "RELAY_FAILED");
        assert_eq!(answer(&mut hub, "caller1", end), "RATE_LIMITED");
        (0..10).for_each(|_| hub.tick(end));
        assert!(hub.meetings.is_empty());
    }

    #[test]
    fn meetings_are_bounded_in_all_and_the_oldest_is_forgotten() {
        let mut hub = hub_with(Limits { meetings: 4, ..Limits::default() });
        let now = Instant::now();
        for number in 0..20 {
            hub.connect(ConnId(100 + number), &format!("caller{number}"), None, now).unwrap();
            hub.receive(ConnId(100 + number), r#"{"type":"session:connect","target":"bob"}"#, now);
        }
        assert_eq!(hub.meetings.len(), 4);
        let contacts = &hub.users.get(&BOB).unwrap().contacts;
        assert!(contacts.have("caller19", now) && !contacts.have("caller1", now));
    }

    #[test]
    fn who_goes_through_a_list_of_names_by_relays_pays_for_each_as_for_a_call() {
        let mut hub = hub();
        let now = Instant::now();
        let ask = |hub: &mut Hub, name: &str| {
            codes(&hub.receive(ALICE, &format!(r#"{{"type":"signal:ice","target":"{name}"}}"#), now)).concat()
        };
        let told = (0..195).filter(|number| ask(&mut hub, &format!("name{number}")) == "RELAY_FAILED");
        assert_eq!(told.count(), 60);
        assert_eq!(ask(&mut hub, "bob"), "RATE_LIMITED", "nor does it tell who is online");
        assert_eq!(codes(&hub.receive(ALICE, r#"{"type":"session:create"}"#, now)), ["RATE_LIMITED"], "one bucket");
        hub.receive(BOB, r#"{"type":"session:connect","target":"alice"}"#, now);
        assert_eq!(ask(&mut hub, "bob"), "relayed", "who is in a session with it is no stranger");
        hub.disconnect(BOB, Departure::Left, now);
        assert_eq!(ask(&mut hub, "bob"), "RELAY_FAILED");
    }

    #[test]
    fn who_goes_through_a_list_of_names_over_many_connections_is_held_by_the_address() {
        let now = Instant::now();
        let told = |limits: Limits, kind: &str, place: Option<&str>| {
            let mut hub = hub_with(limits);
            let mut told = 0;
            for conn in (100..300).map(ConnId) {
                hub.connect(conn, &format!("prober{}", conn.0), None, now).unwrap();
                hub.locate(conn, place.map(|place| place.parse().unwrap()));
                for number in 0..60 {
                    let text = format!(r#"{{"type":"{kind}","target":"name{}-{number}"}}"#, conn.0);
                    let answer = codes(&hub.receive(conn, &text, now)).concat();
                    told += usize::from(answer == "USER_OFFLINE" || answer == "RELAY_FAILED");
                }
                hub.disconnect(conn, Departure::Left, now);
            }
            hub.connect(CAROL, "carol", None, now).unwrap();
            hub.locate(CAROL, place.map(|place| place.parse().unwrap()));
            (told, codes(&hub.receive(CAROL, &format!(r#"{{"type":"{kind}","target":"bob"}}"#), now)).concat())
        };
        for (kind, answer) in [("session:connect", "session:joinedsession:joined"), ("signal:ice", "relayed")] {
            let limited = told(Limits::default(), kind, Some("192.0.2.1"));
            assert_eq!(limited, (600, "RATE_LIMITED".to_owned()), "{kind}: nor does it tell who is online");
            assert_eq!(told(Limits::default(), kind, None), (12_000, answer.to_owned()), "{kind} on this machine");
            let lifted = told(Limits::default().without_rates(), kind, Some("192.0.2.1"));
            assert_eq!(lifted, (12_000, answer.to_owned()), "{kind} without limits");
        }
    }

    #[test]
    fn an_address_that_has_asked_too_much_still_reaches_its_contacts() {
        let rate = Rate { amount: 1, per: Duration::from_secs(1), burst: 1 };
        let mut hub = hub_with(Limits { misses: Some(rate), ..Limits::default() });
        let now = Instant::now();
        let place = "2001:db8::".parse().ok();
        hub.locate(ALICE, place);
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["relayed"]);
        let call = |target: &str| format!(r#"{{"type":"session:connect","target":"{target}"}}"#);
        assert_eq!(codes(&hub.receive(ALICE, &call("nobody"), now)), ["USER_OFFLINE"]);
        assert_eq!(codes(&hub.receive(ALICE, &call("somebody"), now)), ["RATE_LIMITED"]);
        assert_eq!(codes(&hub.receive(ALICE, &call("bob"), now)), ["session:joined", "session:joined"]);
        let later = now + Duration::from_secs(1);
        assert_eq!(codes(&hub.receive(ALICE, &call("somebody"), later)), ["USER_OFFLINE"]);
    }

    #[test]
    fn asking_for_somebody_who_is_not_online_is_no_mistake() {
        let mut hub = hub();
        let mut now = Instant::now();
        for _ in 0..200 {
            let text = r#"{"type":"session:connect","target":"nobody"}"#;
            assert_eq!(codes(&hub.receive(ALICE, text, now)), ["USER_OFFLINE"]);
            now += Duration::from_secs(2);
        }
    }

    #[test]
    fn who_sends_to_somebody_who_does_not_read_is_told() {
        let mut hub = hub();
        let outputs = hub.undelivered(ALICE, BOB, Instant::now());
        assert_eq!(codes(&outputs), ["RELAY_FAILED"]);
        let [Output::Send { to: ALICE, text }] = &outputs[..] else { panic!() };
        assert!(text.contains(r#""target":"bob""#), "{text}");
    }
}
