//! How often something may happen, as server and peer both hold to it: the server bounds its clients so, and a peer its
//! own calls, to stay below that. Pure.

use std::time::{Duration, Instant};

/// How often something may happen: `amount` times in `per`, and `burst` times at once after a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many in the time `per`.
    pub amount: u32,
    /// The time in which so many may come.
    pub per: Duration,
    /// How many may come at once after a rest.
    pub burst: u32,
}

impl Rate {
    fn time_for(self, amount: f64) -> Duration {
        self.per.mul_f64(amount / f64::from(self.amount))
    }
}

/// A token bucket, kept as one instant: when it will be full again. That is the generic cell rate algorithm (ITU-T
/// I.371), which needs no timer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// `None` is full.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes `amount` out of the bucket if there is so much in it, and returns whether there was. No rate is no limit.
    #[inline]
    pub fn take(&mut self, amount: usize, rate: Option<Rate>, now: Instant) -> bool {
        let Some(rate) = rate else { return true };
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + rate.time_for(amount as f64);
        let is_enough = full_at <= now + rate.time_for(f64::from(rate.burst));
        if is_enough {
            self.full_at = Some(full_at);
        }
        is_enough
    }

    /// Puts back what was taken and came to nothing.
    pub fn give_back(&mut self, amount: usize, rate: Option<Rate>) {
        if let (Some(rate), Some(full_at)) = (rate, self.full_at) {
            self.full_at = full_at.checked_sub(rate.time_for(amount as f64));
        }
    }

    /// Whether there is so much in the bucket.
    pub fn holds(&self, amount: usize, rate: Option<Rate>, now: Instant) -> bool {
        rate.is_none_or(|rate| self.holds_at(amount, rate, now) <= now)
    }

    /// When there will be so much in the bucket.
    pub fn holds_at(&self, amount: usize, rate: Rate, now: Instant) -> Instant {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + rate.time_for(amount as f64);
        full_at.checked_sub(rate.time_for(f64::from(rate.burst))).map_or(now, |at| at.max(now))
    }

    /// Whether the bucket is full at `now`.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Some(Rate { amount: 200, per: Duration::from_secs(1), burst: 2000 });
        let start = Instant::now();
        let mut bucket = Bucket::default();
        let taken = |bucket: &mut Bucket, now| (0..10_000).take_while(|_| bucket.take(1, rate, now)).count();
        assert_eq!(taken(&mut bucket, start), 2000);
        assert_eq!(taken(&mut bucket, start), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1)), 200);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1000)), 2000, "never more than the burst");
    }

    #[test]
    fn what_is_too_much_takes_nothing_out() {
        let rate = Some(Rate { amount: 10, per: Duration::from_secs(1), burst: 100 });
        let now = Instant::now();
        let mut bucket = Bucket::default();
        assert!(!bucket.take(101, rate, now));
        assert!(bucket.take(100, rate, now));
        assert!(!bucket.take(1, rate, now));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let rate = Some(Rate { amount: 10, per: Duration::from_secs(1), burst: 100 });
        let now = Instant::now();
        let mut bucket = Bucket::default();
        bucket.give_back(5, rate);
        assert!(bucket.take(100, rate, now) && !bucket.take(1, rate, now));
        bucket.give_back(5, rate);
        assert!(!bucket.take(6, rate, now) && bucket.take(5, rate, now) && !bucket.take(1, rate, now));
    }

    #[test]
    fn when_there_will_be_enough_is_when_it_can_be_taken_and_not_before() {
        let rate = Rate { amount: 54, per: Duration::from_secs(60), burst: 50 };
        let start = Instant::now();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.holds_at(50, rate, start), start);
        let mut now = start;
        for amount in [50, 1, 7, 50, 3] {
            now = bucket.holds_at(amount, rate, now);
            let before = now.checked_sub(Duration::from_nanos(1)).unwrap();
            assert!(now == start || !bucket.holds(amount, Some(rate), before), "{amount}");
            assert!(bucket.take(amount, Some(rate), now), "{amount}");
        }
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        assert!(Bucket::default().take(usize::MAX, None, Instant::now()));
    }
}
