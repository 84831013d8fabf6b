//! The terminal client: rustyline when stdin and stdout are a terminal, plain lines when not. It carries lines to the
//! [`conversation`], events of the peer too, and does what comes back.
//!
//! One thread reads lines, one waits for the peer's events, one for signals; all send to one channel, and the main thread
//! serves it. On a terminal a fourth thread prints: rustyline's printer takes one line and blocks until the prompt is
//! ready for it, which must not keep anybody else waiting.

pub mod command;
pub mod conversation;
pub mod people;
pub mod screen;

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::termios::{self, SetArg};
use qrcode::QrCode;
use qrcode::render::unicode;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{DefaultEditor, Editor, ExternalPrinter};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::options::{self, PeerOptions};
use crate::peer::trust::{Known, KnownPeers, Link};
use crate::peer::{Event, Peer, ServerUrlError};
use crate::profile::{Profile, Username};
use command::Command;
use conversation::{Conversation, Effect};
use people::People;
use screen::Line;

/// Private chat from peer to peer, in a terminal.
///
/// On the first start it asks for a username and keeps it. Type /help for what can be typed then. Without a terminal it
/// reads lines from standard input, writes messages to standard output, and everything else to standard error.
#[derive(Debug, Parser)]
#[command(name = "lowkey", version, max_term_width = 100)]
struct Options {
    #[command(flatten)]
    peer: PeerOptions,
    /// Print your link, and the same as a QR code for whoever stands beside you, and end
    #[arg(long)]
    qr: bool,
    /// Call this user at once, by name or by a link, which names the server too
    #[arg(value_name = "PEER")]
    call: Option<String>,
}

/// Runs the program `lowkey` on the command line of this process.
pub fn main() -> ExitCode {
    let options: Options = match options::parse("lowkey") {
        Ok(options) => options,
        Err(code) => return code,
    };
    options::start_log();
    match run(options) {
        Ok(code) => code,
        Err(Failure { code, reason }) => {
            eprintln!("lowkey: {reason}");
            ExitCode::from(code)
        }
    }
}

struct Failure {
    code: u8,
    reason: String,
}

impl Failure {
    fn setting(reason: String) -> Self {
        Self { code: 2, reason }
    }

    fn system(error: impl std::fmt::Display) -> Self {
        Self { code: 1, reason: error.to_string() }
    }
}

