//! A listening socket that does not go deaf when descriptors run out.
//!
//! An edge-triggered listener says nothing more of newcomers that wait while `accept` fails. So there is a spare
//! descriptor: given up for a moment, it lets one newcomer at a time be accepted and dropped, who is then told no by a
//! closed connection instead of being left to wait. The loop tries again by timer.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use log::debug;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::clients::SEND_BUFFER_BYTES;

/// A listening socket.
pub struct Listener {
    socket: TcpListener,
    spare: Option<File>,
}

/// What accepting has come to.
pub enum Accepted {
    /// Somebody has come.
    Newcomer(TcpStream, SocketAddr),
    /// Nobody waits. There will be an event when somebody comes.
    Nobody,
    /// Somebody may wait, but the system has no descriptor or memory left. There will be no event, so it has to be
    /// tried again.
    Exhausted(io::Error),
}

impl Listener {
    /// Listens at `host`, or at every address of the machine: where there is IPv6, one socket takes IPv4 too.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn bind(host: Option<IpAddr>, port: u16, registry: &Registry, token: Token) -> io::Result<Self> {
        let bound = match host {
            Some(host) => listen_at(SocketAddr::new(host, port)),
            None => match listen_at((Ipv6Addr::UNSPECIFIED, port).into()) {
                // A machine without IPv6.
                Err(error) if !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
                    listen_at((Ipv4Addr::UNSPECIFIED, port).into())
                }
                bound => bound,
            },
        };
        let mut socket = bound?;
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { socket, spare: spare() })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// As the system has them.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes the next newcomer.
    pub fn accept(&mut self) -> Accepted {
        loop {
            match self.socket.accept() {
                Ok((stream, address)) => return Accepted::Newcomer(stream, address),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Accepted::Nobody,
                Err(error) if is_exhausted(&error) => {
                    self.drop_waiting();
                    return Accepted::Exhausted(error);
                }
                // The newcomer is gone already, or the network made trouble on its way (accept(2)): that was one less.
                Err(error) => debug!("accept: {error}"),
            }
        }
    }

    /// Accepts and drops newcomers for whom there is no descriptor, some at a time.
    fn drop_waiting(&mut self) {
        for _ in 0..DROPPED_AT_ONCE {
            self.spare = None;
            let accepted = self.socket.accept();
            let is_over = accepted.is_err();
            drop(accepted);
            self.spare = spare();
            if is_over || self.spare.is_none() {
                return;
            }
        }
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart need not wait until the last connections of the one before are forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Each message is written at once and whole; waiting to fill a packet would only add delay. What is accepted here
    // inherits it (tcp(7)), and where it does not, it is only slower.
    socket.set_tcp_nodelay(true)?;
    // The system grows it as it likes otherwise, to megabytes for a client that does not read.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_QUEUE)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// EMFILE, ENFILE, ENOBUFS or ENOMEM: the process or the system has nothing left.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), None | Some(24 | 23 | 105 | 12))
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Newcomers that may wait to be accepted; the system may allow fewer.
const ACCEPT_QUEUE: i32 = 4096;

/// Newcomers turned away in one turn when descriptors have run out.
const DROPPED_AT_ONCE: usize = 64;
