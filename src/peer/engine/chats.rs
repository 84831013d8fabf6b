//! What is done about open chats: texts and their acknowledgements. How they end is in `farewells`.

use super::super::cipher::OpenError;
use super::super::event::{CloseReason, Event, NotSentReason};
use super::super::files::ChatFiles;
use super::super::frame::{Body, ChatPosition, Frame};
use super::super::texts::{Next, TextArrival, Texts};
use super::super::trust::{Known, Trust};
use super::call::{Call, CallStage};
use super::channel::PeerConnection;
use super::chat::{Chat, FIRST_PAUSE, Lasting, LastingState};
use super::interface::{Output, PeerConnectionEnd, PeerConnectionId, Receipt, Round};
use super::peers::Peers;

impl Peers {
    /// A connection is open: a chat begins.
    pub(super) fn begin(&mut self, peer: String, connection: PeerConnection, round: &mut Round<'_>) {
        // The user may have learnt who the peer is while the connection was made.
        let trust = match self.judge(&peer, connection.other.identity, round) {
            Ok(trust) => trust,
            Err(reason) => {
                self.connections.remove(&connection.id);
                round.out.push(Output::Close { id: connection.id, ending: PeerConnectionEnd::AtOnce });
                return self.call_came_to_nothing(&peer, reason, round);
            }
        };
        // What was there is a chat with somebody else, or one that is over for our user.
        self.finish(&peer, CloseReason::Replaced, round);
        let (own, other) = match connection.other.identity {
            Some(identity) => (round.setup.identity.public(), identity),
            None => (connection.other.own_key, connection.other.key),
        };
        if trust == Trust::New {
            // For as long as the program runs; who wants to know it longer keeps what the event says.
            let known = Known { identity: other, is_verified: false };
            round.setup.known.insert(peer.clone(), known);
        }
        let lasting = connection.position.map(|ChatPosition { instance, .. }| Lasting {
            number: self.next_chat,
            instances: [connection.instance, instance],
            texts: Texts::default(),
            files: ChatFiles::new(peer.clone(), other),
            knows_files: connection.files.is_some(),
            longest: connection.longest_text(),
            tell_at: None,
            answered_at: None,
            state: LastingState::Connected,
        });
        self.next_chat += 1;
        let identity = connection.other.identity;
        self.chats.insert(peer.clone(), Chat { connection: Some(connection), identity, lasting });
        round.tell(Event::Identified { peer: peer.clone(), trust, own, other });
        round.tell(Event::Open { peer });
    }

    pub(super) fn send(&mut self, peer: String, id: u64, text: String, round: &mut Round<'_>) {
        let comes_back = |peer, text, reason| Output::Event(Event::NotSent { peer, id, text, reason });
        let Some(chat) = self.chats.get_mut(&peer).filter(|chat| !chat.is_leaving()) else {
            return round.out.push(comes_back(peer, text, NotSentReason::NotOpen));
        };
        if let Some(lasting) = &mut chat.lasting {
            if text.len() > lasting.longest {
                return round.out.push(comes_back(peer, text, NotSentReason::TooLong { max_bytes: lasting.longest }));
            }
            return match lasting.texts.keep(id, text) {
                Ok(()) if chat.is_interrupted() => {
                    if chat.is_to_be_sought_for_text(round.now) {
                        self.seek(&peer, true, round);
                    }
                }
                Ok(()) => self.transmit(&peer, round),
                Err(text) => round.out.push(comes_back(peer, text, NotSentReason::Busy)),
            };
        }
        let Some(connection) = &mut chat.connection else { return };
        let max_bytes = connection.longest();
        if text.len() > max_bytes {
            return round.out.push(comes_back(peer, text, NotSentReason::TooLong { max_bytes }));
        }
        match connection.sealing.seal(text.as_bytes()) {
            Ok(sealed) => round.out.push(Output::Transmit { id: connection.id, text: sealed, is_kept: false }),
            Err(_) => {
                round.out.push(comes_back(peer.clone(), text, NotSentReason::NotOpen));
                self.finish(&peer, CloseReason::Exhausted, round);
            }
        }
    }

