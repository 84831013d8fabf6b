//! A mutex that outlives a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a mutex holds. Where a thread has panicked while it held it, the others go on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
