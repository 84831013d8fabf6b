//! Clients of the server that are no peers: they say and read what a test wants.

use std::io::ErrorKind;
use std::net::TcpStream;

use serde_json::Value;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

use super::SOON;

/// A bare WebSocket client.
pub struct Client {
    pub socket: WebSocket<TcpStream>,
}

impl Client {
    pub fn connect(address: &str, name: &str) -> Self {
        Self::try_connect(address, &format!("/ws?username={name}")).expect("an upgrade")
    }

    /// Asks for an upgrade at `target`.
    pub fn try_connect(address: &str, target: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SOON))?;
        let (socket, _) = tungstenite::client(format!("ws://{address}{target}"), stream).map_err(Box::new)?;
        Ok(Self { socket })
    }

    /// Sends a text message.
    pub fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).unwrap();
    }

    /// The next text message.
    pub fn text(&mut self) -> String {
        match self.next() {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("no text message but {other:?}"),
        }
    }

    /// The next text message as JSON.
    pub fn json(&mut self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// Waits for the server's close frame.
    pub fn close_frame(&mut self) -> CloseFrame {
        match self.next() {
            Message::Close(Some(frame)) => frame,
            other => panic!("no close frame but {other:?}"),
        }
    }

    /// Waits for the end of the TCP connection.
    pub fn end(&mut self) {
        loop {
            match self.socket.read() {
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => panic!("no end"),
                Err(_) => return,
            }
        }
    }

    fn next(&mut self) -> Message {
        loop {
            match self.socket.read().expect("a message") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }
}
