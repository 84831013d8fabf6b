//! What is statistical or takes long, and so is no part of the tests: `make trials`.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use lowkey::peer::{Event, Settings};

use crate::hop::Hop;
use crate::world::{User, in_namespace};

/// How many calls go on at once, each between two users of its own.
const PAIRS: usize = 8;

/// A call that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Half of the time that a datagram and its answer take.
const DELAY: Duration = Duration::from_millis(30);

/// Calls on a network that loses one of so many datagrams. How long each took until both could talk, from short to long; `None` where
/// it did not come about.
fn calls(count: usize, loss: f64) -> Vec<Option<Duration>> {
    let hop = Hop::new(DELAY, move |_, _| fastrand::f64() >= loss);
    let (url, took) = (hop.server.url(), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for pair in 0..PAIRS {
            let (url, took) = (&url, &took);
            scope.spawn(move || {
                for number in (pair..count).step_by(PAIRS) {
                    let call = call(url, number);
                    if call.is_none() {
                        println!("call {number} at {loss} did not come about");
                    }
                    took.lock().unwrap().push(call);
                }
            });
        }
    });
    let mut took = took.into_inner().unwrap();
    took.sort_by_key(|took| took.unwrap_or(Duration::MAX));
    took
}

/// One call between two users who have never met.
fn call(url: &str, number: usize) -> Option<Duration> {
    let names = [format!("alice{number}"), format!("bob{number}")];
    let [mut alice, mut bob] = names.each_ref().map(|name| User::online(url, name, Settings::default()));
    let begin = Instant::now();
    alice.peer.call(&names[1]);
    bob.wait(&Event::Request { peer: names[0].clone() });
    bob.peer.accept(&names[0]);
    let mut opened = [&mut alice, &mut bob].map(|user| {
        loop {
            match user.events.next_timeout((begin + PATIENCE).saturating_duration_since(Instant::now())) {
                Some(Event::Open { .. }) => return Some(begin.elapsed()),
                None | Some(Event::Closed { .. }) => return None,
                Some(_) => {}
            }
        }
    });
    opened.sort();
    opened[0].and(opened[1])
}

/// Run by `make trials`: 200 calls where one datagram of ten is lost, 100 where it is one of five.
#[test]
#[ignore = "takes long: make trials"]
fn calls_come_about_where_much_is_lost() {
    for (count, loss, least) in [(200, 0.1, 200), (100, 0.2, 95)] {
        let took = calls(count, loss);
        let at = |part: f64| took[((count as f64 * part) as usize).min(count - 1)];
        let opened = took.iter().flatten().count();
        println!("{opened} of {count} calls at {loss}: p50 {:?}, p95 {:?}, longest {:?}", at(0.5), at(0.95), at(1.0));
        assert!(opened >= least, "{opened} of {count} at {loss}");
        if loss < 0.15 {
            assert!(at(0.95).is_some_and(|took| took < Duration::from_secs(5)), "{:?}", at(0.95));
        }
    }
}

/// Run by `make trials`: four chats by each way to a relay for `TRIAL_MINUTES`.
#[test]
#[ignore = "takes long, and needs coturn and network namespaces: make trials"]
fn chats_through_a_relay_last() {
    let status = in_namespace("", &["--ignored", "--nocapture", "relay::trial::"]).status().unwrap();
    assert!(status.success());
}
