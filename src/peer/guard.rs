//! What of the other side's SCTP reaches WebRTC: each packet is read here before, once DTLS has opened it. One that a
//! chat has no use for is dropped, so that none can make WebRTC loop, panic or grow; and who sends such packets is told
//! apart from who merely sends too fast. No sockets and no keys in here.

mod chunk;
mod data;
mod dtls;
mod sources;

pub use chunk::Rejection;
use chunk::{Chunk, Opening, Reset, SACK, chunks, long, tag};
use data::{Incoming, MAX_STREAMS, WINDOW};
pub(crate) use dtls::DtlsHandshake;
pub(crate) use sources::{DatagramOrigin, Sources};

use Rejection::{Unneeded, Violation};

/// The state of one peer connection, as far as it takes to tell what may come next.
#[derive(Debug, Default)]
pub struct Guard {
    /// Whether we have sent INIT. One of the other side is dropped then.
    is_beginner: bool,
    /// What stood in the other side's INIT or INIT ACK. All repetitions have to be the same.
    opening: Option<Opening>,
    openings: usize,
    /// The verification tag that the other side's packets have, since the first but INIT.
    tag: Option<u32>,
    data: Option<Incoming>,
    /// The numbers of the stream resets that were asked for.
    resets: Vec<u32>,
    violations: usize,
    /// What ends the connection.
    end: Option<&'static str>,
}

impl Guard {
    /// Reads a packet of the other side and says whether it may be passed on.
    ///
    /// # Errors
    /// Why it may not.
    pub fn receive(&mut self, packet: &[u8]) -> Result<(), Rejection> {
        if self.end.is_some() {
            return Err(Unneeded);
        }
        let passed = self.read(packet);
        if let Err(Violation(what)) = passed {
            self.violations += 1;
            let is_broken = self.data.as_ref().is_some_and(Incoming::is_broken);
            if is_broken || self.violations > MAX_VIOLATIONS {
                self.end = Some(what);
            }
        }
        passed
    }

    /// Learns of a packet of ours.
    pub fn send(&mut self, packet: &[u8]) {
        match packet.get(chunk::HEADER) {
            Some(&chunk::INIT) if !self.is_beginner => {
                self.is_beginner = true;
                // What counts is the answer.
                (self.opening, self.data) = (None, None);
            }
            Some(&SACK) if packet.len() >= chunk::HEADER + 8 => {
                if let Some(data) = &mut self.data {
                    data.acknowledge(long(packet, chunk::HEADER + 4));
                }
            }
            _ => {}
        }
    }

    /// Learns of how many messages have been taken in all.
    pub fn taken(&mut self, messages: u64) {
        if let Some(data) = &mut self.data {
            data.set_taken(messages);
        }
    }

