//! What a DTLS handshake sent last, and when to send it again. The crate stops its timer at any handshake record
//! that comes, also at one that is of no use, and then waits for ever where a datagram was lost. So the same bytes are
//! sent once more: who has them already takes them for a replay and drops them (RFC 6347, section 4.1.2.6). Pure.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The handshake datagrams of one socket that may have to be sent again.
#[derive(Debug, Default)]
pub struct Flight {
    datagrams: Vec<Datagram>,
    /// The other side has said something since, so what is sent next begins the next flight.
    is_answered: bool,
    last_sent: Option<Instant>,
    /// When it is to be repeated next, and how often it was.
    due: Option<Instant>,
    round: usize,
    is_over: bool,
}

/// Where a datagram goes or comes from, and what is in it.
pub type Datagram = (SocketAddr, Vec<u8>);

impl Flight {
    /// Learns of a datagram that was sent.
    pub fn sent(&mut self, to: SocketAddr, datagram: &[u8], now: Instant) {
        match Record::of(datagram) {
            _ if self.is_over => return,
            Some(Record::Handshake) => {}
            Some(Record::Alert) => return self.end(),
            _ => return,
        }
        // A flight leaves at once. What comes later without an answer is the crate's own repetition.
        let is_repetition = self.last_sent.is_some_and(|last| now.saturating_duration_since(last) >= PAUSE);
        if self.is_answered || is_repetition {
            self.datagrams.clear();
        }
        if self.is_answered || self.due.is_none() {
            self.round = 0;
            self.due = Some(now + WAITS[0]);
        }
        self.is_answered = false;
        self.last_sent = Some(now);
        if self.datagrams.len() < MAX_DATAGRAMS {
            self.datagrams.push((to, datagram.to_vec()));
        }
    }

    /// Learns of a datagram that has come.
    pub fn received(&mut self, datagram: &[u8]) {
        match Record::of(datagram) {
            Some(Record::Handshake) => self.is_answered = true,
            // Nobody says anything else before both have all of the handshake.
            Some(Record::ApplicationData | Record::Alert) => self.end(),
            None => {}
        }
    }

    /// When something is to be repeated.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether there is nothing to be repeated any more.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// What is to be sent again now, each record of what is long by itself: the way may pass only short datagrams.
    pub fn repeat(&mut self, now: Instant) -> Vec<Datagram> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.round += 1;
        if self.round >= MAX_ROUNDS {
            self.due = None;
        } else {
            self.due = Some(now + WAITS[self.round.min(WAITS.len() - 1)]);
        }
        let split = |(to, datagram): &Datagram| split(datagram).into_iter().map(|part| (*to, part)).collect::<Vec<_>>();
        self.datagrams.iter().flat_map(split).collect()
    }

    fn end(&mut self) {
        *self = Self { is_over: true, ..Self::default() };
    }
}

/// What a datagram of DTLS is about, by its first record.
#[derive(Debug, PartialEq, Eq)]
enum Record {
    /// A part of the handshake, ChangeCipherSpec among them.
    Handshake,
    Alert,
    ApplicationData,
}

impl Record {
    /// Reads the head of a datagram (RFC 6347, section 4.1), which may be on its way through a relay.
    fn of(datagram: &[u8]) -> Option<Self> {
        let record = relayed(datagram).unwrap_or(datagram);
        let &[kind, 254, _, epoch_high, epoch_low, ..] = record else { return None };
        match kind {
            20 | 22 => Some(Self::Handshake),
            21 => Some(Self::Alert),
            23 if (epoch_high, epoch_low) != (0, 0) => Some(Self::ApplicationData),
            _ => None,
        }
    }
}

/// The parts in which a datagram is repeated: each record of one that is long, through a relay too.
fn split(datagram: &[u8]) -> Vec<Vec<u8>> {
    if datagram.len() <= SHORT {
        return vec![datagram.to_vec()];
    }
    match (datagram, relayed(datagram)) {
        (&[first, second, ..], Some(data)) if first >= 64 => {
            let channel_data = |record: &[u8]| {
                let length = (record.len() as u16).to_be_bytes();
                [&[first, second][..], &length, record].concat()
            };
            records(data).into_iter().map(channel_data).collect()
        }
        (_, Some(data)) => records(data).into_iter().filter_map(|record| indication(datagram, record)).collect(),
        (_, None) => records(datagram).into_iter().map(<[u8]>::to_vec).collect(),
    }
}

/// The same indication with other data. It goes without its fingerprint, which it need not have (RFC 8489, section
/// 14.7).
fn indication(datagram: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let (head, mut rest) = datagram.split_at_checked(STUN_HEADER)?;
    let mut attributes = Vec::new();
    while let &[kind_high, kind_low, length_high, length_low, ..] = rest {
        let length = usize::from(u16::from_be_bytes([length_high, length_low])).next_multiple_of(4);
        let (attribute, others) = rest.split_at_checked(4 + length)?;
        if ![DATA, FINGERPRINT].contains(&[kind_high, kind_low]) {
            attributes.extend(attribute);
        }
        rest = others;
    }
    attributes.extend([&DATA[..], &(data.len() as u16).to_be_bytes(), data].concat());
    attributes.resize(attributes.len().next_multiple_of(4), 0);
    let length = (attributes.len() as u16).to_be_bytes();
    Some([&head[..2], &length, &head[4..], &attributes].concat())
}

