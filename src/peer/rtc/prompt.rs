//! Tokio for the `webrtc` crate, with its sleeps as long as the connection needs them. The crate's driver is not woken
//! between the steps of opening a connection, and would wait for its next tick of 200 ms; and it goes on ticking when
//! nobody says anything, which is what a bot with a hundred silent peers spends its time with. Look-ups of names are bounded,
//! since the driver does nothing else meanwhile.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rtc::mdns::MDNS_PORT;
use tokio::time::timeout;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle as TaskHandle, Runtime, TokioRuntime,
};

use super::detour::Detours;
use super::relay::{Overheard, Relay};
use super::socket::{Multicast, Socket};
use crate::peer::ice::NoRelayCause;

/// How far a connection is, as its sleeps go.
#[derive(Debug)]
pub struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    stage: Stage,
    /// When something came from the network last.
    heard: Option<Instant>,
    /// How long after that a silent connection may rest.
    silent_sleep: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// It is being opened: short sleeps until then.
    Opening(Instant),
    /// It is open, and something was last said then.
    Open(Instant),
}

impl Pace {
    /// A connection that is about to be opened, and that counts as lost when nothing was heard for `lost_after`.
    pub fn opening(lost_after: Duration) -> Self {
        let silent_sleep = (lost_after / 3).min(SILENT_SLEEP);
        Self(Mutex::new(State { stage: Stage::Opening(Instant::now() + PROMPT_TIME), heard: None, silent_sleep }))
    }

    /// Takes note that the connection is open, and that something is said over it.
    pub fn active(&self) {
        self.state().stage = Stage::Open(Instant::now());
    }

    /// Takes note of what has come from the network.
    pub fn hear(&self, datagram: &[u8]) {
        self.state().hear(datagram, Instant::now());
    }

    /// Whether the connection was not open yet.
    pub fn is_opening(&self) -> bool {
        matches!(self.state().stage, Stage::Opening(_))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hear(&mut self, datagram: &[u8], now: Instant) {
        self.heard = Some(now);
        // It is to be acknowledged in time.
        if let Stage::Open(said) = &mut self.stage
            && !is_keepalive(datagram)
        {
            *said = now;
        }
    }

    /// How long to sleep where the driver wants to sleep so long. What comes from the network wakes it anyway, and so does
    /// what is sent.
    fn sleep(&self, duration: Duration, now: Instant) -> Duration {
        let said = match self.stage {
            Stage::Opening(until) if now < until => return duration.min(PROMPT_SLEEP),
            Stage::Opening(_) => return duration,
            Stage::Open(said) => said,
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

/// Whether this is STUN (RFC 7983, section 7), which is all that goes between peers who say nothing; through a relay it may
/// be wrapped in ChannelData, behind four bytes.
fn is_keepalive(datagram: &[u8]) -> bool {
    let content = match datagram.first() {
        Some(64..=79) => datagram.get(4),
        first => first,
    };
    matches!(content, Some(0..=3))
}

/// Tokio, at a connection's pace.
#[derive(Debug)]
pub struct Prompt {
    inner: TokioRuntime,
    pace: Arc<Pace>,
    relay: Relay,
    detours: Detours,
    /// Until when names are looked up.
    look_up_until: Instant,
}

impl Prompt {
    /// Sleeps at this pace, looks after the relay, and takes detours to some.
    pub fn new(pace: Arc<Pace>, relay: Relay, detours: Detours) -> Self {
        Self { inner: TokioRuntime, pace, relay, detours, look_up_until: Instant::now() + LOOK_UP_TIME }
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for Prompt {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn TaskHandle> {
        self.inner.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let is_multicast = socket.local_addr()?.port() == MDNS_PORT;
        let socket = self.inner.wrap_udp_socket(socket)?;
        if is_multicast {
            let socket = Arc::new(Socket::new(socket, None));
            return Ok(Arc::new(Multicast::new(socket, self.pace.clone())?));
        }
        // What comes by a stream is heard and handed out as any datagram.
        let socket = Arc::new(Socket::new(self.detours.beside(socket), Some(self.pace.clone())));
        Ok(Arc::new(Overheard::new(socket, self.relay.clone())))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.inner.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, address: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.inner.connect_tcp(address)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            // The crate takes the brackets off the IPv6 address of a TURN server.
            let bracketed = match host.rsplit_once(':') {
                Some((address, port)) if address.contains(':') && !address.starts_with('[') => {
                    format!("[{address}]:{port}")
                }
                _ => host.to_owned(),
            };
            let left = self.look_up_until.saturating_duration_since(Instant::now());
            let found = match timeout(left, self.inner.resolve_host(&bracketed)).await {
                Ok(found) => found,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            if found.as_ref().map_or(true, Vec::is_empty) {
                self.relay.set_trouble(NoRelayCause::NotFound);
            }
            found
        })
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        match self.relay.before_sleep() {
            Some(turn) => turn,
            None => self.inner.sleep(self.pace.state().sleep(duration, Instant::now())),
        }
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.inner.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.inner.block_on(future);
    }

    fn name(&self) -> &'static str {
        "tokio"
    }
}

/// The longest sleep of a driver that is opening a connection, and for how long that is worth its price.
const PROMPT_SLEEP: Duration = Duration::from_millis(2);
const PROMPT_TIME: Duration = Duration::from_secs(15);

/// The shortest sleep of a connection over which nothing was said for a time. What is resent and acknowledged is mostly done
/// with by then; what is left are keepalives, which may come two seconds late.
const QUIET_SLEEP: Duration = Duration::from_secs(2);
const QUIET_TIME: Duration = Duration::from_secs(5);

/// The sleep of a connection over which nothing was said for longer, after a sign of life: consent is asked for every five
/// seconds (RFC 7675, section 5.1), and NATs want less (RFC 8445, section 11). Where the sign fails to come, the sleeps are
/// short again, so that some lost datagrams do not end the chat, nor does a loss show later.
const SILENT_SLEEP: Duration = Duration::from_secs(5);
const SILENT_TIME: Duration = Duration::from_secs(15);

/// How long all names of STUN and TURN servers may take to be looked up, together.
const LOOK_UP_TIME: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(200);
    const BINDING_REQUEST: &[u8] = &[0, 1, 0, 0];
    const RECORD: &[u8] = &[23, 254, 253, 0];

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    fn open(start: Instant, lost_after: u64) -> State {
        let pace = Pace::opening(Duration::from_secs(lost_after));
        State { stage: Stage::Open(start), ..pace.0.into_inner().unwrap() }
    }

    #[test]
    fn sleeps_are_short_while_a_connection_opens_and_long_while_nothing_is_said() {
        let start = Instant::now();
        let opening = State { stage: Stage::Opening(after(start, 15_000)), ..open(start, 15) };
        let sleeps = |state: &State, times: &[u64]| -> Vec<u128> {
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
        let mut opening = State { stage: Stage::Opening(after(start, 15_000)), ..open(start, 15) };
        opening.hear(RECORD, start);
        assert!(matches!(opening.stage, Stage::Opening(_)));
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
