//! Open chats. A chat with a peer that acknowledges outlives its connection: it is interrupted when that is lost, and carried on
//! by a new call.
//!
//! The new connection comes from a call like the first one, through the server, and not from an ICE restart: that could
//! mend only what both sides still have, while a call also finds a peer whose program was started anew, gives fresh keys, and
//! is the one way that there is.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::super::candidate::Trickle;
use super::super::cipher::{Cipher, OpenError, Sealer};
use super::super::description::DEFAULT_MAX_MESSAGE;
use super::super::event::{CloseReason, Event, NotSentReason};
use super::super::frame::{Body, Frame, Instance, Place, TEXT_EXTRA_BYTES};
use super::super::keys::PublicKey;
use super::super::texts::{Arrival, Kept, Texts};
use super::super::trust::{Known, Trust};
use super::call::{Call, Introduced, Secured, Stage};
use super::{ConnectionId, Engine, Output, Parting, Receipt};

/// An open chat with one peer.
#[derive(Debug)]
pub(super) struct Chat {
    /// `None` while it is interrupted.
    pub(super) link: Option<Link>,
    /// Who the peer has proven to be.
    pub(super) identity: Option<PublicKey>,
    /// With a peer that acknowledges.
    lasting: Option<Lasting>,
}

/// The connection of a chat.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: ConnectionId,
    cipher: Cipher,
    pub(super) introduced: Introduced,
    pub(super) sealer: Option<Sealer>,
    /// Our instance, as the peer was told.
    instance: Instance,
    /// The largest message that the peer takes, in bytes.
    max_message: usize,
    pub(super) trickle: Trickle,
    /// Texts in a row that could not be opened.
    failures: u32,
}

/// What of a chat outlives its connection.
#[derive(Debug)]
struct Lasting {
    /// By which receipts name it.
    number: u64,
    /// Both sides of it: our own and the peer's.
    instances: [Instance; 2],
    texts: Texts,
    /// The longest text that goes through, in bytes.
    longest: usize,
    /// When to say how far our user has come, if no text says so before.
    tell_at: Option<Instant>,
    state: State,
}

#[derive(Debug)]
enum State {
    Connected,
    /// The user has left, and what was sent is waited for until then.
    Leaving(Instant),
    Interrupted {
        since: Instant,
        /// When it is given up.
        until: Instant,
        /// How many calls have come to nothing.
        attempts: u32,
        /// When to call next, if there is room for a call.
        next: Instant,
        /// When it was called last.
        sought: Option<Instant>,
    },
}

/// A chat that the other side has left: what our user still takes of it is acknowledged.
#[derive(Debug)]
pub(super) struct Parted {
    chat: u64,
    link: Link,
    texts: Texts,
    /// When the other side should have closed the connection, once there is nothing to wait for.
    pub(super) deadline: Option<Instant>,
}

impl Chat {
    pub(super) fn has_connection(&self, id: ConnectionId) -> bool {
        self.link.as_ref().is_some_and(|link| link.id == id)
    }

    pub(super) fn unkept_connection(&self) -> Option<ConnectionId> {
        self.link.as_ref().filter(|_| self.lasting.is_none()).map(|link| link.id)
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.lasting.as_ref().map_or(0, |lasting| lasting.texts.bytes())
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.lasting.as_ref().is_some_and(|lasting| matches!(lasting.state, State::Interrupted { .. }))
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.lasting.as_ref().is_some_and(|lasting| matches!(lasting.state, State::Leaving(_)))
    }

    /// Whether a call of the other side may carry it on.
    pub(super) fn may_be_carried_on(&self) -> bool {
        self.lasting.is_some() && !self.is_leaving()
    }

    /// When it has something to do. `next_seek`: when there is room for a call that carries a chat on; while there is no server,
    /// never.
    pub(super) fn next_deadline(&self, next_seek: Option<Instant>) -> Option<Instant> {
        let lasting = self.lasting.as_ref()?;
        let state = match &lasting.state {
            State::Connected => None,
            State::Leaving(until) => Some(*until),
            State::Interrupted { until, next, .. } => {
                Some(next_seek.map_or(*until, |next_seek| next_seek.max(*next).min(*until)))
            }
        };
        lasting.tell_at.into_iter().chain(state).min()
    }

