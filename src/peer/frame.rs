//! What is inside the box between two of Lowkey's own programs: frames instead of bare texts (protocol 2.7), and what a
//! hello says of the chat. Numbers are big-endian.
//!
//! | frame | bytes |
//! |---|---|
//! | text | `01`, taken (8), number (8), length (4), the text as UTF-8, zeros |
//! | taken | `02`, taken (8) |
//! | leave | `03`, taken (8) |
//! | stop | `04`, taken (8) |
//! | note | `05`, and as a text: JSON of what is said about files |
//!
//! `taken` is the number of the last of the receiver's texts that the sender's program has taken, so every frame
//! acknowledges. Texts are numbered from 1 in each direction. So many zeros stand behind a text that the length of the
//! whole tells little. A frame of another kind or length, a text that is not UTF-8, and anything but zeros behind one
//! is malformed, and counts as a text that does not open.
//!
//! `resume` in a hello is a [`ChatPosition`]: instance (16), other (16), received (8).

use super::random;

/// One message of the data channel once it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// How far the sender's program has taken the receiver's texts.
    pub taken: u64,
    /// What else it says.
    pub body: Body,
}

/// What a frame is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A text with its number.
    Text(u64, String),
    /// A word about files, with its number among the texts.
    Note(u64, String),
    /// Nothing but the acknowledgement.
    Taken,
    /// The sender ends the chat, and not by accident.
    Leave,
    /// The sender's program can take no more, and has taken nothing beyond what the frame acknowledges: the rest is to
    /// be sent to the next program that carries the chat on.
    Stop,
}

impl Frame {
    /// The bytes of a text, of which a channel takes at most `largest`.
    pub fn text(taken: u64, number: u64, text: &str, largest: usize) -> Vec<u8> {
        Self::numbered(TEXT, taken, number, text, largest)
    }

    /// The bytes of a word about files, likewise.
    pub fn note(taken: u64, number: u64, note: &str, largest: usize) -> Vec<u8> {
        Self::numbered(NOTE, taken, number, note, largest)
    }

    fn numbered(kind: u8, taken: u64, number: u64, text: &str, largest: usize) -> Vec<u8> {
        let length = TEXT_EXTRA_BYTES + text.len();
        let mut bytes = Vec::with_capacity(padded(length, largest));
        bytes.push(kind);
        bytes.extend(taken.to_be_bytes());
        bytes.extend(number.to_be_bytes());
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.as_bytes());
        bytes.resize(padded(length, largest), 0);
        bytes
    }

    /// The bytes of an acknowledgement.
    pub fn taken(taken: u64) -> Vec<u8> {
        [&[TAKEN], &taken.to_be_bytes()[..]].concat()
    }

    /// The bytes of a farewell.
    pub fn leave(taken: u64) -> Vec<u8> {
        [&[LEAVE], &taken.to_be_bytes()[..]].concat()
    }

    /// The bytes of the word that nothing more is taken.
    pub fn stop(taken: u64) -> Vec<u8> {
        [&[STOP], &taken.to_be_bytes()[..]].concat()
    }

    /// Reads a frame; `None` for what is malformed.
    pub fn read(bytes: Vec<u8>) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let (taken, rest) = number(rest)?;
        let body = match kind {
            TEXT | NOTE => {
                let (number, rest) = number(rest)?;
                let (length, rest) = rest.split_first_chunk()?;
                let (text, zeros) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
                zeros.iter().all(|byte| *byte == 0).then_some(())?;
                let text = str::from_utf8(text).ok()?.to_owned();
                if kind == TEXT { Body::Text(number, text) } else { Body::Note(number, text) }
            }
            TAKEN if rest.is_empty() => Body::Taken,
            LEAVE if rest.is_empty() => Body::Leave,
            STOP if rest.is_empty() => Body::Stop,
            _ => return None,
        };
        Some(Self { taken, body })
    }
}

/// How long a text frame of `length` bytes is made where a channel takes at most `largest`.
fn padded(length: usize, largest: usize) -> usize {
    let step = if length <= COARSE { length.next_power_of_two() } else { (1 << length.ilog2()) / STEPS };
    length.next_multiple_of(step).max(SHORTEST).min(largest).max(length)
}

/// A number in front of bytes, as it stands in all frames, and the rest.
pub(super) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

/// Tells one side of one chat from all others: random, and made anew for each chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Instance([u8; 16]);

impl Instance {
    /// Makes a fresh one.
    pub fn generate() -> Self {
        let mut bytes = [0; 16];
        random::fill(&mut bytes);
        Self(bytes)
    }
}

/// Where one side is in a chat, as its hello says. A chat goes on where both sides name the same two instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatPosition {
    /// The sender's instance.
    pub instance: Instance,
    /// The instance that it knows of the receiver; zeros where it knows none.
    pub other: Instance,
    /// The number of the last of the receiver's texts that it has.
    pub received: u64,
}

impl ChatPosition {
    /// Where somebody is that has said nothing of it, and carries nothing on.
    pub fn nowhere() -> Self {
        Self { instance: Instance::default(), other: Instance::default(), received: 0 }
    }

    /// The position as it stands in a hello.
    pub fn to_bytes(self) -> Vec<u8> {
        [&self.instance.0[..], &self.other.0, &self.received.to_be_bytes()].concat()
    }

    /// Reads a position; `None` where there are not exactly its 40 bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (instance, rest) = bytes.split_first_chunk()?;
        let (other, rest) = rest.split_first_chunk()?;
        let (received, rest) = number(rest)?;
        rest.is_empty().then_some(Self { instance: Instance(*instance), other: Instance(*other), received })
    }
}

