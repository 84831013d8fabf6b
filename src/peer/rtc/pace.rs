//! How long WebRTC's driver, its loop over a connection, sleeps: hardly while the connection opens, as it likes while
//! something is said, and long once all is silent.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// How far a connection is, as its sleeps go.
#[derive(Debug)]
pub struct Pace(Mutex<Rhythm>);

#[derive(Debug)]
struct Rhythm {
    stage: PaceStage,
    /// When something came from the network last.
    heard: Option<Instant>,
    /// How long after that a silent connection may rest.
    silent_sleep: Duration,
}

#[derive(Debug, Clone, Copy)]
enum PaceStage {
    /// It is being opened: short sleeps until then.
    Opening(Instant),
    /// It is open, and something was last said then.
    Open(Instant),
}

impl Pace {
    /// A connection that is about to be opened, and that counts as lost when nothing was heard for `lost_after`.
    pub fn opening(lost_after: Duration) -> Self {
        let silent_sleep = (lost_after / 3).min(SILENT_SLEEP);
        Self(Mutex::new(Rhythm { stage: PaceStage::Opening(Instant::now() + PROMPT_TIME), heard: None, silent_sleep }))
    }

    /// Learns that the connection is open, and that something is said over it.
    pub fn active(&self) {
        self.state().stage = PaceStage::Open(Instant::now());
    }

    /// Learns of what has come from the network.
    pub fn hear(&self, datagram: &[u8]) {
        self.state().hear(datagram, Instant::now());
    }

    /// Until when it can be believed that the connection lives, if nothing more is heard. One that is being opened is
    /// given that time from now on, again and again.
    pub fn heard_until(&self, silence: Duration) -> Instant {
        let state = self.state();
        let heard = state.heard.filter(|_| matches!(state.stage, PaceStage::Open(_)));
        heard.unwrap_or_else(Instant::now) + silence
    }

    /// When something came from the network last.
    pub fn heard(&self) -> Option<Instant> {
        self.state().heard
    }

    /// Whether the connection was not open yet.
    pub fn is_opening(&self) -> bool {
        matches!(self.state().stage, PaceStage::Opening(_))
    }

