//! What the server and WebRTC say while a call is on its way: sessions, keys, descriptions and candidates. What is
//! sealed goes to whatever of its sender it opens under.

use serde::de::DeserializeOwned;

use super::super::agreement::Side;
use super::super::candidate::Candidate;
use super::super::description::{Description, Unfit};
use super::super::event::{CloseReason, Event};
use super::super::hello::{ANSWER, Hello, Inside, OFFER, Refusal, Said};
use super::super::ice;
use super::call::{Call, CallStage, RATE_LIMITED};
use super::channel::{self, REFUSED_DESCRIPTION};
use super::interface::{Output, PeerConnectionEnd, PeerConnectionId, Round};
use super::peers::Peers;
use crate::escape::{MAX_QUOTED, shortened};
use crate::protocol::{self, Envelope, ErrorPayload, Joined, KeyExchange, MessageType, Sealed};

impl Peers {
    pub(super) fn receive_signal(&mut self, text: &str, round: &mut Round<'_>) {
        let Ok(envelope) = Envelope::parse(text) else { return self.drop_message() };
        let is_other = |name: &&str| *name != round.username && protocol::is_username(name);
        let sender = envelope.sender.as_ref().map(|sender| &*sender.0).filter(is_other);
        let kind = MessageType::from_name(&envelope.kind);
        let is_served = match (kind, sender) {
            (Some(MessageType::SessionJoined), _) => {
                payload(&envelope).map(|joined: Joined| self.joined(joined, round))
            }
            (Some(MessageType::Error), _) => payload(&envelope).map(|error| self.refused(error, round)),
            (Some(MessageType::KeyExchange), Some(sender)) => {
                payload(&envelope).and_then(|key| self.receive_key(sender, &key, round))
            }
            (
                Some(kind @ (MessageType::SignalOffer | MessageType::SignalAnswer | MessageType::SignalIce)),
                Some(sender),
            ) => match payload::<Sealed>(&envelope) {
                Some(Sealed { sealed }) => self.receive_sealed(sender, kind, &sealed, round),
                None => self.receive_open(sender, kind, envelope.payload.map_or("", |payload| payload.get()), round),
            },
            (Some(MessageType::SessionDecline), Some(sender)) => self.declined(sender, payload(&envelope), round),
            // The key that follows says the same.
            (Some(MessageType::SessionAccept), Some(_)) => Some(()),
            _ => None,
        };
        if is_served.is_none() {
            self.drop_message();
        }
    }

    fn joined(&mut self, Joined { peer, ice_servers, .. }: Joined, round: &mut Round<'_>) {
        let offered = ice::offered(ice_servers);
        if offered != self.offered {
            self.offered.clone_from(&offered);
            round.out.push(Output::UseServers(offered));
        }
        let is_ours = self.take_unanswered(&peer);
        if peer == round.username || !protocol::is_username(&peer) {
            return self.drop_message();
        }
        self.announce(peer.clone(), round);
        if self.calls.contains_key(&peer) {
            return self.greet(&peer, !is_ours, round);
        }
        // Our own call, which we have left before the server answered: an old app need not ring any longer.
        if is_ours && !self.chats.contains_key(&peer) {
            round.decline(&peer);
        }
    }

    fn receive_key(&mut self, sender: &str, exchange: &KeyExchange, round: &mut Round<'_>) -> Option<()> {
        let is_greeting = matches!(self.calls.get(sender), Some(Call { stage: CallStage::Greeting(_), .. }));
        match Said::read(exchange) {
            Said::Greeting(greeting) => self.greeted(sender, &greeting, round),
            Said::Answer(answer) => self.answered(sender, &answer, round),
            Said::OldApp(key) if is_greeting => self.answered_by_old_app(sender, key, round),
            Said::OldApp(key) => self.called_by_old_app(sender, key, round),
            Said::Manipulated if is_greeting => {
                self.fail(sender, CloseReason::BadKey, round);
                Some(())
            }
            Said::Manipulated => None,
        }
    }

