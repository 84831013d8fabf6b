//! A task whose panic ends it alone and is told of. Without that it would vanish, and its chat would look open for
//! ever.

use std::any::Any;
use std::future::{Future, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use log::error;

/// A future that comes to `Err` where the one in it panics.
pub struct Caught(Pin<Box<dyn Future<Output = ()> + Send>>);

/// The future has panicked.
#[derive(Debug, PartialEq, Eq)]
pub struct Panicked;

impl Caught {
    /// Runs this future.
    pub fn new(future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Self {
        Self(future)
    }
}

impl Future for Caught {
    type Output = Result<(), Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Nothing of the future is used any more after a panic, and what it shares with others it holds behind locks.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => {
                error!("a task of WebRTC has panicked: {}", message(&*payload));
                // What is left of it may panic in its turn.
                let rest = std::mem::replace(&mut self.0, Box::pin(ready(())));
                let _ = catch_unwind(AssertUnwindSafe(|| drop(rest)));
                Poll::Ready(Err(Panicked))
            }
        }
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_the_task_alone() {
        let quiet = Caught::new(Box::pin(async { tokio::task::yield_now().await }));
        assert_eq!(quiet.await, Ok(()));
        let loud = Caught::new(Box::pin(async {
            tokio::task::yield_now().await;
            let nothing: &[u8] = &[];
            let _ = nothing[std::hint::black_box(1)];
        }));
        assert_eq!(loud.await, Err(Panicked));
    }
}
