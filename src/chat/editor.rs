//! The thread that reads lines at the prompt: rustyline edits them, and what it would paint the [`Terminal`] shows.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use rustyline::completion::{Completer, FilenameCompleter, Pair, longest_common_prefix};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, Helper};

use super::command::{Command, complete::complete};
use super::mail::MainMail;
use super::screen::harmless;
use super::terminal::Terminal;
use super::wrap::LINE_BREAK;
use crate::profile::History;
use crate::threads;

/// Reads lines at the prompt of a terminal.
pub struct LineEditor {
    editor: Editor<Assistant, MemHistory>,
    terminal: Terminal,
    /// Tells whether the last wish to end the program was served.
    quitting: Option<Receiver<()>>,
}

impl LineEditor {
    /// An editor for what is typed on a terminal.
    ///
    /// # Errors
    /// There is no terminal.
    pub fn new(terminal: Terminal) -> io::Result<Self> {
        // What it paints is seen by nobody; the styles are the hooks by which we learn of it.
        let config = Config::builder().color_mode(ColorMode::Forced).completion_type(CompletionType::List).build();
        let editor = Editor::with_history(config, MemHistory::new()).map_err(|error| match error {
            ReadlineError::Io(error) => error,
            ReadlineError::Errno(number) => io::Error::from_raw_os_error(number as i32),
            _ => ErrorKind::Unsupported.into(),
        });
        let mut editor = editor?;
        editor.set_helper(Some(Assistant::new(terminal.clone())));
        Ok(Self { editor, terminal, quitting: None })
    }

    /// Asks a question; nothing where there will be no answer.
    pub fn ask(&mut self, question: &str) -> Option<String> {
        self.terminal.set_question(question);
        let answer = self.editor.readline("").ok();
        match &answer {
            Some(answer) => self.terminal.enter(answer, Some(question)),
            None => self.terminal.leave(),
        }
        answer
    }

    /// Begins to read lines. `history` is where lines of earlier starts are, and whether texts are kept there too, and
    /// not commands alone.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(mut self, mail: Sender<MainMail>, history: Option<(History, bool)>) -> io::Result<()> {
        for line in history.iter().flat_map(|(history, _)| history.lines()) {
            // It is in memory, where nothing fails.
            let _ = self.editor.add_history_entry(line);
        }
        threads::spawn("lines", move || self.read_lines(history, &mail)).map(drop)
    }

    fn read_lines(mut self, history: Option<(History, bool)>, mail: &Sender<MainMail>) {
        let mut interrupted: Option<Instant> = None;
        loop {
            match self.editor.readline("") {
                Ok(line) if line.trim().is_empty() => interrupted = None,
                Ok(line) => {
                    interrupted = None;
                    self.terminal.enter(&line, None);
                    let _ = self.editor.add_history_entry(&line);
                    if let Some((history, keeps_texts)) = &history
                        && !line.contains('\n')
                        && !line.contains(LINE_BREAK)
                        && (*keeps_texts || Command::is_for_history(&line))
                    {
                        history.add(&line);
                    }
                    if !self.give(mail, command_of(&line)) {
                        return;
                    }
                }
                // Ctrl-C clears the line; two in quick succession end the program, as many expect of it.
                Err(ReadlineError::Interrupted) => {
                    self.terminal.leave();
                    if interrupted.take().is_some_and(|before| before.elapsed() < TWICE) {
                        if !self.give(mail, Command::Quit) {
                            return;
                        }
                        continue;
                    }
                    interrupted = Some(Instant::now());
                    self.terminal.note("Ctrl-C again, Ctrl-D or /quit ends the program");
                }
                Err(ReadlineError::Eof) => {
                    if !self.give(mail, Command::Quit) {
                        return;
                    }
                }
                Err(_) => {
                    let _ = mail.send(MainMail::EndOfInput);
                    return;
                }
            }
        }
    }

    /// Has a command served, so that the next prompt shows what it has changed, and returns whether there is to be one.
    /// A screen that is behind does not keep the keyboard waiting.
    fn give(&mut self, mail: &Sender<MainMail>, command: Command) -> bool {
        let (is_quit, before) = (command == Command::Quit, self.quitting.take());
        let (taken, served) = mpsc::sync_channel(1);
        let is_sent = mail.send(MainMail::Command(command, Some(taken))).is_ok();
        // The main thread is at something that does not end.
        if is_quit && before.is_some_and(|before| before.try_recv() == Err(TryRecvError::Empty)) {
            self.terminal.interrupt();
        }
        let is_next = is_sent && served.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Disconnected);
        self.quitting = Some(served).filter(|_| is_quit);
        is_next
    }
}

/// Lines that were pasted are a text, whatever they look like. Lines that were written are what the first one is.
fn command_of(line: &str) -> Command {
    let text = line.replace(LINE_BREAK, "\n");
    if line.contains('\n') { Command::Paste(text) } else { Command::parse(&text) }
}

/// What rustyline asks while a line is edited.
struct Assistant {
    terminal: Terminal,
    /// What stands in place of the prompt, as while the history is searched.
    search: RefCell<Option<String>>,
    files: FilenameCompleter,
}

impl Assistant {
    fn new(terminal: Terminal) -> Self {
        Self { terminal, search: RefCell::default(), files: FilenameCompleter::new() }
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    /// Completes what all candidates have in common. The candidates themselves are shown by us.
    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let is_path = |command: &&str| line.starts_with(*command) && at >= command.len();
        let (start, candidates) = if WITH_PATHS.iter().any(is_path) {
            self.files.complete_path(line, at)?
        } else {
            let (start, candidates) = complete(&line[..at], &self.terminal.names());
            let pair = |candidate: String| Pair { display: candidate.trim_end().to_owned(), replacement: candidate };
            (start, candidates.into_iter().map(pair).collect())
        };
        if candidates.len() < 2 {
            return Ok((start, candidates));
        }
        let shown: Vec<_> = candidates.iter().map(|candidate| harmless(&candidate.display)).collect();
        self.terminal.note(&shown.join("  "));
        let common = longest_common_prefix(&candidates).filter(|common| common.len() > at - start);
        let common = common.map(|common| Pair { display: common.to_owned(), replacement: common.to_owned() });
        Ok((start, common.into_iter().collect()))
    }
}

impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, is_default: bool) -> Cow<'b, str> {
        self.search.replace((!is_default).then(|| harmless(prompt).into_owned()));
        Cow::Borrowed(prompt)
    }

    /// Asked with each line that is painted, after its prompt.
    fn highlight<'l>(&self, line: &'l str, at: usize) -> Cow<'l, str> {
        self.terminal.edit(self.search.borrow().clone(), line, at);
        Cow::Borrowed(line)
    }

    /// Every change is painted as a whole.
    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        true
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Validator for Assistant {}

impl Helper for Assistant {}

/// Commands behind which the Tab key completes paths: files to offer, or a program to run.
const WITH_PATHS: [&str; 2] = ["/file ", "/set notify "];

/// Two Ctrl-C within this time are one wish.
const TWICE: Duration = Duration::from_secs(2);

/// How long the next prompt waits for what a line has changed.
const PATIENCE: Duration = Duration::from_millis(500);
