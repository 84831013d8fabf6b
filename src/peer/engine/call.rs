//! A call on its way to an open chat: the keys, the descriptions and the proofs (protocol 1.3, 2.1 and 2.3).

use std::time::{Duration, Instant};

use super::super::candidate::{Candidates, Kind, Trickle};
use super::super::cipher::{Cipher, Sealer, TextFormat};
use super::super::description::{Description, Frame as Offered, MAX_MESSAGE};
use super::super::event::{CloseReason, Event};
use super::super::frame::{Instance, Place};
use super::super::keys::{KeyPair, PublicKey};
use super::super::trust::{self, Known, Party, Role};
use super::chat::Link;
use super::signals::signal;
use super::{ConnectionId, Engine, Output};
use crate::protocol::{self, Introduction, KeyExchange, MessageType, Proof};

/// A call with one peer, which becomes a chat or carries one on.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: ConnectionId,
    pub(super) role: Role,
    pub(super) stage: Stage,
    /// When to give up.
    pub(super) deadline: Instant,
    /// The peer's candidates that came before its description.
    pub(super) early: Candidates,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The initiator has asked the server for a session.
    Calling,
    /// Our key is sent; the peer's is awaited.
    AwaitingKey(KeyPair),
    /// Both keys are known; descriptions and candidates go back and forth.
    Negotiating(Secured),
    /// The data channel is open, our proof is sent, and the peer's is awaited.
    Proving(Secured),
}

/// What is known of a peer once both keys are.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) cipher: Cipher,
    /// What the peer said of itself.
    pub(super) introduced: Introduced,
    /// The own session pair.
    pub(super) own: KeyPair,
    /// What signals are sealed with, where both sides do so.
    pub(super) sealer: Option<Sealer>,
    /// Our side of a chat that begins by this call.
    pub(super) instance: Instance,
    /// The certificates' fingerprints in both descriptions: the own one and the peer's.
    pub(super) fingerprints: [Option<[u8; 32]>; 2],
    /// The largest message that the peer takes, in bytes; `None` until its description has come.
    pub(super) max_message: Option<usize>,
    /// What of the peer's offer has its place in our answer.
    pub(super) offered: Option<Offered>,
    pub(super) trickle: Trickle,
    /// A description came that was not sealed as it should have been.
    pub(super) has_false_description: bool,
    /// ICE has found a way to the other side.
    has_way: bool,
}

impl Secured {
    fn new(cipher: Cipher, own: KeyPair, introduced: Introduced) -> Self {
        Self {
            cipher,
            sealer: introduced.seals.then(|| Sealer::new(&own, introduced.key)),
            own,
            introduced,
            instance: Instance::generate(),
            fingerprints: [None; 2],
            max_message: None,
            offered: None,
            trickle: Trickle::default(),
            has_false_description: false,
            has_way: false,
        }
    }

    /// Takes the peer's description.
    pub(super) fn take_description(&mut self, description: &Description) {
        self.max_message = Some(description.max_message().min(MAX_MESSAGE));
        self.fingerprints[1] = Some(description.fingerprint());
    }

    /// Whether no description has come, not even one that could not be opened.
    fn has_no_description(&self) -> bool {
        self.max_message.is_none() && !self.has_false_description
    }

    /// Why no connection came about, as far as the addresses tell.
    fn no_connection(&self) -> CloseReason {
        let Trickle { own, other, .. } = &self.trickle;
        let is_outside = |candidates: &Candidates| candidates.has(Kind::Reflexive) || candidates.has(Kind::Relayed);
        // A description that came and could not be opened says more than that none came.
        if self.has_false_description && self.max_message.is_none() {
            CloseReason::NotProven
        } else if own.iter().next().is_none() {
            CloseReason::NoCandidates
        } else if self.has_way {
            CloseReason::NotOpened
        } else if !is_outside(own) && !is_outside(other) {
            CloseReason::LocalOnly
        } else if own.has(Kind::Relayed) && !other.has(Kind::Relayed) {
            CloseReason::PeerHasNoRelay
        } else {
            CloseReason::NoConnection
        }
    }
}

/// What a peer's `key:exchange` says.
#[derive(Debug, Clone)]
pub(super) struct Introduced {
    pub(super) key: PublicKey,
    /// It says something of itself, so it follows our rule of both calling at once.
    pub(super) knows_rule: bool,
    /// The long-term key, of one that proves it.
    pub(super) identity: Option<PublicKey>,
    /// The features as it sent them, joined by commas.
    features: String,
    seals: bool,
    /// It acknowledges texts, and carries chats on. Only one that proves itself does.
    pub(super) acknowledges: bool,
    /// It calls to carry on a chat.
    pub(super) resumes: bool,
}

impl Introduced {
    pub(super) fn read(exchange: &KeyExchange) -> Option<Self> {
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
        let acknowledges = identity.is_some() && has(ACK);
        let (knows_rule, resumes) = (exchange.lowkey.is_some(), introduction.resumes);
        Some(Self { key, knows_rule, identity, features, seals, acknowledges, resumes })
    }
}

