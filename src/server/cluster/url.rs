//! Where the database of a cluster is, as `CLUSTER_URL` says. Pure.

use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;

/// Where the database is, and who this server is to it. The password is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterUrl {
    /// Where it listens.
    pub address: DatabaseAddress,
    /// The user; without one, the database's default user.
    pub user: Option<String>,
    /// The password, where there is one.
    pub password: Option<String>,
    /// The number of the database among those that a Redis keeps apart.
    pub number: u8,
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseAddress {
    /// At this name or address, and this port.
    Host(String, u16),
    /// At a socket of this machine.
    Path(String),
}

impl fmt::Debug for ClusterUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterUrl {{ {:?}, number {} }}", self.address, self.number)
    }
}

impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

impl ClusterUrl {
    /// Reads `redis://[user[:password]@]host[:port][/database]`, the same with `valkey`, or `redis+unix:///path`.
    ///
    /// # Errors
    /// What is wrong with it, for people; no part of it is said.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme")?;
        let (user, password, rest) = match rest.rsplit_once('@') {
            None => (None, None, rest),
            Some((login, rest)) => {
                let (user, password) = match login.split_once(':') {
                    Some((user, password)) => (user, Some(decoded(password)?)),
                    None => (login, None),
                };
                ((!user.is_empty()).then(|| decoded(user)).transpose()?, password, rest)
            }
        };
        if user.is_some() && password.is_none() {
            return Err("it has a user without a password");
        }
        let parsed = |address, number| Self { address, user, password, number };
        match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => {
                let (authority, number) = rest.split_once('/').unwrap_or((rest, ""));
                let number = if number.is_empty() { Ok(0) } else { number.parse() };
                let number = number.map_err(|_| "behind the / it has no number of a database up to 255")?;
                let (host, port) = split_port(authority)?;
                Ok(parsed(DatabaseAddress::Host(host.to_owned(), port), number))
            }
            "redis+unix" | "valkey+unix" => match rest.starts_with('/') {
                true => Ok(parsed(DatabaseAddress::Path(decoded(rest)?), 0)),
                false => Err("its path is not a whole one, as in redis+unix:///run/redis/redis.sock"),
            },
            "rediss" | "valkeys" => {
                Err("TLS is not spoken here: put stunnel or WireGuard between this server and the database, or use \
                 redis+unix:///path")
            }
            _ => Err("its scheme is none of redis, valkey and redis+unix"),
        }
    }
}

fn split_port(authority: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            host.parse::<IpAddr>().map_err(|_| "in brackets it has no address of IPv6")?;
            (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    let is_name = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
    };
    if !is_name(host) {
        return Err("it has no host");
    }
    match port {
        Some("") => Ok((host, DEFAULT_PORT)),
        port => match port.and_then(|port| port.parse().ok()) {
            Some(port @ 1..) => Ok((host, port)),
            _ => Err("its port is no number from 1 to 65535"),
        },
    }
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "something in it is not UTF-8")?;
    if text.is_empty() || text.contains(['\0', '\r', '\n']) {
        return Err("a part of it is empty, or more than one line");
    }
    Ok(text.into_owned())
}

const DEFAULT_PORT: u16 = 6379;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_who() {
        let read = |url: &str| {
            ClusterUrl::parse(url).map(|url| {
                (url.address.to_string(), url.user.unwrap_or_default(), url.password.unwrap_or_default(), url.number)
            })
        };
        let expect = |address: &str, user: &str, password: &str, number| {
            Ok((address.to_owned(), user.to_owned(), password.to_owned(), number))
        };
        assert_eq!(read("redis://h"), expect("h:6379", "", "", 0));
        assert_eq!(read("valkey://10.0.0.1:7000/3"), expect("10.0.0.1:7000", "", "", 3));
        assert_eq!(read("redis://:p%40ss@[::1]:1"), expect("[::1]:1", "", "p@ss", 0));
        assert_eq!(read("redis://lowkey:p:w@redis.example/"), expect("redis.example:6379", "lowkey", "p:w", 0));
        assert_eq!(read("redis+unix:///run/r.sock"), expect("/run/r.sock", "", "", 0));
        for bad in [
            "",
            "h",
            "redis://",
            "redis://h:0",
            "redis://h:x",
            "redis://h/x",
            "redis://u@h",
            "http://h",
            "redis://:@h",
            "redis+unix://run/r.sock",
            "redis://[::1",
            "redis://h h",
            "redis://h:1:2",
            "redis://u:%0a@h",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("rediss://h").unwrap_err().contains("stunnel"));
        assert!(!format!("{:?}", ClusterUrl::parse("redis://u:secret@h").unwrap()).contains("secret"));
    }
}
