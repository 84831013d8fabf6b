//! What goes over the data channel `files` (protocol 2.13): the bytes of files one way, and the other way how far they
//! are on the disk. Each message is a box whose nonce is its number, so none can be left out, come twice or come in
//! another order. Pure.

use std::fmt;
use std::sync::Arc;

use super::super::frame;
use super::super::primitives::{BoxKey, BoxNonce, MAC_BYTES};
use super::note::{Digest, FileId};

/// The keys of one connection for files: ours, and the other side's. Clones are the same.
#[derive(Clone)]
pub struct FileKeys {
    own: Arc<BoxKey>,
    other: Arc<BoxKey>,
}

/// Which way a message goes on a channel: the side that opened it sends files, and the other one says how far they have
/// come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who opened the channel.
    There = 0,
    /// To who opened it.
    Back = 1,
}

/// Seals the messages of one side on one channel, one after another.
#[derive(Debug)]
pub struct Sealer(Numbered);

/// Opens them, in the same order.
#[derive(Debug)]
pub struct Opener(Numbered);

#[derive(Debug)]
struct Numbered {
    key: Arc<BoxKey>,
    way: Way,
    count: u64,
}

/// What a sender says of files.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The bytes of a file follow, as the take with this number asks.
    Begin {
        /// The file's id.
        file: FileId,
        /// The number of the take.
        take: u64,
        /// The first byte that follows: the one that was asked for, or that at the beginning.
        from: u64,
    },
    /// The next bytes of the file that has begun.
    Data(&'a [u8]),
    /// That was all of it.
    End {
        /// Its length in bytes.
        size: u64,
        /// Its digest.
        digest: Digest,
    },
}

/// What a receiver says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneReport {
    /// How many bytes of data the disk has taken in all, since the channel was opened.
    pub taken: u64,
    /// How many may be on their way beyond those.
    pub window: u64,
}

impl FileKeys {
    pub(in crate::peer) fn new(own: BoxKey, other: BoxKey) -> Self {
        Self { own: Arc::new(own), other: Arc::new(other) }
    }

    /// Seals what we say.
    pub fn sealer(&self, way: Way) -> Sealer {
        Sealer(Numbered { key: self.own.clone(), way, count: 0 })
    }

    /// Opens what the other side says.
    pub fn opener(&self, way: Way) -> Opener {
        Opener(Numbered { key: self.other.clone(), way, count: 0 })
    }
}

impl Numbered {
    fn next_nonce(&mut self) -> BoxNonce {
        let mut nonce = BoxNonce::default();
        nonce[0] = self.way as u8;
        nonce[NONCE_COUNT..].copy_from_slice(&self.count.to_be_bytes());
        self.count += 1;
        nonce
    }
}

impl Sealer {
    /// Seals a message.
    pub fn seal(&mut self, message: &Message<'_>) -> Vec<u8> {
        let mut content = Vec::new();
        match message {
            Message::Begin { file, take, from } => {
                content.push(BEGIN);
                content.extend(file.0);
                content.extend(take.to_be_bytes());
                content.extend(from.to_be_bytes());
            }
            Message::Data(bytes) => {
                content.reserve_exact(1 + bytes.len() + MAC_BYTES);
                content.push(DATA);
                content.extend(*bytes);
            }
            Message::End { size, digest } => {
                content.push(END);
                content.extend(size.to_be_bytes());
                content.extend(digest.0);
            }
        }
        self.seal_in_place(content)
    }

    /// Seals a report.
    pub fn seal_report(&mut self, report: LaneReport) -> Vec<u8> {
        self.seal_in_place([report.taken.to_be_bytes(), report.window.to_be_bytes()].concat())
    }

    fn seal_in_place(&mut self, mut content: Vec<u8>) -> Vec<u8> {
        content.extend([0; MAC_BYTES]);
        let nonce = self.0.next_nonce();
        self.0.key.seal_in_place(&nonce, &mut content);
        content
    }
}

impl Opener {
    /// Opens the next message. `None` for what is none, or is not the next one: nothing that comes after it can be
    /// believed.
    pub fn open<'a>(&mut self, sealed: &'a mut [u8]) -> Option<Message<'a>> {
        let (&mut kind, rest) = self.open_in_place(sealed)?.split_first_mut()?;
        match kind {
            BEGIN => {
                let (file, rest) = rest.split_first_chunk()?;
                let (take, rest) = frame::number(rest)?;
                let (from, rest) = frame::number(rest)?;
                rest.is_empty().then_some(Message::Begin { file: FileId(*file), take, from })
            }
            DATA if !rest.is_empty() && rest.len() <= MAX_DATA => Some(Message::Data(rest)),
            END => {
                let (size, digest) = frame::number(rest)?;
                Some(Message::End { size, digest: Digest((*digest).try_into().ok()?) })
            }
            _ => None,
        }
    }

    /// Opens the next report; `None` likewise.
    pub(crate) fn open_report(&mut self, sealed: &mut [u8]) -> Option<LaneReport> {
        let (taken, rest) = frame::number(self.open_in_place(sealed)?)?;
        let (window, rest) = frame::number(rest)?;
        rest.is_empty().then_some(LaneReport { taken, window })
    }

    fn open_in_place<'a>(&mut self, sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let nonce = self.0.next_nonce();
        self.0.key.open_in_place(&nonce, sealed)
    }
}

