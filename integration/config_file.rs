//! The file of settings: what may stand in it, and how `lowkey config` changes it and tells of it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::settings::{home, printed, refused, shown};
use crate::world::{Program, Server, command, run};

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
