//! What goes between the peer's loop and WebRTC: how peer connections are made, what each is told to do, and what comes
//! back as inputs of the engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mio::Waker;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::peer::engine::{Input, PeerConnectionEnd};
use crate::peer::ice::IceServer;
use crate::peer::socks::ProxyUrl;
use crate::peer::sync::Gauge;
use crate::protocol::Candidate;

/// How peer connections are made.
#[derive(Debug, Clone)]
pub struct RtcConfig {
    /// The user's STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
    /// Whether the server's are used, too.
    pub uses_offered: bool,
    /// Whether the other side may learn the address of a relay and no other, and nothing goes any other way.
    pub is_relay_only: bool,
    /// The SOCKS5 proxy by which TURN servers over TCP and TLS are reached.
    pub proxy: Option<ProxyUrl>,
    /// Whether nothing goes past the proxy.
    pub is_behind_proxy: bool,
    /// Whether the peer may be on this very machine.
    pub with_loopback: bool,
    /// How long nothing may be heard of the other side before a peer connection counts as lost.
    pub lost_after: Duration,
    /// The way passes only short datagrams.
    pub is_narrow: bool,
}

/// What a peer connection is to do.
#[derive(Debug)]
pub enum RtcCommand {
    /// Begin.
    Begin(Beginning),
    /// Take the peer's answer.
    Finish(String),
    /// Take a candidate of the peer.
    AddCandidate(Candidate),
    /// Send a text message.
    Transmit(String, Queued),
    /// Open a data channel for files of ours.
    SendFiles(FileThread),
    /// Take the other side's data channel for files, once it opens one.
    TakeFiles(FileThread),
    /// End, once what is to be waited for has come.
    Close(PeerConnectionEnd),
    /// Say that the thread stands still, and let it, until the other end is gone.
    #[cfg(test)]
    Freeze(std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>),
}

/// How a peer connection begins.
#[derive(Debug)]
pub struct Beginning {
    /// The peer's offer, which is answered; `None` makes one of ours.
    pub offer: Option<String>,
    /// Counts the bytes that wait to be sent. As long as the peer connection holds it, that lives.
    pub queue: Gauge,
    /// What the server offers of STUN and TURN.
    pub offered: Vec<IceServer>,
    /// The way passes only short datagrams.
    pub is_narrow: bool,
}

/// How a thread of `peer/disk` is connected to a data channel for files.
pub struct FileThread {
    /// Takes a message that has come, and returns whether more of them are wanted.
    pub inbox: Inbox,
    /// What is to be sent.
    pub outbox: Receiver<Vec<u8>>,
    /// How many bytes of it may be on their way, until SCTP of the other side has them.
    pub limit: Gauge,
}

/// Takes a message, and returns whether more of them are wanted.
pub type Inbox = Box<dyn FnMut(Vec<u8>) -> bool + Send>;

/// Bytes that wait to be sent, counted for as long as this lives.
#[derive(Debug)]
pub struct Queued {
    bytes: usize,
    gauges: Vec<Gauge>,
}

impl Queued {
    /// Counts so many bytes by these gauges.
    pub fn new(bytes: usize, gauges: Vec<Gauge>) -> Self {
        gauges.iter().for_each(|gauge| gauge.add(bytes));
        Self { bytes, gauges }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.gauges.iter().for_each(|gauge| gauge.subtract(self.bytes));
    }
}

/// Where inputs of the engine go: a bounded mailbox and the loop to be woken. Whoever is faster than the loop waits,
/// and so in the end does the other side, whose data stays in its own buffers.
#[derive(Clone)]
pub struct InputSender {
    inputs: Sender<Input>,
    waker: Arc<Waker>,
}

impl InputSender {
    /// A sender that wakes `waker`, and its other end.
    pub fn new(waker: Arc<Waker>) -> (Self, Receiver<Input>) {
        let (inputs, receiver) = mpsc::channel(MAILBOX);
        (Self { inputs, waker }, receiver)
    }

    /// Posts an input, and returns whether it had to wait for room.
    pub async fn send(&self, input: Input) -> bool {
        let waits = self.inputs.capacity() == 0;
        // The loop may have ended, and then nobody is interested any more.
        if self.inputs.send(input).await.is_ok() {
            let _ = self.waker.wake();
        }
        waits
    }
}

impl fmt::Debug for FileThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileThread(..)")
    }
}

/// Inputs that may wait for the loop.
const MAILBOX: usize = 32;