/// The records of a datagram, of which each may go by itself (RFC 6347, section 4.1.1); the whole of it where it is
/// none of DTLS.
fn records(datagram: &[u8]) -> Vec<&[u8]> {
    let (mut records, mut rest) = (Vec::new(), datagram);
    while let &[20..=63, 254, _, _, _, _, _, _, _, _, _, high, low, ..] = rest {
        let length = RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
        let Some((record, others)) = rest.split_at_checked(length) else { return vec![datagram] };
        records.push(record);
        rest = others;
    }
    if rest.is_empty() { records } else { vec![datagram] }
}

/// What goes through a relay in this datagram: ChannelData, or a Send or Data indication (RFC 8656, sections 11 and
/// 12.4).
pub fn relayed(datagram: &[u8]) -> Option<&[u8]> {
    match datagram {
        // Behind the data there may be padding.
        [64..=79, _, high, low, data @ ..] => data.get(..usize::from(u16::from_be_bytes([*high, *low]))),
        [0, 0x16 | 0x17, ..] => {
            let mut attributes = datagram.get(STUN_HEADER..)?;
            while let &[kind_high, kind_low, length_high, length_low, ref rest @ ..] = attributes {
                let length = usize::from(u16::from_be_bytes([length_high, length_low]));
                if [kind_high, kind_low] == DATA {
                    return rest.get(..length);
                }
                attributes = rest.get(length.next_multiple_of(4)..)?;
            }
            None
        }
        _ => None,
    }
}

/// The attribute of an indication that holds the data (RFC 8656, section 18.4).
const DATA: [u8; 2] = [0, 0x13];

/// The attribute with a checksum of the whole (RFC 8489, section 14.7).
const FINGERPRINT: [u8; 2] = [0x80, 0x28];

/// Bytes of the head of an indication (RFC 8489, section 5).
const STUN_HEADER: usize = 20;

/// Bytes of a datagram that any way passes: 576 of IPv4 without its head and UDP's (RFC 791, section 3.1).
const SHORT: usize = 576 - 20 - 8;

/// Bytes of the head of a record.
const RECORD_HEADER: usize = 13;

/// How long to wait before each repetition; the last wait stays. Where an answer takes longer than the first, it is one
/// flight too many.
const WAITS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// After so many the call was given up: they take 30 s.
const MAX_ROUNDS: usize = 17;

/// A pause between two datagrams of one flight that says that the second is a repetition: the crate repeats after a
/// second.
const PAUSE: Duration = Duration::from_millis(500);

