//! What a peer does on every input: the state machine of all its chats. It knows no socket, no thread and no clock; the
//! peer's loop hands it [`Input`]s with the time, and carries out the [`Output`]s that come back.
//!
//! A call goes through the stages of protocol 1.3, and what a careful receiver does (1.5) is done here: only what is
//! due in the present stage, from the one peer that is being set up, has any effect.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cipher::{Cipher, OpenError, Sealer, TextFormat};
use super::event::{CloseReason, Event, NotSentReason};
use super::ice::{self, IceServer};
use super::keys::{KeyPair, PublicKey};
use super::trust::{self, Known, Party, Role, Trust};
use crate::protocol::{
    self, Candidate, Description, Envelope, ErrorPayload, Introduction, Joined, KeyExchange, MessageType, Proof, Sealed,
};

/// One WebRTC peer connection. Never used again for another, so what is still told of an old one has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// Everything that can happen to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The user calls a peer.
    Connect {
        /// Its username.
        peer: String,
    },
    /// The user takes a peer's request.
    Accept {
        /// Its username.
        peer: String,
    },
    /// The user turns a peer's request down.
    Decline {
        /// Its username.
        peer: String,
    },
    /// The user sends a text.
    Send {
        /// To this peer.
        peer: String,
        /// By which number events name it.
        id: u64,
        /// The text.
        text: String,
    },
    /// The user says who a peer is; `None` forgets it.
    Trust {
        /// Its username.
        peer: String,
        /// What is known of it.
        known: Option<Known>,
    },
    /// The user ends a chat, or a call that is not open yet.
    Leave {
        /// With this peer.
        peer: String,
    },
    /// The server sent a text message.
    Signal(String),
    /// The server has taken us online.
    Online,
    /// The server is out of reach.
    Offline,
    /// WebRTC has made our description of a connection, which is an offer or an answer as was asked.
    Described {
        /// The connection.
        id: ConnectionId,
        /// The description as SDP.
        sdp: String,
    },
    /// WebRTC has found a candidate of ours.
    Candidate {
        /// For this connection.
        id: ConnectionId,
        /// The candidate.
        candidate: Candidate,
    },
    /// The data channel is open.
    Opened {
        /// Of this connection.
        id: ConnectionId,
    },
    /// A message came over the data channel.
    Received {
        /// Of this connection.
        id: ConnectionId,
        /// A text message; `None` for a binary one, which is none of the protocol's.
        text: Option<String>,
    },
    /// The connection has ended without our doing.
    Closed {
        /// The connection.
        id: ConnectionId,
        /// How it ended.
        reason: CloseReason,
    },
    /// Time has passed.
    Tick,
}

/// Everything that a peer can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this text message to the server.
    Signal(String),
    /// Use these STUN and TURN servers, which the server names, for the connections to come.
    UseServers(Vec<IceServer>),
    /// Open a connection with a data channel and describe it as an offer.
    Offer {
        /// The new connection.
        id: ConnectionId,
    },
    /// Open a connection for the peer's offer and describe it as an answer.
    Answer {
        /// The new connection.
        id: ConnectionId,
        /// The offer.
        sdp: String,
    },
    /// Give the connection the peer's answer.
    Finish {
        /// The connection that was offered.
        id: ConnectionId,
        /// The answer.
        sdp: String,
    },
    /// Give the connection a candidate of the peer.
    AddCandidate {
        /// The connection, which has the peer's description.
        id: ConnectionId,
        /// The candidate.
        candidate: Candidate,
    },
    /// Send a text message over the data channel.
    Transmit {
        /// Of this connection.
        id: ConnectionId,
        /// The sealed text.
        text: String,
    },
    /// End the connection once all that was sent has arrived.
    Close {
        /// The connection.
        id: ConnectionId,
        /// The other side is one of ours, which closes it too once it has read all.
        peer_closes: bool,
    },
    /// Tell the user.
    Event(Event),
}

/// A peer's state: its chats, the requests that wait for the user, and its place at the server.
#[derive(Debug)]
pub struct Engine {
    username: String,
    setup: Setup,
    is_online: bool,
    chats: HashMap<String, Chat>,
    requests: HashMap<String, Request>,
    /// Whom the server has announced while a chat with them was not open yet, and until when that counts: it may be their
    /// new call, and the end of the old chat must not swallow it.
    announced: HashMap<String, Instant>,
    /// Whom the user has called, for the server's answers, which come in the same order. A call that was left in the
    /// meantime is still answered.
    unanswered: VecDeque<String>,
    connections: HashMap<ConnectionId, String>,
    /// The STUN and TURN servers that the server has named last.
    offered: Vec<IceServer>,
    next_id: u64,
    dropped: u64,
}

/// How a peer behaves, and who it is.
#[derive(Debug)]
pub struct Setup {
    /// How texts are sent at first to peers that say nothing of themselves.
    pub text_format: TextFormat,
    /// So many requests wait for an answer at once.
    pub max_requests: usize,
    /// The long-term pair.
    pub identity: KeyPair,
    /// The peers that were seen before, by name.
    pub known: HashMap<String, Known>,
    /// Peers that cannot prove who they are are refused, and so is a change of key in mid-chat.
    pub is_strict: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            text_format: TextFormat::V1,
            max_requests: 3,
            identity: KeyPair::generate(),
            known: HashMap::new(),
            is_strict: false,
        }
    }
}

