//! Timers that all run equally long. Since the duration is one constant, deadlines end in the order in which they
//! were set, so a queue is all it takes. Nothing is ever taken out early: whoever is told that a deadline has passed
//! checks whether it still matters.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Deadlines of one constant duration, each with the key that it belongs to.
#[derive(Debug)]
pub struct Deadlines<K> {
    duration: Duration,
    /// In the order of their instants, since `now` never goes back.
    queue: VecDeque<(Instant, K)>,
}

impl<K> Deadlines<K> {
    /// No deadlines yet; each will be `duration` after the moment it is set.
    pub fn new(duration: Duration) -> Self {
        Self { duration, queue: VecDeque::new() }
    }

    /// Sets a deadline for `key` and returns when it will be due.
    pub fn set(&mut self, key: K, now: Instant) -> Instant {
        let due = now + self.duration;
        self.queue.push_back((due, key));
        due
    }

    /// Takes out the next deadline that is due at `now`, if there is one.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.queue.pop_front()?;
        if self.queue.is_empty() {
            self.queue.shrink_to(KEPT_CAPACITY);
        }
        Some(key)
    }

    /// Takes out the next deadline, due or not.
    pub fn pop(&mut self) -> Option<(Instant, K)> {
        self.queue.pop_front()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// When the next deadline is due.
    pub fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(due, _)| *due)
    }
}

/// Places that an emptied queue keeps, so that a crowd's memory is given back after it has gone.
const KEPT_CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_due_in_order_and_not_before_their_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut deadlines = Deadlines::new(Duration::from_secs(10));
        assert_eq!(deadlines.next(), None);
        assert_eq!(deadlines.set("a", at(0)), at(10));
        assert_eq!(deadlines.set("b", at(3)), at(13));
        assert_eq!(deadlines.next(), Some(at(10)));
        assert_eq!(deadlines.pop_due(at(9)), None);
        assert_eq!(deadlines.pop_due(at(10)), Some("a"));
        assert_eq!(deadlines.pop_due(at(10)), None);
        assert_eq!(deadlines.pop_due(at(60)), Some("b"));
        assert_eq!(deadlines.pop_due(at(60)), None);
    }
}
