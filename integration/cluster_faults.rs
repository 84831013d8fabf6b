//! What can go wrong between the servers of a cluster, one fault after the other, with a real database.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lowkey::peer::{Event, OfflineReason, Settings};
use serde_json::json;

use crate::cluster::{Cluster, code, ice};
use crate::databases::{Nginx, Way, databases};
use crate::world::{Client, Program, SOON, User, until};

pub const ALONE: &str = "the other servers cannot be asked right now";

/// What who creates a session is told while the database is full.
pub const NO_ROOM: &str = "there is no room for new sessions right now";

/// The status of a request, and the whole answer.
pub fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let upgrade = if path.starts_with("/ws") {
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    } else {
        "Connection: close\r\n"
    };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..length]);
        if path.starts_with("/ws") {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.get(9..12).unwrap_or_default().to_owned(), answer)
}

/// Sends until bob gets it. What alice is told in between is passed over.
pub fn until_reached(alice: &mut Client, target: &str, bob: &mut Client) {
    let short = Some(Duration::from_millis(50));
    let mut number = 0;
    let began = Instant::now();
    bob.socket.get_ref().set_read_timeout(short).unwrap();
    loop {
        number += 1;
        alice.send(ice(target, number));
        match bob.socket.read() {
            Ok(tungstenite::Message::Text(text)) if text.contains("signal:ice") => break,
            Ok(tungstenite::Message::Close(frame)) => panic!("{target} was closed: {frame:?}"),
            _ => assert!(began.elapsed() < 2 * SOON, "{target} is not reached"),
        }
    }
    // What is still on its way comes to its end.
    while bob.socket.read().is_ok() {}
    bob.socket.get_ref().set_read_timeout(Some(SOON)).unwrap();
    alice.socket.get_ref().set_read_timeout(short).unwrap();
    while alice.socket.read().is_ok() {}
    alice.socket.get_ref().set_read_timeout(Some(SOON)).unwrap();
}

#[test]
fn a_database_that_stands_still_stops_nobody_who_is_here_and_is_told_of_soon() {
    for database in databases() {
        let cluster = Cluster::start(&database, 2);
        let (mut alice, mut bob) = (cluster.client(0, "alice"), cluster.client(1, "bob"));
        let mut carol = cluster.client(0, "carol");
        alice.send(ice("bob", 0));
        bob.json();
        cluster.database.program.signal("STOP");
        let began = Instant::now();
        alice.send(ice("bob", 1));
        assert_eq!(alice.json()["payload"]["message"], ALONE);
        let told = began.elapsed();
        assert!(told > Duration::from_millis(1500) && told < Duration::from_secs(5), "{told:?}: after two seconds");
        for number in 0..100 {
            let sent = Instant::now();
            alice.send(ice("carol", number));
            assert_eq!(carol.json()["payload"]["number"], number);
            assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
        }
        let (status, answer) = get(&cluster.nodes[0].address, "/ws?username=dave");
        assert!(status == "503" && answer.contains("Retry-After: 2\r\n") && answer.contains(ALONE), "{answer}");
        until("it says that it is alone", || (get(&cluster.nodes[0].address, "/ready").0 == "503").then_some(()));
        let asked = Instant::now();
        assert_eq!(get(&cluster.nodes[0].address, "/ws?username=dave").0, "503");
        assert!(asked.elapsed() < Duration::from_secs(2), "at once, by now");
        assert_eq!(get(&cluster.nodes[0].address, "/health").0, "200", "it is well all the same");
        cluster.database.program.signal("CONT");
        until_reached(&mut alice, "bob", &mut bob);
        until("it is ready again", || (get(&cluster.nodes[0].address, "/ready").0 == "200").then_some(()));
    }
}

