//! Paths as they are typed, or as a terminal pastes them where files are dropped on it: in quotes, with backslashes, as
//! `file://`, or below `~`. Pure: what is there, somebody else looks.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

/// The paths in a line. Where those words are not there, and all of them together are one that is, that one is meant:
/// some terminals paste a name with spaces as it is. `home` is what `~` stands for.
///
/// # Errors
/// What is wrong with the line; for people.
pub fn read(typed: &str, home: Option<&Path>, is_there: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, String> {
    let paths = words(typed).and_then(|words| words.iter().map(|word| word.path(home)).collect::<Result<Vec<_>, _>>());
    if paths.as_ref().is_ok_and(|paths| paths.iter().all(|path| is_there(path))) {
        return paths;
    }
    let whole = Word { text: typed.trim().to_owned(), begins_bare: true }.path(home);
    match whole {
        Ok(whole) if !typed.trim().is_empty() && is_there(&whole) => Ok(vec![whole]),
        _ => paths,
    }
}

/// The words of a line, without their quotes and backslashes.
///
/// # Errors
/// A quote does not end.
pub fn plain_words(typed: &str) -> Result<Vec<String>, String> {
    Ok(words(typed)?.into_iter().map(|word| word.text).collect())
}

/// The folder for downloads that a file of user-dirs names (xdg-user-dir(1)): `XDG_DOWNLOAD_DIR="$HOME/…"`, or an
/// absolute path. One that is the home itself counts as switched off there.
pub fn download_folder(user_dirs: &str, home: &Path) -> Option<PathBuf> {
    let value = |line: &str| Some(line.trim().strip_prefix("XDG_DOWNLOAD_DIR=")?.trim().to_owned());
    let value = user_dirs.lines().filter_map(value).next_back()?;
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(&value);
    let path = match quoted.strip_prefix("$HOME").filter(|rest| is_end_or_slash(rest)) {
        Some(rest) => home.join(rest.trim_matches('/')),
        None => PathBuf::from(quoted),
    };
    (path.is_absolute() && path != home.join("")).then_some(path)
}

/// A word as a shell would read it.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    text: String,
    /// Its first character was in no quotes and behind no backslash, so a `~` there is the home.
    begins_bare: bool,
}

impl Word {
    fn path(&self, home: Option<&Path>) -> Result<PathBuf, String> {
        if let Some((_, path)) = self.text.split_once(':').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("file")) {
            // RFC 8089: with the machine's name, which is mostly left out, or with nothing but the path.
            let rest = path.strip_prefix("//");
            let (host, path) = rest.map_or(("", path), |rest| rest.split_at(rest.find('/').unwrap_or(rest.len())));
            if !path.starts_with('/') || !(host.is_empty() || host.eq_ignore_ascii_case("localhost")) {
                return Err(format!("{} is on another machine, or no path: name a file of this one", self.text));
            }
            return Ok(OsString::from_vec(percent_decode_str(path).collect()).into());
        }
        let below_home = self.text.strip_prefix('~').filter(|rest| self.begins_bare && is_end_or_slash(rest));
        match (below_home, home) {
            (None, _) => Ok(PathBuf::from(&self.text)),
            (Some(rest), Some(home)) => Ok(home.join(rest.trim_start_matches('/'))),
            (Some(_), None) => Err("~ stands for nothing here, since HOME is not set".to_owned()),
        }
    }
}

