//! Cryptography for WebRTC that an onlooker sees through: all of it is ring's, and DTLS seals and opens each of its
//! records by an AEAD that shows the onlooker what is in it. Who that is, is in `guarded`.

use std::sync::Arc;

use rtc::crypto::providers::{RingCrypto, RingProvider};
use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CryptoAlgorithm, CryptoError, HashAlgorithm,
    HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey, RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme,
    SigningKey, StreamCipher, StreamCipherAlgorithm,
};

/// Who looks on.
pub trait Onlooker: Send + Sync + 'static {
    /// An AEAD is made with this key: first the one that seals, then the one that opens.
    fn sees_key(&self, _key: &[u8]) {}

    /// A record with this content is about to be sealed.
    fn sees_sealed(&self, nonce: &[u8], additional: &[u8], content: &[u8]);

    /// A record was opened and has this content. Returns whether it may be passed on; one that may not counts as
    /// forged, so that DTLS drops it.
    fn passes(&self, _additional: &[u8], _content: &[u8]) -> bool {
        true
    }
}

/// ring's cryptography under the eyes of this onlooker.
pub fn provider(onlooker: Arc<impl Onlooker>) -> Arc<dyn RTCCryptoProvider> {
    Arc::new(Provider { ring: RingProvider::new(), crypto: Crypto { ring: RingCrypto, onlooker } })
}

struct Provider<O> {
    ring: RingProvider,
    crypto: Crypto<O>,
}

impl<O: Onlooker> RTCCryptoProvider for Provider<O> {
    fn name(&self) -> &'static str {
        "ring, looked on"
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        &self.crypto
    }

    fn random(&self) -> &dyn RTCRandom {
        self.ring.random()
    }
}

struct Crypto<O> {
    ring: RingCrypto,
    onlooker: Arc<O>,
}

impl<O: Onlooker> RTCCrypto for Crypto<O> {
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        // What is encrypted without an AEAD would pass the onlooker by.
        !matches!(algorithm, CryptoAlgorithm::Cbc(_)) && self.ring.supports(algorithm)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        let inner = self.ring.new_aead(algorithm, key)?;
        self.onlooker.sees_key(key);
        Ok(Box::new(Aead { inner, onlooker: self.onlooker.clone() }))
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

struct Aead<O> {
    inner: Box<dyn AeadCipher>,
    onlooker: Arc<O>,
}

impl<O: Onlooker> AeadCipher for Aead<O> {
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
        self.onlooker.sees_sealed(nonce, additional, content);
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
        if self.onlooker.passes(additional, content) { Ok(()) } else { Err(CryptoError::AuthenticationFailed) }
    }
}
