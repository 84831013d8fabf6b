//! Several servers over a real database: what a message costs and how long it takes when its two users are at different
//! ones, what a name costs that is claimed from all, and how soon the others know that one of them is dead.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::clients::{WAVE, arrive, settle};
use super::load::{Pairs, client, frame, read_frame, text};
use super::report::{Goal, ONE_SERVER, Report, percentile};
use super::subject::Subject;

/// Runs it all with each database that there is.
pub fn run(report: &mut Report, rounds: usize, window: Duration) {
    let databases = databases();
    if databases.is_empty() {
        println!(
            "several servers: not measured, there is no redis-server and no valkey-server (make bench installs both)"
        );
    }
    for path in databases {
        let database = Subject::database(&path);
        has_no_grace(&database);
        let url = format!("redis://{}", database.address);
        let own = [("RATE_LIMITS", "off"), ("PING_INTERVAL", "1h")];
        let one = Subject::server(ONE_SERVER, &own);
        let node = || Subject::server("two servers", &[&own[..], &[("CLUSTER_URL", &url)]].concat());
        let nodes = [node(), node()];
        forwarding(report, &one, &nodes, &database, rounds, window);
        one_way(report, &one, &nodes, &database, rounds);
        claims(report, &one, &nodes[0], &database, rounds / 2);
        drop(nodes);
        death(report, &url, &database, rounds / 5);
    }
}

/// Those that `TEST_DATABASES` names, or else what is on the path.
fn databases() -> Vec<String> {
    if let Ok(named) = std::env::var("TEST_DATABASES") {
        return named.split(',').map(str::to_owned).collect();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let find = |name: &str| path.split(':').map(|folder| format!("{folder}/{name}")).find(|file| is_there(file));
    ["redis-server", "valkey-server"].into_iter().filter_map(find).collect()
}

fn is_there(file: &str) -> bool {
    std::path::Path::new(file).exists()
}

/// The first name of a new cluster waits for some seconds, which nobody has to measure.
fn has_no_grace(database: &Subject) {
    let mut stream = TcpStream::connect(&database.address).unwrap();
    stream.write_all(b"*3\r\n$3\r\nSET\r\n$9\r\nlk1:grace\r\n$1\r\n1\r\n").unwrap();
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+OK\r\n");
}

/// The processor time of a message between users of two servers, beside one between users of one.
fn forwarding(
    report: &mut Report,
    one: &Subject,
    nodes: &[Subject; 2],
    database: &Subject,
    rounds: usize,
    window: Duration,
) {
    for depth in [1, 8] {
        let mut here = Pairs::connect(one, 64, 200);
        let mut there = Pairs::connect_to([&nodes[0], &nodes[1]], 64, 200);
        let mut samples = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            here.run(depth, window / 10);
            let (cpu, received) = (one.cpu(), here.received);
            here.run(depth, window);
            let each = |spent: Duration, count: u64| spent.as_secs_f64() * 1e6 / count as f64;
            samples[0].push(each(one.cpu() - cpu, here.received - received));
            there.run(depth, window / 10);
            let servers = || nodes[0].cpu() + nodes[1].cpu();
            let (cpu, database_cpu, received) = (servers(), database.cpu(), there.received);
            there.run(depth, window);
            let (spent, count) = (servers() - cpu, there.received - received);
            samples[1].push(each(spent, count));
            samples[2].push(each(spent + database.cpu() - database_cpu, count));
        }
        let what = format!("{}: forward, 200 B, 64 pairs, {depth} in flight", database.name);
        let [one, two, all] = samples;
        report.add(&what, "µs CPU", ONE_SERVER, one, None);
        report.add(&what, "µs CPU", "two servers", two, Some(Goal::Ratio(1.5)));
        report.add(&what, "µs CPU", "two and the database", all, Some(Goal::Ratio(2.0)));
    }
}

