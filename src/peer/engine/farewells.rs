//! The end of a chat: what is said of it, and what becomes of its peer connection until that has ended too.
//!
//! Each side says `leave` twice (protocol 2.7): once when it leaves, and once when it has heard the other's and taken
//! all that came before it; who was left says both then. So who hears the second one knows that its own has been heard,
//! and ends the connection at once. Where the answer fails to come, since the other side's program knows of no second
//! one or has gone, WebRTC ends the connection in order.

use std::time::Duration;

use super::super::event::{CloseReason, Event};
use super::super::frame::{Body, Frame};
use super::call::{Call, CallStage};
use super::chat::{Chat, LEAVE_TIME, LastingState, LeftChat};
use super::files::end_lasting;
use super::interface::{Output, PeerConnectionEnd, PeerConnectionId, Round};
use super::peers::Peers;

impl Peers {
    /// The user's program ends: everybody is left, and nobody who has left us is waited for longer than it takes to
    /// tell them.
    pub(super) fn end(&mut self, round: &mut Round<'_>) {
        for peer in self.peers() {
            self.leave(peer, round);
        }
        let soon = round.now + ANSWER_TIME;
        for left in self.left.iter_mut().filter(|left| left.is_heard) {
            left.deadline = Some(left.deadline.map_or(soon, |deadline| deadline.min(soon)));
        }
    }

    /// The user's program can take no more: ends all chats, and says what was not taken.
    pub(super) fn stop(&mut self, round: &mut Round<'_>) {
        // Whoever was left takes nothing more anyway, and has been told so.
        let open = self.chats.iter().filter(|(_, chat)| !chat.is_leaving());
        for peer in open.map(|(peer, _)| peer.clone()).collect::<Vec<_>>() {
            let mut is_stopped = false;
            if let Some(Chat { connection: Some(connection), lasting: Some(lasting), .. }) = self.chats.get_mut(&peer)
                && connection.transmit(&Frame::stop(lasting.texts.tell()), round)
            {
                // There is nothing to be waited for, and nothing more to be said.
                lasting.state = LastingState::Leaving(round.now);
                is_stopped = true;
            }
            self.finish_with(&peer, CloseReason::Left, PeerConnectionEnd::WhenClosedByPeer, round);
            self.left.last_mut().into_iter().for_each(|left| left.is_stopped |= is_stopped);
        }
        self.end(round);
    }

    /// The user leaves while the next peer connection of a chat is confirmed: to the other side the chat may go on over
    /// it already.
    pub(super) fn leave_confirming(&mut self, peer: &str, round: &mut Round<'_>) {
        let Some(Call { stage: CallStage::Confirming(connection), .. }) = self.calls.get_mut(peer) else { return };
        if connection.transmit(&Frame::leave(0), round)
            && let Some(Call { id, stage: CallStage::Confirming(connection), .. }) = self.calls.remove(peer)
        {
            round.out.push(Output::Close { id, ending: PeerConnectionEnd::WhenClosedByPeer });
            self.left.push(LeftChat::by_us(connection, round.now));
        }
    }

    /// The user leaves a chat. Where what was sent is acknowledged, that is waited for.
    pub(super) fn leave_chat(&mut self, peer: &str, round: &mut Round<'_>) {
        if let Some(Chat { connection: Some(connection), lasting: Some(lasting), .. }) = self.chats.get_mut(peer) {
            if matches!(lasting.state, LastingState::Leaving(_)) {
                return;
            }
            if !lasting.texts.is_all_acknowledged() && connection.transmit(&Frame::leave(lasting.texts.tell()), round) {
                lasting.tell_at = None;
                lasting.state = LastingState::Leaving(round.now + LEAVE_TIME);
                return;
            }
        }
        self.finish(peer, CloseReason::Left, round);
    }

    /// The other side has left. The connection is held until our user has taken what came over it.
    pub(super) fn left_by_peer(&mut self, peer: &str, round: &mut Round<'_>) {
        let Some(Chat { connection: Some(connection), lasting: Some(mut lasting), .. }) = self.chats.remove(peer)
        else {
            return;
        };
        end_lasting(peer, &mut lasting, round);
        round.tell(Event::Closed { peer: peer.to_owned(), reason: CloseReason::PeerLeft });
        let (chat, texts, by_us) = (Some(lasting.number), lasting.texts, LeftChat::by_us(connection, round.now));
        let mut left = LeftChat { chat, texts, is_heard: true, is_answered: false, deadline: None, ..by_us };
        left.tell(round);
        self.left.push(left);
    }

