//! What a person sits at, if one does.

use std::io;

use super::cursor;
use super::teletype::Teletype;
use super::terminal::{self, Terminal};

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
    /// What there is, for a program that is to be interactive or not.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn open(is_interactive: bool) -> io::Result<Self> {
        Ok(match is_interactive {
            true if cursor::is_movable() => Self::Terminal(terminal::open()?),
            true => Self::Teletype(Teletype::default()),
            false => Self::None,
        })
    }

    /// Whether there is a person.
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

    /// Gives the terminal back as it was, with nothing left in the last row.
    pub fn give_back(&self) {
        match self {
            Self::Terminal(terminal) => terminal.give_back(),
            Self::Teletype(teletype) => teletype.leave(),
            Self::None => {}
        }
    }
}
