//! The settings that hold a secret, from a variable or from a file: the tokens of a private server, and the TURN
//! servers. Pure.

use std::time::Duration;

use super::duration::{self, MAX_TTL};
use super::error::{ConfigError, error};
use super::variables::is_quoted;
use crate::server::access::AccessToken;
use crate::server::turn_servers::{TurnSecret, TurnServers, parse_urls};

/// What a running server reads anew, each for itself: a fault in one keeps nobody in whom the other lets go.
#[derive(Debug)]
pub struct Secrets {
    /// What a client of a private server has to know: one of these.
    pub tokens: Result<Vec<AccessToken>, ConfigError>,
    /// The STUN and TURN servers that users are told of.
    pub turn_servers: Result<Option<TurnServers>, ConfigError>,
}

impl Secrets {
    /// Reads the variables that `lookup` finds, and the files that they name with `read`.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>, read: impl Fn(&str) -> Result<String, String>) -> Self {
        let set = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let tokens = access_tokens(set("ACCESS_TOKEN"), set("ACCESS_TOKEN_FILE"), &read);
        Self { tokens, turn_servers: turn_servers(set, &read) }
    }
}

/// The STUN and TURN servers, which come with their secret or not at all. It is never said in an error.
fn turn_servers(
    set: impl Fn(&str) -> Option<String>,
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<Option<TurnServers>, ConfigError> {
    let urls = set("TURN_URLS");
    for (name, shown) in [("TURN_SECRET", "(not shown)"), ("TURN_SECRET_FILE", ""), ("TURN_TTL", "")] {
        if let (None, Some(value)) = (&urls, set(name)) {
            return Err(error(name, if shown.is_empty() { &value } else { shown }, "TURN_URLS beside it"));
        }
    }
    let Some(urls) = urls else { return Ok(None) };
    let expected = "up to 8 such as turn:turn.example:3478,stun:turn.example:3478, with a TURN server among them";
    let parsed = parse_urls(&urls).map_err(|why| error("TURN_URLS", &urls, format!("{expected}, but {why}")))?;
    let secret = match (set("TURN_SECRET"), set("TURN_SECRET_FILE")) {
        (None, None) => return Err(error("TURN_URLS", &urls, "TURN_SECRET or TURN_SECRET_FILE beside it")),
        (Some(_), Some(path)) => return Err(error("TURN_SECRET_FILE", &path, "nothing where TURN_SECRET is set")),
        (Some(secret), None) => {
            TurnSecret::new(&secret).ok_or_else(|| error("TURN_SECRET", "(not shown)", "a secret without spaces"))?
        }
        (None, Some(path)) => {
            let text = read(&path).map_err(|why| unread("TURN_SECRET_FILE", &path, &why))?;
            TurnSecret::new(without_mark(&text).trim())
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
    Ok(Some(TurnServers::new(parsed, secret, ttl)))
}

/// What stands in a file that holds one secret and nothing else.
#[cfg(feature = "cluster")]
pub(super) fn text_of_file(
    variable: &'static str,
    path: &str,
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<String, ConfigError> {
    let text = read(path).map_err(|why| unread(variable, path, &why))?;
    match without_mark(&text).trim() {
        "" => Err(error(variable, path, "a file that is not empty")),
        text => Ok(text.to_owned()),
    }
}

/// A file's text without the mark that some editors put in front (a byte order mark).
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The access tokens: one from its variable, or those of a file, one a line, but for lines that begin with #, which
/// are notes. They are never said in an error.
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
            None => Err(error("ACCESS_TOKEN", "(not shown)", format!("a token {FIT}"))),
        },
        (None, Some(path)) => {
            let text = read(&path).map_err(|why| unread("ACCESS_TOKEN_FILE", &path, &why))?;
            let lines = without_mark(&text).lines().map(str::trim).zip(1..);
            let tokens = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')).map(|(line, number)| {
                let expected = format!("a file with tokens {FIT}, one a line");
                AccessToken::new(line)
                    .filter(|_| !is_quoted(line))
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

/// What a token has to be.
const FIT: &str = "without spaces and quotes, of at most 4096 bytes";

/// How long TURN credentials last: a day, as the draft suggests. They are needed when a relay is asked for; what is
/// relayed already goes on beyond. The least leaves time for a call.
const TURN_TTL: Duration = Duration::from_secs(24 * 3600);
const MIN_TURN_TTL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::super::tests::config;

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
