//! The terminal client: a prompt when stdin and stdout are a terminal, plain lines or JSON when not. It carries commands to the
//! [`conversation`], events of the peer too, and does what comes back.
//!
//! One thread reads lines, one waits for the peer's events, one for signals; all send to one channel, and the main thread
//! serves it. On a terminal a fourth thread reads the keyboard for the one that edits lines.
//!
#![doc = include_str!("chat/README.md")]

mod callee;
mod client;
mod command;
mod console;
mod conversation;
mod editor;
mod effect;
mod flood;
mod harmless;
mod identity;
mod input;
mod json;
mod keyboard;
mod notify;
mod outbox;
mod painter;
mod people;
mod report;
mod requests;
mod screen;
mod script;
mod teletype;
mod terminal;
mod wrap;

use std::cell::{Cell, OnceCell};
use std::io::{self, BufReader, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use clap::Parser;
use qrcode::QrCode;
use qrcode::render::unicode;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::options::access::TokenHome;
use crate::options::chat::{ColorOption, HistoryOption};
use crate::options::{self, ChatOptions, PeerOptions, Start, advice, config};
use crate::peer::link::Link;
use crate::peer::{Events, Peer, ServerUrl, ServerUrlError, Settings};
use crate::profile::transcript::Kept;
use crate::profile::{Profile, Username};
use crate::signals;
use crate::stderr::say;
use crate::trouble;
use callee::Callee;
use client::{Bells, Client, End, Mail, Memory, Screen};
use command::Command;
use console::Console;
use conversation::Conversation;
use editor::LineEditor;
use identity::IdentityTask;
use input::{Pieces, Reading, Source};
use notify::Notifier;
use people::People;
use report::Report;
use screen::Look;
use script::{Accepts, Failure, Script, Until};

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
    chat: ChatOptions,
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
    #[arg(value_name = "PEER", value_parser = callee)]
    call: Option<Callee>,
    #[command(subcommand)]
    task: Option<Task>,
}

/// What to do other than to chat.
#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Send a text and end when it has arrived
    Send {
        /// Send each line of standard input as a text, as soon as it comes: none is a command. It ends with the input, or with the
        /// chat
        #[arg(short, long)]
        follow: bool,
        /// To this user, by name or by a link
        #[arg(value_parser = callee)]
        peer: Callee,
        /// The text; without it, all of standard input
        #[arg(conflicts_with = "follow")]
        text: Vec<String>,
    },
    /// Take calls without asking, print what comes, and do what is read
    Listen {
        /// Only take calls of this user; may be repeated
        #[arg(long, value_name = "PEER", value_parser = peer_name)]
        from: Vec<String>,
    },
    /// Show your name, its long-term key, where that is kept, and your link
    #[command(disable_help_subcommand = true)]
    Identity {
        /// What is to be done with it instead
        #[command(subcommand)]
        task: Option<IdentityTask>,
    },
}

/// A name as it is printed, so that a script can hand it on.
fn peer_name(word: &str) -> Result<String, &'static str> {
    harmless::read_name(word).ok_or(NO_NAME)
}

/// A name in the same form, or a link.
fn callee(word: &str) -> Result<Callee, &'static str> {
    Callee::read(word).ok_or(NO_NAME)
}