fn run(options: Options) -> Result<ExitCode, Failure> {
    let is_interactive = io::stdin().is_terminal() && io::stdout().is_terminal() && has_capable_terminal();
    let terminal = Terminal::remember(is_interactive);
    let (mail, mailbox) = mpsc::channel();
    let is_serving = watch_signals(mail.clone(), terminal.clone()).map_err(Failure::system)?;
    let name = match &options.peer.name {
        Some(name) => name.clone(),
        None => kept_name(is_interactive)?,
    };
    let link = options.call.as_ref().filter(|call| call.starts_with("lowkey://"));
    let link = link.map(|link| link.parse::<Link>()).transpose().map_err(|error| Failure::setting(error.to_owned()))?;
    let server = match &link {
        Some(link) => link.server().parse().map_err(|error: ServerUrlError| Failure::setting(error.to_string()))?,
        None => options.peer.server.clone(),
    };
    let mut settings = options.peer.settings(name.as_str()).map_err(Failure::setting)?;
    let profile = Profile::from_env(|name| std::env::var(name).ok()).ok();
    let known = profile.as_ref().map(Profile::known_peers).transpose().map_err(Failure::setting)?.unwrap_or_default();
    let place = server.place();
    settings.known = known.at(&place).map(|(name, known)| (name, known.clone())).collect();
    let identity = settings.identity.as_ref().map(|identity| identity.public());
    let today = jiff::Zoned::now().date().to_string();
    let people = People::new(name.as_str(), identity, &place, server.is_plain(), known, &today);
    if options.qr {
        return print_qr(&people);
    }
    let memory = Memory { profile, place };
    let (peer, events) = Peer::connect_with(server, name.as_str(), settings).map_err(Failure::system)?;
    is_serving.store(true, Ordering::SeqCst);
    let mut conversation = Conversation::new(people, options.call.filter(|_| link.is_none()));
    let screen = if is_interactive {
        println!("You are {name}. /connect NAME calls somebody, /help lists what can be typed.");
        interactive(mail.clone()).map_err(Failure::system)?
    } else {
        plain(mail.clone(), peer.clone());
        Screen::Plain
    };
    thread::spawn(move || {
        for event in events {
            // Waits while the screen is behind, and with it the peer and in the end whoever sends.
            let (taken, done) = mpsc::sync_channel(0);
            if mail.send(Mail::Event(event, taken)).is_err() || done.recv().is_err() {
                break;
            }
        }
    });
    if let Some(link) = link {
        let effects = conversation.command(Command::Connect(link.to_string()));
        carry_out(effects, &peer, &screen, &memory);
    }
    serve(&mut conversation, &peer, &screen, &memory, &mailbox);
    terminal.restore();
    let is_all_read = end(&peer, &mut conversation, &screen, &memory, &mailbox);
    // A script wants to know whether all was sent and read; a person has seen it.
    let has_failed = !is_interactive && (conversation.has_lost_lines() || !is_all_read);
    if has_failed && !is_all_read {
        screen.show(Line::Notice("what was sent last may not have been read".to_owned()));
    }
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints the user's link as a QR code, in half blocks: dark on light, as scanners expect it on a dark terminal.
fn print_qr(people: &People) -> Result<ExitCode, Failure> {
    let link = people.own_link().map_err(|reason| Failure::setting(reason.to_owned()))?.to_string();
    let code = QrCode::new(&link).map_err(Failure::system)?;
    let mut renderer = code.render::<unicode::Dense1x2>();
    let picture = renderer.dark_color(unicode::Dense1x2::Light).light_color(unicode::Dense1x2::Dark).build();
    let _ = writeln!(io::stdout(), "{picture}\n{link}");
    Ok(ExitCode::SUCCESS)
}

/// Ends the chats in order, and says what it is waiting for where that takes its time. Whether all was read that was sent.
fn end(
    peer: &Peer,
    conversation: &mut Conversation,
    screen: &Screen,
    memory: &Memory,
    mailbox: &Receiver<Mail>,
) -> bool {
    let ending = peer.clone();
    let ended = thread::spawn(move || ending.shutdown());
    let started = Instant::now();
    let mut is_said = false;
    while !ended.is_finished() {
        // What still happens is still told: a text that came, or one that could not be sent.
        match mailbox.recv_timeout(QUEUE_POLL) {
            Ok(Mail::Event(event, taken)) => {
                let effects = conversation.event(event);
                for effect in effects {
                    match effect {
                        Effect::Show(line) => screen.show(line),
                        Effect::Remember { peer, known, replaces } => {
                            memory.remember(screen, &peer, known, replaces);
                        }
                        _ => {}
                    }
                }
                let _ = taken.send(());
            }
            Ok(_) => {}
            Err(_) if !is_said && started.elapsed() > QUIET_END => {
                is_said = true;
                let _ = writeln!(io::stderr(), "* waiting until what was sent is read; Ctrl-C ends at once");
            }
            Err(_) => {}
        }
    }
    ended.join().unwrap_or(false)
}

/// What reaches the main thread.
enum Mail {
    Line(String),
    /// A line from a program, and whom to tell that there is room for another.
    Input(String, SyncSender<()>),
    /// Lines that were pasted at once.
    Paste(String),
    /// An event, and whom to tell that it was served.
    Event(Event, SyncSender<()>),
    /// No more lines will come.
    EndOfInput,
    Signal,
}

/// Where it is kept who the peers are.
struct Memory {
    profile: Option<Profile>,
    /// The server's place in the list.
    place: String,
}

impl Memory {
    /// Remembers a peer. Where another program has seen somebody else under that name, and this was not the user's wish, that
    /// one stays known, and comes back.
    fn remember(&self, screen: &Screen, name: &str, known: Known, replaces: bool) -> Option<Known> {
        let mut other = None;
        self.change(screen, |peers| match peers.get(name, &self.place) {
            Some(seen) if !replaces && seen.identity != known.identity => other = Some(seen.clone()),
            Some(seen) if !replaces && seen.is_verified => {}
            _ => peers.insert(name, &self.place, known),
        });
        other
    }

    fn forget(&self, screen: &Screen, name: &str) {
        self.change(screen, |peers| {
            peers.remove(name, &self.place);
        });
    }

    fn change(&self, screen: &Screen, change: impl FnOnce(&mut KnownPeers)) {
        // Without a profile it is remembered as long as the program runs.
        let changed = self.profile.as_ref().map_or(Ok(()), |profile| profile.change_known_peers(change));
        if let Err(error) = changed {
            screen.show(Line::Notice(format!("who this is could not be kept: {error}")));
        }
    }
}

/// Does what is to be done; whether the program is to end.
fn carry_out(effects: Vec<Effect>, peer: &Peer, screen: &Screen, memory: &Memory) -> bool {
    for effect in effects {
        match effect {
            Effect::Connect(name) => peer.request(&name),
            Effect::Accept(name) => peer.accept(&name),
            Effect::Decline(name) => peer.decline(&name),
            Effect::Send { peer: name, text } => {
                peer.send(&name, &text);
            }
            Effect::Leave(name) => peer.leave(&name),
            Effect::Pin { peer: name, known } => peer.trust(&name, Some(known)),
            Effect::Remember { peer: name, known, replaces } => {
                let other = memory.remember(screen, &name, known.clone(), replaces);
                // Somebody else ends the chat, before a text goes out.
                peer.trust(&name, Some(other.unwrap_or(known)));
            }
            Effect::Forget(name) => {
                peer.trust(&name, None);
                memory.forget(screen, &name);
            }
            Effect::Show(line) => screen.show(line),
            Effect::Quit => return true,
        }
    }
    false
}

fn serve(conversation: &mut Conversation, peer: &Peer, screen: &Screen, memory: &Memory, mailbox: &Receiver<Mail>) {
    let mut held = None;
    for mail in mailbox {
        let mut served = None;
        let effects = match mail {
            Mail::Line(line) => conversation.command(Command::parse(&line)),
            Mail::Input(line, taken) => {
                held = Some(taken);
                conversation.command(Command::parse(&line))
            }
            Mail::Paste(text) => conversation.command(Command::Paste(text)),
            Mail::Event(event, taken) => {
                served = Some(taken);
                conversation.event(event)
            }
            Mail::EndOfInput => conversation.finish(),
            Mail::Signal => return,
        };
        if carry_out(effects, peer, screen, memory) {
            return;
        }
        // A program can write faster than a chat opens; a person cannot.
        let released = if conversation.has_room() { held.take() } else { None };
        for taken in [served, released].into_iter().flatten() {
            let _ = taken.send(());
        }
    }
}

/// Where lines are shown.
enum Screen {
    /// Messages on standard output, everything else on standard error.
    Plain,
    /// Above the prompt.
    Terminal(SyncSender<String>),
}

impl Screen {
    fn show(&self, line: Line) {
        match (self, line) {
            // Whoever closed our output does not want to know; the end of input or a signal ends the program.
            (Self::Plain, Line::Message(text)) => {
                let mut out = io::stdout().lock();
                let _ = writeln!(out, "{text}").and_then(|()| out.flush());
            }
            (Self::Plain, Line::Notice(text)) => {
                let _ = writeln!(io::stderr(), "* {text}");
            }
            (Self::Terminal(printer), Line::Message(text)) => {
                let _ = printer.send(text + "\n");
            }
            (Self::Terminal(printer), Line::Notice(text)) => {
                let _ = printer.send(format!("* {text}\n"));
            }
        }
    }
}

/// Starts to read lines at a prompt, and returns the screen above it.
fn interactive(mail: Sender<Mail>) -> rustyline::Result<Screen> {
    let config = rustyline::Config::builder().auto_add_history(true).build();
    let mut editor = Editor::<(), MemHistory>::with_history(config, MemHistory::new())?;
    let mut printer = editor.create_external_printer()?;
    let (screen, lines) = mpsc::sync_channel::<String>(PRINT_QUEUE);
    thread::spawn(move || {
        for line in lines {
            if printer.print(line).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        let mut interrupted: Option<Instant> = None;
        loop {
            match editor.readline(PROMPT) {
                Ok(line) if line.trim().is_empty() => interrupted = None,
                Ok(line) => {
                    interrupted = None;
                    let is_end = Command::parse(&line) == Command::Quit;
                    // A bracketed paste comes as one string. It is a text, whatever its lines look like.
                    let line = match line.contains(['\n', '\r']) {
                        true => Mail::Paste(line.replace("\r\n", "\n").replace('\r', "\n")),
                        false => Mail::Line(line),
                    };
                    if mail.send(line).is_err() || is_end {
                        return;
                    }
                }
                // Ctrl-C clears the line; two in quick succession end the program, as many expect of it.
                Err(ReadlineError::Interrupted) => {
                    if interrupted.is_some_and(|before| before.elapsed() < TWICE) {
                        break;
                    }
                    interrupted = Some(Instant::now());
                    println!("* Ctrl-C again, Ctrl-D or /quit ends the program");
                }
                Err(_) => break,
            }
        }
        let _ = mail.send(Mail::EndOfInput);
    });
    Ok(Screen::Terminal(screen))
}

/// Starts to read lines from standard input, whatever it is.
fn plain(mail: Sender<Mail>, peer: Peer) {
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Ok(Some(line)) = read_line(&mut input) {
            let (taken, has_room) = mpsc::sync_channel(1);
            if mail.send(Mail::Input(line, taken)).is_err() || has_room.recv().is_err() {
                return;
            }
            // No faster than it goes out.
            while peer.queued_bytes() > MAX_QUEUED {
                thread::sleep(QUEUE_POLL);
            }
        }
        let _ = mail.send(Mail::EndOfInput);
    });
}

