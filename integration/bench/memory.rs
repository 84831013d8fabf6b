//! A million clients in this very process, with no socket behind them: what they take, and whether anything ever
//! pauses.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lowkey::server::Config;
use lowkey::server::clients::{ClientStream, Clients};
use lowkey::server::http::Endpoints;
use lowkey::server::hub::ConnId;
use lowkey::server::limits::Limits;
use nix::time::{ClockId, clock_gettime};

use super::load::{frame, upgrade};
use super::report::{Goal, Report, median};
use super::subject::resident;

thread_local! {
    /// What the next read gives.
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// How much was written.
    static WRITTEN: RefCell<usize> = const { RefCell::new(0) };
}

/// A stream that takes no room of its own.
pub struct Nothing;

impl Read for Nothing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        INPUT.with_borrow_mut(|input| {
            if input.is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
            let length = input.len();
            buffer[..length].copy_from_slice(input);
            input.clear();
            Ok(length)
        })
    }
}

impl Write for Nothing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.with_borrow_mut(|written| *written += bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ClientStream for Nothing {
    fn shut(&mut self) {}

    fn reset(&mut self) {}
}

/// Clients that nobody has to connect.
struct ManyClients {
    clients: Clients<Nothing>,
    buffer: Vec<u8>,
    now: Instant,
    /// The longest turn so far.
    longest: Duration,
}

impl ManyClients {
    fn new(count: usize) -> Self {
        // As many for each as with a million.
        let held_bytes = Limits::default().held_bytes / (1_000_000 / count).max(1);
        let limits = Limits { sessions_per_name: usize::MAX, held_bytes, ..Limits::default().without_rates() };
        let config = Config { limits, session_ttl: SESSION_TTL, ..Config::default() };
        let (clients, buffer) = (Clients::new(config, 0), vec![0; 32 * 1024]);
        let mut world = Self { clients, buffer, now: Instant::now(), longest: Duration::ZERO };
        let door = Endpoints { users: true, metrics: false };
        for number in 0..count {
            let head = upgrade(&format!("user{number}"));
            world.turn(|world| {
                world.clients.add(Nothing, IpAddr::V4(Ipv4Addr::LOCALHOST), door, world.now);
                world.read(number, head.as_bytes());
            });
        }
        assert_eq!(world.clients.hub().online(), count);
        world
    }

    /// One turn of the loop, its time taken.
    fn turn(&mut self, serve: impl FnOnce(&mut Self)) {
        let started = thread_time();
        serve(self);
        self.clients.tick(self.now);
        self.clients.flush(self.now);
        self.longest = self.longest.max(thread_time() - started);
    }

    fn read(&mut self, id: usize, bytes: &[u8]) {
        give(bytes);
        self.clients.read(ConnId(id), &mut self.buffer, self.now);
    }

    /// The longest turn until nothing is due any more, in milliseconds.
    fn settle(&mut self) -> f64 {
        self.longest = Duration::ZERO;
        while self.clients.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.turn(|_| {});
        }
        self.longest.as_secs_f64() * 1e3
    }

    /// Nanoseconds for a message of `size` bytes among the first hundred, one a turn, in some rounds.
    fn forward(&mut self, size: usize, count: usize) -> Vec<f64> {
        (0..ROUNDS).map(|_| self.forward_once(size, count / ROUNDS)).collect()
    }

    fn forward_once(&mut self, size: usize, count: usize) -> f64 {
        let text = |target: usize, filling: usize| {
            let filling = "x".repeat(filling);
            frame(&format!(r#"{{"type":"signal:ice","target":"user{target}","payload":"{filling}"}}"#))
        };
        let frames: Vec<Vec<u8>> = (0..100).map(|target| text(target, size - text(target, 0).len())).collect();
        let started = thread_time();
        for number in 0..count {
            self.read(number % 100, &frames[(number + 1) % 100]);
            self.clients.tick(self.now);
            self.clients.flush(self.now);
        }
        (thread_time() - started).as_secs_f64() * 1e9 / count as f64
    }
}

/// Has the next read give these bytes.
pub fn give(bytes: &[u8]) {
    INPUT.with_borrow_mut(|input| input.extend_from_slice(bytes));
}

/// The processor time of this thread: what others do on this machine is no pause of ours.
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// Of one measurement, so that one that was disturbed is seen as such.
const ROUNDS: usize = 11;

/// Shorter than the time between pings, so that sessions expire when nothing else is due.
const SESSION_TTL: Duration = Duration::from_secs(10);

/// Runs it all.
pub fn run(report: &mut Report, is_quick: bool) {
    let count = if is_quick { 100_000 } else { 1_000_000 };
    let mut few = ManyClients::new(100);
    few.forward_once(200, count / 10);
    let among_few = few.forward(200, count);
    let goal = Goal::Most((median(&among_few) * 1.25).round());
    report.add("forward, 200 B, in memory, among 100", "ns", "clients", among_few, None);
    report.add("forward, 2.5 kB, in memory, among 100", "ns", "clients", few.forward(2500, count), None);
    drop(few);
    let before = resident(std::process::id());
    let mut world = ManyClients::new(count);
    let taken = (resident(std::process::id()) - before) as f64;
    let name = |what: &str| format!("{what}, {count} clients in memory");
    report.add(&name("all of them"), "MB", "clients", vec![taken / 1e6], Some(Goal::Most(1000.0)));
    report.add(&name("each"), "B", "clients", vec![taken / count as f64], None);
    let milliseconds = world.longest.as_secs_f64() * 1e3;
    report.add(&name("longest turn while they come"), "ms", "clients", vec![milliseconds], Some(Goal::Most(2.0)));
    world.forward_once(200, count / 10);
    report.add(&name("forward, 200 B"), "ns", "clients", world.forward(200, count), Some(goal));
    let written = WRITTEN.with_borrow(|written| *written);
    world.now += Duration::from_secs(25);
    let longest = world.settle();
    assert_eq!(WRITTEN.with_borrow(|all| *all) - written, 2 * count, "a ping for each");
    report.add(&name("longest turn with all pings due"), "ms", "clients", vec![longest], Some(Goal::Most(2.0)));
    let create = frame(r#"{"type":"session:create"}"#);
    world.longest = Duration::ZERO;
    for id in 0..count {
        world.turn(|world| world.read(id, &create));
    }
    assert_eq!(world.clients.hub().sessions(), count);
    let milliseconds = world.longest.as_secs_f64() * 1e3;
    report.add(&name("longest turn while each opens a session"), "ms", "clients", vec![milliseconds], None);
    world.now += SESSION_TTL;
    let longest = world.settle();
    assert_eq!(world.clients.hub().sessions(), 0);
    report.add(&name("longest turn while all sessions expire"), "ms", "clients", vec![longest], Some(Goal::Most(2.0)));
    // Each begins a message of a kilobyte and does not end it: soon that is more than may be, and each one costs
    // another its place, of whom there are hundreds of thousands.
    let beginning = &frame(&"x".repeat(2000))[..1000];
    let online = world.clients.hub().online();
    world.longest = Duration::ZERO;
    for id in 0..count {
        world.turn(|world| world.read(id, beginning));
    }
    assert!(world.clients.hub().online() < online);
    let milliseconds = world.longest.as_secs_f64() * 1e3;
    report.add(&name("longest turn over the budget"), "ms", "clients", vec![milliseconds], Some(Goal::Most(2.0)));
    world.now += Duration::from_secs(30);
    let longest = world.settle();
    report.add(
        &name("longest turn while all of them are too slow"),
        "ms",
        "clients",
        vec![longest],
        Some(Goal::Most(2.0)),
    );
}
