//! How many bytes of files may be on their way. Whoever receives says how far its disk has come and how much more it
//! takes; whoever sends looks at how long that takes to be said, and keeps no more on its way than the network carries,
//! so that what people say meanwhile does not wait behind the file (RFC 6817 has the idea). Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::lane::MAX_DATA;

/// The window of what is sent over one connection.
#[derive(Debug)]
pub struct Window {
    size: f64,
    /// What the other side takes beyond what it has.
    ceiling: u64,
    sent: u64,
    reported: u64,
    /// Where each message that is on its way ends, and when it went.
    underway: VecDeque<(u64, Instant)>,
    base: Base,
    /// The last round trips, and when each was over.
    recent: VecDeque<(Instant, Duration)>,
    /// Until the first queue was seen, the window grows by all that is reported.
    is_starting: bool,
    /// How many round trips in a row have seen a queue.
    queued: usize,
    /// The window is cut again only once this byte is reported.
    cut_until: u64,
}

/// What is reported was never sent, or was taken back.
#[derive(Debug, PartialEq, Eq)]
pub struct Nonsense;

impl Window {
    /// The window before anything was sent.
    pub fn new(now: Instant) -> Self {
        Self {
            size: START,
            ceiling: START as u64,
            sent: 0,
            reported: 0,
            underway: VecDeque::new(),
            base: Base { since: now, now: None, before: None },
            recent: VecDeque::new(),
            is_starting: true,
            queued: 0,
            cut_until: 0,
        }
    }

    /// How long the next message is to be; 0 where there is no room for one now.
    pub fn next(&self) -> usize {
        let room = (self.size as u64).min(self.ceiling).saturating_sub(self.sent - self.reported);
        let message = ((self.size / 4.0) as usize).clamp(SHORTEST, MAX_DATA);
        // The last piece of a ceiling is used too, or a receiver with little room would never get any.
        match usize::try_from(room).unwrap_or(usize::MAX) {
            room if room >= message => message,
            room if self.sent == self.reported => room,
            _ => 0,
        }
    }

    /// How many bytes may be on the way itself, which takes texts too. The rest of the window is with the threads and
    /// the disks at both ends, where no text waits behind it.
    pub fn way(&self) -> usize {
        (NEAR as f64 + self.base.least().as_secs_f64() * FASTEST) as usize
    }

    /// How many bytes were sent in all.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of these the other side's disk has.
    pub fn taken(&self) -> u64 {
        self.reported
    }

    /// Learns of a message that is sent.
    pub fn send(&mut self, bytes: usize, now: Instant) {
        self.sent += bytes as u64;
        self.underway.push_back((self.sent, now));
    }

    /// The other side says up to which byte its disk has all, and how many more it takes.
    ///
    /// # Errors
    /// [`Nonsense`].
    pub fn reported(&mut self, taken: u64, ceiling: u64, now: Instant) -> Result<(), Nonsense> {
        if taken > self.sent || taken < self.reported {
            return Err(Nonsense);
        }
        let news = (taken - self.reported) as f64;
        (self.reported, self.ceiling) = (taken, ceiling);
        let mut went = None;
        while let Some((_, at)) = self.underway.front().copied().filter(|(end, _)| *end <= taken) {
            went = Some(at);
            self.underway.pop_front();
        }
        if let Some(went) = went {
            self.look_at(now.saturating_duration_since(went), news, now);
        }
        Ok(())
    }

    /// Draws the conclusion from a round trip in which so much was reported.
    fn look_at(&mut self, round_trip: Duration, news: f64, now: Instant) {
        self.base.take(round_trip, now);
        self.recent.push_back((now, round_trip));
        while self.recent.len() > RECENT && self.recent.front().is_some_and(|(at, _)| *at + RECENT_TIME < now) {
            self.recent.pop_front();
        }
        // At the beginning it grows so fast that each moment counts.
        let count = if self.is_starting { RECENT } else { usize::MAX };
        let least = self.recent.iter().rev().take(count).map(|(_, took)| *took).min().unwrap_or(round_trip);
        let queue = least.saturating_sub(self.base.least()).as_secs_f64();
        let target = TARGET.as_secs_f64();
        if self.is_starting {
            self.queued = if queue > target / 2.0 { self.queued + 1 } else { 0 };
            if self.queued < RECENT {
                self.size += news;
            } else {
                self.is_starting = false;
                self.size *= 0.75;
            }
        } else if queue > 2.0 * target {
            if self.reported >= self.cut_until {
                self.size *= 0.7;
                self.cut_until = self.sent;
            }
        } else {
            let off = ((target - queue) / target).clamp(-1.0, 1.0);
            let share = if off < 0.0 { 4.0 } else { 8.0 };
            let step = (self.size / share).max(SMALLEST_STEP);
            self.size += off * step * news / self.size;
        }
        self.size = self.size.clamp(FLOOR, CEILING);
    }
}

/// The shortest round trip of the last ten to twenty seconds.
#[derive(Debug)]
struct Base {
    since: Instant,
    now: Option<Duration>,
    before: Option<Duration>,
}

