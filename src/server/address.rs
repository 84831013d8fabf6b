//! Where clients come from, and how many from where. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
            if network.prefix_len() == 0 {
                return Err(format!(
                    "{item:?} is no proxy's network but everybody, who could all say where they come from"
                ));
            }
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

    /// Where a client comes from whose TCP connection is from `peer`, as proxies tell it in `X-Forwarded-For` and `X-Real-IP`: the
    /// nearest address that is no trusted proxy's. What anybody else says there does not count.
    ///
    /// A proxy appends to the first header whom it has seen, so of a trusted proxy's request the last entry is its own word. What
    /// stands before that is the word of the entry behind it, and counts if that is a trusted proxy, too; loopback there is none,
    /// since anybody on the proxy's own machine, such as an onion service, comes from it. Where both headers are there and
    /// contradict each other, one of them is what the client made up and the proxy passed on: then nobody knows where it comes from.
    /// Nor does anybody where loopback is told, which is the client's word or another proxy's own address: only a TCP connection
    /// shows that somebody is on this machine. All of these count as from one place, the unspecified address.
    pub fn client_behind(&self, peer: IpAddr, forwarded_for: &[IpAddr], real_ip: Option<IpAddr>) -> IpAddr {
        if !self.contains(peer) {
            return peer.to_canonical();
        }
        let mut entries = forwarded_for.iter().rev().map(IpAddr::to_canonical);
        let real_ip = real_ip.map(|address| address.to_canonical());
        let Some(last) = entries.next() else { return real_ip.map_or(peer.to_canonical(), told) };
        let mut client = last;
        for address in entries {
            if client.is_loopback() || !self.contains(client) {
                break;
            }
            client = address;
        }
        match real_ip {
            Some(real_ip) if real_ip != last && real_ip != client => UNKNOWN,
            _ => told(client),
        }
    }
}

/// What an address counts as that a header tells.
fn told(address: IpAddr) -> IpAddr {
    if address.is_loopback() || address.is_unspecified() { UNKNOWN } else { address }
}

/// Stands for an address that a proxy did not tell.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

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

/// How many clients there are from each address and from each network, and how fast they come.
///
/// Callers, whose request head has not come yet, are counted beside the users: a caller may turn out to be a probe that
/// only asks whether the server is well, and such must not take a user's place, nor need one.
#[derive(Debug)]
pub struct Crowd {
    places: Table<IpAddr, Place>,
    /// IPv6 networks of 48 bits, which is what a site gets that has many of 64.
    networks: Table<IpAddr, Counts>,
    /// Addresses whose last client has left: they are forgotten once their bucket is full again.
    left: Deadlines<IpAddr>,
    caps: Caps,
    arrivals: Option<Rate>,
}

/// How many callers and how many users there may be at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// From one IPv4 address or one IPv6 network of 64 bits.
    pub address: Option<usize>,
    /// From one IPv6 network of 48 bits.
    pub network: Option<usize>,
}

/// What somebody is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its request head has not come yet.
    Caller,
    /// It wants to be online, or is.
    User,
}

#[derive(Debug, Default)]
struct Place {
    counts: Counts,
    arrivals: Bucket,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    callers: u32,
    users: u32,
}

/// Why somebody cannot come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many from that address as may be.
    TooMany,
    /// There are as many from that network as may be.
    NetworkFull,
    /// They have come faster than they may.
    TooFast,
}

impl Crowd {
    /// Nobody yet; at most so many from each place, and users no faster than `arrivals`.
    pub fn new(caps: Caps, arrivals: Option<Rate>) -> Self {
        let refill = arrivals.map_or(Duration::ZERO, |rate| rate.per * rate.burst / rate.amount);
        let (places, networks) = (Table::default(), Table::default());
        Self { places, networks, left: Deadlines::new(refill), caps, arrivals }
    }