    /// How long to sleep where WebRTC's driver wants to sleep for `duration`. What comes from the network wakes it
    /// anyway, and so does what is sent.
    pub fn sleep(&self, duration: Duration) -> Duration {
        self.state().sleep(duration, Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, Rhythm> {
        lock(&self.0)
    }
}

impl Rhythm {
    fn hear(&mut self, datagram: &[u8], now: Instant) {
        self.heard = Some(now);
        // It is to be acknowledged in time.
        if let PaceStage::Open(said) = &mut self.stage
            && !is_keepalive(datagram)
        {
            *said = now;
        }
    }

    fn sleep(&self, duration: Duration, now: Instant) -> Duration {
        let said = match self.stage {
            PaceStage::Opening(until) if now < until => return duration.min(PROMPT_SLEEP),
            PaceStage::Opening(_) => return duration,
            PaceStage::Open(said) => said,
        };
        let quiet = now.saturating_duration_since(said);
        if quiet <= QUIET_TIME {
            return duration;
        }
        let rest = match self.heard {
            Some(heard) if quiet > SILENT_TIME => (heard + self.silent_sleep).saturating_duration_since(now),
            _ => Duration::ZERO,
        };
        duration.max(QUIET_SLEEP).max(rest)
    }
}

/// Whether this is STUN (RFC 7983, section 7), which is all that goes between peers who say nothing; through a relay it
/// may be wrapped in ChannelData, behind four bytes.
fn is_keepalive(datagram: &[u8]) -> bool {
    let content = match datagram.first() {
        Some(64..=79) => datagram.get(4),
        first => first,
    };
    matches!(content, Some(0..=3))
}

/// The longest sleep of WebRTC's driver while it opens a connection, and for how long that is worth its price.
const PROMPT_SLEEP: Duration = Duration::from_millis(2);
const PROMPT_TIME: Duration = Duration::from_secs(15);

/// The shortest sleep of a connection over which nothing was said for a time. What is resent and acknowledged is mostly
/// done with by then; what is left are keepalives, which may come two seconds late.
const QUIET_SLEEP: Duration = Duration::from_secs(2);
const QUIET_TIME: Duration = Duration::from_secs(5);

/// The sleep of a connection over which nothing was said for longer, after a sign of life: consent is asked for every
/// five seconds (RFC 7675, section 5.1), and NATs want less (RFC 8445, section 11). Where the sign fails to come, the
/// sleeps are short again, so that some lost datagrams do not end the chat, nor does a loss show later.
const SILENT_SLEEP: Duration = Duration::from_secs(5);
const SILENT_TIME: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(200);
    const BINDING_REQUEST: &[u8] = &[0, 1, 0, 0];
    const RECORD: &[u8] = &[23, 254, 253, 0];

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    fn open(start: Instant, lost_after: u64) -> Rhythm {
        let pace = Pace::opening(Duration::from_secs(lost_after));
        Rhythm { stage: PaceStage::Open(start), ..pace.0.into_inner().unwrap() }
    }

    #[test]
    fn sleeps_are_short_while_a_connection_opens_and_long_while_nothing_is_said() {
        let start = Instant::now();
        let opening = Rhythm { stage: PaceStage::Opening(after(start, 15_000)), ..open(start, 15) };
        let sleeps = |state: &Rhythm, times: &[u64]| -> Vec<u128> {
            times.iter().map(|&time| state.sleep(TICK, after(start, time)).as_millis()).collect()
        };
        assert_eq!(sleeps(&opening, &[0, 14_999, 15_000]), [2, 2, 200]);
        let mut open = open(start, 15);
        assert_eq!(sleeps(&open, &[0, 5000, 5001, 15_000, 15_001]), [200, 200, 2000, 2000, 2000]);
        open.hear(BINDING_REQUEST, after(start, 15_000));
        assert_eq!(
            sleeps(&open, &[15_000, 15_001, 16_000, 18_500, 20_000, 40_000]),
            [2000, 4999, 4000, 2000, 2000, 2000]
        );
        assert_eq!(open.sleep(Duration::from_secs(9), after(start, 15_001)), Duration::from_secs(9));
    }

    #[test]
    fn what_was_said_keeps_a_connection_awake_and_a_keepalive_does_not() {
        let start = Instant::now();
        let silent = after(start, 20_000);
        let relayed = [&[64, 0, 0, 4], RECORD].concat();
        let relayed_request = [&[64, 0, 0, 4], BINDING_REQUEST].concat();
        let cases = [(RECORD, 200), (&relayed, 200), (BINDING_REQUEST, 5000), (&relayed_request, 5000)];
        for (datagram, sleep) in cases {
            let mut open = open(start, 15);
            open.hear(datagram, silent);
            assert_eq!(open.sleep(TICK, silent).as_millis(), sleep, "{datagram:?}");
        }
        // What belongs to the handshake does not open it.
        let mut opening = Rhythm { stage: PaceStage::Opening(after(start, 15_000)), ..open(start, 15) };
        opening.hear(RECORD, start);
        assert!(matches!(opening.stage, PaceStage::Opening(_)));
    }

    /// The looks at a connection of which nothing is heard any more; the last is the one that finds it lost.
    #[test]
    fn a_loss_is_seen_as_soon_as_it_is_one_however_long_nothing_was_said() {
        for (lost_after, most_late) in [(15, 0), (6, 0), (3, 1000), (60, 1000)] {
            let start = Instant::now();
            let mut state = open(start, lost_after);
            let last = after(start, 100_000);
            state.hear(BINDING_REQUEST, last);
            let mut now = last;
            let mut looks = 0;
            while now - last < Duration::from_secs(lost_after) {
                now += state.sleep(TICK, now);
                looks += 1;
            }
            let late = (now - last).as_millis() - u128::from(lost_after) * 1000;
            assert!(late <= most_late, "{lost_after} s: {late} ms late");
            assert!(looks > 1, "{lost_after} s: one lost datagram must not end it");
        }
    }
}
