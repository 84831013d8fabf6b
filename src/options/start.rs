//! The start of a program: the command line, the environment and the profile's file become its options; help and the
//! like is printed; and what is wrong is said in one line, with exit code 2.

use std::error::Error as _;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

use clap::builder::{Resettable, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::access::TokenHome;
use super::config::{self, ConfigFile};
use super::definitions::{every_setting, settings, uniform};
use super::manual::{About, ConfigTask};
use super::nearest::{self, nearest};
use super::peer::DEFAULT_SERVER;
use crate::peer::{ServerUrl, ServerUrlError};
use crate::profile::{Profile, ProfileName};
use crate::stderr::{LogLevels, say};
use crate::stdout;
use crate::trouble;

/// What a program begins with.
pub struct Start<T> {
    /// The program's options.
    pub options: T,
    /// Where the program keeps what outlives it, or why there is no such place.
    pub profile: Result<Profile, String>,
    /// The server that the access token belongs to.
    pub token_home: TokenHome,
    matches: ArgMatches,
}

impl<T> Start<T> {
    /// Whether this option stands on the command line.
    pub(crate) fn is_given(&self, option: &str) -> bool {
        self.matches.value_source(option) == Some(ValueSource::CommandLine)
    }
}

/// Reads the options of a program from its command line, the environment and the file of its profile. Help, the version
/// and the like are printed, and a mistake is said in one line.
///
/// # Errors
/// The code to exit with.
pub fn parse<T: Parser>() -> Result<Start<T>, ExitCode> {
    leave_no_dump();
    raise_descriptors();
    let program = T::command();
    let (about, long_about) = (program.get_about().cloned(), program.get_long_about().cloned());
    // The commands bring words of their own along, which are not the program's.
    let command =
        About::augment_subcommands(program).about(Resettable::from(about)).long_about(Resettable::from(long_about));
    let command = uniform(command.disable_help_subcommand(true));
    read(&command, std::env::args_os().collect()).map_err(|stop| match stop {
        Stop::Printed(text) => printed(command.get_name(), || stdout::write(text.as_bytes())),
        Stop::Nothing => ExitCode::FAILURE,
        Stop::Help(help) if io::stdout().is_terminal() => printed(command.get_name(), || help.print()),
        Stop::Help(help) => printed(command.get_name(), || stdout::write(help.to_string().as_bytes())),
        Stop::Wrong(reason) => {
            say(format!("{}: {reason}", command.get_name()));
            ExitCode::from(2)
        }
    })
}

/// Prints what was asked for, which is all that there is to do.
fn printed(program: &str, print: impl FnOnce() -> io::Result<()>) -> ExitCode {
    match print().and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever has seen enough, as a pager's user, need not hear of it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{program}: {}", trouble::output(&error));
            ExitCode::FAILURE
        }
    }
}

/// Why a program ends before it has begun.
enum Stop {
    Printed(String),
    /// What was asked for is not there.
    Nothing,
    Help(clap::Error),
    Wrong(String),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Wrong(reason)
    }
}

