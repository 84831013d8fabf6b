//! What clients make the server hold for them: beginnings of messages whose end does not come, and bytes that they do
//! not take. All of it comes out of one budget, and whoever gets no further is told of. Pure.
//!
//! Each client may hold little, but there are many. When the budget is spent, the *furthest behind* has to go: of those
//! who hold the most, by powers of two, the one who has held something for the longest. They stand in this order, so
//! that nobody else has to be looked at.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Instant;

use super::hub::{ByConn, ConnId};
use super::limits::LeastPace;

/// What everybody holds.
#[derive(Debug)]
pub struct Backlog {
    pace: LeastPace,
    budget: usize,
    total: usize,
    /// Who holds something, or has until lately: these are forgotten when they are looked at.
    entries: ByConn<Entry>,
    /// All who hold something, the furthest behind last.
    ranks: BTreeSet<Rank>,
    /// When to look at whom: one for each entry. A heap would be one piece of memory, which pauses everybody when it is
    /// moved.
    looks: BTreeSet<(Instant, ConnId)>,
}

/// What is found when a client is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It sends too slowly.
    Slow,
    /// It takes nothing.
    Deaf,
    /// It holds nothing any more, and was forgotten.
    Done,
}

#[derive(Debug)]
struct Entry {
    unfinished: usize,
    unsent: usize,
    /// Since when it has held something without a break.
    since: Instant,
    /// Since when it has to send, and what it has sent since.
    sends_since: Instant,
    received: usize,
    /// When it last took something, or began to have to.
    taken: Instant,
}

/// The greatest is the furthest behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    power: u32,
    since: Reverse<Instant>,
    conn: ConnId,
}

impl Backlog {
    /// Nobody holds anything yet.
    pub fn new(budget: usize, pace: LeastPace) -> Self {
        let (entries, ranks, looks) = (ByConn::default(), BTreeSet::new(), BTreeSet::new());
        Self { pace, budget, total: 0, entries, ranks, looks }
    }

    /// Learns of how many bytes a client makes the server hold now.
    pub fn set(&mut self, conn: ConnId, unfinished: usize, unsent: usize, now: Instant) {
        let entry = match self.entries.get_mut(&conn) {
            Some(entry) => entry,
            None => {
                let new = Entry { unfinished: 0, unsent: 0, since: now, sends_since: now, received: 0, taken: now };
                self.entries.insert(conn, new);
                self.looks.insert((now + self.pace.time, conn));
                let Some(entry) = self.entries.get_mut(&conn) else { return };
                entry
            }
        };
        let rank = entry.rank(conn);
        self.total = self.total - entry.held() + unfinished + unsent;
        // What has become less is another message.
        if entry.unfinished == 0 || unfinished < entry.unfinished {
            (entry.sends_since, entry.received) = (now, 0);
        }
        if entry.unsent == 0 {
            entry.taken = now;
        }
        if entry.held() == 0 {
            entry.since = now;
        }
        (entry.unfinished, entry.unsent) = (unfinished, unsent);
        let new_rank = entry.rank(conn);
        if new_rank != rank {
            rank.map(|rank| self.ranks.remove(&rank));
            new_rank.map(|rank| self.ranks.insert(rank));
        }
    }

    /// Learns of bytes that came from a client.
    pub fn received(&mut self, conn: ConnId, count: usize) {
        if let Some(entry) = self.entries.get_mut(&conn) {
            entry.received += count;
        }
    }

    /// Learns that a client has taken bytes.
    pub fn taken(&mut self, conn: ConnId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&conn) {
            entry.taken = now;
        }
    }

    /// Takes a client out that is gone.
    pub fn remove(&mut self, conn: ConnId) {
        if let Some(entry) = self.entries.remove(&conn) {
            self.total -= entry.held();
            entry.rank(conn).map(|rank| self.ranks.remove(&rank));
        }
    }

    /// Who has to go, while more is held than may be.
    pub fn excess(&self) -> Option<ConnId> {
        self.ranks.last().filter(|_| self.total > self.budget).map(|rank| rank.conn)
    }

    /// Looks at the next client whose time has come at `now`, and says what it has found. `None` once there is none.
    pub fn look(&mut self, now: Instant) -> Option<(ConnId, Option<Finding>)> {
        let first = self.looks.first().filter(|(due, _)| *due <= now).copied()?;
        self.looks.remove(&first);
        let (_, conn) = first;
        // One that is gone.
        let Some(entry) = self.entries.get_mut(&conn) else { return Some((conn, None)) };
        if entry.held() == 0 {
            self.entries.remove(&conn);
            return Some((conn, Some(Finding::Done)));
        }
        let has_to = |is_so: bool, since: Instant| is_so.then_some(since + self.pace.time);
        if has_to(entry.unsent > 0, entry.taken).is_some_and(|due| due <= now) {
            return Some((conn, Some(Finding::Deaf)));
        }
        if has_to(entry.unfinished > 0, entry.sends_since).is_some_and(|due| due <= now) {
            if entry.received < self.pace.bytes {
                return Some((conn, Some(Finding::Slow)));
            }
            (entry.sends_since, entry.received) = (now, 0);
        }
        let dues = [has_to(entry.unsent > 0, entry.taken), has_to(entry.unfinished > 0, entry.sends_since)];
        let next = dues.into_iter().flatten().min().unwrap_or(now + self.pace.time);
        self.looks.insert((next, conn));
        Some((conn, None))
    }

    /// When the next [`look`](Self::look) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.looks.first().map(|(due, _)| *due)
    }

    /// How many bytes are held in all.
    #[cfg(test)]
    pub fn total(&self) -> usize {
        self.total
    }
}