    /// Counts somebody in.
    ///
    /// # Errors
    /// [`Refusal`]; it was not counted then.
    pub fn enter(&mut self, address: IpAddr, role: Role, now: Instant) -> Result<(), Refusal> {
        let Some(address) = place(address) else { return Ok(()) };
        let counts = |crowd: &Self| crowd.places.get(&address).map(|place| place.counts).unwrap_or_default();
        if self.caps.address.is_some_and(|cap| counts(self).of(role) >= cap) {
            return Err(Refusal::TooMany);
        }
        let network = network(address);
        let in_network = network.and_then(|network| self.networks.get(&network)).copied().unwrap_or_default();
        if network.is_some() && self.caps.network.is_some_and(|cap| in_network.of(role) >= cap) {
            return Err(Refusal::NetworkFull);
        }
        let mut place = Place::default();
        let place = match self.places.get_mut(&address) {
            Some(place) => place,
            None => &mut place,
        };
        if role == Role::User && !place.arrivals.take(1, self.arrivals, now) {
            return Err(Refusal::TooFast);
        }
        place.counts.add(role);
        if place.counts.sum() == 1 {
            let place = std::mem::take(place);
            self.places.insert(address, place);
        }
        if let Some(network) = network {
            match self.networks.get_mut(&network) {
                Some(counts) => counts.add(role),
                None => {
                    let mut counts = Counts::default();
                    counts.add(role);
                    self.networks.insert(network, counts);
                }
            }
        }
        Ok(())
    }

