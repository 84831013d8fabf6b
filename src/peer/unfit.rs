//! What makes a description of a connection unfit for use. Pure.

use std::fmt;

/// Why a description is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// It is no description at all.
    Unreadable,
    /// No data channel is in it, or one that is refused.
    NoChannel,
    /// It has more media sections than anybody needs.
    TooManySections,
    /// It names no user or no password for ICE, or one that is too long.
    Credentials,
    /// It names no certificate.
    NoFingerprint,
    /// It names its certificate by other hashes than SHA-256.
    Hash,
    /// It names several certificates.
    SeveralFingerprints,
    /// It wants no connection now.
    OnHold,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "it cannot be read",
            Self::NoChannel => "there is no data channel in it",
            Self::TooManySections => "it has too many parts",
            Self::Credentials => "its ICE user or password is missing or too long",
            Self::NoFingerprint => "it names no certificate",
            Self::Hash => "it names its certificate by no SHA-256 fingerprint",
            Self::SeveralFingerprints => "it names several certificates",
            Self::OnHold => "it wants no connection now",
        })
    }
}
