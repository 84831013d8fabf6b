//! The socket to the database of a cluster: looked up, connected, read and written, and connected again for ever once
//! it is lost. What is said there is [`Cluster`]'s.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token, Waker};
use uuid::Uuid;

use super::cluster::url::DatabaseAddress;
use super::cluster::{Cluster, ClusterSettings, DatabaseLoss};
use crate::{threads, trouble};

/// The way to the database.
pub struct Database {
    /// What is said on it.
    pub cluster: Cluster,
    address: DatabaseAddress,
    token: Token,
    waker: Arc<Waker>,
    state: SocketState,
    /// The stream may have more to read.
    is_readable: bool,
    /// It is at its end, once all is read.
    has_ended: bool,
    /// How often it could not be connected in a row.
    failures: u32,
    /// The reason that was last told. The same is told once.
    told: Option<String>,
    /// The database was reached once: from then on nothing ends the server.
    was_up: bool,
    /// It was told that it can be asked.
    told_up: bool,
    /// It was told that it has no room.
    told_full: bool,
    refusal: Option<String>,
    buffer: Vec<u8>,
}

enum SocketState {
    /// There is no stream, and until then none is tried.
    Down(Instant),
    /// The name is being looked up, by a thread, since the system waits for the answer.
    Resolving(Receiver<io::Result<SocketAddr>>),
    /// The system connects, until then at the latest.
    Connecting(Stream, Instant),
    Open(Stream),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Database {
    /// A way that connects with its first [`tick`](Self::tick). The database's events are to come with `token`;
    /// `waker` wakes the loop when a name was looked up.
    pub fn new(settings: ClusterSettings, token: Token, waker: Arc<Waker>, now: Instant) -> Self {
        let address = settings.url.address.clone();
        let node = *Uuid::new_v4().as_bytes().last_chunk().expect("a UUID has 16 bytes");
        Self {
            cluster: Cluster::new(settings, node, now),
            address,
            token,
            waker,
            state: SocketState::Down(now),
            is_readable: false,
            has_ended: false,
            failures: 0,
            told: None,
            was_up: false,
            told_up: false,
            told_full: false,
            refusal: None,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Why the database wants nothing of this server, if it has said so before it was ever reached.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The system says that the stream can be read or written, or is at its end.
    pub fn ready(&mut self, has_ended: bool) {
        self.is_readable = true;
        self.has_ended |= has_ended;
    }

    /// Whether there is more to read, or to be done with what was read, than a turn's share.
    pub fn has_unread(&self) -> bool {
        self.cluster.has_events() || self.is_readable && matches!(self.state, SocketState::Open(_))
    }

    /// Goes on with whatever is due: connects, reads a turn's share, and lets time pass.
    pub fn tick(&mut self, registry: &Registry, now: Instant) {
        if let Err(loss) = self.try_tick(registry, now) {
            self.lose(&loss, now);
        }
        if self.cluster.is_up() && !std::mem::replace(&mut self.told_up, true) {
            info!("cluster: the database at {} can be asked", self.address);
            (self.was_up, self.failures, self.told) = (true, 0, None);
        }
        let is_full = self.cluster.is_full(now);
        if is_full && !self.told_full {
            warn!(
                "cluster: the database at {} is full: new names and sessions are refused until its maxmemory is raised",
                self.address
            );
        }
        self.told_full = is_full;
    }

    /// Writes what waits.
    pub fn write(&mut self, now: Instant) {
        let SocketState::Open(stream) = &mut self.state else { return };
        while !self.cluster.output().is_empty() {
            match stream.write(self.cluster.output()) {
                Ok(length) => self.cluster.sent(length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.lose(&unasked(&error), now),
            }
        }
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            SocketState::Down(until) | SocketState::Connecting(_, until) => Some(*until),
            SocketState::Resolving(_) => None,
            SocketState::Open(_) => self.cluster.next_deadline(),
        }
    }

    /// Ends this server's lease, and waits a moment for the database to take that.
    pub fn leave(&mut self, now: Instant) {
        self.cluster.leave(now);
        let end = now + LEAVE_TIME;
        while !self.cluster.output().is_empty() && matches!(self.state, SocketState::Open(_)) && Instant::now() < end {
            self.write(now);
            if !self.cluster.output().is_empty() {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn try_tick(&mut self, registry: &Registry, now: Instant) -> Result<(), DatabaseLoss> {
        match &mut self.state {
            SocketState::Down(until) if *until <= now => self.look_up(registry, now)?,
            SocketState::Resolving(answer) => match answer.try_recv() {
                Ok(address) => {
                    let address = address.map_err(|error| unasked(&error))?;
                    self.connect(address, registry, now)?;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(lost("its name cannot be looked up")),
            },
            SocketState::Connecting(_, until) if *until <= now => return Err(lost("it does not answer")),
            _ => {}
        }
        if let SocketState::Connecting(stream, _) = &mut self.state
            && stream.is_connected().map_err(|error| unasked(&error))?
        {
            let SocketState::Connecting(stream, _) = std::mem::replace(&mut self.state, SocketState::Down(now)) else {
                return Ok(());
            };
            self.state = SocketState::Open(stream);
            self.cluster.connect(now);
        }
        self.read(now)?;
        self.cluster.tick(now)
    }

    fn look_up(&mut self, registry: &Registry, now: Instant) -> Result<(), DatabaseLoss> {
        match &self.address {
            DatabaseAddress::Path(path) => {
                let stream = UnixStream::connect(path).map_err(|error| unasked(&error))?;
                self.open(Stream::Unix(stream), registry, now)
            }
            DatabaseAddress::Host(host, port) => match host.parse::<IpAddr>() {
                Ok(address) => self.connect(SocketAddr::new(address, *port), registry, now),
                Err(_) => {
                    let (answers, answer) = mpsc::channel();
                    let (host, port, waker, attempt) =
                        (host.clone(), *port, self.waker.clone(), self.failures as usize);
                    let look_up = move || {
                        let addresses: io::Result<Vec<SocketAddr>> =
                            (&*host, port).to_socket_addrs().map(Iterator::collect);
                        let unknown = || trouble::ours(ErrorKind::NotFound, UNKNOWN_NAME);
                        // Each attempt takes another of its addresses.
                        let addresses = addresses.unwrap_or_default();
                        let address = addresses.get(attempt % addresses.len().max(1)).copied().ok_or_else(unknown);
                        // Nobody waits for it where the server has ended.
                        let _ = answers.send(address);
                        let _ = waker.wake();
                    };
                    threads::spawn("look-up", look_up).map_err(|error| unasked(&error))?;
                    self.state = SocketState::Resolving(answer);
                    Ok(())
                }
            },
        }
    }

    fn connect(&mut self, address: SocketAddr, registry: &Registry, now: Instant) -> Result<(), DatabaseLoss> {
        let stream = TcpStream::connect(address).map_err(|error| unasked(&error))?;
        self.open(Stream::Tcp(stream), registry, now)
    }

    fn open(&mut self, mut stream: Stream, registry: &Registry, now: Instant) -> Result<(), DatabaseLoss> {
        let interests = Interest::READABLE | Interest::WRITABLE;
        registry.register(stream.source(), self.token, interests).map_err(|error| unasked(&error))?;
        self.state = SocketState::Connecting(stream, now + CONNECT_TIME);
        self.has_ended = false;
        Ok(())
    }

    fn read(&mut self, now: Instant) -> Result<(), DatabaseLoss> {
        let SocketState::Open(stream) = &mut self.state else { return Ok(()) };
        // What was read comes first.
        let mut left = if self.cluster.has_events() { 0 } else { READ_BYTES };
        while self.is_readable && left > 0 {
            match stream.read(&mut self.buffer) {
                Ok(0) => return Err(lost("it has closed the connection")),
                Ok(length) => {
                    left = left.saturating_sub(length);
                    // Less than was asked for: the socket is empty, and more to come gives another event (epoll(7)).
                    self.is_readable = self.has_ended || length == self.buffer.len();
                    self.cluster.receive(&self.buffer[..length], now)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unasked(&error)),
            }
        }
        Ok(())
    }

    /// Closes the stream, tells why once, and tries again in a moment.
    fn lose(&mut self, loss: &DatabaseLoss, now: Instant) {
        self.cluster.lose(now);
        // Spread, so that the servers of a cluster do not all come back at once.
        let pause = (FIRST_PAUSE * 2u32.saturating_pow(self.failures.min(6))).min(LONGEST_PAUSE);
        let jitter = f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0;
        self.state = SocketState::Down(now + pause.mul_f64(0.5 + jitter / 2.0));
        self.failures = self.failures.saturating_add(1);
        self.told_up = false;
        if self.told.as_deref() != Some(&loss.reason) {
            warn!("cluster: the database at {} cannot be asked: {}; trying again", self.address, loss.reason);
            self.told = Some(loss.reason.clone());
        }
        if loss.is_refusal && !self.was_up {
            self.refusal = Some(format!("CLUSTER_URL: the database at {} refuses: {}", self.address, loss.reason));
        }
    }
}

fn unasked(error: &io::Error) -> DatabaseLoss {
    lost(trouble::asking(error))
}

fn lost(reason: impl ToString) -> DatabaseLoss {
    DatabaseLoss { reason: reason.to_string(), is_refusal: false }
}

impl Stream {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }

    /// Whether the system has connected it.
    fn is_connected(&mut self) -> io::Result<bool> {
        let Self::Tcp(stream) = self else { return Ok(true) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => stream.set_nodelay(true).map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is said where a name leads nowhere, whatever the system calls that.
const UNKNOWN_NAME: &str = "nobody knows that name; is CLUSTER_URL right?";

/// Bytes read at once, which is also a turn's share of the database: after these it is the clients' turn. It is several
/// times what another server says at once ([`Cluster`]), of which a part would have to be kept until the rest comes.
const READ_BYTES: usize = 256 * 1024;

/// How long to wait before the first try to connect again, and at the most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// How long the server's end waits for the database to be told of it.
const LEAVE_TIME: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::cluster::{GRACE, SILENCE};
    use crate::server::hub::CLAIM_TIME;

    #[test]
    fn every_node_is_back_within_the_grace_and_the_grace_is_over_before_a_claim_is() {
        // What it takes to connect and to greet the database, where that has much to do.
        let greeting = Duration::from_secs(1);
        assert!(SILENCE + LONGEST_PAUSE + greeting <= GRACE);
        assert!(GRACE < CLAIM_TIME);
    }
}
