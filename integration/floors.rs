//! Holds `src/` to the map in `src/lib.rs`: a list of floors from top to bottom, on which each file stands once. A file
//! imports what is below it, and nothing of its own floor or a higher one, so there is no circle. A file with a `*`
//! does I/O; every other is pure. And no file and no function is longer than can be read in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::source::Source;

/// Files that are longer than [`MOST_LINES`], and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// Functions that are longer than [`MOST_LINES_OF_A_FUNCTION`], and why.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[
    ("server/bounds", "bounds", "a table: each bound in words"),
    ("chat/words", "words", "a table: the words for each report"),
];

/// Imports that go up, and why they still do.
const UPWARD: &[(&str, &str, &str)] = &[];

/// Types whose methods stand in several files that call each other's, up the floors too: a call of one's own method is
/// no import. Each is one state with several subjects, and its files are to be read as one room.
const ONE_STATE: &[(&str, &str)] = &[
    ("Clients", "one client's coming, reading and going move the same lists"),
    ("Cluster", "asks, replies and renewals share the one connection to the database"),
    ("Connection", "it goes from its request head to its frames"),
    ("Conversation", "a command and an event may each lead to any other subject"),
    ("Hub", "calls and messages go elsewhere where the other one is"),
    ("Peers", "a request becomes a call, that a chat, and that is carried on by a call"),
];

/// What can be read in one sitting, with its tests.
const MOST_LINES: usize = 450;

/// What stands on a screen beside something else. `rustfmt.toml` has the same; it leaves comments and strings alone.
const WIDEST: usize = 120;

/// What does one step. A table may be longer, and is named above.
const MOST_LINES_OF_A_FUNCTION: usize = 80;

/// The houses, from top to bottom. What is made for one is not known to those below.
const HOUSES: [&str; 19] = [
    "lib", "bin", "chat", "options", "profile", "peer", "server", "bucket", "signals", "waiting", "threads", "stderr",
    "stdout", "trouble", "amount", "escape", "lock", "protocol", "scheme",
];

/// What no pure file names. A group such as `use std::{fs, thread}` would hide its items, so there is none.
const IMPURE: &[&str] = &[
    "mio::",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "use std::{",
    "thread::",
    "env::",
    "fs::",
    "tokio",
    "webrtc::",
    "Instant::now",
    "SystemTime",
    "println!",
    "print!",
    "dbg!",
    "log::",
    "debug!(",
    "info!(",
];

