//! Holds the house to its words: each stands once in the glossary of `src/README.md`, with one meaning; one name is one
//! type; and a word that was given up for another does not come back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::readme::{PAPERS, root, rust_files};
use crate::source::Source;

/// Types of one name that more than one room shows to others, and why nobody has to ask which is meant.
const NAMESAKES: &[(&str, &str)] = &[
    ("AccessToken", "the same secret, as one end of the WebSocket sends it and the other compares it"),
    ("Candidate", "the same thing, as it stands in a message and as it was read"),
    ("Description", "the same thing, as it stands in a message and as it was read"),
    ("Event", "what a state tells whoever leads it; each has its own"),
    ("IceServer", "the same thing, as it stands in a message and as it was read"),
    ("Output", "what a state wants done; each has its own"),
];

/// Words that were given up in a place, what is said there instead, and what may hold them all the same: names on the
/// wire, of another crate or in plain English. One in small letters is looked for in any case, and with a capital it is
/// a type's name.
const GIVEN_UP: &[(&str, &str, &str, &[&str])] = &[
    (
        "server",
        "relay",
        "forward",
        &["RelayFailed", "RELAY_FAILED", "lowkey_relays_total", "a relay is asked for", "relayed already"],
    ),
    ("server/addresses", "caller", "newcomer", &[]),
    ("server/clients", "caller", "newcomer", &[]),
    ("server/connection", "caller", "newcomer", &[]),
    ("server/http", "caller", "newcomer", &[]),
    ("server/listener", "caller", "newcomer", &[]),
    ("server/database", "link", "database", &[]),
    ("server/cluster", "frame", "dispatch", &["OwnedFrame", "(frame", "match frame"]),
    ("peer/rtc", "note", "RtcEvent", &["noted"]),
    (
        "peer/engine",
        "Connection",
        "PeerConnection",
        &["PeerConnection", "NoConnection", "ConnectionLost", ". Connections are"],
    ),
];

/// Words that were given up everywhere, in code, papers, helps and what is installed; in any case.
const GIVEN_UP_EVERYWHERE: &[(&str, &str)] =
    &[("signaling server", "chat server"), ("initiator", "caller"), ("responder", "called side")];

/// The glossary: each word with what it means.
fn glossary() -> Vec<(String, String)> {
    let paper = fs::read_to_string(root().join("src/README.md")).unwrap();
    read(paper.split("\n## ").find(|part| part.starts_with("The words of the house\n")).expect("there is a glossary"))
}

/// The rows of the table in a piece of a paper, which has two columns.
///
/// # Panics
/// A row is none, so that nobody would read it.
fn read(piece: &str) -> Vec<(String, String)> {
    let mut rows = piece.lines().filter(|line| line.contains('|'));
    assert_eq!([rows.next(), rows.next()], [Some("| word | means |"), Some("|---|---|")], "the table has its head");
    let cells = |row: &str| match row.split('|').map(str::trim).collect::<Vec<_>>()[..] {
        ["", word, meaning, ""] if !word.is_empty() && !meaning.is_empty() => (word.to_owned(), meaning.to_owned()),
        _ => panic!("no row of two columns: {row}"),
    };
    rows.map(cells).collect()
}

/// What is wrong with a glossary.
fn faults(glossary: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (before, (word, _)) in glossary.iter().zip(&glossary[1..]) {
        match before.0.to_lowercase().cmp(&word.to_lowercase()) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => faults.push(format!("{word} stands there twice")),
            std::cmp::Ordering::Greater => faults.push(format!("{word} stands behind {}", before.0)),
        }
    }
    for (word, meaning) in glossary {
        if word.contains([',', '/']) {
            faults.push(format!("{word}: these are several"));
        }
        // Where a word means two things, they stand side by side.
        if meaning.contains(';') || meaning.contains(". ") {
            faults.push(format!("{word}: this is more than one sentence"));
        }
    }
    faults
}

