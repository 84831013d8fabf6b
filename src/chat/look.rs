//! How lines look: whether they have times and colours, and what stands in front of their further rows. Pure.

use super::harmless::name;
use crate::peer::keys::PublicKey;

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// The time stands in front of each line.
    pub has_times: bool,
    /// Names have colours, by their keys.
    pub has_color: bool,
}

impl Look {
    /// What begins at `style` (an SGR sequence of ECMA-48 without what is around it) and ends with `text`.
    pub fn styled(self, style: &str, text: &str) -> String {
        if self.has_color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A name in the colour of its key.
    pub fn name(self, peer: &str, key: Option<PublicKey>) -> String {
        match key {
            Some(key) => {
                self.styled(&format!("1;{}", COLORS[usize::from(key.as_bytes()[0]) % COLORS.len()]), &name(peer))
            }
            None => self.styled("1", &name(peer)),
        }
    }
}

/// As many spaces as a time takes in front of a line.
pub fn gutter(look: Look) -> String {
    if look.has_times { " ".repeat(GUTTER) } else { String::new() }
}

/// In front of each further line of a text. The first one begins with a name.
pub const MARK: &str = "  | ";

/// The columns in front of lines and prompt: a time and a space.
const GUTTER: usize = 6;

/// Foreground colours that can be read on dark and on light (ECMA-48, SGR).
const COLORS: [&str; 6] = ["31", "32", "33", "34", "35", "36"];
