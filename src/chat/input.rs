//! What comes from standard input when it is no terminal's prompt: lines or JSON, whatever is in them.

use std::io::{self, BufRead, IsTerminal};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, FlushArg};
use nix::unistd;

use super::client::Mail;
use super::command::Command;
use super::json;
use crate::peer::Peer;

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

/// Starts to read from standard input, whatever it is, unless `has_all`. That there is no more is told if that `is_finite`.
pub fn read(mail: Sender<Mail>, peer: Peer, reading: Reading, has_all: bool, is_finite: bool) {
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        let limit = if reading == Reading::Json { MAX_JSON } else { MAX_LINE };
        while !has_all && let Ok(Some(line)) = wait_until_readable().and_then(|()| read_line(&mut input, limit)) {
            let (taken, has_room) = mpsc::sync_channel(1);
            if mail.send(Mail::Command(reading.command(&line), Some(taken))).is_err() || has_room.recv().is_err() {
                return;
            }
            // No faster than it goes out.
            while peer.queued_bytes() > MAX_QUEUED {
                thread::sleep(QUEUE_POLL);
            }
        }
        if is_finite {
            let _ = mail.send(Mail::EndOfInput);
        }
    });
}

/// Waits as long as standard input is a terminal that this program may not read, as one in the background: it would be stopped.
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
        let count = poll(&mut fds, PollTimeout::try_from(BACKGROUND_POLL).unwrap_or(PollTimeout::MAX))?;
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

/// A text of any length as texts that every peer takes, cut at ends of lines where there are some. The last line end is dropped,
/// as with everything that is printed.
pub fn pieces(text: &str) -> Vec<String> {
    let mut rest = text.strip_suffix('\n').unwrap_or(text);
    let mut pieces = Vec::new();
    while rest.len() > MAX_LINE {
        let fits = (0..=MAX_LINE).rev().find(|&at| rest.is_char_boundary(at)).unwrap_or(MAX_LINE);
        match rest[..fits].rfind('\n') {
            Some(at) => {
                pieces.push(rest[..at].to_owned());
                rest = &rest[at + 1..];
            }
            None => {
                pieces.push(rest[..fits].to_owned());
                rest = &rest[fits..];
            }
        }
    }
    pieces.push(rest.to_owned());
    pieces
}

/// Bytes that may wait to be sent before no more are read from a pipe, and how often that is looked at.
const MAX_QUEUED: usize = 1024 * 1024;
const QUEUE_POLL: Duration = Duration::from_millis(5);

/// How often is looked whether a job in the background has come to the front.
const BACKGROUND_POLL: Duration = Duration::from_millis(500);

/// The longest line taken from standard input at once, in bytes, but for the end of its last character. In either text format
/// it fits into the 64 KiB that every WebRTC takes as a message (RFC 8841, section 6.1).
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

    #[test]
    fn a_long_text_is_cut_at_ends_of_lines() {
        assert_eq!(pieces("a\nb\n"), ["a\nb"]);
        assert_eq!(pieces(""), [""]);
        let line = "x".repeat(MAX_LINE - 1);
        assert_eq!(pieces(&format!("{line}\n{line}\n")), [line.clone(), line]);
        let wide = "ü".repeat(MAX_LINE);
        assert_eq!(pieces(&wide).concat(), wide);
        assert!(pieces(&wide).iter().all(|piece| piece.len() <= MAX_LINE));
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
