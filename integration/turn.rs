//! A TURN server over UDP whose nonces are stale as soon as they are used: whatever it is asked for, it says so once
//! (438), and grants it with the nonce that it gives then. As coturn does, it takes no second channel for an address
//! that has one.

use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lowkey::peer::IceServer;
use lowkey::peer::Settings;
use rtc::crypto::default_provider;
use rtc::stun::attributes::{
    ATTR_CHANNEL_NUMBER, ATTR_DATA, ATTR_ERROR_CODE, ATTR_LIFETIME, ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_REALM,
    ATTR_XOR_PEER_ADDRESS, ATTR_XOR_RELAYED_ADDRESS, ATTR_XORMAPPED_ADDRESS, AttrType,
};
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    CLASS_ERROR_RESPONSE, CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_ALLOCATE,
    METHOD_CHANNEL_BIND, METHOD_CREATE_PERMISSION, METHOD_DATA, METHOD_REFRESH, METHOD_SEND, Message, MessageType,
    Method, Setter, TransactionId,
};
use rtc::stun::xoraddr::XorMappedAddress;

use crate::link::socket;
use crate::world::{Server, User, identity, until};

const REALM: &str = "turn.example";

/// A server of this kind.
pub struct Turn {
    socket: Arc<UdpSocket>,
    state: Arc<Mutex<Grants>>,
    /// How long a relay lives without a refresh, in seconds: it is refreshed twice as often.
    lifetime: u32,
}

#[derive(Default)]
struct Grants {
    relays: HashMap<SocketAddr, Relay>,
    /// The nonce of each transaction, once it was told that its own was stale.
    nonces: HashMap<TransactionId, String>,
    /// What was granted, by method, and how often.
    granted: HashMap<String, usize>,
    /// What no client should do.
    wrong: BTreeSet<String>,
    count: usize,
}

struct Relay {
    socket: Arc<UdpSocket>,
    until: Instant,
    channels: HashMap<SocketAddr, u16>,
    /// The newest that was given.
    nonce: String,
}

struct Raw(AttrType, Vec<u8>);

impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> rtc::shared::error::Result<()> {
        message.add(self.0, &self.1);
        Ok(())
    }
}

fn key() -> Vec<u8> {
    let provider = default_provider().unwrap();
    let [name, realm, secret] = ["both", REALM, "s3cret"].map(str::to_owned);
    MessageIntegrity::long_term_integrity_key(name, realm, secret, provider.crypto()).unwrap()
}

