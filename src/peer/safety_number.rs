//! The safety number of a chat, which two people compare (protocol 2.4). Pure.

use std::fmt;

use sha2::{Digest, Sha512};

use super::keys::PublicKey;

/// Sixty digits that are the same for both sides of a chat, to be compared by voice or in person (protocol 2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetyNumber(String);

impl SafetyNumber {
    /// The number of two sides, each with the key that stands for it and its name. Takes some milliseconds.
    pub fn new(one: (PublicKey, &str), other: (PublicKey, &str)) -> Self {
        let mut halves = [one, other].map(|(key, username)| half(key, username));
        halves.sort();
        Self(halves.concat())
    }

    /// Whether somebody typed this number, with or without spaces.
    pub fn is(&self, typed: &str) -> bool {
        typed.chars().filter(|c| !c.is_whitespace()).eq(self.0.chars())
    }
}

impl fmt::Display for SafetyNumber {
    /// Twelve groups of five digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for start in (0..self.0.len()).step_by(GROUP) {
            let space = if start == 0 { "" } else { " " };
            write!(f, "{space}{}", &self.0[start..start + GROUP])?;
        }
        Ok(())
    }
}

/// Thirty digits for one side.
fn half(key: PublicKey, username: &str) -> String {
    let mut hash = [&[0, 0], key.as_bytes().as_slice(), username.as_bytes()].concat();
    for _ in 0..ITERATIONS {
        hash = Sha512::new().chain_update(&hash).chain_update(key.as_bytes()).finalize().to_vec();
    }
    let group = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte)) % 100_000;
    hash[..30].chunks(5).map(|bytes| format!("{:05}", group(bytes))).collect()
}

/// How often a safety number is hashed, so that looking for a similar one is slow.
const ITERATIONS: usize = 5200;

/// Digits in a group of a safety number.
const GROUP: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::keys::counted;

    #[test]
    fn the_safety_number_is_that_of_the_protocol_from_both_sides() {
        let number = SafetyNumber::new((counted(0), "alice"), (counted(0x20), "bob"));
        let expected = "30995 66850 10881 98914 36086 86589 42897 09292 78922 06503 11987 06478";
        assert_eq!(number.to_string(), expected);
        assert_eq!(SafetyNumber::new((counted(0x20), "bob"), (counted(0), "alice")), number);
        assert!(number.is(expected) && number.is(&expected.replace(' ', "")) && !number.is(&expected[1..]));
    }
}
