//! What is told, as JSON for programs: one object a line; and commands from them. Pure.
//!
//! Each object has `v`, the version of this format, `event`, its name, and `time`, when it was told (RFC 3339). The
//! paper beside this file has them all, field by field. Fields may be added in the same version; what is there keeps
//! its meaning.

mod command;
mod files;

use serde_json::{Value, json};

use super::report::{ChatReport, ChatState, PeerReport, Report, Unsent};
use crate::escape::{escaped, shortened_lines};
use crate::options::advice;
use crate::peer::{CloseReason, NotSentReason, Trust};

pub use command::command;

/// The version of the format.
pub const VERSION: u32 = 1;

/// A report as an object, told at `time`. `with_text` says whether texts of messages and names of files are in it.
pub fn object(report: &Report, time: &str, with_text: bool) -> Value {
    let (event, mut fields) = fields(report);
    if !with_text && let Some(fields) = fields.as_object_mut() {
        fields.remove("text");
        if matches!(report, Report::File { .. }) {
            fields.remove("name");
        }
    }
    fields["v"] = VERSION.into();
    fields["event"] = event.into();
    fields["time"] = time.into();
    fields
}

/// An object as a line. What could take over a terminal or deceive the eye is written as `\u…`, which every reader of
/// JSON undoes: the control characters beyond ASCII and DEL, bidirectional controls, and what cannot be seen.
pub fn line(object: &Value) -> String {
    escaped(&object.to_string()).into_owned()
}

/// The name of an event and its fields, without what all have.
fn fields(report: &Report) -> (&'static str, Value) {
    match report {
        Report::Started { name } => ("started", json!({ "name": name, "program": env!("CARGO_PKG_VERSION") })),
        Report::Online => ("online", json!({})),
        Report::Offline { reason, retry_in, .. } => {
            ("offline", json!({ "reason": reason, "retry_seconds": retry_in.map(|time| time.as_secs_f64()) }))
        }
        Report::Calling { peer, is_waiting } => ("calling", json!({ "peer": peer, "waiting": is_waiting })),
        Report::Request { peer, number, trust, .. } => {
            ("request", json!({ "peer": peer, "number": number, "trust": trust_name(*trust) }))
        }
        Report::OldApp { peer, number } => ("old_app", json!({ "peer": peer, "number": number })),
        Report::RequestEnded { peer, .. } => ("request_ended", json!({ "peer": peer })),
        Report::Connecting { peer } => ("keys_exchanged", json!({ "peer": peer })),
        Report::Identified { peer, trust, number } => {
            ("identified", json!({ "peer": peer, "trust": trust_name(*trust), "safety_number": number.to_string() }))
        }
        Report::Open { peer, .. } => ("open", json!({ "peer": peer })),
        Report::Message { peer, text, .. } => ("message", json!({ "peer": peer, "text": text })),
        Report::Delivered { peer, ids } => {
            ("delivered", json!({ "peer": peer, "count": ids.len(), "ids": ids.iter().flatten().collect::<Vec<_>>() }))
        }
        Report::Interrupted { peer } => ("interrupted", json!({ "peer": peer })),
        Report::Resumed { peer } => ("resumed", json!({ "peer": peer })),
        Report::KeyChanged { peer } => ("key_changed", json!({ "peer": peer })),
        Report::NotSent { peer, text, id, reason, is_kept } => {
            let (reason, cause) = unsent_names(reason);
            let fields =
                json!({ "peer": peer, "text": text, "id": id, "reason": reason, "cause": cause, "kept": is_kept });
            ("not_sent", fields)
        }
        Report::Closed { peer, reason } => {
            ("closed", json!({ "peer": peer, "reason": reason_name(reason), "message": advice::on_close(reason) }))
        }
        Report::Refused { peer, reason } => {
            ("refused", json!({ "peer": peer, "reason": reason_name(reason), "message": advice::on_close(reason) }))
        }
        Report::File { file, news } => files::news(file, news),
        Report::FileNotOffered { peer, path, id, message } => {
            ("file_not_offered", json!({ "peer": peer, "path": path, "id": id, "message": message }))
        }
        Report::Files(all) => ("files", json!({ "files": files::list(all) })),
        Report::IdentityChanged { peer, known, known_number, number } => (
            "identity_changed",
            json!({
                "peer": peer, "known_since": known.since, "was_verified": known.is_verified,
                "known_safety_number": known_number.to_string(),
                "safety_number": number.as_ref().map(ToString::to_string),
            }),
        ),
        Report::SafetyNumber { peer, trust, number, new_number } => (
            "safety_number",
            json!({
                "peer": peer, "trust": trust.map(trust_name), "safety_number": number.to_string(),
                "new_safety_number": new_number.as_ref().map(ToString::to_string),
            }),
        ),
        Report::Peers(peers) => ("peers", json!({ "peers": peers.iter().map(peer).collect::<Vec<_>>() })),
        Report::Blocked(peers) => ("blocked", json!({ "peers": peers })),
        Report::Log { peer, entries } => ("log", json!({ "peer": peer, "texts": entries })),
        Report::Link(link) => ("link", json!({ "link": link })),
        Report::Who { current, chats, requests, refused } => {
            let requests: Vec<&String> = requests.iter().map(|(peer, _)| peer).collect();
            let chats: Vec<Value> = chats.iter().map(chat).collect();
            ("who", json!({ "current": current, "chats": chats, "requests": requests, "refused": refused }))
        }
        Report::Settings(settings) => {
            let settings: serde_json::Map<_, _> =
                settings.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
            ("settings", json!({ "settings": settings }))
        }
        Report::Help(about) => ("help", json!({ "about": about })),
        Report::ServerError { code, message, count } => {
            ("server_error", json!({ "code": code, "message": message, "count": count }))
        }
        Report::Mistake(message) => ("mistake", json!({ "message": shortened_lines(message), "id": null })),
        Report::Misread { message, id } => ("mistake", json!({ "message": shortened_lines(message), "id": id })),
        Report::Notice(message) => ("notice", json!({ "message": shortened_lines(message) })),
    }
}

