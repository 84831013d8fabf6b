//! Real databases of a cluster, Redis and Valkey, for the tests that need one, and a balancer in front of its nodes.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::world::{Folder, Program, SOON, until};

/// The databases of this machine: what `TEST_DATABASES` names, or else what is on the path. Where there is none, the
/// tests that need one say so and do nothing; `make test-cluster` installs both.
pub fn databases() -> Vec<String> {
    if let Ok(named) = std::env::var("TEST_DATABASES") {
        let named: Vec<String> = named.split(',').map(str::to_owned).collect();
        assert!(
            named.iter().all(|database| Path::new(database).exists()),
            "TEST_DATABASES names what is not there: {named:?}"
        );
        return named;
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let find =
        |name: &str| path.split(':').map(|folder| format!("{folder}/{name}")).find(|file| Path::new(file).exists());
    let found: Vec<String> = ["redis-server", "valkey-server"].into_iter().filter_map(find).collect();
    if found.is_empty() {
        eprintln!("skipped: there is no redis-server and no valkey-server here; make test-cluster installs both");
    }
    found
}

/// A database on a free port of loopback, which keeps nothing on disk.
pub struct Database {
    path: String,
    pub program: Program,
    pub port: u16,
    folder: Folder,
    options: Vec<String>,
    conf: Option<Folder>,
}

impl Database {
    pub fn start(path: &str) -> Self {
        Self::start_with(path, &[])
    }

    /// Starts it with further options, such as `--maxmemory 1mb`.
    pub fn start_with(path: &str, options: &[&str]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let folder = Folder::new(&format!("database-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        loop {
            // Another program may take the port in between.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(program) = run(path, port, &folder, &options) {
                return Self { path: path.to_owned(), program, port, folder, options, conf: None };
            }
        }
    }

    /// Starts it with these settings.
    pub fn start_by(path: &str, conf: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let folder = Folder::new(&format!("database-conf-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let file = format!("{}/database.conf", folder.path());
        std::fs::write(&file, conf).unwrap();
        // They stand before all others.
        let mut database = Self::start_with(path, &[&file]);
        database.conf = Some(folder);
        database
    }

    /// Whether it has left nothing on disk.
    pub fn has_no_files(&self) -> bool {
        std::fs::read_dir(self.folder.path()).unwrap().count() == 0
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it; what it knew is lost.
    pub fn kill(&mut self) {
        self.program.signal("KILL");
        self.program.wait();
    }

    /// Starts it again on its port, after [`kill`](Self::kill).
    pub fn start_again(&mut self) {
        self.program = until("the database is back", || run(&self.path, self.port, &self.folder, &self.options));
    }

    /// Says that all names are known, as after the first seconds of a cluster: else each test would wait for
    /// that.
    pub fn has_no_grace(&self) {
        assert_eq!(self.ask(&["SET", "lk1:grace", "1"]), "+OK");
    }

    /// The reply to a command, in the form of RESP2, with a space for each line end.
    pub fn ask(&self, parts: &[&str]) -> String {
        self.ask_after("", parts)
    }

    /// The same after another command, whose reply is of one line.
    pub fn ask_after(&self, first: &str, parts: &[&str]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut command = format!("{first}*{}\r\n", parts.len());
        parts.iter().for_each(|part| command += &format!("${}\r\n{part}\r\n", part.len()));
        stream.write_all(command.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        if !first.is_empty() {
            reply(&mut stream);
        }
        reply(&mut stream)
    }
}

fn run(path: &str, port: u16, folder: &Folder, options: &[String]) -> Option<Program> {
    let mut command = Command::new(path);
    // A file of settings comes first.
    let (files, options): (Vec<&String>, Vec<&String>) = options.iter().partition(|option| option.starts_with('/'));
    command.args(files).args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--dir", folder.path(), "--daemonize", "no", "--loglevel", "notice"]).args(options);
    let mut program = Program::spawn(command);
    loop {
        let line = program.stdout.next_until(std::time::Instant::now() + SOON)?;
        if line.contains("eady to accept connections") {
            return Some(program);
        }
        if line.contains("Could not create server") || line.contains("Failed listening") {
            return None;
        }
    }
}

fn reply(stream: &mut impl BufRead) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let line = line.trim_end().to_owned();
    match line.split_at_checked(1) {
        Some(("$", length)) if length != "-1" => {
            let mut bytes = vec![0; length.parse::<usize>().unwrap() + 2];
            stream.read_exact(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()
        }
        Some(("*", count)) => {
            let items: Vec<String> = (0..count.parse().unwrap()).map(|_| reply(stream)).collect();
            items.join(" ")
        }
        _ => line,
    }
}

/// A real nginx in front of servers, where there is one on the path.
pub struct Nginx {
    pub address: String,
    program: Program,
    _folder: Folder,
}

/// What deploy/nginx-cluster.conf says of each server.
pub fn upstream_options() -> &'static str {
    let conf = include_str!("../../deploy/nginx-cluster.conf");
    let server = conf.lines().find_map(|line| line.trim().strip_prefix("server ")).expect("a server");
    server.split_once(' ').expect("options").1.trim_end_matches(';')
}

impl Nginx {
    /// `options` are those of each server of the upstream.
    pub fn start(servers: &[String], options: &str) -> Option<Self> {
        let path = std::env::var("PATH").unwrap_or_default();
        if !path.split(':').any(|folder| Path::new(&format!("{folder}/nginx")).exists()) {
            eprintln!("there is no nginx here: users go to the servers themselves (make test-cluster installs one)");
            return None;
        }
        let folder = Folder::new("nginx");
        let (work, port) = (folder.path(), TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let upstream: String = servers.iter().map(|server| format!("server {server} {options}; ")).collect();
        // What deploy/nginx-lowkey.conf says of /ws, without TLS.
        let conf = format!(
            "pid {work}/pid; error_log stderr crit; daemon off; worker_processes 1;
            events {{ worker_connections 4096; }}
            http {{
                access_log off;
                client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
                uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
                upstream lowkey {{ least_conn; {upstream} }}
                server {{
                    listen 127.0.0.1:{port};
                    location / {{
                        proxy_pass http://lowkey;
                        proxy_connect_timeout 2s;
                        proxy_next_upstream error timeout http_503;
                        proxy_next_upstream_tries 3;
                        proxy_http_version 1.1;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header Connection \"upgrade\";
                        proxy_set_header X-Forwarded-For $remote_addr;
                    }}
                }}
            }}"
        );
        std::fs::write(format!("{work}/conf"), conf).unwrap();
        let mut command = Command::new("nginx");
        command.args(["-p", work, "-c", &format!("{work}/conf"), "-e", "stderr"]);
        let (address, program) = (format!("127.0.0.1:{port}"), Program::spawn(command));
        until("nginx listens", || TcpStream::connect(&address).ok());
        Some(Self { address, program, _folder: folder })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // In order, so that it takes its worker along.
        self.program.signal("TERM");
        self.program.wait();
    }
}

/// Hands each connection to the next of several addresses.
pub struct Balancer {
    pub address: String,
    is_over: Arc<AtomicBool>,
}

impl Balancer {
    pub fn start(port: u16, nodes: Vec<String>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let is_over = Arc::new(AtomicBool::new(false));
        let ending = is_over.clone();
        thread::spawn(move || {
            for (stream, node) in listener.incoming().zip(nodes.iter().cycle()) {
                if ending.load(Ordering::Relaxed) {
                    return;
                }
                if let (Ok(one), Ok(other)) = (stream, TcpStream::connect(node)) {
                    join(&one, &other);
                    join(&other, &one);
                }
            }
        });
        Self { address, is_over }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // So that it sees that.
        let _ = TcpStream::connect(&self.address);
    }
}

fn join(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let _ = to.set_nodelay(true);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    });
}

/// A way to a database that can be bad: what goes through it is passed on, late, or swallowed without a word.
pub struct Way {
    pub port: u16,
    state: Arc<WayState>,
}

#[derive(Default)]
struct WayState {
    /// What is lost to the database and from it.
    is_lost: [AtomicBool; 2],
    /// Milliseconds by which what goes through is late.
    delay: AtomicU64,
    is_over: AtomicBool,
}

/// Which direction leads nowhere.
#[derive(Debug, Clone, Copy)]
pub enum Lost {
    ToDatabase,
    FromDatabase,
}

impl Way {
    /// A way to this port of loopback.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = Arc::new(WayState::default());
        let ways = state.clone();
        thread::spawn(move || {
            // What is swallowed keeps its sockets: nobody sees an end.
            let mut kept = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if ways.is_over.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(database) = TcpStream::connect(("127.0.0.1", port)) {
                    for (from, to, direction) in [(&stream, &database, 0), (&database, &stream, 1)] {
                        pass_on(from.try_clone().unwrap(), to.try_clone().unwrap(), direction, ways.clone());
                    }
                    kept.push((stream, database));
                }
            }
        });
        Self { port: own, state }
    }

    /// From now on it swallows everything, or nothing any more.
    pub fn cut(&self, is_cut: bool) {
        for direction in [Lost::ToDatabase, Lost::FromDatabase] {
            self.lose(direction, is_cut);
        }
    }

    /// The same in one direction.
    pub fn lose(&self, direction: Lost, is_lost: bool) {
        self.state.is_lost[direction as usize].store(is_lost, Ordering::Relaxed);
    }

    /// From now on all is late by so much.
    pub fn delay(&self, delay: Duration) {
        self.state.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, direction: usize, state: Arc<WayState>) {
    let _ = to.set_nodelay(true);
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        let mut was_cut = false;
        while let Ok(length @ 1..) = std::io::Read::read(&mut from, &mut buffer) {
            was_cut |= state.is_lost[direction].load(Ordering::Relaxed);
            thread::sleep(Duration::from_millis(state.delay.load(Ordering::Relaxed)));
            // A stream that lost something goes on being of no use.
            if !was_cut && to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        // Of an end nobody hears either.
        if !was_cut && !state.is_lost[direction].load(Ordering::Relaxed) {
            let _ = to.shutdown(Shutdown::Both);
        }
    });
}
