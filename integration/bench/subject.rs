//! What is measured: a process that forwards messages, be it ours, the forwarder or somebody else's.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// One process under load.
pub struct Subject {
    pub name: String,
    /// Host and port.
    pub address: String,
    pub process: u32,
    pub is_forwarder: bool,
    /// Kept so that a server of ours never writes into a closed pipe.
    _log: Option<BufReader<ChildStderr>>,
    child: Option<Child>,
}

impl Subject {
    /// Our server, on the first core: the program that `BENCH_SERVER_PROGRAM` names, which `make bench` builds as
    /// `make build` does.
    pub fn server(name: &str, variables: &[(&str, &str)]) -> Self {
        let program =
            std::env::var_os("BENCH_SERVER_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_lowkey-server").into());
        let mut command = Command::new(program);
        command.env_clear().envs([("HOST", "127.0.0.1"), ("PORT", "0")]).envs(variables.iter().copied());
        command.stderr(Stdio::piped());
        let mut child = on_core(0, || command.spawn().unwrap());
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let mut await_line = |text: &str| {
            while !line.contains(text) {
                line.clear();
                assert!(log.read_line(&mut line).unwrap() > 0, "the server does not start");
            }
            line.trim().rsplit(' ').next().unwrap().to_owned()
        };
        let address = await_line("listening on ");
        if variables.iter().any(|(name, _)| *name == "CLUSTER_URL") {
            await_line("can be asked");
        }
        let process = child.id();
        Self { name: name.to_owned(), address, process, is_forwarder: false, _log: Some(log), child: Some(child) }
    }

    /// The bare forwarder, on the first core.
    pub fn forwarder() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("forwarder").stdout(Stdio::piped());
        let mut child = on_core(0, || command.spawn().unwrap());
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let process = child.id();
        Self {
            name: "forwarder".to_owned(),
            address: address.trim().to_owned(),
            process,
            is_forwarder: true,
            _log: None,
            child: Some(child),
        }
    }

    /// The Redis or Valkey that this file is, on the first core, at a free port. It keeps nothing on disk.
    pub fn database(path: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(path);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
        command.stdout(Stdio::piped());
        let mut child = on_core(0, || command.spawn().unwrap());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("eady to accept connections"));
        assert!(is_ready, "{path} does not start");
        // It says more at its end.
        std::thread::spawn(move || lines.count());
        Self {
            name: path.rsplit('/').next().unwrap_or_default().to_owned(),
            address: format!("127.0.0.1:{port}"),
            process: child.id(),
            is_forwarder: false,
            _log: None,
            child: Some(child),
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Servers that run already, as `BENCH_SERVERS` names them: `NAME=ws://HOST:PORT@PID`, with commas between.
    pub fn others() -> Vec<Self> {
        let list = std::env::var("BENCH_SERVERS").unwrap_or_default();
        let parse = |item: &str| -> Option<Self> {
            let (name, rest) = item.split_once('=')?;
            let (url, process) = rest.rsplit_once('@')?;
            let address = url.strip_prefix("ws://")?.trim_end_matches('/').to_owned();
            let process = process.parse().ok()?;
            Some(Self { name: name.to_owned(), address, process, is_forwarder: false, _log: None, child: None })
        };
        let items = list.split(',').filter(|item| !item.is_empty());
        items.map(|item| parse(item).unwrap_or_else(|| panic!("{item} is not NAME=ws://HOST:PORT@PID"))).collect()
    }

    /// The processor time that all its threads have taken.
    pub fn cpu(&self) -> Duration {
        cpu(self.process)
    }

    /// What it holds in memory, in bytes.
    pub fn resident(&self) -> u64 {
        resident(self.process)
    }
}

/// The processor time that all threads of a process have taken.
pub fn cpu(process: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanoseconds = tasks.map_while(Result::ok).filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// What a process holds in memory, in bytes.
pub fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `start` with this thread on one core, which what it starts inherits; then goes back to the core of the load.
pub fn on_core<T>(core: usize, start: impl FnOnce() -> T) -> T {
    pin(core);
    let started = start();
    pin(1);
    started
}

/// Puts this thread on one core, where there are two. A machine with one has nothing to choose.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    if set.set(core).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}