    /// Where it stands among those that are to be called, if it is: first who was not called since the loss, of them the newest,
    /// and then whose call is longest ago.
    fn seek_order(&self, now: Instant) -> Option<(Option<Instant>, Reverse<Instant>)> {
        match &self.lasting.as_ref()?.state {
            State::Interrupted { since, next, sought, .. } if *next <= now => Some((*sought, Reverse(*since))),
            _ => None,
        }
    }

    /// The other side is being called.
    pub(super) fn was_sought(&mut self, now: Instant) {
        if let Some(Lasting { state: State::Interrupted { sought, .. }, .. }) = &mut self.lasting {
            *sought = Some(now);
        }
        self.await_call();
    }

    /// The other side is not called until the call that there is has come to nothing.
    fn await_call(&mut self) {
        if let Some(Lasting { state: State::Interrupted { until, next, .. }, .. }) = &mut self.lasting {
            *next = *until;
        }
    }

    /// Whether what the user writes is a reason to call, since it would be long until the next call, and the last one was not just
    /// now.
    fn is_to_be_sought_for_text(&self, now: Instant) -> bool {
        match self.lasting.as_ref().map(|lasting| &lasting.state) {
            Some(State::Interrupted { next, sought, .. }) => {
                *next > now + FIRST_PAUSE && sought.is_none_or(|sought| now >= sought + WRITTEN_PAUSE)
            }
            _ => false,
        }
    }

    /// Calls at this time, if it is interrupted, and soon again if that comes to nothing.
    pub(super) fn seek_at(&mut self, now: Instant) {
        if let Some(Lasting { state: State::Interrupted { attempts, next, .. }, .. }) = &mut self.lasting {
            (*attempts, *next) = (0, now);
        }
    }

    /// A call has come to nothing; another is made after a pause.
    pub(super) fn seek_again(&mut self, reason: &CloseReason, now: Instant) {
        if let Some(Lasting { state: State::Interrupted { attempts, next, .. }, .. }) = &mut self.lasting {
            let pause = match reason {
                // It rang for a minute, so somebody's program is there, but has no such chat any more.
                CloseReason::NoAnswer => UNANSWERED_PAUSE,
                _ => LONGEST_PAUSE.min(FIRST_PAUSE * 2u32.saturating_pow(*attempts)),
            };
            *attempts += 1;
            *next = now + pause;
        }
    }
}

impl Link {
    pub(super) fn new(id: ConnectionId, secured: Secured) -> Self {
        let Secured { cipher, introduced, sealer, instance, max_message, trickle, .. } = secured;
        let max_message = max_message.unwrap_or(DEFAULT_MAX_MESSAGE);
        Self { id, cipher, introduced, sealer, instance, max_message, trickle, failures: 0 }
    }

    /// Sends a frame; whether the keys are not used up.
    fn transmit(&mut self, frame: &[u8], out: &mut Vec<Output>) -> bool {
        let Ok(text) = self.cipher.seal(frame) else { return false };
        out.push(Output::Transmit { id: self.id, text, is_kept: true });
        true
    }
}

impl Parted {
    pub(super) fn has_connection(&self, id: ConnectionId) -> bool {
        self.link.id == id
    }

    /// Acknowledges what was taken; with the last of it, the other side closes the connection.
    fn tell(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.texts.is_due() {
            self.link.transmit(&Frame::taken(self.texts.tell()), out);
        }
        if self.texts.is_all_taken() && self.deadline.is_none() {
            self.deadline = Some(now + LEAVE_TIME);
        }
    }
}

impl CloseReason {
    /// Whether a chat ends by it that could be carried on after a loss.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::ConnectionLost
            | Self::NotOnline
            | Self::NoAnswer
            | Self::NoConnection
            | Self::NoCandidates
            | Self::LocalOnly
            | Self::NotOpened
            | Self::PeerHasNoRelay
            | Self::NoRelay(_)
            | Self::ServerLost
            | Self::Exhausted
            | Self::BadDescription(_)
            | Self::NotUnderstood
            | Self::Failed { .. }
            | Self::Refused { .. } => false,
            Self::Left
            | Self::PeerLeft
            | Self::NoLongTexts
            | Self::Replaced
            | Self::Declined
            | Self::Oneself
            | Self::NotCalling
            | Self::BadKey
            | Self::IdentityChanged { .. }
            | Self::NotProven
            | Self::Unproven
            | Self::KeyChanged
            | Self::Unreadable
            | Self::RulesBroken { .. }
            | Self::Crashed => true,
        }
    }
}

