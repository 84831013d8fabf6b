//! Chatting with peers: [`Peer`] is the handle, and behind it one thread runs the loop that carries the pure [`engine`]'s
//! wishes out, between the user, the server ([`signaling`]) and WebRTC (`rtc`). The loop is the engine's only caller.
//!
//! ```no_run
//! use lowkey::peer::{Event, Peer};
//!
//! let (peer, events) = Peer::connect("ws://localhost:8080", "echo")?;
//! for event in events {
//!     match event {
//!         Event::Request { peer: caller } => peer.accept(&caller),
//!         Event::Message { peer: caller, text } => {
//!             peer.send(&caller, &text);
//!         }
//!         _ => {}
//!     }
//! }
//! # Ok::<(), lowkey::peer::Error>(())
//! ```
//!
//! # In an event loop of one's own
//!
//! [`Events`] waits for the next event, in a thread of its own where nothing else is to be done there. A program that has a
//! loop already, such as one with windows, is woken instead, by [`Settings::wake`], and takes what there is with
//! [`Events::try_next`]:
//!
//! ```
//! use std::sync::{Arc, mpsc};
//! use lowkey::peer::{Event, Peer, Settings};
//!
//! // The loop's own queue. Toolkits have one too, and a handle to it that can be given to other threads.
//! let (queue, happenings) = mpsc::channel();
//! let mut settings = Settings::default();
//! settings.wake = Some(Arc::new(move || {
//!     let _ = queue.send("the peer has events");
//! }));
//! let (peer, mut events) = Peer::connect_with("ws://127.0.0.1:1".parse()?, "alice", settings)?;
//!
//! 'happening: for happening in happenings {
//!     while let Ok(event) = events.try_next() {
//!         if matches!(event, Event::Offline { .. }) {
//!             println!("{happening}: nobody listens there");
//!             break 'happening;
//!         }
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `bot/examples/gui_loop.rs` is a whole program of this kind, `bot/examples/greeter.rs` a small bot, and
//! `bot/examples/engine_alone.rs` the engine without any of this, for who brings a network of their own.
//!
//! # Queues
//!
//! What the network brings goes through a bounded mailbox, so a flood stops at the sender; events to the user are
//! bounded too, and while they wait nothing more is taken from WebRTC. The user's own commands are not bounded, which
//! is what keeps a bot that answers each message from locking itself up.

pub mod cipher;
pub mod engine;
pub mod event;
pub mod ice;
pub mod keys;
pub mod login;
mod rtc;
pub mod signaling;
pub mod socks;
pub mod trust;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError, TrySendError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crypto_box::aead::OsRng;
use crypto_box::aead::rand_core::RngCore;
use log::{debug, error};
use mio::{Poll, Token, Waker};

pub use cipher::TextFormat;
use engine::{Engine, Input, Output, Setup};
pub use event::{CloseReason, Event, NotSentReason};
pub use ice::IceServer;
use keys::KeyPair;
use login::Login;
pub use login::{ServerUrl, ServerUrlError};
use rtc::{Command, Outlet, Rtc};
use signaling::{Dialled, Signaling};
pub use socks::ProxyUrl;
use trust::Known;
pub use trust::Trust;

/// A user who is online at a server and chats with others. Clones are cheap and stand for the same user; when the last
/// one is dropped, chats end in order. No call blocks, but for [`shutdown`](Self::shutdown).
#[derive(Clone)]
pub struct Peer {
    handle: Arc<Handle>,
}

