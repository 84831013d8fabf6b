//! The program `lowkey-server`: the environment to a `Config`, the logger, and `Server::run`.

use std::env::{self, VarError};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use lowkey::server::bounds::{Bound, bounds};
use lowkey::server::config::Secrets;
use lowkey::server::limits::{self, Limits};
use lowkey::server::{Config, Server, check, config, secret_file};
use lowkey::stderr::{self, LogLevels};
use lowkey::{signals, trouble};

fn main() -> ExitCode {
    signals::let_writes_fail();
    let arguments: Vec<String> =
        env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    match &*arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        [] => serve(),
        ["--check"] => check(),
        ["--help" | "-h"] => print(&help()),
        ["--version" | "-V"] => print(&format!("lowkey-server {}\n", env!("CARGO_PKG_VERSION"))),
        // Whoever starts a check knows no other code of it.
        ["--check", other, ..] => fail(1, &format!("--check takes no further argument, but there is {other:?}")),
        ["--help" | "-h" | "--version" | "-V", other, ..] | [other, ..] => {
            fail(2, &format!("unknown argument {other:?}; see lowkey-server --help"))
        }
    }
}

fn serve() -> ExitCode {
    match LogLevels::parse(&lookup("RUST_LOG").unwrap_or_default()) {
        Ok(levels) => levels.logger(log::LevelFilter::Info, &[]).init(),
        Err(reason) => return fail(2, &reason),
    }
    let mut config = match Config::from_env(lookup, secret_file::read) {
        Ok(config) => config,
        Err(error) => return fail(2, &error.to_string()),
    };
    // A connection is a descriptor. Where the limit cannot be raised, the one that there is has to do, and what is kept
    // of it for probes and files is not for users.
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    let (asked, room) = (config.limits.clients, limits::clients_of(descriptors));
    config.limits.clients = asked.min(room);
    let server = match Server::bind(config) {
        Ok(server) => server.reload_with(|| Secrets::from_env(lookup, secret_file::read_again)),
        Err(error) => return fail(1, &trouble::lacking(&error)),
    };
    if room < asked {
        log::info!("room for {room} users: this process may open {descriptors} files (LimitNOFILE, ulimit -n)");
    }
    stderr::say(format!("lowkey-server {}: listening on {}", env!("CARGO_PKG_VERSION"), server.local_addr()));
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        // The database of its cluster wants nothing of this server, which is a matter of settings.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => fail(2, &error.to_string()),
        Err(error) => fail(1, &format!("cannot wait for what comes: {}", trouble::lacking(&error))),
    }
}

/// Asks the server at `HOST` and `PORT` whether it is well. No other setting says where it is, and a fault in one, or
/// a file that only the server may read, says nothing of the server that runs.
fn check() -> ExitCode {
    let lookup = |name: &str| matches!(name, "HOST" | "PORT").then(|| lookup(name)).flatten();
    let config = Config::from_env(lookup, |_| Err("not read".to_owned()));
    match config.map_err(|error| error.to_string()).and_then(|config| check::ask(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(1, &reason),
    }
}

/// A variable's value. One that is not UTF-8 is passed on with marks in place of its faults, to be named in an error.
fn lookup(name: &str) -> Option<String> {
    match env::var(name) {
        Ok(value) => Some(value),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(value)) => Some(value.to_string_lossy().into_owned()),
    }
}

fn help() -> String {
    let mut text = String::from(
        "The chat server of Lowkey: it introduces users to each other, who then talk directly.\n\n\
         Usage: lowkey-server [--check | --help | --version]\n\n\
         --check asks the server at HOST and PORT whether it is well, within 6 seconds, and exits with 0 or 1.\n\n\
         Settings come from the environment:\n",
    );
    let width = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or_default();
    let names = config::VARIABLES.map(|(name, ..)| name.to_owned());
    for (name, meaning, default) in config::VARIABLES {
        text += &format!("  {name:<0$}  {meaning} [default: {default}]\n", width(&names));
    }
    text += "\nWhat is bounded, and what happens beyond:\n";
    let bounds = bounds(&Limits::default());
    let limit = |bound: &Bound| match bound.variable {
        "" => bound.limit.clone(),
        variable => format!("{} ({variable})", bound.limit),
    };
    let first = width(&bounds.iter().map(|bound| bound.what.to_owned()).collect::<Vec<_>>());
    let second = width(&bounds.iter().map(limit).collect::<Vec<_>>());
    for bound in &bounds {
        text += format!("  {:<first$}  {:<second$}  {}", bound.what, limit(bound), bound.beyond).trim_end();
        text += "\n";
    }
    text += "\nEndpoints: GET /ws?username=NAME (WebSocket), GET /health, and GET /metrics where METRICS says.\n\
             The line `listening on ADDRESS:PORT` on standard error says that the server is ready.\n\
             SIGTERM, SIGINT and any other signal that ends programs (but for those of a crash) stops it in order, a\n\
             second one at once. But SIGHUP makes it read ACCESS_TOKEN_FILE and TURN_SECRET_FILE anew, and cuts\n\
             nobody; SIGUSR1 makes it log its version and counts.\n";
    text
}

/// Prints to standard output. If nobody reads it, nobody misses it.
fn print(text: &str) -> ExitCode {
    let mut output = std::io::stdout();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => fail(1, &trouble::output(&error)),
        _ => ExitCode::SUCCESS,
    }
}

fn fail(code: u8, reason: &str) -> ExitCode {
    let level = if stderr::is_journal() { "<3>" } else { "" };
    stderr::say(format!("{level}lowkey-server: {reason}"));
    ExitCode::from(code)
}
