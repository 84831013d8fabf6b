//! A server that lies, for real: a WebSocket server on loopback with ours behind it. Clients log in at it as at any
//! other, and whatever ours has for them goes through a trick first: a function from a message to messages, to
//! whomever.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lowkey::peer::keys::{KeyPair, PublicKey};
use lowkey::peer::trust::{Known, Trust};
use lowkey::peer::{CloseReason, Event, Settings};
use serde_json::{Value, json};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Error, Message, WebSocket};

use crate::world::{Server, User, identity};

/// A message on its way to a client.
#[derive(Debug, Clone)]
pub struct Frame {
    pub to: String,
    pub message: Value,
}

/// What the server makes of a message.
type Trick = Box<dyn FnMut(Frame) -> Vec<Frame> + Send>;

/// The server. It passes no token on, so a name goes to whoever asks for it last.
pub struct EvilServer {
    state: Arc<State>,
    /// Where everybody logs in.
    pub address: String,
    _honest: Server,
}

struct State {
    honest: String,
    trick: Mutex<Trick>,
    /// Where messages for a client go, by its name.
    clients: Mutex<HashMap<String, Sender<Value>>>,
    /// Under which name a client sees somebody, and who that is.
    aliases: Mutex<HashMap<String, HashMap<String, String>>>,
    /// What clients have sent, and who.
    sent: Mutex<Vec<(String, Value)>>,
    is_over: AtomicBool,
}

