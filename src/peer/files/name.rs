//! The names of files that others send. What comes of any name is one component of a path that any system can create,
//! that is hidden nowhere, and that no command takes for an option. Pure.

use crate::escape::is_harmful;

/// The name under which a file that was offered as `offered` may be stored. It is one component of a path, and the name
/// of a name is that name itself.
pub fn safe(offered: &str) -> String {
    let last = offered.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let short = shortened(plain.trim_end_matches(['.', ' ']), 0);
    let mut name = short.trim_end_matches(['.', ' ']).to_owned();
    // What begins with a dot is hidden, and what begins with a dash is an option.
    let leading = name.chars().take_while(|c| matches!(c, '.' | ' ' | '-')).count();
    name.replace_range(..leading, &"_".repeat(leading));
    if name.is_empty() {
        return "file".to_owned();
    }
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    if RESERVED.contains(&&*stem) || is_device(&stem) {
        name = shortened(&name, 1);
        name.insert(0, '_');
    }
    name
}

/// Another name where `name` is taken: the same with a number before its extension. `name` is a [`safe`] one.
pub fn numbered(name: &str, number: u32) -> String {
    let (stem, extension) = split(name);
    let suffix = format!(" ({number})");
    let room = MAX_BYTES.saturating_sub(suffix.len() + extension.len());
    format!("{}{suffix}{extension}", cut(stem, room))
}

/// Whether a character may stand in a name on every system, and is seen.
fn is_plain(c: char) -> bool {
    !is_harmful(c) && !matches!(c, '\t' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | char::REPLACEMENT_CHARACTER)
}

/// COM1 to COM9 and LPT1 to LPT9, whose digits may be raised ones too.
fn is_device(stem: &str) -> bool {
    let digit = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    digit.is_some_and(|digit| matches!(digit, "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"))
}

/// The name in so few bytes, or so many less, with its extension.
fn shortened(name: &str, less: usize) -> String {
    if name.len() <= MAX_BYTES - less {
        return name.to_owned();
    }
    let (stem, extension) = split(name);
    format!("{}{extension}", cut(stem, MAX_BYTES - less - extension.len()))
}

/// The name in front of its extension, and that with its dot; empty where there is none, or where it is too long for
/// one.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION => name.split_at(dot),
        _ => (name, ""),
    }
}

/// As many whole characters as there is room for.
fn cut(text: &str, room: usize) -> &str {
    let end = (0..=room.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    &text[..end]
}

/// The longest name, in bytes. Most systems take 255; the rest is for numbers and for what is put beside a file.
pub const MAX_BYTES: usize = 200;

/// The longest extension that is kept where a name is too long, in bytes with its dot.
const MAX_EXTENSION: usize = 17;

/// What Windows takes for a device, whatever its extension.
const RESERVED: [&str; 7] = ["CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_one_component_that_every_system_creates() {
        for (offered, stored) in [
            ("report.pdf", "report.pdf"),
            ("Grüße aus Köln.txt", "Grüße aus Köln.txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\bob\\x.txt", "x.txt"),
            (".bashrc", "_bashrc"),
            ("..", "file"),
            ("...x", "___x"),
            ("-rf", "_rf"),
            (" a", "_a"),
            ("a. . ", "a"),
            ("", "file"),
            ("a/", "file"),
            ("a\0b\nc\u{202e}gpj.exe", "a_b_c_gpj.exe"),
            ("what?.txt", "what_.txt"),
            ("a\tb", "a_b"),
            ("nul", "_nul"),
            ("Com1.tar.gz", "_Com1.tar.gz"),
            ("LPT².txt", "_LPT².txt"),
            ("con .txt", "_con .txt"),
            ("console", "console"),
            ("com0", "com0"),
        ] {
            assert_eq!(safe(offered), stored, "{offered:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let long = safe(&format!("{}.tar.gz", "x".repeat(300)));
        assert_eq!((long.len(), long.ends_with(".gz")), (MAX_BYTES, true));
        assert_eq!(safe(&"ü".repeat(300)).len(), MAX_BYTES);
        assert_eq!(safe(&format!("a.{}", "x".repeat(300))).len(), MAX_BYTES);
        assert_eq!(numbered("report.pdf", 1), "report (1).pdf");
        assert_eq!(numbered("file", 12), "file (12)");
        assert_eq!(numbered(&long, 999).len(), MAX_BYTES);
    }

    proptest! {
        #[test]
        fn whatever_is_offered_gives_a_name_that_leads_nowhere(
            offered in "\\PC*|[./\\\\ \\-a-cCONnul1:\u{0}-\u{1f}]{0,300}",
        ) {
            let name = safe(&offered);
            prop_assert!(!name.is_empty() && name.len() <= MAX_BYTES, "{name:?}");
            prop_assert!(!name.contains(['/', '\\', '\0']) && !name.starts_with(['.', '-', ' ']), "{name:?}");
            prop_assert!(!name.ends_with(['.', ' ']) && name.chars().all(is_plain), "{name:?}");
            prop_assert_eq!(safe(&name), &*name);
            let numbered = numbered(&name, 7);
            prop_assert!(numbered.len() <= MAX_BYTES && safe(&numbered) == numbered, "{numbered:?}");
        }
    }
}
