//! The time as a peer counts it: it stands still while the program does. A program that was stopped and goes on has not heard from
//! anybody in the meantime, which is no silence of theirs; so whoever it waits for gets the time anew that it was away.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A clock that whoever waits tells how long it is going to.
#[derive(Debug, Default)]
pub struct Clock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the one who waits is due.
    due: Option<Instant>,
    /// How long the program has stood still, in all.
    absent: Duration,
}

impl Clock {
    /// What time it is.
    pub fn now(&self) -> Instant {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now(Instant::now())
    }

    /// Takes note that nothing is done for so long, unless something happens.
    pub fn waits(&self, duration: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waits(duration, Instant::now());
    }
}

impl State {
    fn now(&mut self, real: Instant) -> Instant {
        // Whoever looks is awake; what was to be waited for has come, or something else.
        if let Some(due) = self.due.take() {
            let late = real.saturating_duration_since(due);
            self.absent += if late >= ABSENCE { late } else { Duration::ZERO };
        }
        // A clock of the system's that began so lately is none that a program could have stood still by.
        real.checked_sub(self.absent).unwrap_or(real)
    }

    fn waits(&mut self, duration: Duration, real: Instant) {
        // Several may wait, and the program sleeps as long as the last of them.
        self.due = self.due.max(real.checked_add(duration));
    }
}

/// From when on being late is having stood still. A machine that has much to do is late, too, but by less.
const ABSENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_while_the_program_does_and_at_no_other_time() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut clock = State::default();
        assert_eq!(clock.now(at(5000)), at(5000), "who has not said how long it waits is never late");
        clock.waits(Duration::from_millis(2000), at(5000));
        assert_eq!(clock.now(at(5500)), at(5500), "woken earlier");
        clock.waits(Duration::from_millis(2000), at(5500));
        assert_eq!(clock.now(at(8499)), at(8499), "a little late");
        clock.waits(Duration::from_millis(2000), at(8500));
        assert_eq!(clock.now(at(47_500)), at(10_500), "37 s away");
        assert_eq!(clock.now(at(47_600)), at(10_600), "told once");
        clock.waits(Duration::from_millis(100), at(47_600));
        assert_eq!(clock.now(at(57_700)), at(10_700), "and again");
        clock.waits(Duration::from_millis(100), at(57_700));
        assert_eq!(clock.now(at(57_750)), at(10_750));
        assert_eq!(clock.now(at(97_750)), at(50_750), "what was waited for before is no matter");
        clock.waits(Duration::from_millis(9000), at(97_750));
        clock.waits(Duration::from_millis(10), at(97_750));
        assert_eq!(clock.now(at(106_750)), at(59_750), "the longest sleep counts");
    }
}
