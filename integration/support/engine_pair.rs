//! Two engines and a hub joined in memory: no socket, no thread, and time moved by hand. WebRTC is played here: a
//! connection opens once its offer was answered and the answer has come back.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use lowkey::peer::engine::{Engine, Input, Output, PeerConnectionEnd, PeerConnectionId, Receipt, Setup};
use lowkey::peer::frame::ChatPosition;
use lowkey::peer::keys::KeyPair;
use lowkey::peer::{CloseReason, Event, Trust};
use lowkey::protocol::Candidate;
use lowkey::server::hub::{self, ConnId, Hub};
use lowkey::server::limits::Limits;
use uuid::Uuid;

pub const NAMES: [&str; 2] = ["alice", "bob"];
pub const ALICE: usize = 0;
pub const BOB: usize = 1;

/// Alice and bob at one hub.
pub struct EnginePair {
    hub: Hub,
    pub engines: [Engine; 2],
    /// What the server makes of a message for a user.
    pub server: Box<dyn FnMut(usize, String) -> Vec<String>>,
    /// What the network makes of a text that a user receives over the data channel.
    pub network: Box<dyn FnMut(usize, String) -> Vec<String>>,
    /// What is on its way: texts to and from the server, and what WebRTC has to say.
    pub to_server: [VecDeque<String>; 2],
    to_engine: [VecDeque<String>; 2],
    pub from_webrtc: [VecDeque<Input>; 2],
    /// Who is connected with whom, once an answer has come back.
    pub connected: HashMap<(usize, PeerConnectionId), (usize, PeerConnectionId)>,
    /// Connections that are to go with short datagrams.
    pub narrow: [HashSet<PeerConnectionId>; 2],
    /// How each user's connections were to end, one after another.
    pub endings: [Vec<PeerConnectionEnd>; 2],
    /// Connections that are to end do not do so yet.
    pub lingers: bool,
    /// The candidates that each side's WebRTC was given.
    pub added: [Vec<String>; 2],
    events: [Vec<Event>; 2],
    /// Of the texts that a user was told of and has not taken.
    receipts: [Vec<Receipt>; 2],
    identities: [KeyPair; 2],
    /// How often each has come online: the hub never sees a connection again.
    generations: [usize; 2],
    is_online: [bool; 2],
    now: Instant,
}

impl EnginePair {
    pub fn new() -> Self {
        let mut hub = Hub::new(Duration::from_secs(600), Limits::default(), Uuid::new_v4);
        for (number, name) in NAMES.iter().enumerate() {
            hub.connect(ConnId(number), name, None, Instant::now()).unwrap();
        }
        let identities = [(); 2].map(|()| KeyPair::generate());
        let engine =
            |user: usize| Engine::new(NAMES[user], Setup { identity: identities[user].clone(), ..Setup::default() });
        let mut pair = Self {
            hub,
            engines: [ALICE, BOB].map(engine),
            identities,
            generations: [0; 2],
            is_online: [true; 2],
            server: Box::new(|_, text| vec![text]),
            network: Box::new(|_, text| vec![text]),
            to_server: Default::default(),
            to_engine: Default::default(),
            from_webrtc: Default::default(),
            connected: HashMap::new(),
            narrow: Default::default(),
            endings: Default::default(),
            lingers: false,
            added: Default::default(),
            events: Default::default(),
            receipts: Default::default(),
            now: Instant::now(),
        };
        for user in [ALICE, BOB] {
            pair.handle(user, Input::Online);
        }
        pair
    }