fn build(setters: &[Box<dyn Setter + '_>]) -> Vec<u8> {
    let mut message = Message::new();
    message.build(setters).unwrap();
    message.raw
}

/// An address as an attribute; the message has its transaction already, which the address is mixed with.
struct Address(AttrType, SocketAddr);

impl Setter for Address {
    fn add_to(&self, message: &mut Message) -> rtc::shared::error::Result<()> {
        XorMappedAddress { ip: self.1.ip(), port: self.1.port() }.add_to_as(message, self.0)
    }
}

fn peer(message: &Message) -> Option<SocketAddr> {
    let mut address = XorMappedAddress::default();
    address.get_from_as(message, ATTR_XOR_PEER_ADDRESS).ok()?;
    Some((address.ip, address.port).into())
}

impl Turn {
    /// Starts one, whose relays live for so many seconds without a refresh. Who asks is `both`, with `s3cret`.
    pub fn start(lifetime: u32) -> Self {
        let turn = Self { socket: Arc::new(socket()), state: Arc::default(), lifetime };
        let server = Self { socket: turn.socket.clone(), state: turn.state.clone(), lifetime };
        thread::spawn(move || {
            let mut datagram = [0; 65_536];
            while let Ok((length, from)) = server.socket.recv_from(&mut datagram) {
                server.receive(from, &datagram[..length]);
            }
        });
        turn
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn receive(&self, from: SocketAddr, datagram: &[u8]) {
        let mut state = self.state.lock().unwrap();
        if let [64..=79, ..] = datagram {
            let number = u16::from_be_bytes([datagram[0], datagram[1]]);
            let length = usize::from(u16::from_be_bytes([datagram[2], datagram[3]]));
            let Some(relay) = state.relays.get(&from).filter(|relay| relay.until > Instant::now()) else { return };
            if let Some((to, _)) = relay.channels.iter().find(|(_, channel)| **channel == number) {
                let _ = relay.socket.send_to(&datagram[4..4 + length], to);
            }
            return;
        }
        let mut message = Message::new();
        message.raw = datagram.to_vec();
        if message.decode().is_err() {
            return;
        }
        if message.typ == MessageType::new(METHOD_SEND, CLASS_INDICATION) {
            let (Some(to), Ok(data)) = (peer(&message), message.get(ATTR_DATA)) else { return };
            if let Some(relay) = state.relays.get(&from) {
                let _ = relay.socket.send_to(&data, to);
            }
        } else if message.typ.class == CLASS_REQUEST {
            let answer = self.answer(&mut state, from, &mut message);
            let _ = self.socket.send_to(&answer, from);
        }
    }

    fn answer(&self, state: &mut Grants, from: SocketAddr, request: &mut Message) -> Vec<u8> {
        let (id, method) = (request.transaction_id, request.typ.method);
        let refused = |code: [u8; 2], nonce: &str| {
            build(&[
                Box::new(id),
                Box::new(MessageType::new(method, CLASS_ERROR_RESPONSE)),
                Box::new(Raw(ATTR_ERROR_CODE, vec![0, 0, code[0], code[1]])),
                Box::new(Raw(ATTR_REALM, REALM.into())),
                Box::new(Raw(ATTR_NONCE, nonce.into())),
            ])
        };
        state.count += 1;
        let fresh = format!("nonce {}", state.count);
        if request.get(ATTR_MESSAGE_INTEGRITY).is_err() {
            return refused([4, 1], &fresh);
        }
        let provider = default_provider().unwrap();
        if MessageIntegrity::check(request, &key(), provider.crypto()).is_err() {
            state.wrong.insert(format!("{method} with a false integrity"));
            return refused([4, 1], &fresh);
        }
        let nonce = request.get(ATTR_NONCE).unwrap();
        // Who gives a relay up waits for no answer, and is to use the newest nonce at once.
        let is_farewell = request.get(ATTR_LIFETIME).is_ok_and(|lifetime| lifetime == [0; 4]);
        let newest = state.relays.get(&from).filter(|_| is_farewell).map(|relay| &relay.nonce);
        let is_fresh = state.nonces.get(&id).or(newest).is_some_and(|known| nonce == known.as_bytes());
        if !is_fresh {
            // The number that is asked for first is the one that stays.
            if let Some(relay) = state.relays.get_mut(&from) {
                relay.nonce.clone_from(&fresh);
            }
            if let (Some(relay), Ok(number), Some(to)) =
                (state.relays.get_mut(&from), request.get(ATTR_CHANNEL_NUMBER), peer(request))
            {
                let number = u16::from_be_bytes([number[0], number[1]]);
                relay.channels.entry(to).or_insert(number);
            }
            state.nonces.insert(id, fresh.clone());
            return refused([4, 38], &fresh);
        }
        match self.grant(state, from, request) {
            Some(mut setters) => {
                *state.granted.entry(method.to_string()).or_default() += 1;
                let head: [Box<dyn Setter>; 2] =
                    [Box::new(id), Box::new(MessageType::new(method, CLASS_SUCCESS_RESPONSE))];
                setters.splice(0..0, head);
                setters.push(Box::new(MessageIntegrity::new_raw_integrity_with_provider(key(), provider.crypto())));
                build(&setters)
            }
            None => {
                state.wrong.insert(format!("a second channel, or a relay that is gone: {method}"));
                refused([4, 0], &fresh)
            }
        }
    }

    /// What is said of what is granted.
    fn grant<'a>(&self, state: &mut Grants, from: SocketAddr, request: &Message) -> Option<Vec<Box<dyn Setter + 'a>>> {
        let lifetime = Instant::now() + Duration::from_secs(self.lifetime.into());
        let told = |lifetime: u32| Box::new(Raw(ATTR_LIFETIME, lifetime.to_be_bytes().to_vec()));
        if request.typ.method == METHOD_ALLOCATE {
            let socket = Arc::new(socket());
            let relayed = socket.local_addr().unwrap();
            let (copy, client, all) = (socket.clone(), self.socket.clone(), self.state.clone());
            thread::spawn(move || bring(&copy, &client, from, &all));
            state
                .relays
                .insert(from, Relay { socket, until: lifetime, channels: HashMap::new(), nonce: String::new() });
            return Some(vec![
                Box::new(Address(ATTR_XOR_RELAYED_ADDRESS, relayed)),
                Box::new(Address(ATTR_XORMAPPED_ADDRESS, from)),
                told(self.lifetime),
            ]);
        }
        let relay = state.relays.get_mut(&from).filter(|relay| relay.until > Instant::now())?;
        match request.typ.method {
            METHOD_REFRESH if request.get(ATTR_LIFETIME).is_ok_and(|lifetime| lifetime == [0; 4]) => {
                state.relays.remove(&from);
                Some(vec![told(0)])
            }
            METHOD_REFRESH => {
                relay.until = lifetime;
                Some(vec![told(self.lifetime)])
            }
            METHOD_CREATE_PERMISSION => Some(vec![]),
            METHOD_CHANNEL_BIND => {
                let number = request.get(ATTR_CHANNEL_NUMBER).ok()?;
                let is_same = relay.channels.get(&peer(request)?) == Some(&u16::from_be_bytes([number[0], number[1]]));
                is_same.then(Vec::new)
            }
            _ => None,
        }
    }

    fn granted(&self, method: Method) -> usize {
        self.state.lock().unwrap().granted.get(&method.to_string()).copied().unwrap_or_default()
    }
}

/// Brings a client what comes to its relay, for as long as it has one.
fn bring(relay: &UdpSocket, socket: &UdpSocket, client: SocketAddr, all: &Mutex<Grants>) {
    let mut datagram = [0; 65_536];
    relay.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    loop {
        let received = relay.recv_from(&mut datagram);
        let state = all.lock().unwrap();
        let Some(known) = state.relays.get(&client).filter(|known| known.until > Instant::now()) else { return };
        let Ok((length, from)) = received else { continue };
        let data = &datagram[..length];
        let message = match known.channels.get(&from) {
            Some(number) => [&number.to_be_bytes()[..], &(length as u16).to_be_bytes(), data].concat(),
            None => build(&[
                Box::new(TransactionId::new()),
                Box::new(MessageType::new(METHOD_DATA, CLASS_INDICATION)),
                Box::new(Address(ATTR_XOR_PEER_ADDRESS, from)),
                Box::new(Raw(ATTR_DATA, data.to_vec())),
            ]),
        };
        let _ = socket.send_to(&message, client);
    }
}

#[test]
fn a_chat_lives_through_a_relay_whose_nonces_are_stale_at_once() {
    let (turn, server) = (Turn::start(4), Server::start());
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| {
        let mut settings = Settings::default();
        settings.identity = Some(identity(name));
        settings.is_relay_only = true;
        let (username, credential) = ("both".to_owned(), "s3cret".to_owned());
        settings.ice_servers = vec![IceServer { url: format!("turn:{}", turn.address()), username, credential }];
        User::online(&server.url(), name, settings)
    });
    let calling = thread::spawn(move || {
        alice.call("bob");
        alice
    });
    bob.answer("alice");
    let mut alice = calling.join().unwrap();
    // Each relay is refreshed some times, so that it would have been given up long since.
    until("relays are refreshed", || (turn.granted(METHOD_REFRESH) >= 6).then_some(()));
    for number in 0..5 {
        alice.peer.send("bob", &format!("text {number}"));
        assert_eq!(bob.message().1, format!("text {number}"));
        bob.peer.send("alice", &format!("answer {number}"));
        assert_eq!(alice.message().1, format!("answer {number}"));
    }
    for method in [METHOD_ALLOCATE, METHOD_CREATE_PERMISSION, METHOD_CHANNEL_BIND] {
        assert!(turn.granted(method) >= 2, "{method} was granted to both");
    }
    drop((alice, bob));
    until("both relays are given up", || turn.state.lock().unwrap().relays.is_empty().then_some(()));
    assert_eq!(turn.state.lock().unwrap().wrong, BTreeSet::new());
}
