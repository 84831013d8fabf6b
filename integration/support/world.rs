//! What the tests stand on: starts programs on free ports, speaks to them, and waits with deadlines.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use lowkey::peer::keys::KeyPair;
use lowkey::peer::{Event, Events, Peer, Settings};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

use crate::databases::{Balancer, Database};

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
        let mut command = command(name);
        command.args(arguments).envs(variables.iter().copied());
        Self::spawn(command)
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
        heed_signals();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self {
            stdin: child.stdin.take(),
            stdout: Lines::new(child.stdout.take().unwrap()),
            stderr: Lines::new(child.stderr.take().unwrap()),
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

/// A command for a program of ours, with an environment of its own.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(path(name));
    command.env_clear();
    command
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

/// The long-term pair of a user of this name: the same in every program of a test.
pub fn identity(name: &str) -> KeyPair {
    let mut secret = [7; 32];
    secret.iter_mut().zip(name.bytes()).for_each(|(secret, byte)| *secret = byte);
    KeyPair::from_base64(&data_encoding::BASE64.encode(&secret)).unwrap()
}

/// A user of the library: a peer with its events.
pub struct User {
    pub peer: Peer,
    pub events: Events,
}

impl User {
    /// Goes online.
    pub fn online(url: &str, name: &str, settings: Settings) -> Self {
        let (peer, events) = Peer::connect_with(url.parse().unwrap(), name, settings).unwrap();
        let mut user = Self { peer, events };
        user.expect(&Event::Online);
        user
    }

    /// The next event.
    pub fn next(&mut self) -> Event {
        self.events.next_timeout(SOON).expect("an event")
    }

    /// The next event, which has to be this one.
    pub fn expect(&mut self, event: &Event) {
        assert_eq!(&self.next(), event);
    }

    /// The next event that `find` has something for; those before it are passed over.
    pub fn find<T>(&mut self, what: &str, mut find: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + SOON;
        let mut seen = Vec::new();
        while let Some(event) = self.events.next_timeout(deadline.saturating_duration_since(Instant::now())) {
            if let Some(found) = find(&event) {
                return found;
            }
            seen.push(event);
        }
        panic!("{what}: not within {SOON:?}, but {seen:#?}")
    }

    /// Waits for the event, whatever comes before it.
    pub fn wait(&mut self, event: &Event) {
        self.find(&format!("{event:?}"), |other| (other == event).then_some(()));
    }

    /// Waits until somebody calls, whatever comes before it.
    pub fn asked_by(&mut self, peer: &str) {
        let is_it = |event: &Event| matches!(event, Event::Request { peer: caller, .. } if caller == peer);
        self.find(&format!("a call of {peer}"), |event| is_it(event).then_some(()));
    }

    /// The next event, which has to be somebody's call.
    pub fn asked_next_by(&mut self, peer: &str) {
        let event = self.next();
        assert!(matches!(&event, Event::Request { peer: caller, .. } if caller == peer), "{event:?} and not {peer}");
    }

    /// Waits to be told that who was called uses an old app, and agrees to talk to it.
    pub fn talk_to_app(&mut self, peer: &str) {
        self.wait(&Event::OldApp { peer: peer.to_owned() });
        self.peer.accept(peer);
    }

    /// Calls `peer` and waits for the open chat.
    pub fn call(&mut self, peer: &str) {
        self.peer.call(peer);
        self.wait(&Event::Open { peer: peer.to_owned() });
    }

    /// Calls `peer`, who may be about to come online, until the chat is open.
    pub fn call_soon(&mut self, peer: &str) {
        self.peer.call(peer);
        let again = self.peer.clone();
        self.find(&format!("a chat with {peer}"), |event| match event {
            Event::Open { .. } => Some(()),
            Event::Closed { .. } => {
                thread::sleep(Duration::from_millis(50));
                again.call(peer);
                None
            }
            _ => None,
        });
    }

    /// Waits for a call of `peer`, takes it, and waits for the open chat.
    pub fn answer(&mut self, peer: &str) {
        self.asked_by(peer);
        self.peer.accept(peer);
        self.wait(&Event::Open { peer: peer.to_owned() });
    }

    /// The next text, from whom and which.
    pub fn message(&mut self) -> (String, String) {
        self.find("a message", |event| match event {
            Event::Message { peer, text } => Some((peer.clone(), text.clone())),
            _ => None,
        })
    }
}

/// A bare WebSocket client.
pub struct Client {
    pub socket: WebSocket<TcpStream>,
}

impl Client {
    pub fn connect(address: &str, name: &str) -> Self {
        Self::try_connect(address, &format!("/ws?username={name}")).expect("an upgrade")
    }

    /// Asks for an upgrade at `target`.
    pub fn try_connect(address: &str, target: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SOON))?;
        let (socket, _) = tungstenite::client(format!("ws://{address}{target}"), stream).map_err(Box::new)?;
        Ok(Self { socket })
    }

    /// Sends a text message.
    pub fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).unwrap();
    }

    /// The next text message.
    pub fn text(&mut self) -> String {
        match self.next() {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("no text message but {other:?}"),
        }
    }

    /// The next text message as JSON.
    pub fn json(&mut self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// Waits for the server's close frame.
    pub fn close_frame(&mut self) -> CloseFrame {
        match self.next() {
            Message::Close(Some(frame)) => frame,
            other => panic!("no close frame but {other:?}"),
        }
    }

    /// Waits for the end of the TCP connection.
    pub fn end(&mut self) {
        loop {
            match self.socket.read() {
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => panic!("no end"),
                Err(_) => return,
            }
        }
    }

    fn next(&mut self) -> Message {
        loop {
            match self.socket.read().expect("a message") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }
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
