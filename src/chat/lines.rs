//! What is read when it is no terminal's prompt, cut into what can be handed on: lines, the long ones in pieces, or
//! everything that comes as texts. Pure: it reads from whatever it is given.

use std::borrow::Cow;
use std::io::{self, BufRead};

use super::command::Command;
use super::json;

/// What the lines of standard input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Commands and texts, as a person would type them.
    Commands,
    /// The same by a person, on a terminal that does not edit lines.
    Typed,
    /// Commands as JSON.
    Json,
    /// Texts, whatever they look like.
    Texts,
}

/// The commands that lines make.
pub struct Commands<R> {
    lines: Lines<R>,
    reading: Reading,
    /// What becomes of the rest of the line that is being read.
    rest: Rest,
}

/// What becomes of the rest of a long line. Only its beginning says what a line is: whatever its rest looks like, it is
/// never read as a line of its own, for it may be what somebody else has written.
enum Rest {
    /// It is a text for the same one; `None` is the peer of the current chat.
    Sent { peer: Option<String> },
    /// The line was refused.
    PassedOver,
}

impl<R: BufRead> Commands<R> {
    pub fn new(input: R, reading: Reading) -> Self {
        let limit = if reading == Reading::Json { MAX_JSON } else { MAX_LINE };
        Self { lines: Lines { input, limit, has_begun: false, is_within: false }, reading, rest: Rest::PassedOver }
    }

    /// The next command; `None` at the end of the input.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn next(&mut self) -> io::Result<Option<Command>> {
        while let Some(piece) = self.lines.next()? {
            if let Some(command) = self.command(piece) {
                return Ok(Some(command));
            }
        }
        Ok(None)
    }

    fn command(&mut self, piece: Piece) -> Option<Command> {
        if piece.is_rest {
            return match &self.rest {
                // Where a line ends just behind its last piece, no text is left.
                Rest::Sent { .. } if piece.text.is_empty() => None,
                Rest::Sent { peer } => Some(Command::Send { peer: peer.clone(), text: piece.text, id: None }),
                Rest::PassedOver => None,
            };
        }
        let command = match self.reading {
            Reading::Texts => Command::text(&piece.text),
            Reading::Commands => Command::parse(&piece.text),
            Reading::Typed => Command::parse(&without_keys(&piece.text)),
            Reading::Json => json::command(&piece.text),
        };
        match command {
            command if !piece.goes_on => Some(command),
            Command::Send { peer, mut text, id } if self.reading != Reading::Json => {
                self.rest = Rest::Sent { peer: peer.clone() };
                // Spaces at the end of a command are no part of it, but this is not its end.
                let end = piece.text.trim_end().len();
                if text.trim_end().len() == text.len() {
                    text.push_str(&piece.text[end..]);
                }
                Some(Command::Send { peer, text, id })
            }
            _ => {
                self.rest = Rest::PassedOver;
                let limit = self.lines.limit;
                Some(Command::Mistake(format!("a line of {limit} bytes or more is no command; nothing of it is done")))
            }
        }
    }
}

/// The lines of an input, those in pieces that are longer than `limit`.
struct Lines<R> {
    input: R,
    limit: usize,
    has_begun: bool,
    /// The last piece was not the end of its line.
    is_within: bool,
}

/// A line, or a piece of one, without the line's end. What is not UTF-8 is replaced.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    text: String,
    /// The line has begun before it.
    is_rest: bool,
    /// The line may go on behind it.
    goes_on: bool,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> io::Result<Option<Piece>> {
        if !self.has_begun {
            skip_mark(&mut self.input)?;
            self.has_begun = true;
        }
        let mut line = Vec::new();
        let count = io::Read::take(&mut self.input, self.limit as u64).read_until(b'\n', &mut line)?;
        if count == 0 {
            return Ok(None);
        }
        // Where one text ends and the next begins, no character is cut in two.
        while line.len() >= self.limit && ends_within_character(&line) {
            let rest = io::Read::read_to_end(&mut io::Read::take(&mut self.input, 1), &mut line)?;
            if rest == 0 {
                break;
            }
        }
        let goes_on = line.len() >= self.limit && line.last() != Some(&b'\n');
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        let is_rest = std::mem::replace(&mut self.is_within, goes_on);
        Ok(Some(Piece { text: String::from_utf8_lossy(&line).into_owned(), is_rest, goes_on }))
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

/// A line without what keys such as arrows, and the marks around a paste, are to a terminal that does not edit lines:
/// control sequences (ECMA-48, section 5.4), and Escape by itself.
fn without_keys(line: &str) -> Cow<'_, str> {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default();
    if first.len() == line.len() {
        return Cow::Borrowed(line);
    }
    let rest = |part: &str| match part.strip_prefix('[') {
        Some(sequence) => sequence.trim_start_matches(|c| matches!(c, ' '..='?')).chars().skip(1).collect(),
        None => part.strip_prefix('O').map_or(part.to_owned(), |key| key.chars().skip(1).collect()),
    };
    Cow::Owned(first.to_owned() + &parts.map(rest).collect::<String>())
}