/// The next line without its end. What is longer than [`MAX_LINE`] comes in several, and what is not UTF-8 is replaced.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let count = io::Read::take(&mut *input, MAX_LINE as u64).read_until(b'\n', &mut line)?;
    if count == 0 {
        return Ok(None);
    }
    // Where one text ends and the next begins, no character is cut in two.
    while line.len() >= MAX_LINE && ends_within_character(&line) {
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

/// The username of the last time, or the one that the user chooses now.
fn kept_name(is_interactive: bool) -> Result<Username, Failure> {
    let profile = Profile::from_env(|name| std::env::var(name).ok()).map_err(Failure::setting)?;
    if let Some(name) = profile.name().map_err(Failure::setting)? {
        return Ok(name);
    }
    if !is_interactive {
        return Err(Failure::setting("no username yet; give one with --name or LOWKEY_NAME".to_owned()));
    }
    let mut editor = DefaultEditor::new().map_err(Failure::system)?;
    loop {
        let line =
            editor.readline("Choose a username (3 to 20 of a-z, A-Z, 0-9 and _): ").map_err(|error| match error {
                ReadlineError::Eof | ReadlineError::Interrupted => {
                    Failure::setting("no username was chosen".to_owned())
                }
                error => Failure::system(error),
            })?;
        match line.trim().parse::<Username>() {
            Ok(name) => {
                profile.keep_name(&name).map_err(Failure::system)?;
                println!("Kept in {}; --name uses another one.", profile.path().display());
                return Ok(name);
            }
            Err(reason) => println!("{reason}"),
        }
    }
}

/// A first signal ends the program in order, a second one at once. Until the flag that comes back is set there is nothing to
/// end in order.
fn watch_signals(mail: Sender<Mail>, terminal: Terminal) -> io::Result<Arc<AtomicBool>> {
    let is_second = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_shutdown(signal, 1, is_second.clone())?;
        flag::register(signal, is_second.clone())?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let is_serving = Arc::new(AtomicBool::new(false));
    let serving = is_serving.clone();
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            if !serving.load(Ordering::SeqCst) {
                terminal.restore();
                std::process::exit(1);
            }
            let _ = mail.send(Mail::Signal);
        }
    });
    Ok(is_serving)
}

