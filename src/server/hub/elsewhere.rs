//! The hub as one of several: who is online at another node is looked for there, and a name is claimed from all. What
//! is asked waits in [`Hub::next_ask`]; answers go into [`Hub::answered`], word of nodes into [`Hub::arrived`]. Pure.
//!
//! A target that is online here is served here, whatever is with the others. Trouble with the database is no mistake of
//! a client: it ends nobody, and what was paid for an answer that did not come is given back.

use std::rc::Rc;
use std::time::Instant;

use uuid::Uuid;

use super::output::{AWAY, NO_ROOM, OFFLINE, RemoteMessage, close, no_outputs, only};
use super::remote::{CLAIM_TIME, Claim, Held, Marks, Remote};
use super::user::User;
use super::{Forwarded, GOING_AWAY, Hub, Output, Outputs, Refused};
use crate::protocol::{ErrorCode, REPLACED};
use crate::server::ids::ConnId;
use crate::server::nodes::{
    Answer, Arrival, Ask, Dispatch, Found, NodeId, NotCreated, NotJoined, Parcel, ParcelRef, Passed, Seek, Sender,
    Undelivered, Verdict,
};
use crate::server::sessions::JoinError;

impl Hub {
    /// Makes it one of several, which cannot be asked yet.
    pub fn in_cluster(self) -> Self {
        Self { remote: Some(Box::new(Remote::new())), ..self }
    }

    /// Whether it is one of several.
    pub(crate) fn is_in_cluster(&self) -> bool {
        self.remote().is_some()
    }

    /// The next question for the others, and the texts that `Ask::Pass` points into.
    pub fn next_ask(&mut self) -> Option<(Ask, &[u8])> {
        self.remote_mut()?.next_ask()
    }

