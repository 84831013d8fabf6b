//! The time, as people and as programs read it.

/// The time as people read it.
pub fn clock_time() -> String {
    jiff::Zoned::now().strftime("%H:%M").to_string()
}

/// A time of programs as it is here, where it is one.
pub fn local(time: &str) -> String {
    let zoned = time.parse::<jiff::Timestamp>().map(|time| time.to_zoned(jiff::tz::TimeZone::system()));
    zoned.map_or(time.to_owned(), |time| time.strftime("%Y-%m-%dT%H:%M").to_string())
}

/// The time as programs read it (RFC 3339).
pub fn timestamp() -> String {
    jiff::Timestamp::now().to_string()
}
