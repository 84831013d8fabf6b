//! How often each address has asked for somebody who is not online. A client has a bucket of its own for that, but a
//! new connection comes with a full one: who goes through a list of names over many connections is held by the
//! address. Pure.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::deadlines::Deadlines;
use super::table::Table;
use crate::bucket::{Bucket, Rate};

/// The buckets of all addresses that are not full.
///
/// An address is a [`place`](super::addresses::place): `None` is this machine, or somebody of whom nothing is known,
/// and is not counted.
#[derive(Debug)]
pub struct Misses {
    rate: Option<Rate>,
    places: Table<IpAddr, Bucket>,
    /// When each bucket is looked at next, to be forgotten once it is full.
    looks: Deadlines<IpAddr>,
}

impl Misses {
    /// No misses yet; no rate is no limit.
    pub fn new(rate: Option<Rate>) -> Self {
        let refill = rate.map_or(Duration::ZERO, |rate| rate.per * rate.burst / rate.amount);
        Self { rate, places: Table::default(), looks: Deadlines::new(refill) }
    }

    /// Whether somebody at this place may ask for one more name that is not online.
    pub fn are_left(&self, place: Option<IpAddr>, now: Instant) -> bool {
        let bucket = place.and_then(|place| self.places.get(&place));
        bucket.is_none_or(|bucket| bucket.holds(1, self.rate, now))
    }

    /// Counts a name that somebody at this place has asked for, and that is not online.
    pub fn note(&mut self, place: Option<IpAddr>, now: Instant) {
        let Some(place) = place.filter(|_| self.rate.is_some()) else { return };
        if let Some(bucket) = self.places.get_mut(&place) {
            bucket.take(1, self.rate, now);
            return;
        }
        let mut bucket = Bucket::default();
        bucket.take(1, self.rate, now);
        self.places.insert(place, bucket);
        self.looks.set(place, now);
        // Whoever asks from a great many addresses must not fill the memory.
        if self.looks.len() > MAX_PLACES
            && let Some((_, oldest)) = self.looks.pop()
        {
            self.places.remove(&oldest);
        }
    }

    /// Takes a miss back: the name was found at another node.
    pub fn give_back(&mut self, place: Option<IpAddr>) {
        if let Some(bucket) = place.and_then(|place| self.places.get_mut(&place)) {
            bucket.give_back(1, self.rate);
        }
    }

    /// Forgets the addresses whose buckets are full again, as many as one turn has time for.
    pub fn tick(&mut self, now: Instant) {
        for _ in 0..LOOKS_PER_TICK {
            let Some(place) = self.looks.pop_due(now) else { return };
            match self.places.get(&place).is_some_and(|bucket| bucket.is_full(now)) {
                true => drop(self.places.remove(&place)),
                false => drop(self.looks.set(place, now)),
            }
        }
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.looks.next()
    }
}

/// Addresses that are remembered at once. Beyond these, the one that was looked at the longest ago is forgotten.
const MAX_PLACES: usize = 100_000;

/// Addresses that one tick looks at.
const LOOKS_PER_TICK: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_bucket_that_is_forgotten_once_it_is_full() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut misses = Misses::new(Some(Rate { amount: 1, per: Duration::from_secs(1), burst: 3 }));
        let place: Option<IpAddr> = "192.0.2.1".parse().ok();
        for _ in 0..3 {
            assert!(misses.are_left(place, start));
            misses.note(place, start);
        }
        assert!(!misses.are_left(place, start) && misses.are_left("192.0.2.2".parse().ok(), start));
        misses.note(None, start);
        assert!(misses.are_left(None, start) && misses.places.len() == 1);
        assert!(misses.are_left(place, at(1)));
        misses.note(place, at(1));
        misses.tick(at(3));
        assert!(!misses.places.is_empty(), "it is not full");
        misses.tick(at(6));
        assert!(misses.places.is_empty() && misses.next_deadline().is_none());
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let now = Instant::now();
        let mut misses = Misses::new(Some(Rate { amount: 1, per: Duration::from_secs(1), burst: 3 }));
        for number in 0..MAX_PLACES as u32 + 10 {
            misses.note(Some(std::net::Ipv4Addr::from(number).into()), now);
        }
        assert_eq!((misses.places.len(), misses.looks.len()), (MAX_PLACES, MAX_PLACES));
    }
}
