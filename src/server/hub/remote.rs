//! What a hub knows of the cluster that it is in: who waits for a name, by what names are held, and where the targets of
//! messages are. What is to be asked waits in a queue. Pure.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::server::deadlines::Deadlines;
use crate::server::ids::{ByConn, ConnId};
use crate::server::nodes::{Ask, Route, Since};

/// What a hub knows of the cluster that it is in.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) asks: VecDeque<Ask>,
    pub(super) claims: ByConn<Claim>,
    /// When a claim is asked again.
    pub(super) retries: Deadlines<ConnId>,
    /// When somebody has waited long enough for a name.
    pub(super) ends: Deadlines<ConnId>,
    /// By what the users who are online here hold their names.
    pub(super) held: ByConn<Held>,
    /// Where the targets of each user's last messages are.
    pub(super) routes: ByConn<Vec<(Rc<str>, Route)>>,
    /// Since when the engine cannot be asked.
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
    pub(super) part: usize,
    pub(super) queue: Vec<ConnId>,
}

impl Remote {
    pub(super) fn new() -> Self {
        Self {
            asks: VecDeque::new(),
            claims: ByConn::default(),
            retries: Deadlines::new(RETRY_PAUSE),
            ends: Deadlines::new(CLAIM_TIME),
            held: ByConn::default(),
            routes: ByConn::default(),
            away_since: None,
            marks: None,
        }
    }

    /// When there is something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.retries.next(), self.ends.next()].into_iter().flatten().min()
    }

    pub(super) fn route(&self, conn: ConnId, target: &str) -> Option<Route> {
        self.routes.get(&conn)?.iter().find(|(name, _)| **name == *target).map(|(_, route)| *route)
    }

    /// Remembers where a target of `conn` is, as the latest of a few.
    pub(super) fn learn(&mut self, conn: ConnId, target: &Rc<str>, route: Route) {
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
    }

    pub(super) fn ask_claim(&mut self, conn: ConnId, now: Instant) {
        if let Some(claim) = self.claims.get_mut(&conn).filter(|claim| !claim.is_asked) {
            claim.is_asked = true;
            let (name, token) = (claim.name.clone(), claim.token.clone());
            self.asks.push_back(Ask::Claim { conn, name, token });
            self.retries.set(conn, now);
        }
    }
}

/// How long somebody may wait for a name. A balancer tries another server then.
pub(super) const CLAIM_TIME: Duration = Duration::from_secs(5);

/// A claim that could not be answered is made again after this long.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The targets of one user that are found without being looked for.
const ROUTES: usize = 8;
