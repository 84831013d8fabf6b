//! What of a DTLS handshake comes before WebRTC knows its way. The other side may know its own a moment sooner, and
//! begin; WebRTC drops that, and the other side begins again only after a second. So it is held here until WebRTC has a
//! way.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta};

use super::layer::{Layer, over};
use crate::lock::lock;

/// Whether one connection has found its way, known to all of its sockets.
#[derive(Debug, Clone, Default)]
pub struct Early(Arc<Opening>);

#[derive(Debug, Default)]
struct Opening {
    has_way: AtomicBool,
    /// Who reads each socket where something is held.
    readers: Mutex<HashMap<Option<SocketAddr>, Waker>>,
}

impl Early {
    /// Learns that WebRTC has a way from now on, and has what was held read.
    pub fn release(&self) {
        self.0.has_way.store(true, Ordering::SeqCst);
        lock(&self.0.readers).drain().for_each(|(_, reader)| reader.wake());
    }

    /// Holds what comes too early at this socket.
    pub fn beside(&self, inner: Arc<dyn AsyncUdpSocket>) -> Arc<dyn AsyncUdpSocket> {
        over(Holding { below: inner, early: self.clone(), held: Mutex::default() })
    }

    fn has_way(&self) -> bool {
        self.0.has_way.load(Ordering::SeqCst)
    }
}

struct Holding {
    below: Arc<dyn AsyncUdpSocket>,
    early: Early,
    held: Mutex<Vec<(Vec<u8>, RecvMeta)>>,
}

impl Layer for Holding {
    fn below(&self) -> &dyn AsyncUdpSocket {
        &*self.below
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut held = lock(&self.held);
        loop {
            if self.early.has_way() {
                if held.is_empty() {
                    return self.below.poll_recv(cx, buffers, meta);
                }
                let (datagram, of) = held.remove(0);
                if let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut()) {
                    buffer[..datagram.len()].copy_from_slice(&datagram);
                    *meta = of;
                }
                return Poll::Ready(Ok(1));
            }
            if !held.is_empty() {
                lock(&self.early.0.readers).insert(self.below.local_addr().ok(), cx.waker().clone());
            }
            let count = ready!(self.below.poll_recv(cx, buffers, meta))?;
            let (Some(buffer), Some(meta)) = (buffers.first(), meta.first()) else { return Poll::Ready(Ok(count)) };
            let datagram = buffer.get(..meta.len).unwrap_or_default();
            // The socket below hands out one datagram at a time.
            if count != 1 || self.early.has_way() || datagram.first() != Some(&HANDSHAKE) {
                return Poll::Ready(Ok(count));
            }
            // What is sent again in the meantime says nothing new.
            if held.len() < MAX_HELD && held.iter().all(|(other, _)| other != datagram) {
                held.push((datagram.to_vec(), *meta));
            }
        }
    }
}

/// What a DTLS record of the handshake begins with (RFC 6347, section 4.1).
const HANDSHAKE: u8 = 22;

/// Datagrams that are held at a socket. A DTLS handshake begins with one, or with two where it is offered much.
const MAX_HELD: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::prepared::{Prepared, next};
    use super::*;

    #[test]
    fn a_handshake_that_comes_too_early_is_held_in_its_order_and_all_else_goes_on() {
        let check: &[u8] = &[0, 1];
        let hellos: [&[u8]; 6] = [&[22, 1], &[22, 2], &[22, 3], &[22, 4], &[22, 5], &[22, 6]];
        let received = [hellos[0], check, hellos[1], hellos[0], check, hellos[2], hellos[3], hellos[4]];
        let below = Prepared::new(received.map(|datagram| (datagram.to_vec(), datagram.len())));
        let early = Early::default();
        let socket = early.beside(below.clone());
        let next = || next(&*socket, 100).map(|(datagram, _)| datagram);
        assert_eq!([(); 3].map(|()| next()), [Some(check.to_vec()), Some(check.to_vec()), None]);
        assert_eq!(lock(&early.0.readers).len(), 1, "who reads is woken");
        early.release();
        below.receive(hellos[5]);
        let all: Vec<_> = std::iter::from_fn(next).collect();
        assert_eq!(all, [hellos[0], hellos[1], hellos[2], hellos[3], hellos[5]], "no more than four are held");
    }
}
