//! What our programs say on standard error: how much, in which form, and that they go on and end as documented where it
//! cannot be written.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use crate::world::{Client, Folder, Lines, Program, Server, User, command, run, until};
use lowkey::peer::Settings;

/// Something that takes nothing: a full disk, a pipe that nobody reads any more, and a file that is as long as it may
/// be.
#[derive(Debug, Clone, Copy)]
enum Unwritable {
    Full,
    Unread,
    Limited,
}

const EACH: [Unwritable; 3] = [Unwritable::Full, Unwritable::Unread, Unwritable::Limited];

impl Unwritable {
    fn stream(self) -> Stdio {
        match self {
            Self::Full => File::options().write(true).open("/dev/full").unwrap().into(),
            Self::Unread => {
                let (reader, writer) = std::io::pipe().unwrap();
                drop(reader);
                writer.into()
            }
            Self::Limited => {
                let folder = Folder::new("limited");
                // It is there as long as it is open.
                File::create(folder.0.join("log")).unwrap().into()
            }
        }
    }
}

/// A program of ours with this for its standard error.
fn start(name: &str, arguments: &[&str], variables: &[(&str, &str)], stderr: Unwritable) -> Program {
    let command = command(name, arguments, variables);
    let command = match stderr {
        Unwritable::Limited => {
            let mut shell = Command::new("sh");
            shell.args(["-c", "ulimit -f 0; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
            shell.env_clear().envs(variables.iter().copied());
            shell
        }
        _ => command,
    };
    Program::spawn_unread(command, stderr.stream())
}

/// A port of loopback that was free a moment ago.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// A program, its arguments, variables and exit code.
type Row<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)], i32);

#[test]
fn exit_codes_hold_where_standard_error_cannot_be_written() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let nobody = format!("ws://127.0.0.1:{}", free_port());
    let home = Folder::new("unwritable");
    let home = ("HOME", home.path());
    let rows: [Row<'_>; 15] = [
        ("lowkey-server", &["--bad"], &[], 2),
        ("lowkey-server", &["--help"], &[], 0),
        ("lowkey-server", &[], &[("PORT", "http")], 2),
        ("lowkey-server", &[], &[("RUST_LOG", "verbose")], 2),
        ("lowkey-server", &[], &[("HOST", "127.0.0.1"), ("PORT", &taken)], 1),
        ("lowkey-bot", &["--bad"], &[], 2),
        ("lowkey-bot", &[], &[("LOWKEY_STRICT", "")], 2),
        ("lowkey-bot", &["--help"], &[], 0),
        ("lowkey", &["--bad"], &[], 2),
        ("lowkey", &["alice", "config"], &[], 2),
        ("lowkey", &[], &[], 2),
        ("lowkey", &["config"], &[home, ("LOWKEY_XYZZY", "1")], 0),
        ("lowkey", &["--help"], &[("RUST_LOG", "verbose")], 0),
        ("lowkey", &["--name", "alice", "--server", &nobody, "send", "bob", "hello"], &[home], 3),
        (
            "lowkey",
            &["--name", "alice", "--server", &nobody, "send", "bob", "hello"],
            &[home, ("RUST_LOG", "debug")],
            3,
        ),
    ];
    for stderr in EACH {
        for (name, arguments, variables, code) in rows {
            // Where no file can be written, no identity can be kept, which is another matter.
            if variables.contains(&home) && matches!(stderr, Unwritable::Limited) {
                continue;
            }
            let status = start(name, arguments, variables, stderr).wait();
            assert_eq!(status.code(), Some(code), "{name} {arguments:?} {variables:?} {stderr:?}");
        }
    }
}

#[test]
fn a_server_and_a_bot_serve_where_standard_error_cannot_be_written() {
    for stderr in EACH {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let variables = [("HOST", "127.0.0.1"), ("PORT", &*port), ("RUST_LOG", "debug")];
        let mut server = start("lowkey-server", &[], &variables, stderr);
        until("the server listens", || TcpStream::connect(&address).ok());
        let url = format!("ws://{address}");
        let mut bot = start("lowkey-bot", &["--server", &url], &[("RUST_LOG", "debug")], stderr);
        let mut alice = User::online(&url, "alice", Settings::default());
        alice.call_soon("echo");
        alice.peer.send("echo", "hello");
        assert_eq!(alice.message().1, "hello");
        server.signal("USR1");
        // Otherwise the bot would wait until she has taken what it said.
        alice.peer.shutdown();
        bot.signal("TERM");
        assert_eq!(bot.wait().code(), Some(0), "{stderr:?}");
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0), "{stderr:?}");
    }
}

