//! Any messages of a server, one a line, to a peer whose user takes every call: no panic.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use lowkey::peer::engine::{Engine, Input, Output, Setup};

fuzz_target!(|text: &str| {
    let mut now = Instant::now();
    let mut engine = Engine::new("bob", Setup::default());
    engine.handle(Input::Online, now);
    for line in text.lines() {
        now += Duration::from_millis(100);
        for output in engine.handle(Input::Signal(line.to_owned()), now) {
            if let Output::Event(lowkey::peer::Event::Request { peer, .. }) = output {
                engine.handle(Input::Accept { peer }, now);
            }
        }
        engine.handle(Input::Tick, now);
    }
});
