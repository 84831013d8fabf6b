//! Chatting with peers. [`Peer`] is me, the user who is online at a server; in an event, `peer` is the name of the
//! other one.
//!
//! This is a bot that takes every call and gives back what it is told:
//!
//! ```no_run
//! use lowkey::peer::{Event, Peer};
//!
//! let (me, events) = Peer::connect("ws://localhost:8080", "echo")?;
//! for event in events {
//!     match event {
//!         Event::Request { peer, .. } => me.accept(&peer),
//!         Event::Message { peer, text } => {
//!             me.send(&peer, &text);
//!         }
//!         _ => {}
//!     }
//! }
//! # Ok::<(), lowkey::peer::Error>(())
//! ```
//!
//! # With threads
//!
//! No call of [`Peer`] blocks but those that end it, and its clones stand for the same user. So one thread waits for
//! [`Events`], and others talk:
//!
//! ```no_run
//! # use lowkey::peer::{Event, Peer};
//! let (me, events) = Peer::connect("ws://localhost:8080", "clock")?;
//! let speaker = me.clone();
//! std::thread::spawn(move || {
//!     loop {
//!         speaker.send("alice", "tick");
//!         std::thread::sleep(std::time::Duration::from_secs(60));
//!     }
//! });
//! me.call("alice");
//! for event in events {
//!     println!("{event:?}");
//! }
//! # Ok::<(), lowkey::peer::Error>(())
//! ```
//!
//! # In an event loop of one's own
//!
//! A program that has a loop already, such as one with windows, is woken by [`Settings::wake`], and takes what there is
//! with [`Events::try_next`]:
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
//! let (me, mut events) = Peer::connect_with("ws://127.0.0.1:1".parse()?, "alice", settings)?;
//!
//! 'happening: for happening in happenings {
//!     while let Ok(event) = events.try_next() {
//!         if let Event::Offline { reason, .. } = event {
//!             println!("{happening}: {reason}");
//!             break 'happening;
//!         }
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # With tokio
//!
//! The same wakes a task:
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::sync::mpsc::TryRecvError;
//! use lowkey::peer::{Event, Peer, Settings};
//! use tokio::sync::Notify;
//!
//! async fn echo() -> Result<(), Box<dyn std::error::Error>> {
//!     let news = Arc::new(Notify::new());
//!     let mut settings = Settings::default();
//!     let bell = news.clone();
//!     settings.wake = Some(Arc::new(move || bell.notify_one()));
//!     let (me, mut events) = Peer::connect_with("ws://localhost:8080".parse()?, "echo", settings)?;
//!     loop {
//!         match events.try_next() {
//!             Ok(Event::Request { peer, .. }) => me.accept(&peer),
//!             Ok(Event::Message { peer, text }) => drop(me.send(&peer, &text)),
//!             Ok(_) => {}
//!             Err(TryRecvError::Empty) => news.notified().await,
//!             Err(TryRecvError::Disconnected) => return Ok(()),
//!         }
//!     }
//! }
//! ```
//!
//! `bot/examples` has a whole program of each kind, and `engine_alone.rs` there is the [`engine`] without any of this,
//! for those who bring a network of their own.
//!
//! # Queues
//!
//! Behind the handle one thread runs the loop that carries out what the pure engine wishes, between the user, the
//! server and WebRTC. What the network brings goes through a bounded mailbox, so that a flood stops at the sender;
//! events to the user are bounded too, and while they wait nothing more is taken from WebRTC. The user's own commands
//! are not bounded, which is what keeps a bot that answers each message from locking itself up.

