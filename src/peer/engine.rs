//! What a peer does on every input: the state machine of all its chats. It knows no socket, no thread and no clock; the
//! peer's loop hands it [`Input`]s with the time, and carries out the [`Output`]s that come back.
//!
//! Somebody who calls proves who they are, becomes a request until the user says yes, then a call on its way to a
//! connection, and then a chat (protocol 2.1). What a careful receiver does (1.5) is done here: only what is due in the
//! present stage, from the one peer that is being set up, has any effect.
//!
//! # How something ends
//!
//! From the user's wish to the last of a peer connection:
//!
//! * `end` and `stop`: the program ends, in order or because it can take no more. Everybody is left.
//! * `leave`: our user leaves one peer, whatever there is with them: `leave_request`, a call, `leave_chat`,
//!   `leave_interrupted` where there is no peer connection, `leave_confirming` while the next one is confirmed.
//! * `left_by_peer`, `both_left`: the other side has left.
//! * `fail`, `end_request`: a call, a request comes to nothing, which is told. `drop_call`, `drop_request` tell
//!   nothing.
//! * `lose`: the peer connection of a chat is gone, which may be sought again.
//! * `finish`: a chat is over.
//! * `closed`: a peer connection has ended, by our doing or not.

mod call;
mod calls;
mod channel;
mod chat;
mod chats;
mod farewells;
mod files;
mod interface;
mod pacing;
mod peers;
mod proof;
mod request;
mod requests;
mod resume;
mod search;
mod signals;

use std::time::Instant;

use super::event::CloseReason;
use super::frame::{ChatPosition, Instance};
use super::trust::Known;

use call::{Call, CallStage};
use chat::Chat;
use interface::Round;
pub use interface::{Input, Output, PeerConnectionEnd, PeerConnectionId, Receipt, Setup};
use peers::Peers;

/// A peer's state: who it is, and all with whom there is something.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Engine {
    username: String,
    setup: Setup,
    peers: Peers,
}

impl Engine {
    /// A peer that is not online yet.
    pub fn new(username: &str, setup: Setup) -> Self {
        Self { username: username.to_owned(), setup, peers: Peers::default() }
    }

    /// Takes one input and returns all that is to be done about it, in order.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        let mut round = Round { now, username: &self.username, setup: &mut self.setup, out: Vec::new() };
        self.peers.handle(input, &mut round);
        round.out
    }

    /// When the next [`Input::Tick`] has something to do.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.peers.next_deadline(now)
    }

    /// How many messages were dropped because they were not due, not from the right sender, or no messages at all.
    pub fn dropped(&self) -> u64 {
        self.peers.dropped
    }

    /// With whom there are chats and calls, and whose requests wait for the user.
    pub fn peers(&self) -> Vec<String> {
        self.peers.peers()
    }

    /// Whether nothing is left: no chat, no call, and no peer connection of an earlier one.
    pub fn is_idle(&self) -> bool {
        let Peers { chats, calls, left, .. } = &self.peers;
        chats.is_empty() && calls.is_empty() && left.is_empty()
    }

    /// The peer connection of the chat with `peer`, where texts are not kept here until they are acknowledged.
    pub(crate) fn unkept_connection(&self, peer: &str) -> Option<PeerConnectionId> {
        self.peers.chats.get(peer).and_then(Chat::unkept_connection)
    }

    /// Where we are in the chat with `peer`, as a call says that carries it on.
    pub fn position(&self, peer: &str) -> Option<ChatPosition> {
        self.peers.chats.contains_key(peer).then(|| self.peers.position(peer, Instance::default()))
    }

    /// Bytes of texts that are kept until they are acknowledged, in all chats.
    pub fn kept_bytes(&self) -> usize {
        self.peers.chats.values().map(Chat::kept_bytes).sum()
    }
}

