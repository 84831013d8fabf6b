//! Three servers that are killed and stopped at random, over a database that is, too, while clients write to each other
//! and a thief is after their names: `make soak MINUTES=10`. Each message is delivered or its sender told, no name is
//! anybody else's, and nothing is left over at the end.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tungstenite::Message;

use crate::cluster::{Cluster, ice};
use crate::cluster_alike::Real;
use crate::cluster_faults::get;
use crate::databases::databases;
use crate::model_database::Reply;
use crate::soak::crowd;
use crate::world::{Client, SOON, until};

/// Pairs of users who write to each other, one message at a time, and threads of such pairs.
const PAIRS: usize = 6;
const THREADS: usize = 6;

/// What all threads know.
struct Shared {
    addresses: Vec<String>,
    is_over: AtomicBool,
    /// Times at which something was killed or stood still, until all was well again.
    troubles: RwLock<Vec<(Instant, Option<Instant>)>>,
    /// How often all were to see to it that their users are online, and how many have since the last time.
    roll_calls: AtomicUsize,
    present: AtomicUsize,
    messages: AtomicUsize,
    excused: AtomicUsize,
    told: AtomicUsize,
    thefts: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Shared {
    /// Whether there was trouble at any moment since then.
    fn was_in_trouble_since(&self, since: Instant) -> bool {
        self.troubles.read().unwrap().iter().any(|(_, end)| end.is_none_or(|end| end > since))
    }

    /// Waits until all users are online. Of one who is at no server while the database is lost as well nobody would
    /// know.
    fn call_the_roll(&self) {
        self.present.store(0, Relaxed);
        self.roll_calls.fetch_add(1, Relaxed);
        until("all are online", || (self.present.load(Relaxed) >= THREADS || self.is_over.load(Relaxed)).then_some(()));
    }

    fn fail(&self, what: String) {
        self.failures.lock().unwrap().push(what);
        self.is_over.store(true, Relaxed);
    }
}

/// One user, who comes back whenever its connection is lost.
struct SoakUser {
    name: String,
    client: Client,
}

impl SoakUser {
    fn come(name: String, shared: &Shared, random: &mut Rng) -> Self {
        let client = Self::connect(&name, shared, random);
        Self { name, client }
    }

    fn connect(name: &str, shared: &Shared, random: &mut Rng) -> Client {
        let target = format!("/ws?username={name}&token=token-of-{name}");
        let client = until("some server takes the user", || {
            Client::try_connect(random.choice(&shared.addresses).unwrap(), &target).ok()
        });
        client.socket.get_ref().set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        client
    }