/// The types of each name that more than one file shows to others, with those files.
fn namesakes(source: &Source) -> BTreeMap<String, BTreeSet<String>> {
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in source.0.values() {
        for name in &file.types {
            rooms.entry(name.clone()).or_default().insert(file.name.clone());
        }
    }
    rooms.retain(|_, files| files.len() > 1);
    rooms
}

/// Lines of a text that have a word, but for those where only something excused has it.
fn lines_with<'a>(text: &'a str, word: &str, excused: &[&str]) -> Vec<&'a str> {
    let is_type = word.contains(char::is_uppercase);
    let has_it = |line: &&str| {
        // A space stays, so that what stood around it makes no word.
        let bare = excused.iter().fold((*line).to_owned(), |line, excuse| line.replace(excuse, " "));
        bare.contains(word) || !is_type && bare.to_lowercase().contains(word)
    };
    text.lines().filter(has_it).collect()
}

/// Excuses without which nothing more would be found in these texts.
fn needless<'a>(texts: &[&str], word: &str, excused: &[&'a str]) -> Vec<&'a str> {
    let found = |excused: &[&str]| texts.iter().map(|text| lines_with(text, word, excused).len()).sum::<usize>();
    let without = |excuse: &str| excused.iter().copied().filter(|other| *other != excuse).collect::<Vec<_>>();
    let is_needless = |excuse: &&&str| found(&without(excuse)) == found(excused);
    excused.iter().filter(is_needless).copied().collect()
}

/// Words that nobody uses in these texts.
fn unused<'a>(words: impl Iterator<Item = &'a str>, texts: &[&str]) -> Vec<&'a str> {
    let letters = |text: &str| {
        let mut apart = String::new();
        let mut before = ' ';
        for letter in text.chars() {
            // `LaneReport` and `lane_report` are a lane report.
            if letter.is_uppercase() && before.is_lowercase() {
                apart.push(' ');
            }
            apart.extend(letter.to_lowercase().map(|letter| if letter.is_alphanumeric() { letter } else { ' ' }));
            before = letter;
        }
        apart.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let texts: Vec<String> = texts.iter().map(|text| format!(" {} ", letters(text))).collect();
    let is_used = |word: &str| {
        let forms = ["", "s", "es"].map(|end| format!(" {}{end} ", letters(word)));
        texts.iter().any(|text| forms.iter().any(|form| text.contains(form)))
    };
    words.filter(|word| !is_used(word)).collect()
}

#[test]
fn each_word_of_the_house_stands_once_and_has_one_meaning() {
    let glossary = glossary();
    assert!(glossary.len() > 60, "the glossary is read: {glossary:?}");
    assert_eq!(faults(&glossary), [""; 0]);
    let source = Source::read();
    let texts: Vec<&str> = source.0.values().map(|file| file.text.as_str()).collect();
    let unused = unused(glossary.iter().map(|(word, _)| word.as_str()), &texts);
    assert_eq!(unused, [""; 0], "words of the house that src does not use");
}

#[test]
fn a_word_that_nobody_uses_is_found() {
    let texts = ["/// The peer connections of a node.", "fn lane_report() -> FileOffer {}"];
    assert_eq!(unused(["peer connection", "lane report", "file offer", "node"].into_iter(), &texts), [""; 0]);
    assert_eq!(unused(["connect", "no"].into_iter(), &texts), ["connect", "no"]);
}

#[test]
#[should_panic(expected = "no row of two columns: | chat |two peers|")]
fn a_row_that_would_not_be_read_is_found() {
    read("| word | means |\n|---|---|\n| call | a wish |\n| chat |two peers| |");
}

#[test]
fn a_word_of_two_meanings_is_found() {
    let found = |table: &str| faults(&read(&format!("| word | means |\n|---|---|\n{table}")));
    assert_eq!(found("| call | a wish |\n| chat | two peers |"), [""; 0]);
    assert_eq!(found("| call | a wish |\n| call | a way |"), ["call stands there twice"]);
    assert_eq!(found("| chat | two peers |\n| call | a wish |"), ["call stands behind chat"]);
    assert_eq!(
        found("| relay | a way; on the server, a message |\n| x | y |"),
        ["relay: this is more than one sentence"]
    );
    assert_eq!(found("| claim, seek | questions |\n| x | y |"), ["claim, seek: these are several"]);
}

