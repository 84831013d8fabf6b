//! SCTP by hand: packets as an attacker would write them, and the crate's own SCTP behind the guard, to be fed with
//! them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lowkey::peer::guard::Guard;
use nix::time::{ClockId, clock_gettime};
use rtc::datachannel::message::Message;
use rtc::sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ServerConfig, StreamEvent,
};
use rtc::shared::TransportProtocol;
use rtc::shared::marshal::Unmarshal;

/// A packet with this tag and these chunks, each padded, with its checksum.
pub fn packet(tag: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut packet = [&[0x13, 0x88, 0x13, 0x88][..], &tag.to_be_bytes(), &[0; 4]].concat();
    for chunk in chunks {
        packet.extend(chunk);
        packet.resize(packet.len().next_multiple_of(4), 0);
    }
    check(&mut packet);
    packet
}

fn check(packet: &mut [u8]) {
    packet[8..12].fill(0);
    let sum = crc32c::crc32c(packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
}

/// A chunk of this type, with these flags.
pub fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, flags], &((value.len() + 4) as u16).to_be_bytes()[..], value].concat()
}

/// A piece of data: its number, stream, number of its message, flags (2 begins a message, 1 ends it), protocol and
/// content.
pub fn piece(tsn: u32, stream: u16, ssn: u16, flags: u8, protocol: u32, content: &[u8]) -> Vec<u8> {
    let head = [&tsn.to_be_bytes()[..], &stream.to_be_bytes(), &ssn.to_be_bytes(), &protocol.to_be_bytes()];
    chunk(0, flags, &[&head.concat(), content].concat())
}

/// The message that opens a data channel.
pub fn open_channel(label: &str) -> Vec<u8> {
    [&[3, 0, 0, 0, 0, 0, 0, 0, 0, label.len() as u8, 0, 0], label.as_bytes()].concat()
}

