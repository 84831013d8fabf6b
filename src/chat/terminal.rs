//! The prompt on a terminal: rustyline, with what it completes and shows, and lines above it.
//!
//! rustyline takes a prompt of one width for as long as it reads a line, and prints lines of others above it. So whom a line
//! goes to is settled when the prompt begins (nothing but the user's own command changes it), and what changes by itself, such as
//! whether all has arrived, stands in a gutter of fixed width, which is painted anew in place.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::termios::{self, SetArg};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, ExternalPrinter, Helper};

use super::client::{self, Mail};
use super::command::{self, Command};
use super::report::Prompt;
use super::screen::{self, Look};
use crate::profile::History;

/// Lines above the prompt, and what the prompt shows.
pub struct Terminal {
    lines: SyncSender<String>,
    shown: Arc<Mutex<Shown>>,
}

/// What the prompt and the Tab key show.
#[derive(Default)]
struct Shown {
    prompt: Prompt,
    names: Vec<String>,
    look: Look,
}

impl Terminal {
    /// Starts to read lines at a prompt, and to print. `history` is where lines of earlier starts are, and whether texts are kept
    /// there too, and not commands alone.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn start(mail: Sender<Mail>, look: Look, history: Option<(History, bool)>) -> rustyline::Result<Self> {
        let shown = Arc::new(Mutex::new(Shown { look, ..Shown::default() }));
        // Colours are ours to decide: without them, the prompt is still painted by us.
        let config = Config::builder()
            .color_mode(ColorMode::Forced)
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .build();
        let mut editor = Editor::<Assistant, MemHistory>::with_history(config, MemHistory::new())?;
        editor.set_helper(Some(Assistant::new(shown.clone())));
        for line in history.iter().flat_map(|(history, _)| history.lines()) {
            editor.add_history_entry(line)?;
        }
        let mut printer = editor.create_external_printer()?;
        let (lines, to_print) = mpsc::sync_channel::<String>(PRINT_QUEUE);
        thread::spawn(move || {
            for line in to_print {
                if printer.print(line).is_err() {
                    break;
                }
            }
        });
        let prompts = shown.clone();
        thread::spawn(move || read_lines(editor, &prompts, history, &mail));
        Ok(Self { lines, shown })
    }

    /// Shows lines above the prompt.
    pub fn print(&self, text: &str) {
        let _ = self.lines.send(format!("{text}\n"));
    }

    /// Shows what has changed in the prompt.
    pub fn update(&self, prompt: Prompt, names: Vec<String>) {
        let mut shown = lock(&self.shown);
        shown.names = names;
        if shown.prompt != prompt {
            shown.prompt = prompt;
            drop(shown);
            // If there is much to print, that paints the prompt too.
            let _ = self.lines.try_send(REPAINT.to_owned());
        }
    }

    /// Rings the bell.
    pub fn ring(&self) {
        let _ = self.lines.try_send(format!("\x07{REPAINT}"));
    }

    /// Changes how things look from now on.
    pub fn set_look(&self, look: Look) {
        lock(&self.shown).look = look;
    }
}

