//! Why the program does not start, or cannot go on. Pure.

use std::io;

use crate::trouble;

/// Why the program does not start.
pub struct StartError {
    pub code: u8,
    pub reason: String,
}

impl StartError {
    pub fn setting(reason: impl Into<String>) -> Self {
        Self { code: 2, reason: reason.into() }
    }

    /// What was to be told could not be written.
    pub fn unwritable(error: &io::Error) -> Self {
        let kept = "what was not written was not taken, and comes again at the next start";
        Self::other(format!("{}; {kept}", trouble::output(error)))
    }

    /// The system does not give what is needed.
    pub fn lacking(what: &str, error: &io::Error) -> Self {
        Self::other(format!("{what}: {}", trouble::lacking(error)))
    }

    pub fn other(reason: impl Into<String>) -> Self {
        Self { code: 1, reason: reason.into() }
    }
}
