//! The names that people choose here: a username, and that of a profile. Pure.

use std::fmt;
use std::str::FromStr;

/// A username as the app lets people choose one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Username {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_fit = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match is_fit && (3..=20).contains(&text.len()) {
            true => Ok(Self(text.to_owned())),
            false => Err("a username is 3 to 20 of a-z, A-Z, 0-9 and _"),
        }
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a profile, which is also that of its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileName(String);

impl ProfileName {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfileName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_fit = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        match is_fit && (1..=32).contains(&text.len()) && !text.starts_with(['-', '.']) {
            true => Ok(Self(text.to_owned())),
            false => Err("the name of a profile is 1 to 32 of a-z, A-Z, 0-9, _, - and ., without - or . at its start"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_are_those_of_the_app() {
        for good in ["abc", "A_9", "abcdefghijklmnopqrst"] {
            assert!(good.parse::<Username>().is_ok(), "{good}");
        }
        for bad in ["", "ab", "abcdefghijklmnopqrstu", "a b", "bob!", "böb"] {
            assert!(bad.parse::<Username>().is_err(), "{bad}");
        }
    }
}