pub mod agreement;
pub mod boxes;
pub mod candidate;
pub mod cipher;
mod clock;
pub mod description;
mod dial;
mod disk;
mod driver;
pub mod engine;
mod event;
mod events;
mod file_offer;
pub mod files;
mod folder;
pub mod frame;
pub mod guard;
pub mod hello;
mod hidden;
mod ice;
pub mod keys;
pub mod link;
mod login;
mod planted;
mod primitives;
mod random;
mod reasons;
mod rtc;
mod safety_number;
mod scratch;
mod sdp;
mod settings;
mod signaling;
mod sink;
mod socks;
mod sync;
mod texts;
mod tls;
pub mod trust;
mod unfit;
mod unreached;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::lock::lock;
pub use cipher::TextFormat;
use driver::{DriverMail, Shared};
use engine::Input;
pub use engine::Receipt;
pub use event::{CloseReason, Event, NotSentReason, OfflineReason};
pub use events::Events;
pub use file_offer::FileOffer;
pub use files::note::{Digest, EndReason, FileId, NoFileId, PauseReason};
pub use files::work::ComingFile;
pub use folder::Folder;
pub use ice::{IceServer, NoRelay, NoRelayCause};
pub use keys::{KeyPair, PublicKey};
pub use login::{ServerUrl, ServerUrlError};
use primitives::Secret;
pub use safety_number::SafetyNumber;
pub use settings::{Error, Settings, Wake, new_token};
pub use sink::Sink;
pub use socks::ProxyUrl;
pub use trust::{Known, Trust};
pub use unfit::Unfit;

/// A user who is online at a server and chats with others. Clones are cheap and stand for the same user; when the last
/// one is dropped, chats end in order. No call blocks, but for [`shutdown`](Self::shutdown) and [`stop`](Self::stop).
#[derive(Clone)]
pub struct Peer {
    handle: Arc<Handle>,
}

/// What all clones of a [`Peer`] have in common.
struct Handle {
    driver: Shared,
    /// Texts that were sent.
    sent: AtomicU64,
    /// The server, and what the ids of files are derived from.
    server: String,
    file_ids: Secret,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.post(DriverMail::Shutdown);
    }
}

impl Peer {
    /// Goes online as `username` at `server`, a `ws://` or `wss://` URL, with default settings. What happens from then
    /// on comes as events.
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
    pub fn connect_with(server: ServerUrl, username: &str, mut settings: Settings) -> Result<(Self, Events), Error> {
        if !crate::protocol::is_username(username) {
            return Err(Error::Username);
        }
        let identity = settings.identity.get_or_insert_with(KeyPair::generate);
        let file_ids = Secret::extract(FILE_IDS, &[identity.secret_to_base64().as_bytes()]);
        let name = server.to_string();
        let (driver, events, thread) = driver::start(server, username, settings)?;
        let (sent, thread) = (AtomicU64::new(0), Mutex::new(Some(thread)));
        Ok((Self { handle: Arc::new(Handle { driver, sent, server: name, file_ids, thread }) }, events))
    }

    /// Calls `peer`, or accepts its request if it is calling. Comes to an [`Event::Open`] or an [`Event::Closed`].
    pub fn call(&self, peer: &str) {
        self.post(Input::Call { peer: peer.to_owned() });
    }

    /// Takes the request of `peer`, or the chat with the [old app](Event::OldApp) that it turned out to use. A chat
    /// that is open with it makes room for the new one.
    pub fn accept(&self, peer: &str) {
        self.post(Input::Accept { peer: peer.to_owned() });
    }

    /// Forgets the request of `peer`, which hears nothing of that: it is as if nobody were there.
    pub fn ignore(&self, peer: &str) {
        self.post(Input::Ignore { peer: peer.to_owned() });
    }

    /// Turns the request of `peer` down.
    pub fn decline(&self, peer: &str) {
        self.post(Input::Decline { peer: peer.to_owned() });
    }

    /// Sends `text` in the open chat with `peer`. What cannot be sent comes back as [`Event::NotSent`]; what arrives is
    /// told of as [`Event::Delivered`], except by old apps, which acknowledge nothing. Returns the number by which both
    /// name it, greater with each call.
    pub fn send(&self, peer: &str, text: &str) -> u64 {
        let id = self.handle.sent.fetch_add(1, Ordering::Relaxed) + 1;
        self.handle.driver.queued.add(text.len());
        self.post(Input::Send { peer: peer.to_owned(), id, text: text.to_owned() });
        id
    }

    /// Offers a file in the open chat with `peer`, whose user is asked. Returns the id that all events have for it: the
    /// same for the same file, until it is changed, and what has been offered already is not offered twice. It ends
    /// with
    /// [`Event::FileSent`] or [`Event::FileEnded`].
    pub fn offer_file(&self, peer: &str, offer: FileOffer) -> FileId {
        let file = offer.id(&self.handle.file_ids, &self.handle.server, peer);
        self.handle.driver.post(DriverMail::OfferFile(peer.to_owned(), file, offer));
        file
    }

