//! How on and off are said. Pure.

/// Whether a word says on or off, wherever one can be said: by flag, variable, file or command. `None` is neither.
pub fn is_on(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" | "yes" | "y" | "t" => Some(true),
        "off" | "false" | "0" | "no" | "n" | "f" => Some(false),
        _ => None,
    }
}

/// What is told to people who said neither on nor off.
pub const ON_OR_OFF: &str = "on or off (or true, false, 1, 0)";
