//! The chat server: one thread, one mio loop. Here are the poll, the clock by which clients are served, and the
//! signals; the sockets are in `listener`, [`clients`] and `database`. What is to be done is said by two pure rooms,
//! [`hub`] and [`connection`], which only [`clients`] leads.
//!
//! One turn of the loop: poll, take the time once, go on reading from clients that have unread bytes, serve each
//! event, tick, and twice: exchange with the database where there is a cluster, then write what is queued. The second
//! time is for what the database has answered in the first.

pub mod access;
mod addresses;
mod backlog;
pub mod bounds;
pub mod check;
mod client;
pub mod clients;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod config;
pub mod connection;
mod contacts;
#[cfg(feature = "cluster")]
mod database;
mod deadlines;
pub mod http;
pub mod hub;
mod ids;
pub mod limits;
mod listener;
mod metrics;
mod misses;
mod nodes;
pub mod plain;
pub mod presence;
mod proxies;
mod request;
mod response;
pub mod secret_file;
mod sessions;
mod stop;
mod strikes;
mod table;
mod together;
mod turn_servers;

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use mio::event::Event as Readiness;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use socket2::SockRef;

use crate::signals;
use crate::trouble;
use clients::{ClientStream, Clients};
pub use config::{Config, ConfigError};
use config::{MetricsAt, Secrets};
use http::Endpoints;
use hub::ConnId;
use listener::{Accepted, Listener};
use presence::Presence;
use stop::Stop;
use together::Together;

/// A server that listens and is ready to [`run`](Self::run).
pub struct Server {
    poll: Poll,
    /// None any more once the server stops.
    listeners: Vec<(Token, Listener)>,
    address: SocketAddr,
    signals: Signals,
    /// When to accept again after the system had nothing left for a newcomer, or a turn had enough of them.
    accept_again: Option<Instant>,
    /// The system had nothing left for the last newcomer. That was logged, and is not logged again until it has.
    is_exhausted: bool,
    metrics: MetricsAt,
    close_time: Duration,
    drain_time: Duration,
    clients: Clients<TcpStream>,
    presence: Presence,
    /// Once a signal has asked the server to stop.
    stop: Option<Stop>,
    reload: Reload,
    together: Together,
    buffer: Vec<u8>,
}

/// Reads the secrets anew.
type Reload = Box<dyn Fn() -> Secrets>;

impl ClientStream for TcpStream {
    fn shut(&mut self) {
        // It fails where the client has gone, who then needs to be told nothing.
        let _ = self.shutdown(Shutdown::Write);
    }

    fn reset(&mut self) {
        // It fails where the stream is broken already.
        let _ = SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }
}

