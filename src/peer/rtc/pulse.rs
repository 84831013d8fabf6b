//! Whether the thread of WebRTC still turns. It shows a sign of life every second; whoever waits for it looks for one,
//! and so does not wait for a thread that a fault keeps busy for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The thread's side.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicBool>);

impl Pulse {
    /// Shows a sign of life again and again.
    pub async fn beat(&self) {
        loop {
            self.0.store(true, Ordering::Relaxed);
            tokio::time::sleep(BEAT).await;
        }
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// The side of who looks.
#[derive(Debug)]
pub struct PulseReader {
    pulse: Pulse,
    /// Set with the first look: the time of who looks may be another than that of the system.
    next: Option<Instant>,
    missed: u32,
}

impl PulseReader {
    /// Looks for signs of life from now on.
    pub fn new(pulse: Pulse) -> Self {
        Self { pulse, next: None, missed: 0 }
    }

    /// When it is worth while to look again.
    pub fn next_look(&self) -> Option<Instant> {
        self.next
    }

    /// Looks, if it is time to. Whether there was no sign of life so often that there will be none. That looks are
    /// counted, and not the time, lets a whole program be stopped and go on.
    pub fn is_stuck(&mut self, now: Instant) -> bool {
        if now >= *self.next.get_or_insert(now + LOOK) {
            self.next = Some(now + LOOK);
            self.missed = if self.pulse.take() { 0 } else { self.missed + 1 };
        }
        self.missed >= MISSED
    }

    /// Waits for the end of the thread, which drops the other end of `done`, as long as it shows signs of life. Whether
    /// it has ended.
    pub fn wait(self, done: &Receiver<()>) -> bool {
        let mut missed = 0;
        while missed < MISSED_AT_THE_END {
            match done.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => missed = if self.pulse.take() { 0 } else { missed + 1 },
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
        false
    }
}

/// How often the thread shows a sign of life.
const BEAT: Duration = Duration::from_secs(1);

/// How often one looks for it, and how often in vain: ten seconds, and four at the end of a program.
const LOOK: Duration = Duration::from_secs(2);
const MISSED: u32 = 5;
const MISSED_AT_THE_END: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_turn_for_ten_seconds_is_stuck() {
        let start = Instant::now();
        let pulse = Pulse::default();
        let mut reader = PulseReader::new(pulse.clone());
        let mut look = |second| reader.is_stuck(start + Duration::from_secs(second));
        assert!((0..10).all(|second| !look(second)));
        pulse.0.store(true, Ordering::Relaxed);
        assert!((10..20).all(|second| !look(second)));
        assert!(look(20));
    }

    #[test]
    fn a_program_that_is_stopped_and_goes_on_has_no_thread_that_is_stuck() {
        let start = Instant::now();
        let pulse = Pulse::default();
        let mut reader = PulseReader::new(pulse.clone());
        pulse.0.store(true, Ordering::Relaxed);
        assert!(!reader.is_stuck(start));
        assert!(!reader.is_stuck(start + Duration::from_secs(2)));
        assert!(!reader.is_stuck(start + Duration::from_secs(3600)));
        assert_eq!(reader.next_look(), Some(start + Duration::from_secs(3602)));
    }
}