impl EvilServer {
    /// A server that plays no tricks yet.
    pub fn start() -> Self {
        let server = Server::start();
        let state = Arc::new(State {
            honest: server.address.clone(),
            trick: Mutex::new(Box::new(honest)),
            clients: Mutex::default(),
            aliases: Mutex::default(),
            sent: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let address = open_door(&state, None);
        Self { state, address, _honest: server }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Plays a trick from now on.
    pub fn play(&self, trick: impl FnMut(Frame) -> Vec<Frame> + Send + 'static) {
        *self.state.trick.lock().unwrap() = Box::new(trick);
    }

    /// Sends a message of its own to a client.
    pub fn inject(&self, to: &str, message: Value) {
        self.state.send(Frame { to: to.to_owned(), message });
    }

    /// What a client has sent so far to somebody.
    pub fn sent(&self, from: &str, target: &str) -> Vec<Value> {
        let sent = self.state.sent.lock().unwrap();
        let messages = sent.iter().filter(|(sender, message)| sender == from && message["target"] == target);
        messages.map(|(_, message)| message.clone()).collect()
    }

    /// Comes between two users: each sees somebody else under the other's name. Returns the addresses where that
    /// somebody logs in, for the first user to see as the second, and for the second as the first.
    pub fn come_between(&self, one: &str, other: &str) -> [String; 2] {
        [(one, other), (other, one)].map(|(fooled, seen)| {
            let real = format!("mallory_as_{seen}");
            let alias = HashMap::from([(seen.to_owned(), real.clone())]);
            self.state.aliases.lock().unwrap().extend([(fooled.to_owned(), alias.clone()), (real.clone(), alias)]);
            open_door(&self.state, Some(real))
        })
    }
}

impl Drop for EvilServer {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn send(&self, frame: Frame) {
        if let Some(client) = self.clients.lock().unwrap().get(&frame.to) {
            let _ = client.send(frame.message);
        }
    }

    /// Who somebody is whom a client sees under this name, or the other way round.
    fn rename(&self, client: &str, name: Option<&mut Value>, to_seen: bool) {
        let aliases = self.aliases.lock().unwrap();
        let (Some(aliases), Some(name)) = (aliases.get(client), name) else { return };
        let found = aliases.iter().find(|(seen, real)| *name == if to_seen { real.as_str() } else { seen.as_str() });
        if let Some((seen, real)) = found {
            *name = json!(if to_seen { seen } else { real });
        }
    }
}

/// Opens a port where clients log in, under their own name or under this one.
fn open_door(state: &Arc<State>, name: Option<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let state = state.clone();
    thread::spawn(move || {
        while !state.is_over() {
            match listener.accept() {
                Ok((stream, _)) => {
                    let (state, name) = (state.clone(), name.clone());
                    thread::spawn(move || serve(&state, stream, name));
                }
                Err(_) => thread::sleep(TURN),
            }
        }
    });
    address
}

/// Serves a client to its end.
fn serve(state: &State, stream: TcpStream, name: Option<String>) {
    stream.set_nonblocking(false).unwrap();
    let mut asked = String::new();
    #[expect(clippy::result_large_err, reason = "the library wants it so")]
    let read = |request: &Request, response: Response| {
        let query = request.uri().query().unwrap_or_default();
        asked = query.strip_prefix("username=").unwrap_or_default().to_owned();
        Ok(response)
    };
    let Ok(mut client) = tungstenite::accept_hdr(stream, read) else { return };
    let name = name.unwrap_or(asked);
    let upstream = TcpStream::connect(&state.honest).unwrap();
    let url = format!("ws://{}/ws?username={name}", state.honest);
    let Ok((mut upstream, _)) = tungstenite::client(url, upstream) else { return };
    let (sender, messages) = mpsc::channel();
    state.clients.lock().unwrap().insert(name.clone(), sender);
    for socket in [&client, &upstream] {
        socket.get_ref().set_read_timeout(Some(TURN)).unwrap();
    }
    while !state.is_over() {
        let (Some(from_client), Some(from_server)) = (receive(&mut client), receive(&mut upstream)) else { break };
        if let Some(mut message) = from_client {
            state.sent.lock().unwrap().push((name.clone(), message.clone()));
            state.rename(&name, message.get_mut("target"), false);
            if upstream.send(Message::text(message.to_string())).is_err() {
                break;
            }
        }
        if let Some(mut message) = from_server {
            for field in ["/sender", "/payload/peer", "/payload/target"] {
                state.rename(&name, message.pointer_mut(field), true);
            }
            let frames = (state.trick.lock().unwrap())(Frame { to: name.clone(), message });
            frames.into_iter().for_each(|frame| state.send(frame));
        }
        if messages.try_iter().any(|message: Value| client.send(Message::text(message.to_string())).is_err()) {
            break;
        }
    }
    for mut socket in [client, upstream] {
        let _ = socket.close(None);
        let _ = socket.flush();
    }
}

/// The next message of a socket, if one comes within a turn; none at its end.
fn receive(socket: &mut WebSocket<TcpStream>) -> Option<Option<Value>> {
    match socket.read() {
        Ok(Message::Text(text)) => Some(serde_json::from_str(&text).ok()),
        Ok(Message::Close(_)) => None,
        Ok(_) => Some(None),
        Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(None),
        Err(_) => None,
    }
}

/// How long the server waits for one socket before it looks at the next.
const TURN: Duration = Duration::from_millis(1);

/// No trick at all.
pub fn honest(frame: Frame) -> Vec<Frame> {
    vec![frame]
}

/// Changes the payload of messages of one type to these users.
pub fn change(
    kind: &'static str,
    users: &'static [&'static str],
    change: impl Fn(&mut Value) + Send + 'static,
) -> impl FnMut(Frame) -> Vec<Frame> + Send + 'static {
    move |mut frame| {
        if frame.message["type"] == kind && users.contains(&frame.to.as_str()) {
            change(&mut frame.message["payload"]);
        }
        vec![frame]
    }
}

/// A public key that nobody has the secret to.
pub fn fresh_key() -> Value {
    json!(KeyPair::generate().public().to_base64())
}

/// Alice and bob at an evil server, and carol, who has an honest chat with each of them.
pub struct Friends {
    pub server: EvilServer,
    pub alice: User,
    pub bob: User,
    carol: User,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Open(Trust),
    Closed(CloseReason),
    /// The caller gave up, or was turned away, before it was a chat.
    Ended,
}

impl Friends {
    /// Runs a test against a trick. At its end carol's chats still go on, and all that alice and bob were shown in the
    /// meantime was taken by the test.
    pub fn with(trick: impl FnMut(Frame) -> Vec<Frame> + Send + 'static, test: impl FnOnce(&mut Self)) {
        let server = EvilServer::start();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| user(&server.url(), name, identity(name)));
        let mut friends = Self { server, alice, bob, carol };
        for (friend, name) in [(&mut friends.alice, "alice"), (&mut friends.bob, "bob")] {
            friends.carol.peer.call(name);
            friend.answer("carol");
            friends.carol.wait(&Event::Open { peer: name.to_owned() });
        }
        friends.server.play(trick);
        test(&mut friends);
        for (friend, name) in [(&mut friends.alice, "alice"), (&mut friends.bob, "bob")] {
            let text = format!("still there, {name}?");
            friends.carol.peer.send(name, &text);
            assert_eq!(friend.message(), ("carol".to_owned(), text), "no false text comes before it");
            friend.peer.send("carol", "of course");
            assert_eq!(friends.carol.message(), (name.to_owned(), "of course".to_owned()));
        }
    }