impl Entry {
    fn held(&self) -> usize {
        self.unfinished + self.unsent
    }

    fn rank(&self, conn: ConnId) -> Option<Rank> {
        let power = self.held().checked_ilog2()?;
        Some(Rank { power, since: Reverse(self.since), conn })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PACE: LeastPace = LeastPace { time: Duration::from_secs(30), bytes: 2048 };

    /// What is found by `now`, without those who go on.
    fn found(backlog: &mut Backlog, now: Instant) -> Vec<(usize, Finding)> {
        let looks = std::iter::from_fn(|| backlog.look(now));
        looks.filter_map(|(conn, finding)| Some((conn.0, finding?))).collect()
    }

    #[test]
    fn who_holds_most_goes_first_and_of_these_who_has_held_longest() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut backlog = Backlog::new(10_000, PACE);
        backlog.set(ConnId(1), 4500, 0, at(1));
        backlog.set(ConnId(2), 0, 5000, at(0));
        backlog.set(ConnId(3), 300, 0, at(0));
        assert_eq!((backlog.excess(), backlog.total()), (None, 9800));
        backlog.set(ConnId(4), 300, 100, at(2));
        assert_eq!(backlog.excess(), Some(ConnId(2)));
        backlog.set(ConnId(2), 0, 0, at(2));
        assert_eq!(backlog.excess(), None, "it has caught up");
        backlog.set(ConnId(2), 0, 6000, at(2));
        assert_eq!(backlog.excess(), Some(ConnId(1)), "and has fallen behind again only now");
        backlog.remove(ConnId(1));
        backlog.remove(ConnId(1));
        assert_eq!((backlog.excess(), backlog.total()), (None, 6700));
        for conn in [2, 3, 4] {
            backlog.remove(ConnId(conn));
        }
        assert!(backlog.total() == 0 && backlog.ranks.is_empty() && backlog.entries.is_empty());
    }

    #[test]
    fn who_sends_too_slowly_is_found_and_who_finishes_is_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut backlog = Backlog::new(usize::MAX, PACE);
        for conn in [1, 2, 3] {
            backlog.set(ConnId(conn), 10, 0, at(0));
        }
        for seconds in (1..30).step_by(15) {
            backlog.received(ConnId(1), 1);
            backlog.set(ConnId(1), 10, 0, at(seconds));
        }
        backlog.received(ConnId(2), 2048);
        backlog.set(ConnId(3), 0, 0, at(20));
        backlog.set(ConnId(3), 10, 0, at(29));
        assert_eq!(found(&mut backlog, at(29)), []);
        assert_eq!(found(&mut backlog, at(30)), [(1, Finding::Slow)]);
        assert_eq!(backlog.next_deadline(), Some(at(59)), "a new message has its own time");
        backlog.set(ConnId(3), 5, 0, at(58));
        assert_eq!(found(&mut backlog, at(59)), [], "what has become less is another message");
        assert_eq!(found(&mut backlog, at(60)), [(2, Finding::Slow)], "its next half minute");
        backlog.set(ConnId(3), 0, 0, at(61));
        assert_eq!(found(&mut backlog, at(88)), [(3, Finding::Done)]);
        assert_eq!(backlog.next_deadline(), None);
    }

    #[test]
    fn who_takes_nothing_is_found_and_who_takes_a_little_is_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut backlog = Backlog::new(usize::MAX, PACE);
        backlog.set(ConnId(1), 0, 1000, at(0));
        backlog.set(ConnId(2), 0, 1000, at(0));
        backlog.set(ConnId(1), 0, 2000, at(20));
        backlog.taken(ConnId(2), at(20));
        assert_eq!(found(&mut backlog, at(30)), [(1, Finding::Deaf)]);
        assert_eq!(found(&mut backlog, at(49)), []);
        assert_eq!(found(&mut backlog, at(50)), [(2, Finding::Deaf)]);
    }

    #[test]
    fn a_client_is_looked_at_once_however_often_it_begins() {
        let now = Instant::now();
        let mut backlog = Backlog::new(usize::MAX, PACE);
        for _ in 0..1000 {
            backlog.set(ConnId(1), 10, 0, now);
            backlog.set(ConnId(1), 0, 0, now);
        }
        assert_eq!((backlog.looks.len(), backlog.ranks.len()), (1, 0));
    }
}
