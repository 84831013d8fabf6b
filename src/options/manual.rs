//! What is made of the definitions of the options: completions for shells and manual pages; and the commands that print
//! these, and the settings. Pure.

use clap::{ArgMatches, Command, FromArgMatches, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The commands that tell about the program, and end it.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum About {
    /// Print every setting with its value, where that comes from, and where they are kept
    #[command(disable_help_subcommand = true)]
    Config {
        /// What to do with one of them
        #[command(subcommand)]
        task: Option<ConfigTask>,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual page, in roff
    Man,
}

/// What `config` does with one setting.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ConfigTask {
    /// Print the value of a setting alone; several stand on a line each, and without one the exit code is 1. Of several
    /// settings each has a line of its own
    Get {
        /// The setting, by the name that config prints
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Keep a setting in the profile's config.toml; without a value, remove it from there
    Set {
        /// The setting, by the name that config prints
        #[arg(value_name = "KEY")]
        key: String,
        /// Its value, or several where it takes several
        #[arg(value_name = "VALUE")]
        values: Vec<String>,
    },
    /// Remove a setting from the profile's config.toml
    Unset {
        /// The setting, by the name that config prints
        #[arg(value_name = "KEY")]
        key: String,
    },
}

impl About {
    /// The command that was given, if it is one of these.
    pub fn from(matches: &ArgMatches) -> Option<Self> {
        Self::from_arg_matches(matches).ok()
    }
}

/// The completions of a program for a shell.
pub fn completions(command: &Command, shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command.clone(), command.get_name(), &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of a program, in roff.
pub fn man(command: &Command) -> String {
    let mut command = command.clone();
    command.build();
    let mut own = Roff::new();
    own.control("SH", ["COMMANDS"]);
    for (usage, about) in usages(&command) {
        own.control("TP", []).text([bold(usage)]).text([roman(about)]);
    }
    own.control("SH", ["FILES"]);
    for (file, holds) in FILES {
        own.control("TP", []).text([bold(*file)]).text([roman(*holds)]);
    }
    own.control("SH", ["SEE ALSO"]);
    let others = SEE_ALSO.iter().filter(|page| page.split('(').next() != Some(command.get_name()));
    own.text([roman(others.copied().collect::<Vec<_>>().join(", "))]);
    let page = Man::new(command).manual("Lowkey");
    let mut text = Vec::new();
    let _ = page.render_title(&mut text);
    let _ = page.render_name_section(&mut text);
    let _ = page.render_synopsis_section(&mut text);
    let _ = page.render_description_section(&mut text);
    let _ = page.render_options_section(&mut text);
    let _ = own.to_writer(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// How each command is written, with those beneath it, and what it does.
fn usages(command: &Command) -> Vec<(String, String)> {
    let mut usages = Vec::new();
    for command in command.get_subcommands() {
        let name = command.get_name();
        let arguments: String = command.get_positionals().map(|argument| format!(" {argument}")).collect();
        usages.push((format!("{name}{arguments}"), command.get_about().map(ToString::to_string).unwrap_or_default()));
        usages.extend(self::usages(command).into_iter().map(|(usage, about)| (format!("{name} {usage}"), about)));
    }
    usages
}

const FILES: &[(&str, &str)] = &[
    ("~/.config/lowkey/", "What is kept, readable by its user alone; $XDG_CONFIG_HOME/lowkey/ where that is set."),
    ("~/.config/lowkey/profiles/NAME/", "The same of another profile."),
    (
        "config.toml",
        "Settings: a key for each option with an environment variable, named like the option with _ for -. A flag goes \
         before the environment, and that before this file.",
    ),
    ("token", "The secret that names are held with at a server."),
    ("identity-NAME", "The long-term key of a name. Keep a copy."),
    ("known_peers", "Who was seen before, a line each."),
    ("blocked", "Who may not call."),
    ("aliases", "What you call others."),
    ("history", "What was typed, for the next start."),
    ("log", "The texts that were sent and received, a JSON object a line, where that was asked for."),
];

const SEE_ALSO: &[&str] = &["lowkey(1)", "lowkey-bot(1)", "lowkey-server(8)"];
