//! What stands in the database, and under which key. Names and tokens stand there as keyed hashes only, so that who
//! reads the database's memory learns neither. Pure.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use uuid::Uuid;

use super::dispatch::{conn, conn_bytes};
use crate::server::ids::ConnId;
use crate::server::nodes::{NodeId, Route};

/// What makes the hashes that stand for names and tokens: a secret that all nodes have. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyedHash(Vec<u8>);

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHash(..)")
    }
}

impl KeyedHash {
    /// Hashes by this secret. An empty one hides nothing from whoever can guess a name.
    pub(super) fn new(secret: &str) -> Self {
        Self(secret.as_bytes().to_vec())
    }

    /// Where a name's record is.
    pub(super) fn name(&self, name: &str) -> Vec<u8> {
        prefixed("n:", &self.hash(&[b"n", name.as_bytes()]))
    }

    /// What stands for the token of a name there: nothing where it has none.
    pub(super) fn token(&self, name: &str, token: Option<&str>) -> Vec<u8> {
        token.map_or(Vec::new(), |token| {
            self.hash(&[b"t", &self.hash(&[b"n", name.as_bytes()]), token.as_bytes()]).to_vec()
        })
    }

    /// What all nodes have to have in common: the secret, the layout, and these settings.
    pub(super) fn check(&self, settings: &str) -> Vec<u8> {
        self.hash(&[b"check", settings.as_bytes()]).to_vec()
    }

    fn hash(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        *mac.finalize().into_bytes().first_chunk().expect("SHA-1 gives 20 bytes")
    }
}

/// Where a session's record is.
pub(super) fn session(id: Uuid) -> Vec<u8> {
    prefixed("s:", id.as_bytes())
}

/// The pub/sub channel on which a node gets its dispatches.
pub(super) fn channel(node: NodeId) -> Vec<u8> {
    prefixed("to:", &node.0)
}

fn prefixed(kind: &str, rest: &[u8]) -> Vec<u8> {
    [PREFIX.as_bytes(), kind.as_bytes(), rest].concat()
}

/// A node in one of its incarnations, as the leases know it.
pub(super) fn member(node: NodeId, incarnation: u16) -> Vec<u8> {
    [&node.0[..], &incarnation.to_be_bytes()].concat()
}

/// Who has a name, as its record says.
pub(super) fn owner(node: NodeId, incarnation: u16, conn: ConnId) -> Vec<u8> {
    [&member(node, incarnation)[..], &conn_bytes(conn)].concat()
}

/// Where the owner of a name is.
pub(super) fn route(owner: &[u8]) -> Option<Route> {
    let (node, rest) = owner.split_first_chunk::<6>()?;
    let (_, conn_bytes) = rest.split_first_chunk::<2>()?;
    Some(Route { node: NodeId(*node), conn: conn(conn_bytes.try_into().ok()?) })
}

/// What all keys begin with: a layout that is another gets another number.
const PREFIX: &str = "lk1:";
pub(super) const NODES: &[u8] = b"lk1:nodes";
pub(super) const GRACE: &[u8] = b"lk1:grace";
pub(super) const CHECK: &[u8] = b"lk1:check";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_keyed_and_tell_everything_apart() {
        let (one, other) = (KeyedHash::new("one"), KeyedHash::new("other"));
        assert_ne!(one.name("alice"), other.name("alice"));
        assert_ne!(one.name("alice"), one.name("bob"));
        assert_ne!(one.token("alice", Some("t")), one.token("bob", Some("t")));
        assert_ne!(one.token("alice", Some("t")), one.token("alice", Some("u")));
        assert_eq!((one.token("alice", None).len(), one.token("alice", Some("t")).len()), (0, 16));
        assert_eq!(one.name("alice").len(), 4 + 2 + 16);
        assert!(!format!("{one:?}").contains("one"));
    }

    #[test]
    fn an_owner_says_where_its_name_is() {
        let route = Route { node: NodeId(*b"abcdef"), conn: ConnId(123_456_789) };
        assert_eq!(super::route(&owner(route.node, 258, route.conn)), Some(route));
        assert_eq!(super::route(b"short"), None);
        assert_eq!(super::route(&[0; 20]), None);
    }
}