/// How many bytes a frame adds to a text, at least.
pub(crate) const TEXT_EXTRA_BYTES: usize = 21;

/// How long text frames are: so many bytes at least, then a power of two; and beyond the second of these one of so many
/// steps from each power of two to the next.
const SHORTEST: usize = 256;
const COARSE: usize = 4096;
const STEPS: usize = 8;

const TEXT: u8 = 1;
const TAKEN: u8 = 2;
const LEAVE: u8 = 3;
const STOP: u8 = 4;
const NOTE: u8 = 5;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    #[test]
    fn frames_are_those_of_the_protocol() {
        let text = Frame::text(3, 258, "hé", 1000);
        let expected = format!("010000000000000003000000000000010200000003{}{}", "68c3a9", "00".repeat(256 - 24));
        assert_eq!(hex(&text), expected);
        assert_eq!(Frame::read(text), Some(Frame { taken: 3, body: Body::Text(258, "hé".to_owned()) }));
        let note = Frame::note(3, 258, "hé", 1000);
        assert_eq!(hex(&note), expected.replacen("01", "05", 1));
        assert_eq!(Frame::read(note), Some(Frame { taken: 3, body: Body::Note(258, "hé".to_owned()) }));
        assert_eq!(hex(&Frame::taken(u64::MAX)), "02ffffffffffffffff");
        assert_eq!(Frame::read(Frame::taken(u64::MAX)), Some(Frame { taken: u64::MAX, body: Body::Taken }));
        assert_eq!(hex(&Frame::leave(0)), "030000000000000000");
        assert_eq!(Frame::read(Frame::leave(0)), Some(Frame { taken: 0, body: Body::Leave }));
        assert_eq!(hex(&Frame::stop(7)), "040000000000000007");
        assert_eq!(Frame::read(Frame::stop(7)), Some(Frame { taken: 7, body: Body::Stop }));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let head = format!("01{}{}", "00".repeat(7) + "01", "00".repeat(7) + "02");
        let text = |rest: &str| head.clone() + rest;
        let malformed = ["", "00", "01", "0100000000000000", "01000000000000000300000000000001", "0200000000000000"];
        // A length that is cut off, beyond the frame, short of the text, in the middle of a character.
        let lengths =
            ["", "000000", "00000001", "0000000278", "ffffffff78", "000000017879", "00000001c3a9", "0000000078"];
        let malformed = malformed.map(str::to_owned).into_iter().chain(lengths.map(text));
        for bytes in malformed {
            assert_eq!(Frame::read(data_encoding::HEXLOWER.decode(bytes.as_bytes()).unwrap()), None, "{bytes}");
        }
        assert!(Frame::read(data_encoding::HEXLOWER.decode(text("00000001780000").as_bytes()).unwrap()).is_some());
        for (frame, more) in
            [(Frame::taken(1), 0), (Frame::leave(1), 0), (Frame::stop(1), 0), (Frame::text(1, 1, "", 1000), 0xff)]
        {
            assert_eq!(Frame::read([frame, vec![more]].concat()), None);
        }
        assert_eq!(Frame::read([&[6][..], &[0; 8]].concat()), None, "a kind that nobody knows");
    }

    #[test]
    fn the_length_of_a_text_frame_tells_little_and_is_no_more_than_the_channel_takes() {
        let length = |bytes: usize, largest: usize| Frame::text(1, 1, &"x".repeat(bytes), largest).len();
        for (bytes, expected) in [(0, 256), (235, 256), (236, 512), (491, 512), (492, 1024), (4000, 4096), (4075, 4096)]
        {
            assert_eq!(length(bytes, 196_568), expected, "{bytes}");
        }
        for (bytes, expected) in [
            (4076, 4608),
            (4587, 4608),
            (5000, 5120),
            (8171, 8192),
            (8172, 9216),
            (60_000, 61_440),
            (65_515, 65_536),
            (65_516, 73_728),
        ] {
            assert_eq!(length(bytes, 196_568), expected, "{bytes}");
        }
        let all: BTreeSet<usize> = (0..=196_547).map(|bytes| padded(bytes + TEXT_EXTRA_BYTES, 196_568)).collect();
        assert_eq!(all.len(), 49, "so many lengths are told apart");
        for bytes in COARSE..=196_547 {
            let length = bytes + TEXT_EXTRA_BYTES;
            assert!(padded(length, 196_568) < length + length / STEPS, "at most an eighth more: {bytes}");
        }
        assert_eq!([length(60_000, 60_100), length(60_000, 0)], [60_100, 60_021], "as much as there is room for");
        for bytes in [0, 1, 235, 236, 5000] {
            let text = "x".repeat(bytes);
            let read = Frame::read(Frame::text(7, 9, &text, 196_568)).unwrap();
            assert_eq!(read, Frame { taken: 7, body: Body::Text(9, text) });
        }
    }

    #[test]
    fn a_place_is_that_of_the_protocol() {
        let position = ChatPosition { instance: Instance([0xaa; 16]), other: Instance::default(), received: 0x1234 };
        let bytes = position.to_bytes();
        assert_eq!(hex(&bytes), format!("{}{}0000000000001234", "aa".repeat(16), "00".repeat(16)));
        assert_eq!(ChatPosition::read(&bytes), Some(position));
        for bytes in [&bytes[..39], &[&bytes[..], &[0]].concat(), &[]] {
            assert_eq!(ChatPosition::read(bytes), None);
        }
        assert_ne!(Instance::generate(), Instance::generate());
    }
}
