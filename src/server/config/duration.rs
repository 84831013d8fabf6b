//! Durations as an operator writes them. Pure.

use std::time::Duration;

/// A duration in the syntax of Go's `time.ParseDuration`: decimal numbers with units, such as `300ms` or `1h15m`.
/// Negative ones are none of ours.
pub fn parse(text: &str) -> Option<Duration> {
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
pub(super) const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(parse(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }
}
