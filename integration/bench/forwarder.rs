//! The baseline of forwarding: one thread that copies what comes on one socket to the socket of its partner, with
//! one buffer, and looks at none of it. Connections are partners in the order in which they come: first and second,
//! third and fourth.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

/// Forwards until it is killed. Its address goes to standard output.
pub fn run() {
    // It forgets nobody who was there.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut poll = Poll::new().unwrap();
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
    println!("{}", listener.local_addr().unwrap());
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 32 * 1024];
    loop {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true).unwrap();
                    let token = Token(streams.len());
                    poll.registry().register(&mut stream, token, Interest::READABLE).unwrap();
                    streams.push(stream);
                }
                continue;
            }
            loop {
                let length = match streams[event.token().0].read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => break,
                };
                // The load never has more under way than a socket's buffer holds.
                let _ = streams[event.token().0 ^ 1].write_all(&buffer[..length]);
                if length < buffer.len() {
                    break;
                }
            }
        }
    }
}
