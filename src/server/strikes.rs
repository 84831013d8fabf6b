//! Which errors count against the client that they are answered to: the one place where that is decided. Pure.
//!
//! **The rule.** An error is a strike if the message could have been right for nobody at no time: whoever sends such
//! has a fault, and many of them at once are a program that understands nothing of what it is told. What time or
//! another user has a share in is none, since the best of clients meets it: somebody goes offline while candidates
//! are on their way to them, a session ends while its identifier is being typed, a bot of many chats has more to say
//! than it may. Such messages are held by the buckets for messages, bytes and calls, which is enough, and no
//! connection ends by them.
//!
//! A strike fades with time, so that a small fault that comes again and again, as a heartbeat of a type that this
//! server does not know, ends nothing either.

use std::time::Instant;

use crate::bucket::{Bucket, Rate};
use crate::protocol::ErrorCode;

/// The strikes of one client.
#[derive(Debug, Clone, Copy, Default)]
pub struct Strikes(Bucket);

impl Strikes {
    /// Learns of an error that is answered to the client, and returns whether it was one too many.
    pub fn note(&mut self, code: ErrorCode, rate: Rate, now: Instant) -> bool {
        is_strike(code) && !(self.0.take(1, Some(rate), now) && self.0.holds(1, Some(rate), now))
    }
}

/// Whether an error is its client's own fault, whatever others do and whenever it comes.
fn is_strike(code: ErrorCode) -> bool {
    match code {
        ErrorCode::InvalidMessage
        | ErrorCode::UnknownType
        | ErrorCode::MissingTarget
        | ErrorCode::InvalidTarget
        | ErrorCode::MissingSessionId
        | ErrorCode::InvalidSessionId => true,
        ErrorCode::UserOffline | ErrorCode::RelayFailed | ErrorCode::SessionJoinFailed | ErrorCode::RateLimited => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::limits::Limits;
    use super::*;

    #[test]
    fn fifty_faults_at_once_are_too_many_and_they_fade() {
        let (rate, start) = (Limits::default().strikes, Instant::now());
        let mut strikes = Strikes::default();
        let count = |strikes: &mut Strikes, now| {
            (1..200).find(|_| strikes.note(ErrorCode::UnknownType, rate, now)).expect("it is too many at last")
        };
        assert_eq!(count(&mut strikes, start), 50);
        assert_eq!(count(&mut strikes, start + Duration::from_secs(20)), 20);
        assert_eq!(count(&mut strikes, start + Duration::from_secs(1000)), 50, "a clean sheet after a while");
    }

    #[test]
    fn what_time_and_others_cause_is_no_strike() {
        let mut strikes = Strikes::default();
        let codes =
            [ErrorCode::UserOffline, ErrorCode::RelayFailed, ErrorCode::SessionJoinFailed, ErrorCode::RateLimited];
        for code in codes.into_iter().cycle().take(10_000) {
            assert!(!strikes.note(code, Limits::default().strikes, Instant::now()));
        }
    }
}
