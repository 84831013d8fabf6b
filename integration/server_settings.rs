//! The settings of `lowkey-server` as an operator meets them: what is wrong is said in one line, what is right holds in
//! front of a proxy and behind one, and `--check` and `--help` tell the truth.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use lowkey::server::bounds::{Bound, bounds};
use lowkey::server::config::VARIABLES;
use lowkey::server::limits::Limits;

use crate::world::{Folder, Program, SOON, Server, command, run};

/// The one line with which the server refuses to go on, and its exit code.
fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = run("lowkey-server", arguments, variables);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.lines().count(), 1, "{variables:?}: {error}");
    (output.status.code(), error)
}

/// A request with these headers, and the answer's first line.
fn status(address: &str, target: &str, headers: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    (String::from_utf8_lossy(&status[9..]).into_owned(), stream)
}

/// An upgrade of somebody, with these headers beside those that it needs.
fn upgrade(server: &Server, name: &str, headers: &str) -> (String, TcpStream) {
    let needed = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                  dGhlIHNhbXBsZSBub25jZQ==\r\n";
    status(&server.address, &format!("/ws?username={name}"), &format!("{needed}{headers}"))
}

#[test]
fn a_setting_that_protects_nobody_stops_the_start_with_its_name() {
    for (name, value, words) in [
        ("ACCESS_TOKEN", "", "everybody could come in"),
        ("ACCESS_TOKEN_FILE", "", "everybody could come in"),
        ("ACCESS_TOKEN", "\"s3cret\"", "without quotes"),
        ("HOST", " ", "all addresses"),
        ("HOST", "224.0.0.1", "of this machine"),
        ("HOST", "255.255.255.255", "of this machine"),
        ("METRICS", "[ff02::1]:9000", "of this machine"),
        ("TRUSTED_PROXIES", "", "none is nobody"),
        ("TRUSTED_PROXIES", "10.0.0.1,unix:", "\"unix:\" is no address"),
        ("CORS_ORIGINS", "", "from everywhere"),
        ("CORS_ORIGINS", "https://a.example,https://*.chat.example", "\"https://*.chat.example\" has a *"),
        ("CORS_ORIGINS", "https://xn--", "\"https://xn--\" has an international name that is none"),
        ("TURN_URLS", "turn:xn--", "\"turn:xn--\": an address is HOST"),
        ("TRUSTED_PROXIES", "255.255.255.255", "a proxy can have"),
        ("CORS_ORIGINS", "https://alice@chat.example", "a user"),
        ("CORS_ORIGINS", "'https://chat.example'", "without quotes"),
        ("CORS_ORIGINS", "[\"https://chat.example\"]", "quotes or brackets"),
    ] {
        let (code, error) = refused(&[], &[("PORT", "0"), (name, value)]);
        assert!(error.starts_with(&format!("lowkey-server: {name} is ")) && error.contains(words), "{error}");
        assert!(code == Some(2) && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_value_that_is_no_text_stops_the_start_with_its_name() {
    for (name, ..) in VARIABLES {
        for value in [&b"\xff"[..], b"8080\xc3"] {
            let output = command("lowkey-server", &[], &[]).env(name, OsStr::from_bytes(value)).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
            let expected = if name == "RUST_LOG" { "it takes error, warn" } else { "it takes text in UTF-8" };
            assert!(error.starts_with(&format!("lowkey-server: {name} is ")) && error.contains(expected), "{error}");
        }
    }
}

#[test]
fn a_file_of_secrets_that_others_could_have_written_stops_the_start() {
    let folder = Folder::new("server-secrets");
    let file = folder.0.join("secret");
    std::fs::write(&file, "s3cret\n").unwrap();
    let chmod = |mode| std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    let turn = ("TURN_URLS", "turn:turn.example");
    let path = file.to_str().unwrap();
    for name in ["ACCESS_TOKEN_FILE", "TURN_SECRET_FILE"] {
        let variables =
            [&[("PORT", "0"), (name, path)][..], &[turn][usize::from(name == "ACCESS_TOKEN_FILE")..]].concat();
        chmod(0o666);
        let (code, error) = refused(&[], &variables);
        assert!(error.starts_with(&format!("lowkey-server: {name} is ")) && error.contains("chmod go-w"), "{error}");
        assert!(code == Some(2) && !error.contains("s3cret"), "{error}");
        chmod(0o440);
        Server::start_with(&variables);
    }
}

#[test]
fn an_origin_matches_whom_it_means() {
    let server =
        Server::start_with(&[("CORS_ORIGINS", "HTTPS://Chat.Example:443, http://b.example:80,https://bücher.example")]);
    for (origin, expected) in [
        ("https://chat.example", "101"),
        ("http://b.example", "101"),
        ("https://xn--bcher-kva.example", "101"),
        ("https://chat.example:444", "403"),
        ("http://chat.example", "403"),
        ("https://b.chat.example", "403"),
    ] {
        assert_eq!(upgrade(&server, "alice", &format!("Origin: {origin}\r\n")).0, expected, "{origin}");
    }
}

#[test]
fn a_head_with_the_cookies_of_a_whole_domain_is_taken() {
    let server = Server::start();
    for bytes in [9 * 1024, 15 * 1024] {
        assert_eq!(upgrade(&server, "alice", &format!("Cookie: a={}\r\n", "x".repeat(bytes))).0, "101", "{bytes}");
    }
    assert_eq!(upgrade(&server, "alice", &format!("Cookie: a={}\r\n", "x".repeat(17 * 1024))).0, "431");
}

#[test]
fn nobody_poses_as_another_address_behind_a_proxy_of_this_machine() {
    let mut server = Server::start_with(&[("MAX_CLIENTS_PER_ADDRESS", "2")]);
    let from = |headers: &str| {
        let (status, stream) = upgrade(&server, "someone", headers);
        (status, stream)
    };
    // Whoever comes from the proxy's own machine writes what he likes in front of that address.
    let posing: Vec<_> = (0..1).map(|_| from("X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n")).collect();
    // A proxy that knows X-Real-IP alone passes the client's own list on.
    let contradicting: Vec<_> =
        (0..1).map(|_| from("X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 198.51.100.1\r\n")).collect();
    let honest: Vec<_> =
        (0..2).map(|_| from("X-Forwarded-For: 198.51.100.9, 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n")).collect();
    for (status, _) in posing.iter().chain(&contradicting).chain(&honest) {
        assert_eq!(status, "101", "192.0.2.1 has its two places");
    }
    assert_eq!(from("X-Forwarded-For: 192.0.2.1\r\n").0, "429");
    assert_eq!(
        from("X-Forwarded-For: 192.0.2.2\r\nX-Real-IP: 198.51.100.1\r\n").0,
        "429",
        "nobody knows where it comes from"
    );
    for headers in ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: ::1", "X-Real-IP: 127.0.0.1", "X-Forwarded-For: ::"]
    {
        assert_eq!(from(&format!("{headers}\r\n")).0, "429", "{headers}: nor here");
    }
    // Who says nothing of where it comes from is told of once.
    let _silent = [from(""), from("")];
    server.program.signal("TERM");
    let log = server.program.stderr.rest().join("\n");
    assert_eq!(log.matches("without X-Forwarded-For").count(), 1, "{log}");
    assert!(!log.contains("192.0.2") && !log.contains("198.51"), "no address is in the log: {log}");
}

#[test]
fn metrics_at_an_address_of_their_own_are_read_by_a_proxy_too_and_those_of_loopback_are_not() {
    let mut program =
        Program::start("lowkey-server", &[], &[("HOST", "127.0.0.1"), ("PORT", "0"), ("METRICS", "127.0.0.1:0")]);
    let own = program.stderr.find("metrics at ").split_once("metrics at ").unwrap().1.to_owned();
    let loopback = Server::start_with(&[("METRICS", "loopback")]);
    for header in [
        "X-Forwarded-For: 192.0.2.1",
        "X-Real-IP: 192.0.2.1",
        "Forwarded: for=192.0.2.1",
        "Via: 1.1 a",
        "X-Forwarded-Proto: https",
    ] {
        assert_eq!(status(&own, "/metrics", &format!("{header}\r\n")).0, "200", "{header}");
        assert_eq!(status(&loopback.address, "/metrics", &format!("{header}\r\n")).0, "404", "{header}");
    }
    assert_eq!(status(&loopback.address, "/metrics", "").0, "200");
}

#[test]
fn the_port_that_is_taken_is_the_one_that_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let (code, error) = refused(&[], &[("HOST", "127.0.0.1"), ("PORT", "0"), ("METRICS", &taken.to_string())]);
    let expected = format!("lowkey-server: cannot listen on {taken} for the metrics: ");
    assert!(error.starts_with(&expected) && error.ends_with("; METRICS chooses another port\n"), "{error}");
    assert_eq!(code, Some(1));
    let (code, error) = refused(&[], &[("HOST", "127.0.0.1"), ("PORT", &taken.port().to_string())]);
    assert!(error.starts_with(&format!("lowkey-server: cannot listen on {taken}: ")), "{error}");
    assert!(error.ends_with("; PORT chooses another port\n") && code == Some(1), "{error}");
}

#[test]
fn a_check_says_whether_the_server_of_these_settings_is_well() {
    let hosts: &[&str] =
        if TcpListener::bind("[::1]:0").is_ok() { &["127.0.0.1", "[::1]", "::", ""] } else { &["127.0.0.1"] };
    for host in hosts {
        let setting: Vec<(&str, &str)> = if host.is_empty() { vec![] } else { vec![("HOST", host)] };
        let mut server = Program::start("lowkey-server", &[], &[&setting[..], &[("PORT", "0")]].concat());
        let port = server.stderr.find("listening on ").rsplit_once(':').unwrap().1.to_owned();
        let variables = [&setting[..], &[("PORT", &*port)]].concat();
        let well = run("lowkey-server", &["--check"], &variables);
        assert_eq!((well.status.code(), well.stdout.len(), well.stderr.len()), (Some(0), 0, 0), "{host}");
        server.signal("TERM");
        server.wait();
        let (code, error) = refused(&["--check"], &variables);
        assert!(code == Some(1) && error.starts_with("lowkey-server: no server answers at "), "{error}");
    }
    assert_eq!(refused(&["--check"], &[("PORT", "http")]).0, Some(1));
    assert_eq!(refused(&["--check", "--help"], &[]).0, Some(1));
    assert_eq!(refused(&["--check"], &[("PORT", "0")]).0, Some(1));
    let said = refused(&["--check"], &[("PORT", &"9".repeat(100_000))]).1;
    assert!(said.trim_end().ends_with('…') && said.len() < 5000, "{} bytes", said.len());
    // Something else is there.
    let endless = format!("HTTP/1.1 500 {}", "x".repeat(4000));
    for (answer, words) in [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "is not well: \"HTTP/1.1 503 Service Unavailable\""),
        (&*endless, "x…\""),
        ("HTTP/1.1 200 OK\r\n\r\n<h1>Log in</h1>", "what answers there is not lowkey-server"),
        ("HTTP/1.1 200 ", "what answers there is not lowkey-server"),
        ("", "it closed the connection without an answer"),
    ] {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port().to_string();
        let answer = answer.to_owned();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = other.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let (code, error) = refused(&["--check"], &[("HOST", "127.0.0.1"), ("PORT", &port)]);
        assert!(code == Some(1) && error.contains(words) && error.len() < 500, "{error}");
        answering.join().unwrap();
    }
}

#[test]
fn a_check_reads_only_where_the_server_is() {
    let server = Server::start();
    let (host, port) = server.address.rsplit_once(':').unwrap();
    let others = [("ACCESS_TOKEN_FILE", "/nowhere"), ("METRICS", "x"), ("RUST_LOG", "x"), ("MAX_CLIENTS", "")];
    let well = run("lowkey-server", &["--check"], &[&[("HOST", host), ("PORT", port)], &others[..]].concat());
    assert_eq!((well.status.code(), well.stderr.len()), (Some(0), 0));
}

#[test]
fn a_check_is_not_held_by_whoever_listens_there() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let (over, is_over) = std::sync::mpsc::channel::<()>();
    let dribbling = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        // A byte whenever a while has passed, until the test is over.
        while is_over.recv_timeout(std::time::Duration::from_millis(500)).is_err() {
            let _ = stream.write_all(b"x");
        }
    });
    let started = std::time::Instant::now();
    let (code, error) = refused(&["--check"], &[("HOST", "127.0.0.1"), ("PORT", &port)]);
    assert!(started.elapsed() < 2 * lowkey::server::check::PATIENCE, "{:?}", started.elapsed());
    assert!(code == Some(1) && error.contains("no server answers at"), "{error}");
    over.send(()).unwrap();
    dribbling.join().unwrap();
}

