//! What a program waits for that a user has named: a file that is a pipe, whose other end says nothing for a while.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::threads;

/// Reads what is at `path` by `read`, and tells what is waited for if that takes its time.
pub fn for_what_comes<T>(path: &Path, tell: impl FnOnce(String) + Send + 'static, read: impl FnOnce() -> T) -> T {
    let is_read = Arc::new(AtomicBool::new(false));
    let (has_come, words) = (is_read.clone(), format!("waiting for what comes from {}", path.display()));
    // Without a thread it is waited for all the same.
    let _ = threads::spawn("waiting", move || {
        thread::sleep(PATIENCE);
        if !has_come.load(Ordering::SeqCst) {
            tell(words);
        }
    });
    let read = read();
    is_read.store(true, Ordering::SeqCst);
    read
}

/// How long is waited for a pipe before a word is said of it.
const PATIENCE: Duration = Duration::from_secs(1);