/// How a [`Peer`] behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The SOCKS5 proxy to reach the server by; `None` goes there directly. Peers are reached past it: see `is_relay_only`.
    pub proxy: Option<ProxyUrl>,
    /// STUN and TURN servers, which find and give ways through NATs. They come in the place of those of the same kind that the
    /// server offers.
    pub ice_servers: Vec<IceServer>,
    /// Whether the STUN and TURN servers are used that the server offers. They learn who talks to whom by their addresses, and no more.
    pub uses_offered_relays: bool,
    /// Whether to talk through a TURN server and no other way, so that the other side never learns an address of ours.
    pub is_relay_only: bool,
    /// The secret that the name is held with at the server (protocol 2.6): whoever has the same one gets the name back after a
    /// loss, and nobody else does for a minute. The server sees a hash of it; `None` makes a fresh one.
    pub token: Option<String>,
    /// What a private server wants to know.
    pub access_token: Option<String>,
    /// The long-term key pair that this user is known by; `None` makes one that lasts as long as the program.
    pub identity: Option<KeyPair>,
    /// Who was seen before at this server, by name. Whoever is another now is refused.
    pub known: HashMap<String, Known>,
    /// Whether to refuse peers that cannot prove who they are, and such as change their key in mid-chat.
    pub is_strict: bool,
    /// How texts are sent at first to peers that say nothing of themselves.
    pub text_format: TextFormat,
    /// How many requests may wait for an answer at once; more are dropped. A bot that accepts everyone wants more than a
    /// person can look at, since many may call in the same moment.
    pub max_requests: usize,
    /// How long nothing may be heard of the other side of a chat before it counts as lost. Mobile networks want more.
    pub lost_after: Duration,
    /// What wakes a program whose loop waits for other things than the peer's [`Events`]. It is called from the peer's thread each
    /// time there are new ones, and once when they have ended; it must not block. [`Events::try_next`] takes them then.
    pub wake: Option<Wake>,
}

/// A function that wakes a program's loop, from any thread.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

impl fmt::Debug for Settings {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("proxy", &self.proxy)
            .field("ice_servers", &self.ice_servers)
            .field("uses_offered_relays", &self.uses_offered_relays)
            .field("is_relay_only", &self.is_relay_only)
            .field("text_format", &self.text_format)
            .field("max_requests", &self.max_requests)
            .field("lost_after", &self.lost_after)
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy: None,
            ice_servers: Vec::new(),
            uses_offered_relays: true,
            is_relay_only: false,
            token: None,
            access_token: None,
            identity: None,
            known: HashMap::new(),
            is_strict: false,
            text_format: TextFormat::V1,
            max_requests: 3,
            lost_after: Duration::from_secs(15),
            wake: None,
        }
    }
}

