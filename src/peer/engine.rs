//! What a peer does on every input: the state machine of all its chats. It knows no socket, no thread and no clock; the
//! peer's loop hands it [`Input`]s with the time, and carries out the [`Output`]s that come back.
//!
//! Somebody who calls is a request until the user says yes, then a call that goes through the stages of protocol 1.3, led by
//! signals, and then a chat. What a careful receiver does (1.5) is done here: only what is due in the present stage,
//! from the one peer that is being set up, has any effect.

mod call;
mod chat;
mod pacing;
mod signals;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::candidate::Candidates;
use super::cipher::TextFormat;
use super::event::{CloseReason, Event};
use super::ice::IceServer;
use super::keys::KeyPair;
use super::trust::{Known, Role, Trust};
use crate::protocol::{Candidate, MessageType};

use call::{Call, Introduced, Stage};
use chat::{Chat, Parted};
use pacing::Pacing;
use signals::signal;

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
    /// WebRTC has found a way to the other side, on which the connection is to open.
    WayFound {
        /// Of this connection.
        id: ConnectionId,
    },
    /// Long texts do not arrive over a connection that lives.
    Stalled {
        /// This connection.
        id: ConnectionId,
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
    /// The user's program has taken a text, and all that came before it in the same chat.
    Taken(Receipt),
    /// The user's program can take no more. All chats end on this side; to the others they are interrupted, and what was not taken
    /// waits there for a program that can.
    Stop,
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
    /// The connection that is opened next goes a way that passes only short datagrams.
    Narrow {
        /// The new connection.
        id: ConnectionId,
    },
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
        /// It is kept here until it is acknowledged, and counted so long.
        is_kept: bool,
    },
    /// End the connection.
    Close {
        /// The connection.
        id: ConnectionId,
        /// What is to be waited for.
        parting: Parting,
    },
    /// Tell the user of a text.
    Message {
        /// From whom.
        peer: String,
        /// The text.
        text: String,
        /// What to hand back in [`Input::Taken`]; `None` where nobody waits for it.
        receipt: Option<Receipt>,
    },
    /// Tell the user.
    Event(Event),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// Whatever is on its way.
    AtOnce,
    /// Once all that was sent has arrived at an app of which it is not known that it closes too.
    Sent,
    /// Once the other side has read all, and closes in its turn; that it does not is a loss.
    Read,
    /// The same, but what was lost is known without it.
    Acknowledged,
}

/// Names a text that came, so that it can be acknowledged once the user's program has taken it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// From whom.
    pub peer: String,
    /// In which chat, since one may follow another.
    pub chat: u64,
    /// Its number in that chat.
    pub number: u64,
}

/// A peer's state: its chats, the calls and requests that may become some, and its place at the server.
#[derive(Debug)]
pub struct Engine {
    username: String,
    setup: Setup,
    is_online: bool,
    requests: HashMap<String, Request>,
    calls: HashMap<String, Call>,
    /// Beside an open or interrupted chat there may be a call that is to carry it on.
    chats: HashMap<String, Chat>,
    /// Chats that the other side has left before our user has taken all of it.
    parted: Vec<Parted>,
    /// Whom the server has announced while a chat with them was not open yet, and until when that counts: it may be their
    /// new call, and the end of the old chat must not swallow it.
    announced: HashMap<String, Instant>,
    /// Who was refused, since they are not who they were, and has not been told. They are among those who are known.
    turned_away: HashSet<String>,
    /// Whom the user has called, for the server's answers, which come in the same order. A call that was left in the
    /// meantime is still answered.
    unanswered: VecDeque<String>,
    connections: HashMap<ConnectionId, String>,
    pacing: Pacing,
    /// Peers to whom the way passes only short datagrams.
    narrow: HashSet<String>,
    /// The STUN and TURN servers that the server has named last.
    offered: Vec<IceServer>,
    next_id: u64,
    next_chat: u64,
    dropped: u64,
}

/// How a peer behaves, and who it is.
#[derive(Debug)]
pub struct Setup {
    /// How texts are sent at first to peers that say nothing of themselves.
    pub text_format: TextFormat,
    /// So many requests of strangers wait for an answer at once, and as many of peers that are known.
    pub max_requests: usize,
    /// The long-term pair.
    pub identity: KeyPair,
    /// The peers that were seen before, by name.
    pub known: HashMap<String, Known>,
    /// Peers that cannot prove who they are are refused, and so is a change of key in mid-chat.
    pub is_strict: bool,
    /// How long the connection of an interrupted chat is sought.
    pub resume_for: Duration,
    /// A peer may be on this very machine, so its candidates may be loopback addresses.
    pub with_loopback: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            text_format: TextFormat::V1,
            max_requests: 3,
            identity: KeyPair::generate(),
            known: HashMap::new(),
            is_strict: false,
            resume_for: Duration::from_secs(24 * 60 * 60),
            with_loopback: false,
        }
    }
}

