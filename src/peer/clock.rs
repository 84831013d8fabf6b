//! The time as a peer counts it: it stands still while the program does. A program that was stopped and goes on has not
//! heard from anybody in the meantime, which is no silence of theirs; so whoever it waits for gets the time anew that
//! it was away.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use super::sync::lock;

/// A clock that whoever waits tells how long it is going to.
#[derive(Debug, Default)]
pub struct Clock(Mutex<Absence>);

#[derive(Debug, Default)]
struct Absence {
    /// When the one who waits is due.
    due: Option<Instant>,
    /// How long the program has stood still, in all.
    absent: Duration,
    /// How long that was, and what time it was by both clocks of the system's, when it was asked last whether it has.
    asked: Option<(Duration, Instant, SystemTime)>,
}

impl Clock {
    /// What time it is.
    pub fn now(&self) -> Instant {
        lock(&self.0).now(Instant::now())
    }

    /// Whether the program, or the whole machine, has stood still since this was asked last.
    pub fn has_slept(&self) -> bool {
        lock(&self.0).has_slept(Instant::now(), SystemTime::now())
    }

    /// Learns that nothing is done for so long, unless something happens.
    pub fn waits(&self, duration: Duration) {
        lock(&self.0).waits(duration, Instant::now());
    }
}

impl Absence {
    fn now(&mut self, real: Instant) -> Instant {
        // Whoever looks is awake; what was to be waited for has come, or something else.
        if let Some(due) = self.due.take() {
            let late = real.saturating_duration_since(due);
            self.absent += if late >= ABSENCE { late } else { Duration::ZERO };
        }
        // A clock of the system's that began so lately is none that a program could have stood still by.
        real.checked_sub(self.absent).unwrap_or(real)
    }

    /// Where the machine itself sleeps, its clock stands still with it, but not that of the wall. That one may also
    /// have been set; to believe in a sleep that was none does no harm.
    fn has_slept(&mut self, real: Instant, wall: SystemTime) -> bool {
        let before = self.asked.replace((self.absent, real, wall));
        before.is_some_and(|(absent, real_before, wall_before)| {
            let passed = real.saturating_duration_since(real_before);
            self.absent > absent || wall.duration_since(wall_before).is_ok_and(|by_wall| by_wall >= passed + ABSENCE)
        })
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
    fn a_sleep_of_the_program_or_of_the_machine_is_seen_once() {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let seconds = Duration::from_secs;
        let mut clock = Absence::default();
        assert!(!clock.has_slept(start, wall));
        assert!(!clock.has_slept(start + seconds(60), wall + seconds(60)), "nobody said how long it waits");
        clock.waits(seconds(1), start + seconds(60));
        clock.now(start + seconds(90));
        assert!(clock.has_slept(start + seconds(90), wall + seconds(90)), "the program");
        assert!(!clock.has_slept(start + seconds(91), wall + seconds(91)));
        assert!(clock.has_slept(start + seconds(92), wall + seconds(900)), "the machine");
        assert!(!clock.has_slept(start + seconds(93), wall + seconds(901)));
        assert!(!clock.has_slept(start + seconds(94), wall), "a clock that is set back");
    }

    #[test]
    fn time_stands_still_while_the_program_does_and_at_no_other_time() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut clock = Absence::default();
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
