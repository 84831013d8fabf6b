//! What the `webrtc` crate leaves to be done where a TURN server relays. It only logs why one refuses; what it sends by
//! one stays in a queue until its driver goes round once more; and when it closes, it gives the relay up before the
//! last message has gone through, so that the other side would never learn of it. All of this can be helped from the
//! sockets beneath it.

mod framing;
mod stale;
mod stream;
pub mod tunnel;

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rtc::stun::error_code::ErrorCodeAttribute;
use rtc::stun::message::{Getter, Message};
use tokio::sync::Notify;
use tokio::time::timeout;
use webrtc::peer_connection::PeerConnection;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::flight::relayed;
use super::layer::Layer;
use crate::lock::lock;
use crate::peer::ice::{IceServer, NoRelayCause};
use stale::TurnRequests;

/// What is known of the relay of one connection, and what is to be done about it.
#[derive(Debug, Clone, Default)]
pub struct Relay(Arc<Relaying>);

#[derive(Debug, Default)]
struct Relaying {
    /// The last trouble with a TURN server.
    trouble: Mutex<Option<NoRelayCause>>,
    /// A TURN server has granted a relay.
    is_granted: AtomicBool,
    /// The connection goes through it.
    is_used: AtomicBool,
    /// How often WebRTC's driver has gone round with nothing to do but to empty its queue.
    rounds: AtomicU8,
    /// It is being closed: from now on WebRTC's driver may really sleep.
    is_closing: AtomicBool,
    /// What is sent through the relay waits.
    is_held: AtomicBool,
    waiting: Mutex<Option<Waker>>,
    waits: Notify,
    /// The users at TURN servers that the connection is one of.
    servers: Arc<[IceServer]>,
    /// What was sent last to the other side went through a relay.
    is_through: AtomicBool,
    breaks: Notify,
}

impl Relay {
    /// The relay of a connection that may use these servers.
    pub fn new(servers: &[IceServer]) -> Self {
        let servers = servers.iter().filter(|server| server.is_turn()).cloned().collect();
        Self(Arc::new(Relaying { servers, ..Relaying::default() }))
    }

    /// Learns of trouble with a TURN server. A refusal, such as of a wrong secret, says more than whatever comes
    /// after it.
    pub fn set_trouble(&self, cause: NoRelayCause) {
        let mut trouble = lock(&self.0.trouble);
        if !matches!(*trouble, Some(NoRelayCause::Refused(_))) || matches!(cause, NoRelayCause::Refused(_)) {
            *trouble = Some(cause);
        }
    }

    /// What the trouble was. A server of which nothing was heard does not answer.
    pub fn trouble(&self) -> NoRelayCause {
        lock(&self.0.trouble).unwrap_or(NoRelayCause::NoAnswer)
    }

    /// Learns that a TURN server has granted a relay.
    pub fn set_granted(&self) {
        self.0.is_granted.store(true, Ordering::Relaxed);
    }

    /// Whether a TURN server has granted a relay.
    pub fn is_granted(&self) -> bool {
        self.0.is_granted.load(Ordering::Relaxed)
    }

    /// Learns that the stream to the TURN server has ended.
    pub fn set_broken(&self) {
        if self.0.is_through.load(Ordering::Relaxed) {
            self.0.breaks.notify_one();
        }
    }

    /// Waits until the stream ends that a connection goes through. ICE would wait for what cannot come any more.
    pub async fn broken(&self) {
        self.0.breaks.notified().await;
    }

    /// What WebRTC's driver is to do instead of going to sleep: go round again, at once, until there can be nothing in
    /// the queue.
    pub fn before_sleep(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        if !self.0.is_used.load(Ordering::Relaxed) || self.0.is_closing.load(Ordering::Relaxed) {
            return None;
        }
        // Where something else has woken it in the meantime, this begins anew.
        let rounds = self.0.rounds.swap(0, Ordering::Relaxed);
        let state = self.0.clone();
        if rounds >= EMPTYING_ROUNDS {
            return None;
        }
        Some(Box::pin(async move { state.rounds.store(rounds + 1, Ordering::Relaxed) }))
    }

    /// Closes a connection. Where it goes through the relay, WebRTC's driver is caught while it empties its queue: so
    /// it sends the last message, which tells the other side, before it learns of the end and gives the relay up.
    pub async fn close(&self, connection: &Arc<dyn PeerConnection>) {
        if !self.0.is_used.load(Ordering::Relaxed) {
            let _ = connection.close().await;
            return;
        }
        self.0.is_held.store(true, Ordering::Relaxed);
        // Something has to be sent for that. Nobody takes this channel any more.
        let _ = connection.create_data_channel("", None).await;
        let _ = timeout(CATCH_TIME, self.0.waits.notified()).await;
        // The crate allows its driver a time to end in, which is a sleep, too.
        self.0.is_closing.store(true, Ordering::Relaxed);
        let go_on = async {
            self.0.is_held.store(false, Ordering::Relaxed);
            if let Some(waker) = lock(&self.0.waiting).take() {
                waker.wake();
            }
        };
        let _ = tokio::join!(biased; connection.close(), go_on);
    }
}

