//! Every bound that the server keeps, in one table.

use std::time::Duration;

/// How much the server holds for one client, and how long it waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest request head, in bytes; a longer one gets 431.
    pub head_bytes: usize,
    /// How long a client may take for its request head; a slower one gets 408.
    pub head_time: Duration,
    /// The longest message, in bytes of payload; a longer one ends the connection with 1009. An SDP offer has a few
    /// thousand bytes.
    pub message_bytes: usize,
    /// How many bytes may wait to be sent to one client; one that is further behind is cut.
    pub unsent_bytes: usize,
    /// How long the end of a connection may take once it has begun: the close handshake and the last bytes.
    pub close_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 8 * 1024,
            head_time: Duration::from_secs(10),
            message_bytes: 64 * 1024,
            unsent_bytes: 256 * 1024,
            close_time: Duration::from_secs(3),
        }
    }
}
