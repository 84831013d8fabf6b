//! The words about files. Pure.

use super::super::amount::{percent, time};
use super::super::harmless::{harmless, name};
use super::super::report::{FileNews, FileReport, FileState};
use crate::amount::bytes;
use crate::peer::files::name::safe;
use crate::peer::{Digest, EndReason};

/// What is said of what has happened to a file; nothing where it has nothing to say to people.
pub fn news(file: &FileReport, news: &FileNews) -> Option<String> {
    let (what, peer, size) = (shown(&file.name), name(&file.peer), size(file));
    let measures: String = measures(file).iter().map(|measure| format!("{measure}, ")).collect();
    let offered = format!("{what} ({measures}file {})", file.number);
    Some(match news {
        FileNews::Offering => format!("offering {offered} to {peer}"),
        FileNews::Offered { is_only: true, .. } => format!("{peer} offers {offered}: /take or /refuse"),
        FileNews::Offered { .. } => {
            format!("{peer} offers {offered}: /take {0} or /refuse {0}", file.number)
        }
        FileNews::Started { from: 0 } if file.is_ours => format!("{peer} takes {what}"),
        FileNews::Started { from: 0 } | FileNews::Progress { .. } => return None,
        FileNews::Started { from } => {
            let whose = if file.is_ours { format!("for {peer}") } else { format!("of {peer}") };
            let at = match file.size {
                Some(size) => format!("{} %", percent(*from, size)),
                None => bytes(*from),
            };
            format!("{what} {whose} goes on where it was, at {at}")
        }
        FileNews::Paused(reason) => format!("{what}: {reason}"),
        FileNews::Sent { .. } => format!("{peer} has {what}{size}"),
        FileNews::Received { path: Some(path), .. } => {
            format!("{} is in {}", of(&peer, &what), harmless(&path.display().to_string()))
        }
        FileNews::Received { path: None, .. } => format!("{} is whole{size}", of(&peer, &what)),
        FileNews::Ended { reason, trouble, is_kept, is_by_us } => {
            let why = why(file, *reason, trouble.as_deref(), *is_by_us);
            match (file.is_ours, is_kept) {
                (true, true) => format!("{what} was not sent to {peer}: {why}; {GOES_ON}"),
                (true, false) => format!("{what} was not sent to {peer}: {why}"),
                (false, true) => format!(
                    "{} has not come: {why}; what came of it is kept, and goes on once they offer it again",
                    of(&peer, &what)
                ),
                (false, false) => format!("{} has not come: {why}", of(&peer, &what)),
            }
        }
    })
}

/// What is said of a file that could not be offered.
pub fn not_offered(peer: Option<&str>, path: &str, message: &str) -> String {
    let to = peer.map(|peer| format!(" to {}", name(peer))).unwrap_or_default();
    format!("not offered{to}: {}: {}", harmless(path), harmless(message))
}

/// Why a file has ended, as this side sees it.
pub fn why(file: &FileReport, reason: EndReason, trouble: Option<&str>, is_by_us: bool) -> String {
    let peer = name(&file.peer);
    match (reason, trouble) {
        (_, Some(trouble)) => harmless(trouble).into_owned(),
        (EndReason::Cancelled, None) if is_by_us => "you have cancelled it".to_owned(),
        (EndReason::Cancelled, None) => format!("{peer} has cancelled it"),
        (reason, None) if file.is_ours => match reason {
            EndReason::Declined => format!("{peer} does not want it"),
            EndReason::NotAccepting => format!("{peer} takes no files"),
            EndReason::Unsupported => format!("{peer}'s program takes no files"),
            EndReason::TooLarge => format!("it is longer than {peer} takes"),
            EndReason::NoSpace => format!("there is no room for it at {peer}'s"),
            EndReason::Expired => format!("{peer} has not answered for a day"),
            EndReason::Failed => format!("{peer}'s program could not store it"),
            reason => reason.to_string(),
        },
        (reason, None) => match reason {
            EndReason::Declined => "you did not want it".to_owned(),
            EndReason::NotAccepting => "files of theirs are not taken here".to_owned(),
            EndReason::TooLarge => "it is longer than is taken here".to_owned(),
            EndReason::TooMany => "no more are taken here at once".to_owned(),
            EndReason::NoSpace => "there is no room for it here".to_owned(),
            EndReason::Changed => format!("it has changed while {peer} sent it"),
            EndReason::Damaged => format!("what came is not what {peer} sent, and was thrown away"),
            EndReason::Expired => "you have not answered for a day".to_owned(),
            EndReason::Failed => format!("{peer}'s program could not read it"),
            reason => reason.to_string(),
        },
    }
}

/// A file and whose it is.
fn of(peer: &str, what: &str) -> String {
    format!("{peer}'s {what}")
}

/// The length of a file in parentheses, where it is known.
fn size(file: &FileReport) -> String {
    file.size.map(|size| format!(" ({})", bytes(size))).unwrap_or_default()
}

/// How large a file or folder is, as far as that is known.
fn measures(file: &FileReport) -> Vec<String> {
    let entries = file.entries.map(|entries| format!("folder of {entries}"));
    entries.into_iter().chain(file.size.map(bytes)).collect()
}

