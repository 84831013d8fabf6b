//! Characters that could take over a terminal or deceive the eye, and texts of others in which they are escaped: for
//! logs, files and whoever else shows what comes from elsewhere. Pure.

use std::borrow::Cow;

/// A text in which each such character is written as JSON escapes it (RFC 8259, section 7), `\u…`, which every reader
/// of JSON undoes. A line feed is one of them, so that what comes out is one line.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match is_harmful(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escaped += &format!("\\u{unit:04x}")),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// The same of several lines, which stay lines.
#[cfg(any(feature = "server", feature = "chat"))]
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    match text.chars().any(|c| is_harmful(c) && c != '\n') {
        true => Cow::Owned(text.split('\n').map(escaped).collect::<Vec<_>>().join("\n")),
        false => Cow::Borrowed(text),
    }
}

/// What somebody else says, as it can stand in a sentence of ours: its first line, no longer than so many bytes, in
/// quotes that nothing in it can end.
pub fn quoted(words: &str) -> String {
    let line = words.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    format!("\"{}\"", escaped(&shortened(line, MAX_QUOTED)).replace('"', "'"))
}

/// No more of a text than so many bytes. Where something is left out, that shows.
pub fn shortened(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    Cow::Owned(format!("{}…", &text[..end]))
}

/// What is told or logged, with no more of each line than can be: what was typed, read or said elsewhere can be in it.
#[cfg(any(feature = "server", feature = "chat"))]
pub fn shortened_lines(text: &str) -> Cow<'_, str> {
    match text.split('\n').any(|line| line.len() > MAX_LINE) {
        true => Cow::Owned(text.split('\n').map(|line| shortened(line, MAX_LINE)).collect::<Vec<_>>().join("\n")),
        false => Cow::Borrowed(text),
    }
}

/// As much as is told of what somebody else says, in bytes: a sentence or two.
pub const MAX_QUOTED: usize = 300;

/// As much as is told in a line, in bytes: a window full.
#[cfg(any(feature = "server", feature = "chat"))]
pub const MAX_LINE: usize = 4096;

/// Whether a character could take over a terminal or deceive the eye.
pub fn is_harmful(c: char) -> bool {
    c.is_control() && c != '\t'
        || matches!(c,
            // Arabic letter mark, left-to-right and right-to-left marks, embeddings, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separators.
            | '\u{2028}' | '\u{2029}'
            // Zero-width space and no-break space, word joiner and invisible operators. The joiners U+200C and U+200D
            // stay: Persian and emoji need them.
            | '\u{200b}' | '\u{feff}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}'
            // Soft hyphen, grapheme joiner, and fillers that look like nothing.
            | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}'
            // Interlinear annotations, tags, and the variation selectors that only ideographs have.
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_deceive_is_escaped_and_everything_else_left() {
        for text in ["", "hello", "grüße, 世界", "a\tb", "می‌خواهم", "C:\\x"] {
            assert_eq!(escaped(text), text);
        }
        assert_eq!(escaped("a\u{9b}31m\u{202e}b\n"), "a\\u009b31m\\u202eb\\u000a");
        assert_eq!(escaped("\u{e0041}"), "\\udb40\\udc41", "a pair of surrogates, as JSON has it");
        assert_eq!(escaped_lines("a\u{7f}\nb\u{85}"), "a\\u007f\nb\\u0085");
        let quoted = format!("\"{}\"", escaped("\u{202e}\u{e0041}"));
        assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), "\u{202e}\u{e0041}");
    }

    #[test]
    fn what_others_say_is_a_short_line_in_quotes() {
        for (words, shown) in [
            ("it restarts", "\"it restarts\""),
            ("", "\"\""),
            ("\r\n  one \ntwo", "\"one\""),
            ("x\"; type /forget bob \"", "\"x'; type /forget bob '\""),
            ("\x1b[2J\u{202e}", "\"\\u001b[2J\\u202e\""),
        ] {
            assert_eq!(quoted(words), shown);
        }
        let long = "ä".repeat(50_000);
        assert_eq!(quoted(&long), format!("\"{}…\"", "ä".repeat(MAX_QUOTED / 2)));
        assert_eq!(shortened(&long, 3), "ä…");
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened_lines("a\nb\n"), "a\nb\n");
        let line = "x".repeat(MAX_LINE);
        assert_eq!(shortened_lines(&format!("{line}\n{line}y\nz")), format!("{line}\n{line}…\nz"));
    }
}
