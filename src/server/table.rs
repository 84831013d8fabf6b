//! A hash map that never pauses: 1024 plain ones, so that one which grows or shrinks moves a 1024th of the entries
//! and not all of them. With a million entries that is a fraction of a millisecond instead of a tenth of a second.
//! Pure.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

/// Something that can be spread over the shards of a [`Table`].
pub trait Spread {
    /// A number whose low bits name the shard. It need not be hard to guess: one that is filled is an ordinary map.
    fn spread(&self) -> usize;
}

impl Spread for str {
    /// FNV-1a, whose higher bits are the better mixed ones.
    fn spread(&self) -> usize {
        let hash = self.bytes().fold(0, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        (hash >> 12) as usize
    }
}

impl<T: Spread + ?Sized> Spread for std::rc::Rc<T> {
    fn spread(&self) -> usize {
        (**self).spread()
    }
}

impl Spread for std::net::IpAddr {
    /// An address, or its network: the lower half of an IPv6 address does not count, and larger networks end in zeros.
    fn spread(&self) -> usize {
        match self {
            Self::V4(address) => address.to_bits() as usize,
            Self::V6(address) => {
                let network = (address.to_bits() >> 64) as u64;
                (network.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
            }
        }
    }
}

impl Spread for uuid::Uuid {
    fn spread(&self) -> usize {
        usize::from(self.as_bytes()[0]) << 8 | usize::from(self.as_bytes()[1])
    }
}

/// A map from `K` to `V`.
#[derive(Debug)]
pub struct Table<K, V, S = RandomState> {
    /// None as long as nothing was ever put in: most servers need but some of their tables.
    shards: Vec<HashMap<K, V, S>>,
    len: usize,
}

impl<K, V, S> Default for Table<K, V, S> {
    fn default() -> Self {
        Self { shards: Vec::new(), len: 0 }
    }
}

impl<K: Spread + Hash + Eq, V, S: BuildHasher + Clone + Default> Table<K, V, S> {
    /// The value of a key.
    pub fn get<Q: Spread + Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards.get(key.spread() % SHARDS)?.get(key)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Spread + Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.shards.get_mut(key.spread() % SHARDS)?.get_mut(key)
    }

    /// Puts a value in, and returns the one that it replaces.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.shards.is_empty() {
            self.shards = vec![S::default(); SHARDS].into_iter().map(HashMap::with_hasher).collect();
        }
        let replaced = self.shards[key.spread() % SHARDS].insert(key, value);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Takes a value out. A crowd's memory is given back once most of it has gone.
    pub fn remove<Q: Spread + Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let shard = self.shards.get_mut(key.spread() % SHARDS)?;
        let removed = shard.remove(key);
        self.len -= usize::from(removed.is_some());
        if shard.capacity() > KEPT_CAPACITY && shard.len() < shard.capacity() / 8 {
            shard.shrink_to(shard.len() * 2);
        }
        removed
    }

    /// All values, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.shards.iter_mut().flatten()
    }

    /// The keys of one shard after the other, in no order; `None` behind the last.
    pub fn shard(&self, number: usize) -> Option<impl Iterator<Item = &K>> {
        self.shards.get(number).map(HashMap::keys)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// How many maps there are in a table.
const SHARDS: usize = 1024;

/// A shard of up to this many places is never made smaller.
const KEPT_CAPACITY: usize = 16;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn what_was_put_in_is_found_until_it_is_taken_out() {
        let mut table: Table<Rc<str>, usize> = Table::default();
        let names: Vec<Rc<str>> = (0..10_000).map(|number| format!("name{number}").into()).collect();
        for (number, name) in names.iter().enumerate() {
            assert_eq!(table.insert(name.clone(), number), None);
        }
        assert_eq!((table.len(), table.insert(names[7].clone(), 8)), (10_000, Some(7)));
        *table.get_mut("name7").unwrap() = 9;
        assert_eq!((table.get("name7"), table.get("name10000")), (Some(&9), None));
        assert_eq!(table.iter_mut().count(), 10_000);
        for name in &names {
            assert!(table.remove(&**name).is_some() && table.get(name).is_none());
        }
        assert!(table.is_empty() && table.remove("name7").is_none());
    }

    #[test]
    fn a_crowd_is_spread_evenly_and_its_memory_given_back() {
        let mut table: Table<Rc<str>, ()> = Table::default();
        let name = |number: usize| -> Rc<str> { format!("user{number}").into() };
        for number in 0..100_000 {
            table.insert(name(number), ());
        }
        let fullest = table.shards.iter().map(HashMap::len).max().unwrap();
        assert!(fullest < 2 * 100_000 / SHARDS, "{fullest} in one shard");
        for number in 0..100_000 {
            table.remove(&name(number));
        }
        let places: usize = table.shards.iter().map(HashMap::capacity).sum();
        assert!(places <= SHARDS * KEPT_CAPACITY, "{places} places");
    }
}
