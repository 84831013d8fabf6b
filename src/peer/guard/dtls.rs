//! What of the other side's datagrams reaches DTLS before there is a key, or beside it: whoever calls can write these.
//! DTLS keeps each fragment of a message of its handshake, and puts them together by as many calls within calls as
//! there are fragments. So they are counted, but only where they come from a source that is known: else a stranger
//! could use up what the other side needs.

use super::sources::{DATA, attribute};

/// What has come of a DTLS handshake so far.
#[derive(Debug, Default)]
pub struct DtlsHandshake {
    fragments: usize,
    small_fragments: usize,
    early: usize,
}

impl DtlsHandshake {
    /// Whether a datagram may be passed on. `is_open`: a record of the other side has been opened with a key.
    pub fn admits(&mut self, datagram: &[u8], is_open: bool) -> bool {
        match datagram.first() {
            // Through a relay it is wrapped (RFC 8656, sections 12.4 and 11.6).
            Some(64..=79) => datagram.get(4..).is_none_or(|inner| self.admits_inner(inner, is_open)),
            Some(0) if datagram.starts_with(&DATA_INDICATION) => {
                attribute(datagram, DATA).is_none_or(|inner| self.admits_inner(inner, is_open))
            }
            _ => self.admits_inner(datagram, is_open),
        }
    }

    /// Tells them apart by their first byte (RFC 7983, section 7).
    fn admits_inner(&mut self, datagram: &[u8], is_open: bool) -> bool {
        match datagram.first() {
            Some(20..=63) => self.admits_records(datagram, is_open),
            // There is no media in a chat.
            Some(128..=191) => false,
            _ => true,
        }
    }

    fn admits_records(&mut self, mut rest: &[u8], is_open: bool) -> bool {
        while let Some(head) = rest.get(..RECORD_HEADER) {
            let length = usize::from(u16::from_be_bytes([head[11], head[12]]));
            let Some(content) = rest.get(RECORD_HEADER..RECORD_HEADER + length) else { break };
            let is_plain = head[3..5] == [0, 0];
            let is_admitted = match (is_plain, head[0]) {
                (true, HANDSHAKE) => self.admits_fragments(content),
                (true, _) => self.count(),
                // What comes before its key is kept for later.
                (false, _) => is_open || self.early(),
            };
            if !is_admitted {
                return false;
            }
            rest = &rest[RECORD_HEADER + length..];
        }
        true
    }

    fn admits_fragments(&mut self, mut rest: &[u8]) -> bool {
        while let Some(head) = rest.get(..FRAGMENT_HEADER) {
            let number =
                |at: usize| usize::from(head[at]) << 16 | usize::from(head[at + 1]) << 8 | usize::from(head[at + 2]);
            let (length, start, fragment) = (number(1), number(6), number(9));
            let is_last = start + fragment == length;
            let is_sound = length <= MAX_HANDSHAKE && (is_last || fragment > 0 && start + fragment < length);
            let is_small = !is_last && fragment < SMALL_FRAGMENT;
            if !is_sound || !self.count() || is_small && !self.count_small() {
                return false;
            }
            rest = rest.get(FRAGMENT_HEADER + fragment..).unwrap_or_default();
        }
        true
    }

    fn count(&mut self) -> bool {
        self.fragments += 1;
        self.fragments <= MAX_FRAGMENTS
    }

    fn count_small(&mut self) -> bool {
        self.small_fragments += 1;
        self.small_fragments <= MAX_SMALL_FRAGMENTS
    }

    fn early(&mut self) -> bool {
        self.early += 1;
        self.early <= MAX_EARLY
    }
}

/// The longest message of a DTLS handshake, in bytes. A certificate of WebRTC has some hundred.
const MAX_HANDSHAKE: usize = 16_384;

/// A fragment that is no last one and shorter than this is what was left of the room in a datagram, which OpenSSL fills
/// up with the beginning of the next message. A flight has one or two of them, and is repeated a dozen times at most.
const SMALL_FRAGMENT: usize = 128;
const MAX_SMALL_FRAGMENTS: usize = 64;

