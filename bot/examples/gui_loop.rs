//! A peer in somebody else's event loop, such as that of a program with windows: one thread, one queue of what happens,
//! and the peer wakes it as keys and timers do. Here the keys are lines on standard input; what a window would show is
//! printed.
//!
//! ```sh
//! cargo run --example gui_loop -- ws://localhost:8080 alice echo
//! ```

use std::env;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use lowkey::peer::{Event, Events, Peer, Settings};

/// What wakes the loop. A toolkit has such a queue of its own, and a handle to it for other threads.
enum Happening {
    /// Somebody typed a line.
    Line(String),
    /// Nobody will type any more: the window was closed.
    Quit,
    /// The peer has events.
    Peer,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [server, name, other] = arguments.as_slice() else { return Err("gui_loop SERVER NAME OTHER".into()) };

    let (queue, happenings) = mpsc::channel();
    let keys = queue.clone();
    thread::Builder::new().spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let _ = keys.send(Happening::Line(line));
        }
        let _ = keys.send(Happening::Quit);
    })?;
    let mut settings = Settings::default();
    settings.wake = Some(Arc::new(move || {
        let _ = queue.send(Happening::Peer);
    }));
    let (me, events) = Peer::connect_with(server.parse()?, name, settings)?;
    let window = Window { me: Some(me), events, other: other.clone(), unsent: Vec::new(), is_open: false };
    window.run(&happenings);
    Ok(())
}

/// The program's state, which one thread has to itself.
struct Window {
    /// `None` once the window is being closed.
    me: Option<Peer>,
    events: Events,
    /// With whom the chat is.
    other: String,
    /// Lines that were typed before the chat was open.
    unsent: Vec<String>,
    is_open: bool,
}

impl Window {
    /// The loop: waits for what happens, and draws a frame in between, whatever the peer does.
    fn run(mut self, happenings: &Receiver<Happening>) {
        let mut frame = Instant::now();
        loop {
            match happenings.recv_timeout(frame.saturating_duration_since(Instant::now())) {
                Ok(Happening::Line(line)) => self.unsent.push(line),
                // Without its handle a peer says goodbye and ends, in its own thread; nothing here waits for that.
                Ok(Happening::Quit) => self.me = None,
                Ok(Happening::Peer) => {
                    if self.take_events().is_err() {
                        return;
                    }
                }
                // Here the toolkit draws.
                Err(RecvTimeoutError::Timeout) => frame = Instant::now() + FRAME,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.send();
        }
    }

    /// Takes all events that are there, and comes back at once.
    ///
    /// # Errors
    /// The events have ended.
    fn take_events(&mut self) -> Result<(), TryRecvError> {
        loop {
            match self.events.try_next() {
                Ok(event) => self.take(event),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(ended) => return Err(ended),
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Online if !self.is_open => {
                if let Some(me) = &self.me {
                    me.call(&self.other);
                }
            }
            Event::Open { .. } => {
                println!("* open");
                self.is_open = true;
            }
            // Texts may hold anything; a terminal gets no control characters of theirs.
            Event::Message { peer, text } => println!("{peer}: {}", text.escape_debug()),
            Event::Closed { reason, .. } => {
                println!("* {reason}");
                self.me = None;
            }
            Event::Offline { reason, .. } => println!("* {reason}"),
            _ => {}
        }
    }

    /// Sends what was typed, once there is a chat.
    fn send(&mut self) {
        if let Some(me) = self.me.as_ref().filter(|_| self.is_open) {
            for line in self.unsent.drain(..) {
                me.send(&self.other, &line);
            }
        }
    }
}

/// A sixtieth of a second.
const FRAME: Duration = Duration::from_micros(16_667);
