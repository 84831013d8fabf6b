//! Amounts of bytes, as settings have them. Pure.

use std::str::FromStr;

/// So many bytes: `1G` is a thousand million of them, as disks and networks count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(pub u64);

impl FromStr for Amount {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match text[digits.len()..].trim().to_ascii_uppercase().trim_end_matches('B') {
            "" => 1,
            "K" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            _ => return Err(FORM),
        };
        let count = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
        count.map(Self).ok_or(FORM)
    }
}

const FORM: &str = "it takes an amount of bytes, as 500M or 2G";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_whole_numbers_with_a_unit() {
        for (text, bytes) in
            [("0", 0), ("17", 17), ("2G", 2_000_000_000), ("500 mb", 500_000_000), ("1T", 1_000_000_000_000)]
        {
            assert_eq!(text.parse(), Ok(Amount(bytes)), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "1X", "1GiB", "99999999999G", "ä"] {
            assert_eq!(text.parse::<Amount>(), Err(FORM), "{text}");
        }
    }
}