/// Somebody calls, and the user has not said yes or no.
#[derive(Debug)]
struct Request {
    introduced: Option<Introduced>,
    /// The user has said yes, and the caller's key is awaited: nothing is sent to somebody who may not be who they were.
    is_accepted: bool,
    early: Candidates,
    deadline: Instant,
    /// It may carry on a chat that there is, so the user is asked only if its key says that it does not.
    is_silent: bool,
}

impl Engine {
    /// A peer that is not online yet.
    pub fn new(username: &str, setup: Setup) -> Self {
        Self {
            username: username.to_owned(),
            setup,
            is_online: false,
            requests: HashMap::new(),
            calls: HashMap::new(),
            chats: HashMap::new(),
            parted: Vec::new(),
            announced: HashMap::new(),
            turned_away: HashSet::new(),
            unanswered: VecDeque::new(),
            connections: HashMap::new(),
            pacing: Pacing::default(),
            narrow: HashSet::new(),
            offered: Vec::new(),
            next_id: 0,
            next_chat: 0,
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
            Input::Decline { peer } => {
                // Of a silent one the user knows nothing.
                if self.requests.get(&peer).is_some_and(|request| !request.is_silent) {
                    self.decline(&peer, out);
                } else if self.turned_away.remove(&peer) && self.is_online {
                    out.push(signal(MessageType::SessionDecline, &peer, None::<&()>));
                }
            }
            Input::Send { peer, id, text } => self.send(peer, id, text, now, out),
            Input::Trust { peer, known: Some(known) } => self.trust(peer, known, now, out),
            Input::Trust { peer, known: None } => {
                self.setup.known.remove(&peer);
            }
            Input::Leave { peer } => self.leave(peer, now, out),
            Input::Signal(text) => self.receive_signal(&text, now, out),
            Input::Online => self.go_online(now),
            Input::Offline => self.go_offline(now, out),
            Input::Described { id, sdp } => self.described(id, &sdp, now, out),
            Input::Candidate { id, candidate } => self.found(id, &candidate.candidate, out),
            Input::WayFound { id } => self.way_found(id),
            Input::Stalled { id } => self.stalled(id, now, out),
            Input::Opened { id } => self.opened(id, now, out),
            Input::Received { id, text } => self.receive(id, text, now, out),
            Input::Closed { id, reason } => self.closed(id, reason, now, out),
            Input::Taken(receipt) => self.taken(&receipt, now, out),
            Input::Stop => self.stop(now, out),
            Input::Tick => self.tick(now, out),
        }
        outputs
    }

