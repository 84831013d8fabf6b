//! The words for each report. Beneath: [`files`] has those about files, [`numbers`] those about safety numbers. Pure.

pub mod files;
mod numbers;

use std::borrow::Cow;

use super::command::usage::{COMMANDS, RARE, Usage};
use super::flood::{SHOWN, is_told};
use super::harmless::{harmless, name};
use super::look::{Look, MARK};
use super::report::{ChatReport, ChatState, PeerReport, Report, Unsent};
use super::wrap;
use crate::escape::{quoted, shortened_lines};
use crate::options::advice;
use crate::peer::{CloseReason, NotSentReason, Trust};
use crate::profile::transcript::TranscriptEntry;

/// What is said of a report; nothing where it has nothing to say to people.
pub fn words(report: &Report, look: Look) -> Option<String> {
    Some(match report {
        Report::Started { name: own } => {
            format!("you are {own}; /connect NAME calls somebody, /help lists what can be typed")
        }
        Report::Message { peer, text, key } => message(&look.name(peer, *key), text),
        Report::Online => "online; you can call and be called".to_owned(),
        Report::Offline { reason, retry_in, has_chats } => {
            let what = match retry_in {
                Some(_) => format!("offline: {}; trying again", harmless(reason)),
                None => format!("offline: {}", harmless(reason)),
            };
            if *has_chats { format!("{what}; open chats go on") } else { what }
        }
        Report::Calling { peer, is_waiting: false } => format!("calling {}", name(peer)),
        Report::Calling { peer, is_waiting: true } => {
            format!("{} is called as soon as the server is there", name(peer))
        }
        Report::Request { count, .. } if *count > SHOWN => {
            return is_told(*count).then(|| format!("{count} calls within a minute; /who lists who is calling"));
        }
        Report::Request { peer, number, count, trust, has_chat } => {
            let word = word(peer, *number);
            let more = match *count {
                SHOWN => "; more calls in this minute are only counted, /who lists who is calling",
                _ => "",
            };
            let sure = match trust {
                Trust::Verified => "verified by you",
                Trust::Known => "the same as before, not verified",
                Trust::New => "new to you, and anybody can take a name",
                Trust::Unproven => {
                    "an old app, which cannot prove who they are: it could be anybody, and others may read along"
                }
            };
            let peer = name(peer);
            if *has_chat {
                return Some(format!(
                    "{peer}, with whom a chat is open, calls anew ({sure}), as after a restart or from another \
                     device: /accept {word} goes on there and ends the open chat, /decline {word} leaves it{more}"
                ));
            }
            format!("{peer} wants to talk to you ({sure}): /accept {word} or /decline {word}{more}")
        }
        Report::OldApp { peer, number } => {
            let word = word(peer, *number);
            format!(
                "{} answers by an old app, which cannot prove who they are: it could be anybody, and others may read \
                 along. Nothing was sent to them: /accept {word} to talk to them nevertheless, or /decline {word}",
                name(peer)
            )
        }
        Report::RequestEnded { is_told: false, .. } => return None,
        Report::RequestEnded { peer, .. } => format!("{} is no longer calling", name(peer)),
        Report::Connecting { peer } => format!("connecting with {}", name(peer)),
        Report::Identified { peer, trust, .. } => match trust {
            Trust::Verified => format!("{} is verified", name(peer)),
            Trust::Known => return None,
            Trust::New => {
                let peer = name(peer);
                format!(
                    "{peer} is new to you, and nobody knows yet whether it is the {peer} whom you mean: /verify {peer} \
                     tells how to be sure. Should somebody else come by that name later, you will be warned"
                )
            }
            Trust::Unproven => format!(
                "{0} uses an old app, which cannot prove who they are: it could be anybody, and others may read along; \
                 /verify {0} tells how to be sure",
                name(peer)
            ),
        },
        Report::Open { peer, is_current: true } => format!("connected with {}", name(peer)),
        Report::Open { peer, is_current: false } => {
            let peer = name(peer);
            format!("connected with {peer}; /to {peer} to write to them")
        }
        // The prompt shows it.
        Report::Delivered { .. } => return None,
        Report::Interrupted { peer } => format!("the connection to {} was lost; it is sought again", name(peer)),
        Report::Resumed { peer } => format!("{} is back; the chat goes on", name(peer)),
        Report::KeyChanged { peer } => format!(
            "{0} has another key from now on, as an old app may do; it could be somebody else: /verify {0} \
             tells how to be sure",
            name(peer)
        ),
        Report::NotSent { peer, text, reason, is_kept, .. } => {
            let to = peer.as_ref().map(|peer| format!(" to {}", name(peer))).unwrap_or_default();
            let kept = if *is_kept { "; kept, /retry sends it again" } else { "" };
            match reason {
                Unsent::Peer(NotSentReason::Unconfirmed) => {
                    let peer = peer.as_ref().map(|peer| name(peer)).unwrap_or_default();
                    format!(
                        "the chat with {peer} ended before it was known whether this arrived{kept}: {}",
                        excerpt(text)
                    )
                }
                Unsent::Peer(reason) => format!("not sent{to} ({reason}{kept}): {}", excerpt(text)),
                Unsent::Closed(reason) => format!("not sent{to} ({}{kept}): {}", in_short(reason), excerpt(text)),
                Unsent::Ended => format!("not sent{to} (the program ends{kept}): {}", excerpt(text)),
            }
        }
        Report::File { file, news } => return files::news(file, news),
        Report::FileNotOffered { peer, path, message, .. } => files::not_offered(peer.as_deref(), path, message),
        Report::Files(all) => files::list(all),
        Report::Closed { reason: CloseReason::IdentityChanged { .. }, .. }
        | Report::Refused { reason: CloseReason::IdentityChanged { .. }, .. } => return None,
        Report::Closed { peer, reason } | Report::Refused { peer, reason } => closed(&name(peer), reason),
        Report::IdentityChanged { peer, known, known_number, number } => {
            numbers::changed(&name(peer), known, known_number, number.as_ref())
        }
        Report::SafetyNumber { peer, trust, number, new_number } => {
            numbers::safety_number(&name(peer), *trust, number, new_number.as_ref())
        }
        Report::Peers(peers) if peers.is_empty() => "nobody was seen before at this server".to_owned(),
        Report::Peers(peers) => peers.iter().map(peer_line).collect::<Vec<_>>().join("\n"),
        Report::Blocked(peers) if peers.is_empty() => "nobody is blocked".to_owned(),
        Report::Blocked(peers) => format!("blocked: {}", list(peers)),
        Report::Log { entries, .. } => entries.iter().map(logged).collect::<Vec<_>>().join("\n"),
        Report::Link(link) => {
            format!("{link}\nwhoever calls you with /connect and this link talks to you and to nobody else")
        }
        Report::Who { current, chats, requests, refused } => who(current.as_deref(), chats, requests, refused),
        Report::Settings(settings) => {
            let line = |(setting, value): &(&str, String)| format!("{} {}", wrap::padded(setting, 8), harmless(value));
            settings.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Report::Help(about) => help(about.as_deref(), look),
        Report::ServerError { code, message, count } => {
            let more = match *count {
                ..SHOWN => String::new(),
                SHOWN => "; what comes more of this kind is only counted".to_owned(),
                count => format!("; {count} of this kind by now"),
            };
            format!("the server says {} ({}){more}", quoted(message), quoted(code))
        }
        Report::Mistake(text) | Report::Misread { message: text, .. } | Report::Notice(text) => {
            shortened_lines(text).split('\n').map(harmless).collect::<Vec<_>>().join("\n")
        }
    })
}

/// How wide the first column of a table is: as the longest name that people choose, and the longest usage of a command.
const FIRST_COLUMN: usize = 20;

/// What a caller is answered by: what is easier to type than a name in quotes.
fn word(peer: &str, number: u64) -> Cow<'_, str> {
    let word = name(peer);
    if word.starts_with('"') { number.to_string().into() } else { word }
}

