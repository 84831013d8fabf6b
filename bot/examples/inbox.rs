//! A bot that takes files of one friend, into a folder.
//!
//! ```sh
//! cargo run --example inbox -- ws://localhost:8080 inbox alice
//! ```

use std::env;
use std::error::Error;

use lowkey::peer::{EndReason, Event, Folder, Peer, Settings, Sink};

fn main() -> Result<(), Box<dyn Error>> {
    let [server, folder, friend] = env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| USAGE)?;
    let folder = Folder::open(folder)?;
    let mut settings = Settings::default();
    settings.takes_files = true;
    let (me, events) = Peer::connect_with(server.parse()?, "inbox", settings)?;
    for event in events {
        match event {
            Event::Request { peer, .. } if peer == friend => me.accept(&peer),
            Event::FileOffered { peer, file, size: Some(0..=100_000_000), .. } => {
                me.take_file(&peer, file, Sink::folder(folder.clone()));
            }
            Event::FileOffered { peer, file, .. } => me.refuse_file(&peer, file, EndReason::TooLarge),
            Event::FileReceived { peer, path: Some(path), .. } => println!("{} of {peer}", path.display()),
            Event::Offline { reason, retry_in: None } => return Err(reason.into()),
            _ => {}
        }
    }
    Ok(())
}

const USAGE: &str = "say the server, the folder, and whose files it is to take";
