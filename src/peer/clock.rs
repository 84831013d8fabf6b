//! The time as a peer counts it: it stands still while the program does. A program that was stopped and goes on has not
//! heard from anybody in the meantime, which is no silence of theirs; so whoever it waits for gets the time anew that
//! it was away.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use crate::lock::lock;

/// A clock that whoever waits tells of it. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<Mutex<Absence>>);

/// That somebody waits, for as long as this is there.
#[derive(Debug)]
pub struct Idling {
    clock: Clock,
    number: u64,
}

#[derive(Debug, Default)]
struct Absence {
    /// Who waits, and when each of them is due; one who is not goes on only when something happens.
    waiting: Vec<(u64, Option<Instant>)>,
    last_number: u64,
    /// When the program was seen to run last.
    seen: Option<Instant>,
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

    /// Learns that somebody does nothing for so long, unless something happens; or until something does. Whoever does
    /// not wait is at work, and looks at the clock again and again.
    pub fn waits(&self, duration: Option<Duration>) -> Idling {
        Idling { clock: self.clone(), number: lock(&self.0).waits(duration, Instant::now()) }
    }
}

impl Drop for Idling {
    fn drop(&mut self) {
        lock(&self.clock.0).waits_no_more(self.number, Instant::now());
    }
}

impl Absence {
    fn now(&mut self, real: Instant) -> Instant {
        self.look(real);
        // A clock of the system's that began so lately is none that a program could have stood still by.
        real.checked_sub(self.absent).unwrap_or(real)
    }

    /// The program runs. If nobody waited, it was to be seen a moment ago; else when the last of those is due.
    fn look(&mut self, real: Instant) {
        let Some(seen) = self.seen.replace(real) else { return };
        let Some(due) = self.waiting.iter().try_fold(seen, |latest, (_, due)| due.map(|due| due.max(latest))) else {
            return;
        };
        let late = real.saturating_duration_since(due);
        self.absent += if late >= ABSENCE { late } else { Duration::ZERO };
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

    fn waits(&mut self, duration: Option<Duration>, real: Instant) -> u64 {
        self.look(real);
        self.last_number += 1;
        self.waiting.push((self.last_number, duration.and_then(|duration| real.checked_add(duration))));
        self.last_number
    }

    fn waits_no_more(&mut self, number: u64, real: Instant) {
        self.look(real);
        self.waiting.retain(|(other, _)| *other != number);
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
        clock.waits(None, start);
        assert!(!clock.has_slept(start + seconds(60), wall + seconds(60)), "nobody said how long it waits");
        clock.waits_no_more(1, start + seconds(60));
        clock.waits(Some(seconds(1)), start + seconds(60));
        clock.now(start + seconds(90));
        assert!(clock.has_slept(start + seconds(90), wall + seconds(90)), "the program");
        assert!(!clock.has_slept(start + seconds(91), wall + seconds(91)));
        assert!(clock.has_slept(start + seconds(92), wall + seconds(900)), "the machine");
        assert!(!clock.has_slept(start + seconds(93), wall + seconds(901)));
        assert!(!clock.has_slept(start + seconds(94), wall), "a clock that is set back");
    }

    /// A clock, and the time in milliseconds since it was made, by it and by that of the system.
    struct Times(Absence, Instant);

    impl Times {
        fn new() -> Self {
            Self(Absence::default(), Instant::now())
        }

        fn now(&mut self, real: u64) -> u128 {
            (self.0.now(self.1 + Duration::from_millis(real)) - self.1).as_millis()
        }

        /// Waits from the one time to the other, for so long unless something happens.
        fn wait(&mut self, from: u64, duration: u64, to: u64) {
            let number = self.begin(from, duration);
            self.end(number, to);
        }

        fn begin(&mut self, from: u64, duration: u64) -> u64 {
            self.0.waits(Some(Duration::from_millis(duration)), self.1 + Duration::from_millis(from))
        }

        fn end(&mut self, number: u64, at: u64) {
            self.0.waits_no_more(number, self.1 + Duration::from_millis(at));
        }
    }

    #[test]
    fn time_stands_still_while_the_program_does_and_at_no_other_time() {
        let mut clock = Times::new();
        assert_eq!(clock.now(5000), 5000);
        clock.wait(5000, 2000, 5500);
        assert_eq!(clock.now(5500), 5500, "woken earlier");
        clock.wait(5500, 2000, 8499);
        assert_eq!(clock.now(8499), 8499, "a little late");
        clock.wait(8500, 2000, 47_500);
        assert_eq!(clock.now(47_500), 10_500, "37 s away");
        assert_eq!(clock.now(47_600), 10_600, "told once");
        clock.wait(47_600, 100, 57_700);
        assert_eq!(clock.now(57_700), 10_700, "and again");
        let until_something_happens = clock.0.waits(None, clock.1 + Duration::from_millis(57_700));
        clock.end(until_something_happens, 97_700);
        assert_eq!(clock.now(97_700), 50_700, "who is never due is never late");
    }

    #[test]
    fn time_stands_still_too_where_the_program_is_stopped_at_its_work() {
        let mut clock = Times::new();
        clock.wait(0, 2000, 1000);
        assert_eq!(clock.now(1000), 1000);
        // It has begun to do something, and waits for nothing.
        assert_eq!(clock.now(1900), 1900);
        assert_eq!(clock.now(21_900), 1900);
        // Just before it would have begun to wait, and just after it has waited.
        clock.wait(41_900, 2000, 43_900);
        assert_eq!(clock.now(63_900), 3900);
    }

    #[test]
    fn of_several_who_wait_the_last_one_counts_and_whoever_looks_meanwhile_is_no_matter() {
        let mut clock = Times::new();
        let (long, short) = (clock.begin(0, 9000), clock.begin(0, 10));
        clock.end(short, 10);
        assert_eq!(clock.now(4000), 4000, "another one is at work");
        clock.end(long, 9000);
        assert_eq!(clock.now(9000), 9000);
    }
}