/// Why a text was not sent, where it was said before in full what has become of the call or chat.
fn in_short(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::Left => "you left",
        CloseReason::PeerLeft => "they left",
        CloseReason::NotOnline => "they are not online",
        CloseReason::Declined => "they declined",
        CloseReason::NoAnswer | CloseReason::NoHello | CloseReason::NotRecognized => "they did not answer",
        CloseReason::ConnectionLost => "the connection was lost",
        CloseReason::ServerLost => "the server is out of reach",
        CloseReason::IdentityChanged { .. } => "they are not who they were",
        CloseReason::NotProven | CloseReason::Unproven => "they did not prove who they are",
        CloseReason::Exhausted | CloseReason::Unreadable | CloseReason::KeyChanged => "the chat has ended",
        _ => "no chat came about",
    }
}

fn peer_line(report: &PeerReport) -> String {
    let mut line = wrap::padded(&name(&report.peer), FIRST_COLUMN);
    line += &match &report.known {
        Some(known) if known.is_verified => format!(" verified since {}", harmless(&known.since)),
        Some(known) => format!(" seen since {}", harmless(&known.since)),
        None => " not known for longer than this chat".to_owned(),
    };
    if report.is_here {
        line += ", in a chat with you now";
    }
    if let Some(alias) = &report.alias {
        line += &format!("; you call them {}", name(alias));
    }
    line
}

