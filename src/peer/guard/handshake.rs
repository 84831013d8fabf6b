//! What of the other side's datagrams reaches DTLS before there is a key, or beside it: whoever calls can write these.
//! DTLS keeps each piece of a message of the handshake, and puts them together by as many calls within calls as there
//! are pieces. So they are counted, but only where they come from a source that is known: else a stranger could use up
//! what the other side needs.

use super::sources::{DATA, attribute};

/// What has come of a handshake so far.
#[derive(Debug, Default)]
pub struct Handshake {
    pieces: usize,
    crumbs: usize,
    early: usize,
}

impl Handshake {
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
                (true, HANDSHAKE) => self.admits_pieces(content),
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

    fn admits_pieces(&mut self, mut rest: &[u8]) -> bool {
        while let Some(head) = rest.get(..PIECE_HEADER) {
            let number =
                |at: usize| usize::from(head[at]) << 16 | usize::from(head[at + 1]) << 8 | usize::from(head[at + 2]);
            let (length, start, piece) = (number(1), number(6), number(9));
            let is_last = start + piece == length;
            let is_sound = length <= MAX_HANDSHAKE && (is_last || piece > 0 && start + piece < length);
            let is_crumb = !is_last && piece < SMALL_PIECE;
            if !is_sound || !self.count() || is_crumb && !self.count_crumb() {
                return false;
            }
            rest = rest.get(PIECE_HEADER + piece..).unwrap_or_default();
        }
        true
    }

    fn count(&mut self) -> bool {
        self.pieces += 1;
        self.pieces <= MAX_PIECES
    }

    fn count_crumb(&mut self) -> bool {
        self.crumbs += 1;
        self.crumbs <= MAX_CRUMBS
    }

    fn early(&mut self) -> bool {
        self.early += 1;
        self.early <= MAX_EARLY
    }
}

/// The longest message of a handshake, in bytes. A certificate of WebRTC has some hundred.
const MAX_HANDSHAKE: usize = 16_384;

/// A piece that is no last one and shorter than this is what was left of the room in a datagram, which OpenSSL fills up
/// with the beginning of the next message. A flight has one or two of them, and is repeated a dozen times at most.
const SMALL_PIECE: usize = 128;
const MAX_CRUMBS: usize = 64;

/// The most pieces, in the lifetime of a connection. A handshake has a dozen, and repeats them a dozen times at most.
const MAX_PIECES: usize = 512;

/// The most records that may come before their key is known.
const MAX_EARLY: usize = 128;

/// The length of a record's header, and of a piece's (RFC 6347, sections 4.1 and 4.2.2).
const RECORD_HEADER: usize = 13;
const PIECE_HEADER: usize = 12;

/// The type of a record of a handshake.
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

    fn piece(length: u32, start: u32, content: &[u8]) -> Vec<u8> {
        let three = |number: u32| number.to_be_bytes()[1..].to_vec();
        [&[11], &three(length)[..], &[0, 2], &three(start), &three(content.len() as u32), content].concat()
    }

    fn admits(datagram: &[u8]) -> bool {
        Handshake::default().admits(datagram, false)
    }

    #[test]
    fn a_handshake_passes_whole_or_in_pieces() {
        let whole = record(22, 0, &piece(300, 0, &[7; 300]));
        assert!(admits(&whole));
        assert!(admits(&[&whole[..], &record(22, 0, &piece(0, 0, &[])), &record(20, 0, &[1])].concat()));
        assert!(
            admits(&record(22, 0, &piece(3000, 0, &[7; 1100])))
                && admits(&record(22, 0, &piece(3000, 2200, &[7; 800])))
        );
        assert!(admits(&[0, 1, 0, 0]) && admits(&[]));
    }

    #[test]
    fn a_message_may_begin_in_the_little_room_that_is_left_of_a_datagram() {
        // So aiortc sends its CertificateVerify behind its certificate.
        let [first, last] = [piece(76, 0, &[7; 28]), piece(76, 28, &[7; 48])].map(|piece| record(22, 0, &piece));
        assert!(admits(&[first, last].concat()));
    }

    #[test]
    fn many_crumbs_of_a_handshake_and_media_are_dropped_through_a_relay_too() {
        let crumb = record(22, 0, &piece(9000, 5, &[7]));
        let channel = [&[0x40, 0, 0, crumb.len() as u8], &crumb[..]].concat();
        let head =
            [&[0, 0x17, 0, 0][..], &[0; 16], &[0, 0x12, 0, 2, 9, 9, 0, 0], &[0, 0x13, 0, crumb.len() as u8]].concat();
        let indication = [&head[..], &crumb].concat();
        let whole_and_crumb = record(22, 0, &[piece(3, 0, &[7; 3]), piece(9000, 5, &[7])].concat());
        let mut handshake = Handshake::default();
        assert_eq!((0..1000).filter(|_| handshake.admits(&crumb, false)).count(), MAX_CRUMBS);
        for datagram in [crumb, channel, indication, whole_and_crumb] {
            assert!(!handshake.admits(&datagram, false), "{datagram:02x?}");
        }
        let nothing = record(22, 0, &piece(9000, 5, &[]));
        let beyond = record(22, 0, &piece(200, 100, &[7; 150]));
        for datagram in [record(22, 0, &piece(1 << 20, 0, &[7; 900])), vec![0x80, 0], nothing, beyond] {
            assert!(!admits(&datagram), "{datagram:02x?}");
        }
    }

    #[test]
    fn pieces_and_what_comes_too_early_are_counted() {
        let mut handshake = Handshake::default();
        let piece = record(22, 0, &piece(3, 0, &[7; 3]));
        assert_eq!((0..1000).filter(|_| handshake.admits(&piece, true)).count(), MAX_PIECES);
        let early = record(23, 1, &[7; 40]);
        assert_eq!((0..1000).filter(|_| handshake.admits(&early, false)).count(), MAX_EARLY);
        assert!((0..1000).all(|_| handshake.admits(&early, true)));
    }
}