fn is_end_or_slash(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// Takes a line apart as a shell does (POSIX, 2.2), but that nothing in it stands for anything else.
fn words(typed: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut chars = typed.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let text = &mut word.get_or_insert_with(|| Word { text: String::new(), begins_bare: c == '~' }).text;
        match c {
            '\'' => loop {
                match chars.next() {
                    Some('\'') => break,
                    Some(c) => text.push(c),
                    None => return Err(UNCLOSED.to_owned()),
                }
            },
            '"' => loop {
                match chars.next() {
                    Some('"') => break,
                    Some('\\') => match chars.next() {
                        Some(c @ ('"' | '\\' | '$' | '`')) => text.push(c),
                        Some(c) => text.extend(['\\', c]),
                        None => return Err(UNCLOSED.to_owned()),
                    },
                    Some(c) => text.push(c),
                    None => return Err(UNCLOSED.to_owned()),
                }
            },
            '\\' => text.push(chars.next().unwrap_or('\\')),
            c => text.push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

const UNCLOSED: &str = "a quote does not end there: put a \\ before one that belongs to a name";

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(typed: &str) -> Vec<PathBuf> {
        read(typed, Some(Path::new("/home/alice")), |_| true).unwrap()
    }

    #[test]
    fn what_terminals_paste_of_a_file_is_its_path() {
        for (typed, path) in [
            ("/tmp/report.pdf", "/tmp/report.pdf"),
            // Quotes of GNOME Terminal, Konsole and kitty; those of others; backslashes of macOS's.
            ("'/tmp/my report.pdf' ", "/tmp/my report.pdf"),
            (r"'/tmp/bob'\''s report.pdf'", "/tmp/bob's report.pdf"),
            ("\"/tmp/my report.pdf\"", "/tmp/my report.pdf"),
            (r#""/tmp/a\"b\\c\d""#, r#"/tmp/a"b\c\d"#),
            (r"/tmp/my\ report\ \(1\).pdf", "/tmp/my report (1).pdf"),
            ("file:///tmp/my%20report.pdf", "/tmp/my report.pdf"),
            ("FILE:///tmp/x", "/tmp/x"),
            ("File://LocalHost/tmp/x", "/tmp/x"),
            ("file://localhost/tmp/%C3%A4.txt", "/tmp/ä.txt"),
            ("'file:///tmp/100%25'", "/tmp/100%"),
            ("file:/tmp/x", "/tmp/x"),
            ("~/x y", "/home/alice/x"),
            ("~", "/home/alice"),
            ("'~/x'", "~/x"),
            (r"\~", "~"),
            ("~bob/x", "~bob/x"),
            (r"a\", r"a\"),
            ("''a''", "a"),
        ] {
            assert_eq!(read_all(typed)[0], Path::new(path), "{typed}");
        }
        let odd = read_all("file:///tmp/%ff");
        assert_eq!(odd[0].as_os_str().as_encoded_bytes(), b"/tmp/\xff", "a name that is not UTF-8");
    }

    #[test]
    fn several_files_are_several_words() {
        assert_eq!(read_all("a 'b c'  d\\ e").len(), 3);
        assert_eq!(read_all("''").len(), 1, "an empty name is one that is not there");
        assert_eq!(read_all("  ").len(), 0);
    }

    #[test]
    fn a_name_with_spaces_that_was_pasted_as_it_is_is_found() {
        let there = |name: &'static str| move |path: &Path| path == Path::new(name);
        assert_eq!(read("my report.pdf", None, there("my report.pdf")), Ok(vec!["my report.pdf".into()]));
        assert_eq!(read("bob's report.pdf ", None, there("bob's report.pdf")), Ok(vec!["bob's report.pdf".into()]));
        assert_eq!(read("my report.pdf", None, |_| false), Ok(vec!["my".into(), "report.pdf".into()]));
        assert!(read("bob's", None, |_| false).unwrap_err().starts_with("a quote does not end"));
    }

    #[test]
    fn the_folder_for_downloads_is_that_of_the_desktop() {
        let home = Path::new("/home/alice");
        for (text, path) in [
            (
                "# x\nXDG_DESKTOP_DIR=\"$HOME/Desktop\"\nXDG_DOWNLOAD_DIR=\"$HOME/Geladen\"\n",
                Some("/home/alice/Geladen"),
            ),
            ("XDG_DOWNLOAD_DIR=\"/data/in\"", Some("/data/in")),
            ("XDG_DOWNLOAD_DIR=\"$HOME/\"", None),
            ("XDG_DOWNLOAD_DIR=\"relative\"", None),
            ("XDG_DOWNLOAD_DIR=\"$HOMER/x\"", None),
            ("#XDG_DOWNLOAD_DIR=\"/data/in\"", None),
        ] {
            assert_eq!(download_folder(text, home), path.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_of_this_machine_is_said() {
        for typed in ["file://server/x", "file:x"] {
            assert!(read(typed, None, |_| false).unwrap_err().contains("on another machine"), "{typed}");
        }
        assert!(read("~/x", None, |_| false).unwrap_err().contains("HOME"));
    }
}