impl Engine {
    /// Where we are in the chat with `peer`, or in the one that is about to begin.
    pub(super) fn place(&self, peer: &str, fresh: Instance) -> Place {
        match self.chats.get(peer).and_then(|chat| chat.lasting.as_ref()) {
            Some(Lasting { instances: [instance, other], texts, .. }) => {
                Place { instance: *instance, other: *other, received: texts.received() }
            }
            None => Place { instance: fresh, other: Instance::default(), received: 0 },
        }
    }

    /// Whether a peer that introduces itself so may carry on the chat that there is with it.
    pub(super) fn carries_on(&self, peer: &str, introduced: &Introduced) -> bool {
        let chat = self.chats.get(peer).filter(|chat| chat.may_be_carried_on());
        chat.is_some_and(|chat| introduced.acknowledges && chat.identity == introduced.identity)
    }

    /// The peer has proven what it can: a chat begins, or is carried on. `place` is where the peer is in it, if it acknowledges.
    pub(super) fn begin(
        &mut self,
        peer: String,
        link: Link,
        place: Option<Place>,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        // The user may have learnt who the peer is while the connection was made.
        let trust = match self.judge(&peer, link.introduced.identity) {
            Ok(trust) => trust,
            Err(reason) => {
                self.connections.remove(&link.id);
                out.push(Output::Close { id: link.id, parting: Parting::AtOnce });
                return self.failed(&peer, reason, now, out);
            }
        };
        if let Some(place) = place
            && self.carries_on(&peer, &link.introduced)
        {
            return self.carry_on(&peer, link, place, now, out);
        }
        // A peer that cannot carry the chat on any more begins another.
        self.finish(&peer, CloseReason::Replaced, out);
        let (own, other) = match link.introduced.identity {
            Some(identity) => (self.setup.identity.public(), identity),
            None => (link.cipher.own_key(), link.introduced.key),
        };
        if trust == Trust::New {
            // For as long as the program runs; who wants to know it longer keeps what the event says.
            let known = Known { identity: other, is_verified: false };
            self.setup.known.insert(peer.clone(), known);
        }
        let lasting = place.map(|place| Lasting {
            number: self.next_chat,
            instances: [link.instance, place.instance],
            texts: Texts::default(),
            longest: link.cipher.longest_text(link.max_message).saturating_sub(TEXT_EXTRA_BYTES),
            tell_at: None,
            state: State::Connected,
        });
        self.next_chat += 1;
        let identity = link.introduced.identity;
        self.chats.insert(peer.clone(), Chat { link: Some(link), identity, lasting });
        out.push(Output::Event(Event::Identified { peer: peer.clone(), trust, own, other }));
        out.push(Output::Event(Event::Open { peer }));
    }

    /// Carries a chat on over a new connection.
    fn carry_on(&mut self, peer: &str, link: Link, place: Place, now: Instant, out: &mut Vec<Output>) {
        let Some(chat) = self.chats.get_mut(peer) else { return };
        let Some(lasting) = &mut chat.lasting else { return };
        if let Some(old) = chat.link.replace(link) {
            // The other side has noticed first that the old connection is of no use.
            self.connections.remove(&old.id);
            out.push(Output::Close { id: old.id, parting: Parting::AtOnce });
            out.push(Output::Event(Event::Interrupted { peer: peer.to_owned() }));
        }
        lasting.state = State::Connected;
        if [place.other, place.instance] == lasting.instances {
            lasting.texts.resume(place.received);
        } else {
            // It is another program, or one that has forgotten: what it was sent may or may not have been shown.
            for kept in lasting.texts.restart() {
                out.push(not_sent(peer, kept));
            }
            lasting.instances[1] = place.instance;
            lasting.number = self.next_chat;
            self.next_chat += 1;
        }
        lasting.tell_at = lasting.texts.is_due().then_some(now);
        out.push(Output::Event(Event::Resumed { peer: peer.to_owned() }));
        self.transmit(peer, now, out);
    }

