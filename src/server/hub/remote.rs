//! What a hub knows of the cluster that it is in: who waits for a name, by what names are held, and where the targets
//! of messages are. What is to be asked waits in a queue. Pure.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::server::deadlines::Deadlines;
use crate::server::ids::{ByConn, ConnId};
use crate::server::nodes::{Ask, NodeId, Route, Since};

/// What a hub knows of the cluster that it is in.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) asks: VecDeque<Ask>,
    /// What the messages among them say, one behind the other: a piece of memory for each would cost time.
    pub(super) texts: Vec<u8>,
    pub(super) claims: ByConn<Claim>,
    /// When a claim is asked again.
    pub(super) retries: Deadlines<ConnId>,
    /// When somebody has waited long enough for a name.
    pub(super) ends: Deadlines<ConnId>,
    /// By what the users who are online here hold their names.
    pub(super) held: ByConn<Held>,
    /// Where the targets of each user's last messages are.
    pub(super) routes: ByConn<Vec<(Rc<str>, Route)>>,
    /// The last senders of each user, each with the node that has sent its message on, if it did not come
    /// directly (see [`Arrival`](crate::server::nodes::Arrival)).
    reached: ByConn<Vec<(Route, Option<NodeId>)>>,
    /// Which node this is, once the database could be asked.
    pub(super) node: Option<NodeId>,
    /// The nodes that are there. There may be a million routes, so they are not all gone through when one is gone.
    pub(super) alive: Vec<NodeId>,
    /// Since when the database cannot be asked.
    pub(super) away_since: Option<Instant>,
    pub(super) marks: Option<Marks>,
}

/// Somebody who waits for a name.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) name: Rc<str>,
    pub(super) token: Option<Rc<str>>,
    pub(super) is_asked: bool,
}

pub(super) struct Held {
    pub(super) token: Option<Rc<str>>,
    pub(super) since: Since,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.since)
    }
}

/// How far the names were gone through that are to be marked.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) shard: usize,
    pub(super) queue: Vec<ConnId>,
}

impl Remote {
    pub(super) fn new() -> Self {
        Self {
            asks: VecDeque::new(),
            texts: Vec::new(),
            claims: ByConn::default(),
            retries: Deadlines::new(RETRY_PAUSE),
            ends: Deadlines::new(CLAIM_TIME),
            held: ByConn::default(),
            routes: ByConn::default(),
            reached: ByConn::default(),
            node: None,
            alive: Vec::new(),
            away_since: None,
            marks: None,
        }
    }

    /// The next question, and the texts of all.
    pub(super) fn next_ask(&mut self) -> Option<(Ask, &[u8])> {
        let Some(ask) = self.asks.pop_front() else {
            self.texts.clear();
            // A turn that had much to say is no reason to keep as much.
            self.texts.shrink_to(TEXT_BYTES);
            return None;
        };
        Some((ask, &self.texts))
    }

