//! What is typed and pasted, before the line editor sees it: bytes of the terminal in, bytes for the editor out, and
//! what is ours to do. No terminal in here.
//!
//! The editor gets nothing but UTF-8, and a paste only when it is complete: it would read one without an end for ever.

use std::time::{Duration, Instant};

use super::wrap::LINE_BREAK;

/// What was typed or pasted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// Bytes for the editor.
    Edit(Vec<u8>),
    /// The user is to be told.
    Note(String),
    /// The screen is to be cleared.
    Clear,
    /// The program is to stop, until the shell wants it again.
    Suspend,
    /// The terminal says in which column the cursor is, counted from 0.
    Column(usize),
}

/// The state of the keyboard.
#[derive(Debug, Default)]
pub struct Keyboard {
    interrupt: u8,
    suspend: u8,
    /// What may be the beginning of something, and until when it is waited for the rest.
    held: Vec<u8>,
    hold_until: Option<Instant>,
    paste: Option<Paste>,
    /// Bytes left out that were not told of, and when that is done.
    left_out: usize,
    tell_at: Option<Instant>,
    /// How often the terminal was asked and has not answered.
    asked: usize,
}

/// A paste whose end has not come.
#[derive(Debug)]
struct Paste {
    /// As much as can be one text, and a bit.
    bytes: Vec<u8>,
    length: usize,
    until: Instant,
}

impl Keyboard {
    /// A keyboard on which these bytes (VINTR and VSUSP of termios) interrupt and suspend.
    pub fn new(interrupt: u8, suspend: u8) -> Self {
        Self { interrupt, suspend, ..Self::default() }
    }

    /// The terminal was asked in which column the cursor is. Its answer is no key, however late it comes.
    pub fn ask_column(&mut self) {
        self.asked += 1;
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let paste = self.paste.as_ref().map(|paste| paste.until);
        [self.hold_until, paste, self.tell_at].into_iter().flatten().min()
    }

