//! What is done about calls on their way to an open chat: greeting, answer and hellos (protocol 2.1), or the key of an
//! old app (1.3), and then the connection. Nothing of the network is told, and nothing gathered, before both have
//! proven who they are and agreed.

use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use super::super::agreement::{GreetingAnswer, Names, OwnKeys, Side};
use super::super::candidate::Candidates;
use super::super::cipher::Cipher;
use super::super::event::{CloseReason, Event};
use super::super::frame::{Frame, Instance};
use super::super::hello::{self, Hello, Refusal};
use super::super::keys::{KeyPair, PublicKey};
use super::super::planted::{self, Fault};
use super::call::{ANSWER_TIME, Call, CallStage, Farewell, HELLO_TIME, SEEK_TIME, too_many_calls};
use super::channel::{Negotiation, PeerConnection};
use super::interface::{Output, PeerConnectionEnd, PeerConnectionId, Round};
use super::peers::Peers;
use super::proof::{self, Guest};
use crate::protocol::{KeyExchange, MessageType};

impl Peers {
    /// The user calls.
    pub(super) fn call(&mut self, peer: String, round: &mut Round<'_>) {
        if self.takes_request_by_calling(&peer, round) {
            return self.accept(peer, round);
        }
        match self.calls.get(&peer) {
            Some(call) if call.farewell.is_none() => return,
            Some(_) => drop(self.drop_call(&peer, round)),
            None => {}
        }
        if let Some(chat) = self.chats.get_mut(&peer) {
            if chat.is_interrupted() {
                return self.seek(&peer, true, round);
            }
            if !chat.is_leaving() {
                return;
            }
            // It is called anew, so the old chat is not waited for any longer.
            self.finish(&peer, CloseReason::Left, round);
        }
        let reason = if peer == round.username {
            CloseReason::Oneself
        } else if peer.is_empty() {
            CloseReason::NotOnline
        } else if !self.is_online {
            CloseReason::ServerLost
        } else {
            return self.place_call(peer, true, round);
        };
        round.tell(Event::Closed { peer, reason });
    }

    /// Calls `peer`, for the user as soon as there is room, and else only if there is. Whose greeting is answered
    /// already is not called: that we want to talk is the consent to it.
    pub(super) fn place_call(&mut self, peer: String, is_own: bool, round: &mut Round<'_>) {
        if let Some(agreement) = self.take_approach(&peer) {
            let stage = CallStage::Greeted { agreement, calls_then: true };
            self.add_call(peer, Side::Called, stage, round.now + HELLO_TIME);
            return;
        }
        let is_free = if is_own { self.pacing.take_own(round.now) } else { self.pacing.take_seek(round.now) };
        if !is_free && !is_own {
            return;
        }
        // The time that it may wait for room; the server's begins when it is asked.
        self.add_call(peer.clone(), Side::Caller, CallStage::Calling, round.now + ANSWER_TIME);
        match is_free {
            true => self.ask(&peer, round),
            false => self.pacing.wait(&peer),
        }
    }

    /// Asks the server for a session with `peer`.
    pub(super) fn ask(&mut self, peer: &str, round: &mut Round<'_>) {
        let time = if self.chats.contains_key(peer) { SEEK_TIME } else { ANSWER_TIME };
        if let Some(call) = self.calls.get_mut(peer) {
            call.deadline = round.now + time;
        }
        if let Some(chat) = self.chats.get_mut(peer) {
            chat.was_sought(round.now);
        }
        round.signal(MessageType::SessionConnect, peer, None::<&()>);
        self.unanswered.push_back(peer.to_owned());
    }

