//! How many clients there are from each address and each network, and how fast they come. Pure.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::deadlines::Deadlines;
use super::table::Table;
use crate::bucket::{Bucket, Rate};

/// How many clients there are from each address and from each network, and how fast they come.
///
/// Newcomers, whose request head has not come yet, are counted beside the users: a newcomer may turn out to be a probe
/// that only asks whether the server is well, and such must not take a user's place, nor need one.
#[derive(Debug)]
pub struct Addresses {
    places: Table<IpAddr, Place>,
    /// IPv6 networks of 48 bits, which is what a site gets that has many of 64.
    networks: Table<IpAddr, Counts>,
    /// Addresses whose last client has left: they are forgotten once their bucket is full again.
    left: Deadlines<IpAddr>,
    caps: Caps,
    arrivals: Option<Rate>,
}

/// How many newcomers and how many users there may be at once.
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
    Newcomer,
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
    newcomers: u32,
    users: u32,
}

/// Why somebody cannot come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// There are as many from that address as may be.
    TooMany,
    /// There are as many from that network as may be.
    NetworkFull,
    /// They have come faster than they may.
    TooFast,
}

impl Addresses {
    /// Nobody yet; at most so many from each place, and users no faster than `arrivals`.
    pub fn new(caps: Caps, arrivals: Option<Rate>) -> Self {
        let refill = arrivals.map_or(Duration::ZERO, |rate| rate.per * rate.burst / rate.amount);
        let (places, networks) = (Table::default(), Table::default());
        Self { places, networks, left: Deadlines::new(refill), caps, arrivals }
    }

    /// Counts somebody in.
    ///
    /// # Errors
    /// [`NotAdmitted`]; it was not counted then.
    pub fn enter(&mut self, address: IpAddr, role: Role, now: Instant) -> Result<(), NotAdmitted> {
        let Some(address) = place(address) else { return Ok(()) };
        let counts = |addresses: &Self| addresses.places.get(&address).map(|place| place.counts).unwrap_or_default();
        if self.caps.address.is_some_and(|cap| counts(self).of(role) >= cap) {
            return Err(NotAdmitted::TooMany);
        }
        let network = network(address);
        let in_network = network.and_then(|network| self.networks.get(&network)).copied().unwrap_or_default();
        if network.is_some() && self.caps.network.is_some_and(|cap| in_network.of(role) >= cap) {
            return Err(NotAdmitted::NetworkFull);
        }
        let mut place = Place::default();
        let place = match self.places.get_mut(&address) {
            Some(place) => place,
            None => &mut place,
        };
        if role == Role::User && !place.arrivals.take(1, self.arrivals, now) {
            return Err(NotAdmitted::TooFast);
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
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl Counts {
    fn of(self, role: Role) -> usize {
        match role {
            Role::Newcomer => self.newcomers as usize,
            Role::User => self.users as usize,
        }
    }

    fn sum(self) -> u32 {
        self.newcomers + self.users
    }

    fn add(&mut self, role: Role) {
        *self.count(role) += 1;
    }

    fn subtract(&mut self, role: Role) {
        *self.count(role) -= 1;
    }

    fn count(&mut self, role: Role) -> &mut u32 {
        match role {
            Role::Newcomer => &mut self.newcomers,
            Role::User => &mut self.users,
        }
    }
}

/// Addresses remembered from which there is nobody any more.
const MAX_LEFT: usize = 100_000;

/// Addresses that one tick forgets.
const FORGOTTEN_PER_TICK: usize = 400;

/// What counts as one address: an IPv4 address, or a network of 64 bits, since that is what one IPv6 customer gets.
/// This machine is none: whoever is on it may do what he likes.
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
    use super::super::proxies::{Proxies, UNKNOWN};
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_header_brings_nobody_onto_this_machine_where_none_are_counted() {
        let proxies = Proxies::default();
        let now = Instant::now();
        let mut addresses = Addresses::new(caps(1, 9), None);
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
            assert_eq!(addresses.enter(client, Role::User, now).is_ok(), list == ["127.0.0.1"] && real_ip.is_none());
        }
        let local = proxies.client_behind(ip("127.0.0.1"), &[], None);
        assert!(
            (0..9).all(|_| addresses.enter(local, Role::User, now).is_ok()),
            "who comes by itself is on this machine"
        );
    }

    const fn caps(address: usize, network: usize) -> Caps {
        Caps { address: Some(address), network: Some(network) }
    }

    #[test]
    fn clients_are_counted_by_address_by_network_and_not_on_loopback() {
        let now = Instant::now();
        let mut addresses = Addresses::new(caps(2, 99), None);
        let mut enter = |text: &str| addresses.enter(ip(text), Role::User, now).is_ok();
        assert_eq!(
            ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"].map(&mut enter),
            [true, true, false, true]
        );
        assert_eq!(
            ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"].map(&mut enter),
            [true, true, false, true]
        );
        assert!((0..9).all(|_| enter("127.0.0.1") && enter("::1")));
        addresses.leave(ip("192.0.2.1"), Role::User, now);
        assert_eq!(addresses.enter(ip("192.0.2.1"), Role::User, now), Ok(()));
        assert_eq!(addresses.enter(ip("192.0.2.1"), Role::User, now), Err(NotAdmitted::TooMany));
        for text in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::1"] {
            addresses.leave(ip(text), Role::User, now);
        }
        addresses.tick(now);
        assert!(addresses.is_empty() && addresses.networks.is_empty());
    }

