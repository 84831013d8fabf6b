//! A peer as the original app is one: no features, v1 texts, one secret. It is written on the `webrtc` and `crypto_box`
//! crates directly and shares no code with the library, so that a test can make it say anything at any stage.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use crypto_box::aead::{Aead, AeadCore, OsRng};
use crypto_box::{PublicKey, SalsaBox, SecretKey};
use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionIceEvent,
    RTCSessionDescription, SettingEngineBuilder,
};

use crate::world::{Client, SOON, Server, until};

/// A user of the original app.
pub struct OldApp {
    pub client: Client,
    pub peer: String,
    secret: SecretKey,
    peer_key: Option<PublicKey>,
    runtime: Runtime,
    connection: Option<Arc<dyn PeerConnection>>,
    channel: Option<Arc<dyn DataChannel>>,
    notes: Receiver<Note>,
    notes_sender: Sender<Note>,
    texts: Vec<String>,
    is_closed: bool,
}

enum Note {
    Candidate(String),
    Channel(Arc<dyn DataChannel>),
    Open,
    Text(String),
    Closed,
}

struct Handler(Sender<Note>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let _ = self.0.send(Note::Candidate(event.candidate.to_json().unwrap().candidate));
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let _ = self.0.send(Note::Channel(channel));
    }
}

impl OldApp {
    /// Goes online.
    pub fn online(server: &Server, name: &str) -> Self {
        let (notes_sender, notes) = mpsc::channel();
        Self {
            client: server.client(name),
            peer: String::new(),
            secret: SecretKey::generate(&mut OsRng),
            peer_key: None,
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
            connection: None,
            channel: None,
            notes,
            notes_sender,
            texts: Vec::new(),
            is_closed: false,
        }
    }

    /// Calls `peer` up to an open chat.
    pub fn call(server: &Server, name: &str, peer: &str) -> Self {
        let mut app = Self::online(server, name);
        app.connect(peer);
        app.send_key();
        app.await_key();
        app.offer();
        app.negotiate();
        app
    }

    /// Waits for a call, and answers it up to an open chat, consenting at once as the old app does.
    pub fn answer(server: &Server, name: &str, online: impl FnOnce()) -> Self {
        let mut app = Self::online(server, name);
        online();
        app.peer = app.find("session:joined")["payload"]["peer"].as_str().unwrap().to_owned();
        app.send_key();
        app.await_key();
        app.build();
        let offer = app.find("signal:offer");
        let connection = app.connection.clone().unwrap();
        let answer = app.runtime.block_on(async {
            let sdp = offer["payload"]["sdp"].as_str().unwrap().to_owned();
            connection.set_remote_description(RTCSessionDescription::offer(sdp).unwrap()).await.unwrap();
            let answer = connection.create_answer(None).await.unwrap();
            connection.set_local_description(answer.clone()).await.unwrap();
            answer.sdp
        });
        app.signal("signal:answer", &json!({"sdp": answer, "type": "answer"}));
        app.negotiate();
        app
    }

    /// Opens a session with `peer`.
    pub fn connect(&mut self, peer: &str) {
        self.peer = peer.to_owned();
        self.client.send(json!({"type": "session:connect", "target": peer}).to_string());
        self.find("session:joined");
    }

    pub fn public_key(&self) -> [u8; 32] {
        self.secret.public_key().to_bytes()
    }

    pub fn send_key(&mut self) {
        self.signal("key:exchange", &json!({"publicKey": BASE64.encode(&self.public_key())}));
    }

    /// Waits for the peer's key.
    pub fn await_key(&mut self) {
        let key = self.find("key:exchange")["payload"]["publicKey"].as_str().unwrap().to_owned();
        let bytes: [u8; 32] = BASE64.decode(key.as_bytes()).unwrap().try_into().unwrap();
        self.peer_key = Some(PublicKey::from_bytes(bytes));
    }

