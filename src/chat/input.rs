//! What comes from standard input when it is no terminal's prompt: lines or JSON, whatever is in them.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Stdin};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, FlushArg};
use nix::unistd;

use super::command::Command;
use super::json;
use super::mail::Mail;
use crate::peer::Peer;
use crate::trouble;

/// What is read from standard input, and what it means.
pub enum Source {
    /// Lines, each of them a command or a text.
    Lines(Reading),
    /// Texts as long as can be.
    Pieces(Pieces<BufReader<Stdin>>),
    /// Nothing is read.
    Nothing,
}

/// What the lines of standard input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Commands and texts, as a person would type them.
    Commands,
    /// Commands as JSON.
    Json,
    /// Texts, whatever they look like.
    Texts,
}

impl Reading {
    fn command(self, line: &str) -> Command {
        match self {
            Self::Commands => Command::parse(line),
            Self::Json => json::command(line),
            Self::Texts => Command::text(line),
        }
    }
}

/// Starts to read from standard input, no faster than what is read goes out. That there is no more is told if that
/// `is_finite`.
pub fn read(mail: Sender<Mail>, peer: Peer, source: Source, is_finite: bool) {
    thread::spawn(move || {
        let give = |command: Command| {
            let (taken, has_room) = mpsc::sync_channel(1);
            let is_served = mail.send(Mail::Command(command, Some(taken))).is_ok() && has_room.recv().is_ok();
            while is_served && peer.queued_bytes() > MAX_QUEUED {
                thread::sleep(QUEUE_POLL);
            }
            is_served
        };
        match source {
            Source::Nothing => {}
            Source::Lines(reading) => {
                let mut input = BufReader::new(Patient);
                let limit = if reading == Reading::Json { MAX_JSON } else { MAX_LINE };
                let _ = skip_mark(&mut input);
                while let Some(read) = read_line(&mut input, limit).transpose() {
                    let is_broken = read.is_err();
                    if !give(read.map_or_else(broken, |line| reading.command(&line))) {
                        return;
                    }
                    if is_broken {
                        break;
                    }
                }
            }
            Source::Pieces(mut pieces) => {
                while let Some(read) = pieces.next().transpose() {
                    let is_broken = read.is_err();
                    if !give(read.map_or_else(broken, Command::text)) {
                        return;
                    }
                    if is_broken {
                        break;
                    }
                }
            }
        }
        if is_finite {
            let _ = mail.send(Mail::EndOfInput);
        }
    });
}

/// What is said where standard input cannot be read.
pub fn unreadable(error: &io::Error) -> String {
    format!("standard input cannot be read: {}", trouble::why(error))
}

fn broken(error: io::Error) -> Command {
    Command::Mistake(unreadable(&error))
}

/// Standard input, from which nothing is read while this program may not.
struct Patient;

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait_until_readable()?;
        io::stdin().read(buffer)
    }
}

/// Waits as long as standard input is a terminal that this program may not read, as one in the background: it would be
/// stopped.
fn wait_until_readable() -> io::Result<()> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(());
    }
    loop {
        if is_in_background() {
            thread::sleep(BACKGROUND_POLL);
            continue;
        }
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let count = match poll(&mut fds, PollTimeout::try_from(BACKGROUND_POLL).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        if count > 0 && !is_in_background() {
            return Ok(());
        }
    }
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

/// Passes over a byte order mark, which is no part of the first word.
fn skip_mark(input: &mut impl BufRead) -> io::Result<()> {
    // A program may write less than that at first, and then nothing until it is answered; no mark begins like that.
    if input.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        input.consume(BYTE_ORDER_MARK.len());
    }
    Ok(())
}

/// The next line without its end. What is longer than `limit` comes in several, and what is not UTF-8 is replaced.
fn read_line(input: &mut impl BufRead, limit: usize) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let count = io::Read::take(&mut *input, limit as u64).read_until(b'\n', &mut line)?;
    if count == 0 {
        return Ok(None);
    }
    // Where one text ends and the next begins, no character is cut in two.
    while line.len() >= limit && ends_within_character(&line) {
        let rest = io::Read::read_to_end(&mut io::Read::take(&mut *input, 1), &mut line)?;
        if rest == 0 {
            break;
        }
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

fn ends_within_character(bytes: &[u8]) -> bool {
    let invalid = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none())
}

/// Everything that comes, as texts that every peer takes, cut at ends of lines where there are some. The last line end
/// is dropped, as with everything that is printed.
pub struct Pieces<R> {
    input: R,
    /// What was read and is no text yet; it may end within a character.
    bytes: Vec<u8>,
    /// What was read of the texts to come.
    text: String,
    has_begun: bool,
    is_over: bool,
}

impl<R: BufRead> Pieces<R> {
    pub fn new(input: R) -> Self {
        Self { input, bytes: Vec::new(), text: String::new(), has_begun: false, is_over: false }
    }

    /// The next text. Waits until there is more than one can hold, or the end.
    pub fn next(&mut self) -> io::Result<Option<String>> {
        while self.text.len() <= MAX_LINE && !self.is_over {
            self.read()?;
        }
        if self.text.len() > MAX_LINE {
            let fits = (0..=MAX_LINE).rev().find(|&at| self.text.is_char_boundary(at)).unwrap_or(MAX_LINE);
            let (end, next) = self.text[..fits].rfind('\n').map_or((fits, fits), |at| (at, at + 1));
            let rest = self.text.split_off(next);
            let mut piece = std::mem::replace(&mut self.text, rest);
            piece.truncate(end);
            self.has_begun = true;
            return Ok(Some(piece));
        }
        if self.text.is_empty() {
            return Ok(None);
        }
        let mut piece = std::mem::take(&mut self.text);
        if piece.ends_with('\n') {
            piece.pop();
        }
        // What was cut at the very last line end has no empty text behind it.
        Ok((!piece.is_empty() || !self.has_begun).then_some(piece))
    }

