//! Ordinary days of a server: it is stopped and goes on, it is probed while it is full, its secrets change, it is
//! restarted.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tungstenite::Message;

use crate::websocket::{frame, rest, text_frame, upgrade};
use crate::world::{Client, Folder, Program, SOON, Server, until};

fn raw(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

fn ask(address: &str, path: &str) -> String {
    let mut stream = raw(address, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    String::from_utf8(rest(&mut stream)).unwrap()
}

#[test]
fn a_server_that_was_stopped_for_a_while_cuts_nobody() {
    let server = Server::start_with(&[("PING_INTERVAL", "500ms")]);
    let mut clients: Vec<Client> = (0..20).map(|number| server.client(&format!("user{number}"))).collect();
    let pings: Vec<AtomicUsize> = clients.iter().map(|_| AtomicUsize::new(0)).collect();
    let is_over = AtomicBool::new(false);
    let wait_for_pings = || {
        let before: Vec<usize> = pings.iter().map(|pings| pings.load(Ordering::Relaxed)).collect();
        until("everybody has had three more pings", || {
            pings.iter().zip(&before).all(|(pings, before)| pings.load(Ordering::Relaxed) >= before + 3).then_some(())
        });
    };
    std::thread::scope(|scope| {
        for (client, pings) in clients.iter_mut().zip(&pings) {
            client.socket.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    match client.socket.read() {
                        Ok(Message::Ping(_)) => _ = pings.fetch_add(1, Ordering::Relaxed),
                        Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
                        // It is missed when the pings are counted.
                        _ => return,
                    }
                    let _ = client.socket.flush();
                }
            });
        }
        wait_for_pings();
        for _ in 0..3 {
            server.program.signal("STOP");
            let stopped = Instant::now();
            until("it was away for longer than anybody may be silent", || {
                (stopped.elapsed() > Duration::from_millis(2500)).then_some(())
            });
            server.program.signal("CONT");
            wait_for_pings();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn probes_are_answered_while_the_server_is_full() {
    let variables = [("HOST", "127.0.0.1"), ("PORT", "0"), ("METRICS", "127.0.0.1:0"), ("MAX_CLIENTS", "2")];
    let mut program = Program::start("lowkey-server", &[], &variables);
    let own = program.stderr.find("metrics at ").split_once("metrics at ").unwrap().1.to_owned();
    let address = program.stderr.find("listening on ").split_once("listening on ").unwrap().1.to_owned();
    let server = Server::of(program, address);
    let _users = [server.client("one"), server.client("two")];
    let probe = || {
        assert!(ask(&server.address, "/health").starts_with("HTTP/1.1 200 "));
        assert!(ask(&own, "/health").starts_with("HTTP/1.1 200 "));
        assert!(ask(&own, "/metrics").contains("\nlowkey_users 2\n"));
    };
    probe();
    assert!(Client::try_connect(&server.address, "/ws?username=three").err().unwrap().to_string().contains("503"));
    let _silent: Vec<TcpStream> = (0..600).map(|_| raw(&server.address, b"")).collect();
    probe();
    let _silent: Vec<TcpStream> = (0..600).map(|_| raw(&own, b"GET /health")).collect();
    probe();
}

#[test]
fn who_trickles_candidates_to_somebody_who_has_left_stays() {
    let server = Server::start();
    let (mut alice, bob) = (server.client("alice"), server.client("bob"));
    alice.send(r#"{"type":"session:connect","target":"bob"}"#);
    assert_eq!(alice.json()["type"], "session:joined");
    drop(bob);
    until("bob is gone", || {
        alice.send(r#"{"type":"session:connect","target":"bob"}"#);
        (alice.json()["payload"]["code"] == "USER_OFFLINE").then_some(())
    });
    for _ in 0..200 {
        alice.send(r#"{"type":"signal:ice","target":"bob","payload":{"candidate":"x"}}"#);
        assert_eq!(alice.json()["payload"]["code"], "RELAY_FAILED");
    }
    let mut codes = (0..200).map(|number| {
        alice.send(format!(r#"{{"type":"signal:ice","target":"name{number}"}}"#));
        alice.json()["payload"]["code"].as_str().unwrap().to_owned()
    });
    let told = codes.by_ref().filter(|code| code == "RELAY_FAILED").count();
    assert!(told < 75, "{told} of 200 names were looked up");
}

#[test]
fn hangup_reads_the_secrets_anew_and_cuts_nobody() {
    let folder = Folder::new("secrets");
    let file = folder.0.join("tokens");
    std::fs::write(&file, "alice-1\nbob-2\n").unwrap();
    let path = file.to_str().unwrap();
    let mut server = Server::start_with(&[("ACCESS_TOKEN_FILE", path), ("RUST_LOG", "info")]);
    let address = server.address.clone();
    let come =
        |name: &str, token: &str| Client::try_connect(&address, &format!("/ws?username={name}&access_token={token}"));
    let (mut alice, _bob) = (come("alice", "alice-1").unwrap(), come("bob", "bob-2").unwrap());
    assert!(come("carol", "carol-3").is_err());
    std::fs::write(&file, "bob-2\n\ncarol-3\n").unwrap();
    server.program.signal("HUP");
    server.program.stderr.find("access tokens read anew: 2");
    assert!(come("alice_again", "alice-1").err().unwrap().to_string().contains("401"));
    let _friends = [come("bob_again", "bob-2").unwrap(), come("carol", "carol-3").unwrap()];
    // A file that is wrong changes nothing.
    for wrong in ["two words\n", "\n"] {
        std::fs::write(&file, wrong).unwrap();
        server.program.signal("HUP");
        let line = server.program.stderr.find("access tokens are as before");
        assert!(line.contains("ACCESS_TOKEN_FILE") && !line.contains("words\""), "{line}");
        come("carol", "carol-3").unwrap();
    }
    // Nor is a pipe waited for, which nobody writes to.
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    server.program.signal("HUP");
    assert!(server.program.stderr.find("access tokens are as before").contains("no regular file"));
    alice.send(r#"{"type":"session:create"}"#);
    assert_eq!(alice.json()["type"], "session:created", "she was let in, and stays");
}

#[test]
fn a_fault_in_one_secret_keeps_nobody_in_whom_the_other_lets_go() {
    let folder = Folder::new("two_secrets");
    let [tokens, turn] = ["tokens", "turn"].map(|name| folder.0.join(name));
    std::fs::write(&tokens, "alice-1\nbob-2\n").unwrap();
    std::fs::write(&turn, "north\n").unwrap();
    let mut server = Server::start_with(&[
        ("ACCESS_TOKEN_FILE", tokens.to_str().unwrap()),
        ("TURN_URLS", "turn:turn.example"),
        ("TURN_SECRET_FILE", turn.to_str().unwrap()),
        ("RUST_LOG", "info"),
    ]);
    let address = server.address.clone();
    let come = |token: &str| Client::try_connect(&address, &format!("/ws?username=alice&access_token={token}"));
    come("alice-1").unwrap();
    std::fs::write(&tokens, "bob-2\n").unwrap();
    std::fs::write(&turn, "two words\n").unwrap();
    server.program.signal("HUP");
    server.program.stderr.find("access tokens read anew: 1");
    assert!(server.program.stderr.find("TURN servers is as before").contains("TURN_SECRET_FILE"));
    assert!(come("alice-1").err().unwrap().to_string().contains("401"));
}

#[test]
fn a_server_whose_descriptors_are_in_use_refuses_in_words_and_is_well() {
    let mut program = Program::with_descriptors(64);
    assert!(program.stderr.find("room for").contains("room for 32 users: this process may open 64 files"));
    let address = program.stderr.find("listening on ").split_once("listening on ").unwrap().1.to_owned();
    let come = |number: usize| Client::try_connect(&address, &format!("/ws?username=user{number}"));
    let _users: Vec<Client> = (0..32).map(|number| come(number).unwrap()).collect();
    for number in 32..64 {
        assert!(come(number).err().unwrap().to_string().contains("503"));
    }
    let port = address.rsplit_once(':').unwrap().1;
    let check = crate::world::run("lowkey-server", &["--check"], &[("HOST", "127.0.0.1"), ("PORT", port)]);
    assert_eq!((check.status.code(), check.stderr.len()), (Some(0), 0), "{check:?}");
}

#[test]
fn a_stop_does_not_wait_for_who_has_nothing_to_lose() {
    let mut server = Server::start();
    let mut callers: Vec<TcpStream> =
        ["", "GET /ws?user", "GET /health HTTP/1.1\r\n"].map(|bytes| raw(&server.address, bytes.as_bytes())).into();
    // Whatever was sent before is there once this is answered.
    assert!(ask(&server.address, "/health").starts_with("HTTP/1.1 200 "));
    let started = Instant::now();
    server.program.signal("TERM");
    assert_eq!(server.program.wait().code(), Some(0));
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
    for caller in &mut callers {
        let _ = caller.read(&mut [0]);
    }
}

#[test]
fn any_signal_that_ends_programs_ends_the_server_with_close_frames() {
    let scenes = ENDING.map(|signal| {
        let server = Server::start();
        let client = server.client("alice");
        server.program.signal(signal);
        (signal, server, client)
    });
    for (signal, mut server, mut client) in scenes {
        assert_eq!(u16::from(client.close_frame().code), 1001, "{signal}");
        client.end();
        assert_eq!(server.program.wait().code(), Some(0), "{signal}");
    }
}

/// All but those of a crash, those that the server has a use for, and SIGKILL, whom nobody escapes.
const ENDING: [&str; 13] =
    ["TERM", "INT", "QUIT", "USR2", "ALRM", "VTALRM", "PROF", "XCPU", "IO", "PWR", "STKFLT", "35", "64"];

#[test]
fn any_signal_that_ends_programs_ends_bot_and_chat_in_order() {
    let server = Server::start();
    for signal in ENDING.into_iter().chain(["HUP", "USR1"]) {
        let mut bot = server.bot();
        let mut lowkey = Program::start("lowkey", &["--server", &server.url(), "--name", "alice", "--json"], &[]);
        lowkey.write(r#"{"command":"connect","peer":"echo"}"#);
        lowkey.stdout.find(r#""event":"open""#);
        lowkey.signal(signal);
        assert_eq!(lowkey.wait().code(), Some(0), "{signal}");
        bot.signal(signal);
        assert_eq!(bot.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_stop_is_spread_over_the_drain_time() {
    let mut server = Server::start_with(&[("DRAIN_TIME", "3s")]);
    let address = server.address.clone();
    let clients: Vec<Client> = (0..30).map(|number| server.client(&format!("user{number}"))).collect();
    let started = Instant::now();
    server.program.signal("TERM");
    let told: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                assert_eq!(u16::from(client.close_frame().code), 1001);
                let told = started.elapsed();
                client.end();
                told
            })
        })
        .collect();
    until("new callers are sent away", || {
        // Whose request is on its way when the stop begins is cut, so no answer is one to ask again.
        let mut answer = String::new();
        raw(&address, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").read_to_string(&mut answer).ok()?;
        (answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: ")).then_some(())
    });
    let mut caller = raw(&address, upgrade("new").as_bytes());
    let answer = String::from_utf8(rest(&mut caller)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: "), "{answer}");
    let mut told: Vec<Duration> = told.into_iter().map(|told| told.join().unwrap()).collect();
    told.sort();
    assert!(told[0] < told[29] / 2 && told[29] >= Duration::from_secs(2), "{told:?}");
    for window in told.windows(16) {
        assert!(window[15] - window[0] >= Duration::from_millis(700), "half of them at once: {told:?}");
    }
    assert_eq!(server.program.wait().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

/// What a server holds for its clients: its memory, and what the system keeps for its sockets.
fn held(server: &Server) -> usize {
    let port = server.address.rsplit(':').next().unwrap();
    let sockets = std::process::Command::new("ss").args(["-tmnH", &format!("( sport = :{port} )")]).output();
    let sockets = String::from_utf8(sockets.expect("ss is part of iproute2").stdout).unwrap();
    let memory = sockets.split("skmem:(").skip(1).map(|line| {
        let fields = line.split(')').next().unwrap().split(',');
        // Received, queued to be sent, and allocated ahead (ss(8)).
        let field = |field: &str, name: char| field.strip_prefix(name).and_then(|number| number.parse::<usize>().ok());
        fields.filter_map(|text| ['r', 'w', 'f'].into_iter().find_map(|name| field(text, name))).sum::<usize>()
    });
    server.program.resident_kilobytes() * 1024 + memory.sum::<usize>()
}

/// Five thousand clients, each within what one may, cost no more than a few large programs do, and others notice
/// nothing.
#[test]
fn five_thousand_who_hoard_cost_300_megabytes_together() {
    let fragment = frame(0x01, &vec![b'x'; 65_000]);
    let unfinished = &frame(0x81, &vec![b'x'; 65_000])[..65_000];
    for (what, bytes) in [("a first fragment", &*fragment), ("a frame without an end", unfinished)] {
        let server = Server::start_with(&[("RATE_LIMITS", "off")]);
        let mut honest = server.client("honest");
        let mut most = 0;
        let _hoarders: Vec<TcpStream> = (0..5000)
            .map(|number| {
                let mut stream = raw(&server.address, upgrade(&format!("hoarder{number}")).as_bytes());
                // Those who have gone too far are cut in the middle of this.
                let _ = stream.write_all(bytes);
                if number % 500 == 499 {
                    honest.send(r#"{"type":"session:create"}"#);
                    assert_eq!(honest.json()["type"], "session:created");
                    // The server has had its turn, so what still lies in its sockets is not what it has had no time
                    // for.
                    most = most.max(held(&server));
                }
                stream
            })
            .collect();
        assert!(most < 300_000_000, "{what}: {most} bytes");
        assert!(most > 200_000_000, "{what}: {most} bytes, which does not come near to it");
    }
    let server = Server::start_with(&[("RATE_LIMITS", "off")]);
    let (mut honest, mut sender) = (server.client("honest"), raw(&server.address, upgrade("sender").as_bytes()));
    let payload = "x".repeat(60_000);
    let mut most = 0;
    let _hoarders: Vec<TcpStream> = (0..5000)
        .map(|number| {
            let name = format!("hoarder{number}");
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            // It takes little, so that the rest waits at the server.
            socket.set_recv_buffer_size(4096).unwrap();
            let address: std::net::SocketAddr = server.address.parse().unwrap();
            socket.connect(&address.into()).unwrap();
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(SOON)).unwrap();
            stream.write_all(upgrade(&name).as_bytes()).unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).unwrap();
            let message = format!(r#"{{"type":"signal:ice","target":"{name}","payload":"{payload}"}}"#);
            sender.write_all(&text_frame(&message).repeat(4)).unwrap();
            if number % 500 == 499 {
                most = most.max(held(&server));
                honest.send(r#"{"type":"session:create"}"#);
                assert_eq!(honest.json()["type"], "session:created");
            }
            stream
        })
        .collect();
    assert!(most < 300_000_000, "unread: {most} bytes");
    assert!(most > 200_000_000, "unread: {most} bytes, which does not come near to it");
}
