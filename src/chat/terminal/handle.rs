//! The terminal as all threads share it: lines above the prompt, what the prompt shows, and the way back to how it was.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{self, FlushArg, SetArg, Termios};
use nix::unistd::{self, Pid};

use crate::chat::clock::clock_time;
use crate::chat::painter::{Painter, Size};
use crate::chat::report::{Prompt, Report};
use crate::chat::screen::{self, Line, Look};
use crate::lock::lock;

/// Lines above the prompt, and what the prompt shows. All clones are of one terminal.
#[derive(Clone)]
pub struct Terminal(pub(super) Arc<TerminalState>);

pub(super) struct TerminalState {
    pub(super) tty: OwnedFd,
    /// As the terminal was at the start, and as we read it.
    pub(super) modes: Mutex<(Termios, Termios)>,
    pub(super) shown: Mutex<Shown>,
    pub(super) is_over: AtomicBool,
    pub(super) is_interrupted: AtomicBool,
}

/// What stands on the screen, and what the Tab key knows.
pub(super) struct Shown {
    pub(super) out: File,
    pub(super) painter: Painter,
    pub(super) prompt: Prompt,
    pub(super) names: Vec<String>,
    pub(super) look: Look,
    /// When the line was last changed, and when it is to be painted where that had to wait.
    pub(super) edited_at: Option<Instant>,
    pub(super) paint_at: Option<Instant>,
    /// The day of the last line.
    pub(super) day: Option<jiff::civil::Date>,
    /// Wakes the thread of the keyboard.
    pub(super) wake: UnixStream,
}

impl Terminal {
    /// Shows a line above the prompt.
    ///
    /// # Errors
    /// The terminal is gone, and nobody has seen it.
    pub fn print(&self, line: &Line) -> io::Result<()> {
        let mut shown = self.shown();
        let rows = shown.rows(line);
        shown.paint(|painter| painter.print(&rows))
    }

