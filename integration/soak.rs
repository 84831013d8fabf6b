//! Thousands of clients that come, chat, stall and vanish at random from a seed: `make soak MINUTES=5`. At the end no
//! connection, session, descriptor or memory is left over.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::json;

use crate::world::{Client, SOON, Server, until};

#[test]
#[ignore = "a run of its own: make soak"]
fn whatever_clients_do_nothing_is_left_over() {
    let minutes: f64 = std::env::var("SOAK_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let seed: u64 = std::env::var("SOAK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("SOAK_SEED={seed}");
    let server = Server::start_with(&[("SESSION_TTL", "2s"), ("METRICS", "loopback"), ("PING_INTERVAL", "1s")]);
    crowd(&server.address, seed, Instant::now() + Duration::from_secs(5));
    settle(&server);
    let (descriptors, resident) = (server.program.descriptors(), server.program.resident_kilobytes());
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let crowds: Vec<_> = (0..4)
        .map(|number| {
            let address = server.address.clone();
            thread::spawn(move || crowd(&address, seed + number, end))
        })
        .collect();
    let count: usize = crowds.into_iter().map(|crowd| crowd.join().unwrap()).sum();
    settle(&server);
    // Names with a token are kept for a minute.
    let kept = Instant::now();
    while !metrics(&server).contains("\nlowkey_names 0\n") {
        assert!(kept.elapsed() < SOON * 4, "{}", metrics(&server));
        thread::sleep(Duration::from_millis(100));
    }
    println!("{count} clients have come and gone\n{}", metrics(&server));
    // The first count may have seen the end of a connection that had asked for the metrics.
    let left = server.program.descriptors();
    assert!(left <= descriptors, "{left} descriptors after {descriptors}");
    let grown = server.program.resident_kilobytes().saturating_sub(resident);
    assert!(grown < 16 * 1024, "{grown} KiB more than after the first crowd");
}

/// Waits until nobody is there and nothing is kept.
fn settle(server: &Server) {
    let gone = ["lowkey_connections 1", "lowkey_users 0", "lowkey_sessions 0"];
    let deadline = Instant::now() + SOON * 4;
    loop {
        let metrics = metrics(server);
        if gone.iter().all(|line| metrics.lines().any(|other| other == *line)) {
            return;
        }
        assert!(Instant::now() < deadline, "{metrics}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn metrics(server: &Server) -> String {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Up to 500 clients at a time, until `end`; how many there were in all.
pub fn crowd(address: &str, seed: u64, end: Instant) -> usize {
    let mut random = Rng::with_seed(seed);
    let mut clients: Vec<Client> = Vec::new();
    let mut raw: Vec<TcpStream> = Vec::new();
    let mut count = 0;
    while Instant::now() < end {
        match random.usize(..12) {
            0..=3 if clients.len() < 500 => {
                count += 1;
                let target = format!("/ws?username=user{}&token={}", random.usize(..2000), random.usize(..3));
                // The name may be somebody's who has another token.
                if let Ok(client) = Client::try_connect(address, &target) {
                    client.socket.get_ref().set_read_timeout(Some(Duration::from_micros(1))).unwrap();
                    clients.push(client);
                }
            }
            // Vanishes, with or without a word.
            4 if !clients.is_empty() => {
                let mut client = clients.swap_remove(random.usize(..clients.len()));
                if random.usize(..2) == 0 {
                    let _ = client.socket.close(None);
                }
            }
            // Never gets as far as a frame, or breaks the rules.
            5 => {
                count += 1;
                // A server that was killed is back soon.
                let Ok(mut stream) = TcpStream::connect(address) else { continue };
                let _ = stream.write_all(
                    random.choice([b"".as_slice(), b"GET /w", b"\x16\x03", b"GET /health HTTP/1.1\r\n\r\n"]).unwrap(),
                );
                raw.push(stream);
                if raw.len() > 50 {
                    raw.swap_remove(random.usize(..50));
                }
            }
            6 if !clients.is_empty() => {
                let place = random.usize(..clients.len());
                let _ = clients[place].socket.get_mut().write_all(&[0xff; 32]);
            }
            // Talks, and may not read what comes back.
            _ if !clients.is_empty() => {
                let place = random.usize(..clients.len());
                let target = format!("user{}", random.usize(..2000));
                let kind = random
                    .choice(["session:connect", "session:create", "signal:ice", "key:exchange", "dance"])
                    .unwrap();
                let size = random.choice([10, 100, 3000, 60_000]).unwrap();
                let text = json!({"type": kind, "target": target, "payload": "x".repeat(size)}).to_string();
                let is_gone = clients[place].socket.send(tungstenite::Message::text(text)).is_err();
                if is_gone || random.usize(..3) > 0 && reads_to_its_end(&mut clients[place]) {
                    clients.swap_remove(place);
                }
            }
            _ => {}
        }
    }
    count
}

/// Reads what there is; whether the connection has ended.
fn reads_to_its_end(client: &mut Client) -> bool {
    loop {
        match client.socket.read() {
            Ok(_) => {}
            Err(tungstenite::Error::Io(error)) => return error.kind() != std::io::ErrorKind::WouldBlock,
            Err(_) => return true,
        }
    }
}

#[test]
fn a_short_soak_leaves_nothing_over() {
    let server = Server::start_with(&[("SESSION_TTL", "500ms"), ("METRICS", "loopback"), ("PING_INTERVAL", "200ms")]);
    let count = crowd(&server.address, 7, Instant::now() + Duration::from_secs(2));
    assert!(count > 100, "{count} clients");
    settle(&server);
    until("only the server's own descriptors are left", || (server.program.descriptors() < 16).then_some(()));
}