impl Server {
    /// Listens where `config` says.
    ///
    /// # Errors
    /// An address cannot be had, or the system is out of descriptors; for people.
    pub fn bind(config: Config) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        let users = Listener::bind(config.host, config.port, registry, USERS).map_err(|error| {
            let at = config.host.map(|host| SocketAddr::new(host, config.port).to_string());
            unbound(&at.unwrap_or(format!("port {}", config.port)), "PORT", &error)
        })?;
        let address = users.local_addr()?;
        let mut listeners = vec![(USERS, users)];
        if let MetricsAt::Address(address) = config.metrics {
            let listener = Listener::bind(Some(address.ip()), address.port(), registry, METRICS)
                .map_err(|error| unbound(&format!("{address} for the metrics"), "METRICS", &error))?;
            info!("metrics at {}", listener.local_addr()?);
            listeners.push((METRICS, listener));
        }
        // SIGHUP ends nothing here, so what started the server has nothing against it.
        let mut signals = Signals::new(signals::ending().into_iter().chain([SIGHUP]))?;
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        let together = Together::new(&config, registry, DATABASE, LOOKED_UP)?;
        Ok(Self {
            poll,
            listeners,
            address,
            signals,
            accept_again: None,
            is_exhausted: false,
            metrics: config.metrics,
            close_time: config.limits.close_time,
            drain_time: config.drain_time,
            reload: Box::new({
                let (tokens, turn_servers) = (config.access.tokens.clone(), config.turn_servers.clone());
                move || Secrets { tokens: Ok(tokens.clone()), turn_servers: Ok(turn_servers.clone()) }
            }),
            together,
            clients: Clients::new(config, FIRST_CLIENT),
            presence: Presence::default(),
            stop: None,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Has SIGHUP read the secrets anew with `reload`: who may come in, and the secret of the TURN server. Nothing else
    /// changes, and nobody is cut.
    pub fn reload_with(self, reload: impl Fn() -> Secrets + 'static) -> Self {
        Self { reload: Box::new(reload), ..self }
    }

    /// The address that the server listens on, with the port that it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until a signal that [`ends`](crate::signals::ending) programs, such as SIGTERM, then sends everybody a
    /// close frame and returns. A second one returns at once. SIGHUP and SIGUSR1 have other uses.
    ///
    /// # Errors
    /// Polling failed, which no program can go on from.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut started = Instant::now();
        let (mut now, _) = self.presence.wake(started);
        loop {
            let timeout = self.timeout(now);
            let sleep = self.presence.sleep(Instant::now(), timeout);
            match self.poll.poll(&mut events, sleep) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            started = Instant::now();
            let away;
            (now, away) = self.presence.wake(started);
            if !away.is_zero() {
                self.clients.come_back(away, now);
            }
            let connections = self.clients.len();
            if self.clients.has_unread() {
                self.clients.read_more(&mut self.buffer, now);
            }
            for event in &events {
                match event.token() {
                    USERS | METRICS => self.accept(now),
                    SIGNALS => {
                        if self.receive_signals(now) {
                            return Ok(());
                        }
                    }
                    DATABASE => self.together.ready(event.is_read_closed() || event.is_error()),
                    LOOKED_UP => {}
                    Token(id) => self.serve(ConnId(id), event, now),
                }
            }
            self.clients.tick(now);
            self.tell_of_stop(now);
            // What goes to other servers goes first: it has the longer way.
            self.exchange(started, now)?;
            self.clients.flush(now);
            self.exchange(started, now)?;
            self.clients.flush(now);
            // A descriptor may be free for which somebody waits.
            let has_room = self.is_exhausted && self.clients.len() < connections;
            if self.accept_again.is_some_and(|again| again <= now || has_room) {
                self.accept(now);
                self.clients.flush(now);
            }
            self.watch_blocked();
            let is_over = |stop: &Stop| now >= stop.end || stop.untold.is_empty() && self.clients.is_empty();
            if self.stop.as_ref().is_some_and(is_over) {
                self.together.leave(started);
                info!("stopped");
                return Ok(());
            }
            self.clients.metrics().count_turn(started.elapsed());
        }
    }

    /// How long poll may sleep: until the next deadline, but not at all while there is something to do.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.clients.has_unread() {
            return Some(Duration::ZERO);
        }
        let stop = self.stop.as_ref().map(|stop| stop.next_due(self.drain_time));
        let together = self.together.next_deadline(Instant::now(), now);
        let next = [self.clients.next_deadline(), self.accept_again, stop, together].into_iter().flatten().min()?;
        if next <= now {
            return Some(Duration::ZERO);
        }
        // Rounded up, or the last fraction of a millisecond would be spent in busy turns.
        Some(next.saturating_duration_since(now) + Duration::from_millis(1))
    }

    /// Exchanges words with the other servers.
    fn exchange(&mut self, real: Instant, now: Instant) -> io::Result<()> {
        self.together.exchange(&mut self.clients, self.poll.registry(), real, now)
    }

    /// Takes the newcomers that wait, as many as one turn has time for: the listeners will not be heard of again before
    /// all are taken.
    fn accept(&mut self, now: Instant) {
        self.accept_again = None;
        let mut is_exhausted = false;
        for (token, listener) in &mut self.listeners {
            for count in 0.. {
                if count == ACCEPTS_PER_TURN {
                    self.accept_again = Some(now);
                    is_exhausted = self.is_exhausted;
                    break;
                }
                match listener.accept() {
                    Accepted::Newcomer(mut stream, address) => {
                        // That it can be written to is no news, and would cost each client a turn of the loop.
                        let id = self.clients.next_id();
                        let registry = self.poll.registry();
                        if let Err(error) = registry.register(&mut stream, Token(id.0), Interest::READABLE) {
                            warn!("a client cannot be watched: {error}");
                            continue;
                        }
                        let source = address.ip().to_canonical();
                        let is_loopback_metrics = self.metrics == MetricsAt::Loopback && source.is_loopback();
                        let endpoints =
                            Endpoints { users: *token == USERS, metrics: *token == METRICS || is_loopback_metrics };
                        self.clients.add(stream, source, endpoints, now);
                    }
                    Accepted::Nobody => break,
                    Accepted::Exhausted(error) => {
                        // Once until it has something left again, or whoever can cause this could fill the log.
                        if !self.is_exhausted {
                            warn!("newcomers are turned away: {error}");
                        }
                        is_exhausted = true;
                        self.clients.metrics().cut("no descriptor");
                        self.accept_again = self.accept_again.or(Some(now + ACCEPT_PAUSE));
                        break;
                    }
                }
            }
        }
        // It has enough again once everybody who waited was taken.
        self.is_exhausted = is_exhausted;
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
            if signal == SIGHUP {
                self.reload();
                continue;
            }
            if self.stop.is_some() {
                return true;
            }
            info!("stopping");
            // Whoever has not said yet what it wants has nothing to lose, and need not wait for its turn.
            let (heads, untold): (Vec<_>, Vec<_>) =
                self.clients.ids().into_iter().partition(|id| self.clients.is_awaiting_head(*id));
            heads.into_iter().for_each(|id| self.clients.dismiss(id, now));
            self.stop = Some(Stop::new(untold, now, self.drain_time, self.close_time));
            // Who is told to go now finds another server, or this one again.
            self.clients.drain((self.drain_time + self.close_time).as_secs() + 1);
        }
        false
    }

    /// Reads the secrets anew. Where that fails with one, it stays as it is.
    fn reload(&mut self) {
        let Secrets { tokens, turn_servers } = (self.reload)();
        if matches!((&tokens, &turn_servers), (Ok(tokens), Ok(None)) if tokens.is_empty()) {
            info!("there is no secret to read anew");
            return;
        }
        match tokens {
            Ok(tokens) if tokens.is_empty() => {}
            Ok(tokens) => {
                info!("access tokens read anew: {}", tokens.len());
                self.clients.renew_access(tokens);
            }
            Err(error) => error!("access tokens are as before, and nobody is let go: {error}"),
        }
        match turn_servers {
            Ok(None) => {}
            Ok(turn_servers) => {
                info!("secret of the TURN servers read anew");
                self.clients.renew_turn_servers(turn_servers);
            }
            Err(error) => error!("the secret of the TURN servers is as before: {error}"),
        }
    }

    /// Tells those of the server's end whose turn it is: they are spread evenly over the time for it, so that they do
    /// not all come back at once.
    fn tell_of_stop(&mut self, now: Instant) {
        let Some(stop) = &mut self.stop else { return };
        while let Some(id) = stop.next(now, self.drain_time, |id| self.clients.is_here(id)) {
            self.clients.dismiss(id, now);
        }
        if stop.untold.is_empty() && !self.listeners.is_empty() {
            // Newcomers are refused by the system from here on, and whoever has come since the stop began has to
            // go.
            self.listeners.clear();
            self.accept_again = None;
            for id in self.clients.ids() {
                self.clients.dismiss(id, now);
            }
        }
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

fn unbound(address: &str, variable: &str, error: &io::Error) -> io::Error {
    let is_taken = error.kind() == ErrorKind::AddrInUse;
    let advice = if is_taken { format!("; {variable} chooses another port") } else { String::new() };
    trouble::ours(error.kind(), format!("cannot listen on {address}: {}{advice}", trouble::listening(error)))
}

const USERS: Token = Token(0);
const METRICS: Token = Token(1);
const SIGNALS: Token = Token(2);
const DATABASE: Token = Token(3);
const LOOKED_UP: Token = Token(4);
const FIRST_CLIENT: usize = 5;

/// Events taken from one poll.
const EVENTS: usize = 1024;

/// Bytes read at once, which is also a client's share of one turn: after these it is the others' turn first. One buffer
/// serves all clients.
const READ_BYTES: usize = 32 * 1024;

/// Newcomers that one turn takes from each listener, at some ten microseconds for each.
const ACCEPTS_PER_TURN: usize = 128;

/// How long to wait after the system had nothing left for a newcomer, unless a client leaves before.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
