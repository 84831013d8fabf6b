//! The other side's data in SCTP: how much of it may be underway, in what pieces and on which streams. It mirrors what
//! WebRTC holds, piece by piece, so that this is bounded.

use std::collections::VecDeque;

use super::chunk::{Data, Rejection};
use crate::peer::description::MAX_MESSAGE;
use Rejection::{Full, Violation};

/// What has come since our side last acknowledged, and the message that is being put together.
#[derive(Debug)]
pub struct Incoming {
    /// The last piece that our side has acknowledged with all before it. WebRTC has it for certain.
    acknowledged: u32,
    /// That piece.
    before: Option<Piece>,
    /// The pieces behind it that were passed on.
    pieces: VecDeque<Option<Piece>>,
    /// How many of those come one behind the other, and are accounted for in what follows.
    in_order: usize,
    /// Bytes and pieces of the message that has begun and not ended.
    bytes: usize,
    count: usize,
    streams: Vec<Stream>,
    /// Messages that are complete, and how many of them have been taken.
    complete: u64,
    taken: u64,
    /// Data channels that the other side has opened, and those of ours that it has confirmed.
    opened: usize,
    confirmed: usize,
    is_broken: bool,
}

/// What is remembered of a piece, to know it again and to tell what may come before and behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    stream: u16,
    ssn: u16,
    protocol: u32,
    length: u16,
    is_first: bool,
    is_last: bool,
}

#[derive(Debug)]
struct Stream {
    id: u16,
    /// The number of its next message.
    next: u16,
}

impl Incoming {
    /// The data of a side whose first piece has the number after `acknowledged`.
    pub fn new(acknowledged: u32) -> Self {
        Self {
            acknowledged,
            before: None,
            pieces: VecDeque::new(),
            in_order: 0,
            bytes: 0,
            count: 0,
            streams: Vec::new(),
            complete: 0,
            taken: 0,
            opened: 0,
            confirmed: 0,
            is_broken: false,
        }
    }

    /// Learns of a piece and says whether it may be passed on.
    ///
    /// # Errors
    /// Why it may not.
    pub fn receive(&mut self, data: &Data) -> Result<(), Rejection> {
        let piece = Piece {
            stream: data.stream,
            ssn: data.ssn,
            protocol: data.protocol,
            length: data.content.len() as u16,
            is_first: data.is_first,
            is_last: data.is_last,
        };
        let Ok(distance) = usize::try_from(self.distance(data.tsn)) else { return Ok(()) };
        // One that WebRTC has already.
        let Some(place) = distance.checked_sub(1) else { return Ok(()) };
        if place >= WINDOW {
            return Err(Full);
        }
        if let Some(Some(known)) = self.pieces.get(place) {
            // WebRTC may have had no room for it then.
            return if *known == piece { Ok(()) } else { Err(Violation("a piece of data in two versions")) };
        }
        if self.complete.saturating_sub(self.taken) >= MAX_UNTAKEN {
            return Err(Full);
        }
        if data.is_unordered {
            return Err(Violation("data without an order"));
        }
        self.look_around(place, &piece)?;
        self.look_at_stream(piece.stream)?;
        if piece.protocol == CONTROL {
            self.look_at_control(data)?;
        }
        if self.pieces.len() <= place {
            self.pieces.resize(place + 1, None);
        }
        self.pieces[place] = Some(piece);
        self.put_in_order()
    }

    /// Learns of what our side has acknowledged.
    pub fn acknowledge(&mut self, tsn: u32) {
        let Ok(count) = usize::try_from(self.distance(tsn)) else { return };
        // It acknowledges nothing that was not passed on, so all of these are accounted for.
        let count = count.min(self.in_order);
        if let Some(last) = count.checked_sub(1) {
            self.before = self.pieces[last];
            self.pieces.drain(..count);
            self.in_order -= count;
            self.acknowledged = self.acknowledged.wrapping_add(count as u32);
        }
    }

    /// Learns of how many messages have been taken in all.
    pub fn set_taken(&mut self, messages: u64) {
        self.taken = messages;
    }

    /// How far behind what is acknowledged a piece is; numbers begin anew at their end (RFC 9260, section 1.6).
    pub fn distance(&self, tsn: u32) -> i32 {
        tsn.wrapping_sub(self.acknowledged) as i32
    }

    /// Whether what was passed on already makes no sense, so that nothing may follow.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// The pieces of a message come one behind the other (RFC 9260, section 6.9), so two neighbours have to fit.
    fn look_around(&self, place: usize, piece: &Piece) -> Result<(), Rejection> {
        let before = match place.checked_sub(1) {
            Some(place) => self.pieces.get(place).copied().flatten(),
            None => self.before,
        };
        let behind = self.pieces.get(place + 1).copied().flatten();
        let is_torn =
            before.is_some_and(|before| !before.fits(piece)) || behind.is_some_and(|behind| !piece.fits(&behind));
        if is_torn { Err(Violation("pieces of messages that do not fit")) } else { Ok(()) }
    }

