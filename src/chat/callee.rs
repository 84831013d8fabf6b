//! Whom the user calls: a name or a link. Pure.

use serde::Deserialize;

use super::harmless::read_name;
use crate::protocol::is_link;

/// Whom the user calls. A link also says at which server, so the name of a stranger must never pass for one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Callee {
    /// A username.
    Name(String),
    /// A link, as it was typed.
    Link(String),
}

impl Callee {
    /// Reads a word that was typed, or that stands on the command line. What is in quotes is a name, whatever it says.
    /// `None` where [`read_name`] finds none.
    pub fn read(word: &str) -> Option<Self> {
        let name = read_name(word)?;
        Some(if word.starts_with('"') { Self::Name(name) } else { Self::from(name) })
    }
}

/// Whether a word is most likely meant as a user at a server, as mail has them. A name that is so can be had in quotes.
pub fn is_address(word: &str) -> bool {
    word.contains('@') && !word.starts_with('"') && !is_link(word)
}

/// What is said to who means that.
pub const NO_ADDRESS: &str = "a name has no @ and no server in it: call NAME alone, at the server that --server names; \
                              whoever is at another one is called by their link";

/// A word of JSON, or one without quotes. Nobody has a name that begins like a link: see
/// [`is_username`](crate::protocol::is_username).
impl From<String> for Callee {
    fn from(word: String) -> Self {
        if is_link(&word) { Self::Link(word) } else { Self::Name(word) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::harmless::name;

    #[test]
    fn a_link_is_what_is_typed_as_one_and_never_a_name_that_was_shown() {
        let link = "lowkey://[::1]:1/b#x";
        assert_eq!(Callee::read(link), Some(Callee::Link(link.to_owned())));
        assert_eq!(Callee::read(&name(link)), Some(Callee::Name(link.to_owned())));
        assert_eq!(Callee::read(&format!("\"{link}\"")), Some(Callee::Name(link.to_owned())));
        for link in ["LOWKEY://h/b#x", "LowKey://h/b#x"] {
            assert_eq!(Callee::read(link), Some(Callee::Link(link.to_owned())));
            assert!(!is_address(&format!("{link}@")));
        }
        assert_eq!(Callee::read("bob"), Some(Callee::Name("bob".to_owned())));
        assert_eq!(Callee::read("\"bob"), None);
    }
}