/// The terminal's modes as they were at the start. A signal can end the program in the middle of a line, when rustyline
/// has the terminal in raw mode and gets no chance to undo it.
#[derive(Clone)]
struct Terminal(Option<Arc<Mutex<termios::Termios>>>);

impl Terminal {
    fn remember(is_interactive: bool) -> Self {
        let modes = if is_interactive { termios::tcgetattr(io::stdin()).ok() } else { None };
        Self(modes.map(|modes| Arc::new(Mutex::new(modes))))
    }

    fn restore(&self) {
        if let Some(modes) = &self.0
            && let Ok(modes) = modes.lock()
        {
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &modes);
            // And out of bracketed paste, which rustyline has asked for.
            let _ = write!(io::stdout(), "\x1b[?2004l").and_then(|()| io::stdout().flush());
        }
    }
}

/// rustyline prints above the prompt on terminals that can move the cursor.
fn has_capable_terminal() -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    !matches!(term.as_str(), "" | "dumb" | "cons25" | "emacs")
}

const PROMPT: &str = "> ";

/// Lines that may wait for the terminal.
const PRINT_QUEUE: usize = 256;

/// Two Ctrl-C within this time are one wish.
const TWICE: Duration = Duration::from_secs(2);

/// Bytes that may wait to be sent before no more are read from a pipe, and how often that is looked at.
const MAX_QUEUED: usize = 1024 * 1024;
const QUEUE_POLL: Duration = Duration::from_millis(5);