    /// Shows rows as they are, each ended by a line feed.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn print_rows(&self, rows: &str) -> io::Result<()> {
        self.shown().paint(|painter| painter.print(rows))
    }

    /// How wide and how high the window is.
    pub fn window(&self) -> (usize, usize) {
        let Size { columns, rows } = size(&self.shown().out);
        (columns, rows)
    }

    /// Shows a word of the program's own above the prompt.
    pub fn note(&self, words: &str) {
        let look = self.shown().look;
        if let Some(line) = screen::line(&Report::Notice(words.to_owned()), look, &clock_time()) {
            let _ = self.print(&line);
        }
    }

    /// Shows lines above the prompt that would go to standard error.
    pub fn show(&self, lines: &str) {
        match lines.strip_prefix("* ") {
            Some(words) => self.note(words),
            None => drop(self.print(&Line { is_message: false, text: lines.to_owned() })),
        }
    }

    /// Shows what has changed in the prompt.
    pub fn update(&self, prompt: Prompt, names: Vec<String>) {
        let mut shown = self.shown();
        shown.names = names;
        let words = screen::prompt(&prompt, shown.look);
        shown.prompt = prompt;
        shown.change(|painter| painter.set_prompt(words));
    }

    /// Asks something at the prompt.
    pub fn set_question(&self, question: &str) {
        self.shown().change(|painter| painter.set_prompt(question.to_owned()));
    }

    /// Rings the bell.
    pub fn ring(&self) {
        self.shown().change(|_| "\x07".to_owned());
    }

    /// Changes how things look from now on.
    pub fn set_look(&self, look: Look) {
        let mut shown = self.shown();
        shown.look = look;
        let words = screen::prompt(&shown.prompt, look);
        shown.change(|painter| painter.set_prompt(words));
    }

    /// The names that the Tab key knows.
    pub fn names(&self) -> Vec<String> {
        self.shown().names.clone()
    }

    /// Shows the line that is being edited, with the cursor before the byte `at`, and in place of the prompt what the
    /// editor shows there.
    ///
    /// Keys that come faster than anybody types, as a paste does where the terminal puts no marks around it, are
    /// painted once in a while: with each of them a line is longer, and is painted as a whole.
    pub fn edit(&self, search: Option<String>, line: &str, at: usize) {
        let (mut shown, now) = (self.shown(), Instant::now());
        let before = shown.edited_at.replace(now);
        if before.is_none_or(|before| now.duration_since(before) >= TYPED) && shown.paint_at.is_none() {
            return shown.change(|painter| painter.edit(search, line, at));
        }
        shown.painter.take(search, line, at);
        if shown.paint_at.is_none() {
            shown.paint_at = Some(now + PAINTED);
            shown.wake();
        }
    }

    /// Paints the line where that had to wait.
    pub(super) fn paint_when_due(&self, now: Instant) {
        let mut shown = self.shown();
        if shown.paint_at.take_if(|at| *at <= now).is_some() {
            shown.change(Painter::repaint);
        }
    }

    /// Interrupts all of the job, as Ctrl-C does in a terminal that does not hand it on as a key. A second time ends
    /// the program at once, and then nobody is left to give the terminal back.
    pub fn interrupt(&self) {
        if self.0.is_interrupted.swap(true, Ordering::SeqCst) {
            self.give_back_at_once();
        }
        let _ = kill(Pid::from_raw(0), Signal::SIGINT);
    }

    /// Throws away what was typed after the terminal was given back.
    pub fn throw_away(&self) {
        if self.is_in_front() {
            let _ = termios::tcflush(&self.0.tty, FlushArg::TCIFLUSH);
        }
    }

    /// The line that was edited is entered; a question has its answer.
    pub fn enter(&self, line: &str, question: Option<&str>) {
        let mut shown = self.shown();
        let line = match question {
            Some(question) => Line { is_message: false, text: format!("{question}{}", screen::harmless(line)) },
            None => screen::entered(&shown.prompt, line, shown.look, &clock_time()),
        };
        let rows = shown.rows(&line);
        shown.change(|painter| painter.enter(&rows));
    }

    /// The line that was edited is given up.
    pub fn leave(&self) {
        let mut shown = self.shown();
        let is_behind = shown.paint_at.take().is_some();
        shown.change(|painter| if is_behind { painter.repaint() + &painter.leave() } else { painter.leave() });
    }

    /// Gives the terminal back as it was, once. What is typed or pasted while the program ends was meant for it and not
    /// for the shell, which would run it: it is thrown away.
    pub fn give_back(&self) {
        if self.0.is_over.swap(true, Ordering::SeqCst) {
            return;
        }
        {
            let mut shown = self.shown();
            shown.change(|painter| painter.leave() + &painter.go_away() + PASTE_OFF);
            shown.wake();
        }
        if !self.is_in_front() {
            return;
        }
        let deadline = Instant::now() + LONGEST_PASTE;
        while has_input(&self.0.tty, QUIET) && Instant::now() < deadline {
            let _ = termios::tcflush(&self.0.tty, FlushArg::TCIFLUSH);
        }
        let modes = lock(&self.0.modes);
        let _ = termios::tcsetattr(&self.0.tty, SetArg::TCSANOW, &modes.0);
    }

    /// Gives the terminal back without waiting for whoever works with it.
    fn give_back_at_once(&self) {
        if let Ok(modes) = self.0.modes.try_lock() {
            let _ = termios::tcsetattr(&self.0.tty, SetArg::TCSANOW, &modes.0);
            let _ = self.0.shown.try_lock().map(|mut shown| shown.out.write_all(PASTE_OFF.as_bytes()));
        }
    }

    /// Whether the terminal is as it was before, or will be in a moment.
    pub fn is_given_back(&self) -> bool {
        self.0.is_over.load(Ordering::SeqCst)
    }

    /// A thread of the terminal that panics may do so in the middle of a line. The threads of the peer have names: what
    /// becomes of theirs is told as an event, and the terminal goes on.
    pub(super) fn give_back_on_panic(&self) {
        let (terminal, report) = (self.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |info| {
            if !matches!(thread::current().name(), None | Some("main")) {
                return log::error!("{info}");
            }
            if !terminal.is_given_back() {
                terminal.give_back_at_once();
            }
            report(info);
        }));
    }

    /// Takes the terminal in raw mode.
    pub(super) fn take(&self) {
        let modes = lock(&self.0.modes);
        let _ = termios::tcsetattr(&self.0.tty, SetArg::TCSANOW, &modes.1);
        drop(modes);
        self.shown().change(|_| PASTE_ON.to_owned());
    }

    /// Whether no other job has the terminal. One that is no session's has none.
    pub(super) fn is_in_front(&self) -> bool {
        unistd::tcgetpgrp(&self.0.tty).map_or(true, |group| group == unistd::getpgrp())
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        lock(&self.0.shown)
    }
}

