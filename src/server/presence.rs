//! The clock by which the server waits for its clients: it stands still while the server itself is away. Pure.
//!
//! A process may be stopped, a machine may sleep, a host may have no processor for it. What clients have said in the
//! meantime waits in the system, and what the server should have said, such as a ping, was not said. If that time counted,
//! everybody would be cut on waking, each for the server's own silence. So deadlines of every kind are kept by this clock,
//! and go on where they stood: pings, request heads, close handshakes, names that are kept, sessions, and rates.

use std::time::{Duration, Instant};

/// The clock.
#[derive(Debug, Default)]
pub struct Presence {
    /// How long the server has been away in all.
    away: Duration,
    /// When it meant to be back at the latest.
    back_by: Option<Instant>,
}

impl Presence {
    /// How long to sleep in a turn that began at `started`, where there is nothing to do for `timeout`. It is never for
    /// long, so that an absence that begins in the middle of a sleep is known to a second.
    pub fn sleep(&mut self, started: Instant, timeout: Option<Duration>) -> Option<Duration> {
        let sleep = timeout.map(|timeout| timeout.min(LONGEST_SLEEP));
        self.back_by = sleep.map(|sleep| started + sleep);
        sleep
    }

    /// The time on this clock when a turn begins at `started`, and how long the server was away before.
    pub fn wake(&mut self, started: Instant) -> (Instant, Duration) {
        let late = self.back_by.map_or(Duration::ZERO, |back_by| started.saturating_duration_since(back_by));
        let away = if late > LATE { late } else { Duration::ZERO };
        self.away += away;
        (started.checked_sub(self.away).unwrap_or(started), away)
    }
}

/// The longest sleep while anything is awaited.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A turn that is later than this was not only long: it is the server that was away.
const LATE: Duration = Duration::from_millis(100);

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
        presence.sleep(at(300), Some(Duration::from_millis(200)));
        assert_eq!(presence.wake(at(590)), (at(590), Duration::ZERO), "a long turn");
        presence.sleep(at(590), Some(Duration::from_millis(10)));
        assert_eq!(presence.wake(at(37_600)), (at(600), Duration::from_secs(37)));
        presence.sleep(at(37_600), Some(Duration::from_secs(9)));
        assert_eq!(presence.wake(at(38_600)), (at(1600), Duration::ZERO));
        assert_eq!(presence.sleep(at(38_600), None), None, "nothing is awaited");
        assert_eq!(presence.wake(at(99_000)), (at(62_000), Duration::ZERO));
    }
}
