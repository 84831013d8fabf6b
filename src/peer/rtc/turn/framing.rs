//! TURN over a stream: each message says itself how long it is, so the datagrams of UDP go over TCP and TLS one behind
//! the other (RFC 8656, section 2.1). STUN has its length in its header; ChannelData too, and is padded to four bytes.
//! Pure.

/// A datagram as it goes over a stream to a TURN server, or `None` if that is none of TURN's. Such as a check of ICE
/// would mean nothing there, and what does not say its own length would make nonsense of all that follows.
pub fn framed(datagram: &[u8]) -> Option<Vec<u8>> {
    let kind = Kind::of(datagram)?;
    let is_whole = match kind {
        Kind::Stun { method, .. } => method != BINDING && datagram.len() == kind.length(),
        // Over UDP the padding may be there or not (RFC 8656, section 12.5).
        Kind::ChannelData { .. } => [kind.length(), kind.padded()].contains(&datagram.len()),
    };
    is_whole.then(|| {
        let mut padded = datagram.to_vec();
        padded.resize(kind.padded(), 0);
        padded
    })
}

/// Whether this asks a TURN server for something. What is lost over UDP is asked again, in the same bytes; a stream
/// loses nothing (RFC 8489, section 6.2.2).
pub fn is_request(message: &[u8]) -> bool {
    matches!(Kind::of(message), Some(Kind::Stun { is_request: true, .. }))
}

/// The datagrams that come over a stream.
#[derive(Debug, Default)]
pub struct Unframed {
    /// What has come and was not taken: whole messages, and the beginning of one more.
    bytes: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
}

/// What came is no TURN, so where the next message would begin is not known.
#[derive(Debug, PartialEq, Eq)]
pub struct Garbage;

impl Unframed {
    /// Takes what has come, in whatever pieces.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, without its padding, if it is whole.
    ///
    /// # Errors
    /// The stream is of no more use.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Garbage> {
        let rest = &self.bytes[self.taken..];
        if rest.len() < HEADER {
            return Ok(None);
        }
        let kind = match Kind::of(rest) {
            Some(kind) => kind,
            // A header of STUN may be on its way still.
            None if rest[0] < CHANNELS && rest.len() < STUN_HEADER => return Ok(None),
            None => return Err(Garbage),
        };
        if rest.len() < kind.padded() {
            return Ok(None);
        }
        let message = rest[..kind.length()].to_vec();
        self.taken += kind.padded();
        Ok(Some(message))
    }
}

/// What a message says of itself at its head.
enum Kind {
    Stun { method: u16, is_request: bool, length: u16 },
    ChannelData { length: u16 },
}

impl Kind {
    /// Reads the head of a message (RFC 8489, section 5; RFC 8656, section 12.4).
    fn of(bytes: &[u8]) -> Option<Self> {
        let &[first, second, high, low, ..] = bytes else { return None };
        let (number, length) = (u16::from_be_bytes([first, second]), u16::from_be_bytes([high, low]));
        match first {
            0..CHANNELS => {
                let is_stun = bytes.get(HEADER..STUN_HEADER)?.starts_with(&MAGIC) && length % 4 == 0;
                is_stun.then_some(Self::Stun { method: number & METHOD, is_request: number & CLASS == 0, length })
            }
            CHANNELS..=LAST_CHANNELS => Some(Self::ChannelData { length }),
            _ => None,
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Stun { length, .. } => STUN_HEADER + usize::from(*length),
            Self::ChannelData { length } => HEADER + usize::from(*length),
        }
    }

    /// Its length on a stream.
    fn padded(&self) -> usize {
        self.length().next_multiple_of(4)
    }
}

/// Bytes of the head of ChannelData, and of STUN.
const HEADER: usize = 4;
const STUN_HEADER: usize = 20;

/// The first byte of ChannelData, from and to; below it is STUN.
const CHANNELS: u8 = 0x40;
const LAST_CHANNELS: u8 = 0x4f;

/// What is in every STUN message.
const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