    #[test]
    fn a_site_with_many_networks_has_a_cap_of_its_own() {
        let now = Instant::now();
        let mut addresses = Addresses::new(caps(2, 5), None);
        let mut enter = |text: String| addresses.enter(ip(&text), Role::User, now);
        let site: Vec<_> = (0..7).map(|number| enter(format!("2001:db8:1:{number}::1"))).collect();
        assert_eq!(site, [[Ok(()); 5].as_slice(), &[Err(NotAdmitted::NetworkFull); 2]].concat());
        assert_eq!(enter("2001:db8:2::1".to_owned()), Ok(()), "its neighbour");
        assert_eq!(enter("192.0.2.1".to_owned()), Ok(()));
        addresses.leave(ip("2001:db8:1:3::1"), Role::User, now);
        assert_eq!(addresses.enter(ip("2001:db8:1:6::1"), Role::User, now), Ok(()));
    }

    #[test]
    fn newcomers_take_no_place_of_a_user_and_do_not_make_them_come_too_fast() {
        let now = Instant::now();
        let rate = Rate { amount: 1, per: Duration::from_secs(1), burst: 2 };
        let mut addresses = Addresses::new(caps(2, 99), Some(rate));
        let address = ip("192.0.2.1");
        for _ in 0..100 {
            assert_eq!(addresses.enter(address, Role::Newcomer, now), Ok(()));
            addresses.leave(address, Role::Newcomer, now);
        }
        assert!(addresses.is_empty() && addresses.left.is_empty(), "nothing is remembered of them");
        let mut enter = |role| addresses.enter(address, role, now);
        assert_eq!([enter(Role::Newcomer), enter(Role::Newcomer), enter(Role::User), enter(Role::User)], [Ok(()); 4]);
        assert_eq!([enter(Role::Newcomer), enter(Role::User)], [Err(NotAdmitted::TooMany); 2]);
    }

    #[test]
    fn who_comes_and_goes_is_remembered_until_its_bucket_is_full_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut addresses =
            Addresses::new(caps(9, 99), Some(Rate { amount: 1, per: Duration::from_secs(1), burst: 3 }));
        let address = ip("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(addresses.enter(address, Role::User, start), Ok(()));
            addresses.leave(address, Role::User, start);
        }
        assert_eq!(addresses.enter(address, Role::User, start), Err(NotAdmitted::TooFast));
        assert_eq!(addresses.enter(ip("192.0.2.2"), Role::User, start), Ok(()));
        addresses.tick(at(2));
        assert_eq!(addresses.enter(address, Role::User, at(2)), Ok(()));
        addresses.tick(at(3));
        assert_eq!(addresses.len(), 2, "there is somebody from it again");
        addresses.leave(address, Role::User, at(4));
        addresses.tick(at(7));
        assert_eq!(addresses.len(), 1);
    }
}
