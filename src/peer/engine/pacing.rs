//! When calls go out. A server takes so many of one connection in a minute and refuses the rest, so all calls of a peer
//! stand in one queue that stays below that: those of the user first, of them the newest, and then those that carry
//! interrupted chats on, which leave room for the user's. A server that takes fewer makes the queue slower. Pure.

use std::time::{Duration, Instant};

use crate::bucket::{Bucket, Rate};

/// The queue of calls, and how much of each kind there has been of late.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Pacing {
    all: Bucket,
    /// Those that carry chats on.
    seeks: Bucket,
    /// Whom the user calls and for whom there was no room yet, the newest last.
    waiting: Vec<String>,
    /// No call goes out before this, since the server has refused one.
    held_until: Option<Instant>,
    /// How often the rate of calls was halved.
    slowness: u32,
    /// When it is doubled again.
    eases_at: Option<Instant>,
}

impl Pacing {
    /// When a call of the user's may go out.
    pub(super) fn next_own(&self, now: Instant) -> Instant {
        let free = self.all.holds_at(1, self.slowed(ALL), now);
        self.held_until.map_or(free, |held| free.max(held))
    }

    /// When a call may go out that carries a chat on.
    pub(super) fn next_seek(&self, now: Instant) -> Instant {
        let of_all = self.all.holds_at(1 + KEPT_FOR_OWN, self.slowed(ALL), now);
        let of_seeks = self.seeks.holds_at(1, self.slowed(SEEKS), now);
        self.held_until.map_or(of_all.max(of_seeks), |held| of_all.max(of_seeks).max(held))
    }

    /// Takes room for a call of the user's, and returns whether there was some.
    pub(super) fn take_own(&mut self, now: Instant) -> bool {
        self.ease(now);
        let is_free = self.next_own(now) <= now;
        if is_free {
            self.all.take(1, Some(self.slowed(ALL)), now);
        }
        is_free
    }

    /// Takes room for a call that carries a chat on, and returns whether there was some.
    pub(super) fn take_seek(&mut self, now: Instant) -> bool {
        self.ease(now);
        let is_free = self.next_seek(now) <= now;
        if is_free {
            self.all.take(1, Some(self.slowed(ALL)), now);
            self.seeks.take(1, Some(self.slowed(SEEKS)), now);
        }
        is_free
    }

    /// Puts a call of the user's into the queue.
    pub(super) fn wait(&mut self, peer: &str) {
        self.waiting.retain(|waiting| waiting != peer);
        self.waiting.push(peer.to_owned());
    }

    /// The next call of the user's for which there is room, if it is still wanted.
    pub(super) fn next_waiting(&mut self, now: Instant, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.waiting.retain(|peer| is_wanted(peer));
        if self.waiting.is_empty() || !self.take_own(now) {
            return None;
        }
        self.waiting.pop()
    }

    /// Whether a call of the user's stands in the queue.
    pub(super) fn is_waiting(&self, peer: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting == peer)
    }

    /// Whether any does.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// There is no server any more.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// The server has refused a call, since there were too many. What it refuses of those that were on their way says
    /// no more.
    pub(super) fn slow_down(&mut self, now: Instant) {
        if self.held_until.is_none_or(|held| held <= now) {
            self.slowness = (self.slowness + 1).min(SLOWEST);
            self.held_until = Some(now + HOLD);
        }
        self.eases_at = Some(now + EASE);
    }

    fn ease(&mut self, now: Instant) {
        if self.slowness > 0 && self.eases_at.is_some_and(|eases_at| eases_at <= now) {
            self.slowness -= 1;
            self.eases_at = Some(now + EASE);
        }
    }

    fn slowed(&self, rate: Rate) -> Rate {
        Rate { per: rate.per * (1 << self.slowness), ..rate }
    }
}

/// Calls of all kinds. Our server takes 60 at once and 60 in a minute, and refuses no less when they come closer
/// together than they were sent.
const ALL: Rate = Rate { amount: 54, per: MINUTE, burst: 50 };

