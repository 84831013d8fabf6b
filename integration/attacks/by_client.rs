//! Hostile clients on real sockets: floods, names, and more of them than there is room for. After each, a fresh pair
//! still gets through, and no connection, name or memory is left over.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::attacked_server::AttackedServer;
use crate::websocket::{close_code, frame, rest, text_frame, upgrade};
use crate::world::{Client, Program, Server, until};

/// Goal: take the server's time from others by a flood of messages.
#[test]
fn floods_are_held_by_the_buckets_and_nobody_is_closed_for_one() {
    let attacked = AttackedServer::new(&[]);
    let text = frame(0x81, br#"{"type":"signal:ice","target":"flooder","payload":1}"#);
    // Not to oneself: who reads late for a moment would be too far behind.
    let long = json!({"type": "session:create", "payload": "x".repeat(60_000)}).to_string();
    let big = text_frame(&long);
    let calls = frame(0x81, br#"{"type":"session:create"}"#);
    for (name, bytes, count) in
        [("pings", frame(0x89, b"ping"), 20_000), ("texts", text, 20_000), ("bytes", big, 200), ("calls", calls, 200)]
    {
        let mut stream = attacked.upgraded("flooder");
        let mut reader = stream.try_clone().unwrap();
        // What is answered is read all the while, so that only the flood is at fault.
        let reading = std::thread::spawn(move || rest(&mut reader));
        for _ in 0..count {
            stream.write_all(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        stream.write_all(&frame(0x88, &1000u16.to_be_bytes())).unwrap();
        let answer = reading.join().unwrap();
        let limited = answer.windows(12).filter(|window| window == b"RATE_LIMITED").count();
        // Under load a flood takes some seconds, in which it is told so again.
        assert!((1..10_000).contains(&limited), "{name}: {limited} answers");
        assert_eq!(close_code(&answer), Some(1000), "{name}: it was there to the end");
    }
    attacked.is_well();
}

/// Goal: take the server's time by messages that can be right for nobody.
#[test]
fn fifty_messages_that_mean_nothing_are_closed() {
    let attacked = AttackedServer::new(&[]);
    let mut stream = attacked.upgraded("babbler");
    // In one piece, so that no strike fades between them.
    stream.write_all(&frame(0x81, b"garbage").repeat(50)).unwrap();
    let answer = rest(&mut stream);
    assert_eq!(close_code(&answer), Some(1008));
    assert_eq!(answer.windows(15).filter(|window| window == b"INVALID_MESSAGE").count(), 50);
    attacked.is_well();
}

/// Goal: take the name of somebody who holds it with a secret.
#[test]
fn a_name_with_a_token_is_not_given_away() {
    let attacked = AttackedServer::new(&[]);
    let connect = |query: &str| Client::try_connect(attacked.address(), &format!("/ws?username=owner{query}"));
    let owner = connect("&token=mine").unwrap();
    for query in ["", "&token=yours"] {
        assert!(connect(query).err().unwrap().to_string().contains("409"), "{query}");
    }
    // Lost without a good-bye: the name is kept for whoever has the token.
    drop(owner);
    assert!(connect("").err().unwrap().to_string().contains("409"));
    let mut back = connect("&token=mine").unwrap();
    let mut other = connect("&token=mine").unwrap();
    assert_eq!(back.close_frame().reason.as_str(), "replaced by new connection");
    // Left with a good-bye: the name is free.
    other.socket.close(None).unwrap();
    other.end();
    connect("").unwrap();
    attacked.is_well();
}

/// Goal: have a name twice by asking for it twice in the same moment.
#[test]
fn the_same_name_twice_in_one_batch_of_events_has_one_holder() {
    let attacked = AttackedServer::new(&[]);
    for _ in 0..20 {
        // All three stand before the server when it looks again.
        attacked.server.program.signal("STOP");
        let mut streams = [attacked.raw(), attacked.raw(), attacked.raw()];
        for stream in &mut streams {
            stream.write_all(upgrade("twin").as_bytes()).unwrap();
        }
        attacked.server.program.signal("CONT");
        for stream in &streams {
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        }
        let mut seen = [const { Vec::new() }; 3];
        until("all but one are replaced", || {
            for (stream, seen) in streams.iter_mut().zip(&mut seen) {
                let mut buffer = [0; 1024];
                let length = stream.read(&mut buffer).unwrap_or_default();
                seen.extend_from_slice(&buffer[..length]);
            }
            let replaced = seen.iter().filter(|seen| close_code(seen) == Some(1001));
            (replaced.count() == 2).then_some(())
        });
    }
    attacked.is_well();
}

/// Goal: hold a connection on after somebody else has the name.
#[test]
fn who_is_replaced_and_answers_the_close_is_let_go_at_once() {
    let attacked = AttackedServer::new(&[]);
    let mut replaced = attacked.server.client("twice");
    let _successor = attacked.server.client("twice");
    let started = Instant::now();
    assert_eq!(u16::from(replaced.close_frame().code), 1001);
    replaced.end();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    attacked.is_well();
}

/// Goal: come in under a name, or with a token, that does harm elsewhere.
#[test]
fn names_and_tokens_have_their_bounds() {
    let attacked = AttackedServer::new(&[]);
    let status = |query: &str| match Client::try_connect(attacked.address(), &format!("/ws?{query}")) {
        Ok(_) => "101".to_owned(),
        Err(error) => error.to_string(),
    };
    for (query, expected) in [
        (format!("username={}", "x".repeat(64)), "101"),
        (format!("username={}", "x".repeat(65)), "400"),
        ("username=".to_owned(), "400"),
        ("username=a%0ab".to_owned(), "400"),
        ("username=a%C2%85b".to_owned(), "400"),
        (format!("username=a&token={}", "x".repeat(128)), "101"),
        (format!("username=a&token={}", "x".repeat(129)), "400"),
    ] {
        assert!(status(&query).contains(expected), "{query}: {}", status(&query));
    }
    attacked.is_well();
}

/// Goal: escape the bounds of a client by being a new one each time.
#[test]
fn who_comes_again_and_again_from_one_address_is_slowed_down() {
    let attacked = AttackedServer::new(&[]);
    let come = || {
        let mut stream = attacked.raw();
        stream.write_all(upgrade("comer").replace("Host: x", "X-Forwarded-For: 192.0.2.7").as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        String::from_utf8_lossy(&status[9..]).into_owned()
    };
    let started = Instant::now();
    let let_in = (0..5000).take_while(|_| come() == "101").count();
    let most = 512 + 5 * (started.elapsed().as_secs() as usize + 1);
    assert!((512..=most).contains(&let_in), "{let_in} were let in");
    attacked.is_well();
}

/// Goal: find out who is online by asking for many names.
#[test]
fn who_asks_for_names_over_many_connections_of_one_address_is_slowed_down() {
    let attacked = AttackedServer::new(&[]);
    let started = Instant::now();
    let ask = |names: Vec<String>| {
        let mut stream = attacked.raw();
        let mut bytes = upgrade("prober").replace("Host: x", "X-Forwarded-For: 192.0.2.8").into_bytes();
        for name in names {
            bytes.extend(text_frame(&format!(r#"{{"type":"session:connect","target":"{name}"}}"#)));
        }
        bytes.extend(frame(0x88, &1000u16.to_be_bytes()));
        stream.write_all(&bytes).unwrap();
        String::from_utf8_lossy(&rest(&mut stream)).into_owned()
    };
    let answers: Vec<String> =
        (0..40).map(|round| ask((0..60).map(|number| format!("name{round}-{number}")).collect())).collect();
    let told: usize = answers.iter().map(|answer| answer.matches("USER_OFFLINE").count()).sum();
    let most = 600 + 10 * (started.elapsed().as_secs() as usize + 1);
    assert!((600..=most).contains(&told), "{told} names were asked for");
    attacked.is_well();
}

/// Goal: take the server's time with fragments that cost no bytes.
#[test]
fn a_flood_of_empty_fragments_is_closed() {
    let attacked = AttackedServer::new(&[]);
    let mut stream = attacked.upgraded("stutterer");
    stream.write_all(&[frame(0x01, b""), frame(0x00, b"").repeat(1000)].concat()).unwrap();
    assert_eq!(close_code(&rest(&mut stream)), Some(1008));
    attacked.is_well();
}

/// Goal: take all places, so that nobody else comes in.
#[test]
fn clients_are_bounded_in_all_and_by_address() {
    let attacked = AttackedServer::new(&[("MAX_CLIENTS", "3")]);
    let status = |stream: &mut TcpStream| {
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        String::from_utf8_lossy(&status[9..]).into_owned()
    };
    until("the fresh pair has gone", || {
        let mut three: Vec<TcpStream> = (0..3).map(|_| attacked.raw()).collect();
        let mut fourth = attacked.raw();
        fourth.write_all(upgrade("fourth").as_bytes()).unwrap();
        three.clear();
        (status(&mut fourth) == "503").then_some(())
    });
    let attacked = AttackedServer::new(&[("MAX_CLIENTS_PER_ADDRESS", "2")]);
    let from = |address: &str| {
        let mut stream = attacked.raw();
        let head = upgrade("someone").replace("Host: x", &format!("X-Forwarded-For: 203.0.113.99, {address}"));
        stream.write_all(head.as_bytes()).unwrap();
        (status(&mut stream), stream)
    };
    let first = from("192.0.2.1");
    let kept = [from("192.0.2.1"), from("2001:db8::1"), from("2001:db8::2")];
    assert_eq!(from("192.0.2.1").0, "429");
    assert_eq!(from("2001:db8::3").0, "429", "one /64");
    assert_eq!((first.0.as_str(), kept.each_ref().map(|kept| kept.0.as_str())), ("101", ["101"; 3]));
    drop(first);
    until("there is room again", || (from("192.0.2.1").0 == "101").then_some(()));
    // This machine itself is not capped.
    let many: Vec<Client> = (0..10).map(|number| attacked.server.client(&format!("local{number}"))).collect();
    assert_eq!(many.len(), 10);
}

/// Goal: come into a private server without its token.
#[test]
fn a_private_server_lets_in_who_knows_the_token() {
    let server = Server::start_with(&[("ACCESS_TOKEN", "open-sesame")]);
    let refused = Client::try_connect(&server.address, "/ws?username=alice").err().unwrap();
    assert!(refused.to_string().contains("401"), "{refused}");
    Client::try_connect(&server.address, "/ws?username=alice&access_token=open-sesame").unwrap();
    let url = server.url();
    let arguments = ["--server", &*url, "--name", "robot"];
    let mut stranger = Program::start("lowkey-bot", &arguments, &[]);
    assert!(stranger.stderr.find("offline: ").contains("does not know the access token"));
    let mut bot = Program::start("lowkey-bot", &arguments, &[("LOWKEY_ACCESS_TOKEN", "open-sesame")]);
    bot.stderr.find("online as robot");
    let folder = crate::world::Folder::new("access-token");
    let file = folder.0.join("token");
    std::fs::write(&file, "open-sesame\n").unwrap();
    let mut chat = Program::start(
        "lowkey",
        &["--server", &url, "--name", "alice", "robot"],
        &[("LOWKEY_ACCESS_TOKEN_FILE", file.to_str().unwrap())],
    );
    chat.write("hello");
    assert_eq!(chat.stdout.next(), "robot: hello");
}

/// Goal: learn who is online from what the server tells its operator.
#[test]
fn metrics_and_status_are_told_without_names() {
    let mut attacked = AttackedServer::new(&[("METRICS", "loopback")]);
    attacked.fresh_pair();
    let ask = |headers: &str| {
        let mut stream = attacked.raw();
        stream.write_all(format!("GET /metrics HTTP/1.1\r\n{headers}\r\n").as_bytes()).unwrap();
        String::from_utf8(rest(&mut stream)).unwrap()
    };
    let metrics = ask("Host: localhost\r\n");
    assert!(metrics.contains("\nlowkey_relays_total{type=\"signal:ice\"} 2\n"), "{metrics}");
    assert!(!metrics.contains("fresh"), "{metrics}");
    assert!(ask("X-Forwarded-For: 192.0.2.1\r\n").starts_with("HTTP/1.1 404 "));
    assert!(ask("Host: a.page.example\r\n").starts_with("HTTP/1.1 404 "));
    let server = &mut attacked.server;
    server.program.signal("USR1");
    let line = server.program.stderr.find("lowkey-server ");
    assert!(line.contains(env!("CARGO_PKG_VERSION")) && line.contains("connections"), "{line}");
    // At an address of their own, users are not served.
    let mut program = Program::start(
        "lowkey-server",
        &[],
        &[("HOST", "127.0.0.1"), ("PORT", "0"), ("METRICS", "127.0.0.1:0"), ("RUST_LOG", "info")],
    );
    let own = program.stderr.find("metrics at ").split_once("metrics at ").unwrap().1.to_owned();
    let address = program.stderr.find("listening on ").split_once("listening on ").unwrap().1.to_owned();
    let server = Server::of(program, address);
    assert!(Client::try_connect(&own, "/ws?username=alice").is_err());
    let mut stream = TcpStream::connect(&own).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(rest(&mut stream).starts_with(b"HTTP/1.1 200 OK\r\n"));
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(rest(&mut stream).starts_with(b"HTTP/1.1 404 "));
}

/// Goal: leave something behind on the server each time, until it is full.
#[test]
fn five_thousand_clients_come_and_go() {
    let attacked = AttackedServer::new(&[]);
    let mut clients: Vec<TcpStream> = Vec::new();
    for number in 0..5000 {
        clients.push(attacked.upgraded(&format!("client{number}")));
    }
    attacked.fresh_pair();
    drop(clients);
    attacked.is_well();
}

/// Goal: take all descriptors of the server.
#[test]
fn without_descriptors_it_neither_dies_nor_spins_nor_goes_deaf() {
    let mut program = Program::with_descriptors(64);
    let line = program.stderr.find("listening on ");
    let address = line.split_once("listening on ").unwrap().1.to_owned();
    let mut attacked = AttackedServer { server: Server::of(program, address), resident: 0 };
    let callers: Vec<TcpStream> = (0..200).map(|_| attacked.raw()).collect();
    attacked.server.program.stderr.find("newcomers are turned away");
    let before = attacked.server.program.cpu_time();
    let pause = Instant::now();
    until("a second has passed", || (pause.elapsed() > Duration::from_secs(1)).then_some(()));
    let spent = attacked.server.program.cpu_time() - before;
    assert!(spent < Duration::from_millis(500), "spins: {spent:?} in a second");
    drop(callers);
    until("it serves again", || Client::try_connect(attacked.address(), "/ws?username=again").ok());
    attacked.fresh_pair();
}

/// Goal: keep the server from its end by being many who do not answer.
#[test]
fn a_signal_ends_a_server_with_a_thousand_clients_in_time() {
    let mut attacked = AttackedServer::new(&[]);
    let mut clients: Vec<TcpStream> = (0..1000).map(|number| attacked.upgraded(&format!("client{number}"))).collect();
    attacked.server.program.signal("TERM");
    let started = Instant::now();
    assert_eq!(attacked.server.program.wait().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    for client in &mut clients {
        assert_eq!(close_code(&rest(client)), Some(1001));
    }
    let mut attacked = AttackedServer::new(&[]);
    let _client = attacked.upgraded("stubborn");
    let started = Instant::now();
    attacked.server.program.signal("TERM");
    attacked.server.program.stderr.find("stopping");
    attacked.server.program.signal("TERM");
    attacked.server.program.wait();
    assert!(started.elapsed() < Duration::from_secs(2), "a second signal ends it at once");
}

/// Goal: hold up others by sending as fast as can be.
#[test]
fn one_that_sends_as_fast_as_it_can_does_not_hold_up_others() {
    let attacked = AttackedServer::new(&[("RATE_LIMITS", "off")]);
    let mut flooder = attacked.upgraded("flooder");
    let mut drain = flooder.try_clone().unwrap();
    std::thread::spawn(move || std::io::copy(&mut drain, &mut std::io::sink()));
    let burst = frame(0x81, br#"{"type":"signal:ice","target":"flooder","payload":1}"#).repeat(500);
    std::thread::spawn(move || while flooder.write_all(&burst).is_ok() {});
    let (mut alice, mut bob) = (attacked.server.client("alice"), attacked.server.client("bob"));
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            let started = Instant::now();
            alice.send(r#"{"type":"signal:ice","target":"bob","payload":1}"#);
            bob.text();
            started.elapsed()
        })
        .collect();
    times.sort();
    // Generous, for a debug build on a busy machine: a server that let one client go on would take seconds.
    assert!(times[297] < Duration::from_millis(100), "p99 {:?}", times[297]);
    drop((alice, bob));
}