/// Who does not know whom, although the floors would let it: files, or folders with all that is in them. `*` is all of
/// ours.
const STRANGERS: &[(&str, &[&str])] = &[
    (
        "protocol",
        &["bin", "chat", "options", "profile", "peer", "server", "signals", "stderr", "threads", "trouble", "waiting"],
    ),
    ("trouble", &["*"]),
    ("bucket", &["*"]),
    ("server", &["peer", "chat", "options"]),
    ("peer", &["server", "chat", "options"]),
    ("server/deadlines", &["protocol", "server/hub", "server/sessions", "server/connection"]),
    ("server/sessions", &["server/hub", "server/connection", "server/http"]),
    ("server/hub", &["server/connection", "server/http", "server/clients", "server/cluster"]),
    ("server/cluster", &["server/hub", "server/clients", "server/database"]),
    ("server/connection", &["server/hub", "server/sessions", "server/clients"]),
    ("server/http", &["server/hub", "server/connection", "server/clients"]),
    ("server/request", &["server/http", "server/access", "server/hub"]),
    ("server/response", &["server/http", "server/hub"]),
    ("server/access", &["server/http", "server/hub", "server/clients"]),
    ("server/ids", &["server/hub", "protocol"]),
    ("server/proxies", &["*"]),
    ("server/client", &["server/clients", "server/listener"]),
    ("server/addresses", &["server/hub", "server/connection", "server/clients", "protocol"]),
    ("server/backlog", &["server/connection", "server/clients", "protocol"]),
    ("server/presence", &["*"]),
    ("server/contacts", &["*"]),
    ("server/misses", &["server/hub", "server/clients"]),
    ("server/strikes", &["server/hub", "server/clients"]),
    ("server/plain", &["server"]),
    ("server/table", &["*"]),
    ("server/clients", &["server/listener"]),
    ("server/limits", &["server", "peer", "protocol"]),
    ("server/turn_servers", &["server", "peer"]),
    ("server/metrics", &["server/connection", "server/http"]),
    ("chat/report", &["chat"]),
    ("chat/json", &["chat/conversation", "chat/people", "chat/screen"]),
    ("peer/ice", &["peer"]),
    ("peer/candidate", &["peer"]),
    ("peer/description", &["protocol", "peer/engine", "peer/event"]),
    ("peer/sdp", &["protocol", "peer/engine", "peer/event"]),
    ("peer/keys", &["protocol", "peer/engine", "peer/event", "peer/agreement"]),
    ("peer/guard", &["peer/rtc", "peer/signaling"]),
    ("peer/cipher", &["protocol", "peer/engine", "peer/event"]),
    ("peer/primitives", &["protocol", "peer/engine", "peer/event"]),
    ("peer/agreement", &["protocol", "peer/engine", "peer/event"]),
    ("profile", &["options", "chat"]),
    ("peer/socks", &["*"]),
    ("options", &["chat", "server"]),
    ("peer/frame", &["protocol", "peer/engine", "peer/event", "peer/agreement"]),
    ("peer/texts", &["*"]),
    ("peer/engine", &["peer/signaling", "peer/rtc"]),
    ("chat/command", &["chat/conversation", "chat/people", "chat/report", "chat/screen", "peer", "profile"]),
    ("amount", &["*"]),
    ("chat/amount", &["chat", "peer", "options"]),
    ("chat/flood", &["*"]),
    ("chat/paths", &["*"]),
    ("chat/harmless", &["chat", "peer", "profile", "protocol"]),
    ("chat/callee", &["chat/command", "chat/conversation", "peer"]),
    ("chat/screen", &["chat/conversation"]),
    ("chat/effect", &["chat/people", "chat/outbox", "chat/conversation"]),
    ("chat/people", &["chat/conversation"]),
    ("chat/outbox", &["chat/people", "chat/conversation"]),
    ("chat/requests", &["chat/people", "chat/conversation"]),
    ("chat/transfers", &["chat/people", "chat/conversation"]),
    ("chat/script", &["chat"]),
];

/// Files that leave a crate to others.
const FOREIGN: &[(&str, &str)] = &[("server/client", "mio::"), ("server/clients", "mio::"), ("peer/guard", "rtc::")];

/// The floors of the map, from top to bottom: the files of each, and whether they do I/O.
fn floors(map: &str) -> Vec<Vec<(String, bool)>> {
    let block = map.split("//! ```text\n").nth(1).expect("lib.rs has the map").split("//! ```").next().unwrap();
    let lines = block.lines().map(|line| line.trim_start_matches("//!").trim());
    let files = lines.filter(|line| !line.starts_with("--")).map(str::split_whitespace);
    files
        .map(|files| files.map(|file| (file.trim_end_matches('*').to_owned(), file.ends_with('*'))).collect())
        .collect()
}

fn map() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap()
}

/// On which floor each file stands, counted from the top, and whether it does I/O.
fn places(map: &str) -> BTreeMap<String, (usize, bool)> {
    let mut places = BTreeMap::new();
    for (floor, files) in floors(map).into_iter().enumerate() {
        for (file, does_io) in files {
            let before = places.insert(file.clone(), (floor, does_io));
            assert!(before.is_none(), "{file} stands twice on the map in src/lib.rs");
        }
    }
    places
}

