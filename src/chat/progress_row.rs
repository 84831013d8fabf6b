//! A row at the bottom of a terminal that tells how far a file is, where there is no prompt to tell it: below all
//! lines, written over again and again, and gone before the next line. Where standard error is no terminal it is never
//! there.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use super::cursor;
use super::report::{FileReport, FileState};
use super::screen::harmless;
use super::words::files::{progress, shown};
use super::wrap;

/// The row.
#[derive(Debug)]
pub struct ProgressRow {
    is_wanted: bool,
    is_shown: Cell<bool>,
}

impl ProgressRow {
    /// None is shown yet.
    pub fn new() -> Self {
        Self { is_wanted: io::stderr().is_terminal() && cursor::is_movable(), is_shown: Cell::new(false) }
    }

    /// Shows how far a file is; or nothing, where none is on its way.
    pub fn update(&self, file: impl FnOnce() -> Option<(FileReport, FileState)>) {
        match self.is_wanted.then(file).flatten() {
            Some((file, state)) => {
                let columns = terminal_size::terminal_size_of(io::stderr()).map_or(80, |(columns, _)| columns.0.into());
                let _ = write!(io::stderr(), "\r{}\x1b[K", row(&file, &state, columns));
                self.is_shown.set(true);
            }
            None => self.clear(),
        }
    }

    /// Takes it away, since a line is to be written.
    pub fn clear(&self) {
        if self.is_shown.replace(false) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// The row in so many columns, with room for the cursor. A name gives way to numbers.
fn row(file: &FileReport, state: &FileState, columns: usize) -> String {
    let arrow = if file.is_ours { "↑" } else { "↓" };
    let numbers = progress(file, state);
    let numbers = harmless(&numbers);
    let room = columns.saturating_sub(wrap::width(&numbers) + 6);
    let bar = match (state, file.size) {
        (FileState::Running { done, .. } | FileState::Paused { done, .. }, Some(size)) if room > BAR + 12 => {
            let filled = usize::try_from(u128::from(*done) * BAR as u128 / u128::from(size.max(1))).unwrap_or(BAR);
            format!("[{}{}] ", "#".repeat(filled.min(BAR)), " ".repeat(BAR.saturating_sub(filled)))
        }
        _ => String::new(),
    };
    let mut name = String::new();
    let room = room.saturating_sub(bar.len());
    for c in shown(&file.name).chars() {
        name.push(c);
        if wrap::width(&name) > room {
            name.pop();
            break;
        }
    }
    format!("{arrow} {name} {bar}{numbers}")
}

/// Columns of the bar.
const BAR: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::FileId;

    #[test]
    fn the_row_fits_its_window_and_a_name_gives_way_to_numbers() {
        let (peer, file, size) = ("bob".to_owned(), FileId([1; 16]), Some(2_000_000));
        let name = "a very long name of a file 世界".repeat(10);
        let report = FileReport { peer, file, number: 1, is_ours: true, name, size, entries: None, id: None };
        let state = FileState::Running { done: 1_000_000, rate: Some(1_500_000), time_left: None };
        for columns in [40, 60, 80, 200] {
            let row = row(&report, &state, columns);
            assert!(wrap::width(&row) < columns, "{row}");
            assert!(row.ends_with("50 % of 2.0 MB, 1.5 MB/s"), "{row}");
            assert_eq!(row.contains("[##########          ]"), columns > 60, "{row}");
        }
    }
}
