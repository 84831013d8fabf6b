//! Reads `src/` and fails where a pure file names a socket, a clock, a thread or a logger, and where an import goes up.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that do I/O; every other file is pure.
const IO: &[&str] = &[
    "bin/lowkey-server.rs",
    "bin/lowkey.rs",
    "chat.rs",
    "chat/client.rs",
    "chat/console.rs",
    "chat/editor.rs",
    "chat/identity.rs",
    "chat/input.rs",
    "chat/notify.rs",
    "chat/teletype.rs",
    "chat/terminal.rs",
    "chat/terminal/watch.rs",
    "options.rs",
    "options/start.rs",
    "peer.rs",
    "peer/clock.rs",
    "peer/dial.rs",
    "peer/driver.rs",
    "peer/events.rs",
    "peer/rtc.rs",
    "peer/rtc/build.rs",
    "peer/rtc/caught.rs",
    "peer/rtc/channel.rs",
    "peer/rtc/closing.rs",
    "peer/rtc/command.rs",
    "peer/rtc/connection.rs",
    "peer/rtc/early.rs",
    "peer/rtc/guarded.rs",
    "peer/rtc/layer.rs",
    "peer/rtc/pace.rs",
    "peer/rtc/pulse.rs",
    "peer/rtc/repeat.rs",
    "peer/rtc/runtime.rs",
    "peer/rtc/sieve.rs",
    "peer/rtc/socket.rs",
    "peer/rtc/turn.rs",
    "peer/rtc/turn/stream.rs",
    "peer/rtc/turn/tunnel.rs",
    "peer/signaling.rs",
    "peer/signaling/handshake.rs",
    "peer/tls.rs",
    "profile.rs",
    "profile/files.rs",
    "profile/permissions.rs",
    "server.rs",
    "server/check.rs",
    "server/client.rs",
    "server/clients.rs",
    "server/clients/admission.rs",
    "server/clients/timers.rs",
    "server/listener.rs",
    "server/secret_file.rs",
    "signals.rs",
    "stderr.rs",
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

/// Which files may not name which modules: imports go down only.
const NEVER: &[(&str, &[&str])] = &[
    ("protocol.rs", &["crate::", "super::peer", "super::server"]),
    ("server", &["crate::peer", "crate::chat", "crate::options"]),
    ("peer", &["crate::server", "crate::chat", "crate::options"]),
    ("server/deadlines.rs", &["crate::", "super::hub", "super::sessions", "super::connection"]),
    ("server/sessions.rs", &["super::hub", "super::connection", "super::http"]),
    ("server/hub.rs", &["super::connection", "super::http", "super::clients"]),
    ("server/connection.rs", &["super::hub", "super::sessions", "super::clients"]),
    ("server/http.rs", &["super::hub", "super::connection", "super::clients"]),
    ("server/request.rs", &["super::http", "super::access", "super::hub"]),
    ("server/response.rs", &["super::http", "super::hub"]),
    ("server/access.rs", &["super::http", "super::hub", "super::clients"]),
    ("server/ids.rs", &["super::hub", "crate::"]),
    ("server/proxies.rs", &["super::", "crate::"]),
    ("server/client.rs", &["super::clients", "super::listener", "mio::"]),
    ("server/addresses.rs", &["super::hub", "super::connection", "super::clients", "crate::"]),
    ("server/backlog.rs", &["super::connection", "super::clients", "crate::"]),
    ("server/presence.rs", &["super::", "crate::"]),
    ("server/contacts.rs", &["super::", "crate::"]),
    ("server/misses.rs", &["super::hub", "super::clients"]),
    ("server/strikes.rs", &["super::hub", "super::clients"]),
    ("server/plain.rs", &["super::"]),
    ("server/table.rs", &["super::", "crate::"]),
    ("server/clients.rs", &["super::listener", "mio::"]),
    ("server/limits.rs", &["super::", "crate::"]),
    ("server/turn.rs", &["super::", "crate::peer"]),
    ("server/metrics.rs", &["super::connection", "super::http"]),
    ("chat/report.rs", &["super::"]),
    ("chat/json.rs", &["super::conversation", "super::people", "super::screen"]),
    ("peer/ice.rs", &["super::"]),
    ("peer/candidate.rs", &["super::"]),
    ("peer/description.rs", &["crate::", "super::engine", "super::event"]),
    ("peer/sdp.rs", &["crate::", "super::engine", "super::event"]),
    ("peer/keys.rs", &["super::", "crate::"]),
    ("peer/guard", &["super::rtc", "super::signaling", "rtc::"]),
    ("peer/cipher.rs", &["crate::", "super::engine", "super::event"]),
    ("profile.rs", &["crate::options", "crate::chat"]),
    ("peer/socks.rs", &["super::", "crate::"]),
    ("options", &["crate::chat", "crate::server"]),
    ("peer/frame.rs", &["super::", "crate::"]),
    ("peer/texts.rs", &["super::", "crate::"]),
    ("peer/engine", &["super::signaling", "super::rtc"]),
    (
        "chat/command.rs",
        &["super::conversation", "super::people", "super::report", "super::screen", "crate::peer", "crate::profile"],
    ),
    ("chat/flood.rs", &["super::", "crate::"]),
    ("chat/harmless.rs", &["super::", "crate::chat", "crate::peer", "crate::profile", "crate::protocol"]),
    ("chat/callee.rs", &["super::command", "super::conversation", "crate::peer"]),
    ("chat/screen.rs", &["super::conversation"]),
    ("chat/effect.rs", &["super::people", "super::outbox", "super::conversation"]),
    ("chat/people.rs", &["super::conversation"]),
    ("chat/outbox.rs", &["super::people", "super::conversation"]),
    ("chat/requests.rs", &["super::people", "super::conversation"]),
    ("chat/script.rs", &["super::"]),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file below `src`, by its path there, with its code before the tests and without comments.
fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![source()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                let code: String =
                    code.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect();
                files.push((path.strip_prefix(source()).unwrap().to_str().unwrap().to_owned(), code));
            }
        }
    }
    files
}

