//! The server's own end, spread over a time. Pure.

use std::time::{Duration, Instant};

use super::ids::ConnId;

/// The server's own end: who is still to be told of it, and when.
pub(super) struct Stop {
    pub(super) begun: Instant,
    /// Everybody who was online when it began and has not been told. Some of them may have left.
    pub(super) untold: Vec<ConnId>,
    /// How many they were.
    pub(super) count: usize,
    /// How many of those who were there yet have been told.
    pub(super) told: usize,
    /// When the last of them is cut.
    pub(super) end: Instant,
}

impl Stop {
    pub(super) fn new(untold: Vec<ConnId>, now: Instant, drain_time: Duration, close_time: Duration) -> Self {
        Self { begun: now, count: untold.len(), untold, told: 0, end: now + drain_time + close_time }
    }

    /// Somebody who is to be told of it by `now`. Who `is_here` no more takes no time of the others.
    pub(super) fn next(
        &mut self,
        now: Instant,
        drain_time: Duration,
        is_here: impl Fn(ConnId) -> bool,
    ) -> Option<ConnId> {
        while self.untold.pop_if(|id| !is_here(*id)).is_some() {}
        if self.next_due(drain_time) > now {
            return None;
        }
        self.told += 1;
        self.untold.pop()
    }

    /// When somebody is to be told next, or else all is over.
    pub(super) fn next_due(&self, drain_time: Duration) -> Instant {
        if self.untold.is_empty() {
            return self.end;
        }
        let told = (self.told + 1) as f64 / self.count as f64;
        self.begun + drain_time.mul_f64(told.min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_spread_over_its_time_and_does_not_wait_for_who_has_left() {
        let (start, drain) = (Instant::now(), Duration::from_secs(6));
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let stop = |count| Stop::new((0..count).map(ConnId).collect(), start, drain, Duration::from_secs(3));
        let told = |stop: &mut Stop, now, is_here: &dyn Fn(ConnId) -> bool| {
            std::iter::from_fn(|| stop.next(now, drain, is_here)).count()
        };
        let mut all = stop(60);
        assert_eq!([99, 101, 3001, 6000].map(|time| told(&mut all, at(time), &|_| true)), [0, 1, 29, 30]);
        let mut gone = stop(60);
        assert_eq!(told(&mut gone, at(200), &|_| false), 0);
        assert!(gone.untold.is_empty() && gone.next_due(drain) == gone.end, "all have left");
        let mut half = stop(60);
        assert_eq!(told(&mut half, at(3001), &|id| id.0 % 2 == 0), 30, "at the pace of before, so in half of the time");
        assert!(half.untold.is_empty());
        assert_eq!(told(&mut stop(60), start + drain, &|_| true), 60);
    }
}
