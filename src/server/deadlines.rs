//! Timers that all run equally long. Since the duration is one constant, deadlines end in the order in which they
//! were set, so a queue is all it takes. Nothing is ever taken out early: whoever is told that a deadline has passed
//! checks whether it still matters.
//!
//! The queue is in blocks, since a million deadlines in one piece would be moved when it grows, and given back to the
//! system in one long call when it is empty.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Deadlines of one constant duration, each with the key that it belongs to.
#[derive(Debug)]
pub struct Deadlines<K> {
    duration: Duration,
    /// In the order of their instants, since `now` never goes back. No block is empty but one that stands alone.
    blocks: VecDeque<VecDeque<(Instant, K)>>,
    len: usize,
}

impl<K> Deadlines<K> {
    /// No deadlines yet; each will be `duration` after the moment it is set.
    pub fn new(duration: Duration) -> Self {
        Self { duration, blocks: VecDeque::from([VecDeque::new()]), len: 0 }
    }

    /// Sets a deadline for `key` and returns when it will be due.
    pub fn set(&mut self, key: K, now: Instant) -> Instant {
        let due = now + self.duration;
        match self.blocks.back_mut().filter(|block| block.len() < BLOCK) {
            Some(block) => block.push_back((due, key)),
            None => {
                let mut block = VecDeque::with_capacity(BLOCK);
                block.push_back((due, key));
                self.blocks.push_back(block);
            }
        }
        self.len += 1;
        due
    }

    /// Takes out the next deadline that is due at `now`, if there is one.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        self.pop().map(|(_, key)| key)
    }

    /// Takes out the next deadline, due or not.
    pub fn pop(&mut self) -> Option<(Instant, K)> {
        let block = self.blocks.front_mut()?;
        let popped = block.pop_front()?;
        self.len -= 1;
        if block.is_empty() && self.blocks.len() > 1 {
            self.blocks.pop_front();
        }
        Some(popped)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When the next deadline is due.
    pub fn next(&self) -> Option<Instant> {
        self.blocks.front()?.front().map(|(due, _)| *due)
    }
}

/// Deadlines in one block: some 24 KiB.
const BLOCK: usize = 1024;

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

    #[test]
    fn a_crowd_of_them_keeps_its_order_and_leaves_one_block_behind() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(Duration::from_secs(10));
        for number in 0..5000 {
            deadlines.set(number, start);
        }
        assert_eq!((deadlines.len(), deadlines.blocks.len()), (5000, 5));
        let due = start + Duration::from_secs(10);
        assert!((0..5000).all(|number| deadlines.pop_due(due) == Some(number)));
        assert_eq!((deadlines.pop(), deadlines.len(), deadlines.blocks.len()), (None, 0, 1));
        deadlines.set(1, start);
        assert_eq!(deadlines.pop(), Some((due, 1)));
    }
}
