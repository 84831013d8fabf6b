//! What the database does in one piece, by its own clock. Pure.

use std::sync::LazyLock;

use data_encoding::HEXLOWER;
use sha1::{Digest, Sha1};

/// One of the scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LuaScript {
    /// A name for a connection.
    Claim,
    /// The end of that.
    Release,
    /// A name that a connection has already.
    Mark,
    /// A dispatch to wherever a name is online.
    Seek,
    /// The second place of a session.
    Join,
    /// The lease of a node.
    Renew,
}

impl LuaScript {
    pub(super) const ALL: [Self; 6] = [Self::Claim, Self::Release, Self::Mark, Self::Seek, Self::Join, Self::Renew];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Claim => include_str!("claim.lua"),
            Self::Release => include_str!("release.lua"),
            Self::Mark => include_str!("mark.lua"),
            Self::Seek => include_str!("seek.lua"),
            Self::Join => include_str!("join.lua"),
            Self::Renew => include_str!("renew.lua"),
        }
    }

    /// By what the database knows it once it was loaded.
    pub(super) fn hash(self) -> &'static str {
        &HASHES[self as usize]
    }
}

static HASHES: LazyLock<[String; 6]> =
    LazyLock::new(|| LuaScript::ALL.map(|script| HEXLOWER.encode(&Sha1::digest(script.text()))));
