//! What the server sees of two old apps that call each other.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

use super::{Network, PUBLIC};
use crate::world::Server;

/// A proxy in front of the server that sees what each of two peers of ours sends. It makes old apps of them, which seal
/// nothing: so it sees all that would otherwise only be sealed.
pub struct Wiretap {
    pub url: String,
    signals: Arc<Mutex<Vec<String>>>,
}

impl Wiretap {
    pub fn start(network: &Network, server: &Server) -> Self {
        let listener = network.internet.run(|| TcpListener::bind((PUBLIC, 0)).unwrap());
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let signals = Arc::new(Mutex::new(Vec::new()));
        let (address, all) = (server.address.clone(), signals.clone());
        network.internet.run(|| {
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let (address, all) = (address.clone(), all.clone());
                    thread::spawn(move || Self::relay(stream, &address, &all));
                }
            })
        });
        Self { url, signals }
    }

    fn relay(stream: TcpStream, address: &str, all: &Mutex<Vec<String>>) {
        let mut path = String::new();
        #[expect(clippy::result_large_err, reason = "it is tungstenite's callback")]
        let take_path = |request: &Request, response: Response| {
            path = request.uri().to_string();
            Ok(response)
        };
        let mut peer = tungstenite::accept_hdr(stream, take_path).unwrap();
        let upstream = TcpStream::connect(address).unwrap();
        let (mut server, _) = tungstenite::client(format!("ws://{address}{path}"), upstream).unwrap();
        for socket in [&peer, &server] {
            socket.get_ref().set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        }
        let next = |socket: &mut WebSocket<TcpStream>| match socket.read() {
            Ok(message) => Ok(Some(message)),
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        };
        while let (Ok(from_peer), Ok(from_server)) = (next(&mut peer), next(&mut server)) {
            if let Some(Message::Text(text)) = from_peer {
                all.lock().unwrap().push(text.to_string());
                let mut message: Value = serde_json::from_str(&text).unwrap();
                if let Some(payload) = message["payload"].as_object_mut() {
                    payload.remove("lowkey");
                }
                server.send(Message::text(message.to_string())).unwrap();
            }
            if let Some(Message::Text(text)) = from_server {
                peer.send(Message::Text(text)).unwrap();
            }
        }
    }

    /// All that was sent by now; there are descriptions and candidates of both sides in it.
    pub fn signals(&self) -> String {
        let signals = self.signals.lock().unwrap().join("\n");
        for part in ["signal:offer", "signal:answer", "signal:ice", "candidate:", "fingerprint"] {
            assert!(signals.contains(part), "no {part} in {signals}");
        }
        signals
    }
}