impl fmt::Debug for FileKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKeys(..)")
    }
}

impl PartialEq for FileKeys {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.own, &other.own)
    }
}

impl Eq for FileKeys {}

/// The most bytes of a file in one message. More are no quicker.
pub const MAX_DATA: usize = 32 * 1024;

/// Where the number of a message stands in its nonce.
const NONCE_COUNT: usize = 16;

const BEGIN: u8 = 1;
const DATA: u8 = 2;
const END: u8 = 3;

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use serde::Deserialize;

    use super::*;

    fn keys() -> [FileKeys; 2] {
        let key = |byte| BoxKey::new(&[byte; 32]);
        [FileKeys::new(key(1), key(2)), FileKeys::new(key(2), key(1))]
    }

    #[test]
    fn what_is_sealed_opens_at_its_place_and_nowhere_else() {
        let [alice, bob] = keys();
        let (mut sealer, mut opener) = (alice.sealer(Way::There), bob.opener(Way::There));
        let begin = Message::Begin { file: FileId([9; 16]), take: 5, from: 7 };
        let end = Message::End { size: u64::MAX, digest: Digest([8; 32]) };
        let sealed = [begin, Message::Data(b"abc"), end].map(|message| sealer.seal(&message));
        for bytes in &sealed[1..] {
            // One is left out.
            assert_eq!(bob.opener(Way::There).open(&mut bytes.clone()), None);
        }
        assert!(bob.opener(Way::Back).open(&mut sealed[0].clone()).is_none(), "the other way");
        assert!(alice.opener(Way::There).open(&mut sealed[0].clone()).is_none(), "its own words");
        let read: Vec<String> =
            sealed.iter().map(|bytes| format!("{:?}", opener.open(&mut bytes.clone()).unwrap())).collect();
        assert_eq!(read[1], format!("{:?}", Message::Data(b"abc")));
        assert!(read[0].contains("take: 5, from: 7") && read[2].contains("size: 18446744073709551615"), "{read:?}");
        assert_eq!(opener.open(&mut sealed[2].clone()), None, "again");
        let report = LaneReport { taken: 3, window: 4 };
        let mut sealed = bob.sealer(Way::Back).seal_report(report);
        assert_eq!(alice.opener(Way::Back).open_report(&mut sealed), Some(report));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let [alice, bob] = keys();
        let open = |content: &[u8]| {
            let mut sealed = alice.sealer(Way::There).seal_in_place(content.to_vec());
            bob.opener(Way::There).open(&mut sealed).is_some()
        };
        let begin = [&[BEGIN][..], &[1; 32]].concat();
        let end = [&[END][..], &[1; 40]].concat();
        for (content, is_one) in [
            (vec![], false),
            (vec![0, 1], false),
            (vec![4, 1], false),
            (vec![DATA], false),
            (vec![DATA, 1], true),
            (vec![DATA; MAX_DATA + 1], true),
            (vec![DATA; MAX_DATA + 2], false),
            (begin[..32].to_vec(), false),
            (begin.clone(), true),
            ([&begin[..], &[0]].concat(), false),
            (end[..40].to_vec(), false),
            (end.clone(), true),
            ([&end[..], &[0]].concat(), false),
        ] {
            assert_eq!(open(&content), is_one, "{} bytes", content.len());
        }
        for length in 0..MAC_BYTES {
            assert!(bob.opener(Way::There).open(&mut vec![0; length]).is_none());
        }
        let mut sealed = alice.sealer(Way::There).seal(&Message::Data(b"abc"));
        *sealed.last_mut().unwrap() ^= 1;
        assert!(bob.opener(Way::There).open(&mut sealed).is_none(), "changed on its way");
    }

    /// What `integration/vectors/files.py` has written, with libsodium.
    #[derive(Deserialize)]
    struct Vectors {
        keys: [String; 2],
        file: String,
        begin: String,
        data: String,
        end: String,
        digest: String,
        report: String,
    }

    #[test]
    fn the_boxes_are_those_of_libsodium() {
        let vectors: Vectors = serde_json::from_str(include_str!("../../../integration/vectors/files.json")).unwrap();
        let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).unwrap();
        let key = |side: usize| BoxKey::new(&bytes(&vectors.keys[side]).try_into().unwrap());
        let [caller, called] = [(0, 1), (1, 0)].map(|(own, other)| FileKeys::new(key(own), key(other)));
        let file = FileId(bytes(&vectors.file).try_into().unwrap());
        let digest = Digest(bytes(&vectors.digest).try_into().unwrap());
        let mut sealer = caller.sealer(Way::There);
        let begin = Message::Begin { file, take: 2, from: 4_294_967_296 };
        for (message, expected) in [
            (begin, &vectors.begin),
            (Message::Data("grüße".as_bytes()), &vectors.data),
            (Message::End { size: 4_294_967_303, digest }, &vectors.end),
        ] {
            assert_eq!(sealer.seal(&message), bytes(expected), "{message:?}");
        }
        let report = called.sealer(Way::Back).seal_report(LaneReport { taken: 7, window: 1_048_576 });
        assert_eq!(report, bytes(&vectors.report));
    }
}
