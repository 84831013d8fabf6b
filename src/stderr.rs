//! Standard error, as all our programs write to it: a line that cannot be written, since the disk is full or nobody
//! reads any more, is lost and nothing else happens. The macros of the standard library panic there. And `RUST_LOG`,
//! which says how much of the log goes there: it is read here and not by the logger's own crate, which takes a word
//! that is no level for the name of a module, and then logs nothing but that module, without a word.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

use log::{Level, LevelFilter};

use crate::escape::{MAX_LINE, escaped, escaped_lines, shortened, shortened_lines};
use crate::lock::lock;

/// Writes a line, or several, in one piece. What of it comes from others takes over no terminal, and fills none.
pub fn say(line: impl Display) {
    let line = line.to_string();
    let line = shortened_lines(&line);
    let line = escaped_lines(&line);
    if !is_shown_elsewhere(&line) {
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

/// Shows a line, or several, in place of standard error, and returns whether it has.
pub(crate) type Screen = dyn Fn(&str) -> bool + Send + Sync;

/// What has something in the last row of the terminal that standard error leads to, such as a prompt: a line that is
/// written past it would stand behind that, and be erased with it.
static SCREEN: Mutex<Option<Arc<Screen>>> = Mutex::new(None);

/// From now on `screen` is asked to show what is said and logged; without one it goes to standard error again.
#[cfg(feature = "chat")]
pub(crate) fn show_on(screen: Option<Arc<Screen>>) {
    *lock(&SCREEN) = screen;
}

fn is_shown_elsewhere(line: &str) -> bool {
    // A screen that has panicked is held by that very thread.
    let screen = lock(&SCREEN).clone().filter(|_| !thread::panicking());
    screen.is_some_and(|screen| screen(line))
}

/// Whether systemd's journal reads it: `JOURNAL_STREAM` holds the device and inode of the stream that a service was
/// started with (systemd.exec(5)). A program that a service starts inherits the variable, but not always the stream.
pub fn is_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let Ok(descriptor) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    let metadata = std::fs::File::from(descriptor).metadata();
    metadata.is_ok_and(|metadata| stream == format!("{}:{}", metadata.dev(), metadata.ino()))
}

/// How much to log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogLevels {
    /// Of what is not named; `None` where that is left to the program.
    pub level: Option<LevelFilter>,
    /// Of a module and those beneath it.
    pub modules: Vec<(String, LevelFilter)>,
}

impl LogLevels {
    /// Reads a comma list of levels and `MODULE=LEVEL`; a module of ours alone is logged in full. An empty one says
    /// nothing.
    ///
    /// # Errors
    /// The value and what it may be, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut levels = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let wrong = || format!("RUST_LOG is {text:?}; it takes {EXPECTED}, and {item:?} is none");
            match item.split_once('=') {
                None => match item.parse() {
                    Ok(level) => levels.level = Some(level),
                    Err(_) if is_ours(item) => levels.modules.push((item.to_owned(), LevelFilter::max())),
                    Err(_) => return Err(wrong()),
                },
                Some((module, level)) => {
                    let (module, level) = (module.trim(), level.trim().parse().map_err(|_| wrong())?);
                    if !is_module(module) {
                        return Err(wrong());
                    }
                    levels.modules.push((module.to_owned(), level));
                }
            }
        }
        Ok(levels)
    }

    /// A logger to standard error of these levels, with `level` where they say nothing, and nothing of `quiet` crates
    /// that they do not name. A line is one line, whatever is in it. Under systemd it begins with its level, as
    /// journald reads it, and leaves out the time, which journald knows.
    pub fn logger(&self, level: LevelFilter, quiet: &[&str]) -> env_logger::Builder {
        let mut logger = env_logger::Builder::new();
        logger.filter_level(self.level.unwrap_or(level));
        for krate in quiet {
            logger.filter_module(krate, LevelFilter::Off);
        }
        for (module, level) in &self.modules {
            logger.filter_module(module, *level);
        }
        logger.parse_write_style(&std::env::var("RUST_LOG_STYLE").unwrap_or_default());
        let is_journal = is_journal();
        logger.format(move |out, record| {
            let (level, words) = (record.level(), record.args().to_string());
            let words = shortened(&words, MAX_LINE);
            if is_journal {
                return writeln!(out, "<{}>{}", priority(level), escaped(&words));
            }
            let time = humantime::format_rfc3339_seconds(SystemTime::now());
            let (style, target) = (out.default_level_style(level), record.target());
            if is_shown_elsewhere(&format!("[{time} {level:<5} {target}] {}", escaped(&words))) {
                return Ok(());
            }
            writeln!(out, "[{time} {style}{level:<5}{style:#} {target}] {}", escaped(&words))
        });
        logger
    }
}

/// A level as journald has it (sd-daemon(3)).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn is_module(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
}

fn is_ours(name: &str) -> bool {
    is_module(name) && name.split("::").next().is_some_and(|krate| matches!(krate, "lowkey" | "lowkey_server"))
}

const EXPECTED: &str = "error, warn, info, debug or off, or a list with MODULE=LEVEL";

#[cfg(test)]
mod tests {
    use super::*;
    use LevelFilter::{Debug, Info, Off, Trace, Warn};

    fn modules(list: &[(&str, LevelFilter)]) -> Vec<(String, LevelFilter)> {
        list.iter().map(|(module, level)| ((*module).to_owned(), *level)).collect()
    }

    #[test]
    fn levels_are_of_all_or_of_a_module() {
        for (text, level, named) in [
            ("", None, &[][..]),
            (" , ", None, &[]),
            ("debug", Some(Debug), &[]),
            ("DEBUG", Some(Debug), &[]),
            ("off", Some(Off), &[]),
            ("warn,lowkey::server=debug", Some(Warn), &[("lowkey::server", Debug)]),
            ("hyper=info", None, &[("hyper", Info)]),
            ("lowkey", None, &[("lowkey", Trace)]),
            ("lowkey::peer, mio = off", None, &[("lowkey::peer", Trace), ("mio", Off)]),
        ] {
            assert_eq!(LogLevels::parse(text), Ok(LogLevels { level, modules: modules(named) }), "{text}");
        }
    }

    #[test]
    fn what_is_no_level_is_told_of() {
        for text in [
            "verbose",
            "3",
            "infoo",
            "true",
            "lowkey=verbose",
            "=info",
            "lowkey=",
            "a=b=c",
            "info/regex",
            "\"info\"",
            "a b=info",
            "lowkey-server=debug",
        ] {
            let error = LogLevels::parse(&format!("warn,{text}")).unwrap_err();
            assert!(error.ends_with(&format!("and {text:?} is none")) && !error.contains('\n'), "{error}");
        }
    }
}
