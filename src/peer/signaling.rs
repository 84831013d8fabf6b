//! The WebSocket to the server: `ws` and `wss`, non-blocking on the peer's loop, found again with growing pauses when
//! it is lost. Dialling, which may block, is done on a thread of its own.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::debug;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Connector, Error, HandshakeError, Message, WebSocket};

use super::login::Login;
use super::{dial, tls, unreached};

/// What came of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has taken us online.
    Online,
    /// It sent a text message.
    Text(String),
    /// It is out of reach.
    Offline {
        /// Why, for people.
        reason: String,
        /// When it is tried again; `None` when it is not.
        retry_in: Option<Duration>,
    },
}

/// What a dialling thread brings back.
pub type Dialled = Result<Box<Socket>, NotDialled>;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotDialled {
    /// Why, for people.
    pub reason: String,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl From<String> for NotDialled {
    fn from(reason: String) -> Self {
        Self { reason, retry_after: None }
    }
}

/// A WebSocket to the server, in the clear or over TLS.
pub type Socket = WebSocket<MaybeTlsStream<TcpStream>>;

/// The connection to the server, or the search for it.
pub struct Signaling {
    login: Login,
    /// Posts what a dialling thread brings back to the loop.
    post: Arc<dyn Fn(Dialled) + Send + Sync>,
    token: Token,
    state: State,
    /// Failures since the server was last held for long.
    failures: u32,
    /// The last reason that was told, so that it is told once.
    told: Option<String>,
    /// When the program has found last that it had stood still.
    woken: Option<Instant>,
}

enum State {
    /// Dial at this time; `None` is never.
    Waiting(Option<Instant>),
    Dialling,
    Online {
        socket: Box<Socket>,
        since: Instant,
        heard: Instant,
        ping: Instant,
    },
}

impl Signaling {
    /// Seeks the server from the next [`tick`](Self::tick) on.
    pub fn new(login: Login, token: Token, now: Instant, post: impl Fn(Dialled) + Send + Sync + 'static) -> Self {
        let state = State::Waiting(Some(now));
        Self { login, post: Arc::new(post), token, state, failures: 0, told: None, woken: None }
    }

    /// Dials at the next [`tick`](Self::tick), if the server is not there.
    pub fn seek(&mut self, now: Instant) {
        if let State::Waiting(at) = &mut self.state {
            (*at, self.told) = (Some(now), None);
        }
    }

    /// Takes note that the program has stood still until now, as with a lid that was closed. What is found lost then
    /// was lost meanwhile, and of all the server's clients this one alone comes back at this moment.
    pub fn wake(&mut self, now: Instant) {
        self.woken = Some(now);
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting(at) => *at,
            State::Dialling => None,
            State::Online { heard, ping, .. } => Some((*heard + SILENCE).min(*ping)),
        }
    }

    /// Dials, pings or gives up, whatever is due.
    pub fn tick(&mut self, now: Instant, registry: &Registry) -> Vec<Event> {
        match &mut self.state {
            State::Waiting(Some(at)) if *at <= now => {
                self.state = State::Dialling;
                let (login, post) = (self.login.clone(), self.post.clone());
                let dialling = thread::Builder::new().name("lowkey-dial".to_owned()).spawn(move || {
                    post(dial(&login));
                });
                match dialling {
                    Ok(_) => Vec::new(),
                    Err(error) => self.lose(
                        format!("cannot start a thread: {}", unreached::io(&error)),
                        Loss::Ours,
                        now,
                        registry,
                    ),
                }
            }
            State::Online { heard, .. } if *heard + SILENCE <= now => {
                self.lose("the server has fallen silent".to_owned(), Loss::Ours, now, registry)
            }
            State::Online { ping, .. } if *ping <= now => {
                *ping = now + PING_INTERVAL;
                self.write(Message::Ping(Vec::new().into()), now, registry)
            }
            _ => Vec::new(),
        }
    }

    /// Takes what a dialling thread has brought back. What came right behind the handshake gives no readiness any more,
    /// so [`ready`](Self::ready) is to be called after this.
    pub fn dialled(&mut self, dialled: Dialled, now: Instant, registry: &Registry) -> Vec<Event> {
        let socket = match dialled {
            Ok(socket) => socket,
            Err(NotDialled { reason, retry_after }) => {
                let asked = retry_after.map_or(Duration::ZERO, |asked| as_asked(asked, fastrand::f64()));
                return self.lose_for(reason, Loss::Ours, asked, now, registry);
            }
        };
        let interests = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut SourceFd(&descriptor(&socket)), self.token, interests) {
            return self.lose(
                format!("cannot watch the connection: {}", unreached::io(&error)),
                Loss::Ours,
                now,
                registry,
            );
        }
        self.told = None;
        self.state = State::Online { socket, since: now, heard: now, ping: now + PING_INTERVAL };
        vec![Event::Online]
    }

    /// Reads and writes what can be, after the socket was said to be ready. There is a limit to how much is read at
    /// once; the second value says that there may be more, of which there will be no other word.
    pub fn ready(&mut self, now: Instant, registry: &Registry) -> (Vec<Event>, bool) {
        let State::Online { socket, heard, .. } = &mut self.state else { return (Vec::new(), false) };
        let mut events = Vec::new();
        let (reason, loss) = loop {
            if events.len() >= READS_AT_ONCE {
                return (events, true);
            }
            match socket.read() {
                Ok(message) => {
                    *heard = now;
                    match message {
                        Message::Text(text) => events.push(Event::Text(text.as_str().to_owned())),
                        Message::Close(frame) => {
                            let reason =
                                frame.map(|frame| unreached::one_line(&frame.reason)).filter(|text| !text.is_empty());
                            let reason = reason.unwrap_or_else(|| "the server closed the connection".to_owned());
                            let _ = socket.flush();
                            if reason == REPLACED {
                                // Taking the name back would only make the two replace each other for ever.
                                events.extend(self.give_up(registry));
                                return (events, false);
                            }
                            break (reason, Loss::Servers);
                        }
                        _ => {}
                    }
                }
                Err(Error::Io(error)) if is_pending(&error) => match socket.flush() {
                    Err(error @ Error::Io(_)) if !is_queued(&error) => {
                        break (unreached::why(&error, self.login.server.is_plain()), Loss::of(&error));
                    }
                    _ => return (events, false),
                },
                Err(error) => break (unreached::why(&error, self.login.server.is_plain()), Loss::of(&error)),
            }
        };
        events.extend(self.lose(reason, loss, now, registry));
        (events, false)
    }

    /// Sends a text message, if the server is there.
    pub fn send(&mut self, text: String, now: Instant, registry: &Registry) -> Vec<Event> {
        self.write(Message::text(text), now, registry)
    }

    /// Says good-bye to the server.
    pub fn close(&mut self) {
        if let State::Online { socket, .. } = &mut self.state {
            let _ = socket.close(None);
            let _ = socket.flush();
        }
        self.state = State::Waiting(None);
    }

    fn write(&mut self, message: Message, now: Instant, registry: &Registry) -> Vec<Event> {
        let State::Online { socket, .. } = &mut self.state else { return Vec::new() };
        match socket.send(message) {
            Ok(()) => Vec::new(),
            // It is queued, and goes out as soon as the socket is ready.
            Err(error) if is_queued(&error) => Vec::new(),
            Err(error) => {
                self.lose(unreached::why(&error, self.login.server.is_plain()), Loss::of(&error), now, registry)
            }
        }
    }

    fn lose(&mut self, reason: String, loss: Loss, now: Instant, registry: &Registry) -> Vec<Event> {
        self.lose_for(reason, loss, Duration::ZERO, now, registry)
    }

    /// Loses the server, for so long at least.
    fn lose_for(
        &mut self,
        reason: String,
        loss: Loss,
        at_least: Duration,
        now: Instant,
        registry: &Registry,
    ) -> Vec<Event> {
        self.failures = match &self.state {
            State::Online { since, .. } if now.saturating_duration_since(*since) >= HELD => 1,
            _ => self.failures.saturating_add(1),
        };
        let loss = match &self.state {
            State::Online { heard, .. } => loss.seen(*heard, self.woken),
            _ => Loss::Ours,
        };
        let pause = pause_after(loss, self.failures, fastrand::f64()).max(at_least);
        self.disconnect(registry);
        self.state = State::Waiting(Some(now + pause));
        debug!("server lost: {reason}; next try in {pause:?}");
        if self.told.as_ref() == Some(&reason) {
            return Vec::new();
        }
        self.told = Some(reason.clone());
        vec![Event::Offline { reason, retry_in: Some(pause) }]
    }

    fn give_up(&mut self, registry: &Registry) -> Option<Event> {
        self.disconnect(registry);
        self.state = State::Waiting(None);
        let reason = "another program, perhaps of yours, has gone online under this name".to_owned();
        Some(Event::Offline { reason, retry_in: None })
    }

    fn disconnect(&mut self, registry: &Registry) {
        if let State::Online { socket, .. } = &self.state {
            let _ = registry.deregister(&mut SourceFd(&descriptor(socket)));
        }
    }
}