    /// A sealed signal. Which call it belongs to shows by whose keys open it.
    fn receive_sealed(&mut self, sender: &str, kind: MessageType, sealed: &str, round: &mut Round<'_>) -> Option<()> {
        if let Some(signals) = self.calls.get_mut(sender).and_then(Call::signals)
            && let Ok(inside) = signals.open(sealed)
        {
            let read = Inside::read(kind, &inside)?;
            return self.receive_inside(sender, kind, &inside, read, round);
        }
        if kind == MessageType::SignalIce {
            if self.receive_first(sender, sealed, round).is_some()
                || self.receive_refusal(sender, sealed, round).is_some()
            {
                return Some(());
            }
            if self.calls.get(sender).is_some_and(Call::calls_then) {
                // The caller knows somebody else by our name, and nobody but that one can read who it is.
                self.call_is_overdue(sender, round);
                return None;
            }
            // What an open connection is still told.
            let connection = self.chats.get_mut(sender)?.connection.as_mut()?;
            let inside = connection.signals.as_mut()?.open(sealed).ok()?;
            match Inside::read(kind, &inside)? {
                Inside::Candidate(candidate) => {
                    let candidate = Candidate::read(&candidate.candidate)?;
                    let candidate = connection.trickle.take(&candidate, round.setup.with_loopback)?;
                    round.out.push(Output::AddCandidate { id: connection.id, candidate });
                }
                // It has left before it saw that the chat was open.
                Inside::Refused(_) => self.finish(sender, CloseReason::PeerLeft, round),
                Inside::Hello(_) | Inside::Description(_) => return None,
            }
            return Some(());
        }
        None
    }

    /// What was inside of a signal that belongs to the present call.
    fn receive_inside(
        &mut self,
        sender: &str,
        kind: MessageType,
        bytes: &[u8],
        inside: Inside,
        round: &mut Round<'_>,
    ) -> Option<()> {
        let is_awaited = matches!(self.calls.get(sender)?.stage, CallStage::AwaitingHello { .. });
        match inside {
            Inside::Hello(hello) if is_awaited => self.receive_second(sender, bytes, &hello, round),
            Inside::Hello(Hello { .. }) => return None,
            Inside::Refused(refusal) => self.call_is_refused(sender, refusal, round),
            Inside::Candidate(candidate) => return self.receive_candidate(sender, &candidate, round),
            Inside::Description(sdp) if kind == MessageType::SignalOffer => {
                return self.receive_offer(sender, &sdp, round);
            }
            Inside::Description(sdp) => return self.receive_answer(sender, &sdp, round),
        }
        Some(())
    }

    /// A signal that is not sealed, as old apps send them.
    fn receive_open(&mut self, sender: &str, kind: MessageType, payload: &str, round: &mut Round<'_>) -> Option<()> {
        let call = self.calls.get_mut(sender);
        if call.as_ref().is_some_and(|call| !call.is_with_old_app()) {
            return None;
        }
        match kind {
            MessageType::SignalIce => {
                let candidate: protocol::Candidate = protocol::from_object(payload).ok()?;
                match call {
                    Some(_) => self.receive_candidate(sender, &candidate, round),
                    None if self.requests.contains_key(sender) => {
                        self.early_candidate(sender, &Candidate::read(&candidate.candidate)?, round)
                    }
                    None => self.late_candidate(sender, &candidate, round),
                }
            }
            MessageType::SignalOffer => self.receive_offer(sender, &read_sdp(payload), round),
            _ => self.receive_answer(sender, &read_sdp(payload), round),
        }
    }

    pub(super) fn receive_offer(&mut self, sender: &str, sdp: &str, round: &mut Round<'_>) -> Option<()> {
        let id = PeerConnectionId(self.next_id);
        let call = self.calls.get_mut(sender)?;
        let negotiation = match &mut call.stage {
            CallStage::Negotiating(negotiation) => negotiation,
            // Our user has not said yet that the call with an old app may go on.
            CallStage::OldApp(_, offer) => {
                *offer = Some(sdp.to_owned());
                return Some(());
            }
            _ => return None,
        };
        if negotiation.is_described() {
            return None;
        }
        if call.side == Side::Caller {
            // Both have called at once, and an old app knows no rule for that.
            if negotiation.signals.is_some() {
                return None;
            }
            self.next_id += 1;
            self.connections.remove(&call.id);
            self.connections.insert(id, sender.to_owned());
            round.out.push(Output::Close { id: call.id, ending: PeerConnectionEnd::AtOnce });
            call.id = id;
            call.side = Side::Called;
        }
        let offer = match Description::read(sdp) {
            Ok(offer) => offer,
            Err(unfit) => return self.refuse(sender, unfit, round),
        };
        let layout = offer.layout();
        negotiation.trickle.section = Some(layout.place());
        negotiation.offered = Some(layout);
        round.out.extend(self.narrow.contains(sender).then_some(Output::Narrow { id: call.id }));
        round.out.push(Output::Answer { id: call.id, sdp: offer.for_webrtc() });
        negotiation.take_description(call.id, &offer, round);
        Some(())
    }

