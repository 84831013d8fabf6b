//! What a server that lies, or strangers who come and go, can say without end is told a few times, and then counted.
//! Pure: the time comes in.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Counts what comes again and again, by its kind.
#[derive(Debug, Default)]
pub struct Flood {
    kinds: HashMap<&'static str, (u64, Instant)>,
}

impl Flood {
    /// Counts one more of this kind, and returns how many have come by now, if that is to be told. The first [`SHOWN`]
    /// are, and then every count that is a power of ten. After a minute without any the count begins anew.
    pub fn count(&mut self, kind: &'static str, now: Instant) -> Option<u64> {
        let (count, last) = self.kinds.entry(kind).or_insert((0, now));
        if now.saturating_duration_since(*last) >= QUIET {
            *count = 0;
        }
        (*count, *last) = (*count + 1, now);
        is_told(*count).then_some(*count)
    }
}

/// Counts what comes within a minute. Unlike [`Flood`] it begins anew after each minute, so that nobody who goes on for
/// ever hides for ever what others have to say.
#[derive(Debug, Default)]
pub struct Minute {
    began: Option<Instant>,
    count: u64,
}

impl Minute {
    /// Counts one more, and returns how many have come in this minute.
    pub fn count(&mut self, now: Instant) -> u64 {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= QUIET) {
            (self.began, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count
    }
}

/// Whether the `count`th of a kind is told.
pub fn is_told(count: u64) -> bool {
    count <= SHOWN || 10_u64.checked_pow(count.ilog10()) == Some(count)
}

/// How many of a kind are told one by one.
pub const SHOWN: u64 = 5;

/// After so long without one of its kind, what comes is news again.
const QUIET: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_ends_however_many_come() {
        let (mut minute, now) = (Minute::default(), Instant::now());
        let counts = |minute: &mut Minute, second| minute.count(now + Duration::from_secs(second));
        let counted: Vec<u64> = (0..120).map(|second| counts(&mut minute, second)).collect();
        assert_eq!(counted, (1..=60).chain(1..=60).collect::<Vec<u64>>());
    }

    #[test]
    fn five_of_a_kind_are_told_and_then_each_power_of_ten() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        let told: Vec<u64> = (0..20_000).filter_map(|_| flood.count("a", now)).collect();
        assert_eq!(told, [1, 2, 3, 4, 5, 10, 100, 1000, 10_000]);
        assert_eq!(flood.count("b", now), Some(1), "each kind on its own");
        assert_eq!(flood.count("a", now + QUIET / 2), None);
        assert_eq!(flood.count("a", now + QUIET), None, "it goes on");
        assert_eq!(flood.count("a", now + QUIET * 2), Some(1));
    }
}