impl Base {
    fn take(&mut self, round_trip: Duration, now: Instant) {
        if now.saturating_duration_since(self.since) >= BASE_TIME {
            (self.since, self.before, self.now) = (now, self.now, None);
        }
        self.now = Some(self.now.map_or(round_trip, |least| least.min(round_trip)));
    }

    fn least(&self) -> Duration {
        [self.now, self.before].into_iter().flatten().min().unwrap_or_default()
    }
}

/// Bytes of a window: at its beginning, at least, and at most, which is what SCTP takes.
const START: f64 = 16.0 * 1024.0;
const FLOOR: f64 = 8.0 * 1024.0;
const CEILING: f64 = 1024.0 * 1024.0;

/// What a short way takes, in bytes, where the machines are what is slow: more would only wait at the receiver, and all
/// that is said behind it. A longer way takes as much more as goes at this rate, in bytes a second, in its time.
pub const NEAR: u64 = 192 * 1024;
const FASTEST: f64 = 25e6;

/// Bytes of the shortest message. Shorter ones cost time.
const SHORTEST: usize = 2 * 1024;

/// How long what is said may wait behind a file, over and above the way itself.
const TARGET: Duration = Duration::from_millis(25);

/// The least by which a window changes for each of its own lengths that is reported, in bytes.
const SMALLEST_STEP: f64 = 4096.0;

/// Round trips of which the shortest counts, since any may have been held up: so many at least, and all of so much
/// time. A machine that is busy reads what has come in one go, and all of that is late alike.
const RECENT: usize = 4;
const RECENT_TIME: Duration = Duration::from_millis(100);

/// How long each of the two spans is in which the way itself is measured.
const BASE_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// A link of so many bytes a second and this round trip, and what comes of a file on it in ten seconds: the share
    /// of the link that is used in the second half, and the longest that a byte has waited then. `busy`: nothing is
    /// read for so long in each twentieth of a second.
    fn run(rate: f64, round_trip: Duration, ceiling: u64, busy: Duration) -> (f64, Duration) {
        let start = Instant::now();
        let (mut window, mut now) = (Window::new(start), start);
        let mut free_at = start;
        let mut reports: VecDeque<(Instant, u64)> = VecDeque::new();
        let (mut end, mut half, mut longest) = (0, 0, Duration::ZERO);
        while now < start + Duration::from_secs(10) {
            loop {
                let bytes = window.next();
                if bytes == 0 {
                    break;
                }
                end += bytes as u64;
                window.send(bytes, now);
                free_at = free_at.max(now) + Duration::from_secs_f64(bytes as f64 / rate);
                if now > start + Duration::from_secs(5) {
                    longest = longest.max(free_at - now);
                }
                reports.push_back((free_at + round_trip, end));
            }
            let (at, taken) = reports.pop_front().expect("something is on its way");
            let at = at + busy.saturating_sub(Duration::from_secs_f64((at - start).as_secs_f64() % 0.05));
            if at < start + Duration::from_secs(5) {
                half = taken;
            }
            now = now.max(at);
            window.reported(taken, ceiling, now).unwrap();
            assert!((FLOOR..=CEILING).contains(&window.size), "{window:?}");
        }
        ((window.reported - half) as f64 / 5.0 / rate, longest)
    }

    #[test]
    fn links_are_used_and_nobody_waits_long_behind_a_file() {
        for (rate, round_trip) in [(125e3, 50), (1.25e6, 20), (12.5e6, 40), (6.25e6, 100), (100e6, 1)] {
            let (share, longest) = run(rate, Duration::from_millis(round_trip), CEILING as u64, Duration::ZERO);
            assert!(share >= 0.8, "{rate} with {round_trip} ms: {share}");
            let most = if rate < 1e6 { 200 } else { 80 };
            assert!(longest <= Duration::from_millis(most), "{rate} with {round_trip} ms: {longest:?}");
        }
    }

    #[test]
    fn a_busy_machine_is_no_slow_link() {
        let [round_trip, busy] = [40, 40].map(Duration::from_millis);
        let (share, longest) = run(12.5e6, round_trip, CEILING as u64, busy);
        assert!(share >= 0.9 && longest <= Duration::from_millis(80), "{share}, {longest:?}");
    }

    #[test]
    fn no_more_is_on_its_way_than_the_other_side_takes() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let mut underway = 0;
        while window.next() > 0 {
            underway += window.next();
            window.send(window.next(), start);
        }
        assert!(underway <= START as usize);
        window.reported(underway as u64, 0, start).unwrap();
        assert_eq!(window.next(), 0, "it takes nothing now");
        window.reported(underway as u64, 1000, start).unwrap();
        assert_eq!(window.next(), 1000, "a little is better than nothing");
    }

    #[test]
    fn what_was_never_sent_or_is_taken_back_is_nonsense() {
        let start = Instant::now();
        let mut window = Window::new(start);
        window.send(10, start);
        assert_eq!(window.reported(11, 100, start), Err(Nonsense));
        assert_eq!(window.reported(10, 100, start), Ok(()));
        assert_eq!(window.reported(9, 100, start), Err(Nonsense));
    }
}
