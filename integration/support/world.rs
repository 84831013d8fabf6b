//! What the tests stand on: starts programs on free ports, speaks to them, and waits with deadlines.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lowkey::peer::Settings;

use crate::databases::{Balancer, Database};

pub use client::Client;
pub use program::{Lines, Program, command, lowkey, path, run};
pub use user::{User, identity, pair};

mod client;
mod program;
mod user;

/// How long anything may take that ought to happen soon. Only a test that fails waits this long.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until `poll` has something, or panics with `what` after [`SOON`].
pub fn until<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A server on a free port of loopback, or of the address in `TEST_HOST`.
///
/// With `TEST_CLUSTER=PROGRAM`, where that is a redis-server or a valkey-server, it is three nodes behind one
/// address, each of which gets every third connection: so whoever chats does so across nodes.
pub struct Server {
    pub program: Program,
    pub address: String,
    _nodes: Option<(Vec<Server>, Database, Balancer)>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(variables: &[(&str, &str)]) -> Self {
        match std::env::var("TEST_CLUSTER") {
            Ok(database) => Self::start_nodes(&database, variables),
            Err(_) => Self::start_one(variables),
        }
    }

    /// Three nodes behind a balancer.
    fn start_nodes(database: &str, variables: &[(&str, &str)]) -> Self {
        let database = Database::start(database);
        database.has_no_grace();
        let port = variables.iter().find(|(name, _)| *name == "PORT").map_or("0", |(_, port)| port);
        let mut nodes: Vec<Server> = (0..3)
            .map(|_| {
                let mut all: Vec<(&str, &str)> = variables.to_vec();
                all.retain(|(name, _)| *name != "PORT");
                let url = database.url();
                all.push(("CLUSTER_URL", &url));
                Self::start_one(&all)
            })
            .collect();
        for node in &mut nodes {
            node.program.stderr.find("can be asked");
        }
        let balancer = Balancer::start(port.parse().unwrap(), nodes.iter().map(|node| node.address.clone()).collect());
        let Server { program, .. } = nodes.remove(0);
        Self { program, address: balancer.address.clone(), _nodes: Some((nodes, database, balancer)) }
    }

    /// One server and no others.
    pub fn start_one(variables: &[(&str, &str)]) -> Self {
        let host = std::env::var("TEST_HOST").unwrap_or("127.0.0.1".to_owned());
        let mut all = vec![("HOST", &*host), ("PORT", "0")];
        all.extend(variables);
        let mut program = Program::start("lowkey-server", &[], &all);
        let line = program.stderr.find("listening on ");
        let address = line.split_once("listening on ").unwrap().1.to_owned();
        Self::of(program, address)
    }

    /// A server that was started another way.
    pub fn of(program: Program, address: String) -> Self {
        Self { program, address, _nodes: None }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// A user of the library who is online here.
    pub fn peer(&self, name: &str) -> User {
        let mut settings = Settings::default();
        settings.token = Some(format!("the token of {name}"));
        settings.identity = Some(identity(name));
        User::online(&self.url(), name, settings)
    }

    /// A bare WebSocket client that is online here.
    pub fn client(&self, name: &str) -> Client {
        Client::connect(&self.address, name)
    }

    /// The echo bot, online here as `echo`.
    pub fn bot(&self) -> Program {
        let mut bot = Program::start("lowkey-bot", &["--server", &self.url()], &[]);
        bot.stderr.find("online as echo");
        bot
    }
}

/// This very test binary with these arguments, in a network namespace of its own, behind `setup`: what a shell does
/// there first.
pub fn in_namespace(setup: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("set -eu\n{setup}\nexec \"$0\" \"$@\"");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", &script]);
    command.arg(std::env::current_exe().unwrap()).args(arguments);
    command
}

/// Runs tests in their namespace, of which all have to pass, and so many at least. Returns how many they were.
pub fn pass_in_namespace(command: &mut Command, at_least: usize) -> usize {
    let output = command.output().expect("unshare is part of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(" 0 failed"), "{said}\n{error}");
    let passed = said.matches("... ok").count();
    assert!(passed >= at_least, "only {passed} tests were run:\n{said}");
    passed
}

/// A folder of this test's own, gone at its end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lowkey-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
