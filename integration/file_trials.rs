//! Files between two programs that are killed, stopped and cut off from their server at moments of chance, until the
//! same command, said again and again, has come to its end. Run by `make trials`. Each trial comes of a seed, which is
//! said where it fails; the moments are those of the machine, so it need not fail again.

use std::fmt::Write;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::file_users::names;
use crate::world::{Folder, Program, Server};

/// Does so many trials, some at once, the first of which has this seed.
pub fn run(count: u64, first: u64) {
    let (next, begin) = (AtomicU64::new(0), Instant::now());
    let kills = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let mut trial = Trial::new(first + number);
                    match trial.run() {
                        Ok(()) => kills.fetch_add(trial.done as u64, Ordering::Relaxed),
                        Err(what) => {
                            let state = trial.state();
                            panic!("seed {}: {what}\n{state}", trial.seed);
                        }
                    };
                    if number % 50 == 49 {
                        println!("{} files after {:.0?}", number + 1, begin.elapsed());
                    }
                }
            });
        }
    });
    let last = first + count - 1;
    let kills = kills.into_inner();
    println!(
        "{count} files arrived once and whole through {kills} acts; seeds {first} to {last}; {:.0?}",
        begin.elapsed()
    );
}

/// What is done to one of those who have a part in it.
#[derive(Debug, Clone, Copy)]
enum Act {
    KillSender,
    KillTaker,
    KillServer,
    /// So long that the connection is lost, and sometimes only almost.
    StopSender,
    StopTaker,
}

