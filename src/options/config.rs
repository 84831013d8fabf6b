//! The file `config.toml`: a key for each setting, by the very definitions of the options. Pure: text comes in, and
//! values, words or changed text come out.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::OsStr;
use std::ops::Range;
use std::path::Path;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml_edit::{Array, Document, DocumentMut, Item, TomlError, Value};
use unicode_width::UnicodeWidthStr;

use super::definitions::{is_switch, settings};
use super::nearest::nearest;
use super::switch::{ON_OR_OFF, is_on};

/// What the file says: the values of each setting that stands in it, as they would be written on a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigFile(BTreeMap<String, Vec<String>>);

impl ConfigFile {
    /// Reads the text of the file, which may hold any of `every` setting.
    ///
    /// # Errors
    /// In which line what is wrong, for people.
    pub fn parse(text: &str, every: &Command) -> Result<Self, String> {
        let document = Document::parse(text).map_err(|error| syntax(text, &error))?;
        let mut file = BTreeMap::new();
        for (key, item) in document.as_table() {
            let at = |reason| {
                let span = document.as_table().key(key).and_then(toml_edit::Key::span);
                format!("line {}: {reason}", line(text, span.or_else(|| item.span())))
            };
            let setting = find(every, key).map_err(at)?;
            let values = values(setting, item).map_err(at)?;
            file.insert(key.to_owned(), values);
        }
        Ok(Self(file))
    }

    /// Whether this setting stands in the file.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The value of a setting that has just one.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|values| values.first()).map(String::as_str)
    }

    /// Passes over what the file says of this setting.
    pub(crate) fn pass_over(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// The secrets that stand in the file.
    pub fn secrets<'a>(&'a self, every: &'a Command) -> impl Iterator<Item = &'a str> {
        settings(every).filter(|setting| is_secret(setting) && self.has(key(setting))).map(key)
    }

    /// The command with the file's values in the place of its defaults.
    pub(crate) fn apply(&self, command: Command) -> Command {
        command.mut_args(|option| match self.0.get(option.get_id().as_str()) {
            Some(values) => option.default_values(values),
            None => option,
        })
    }
}

/// The setting of this name.
///
/// # Errors
/// There is none; for people.
pub fn find<'a>(every: &'a Command, name: &str) -> Result<&'a Arg, String> {
    let is_it = |setting: &&Arg| key(setting) == name && is_in_file(setting);
    settings(every).find(is_it).ok_or_else(|| {
        let keys: Vec<&str> = settings(every).filter(|setting| is_in_file(setting)).map(key).collect();
        match nearest(name, keys.iter().copied()) {
            Some(near) => format!("there is no setting {name:?}; did you mean {near}?"),
            None => format!("there is no setting {name:?}, only {}", keys.join(", ")),
        }
    })
}

/// The text of the file with this setting changed, or without it where there are no values; all else stays as it is.
///
/// # Errors
/// What is wrong with the key or a value, for people.
pub fn change(text: &str, every: &Command, key: &str, values: &[String]) -> Result<String, String> {
    let setting = find(every, key)?;
    let mut document: DocumentMut = text.parse().map_err(|error| syntax(text, &error))?;
    match values {
        [] => {
            document.remove(key);
        }
        values if matches!(setting.get_action(), ArgAction::Append) => {
            values.iter().try_for_each(|value| check(setting, value))?;
            document[key] = Item::Value(Value::Array(values.iter().collect::<Array>()));
        }
        [value] if is_switch(setting) => {
            let is_on = is_on(value).ok_or_else(|| expected(setting, ON_OR_OFF))?;
            document[key] = toml_edit::value(is_on);
        }
        [value] => {
            check(setting, value)?;
            document[key] = toml_edit::value(value.as_str());
        }
        _ => return Err(expected(setting, "one value")),
    }
    Ok(document.to_string())
}

/// The text of the file without this setting.
///
/// # Errors
/// There is no such setting, or it does not stand there; for people.
pub(crate) fn unset(text: &str, every: &Command, key: &str) -> Result<String, String> {
    match ConfigFile::parse(text, every)?.has(key) {
        true => change(text, every, key, &[]),
        false => find(every, key).and_then(|_| Err(format!("{key} is not set there"))),
    }
}

