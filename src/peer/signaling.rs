//! The WebSocket to the server: `ws` and `wss`, non-blocking on the peer's loop, found again with growing pauses when
//! it is lost. Dialling, which may block, is done on a thread of its own.

mod pause;
mod reach;

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Error, Message};

use pause::{Loss, as_asked, pause_after};
pub use reach::Dialled;
use reach::{NotDialled, Reached, SignalingSocket, dial};

use super::event::OfflineReason;
use super::login::Login;
use super::unreached;
use crate::protocol::REPLACED;
use crate::threads;

/// What came of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has taken us online.
    Online,
    /// Another program under our name had to go for this one, which was not online before.
    TookOver,
    /// It sent a text message.
    Text(String),
    /// It is out of reach.
    Offline {
        /// Why it is not reached.
        reason: OfflineReason,
        /// When it is tried again; `None` when it is not.
        retry_in: Option<Duration>,
    },
}

/// The connection to the server, or the search for it.
pub struct Signaling {
    login: Login,
    /// Posts what a dialling thread brings back to the loop.
    post: Arc<dyn Fn(Dialled) + Send + Sync>,
    token: Token,
    phase: Phase,
    /// Failures since the server was last held for long.
    failures: u32,
    /// Whether it was reached at all.
    was_reached: bool,
    /// The last reason that was told, so that it is told once.
    told: Option<OfflineReason>,
    /// When the program has found last that it had stood still.
    woken: Option<Instant>,
}

enum Phase {
    /// Dial at this time; `None` is never.
    Waiting(Option<Instant>),
    Dialling,
    Online {
        socket: Box<SignalingSocket>,
        since: Instant,
        heard: Instant,
        ping: Instant,
    },
}

impl Signaling {
    /// Seeks the server from the next [`tick`](Self::tick) on.
    pub fn new(login: Login, token: Token, now: Instant, post: impl Fn(Dialled) + Send + Sync + 'static) -> Self {
        let phase = Phase::Waiting(Some(now));
        Self { login, post: Arc::new(post), token, phase, failures: 0, was_reached: false, told: None, woken: None }
    }

    /// Dials at the next [`tick`](Self::tick), if the server is not there.
    pub fn seek(&mut self, now: Instant) {
        if let Phase::Waiting(at) = &mut self.phase {
            (*at, self.told) = (Some(now), None);
        }
    }

    /// Learns that the program has stood still until now, as with a lid that was closed. What is found lost then
    /// was lost meanwhile, and of all the server's clients this one alone comes back at this moment.
    pub fn wake(&mut self, now: Instant) {
        self.woken = Some(now);
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting(at) => *at,
            Phase::Dialling => None,
            Phase::Online { heard, ping, .. } => Some((*heard + SILENCE).min(*ping)),
        }
    }

    /// Dials, pings or gives up, whatever is due.
    pub fn tick(&mut self, now: Instant, registry: &Registry) -> Vec<Event> {
        match &mut self.phase {
            Phase::Waiting(Some(at)) if *at <= now => {
                self.phase = Phase::Dialling;
                let (login, post) = (self.login.clone(), self.post.clone());
                let dialling = threads::spawn("dial", move || {
                    post(dial(&login));
                });
                match dialling {
                    Ok(_) => Vec::new(),
                    Err(error) => self.lose(unreached::io(&error), Loss::Ours, now, registry),
                }
            }
            Phase::Online { heard, .. } if *heard + SILENCE <= now => {
                self.lose("the server has fallen silent".to_owned(), Loss::Ours, now, registry)
            }
            Phase::Online { ping, .. } if *ping <= now => {
                *ping = now + PING_INTERVAL;
                self.write(Message::Ping(Vec::new().into()), now, registry)
            }
            _ => Vec::new(),
        }
    }

    /// Takes what a dialling thread has brought back. What came right behind the WebSocket handshake gives no readiness
    /// any more, so [`ready`](Self::ready) is to be called after this.
    pub fn dialled(&mut self, dialled: Dialled, now: Instant, registry: &Registry) -> Vec<Event> {
        let Reached { socket, has_replaced } = match dialled {
            Ok(reached) => reached,
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
        // What it has replaced later is most likely its own connection, of whose loss the server has not heard yet.
        let is_first = !std::mem::replace(&mut self.was_reached, true);
        let took_over = has_replaced && is_first;
        self.phase = Phase::Online { socket, since: now, heard: now, ping: now + PING_INTERVAL };
        [Event::Online].into_iter().chain(took_over.then_some(Event::TookOver)).collect()
    }

    /// Reads and writes what can be, after the socket was said to be ready. There is a limit to how much is read at
    /// once; the second value says that there may be more, of which there will be no other word.
    pub fn ready(&mut self, now: Instant, registry: &Registry) -> (Vec<Event>, bool) {
        let Phase::Online { socket, heard, .. } = &mut self.phase else { return (Vec::new(), false) };
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
                            let reason = unreached::farewell(frame.as_ref());
                            let _ = socket.flush();
                            if frame.is_some_and(|frame| frame.reason == REPLACED) {
                                // Taking the name back would only make the two replace each other for ever.
                                events.extend(self.give_up(registry));
                                return (events, false);
                            }
                            break (reason.into(), Loss::Servers);
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
        if let Phase::Online { socket, .. } = &mut self.phase {
            let _ = socket.close(None);
            let _ = socket.flush();
        }
        self.phase = Phase::Waiting(None);
    }

    fn write(&mut self, message: Message, now: Instant, registry: &Registry) -> Vec<Event> {
        let Phase::Online { socket, .. } = &mut self.phase else { return Vec::new() };
        match socket.send(message) {
            Ok(()) => Vec::new(),
            // It is queued, and goes out as soon as the socket is ready.
            Err(error) if is_queued(&error) => Vec::new(),
            Err(error) => {
                self.lose(unreached::why(&error, self.login.server.is_plain()), Loss::of(&error), now, registry)
            }
        }
    }

    fn lose(&mut self, reason: impl Into<OfflineReason>, loss: Loss, now: Instant, registry: &Registry) -> Vec<Event> {
        self.lose_for(reason.into(), loss, Duration::ZERO, now, registry)
    }

    /// Loses the server, for so long at least.
    fn lose_for(
        &mut self,
        reason: OfflineReason,
        loss: Loss,
        at_least: Duration,
        now: Instant,
        registry: &Registry,
    ) -> Vec<Event> {
        self.failures = match &self.phase {
            Phase::Online { since, .. } if now.saturating_duration_since(*since) >= HELD => 1,
            _ => self.failures.saturating_add(1),
        };
        let loss = match &self.phase {
            Phase::Online { heard, .. } => loss.seen(*heard, self.woken),
            _ => Loss::Ours,
        };
        let pause = pause_after(loss, self.failures, fastrand::f64()).max(at_least);
        self.disconnect(registry);
        self.phase = Phase::Waiting(Some(now + pause));
        debug!("server lost: {reason}; next try in {pause:?}");
        if self.told.as_ref() == Some(&reason) {
            return Vec::new();
        }
        self.told = Some(reason.clone());
        vec![Event::Offline { reason, retry_in: Some(pause) }]
    }

    fn give_up(&mut self, registry: &Registry) -> Option<Event> {
        self.disconnect(registry);
        self.phase = Phase::Waiting(None);
        Some(Event::Offline { reason: OfflineReason::Replaced, retry_in: None })
    }

    fn disconnect(&mut self, registry: &Registry) {
        if let Phase::Online { socket, .. } = &self.phase {
            let _ = registry.deregister(&mut SourceFd(&descriptor(socket)));
        }
    }
}

