//! What is known of who a peer is (protocol 2.5). Pure.

use std::fmt;

use super::keys::PublicKey;

/// What is known of who a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It has proven the identity that its user was verified by: by the safety number, or by a link.
    Verified,
    /// It has proven the identity that it had before.
    Known,
    /// It has proven an identity, which was not seen before.
    New,
    /// It is an old app, which proves nothing.
    Unproven,
}

impl Trust {
    /// Whether it is somebody who was seen before.
    pub fn is_known(self) -> bool {
        matches!(self, Self::Verified | Self::Known)
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::Known => "seen before",
            Self::New => "new",
            Self::Unproven => "an old app, which cannot prove who it is",
        })
    }
}

/// What is known of a peer that was seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The identity that it has proven.
    pub identity: PublicKey,
    /// Whether its user was verified: by the safety number, or by a link.
    pub is_verified: bool,
}