fn opening(kind: u8, parameters: &[u8]) -> Vec<u8> {
    let (tag, window, tsn) = (7_u32.to_be_bytes(), 0x0010_0000_u32.to_be_bytes(), FIRST.to_be_bytes());
    chunk(kind, 0, &[&tag[..], &window, &[0xff; 4], &tsn, parameters].concat())
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The number of the first piece of data.
const FIRST: u32 = 1000;

/// How long a packet may keep the processor.
const LONGEST: Duration = Duration::from_millis(10);

/// The crate's SCTP, with our guard in front, and an association that is open.
struct Side {
    guard: Guard,
    endpoint: Endpoint,
    associations: Vec<(AssociationHandle, Association)>,
    tag: u32,
    /// What it has sent since this was looked at last.
    sent: Vec<Vec<u8>>,
    /// The last piece of data among it all.
    last_sent: u32,
    taken: u64,
    now: Instant,
    /// A packet that took too long.
    longest: Option<(Duration, Vec<u8>)>,
}

impl Side {
    fn new(is_beginner: bool) -> Self {
        let server = (!is_beginner).then(|| Arc::new(ServerConfig::default()));
        let config = Arc::new(EndpointConfig::new());
        let (guard, now) = (Guard::default(), Instant::now());
        let endpoint = Endpoint::new(address(), TransportProtocol::UDP, config, server);
        let mut side = Self {
            guard,
            endpoint,
            associations: vec![],
            tag: 0,
            sent: vec![],
            last_sent: 0,
            taken: 0,
            now,
            longest: None,
        };
        if is_beginner {
            let association = side.endpoint.connect(now, ClientConfig::default(), address()).unwrap();
            side.associations.push(association);
            side.drive();
            side.tag = long(&side.sent[0], 16);
            side.feed(&packet(side.tag, &[opening(2, &[0, 7, 0, 8, 1, 2, 3, 4])]));
            side.feed(&packet(side.tag, &[chunk(11, 0, &[])]));
        } else {
            side.feed(&packet(0, &[opening(1, &[0x80, 8, 0, 6, 130, 192])]));
            let answer = side.sent.pop().unwrap();
            side.tag = long(&answer, 16);
            let cookie = &answer[32..];
            assert_eq!(cookie[..2], [0, 7], "the first parameter is the cookie");
            let length = usize::from(u16::from_be_bytes([cookie[2], cookie[3]]));
            let echo = chunk(10, 0, &cookie[4..length]);
            side.feed(&packet(side.tag, &[echo]));
        }
        assert!(side.associations.iter().all(|(_, association)| !association.is_handshaking()), "it is open");
        side
    }

    /// Hands over a packet, if the guard lets it pass, and notes whether it takes long.
    fn feed(&mut self, packet: &[u8]) {
        let before = processor_time();
        if self.guard.receive(packet).is_ok() {
            let data = packet.to_vec().into();
            match self.endpoint.handle(self.now, address(), None, data) {
                Some((handle, DatagramEvent::NewAssociation(association))) => {
                    self.associations.push((handle, association));
                }
                Some((handle, DatagramEvent::AssociationEvent(event))) => {
                    if let Some((_, association)) = self.associations.iter_mut().find(|(of, _)| *of == handle) {
                        association.handle_event(event);
                    }
                }
                _ => {}
            }
            self.drive();
        }
        let took = processor_time() - before;
        if took > LONGEST {
            self.longest = Some((took, packet.to_vec()));
        }
    }

    /// What the crate's layers above do after each packet.
    fn drive(&mut self) {
        let mut drained = Vec::new();
        for (handle, association) in &mut self.associations {
            while let Some(event) = association.poll() {
                let Event::Stream(StreamEvent::Readable { id }) = event else { continue };
                let Ok(mut stream) = association.stream(id) else { continue };
                while let Ok(Some(message)) = stream.read_sctp() {
                    let payload = message.to_payload(262_144).unwrap();
                    if message.ppi == PayloadProtocolIdentifier::Dcep {
                        let _ = Message::unmarshal(&mut &payload[..]);
                    } else {
                        self.taken += 1;
                    }
                }
            }
            while let Some(transmit) = association.poll_transmit(self.now) {
                let Payload::RawEncode(packets) = transmit.message else { continue };
                for packet in packets {
                    self.guard.send(&packet);
                    if packet[12] == 0 {
                        self.last_sent = long(&packet, 16);
                    }
                    self.sent.push(packet.to_vec());
                }
            }
            while let Some(event) = association.poll_endpoint_event() {
                drained.push((*handle, event));
            }
        }
        for (handle, event) in drained {
            self.endpoint.handle_event(handle, event);
            self.associations.retain(|(of, _)| *of != handle);
        }
        self.sent.drain(..self.sent.len().saturating_sub(8));
        self.guard.taken(self.taken);
    }

    /// Has it send something, and what it sends again.
    fn write(&mut self, length: usize) {
        self.now += Duration::from_millis(500);
        for (_, association) in &mut self.associations {
            association.handle_timeout(self.now);
            let protocol = PayloadProtocolIdentifier::Binary;
            if let Ok(mut stream) = association.open_stream(0, protocol) {
                let _ = stream.set_reliability_params(false, rtc::sctp::ReliabilityType::Reliable, 0);
            }
            if let Ok(mut stream) = association.stream(0) {
                let _ = stream.write_with_ppi(self.now, &vec![b'x'; length], protocol);
            }
        }
        self.drive();
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 5000))
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// Makes packets of these bytes, most of them as an association may have them, and hands them over. None may keep the
/// processor for long; since a virtual machine's own pauses count as processor time, one that does is given a second
/// and a third chance.
pub fn play(bytes: &[u8]) {
    let late: Vec<_> = std::iter::repeat_with(|| play_once(bytes)).take(3).map_while(|late| late).collect();
    assert!(late.len() < 3, "{late:02x?}");
}

/// The same once: the last packet that took too long, and how long it took.
fn play_once(bytes: &[u8]) -> Option<(Duration, Vec<u8>)> {
    let mut choices = Choices(bytes);
    let mut side = Side::new(choices.one_of(2) == 0);
    let mut data = Data { tsn: FIRST, stream: 0, ssns: [0; 20], is_underway: false, protocol: 51 };
    while !choices.0.is_empty() {
        if choices.one_of(8) == 0 {
            side.write(1 + choices.one_of(256) * 20);
        }
        let mut chunks = Vec::new();
        for _ in 0..=choices.one_of(4) {
            chunks.push(any_chunk(&mut choices, &mut data, &side));
        }
        let count = if choices.one_of(32) == 0 { 30 } else { 1 };
        let chunks: Vec<_> = chunks.iter().cycle().take(chunks.len() * count).cloned().collect();
        let tag = match choices.one_of(64) {
            0 => 0,
            1 => side.tag ^ 1,
            _ => side.tag,
        };
        let mut packet = packet(tag, &chunks);
        if choices.one_of(8) == 0 {
            let place = 12 + choices.one_of(packet.len() - 12);
            packet[place] ^= 1 << choices.one_of(8);
        }
        if choices.one_of(32) == 0 {
            packet.truncate(12 + choices.one_of(packet.len() - 12));
        }
        check(&mut packet);
        side.feed(&packet);
    }
    side.longest
}

struct Data {
    tsn: u32,
    stream: u16,
    ssns: [u16; 20],
    is_underway: bool,
    protocol: u32,
}

fn any_chunk(choices: &mut Choices, data: &mut Data, side: &Side) -> Vec<u8> {
    match choices.one_of(16) {
        0..=6 => data.next(choices),
        7 => {
            let stray = |choices: &mut Choices| choices.one_of(40) as u32;
            let tsn = data.tsn.wrapping_add(stray(choices)).wrapping_sub(8);
            let content = vec![b'x'; 1 + choices.one_of(16)];
            let protocol = [50, 51, 53, 57][choices.one_of(4)];
            piece(tsn, choices.one_of(20) as u16, stray(choices) as u16, choices.one_of(16) as u8, protocol, &content)
        }
        8 | 9 => {
            let mut value = side.last_sent.wrapping_sub(choices.one_of(4) as u32).to_be_bytes().to_vec();
            let blocks = choices.one_of(4);
            value.extend([0, 16, 0, 0, 0, blocks as u8, 0, 0]);
            let mut at = 0;
            for _ in 0..blocks * 2 {
                at += 1 + choices.one_of(3) as u8;
                value.extend([0, at]);
            }
            chunk(3, 0, &value)
        }
        10 => {
            let mut value = vec![0, 13, 0, 18, 0, 0, 0, choices.one_of(16) as u8, 0, 0, 0, 0];
            value.extend(data.tsn.wrapping_add(choices.one_of(8) as u32).to_be_bytes());
            value.extend([0, choices.one_of(4) as u8]);
            chunk(130, 0, &value)
        }
        11 => chunk(4, 0, &[0, 1, 0, 8, 1, 2, 3, 4]),
        12 => {
            // With a length of its own that says nothing true.
            let kind = [0, 3, 4, 6, 9, 10, 11, 14, 130, 192][choices.one_of(10)];
            let value: Vec<u8> = (0..choices.one_of(24)).map(|_| choices.one_of(256) as u8).collect();
            let mut chunk = chunk(kind, choices.one_of(4) as u8, &value);
            if choices.one_of(4) == 0 {
                chunk[3] = choices.one_of(256) as u8;
            }
            chunk
        }
        13 => chunk([6, 9][choices.one_of(2)], 0, &[0, 12, 0, choices.one_of(12) as u8, 1, 2, 3, 4]),
        14 => chunk(192, 0, &data.tsn.wrapping_add(0x7fff_0000).to_be_bytes()),
        _ => {
            let kind = choices.one_of(256) as u8;
            let value: Vec<u8> = (0..choices.one_of(40)).map(|_| choices.one_of(256) as u8).collect();
            chunk(kind, 0, &value)
        }
    }
}

impl Data {
    /// The next piece, as an honest side would send it.
    fn next(&mut self, choices: &mut Choices) -> Vec<u8> {
        let is_first = !self.is_underway;
        if is_first {
            self.stream = choices.one_of(6) as u16;
            self.protocol = [50, 51, 51, 53][choices.one_of(4)];
        }
        let is_control = self.protocol == 50;
        let is_last = is_control || choices.one_of(3) == 0;
        let content = match is_control {
            true => [open_channel("chat"), vec![2]][choices.one_of(2)].clone(),
            false => vec![b'x'; 1 + choices.one_of(256)],
        };
        let ssn = &mut self.ssns[usize::from(self.stream)];
        let flags = u8::from(is_first) * 2 + u8::from(is_last);
        let piece = piece(self.tsn, self.stream, *ssn, flags, self.protocol, &content);
        self.tsn = self.tsn.wrapping_add(1);
        self.is_underway = !is_last;
        if is_last {
            *ssn = ssn.wrapping_add(1);
        }
        piece
    }
}

/// Bytes that decide what is done.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn one_of(&mut self, count: usize) -> usize {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                usize::from(*byte) % count.max(1)
            }
            None => 0,
        }
    }
}
