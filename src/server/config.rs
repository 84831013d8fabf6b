//! The server's settings, read from an environment that comes in as a lookup function.

#[cfg(feature = "cluster")]
mod cluster;
mod duration;
mod error;
mod origins;
mod secrets;
mod variables;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

pub use super::access::{Access, AccessToken, Cors};
use super::limits::Limits;
pub use super::proxies::Proxies;
pub use super::turn_servers::TurnServers;
use duration::MAX_TTL;
pub use error::ConfigError;
use error::error;
pub use secrets::Secrets;
#[cfg(not(feature = "cluster"))]
use variables::CLUSTER_VARIABLES;
pub use variables::VARIABLES;
use variables::{FILES, check_presence};

/// What an operator can set (protocol 1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The address to listen on; `None` means every address of the machine, IPv4 and IPv6.
    pub host: Option<IpAddr>,
    /// The TCP port to listen on; 0 takes a free one.
    pub port: u16,
    /// How long a session lives from its creation or its last join.
    pub session_ttl: Duration,
    /// Who may come in.
    pub access: Access,
    /// Whose word on where a request has come from is taken.
    pub proxies: Proxies,
    /// Where the metrics can be read.
    pub metrics: MetricsAt,
    /// Which STUN and TURN servers users are told of.
    pub turn_servers: Option<TurnServers>,
    /// Over which time the server's own stop is spread.
    pub drain_time: Duration,
    /// What is bounded.
    pub limits: Limits,
    /// The cluster that it is in.
    #[cfg(feature = "cluster")]
    pub cluster: Option<super::cluster::ClusterSettings>,
}

/// Where the metrics can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAt {
    /// Nowhere.
    Nowhere,
    /// At the server's own port, by clients on this machine. It is not for a server behind a proxy, whose clients
    /// are on this machine, too: what a proxy says of itself is looked for, but one may say nothing.
    Loopback,
    /// At an address of its own.
    Address(SocketAddr),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: None,
            port: 8080,
            session_ttl: Duration::from_secs(600),
            access: Access::default(),
            proxies: Proxies::default(),
            metrics: MetricsAt::Nowhere,
            turn_servers: None,
            drain_time: Duration::ZERO,
            limits: Limits::default(),
            #[cfg(feature = "cluster")]
            cluster: None,
        }
    }
}

