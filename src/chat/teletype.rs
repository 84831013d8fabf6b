//! The prompt on a terminal that can only write on, as `TERM=dumb` says: lines are typed with the terminal's own means,
//! what comes in between is written below, and the prompt again below that.

use std::io::{self, BufRead};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use super::clock::clock_time;
use super::report::{Prompt, Report};
use super::screen::{self, Line, Look};
use crate::lock::lock;
use crate::stdout;

/// Lines and a prompt below them. All clones are of one terminal.
#[derive(Clone, Default)]
pub struct Teletype(Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    prompt: Option<String>,
    /// The prompt or a question was written, and nothing behind it.
    is_standing: bool,
}

impl Teletype {
    /// Writes a line.
    ///
    /// # Errors
    /// The terminal is gone, and nobody has seen it.
    pub fn print(&self, line: &Line, look: Look) -> io::Result<()> {
        let columns = terminal_size::terminal_size_of(io::stdout()).map_or(80, |(columns, _)| columns.0.into());
        let mut shown = self.shown();
        shown.begin_row();
        write(&screen::rows(line, look, columns))
    }

    /// Writes a word of the program's own.
    pub fn note(&self, words: &str) {
        if let Some(line) = screen::line(&Report::Notice(words.to_owned()), Look::default(), &clock_time()) {
            let _ = self.print(&line, Look::default());
        }
    }

    /// Writes lines that would go to standard error, and the prompt again where it stood.
    pub fn show(&self, lines: &str) {
        let mut shown = self.shown();
        let is_standing = shown.is_standing;
        shown.begin_row();
        let _ = write(&format!("{lines}\n"));
        if is_standing && let Some(prompt) = &shown.prompt {
            let _ = write(prompt);
            shown.is_standing = true;
        }
    }

    /// Writes the prompt where it does not stand.
    pub fn update(&self, prompt: &Prompt) {
        // What changes by itself in the other prompt cannot change in this one.
        let words = screen::prompt(
            &Prompt { peer: prompt.peer.clone(), alias: prompt.alias.clone(), ..Prompt::default() },
            Look::default(),
        );
        let words = words.trim_start().to_owned();
        let mut shown = self.shown();
        if shown.is_standing && shown.prompt.as_ref() == Some(&words) {
            return;
        }
        shown.begin_row();
        let _ = write(&words);
        shown.prompt = Some(words);
        shown.is_standing = true;
    }

    /// Whether the last row is that of the prompt or of a question. Somebody who writes right now may do so for as long
    /// as the terminal is held up, and is not waited for.
    pub fn is_standing(&self) -> bool {
        match self.0.try_lock() {
            Ok(shown) => shown.is_standing,
            Err(TryLockError::Poisoned(shown)) => shown.into_inner().is_standing,
            Err(TryLockError::WouldBlock) => true,
        }
    }

    /// A line was entered at the prompt.
    pub fn enter(&self) {
        self.shown().is_standing = false;
    }

    /// Ends the row of the prompt, for who comes after us.
    pub fn leave(&self) {
        self.shown().begin_row();
    }

    /// Asks a question; nothing where there will be no answer.
    pub fn ask(&self, question: &str) -> Option<String> {
        let mut bytes = Vec::new();
        {
            let mut shown = self.shown();
            let _ = write(question);
            shown.prompt = Some(question.to_owned());
            shown.is_standing = true;
        }
        let count = io::stdin().lock().read_until(b'\n', &mut bytes).unwrap_or(0);
        // What ends a line ends its row.
        self.shown().is_standing = !bytes.ends_with(b"\n");
        (count > 0).then(|| String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        lock(&self.0)
    }
}

impl Shown {
    fn begin_row(&mut self) {
        if std::mem::take(&mut self.is_standing) {
            let _ = write("\n");
        }
    }
}

/// A terminal that is gone says so to whoever reads from it, too.
fn write(text: &str) -> io::Result<()> {
    stdout::write(text.as_bytes())
}