/// What is wrong with the floors.
fn faults(source: &Source, map: &str) -> Vec<String> {
    let places = places(map);
    let mut faults = Vec::new();
    for name in source.0.keys() {
        let Some((floor, _)) = places.get(name) else {
            let imported: BTreeSet<String> = source.imports(name).into_keys().collect();
            let importing = source.0.keys().filter(|other| source.imports(other).contains_key(name));
            let lowest = importing.filter(|other| places.contains_key(*other)).max_by_key(|other| places[*other].0);
            let highest =
                imported.iter().filter(|other| places.contains_key(*other)).min_by_key(|other| places[*other].0);
            let named = |other: Option<&String>| other.map_or("nothing", |other| other.as_str()).to_owned();
            faults.push(format!(
                "{name} is on no floor: it belongs below {} and above {}",
                named(lowest),
                named(highest)
            ));
            continue;
        };
        for (import, path) in source.imports(name) {
            let is_known = UPWARD.iter().any(|(from, to, _)| (*from, *to) == (name.as_str(), import.as_str()));
            if places.get(&import).is_some_and(|(below, _)| below <= floor) && !is_known {
                faults.push(format!("{name} imports {import}, which is not below it ({path})"));
            }
        }
    }
    let gone = places.keys().filter(|name| !source.0.contains_key(*name));
    faults.extend(gone.map(|name| format!("{name} is on the map and not in src")));
    faults
}

/// Types of which a method calls one that stands on the same floor or a higher one, with the files.
fn states_in_several_files(source: &Source, map: &str) -> BTreeMap<String, BTreeSet<String>> {
    let (places, mut found) = (places(map), BTreeMap::<String, BTreeSet<String>>::new());
    for (file, of, calls) in
        source.0.values().flat_map(|file| file.own_calls.iter().map(move |(of, calls)| (file, of, calls)))
    {
        let own = &file.methods[of];
        for other in source.0.values().filter(|other| other.name != file.name) {
            let is_called = other
                .methods
                .get(of)
                .is_some_and(|methods| methods.iter().any(|name| calls.contains(name) && !own.contains(name)));
            if is_called && places[&other.name].0 <= places[&file.name].0 {
                found.entry(of.clone()).or_default().insert(format!("{} calls {}", file.name, other.name));
            }
        }
    }
    found
}

#[test]
fn only_what_is_one_state_calls_itself_up_the_floors() {
    let found = states_in_several_files(&Source::read(), &map());
    let named: BTreeSet<&str> = ONE_STATE.iter().map(|(name, _)| *name).collect();
    let unnamed: Vec<_> = found.iter().filter(|(name, _)| !named.contains(name.as_str())).collect();
    assert!(unnamed.is_empty(), "methods that call methods not below them: {unnamed:#?}");
    let stale: Vec<_> = named.iter().filter(|name| !found.contains_key(**name)).collect();
    assert!(stale.is_empty(), "these go down only by now: {stale:?}");
}

#[test]
fn a_method_that_is_called_up_the_floors_is_found() {
    let map = "//! ```text\n//! lib\n//! above*\n//! below\n//! ```\n";
    let of = |above: &str, below: &str| {
        let source = Source(BTreeMap::new()).with("above", above).with("below", below);
        states_in_several_files(&source, map).into_keys().collect::<Vec<_>>()
    };
    let above = "impl super::Hub { pub fn up(&self) { self.down(); } }";
    assert_eq!(of(above, "impl Hub { fn down(&self) {} }"), [""; 0]);
    assert_eq!(of(above, "impl Hub { fn down(&self) { self.up() } }"), ["Hub"]);
    assert_eq!(of(above, "impl<'a> Drop for Hub<'a> { fn drop(&mut self) { if true { Self::up(self) } } }"), ["Hub"]);
    assert_eq!(of(above, "impl Other { fn down(&self) { self.up() } }"), [""; 0]);
    assert_eq!(of(above, "#[cfg(test)]\nmod tests { impl Hub { fn down(&self) { self.up() } } }"), [""; 0]);
}

fn house(name: &str) -> &str {
    name.split('/').next().unwrap()
}

