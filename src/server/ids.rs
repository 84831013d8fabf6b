//! How connections are told apart. Pure.

use std::hash::{BuildHasherDefault, Hasher};

use super::table::{Spread, Table};

/// One connection. Never used again for another, so whatever still speaks of a gone one finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub usize);

impl Spread for ConnId {
    fn spread(&self) -> usize {
        self.0
    }
}

/// A table by connection. The ids are our own, one after the other, so nobody can choose some that collide.
pub type ByConn<V> = Table<ConnId, V, BuildHasherDefault<IdHasher>>;

/// Hashes one number that nobody else chooses (Fibonacci hashing: Knuth, The Art of Computer Programming, 6.4).
#[derive(Debug, Clone, Copy, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize((*byte).into());
        }
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