/// Whose doing it is that an open connection to the server is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The server has ended it, or its machine has: then it has ended that of all others, too, who seek it at the same
    /// moment.
    Servers,
    /// Our own network is gone, or nobody knows.
    Ours,
}

impl Loss {
    /// Whose doing it is to one who has heard of the server last at one time and stood still until another. What is
    /// read at waking had come before.
    fn seen(self, heard: Instant, woken: Option<Instant>) -> Self {
        if woken.is_some_and(|woken| heard <= woken + WAKING) { Self::Ours } else { self }
    }

    fn of(error: &Error) -> Self {
        let is_servers = match error {
            Error::ConnectionClosed | Error::AlreadyClosed => true,
            Error::Protocol(error) => matches!(error, tungstenite::error::ProtocolError::ResetWithoutClosingHandshake),
            Error::Io(error) => matches!(
                error.kind(),
                ErrorKind::ConnectionReset
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::BrokenPipe
                    | ErrorKind::ConnectionAborted
            ),
            _ => false,
        };
        if is_servers { Self::Servers } else { Self::Ours }
    }
}

/// Connects and shakes hands, with a time limit for each step.
fn dial(login: &Login) -> Dialled {
    let (host, port) = login.server.address();
    let is_plain = login.server.is_plain();
    let stream = dial::dial(login.proxy.as_ref().map(|proxy| (proxy, PROXY_TIME)), &host, port, DIAL_TIME)
        .map_err(|error| error.to_string())?;
    let socket = stream.try_clone().map_err(|error| unreached::io(&error))?;
    let mut request = login
        .server
        .for_user(&login.username)
        .into_client_request()
        .map_err(|error| unreached::why(&error, is_plain))?;
    let secret =
        |value: &str| HeaderValue::from_str(value).map_err(|_| "a token has characters that no token has".to_owned());
    request.headers_mut().insert("Lowkey-Token", secret(&login.name_token())?);
    if let Some(token) = &login.access_token {
        request.headers_mut().insert("Authorization", secret(&format!("Bearer {token}"))?);
    }
    let connector = if is_plain { Connector::Plain } else { Connector::Rustls(tls::config()) };
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNSENT)
        .max_message_size(Some(MAX_SIGNAL))
        .max_frame_size(Some(MAX_SIGNAL));
    let (websocket, _) = tungstenite::client_tls_with_config(request, stream, Some(config), Some(connector)).map_err(
        |error| match error {
            HandshakeError::Failure(error) => {
                NotDialled { reason: unreached::why(&error, is_plain), retry_after: unreached::retry_after(&error) }
            }
            HandshakeError::Interrupted(_) => "the server does not answer; is the address right?".to_owned().into(),
        },
    )?;
    socket.set_nonblocking(true).map_err(|error| unreached::io(&error))?;
    Ok(Box::new(websocket))
}