    /// Makes a connection with a channel and sends the offer.
    pub fn offer(&mut self) {
        self.build();
        let connection = self.connection.clone().unwrap();
        let (channel, offer) = self.runtime.block_on(async {
            let channel = connection.create_data_channel("chat", None).await.unwrap();
            let offer = connection.create_offer(None).await.unwrap();
            connection.set_local_description(offer.clone()).await.unwrap();
            (channel, offer.sdp)
        });
        self.attach(channel);
        self.signal("signal:offer", &json!({"sdp": offer, "type": "offer"}));
    }

    /// Sends a message of the signaling.
    pub fn signal(&mut self, kind: &str, payload: &Value) {
        self.client.send(json!({"type": kind, "target": self.peer, "payload": payload}).to_string());
    }

    /// The next message of this type; those before it are passed over.
    pub fn find(&mut self, kind: &str) -> Value {
        loop {
            let message = self.client.json();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Exchanges descriptions and candidates until the channel is open.
    fn negotiate(&mut self) {
        self.client.socket.get_ref().set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let connection = self.connection.clone().unwrap();
        until("the old app's channel opens", || {
            match self.client.socket.read() {
                Ok(tungstenite::Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    let payload = &message["payload"];
                    let kind = message["type"].as_str().unwrap().to_owned();
                    self.runtime.block_on(async {
                        if kind == "signal:answer" {
                            let sdp = payload["sdp"].as_str().unwrap().to_owned();
                            let answer = RTCSessionDescription::answer(sdp).unwrap();
                            connection.set_remote_description(answer).await.unwrap();
                        } else if kind == "signal:ice" {
                            let candidate = serde_json::from_value(payload.clone()).unwrap();
                            connection.add_ice_candidate(candidate).await.unwrap();
                        }
                    });
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(_)) => {}
                Err(error) => panic!("{error}"),
            }
            while let Ok(note) = self.notes.try_recv() {
                match note {
                    Note::Candidate(candidate) => {
                        let payload = json!({"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0});
                        self.signal("signal:ice", &payload);
                    }
                    Note::Channel(channel) => self.attach(channel),
                    Note::Open => return Some(()),
                    Note::Text(_) | Note::Closed => panic!("before the channel is open"),
                }
            }
            None
        });
        self.client.socket.get_ref().set_read_timeout(Some(SOON)).unwrap();
    }

    /// Sends a text message as it stands.
    pub fn send_raw(&self, text: &str) {
        let channel = self.channel.as_ref().unwrap();
        self.runtime.block_on(channel.send_text(text)).unwrap();
    }

    /// Seals and sends a text in format v1.
    pub fn send(&self, text: &str) {
        self.send_raw(&self.seal(text));
    }

    pub fn seal(&self, text: &str) -> String {
        let nonce = SalsaBox::generate_nonce(&mut OsRng);
        let sealed = self.shared().encrypt(&nonce, text.as_bytes()).unwrap();
        BASE64.encode(&[nonce.as_slice(), &sealed].concat())
    }

    /// Seals and sends a text in format v2, whose ratchet stays where it began.
    pub fn send_v2(&self, text: &str) {
        let rk = BASE64.encode(&self.public_key());
        self.send_raw(&json!({"rk": rk, "ct": self.seal(text)}).to_string());
    }

    /// The next text message, which has to be in format v2, opened.
    pub fn text_v2(&mut self) -> String {
        let message = self.raw_text(SOON).expect("a text");
        let message: Value = serde_json::from_str(&message).expect("format v2");
        assert_eq!(message["rk"], BASE64.encode(self.peer_key.as_ref().unwrap().as_bytes()));
        self.open(message["ct"].as_str().unwrap())
    }

    /// The next text message, which has to be in format v1, opened.
    pub fn text(&mut self) -> String {
        let message = self.raw_text(SOON).expect("a text");
        self.open(&message)
    }

    fn open(&self, message: &str) -> String {
        let bytes = BASE64.decode(message.as_bytes()).unwrap();
        let (nonce, sealed) = bytes.split_at(24);
        String::from_utf8(self.shared().decrypt(nonce.into(), sealed).unwrap()).unwrap()
    }

    /// The next text message as it came, if one comes within `wait`.
    pub fn raw_text(&mut self, wait: Duration) -> Option<String> {
        let deadline = Instant::now() + wait;
        while self.texts.is_empty() && !self.is_closed {
            match self.notes.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()? {
                Note::Text(text) => self.texts.push(text),
                Note::Closed => self.is_closed = true,
                _ => {}
            }
        }
        (!self.texts.is_empty()).then(|| self.texts.remove(0))
    }

    /// Waits until the other side has closed the channel; no text may come before.
    pub fn closed(&mut self) {
        assert_eq!(self.raw_text(SOON), None);
        assert!(self.is_closed, "the other side has not closed the channel");
    }

    fn shared(&self) -> SalsaBox {
        SalsaBox::new(self.peer_key.as_ref().unwrap(), &self.secret)
    }

    fn build(&mut self) {
        let notes = self.notes_sender.clone();
        let connection = self.runtime.block_on(async {
            let settings = SettingEngineBuilder::new()
                .with_include_loopback_candidate(true)
                .with_multicast_dns_mode(rtc::ice::mdns::MulticastDnsMode::Disabled)
                .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
                .build();
            PeerConnectionBuilder::new()
                .with_setting_engine(settings)
                .with_handler(Arc::new(Handler(notes)))
                .with_udp_addrs(vec!["127.0.0.1:0".to_owned()])
                .build()
                .await
                .unwrap()
        });
        self.connection = Some(Arc::new(connection));
    }

    fn attach(&mut self, channel: Arc<dyn DataChannel>) {
        let (reader, notes) = (channel.clone(), self.notes_sender.clone());
        self.runtime.spawn(async move {
            while let Some(event) = reader.poll().await {
                let note = match event {
                    DataChannelEvent::OnOpen => Note::Open,
                    DataChannelEvent::OnMessage(message) => {
                        Note::Text(String::from_utf8(message.data.to_vec()).unwrap())
                    }
                    DataChannelEvent::OnClose => Note::Closed,
                    _ => continue,
                };
                let _ = notes.send(note);
            }
            let _ = notes.send(Note::Closed);
        });
        self.channel = Some(channel);
    }
}

#[test]
fn an_old_app_calls_the_bot_and_is_answered_in_v1() {
    let server = Server::start();
    let _bot = server.bot();
    let mut app = OldApp::call(&server, "flutter", "echo");
    for text in ["hello", "", "👋🏽"] {
        app.send(text);
        assert_eq!(app.text(), text);
    }
}

#[test]
fn an_app_that_speaks_v2_is_answered_in_v2_from_then_on() {
    let server = Server::start();
    let _bot = server.bot();
    let mut app = OldApp::call(&server, "flutter", "echo");
    app.send("in v1");
    assert_eq!(app.text(), "in v1");
    for text in ["in v2", "👋🏽"] {
        app.send_v2(text);
        assert_eq!(app.text_v2(), text);
    }
    app.send("v1 again");
    assert_eq!(app.text_v2(), "v1 again");
}

#[test]
fn an_old_app_is_called_and_answers() {
    let server = Server::start();
    let mut alice = server.peer("alice");
    let caller = alice.peer.clone();
    let mut app = OldApp::answer(&server, "flutter", || caller.request("flutter"));
    alice.wait(&lowkey::peer::Event::Open { peer: "flutter".to_owned() });
    app.send("from the app");
    assert_eq!(alice.message(), ("flutter".to_owned(), "from the app".to_owned()));
    alice.peer.send("flutter", "from alice");
    assert_eq!(app.text(), "from alice");
    alice.peer.leave("flutter");
    app.closed();
}