fn closed(peer: &str, reason: &CloseReason) -> String {
    match reason {
        CloseReason::Left => format!("left {peer}"),
        CloseReason::PeerLeft => format!("{peer} left"),
        CloseReason::Replaced => format!("the chat with {peer} starts anew"),
        CloseReason::NotOnline => format!("{peer} is not online"),
        CloseReason::Declined => format!("{peer} declined"),
        CloseReason::NoAnswer => {
            format!("{peer} has not answered: they may be away")
        }
        CloseReason::NoHello => format!(
            "{peer} has not answered, though a program is there: they may be away; or it is somebody else by that \
             name; or one of you has a new device, or was set up anew"
        ),
        CloseReason::NotRecognized => {
            format!(
                "{peer} knows somebody else by your name, perhaps you on an earlier device, and will not talk to \
                 this one"
            )
        }
        CloseReason::Oneself => "that is you".to_owned(),
        CloseReason::NotCalling => format!("{peer} is no longer calling"),
        reason => format!("no chat with {peer}: {}", harmless(&advice::on_close(reason))),
    }
}

fn who(current: Option<&str>, chats: &[ChatReport], requests: &[(String, u64)], refused: &[String]) -> String {
    let mut lines = Vec::new();
    match current {
        Some(peer) => lines.push(format!("you are writing to {}", name(peer))),
        None => lines.push("you are writing to nobody".to_owned()),
    }
    for chat in chats {
        let state = match (chat.state, chat.trust) {
            (ChatState::Closed, _) => "not connected".to_owned(),
            (ChatState::Calling, _) => "being called".to_owned(),
            (ChatState::Interrupted, _) => "connection lost, sought again".to_owned(),
            (ChatState::Open, Some(trust)) => trust.to_string(),
            (ChatState::Open, None) => "open".to_owned(),
        };
        let mut line = format!("{} {state}", wrap::padded(&name(&chat.peer), FIRST_COLUMN));
        let counts =
            [(chat.unread, "unread"), (chat.underway, "on the way"), (chat.waiting, "waiting"), (chat.kept, "kept")];
        for (count, what) in counts {
            if count > 0 {
                line += &format!(", {count} {what}");
            }
        }
        lines.push(line);
    }
    if !requests.is_empty() {
        let request = |(peer, number): &(String, u64)| format!("{} (/accept {})", name(peer), word(peer, *number));
        lines.push(format!("calling you: {}", requests.iter().map(request).collect::<Vec<_>>().join(", ")));
    }
    if !refused.is_empty() {
        let line =
            |peer: &String| format!("{0} was refused with another key: /verify {0} shows both numbers", name(peer));
        lines.extend(refused.iter().map(line));
    }
    lines.join("\n")
}

/// What can be typed, a line for each command; or more of one.
fn help(about: Option<&str>, look: Look) -> String {
    let is_about = |usage: &&Usage| {
        about
            .is_none_or(|about| usage.usage.split(' ').next().is_some_and(|word| word[1..].eq_ignore_ascii_case(about)))
    };
    let line = |usage: &Usage| {
        let first = format!("{} {}", wrap::padded(&look.styled("1", usage.usage), FIRST_COLUMN), usage.meaning);
        match about.is_some() && !usage.details.is_empty() {
            true => format!("{first}\n{}", usage.details),
            false => first,
        }
    };
    let is_shown = |usage: &&Usage| about.is_some() || !RARE.contains(&usage.usage);
    let lines: Vec<String> = COMMANDS.iter().filter(is_about).filter(is_shown).map(line).collect();
    match (lines.is_empty(), about) {
        (false, None) => {
            let names = RARE.map(|rare| rare.split(' ').next().unwrap_or_default());
            let keys = format!("{} new line; more: {}", wrap::padded("Alt-Enter", FIRST_COLUMN), names.join(" "));
            format!("{}\n{keys}", lines.join("\n"))
        }
        (true, Some(about)) => format!("there is no command /{}", harmless(about)),
        _ => lines.join("\n"),
    }
}

