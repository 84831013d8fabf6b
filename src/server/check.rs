//! Asks a server for its health, as a container, systemd or a script does: a program of its own asks by the network, and so learns
//! what anybody would.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::Config;

/// Asks the server that runs with these settings on this machine whether it is well.
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
        match status(address) {
            Ok(status) if status.starts_with("HTTP/1.1 200 ") => return Ok(()),
            Ok(status) => reasons.push(format!("{address} is not well: {}", status.escape_debug())),
            Err(error) => reasons.push(format!("no server answers at {address}: {error}")),
        }
    }
    Err(reasons.join("; "))
}

/// The first line of the answer.
fn status(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

/// How long each step may take. A server that lets somebody wait for longer is not well.
const PATIENCE: Duration = Duration::from_secs(3);

/// More of an answer is not read: whatever listens there, it is not our server.
const MAX_ANSWER_BYTES: u64 = 4096;
