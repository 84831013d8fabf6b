//! Every bound that the server keeps, in one table. Pure.

use std::time::Duration;

pub use crate::bucket::Rate;

/// How much the server holds for its clients, how much it takes from each, and how long it waits for them.
///
/// [`bounds`](super::bounds) says the same for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, in bytes of payload. A longer one ends the connection with 1009.
    pub message_bytes: usize,
    /// The longest request head, in bytes. A longer one gets 431. Cookies of everything else on a domain come along
    /// with it, and browsers have been seen to send 9 KiB of them.
    pub head_bytes: usize,
    /// How long a client may take for its request head. A slower one gets 408.
    pub head_time: Duration,
    /// How often every client is sent a ping.
    pub ping_interval: Duration,
    /// How long a client may go without sending a byte before it is cut.
    pub silence: Duration,
    /// How fast a client has to go on with a message that it has begun, and with what waits for it. One that does not
    /// is cut.
    pub pace: LeastPace,
    /// How many bytes of unfinished messages and unsent ones are held in all. Beyond, the furthest behind is cut.
    pub held_bytes: usize,
    /// How many bytes may wait to be sent to one client. One that is further behind is cut with 1008, and whoever
    /// sent to it is told `RELAY_FAILED`.
    pub unsent_bytes: usize,
    /// How long the end of a connection may take once it has begun: the close handshake and the last bytes.
    pub close_time: Duration,
    /// Messages, fragments of such, pings and pongs of one client.
    pub websocket_frames: Option<Rate>,
    /// Bytes from one client.
    pub bytes: Option<Rate>,
    /// `session:connect`, `:create` and `:join` of one client.
    pub calls: Option<Rate>,
    /// Messages and calls from one address to who is not online, over all of its clients. Loopback is not counted.
    pub misses: Option<Rate>,
    /// Errors of one client that are its own fault (`strikes`). Beyond these it is closed with 1008.
    pub strikes: Rate,
    /// How often one client is told `RATE_LIMITED`. Beyond that, what is too much is dropped without a word.
    pub refusals: Rate,
    /// Clients in all. More get 503.
    pub clients: usize,
    /// Clients from one IPv4 address or one IPv6 network of 64 bits. More get 429. Loopback is not capped.
    pub clients_per_address: Option<usize>,
    /// Clients from one IPv6 network of 48 bits. More get 429.
    pub clients_per_network: Option<usize>,
    /// Clients that come from one address, be it one after the other. More get 429. Loopback is not counted.
    pub arrivals: Option<Rate>,
    /// Open sessions in all. One more ends the oldest.
    pub sessions: usize,
    /// Open sessions that one name has begun. More get `RATE_LIMITED`.
    pub sessions_per_name: usize,
    /// How long a name with a token is kept for its owner after the connection was lost.
    pub reservation: Duration,
    /// Names kept so. One more frees the oldest.
    pub reservations: usize,
    /// Meetings that are remembered: users that a session has joined a moment ago, each pair twice. One more ends the
    /// oldest.
    pub meetings: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            head_bytes: 16 * 1024,
            head_time: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            silence: Duration::from_secs(60),
            pace: LeastPace { time: Duration::from_secs(30), bytes: 2048 },
            held_bytes: 256 * 1024 * 1024,
            unsent_bytes: 256 * 1024,
            close_time: Duration::from_secs(3),
            websocket_frames: Some(Rate { amount: 200, per: Duration::from_secs(1), burst: 2000 }),
            bytes: Some(Rate { amount: 256 * 1024, per: Duration::from_secs(1), burst: 4 * 1024 * 1024 }),
            calls: Some(Rate { amount: 60, per: Duration::from_secs(60), burst: 60 }),
            misses: Some(Rate { amount: 10, per: Duration::from_secs(1), burst: 600 }),
            strikes: Rate { amount: 1, per: Duration::from_secs(1), burst: 50 },
            refusals: Rate { amount: 50, per: Duration::from_secs(1), burst: 1000 },
            clients: 1_000_000,
            clients_per_address: Some(CLIENTS_PER_ADDRESS),
            clients_per_network: Some(16_384),
            arrivals: Some(Rate { amount: 5, per: Duration::from_secs(1), burst: 512 }),
            sessions: 1_000_000,
            sessions_per_name: 1000,
            reservation: Duration::from_secs(60),
            reservations: 100_000,
            meetings: 1_000_000,
        }
    }
}

impl Limits {
    /// Switches the buckets and the caps per address and network off, for benchmarks and private networks.
    pub fn without_rates(self) -> Self {
        let (clients_per_address, clients_per_network) = (None, None);
        Self {
            websocket_frames: None,
            bytes: None,
            calls: None,
            misses: None,
            clients_per_address,
            clients_per_network,
            arrivals: None,
            ..self
        }
    }

    /// Sizes what an address may do by how many may be there. As many may come at once, twice over: after a restart
    /// all of them come back, and some more than once. And they may miss as many in the same proportion as by default.
    pub(crate) fn with_addresses_of_all(self) -> Self {
        let all = self.clients_per_address.map_or(0, |cap| u32::try_from(cap.saturating_mul(2)).unwrap_or(u32::MAX));
        let arrivals = self.arrivals.map(|rate| Rate { burst: rate.burst.max(all), ..rate });
        let scaled = |number: u32, cap: usize| {
            u32::try_from((number as usize).saturating_mul(cap) / CLIENTS_PER_ADDRESS).unwrap_or(u32::MAX).max(number)
        };
        let cap = self.clients_per_address.unwrap_or(CLIENTS_PER_ADDRESS);
        let misses =
            self.misses.map(|rate| Rate { amount: scaled(rate.amount, cap), burst: scaled(rate.burst, cap), ..rate });
        Self { arrivals, misses, ..self }
    }
}

/// What an office, a school or a household of many has behind one address.
const CLIENTS_PER_ADDRESS: usize = 256;

/// How fast a client has to go on with what it makes the server hold: in each `time` it sends `bytes` at least of a
/// message that it has begun, and takes one byte at least of what waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastPace {
    /// The time from one look to the next.
    pub time: Duration,
    /// The least number of bytes that it sends of its message in that time.
    pub bytes: usize,
}

/// How many clients a process has room for that may open `descriptors` files. `KEPT_DESCRIPTORS` of them, or half
/// where there are few, are kept for probes, for newcomers, who have not said yet what they want, and for files.
pub fn clients_of(descriptors: u64) -> usize {
    let kept = KEPT_DESCRIPTORS.min(descriptors / 2);
    usize::try_from(descriptors - kept).unwrap_or(usize::MAX)
}

/// Twice as many as one turn takes in before it looks at what they want, and what the server itself has open.
const KEPT_DESCRIPTORS: u64 = 320;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_may_do_grows_with_how_many_may_be_there() {
        let sizes = |cap| {
            let limits = Limits { clients_per_address: cap, ..Limits::default() }.with_addresses_of_all();
            (limits.arrivals.unwrap().burst, limits.misses.unwrap().amount, limits.misses.unwrap().burst)
        };
        let caps = [None, Some(2), Some(256), Some(2560), Some(usize::MAX)].map(sizes);
        let most = u32::MAX;
        assert_eq!(caps, [(512, 10, 600), (512, 10, 600), (512, 10, 600), (5120, 100, 6000), (most, most, most)]);
    }
}
