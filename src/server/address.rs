//! Where clients come from, and how many from where. Pure.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};

use super::deadlines::Deadlines;
use super::limits::{Bucket, Rate};
use super::table::Table;

/// Proxies whose word on where a request has come from is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Default for Proxies {
    /// Those on this machine.
    fn default() -> Self {
        Self::parse("127.0.0.0/8,::1").expect("these are networks")
    }
}

impl Proxies {
    /// Reads a comma list of addresses and networks; `none` is nobody. An IPv4 address in IPv6 clothes is the IPv4 address.
    ///
    /// # Errors
    /// Which entry is none, or one that no proxy can have, for people.
    pub fn parse(list: &str) -> Result<Self, String> {
        if list.trim() == "none" {
            return Ok(Self(Vec::new()));
        }
        let parse = |item: &str| {
            let network = item.parse().ok().or_else(|| item.parse::<IpAddr>().ok().map(IpNet::from));
            let network = network.ok_or_else(|| format!("{item:?} is no address and no network"))?;
            let network = canonical(network);
            let address = network.addr();
            let is_nobodys =
                address.is_unspecified() && network.prefix_len() == network.max_prefix_len() || address.is_multicast();
            match is_nobodys || matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
                true => Err(format!("{item:?} is no address or network that a proxy can have")),
                false => Ok(network),
            }
        };
        list.split(',').map(str::trim).map(parse).collect::<Result<Vec<IpNet>, String>>().map(Self)
    }

    /// Whether the one at this address is such a proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Where a client comes from whose TCP connection is from `peer`: the nearest address in `forwarded_for` that is no
    /// trusted proxy's. What anybody else says there does not count.
    pub fn client_behind(&self, peer: IpAddr, forwarded_for: &[IpAddr]) -> IpAddr {
        let mut client = peer;
        for address in forwarded_for.iter().rev() {
            if !self.contains(client) {
                break;
            }
            client = *address;
        }
        client.to_canonical()
    }
}

/// The IPv4 network that an IPv6 one stands for, if it lies in ::ffff:0:0/96 (RFC 4291, section 2.5.5.2): addresses are compared
/// in that form.
fn canonical(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(network) => network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let mapped = mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    mapped.map_or(network, IpNet::V4)
}

/// How many clients there are from each address, and how fast they come.
#[derive(Debug)]
pub struct Crowd {
    places: Table<IpAddr, Place>,
    /// Addresses whose last client has left: they are forgotten once their bucket is full again.
    left: Deadlines<IpAddr>,
    cap: Option<usize>,
    arrivals: Option<Rate>,
}

#[derive(Debug, Default)]
struct Place {
    count: usize,
    arrivals: Bucket,
}

/// Why somebody cannot come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many from that address as may be.
    TooMany,
    /// They have come faster than they may.
    TooFast,
}

impl Crowd {
    /// Nobody yet; at most `cap` from each address, and no faster than `arrivals`.
    pub fn new(cap: Option<usize>, arrivals: Option<Rate>) -> Self {
        let refill = arrivals.map_or(Duration::ZERO, |rate| rate.per * rate.burst / rate.amount);
        Self { places: Table::default(), left: Deadlines::new(refill), cap, arrivals }
    }

    /// Counts a client in.
    ///
    /// # Errors
    /// [`Refusal`]; it was not counted then.
    pub fn enter(&mut self, address: IpAddr, now: Instant) -> Result<(), Refusal> {
        let Some(address) = place(address) else { return Ok(()) };
        if let Some(place) = self.places.get_mut(&address) {
            return place.enter(self.cap, self.arrivals, now);
        }
        let mut place = Place::default();
        place.enter(self.cap, self.arrivals, now)?;
        self.places.insert(address, place);
        Ok(())
    }

    /// Counts out a client that was counted in.
    pub fn leave(&mut self, address: IpAddr, now: Instant) {
        let Some(address) = place(address) else { return };
        if let Some(place) = self.places.get_mut(&address) {
            place.count -= 1;
            if place.count == 0 {
                self.left.set(address, now);
                // Whoever comes from a great many addresses must not fill the memory.
                if self.left.len() > MAX_LEFT
                    && let Some((due, oldest)) = self.left.pop()
                {
                    self.forget(oldest, due);
                }
            }
        }
    }

    /// Forgets addresses whose clients have left long ago, as many as one turn has time for.
    pub fn tick(&mut self, now: Instant) {
        for _ in 0..FORGOTTEN_PER_TICK {
            let Some(address) = self.left.pop_due(now) else { return };
            self.forget(address, now);
        }
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.left.next()
    }

    /// Forgets an address from which there is nobody, and whose bucket is full at `now`.
    fn forget(&mut self, address: IpAddr, now: Instant) {
        if self.places.get(&address).is_some_and(|place| place.count == 0 && place.arrivals.is_full(now)) {
            self.places.remove(&address);
        }
    }

