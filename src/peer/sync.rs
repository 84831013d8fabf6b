//! What the threads of a peer share: the wait for what another one sends, and a number that several of them count with.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// The next value of a channel, which is waited for so long at most, or for ever.
pub fn next<T>(values: &Receiver<T>, patience: Option<Duration>) -> Result<T, RecvTimeoutError> {
    match patience {
        Some(patience) => values.recv_timeout(patience),
        None => values.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// A number that threads share.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// Makes it greater by so much.
    pub fn add(&self, amount: usize) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Makes it smaller by so much, which was added before.
    pub fn subtract(&self, amount: usize) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// Makes it so much.
    pub fn set(&self, amount: usize) {
        self.0.store(amount, Ordering::Relaxed);
    }

    /// How much it is.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether anybody else still holds it.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}
