//! Clients with real sockets: what one costs when it comes, what a whole matchmaking costs, what one takes while it is
//! idle, how many system calls a message makes, and what one that floods does to the others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::load::{client, connect, frame, read_frame, read_head, text, upgrade};
use super::report::{Goal, Report, percentile};
use super::subject::{Subject, on_core};

/// Clients, or pairs of them, that do the same thing at once.
pub const WAVE: usize = 100;

/// Clients that come all at once, so that the server's work and not the waiting is measured.
pub fn arrive(subject: &Subject, names: &[String]) -> Vec<TcpStream> {
    let mut streams: Vec<TcpStream> = names.iter().map(|_| connect(&subject.address, None)).collect();
    for (stream, name) in streams.iter_mut().zip(names) {
        stream.write_all(upgrade(name).as_bytes()).unwrap();
    }
    for stream in &mut streams {
        let head = read_head(stream);
        assert!(subject.is_forwarder || head.starts_with("HTTP/1.1 101"), "{head}");
    }
    streams
}

/// The cost of a connection that comes, is upgraded and registered.
pub fn connects(report: &mut Report, subjects: &[Subject], rounds: usize) {
    let mut samples = vec![Vec::new(); subjects.len()];
    for round in 0..rounds {
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            let before = subject.cpu();
            let mut streams = Vec::new();
            for wave in 0..10 {
                let names: Vec<String> = (0..WAVE).map(|number| format!("r{round}w{wave}n{number}")).collect();
                streams.extend(arrive(subject, &names));
            }
            samples.push((subject.cpu() - before).as_secs_f64() * 1e6 / streams.len() as f64);
            drop(streams);
            settle();
        }
    }
    for (subject, samples) in subjects.iter().zip(samples) {
        report.add("connect, upgrade and register", "µs CPU", &subject.name, samples, Some(Goal::Most(25.0)));
    }
}

/// Lets the server see that a crowd has gone, which is no part of the next round.
pub fn settle() {
    thread::sleep(Duration::from_millis(100));
}

