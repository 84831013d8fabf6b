//! What comes from standard input when it is no terminal's prompt: it is read no faster than it goes out, and what was
//! read when the end comes is still handed on, so that it can be told what was not sent.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, FlushArg};
use nix::unistd;

use super::command::Command;
use super::lines::{Commands, Pieces, Reading};
use super::mail::MainMail;
use crate::peer::Peer;
use crate::{threads, trouble};

/// What is read from standard input, and what it means.
pub enum InputSource {
    /// Lines, each of them a command or a text.
    Lines(Reading),
    /// Texts as long as can be.
    Pieces(Pieces<BufReader<Stdin>>),
    /// Nothing is read.
    Nothing,
}

/// Standard input, from which nothing is read while this program may not, and nothing any more once it ends. All clones
/// are of one.
#[derive(Clone, Default)]
pub struct Stdin(Arc<InputState>);

#[derive(Default)]
struct InputState {
    is_over: AtomicBool,
    /// The reading thread does more than to wait for what comes.
    is_busy: AtomicBool,
    /// Something was read, and not the end of it.
    is_open: AtomicBool,
    /// What was read ends within a line.
    is_within_line: AtomicBool,
    /// All of it is one text, and not a line each.
    is_one_text: AtomicBool,
}

impl Stdin {
    /// Reads no more. What was read before is still handed on.
    pub fn stop(&self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }

    /// Whether all was handed on that was read.
    pub fn is_handed_on(&self) -> bool {
        !self.0.is_busy.load(Ordering::SeqCst)
    }

    /// Whether there is more than was read. Of a file or a pipe that can be seen; what is one text is not over before
    /// its end was read.
    pub fn is_left(&self) -> bool {
        if !self.0.is_open.load(Ordering::SeqCst) {
            return false;
        }
        let is_one_text = self.0.is_one_text.load(Ordering::SeqCst);
        let stdin = io::stdin();
        let Ok(mut file) = stdin.as_fd().try_clone_to_owned().map(File::from) else { return is_one_text };
        let Ok(metadata) = file.metadata() else { return is_one_text };
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match metadata.file_type() {
            kind if kind.is_file() => file.stream_position().is_ok_and(|at| at < metadata.len()),
            kind if kind.is_fifo() && poll(&mut fds, PollTimeout::ZERO).is_ok() => {
                let events = fds[0].revents().unwrap_or(PollFlags::empty());
                // Without any writer it is as long as it will ever be.
                events.contains(PollFlags::POLLIN) || is_one_text && !events.contains(PollFlags::POLLHUP)
            }
            _ => is_one_text,
        }
    }
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = &*self.0;
        if !is_readable(PollTimeout::ZERO)? && !state.is_over.load(Ordering::SeqCst) {
            state.is_busy.store(false, Ordering::SeqCst);
            wait_until_readable()?;
            state.is_busy.store(true, Ordering::SeqCst);
        }
        // Whoever has ended the reading looks at what is left, which begins with a whole line.
        let length = match state.is_over.load(Ordering::SeqCst) {
            true if state.is_within_line.load(Ordering::SeqCst) && is_readable(PollTimeout::ZERO)? => 1,
            true => 0,
            false => buffer.len(),
        };
        if length == 0 {
            return Ok(0);
        }
        // Past the buffer of the standard library, which would take more than it is asked for.
        let count = unistd::read(io::stdin(), &mut buffer[..length])?;
        state.is_within_line.store(buffer[..count].last().is_some_and(|last| *last != b'\n'), Ordering::SeqCst);
        state.is_open.store(count > 0, Ordering::SeqCst);
        Ok(count)
    }
}

/// Starts to read from standard input, no faster than what is read goes out. If the input `is_finite`, the main thread
/// is told of its end.
///
/// # Errors
/// The system has no thread for it.
pub fn read(mail: Sender<MainMail>, peer: Peer, stdin: Stdin, source: InputSource, is_finite: bool) -> io::Result<()> {
    stdin.0.is_busy.store(true, Ordering::SeqCst);
    stdin.0.is_one_text.store(matches!(source, InputSource::Pieces(_)), Ordering::SeqCst);
    let reading = threads::spawn("input", move || {
        let is_over = || stdin.0.is_over.load(Ordering::SeqCst);
        let give = |command: Command| {
            let (taken, has_room) = mpsc::sync_channel(1);
            let is_sent = mail.send(MainMail::Command(command, Some(taken))).is_ok();
            // At the end nobody makes room any more, and what was read is told not to be sent.
            if has_room.recv().is_err() {
                stdin.stop();
            }
            while peer.queued_bytes() > MAX_QUEUED && !is_over() {
                thread::sleep(QUEUE_POLL);
            }
            is_sent
        };
        let give_all = |mut next: Box<dyn FnMut() -> io::Result<Option<Command>>>| {
            while let Some(read) = next().transpose() {
                let is_broken = read.is_err();
                if !give(read.unwrap_or_else(broken)) {
                    return false;
                }
                if is_broken {
                    break;
                }
            }
            true
        };
        let is_served = match source {
            InputSource::Nothing => true,
            InputSource::Lines(reading) => {
                let mut commands = Commands::new(BufReader::new(stdin.clone()), reading);
                give_all(Box::new(move || commands.next()))
            }
            InputSource::Pieces(mut pieces) => give_all(Box::new(move || Ok(pieces.next()?.map(Command::text)))),
        };
        if is_served && is_finite && !is_over() {
            let _ = mail.send(MainMail::EndOfInput);
        }
        stdin.0.is_busy.store(false, Ordering::SeqCst);
    });
    reading.map(drop)
}

/// What is said where standard input cannot be read.
pub fn unreadable(error: &io::Error) -> String {
    format!("standard input cannot be read: {}", trouble::why(error))
}

fn broken(error: io::Error) -> Command {
    Command::Mistake(unreadable(&error))
}

/// Waits until something can be read, or the end of it; and as long as standard input is a terminal that this program
/// may not read, as one in the background: it would be stopped.
fn wait_until_readable() -> io::Result<()> {
    let stdin = io::stdin();
    let is_terminal = stdin.is_terminal();
    loop {
        if is_terminal && is_in_background() {
            thread::sleep(BACKGROUND_POLL);
            continue;
        }
        let patience = PollTimeout::try_from(BACKGROUND_POLL).ok().filter(|_| is_terminal);
        if is_readable(patience.unwrap_or(PollTimeout::NONE))? {
            return Ok(());
        }
    }
}

/// Whether there is something to read, or the end of it, within this time, and this program may.
fn is_readable(patience: PollTimeout) -> io::Result<bool> {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    let count = match poll(&mut fds, patience) {
        Err(Errno::EINTR) => 0,
        count => count?,
    };
    Ok(count > 0 && !(stdin.is_terminal() && is_in_background()))
}

/// Whether standard input is a terminal that belongs to another job now.
pub fn is_in_background() -> bool {
    unistd::tcgetpgrp(io::stdin()).is_ok_and(|group| group != unistd::getpgrp())
}

/// Throws away what is typed and was not read, so that no shell runs what was meant for this program.
pub fn discard() {
    if !is_in_background() {
        let _ = termios::tcflush(io::stdin(), FlushArg::TCIFLUSH);
    }
}

/// Bytes that may wait to be sent before no more are read from a pipe, and how often that is looked at.
const MAX_QUEUED: usize = 1024 * 1024;
const QUEUE_POLL: Duration = Duration::from_millis(5);

/// How often is looked whether a job in the background has come to the front.
const BACKGROUND_POLL: Duration = Duration::from_millis(500);
