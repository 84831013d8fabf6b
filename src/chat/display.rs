//! Where reports are shown: on a terminal above the prompt, or on standard output and standard error, in words or in
//! JSON.

use std::io::{self, Write};
use std::os::fd::AsFd;

use super::clock::{clock_time, timestamp};
use super::json;
use super::progress_row::ProgressRow;
use super::report::Report;
use super::screen::{self, Line, Look};
use super::teletype::Teletype;
use super::terminal::Terminal;
use crate::stdout;

/// Where reports are shown.
pub enum Display {
    /// Messages on standard output, everything else on standard error; with a row for a file that is on its way.
    Plain(ProgressRow),
    /// Everything on standard error, because a file goes to standard output.
    Aside(ProgressRow),
    /// Everything on standard output, as JSON.
    Json,
    /// Above the prompt.
    Terminal(Terminal),
    /// Above a prompt that cannot be painted anew.
    Teletype(Teletype),
}

impl Display {
    /// Shows a report, and returns once it is written.
    ///
    /// # Errors
    /// Standard output takes no more. Standard error may fail: who closed it does not want to know.
    pub fn show(&self, report: &Report, look: Look) -> io::Result<()> {
        match self {
            Self::Plain(row) | Self::Aside(row) => {
                let Some(line) = screen::line(report, Look::default(), "") else { return Ok(()) };
                row.clear();
                let is_output = matches!(self, Self::Plain(_)) && matches!(report, Report::Message { .. });
                match is_output {
                    true => print(&in_window(&line, io::stdout()))?,
                    false => drop(writeln!(io::stderr(), "{}", in_window(&line, io::stderr()))),
                }
            }
            Self::Json => print(&json::line(&json::object(report, &timestamp(), true)))?,
            Self::Terminal(terminal) => {
                if let Some(line) = screen::line(report, look, &clock_time()) {
                    terminal.print(&line)?;
                }
            }
            Self::Teletype(teletype) => {
                if let Some(line) = screen::line(report, look, &clock_time()) {
                    teletype.print(&line, look)?;
                }
            }
        }
        Ok(())
    }
}

/// A line as it is written to this stream: in rows where that is a terminal, which would else break it where it likes.
fn in_window(line: &Line, stream: impl AsFd) -> String {
    match terminal_size::terminal_size_of(stream) {
        Some((columns, _)) => screen::rows(line, Look::default(), columns.0.into()).trim_end_matches('\n').to_owned(),
        None => line.text.clone(),
    }
}

fn print(line: &str) -> io::Result<()> {
    stdout::write(format!("{line}\n").as_bytes())
}