impl Call {
    /// Why it ends when its time is up. `is_resuming`: it is to carry a chat on.
    pub(super) fn overdue(&self, is_resuming: bool) -> CloseReason {
        match &self.stage {
            // The server may be out of reach without a word.
            Stage::Calling if is_resuming => CloseReason::ServerLost,
            Stage::Calling | Stage::AwaitingKey(_) => CloseReason::NoAnswer,
            // A description that could not be opened may be of an earlier call.
            Stage::Negotiating(_) if is_resuming => CloseReason::NoConnection,
            // Who has called and yet offers nothing may have refused us without a word.
            Stage::Negotiating(secured) if self.role == Role::Responder && secured.has_no_description() => {
                CloseReason::NoAnswer
            }
            Stage::Negotiating(secured) => secured.no_connection(),
            // The connection that was just there may be gone again.
            Stage::Proving(_) if is_resuming => CloseReason::ConnectionLost,
            Stage::Proving(_) => CloseReason::NotProven,
        }
    }

    /// Why it ends when its connection does.
    pub(super) fn closed(&self, reason: CloseReason) -> CloseReason {
        match (&self.stage, reason) {
            // What never came about was not lost.
            (Stage::Negotiating(secured), CloseReason::ConnectionLost) => secured.no_connection(),
            (_, reason) => reason,
        }
    }

    /// The peer's description has come, with some candidates, and so those that came before it are of use.
    pub(super) fn add_candidates(&mut self, described: &Description, with_loopback: bool, out: &mut Vec<Output>) {
        let id = self.id;
        let early = std::mem::take(&mut self.early);
        if let Stage::Negotiating(secured) = &mut self.stage {
            let all = described.candidates().iter().chain(early.iter());
            let taken = all.filter_map(|candidate| secured.trickle.take(candidate, with_loopback));
            out.extend(taken.map(|candidate| Output::AddCandidate { id, candidate }));
        }
    }
}

impl Engine {
    /// WebRTC has found a way to the other side.
    pub(super) fn way_found(&mut self, id: ConnectionId) {
        let call = self.connections.get(&id).and_then(|peer| self.calls.get_mut(peer));
        if let Some(Call { stage: Stage::Negotiating(secured), .. }) = call.filter(|call| call.id == id) {
            secured.has_way = true;
        }
    }

    pub(super) fn key_exchange(&self, peer: &str, own: &KeyPair) -> Output {
        let introduction = Introduction {
            identity: Some(self.setup.identity.public().to_base64()),
            features: OWN_FEATURES.split(',').map(str::to_owned).collect(),
            resumes: self.chats.contains_key(peer),
        };
        let exchange = KeyExchange { public_key: own.public().to_base64(), lowkey: Some(introduction) };
        signal(MessageType::KeyExchange, peer, Some(&exchange))
    }

    pub(super) fn take_key(&mut self, peer: &str, introduced: Introduced, now: Instant, out: &mut Vec<Output>) {
        if let Err(reason) = self.judge_again(peer, &introduced) {
            self.turn_away(peer, &reason, out);
            return self.fail(peer, reason, now, out);
        }
        let Some(call) = self.calls.get_mut(peer) else { return };
        let Stage::AwaitingKey(own) = &call.stage else { return };
        let format = if introduced.knows_rule { TextFormat::V1 } else { self.setup.text_format };
        let Some(cipher) = Cipher::new(own.clone(), introduced.key, format) else {
            return self.fail(peer, CloseReason::BadKey, now, out);
        };
        let secured = Secured::new(cipher, own.clone(), introduced);
        // What came before the keys was not sealed, so it is not from a peer that seals.
        if secured.sealer.is_some() {
            call.early = Candidates::default();
        }
        call.stage = Stage::Negotiating(secured);
        call.deadline = now + NEGOTIATION_TIME;
        if !self.chats.contains_key(peer) {
            out.push(Output::Event(Event::KeysExchanged { peer: peer.to_owned() }));
        }
        if call.role == Role::Initiator {
            out.extend(self.narrow.contains(peer).then_some(Output::Narrow { id: call.id }));
            out.push(Output::Offer { id: call.id });
        }
    }