fn read<T: Parser>(command: &Command, arguments: Vec<OsString>) -> Result<Start<T>, Stop> {
    let matches = matches(command, command.clone(), &arguments)?;
    // A name beside a command is most likely a slip, and would be passed over.
    let is_given =
        |option: &clap::Arg| matches.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine);
    if let (Some(name), Some(beside)) = (matches.subcommand_name(), command.get_positionals().find(|o| is_given(o))) {
        let beside = beside.get_value_names().and_then(|names| names.first()).map_or("a name", |name| name.as_str());
        return Err(Stop::Wrong(format!("{beside} and the command {name} exclude each other")));
    }
    if !arguments.iter().any(|argument| argument == "--") {
        let named = command.get_positionals().find(|option| is_given(option));
        let named = named.and_then(|option| matches.get_raw(option.get_id().as_str())?.next()?.to_str());
        named.map_or(Ok(()), |name| mistaken(command, name))?;
    }
    let about = About::from(&matches);
    match about {
        Some(About::Completions { shell }) => return Err(Stop::Printed(super::manual::completions(command, shell))),
        Some(About::Man) => return Err(Stop::Printed(super::manual::man(command))),
        _ => {}
    }
    warn_of_unknown_variables(command.get_name());
    let profile_name = matches.get_one::<ProfileName>("profile");
    let profile = Profile::find(|name| std::env::var_os(name), profile_name);
    if let (Some(_), Err(error)) = (profile_name, &profile) {
        return Err(Stop::Wrong(error.clone()));
    }
    match &about {
        Some(About::Config { task: Some(ConfigTask::Set { key, values }) }) => {
            profile?.change_config(|text| config::change(text, &every_setting(), key, values))?;
            return Err(Stop::Printed(String::new()));
        }
        Some(About::Config { task: Some(ConfigTask::Unset { key }) }) => {
            profile?.change_config(|text| config::unset(text, &every_setting(), key))?;
            return Err(Stop::Printed(String::new()));
        }
        _ => {}
    }
    let mut file = profile.as_ref().map_or(Ok(ConfigFile::default()), file)?;
    if command.get_name() != "lowkey" && profile_name.is_none() {
        // The name there is its user's own; a second program under it would take it from the first.
        file.pass_over("name");
    }
    let matches = self::matches(command, file.apply(command.clone()), &arguments)?;
    if let Some(About::Config { task }) = about {
        let path = profile.as_ref().ok().map(Profile::path);
        let Some(ConfigTask::Get { keys }) = task else {
            return Err(Stop::Printed(config::list(command, &matches, &file, path.as_deref())));
        };
        let get = |key: &String| {
            config::get(&every_setting(), &matches, key).map_err(|reason| match (&path, file.has(key)) {
                (Some(path), true) => format!("{reason}; it stands in {}", path.display()),
                _ => reason,
            })
        };
        let values: Vec<Vec<String>> = keys.iter().map(get).collect::<Result<_, _>>()?;
        return Err(match &values[..] {
            [only] if only.is_empty() => Stop::Nothing,
            [only] => Stop::Printed(only.join("\n") + "\n"),
            several => Stop::Printed(several.iter().map(|values| values.join(",") + "\n").collect()),
        });
    }
    let token_home = token_home(&matches, &file)?;
    let options = T::from_arg_matches(&matches).map_err(|error| wrong(command, &error))?;
    Ok(Start { options, profile, token_home, matches })
}

/// Which server the access token is for. One that stands in the file is for the server of the file, whatever else this
/// start names.
fn token_home(matches: &ArgMatches, file: &ConfigFile) -> Result<TokenHome, String> {
    let is_default = |option: &str| matches.value_source(option) == Some(ValueSource::DefaultValue);
    let is_from_file = |option: &str| is_default(option) && file.has(option);
    if is_from_file("access_token") || is_from_file("access_token_file") {
        let named = file.value("server");
        let server = named.unwrap_or(DEFAULT_SERVER).parse().map_err(|error: ServerUrlError| error.to_string())?;
        return Ok(TokenHome { server, is_named: named.is_some() });
    }
    let server = matches.get_one::<ServerUrl>("server").cloned().ok_or("there is no server")?;
    Ok(TokenHome { server, is_named: !is_default("server") || file.has("server") })
}

/// What other programs take as a command, or what is nearly one of ours, is not passed over as the name of a peer.
fn mistaken(command: &Command, name: &str) -> Result<(), Stop> {
    if let Some(option) = match name {
        "help" => Some("--help"),
        "version" => Some("--version"),
        _ => None,
    } {
        return match command.clone().try_get_matches_from([command.get_name(), option]) {
            Err(told) => Err(Stop::Help(told)),
            Ok(_) => Ok(()),
        };
    }
    // Of short ones there would be too many names that are near.
    let commands = command.get_subcommands().map(Command::get_name).filter(|command| command.len() > 4);
    match nearest::within(name, commands, |_| 1).filter(|near| *near != name) {
        Some(near) => {
            let program = command.get_name();
            let words = format!("there is no command {name}{}", nearest::question(Some(near)));
            Err(Stop::Wrong(format!("{words} Who has that name is called by: {program} -- {name}")))
        }
        None => Ok(()),
    }
}

/// Reads the command line with the options of `with`. A variable that is set to nothing is not set, unless it protects.
fn matches(command: &Command, with: Command, arguments: &[OsString]) -> Result<ArgMatches, Stop> {
    let is_empty = |option: &clap::Arg| {
        let value = option.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.to_str().is_some_and(|value| value.trim().is_empty()))
    };
    for (key, then) in config::REFUSED_EMPTY {
        if let Some(option) = settings(&with).find(|option| option.get_id() == key && is_empty(option)) {
            let variable = config::variable(option);
            return Err(Stop::Wrong(format!(
                "{variable} is set to nothing, and so {then}; unset it if that is wanted"
            )));
        }
    }
    let with = with.mut_args(|option| if is_empty(&option) { option.env(Resettable::Reset) } else { option });
    with.clone().try_get_matches_from(arguments).map_err(|error| match error.use_stderr() {
        true if error.kind() == ErrorKind::InvalidUtf8 => Stop::Wrong(no_text(&with, arguments)),
        true if is_beyond_a_word(&error)
            && let Some(words) = no_command(command, arguments, &error) =>
        {
            Stop::Wrong(words)
        }
        true => wrong(command, &error),
        false => Stop::Help(error),
    })
}

