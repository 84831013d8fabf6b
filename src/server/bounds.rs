//! What is bounded, for people: each bound of [`Limits`], and the few that other rooms keep, in words. Pure.

use std::time::Duration;

use super::connection::{MAX_EARLY_BYTES, MAX_EMPTY_FRAGMENTS, MAX_HEADERS};
use super::contacts::MAX_CONTACTS;
use super::hub::MEETING;
use super::limits::{Limits, Rate};
use super::request::MAX_TOKEN_BYTES;
use crate::protocol::MAX_USERNAME_BYTES;

/// One row of the table that `--help` and the guide show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// What is bounded.
    pub what: &'static str,
    /// How much it may be.
    pub limit: String,
    /// The setting that changes it, if there is one.
    pub variable: &'static str,
    /// What happens beyond.
    pub beyond: String,
}

fn row(what: &'static str, limit: String, variable: &'static str, beyond: impl Into<String>) -> Bound {
    Bound { what, limit, variable, beyond: beyond.into() }
}

/// All bounds, as they are with these limits.
pub fn bounds(limits: &Limits) -> Vec<Bound> {
    let Limits { pace, strikes, .. } = limits;
    let pings = limits.silence.as_secs_f64() / limits.ping_interval.as_secs_f64();
    vec![
        row("a message", bytes(limits.message_bytes), "", "closed with 1009"),
        row("a request head", bytes(limits.head_bytes), "", "431"),
        row("bytes behind a request head, before its answer", bytes(MAX_EARLY_BYTES), "", "400"),
        row("time for the request head", time(limits.head_time), "", "408"),
        row("time between pings", time(limits.ping_interval), "PING_INTERVAL", ""),
        row(
            "time without a byte",
            format!("{pings} pings: {}", time(limits.silence)),
            "PING_INTERVAL",
            "closed with 1008",
        ),
        row(
            "a client with an unfinished message",
            format!("sends {} in {}", bytes(pace.bytes), time(pace.time)),
            "",
            "closed with 1008",
        ),
        row(
            "a client for whom something waits",
            format!("takes a byte in {}", time(pace.time)),
            "",
            "closed with 1008",
        ),
        row(
            "unfinished and unsent bytes of all clients",
            bytes(limits.held_bytes),
            "MAX_HELD_BYTES",
            "the furthest behind is cut",
        ),
        row(
            "bytes that wait for one client",
            bytes(limits.unsent_bytes),
            "",
            "closed with 1008; the sender gets RELAY_FAILED",
        ),
        row("time for the close handshake", time(limits.close_time), "", "cut"),
        row(
            "messages, their fragments, pings and pongs of a client",
            rate(limits.websocket_frames, count),
            "RATE_LIMITS=off",
            "RATE_LIMITED, not delivered",
        ),
        row("empty fragments of a message", count(MAX_EMPTY_FRAGMENTS), "", "closed with 1008"),
        row("bytes of a client", rate(limits.bytes, bytes), "RATE_LIMITS=off", "RATE_LIMITED, not delivered"),
        row("connect, create, join of a client", rate(limits.calls, count), "RATE_LIMITS=off", "RATE_LIMITED"),
        row(
            "a message to who is neither there nor met lately",
            "as connect".to_owned(),
            "RATE_LIMITS=off",
            "RATE_LIMITED, who is there too",
        ),
        row(
            "the same and calls to who is not there, of an address",
            rate(limits.misses, count) + "; more with a higher cap",
            "RATE_LIMITS=off",
            "as above; loopback is not counted",
        ),
        row(
            "users met lately, of all clients",
            format!("{}, {}", time(MEETING), count(limits.meetings)),
            "",
            format!("the oldest is forgotten; {MAX_CONTACTS} of each client stay"),
        ),
        row("answers RATE_LIMITED to a client", rate(Some(limits.refusals), count), "", "dropped without a word"),
        row(
            "messages of a client that can be right for nobody",
            format!("{}, one fades each {}", strikes.burst, fading(*strikes)),
            "",
            "closed with 1008",
        ),
        row("clients", count(limits.clients), "MAX_CLIENTS", "503; /health and /metrics are answered"),
        row(
            "clients of an address (IPv6: a /64)",
            cap(limits.clients_per_address),
            "MAX_CLIENTS_PER_ADDRESS",
            "429; loopback is not capped",
        ),
        row("clients of an IPv6 /48", cap(limits.clients_per_network), "MAX_CLIENTS_PER_NETWORK", "429"),
        row(
            "new clients of an address",
            rate(limits.arrivals, count).replace(" at once", " or twice the cap at once"),
            "RATE_LIMITS=off",
            "429; loopback is not counted",
        ),
        row("header lines of a request", count(MAX_HEADERS), "", "431"),
        row("open sessions", count(limits.sessions), "MAX_SESSIONS", "the oldest ends"),
        row("open sessions begun by one name", count(limits.sessions_per_name), "", "RATE_LIMITED"),
        row(
            "names kept for who was lost",
            format!("{}, {} names", time(limits.reservation), count(limits.reservations)),
            "",
            "the oldest is free",
        ),
        row("the token of a name", format!("{MAX_TOKEN_BYTES} bytes"), "", "400"),
        row(
            "a username",
            format!("1 to {MAX_USERNAME_BYTES} bytes"),
            "",
            "400; so for control characters, and where it begins with `lowkey://`",
        ),
    ]
}

/// A number with commas between its thousands.
fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn cap(number: Option<usize>) -> String {
    number.map_or_else(|| "no limit".to_owned(), count)
}

fn bytes(number: usize) -> String {
    match number {
        number if number.is_multiple_of(1024 * 1024) => format!("{} MiB", count(number / (1024 * 1024))),
        number if number.is_multiple_of(1024) => format!("{} KiB", count(number / 1024)),
        number => format!("{} bytes", count(number)),
    }
}

fn time(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

fn rate(rate: Option<Rate>, unit: fn(usize) -> String) -> String {
    let Some(Rate { amount, per, burst }) = rate else { return "no limit".to_owned() };
    let per = match per.as_secs() {
        1 => "s".to_owned(),
        60 => "min".to_owned(),
        _ => time(per),
    };
    format!("{}/{per}, {} at once", unit(amount as usize), unit(burst as usize))
}

/// After how long one of a rate is there again.
fn fading(rate: Rate) -> String {
    let each = rate.per / rate.amount;
    if each == Duration::from_secs(1) { "second".to_owned() } else { time(each) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_holds() {
        let told = |limits: &Limits, what: &str| {
            bounds(limits).into_iter().find(|bound| bound.what == what).unwrap_or_else(|| panic!("{what}")).limit
        };
        let usual = Limits::default();
        for (what, limit) in [
            ("a message", "64 KiB"),
            ("time without a byte", "2.4 pings: 60 s"),
            ("messages, their fragments, pings and pongs of a client", "200/s, 2,000 at once"),
            ("bytes of a client", "256 KiB/s, 4 MiB at once"),
            ("connect, create, join of a client", "60/min, 60 at once"),
            ("messages of a client that can be right for nobody", "50, one fades each second"),
            ("new clients of an address", "5/s, 512 or twice the cap at once"),
            ("open sessions", "1,000,000"),
        ] {
            assert_eq!(told(&usual, what), limit);
        }
        let changed = Limits { message_bytes: 1000, clients_per_network: None, websocket_frames: None, ..usual };
        assert_eq!(told(&changed, "a message"), "1,000 bytes");
        assert_eq!(told(&changed, "clients of an IPv6 /48"), "no limit");
        assert_eq!(told(&changed, "messages, their fragments, pings and pongs of a client"), "no limit");
    }
}