/// The values of one setting.
///
/// # Errors
/// There is no such setting, or it is a secret; for people.
pub fn get(every: &Command, matches: &ArgMatches, key: &str) -> Result<Vec<String>, String> {
    let setting = find(every, key)?;
    if is_secret(setting) {
        return Err(format!("{key} is a secret, and is not shown"));
    }
    Ok(texts(matches, setting))
}

/// The values of a setting as the file has them, however they were said.
fn texts(matches: &ArgMatches, setting: &Arg) -> Vec<String> {
    let key = key(setting);
    if is_switch(setting) {
        return matches.try_get_one(key).ok().flatten().map(bool::to_string).into_iter().collect();
    }
    let values = matches.try_get_raw(key).ok().flatten();
    values.into_iter().flatten().map(|value| value.to_string_lossy().into_owned()).collect()
}

/// Every setting of `command` with its value and where that comes from, a line each, below the place of the file.
/// Secrets are not shown.
pub fn list(command: &Command, matches: &ArgMatches, file: &ConfigFile, path: Option<&Path>) -> String {
    let rows: Vec<[String; 3]> = settings(command)
        .map(|setting| {
            let id = key(setting);
            let origin = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => format!("flag --{}", id.replace('_', "-")),
                Some(ValueSource::EnvVariable) => format!("environment variable {}", variable(setting)),
                _ if file.has(id) => format!("file {}", path.unwrap_or(Path::new("")).display()),
                _ => "default".to_owned(),
            };
            let values = texts(matches, setting);
            let value = match values.is_empty() {
                true => "none".to_owned(),
                false if is_secret(setting) => "(not shown)".to_owned(),
                false => values.join(","),
            };
            [id.to_owned(), value, origin]
        })
        .collect();
    // Two characters, or none, may stand in one column.
    let widest = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or_default();
    let padded = |text: &str, columns: usize| format!("{text}{}", " ".repeat(columns.saturating_sub(text.width())));
    let (keys, values) = (widest(0), widest(1));
    let place = path.map(|path| format!("# kept in {}\n", path.display())).unwrap_or_default();
    let rows =
        rows.iter().map(|[key, value, origin]| format!("{}  {}  {origin}\n", padded(key, keys), padded(value, values)));
    place + &rows.collect::<String>()
}

/// The environment variable of a setting.
pub fn variable(setting: &Arg) -> &str {
    setting.get_env().and_then(OsStr::to_str).unwrap_or_default()
}

/// Whether a setting can stand in the file: all but the one that says which file.
pub fn is_in_file(setting: &Arg) -> bool {
    key(setting) != "profile"
}

/// Whether the values of an option are not to be repeated anywhere.
pub fn is_secret(option: &Arg) -> bool {
    option.is_hide_env_values_set()
}

/// Whether a value is not to be repeated although the option is no secret: somebody may have put a password into a URL,
/// where none belongs.
pub(crate) fn holds_password(value: &str) -> bool {
    value.rsplit_once('@').is_some_and(|(before, _)| before.contains(':'))
}

/// The settings whose variable is not to be set to nothing, and what would follow if it were passed over: whoever
/// writes one of them down wants to be hidden, kept apart or careful. Without the others a program is as careful as
/// with them, or says what it lacks.
pub(crate) const REFUSED_EMPTY: [(&str, &str); 7] = [
    ("profile", "your main profile would be used"),
    ("relay_only", "peers would see your address"),
    ("no_server_relays", "the relays that the server offers would be used"),
    ("proxy", "the server would see your address"),
    ("strict", "peers that prove nothing would be talked to"),
    ("only_known", "strangers could call you"),
    ("history", "your commands would be kept on disk"),
];

/// The line in which a span begins.
fn line(text: &str, span: Option<Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start).min(text.len());
    text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// What breaks the rules of TOML, of which the reader's own words are not for people.