/// One file that is sent.
struct Trial {
    seed: u64,
    random: fastrand::Rng,
    scratch: Folder,
    server: Option<Server>,
    port: String,
    sender: Option<Program>,
    taker: Option<Program>,
    content: Vec<u8>,
    /// What has happened, and when.
    story: Vec<(Duration, String)>,
    begin: Instant,
    /// How many acts were done.
    done: usize,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let scratch = Folder::new(&format!("trial-{seed}"));
        // As many short ones as long ones.
        let longest = 1 << random.u32(0..=LONGEST);
        let length = random.usize(0..=longest);
        let mut content = vec![0; length];
        random.fill(&mut content);
        for name in ["from", "into", "alice", "bob"] {
            fs::create_dir(scratch.0.join(name)).unwrap();
        }
        fs::write(scratch.0.join("from/x"), &content).unwrap();
        let server = Server::start();
        let port = server.address.rsplit_once(':').unwrap().1.to_owned();
        let (sender, taker, story, begin) = (None, None, Vec::new(), Instant::now());
        Self { seed, random, scratch, server: Some(server), port, sender, taker, content, story, begin, done: 0 }
    }

    fn run(&mut self) -> Result<(), String> {
        let mut acts: Vec<Act> = (0..self.random.usize(1..=5)).map(|_| act(&mut self.random)).collect();
        let mut next = Instant::now() + self.pause();
        let (mut until, mut arrived) = (Instant::now() + PATIENCE, false);
        while !arrived || !acts.is_empty() {
            if Instant::now() >= until {
                return Err(format!("it did not come to its end within {PATIENCE:?} after the last act"));
            }
            if Instant::now() >= next
                && let Some(act) = acts.pop()
            {
                self.act(act);
                next = Instant::now() + self.pause();
                (until, arrived) = (Instant::now() + PATIENCE, false);
            }
            self.start_what_is_not_there();
            let Some(status) = self.sender.as_mut().and_then(Program::try_wait) else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            self.tell(format!("the sender ends: {status}"));
            let said = self.sender.take().map(|mut program| program.stderr.rest().join("\n")).unwrap_or_default();
            self.tell(said);
            match status.code() {
                Some(0) => {
                    self.check()?;
                    arrived = true;
                }
                // By our hand, or since it was not its day.
                None | Some(1 | 3 | 4) => thread::sleep(Duration::from_millis(50)),
                code => return Err(format!("the sender ended with {code:?}")),
            }
        }
        // What came is there once, whatever was said again and again.
        self.check()
    }

    /// Until the next act.
    fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(0..1500))
    }

    fn act(&mut self, act: Act) {
        self.done += 1;
        self.tell(format!("{act:?}"));
        match act {
            // It is started again, by the same command.
            Act::KillSender => drop(self.sender.take()),
            Act::KillTaker => drop(self.taker.take()),
            Act::KillServer => {
                drop(self.server.take());
                thread::sleep(Duration::from_millis(self.random.u64(0..2000)));
                self.server = Some(Server::start_with(&[("PORT", &self.port)]));
            }
            Act::StopSender | Act::StopTaker => {
                let time = Duration::from_millis(self.random.u64(10_000..20_000));
                let program = if matches!(act, Act::StopSender) { &self.sender } else { &self.taker };
                let Some(program) = program else { return };
                program.signal("STOP");
                thread::sleep(time);
                program.signal("CONT");
                self.tell(format!("goes on after {time:?}"));
            }
        }
    }

    fn start_what_is_not_there(&mut self) {
        let url = format!("ws://127.0.0.1:{}", self.port);
        let path = |name: &str| self.scratch.0.join(name).to_str().unwrap().to_owned();
        let start = |name: &str, arguments: &[&str]| {
            let all = [&["--server", &url, "--name", name], arguments].concat();
            Program::start("lowkey", &all, &[("HOME", &path(name)), ("RUST_LOG", "lowkey=debug")])
        };
        if self.taker.as_mut().is_some_and(|taker| taker.try_wait().is_some()) {
            let said = self.taker.take().map(|mut program| program.stderr.rest().join("\n")).unwrap_or_default();
            self.story.push((self.begin.elapsed(), format!("the taker has ended: {said}")));
        }
        let taker = self.taker.is_none();
        if taker {
            self.taker = Some(start("bob", &["listen", "--accept-files", &path("into"), "--from", "alice"]));
        }
        let sender = self.sender.is_none();
        if sender {
            self.sender = Some(start("alice", &["send", "bob", "--file", &path("from/x")]));
        }
        if taker || sender {
            self.tell(format!("started: taker {taker}, sender {sender}"));
        }
    }

    /// What is said to have arrived is there, once, and is what was sent.
    fn check(&self) -> Result<(), String> {
        let into = self.scratch.0.join("into");
        let names = names(&into);
        if names != ["x"] {
            return Err(format!("there is {names:?}"));
        }
        if fs::read(into.join("x")).unwrap() != self.content {
            return Err("what is there is not what was sent".to_owned());
        }
        Ok(())
    }

    fn tell(&mut self, what: String) {
        self.story.push((self.begin.elapsed(), what));
    }

    /// All that may tell why it goes no further.
    fn state(&mut self) -> String {
        let mut state = format!("{} bytes\n", self.content.len());
        for (at, what) in &self.story {
            let _ = writeln!(state, "{at:.3?}: {what}");
        }
        for (name, program) in [("sender", &mut self.sender), ("taker", &mut self.taker)] {
            let Some(program) = program else { continue };
            let _ = writeln!(state, "--- the {name}, {}, says:", program.id());
            let soon = Instant::now() + Duration::from_secs(1);
            while let Some(line) = program.stderr.next_until(soon) {
                let _ = writeln!(state, "{line}");
            }
            let threads = fs::read_dir(format!("/proc/{}/task", program.id())).into_iter().flatten().flatten();
            for thread in threads {
                let of = |what: &str| fs::read_to_string(thread.path().join(what)).unwrap_or_default();
                let _ = writeln!(state, "thread {} in {}", of("comm").trim(), of("wchan"));
            }
        }
        let into = self.scratch.0.join("into");
        for folder in [into.clone(), into.join(".lowkey")] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let _ = writeln!(state, "{}: {:?}", entry.path().display(), entry.metadata());
                if entry.path().extension().is_some_and(|end| end == "json") {
                    let _ = writeln!(state, "{}", fs::read_to_string(entry.path()).unwrap_or_default());
                }
            }
        }
        state
    }
}

fn act(random: &mut fastrand::Rng) -> Act {
    match random.u8(0..20) {
        0..7 => Act::KillSender,
        7..14 => Act::KillTaker,
        14..18 => Act::KillServer,
        18 => Act::StopSender,
        _ => Act::StopTaker,
    }
}

/// The longest file is two to the power of this: 64 MiB.
const LONGEST: u32 = 26;

/// Trials at once: most of their time they wait.
const AT_ONCE: usize = 32;

/// How long a file may take after the last that was done to it.
const PATIENCE: Duration = Duration::from_secs(180);