    /// Takes what the terminal sent.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Vec<Key> {
        let mut keys = Keys::default();
        self.held.extend_from_slice(bytes);
        self.hold_until = None;
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        while !rest.is_empty() {
            let taken = match self.paste {
                Some(_) => self.take_pasted(rest, now, &mut keys),
                None => self.take_typed(rest, now, &mut keys),
            };
            rest = &rest[taken..];
            if taken == 0 {
                self.held = rest.to_vec();
                break;
            }
        }
        keys.0
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) -> Vec<Key> {
        let mut keys = Keys::default();
        if self.paste.as_ref().is_some_and(|paste| paste.until <= now) {
            let held = std::mem::take(&mut self.held);
            self.add_to_paste(&held);
            keys.note("the paste has no end; what has come of it is taken");
            self.end_paste(&mut keys);
        }
        if self.hold_until.is_some_and(|until| until <= now) {
            self.hold_until = None;
            // Nothing more came: it is the Escape key, or no character.
            let held = std::mem::take(&mut self.held);
            match held.first() {
                Some(&ESCAPE) => keys.edit(&held),
                _ => self.leave_out(held.len(), now),
            }
        }
        if self.tell_at.is_some_and(|at| at <= now) {
            self.tell(&mut keys);
        }
        keys.0
    }

    /// Takes one key from the beginning of `rest`, and says of how many bytes it was; none if it is not complete.
    fn take_typed(&mut self, rest: &[u8], now: Instant, keys: &mut Keys) -> usize {
        match rest[0] {
            ESCAPE => self.take_escape(rest, now, keys),
            0 => 1,
            CLEAR => keys.add(Key::Clear),
            byte if byte == self.suspend => keys.add(Key::Suspend),
            0x01..=0x7f => {
                keys.edit(&rest[..1]);
                1
            }
            _ => {
                // A character has at most four bytes.
                let chunk = rest[..rest.len().min(4)].utf8_chunks().next();
                let (valid, invalid) = chunk.map_or(("", rest), |chunk| (chunk.valid(), chunk.invalid()));
                match valid.chars().next() {
                    Some(c) => {
                        keys.edit(&rest[..c.len_utf8()]);
                        c.len_utf8()
                    }
                    None if invalid.len() == rest.len() && is_incomplete(invalid) => self.hold(now),
                    None => {
                        self.leave_out(invalid.len(), now);
                        invalid.len()
                    }
                }
            }
        }
    }

    fn take_escape(&mut self, rest: &[u8], now: Instant, keys: &mut Keys) -> usize {
        if rest.starts_with(PASTE_START) {
            self.paste = Some(Paste { bytes: Vec::new(), length: 0, until: now + PASTE_TIME });
            return PASTE_START.len();
        }
        // A paste that was over before its end mark came.
        if rest.starts_with(PASTE_END) {
            return PASTE_END.len();
        }
        if let [_, b'\r' | b'\n', ..] = rest {
            keys.edit(&[PASTE_START, LINE_BREAK.as_bytes(), PASTE_END].concat());
            return 2;
        }
        if self.asked > 0
            && let Some(report) = rest.strip_prefix(b"\x1b[")
        {
            let end = report.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b';'));
            match end {
                None => return self.hold(now),
                Some(end) if report[end] == b'R' => {
                    self.asked -= 1;
                    let column = std::str::from_utf8(&report[..end]).unwrap_or_default().rsplit(';').next();
                    let column: usize = column.and_then(|column| column.parse().ok()).unwrap_or(1);
                    // An answer to an earlier question says nothing of the window as it is now.
                    if self.asked == 0 {
                        keys.add(Key::Column(column.saturating_sub(1)));
                    }
                    return end + 3;
                }
                Some(_) => {}
            }
        }
        if [PASTE_START, PASTE_END].iter().any(|mark| mark.starts_with(rest)) {
            return self.hold(now);
        }
        keys.edit(&rest[..1]);
        1
    }

    fn take_pasted(&mut self, rest: &[u8], now: Instant, keys: &mut Keys) -> usize {
        let end = rest.windows(PASTE_END.len()).position(|window| window == PASTE_END);
        if let Some(paste) = &mut self.paste {
            paste.until = now + PASTE_TIME;
        }
        match end {
            Some(end) => {
                self.add_to_paste(&rest[..end]);
                self.end_paste(keys);
                end + PASTE_END.len()
            }
            // A person who interrupts types that last; in a text it stands anywhere.
            None if rest.last() == Some(&self.interrupt) && self.interrupt != 0 => {
                self.paste = None;
                keys.note("the paste is given up");
                rest.len()
            }
            None => {
                let begun =
                    (1..PASTE_END.len()).rev().find(|&length| rest.ends_with(&PASTE_END[..length])).unwrap_or(0);
                let taken = rest.len() - begun;
                self.add_to_paste(&rest[..taken]);
                taken
            }
        }
    }

    fn add_to_paste(&mut self, bytes: &[u8]) {
        if let Some(paste) = &mut self.paste {
            paste.length += bytes.len();
            let room = (2 * MAX_PASTE).saturating_sub(paste.bytes.len());
            paste.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn end_paste(&mut self, keys: &mut Keys) {
        let Some(paste) = self.paste.take() else { return };
        let mut left_out = 0;
        let mut text = String::new();
        for chunk in paste.bytes.utf8_chunks() {
            text += chunk.valid();
            left_out += chunk.invalid().len();
        }
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let is_kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
        left_out += text.chars().filter(|c| !is_kept(c)).map(char::len_utf8).sum::<usize>();
        let text: String = text.chars().filter(is_kept).collect();
        // A line that was copied with its end is one line all the same.
        let text = text.trim_end_matches('\n');
        if paste.length > paste.bytes.len() || text.len() > MAX_PASTE {
            let length = paste.length;
            return keys.note(&format!(
                "the paste is too long: it has {length} bytes, and a text at most {MAX_PASTE}; nothing of it is taken"
            ));
        }
        if text.split('\n').count() > MAX_PASTED_LINES {
            return keys.note(&format!("the paste has more than {MAX_PASTED_LINES} lines; nothing of it is taken"));
        }
        if !text.is_empty() {
            keys.edit(&[PASTE_START, text.as_bytes(), PASTE_END].concat());
        }
        self.left_out += left_out;
        self.tell(keys);
    }

    fn hold(&mut self, now: Instant) -> usize {
        self.hold_until = Some(now + HOLD_TIME);
        0
    }

    fn leave_out(&mut self, count: usize, now: Instant) {
        self.left_out += count;
        self.tell_at = Some(now + TELL_TIME);
    }

    fn tell(&mut self, keys: &mut Keys) {
        self.tell_at = None;
        match std::mem::take(&mut self.left_out) {
            0 => {}
            1 => keys.note("1 byte that is no text was left out: not UTF-8, or a control character"),
            count => {
                keys.note(&format!("{count} bytes that are no text were left out: not UTF-8, or control characters"))
            }
        }
    }
}

/// Keys in order, with what is for the editor in one piece.
#[derive(Default)]
struct Keys(Vec<Key>);

impl Keys {
    fn add(&mut self, key: Key) -> usize {
        self.0.push(key);
        1
    }

    fn edit(&mut self, bytes: &[u8]) {
        match self.0.last_mut() {
            Some(Key::Edit(before)) => before.extend_from_slice(bytes),
            _ => self.0.push(Key::Edit(bytes.to_vec())),
        }
    }

    fn note(&mut self, words: &str) {
        self.0.push(Key::Note(words.to_owned()));
    }
}

fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

const ESCAPE: u8 = 0x1b;

/// Ctrl-L.
const CLEAR: u8 = 0x0c;

/// What terminals put around what is pasted, when they are asked to (xterm, bracketed paste mode).
const PASTE_START: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";

/// How long it is waited for the rest of a key or of a character: the bytes of one come at once.
const HOLD_TIME: Duration = Duration::from_millis(100);

/// A paste in which nothing comes for so long is over. Over a slow line its parts come more quickly.
const PASTE_TIME: Duration = Duration::from_secs(2);

/// So long after the last byte that was left out it is told how many there were.
const TELL_TIME: Duration = Duration::from_millis(200);

/// The longest text that any peer takes, in bytes.
const MAX_PASTE: usize = 196_547;

/// Lines of a paste. The editor counts rows in 16 bits.
const MAX_PASTED_LINES: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn keyboard() -> Keyboard {
        Keyboard::new(3, 26)
    }

    fn edit(bytes: impl AsRef<[u8]>) -> Key {
        Key::Edit(bytes.as_ref().to_vec())
    }

    fn pasted(text: &str) -> Key {
        edit(format!("\x1b[200~{text}\x1b[201~"))
    }

    fn note(words: &str) -> Key {
        Key::Note(words.to_owned())
    }

    fn edited(keys: Vec<Key>) -> Vec<u8> {
        let bytes = |key| if let Key::Edit(bytes) = key { bytes } else { panic!("{key:?}") };
        keys.into_iter().flat_map(bytes).collect()
    }

    #[test]
    fn what_is_typed_reaches_the_editor_however_it_is_cut() {
        let now = Instant::now();
        for typed in ["hello\r", "grüße 世界 👩🏽‍🚀", "\x1b[A\x1bb\x1bOH\x1b[3~\x1b[200", "\x03\x04\x12"] {
            for cut in 0..typed.len() {
                let mut keyboard = keyboard();
                let mut keys = keyboard.receive(&typed.as_bytes()[..cut], now);
                keys.extend(keyboard.receive(&typed.as_bytes()[cut..], now));
                keys.extend(keyboard.tick(now + HOLD_TIME));
                assert_eq!(edited(keys), typed.as_bytes());
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_left_out_and_told_in_one_line() {
        let now = Instant::now();
        // A stray byte, an overlong form, a surrogate, beyond Unicode, and one that is never there.
        for bad in [&b"\xfc"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff"] {
            let mut keyboard = keyboard();
            let typed = [b"a", bad, b"b"].concat();
            assert_eq!(keyboard.receive(&typed, now), [edit("ab")]);
            assert_eq!(keyboard.receive(bad, now), []);
            let told = keyboard.tick(now + TELL_TIME);
            assert!(matches!(&told[..], [Key::Note(words)] if words.contains("left out")), "{told:?}");
            let pasted_bytes = [b"\x1b[200~", &typed[..], b"\x1b[201~"].concat();
            let keys = keyboard.receive(&pasted_bytes, now);
            assert!(
                matches!(&keys[..], [text, Key::Note(words)] if *text == pasted("ab") && words.contains("left out")),
                "{keys:?}"
            );
        }
        // The beginning of a character, and nothing more.
        let mut keyboard = keyboard();
        assert_eq!(keyboard.receive(b"x\xe4\xb8", now), [edit("x")]);
        assert_eq!(keyboard.tick(now + HOLD_TIME), []);
        let words = "2 bytes that are no text were left out: not UTF-8, or control characters";
        assert_eq!(keyboard.tick(now + HOLD_TIME + TELL_TIME), [note(words)]);
        assert_eq!(keyboard.deadline(), None);
    }

    #[test]
    fn a_paste_comes_as_a_whole_and_without_its_last_line_end() {
        let now = Instant::now();
        let paste = b"\x1b[200~one\r\ntwo\rthree\r\n\x1b[201~x";
        for cut in 0..paste.len() {
            let mut keyboard = keyboard();
            let keys = [keyboard.receive(&paste[..cut], now), keyboard.receive(&paste[cut..], now)];
            assert_eq!(edited(keys.concat()), b"\x1b[200~one\ntwo\nthree\x1b[201~x", "cut at {cut}");
        }
        assert_eq!(keyboard().receive(b"\x1b[200~one\r\x1b[201~", now), [pasted("one")]);
        assert_eq!(keyboard().receive(b"\x1b[201~x", now), [edit("x")]);
    }

    #[test]
    fn control_characters_of_a_paste_are_no_keys() {
        let keys = keyboard().receive(b"\x1b[200~a\x1b[31mb\x03\x1a\tc\x1b[201~", Instant::now());
        let words = "3 bytes that are no text were left out: not UTF-8, or control characters";
        assert_eq!(keys, [pasted("a[31mb\tc"), note(words)]);
    }

    #[test]
    fn a_paste_without_an_end_is_over_after_a_while_or_by_ctrl_c() {
        let now = Instant::now();
        let mut keyboard = keyboard();
        assert_eq!(keyboard.receive(b"\x1b[200~half", now), []);
        assert_eq!(keyboard.receive(b" a\x1b[20", now + PASTE_TIME / 2), []);
        assert_eq!(keyboard.tick(now + PASTE_TIME), [], "something came in between");
        let keys = keyboard.tick(now + PASTE_TIME * 2);
        assert_eq!(keys[..2], [note("the paste has no end; what has come of it is taken"), pasted("half a[20")]);
        assert_eq!(keyboard.receive(b"x\r", now + PASTE_TIME * 2), [edit("x\r")]);
        keyboard.receive(b"\x1b[200~half", now);
        assert_eq!(keyboard.receive(b"\x03", now), [note("the paste is given up")]);
        assert_eq!(keyboard.receive(b"x\r", now), [edit("x\r")]);
    }

    #[test]
    fn a_paste_that_no_peer_takes_is_refused_at_once() {
        let now = Instant::now();
        let paste = |length| ["\x1b[200~", &"x".repeat(length), "\x1b[201~"].concat();
        assert_eq!(keyboard().receive(paste(MAX_PASTE).as_bytes(), now), [edit(paste(MAX_PASTE))]);
        for length in [MAX_PASTE + 1, 3 * MAX_PASTE] {
            let words = format!(
                "the paste is too long: it has {length} bytes, and a text at most {MAX_PASTE}; nothing of it is taken"
            );
            assert_eq!(keyboard().receive(paste(length).as_bytes(), now), [note(&words)]);
        }
        let longest = crate::peer::keys::KeyPair::generate;
        let cipher =
            crate::peer::cipher::Cipher::new(longest(), longest().public(), crate::peer::TextFormat::V1).unwrap();
        assert_eq!(cipher.longest_text(256 * 1024), MAX_PASTE + 21, "a frame around it takes the rest");
    }

    #[test]
    fn keys_that_are_ours_do_not_reach_the_editor() {
        let now = Instant::now();
        let mut keyboard = keyboard();
        assert_eq!(keyboard.receive(b"a\x0cb\x1ac", now), [edit("a"), Key::Clear, edit("b"), Key::Suspend, edit("c")]);
        assert_eq!(keyboard.receive(b"one\x1b\rtwo", now), [edit("one\x1b[200~\x0b\x1b[201~two")]);
        keyboard.ask_column();
        assert_eq!(keyboard.receive(b"a\x1b[24;", now), [edit("a")]);
        assert_eq!(keyboard.receive(b"17Rb", now), [Key::Column(16), edit("b")]);
        assert_eq!(keyboard.receive(b"\x1b[1;2R", now), [edit("\x1b[1;2R")], "a function key, when nobody has asked");
        keyboard.ask_column();
        keyboard.ask_column();
        assert_eq!(keyboard.receive(b"\x1b[1;2R\x1b[1;3R", now), [Key::Column(2)], "the last answer counts");
    }
}