    /// Takes the file that `peer` offers. It ends with [`Event::FileReceived`] or [`Event::FileEnded`]. What is not
    /// offered any more is not taken.
    pub fn take_file(&self, peer: &str, file: FileId, sink: Sink) {
        self.handle.driver.post(DriverMail::TakeFile(peer.to_owned(), file, sink));
    }

    /// Says no to a file that `peer` offers, for this reason. No event follows.
    pub fn refuse_file(&self, peer: &str, file: FileId, reason: EndReason) {
        self.post(Input::EndFile { peer: peer.to_owned(), file, reason });
    }

    /// Ends a file that was offered or is on its way, whoever sends it, with an [`Event::FileEnded`]. What came of it
    /// is removed.
    pub fn cancel_file(&self, peer: &str, file: FileId) {
        self.post(Input::EndFile { peer: peer.to_owned(), file, reason: EndReason::Cancelled });
    }

    /// Says who `peer` is from now on: only that identity is taken, in the next call; `None` takes any. A call by a
    /// link says so first.
    pub fn trust(&self, peer: &str, known: Option<Known>) {
        self.post(Input::Trust { peer: peer.to_owned(), known });
    }

    /// Ends the chat with `peer`, or the call, once what was sent has arrived. A peer that acknowledges has half a
    /// minute to take it all; the [`Event::Closed`] comes then, and what was not taken comes back before it.
    pub fn leave(&self, peer: &str) {
        self.post(Input::Leave { peer: peer.to_owned() });
    }

    /// How many bytes of texts wait to be sent or to be acknowledged, to all peers together. Who sends more than goes
    /// through can look at this and wait; beyond 8 MiB for one peer, texts come back as [`Event::NotSent`].
    pub fn queued_bytes(&self) -> usize {
        self.handle.driver.queued.get() + self.handle.driver.kept.get()
    }

    /// Ends everything in order and waits for that: until what was sent has been taken by the other side's program, or
    /// there is no hope of that, half a minute at most for those that acknowledge. The events end too. Returns whether
    /// all was taken; for peers that do not acknowledge, whether nothing was lost as far as can be known.
    pub fn shutdown(&self) -> bool {
        self.end(DriverMail::Shutdown)
    }

    /// Seeks the server again at once: also where that was given up, since another program has gone online under this
    /// name.
    pub fn go_online(&self) {
        self.handle.driver.post(DriverMail::GoOnline);
    }

    /// Says that the program has taken a text, and all that came before it in the same chat: for one that has asked for
    /// its [receipt](Events::receipt).
    pub fn taken(&self, receipt: Receipt) {
        self.post(Input::Taken(receipt));
    }

    /// Ends everything, as [`shutdown`](Self::shutdown) does, for a program that cannot keep what comes, since its disk
    /// is full for instance. What it has not taken waits at its senders for the next start under the same name and
    /// identity: to them the chat is interrupted and not left. Events that still come are to be passed over.
    pub fn stop(&self) -> bool {
        self.end(DriverMail::Stop)
    }

    /// Begins what [`shutdown`](Self::shutdown), or [`stop`](Self::stop), does and waits for.
    #[cfg(feature = "chat")]
    pub(crate) fn begin_end(&self, is_stop: bool) {
        self.handle.driver.post(if is_stop { DriverMail::Stop } else { DriverMail::Shutdown });
    }

    /// Whether there is nothing to wait for any more.
    #[cfg(feature = "chat")]
    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.handle.thread).as_ref().is_none_or(|thread| thread.is_finished())
    }

    fn end(&self, how: DriverMail) -> bool {
        self.handle.driver.post(how);
        // Held until the end, so that whoever asks beside us waits too.
        let mut thread = lock(&self.handle.thread);
        if let Some(thread) = thread.take() {
            let _ = thread.join();
        }
        !self.handle.driver.has_lost.load(Ordering::SeqCst)
    }

    fn post(&self, input: Input) {
        self.handle.driver.post(DriverMail::User(input));
    }
}

/// What the ids of files are derived by from an identity, which is used for nothing else in this way.
const FILE_IDS: &[u8] = b"lowkey file ids";