#[test]
fn one_name_is_one_type() {
    let found = namesakes(&Source::read());
    let excused: BTreeSet<&str> = NAMESAKES.iter().map(|(name, _)| *name).collect();
    let unexcused: Vec<_> = found.iter().filter(|(name, _)| !excused.contains(name.as_str())).collect();
    assert!(unexcused.is_empty(), "types of one name in several rooms: {unexcused:?}");
    let stale: Vec<_> = excused.iter().filter(|name| !found.contains_key(**name)).collect();
    assert!(stale.is_empty(), "these names are of one type by now: {stale:?}");
}

#[test]
fn a_second_type_of_a_name_is_found() {
    let of = |one: &str, other: &str| {
        let source = Source(BTreeMap::new()).with("one", one).with("other", other);
        namesakes(&source).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(of("pub struct Turn;", "pub(super) enum Turn { A }"), ["Turn"]);
    assert_eq!(of("pub struct Turn;", "pub trait Turn {}"), ["Turn"]);
    assert_eq!(of("pub struct Turn;", "mod inner { pub(crate) type Turn = u8; }"), ["Turn"]);
    assert_eq!(of("pub struct Turn;", "struct Turn;"), [""; 0], "what one file keeps for itself");
    assert_eq!(of("pub struct Turn;", "#[cfg(test)]\nmod tests { pub struct Turn; }"), [""; 0]);
    assert_eq!(of("pub struct Turn;", "pub fn turn() -> super::Turn {} impl X { pub const Turn: u8 = 1; }"), [""; 0]);
}

#[test]
fn a_word_that_was_given_up_does_not_come_back() {
    let source = Source::read();
    for (place, word, instead, excused) in GIVEN_UP {
        let is_there =
            |name: &str| name == *place || name.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
        let files: Vec<_> = source.0.values().filter(|file| is_there(&file.name)).collect();
        assert!(!files.is_empty(), "{place} is there");
        for file in &files {
            let found = lines_with(&file.text, word, excused);
            assert_eq!(found, [""; 0], "{}: here one says {instead}", file.name);
        }
        let texts: Vec<&str> = files.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(needless(&texts, word, excused), [""; 0], "{place}: nothing there has {word} in this");
    }
}

#[test]
fn a_word_that_was_given_up_everywhere_is_nowhere() {
    let files_of = |folder: &str| fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files = rust_files(&["src", "bot", "integration"]);
    files.extend(["integration", "integration/golden", "deploy"].into_iter().flat_map(files_of));
    files.extend(PAPERS.into_iter().chain(["Makefile", "Cargo.toml"]).map(|file| root().join(file)));
    files.retain(|file| file.is_file() && !file.ends_with(file!()));
    assert!(files.len() > 400, "they are found: {}", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (word, instead) in GIVEN_UP_EVERYWHERE {
            assert_eq!(lines_with(&text, word, &[]), [""; 0], "{}: one says {instead}", file.display());
        }
    }
}

#[test]
fn a_word_that_was_given_up_is_found_in_any_case_and_a_needless_excuse_too() {
    let text = "/// It relays.\nErrorCode::RelayFailed\nstruct Relay;";
    assert_eq!(lines_with(text, "relay", &["RelayFailed"]), ["/// It relays.", "struct Relay;"]);
    assert_eq!(lines_with(text, "Relay", &["RelayFailed"]), ["struct Relay;"], "a type's name, as it stands");
    assert_eq!(lines_with("re(x)lay", "relay", &["(x)"]), [""; 0], "what is left makes no word");
    assert_eq!(needless(&[text], "relay", &["RelayFailed", "relay_frames"]), ["relay_frames"]);
}