    pub(super) fn send(&mut self, peer: String, id: u64, text: String, now: Instant, out: &mut Vec<Output>) {
        let comes_back = |peer, text, reason| Output::Event(Event::NotSent { peer, id, text, reason });
        let Some(chat) = self.chats.get_mut(&peer).filter(|chat| !chat.is_leaving()) else {
            return out.push(comes_back(peer, text, NotSentReason::NotOpen));
        };
        if let Some(lasting) = &mut chat.lasting {
            if text.len() > lasting.longest {
                return out.push(comes_back(peer, text, NotSentReason::TooLong { max_bytes: lasting.longest }));
            }
            return match lasting.texts.keep(id, text) {
                Ok(()) if chat.is_interrupted() => {
                    if chat.is_to_be_sought_for_text(now) {
                        self.seek(&peer, true, now, out);
                    }
                }
                Ok(()) => self.transmit(&peer, now, out),
                Err(text) => out.push(comes_back(peer, text, NotSentReason::Busy)),
            };
        }
        let Some(link) = &mut chat.link else { return };
        if link.cipher.sealed_length(text.len()) > link.max_message {
            let max_bytes = link.cipher.longest_text(link.max_message);
            return out.push(comes_back(peer, text, NotSentReason::TooLong { max_bytes }));
        }
        match link.cipher.seal(&text) {
            Ok(sealed) => out.push(Output::Transmit { id: link.id, text: sealed, is_kept: false }),
            Err(_) => {
                out.push(comes_back(peer.clone(), text, NotSentReason::NotOpen));
                self.finish(&peer, CloseReason::Exhausted, out);
            }
        }
    }

    /// Sends what is kept and can go out.
    fn transmit(&mut self, peer: &str, now: Instant, out: &mut Vec<Output>) {
        let Some(Chat { link: Some(link), lasting: Some(lasting), .. }) = self.chats.get_mut(peer) else { return };
        let taken = lasting.texts.taken();
        while let Some((number, text)) = lasting.texts.transmit() {
            if !link.transmit(&Frame::text(taken, number, text), out) {
                return self.lose(peer, CloseReason::Exhausted, now, out);
            }
            lasting.tell_at = None;
        }
        if lasting.tell_at.is_none() {
            lasting.texts.tell();
        }
    }

    pub(super) fn receive(&mut self, id: ConnectionId, text: Option<String>, now: Instant, out: &mut Vec<Output>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        if self.calls.get(&peer).is_some_and(|call| call.id == id) {
            return self.receive_proof(peer, text, now, out);
        }
        let is_strict = self.setup.is_strict;
        let Some(chat) = self.chats.get_mut(&peer).filter(|chat| chat.has_connection(id)) else { return };
        let is_lasting = chat.lasting.is_some();
        let Some(link) = &mut chat.link else { return };
        let opened = match text.map(|text| link.cipher.open(&text)) {
            Some(Ok(opened)) => opened,
            Some(Err(OpenError::Exhausted)) if is_lasting => return self.lose(&peer, CloseReason::Exhausted, now, out),
            Some(Err(OpenError::Exhausted)) => return self.finish(&peer, CloseReason::Exhausted, out),
            Some(Err(_)) | None => return self.receive_nothing(&peer, out),
        };
        if opened.key_changed && is_strict {
            return self.finish(&peer, CloseReason::KeyChanged, out);
        }
        if opened.key_changed {
            out.push(Output::Event(Event::KeyChanged { peer: peer.clone() }));
        }
        let is_taken = match is_lasting {
            true => Frame::read(opened.bytes).and_then(|frame| self.receive_frame(&peer, frame, now, out)),
            false => String::from_utf8(opened.bytes).ok().map(|text| {
                out.push(Output::Message { peer: peer.clone(), text, receipt: None });
            }),
        };
        match self.chats.get_mut(&peer).and_then(|chat| chat.link.as_mut()) {
            _ if is_taken.is_none() => self.receive_nothing(&peer, out),
            Some(link) => link.failures = 0,
            None => {}
        }
    }

    /// Something came that does not open, or means nothing.
    fn receive_nothing(&mut self, peer: &str, out: &mut Vec<Output>) {
        self.drop_message();
        let Some(Chat { link: Some(link), .. }) = self.chats.get_mut(peer) else { return };
        link.failures += 1;
        if link.failures >= MAX_FAILURES {
            self.finish(peer, CloseReason::Unreadable, out);
        }
    }