    /// Counts out somebody who was counted in.
    pub fn leave(&mut self, address: IpAddr, role: Role, now: Instant) {
        let Some(address) = place(address) else { return };
        if let Some(network) = network(address)
            && let Some(counts) = self.networks.get_mut(&network)
        {
            counts.subtract(role);
            if counts.sum() == 0 {
                self.networks.remove(&network);
            }
        }
        let Some(place) = self.places.get_mut(&address) else { return };
        place.counts.subtract(role);
        if place.counts.sum() > 0 {
            return;
        }
        if place.arrivals.is_full(now) {
            self.places.remove(&address);
            return;
        }
        self.left.set(address, now);
        // Whoever comes from a great many addresses must not fill the memory.
        if self.left.len() > MAX_LEFT
            && let Some((due, oldest)) = self.left.pop()
        {
            self.forget(oldest, due);
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
        if self.places.get(&address).is_some_and(|place| place.counts.sum() == 0 && place.arrivals.is_full(now)) {
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

impl Counts {
    fn of(self, role: Role) -> usize {
        match role {
            Role::Caller => self.callers as usize,
            Role::User => self.users as usize,
        }
    }

    fn sum(self) -> u32 {
        self.callers + self.users
    }

    fn add(&mut self, role: Role) {
        *self.count(role) += 1;
    }

    fn subtract(&mut self, role: Role) {
        *self.count(role) -= 1;
    }

    fn count(&mut self, role: Role) -> &mut u32 {
        match role {
            Role::Caller => &mut self.callers,
            Role::User => &mut self.users,
        }
    }
}

/// Addresses remembered from which there is nobody any more.
const MAX_LEFT: usize = 100_000;

/// Addresses that one tick forgets.
const FORGOTTEN_PER_TICK: usize = 400;

/// What counts as one address: an IPv4 address, or a network of 64 bits, since that is what one IPv6 customer gets. This
/// machine is none: whoever is on it may do what he likes.
pub fn place(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => Some(address.into()),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Some(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
        }
    }
}

/// The network of 48 bits that a place is in.
fn network(place: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = place else { return None };
    let [a, b, c, ..] = address.segments();
    Some(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into())
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
            proxies.client_behind(ip(peer), &list, None).to_string()
        };
        assert_eq!(client("192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(client("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(client("::ffff:127.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            client("::1", &["203.0.113.9", "198.51.100.1"]),
            "198.51.100.1",
            "the first is the client's own word"
        );
        assert_eq!(
            client("::1", &["198.51.100.1", "127.0.0.1"]),
            "0.0.0.0",
            "who is on the proxy's machine may say what he likes"
        );
    }

    #[test]
    fn a_chain_of_proxies_is_followed_as_far_as_they_are_trusted() {
        let proxies = Proxies::parse("::1,10.0.0.0/8").unwrap();
        let client = |list: &[&str]| {
            let list: Vec<IpAddr> = list.iter().map(|text| ip(text)).collect();
            proxies.client_behind(ip("::1"), &list, None).to_string()
        };
        assert_eq!(client(&["203.0.113.9", "198.51.100.1", "::ffff:10.0.0.2", "10.0.0.1"]), "198.51.100.1");
        assert_eq!(client(&["10.0.0.2", "10.0.0.1"]), "10.0.0.2", "nobody else is named");
        assert_eq!(client(&["198.51.100.1", "::1", "10.0.0.1"]), "0.0.0.0");
    }

    #[test]
    fn headers_that_contradict_each_other_make_nobody_of_a_client() {
        let proxies = Proxies::parse("::1,10.0.0.0/8").unwrap();
        let client = |list: &[&str], real_ip: &str| {
            let list: Vec<IpAddr> = list.iter().map(|text| ip(text)).collect();
            proxies.client_behind(ip("::1"), &list, Some(ip(real_ip))).to_string()
        };
        assert_eq!(client(&[], "198.51.100.1"), "198.51.100.1");
        assert_eq!(client(&["203.0.113.9", "198.51.100.1"], "::ffff:198.51.100.1"), "198.51.100.1");
        assert_eq!(client(&["198.51.100.1", "10.0.0.1"], "10.0.0.1"), "198.51.100.1", "the nearer proxy says both");
        assert_eq!(
            client(&["198.51.100.1", "10.0.0.1"], "198.51.100.1"),
            "198.51.100.1",
            "the farther proxy says both"
        );
        assert_eq!(client(&["203.0.113.9"], "198.51.100.1"), "0.0.0.0", "one is made up");
        assert_eq!(proxies.client_behind(ip("192.0.2.1"), &[], Some(ip("203.0.113.9"))), ip("192.0.2.1"));
    }

    #[test]
    fn a_header_brings_nobody_onto_this_machine_where_none_are_counted() {
        let proxies = Proxies::default();
        let now = Instant::now();
        let mut crowd = Crowd::new(caps(1, 9), None);
        for (list, real_ip) in [
            (&["127.0.0.1"][..], None),
            (&["198.51.100.1", "127.9.9.9"], None),
            (&["::1"], None),
            (&["::ffff:127.0.0.1"], None),
            (&["::"], None),
            (&["0.0.0.0"], None),
            (&[], Some("127.0.0.1")),
            (&[], Some("::1")),
            (&["127.0.0.1"], Some("127.0.0.1")),
            (&["127.0.0.1", "::1"], Some("127.0.0.1")),
        ] {
            let told: Vec<IpAddr> = list.iter().map(|text| ip(text)).collect();
            let client = proxies.client_behind(ip("127.0.0.1"), &told, real_ip.map(ip));
            assert_eq!(client, UNKNOWN, "{list:?} {real_ip:?}");
            assert_eq!(crowd.enter(client, Role::User, now).is_ok(), list == ["127.0.0.1"] && real_ip.is_none());
        }
        let local = proxies.client_behind(ip("127.0.0.1"), &[], None);
        assert!((0..9).all(|_| crowd.enter(local, Role::User, now).is_ok()), "who comes by itself is on this machine");
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
            "0.0.0.0/0",
            "10.0.0.0/0",
            "::/0",
            "::ffff:0:0/96",
        ] {
            let error = Proxies::parse(&format!("10.0.0.1, {bad}")).unwrap_err();
            assert!(error.starts_with(&format!("{bad:?} is no ")), "{bad}: {error}");
        }
        assert!(Proxies::parse("10.0.0.1,").is_err() && Proxies::parse("none,10.0.0.1").is_err());
    }

    const fn caps(address: usize, network: usize) -> Caps {
        Caps { address: Some(address), network: Some(network) }
    }

    #[test]
    fn clients_are_counted_by_address_by_network_and_not_on_loopback() {
        let now = Instant::now();
        let mut crowd = Crowd::new(caps(2, 99), None);
        let mut enter = |text: &str| crowd.enter(ip(text), Role::User, now).is_ok();
        assert_eq!(
            ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"].map(&mut enter),
            [true, true, false, true]
        );
        assert_eq!(
            ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"].map(&mut enter),
            [true, true, false, true]
        );
        assert!((0..9).all(|_| enter("127.0.0.1") && enter("::1")));
        crowd.leave(ip("192.0.2.1"), Role::User, now);
        assert_eq!(crowd.enter(ip("192.0.2.1"), Role::User, now), Ok(()));
        assert_eq!(crowd.enter(ip("192.0.2.1"), Role::User, now), Err(Refusal::TooMany));
        for text in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::1"] {
            crowd.leave(ip(text), Role::User, now);
        }
        crowd.tick(now);
        assert!(crowd.is_empty() && crowd.networks.is_empty());
    }

    #[test]
    fn a_site_with_many_networks_has_a_cap_of_its_own() {
        let now = Instant::now();
        let mut crowd = Crowd::new(caps(2, 5), None);
        let mut enter = |text: String| crowd.enter(ip(&text), Role::User, now);
        let site: Vec<_> = (0..7).map(|number| enter(format!("2001:db8:1:{number}::1"))).collect();
        assert_eq!(site, [[Ok(()); 5].as_slice(), &[Err(Refusal::NetworkFull); 2]].concat());
        assert_eq!(enter("2001:db8:2::1".to_owned()), Ok(()), "its neighbour");
        assert_eq!(enter("192.0.2.1".to_owned()), Ok(()));
        crowd.leave(ip("2001:db8:1:3::1"), Role::User, now);
        assert_eq!(crowd.enter(ip("2001:db8:1:6::1"), Role::User, now), Ok(()));
    }

    #[test]
    fn callers_take_no_place_of_a_user_and_do_not_make_them_come_too_fast() {
        let now = Instant::now();
        let rate = Rate { amount: 1, per: Duration::from_secs(1), burst: 2 };
        let mut crowd = Crowd::new(caps(2, 99), Some(rate));
        let address = ip("192.0.2.1");
        for _ in 0..100 {
            assert_eq!(crowd.enter(address, Role::Caller, now), Ok(()));
            crowd.leave(address, Role::Caller, now);
        }
        assert!(crowd.is_empty() && crowd.left.is_empty(), "nothing is remembered of them");
        let mut enter = |role| crowd.enter(address, role, now);
        assert_eq!([enter(Role::Caller), enter(Role::Caller), enter(Role::User), enter(Role::User)], [Ok(()); 4]);
        assert_eq!([enter(Role::Caller), enter(Role::User)], [Err(Refusal::TooMany); 2]);
    }

    #[test]
    fn who_comes_and_goes_is_remembered_until_its_bucket_is_full_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut crowd = Crowd::new(caps(9, 99), Some(Rate { amount: 1, per: Duration::from_secs(1), burst: 3 }));
        let address = ip("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(crowd.enter(address, Role::User, start), Ok(()));
            crowd.leave(address, Role::User, start);
        }
        assert_eq!(crowd.enter(address, Role::User, start), Err(Refusal::TooFast));
        assert_eq!(crowd.enter(ip("192.0.2.2"), Role::User, start), Ok(()));
        crowd.tick(at(2));
        assert_eq!(crowd.enter(address, Role::User, at(2)), Ok(()));
        crowd.tick(at(3));
        assert_eq!(crowd.len(), 2, "there is somebody from it again");
        crowd.leave(address, Role::User, at(4));
        crowd.tick(at(7));
        assert_eq!(crowd.len(), 1);
    }
}