/// Datagrams of one flight. The longest, with a certificate, takes three.
const MAX_DATAGRAMS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, content: u8) -> Vec<u8> {
        vec![kind, 254, 253, 0, epoch, 0, 0, 0, 0, 0, content, 0, 1, content]
    }

    fn to() -> SocketAddr {
        ([127, 0, 0, 1], 9).into()
    }

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    /// The last parts of what is repeated at these times.
    fn repeated(flight: &mut Flight, start: Instant, times: impl IntoIterator<Item = u64>) -> Vec<(u64, Vec<u8>)> {
        let at = |time| {
            let datagrams = flight.repeat(after(start, time));
            (time, datagrams.iter().map(|(_, datagram)| *datagram.last().unwrap()).collect::<Vec<_>>())
        };
        times.into_iter().map(at).filter(|(_, datagrams)| !datagrams.is_empty()).collect()
    }

    #[test]
    fn a_flight_is_repeated_whole_and_ever_less_often() {
        let (start, mut flight) = (Instant::now(), Flight::default());
        assert_eq!(flight.due(), None);
        for content in [1, 2, 3] {
            flight.sent(to(), &record(22, 0, content), start);
        }
        assert_eq!(flight.due(), Some(after(start, 250)));
        let all = repeated(&mut flight, start, (0..10_000).step_by(10));
        let times: Vec<u64> = all.iter().map(|(time, _)| *time).collect();
        assert_eq!(times, [250, 750, 1750, 3750, 5750, 7750, 9750]);
        assert!(all.iter().all(|(_, datagrams)| datagrams == &[1, 2, 3]));
        let rest = repeated(&mut flight, start, (10_000..100_000).step_by(10)).len();
        assert_eq!((times.len() + rest, flight.due()), (MAX_ROUNDS, None));
    }

    #[test]
    fn an_answer_ends_no_repetition_but_what_is_sent_after_it_does() {
        let (start, mut flight) = (Instant::now(), Flight::default());
        flight.sent(to(), &record(22, 0, 1), start);
        flight.received(&record(22, 0, 9));
        assert_eq!(repeated(&mut flight, start, [250]), [(250, vec![1])]);
        flight.sent(to(), &record(20, 0, 2), after(start, 300));
        flight.sent(to(), &record(22, 1, 3), after(start, 301));
        assert_eq!(repeated(&mut flight, start, [549, 550]), [(550, vec![2, 3])]);
    }

    #[test]
    fn what_the_crate_repeats_itself_takes_the_place_of_what_it_repeats() {
        let (start, mut flight) = (Instant::now(), Flight::default());
        flight.sent(to(), &record(22, 0, 1), start);
        flight.sent(to(), &record(22, 0, 2), start);
        assert_eq!(repeated(&mut flight, start, [250, 750]).len(), 2);
        flight.sent(to(), &record(22, 0, 3), after(start, 1000));
        flight.sent(to(), &record(22, 0, 4), after(start, 1001));
        assert_eq!(repeated(&mut flight, start, [1000, 1749, 1750]), [(1750, vec![3, 4])]);
    }

    #[test]
    fn application_data_and_alerts_end_it_and_nothing_else_does() {
        let application = record(23, 1, 0);
        let through_relay = [&[64, 0, 0, 14], &*application].concat();
        let indication = |padding: &[u8]| {
            let head = [0, 0x17, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            [&head[..], padding, &[0, 0x13, 0, 14], &application, &[0, 0]].concat()
        };
        let behind_another = indication(&[0, 0x12, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]);
        for (datagram, ends) in [
            (application.clone(), true),
            (through_relay, true),
            (indication(&[]), true),
            (behind_another, true),
            (record(21, 0, 0), true),
            (record(22, 1, 0), false),
            (record(23, 0, 0), false),
            (vec![0, 1, 0, 0], false),
            (vec![0, 0x17, 0, 0], false),
            (vec![23, 254], false),
            (vec![], false),
        ] {
            let (start, mut flight) = (Instant::now(), Flight::default());
            flight.sent(to(), &record(22, 0, 1), start);
            flight.received(&datagram);
            assert_eq!(repeated(&mut flight, start, [250]).is_empty(), ends, "{datagram:?}");
            assert_eq!(flight.is_over(), ends);
            flight.sent(to(), &record(22, 0, 2), start);
            assert_eq!(flight.due().is_none(), ends, "what is over does not begin again");
        }
    }

    #[test]
    fn a_long_datagram_is_repeated_record_by_record() {
        let long = |content: u8, length: usize| {
            let head = [&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, content][..], &(length as u16).to_be_bytes()].concat();
            [head, vec![content; length]].concat()
        };
        let whole = [long(1, 400), long(2, 200), long(3, 0)].concat();
        let start = Instant::now();
        let repeated = |datagram: &[u8]| {
            let mut flight = Flight::default();
            flight.sent(to(), datagram, start);
            flight.repeat(after(start, 250)).into_iter().map(|(_, datagram)| datagram).collect::<Vec<_>>()
        };
        assert_eq!(repeated(&whole), [long(1, 400), long(2, 200), long(3, 0)]);
        let short = [long(1, 100), long(2, 100)].concat();
        assert_eq!(repeated(&short), std::slice::from_ref(&short));
        let cut = &whole[..620];
        assert_eq!(repeated(cut), [cut.to_vec()]);
        // Through a relay each is wrapped by itself, whichever way that is done.
        let channel_data = |data: &[u8]| [&[0x40, 7][..], &(data.len() as u16).to_be_bytes(), data].concat();
        let records = [long(1, 400), long(2, 200), long(3, 0)];
        let padded = [&channel_data(&whole)[..], &[0; 3]].concat();
        assert_eq!(repeated(&padded), records.clone().map(|record| channel_data(&record)));
        let indication = |data: &[u8], fingerprint: &[u8]| {
            let padding = vec![0; data.len().next_multiple_of(4) - data.len()];
            let peer = [0, 0x12, 0, 8, 0, 1, 1, 2, 3, 4, 5, 6];
            let data = [&[0, 0x13], &(data.len() as u16).to_be_bytes()[..], data, &padding].concat();
            let length = (peer.len() + data.len() + fingerprint.len()) as u16;
            [&[0, 0x16], &length.to_be_bytes()[..], &[0x21, 0x12, 0xa4, 0x42], &[9; 12], &peer, &data, fingerprint]
                .concat()
        };
        let sent = indication(&whole, &[0x80, 0x28, 0, 4, 1, 2, 3, 4]);
        assert_eq!(relayed(&sent), Some(&*whole));
        let parts = repeated(&sent);
        assert_eq!(parts.iter().map(|part| relayed(part).unwrap()).collect::<Vec<_>>(), records);
        assert_eq!(parts, records.map(|record| indication(&record, &[])));
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let (start, mut flight) = (Instant::now(), Flight::default());
        (0..100).for_each(|content| flight.sent(to(), &record(22, 0, content), start));
        assert_eq!(flight.repeat(after(start, 250)).len(), MAX_DATAGRAMS);
    }
}