fn descriptor(socket: &Socket) -> std::os::fd::RawFd {
    match socket.get_ref() {
        MaybeTlsStream::Plain(stream) => stream.as_raw_fd(),
        MaybeTlsStream::Rustls(stream) => stream.sock.as_raw_fd(),
        // No other kind of TLS is built in.
        _ => -1,
    }
}

/// Whether a message is only kept until the socket has room for it.
fn is_queued(error: &Error) -> bool {
    matches!(error, Error::Io(error) if is_pending(error))
}

fn is_pending(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The pause before the next try: it doubles with each failure, and a random part keeps the clients of a server that
/// comes back from all arriving at once. `random` is from 0 to 1.
fn pause(failures: u32, random: f64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + random / 2.0)
}

/// The pause after a loss. To what the server ends again and again it is no use to come back soon.
fn pause_after(loss: Loss, failures: u32, random: f64) -> Duration {
    match loss {
        Loss::Servers if failures > 1 => AFTER_SERVERS_END.mul_f64(random).max(pause(failures, random)),
        Loss::Servers => AFTER_SERVERS_END.mul_f64(random),
        Loss::Ours => pause(failures, random),
    }
}

/// How long a server is left alone that asks for so long a time: no less, and up to half as much more, so that not all
/// come back at the same moment; but there is a limit to what is granted.
fn as_asked(asked: Duration, random: f64) -> Duration {
    let shortest = asked.min(LONGEST_ASKED);
    shortest + (shortest.mul_f64(1.5).min(LONGEST_ASKED) - shortest).mul_f64(random)
}

