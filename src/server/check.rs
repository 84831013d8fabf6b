//! Asks a server for its health, as a container, systemd or a script does: a program of its own asks by the network,
//! and so learns what anybody would.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Config;
use super::http::WELL;
use crate::escape::quoted;
use crate::trouble;

/// Asks the server that runs with these settings on this machine whether it is well. It takes [`PATIENCE`] at most,
/// whatever listens there.
///
/// # Errors
/// It cannot be reached, or is not well; for people.
pub fn ask(config: &Config) -> Result<(), String> {
    if config.port == 0 {
        return Err("PORT is 0, so nobody knows where the server is".to_owned());
    }
    // Who listens at all addresses listens at these two, but for a machine that lacks one kind.
    let hosts: &[IpAddr] = match config.host {
        Some(ref host) if !host.is_unspecified() => std::slice::from_ref(host),
        _ => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
    };
    let mut reasons = Vec::new();
    for host in hosts {
        let address = SocketAddr::new(*host, config.port);
        match ask_at(address, Instant::now() + PATIENCE / hosts.len() as u32) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(WELL) => return Ok(()),
            Ok(answer) => reasons.push(format!("{address} is not well: {}", unwell(&answer))),
            Err(error) => reasons.push(format!("no server answers at {address}: {}", trouble::answering(&error))),
        }
    }
    Err(reasons.join("; "))
}

/// What is wrong with this answer, for people.
fn unwell(answer: &str) -> String {
    match answer.lines().next().unwrap_or_default() {
        "" => "it closed the connection without an answer".to_owned(),
        line if line.starts_with("HTTP/1.1 200 ") => "what answers there is not lowkey-server".to_owned(),
        line => quoted(line),
    }
}

/// The whole answer, if it is there by `end`.
fn ask_at(address: SocketAddr, end: Instant) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, left(end)?)?;
    stream.set_write_timeout(Some(left(end)?))?;
    stream.write_all(format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 512];
    while answer.len() < MAX_ANSWER_BYTES {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A timeout of a socket is told as this.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// How long there is until `end`, if any time is left.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// How long it may take in all, shared by the addresses. A server that lets somebody wait for longer is not well.
pub const PATIENCE: Duration = Duration::from_secs(6);

/// More of an answer is not read: whatever listens there, it is not our server.
const MAX_ANSWER_BYTES: usize = 4096;