    /// Asks all others whether `conn` may have `username`. It is let in or refused by a later output, within some
    /// seconds.
    pub fn claim(&mut self, conn: ConnId, username: &str, token: Option<&str>, now: Instant) -> Outputs<'static> {
        let Some(remote) = self.remote_mut() else { return no_outputs() };
        let is_away = remote.away_since.is_some_and(|since| since + CLAIM_TIME <= now);
        if is_away || remote.claims.len() >= MAX_CLAIMS {
            return only(Output::Refuse { conn, cause: Refused::Away });
        }
        let claim = Claim { name: username.into(), token: token.map(Rc::from), is_asked: false };
        remote.claims.insert(conn, claim);
        remote.ends.set(conn, now);
        remote.ask_claim(conn);
        no_outputs()
    }

    /// Makes claims again that are to be made again, as many as one turn has time for.
    pub(crate) fn retry_claims(&mut self, now: Instant) {
        let Some(remote) = self.remote_mut() else { return };
        for _ in 0..CLAIMS_PER_TURN {
            let Some(conn) = remote.retries.pop_due(now) else { break };
            remote.ask_claim(conn);
        }
    }

    /// Somebody who has waited for a name for too long. Most have theirs by then: it looks at some, and there may be
    /// more where [`next_deadline`](Self::next_deadline) is in the past.
    pub(crate) fn overdue_claim(&mut self, now: Instant) -> Option<Output<'static>> {
        let remote = self.remote_mut()?;
        for _ in 0..ENDS_PER_CALL {
            let conn = remote.ends.pop_due(now)?;
            if remote.claims.remove(&conn).is_some() {
                return Some(Output::Refuse { conn, cause: Refused::Away });
            }
        }
        None
    }

    /// The database can be asked again, by the node that this is. All names are to be marked. Claims that wait are made
    /// again when each is due (`retry_claims`).
    pub fn database_is_back(&mut self, node: NodeId) {
        let Some(remote) = self.remote_mut() else { return };
        remote.away_since = None;
        remote.node = Some(node);
        self.begin_marks();
    }

    /// The database cannot be asked any more.
    pub fn database_is_away(&mut self, now: Instant) {
        let Some(remote) = self.remote_mut() else { return };
        remote.away_since = Some(now);
        remote.marks = None;
    }

    /// Whether it could not be asked for so long that nobody new should be sent here.
    pub fn is_cut_off(&self, now: Instant) -> bool {
        self.remote().and_then(|remote| remote.away_since).is_some_and(|since| since + CLAIM_TIME <= now)
    }

    /// All names are to be marked, by [`mark`](Self::mark).
    pub(crate) fn begin_marks(&mut self) {
        if let Some(remote) = self.remote_mut() {
            remote.marks = Some(Marks::default());
        }
    }

    /// Asks for `count` names at most to be marked, and returns whether there are more.
    pub fn mark(&mut self, count: usize) -> bool {
        let Self { remote: Some(remote), users, .. } = self else { return false };
        let Remote { marks: Some(marks), held, asks, .. } = &mut **remote else { return false };
        for _ in 0..count {
            while marks.queue.is_empty() {
                let Some(shard) = held.shard(marks.shard) else {
                    remote.marks = None;
                    return false;
                };
                marks.shard += 1;
                marks.queue.extend(shard.copied());
            }
            if let Some(conn) = marks.queue.pop()
                && let (Some(user), Some(Held { token, since })) = (users.get(&conn), held.get(&conn))
            {
                asks.push_back(Ask::Mark { conn, name: user.name.clone(), token: token.clone(), since: *since });
            }
        }
        true
    }

    /// These nodes are there, and no others. Routes that lead elsewhere are not used any more.
    #[cfg(any(test, feature = "cluster"))]
    pub(crate) fn nodes_are(&mut self, alive: Vec<NodeId>) {
        if let Some(remote) = self.remote_mut() {
            remote.alive = alive;
        }
    }

    /// Takes an answer.
    pub fn answered(&mut self, answer: Answer, now: Instant) -> Outputs<'static> {
        match answer {
            Answer::Claimed { conn, name, verdict } => self.claimed(conn, name, verdict, now),
            Answer::Marked { conn, is_ours: Some(false) } => self.replaced(conn),
            Answer::Marked { .. } => no_outputs(),
            Answer::Sought { seek, found } => self.sought(*seek, found, now),
            Answer::Passed(passed) => {
                passed.iter().for_each(|passed| self.counts.forwarded[passed.kind as usize] += 1);
                no_outputs()
            }
            Answer::NotPassed { passed: Passed { from, target, .. }, is_certain } => {
                if let Some(remote) = self.remote_mut() {
                    remote.forget_route(from, &target);
                }
                let message = if is_certain { OFFLINE } else { AWAY };
                self.error(from, ErrorCode::RelayFailed, message, Some(&target), now)
            }
            Answer::Created { conn, id, outcome: Ok(()) } => only(Self::created(conn, id)),
            Answer::Created { conn, id, outcome: Err(cause) } => {
                self.sessions.cancel(id);
                let message = if cause == NotCreated::Full { NO_ROOM } else { AWAY };
                self.error(conn, ErrorCode::RateLimited, message, None, now)
            }
            Answer::Joined { conn, id, outcome } => self.joined_by(conn, id, outcome, now),
        }
    }

    /// Takes word of another node.
    pub fn arrived<'a>(&mut self, dispatch: Dispatch<'a>, now: Instant) -> Outputs<'a> {
        match dispatch {
            Dispatch::Parcel(arrival) => self.parcel(arrival, now),
            Dispatch::Replaced(conn) => self.replaced(conn),
            Dispatch::Undelivered { to, target, reason } => {
                if let Some(remote) = self.remote_mut() {
                    remote.forget_route(to, target);
                }
                let message = match reason {
                    Undelivered::Offline => OFFLINE,
                    Undelivered::Unread => "the user does not read",
                };
                self.error(to, ErrorCode::RelayFailed, message, Some(target), now)
            }
        }
    }

    /// Tells the other node that its message found no room here.
    pub(crate) fn remote_not_queued(&mut self, message: &RemoteMessage<'_>) {
        if let Some(remote) = self.remote_mut() {
            let (to, target) = (message.from, message.target.into());
            remote.asks.push_back(Ask::Tell { to, target, reason: Undelivered::Unread });
        }
    }

    /// Learns that the user of `conn` is gone, whose name was `name`.
    pub(super) fn release(&mut self, conn: ConnId, name: Rc<str>, is_free: bool) {
        if let Some(remote) = self.remote_mut() {
            remote.forget(conn);
            remote.asks.push_back(Ask::Release { conn, name, is_free });
        }
    }

    /// Learns that somebody is gone who may have waited for a name.
    pub(super) fn drop_claim(&mut self, conn: ConnId) {
        if let Some(remote) = self.remote_mut() {
            remote.claims.remove(&conn);
        }
    }

    /// Forwards a message to somebody who is not here.
    pub(super) fn forward_elsewhere(
        &mut self,
        from: ConnId,
        message: &Forwarded<'_>,
        target: &str,
        is_stranger: bool,
        now: Instant,
    ) -> Outputs<'static> {
        let Some(remote) = self.remote.as_deref_mut() else { return no_outputs() };
        let kind = message.kind;
        if let Some((target, to)) = remote.route(from, target) {
            let start = remote.texts.len();
            message.write(&mut remote.texts);
            remote.asks.push_back(Ask::Pass { to, from, target, kind, text: start..remote.texts.len() });
            return no_outputs();
        }
        let mut text = Vec::new();
        message.write(&mut text);
        let target = Rc::from(target);
        if is_stranger && let Some(user) = self.users.get_mut(&from) {
            user.conduct().calls.take(1, self.limits.calls, now);
            self.misses.note(user.place, now);
        }
        let parcel = Parcel::Message { kind, text };
        let seek = Seek { from: Sender::Here(from), target, is_stranger, is_call: false, parcel };
        remote.asks.push_back(Ask::Seek(Box::new(seek)));
        no_outputs()
    }

    /// Opens a session with somebody who is not here.
    pub(super) fn connect_elsewhere(
        &mut self,
        from: ConnId,
        sender: &Rc<str>,
        target: &str,
        is_stranger: bool,
        now: Instant,
    ) -> Outputs<'static> {
        let id = (self.new_session_id)();
        if self.sessions.connect(id, sender, now).is_err() {
            return self.rate_limited(from, Some(target), now);
        }
        if is_stranger {
            let place = self.users.get(&from).and_then(|user| user.place);
            self.misses.note(place, now);
        }
        let parcel = Parcel::Joined { id, peer: sender.clone() };
        let target = Rc::from(target);
        let seek = Seek { from: Sender::Here(from), target, is_stranger, is_call: true, parcel };
        self.ask(Ask::Seek(Box::new(seek)));
        no_outputs()
    }

    /// Asks the others.
    pub(super) fn ask(&mut self, ask: Ask) {
        if let Some(remote) = self.remote_mut() {
            remote.asks.push_back(ask);
        }
    }

    fn claimed(&mut self, conn: ConnId, name: Rc<str>, verdict: Verdict, now: Instant) -> Outputs<'static> {
        let Some(remote) = self.remote.as_deref_mut() else { return no_outputs() };
        let Some(claim) = remote.claims.get_mut(&conn) else {
            // Nobody waits for it any more.
            if let Verdict::Yes { .. } = verdict {
                remote.asks.push_back(Ask::Release { conn, name, is_free: false });
            }
            return no_outputs();
        };
        match verdict {
            Verdict::Yes { since, has_replaced } => {
                let token = claim.token.take();
                remote.claims.remove(&conn);
                remote.held.insert(conn, Held { token, since });
                let mut outputs = only(Output::Admit { conn, has_replaced });
                if let Some(replaced) = self.names.give(&name, conn) {
                    self.users.remove(&replaced);
                    remote.forget(replaced);
                    outputs.push(close(replaced, GOING_AWAY, REPLACED));
                }
                self.users.insert(conn, User::new(conn, name));
                outputs
            }
            Verdict::Taken | Verdict::Full => {
                remote.claims.remove(&conn);
                let cause = if verdict == Verdict::Full { Refused::Full } else { Refused::Taken };
                only(Output::Refuse { conn, cause })
            }
            // It is asked again in a moment.
            Verdict::Later | Verdict::Away => {
                claim.is_asked = false;
                remote.retries.set(conn, now);
                no_outputs()
            }
        }
    }

    fn sought(&mut self, seek: Seek, found: Found, now: Instant) -> Outputs<'static> {
        let Seek { from, target, is_stranger, is_call, parcel } = seek;
        let conn = match from {
            Sender::Here(conn) => conn,
            Sender::There(to) => {
                if let (Parcel::Message { .. }, Found::Nowhere | Found::Away) = (&parcel, found) {
                    self.ask(Ask::Tell { to, target, reason: Undelivered::Offline });
                }
                return no_outputs();
            }
        };
        if is_stranger
            && found != Found::Nowhere
            && let Some(user) = self.users.get_mut(&conn)
        {
            // It was paid for as for somebody who is not online.
            if !is_call {
                user.conduct().calls.give_back(1, self.limits.calls);
            }
            self.misses.give_back(user.place);
        }
        if let (Found::At(route), Some(user)) = (found, self.users.get_mut(&conn)) {
            user.conduct().contacts.sent_to(&target);
            if let Some(remote) = self.remote_mut() {
                remote.learn(conn, &target, route);
            }
        }
        let message = if found == Found::Away { AWAY } else { OFFLINE };
        match (parcel, found) {
            (Parcel::Message { kind, .. }, Found::At(_)) => {
                self.counts.forwarded[kind as usize] += 1;
                no_outputs()
            }
            (Parcel::Message { .. }, _) => self.error(conn, ErrorCode::RelayFailed, message, Some(&target), now),
            (Parcel::Joined { id, peer }, Found::At(_)) if is_call => {
                self.meet(conn, &target, now);
                only(self.joined(conn, &peer, id, &target))
            }
            (Parcel::Joined { id, .. }, _) if is_call => {
                self.sessions.cancel(id);
                self.error(conn, ErrorCode::UserOffline, message, Some(&target), now)
            }
            // A creator who is offline for the moment is not told of it, now or later.
            _ => no_outputs(),
        }
    }

    fn joined_by(
        &mut self,
        conn: ConnId,
        id: Uuid,
        outcome: Result<String, NotJoined>,
        now: Instant,
    ) -> Outputs<'static> {
        let Some(name) = self.users.get(&conn).map(|user| user.name.clone()) else { return no_outputs() };
        let creator: Rc<str> = match outcome {
            Ok(creator) => creator.into(),
            Err(cause) => {
                let message = match cause {
                    NotJoined::NotFound => JoinError::NotFound.to_string(),
                    NotJoined::Full => JoinError::Full.to_string(),
                    NotJoined::AlreadyIn => JoinError::AlreadyIn.to_string(),
                    NotJoined::Away => AWAY.to_owned(),
                };
                return self.error(conn, ErrorCode::SessionJoinFailed, &message, None, now);
            }
        };
        let mut outputs = only(self.joined(conn, &name, id, &creator));
        if let Some(other) = self.names.online_at(&creator) {
            self.introduce(conn, other, now);
            outputs.push(self.joined(other, &creator, id, &name));
            return outputs;
        }
        self.meet(conn, &creator, now);
        let parcel = Parcel::Joined { id, peer: name };
        let seek = Seek { from: Sender::Here(conn), target: creator, is_stranger: false, is_call: false, parcel };
        self.ask(Ask::Seek(Box::new(seek)));
        outputs
    }

    fn parcel<'a>(&mut self, arrival: Arrival<'a>, now: Instant) -> Outputs<'a> {
        let Arrival { to, from, via, target, parcel } = arrival;
        // A connection has one name for life, so whoever is there is meant. Else the user may have come back.
        let to = if self.users.get(&to).is_some() { Some(to) } else { self.names.online_at(target) };
        let Some(to) = to else {
            let target = target.into();
            match parcel {
                parcel if via.is_none() => {
                    let (from, parcel) = (Sender::There(from), parcel.into_owned());
                    let seek = Seek { from, target, is_stranger: false, is_call: false, parcel };
                    self.ask(Ask::Seek(Box::new(seek)));
                }
                ParcelRef::Message { .. } => self.ask(Ask::Tell { to: from, target, reason: Undelivered::Offline }),
                ParcelRef::Joined { .. } => {}
            }
            return no_outputs();
        };
        match parcel {
            // A newer one may have come already. Messages stay in order, so the sender is told that this one is lost.
            ParcelRef::Message { .. } if self.remote_mut().is_some_and(|remote| remote.note_is_late(to, from, via)) => {
                self.ask(Ask::Tell { to: from, target: target.into(), reason: Undelivered::Offline });
                no_outputs()
            }
            ParcelRef::Message { text, .. } => {
                only(Output::ForwardRemote { to, message: RemoteMessage { from, target, text } })
            }
            ParcelRef::Joined { id, peer } => {
                let Some(name) = self.users.get(&to).map(|user| user.name.clone()) else { return no_outputs() };
                let peer = peer.into();
                self.meet(to, &peer, now);
                if let Some(remote) = self.remote_mut() {
                    remote.learn(to, &peer, from);
                }
                only(self.joined(to, &name, id, &peer))
            }
        }
    }

    /// The name of `conn` is another's.
    fn replaced(&mut self, conn: ConnId) -> Outputs<'static> {
        let Some(User { name, .. }) = self.users.remove(&conn) else { return no_outputs() };
        if let Some(remote) = self.remote_mut() {
            remote.forget(conn);
        }
        if self.names.online_at(&name) == Some(conn) {
            self.names.remove(&name);
        }
        only(close(conn, GOING_AWAY, REPLACED))
    }

    /// What is known of the cluster. In a build without one that is nothing, and all that would need it is left out.
    pub(super) fn remote(&self) -> Option<&Remote> {
        if cfg!(feature = "cluster") { self.remote.as_deref() } else { None }
    }

    pub(super) fn remote_mut(&mut self) -> Option<&mut Remote> {
        if cfg!(feature = "cluster") { self.remote.as_deref_mut() } else { None }
    }
}

/// Those who may wait for a name at once, each with some early bytes.
const MAX_CLAIMS: usize = 10_000;

/// Ends of claims that are looked at in one call, at some ten nanoseconds each.
pub(super) const ENDS_PER_CALL: usize = 256;

/// Claims that one turn makes again, at some three microseconds each.
const CLAIMS_PER_TURN: usize = 128;
