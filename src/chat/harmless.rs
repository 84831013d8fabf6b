//! What comes from others, made harmless: texts for a terminal, and names for a terminal, a shell and a command that is
//! typed. Pure.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::escape::is_harmful;
use crate::options::switch::is_on;

/// A username as one word, which can be typed back (see [`read_name`]) and means nothing to a shell: as it is where it
/// is made of `A-Z`, `a-z`, `0-9` and `_`, and, but not at its start, `.` and `-`. Any other stands in quotes, with all
/// else percent-encoded. So it has no space, line end, quote, backslash or dollar sign that a script could stumble
/// over, no letter that only looks like another, and cannot pass for an option or for a line of the program. A word
/// that some command reads as something else than a name stands in quotes too, for what is in quotes is always a name.
pub fn name(peer: &str) -> Cow<'_, str> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_plain = peer.bytes().all(|byte| is_letter(byte) || matches!(byte, b'.' | b'-'));
    match is_plain && peer.bytes().next().is_some_and(is_letter) && !means_something_else(peer) {
        true => Cow::Borrowed(peer),
        false => Cow::Owned(format!("\"{}\"", utf8_percent_encode(peer, ESCAPED))),
    }
}

/// Whether some command reads a word as something else than a name: on or off in `/log on`, yes in `/verify yes`, the
/// number of a call in `/accept 2`, what to do in `lowkey listen`.
fn means_something_else(word: &str) -> bool {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    is_number || is_on(word).is_some() || word.eq_ignore_ascii_case(YES) || TASKS.contains(&word)
}

/// Reads a name as [`name`] writes it, or as somebody types it: between quotes everything but a quote may stand for
/// itself, and `%41` for an `A`. Without quotes it is what it is. `None` where the quotes do not close at its end, or
/// hold no UTF-8.
pub fn read_name(word: &str) -> Option<String> {
    let Some(rest) = word.strip_prefix('"') else { return Some(word.to_owned()) };
    let quoted = rest.strip_suffix('"').filter(|quoted| !quoted.contains('"'))?;
    Some(percent_decode_str(quoted).decode_utf8().ok()?.into_owned())
}

/// The first word of `text`, where a word in quotes may hold spaces, and what stands behind it.
pub fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let quoted = text.strip_prefix('"').and_then(|rest| rest.find('"')).map_or(0, |end| end + 2);
    let end = text[quoted..].find(char::is_whitespace).map_or(text.len(), |at| quoted + at);
    (&text[..end], text[end..].trim_start())
}

/// A text without what could take over a terminal or deceive the eye: control and escape characters, bidirectional
/// controls, invisible characters that carry text. Each becomes U+FFFD. A tab stays, and so do the tags of an emoji
/// such as the flag of Scotland.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match tagged_emoji(rest) {
            Some(length) => {
                shown.push_str(&rest[..length]);
                length
            }
            None => {
                shown.push(if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c });
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    Cow::Owned(shown)
}

/// How many bytes of the beginning of `text` are an emoji with tags (UTS #51, ED-14a): they say which flag it is, in
/// letters and digits, and are few, so that they carry no text that nobody sees.
fn tagged_emoji(text: &str) -> Option<usize> {
    let mut rest = text.strip_prefix(|c| matches!(c, '\u{1f000}'..='\u{1faff}' | '\u{2600}'..='\u{27bf}'))?;
    rest = rest.strip_prefix(|c| matches!(c, '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}')).unwrap_or(rest);
    let tags = rest.trim_start_matches(|c| matches!(c, '\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}'));
    let count = (rest.len() - tags.len()) / '\u{e0061}'.len_utf8();
    let end = tags.strip_prefix('\u{e007f}')?;
    (1..=MAX_TAGS).contains(&count).then(|| text.len() - end.len())
}

/// The code of a region has two or three characters, and that of a part of it four more at most (ISO 3166-2).
const MAX_TAGS: usize = 6;

/// The word that says of a safety number that it was compared.
pub const YES: &str = "yes";