fn peer(report: &PeerReport) -> Value {
    let PeerReport { peer, alias, known, is_here } = report;
    let since = known.as_ref().map(|known| &known.since);
    let is_verified = known.as_ref().is_some_and(|known| known.is_verified);
    json!({ "peer": peer, "alias": alias, "since": since, "verified": is_verified, "here": is_here })
}

fn chat(chat: &ChatReport) -> Value {
    let state = match chat.state {
        ChatState::Closed => "closed",
        ChatState::Calling => "calling",
        ChatState::Open => "open",
        ChatState::Interrupted => "interrupted",
    };
    json!({
        "peer": chat.peer, "state": state, "trust": chat.trust.map(trust_name), "unread": chat.unread,
        "underway": chat.underway, "waiting": chat.waiting, "kept": chat.kept,
    })
}

fn trust_name(trust: Trust) -> &'static str {
    match trust {
        Trust::Verified => "verified",
        Trust::Known => "known",
        Trust::New => "new",
        Trust::Unproven => "unproven",
    }
}

/// Why a text was not sent, and why what it waited for did not come about.
fn unsent_names(reason: &Unsent) -> (&'static str, Option<&'static str>) {
    match reason {
        Unsent::Peer(NotSentReason::NotOpen) => ("not_open", None),
        Unsent::Peer(NotSentReason::Unconfirmed) => ("unconfirmed", None),
        Unsent::Peer(NotSentReason::Busy) => ("busy", None),
        Unsent::Peer(NotSentReason::TooLong { .. }) => ("too_long", None),
        Unsent::Closed(reason) => ("not_open", Some(reason_name(reason))),
        Unsent::Ended => ("not_open", Some("ended")),
    }
}

