//! All clients of a server in memory, over streams that are not there, with the time moved by hand.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use lowkey::server::Config;
use lowkey::server::clients::Clients;
use lowkey::server::http::Endpoints;
use lowkey::server::hub::ConnId;
use lowkey::server::limits::{Limits, Rate};
use lowkey::server::presence::Presence;

use crate::websocket::{close_code, frame, text_frame, upgrade};
use crate::wire_ends::Wire;

struct ClientsInMemory {
    clients: Clients<Wire>,
    presence: Presence,
    start: Instant,
    wires: Vec<Wire>,
    buffer: Vec<u8>,
}

const ADDRESS: &str = "192.0.2.1";

impl ClientsInMemory {
    fn new(limits: Limits) -> Self {
        let clients = Clients::new(Config { limits, ..Config::default() }, 0);
        let (wires, buffer) = (Vec::new(), vec![0; 32 * 1024]);
        Self { clients, presence: Presence::default(), start: Instant::now(), wires, buffer }
    }

    /// A client from [`ADDRESS`] that sends these bytes, by its number.
    fn client(&mut self, now: Instant, bytes: &[u8]) -> usize {
        let wire = Wire::default();
        let endpoints = Endpoints { users: true, metrics: false };
        let address: IpAddr = ADDRESS.parse().unwrap();
        self.clients.add(wire.clone(), address, endpoints, now);
        self.wires.push(wire);
        self.send(self.wires.len() - 1, now, bytes);
        self.wires.len() - 1
    }

    fn user(&mut self, now: Instant, name: &str) -> usize {
        let id = self.client(now, upgrade(name).as_bytes());
        assert_eq!(self.status(id), "101", "{name}");
        id
    }

    /// What a client sends, and the turn that serves it.
    fn send(&mut self, id: usize, now: Instant, bytes: &[u8]) {
        self.wires[id].0.borrow_mut().sent.extend_from_slice(bytes);
        self.clients.read(ConnId(id), &mut self.buffer, now);
        while self.clients.has_unread() {
            self.clients.read_more(&mut self.buffer, now);
        }
        self.turn(now);
    }

