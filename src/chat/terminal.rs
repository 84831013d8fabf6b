//! The prompt on a terminal: what is typed goes by way of the [`Keyboard`](super::keyboard) to rustyline, which edits
//! the line, and what it shows comes by way of its highlighter to the [`Painter`](super::painter), which makes the
//! bytes that are written to the terminal.
//!
//! rustyline reads standard input and writes to standard output, whatever these are, and it has no other way to be
//! given a terminal. So the terminal is put aside, and it gets a pseudo-terminal of ours to read from, in raw mode for
//! good, and nothing to write to. Why not the terminal itself: it ends on a byte that is not UTF-8, it reads a paste in
//! a loop of its own until the end mark comes, it erases lines of others where the terminal has broken rows anew, and
//! it prints lines of others only when it waits for a plain key. With its reading, its painting and its signals out of
//! the way, none of these can happen, and the prompt can change while a line is edited. What is left to it is what it
//! does well: keys, editing, undoing, the history and the search in it.

mod handle;
mod watch;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use nix::pty::openpty;
use nix::sys::termios::{self, ControlFlags, InputFlags, LocalFlags, SpecialCharacterIndices, Termios};
use nix::unistd;
use signal_hook::consts::{SIGCONT, SIGTSTP, SIGWINCH};
use signal_hook::low_level;

use super::keyboard::Keyboard;
use super::painter::Painter;
use super::report::Prompt;
use super::screen::Look;
use crate::threads;
pub use handle::Terminal;
use handle::{Shown, TerminalState, size};
use watch::{TerminalWatch, can_stop};

/// Takes the terminal on standard input and output. From then on standard output leads nowhere, and on standard input
/// comes what is typed, once it has passed the keyboard's thread.
///
/// # Errors
/// The terminal cannot be used.
pub fn open() -> io::Result<Terminal> {
    let tty = io::stdin().as_fd().try_clone_to_owned()?;
    let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let before = termios::tcgetattr(&tty)?;
    let raw = raw(&before);
    let keyboard = openpty(None, &raw)?;
    unistd::dup2_stdin(&keyboard.slave)?;
    unistd::dup2_stdout(OpenOptions::new().write(true).open("/dev/null")?)?;
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    let (stop, stopped) = UnixStream::pair()?;
    for signal in [SIGWINCH, SIGCONT] {
        low_level::pipe::register(signal, wake.try_clone()?)?;
    }
    // Where nobody could wake us again, the signal is nothing, as it is by default.
    if can_stop() {
        low_level::pipe::register(SIGTSTP, stop.try_clone()?)?;
    }
    let shown = Shown {
        painter: Painter::new(size(&out), breaks_rows_anew().then_some(true)),
        out,
        prompt: Prompt::default(),
        names: Vec::new(),
        look: Look::default(),
        edited_at: None,
        paint_at: None,
        day: None,
        wake: wake.try_clone()?,
    };
    let control = |index: SpecialCharacterIndices| before.control_chars[index as usize];
    let keys = Keyboard::new(control(SpecialCharacterIndices::VINTR), control(SpecialCharacterIndices::VSUSP));
    let shared = TerminalState {
        tty,
        modes: Mutex::new((before, raw)),
        shown: Mutex::new(shown),
        is_over: AtomicBool::new(false),
        is_interrupted: AtomicBool::new(false),
    };
    let terminal = Terminal(Arc::new(shared));
    terminal.take();
    terminal.give_back_on_panic();
    let watch = TerminalWatch {
        terminal: terminal.clone(),
        keys,
        // Not the descriptor itself, which programs that we start would inherit.
        editor: File::from(keyboard.master.try_clone()?),
        held: Vec::new(),
        ended_at: None,
        woken,
        stopped,
        _stop: stop,
        is_away: false,
        resize_at: None,
        is_asking: false,
    };
    if let Err(error) = threads::spawn("terminal", move || watch.run()) {
        terminal.give_back();
        return Err(error);
    }
    Ok(terminal)
}

/// The modes of a terminal that hands on every byte as it comes. What is written still begins in the first column after
/// a line feed.
fn raw(modes: &Termios) -> Termios {
    let mut raw = modes.clone();
    raw.input_flags &= !(InputFlags::BRKINT
        | InputFlags::ICRNL
        | InputFlags::INLCR
        | InputFlags::IGNCR
        | InputFlags::INPCK
        | InputFlags::ISTRIP
        | InputFlags::IXON);
    raw.control_flags |= ControlFlags::CS8;
    raw.local_flags &= !(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::IEXTEN | LocalFlags::ISIG);
    raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    raw
}

/// Whether this is a terminal that is known to break rows anew when it becomes narrower.
fn breaks_rows_anew() -> bool {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (term, program) = (variable("TERM"), variable("TERM_PROGRAM"));
    let terms = ["tmux", "xterm-kitty", "alacritty", "foot", "wezterm", "xterm-ghostty", "vte"];
    let programs = ["tmux", "iTerm.app", "Apple_Terminal", "WezTerm", "ghostty", "vscode"];
    terms.iter().any(|known| term.starts_with(known))
        || programs.contains(&program.as_str())
        || ["VTE_VERSION", "KONSOLE_VERSION", "WT_SESSION"].iter().any(|name| !variable(name).is_empty())
}