    fn receive_answer(&mut self, sender: &str, sdp: &str, round: &mut Round<'_>) -> Option<()> {
        let call = self.calls.get_mut(sender)?;
        let CallStage::Negotiating(negotiation) = &mut call.stage else { return None };
        if call.side != Side::Caller || negotiation.is_described() {
            return None;
        }
        let answer = match Description::read(sdp) {
            Ok(answer) => answer,
            Err(unfit) => return self.refuse(sender, unfit, round),
        };
        round.out.push(Output::Finish { id: call.id, sdp: answer.for_webrtc() });
        negotiation.take_description(call.id, &answer, round);
        Some(())
    }

    /// A peer's description is of no use. Neither user is to wait for what will not come.
    fn refuse(&mut self, peer: &str, unfit: Unfit, round: &mut Round<'_>) -> Option<()> {
        if let Some(Call { stage: CallStage::Negotiating(negotiation), .. }) = self.calls.get_mut(peer) {
            negotiation.refuse(Refusal::Description, peer, round);
        }
        self.fail(peer, CloseReason::BadDescription(unfit), round);
        Some(())
    }

    fn receive_candidate(
        &mut self,
        sender: &str,
        candidate: &protocol::Candidate,
        round: &mut Round<'_>,
    ) -> Option<()> {
        // An empty candidate says that there are no more, which nobody needs to know.
        if candidate.candidate.is_empty() {
            return Some(());
        }
        let candidate = Candidate::read(&candidate.candidate)?;
        let call = self.calls.get_mut(sender)?;
        let is_taken = match &mut call.stage {
            CallStage::Negotiating(negotiation) => negotiation.take_candidate(call.id, &candidate, round),
            // Its description has not come, so it waits for that.
            CallStage::OldApp(negotiation, _) => negotiation.take_candidate(call.id, &candidate, round),
            CallStage::Confirming(connection) => {
                let taken = connection.trickle.take(&candidate, round.setup.with_loopback)?;
                round.out.push(Output::AddCandidate { id: connection.id, candidate: taken });
                true
            }
            _ => false,
        };
        is_taken.then_some(())
    }

    /// A candidate of an old app with which the chat is open.
    fn late_candidate(&mut self, sender: &str, candidate: &protocol::Candidate, round: &mut Round<'_>) -> Option<()> {
        let connection =
            self.chats.get_mut(sender)?.connection.as_mut().filter(|connection| connection.signals.is_none())?;
        if candidate.candidate.is_empty() {
            return Some(());
        }
        let candidate = connection.trickle.take(&Candidate::read(&candidate.candidate)?, round.setup.with_loopback)?;
        round.out.push(Output::AddCandidate { id: connection.id, candidate });
        Some(())
    }

    /// The other side of a call says, sealed, that it is over. Before its hello, that is the word of nobody who has
    /// proven who they are; behind it, whoever says no to a call that carries a chat on has left that.
    fn call_is_refused(&mut self, sender: &str, refusal: Refusal, round: &mut Round<'_>) {
        let is_proven = self.calls.get(sender).and_then(Call::proven).is_some_and(|(identity, position)| {
            let own = self.position(sender, position.other).instance;
            self.carries_on(sender, Some(identity)) && position.other == own
        });
        match refusal {
            Refusal::Declined if is_proven => self.finish(sender, CloseReason::PeerLeft, round),
            Refusal::Declined => self.fail(sender, CloseReason::Declined, round),
            Refusal::Proof => self.fail(sender, CloseReason::NotProven, round),
            Refusal::Identity => self.fail(sender, CloseReason::NotRecognized, round),
            Refusal::Description => self.fail(sender, CloseReason::NotUnderstood, round),
            Refusal::Room => self.fail(sender, CloseReason::PeerHasNoRoom, round),
        }
    }

    /// A refusal that is not sealed is an old app's, or that of one that may be one still.
    fn declined(
        &mut self,
        sender: &str,
        refusal: Option<protocol::DeclinePayload>,
        round: &mut Round<'_>,
    ) -> Option<()> {
        let Some(call) = self.calls.get(sender) else { return self.declined_by_old_app(sender, round) };
        if !call.is_with_old_app() && !matches!(call.stage, CallStage::Greeting(_)) {
            return None;
        }
        let is_description = refusal.is_some_and(|refusal| refusal.refused == REFUSED_DESCRIPTION);
        let reason = match call.stage {
            CallStage::Negotiating(_) if is_description => CloseReason::NotUnderstood,
            _ => CloseReason::Declined,
        };
        self.fail(sender, reason, round);
        Some(())
    }

