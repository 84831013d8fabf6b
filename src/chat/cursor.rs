//! Whether a terminal lets a program move the cursor, which a prompt needs and a row that is written anew.

/// Whether the terminal that `TERM` names does.
pub fn is_movable() -> bool {
    can_be_moved(&std::env::var("TERM").unwrap_or_default())
}

fn can_be_moved(term: &str) -> bool {
    !matches!(term, "" | "dumb" | "cons25" | "emacs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_of_its_terminal_has_none_with_a_cursor() {
        let found = ["", "dumb", "emacs", "xterm-256color", "screen"].map(can_be_moved);
        assert_eq!(found, [false, false, false, true, true]);
    }
}
