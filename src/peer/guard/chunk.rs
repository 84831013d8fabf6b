//! The chunks of an SCTP packet, with every length in them checked (RFC 9260, section 3). WebRTC computes where a chunk
//! ends from what it has read of it, so a chunk counts as sound only where that comes to the length that it says.

/// A chunk that a chat may need.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// A piece of a message.
    Data(Data<'a>),
    /// The first word of the side that begins the association.
    Init(Opening),
    /// The answer to it.
    InitAck(Opening),
    /// What the other side has of our data.
    Sack,
    /// A sign of life that is to be echoed.
    Heartbeat,
    /// The end, without more ado.
    Abort,
    /// Streams begin anew (RFC 6525, section 4.1).
    Reset(Reset<'a>),
    /// The answer to that, or one of the chunks of the handshake or the end that hold nothing of interest.
    Other,
}

/// Who begins or answers an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The tag that is to stand in what it is sent.
    pub tag: u32,
    /// The number of its first piece of data.
    pub tsn: u32,
}

/// A piece of a message (RFC 9260, section 3.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    /// Its number in the association.
    pub tsn: u32,
    /// The stream that it belongs to.
    pub stream: u16,
    /// The number of its message in the stream.
    pub ssn: u16,
    /// What the message is to the data channel (RFC 8831, section 8).
    pub protocol: u32,
    /// Whether it is the first piece of its message.
    pub is_first: bool,
    /// Whether it is the last.
    pub is_last: bool,
    /// Whether the message has no place in the order of its stream.
    pub is_unordered: bool,
    /// What it holds.
    pub content: &'a [u8],
}

/// A wish to begin streams anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset<'a> {
    /// The number of the wish.
    pub number: u32,
    /// After which piece of data it is to be done.
    pub after: u32,
    /// The streams, two bytes each.
    pub streams: &'a [u8],
}

/// Why a packet is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It is of no use to a chat, and no fault either.
    Unneeded,
    /// There is no room for what it holds; it is welcome later.
    Full,
    /// It is what no side that keeps to the rules sends to us; in what way.
    Violation(&'static str),
}

use Rejection::{Unneeded, Violation};

/// The tag that a packet carries.
///
/// # Errors
/// The packet is too short to be one, or longer than any that a network carries to a chat.
pub fn tag(packet: &[u8]) -> Result<u32, Rejection> {
    match packet.len() {
        ..SHORTEST => Err(Violation("a packet that is too short")),
        SHORTEST..=MAX_PACKET => Ok(long(packet, 4)),
        _ => Err(Violation("a packet that is too long")),
    }
}

/// The chunks of a packet that has a [`tag`].
pub fn chunks(packet: &[u8]) -> Chunks<'_> {
    Chunks { rest: packet.get(HEADER..).unwrap_or_default(), count: 0, unique: 0 }
}

/// An iterator over chunks, which ends after the first that is not sound.
pub struct Chunks<'a> {
    rest: &'a [u8],
    count: usize,
    /// Of which kinds that come once in a packet there was one.
    unique: u8,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, Rejection>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let chunk = self.take();
        if chunk.is_err() {
            self.rest = &[];
        }
        Some(chunk)
    }
}

impl<'a> Chunks<'a> {
    fn take(&mut self) -> Result<Chunk<'a>, Rejection> {
        self.count += 1;
        if self.count > MAX_CHUNKS {
            return Err(Violation("too many chunks in a packet"));
        }
        let [kind, flags, high, low, ..] = *self.rest else { return Err(Violation("a chunk that is cut off")) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let padded = padded(length);
        if length < CHUNK_HEADER || padded > self.rest.len() {
            return Err(Violation("a chunk with a false length"));
        }
        let value = &self.rest[CHUNK_HEADER..length];
        let is_alone = self.count == 1 && padded == self.rest.len();
        self.rest = &self.rest[padded..];
        if matches!(kind, INIT | INIT_ACK) && !is_alone {
            return Err(Violation("an opening that is not alone in its packet"));
        }
        let unique = match kind {
            SACK => 1,
            HEARTBEAT => 2,
            RECONFIG => 4,
            _ => 0,
        };
        if self.unique & unique != 0 {
            return Err(Violation("two chunks in a packet of which one is enough"));
        }
        self.unique |= unique;
        read(kind, flags, value)
    }
}

fn read(kind: u8, flags: u8, value: &[u8]) -> Result<Chunk<'_>, Rejection> {
    match kind {
        DATA => data(flags, value),
        INIT => opening(flags, value).map(Chunk::Init),
        INIT_ACK => opening(flags, value).map(Chunk::InitAck),
        SACK => sack(value),
        HEARTBEAT => match parameter(value) {
            Some((HEARTBEAT_INFO, _, [])) => Ok(Chunk::Heartbeat),
            _ => Err(Violation("a malformed HEARTBEAT")),
        },
        ABORT => causes(value).map(|()| Chunk::Abort),
        // WebRTC would end the association, which an error does not ask for (RFC 9260, section 3.3.10).
        ERROR => causes(value).and(Err(Unneeded)),
        RECONFIG => reconfig(value),
        COOKIE_ECHO => Ok(Chunk::Other),
        COOKIE_ACK | SHUTDOWN_ACK | SHUTDOWN_COMPLETE if value.is_empty() => Ok(Chunk::Other),
        SHUTDOWN if value.len() == 4 => Ok(Chunk::Other),
        COOKIE_ACK | SHUTDOWN_ACK | SHUTDOWN_COMPLETE | SHUTDOWN => Err(Violation("a chunk with a false length")),
        FORWARD_TSN | I_DATA | I_FORWARD_TSN => Err(Violation("a chunk that no reliable channel has")),
        _ => Err(Unneeded),
    }
}