#[test]
fn pure_files_know_no_socket_no_clock_no_thread_and_no_logger() {
    let files = files();
    assert!(IO.iter().all(|io| files.iter().any(|(path, _)| path == io)), "the list of I/O files is true");
    for (path, code) in &files {
        if !IO.contains(&path.as_str()) {
            for name in IMPURE {
                assert!(!code.contains(name), "{path} is pure, and names {name}");
            }
        }
    }
}

#[test]
fn imports_go_down_only() {
    let files = files();
    for (place, names) in NEVER {
        let mut found = false;
        for (path, code) in &files {
            if path == place || path == &format!("{place}.rs") || path.starts_with(&format!("{place}/")) {
                found = true;
                for name in *names {
                    assert!(!code.contains(name), "{path} must not name {name}");
                }
            }
        }
        assert!(found, "{place} is there");
    }
}

#[test]
fn only_one_file_knows_webrtc() {
    for (path, code) in files() {
        let names_it = code.contains("webrtc::") || code.contains("rtc::ice") || code.contains("tokio::spawn");
        assert!(path.starts_with("peer/rtc") || !names_it, "{path}");
    }
}

#[test]
fn nothing_is_printed_by_a_macro_that_panics_where_nobody_reads() {
    let bot = fs::read_to_string(source().join("../bot/main.rs")).unwrap();
    for (path, code) in files().into_iter().chain([("bot/main.rs".to_owned(), bot)]) {
        assert!(!["println!", "print!", "dbg!"].iter().any(|name| code.contains(name)), "{path}");
    }
}

#[test]
fn there_is_no_unsafe_code_and_no_unwrap_outside_tests() {
    for (path, code) in files() {
        assert!(!code.contains("unsafe ") && !code.contains(".unwrap()"), "{path}");
    }
}