    /// The server has opened the session: greets whom we call, or does so once more, where the first time it may have
    /// gone to where nobody was, or took it. An old app that calls at the same moment would take a second key for a
    /// second call.
    pub(super) fn greet(&mut self, peer: &str, is_again: bool, round: &mut Round<'_>) {
        let is_resuming = self.chats.contains_key(peer);
        let is_ours = self.known_identity(peer, round).is_some();
        let Some(call) = self.calls.get_mut(peer) else { return };
        // Who calls at the same moment as we do has our greeting already.
        let is_late = round.now + ANSWER_TIME > call.deadline + CROSSING_TIME;
        match &call.stage {
            CallStage::Calling => {
                let own = OwnKeys::generate();
                round.signal(MessageType::KeyExchange, peer, Some(&hello::write_greeting(&own.greeting())));
                call.stage = CallStage::Greeting(own);
                call.deadline = round.now + if is_resuming { SEEK_TIME } else { ANSWER_TIME };
            }
            CallStage::Greeting(own) if is_again && (is_ours || is_late) => {
                round.signal(MessageType::KeyExchange, peer, Some(&hello::write_greeting(&own.greeting())));
            }
            _ => {}
        }
    }

    /// Our greeting is answered (S1): says who we are (C2), to the one whom we know if there is one. An answer to
    /// another greeting belongs to an earlier call.
    pub(super) fn answered(&mut self, peer: &str, answer: &GreetingAnswer, round: &mut Round<'_>) -> Option<()> {
        let known = self.known_identity(peer, round);
        let call = self.calls.get_mut(peer)?;
        let CallStage::Greeting(own) = &mut call.stage else { return None };
        if answer.answers != own.key() && !planted::has(Fault::AnyAnswer) {
            return None;
        }
        if answer.key == own.key() {
            self.fail(peer, CloseReason::BadKey, round);
            return Some(());
        }
        let CallStage::Greeting(own) = std::mem::replace(&mut call.stage, CallStage::Calling) else { return None };
        let mut agreement = own.agree(answer, Names { caller: round.username, called: peer });
        let farewell = call.farewell.take();
        let (known, position) = match &farewell {
            Some(Farewell { identity, position }) => (Some(*identity), *position),
            None => (known, self.position(peer, Instance::generate())),
        };
        let first = proof::own_hello(&agreement, &[], position, round);
        round.sealed(MessageType::SignalIce, peer, Ok(agreement.seal_first(&first, known)));
        if farewell.is_some() {
            round.sealed(MessageType::SignalIce, peer, agreement.signals().seal(&Refusal::Declined.write()));
            self.drop_call(peer, round);
            return Some(());
        }
        let call = self.calls.get_mut(peer)?;
        call.stage = CallStage::AwaitingHello { agreement, first, instance: position.instance };
        call.deadline = round.now + ANSWER_TIME;
        Some(())
    }

    /// Whom we have called says who it is (S2).
    pub(super) fn receive_second(&mut self, peer: &str, bytes: &[u8], hello: &Hello, round: &mut Round<'_>) {
        let Some(Call { stage: CallStage::AwaitingHello { agreement, first, .. }, .. }) = self.calls.get(peer) else {
            return;
        };
        let refused = match proof::is_true(agreement, first, hello, round) {
            false => Some((Refusal::Proof, CloseReason::NotProven)),
            true => {
                let judged = self.judge_called(peer, Some(hello.identity), round);
                judged.err().map(|reason| (Refusal::Identity, reason))
            }
        };
        let Some(call) = self.calls.get_mut(peer) else { return };
        let CallStage::AwaitingHello { agreement, .. } = &mut call.stage else { return };
        if let Some((refusal, reason)) = refused {
            round.sealed(MessageType::SignalIce, peer, agreement.signals().seal(&refusal.write()));
            return self.fail(peer, reason, round);
        }
        let stage = std::mem::replace(&mut call.stage, CallStage::Calling);
        let CallStage::AwaitingHello { agreement, first, instance } = stage else { return };
        let who = (hello.identity, proof::knows_files(hello));
        let negotiation = Negotiation::with_ours(who, agreement, [&first, bytes], (instance, hello.position));
        call.stage = CallStage::Negotiating(negotiation);
        self.offer(peer, round);
    }

