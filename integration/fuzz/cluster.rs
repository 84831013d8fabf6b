//! Any bytes from the engine of a cluster, and from another server of it: no panic, and the same in one piece as byte
//! by byte.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../support/engine_bytes.rs"]
mod engine_bytes;
#[allow(dead_code)]
#[path = "../support/model_engine.rs"]
mod model_engine;

fuzz_target!(|bytes: &[u8]| engine_bytes::play(bytes));
