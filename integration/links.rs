//! Files on links that are narrow or long: how much of the link they get, and how long a text takes meanwhile.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use lowkey::peer::{Event, FileOffer, IceServer, Sink};

use crate::file_users::{settings, started};
use crate::link::{Kind, NetworkLink};
use crate::turn::Turn;
use crate::world::{Server, User};

/// What was measured on a link.
#[derive(Debug)]
pub struct Measured {
    /// Round trips of texts, from short to long: without a file, and beside one.
    pub alone: Vec<Duration>,
    pub beside: Vec<Duration>,
    /// Which part of the link was a file's.
    pub share: f64,
}

/// A file that has no end, and is not like itself anywhere.
struct Endless(fastrand::Rng);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.fill(buffer);
        Ok(buffer.len())
    }
}

/// Alice, behind a link, sends bob a file, and texts that he gives back.
pub fn measure(kind: Kind, warm_up: Duration, time: Duration) -> Measured {
    let (server, turn) = (Server::start(), Turn::start(600));
    let link = NetworkLink::to(turn.address(), kind);
    let mut of_alice = settings("alice");
    of_alice.is_relay_only = true;
    let (username, credential) = ("both".to_owned(), "s3cret".to_owned());
    of_alice.ice_servers = vec![IceServer { url: format!("turn:{}", link.address), username, credential }];
    let mut alice = User::online(&server.url(), "alice", of_alice);
    let bob = User::online(&server.url(), "bob", settings("bob"));
    let handle = bob.peer.clone();
    let echo = thread::spawn(move || {
        for event in bob.events {
            match event {
                Event::Request { peer, .. } => bob.peer.accept(&peer),
                Event::Message { peer, text } => drop(bob.peer.send(&peer, &text)),
                Event::FileOffered { peer, file, .. } => bob.peer.take_file(&peer, file, Sink::write(std::io::sink())),
                _ => {}
            }
        }
    });
    alice.call("bob");
    let (_, alone) = talk(&mut alice, time / 2);
    alice.peer.offer_file("bob", FileOffer::stream("endless", Endless(fastrand::Rng::with_seed(7))));
    started(&mut alice);
    talk(&mut alice, warm_up);
    let (rate, beside) = talk(&mut alice, time);
    alice.peer.shutdown();
    handle.shutdown();
    echo.join().unwrap();
    Measured { alone, beside, share: rate / kind.rate }
}

/// Texts there and back, one after another with a moment between them, for so long: how many bytes a second of a file
/// have gone meanwhile, and how long each text took, from short to long.
fn talk(alice: &mut User, time: Duration) -> (f64, Vec<Duration>) {
    let begin = Instant::now();
    let mut took = Vec::new();
    let mut places: Vec<(Instant, u64)> = Vec::new();
    let (mut asked, mut waits) = (begin, false);
    while begin.elapsed() < time {
        if !waits && asked.elapsed() >= MOMENT {
            (asked, waits) = (Instant::now(), true);
            alice.peer.send("bob", "how long?");
        }
        match alice.events.next_timeout(MOMENT) {
            Some(Event::Message { .. }) => {
                took.push(asked.elapsed());
                (asked, waits) = (Instant::now(), false);
            }
            Some(Event::FileProgress { done, .. }) => places.push((Instant::now(), done)),
            Some(event @ (Event::FileEnded { .. } | Event::Closed { .. })) => panic!("{event:?}"),
            _ => {}
        }
    }
    took.sort();
    let rate = match (places.first(), places.last()) {
        (Some((from, first)), Some((to, last))) if to > from => (last - first) as f64 / (*to - *from).as_secs_f64(),
        _ => 0.0,
    };
    (rate, took)
}

impl Measured {
    /// The round trip that such a part of all took at most, in milliseconds, without a file and beside one.
    pub fn at(&self, part: f64) -> [f64; 2] {
        [&self.alone, &self.beside].map(|took| {
            let place = (took.len() as f64 * part) as usize;
            took.get(place.min(took.len().saturating_sub(1))).map_or(f64::NAN, |took| took.as_secs_f64()) * 1e3
        })
    }
}

/// What is between two texts.
const MOMENT: Duration = Duration::from_millis(20);
