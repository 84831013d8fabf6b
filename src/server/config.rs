//! The server's settings, read from an environment that comes in as a lookup function.

mod duration;
mod origins;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::address::Proxies;
use super::http::{Access, AccessToken, Cors};
use super::limits::Limits;
use super::relays::{self, Relays, Secret};

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
    pub relays: Option<Relays>,
    /// Over which time the server's own stop is spread.
    pub drain_time: Duration,
    /// What is bounded.
    pub limits: Limits,
}

/// Where the metrics can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAt {
    /// Nowhere.
    Nowhere,
    /// At the server's own port, by callers on this machine. It is not for a server behind a proxy, whose callers are on this
    /// machine, too: what a proxy says of itself is looked for, but one may say nothing.
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
            relays: None,
            drain_time: Duration::ZERO,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Reads the variables of [`VARIABLES`]. One that is absent keeps its default; so does one that is empty, unless it
    /// protects (see [`REFUSED_EMPTY`]). `read` gives the text of the files that `ACCESS_TOKEN_FILE` and `TURN_SECRET_FILE` name.
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
            let bracketed = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
            // Brackets stand around an address of IPv6, both or none.
            let host = bracketed.map_or_else(|| value.parse(), |value| value.parse().map(IpAddr::V6));
            let host = host.map_err(|_| error("HOST", &value, "an IP address, such as 127.0.0.1 or ::1"))?;
            config.host = Some(host.to_canonical());
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
        config.access.tokens = access_tokens(set("ACCESS_TOKEN"), set("ACCESS_TOKEN_FILE"), &read)?;
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
                    let address: Result<SocketAddr, _> = address.parse();
                    let address = address.map_err(|_| error("METRICS", &value, "off, loopback or ADDRESS:PORT"))?;
                    MetricsAt::Address(SocketAddr::new(address.ip().to_canonical(), address.port()))
                }
            };
        }
        if let Some(value) = set("DRAIN_TIME") {
            let time = duration::parse(&value).filter(|time| *time <= MAX_DRAIN);
            config.drain_time =
                time.ok_or_else(|| error("DRAIN_TIME", &value, "a duration of at most 1h, such as 30s"))?;
        }
        config.relays = relays(set, &read)?;
        config.limits = limits(set)?;
        Ok(config)
    }
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

/// The STUN and TURN servers, which come with their secret or not at all. It is never said in an error.
fn relays(
    set: impl Fn(&str) -> Option<String>,
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<Option<Relays>, ConfigError> {
    let urls = set("TURN_URLS");
    for (name, shown) in [("TURN_SECRET", "(not shown)"), ("TURN_SECRET_FILE", ""), ("TURN_TTL", "")] {
        if let (None, Some(value)) = (&urls, set(name)) {
            return Err(error(name, if shown.is_empty() { &value } else { shown }, "TURN_URLS beside it"));
        }
    }
    let Some(urls) = urls else { return Ok(None) };
    let parsed = relays::parse_urls(&urls)
        .ok_or_else(|| error("TURN_URLS", &urls, "up to 8 such as turn:turn.example:3478,stun:turn.example:3478"))?;
    let secret = match (set("TURN_SECRET"), set("TURN_SECRET_FILE")) {
        (None, None) => return Err(error("TURN_URLS", &urls, "TURN_SECRET or TURN_SECRET_FILE beside it")),
        (Some(_), Some(path)) => return Err(error("TURN_SECRET_FILE", &path, "nothing where TURN_SECRET is set")),
        (Some(secret), None) => {
            Secret::new(&secret).ok_or_else(|| error("TURN_SECRET", "(not shown)", "a secret without spaces"))?
        }
        (None, Some(path)) => {
            let text = read(&path).map_err(|why| unread("TURN_SECRET_FILE", &path, &why))?;
            Secret::new(without_mark(&text).trim())
                .ok_or_else(|| error("TURN_SECRET_FILE", &path, "a file with a secret without spaces"))?
        }
    };
    let ttl = match set("TURN_TTL") {
        None => TURN_TTL,
        Some(value) => {
            let seconds = value.parse().ok().map(Duration::from_secs);
            let ttl = seconds.or_else(|| duration::parse(&value)).filter(|ttl| (MIN_TURN_TTL..=MAX_TTL).contains(ttl));
            ttl.ok_or_else(|| {
                error("TURN_TTL", &value, "seconds or a duration from 1m to a year, such as 3600 or 12h")
            })?
        }
    };
    Ok(Some(Relays::new(parsed, secret, ttl)))
}

/// A file's text without the mark that some editors put in front (a byte order mark).
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The access tokens: one from its variable, or those of a file, one a line, but for lines that begin with #, which are notes. They
/// are never said in an error.
fn access_tokens(
    token: Option<String>,
    file: Option<String>,
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<AccessToken>, ConfigError> {
    match (token, file) {
        (None, None) => Ok(Vec::new()),
        (Some(_), Some(path)) => Err(error("ACCESS_TOKEN_FILE", &path, "nothing where ACCESS_TOKEN is set")),
        (Some(token), None) => match AccessToken::new(&token) {
            Some(token) => Ok(vec![token]),
            None => Err(error("ACCESS_TOKEN", "(not shown)", "a token without spaces")),
        },
        (None, Some(path)) => {
            let text = read(&path).map_err(|why| unread("ACCESS_TOKEN_FILE", &path, &why))?;
            let lines = without_mark(&text).lines().map(str::trim).zip(1..);
            let tokens = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')).map(|(line, number)| {
                let expected = "a file with tokens without spaces, one a line";
                AccessToken::new(line)
                    .ok_or_else(|| error("ACCESS_TOKEN_FILE", &path, format!("{expected}, but line {number} is none")))
            });
            match tokens.collect::<Result<Vec<AccessToken>, ConfigError>>()? {
                tokens if tokens.is_empty() => {
                    Err(error("ACCESS_TOKEN_FILE", &path, "a file with tokens, one a line, but there is none"))
                }
                tokens => Ok(tokens),
            }
        }
    }
}

