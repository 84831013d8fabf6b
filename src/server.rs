//! The signaling server: one thread, one mio loop. Sockets, clock, signals and logging live here and nowhere else; what
//! is to be done is said by the pure parts, [`hub`] and [`connection`], which the loop is the only caller of.
//!
//! One turn of the loop: poll, take the time once, go on with clients that have unread bytes, serve each event, tick,
//! then write what the turn has queued, once for each client.

pub mod address;
pub mod config;
pub mod connection;
pub mod deadlines;
pub mod http;
pub mod hub;
pub mod limits;
mod listener;
pub mod metrics;
pub mod sessions;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use mio::event::Event as Readiness;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use uuid::Uuid;

use address::Crowd;
use config::MetricsAt;
pub use config::{Config, ConfigError};
use connection::{Connection, Event};
use deadlines::Deadlines;
use http::{Caller, Door};
use hub::{ConnId, Departure, GOING_AWAY, Hub, Output, POLICY};
use listener::{Listener, Waiting};
use metrics::Metrics;

/// A server that listens and is ready to [`run`](Self::run).
pub struct Server {
    poll: Poll,
    /// None any more once the server stops.
    listeners: Vec<(Token, Listener)>,
    address: SocketAddr,
    signals: Signals,
    /// When to accept again after the system had nothing left for a caller.
    accept_again: Option<Instant>,
    config: Config,
    hub: Hub,
    clients: HashMap<ConnId, Client>,
    /// How many of them are at their end.
    ending: usize,
    crowd: Crowd,
    next_id: usize,
    heads: Deadlines<ConnId>,
    pings: Deadlines<ConnId>,
    /// Clients that will have been silent for too long before their next ping is due, unless they say something.
    silent: BinaryHeap<Reverse<(Instant, ConnId)>>,
    ends: Deadlines<ConnId>,
    /// Clients whose socket had more than a turn's share.
    unread: Vec<ConnId>,
    /// Clients for whom something may have been queued in this turn.
    touched: Vec<ConnId>,
    /// When the last client is cut, once a signal has asked the server to stop.
    stop_at: Option<Instant>,
    metrics: Metrics,
    buffer: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    /// Where the TCP connection comes from.
    peer: IpAddr,
    /// What it is counted as in the crowd.
    counted: Option<IpAddr>,
    connection: Connection,
    heard: Instant,
    end: End,
    /// The system has said that the client's side of the stream is at its end, which it says only once.
    has_ended: bool,
    /// All of that was read. The client may still read, too.
    is_read_to_end: bool,
    /// It was closed for what it did: nothing more of it is served.
    is_cut: bool,
}

