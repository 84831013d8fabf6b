//! A socket that sends the last [`Flight`] of a DTLS handshake again for as long as that may have been lost.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::time::Sleep;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::flight::Flight;
use super::layer::Layer;
use crate::lock::lock;

/// A socket that repeats what a handshake may have lost.
pub struct Repeating {
    below: Arc<dyn AsyncUdpSocket>,
    state: Mutex<Repetition>,
    /// The handshake is over, and all that goes on is let through.
    is_over: AtomicBool,
}

#[derive(Default)]
struct Repetition {
    flight: Flight,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whoever reads the socket is woken when there is a new time to wait for.
    reader: Option<Waker>,
}

impl Repeating {
    /// Repeats what is sent on this socket.
    pub fn new(below: Arc<dyn AsyncUdpSocket>) -> Self {
        Self { below, state: Mutex::default(), is_over: AtomicBool::new(false) }
    }

    /// Repeats what is due, and sees to it that the reader is woken for the next time.
    fn poll_timer(&self, cx: &mut Context<'_>) {
        let mut state = lock(&self.state);
        let Repetition { flight, timer, reader } = &mut *state;
        while let Some(due) = flight.due() {
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
            if timer.deadline() != due.into() {
                timer.as_mut().reset(due.into());
            }
            if timer.as_mut().poll(cx).is_pending() {
                *reader = Some(cx.waker().clone());
                return;
            }
            for (destination, datagram) in flight.repeat(Instant::now()) {
                let transmit =
                    Transmit { destination, ecn: None, contents: &datagram, segment_size: None, src_ip: None };
                // Where there is no room now, it is lost once more.
                let _ = self.below.poll_send(cx, &transmit);
            }
        }
        *timer = None;
        *reader = Some(cx.waker().clone());
    }

    fn hear(&self, datagram: &[u8]) {
        let mut state = lock(&self.state);
        state.flight.received(datagram);
        if state.flight.is_over() {
            *state = Repetition::default();
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    fn tell(&self, to: SocketAddr, contents: &[u8], segment_size: Option<usize>) {
        let mut state = lock(&self.state);
        let due = state.flight.due();
        for datagram in contents.chunks(segment_size.unwrap_or(contents.len()).max(1)) {
            state.flight.sent(to, datagram, Instant::now());
        }
        if state.flight.due() != due
            && let Some(reader) = state.reader.take()
        {
            reader.wake();
        }
    }
}

impl Layer for Repeating {
    fn below(&self) -> &dyn AsyncUdpSocket {
        &*self.below
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let sent = self.below.poll_send(cx, transmit);
        if sent.is_ready() && !self.is_over.load(Ordering::Relaxed) {
            self.tell(transmit.destination, transmit.contents, transmit.segment_size);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.is_over.load(Ordering::Relaxed) {
            return self.below.poll_recv(cx, buffers, meta);
        }
        self.poll_timer(cx);
        let received = self.below.poll_recv(cx, buffers, meta);
        if let Poll::Ready(Ok(count)) = received {
            for (buffer, meta) in buffers.iter().zip(&*meta).take(count) {
                self.hear(buffer.get(..meta.len).unwrap_or_default());
            }
        }
        received
    }
}