#[test]
fn what_is_asked_for_and_cannot_be_printed_is_a_failure() {
    for argument in ["--help", "--version"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let program =
            std::process::Command::new(env!("CARGO_BIN_EXE_lowkey-server")).arg(argument).stdout(full).output();
        assert_eq!(program.unwrap().status.code(), Some(1), "{argument}");
        assert_eq!(run("lowkey-server", &[argument], &[]).status.code(), Some(0));
        assert_eq!(refused(&[argument, "more"], &[]).0, Some(2));
    }
}

#[test]
fn whoever_answers_in_place_of_a_database_is_told_of_in_words_and_ends_no_server() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let deep = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(&b"*1\r\n".repeat(5000));
            // Until the server hangs up, so that all of that comes.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    for (url, words) in [
        (format!("redis://{closed}"), "nothing listens there"),
        ("redis+unix:///nowhere/redis.sock".to_owned(), "no such socket is there"),
        ("redis://no-such-host.invalid:1".to_owned(), "nobody knows that name"),
        (format!("redis://{deep}"), "it does not speak the protocol of Redis"),
    ] {
        let variables = [("HOST", "127.0.0.1"), ("PORT", "0"), ("CLUSTER_URL", &*url)];
        let mut server = Program::start("lowkey-server", &[], &variables);
        let line = server.stderr.find("cannot be asked: ");
        assert!(line.contains(words) && !line.contains("os error"), "{url}: {line}");
        assert!(server.try_wait().is_none(), "{url}");
    }
}