    /// Alice calls bob, who takes it: what comes of it for each.
    pub fn call(&mut self) -> [Outcome; 2] {
        self.alice.peer.call("bob");
        self.answer()
    }

    /// Bob takes a call of alice that is on its way: what comes of it for each.
    pub fn answer(&mut self) -> [Outcome; 2] {
        let deadline = Instant::now() + LATE;
        let (mut alices, mut bobs) = (None, None);
        let mut trusts = [None; 2];
        while alices.is_none() || bobs.is_none() {
            assert!(Instant::now() < deadline, "no end of the call: {alices:?}, {bobs:?}");
            let users = [(&mut self.alice, "bob", &mut alices), (&mut self.bob, "alice", &mut bobs)];
            for ((user, other, outcome), trust) in users.into_iter().zip(&mut trusts) {
                match user.events.next_timeout(Duration::from_millis(5)) {
                    Some(Event::Request { peer, .. } | Event::OldApp { peer }) if peer == other => {
                        user.peer.accept(other)
                    }
                    Some(Event::Identified { peer, trust: told, .. }) if peer == other => *trust = Some(told),
                    Some(Event::Open { peer }) if peer == other => *outcome = trust.map(Outcome::Open),
                    Some(Event::Closed { peer, reason } | Event::Refused { peer, reason }) if peer == other => {
                        // Who is not who they were hears of it only if the user says so.
                        if matches!(reason, CloseReason::IdentityChanged { .. }) {
                            user.peer.decline(other);
                        }
                        *outcome = Some(Outcome::Closed(reason));
                    }
                    Some(Event::RequestEnded { peer }) if peer == other => *outcome = Some(Outcome::Ended),
                    Some(Event::Message { peer, text }) => panic!("a text of {peer}: {text}"),
                    _ => {}
                }
            }
        }
        [alices.unwrap(), bobs.unwrap()]
    }

    /// Nothing more has happened to alice and bob when all has come that is on its way.
    pub fn hear_nothing(&mut self) {
        for (user, name) in [(&mut self.alice, "alice"), (&mut self.bob, "bob")] {
            let payload = json!({"code": "X", "message": "the last"});
            self.server.inject(name, json!({"type": "error", "payload": payload}));
            assert_eq!(user.next(), Event::ServerError { code: "X".to_owned(), message: "the last".to_owned() });
        }
    }

    /// A text goes from alice to bob, and one from bob to alice.
    pub fn talk(&mut self) {
        self.alice.peer.send("bob", "hello");
        assert_eq!(self.bob.message(), ("alice".to_owned(), "hello".to_owned()));
        self.bob.peer.send("alice", "hello yourself");
        assert_eq!(self.alice.message(), ("bob".to_owned(), "hello yourself".to_owned()));
    }

    /// Alice and bob have met before.
    pub fn have_met(&self) {
        self.alice.peer.trust("bob", Some(known(identity("bob").public(), false)));
        self.bob.peer.trust("alice", Some(known(identity("alice").public(), false)));
    }
}

/// A user at a server, with this identity.
pub fn user(url: &str, name: &str, identity: KeyPair) -> User {
    let mut settings = Settings::default();
    settings.identity = Some(identity);
    User::online(url, name, settings)
}

/// Somebody who was seen before.
pub fn known(identity: PublicKey, is_verified: bool) -> Known {
    Known { identity, is_verified }
}

/// How long a call may take that comes to nothing: half a minute for two peers that do not find each other, and the
/// beginning.
const LATE: Duration = Duration::from_secs(50);
