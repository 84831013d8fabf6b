//! The signaling server: one thread, one mio loop. Sockets, clock, signals and logging live here and nowhere else; what
//! is to be done is said by the pure parts, [`hub`] and [`connection`], which the loop is the only caller of.
//!
//! One turn of the loop: poll, take the time once, go on with clients that have unread bytes, serve each event, tick,
//! then write what the turn has queued, once for each client.

pub mod config;
pub mod connection;
pub mod deadlines;
pub mod http;
pub mod hub;
pub mod limits;
pub mod sessions;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use mio::event::Event as Readiness;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use socket2::{Domain, Protocol, Socket, Type};
use uuid::Uuid;

pub use config::{Config, ConfigError};
use connection::{Connection, Event};
use deadlines::Deadlines;
use hub::{ConnId, GOING_AWAY, Hub, Output};
use limits::Limits;

/// A server that listens and is ready to [`run`](Self::run).
pub struct Server {
    poll: Poll,
    /// `None` once the server stops.
    listener: Option<TcpListener>,
    address: SocketAddr,
    signals: Signals,
    /// Given up for a moment where descriptors have run out; see [`Server::turn_away`].
    spare: Option<File>,
    /// When to accept again after descriptors ran out.
    accept_again: Option<Instant>,
    config: Config,
    limits: Limits,
    hub: Hub,
    clients: HashMap<ConnId, Client>,
    next_id: usize,
    heads: Deadlines<ConnId>,
    ends: Deadlines<ConnId>,
    /// Clients whose socket had more than a turn's share.
    unread: Vec<ConnId>,
    /// Clients for whom something may have been queued in this turn.
    touched: Vec<ConnId>,
    /// When the last client is cut, once a signal has asked the server to stop.
    stop_at: Option<Instant>,
    buffer: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    connection: Connection,
    end: End,
    /// The client has ended its side of the stream, though it may still read.
    is_read_to_end: bool,
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
    /// The address cannot be had, or the system is out of descriptors.
    pub fn bind(config: Config) -> io::Result<Self> {
        let mut listener = listen(config.host, config.port)?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let limits = Limits::default();
        Ok(Self {
            poll,
            listener: Some(listener),
            address,
            signals,
            spare: spare_descriptor(),
            accept_again: None,
            hub: Hub::new(config.session_ttl, Uuid::new_v4),
            config,
            clients: HashMap::new(),
            next_id: FIRST_CLIENT,
            heads: Deadlines::new(limits.head_time),
            ends: Deadlines::new(limits.close_time),
            limits,
            unread: Vec::new(),
            touched: Vec::new(),
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
            for id in std::mem::take(&mut self.unread) {
                self.read(id, now);
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(now),
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
        }
    }

    /// How long poll may sleep: until the next deadline, but not at all while there is something unread.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadlines =
            [self.heads.next(), self.ends.next(), self.hub.next_deadline(), self.accept_again, self.stop_at];
        let next = deadlines.into_iter().flatten().min()?;
        // Rounded up, or the last fraction of a millisecond would be spent in busy turns.
        Some(next.saturating_duration_since(now) + Duration::from_millis(1))
    }

    fn tick(&mut self, now: Instant) {
        self.hub.tick(now);
        while let Some(id) = self.heads.pop_due(now) {
            if let Some(client) = self.clients.get_mut(&id).filter(|client| client.connection.is_awaiting_head()) {
                client.connection.head_timed_out();
                self.touched.push(id);
            }
        }
        while let Some(id) = self.ends.pop_due(now) {
            self.drop(id, "the end took too long");
        }
        if self.accept_again.is_some_and(|again| again <= now) {
            self.accept_again = None;
            self.accept(now);
        }
    }

    /// Takes every caller that waits: the listener will not be heard of again before that.
    fn accept(&mut self, now: Instant) {
        loop {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_out_of_descriptors(&error) => return self.turn_away(now),
                // The caller is gone already, or it is the network's trouble: the next one may have better luck.
                Err(error) => debug!("accept: {error}"),
            }
        }
    }

