//! What is statistical or takes long, and so is no part of the tests: `make trials`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lowkey::peer::{Event, Settings};

use crate::hop::Hop;
use crate::link::Kind;
use crate::world::{Server, User, in_namespace, until};
use crate::{file_disks, file_folders, file_trials, files, links};

/// Held while something is measured, or keeps the machine busy. Only chats through a relay, which take long and little,
/// go on beside that.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many calls go on at once, each between two users of its own.
const PAIRS: usize = 8;

/// A call that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Half of the time that a datagram and its answer take.
const DELAY: Duration = Duration::from_millis(30);

/// Calls on a network that loses one of so many datagrams. How long each took until both could talk, from short to
/// long; `None` where it did not come about.
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
    bob.asked_by(&names[0]);
    bob.peer.accept(&names[0]);
    // The hop makes an old app of each.
    alice.talk_to_app(&names[1]);
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
    let _alone = alone();
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

/// Run by `make trials`: a thousand files (`TRIAL_FILES`) between two programs that are killed at moments of chance, as
/// is their server, from this seed on (`TRIAL_SEED`).
#[test]
#[ignore = "takes long: make trials"]
fn files_arrive_by_the_same_command_through_kills_at_any_moment() {
    let _alone = alone();
    let number = |name, otherwise| std::env::var(name).map_or(otherwise, |number| number.parse().unwrap());
    file_trials::run(number("TRIAL_FILES", 1000), number("TRIAL_SEED", fastrand::u32(..).into()));
}

/// Run by `make trials`: a file of five gigabytes, and ten thousand small ones.
#[test]
#[ignore = "takes long: make trials"]
fn very_long_files_and_very_many_arrive() {
    let _alone = alone();
    files::one_of_five_gigabytes();
    files::ten_thousand_small_ones();
    for count in [10_000, 90_000] {
        println!("a folder of {count} small files: {:?}", file_folders::many_small_ones(count));
    }
}

/// Run by `make trials`: files on links of 1, 10 and 100 Mbit/s, each with the round trip behind it, or on one of them
/// alone (`TRIAL_LINK`).
#[test]
#[ignore = "takes long: make trials"]
fn files_use_a_link_and_let_texts_pass() {
    let _alone = alone();
    let alone = std::env::var("TRIAL_LINK").ok();
    let is_wanted = |megabits: u32| alone.as_ref().is_none_or(|alone| *alone == megabits.to_string());
    for (megabits, round_trip) in
        [(1, 50), (10, 20), (100, 40)].into_iter().filter(|(megabits, _)| is_wanted(*megabits))
    {
        let (rate, delay) = (f64::from(megabits) * 125e3, Duration::from_millis(round_trip / 2));
        // As routers of homes have it: more than is good.
        let queue = Duration::from_millis(500);
        let measured = links::measure(Kind { rate, delay, queue }, Duration::from_secs(8), Duration::from_secs(15));
        let [[alone, beside], [_, slow], [_, slowest]] = [0.5, 0.95, 1.0].map(|part| measured.at(part));
        let percent = measured.share * 100.0;
        println!(
            "{megabits} Mbit/s, {round_trip} ms: a file gets {percent:.0} % of it; a text there and back takes \
             {alone:.0} ms alone, and beside it {beside:.0} ms (p50), {slow:.0} (p95), {slowest:.0} (longest)"
        );
        match megabits {
            100 => assert!(percent >= 75.0, "{percent} %"),
            _ => assert!(beside <= alone + 60.0, "{beside} ms, and {alone} alone"),
        }
    }
}

/// Run by `make trials`: how long a text takes while a disk of 4 MB/s is written.
#[test]
#[ignore = "takes long: make trials"]
fn talk_goes_on_beside_a_slow_disk() {
    let took = file_disks::round_trips_beside_a_slow_disk();
    let at = |part: f64| took[(took.len() as f64 * part) as usize];
    println!("a text beside a disk of 4 MB/s: p50 {:?}, p95 {:?}, p99 {:?}", at(0.5), at(0.95), at(0.99));
    assert!(at(0.95) <= Duration::from_millis(2), "{:?}", at(0.95));
}

/// Run by `make trials`: how quick long texts are, on loopback and where one datagram of ten is lost.
#[test]
#[ignore = "takes long: make trials"]
fn long_texts_go_through_as_fast_as_is_printed() {
    let _alone = alone();
    let server = Server::start();
    let mut rates: Vec<f64> = (0..5)
        .map(|round| {
            let [alice, mut bob] = open_chat(&server.url(), &format!("quick{round}"), false);
            let (text, to, begin) = ("x".repeat(LONG), format!("quick{round}_bob"), Instant::now());
            thread::scope(|scope| {
                scope.spawn(|| (0..LONG_TEXTS).for_each(|_| assert_eq!(bob.message().1.len(), LONG)));
                for _ in 0..LONG_TEXTS {
                    until("there is room", || (alice.peer.queued_bytes() < ROOM).then_some(()));
                    alice.peer.send(&to, &text);
                }
            });
            (LONG * LONG_TEXTS) as f64 / 1e6 / begin.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    println!("texts of {LONG} bytes on loopback: {:.0} MB/s ({:.0} to {:.0})", rates[2], rates[0], rates[4]);
    let is_lossy = Arc::new(AtomicBool::new(false));
    let loses = is_lossy.clone();
    let hop = Hop::new(DELAY, move |_, _| !loses.load(Ordering::Relaxed) || fastrand::f64() >= 0.1);
    let mut times: Vec<f64> = (0..10)
        .map(|round| {
            is_lossy.store(false, Ordering::Relaxed);
            let [alice, mut bob] = open_chat(&hop.server.url(), &format!("lossy{round}"), true);
            is_lossy.store(true, Ordering::Relaxed);
            let begin = Instant::now();
            // Toward an old app, as which each sees the other on this way, such a text is sent in two.
            for _ in 0..2 {
                alice.peer.send(&format!("lossy{round}_bob"), &"x".repeat(HALF));
            }
            let came = std::iter::from_fn(|| bob.events.next_timeout(PATIENCE));
            came.filter(|event| matches!(event, Event::Message { .. })).nth(1).expect("both have come");
            begin.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("100 kB at 10 % loss and 60 ms: {:.1} s ({:.1} to {:.1})", times[5], times[0], times[9]);
}

/// Two users of these names in an open chat; or each sees an old app in the other.
fn open_chat(url: &str, name: &str, is_app: bool) -> [User; 2] {
    let names = [name.to_owned(), format!("{name}_bob")];
    let [mut alice, mut bob] = names.each_ref().map(|name| User::online(url, name, Settings::default()));
    alice.peer.call(&names[1]);
    bob.asked_by(name);
    bob.peer.accept(name);
    if is_app {
        alice.talk_to_app(&names[1]);
    }
    bob.wait(&Event::Open { peer: name.to_owned() });
    alice.wait(&Event::Open { peer: names[1].clone() });
    [alice, bob]
}

/// Bytes of a long text, how many of them are sent, and how many bytes may wait meanwhile.
const LONG: usize = 196_000;
const LONG_TEXTS: usize = 200;
const ROOM: usize = 2_000_000;

/// Bytes of each of two texts that are 100 kB together.
const HALF: usize = 48_000;

/// Run by `make trials`: four chats by each way to a relay for `TRIAL_MINUTES`.
#[test]
#[ignore = "takes long, and needs coturn and network namespaces: make trials"]
fn chats_through_a_relay_last() {
    let status = in_namespace("", &["--ignored", "--nocapture", "relay::trial::"]).status().unwrap();
    assert!(status.success());
}
