//! Any number of engines at one hub, in memory, with time moved by hand. WebRTC is played here: whoever is online is
//! reached at once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use lowkey::peer::engine::{Engine, Input, Output, PeerConnectionId, Setup};
use lowkey::peer::keys::KeyPair;
use lowkey::peer::{CloseReason, Event};
use lowkey::server::hub::{self, ConnId, Departure, Hub};
use lowkey::server::limits::Limits;
use uuid::Uuid;

use crate::engine_pair;

/// The users, the bot among them, and the server.
pub struct PeersInMemory {
    pub hub: Hub,
    pub users: BTreeMap<String, Seat>,
    pub coming: VecDeque<(String, Input)>,
    connected: HashMap<(String, PeerConnectionId), (String, PeerConnectionId)>,
    connections: usize,
    pub now: Instant,
    /// What the server has refused the bot, by code.
    refused: BTreeMap<String, usize>,
    /// How often the bot was cut.
    pub cuts: usize,
}

pub struct Seat {
    engine: Engine,
    pub conn: ConnId,
    identity: KeyPair,
    certificate: usize,
    pub events: Vec<Event>,
}

impl PeersInMemory {
    pub fn new(limits: Limits) -> Self {
        let hub = Hub::new(Duration::from_secs(600), limits, Uuid::new_v4);
        let mut peers = Self {
            hub,
            users: BTreeMap::new(),
            coming: VecDeque::new(),
            connected: HashMap::new(),
            connections: 0,
            now: Instant::now(),
            refused: BTreeMap::new(),
            cuts: 0,
        };
        peers.start("bot");
        peers
    }

    /// A program begins, perhaps for the second time.
    pub fn start(&mut self, name: &str) {
        let (number, before) = (self.users.len(), self.users.remove(name));
        let (identity, certificate) = match before {
            Some(seat) => (seat.identity, seat.certificate),
            None => (KeyPair::generate(), number),
        };
        let setup = Setup { identity: identity.clone(), max_requests: 1000, ..Setup::default() };
        let engine = Engine::new(name, setup);
        let seat = Seat { engine, conn: ConnId(usize::MAX), identity, certificate, events: Vec::new() };
        self.users.insert(name.to_owned(), seat);
        self.go_online(name);
    }

    pub fn go_online(&mut self, name: &str) {
        self.connections += 1;
        let conn = ConnId(self.connections);
        self.users.get_mut(name).unwrap().conn = conn;
        self.hub.connect(conn, name, None, self.now).unwrap();
        self.handle(name, Input::Online);
    }

    /// A program ends without a word, and its connections are noticed to be lost.
    pub fn kill(&mut self, name: &str) {
        let seat = self.users.get_mut(name).unwrap();
        self.hub.disconnect(seat.conn, Departure::Lost, self.now);
        let others: Vec<_> =
            self.connected.iter().filter(|((of, _), _)| of == name).map(|(_, to)| to.clone()).collect();
        seat.conn = ConnId(usize::MAX);
        for (other, id) in others {
            self.connected.remove(&(other.clone(), id));
            self.coming.push_back((other, Input::Closed { id, reason: CloseReason::ConnectionLost }));
        }
        self.connected.retain(|(of, _), _| of != name);
    }

    pub fn is_alive(&self, name: &str) -> bool {
        self.users[name].conn != ConnId(usize::MAX)
    }

