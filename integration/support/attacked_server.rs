//! A server that clients attack, with what tells whether it is well afterwards.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::websocket::upgrade;
use crate::world::{SOON, Server, until};

/// A server, and what it took when it was new.
pub struct AttackedServer {
    pub server: Server,
    pub resident: usize,
}

impl AttackedServer {
    pub fn new(variables: &[(&str, &str)]) -> Self {
        let server = Server::start_with(variables);
        let attacked = Self { server, resident: 0 };
        attacked.fresh_pair();
        let resident = attacked.server.program.resident_kilobytes();
        Self { resident, ..attacked }
    }

    pub fn address(&self) -> &str {
        &self.server.address
    }

    /// A TCP connection that has sent nothing yet.
    pub fn raw(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// A client that was let in, as a bare TCP connection.
    pub fn upgraded(&self, name: &str) -> TcpStream {
        let mut stream = self.raw();
        stream.write_all(upgrade(name).as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        stream
    }

    pub fn fresh_pair(&self) {
        let (mut alice, mut bob) = (self.server.client("fresh_alice"), self.server.client("fresh_bob"));
        alice.send(r#"{"type":"session:connect","target":"fresh_bob"}"#);
        assert_eq!(alice.json()["type"], "session:joined");
        assert_eq!(bob.json()["type"], "session:joined");
        bob.send(r#"{"type":"signal:ice","target":"fresh_alice","payload":1}"#);
        assert_eq!(alice.json()["payload"], 1);
    }

    /// The server serves others as ever, and has given back what it took.
    pub fn is_well(&self) {
        self.fresh_pair();
        let allowed = self.resident + 6 * 1024;
        until("memory is given back", || (self.server.program.resident_kilobytes() < allowed).then_some(()));
    }
}
