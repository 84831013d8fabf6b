//! How long the server is left alone after it was lost. Pure.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tungstenite::Error;

/// Whose doing it is that an open connection to the server is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The server has ended it, or its machine has: then it has ended that of all others, too, who seek it at the same
    /// moment.
    Servers,
    /// Our own network is gone, or nobody knows.
    Ours,
}

impl Loss {
    /// The same, as seen by a program that may have stood still until `woken`, and has last `heard` of the server. A
    /// loss that is read right at waking happened while it slept, and nobody else has noticed it just now: it counts as
    /// ours.
    pub fn seen(self, heard: Instant, woken: Option<Instant>) -> Self {
        if woken.is_some_and(|woken| heard <= woken + WAKING) { Self::Ours } else { self }
    }

    /// Whose doing it is that this has happened to an open connection.
    pub fn of(error: &Error) -> Self {
        let is_servers = match error {
            Error::ConnectionClosed | Error::AlreadyClosed => true,
            Error::Protocol(error) => matches!(error, tungstenite::error::ProtocolError::ResetWithoutClosingHandshake),
            Error::Io(error) => matches!(
                error.kind(),
                ErrorKind::ConnectionReset
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::BrokenPipe
                    | ErrorKind::ConnectionAborted
            ),
            _ => false,
        };
        if is_servers { Self::Servers } else { Self::Ours }
    }
}

/// The pause before the next try: it doubles with each failure, and a random part keeps the clients of a server that
/// comes back from all arriving at once. `random` is from 0 to 1.
fn pause(failures: u32, random: f64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + random / 2.0)
}

/// The pause after a loss. To what the server ends again and again it is no use to come back soon.
pub fn pause_after(loss: Loss, failures: u32, random: f64) -> Duration {
    match loss {
        Loss::Servers if failures > 1 => AFTER_SERVERS_END.mul_f64(random).max(pause(failures, random)),
        Loss::Servers => AFTER_SERVERS_END.mul_f64(random),
        Loss::Ours => pause(failures, random),
    }
}

/// How long a server is left alone that asks for so long a time: no less, and up to half as much more, so that not all
/// come back at the same moment; but there is a limit to what is granted.
pub fn as_asked(asked: Duration, random: f64) -> Duration {
    let shortest = asked.min(LONGEST_ASKED);
    shortest + (shortest.mul_f64(1.5).min(LONGEST_ASKED) - shortest).mul_f64(random)
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The longest pause after the end of a connection that the server has ended; the shortest is none. A server that
/// starts anew is sought by all its clients, and has so long to take them.
pub const AFTER_SERVERS_END: Duration = Duration::from_secs(5);

/// The longest pause that a server can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// So long after waking, what is read may still be what had come before.
const WAKING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_spread() {
        let milliseconds = |failures, random| pause(failures, random).as_millis();
        assert_eq!((milliseconds(1, 0.0), milliseconds(1, 1.0)), (250, 500));
        assert_eq!((milliseconds(3, 0.0), milliseconds(3, 1.0)), (1000, 2000));
        assert_eq!((milliseconds(u32::MAX, 0.0), milliseconds(u32::MAX, 1.0)), (15_000, 30_000));
    }

    #[test]
    fn a_server_that_ends_each_connection_is_sought_less_and_less() {
        let milliseconds = |failures, random| pause_after(Loss::Servers, failures, random).as_millis();
        assert_eq!((milliseconds(1, 0.0), milliseconds(1, 1.0)), (0, 5000));
        assert_eq!((milliseconds(2, 0.0), milliseconds(2, 1.0)), (500, 5000));
        assert_eq!((milliseconds(5, 0.0), milliseconds(5, 1.0)), (4000, 8000));
        assert_eq!((milliseconds(9, 0.0), milliseconds(9, 1.0)), (15_000, 30_000));
    }

    #[test]
    fn an_end_is_the_servers_or_our_own_networks() {
        let io = |kind: ErrorKind| Loss::of(&Error::Io(kind.into()));
        for kind in [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof, ErrorKind::BrokenPipe] {
            assert_eq!(io(kind), Loss::Servers, "{kind:?}");
        }
        for kind in
            [ErrorKind::TimedOut, ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable, ErrorKind::NetworkDown]
        {
            assert_eq!(io(kind), Loss::Ours, "{kind:?}");
        }
        assert_eq!(Loss::of(&Error::ConnectionClosed), Loss::Servers);
        let reset = tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        assert_eq!(Loss::of(&Error::Protocol(reset)), Loss::Servers);
    }

    #[test]
    fn a_server_that_asks_for_time_gets_no_less_and_a_minute_at_most() {
        let asked = |seconds, random| as_asked(Duration::from_secs(seconds), random).as_secs();
        assert_eq!((asked(20, 0.0), asked(20, 1.0)), (20, 30));
        assert_eq!((asked(50, 0.0), asked(50, 1.0)), (50, 60));
        assert_eq!((asked(7200, 0.0), asked(7200, 1.0)), (60, 60));
    }
}
