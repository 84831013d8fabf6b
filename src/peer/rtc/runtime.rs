//! Tokio for the `webrtc` crate, with its sleeps as long as the connection needs them. The crate's driver is not woken
//! between the steps of opening a connection, and would wait for its next tick of 200 ms; and it goes on ticking when
//! nobody says anything, which is what a bot with a hundred silent peers spends its time with. Look-ups of names are
//! bounded, since that driver does nothing else meanwhile.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rtc::mdns::MDNS_PORT;
use socket2::SockRef;
use tokio::time::timeout;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle as TaskHandle, Runtime, TokioRuntime,
};

use super::blocking::blocking;
use super::caught::Caught;
use super::early::Early;
use super::guarded::GuardedConnection;
use super::layer::over;
use super::pace::Pace;
use super::repeat::Repeating;
use super::sieve::Sieve;
use super::socket::{Multicast, Socket};
use super::turn::tunnel::Tunnels;
use super::turn::{Overheard, Relay};
use crate::peer::clock::Clock;
use crate::peer::ice::NoRelayCause;

/// What is called when a task of the connection has panicked.
pub type OnPanic = Arc<dyn Fn() + Send + Sync>;

/// Tokio, at a connection's pace.
pub struct PacedRuntime {
    inner: TokioRuntime,
    on_panic: OnPanic,
    guarded: Arc<GuardedConnection>,
    pace: Arc<Pace>,
    relay: Relay,
    tunnels: Tunnels,
    early: Early,
    /// It stands still while the program does, and with it all that the crate waits for.
    clock: Clock,
    /// Until when names are looked up.
    look_up_until: Instant,
}

impl PacedRuntime {
    /// Sleeps at this pace, looks after the TURN servers and takes tunnels to some of them, holds what comes too early,
    /// drops what the guard does not admit, and says when a task has panicked.
    pub fn new(
        pace: Arc<Pace>,
        relay: Relay,
        tunnels: Tunnels,
        early: Early,
        guarded: Arc<GuardedConnection>,
        on_panic: OnPanic,
    ) -> Self {
        let look_up_until = Instant::now() + LOOK_UP_TIME;
        Self {
            inner: TokioRuntime,
            on_panic,
            guarded,
            pace,
            relay,
            tunnels,
            early,
            clock: Clock::default(),
            look_up_until,
        }
    }
}

impl fmt::Debug for PacedRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PacedRuntime")
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for PacedRuntime {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn TaskHandle> {
        let on_panic = self.on_panic.clone();
        self.inner.spawn(Box::pin(async move {
            if Caught::new(future).await.is_err() {
                on_panic();
            }
        }))
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let is_multicast = socket.local_addr()?.port() == MDNS_PORT;
        // A system that gives less does as well, only slower.
        let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        let socket = self.inner.wrap_udp_socket(socket)?;
        if is_multicast {
            return Ok(Arc::new(Multicast::new(over(Socket::new(socket)), self.pace.clone())?));
        }
        // What comes by a stream is heard and handed out as any datagram.
        let socket = over(Socket::new(self.tunnels.beside(socket)));
        let socket = over(Sieve::new(socket, self.guarded.clone(), self.pace.clone()));
        // All that is above the sieve hears no stranger.
        let socket = self.early.beside(socket);
        let socket = over(Overheard::new(socket, self.relay.clone()));
        Ok(over(Repeating::new(socket)))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.inner.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, address: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        if self.tunnels.is_only_way() {
            return Box::pin(async { Err(io::ErrorKind::PermissionDenied.into()) });
        }
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
            if let Ok(address) = bracketed.parse() {
                return Ok(vec![address]);
            }
            // Nobody but the proxy is to hear of a name.
            if self.tunnels.is_only_way() {
                return Err(io::ErrorKind::NotFound.into());
            }
            let left = self.look_up_until.saturating_duration_since(Instant::now());
            let look_up = blocking(move || bracketed.to_socket_addrs().map(Iterator::collect));
            let found = match timeout(left, look_up).await {
                Ok(found) => found.flatten(),
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
            None => {
                let duration = self.pace.sleep(duration);
                let (waiting, sleep) = (self.clock.waits(Some(duration)), tokio::time::sleep(duration));
                Box::pin(async move {
                    sleep.await;
                    drop(waiting);
                })
            }
        }
    }

    fn now(&self) -> Instant {
        self.clock.now()
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

/// Bytes of one connection that may be on their way to us without a loss. What is on a long way is not in our socket:
/// where that holds what comes at once by a short one (`near`), to which who sends keeps by itself, it is what SCTP
/// takes.
pub fn receive_window(near: u64) -> u64 {
    static GRANTED: OnceLock<usize> = OnceLock::new();
    let granted = GRANTED.get_or_init(|| {
        let granted = std::net::UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| std::net::UdpSocket::bind(("::1", 0)));
        let granted = granted.and_then(|socket| {
            let socket = SockRef::from(&socket);
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
            socket.recv_buffer_size()
        });
        granted.unwrap_or(USUAL_BUFFER)
    });
    window_of(*granted, near)
}

/// The same for a socket that was granted so much, some of which is not there for content.
fn window_of(granted: usize, near: u64) -> u64 {
    let content = (granted / 8 * 5) as u64;
    if content >= near { RECEIVE_BUFFER as u64 } else { content }
}

/// What Linux has for a socket where it does not say.
const USUAL_BUFFER: usize = 212_992;

/// Bytes that a socket may hold until they are read. Linux has 212,992 otherwise, which a long text fills while this
/// thread is busy; it gives what `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// How long all names of STUN and TURN servers may take to be looked up, together.
const LOOK_UP_TIME: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::files::window::NEAR;

    #[test]
    fn a_long_way_is_used_where_the_socket_is_the_usual_one_and_a_small_one_is_not_overrun() {
        // Linux doubles what it grants.
        assert_eq!(window_of(2 * USUAL_BUFFER, NEAR), RECEIVE_BUFFER as u64);
        assert_eq!(window_of(2 * RECEIVE_BUFFER, NEAR), RECEIVE_BUFFER as u64);
        assert_eq!(window_of(USUAL_BUFFER, NEAR), 133_120);
    }
}
