//! Tokio for the `webrtc` crate, with its sleeps as long as the connection needs them. The crate's driver is not woken
//! between the steps of opening a connection, and would wait for its next tick of 200 ms; and it goes on ticking when
//! nobody says anything, which is what a bot with a hundred silent peers spends its time with. Look-ups of names are bounded,
//! since the driver does nothing else meanwhile.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle as TaskHandle, Runtime, TokioRuntime,
};

use super::detour::Detours;
use super::relay::{Overheard, Relay};
use crate::peer::ice::NoRelayCause;

/// How far a connection is, as its sleeps go.
#[derive(Debug)]
pub struct Pace(Mutex<Stage>);

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// It is being opened: short sleeps until then.
    Opening(Instant),
    /// It is open, and something was last said then.
    Open(Instant),
}

impl Pace {
    /// A connection that is about to be opened.
    pub fn opening() -> Self {
        Self(Mutex::new(Stage::Opening(Instant::now() + PROMPT_TIME)))
    }

    /// Takes note that the connection is open, and that something is said over it.
    pub fn active(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Stage::Open(Instant::now());
    }

    /// Whether the connection was not open yet.
    pub fn is_opening(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Stage::Opening(_))
    }

    /// How long to sleep where the driver wants to sleep so long. What comes from the network wakes it anyway, and so does
    /// what is sent.
    fn sleep(&self, duration: Duration) -> Duration {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Stage::Opening(until) if Instant::now() < until => duration.min(PROMPT_SLEEP),
            Stage::Open(last) if last.elapsed() > QUIET_TIME => duration.max(QUIET_SLEEP),
            _ => duration,
        }
    }
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
        let socket = self.detours.beside(self.inner.wrap_udp_socket(socket)?);
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
            None => self.inner.sleep(self.pace.sleep(duration)),
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

/// The shortest sleep of a connection over which nothing was said for a time. What is resent and acknowledged is long done
/// with by then; what is left are keepalives, which may come two seconds late.
const QUIET_SLEEP: Duration = Duration::from_secs(2);
const QUIET_TIME: Duration = Duration::from_secs(5);

/// How long all names of STUN and TURN servers may take to be looked up, together.
const LOOK_UP_TIME: Duration = Duration::from_secs(3);