/// Why a peer cannot begin. That a server is out of reach is no such error but an [`Event::Offline`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The server's URL is none.
    ServerUrl(ServerUrlError),
    /// The username is empty, longer than 64 bytes, or has control characters.
    Username,
    /// Only a relay may be used, and there is none, nor may the server offer one.
    NoRelay,
    /// The system has no thread or no descriptors to give.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerUrl(error) => error.fmt(f),
            Self::Username => f.write_str("a username has 1 to 64 bytes and no control characters"),
            Self::NoRelay => f.write_str("--relay-only needs a TURN server: name one with --turn"),
            Self::Io(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<ServerUrlError> for Error {
    fn from(error: ServerUrlError) -> Self {
        Self::ServerUrl(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Peer {
    /// Goes online as `username` at `server`, a `ws://` or `wss://` URL, with default settings. What happens from then on
    /// comes as events.
    ///
    /// # Errors
    /// [`Error`]; a server that is out of reach is none.
    pub fn connect(server: &str, username: &str) -> Result<(Self, Events), Error> {
        Self::connect_with(server.parse()?, username, Settings::default())
    }

    /// Goes online as `username` at `server` with these settings.
    ///
    /// # Errors
    /// [`Error`]; a server that is out of reach is none.
    pub fn connect_with(server: ServerUrl, username: &str, settings: Settings) -> Result<(Self, Events), Error> {
        if username.is_empty() || username.len() > 64 || username.chars().any(char::is_control) {
            return Err(Error::Username);
        }
        let has_relay = settings.uses_offered_relays || settings.ice_servers.iter().any(IceServer::is_turn);
        if settings.is_relay_only && !has_relay {
            return Err(Error::NoRelay);
        }
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (mail, mailbox) = mpsc::channel();
        let (outlet, inputs) = Outlet::new(waker.clone());
        let config = rtc::Config {
            ice_servers: settings.ice_servers,
            uses_offered: settings.uses_offered_relays,
            is_relay_only: settings.is_relay_only,
            with_loopback: server.is_loopback(),
            lost_after: settings.lost_after,
            has_lost: Arc::default(),
        };
        let queued = Gauge::default();
        let has_lost = config.has_lost.clone();
        let rtc = Rtc::start(config, outlet, queued.clone())?;
        let (event_sender, event_receiver) = mpsc::sync_channel(EVENTS);
        let is_full = Arc::new(AtomicBool::new(false));
        let post = {
            let (mail, waker) = (mail.clone(), waker.clone());
            move |dialled| {
                let _ = mail.send(Mail::Dialled(dialled));
                let _ = waker.wake();
            }
        };
        let login = Login {
            server,
            username: username.to_owned(),
            secret: settings.token.unwrap_or_else(new_token),
            access_token: settings.access_token,
            proxy: settings.proxy,
        };
        let setup = Setup {
            text_format: settings.text_format,
            max_requests: settings.max_requests,
            identity: settings.identity.unwrap_or_else(KeyPair::generate),
            known: settings.known,
            is_strict: settings.is_strict,
        };
        let peer_loop = Loop {
            poll,
            mailbox,
            inputs,
            engine: Engine::new(username, setup),
            signaling: Signaling::new(login, SERVER, Instant::now(), post),
            rtc,
            queued: queued.clone(),
            is_server_ready: false,
            events: event_sender,
            wake: settings.wake,
            undelivered: VecDeque::new(),
            is_full: is_full.clone(),
            waker: waker.clone(),
        };
        let thread = thread::Builder::new().name("lowkey-peer".to_owned()).spawn(move || peer_loop.run())?;
        let events = Events { receiver: event_receiver, is_full, waker: waker.clone() };
        let handle =
            Handle { mail, waker, queued, sent: AtomicU64::new(0), has_lost, thread: Mutex::new(Some(thread)) };
        Ok((Self { handle: Arc::new(handle) }, events))
    }

    /// Calls `peer`, or accepts its request if it is calling. Comes to an [`Event::Open`] or an [`Event::Closed`].
    pub fn request(&self, peer: &str) {
        self.post(Input::Connect { peer: peer.to_owned() });
    }

    /// Takes the request of `peer`. A chat that is open with it makes room for the new one.
    pub fn accept(&self, peer: &str) {
        self.post(Input::Accept { peer: peer.to_owned() });
    }

    /// Turns the request of `peer` down.
    pub fn decline(&self, peer: &str) {
        self.post(Input::Decline { peer: peer.to_owned() });
    }

    /// Sends `text` in the open chat with `peer`. What cannot be sent comes back as [`Event::NotSent`]; what arrives at a peer of
    /// ours is told of as [`Event::Delivered`]. Returns the number by which both name it, greater with each call.
    pub fn send(&self, peer: &str, text: &str) -> u64 {
        let id = self.handle.sent.fetch_add(1, Ordering::Relaxed) + 1;
        self.handle.queued.add(text.len());
        self.post(Input::Send { peer: peer.to_owned(), id, text: text.to_owned() });
        id
    }

    /// Says who `peer` is from now on: only that identity is taken, in the next call; `None` takes any. A call by a link says
    /// so first.
    pub fn trust(&self, peer: &str, known: Option<Known>) {
        self.post(Input::Trust { peer: peer.to_owned(), known });
    }

    /// Ends the chat with `peer`, or the call, once what was sent has arrived.
    pub fn leave(&self, peer: &str) {
        self.post(Input::Leave { peer: peer.to_owned() });
    }

    /// How many bytes of texts wait to be sent, to all peers together. Who sends more than goes through can look at this
    /// and wait; beyond some megabytes for one peer, texts come back as [`Event::NotSent`].
    pub fn queued_bytes(&self) -> usize {
        self.handle.queued.get()
    }

    /// Ends everything in order and waits for that: until what was sent has been read at the other side, or there is no
    /// hope of that, half a minute at most. The events end too. Whether there was no hope of some of it is what comes back:
    /// true means that as far as can be known nothing was lost.
    pub fn shutdown(&self) -> bool {
        self.handle.post(Mail::Shutdown);
        let thread = self.handle.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        !self.handle.has_lost.load(Ordering::SeqCst)
    }

    fn post(&self, input: Input) {
        self.handle.post(Mail::User(input));
    }
}

/// What happens to a [`Peer`], in order. Ends when the peer has shut down.
pub struct Events {
    receiver: Receiver<Event>,
    is_full: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Events {
    /// The next event, if one comes within `timeout`.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Event> {
        let event = self.receiver.recv_timeout(timeout).ok()?;
        self.taken();
        Some(event)
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if there is none yet; [`TryRecvError::Disconnected`] if there will be none, as the peer has shut
    /// down.
    pub fn try_next(&mut self) -> Result<Event, TryRecvError> {
        let event = self.receiver.try_recv()?;
        self.taken();
        Ok(event)
    }

    fn taken(&self) {
        if self.is_full.swap(false, Ordering::AcqRel) {
            let _ = self.waker.wake();
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let event = self.receiver.recv().ok()?;
        self.taken();
        Some(event)
    }
}

/// What all clones of a [`Peer`] share.
struct Handle {
    mail: Sender<Mail>,
    waker: Arc<Waker>,
    queued: Gauge,
    /// Texts that were sent.
    sent: AtomicU64,
    has_lost: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    fn post(&self, mail: Mail) {
        // A loop that has ended reads no mail, and needs none.
        let _ = self.mail.send(mail);
        let _ = self.waker.wake();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.post(Mail::Shutdown);
    }
}

/// What reaches the loop from other threads, but for WebRTC.
enum Mail {
    User(Input),
    Dialled(Dialled),
    Shutdown,
}

/// The peer's thread.
struct Loop {
    poll: Poll,
    mailbox: Receiver<Mail>,
    inputs: tokio::sync::mpsc::Receiver<Input>,
    engine: Engine,
    signaling: Signaling,
    rtc: Rtc,
    /// Bytes of texts that wait: in the mail or for WebRTC.
    queued: Gauge,
    /// The server's socket may have more to read.
    is_server_ready: bool,
    events: SyncSender<Event>,
    /// What tells the user of them, where that is wanted.
    wake: Option<Wake>,
    /// Events for which the user has no room yet.
    undelivered: VecDeque<Event>,
    /// Set while events wait, so that whoever takes one wakes the loop.
    is_full: Arc<AtomicBool>,
    /// The loop's own clone: a waker that is dropped too early takes its wake-up along.
    waker: Arc<Waker>,
}

impl Loop {
    fn run(mut self) {
        let mut readiness = mio::Events::with_capacity(8);
        loop {
            if let Err(error) = self.poll.poll(&mut readiness, self.timeout())
                && error.kind() != io::ErrorKind::Interrupted
            {
                error!("cannot wait for events: {error}");
                break;
            }
            let now = Instant::now();
            self.is_server_ready |= readiness.iter().any(|event| event.token() == SERVER);
            self.read_server(now);
            if self.read_mail(now) {
                break;
            }
            self.deliver();
            self.read_inputs(now);
            let events = self.signaling.tick(now, self.poll.registry());
            self.hear(events, now);
            self.handle(Input::Tick, now);
            self.deliver();
        }
        self.end();
    }

    /// Whether it is time to end.
    fn read_mail(&mut self, now: Instant) -> bool {
        for _ in 0..INPUTS_PER_TURN {
            let Ok(mail) = self.mailbox.try_recv() else { return false };
            match mail {
                Mail::User(Input::Send { peer, id, text }) => self.send(peer, id, text, now),
                Mail::User(input) => self.handle(input, now),
                Mail::Dialled(dialled) => {
                    let events = self.signaling.dialled(dialled, now, self.poll.registry());
                    self.hear(events, now);
                    self.is_server_ready = true;
                    self.read_server(now);
                }
                Mail::Shutdown => return true,
            }
        }
        // There may be more; it is the others' turn first.
        let _ = self.waker.wake();
        false
    }

    /// Takes what the server says, as long as the user takes what comes of it.
    fn read_server(&mut self, now: Instant) {
        if self.is_server_ready && self.undelivered.len() < UNDELIVERED {
            let (events, is_more) = self.signaling.ready(now, self.poll.registry());
            self.is_server_ready = is_more;
            self.hear(events, now);
        }
    }

    /// Sends a text, unless the other side is too far behind with what was sent before.
    fn send(&mut self, peer: String, id: u64, text: String, now: Instant) {
        self.queued.subtract(text.len());
        if self.engine.connection(&peer).is_some_and(|chat| self.rtc.is_full(chat)) {
            self.undelivered.push_back(Event::NotSent { peer, id, text, reason: NotSentReason::Busy });
        } else {
            self.handle(Input::Send { peer, id, text }, now);
        }
    }

    /// Takes what WebRTC brings, as long as the user takes what comes of it.
    fn read_inputs(&mut self, now: Instant) {
        for _ in 0..INPUTS_PER_TURN {
            if !self.undelivered.is_empty() {
                return;
            }
            let Ok(input) = self.inputs.try_recv() else { return };
            self.handle(input, now);
            self.deliver();
        }
        // There may be more; it is the others' turn first.
        let _ = self.waker.wake();
    }

    fn hear(&mut self, events: Vec<signaling::Event>, now: Instant) {
        for event in events {
            match event {
                signaling::Event::Online => {
                    self.handle(Input::Online, now);
                    self.undelivered.push_back(Event::Online);
                }
                signaling::Event::Text(text) => self.handle(Input::Signal(text), now),
                signaling::Event::Offline { reason, retry_in } => {
                    self.undelivered.push_back(Event::Offline { reason, retry_in });
                    self.handle(Input::Offline, now);
                }
            }
        }
    }

    fn handle(&mut self, input: Input, now: Instant) {
        for output in self.engine.handle(input, now) {
            match output {
                Output::Signal(text) => {
                    let events = self.signaling.send(text, now, self.poll.registry());
                    self.hear(events, now);
                }
                Output::UseServers(servers) => self.rtc.take_offered(servers),
                Output::Offer { id } => self.rtc.begin(id, None),
                Output::Answer { id, sdp } => self.rtc.begin(id, Some(sdp)),
                Output::Finish { id, sdp } => self.rtc.command(id, Command::Finish(sdp)),
                Output::AddCandidate { id, candidate } => self.rtc.command(id, Command::AddCandidate(candidate)),
                Output::Transmit { id, text } => self.rtc.transmit(id, text),
                Output::Close { id, peer_closes } => self.rtc.command(id, Command::Close { peer_closes }),
                Output::Event(event) => self.undelivered.push_back(event),
            }
        }
    }

    /// Hands the user as many events as there is room for.
    fn deliver(&mut self) {
        let mut is_news = false;
        while let Some(event) = self.undelivered.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => is_news = true,
                Err(TrySendError::Full(event)) => {
                    self.undelivered.push_front(event);
                    // Room may have been made just before the flag was seen, so it is tried once more.
                    if self.is_full.swap(true, Ordering::AcqRel) {
                        break;
                    }
                }
                // Nobody listens any more.
                Err(TrySendError::Disconnected(_)) => self.undelivered.clear(),
            }
        }
        if is_news && let Some(wake) = &self.wake {
            wake();
        }
    }

    /// How long poll may sleep. Deadlines are rounded up, or the last fraction of a millisecond would be busy turns.
    fn timeout(&self) -> Option<Duration> {
        if self.is_server_ready && self.undelivered.len() < UNDELIVERED {
            return Some(Duration::ZERO);
        }
        let next = [self.engine.next_deadline(), self.signaling.next_deadline()].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    /// Leaves every chat, and lets WebRTC and the server hear of it.
    fn end(mut self) {
        let now = Instant::now();
        for peer in self.engine.peers() {
            self.handle(Input::Leave { peer }, now);
        }
        self.deliver();
        debug!("{} messages were dropped", self.engine.dropped());
        // The mailbox goes first: a connection that waits for room in it could not end. And the server can give the name
        // to somebody else while the last texts are still on their way.
        drop(self.inputs);
        self.signaling.close();
        drop(self.rtc);
        // Who is woken finds that the events have ended.
        drop(self.events);
        if let Some(wake) = self.wake {
            wake();
        }
    }
}

/// Makes a secret that a name can be held with.
pub fn new_token() -> String {
    let mut bytes = [0; 24];
    OsRng.fill_bytes(&mut bytes);
    data_encoding::BASE64URL_NOPAD.encode(&bytes)
}

/// A number that threads share.
#[derive(Debug, Clone, Default)]
struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    fn add(&self, amount: usize) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    fn subtract(&self, amount: usize) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether anybody else still has it.
    fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

const WAKER: Token = Token(0);
const SERVER: Token = Token(1);

/// Events that may wait for the user. Each may be a text of up to 196 KB.
const EVENTS: usize = 128;

/// Events that may wait for room among those before the server is no longer listened to.
const UNDELIVERED: usize = 256;

/// Inputs from WebRTC, and from the user, that are served in one turn.
const INPUTS_PER_TURN: usize = 256;
