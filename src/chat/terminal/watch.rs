//! The thread that reads the keyboard of a terminal, stops and goes on with its job, and keeps an eye on the window.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{self, LocalFlags, SetArg};
use nix::unistd::{self, Pid};
use signal_hook::consts::SIGTSTP;
use signal_hook::low_level;

use super::handle::{PASTE_OFF, Terminal, has_input, size};
use crate::chat::keyboard::{Key, Keyboard};
use crate::chat::painter::Painter;
use crate::lock::lock;
use crate::signals;

/// What the keyboard's thread works with.
pub struct TerminalWatch {
    pub terminal: Terminal,
    pub keys: Keyboard,
    pub editor: File,
    /// What was typed behind a key that may end the editor's line, until it has read that key.
    pub held: Vec<u8>,
    /// When the editor got such a key, where that is the last that it has got.
    pub ended_at: Option<Instant>,
    pub woken: UnixStream,
    pub stopped: UnixStream,
    /// The other end of `stopped`, which stays open also where no signal writes to it.
    pub _stop: UnixStream,
    /// Another program has the terminal.
    pub is_away: bool,
    /// When the window is painted anew at the latest.
    pub resize_at: Option<Instant>,
    /// The terminal was asked where the prompt stands in the window as it is now.
    pub is_asking: bool,
}

impl TerminalWatch {
    /// Runs until the terminal is given back.
    pub fn run(mut self) {
        let mut bytes = [0; 4096];
        while !self.terminal.0.is_over.load(Ordering::SeqCst) {
            let (is_typed, is_woken, is_stopped) = self.wait();
            if is_stopped {
                let _ = (&self.stopped).read(&mut bytes);
                self.suspend();
            }
            if is_woken {
                let _ = (&self.woken).read(&mut bytes);
                self.come_and_go();
            }
            let now = Instant::now();
            let keys = if is_typed {
                match unistd::read(&self.terminal.0.tty, &mut bytes) {
                    Ok(count @ 1..) => self.keys.receive(&bytes[..count], now),
                    Err(nix::errno::Errno::EINTR) => Vec::new(),
                    // The terminal is gone, and with it the editor's input.
                    _ => return,
                }
            } else {
                self.keys.tick(now)
            };
            for key in keys {
                self.take(key);
            }
            self.hand_on();
            self.terminal.paint_when_due(now);
            self.resize_when_due(now);
            if self.is_away {
                self.come_and_go();
            }
        }
        // The end is the program's and not that of its input, which stays open for the editor.
        loop {
            thread::park();
        }
    }