/// What stands on the command line where a name could.
pub const TASKS: [&str; 7] = ["completions", "config", "help", "identity", "listen", "man", "send"];

/// What is percent-encoded in a name in quotes.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-');

#[cfg(test)]
mod tests {
    use super::*;

    const SCOTLAND: &str = "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}";

    #[test]
    fn tags_stay_where_they_are_a_flag_and_nowhere_else() {
        assert_eq!(harmless(&format!("{SCOTLAND}\x1b!")), format!("{SCOTLAND}�!"));
        assert_eq!(harmless("⚑️\u{e0075}\u{e0073}\u{e007f}"), "⚑️\u{e0075}\u{e0073}\u{e007f}");
        for hidden in ["x\u{e0067}\u{e007f}", "🏴\u{e0067}", "🏴\u{e007f}", "🏴\u{e0041}\u{e007f}"] {
            assert!(harmless(hidden).contains('�'), "{hidden:?}");
        }
        let much = format!("🏴{}\u{e007f}", "\u{e0061}".repeat(7));
        assert_eq!(harmless(&much), format!("🏴{}", "�".repeat(8)));
    }

    #[test]
    fn ordinary_text_is_left_as_it_is() {
        for text in ["hello", "grüße, 世界", "👩🏽‍🚀 👋", "می‌خواهم", "שלום", SCOTLAND] {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn what_could_take_over_a_terminal_or_deceive_is_replaced() {
        for (text, expected) in [
            ("\x1b[2Jgone", "�[2Jgone"),
            ("\u{9b}31m", "�31m"),
            ("bell\x07\x7f", "bell��"),
            ("a\rb", "a�b"),
            ("a\tb", "a\tb"),
            ("\ta\x1b", "\ta�"),
            ("soft\u{ad}\u{e0101}\u{3164}", "soft���"),
            ("evil\u{202e}txt.exe", "evil�txt.exe"),
            ("\u{2066}x\u{2069}", "�x�"),
            ("in\u{200b}visible\u{e0041}", "in�visible�"),
            ("two\u{2028}lines", "two�lines"),
        ] {
            assert_eq!(harmless(text), expected);
        }
    }

    #[test]
    fn a_name_is_one_word_that_no_shell_minds_and_that_can_be_typed_back() {
        for (peer, expected) in [
            ("bob_2", "bob_2"),
            ("2.0-x", "2.0-x"),
            ("2bob", "2bob"),
            ("12345", "\"12345\""),
            ("yes", "\"yes\""),
            ("Off", "\"Off\""),
            ("send", "\"send\""),
            ("", "\"\""),
            ("-rf", "\"-rf\""),
            (".x", "\".x\""),
            ("b ob", "\"b%20ob\""),
            (r"x\n/set notify id", "\"x%5Cn%2Fset%20notify%20id\""),
            ("$(id)`id`;'\"", "\"%24%28id%29%60id%60%3B%27%22\""),
            ("* bob left\x1b", "\"%2A%20bob%20left%1B\""),
            ("b\u{f6}b", "\"b%C3%B6b\""),
            ("\u{430}lice", "\"%D0%B0lice\""),
            ("a%20b", "\"a%2520b\""),
        ] {
            assert_eq!(name(peer), expected);
            assert_eq!(read_name(expected).as_deref(), Some(peer));
            let line = format!("{expected}  rest of it");
            assert_eq!(first_word(&line), (expected, "rest of it"), "it is one word");
        }
        assert_eq!(read_name("\"b ob\"").as_deref(), Some("b ob"));
        assert_eq!(first_word("\"b ob\" hi"), ("\"b ob\"", "hi"));
        for wrong in ["\"", "\"a", "\"a\"b", "\"a\"b\"", "\"%ff\""] {
            assert_eq!(read_name(wrong), None, "{wrong}");
        }
        assert_eq!(first_word("\"a b"), ("\"a", "b"), "quotes that do not close hold nothing together");
    }
}