/// A socket on which TURN servers are overheard, and relayed messages can be held.
pub struct Overheard {
    below: Arc<dyn AsyncUdpSocket>,
    relay: Relay,
    /// What TURN servers were asked for on it.
    requests: Mutex<TurnRequests>,
}

impl Overheard {
    /// Listens on this socket.
    pub fn new(below: Arc<dyn AsyncUdpSocket>, relay: Relay) -> Self {
        let requests = Mutex::new(TurnRequests::new(relay.0.servers.clone()));
        Self { below, relay, requests }
    }
}

impl Layer for Overheard {
    fn below(&self) -> &dyn AsyncUdpSocket {
        &*self.below
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let state = &self.relay.0;
        let content = relayed(transmit.contents);
        if is_dtls(content.unwrap_or(transmit.contents)) {
            state.is_through.store(content.is_some(), Ordering::Relaxed);
        }
        if is_relayed(transmit.contents) {
            state.is_used.store(true, Ordering::Relaxed);
            if state.is_held.load(Ordering::Relaxed) {
                *lock(&state.waiting) = Some(cx.waker().clone());
                state.waits.notify_one();
                return Poll::Pending;
            }
        }
        match lock(&self.requests).sent(transmit.destination, transmit.contents) {
            Some(renewed) => {
                let sent = self.below.poll_send(cx, &Transmit { contents: &renewed, ..transmit.clone() });
                sent.map_ok(|_| transmit.contents.len())
            }
            None => self.below.poll_send(cx, transmit),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let count = ready!(self.below.poll_recv(cx, buffers, meta))?;
            // The socket beneath hands out one at a time.
            let (Some(buffer), Some(meta)) = (buffers.first(), meta.first()) else { return Poll::Ready(Ok(count)) };
            let datagram = buffer.get(..meta.len).unwrap_or_default();
            let Some(renewed) = lock(&self.requests).received(meta.addr, datagram) else {
                if let Some(code) = refusal(datagram) {
                    self.relay.set_trouble(NoRelayCause::Refused(code));
                }
                return Poll::Ready(Ok(count));
            };
            let transmit =
                Transmit { destination: meta.addr, ecn: None, contents: &renewed, segment_size: None, src_ip: None };
            // Where there is no room now, the crate will ask again.
            let _ = self.below.poll_send(cx, &transmit);
        }
    }
}

/// Whether this goes through a relay: ChannelData, by its first byte (RFC 7983, section 7).
fn is_relayed(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(64..=79))
}

/// Whether this is DTLS, by its first byte.
fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// The error code, if this is the answer to a request for a relay that is not granted. The first one only asks for
/// credentials, with 401; it is followed by another answer.
fn refusal(datagram: &[u8]) -> Option<u16> {
    if !datagram.starts_with(&ALLOCATE_ERROR) {
        return None;
    }
    let mut message = Message::new();
    message.raw = datagram.to_vec();
    message.decode().ok()?;
    let mut code = ErrorCodeAttribute::default();
    code.get_from(&message).ok()?;
    Some(code.code.0)
}

/// The message type of an error response to Allocate (RFC 8489, section 5; RFC 8656, section 17).
const ALLOCATE_ERROR: [u8; 2] = [0x01, 0x13];

/// Turns that empty the queue. The timers that are due meanwhile may fill it once more.
const EMPTYING_ROUNDS: u8 = 2;

/// How long WebRTC's driver may take until it is caught.
const CATCH_TIME: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_before_whatever_comes_after_it() {
        let relay = Relay::default();
        let mut told = |cause| {
            relay.set_trouble(cause);
            relay.trouble()
        };
        let causes =
            [NoRelayCause::Silent, NoRelayCause::Refused(401), NoRelayCause::HungUp, NoRelayCause::Refused(508)];
        let expected =
            [NoRelayCause::Silent, NoRelayCause::Refused(401), NoRelayCause::Refused(401), NoRelayCause::Refused(508)];
        assert_eq!(causes.map(&mut told), expected);
    }

    #[test]
    fn a_refusal_is_known_by_its_code() {
        let error = |kind: u8, code: &[u8]| {
            let mut message = vec![1, kind, 0, 8, 0x21, 0x12, 0xa4, 0x42];
            message.extend([7; 12]);
            message.extend([0, 9, 0, 4]);
            message.extend(code);
            message
        };
        assert_eq!(refusal(&error(0x13, &[0, 0, 4, 1])), Some(401));
        assert_eq!(refusal(&error(0x13, &[0, 0, 5, 8])), Some(508));
        assert_eq!(refusal(&error(0x11, &[0, 0, 4, 1])), None, "that is about a binding");
        let whole = error(0x13, &[0, 0, 4, 1]);
        for length in 0..whole.len() {
            assert_eq!(refusal(&whole[..length]), None);
        }
    }
}
