//! Schemes of URLs, which are the same in whatever case they are written (RFC 3986, section 3.1). Pure.

/// What stands behind this scheme.
pub fn strip_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (begin, rest) = url.split_at_checked(scheme.len())?;
    begin.eq_ignore_ascii_case(scheme).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_the_same_in_any_case() {
        for url in ["turn:x", "TURN:x", "Turn:x"] {
            assert_eq!(strip_scheme(url, "turn:"), Some("x"));
        }
        for other in ["", "turn", "turns:x", "tür:x", "tur\u{212a}:"] {
            assert_eq!(strip_scheme(other, "turn:"), None, "{other}");
        }
    }
}
