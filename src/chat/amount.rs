//! How much of a file has gone, how fast, and for how long yet: measured, and in words. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::amount::UNITS;

/// So many bytes in at most four columns.
pub fn short_bytes(count: u64) -> String {
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| count >= *unit) else { return count.to_string() };
    format!("{}{}", count / unit, name[..1].to_uppercase())
}

/// How much of all that is, in whole percent. Nothing is whole before its end is known, which is no matter of bytes.
pub fn percent(done: u64, size: u64) -> u64 {
    let percent = u128::from(done) * 100 / u128::from(size.max(1));
    u64::try_from(percent.min(99)).unwrap_or(99)
}

/// A time that is left, in words.
pub fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..60 => format!("{} s", seconds.max(1)),
        seconds @ ..3600 => format!("{} min", seconds.div_ceil(60)),
        seconds if seconds < 100 * 3600 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Measures how fast something goes.
#[derive(Debug, Clone, Default)]
pub struct Meter(VecDeque<(Instant, u64)>);

impl Meter {
    /// Notes that so many bytes are done.
    pub fn note(&mut self, done: u64, now: Instant) {
        // It has begun anew.
        if self.0.back().is_some_and(|(_, before)| done < *before) {
            self.0.clear();
        }
        self.0.push_back((now, done));
        // One that is older stays, so that there is always something to compare with.
        while self.0.len() > MAX_SAMPLES || self.0.get(1).is_some_and(|(time, _)| *time + WINDOW < now) {
            self.0.pop_front();
        }
    }

    /// Forgets what was measured, because the transfer stands still.
    pub fn stop(&mut self) {
        self.0.clear();
    }

    /// How many bytes go in a second.
    pub fn rate(&self) -> Option<u64> {
        let ((first, before), (last, done)) = (self.0.front()?, self.0.back()?);
        let time = last.duration_since(*first).as_secs_f64();
        // Of a moment nothing can be told.
        (time >= LEAST).then(|| ((done - before) as f64 / time) as u64)
    }

    /// How long so many bytes will take.
    pub fn time_for(&self, bytes: u64) -> Option<Duration> {
        let rate = self.rate().filter(|rate| *rate > 0)?;
        Some(Duration::from_secs(bytes / rate))
    }
}

/// How far back a rate looks.
const WINDOW: Duration = Duration::from_secs(5);

/// How many seconds it needs to see.
const LEAST: f64 = 0.4;

/// Measurements that are kept. They come twice a second.
const MAX_SAMPLES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::bytes;

    #[test]
    fn amounts_are_said_in_few_digits_and_never_as_more_than_they_are() {
        for (count, long, short) in [
            (0, "0 B", "0"),
            (999, "999 B", "999"),
            (1000, "1.0 kB", "1K"),
            (2_449_999, "2.4 MB", "2M"),
            (99_999, "99 kB", "99K"),
            (999_999_999, "999 MB", "999M"),
            (5 * 1024 * 1024 * 1024, "5.3 GB", "5G"),
            (u64::MAX, "18446744 TB", "18446744T"),
        ] {
            assert_eq!((&*bytes(count), &*short_bytes(count)), (long, short));
        }
        assert_eq!([percent(0, 0), percent(1, 3), percent(3, 3), percent(u64::MAX, u64::MAX)], [0, 33, 99, 99]);
        for (seconds, words) in
            [(0, "1 s"), (59, "59 s"), (60, "1 min"), (61, "2 min"), (3660, "1 h 01 min"), (864_000, "10 days")]
        {
            assert_eq!(time(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let (start, mut meter) = (Instant::now(), Meter::default());
        meter.note(1_000_000, start);
        assert_eq!(meter.rate(), None, "nothing has gone yet");
        for second in 1..=20 {
            let speed = if second <= 10 { 100 } else { 10 };
            let before = meter.0.back().unwrap().1;
            meter.note(before + speed, start + Duration::from_secs(second));
        }
        assert_eq!(meter.rate(), Some(10), "and not what it was before");
        assert_eq!(meter.time_for(600), Some(Duration::from_secs(60)));
        meter.note(0, start + Duration::from_secs(21));
        assert_eq!(meter.rate(), None, "it begins anew");
        meter.stop();
        assert_eq!(meter.time_for(1), None);
    }
}
