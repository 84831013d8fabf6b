//! What is wrong with a setting, for people. Pure.

use std::borrow::Cow;
use std::fmt;

/// A variable whose value cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    variable: &'static str,
    value: String,
    expected: Cow<'static, str>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?}; it takes {}", self.variable, self.value, self.expected)
    }
}

impl std::error::Error for ConfigError {}

pub(super) fn error(variable: &'static str, value: &str, expected: impl Into<Cow<'static, str>>) -> ConfigError {
    ConfigError { variable, value: value.to_owned(), expected: expected.into() }
}
