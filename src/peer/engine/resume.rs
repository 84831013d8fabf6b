//! Chats that outlive their connection: who may carry one on, when the other side is called for it, and how somebody
//! leaves a chat that has no connection (protocol 2.8).
//!
//! The new connection comes from a call like the first one, through the server, and not from an ICE restart: that could
//! mend only what both sides still have, while a call also finds a peer whose program was started anew, gives fresh
//! keys, and is the one way that there is.

use std::time::{Duration, Instant};

use super::super::agreement::Side;
use super::super::event::{CloseReason, Event};
use super::super::frame::{ChatPosition, Instance};
use super::super::hello::Refusal;
use super::super::keys::PublicKey;
use super::super::planted::{self, Fault};
use super::call::{CallStage, Farewell};
use super::channel::PeerConnection;
use super::chat::{Chat, FIRST_PAUSE, Lasting, LastingState, not_sent};
use super::files::end_lasting;
use super::interface::{Output, PeerConnectionEnd, Round};
use super::peers::Peers;
use super::proof::{self, Guest};
use crate::protocol::MessageType;

impl Peers {
    /// Where we are in the chat with `peer`, or in the one that is about to begin.
    pub(super) fn position(&self, peer: &str, fresh: Instance) -> ChatPosition {
        match self.chats.get(peer).and_then(|chat| chat.lasting.as_ref()) {
            Some(Lasting { instances: [instance, other], texts, .. }) => {
                ChatPosition { instance: *instance, other: *other, received: texts.received() }
            }
            None => ChatPosition { instance: fresh, ..ChatPosition::nowhere() },
        }
    }

    /// Where we are in a chat that is about to begin.
    pub(super) fn fresh_position(&self) -> ChatPosition {
        ChatPosition { instance: Instance::generate(), ..ChatPosition::nowhere() }
    }

    /// Whether somebody who has proven this identity may carry on the chat that there is.
    pub(super) fn carries_on(&self, peer: &str, identity: Option<PublicKey>) -> bool {
        let chat = self.chats.get(peer).filter(|chat| chat.may_be_carried_on());
        chat.is_some_and(|chat| identity.is_some() && chat.identity == identity)
    }

    /// Whether a caller carries on the chat that there is: it is who we chat with, knows us, and names our side of it.
    pub(super) fn is_resumed_by(&self, peer: &str, guest: &Guest) -> bool {
        let own = self.chats.get(peer).and_then(|chat| chat.lasting.as_ref()).map(|lasting| lasting.instances[0]);
        let named = guest.position.map(|position| position.other);
        let knows_us = guest.knows_us || planted::has(Fault::ResumedByStranger);
        knows_us && own.is_some() && named == own && self.carries_on(peer, Some(guest.identity))
    }

    /// When a caller is to be answered without a question, since it carries a chat on; each chat is answered so only so
    /// often.
    pub(super) fn answers_unasked_at(&self, peer: &str, guest: &Guest, round: &Round<'_>) -> Option<Instant> {
        let is_resumed = self.is_resumed_by(peer, guest) && self.judge(peer, Some(guest.identity), round).is_ok();
        let lasting = self.chats.get(peer).filter(|_| is_resumed)?.lasting.as_ref()?;
        Some(lasting.answered_at.map_or(round.now, |answered_at| answered_at + UNASKED_PAUSE))
    }

    /// Answers a caller that carries a chat on, without a question.
    pub(super) fn resume_guest(&mut self, peer: &str, guest: Guest, round: &mut Round<'_>) {
        if let Some(lasting) = self.chats.get_mut(peer).and_then(|chat| chat.lasting.as_mut()) {
            lasting.answered_at = Some(round.now);
        }
        self.answer_guest(peer, guest, round);
    }

    /// How far our user has taken the texts of the instance that is on the other side of this connection.
    pub(super) fn taken_by_us(&self, peer: &str, connection: &PeerConnection) -> u64 {
        let lasting = self.chats.get(peer).and_then(|chat| chat.lasting.as_ref());
        lasting.filter(|lasting| is_same(lasting, connection)).map_or(0, |lasting| lasting.texts.taken())
    }

