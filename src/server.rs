//! The signaling server: one thread, one mio loop. Sockets, clock and signals live here and nowhere else; what is to be done
//! is said by the pure parts, [`hub`] and [`connection`], which [`clients`] is the only caller of.
//!
//! One turn of the loop: poll, take the time once, go on with clients that have unread bytes, serve each event, tick,
//! then write what the turn has queued, once for each client.

pub mod address;
pub mod clients;
pub mod config;
pub mod connection;
pub mod contacts;
pub mod deadlines;
pub mod http;
pub mod hub;
pub mod limits;
mod listener;
pub mod metrics;
pub mod plain;
pub mod relays;
pub mod sessions;
pub mod strikes;
pub mod table;

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use log::{info, warn};
use mio::event::Event as Readiness;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

use crate::signals::wanted;
use clients::{Clients, Stream};
use config::MetricsAt;
pub use config::{Config, ConfigError};
use http::Door;
use hub::{ConnId, GOING_AWAY};
use listener::{Listener, Waiting};

/// A server that listens and is ready to [`run`](Self::run).
pub struct Server {
    poll: Poll,
    /// None any more once the server stops.
    listeners: Vec<(Token, Listener)>,
    address: SocketAddr,
    signals: Signals,
    /// When to accept again after the system had nothing left for a caller, or a turn had enough of them.
    accept_again: Option<Instant>,
    /// Nothing was left for a caller: said once for a whole time of want.
    is_in_want: bool,
    metrics: MetricsAt,
    close_time: Duration,
    clients: Clients<TcpStream>,
    /// When the last client is cut, once a signal has asked the server to stop.
    stop_at: Option<Instant>,
    buffer: Vec<u8>,
}