    /// All that is due at `now`.
    fn turn(&mut self, now: Instant) {
        self.clients.flush(now);
        while self.clients.next_deadline().is_some_and(|due| due <= now) {
            self.clients.tick(now);
            self.clients.flush(now);
        }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn got(&self, id: usize) -> Vec<u8> {
        self.wires[id].0.borrow().got.clone()
    }

    fn status(&self, id: usize) -> String {
        String::from_utf8_lossy(self.got(id).get(9..12).unwrap_or_default()).into_owned()
    }

    /// Each client answers the pings that it was given.
    fn answer_pings(&mut self, now: Instant) {
        for id in 0..self.wires.len() {
            let has_ping = std::mem::take(&mut self.wires[id].0.borrow_mut().got).ends_with(b"\x89\0");
            if has_ping {
                self.send(id, now, &frame(0x8a, b""));
            }
        }
    }

    /// A turn of the loop at this time of the world: what the server makes of it is returned.
    fn wake(&mut self, real: Instant) -> Instant {
        let (now, away) = self.presence.wake(real);
        if !away.is_zero() {
            self.clients.come_back(away, now);
        }
        self.turn(now);
        now
    }

    fn sleep(&mut self, real: Instant, now: Instant) {
        let timeout = self.clients.next_deadline().map(|due| due.saturating_duration_since(now));
        self.presence.sleep(real, timeout);
    }
}

#[test]
fn a_server_that_was_away_takes_it_for_nobodys_silence() {
    // Whenever it begins, and however long it lasts.
    for (begins, lasts) in [(49, 37), (24, 26), (26, 61), (30, 3600), (59, 24)] {
        let mut world = ClientsInMemory::new(Limits::default());
        let start = world.start;
        let ids: Vec<usize> = (0..20).map(|number| world.user(start, &format!("user{number}"))).collect();
        let mut real = start;
        let mut now = start;
        for second in 1..=begins {
            world.sleep(real, now);
            real = world.at(second);
            now = world.wake(real);
            world.answer_pings(now);
        }
        let half = world.client(now, b"GET /ws?username=half HTTP/1.1\r\n");
        world.sleep(real, now);
        real = world.at(begins + lasts);
        now = world.wake(real);
        for second in 1..=120 {
            // The answers come late, for all was lost on the way in the meantime.
            if second >= 8 {
                world.answer_pings(now);
            }
            if second == 8 {
                world.send(half, now, upgrade("half").split_once("\r\n").unwrap().1.as_bytes());
                assert_eq!(world.status(half), "101", "{begins} s + {lasts} s");
            }
            world.sleep(real, now);
            real = world.at(begins + lasts + second);
            now = world.wake(real);
        }
        assert_eq!(world.clients.hub().online(), ids.len() + 1, "{begins} s + {lasts} s");
    }
}

#[test]
fn who_is_silent_is_cut_all_the_same() {
    let mut world = ClientsInMemory::new(Limits::default());
    let id = world.user(world.start, "dead");
    for seconds in 1..=60 {
        assert_eq!(close_code(&world.got(id)), None, "{seconds} s");
        world.turn(world.at(seconds));
    }
    assert_eq!(close_code(&world.got(id)), Some(1008));
}

#[test]
fn who_does_not_go_on_with_what_the_server_holds_for_them_is_cut() {
    let mut world = ClientsInMemory::new(Limits::default());
    let start = world.start;
    let [slow, steady, deaf, sender] = ["slow", "steady", "deaf", "sender"].map(|name| world.user(start, name));
    let message = frame(0x81, &vec![b'x'; 60_000]);
    world.send(slow, start, &message[..100]);
    world.send(steady, start, &message[..100]);
    world.wires[deaf].0.borrow_mut().is_deaf = true;
    world.send(sender, start, &frame(0x81, br#"{"type":"signal:ice","target":"deaf"}"#));
    for seconds in 1..=70 {
        let now = world.at(seconds);
        world.turn(now);
        if seconds % 10 == 0 {
            // A sign of life is no progress.
            world.send(slow, now, &message[100..101]);
            world.send(deaf, now, &frame(0x8a, b""));
            world.send(steady, now, &message[100..1600]);
            world.send(sender, now, &frame(0x8a, b""));
        }
        let codes = [slow, steady, sender].map(|id| close_code(&world.got(id)));
        assert_eq!(codes, [(seconds >= 30).then_some(1008), None, None], "{seconds} s");
        assert_eq!(world.wires[deaf].0.borrow().is_reset, seconds >= 33, "{seconds} s: a close frame, and 3 s for it");
    }
    assert_eq!(world.clients.hub().online(), 2);
}

#[test]
fn beyond_the_budget_the_furthest_behind_goes_and_nobody_else() {
    let mut world = ClientsInMemory::new(Limits { held_bytes: 200_000, ..Limits::default() });
    let start = world.start;
    let honest = world.user(start, "honest");
    let small = frame(0x81, br#"{"type":"session:create"}"#);
    world.send(honest, start, &small[..10]);
    let fragment = frame(0x01, &vec![b'x'; 60_000]);
    let ids: Vec<usize> = (0..10).map(|number| world.user(start, &format!("hoarder{number}"))).collect();
    for (number, id) in ids.iter().enumerate() {
        world.send(*id, world.at(number as u64), &fragment);
    }
    let cut: Vec<bool> = ids.iter().map(|id| close_code(&world.got(*id)) == Some(1008)).collect();
    assert_eq!(cut, [true, true, true, true, true, true, true, true, false, false], "the oldest first");
    world.send(honest, world.at(10), &small[10..]);
    assert!(String::from_utf8_lossy(&world.got(honest)).contains("session:created"));
    // Who does not take what waits is not told why.
    world.wires[honest].0.borrow_mut().is_deaf = true;
    for _ in 0..5 {
        let payload = "x".repeat(50_000);
        let message = format!(r#"{{"type":"signal:ice","target":"honest","payload":"{payload}"}}"#);
        let sender = world.user(world.at(11), "sender");
        world.send(sender, world.at(11), &text_frame(&message));
    }
    assert!(world.wires[honest].0.borrow().is_reset);
}

#[test]
fn a_probe_is_answered_however_full_it_is_and_takes_nobodys_place() {
    const PROBE: &[u8] = b"GET /health HTTP/1.1\r\n\r\n";
    let slow = Some(Rate { amount: 1, per: Duration::from_secs(1), burst: 20 });
    let limits = Limits { clients: 900, clients_per_address: Some(8), arrivals: slow, ..Limits::default() };
    let mut world = ClientsInMemory::new(limits);
    let now = world.start;
    for number in 0..500 {
        let probe = world.client(now, PROBE);
        assert_eq!(world.status(probe), "200", "{number}");
    }
    for number in 0..8 {
        // A probe that has not said all yet stands beside each of them.
        world.client(now, b"GET /health HTTP/1.1\r\n");
        world.user(now, &format!("user{number}"));
    }
    let probe = world.client(now, PROBE);
    let ninth = world.client(now, upgrade("ninth").as_bytes());
    assert_eq!([world.status(probe), world.status(ninth)], ["200", "429"]);
    let silent: Vec<usize> = (0..400).map(|_| world.client(now, b"")).collect();
    assert_eq!(world.status(world.wires.len() - 400), "429", "only so many wait beyond what may be");
    let probe = world.client(now, PROBE);
    assert_eq!((world.status(probe), world.status(silent[399])), ("200".to_owned(), String::new()));
    let mut world = ClientsInMemory::new(Limits { clients: 2, ..Limits::default() });
    world.user(now, "one");
    world.user(now, "two");
    let [probe, third] = [PROBE.to_vec(), upgrade("three").into_bytes()].map(|head| world.client(now, &head));
    assert_eq!([world.status(probe), world.status(third)], ["200", "503"]);
}