impl Config {
    /// Reads the variables of [`VARIABLES`]. One that is absent keeps its default; so does one that is empty, unless it
    /// protects (`REFUSED_EMPTY`). `read` gives the text of the files that `ACCESS_TOKEN_FILE` and
    /// `TURN_SECRET_FILE` name.
    ///
    /// # Errors
    /// Names the first variable whose value cannot be understood.
    pub fn from_env(
        lookup: impl Fn(&str) -> Option<String>,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        VARIABLES
            .iter()
            .map(|(name, ..)| *name)
            .chain(FILES)
            .try_for_each(|name| check_presence(name, lookup(name)))?;
        let set = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        if let Some(value) = set("HOST") {
            let host = host(&value);
            config.host = Some(
                host.ok_or_else(|| error("HOST", &value, "an IP address of this machine, such as 127.0.0.1 or ::1"))?,
            );
        }
        if let Some(value) = set("PORT") {
            config.port = value.parse().map_err(|_| error("PORT", &value, "a port from 0 (any free one) to 65535"))?;
        }
        if let Some(value) = set("SESSION_TTL") {
            let ttl = duration::parse(&value).filter(|ttl| !ttl.is_zero() && *ttl <= MAX_TTL);
            config.session_ttl =
                ttl.ok_or_else(|| error("SESSION_TTL", &value, "a duration of at most a year, such as 10m or 1h15m"))?;
        }
        if let Some(value) = set("CORS_ORIGINS") {
            let origins = origins::parse(&value).map_err(|reason| {
                error("CORS_ORIGINS", &value, format!("* or a comma list such as https://chat.example, but {reason}"))
            })?;
            config.access.cors = origins.map_or(Cors::Any, Cors::Only);
        }
        let secrets = Secrets::from_env(set, &read);
        config.access.tokens = secrets.tokens?;
        if let Some(value) = set("TRUSTED_PROXIES") {
            config.proxies = Proxies::parse(&value).map_err(|reason| {
                error(
                    "TRUSTED_PROXIES",
                    &value,
                    format!("none or a comma list such as 10.0.0.0/8,2001:db8::1, but {reason}"),
                )
            })?;
        }
        if let Some(value) = set("METRICS") {
            config.metrics = match &*value {
                "off" => MetricsAt::Nowhere,
                "loopback" => MetricsAt::Loopback,
                address => {
                    let address = address.parse().ok();
                    let address = address.map(|at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port()));
                    let address = address.filter(|address| can_be_ours(address.ip()));
                    MetricsAt::Address(
                        address
                            .ok_or_else(|| error("METRICS", &value, "off, loopback or ADDRESS:PORT of this machine"))?,
                    )
                }
            };
        }
        if let Some(value) = set("DRAIN_TIME") {
            let time = duration::parse(&value).filter(|time| *time <= MAX_DRAIN);
            config.drain_time =
                time.ok_or_else(|| error("DRAIN_TIME", &value, "a duration of at most 1h, such as 30s"))?;
        }
        config.turn_servers = secrets.turn_servers?;
        config.limits = limits(set)?;
        #[cfg(feature = "cluster")]
        {
            config.cluster = cluster::cluster((config.session_ttl, config.limits.reservation), set, &read)?;
        }
        #[cfg(not(feature = "cluster"))]
        if let Some(variable) = CLUSTER_VARIABLES.into_iter().find(|variable| set(variable).is_some()) {
            return Err(error(
                variable,
                "(not shown)",
                "a server that was built with the feature cluster, and this is none",
            ));
        }
        Ok(config)
    }
}

/// An address to listen at. Brackets stand around one of IPv6, both or none.
fn host(value: &str) -> Option<IpAddr> {
    let bracketed = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
    let host = bracketed.map_or_else(|| value.parse(), |value| value.parse().map(IpAddr::V6));
    host.ok().map(|host| host.to_canonical()).filter(|host| can_be_ours(*host))
}