    fn receive_frame(&mut self, peer: &str, frame: Frame, now: Instant, out: &mut Vec<Output>) -> Option<()> {
        let chat = self.chats.get_mut(peer)?;
        let is_leaving = chat.is_leaving();
        let lasting = chat.lasting.as_mut()?;
        if let Some(id) = lasting.texts.acknowledge(frame.taken) {
            out.push(Output::Event(Event::Delivered { peer: peer.to_owned(), id }));
        }
        let is_over = is_leaving && lasting.texts.is_all_acknowledged();
        match frame.body {
            // Who has left takes no more.
            Body::Text(..) if is_leaving => {}
            Body::Text(number, text) => match lasting.texts.receive(number) {
                Arrival::New => {
                    let peer = peer.to_owned();
                    let receipt = Some(Receipt { peer: peer.clone(), chat: lasting.number, number });
                    out.push(Output::Message { peer, text, receipt });
                }
                Arrival::Again => {}
                Arrival::Gap => return None,
            },
            Body::Taken => {}
            // Both have left, and neither waits for the other any longer.
            Body::Leave if is_leaving => {
                self.finish_with(peer, CloseReason::Left, Parting::Sent, out);
                return Some(());
            }
            Body::Leave => {
                self.parted_from(peer, now, out);
                return Some(());
            }
            Body::Stop => {
                lasting.texts.take_back();
                self.lose(peer, CloseReason::ConnectionLost, now, out);
                if let Some(chat) = self.chats.get_mut(peer) {
                    // A call made now would still ring at the program that ends.
                    chat.seek_at(now + FIRST_PAUSE);
                }
                return Some(());
            }
        }
        if is_over {
            self.finish(peer, CloseReason::Left, out);
        }
        Some(())
    }

    /// The user leaves while the proofs are on their way. The other side may have ours already, and with it an open chat.
    pub(super) fn part_early(&mut self, peer: &str, out: &mut Vec<Output>) {
        if let Some(Call { id, stage: Stage::Proving(secured), .. }) = self.calls.get_mut(peer)
            && secured.introduced.acknowledges
            && let Ok(text) = secured.cipher.seal(Frame::leave(0))
        {
            let id = *id;
            self.calls.remove(peer);
            self.connections.remove(&id);
            out.push(Output::Transmit { id, text, is_kept: true });
            out.push(Output::Close { id, parting: Parting::Acknowledged });
        }
    }

    /// The user leaves a chat. Where what was sent is acknowledged, that is waited for.
    pub(super) fn part(&mut self, peer: &str, now: Instant, out: &mut Vec<Output>) {
        if let Some(Chat { link: Some(link), lasting: Some(lasting), .. }) = self.chats.get_mut(peer) {
            if matches!(lasting.state, State::Leaving(_)) {
                return;
            }
            if !lasting.texts.is_all_acknowledged() && link.transmit(&Frame::leave(lasting.texts.tell()), out) {
                lasting.tell_at = None;
                lasting.state = State::Leaving(now + LEAVE_TIME);
                return;
            }
        }
        self.finish(peer, CloseReason::Left, out);
    }

    /// The user's program can take no more: ends all chats, and says what was not taken.
    pub(super) fn stop(&mut self, now: Instant, out: &mut Vec<Output>) {
        for peer in self.chats.keys().cloned().collect::<Vec<_>>() {
            if let Some(Chat { link: Some(link), lasting: Some(lasting), .. }) = self.chats.get_mut(&peer)
                && link.transmit(&Frame::stop(lasting.texts.tell()), out)
            {
                // There is nothing to be waited for, and nothing more to be said.
                lasting.state = State::Leaving(now);
            }
            self.finish_with(&peer, CloseReason::Left, Parting::Acknowledged, out);
        }
        for peer in self.peers() {
            self.leave(peer, now, out);
        }
    }

    /// The other side has left. The connection is held until our user has taken what came over it.
    fn parted_from(&mut self, peer: &str, now: Instant, out: &mut Vec<Output>) {
        let Some(Chat { link: Some(link), lasting: Some(lasting), .. }) = self.chats.remove(peer) else { return };
        let mut texts = lasting.texts;
        for kept in texts.give_back() {
            out.push(not_sent(peer, kept));
        }
        out.push(Output::Event(Event::Closed { peer: peer.to_owned(), reason: CloseReason::PeerLeft }));
        let mut parted = Parted { chat: lasting.number, link, texts, deadline: None };
        parted.tell(now, out);
        self.parted.push(parted);
    }