fn list(peers: &[String]) -> String {
    peers.iter().map(|peer| name(peer)).collect::<Vec<_>>().join(", ")
}

/// A text with its author in front. Further lines are set in, so that none of them passes for another's.
fn message(author: &str, text: &str) -> String {
    let mut lines = text.split('\n').map(|line| harmless(line.strip_suffix('\r').unwrap_or(line)));
    let mut message = format!("{author}: {}", lines.next().unwrap_or_default());
    for line in lines {
        message += "\n";
        message += MARK;
        message += &line;
    }
    message
}

/// A text of the log, with its time to the minute.
fn logged(entry: &TranscriptEntry) -> String {
    let time = harmless(entry.time.get(..16).unwrap_or(&entry.time)).replace('T', " ");
    let peer = name(&entry.peer);
    let author = if entry.sent { format!("you to {peer}") } else { peer.into_owned() };
    format!("{time} {}", message(&author, &entry.text))
}

/// As much of a text as shows which one it is.
fn excerpt(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let end = line.char_indices().nth(EXCERPT).map_or(line.len(), |(end, _)| end);
    match end == text.len() {
        true => harmless(text).into_owned(),
        false => format!("{}… ({} bytes)", harmless(&line[..end]), text.len()),
    }
}

/// Characters of a text that are shown where it is only to be known by them.
const EXCERPT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(report: &Report) -> String {
        words(report, Look::default()).unwrap()
    }

    #[test]
    fn of_a_long_text_that_was_not_sent_the_beginning_is_shown() {
        assert_eq!(excerpt("a short one"), "a short one");
        assert_eq!(excerpt(&"ö".repeat(100)), "ö".repeat(100));
        assert_eq!(excerpt(&"ö".repeat(101)), format!("{}… (202 bytes)", "ö".repeat(100)));
        assert_eq!(excerpt("a title\r\nand more"), "a title… (17 bytes)");
    }

    #[test]
    fn what_commands_mean_stands_in_one_column() {
        let help = shown(&Report::Help(None));
        for usage in COMMANDS.iter().filter(|usage| !RARE.contains(&usage.usage)) {
            let line = help.lines().find(|line| line.starts_with(usage.usage)).unwrap();
            assert_eq!(wrap::width(line.strip_suffix(usage.meaning).unwrap()), FIRST_COLUMN + 1, "{line}");
        }
        assert!(COMMANDS.iter().any(|usage| !usage.usage.is_ascii()), "a byte is no column");
    }

    #[test]
    fn a_call_is_told_with_its_number_and_how_to_answer_it() {
        let request = |peer: &str, has_chat| Report::Request {
            peer: peer.into(),
            number: 7,
            count: 1,
            trust: Trust::New,
            has_chat,
        };
        let told = |peer| shown(&request(peer, false));
        assert_eq!(
            told("bob"),
            "bob wants to talk to you (new to you, and anybody can take a name): /accept bob or /decline bob"
        );
        assert_eq!(
            told("b b"),
            "\"b%20b\" wants to talk to you (new to you, and anybody can take a name): /accept 7 or /decline 7"
        );
        assert_eq!(
            told("2"),
            "\"2\" wants to talk to you (new to you, and anybody can take a name): /accept 7 or /decline 7",
            "2 is another call"
        );
        let anew = shown(&request("bob", true));
        assert!(anew.starts_with("bob, with whom a chat is open, calls anew") && anew.contains("another device"));
    }

    #[test]
    fn a_failed_call_is_said_with_its_reason() {
        let closed = |reason| shown(&Report::Closed { peer: "bob".into(), reason });
        assert_eq!(closed(CloseReason::NotOnline), "bob is not online");
        let unanswered = "bob has not answered: they may be away";
        assert_eq!(closed(CloseReason::NoAnswer), unanswered);
    }
}
