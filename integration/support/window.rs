//! A program on a pseudo-terminal, whose window can be given another size: what it shows is read as a person would see
//! it, and it answers as terminals do.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::thread;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use vt100::{Callbacks, Screen};

use crate::world::{Folder, Server, User, path, until};

/// What a terminal does with rows that are too long for a window that has become narrower.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// Cuts them, and says nothing when it is asked.
    Cuts,
    /// Breaks them anew, and joins what it has broken.
    Breaks,
}

/// A program on a terminal.
pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    keyboard: Arc<Mutex<Box<dyn Write + Send>>>,
    pub output: Arc<Mutex<Vec<u8>>>,
    window: Arc<Mutex<Window>>,
    kind: Kind,
    /// The screen before it was resized, and how much was written then: what does not fit into a narrow window is not
    /// lost.
    before: Mutex<Option<(usize, Screen)>>,
}

type Window = vt100::Parser<Questions>;

/// How often the program has asked where the cursor is, and was not answered.
#[derive(Default)]
struct Questions(usize);

impl Callbacks for Questions {
    fn unhandled_csi(&mut self, _: &mut Screen, _: Option<u8>, _: Option<u8>, params: &[&[u16]], c: char) {
        if c == 'n' && params == [[6]] {
            self.0 += 1;
        }
    }
}

impl Terminal {
    /// Starts `lowkey` with a home of its own in a window of 24 rows and 80 columns.
    pub fn start(home: &Folder, arguments: &[&str]) -> Self {
        Self::run(lowkey(home, arguments))
    }

    pub fn run(command: CommandBuilder) -> Self {
        Self::in_window(command, 80, Kind::Cuts)
    }

    /// Starts a program in a window of so many columns.
    pub fn in_window(command: CommandBuilder, cols: u16, kind: Kind) -> Self {
        let size = PtySize { rows: ROWS, cols, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let child = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let keyboard = Arc::new(Mutex::new(pair.master.take_writer().unwrap()));
        let output = Arc::new(Mutex::new(Vec::new()));
        let window = Arc::new(Mutex::new(vt100::Parser::new_with_callbacks(ROWS, cols, 1000, Questions::default())));
        let (written, shown, typed) = (output.clone(), window.clone(), keyboard.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                written.lock().unwrap().extend_from_slice(&buffer[..length]);
                let mut window = shown.lock().unwrap();
                window.process(&buffer[..length]);
                if kind == Kind::Breaks {
                    let (row, column) = window.screen().cursor_position();
                    for _ in 0..std::mem::take(&mut window.callbacks_mut().0) {
                        let _ = write!(typed.lock().unwrap(), "\x1b[{};{}R", row + 1, column + 1);
                    }
                }
            }
        });
        Self { master: pair.master, child, keyboard, output, window, kind, before: Mutex::new(None) }
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.type_bytes(keys.as_bytes());
    }

    pub fn type_bytes(&mut self, keys: &[u8]) {
        let mut keyboard = self.keyboard.lock().unwrap();
        keyboard.write_all(keys).unwrap();
        keyboard.flush().unwrap();
    }

    /// Gives the window another width.
    pub fn resize(&self, cols: u16) {
        let mut window = self.window.lock().unwrap();
        match self.kind {
            Kind::Cuts => window.screen_mut().set_size(ROWS, cols),
            Kind::Breaks => {
                let written = self.output.lock().unwrap().len();
                let mut before = self.before.lock().unwrap();
                if before.as_ref().is_none_or(|(then, _)| *then != written) {
                    *before = Some((written, window.screen().clone()));
                }
                *window = broken_anew(&before.as_ref().unwrap().1, cols);
            }
        }
        let size = PtySize { rows: ROWS, cols, pixel_width: 0, pixel_height: 0 };
        self.master.resize(size).unwrap();
    }

    /// What the screen shows, without the empty rest of each line.
    pub fn screen(&self) -> String {
        let window = self.window.lock().unwrap();
        let screen = window.screen();
        let rows: Vec<String> = screen.rows(0, screen.size().1).map(|row| row.trim_end().to_owned()).collect();
        rows.join("\n").trim_end().to_owned()
    }

    /// In which row and column the cursor is, counted from 0.
    pub fn cursor(&self) -> (u16, u16) {
        self.window.lock().unwrap().screen().cursor_position()
    }

    /// Waits until the screen shows `part`.
    pub fn shows(&self, part: &str) {
        until(part, || self.screen().contains(part).then_some(()));
    }

    /// Waits until the last line of the screen is this one, but for the state of the chat in front of it.
    pub fn last_line(&self, line: &str) {
        let state = ['+', '…', '✓', '×', ' '];
        until(line, || (self.screen().lines().last()?.trim_end().trim_start_matches(state) == line).then_some(()));
    }

    pub fn signal(&self, signal: &str) {
        let id = self.child.process_id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }

    /// Waits for the program's end and returns its exit code.
    pub fn wait(&mut self) -> u32 {
        until("the program ends", || self.child.try_wait().unwrap()).exit_code()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Whether the terminal echoes what is typed and hands it on by the line, as shells expect it.
    pub fn is_cooked(&self) -> bool {
        let flags = format!("{:?}", self.master.get_termios().unwrap().local_flags);
        flags.contains("ECHO") && flags.contains("ICANON")
    }
}

