//! How calls and reconnections are spread: a peer whose others are all gone stays online and can be called, and a
//! server that starts anew is not stormed. Engines and a hub in memory, with time moved by hand, and then the real
//! programs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lowkey::peer::engine::{Input, PeerConnectionId};
use lowkey::peer::{CloseReason, Event, Settings};
use lowkey::server::hub::Departure;
use lowkey::server::limits::{Limits, Rate};

use crate::engine_pair;
use crate::peers_in_memory::PeersInMemory;
use crate::world::{Server, User, identity};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_bot_with_200_interrupted_chats_stays_online_is_reached_at_once_and_finds_who_comes_back() {
    let mut peers = PeersInMemory::with_killed(Limits::default(), 200);
    peers.start("friend");
    for minute in 0..10 {
        peers.pass(MINUTE, |_| false);
        let taken = peers.call(&format!("caller{minute}"));
        assert!(taken <= SECOND, "a new caller waited {taken:?}");
        // The bot's own calls find room, too: three times in a minute, and to somebody who is there.
        for _ in 0..3 {
            peers.handle("bot", Input::Call { peer: "friend".to_owned() });
            let is_asked = |peers: &PeersInMemory| {
                peers.users["friend"].events.iter().any(|event| matches!(event, Event::Request { .. }))
            };
            let taken = peers.pass(MINUTE, is_asked);
            assert!(taken <= SECOND, "the bot's own call waited {taken:?}");
            peers.handle("bot", Input::Leave { peer: "friend".to_owned() });
            peers.settle();
            peers.users.get_mut("friend").unwrap().events.clear();
        }
    }
    assert_eq!((peers.cuts, peers.refused("RATE_LIMITED")), (0, 0), "it is online all the time");
    // Those who come back have forgotten the chat, so only the bot can call.
    let names: Vec<String> = (0..200).map(|number| format!("peer{number}")).collect();
    names.iter().for_each(|name| peers.start(name));
    let is_called = |peers: &PeersInMemory, name: &String| {
        peers.users[name].events.iter().any(|event| matches!(event, Event::Request { .. }))
    };
    let taken = peers.pass(10 * MINUTE, |peers| names.iter().all(|name| is_called(peers, name)));
    assert!(taken <= 5 * MINUTE + 5 * SECOND, "200 chats were found in {taken:?}");
    assert_eq!((peers.cuts, peers.refused("RATE_LIMITED")), (0, 0));
}

#[test]
fn who_comes_back_with_its_chat_finds_the_bot_at_once() {
    let mut peers = PeersInMemory::with_killed(Limits::default(), 100);
    peers.pass(5 * MINUTE, |_| false);
    // Its network was lost, and not its program.
    peers.users.get_mut("peer7").unwrap().events.clear();
    let id = PeerConnectionId(0);
    peers.go_online("peer7");
    peers.coming.push_back(("peer7".to_owned(), Input::Closed { id, reason: CloseReason::ConnectionLost }));
    let resumed = Event::Resumed { peer: "bot".to_owned() };
    let taken = peers.pass(MINUTE, |peers| peers.users["peer7"].events.contains(&resumed));
    assert!(taken <= 2 * SECOND, "{taken:?}");
}

#[test]
fn what_a_reconnection_repeats_is_spread() {
    let mut peers = PeersInMemory::with_killed(Limits::default(), 100);
    peers.pass(3 * MINUTE, |_| false);
    for _ in 0..5 {
        let conn = peers.users["bot"].conn;
        peers.hub.disconnect(conn, Departure::Lost, peers.now);
        peers.handle("bot", Input::Offline);
        let before = peers.refused("USER_OFFLINE");
        peers.go_online("bot");
        peers.pass(SECOND, |_| false);
        let at_once = peers.refused("USER_OFFLINE") - before;
        assert!(at_once <= 9, "{at_once} calls in the first second");
    }
    assert_eq!((peers.cuts, peers.refused("RATE_LIMITED")), (0, 0));
}

#[test]
fn a_server_that_takes_fewer_calls_is_asked_less_often() {
    let calls = Some(Rate { amount: 6, per: MINUTE, burst: 6 });
    let mut peers = PeersInMemory::with_killed(Limits { calls, ..Limits::default() }, 60);
    peers.pass(10 * MINUTE, |_| false);
    let early = peers.refused("RATE_LIMITED");
    peers.pass(20 * MINUTE, |_| false);
    let late = peers.refused("RATE_LIMITED") - early;
    assert_eq!(peers.cuts, 0, "it stays online");
    assert!(late <= 60, "{early} refusals in ten minutes and {late} in twenty more");
    // A call of the user's that is refused waits, and is made when there is room.
    peers.start("friend");
    peers.handle("bot", Input::Call { peer: "friend".to_owned() });
    let asked =
        |peers: &PeersInMemory| peers.users["friend"].events.iter().any(|event| matches!(event, Event::Request { .. }));
    peers.pass(MINUTE, asked);
    assert!(asked(&peers), "{:?}", peers.users["bot"].events.last());
}