fn read_lines(
    mut editor: Editor<Assistant, MemHistory>,
    shown: &Mutex<Shown>,
    history: Option<(History, bool)>,
    mail: &Sender<Mail>,
) {
    let mut interrupted: Option<Instant> = None;
    loop {
        let prompt = {
            let shown = lock(shown);
            if let Some(assistant) = editor.helper() {
                assistant.peer.replace(shown.prompt.peer.clone());
            }
            screen::prompt(&shown.prompt, Look::default(), None)
        };
        match editor.readline(&prompt) {
            Ok(line) if line.trim().is_empty() => interrupted = None,
            Ok(line) => {
                interrupted = None;
                let _ = editor.add_history_entry(&line);
                let is_one_line = !line.contains(['\n', '\r']);
                if let Some((history, keeps_texts)) = &history
                    && is_one_line
                    && (*keeps_texts || Command::is_for_history(&line))
                {
                    history.add(&line);
                }
                // A bracketed paste comes as one string. It is a text, whatever its lines look like.
                let command = match is_one_line {
                    true => Command::parse(&line),
                    false => Command::Paste(line.replace("\r\n", "\n").replace('\r', "\n")),
                };
                let is_end = command == Command::Quit;
                let (taken, served) = mpsc::sync_channel(1);
                if mail.send(Mail::Command(command, Some(taken))).is_err() || is_end {
                    return;
                }
                // The next prompt shows what the line has changed. A screen that is behind does not keep the keyboard waiting.
                if served.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
            // Ctrl-C clears the line; two in quick succession end the program, as many expect of it.
            Err(ReadlineError::Interrupted) => {
                if interrupted.is_some_and(|before| before.elapsed() < TWICE) {
                    break;
                }
                interrupted = Some(Instant::now());
                let _ = writeln!(io::stdout(), "* Ctrl-C again, Ctrl-D or /quit ends the program");
            }
            Err(_) => {
                let _ = mail.send(Mail::EndOfInput);
                return;
            }
        }
    }
    let _ = mail.send(Mail::Command(Command::Quit, None));
}

/// What rustyline asks while a line is edited.
struct Assistant {
    shown: Arc<Mutex<Shown>>,
    /// Whom the line that is being edited goes to.
    peer: RefCell<Option<String>>,
    /// The line was entered, and is painted for the last time.
    is_entered: Cell<bool>,
    files: FilenameCompleter,
}

impl Assistant {
    fn new(shown: Arc<Mutex<Shown>>) -> Self {
        Self { shown, peer: RefCell::default(), is_entered: Cell::default(), files: FilenameCompleter::new() }
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if line.starts_with(FILE_SETTING) && at >= FILE_SETTING.len() {
            return self.files.complete_path(line, at);
        }
        let (start, candidates) = command::complete(&line[..at], &lock(&self.shown).names);
        let pair = |candidate: String| Pair { display: candidate.trim_end().to_owned(), replacement: candidate };
        Ok((start, candidates.into_iter().map(pair).collect()))
    }
}

impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, is_default: bool) -> Cow<'b, str> {
        // Such as the one of a search in the history.
        if !is_default {
            return Cow::Borrowed(prompt);
        }
        let shown = lock(&self.shown);
        let peer = self.peer.borrow().clone();
        let current = match peer == shown.prompt.peer {
            true => shown.prompt.clone(),
            false => Prompt { peer, ..Prompt::default() },
        };
        let time = self.is_entered.get().then(client::clock_time);
        Cow::Owned(screen::prompt(&current, shown.look, time.as_deref()))
    }

    /// Asked before a line is painted; `ForcedRefresh` comes when it was entered.
    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.is_entered.set(kind == CmdKind::ForcedRefresh);
        true
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Validator for Assistant {}

impl Helper for Assistant {}

/// The terminal's modes as they were at the start. A signal can end the program in the middle of a line, when rustyline
/// has the terminal in raw mode and gets no chance to undo it.
#[derive(Clone)]
pub struct Modes(Option<Arc<Mutex<termios::Termios>>>);

impl Modes {
    /// Remembers them, and undoes a change of them also when a thread panics.
    pub fn remember(is_interactive: bool) -> Self {
        let modes = if is_interactive { termios::tcgetattr(io::stdin()).ok() } else { None };
        let modes = Self(modes.map(|modes| Arc::new(Mutex::new(modes))));
        if is_interactive {
            let (before, report) = (modes.clone(), std::panic::take_hook());
            std::panic::set_hook(Box::new(move |info| {
                before.restore();
                report(info);
            }));
        }
        modes
    }

    /// Sets them as they were.
    pub fn restore(&self) {
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
pub fn is_capable() -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    !matches!(term.as_str(), "" | "dumb" | "cons25" | "emacs")
}

fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Printed above the prompt, leaves no trace but that the prompt is painted anew: one line up, and down again.
const REPAINT: &str = "\x1b[A\n";

/// After it stands a command, which may begin with a file.
const FILE_SETTING: &str = "/set notify ";

/// Lines that may wait for the terminal.
const PRINT_QUEUE: usize = 256;

/// Two Ctrl-C within this time are one wish.
const TWICE: Duration = Duration::from_secs(2);

/// How long the next prompt waits for what a line has changed.
const PATIENCE: Duration = Duration::from_millis(500);
