//! All settings together, whichever program takes them, and what they have in common. Pure.

use clap::{Arg, ArgAction, Command, CommandFactory, Parser};

use super::chat::ChatOptions;
use super::peer::PeerOptions;
use super::switch::{ON_OR_OFF, is_on};

/// Every setting that any of the programs takes, as a command of its own.
pub fn every_setting() -> Command {
    #[derive(Parser)]
    struct Every {
        #[command(flatten)]
        _peer: PeerOptions,
        #[command(flatten)]
        _chat: ChatOptions,
    }
    let mut every = uniform(Every::command());
    every.build();
    every
}

/// The settings among the options: those that can be given in the environment too.
pub fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|option| option.get_env().is_some())
}

/// Makes settings alike: they can stand before and after a subcommand, and what is on or off can be said either way.
pub fn uniform(command: Command) -> Command {
    command.mut_args(|option| match option.get_env().is_some() {
        true if is_switch(&option) => switch(option).global(true),
        true => option.global(true),
        false => option,
    })
}

/// Whether a setting is either on or off.
pub fn is_switch(option: &Arg) -> bool {
    option.get_value_parser().type_id() == std::any::TypeId::of::<bool>()
}

fn switch(option: Arg) -> Arg {
    let default = option.get_default_values().first().cloned().unwrap_or_else(|| "false".into());
    option
        .action(ArgAction::Set)
        .value_parser(|text: &str| is_on(text).ok_or(ON_OR_OFF))
        .value_name("BOOL")
        .hide_possible_values(true)
        .num_args(0..=1)
        .require_equals(true)
        .default_value(default)
        .default_missing_value("true")
}