    /// The other side has left, and so has our user, who waits for acknowledgements: neither waits any longer.
    pub(super) fn both_left(&mut self, peer: &str, round: &mut Round<'_>) {
        self.drop_call(peer, round);
        let Some(Chat { connection: Some(mut connection), lasting: Some(mut lasting), .. }) = self.chats.remove(peer)
        else {
            return;
        };
        connection.transmit(&Frame::leave(lasting.texts.tell()), round);
        end_lasting(peer, &mut lasting, round);
        round.tell(Event::Closed { peer: peer.to_owned(), reason: CloseReason::Left });
        let deadline = Some(round.now + ANSWER_TIME);
        self.left.push(LeftChat { is_heard: true, deadline, ..LeftChat::by_us(connection, round.now) });
    }

    /// Takes what came over the peer connection of a chat that was left, and returns whether `id` is such a one.
    pub(super) fn receive_last(&mut self, id: PeerConnectionId, text: Option<&str>, round: &mut Round<'_>) -> bool {
        let Some(index) = self.left.iter().position(|left| left.has_connection(id)) else { return false };
        let left = &mut self.left[index];
        let opened = text.and_then(|text| left.connection.sealing.open(text).ok());
        match opened.and_then(|opened| Frame::read(opened.bytes)).map(|frame| frame.body) {
            Some(Body::Leave) if !left.is_heard => {
                left.is_heard = true;
                if !left.is_stopped {
                    left.connection.transmit(&Frame::leave(left.texts.taken()), round);
                }
                round.out.push(Output::Close { id, ending: PeerConnectionEnd::WhenArrived });
            }
            // It was the last word.
            Some(Body::Leave | Body::Stop) => {
                self.left.remove(index);
                self.connections.remove(&id);
                round.out.push(Output::Close { id, ending: PeerConnectionEnd::AtOnce });
            }
            _ => {}
        }
        true
    }

    pub(super) fn tick_left(&mut self, round: &mut Round<'_>) {
        self.left.retain(|left| {
            let is_over = left.deadline.is_some_and(|deadline| deadline <= round.now);
            if is_over {
                self.connections.remove(&left.connection.id);
                round.out.push(Output::Close { id: left.connection.id, ending: PeerConnectionEnd::WhenSent });
            }
            !is_over
        });
    }

    /// Ends a chat. All its ends come here, but for those where the farewell of the other side has come. Its keys go
    /// with it, and what was not acknowledged comes back.
    pub(super) fn finish(&mut self, peer: &str, reason: CloseReason, round: &mut Round<'_>) {
        let ending = match self.chats.get(peer) {
            // The time is up, and what was not taken until now is not waited for.
            Some(Chat { lasting: Some(lasting), .. }) if !lasting.texts.is_all_acknowledged() => match lasting.state {
                LastingState::Leaving(_) => PeerConnectionEnd::AtOnce,
                _ => PeerConnectionEnd::WhenClosedByPeer,
            },
            Some(Chat { lasting: Some(_), .. }) => PeerConnectionEnd::WhenClosedByPeer,
            _ => PeerConnectionEnd::WhenSent,
        };
        self.finish_with(peer, reason, ending, round);
    }

    fn finish_with(&mut self, peer: &str, reason: CloseReason, ending: PeerConnectionEnd, round: &mut Round<'_>) {
        self.drop_call(peer, round);
        let Some(Chat { connection, mut lasting, .. }) = self.chats.remove(peer) else { return };
        let mut left = None;
        if let Some(mut connection) = connection {
            if let Some(lasting) = lasting.as_mut().filter(|lasting| !matches!(lasting.state, LastingState::Leaving(_)))
            {
                connection.transmit(&Frame::leave(lasting.texts.tell()), round);
            }
            round.out.push(Output::Close { id: connection.id, ending });
            match ending {
                PeerConnectionEnd::WhenClosedByPeer => left = Some(LeftChat::by_us(connection, round.now)),
                _ => drop(self.connections.remove(&connection.id)),
            }
        }
        if let Some(mut lasting) = lasting {
            end_lasting(peer, &mut lasting, round);
            // The second farewell too says how much was taken.
            if let Some(left) = &mut left {
                left.texts = lasting.texts;
            }
        }
        self.left.extend(left);
        round.tell(Event::Closed { peer: peer.to_owned(), reason });
    }
}

/// How long the second farewell of somebody who has left is waited for, which is there as soon as they have read ours.
const ANSWER_TIME: Duration = Duration::from_millis(500);