    /// When there is something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.retries.next(), self.ends.next()].into_iter().flatten().min()
    }

    /// Where a target of `conn` was, if its node is there.
    pub(super) fn route(&self, conn: ConnId, target: &str) -> Option<(Rc<str>, Route)> {
        let found = self.routes.get(&conn)?.iter().find(|(name, _)| **name == *target)?;
        self.alive.contains(&found.1.node).then(|| found.clone())
    }

    /// Remembers where a target of `conn` is, as the latest of a few.
    pub(super) fn learn(&mut self, conn: ConnId, target: &Rc<str>, route: Route) {
        // It may be newer than the last word of which there are.
        if !self.alive.contains(&route.node) {
            self.alive.push(route.node);
        }
        self.forget_route(conn, target);
        if self.routes.get(&conn).is_none() {
            self.routes.insert(conn, Vec::new());
        }
        if let Some(routes) = self.routes.get_mut(&conn) {
            routes.truncate(ROUTES - 1);
            routes.insert(0, (target.clone(), route));
        }
    }

    pub(super) fn forget_route(&mut self, conn: ConnId, target: &str) {
        if let Some(routes) = self.routes.get_mut(&conn) {
            routes.retain(|(name, _)| **name != *target);
        }
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        self.held.remove(&conn);
        self.routes.remove(&conn);
        self.reached.remove(&conn);
    }

    /// Notes a message for `conn`, and returns whether it may be out of order and must not be delivered. Once a message
    /// of this sender has come directly, those that another node sends on are older. And of two nodes that send on for
    /// one sender only the first is heard, since nobody knows whose messages are older.
    pub(super) fn note_is_late(&mut self, conn: ConnId, from: Route, via: Option<NodeId>) -> bool {
        let Some(reached) = self.reached.get_mut(&conn) else {
            self.reached.insert(conn, vec![(from, via)]);
            return false;
        };
        match reached.iter_mut().find(|(other, _)| *other == from) {
            Some((_, before)) if via.is_none() => *before = None,
            Some((_, before)) => return *before != via,
            None => {
                reached.truncate(ROUTES - 1);
                reached.insert(0, (from, via));
            }
        }
        false
    }

    /// Learns of the first message from `from` to `to`, who are both here.
    pub(super) fn met_here(&mut self, from: ConnId, to: ConnId) {
        if let Some(node) = self.node {
            self.note_is_late(to, Route { node, conn: from }, None);
        }
    }

    pub(super) fn ask_claim(&mut self, conn: ConnId) {
        if let Some(claim) = self.claims.get_mut(&conn).filter(|claim| !claim.is_asked) {
            claim.is_asked = true;
            let (name, token) = (claim.name.clone(), claim.token.clone());
            self.asks.push_back(Ask::Claim { conn, name, token });
        }
    }
}

/// How long somebody may wait for a name. A balancer tries another server then.
pub(in crate::server) const CLAIM_TIME: Duration = Duration::from_secs(5);

/// A claim that could not be answered is made again after this long.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Memory for the texts of a turn that is kept for the next one.
const TEXT_BYTES: usize = 1024 * 1024;

