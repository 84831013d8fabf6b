//! The terminal client: a prompt when stdin and stdout are a terminal, plain lines or JSON when not. It carries commands to the
//! [`conversation`], events of the peer too, and does what comes back.
//!
//! One thread reads lines, one waits for the peer's events, one for signals; all send to one channel, and the main thread
//! serves it. On a terminal a fourth thread prints: rustyline's printer takes one line and blocks until the prompt is
//! ready for it, which must not keep anybody else waiting.

pub mod command;
pub mod conversation;
pub mod json;
mod notify;
pub mod people;
pub mod report;
pub mod screen;
mod terminal;

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use qrcode::QrCode;
use qrcode::render::unicode;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::options::{self, PeerOptions};
use crate::peer::trust::{Known, KnownPeers, Link};
use crate::peer::{Event, Peer, ServerUrlError};
use crate::profile::{Profile, Username};
use command::{Command, SETTINGS};
use conversation::{Accepts, Conversation, Effect, Failure, Script, Until};
use notify::Notifier;
use people::People;
use report::Report;
use screen::Look;
use terminal::{Modes, Terminal};

/// Private chat from peer to peer, in a terminal.
///
/// On the first start it asks for a username and keeps it. Type /help for what can be typed then. Without a terminal it
/// reads lines from standard input, writes messages to standard output, and everything else to standard error.
#[derive(Debug, Parser)]
#[command(name = "lowkey", version, max_term_width = 100, subcommand_precedence_over_arg = true)]
#[command(after_help = EXIT_CODES)]
struct Options {
    #[command(flatten)]
    peer: PeerOptions,
    #[command(flatten)]
    screen: ScreenOptions,
    /// Speak JSON: an object a line, events to standard output and commands from standard input
    #[arg(long, global = true)]
    json: bool,
    /// Run this command, or send this text, instead of reading standard input; may be repeated
    #[arg(short = 'e', long = "execute", value_name = "LINE")]
    execute: Vec<String>,
    /// End when this has happened and there is nothing more to read
    #[arg(long, value_enum, global = true)]
    until: Option<Until>,
    /// Give up after so many seconds, with exit code 6
    #[arg(long, value_name = "SECONDS", global = true)]
    timeout: Option<u64>,
    /// Print your link, and the same as a QR code for whoever stands beside you, and end
    #[arg(long)]
    qr: bool,
    /// Call this user at once, by name or by a link, which names the server too
    #[arg(value_name = "PEER")]
    call: Option<String>,
    #[command(subcommand)]
    task: Option<Task>,
}

/// What to do other than to chat.
#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Send a text and end when it has arrived
    Send {
        /// To this user, by name or by a link
        peer: String,
        /// The text; without it, all of standard input
        text: Vec<String>,
    },
    /// Take calls without asking, print what comes, and do what is read
    Listen {
        /// Only take calls of this user; may be repeated
        #[arg(long, value_name = "PEER")]
        from: Vec<String>,
    },
}

/// How things look and sound.
#[derive(Debug, Clone, clap::Args)]
struct ScreenOptions {
    /// Ring the terminal's bell when a text or a call comes
    #[arg(long, env = "LOWKEY_BELL", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    bell: bool,
    /// Show the time in front of each line
    #[arg(long, env = "LOWKEY_TIMES", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    times: bool,
    /// Run this command by the shell when a text or a call comes: what it is stands on its standard input, as JSON
    #[arg(long, env = "LOWKEY_NOTIFY", value_name = "COMMAND")]
    notify: Option<String>,
    /// Give the texts themselves to that command too
    #[arg(long, env = "LOWKEY_NOTIFY_TEXT", value_parser = clap::builder::FalseyValueParser::new())]
    notify_text: bool,
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
        Err(Refusal { code, reason }) => {
            eprintln!("lowkey: {reason}");
            ExitCode::from(code)
        }
    }
}

/// Why the program does not start.
struct Refusal {
    code: u8,
    reason: String,
}

impl Refusal {
    fn setting(reason: impl Into<String>) -> Self {
        Self { code: 2, reason: reason.into() }
    }

