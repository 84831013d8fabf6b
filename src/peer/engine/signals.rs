//! What the server and WebRTC say while a call is on its way: sessions, keys, descriptions and candidates.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::candidate::Candidate;
use super::super::cipher::Sealer;
use super::super::description::{Description, Unfit};
use super::super::event::{CloseReason, Event};
use super::super::ice;
use super::super::keys::KeyPair;
use super::super::trust::Role;
use super::call::{Call, Introduced, Stage};
use super::chat::Chat;
use super::{ANSWER_TIME, ConnectionId, Engine, Output, RATE_LIMITED};
use crate::protocol::{self, Envelope, ErrorPayload, Joined, KeyExchange, MessageType, Refusal, Sealed};

impl Engine {
    pub(super) fn receive_signal(&mut self, text: &str, now: Instant, out: &mut Vec<Output>) {
        let Ok(envelope) = Envelope::parse(text) else { return self.drop_message() };
        let is_other = |name: &&str| *name != self.username && protocol::is_username(name);
        let sender = envelope.sender.as_ref().map(|sender| &*sender.0).filter(is_other);
        let kind = MessageType::from_name(&envelope.kind);
        let is_served = match (kind, sender) {
            (Some(MessageType::SessionJoined), _) => {
                payload(&envelope).map(|joined: Joined| self.joined(joined, now, out))
            }
            (Some(MessageType::Error), _) => payload(&envelope).map(|error| self.refused(error, now, out)),
            (Some(MessageType::KeyExchange), Some(sender)) => {
                payload(&envelope).and_then(|key| self.receive_key(sender, &key, now, out))
            }
            (Some(MessageType::SignalOffer), Some(sender)) => {
                self.unseal(sender, &envelope).and_then(|offer| self.receive_offer(sender, &offer, now, out))
            }
            (Some(MessageType::SignalAnswer), Some(sender)) => {
                self.unseal(sender, &envelope).and_then(|answer| self.receive_answer(sender, &answer, now, out))
            }
            (Some(MessageType::SignalIce), Some(sender)) => {
                self.unseal(sender, &envelope).and_then(|candidate| self.receive_candidate(sender, &candidate, out))
            }
            (Some(MessageType::SessionDecline), Some(sender)) => self.declined(sender, payload(&envelope), now, out),
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
        if peer == self.username || !protocol::is_username(&peer) {
            return self.drop_message();
        }
        let is_resuming = self.chats.contains_key(&peer);
        match self.calls.get_mut(&peer) {
            Some(call) if matches!(call.stage, Stage::Calling) => {
                let own = KeyPair::generate();
                call.stage = Stage::AwaitingKey(own.clone());
                call.deadline = now + ANSWER_TIME;
                out.push(self.key_exchange(&peer, &own));
            }
            // Both have called at once, and this is the other's session. If it is a new call instead, a key follows
            // that says so.
            Some(call) => {
                // Who calls at the same moment as we do has our key already.
                let is_late = now + ANSWER_TIME > call.deadline + CROSSING_TIME;
                let own = match &call.stage {
                    Stage::AwaitingKey(own) if !is_ours && (is_resuming || is_late) => Some(own.clone()),
                    _ => None,
                };
                // The key may have gone to where nobody was, or took it; once more does no harm.
                out.extend(own.map(|own| self.key_exchange(&peer, &own)));
                self.announced.insert(peer, now + ANSWER_TIME);
            }
            // Our own call, which we have left before the server answered: the other side need not ring any longer.
            None if is_ours && !is_resuming => out.push(signal(MessageType::SessionDecline, &peer, None::<&()>)),
            None => self.add_request(peer, now, out),
        }
    }

    fn refused(&mut self, error: ErrorPayload, now: Instant, out: &mut Vec<Output>) {
        let of_connect = matches!(&*error.code, "USER_OFFLINE" | "INVALID_TARGET");
        // Another server than ours does not say whom the error is about. It answers connects in their order, and of
        // relays no more can be said than that there is just one that may have failed.
        let mut is_of_call = false;
        let peer = match error.target {
            Some(target) => {
                // Whatever the error, a call that has not got further was answered by it.
                if of_connect || self.is_calling(&target) {
                    is_of_call = self.take_unanswered(&target);
                }
                Some(target)
            }
            None if of_connect => self.unanswered.pop_front(),
            None if error.code == "RELAY_FAILED" => {
                let mut pending = self.calls.keys();
                pending.next().cloned().filter(|_| pending.next().is_none())
            }
            None => None,
        };
        if error.code == RATE_LIMITED {
            // What was said to others is no call: whoever calls us and hangs up does not make our own calls fewer.
            if is_of_call {
                self.pacing.slow_down(now);
            }
            match peer.as_ref().and_then(|peer| Some((peer, &self.calls.get(peer)?.stage))) {
                // A call that was refused for that is made again when there is room, and is no failure.
                Some((peer, Stage::Calling)) => return self.call_later(peer, now, out),
                // Mostly it was one of several candidates. If it was more, the call's own deadline tells.
                Some((_, Stage::Negotiating(_) | Stage::Proving(_))) => return,
                _ => {}
            }
        }
        let reason = match &*error.code {
            "USER_OFFLINE" | "RELAY_FAILED" => CloseReason::NotOnline,
            _ => CloseReason::Refused { code: error.code.clone(), message: error.message.clone() },
        };
        match peer {
            // An open chat needs the server no more, and what was said to somebody who is gone is of no interest.
            Some(peer) => self.fail(&peer, reason, now, out),
            None => out.push(Output::Event(Event::ServerError { code: error.code, message: error.message })),
        }
    }

    fn is_calling(&self, peer: &str) -> bool {
        self.calls.get(peer).is_some_and(|call| matches!(call.stage, Stage::Calling))
    }

    /// The server takes no call just now.
    fn call_later(&mut self, peer: &str, now: Instant, out: &mut Vec<Output>) {
        match self.chats.get_mut(peer) {
            Some(chat) => {
                chat.seek_at(now);
                self.drop_call(peer, out);
            }
            None => self.pacing.wait(peer),
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
            match introduced {
                Some(introduced) => self.introduced(sender, introduced, now, out),
                // With such a key there can be no chat, so there is nothing to ask the user.
                None => self.end_request(sender, CloseReason::BadKey, out),
            }
            return Some(());
        }
        let is_calling = self.calls.contains_key(sender);
        if !is_calling && self.announced.remove(sender).is_some_and(|end| end > now) {
            self.add_request(sender.to_owned(), now, out);
            return self.receive_key(sender, exchange, now, out);
        }
        let key = match self.calls.get(sender).map(|call| &call.stage) {
            Some(Stage::Calling) => return None,
            Some(Stage::AwaitingKey(_)) => {
                match introduced {
                    Some(introduced) => self.take_key(sender, introduced, now, out),
                    None => self.fail(sender, CloseReason::BadKey, now, out),
                }
                return Some(());
            }
            Some(Stage::Negotiating(secured) | Stage::Proving(secured)) => Some(secured.introduced.key),
            None => self.chats.get(sender)?.link.as_ref().map(|link| link.introduced.key),
        };
        let introduced = introduced?;
        // The same key again is no news; another one is a new call, which needs consent again.
        if key == Some(introduced.key) {
            return None;
        }
        self.add_request(sender.to_owned(), now, out);
        self.requests.contains_key(sender).then(|| self.introduced(sender, introduced, now, out))
    }

    /// Somebody who calls has said who it is. Whoever carries on a chat that there is, is answered without our user's being
    /// asked; but not one who calls anew while we see no loss, since its farewell may still be on its way.
    fn introduced(&mut self, sender: &str, introduced: Introduced, now: Instant, out: &mut Vec<Output>) {
        let is_lost = introduced.resumes || self.chats.get(sender).is_some_and(Chat::is_interrupted);
        let is_resumed =
            is_lost && self.carries_on(sender, &introduced) && self.judge(sender, introduced.identity).is_ok();
        let Some(request) = self.requests.get_mut(sender) else { return };
        request.introduced = Some(introduced);
        if request.is_accepted {
            return self.accept(sender.to_owned(), now, out);
        }
        if !request.is_silent {
            return;
        }
        if !is_resumed {
            request.is_silent = false;
            return out.push(Output::Event(Event::Request { peer: sender.to_owned() }));
        }
        if let Some(request) = self.requests.remove(sender) {
            self.answer(sender.to_owned(), request, now, out);
        }
    }

    fn receive_offer(&mut self, sender: &str, offer: &str, now: Instant, out: &mut Vec<Output>) -> Option<()> {
        let (id, with_loopback) = (ConnectionId(self.next_id), self.setup.with_loopback);
        let call = self.calls.get_mut(sender)?;
        let Stage::Negotiating(secured) = &mut call.stage else { return None };
        if call.role == Role::Initiator {
            // Both have called at once. The smaller name stays the initiator, but an old app knows no such rule.
            let yields = !secured.introduced.knows_rule || *sender < *self.username;
            if !yields || secured.max_message.is_some() {
                return None;
            }
            self.next_id += 1;
            self.connections.remove(&call.id);
            self.connections.insert(id, sender.to_owned());
            out.push(Output::Close { id: call.id, parting: super::Parting::AtOnce });
            call.id = id;
            call.role = Role::Responder;
        } else if secured.max_message.is_some() {
            return None;
        }
        let offer = match read_description(offer) {
            Ok(offer) => offer,
            Err(unfit) => return self.refuse(sender, unfit, now, out),
        };
        secured.take_description(&offer);
        let frame = offer.frame();
        secured.trickle.section = Some(frame.place());
        secured.offered = Some(frame);
        out.extend(self.narrow.contains(sender).then_some(Output::Narrow { id: call.id }));
        out.push(Output::Answer { id: call.id, sdp: offer.for_webrtc() });
        call.add_candidates(&offer, with_loopback, out);
        Some(())
    }

    fn receive_answer(&mut self, sender: &str, answer: &str, now: Instant, out: &mut Vec<Output>) -> Option<()> {
        let with_loopback = self.setup.with_loopback;
        let call = self.calls.get_mut(sender)?;
        let Stage::Negotiating(secured) = &mut call.stage else { return None };
        if call.role != Role::Initiator || secured.max_message.is_some() {
            return None;
        }
        let answer = match read_description(answer) {
            Ok(answer) => answer,
            Err(unfit) => return self.refuse(sender, unfit, now, out),
        };
        secured.take_description(&answer);
        out.push(Output::Finish { id: call.id, sdp: answer.for_webrtc() });
        call.add_candidates(&answer, with_loopback, out);
        Some(())
    }

    /// A peer's description is of no use. Neither user is to wait for what will not come.
    fn refuse(&mut self, peer: &str, unfit: Unfit, now: Instant, out: &mut Vec<Output>) -> Option<()> {
        out.push(refusal(peer));
        self.fail(peer, CloseReason::BadDescription(unfit), now, out);
        Some(())
    }

    fn receive_candidate(&mut self, sender: &str, candidate: &str, out: &mut Vec<Output>) -> Option<()> {
        let candidate: protocol::Candidate = protocol::from_object(candidate).ok()?;
        // An empty candidate says that there are no more, which nobody needs to know.
        if candidate.candidate.is_empty() {
            return Some(());
        }
        let candidate = Candidate::read(&candidate.candidate)?;
        let with_loopback = self.setup.with_loopback;
        let (id, trickle) = match self.calls.get_mut(sender) {
            Some(call) => match &mut call.stage {
                Stage::Calling => return None,
                Stage::Negotiating(secured) | Stage::Proving(secured) if secured.max_message.is_some() => {
                    (call.id, &mut secured.trickle)
                }
                _ => return call.early.admit(&candidate, with_loopback).then_some(()),
            },
            None => match self.requests.get_mut(sender) {
                Some(request) => return request.early.admit(&candidate, with_loopback).then_some(()),
                None => {
                    let link = self.chats.get_mut(sender)?.link.as_mut()?;
                    (link.id, &mut link.trickle)
                }
            },
        };
        let candidate = trickle.take(&candidate, with_loopback)?;
        out.push(Output::AddCandidate { id, candidate });
        Some(())
    }

    fn declined(&mut self, sender: &str, refusal: Option<Refusal>, now: Instant, out: &mut Vec<Output>) -> Option<()> {
        if self.requests.contains_key(sender) {
            self.end_request(sender, CloseReason::Declined, out);
            return Some(());
        }
        match self.calls.get(sender).map(|call| &call.stage) {
            Some(Stage::Calling) => return None,
            Some(Stage::Negotiating(_)) if refusal.is_some_and(|refusal| refusal.refused == REFUSED_DESCRIPTION) => {
                self.fail(sender, CloseReason::NotUnderstood, now, out);
            }
            Some(_) => self.fail(sender, CloseReason::Declined, now, out),
            // Its user has left a chat that it could not be told of otherwise.
            None if self.chats.get(sender).is_some_and(Chat::is_interrupted) => {
                self.finish(sender, CloseReason::PeerLeft, out);
            }
            None => return None,
        }
        Some(())
    }

    pub(super) fn go_offline(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.is_online = false;
        self.unanswered.clear();
        self.announced.clear();
        self.pacing.forget_waiting();
        let requests: Vec<String> = self.requests.keys().cloned().collect();
        requests.iter().for_each(|peer| self.end_request(peer, CloseReason::ServerLost, out));
        // Open chats live on without the server, and so may those whose candidates are all exchanged.
        let needs_server = |call: &Call| matches!(call.stage, Stage::Calling | Stage::AwaitingKey(_));
        let lost: Vec<String> =
            self.calls.iter().filter(|(_, call)| needs_server(call)).map(|(peer, _)| peer.clone()).collect();
        for peer in lost {
            self.fail(&peer, CloseReason::ServerLost, now, out);
        }
    }

    // What WebRTC says.

    pub(super) fn described(&mut self, id: ConnectionId, sdp: &str, now: Instant, out: &mut Vec<Output>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        let Some(call) = self.calls.get_mut(&peer).filter(|call| call.id == id) else { return };
        let Stage::Negotiating(secured) = &mut call.stage else { return };
        let own = match Description::read(sdp) {
            Ok(own) => own,
            Err(unfit) => {
                let message = format!("our own description is of no use: {unfit}");
                return self.closed(id, CloseReason::Failed { message }, now, out);
            }
        };
        secured.fingerprints[0] = Some(own.fingerprint());
        let told: Vec<&Candidate> =
            own.candidates().iter().filter(|candidate| secured.trickle.own.admit(candidate, true)).collect();
        let (kind, name, sdp) = match (call.role, &secured.offered) {
            (Role::Responder, Some(offer)) => (MessageType::SignalAnswer, "answer", own.answer(offer, &told)),
            _ => (MessageType::SignalOffer, "offer", own.offer(&told)),
        };
        let description = protocol::Description { sdp, kind: name.to_owned() };
        out.push(sealed(secured.sealer.as_mut(), kind, &peer, &description));
    }

    pub(super) fn found(&mut self, id: ConnectionId, candidate: &str, out: &mut Vec<Output>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        let (trickle, sealer) = match self.calls.get_mut(&peer).filter(|call| call.id == id).map(|call| &mut call.stage)
        {
            Some(Stage::Negotiating(secured) | Stage::Proving(secured)) => {
                (&mut secured.trickle, secured.sealer.as_mut())
            }
            Some(_) => return,
            None => match self.chats.get_mut(&peer).and_then(|chat| chat.link.as_mut()).filter(|link| link.id == id) {
                Some(link) => (&mut link.trickle, link.sealer.as_mut()),
                None => return,
            },
        };
        if let Some(candidate) = trickle.tell(candidate) {
            out.push(sealed(sealer, MessageType::SignalIce, &peer, &candidate));
        }
    }

    /// The JSON of a signal's payload, which has to be sealed where both sides do so.
    fn unseal(&mut self, sender: &str, envelope: &Envelope<'_>) -> Option<String> {
        let mut secured = None;
        let sealer = match self.calls.get_mut(sender).map(|call| &mut call.stage) {
            Some(Stage::Negotiating(call) | Stage::Proving(call)) => {
                secured = Some(&mut call.has_false_description);
                call.sealer.as_mut()
            }
            Some(_) => None,
            None if self.requests.contains_key(sender) => None,
            None => self.chats.get_mut(sender).and_then(|chat| chat.link.as_mut()?.sealer.as_mut()),
        };
        let sealed = payload::<Sealed>(envelope);
        let (json, is_false) = match sealer {
            Some(sealer) => {
                let opened = sealed.and_then(|Sealed { sealed }| sealer.open(&sealed));
                let is_false = opened.is_none();
                (opened, is_false)
            }
            // Where one side alone believes that both seal, somebody has changed what they said of themselves.
            None if sealed.is_some() => (None, true),
            None => (envelope.payload.map(|payload| payload.get().to_owned()), false),
        };
        if let Some(has_false_description) = secured {
            *has_false_description |= is_false && envelope.kind != MessageType::SignalIce.name();
        }
        json
    }
}

/// Reads the payload of an offer or an answer. What was said, and cannot be read, is to be answered too.
fn read_description(json: &str) -> Result<Description, Unfit> {
    let description: protocol::Description = protocol::from_object(json).map_err(|_| Unfit::Unreadable)?;
    Description::read(&description.sdp)
}

/// A signal, sealed where both sides do so.
fn sealed(sealer: Option<&mut Sealer>, kind: MessageType, peer: &str, payload: &impl Serialize) -> Output {
    match sealer {
        Some(sealer) => {
            let text = serde_json::to_string(payload).expect("payloads serialize");
            signal(kind, peer, Some(&Sealed { sealed: sealer.seal(&text) }))
        }
        None => signal(kind, peer, Some(payload)),
    }
}

fn payload<T: DeserializeOwned>(envelope: &Envelope<'_>) -> Option<T> {
    protocol::from_object(envelope.payload?.get()).ok()
}

pub(super) fn signal(kind: MessageType, target: &str, payload: Option<&impl Serialize>) -> Output {
    Output::Signal(protocol::message(kind, Some(target), payload))
}

/// Says that a description could not be made a connection of.
pub(super) fn refusal(peer: &str) -> Output {
    signal(MessageType::SessionDecline, peer, Some(&Refusal { refused: REFUSED_DESCRIPTION.to_owned() }))
}

const REFUSED_DESCRIPTION: &str = "description";

/// Two calls that cross on their way are made within this time.
const CROSSING_TIME: Duration = Duration::from_secs(1);
