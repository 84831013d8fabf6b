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

pub mod candidate;
pub mod cipher;
mod clock;
pub mod description;
mod dial;
pub mod engine;
pub mod event;
pub mod frame;
pub mod guard;
pub mod ice;
pub mod keys;
pub mod login;
mod rtc;
mod sdp;
pub mod signaling;
pub mod socks;
pub mod texts;
mod tls;
pub mod trust;
mod unreached;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crypto_box::aead::OsRng;
use crypto_box::aead::rand_core::RngCore;
use log::{debug, error};
use mio::{Poll, Token, Waker};

pub use cipher::TextFormat;
use clock::Clock;
pub use engine::Receipt;
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
    /// The SOCKS5 proxy to reach the server by, and TURN servers over TCP and TLS; `None` goes there directly. Nothing goes past
    /// it and no name is looked up past it, so peers are reached by such a TURN server alone, unless `is_direct` is set.
    pub proxy: Option<ProxyUrl>,
    /// Whether peers, and the STUN and TURN servers in `ice_servers`, are reached past the proxy. What the server offers is not
    /// even then: it could be told the address there that the proxy hides from it.
    pub is_direct: bool,
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
    /// How long the connection of an open chat is sought again once it was lost; zero ends the chat at once. Only peers of ours
    /// can be found again, whose identity is proven.
    pub resume_for: Duration,
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
            .field("is_direct", &self.is_direct)
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
            is_direct: false,
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
            resume_for: Duration::from_secs(24 * 60 * 60),
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
    /// A TURN server over UDP is named beside a proxy, which leads to none.
    PastProxy,
    /// The system has no thread or no descriptors to give.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerUrl(error) => error.fmt(f),
            Self::Username => f.write_str("a username has 1 to 64 bytes and no control characters"),
            Self::NoRelay => f.write_str("--relay-only needs a TURN server: name one with --turn"),
            Self::PastProxy => f.write_str(
                "no proxy leads to a TURN server over UDP; name it with ?transport=tcp behind it or turns: in front, which \
                 are reached by the proxy, or give --direct to go past the proxy",
            ),
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
        if !crate::protocol::is_username(username) {
            return Err(Error::Username);
        }
        let is_behind_proxy = settings.proxy.is_some() && !settings.is_direct;
        let is_relay_only = settings.is_relay_only || is_behind_proxy;
        let has_relay = settings.uses_offered_relays || settings.ice_servers.iter().any(IceServer::is_turn);
        if is_relay_only && !has_relay {
            return Err(Error::NoRelay);
        }
        if is_behind_proxy && settings.ice_servers.iter().any(|server| server.is_turn() && !server.is_stream()) {
            return Err(Error::PastProxy);
        }
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (mail, mailbox) = mpsc::channel();
        let (outlet, inputs) = Outlet::new(waker.clone());
        let config = rtc::Config {
            ice_servers: settings.ice_servers,
            uses_offered: settings.uses_offered_relays,
            is_relay_only,
            proxy: settings.proxy.clone(),
            is_behind_proxy,
            with_loopback: server.is_loopback(),
            is_narrow: false,
            lost_after: settings.lost_after.min(LONGEST),
            has_lost: Arc::default(),
        };
        let with_loopback = config.with_loopback;
        let (queued, kept, taken) = (Gauge::default(), Gauge::default(), Arc::<Taken>::default());
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
            resume_for: settings.resume_for.min(LONGEST),
            with_loopback,
        };
        let peer_loop = Loop {
            poll,
            mailbox,
            inputs,
            engine: Engine::new(username, setup),
            signaling: Some(Signaling::new(login, SERVER, Instant::now(), post)),
            rtc,
            queued: queued.clone(),
            kept: kept.clone(),
            taken: taken.clone(),
            has_lost: has_lost.clone(),
            ends_at: None,
            is_server_ready: false,
            clock: Clock::default(),
            events: event_sender,
            wake: settings.wake,
            undelivered: VecDeque::new(),
            is_full: is_full.clone(),
            waker: waker.clone(),
        };
        let thread = thread::Builder::new().name("lowkey-peer".to_owned()).spawn(move || peer_loop.run())?;
        let events = Events { receiver: event_receiver, taken, is_full, waker: waker.clone() };
        let (sent, thread) = (AtomicU64::new(0), Mutex::new(Some(thread)));
        let handle = Handle { mail, waker, queued, kept, sent, has_lost, thread };
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

    /// Ends the chat with `peer`, or the call, once what was sent has arrived. A peer that acknowledges has half a minute to
    /// take it all; the [`Event::Closed`] comes then, and what was not taken comes back before it.
    pub fn leave(&self, peer: &str) {
        self.post(Input::Leave { peer: peer.to_owned() });
    }

    /// How many bytes of texts wait to be sent or to be acknowledged, to all peers together. Who sends more than goes through
    /// can look at this and wait; beyond 8 MiB for one peer, texts come back as [`Event::NotSent`].
    pub fn queued_bytes(&self) -> usize {
        self.handle.queued.get() + self.handle.kept.get()
    }

    /// Ends everything in order and waits for that: until what was sent has been taken by the other side's program, or there is
    /// no hope of that, half a minute at most for those that acknowledge. The events end too. Whether all was taken is what
    /// comes back; for peers that do not acknowledge, whether nothing was lost as far as can be known.
    pub fn shutdown(&self) -> bool {
        self.end(Mail::Shutdown)
    }

    /// Seeks the server again at once: also where that was given up, since another program has gone online under this name.
    pub fn go_online(&self) {
        self.handle.post(Mail::GoOnline);
    }

    /// Says that the program has taken a text, and all that came before it in the same chat: for one that has asked for its
    /// [receipt](Events::receipt).
    pub fn taken(&self, receipt: Receipt) {
        self.post(Input::Taken(receipt));
    }

    /// Ends everything, as [`shutdown`](Self::shutdown) does, for a program that cannot keep what comes, since its disk is full for
    /// instance. What it has not taken waits at its senders for the next start under the same name and identity: to them the chat is
    /// interrupted and not left. Events that still come are to be passed over.
    pub fn stop(&self) -> bool {
        self.end(Mail::Stop)
    }

    fn end(&self, how: Mail) -> bool {
        self.handle.post(how);
        // Held until the end, so that whoever asks beside us waits too.
        let mut thread = self.handle.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(thread) = thread.take() {
            let _ = thread.join();
        }
        !self.handle.has_lost.load(Ordering::SeqCst)
    }

    fn post(&self, input: Input) {
        self.handle.post(Mail::User(input));
    }
}

