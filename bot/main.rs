//! The program `lowkey-bot`: accepts everyone who calls, and answers each message with the same text. It stands on the
//! public [`Peer`] alone, so it is also the example to start a bot of one's own from.

mod inbox;

use std::collections::HashMap;
use std::process::ExitCode;

use clap::{Arg, Parser};
use inbox::{Inbox, InboxOptions};
use lowkey::options::{self, PeerOptions, Start, advice};
use lowkey::peer::{CloseReason, Event, Peer};
use lowkey::signals::{end_row, ending, let_writes_fail};
use lowkey::stderr::say;
use lowkey::{threads, trouble};
use signal_hook::iterator::Signals;

/// An echo bot: accepts everyone who calls, and answers each message with the same text. Files are refused, unless
/// --accept-files says otherwise.
///
/// It runs until SIGTERM, SIGINT or another signal ends it, and says on standard error when it is online.
#[derive(Debug, Parser)]
#[command(name = "lowkey-bot", version, max_term_width = 100, mut_args(with_default_name))]
struct Options {
    #[command(flatten)]
    peer: PeerOptions,
    #[command(flatten)]
    inbox: InboxOptions,
}

fn with_default_name(option: Arg) -> Arg {
    if option.get_id() == "name" { option.default_value(DEFAULT_NAME) } else { option }
}

fn main() -> ExitCode {
    let_writes_fail();
    let start = match options::parse() {
        Ok(start) => start,
        Err(code) => return code,
    };
    options::start_log();
    match run(&start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say(format!("lowkey-bot: {reason}"));
            ExitCode::FAILURE
        }
    }
}

fn run(Start { options, profile, token_home, .. }: &Start<Options>) -> Result<(), String> {
    let name = options.peer.name.as_ref().map_or(DEFAULT_NAME, |name| name.as_str());
    let mut signals =
        Signals::new(ending()).map_err(|error| format!("signals cannot be watched: {}", trouble::lacking(&error)))?;
    let server = &options.peer.server;
    let mut settings = options.peer.settings(name, server, token_home, profile.as_ref().map_err(String::as_str))?;
    settings.max_requests = MAX_REQUESTS;
    // By a known name files are taken only from the identity that had it before.
    let known = profile.as_ref().map_or(Ok(HashMap::new()), |profile| {
        let known = profile.known_peers()?;
        Ok::<_, String>(known.at(&server.place()).map(|(name, known)| (name, known.identity)).collect())
    })?;
    let mut inbox = Inbox::open(&options.inbox, known)?;
    settings.takes_files = inbox.is_some();
    let (me, events) = Peer::connect_with(server.clone(), name, settings).map_err(|error| advice::on_start(&error))?;
    let stopper = me.clone();
    let watching = threads::spawn("signals", move || {
        if let Some(signal) = signals.forever().next() {
            end_row(signal);
            stopper.shutdown();
        }
    });
    watching.map_err(|error| format!("signals cannot be watched: {}", trouble::lacking(&error)))?;
    let (mut unsent, mut troubles): (u64, u64) = (0, 0);
    for event in events {
        match event {
            Event::Request { peer, .. } => me.accept(&peer),
            // It talks to everybody, so it does not mind who had the name before. A bot for certain people leaves this
            // line out, and keeps what the event says.
            Event::Identified { peer, .. } => me.trust(&peer, None),
            Event::Message { peer, text } => {
                me.send(&peer, &text);
            }
            Event::Closed { peer, reason } if is_trouble(&reason) => {
                troubles += 1;
                if is_told(troubles) {
                    let peer = peer.escape_debug();
                    let more = if troubles > 1 { format!(" ({troubles} such so far)") } else { String::new() };
                    say(format!("lowkey-bot: no chat with {peer}: {reason}{more}"));
                }
            }
            Event::NotSent { peer, reason, .. } => {
                unsent += 1;
                if is_told(unsent) {
                    let peer = peer.escape_debug();
                    say(format!("lowkey-bot: an answer to {peer} was not sent ({unsent} so far): {reason}"));
                }
            }
            Event::Online => say(format!("lowkey-bot: online as {name} at {}", options.peer.server)),
            Event::TookOver => {
                say(format!("lowkey-bot: another program was online as {name}, and had to go for this one"))
            }
            Event::Offline { reason, retry_in: Some(_) } => {
                say(format!("lowkey-bot: offline: {}; trying again", advice::on_loss(&reason)))
            }
            Event::Offline { reason, retry_in: None } => {
                me.shutdown();
                return Err(advice::on_loss(&reason));
            }
            event => {
                let told = inbox.as_mut().and_then(|inbox| inbox.handle(&me, event));
                told.into_iter().for_each(|words| say(format!("lowkey-bot: {words}")));
            }
        }
    }
    Ok(())
}

/// Whether its operator should know why there is no chat.
fn is_trouble(reason: &CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::RulesBroken { .. }
            | CloseReason::Crashed
            | CloseReason::NotBegun { .. }
            | CloseReason::Failed { .. }
            | CloseReason::NoCandidates
            | CloseReason::NoRelay(_)
    )
}

/// Whether the `count`th of a kind is told: the first few, then each power of two, because callers can cause it without
/// end.
fn is_told(count: u64) -> bool {
    count <= TOLD || count.is_power_of_two()
}

/// Calls that may come in one moment, before the bot has seen them.
const MAX_REQUESTS: usize = 1000;

/// How many of a kind are told one by one.
const TOLD: u64 = 5;

/// What the bot is called where nobody says otherwise.
const DEFAULT_NAME: &str = "echo";