    fn system(error: impl std::fmt::Display) -> Self {
        Self { code: 1, reason: error.to_string() }
    }
}

fn run(mut options: Options) -> Result<ExitCode, Refusal> {
    let is_script = options.json || options.task.is_some() || !options.execute.is_empty() || options.until.is_some();
    let is_interactive =
        !is_script && io::stdin().is_terminal() && io::stdout().is_terminal() && terminal::is_capable();
    let modes = Modes::remember(is_interactive);
    let (mail, mailbox) = mpsc::channel();
    let is_serving = watch_signals(mail.clone(), modes.clone()).map_err(Refusal::system)?;
    let name = match &options.peer.name {
        Some(name) => name.clone(),
        None => kept_name(is_interactive)?,
    };
    let called = match &options.task {
        Some(Task::Send { peer, .. }) => Some(peer),
        _ => options.call.as_ref(),
    };
    let link = called.filter(|call| call.starts_with("lowkey://")).map(|link| link.parse::<Link>());
    let server = match link.transpose().map_err(Refusal::setting)? {
        Some(link) => link.server().parse().map_err(|error: ServerUrlError| Refusal::setting(error.to_string()))?,
        None => options.peer.server.clone(),
    };
    let mut settings = options.peer.settings(name.as_str()).map_err(Refusal::setting)?;
    let memory = Memory { profile: Profile::from_env(|name| std::env::var(name).ok()).ok(), place: server.place() };
    let known = memory.known_peers()?;
    settings.known = known.at(&memory.place).map(|(name, known)| (name, known.clone())).collect();
    let identity = settings.identity.as_ref().map(|identity| identity.public());
    let today = jiff::Zoned::now().date().to_string();
    let people = People::new(name.as_str(), identity, &memory.place, server.is_plain(), known, &today);
    if options.qr {
        return print_qr(&people);
    }
    let script = Script {
        until: options.until.or(matches!(options.task, Some(Task::Send { .. })).then_some(Until::Delivered)),
        accepts: match &options.task {
            Some(Task::Listen { from }) if from.is_empty() => Accepts::All,
            Some(Task::Listen { from }) => Accepts::Only(from.clone()),
            _ => Accepts::None,
        },
    };
    let first = first_commands(&mut options)?;
    let conversation = Conversation::new(people, memory.blocked()?, script);
    let (peer, events) = Peer::connect_with(server, name.as_str(), settings).map_err(Refusal::system)?;
    is_serving.store(true, Ordering::SeqCst);
    let look = Look {
        has_times: options.screen.times,
        has_color: std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()),
    };
    let screen = if is_interactive {
        let history = memory.profile.as_ref().map(|profile| (profile.history(), false));
        Screen::Terminal(Terminal::start(mail.clone(), look, history).map_err(Refusal::system)?)
    } else if options.json {
        Screen::Json
    } else {
        Screen::Plain
    };
    let bells = Bells {
        rings: options.screen.bell,
        command: options.screen.notify.clone(),
        with_text: options.screen.notify_text,
        notifier: Notifier::default(),
    };
    let mut client = Client { conversation, peer, screen, memory, look, bells };
    if is_interactive || options.json {
        client.screen.show(&Report::Started { name: name.to_string() }, client.look);
    }
    let is_ending = first.into_iter().any(|command| {
        let effects = client.conversation.command(command);
        client.carry_out(effects)
    });
    let is_listening = matches!(options.task, Some(Task::Listen { .. }));
    if !is_interactive {
        let has_all = matches!(options.task, Some(Task::Send { .. })) || !options.execute.is_empty();
        // Whoever listens does so for ever, if it is not said until when.
        let is_finite = !is_listening || options.until.is_some();
        read_input(mail.clone(), client.peer.clone(), options.json, has_all, is_finite);
    }
    if let Some(seconds) = options.timeout {
        let mail = mail.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(seconds));
            let _ = mail.send(Mail::Timeout);
        });
    }
    thread::spawn(move || {
        for event in events {
            // Waits while the screen is behind, and with it the peer and in the end whoever sends.
            let (taken, done) = mpsc::sync_channel(0);
            if mail.send(Mail::Event(event, taken)).is_err() || done.recv().is_err() {
                break;
            }
        }
    });
    let is_timed_out = !is_ending && client.serve(&mailbox) == End::Timeout;
    modes.restore();
    let is_all_read = client.end(&mailbox);
    // A script wants to know whether all was sent and read; a person has seen it.
    if is_interactive {
        return Ok(ExitCode::SUCCESS);
    }
    if !is_all_read {
        let words = "what was sent last may not have been read".to_owned();
        client.screen.show(&Report::Notice(words), client.look);
    }
    Ok(match client.conversation.failure() {
        _ if is_timed_out => ExitCode::from(6),
        Some(Failure::Lost) => ExitCode::from(1),
        Some(Failure::NoServer) => ExitCode::from(3),
        Some(Failure::Unreached) => ExitCode::from(4),
        Some(Failure::Untrusted) => ExitCode::from(5),
        None if !is_all_read => ExitCode::from(1),
        None => ExitCode::SUCCESS,
    })
}