/// Whether clap complains of a word too many.
fn is_beyond_a_word(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand)
}

/// What is said where a word is too many because the one in front was meant as a command: one that is nearly ours, or
/// one that is typed elsewhere.
fn no_command(command: &Command, arguments: &[OsString], error: &clap::Error) -> Option<String> {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    let second = word(ContextKind::InvalidArg).or(word(ContextKind::InvalidSubcommand))?;
    let at = arguments.iter().rposition(|argument| argument == second)?;
    let first = arguments[1..].get(at.checked_sub(2)?)?.to_str()?;
    let program = command.get_name();
    if first.starts_with('-') || second.starts_with('-') || program != "lowkey" {
        return None;
    }
    if ["connect", "call", "chat", "to"].contains(&first) {
        return Some(format!("there is no command {first}; {program} {second} calls {second}"));
    }
    let names = command.get_subcommands().map(Command::get_name);
    let near = nearest::within(first, names, |near| near.len() / 3).filter(|near| *near != first)?;
    Some(format!("there is no command {first}; did you mean {program} {near}?"))
}

/// What is said where the command line or a variable holds bytes that are no text: which one it is.
fn no_text(command: &Command, arguments: &[OsString]) -> String {
    let is_no_text = |value: OsString| value.to_str().is_none();
    let is_file = |option: &clap::Arg| option.get_value_parser().type_id() == ValueParser::path_buf().type_id();
    let bad =
        |option: &&clap::Arg| !is_file(option) && option.get_env().and_then(std::env::var_os).is_some_and(is_no_text);
    let given = arguments.iter().find(|argument| argument.to_str().is_none());
    let what = match (given, settings(command).find(bad)) {
        (Some(given), _) => format!("{:?} on the command line", given.to_string_lossy()),
        (None, Some(option)) => config::variable(option).to_owned(),
        (None, None) => "one of the values given".to_owned(),
    };
    format!("{what} is no text in UTF-8; is it what you meant?")
}

/// What the file of a profile says.
fn file(profile: &Profile) -> Result<ConfigFile, String> {
    let path = profile.path();
    let Some(text) = profile.config()? else { return Ok(ConfigFile::default()) };
    let every = every_setting();
    let file = ConfigFile::parse(&text, &every).map_err(|reason| format!("{}: {reason}", path.display()))?;
    let is_open = std::fs::metadata(&path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0);
    if is_open && let Some(secret) = file.secrets(&every).next() {
        let path = path.display();
        say(format!("* {path} holds a secret ({secret}), and others on this machine may read it; chmod 600 {path}"));
    }
    Ok(file)
}

/// A variable of ours that is misspelt would be passed over in silence.
fn warn_of_unknown_variables(program: &str) {
    let every = every_setting();
    // What all begin with tells nothing of what was meant.
    let known: Vec<&str> =
        settings(&every).filter_map(|setting| config::variable(setting).strip_prefix(OURS)).collect();
    let mut unknown: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok()?.strip_prefix(OURS).map(str::to_owned))
        .filter(|name| !known.contains(&name.as_str()))
        .collect();
    unknown.sort();
    for name in unknown {
        let meant = nearest(&name, known.iter().copied());
        let meant = meant.map(|meant| format!("; did you mean {OURS}{meant}?")).unwrap_or_default();
        say(format!("* the environment variable {OURS}{} is none of {program}'s{meant}", name.escape_debug()));
    }
}

/// What is wrong, in one line: the first paragraph of clap's words. A secret is not repeated.
fn wrong(command: &Command, error: &clap::Error) -> Stop {
    let name = command.get_name();
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        _ => "",
    };
    let is_it = |option: &&clap::Arg| {
        let flag = format!("--{}", option.get_long().unwrap_or_default());
        argument.split([' ', '=', '[']).next() == Some(&flag)
    };
    let secret = command.get_arguments().find(is_it).filter(|option| config::is_secret(option));
    let is_value = matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::NoEquals);
    let reason = match secret.filter(|_| is_value) {
        Some(_) => {
            let reason = reason(error).unwrap_or_else(|| "it is not fit for use".to_owned());
            format!("invalid value (not shown) for '{argument}': {reason}")
        }
        None => in_words(command, error, argument),
    };
    Stop::Wrong(match reason.ends_with('?') {
        true => format!("{reason} See {name} --help"),
        false => format!("{reason}; see {name} --help"),
    })
}