#[test]
fn a_node_that_stood_still_past_its_lease_hands_nothing_stale_on_and_gives_way() {
    for database in databases() {
        let cluster = Cluster::start(&database, 2);
        let mut alice = cluster.client(0, "alice");
        let mut older = cluster.with_token(1, "bob", "secret").unwrap();
        alice.send(ice("bob", 0));
        older.json();
        cluster.nodes[1].program.signal("STOP");
        // Some of these the database keeps for it.
        (1..50).for_each(|number| alice.send(ice("bob", number)));
        let mut newer = cluster.with_token(0, "bob", "secret").expect("it is the same bob");
        until("its lease has ended", || {
            let (_, metrics) = get(&cluster.nodes[0].address, "/metrics");
            metrics.contains("\nlowkey_cluster_nodes 1\n").then_some(())
        });
        cluster.nodes[1].program.signal("CONT");
        // Not one of those messages, but the word that another has the name.
        assert_eq!(older.close_frame().reason.as_str(), "replaced by new connection");
        until_reached(&mut alice, "bob", &mut newer);
        assert!(cluster.with_token(1, "bob", "other").is_none());
    }
}

#[test]
fn a_database_that_keeps_its_data_knows_open_sessions_after_it_was_killed() {
    for database in databases() {
        let options = ["--appendonly", "yes", "--appendfsync", "always"];
        let mut cluster = Cluster::start_with_database(&database, &options, 2, &[]);
        let (mut alice, mut bob) = (cluster.client(0, "alice"), cluster.client(1, "bob"));
        alice.send(r#"{"type":"session:create"}"#);
        let id = alice.json()["payload"]["sessionId"].as_str().unwrap().to_owned();
        cluster.database.kill();
        cluster.database.start_again();
        let join = json!({"type": "session:join", "sessionId": id}).to_string();
        let joined = until("bob can join", || {
            bob.send(join.as_str());
            let answer = bob.json();
            (answer["payload"]["message"] != ALONE).then_some(answer)
        });
        assert_eq!(joined["payload"], json!({"sessionId": id, "peer": "alice"}));
    }
}

#[test]
fn a_node_that_is_cut_off_is_alone_until_the_way_is_back_and_both_sides_agree_then() {
    for database in databases() {
        let mut cluster = Cluster::start(&database, 1);
        let way = Way::to(cluster.database.port);
        cluster.add_by(way.port, &[]);
        let mut alice = cluster.client(0, "alice");
        let (mut bob, mut older) = (cluster.with_token(1, "bob", "secret").unwrap(), cluster.client(1, "carol"));
        let mut dave = cluster.client(1, "dave");
        alice.send(ice("bob", 0));
        bob.json();
        way.cut(true);
        until("bob is told that he is alone", || {
            bob.send(ice("alice", 1));
            // Until it is known, some may still be unanswered.
            (bob.json()["payload"]["message"] == ALONE).then_some(())
        });
        bob.send(ice("dave", 2));
        assert_eq!(dave.json()["payload"]["number"], 2, "who is at the same server is reached");
        assert!(cluster.with_token(0, "bob", "thief").is_none(), "his name is kept");
        // A name without a token is whoever's comes last.
        let mut newer = cluster.client(0, "carol");
        way.cut(false);
        until_reached(&mut alice, "bob", &mut bob);
        assert_eq!(older.close_frame().reason.as_str(), "replaced by new connection");
        until_reached(&mut bob, "carol", &mut newer);
    }
}

#[test]
fn what_an_operator_does_to_the_database_is_survived() {
    for database in databases() {
        let cluster = Cluster::start(&database, 2);
        let mut alice = cluster.with_token(0, "alice", "a").unwrap();
        let mut bob = cluster.with_token(1, "bob", "b").unwrap();
        for command in [
            &["SCRIPT", "FLUSH"][..],
            &["CLIENT", "KILL", "TYPE", "pubsub"],
            &["FLUSHALL"],
            &["CONFIG", "SET", "maxmemory", "1"],
        ] {
            cluster.database.ask(command);
            if command[0] == "CONFIG" {
                until("alice is told that it is full", || {
                    alice.send(r#"{"type":"session:create"}"#);
                    (alice.json()["payload"]["message"] == NO_ROOM).then_some(())
                });
                cluster.database.ask(&["CONFIG", "SET", "maxmemory", "0"]);
            }
            until_reached(&mut alice, "bob", &mut bob);
            until_reached(&mut bob, "alice", &mut alice);
            for name in ["alice", "bob"] {
                assert!(cluster.with_token(1, name, "thief").is_none(), "{name} after {command:?}");
            }
        }
    }
}

#[test]
fn a_server_that_stops_in_order_is_not_waited_for() {
    for database in databases() {
        let mut cluster = Cluster::start_with(&database, 1, &[]);
        // Without the order, its names would be held for a minute.
        cluster.add(&[("CLUSTER_LEASE", "1m"), ("DRAIN_TIME", "2s")]);
        let mut alice = cluster.client(0, "alice");
        let mut bob = cluster.with_token(1, "bob", "secret").unwrap();
        cluster.nodes[1].program.signal("TERM");
        let (status, answer) = until("it says that it stops", || {
            Some(get(&cluster.nodes[1].address, "/ready")).filter(|(status, _)| status == "503")
        });
        assert!(status == "503" && answer.contains("Retry-After"), "{answer}");
        assert_eq!(bob.close_frame().reason.as_str(), "server is shutting down");
        drop(bob);
        assert_eq!(cluster.nodes[1].program.wait().code(), Some(0));
        let mut bob = cluster.with_token(0, "bob", "secret").expect("at another server");
        alice.send(ice("bob", 1));
        assert_eq!(bob.json()["payload"]["number"], 1);
        until("it is counted no more", || {
            let (_, metrics) = get(&cluster.nodes[0].address, "/metrics");
            metrics.contains("\nlowkey_cluster_nodes 1\n").then_some(())
        });
    }
}

#[test]
fn who_does_not_read_on_another_node_is_cut_alone_and_the_sender_is_told() {
    for database in databases() {
        let cluster = Cluster::start_with(&database, 2, &[("RATE_LIMITS", "off")]);
        let (mut alice, _bob) = (cluster.client(0, "alice"), cluster.client(1, "bob"));
        let mut carol = cluster.client(1, "carol");
        let payload = "x".repeat(60_000);
        let text = json!({"type": "signal:ice", "target": "bob", "payload": payload}).to_string();
        alice.socket.get_ref().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let told = until("alice is told", || {
            (0..20).for_each(|_| alice.send(text.as_str()));
            match alice.socket.read() {
                Ok(tungstenite::Message::Text(text)) => Some(text.to_string()),
                _ => None,
            }
        });
        assert!(told.contains("RELAY_FAILED") && told.contains("\"bob\""), "{told}");
        alice.send(ice("carol", 7));
        assert_eq!(carol.json()["payload"]["number"], 7);
    }
}

#[test]
fn a_rolling_restart_loses_no_name_and_no_chat_and_tells_nobody_of_a_false_successor() {
    roll(300, 60);
}

#[test]
#[ignore = "takes a minute and some memory; run by make trials"]
fn a_rolling_restart_under_three_hundred_chats_loses_none() {
    roll(100, 300);
}

/// Restarts three servers behind an nginx, one after the other, under so many bare users and so many real chats.
fn roll(users: usize, chats: usize) {
    // All come from one address.
    let own = [("MAX_CLIENTS_PER_ADDRESS", "4096")];
    for database in databases() {
        let mut cluster = Cluster::start_with(&database, 3, &own);
        cluster.variables = own.to_vec();
        let ports: Vec<String> =
            cluster.nodes.iter().map(|node| node.address.rsplit_once(':').unwrap().1.to_owned()).collect();
        let servers: Vec<String> = cluster.nodes.iter().map(|node| node.address.clone()).collect();
        let nginx = Nginx::start(&servers, "max_fails=0");
        let addresses = nginx.as_ref().map_or(servers, |nginx| vec![nginx.address.clone()]);
        // Real chats, which do not need the servers any more, under users who do.
        let url = format!("ws://{}", addresses[0]);
        let mut bot = Program::start("lowkey-bot", &["--server", &url], &[]);
        bot.stderr.find("online as echo");
        let mut chats: Vec<User> = (0..chats)
            .map(|number| {
                let mut settings = Settings::default();
                settings.token = Some(format!("the token of chat{number}"));
                let mut user = User::online(&url, &format!("chat{number}"), settings);
                user.call("echo");
                user
            })
            .collect();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let (is_over, addresses) = (&is_over, &addresses);
            let bare: Vec<_> =
                (0..users).map(|user| scope.spawn(move || stays_online(user, addresses, is_over))).collect();
            for (number, port) in ports.iter().enumerate() {
                cluster.nodes[number].program.signal("TERM");
                assert_eq!(cluster.nodes[number].program.wait().code(), Some(0));
                cluster.start_anew(number, port);
            }
            is_over.store(true, Ordering::Relaxed);
            let mut bare: Vec<_> = bare.into_iter().map(|user| user.join().unwrap()).collect();
            assert!(bare.iter().map(|(_, reconnects)| reconnects).sum::<usize>() >= users, "all had to move");
            // Each is there, whoever asks from wherever.
            let mut asker = cluster.client(0, "asker");
            for (user, (client, _)) in bare.iter_mut().enumerate() {
                client.socket.get_ref().set_read_timeout(Some(SOON)).unwrap();
                asker.send(ice(&format!("user{user}"), user));
                assert_eq!(client.json()["payload"]["number"], user, "user{user}");
            }
            chats.iter_mut().for_each(still_chats);
        });
    }
}