/// Whether a newcomer can reach a machine at this address. The system lets a program listen at those of groups too.
fn can_be_ours(address: IpAddr) -> bool {
    !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The settings that bound something.
fn limits(set: impl Fn(&str) -> Option<String>) -> Result<Limits, ConfigError> {
    let mut limits = Limits::default();
    if let Some(value) = set("PING_INTERVAL") {
        let interval = duration::parse(&value).filter(|interval| (MIN_PING..=MAX_PING).contains(interval));
        limits.ping_interval =
            interval.ok_or_else(|| error("PING_INTERVAL", &value, "a duration from 10ms to 1h, such as 25s"))?;
        // As many intervals as the defaults give: two pings may be lost.
        limits.silence = limits.ping_interval * 12 / 5;
    }
    let count = |name, default| match set(name) {
        None => Ok(default),
        Some(value) => match value.parse::<usize>() {
            Ok(count @ 1..) => Ok(count),
            _ => Err(error(name, &value, "a number from 1")),
        },
    };
    limits.clients = count("MAX_CLIENTS", limits.clients)?;
    limits.sessions = count("MAX_SESSIONS", limits.sessions)?;
    limits.held_bytes = count("MAX_HELD_BYTES", limits.held_bytes)?;
    match set("RATE_LIMITS").as_deref() {
        None | Some("on") => {}
        Some("off") => limits = limits.without_rates(),
        Some(value) => return Err(error("RATE_LIMITS", value, "on or off")),
    }
    // What was asked for by name holds, also where the rest is lifted.
    if set("MAX_CLIENTS_PER_ADDRESS").is_some() {
        limits.clients_per_address = Some(count("MAX_CLIENTS_PER_ADDRESS", 0)?);
    }
    if set("MAX_CLIENTS_PER_NETWORK").is_some() {
        limits.clients_per_network = Some(count("MAX_CLIENTS_PER_NETWORK", 0)?);
    }
    Ok(limits.with_addresses_of_all())
}

/// The least and the most that may lie between pings.
const MIN_PING: Duration = Duration::from_millis(10);
const MAX_PING: Duration = Duration::from_secs(3600);

/// A stop that takes longer is one that somebody has forgotten.
const MAX_DRAIN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::variables::SECRETS;
    use super::*;
    use crate::server::turn_servers::TurnSecret;

    pub(super) fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let read = |path: &str| match path {
            "/token" => Ok("s3cret\n".to_owned()),
            "/tokens" => Ok("alice-1\n\nbob-2 \r\ncarol-3".to_owned()),
            "/words" => Ok("alice-1\ntwo words\n".to_owned()),
            "/notes" => Ok("\u{feff}# friends\r\nalice-1\n #bob-2\n".to_owned()),
            "/marked" => Ok("\u{feff}s3cret\n".to_owned()),
            "/empty" => Ok("\n".to_owned()),
            _ => Err("no such file".to_owned()),
        };
        Config::from_env(lookup, read).map_err(|error| error.to_string())
    }

    fn turn_servers(ttl: u64) -> TurnServers {
        let urls = ["turn:turn.example:3478", "stun:turn.example"].map(str::to_owned).to_vec();
        TurnServers::new(urls, TurnSecret::new("s3cret").unwrap(), Duration::from_secs(ttl))
    }

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        assert_eq!(config(&[]), Ok(Config::default()));
        assert_eq!(config(&[("PORT", ""), ("SESSION_TTL", " ")]), Ok(Config::default()));
    }

    #[test]
    fn every_variable_is_read() {
        let only = |origins: &[&str]| Cors::Only(origins.iter().map(|&origin| origin.to_owned()).collect());
        let set = config(&[
            ("HOST", "[::1]"),
            ("PORT", "0"),
            ("SESSION_TTL", "90s"),
            ("CORS_ORIGINS", "https://a.example, http://b.example:8080"),
            ("ACCESS_TOKEN", "s3cret"),
            ("TRUSTED_PROXIES", "none"),
            ("METRICS", "127.0.0.1:9090"),
            ("TURN_URLS", "turn:turn.example:3478, stun:turn.example"),
            ("TURN_SECRET", "s3cret"),
            ("TURN_TTL", "3600"),
            ("PING_INTERVAL", "50s"),
            ("MAX_CLIENTS", "1"),
            ("MAX_CLIENTS_PER_ADDRESS", "2"),
            ("MAX_CLIENTS_PER_NETWORK", "4"),
            ("MAX_SESSIONS", "3"),
            ("MAX_HELD_BYTES", "5000000"),
            ("DRAIN_TIME", "30s"),
        ]);
        let expected = Config {
            host: Some("::1".parse().unwrap()),
            port: 0,
            session_ttl: Duration::from_secs(90),
            access: Access {
                cors: only(&["https://a.example", "http://b.example:8080"]),
                tokens: vec![AccessToken::new("s3cret").unwrap()],
                retry_after: None,
                is_cut_off: false,
            },
            proxies: Proxies::parse("none").unwrap(),
            metrics: MetricsAt::Address("127.0.0.1:9090".parse().unwrap()),
            turn_servers: Some(turn_servers(3600)),
            drain_time: Duration::from_secs(30),
            limits: Limits {
                ping_interval: Duration::from_secs(50),
                silence: Duration::from_secs(120),
                clients: 1,
                clients_per_address: Some(2),
                clients_per_network: Some(4),
                sessions: 3,
                held_bytes: 5_000_000,
                ..Limits::default()
            },
            #[cfg(feature = "cluster")]
            cluster: None,
        };
        assert_eq!(set, Ok(expected));
        assert_eq!(config(&[("CORS_ORIGINS", "*")]), Ok(Config::default()));
        assert_eq!(config(&[("HOST", "[::1]")]).unwrap().host, config(&[("HOST", "::1")]).unwrap().host);
        let from_file = config(&[("ACCESS_TOKEN_FILE", "/token")]).unwrap();
        let tokens = |tokens: &[&str]| tokens.iter().map(|token| AccessToken::new(token).unwrap()).collect::<Vec<_>>();
        assert_eq!(from_file.access.tokens, tokens(&["s3cret"]));
        let from_file = config(&[("ACCESS_TOKEN_FILE", "/tokens")]).unwrap();
        assert_eq!(from_file.access.tokens, tokens(&["alice-1", "bob-2", "carol-3"]));
        let from_file = config(&[("ACCESS_TOKEN_FILE", "/notes")]).unwrap();
        assert_eq!(from_file.access.tokens, tokens(&["alice-1"]));
        assert_eq!(config(&[("ACCESS_TOKEN_FILE", "/marked")]).unwrap().access.tokens, tokens(&["s3cret"]));
        let urls = ("TURN_URLS", "turn:turn.example:3478,stun:turn.example");
        assert_eq!(config(&[urls, ("TURN_SECRET_FILE", "/marked")]).unwrap().turn_servers, Some(turn_servers(86_400)));
        assert_eq!(config(&[urls, ("TURN_SECRET_FILE", "/token")]).unwrap().turn_servers, Some(turn_servers(86_400)));
        assert_eq!(
            config(&[urls, ("TURN_SECRET", "s3cret"), ("TURN_TTL", "1h30m")]).unwrap().turn_servers,
            Some(turn_servers(5400))
        );
        assert_eq!(config(&[("METRICS", "loopback")]).unwrap().metrics, MetricsAt::Loopback);
        assert_eq!(config(&[("HOST", "::ffff:192.0.2.1")]).unwrap().host, Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn what_is_asked_for_by_name_holds_also_where_the_rates_are_lifted() {
        let off = |more: &[(&str, &str)]| config(&[&[("RATE_LIMITS", "off")], more].concat()).unwrap().limits;
        let lifted = Limits::default().without_rates();
        assert_eq!(off(&[]), lifted);
        assert_eq!(off(&[("MAX_CLIENTS_PER_ADDRESS", " ")]), lifted);
        let capped = Limits { clients_per_address: Some(2), ..lifted };
        assert_eq!(off(&[("MAX_CLIENTS_PER_ADDRESS", "2")]), capped);
    }

    #[test]
    fn a_setting_that_protects_is_not_set_to_nothing_and_all_others_may_be() {
        // The decision for each; a new variable wants one, too.
        let refused = [
            "HOST",
            "CORS_ORIGINS",
            "ACCESS_TOKEN",
            "ACCESS_TOKEN_FILE",
            "TRUSTED_PROXIES",
            "TURN_SECRET",
            "TURN_SECRET_FILE",
            "CLUSTER_URL",
            "CLUSTER_URL_FILE",
            "CLUSTER_SECRET",
            "CLUSTER_SECRET_FILE",
        ];
        for name in VARIABLES.iter().map(|(name, ..)| *name).chain(FILES) {
            for empty in ["", " ", "\t"] {
                match refused.contains(&name) {
                    true => {
                        let message = config(&[(name, empty)]).unwrap_err();
                        assert!(message.starts_with(&format!("{name} is \"\"; it takes a value, since ")), "{message}");
                    }
                    false => assert_eq!(config(&[(name, empty)]), Ok(Config::default()), "{name}"),
                }
            }
        }
        assert_eq!(variables::REFUSED_EMPTY.map(|(name, _)| name), refused);
    }

    #[test]
    fn the_papers_name_what_must_not_be_empty() {
        for (paper, from, to) in [
            (include_str!("../../deploy/lowkey-server.8"), "but for those that protect: ", " and the files for them"),
            (include_str!("../../deploy/README.md"), "is as good as absent, but for ", " and the files for them"),
        ] {
            let list = paper.split(from).nth(1).and_then(|rest| rest.split(to).next()).unwrap();
            let named: Vec<_> = list.split([',', '\n']).map(|name| name.trim_matches([' ', '`'])).collect();
            let named: Vec<_> = named.into_iter().filter(|name| !name.is_empty()).collect();
            let refused = variables::REFUSED_EMPTY.map(|(name, _)| name);
            assert_eq!(named, refused.into_iter().filter(|name| !name.ends_with("_FILE")).collect::<Vec<_>>());
        }
    }

    #[test]
    fn quotes_that_a_container_file_has_passed_on_are_told_of() {
        for name in VARIABLES.iter().map(|(name, ..)| *name).chain(FILES) {
            for quoted in ["\"value\"", "'value'", " \"\" "] {
                let message = config(&[(name, quoted)]).unwrap_err();
                assert!(message.starts_with(&format!("{name} is ")) && message.contains("quotes"), "{message}");
                assert_eq!(
                    message.contains("value\\") || message.contains("'value"),
                    !SECRETS.contains(&name) && quoted.contains("value"),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn as_many_come_at_once_as_may_be_there_twice_over() {
        let burst = |cap| config(&[("MAX_CLIENTS_PER_ADDRESS", cap)]).unwrap().limits.arrivals.unwrap().burst;
        assert_eq!(["1", "256", "700", "20000"].map(burst), [512, 512, 1400, 40_000]);
        assert_eq!(config(&[("MAX_CLIENTS_PER_ADDRESS", &usize::MAX.to_string())]).map(|_| ()), Ok(()));
    }

    #[test]
    fn a_bad_value_is_named() {
        for (name, value) in [
            ("HOST", "localhost"),
            ("HOST", "[::1"),
            ("HOST", "::1]"),
            ("HOST", "[[::1]]"),
            ("HOST", "[127.0.0.1]"),
            ("CORS_ORIGINS", "https://a.example,*"),
            ("TRUSTED_PROXIES", "0.0.0.0/0"),
            ("TRUSTED_PROXIES", "10.0.0.1,::/0"),
            ("PORT", "65536"),
            ("PORT", "http"),
            ("SESSION_TTL", "0"),
            ("SESSION_TTL", "10"),
            ("SESSION_TTL", "9000h30m99999h"),
            ("CORS_ORIGINS", "chat.example"),
            ("CORS_ORIGINS", ","),
            ("CORS_ORIGINS", "https://a.example,https://*.chat.example"),
            ("CORS_ORIGINS", "https://chat.example/"),
            ("TRUSTED_PROXIES", "localhost"),
            ("TRUSTED_PROXIES", "10.0.0.1,[::1]"),
            ("METRICS", "9090"),
            ("PING_INTERVAL", "25"),
            ("PING_INTERVAL", "1ms"),
            ("MAX_CLIENTS", "0"),
            ("MAX_CLIENTS_PER_ADDRESS", "many"),
            ("MAX_SESSIONS", "-1"),
            ("RATE_LIMITS", "no"),
            ("TURN_URLS", "turn.example"),
            ("TURN_URLS", "stun:turn.example"),
            ("TURN_URLS", "turn:turn.example"),
            ("TURN_SECRET_FILE", "/token"),
            ("TURN_TTL", "1h"),
            ("ACCESS_TOKEN_FILE", "/nowhere"),
            ("ACCESS_TOKEN_FILE", "/empty"),
            ("ACCESS_TOKEN_FILE", "/words"),
            ("MAX_CLIENTS_PER_NETWORK", "0"),
            ("MAX_HELD_BYTES", "256M"),
            ("DRAIN_TIME", "30"),
            ("DRAIN_TIME", "2h"),
        ] {
            let message = config(&[(name, value)]).unwrap_err();
            assert!(message.starts_with(&format!("{name} is {value:?}; it takes ")), "{message}");
        }
    }
}
