//! A peer below the data channel: it makes a real connection, by a real call, and from then on writes SCTP packets by hand, each in a
//! DTLS record that opens on the other side.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rtc::crypto::providers::{RingCrypto, RingProvider};
use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CryptoAlgorithm, CryptoError, HashAlgorithm,
    HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey, RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme,
    SigningKey, StreamCipher, StreamCipherAlgorithm,
};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, TokioRuntime,
    Transmit,
};

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
        Arc::new(Provider { ring: RingProvider::new(), crypto: Crypto { ring: RingCrypto, attacker: self.clone() } })
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

struct Provider {
    ring: RingProvider,
    crypto: Crypto,
}

impl RTCCryptoProvider for Provider {
    fn name(&self) -> &'static str {
        "ring, watched"
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        &self.crypto
    }

    fn random(&self) -> &dyn RTCRandom {
        self.ring.random()
    }
}

struct Crypto {
    ring: RingCrypto,
    attacker: Attacker,
}

struct Aead {
    inner: Box<dyn AeadCipher>,
    attacker: Attacker,
}

impl AeadCipher for Aead {
    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn seal_in_place(
        &mut self,
        nonce: &[u8],
        additional: &[u8],
        content: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.attacker.0.lock().unwrap().look_at(nonce, additional, content);
        self.inner.seal_in_place(nonce, additional, content, tag)
    }

    fn open_in_place(
        &mut self,
        nonce: &[u8],
        additional: &[u8],
        content: &mut [u8],
        tag: &[u8],
    ) -> Result<(), CryptoError> {
        self.inner.open_in_place(nonce, additional, content, tag)
    }
}

impl RTCCrypto for Crypto {
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.ring.supports(algorithm)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        // The first is the one that is written with.
        self.attacker.0.lock().unwrap().key.get_or_insert(key.to_vec());
        Ok(Box::new(Aead { inner: self.ring.new_aead(algorithm, key)?, attacker: self.attacker.clone() }))
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.ring.hash(algorithm, data)
    }

    fn block_encrypt(&self, algorithm: BlockCipherAlgorithm, key: &[u8], block: &mut [u8]) -> Result<(), CryptoError> {
        self.ring.block_encrypt(algorithm, key, block)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        self.ring.new_hmac(algorithm, key)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.ring.new_stream_cipher(algorithm, key)
    }

    fn start_key_exchange(&self, algorithm: KeyExchangeAlgorithm) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.ring.start_key_exchange(algorithm)
    }

    fn generate_signing_key(&self, scheme: SignatureScheme) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.ring.generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.ring.import_signing_key(scheme, pkcs8_der)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        public_key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.ring.verify_signature(scheme, public_key, message, signature)
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
        Ok(Arc::new(Socket { inner: self.inner.wrap_udp_socket(socket)?, attacker: self.attacker.clone() }))
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

struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    attacker: Attacker,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        // DTLS goes where the connection goes (RFC 7983, section 7).
        if matches!(transmit.contents.first(), Some(20..=63)) {
            self.attacker.0.lock().unwrap().victim = Some(transmit.destination);
        }
        self.inner.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, buffers, meta)
    }
}