/// What clap found, in words of ours; what it says well itself is left as it is.
fn in_words(command: &Command, error: &clap::Error, argument: &str) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let list = |kind| match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts.as_slice(),
        _ => &[],
    };
    let (value, possible) = (text(ContextKind::InvalidValue), list(ContextKind::ValidValue));
    match error.kind() {
        ErrorKind::ValueValidation => {
            let reason = reason(error).unwrap_or_else(|| "it is not fit for use".to_owned());
            match config::holds_password(value) {
                true => format!("{argument} is not to be that (not shown): {reason}"),
                // The reason says which value it is.
                false if reason.starts_with(&format!("{value:?}")) => format!("{argument}: {reason}"),
                false => format!("{argument} is not to be {value:?}: {reason}"),
            }
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{argument} lacks its value"),
        ErrorKind::InvalidValue => meant(&format!("{argument} is not to be {value:?}"), value, possible),
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand);
            let names = commands(command).into_iter().map(Command::get_name);
            // Of short ones there would be too many that are near.
            let near = nearest::within(word, names, |_| (word.len() / 3).min(2)).filter(|near| near.len() > 3);
            if config::find(&every_setting(), word).is_ok() {
                return format!("there is no command {word} here; did you mean config get {word}?");
            }
            format!("there is no command {word} here{}", nearest::question(near))
        }
        ErrorKind::UnknownArgument => {
            let every = commands(command);
            let options = every.iter().copied().chain([command]).flat_map(Command::get_arguments);
            let options: Vec<String> = options.filter_map(|option| Some(format!("--{}", option.get_long()?))).collect();
            match argument.starts_with('-') {
                true => {
                    let near = nearest(argument, options.iter().map(String::as_str));
                    format!("there is no option {argument} here{}", nearest::question(near))
                }
                false => format!("{argument} is one word too many"),
            }
        }
        ErrorKind::MissingRequiredArgument => {
            format!("{} is missing", list(ContextKind::InvalidArg).join(" and "))
        }
        _ => {
            let words = error.render().to_string();
            let paragraph: Vec<&str> = words.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            paragraph.join(" ").trim_start_matches("error: ").to_owned()
        }
    }
}

/// Every command, at whatever depth.
fn commands(command: &Command) -> Vec<&Command> {
    command.get_subcommands().flat_map(|below| [below].into_iter().chain(commands(below))).collect()
}

/// Puts behind `words` which of the `possible` values was meant most likely; where none is near, all of them.
fn meant(words: &str, word: &str, possible: &[String]) -> String {
    match nearest(word, possible.iter().map(String::as_str)) {
        None => format!("{words}, only {}", possible.join(", ")),
        near => words.to_owned() + &nearest::question(near),
    }
}

/// Why a value is not taken: our words, or such for what the language itself reads.
fn reason(error: &clap::Error) -> Option<String> {
    let source = error.source()?;
    let is_number = source.is::<std::num::ParseIntError>() || source.is::<std::num::ParseFloatError>();
    Some(if is_number { "it takes a whole number, as 60".to_owned() } else { source.to_string() })
}

/// A program that crashes writes its memory nowhere, for there are secrets in it; nor can another program of the same
/// user read it while it runs. Where the system refuses that, it is as it was.
fn leave_no_dump() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, hard);
    }
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Each chat takes some descriptors, of which a service may have more than it gets at first (systemd.exec(5),
/// `LimitNOFILE`). Where the system refuses that, it is as it was.
fn raise_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Logs to standard error where `RUST_LOG` asks for it; a value that says nothing is told of. What the crates beneath
/// say of a healthy call looks like trouble, so they are only heard when they are named.
pub fn start_log() {
    let wish = std::env::var_os("RUST_LOG").unwrap_or_default();
    let levels = LogLevels::parse(&wish.to_string_lossy()).unwrap_or_else(|reason| {
        say(format!("* {reason}; nothing is logged"));
        LogLevels::default()
    });
    levels.logger(log::LevelFilter::Off, &["rtc", "webrtc", "mio", "rustls", "tungstenite"]).init();
}

/// What the names of our variables begin with.
const OURS: &str = "LOWKEY_";