impl Shown {
    /// A line in rows of the window, below the date where that has changed.
    fn rows(&mut self, line: &Line) -> String {
        let today = jiff::Zoned::now().date();
        let before = self.day.replace(today);
        let date = before.filter(|before| *before != today).map(|_| screen::date(&today.strftime(DATE).to_string()));
        let columns = size(&self.out).columns;
        let lines = [date.as_ref(), Some(line)].into_iter().flatten();
        lines.map(|line| screen::rows(line, self.look, columns)).collect()
    }

    /// A terminal that is gone says so to whoever reads from it, and to whoever has a text to show.
    pub(super) fn change(&mut self, paint: impl FnOnce(&mut Painter) -> String) {
        let _ = self.paint(paint);
    }

    fn paint(&mut self, paint: impl FnOnce(&mut Painter) -> String) -> io::Result<()> {
        // Where the window has another size by now, the thread of the keyboard finds out where the prompt stands.
        if size(&self.out) != self.painter.size() && self.painter.start_resizing() {
            self.wake();
        }
        let mut bytes = paint(&mut self.painter);
        if self.painter.waiting() > MAX_WAITING {
            bytes += &self.painter.resize(size(&self.out), None);
        }
        write_all(&mut self.out, bytes.as_bytes())
    }

    fn wake(&self) {
        let _ = (&self.wake).write(&[0]);
    }
}

/// Writes all of it, also where some other program on this terminal has had it so that nobody waits for it.
fn write_all(out: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The window's size; where the terminal does not know it, the usual one.
pub(super) fn size(terminal: &impl AsFd) -> Size {
    let size = terminal_size::terminal_size_of(terminal);
    size.map_or(Size { columns: 80, rows: 24 }, |(columns, rows)| Size {
        columns: columns.0.into(),
        rows: rows.0.into(),
    })
}

/// Whether something can be read within this time.
pub(super) fn has_input(tty: &impl AsFd, time: Duration) -> bool {
    let mut fds = [PollFd::new(tty.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO));
    // A terminal that is gone has nothing to read.
    fds[0].revents() == Some(PollFlags::POLLIN)
}

/// The terminal puts marks around what is pasted (xterm, bracketed paste mode), or does so no more.
const PASTE_ON: &str = "\x1b[?2004h";
pub(super) const PASTE_OFF: &str = "\x1b[?2004l";

/// Bytes of lines that wait for a window to be wide enough. Beyond that, they are shown wherever they come to stand.
const MAX_WAITING: usize = 1024 * 1024;

/// A paste is over at the end when nothing comes for so long, and at the latest after [`LONGEST_PASTE`].
const QUIET: Duration = Duration::from_millis(50);
const LONGEST_PASTE: Duration = Duration::from_secs(2);

/// Keys that come so soon after one another nobody types; such a line is painted so long after.
const TYPED: Duration = Duration::from_millis(10);
const PAINTED: Duration = Duration::from_millis(30);

/// How a day is said.
const DATE: &str = "%A, %-d %B %Y";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_that_is_gone_does_not_show_is_told() {
        let pair = nix::pty::openpty(None, None).unwrap();
        let (wake, _) = UnixStream::pair().unwrap();
        let mut shown = Shown {
            painter: Painter::new(Size { columns: 80, rows: 24 }, None),
            out: File::from(pair.slave),
            prompt: Prompt::default(),
            names: Vec::new(),
            look: Look::default(),
            edited_at: None,
            paint_at: None,
            day: None,
            wake,
        };
        assert!(shown.paint(|painter| painter.print("bob: seen\n")).is_ok());
        drop(pair.master);
        assert!(shown.paint(|painter| painter.print("bob: unseen\n")).is_err());
    }
}