/// A file that cannot be read, or must not be.
fn unread(variable: &'static str, path: &str, why: &str) -> ConfigError {
    error(variable, path, format!("a file that can be read and trusted, but {why}"))
}

/// The variables, for people: the name, what it sets, and the default.
pub const VARIABLES: [(&str, &str, &str); 19] = [
    ("HOST", "the IP address to listen on", "all addresses, IPv4 and IPv6"),
    ("PORT", "the TCP port to listen on; 0 takes a free one", "8080"),
    ("SESSION_TTL", "how long a session waits for its second user, such as 300ms or 1h15m", "10m"),
    ("CORS_ORIGINS", "the origins that browsers may come from: * or a comma list", "*"),
    (
        "ACCESS_TOKEN",
        "what clients have to know; or ACCESS_TOKEN_FILE, a file with such tokens, one a line",
        "none: everybody may come in",
    ),
    ("TRUSTED_PROXIES", "whose X-Forwarded-For is believed: addresses, networks, none", "127.0.0.0/8,::1"),
    (
        "METRICS",
        "where /metrics is: off; loopback: own port, local callers, not behind a proxy; use ADDRESS:PORT there",
        "off",
    ),
    ("TURN_URLS", "STUN and TURN servers that users are told of: a comma list of stun:, turn:, turns:", "none"),
    ("TURN_SECRET", "what the TURN server shares with this one; or TURN_SECRET_FILE, a file with it", "none"),
    ("TURN_TTL", "how long a user's TURN credentials last: seconds, or such as 12h", "24h"),
    ("PING_INTERVAL", "the time between pings; a client is cut after 2.4 times that", "25s"),
    ("MAX_CLIENTS", "clients in all", "1000000"),
    ("MAX_CLIENTS_PER_ADDRESS", "clients of one IPv4 address or IPv6 /64", "256"),
    ("MAX_CLIENTS_PER_NETWORK", "clients of one IPv6 /48", "16384"),
    ("MAX_SESSIONS", "open sessions in all", "1000000"),
    ("MAX_HELD_BYTES", "bytes of unfinished and unsent messages in all", "268435456"),
    ("DRAIN_TIME", "over which time a stop is spread, such as 30s", "0s"),
    ("RATE_LIMITS", "off lifts the limits per client and per address", "on"),
    ("RUST_LOG", "how much to log: error, warn, info, debug or off", "info"),
];

/// A variable whose value cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    variable: &'static str,
    value: String,
    expected: Cow<'static, str>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?}; it takes {}", self.variable, self.value, self.expected)
    }
}

impl std::error::Error for ConfigError {}

fn error(variable: &'static str, value: &str, expected: impl Into<Cow<'static, str>>) -> ConfigError {
    ConfigError { variable, value: value.to_owned(), expected: expected.into() }
}

/// Refuses what is set to nothing and protects, and what has quotes around it, which container files pass on with the value.
fn check_presence(name: &'static str, value: Option<String>) -> Result<(), ConfigError> {
    let Some(value) = value else { return Ok(()) };
    let value = value.trim();
    if let (true, Some((_, then))) = (value.is_empty(), REFUSED_EMPTY.iter().find(|(refused, _)| *refused == name)) {
        return Err(error(name, value, format!("a value, since without one {then}; leave it out if that is wanted")));
    }
    let is_quoted = |quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    if is_quoted('"') || is_quoted('\'') {
        let shown = if SECRETS.contains(&name) { "(not shown)" } else { value };
        return Err(error(name, shown, "a value without quotes around it"));
    }
    Ok(())
}

/// The variables beside those of [`VARIABLES`] that name a file.
const FILES: [&str; 2] = ["ACCESS_TOKEN_FILE", "TURN_SECRET_FILE"];