    /// When the next [`Input::Tick`] has something to do.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let requests = self.requests.values().map(|request| request.deadline);
        let calls = self.calls.values().map(|call| call.deadline);
        let next_seek = self.is_online.then(|| self.pacing.next_seek(now));
        let chats = self.chats.values().filter_map(|chat| chat.next_deadline(next_seek));
        let parted = self.parted.iter().filter_map(|parted| parted.deadline);
        let waiting = self.pacing.has_waiting().then(|| self.pacing.next_own(now));
        requests.chain(calls).chain(chats).chain(parted).chain(waiting).min()
    }

    /// How many messages were dropped because they were not due, not from the right sender, or no messages at all.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// With whom there are chats and calls, and whose requests wait.
    pub fn peers(&self) -> Vec<String> {
        let names: HashSet<&String> = self.chats.keys().chain(self.calls.keys()).chain(self.requests.keys()).collect();
        names.into_iter().cloned().collect()
    }

    /// Whether there is no chat and no call.
    pub fn is_idle(&self) -> bool {
        self.chats.is_empty() && self.calls.is_empty()
    }

    /// The connection of the chat with `peer`, where texts are not kept here until they are acknowledged.
    pub fn unkept_connection(&self, peer: &str) -> Option<ConnectionId> {
        self.chats.get(peer).and_then(Chat::unkept_connection)
    }

    /// Bytes of texts that are kept until they are acknowledged, in all chats.
    pub fn kept_bytes(&self) -> usize {
        self.chats.values().map(Chat::kept_bytes).sum()
    }

    // What the user does.

    fn connect(&mut self, peer: String, now: Instant, out: &mut Vec<Output>) {
        if self.requests.get(&peer).is_some_and(|request| !request.is_silent) {
            return self.accept(peer, now, out);
        }
        if self.calls.contains_key(&peer) {
            return;
        }
        if let Some(chat) = self.chats.get_mut(&peer) {
            if chat.is_interrupted() {
                return self.seek(&peer, true, now, out);
            }
            if !chat.is_leaving() {
                return;
            }
            // It is called anew, so the old chat is not waited for any longer.
            self.finish(&peer, CloseReason::Left, out);
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
        self.call(peer, true, now, out);
    }

    /// Calls `peer`, for the user as soon as there is room, and else only if there is.
    fn call(&mut self, peer: String, is_own: bool, now: Instant, out: &mut Vec<Output>) {
        let is_free = if is_own { self.pacing.take_own(now) } else { self.pacing.take_seek(now) };
        if !is_free && !is_own {
            return;
        }
        // The time that it may wait for room; the server's begins when it is asked.
        self.add_call(peer.clone(), Role::Initiator, Stage::Calling, now + ANSWER_TIME);
        match is_free {
            true => self.ask(&peer, now, out),
            false => self.pacing.wait(&peer),
        }
    }

    /// Asks the server for a session with `peer`.
    fn ask(&mut self, peer: &str, now: Instant, out: &mut Vec<Output>) {
        let time = if self.chats.contains_key(peer) { chat::SEEK_TIME } else { ANSWER_TIME };
        if let Some(call) = self.calls.get_mut(peer) {
            call.deadline = now + time;
        }
        if let Some(chat) = self.chats.get_mut(peer) {
            chat.was_sought(now);
        }
        out.push(signal(MessageType::SessionConnect, peer, None::<&()>));
        self.unanswered.push_back(peer.to_owned());
    }

    fn accept(&mut self, peer: String, now: Instant, out: &mut Vec<Output>) {
        // Of a silent one the user knows nothing.
        let Some(request) = self.requests.get_mut(&peer).filter(|request| !request.is_silent) else {
            // It may have ended while the user said yes; nobody should go on waiting for the chat.
            if !self.chats.contains_key(&peer) && !self.calls.contains_key(&peer) {
                out.push(Output::Event(Event::Closed { peer, reason: CloseReason::NotCalling }));
            }
            return;
        };
        request.is_accepted = true;
        let Some(introduced) = request.introduced.clone() else { return };
        if let Err(reason) = self.judge(&peer, introduced.identity) {
            self.turn_away(&peer, &reason, out);
            return self.end_request(&peer, reason, out);
        }
        let Some(request) = self.requests.remove(&peer) else { return };
        if !self.carries_on(&peer, &introduced) {
            if self.chats.contains_key(&peer) {
                self.drop_call(&peer, out);
                self.finish(&peer, CloseReason::Replaced, out);
            } else {
                self.fail(&peer, CloseReason::Replaced, now, out);
            }
        }
        self.answer(peer, request, now, out);
    }

    /// Somebody is refused before a chat. Who is not who they were may have a new device, or be somebody else: they are told nothing
    /// until the user says so, and see that nobody answers.
    fn turn_away(&mut self, peer: &str, reason: &CloseReason, out: &mut Vec<Output>) {
        match reason {
            CloseReason::IdentityChanged { .. } => drop(self.turned_away.insert(peer.to_owned())),
            _ => out.push(signal(MessageType::SessionDecline, peer, None::<&()>)),
        }
    }

    /// Turns a request down.
    fn decline(&mut self, peer: &str, out: &mut Vec<Output>) {
        let Some(request) = self.requests.remove(peer) else { return };
        out.push(signal(MessageType::SessionDecline, peer, None::<&()>));
        if request.is_accepted {
            out.push(Output::Event(Event::Refused { peer: peer.to_owned(), reason: CloseReason::Left }));
        }
    }

    /// Sends our key to somebody who calls.
    fn answer(&mut self, peer: String, request: Request, now: Instant, out: &mut Vec<Output>) {
        self.drop_call(&peer, out);
        let own = KeyPair::generate();
        out.push(self.key_exchange(&peer, &own));
        let stage = Stage::AwaitingKey(own);
        self.add_call(peer.clone(), Role::Responder, stage, now + ANSWER_TIME).early = request.early;
        if let Some(introduced) = request.introduced {
            self.take_key(&peer, introduced, now, out);
        }
    }

    fn leave(&mut self, peer: String, now: Instant, out: &mut Vec<Output>) {
        let is_call = self.calls.contains_key(&peer);
        if !is_call && !self.chats.contains_key(&peer) {
            return self.decline(&peer, out);
        }
        let is_request = self.requests.remove(&peer).is_some_and(|request| !request.is_silent);
        // Whoever is still being called learns that it is over; in an open chat the data channel says so.
        let is_called = self
            .calls
            .get(&peer)
            .is_some_and(|call| matches!(call.stage, Stage::AwaitingKey(_) | Stage::Negotiating(_)));
        let is_interrupted = self.chats.get(&peer).is_some_and(Chat::is_interrupted);
        if is_request || is_called || (is_interrupted && self.is_online) {
            out.push(signal(MessageType::SessionDecline, &peer, None::<&()>));
        }
        self.part_early(&peer, out);
        self.drop_call(&peer, out);
        if self.chats.contains_key(&peer) {
            self.part(&peer, now, out);
        } else if is_call {
            out.push(Output::Event(Event::Closed { peer, reason: CloseReason::Left }));
        }
    }

    /// Knows who a peer is from now on, and ends a chat with somebody else under that name.
    fn trust(&mut self, peer: String, known: Known, now: Instant, out: &mut Vec<Output>) {
        self.setup.known.insert(peer.clone(), known);
        if let Some(chat) = self.chats.get(&peer)
            && let Err(reason) = self.judge(&peer, chat.identity)
        {
            self.drop_call(&peer, out);
            return self.finish(&peer, reason, out);
        }
        if let Some(Stage::Negotiating(secured) | Stage::Proving(secured)) =
            self.calls.get(&peer).map(|call| &call.stage)
            && let Err(reason) = self.judge(&peer, secured.introduced.identity)
        {
            self.fail(&peer, reason, now, out);
        }
    }

    /// What is to be thought of a peer that shows this identity.
    fn judge(&self, peer: &str, identity: Option<super::keys::PublicKey>) -> Result<Trust, CloseReason> {
        match (self.setup.known.get(peer), identity) {
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

    // What all of these share.

    fn closed(&mut self, id: ConnectionId, reason: CloseReason, now: Instant, out: &mut Vec<Output>) {
        let Some(peer) = self.connections.remove(&id) else { return };
        if let Some(call) = self.calls.get(&peer).filter(|call| call.id == id) {
            // The other side is not to wait for what WebRTC could not begin.
            if matches!((&call.stage, &reason), (Stage::Negotiating(_), CloseReason::Failed { .. })) {
                out.push(signals::refusal(&peer));
            }
            let reason = match call.closed(reason) {
                // Who has left a chat says so in it; this is only a call that was to carry it on. And what could not be opened
                // may be of an earlier one, and what breaks the rules be somebody else.
                CloseReason::PeerLeft
                | CloseReason::NotProven
                | CloseReason::RulesBroken { .. }
                | CloseReason::Crashed
                    if self.chats.contains_key(&peer) =>
                {
                    CloseReason::ConnectionLost
                }
                reason => reason,
            };
            self.calls.remove(&peer);
            self.failed(&peer, reason, now, out);
        } else if self.chats.get(&peer).is_some_and(|chat| chat.has_connection(id)) {
            self.lose(&peer, reason, now, out);
        } else {
            self.parted.retain(|parted| !parted.has_connection(id));
        }
    }

    fn go_online(&mut self, now: Instant) {
        self.is_online = true;
        for chat in self.chats.values_mut() {
            chat.seek_at(now);
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        let is_over = |request: &Request| request.deadline <= now;
        let over: Vec<String> =
            self.requests.iter().filter(|(_, request)| is_over(request)).map(|(peer, _)| peer.clone()).collect();
        for peer in over {
            self.end_request(&peer, CloseReason::NoAnswer, out);
        }
        self.announced.retain(|_, end| *end > now);
        let over = self.calls.iter().filter(|(_, call)| call.deadline <= now);
        let over: Vec<(String, CloseReason)> =
            over.map(|(peer, call)| (peer.clone(), call.overdue(self.chats.contains_key(peer)))).collect();
        for (peer, reason) in over {
            self.take_unanswered(&peer);
            let reason = if self.pacing.is_waiting(&peer) { too_many_calls() } else { reason };
            self.fail(&peer, reason, now, out);
        }
        let calls = &self.calls;
        let is_wanted = |peer: &str| calls.get(peer).is_some_and(|call| matches!(call.stage, Stage::Calling));
        let mut asked = Vec::new();
        asked.extend(std::iter::from_fn(|| self.pacing.next_waiting(now, is_wanted)));
        for peer in asked {
            self.ask(&peer, now, out);
        }
        self.tick_chats(now, out);
    }

    fn add_call(&mut self, peer: String, role: Role, stage: Stage, deadline: Instant) -> &mut Call {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        self.connections.insert(id, peer.clone());
        let call = Call { id, role, stage, deadline, early: Candidates::default() };
        self.calls.entry(peer).insert_entry(call).into_mut()
    }

    /// Keeps a request for the user to answer. One that the peer repeats starts anew, but gets no more time by that.
    fn add_request(&mut self, peer: String, now: Instant, out: &mut Vec<Output>) {
        if let Some(request) = self.requests.get_mut(&peer) {
            request.introduced = None;
            request.early = Candidates::default();
            return;
        }
        let is_silent = self.chats.get(&peer).is_some_and(Chat::may_be_carried_on);
        // Strangers, who can have as many names as they like, leave the places of those who are known free.
        let known = &self.setup.known;
        let is_alike = |name: &String| known.contains_key(name) == known.contains_key(&peer);
        let waiting = self.requests.iter().filter(|(name, request)| !request.is_silent && is_alike(name)).count();
        if !is_silent && waiting >= self.setup.max_requests {
            return self.drop_message();
        }
        let (early, deadline) = (Candidates::default(), now + ANSWER_TIME);
        let request = Request { introduced: None, is_accepted: false, early, deadline, is_silent };
        self.requests.insert(peer.clone(), request);
        if !is_silent {
            out.push(Output::Event(Event::Request { peer }));
        }
    }

    /// Takes the server's answer to a connect off the list; whether there was one to this peer.
    fn take_unanswered(&mut self, peer: &str) -> bool {
        let place = self.unanswered.iter().position(|called| called == peer);
        place.and_then(|place| self.unanswered.remove(place)).is_some()
    }

    /// The one door out for a request that comes to nothing. Whoever has said yes to it waits for more than its end.
    fn end_request(&mut self, peer: &str, reason: CloseReason, out: &mut Vec<Output>) {
        let Some(request) = self.requests.remove(peer) else { return };
        let peer = peer.to_owned();
        if request.is_accepted {
            out.push(Output::Event(Event::Refused { peer, reason }));
        } else if !request.is_silent {
            out.push(Output::Event(Event::RequestEnded { peer }));
        }
    }

    /// Ends a call without a word.
    fn drop_call(&mut self, peer: &str, out: &mut Vec<Output>) -> bool {
        let Some(call) = self.calls.remove(peer) else { return false };
        self.connections.remove(&call.id);
        if matches!(call.stage, Stage::Negotiating(_) | Stage::Proving(_)) {
            // The other side is to see our proof before it sees the end.
            let parting = if matches!(call.stage, Stage::Proving(_)) { Parting::Sent } else { Parting::AtOnce };
            out.push(Output::Close { id: call.id, parting });
        }
        true
    }

    /// The one door out for a call that comes to nothing: its keys go with it.
    fn fail(&mut self, peer: &str, reason: CloseReason, now: Instant, out: &mut Vec<Output>) {
        if self.drop_call(peer, out) {
            self.failed(peer, reason, now, out);
        }
    }

    /// A call is over that was to be a chat, or to carry one on.
    fn failed(&mut self, peer: &str, reason: CloseReason, now: Instant, out: &mut Vec<Output>) {
        match self.chats.get_mut(peer) {
            Some(chat) if chat.is_interrupted() && reason.is_final() => self.finish(peer, reason, out),
            Some(chat) => chat.seek_again(&reason, now),
            None => out.push(Output::Event(Event::Closed { peer: peer.to_owned(), reason })),
        }
    }

    fn drop_message(&mut self) {
        self.dropped += 1;
    }
}

/// Why a call comes to nothing for which there was no room in time.
fn too_many_calls() -> CloseReason {
    let message = "too many calls at once; try again in a minute".to_owned();
    CloseReason::Refused { code: RATE_LIMITED.to_owned(), message }
}

/// The server's word for more than it takes (protocol 1.2).
const RATE_LIMITED: &str = "RATE_LIMITED";

/// How long a request waits for its user, and a caller for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(60);