#[test]
fn a_bot_goes_on_whose_first_line_alone_is_read() {
    let mut server = Server::start();
    let mut bot = server.bot();
    // Its next line is written to nobody.
    bot.stderr = Lines::none();
    server.program.signal("TERM");
    server.program.wait();
    let again = Server::start_with(&[("PORT", server.address.rsplit_once(':').unwrap().1)]);
    until("the bot is back", || {
        let mut client = Client::try_connect(&again.address, "/ws?username=alice").unwrap();
        client.send(r#"{"type":"session:connect","target":"echo"}"#);
        client.text().contains("session").then_some(())
    });
    bot.signal("TERM");
    assert_eq!(bot.wait().code(), Some(0));
}

/// A server whose standard error is a file, with this `JOURNAL_STREAM`, and what it has said at its end.
fn said(stream: impl Fn(u64, u64) -> String, port: &str) -> String {
    let folder = Folder::new("journal");
    let path = folder.0.join("log");
    let file = File::create(&path).unwrap();
    let metadata = file.metadata().unwrap();
    let stream = stream(metadata.dev(), metadata.ino());
    let variables = [("HOST", "127.0.0.1"), ("PORT", port), ("JOURNAL_STREAM", &*stream)];
    let mut server = Program::spawn_unread(command("lowkey-server", &[], &variables), file);
    let text = || std::fs::read_to_string(&path).unwrap();
    until("it listens or ends", || (text().contains("listening on") || server.try_wait().is_some()).then_some(()));
    if server.try_wait().is_none() {
        server.signal("TERM");
    }
    server.wait();
    text()
}

#[test]
fn under_systemd_log_lines_begin_with_their_level() {
    let own = |device, inode| format!("{device}:{inode}");
    assert!(said(own, "0").contains("\n<6>stopping\n"));
    assert!(said(own, "http").starts_with("<3>lowkey-server: PORT is "));
}

#[test]
fn a_journal_that_reads_another_stream_changes_nothing() {
    let streams: [fn(u64, u64) -> String; 5] = [
        |device, inode| format!("{device}:{}", inode + 1),
        |device, inode| format!("{}:{inode}", device + 1),
        |_, _| String::new(),
        |_, _| "8:1".to_owned(),
        |_, _| "journal".to_owned(),
    ];
    for stream in streams {
        let text = said(stream, "0");
        assert!(text.contains("stopping") && !text.contains('<'), "{text}");
        assert!(said(stream, "http").starts_with("lowkey-server: PORT is "));
    }
}

#[test]
fn what_rust_log_asks_for_is_logged_and_never_less_without_a_word() {
    for (wish, has_info, has_debug) in [
        ("", true, false),
        (" ", true, false),
        ("info", true, false),
        ("DEBUG", true, true),
        ("warn", false, false),
        ("off", false, false),
        ("another=debug", true, false),
        ("lowkey=debug", true, true),
        ("warn,lowkey::server=info", true, false),
    ] {
        let mut server = Server::start_with(&[("RUST_LOG", wish)]);
        drop(server.client("alice"));
        server.program.signal("TERM");
        let log = server.program.stderr.rest().join("\n");
        assert_eq!((log.contains("stopping"), log.contains("accepted")), (has_info, has_debug), "{wish:?}: {log}");
    }
    for wrong in ["verbose", "3", "lowkey=verbose", "info,all", "info/x"] {
        let output = run("lowkey-server", &[], &[("RUST_LOG", wrong)]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
        assert!(error.starts_with(&format!("lowkey-server: RUST_LOG is {wrong:?}; it takes ")), "{error}");
        let home = Folder::new("rust-log");
        let arguments = ["--server", "ws://127.0.0.1:1", "--name", "alice", "send", "bob", "hello"];
        let output = run("lowkey", &arguments, &[("RUST_LOG", wrong), ("HOME", home.path())]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(&format!("* RUST_LOG is {wrong:?}; it takes ")), "{error}");
        assert_eq!(output.status.code(), Some(3), "{error}");
    }
}
