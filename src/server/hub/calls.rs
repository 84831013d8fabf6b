//! How two users come together: sessions, and who has met whom by one. Pure.

use std::rc::Rc;
use std::time::Instant;

use uuid::Uuid;

use super::output::{only, send};
use super::{Hub, Output, Outputs};
use crate::protocol::{Created, ErrorCode, Joined, MessageType};
use crate::server::ids::ConnId;
use crate::server::nodes::Ask;

impl Hub {
    pub(super) fn session_connect(&mut self, conn: ConnId, target: Option<&str>, now: Instant) -> Outputs<'static> {
        let Some(sender) = self.name_of(conn) else { return Outputs::new() };
        if !self.charge_call(conn, now) {
            return self.rate_limited(conn, target, now);
        }
        let Some(target) = target else {
            return self.error(conn, ErrorCode::MissingTarget, "session:connect needs a target", None, now);
        };
        if *target == *sender {
            return self.error(conn, ErrorCode::InvalidTarget, "you cannot connect to yourself", Some(target), now);
        }
        let place = match self.users.get(&conn) {
            Some(user) if !user.has_contact(target, now) => user.place,
            _ => None,
        };
        if !self.misses.are_left(place, now) {
            return self.rate_limited(conn, Some(target), now);
        }
        let Some(other) = self.names.online_at(target) else {
            if self.is_in_cluster() {
                return self.connect_elsewhere(conn, &sender, target, place.is_some(), now);
            }
            self.misses.note(place, now);
            return self.error(conn, ErrorCode::UserOffline, "the user is not online", Some(target), now);
        };
        let id = (self.new_session_id)();
        if self.sessions.connect(id, &sender, now).is_err() {
            return self.rate_limited(conn, Some(target), now);
        }
        self.introduce(conn, other, now);
        [self.joined(conn, &sender, id, target), self.joined(other, target, id, &sender)].into()
    }

    pub(super) fn session_create(&mut self, conn: ConnId, now: Instant) -> Outputs<'static> {
        let Some(sender) = self.name_of(conn) else { return Outputs::new() };
        let id = (self.new_session_id)();
        if !self.charge_call(conn, now) || self.sessions.create(id, &sender, now).is_err() {
            return self.rate_limited(conn, None, now);
        }
        if self.is_in_cluster() {
            self.ask(Ask::Create { conn, id, creator: sender });
            return Outputs::new();
        }
        only(Self::created(conn, id))
    }

    /// Tells `conn` of the session that it has created.
    pub(super) fn created(conn: ConnId, id: Uuid) -> Output<'static> {
        send(conn, MessageType::SessionCreated, &Created { session_id: id.to_string() })
    }

    pub(super) fn session_join(&mut self, conn: ConnId, id: Option<&str>, now: Instant) -> Outputs<'static> {
        let Some(sender) = self.name_of(conn) else { return Outputs::new() };
        if !self.charge_call(conn, now) {
            return self.rate_limited(conn, None, now);
        }
        let Some(id) = id else {
            return self.error(conn, ErrorCode::MissingSessionId, "session:join needs a sessionId", None, now);
        };
        let Ok(id) = Uuid::parse_str(id) else {
            return self.error(conn, ErrorCode::InvalidSessionId, "the sessionId is no UUID", None, now);
        };
        if self.is_in_cluster() {
            self.ask(Ask::Join { conn, id, joiner: sender });
            return Outputs::new();
        }
        match self.sessions.join(id, &sender, now) {
            Ok(creator) => {
                let mut outputs = only(self.joined(conn, &sender, id, &creator));
                // A creator who is offline for the moment is not told of it, now or later.
                if let Some(other) = self.names.online_at(&creator) {
                    self.introduce(conn, other, now);
                    outputs.push(self.joined(other, &creator, id, &sender));
                }
                outputs
            }
            Err(cause) => self.error(conn, ErrorCode::SessionJoinFailed, &cause.to_string(), None, now),
        }
    }

    /// Makes two users contacts of each other.
    pub(super) fn introduce(&mut self, one: ConnId, other: ConnId, now: Instant) {
        for (conn, met) in [(one, other), (other, one)] {
            if let Some(name) = self.name_of(met) {
                self.meet(conn, &name, now);
            }
        }
    }

    /// Makes a name a contact of the user of `conn`.
    pub(super) fn meet(&mut self, conn: ConnId, name: &Rc<str>, now: Instant) {
        if let Some(user) = self.users.get_mut(&conn) {
            user.conduct().contacts.joined_with(name, self.meetings.set((conn, name.clone()), now));
        }
        while self.meetings.len() > self.limits.meetings
            && let Some((due, (conn, name))) = self.meetings.pop()
        {
            self.forget_meeting(conn, &name, due);
        }
    }

    pub(super) fn forget_meeting(&mut self, conn: ConnId, name: &str, end: Instant) {
        if let Some(user) = self.users.get_mut(&conn) {
            user.forget_contact(name, end);
        }
    }

    /// Tells `username` at `to` of a session with `peer`.
    pub(super) fn joined(&self, to: ConnId, username: &str, id: Uuid, peer: &str) -> Output<'static> {
        let ice_servers = match &self.turn_servers {
            Some((turn_servers, unix_time)) => {
                let place = self.users.get(&to).and_then(|user| user.place);
                turn_servers.servers(username, place, unix_time())
            }
            None => Vec::new(),
        };
        send(to, MessageType::SessionJoined, &Joined { session_id: id.to_string(), peer: peer.to_owned(), ice_servers })
    }

    fn name_of(&self, conn: ConnId) -> Option<Rc<str>> {
        self.users.get(&conn).map(|user| user.name.clone())
    }

    fn charge_call(&mut self, conn: ConnId, now: Instant) -> bool {
        self.users.get_mut(&conn).is_some_and(|user| user.conduct().calls.take(1, self.limits.calls, now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{ALICE, BOB, CAROL, ICE, ID, TTL, codes, forward, hub, hub_with, joined_text, to};
    use super::super::{Departure, MEETING};
    use super::*;
    use crate::server::limits::Limits;
    use crate::server::turn_servers::{TurnSecret, TurnServers};

    #[test]
    fn a_connect_opens_a_session_and_tells_both() {
        let outputs = hub().receive(ALICE, r#"{"type":"session:connect","target":"bob"}"#, Instant::now());
        assert_eq!(outputs[..], [to(ALICE, &joined_text("bob")), to(BOB, &joined_text("alice"))]);
    }

    #[test]
    fn each_user_of_a_session_is_told_of_the_turn_servers_with_credentials_of_its_own() {
        let secret = TurnSecret::new("s3cret").unwrap();
        let turn_servers = TurnServers::new(vec!["turn:turn.example".to_owned()], secret, Duration::from_secs(60));
        let mut hub = hub().with_turn_servers(Some(turn_servers.clone()), || 1000);
        let place = "192.0.2.1".parse().unwrap();
        hub.locate(BOB, Some(place));
        let expected = |name: &str, peer: &str| {
            let place = (name == "bob").then_some(place);
            let servers = serde_json::to_string(&turn_servers.servers(name, place, 1000)).unwrap();
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
    fn sessions_end_with_the_tick() {
        let mut hub = hub();
        let now = Instant::now();
        hub.receive(ALICE, r#"{"type":"session:create"}"#, now);
        assert_eq!((hub.sessions(), hub.next_deadline()), (1, Some(now + TTL)));
        hub.tick(now + TTL);
        assert_eq!((hub.sessions(), hub.next_deadline()), (0, None));
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
    fn candidates_for_somebody_who_has_just_left_end_nothing_and_cost_no_call() {
        let mut hub = hub();
        let now = Instant::now();
        forward(&mut hub, now);
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
            assert_eq!(answer(&mut hub, &format!("caller{number}"), later), "forwarded", "{number}");
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
        let bob = hub.users.get(&BOB).unwrap();
        assert!(bob.has_contact("caller19", now) && !bob.has_contact("caller1", now));
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
}
