//! Cryptography for WebRTC that shows the [`Guard`] what comes and goes. DTLS opens each record by an AEAD of ours around ring's, and
//! drops a record that does not open. So what the guard refuses does not open, and SCTP never sees it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use log::debug;
use rtc::crypto::providers::{RingCrypto, RingProvider};
use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CryptoAlgorithm, CryptoError, HashAlgorithm,
    HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey, RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme,
    SigningKey, StreamCipher, StreamCipherAlgorithm,
};
use rtc::dtls::cipher_suite::CipherSuiteId;

use super::lock;
use crate::peer::guard::{Guard, Handshake, Origin, Sources};

/// What is said once when a connection is to end.
type OnEnd = Box<dyn FnOnce(&'static str) + Send>;

/// The guard of one connection, and what it hears of.
pub struct Watch {
    guard: Mutex<Guard>,
    handshake: Mutex<Handshake>,
    sources: Mutex<Sources>,
    /// A record of the other side was opened.
    is_open: AtomicBool,
    /// Messages of the other side that have been taken.
    taken: AtomicU64,
    /// Records of the handshake that came encrypted.
    handshakes: AtomicU64,
    on_end: Mutex<Option<OnEnd>>,
}

impl Watch {
    /// Watches over a connection, and says why it has to end, if it has to.
    pub fn new(on_end: impl FnOnce(&'static str) + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            guard: Mutex::default(),
            handshake: Mutex::default(),
            sources: Mutex::default(),
            is_open: AtomicBool::default(),
            taken: AtomicU64::default(),
            handshakes: AtomicU64::default(),
            on_end: Mutex::new(Some(Box::new(on_end))),
        })
    }

    /// Takes note that a message of the other side was taken.
    pub fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of a datagram that is sent.
    pub fn sent(&self, to: SocketAddr, datagram: &[u8]) {
        lock(&self.sources).sent(to, datagram);
    }

    /// Who has sent a datagram that came from this address, if it may be passed on.
    pub fn admits(&self, from: SocketAddr, datagram: &[u8]) -> Option<Origin> {
        let origin = lock(&self.sources).origin(from, datagram);
        let is_admitted =
            origin != Origin::Stranger && lock(&self.handshake).admits(datagram, self.is_open.load(Ordering::Relaxed));
        is_admitted.then_some(origin)
    }

    fn opens(&self, additional: &[u8], content: &[u8]) -> bool {
        self.is_open.store(true, Ordering::Relaxed);
        match additional.get(RECORD_TYPE) {
            Some(&APPLICATION_DATA) => self.receives(content),
            Some(&ALERT) => true,
            // The word that ends a handshake, and its repetitions.
            Some(&HANDSHAKE) if content.len() <= MAX_HANDSHAKE => {
                self.handshakes.fetch_add(1, Ordering::Relaxed) < MAX_HANDSHAKES
            }
            _ => false,
        }
    }

    fn receives(&self, packet: &[u8]) -> bool {
        let mut guard = lock(&self.guard);
        guard.taken(self.taken.load(Ordering::Relaxed));
        let passed = guard.receive(packet);
        let end = guard.end();
        drop(guard);
        if let Some(what) = end
            && let Some(on_end) = lock(&self.on_end).take()
        {
            on_end(what);
        }
        if let Err(refusal) = passed {
            debug!("a packet is not passed on: {refusal:?}");
        }
        passed.is_ok()
    }
}

/// The suites of DTLS that are offered: what comes by another than an AEAD would pass the guard by.
pub const CIPHER_SUITES: [CipherSuiteId; 3] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
];

/// ring's cryptography under the eyes of a guard.
pub struct Provider {
    ring: RingProvider,
    crypto: Crypto,
}

impl Provider {
    /// For the connection of this watch.
    pub fn new(watch: Arc<Watch>) -> Self {
        Self { ring: RingProvider::new(), crypto: Crypto { ring: RingCrypto, watch } }
    }
}

impl RTCCryptoProvider for Provider {
    fn name(&self) -> &'static str {
        "ring, guarded"
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
    watch: Arc<Watch>,
}

impl RTCCrypto for Crypto {
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        !matches!(algorithm, CryptoAlgorithm::Cbc(_)) && self.ring.supports(algorithm)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        let inner = self.ring.new_aead(algorithm, key)?;
        Ok(Box::new(Aead { inner, watch: self.watch.clone() }))
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

struct Aead {
    inner: Box<dyn AeadCipher>,
    watch: Arc<Watch>,
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
        if additional.get(RECORD_TYPE) == Some(&APPLICATION_DATA) {
            lock(&self.watch.guard).send(content);
        }
        self.inner.seal_in_place(nonce, additional, content, tag)
    }

    fn open_in_place(
        &mut self,
        nonce: &[u8],
        additional: &[u8],
        content: &mut [u8],
        tag: &[u8],
    ) -> Result<(), CryptoError> {
        self.inner.open_in_place(nonce, additional, content, tag)?;
        if self.watch.opens(additional, content) { Ok(()) } else { Err(CryptoError::AuthenticationFailed) }
    }
}

/// Where the type of a record stands in what is authenticated along with it (RFC 5246, section 6.2.3.3).
const RECORD_TYPE: usize = 8;

// The types of records (RFC 5246, section 6.2.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// The longest record of a handshake that may come encrypted, in bytes, and how many of them: WebRTC keeps each. The one that there
/// is has 24 bytes, and is repeated where it is lost.
const MAX_HANDSHAKE: usize = 64;
const MAX_HANDSHAKES: u64 = 64;