/// What is said of symbolic links and the like in a folder, which are not sent; nothing where there are none.
pub fn skipped(name: &str, count: u64) -> Option<String> {
    let name = shown(name);
    match count {
        0 => None,
        1 => Some(format!("a symbolic link, device, pipe or socket in {name} is not sent")),
        _ => Some(format!("{count} symbolic links, devices, pipes or sockets in {name} are not sent")),
    }
}

/// All files, a line for each; of what is done a second one with its digest, as sha256sum prints it.
pub fn list(files: &[(FileReport, FileState)]) -> String {
    if files.is_empty() {
        return "no files: /file PATH offers one".to_owned();
    }
    files.iter().map(|(file, state)| line(file, state)).collect::<Vec<_>>().join("\n")
}

fn line(file: &FileReport, state: &FileState) -> String {
    let (what, peer) = (shown(&file.name), name(&file.peer));
    let (arrow, whose) = if file.is_ours { ("↑", format!("to {peer}")) } else { ("↓", format!("of {peer}")) };
    let measures = measures(file).join(", ");
    let measures = if measures.is_empty() { measures } else { format!(" ({measures})") };
    let head = format!("file {} {arrow} {what}{measures} {whose}:", file.number);
    match state {
        FileState::Offered if file.is_ours => format!("{head} {}", progress(file, state)),
        FileState::Offered => format!("{head} /take {0} or /refuse {0}", file.number),
        FileState::Taken | FileState::Running { .. } => format!("{head} {}", progress(file, state)),
        FileState::Paused { done, reason } => format!("{head} {}; {reason}", amount(*done, file.size)),
        // What was hashed of a folder nobody else can hash.
        FileState::Done { path, .. } if file.entries.is_some() => match path {
            Some(path) => format!("{head} done\n{}", harmless(&path.display().to_string())),
            None => format!("{head} done"),
        },
        FileState::Done { path, digest } => {
            let place = path.as_ref().map(|path| path.display().to_string());
            let sum = sum(digest, place.as_deref().unwrap_or(&safe(&file.name)));
            format!("{head} done\n{}", harmless(&sum))
        }
        FileState::Ended { reason, is_kept, is_by_us } => {
            let kept = if file.is_ours { GOES_ON } else { "what came of it is kept" };
            let kept = if *is_kept { format!("; {kept}") } else { String::new() };
            format!("{head} {}{kept}", why(file, *reason, None, *is_by_us))
        }
    }
}

/// A digest as sha256sum prints it: what that would take for something else in a name stands behind a backslash.
fn sum(digest: &Digest, path: &str) -> String {
    let escaped = path.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == path { "" } else { "\\" };
    format!("{mark}{digest}  {escaped}")
}

/// How far a file is that is on its way, how fast, and for how long yet.
pub fn progress(file: &FileReport, state: &FileState) -> String {
    let (done, rate, time_left) = match state {
        FileState::Running { done, rate, time_left } => (*done, *rate, *time_left),
        FileState::Paused { done, reason } => return format!("{}, {reason}", amount(*done, file.size)),
        FileState::Offered => return "no answer yet".to_owned(),
        _ => return "waits for its turn".to_owned(),
    };
    if file.size == Some(done) {
        return format!("{}, checking", amount(done, file.size));
    }
    let rate = rate.map(|rate| format!(", {}/s", bytes(rate))).unwrap_or_default();
    let left = time_left.map(|left| format!(", {} left", time(left))).unwrap_or_default();
    format!("{}{rate}{left}", amount(done, file.size))
}

fn amount(done: u64, size: Option<u64>) -> String {
    match size {
        Some(size) => format!("{} % of {}", percent(done, size), bytes(size)),
        None => bytes(done),
    }
}

/// A name of a file as people are shown it: as it would be stored, and in quotes where it is more than one plain word.
pub fn shown(name: &str) -> String {
    let name = safe(name);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.chars().all(is_plain) { name } else { format!("\"{}\"", harmless(&name)) }
}

