//! A user's engine in the search: one state of it, and what a round does. Each round is gone through once for each
//! state and input, and remembered.

#![cfg(test)]

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::super::agreement::{Agreement, Side};
use super::super::super::event::{CloseReason, Event};
use super::super::super::keys::{KeyPair, PublicKey};
use super::super::super::random::row;
use super::super::call::CallStage;
use super::super::request::{Caller, RequestState};
use super::super::{Engine, Input, Output, PeerConnectionId};
use super::adversary::{Adversary, Posted};
use super::{NAMES, hash, place_of};
use crate::protocol::Candidate;

/// Keys that somebody has agreed on with whoever is called so: what all else follows from.
pub(super) struct Agreed {
    pub(super) user: usize,
    pub(super) side: Side,
    pub(super) agreement: Agreement,
    pub(super) hash: u64,
}

/// Somebody who is said everything to that the other side is ever told.
pub(super) struct Talk {
    pub(super) peer: usize,
    pub(super) id: PeerConnectionId,
    pub(super) side: Side,
    pub(super) keys: [PublicKey; 2],
    pub(super) identity: Option<PublicKey>,
    /// The other side's description has come.
    pub(super) is_described: bool,
}

/// A user's engine in one state.
pub(super) struct Actor {
    pub(super) engine: Engine,
    /// How many random numbers were drawn for what there is with each user, so that it does not hang on the others.
    pub(super) drawn: [u64; 3],
    /// By which two states of engines are the same.
    pub(super) print: u64,
    pub(super) agreed: Vec<Rc<Agreed>>,
    pub(super) talks: Vec<Talk>,
    /// The connections of chats that are open.
    pub(super) connections: Vec<(usize, PeerConnectionId)>,
}

/// What a round of an engine does to the world.
pub(super) enum Consequence {
    Says(usize, Rc<Posted>),
    Asks(usize, Option<PublicKey>),
    AsksNoMore(usize),
    /// Its consent was to what is over.
    Ends(usize),
    Closes(PeerConnectionId),
    /// WebRTC is to look for addresses.
    Gathers(PeerConnectionId),
    Transmits(PeerConnectionId, String),
}

pub(super) type Outcome = Rc<(Rc<Actor>, Vec<Consequence>)>;

/// What was gone through before.
pub(super) struct Memory {
    pub(super) now: Instant,
    pub(super) adversary: Adversary,
    rounds: RefCell<HashMap<(u64, u64), Outcome>>,
    proofs: RefCell<HashMap<(u64, u64), bool>>,
    ends: RefCell<HashMap<u64, bool>>,
    /// How many rounds of engines there are that differ.
    pub(super) different: Cell<usize>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            now: Instant::now(),
            adversary: Adversary::new(),
            rounds: RefCell::default(),
            proofs: RefCell::default(),
            ends: RefCell::default(),
            different: Cell::new(0),
        }
    }

    /// A round of a user's engine about a peer, at a time.
    pub(super) fn round(
        &self,
        (user, peer): (usize, usize),
        actor: &Actor,
        label: u64,
        time: u64,
        inputs: Vec<Input>,
    ) -> Outcome {
        let key = (actor.print, hash(&(label, peer, time)));
        if let Some(outcome) = self.rounds.borrow().get(&key) {
            return outcome.clone();
        }
        self.different.set(self.different.get() + 1);
        let mut engine = actor.engine.clone();
        row::begin(row_of(user, peer), actor.drawn[peer]);
        let now = self.now + Duration::from_secs(time);
        let mut outputs = Vec::new();
        let mut inputs: VecDeque<Input> = inputs.into();
        while let Some(input) = inputs.pop_front() {
            for output in engine.handle(input, now) {
                if let Output::Offer { id } | Output::Answer { id, .. } = output {
                    let candidate = Candidate { candidate: CANDIDATE.to_owned(), sdp_mid: None, sdp_mline_index: None };
                    inputs.push_back(Input::Described { id, sdp: DESCRIPTION.to_owned() });
                    inputs.push_back(Input::Candidate { id, candidate });
                }
                outputs.push(output);
            }
        }
        let mut drawn = actor.drawn;
        drawn[peer] = row::end();
        let accepted = |peer: &str| {
            actor.engine.peers.requests.get(peer).is_some_and(|request| request.state == RequestState::Accepted)
        };
        let consequences = outputs.into_iter().flat_map(|output| consequences(user, output, &accepted)).collect();
        let outcome = Rc::new((Rc::new(Actor::new(user, engine, drawn)), consequences));
        self.rounds.borrow_mut().insert(key, outcome.clone());
        outcome
    }

    /// Whether a proof of the caller holds for the called side, although they have heard different things.
    pub(super) fn is_deceived(&self, caller: &Agreed, called: &Agreed, identity: &KeyPair) -> bool {
        let key = (caller.hash, called.hash);
        *self.proofs.borrow_mut().entry(key).or_insert_with(|| {
            let is_same = (caller.agreement.own_key(), caller.agreement.other_key())
                == (called.agreement.other_key(), called.agreement.own_key());
            is_same
                && caller.agreement.transcript() != called.agreement.transcript()
                && called.agreement.is_proven(&caller.agreement.prove(identity, &[]), identity.public(), &[])
        })
    }

    /// Whether all that a user waits for ends by itself.
    pub(super) fn ends(&self, user: usize, actor: &Actor) -> bool {
        *self.ends.borrow_mut().entry(actor.print).or_insert_with(|| {
            let mut engine = actor.engine.clone();
            let mut later = self.now;
            row::begin(row_of(user, user), actor.drawn[user]);
            for _ in 0..4 {
                later += Duration::from_secs(61);
                engine.handle(Input::Tick, later);
            }
            row::end();
            // The other side of a chat is sought for a day.
            engine.peers.requests.is_empty() && (engine.is_idle() || !engine.peers.chats.is_empty())
        })
    }
}

