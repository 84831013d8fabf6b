//! Chatting with peers: [`Peer`] is the handle, and behind it one thread runs the loop that carries the pure
//! [`engine`]'s wishes out, between the user, the server ([`signaling`]) and WebRTC (`rtc`). The loop is the engine's
//! only caller.
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
//! [`Events`] waits for the next event, in a thread of its own where nothing else is to be done there. A program that
//! has a loop already, such as one with windows, is woken instead, by [`Settings::wake`], and takes what there is with
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
mod driver;
pub mod engine;
pub mod event;
mod events;
pub mod frame;
pub mod guard;
pub mod ice;
pub mod keys;
pub mod login;
mod rtc;
mod sdp;
mod settings;
pub mod signaling;
pub mod socks;
mod sync;
pub mod texts;
mod tls;
pub mod trust;
mod unreached;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub use cipher::TextFormat;
use driver::{Mail, Shared};
use engine::Input;
pub use engine::Receipt;
pub use event::{CloseReason, Event, NotSentReason};
pub use events::Events;
pub use ice::IceServer;
pub use login::{ServerUrl, ServerUrlError};
pub use settings::{Error, Settings, Wake, new_token};
pub use socks::ProxyUrl;
use sync::lock;
use trust::Known;
pub use trust::Trust;

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
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.post(Mail::Shutdown);
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
    pub fn connect_with(server: ServerUrl, username: &str, settings: Settings) -> Result<(Self, Events), Error> {
        if !crate::protocol::is_username(username) {
            return Err(Error::Username);
        }
        let (driver, events, thread) = driver::start(server, username, settings)?;
        let (sent, thread) = (AtomicU64::new(0), Mutex::new(Some(thread)));
        Ok((Self { handle: Arc::new(Handle { driver, sent, thread }) }, events))
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

    /// Sends `text` in the open chat with `peer`. What cannot be sent comes back as [`Event::NotSent`]; what arrives at
    /// a peer of ours is told of as [`Event::Delivered`]. Returns the number by which both name it, greater with each
    /// call.
    pub fn send(&self, peer: &str, text: &str) -> u64 {
        let id = self.handle.sent.fetch_add(1, Ordering::Relaxed) + 1;
        self.handle.driver.queued.add(text.len());
        self.post(Input::Send { peer: peer.to_owned(), id, text: text.to_owned() });
        id
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
    /// there is no hope of that, half a minute at most for those that acknowledge. The events end too. Whether all was
    /// taken is what comes back; for peers that do not acknowledge, whether nothing was lost as far as can be known.
    pub fn shutdown(&self) -> bool {
        self.end(Mail::Shutdown)
    }

    /// Seeks the server again at once: also where that was given up, since another program has gone online under this
    /// name.
    pub fn go_online(&self) {
        self.handle.driver.post(Mail::GoOnline);
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
        self.end(Mail::Stop)
    }

    fn end(&self, how: Mail) -> bool {
        self.handle.driver.post(how);
        // Held until the end, so that whoever asks beside us waits too.
        let mut thread = lock(&self.handle.thread);
        if let Some(thread) = thread.take() {
            let _ = thread.join();
        }
        !self.handle.driver.has_lost.load(Ordering::SeqCst)
    }

    fn post(&self, input: Input) {
        self.handle.driver.post(Mail::User(input));
    }
}
