//! The Lua scripts: what the database does in one piece, by its own clock. Pure.

use std::sync::LazyLock;

use data_encoding::HEXLOWER;
use sha1::{Digest, Sha1};

/// One of the scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LuaScript {
    /// Gives a name to a connection.
    Claim,
    /// Frees a name, or keeps it for its owner.
    Release,
    /// Renews the record of a name that a connection has.
    Mark,
    /// Sends a dispatch to the node where a name is online.
    Seek,
    /// Takes the second place of a session.
    Join,
    /// Renews the lease of a node.
    Renew,
}

impl LuaScript {
    pub(super) const ALL: [Self; 6] = [Self::Claim, Self::Release, Self::Mark, Self::Seek, Self::Join, Self::Renew];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Claim => concat!(include_str!("holder.lua"), include_str!("claim.lua")),
            Self::Release => include_str!("release.lua"),
            Self::Mark => concat!(include_str!("holder.lua"), include_str!("mark.lua")),
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
