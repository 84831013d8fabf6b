//! Engines and a hub joined in memory: no socket, no thread, and time moved by hand. WebRTC is played by the test: a
//! connection opens once its offer was answered and the answer has come back.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use lowkey::peer::engine::{Engine, Input, Output, Parting, PeerConnectionId, Receipt, Setup};
use lowkey::peer::frame::Place;
use lowkey::peer::keys::KeyPair;
use lowkey::peer::{CloseReason, Event, Trust};
use lowkey::protocol::Candidate;
use lowkey::server::hub::{self, ConnId, Hub};
use lowkey::server::limits::Limits;
use serde_json::json;
use uuid::Uuid;

pub const NAMES: [&str; 2] = ["alice", "bob"];
pub const ALICE: usize = 0;
pub const BOB: usize = 1;

pub struct World {
    hub: Hub,
    pub engines: [Engine; 2],
    /// What the server makes of a message for a user.
    pub server: Box<dyn FnMut(usize, String) -> Vec<String>>,
    /// What the network makes of a text that a user receives over the data channel.
    pub network: Box<dyn FnMut(usize, String) -> Vec<String>>,
    /// What is on its way: texts to and from the server, and what WebRTC has to say.
    to_server: [VecDeque<String>; 2],
    to_engine: [VecDeque<String>; 2],
    from_webrtc: [VecDeque<Input>; 2],
    /// Who is connected with whom, once an answer has come back.
    connected: HashMap<(usize, PeerConnectionId), (usize, PeerConnectionId)>,
    /// Connections that are to go with short datagrams.
    pub narrow: [HashSet<PeerConnectionId>; 2],
    /// How each user's connections were to end, one after another.
    pub partings: [Vec<Parting>; 2],
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

impl World {
    pub fn new() -> Self {
        let mut hub = Hub::new(Duration::from_secs(600), Limits::default(), Uuid::new_v4);
        for (number, name) in NAMES.iter().enumerate() {
            hub.connect(ConnId(number), name, None, Instant::now()).unwrap();
        }
        let identities = [(); 2].map(|()| KeyPair::generate());
        let engine =
            |user: usize| Engine::new(NAMES[user], Setup { identity: identities[user].clone(), ..Setup::default() });
        let mut world = Self {
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
            partings: Default::default(),
            lingers: false,
            added: Default::default(),
            events: Default::default(),
            receipts: Default::default(),
            now: Instant::now(),
        };
        for user in [ALICE, BOB] {
            world.handle(user, Input::Online);
        }
        world
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
                Output::Close { id, parting } => {
                    self.partings[user].push(parting);
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
        let mut world = Self::new();
        world.command(ALICE, |peer| Input::Call { peer });
        world.settle();
        world.command(BOB, |peer| Input::Accept { peer });
        world.settle();
        assert!(world.taken(ALICE).contains(&open("bob")) && world.taken(BOB).contains(&open("alice")));
        world
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
    pub fn place_of(&self, user: usize) -> Place {
        self.engines[user].place(NAMES[1 - user]).unwrap()
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

#[test]
fn a_call_goes_from_connect_to_texts_and_to_its_end() {
    let mut world = World::open();
    world.command(ALICE, text);
    world.command(BOB, text);
    world.settle();
    assert_eq!(world.taken(BOB), [message("alice", "hello")]);
    assert_eq!(world.taken(ALICE), [message("bob", "hello")]);
    world.command(BOB, |peer| Input::Leave { peer });
    world.settle();
    assert_eq!(world.taken(BOB), [delivered("alice", 1), closed("alice", CloseReason::Left)]);
    assert_eq!(world.taken(ALICE), [delivered("bob", 1), closed("bob", CloseReason::PeerLeft)]);
    assert_eq!([ALICE, BOB].map(|user| world.engines[user].next_deadline(world.now())), [None, None]);
}

#[test]
fn both_calling_at_once_end_in_one_open_chat_in_any_order_of_events() {
    for seed in 0..3000u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut choose = move || {
            // An xorshift: any will do, as long as the same seed gives the same order.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize
        };
        let mut world = World::new();
        world.command(ALICE, |peer| Input::Call { peer });
        // The other call comes somewhere in the course of the first one.
        for _ in 0..choose() % 6 {
            world.step(choose());
        }
        world.command(BOB, |peer| Input::Call { peer });
        while world.step(choose()) {}
        // Whoever was asked, because its own call had come to an end before, says yes.
        for user in [ALICE, BOB] {
            if world.events[user].iter().any(|event| matches!(event, Event::Request { .. })) {
                world.command(user, |peer| Input::Accept { peer });
            }
        }
        while world.step(choose()) {}
        for (user, peer) in [(ALICE, "bob"), (BOB, "alice")] {
            let events = world.taken(user);
            let opened = events.iter().filter(|event| **event == open(peer)).count();
            assert_eq!(opened, 1, "seed {seed}: {} has {events:?}", NAMES[user]);
            assert!(!events.iter().any(|event| matches!(event, Event::Closed { .. })), "seed {seed}: {events:?}");
        }
        world.command(ALICE, text);
        world.command(BOB, text);
        world.settle();
        assert_eq!(world.taken(BOB), [message("alice", "hello")], "seed {seed}");
        assert_eq!(world.taken(ALICE), [message("bob", "hello")], "seed {seed}");
    }
}

#[test]
fn a_request_and_a_call_are_over_after_a_minute() {
    let mut world = World::new();
    world.command(ALICE, |peer| Input::Call { peer });
    world.settle();
    assert_eq!(world.taken(BOB), [world.request_to(BOB)]);
    world.pass(59);
    assert_eq!((world.taken(ALICE), world.taken(BOB)), (vec![], vec![]));
    world.pass(1);
    assert_eq!(world.taken(ALICE), [closed("bob", CloseReason::NoAnswer)]);
    assert_eq!(world.taken(BOB), [Event::RequestEnded { peer: "alice".to_owned() }]);
    world.command(BOB, |peer| Input::Accept { peer });
    world.settle();
    assert_eq!(world.taken(ALICE), []);
    assert_eq!(world.taken(BOB), [closed("alice", CloseReason::NotCalling)], "too late");
}

#[test]
fn a_call_that_is_left_before_the_server_has_answered_stops_ringing() {
    let mut world = World::new();
    world.command(ALICE, |peer| Input::Call { peer });
    world.command(ALICE, |peer| Input::Leave { peer });
    world.settle();
    assert_eq!(world.taken(ALICE), [closed("bob", CloseReason::Left)]);
    assert_eq!(world.taken(BOB), [], "it never rang");
    // And a new call is a new call.
    world.command(ALICE, |peer| Input::Call { peer });
    world.command(ALICE, |peer| Input::Leave { peer });
    world.command(ALICE, |peer| Input::Call { peer });
    world.settle();
    world.command(BOB, |peer| Input::Accept { peer });
    world.settle();
    assert_eq!(world.taken(ALICE).last(), Some(&open("bob")));
    assert_eq!(world.taken(BOB).last(), Some(&open("alice")));
}

#[test]
fn a_negotiation_that_comes_to_nothing_is_given_up() {
    let mut world = World::new();
    world.command(ALICE, |peer| Input::Call { peer });
    world.settle();
    world.command(BOB, |peer| Input::Accept { peer });
    while world.to_server[BOB].front().is_none_or(|text| !text.contains("signal:answer")) {
        world.step(0);
    }
    world.to_server[BOB].clear();
    world.settle();
    world.pass(30);
    assert_eq!(world.taken(ALICE).last(), Some(&closed("bob", CloseReason::PeerHasNoCandidates)));
    assert_eq!(world.taken(BOB).last(), Some(&closed("alice", CloseReason::NoCandidates)));
}

#[test]
fn a_connection_that_never_came_about_was_not_lost() {
    let mut world = World::new();
    world.command(ALICE, |peer| Input::Call { peer });
    world.settle();
    world.command(BOB, |peer| Input::Accept { peer });
    while world.from_webrtc[ALICE].is_empty() {
        world.step(0);
    }
    let reason = CloseReason::ConnectionLost;
    world.handle(ALICE, Input::Closed { id: PeerConnectionId(0), reason });
    assert_eq!(world.taken(ALICE).last(), Some(&closed("bob", CloseReason::NoCandidates)));
}

#[test]
fn a_caller_that_repeats_itself_gets_no_more_time() {
    let mut world = World::new();
    for _ in 0..3 {
        world.command(ALICE, |peer| Input::Call { peer });
        world.settle();
        world.pass(25);
        // Left without a word: a program that was killed.
        let identity = world.identities[ALICE].clone();
        world.engines[ALICE] = Engine::new("alice", Setup { identity, ..Setup::default() });
        world.handle(ALICE, Input::Online);
    }
    let peer = || "alice".to_owned();
    assert_eq!(world.taken(BOB), [world.request_to(BOB), Event::RequestEnded { peer: peer() }]);
}

#[test]
fn stun_and_turn_servers_that_the_server_names_are_used_and_hostile_ones_do_no_harm() {
    let mut bob = Engine::new("bob", Setup::default());
    let mut joined = |servers: &str| {
        let payload = format!(r#"{{"sessionId":"x","peer":"alice","iceServers":{servers}}}"#);
        let outputs =
            bob.handle(Input::Signal(format!(r#"{{"type":"session:joined","payload":{payload}}}"#)), Instant::now());
        let servers = outputs.into_iter().find_map(|output| match output {
            Output::UseServers(servers) => Some(servers.iter().map(|server| server.url.clone()).collect::<Vec<_>>()),
            _ => None,
        });
        (servers, bob.dropped())
    };
    let turn = r#"[{"urls":["turn:a","turns:a"],"username":"u","credential":"c"}]"#;
    assert_eq!(joined(turn), (Some(vec!["turn:a".to_owned(), "turns:a".to_owned()]), 0));
    assert_eq!(joined(turn), (None, 0), "they are the same");
    let many = format!(r#"[{{"urls":[{}"stun:a"]}}]"#, r#""stun:b","#.repeat(1000));
    assert_eq!(joined(&many).0.unwrap().len(), 8);
    let long = "x".repeat(60_000);
    for hostile in [
        "null",
        "{}",
        "[[]]",
        "[null]",
        r#"[{"urls":{}}]"#,
        r#"[{"urls":"file:///etc/passwd"}]"#,
        r#"[{"urls":"stun:"}]"#,
        &format!(r#"["{long}"]"#),
        &format!(r#"[{{"urls":"stun:{long}"}}]"#),
        &format!(r#"[{{"urls":"turn:a","username":"{long}","credential":"c"}}]"#),
    ] {
        let (servers, dropped) = joined(hostile);
        assert!(servers.unwrap_or_default().is_empty() && dropped == 0, "{hostile}");
    }
    assert_eq!(joined("[]").1, 0);
}

#[test]
fn a_new_call_that_meets_the_end_of_the_old_chat_is_not_lost() {
    let mut world = World::open();
    // She leaves and calls again; the end of the old connection is seen somewhere in the course of the new call.
    for steps in 0..12 {
        world.command(ALICE, |peer| Input::Leave { peer });
        let farewells: Vec<Input> = world.from_webrtc[BOB].drain(..).collect();
        world.command(ALICE, |peer| Input::Call { peer });
        for _ in 0..steps {
            world.step(0);
        }
        for input in farewells {
            world.handle(BOB, input);
        }
        world.settle();
        let told = world.taken(BOB);
        assert!(told.contains(&world.request_of(BOB, Trust::Known)), "{steps}: {told:?}");
        world.command(BOB, |peer| Input::Accept { peer });
        world.settle();
        assert_eq!(world.taken(BOB).last(), Some(&open("alice")), "{steps}");
        assert_eq!(world.taken(ALICE).last(), Some(&open("bob")), "{steps}");
    }
}

/// A session that somebody has opened with bob, as the server says.
fn joined(peer: &str) -> Input {
    Input::Signal(format!(r#"{{"type":"session:joined","payload":{{"sessionId":"x","peer":"{peer}"}}}}"#))
}

/// The key of an old app under alice's name.
fn key_of_app(letter: &str) -> Input {
    let payload = format!(r#"{{"publicKey":"{}="}}"#, letter.repeat(43));
    Input::Signal(format!(r#"{{"type":"key:exchange","target":"bob","sender":"alice","payload":{payload}}}"#))
}

#[test]
fn a_key_of_an_old_app_under_a_name_that_has_proven_an_identity_is_refused_and_told() {
    let mut world = World::open();
    world.command(ALICE, |peer| Input::Leave { peer });
    world.settle();
    world.taken(BOB);
    world.handle(BOB, key_of_app("4"));
    assert_eq!(world.taken(BOB), [], "without a session it is nothing");
    world.handle(BOB, joined("alice"));
    world.handle(BOB, key_of_app("4"));
    let told = world.taken(BOB);
    assert!(
        matches!(&told[..], [Event::Refused { reason: CloseReason::IdentityChanged { identity: None, .. }, .. }]),
        "{told:?}"
    );
    assert!(world.to_server[BOB].is_empty(), "not a word");
    world.command(BOB, |peer| Input::Decline { peer });
    assert!(world.to_server[BOB].pop_front().unwrap().contains("session:decline"), "until the user says so");
    world.command(BOB, |peer| Input::Decline { peer });
    assert!(world.to_server[BOB].is_empty(), "once");
}

#[test]
fn another_key_in_mid_chat_ends_nothing() {
    let mut world = World::open();
    world.handle(BOB, key_of_app("A"));
    assert_eq!(world.taken(BOB), [], "a key of low order is none");
    world.handle(BOB, joined("alice"));
    world.handle(BOB, key_of_app("4"));
    // Whoever it is has not the identity of the alice that he talks to.
    let told = world.taken(BOB);
    assert!(
        matches!(&told[..], [Event::Refused { reason: CloseReason::IdentityChanged { identity: None, .. }, .. }]),
        "{told:?}"
    );
    world.command(ALICE, text);
    world.settle();
    assert_eq!(world.taken(BOB), [message("alice", "hello")]);
}

#[test]
fn what_a_third_user_sends_in_mid_chat_has_no_effect() {
    let mut world = World::open();
    let frames = [
        r#"{"type":"key:exchange","sender":"mallory","payload":{"publicKey":"AAAA"}}"#,
        r#"{"type":"signal:offer","sender":"mallory","payload":{"sdp":"x","type":"offer"}}"#,
        r#"{"type":"signal:offer","sender":"alice","payload":{"sdp":"x","type":"offer"}}"#,
        r#"{"type":"signal:answer","sender":"alice","payload":{"sdp":"x","type":"answer"}}"#,
        r#"{"type":"signal:ice","sender":"mallory","payload":{"candidate":"x"}}"#,
        r#"{"type":"session:decline","sender":"mallory"}"#,
        r#"{"type":"session:decline","sender":"alice"}"#,
        r#"{"type":"signal:offer","payload":{"sdp":"x","type":"offer"}}"#,
        r#"{"type":"session:joined","payload":{"sessionId":"x","peer":"bob"}}"#,
        r#"{"type":"dance","sender":"alice"}"#,
        "[]",
    ];
    for frame in frames {
        world.handle(BOB, Input::Signal(frame.to_owned()));
    }
    assert_eq!(world.taken(BOB), []);
    assert!(world.to_server[BOB].is_empty() && world.from_webrtc[BOB].is_empty());
    assert_eq!(world.engines[BOB].dropped(), frames.len() as u64);
}

#[test]
fn what_is_told_of_an_old_connection_has_no_effect() {
    let mut world = World::open();
    let [old] = world.connected.keys().filter(|(user, _)| *user == BOB).map(|(_, id)| *id).collect::<Vec<_>>()[..]
    else {
        panic!("one connection")
    };
    world.command(BOB, |peer| Input::Leave { peer });
    world.settle();
    world.taken(BOB);
    let reason = CloseReason::ConnectionLost;
    for input in [
        Input::Opened { id: old },
        Input::Received { id: old, text: Some("x".to_owned()) },
        Input::Described { id: old, sdp: "x".to_owned() },
        Input::Closed { id: old, reason },
    ] {
        world.handle(BOB, input);
    }
    assert_eq!(world.taken(BOB), []);
    assert!(world.to_server[BOB].is_empty());
}

#[test]
fn early_candidates_wait_for_the_description_up_to_a_limit() {
    let mut world = World::new();
    let signal = |world: &mut World, kind: &str, payload: &str| {
        let text = format!(r#"{{"type":"{kind}","sender":"alice","payload":{payload}}}"#);
        world.engines[BOB].handle(Input::Signal(text), world.now)
    };
    signal(&mut world, "session:joined", r#"{"sessionId":"x","peer":"alice"}"#);
    signal(&mut world, "key:exchange", &format!(r#"{{"publicKey":"{}="}}"#, "4".repeat(43)));
    let candidate = |number: usize, kind: &str| format!("candidate:1 1 udp 5 192.0.2.{number} 9 typ {kind}");
    for number in 1..71 {
        let payload = json!({ "candidate": candidate(number, "host") }).to_string();
        assert_eq!(signal(&mut world, "signal:ice", &payload), []);
    }
    world.engines[BOB].handle(Input::Accept { peer: "alice".to_owned() }, world.now);
    let sdp = format!("{}a={}\r\n", description(ALICE, "p"), candidate(200, "host"));
    let outputs = signal(&mut world, "signal:offer", &json!({"sdp": sdp, "type": "offer"}).to_string());
    let added: Vec<&str> = outputs[1..]
        .iter()
        .map(|output| match output {
            Output::AddCandidate { candidate, .. } => &*candidate.candidate,
            _ => panic!("{output:?}"),
        })
        .collect();
    assert!(matches!(&outputs[0], Output::Answer { sdp, .. } if !sdp.contains("candidate")), "they come one by one");
    let expected: Vec<String> = std::iter::once(200).chain(1..32).map(|number| candidate(number, "host")).collect();
    assert_eq!(added, expected, "those of the description, then as many as are taken");
    let mut late =
        |kind| signal(&mut world, "signal:ice", &json!({ "candidate": candidate(99, kind) }).to_string()).len();
    assert_eq!([late("host"), late("srflx"), late("srflx"), late("relay")], [0, 1, 0, 1]);
}

#[test]
fn errors_of_a_server_that_names_no_target_end_the_right_call() {
    let mut world = World::new();
    let error =
        |code: &str| Input::Signal(format!(r#"{{"type":"error","payload":{{"code":"{code}","message":"no"}}}}"#));
    for peer in ["one", "two"] {
        world.handle(ALICE, Input::Call { peer: peer.to_owned() });
    }
    world.handle(ALICE, error("USER_OFFLINE"));
    assert_eq!(world.taken(ALICE), [closed("one", CloseReason::NotOnline)]);
    world.handle(ALICE, error("RELAY_FAILED"));
    assert_eq!(world.taken(ALICE), [closed("two", CloseReason::NotOnline)]);
    world.handle(ALICE, error("INVALID_MESSAGE"));
    let event = Event::ServerError { code: "INVALID_MESSAGE".to_owned(), message: "no".to_owned() };
    assert_eq!(world.taken(ALICE), [event]);
}
