//! The variables with their meaning, and what is refused in any of them. Pure.

use super::error::{ConfigError, error};

/// The variables, for people: the name, what it sets, and the default.
pub const VARIABLES: [(&str, &str, &str); 22] = [
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
        "where /metrics is: off; loopback: own port, local clients, not behind a proxy; use ADDRESS:PORT there",
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
    (
        "CLUSTER_URL",
        "the Redis or Valkey that several servers share, redis://:PASSWORD@HOST; or CLUSTER_URL_FILE, a file with it",
        "none: this server is alone",
    ),
    (
        "CLUSTER_SECRET",
        "what hides names in it, the same on all servers; or CLUSTER_SECRET_FILE, a file with it",
        "the password in CLUSTER_URL",
    ),
    ("CLUSTER_LEASE", "how long the names of a server that has vanished count as online", "15s"),
    ("RATE_LIMITS", "off lifts the limits per client and per address", "on"),
    ("RUST_LOG", "how much to log: error, warn, info, debug or off", "info"),
];

/// Refuses what is set to nothing and protects, what has quotes around it, which container files pass on with the
/// value, and what is no text: its lookup has put [`REPLACEMENT`] where the value is not UTF-8.
pub(super) fn check_presence(name: &'static str, value: Option<String>) -> Result<(), ConfigError> {
    let Some(value) = value else { return Ok(()) };
    let value = value.trim();
    if let (true, Some((_, then))) = (value.is_empty(), REFUSED_EMPTY.iter().find(|(refused, _)| *refused == name)) {
        return Err(error(name, value, format!("a value, since without one {then}; leave it out if that is wanted")));
    }
    let shown = if SECRETS.contains(&name) { "(not shown)" } else { value };
    if value.contains(REPLACEMENT) {
        return Err(error(name, shown, "text in UTF-8"));
    }
    if is_quoted(value) {
        return Err(error(name, shown, "a value without quotes around it"));
    }
    Ok(())
}

/// What stands in a text for bytes that are none.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Whether there are quotes around it.
pub(super) fn is_quoted(value: &str) -> bool {
    let is_within = |quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    is_within('"') || is_within('\'')
}

/// The variables beside those of [`VARIABLES`] that name a file.
pub(super) const FILES: [&str; 4] =
    ["ACCESS_TOKEN_FILE", "TURN_SECRET_FILE", "CLUSTER_URL_FILE", "CLUSTER_SECRET_FILE"];

/// Values that are never shown.
pub(super) const SECRETS: [&str; 4] = ["ACCESS_TOKEN", "TURN_SECRET", "CLUSTER_URL", "CLUSTER_SECRET"];

/// The variables that are not to be set to nothing, and what would follow if they were passed over: each of them
/// narrows who may come in or who is believed, and whoever writes one down wants that. All others keep their default,
/// which is as safe as any value.
pub(super) const REFUSED_EMPTY: [(&str, &str); 11] = [
    ("HOST", "all addresses of this machine would be listened on"),
    ("CORS_ORIGINS", "browsers could come from everywhere"),
    ("ACCESS_TOKEN", "everybody could come in"),
    ("ACCESS_TOKEN_FILE", "everybody could come in"),
    ("TRUSTED_PROXIES", "all of this machine would be believed, where none is nobody"),
    ("TURN_SECRET", "nobody could be kept from the TURN server"),
    ("TURN_SECRET_FILE", "nobody could be kept from the TURN server"),
    ("CLUSTER_URL", "this server would be alone"),
    ("CLUSTER_URL_FILE", "this server would be alone"),
    ("CLUSTER_SECRET", "names could be guessed from what the database holds"),
    ("CLUSTER_SECRET_FILE", "names could be guessed from what the database holds"),
];

/// The variables that only a server with the feature `cluster` takes.
#[cfg(not(feature = "cluster"))]
pub(super) const CLUSTER_VARIABLES: [&str; 5] =
    ["CLUSTER_URL", "CLUSTER_URL_FILE", "CLUSTER_SECRET", "CLUSTER_SECRET_FILE", "CLUSTER_LEASE"];