/// A chat with one peer, or a call that may become one.
#[derive(Debug)]
struct Chat {
    id: ConnectionId,
    role: Role,
    stage: Stage,
    /// When to give up, as long as the chat is not open.
    deadline: Option<Instant>,
    /// The peer's candidates that came before its description.
    early: Vec<Candidate>,
}

#[derive(Debug)]
enum Stage {
    /// The initiator has asked the server for a session.
    Calling,
    /// Our key is sent; the peer's is awaited.
    AwaitingKey(KeyPair),
    /// Both keys are known; descriptions and candidates go back and forth.
    Negotiating(Secured),
    /// The data channel is open, our proof is sent, and the peer's is awaited.
    Proving(Secured),
    /// Texts can be sent.
    Open(Secured),
}

/// What is known of a peer once both keys are.
#[derive(Debug)]
struct Secured {
    cipher: Cipher,
    /// What the peer said of itself.
    introduced: Introduced,
    /// The own session pair, until the peer has proven itself.
    own: Option<KeyPair>,
    /// What signals are sealed with, where both sides do so.
    sealer: Option<Sealer>,
    /// The certificates' fingerprints in both descriptions: the own one and the peer's.
    fingerprints: [Option<[u8; 32]>; 2],
    /// The largest message that the peer takes, in bytes; `None` until its description has come.
    max_message: Option<usize>,
    /// Texts in a row that could not be opened.
    failures: u32,
    candidates: usize,
    /// A description came that was not sealed as it should have been.
    has_false_description: bool,
}

/// Somebody calls, and the user has not said yes or no.
#[derive(Debug)]
struct Request {
    introduced: Option<Introduced>,
    /// The user has said yes, and the caller's key is awaited: nothing is sent to somebody who may not be who they were.
    is_accepted: bool,
    early: Vec<Candidate>,
    deadline: Instant,
}

/// What a peer's `key:exchange` says.
#[derive(Debug, Clone)]
struct Introduced {
    key: PublicKey,
    /// It says something of itself, so it follows our rule of both calling at once.
    knows_rule: bool,
    /// The long-term key, of one that proves it.
    identity: Option<PublicKey>,
    /// The features as it sent them, joined by commas.
    features: String,
    seals: bool,
}

impl Introduced {
    fn read(exchange: &KeyExchange) -> Option<Self> {
        let key = PublicKey::from_base64(&exchange.public_key).ok()?;
        let introduction = exchange.lowkey.clone().unwrap_or_default();
        // The proof is over the features with commas between them, so none may hold one.
        if introduction.features.iter().any(|feature| feature.is_empty() || feature.contains(',')) {
            return None;
        }
        let has = |feature: &str| introduction.features.iter().any(|named| named == feature);
        let identity = match introduction.identity.filter(|_| has(PROOF)) {
            Some(identity) => Some(PublicKey::from_base64(&identity).ok()?),
            None => None,
        };
        let (features, seals) = (introduction.features.join(","), has(SEAL));
        Some(Self { key, knows_rule: exchange.lowkey.is_some(), identity, features, seals })
    }
}

impl Engine {
    /// A peer that is not online yet.
    pub fn new(username: &str, setup: Setup) -> Self {
        Self {
            username: username.to_owned(),
            setup,
            is_online: false,
            chats: HashMap::new(),
            requests: HashMap::new(),
            announced: HashMap::new(),
            unanswered: VecDeque::new(),
            connections: HashMap::new(),
            offered: Vec::new(),
            next_id: 0,
            dropped: 0,
        }
    }

