//! The original app and its newest successor, frozen: peers that say nothing of themselves and write texts in v1, or in
//! v2 with one secret (protocol part 1). They are written on the `webrtc` crate and on `dryoc`, a NaCl of its own down
//! to the curve, and share no code with the library; and a test can make them say anything at any stage. `mallory`
//! makes a peer of ours of one, whose signals are sealed.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use dryoc::classic::crypto_box::{
    Nonce, PublicKey, SecretKey, crypto_box_easy, crypto_box_keypair, crypto_box_open_easy,
};
use dryoc::rng::copy_randombytes;
use lowkey::peer::boxes::Boxes;
use lowkey::peer::hello;
use rtc::data_channel::RTCDataChannelInit;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionIceEvent,
    RTCSessionDescription, SettingEngineBuilder,
};

use crate::attacker::Attacker;
use crate::world::{Client, Program, SOON, Server, until};

/// A user of the original app.
pub struct OldApp {
    pub client: Client,
    pub peer: String,
    /// What its `key:exchange` says.
    pub introduction: Value,
    /// How it writes its descriptions, given what the crate writes.
    pub rewrite: Box<dyn Fn(String) -> String + Send>,
    /// Who looks over WebRTC's shoulder.
    pub attacker: Option<Attacker>,
    /// How the channel that it opens treats texts; as the protocol asks where this is none.
    pub channel_kind: Option<RTCDataChannelInit>,
    /// What its signals are sealed with; no old app has any.
    pub signals: Option<Boxes>,
    /// The pair of the session, which v1 texts are sealed with.
    session: (PublicKey, SecretKey),
    /// The pair that v2 texts are sealed with; the one before is not kept.
    ratchet: (PublicKey, SecretKey),
    has_changed: bool,
    /// The peer's session key, and the latest `rk` that came from it.
    pub peer_key: PublicKey,
    peer_rk: PublicKey,
    /// The peer has changed its `rk`, so a fresh pair is made before the next text.
    follow: bool,
    runtime: Runtime,
    connection: Option<Arc<dyn PeerConnection>>,
    channel: Option<Arc<dyn DataChannel>>,
    notes: Receiver<Note>,
    notes_sender: Sender<Note>,
    texts: Vec<String>,
    /// What the other side has opened beyond the chat.
    channels: Vec<Arc<dyn DataChannel>>,
    is_closed: bool,
}

