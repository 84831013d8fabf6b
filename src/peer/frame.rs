//! What is inside the box between two peers that both have the feature `ack`: frames instead of bare texts (protocol 2.7), and
//! what a proof says of the chat beside its hash (protocol 2.8). Numbers are big-endian.
//!
//! | frame | bytes |
//! |---|---|
//! | text | `01`, taken (8), number (8), the text as UTF-8 |
//! | taken | `02`, taken (8) |
//! | leave | `03`, taken (8) |
//! | stop | `04`, taken (8) |
//!
//! `taken` is the number of the last of the receiver's texts that the sender's program has taken, so every frame
//! acknowledges. Texts are numbered from 1 in each direction. A frame of another kind or length, and a text that is not UTF-8, is
//! malformed, and counts as a text that does not open.
//!
//! Behind the 64 bytes of its hash, the box of a proof holds the [`Place`]: instance (16), other (16), received (8).

use crypto_box::aead::OsRng;
use crypto_box::aead::rand_core::RngCore;

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
    /// Nothing but the acknowledgement.
    Taken,
    /// The sender ends the chat, and not by accident.
    Leave,
    /// The sender's program can take no more, and has taken nothing beyond what the frame acknowledges: the rest is to be sent to
    /// the next program that carries the chat on.
    Stop,
}

impl Frame {
    /// The bytes of a text.
    pub fn text(taken: u64, number: u64, text: &str) -> Vec<u8> {
        [&[TEXT], &taken.to_be_bytes()[..], &number.to_be_bytes(), text.as_bytes()].concat()
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
            TEXT => {
                let (number, text) = number(rest)?;
                Body::Text(number, str::from_utf8(text).ok()?.to_owned())
            }
            TAKEN if rest.is_empty() => Body::Taken,
            LEAVE if rest.is_empty() => Body::Leave,
            STOP if rest.is_empty() => Body::Stop,
            _ => return None,
        };
        Some(Self { taken, body })
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

/// By which one side of a chat is told from all others: random, and made anew for each chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Instance([u8; 16]);

impl Instance {
    /// Makes a fresh one.
    pub fn generate() -> Self {
        let mut bytes = [0; 16];
        OsRng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

/// Where one side is in a chat, as its proof says. A chat goes on where both sides name the same two instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The sender's instance.
    pub instance: Instance,
    /// The instance that it knows of the receiver; zeros where it knows none.
    pub other: Instance,
    /// The number of the last of the receiver's texts that it has.
    pub received: u64,
}

impl Place {
    /// The place as it stands in a proof.
    pub fn to_bytes(self) -> Vec<u8> {
        [&self.instance.0[..], &self.other.0, &self.received.to_be_bytes()].concat()
    }

    /// Reads a place; `None` where there are not exactly its 40 bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (instance, rest) = bytes.split_first_chunk()?;
        let (other, rest) = rest.split_first_chunk()?;
        let (received, rest) = number(rest)?;
        rest.is_empty().then_some(Self { instance: Instance(*instance), other: Instance(*other), received })
    }
}

/// How many bytes a frame adds to a text.
pub const TEXT_EXTRA_BYTES: usize = 17;

const TEXT: u8 = 1;
const TAKEN: u8 = 2;
const LEAVE: u8 = 3;
const STOP: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    #[test]
    fn frames_are_those_of_the_protocol() {
        let text = Frame::text(3, 258, "hé");
        assert_eq!(hex(&text), "010000000000000003000000000000010268c3a9");
        assert_eq!(text.len(), "hé".len() + TEXT_EXTRA_BYTES);
        assert_eq!(Frame::read(text), Some(Frame { taken: 3, body: Body::Text(258, "hé".to_owned()) }));
        assert_eq!(hex(&Frame::taken(u64::MAX)), "02ffffffffffffffff");
        assert_eq!(Frame::read(Frame::taken(u64::MAX)), Some(Frame { taken: u64::MAX, body: Body::Taken }));
        assert_eq!(hex(&Frame::leave(0)), "030000000000000000");
        assert_eq!(Frame::read(Frame::leave(0)), Some(Frame { taken: 0, body: Body::Leave }));
        assert_eq!(hex(&Frame::stop(7)), "040000000000000007");
        assert_eq!(Frame::read(Frame::stop(7)), Some(Frame { taken: 7, body: Body::Stop }));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let malformed = ["", "00", "01", "0100000000000000", "01000000000000000300000000000001", "0200000000000000"];
        for bytes in malformed {
            assert_eq!(Frame::read(data_encoding::HEXLOWER.decode(bytes.as_bytes()).unwrap()), None, "{bytes}");
        }
        for (frame, more) in
            [(Frame::taken(1), 0), (Frame::leave(1), 0), (Frame::stop(1), 0), (Frame::text(1, 1, ""), 0xff)]
        {
            assert_eq!(Frame::read([frame, vec![more]].concat()), None);
        }
        assert_eq!(Frame::read([&[5][..], &[0; 8]].concat()), None, "a kind that nobody knows");
    }

    #[test]
    fn a_place_is_that_of_the_protocol() {
        let place = Place { instance: Instance([0xaa; 16]), other: Instance::default(), received: 0x1234 };
        let bytes = place.to_bytes();
        assert_eq!(hex(&bytes), format!("{}{}0000000000001234", "aa".repeat(16), "00".repeat(16)));
        assert_eq!(Place::read(&bytes), Some(place));
        for bytes in [&bytes[..39], &[&bytes[..], &[0]].concat(), &[]] {
            assert_eq!(Place::read(bytes), None);
        }
        assert_ne!(Instance::generate(), Instance::generate());
    }
}