    /// Waits for something to do: whether something was typed, the window has changed, the program is to stop.
    fn wait(&self) -> (bool, bool, bool) {
        let now = Instant::now();
        let away = self.is_away.then(|| now + AWAY_POLL);
        let held = (!self.held.is_empty()).then(|| now + HELD_POLL);
        let paint = self.terminal.shown().paint_at;
        let deadline = [self.keys.deadline(), self.resize_at, away, held, paint].into_iter().flatten().min();
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(now) + Duration::from_millis(1));
        let timeout = timeout.map_or(PollTimeout::NONE, |time| time.try_into().unwrap_or(PollTimeout::MAX));
        // Reading in the background would stop the program.
        let tty = if self.is_away { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut fds = [
            PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.terminal.0.tty.as_fd(), tty),
        ];
        let _ = poll(&mut fds, timeout);
        let has = |fd: &PollFd| fd.any().unwrap_or(false);
        (has(&fds[2]), has(&fds[0]), has(&fds[1]))
    }

    fn take(&mut self, key: Key) {
        match key {
            // The program is at something that does not end, and nobody edits a line.
            Key::Edit(bytes) if bytes.contains(&INTERRUPT) && self.is_unread(UNREAD) => self.terminal.interrupt(),
            Key::Edit(bytes) => self.held.extend(bytes),
            Key::Note(words) => self.terminal.note(&words),
            Key::Clear => self.terminal.shown().change(Painter::clear),
            // To all of the job, as the terminal itself would.
            Key::Suspend if can_stop() => {
                let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
            }
            Key::Suspend => {}
            Key::Column(column) if self.is_asking => self.resize(Some(column)),
            Key::Column(_) => {}
        }
    }

    /// Hands what was typed on to the editor, which may be busy: then it waits in the pseudo-terminal. With a line that
    /// does not end by Enter, rustyline throws away what it has read behind it. So it gets the keys that can end one so
    /// as the last, and what was typed behind them once it has read them.
    fn hand_on(&mut self) {
        while !self.held.is_empty() {
            if self.is_unread(Duration::ZERO) {
                return;
            }
            let end = self.held.iter().position(|byte| ENDS.contains(byte)).map_or(self.held.len(), |at| at + 1);
            let part: Vec<u8> = self.held.drain(..end).collect();
            self.ended_at = part.last().filter(|byte| ENDS.contains(byte)).map(|_| Instant::now());
            let _ = self.editor.write_all(&part);
        }
    }

    /// Whether the editor got a key that may end its line so long ago, and has not read it yet.
    fn is_unread(&self, time: Duration) -> bool {
        self.ended_at.is_some_and(|at| at.elapsed() >= time) && has_input(&io::stdin(), Duration::ZERO)
    }

    /// Stops the program until the shell wants it again.
    fn suspend(&mut self) {
        {
            let mut shown = self.terminal.shown();
            shown.change(|painter| painter.go_away() + PASTE_OFF);
            let modes = lock(&self.terminal.0.modes);
            let _ = termios::tcsetattr(&self.terminal.0.tty, SetArg::TCSANOW, &modes.0);
        }
        self.is_away = true;
        let _ = low_level::emulate_default_handler(SIGTSTP);
        self.come_and_go();
    }

    /// Takes the terminal where it is ours again, and leaves it to others where it is not. A window of another size is
    /// painted once it keeps its size for a moment.
    fn come_and_go(&mut self) {
        if self.terminal.0.is_over.load(Ordering::SeqCst) {
            return;
        }
        let is_in_front = self.terminal.is_in_front();
        // A stop that no program is told of leaves it to the shell what becomes of the modes.
        let is_taken =
            termios::tcgetattr(&self.terminal.0.tty).is_ok_and(|now| now.local_flags.contains(LocalFlags::ICANON));
        if (self.is_away || is_taken) && is_in_front {
            self.is_away = false;
            self.resize_at = None;
            self.terminal.take();
            let mut shown = self.terminal.shown();
            let size = size(&shown.out);
            shown.change(|painter| painter.come_back(size));
        } else if !self.is_away && !is_in_front {
            self.is_away = true;
            self.terminal.shown().change(Painter::go_away);
        } else if !self.is_away {
            let mut shown = self.terminal.shown();
            if size(&shown.out) != shown.painter.size() || shown.painter.is_resizing() {
                shown.painter.start_resizing();
                self.is_asking = false;
                self.resize_at = Some(Instant::now() + STEADY);
            }
        }
    }

    /// Paints for the new size of the window, or asks the terminal first where the prompt stands there.
    fn resize_when_due(&mut self, now: Instant) {
        if self.resize_at.is_none_or(|at| now < at) {
            return;
        }
        let mut shown = self.terminal.shown();
        let size = size(&shown.out);
        // On the way to another size, most likely, and nothing could be read in it.
        if size.columns < NARROWEST {
            self.resize_at = None;
        } else if !self.is_asking && shown.painter.asks_for_column(size) {
            self.resize_at = Some(now + ANSWER_TIME);
            self.is_asking = true;
            self.keys.ask_column();
            let _ = shown.out.write_all(ASK_COLUMN.as_bytes());
        } else {
            drop(shown);
            self.resize(None);
        }
    }

    fn resize(&mut self, column: Option<usize>) {
        self.is_asking = false;
        self.resize_at = None;
        let mut shown = self.terminal.shown();
        let size = size(&shown.out);
        let bytes = shown.painter.resize(size, column);
        let _ = shown.out.write_all(bytes.as_bytes());
    }
}

/// Whether there is a shell that would wake the program again: a job that its session began with has none (POSIX,
/// orphaned process groups).
pub fn can_stop() -> bool {
    unistd::getsid(None).is_ok_and(|session| session != unistd::getpgrp()) && !signals::wanted(&[SIGTSTP]).is_empty()
}

/// Asks the terminal where the cursor is (ECMA-48, DSR).
const ASK_COLUMN: &str = "\x1b[6n";

/// How long the terminal has to answer, over a slow line too. Until then lines wait; every terminal that people use
/// answers.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// A window that was drawn to another size keeps it for so long.
const STEADY: Duration = Duration::from_millis(100);

/// The keys by which rustyline ends a line without a result: Ctrl-C and Ctrl-D.
const ENDS: [u8; 2] = [INTERRUPT, 4];
const INTERRUPT: u8 = 3;

/// A Ctrl-C or Ctrl-D that was not read for so long is read by nobody: the editor comes back much sooner.
const UNREAD: Duration = Duration::from_secs(1);

/// How often is looked whether the editor has read a key that may end its line, while more is typed behind it.
const HELD_POLL: Duration = Duration::from_millis(5);

/// Columns below which nothing is painted.
const NARROWEST: usize = 8;

/// How often is looked whether the terminal is ours again.
const AWAY_POLL: Duration = Duration::from_millis(500);