#[test]
fn imports_go_down_only() {
    let (source, map) = (Source::read(), map());
    let faults = faults(&source, &map);
    assert!(faults.is_empty(), "by the map in src/lib.rs:\n{}", faults.join("\n"));
    for (from, to, reason) in UPWARD {
        assert!(
            source.imports(from).contains_key(*to),
            "{from} does not import {to} any more ({reason}): take it off the list"
        );
    }
}

#[test]
fn houses_stand_on_each_other() {
    let places = places(&map());
    let place = |name: &str| HOUSES.iter().position(|part| *part == house(name)).unwrap_or_else(|| panic!("{name}"));
    let mut names: Vec<&String> = places.keys().collect();
    names.sort_by_key(|name| places[*name].0);
    assert!(names.is_sorted_by_key(|name| place(name)), "a house ends where the next one begins");
}

#[test]
fn an_import_to_the_same_floor_or_a_higher_one_is_found() {
    let map = "//! ```text\n//! above*\n//!\n//! -- the rest\n//! same other\n//! below\n//! ```\n";
    let source = |other: &str| {
        let files = [
            ("above", "use crate::same::Thing;"),
            ("same", "pub use crate::below::Thing;"),
            ("below", "pub struct Thing;"),
        ];
        let source = Source(BTreeMap::new());
        files.into_iter().chain([("other", other)]).fold(source, |source, (name, text)| source.with(name, text))
    };
    let found = |other: &str| faults(&source(other), map);
    // What is passed on is not an import of who does so, and a test may import what it likes.
    for fine in [
        "",
        "use crate::below::Thing;",
        "use std::fmt; fn f() { crate::below::g(); }",
        "use crate::same::Thing;",
        "#[cfg(test)]\nmod tests { use crate::above; }",
        "#[cfg(test)]\nuse crate::above; fn f() {}",
        "/// See `crate::above`.\nfn f() {}",
    ] {
        assert_eq!(found(fine), Vec::<String>::new(), "{fine}");
    }
    for (faulty, import, path) in [
        ("use super::same;", "same", "super::same"),
        ("use super::above::Window;", "above", "super::above::Window"),
        ("use super::{below, above::{self, Door}};", "above", "super::above"),
        ("pub(crate) use crate::above as attic;", "above", "crate::above"),
        ("fn f() { crate::above::open() }", "above", "crate::above::open"),
        ("fn f() -> Vec<super::above::Window> { Vec::new() }", "above", "super::above::Window"),
        ("fn f() { assert!(crate::above::is_open()) }", "above", "crate::above::is_open"),
    ] {
        assert_eq!(found(faulty), [format!("other imports {import}, which is not below it ({path})")], "{faulty}");
    }
    let new = source("").with("new", "");
    assert_eq!(faults(&new, map), ["new is on no floor: it belongs below nothing and above nothing"]);
    // And so in the house itself: nobody below the hub may know it.
    let source = Source::read();
    let sessions = format!("use super::hub::Hub;\n{}", source.0["server/sessions"].text);
    let found = faults(&source.with("server/sessions", &sessions), &self::map());
    assert!(found.iter().any(|fault| fault.starts_with("server/sessions imports server/hub,")), "{found:?}");
}

#[test]
fn who_is_no_business_of_anothers_is_not_imported() {
    let source = Source::read();
    let is_in =
        |name: &str, place: &str| name == place || name.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
    for (place, strangers) in STRANGERS {
        let names: Vec<&String> = source.0.keys().filter(|name| is_in(name, place)).collect();
        assert!(!names.is_empty(), "{place} is there");
        let missing =
            strangers.iter().find(|stranger| **stranger != "*" && !source.0.keys().any(|name| is_in(name, stranger)));
        assert_eq!(missing, None, "{place}: the strangers are there");
        for name in names {
            for (import, path) in source.imports(name) {
                let is_strange = |stranger: &&str| *stranger == "*" || is_in(&import, stranger);
                assert!(!strangers.iter().any(is_strange), "{name} must not know {import} ({path})");
            }
        }
    }
    for (place, name) in FOREIGN {
        for file in source.0.values().filter(|file| is_in(&file.name, place)) {
            assert!(!file.code.contains(name), "{} must not name {name}", file.name);
        }
    }
}