    fn read(&mut self) -> io::Result<()> {
        if !self.has_begun && self.text.is_empty() && self.bytes.is_empty() {
            skip_mark(&mut self.input)?;
        }
        let count = io::Read::take(&mut self.input, MAX_LINE as u64).read_until(b'\n', &mut self.bytes)?;
        self.is_over = count == 0;
        let is_cut = !self.is_over && ends_within_character(&self.bytes);
        let whole = self.bytes.len()
            - if is_cut { self.bytes.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len()) } else { 0 };
        self.text.push_str(&String::from_utf8_lossy(&self.bytes[..whole]));
        self.bytes.drain(..whole);
        Ok(())
    }
}

/// What some programs put in front of a text, so that others know it for UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Bytes that may wait to be sent before no more are read from a pipe, and how often that is looked at.
const MAX_QUEUED: usize = 1024 * 1024;
const QUEUE_POLL: Duration = Duration::from_millis(5);

/// How often is looked whether a job in the background has come to the front.
const BACKGROUND_POLL: Duration = Duration::from_millis(500);

/// The longest line taken from standard input at once, in bytes, but for the end of its last character. In either text
/// format it fits into the 64 KiB that every WebRTC takes as a message (RFC 8841, section 6.1).
const MAX_LINE: usize = 48_000;

/// The longest line of JSON, in bytes: a text as long as any peer takes, with every character escaped.
const MAX_JSON: usize = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whatever_they_hold() {
        let long = "x".repeat(MAX_LINE);
        let bytes = [b"one\r\n\n\xff\xfe\n".as_slice(), long.as_bytes(), b"y\nlast"].concat();
        let mut input = bytes.as_slice();
        let lines: Vec<String> = std::iter::from_fn(|| read_line(&mut input, MAX_LINE).unwrap()).collect();
        assert_eq!(lines, ["one", "", "\u{fffd}\u{fffd}", &long, "y", "last"]);
    }

    fn pieces(text: &str) -> Vec<String> {
        // However the bytes come, the texts are the same.
        let read = |size: usize| {
            let mut pieces = Pieces::new(BufReader::with_capacity(size, text.as_bytes()));
            std::iter::from_fn(|| pieces.next().unwrap()).collect::<Vec<_>>()
        };
        let whole = read(64 * 1024);
        assert_eq!(read(5), whole);
        whole
    }

    #[test]
    fn a_long_text_is_cut_at_ends_of_lines() {
        assert_eq!(pieces("a\nb\n"), ["a\nb"]);
        assert_eq!(pieces(""), [""; 0]);
        assert_eq!(pieces("\n"), [""]);
        assert_eq!(pieces("\u{feff}\u{feff}x"), ["\u{feff}x"]);
        let line = "x".repeat(MAX_LINE - 1);
        assert_eq!(pieces(&format!("{line}\n{line}\n")), [line.clone(), line.clone()]);
        assert_eq!(pieces(&format!("{line}xx")), [format!("{line}x"), "x".to_owned()]);
        let wide = "ü".repeat(MAX_LINE);
        assert_eq!(pieces(&wide).concat(), wide);
        assert!(pieces(&wide).iter().all(|piece| piece.len() <= MAX_LINE));
        let mut bytes = Pieces::new(&b"a\xffb\xf0\x9f"[..]);
        assert_eq!(bytes.next().unwrap(), Some("a\u{fffd}b\u{fffd}".to_owned()));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        for (bytes, line) in [("\u{feff}/quit\n", "/quit"), ("\u{feff}", ""), ("hello", "hello")] {
            let mut input = bytes.as_bytes();
            skip_mark(&mut input).unwrap();
            assert_eq!(read_line(&mut input, MAX_LINE).unwrap().unwrap_or_default(), line);
        }
    }

    #[test]
    fn no_character_is_cut_where_a_long_line_is() {
        for character in ["é", "世", "👩"] {
            for shift in 1..4 {
                let line = "x".repeat(MAX_LINE - shift) + &character.repeat(4);
                let mut input = line.as_bytes();
                let texts: Vec<String> = std::iter::from_fn(|| read_line(&mut input, MAX_LINE).unwrap()).collect();
                assert_eq!((texts.len(), texts.concat()), (2, line));
            }
        }
        // What is cut off by the end of input, or is no character at all, is waited for by nobody.
        for end in [&b"\xf0\x9f"[..], b"\xff\xff"] {
            let bytes = [&vec![b'x'; MAX_LINE - 1], end].concat();
            let mut input = bytes.as_slice();
            let texts: Vec<String> = std::iter::from_fn(|| read_line(&mut input, MAX_LINE).unwrap()).collect();
            assert_eq!(texts.concat(), String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn the_longest_line_fits_into_a_message_of_any_webrtc() {
        use crate::peer::keys::KeyPair;
        let longest = "x".repeat(MAX_LINE + 3);
        for format in [crate::peer::TextFormat::V1, crate::peer::TextFormat::V2] {
            let mut cipher =
                crate::peer::cipher::Cipher::new(KeyPair::generate(), KeyPair::generate().public(), format).unwrap();
            assert!(cipher.seal(&longest).unwrap().len() <= 65_536);
        }
    }
}
