//! Any bytes from the database of a cluster, and from another server of it: no panic, and the same in one piece as byte
//! by byte.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../support/database_bytes.rs"]
mod database_bytes;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../support/model_database.rs"]
mod model_database;

fuzz_target!(|bytes: &[u8]| database_bytes::play(bytes));
