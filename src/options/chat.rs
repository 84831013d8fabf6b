//! The options of the terminal chat alone: what it shows, and what it keeps.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

/// The options of the terminal chat.
#[derive(Debug, Clone, Args)]
pub struct ChatOptions {
    /// Talk to old apps without asking, though they cannot prove who they are and others may read along; send and
    /// listen take none without it
    #[arg(long, env = "LOWKEY_OLD_APPS")]
    pub old_apps: bool,
    /// Be called by people whom you know alone, who have proven to be them: nobody else rings, or learns why
    #[arg(long, env = "LOWKEY_ONLY_KNOWN")]
    pub only_known: bool,
    /// A command for the shell to run when somebody writes, calls or offers a file; it reads what has happened from its
    /// standard input, as JSON
    #[arg(long, env = "LOWKEY_NOTIFY", value_name = "COMMAND")]
    pub notify: Option<String>,
    /// Give the texts themselves, and the names of files, to that command too
    #[arg(long, env = "LOWKEY_NOTIFY_TEXT")]
    pub notify_text: bool,
    /// Ring the terminal's bell when somebody writes, calls or offers a file
    #[arg(long, env = "LOWKEY_BELL", default_value = "true")]
    pub bell: bool,
    /// Whether names and notices have colours
    #[arg(
        long,
        env = "LOWKEY_COLOR",
        value_name = "WHEN",
        value_enum,
        default_value_t = ColorOption::Auto
    )]
    pub color: ColorOption,
    /// Show when each text came
    #[arg(long, env = "LOWKEY_TIMES", default_value = "true")]
    pub times: bool,
    /// Keep a log of all texts that are sent and received, a JSON object a line, in the file log of the profile; /log
    /// shows its last ones
    #[arg(long, env = "LOWKEY_LOG")]
    pub log: bool,
    /// Which of the lines that you type are kept for the next start
    #[arg(
        long,
        env = "LOWKEY_HISTORY",
        value_name = "WHICH",
        value_enum,
        default_value_t = HistoryOption::Commands
    )]
    pub history: HistoryOption,
    /// The folder for files that others send you; without it, the one for downloads that user-dirs.dirs names, or
    /// Downloads in your home
    #[arg(long, env = "LOWKEY_DOWNLOADS", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub downloads: Option<PathBuf>,
}

/// When to write in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorOption {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Which of the lines that were typed are kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HistoryOption {
    /// Those that are commands
    Commands,
    /// All, texts too
    All,
    /// None
    None,
}