pub(super) fn consequences(user: usize, output: Output, has_accepted: &impl Fn(&str) -> bool) -> Vec<Consequence> {
    match output {
        Output::Signal(text) => {
            let message: serde_json::Value = serde_json::from_str(&text).unwrap();
            let target = place_of(message["target"].as_str().unwrap());
            if message["type"] == "session:connect" {
                return vec![
                    Consequence::Says(user, Posted::joined(target)),
                    Consequence::Says(target, Posted::joined(user)),
                ];
            }
            let mut value = json!({ "type": message["type"], "sender": NAMES[user] });
            if !message["payload"].is_null() {
                value["payload"] = message["payload"].clone();
            }
            vec![Consequence::Says(target, Posted::new(user, value))]
        }
        Output::Event(Event::Request { peer, identity, .. }) => vec![Consequence::Asks(place_of(&peer), identity)],
        Output::Event(Event::RequestEnded { peer } | Event::Refused { peer, .. }) => {
            vec![Consequence::AsksNoMore(place_of(&peer))]
        }
        // Who has said yes, and whose caller calls anew, need not say so again.
        Output::Event(Event::Closed { peer, reason: CloseReason::Replaced }) if has_accepted(&peer) => vec![],
        Output::Event(Event::Closed { peer, .. }) => vec![Consequence::Ends(place_of(&peer))],
        Output::Close { id, .. } => vec![Consequence::Closes(id)],
        Output::Offer { id } | Output::Answer { id, .. } => vec![Consequence::Gathers(id)],
        Output::Transmit { id, text, .. } => vec![Consequence::Transmits(id, text)],
        _ => vec![],
    }
}

/// All that `Debug` tells of an engine. Connections are numbered in the order in which they are made, which means
/// nothing where there is no chat: they are named by whom they are with.
pub(super) fn written(engine: &Engine) -> String {
    let peers = &engine.peers;
    let is_of_call =
        |(id, peer): (&PeerConnectionId, &String)| peers.calls.get(peer).is_some_and(|call| call.id == *id);
    if !peers.chats.is_empty() || !peers.left.is_empty() || !peers.connections.iter().all(is_of_call) {
        return format!("{engine:?}");
    }
    let mut engine = engine.clone();
    let peers = &mut engine.peers;
    peers.connections.clear();
    peers.next_id = 0;
    peers.calls.values_mut().for_each(|call| call.id = PeerConnectionId(0));
    format!("{engine:?}")
}

/// The row of random numbers that a user draws from for what there is with another.
pub(super) fn row_of(user: usize, peer: usize) -> u64 {
    16 + 4 * user as u64 + peer as u64
}

impl Actor {
    pub(super) fn new(user: usize, mut engine: Engine, drawn: [u64; 3]) -> Self {
        // How much was dropped changes nothing.
        engine.peers.dropped = 0;
        row::begin(row_of(user, user), 0);
        let print = hash(&(written(&engine), drawn));
        row::end();
        let mut agreed = Vec::new();
        let mut talks = Vec::new();
        let mut add = |side: Side, agreement: &Agreement| {
            let hash = hash(&(user, side == Side::Caller, agreement.transcript(), agreement.own_key()));
            agreed.push(Rc::new(Agreed { user, side, agreement: agreement.clone(), hash }));
        };
        let peers = &engine.peers;
        for (peer, call) in &peers.calls {
            match &call.stage {
                CallStage::AwaitingHello { agreement, .. } => add(Side::Caller, agreement),
                CallStage::Greeted { agreement, .. } => add(Side::Called, agreement),
                CallStage::Negotiating(negotiation) => talks.push(Talk {
                    peer: place_of(peer),
                    id: call.id,
                    side: call.side,
                    keys: [negotiation.other.own_key, negotiation.other.key],
                    identity: negotiation.other.identity,
                    is_described: negotiation.is_described(),
                }),
                _ => {}
            }
        }
        peers.approaches.values().for_each(|approach| add(Side::Called, &approach.agreement));
        for request in peers.requests.values() {
            if let Caller::Guest(guest) = &request.caller {
                add(Side::Called, &guest.agreement);
            }
        }
        let open = peers.chats.iter().filter_map(|(peer, chat)| Some((place_of(peer), chat.connection.as_ref()?.id)));
        let confirming = peers.calls.iter().filter_map(|(peer, call)| match &call.stage {
            CallStage::Confirming(connection) => Some((place_of(peer), connection.id)),
            _ => None,
        });
        let connections = open.chain(confirming).collect();
        Self { engine, drawn, print, agreed, talks, connections }
    }

    pub(super) fn identity(&self) -> PublicKey {
        self.engine.setup.identity.public()
    }
}

/// What WebRTC says at once for whoever wants to connect.
const DESCRIPTION: &str = "v=0\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:0\na=ice-ufrag:u\na=ice-pwd:p\n\
    a=fingerprint:sha-256 AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:\
    AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA";
const CANDIDATE: &str = "candidate:1 1 udp 2130706431 192.0.2.1 9000 typ host";
