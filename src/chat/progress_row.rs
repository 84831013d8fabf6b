//! A row at the bottom of a terminal that tells how far a file is, where there is no prompt to tell it: below all
//! lines, written over again and again, and gone before the next line. Where standard error is no terminal it is never
//! there.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};

use super::cursor;
use super::report::{FileReport, FileState};
use super::screen::harmless;
use super::words::files::{progress, shown};
use super::wrap;
use crate::lock::lock;
use crate::stderr;

/// The row with a file's progress.
#[derive(Debug)]
pub struct ProgressRow {
    is_wanted: bool,
    /// Whether the row is shown now. Who has locked this may write to the terminal.
    is_shown: Arc<Mutex<bool>>,
}

impl ProgressRow {
    /// A row that is not shown yet. What is said and logged takes it away, as any line does.
    pub fn new() -> Self {
        let is_wanted = io::stderr().is_terminal() && cursor::is_movable();
        let is_shown = Arc::<Mutex<bool>>::default();
        if is_wanted {
            let is_shown = is_shown.clone();
            stderr::show_on(Some(Arc::new(move |lines| {
                let mut is_shown = lock(&is_shown);
                clear(&mut is_shown);
                let _ = writeln!(io::stderr(), "{lines}");
                true
            })));
        }
        Self { is_wanted, is_shown }
    }

    /// Shows how far a file is; or nothing, where none is on its way.
    pub fn update(&self, file: impl FnOnce() -> Option<(FileReport, FileState)>) {
        let file = self.is_wanted.then(file).flatten();
        let mut is_shown = lock(&self.is_shown);
        match file {
            Some((file, state)) => {
                let columns = terminal_size::terminal_size_of(io::stderr()).map_or(80, |(columns, _)| columns.0.into());
                let _ = write!(io::stderr(), "\r{}\x1b[K", row(&file, &state, columns));
                *is_shown = true;
            }
            None => clear(&mut is_shown),
        }
    }

    /// Takes the row away, so that a line can be written.
    pub fn clear(&self) {
        clear(&mut lock(&self.is_shown));
    }
}

fn clear(is_shown: &mut bool) {
    if std::mem::take(is_shown) {
        let _ = write!(io::stderr(), "\r\x1b[K");
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
