//! The terminal client: a prompt when stdin and stdout are a terminal, plain lines or JSON when not. It carries commands to the
//! [`conversation`], events of the peer too, and does what comes back.
//!
//! One thread reads lines, one waits for the peer's events, one for signals; all send to one channel, and the main thread
//! serves it. On a terminal a fourth thread prints: rustyline's printer takes one line and blocks until the prompt is
//! ready for it, which must not keep anybody else waiting.

mod client;
pub mod command;
pub mod conversation;
pub mod harmless;
mod input;
pub mod json;
mod notify;
pub mod people;
pub mod report;
pub mod screen;
mod terminal;

use std::cell::OnceCell;
use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use clap::Parser;
use qrcode::QrCode;
use qrcode::render::unicode;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::options::chat::{ColorOption, HistoryOption};
use crate::options::{self, ChatOptions, PeerOptions, Start, config};
use crate::peer::trust::Link;
use crate::peer::{Peer, ServerUrlError};
use crate::profile::{Profile, Username};
use crate::stderr::say;
use client::{Bells, Client, End, Mail, Memory, Screen};
use command::Command;
use conversation::{Accepts, Conversation, Failure, Script, Until};
use input::Reading;
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
    #[arg(value_name = "PEER", value_parser = peer_name)]
    call: Option<String>,
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
        #[arg(value_parser = peer_name)]
        peer: String,
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
}

/// A name as it is printed, so that a script can hand it on.
fn peer_name(word: &str) -> Result<String, &'static str> {
    harmless::read_name(word).ok_or("a name in quotes is as it was shown, such as \"a%20b\"")
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
        Self { code: 1, reason: format!("{}; {kept}", options::unwritable(error)) }
    }

    fn system(error: impl std::fmt::Display) -> Self {
        Self { code: 1, reason: error.to_string() }
    }
}

