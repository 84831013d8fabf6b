//! What everything costs: `make bench`. The server and the baseline run on the first core, the load on the second, in
//! interleaved rounds; each figure is the median of its rounds.
//!
//! `BENCH=forward,memory` runs some parts alone, `BENCH_QUICK=1` runs fewer and shorter rounds, `BENCH_JSON=FILE`
//! writes the figures for programs, and `BENCH_SERVERS=NAME=ws://HOST:PORT@PID` measures other servers beside ours.

mod clients;
mod files;
mod forwarder;
mod handshake;
mod load;
mod memory;
#[path = "../support/model_database.rs"]
#[expect(dead_code, reason = "nothing goes wrong here")]
mod model_database;
mod nodes;
mod peers;
mod report;
mod subject;
mod sweep;

use std::time::Duration;

use load::Pairs;
use report::{Goal, Report};
use subject::Subject;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("forwarder") {
        return forwarder::run();
    }
    let is_quick = std::env::var_os("BENCH_QUICK").is_some();
    let rounds = if is_quick { 5 } else { 25 };
    let window = Duration::from_millis(if is_quick { 150 } else { 300 });
    let parts = std::env::var("BENCH").unwrap_or_default();
    let is_wanted = |part: &str| parts.is_empty() || parts.split(',').any(|wanted| wanted == part);
    subject::pin(1);
    let mut report = Report::default();
    Report::head();
    if is_wanted("forward") {
        forwarding(&mut report, rounds, window);
    }
    let few = rounds / 2;
    if is_wanted("nodes") {
        nodes::run(&mut report, rounds, window);
    }
    if is_wanted("connect") {
        let mut subjects = vec![Subject::server("lowkey-server", &[("RATE_LIMITS", "off"), ("PING_INTERVAL", "1h")])];
        subjects.extend(Subject::others());
        clients::connects(&mut report, &subjects, few);
        subjects.insert(0, Subject::forwarder());
        clients::matchmaking(&mut report, &subjects, few);
    }
    if is_wanted("idle") {
        clients::idle(&mut report, if is_quick { &[1000, 5000] } else { &[5000, 10_000, 19_000] });
    }
    if is_wanted("loop") {
        clients::system_calls(&mut report);
        clients::fairness(&mut report, is_quick);
        clients::start(&mut report, few);
    }
    if is_wanted("handshake") {
        handshake::run(&mut report, few);
    }
    if is_wanted("peers") {
        peers::prompt(&mut report, few);
        peers::chats(&mut report, is_quick);
        peers::crowd(&mut report, is_quick);
    }
    if is_wanted("files") {
        files::run(&mut report, is_quick);
    }
    if is_wanted("memory") {
        memory::run(&mut report, is_quick);
    }
    if is_wanted("memory") || is_wanted("sweep") {
        sweep::run(&mut report, is_quick);
    }
    if let Some(path) = std::env::var_os("BENCH_JSON") {
        std::fs::write(path, format!("{:#}\n", report.json())).unwrap();
    }
}

/// The cost of a forwarded message.
fn forwarding(report: &mut Report, rounds: usize, window: Duration) {
    let mut subjects = vec![
        Subject::forwarder(),
        Subject::server("lowkey-server", &[("RATE_LIMITS", "off"), ("PING_INTERVAL", "1h")]),
    ];
    subjects.extend(Subject::others());
    for (what, size, depth, goal) in [
        ("forward, 200 B, 64 pairs, 1 in flight", 200, 1, 1.1),
        ("forward, 200 B, 64 pairs, 8 in flight", 200, 8, 1.5),
        ("forward, 2.5 kB, 64 pairs, 4 in flight", 2500, 4, 1.8),
    ] {
        let mut pairs: Vec<Pairs> = subjects.iter().map(|subject| Pairs::connect(subject, 64, size)).collect();
        let mut samples = vec![Vec::new(); subjects.len()];
        for _ in 0..rounds {
            for ((subject, pairs), samples) in subjects.iter().zip(&mut pairs).zip(&mut samples) {
                pairs.run(depth, window / 10);
                let (cpu, received) = (subject.cpu(), pairs.received);
                pairs.run(depth, window);
                let spent = subject.cpu() - cpu;
                samples.push(spent.as_secs_f64() * 1e6 / (pairs.received - received) as f64);
            }
        }
        for (subject, samples) in subjects.iter().zip(samples) {
            let goal = (!subject.is_forwarder).then_some(Goal::Ratio(goal));
            report.add(what, "µs CPU", &subject.name, samples, goal);
        }
    }
}