impl Stream for TcpStream {
    fn shut(&mut self) {
        // It fails where the client has gone, who then needs to be told nothing.
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Server {
    /// Listens where `config` says.
    ///
    /// # Errors
    /// An address cannot be had, or the system is out of descriptors.
    pub fn bind(config: Config) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        let users = Listener::bind(config.host, config.port, registry, USERS)?;
        let address = users.local_addr()?;
        let mut listeners = vec![(USERS, users)];
        if let MetricsAt::Address(address) = config.metrics {
            let listener = Listener::bind(Some(address.ip()), address.port(), registry, METRICS)
                .map_err(|error| io::Error::new(error.kind(), format!("{error} (METRICS at {address})")))?;
            info!("metrics at {}", listener.local_addr()?);
            listeners.push((METRICS, listener));
        }
        let mut signals = Signals::new(wanted(&[SIGINT, SIGTERM, SIGUSR1]))?;
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        Ok(Self {
            poll,
            listeners,
            address,
            signals,
            accept_again: None,
            is_in_want: false,
            metrics: config.metrics,
            close_time: config.limits.close_time,
            clients: Clients::new(config, FIRST_CLIENT),
            stop_at: None,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// The address that the server listens on, with the port that it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until SIGINT or SIGTERM, then sends everybody a close frame and returns. A second signal returns at once.
    ///
    /// # Errors
    /// Polling failed, which no program can go on from.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut now = Instant::now();
        loop {
            match self.poll.poll(&mut events, self.timeout(now)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            now = Instant::now();
            let connections = self.clients.len();
            if self.clients.has_unread() {
                self.clients.go_on(&mut self.buffer, now);
            }
            for event in &events {
                match event.token() {
                    USERS | METRICS => self.accept(now),
                    SIGNALS => {
                        if self.receive_signals(now) {
                            return Ok(());
                        }
                    }
                    Token(id) => self.serve(ConnId(id), event, now),
                }
            }
            self.clients.tick(now);
            self.clients.flush(now);
            // A descriptor may be free for which somebody waits.
            let has_room = self.is_in_want && self.clients.len() < connections;
            if self.accept_again.is_some_and(|again| again <= now || has_room) {
                self.accept(now);
                self.clients.flush(now);
            }
            self.watch_blocked();
            if self.stop_at.is_some_and(|stop_at| now >= stop_at || self.clients.is_empty()) {
                info!("stopped");
                return Ok(());
            }
            self.clients.metrics().turn(now.elapsed());
        }
    }

    /// How long poll may sleep: until the next deadline, but not at all while there is something to do.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.clients.has_unread() {
            return Some(Duration::ZERO);
        }
        let next = [self.clients.next_deadline(), self.accept_again, self.stop_at].into_iter().flatten().min()?;
        if next <= now {
            return Some(Duration::ZERO);
        }
        // Rounded up, or the last fraction of a millisecond would be spent in busy turns.
        Some(next.saturating_duration_since(now) + Duration::from_millis(1))
    }

    /// Takes the callers that wait, as many as one turn has time for: the listeners will not be heard of again before
    /// all are taken.
    fn accept(&mut self, now: Instant) {
        self.accept_again = None;
        let mut is_in_want = false;
        for (token, listener) in &mut self.listeners {
            for count in 0.. {
                if count == ACCEPTS_PER_TURN {
                    self.accept_again = Some(now);
                    is_in_want = self.is_in_want;
                    break;
                }
                match listener.accept() {
                    Waiting::Caller(mut stream, address) => {
                        // That it can be written to is no news, and would cost each client a turn of the loop.
                        let id = self.clients.next_id();
                        let registry = self.poll.registry();
                        if let Err(error) = registry.register(&mut stream, Token(id.0), Interest::READABLE) {
                            warn!("a client cannot be watched: {error}");
                            continue;
                        }
                        let peer = address.ip().to_canonical();
                        let is_loopback_metrics = self.metrics == MetricsAt::Loopback && peer.is_loopback();
                        let door = Door { users: *token == USERS, metrics: *token == METRICS || is_loopback_metrics };
                        self.clients.welcome(stream, peer, door, now);
                    }
                    Waiting::Nobody => break,
                    Waiting::Unserved(error) => {
                        // Once for a whole time of want, or whoever can cause one could fill the log.
                        if !self.is_in_want {
                            warn!("callers are turned away: {error}");
                        }
                        is_in_want = true;
                        self.clients.metrics().cut("no descriptor");
                        self.accept_again = self.accept_again.or(Some(now + ACCEPT_PAUSE));
                        break;
                    }
                }
            }
        }
        // The want is over once everybody who waited was taken.
        self.is_in_want = is_in_want;
    }

    /// Asks to be told when those can take bytes again who did not take all. Whoever already can is told of at once.
    fn watch_blocked(&mut self) {
        let registry = self.poll.registry();
        self.clients.for_each_blocked(|id, stream| {
            let interests = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = registry.reregister(stream, Token(id.0), interests) {
                // It is cut for its silence at the latest.
                warn!("a client cannot be watched: {error}");
            }
        });
    }

    /// Whether a second signal wants the server to end at once.
    fn receive_signals(&mut self, now: Instant) -> bool {
        let signals: Vec<i32> = self.signals.pending().collect();
        for signal in signals {
            if signal == SIGUSR1 {
                let version = env!("CARGO_PKG_VERSION");
                let hub = self.clients.hub();
                let (connections, users, sessions) = (self.clients.len(), hub.online(), hub.sessions());
                info!("lowkey-server {version}: {connections} connections, {users} users, {sessions} sessions");
                continue;
            }
            if self.stop_at.is_some() {
                return true;
            }
            info!("stopping");
            self.stop_at = Some(now + self.close_time);
            // New callers are refused by the system from here on.
            self.listeners.clear();
            self.accept_again = None;
            self.clients.close_all(GOING_AWAY, "server is shutting down");
        }
        false
    }

    fn serve(&mut self, id: ConnId, event: &Readiness, now: Instant) {
        if event.is_writable() {
            self.clients.writable(id);
        }
        let has_ended = event.is_read_closed() || event.is_error();
        if has_ended {
            self.clients.ended(id);
        }
        if event.is_readable() || has_ended {
            self.clients.read(id, &mut self.buffer, now);
        }
    }
}

const USERS: Token = Token(0);
const METRICS: Token = Token(1);
const SIGNALS: Token = Token(2);
const FIRST_CLIENT: usize = 3;

/// Events taken from one poll.
const EVENTS: usize = 1024;

/// Bytes read at once, which is also a client's share of one turn: after these it is the others' turn first. One buffer
/// serves all clients.
const READ_BYTES: usize = 32 * 1024;

/// Callers that one turn takes from each listener, at some ten microseconds for each.
const ACCEPTS_PER_TURN: usize = 128;

/// How long to wait after the system had nothing left for a caller, unless a client leaves before.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
