//! The time of single calls: `make micro`. What they cost together, with the system calls, is in `make bench`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use crypto_box::aead::{Aead, AeadCore, OsRng};
use crypto_box::{SalsaBox, SecretKey};
use lowkey::peer::cipher::{Cipher, TextFormat};
use lowkey::peer::guard::Guard;
use lowkey::peer::keys::{KeyPair, PublicKey};
use lowkey::protocol::Envelope;
use lowkey::server::access::Access;
use lowkey::server::connection::{Buffers, Connection, Event};
use lowkey::server::http::Endpoints;
use lowkey::server::hub::{ConnId, Hub, Output};
use lowkey::server::limits::Limits;
use lowkey::server::plain::Plain;
use uuid::Uuid;

fn message(size: usize) -> String {
    let text = |filling: usize| {
        let filling = "x".repeat(filling);
        format!(r#"{{"type":"signal:ice","target":"bob","payload":"{filling}"}}"#)
    };
    text(size - text(0).len())
}

fn envelope(bench: &mut Criterion) {
    for size in [200, 2500] {
        let text = message(size);
        bench.bench_function(&format!("envelope: parse {size} B"), |bench| {
            bench.iter(|| Envelope::parse(black_box(&text)).unwrap())
        });
        bench.bench_function(&format!("plain: read {size} B"), |bench| {
            bench.iter(|| Plain::read(black_box(&text)).unwrap())
        });
    }
}

fn hub(bench: &mut Criterion) {
    for (name, limits) in [("limits off", Limits::default().without_rates()), ("limits on", Limits::default())] {
        let mut now = Instant::now();
        let mut hub = Hub::new(Duration::from_secs(600), limits, Uuid::new_v4);
        for (number, name) in ["alice", "bob"].iter().enumerate() {
            hub.connect(ConnId(number), name, None, now).unwrap();
        }
        let text = message(200);
        let mut output = Vec::new();
        bench.bench_function(&format!("hub: forward 200 B, {name}"), |bench| {
            bench.iter(|| {
                // A message every 10 ms is within all rates.
                now += Duration::from_millis(10);
                hub.receive_bytes(ConnId(0), text.len(), now);
                for forwarded in hub.receive(ConnId(0), black_box(&text), now) {
                    let Output::Forward { message, .. } = forwarded else { panic!("{forwarded:?}") };
                    output.clear();
                    message.write(&mut output);
                    hub.queued(&message);
                }
            })
        });
    }
}

fn connection(bench: &mut Criterion) {
    let (limits, access) = (Limits::default(), Access::default());
    let mut connection = Connection::new(Endpoints { users: true, metrics: false });
    let mut head = b"GET /ws?username=bob HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    let mut spare = Buffers::default();
    assert!(matches!(connection.receive(&mut &mut head[..], &limits, &access), Some(Event::Upgrade(_))));
    connection.accept(false);
    connection.sent(connection.output().len(), &mut spare);
    for size in [200, 2500] {
        let text = message(size);
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend((size as u16).to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        bench.bench_function(&format!("connection: receive a text of {size} B"), |bench| {
            bench.iter(|| {
                let mut input = &mut frame[..];
                let event = connection.receive(&mut input, &limits, &access);
                assert!(matches!(black_box(event), Some(Event::Text(_))));
            })
        });
        bench.bench_function(&format!("connection: send a text of {size} B"), |bench| {
            bench.iter(|| {
                connection.send(&mut spare, |output| output.extend_from_slice(text.as_bytes()));
                connection.sent(connection.output().len(), &mut spare);
            })
        });
    }
}

fn cipher(bench: &mut Criterion) {
    let peer = SecretKey::generate(&mut OsRng);
    let peer_key = PublicKey::from_bytes(*peer.public_key().as_bytes()).unwrap();
    let fresh = || Cipher::new(KeyPair::generate(), peer_key, TextFormat::V1).unwrap();
    let mut cipher = fresh();
    let text = "x".repeat(200);
    bench.bench_function("cipher: seal 200 B", |bench| {
        bench.iter(|| {
            // A session takes a million texts.
            if cipher.seal(black_box(&text)).is_err() {
                cipher = fresh();
            }
        })
    });
    let plain = SalsaBox::new(&peer.public_key(), &SecretKey::generate(&mut OsRng));
    bench.bench_function("crypto_box alone: seal 200 B", |bench| {
        bench.iter(|| plain.encrypt(&SalsaBox::generate_nonce(&mut OsRng), black_box(text.as_bytes())).unwrap())
    });
}

/// What the guard costs a chat text: the packet that brings it, the one that acknowledges it, and the look at what was
/// taken.
fn guard(bench: &mut Criterion) {
    let chunk = |kind: u8, flags: u8, value: &[u8]| {
        [&[kind, flags], &((value.len() + 4) as u16).to_be_bytes()[..], value].concat()
    };
    let packet = |tag: u32, chunk: &[u8]| {
        let mut packet = [&[0x13, 0x88, 0x13, 0x88][..], &tag.to_be_bytes(), &[0; 4], chunk].concat();
        packet.resize(packet.len().next_multiple_of(4), 0);
        packet
    };
    let mut guard = Guard::default();
    let opening = [&[0, 0, 0, 7, 0, 16, 0, 0, 0xff, 0xff, 0xff, 0xff][..], &1_u32.to_be_bytes()].concat();
    guard.receive(&packet(0, &chunk(1, 0, &opening))).unwrap();
    let mut number = 0_u32;
    let mut text = packet(9, &chunk(0, 3, &[0; 12 + 200]));
    text[24 + 3] = 51;
    let mut acknowledgement = packet(7, &chunk(3, 0, &[0; 12]));
    bench.bench_function("guard: a text of 200 B", |bench| {
        bench.iter(|| {
            number = number.wrapping_add(1);
            text[16..20].copy_from_slice(&number.to_be_bytes());
            text[22..24].copy_from_slice(&(number.wrapping_sub(1) as u16).to_be_bytes());
            guard.taken(u64::from(number));
            guard.receive(black_box(&text)).unwrap();
            acknowledgement[16..20].copy_from_slice(&number.to_be_bytes());
            guard.send(black_box(&acknowledgement));
        })
    });
}

criterion_group!(benches, envelope, hub, connection, cipher, guard);
criterion_main!(benches);
