//! A TCP connection to a host, straight or by a proxy. It blocks, in name resolution and handshakes, so who dials has a
//! thread for it.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::socks::ProxyUrl;
use super::unreached;
use crate::trouble;

/// Why there is no connection.
#[derive(Debug)]
pub struct NotReached {
    /// What was tried to reach, in words.
    what: String,
    error: io::Error,
}

impl fmt::Display for NotReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot reach {}: {}", self.what, unreached::io(&self.error))
    }
}

/// Connects with a time limit for each step, which holds for each reading and writing too; by the proxy if there is
/// one, which may take so long to find its way.
///
/// # Errors
/// Where it failed, and why.
pub fn dial(
    proxy: Option<(&ProxyUrl, Duration)>,
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<TcpStream, NotReached> {
    let unreachable = |error| NotReached { what: format!("{host} port {port}"), error };
    match proxy {
        None => connect(host, port, limit).and_then(|stream| limited(stream, limit)).map_err(unreachable),
        Some((proxy, proxy_limit)) => {
            let (at, at_port) = &proxy.address;
            let said = |error| NotReached { what: format!("the proxy {at} port {at_port}"), error };
            let stream = connect(at, *at_port, limit).map_err(said)?;
            let deadline = Instant::now() + proxy_limit;
            let connected = proxy.connect(&mut Until { stream: &stream, deadline }, host, port);
            // `socks` has put its errors into words for people already; `worded` marks them as ours.
            connected.map_err(|error| unreachable(worded(error)))?;
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

fn worded(error: io::Error) -> io::Error {
    match error.get_ref().map(ToString::to_string) {
        Some(words) => trouble::ours(error.kind(), words),
        None => error,
    }
}

/// Tries each address of the host in turn.
fn connect(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<_> = match host.parse::<IpAddr>() {
        Ok(address) => vec![(address, port).into()],
        Err(_) => {
            (host, port).to_socket_addrs().map_err(|_| trouble::ours(ErrorKind::NotFound, UNKNOWN_NAME))?.collect()
        }
    };
    let mut last = trouble::ours(ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What is said where a name leads nowhere, whatever the system calls that.
const UNKNOWN_NAME: &str = "nobody knows that name; is it spelled right, and is this machine online?";

/// A stream that is read and written until a deadline, in however many pieces.
struct Until<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Until<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Each byte of this proxy comes in time, and all of them never do.
    #[test]
    fn a_proxy_that_drips_is_given_up() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let proxy: ProxyUrl = format!("socks5://{}", listener.local_addr().unwrap()).parse().unwrap();
        let dripping = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // A method, then an answer whose address is as long as can be, byte by byte.
            let answer = [5, 0, 5, 0, 0, 3, 255].into_iter().chain(std::iter::repeat(b'x'));
            for (count, byte) in answer.enumerate() {
                if stream.write_all(&[byte]).is_err() {
                    return count;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            unreachable!("it drips until nobody listens")
        });
        let limit = Duration::from_millis(300);
        let error = dial(Some((&proxy, limit)), "host.example", 1, Duration::from_secs(60)).unwrap_err();
        assert!(error.to_string().starts_with("cannot reach host.example port 1"), "{error}");
        assert!(dripping.join().unwrap() < 250, "before all had come");
    }
}