    /// Somebody who calls has proven who it is, and is to be talked to: says who we are (S2).
    pub(super) fn answer_guest(&mut self, peer: &str, guest: Guest, round: &mut Round<'_>) {
        self.drop_call(peer, round);
        let Guest { mut agreement, first, identity, position, knows_files, .. } = guest;
        let own = match self.carries_on(peer, Some(identity)) {
            true => self.position(peer, Instance::generate()),
            false => self.fresh_position(),
        };
        let second = proof::own_hello(&agreement, &first, own, round);
        round.sealed(MessageType::SignalIce, peer, agreement.signals().seal(&second));
        let who = (identity, knows_files);
        let negotiation = Negotiation::with_ours(who, agreement, [&first, &second], (own.instance, position));
        self.add_call(peer.to_owned(), Side::Called, CallStage::Negotiating(negotiation), round.now + NEGOTIATION_TIME);
        self.negotiates(peer, round);
    }

    /// An old app that calls is to be talked to: sends it our key.
    pub(super) fn answer_old_app(&mut self, peer: &str, key: PublicKey, early: Candidates, round: &mut Round<'_>) {
        self.drop_call(peer, round);
        let own = KeyPair::generate();
        let Some(negotiation) = negotiation_with_old_app(own.clone(), key, early, round) else {
            return round.tell(Event::Refused { peer: peer.to_owned(), reason: CloseReason::BadKey });
        };
        let exchange = KeyExchange { public_key: own.public().to_base64(), lowkey: None };
        round.signal(MessageType::KeyExchange, peer, Some(&exchange));
        self.add_call(peer.to_owned(), Side::Called, CallStage::Negotiating(negotiation), round.now + NEGOTIATION_TIME);
        self.negotiates(peer, round);
    }

    /// Whom we have called answers as an old app does. The server may have made it look so, so our user is asked.
    pub(super) fn answered_by_old_app(&mut self, peer: &str, key: PublicKey, round: &mut Round<'_>) -> Option<()> {
        let CallStage::Greeting(_) = self.calls.get(peer)?.stage else { return None };
        if let Err(reason) = self.judge_called(peer, None, round) {
            // Who is not who they were hears nothing, until our user says so.
            match reason {
                CloseReason::IdentityChanged { .. } => self.turn_away_old_app(peer, round),
                _ => round.decline(peer),
            }
            self.fail(peer, reason, round);
            return Some(());
        }
        let call = self.calls.get_mut(peer)?;
        let CallStage::Greeting(own) = std::mem::replace(&mut call.stage, CallStage::Calling) else { return None };
        let Some(negotiation) = negotiation_with_old_app(own.into_pair(), key, Candidates::default(), round) else {
            self.fail(peer, CloseReason::BadKey, round);
            return Some(());
        };
        call.stage = CallStage::OldApp(negotiation, None);
        call.deadline = round.now + ANSWER_TIME;
        round.tell(Event::OldApp { peer: peer.to_owned() });
        Some(())
    }

    /// Our user says that the call with an old app may go on. Returns whether there is such a call.
    pub(super) fn accept_old_app(&mut self, peer: &str, round: &mut Round<'_>) -> bool {
        let Some(call) = self.calls.get_mut(peer) else { return false };
        if !matches!(call.stage, CallStage::OldApp(..)) {
            return false;
        }
        let CallStage::OldApp(negotiation, offer) = std::mem::replace(&mut call.stage, CallStage::Calling) else {
            return false;
        };
        call.stage = CallStage::Negotiating(negotiation);
        match offer {
            Some(offer) => {
                call.deadline = round.now + NEGOTIATION_TIME;
                self.negotiates(peer, round);
                // What is of no use has been answered.
                let _ = self.receive_offer(peer, &offer, round);
            }
            None => self.offer(peer, round),
        }
        true
    }