    /// How many addresses are remembered.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl Place {
    fn enter(&mut self, cap: Option<usize>, arrivals: Option<Rate>, now: Instant) -> Result<(), Refusal> {
        if cap.is_some_and(|cap| self.count >= cap) {
            return Err(Refusal::TooMany);
        }
        if !self.arrivals.take(1, arrivals, now) {
            return Err(Refusal::TooFast);
        }
        self.count += 1;
        Ok(())
    }
}

/// Addresses remembered from which there is nobody any more.
const MAX_LEFT: usize = 100_000;

/// Addresses that one tick forgets.
const FORGOTTEN_PER_TICK: usize = 400;

/// What counts as one address: an IPv4 address, or a network of 64 bits, since that is what one IPv6 customer gets. This
/// machine is none: whoever is on it may do what he likes.
fn place(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => Some(address.into()),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Some(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = Proxies::default();
        let client = |peer: &str, list: &[&str]| {
            let list: Vec<IpAddr> = list.iter().map(|text| ip(text)).collect();
            proxies.client_behind(ip(peer), &list).to_string()
        };
        assert_eq!(client("192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(client("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(client("::ffff:127.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            client("::1", &["203.0.113.9", "198.51.100.1"]),
            "198.51.100.1",
            "the first is the client's own word"
        );
        assert_eq!(client("::1", &["198.51.100.1", "127.0.0.1"]), "198.51.100.1");
    }

    #[test]
    fn proxies_are_addresses_networks_or_none() {
        let proxies = Proxies::parse("10.0.0.0/8, 2001:db8::1").unwrap();
        assert!(proxies.contains(ip("10.1.2.3")) && proxies.contains(ip("2001:db8::1")));
        assert!(!proxies.contains(ip("127.0.0.1")) && !proxies.contains(ip("2001:db8::2")));
        assert!(!Proxies::parse("none").unwrap().contains(ip("127.0.0.1")));
        for (item, v4) in
            [("::ffff:192.0.2.9", "192.0.2.9"), ("::ffff:c000:200/120", "192.0.2.9"), ("192.0.2.1/24", "192.0.2.9")]
        {
            let proxies = Proxies::parse(item).unwrap();
            assert!(proxies.contains(ip(v4)) && proxies.contains(ip(&format!("::ffff:{v4}"))), "{item}");
            assert!(!proxies.contains(ip("192.0.3.9")), "{item}");
        }
        assert!(Proxies::parse("::/0").unwrap().contains(ip("2001:db8::1")));
        for bad in [
            "",
            "localhost",
            "10.0.0.0/33",
            "*",
            "[::1]",
            "10.0.0.1:80",
            "fe80::1%eth0",
            "\"10.0.0.1\"",
            "0.0.0.0",
            "::",
            "::ffff:0.0.0.0",
            "224.0.0.1",
            "ff02::1",
            "10.0.0.1 10.0.0.2",
            "None",
            "10.0.0",
        ] {
            let error = Proxies::parse(&format!("10.0.0.1, {bad}")).unwrap_err();
            assert!(error.starts_with(&format!("{bad:?} is no ")), "{bad}: {error}");
        }
        assert!(Proxies::parse("10.0.0.1,").is_err() && Proxies::parse("none,10.0.0.1").is_err());
    }

    #[test]
    fn clients_are_counted_by_address_by_network_and_not_on_loopback() {
        let now = Instant::now();
        let mut crowd = Crowd::new(Some(2), None);
        let mut enter = |text: &str| crowd.enter(ip(text), now).is_ok();
        assert_eq!(
            ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"].map(&mut enter),
            [true, true, false, true]
        );
        assert_eq!(
            ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"].map(&mut enter),
            [true, true, false, true]
        );
        assert!((0..9).all(|_| enter("127.0.0.1") && enter("::1")));
        crowd.leave(ip("192.0.2.1"), now);
        assert_eq!(crowd.enter(ip("192.0.2.1"), now), Ok(()));
        assert_eq!(crowd.enter(ip("192.0.2.1"), now), Err(Refusal::TooMany));
        for text in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::1"] {
            crowd.leave(ip(text), now);
        }
        crowd.tick(now);
        assert!(crowd.is_empty());
    }

    #[test]
    fn who_comes_and_goes_is_remembered_until_its_bucket_is_full_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut crowd = Crowd::new(Some(9), Some(Rate { amount: 1, per: Duration::from_secs(1), burst: 3 }));
        let address = ip("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(crowd.enter(address, start), Ok(()));
            crowd.leave(address, start);
        }
        assert_eq!(crowd.enter(address, start), Err(Refusal::TooFast));
        assert_eq!(crowd.enter(ip("192.0.2.2"), start), Ok(()));
        crowd.tick(at(2));
        assert_eq!(crowd.enter(address, at(2)), Ok(()));
        crowd.tick(at(3));
        assert_eq!(crowd.len(), 2, "there is somebody from it again");
        crowd.leave(address, at(4));
        crowd.tick(at(7));
        assert_eq!(crowd.len(), 1);
    }
}
