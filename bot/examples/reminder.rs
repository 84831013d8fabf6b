//! A bot on tokio: whoever writes `30 call the dentist` gets that back after 30 seconds, and others are served
//! meanwhile.
//!
//! ```sh
//! cargo run --example reminder -- ws://localhost:8080
//! ```

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use lowkey::peer::{Event, Peer, Settings};
use tokio::sync::Notify;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = env::args().nth(1).unwrap_or_else(|| "ws://localhost:8080".to_owned());
    let news = Arc::new(Notify::new());
    let mut settings = Settings::default();
    let bell = news.clone();
    settings.wake = Some(Arc::new(move || bell.notify_one()));
    let (me, mut events) = Peer::connect_with(server.parse()?, "reminder", settings)?;
    loop {
        match events.try_next() {
            Ok(Event::Request { peer, .. }) => me.accept(&peer),
            Ok(Event::Message { peer, text }) => drop(tokio::spawn(remind(me.clone(), peer, text))),
            Ok(Event::Offline { reason, retry_in: None }) => return Err(reason.into()),
            Ok(_) => {}
            Err(TryRecvError::Empty) => news.notified().await,
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

async fn remind(me: Peer, peer: String, text: String) {
    let Some((Ok(seconds), what)) = text.split_once(' ').map(|(time, what)| (time.parse(), what)) else {
        me.send(&peer, "write how many seconds, and what of: 30 call the dentist");
        return;
    };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    me.send(&peer, what);
}