fn data(flags: u8, value: &[u8]) -> Result<Chunk<'_>, Rejection> {
    if value.len() <= DATA_HEADER {
        return Err(Violation("data without content"));
    }
    Ok(Chunk::Data(Data {
        tsn: long(value, 0),
        stream: short(value, 4),
        ssn: short(value, 6),
        protocol: long(value, 8),
        is_last: flags & 1 != 0,
        is_first: flags & 2 != 0,
        is_unordered: flags & 4 != 0,
        content: &value[DATA_HEADER..],
    }))
}

fn opening(flags: u8, value: &[u8]) -> Result<Opening, Rejection> {
    const MALFORMED: Rejection = Violation("a malformed opening");
    if value.len() < OPENING || flags != 0 {
        return Err(MALFORMED);
    }
    let mut rest = &value[OPENING..];
    while !rest.is_empty() {
        let (kind, content, behind) = parameter(rest).ok_or(MALFORMED)?;
        let is_sound = match kind {
            FORWARD_TSN_SUPPORTED => content.is_empty(),
            REQUESTED_HMAC => content.len() % 2 == 0,
            _ => true,
        };
        if !is_sound {
            return Err(MALFORMED);
        }
        rest = behind;
    }
    Ok(Opening { tag: long(value, 0), tsn: long(value, 12) })
}

fn sack(value: &[u8]) -> Result<Chunk<'_>, Rejection> {
    const MALFORMED: Rejection = Violation("a malformed SACK");
    if value.len() < SACK_HEADER {
        return Err(MALFORMED);
    }
    let (gaps, repeated) = (usize::from(short(value, 8)), usize::from(short(value, 10)));
    if value.len() != SACK_HEADER + 4 * (gaps + repeated) {
        return Err(MALFORMED);
    }
    // WebRTC looks at each number in each block, so blocks that overlap would have it look again and again.
    let mut next = 1;
    for block in value[SACK_HEADER..].chunks_exact(4).take(gaps) {
        let (start, end) = (u32::from(short(block, 0)), u32::from(short(block, 2)));
        if start < next || end < start {
            return Err(MALFORMED);
        }
        next = end + 1;
    }
    Ok(Chunk::Sack)
}

/// Looks at the causes of an error or an abort. WebRTC overlooks that all but the last are padded.
fn causes(mut rest: &[u8]) -> Result<(), Rejection> {
    while rest.len() >= 4 {
        let length = usize::from(short(rest, 2));
        if length < 4 || length > rest.len() {
            return Err(Violation("a malformed cause of an error"));
        }
        if length % 4 != 0 && rest.len() - length >= 4 {
            return Err(Unneeded);
        }
        rest = &rest[length..];
    }
    Ok(())
}

fn reconfig(value: &[u8]) -> Result<Chunk<'_>, Rejection> {
    const MALFORMED: Rejection = Violation("a malformed RE-CONFIG");
    let mut chunk = Chunk::Other;
    let mut rest = value;
    for _ in 0..2 {
        let (kind, content, behind) = parameter(rest).ok_or(MALFORMED)?;
        match kind {
            OUTGOING_RESET if content.len() >= 12 && content.len() % 2 == 0 => {
                if matches!(chunk, Chunk::Reset(_)) {
                    return Err(MALFORMED);
                }
                chunk =
                    Chunk::Reset(Reset { number: long(content, 0), after: long(content, 8), streams: &content[12..] });
            }
            RESET_RESPONSE if content.len() == 8 => {}
            OUTGOING_RESET | RESET_RESPONSE => return Err(MALFORMED),
            _ => return Err(Unneeded),
        }
        rest = behind;
        if rest.is_empty() {
            return Ok(chunk);
        }
    }
    Err(MALFORMED)
}

/// Type and content of the parameter that comes first, and what is behind it and its padding, if it is sound.
fn parameter(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    if bytes.len() < 4 {
        return None;
    }
    let length = usize::from(short(bytes, 2));
    let content = bytes.get(4..length)?;
    // The padding of the last one may be left to the chunk.
    Some((short(bytes, 0), content, bytes.get(padded(length)..).unwrap_or_default()))
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The four bytes there.
pub fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The length with its padding.
fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// The longest packet, in bytes: those of a chat keep to networks of 1,280 to 1,500 bytes, and nobody needs more than 4
/// KiB.
pub const MAX_PACKET: usize = 4096;

/// The most chunks in one packet. A sealed text has 56 bytes and more, of which 54 would be in the longest.
pub const MAX_CHUNKS: usize = 64;

/// Lengths of what is fixed: of a packet's header, a chunk's, and what stands first in the value of some.
pub const HEADER: usize = 12;
const CHUNK_HEADER: usize = 4;
const SHORTEST: usize = HEADER + CHUNK_HEADER;
const DATA_HEADER: usize = 12;
const SACK_HEADER: usize = 12;
const OPENING: usize = 16;

// The types of chunks (RFC 9260, section 3.2; RFC 3758; RFC 6525; RFC 8260).
const DATA: u8 = 0;
/// The type of the chunk that begins an association, and of its answer.
pub const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// The type of the chunk that acknowledges data.
pub const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const I_DATA: u8 = 64;
const RECONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;
const I_FORWARD_TSN: u8 = 194;

// The types of parameters (RFC 9260, section 3.3; RFC 6525; RFC 4895; RFC 3758).
const HEARTBEAT_INFO: u16 = 1;
const OUTGOING_RESET: u16 = 13;
const RESET_RESPONSE: u16 = 16;
const REQUESTED_HMAC: u16 = 0x8004;
const FORWARD_TSN_SUPPORTED: u16 = 0xc000;
