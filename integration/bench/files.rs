//! A file between two peers: how fast it goes from one disk to the other, how long a text takes meanwhile, and what
//! both peers hold in memory for it.

use std::time::{Duration, Instant};

use lowkey::peer::{Event, FileOffer, Folder, Peer, Settings, Sink};

use super::report::{Goal, Report, percentile};
use super::subject::{Subject, cpu, on_core, resident};

/// Sends a file so often, between two peers on a core each.
pub fn run(report: &mut Report, is_quick: bool) {
    let subject = Subject::server("lowkey-server", &[]);
    let scratch = std::env::temp_dir().join(format!("lowkey-bench-{}", std::process::id()));
    let folder = Folder::open(scratch.join("in")).unwrap();
    let length = if is_quick { 64 } else { 256 } * 1024 * 1024;
    let content: Vec<u8> = (0..length as u64).map(|number| ((number * number) >> 13) as u8).collect();
    std::fs::write(scratch.join("file"), content).unwrap();
    let online = |core: usize, name: &str| {
        let mut settings = Settings::default();
        settings.takes_files = true;
        on_core(core, || {
            Peer::connect_with(format!("ws://{}", subject.address).parse().unwrap(), name, settings).unwrap()
        })
    };
    let ((alice, mut events), (bob, bobs)) = (online(0, "alice"), online(1, "bob"));
    let bob_side = bob.clone();
    // Bob takes everything, and gives each text back.
    std::thread::spawn(move || {
        for event in bobs {
            match event {
                Event::Request { peer, .. } => bob_side.accept(&peer),
                Event::Message { peer, text } => drop(bob_side.send(&peer, &text)),
                Event::FileOffered { peer, file, .. } => bob_side.take_file(&peer, file, Sink::folder(folder.clone())),
                _ => {}
            }
        }
    });
    wait(&mut events, |event| matches!(event, Event::Online));
    while {
        alice.call("bob");
        let mut is_open = false;
        wait(&mut events, |event| {
            is_open = matches!(event, Event::Open { .. });
            is_open || matches!(event, Event::Closed { .. })
        });
        !is_open
    } {}
    let (mut rates, mut processor, mut times, mut more) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..if is_quick { 3 } else { 5 } {
        let before = (cpu(std::process::id()), resident(std::process::id()));
        // Another time makes another file of it.
        let path = scratch.join(format!("{round}"));
        std::fs::hard_link(scratch.join("file"), &path).unwrap();
        let started = Instant::now();
        alice.offer_file("bob", FileOffer::open(&path).unwrap());
        let mut asked = Instant::now();
        alice.send("bob", "how long?");
        let mut most = 0;
        wait(&mut events, |event| match event {
            Event::Message { .. } => {
                times.push(asked.elapsed().as_secs_f64() * 1e3);
                most = most.max(resident(std::process::id()));
                asked = Instant::now();
                alice.send("bob", "how long?");
                false
            }
            Event::FileEnded { .. } => panic!("{event:?}"),
            event => matches!(event, Event::FileSent { .. }),
        });
        rates.push(length as f64 / 1e6 / started.elapsed().as_secs_f64());
        processor.push((cpu(std::process::id()) - before.0).as_secs_f64() * 1e9 / length as f64);
        more.push(most.saturating_sub(before.1) as f64 / 1e6);
        wait(&mut events, |event| matches!(event, Event::Message { .. }));
    }
    let _ = std::fs::remove_dir_all(&scratch);
    let name = "two peers";
    let what = format!("a file of {} MiB from disk to disk", length / 1024 / 1024);
    report.add(&what, "MB/s", name, rates, Some(Goal::Least(100.0)));
    report.add("processor of both, for a byte of it", "ns CPU", name, processor, None);
    report.add("a text there and back meanwhile, p50", "ms", name, vec![percentile(&times, 50.0)], None);
    report.add(
        "a text there and back meanwhile, p99",
        "ms",
        name,
        vec![percentile(&times, 99.0)],
        Some(Goal::Most(5.0)),
    );
    report.add("memory of both, more than before", "MB", name, more, Some(Goal::Most(16.0)));
    alice.shutdown();
    bob.shutdown();
}

fn wait(events: &mut lowkey::peer::Events, mut is_it: impl FnMut(&Event) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some(event) = events.next_timeout(deadline.saturating_duration_since(Instant::now())) {
        if is_it(&event) {
            return;
        }
    }
    panic!("not within a minute");
}
