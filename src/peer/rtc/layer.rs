//! A layer between WebRTC and a UDP socket: it looks at what is sent and received, and may change, hold or drop it.
//! What a layer does not do itself, the socket below it does. The layers are `socket`, `sieve`, `early`, `turn` and
//! `repeat`.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

/// What a layer does. Everything is passed through unless it is overridden.
pub trait Layer: Send + Sync + 'static {
    /// The socket below.
    fn below(&self) -> &dyn AsyncUdpSocket;

    /// Sends a datagram, or several of one length.
    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.below().poll_send(cx, transmit)
    }

    /// Receives datagrams, and returns how many.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.below().poll_recv(cx, buffers, meta)
    }

    /// How many datagrams the kernel may join to one that is received.
    fn max_gro_segments(&self) -> usize {
        self.below().max_gro_segments()
    }
}

/// The socket that WebRTC has above this layer.
pub fn over(layer: impl Layer) -> Arc<dyn AsyncUdpSocket> {
    Arc::new(Layered(layer))
}

struct Layered<L>(L);

impl<L: Layer> fmt::Debug for Layered<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.below().fmt(f)
    }
}

impl<L: Layer> AsyncUdpSocket for Layered<L> {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.below().local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.0.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, buffers, meta)
    }

    fn max_gso_segments(&self) -> usize {
        self.0.below().max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.0.max_gro_segments()
    }
}