    /// Judges a peer by what is known of it, and by who it was in the chat that is to be carried on.
    fn judge_again(&self, peer: &str, introduced: &Introduced) -> Result<(), CloseReason> {
        self.judge(peer, introduced.identity)?;
        match self.chats.get(peer).and_then(|chat| chat.identity) {
            Some(before) if introduced.identity != Some(before) => {
                let known = Known { identity: before, is_verified: false };
                let (own, identity) = (self.setup.identity.public(), introduced.identity);
                Err(CloseReason::IdentityChanged { own, known: Box::new(known), identity })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn opened(&mut self, id: ConnectionId, now: Instant, out: &mut Vec<Output>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        let is_due = |call: &&Call| call.id == id && matches!(call.stage, Stage::Negotiating(_));
        if self.calls.get(&peer).filter(is_due).is_none() {
            return;
        }
        let Some(call) = self.calls.remove(&peer) else { return };
        let Stage::Negotiating(mut secured) = call.stage else { return };
        if secured.introduced.identity.is_none() {
            return self.begin(peer, Link::new(id, secured), None, now, out);
        }
        let place = self.place(&peer, secured.instance);
        secured.instance = place.instance;
        let place = if secured.introduced.acknowledges { place.to_bytes() } else { Vec::new() };
        let proof = self
            .parties(&peer, &secured)
            .map(|[own, other]| trust::prove(&self.setup.identity, call.role, &own, &other, &place));
        let stage = Stage::Proving(secured);
        self.calls.insert(peer.clone(), Call { stage, deadline: now + PROOF_TIME, ..call });
        match proof {
            Some(proof) => {
                let text = serde_json::to_string(&Proof { proof }).expect("proofs serialize");
                out.push(Output::Transmit { id, text, is_kept: false });
            }
            None => self.fail(&peer, CloseReason::NotProven, now, out),
        }
    }

    /// Both sides of a proof as they are seen from here: our own and the peer's.
    fn parties<'a>(&'a self, peer: &'a str, secured: &'a Secured) -> Option<[Party<'a>; 2]> {
        let own = Party {
            username: &self.username,
            identity: self.setup.identity.public(),
            key: secured.own.public(),
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
    pub(super) fn receive_proof(&mut self, peer: String, text: Option<String>, now: Instant, out: &mut Vec<Output>) {
        let Some(Call { id, role, stage: Stage::Proving(secured), .. }) = self.calls.get(&peer) else { return };
        let (id, acknowledges) = (*id, secured.introduced.acknowledges);
        let role = match role {
            Role::Initiator => Role::Responder,
            Role::Responder => Role::Initiator,
        };
        let proof: Option<Proof> = text.and_then(|text| protocol::from_object(&text).ok());
        let added = match (proof, self.parties(&peer, secured)) {
            (Some(Proof { proof }), Some([own, other])) => trust::check(&proof, &secured.own, role, &other, &own),
            _ => None,
        };
        // Where it is not asked for, nothing else stands in a proof.
        let place = match added {
            Some(added) if acknowledges => Place::read(&added).map(Some),
            Some(added) if added.is_empty() => Some(None),
            _ => None,
        };
        let Some(place) = place else { return self.fail(&peer, CloseReason::NotProven, now, out) };
        let Some(Call { stage: Stage::Proving(secured), .. }) = self.calls.remove(&peer) else { return };
        self.begin(peer, Link::new(id, secured), place, now, out);
    }
}

/// How long two peers may take from both keys to an open data channel.
const NEGOTIATION_TIME: Duration = Duration::from_secs(30);

/// How long the peer may take for its proof once the data channel is open.
const PROOF_TIME: Duration = Duration::from_secs(10);

/// The features of protocol part 2 and of our additions, and ours as they are sent.
const PROOF: &str = "proof";
const SEAL: &str = "seal";
const ACK: &str = "ack";
const OWN_FEATURES: &str = "proof,seal,ack";

#[cfg(test)]
mod tests {
    use super::super::super::candidate::Candidate;
    use super::*;

    #[test]
    fn the_addresses_tell_why_no_connection_came_about() {
        let pairs = [KeyPair::generate(), KeyPair::generate()];
        let key = pairs[1].public();
        let exchange = KeyExchange { public_key: key.to_base64(), lowkey: None };
        let line = |kind: &str| format!("candidate:1 1 udp 1 192.0.2.1 9 typ {kind}");
        let told = |own: &[&str], other: &[&str], has_way: bool| {
            let cipher = Cipher::new(pairs[0].clone(), key, TextFormat::V1).unwrap();
            let mut secured = Secured::new(cipher, pairs[0].clone(), Introduced::read(&exchange).unwrap());
            for kind in own {
                secured.trickle.tell(&line(kind)).unwrap();
            }
            for kind in other {
                secured.trickle.take(&Candidate::read(&line(kind)).unwrap(), false).unwrap();
            }
            secured.has_way = has_way;
            secured.no_connection()
        };
        let reason = |own: &[&str], other: &[&str]| told(own, other, false);
        assert_eq!(reason(&[], &["host"]), CloseReason::NoCandidates);
        assert_eq!(reason(&["host"], &["host"]), CloseReason::LocalOnly);
        assert_eq!(reason(&["host", "srflx"], &["host"]), CloseReason::NoConnection);
        assert_eq!(reason(&["host"], &["relay"]), CloseReason::NoConnection);
        assert_eq!(reason(&["host", "relay"], &["relay"]), CloseReason::NoConnection);
        assert_eq!(reason(&["host", "relay"], &["host"]), CloseReason::PeerHasNoRelay);
        // Once there was a way, it was not for want of one.
        assert_eq!(told(&["host"], &["host"], true), CloseReason::NotOpened);
        assert_eq!(told(&["host", "relay"], &["host"], true), CloseReason::NotOpened);
    }
}
