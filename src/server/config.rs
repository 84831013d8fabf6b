//! The server's settings, read from an environment that comes in as a lookup function.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::http::Cors;

/// What an operator can set (protocol 1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The address to listen on; `None` means every address of the machine, IPv4 and IPv6.
    pub host: Option<IpAddr>,
    /// The TCP port to listen on; 0 takes a free one.
    pub port: u16,
    /// How long a session lives from its creation or its last join.
    pub session_ttl: Duration,
    /// The origins that browsers may come from.
    pub cors: Cors,
}

impl Default for Config {
    fn default() -> Self {
        Self { host: None, port: 8080, session_ttl: Duration::from_secs(600), cors: Cors::Any }
    }
}

impl Config {
    /// Reads `HOST`, `PORT`, `SESSION_TTL` and `CORS_ORIGINS`. A variable that is absent or empty keeps its default.
    ///
    /// # Errors
    /// Names the first variable whose value cannot be understood.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let set = |name| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        if let Some(value) = set("HOST") {
            let host = value.trim_start_matches('[').trim_end_matches(']').parse();
            config.host = Some(host.map_err(|_| error("HOST", &value, "an IP address, such as 127.0.0.1 or ::1"))?);
        }
        if let Some(value) = set("PORT") {
            config.port = value.parse().map_err(|_| error("PORT", &value, "a port from 0 (any free one) to 65535"))?;
        }
        if let Some(value) = set("SESSION_TTL") {
            let ttl = parse_duration(&value).filter(|ttl| !ttl.is_zero() && *ttl <= MAX_TTL);
            config.session_ttl =
                ttl.ok_or_else(|| error("SESSION_TTL", &value, "a duration of at most a year, such as 10m or 1h15m"))?;
        }
        if let Some(value) = set("CORS_ORIGINS") {
            config.cors = parse_origins(&value)
                .ok_or_else(|| error("CORS_ORIGINS", &value, "* or a comma list such as https://chat.example"))?;
        }
        Ok(config)
    }
}

/// A variable whose value cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    variable: &'static str,
    value: String,
    expected: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?}; it takes {}", self.variable, self.value, self.expected)
    }
}

impl std::error::Error for ConfigError {}

fn error(variable: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError { variable, value: value.to_owned(), expected }
}

/// A comma list of origins, or `*`. An origin is a scheme and a host, perhaps with a port, and nothing behind it.
fn parse_origins(list: &str) -> Option<Cors> {
    let origins: Vec<&str> = list.split(',').map(str::trim).filter(|origin| !origin.is_empty()).collect();
    if origins.contains(&"*") {
        return Some(Cors::Any);
    }
    let is_origin = |origin: &&str| {
        origin.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty() && !host.is_empty() && !host.contains(|c: char| c == '/' || c.is_whitespace())
        })
    };
    let all_are = !origins.is_empty() && origins.iter().all(is_origin);
    all_are.then(|| Cors::Only(origins.into_iter().map(str::to_owned).collect()))
}

/// A duration in the syntax of Go's `time.ParseDuration`: decimal numbers with units, such as `300ms` or `1h15m`.
/// Negative ones are none of ours.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number = number.parse::<f64>().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after;
    }
    Some(total)
}

/// Longer than any session is of use; it keeps sums of instants and durations far from overflow.
const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::from_env(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
            .map_err(|error| error.to_string())
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
        ]);
        let expected = Config {
            host: Some("::1".parse().unwrap()),
            port: 0,
            session_ttl: Duration::from_secs(90),
            cors: only(&["https://a.example", "http://b.example:8080"]),
        };
        assert_eq!(set, Ok(expected));
        assert_eq!(config(&[("CORS_ORIGINS", "https://a.example,*")]), Ok(Config::default()));
    }

    #[test]
    fn durations_are_those_of_go() {
        let rows = [
            ("300ms", Some(300)),
            ("1h15m", Some(4_500_000)),
            ("1.5s", Some(1500)),
            ("1m30.5s", Some(90_500)),
            ("+2s", Some(2000)),
            ("1000us", Some(1)),
            ("1000µs", Some(1)),
            ("1000000ns", Some(1)),
            (".5s", Some(500)),
            ("0", Some(0)),
            ("", None),
            ("+", None),
            ("10", None),
            ("s", None),
            ("10 m", None),
            ("-5m", None),
            ("1d", None),
            ("1..5s", None),
            ("99999999999999999999h", None),
        ];
        for (text, milliseconds) in rows {
            assert_eq!(parse_duration(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_bad_value_is_named() {
        for (name, value) in [
            ("HOST", "localhost"),
            ("PORT", "65536"),
            ("PORT", "http"),
            ("SESSION_TTL", "0"),
            ("SESSION_TTL", "10"),
            ("SESSION_TTL", "9000h30m99999h"),
            ("CORS_ORIGINS", "chat.example"),
            ("CORS_ORIGINS", ","),
        ] {
            let message = config(&[(name, value)]).unwrap_err();
            assert!(message.starts_with(&format!("{name} is {value:?}; it takes ")), "{message}");
        }
    }
}