    /// Carries a chat on over a new connection, on which a first frame has opened.
    pub(super) fn carry_on(&mut self, peer: &str, connection: PeerConnection, round: &mut Round<'_>) {
        let Some(chat) = self.chats.get_mut(peer) else { return };
        let Some(lasting) = &mut chat.lasting else { return };
        let (is_same, position) =
            (is_same(lasting, &connection), connection.position.unwrap_or_else(ChatPosition::nowhere));
        lasting.knows_files = connection.files.is_some();
        if let Some(old) = chat.connection.replace(connection) {
            lasting.files.interrupt();
            // The other side has noticed first that the old connection is of no use.
            self.connections.remove(&old.id);
            round.out.push(Output::Close { id: old.id, ending: PeerConnectionEnd::AtOnce });
            round.tell(Event::Interrupted { peer: peer.to_owned() });
        }
        lasting.state = LastingState::Connected;
        if is_same {
            lasting.texts.resume(position.received);
        } else {
            // It is another program, or one that has forgotten: what it was sent may or may not have been shown.
            for kept in lasting.texts.restart() {
                round.out.push(not_sent(peer, kept));
            }
            lasting.instances[1] = position.instance;
            lasting.number = self.next_chat;
            self.next_chat += 1;
        }
        lasting.tell_at = lasting.texts.is_due().then_some(round.now);
        round.tell(Event::Resumed { peer: peer.to_owned() });
        self.resume_files(peer, is_same, round);
        self.transmit(peer, round);
    }

    /// The peer connection of a chat is gone. It is sought again, unless that is of no use.
    pub(super) fn lose(&mut self, peer: &str, reason: CloseReason, round: &mut Round<'_>) {
        let resume_for = round.setup.resume_for;
        let is_first = *round.username < *peer;
        let Some(chat) = self.chats.get_mut(peer) else { return };
        let Some(connection) = chat.connection.take() else { return };
        if self.connections.remove(&connection.id).is_some() {
            round.out.push(Output::Close { id: connection.id, ending: PeerConnectionEnd::AtOnce });
        }
        match &mut chat.lasting {
            None => self.finish(peer, reason, round),
            Some(Lasting { state: LastingState::Leaving(_), .. }) => self.finish(peer, CloseReason::Left, round),
            Some(_) if resume_for.is_zero() => self.finish(peer, CloseReason::ConnectionLost, round),
            // It would come to the same again.
            Some(_) if matches!(reason, CloseReason::RulesBroken { .. } | CloseReason::Crashed) => {
                self.finish(peer, reason, round);
            }
            Some(lasting) => {
                // Mostly both notice at once; then one of them calls.
                let next = if is_first { round.now } else { round.now + FIRST_PAUSE };
                let until = round.now + resume_for;
                lasting.state = LastingState::Interrupted { since: round.now, until, attempts: 0, next, sought: None };
                lasting.tell_at = None;
                lasting.files.interrupt();
                round.tell(Event::Interrupted { peer: peer.to_owned() });
            }
        }
    }

    /// Calls the other side of an interrupted chat. `is_own`: because the user wants it. A request of the other side,
    /// if there is one, comes first.
    pub(super) fn seek(&mut self, peer: &str, is_own: bool, round: &mut Round<'_>) {
        if self.is_online && !self.requests.contains_key(peer) && !self.calls.contains_key(peer) {
            self.place_call(peer.to_owned(), is_own, round);
        }
    }