/// What happens to a [`Peer`], in order. Ends when the peer has shut down.
///
/// Whoever asks for the next event has dealt with the one before, so a text is acknowledged to its sender only then. The last
/// one before a program breaks off is not. Who stores texts later, or elsewhere, asks for their [receipts](Self::receipt).
pub struct Events {
    receiver: Receiver<Handed>,
    taken: Arc<Taken>,
    is_full: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Events {
    /// The next event, if one comes within `timeout`.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Event> {
        self.come_back();
        let handed = self.receiver.recv_timeout(timeout).ok()?;
        Some(self.give(handed))
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if there is none yet; [`TryRecvError::Disconnected`] if there will be none, as the peer has shut
    /// down.
    pub fn try_next(&mut self) -> Result<Event, TryRecvError> {
        self.come_back();
        let handed = self.receiver.try_recv()?;
        Ok(self.give(handed))
    }

    /// The receipt of the text that was given out last. Once it is asked for, that text counts as taken not when the next event is
    /// asked for, but when [`Peer::taken`] is told so. `None` where the last event was no text, was asked for already, or came from
    /// an old app, which waits for no acknowledgement.
    pub fn receipt(&mut self) -> Option<Receipt> {
        self.taken.lock().last.take()
    }

    /// The event before is dealt with.
    fn come_back(&mut self) {
        if self.taken.add_last() {
            let _ = self.waker.wake();
        }
    }

    fn give(&mut self, handed: Handed) -> Event {
        if self.is_full.swap(false, Ordering::AcqRel) {
            let _ = self.waker.wake();
        }
        self.taken.set_last(handed.receipt);
        handed.event
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.come_back();
        let handed = self.receiver.recv().ok()?;
        Some(self.give(handed))
    }
}

/// An event on its way to the user.
struct Handed {
    event: Event,
    /// Of a text that is acknowledged.
    receipt: Option<Receipt>,
}

/// The texts that the user has taken and the loop does not know of yet: the last of each run of one chat.
#[derive(Debug, Default)]
struct Taken(Mutex<TakenReceipts>);

#[derive(Debug, Default)]
struct TakenReceipts {
    /// Of the event that was given out last.
    last: Option<Receipt>,
    /// Of those before it.
    done: Vec<Receipt>,
}

impl Taken {
    fn lock(&self) -> MutexGuard<'_, TakenReceipts> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn set_last(&self, receipt: Option<Receipt>) {
        self.lock().last = receipt;
    }