/// The most fragments, in the lifetime of a connection. A handshake has a dozen, and repeats them a dozen times at
/// most.
const MAX_FRAGMENTS: usize = 512;

/// The most records that may come before their key is known.
const MAX_EARLY: usize = 128;

/// The length of a record's header, and of a fragment's (RFC 6347, sections 4.1 and 4.2.2).
const RECORD_HEADER: usize = 13;
const FRAGMENT_HEADER: usize = 12;

/// The type of a record of a DTLS handshake.
const HANDSHAKE: u8 = 22;

/// The type of a Data indication (RFC 8656, section 17).
const DATA_INDICATION: [u8; 2] = [0x00, 0x17];

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u16).to_be_bytes();
        [&[kind, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 0], &length[..], content].concat()
    }

    fn fragment(length: u32, start: u32, content: &[u8]) -> Vec<u8> {
        let three = |number: u32| number.to_be_bytes()[1..].to_vec();
        [&[11], &three(length)[..], &[0, 2], &three(start), &three(content.len() as u32), content].concat()
    }

    fn admits(datagram: &[u8]) -> bool {
        DtlsHandshake::default().admits(datagram, false)
    }

    #[test]
    fn a_handshake_passes_whole_or_in_fragments() {
        let whole = record(22, 0, &fragment(300, 0, &[7; 300]));
        assert!(admits(&whole));
        assert!(admits(&[&whole[..], &record(22, 0, &fragment(0, 0, &[])), &record(20, 0, &[1])].concat()));
        assert!(
            admits(&record(22, 0, &fragment(3000, 0, &[7; 1100])))
                && admits(&record(22, 0, &fragment(3000, 2200, &[7; 800])))
        );
        assert!(admits(&[0, 1, 0, 0]) && admits(&[]));
    }

    #[test]
    fn a_message_may_begin_in_the_little_room_that_is_left_of_a_datagram() {
        // So aiortc sends its CertificateVerify behind its certificate.
        let [first, last] =
            [fragment(76, 0, &[7; 28]), fragment(76, 28, &[7; 48])].map(|fragment| record(22, 0, &fragment));
        assert!(admits(&[first, last].concat()));
    }

    #[test]
    fn many_small_fragments_of_a_handshake_and_media_are_dropped_through_a_relay_too() {
        let small = record(22, 0, &fragment(9000, 5, &[7]));
        let channel = [&[0x40, 0, 0, small.len() as u8], &small[..]].concat();
        let head =
            [&[0, 0x17, 0, 0][..], &[0; 16], &[0, 0x12, 0, 2, 9, 9, 0, 0], &[0, 0x13, 0, small.len() as u8]].concat();
        let indication = [&head[..], &small].concat();
        let whole_and_small = record(22, 0, &[fragment(3, 0, &[7; 3]), fragment(9000, 5, &[7])].concat());
        let mut handshake = DtlsHandshake::default();
        assert_eq!((0..1000).filter(|_| handshake.admits(&small, false)).count(), MAX_SMALL_FRAGMENTS);
        for datagram in [small, channel, indication, whole_and_small] {
            assert!(!handshake.admits(&datagram, false), "{datagram:02x?}");
        }
        let nothing = record(22, 0, &fragment(9000, 5, &[]));
        let beyond = record(22, 0, &fragment(200, 100, &[7; 150]));
        for datagram in [record(22, 0, &fragment(1 << 20, 0, &[7; 900])), vec![0x80, 0], nothing, beyond] {
            assert!(!admits(&datagram), "{datagram:02x?}");
        }
    }

    #[test]
    fn fragments_and_what_comes_too_early_are_counted() {
        let mut handshake = DtlsHandshake::default();
        let fragment = record(22, 0, &fragment(3, 0, &[7; 3]));
        assert_eq!((0..1000).filter(|_| handshake.admits(&fragment, true)).count(), MAX_FRAGMENTS);
        let early = record(23, 1, &[7; 40]);
        assert_eq!((0..1000).filter(|_| handshake.admits(&early, false)).count(), MAX_EARLY);
        assert!((0..1000).all(|_| handshake.admits(&early, true)));
    }
}
