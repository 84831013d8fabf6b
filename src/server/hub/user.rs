//! One user who is online: its name, and what it has done of what it may do in how much time. Pure.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use crate::bucket::Bucket;
use crate::server::contacts::Contacts;
use crate::server::ids::ConnId;
use crate::server::limits::Limits;
use crate::server::strikes::Strikes;

/// A user who is online. There may be a million, and most never send anything: what only senders need stands in their
/// [`Conduct`], which is made when it is first needed.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: Rc<str>,
    /// The place by which it is counted. `None` is this machine, where nobody is counted, or that it was not said yet.
    pub(super) place: Option<IpAddr>,
    /// To whom its last message went, who is mostly meant by the next one, too.
    pub(super) last_target: ConnId,
    pub(super) websocket_frames: Bucket,
    pub(super) bytes: Bucket,
    /// More was read than `bytes` allows, or in more fragments than `websocket_frames` does: the message that it
    /// belongs to is refused, whenever it is complete.
    pub(super) has_too_much: bool,
    conduct: Option<Box<Conduct>>,
}

/// What the server remembers of a user that has sent something.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    pub(super) calls: Bucket,
    /// How often it is told that this is too much.
    pub(super) refusals: Bucket,
    pub(super) strikes: Strikes,
    pub(super) contacts: Contacts,
}

impl User {
    /// Nobody has said anything yet.
    pub(super) fn new(conn: ConnId, name: Rc<str>) -> Self {
        Self {
            name,
            place: None,
            last_target: conn,
            websocket_frames: Bucket::default(),
            bytes: Bucket::default(),
            has_too_much: false,
            conduct: None,
        }
    }

    /// What it has done, to be added to.
    pub(super) fn conduct(&mut self) -> &mut Conduct {
        self.conduct.get_or_insert_default()
    }

    /// Whether it may call once more.
    pub(super) fn has_call(&self, limits: &Limits, now: Instant) -> bool {
        self.conduct.as_ref().map_or(Bucket::default(), |conduct| conduct.calls).holds(1, limits.calls, now)
    }

    /// Whether it has lately had to do with this name.
    pub(super) fn has_contact(&self, name: &str, now: Instant) -> bool {
        self.conduct.as_ref().is_some_and(|conduct| conduct.contacts.have(name, now))
    }

    /// Forgets that the name was met, unless that counts for longer than until `end`.
    pub(super) fn forget_contact(&mut self, name: &str, end: Instant) {
        if let Some(conduct) = &mut self.conduct {
            conduct.contacts.forget(name, end);
        }
    }