    pub fn handle(&mut self, user: usize, input: Input) {
        for output in self.engines[user].handle(input, self.now) {
            match output {
                Output::Signal(text) => self.to_server[user].push_back(text),
                Output::Event(event) => self.events[user].push(event),
                Output::Message { peer, text, receipt } => {
                    self.events[user].push(Event::Message { peer, text });
                    self.receipts[user].extend(receipt);
                }
                Output::Narrow { id } => {
                    self.narrow[user].insert(id);
                }
                Output::Offer { id } => {
                    let candidate = Candidate { candidate: CANDIDATE.into(), sdp_mid: None, sdp_mline_index: None };
                    let sdp = description(user, &format!("{user}+{}", id.0));
                    self.from_webrtc[user].extend([Input::Described { id, sdp }, Input::Candidate { id, candidate }]);
                }
                // A description names its author by the password of its ICE, and an answer the offer too.
                Output::Answer { id, sdp } => {
                    let sdp = description(user, &format!("{user}+{}+{}", id.0, password(&sdp)));
                    self.from_webrtc[user].push_back(Input::Described { id, sdp });
                }
                Output::Finish { id, sdp } => {
                    let words: Vec<u64> = password(&sdp).split('+').map(|word| word.parse().unwrap()).collect();
                    assert_eq!((words[2], words[3]), (user as u64, id.0), "the answer is to this offer");
                    let other = (words[0] as usize, PeerConnectionId(words[1]));
                    self.connected.extend([((user, id), other), (other, (user, id))]);
                    self.from_webrtc[user].push_back(Input::Opened { id });
                    self.from_webrtc[other.0].push_back(Input::Opened { id: other.1 });
                }
                Output::Transmit { id, text, .. } => {
                    if let Some((other, id)) = self.connected.get(&(user, id)) {
                        for text in (self.network)(*other, text) {
                            let input = Input::Received { id: *id, text: Some(text) };
                            self.from_webrtc[*other].push_back(input);
                        }
                    }
                }
                Output::Close { id, ending } => {
                    self.endings[user].push(ending);
                    if self.lingers {
                        continue;
                    }
                    if let Some((other, there)) = self.connected.remove(&(user, id)) {
                        self.connected.remove(&(other, there));
                        self.from_webrtc[other].push_back(Input::Closed { id: there, reason: CloseReason::PeerLeft });
                        self.from_webrtc[user].push_back(Input::Closed { id, reason: CloseReason::Left });
                    }
                }
                // No files go in these tests.
                Output::File { .. } => {}
                // WebRTC is played by the test, and needs no servers.
                Output::UseServers(_) => {}
                Output::AddCandidate { candidate, .. } => self.added[user].push(candidate.candidate),
            }
        }
    }

    /// Delivers one of the things that are on their way, chosen by `choice`; whether there was any.
    pub fn step(&mut self, choice: usize) -> bool {
        let full: Vec<(usize, usize)> = [ALICE, BOB]
            .into_iter()
            .flat_map(|user| (0..3).map(move |queue| (user, queue)))
            .filter(|(user, queue)| match queue {
                0 => !self.to_server[*user].is_empty(),
                1 => !self.to_engine[*user].is_empty(),
                _ => !self.from_webrtc[*user].is_empty(),
            })
            .collect();
        let Some(&(user, queue)) = full.get(choice % full.len().max(1)) else { return false };
        match queue {
            0 => {
                let text = self.to_server[user].pop_front().unwrap();
                for output in self.hub.receive(self.conn(user), &text, self.now) {
                    let (to, text) = match output {
                        hub::Output::Send { to, text } => (to, text),
                        hub::Output::Forward { to, message, .. } => {
                            let mut text = Vec::new();
                            message.write(&mut text);
                            (to, String::from_utf8(text).unwrap())
                        }
                        _ => panic!("{output:?}"),
                    };
                    let to = to.0 % 2;
                    self.to_engine[to].extend((self.server)(to, text));
                }
            }
            1 => {
                let text = self.to_engine[user].pop_front().unwrap();
                self.handle(user, Input::Signal(text));
            }
            _ => {
                let input = self.from_webrtc[user].pop_front().unwrap();
                self.handle(user, input);
            }
        }
        true
    }

    fn conn(&self, user: usize) -> ConnId {
        ConnId(user + 2 * self.generations[user])
    }

    /// The server is out of a user's reach, and what is on its way is lost.
    pub fn go_offline(&mut self, user: usize) {
        if std::mem::replace(&mut self.is_online[user], false) {
            self.hub.disconnect(self.conn(user), hub::Departure::Lost, self.now);
            self.to_server[user].clear();
            self.to_engine[user].clear();
            self.handle(user, Input::Offline);
        }
    }

    pub fn go_online(&mut self, user: usize) {
        if !std::mem::replace(&mut self.is_online[user], true) {
            self.generations[user] += 1;
            self.hub.connect(self.conn(user), NAMES[user], None, self.now).unwrap();
            self.handle(user, Input::Online);
        }
    }

    /// All connections break, with some of what is on its way; each side notices in its own time.
    pub fn lose(&mut self, choice: usize) {
        for ((user, id), _) in std::mem::take(&mut self.connected) {
            let mut arriving = choice % 8;
            self.from_webrtc[user].retain(|input| {
                // What arrives is what was sent first.
                let is_text = matches!(input, Input::Received { id: of, .. } if *of == id);
                let is_kept = !is_text || arriving > 0;
                arriving = arriving.saturating_sub(usize::from(is_text));
                is_kept
            });
            self.from_webrtc[user].push_back(Input::Closed { id, reason: CloseReason::ConnectionLost });
        }
    }

    /// Nothing that a user sends arrives any more, says WebRTC.
    pub fn stall(&mut self, user: usize) {
        let here = self.connected.keys().filter(|(of, _)| *of == user);
        self.from_webrtc[user].extend(here.map(|(_, id)| Input::Stalled { id: *id }));
    }

