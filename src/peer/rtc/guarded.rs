//! A connection over which the [`Guard`] watches: it is shown what comes and goes, decrypted. What it refuses counts as
//! a record that does not open, which DTLS drops, so that SCTP never sees it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use log::debug;
use rtc::dtls::cipher_suite::CipherSuiteId;

use super::aead::Onlooker;
use crate::lock::lock;
use crate::peer::guard::{DatagramOrigin, DtlsHandshake, Guard, Sources};

/// What is said once when a connection is to end.
type OnEnd = Box<dyn FnOnce(&'static str) + Send>;

/// The guard of one connection, with all that is counted for it.
pub struct GuardedConnection {
    guard: Mutex<Guard>,
    dtls: Mutex<DtlsHandshake>,
    sources: Mutex<Sources>,
    /// A record of the other side was opened.
    is_open: AtomicBool,
    /// Messages of the other side that have been taken.
    taken: AtomicU64,
    /// Records of the DTLS handshake that came encrypted.
    handshakes: AtomicU64,
    on_end: Mutex<Option<OnEnd>>,
}

impl GuardedConnection {
    /// Watches over a connection, and calls `on_end` with the reason if it has to end.
    pub fn new(on_end: impl FnOnce(&'static str) + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            guard: Mutex::default(),
            dtls: Mutex::default(),
            sources: Mutex::default(),
            is_open: AtomicBool::default(),
            taken: AtomicU64::default(),
            handshakes: AtomicU64::default(),
            on_end: Mutex::new(Some(Box::new(on_end))),
        })
    }

    /// Learns that a message of the other side was taken.
    pub fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Learns of a datagram that is sent.
    pub fn sent(&self, to: SocketAddr, datagram: &[u8]) {
        lock(&self.sources).sent(to, datagram);
    }

    /// Tells who has sent a datagram that came from this address; `None` where it may not be passed on.
    pub fn admits(&self, from: SocketAddr, datagram: &[u8]) -> Option<DatagramOrigin> {
        let origin = lock(&self.sources).origin(from, datagram);
        let is_admitted = origin != DatagramOrigin::Stranger
            && lock(&self.dtls).admits(datagram, self.is_open.load(Ordering::Relaxed));
        is_admitted.then_some(origin)
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

impl Onlooker for GuardedConnection {
    fn sees_sealed(&self, _nonce: &[u8], additional: &[u8], content: &[u8]) {
        if additional.get(RECORD_TYPE) == Some(&APPLICATION_DATA) {
            lock(&self.guard).send(content);
        }
    }

    fn passes(&self, additional: &[u8], content: &[u8]) -> bool {
        self.is_open.store(true, Ordering::Relaxed);
        match additional.get(RECORD_TYPE) {
            Some(&APPLICATION_DATA) => self.receives(content),
            Some(&ALERT) => true,
            // What ends a DTLS handshake, and its repetitions.
            Some(&HANDSHAKE) if content.len() <= MAX_HANDSHAKE => {
                self.handshakes.fetch_add(1, Ordering::Relaxed) < MAX_HANDSHAKES
            }
            _ => false,
        }
    }
}

/// The suites of DTLS that are offered: what comes by another than an AEAD would pass the guard by.
pub const CIPHER_SUITES: [CipherSuiteId; 3] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
];

/// Where the type of a record stands in what is authenticated along with it (RFC 5246, section 6.2.3.3).
const RECORD_TYPE: usize = 8;

// The types of records (RFC 5246, section 6.2.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// The longest record of a DTLS handshake that may come encrypted, in bytes, and how many of them: WebRTC keeps each.
/// The one that there is has 24 bytes, and is repeated where it is lost.
const MAX_HANDSHAKE: usize = 64;
const MAX_HANDSHAKES: u64 = 64;
