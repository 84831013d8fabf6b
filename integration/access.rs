//! To which server an access token goes, by what the real programs send.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use data_encoding::BASE64URL_NOPAD;

use crate::socks_proxy::Proxy;
use crate::world::{Folder, Program};

/// A place where somebody logs in, and is not answered.
struct Listening(TcpListener);

impl Listening {
    fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port())
    }

    /// Whether the next who comes tells the token.
    fn is_told(&self) -> bool {
        let head = BufReader::new(self.0.accept().unwrap().0).lines().map_while(Result::ok);
        let head: Vec<String> = head.take_while(|line| !line.is_empty()).collect();
        assert!(head[0].starts_with("GET /ws?username="), "{head:?}");
        head.iter().any(|line| line.to_ascii_lowercase().starts_with("authorization:") && line.contains("open-sesame"))
    }
}

fn home(name: &str, config: &str) -> Folder {
    let home = Folder::new(name);
    let folder = home.0.join(".config/lowkey");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), config).unwrap();
    fs::set_permissions(folder.join("config.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    home
}

fn link(door: &Listening) -> String {
    format!("lowkey://127.0.0.1:{}/bob?plain#{}", door.port(), BASE64URL_NOPAD.encode(&[9; 32]))
}

/// The goal: a link, or a server that is named for once, gets the token of another.
#[test]
fn a_token_in_the_file_is_for_the_server_of_the_file() {
    let (own, other) = (Listening::open(), Listening::open());
    for name in ["access_token", "access_token_file"] {
        let secret = Folder::new("access-secret");
        let file = secret.0.join("token");
        fs::write(&file, "open-sesame\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let value = if name == "access_token" { "open-sesame" } else { file.to_str().unwrap() };
        let home = home("access-file", &format!("server = {:?}\n{name} = {value:?}\n", own.url()));
        let variables = [("HOME", home.path())];
        let start = |more: &[&str]| Program::start("lowkey", &[&["--name", "alice"], more].concat(), &variables);
        let (_alice, is_told) = (start(&[]), own.is_told());
        assert!(is_told, "{name}");
        let (_alice, is_told) = (start(&[&link(&own)]), own.is_told());
        assert!(is_told, "by a link to the same server");
        for arguments in [vec!["--server".to_owned(), other.url()], vec![link(&other)]] {
            let mut alice = start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(!other.is_told(), "{name} {arguments:?}");
            alice.stderr.find("the access token is for ");
        }
        let mut bot = Program::start("lowkey-bot", &["--server", &other.url()], &variables);
        assert!(!other.is_told());
        bot.stderr.find("the access token is for ");
    }
}

#[test]
fn a_token_of_this_start_is_for_the_server_of_this_start_and_for_no_links() {
    let (own, other) = (Listening::open(), Listening::open());
    let home = home("access-variable", &format!("server = {:?}\n", own.url()));
    let variables = [("HOME", home.path()), ("LOWKEY_ACCESS_TOKEN", "open-sesame")];
    let start = |more: &[&str]| Program::start("lowkey", &[&["--name", "alice"], more].concat(), &variables);
    let (_alice, is_told) = (start(&[]), own.is_told());
    assert!(is_told, "the file's server is this start's");
    let (_alice, is_told) = (start(&["--server", &other.url()]), other.is_told());
    assert!(is_told, "the user names both");
    let (_alice, is_told) = (start(&[&link(&own)]), own.is_told());
    assert!(is_told);
    for more in [vec![link(&other)], vec!["--access-token".to_owned(), "open-sesame".to_owned(), link(&other)]] {
        let _alice = start(&more.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!other.is_told());
    }
}

#[test]
fn in_the_clear_a_token_goes_to_another_machine_only_with_a_warning() {
    let (door, proxy) = (Listening::open(), Proxy::start(None));
    let start = |host: &str| {
        let url = format!("ws://{host}:{}", door.port());
        let arguments = ["--server", &url, "--name", "alice", "--proxy", &proxy.url, "--access-token", "open-sesame"];
        let program = Program::start("lowkey", &arguments, &[]);
        assert!(door.is_told(), "{host}");
        program
    };
    for (host, is_warned) in [("chat.invalid", true), ("abcdefgh.onion", false), ("127.0.0.1", false)] {
        let mut alice = start(host);
        // The first that it has to say otherwise.
        alice.stderr.find("offline: ");
        let warnings = alice.stderr.seen.iter().filter(|line| line.contains("in the clear")).count();
        assert_eq!(warnings, usize::from(is_warned), "{:?}", alice.stderr.seen);
    }
}