/// A bare user who comes back to some server whenever one has let them go: at the end their last connection, and how
/// often they came back.
fn stays_online(user: usize, addresses: &[String], is_over: &AtomicBool) -> (Client, usize) {
    let target = format!("/ws?username=user{user}&token=token{user}");
    let (mut node, mut reconnects) = (user, 0);
    // As a balancer does, the next server is tried where one refuses.
    let mut connect = || {
        until("some server takes the user", || {
            node += 1;
            Client::try_connect(&addresses[node % addresses.len()], &target).ok()
        })
    };
    let mut client = connect();
    while !is_over.load(Ordering::Relaxed) {
        client.socket.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        match client.socket.read() {
            Ok(tungstenite::Message::Close(Some(frame))) => {
                assert_eq!(frame.reason.as_str(), "server is shutting down", "user{user}");
                client = connect();
                reconnects += 1;
            }
            Ok(_) => {}
            Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => {
                client = connect();
                reconnects += 1;
            }
        }
    }
    (client, reconnects)
}

/// A user whose chat with the bot went on, and who is at a server again.
fn still_chats(user: &mut User) {
    user.peer.send("echo", "still here");
    let (mut is_back, mut is_answered) = (false, false);
    user.find("the answer in the chat, and the server again", |event| {
        match event {
            Event::Offline { reason, .. } => {
                assert_ne!(*reason, OfflineReason::Replaced);
                is_back = false;
            }
            Event::Online => is_back = true,
            Event::Message { text, .. } => is_answered = text == "still here",
            Event::Closed { .. } | Event::Interrupted { .. } => panic!("{event:?}"),
            _ => {}
        }
        (is_back && is_answered).then_some(())
    });
}

