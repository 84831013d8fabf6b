//! What is made of the definitions of options: help, completions and manual pages; and where `make install` puts them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lowkey::options::{self, config, every_setting};

use crate::settings::{self, printed, refused};
use crate::world::Folder;

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
fn help_manual_and_guide_of_the_server_tell_of_the_same_signals() {
    let help = printed("lowkey-server", &["--help"], &[]);
    let said: Vec<&str> = help
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("SIG") || word.ends_with("_FILE"))
        .collect();
    assert!(said.contains(&"SIGUSR1") && said.contains(&"TURN_SECRET_FILE"), "{said:?}");
    for paper in ["deploy/lowkey-server.8", "deploy/README.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(paper)).unwrap();
        for word in &said {
            assert!(text.contains(word), "{paper} lacks {word}");
        }
    }
}

#[test]
fn completions_know_every_option_and_the_shell_takes_them() {
    for program in ["lowkey", "lowkey-bot"] {
        let home = Folder::new("completions-settings");
        let listed = printed(program, &["config"], &[("HOME", home.path())]);
        for shell in ["bash", "zsh", "fish"] {
            let script = printed(program, &["completions", shell], &[]);
            for key in settings::listed(&listed) {
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
    for setting in options::settings(&every) {
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