    /// The user's program has taken a text.
    pub(super) fn taken(&mut self, receipt: &Receipt, now: Instant, out: &mut Vec<Output>) {
        let Receipt { peer, chat: number, .. } = receipt;
        let lasting = self.chats.get_mut(peer).and_then(|chat| chat.lasting.as_mut());
        if let Some(lasting) = lasting.filter(|lasting| lasting.number == *number) {
            lasting.texts.take(receipt.number);
            if lasting.texts.is_due() && lasting.tell_at.is_none() {
                lasting.tell_at = Some(now + TELL_TIME);
            }
        } else if let Some(parted) = self.parted.iter_mut().find(|parted| parted.chat == *number) {
            parted.texts.take(receipt.number);
            parted.tell(now, out);
        }
    }

    /// Nothing of what was sent arrives, though the connection lives: there was a long text among it. The chat goes on with shorter
    /// datagrams; where those do not arrive either, it ends, and all that did not arrive is told.
    pub(super) fn stalled(&mut self, id: ConnectionId, now: Instant, out: &mut Vec<Output>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        let Some(chat) = self.chats.get(&peer).filter(|chat| chat.has_connection(id)) else { return };
        let is_lasting = chat.lasting.is_some();
        if self.narrow.len() >= MAX_NARROW {
            self.narrow.clear();
        }
        // With an old app nothing can be carried on, and what was lost is told by the end. The next call goes the narrow way.
        if self.narrow.insert(peer.clone()) && is_lasting {
            self.lose(&peer, CloseReason::ConnectionLost, now, out);
        } else {
            self.finish(&peer, CloseReason::NoLongTexts, out);
        }
    }

    /// The connection of a chat is no more.
    pub(super) fn lose(&mut self, peer: &str, reason: CloseReason, now: Instant, out: &mut Vec<Output>) {
        let resume_for = self.setup.resume_for;
        let is_first = *self.username < *peer;
        let Some(chat) = self.chats.get_mut(peer) else { return };
        let Some(link) = chat.link.take() else { return };
        if self.connections.remove(&link.id).is_some() {
            out.push(Output::Close { id: link.id, parting: Parting::AtOnce });
        }
        match &mut chat.lasting {
            None => self.finish(peer, reason, out),
            Some(Lasting { state: State::Leaving(_), .. }) => self.finish(peer, CloseReason::Left, out),
            Some(_) if resume_for.is_zero() => self.finish(peer, CloseReason::ConnectionLost, out),
            // It would come to the same again.
            Some(_) if matches!(reason, CloseReason::RulesBroken { .. } | CloseReason::Crashed) => {
                self.finish(peer, reason, out);
            }
            Some(lasting) => {
                // Mostly both notice at once; then one of them calls.
                let next = if is_first { now } else { now + FIRST_PAUSE };
                let until = now + resume_for;
                lasting.state = State::Interrupted { since: now, until, attempts: 0, next, sought: None };
                lasting.tell_at = None;
                out.push(Output::Event(Event::Interrupted { peer: peer.to_owned() }));
            }
        }
    }

    /// Calls the other side of an interrupted chat. `is_own`: since the user wants it.
    pub(super) fn seek(&mut self, peer: &str, is_own: bool, now: Instant, out: &mut Vec<Output>) {
        if let Some(request) = self.requests.get(peer) {
            let introduced = request.introduced.clone();
            let may_be_answered = |introduced: &Introduced| {
                self.carries_on(peer, introduced) && self.judge(peer, introduced.identity).is_ok()
            };
            if introduced.as_ref().is_some_and(may_be_answered) {
                // The other side is quicker, and needs no word of the user's any more.
                if let Some(request) = self.requests.remove(peer) {
                    if !request.is_silent && !request.is_accepted {
                        out.push(Output::Event(Event::RequestEnded { peer: peer.to_owned() }));
                    }
                    self.answer(peer.to_owned(), request, now, out);
                }
                return;
            }
            // What the user was asked is answered before.
            if !request.is_silent {
                return;
            }
            self.requests.remove(peer);
        }
        if self.is_online && !self.calls.contains_key(peer) {
            self.call(peer.to_owned(), is_own, now, out);
        }
    }