    /// Sends what is kept and can go out.
    pub(super) fn transmit(&mut self, peer: &str, round: &mut Round<'_>) {
        let Some(Chat { connection: Some(connection), lasting: Some(lasting), .. }) = self.chats.get_mut(peer) else {
            return;
        };
        let (taken, largest) = (lasting.texts.taken(), connection.longest());
        while let Some(Next { number, text, is_note }) = lasting.texts.transmit() {
            let frame = if is_note { Frame::note } else { Frame::text };
            if !connection.transmit(&frame(taken, number, text, largest), round) {
                return self.lose(peer, CloseReason::Exhausted, round);
            }
            lasting.tell_at = None;
        }
        if lasting.tell_at.is_none() {
            lasting.texts.tell();
        }
    }

    pub(super) fn receive(&mut self, id: PeerConnectionId, text: Option<String>, round: &mut Round<'_>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        if self.receive_last(id, text.as_deref(), round) {
            return;
        }
        if self.calls.get(&peer).is_some_and(|call| call.id == id) {
            return self.receive_early(&peer, text, round);
        }
        let is_strict = round.setup.is_strict;
        let Some(chat) = self.chats.get_mut(&peer).filter(|chat| chat.has_connection(id)) else { return };
        let is_lasting = chat.lasting.is_some();
        let Some(connection) = &mut chat.connection else { return };
        let opened = match text.map(|text| connection.sealing.open(&text)) {
            Some(Ok(opened)) => opened,
            Some(Err(OpenError::Exhausted)) if is_lasting => return self.lose(&peer, CloseReason::Exhausted, round),
            Some(Err(OpenError::Exhausted)) => return self.finish(&peer, CloseReason::Exhausted, round),
            Some(Err(_)) | None => return self.receive_nothing(&peer, round),
        };
        if opened.key_changed && is_strict {
            return self.finish(&peer, CloseReason::KeyChanged, round);
        }
        if opened.key_changed {
            round.tell(Event::KeyChanged { peer: peer.clone() });
        }
        let is_taken = match is_lasting {
            true => Frame::read(opened.bytes).and_then(|frame| self.receive_frame(&peer, frame, round)),
            false => String::from_utf8(opened.bytes).ok().map(|text| {
                round.out.push(Output::Message { peer: peer.clone(), text, receipt: None });
            }),
        };
        match self.chats.get_mut(&peer).and_then(|chat| chat.connection.as_mut()) {
            _ if is_taken.is_none() => self.receive_nothing(&peer, round),
            Some(connection) => connection.has_understood(),
            None => {}
        }
    }

    /// Something came over a connection that a chat is to go on by. The first frame that opens says that it does.
    fn receive_early(&mut self, peer: &str, text: Option<String>, round: &mut Round<'_>) {
        let Some(Call { stage: CallStage::Confirming(connection), .. }) = self.calls.get_mut(peer) else { return };
        let opened = text.and_then(|text| connection.sealing.open(&text).ok());
        let Some(frame) = opened.and_then(|opened| Frame::read(opened.bytes)) else {
            if connection.has_failed() {
                self.fail(peer, CloseReason::Unreadable, round);
            }
            return self.drop_message();
        };
        let Some(Call { stage: CallStage::Confirming(mut connection), .. }) = self.calls.remove(peer) else { return };
        connection.has_understood();
        self.carry_on(peer, connection, round);
        if self.receive_frame(peer, frame, round).is_none() {
            self.receive_nothing(peer, round);
        }
    }

    /// Something came that does not open, or means nothing.
    fn receive_nothing(&mut self, peer: &str, round: &mut Round<'_>) {
        self.drop_message();
        let Some(Chat { connection: Some(connection), .. }) = self.chats.get_mut(peer) else { return };
        if connection.has_failed() {
            self.finish(peer, CloseReason::Unreadable, round);
        }
    }

    fn receive_frame(&mut self, peer: &str, frame: Frame, round: &mut Round<'_>) -> Option<()> {
        let chat = self.chats.get_mut(peer)?;
        let is_leaving = chat.is_leaving();
        let lasting = chat.lasting.as_mut()?;
        if let Some(id) = lasting.texts.acknowledge(frame.taken) {
            round.tell(Event::Delivered { peer: peer.to_owned(), id });
        }
        let is_over = is_leaving && lasting.texts.is_all_acknowledged();
        match frame.body {
            // Who has left takes no more.
            Body::Text(..) | Body::Note(..) if is_leaving => {}
            Body::Text(number, text) => match lasting.texts.receive(number) {
                TextArrival::New => {
                    let peer = peer.to_owned();
                    let receipt = Some(Receipt { peer: peer.clone(), chat: lasting.number, number });
                    round.out.push(Output::Message { peer, text, receipt });
                }
                TextArrival::Again => {}
                TextArrival::Gap => return None,
            },
            Body::Note(number, note) => match lasting.texts.receive(number) {
                TextArrival::New => {
                    lasting.texts.take_note();
                    lasting.tell_soon(round.now);
                    self.receive_note(peer, &note, round);
                }
                TextArrival::Again => {}
                TextArrival::Gap => return None,
            },
            Body::Taken => {}
            Body::Leave if is_leaving => {
                self.both_left(peer, round);
                return Some(());
            }
            Body::Leave => {
                self.left_by_peer(peer, round);
                return Some(());
            }
            Body::Stop => {
                lasting.texts.take_back();
                self.lose(peer, CloseReason::ConnectionLost, round);
                if let Some(chat) = self.chats.get_mut(peer) {
                    // A call made now would still ring at the program that ends.
                    chat.seek_at(round.now + FIRST_PAUSE);
                }
                return Some(());
            }
        }
        if is_over {
            self.finish(peer, CloseReason::Left, round);
        }
        Some(())
    }

    /// The user's program has taken a text.
    pub(super) fn taken(&mut self, receipt: &Receipt, round: &mut Round<'_>) {
        let Receipt { peer, chat: number, .. } = receipt;
        let lasting = self.chats.get_mut(peer).and_then(|chat| chat.lasting.as_mut());
        if let Some(lasting) = lasting.filter(|lasting| lasting.number == *number) {
            lasting.texts.take(receipt.number);
            lasting.tell_soon(round.now);
        } else if let Some(left) = self.left.iter_mut().find(|left| left.chat == Some(*number)) {
            left.texts.take(receipt.number);
            left.tell(round);
        }
    }

    /// Nothing of what was sent arrives, though the connection lives: there was a long text among it. The chat goes on
    /// with shorter datagrams; where those do not arrive either, it ends, and all that did not arrive is told.
    pub(super) fn stalled(&mut self, id: PeerConnectionId, round: &mut Round<'_>) {
        let Some(peer) = self.connections.get(&id).cloned() else { return };
        let Some(chat) = self.chats.get(&peer).filter(|chat| chat.has_connection(id)) else { return };
        let is_lasting = chat.lasting.is_some();
        if self.narrow.len() >= MAX_NARROW {
            self.narrow.clear();
        }
        // With an old app nothing can be carried on, and what was lost is told by the end. The next call goes the
        // narrow way.
        if self.narrow.insert(peer.clone()) && is_lasting {
            self.lose(&peer, CloseReason::ConnectionLost, round);
        } else {
            self.finish(&peer, CloseReason::NoLongTexts, round);
        }
    }

    pub(super) fn tick_chats(&mut self, round: &mut Round<'_>) {
        let now = round.now;
        let is_due = |chat: &Chat| chat.next_deadline(None).is_some_and(|deadline| deadline <= now);
        let due: Vec<String> =
            self.chats.iter().filter(|(_, chat)| is_due(chat)).map(|(peer, _)| peer.clone()).collect();
        for peer in due {
            self.tick_chat(&peer, round);
        }
        self.tick_left(round);
        self.seek_all(round);
    }

    fn tick_chat(&mut self, peer: &str, round: &mut Round<'_>) {
        let Some(Chat { connection, lasting: Some(lasting), .. }) = self.chats.get_mut(peer) else { return };
        if lasting.tell_at.is_some_and(|tell_at| tell_at <= round.now) {
            lasting.tell_at = None;
            if let Some(connection) = connection
                && !connection.transmit(&Frame::taken(lasting.texts.tell()), round)
            {
                return self.lose(peer, CloseReason::Exhausted, round);
            }
        }
        if lasting.files.next_deadline().is_some_and(|deadline| deadline <= round.now) {
            self.tick_files(peer, round);
        }
        let Some(Chat { lasting: Some(lasting), .. }) = self.chats.get_mut(peer) else { return };
        match &mut lasting.state {
            LastingState::Leaving(until) if *until <= round.now => self.finish(peer, CloseReason::Left, round),
            LastingState::Interrupted { until, .. } if *until <= round.now => {
                self.finish(peer, CloseReason::ConnectionLost, round);
            }
            _ => {}
        }
    }
}

/// So many peers are remembered to whom the way is narrow; beyond it, it is found out anew.
const MAX_NARROW: usize = 1000;
