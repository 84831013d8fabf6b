//! UDP sockets that take little while nothing is said. The crate keeps a buffer of 96 kB for each socket, so that what
//! the kernel joins finds room, and one more for each connection: half a megabyte for each peer, who mostly says
//! nothing. But all sockets are read on one thread, one after another, so that one such buffer is enough for all of
//! them.

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::layer::Layer;
use super::pace::Pace;
use crate::lock::lock;

/// A socket that hands out one datagram at a time, for which the crate keeps a small buffer.
pub struct Socket {
    below: Arc<dyn AsyncUdpSocket>,
    joined: Mutex<Joined>,
}

/// What came in one piece with the last datagram, and is still to be handed out.
#[derive(Debug, Default)]
struct Joined {
    bytes: Vec<u8>,
    /// How much of it was handed out.
    taken: usize,
    meta: RecvMeta,
}

impl Socket {
    /// Reads this socket.
    pub fn new(below: Arc<dyn AsyncUdpSocket>) -> Self {
        Self { below, joined: Mutex::default() }
    }
}

impl Layer for Socket {
    fn below(&self) -> &dyn AsyncUdpSocket {
        &*self.below
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut()) else { return Poll::Ready(Ok(0)) };
        let mut joined = lock(&self.joined);
        let joined_meta = joined.meta;
        if let Some(datagram) = joined.next() {
            *meta = hand_out(datagram, joined_meta, buffer);
            return Poll::Ready(Ok(1));
        }
        BUFFER.with_borrow_mut(|shared| {
            shared.resize(LARGEST, 0);
            let mut whole = [RecvMeta::default()];
            let count = ready!(self.below.poll_recv(cx, &mut [IoSliceMut::new(shared)], &mut whole))?;
            let [whole] = whole;
            let bytes = shared.get(..whole.len).unwrap_or_default();
            let (first, rest) = bytes.split_at(whole.stride.min(bytes.len()));
            *meta = hand_out(first, whole, buffer);
            *joined = Joined { bytes: rest.to_vec(), taken: 0, meta: whole };
            Poll::Ready(Ok(count))
        })
    }

    /// The kernel may join more of them, but here they come one by one.
    fn max_gro_segments(&self) -> usize {
        1
    }
}

impl Joined {
    /// The next datagram. All are of one length, but for the last, which may be shorter.
    fn next(&mut self) -> Option<&[u8]> {
        let start = self.taken;
        self.taken = self.bytes.len().min(start + self.meta.stride.max(1));
        self.bytes.get(start..self.taken).filter(|datagram| !datagram.is_empty())
    }
}

/// Copies one datagram, as far as there is room, as the kernel does.
fn hand_out(datagram: &[u8], meta: RecvMeta, buffer: &mut [u8]) -> RecvMeta {
    let length = datagram.len().min(buffer.len());
    buffer[..length].copy_from_slice(&datagram[..length]);
    let mut meta = meta;
    meta.len = length;
    meta.stride = length.max(1);
    meta
}

/// The socket that looks up names by multicast, which only a connection that is being opened has use for. It hears
/// whatever programs of the network ask each other, so it would wake each of a hundred silent connections each time.
#[derive(Debug)]
pub struct Multicast {
    address: SocketAddr,
    pace: Arc<Pace>,
    /// `None` once the connection is open and something more was heard.
    inner: Mutex<Option<Arc<dyn AsyncUdpSocket>>>,
}

impl Multicast {
    /// Reads this socket until a connection with this pace is open.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn new(inner: Arc<dyn AsyncUdpSocket>, pace: Arc<Pace>) -> io::Result<Self> {
        Ok(Self { address: inner.local_addr()?, pace, inner: Mutex::new(Some(inner)) })
    }

    fn socket(&self) -> Option<Arc<dyn AsyncUdpSocket>> {
        let mut inner = lock(&self.inner);
        if !self.pace.is_opening() {
            *inner = None;
        }
        inner.clone()
    }
}

impl AsyncUdpSocket for Multicast {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        match self.socket() {
            Some(socket) => socket.poll_send(cx, transmit),
            None => Poll::Ready(Ok(transmit.contents.len())),
        }
    }

    /// Nothing comes from a socket that is closed, and nothing has to wake WebRTC's driver for that.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        match self.socket() {
            Some(socket) => socket.poll_recv(cx, buffers, meta),
            None => Poll::Pending,
        }
    }
}

thread_local! {
    /// What all sockets of this thread receive into. It is as long as it has to be once there is a socket.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// No datagram is longer, nor is what the kernel joins: the length of an IP packet has 16 bits.
const LARGEST: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::layer::over;
    use super::super::prepared::{Prepared, next};
    use super::*;

    /// A socket that has received this.
    fn socket(received: impl IntoIterator<Item = (Vec<u8>, usize)>) -> Arc<dyn AsyncUdpSocket> {
        over(Socket::new(Prepared::new(received)))
    }

    #[test]
    fn datagrams_that_the_kernel_has_joined_are_handed_out_one_by_one() {
        let received = [(b"aabbc".to_vec(), 2), (vec![], 1), (b"ddd".to_vec(), 3), (b"eeff".to_vec(), 2)];
        let socket = socket(received);
        let all: Vec<_> = std::iter::from_fn(|| next(&*socket, 2000)).collect();
        let expected: [(&[u8], u16); 7] =
            [(b"aa", 2), (b"bb", 2), (b"c", 2), (b"", 1), (b"ddd", 3), (b"ee", 2), (b"ff", 2)];
        assert_eq!(all, expected.map(|(bytes, port)| (bytes.to_vec(), port)));
    }

    #[test]
    fn sockets_that_share_the_buffer_keep_their_datagrams_apart() {
        let (one, other) = (socket([(b"abcd".to_vec(), 2)]), socket([(b"efgh".to_vec(), 2)]));
        let texts = [&one, &other, &one, &other].map(|socket| next(&**socket, 2000).unwrap().0);
        assert_eq!(texts, [b"ab", b"ef", b"cd", b"gh"]);
        assert_eq!((next(&*one, 2000), next(&*other, 2000)), (None, None));
    }

    #[test]
    fn as_much_is_received_as_a_datagram_can_hold_and_handed_out_as_there_is_room() {
        let received = [(vec![7; 65_535], 65_535), (b"next".to_vec(), 4)];
        let socket = socket(received);
        assert_eq!(socket.max_gro_segments(), 1);
        assert_eq!(next(&*socket, 2000), Some((vec![7; 2000], 65_535)));
        assert_eq!(next(&*socket, 2000), Some((b"next".to_vec(), 4)));
    }

    #[test]
    fn multicast_is_heard_until_the_connection_is_open() {
        let pace = Arc::new(Pace::opening(Duration::from_secs(15)));
        let script = socket([(b"one".to_vec(), 3), (b"two".to_vec(), 3)]);
        let multicast = Multicast::new(script.clone(), pace.clone()).unwrap();
        assert_eq!(next(&multicast, 2000), Some((b"one".to_vec(), 3)));
        pace.active();
        assert_eq!(next(&multicast, 2000), None);
        assert_eq!(Arc::strong_count(&script), 1, "it is closed");
        assert_eq!(multicast.local_addr().unwrap().port(), 1);
    }
}