    /// Begins to seek a connection, as the side that has called.
    fn offer(&mut self, peer: &str, round: &mut Round<'_>) {
        let Some(call) = self.calls.get_mut(peer) else { return };
        call.deadline = round.now + NEGOTIATION_TIME;
        let id = call.id;
        self.negotiates(peer, round);
        round.out.extend(self.narrow.contains(peer).then_some(Output::Narrow { id }));
        round.out.push(Output::Offer { id });
    }

    fn negotiates(&self, peer: &str, round: &mut Round<'_>) {
        if !self.chats.contains_key(peer) {
            round.tell(Event::Connecting { peer: peer.to_owned() });
        }
    }

    /// WebRTC has found a way to the other side.
    pub(super) fn way_found(&mut self, id: PeerConnectionId) {
        let call = self.connections.get(&id).and_then(|peer| self.calls.get_mut(peer));
        if let Some(Call { stage: CallStage::Negotiating(negotiation), .. }) = call.filter(|call| call.id == id) {
            negotiation.has_way = true;
        }
    }

    /// The data channel is open. A chat that there is goes on by it only once a frame has opened that came over it.
    pub(super) fn opened(&mut self, id: PeerConnectionId, round: &mut Round<'_>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        let is_due = |call: &&Call| call.id == id && matches!(call.stage, CallStage::Negotiating(_));
        if self.calls.get(&peer).filter(is_due).is_none() {
            return;
        }
        let Some(call) = self.calls.remove(&peer) else { return };
        let CallStage::Negotiating(negotiation) = call.stage else { return };
        let mut connection = PeerConnection::new(id, negotiation);
        if connection.position.is_some() {
            let taken = self.taken_by_us(&peer, &connection);
            connection.transmit(&Frame::taken(taken), round);
        }
        if planted::has(Fault::HastyChange) && self.carries_on(&peer, connection.other.identity) {
            return self.carry_on(&peer, connection, round);
        }
        if self.carries_on(&peer, connection.other.identity)
            && self.judge(&peer, connection.other.identity, round).is_ok()
        {
            let (stage, deadline) = (CallStage::Confirming(connection), round.now + HELLO_TIME);
            self.calls.insert(peer, Call { stage, deadline, ..call });
        } else {
            self.begin(peer, connection, round);
        }
    }

    /// The user leaves a chat, or a call that is not one yet.
    pub(super) fn leave(&mut self, peer: String, round: &mut Round<'_>) {
        let has_chat = self.chats.contains_key(&peer);
        let is_call = self.calls.get(&peer).is_some_and(|call| call.farewell.is_none());
        self.leave_request(&peer, round);
        if !is_call && !has_chat {
            return;
        }
        if self.chats.get(&peer).is_some_and(|chat| chat.is_interrupted()) {
            return self.leave_interrupted(&peer, round);
        }
        if let Some(call) = self.calls.get_mut(&peer) {
            call.decline(&peer, round);
        }
        self.leave_confirming(&peer, round);
        self.drop_call(&peer, round);
        if has_chat {
            self.leave_chat(&peer, round);
        } else {
            round.tell(Event::Closed { peer, reason: CloseReason::Left });
        }
    }

    pub(super) fn add_call(&mut self, peer: String, side: Side, stage: CallStage, deadline: Instant) -> &mut Call {
        let id = PeerConnectionId(self.next_id);
        self.next_id += 1;
        self.connections.insert(id, peer.clone());
        let call = Call { id, side, stage, deadline, farewell: None };
        match self.calls.entry(peer) {
            Entry::Occupied(mut entry) => {
                entry.insert(call);
                entry.into_mut()
            }
            Entry::Vacant(entry) => entry.insert(call),
        }
    }

