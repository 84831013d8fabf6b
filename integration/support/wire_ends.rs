//! A client's stream to a server in memory: no socket, and all that a test wants to know of it.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use lowkey::server::clients::ClientStream;

/// A client's stream, of which the test has the other end.
#[derive(Clone, Default)]
pub struct Wire(pub Rc<RefCell<Ends>>);

/// What is between client and server.
#[derive(Default)]
pub struct Ends {
    /// What the server has not read.
    pub sent: Vec<u8>,
    /// What the client has been given.
    pub got: Vec<u8>,
    /// The client takes nothing.
    pub is_deaf: bool,
    /// The client has ended its side, and what it has sent is all.
    pub has_ended: bool,
    /// The server has broken the stream off.
    pub is_reset: bool,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Ends { sent, has_ended, .. } = &mut *self.0.borrow_mut();
        if sent.is_empty() {
            return if *has_ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let length = sent.len().min(buffer.len());
        buffer[..length].copy_from_slice(&sent[..length]);
        sent.drain(..length);
        Ok(length)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut ends = self.0.borrow_mut();
        if ends.is_deaf {
            return Err(ErrorKind::WouldBlock.into());
        }
        ends.got.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ClientStream for Wire {
    fn shut(&mut self) {}

    fn reset(&mut self) {
        self.0.borrow_mut().is_reset = true;
    }
}