/// Runs the program `lowkey` on the command line of this process.
pub fn main() -> ExitCode {
    let start = match options::parse() {
        Ok(start) => start,
        Err(code) => return code,
    };
    options::start_log();
    match run(start) {
        Ok(code) => code,
        Err(Refusal { code, reason }) => {
            say(format!("lowkey: {reason}"));
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

    /// What was to be told could not be written.
    fn unwritable(error: &io::Error) -> Self {
        let kept = "what was not written was not taken, and comes again at the next start";
        Self::other(format!("{}; {kept}", trouble::output(error)))
    }

    /// The system does not give what is needed.
    fn lacking(what: &str, error: &io::Error) -> Self {
        Self::other(format!("{what}: {}", trouble::lacking(error)))
    }

    fn other(reason: impl Into<String>) -> Self {
        Self { code: 1, reason: reason.into() }
    }
}

fn run(start: Start<Options>) -> Result<ExitCode, Refusal> {
    let is_server_given = start.is_given("server");
    let Start { options, profile, token_home, .. } = start;
    if let Some(Task::Identity { task }) = &options.task {
        let profile = profile.map_err(Refusal::setting)?;
        let text = identity::run(task.as_ref(), &options.peer, &profile).map_err(Refusal::setting)?;
        let written = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
        written.map_err(|error| Refusal::other(trouble::output(&error)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_script = options.json || options.task.is_some() || !options.execute.is_empty() || options.until.is_some();
    let is_interactive = !is_script && io::stdin().is_terminal() && io::stdout().is_terminal();
    let console = Console::open(is_interactive).map_err(|error| Refusal::lacking(NO_TERMINAL, &error))?;
    let result = chat(options, profile, &token_home, is_server_given, &console);
    console.give_back();
    result
}

/// Chats, on a terminal or without one.
fn chat(
    options: Options,
    profile: Result<Profile, String>,
    token_home: &TokenHome,
    is_server_given: bool,
    console: &Console,
) -> Result<ExitCode, Refusal> {
    let (mail, mailbox) = mpsc::channel();
    let is_serving = watch_signals(mail.clone(), console.clone())
        .map_err(|error| Refusal::lacking("signals cannot be watched", &error))?;
    let mut editor = match console {
        Console::Terminal(terminal) => {
            let editor = LineEditor::new(terminal.clone());
            Some(editor.map_err(|error| Refusal::lacking(NO_TERMINAL, &error))?)
        }
        Console::Teletype(_) | Console::None => None,
    };
    let name = match &options.peer.name {
        Some(name) => name.clone(),
        None => chosen_name(editor.as_mut(), console, &profile)?,
    };
    let called = match &options.task {
        Some(Task::Send { peer, .. }) => Some(peer),
        _ => options.call.as_ref(),
    };
    let link = match called {
        Some(Callee::Link(link)) => Some(link.parse::<Link>().map_err(Refusal::setting)?),
        Some(Callee::Name(_)) | None => None,
    };
    let server = match link {
        Some(link) => link.server().parse().map_err(|error: ServerUrlError| Refusal::setting(error.to_string()))?,
        None => options.peer.server.clone(),
    };
    if is_server_given && server != options.peer.server {
        let given = &options.peer.server;
        return Err(Refusal::setting(format!("the link is for {server}, and --server says {given}; leave it out")));
    }
    let user = |name: &Username| -> Result<_, Refusal> {
        let (mut people, memory, settings) = user(name, &server, &options.peer, token_home, &profile)?;
        // A program names its peers as they are.
        if !options.json {
            people.aliases = memory.aliases().map_err(Refusal::setting)?;
        }
        Ok((people, memory, settings))
    };
    let (people, memory, settings) = user(&name)?;
    if options.qr {
        return print_qr(&people, console);
    }
    let is_following = matches!(options.task, Some(Task::Send { follow: true, .. }));
    let script = Script {
        has_person: console.is_interactive(),
        ends_with_chat: is_following,
        until: options.until.or(matches!(options.task, Some(Task::Send { .. })).then_some(Until::Delivered)),
        accepts: match &options.task {
            Some(Task::Listen { from }) if from.is_empty() => Accepts::All,
            Some(Task::Listen { from }) => Accepts::Only(from.clone()),
            _ => Accepts::None,
        },
    };
    let (first, source) = inputs(&options)?;
    let conversation = Conversation::new(people, memory.blocked().map_err(Refusal::setting)?, script.clone());
    let (peer, events) = connect(&server, &name, settings)?;
    is_serving.store(true, Ordering::SeqCst);
    let has_color = match options.chat.color {
        ColorOption::Auto => std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()),
        ColorOption::Always => true,
        ColorOption::Never => false,
    };
    // What can only write on has no colours, but if they are wanted.
    let is_plain = matches!((console, options.chat.color), (Console::Teletype(_), ColorOption::Auto));
    let look = Look { has_times: options.chat.times, has_color: has_color && !is_plain };
    let screen = match console {
        Console::Terminal(terminal) => {
            terminal.set_look(look);
            Screen::Terminal(terminal.clone())
        }
        Console::Teletype(teletype) => Screen::Teletype(teletype.clone()),
        Console::None if options.json => Screen::Json,
        Console::None => Screen::Plain,
    };
    let bells = Bells {
        rings: options.chat.bell,
        command: options.chat.notify.clone(),
        with_text: options.chat.notify_text,
        notifier: Notifier::default(),
    };
    let mut client = Client {
        conversation,
        peer,
        screen,
        memory,
        look,
        bells,
        logs: Kept::new(options.chat.log),
        has_log_failed: Cell::default(),
        unwritable: OnceCell::new(),
        renamed: None,
        postponed: Vec::new(),
    };
    if console.is_interactive() || options.json {
        client.show(&Report::Started { name: name.to_string() });
    }
    let is_ending = first.into_iter().any(|command| {
        let effects = client.conversation.command(command);
        client.carry_out(effects)
    });
    let is_listening = matches!(options.task, Some(Task::Listen { .. }));
    let mut is_read_by_us = false;
    if let Some(editor) = editor {
        let keeps = options.chat.history;
        let kept = client.memory.profile.as_ref().filter(|_| keeps != HistoryOption::None).map(Profile::history);
        let history = kept.map(|history| (history, keeps == HistoryOption::All));
        // The first prompt already shows whom a line goes to.
        client.update_prompt();
        editor.start(mail.clone(), history);
    } else {
        // Whoever listens does so for ever, if it is not said until when.
        let is_finite = !is_listening || options.until.is_some();
        is_read_by_us = !matches!(source, Source::Nothing);
        input::read(mail.clone(), client.peer.clone(), source, is_finite);
    }
    if let Some(seconds) = options.timeout {
        let mail = mail.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(seconds));
            let _ = mail.send(Mail::Timeout);
        });
    }
    pass_on(events, mail.clone());
    let served = loop {
        let served = match client.unwritable.get() {
            Some(_) => End::Unwritable,
            None if is_ending => End::Wanted,
            None => client.serve(&mailbox),
        };
        let Some(name) = client.renamed.clone().filter(|_| served == End::Wanted) else { break served };
        // Somebody else to everybody, with an identity and chats of their own; the terminal stays.
        match user(&name) {
            Ok((people, memory, settings)) => {
                let _ = client.end(&mailbox);
                let blocked = memory.blocked().map_err(Refusal::setting)?;
                let online = connect(&server, &name, settings)?;
                client.conversation = Conversation::new(people, blocked, script.clone());
                client.memory = memory;
                client.peer = online.0;
                pass_on(online.1, mail.clone());
                client.show(&Report::Started { name: name.to_string() });
            }
            Err(Refusal { reason, .. }) => client.show(&Report::Mistake(reason)),
        }
        client.renamed = None;
        for postponed in client.postponed.drain(..) {
            let _ = mail.send(postponed);
        }
    };
    console.give_back();
    if is_read_by_us {
        input::discard();
    }
    let (is_all_read, ended) = client.end(&mailbox);
    let is_timed_out = [served, ended].contains(&End::Timeout);
    if let Some(error) = client.unwritable.get() {
        return Err(Refusal::unwritable(error));
    }
    // A script wants to know whether all was sent and read; a person has seen it.
    if console.is_interactive() {
        return Ok(ExitCode::SUCCESS);
    }
    if is_timed_out {
        client.show(&Report::Notice("the time that --timeout gave is over".to_owned()));
    }
    if !is_all_read {
        let words = "what was sent last may not have been read".to_owned();
        client.show(&Report::Notice(words));
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

/// What a user of this name has: who is known to them, where that is kept, and how their peer behaves.
fn user(
    name: &Username,
    server: &ServerUrl,
    options: &PeerOptions,
    token_home: &TokenHome,
    profile: &Result<Profile, String>,
) -> Result<(People, Memory, Settings), Refusal> {
    let profile_or = profile.as_ref().map_err(String::as_str);
    let mut settings = options.settings(name.as_str(), server, token_home, profile_or).map_err(Refusal::setting)?;
    let memory = Memory { profile: profile.clone().ok(), place: server.place() };
    let known = memory.known_peers().map_err(Refusal::setting)?;
    settings.known = known.at(&memory.place).map(|(name, known)| (name, known.clone().into())).collect();
    let identity = settings.identity.as_ref().map(|identity| identity.public());
    let today = jiff::Zoned::now().date().to_string();
    let people = People::new(name.as_str(), identity, &memory.place, server.is_plain(), known, &today);
    Ok((people, memory, settings))
}

fn connect(server: &ServerUrl, name: &Username, settings: Settings) -> Result<(Peer, Events), Refusal> {
    Peer::connect_with(server.clone(), name.as_str(), settings)
        .map_err(|error| Refusal::other(advice::on_start(&error)))
}

/// Passes the events of a peer on to the main thread, from a thread that waits for them.
fn pass_on(mut events: Events, mail: Sender<Mail>) {
    thread::spawn(move || {
        while let Some(event) = events.next() {
            let receipt = events.receipt();
            // Waits while the screen is behind, and with it the peer and in the end whoever sends.
            let (taken, done) = mpsc::sync_channel(0);
            if mail.send(Mail::Event(event, receipt, taken)).is_err() || done.recv().is_err() {
                break;
            }
        }
    });
}

/// What is to be done before anything is read, and what is read then.
fn inputs(options: &Options) -> Result<(Vec<Command>, Source), Refusal> {
    let mut commands: Vec<Command> = Vec::new();
    commands.extend(options.call.clone().map(|peer| Command::Connect { peer }));
    let read = if options.json { json::command } else { Command::parse };
    commands.extend(options.execute.iter().map(|line| read(line)));
    let mut source = match (options.execute.is_empty(), options.json) {
        (false, _) => Source::Nothing,
        (true, true) => Source::Lines(Reading::Json),
        (true, false) => Source::Lines(Reading::Commands),
    };
    if let Some(Task::Send { peer, text, follow }) = &options.task {
        commands.push(Command::Connect { peer: peer.clone() });
        source = if *follow {
            Source::Lines(Reading::Texts)
        } else if !text.is_empty() {
            commands.push(Command::text(text.join(" ")));
            Source::Nothing
        } else if input::is_in_background() {
            return Err(Refusal::other("there is no text: a job in the background cannot read the terminal"));
        } else {
            let mut pieces = Pieces::new(BufReader::new(io::stdin()));
            let first = pieces.next().map_err(|error| Refusal::other(input::unreadable(&error)))?;
            commands.push(Command::text(first.ok_or(Refusal::other("there is nothing to send on standard input"))?));
            Source::Pieces(pieces)
        };
    }
    Ok((commands, source))
}

/// Prints the user's link as a QR code, in half blocks: dark on light, as scanners expect it on a dark terminal.
fn print_qr(people: &People, console: &Console) -> Result<ExitCode, Refusal> {
    let link = people.own_link().map_err(|reason| Refusal::setting(reason.to_owned()))?;
    if let Some(words) = people::local(&link) {
        say(format!("* {words}"));
    }
    let link = link.to_string();
    let code = QrCode::new(&link)
        .map_err(|_| Refusal::other(format!("the link is too long for a QR code, so give it as it is: {link}")))?;
    let mut renderer = code.render::<unicode::Dense1x2>();
    let picture = renderer.dark_color(unicode::Dense1x2::Light).light_color(unicode::Dense1x2::Dark).build();
    let needed = wrap::width(picture.lines().next().unwrap_or_default());
    let window = match console {
        Console::Terminal(terminal) => Some(terminal.columns()),
        _ => terminal_size::terminal_size_of(io::stdout()).map(|(columns, _)| columns.0.into()),
    };
    let shown = match window {
        Some(columns) if columns < needed => {
            let why = format!(
                "the QR code needs {needed} columns, and this window has {columns}: make it wider, or give the link"
            );
            format!("{}\n{link}\n", wrap::rows(&why, "", columns).join("\n"))
        }
        _ => format!("{picture}\n{link}\n"),
    };
    match console {
        Console::Terminal(terminal) => terminal.print_rows(&shown),
        _ => {
            let mut out = io::stdout().lock();
            let written = write!(out, "{shown}").and_then(|()| out.flush());
            written.map_err(|error| Refusal::other(trouble::output(&error)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The username that the user chooses now, and that is kept.
fn chosen_name(
    editor: Option<&mut LineEditor>,
    console: &Console,
    profile: &Result<Profile, String>,
) -> Result<Username, Refusal> {
    let profile = profile.as_ref().map_err(|error| Refusal::setting(error.clone()))?;
    if !console.is_interactive() {
        return Err(Refusal::setting("no username yet; give one with --name or LOWKEY_NAME"));
    }
    let mut editor = editor;
    let mut ask = |question| match (editor.as_deref_mut(), console) {
        (Some(editor), _) => editor.ask(question),
        (None, Console::Teletype(teletype)) => teletype.ask(question),
        (None, _) => None,
    };
    loop {
        let answer = ask("Choose a username (3 to 20 of a-z, A-Z, 0-9 and _): ");
        let line = answer.ok_or_else(|| Refusal::setting("no username was chosen"))?;
        match line.trim().parse::<Username>() {
            Ok(name) => {
                let keep = |text: &str| config::change(text, &options::every_setting(), "name", &[name.to_string()]);
                profile.change_config(keep).map_err(Refusal::other)?;
                console.note(&format!("kept in {}; --name uses another one", profile.path().display()));
                return Ok(name);
            }
            Err(reason) => console.note(reason),
        }
    }
}

/// A first signal ends the program in order, a second one at once. Until the flag that comes back is set there is nothing to
/// end in order.
fn watch_signals(mail: Sender<Mail>, console: Console) -> io::Result<Arc<AtomicBool>> {
    let is_second = Arc::new(AtomicBool::new(false));
    let wanted = signals::wanted(&[SIGINT, SIGTERM, SIGHUP]);
    for &signal in &wanted {
        flag::register_conditional_shutdown(signal, 1, is_second.clone())?;
        flag::register(signal, is_second.clone())?;
    }
    let mut signals = Signals::new(wanted)?;
    let is_serving = Arc::new(AtomicBool::new(false));
    let serving = is_serving.clone();
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            if !console.is_interactive() {
                signals::end_row(signal);
            }
            if !serving.load(Ordering::SeqCst) {
                console.give_back();
                std::process::exit(1);
            }
            let _ = mail.send(Mail::Signal);
        }
    });
    Ok(is_serving)
}

const NO_TERMINAL: &str = "the terminal cannot be used";

/// What is said of a word that is no name.
const NO_NAME: &str = "a name in quotes is as it was shown, such as \"a%20b\"";

/// What exit codes mean.
const EXIT_CODES: &str = "\
Exit codes:
  0  all done
  1  something was not sent, may not have arrived, or could not be done; or standard output takes no more
  2  a wrong option or setting
  3  no server
  4  the other side could not be reached, or did not want to talk
  5  the other side is not who it was, or did not prove who it is
  6  --timeout is over";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Subcommand};

    use super::*;

    #[test]
    fn no_name_that_was_shown_is_a_command_on_the_command_line() {
        let command = options::manual::About::augment_subcommands(Options::command());
        let tasks: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert!(tasks.contains(&"listen") && tasks.contains(&"config"), "{tasks:?}");
        assert!(tasks.iter().all(|task| harmless::name(task).starts_with('"')), "{tasks:?}");
    }
}
