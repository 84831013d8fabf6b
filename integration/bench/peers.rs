//! Real peers and the real bot: how long a chat takes to open, how long a text takes to come back, what a bot with many
//! peers needs, and how soon the terminal client asks for a line.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lowkey::peer::{Event, Events, Peer};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};

use super::report::{Goal, Report, percentile};
use super::subject::{Subject, cpu, on_core, resident};

const SOON: Duration = Duration::from_secs(20);

/// So many calls of one peer go out at once; beyond that they are spread, so as to stay below what a server takes.
const CALLS_OF_ONE: usize = 40;

/// The echo bot, ended with its scope.
struct Bot(Child);

impl Bot {
    fn start(subject: &Subject) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lowkey-bot"));
        command.env_clear().args(["--server", &format!("ws://{}", subject.address)]);
        command.stderr(Stdio::null()).stdout(Stdio::null());
        Self(on_core(0, || command.spawn().unwrap()))
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn online(subject: &Subject, name: &str) -> (Peer, Events) {
    let (peer, mut events) = Peer::connect(&format!("ws://{}", subject.address), name).unwrap();
    wait(&mut events, |event| matches!(event, Event::Online));
    (peer, events)
}

fn wait(events: &mut Events, mut is_it: impl FnMut(&Event) -> bool) {
    let deadline = Instant::now() + SOON;
    let mut seen = Vec::new();
    while let Some(event) = events.next_timeout(deadline.saturating_duration_since(Instant::now())) {
        if is_it(&event) {
            return;
        }
        seen.push(event);
    }
    panic!("not within {SOON:?}, but {seen:?}");
}

/// Opens a chat with the bot, which may not be online yet.
fn open(peer: &Peer, events: &mut Events) {
    loop {
        peer.call("echo");
        let mut is_open = false;
        wait(events, |event| {
            is_open = matches!(event, Event::Open { .. });
            is_open || matches!(event, Event::Closed { .. })
        });
        if is_open {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Chats that open, and texts that come back.
pub fn chats(report: &mut Report, is_quick: bool) {
    let subject = Subject::server("lowkey-server", &[("RATE_LIMITS", "off")]);
    let bot = Bot::start(&subject);
    let (mut peer, mut events) = online(&subject, "alice");
    open(&peer, &mut events);
    let count = if is_quick { 20 } else { 100 };
    let mut times = Vec::new();
    for number in 1..=count {
        peer.leave("echo");
        wait(&mut events, |event| matches!(event, Event::Closed { .. }));
        if number % CALLS_OF_ONE == 0 {
            (peer, events) = online(&subject, &format!("alice-{number}"));
        }
        let started = Instant::now();
        open(&peer, &mut events);
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let name = "lowkey and lowkey-bot";
    report.add(
        "from /connect to an open chat, p50",
        "ms",
        name,
        vec![percentile(&times, 50.0)],
        Some(Goal::Most(60.0)),
    );
    report.add(
        "from /connect to an open chat, longest",
        "ms",
        name,
        vec![percentile(&times, 100.0)],
        Some(Goal::Most(900.0)),
    );
    let times: Vec<f64> = (0..count * 50)
        .map(|number| {
            let sent = format!("text {number}");
            let started = Instant::now();
            peer.send("echo", &sent);
            wait(&mut events, |event| matches!(event, Event::Message { text, .. } if *text == sent));
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    report.add("a text to the bot and back, p50", "ms", name, vec![percentile(&times, 50.0)], Some(Goal::Most(0.3)));
    report.add("a text to the bot and back, p99", "ms", name, vec![percentile(&times, 99.0)], Some(Goal::Most(1.0)));
    let rates = (0..if is_quick { 3 } else { 9 }).map(|_| rate(&peer, &mut events)).collect();
    report.add("texts of 196 kB to the bot and back", "MB/s", name, rates, None);
    drop(bot);
}

/// How fast long texts go to the bot and back, in MB of text in a second, each counted once.
fn rate(peer: &Peer, events: &mut Events) -> f64 {
    let (text, started) = ("x".repeat(LONG), Instant::now());
    for _ in 0..IN_FLIGHT {
        peer.send("echo", &text);
    }
    for number in 0..LONG_TEXTS {
        wait(events, |event| matches!(event, Event::Message { .. }));
        if number + IN_FLIGHT < LONG_TEXTS {
            peer.send("echo", &text);
        }
    }
    (LONG * LONG_TEXTS) as f64 / 1e6 / started.elapsed().as_secs_f64()
}

/// Bytes of a long text, how many are sent, and how many of them are on their way at once.
const LONG: usize = 196_000;
const LONG_TEXTS: usize = 100;
const IN_FLIGHT: usize = 8;

/// A bot with a hundred peers that say nothing.
pub fn crowd(report: &mut Report, is_quick: bool) {
    let subject = Subject::server("lowkey-server", &[("RATE_LIMITS", "off")]);
    let bot = Bot::start(&subject);
    let count = if is_quick { 20 } else { 100 };
    let users: Vec<(Peer, Events)> = (0..count)
        .map(|number| {
            let (peer, mut events) = online(&subject, &format!("user{number}"));
            open(&peer, &mut events);
            (peer, events)
        })
        .collect();
    // A connection comes to rest in steps: after 5 s, and after 15 s.
    std::thread::sleep(Duration::from_secs(if is_quick { 6 } else { 20 }));
    let before = cpu(bot.0.id());
    let time = Duration::from_secs(if is_quick { 2 } else { 10 });
    std::thread::sleep(time);
    let share = (cpu(bot.0.id()) - before).as_secs_f64() / time.as_secs_f64() * 100.0;
    let memory = resident(bot.0.id()) as f64 / 1e6;
    let name = format!("lowkey-bot, {count} peers");
    report.add("memory of the bot", "MB", &name, vec![memory], Some(Goal::Most(60.0)));
    report.add("processor of the bot while all are silent", "% CPU", &name, vec![share], Some(Goal::Most(1.0)));
    drop(users);
}

/// From the start of the terminal client to its prompt.
pub fn prompt(report: &mut Report, rounds: usize) {
    let subject = Subject::server("lowkey-server", &[]);
    let home = std::env::temp_dir().join(format!("lowkey-bench-home-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let time = || {
        let size = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_lowkey"));
        command.env_clear();
        command.env("HOME", &home);
        command.env("TERM", "xterm");
        command.args(["--server", &format!("ws://{}", subject.address), "--name", "alice"]);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let started = Instant::now();
        let mut child = pair.slave.spawn_command(command).unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 1024];
        while !seen.ends_with(b"> ") && !seen.windows(2).any(|window| window == b"> ") {
            let length = reader.read(&mut buffer).unwrap();
            assert!(length > 0, "no prompt in {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..length]);
        }
        let time = started.elapsed();
        let _ = child.kill();
        let _ = child.wait();
        time.as_secs_f64() * 1e3
    };
    let samples = (0..rounds).map(|_| time()).collect();
    let _ = std::fs::remove_dir_all(&home);
    report.add("start of lowkey to its prompt", "ms", "lowkey", samples, Some(Goal::Most(30.0)));
}