/// Calls that carry chats on: a few at once, as after a loss of the network.
const SEEKS: Rate = Rate { amount: 40, per: MINUTE, burst: 8 };

const MINUTE: Duration = Duration::from_secs(60);

/// So many of all are kept for the user's.
const KEPT_FOR_OWN: usize = 20;

/// How long no call goes out after the server has refused one, and how long it may refuse none until there are more
/// again.
const HOLD: Duration = Duration::from_secs(5);
const EASE: Duration = Duration::from_secs(300);

/// Calls become half as many so often and no more: one in half a minute or so is a trouble to no server.
const SLOWEST: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a kind go out in these seconds if all want to.
    fn taken(
        pacing: &mut Pacing,
        start: Instant,
        seconds: std::ops::Range<u64>,
        take: fn(&mut Pacing, Instant) -> bool,
    ) -> usize {
        let steps = seconds.start * 10..seconds.end * 10;
        steps.filter(|step| take(pacing, start + Duration::from_millis(100 * step))).count()
    }

    #[test]
    fn seeks_are_forty_a_minute_and_leave_room_for_the_users_own() {
        let (mut pacing, start) = (Pacing::default(), Instant::now());
        assert_eq!(taken(&mut pacing, start, 0..1, Pacing::take_seek), 8);
        assert!((39..=41).contains(&taken(&mut pacing, start, 1..61, Pacing::take_seek)));
        assert!((195..=201).contains(&taken(&mut pacing, start, 61..361, Pacing::take_seek)));
        // The user's find room whatever else goes on.
        let own = (0..30).filter(|_| pacing.take_own(start + Duration::from_secs(361))).count();
        assert!(own >= 20, "{own}");
    }

    #[test]
    fn in_no_minute_there_are_as_many_as_a_server_takes() {
        let (mut pacing, start) = (Pacing::default(), Instant::now());
        // What a Lowkey server has left of its 60, in thousandths.
        let mut left = 60_000;
        for step in 0..6000 {
            let now = start + Duration::from_millis(step * 100);
            while pacing.take_own(now) || pacing.take_seek(now) {
                left -= 1000;
            }
            assert!(left >= 0, "refused after {step}");
            left = (left + 100).min(60_000);
        }
    }

    #[test]
    fn the_newest_call_of_the_users_goes_first_and_one_that_is_not_wanted_takes_no_room() {
        let (mut pacing, now) = (Pacing::default(), Instant::now());
        while pacing.take_own(now) {}
        for peer in ["a", "b", "c", "b"] {
            pacing.wait(peer);
        }
        assert_eq!(pacing.next_waiting(now, |_| true), None);
        let later = now + Duration::from_secs(60);
        let all: Vec<_> = std::iter::from_fn(|| pacing.next_waiting(later, |peer| peer != "c")).collect();
        assert_eq!(all, ["b", "a"]);
        assert!(!pacing.has_waiting());
    }

    #[test]
    fn a_refusal_makes_all_slower_and_a_time_without_one_faster_again() {
        let (mut pacing, start) = (Pacing::default(), Instant::now());
        for _ in 0..30 {
            pacing.slow_down(start);
        }
        assert_eq!(pacing.slowness, 1, "those that were on their way are one");
        assert!(!pacing.take_own(start) && !pacing.take_seek(start + Duration::from_secs(4)));
        let halved = taken(&mut pacing, start, 5..60, Pacing::take_seek);
        assert!((20..=28).contains(&halved), "{halved}");
        assert_eq!(pacing.slowness, 1);
        pacing.take_own(start + EASE);
        assert_eq!(pacing.slowness, 0);
        for minute in 0..20 {
            pacing.slow_down(start + EASE + Duration::from_secs(60 * minute));
        }
        assert_eq!(pacing.slowness, SLOWEST);
    }
}