/// What the server says to a connection whose name has gone to a newer one (protocol 2.6).
const REPLACED: &str = "replaced by new connection";

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The longest pause after the end of a connection that the server has ended; the shortest is none. A server that
/// starts anew is sought by all its clients, and has so long to take them.
const AFTER_SERVERS_END: Duration = Duration::from_secs(5);

/// The longest pause that a server can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// So long after waking, what is read may still be what had come before.
const WAKING: Duration = Duration::from_secs(1);

/// A connection that was held this long counts as good: after its loss, pauses begin anew.
const HELD: Duration = Duration::from_secs(10);

/// How often the server is asked for a sign of life, and how long it may go without one.
const PING_INTERVAL: Duration = Duration::from_secs(25);
const SILENCE: Duration = Duration::from_secs(60);

/// How long each step of dialling may take.
const DIAL_TIME: Duration = Duration::from_secs(10);

/// How long a proxy may take to answer: one such as Tor finds its way only then.
const PROXY_TIME: Duration = Duration::from_secs(60);

/// The longest message that a server may send, and the most that may wait to be sent to it, in bytes.
const MAX_SIGNAL: usize = 256 * 1024;
const MAX_UNSENT: usize = 1024 * 1024;

/// Messages of the server taken at once, before it is the others' turn.
const READS_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tungstenite::protocol::Role;

    use super::*;

    fn signaling(now: Instant) -> Signaling {
        let login = Login {
            server: "ws://127.0.0.1:1".parse().unwrap(),
            username: "alice".to_owned(),
            secret: String::new(),
            access_token: None,
            proxy: None,
        };
        Signaling::new(login, Token(0), now, |_| {})
    }

    fn socket() -> Box<Socket> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Box::new(WebSocket::from_raw_socket(MaybeTlsStream::Plain(stream), Role::Client, None))
    }

    #[test]
    fn pauses_grow_to_a_limit_and_are_spread() {
        let milliseconds = |failures, random| pause(failures, random).as_millis();
        assert_eq!((milliseconds(1, 0.0), milliseconds(1, 1.0)), (250, 500));
        assert_eq!((milliseconds(3, 0.0), milliseconds(3, 1.0)), (1000, 2000));
        assert_eq!((milliseconds(u32::MAX, 0.0), milliseconds(u32::MAX, 1.0)), (15_000, 30_000));
    }

    #[test]
    fn a_server_that_ends_each_connection_is_sought_less_and_less() {
        let milliseconds = |failures, random| pause_after(Loss::Servers, failures, random).as_millis();
        assert_eq!((milliseconds(1, 0.0), milliseconds(1, 1.0)), (0, 5000));
        assert_eq!((milliseconds(2, 0.0), milliseconds(2, 1.0)), (500, 5000));
        assert_eq!((milliseconds(5, 0.0), milliseconds(5, 1.0)), (4000, 8000));
        assert_eq!((milliseconds(9, 0.0), milliseconds(9, 1.0)), (15_000, 30_000));
    }

    #[test]
    fn what_is_lost_while_the_program_slept_is_sought_at_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(Loss::Servers.seen(at(9), None), Loss::Servers);
        assert_eq!(Loss::Servers.seen(at(9), Some(at(10))), Loss::Ours);
        assert_eq!(Loss::Servers.seen(at(10), Some(at(10))), Loss::Ours, "it had come before");
        assert_eq!(Loss::Servers.seen(at(15), Some(at(10))), Loss::Servers);
        assert_eq!(Loss::Ours.seen(at(15), Some(at(10))), Loss::Ours);
        let mut signaling = signaling(start);
        let registry = mio::Poll::new().unwrap();
        signaling.state = State::Online { socket: socket(), since: start, heard: at(20), ping: at(25) };
        signaling.wake(at(21));
        let lost = signaling.lose("ended".to_owned(), Loss::Servers, at(21), registry.registry());
        let [Event::Offline { retry_in: Some(pause), .. }] = &lost[..] else { panic!("{lost:?}") };
        assert!((250..=500).contains(&pause.as_millis()), "{pause:?}");
    }

    #[test]
    fn a_connection_that_was_held_for_long_makes_pauses_begin_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut signaling = signaling(start);
        let registry = mio::Poll::new().unwrap();
        let mut lose = |since, now| {
            signaling.state = State::Online { socket: socket(), since, heard: now, ping: now };
            signaling.lose("ended".to_owned(), Loss::Servers, now, registry.registry());
            match signaling.state {
                State::Waiting(Some(until)) => until - now,
                _ => panic!("it is sought"),
            }
        };
        let pauses: Vec<_> = (0..9).map(|second| lose(at(second), at(second))).collect();
        assert!(pauses[0] <= AFTER_SERVERS_END);
        assert!(pauses[8] >= LONGEST_PAUSE / 2, "{pauses:?}");
        assert!(lose(at(10), at(21)) <= AFTER_SERVERS_END);
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it() {
        let asked = |seconds, random| as_asked(Duration::from_secs(seconds), random).as_secs();
        assert_eq!((asked(20, 0.0), asked(20, 1.0)), (20, 30));
        assert_eq!((asked(50, 0.0), asked(50, 1.0)), (50, 60));
        assert_eq!((asked(7200, 0.0), asked(7200, 1.0)), (60, 60));
        let now = Instant::now();
        let mut signaling = signaling(now);
        let registry = mio::Poll::new().unwrap();
        let full = NotDialled { reason: "full".to_owned(), retry_after: Some(Duration::from_secs(20)) };
        let lost = signaling.dialled(Err(full), now, registry.registry());
        let [Event::Offline { retry_in: Some(pause), .. }] = &lost[..] else { panic!("{lost:?}") };
        assert!((20..=30).contains(&pause.as_secs()), "{pause:?}");
    }

    #[test]
    fn an_end_is_the_servers_or_our_own_networks() {
        let io = |kind: ErrorKind| Loss::of(&Error::Io(kind.into()));
        for kind in [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof, ErrorKind::BrokenPipe] {
            assert_eq!(io(kind), Loss::Servers, "{kind:?}");
        }
        for kind in
            [ErrorKind::TimedOut, ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable, ErrorKind::NetworkDown]
        {
            assert_eq!(io(kind), Loss::Ours, "{kind:?}");
        }
        assert_eq!(Loss::of(&Error::ConnectionClosed), Loss::Servers);
        let reset = tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        assert_eq!(Loss::of(&Error::Protocol(reset)), Loss::Servers);
    }
}