// The bits of a STUN message's type that tell its class and its method, and the method that is not TURN's.
const CLASS: u16 = 0x0110;
const METHOD: u16 = 0x3eef;
const BINDING: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn stun(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = body.len() as u16;
        [&kind.to_be_bytes()[..], &length.to_be_bytes(), &MAGIC, &[7; 12], body].concat()
    }

    const ALLOCATE: u16 = 3;
    const ALLOCATE_SUCCESS: u16 = 0x103;

    /// All messages and the end, if there is one, where the bytes come in pieces of this length.
    fn messages(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Result<(), Garbage>) {
        let (mut unframed, mut messages) = (Unframed::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            unframed.receive(piece);
            loop {
                match unframed.next() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(garbage) => return (messages, Err(garbage)),
                }
            }
        }
        (messages, Ok(()))
    }

    #[test]
    fn messages_are_the_same_byte_by_byte_and_in_one_piece() {
        let sent = [
            stun(ALLOCATE_SUCCESS, &[1; 24]),
            vec![0x40, 0, 0, 5, 1, 2, 3, 4, 5],
            vec![0x4f, 0xff, 0, 0],
            stun(ALLOCATE_SUCCESS, &[]),
            [&[0x40, 0, 0xff, 0xff][..], &[9; 0xffff]].concat(),
            vec![0x40, 1, 0, 4, 1, 2, 3, 4],
        ];
        let stream: Vec<u8> = sent.iter().flat_map(|message| framed(message).unwrap()).collect();
        for piece in [1, 2, 3, 4, 7, 19, 1000, stream.len()] {
            assert_eq!(messages(&stream, piece), (sent.to_vec(), Ok(())), "in pieces of {piece}");
        }
        // What is not whole waits.
        assert_eq!(messages(&stream[..stream.len() - 1], 64).0.len(), sent.len() - 1);
    }

    #[test]
    fn garbage_is_the_end_as_soon_as_it_is_known() {
        let good = stun(ALLOCATE_SUCCESS, &[]);
        for bad in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            &[0x15, 3, 3, 0, 2, 2, 70, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x50, 0, 0, 0],
            &[0xff; 4],
            &[0; 20],
            // A length that no STUN message has.
            &[&[1, 3, 0, 2][..], &MAGIC, &[7; 12]].concat(),
        ] {
            let stream = [&good, bad].concat();
            for piece in [1, stream.len()] {
                assert_eq!(messages(&stream, piece), (vec![good.clone()], Err(Garbage)), "{bad:?}");
            }
        }
    }

    #[test]
    fn whatever_comes_does_no_harm() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let mut bytes = vec![0; random.usize(..200)];
            random.fill(&mut bytes);
            if let [first, ..] = &mut *bytes {
                // Most would otherwise end with the first byte.
                *first &= 0x4f;
            }
            let whole = messages(&bytes, bytes.len().max(1));
            assert_eq!(messages(&bytes, 1), whole);
            assert!(whole.0.iter().map(Vec::len).sum::<usize>() <= bytes.len());
            framed(&bytes);
            is_request(&bytes);
        }
    }

    #[test]
    fn nothing_goes_over_a_stream_but_what_is_turns_and_whole() {
        assert_eq!(framed(&stun(ALLOCATE, &[1; 4])), Some(stun(ALLOCATE, &[1; 4])));
        let padded = vec![0x40, 0, 0, 1, 9, 0, 0, 0];
        assert_eq!(framed(&padded[..5]), Some(padded.clone()));
        assert_eq!(framed(&padded), Some(padded));
        for other in [
            // Checks of ICE, DTLS, and what is cut short or too long.
            &stun(0x001, &[])[..],
            &stun(0x101, &[]),
            &stun(0x011, &[]),
            &[22, 254, 253, 0, 0],
            &[],
            &[0x40, 0, 0],
            &[0x40, 0, 0, 2, 1],
            &[0x40, 0, 0, 2, 1, 2, 3],
            &[0x50, 0, 0, 0],
            &stun(ALLOCATE, &[1; 4])[..20],
            &[&stun(ALLOCATE, &[])[..], &[0; 4]].concat(),
        ] {
            assert_eq!(framed(other), None, "{other:?}");
        }
    }

    #[test]
    fn requests_are_told_from_indications_answers_and_data() {
        assert!(is_request(&stun(ALLOCATE, &[])));
        for other in [stun(0x016, &[]), stun(ALLOCATE_SUCCESS, &[]), stun(0x113, &[]), vec![0x40, 0, 0, 0]] {
            assert!(!is_request(&other));
        }
    }
}