/// How many targets of one user have a route, and of how many of its senders the way is remembered.
const ROUTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::super::elsewhere::ENDS_PER_CALL;
    use super::super::output::only;
    use super::super::tests::{ALICE, BOB, CAROL, codes, hub_with};
    use super::super::{Departure, Hub, Output, Outputs, Refused};
    use super::*;
    use crate::protocol::MessageType;
    use crate::server::limits::Limits;
    use crate::server::nodes::{Answer, Arrival, Dispatch, Found, ParcelRef, Passed, Undelivered, Verdict};

    const THERE: Route = Route { node: NodeId(*b"other1"), conn: ConnId(77) };
    const SINCE: Since = *b"123456";
    const YES: Verdict = Verdict::Yes { since: SINCE, has_replaced: true };

    fn asks(hub: &mut Hub) -> Vec<Ask> {
        std::iter::from_fn(|| hub.next_ask().map(|(ask, _)| ask)).collect()
    }

    fn claimed(verdict: Verdict) -> Answer {
        Answer::Claimed { conn: CAROL, name: "carol".into(), verdict }
    }

    fn claim() -> Ask {
        Ask::Claim { conn: CAROL, name: "carol".into(), token: Some("secret".into()) }
    }

    #[test]
    fn a_claim_is_made_again_until_it_is_answered_or_its_time_is_over() {
        let mut hub = hub_with(Limits::default()).in_cluster();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(hub.claim(CAROL, "carol", Some("secret"), start), Outputs::new());
        assert_eq!(asks(&mut hub), [claim()]);
        for (verdict, answered) in [(Verdict::Later, 10), (Verdict::Away, 400)] {
            assert_eq!(hub.answered(claimed(verdict), at(answered)), Outputs::new());
            hub.retry_claims(at(answered + 200));
            assert_eq!((hub.overdue_claim(at(answered + 200)), asks(&mut hub)), (None, vec![]), "not at once");
            hub.retry_claims(at(answered + 300));
            assert_eq!((hub.overdue_claim(at(answered + 300)), asks(&mut hub)), (None, vec![claim()]));
        }
        let refused = Output::Refuse { conn: CAROL, cause: Refused::Away };
        assert_eq!(hub.overdue_claim(at(4999)), None);
        assert_eq!(hub.overdue_claim(at(5000)), Some(refused));
        asks(&mut hub);
        // The database may have given it the name all the same.
        assert_eq!(hub.answered(claimed(YES), at(5001)), Outputs::new());
        assert_eq!(asks(&mut hub), [Ask::Release { conn: CAROL, name: "carol".into(), is_free: false }]);
    }

    #[test]
    fn a_name_without_room_is_refused_at_once_and_makes_room_for_other_claims() {
        let mut hub = hub_with(Limits::default()).in_cluster();
        let now = Instant::now();
        hub.claim(CAROL, "carol", Some("secret"), now);
        asks(&mut hub);
        let refused = Output::Refuse { conn: CAROL, cause: Refused::Full };
        assert_eq!(hub.answered(claimed(Verdict::Full), now), only(refused));
        assert!(hub.remote().unwrap().claims.is_empty());
        hub.retry_claims(now + CLAIM_TIME);
        assert_eq!((hub.overdue_claim(now + CLAIM_TIME), asks(&mut hub)), (None, vec![]));
    }

    #[test]
    fn who_has_its_name_is_let_in_marked_and_released() {
        let mut hub = hub_with(Limits::default()).in_cluster();
        let now = Instant::now();
        hub.claim(CAROL, "carol", Some("secret"), now);
        asks(&mut hub);
        assert_eq!(hub.answered(claimed(YES), now), only(Output::Admit { conn: CAROL, has_replaced: true }));
        hub.database_is_back(NodeId(*b"own123"));
        assert!(!hub.mark(10));
        let token = Some("secret".into());
        assert_eq!(asks(&mut hub), [Ask::Mark { conn: CAROL, name: "carol".into(), token, since: SINCE }]);
        hub.disconnect(CAROL, Departure::Lost, now);
        assert_eq!(asks(&mut hub), [Ask::Release { conn: CAROL, name: "carol".into(), is_free: false }]);
        assert_eq!((hub.online(), hub.names()), (2, 2));
    }

    #[test]
    fn a_crowd_that_has_come_at_once_is_looked_at_in_parts() {
        let mut hub = hub_with(Limits::default()).in_cluster();
        let now = Instant::now();
        for number in 0..2 * ENDS_PER_CALL {
            let (conn, name) = (ConnId(100 + number), format!("user{number}"));
            hub.claim(conn, &name, None, now);
            hub.answered(Answer::Claimed { conn, name: (*name).into(), verdict: YES }, now);
        }
        hub.claim(CAROL, "carol", None, now);
        let due = now + CLAIM_TIME;
        for _ in 0..2 {
            assert_eq!((hub.overdue_claim(due), hub.next_deadline()), (None, Some(due)), "there is more");
        }
        assert_eq!(hub.overdue_claim(due), Some(Output::Refuse { conn: CAROL, cause: Refused::Away }));
    }

    /// Alice sends to strangers, of whom each is found so; what she is told.
    fn told(found: Option<Found>) -> (usize, usize) {
        let mut hub = hub_with(Limits::default()).in_cluster();
        let now = Instant::now();
        let (mut asked, mut refused) = (0, 0);
        for number in 0..200 {
            let text = format!(r#"{{"type":"signal:ice","target":"name{number}"}}"#);
            refused += usize::from(codes(&hub.receive(ALICE, &text, now)) == ["RATE_LIMITED"]);
            for ask in asks(&mut hub) {
                let Ask::Seek(seek) = ask else { panic!("{ask:?}") };
                asked += 1;
                if let Some(found) = found {
                    hub.answered(Answer::Sought { seek, found }, now);
                }
            }
        }
        (asked, refused)
    }

    #[test]
    fn a_stranger_elsewhere_costs_a_call_until_it_is_known_to_be_there() {
        assert_eq!(told(Some(Found::At(THERE))), (200, 0));
        assert_eq!(told(Some(Found::Away)), (200, 0), "trouble with the database is nobody's fault");
        assert_eq!(told(Some(Found::Nowhere)), (60, 140));
        assert_eq!(told(None), (60, 140), "nor can it be got round by asking fast");
    }

    #[test]
    fn a_route_is_used_until_it_leads_nowhere_or_its_node_is_gone() {
        let mut hub = hub_with(Limits::default()).in_cluster();
        let now = Instant::now();
        let send = |hub: &mut Hub| {
            assert_eq!(hub.receive(ALICE, r#"{"type":"signal:ice","target":"dave"}"#, now)[..], []);
            match asks(hub).pop() {
                Some(Ask::Seek(seek)) => {
                    hub.answered(Answer::Sought { seek, found: Found::At(THERE) }, now);
                    "sought"
                }
                Some(Ask::Pass { to: THERE, .. }) => "passed",
                ask => panic!("{ask:?}"),
            }
        };
        assert_eq!([send(&mut hub), send(&mut hub), send(&mut hub)], ["sought", "passed", "passed"]);
        let kind = MessageType::SignalIce;
        let passed = Passed { from: ALICE, target: "dave".into(), kind };
        let lost = Answer::NotPassed { passed, is_certain: true };
        assert_eq!(codes(&hub.answered(lost, now)), ["RELAY_FAILED"]);
        assert_eq!([send(&mut hub), send(&mut hub)], ["sought", "passed"]);
        hub.nodes_are(vec![THERE.node]);
        assert_eq!(send(&mut hub), "passed");
        hub.nodes_are(vec![NodeId(*b"other2")]);
        assert_eq!(send(&mut hub), "sought");
    }

    #[test]
    fn what_was_sent_on_is_told_of_as_lost_once_its_sender_was_heard_here() {
        let mut hub = hub_with(Limits::default()).in_cluster();
        let now = Instant::now();
        hub.database_is_back(NodeId(*b"own123"));
        asks(&mut hub);
        let mut arrives = |from, via| {
            let parcel = ParcelRef::Message { kind: MessageType::SignalIce, text: "{}" };
            let arrival = Arrival { to: CAROL, from, via, target: "bob", parcel };
            let is_delivered =
                matches!(hub.arrived(Dispatch::Parcel(arrival), now)[..], [Output::ForwardRemote { to: BOB, .. }]);
            (is_delivered, asks(&mut hub))
        };
        let late = |to| (false, vec![Ask::Tell { to, target: "bob".into(), reason: Undelivered::Offline }]);
        let [one, another] = [b"other2", b"third2"].map(|node| Some(NodeId(*node)));
        assert_eq!(arrives(THERE, one), (true, vec![]), "he was elsewhere before");
        assert_eq!(arrives(THERE, another), late(THERE), "and at a third one: which came first cannot be told");
        assert_eq!(arrives(THERE, one), (true, vec![]), "by the same way it is in order");
        assert_eq!(arrives(THERE, None), (true, vec![]));
        assert_eq!([arrives(THERE, one), arrives(THERE, another)], [late(THERE), late(THERE)]);
        // The same where the sender is at this very node.
        let alice = Route { node: NodeId(*b"own123"), conn: ALICE };
        assert_eq!(arrives(alice, one), (true, vec![]));
        hub.receive(ALICE, r#"{"type":"signal:ice","target":"bob"}"#, now);
        let parcel = ParcelRef::Message { kind: MessageType::SignalIce, text: "{}" };
        let arrival = Arrival { to: CAROL, from: alice, via: one, target: "bob", parcel };
        assert_eq!((hub.arrived(Dispatch::Parcel(arrival), now), asks(&mut hub)), (Outputs::new(), late(alice).1));
    }
}