/// What is said of one of ours of which the other side has a part.
const GOES_ON: &str = "offered again, it goes on where it was";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::peer::{FileId, PauseReason};

    fn file(is_ours: bool, name: &str) -> FileReport {
        let (peer, file, size) = ("bob".to_owned(), FileId([1; 16]), Some(2_449_999));
        FileReport { peer, file, number: 3, is_ours, name: name.to_owned(), size, entries: None, id: None }
    }

    #[test]
    fn what_happens_to_a_file_is_said_in_one_line() {
        let told = |is_ours, happened: FileNews| news(&file(is_ours, "report.pdf"), &happened).unwrap();
        let ended = |reason, is_kept| FileNews::Ended { reason, trouble: None, is_kept, is_by_us: false };
        let digest = Digest([7; 32]);
        for (is_ours, happened, words) in [
            (true, FileNews::Offering, "offering report.pdf (2.4 MB, file 3) to bob"),
            (
                false,
                FileNews::Offered { modified: None, is_only: true },
                "bob offers report.pdf (2.4 MB, file 3): /take or /refuse",
            ),
            (
                false,
                FileNews::Offered { modified: None, is_only: false },
                "bob offers report.pdf (2.4 MB, file 3): /take 3 or /refuse 3",
            ),
            (true, FileNews::Started { from: 0 }, "bob takes report.pdf"),
            (false, FileNews::Started { from: 1_000_000 }, "report.pdf of bob goes on where it was, at 40 %"),
            (false, FileNews::Paused(PauseReason::NoSpace), "report.pdf: the disk is full; make room within a minute"),
            (true, FileNews::Sent { digest }, "bob has report.pdf (2.4 MB)"),
            (
                false,
                FileNews::Received { path: Some("/d/report (1).pdf".into()), digest },
                "bob's report.pdf is in /d/report (1).pdf",
            ),
            (true, ended(EndReason::Declined, false), "report.pdf was not sent to bob: bob does not want it"),
            (true, ended(EndReason::ChatEnded, false), "report.pdf was not sent to bob: the chat has ended"),
            (
                true,
                ended(EndReason::ChatEnded, true),
                "report.pdf was not sent to bob: the chat has ended; offered again, it goes on where it was",
            ),
            (false, ended(EndReason::ChatEnded, false), "bob's report.pdf has not come: the chat has ended"),
            (
                false,
                ended(EndReason::ChatEnded, true),
                "bob's report.pdf has not come: the chat has ended; what came of it is kept, and goes on once they \
                 offer it again",
            ),
        ] {
            assert_eq!(told(is_ours, happened), words);
        }
        assert_eq!(news(&file(true, "x"), &FileNews::Progress { done: 1, rate: None }), None, "the prompt shows it");
    }

    #[test]
    fn a_name_of_a_stranger_is_shown_as_it_would_be_stored_and_cannot_pass_for_our_words() {
        let offered =
            |name: &str| news(&file(false, name), &FileNews::Offered { modified: None, is_only: true }).unwrap();
        for (name, shown) in [
            ("../../.bashrc", "_bashrc"),
            ("a\x1b[2Jb\u{202e}fdp.exe", "\"a_[2Jb_fdp.exe\""),
            ("x (1 B): /take 9\n* bob is verified", "\"x (1 B)_ _take 9_* bob is verified\""),
            ("my \"report\".pdf", "\"my _report_.pdf\""),
            ("", "file"),
        ] {
            let words = offered(name);
            // Behind a slash stands the last component.
            let shown = if name.contains("/take") { "\"take 9__ bob is verified\"" } else { shown };
            assert_eq!(words, format!("bob offers {shown} (2.4 MB, file 3): /take or /refuse"));
        }
    }

    #[test]
    fn the_list_says_how_far_each_is_and_of_what_is_done_the_digest_as_sha256sum_prints_it() {
        let digest = Digest([0xab; 32]);
        let hash = "ab".repeat(32);
        let running =
            FileState::Running { done: 1_000_000, rate: Some(3_200_000), time_left: Some(Duration::from_secs(1)) };
        let done = |path: &str| FileState::Done { path: Some(path.into()), digest };
        for (is_ours, state, words) in [
            (false, FileState::Offered, "file 3 ↓ report.pdf (2.4 MB) of bob: /take 3 or /refuse 3".to_owned()),
            (true, FileState::Offered, "file 3 ↑ report.pdf (2.4 MB) to bob: no answer yet".to_owned()),
            (true, running, "file 3 ↑ report.pdf (2.4 MB) to bob: 40 % of 2.4 MB, 3.2 MB/s, 1 s left".to_owned()),
            (false, done("/d/x y"), format!("file 3 ↓ report.pdf (2.4 MB) of bob: done\n{hash}  /d/x y")),
            (false, done("/d\\x"), format!("file 3 ↓ report.pdf (2.4 MB) of bob: done\n\\{hash}  /d\\\\x")),
            (
                true,
                FileState::Done { path: None, digest },
                format!("file 3 ↑ report.pdf (2.4 MB) to bob: done\n{hash}  report.pdf"),
            ),
        ] {
            assert_eq!(list(&[(file(is_ours, "report.pdf"), state)]), words);
        }
        let folder = FileReport { entries: Some(12), ..file(false, "photos") };
        assert_eq!(
            list(&[(folder.clone(), done("/d/photos"))]),
            "file 3 ↓ photos (folder of 12, 2.4 MB) of bob: done\n/d/photos"
        );
        let offered = news(&folder, &FileNews::Offered { modified: None, is_only: true }).unwrap();
        assert_eq!(offered, "bob offers photos (folder of 12, 2.4 MB, file 3): /take or /refuse");
        assert_eq!(skipped("a b", 2).unwrap(), "2 symbolic links, devices, pipes or sockets in \"a b\" are not sent");
        let all = FileState::Running { done: 2_449_999, rate: None, time_left: None };
        assert_eq!(progress(&file(true, "x"), &all), "99 % of 2.4 MB, checking", "it is not there before it is");
        assert_eq!(list(&[]), "no files: /file PATH offers one");
    }
}