fn reason_name(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::Left => "left",
        CloseReason::PeerLeft => "peer_left",
        CloseReason::Replaced => "replaced",
        CloseReason::ConnectionLost => "connection_lost",
        CloseReason::NotOnline => "not_online",
        CloseReason::Declined => "declined",
        CloseReason::NoAnswer => "no_answer",
        CloseReason::NoHello => "no_hello",
        CloseReason::NotRecognized => "not_recognized",
        CloseReason::NoConnection => "no_connection",
        CloseReason::NoCandidates => "no_candidates",
        CloseReason::PeerHasNoCandidates => "peer_has_no_candidates",
        CloseReason::LocalOnly => "local_only",
        CloseReason::NotOpened => "not_opened",
        CloseReason::PeerHasNoRelay => "peer_has_no_relay",
        CloseReason::NoLongTexts => "no_long_texts",
        CloseReason::NoRelay(_) => "no_relay",
        CloseReason::Oneself => "oneself",
        CloseReason::NotCalling => "not_calling",
        CloseReason::ServerLost => "server_lost",
        CloseReason::BadKey => "bad_key",
        CloseReason::BadDescription(_) => "bad_description",
        CloseReason::NotUnderstood => "not_understood",
        CloseReason::PeerHasNoRoom => "peer_has_no_room",
        CloseReason::IdentityChanged { .. } => "identity_changed",
        CloseReason::NotProven => "not_proven",
        CloseReason::Unproven => "unproven",
        CloseReason::KeyChanged => "key_changed",
        CloseReason::Unreadable => "unreadable",
        CloseReason::Exhausted => "exhausted",
        CloseReason::RulesBroken { .. } => "rules_broken",
        CloseReason::Crashed => "crashed",
        CloseReason::NotBegun { .. } => "not_begun",
        CloseReason::Failed { .. } => "failed",
        CloseReason::Refused { .. } => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::callee::Callee;
    use crate::chat::command::Command;
    use crate::chat::look::Look;
    use crate::chat::report::{FileNews, FileReport};
    use crate::chat::words::words;
    use crate::escape::{MAX_LINE, is_harmful};
    use crate::peer::SafetyNumber;
    use crate::peer::keys::KeyPair;
    use crate::peer::{Digest, EndReason, FileId, PauseReason};
    use crate::profile::known_peers::KnownPeer;

    #[test]
    fn a_report_is_an_object_with_version_name_and_time() {
        let report = Report::Message { peer: "bob".to_owned(), text: "h\ni".to_owned(), key: None };
        let expected = json!({ "v": 1, "event": "message", "time": "T", "peer": "bob", "text": "h\ni" });
        assert_eq!(object(&report, "T", true), expected);
        assert_eq!(object(&report, "T", false), json!({ "v": 1, "event": "message", "time": "T", "peer": "bob" }));
    }

    #[test]
    fn what_could_deceive_is_escaped_in_a_line_and_is_there_when_it_is_read() {
        let text =
            "\u{7f}\u{85}\u{9b}31m \u{202e}x\u{2066} \u{2028}\u{feff}\u{e0041} \u{1b}\n h\u{f6}\u{1f44b} \\u202e";
        let report = Report::Message { peer: text.to_owned(), text: text.to_owned(), key: None };
        let line = line(&object(&report, "T", true));
        assert!(!line.chars().any(is_harmful), "{line}");
        assert!(line.contains("h\u{f6}\u{1f44b}") && line.contains("\\u007f\\u0085\\u009b31m \\u202e"), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), object(&report, "T", true));
    }

    #[test]
    fn no_line_of_ours_is_longer_than_can_be_whatever_stands_in_it() {
        let long = || format!("{0}\n{0}", "x".repeat(2 * MAX_LINE));
        let reports =
            [Report::Notice(long()), Report::Mistake(long()), Report::Misread { message: long(), id: "7".to_owned() }];
        for report in reports {
            let told = object(&report, "T", true)["message"].as_str().unwrap().to_owned();
            assert_eq!(told, [&*format!("{}…", "x".repeat(MAX_LINE)); 2].join("\n"));
            assert_eq!(words(&report, Look::default()), Some(told));
        }
    }

    #[test]
    fn commands_are_read_and_mistakes_are_said() {
        let send = |peer: Option<&str>, id: Option<&str>| Command::Send {
            peer: peer.map(str::to_owned),
            text: "/quit".to_owned(),
            id: id.map(str::to_owned),
        };
        for (line, expected) in [
            (r#"{"command":"send","peer":"bob","text":"/quit","id":"7"}"#, send(Some("bob"), Some("7"))),
            (r#"{"command":"send","text":"/quit"}"#, send(None, None)),
            (r#"{"command":"connect","peer":"bob"}"#, Command::Connect { peer: Callee::Name("bob".to_owned()) }),
            (r#"{"command":"who"}"#, Command::Who),
            (r#"{"command":"quit"}"#, Command::Quit),
        ] {
            assert_eq!(command(line), expected, "{line}");
        }
        for line in [
            "",
            "hello",
            "{}",
            r#"{"command":"nothing"}"#,
            r#"{"command":"connect"}"#,
            r#"{"command":"paste","0":"x"}"#,
            r#"{"command":"verified","peer":"bob"}"#,
            r#"{"command":"compared","peer":"bob"}"#,
        ] {
            assert!(matches!(command(line), Command::Mistake(_)), "{line}");
        }
        assert!(matches!(command(r#"{"command":"connect","peer":"bob","extra":1}"#), Command::Mistake(_)));
        for alone in ["who", "peers", "files", "link", "online", "quit"] {
            let line = format!(r#"{{"command":"{alone}","extra":1}}"#);
            let told = format!("the command {alone} has no field extra; it takes none");
            assert_eq!(command(&line), Command::Mistake(told.clone()));
            let line = format!(r#"{{"command":"{alone}","id":"7"}}"#);
            let reason = told.replace("extra", "id");
            assert_eq!(command(&line), Command::Misread { reason, id: "7".to_owned() });
        }
        let line = r#"{"command":"send","peer":"bob","txt":"x","id":"7"}"#;
        assert!(matches!(command(line), Command::Misread { id, .. } if id == "7"), "a script learns which one it was");
    }

    /// One report of each kind.
    fn reports() -> Vec<Report> {
        let bob = || "bob".to_owned();
        let pair = KeyPair::generate().public();
        let number = || SafetyNumber::new((pair, "alice"), (pair, "bob"));
        let known = || KnownPeer { identity: pair, is_verified: true, since: "2026-11-23".to_owned() };
        let text = || "hello".to_owned();
        let file = |news| {
            let (file, size) = (FileId([1; 16]), Some(7));
            let file =
                FileReport { peer: bob(), file, number: 1, is_ours: true, name: text(), size, entries: None, id: None };
            Report::File { file, news }
        };
        vec![
            Report::Started { name: bob() },
            Report::Online,
            Report::Offline { reason: text(), retry_in: None, has_chats: false },
            Report::Calling { peer: bob(), is_waiting: false },
            Report::Request { peer: bob(), number: 1, count: 1, trust: Trust::Known, has_chat: false },
            Report::OldApp { peer: bob(), number: 2 },
            Report::RequestEnded { peer: bob(), is_told: true },
            Report::Connecting { peer: bob() },
            Report::Identified { peer: bob(), trust: Trust::New, number: number() },
            Report::Open { peer: bob(), is_current: true },
            Report::Message { peer: bob(), text: text(), key: None },
            Report::Delivered { peer: bob(), ids: vec![None, Some("7".to_owned())] },
            Report::NotSent { peer: None, text: text(), id: None, reason: NotSentReason::Busy.into(), is_kept: true },
            Report::Interrupted { peer: bob() },
            Report::Resumed { peer: bob() },
            Report::KeyChanged { peer: bob() },
            Report::Closed { peer: bob(), reason: CloseReason::PeerLeft },
            Report::Refused { peer: bob(), reason: CloseReason::Unproven },
            file(FileNews::Offering),
            file(FileNews::Offered { modified: None, is_only: true }),
            file(FileNews::Started { from: 0 }),
            file(FileNews::Progress { done: 1, rate: None }),
            file(FileNews::Paused(PauseReason::NoSpace)),
            file(FileNews::Sent { digest: Digest([1; 32]) }),
            file(FileNews::Received { path: None, digest: Digest([1; 32]) }),
            file(FileNews::Ended { reason: EndReason::Declined, trouble: None, is_kept: false, is_by_us: false }),
            Report::FileNotOffered { peer: None, path: text(), id: None, message: text() },
            Report::Files(Vec::new()),
            Report::IdentityChanged { peer: bob(), known: known(), known_number: number(), number: None },
            Report::SafetyNumber { peer: bob(), trust: None, number: number(), new_number: None },
            Report::Peers(vec![PeerReport { peer: bob(), alias: None, known: Some(known()), is_here: false }]),
            Report::Blocked(vec![bob()]),
            Report::Log { peer: None, entries: Vec::new() },
            Report::Link(text()),
            Report::Who { current: None, chats: Vec::new(), requests: Vec::new(), refused: Vec::new() },
            Report::Settings(vec![("bell", "on".to_owned())]),
            Report::Help(None),
            Report::ServerError { code: text(), message: text(), count: 1 },
            Report::Mistake(text()),
            Report::Notice(text()),
        ]
    }

    #[test]
    fn the_paper_has_every_event_with_its_fields() {
        let paper = include_str!("README.md");
        let table = paper.split_once("| event | fields | it means |\n").unwrap().1;
        let rows: Vec<&str> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
        let reports = reports();
        assert_eq!(rows.len(), reports.len());
        for (row, report) in rows.iter().zip(&reports) {
            let object = object(report, "T", true);
            let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
            keys.retain(|key| !["v", "event", "time"].contains(key));
            let columns: Vec<&str> = row.split('|').map(str::trim).collect();
            let mut told: Vec<&str> = columns[2].split(", ").map(|field| field.trim_matches('`')).collect();
            told.retain(|field| !field.is_empty());
            told.sort_unstable();
            assert_eq!((columns[1].trim_matches('`'), told), (object["event"].as_str().unwrap(), keys), "{row}");
        }
    }

    #[test]
    fn every_command_of_the_paper_is_one() {
        let paper = include_str!("README.md");
        let table = paper.split_once("| command | |\n").unwrap().1;
        let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        let mut names = Vec::new();
        for code in rows.flat_map(|row| row.split('`')).filter(|code| code.starts_with('{')) {
            assert!(!matches!(command(code), Command::Mistake(_)), "{code}");
            names.push(serde_json::from_str::<Value>(code).unwrap()["command"].as_str().unwrap().to_owned());
        }
        // And every command is in the paper: the error for an unknown one lists those that there are.
        let error = serde_json::from_str::<Command>(r#"{"command":"?"}"#).unwrap_err().to_string();
        let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert_eq!(known.len(), 28, "{error}");
        assert!(known.iter().all(|name| names.iter().any(|told| told == name)), "{known:?} {names:?}");
    }
}