    /// Takes one input and returns all that is to be done about it, in order.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        let out = &mut outputs;
        match input {
            Input::Connect { peer } => self.connect(peer, now, out),
            Input::Accept { peer } => self.accept(peer, now, out),
            Input::Decline { peer } => self.decline(peer, out),
            Input::Send { peer, id, text } => self.send(peer, id, text, out),
            Input::Trust { peer, known: Some(known) } => self.trust(peer, known, out),
            Input::Trust { peer, known: None } => {
                self.setup.known.remove(&peer);
            }
            Input::Leave { peer } => self.leave(peer, out),
            Input::Signal(text) => self.receive_signal(&text, now, out),
            Input::Online => {
                self.is_online = true;
            }
            Input::Offline => self.go_offline(out),
            Input::Described { id, sdp } => self.described(id, sdp, out),
            Input::Candidate { id, candidate } => {
                if let Some(peer) = self.connections.get(&id).cloned() {
                    self.signal(&peer, MessageType::SignalIce, &candidate, out);
                }
            }
            Input::Opened { id } => self.opened(id, now, out),
            Input::Received { id, text } => self.receive(id, text, out),
            Input::Closed { id, reason } => self.closed(id, reason, out),
            Input::Tick => self.tick(now, out),
        }
        outputs
    }

    /// When the next [`Input::Tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let chats = self.chats.values().filter_map(|chat| chat.deadline);
        chats.chain(self.requests.values().map(|request| request.deadline)).min()
    }

    /// How many messages were dropped because they were not due, not from the right sender, or no messages at all.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// With whom there are chats and calls, and whose requests wait.
    pub fn peers(&self) -> Vec<String> {
        self.chats.keys().chain(self.requests.keys()).cloned().collect()
    }

    /// The connection of the chat with `peer`.
    pub fn connection(&self, peer: &str) -> Option<ConnectionId> {
        self.chats.get(peer).map(|chat| chat.id)
    }

    // What the user does.

    fn connect(&mut self, peer: String, now: Instant, out: &mut Vec<Output>) {
        if self.requests.contains_key(&peer) {
            return self.accept(peer, now, out);
        }
        if self.chats.contains_key(&peer) {
            return;
        }
        if peer == self.username {
            return out.push(Output::Event(Event::Closed { peer, reason: CloseReason::Oneself }));
        }
        if peer.is_empty() {
            return out.push(Output::Event(Event::Closed { peer, reason: CloseReason::NotOnline }));
        }
        if !self.is_online {
            return out.push(Output::Event(Event::Closed { peer, reason: CloseReason::ServerLost }));
        }
        out.push(signal(MessageType::SessionConnect, &peer, None::<&()>));
        self.unanswered.push_back(peer.clone());
        self.add_chat(peer, Role::Initiator, Stage::Calling, now + ANSWER_TIME);
    }

    fn accept(&mut self, peer: String, now: Instant, out: &mut Vec<Output>) {
        let Some(request) = self.requests.get_mut(&peer) else {
            // It may have ended while the user said yes; nobody should go on waiting for the chat.
            if !self.chats.contains_key(&peer) {
                out.push(Output::Event(Event::Closed { peer, reason: CloseReason::NotCalling }));
            }
            return;
        };
        request.is_accepted = true;
        let Some(introduced) = request.introduced.take() else { return };
        let early = std::mem::take(&mut request.early);
        if let Err(reason) = self.judge(&peer, &introduced) {
            out.push(signal(MessageType::SessionDecline, &peer, None::<&()>));
            return self.end_request(&peer, reason, out);
        }
        self.requests.remove(&peer);
        if self.chats.contains_key(&peer) {
            self.end(&peer, CloseReason::Replaced, out);
        }
        let own = KeyPair::generate();
        out.push(self.key_exchange(&peer, &own));
        self.add_chat(peer.clone(), Role::Responder, Stage::AwaitingKey(own), now + ANSWER_TIME).early = early;
        self.take_key(&peer, introduced, now, out);
    }

    fn decline(&mut self, peer: String, out: &mut Vec<Output>) {
        let Some(request) = self.requests.remove(&peer) else { return };
        out.push(signal(MessageType::SessionDecline, &peer, None::<&()>));
        if request.is_accepted {
            out.push(Output::Event(Event::Refused { peer, reason: CloseReason::Left }));
        }
    }

    fn send(&mut self, peer: String, id: u64, text: String, out: &mut Vec<Output>) {
        let Some(Chat { id: chat, stage: Stage::Open(secured), .. }) = self.chats.get_mut(&peer) else {
            return out.push(Output::Event(Event::NotSent { peer, id, text, reason: NotSentReason::NotOpen }));
        };
        let max_bytes = secured.max_message.unwrap_or(DEFAULT_MAX_MESSAGE);
        if secured.cipher.sealed_length(text.len()) > max_bytes {
            let reason = NotSentReason::TooLong { max_bytes: secured.cipher.longest_text(max_bytes) };
            return out.push(Output::Event(Event::NotSent { peer, id, text, reason }));
        }
        match secured.cipher.seal(&text) {
            Ok(sealed) => out.push(Output::Transmit { id: *chat, text: sealed }),
            Err(_) => {
                let reason = NotSentReason::NotOpen;
                out.push(Output::Event(Event::NotSent { peer: peer.clone(), id, text, reason }));
                self.end(&peer, CloseReason::Exhausted, out);
            }
        }
    }

    fn leave(&mut self, peer: String, out: &mut Vec<Output>) {
        let Some(chat) = self.chats.get(&peer) else { return self.decline(peer, out) };
        // Whoever is still being called learns that it is over; in an open chat the data channel says so.
        if matches!(chat.stage, Stage::AwaitingKey(_) | Stage::Negotiating(_)) {
            out.push(signal(MessageType::SessionDecline, &peer, None::<&()>));
        }
        self.end(&peer, CloseReason::Left, out);
    }

    /// Knows who a peer is from now on, and ends a chat with somebody else under that name.
    fn trust(&mut self, peer: String, known: Known, out: &mut Vec<Output>) {
        self.setup.known.insert(peer.clone(), known);
        let introduced = match self.chats.get(&peer).map(|chat| &chat.stage) {
            Some(Stage::Negotiating(secured) | Stage::Proving(secured) | Stage::Open(secured)) => &secured.introduced,
            _ => return,
        };
        if let Err(reason) = self.judge(&peer, introduced) {
            self.end(&peer, reason, out);
        }
    }

    // What the server says.

    fn receive_signal(&mut self, text: &str, now: Instant, out: &mut Vec<Output>) {
        let Ok(envelope) = Envelope::parse(text) else { return self.drop_message() };
        let is_other = |name: &&str| *name != self.username && !name.chars().any(char::is_control);
        let sender = envelope.sender.as_ref().map(|sender| &*sender.0).filter(is_other);
        let kind = MessageType::from_name(&envelope.kind);
        let is_served = match (kind, sender) {
            (Some(MessageType::SessionJoined), _) => {
                payload(&envelope).map(|joined: Joined| self.joined(joined, now, out))
            }
            (Some(MessageType::Error), _) => payload(&envelope).map(|error| self.refused(error, out)),
            (Some(MessageType::KeyExchange), Some(sender)) => {
                payload(&envelope).and_then(|key| self.receive_key(sender, &key, now, out))
            }
            (Some(MessageType::SignalOffer), Some(sender)) => {
                self.unseal(sender, &envelope).and_then(|offer| self.receive_offer(sender, offer, out))
            }
            (Some(MessageType::SignalAnswer), Some(sender)) => {
                self.unseal(sender, &envelope).and_then(|answer| self.receive_answer(sender, answer, out))
            }
            (Some(MessageType::SignalIce), Some(sender)) => {
                self.unseal(sender, &envelope).and_then(|candidate| self.receive_candidate(sender, candidate, out))
            }
            (Some(MessageType::SessionDecline), Some(sender)) => self.declined(sender, out),
            // The key that follows says the same.
            (Some(MessageType::SessionAccept), Some(_)) => Some(()),
            _ => None,
        };
        if is_served.is_none() {
            self.drop_message();
        }
    }

    fn joined(&mut self, Joined { peer, ice_servers, .. }: Joined, now: Instant, out: &mut Vec<Output>) {
        let offered = ice::offered(ice_servers);
        if offered != self.offered {
            self.offered.clone_from(&offered);
            out.push(Output::UseServers(offered));
        }
        let is_ours = self.take_unanswered(&peer);
        if peer.is_empty() || peer == self.username || peer.chars().any(char::is_control) {
            return self.drop_message();
        }
        match self.chats.get_mut(&peer) {
            Some(chat) if matches!(chat.stage, Stage::Calling) => {
                let own = KeyPair::generate();
                chat.stage = Stage::AwaitingKey(own.clone());
                chat.deadline = Some(now + ANSWER_TIME);
                out.push(self.key_exchange(&peer, &own));
            }
            // Both have called at once, and this is the other's session. If it is a new call instead, a key follows
            // that says so.
            Some(chat) if !matches!(chat.stage, Stage::Open(_)) => {
                self.announced.insert(peer, now + ANSWER_TIME);
            }
            // Our own call, which we have left before the server answered: the other side need not ring any longer.
            None if is_ours => out.push(signal(MessageType::SessionDecline, &peer, None::<&()>)),
            _ => self.add_request(peer, now, out),
        }
    }

    fn refused(&mut self, error: ErrorPayload, out: &mut Vec<Output>) {
        let of_connect = matches!(&*error.code, "USER_OFFLINE" | "INVALID_TARGET");
        // Another server than ours does not say whom the error is about. It answers connects in their order, and of
        // relays no more can be said than that there is just one that may have failed.
        let peer = match error.target {
            Some(target) => {
                // Whatever the error, a call that has not got further was answered by it.
                let is_calling = |chat: &Chat| matches!(chat.stage, Stage::Calling);
                if of_connect || self.chats.get(&target).is_some_and(is_calling) {
                    self.take_unanswered(&target);
                }
                Some(target)
            }
            None if of_connect => self.unanswered.pop_front(),
            None if error.code == "RELAY_FAILED" => {
                let mut pending = self.chats.iter().filter(|(_, chat)| !matches!(chat.stage, Stage::Open(_)));
                pending.next().map(|(peer, _)| peer.clone()).filter(|_| pending.next().is_none())
            }
            None => None,
        };
        let reason = match &*error.code {
            "USER_OFFLINE" | "RELAY_FAILED" => CloseReason::NotOnline,
            _ => CloseReason::Refused { code: error.code.clone(), message: error.message.clone() },
        };
        match peer {
            Some(peer) if self.chats.get(&peer).is_some_and(|chat| !matches!(chat.stage, Stage::Open(_))) => {
                self.end(&peer, reason, out);
            }
            // An open chat needs the server no more, and what was said to somebody who is gone is of no interest.
            Some(_) => {}
            None => out.push(Output::Event(Event::ServerError { code: error.code, message: error.message })),
        }
    }

    fn receive_key(&mut self, sender: &str, exchange: &KeyExchange, now: Instant, out: &mut Vec<Output>) -> Option<()> {
        // An identity of our own comes from nobody honest.
        let own_identity = self.setup.identity.public();
        let introduced = Introduced::read(exchange).filter(|introduced| introduced.identity != Some(own_identity));
        if let Some(request) = self.requests.get_mut(sender) {
            if request.introduced.is_some() {
                return None;
            }
            request.introduced = introduced;
            if request.introduced.is_none() {
                // With such a key there can be no chat, so there is nothing to ask the user.
                self.end_request(sender, CloseReason::BadKey, out);
            } else if request.is_accepted {
                self.accept(sender.to_owned(), now, out);
            }
            return Some(());
        }
        if !self.chats.contains_key(sender) && self.announced.remove(sender).is_some_and(|end| end > now) {
            self.add_request(sender.to_owned(), now, out);
            return self.receive_key(sender, exchange, now, out);
        }
        match &self.chats.get(sender)?.stage {
            Stage::Calling => None,
            Stage::AwaitingKey(_) => {
                match introduced {
                    Some(introduced) => self.take_key(sender, introduced, now, out),
                    None => self.end(sender, CloseReason::BadKey, out),
                }
                Some(())
            }
            Stage::Negotiating(secured) | Stage::Proving(secured) | Stage::Open(secured) => {
                let introduced = introduced?;
                // The same key again is no news; another one is a new call, which needs consent again.
                if introduced.key == secured.introduced.key {
                    return None;
                }
                self.add_request(sender.to_owned(), now, out);
                self.requests.get_mut(sender)?.introduced = Some(introduced);
                Some(())
            }
        }
    }

    fn receive_offer(&mut self, sender: &str, offer: Description, out: &mut Vec<Output>) -> Option<()> {
        let id = ConnectionId(self.next_id);
        let chat = self.chats.get_mut(sender)?;
        let Stage::Negotiating(secured) = &mut chat.stage else { return None };
        if chat.role == Role::Initiator {
            // Both have called at once. The smaller name stays the initiator, but an old app knows no such rule.
            let yields = !secured.introduced.knows_rule || *sender < *self.username;
            if !yields || secured.max_message.is_some() {
                return None;
            }
            self.next_id += 1;
            self.connections.remove(&chat.id);
            self.connections.insert(id, sender.to_owned());
            out.push(Output::Close { id: chat.id, peer_closes: false });
            chat.id = id;
            chat.role = Role::Responder;
        } else if secured.max_message.is_some() {
            return None;
        }
        secured.max_message = Some(max_message_size(&offer.sdp));
        secured.fingerprints[1] = trust::fingerprint(&offer.sdp);
        out.push(Output::Answer { id: chat.id, sdp: offer.sdp });
        chat.add_early_candidates(out);
        Some(())
    }

    fn receive_answer(&mut self, sender: &str, answer: Description, out: &mut Vec<Output>) -> Option<()> {
        let chat = self.chats.get_mut(sender)?;
        let Stage::Negotiating(secured) = &mut chat.stage else { return None };
        if chat.role != Role::Initiator || secured.max_message.is_some() {
            return None;
        }
        secured.max_message = Some(max_message_size(&answer.sdp));
        secured.fingerprints[1] = trust::fingerprint(&answer.sdp);
        out.push(Output::Finish { id: chat.id, sdp: answer.sdp });
        chat.add_early_candidates(out);
        Some(())
    }

    fn receive_candidate(&mut self, sender: &str, candidate: Candidate, out: &mut Vec<Output>) -> Option<()> {
        // An empty candidate says that there are no more, which nobody needs to know.
        if candidate.candidate.is_empty() {
            return Some(());
        }
        let Some(chat) = self.chats.get_mut(sender) else {
            return push_early(&mut self.requests.get_mut(sender)?.early, candidate);
        };
        match &mut chat.stage {
            Stage::Calling => None,
            Stage::AwaitingKey(_) => push_early(&mut chat.early, candidate),
            Stage::Negotiating(secured) | Stage::Proving(secured) | Stage::Open(secured) => {
                if secured.max_message.is_none() {
                    return push_early(&mut chat.early, candidate);
                }
                secured.candidates += 1;
                if secured.candidates > MAX_CANDIDATES {
                    return None;
                }
                out.push(Output::AddCandidate { id: chat.id, candidate });
                Some(())
            }
        }
    }

    fn declined(&mut self, sender: &str, out: &mut Vec<Output>) -> Option<()> {
        if self.requests.contains_key(sender) {
            self.end_request(sender, CloseReason::Declined, out);
            return Some(());
        }
        let is_open = matches!(self.chats.get(sender)?.stage, Stage::Open(_) | Stage::Calling);
        if is_open {
            return None;
        }
        self.end(sender, CloseReason::Declined, out);
        Some(())
    }

    fn go_offline(&mut self, out: &mut Vec<Output>) {
        self.is_online = false;
        self.unanswered.clear();
        self.announced.clear();
        for peer in self.requests.keys().cloned().collect::<Vec<_>>() {
            self.end_request(&peer, CloseReason::ServerLost, out);
        }
        // Open chats live on without the server, and so may those whose candidates are all exchanged.
        let needs_server = |chat: &Chat| matches!(chat.stage, Stage::Calling | Stage::AwaitingKey(_));
        let lost: Vec<String> =
            self.chats.iter().filter(|(_, chat)| needs_server(chat)).map(|(peer, _)| peer.clone()).collect();
        for peer in lost {
            self.end(&peer, CloseReason::ServerLost, out);
        }
    }

    // What WebRTC says.

    fn described(&mut self, id: ConnectionId, sdp: String, out: &mut Vec<Output>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        let Some(chat) = self.chats.get_mut(&peer) else { return };
        let Stage::Negotiating(secured) = &mut chat.stage else { return };
        secured.fingerprints[0] = trust::fingerprint(&sdp);
        let (message, kind) = match chat.role {
            Role::Initiator => (MessageType::SignalOffer, "offer"),
            Role::Responder => (MessageType::SignalAnswer, "answer"),
        };
        self.signal(&peer, message, &Description { sdp, kind: kind.to_owned() }, out);
    }

    fn opened(&mut self, id: ConnectionId, now: Instant, out: &mut Vec<Output>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        if !self.chats.get(&peer).is_some_and(|chat| matches!(chat.stage, Stage::Negotiating(_))) {
            return;
        }
        let Some(chat) = self.chats.remove(&peer) else { return };
        let Stage::Negotiating(secured) = chat.stage else { return };
        if secured.introduced.identity.is_none() {
            self.chats.insert(peer.clone(), Chat { stage: Stage::Open(secured), deadline: None, ..chat });
            return self.welcome(peer, out);
        }
        let proof = self
            .parties(&peer, &secured)
            .map(|[own, other]| trust::prove(&self.setup.identity, chat.role, &own, &other));
        self.chats
            .insert(peer.clone(), Chat { stage: Stage::Proving(secured), deadline: Some(now + PROOF_TIME), ..chat });
        match proof {
            Some(proof) => {
                let text = serde_json::to_string(&Proof { proof }).expect("proofs serialize");
                out.push(Output::Transmit { id, text });
            }
            None => self.end(&peer, CloseReason::NotProven, out),
        }
    }

    /// Both sides of a proof as they are seen from here: our own and the peer's.
    fn parties<'a>(&'a self, peer: &'a str, secured: &'a Secured) -> Option<[Party<'a>; 2]> {
        let own = Party {
            username: &self.username,
            identity: self.setup.identity.public(),
            key: secured.own.as_ref()?.public(),
            features: OWN_FEATURES,
            fingerprint: secured.fingerprints[0]?,
        };
        let other = Party {
            username: peer,
            identity: secured.introduced.identity?,
            key: secured.introduced.key,
            features: &secured.introduced.features,
            fingerprint: secured.fingerprints[1]?,
        };
        Some([own, other])
    }

    /// Takes the first text of a peer that has to prove who it is.
    fn receive_proof(&mut self, peer: String, text: Option<String>, out: &mut Vec<Output>) {
        let Some(Chat { role, stage: Stage::Proving(secured), .. }) = self.chats.get(&peer) else { return };
        let role = match role {
            Role::Initiator => Role::Responder,
            Role::Responder => Role::Initiator,
        };
        let proof: Option<Proof> = text.and_then(|text| protocol::from_object(&text).ok());
        let is_proven = match (proof, self.parties(&peer, secured), &secured.own) {
            (Some(Proof { proof }), Some([own, other]), Some(pair)) => {
                trust::is_proven(&proof, pair, role, &other, &own)
            }
            _ => false,
        };
        if !is_proven {
            return self.end(&peer, CloseReason::NotProven, out);
        }
        let Some(chat) = self.chats.remove(&peer) else { return };
        let Stage::Proving(mut secured) = chat.stage else { return };
        secured.own = None;
        self.chats.insert(peer.clone(), Chat { stage: Stage::Open(secured), deadline: None, ..chat });
        self.welcome(peer, out);
    }

    /// Tells the user of an open chat, and who is there.
    fn welcome(&mut self, peer: String, out: &mut Vec<Output>) {
        let Some(Chat { stage: Stage::Open(secured), .. }) = self.chats.get(&peer) else { return };
        // The user may have learnt who the peer is while the connection was made.
        let trust = match self.judge(&peer, &secured.introduced) {
            Ok(trust) => trust,
            Err(reason) => return self.end(&peer, reason, out),
        };
        let Some(Chat { stage: Stage::Open(secured), .. }) = self.chats.get_mut(&peer) else { return };
        let (own, other) = match secured.introduced.identity {
            Some(identity) => (self.setup.identity.public(), identity),
            None => (secured.cipher.own_key(), secured.introduced.key),
        };
        secured.own = None;
        if trust == Trust::New {
            // For as long as the program runs; who wants to know it longer keeps what the event says.
            let known = Known { identity: other, is_verified: false, since: String::new() };
            self.setup.known.insert(peer.clone(), known);
        }
        out.push(Output::Event(Event::Identified { peer: peer.clone(), trust, own, other }));
        out.push(Output::Event(Event::Open { peer }));
    }

    /// What is to be thought of a peer that introduces itself so.
    fn judge(&self, peer: &str, introduced: &Introduced) -> Result<Trust, CloseReason> {
        match (self.setup.known.get(peer), introduced.identity) {
            (Some(known), Some(identity)) if known.identity == identity => {
                Ok(if known.is_verified { Trust::Verified } else { Trust::Known })
            }
            (Some(known), identity) => {
                let (own, known) = (self.setup.identity.public(), Box::new(known.clone()));
                Err(CloseReason::IdentityChanged { own, known, identity })
            }
            (None, Some(_)) => Ok(Trust::New),
            (None, None) if self.setup.is_strict => Err(CloseReason::Unproven),
            (None, None) => Ok(Trust::Unproven),
        }
    }

    /// Sends a signal, sealed where both sides do so.
    fn signal(&mut self, peer: &str, kind: MessageType, payload: &impl Serialize, out: &mut Vec<Output>) {
        let sealer = match self.chats.get_mut(peer).map(|chat| &mut chat.stage) {
            Some(Stage::Negotiating(secured) | Stage::Proving(secured) | Stage::Open(secured)) => &mut secured.sealer,
            _ => &mut None,
        };
        out.push(match sealer {
            Some(sealer) => {
                let text = serde_json::to_string(payload).expect("payloads serialize");
                signal(kind, peer, Some(&Sealed { sealed: sealer.seal(&text) }))
            }
            None => signal(kind, peer, Some(payload)),
        });
    }

    /// Reads a signal's payload, which has to be sealed where both sides do so.
    fn unseal<T: DeserializeOwned>(&mut self, sender: &str, envelope: &Envelope<'_>) -> Option<T> {
        let secured = match self.chats.get_mut(sender).map(|chat| &mut chat.stage) {
            Some(Stage::Negotiating(secured) | Stage::Proving(secured) | Stage::Open(secured)) => secured,
            _ => return payload(envelope),
        };
        let sealed = payload::<Sealed>(envelope);
        let (json, is_false) = match (&mut secured.sealer, sealed) {
            (Some(sealer), sealed) => {
                let opened = sealed.and_then(|Sealed { sealed }| sealer.open(&sealed));
                let is_false = opened.is_none();
                (opened, is_false)
            }
            // Where one side alone believes that both seal, somebody has changed what they said of themselves.
            (None, sealed) => (envelope.payload.map(|payload| payload.get().to_owned()), sealed.is_some()),
        };
        secured.has_false_description |= is_false && envelope.kind != MessageType::SignalIce.name();
        protocol::from_object(&json?).ok()
    }

    fn key_exchange(&self, peer: &str, own: &KeyPair) -> Output {
        let introduction = Introduction {
            identity: Some(self.setup.identity.public().to_base64()),
            features: OWN_FEATURES.split(',').map(str::to_owned).collect(),
        };
        let exchange = KeyExchange { public_key: own.public().to_base64(), lowkey: Some(introduction) };
        signal(MessageType::KeyExchange, peer, Some(&exchange))
    }

    fn receive(&mut self, id: ConnectionId, text: Option<String>, out: &mut Vec<Output>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        if self.chats.get(&peer).is_some_and(|chat| matches!(chat.stage, Stage::Proving(_))) {
            return self.receive_proof(peer, text, out);
        }
        let is_strict = self.setup.is_strict;
        let Some(Chat { stage: Stage::Open(secured), .. }) = self.chats.get_mut(&peer) else { return };
        match text.map(|text| secured.cipher.open(&text)) {
            Some(Err(OpenError::Exhausted)) => self.end(&peer, CloseReason::Exhausted, out),
            Some(Ok(opened)) => {
                secured.failures = 0;
                if opened.key_changed && is_strict {
                    return self.end(&peer, CloseReason::KeyChanged, out);
                }
                if opened.key_changed {
                    out.push(Output::Event(Event::KeyChanged { peer: peer.clone() }));
                }
                out.push(Output::Event(Event::Message { peer, text: opened.text }));
            }
            Some(Err(_)) | None => {
                secured.failures += 1;
                self.dropped += 1;
                if secured.failures >= MAX_FAILURES {
                    self.end(&peer, CloseReason::Unreadable, out);
                }
            }
        }
    }

    fn closed(&mut self, id: ConnectionId, reason: CloseReason, out: &mut Vec<Output>) {
        let Some(peer) = self.connections.remove(&id) else { return };
        let Some(chat) = self.chats.remove(&peer) else { return };
        let reason = match (chat.stage, reason) {
            // What never came about was not lost.
            (Stage::Negotiating(_), CloseReason::ConnectionLost) => CloseReason::NoConnection,
            (_, reason) => reason,
        };
        out.push(Output::Event(Event::Closed { peer, reason }));
    }

    // What all of these share.

    fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        let over: Vec<String> =
            self.requests.iter().filter(|(_, request)| request.deadline <= now).map(|(peer, _)| peer.clone()).collect();
        for peer in over {
            self.end_request(&peer, CloseReason::NoAnswer, out);
        }
        self.announced.retain(|_, end| *end > now);
        let is_over = |chat: &Chat| chat.deadline.is_some_and(|deadline| deadline <= now);
        let reason = |chat: &Chat| match &chat.stage {
            // One that came and could not be opened says more than that none came.
            Stage::Negotiating(secured) if secured.has_false_description && secured.max_message.is_none() => {
                CloseReason::NotProven
            }
            Stage::Negotiating(_) => CloseReason::NoConnection,
            Stage::Proving(_) => CloseReason::NotProven,
            _ => CloseReason::NoAnswer,
        };
        let over: Vec<(String, CloseReason)> = self
            .chats
            .iter()
            .filter(|(_, chat)| is_over(chat))
            .map(|(peer, chat)| (peer.clone(), reason(chat)))
            .collect();
        for (peer, reason) in over {
            self.take_unanswered(&peer);
            self.end(&peer, reason, out);
        }
    }

    fn take_key(&mut self, peer: &str, introduced: Introduced, now: Instant, out: &mut Vec<Output>) {
        if let Err(reason) = self.judge(peer, &introduced) {
            out.push(signal(MessageType::SessionDecline, peer, None::<&()>));
            return self.end(peer, reason, out);
        }
        let Some(chat) = self.chats.get_mut(peer) else { return };
        let Stage::AwaitingKey(own) = &chat.stage else { return };
        let format = if introduced.knows_rule { TextFormat::V1 } else { self.setup.text_format };
        let Some(cipher) = Cipher::new(own.clone(), introduced.key, format) else {
            return self.end(peer, CloseReason::BadKey, out);
        };
        let secured = Secured {
            cipher,
            sealer: introduced.seals.then(|| Sealer::new(own, introduced.key)),
            own: introduced.identity.map(|_| own.clone()),
            introduced,
            fingerprints: [None; 2],
            max_message: None,
            failures: 0,
            candidates: 0,
            has_false_description: false,
        };
        // What came before the keys was not sealed, so it is not from a peer that seals.
        if secured.sealer.is_some() {
            chat.early.clear();
        }
        chat.stage = Stage::Negotiating(secured);
        chat.deadline = Some(now + NEGOTIATION_TIME);
        out.push(Output::Event(Event::KeysExchanged { peer: peer.to_owned() }));
        if chat.role == Role::Initiator {
            out.push(Output::Offer { id: chat.id });
        }
    }

    fn add_chat(&mut self, peer: String, role: Role, stage: Stage, deadline: Instant) -> &mut Chat {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        self.connections.insert(id, peer.clone());
        let chat = Chat { id, role, stage, deadline: Some(deadline), early: Vec::new() };
        self.chats.entry(peer).insert_entry(chat).into_mut()
    }

    /// Keeps a request for the user to answer. One that the peer repeats starts anew, but gets no more time by that.
    fn add_request(&mut self, peer: String, now: Instant, out: &mut Vec<Output>) {
        if let Some(request) = self.requests.get_mut(&peer) {
            request.introduced = None;
            request.early.clear();
            return;
        }
        if self.requests.len() >= self.setup.max_requests {
            return self.drop_message();
        }
        let request = Request { introduced: None, is_accepted: false, early: Vec::new(), deadline: now + ANSWER_TIME };
        self.requests.insert(peer.clone(), request);
        out.push(Output::Event(Event::Request { peer }));
    }

    /// Takes the server's answer to a connect off the list; whether there was one to this peer.
    fn take_unanswered(&mut self, peer: &str) -> bool {
        let place = self.unanswered.iter().position(|called| called == peer);
        place.and_then(|place| self.unanswered.remove(place)).is_some()
    }

    /// The one door out for a chat: its keys go with it.
    fn end(&mut self, peer: &str, reason: CloseReason, out: &mut Vec<Output>) {
        let Some(chat) = self.chats.remove(peer) else { return };
        self.connections.remove(&chat.id);
        if let Stage::Negotiating(secured) | Stage::Proving(secured) | Stage::Open(secured) = &chat.stage {
            out.push(Output::Close { id: chat.id, peer_closes: secured.introduced.knows_rule });
        }
        out.push(Output::Event(Event::Closed { peer: peer.to_owned(), reason }));
    }

    /// The one door out for a request that comes to nothing. Whoever has said yes to it waits for more than its end.
    fn end_request(&mut self, peer: &str, reason: CloseReason, out: &mut Vec<Output>) {
        let Some(request) = self.requests.remove(peer) else { return };
        let peer = peer.to_owned();
        out.push(Output::Event(match request.is_accepted {
            true => Event::Refused { peer, reason },
            false => Event::RequestEnded { peer },
        }));
    }

    fn drop_message(&mut self) {
        self.dropped += 1;
    }
}

