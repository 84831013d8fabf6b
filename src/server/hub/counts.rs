//! What the hub has done, counted. Pure.

use crate::protocol::{ErrorCode, MessageType};

/// What the hub has done since it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubCounts {
    pub(super) forwarded: [u64; MessageType::ALL.len()],
    pub(super) errors: [u64; ErrorCode::ALL.len()],
}

impl HubCounts {
    /// Messages of this type that were forwarded.
    pub fn forwarded(&self, kind: MessageType) -> u64 {
        self.forwarded[kind as usize]
    }

    /// Errors of this code that were answered.
    pub fn errors(&self, code: ErrorCode) -> u64 {
        self.errors[code as usize]
    }
}
