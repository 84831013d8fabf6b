//! A UDP socket of the unit tests' own: it receives what a test says, and counts what is sent. Only tests have this.

#![cfg(test)]

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

/// A socket that receives what a test says, and takes whatever is sent.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Bytes, and the length of each datagram in them.
    received: Mutex<VecDeque<(Vec<u8>, usize)>>,
    /// How many datagrams were sent.
    pub sent: AtomicUsize,
}

impl Prepared {
    /// One that has received this: bytes that the kernel has joined, and the length of each datagram in them.
    pub fn new(received: impl IntoIterator<Item = (Vec<u8>, usize)>) -> Arc<Self> {
        Arc::new(Self { received: Mutex::new(received.into_iter().collect()), sent: AtomicUsize::new(0) })
    }

    /// Receives one datagram more.
    pub fn receive(&self, datagram: &[u8]) {
        self.received.lock().unwrap().push_back((datagram.to_vec(), datagram.len()));
    }
}

impl AsyncUdpSocket for Prepared {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 1).into())
    }

    fn poll_send(&self, _: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(transmit.contents.len()))
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Some((bytes, stride)) = self.received.lock().unwrap().pop_front() else { return Poll::Pending };
        buffers[0][..bytes.len()].copy_from_slice(&bytes);
        (meta[0].len, meta[0].stride, meta[0].addr) = (bytes.len(), stride, ([127, 0, 0, 1], stride as u16).into());
        Poll::Ready(Ok(1))
    }

    fn max_gro_segments(&self) -> usize {
        64
    }
}

/// The next datagram and the port that it came from, read into a buffer of so many bytes.
pub fn next(socket: &dyn AsyncUdpSocket, length: usize) -> Option<(Vec<u8>, u16)> {
    let mut buffer = vec![0; length];
    let mut meta = [RecvMeta::default()];
    let mut cx = Context::from_waker(Waker::noop());
    match socket.poll_recv(&mut cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta) {
        Poll::Ready(received) => {
            assert_eq!((received.unwrap(), meta[0].stride), (1, meta[0].len.max(1)), "one at a time");
            Some((buffer[..meta[0].len].to_vec(), meta[0].addr.port()))
        }
        Poll::Pending => None,
    }
}