    // What WebRTC says.

    pub(super) fn described(&mut self, id: PeerConnectionId, sdp: &str, round: &mut Round<'_>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        let Some(call) = self.calls.get_mut(&peer).filter(|call| call.id == id) else { return };
        let CallStage::Negotiating(negotiation) = &mut call.stage else { return };
        let own = match Description::read(sdp) {
            Ok(own) => own,
            Err(unfit) => {
                let message = format!("our own description is of no use: {unfit}; call again");
                return self.closed(id, CloseReason::Failed { message }, round);
            }
        };
        let told: Vec<&Candidate> =
            own.candidates().iter().filter(|candidate| negotiation.trickle.own.admit(candidate, true)).collect();
        let (kind, name, sdp) = match (call.side, &negotiation.offered) {
            (Side::Called, Some(offer)) => (MessageType::SignalAnswer, ANSWER, own.answer(offer, &told)),
            _ => (MessageType::SignalOffer, OFFER, own.offer(&told)),
        };
        let description = protocol::Description { sdp, kind: name.to_owned() };
        channel::tell(negotiation.signals.as_mut(), kind, &peer, &description, round);
    }

    pub(super) fn found(&mut self, id: PeerConnectionId, candidate: &str, round: &mut Round<'_>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        let call = self.calls.get_mut(&peer).filter(|call| call.id == id);
        let (trickle, signals) = match call.map(|call| &mut call.stage) {
            Some(CallStage::Negotiating(negotiation)) => (&mut negotiation.trickle, negotiation.signals.as_mut()),
            Some(CallStage::Confirming(connection)) => (&mut connection.trickle, connection.signals.as_mut()),
            Some(_) => return,
            None => match self
                .chats
                .get_mut(&peer)
                .and_then(|chat| chat.connection.as_mut())
                .filter(|connection| connection.id == id)
            {
                Some(connection) => (&mut connection.trickle, connection.signals.as_mut()),
                None => return,
            },
        };
        if let Some(candidate) = trickle.tell(candidate) {
            channel::tell(signals, MessageType::SignalIce, &peer, &candidate, round);
        }
    }

    fn refused(&mut self, mut error: ErrorPayload, round: &mut Round<'_>) {
        for words in [&mut error.code, &mut error.message] {
            *words = shortened(words, MAX_QUOTED).into_owned();
        }
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
                self.pacing.slow_down(round.now);
            }
            match peer.as_ref().and_then(|peer| Some((peer, &self.calls.get(peer)?.stage))) {
                // A call that was refused for that is made again when there is room, and is no failure.
                Some((peer, CallStage::Calling)) => return self.call_later(peer, round),
                // Mostly it was one of several candidates. If it was more, the call's own deadline tells.
                Some((_, CallStage::Negotiating(_) | CallStage::Confirming(_))) => return,
                _ => {}
            }
        }
        let reason = match &*error.code {
            "USER_OFFLINE" | "RELAY_FAILED" => CloseReason::NotOnline,
            _ => CloseReason::Refused { code: error.code.clone(), message: error.message.clone() },
        };
        match peer {
            // An open chat needs the server no more, and what was said to somebody who is gone is of no interest.
            Some(peer) => self.fail(&peer, reason, round),
            None => round.tell(Event::ServerError { code: error.code, message: error.message }),
        }
    }

    fn is_calling(&self, peer: &str) -> bool {
        self.calls.get(peer).is_some_and(|call| matches!(call.stage, CallStage::Calling))
    }

    /// The server takes no call just now.
    fn call_later(&mut self, peer: &str, round: &mut Round<'_>) {
        match self.chats.get_mut(peer) {
            Some(chat) => {
                chat.seek_at(round.now);
                self.drop_call(peer, round);
            }
            None => self.pacing.wait(peer),
        }
    }
}

/// The text of a description. What was said, and cannot be read, is to be answered too.
fn read_sdp(payload: &str) -> String {
    protocol::from_object(payload).map(|protocol::Description { sdp, .. }| sdp).unwrap_or_default()
}

fn payload<T: DeserializeOwned>(envelope: &Envelope<'_>) -> Option<T> {
    protocol::from_object(envelope.payload?.get()).ok()
}