    fn look_at_stream(&mut self, id: u16) -> Result<(), Rejection> {
        if !self.streams.iter().any(|stream| stream.id == id) {
            if self.streams.len() == MAX_STREAMS {
                return Err(Violation("too many streams"));
            }
            self.streams.push(Stream { id, next: 0 });
        }
        Ok(())
    }

    /// Opening and confirming a data channel (RFC 8832, section 5) take a message in one piece each. WebRTC would take
    /// some other messages for words of its own.
    fn look_at_control(&mut self, data: &Data) -> Result<(), Rejection> {
        let text = |at: usize| usize::from(u16::from_be_bytes([data.content[at], data.content[at + 1]]));
        let (is_sound, count) = match *data.content {
            [ACK] => (true, &mut self.confirmed),
            [OPEN, kind, ..] if data.content.len() >= OPEN_HEAD && kind != RELIABLE => {
                // None of its texts could be taken, and to drop this one would only have it sent again.
                self.is_broken = true;
                return Err(Violation("the opening of a data channel that loses or reorders what it carries"));
            }
            [OPEN, ..] if data.content.len() >= OPEN_HEAD => {
                (data.content.len() == OPEN_HEAD + text(8) + text(10), &mut self.opened)
            }
            _ => (false, &mut self.opened),
        };
        if !is_sound || !data.is_first || !data.is_last {
            return Err(Violation("a malformed message that opens a data channel"));
        }
        if *count == MAX_CHANNELS {
            return Err(Violation("too many data channels"));
        }
        *count += 1;
        Ok(())
    }

    fn put_in_order(&mut self) -> Result<(), Rejection> {
        while let Some(Some(piece)) = self.pieces.get(self.in_order).copied() {
            if let Err(what) = self.put(&piece) {
                self.is_broken = true;
                return Err(Violation(what));
            }
            self.in_order += 1;
        }
        Ok(())
    }

    fn put(&mut self, piece: &Piece) -> Result<(), &'static str> {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == piece.stream) else {
            return Err("data on no stream");
        };
        if piece.is_first != (self.count == 0) {
            return Err("pieces of messages that do not fit");
        }
        // A stream may have begun anew.
        if piece.is_first && piece.ssn != stream.next && piece.ssn != 0 {
            return Err("a message out of order");
        }
        self.bytes += usize::from(piece.length);
        self.count += 1;
        if self.bytes > MAX_MESSAGE {
            return Err("a message that is too long");
        }
        if self.count > MAX_PIECES {
            return Err("a message in too many pieces");
        }
        if piece.is_last {
            stream.next = piece.ssn.wrapping_add(1);
            (self.bytes, self.count) = (0, 0);
            if piece.protocol != CONTROL {
                self.complete += 1;
            }
        }
        Ok(())
    }
}

impl Piece {
    /// Whether `next` may stand behind this one.
    fn fits(&self, next: &Self) -> bool {
        if self.is_last || next.is_first {
            return self.is_last && next.is_first;
        }
        (self.stream, self.ssn, self.protocol) == (next.stream, next.ssn, next.protocol)
    }
}

/// How far behind the last acknowledged piece one may be. A full receive buffer of WebRTC, 1 MiB, holds a thousand of
/// the usual size; small texts that come faster than they are acknowledged are sent again.
pub const WINDOW: usize = 2048;

/// The most pieces of one message. The longest one has 1,024 of 256 bytes, and any network takes twice as much at once.
const MAX_PIECES: usize = 1024;

/// The most streams that data may come on, in the lifetime of a connection. A chat has one.
pub const MAX_STREAMS: usize = 16;

/// The most data channels that may be opened or confirmed, in the lifetime of a connection. A chat has one.
const MAX_CHANNELS: usize = 16;

/// The most complete messages that may wait to be taken. WebRTC counts their bytes, but each costs it some hundred
/// more: this many texts of 128 bytes fill its buffer.
const MAX_UNTAKEN: u64 = 8192;

/// The types of the messages that open and confirm a data channel, the length of the former without label and protocol,
/// and the kind of channel that it asks for in a chat: one that keeps order and loses nothing (RFC 8832, section 5.1).
const OPEN: u8 = 3;
const ACK: u8 = 2;
const OPEN_HEAD: usize = 12;
const RELIABLE: u8 = 0;

/// What a message that opens or confirms a data channel is marked with (RFC 8832, section 8.1).
const CONTROL: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_loses_or_reorders_is_refused_as_it_is_opened_and_nothing_may_follow() {
        for kind in 0..=u8::MAX {
            let content = &[OPEN, kind, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, b'c', b'h', b'a', b't'];
            let (is_first, is_last, is_unordered) = (true, true, false);
            let opening =
                Data { tsn: 100, stream: 1, ssn: 0, protocol: CONTROL, is_first, is_last, is_unordered, content };
            let mut incoming = Incoming::new(99);
            let passed = incoming.receive(&opening);
            assert_eq!((passed.is_ok(), incoming.is_broken()), (kind == RELIABLE, kind != RELIABLE), "{kind}");
        }
    }
}