#[test]
fn the_metrics_tell_how_the_cluster_is_and_no_name() {
    for database in databases() {
        let cluster = Cluster::start(&database, 2);
        let (mut alice, mut bob) = (cluster.client(0, "alice"), cluster.client(1, "bob"));
        alice.send(ice("bob", 1));
        bob.json();
        alice.send(ice("nobody", 1));
        assert_eq!(code(&mut alice), "RELAY_FAILED");
        let metrics = until("both are counted", || {
            let (status, metrics) = get(&cluster.nodes[0].address, "/metrics");
            assert_eq!(status, "200");
            metrics.contains("\nlowkey_cluster_nodes 2\n").then_some(metrics)
        });
        for line in [
            "lowkey_cluster_up 1",
            "lowkey_cluster_asks_total{kind=\"claim\",result=\"answered\"} 1",
            "lowkey_cluster_asks_total{kind=\"seek\",result=\"answered\"} 2",
            "lowkey_relays_total{type=\"signal:ice\"} 1",
        ] {
            assert!(metrics.lines().any(|other| other == line), "{line} is not in\n{metrics}");
        }
        assert!(!metrics.contains("alice") && !metrics.contains("bob"));
        // What the guide has its reader watch is there.
        let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/README.md")).unwrap();
        let is_name = |character: char| character.is_ascii_lowercase() || character == '_';
        let watched: Vec<&str> =
            guide.split(|character| !is_name(character)).filter(|word| word.starts_with("lowkey_cluster_")).collect();
        assert!(watched.len() > 8, "{watched:?}");
        for name in watched {
            assert!(metrics.contains(&format!("\n# TYPE {name} ")), "{name} is not in\n{metrics}");
        }
        for result in guide.split("{result=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(metrics.contains(&format!(",result=\"{result}\"}} ")), "{result} is not in\n{metrics}");
        }
    }
}
