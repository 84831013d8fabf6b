//! Whether a history of what several did at once can be explained by one order of it, in which each did its thing at
//! one moment between its beginning and its end: linearizability, by the search of Wing and Gong ("Testing and
//! verifying concurrent objects", 1993) with the memory of Lowe ("Testing for linearizability", 2017). Pure.

use std::collections::HashSet;
use std::hash::Hash;

/// Something that was done from a moment to another one.
#[derive(Debug, Clone)]
pub struct Done<T> {
    pub what: T,
    pub began: u64,
    pub ended: u64,
}

/// How what is done changes what it is done to.
pub trait Step<T>: Clone + Eq + Hash {
    /// What there is after `what` was done, unless it cannot have been done like this.
    fn after(&self, what: &T) -> Option<Self>;
}

/// Whether there is an order of all of `history`, from `first` on.
pub fn is_linearizable<T, S: Step<T>>(first: S, history: &[Done<T>]) -> bool {
    let mut list = Events::of(history);
    let (mut state, mut done) = (first, vec![0u64; history.len().div_ceil(64)]);
    let mut seen = HashSet::new();
    // What was put in order so far, and what there was before each.
    let mut order: Vec<(usize, S)> = Vec::new();
    let mut place = list.first();
    while let Some(event) = place {
        if let Some(number) = list.begins(event) {
            let bit = 1 << (number % 64);
            if let Some(next) = state.after(&history[number].what) {
                done[number / 64] |= bit;
                if seen.insert((done.clone(), next.clone())) {
                    order.push((number, std::mem::replace(&mut state, next)));
                    list.take(number);
                    place = list.first();
                    continue;
                }
                done[number / 64] &= !bit;
            }
            place = list.next(event);
        } else {
            // It has ended, and stands nowhere in the order: the last choice was wrong.
            let Some((number, before)) = order.pop() else { return false };
            state = before;
            done[number / 64] &= !(1 << (number % 64));
            list.put_back(number);
            place = list.next(2 * number);
        }
    }
    true
}

/// All beginnings and ends in the order of time, of which some are taken out and put back: a list with links both ways.
struct Events {
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Events {
    /// The beginning of number n is event 2n, its end is the one behind it in count; the last place is both ends of the
    /// list.
    fn of<T>(history: &[Done<T>]) -> Self {
        let mut events: Vec<usize> = (0..2 * history.len()).collect();
        let time = |event: &usize| {
            let done = &history[event / 2];
            // What begins in the moment in which something else ends is at once with it.
            if event.is_multiple_of(2) { (done.began, 0) } else { (done.ended, 1) }
        };
        events.sort_by_key(time);
        let root = events.len();
        let (mut next, mut previous) = (vec![root; root + 1], vec![root; root + 1]);
        let mut last = root;
        for event in events {
            (next[last], previous[event]) = (event, last);
            last = event;
        }
        (next[last], previous[root]) = (root, last);
        Self { next, previous }
    }

    fn first(&self) -> Option<usize> {
        self.next(self.next.len() - 1)
    }

    fn next(&self, event: usize) -> Option<usize> {
        Some(self.next[event]).filter(|next| *next < self.next.len() - 1)
    }

    /// What begins with an event.
    fn begins(&self, event: usize) -> Option<usize> {
        event.is_multiple_of(2).then_some(event / 2)
    }

    fn take(&mut self, number: usize) {
        for event in [2 * number, 2 * number + 1] {
            let (previous, next) = (self.previous[event], self.next[event]);
            (self.next[previous], self.previous[next]) = (next, previous);
        }
    }

    /// In the other order than they were taken.
    fn put_back(&mut self, number: usize) {
        for event in [2 * number + 1, 2 * number] {
            let (previous, next) = (self.previous[event], self.next[event]);
            (self.next[previous], self.previous[next]) = (event, event);
        }
    }
}
