//! The program `lowkey-server`: the environment to a `Config`, the logger, and `Server::run`.

use std::process::ExitCode;

use lowkey::server::{Config, Server};

const HELP: &str = "\
The signaling server of Lowkey: it introduces users to each other, who then talk directly.

Usage: lowkey-server [--help | --version]

Settings come from the environment:
  HOST          the IP address to listen on [default: all addresses, IPv4 and IPv6]
  PORT          the TCP port to listen on; 0 takes a free one [default: 8080]
  SESSION_TTL   how long a session waits, such as 300ms, 10m or 1h15m [default: 10m]
  CORS_ORIGINS  the origins that browsers may come from: * or a comma list [default: *]
  RUST_LOG      how much to log: error, warn, info, debug or off [default: info]

Endpoints: GET /ws?username=NAME (WebSocket), GET /health.
The line `listening on ADDRESS:PORT` on standard error says that the server is ready.
SIGINT or SIGTERM stops it in order; a second one stops it at once.
";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => serve(),
        Some("--help" | "-h") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Some("--version" | "-V") => {
            println!("lowkey-server {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some(other) => fail(2, &format!("unknown argument {other:?}; see lowkey-server --help")),
    }
}

fn serve() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let config = match Config::from_env(|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return fail(2, &error.to_string()),
    };
    let wanted = match config.host {
        Some(host) => std::net::SocketAddr::new(host, config.port).to_string(),
        None => format!("port {}", config.port),
    };
    let server = match Server::bind(config) {
        Ok(server) => server,
        Err(error) => return fail(1, &format!("cannot listen on {wanted}: {error}")),
    };
    eprintln!("lowkey-server {}: listening on {}", env!("CARGO_PKG_VERSION"), server.local_addr());
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format!("cannot wait for events: {error}")),
    }
}

fn fail(code: u8, reason: &str) -> ExitCode {
    eprintln!("lowkey-server: {reason}");
    ExitCode::from(code)
}