fn descriptor(socket: &SignalingSocket) -> std::os::fd::RawFd {
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

/// A connection that was held this long counts as good: after its loss, pauses begin anew.
const HELD: Duration = Duration::from_secs(10);

/// How often the server is asked for a sign of life, and how long it may go without one.
const PING_INTERVAL: Duration = Duration::from_secs(25);
const SILENCE: Duration = Duration::from_secs(60);

/// Messages of the server taken at once, before it is the others' turn.
const READS_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use tungstenite::WebSocket;
    use tungstenite::protocol::Role;

    use super::pause::{AFTER_SERVERS_END, LONGEST_PAUSE};
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

    fn socket() -> Box<SignalingSocket> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Box::new(WebSocket::from_raw_socket(MaybeTlsStream::Plain(stream), Role::Client, None))
    }

    #[test]
    fn whose_connection_was_replaced_is_told_at_the_first_time_alone() {
        let (start, poll) = (Instant::now(), mio::Poll::new().unwrap());
        let reached = |has_replaced| Ok(Reached { socket: socket(), has_replaced });
        for (first, told) in [(true, [true, false]), (false, [false, false])] {
            let mut signaling = signaling(start);
            let took_over = [first, true].map(|has_replaced| {
                let events = signaling.dialled(reached(has_replaced), start, poll.registry());
                signaling.lose("ended".to_owned(), Loss::Ours, start, poll.registry());
                events.iter().any(|event| matches!(event, Event::TookOver))
            });
            assert_eq!(took_over, told);
        }
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
        signaling.phase = Phase::Online { socket: socket(), since: start, heard: at(20), ping: at(25) };
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
            signaling.phase = Phase::Online { socket: socket(), since, heard: now, ping: now };
            signaling.lose("ended".to_owned(), Loss::Servers, now, registry.registry());
            match signaling.phase {
                Phase::Waiting(Some(until)) => until - now,
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
        let now = Instant::now();
        let mut signaling = signaling(now);
        let registry = mio::Poll::new().unwrap();
        let full = NotDialled { reason: "full".to_owned().into(), retry_after: Some(Duration::from_secs(20)) };
        let lost = signaling.dialled(Err(full), now, registry.registry());
        let [Event::Offline { retry_in: Some(pause), .. }] = &lost[..] else { panic!("{lost:?}") };
        assert!((20..=30).contains(&pause.as_secs()), "{pause:?}");
    }
}