/// The cost of two that connect and find each other: session, keys, offer, answer and eight candidates. A wave of pairs
/// takes each step together. The forwarder passes on what it gets, be it a request head, and sends one message less.
pub fn matchmaking(report: &mut Report, subjects: &[Subject], rounds: usize) {
    let mut samples = vec![Vec::new(); subjects.len()];
    for round in 0..rounds {
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            let before = subject.cpu();
            let name = |number: usize| format!("r{round}m{number}");
            let mut streams = arrive(subject, &(0..2 * WAVE).map(name).collect::<Vec<_>>());
            let (pairs, _) = streams.as_chunks_mut::<2>();
            for (number, [alice, _]) in pairs.iter_mut().enumerate() {
                let text = format!(r#"{{"type":"session:connect","target":"{}"}}"#, name(2 * number + 1));
                alice.write_all(&frame(&text)).unwrap();
            }
            for [alice, bob] in pairs.iter_mut() {
                if subject.is_forwarder {
                    read_frame(bob);
                    continue;
                }
                assert!(text(&read_frame(alice)).contains("session:joined"));
                assert!(text(&read_frame(bob)).contains("session:joined"));
            }
            let exchange = [("key:exchange", 60), ("signal:offer", 600), ("signal:answer", 600)];
            let steps = exchange.into_iter().chain([("signal:ice", 120); 4]);
            for (kind, size) in steps {
                let payload = "x".repeat(size);
                // An offer goes one way and an answer the other; all else goes both ways.
                let sides: &[usize] = match kind {
                    "signal:offer" => &[0],
                    "signal:answer" => &[1],
                    _ => &[0, 1],
                };
                for side in sides {
                    for (number, pair) in pairs.iter_mut().enumerate() {
                        let target = name(2 * number + 1 - side);
                        let text = format!(r#"{{"type":"{kind}","target":"{target}","payload":"{payload}"}}"#);
                        pair[*side].write_all(&frame(&text)).unwrap();
                    }
                }
                for side in sides {
                    for pair in pairs.iter_mut() {
                        assert!(text(&read_frame(&mut pair[1 - side])).contains(kind));
                    }
                }
            }
            samples.push((subject.cpu() - before).as_secs_f64() * 1e3 / WAVE as f64);
            drop(streams);
            settle();
        }
    }
    for (subject, samples) in subjects.iter().zip(samples) {
        let goal = (!subject.is_forwarder).then_some(Goal::Most(0.14));
        report.add("a whole matchmaking with both connects", "ms CPU", &subject.name, samples, goal);
    }
}

/// What an idle client takes that has sent and received: user memory, from the slope between two crowds.
pub fn idle(report: &mut Report, counts: &[usize]) {
    let subject = Subject::server("lowkey-server", &[("RATE_LIMITS", "off"), ("PING_INTERVAL", "1h")]);
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut sizes = Vec::new();
    let grow = |streams: &mut Vec<TcpStream>, count: usize| {
        for number in streams.len()..count {
            // So many ports there are from one address, and no more.
            let from = [127, 0, 0, 2 + (number / 20_000) as u8];
            let mut stream = client(&subject, &format!("idle{number}"), Some(from));
            stream.write_all(&frame(&format!(r#"{{"type":"signal:ice","target":"idle{number}"}}"#))).unwrap();
            assert!(text(&read_frame(&mut stream)).contains("signal:ice"));
            streams.push(stream);
        }
        subject.resident() as f64
    };
    grow(&mut streams, 100);
    for count in counts {
        sizes.push(grow(&mut streams, *count));
    }
    let (first, last) = (counts[0], counts[counts.len() - 1]);
    let each = (sizes[sizes.len() - 1] - sizes[0]) / (last - first) as f64;
    for (count, size) in counts.iter().zip(&sizes) {
        report.add(&format!("memory with {count} idle clients"), "MB", &subject.name, vec![size / 1e6], None);
    }
    report.add("memory of an idle client (slope)", "B", &subject.name, vec![each], Some(Goal::Most(1000.0)));
}

/// The system calls for one message when nothing else happens. Needs strace.
pub fn system_calls(report: &mut Report) {
    let subject = Subject::server("lowkey-server", &[("RATE_LIMITS", "off"), ("PING_INTERVAL", "1h")]);
    let (mut alice, mut bob) = (client(&subject, "alice", None), client(&subject, "bob", None));
    let message = frame(r#"{"type":"signal:ice","target":"bob","payload":1}"#);
    let trace = std::env::temp_dir().join(format!("lowkey-bench-{}", std::process::id()));
    let process = subject.process.to_string();
    let started = Command::new("strace").args(["-p", &process, "-o"]).arg(&trace).stderr(Stdio::piped()).spawn();
    let Ok(mut strace) = started else {
        println!("system calls of a message: not counted, there is no strace");
        return;
    };
    let mut attached = [0; 256];
    let _ = strace.stderr.as_mut().unwrap().read(&mut attached);
    const MESSAGES: usize = 100;
    for _ in 0..MESSAGES {
        alice.write_all(&message).unwrap();
        read_frame(&mut bob);
    }
    let _ = Command::new("kill").args(["-INT", &strace.id().to_string()]).status();
    let _ = strace.wait();
    let lines = std::fs::read_to_string(&trace).unwrap_or_default();
    let _ = std::fs::remove_file(trace);
    let calls = lines.lines().filter(|line| line.contains('(') && !line.starts_with("---")).count();
    let each = (calls as f64 / MESSAGES as f64 * 10.0).round() / 10.0;
    report.add("system calls of a message when idle", "calls", &subject.name, vec![each], Some(Goal::Most(3.0)));
}

/// The time of a message between two while a third sends all that it may: a turn's share at once, and as much again as
/// soon as that is back. One that never reads would soon be cut, and then cost nobody anything.
pub fn fairness(report: &mut Report, is_quick: bool) {
    const BURST: usize = 500;
    let subject = Subject::server("lowkey-server", &[("RATE_LIMITS", "off"), ("PING_INTERVAL", "1h")]);
    let mut flooder = client(&subject, "flooder", None);
    let message = frame(r#"{"type":"signal:ice","target":"flooder","payload":1}"#);
    flooder.write_all(&message).unwrap();
    let mut back = vec![0; BURST * read_frame(&mut flooder).len()];
    let burst = message.repeat(BURST);
    thread::spawn(move || while flooder.write_all(&burst).and_then(|()| flooder.read_exact(&mut back)).is_ok() {});
    let (mut alice, mut bob) = (client(&subject, "alice", None), client(&subject, "bob", None));
    let message = frame(r#"{"type":"signal:ice","target":"bob","payload":1}"#);
    let times: Vec<f64> = (0..if is_quick { 300 } else { 3000 })
        .map(|_| {
            let started = Instant::now();
            alice.write_all(&message).unwrap();
            read_frame(&mut bob);
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let p99 = percentile(&times, 99.0);
    report.add("p99 of a message beside one that floods", "ms", &subject.name, vec![p99], Some(Goal::Most(5.0)));
}

/// How long the server takes from its start to its readiness.
pub fn start(report: &mut Report, rounds: usize) {
    let time = || {
        let started = Instant::now();
        let subject = on_core(0, || Subject::server("lowkey-server", &[]));
        let time = started.elapsed();
        drop(subject);
        time
    };
    let samples = (0..rounds).map(|_| time()).map(|time: Duration| time.as_secs_f64() * 1e3).collect();
    report.add("start of lowkey-server", "ms", "lowkey-server", samples, Some(Goal::Most(5.0)));
}
