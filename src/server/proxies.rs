//! Whose word is taken on where a request has come from. Pure.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

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
    /// Reads a comma list of addresses and networks; `none` is nobody. An IPv4 address in IPv6 clothes is the IPv4
    /// address.
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
            let is_nobodys = match address {
                IpAddr::V4(address) => {
                    address.octets()[0] == 0 && network.prefix_len() >= 8
                        || address.is_multicast()
                        || address == Ipv4Addr::BROADCAST
                }
                IpAddr::V6(address) => {
                    address.is_unspecified() && network.prefix_len() == 128 || address.is_multicast()
                }
            };
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

    /// Where a client comes from whose TCP connection is from `source`, as proxies tell it in `X-Forwarded-For` and
    /// `X-Real-IP`: the nearest address that is no trusted proxy's. What anybody else says there does not count.
    ///
    /// A proxy appends to the first header whom it has seen, so of a trusted proxy's request the last entry is its
    /// own word. What stands before that is the word of the entry behind it, and counts if that is a trusted proxy,
    /// too; loopback there is none, since anybody on the proxy's own machine, such as an onion service, comes from
    /// it. Where both headers are there and contradict each other, one of them is what the client made up and the
    /// proxy passed on: then nobody knows where it comes from. Nor does anybody where loopback is told, which is the
    /// client's word or another proxy's own address: only a TCP connection shows that somebody is on this machine.
    /// All of these count as from one place, the unspecified address.
    pub(crate) fn client_behind(&self, source: IpAddr, forwarded_for: &[IpAddr], real_ip: Option<IpAddr>) -> IpAddr {
        if !self.contains(source) {
            return source.to_canonical();
        }
        let mut entries = forwarded_for.iter().rev().map(IpAddr::to_canonical);
        let real_ip = real_ip.map(|address| address.to_canonical());
        let Some(last) = entries.next() else { return real_ip.map_or(source.to_canonical(), told) };
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
pub(super) const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The IPv4 network that an IPv6 one stands for, if it lies in ::ffff:0:0/96 (RFC 4291, section 2.5.5.2): addresses
/// are compared in that form.
fn canonical(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(network) => network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let mapped = mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    mapped.map_or(network, IpNet::V4)
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
        let client = |source: &str, list: &[&str]| {
            let list: Vec<IpAddr> = list.iter().map(|text| ip(text)).collect();
            proxies.client_behind(ip(source), &list, None).to_string()
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
            "0.1.2.3",
            "0.0.0.0/8",
            "255.255.255.255",
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
}
