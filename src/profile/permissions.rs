//! Whether others on this machine could have written a file that says who somebody is or what is a secret, or can read
//! one, as ssh looks at its own. What is looked at is the open file, so that nobody can put another in its place in
//! between.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use zeroize::Zeroizing;

use super::files;
use crate::lock::lock;
use crate::stderr::say;
use crate::{trouble, waiting};

/// The text of a regular file; `None` where there is none. It is not left in memory.
///
/// # Errors
/// It is something else, cannot be read, or others could have written it; for people.
pub fn read(path: &Path, holds_secret: bool) -> Result<Option<Zeroizing<String>>, String> {
    read_opened(path, files::open(path, OpenOptions::new().read(true)), holds_secret, u64::MAX)
}

/// As [`read`], and what is there may be a pipe, whose other end is waited for: the user has named it, as with a
/// shell's `<(COMMAND)`.
///
/// # Errors
/// It cannot be read, is longer than 64 KiB, or others could have written it; for people.
pub fn read_any(path: &Path, holds_secret: bool) -> Result<Option<Zeroizing<String>>, String> {
    let tell = |words| say(format!("* {words}"));
    waiting::for_what_comes(path, tell, || read_opened(path, File::open(path), holds_secret, MAX_NAMED))
}

/// Reads a file that was opened, of so many bytes at most.
fn read_opened(
    path: &Path,
    opened: io::Result<File>,
    holds_secret: bool,
    limit: u64,
) -> Result<Option<Zeroizing<String>>, String> {
    let said = |error: io::Error| trouble::said(path, &error);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_ok() => {
            let advice = "remove it, or make the file that it is to lead to";
            return Err(format!("{}: it is a symbolic link that leads to nothing; {advice}", path.display()));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(said(error)),
    };
    let metadata = file.metadata().map_err(said)?;
    // A pipe or a terminal is whoever's opened it.
    if metadata.is_file() {
        judge_open(path, &metadata, holds_secret)?;
    }
    // With room for all of it, no part is left behind where the text has grown out of its place.
    let mut text = Zeroizing::new(String::with_capacity(metadata.len() as usize + 1));
    file.take(limit.saturating_add(1)).read_to_string(&mut text).map_err(said)?;
    if text.len() as u64 > limit {
        return Err(format!("{}: it is longer than {limit} bytes; is it the right file?", path.display()));
    }
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(Some(text))
}

/// Looks at a folder or file, if it is there.
///
/// # Errors
/// Others could have put files there, or written it; for people.
pub fn check(path: &Path, holds_secret: bool) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() || metadata.is_file() => judge_open(path, &metadata, holds_secret),
        // A device has no text of others, and whatever is wrong with the rest shows when it is opened.
        _ => Ok(()),
    }
}

fn judge_open(path: &Path, metadata: &Metadata, holds_secret: bool) -> Result<(), String> {
    let own = nix::unistd::geteuid().as_raw();
    match judge(metadata.mode(), metadata.uid(), own, holds_secret) {
        Judgement::Refused(why) => Err(why.replace("PATH", &path.display().to_string())),
        Judgement::Warned(what) => {
            warn_once(path, &what.replace("PATH", &path.display().to_string()));
            Ok(())
        }
        Judgement::Fine => Ok(()),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Fine,
    Warned(&'static str),
    Refused(String),
}

/// What is to be thought of a file or folder with this mode and owner; `own` is the user of this program. In what is
/// said, PATH stands for its path.
fn judge(mode: u32, owner: u32, own: u32, holds_secret: bool) -> Judgement {
    if owner != own && owner != 0 {
        return Judgement::Refused(format!(
            "PATH belongs to another user of this machine (uid {owner}), who could change it; if it is yours, make it \
             so: chown {own} PATH"
        ));
    }
    if mode & 0o002 != 0 {
        return Judgement::Refused(
            "all users of this machine may write PATH; make sure that it is as you left it, then chmod go-w PATH"
                .to_owned(),
        );
    }
    match (mode & 0o020 != 0, holds_secret && mode & 0o044 != 0) {
        (_, true) => Judgement::Warned("others on this machine may read PATH, which holds a secret; chmod 600 PATH"),
        (true, false) => Judgement::Warned("the group of PATH may write it; chmod g-w PATH"),
        (false, false) => Judgement::Fine,
    }
}

/// Says what is wrong with a file, the first time that it is looked at.
fn warn_once(path: &Path, words: &str) {
    let mut warned = lock(&WARNED);
    if warned.insert(path.to_owned()) {
        say(format!("* {words}"));
    }
}

/// The longest file that is read from wherever the user has named, in bytes: a device may have no end.
const MAX_NAMED: u64 = 64 * 1024;

/// What some editors put in front of a text, so that others know it for Unicode. It is no part of it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The files of which something was said.
static WARNED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_an_end_is_not_read_for_ever() {
        let error = read_any(Path::new("/dev/zero"), true).unwrap_err();
        assert_eq!(error, "/dev/zero: it is longer than 65536 bytes; is it the right file?");
    }

    #[test]
    fn what_others_may_write_or_own_is_refused_and_what_they_may_read_is_warned_of() {
        let kind = |judgement| match judgement {
            Judgement::Fine => "fine",
            Judgement::Warned(words) if words.contains("chmod 600 PATH") => "read",
            Judgement::Warned(words) if words.contains("chmod g-w PATH") => "group",
            Judgement::Warned(words) => words,
            Judgement::Refused(why) if why.contains("uid 7") => "owner",
            Judgement::Refused(_) => "all",
        };
        let judged = |mode: u32, owner, holds_secret| kind(judge(0o100_000 | mode, owner, 1000, holds_secret));
        for (mode, plain, secret) in [
            (0o600, "fine", "fine"),
            (0o400, "fine", "fine"),
            (0o644, "fine", "read"),
            (0o640, "fine", "read"),
            (0o604, "fine", "read"),
            (0o660, "group", "read"),
            (0o620, "group", "group"),
            (0o666, "all", "all"),
            (0o602, "all", "all"),
            (0o700, "fine", "fine"),
            (0o755, "fine", "read"),
            (0o1777, "all", "all"),
        ] {
            for owner in [1000, 0] {
                assert_eq!(
                    (judged(mode, owner, false), judged(mode, owner, true)),
                    (plain, secret),
                    "{mode:o} {owner}"
                );
            }
            assert_eq!(judged(mode, 7, false), "owner");
        }
    }
}
