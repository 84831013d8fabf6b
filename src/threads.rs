//! Threads, as all our programs start them: where the system gives none, that is an error in our words, and no panic.
//! Where a thread is not really needed, the caller goes on without it.

use std::io;
use std::thread::{Builder, JoinHandle};

use crate::trouble;

/// Starts a thread that the system calls `name`.
///
/// # Errors
/// The system has none to give; for people.
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    start(Builder::new().name(format!("lowkey-{name}")), work)
}

fn start<T: Send + 'static>(thread: Builder, work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    thread.spawn(work).map_err(|error| trouble::ours(error.kind(), NO_THREAD))
}

/// The system says the same of too many and of too little memory (pthread_create(3)).
const NO_THREAD: &str = "too many threads run already for this user or container, or there is no memory for one more; \
                         end some programs, and try again";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_the_system_does_not_give_is_an_error_in_words() {
        assert_eq!(spawn("test", || 7).unwrap().join().unwrap(), 7);
        // A stack for which no address is left.
        let error = start(Builder::new().stack_size(1 << (usize::BITS - 2)), || {}).unwrap_err();
        assert_eq!(trouble::lacking(&error), NO_THREAD);
    }
}
