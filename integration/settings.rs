//! What `lowkey` and `lowkey-bot` take: by a flag, by the environment, in the profile's file, or by default. Where
//! they are kept is tried in `config_file`, and what is made of their definitions in `manuals`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lowkey::options::{config, every_setting, settings};

use crate::world::{Folder, Program, Server, run};

/// What a program prints that goes well, and without a word on standard error.
pub fn printed(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(program, arguments, variables);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && error.is_empty(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line with which a program refuses to start.
pub fn refused(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(program, arguments, variables);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{program} {arguments:?}: {error}");
    error
}

/// The settings that `config` lists, without the line that says where they are kept.
pub fn listed(printed: &str) -> impl Iterator<Item = &str> {
    printed.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_whitespace().next().unwrap())
}

/// Value and origin of a setting, as `config` prints them.
pub fn shown(printed: &str, key: &str) -> (String, String) {
    let line = printed.lines().find(|line| line.split_whitespace().next() == Some(key));
    let line = line.unwrap_or_else(|| panic!("{key} is not in\n{printed}"));
    let (value, origin) = line[key.len()..].trim().split_once("  ").unwrap();
    (value.to_owned(), origin.trim().to_owned())
}

/// A home with this text in its file of settings.
pub fn home(name: &str, text: &str) -> Folder {
    let home = Folder::new(name);
    keep(&home.0.join(".config/lowkey"), text);
    home
}

pub fn keep(folder: &Path, text: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.toml"), text).unwrap();
    fs::set_permissions(folder.join("config.toml"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// Three values of each setting.
fn samples(key: &str) -> [&'static str; 3] {
    match key {
        "server" => ["ws://one.example", "ws://two.example", "ws://three.example"],
        "name" => ["one_1", "two_2", "three_3"],
        "stun" => ["one.example", "two.example", "three.example"],
        "turn" => ["u:s@one.example", "u:s@two.example", "u:s@three.example"],
        "proxy" => ["socks5://one.example", "socks5://two.example", "socks5h://u:s@three.example"],
        "text_format" => ["v2", "v1", "v2"],
        "color" => ["always", "never", "auto"],
        "history" => ["all", "none", "commands"],
        "direct" | "log" | "relay_only" | "no_server_relays" | "strict" | "old_apps" | "only_known" | "bell"
        | "times" | "notify_text" => ["true", "false", "true"],
        "access_token" | "access_token_file" | "notify" | "downloads" => ["one", "two", "three"],
        key => panic!("a new setting wants a line here: {key}"),
    }
}

#[test]
fn a_flag_goes_before_the_environment_that_before_the_file_and_that_before_the_default() {
    let every = every_setting();
    let home = Folder::new("precedence");
    let folder = home.0.join(".config/lowkey");
    for setting in settings(&every).filter(|setting| config::is_in_file(setting)) {
        let key = setting.get_id().as_str();
        let [in_file, in_environment, as_flag] = samples(key);
        let is_switch = ["true", "false"].contains(&in_file);
        let quoted = if is_switch { in_file.to_owned() } else { format!("{in_file:?}") };
        let value = |value: &str| match config::is_secret(setting) {
            true => "(not shown)".to_owned(),
            false => value.to_owned(),
        };
        let variable = (config::variable(setting), in_environment);
        let flag = format!("--{}={as_flag}", setting.get_long().unwrap());
        let home = ("HOME", home.path());
        let origin =
            |arguments: &[&str], variables: &[(&str, &str)]| shown(&printed("lowkey", arguments, variables), key);
        keep(&folder, "");
        let default = setting.get_default_values().first().map_or("none", |value| value.to_str().unwrap());
        assert_eq!(origin(&["config"], &[home]), (default.to_owned(), "default".to_owned()));
        keep(&folder, &format!("{key} = {quoted}\n"));
        let file = format!("file {}", folder.join("config.toml").display());
        assert_eq!(origin(&["config"], &[home]), (value(in_file), file));
        let from_environment = (value(in_environment), format!("environment variable {}", variable.0));
        assert_eq!(origin(&["config"], &[home, variable]), from_environment);
        let given = (value(as_flag), format!("flag --{}", setting.get_long().unwrap()));
        assert_eq!(origin(&["config", &flag], &[home, variable]), given, "behind the command");
        assert_eq!(origin(&[&flag, "config"], &[home, variable]), given, "before the command");
    }
}

#[test]
fn every_setting_is_named_alike_everywhere_and_stands_in_the_help() {
    let help = printed("lowkey", &["--help"], &[]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let every = every_setting();
    for setting in settings(&every) {
        let key = setting.get_id().as_str();
        assert_eq!(setting.get_long().unwrap(), key.replace('_', "-"));
        assert_eq!(config::variable(setting), format!("LOWKEY_{}", key.to_uppercase()));
        // Its flag, its meaning, its values, its variable, its default: in this order, with no other setting's in
        // between.
        let meaning = format!("{setting} {}", setting.get_help().unwrap());
        let (_, rest) = help.split_once(&meaning).unwrap_or_else(|| panic!("--help lacks {meaning}"));
        let (values, rest) = rest.split_once(&format!("[env: {}", config::variable(setting))).unwrap();
        assert!(!values.contains("[env: "), "{key}");
        if !setting.is_hide_possible_values_set() {
            for value in setting.get_possible_values() {
                assert!(values.contains(&format!("- {}:", value.get_name())), "{key}: {}", value.get_name());
            }
        }
        if let Some(default) = setting.get_default_values().first() {
            let rest = rest.trim_start_matches(['=', ']', ' ']);
            assert!(rest.starts_with(&format!("[default: {}]", default.display())), "{key}: {rest}");
        }
    }
    for program in ["lowkey", "lowkey-bot"] {
        let home = Folder::new("every-setting");
        let listed = printed(program, &["config"], &[("HOME", home.path())]);
        let help = printed(program, &["--help"], &[]);
        let flags = |text: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix("[env: "));
            lines.map(|line| line.trim_end_matches(['=', ']'])["LOWKEY_".len()..].to_lowercase()).collect()
        };
        let keys: Vec<&str> = self::listed(&listed).collect();
        assert_eq!(keys, flags(&help), "{program}: config and --help tell the same settings");
    }
}

#[test]
fn a_secret_is_never_repeated_and_a_file_with_one_that_others_may_read_is_told_of() {
    for text in ["turn = \"bob:hunter2\"", "access_token = \"hunter 2\"", "proxy = \"http://bob:hunter2@x\""] {
        let error = refused("lowkey", &[], &[("HOME", home("secret", text).path())]);
        assert!(!error.contains("hunter") && error.contains("line 1: "), "{error}");
        let (key, value) = text.split_once(" = ").unwrap();
        let value = value.trim_matches('"');
        let flag = format!("--{}", key.replace('_', "-"));
        let variable = format!("LOWKEY_{}", key.to_uppercase());
        for error in [refused("lowkey", &[&flag, value], &[]), refused("lowkey", &[], &[(&variable, value)])] {
            assert!(!error.contains("hunter") && error.contains(&flag), "{error}");
        }
    }
    let home = home("secret-mode", "turn = \"bob:hunter2@turn.example\"");
    let variables = [("HOME", home.path())];
    assert!(!printed("lowkey", &["config"], &variables).contains("hunter2"));
    let file = home.0.join(".config/lowkey/config.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let output = run("lowkey", &["config"], &variables);
    let expected =
        format!("* {0} holds a secret (turn), and others on this machine may read it; chmod 600 {0}\n", file.display());
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), expected));
    keep(&home.0.join(".config/lowkey"), "name = \"alice\"");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    printed("lowkey", &["config"], &variables);
}

#[test]
fn on_and_off_are_said_the_same_way_everywhere() {
    let home = home("switches", "");
    let folder = home.0.join(".config/lowkey");
    let at_home = ("HOME", home.path());
    let strict = |arguments: &[&str], variables: &[(&str, &str)]| {
        shown(&printed("lowkey", arguments, &[variables, &[at_home]].concat()), "strict").0
    };
    for (words, value) in [(["on", "true", "1", "ON"], "true"), (["off", "false", "0", "Off"], "false")] {
        for word in words {
            keep(&folder, "");
            assert_eq!(strict(&[&format!("--strict={word}"), "config"], &[]), value, "--strict={word}");
            assert_eq!(strict(&["config"], &[("LOWKEY_STRICT", word)]), value, "LOWKEY_STRICT={word}");
            printed("lowkey", &["config", "set", "strict", word], &[at_home]);
            assert_eq!(strict(&["config"], &[]), value, "config set strict {word}");
            keep(&folder, &format!("strict = \"{word}\"\n"));
            assert_eq!(strict(&["config"], &[]), value, "strict = {word:?} in the file");
        }
    }
    keep(&folder, "strict = 1\n");
    assert_eq!(strict(&["config"], &[]), "true");
}

#[test]
fn a_variable_that_protects_is_not_set_to_nothing_and_all_others_may_be() {
    let every = every_setting();
    for setting in settings(&every) {
        // The decision for each.
        let is_refused = match setting.get_id().as_str() {
            "profile" | "relay_only" | "no_server_relays" | "proxy" | "strict" | "only_known" | "history" => true,
            "server" | "name" | "stun" | "turn" | "access_token" | "access_token_file" | "direct" | "text_format" => {
                false
            }
            "notify" | "notify_text" | "bell" | "color" | "times" | "log" | "old_apps" | "downloads" => false,
            key => panic!("a new setting wants a decision here: {key}"),
        };
        let variable = config::variable(setting);
        for empty in ["", " "] {
            let variables = [("HOME", "/nonexistent"), (variable, empty)];
            match is_refused {
                true => {
                    let error = refused("lowkey", &["config"], &variables);
                    assert!(error.starts_with(&format!("lowkey: {variable} is set to nothing, and so ")), "{error}");
                }
                false => {
                    let listed = printed("lowkey", &["config"], &variables);
                    assert_eq!(shown(&listed, setting.get_id().as_str()).1, "default", "{variable}");
                }
            }
        }
    }
    let history = [("LOWKEY_HISTORY", "")];
    assert!(printed("lowkey-bot", &["config"], &history).contains("server"), "which the bot does not have");
    refused("lowkey-bot", &[], &[("LOWKEY_STRICT", "")]);
}

#[test]
fn a_peer_with_the_name_of_a_command_can_be_called() {
    let server = Server::start();
    let mut config = server.peer("config");
    let home = Folder::new("peer-config");
    let mut alice = Program::start(
        "lowkey",
        &["--server", &server.url(), "--name", "alice", "--", "config"],
        &[("HOME", home.path())],
    );
    config.answer("alice");
    alice.stderr.find("connected with \"config\"");
    let error = refused("lowkey", &["alice", "config"], &[("HOME", home.path())]);
    assert_eq!(error, "lowkey: PEER and the command config exclude each other\n");
}

#[test]
fn an_unknown_variable_is_told_of_with_the_one_that_was_meant() {
    let home = Folder::new("unknown-variable");
    let variables = [("HOME", home.path()), ("LOWKEY_SEVRER", "ws://x"), ("LOWKEY_XYZZY", "1"), ("LOWKEY_STUN", "")];
    for program in ["lowkey", "lowkey-bot"] {
        let output = run(program, &["config"], &variables);
        let expected = format!(
            "* the environment variable LOWKEY_SEVRER is none of {program}'s; did you mean LOWKEY_SERVER?\n\
             * the environment variable LOWKEY_XYZZY is none of {program}'s\n"
        );
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), expected));
    }
}