    /// Calls the other sides of interrupted chats, as many as there is room for.
    pub(super) fn seek_all(&mut self, round: &mut Round<'_>) {
        let now = round.now;
        if !self.is_online || self.pacing.next_seek(now) > now {
            return;
        }
        let order = |(peer, chat): (&String, &Chat)| chat.seek_order(now).map(|order| (order, peer.clone()));
        let mut due: Vec<_> = self.chats.iter().filter_map(order).collect();
        due.sort();
        for (_, peer) in due {
            if self.pacing.next_seek(now) > now {
                return;
            }
            self.seek(&peer, false, round);
            let is_called = self.calls.contains_key(&peer);
            match self.chats.get_mut(&peer) {
                // Until the call has come to nothing, be it one of theirs.
                Some(chat) if is_called => chat.await_call(),
                // The user is being asked about a call of theirs.
                Some(chat) => chat.seek_again(&CloseReason::NoConnection, now),
                None => {}
            }
        }
    }

    /// Our user leaves a chat that has no connection. The other side takes that from nobody who has not proven who they
    /// are, so it is said in a call: in the one that there is, or in one that is there for nothing else.
    pub(super) fn leave_interrupted(&mut self, peer: &str, round: &mut Round<'_>) {
        let identity = self.chats.get(peer).and_then(|chat| chat.identity);
        let position = self.position(peer, Instance::default());
        let farewell = identity.map(|identity| Farewell { identity, position });
        match self.calls.get_mut(peer) {
            Some(call) => match &mut call.stage {
                CallStage::Calling | CallStage::Greeting(_) | CallStage::Greeted { .. } if farewell.is_some() => {
                    call.farewell = farewell;
                    call.deadline = round.now + FAREWELL_TIME;
                }
                CallStage::AwaitingHello { agreement, .. } => {
                    let sealed = agreement.signals().seal(&Refusal::Declined.write());
                    round.sealed(MessageType::SignalIce, peer, sealed);
                }
                CallStage::Negotiating(negotiation) => negotiation.decline(peer, round),
                _ => {}
            },
            None if self.is_online && farewell.is_some() && self.pacing.take_seek(round.now) => {
                let deadline = round.now + FAREWELL_TIME;
                self.add_call(peer.to_owned(), Side::Caller, CallStage::Calling, deadline).farewell = farewell;
                round.signal(MessageType::SessionConnect, peer, None::<&()>);
                self.unanswered.push_back(peer.to_owned());
            }
            None => {}
        }
        self.leave_confirming(peer, round);
        let kept = self.calls.remove(peer).filter(|call| call.farewell.is_some());
        if let Some(call) = kept {
            let Some(chat) = self.chats.remove(peer) else { return };
            self.calls.insert(peer.to_owned(), call);
            return tell_end(peer, chat, round);
        }
        self.finish(peer, CloseReason::Left, round);
    }

    /// Somebody carries on a chat that our user has just left: says who we are, and that it is over.
    pub(super) fn answer_with_farewell(&mut self, peer: &str, guest: Guest, farewell: Farewell, round: &mut Round<'_>) {
        let Guest { mut agreement, first, .. } = guest;
        let second = proof::own_hello(&agreement, &first, farewell.position, round);
        for bytes in [second, Refusal::Declined.write()] {
            round.sealed(MessageType::SignalIce, peer, agreement.signals().seal(&bytes));
        }
    }
}

/// Whether the same two instances are on both sides of a chat and of a connection.
fn is_same(lasting: &Lasting, connection: &PeerConnection) -> bool {
    connection.position.is_some_and(|position| [position.other, position.instance] == lasting.instances)
}

/// Tells that a chat without a peer connection is over for our user.
fn tell_end(peer: &str, chat: Chat, round: &mut Round<'_>) {
    if let Some(mut lasting) = chat.lasting {
        end_lasting(peer, &mut lasting, round);
    }
    round.tell(Event::Closed { peer: peer.to_owned(), reason: CloseReason::Left });
}

/// How long a call may take that says that our user has left. Nobody waits longer for the end of a program.
const FAREWELL_TIME: Duration = Duration::from_secs(3);

/// How often a caller is answered without a question, for each chat: whoever has its other side's identity could
/// otherwise make this machine gather its addresses all the time.
const UNASKED_PAUSE: Duration = Duration::from_secs(5);