    /// Counts one message, ping or pong, and returns whether it is to be served.
    #[inline]
    pub(super) fn charge_websocket_frame(&mut self, limits: &Limits, now: Instant) -> bool {
        let has_too_much = std::mem::take(&mut self.has_too_much);
        self.websocket_frames.take(1, limits.websocket_frames, now) && !has_too_much
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{ALICE, BOB, CAROL, ICE, codes, forward, hub, hub_with};
    use super::super::{Departure, Hub};
    use super::*;
    use crate::protocol::ErrorCode;
    use crate::server::limits::Rate;

    #[test]
    fn the_byte_rate_is_not_got_round_by_a_last_byte_that_fits() {
        let mut hub = hub();
        let now = Instant::now();
        hub.receive_bytes(ALICE, 4 * 1024 * 1024, now);
        assert_eq!(codes(&hub.receive_bytes(ALICE, 60_000, now)), ["RATE_LIMITED"]);
        let later = now + Duration::from_millis(1);
        assert_eq!(hub.receive_bytes(ALICE, 1, later)[..], []);
        assert_eq!(codes(&hub.receive(ALICE, ICE, later)), ["RATE_LIMITED"], "the message is as long as it is");
        assert_eq!(codes(&hub.receive(ALICE, ICE, later)), ["forwarded"]);
    }

    #[test]
    fn messages_and_pings_are_limited_and_what_is_over_is_not_delivered() {
        let mut hub = hub();
        let now = Instant::now();
        for _ in 0..1000 {
            assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["forwarded"]);
            assert_eq!(hub.receive_control(ALICE, now)[..], []);
        }
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["RATE_LIMITED"]);
        assert_eq!(codes(&hub.receive_control(ALICE, now)), ["RATE_LIMITED"]);
        assert_eq!(codes(&hub.receive_binary(ALICE, now)), ["RATE_LIMITED"]);
        assert_eq!(codes(&hub.receive(BOB, r#"{"type":"signal:ice","target":"alice"}"#, now)), ["forwarded"]);
        let later = now + Duration::from_secs(1);
        forward(&mut hub, later);
        for _ in 0..199 {
            hub.receive(ALICE, ICE, later);
        }
        for _ in 0..900 {
            assert_eq!(codes(&hub.receive(ALICE, ICE, later)), ["RATE_LIMITED"]);
        }
        let floods = (0..10_000).map(|_| codes(&hub.receive(ALICE, ICE, later))).filter(|codes| !codes.is_empty());
        assert!(floods.count() < 200, "who goes on is told no more of it, and is not closed");
        assert_eq!(codes(&hub.receive(ALICE, ICE, later + Duration::from_secs(1))), ["forwarded"]);
    }

    #[test]
    fn a_message_in_more_fragments_than_may_be_is_not_delivered() {
        let mut hub = hub();
        let now = Instant::now();
        (0..1999).for_each(|_| hub.receive_fragment(ALICE, now));
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["forwarded"], "the last of two thousand");
        let later = now + Duration::from_secs(1);
        (0..201).for_each(|_| hub.receive_fragment(ALICE, later));
        let after = now + Duration::from_secs(2);
        assert_eq!(codes(&hub.receive(ALICE, ICE, after)), ["RATE_LIMITED"], "whenever it ends");
        assert_eq!(codes(&hub.receive(ALICE, ICE, after)), ["forwarded"]);
    }

    #[test]
    fn bytes_are_limited() {
        let mut hub = hub();
        let now = Instant::now();
        assert_eq!(hub.receive_bytes(ALICE, 4 * 1024 * 1024, now)[..], []);
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["forwarded"]);
        assert_eq!(codes(&hub.receive_bytes(ALICE, 1, now)), ["RATE_LIMITED"]);
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["RATE_LIMITED"]);
        let later = now + Duration::from_secs(1);
        assert_eq!(hub.receive_bytes(ALICE, 100, later)[..], []);
        assert_eq!(codes(&hub.receive(ALICE, ICE, later)), ["forwarded"]);
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
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["forwarded"]);
        assert_eq!(codes(&hub.receive(BOB, r#"{"type":"session:create"}"#, now)), ["session:created"]);
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
    fn who_goes_through_a_list_of_names_by_messages_pays_for_each_as_for_a_call() {
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
        assert_eq!(ask(&mut hub, "bob"), "forwarded", "who is in a session with it is no stranger");
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
        for (kind, answer) in [("session:connect", "session:joinedsession:joined"), ("signal:ice", "forwarded")] {
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
        assert_eq!(codes(&hub.receive(ALICE, ICE, now)), ["forwarded"]);
        let call = |target: &str| format!(r#"{{"type":"session:connect","target":"{target}"}}"#);
        assert_eq!(codes(&hub.receive(ALICE, &call("nobody"), now)), ["USER_OFFLINE"]);
        assert_eq!(codes(&hub.receive(ALICE, &call("somebody"), now)), ["RATE_LIMITED"]);
        assert_eq!(codes(&hub.receive(ALICE, &call("bob"), now)), ["session:joined", "session:joined"]);
        let later = now + Duration::from_secs(1);
        assert_eq!(codes(&hub.receive(ALICE, &call("somebody"), later)), ["USER_OFFLINE"]);
    }
}