#[test]
fn a_link_and_another_server_contradict_each_other() {
    let server = Server::start();
    let home = Folder::new("link-and-server");
    let url = server.url();
    let shown = run("lowkey", &["--server", &url, "--name", "bob", "--qr"], &[("HOME", home.path())]);
    assert!(String::from_utf8_lossy(&shown.stderr).starts_with("* this link is good on this machine alone"));
    let shown = String::from_utf8(shown.stdout).unwrap();
    let link = shown.lines().last().unwrap();
    let error =
        refused("lowkey", &["--server", "wss://chat.example", "--name", "alice", link], &[("HOME", home.path())]);
    assert!(error.contains(&url) && error.contains("wss://chat.example/ws"), "{error}");
    // The same server, or one that is not for this call alone, is no contradiction.
    for (arguments, variables) in [
        (
            &["--server", &*format!("{}/", url.to_uppercase().replace("WS:", "ws:")), "--name", "alice", link][..],
            &[][..],
        ),
        (&["--name", "alice", link], &[("LOWKEY_SERVER", "wss://chat.example")]),
    ] {
        let variables = [&[("HOME", home.path())], variables].concat();
        Program::start("lowkey", arguments, &variables).stderr.find("online");
    }
}

#[test]
fn a_server_is_the_same_however_it_is_spelled() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let home = Folder::new("spelled");
    let port = server.address.rsplit_once(':').unwrap().1;
    for (spelling, word) in [("ws://localhost:{}", "is new to you"), ("WS://LocalHost:{}/ws/", "connecting with")] {
        let url = spelling.replace("{}", port);
        let mut alice =
            Program::start("lowkey", &["--server", &url, "--name", "alice", "bob"], &[("HOME", home.path())]);
        bob.answer("alice");
        alice.stderr.find(word);
        alice.stderr.find("connected with");
        alice.write("/quit");
        alice.wait();
        assert_eq!(alice.stderr.seen.iter().any(|line| line.contains("is new to you")), word == "is new to you");
    }
    let known = fs::read_to_string(home.0.join(".config/lowkey/known_peers")).unwrap();
    assert!(known.starts_with(&format!("bob@localhost:{port} ")) && known.lines().count() == 1, "{known}");
}