    /// Ends a call without telling the user, and returns whether there was one that the user knows of.
    pub(super) fn drop_call(&mut self, peer: &str, round: &mut Round<'_>) -> bool {
        let Some(call) = self.calls.remove(peer) else { return false };
        self.connections.remove(&call.id);
        if matches!(call.stage, CallStage::Negotiating(_) | CallStage::Confirming(_)) {
            round.out.push(Output::Close { id: call.id, ending: PeerConnectionEnd::AtOnce });
        }
        call.farewell.is_none()
    }

    /// Ends a call that comes to nothing, and tells of it. Its keys go with it.
    pub(super) fn fail(&mut self, peer: &str, reason: CloseReason, round: &mut Round<'_>) {
        if self.drop_call(peer, round) {
            self.call_came_to_nothing(peer, reason, round);
        }
    }

    /// Tells that a call is over which was to be a chat. One that was to carry a chat on does not end that: it is made
    /// again.
    pub(super) fn call_came_to_nothing(&mut self, peer: &str, reason: CloseReason, round: &mut Round<'_>) {
        match self.chats.get_mut(peer) {
            Some(chat) => chat.seek_again(&reason, round.now),
            None => round.tell(Event::Closed { peer: peer.to_owned(), reason }),
        }
    }

    /// A peer connection has ended, by our doing or not: that of a call, of a chat, or of one that was left.
    pub(super) fn closed(&mut self, id: PeerConnectionId, reason: CloseReason, round: &mut Round<'_>) {
        let Some(peer) = self.connections.remove(&id) else { return };
        if let Some(call) = self.calls.get_mut(&peer).filter(|call| call.id == id) {
            // The other side is not to wait for what WebRTC could not begin or go on with.
            let refusal = match reason {
                CloseReason::NotBegun { .. } => Some(Refusal::Room),
                CloseReason::Failed { .. } => Some(Refusal::Description),
                _ => None,
            };
            if let (CallStage::Negotiating(negotiation), Some(refusal)) = (&mut call.stage, refusal) {
                negotiation.refuse(refusal, &peer, round);
            }
            let reason = call.closed(reason);
            self.calls.remove(&peer);
            self.call_came_to_nothing(&peer, reason, round);
        } else if let Some(connection) =
            self.chats.get(&peer).and_then(|chat| chat.connection.as_ref()).filter(|connection| connection.id == id)
        {
            match reason {
                // It has left before it saw that the chat was open.
                CloseReason::PeerLeft if !connection.is_used => self.finish(&peer, CloseReason::PeerLeft, round),
                reason => self.lose(&peer, reason, round),
            }
        } else {
            self.left.retain(|left| !left.has_connection(id));
        }
    }

    /// A call's time is up.
    pub(super) fn call_is_overdue(&mut self, peer: &str, round: &mut Round<'_>) {
        let (is_resuming, is_known) = (self.chats.contains_key(peer), self.known_identity(peer, round).is_some());
        let Some(call) = self.calls.get_mut(peer) else { return };
        let reason = call.overdue(is_resuming, is_known);
        if matches!(call.stage, CallStage::OldApp(..)) {
            call.decline(peer, round);
        }
        let calls_then = call.calls_then();
        self.take_unanswered(peer);
        if calls_then && self.is_online {
            // Who has called does not come, so they are called.
            self.drop_call(peer, round);
            return self.place_call(peer.to_owned(), true, round);
        }
        let reason = if self.pacing.is_waiting(peer) { too_many_calls() } else { reason };
        self.fail(peer, reason, round);
    }
}

/// A connection with an old app; `None` where its key is our own.
fn negotiation_with_old_app(own: KeyPair, key: PublicKey, early: Candidates, round: &Round<'_>) -> Option<Negotiation> {
    Some(Negotiation::with_old_app(Cipher::new(own, key, round.setup.text_format)?, key, early))
}

/// Two calls that cross on their way are made within this time.
const CROSSING_TIME: Duration = Duration::from_secs(1);

/// How long two peers may take from both hellos to an open data channel.
const NEGOTIATION_TIME: Duration = Duration::from_secs(30);
