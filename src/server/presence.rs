//! The clock by which the server waits for its clients: it stands still while the server itself is away. Pure.
//!
//! A process may be stopped, a machine may sleep, a host may have no processor for it. What clients have said in the
//! meantime waits in the system, and what the server should have said, such as a ping, was not said. If that time
//! counted, everybody would be cut on waking, each for the server's own silence. So deadlines of every kind are kept
//! by this clock, and go on where they stood: pings, request heads, close handshakes, names that are kept, sessions,
//! and rates.

use std::time::{Duration, Instant};

/// The clock.
#[derive(Debug, Default)]
pub struct Presence {
    /// How long the server has been away in all.
    away: Duration,
    /// When it last woke.
    woken: Option<Instant>,
    /// When it means to be back at the latest.
    back_by: Option<Instant>,
    /// How long the turn before this sleep was an absence.
    away_in_turn: Duration,
}

impl Presence {
    /// How long to sleep from `begun` on, when a turn is over, where there is nothing to do for `timeout`. It is
    /// never for long, so that an absence that begins in the middle of a sleep is known to a second.
    pub fn sleep(&mut self, begun: Instant, timeout: Option<Duration>) -> Option<Duration> {
        let turn = self.woken.map_or(Duration::ZERO, |woken| begun.saturating_duration_since(woken));
        self.away_in_turn = absence(turn, LONGEST_TURN);
        let sleep = timeout.map(|timeout| timeout.min(LONGEST_SLEEP));
        self.back_by = sleep.map(|sleep| begun + sleep);
        sleep
    }

    /// The time on this clock when the sleep is over at `woken`, and how long the server was away since it woke before.
    pub fn wake(&mut self, woken: Instant) -> (Instant, Duration) {
        let late = self.back_by.map_or(Duration::ZERO, |back_by| woken.saturating_duration_since(back_by));
        let away = std::mem::take(&mut self.away_in_turn) + absence(late, LATE);
        self.away += away;
        self.woken = Some(woken);
        (woken.checked_sub(self.away).unwrap_or(woken), away)
    }
}

/// How much of a duration was an absence: all of it where it is longer than `most`, and none where it may as well have
/// been work.
fn absence(duration: Duration, most: Duration) -> Duration {
    if duration > most { duration } else { Duration::ZERO }
}

/// The longest sleep while anything is awaited.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Whoever wakes later than this was away. A busy machine is late, too, but by less.
const LATE: Duration = Duration::from_secs(2);

/// A turn is work, and that counts: under load all of the time is work, and rates and deadlines have to go on. But so
/// long no turn works, since it takes a bounded share of each of a thousand clients at most.
const LONGEST_TURN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stands_still_while_the_server_is_away() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut presence = Presence::default();
        assert_eq!(presence.wake(start), (start, Duration::ZERO));
        assert_eq!(presence.sleep(start, Some(Duration::from_secs(25))), Some(LONGEST_SLEEP));
        assert_eq!(presence.wake(at(300)), (at(300), Duration::ZERO), "woken by a client");
        presence.sleep(at(350), Some(Duration::from_millis(200)));
        assert_eq!(presence.wake(at(2550)), (at(2550), Duration::ZERO), "a busy machine");
        presence.sleep(at(2600), Some(Duration::from_millis(10)));
        assert_eq!(presence.wake(at(39_610)), (at(2610), Duration::from_secs(37)), "in its sleep");
        presence.sleep(at(39_620), Some(Duration::from_secs(9)));
        assert_eq!(presence.wake(at(40_620)), (at(3620), Duration::ZERO));
        presence.sleep(at(60_620), Some(Duration::ZERO));
        assert_eq!(presence.wake(at(60_630)), (at(3630), Duration::from_secs(20)), "in the middle of a turn");
        assert_eq!(presence.sleep(at(60_630), None), None, "nothing is awaited");
        assert_eq!(presence.wake(at(99_000)), (at(42_000), Duration::ZERO));
    }

    #[test]
    fn a_server_in_overload_is_not_away_and_its_clock_goes_on() {
        let start = Instant::now();
        let mut presence = Presence::default();
        presence.wake(start);
        // A minute of turns of 300 ms each, after which there is always more to do.
        for turn in 1..=200 {
            let now = start + Duration::from_millis(300) * turn;
            assert_eq!(presence.sleep(now, Some(Duration::ZERO)), Some(Duration::ZERO));
            assert_eq!(presence.wake(now), (now, Duration::ZERO), "{turn}");
        }
    }
}