#[test]
fn a_secret_that_comes_from_a_pipe_is_waited_for_with_a_word() {
    let folder = Folder::new("secret-pipe");
    let pipe = folder.0.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let variables = [("HOST", "127.0.0.1"), ("PORT", "0"), ("ACCESS_TOKEN_FILE", pipe.to_str().unwrap())];
    let mut server = Program::start("lowkey-server", &[], &variables);
    server.stderr.find("waiting for what comes from ");
    std::fs::write(&pipe, "open-sesame-open-sesame\n").unwrap();
    server.stderr.find("listening on ");
}

#[test]
fn the_columns_of_the_help_stand_below_each_other() {
    let help = String::from_utf8(run("lowkey-server", &["--help"], &[]).stdout).unwrap();
    // Where the second and the third column begin, of each row that has them.
    let column = |row: &str, cell: &str| row.find(&format!("  {cell}")).map(|at| at + 2);
    let mut seconds = Vec::new();
    let mut thirds = Vec::new();
    for Bound { what: bounded, limit, beyond, .. } in bounds(&Limits::default()) {
        let row =
            help.lines().find(|row| row.starts_with(&format!("  {bounded}  "))).unwrap_or_else(|| panic!("{bounded}"));
        seconds.push(2 + bounded.len() + row[2 + bounded.len()..].find(|c| c != ' ').unwrap());
        assert!(row[seconds[0]..].starts_with(&limit), "{row}");
        thirds.extend((!beyond.is_empty()).then(|| column(row, &beyond).unwrap()));
    }
    assert!(seconds.iter().all(|at| *at == seconds[0]) && thirds.iter().all(|at| *at == thirds[0]), "{help}");
}
