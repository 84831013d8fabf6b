//! What `lowkey` and `lowkey-bot` take: by a flag, by the environment, in the profile's file, or by default; and what
//! is made of the definitions: help, completions and manual pages.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use lowkey::options::{config, every_setting, settings};

use crate::world::{Folder, Program, Server, command, run};

/// What a program prints that goes well, and without a word on standard error.
fn printed(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(program, arguments, variables);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && error.is_empty(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line with which a program refuses to start.
fn refused(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(program, arguments, variables);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{program} {arguments:?}: {error}");
    error
}

/// The settings that `config` lists, without the line that says where they are kept.
fn listed(printed: &str) -> impl Iterator<Item = &str> {
    printed.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_whitespace().next().unwrap())
}

/// Value and origin of a setting, as `config` prints them.
fn shown(printed: &str, key: &str) -> (String, String) {
    let line = printed.lines().find(|line| line.split_whitespace().next() == Some(key));
    let line = line.unwrap_or_else(|| panic!("{key} is not in\n{printed}"));
    let (value, origin) = line[key.len()..].trim().split_once("  ").unwrap();
    (value.to_owned(), origin.trim().to_owned())
}

/// A home with this text in its file of settings.
fn home(name: &str, text: &str) -> Folder {
    let home = Folder::new(name);
    keep(&home.0.join(".config/lowkey"), text);
    home
}

fn keep(folder: &Path, text: &str) {
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
fn a_wrong_file_is_told_by_line_and_key_and_what_is_allowed() {
    for (text, line, words) in [
        ("sevrer = \"ws://x\"", 1, &["\"sevrer\"", "did you mean server?"][..]),
        ("\n# note\nunheard_of = 1", 3, &["\"unheard_of\"", "text_format", "history"]),
        ("profile = \"x\"", 1, &["no setting \"profile\""]),
        ("name = \"alice\"\nserver = \"http://x\"", 2, &["server = \"http://x\"", "wss://HOST"]),
        ("name = \"a b\"", 1, &["name = \"a b\"", "3 to 20"]),
        ("name = 7", 1, &["name takes a text in quotes"]),
        ("strict = \"perhaps\"", 1, &["strict takes on or off"]),
        ("strict = 2", 1, &["strict takes on or off"]),
        ("color = \"purple\"", 1, &["color = \"purple\"", "auto, always, never"]),
        ("stun = [\"a\", 7]", 1, &["stun takes a list of texts"]),
        ("stun = [\"a\", \"b:0\"]", 1, &["stun = \"b:0\"", "from 1 to 65535"]),
        ("[server]\nurl = \"x\"", 1, &["server takes a text"]),
        ("name = \"alice\"\nname = \"bobby\"", 2, &["duplicate"]),
        ("\nname = ???", 2, &["that is no value; a line is NAME = \"VALUE\""]),
        ("name = alice", 1, &["with quotes about a text"]),
        ("name = \"alice", 1, &["a text begins that does not end"]),
        ("name", 1, &["that is no setting; a line is NAME = "]),
        ("stun = [\"a\"", 1, &["a list begins that does not end; it wants a ]"]),
    ] {
        let home = home("wrong-file", text);
        for program in ["lowkey", "lowkey-bot"] {
            let error = refused(program, &["config"], &[("HOME", home.path())]);
            let place = format!("{program}: {}: line {line}: ", home.0.join(".config/lowkey/config.toml").display());
            assert!(error.starts_with(&place) && words.iter().all(|word| error.contains(word)), "{text}\n{error}");
        }
        // What has nothing to do with it works.
        printed("lowkey", &["completions", "bash"], &[("HOME", home.path())]);
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
fn config_set_changes_one_setting_and_keeps_all_else() {
    let home = home("config-set", "# mine\nname = \"alice\" # it is me\n");
    let folder = home.0.join(".config/lowkey");
    // Some keep their settings elsewhere, and a link here.
    fs::rename(folder.join("config.toml"), home.0.join("settings")).unwrap();
    std::os::unix::fs::symlink(home.0.join("settings"), folder.join("config.toml")).unwrap();
    let variables = [("HOME", home.path())];
    let set = |arguments: &[&str]| printed("lowkey", &[&["config", "set"], arguments].concat(), &variables);
    for arguments in
        [&["strict", "true"][..], &["stun", "a.example", "b.example"], &["color", "never"], &["bell", "false"]]
    {
        assert_eq!(set(arguments), "");
    }
    set(&["bell"]);
    let kept = "# mine\nname = \"alice\" # it is me\nstrict = true\nstun = [\"a.example\", \"b.example\"]\n\
                color = \"never\"\n";
    assert_eq!(fs::read_to_string(home.0.join("settings")).unwrap(), kept);
    assert!(fs::symlink_metadata(folder.join("config.toml")).unwrap().is_symlink());
    for wrong in
        [&["sevrer", "x"][..], &["strict", "perhaps"], &["name", "a b"], &["name", "alice", "bobby"], &["profile", "x"]]
    {
        refused("lowkey", &[&["config", "set"], wrong].concat(), &variables);
    }
    assert_eq!(fs::read_to_string(home.0.join("settings")).unwrap(), kept);
    assert_eq!(shown(&printed("lowkey", &["config"], &variables), "stun").0, "a.example,b.example");
}

#[test]
fn a_setting_is_told_alone_and_taken_back_and_the_file_is_named() {
    let home = home("config-get", "stun = [\"a.example\", \"b.example\"]\nturn = \"bob:hunter2@turn.example\"\n");
    let file = home.0.join(".config/lowkey/config.toml").display().to_string();
    let variables = [("HOME", home.path())];
    assert_eq!(printed("lowkey", &["config"], &variables).lines().next(), Some(&*format!("# kept in {file}")));
    let get = |key: &str| printed("lowkey", &["config", "get", key], &variables);
    assert_eq!((&*get("stun"), &*get("color")), ("a.example\nb.example\n", "auto\n"));
    // What has no value prints none, and says so by its exit code; and a secret is not shown.
    let output = run("lowkey", &["config", "get", "notify"], &variables);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let error = refused("lowkey", &["config", "get", "turn"], &variables);
    assert!(error.contains(&file) && !error.contains("hunter2"), "{error}");
    assert!(refused("lowkey", &["config", "get", "sevrer"], &variables).contains("did you mean server?"));
    printed("lowkey", &["config", "unset", "stun"], &variables);
    let error = refused("lowkey", &["config", "unset", "stun"], &variables);
    assert!(error.contains("stun is not set there"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "turn = \"bob:hunter2@turn.example\"\n");
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
fn what_a_link_leads_to_is_replaced_only_if_it_is_a_regular_file() {
    let home = home("config-link", "");
    let folder = home.0.join(".config/lowkey");
    let variables = [("HOME", home.path())];
    let place = folder.join("config.toml");
    let (device, nothing) = (Path::new("/dev/null"), home.0.join("nothing"));
    for (target, words) in [(device, "no regular file"), (&nothing, "leads to nothing"), (&home.0, "no regular file")] {
        fs::remove_file(&place).unwrap();
        std::os::unix::fs::symlink(target, &place).unwrap();
        let error = refused("lowkey", &["config", "set", "strict", "true"], &variables);
        let said = error.contains(words) || target.is_dir() && error.contains("directory");
        assert!(said && error.contains("config.toml"), "{error}");
        assert!(fs::symlink_metadata(&place).unwrap().is_symlink(), "{target:?}");
    }
    assert!(fs::metadata(device).unwrap().file_type().is_char_device() && !nothing.exists());
    // Through a link to a link it is the last one that is written.
    fs::remove_file(&place).unwrap();
    fs::write(home.0.join("settings"), "").unwrap();
    std::os::unix::fs::symlink(home.0.join("settings"), home.0.join("link")).unwrap();
    std::os::unix::fs::symlink(home.0.join("link"), &place).unwrap();
    printed("lowkey", &["config", "set", "strict", "true"], &variables);
    assert_eq!(fs::read_to_string(home.0.join("settings")).unwrap(), "strict = true\n");
    assert!(fs::symlink_metadata(home.0.join("link")).unwrap().is_symlink());
}

#[test]
fn settings_that_are_kept_at_the_same_time_are_all_kept() {
    let home = home("config-at-once", "");
    let settings = [
        ["name", "alice"],
        ["strict", "true"],
        ["bell", "false"],
        ["times", "false"],
        ["color", "never"],
        ["history", "all"],
        ["stun", "a.example"],
        ["text_format", "v2"],
    ];
    let started: Vec<_> = settings
        .iter()
        .map(|[key, value]| {
            command("lowkey", &["config", "set", key, value], &[("HOME", home.path())]).spawn().unwrap()
        })
        .collect();
    for mut program in started {
        assert!(program.wait().unwrap().success());
    }
    let kept = fs::read_to_string(home.0.join(".config/lowkey/config.toml")).unwrap();
    assert_eq!(kept.lines().count(), settings.len(), "{kept}");
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_file() {
    let home = home("mark", "\u{feff}name = \"alice\"\n");
    let folder = home.0.join(".config/lowkey");
    let known = "\u{feff}bobby@localhost:1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= 2026-11-23 seen\n";
    fs::write(folder.join("known_peers"), known).unwrap();
    fs::write(folder.join("blocked"), "\u{feff}mallory@localhost:1\n").unwrap();
    let variables = [("HOME", home.path()), ("LOWKEY_SERVER", "ws://localhost:1")];
    assert_eq!(shown(&printed("lowkey", &["config"], &variables), "name").0, "alice");
    let output = run("lowkey", &["-e", "/peers", "-e", "/block"], &variables);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("* bobby ") && words.contains("blocked: mallory"), "{words}");
}

#[test]
fn a_profile_has_a_name_an_identity_known_peers_and_settings_of_its_own() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let url = server.url();
    let home = home("profile", "name = \"alice\"\nstrict = true\n");
    let work = home.0.join(".config/lowkey/profiles/work");
    let variables = [("HOME", home.path()), ("LOWKEY_SERVER", &*url)];
    printed("lowkey", &["--profile", "work", "config", "set", "name", "alice_at_work"], &variables);
    let listed = printed("lowkey", &["config"], &[&variables[..], &[("LOWKEY_PROFILE", "work")]].concat());
    assert_eq!(shown(&listed, "profile").1, "environment variable LOWKEY_PROFILE");
    assert_eq!(shown(&listed, "strict"), ("false".to_owned(), "default".to_owned()));
    let mut alice = Program::start("lowkey", &["--profile", "work", "bob"], &variables);
    bob.answer("alice_at_work");
    alice.stderr.find("connected with");
    for file in ["identity-alice_at_work", "token", "known_peers", "config.toml"] {
        assert!(work.join(file).exists(), "{file}");
    }
    assert_eq!(fs::read_dir(home.0.join(".config/lowkey")).unwrap().count(), 2, "config.toml and profiles");
    // The bot, too, has a name of its own there, and takes none of the user's own.
    let mut bot = Program::start("lowkey-bot", &[], &variables);
    bot.stderr.find("online as echo");
    alice.write("/quit");
    alice.wait();
    let mut bot = Program::start("lowkey-bot", &["--profile", "work"], &variables);
    bot.stderr.find("online as alice_at_work");
    for wrong in ["..", "a/b", ".hidden", ""] {
        refused("lowkey", &["--profile", wrong], &variables);
    }
    assert!(refused("lowkey", &["--profile", "work"], &[]).contains("no place for settings"));
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

/// `GOLDEN=renew cargo test --test integration help_is` writes the files anew.
#[test]
fn help_is_what_it_was() {
    for program in ["lowkey", "lowkey-bot"] {
        let path = format!("{}/integration/golden/{program}-help.txt", env!("CARGO_MANIFEST_DIR"));
        let help = printed(program, &["--help"], &[]);
        if std::env::var("GOLDEN").is_ok_and(|wish| wish == "renew") {
            fs::write(&path, &help).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(help == golden, "{program} --help is no longer what {path} holds; GOLDEN=renew keeps it:\n{help}");
    }
}

#[test]
fn completions_know_every_option_and_the_shell_takes_them() {
    for program in ["lowkey", "lowkey-bot"] {
        let home = Folder::new("completions-settings");
        let listed = printed(program, &["config"], &[("HOME", home.path())]);
        for shell in ["bash", "zsh", "fish"] {
            let script = printed(program, &["completions", shell], &[]);
            for key in self::listed(&listed) {
                assert!(script.contains(&key.replace('_', "-")), "{program} {shell} {key}");
            }
            // Not every machine has every shell.
            let folder = Folder::new("completions");
            let file = folder.0.join(shell);
            fs::write(&file, script).unwrap();
            if let Ok(status) = std::process::Command::new(shell).arg("-n").arg(&file).status() {
                assert!(status.success(), "{shell}");
            }
        }
    }
    refused("lowkey", &["completions", "cmd.exe"], &[]);
}

#[test]
fn the_manual_pages_tell_every_setting() {
    let every = every_setting();
    let peer = printed("lowkey", &["man"], &[]);
    for setting in settings(&every) {
        let flag = setting.get_long().unwrap().replace('-', "\\-");
        assert!(peer.contains(&flag) && peer.contains(config::variable(setting)), "{flag}");
    }
    for part in [
        ".SH COMMANDS",
        "config set",
        ".SH FILES",
        "known_peers",
        "lowkey\\-server(8)",
        "Private chat from peer to peer",
    ] {
        assert!(peer.contains(part), "{part}");
    }
    assert!(printed("lowkey-bot", &["man"], &[]).contains("An echo bot"));
    let server = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/lowkey-server.8")).unwrap();
    for (name, meaning, default) in lowkey::server::config::VARIABLES {
        let entry = format!(".TP\n.B {name}\n{meaning} (default: {default})\n");
        assert!(server.contains(&entry), "deploy/lowkey-server.8 lacks\n{entry}");
    }
}

/// All files below a folder, by their paths there.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn make_install_puts_everything_in_its_place_and_uninstall_takes_it_away() {
    let folder = Folder::new("install");
    let programs = Path::new(crate::world::path("lowkey")).parent().unwrap().display();
    // What the tests have built is installed, instead of a build for use.
    let make = |target: &str| {
        let mut make = std::process::Command::new("make");
        make.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--silent", target, "CARGO=true", "PREFIX=/usr"]);
        make.arg(format!("release={programs}"))
            .arg(format!("server={programs}"))
            .arg(format!("DESTDIR={}", folder.path()));
        let output = make.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    make("install");
    let expected = [
        "usr/bin/lowkey",
        "usr/bin/lowkey-bot",
        "usr/bin/lowkey-server",
        "usr/share/bash-completion/completions/lowkey",
        "usr/share/bash-completion/completions/lowkey-bot",
        "usr/share/fish/vendor_completions.d/lowkey-bot.fish",
        "usr/share/fish/vendor_completions.d/lowkey.fish",
        "usr/share/man/man1/lowkey-bot.1",
        "usr/share/man/man1/lowkey.1",
        "usr/share/man/man8/lowkey-server.8",
        "usr/share/zsh/vendor-completions/_lowkey",
        "usr/share/zsh/vendor-completions/_lowkey-bot",
    ];
    assert_eq!(files(&folder.0), expected);
    for file in expected {
        let metadata = fs::metadata(folder.0.join(file)).unwrap();
        let mode = if file.starts_with("usr/bin/") { 0o755 } else { 0o644 };
        assert!(metadata.len() > 100 && metadata.permissions().mode() & 0o777 == mode, "{file}");
    }
    make("uninstall");
    assert_eq!(files(&folder.0), [""; 0]);
}