    /// One user's WebRTC believes that the connection is gone; the other's hears nothing of it.
    pub fn lose_for(&mut self, user: usize) {
        let here: Vec<PeerConnectionId> =
            self.connected.keys().filter(|(of, _)| *of == user).map(|(_, id)| *id).collect();
        for id in here {
            self.connected.remove(&(user, id));
            self.from_webrtc[user].push_back(Input::Closed { id, reason: CloseReason::ConnectionLost });
        }
    }

    /// Whoever has a connection that the other side has not, notices in the end.
    pub fn notice(&mut self) {
        let known = self.connected.clone();
        for (here, _) in known.iter().filter(|(_, there)| !known.contains_key(there)) {
            self.connected.remove(here);
            let (user, id) = *here;
            self.from_webrtc[user].push_back(Input::Closed { id, reason: CloseReason::ConnectionLost });
        }
    }

    /// A user's program is killed and started anew.
    pub fn restart(&mut self, user: usize) {
        self.go_offline(user);
        self.lose(0);
        self.from_webrtc[user].clear();
        self.receipts[user].clear();
        self.events[user].clear();
        let setup = Setup { identity: self.identities[user].clone(), ..Setup::default() };
        self.engines[user] = Engine::new(NAMES[user], setup);
        self.go_online(user);
    }

    /// What a user is told, without being taken.
    pub fn seen(&self, user: usize) -> &[Event] {
        &self.events[user]
    }

    pub fn settle(&mut self) {
        while self.step(0) {}
    }

    pub fn command(&mut self, user: usize, command: impl FnOnce(String) -> Input) {
        self.handle(user, command(NAMES[1 - user].to_owned()));
    }

    /// The events of a user, who takes them and comes back for more.
    pub fn taken(&mut self, user: usize) -> Vec<Event> {
        let events = self.take_events(user);
        self.come_back(user);
        events
    }

    pub fn take_events(&mut self, user: usize) -> Vec<Event> {
        std::mem::take(&mut self.events[user])
    }

    /// A user has dealt with all that was told.
    pub fn come_back(&mut self, user: usize) {
        for receipt in std::mem::take(&mut self.receipts[user]) {
            self.handle(user, Input::Taken(receipt));
        }
    }

    pub fn open() -> Self {
        let mut pair = Self::new();
        pair.command(ALICE, |peer| Input::Call { peer });
        pair.settle();
        pair.command(BOB, |peer| Input::Accept { peer });
        pair.settle();
        assert!(pair.taken(ALICE).contains(&open("bob")) && pair.taken(BOB).contains(&open("alice")));
        pair
    }

    /// What a user is told of a call of the other one, who was not seen before.
    pub fn request_to(&self, user: usize) -> Event {
        self.request_of(user, Trust::New)
    }

    /// The same, of one of whom so much is known.
    pub fn request_of(&self, user: usize, trust: Trust) -> Event {
        let identity = Some(self.identities[1 - user].public());
        Event::Request { peer: NAMES[1 - user].to_owned(), trust, identity }
    }

    pub fn identity(&self, user: usize) -> KeyPair {
        self.identities[user].clone()
    }

    /// What a user would say of the chat in a call that carries it on.
    pub fn position_of(&self, user: usize) -> ChatPosition {
        self.engines[user].position(NAMES[1 - user]).unwrap()
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        for user in [ALICE, BOB] {
            self.handle(user, Input::Tick);
        }
    }
}

/// A description of a user's data channel.
pub fn description(user: usize, password: &str) -> String {
    let fingerprint = vec![format!("{user:02X}"); 32].join(":");
    format!(
        "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\na=ice-ufrag:{user}\r\n\
         a=ice-pwd:{password}\r\na=fingerprint:sha-256 {fingerprint}\r\n"
    )
}

pub fn password(sdp: &str) -> &str {
    sdp.lines().find_map(|line| line.strip_prefix("a=ice-pwd:")).unwrap()
}

/// A candidate as WebRTC finds it.
pub const CANDIDATE: &str = "candidate:1 1 udp 2130706431 192.0.2.1 9000 typ host";

pub fn open(peer: &str) -> Event {
    Event::Open { peer: peer.to_owned() }
}

pub fn closed(peer: &str, reason: CloseReason) -> Event {
    Event::Closed { peer: peer.to_owned(), reason }
}

pub fn message(peer: &str, text: &str) -> Event {
    Event::Message { peer: peer.to_owned(), text: text.to_owned() }
}

pub fn delivered(peer: &str, id: u64) -> Event {
    Event::Delivered { peer: peer.to_owned(), id }
}

pub fn text(peer: String) -> Input {
    Input::Send { peer, id: 1, text: "hello".to_owned() }
}