/// A channel beyond that of the chat, and what comes over it.
pub struct Side {
    channel: Arc<dyn DataChannel>,
    runtime: tokio::runtime::Handle,
    messages: Receiver<Vec<u8>>,
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
        Self::with(server.client(name))
    }

    /// An app on this connection to a server.
    pub fn with(client: Client) -> Self {
        let (notes_sender, notes) = mpsc::channel();
        let session = crypto_box_keypair();
        Self {
            client,
            peer: String::new(),
            introduction: json!({"publicKey": BASE64.encode(&session.0)}),
            rewrite: Box::new(|sdp| sdp),
            attacker: None,
            channel_kind: None,
            signals: None,
            session,
            ratchet: session,
            has_changed: false,
            peer_key: [0; 32],
            peer_rk: [0; 32],
            follow: false,
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
            connection: None,
            channel: None,
            notes,
            notes_sender,
            texts: Vec::new(),
            channels: Vec::new(),
            is_closed: false,
        }
    }

    /// Calls `peer` up to an open chat.
    pub fn call(server: &Server, name: &str, peer: &str) -> Self {
        let mut app = Self::online(server, name);
        app.connect(peer);
        app.send_key();
        app.meet_consent();
        app
    }

    /// Waits for a call, and answers it up to an open chat, consenting at once as the old app does.
    /// `call` makes the other side call, and `consent` makes its user agree to talk to an old app.
    pub fn answer(server: &Server, name: &str, call: impl FnOnce(), consent: impl FnOnce()) -> Self {
        let mut app = Self::online(server, name);
        call();
        app.take_call(consent);
        app
    }

    /// Goes on with a call of its own up to an open chat, once the other side has agreed.
    pub fn meet_consent(&mut self) {
        self.await_key();
        self.offer();
        self.negotiate();
    }

    /// Waits for a call, and answers it up to an open chat. `consent` makes the caller agree to talk to an old app.
    pub fn take_call(&mut self, consent: impl FnOnce()) {
        self.be_called();
        self.send_key();
        self.await_key();
        consent();
        self.accept_offer();
        self.negotiate();
    }

    /// Waits for a session of somebody who calls.
    pub fn be_called(&mut self) {
        self.peer = self.find("session:joined")["payload"]["peer"].as_str().unwrap().to_owned();
    }

    /// Opens a session with `peer`.
    pub fn connect(&mut self, peer: &str) {
        self.peer = peer.to_owned();
        self.client.send(json!({"type": "session:connect", "target": peer}).to_string());
        self.find("session:joined");
    }

    pub fn send_key(&mut self) {
        self.signal("key:exchange", &self.introduction.clone());
    }

    /// Waits for the peer's key, and returns all that it says.
    pub fn await_key(&mut self) -> Value {
        let introduction = self.find("key:exchange")["payload"].take();
        self.peer_key = key(&introduction["publicKey"]);
        self.peer_rk = self.peer_key;
        introduction
    }

    /// Makes a connection with a channel and sends the offer.
    pub fn offer(&mut self) {
        self.build();
        let (connection, kind) = (self.connection.clone().unwrap(), self.channel_kind.clone());
        let (channel, offer) = self.runtime.block_on(async {
            let channel = connection.create_data_channel("chat", kind).await.unwrap();
            let offer = connection.create_offer(None).await.unwrap();
            connection.set_local_description(offer.clone()).await.unwrap();
            (channel, offer.sdp)
        });
        self.attach(channel);
        self.signal("signal:offer", &json!({"sdp": (self.rewrite)(offer), "type": "offer"}));
    }

    /// Waits for the offer and sends the answer.
    pub fn accept_offer(&mut self) {
        self.build();
        let offer = self.find("signal:offer");
        let connection = self.connection.clone().unwrap();
        let answer = self.runtime.block_on(async {
            let sdp = offer["payload"]["sdp"].as_str().unwrap().to_owned();
            connection.set_remote_description(RTCSessionDescription::offer(sdp).unwrap()).await.unwrap();
            let answer = connection.create_answer(None).await.unwrap();
            connection.set_local_description(answer.clone()).await.unwrap();
            answer.sdp
        });
        self.signal("signal:answer", &json!({"sdp": (self.rewrite)(answer), "type": "answer"}));
    }

    /// Sends a message of the signaling.
    pub fn signal(&mut self, kind: &str, payload: &Value) {
        let sealed = self.signals.as_mut().map(|signals| signals.seal(&hello::padded(payload)).unwrap());
        let payload = sealed.map_or(payload.clone(), |sealed| json!({"sealed": sealed}));
        self.client.send(json!({"type": kind, "target": self.peer, "payload": payload}).to_string());
    }

    /// What a message of the signaling says.
    fn read(&mut self, message: &Value) -> Value {
        let Some(signals) = &mut self.signals else { return message["payload"].clone() };
        let sealed = message["payload"]["sealed"].as_str().unwrap_or_default();
        signals.open(sealed).map_or(Value::Null, |inside| serde_json::from_slice(&inside).unwrap())
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
    pub fn negotiate(&mut self) {
        self.negotiate_until(|note| match note {
            Note::Open => true,
            _ => panic!("before the channel is open"),
        });
    }

    /// Exchanges descriptions and candidates until the other side ends the connection.
    pub fn meet_end(&mut self) {
        self.negotiate_until(|note| matches!(note, Note::Closed));
    }

    fn negotiate_until(&mut self, is_done: impl Fn(&Note) -> bool) {
        self.client.socket.get_ref().set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let connection = self.connection.clone().unwrap();
        until("the old app's channel opens, or is ended", || {
            match self.client.socket.read() {
                Ok(tungstenite::Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    let payload = self.read(&message);
                    let kind = message["type"].as_str().unwrap().to_owned();
                    self.runtime.block_on(async {
                        if kind == "signal:answer" {
                            let mut sdp = payload["sdp"].as_str().unwrap().to_owned();
                            // Where a test has an offer without names, the crate needs them all the same.
                            if !sdp.contains("a=mid:") {
                                sdp += "a=mid:0\r\n";
                            }
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
                    note if is_done(&note) => return Some(()),
                    _ => {}
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

    /// Seals a text in format v1.
    pub fn seal(&self, text: &str) -> String {
        seal(text, &self.peer_key, &self.session.1)
    }

    /// Seals and sends a text in format v2.
    pub fn send_v2(&mut self, text: &str) {
        if self.follow {
            self.follow = false;
            self.change_key();
        }
        let ct = seal(text, &self.peer_rk, &self.ratchet.1);
        self.send_raw(&json!({"rk": BASE64.encode(&self.ratchet.0), "ct": ct}).to_string());
    }

    /// Makes a fresh pair for v2 texts, as the format allows.
    pub fn change_key(&mut self) {
        self.ratchet = crypto_box_keypair();
        self.has_changed = true;
    }

    /// The next text message, which has to be in format v2, opened.
    pub fn text_v2(&mut self) -> String {
        let message = self.raw_text(SOON).expect("a text");
        let message: Value = serde_json::from_str(&message).expect("format v2");
        let rk = key(&message["rk"]);
        assert!(rk == self.peer_rk || self.has_changed, "a peer of ours does not change its key first");
        self.follow |= rk != self.peer_rk;
        self.peer_rk = rk;
        open(message["ct"].as_str().unwrap(), &rk, &self.ratchet.1)
    }

    /// The next text message, which has to be in format v1, opened.
    pub fn text(&mut self) -> String {
        let message = self.raw_text(SOON).expect("a text");
        open(&message, &self.peer_key, &self.session.1)
    }

    /// The next text message as it came, if one comes within `wait`.
    pub fn raw_text(&mut self, wait: Duration) -> Option<String> {
        let deadline = Instant::now() + wait;
        while self.texts.is_empty() && !self.is_closed {
            match self.notes.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()? {
                Note::Text(text) => self.texts.push(text),
                Note::Channel(channel) => self.channels.push(channel),
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

    /// Opens a channel beside that of the chat.
    pub fn open_side(&self, label: &str) -> Side {
        let connection = self.connection.as_ref().unwrap();
        let channel = self.runtime.block_on(connection.create_data_channel(label, None)).unwrap();
        let side = self.side(channel);
        assert_eq!(side.next(SOON), Some(Vec::new()), "it is open");
        side
    }

    /// The channel that the other side has opened beside that of the chat, if it has.
    pub fn take_side(&mut self) -> Option<Side> {
        while let Ok(note) = self.notes.try_recv() {
            match note {
                Note::Text(text) => self.texts.push(text),
                Note::Channel(channel) => self.channels.push(channel),
                Note::Closed => self.is_closed = true,
                _ => {}
            }
        }
        let channel = self.channels.pop()?;
        Some(self.side(channel))
    }

    fn side(&self, channel: Arc<dyn DataChannel>) -> Side {
        let (messages, received) = mpsc::channel();
        let reader = channel.clone();
        self.runtime.spawn(async move {
            let mut is_open = false;
            while let Some(event) = reader.poll().await {
                let message = match event {
                    DataChannelEvent::OnOpen => None,
                    DataChannelEvent::OnMessage(message) => Some(message.data.to_vec()),
                    DataChannelEvent::OnClose => return,
                    _ => continue,
                };
                // Its opening is told as a message of nothing. The crate may tell of the first message before that.
                if !is_open {
                    is_open = true;
                    let _ = messages.send(Vec::new());
                }
                message.map(|message| messages.send(message));
            }
        });
        Side { channel, runtime: self.runtime.handle().clone(), messages: received }
    }

    fn build(&mut self) {
        let notes = self.notes_sender.clone();
        let attacker = self.attacker.clone();
        let connection = self.runtime.block_on(async {
            let mut settings = SettingEngineBuilder::new()
                .with_include_loopback_candidate(true)
                .with_multicast_dns_mode(rtc::ice::mdns::MulticastDnsMode::Disabled)
                .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(262_144))
                .with_prflx_acceptance_min_wait(Some(Duration::ZERO));
            let mut builder = PeerConnectionBuilder::new();
            if let Some(attacker) = attacker {
                settings = settings.with_crypto_provider(attacker.provider());
                builder = builder.with_runtime(attacker.runtime());
            }
            builder
                .with_setting_engine(settings.build())
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

impl Side {
    /// Sends a message, if the other side has not closed the channel.
    pub fn send(&self, message: &[u8]) {
        let _ = self.runtime.block_on(self.channel.send(message.into()));
    }

    /// The next message, if one comes by then.
    pub fn next(&self, wait: Duration) -> Option<Vec<u8>> {
        self.messages.recv_timeout(wait).ok()
    }
}

/// The base64 of nonce and box (protocol 1.4), between the receiver's public and the sender's secret key.
pub fn seal(text: &str, receiver: &PublicKey, sender: &SecretKey) -> String {
    let mut message = vec![0; 24 + 16 + text.len()];
    let (nonce, sealed) = message.split_first_chunk_mut::<24>().unwrap();
    copy_randombytes(nonce);
    crypto_box_easy(sealed, text.as_bytes(), nonce, receiver, sender).unwrap();
    BASE64.encode(&message)
}

fn open(message: &str, sender: &PublicKey, receiver: &SecretKey) -> String {
    let message = BASE64.decode(message.as_bytes()).unwrap();
    let (nonce, sealed) = message.split_first_chunk::<24>().unwrap();
    let mut text = vec![0; sealed.len() - 16];
    crypto_box_open_easy(&mut text, sealed, nonce as &Nonce, sender, receiver).unwrap();
    String::from_utf8(text).unwrap()
}

fn key(base64: &Value) -> PublicKey {
    BASE64.decode(base64.as_str().unwrap().as_bytes()).unwrap().try_into().unwrap()
}

/// Whoever types at `lowkey` is asked about the app that answers, and agrees.
pub fn talk_to_app(program: &mut Program) {
    program.stderr.find("flutter answers by an old app, which cannot prove who they are");
    program.write("/accept flutter");
}