/// What some programs put in front of a text, so that others know it for UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The longest line taken from standard input at once, in bytes, but for the end of its last character. In either text
/// format it fits into the 64 KiB that every WebRTC takes as a message (RFC 8841, section 6.1).
const MAX_LINE: usize = 48_000;

/// The longest line of JSON, in bytes: a text as long as any peer takes, with every character escaped.
const MAX_JSON: usize = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn commands(bytes: &[u8], reading: Reading) -> Vec<Command> {
        let mut commands = Commands::new(bytes, reading);
        std::iter::from_fn(|| commands.next().unwrap()).collect()
    }

    /// The texts of lines that are nothing else.
    fn texts(bytes: &[u8]) -> Vec<String> {
        let text = |command| match command {
            Command::Send { peer: None, text, id: None } => text,
            other => panic!("{other:?}"),
        };
        commands(bytes, Reading::Texts).into_iter().map(text).collect()
    }

    #[test]
    fn lines_are_read_whatever_they_hold() {
        let long = "x".repeat(MAX_LINE);
        let bytes = [b"one\r\n\n\xff\xfe\n".as_slice(), long.as_bytes(), b"y\n", long.as_bytes(), b"\nlast"].concat();
        assert_eq!(texts(&bytes), ["one", "", "\u{fffd}\u{fffd}", &long, "y", &long, "last"]);
    }

    #[test]
    fn the_rest_of_a_long_line_is_for_whom_its_beginning_is_and_never_a_command() {
        let read = |line: &str| commands(format!("{line}\nnext").as_bytes(), Reading::Commands);
        let send = |peer: Option<&str>, text: &str| Command::Send {
            peer: peer.map(str::to_owned),
            text: text.to_owned(),
            id: None,
        };
        let long = "y".repeat(MAX_LINE);
        let injected = "/msg bob injected".to_owned() + &long;
        let texts = [send(None, &long), send(None, &injected[..MAX_LINE]), send(None, &injected[MAX_LINE..])];
        assert_eq!(read(&format!("{long}{injected}"))[..3], texts);
        // In quotes or not, and with a space where it is cut.
        for (word, name) in [("bob", "bob"), ("\"b%20ob\"", "b ob")] {
            let begin = format!("/msg {word} ");
            let fill = "x".repeat(MAX_LINE - begin.len() - 1) + " ";
            let expected = [send(Some(name), &fill), send(Some(name), "/quit"), send(None, "next")];
            assert_eq!(read(&format!("{begin}{fill}/quit")), expected);
        }
        // What is no text is not done in part.
        for line in ["/connect ", "/nick ", "/help ", "/nonsense "] {
            let read = read(&format!("{line}{long}{long}/quit"));
            let [Command::Mistake(why), text] = &read[..] else { panic!("{read:?}") };
            assert_eq!((why.contains("nothing of it is done"), text), (true, &send(None, "next")));
        }
        let quit = r#"{"command":"quit"}"#;
        let object = format!("{quit}{}{quit}\n{quit}", " ".repeat(MAX_JSON - quit.len()));
        let read = commands(object.as_bytes(), Reading::Json);
        assert!(matches!(&read[..], [Command::Mistake(_), Command::Quit]), "{read:?}");
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
    fn keys_that_a_terminal_does_not_edit_by_are_no_text() {
        for (typed, line) in [
            ("plain", "plain"),
            ("\x1b[200~/quit\x1b[201~", "/quit"),
            ("a\x1b[Ab\x1bOBc\x1b[1;5Cd", "abcd"),
            ("\x1bx \x1b", "x "),
            ("[A and \x1b[", "[A and "),
        ] {
            assert_eq!(without_keys(typed), line, "{typed:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        for (bytes, line) in [("\u{feff}/quit\n", "/quit"), ("\u{feff}", ""), ("hello", "hello")] {
            assert_eq!(texts(bytes.as_bytes()).concat(), line);
        }
    }

    #[test]
    fn no_character_is_cut_where_a_long_line_is() {
        for character in ["é", "世", "👩"] {
            for shift in 1..4 {
                let line = "x".repeat(MAX_LINE - shift) + &character.repeat(4);
                let texts = texts(line.as_bytes());
                assert_eq!((texts.len(), texts.concat()), (2, line));
            }
        }
        // What is cut off by the end of input, or is no character at all, is waited for by nobody.
        for end in [&b"\xf0\x9f"[..], b"\xff\xff"] {
            let bytes = [&vec![b'x'; MAX_LINE - 1], end].concat();
            assert_eq!(texts(&bytes).concat(), String::from_utf8_lossy(&bytes));
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