    /// The event that was given out last is dealt with; whether the loop has to hear of that.
    fn add_last(&self) -> bool {
        let mut taken = self.lock();
        let Some(receipt) = taken.last.take() else { return false };
        let is_first = taken.done.is_empty();
        match taken.done.last_mut().filter(|last| last.chat == receipt.chat) {
            Some(last) => *last = receipt,
            None => taken.done.push(receipt),
        }
        is_first
    }

    fn drain(&self) -> Vec<Receipt> {
        std::mem::take(&mut self.lock().done)
    }
}

/// What all clones of a [`Peer`] share.
struct Handle {
    mail: Sender<Mail>,
    waker: Arc<Waker>,
    queued: Gauge,
    kept: Gauge,
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
    GoOnline,
    Shutdown,
    Stop,
}

/// How a peer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In order, by its user's wish.
    Wanted,
    /// Its program can take no more.
    Stopped,
}

/// The peer's thread.
struct Loop {
    poll: Poll,
    mailbox: Receiver<Mail>,
    inputs: tokio::sync::mpsc::Receiver<Input>,
    engine: Engine,
    /// `None` once the peer ends.
    signaling: Option<Signaling>,
    rtc: Rtc,
    /// Bytes of texts that wait: in the mail, or for WebRTC where they are not kept.
    queued: Gauge,
    /// Bytes of texts that are kept until they are acknowledged.
    kept: Gauge,
    taken: Arc<Taken>,
    /// Set when something that was sent may not have been read.
    has_lost: Arc<AtomicBool>,
    /// Until when is waited for the end of all chats, once the user wants an end.
    ends_at: Option<Instant>,
    /// The server's socket may have more to read.
    is_server_ready: bool,
    /// It stands still while the program does.
    clock: Clock,
    events: SyncSender<Handed>,
    /// What tells the user of them, where that is wanted.
    wake: Option<Wake>,
    /// Events for which the user has no room yet.
    undelivered: VecDeque<Handed>,
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
            let now = self.clock.now();
            if self.clock.has_slept()
                && let Some(signaling) = &mut self.signaling
            {
                signaling.wake(now);
            }
            self.is_server_ready |= readiness.iter().any(|event| event.token() == SERVER);
            self.read_server(now);
            for receipt in self.taken.drain() {
                self.handle(Input::Taken(receipt), now);
            }
            if let Some(end) = self.read_mail(now) {
                self.leave(end, now);
            }
            self.deliver();
            self.read_inputs(now);
            if let Some(signaling) = &mut self.signaling {
                let events = signaling.tick(now, self.poll.registry());
                self.hear(events, now);
            }
            self.watch_webrtc(now);
            self.handle(Input::Tick, now);
            self.kept.set(self.engine.kept_bytes());
            self.deliver();
            // What came back unsent is told, if somebody is there to hear it.
            if self
                .ends_at
                .is_some_and(|ends_at| ends_at <= now || self.engine.is_idle() && self.undelivered.is_empty())
            {
                break;
            }
        }
        debug!("{} messages were dropped", self.engine.dropped());
        // The mailbox goes first: a connection that waits for room in it could not end.
        drop(self.inputs);
        drop(self.rtc);
        // Who is woken finds that the events have ended.
        drop(self.events);
        if let Some(wake) = self.wake {
            wake();
        }
    }

    /// Serves the mail; the end, if it is time for it.
    fn read_mail(&mut self, now: Instant) -> Option<End> {
        for _ in 0..INPUTS_PER_TURN {
            let mail = self.mailbox.try_recv().ok()?;
            match mail {
                Mail::User(Input::Send { peer, id, text }) => self.send(peer, id, text, now),
                Mail::User(input) => self.handle(input, now),
                Mail::Dialled(dialled) => {
                    let Some(signaling) = &mut self.signaling else { continue };
                    let events = signaling.dialled(dialled, now, self.poll.registry());
                    self.hear(events, now);
                    self.is_server_ready = true;
                    self.read_server(now);
                }
                Mail::GoOnline => {
                    if let Some(signaling) = &mut self.signaling {
                        signaling.seek(now);
                    }
                }
                Mail::Shutdown | Mail::Stop => {
                    // There may be more behind it.
                    let _ = self.waker.wake();
                    return Some(if matches!(mail, Mail::Stop) { End::Stopped } else { End::Wanted });
                }
            }
        }
        // There may be more; it is the others' turn first.
        let _ = self.waker.wake();
        None
    }

    /// Takes what the server says, as long as the user takes what comes of it.
    fn read_server(&mut self, now: Instant) {
        if self.is_server_ready
            && self.undelivered.len() < UNDELIVERED
            && let Some(signaling) = &mut self.signaling
        {
            let (events, is_more) = signaling.ready(now, self.poll.registry());
            self.is_server_ready = is_more;
            self.hear(events, now);
        }
    }

    /// Sends a text, unless the other side is too far behind with what was sent before.
    fn send(&mut self, peer: String, id: u64, text: String, now: Instant) {
        let bytes = text.len();
        if self.engine.unkept_connection(&peer).is_some_and(|chat| self.rtc.is_full(chat)) {
            self.tell(Event::NotSent { peer, id, text, reason: NotSentReason::Busy });
        } else {
            self.handle(Input::Send { peer, id, text }, now);
        }
        // In this order, so that no moment looks as if less was waiting than there is.
        self.kept.set(self.engine.kept_bytes());
        self.queued.subtract(bytes);
    }

    /// Begins anew with WebRTC if it does not answer any more.
    fn watch_webrtc(&mut self, now: Instant) {
        let Some(lost) = self.rtc.watch(now) else { return };
        self.tell(Event::Restarted);
        for id in lost {
            self.handle(Input::Closed { id, reason: CloseReason::ConnectionLost }, now);
        }
    }

    /// Takes what WebRTC brings, as long as the user takes what comes of it. At the end it is only acknowledgements.
    fn read_inputs(&mut self, now: Instant) {
        for _ in 0..INPUTS_PER_TURN {
            if !self.undelivered.is_empty() && self.ends_at.is_none() {
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
                    self.tell(Event::Online);
                }
                signaling::Event::Text(text) => self.handle(Input::Signal(text), now),
                signaling::Event::Offline { reason, retry_in } => {
                    self.tell(Event::Offline { reason, retry_in });
                    self.handle(Input::Offline, now);
                }
            }
        }
    }

    fn handle(&mut self, input: Input, now: Instant) {
        for output in self.engine.handle(input, now) {
            match output {
                Output::Signal(text) => {
                    if let Some(signaling) = &mut self.signaling {
                        let events = signaling.send(text, now, self.poll.registry());
                        self.hear(events, now);
                    }
                }
                Output::UseServers(servers) => self.rtc.take_offered(servers),
                Output::Narrow { id } => self.rtc.set_narrow(id),
                Output::Offer { id } => self.rtc.begin(id, None),
                Output::Answer { id, sdp } => self.rtc.begin(id, Some(sdp)),
                Output::Finish { id, sdp } => self.rtc.command(id, Command::Finish(sdp)),
                Output::AddCandidate { id, candidate } => self.rtc.command(id, Command::AddCandidate(candidate)),
                Output::Transmit { id, text, is_kept } => self.rtc.transmit(id, text, is_kept),
                Output::Close { id, parting } => self.rtc.command(id, Command::Close(parting)),
                Output::Message { peer, text, receipt } => {
                    self.undelivered.push_back(Handed { event: Event::Message { peer, text }, receipt });
                }
                Output::Event(event) => self.tell(event),
            }
        }
    }

    /// Keeps an event for the user.
    fn tell(&mut self, event: Event) {
        if self.ends_at.is_some() && matches!(event, Event::NotSent { .. }) {
            self.has_lost.store(true, Ordering::SeqCst);
        }
        // One that says more than the one before it takes its place.
        if let (Event::Delivered { peer, .. }, Some(Handed { event: last @ Event::Delivered { .. }, .. })) =
            (&event, self.undelivered.back_mut())
            && matches!(&last, Event::Delivered { peer: before, .. } if before == peer)
        {
            *last = event;
            return;
        }
        self.undelivered.push_back(Handed { event, receipt: None });
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
        let engine = self.engine.next_deadline(self.clock.now());
        let signaling = self.signaling.as_ref().and_then(Signaling::next_deadline);
        let next = [engine, signaling, self.ends_at, self.rtc.next_watch()].into_iter().flatten().min()?;
        let mut timeout = next.saturating_duration_since(self.clock.now()) + Duration::from_millis(1);
        // Where somebody is waited for, it is to be seen if the program stands still meanwhile.
        if engine.is_some() {
            timeout = timeout.min(LONGEST_WAIT);
        }
        self.clock.waits(timeout);
        Some(timeout)
    }

    /// Leaves every chat, and the server, which can give the name to somebody else while the last texts are on their way. The
    /// loop goes on until these are acknowledged.
    fn leave(&mut self, end: End, now: Instant) {
        if self.ends_at.is_some() {
            return;
        }
        self.ends_at = Some(now + END_TIME);
        // Whoever ends the peer in order has dealt with what it was given.
        match end {
            End::Wanted => self.taken.add_last(),
            End::Stopped => self.taken.lock().last.take().is_some(),
        };
        for receipt in self.taken.drain() {
            self.handle(Input::Taken(receipt), now);
        }
        if end == End::Wanted {
            self.engine.peers().into_iter().for_each(|peer| self.handle(Input::Leave { peer }, now));
        }
        self.is_server_ready = false;
        if let Some(mut signaling) = self.signaling.take() {
            signaling.close();
        }
        // The others call again, and are to find the next start and not this one.
        if end == End::Stopped {
            self.handle(Input::Stop, now);
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

    fn set(&self, amount: usize) {
        self.0.store(amount, Ordering::Relaxed);
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

/// Durations that are settings are no longer than this: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// How long the loop sleeps at most while it waits for somebody: so much of their time is lost where the program is stopped meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// How long all chats together may take to end: a little longer than each of them may.
const END_TIME: Duration = Duration::from_secs(31);

/// Inputs from WebRTC, and from the user, that are served in one turn.
const INPUTS_PER_TURN: usize = 256;
