//! A bot in a few lines: it takes every call and says welcome.
//!
//! ```sh
//! cargo run --example greeter -- ws://localhost:8080
//! ```

use std::env;
use std::error::Error;

use lowkey::peer::{Event, Peer};

fn main() -> Result<(), Box<dyn Error>> {
    let server = env::args().nth(1).unwrap_or_else(|| "ws://localhost:8080".to_owned());
    let (me, events) = Peer::connect(&server, "greeter")?;
    for event in events {
        match event {
            Event::Request { peer, .. } => me.accept(&peer),
            Event::Open { peer } => {
                me.send(&peer, "welcome");
            }
            Event::Offline { reason, retry_in: None } => return Err(reason.into()),
            _ => {}
        }
    }
    Ok(())
}