impl Peers {
    fn handle(&mut self, input: Input, round: &mut Round<'_>) {
        match input {
            Input::Call { peer } => self.call(peer, round),
            Input::Accept { peer } => self.accept(peer, round),
            Input::Decline { peer } => match self.calls.get(&peer).map(|call| &call.stage) {
                Some(CallStage::OldApp(..)) => self.leave(peer, round),
                _ => self.decline(&peer, round),
            },
            Input::Ignore { peer } => self.ignore(&peer),
            Input::Send { peer, id, text } => self.send(peer, id, text, round),
            Input::Trust { peer, known: Some(known) } => self.trust(peer, known, round),
            Input::Trust { peer, known: None } => {
                round.setup.known.remove(&peer);
            }
            Input::Leave { peer } => self.leave(peer, round),
            Input::OfferFile { peer, offered } => self.offer_file(&peer, offered, round),
            Input::TakeFile { peer, file, is_kept } => self.take_file(&peer, file, is_kept, round),
            Input::EndFile { peer, file, reason } => self.end_file(&peer, file, reason, round),
            Input::File { peer, file, take, news } => self.hear_of_file(&peer, file, take, news, round),
            Input::Signal(text) => self.receive_signal(&text, round),
            Input::Online => self.go_online(round),
            Input::Offline => self.go_offline(round),
            Input::Described { id, sdp } => self.described(id, &sdp, round),
            Input::Candidate { id, candidate } => self.found(id, &candidate.candidate, round),
            Input::WayFound { id } => self.way_found(id),
            Input::Stalled { id } => self.stalled(id, round),
            Input::Opened { id } => self.opened(id, round),
            Input::Received { id, text } => self.receive(id, text, round),
            Input::Closed { id, reason } => self.closed(id, reason, round),
            Input::Taken(receipt) => self.taken(&receipt, round),
            Input::End => self.end(round),
            Input::Stop => self.stop(round),
            Input::Tick => self.tick(round),
        }
    }

    /// Knows who a peer is from now on, and ends a chat with somebody else under that name.
    fn trust(&mut self, peer: String, known: Known, round: &mut Round<'_>) {
        round.setup.known.insert(peer.clone(), known);
        if let Some(chat) = self.chats.get(&peer)
            && let Err(reason) = self.judge(&peer, chat.identity, round)
        {
            self.drop_call(&peer, round);
            return self.finish(&peer, reason, round);
        }
        let identity = match self.calls.get(&peer).map(|call| &call.stage) {
            Some(CallStage::Negotiating(negotiation) | CallStage::OldApp(negotiation, _)) => negotiation.other.identity,
            Some(CallStage::Confirming(connection)) => connection.other.identity,
            _ => return,
        };
        if let Err(reason) = self.judge(&peer, identity, round) {
            self.fail(&peer, reason, round);
        }
    }

    fn go_online(&mut self, round: &Round<'_>) {
        self.is_online = true;
        for chat in self.chats.values_mut() {
            chat.seek_at(round.now);
        }
    }

    fn go_offline(&mut self, round: &mut Round<'_>) {
        self.is_online = false;
        self.unanswered.clear();
        self.announced.clear();
        self.approaches.clear();
        self.pacing.forget_waiting();
        let requests: Vec<String> = self.requests.keys().cloned().collect();
        requests.iter().for_each(|peer| self.end_request(peer, CloseReason::ServerLost, round));
        // Open chats live on without the server, and so may those whose candidates are all exchanged.
        let needs_server = |call: &Call| !matches!(call.stage, CallStage::Negotiating(_) | CallStage::Confirming(_));
        let lost: Vec<String> =
            self.calls.iter().filter(|(_, call)| needs_server(call)).map(|(peer, _)| peer.clone()).collect();
        for peer in lost {
            self.fail(&peer, CloseReason::ServerLost, round);
        }
    }

    fn tick(&mut self, round: &mut Round<'_>) {
        let now = round.now;
        self.tick_requests(round);
        let over = self.calls.iter().filter(|(_, call)| call.deadline <= now);
        let over: Vec<String> = over.map(|(peer, _)| peer.clone()).collect();
        for peer in over {
            self.call_is_overdue(&peer, round);
        }
        let calls = &self.calls;
        let is_wanted = |peer: &str| calls.get(peer).is_some_and(|call| matches!(call.stage, CallStage::Calling));
        let mut asked = Vec::new();
        asked.extend(std::iter::from_fn(|| self.pacing.next_waiting(now, is_wanted)));
        for peer in asked {
            self.ask(&peer, round);
        }
        self.tick_chats(round);
    }
}
