//! Work that waits for the system, such as a look-up, on a thread of its own. Where there is none that is an error;
//! what tokio has for this panics then.

use std::io::{self, ErrorKind};

use tokio::sync::oneshot;

use crate::threads;

/// What comes of `work`. Who no longer waits for it does not end it.
///
/// # Errors
/// The system has no thread to give, or the work has panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, answer) = oneshot::channel();
    threads::spawn("work", move || {
        // Where nobody waits any more, it is of no use.
        let _ = sender.send(work());
    })?;
    answer.await.map_err(|_| ErrorKind::Other.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_of_it_is_given_and_a_panic_ends_nothing_else() {
        assert_eq!(blocking(|| 7).await.unwrap(), 7);
        let nothing: &'static [u8] = &[];
        assert!(blocking(move || nothing[std::hint::black_box(1)]).await.is_err());
    }
}