fn run(start: Start<Options>) -> Result<ExitCode, Refusal> {
    let is_server_given = start.is_given("server");
    let Start { mut options, profile, .. } = start;
    let is_script = options.json || options.task.is_some() || !options.execute.is_empty() || options.until.is_some();
    let is_interactive =
        !is_script && io::stdin().is_terminal() && io::stdout().is_terminal() && terminal::is_capable();
    let modes = Modes::remember(is_interactive);
    let (mail, mailbox) = mpsc::channel();
    let is_serving = watch_signals(mail.clone(), modes.clone()).map_err(Refusal::system)?;
    let name = match &options.peer.name {
        Some(name) => name.clone(),
        None => chosen_name(is_interactive, &profile)?,
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
    if is_server_given && server != options.peer.server {
        let given = &options.peer.server;
        return Err(Refusal::setting(format!("the link is for {server}, and --server says {given}; leave it out")));
    }
    let profile_or = profile.as_ref().map_err(String::as_str);
    let mut settings = options.peer.settings(name.as_str(), profile_or).map_err(Refusal::setting)?;
    let memory = Memory { profile: profile.ok(), place: server.place() };
    let known = memory.known_peers().map_err(Refusal::setting)?;
    settings.known = known.at(&memory.place).map(|(name, known)| (name, known.clone())).collect();
    let identity = settings.identity.as_ref().map(|identity| identity.public());
    let today = jiff::Zoned::now().date().to_string();
    let people = People::new(name.as_str(), identity, &memory.place, server.is_plain(), known, &today);
    if options.qr {
        return print_qr(&people);
    }
    let is_following = matches!(options.task, Some(Task::Send { follow: true, .. }));
    let script = Script {
        has_person: is_interactive,
        ends_with_chat: is_following,
        until: options.until.or(matches!(options.task, Some(Task::Send { .. })).then_some(Until::Delivered)),
        accepts: match &options.task {
            Some(Task::Listen { from }) if from.is_empty() => Accepts::All,
            Some(Task::Listen { from }) => Accepts::Only(from.clone()),
            _ => Accepts::None,
        },
    };
    let first = first_commands(&mut options)?;
    let conversation = Conversation::new(people, memory.blocked().map_err(Refusal::setting)?, script);
    let (peer, mut events) = Peer::connect_with(server, name.as_str(), settings).map_err(Refusal::system)?;
    is_serving.store(true, Ordering::SeqCst);
    let has_color = match options.chat.color {
        ColorOption::Auto => std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()),
        ColorOption::Always => true,
        ColorOption::Never => false,
    };
    let look = Look { has_times: options.chat.times, has_color };
    let screen = if is_interactive {
        let keeps = options.chat.history;
        let kept = memory.profile.as_ref().filter(|_| keeps != HistoryOption::None).map(Profile::history);
        let history = kept.map(|history| (history, keeps == HistoryOption::All));
        Screen::Terminal(Terminal::start(mail.clone(), look, history).map_err(Refusal::system)?)
    } else if options.json {
        Screen::Json
    } else {
        Screen::Plain
    };
    let bells = Bells {
        rings: options.chat.bell,
        command: options.chat.notify.clone(),
        with_text: options.chat.notify_text,
        notifier: Notifier::default(),
    };
    let mut client = Client { conversation, peer, screen, memory, look, bells, unwritable: OnceCell::new() };
    if is_interactive || options.json {
        client.show(&Report::Started { name: name.to_string() });
    }
    let is_ending = first.into_iter().any(|command| {
        let effects = client.conversation.command(command);
        client.carry_out(effects)
    });
    let is_listening = matches!(options.task, Some(Task::Listen { .. }));
    if !is_interactive {
        let has_all = matches!(options.task, Some(Task::Send { follow: false, .. })) || !options.execute.is_empty();
        let reading = match options.json {
            _ if is_following => Reading::Texts,
            true => Reading::Json,
            false => Reading::Commands,
        };
        // Whoever listens does so for ever, if it is not said until when.
        let is_finite = !is_listening || options.until.is_some();
        input::read(mail.clone(), client.peer.clone(), reading, has_all, is_finite);
    }
    if let Some(seconds) = options.timeout {
        let mail = mail.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(seconds));
            let _ = mail.send(Mail::Timeout);
        });
    }
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
    let served = match client.unwritable.get() {
        Some(_) => End::Unwritable,
        None if is_ending => End::Wanted,
        None => client.serve(&mailbox),
    };
    modes.restore();
    let (is_all_read, ended) = client.end(&mailbox);
    let is_timed_out = [served, ended].contains(&End::Timeout);
    if let Some(error) = client.unwritable.get() {
        return Err(Refusal::unwritable(error));
    }
    // A script wants to know whether all was sent and read; a person has seen it.
    if is_interactive {
        return Ok(ExitCode::SUCCESS);
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

/// What is to be done before anything is read.
fn first_commands(options: &mut Options) -> Result<Vec<Command>, Refusal> {
    let mut commands: Vec<Command> = Vec::new();
    commands.extend(options.call.take().map(|peer| Command::Connect { peer }));
    let read = if options.json { json::command } else { Command::parse };
    commands.extend(options.execute.iter().map(|line| read(line)));
    if let Some(Task::Send { peer, text, follow }) = &options.task {
        commands.push(Command::Connect { peer: peer.clone() });
        match text.is_empty() {
            _ if *follow => {}
            false => commands.push(Command::text(text.join(" "))),
            true => {
                let mut bytes = Vec::new();
                io::stdin().lock().read_to_end(&mut bytes).map_err(Refusal::system)?;
                if bytes.is_empty() {
                    return Err(Refusal::system("there is nothing to send on standard input"));
                }
                commands.extend(input::pieces(&String::from_utf8_lossy(&bytes)).into_iter().map(Command::text));
            }
        }
    }
    Ok(commands)
}

/// Prints the user's link as a QR code, in half blocks: dark on light, as scanners expect it on a dark terminal.
fn print_qr(people: &People) -> Result<ExitCode, Refusal> {
    let link = people.own_link().map_err(|reason| Refusal::setting(reason.to_owned()))?.to_string();
    let code = QrCode::new(&link).map_err(Refusal::system)?;
    let mut renderer = code.render::<unicode::Dense1x2>();
    let picture = renderer.dark_color(unicode::Dense1x2::Light).light_color(unicode::Dense1x2::Dark).build();
    let mut out = io::stdout().lock();
    match writeln!(out, "{picture}\n{link}").and_then(|()| out.flush()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Refusal::system(options::unwritable(&error))),
    }
}

/// The username that the user chooses now, and that is kept.
fn chosen_name(is_interactive: bool, profile: &Result<Profile, String>) -> Result<Username, Refusal> {
    let profile = profile.as_ref().map_err(|error| Refusal::setting(error.clone()))?;
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
                let keep = |text: &str| config::change(text, &options::every_setting(), "name", &[name.to_string()]);
                profile.change_config(keep).map_err(Refusal::system)?;
                let _ = writeln!(io::stdout(), "Kept in {}; --name uses another one.", profile.path().display());
                return Ok(name);
            }
            Err(reason) => drop(writeln!(io::stdout(), "{reason}")),
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