    /// What comes within a moment.
    fn read(&mut self, shared: &Shared, random: &mut Rng) -> Option<String> {
        match self.client.socket.read() {
            Ok(Message::Text(text)) => Some(text.to_string()),
            Ok(Message::Close(frame)) => {
                let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                if reason.contains("replaced") {
                    shared.fail(format!("{} was told of a successor that there is not", self.name));
                }
                self.client = Self::connect(&self.name, shared, random);
                None
            }
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => None,
            Err(_) => {
                self.client = Self::connect(&self.name, shared, random);
                None
            }
            Ok(_) => None,
        }
    }
}

/// Two write to each other: each message is there, or its sender is told, unless something was killed meanwhile.
fn talk(thread: usize, shared: &Shared) {
    let mut random = Rng::with_seed(thread as u64);
    let come =
        |name: &str, pair: usize, random: &mut Rng| SoakUser::come(format!("{name}{thread}x{pair}"), shared, random);
    let mut pairs: Vec<[SoakUser; 2]> =
        (0..PAIRS).map(|pair| [come("alice", pair, &mut random), come("bob", pair, &mut random)]).collect();
    let mut seen = 0;
    while !shared.is_over.load(Relaxed) {
        // Whose connection was lost learns of it by reading.
        let roll_calls = shared.roll_calls.load(Relaxed);
        if std::mem::replace(&mut seen, roll_calls) != roll_calls {
            pairs.iter_mut().flatten().for_each(|user| while user.read(shared, &mut random).is_some() {});
            shared.present.fetch_add(1, Relaxed);
        }
        let pair = &mut pairs[random.usize(..PAIRS)];
        if random.bool() {
            pair.reverse();
        }
        let [sender, receiver] = pair;
        // Whose connection was lost meanwhile learns of it now.
        for user in [&mut *sender, &mut *receiver] {
            while user.read(shared, &mut random).is_some() {}
        }
        let (sent, number) = (Instant::now(), shared.messages.fetch_add(1, Relaxed));
        if sender.client.socket.send(Message::text(ice(&receiver.name, number))).is_err() {
            sender.read(shared, &mut random);
            continue;
        }
        let wanted = format!("\"number\":{number}}}");
        let mut outcome = None;
        while outcome.is_none() && sent.elapsed() < PATIENCE && !shared.is_over.load(Relaxed) {
            if receiver.read(shared, &mut random).is_some_and(|text| text.contains(&wanted)) {
                outcome = Some(true);
            } else if sender.read(shared, &mut random).is_some_and(|text| text.contains("RELAY_FAILED")) {
                outcome = Some(false);
            }
        }
        let is_excused = shared.was_in_trouble_since(sent);
        match outcome {
            Some(true) => {}
            Some(false) if is_excused => _ = shared.told.fetch_add(1, Relaxed),
            Some(false) => shared.fail(format!("{} does not reach {}, and all is well", sender.name, receiver.name)),
            None if is_excused || shared.is_over.load(Relaxed) => _ = shared.excused.fetch_add(1, Relaxed),
            None => shared.fail(format!("a message of {} to {} is lost", sender.name, receiver.name)),
        }
    }
    for SoakUser { mut client, .. } in pairs.into_iter().flatten() {
        client.socket.get_ref().set_read_timeout(Some(SOON)).unwrap();
        let _ = client.socket.close(None);
        client.end();
    }
}

/// Wants names that others hold.
fn steal(shared: &Shared) {
    let mut random = Rng::with_seed(99);
    while !shared.is_over.load(Relaxed) {
        let who = random.choice(["alice", "bob"]).unwrap();
        let name = format!("{who}{}x{}", random.usize(..THREADS), random.usize(..PAIRS));
        let target = format!("/ws?username={name}&token=of-a-thief");
        let address = random.choice(&shared.addresses).unwrap();
        if let Err(error) = Client::try_connect(address, &target) {
            shared.thefts.fetch_add(usize::from(error.to_string().contains("409")), Relaxed);
        } else {
            shared.fail(format!("a thief has {name}"));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Kills and stops, and starts again.
fn trouble(cluster: &mut Cluster, shared: &Shared, end: Instant) -> usize {
    let mut random = Rng::with_seed(7);
    let ports: Vec<String> =
        shared.addresses.iter().map(|address| address.rsplit_once(':').unwrap().1.to_owned()).collect();
    let mut count = 0;
    while Instant::now() < end && !shared.is_over.load(Relaxed) {
        // Quiet, in which each message has to arrive.
        thread::sleep(Duration::from_millis(random.u64(500..3000)));
        shared.troubles.write().unwrap().push((Instant::now(), None));
        let number = random.usize(..3);
        match count % 5 {
            0 | 3 => {
                cluster.nodes[number].program.signal("KILL");
                cluster.nodes[number].program.wait();
                cluster.start_anew(number, &ports[number]);
            }
            1 => {
                cluster.database.kill();
                cluster.database.start_again();
            }
            2 => {
                cluster.nodes[number].program.signal("STOP");
                thread::sleep(Duration::from_millis(random.u64(200..3000)));
                cluster.nodes[number].program.signal("CONT");
            }
            _ => {
                cluster.database.program.signal("STOP");
                thread::sleep(Duration::from_millis(random.u64(200..4000)));
                cluster.database.program.signal("CONT");
            }
        }
        count += 1;
        let began = Instant::now();
        while !shared.addresses.iter().all(|address| is_well(address)) {
            assert!(began.elapsed() < 4 * SOON, "a server is not well again");
            thread::sleep(Duration::from_millis(20));
        }
        // What was asked last before is answered by then.
        thread::sleep(Duration::from_millis(3000));
        shared.call_the_roll();
        shared.troubles.write().unwrap().last_mut().unwrap().1 = Some(Instant::now());
    }
    count
}

fn is_well(address: &str) -> bool {
    let (status, metrics) = get(address, "/metrics");
    status == "200" && metrics.contains("\nlowkey_cluster_up 1\n") && metrics.contains("\nlowkey_cluster_nodes 3\n")
}

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// A soak that is longer has others in it, too.
const LONG: Duration = Duration::from_secs(30);

fn soak(database: &str, time: Duration) {
    let own = [("SESSION_TTL", "2s"), ("CLUSTER_LEASE", "1s"), ("PING_INTERVAL", "10s"), ("METRICS", "loopback")];
    let mut cluster = Cluster::start_with(database, 3, &own);
    cluster.variables = own.to_vec();
    let shared = Shared {
        addresses: cluster.nodes.iter().map(|node| node.address.clone()).collect(),
        is_over: AtomicBool::new(false),
        troubles: RwLock::default(),
        roll_calls: AtomicUsize::new(0),
        present: AtomicUsize::new(0),
        messages: AtomicUsize::new(0),
        excused: AtomicUsize::new(0),
        told: AtomicUsize::new(0),
        thefts: AtomicUsize::new(0),
        failures: Mutex::default(),
    };
    let end = Instant::now() + time;
    let count = thread::scope(|scope| {
        let shared = &shared;
        (0..THREADS).for_each(|thread| _ = scope.spawn(move || talk(thread, shared)));
        // Those come first whose names the thief wants.
        shared.call_the_roll();
        scope.spawn(move || steal(shared));
        // Others come, write, stall and vanish meanwhile. Their names are kept for a minute, which a short test does
        // not wait for.
        if time > LONG {
            scope.spawn(move || crowd(&shared.addresses[0], 1, end));
        }
        let count = trouble(&mut cluster, shared, end);
        shared.is_over.store(true, Relaxed);
        count
    });
    assert_eq!(*shared.failures.lock().unwrap(), Vec::<String>::new());
    let [messages, told, excused, thefts] =
        [&shared.messages, &shared.told, &shared.excused, &shared.thefts].map(|count| count.load(Relaxed));
    println!("{count} troubles, {messages} messages ({told} told, {excused} lost in them), {thefts} thefts refused");
    assert!(messages > 100 && thefts > 10, "{messages} messages, {thefts} thefts");
    // Names with a token are kept for a minute, sessions for two seconds.
    let deadline = Instant::now() + 6 * SOON;
    loop {
        let metrics: Vec<String> = cluster.nodes.iter().map(|node| get(&node.address, "/metrics").1).collect();
        let gone = ["lowkey_users 0", "lowkey_sessions 0", "lowkey_names 0", "lowkey_cluster_unanswered 0"];
        let is_empty =
            metrics.iter().all(|metrics| gone.iter().all(|line| metrics.lines().any(|other| other == *line)));
        let (held, sessions) = (held(&cluster), cluster.database.ask(&["KEYS", "lk1:s:*"]));
        if is_empty && held == 0 && sessions.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{held} names, sessions {sessions:?}\n{}", metrics.join("\n"));
        thread::sleep(Duration::from_millis(200));
    }
}

/// How many names the database counts as held. What it knows of others goes by itself: they were on servers that died,
/// and nobody has come for them.
fn held(cluster: &Cluster) -> usize {
    let mut database = Real::connect(&cluster.database);
    let mut run = |parts: &[&[u8]]| database.run(&parts.iter().map(|part| part.to_vec()).collect::<Vec<_>>());
    let Reply::List(nodes) = run(&[b"ZRANGE", b"lk1:nodes", b"0", b"-1", b"REV"]) else { panic!("no list") };
    // All of the servers that live are among these, whose leases end last.
    let live = &nodes[..nodes.len().min(cluster.nodes.len())];
    let Reply::List(keys) = run(&[b"KEYS", b"lk1:n:*"]) else { panic!("no list") };
    let mut is_held = |key: &Reply| {
        let Reply::Bytes(key) = key else { panic!("no key") };
        // It may have gone by now, or go in between: so its time is asked first.
        let time = run(&[b"PTTL", key]);
        let Reply::Bytes(record) = run(&[b"GET", key]) else { return false };
        assert!(matches!(time, Reply::Number(0..=7_200_000)), "a record that stays for ever");
        record[0] == b'K' || live.contains(&Reply::Bytes(record[1..9].to_vec()))
    };
    keys.iter().filter(|key| is_held(key)).count()
}

#[test]
fn a_short_soak_over_servers_that_are_killed_leaves_nothing_over() {
    if let Some(database) = databases().first() {
        soak(database, Duration::from_secs(12));
    }
}

#[test]
#[ignore = "a run of its own: make soak"]
fn whatever_is_killed_each_message_is_delivered_or_told_no_name_is_stolen_and_nothing_is_left_over() {
    let minutes: f64 = std::env::var("SOAK_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    for database in databases().iter().take(1) {
        soak(database, Duration::from_secs_f64(minutes * 60.0));
    }
}