    fn welcome(&mut self, mut stream: TcpStream, now: Instant) {
        let id = ConnId(self.next_id);
        self.next_id += 1;
        // Each message is written at once and whole; waiting to fill a packet would only add delay.
        let _ = stream.set_nodelay(true);
        let interests = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, Token(id.0), interests) {
            warn!("a client cannot be watched: {error}");
            return;
        }
        debug!("{}: accepted", id.0);
        self.clients.insert(id, Client { stream, connection: Connection::new(), end: End::No, is_read_to_end: false });
        self.heads.set(id, now);
    }

    /// Descriptors have run out. Callers would wait unanswered, and the edge-triggered listener would say no word of
    /// them again; so one at a time is accepted with the spare descriptor and dropped, and soon all is tried anew.
    fn turn_away(&mut self, now: Instant) {
        warn!("out of descriptors: callers are turned away");
        self.accept_again = Some(now + ACCEPT_PAUSE);
        for _ in 0..TURNED_AWAY_AT_ONCE {
            let Some(listener) = &self.listener else { break };
            self.spare = None;
            let accepted = listener.accept();
            let is_over = accepted.is_err();
            drop(accepted);
            self.spare = spare_descriptor();
            if is_over || self.spare.is_none() {
                break;
            }
        }
    }

    /// Whether a second signal wants the server to end at once.
    fn receive_signals(&mut self, now: Instant) -> bool {
        for _ in self.signals.pending() {
            if self.stop_at.is_some() {
                return true;
            }
            info!("stopping");
            self.stop_at = Some(now + self.limits.close_time);
            if let Some(mut listener) = self.listener.take() {
                let _ = self.poll.registry().deregister(&mut listener);
            }
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
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(id, now);
        }
    }

    /// Reads a client's share of this turn, and hands on what it says.
    fn read(&mut self, id: ConnId, now: Instant) {
        for _ in 0..READS_PER_TURN {
            let Some(client) = self.clients.get_mut(&id) else { return };
            match client.stream.read(&mut self.buffer) {
                Ok(0) => {
                    client.is_read_to_end = true;
                    client.connection.end();
                    self.touched.push(id);
                    return;
                }
                Ok(length) => {
                    let events = client.connection.receive(&self.buffer[..length], &self.limits, &self.config.cors);
                    self.touched.push(id);
                    for event in events {
                        let outputs = match event {
                            Event::Open { username } => {
                                debug!("{}: online", id.0);
                                self.hub.connect(id, &username)
                            }
                            Event::Text(text) => self.hub.receive(id, &text, now),
                            Event::Binary => self.hub.receive_binary(id),
                        };
                        outputs.into_iter().for_each(|output| self.carry_out(output));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.drop(id, &error.to_string()),
            }
        }
        self.unread.push(id);
    }

    fn carry_out(&mut self, output: Output) {
        let id = match output {
            Output::Send { to, text } => {
                if let Some(client) = self.clients.get_mut(&to) {
                    client.connection.send(text);
                }
                to
            }
            Output::Close { conn, code, reason } => {
                if let Some(client) = self.clients.get_mut(&conn) {
                    client.connection.close(code, reason);
                }
                conn
            }
        };
        self.touched.push(id);
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
        while !client.connection.output().is_empty() {
            match client.stream.write(client.connection.output()) {
                Ok(length) => client.connection.sent(length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.drop(id, &error.to_string()),
            }
        }
        if client.connection.output().len() > self.limits.unsent_bytes {
            return self.drop(id, "too far behind in reading");
        }
        if client.connection.is_closing() && client.end == End::No {
            client.end = End::Begun;
            self.hub.disconnect(id);
            self.ends.set(id, now);
        }
        if client.connection.is_finished() {
            if client.is_read_to_end {
                return self.drop(id, "end of stream");
            }
            if client.end == End::Begun {
                client.end = End::Shut;
                let _ = client.stream.shutdown(Shutdown::Write);
            }
        }
    }

    /// The one door out of the server.
    fn drop(&mut self, id: ConnId, cause: &str) {
        self.hub.disconnect(id);
        if let Some(mut client) = self.clients.remove(&id) {
            debug!("{}: gone ({cause})", id.0);
            let _ = self.poll.registry().deregister(&mut client.stream);
        }
    }
}

/// Listens at `host`, or at every address of the machine: where there is IPv6, one socket takes IPv4 too.
fn listen(host: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    match host {
        Some(host) => listen_at(SocketAddr::new(host, port)),
        None => match listen_at((Ipv6Addr::UNSPECIFIED, port).into()) {
            // A machine without IPv6.
            Err(error) if !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
                listen_at((Ipv4Addr::UNSPECIFIED, port).into())
            }
            listener => listener,
        },
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart need not wait until the last connections of the one before are forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}

/// EMFILE or ENFILE: the process or the system has no descriptor left.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

const LISTENER: Token = Token(0);
const SIGNALS: Token = Token(1);
const FIRST_CLIENT: usize = 2;

/// Events taken from one poll.
const EVENTS: usize = 1024;

/// Callers that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;

/// Bytes read at once. One buffer serves all clients.
const READ_BYTES: usize = 64 * 1024;

/// Reads of one client in one turn; after these it is the others' turn first.
const READS_PER_TURN: usize = 4;

/// How long to wait after descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Callers turned away in one turn when descriptors have run out.
const TURNED_AWAY_AT_ONCE: usize = 64;
