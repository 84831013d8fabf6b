//! Debug output of what must not be logged: the name of the type, and nothing of what is in it. `engine::search` tells
//! states apart by their Debug output, so there, and only where random bytes are drawn from a row, a hash of the
//! content follows.

use std::fmt;
use std::hash::Hash;

/// Writes the name of a type, and nothing of what is in it.
pub(super) fn write<T: Hash>(f: &mut fmt::Formatter<'_>, name: &str, inside: impl FnOnce() -> T) -> fmt::Result {
    write!(f, "{name}(..)")?;
    #[cfg(test)]
    if super::random::row::is_begun() {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

        return write!(f, "{:x}", BuildHasherDefault::<DefaultHasher>::default().hash_one(inside()));
    }
    let _ = inside;
    Ok(())
}
