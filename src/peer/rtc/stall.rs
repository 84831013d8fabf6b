//! Tells a way that swallows long datagrams: the connection is alive, and of what was sent over it nothing is acknowledged any more. Pure.

use std::time::{Duration, Instant};

/// What one connection has sent that is not acknowledged yet.
#[derive(Debug)]
pub struct Stall {
    outstanding: usize,
    since: Instant,
}

impl Stall {
    /// From now on something is on its way.
    pub fn new(now: Instant) -> Self {
        Self { outstanding: 0, since: now }
    }

    /// Takes note of how many bytes are not acknowledged and when something was heard last; whether that is a stall. `is_narrow`:
    /// datagrams are short already, so that losses are the likelier cause, and take longer to be over.
    pub fn is_one(&mut self, outstanding: usize, heard: Option<Instant>, is_narrow: bool, now: Instant) -> bool {
        if outstanding == 0 || outstanding != self.outstanding {
            (self.outstanding, self.since) = (outstanding, now);
        }
        let is_alive = heard.is_some_and(|heard| heard >= self.since + SIGN_OF_LIFE);
        is_alive && now >= self.since + if is_narrow { NARROW_PATIENCE } else { PATIENCE }
    }
}

/// So long nothing is acknowledged though it was sent again, after one second, three and seven.
const PATIENCE: Duration = Duration::from_secs(5);
const NARROW_PATIENCE: Duration = Duration::from_secs(20);

/// What is heard so long after the last acknowledgement shows that it is not the connection that is lost.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// When it is a stall first, of such looks each half second: what is outstanding, and whether something was heard just then.
    fn first(is_narrow: bool, look: impl Fn(u64) -> (usize, bool)) -> Option<u64> {
        let start = Instant::now();
        let (mut stall, mut heard) = (Stall::new(start), None);
        (0..200).map(|half| half * 500).find(|&time| {
            let now = start + Duration::from_millis(time);
            let (outstanding, is_heard) = look(time);
            heard = if is_heard { Some(now) } else { heard };
            stall.is_one(outstanding, heard, is_narrow, now)
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
}
