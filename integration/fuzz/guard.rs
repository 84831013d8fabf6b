//! Any SCTP packets: what the guard lets pass makes the crate's SCTP neither panic nor compute for long.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../support/sctp.rs"]
mod sctp;

fuzz_target!(|bytes: &[u8]| sctp::play(bytes));