fn syntax(text: &str, error: &TomlError) -> String {
    let number = line(text, error.span());
    let found = text.lines().nth(number - 1).unwrap_or_default();
    let words = match error.message() {
        words if words.contains("duplicate key") => "the same setting stands there twice; a duplicate is to be removed",
        _ if found.contains('[') && !found.contains(']') || text.matches('[').count() > text.matches(']').count() => {
            "a list begins that does not end; it wants a ] behind its last text"
        }
        _ if found.matches('"').count() % 2 == 1 => "a text begins that does not end; it wants a \" at either end",
        _ if !found.contains('=') => "that is no setting; a line is NAME = \"VALUE\", or NAME = true",
        _ => "that is no value; a line is NAME = \"VALUE\", with quotes about a text, or NAME = true",
    };
    format!("line {number}: {words}")
}

fn key(setting: &Arg) -> &str {
    setting.get_id().as_str()
}

/// The values that stand behind a key.
fn values(setting: &Arg, item: &Item) -> Result<Vec<String>, String> {
    let is_list = matches!(setting.get_action(), ArgAction::Append);
    let values = match item {
        Item::Value(Value::Boolean(is_on)) if is_switch(setting) => return Ok(vec![is_on.value().to_string()]),
        Item::Value(value) if is_switch(setting) => {
            let word = value.as_str().map(str::to_owned).or(value.as_integer().map(|one| one.to_string()));
            let is_on = word.and_then(|word| is_on(&word)).ok_or_else(|| expected(setting, ON_OR_OFF))?;
            return Ok(vec![is_on.to_string()]);
        }
        _ if is_switch(setting) => return Err(expected(setting, ON_OR_OFF)),
        Item::Value(Value::String(value)) => vec![value.value().clone()],
        Item::Value(Value::Array(values)) if is_list => {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(|| expected(setting, "a list of texts in quotes"))?
        }
        _ if is_list => return Err(expected(setting, "a text in quotes, or a list of them in brackets")),
        _ => return Err(expected(setting, "a text in quotes")),
    };
    values.iter().try_for_each(|value| check(setting, value))?;
    Ok(values)
}

/// Whether clap takes this value for this option.
fn check(setting: &Arg, value: &str) -> Result<(), String> {
    let option = format!("--{}={value}", setting.get_long().unwrap_or_default());
    let alone = setting.clone().env(Resettable::Reset);
    let taken = Command::new("").no_binary_name(true).disable_help_flag(true).arg(alone).try_get_matches_from([option]);
    let Err(error) = taken else { return Ok(()) };
    let possible: Vec<String> = setting.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let reason = match error.source() {
        Some(reason) => reason.to_string(),
        None if possible.is_empty() => "there is nothing in it".to_owned(),
        None => format!("one of {}", possible.join(", ")),
    };
    match is_secret(setting) || holds_password(value) {
        true => Err(format!("{}: {reason}", key(setting))),
        false => Err(format!("{} = {value:?}: {reason}", key(setting))),
    }
}

fn expected(setting: &Arg, what: &str) -> String {
    format!("{} takes {what}", key(setting))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::every_setting;

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        for value in ["ws://bob:hunter2@chat.example", "wss://hunter2@chat.example", "bob:hunter2@chat.example"] {
            let error = change("", &every_setting(), "server", &[value.to_owned()]).unwrap_err();
            assert!(error.starts_with("server: ") && !error.contains("hunter2"), "{error}");
            let error = ConfigFile::parse(&format!("server = \"{value}\""), &every_setting()).unwrap_err();
            assert!(error.starts_with("line 1: server: ") && !error.contains("hunter2"), "{error}");
        }
        let error = change("", &every_setting(), "server", &["http://chat.example".to_owned()]).unwrap_err();
        assert!(error.contains("http://chat.example"), "any other mistake is shown: {error}");
    }

    #[test]
    fn where_values_come_from_stands_in_one_column() {
        let mut every = every_setting();
        for value in ["/home/ü/下载", "/home/e\u{301}"] {
            let matches = every.try_get_matches_from_mut(["lowkey", "--downloads", value]).unwrap();
            let list = list(&every, &matches, &ConfigFile::default(), None);
            let origin = |line: &str| Some(line[..line.rfind("  ")?].width());
            let columns: Vec<_> = list.lines().map(origin).collect();
            assert!(list.contains(value) && columns.iter().all(|column| *column == columns[0]), "{list}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_empty_value_is_said() {
        let error = ConfigFile::parse("downloads = \"\"", &every_setting()).unwrap_err();
        assert_eq!(error, "line 1: downloads = \"\": there is nothing in it");
    }
}