    /// In what way the other side broke the rules, once the connection is to end for it.
    pub fn end(&self) -> Option<&'static str> {
        self.end
    }

    fn read(&mut self, packet: &[u8]) -> Result<(), Rejection> {
        let tag = tag(packet)?;
        // Where a chunk cannot be read, none is looked at. Where one is refused later, what stands before it has been
        // noted, though WebRTC never sees it. That does no harm: what a window refuses comes again, and counts once;
        // and what is against the rules no program sends, and ends the connection if there is more of it. To judge on a
        // copy would cost each packet one.
        for chunk in chunks(packet) {
            chunk?;
        }
        for chunk in chunks(packet) {
            let chunk = chunk?;
            if !matches!(chunk, Chunk::Init(_)) && *self.tag.get_or_insert(tag) != tag {
                return Err(Violation("a packet of another association"));
            }
            match chunk {
                Chunk::Init(opening) => self.begin(opening, tag)?,
                Chunk::InitAck(opening) if self.is_beginner => self.open(opening)?,
                Chunk::InitAck(_) => return Err(Violation("an answer to what was not asked")),
                Chunk::Data(piece) => {
                    let data = self.data.as_mut().ok_or(Violation("data before the association"))?;
                    data.receive(&piece)?;
                }
                Chunk::Reset(reset) => self.reset(reset)?,
                Chunk::Sack | Chunk::Heartbeat | Chunk::Abort | Chunk::Other => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, opening: Opening, tag: u32) -> Result<(), Rejection> {
        if tag != 0 {
            return Err(Violation("an opening with a tag"));
        }
        if self.is_beginner {
            return Err(Unneeded);
        }
        if self.tag.is_some() {
            return Err(Violation("a second association"));
        }
        // Each of them makes WebRTC begin an association.
        self.openings += 1;
        if self.openings > MAX_OPENINGS {
            return Err(Violation("too many openings"));
        }
        self.open(opening)
    }

    fn open(&mut self, opening: Opening) -> Result<(), Rejection> {
        if *self.opening.get_or_insert(opening) != opening {
            return Err(Violation("a second association"));
        }
        self.data.get_or_insert_with(|| Incoming::new(opening.tsn.wrapping_sub(1)));
        Ok(())
    }

    /// WebRTC keeps a wish until it is done, and looks at all of them with each piece of data.
    fn reset(&mut self, reset: Reset) -> Result<(), Rejection> {
        let data = self.data.as_ref().ok_or(Violation("a RE-CONFIG before the association"))?;
        if data.distance(reset.after) > WINDOW as i32 || reset.streams.len() > 2 * MAX_STREAMS {
            return Err(Violation("a malformed RE-CONFIG"));
        }
        if !self.resets.contains(&reset.number) {
            if self.resets.len() == MAX_RESETS {
                return Err(Violation("too many streams that begin anew"));
            }
            self.resets.push(reset.number);
        }
        Ok(())
    }
}

/// After how many packets against the rules a connection ends. One could be a bug that nobody notices.
const MAX_VIOLATIONS: usize = 8;

/// How often the other side may open the association: as often as RFC 9260 lets it try (section 16,
/// Max.Init.Retransmits).
const MAX_OPENINGS: usize = 9;

/// How often streams may begin anew, in the lifetime of a connection: the chat's does so once, when it ends.
const MAX_RESETS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with this tag and these chunks, each padded.
    fn packet(tag: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut packet = [&[0x13, 0x88, 0x13, 0x88][..], &tag.to_be_bytes(), &[0; 4]].concat();
        for chunk in chunks {
            packet.extend(chunk);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
        let length = (value.len() + 4) as u16;
        [&[kind, flags], &length.to_be_bytes()[..], value].concat()
    }

    fn opening(kind: u8, tag: u32, tsn: u32, parameters: &[u8]) -> Vec<u8> {
        let (window, streams) = (0x0010_0000_u32.to_be_bytes(), [0xff, 0xff, 0xff, 0xff]);
        chunk(kind, 0, &[&tag.to_be_bytes()[..], &window, &streams, &tsn.to_be_bytes(), parameters].concat())
    }

    /// A piece: its number, stream, number of its message, flags (2 begins a message, 1 ends it), protocol and content.
    fn piece(tsn: u32, stream: u16, ssn: u16, flags: u8, protocol: u32, content: &[u8]) -> Vec<u8> {
        let head = [&tsn.to_be_bytes()[..], &stream.to_be_bytes(), &ssn.to_be_bytes(), &protocol.to_be_bytes()];
        chunk(0, flags, &[&head.concat(), content].concat())
    }

    fn open_channel(label: &str) -> Vec<u8> {
        [&[3, 0, 0, 0, 0, 0, 0, 0, 0, label.len() as u8, 0, 0], label.as_bytes()].concat()
    }

    fn acknowledgement(tsn: u32) -> Vec<u8> {
        packet(1, &[chunk(3, 0, &[&tsn.to_be_bytes()[..], &[0, 16, 0, 0, 0, 0, 0, 0]].concat())])
    }

    /// A guard of an association that the other side has begun, whose first piece of data is 100.
    fn guard() -> Guard {
        let mut guard = Guard::default();
        assert_eq!(guard.receive(&packet(0, &[opening(1, 7, 100, &[])])), Ok(()));
        assert_eq!(guard.receive(&packet(TAG, &[chunk(10, 0, b"cookie")])), Ok(()));
        guard
    }

    const TAG: u32 = 0x0102_0304;
    const TEXT: u32 = 51;

    fn is_violation(passed: Result<(), Rejection>) -> bool {
        matches!(passed, Err(Violation(_)))
    }

    #[test]
    fn a_chat_passes_from_its_opening_to_its_end() {
        let mut guard = guard();
        let packets = [
            packet(TAG, &[piece(100, 1, 0, 3, CONTROL, &open_channel("chat"))]),
            packet(TAG, &[piece(101, 1, 1, 3, TEXT, b"proof"), piece(102, 1, 2, 2, TEXT, &[b'x'; 1100])]),
            packet(TAG, &[piece(104, 1, 2, 1, TEXT, b"end")]),
            packet(TAG, &[piece(103, 1, 2, 0, TEXT, &[b'x'; 1100])]),
            packet(TAG, &[chunk(3, 0, &[0, 0, 0, 9, 0, 16, 0, 0, 0, 2, 0, 1, 0, 2, 0, 2, 0, 4, 0, 5, 0, 0, 0, 1])]),
            packet(TAG, &[chunk(4, 0, &[0, 1, 0, 7, 1, 2, 3])]),
            packet(TAG, &[chunk(130, 0, &[0, 13, 0, 18, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 104, 0, 1])]),
            packet(TAG, &[chunk(130, 0, &[0, 16, 0, 12, 0, 0, 0, 5, 0, 0, 0, 1])]),
            packet(TAG, &[chunk(6, 0, &[0, 12, 0, 4])]),
        ];
        for (place, packet) in packets.iter().enumerate() {
            assert_eq!(guard.receive(packet), Ok(()), "{place}");
        }
        // What is repeated passes again.
        for packet in packets {
            assert_eq!(guard.receive(&packet), Ok(()));
        }
        assert_eq!(guard.end(), None);
    }

    const CONTROL: u32 = 50;

    #[test]
    fn chunks_that_no_chat_needs_are_dropped() {
        for (kind, value, is_counted) in [
            (192, &[0, 0, 0, 200][..], true),
            (192, &[0x7f, 0, 0, 200], true),
            (64, &[0; 24], true),
            (194, &[0; 12], true),
            (9, &[0, 1, 0, 4], false),
            (5, &[0, 1, 0, 4], false),
            (15, &[0; 8], false),
            (0x80, &[0; 8], false),
            (255, &[], false),
        ] {
            let mut guard = guard();
            let refused = guard.receive(&packet(TAG, &[chunk(kind, 0, value)]));
            assert_eq!((refused.is_err(), is_violation(refused)), (true, is_counted), "{kind}");
        }
    }

    #[test]
    fn lengths_that_webrtc_would_misread_are_refused() {
        let forward = chunk(192, 0, &[0x7f, 0, 0, 0]);
        let cases: &[(&str, Vec<u8>)] = &[
            ("nothing", vec![]),
            ("no chunk", packet(TAG, &[])),
            ("cut off", packet(TAG, &[vec![3, 0, 0, 4]])[..15].to_vec()),
            ("longer than the packet", packet(TAG, &[vec![10, 0, 0, 9, 0, 0, 0, 0]])),
            ("shorter than its head", packet(TAG, &[vec![10, 0, 0, 3]])),
            ("long", packet(TAG, &[chunk(10, 0, &[0; chunk::MAX_PACKET])])),
            ("a cause beyond its error", packet(TAG, &[chunk(9, 0, &[0, 1, 0, 200, 0, 0, 0, 0])])),
            ("a cause beyond its abort", packet(TAG, &[chunk(6, 0, &[0, 1, 0, 9, 0, 0, 0, 0])])),
            ("a cause shorter than its head", packet(TAG, &[chunk(6, 0, &[0, 1, 0, 0])])),
            ("a chunk in an acknowledgement of a cookie", packet(TAG, &[chunk(11, 0, &forward)])),
            ("a chunk in the end", packet(TAG, &[chunk(14, 0, &forward)])),
            ("a chunk behind a SACK", packet(TAG, &[chunk(3, 0, &[&[0; 12][..], &forward].concat())])),
            ("a chunk behind a sign of life", packet(TAG, &[chunk(4, 0, &[&[0, 1, 0, 4][..], &forward].concat())])),
            ("a chunk behind a response", {
                packet(TAG, &[chunk(130, 0, &[&[0, 16, 0, 20], &[0; 16][..], &forward].concat())])
            }),
            ("a chunk behind an opening", packet(0, &[opening(1, 7, 100, &[]), forward.clone()])),
            ("blocks that overlap", {
                packet(TAG, &[chunk(3, 0, &[0, 0, 0, 9, 0, 0, 0, 9, 0, 2, 0, 0, 0, 1, 0, 9, 0, 9, 0, 12])])
            }),
            ("data without content", packet(TAG, &[piece(100, 1, 0, 3, TEXT, b"")])),
            ("data without an order", packet(TAG, &[piece(100, 1, 0, 7, TEXT, b"x")])),
            ("two SACKs", packet(TAG, &[chunk(3, 0, &[0; 12]), chunk(3, 0, &[0; 12])])),
            ("sixty-five chunks", packet(TAG, &vec![chunk(10, 0, b"x"); 65])),
            ("a word of WebRTC's own", packet(TAG, &[piece(100, 1, 0, 3, CONTROL, &[0])])),
            ("an opening in two pieces", packet(TAG, &[piece(100, 1, 0, 2, CONTROL, &open_channel("x"))])),
            ("a label beyond its message", packet(TAG, &[piece(100, 1, 0, 3, CONTROL, &open_channel("x")[..12])])),
        ];
        for (name, packet) in cases {
            assert!(is_violation(guard().receive(packet)), "{name}");
        }
    }

    #[test]
    fn pieces_have_to_make_messages() {
        let cases: &[(&str, &[Vec<u8>])] = &[
            ("a middle first", &[piece(100, 1, 0, 0, TEXT, b"x")]),
            ("two beginnings", &[piece(100, 1, 0, 2, TEXT, b"x"), piece(101, 1, 0, 3, TEXT, b"x")]),
            ("two ends", &[piece(100, 1, 0, 3, TEXT, b"x"), piece(101, 1, 0, 1, TEXT, b"x")]),
            ("an end that came before", &[piece(101, 1, 0, 1, TEXT, b"x"), piece(100, 1, 0, 3, CONTROL, &[2])]),
            ("another stream", &[piece(100, 1, 0, 2, TEXT, b"x"), piece(101, 2, 0, 1, TEXT, b"x")]),
            ("another message", &[piece(100, 1, 0, 2, TEXT, b"x"), piece(101, 1, 1, 1, TEXT, b"x")]),
            ("another protocol", &[piece(100, 1, 0, 2, TEXT, b"x"), piece(101, 1, 0, 1, 53, b"x")]),
            ("a message too early", &[piece(100, 1, 1, 3, TEXT, b"x")]),
            ("another version", &[piece(100, 1, 0, 3, TEXT, b"x"), piece(100, 1, 0, 3, TEXT, b"xx")]),
        ];
        for (name, pieces) in cases {
            let mut guard = guard();
            let last = pieces.len() - 1;
            for piece in &pieces[..last] {
                assert_eq!(guard.receive(&packet(TAG, std::slice::from_ref(piece))), Ok(()), "{name}");
            }
            assert!(is_violation(guard.receive(&packet(TAG, &pieces[last..]))), "{name}");
        }
    }

    #[test]
    fn numbers_begin_anew_at_their_end() {
        let mut guard = Guard::default();
        assert_eq!(guard.receive(&packet(0, &[opening(1, 7, u32::MAX, &[])])), Ok(()));
        let mut acknowledged = u32::MAX - 1;
        for ssn in 0..=u16::MAX {
            let tsn = acknowledged.wrapping_add(1);
            assert_eq!(guard.receive(&packet(TAG, &[piece(tsn, 1, ssn, 3, TEXT, b"x")])), Ok(()));
            acknowledged = tsn;
            guard.send(&acknowledgement(acknowledged));
            guard.taken(u64::from(ssn) + 1);
        }
        assert_eq!(guard.receive(&packet(TAG, &[piece(0xffff, 1, 0, 3, TEXT, b"x")])), Ok(()));
    }

    /// Sends pieces one by one, each acknowledged, until one is refused; how many passed, and with what it ends.
    fn passes(piece_of: impl Fn(u32) -> Vec<u8>) -> (u32, Rejection) {
        let mut guard = guard();
        for number in 0.. {
            if let Err(refusal) = guard.receive(&packet(TAG, &[piece_of(number)])) {
                return (number, refusal);
            }
            guard.send(&acknowledgement(100 + number));
        }
        unreachable!()
    }

    #[test]
    fn what_is_underway_is_bounded() {
        let endless = |number| piece(100 + number, 1, 0, if number == 0 { 2 } else { 0 }, TEXT, &[b'x'; 1024]);
        assert_eq!(passes(endless), (256, Violation("a message that is too long")));
        let crumbs = |number| piece(100 + number, 1, 0, if number == 0 { 2 } else { 0 }, TEXT, b"x");
        assert_eq!(passes(crumbs), (1024, Violation("a message in too many pieces")));
        let untaken = |number| piece(100 + number, 1, number as u16, 3, TEXT, b"x");
        assert_eq!(passes(untaken), (8192, Rejection::Full));
        let streams = |number| piece(100 + number, number as u16, 0, 3, TEXT, b"x");
        assert_eq!(passes(streams), (16, Violation("too many streams")));
        let channels = |number| piece(100 + number, 1, number as u16, 3, CONTROL, &open_channel("x"));
        assert_eq!(passes(channels), (16, Violation("too many data channels")));
        let mut guard = guard();
        assert_eq!(guard.receive(&packet(TAG, &[piece(100 + 2048, 1, 0, 3, TEXT, b"x")])), Err(Rejection::Full));
        assert_eq!(guard.receive(&packet(TAG, &[piece(100 + 2047, 1, 0, 3, TEXT, b"x")])), Ok(()));
        // Without acknowledgements too, which are ours to send.
        let mut guard = self::guard();
        let refused = (0..).find(|number| {
            guard.receive(&packet(TAG, &[piece(100 + number, 1, *number as u16, 3, TEXT, b"x")])).is_err()
        });
        assert_eq!(refused, Some(2048));
    }

    #[test]
    fn room_is_made_by_taking() {
        let mut guard = guard();
        for number in 0..3 * 8192_u32 {
            let packet = packet(TAG, &[piece(100 + number, 1, number as u16, 3, TEXT, b"x")]);
            if guard.receive(&packet).is_err() {
                guard.taken(u64::from(number) - 100);
                assert_eq!(guard.receive(&packet), Ok(()));
            }
            guard.send(&acknowledgement(100 + number));
        }
    }

    #[test]
    fn an_association_is_opened_once() {
        let mut guard = Guard::default();
        for _ in 0..MAX_OPENINGS {
            assert_eq!(guard.receive(&packet(0, &[opening(1, 7, 100, &[])])), Ok(()));
        }
        assert!(is_violation(guard.receive(&packet(0, &[opening(1, 7, 100, &[])]))));
        assert!(is_violation(Guard::default().receive(&packet(9, &[opening(2, 7, 100, &[])]))));
        assert!(is_violation(Guard::default().receive(&packet(9, &[piece(100, 1, 0, 3, TEXT, b"x")]))));
        for other in [opening(1, 8, 100, &[]), opening(1, 7, 101, &[])] {
            let mut guard = Guard::default();
            assert_eq!(guard.receive(&packet(0, &[opening(1, 7, 100, &[])])), Ok(()));
            assert!(is_violation(guard.receive(&packet(0, &[other]))));
        }
        let mut guard = self::guard();
        assert!(is_violation(guard.receive(&packet(0, &[opening(1, 7, 100, &[])]))));
        assert!(is_violation(guard.receive(&packet(TAG + 1, &[chunk(10, 0, b"cookie")]))));
    }

    #[test]
    fn where_we_begin_the_answer_counts() {
        let mut guard = Guard::default();
        // The other side begins, too, as RFC 8841 has it, and answers with another tag.
        assert_eq!(guard.receive(&packet(0, &[opening(1, 7, 100, &[])])), Ok(()));
        guard.send(&packet(0, &[opening(1, 1, 1, &[])]));
        assert_eq!(guard.receive(&packet(0, &[opening(1, 7, 100, &[])])), Err(Unneeded));
        let parameters = [0x80, 8, 0, 6, 130, 192, 0, 0, 0xc0, 0, 0, 4, 0, 7, 0, 5, 9];
        assert_eq!(guard.receive(&packet(TAG, &[opening(2, 8, 200, &parameters)])), Ok(()));
        assert_eq!(guard.receive(&packet(TAG, &[piece(200, 1, 0, 3, TEXT, b"x")])), Ok(()));
        assert!(is_violation(guard.receive(&packet(TAG, &[opening(2, 8, 100, &[])]))));
        assert!(is_violation(guard.receive(&packet(TAG, &[opening(2, 8, 200, &[0xc0, 0, 0, 8, 9, 9, 9, 9])]))));
    }

    #[test]
    fn streams_begin_anew_a_few_times_only() {
        let reset = |number: u32, after: u32| {
            let value = [&[0, 13, 0, 18], &number.to_be_bytes()[..], &[0; 4], &after.to_be_bytes(), &[0, 1]].concat();
            packet(TAG, &[chunk(130, 0, &value)])
        };
        let mut guard = guard();
        for number in 0..MAX_RESETS as u32 {
            assert_eq!(guard.receive(&reset(number, 100)), Ok(()));
            assert_eq!(guard.receive(&reset(number, 100)), Ok(()));
        }
        assert!(is_violation(guard.receive(&reset(99, 100))));
        assert!(is_violation(self::guard().receive(&reset(1, 100_000))));
    }

    #[test]
    fn some_packets_against_the_rules_are_forgiven() {
        let mut guard = guard();
        let forward = packet(TAG, &[chunk(192, 0, &[0, 0, 0, 200])]);
        for _ in 0..MAX_VIOLATIONS {
            assert!(is_violation(guard.receive(&forward)));
        }
        assert_eq!(guard.end(), None);
        assert_eq!(guard.receive(&packet(TAG, &[piece(100, 1, 0, 3, TEXT, b"x")])), Ok(()));
        assert!(is_violation(guard.receive(&forward)));
        assert_eq!(guard.end(), Some("a chunk that no reliable channel has"));
        assert!(guard.receive(&packet(TAG, &[piece(101, 1, 1, 3, TEXT, b"x")])).is_err());
    }
}
