//! Where the random bytes come from of which keys, nonces and instances are made: from the system. In tests they may be
//! drawn from a row instead, which is the same each time, so that a search knows a state again.

use crypto_box::aead::OsRng;
use crypto_box::aead::rand_core::RngCore;

/// Fills a place with fresh random bytes.
pub(super) fn fill(bytes: &mut [u8]) {
    #[cfg(test)]
    if row::fill(bytes) {
        return;
    }
    OsRng.fill_bytes(bytes);
}

#[cfg(test)]
pub(super) mod row {
    use std::cell::Cell;

    thread_local! {
        static ROW: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    }

    /// Draws from the row of this number in this thread, behind so many numbers that were drawn before.
    pub(in super::super) fn begin(number: u64, drawn: u64) {
        ROW.set(Some((number, drawn)));
    }

    /// Goes back to the system; how many numbers of the row are drawn.
    pub(in super::super) fn end() -> u64 {
        ROW.take().map_or(0, |(_, drawn)| drawn)
    }

    /// Whether a row is drawn from.
    pub(in super::super) fn is_begun() -> bool {
        ROW.get().is_some()
    }

    pub(super) fn fill(bytes: &mut [u8]) -> bool {
        let Some((number, mut drawn)) = ROW.get() else { return false };
        for chunk in bytes.chunks_mut(8) {
            drawn += 1;
            // Splitmix64, which takes each number to another one.
            let mut mixed = (number << 48 | drawn).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
        }
        ROW.set(Some((number, drawn)));
        true
    }
}