#[test]
fn more_calls_of_the_users_than_fit_go_out_one_after_another_or_say_why_not() {
    let mut peers = PeersInMemory::new(Limits::default());
    let names: Vec<String> = (0..200).map(|number| format!("friend{number}")).collect();
    names.iter().for_each(|name| peers.start(name));
    for name in &names {
        peers.handle("bot", Input::Call { peer: name.clone() });
    }
    peers.pass(2 * MINUTE, |_| false);
    let asked = names.iter().filter(|name| !peers.users[*name].events.is_empty()).count();
    assert!(asked >= 100, "{asked}");
    assert_eq!((peers.cuts, peers.refused("RATE_LIMITED")), (0, 0));
    let told = peers.users["bot"].events.iter().filter(|event| {
        matches!(event, Event::Closed { reason: CloseReason::Refused { code, .. }, .. } if code == "RATE_LIMITED")
    });
    assert_eq!(told.count(), 200 - asked, "whoever could not be called in time is told of");
}

#[test]
fn who_writes_in_an_interrupted_chat_calls_at_once() {
    let mut world = engine_pair::EnginePair::open();
    world.go_offline(engine_pair::BOB);
    world.lose(0);
    world.settle();
    for _ in 0..20 {
        world.pass(9);
        world.settle();
    }
    // A fresh program, which has no such chat and does not call.
    world.restart(engine_pair::BOB);
    world.pass(6);
    world.settle();
    world.taken(engine_pair::BOB);
    let is_called = |world: &engine_pair::EnginePair| {
        world
            .seen(engine_pair::BOB)
            .iter()
            .any(|event| matches!(event, Event::Request { .. } | Event::RequestEnded { .. }))
    };
    if !is_called(&world) {
        world.command(engine_pair::ALICE, engine_pair::text);
        world.settle();
        assert!(is_called(&world), "{:?}", world.seen(engine_pair::BOB));
    }
}

/// What the server counts under this label.
fn counted(server: &Server, label: &str) -> u64 {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let line = text.lines().find(|line| line.contains(label)).unwrap_or_else(|| panic!("no {label} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_bot_stays_online_and_takes_calls_when_all_its_peers_are_killed() {
    let server = Server::start_with(&[("METRICS", "loopback")]);
    let mut bot = server.bot();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "pacing::peers_that_are_killed"]);
    let mut peers = command.env("TEST_PEERS", server.url()).stdout(Stdio::piped()).spawn().unwrap();
    let opened = BufReader::new(peers.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("all are open"));
    peers.kill().unwrap();
    peers.wait().unwrap();
    assert!(opened);
    // They are found to be gone, one after another; meanwhile others get through.
    let start = Instant::now();
    let mut callers = 0;
    // More than a server takes in a minute, so whoever calls them faster than that is refused.
    while counted(&server, "code=\"USER_OFFLINE\"") < 64 {
        let before = counted(&server, "code=\"USER_OFFLINE\"");
        while counted(&server, "code=\"USER_OFFLINE\"") < before + 4 {
            assert!(start.elapsed() < Duration::from_secs(400), "they are called");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut caller = server.peer(&format!("caller{callers}"));
        caller.call("echo");
        caller.peer.send("echo", "hello");
        assert_eq!(caller.message().1, "hello");
        callers += 1;
    }
    assert!(callers > 0);
    assert_eq!(counted(&server, "code=\"RATE_LIMITED\""), 0);
    bot.signal("TERM");
    let told = bot.stderr.rest();
    assert!(!told.iter().any(|line| line.contains("offline: ")), "{told:?}");
}

/// What the test above starts, and kills.
#[test]
#[ignore = "is killed; run by the_bot_stays_online_and_takes_calls_when_all_its_peers_are_killed"]
fn peers_that_are_killed() {
    let Ok(url) = std::env::var("TEST_PEERS") else { return };
    let _peers: Vec<User> = (0..70)
        .map(|number| {
            let name = format!("peer{number}");
            let mut settings = Settings::default();
            settings.identity = Some(identity(&name));
            let mut user = User::online(&url, &name, settings);
            user.call("echo");
            user
        })
        .collect();
    println!("all are open");
    loop {
        std::thread::park();
    }
}

/// The first pause of each of these users after they have lost the server.
fn pauses(users: &mut [User]) -> Vec<Duration> {
    let pause = |user: &mut User| {
        user.find("the loss", |event| match event {
            Event::Offline { retry_in, .. } => *retry_in,
            _ => None,
        })
    };
    users.iter_mut().map(pause).collect()
}

#[test]
fn whom_the_server_leaves_seeks_it_within_five_seconds_and_not_at_the_same_moment() {
    for signal in ["TERM", "KILL"] {
        let server = Server::start();
        let mut users: Vec<User> = (0..16).map(|number| server.peer(&format!("user{number}"))).collect();
        server.program.signal(signal);
        let pauses = pauses(&mut users);
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(5)), "{signal}: {pauses:?}");
        // That all are short by chance happens once in 60,000 times.
        assert!(pauses.iter().any(|pause| *pause > Duration::from_millis(2500)), "{signal}: {pauses:?}");
    }
}