/// How long the end may take before a word is said of it.
const QUIET_END: Duration = Duration::from_secs(1);

/// The longest line taken from standard input at once, in bytes, but for the end of its last character. In either text format
/// it fits into the 64 KiB that every WebRTC takes as a message (RFC 8841, section 6.1).
const MAX_LINE: usize = 48_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whatever_they_hold() {
        let long = "x".repeat(MAX_LINE);
        let bytes = [b"one\r\n\n\xff\xfe\n".as_slice(), long.as_bytes(), b"y\nlast"].concat();
        let mut input = bytes.as_slice();
        let lines: Vec<String> = std::iter::from_fn(|| read_line(&mut input).unwrap()).collect();
        assert_eq!(lines, ["one", "", "\u{fffd}\u{fffd}", &long, "y", "last"]);
    }

    #[test]
    fn no_character_is_cut_where_a_long_line_is() {
        for character in ["é", "世", "👩"] {
            for shift in 1..4 {
                let line = "x".repeat(MAX_LINE - shift) + &character.repeat(4);
                let mut input = line.as_bytes();
                let texts: Vec<String> = std::iter::from_fn(|| read_line(&mut input).unwrap()).collect();
                assert_eq!((texts.len(), texts.concat()), (2, line));
            }
        }
        // What is cut off by the end of input, or is no character at all, is waited for by nobody.
        for end in [&b"\xf0\x9f"[..], b"\xff\xff"] {
            let bytes = [&vec![b'x'; MAX_LINE - 1], end].concat();
            let mut input = bytes.as_slice();
            let texts: Vec<String> = std::iter::from_fn(|| read_line(&mut input).unwrap()).collect();
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
