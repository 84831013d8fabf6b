//! A peer below the data channel: it makes a real connection, by a real call, and from then on writes SCTP packets by
//! hand, each in a DTLS record that opens on the other side.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rtc::crypto::providers::RingCrypto;
use rtc::crypto::{AeadAlgorithm, RTCCrypto, RTCCryptoProvider};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime, Transmit,
};

use crate::aead::{self, Onlooker};
use crate::layer::{Layer, over};
use crate::sctp::packet;

/// What is known of a connection from looking over WebRTC's shoulder: enough to go on in its place.
#[derive(Debug, Clone, Default)]
pub struct Attacker(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    socket: Option<UdpSocket>,
    victim: Option<SocketAddr>,
    /// The key and the salt that records are written with.
    key: Option<Vec<u8>>,
    salt: [u8; 4],
    epoch: [u8; 2],
    records: u64,
    tag: u32,
    /// The number of the last piece of data, and the stream of the chat with the number of its last message.
    tsn: u32,
    stream: u16,
    ssn: u16,
}

impl Attacker {
    /// Cryptography that is watched.
    pub fn provider(&self) -> Arc<dyn RTCCryptoProvider> {
        aead::provider(Arc::new(self.clone()))
    }

    /// Sockets that are watched.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(Watched { inner: TokioRuntime, attacker: self.clone() })
    }

    /// Sends a packet of these chunks. What WebRTC sends from now on is too old for the other side.
    pub fn send(&self, chunks: &[Vec<u8>]) {
        let mut known = self.0.lock().unwrap();
        let mut content = packet(known.tag, chunks);
        known.records += 1;
        // Far ahead of all numbers that were in use.
        let number = [&known.epoch[..], &((1 << 40) + known.records).to_be_bytes()[2..]].concat();
        let length = |length: usize| (length as u16).to_be_bytes();
        let additional = [&number[..], &[23, 254, 253], &length(content.len())].concat();
        let nonce = [&known.salt[..], &number].concat();
        let mut tag = [0; 16];
        let key = known.key.as_ref().expect("there was a handshake");
        let mut aead = RingCrypto.new_aead(AeadAlgorithm::Aes128Gcm, key).unwrap();
        aead.seal_in_place(&nonce, &additional, &mut content, &mut tag).unwrap();
        let head = [&[23, 254, 253], &number[..], &length(8 + content.len() + 16)].concat();
        let record = [&head, &number, &content, &tag[..]].concat();
        let (socket, victim) = (known.socket.as_ref().unwrap(), known.victim.unwrap());
        // A full buffer loses datagrams as a network does.
        let _ = socket.send_to(&record, victim);
    }

    /// Sends a datagram as it stands.
    pub fn send_raw(&self, datagram: &[u8]) {
        let known = self.0.lock().unwrap();
        let _ = known.socket.as_ref().unwrap().send_to(datagram, known.victim.unwrap());
    }

    /// The number of the next piece of data.
    pub fn tsn(&self) -> u32 {
        self.0.lock().unwrap().tsn.wrapping_add(1)
    }

    /// The stream of the chat, and the number of its next message.
    pub fn stream(&self) -> (u16, u16) {
        let known = self.0.lock().unwrap();
        (known.stream, known.ssn.wrapping_add(1))
    }
}

impl Known {
    /// Takes note of what WebRTC sends.
    fn look_at(&mut self, nonce: &[u8], additional: &[u8], packet: &[u8]) {
        self.salt.copy_from_slice(&nonce[..4]);
        self.epoch.copy_from_slice(&additional[..2]);
        if additional[8] != 23 || packet[12] == 1 {
            return;
        }
        let long = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let short = |at: usize| u16::from_be_bytes(packet[at..at + 2].try_into().unwrap());
        self.tag = long(4);
        if packet[12] == 0 {
            (self.tsn, self.stream, self.ssn) = (long(16), short(20), short(22));
        } else if packet[12] == 2 {
            self.tsn = long(28).wrapping_sub(1);
        }
    }
}

impl Onlooker for Attacker {
    fn sees_key(&self, key: &[u8]) {
        // The first is the one that is written with.
        self.0.lock().unwrap().key.get_or_insert(key.to_vec());
    }

    fn sees_sealed(&self, nonce: &[u8], additional: &[u8], content: &[u8]) {
        self.0.lock().unwrap().look_at(nonce, additional, content);
    }
}

#[derive(Debug)]
struct Watched {
    inner: TokioRuntime,
    attacker: Attacker,
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for Watched {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        self.inner.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.attacker.0.lock().unwrap().socket = Some(socket.try_clone()?);
        let below = self.inner.wrap_udp_socket(socket)?;
        Ok(over(Overheard { below, attacker: self.attacker.clone() }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.inner.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, address: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.inner.connect_tcp(address)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        self.inner.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        self.inner.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.inner.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.inner.block_on(future);
    }

    fn name(&self) -> &'static str {
        "tokio"
    }
}

struct Overheard {
    below: Arc<dyn AsyncUdpSocket>,
    attacker: Attacker,
}

impl Layer for Overheard {
    fn below(&self) -> &dyn AsyncUdpSocket {
        &*self.below
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        // DTLS goes where the connection goes (RFC 7983, section 7).
        if matches!(transmit.contents.first(), Some(20..=63)) {
            self.attacker.0.lock().unwrap().victim = Some(transmit.destination);
        }
        self.below.poll_send(cx, transmit)
    }
}
