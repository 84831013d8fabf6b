//! What a person sits at, if one does.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::cursor;
use super::teletype::Teletype;
use super::terminal::{self, Terminal};
use crate::stderr;

/// What a person sits at.
#[derive(Clone)]
pub enum Console {
    /// At a terminal on which a prompt can be painted anew.
    Terminal(Terminal),
    /// At one that can only write on.
    Teletype(Teletype),
    /// Nobody does: it is a script.
    None,
}

impl Console {
    /// The console for a program that is to be interactive or not.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn open(is_interactive: bool) -> io::Result<Self> {
        let is_same = is_same_terminal(io::stderr(), io::stdout());
        let console = match is_interactive {
            true if cursor::is_movable() => Self::Terminal(terminal::open()?),
            true => Self::Teletype(Teletype::default()),
            false => Self::None,
        };
        if is_interactive && is_same {
            let screen = console.clone();
            stderr::show_on(Some(Arc::new(move |lines| screen.show(lines))));
        }
        Ok(console)
    }

    /// Shows lines that would go to standard error, and returns whether it has.
    fn show(&self, lines: &str) -> bool {
        match self {
            Self::Terminal(terminal) => terminal.show(lines),
            Self::Teletype(teletype) => teletype.show(lines),
            Self::None => return false,
        }
        true
    }

    /// Whether a person sits at it.
    pub fn is_interactive(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Shows a word of the program's own.
    pub fn note(&self, words: &str) {
        match self {
            Self::Terminal(terminal) => terminal.note(words),
            Self::Teletype(teletype) => teletype.note(words),
            Self::None => {}
        }
    }

    /// Throws away what was typed since the terminal was given back, so that no shell runs it.
    pub fn throw_away(&self) {
        match self {
            Self::Terminal(terminal) => terminal.throw_away(),
            Self::Teletype(_) | Self::None => {}
        }
    }

    /// Whether what the terminal itself shows of a key, such as `^C`, stays in a row that nobody ends.
    pub fn is_row_open(&self) -> bool {
        match self {
            Self::Terminal(terminal) => terminal.is_given_back(),
            Self::Teletype(teletype) => !teletype.is_standing(),
            Self::None => true,
        }
    }

    /// Gives the terminal back as it was, with nothing left in the last row.
    pub fn give_back(&self) {
        match self {
            Self::Terminal(terminal) => terminal.give_back(),
            Self::Teletype(teletype) => teletype.leave(),
            Self::None => return,
        }
        stderr::show_on(None);
    }
}

/// Whether what is written to both comes to stand on one terminal.
fn is_same_terminal(first: impl AsFd, second: impl AsFd) -> bool {
    let device = |stream: &dyn AsFd| {
        let descriptor = stream.as_fd().try_clone_to_owned().ok()?;
        std::fs::File::from(descriptor).metadata().ok().map(|metadata| metadata.rdev())
    };
    first.as_fd().is_terminal() && device(&first) == device(&second)
}