/// Values that are never shown.
const SECRETS: [&str; 2] = ["ACCESS_TOKEN", "TURN_SECRET"];

/// The variables that are not to be set to nothing, and what would follow if they were passed over: each of them narrows who may
/// come in or who is believed, and whoever writes one down wants that. All others keep their default, which is as safe as any value.
pub const REFUSED_EMPTY: [(&str, &str); 7] = [
    ("HOST", "all addresses of this machine would be listened on"),
    ("CORS_ORIGINS", "browsers could come from everywhere"),
    ("ACCESS_TOKEN", "everybody could come in"),
    ("ACCESS_TOKEN_FILE", "everybody could come in"),
    ("TRUSTED_PROXIES", "all of this machine would be believed, where none is nobody"),
    ("TURN_SECRET", "nobody could be kept from the TURN server"),
    ("TURN_SECRET_FILE", "nobody could be kept from the TURN server"),
];

/// The least and the most that may lie between pings.
const MIN_PING: Duration = Duration::from_millis(10);
const MAX_PING: Duration = Duration::from_secs(3600);

/// How long TURN credentials last: a day, as the draft suggests. They are needed when a relay is asked for; what is relayed
/// already goes on beyond. The least leaves time for a call.
const TURN_TTL: Duration = Duration::from_secs(24 * 3600);
const MIN_TURN_TTL: Duration = Duration::from_secs(60);

/// A stop that takes longer is one that somebody has forgotten.
const MAX_DRAIN: Duration = Duration::from_secs(3600);

/// Longer than any session is of use; it keeps sums of instants and durations far from overflow.
const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
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

    fn turn(ttl: u64) -> Relays {
        let urls = ["turn:turn.example:3478", "stun:turn.example"].map(str::to_owned).to_vec();
        Relays::new(urls, Secret::new("s3cret").unwrap(), Duration::from_secs(ttl))
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
            },
            proxies: Proxies::parse("none").unwrap(),
            metrics: MetricsAt::Address("127.0.0.1:9090".parse().unwrap()),
            relays: Some(turn(3600)),
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
        assert_eq!(config(&[urls, ("TURN_SECRET_FILE", "/marked")]).unwrap().relays, Some(turn(86_400)));
        assert_eq!(config(&[urls, ("TURN_SECRET_FILE", "/token")]).unwrap().relays, Some(turn(86_400)));
        assert_eq!(config(&[urls, ("TURN_SECRET", "s3cret"), ("TURN_TTL", "1h30m")]).unwrap().relays, Some(turn(5400)));
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
        assert_eq!(REFUSED_EMPTY.map(|(name, _)| name), refused);
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

    #[test]
    fn a_bad_access_token_is_not_shown() {
        let message = config(&[("ACCESS_TOKEN", "two words")]).unwrap_err();
        assert!(message.starts_with("ACCESS_TOKEN is ") && !message.contains("words"), "{message}");
        assert!(config(&[("ACCESS_TOKEN", "a"), ("ACCESS_TOKEN_FILE", "/token")]).is_err());
        let message = config(&[("ACCESS_TOKEN_FILE", "/words")]).unwrap_err();
        assert!(message.ends_with("line 2 is none") && !message.contains("words without"), "{message}");
    }

    #[test]
    fn turn_servers_and_their_secret_come_together_and_the_secret_is_not_shown() {
        let urls = ("TURN_URLS", "turn:turn.example");
        let secret = ("TURN_SECRET", "s3cret");
        for (variables, named) in [
            (&[secret][..], "TURN_SECRET is \"(not shown)\"; it takes TURN_URLS beside it"),
            (&[urls], "TURN_URLS is \"turn:turn.example\"; it takes TURN_SECRET or TURN_SECRET_FILE beside it"),
            (
                &[urls, ("TURN_SECRET", "s3cret words")],
                "TURN_SECRET is \"(not shown)\"; it takes a secret without spaces",
            ),
            (&[urls, secret, ("TURN_SECRET_FILE", "/token")], "TURN_SECRET_FILE is \"/token\"; it takes nothing"),
            (&[urls, ("TURN_SECRET_FILE", "/nowhere")], "TURN_SECRET_FILE is \"/nowhere\"; it takes a file"),
            (&[urls, ("TURN_SECRET_FILE", "/empty")], "TURN_SECRET_FILE is \"/empty\"; it takes a file"),
            (&[urls, secret, ("TURN_TTL", "59")], "TURN_TTL is \"59\"; it takes seconds"),
            (&[urls, secret, ("TURN_TTL", "soon")], "TURN_TTL is \"soon\"; it takes seconds"),
            (&[urls, secret, ("TURN_TTL", "99999999999")], "TURN_TTL is "),
        ] {
            let message = config(variables).unwrap_err();
            assert!(message.starts_with(named) && !message.contains("s3cret"), "{message}");
        }
        assert!(!format!("{:?}", config(&[urls, secret]).unwrap()).contains("s3cret"));
    }
}
