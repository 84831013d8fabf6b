//! Any texts of two users, one a line: no panic, and only who is online is told.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use lowkey::server::hub::{ConnId, Hub, Output};
use lowkey::server::limits::Limits;
use uuid::Uuid;

fuzz_target!(|text: &str| {
    let now = Instant::now();
    let mut hub = Hub::new(Duration::from_secs(60), Limits::default(), Uuid::new_v4);
    for (number, name) in ["alice", "bob"].iter().enumerate() {
        hub.connect(ConnId(number), name, None, now).unwrap();
    }
    for (number, line) in text.lines().enumerate() {
        for output in hub.receive(ConnId(number % 2), line, now) {
            match output {
                Output::Send { to, .. } | Output::Close { conn: to, .. } => assert!(to.0 < 2),
                Output::Forward { to, message, .. } => {
                    assert!(to.0 < 2);
                    let mut forwarded = Vec::new();
                    message.write(&mut forwarded);
                    assert!(lowkey::protocol::Envelope::parse(std::str::from_utf8(&forwarded).unwrap()).is_ok());
                }
                other => panic!("{other:?}, without a cluster"),
            }
        }
    }
});