    /// Calls the other sides of interrupted chats, as many as there is room for.
    fn seek_all(&mut self, now: Instant, out: &mut Vec<Output>) {
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
            self.seek(&peer, false, now, out);
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

    pub(super) fn tick_chats(&mut self, now: Instant, out: &mut Vec<Output>) {
        let is_due = |chat: &Chat| chat.next_deadline(None).is_some_and(|deadline| deadline <= now);
        let due: Vec<String> =
            self.chats.iter().filter(|(_, chat)| is_due(chat)).map(|(peer, _)| peer.clone()).collect();
        for peer in due {
            self.tick_chat(&peer, now, out);
        }
        self.parted.retain(|parted| {
            let is_over = parted.deadline.is_some_and(|deadline| deadline <= now);
            if is_over {
                self.connections.remove(&parted.link.id);
                out.push(Output::Close { id: parted.link.id, parting: Parting::AtOnce });
            }
            !is_over
        });
        self.seek_all(now, out);
    }

    fn tick_chat(&mut self, peer: &str, now: Instant, out: &mut Vec<Output>) {
        let Some(Chat { link, lasting: Some(lasting), .. }) = self.chats.get_mut(peer) else { return };
        if lasting.tell_at.is_some_and(|tell_at| tell_at <= now) {
            lasting.tell_at = None;
            if let Some(link) = link
                && !link.transmit(&Frame::taken(lasting.texts.tell()), out)
            {
                return self.lose(peer, CloseReason::Exhausted, now, out);
            }
        }
        match &mut lasting.state {
            State::Leaving(until) if *until <= now => self.finish(peer, CloseReason::Left, out),
            State::Interrupted { until, .. } if *until <= now => {
                self.finish(peer, CloseReason::ConnectionLost, out);
            }
            _ => {}
        }
    }

    /// The one door out for a chat: its keys go with it, and what was not acknowledged comes back.
    pub(super) fn finish(&mut self, peer: &str, reason: CloseReason, out: &mut Vec<Output>) {
        let parting = match self.chats.get(peer) {
            // The time is up, and what was not taken until now is not waited for.
            Some(Chat { lasting: Some(lasting), .. }) if !lasting.texts.is_all_acknowledged() => match lasting.state {
                State::Leaving(_) => Parting::AtOnce,
                _ => Parting::Acknowledged,
            },
            Some(Chat { lasting: Some(_), .. }) => Parting::Acknowledged,
            Some(Chat { link: Some(link), .. }) if link.introduced.knows_rule => Parting::Read,
            _ => Parting::Sent,
        };
        self.finish_with(peer, reason, parting, out);
    }

    fn finish_with(&mut self, peer: &str, reason: CloseReason, parting: Parting, out: &mut Vec<Output>) {
        self.drop_call(peer, out);
        let Some(Chat { link, mut lasting, .. }) = self.chats.remove(peer) else { return };
        if let Some(mut link) = link {
            self.connections.remove(&link.id);
            if let Some(lasting) = lasting.as_mut().filter(|lasting| !matches!(lasting.state, State::Leaving(_))) {
                link.transmit(&Frame::leave(lasting.texts.tell()), out);
            }
            out.push(Output::Close { id: link.id, parting });
        }
        if let Some(mut lasting) = lasting {
            out.extend(lasting.texts.give_back().map(|kept| not_sent(peer, kept)));
        }
        out.push(Output::Event(Event::Closed { peer: peer.to_owned(), reason }));
    }
}

/// A text that was kept comes back.
fn not_sent(peer: &str, kept: Kept) -> Output {
    let Kept { id, text, is_transmitted } = kept;
    let reason = if is_transmitted { NotSentReason::Unconfirmed } else { NotSentReason::NotOpen };
    Output::Event(Event::NotSent { peer: peer.to_owned(), id, text, reason })
}

/// How long an acknowledgement may wait for a text to go along with.
const TELL_TIME: Duration = Duration::from_millis(10);

/// How long who leaves waits until all is acknowledged, and who was left until the connection is closed.
const LEAVE_TIME: Duration = Duration::from_secs(30);

/// How long the server may take to answer a call that is to carry a chat on.
pub(super) const SEEK_TIME: Duration = Duration::from_secs(10);

/// The pauses between these calls, each twice as long as the one before, and the one after a call that nobody took.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const UNANSWERED_PAUSE: Duration = Duration::from_secs(300);

/// How long after a call what the user writes is no reason to call again.
const WRITTEN_PAUSE: Duration = Duration::from_secs(5);

/// Texts in a row that could not be opened, after which a chat ends.
const MAX_FAILURES: u32 = 5;

/// So many peers are remembered to whom the way is narrow; beyond it, it is found out anew.
const MAX_NARROW: usize = 1000;