/// How far the end of a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not begun.
    No,
    /// The hub has been told, the deadline is set, and last bytes may go out.
    Begun,
    /// Our side of the stream is shut; the client's end of stream is awaited, since closing with unread bytes would
    /// reset the connection, and the client might never see our last bytes.
    Shut,
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
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        let limits = &config.limits;
        Ok(Self {
            poll,
            listeners,
            address,
            signals,
            accept_again: None,
            hub: Hub::new(config.session_ttl, limits.clone(), Uuid::new_v4),
            clients: HashMap::new(),
            ending: 0,
            crowd: Crowd::new(limits.clients_per_address),
            next_id: FIRST_CLIENT,
            heads: Deadlines::new(limits.head_time),
            pings: Deadlines::new(limits.ping_interval),
            silent: BinaryHeap::new(),
            ends: Deadlines::new(limits.close_time),
            config,
            unread: Vec::new(),
            touched: Vec::new(),
            stop_at: None,
            metrics: Metrics::default(),
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
            let mut unread = std::mem::take(&mut self.unread);
            unread.sort_unstable();
            unread.dedup();
            for id in unread {
                self.read(id, now);
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
            self.tick(now);
            self.flush(now);
            if self.stop_at.is_some_and(|stop_at| now >= stop_at || self.clients.is_empty()) {
                info!("stopped");
                return Ok(());
            }
            self.metrics.turn(now.elapsed());
        }
    }

    /// How long poll may sleep: until the next deadline, but not at all while there is something unread.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let silent = self.silent.peek().map(|Reverse((due, _))| *due);
        let timers = [self.heads.next(), self.pings.next(), self.ends.next(), self.hub.next_deadline()];
        let next = timers.into_iter().chain([silent, self.accept_again, self.stop_at]).flatten().min()?;
        // Rounded up, or the last fraction of a millisecond would be spent in busy turns.
        Some(next.saturating_duration_since(now) + Duration::from_millis(1))
    }

    fn tick(&mut self, now: Instant) {
        self.hub.tick(now);
        while let Some(id) = self.heads.pop_due(now) {
            if let Some(client) = self.clients.get_mut(&id).filter(|client| client.connection.is_awaiting_head()) {
                client.connection.refuse("408 Request Timeout", "the request took too long");
                self.metrics.cut("slow head");
                self.touched.push(id);
            }
        }
        while let Some(id) = self.pings.pop_due(now) {
            self.ping(id, now);
        }
        while let Some(Reverse((due, id))) = self.silent.peek().copied().filter(|Reverse((due, _))| *due <= now) {
            self.silent.pop();
            let silence = self.config.limits.silence;
            if self.clients.get(&id).is_some_and(|client| client.heard + silence <= due) {
                self.cut(id, "no sign of life");
            }
        }
        while let Some(id) = self.ends.pop_due(now) {
            self.drop(id, "the end took too long", now);
        }
        if self.accept_again.is_some_and(|again| again <= now) {
            self.accept_again = None;
            self.accept(now);
        }
    }

    fn ping(&mut self, id: ConnId, now: Instant) {
        let limits = &self.config.limits;
        let Some(client) = self.clients.get_mut(&id).filter(|client| client.end == End::No) else { return };
        client.connection.ping();
        self.touched.push(id);
        self.pings.set(id, now);
        let silent_at = client.heard + limits.silence;
        if silent_at <= now + limits.ping_interval {
            self.silent.push(Reverse((silent_at, id)));
        }
    }

    /// Takes every caller that waits: the listeners will not be heard of again before that.
    fn accept(&mut self, now: Instant) {
        let mut listeners = std::mem::take(&mut self.listeners);
        for (token, listener) in &mut listeners {
            loop {
                match listener.accept() {
                    Waiting::Caller(stream, address) => self.welcome(stream, address.ip().to_canonical(), *token, now),
                    Waiting::Nobody => break,
                    Waiting::Unserved(error) => {
                        // Once for a whole time of want, or whoever can cause one could fill the log.
                        if self.accept_again.is_none() {
                            warn!("callers are turned away: {error}");
                        }
                        self.metrics.cut("no descriptor");
                        self.accept_again = Some(now + ACCEPT_PAUSE);
                        break;
                    }
                }
            }
        }
        self.listeners = listeners;
    }

    fn welcome(&mut self, mut stream: TcpStream, peer: IpAddr, listener: Token, now: Instant) {
        let id = ConnId(self.next_id);
        self.next_id += 1;
        self.metrics.accepted += 1;
        // Each message is written at once and whole; waiting to fill a packet would only add delay.
        let _ = stream.set_nodelay(true);
        let interests = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, Token(id.0), interests) {
            warn!("a client cannot be watched: {error}");
            return;
        }
        debug!("{}: accepted", id.0);
        let is_loopback_metrics = self.config.metrics == MetricsAt::Loopback && peer.is_loopback();
        let door = Door { users: listener == USERS, metrics: listener == METRICS || is_loopback_metrics };
        let mut connection = Connection::new(door);
        let mut counted = None;
        if self.clients.len() - self.ending >= self.config.limits.clients {
            connection.refuse("503 Service Unavailable", "the server is full");
            self.metrics.cut("server full");
        } else if !self.config.proxies.contains(peer) {
            counted = self.count(peer, &mut connection);
        }
        self.clients.insert(
            id,
            Client {
                stream,
                peer,
                counted,
                connection,
                heard: now,
                end: End::No,
                has_ended: false,
                is_read_to_end: false,
                is_cut: false,
            },
        );
        self.heads.set(id, now);
        self.touched.push(id);
    }

    /// Counts a client as one from `address`, or refuses it.
    fn count(&mut self, address: IpAddr, connection: &mut Connection) -> Option<IpAddr> {
        if self.crowd.enter(address) {
            return Some(address);
        }
        connection.refuse("429 Too Many Requests", "too many connections from this address");
        self.metrics.cut("address full");
        None
    }

    /// Whether a second signal wants the server to end at once.
    fn receive_signals(&mut self, now: Instant) -> bool {
        let signals: Vec<i32> = self.signals.pending().collect();
        for signal in signals {
            if signal == SIGUSR1 {
                let version = env!("CARGO_PKG_VERSION");
                let (connections, users, sessions) = (self.clients.len(), self.hub.online(), self.hub.sessions());
                info!("lowkey-server {version}: {connections} connections, {users} users, {sessions} sessions");
                continue;
            }
            if self.stop_at.is_some() {
                return true;
            }
            info!("stopping");
            self.stop_at = Some(now + self.config.limits.close_time);
            // New callers are refused by the system from here on.
            self.listeners.clear();
            self.accept_again = None;
            for (id, client) in &mut self.clients {
                client.connection.close(GOING_AWAY, "server is shutting down");
                self.touched.push(*id);
            }
        }
        false
    }

    fn serve(&mut self, id: ConnId, event: &Readiness, now: Instant) {
        if event.is_writable() {
            self.touched.push(id);
        }
        let has_ended = event.is_read_closed() || event.is_error();
        if let (true, Some(client)) = (has_ended, self.clients.get_mut(&id)) {
            client.has_ended = true;
        }
        if event.is_readable() || has_ended {
            self.read(id, now);
        }
    }

    /// Reads a client's share of this turn, which is one buffer, and hands on what it says. A client whose stream has ended
    /// is read to that end.
    fn read(&mut self, id: ConnId, now: Instant) {
        loop {
            let Some(client) = self.clients.get_mut(&id).filter(|client| !client.is_read_to_end) else { return };
            match client.stream.read(&mut self.buffer) {
                Ok(0) => {
                    client.is_read_to_end = true;
                    client.connection.end();
                    self.touched.push(id);
                    return;
                }
                Ok(length) => {
                    let has_ended = client.has_ended;
                    self.receive(id, length, now);
                    if length == self.buffer.len() {
                        return self.unread.push(id);
                    }
                    // Less than was asked for: the socket is empty, and more to come gives another event (epoll(7)).
                    if !has_ended {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.drop(id, &error.to_string(), now),
            }
        }
    }

    /// Serves what stands in the first `length` bytes of the buffer.
    fn receive(&mut self, id: ConnId, length: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        self.metrics.bytes_in += length as u64;
        client.heard = now;
        let events = client.connection.receive(&self.buffer[..length], &self.config.limits, &self.config.access);
        self.touched.push(id);
        let outputs = self.hub.receive_bytes(id, length, now);
        self.carry_out(outputs);
        self.serve_events(id, events, now);
    }

    fn serve_events(&mut self, id: ConnId, events: Vec<Event>, now: Instant) {
        for event in events {
            if self.clients.get(&id).is_none_or(|client| client.is_cut) {
                return;
            }
            let outputs = match event {
                Event::Knock(caller) => {
                    let events = self.open(id, &caller, now);
                    return self.serve_events(id, events, now);
                }
                Event::Metrics => {
                    let text = self.metrics.render(&self.hub, self.clients.len());
                    return self.answer(id, http::metrics(&text));
                }
                Event::Text(text) => self.hub.receive(id, &text, now),
                Event::Binary => self.hub.receive_binary(id, now),
                Event::Control => self.hub.receive_control(id, now),
            };
            self.carry_out(outputs);
        }
    }

    fn answer(&mut self, id: ConnId, response: Vec<u8>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.connection.respond(response);
        }
    }

    /// Lets a client in that has knocked, if there is room for it and the name is free; returns what it has sent already.
    fn open(&mut self, id: ConnId, caller: &Caller, now: Instant) -> Vec<Event> {
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        if client.counted.is_none() {
            let address = self.config.proxies.client_behind(client.peer, &caller.forwarded_for);
            if !self.crowd.enter(address) {
                client.connection.refuse("429 Too Many Requests", "too many connections from this address");
                self.metrics.cut("address full");
                return Vec::new();
            }
            client.counted = Some(address);
        }
        match self.hub.connect(id, &caller.username, caller.token.as_deref(), now) {
            Ok(outputs) => {
                debug!("{}: online", id.0);
                let events = client.connection.accept(&self.config.limits);
                self.pings.set(id, now);
                self.carry_out(outputs);
                events
            }
            Err(_) => {
                client.connection.refuse("409 Conflict", "the name is taken");
                Vec::new()
            }
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, text } => {
                    self.send(to, text);
                }
                Output::Relay { from, to, text } => {
                    if !self.send(to, text) {
                        let outputs = self.hub.undelivered(from, to);
                        self.carry_out(outputs);
                    }
                }
                Output::Close { conn, code, reason } => {
                    self.close(conn, code, reason);
                }
            }
        }
    }

    /// Queues a message; whether there is room for it. A client that is too far behind is cut.
    fn send(&mut self, to: ConnId, text: String) -> bool {
        let Some(client) = self.clients.get_mut(&to) else { return true };
        self.touched.push(to);
        if client.connection.is_closing() {
            return false;
        }
        client.connection.send(text);
        let limit = self.config.limits.unsent_bytes;
        if client.connection.output().len() <= limit {
            return true;
        }
        // It may only be this turn that has so much to say: what counts is what its socket does not take.
        if client.write(&mut self.metrics).is_err() || client.connection.output().len() > limit {
            self.cut(to, "too far behind in reading");
            return false;
        }
        true
    }

    /// Begins the end of a client that keeps no measure.
    fn cut(&mut self, id: ConnId, cause: &'static str) {
        self.close(id, POLICY, cause);
    }

    fn close(&mut self, id: ConnId, code: u16, cause: &'static str) {
        if let Some(client) = self.clients.get_mut(&id).filter(|client| !client.is_cut) {
            debug!("{}: closed with {code} ({cause})", id.0);
            client.connection.close(code, cause);
            client.is_cut = true;
            self.metrics.cut(cause);
            self.touched.push(id);
        }
    }

    /// Writes what the turn has queued, and carries ends on.
    fn flush(&mut self, now: Instant) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for id in touched.drain(..) {
            self.flush_client(id, now);
        }
        // The list's memory serves the next turn.
        self.touched = touched;
    }

    fn flush_client(&mut self, id: ConnId, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if let Err(error) = client.write(&mut self.metrics) {
            return self.drop(id, &error.to_string(), now);
        }
        // Pongs wait there too, and nobody else looks at them.
        if client.connection.output().len() > self.config.limits.unsent_bytes && !client.connection.is_closing() {
            self.cut(id, "too far behind in reading");
        }
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.connection.is_closing() && client.end == End::No {
            client.end = End::Begun;
            self.ending += 1;
            self.hub.disconnect(id, client.departure(), now);
            self.ends.set(id, now);
        }
        if client.connection.is_finished() {
            if client.is_read_to_end {
                return self.drop(id, "end of stream", now);
            }
            if self.ending > MAX_ENDING {
                return self.drop(id, "too many are at their end", now);
            }
            if client.end == End::Begun {
                client.end = End::Shut;
                let _ = client.stream.shutdown(Shutdown::Write);
            }
        }
    }

    /// The one door out of the server.
    fn drop(&mut self, id: ConnId, cause: &str, now: Instant) {
        let Some(mut client) = self.clients.remove(&id) else { return };
        debug!("{}: gone ({cause})", id.0);
        self.hub.disconnect(id, client.departure(), now);
        if client.end != End::No {
            self.ending -= 1;
        }
        if let Some(address) = client.counted {
            self.crowd.leave(address);
        }
        let _ = self.poll.registry().deregister(&mut client.stream);
        // A descriptor is free: somebody may have waited for it.
        if self.accept_again.is_some() {
            self.accept_again = Some(now);
        }
    }
}

impl Client {
    /// Writes as much as the socket takes.
    fn write(&mut self, metrics: &mut Metrics) -> io::Result<()> {
        while !self.connection.output().is_empty() {
            match self.stream.write(self.connection.output()) {
                Ok(length) => {
                    self.connection.sent(length);
                    metrics.bytes_out += length as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn departure(&self) -> Departure {
        if self.connection.has_left() { Departure::Left } else { Departure::Lost }
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

/// Clients whose last bytes are sent and whose end is awaited, at once. Beyond these they are not waited for.
const MAX_ENDING: usize = 1024;

/// How long to wait after the system had nothing left for a caller, unless a client leaves before.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