/// How long a message takes that is alone.
fn one_way(report: &mut Report, one: &Subject, nodes: &[Subject; 2], database: &Subject, rounds: usize) {
    let pair = |at: [&Subject; 2]| (client(at[0], "solo_a", None), client(at[1], "solo_b", None));
    let mut pairs = [pair([one, one]), pair([&nodes[0], &nodes[1]])];
    let message = frame(r#"{"type":"signal:ice","target":"solo_b","payload":1}"#);
    let mut samples = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        for ((alice, bob), samples) in pairs.iter_mut().zip(&mut samples) {
            let times: Vec<f64> = (0..200)
                .map(|_| {
                    let started = Instant::now();
                    alice.write_all(&message).unwrap();
                    read_frame(bob);
                    started.elapsed().as_secs_f64() * 1e6
                })
                .collect();
            samples.push(percentile(&times, 50.0));
        }
    }
    let what = format!("{}: a message alone, one way, p50", database.name);
    let [here, there] = samples;
    report.add(&what, "µs", ONE_SERVER, here, None);
    report.add(&what, "µs", "two servers", there, Some(Goal::Ratio(1.8)));
}

/// What a connection costs whose name is claimed from all servers.
fn claims(report: &mut Report, one: &Subject, node: &Subject, database: &Subject, rounds: usize) {
    let mut samples = [const { Vec::new() }; 3];
    for round in 0..rounds {
        for (subject, is_node) in [(one, false), (node, true)] {
            let (before, database_before) = (subject.cpu(), database.cpu());
            let mut streams = Vec::new();
            for wave in 0..10 {
                let names: Vec<String> = (0..WAVE).map(|number| format!("r{round}w{wave}n{number}")).collect();
                streams.extend(arrive(subject, &names));
            }
            let each = |spent: Duration| spent.as_secs_f64() * 1e6 / streams.len() as f64;
            let spent = subject.cpu() - before;
            samples[usize::from(is_node)].push(each(spent));
            if is_node {
                samples[2].push(each(database.cpu() - database_before));
            }
            drop(streams);
            settle();
        }
    }
    let what = format!("{}: connect, upgrade and claim the name", database.name);
    let [here, there, asked] = samples;
    report.add(&what, "µs CPU", ONE_SERVER, here, None);
    report.add(&what, "µs CPU", "one of two servers", there, Some(Goal::Ratio(1.5)));
    report.add(&what, "µs CPU", &database.name, asked, None);
}

/// How long it takes after a server was killed until others answer for its names as is right: that who was there is not
/// online, and that the name is somebody else's who comes for it.
fn death(report: &mut Report, url: &str, database: &Subject, rounds: usize) {
    let variables = [("RATE_LIMITS", "off"), ("CLUSTER_URL", url)];
    let witness = Subject::server("witness", &variables);
    let mut alice = client(&witness, "alice", None);
    let (mut told, mut free) = (Vec::new(), Vec::new());
    for round in 0..rounds.max(3) {
        let mut victim = Subject::server("victim", &variables);
        let name = format!("victim{round}");
        let mut bob = client(&victim, &name, None);
        let message = frame(&format!(r#"{{"type":"signal:ice","target":"{name}"}}"#));
        alice.write_all(&message).unwrap();
        read_frame(&mut bob);
        victim.kill();
        let killed = Instant::now();
        alice.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        loop {
            alice.write_all(&message).unwrap();
            let mut first = [0; 1];
            match alice.peek(&mut first) {
                Ok(_) => break,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
        alice.set_read_timeout(None).unwrap();
        assert!(text(&read_frame(&mut alice)).contains("RELAY_FAILED"));
        told.push(killed.elapsed().as_secs_f64() * 1e3);
        alice.write_all(&frame(&format!(r#"{{"type":"session:connect","target":"{name}"}}"#))).unwrap();
        while !text(&read_frame(&mut alice)).contains("USER_OFFLINE") {}
        // It is theirs who come for it: the name has no token.
        client(&witness, &name, None);
        free.push(killed.elapsed().as_secs_f64() * 1e3);
    }
    let what = |what: &str| format!("{}: a server is killed, until {what}", database.name);
    report.add(&what("who writes there is told"), "ms", "another server", told, Some(Goal::Most(100.0)));
    report.add(&what("a name of it is another's"), "ms", "another server", free, Some(Goal::Most(100.0)));
}