/// What is to be done before anything is read.
fn first_commands(options: &mut Options) -> Result<Vec<Command>, Refusal> {
    let mut commands: Vec<Command> = Vec::new();
    commands.extend(options.call.take().map(|peer| Command::Connect { peer }));
    commands.extend(options.execute.iter().map(|line| Command::parse(line)));
    if let Some(Task::Send { peer, text }) = &options.task {
        commands.push(Command::Connect { peer: peer.clone() });
        match text.is_empty() {
            false => commands.push(Command::text(text.join(" "))),
            true => {
                let mut bytes = Vec::new();
                io::stdin().lock().read_to_end(&mut bytes).map_err(Refusal::system)?;
                commands.extend(pieces(&String::from_utf8_lossy(&bytes)).into_iter().map(Command::text));
            }
        }
    }
    Ok(commands)
}

/// A text of any length as texts that every peer takes, cut at ends of lines where there are some. The last line end is dropped,
/// as with everything that is printed.
fn pieces(text: &str) -> Vec<String> {
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

/// Prints the user's link as a QR code, in half blocks: dark on light, as scanners expect it on a dark terminal.
fn print_qr(people: &People) -> Result<ExitCode, Refusal> {
    let link = people.own_link().map_err(|reason| Refusal::setting(reason.to_owned()))?.to_string();
    let code = QrCode::new(&link).map_err(Refusal::system)?;
    let mut renderer = code.render::<unicode::Dense1x2>();
    let picture = renderer.dark_color(unicode::Dense1x2::Light).light_color(unicode::Dense1x2::Dark).build();
    let _ = writeln!(io::stdout(), "{picture}\n{link}");
    Ok(ExitCode::SUCCESS)
}

/// What reaches the main thread.
enum Mail {
    /// What the user asks for, and whom to tell that it was served and there is room for more.
    Command(Command, Option<SyncSender<()>>),
    /// An event, and whom to tell that it was served.
    Event(Event, SyncSender<()>),
    /// No more commands will come.
    EndOfInput,
    /// The time that was given is over.
    Timeout,
    Signal,
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Wanted,
    Timeout,
}

/// The main thread's: the state of the conversation, and all that it acts on.
struct Client {
    conversation: Conversation,
    peer: Peer,
    screen: Screen,
    memory: Memory,
    look: Look,
    bells: Bells,
}

impl Client {
    fn serve(&mut self, mailbox: &Receiver<Mail>) -> End {
        let mut held = None;
        self.update_prompt();
        for mail in mailbox {
            let mut served = None;
            let effects = match mail {
                Mail::Command(command, taken) => {
                    held = taken;
                    self.conversation.command(command)
                }
                Mail::Event(event, taken) => {
                    served = Some(taken);
                    self.conversation.event(event)
                }
                Mail::EndOfInput => self.conversation.finish(),
                Mail::Timeout => {
                    let effects = self.conversation.give_up();
                    self.carry_out(effects);
                    return End::Timeout;
                }
                Mail::Signal => return End::Wanted,
            };
            if self.carry_out(effects) {
                return End::Wanted;
            }
            self.update_prompt();
            // A program can write faster than a chat opens; a person cannot.
            let released = if self.conversation.has_room() { held.take() } else { None };
            for taken in [served, released].into_iter().flatten() {
                let _ = taken.send(());
            }
        }
        End::Wanted
    }

    fn update_prompt(&self) {
        if let Screen::Terminal(terminal) = &self.screen {
            terminal.update(self.conversation.prompt(), self.conversation.names());
        }
    }

    /// Does what is to be done; whether the program is to end.
    fn carry_out(&mut self, effects: Vec<Effect>) -> bool {
        for effect in effects {
            match effect {
                Effect::Connect(name) => self.peer.request(&name),
                Effect::Accept(name) => self.peer.accept(&name),
                Effect::Decline(name) => self.peer.decline(&name),
                Effect::Send { peer, text } => {
                    let number = self.peer.send(&peer, &text.text);
                    self.conversation.sent(&peer, number, text.id);
                }
                Effect::Leave(name) => self.peer.leave(&name),
                Effect::Pin { peer: name, known } => self.peer.trust(&name, Some(known)),
                Effect::Remember { peer: name, known, replaces } => {
                    let other = self.remember(&name, known.clone(), replaces);
                    // Somebody else ends the chat, before a text goes out.
                    self.peer.trust(&name, Some(other.unwrap_or(known)));
                }
                Effect::Forget(name) => {
                    self.peer.trust(&name, None);
                    let place = self.memory.place.clone();
                    self.change_known_peers(|peers| {
                        peers.remove(&name, &place);
                    });
                }
                Effect::Block { peer, is_blocked } => self.block(&peer, is_blocked),
                Effect::Set { name, value } => self.set(name, value),
                Effect::Show(report) => self.show(&report),
                Effect::Quit => return true,
            }
        }
        false
    }

    fn show(&self, report: &Report) {
        self.screen.show(report, self.look);
        if matches!(report, Report::Message { .. } | Report::Request { .. }) {
            if self.bells.rings
                && let Screen::Terminal(terminal) = &self.screen
            {
                terminal.ring();
            }
            if let Some(command) = &self.bells.command {
                let event = json::object(report, &timestamp(), self.bells.with_text);
                self.bells.notifier.run(command, &event.to_string());
            }
        }
    }

    /// Ends the chats in order, and says what it is waiting for where that takes its time. Whether all was read that was sent.
    fn end(&mut self, mailbox: &Receiver<Mail>) -> bool {
        let ending = self.peer.clone();
        let ended = thread::spawn(move || ending.shutdown());
        let started = Instant::now();
        let mut is_said = false;
        while !ended.is_finished() {
            // What still happens is still told: a text that came, or one that could not be sent.
            match mailbox.recv_timeout(QUEUE_POLL) {
                Ok(Mail::Event(event, taken)) => {
                    for effect in self.conversation.event(event) {
                        match effect {
                            Effect::Show(report) => self.screen.show(&report, self.look),
                            Effect::Remember { peer, known, replaces } => {
                                self.remember(&peer, known, replaces);
                            }
                            _ => {}
                        }
                    }
                    let _ = taken.send(());
                }
                Ok(_) => {}
                // Nobody sends any more.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if !is_said && started.elapsed() > QUIET_END => {
                    is_said = true;
                    let _ = writeln!(io::stderr(), "* waiting until what was sent is read; Ctrl-C ends at once");
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        ended.join().unwrap_or(false)
    }

    /// Remembers a peer. Where another program has seen somebody else under that name, and this was not the user's wish, that
    /// one stays known, and comes back.
    fn remember(&self, name: &str, known: Known, replaces: bool) -> Option<Known> {
        let mut other = None;
        let place = &self.memory.place;
        self.change_known_peers(|peers| match peers.get(name, place) {
            Some(seen) if !replaces && seen.identity != known.identity => other = Some(seen.clone()),
            Some(seen) if !replaces && seen.is_verified => {}
            _ => peers.insert(name, place, known),
        });
        other
    }

    fn change_known_peers(&self, change: impl FnOnce(&mut KnownPeers)) {
        // Without a profile it is remembered as long as the program runs.
        let changed = self.memory.profile.as_ref().map_or(Ok(()), |profile| profile.change_known_peers(change));
        if let Err(error) = changed {
            self.show(&Report::Notice(format!("who this is could not be kept: {error}")));
        }
    }

    fn block(&self, name: &str, is_blocked: bool) {
        let entry = format!("{name}@{}", self.memory.place);
        let change = |blocked: &mut BTreeSet<String>| match is_blocked {
            true => drop(blocked.insert(entry)),
            false => drop(blocked.remove(&entry)),
        };
        let changed = self.memory.profile.as_ref().map_or(Ok(()), |profile| profile.change_blocked(change));
        if let Err(error) = changed {
            self.show(&Report::Notice(format!("that could not be kept: {error}")));
        }
    }

    /// Changes a setting, and shows it or all.
    fn set(&mut self, name: Option<String>, value: Option<String>) {
        let is_on = match value.as_deref() {
            Some("on") => Some(true),
            Some("off") => Some(false),
            _ => None,
        };
        match (name.as_deref(), &value, is_on) {
            (Some("bell"), Some(_), Some(is_on)) => self.bells.rings = is_on,
            (Some("color"), Some(_), Some(is_on)) => self.look.has_color = is_on,
            (Some("times"), Some(_), Some(is_on)) => self.look.has_times = is_on,
            (Some("notify"), Some(_), Some(false)) => self.bells.command = None,
            (Some("notify"), Some(command), None) => self.bells.command = Some(command.clone()),
            (Some(known), Some(_), _) if SETTINGS.contains(&known) => {
                return self.show(&Report::Mistake(format!("/set {known} is on or off")));
            }
            (Some(known), None, _) if SETTINGS.contains(&known) => {}
            (Some(other), _, _) => {
                let words = format!("there is no setting {other}; there are {}", SETTINGS.join(", "));
                return self.show(&Report::Mistake(words));
            }
            (None, _, _) => {}
        }
        if let Screen::Terminal(terminal) = &self.screen {
            terminal.set_look(self.look);
        }
        let switch = |is_on| if is_on { "on" } else { "off" }.to_owned();
        let mut settings = vec![
            ("bell", switch(self.bells.rings)),
            ("color", switch(self.look.has_color)),
            ("notify", self.bells.command.clone().unwrap_or("off".to_owned())),
            ("times", switch(self.look.has_times)),
        ];
        settings.retain(|(setting, _)| name.as_deref().is_none_or(|name| name == *setting));
        self.show(&Report::Settings(settings));
    }
}

/// What is done when a text or a call comes.
struct Bells {
    rings: bool,
    command: Option<String>,
    with_text: bool,
    notifier: Notifier,
}

/// Where it is kept who the peers are.
struct Memory {
    profile: Option<Profile>,
    /// The server's place in the lists.
    place: String,
}

impl Memory {
    fn known_peers(&self) -> Result<KnownPeers, Refusal> {
        let known = self.profile.as_ref().map(Profile::known_peers).transpose().map_err(Refusal::setting)?;
        Ok(known.unwrap_or_default())
    }

    /// The names of those who may not call at this server.
    fn blocked(&self) -> Result<BTreeSet<String>, Refusal> {
        let blocked = self.profile.as_ref().map(Profile::blocked).transpose().map_err(Refusal::setting)?;
        let at_this = |entry: String| {
            let (name, place) = entry.rsplit_once('@')?;
            (place == self.place).then(|| name.to_owned())
        };
        Ok(blocked.unwrap_or_default().into_iter().filter_map(at_this).collect())
    }
}

/// Where reports are shown.
enum Screen {
    /// Messages on standard output, everything else on standard error.
    Plain,
    /// Everything on standard output, as JSON.
    Json,
    /// Above the prompt.
    Terminal(Terminal),
}

impl Screen {
    fn show(&self, report: &Report, look: Look) {
        // Whoever closed our output does not want to know; the end of input or a signal ends the program.
        match self {
            Self::Plain => match screen::line(report, Look::default(), "") {
                Some(line) if line.is_message => print(&line.text),
                Some(line) => drop(writeln!(io::stderr(), "{}", line.text)),
                None => {}
            },
            Self::Json => print(&json::object(report, &timestamp(), true).to_string()),
            Self::Terminal(terminal) => {
                if let Some(line) = screen::line(report, look, &clock_time()) {
                    terminal.print(&line.text);
                }
            }
        }
    }
}

fn print(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The time as people read it.
fn clock_time() -> String {
    jiff::Zoned::now().strftime("%H:%M").to_string()
}

/// The time as programs read it (RFC 3339).
fn timestamp() -> String {
    jiff::Timestamp::now().to_string()
}

/// Starts to read commands from standard input, whatever it is, unless `has_all`. That there are no more is told if that
/// `is_finite`.
fn read_input(mail: Sender<Mail>, peer: Peer, is_json: bool, has_all: bool, is_finite: bool) {
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        let limit = if is_json { MAX_JSON } else { MAX_LINE };
        while !has_all && let Ok(Some(line)) = read_line(&mut input, limit) {
            let command = if is_json { json::command(&line) } else { Command::parse(&line) };
            let (taken, has_room) = mpsc::sync_channel(1);
            if mail.send(Mail::Command(command, Some(taken))).is_err() || has_room.recv().is_err() {
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

/// The next line without its end. What is longer than `limit` comes in several, and what is not UTF-8 is replaced.
fn read_line(input: &mut impl BufRead, limit: usize) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let count = io::Read::take(&mut *input, limit as u64).read_until(b'\n', &mut line)?;
    if count == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// The username of the last time, or the one that the user chooses now.
fn kept_name(is_interactive: bool) -> Result<Username, Refusal> {
    let profile = Profile::from_env(|name| std::env::var(name).ok()).map_err(Refusal::setting)?;
    if let Some(name) = profile.name().map_err(Refusal::setting)? {
        return Ok(name);
    }
    if !is_interactive {
        return Err(Refusal::setting("no username yet; give one with --name or LOWKEY_NAME"));
    }
    let mut editor = DefaultEditor::new().map_err(Refusal::system)?;
    loop {
        let line =
            editor.readline("Choose a username (3 to 20 of a-z, A-Z, 0-9 and _): ").map_err(|error| match error {
                ReadlineError::Eof | ReadlineError::Interrupted => {
                    Refusal::setting("no username was chosen".to_owned())
                }
                error => Refusal::system(error),
            })?;
        match line.trim().parse::<Username>() {
            Ok(name) => {
                profile.keep_name(&name).map_err(Refusal::system)?;
                println!("Kept in {}; --name uses another one.", profile.path().display());
                return Ok(name);
            }
            Err(reason) => println!("{reason}"),
        }
    }
}

/// A first signal ends the program in order, a second one at once. Until the flag that comes back is set there is nothing to
/// end in order.
fn watch_signals(mail: Sender<Mail>, modes: Modes) -> io::Result<Arc<AtomicBool>> {
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
                modes.restore();
                std::process::exit(1);
            }
            let _ = mail.send(Mail::Signal);
        }
    });
    Ok(is_serving)
}

/// Bytes that may wait to be sent before no more are read from a pipe, and how often that is looked at.
const MAX_QUEUED: usize = 1024 * 1024;
const QUEUE_POLL: Duration = Duration::from_millis(5);

/// How long the end may take before a word is said of it.
const QUIET_END: Duration = Duration::from_secs(1);

/// The longest line taken from standard input at once, in bytes: it fits into one message of any peer.
const MAX_LINE: usize = 48 * 1024;

/// The longest line of JSON, in bytes: a text as long as any peer takes, with every character escaped.
const MAX_JSON: usize = 2 * 1024 * 1024;

/// What exit codes mean.
const EXIT_CODES: &str = "\
Exit codes:
  0  all done
  1  something was not sent, may not have arrived, or could not be done
  2  a wrong option or setting
  3  no server
  4  the other side could not be reached, or did not want to talk
  5  the other side is not who it was, or did not prove who it is
  6  --timeout is over";

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
}
