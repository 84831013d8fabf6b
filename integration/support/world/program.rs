//! Starts programs, ours and others, and reads what they say line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::{Folder, SOON, until};

/// A program of ours under test. It is killed when it goes out of scope.
pub struct Program {
    child: Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: Lines,
    pub stderr: Lines,
}

/// Lines of a stream as they come.
pub struct Lines {
    receiver: Receiver<String>,
    pub seen: Vec<String>,
}

impl Program {
    /// Starts `lowkey`, `lowkey-bot` or `lowkey-server` with nothing of this process's settings.
    pub fn start(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn(command(name, arguments, variables))
    }

    /// Starts a server that may have so many descriptors and no more.
    pub fn with_descriptors(count: usize) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {count} && exec \"$0\""), path("lowkey-server")]);
        command.env_clear().envs([("HOST", "127.0.0.1"), ("PORT", "0")]);
        Self::spawn(command)
    }

    /// Starts a program, ours or another, with its streams to be read.
    pub fn spawn(mut command: Command) -> Self {
        Self::of(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Starts a program that reads nothing and of which nothing is read, with this for its standard error.
    pub fn spawn_unread(mut command: Command, stderr: impl Into<Stdio>) -> Self {
        Self::of(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr))
    }

    fn of(command: &mut Command) -> Self {
        heed_signals();
        let mut child = command.spawn().unwrap();
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map_or_else(Lines::none, Lines::new),
            stderr: child.stderr.take().map_or_else(Lines::none, Lines::new),
            child,
        }
    }

    /// Writes a line to its standard input.
    pub fn write(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends it a signal by name, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it holds in memory, in KiB.
    pub fn resident_kilobytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// How many descriptors it has.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// The processor time that it has spent, to a hundredth of a second.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name in parentheses, user and system time are the 12th and 13th field.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        until("the program ends", || self.try_wait())
    }

    /// How it has ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where signals are ignored that end programs, as they are below `nohup` and in a script's background, the programs
/// under test would ignore them too. What is handled here has its default there again.
fn heed_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
            if ignored & (1 << (signal - 1)) != 0 {
                signal_hook::flag::register(signal, Arc::default()).unwrap();
            }
        }
    });
}

/// A command for `lowkey`, `lowkey-bot` or `lowkey-server` with nothing of this process's settings.
pub fn command(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(path(name));
    command.env_clear().args(arguments).envs(variables.iter().copied());
    command
}

/// `lowkey` through pipes with a home of its own, as this user at the server of this URL: online.
pub fn lowkey(url: &str, home: &Folder, name: &str, arguments: &[&str]) -> Program {
    let all = [&["--server", url, "--name", name], arguments].concat();
    let mut program = Program::start("lowkey", &all, &[("HOME", home.path())]);
    program.stderr.find("online");
    program
}

/// What a program of ours has said by its end, and how it ended.
pub fn run(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(name, arguments, variables).output().unwrap()
}

/// Where a program of ours is.
pub fn path(name: &str) -> &'static str {
    match name {
        "lowkey" => env!("CARGO_BIN_EXE_lowkey"),
        "lowkey-bot" => env!("CARGO_BIN_EXE_lowkey-bot"),
        "lowkey-server" => env!("CARGO_BIN_EXE_lowkey-server"),
        _ => panic!("no program {name}"),
    }
}

impl Lines {
    pub fn new(stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { receiver, seen: Vec::new() }
    }

    /// Those of no stream.
    pub fn none() -> Self {
        Self { receiver: mpsc::channel().1, seen: Vec::new() }
    }

    /// The next line.
    pub fn next(&mut self) -> String {
        match self.receiver.recv_timeout(SOON) {
            Ok(line) => {
                self.seen.push(line.clone());
                line
            }
            Err(error) => panic!("no further line ({error}) after {:#?}", self.seen),
        }
    }

    /// The next line, if there is one by then.
    pub fn next_until(&mut self, deadline: Instant) -> Option<String> {
        self.receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }

    /// The next line that contains `part`; those before it are passed over.
    pub fn find(&mut self, part: &str) -> String {
        loop {
            let line = self.next();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// All further lines to the end of the stream.
    pub fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Ok(line) = self.receiver.recv_timeout(SOON) {
            rest.push(line);
        }
        rest
    }
}