#[test]
fn pure_files_know_no_socket_no_clock_no_thread_and_no_logger() {
    let (source, places) = (Source::read(), places(&map()));
    for file in source.0.values() {
        let does_io = places.get(&file.name).is_some_and(|(_, does_io)| *does_io);
        let named = IMPURE.iter().find(|name| file.code.contains(**name));
        if !does_io {
            assert_eq!(named, None, "{} is pure by the map in src/lib.rs, and names this", file.name);
        }
    }
}

#[test]
fn files_and_functions_are_read_in_one_go() {
    let source = Source::read();
    let mut long_files = BTreeSet::new();
    let mut long_functions = BTreeSet::new();
    for file in source.0.values() {
        let wide = (1..).zip(file.text.lines()).find(|(_, line)| line.chars().count() > WIDEST);
        assert_eq!(wide, None, "{}: this line has more than {WIDEST} columns", file.name);
        let lines = file.text.lines().count();
        if lines > MOST_LINES {
            long_files.insert((file.name.as_str(), lines));
        }
        let long = file.functions.iter().filter(|(_, lines)| *lines > MOST_LINES_OF_A_FUNCTION);
        long_functions.extend(long.map(|(function, lines)| (file.name.as_str(), function.as_str(), *lines)));
    }
    let names: Vec<&str> = LONG_FILES.iter().map(|(name, _)| *name).collect();
    let unnamed: Vec<_> = long_files.iter().filter(|(name, _)| !names.contains(name)).collect();
    assert!(unnamed.is_empty(), "longer than {MOST_LINES} lines, and without a reason: {unnamed:?}");
    let short = names.iter().find(|name| !long_files.iter().any(|(long, _)| long == *name));
    assert_eq!(short, None, "this file needs no exception any more");
    let names: Vec<(&str, &str)> = LONG_FUNCTIONS.iter().map(|(file, name, _)| (*file, *name)).collect();
    let unnamed: Vec<_> = long_functions.iter().filter(|(file, name, _)| !names.contains(&(file, name))).collect();
    assert!(unnamed.is_empty(), "longer than {MOST_LINES_OF_A_FUNCTION} lines, and no table: {unnamed:?}");
    let short = names.iter().find(|(file, name)| !long_functions.iter().any(|(f, n, _)| (f, n) == (file, name)));
    assert_eq!(short, None, "this function needs no exception any more");
}

#[test]
fn only_one_room_knows_webrtc() {
    for file in Source::read().0.values() {
        let names_it = ["webrtc::", "rtc::ice", "tokio::spawn"].iter().any(|name| file.code.contains(name));
        assert!(file.name.starts_with("peer/rtc") || !names_it, "{}", file.name);
    }
}

#[test]
fn nothing_is_printed_by_a_macro_that_panics_where_nobody_reads() {
    let bot = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("bot/main.rs")).unwrap();
    for file in Source::read().with("bot/main", &bot).0.values() {
        assert!(!["println!", "print!", "dbg!"].iter().any(|name| file.code.contains(name)), "{}", file.name);
    }
}

#[test]
fn one_room_starts_threads_so_that_none_that_is_missing_is_a_panic() {
    let bot = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("bot/main.rs")).unwrap();
    for file in Source::read().with("bot/main", &bot).0.values().filter(|file| file.name != "threads") {
        let starts_one =
            ["thread::spawn", "thread::Builder", "thread::scope"].iter().any(|name| file.code.contains(name));
        assert!(!starts_one, "{}: by threads::spawn, whose error says what to do", file.name);
    }
}

#[test]
fn there_is_no_unsafe_code_and_no_unwrap_outside_tests() {
    for file in Source::read().0.values() {
        assert!(!file.code.contains("unsafe ") && !file.code.contains(".unwrap()"), "{}", file.name);
    }
}