impl Chat {
    fn add_early_candidates(&mut self, out: &mut Vec<Output>) {
        let id = self.id;
        out.extend(self.early.drain(..).map(|candidate| Output::AddCandidate { id, candidate }));
    }
}

fn push_early(early: &mut Vec<Candidate>, candidate: Candidate) -> Option<()> {
    (early.len() < MAX_EARLY_CANDIDATES).then(|| early.push(candidate))
}

fn payload<T: DeserializeOwned>(envelope: &Envelope<'_>) -> Option<T> {
    protocol::from_object(envelope.payload?.get()).ok()
}

fn signal(kind: MessageType, target: &str, payload: Option<&impl Serialize>) -> Output {
    Output::Signal(protocol::message(kind, Some(target), payload))
}

/// The largest message that whoever wrote this description takes, in bytes (RFC 8841, section 6): 0 means any size.
fn max_message_size(sdp: &str) -> usize {
    let attribute = sdp.lines().find_map(|line| line.trim().strip_prefix("a=max-message-size:"));
    match attribute.and_then(|value| value.trim().parse().ok()) {
        None => DEFAULT_MAX_MESSAGE,
        Some(0) => MAX_MESSAGE,
        Some(size) => MAX_MESSAGE.min(size),
    }
}

/// The largest message of ours, in bytes, which is also what browsers take and what we take ourselves.
pub const MAX_MESSAGE: usize = 262_144;

/// What a description means that names no size (RFC 8841, section 6.1).
const DEFAULT_MAX_MESSAGE: usize = 65_536;

/// How long a request waits for its user, and a caller for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// How long two peers may take from both keys to an open data channel.
const NEGOTIATION_TIME: Duration = Duration::from_secs(30);

/// How long the peer may take for its proof once the data channel is open.
const PROOF_TIME: Duration = Duration::from_secs(10);

/// The features of protocol part 2, and ours as they are sent.
const PROOF: &str = "proof";
const SEAL: &str = "seal";
const OWN_FEATURES: &str = "proof,seal";

/// Candidates kept for a description that is still to come.
const MAX_EARLY_CANDIDATES: usize = 64;

/// Candidates taken from a peer in all. A machine with many interfaces has some dozens.
const MAX_CANDIDATES: usize = 256;

/// Texts in a row that could not be opened, after which a chat ends.
const MAX_FAILURES: u32 = 5;
