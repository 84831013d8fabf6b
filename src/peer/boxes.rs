//! The boxes of one call between two of Lowkey's own programs, for one use: texts, or signals (protocol 2.2). Each
//! direction has its own key, so what was sent never opens when it comes back; and what was taken once is not taken
//! again. Pure but for the randomness of nonces.

use std::collections::HashSet;
use std::fmt;

use data_encoding::BASE64;

use super::cipher::{Exhausted, MAX_TEXTS, OpenError};
use super::hidden;
use super::primitives::{BOX_EXTRA_BYTES, BoxKey};

/// What is sealed for the other side, and what it has sealed.
#[cfg_attr(test, derive(Clone))]
pub struct Boxes {
    send: BoxKey,
    receive: BoxKey,
    sent: usize,
    /// The first eight bytes of each nonce taken. Nonces are random, so two of them share these by chance once in 2^64,
    /// and a box that is played back always shares them with itself.
    taken: HashSet<u64>,
}

impl Boxes {
    pub(super) fn new(send: BoxKey, receive: BoxKey) -> Self {
        Self { send, receive, sent: 0, taken: HashSet::new() }
    }

    /// Seals bytes: the base64 of nonce and box.
    ///
    /// # Errors
    /// [`Exhausted`] when there were [`MAX_TEXTS`].
    pub fn seal(&mut self, bytes: &[u8]) -> Result<String, Exhausted> {
        if self.sent + self.taken.len() >= MAX_TEXTS {
            return Err(Exhausted);
        }
        self.sent += 1;
        Ok(self.send.seal(bytes))
    }

    /// Opens what the other side has sealed.
    ///
    /// # Errors
    /// [`OpenError`]; nothing has changed then.
    pub fn open(&mut self, sealed: &str) -> Result<Vec<u8>, OpenError> {
        let mut bytes = BASE64.decode(sealed.as_bytes()).map_err(|_| OpenError::Malformed)?;
        let (nonce, sealed) = bytes.split_first_chunk_mut().ok_or(OpenError::Malformed)?;
        let prefix = u64::from_le_bytes(nonce[..8].try_into().expect("a nonce has 24 bytes"));
        if self.taken.contains(&prefix) {
            return Err(OpenError::Replayed);
        }
        if self.sent + self.taken.len() >= MAX_TEXTS {
            return Err(OpenError::Exhausted);
        }
        let (start, length) = (nonce.len(), self.receive.open_in_place(nonce, sealed).ok_or(OpenError::Forged)?.len());
        self.taken.insert(prefix);
        bytes.truncate(start + length);
        bytes.drain(..start);
        Ok(bytes)
    }
}

/// The most bytes that take at most `max_message` bytes once they are sealed.
pub(super) fn longest(max_message: usize) -> usize {
    (max_message / 4 * 3).saturating_sub(BOX_EXTRA_BYTES)
}

impl fmt::Debug for Boxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hidden::write(f, "Boxes", || {
            let mut taken: Vec<&u64> = self.taken.iter().collect();
            taken.sort();
            format!("{:?} {:?} {} {taken:?}", self.send, self.receive, self.sent)
        })
    }
}
