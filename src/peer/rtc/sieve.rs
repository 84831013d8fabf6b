//! Sockets through which only such datagrams come as the guard admits: of strangers none but questions of ICE, so that
//! they can neither change nor use up what is kept for the other side; and of the other side, of a DTLS handshake no
//! more than one has.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::guarded::GuardedConnection;
use super::layer::Layer;
use super::pace::Pace;
use crate::peer::guard::DatagramOrigin;

/// A socket that drops what is not admitted, and hands out one datagram at a time.
pub struct Sieve {
    below: Arc<dyn AsyncUdpSocket>,
    guarded: Arc<GuardedConnection>,
    pace: Arc<Pace>,
}

impl Sieve {
    /// Sifts what this socket, which hands out one datagram at a time, receives for this guarded connection and
    /// pace.
    pub fn new(below: Arc<dyn AsyncUdpSocket>, guarded: Arc<GuardedConnection>, pace: Arc<Pace>) -> Self {
        Self { below, guarded, pace }
    }

    /// Whether a datagram may be passed on. What a stranger sends is no sign that the other side lives.
    fn admits(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        let origin = self.guarded.admits(from, datagram);
        if origin == Some(DatagramOrigin::Known) {
            self.pace.hear(datagram);
        }
        origin.is_some()
    }
}

impl Layer for Sieve {
    fn below(&self) -> &dyn AsyncUdpSocket {
        &*self.below
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        // Before it is sent: the answer may be quicker than what is done after it.
        self.guarded.sent(transmit.destination, transmit.contents);
        self.below.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..DROPPED_AT_ONCE {
            let count = ready!(self.below.poll_recv(cx, buffers, meta))?;
            let received = buffers.first().zip(meta.first());
            let datagram = received.and_then(|(buffer, meta)| Some((meta.addr, buffer.get(..meta.len)?)));
            if count != 1 || datagram.is_none_or(|(from, datagram)| self.admits(from, datagram)) {
                return Poll::Ready(Ok(count));
            }
        }
        // It is the others' turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// How many datagrams are dropped in a row before others have their turn.
const DROPPED_AT_ONCE: usize = 64;