    pub fn handle(&mut self, name: &str, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.now;
            let seat = self.users.get_mut(name).unwrap();
            let certificate = seat.certificate;
            for output in seat.engine.handle(input, now) {
                match output {
                    Output::Signal(text) => self.signal(name, &text),
                    Output::Event(Event::Request { peer, .. }) if name == "bot" => {
                        inputs.push_back(Input::Accept { peer })
                    }
                    Output::Event(event) => self.users.get_mut(name).unwrap().events.push(event),
                    Output::Offer { id } => {
                        let sdp = engine_pair::description(certificate, &format!("{name}+{}", id.0));
                        inputs.push_back(Input::Described { id, sdp });
                    }
                    Output::Answer { id, sdp } => {
                        let offer = engine_pair::password(&sdp);
                        let sdp = engine_pair::description(certificate, &format!("{name}+{}+{offer}", id.0));
                        inputs.push_back(Input::Described { id, sdp });
                    }
                    Output::Finish { id, sdp } => {
                        let words: Vec<&str> = engine_pair::password(&sdp).split('+').collect();
                        let other = (words[0].to_owned(), PeerConnectionId(words[1].parse().unwrap()));
                        let own = (name.to_owned(), id);
                        self.connected.extend([(own.clone(), other.clone()), (other.clone(), own)]);
                        self.coming.push_back((other.0, Input::Opened { id: other.1 }));
                        inputs.push_back(Input::Opened { id });
                    }
                    Output::Transmit { id, text, .. } => {
                        if let Some((other, id)) = self.connected.get(&(name.to_owned(), id)).cloned() {
                            self.coming.push_back((other, Input::Received { id, text: Some(text) }));
                        }
                    }
                    Output::Close { id, .. } => {
                        if let Some((other, id)) = self.connected.remove(&(name.to_owned(), id)) {
                            self.connected.remove(&(other.clone(), id));
                            self.coming.push_back((other, Input::Closed { id, reason: CloseReason::PeerLeft }));
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    pub fn signal(&mut self, name: &str, text: &str) {
        let conn = self.users[name].conn;
        let mut sent = Vec::new();
        let mut is_cut = false;
        for output in self.hub.receive(conn, text, self.now) {
            match output {
                hub::Output::Send { to, text } => sent.push((to, text)),
                hub::Output::Forward { to, message, .. } => {
                    let mut text = Vec::new();
                    message.write(&mut text);
                    sent.push((to, String::from_utf8(text).unwrap()));
                }
                hub::Output::Close { .. } => is_cut = true,
                other => panic!("{other:?}"),
            }
        }
        for (to, text) in sent {
            let Some(name) = self.users.iter().find(|(_, seat)| seat.conn == to).map(|(name, _)| name.clone()) else {
                continue;
            };
            if name == "bot"
                && let Some(code) = text.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next())
            {
                *self.refused.entry(code.to_owned()).or_default() += 1;
            }
            self.coming.push_back((name, Input::Signal(text)));
        }
        if is_cut && name == "bot" {
            self.cuts += 1;
        }
    }

    pub fn settle(&mut self) {
        while let Some((name, input)) = self.coming.pop_front() {
            if self.is_alive(&name) {
                self.handle(&name, input);
            }
        }
    }

    /// Lets time pass, in steps of a twentieth of a second, until `is_done` or until so much has passed; how much it
    /// was.
    pub fn pass(&mut self, most: Duration, is_done: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        self.settle();
        while self.now - start < most && !is_done(self) {
            self.now += Duration::from_millis(50);
            self.hub.tick(self.now);
            for name in self.users.keys().cloned().collect::<Vec<_>>() {
                let is_due = self.users[&name].engine.next_deadline(self.now).is_some_and(|due| due <= self.now);
                if is_due && self.is_alive(&name) {
                    self.handle(&name, Input::Tick);
                }
            }
            self.settle();
        }
        self.now - start
    }

    pub fn is_open(&self, name: &str) -> bool {
        self.users[name].events.contains(&Event::Open { peer: "bot".to_owned() })
    }

    /// Somebody new calls the bot; how long it takes.
    pub fn call(&mut self, name: &str) -> Duration {
        self.start(name);
        self.handle(name, Input::Call { peer: "bot".to_owned() });
        self.pass(Duration::from_secs(60), |peers| peers.is_open(name))
    }

    /// So many have a chat with the bot, and are killed.
    pub fn with_killed(limits: Limits, count: usize) -> Self {
        let mut peers = Self::new(limits);
        let names: Vec<String> = (0..count).map(|number| format!("peer{number}")).collect();
        for name in &names {
            peers.call(name);
            assert!(peers.is_open(name), "{name}");
        }
        for name in &names {
            peers.kill(name);
        }
        peers.settle();
        let interrupted = |event: &&Event| matches!(event, Event::Interrupted { .. });
        assert_eq!(peers.users["bot"].events.iter().filter(interrupted).count(), count);
        peers
    }

    pub fn refused(&self, code: &str) -> usize {
        self.refused.get(code).copied().unwrap_or_default()
    }
}
