//! Any bytes from a client: no panic, and the same in one piece as byte by byte.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../support/client_bytes.rs"]
mod client_bytes;

use client_bytes::{UPGRADE, outcome};

fuzz_target!(|bytes: &[u8]| {
    // Half of the cases are past the head.
    let bytes = match bytes.split_first() {
        Some((first, rest)) if first % 2 == 0 => [UPGRADE, rest].concat(),
        _ => bytes.to_vec(),
    };
    assert_eq!(outcome(bytes.chunks(usize::MAX)), outcome(bytes.chunks(1)));
});
