//! The program from its start to its end: what it talks to is put together, it serves, and it says how that has ended.

use std::cell::{Cell, OnceCell};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::arguments::{Arguments, Task};
use super::console::Console;
use super::conversation::Conversation;
use super::display::Display;
use super::downloads::Downloads;
use super::editor::LineEditor;
use super::identity;
use super::input::{self, InputSource, Stdin};
use super::leaving::{Leaving, MainPulse, TIME_IS_OVER};
use super::mail::MainMail;
use super::main_loop::{Bells, Ending, MainLoop};
use super::notify::Notifier;
use super::people::People;
use super::plan::{Plan, chosen_name, inputs};
use super::progress_row::ProgressRow;
use super::qr;
use super::records::Records;
use super::report::Report;
use super::screen::Look;
use super::script::ScriptFailure;
use super::start_error::StartError;
use crate::options::chat::{ColorOption, HistoryOption};
use crate::options::{Start, advice};
use crate::peer::{Events, Peer, ServerUrl, Settings};
use crate::profile::transcript::Logged;
use crate::profile::{Profile, Username};
use crate::stderr::say;
use crate::{stdout, threads, trouble};

/// Does what the command line says.
///
/// # Errors
/// Why the program cannot begin, or go on.
pub fn run(start: Start<Arguments>) -> Result<ExitCode, StartError> {
    if let Some(Task::Identity { task }) = &start.options.task {
        let profile = start.profile.map_err(StartError::setting)?;
        let text = identity::run(task.as_ref(), &start.options.peer, &profile).map_err(StartError::setting)?;
        let written = stdout::write(text.as_bytes());
        written.map_err(|error| StartError::other(trouble::output(&error)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_interactive = !start.options.is_script() && io::stdin().is_terminal() && io::stdout().is_terminal();
    let console = Console::open(is_interactive).map_err(|error| StartError::lacking(NO_TERMINAL, &error))?;
    let result = chat(start, &console);
    console.give_back();
    result
}

/// Chats, on a terminal or without one.
fn chat(start: Start<Arguments>, console: &Console) -> Result<ExitCode, StartError> {
    let (mail, mailbox) = mpsc::channel();
    let leaving = Leaving::new(mail.clone(), console.clone());
    leaving.watch_signals().map_err(|error| StartError::lacking("signals cannot be watched", &error))?;
    let watched = start.options.timeout.map(|seconds| leaving.watch_time(Duration::from_secs(seconds)));
    watched.transpose().map_err(|error| StartError::lacking("--timeout cannot be kept", &error))?;
    let mut editor = match console {
        Console::Terminal(terminal) => {
            let editor = LineEditor::new(terminal.clone());
            Some(editor.map_err(|error| StartError::lacking(NO_TERMINAL, &error))?)
        }
        Console::Teletype(_) | Console::None => None,
    };
    let given = start.options.peer.name.clone();
    let name = given.clone().map_or_else(|| chosen_name(editor.as_mut(), console, &start.profile), Ok)?;
    let plan = Plan::new(start)?;
    let (people, records, settings) = plan.user(&name)?;
    if plan.arguments.qr {
        return qr::print(&people, console).map(|()| ExitCode::SUCCESS);
    }
    let stdin = Stdin::default();
    let (first, source) = inputs(&plan.arguments, &stdin, console)?;
    let conversation = converse(&plan, people, &records, console)?;
    let (peer, events) = connect(&plan.server, &name, settings)?;
    let mut main_loop = main_loop(&plan.arguments, conversation, peer, records, console);
    (main_loop.stdin, main_loop.pulse) = (stdin, leaving.serve());
    main_loop.name_to_keep = given.is_none().then(|| name.clone());
    if console.is_interactive() || plan.arguments.json {
        main_loop.show(&Report::Started { name: name.to_string() });
    }
    let is_ending = first.into_iter().any(|command| {
        let effects = main_loop.conversation.command(command);
        main_loop.carry_out(effects)
    });
    let is_read_by_us = editor.is_none() && !matches!(source, InputSource::Nothing);
    read(&plan.arguments, &main_loop, editor, source, &mail).map_err(|error| StartError::lacking(NO_INPUT, &error))?;
    pass_on(events, mail.clone())?;
    let served = serve(&plan, &mut main_loop, console, is_ending, (&mail, &mailbox))?;
    console.give_back();
    if is_read_by_us {
        input::discard();
    }
    let (is_all_read, ended) = main_loop.end(&mailbox, served);
    // What was typed in the meantime was meant for this program: the shell must not get it.
    console.throw_away();
    if is_read_by_us {
        input::discard();
    }
    let is_timed_out = [served, ended].contains(&Ending::Timeout);
    exit_code(&main_loop, console, is_all_read, is_timed_out)
}

/// The beginning of a conversation of these people.
fn converse(plan: &Plan, people: People, records: &Records, console: &Console) -> Result<Conversation, StartError> {
    let blocked = records.blocked().map_err(StartError::setting)?;
    Ok(Conversation::new(people, blocked, plan.arguments.script(console.is_interactive())))
}

fn connect(server: &ServerUrl, name: &Username, settings: Settings) -> Result<(Peer, Events), StartError> {
    Peer::connect_with(server.clone(), name.as_str(), settings)
        .map_err(|error| StartError::other(advice::on_start(&error)))
}

/// What the main thread works with, its display fit for what a person sits at.
fn main_loop(
    arguments: &Arguments,
    conversation: Conversation,
    peer: Peer,
    records: Records,
    console: &Console,
) -> MainLoop {
    let has_color = match arguments.chat.color {
        ColorOption::Auto => std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()),
        ColorOption::Always => true,
        ColorOption::Never => false,
    };
    // What can only write on has no colours, but if they are wanted.
    let is_plain = matches!((console, arguments.chat.color), (Console::Teletype(_), ColorOption::Auto));
    let look = Look { has_times: arguments.chat.times, has_color: has_color && !is_plain };
    let display = match console {
        Console::Terminal(terminal) => {
            terminal.set_look(look);
            Display::Terminal(terminal.clone())
        }
        Console::Teletype(teletype) => Display::Teletype(teletype.clone()),
        Console::None if arguments.json => Display::Json,
        Console::None if arguments.is_for_one_file() => Display::Aside(ProgressRow::new()),
        Console::None => Display::Plain(ProgressRow::new()),
    };
    let bells = Bells {
        rings: arguments.chat.bell,
        command: arguments.chat.notify.clone(),
        with_text: arguments.chat.notify_text,
        notifier: Notifier::default(),
    };
    MainLoop {
        conversation,
        peer,
        display,
        records,
        look,
        bells,
        logs: Logged::new(arguments.chat.log),
        has_log_failed: Cell::default(),
        unwritable: OnceCell::new(),
        renamed: None,
        name_to_keep: None,
        postponed: Vec::new(),
        downloads: Downloads::new(arguments.chat.downloads.clone()),
        stdin: Stdin::default(),
        has_quit: false,
        cut_short: None,
        pulse: MainPulse::default(),
    }
}

/// Begins to read what the user has to say.
fn read(
    arguments: &Arguments,
    main_loop: &MainLoop,
    editor: Option<LineEditor>,
    source: InputSource,
    mail: &Sender<MainMail>,
) -> io::Result<()> {
    if let Some(editor) = editor {
        let keeps = arguments.chat.history;
        let kept = main_loop.records.profile.as_ref().filter(|_| keeps != HistoryOption::None).map(Profile::history);
        let history = kept.map(|history| (history, keeps == HistoryOption::All));
        // The first prompt already shows whom a line goes to.
        main_loop.update_prompt();
        editor.start(mail.clone(), history)
    } else {
        // Whoever listens does so for ever, if it is not said until when.
        let is_listening = matches!(arguments.task, Some(Task::Listen { .. })) && !arguments.is_for_one_file();
        let is_finite = !is_listening || arguments.until.is_some();
        input::read(mail.clone(), main_loop.peer.clone(), main_loop.stdin.clone(), source, is_finite)
    }
}

/// Passes the events of a peer on to the main thread, from a thread that waits for them.
fn pass_on(mut events: Events, mail: Sender<MainMail>) -> Result<(), StartError> {
    let passing = threads::spawn("events", move || {
        while let Some(event) = events.next() {
            let receipt = events.receipt();
            // Waits while the screen is behind, and with it the peer and in the end whoever sends.
            let (taken, done) = mpsc::sync_channel(0);
            if mail.send(MainMail::Event(event, receipt, taken)).is_err() || done.recv().is_err() {
                break;
            }
        }
    });
    passing.map(drop).map_err(|error| StartError::lacking("nothing can be received", &error))
}

/// Serves until the end. Under another name the user is somebody else to everybody, with an identity and chats of their
/// own; the terminal stays.
fn serve(
    plan: &Plan,
    main_loop: &mut MainLoop,
    console: &Console,
    is_ending: bool,
    (mail, mailbox): (&Sender<MainMail>, &Receiver<MainMail>),
) -> Result<Ending, StartError> {
    loop {
        let served = match main_loop.unwritable.get() {
            Some(_) => Ending::Unwritable,
            None if is_ending => Ending::Wanted,
            None => main_loop.serve(mailbox),
        };
        let Some(name) = main_loop.renamed.clone().filter(|_| served == Ending::Wanted) else { return Ok(served) };
        match plan.user(&name) {
            Ok((people, records, settings)) => {
                main_loop.give_up();
                main_loop.end(mailbox, served);
                if main_loop.cut_short.is_none() {
                    let conversation = converse(plan, people, &records, console)?;
                    let (peer, events) = connect(&plan.server, &name, settings)?;
                    (main_loop.conversation, main_loop.records, main_loop.peer) = (conversation, records, peer);
                    pass_on(events, mail.clone())?;
                    main_loop.name_to_keep = main_loop.name_to_keep.take().map(|_| name.clone());
                    main_loop.show(&Report::Started { name: name.to_string() });
                }
            }
            Err(StartError { reason, .. }) => main_loop.show(&Report::Mistake(reason)),
        }
        main_loop.renamed = None;
        for postponed in main_loop.postponed.drain(..) {
            let _ = mail.send(postponed);
        }
        if let Some(ending) = main_loop.cut_short {
            return Ok(ending);
        }
    }
}

/// How the program has ended. A script wants to know whether all was sent and read; a person has seen that, but for the
/// end of the time.
fn exit_code(
    main_loop: &MainLoop,
    console: &Console,
    is_all_read: bool,
    is_timed_out: bool,
) -> Result<ExitCode, StartError> {
    if let Some(error) = main_loop.unwritable.get() {
        return Err(StartError::unwritable(error));
    }
    if console.is_interactive() {
        // Its terminal is the shell's again.
        if is_timed_out {
            say(format!("* {TIME_IS_OVER}"));
            return Ok(ExitCode::from(6));
        }
        if !is_all_read {
            say(format!("* {NOT_ARRIVED}"));
            return Ok(ExitCode::from(1));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if is_timed_out {
        main_loop.show(&Report::Notice(TIME_IS_OVER.to_owned()));
    }
    if !is_all_read {
        main_loop.show(&Report::Notice(NOT_ARRIVED.to_owned()));
    }
    Ok(match main_loop.conversation.failure() {
        _ if is_timed_out => ExitCode::from(6),
        Some(ScriptFailure::Lost) => ExitCode::from(1),
        Some(ScriptFailure::NoServer) => ExitCode::from(3),
        Some(ScriptFailure::Unreached) => ExitCode::from(4),
        Some(ScriptFailure::Untrusted) => ExitCode::from(5),
        None if !is_all_read => ExitCode::from(1),
        None => ExitCode::SUCCESS,
    })
}

const NOT_ARRIVED: &str = "what was sent last may not have arrived";

const NO_INPUT: &str = "standard input cannot be read";

const NO_TERMINAL: &str = "the terminal cannot be used";