/// The command `lowkey` with lines that do not change by the minute; a test of its own has times, colours and the bell.
pub fn lowkey(home: &Folder, arguments: &[&str]) -> CommandBuilder {
    let mut command = CommandBuilder::new(path("lowkey"));
    command.args(arguments);
    in_home(&mut command, home);
    command
}

/// The environment that tests have.
pub fn in_home(command: &mut CommandBuilder, home: &Folder) {
    command.env_clear();
    command.env("TERM", "xterm");
    command.env("HOME", home.path());
    command.env("LOWKEY_TIMES", "false");
    command.env("LOWKEY_BELL", "false");
    command.env("NO_COLOR", "1");
    command.env("PATH", std::env::var("PATH").unwrap_or_default());
}

/// `lowkey` as alice, and bob on the library, in an open chat.
pub fn chat(server: &Server, home: &Folder) -> (Terminal, User) {
    chat_in(server, lowkey(home, &["--server", &server.url(), "--name", "alice"]), 80, Kind::Cuts)
}

/// The same in a window of so many columns.
pub fn chat_in(server: &Server, command: CommandBuilder, columns: u16, kind: Kind) -> (Terminal, User) {
    let mut bob = server.peer("bob");
    let mut terminal = Terminal::in_window(command, columns, kind);
    terminal.shows("online");
    terminal.type_keys("/connect bob\r");
    bob.answer("alice");
    terminal.shows("connected with bob");
    (terminal, bob)
}

/// The same lines in a window of another width: what was broken is joined, and what is too long is broken.
fn broken_anew(screen: &Screen, columns: u16) -> Window {
    let (cursor_row, cursor_column) = screen.cursor_position();
    let mut anew = vt100::Parser::new_with_callbacks(ROWS, columns, 1000, Questions::default());
    let rows: Vec<String> = screen.rows(0, screen.size().1).collect();
    let last = rows.iter().rposition(|row| !row.trim_end().is_empty()).unwrap_or(0).max(cursor_row.into());
    for (index, row) in rows.iter().enumerate().take(last + 1) {
        let is_joined = screen.row_wrapped(index.try_into().unwrap());
        if index == usize::from(cursor_row) {
            let at = row.char_indices().nth(cursor_column.into()).map_or(row.len(), |(at, _)| at);
            let spaces = usize::from(cursor_column).saturating_sub(row.chars().count());
            anew.process(&row.as_bytes()[..at]);
            anew.process(" ".repeat(spaces).as_bytes());
            anew.process(b"\x1b7");
            anew.process(row[at..].trim_end().as_bytes());
        } else {
            let row = if is_joined { row.as_str() } else { row.trim_end() };
            anew.process(row.as_bytes());
        }
        if index < last && !is_joined {
            anew.process(b"\r\n");
        }
    }
    anew.process(b"\x1b8");
    anew
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the screen:\n{}\n", self.screen());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ROWS: u16 = 24;
