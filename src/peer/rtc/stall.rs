//! Tells a way that swallows long datagrams: the connection is alive, and of what was sent over it nothing is
//! acknowledged any more. Pure.

use std::time::{Duration, Instant};

/// How long something has been waited for, without the time in which the program stood still. Whether it has come is
/// looked at now and then.
#[derive(Debug)]
pub struct Wait {
    since: Instant,
    looked: Instant,
}

impl Wait {
    /// From now on something is waited for.
    pub fn new(now: Instant) -> Self {
        Self { since: now, looked: now }
    }

    /// Looks, and returns how long it has been waited for by now. With `is_progress` that begins anew.
    pub fn look(&mut self, is_progress: bool, now: Instant) -> Duration {
        let gap = now.saturating_duration_since(self.looked);
        if gap >= ABSENCE {
            self.since += gap;
        }
        self.looked = now;
        if is_progress {
            self.since = now;
        }
        now.saturating_duration_since(self.since)
    }
}

/// What one connection has sent that is not acknowledged yet.
#[derive(Debug)]
pub struct Stall {
    acknowledged: usize,
    wait: Wait,
}

impl Stall {
    /// From now on something is on its way.
    pub fn new(now: Instant) -> Self {
        Self { acknowledged: 0, wait: Wait::new(now) }
    }

    /// Learns of how many bytes were sent in all, of how many of them are not acknowledged, and of when something was
    /// heard last. Returns whether that is a stall. What is sent besides is no progress. `is_narrow`: datagrams are
    /// short already, so that losses are the likelier cause, and take longer to be over.
    pub fn is_one(
        &mut self,
        sent: usize,
        outstanding: usize,
        heard: Option<Instant>,
        is_narrow: bool,
        now: Instant,
    ) -> bool {
        let acknowledged = sent.saturating_sub(outstanding);
        let is_progress = outstanding == 0 || acknowledged > self.acknowledged;
        self.acknowledged = self.acknowledged.max(acknowledged);
        let waited = self.wait.look(is_progress, now);
        let is_alive = heard.is_some_and(|heard| heard >= self.wait.since + SIGN_OF_LIFE);
        is_alive && waited >= if is_narrow { NARROW_PATIENCE } else { PATIENCE }
    }
}

/// How long nothing may be acknowledged. SCTP sends again after one second and after three, so here twice in vain.
/// Where datagrams are short already, losses are the likelier cause, which take longer to be over.
const PATIENCE: Duration = Duration::from_secs(5);
const NARROW_PATIENCE: Duration = Duration::from_secs(20);

/// What is heard so long after the last acknowledgement shows that it is not the connection that is lost.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// Whoever has not looked for so long has stood still. Looks are half a second apart, and less.
const ABSENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// When it is a stall first, of such looks each half second: what is outstanding of 1,000,000 bytes, and whether
    /// something was heard just then.
    fn first(is_narrow: bool, look: impl Fn(u64) -> (usize, bool)) -> Option<u64> {
        first_of(is_narrow, |time| (1_000_000, look(time).0, look(time).1))
    }

    /// The same, with what was sent in all.
    fn first_of(is_narrow: bool, look: impl Fn(u64) -> (usize, usize, bool)) -> Option<u64> {
        let start = Instant::now();
        let (mut stall, mut heard) = (Stall::new(start), None);
        (0..200).map(|half| half * 500).find(|&time| {
            let now = start + Duration::from_millis(time);
            let (sent, outstanding, is_heard) = look(time);
            heard = if is_heard { Some(now) } else { heard };
            stall.is_one(sent, outstanding, heard, is_narrow, now)
        })
    }

    #[test]
    fn nothing_acknowledged_on_a_living_connection_is_a_stall() {
        assert_eq!(first(false, |_| (1000, true)), Some(5000));
        assert_eq!(first(true, |_| (1000, true)), Some(20_000));
        assert_eq!(first(false, |time| (1000, time == 4000)), Some(5000));
    }

    #[test]
    fn progress_silence_and_a_lost_connection_are_none() {
        assert_eq!(first(false, |time| (1_000_000 - time as usize / 4000, true)), None);
        assert_eq!(first(false, |_| (0, true)), None);
        assert_eq!(first(false, |time| (1000, time <= 1500)), None);
        // Progress puts it off.
        assert_eq!(first(false, |time| (if time < 3000 { 1000 } else { 900 }, true)), Some(8000));
    }

    #[test]
    fn what_is_written_meanwhile_is_no_progress_and_what_arrives_is() {
        let written = |time: u64| 1000 + time as usize;
        assert_eq!(first_of(false, |time| (written(time), written(time), true)), Some(5000));
        // As much is written as arrives, so that always as much is outstanding.
        assert_eq!(first_of(false, |time| (written(time), 1000, true)), None);
        // A text may be outstanding a moment before it is counted as sent.
        assert_eq!(first_of(false, |time| (1000, if time < 1000 { 900 } else { 1000 }, true)), Some(5000));
    }

    #[test]
    fn a_program_that_stands_still_does_not_wait() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut wait = Wait::new(start);
        assert_eq!(wait.look(false, at(500)).as_millis(), 500);
        assert_eq!(wait.look(false, at(60_500)).as_millis(), 500);
        assert_eq!(wait.look(false, at(62_000)).as_millis(), 2000);
        assert_eq!(wait.look(true, at(62_500)).as_millis(), 0);
        let mut stall = Stall::new(start);
        assert!(!stall.is_one(1000, 1000, Some(at(0)), false, at(500)));
        for time in [60_000, 60_500, 64_000] {
            assert!(!stall.is_one(1000, 1000, Some(at(time)), false, at(time)), "{time}");
        }
    }
}
