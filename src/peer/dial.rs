//! A TCP connection to a host, straight or by a proxy. It blocks, in name resolution and handshakes, so who dials has a thread
//! for it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::socks::ProxyUrl;

/// Why there is no connection.
#[derive(Debug)]
pub struct NotReached {
    /// What was tried to reach, in words.
    what: String,
    error: io::Error,
}

impl fmt::Display for NotReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot reach {}: {}", self.what, self.error)
    }
}

/// Connects, by the proxy if there is one, with a time limit for each step; it holds for each reading and writing too.
///
/// # Errors
/// Where it failed, and why.
pub fn dial(proxy: Option<&ProxyUrl>, host: &str, port: u16, limit: Duration) -> Result<TcpStream, NotReached> {
    let unreachable = |error| NotReached { what: format!("{host} port {port}"), error };
    match proxy {
        None => connect(host, port, limit).and_then(|stream| limited(stream, limit)).map_err(unreachable),
        Some(proxy) => {
            let (at, at_port) = &proxy.address;
            let said = |error| NotReached { what: format!("the proxy {at} port {at_port}"), error };
            let stream = connect(at, *at_port, limit);
            let mut stream = stream.and_then(|stream| limited(stream, PROXY_TIME)).map_err(said)?;
            proxy.connect(&mut stream, host, port).map_err(unreachable)?;
            limited(stream, limit).map_err(unreachable)
        }
    }
}

/// The stream with a time limit for each reading and writing.
fn limited(stream: TcpStream, limit: Duration) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}

/// Tries each address of the host in turn.
fn connect(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<_> = match host.parse::<IpAddr>() {
        Ok(address) => vec![(address, port).into()],
        Err(_) => (host, port).to_socket_addrs()?.collect(),
    };
    let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// How long a proxy may take to answer: one such as Tor finds its way only then.
const PROXY_TIME: Duration = Duration::from_secs(60);
