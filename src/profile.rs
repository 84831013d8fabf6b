//! Where the programs keep what outlives them: the folder `lowkey` in the user's configuration folder
//! (`$XDG_CONFIG_HOME`, else `~/.config`), and for a profile with a name its folder in `profiles` there. `config.toml` holds
//! settings, `token` the secret that names are held with, `identity-NAME` the long-term key of a name, `known_peers` who was seen before, `blocked` who
//! may not call, and `history` what was typed.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::peer::keys::KeyPair;
use crate::peer::new_token;
use crate::peer::trust::KnownPeers;

/// The folder of one user's settings.
#[derive(Debug, Clone)]
pub struct Profile {
    folder: PathBuf,
}

impl Profile {
    /// The profile of this name in this environment; `None` is the default one.
    ///
    /// # Errors
    /// Neither `XDG_CONFIG_HOME` nor `HOME` says where it is.
    pub fn find(lookup: impl Fn(&str) -> Option<String>, name: Option<&ProfileName>) -> Result<Self, String> {
        let set = |name| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // A relative path is to be ignored (XDG Base Directory Specification).
        let folder = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let folder = folder.or_else(|| set("HOME").map(|home| home.join(".config")));
        let folder = folder.ok_or("neither XDG_CONFIG_HOME nor HOME is set, so there is no place for settings")?;
        let folder = folder.join("lowkey");
        Ok(Self { folder: name.map_or(folder.clone(), |name| folder.join("profiles").join(&name.0)) })
    }

    /// The text of the file of settings, if there is one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn config(&self) -> Result<Option<String>, String> {
        match fs::read_to_string(self.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            text => text.map(Some).map_err(|error| format!("{}: {error}", self.path().display())),
        }
    }

    /// Changes the text of the file of settings.
    ///
    /// # Errors
    /// What `change` says, or the file cannot be read or written.
    pub fn change_config(&self, change: impl FnOnce(&str) -> Result<String, String>) -> Result<(), String> {
        let said = |error: &dyn fmt::Display| format!("{}: {error}", self.path().display());
        let text = change(&self.config()?.unwrap_or_default()).map_err(|error| said(&error))?;
        self.write(CONFIG, &text).map_err(|error| said(&error))
    }

    /// The secret that this user's names are held with at a server, made on the first call.
    ///
    /// # Errors
    /// The file cannot be read, or not be written where it is missing.
    pub fn token(&self) -> Result<String, String> {
        let path = self.folder.join("token");
        let said = |error: io::Error| format!("{}: {error}", path.display());
        match fs::read_to_string(&path) {
            Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(said(error)),
            _ => {}
        }
        self.create("token", &format!("{}\n", new_token())).map_err(said)?;
        self.token()
    }

    /// The long-term key pair of the user of this name, made on the first call. Each name has its own: several that one
    /// person uses on one machine are strangers to each other.
    ///
    /// # Errors
    /// The file cannot be read or understood, or not be written where it is missing. It is never replaced: that would make
    /// a stranger of the user to everybody who knows them.
    pub fn identity(&self, name: &str) -> Result<KeyPair, String> {
        let file = format!("identity-{name}");
        let path = self.folder.join(&file);
        match fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(text) => KeyPair::from_base64(text.trim()).map_err(|_| {
                format!(
                    "{}: this is no identity; restore it from a backup, or remove it to get a new one",
                    path.display()
                )
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = Zeroizing::new(format!("{}\n", *KeyPair::generate().secret_to_base64()));
                self.create(&file, &text).map_err(|error| format!("{}: {error}", path.display()))?;
                // It is there now, be it by another program that was quicker.
                self.identity(name)
            }
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Whether there is an identity of this name.
    pub fn has_identity(&self, name: &str) -> bool {
        self.folder.join(format!("identity-{name}")).exists()
    }

    /// The peers that were seen before.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn known_peers(&self) -> Result<KnownPeers, String> {
        let path = self.folder.join(KNOWN_PEERS);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(KnownPeers::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
            Ok(text) => KnownPeers::parse(&text).map_err(|line| {
                format!("{}: line {line} is no known peer: NAME@SERVER KEY DATE seen|verified", path.display())
            }),
        }
    }

    /// Changes the file of known peers, as it is by now: another program may have written it.
    ///
    /// # Errors
    /// The file cannot be read, understood or written.
    pub fn change_known_peers(&self, change: impl FnOnce(&mut KnownPeers)) -> Result<(), String> {
        let said = |error: io::Error| format!("{}: {error}", self.folder.join(KNOWN_PEERS).display());
        let _lock = self.lock(KNOWN_PEERS).map_err(said)?;
        let mut peers = self.known_peers()?;
        change(&mut peers);
        self.write(KNOWN_PEERS, &peers.to_string()).map_err(said)
    }

    /// Who may not call, as `NAME@SERVER`, a line each.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn blocked(&self) -> Result<BTreeSet<String>, String> {
        let path = self.folder.join(BLOCKED);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(format!("{}: {error}", path.display())),
            Ok(text) => Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()),
        }
    }

    /// Changes the file of who may not call.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn change_blocked(&self, change: impl FnOnce(&mut BTreeSet<String>)) -> Result<(), String> {
        let said = |error: io::Error| format!("{}: {error}", self.folder.join(BLOCKED).display());
        let _lock = self.lock(BLOCKED).map_err(said)?;
        let mut blocked = self.blocked()?;
        change(&mut blocked);
        let text: String = blocked.iter().map(|line| format!("{line}\n")).collect();
        self.write(BLOCKED, &text).map_err(said)
    }

    /// The lines that were typed in earlier starts, and a place for more.
    pub fn history(&self) -> History {
        History { profile: self.clone() }
    }

    /// Whoever changes the same file at the same time waits as long as this is held.
    fn lock(&self, file: &str) -> io::Result<fs::File> {
        self.create_folder()?;
        let path = self.folder.join(format!("{file}.lock"));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        lock.lock()?;
        Ok(lock)
    }

    /// Where the settings are.
    pub fn path(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    fn create_folder(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)
    }

    /// Writes a file that is not there, or is empty; one that another program has made in the meantime stays. Only the user
    /// may read it.
    fn create(&self, name: &str, text: &str) -> io::Result<()> {
        self.create_folder()?;
        let (path, beside) = (self.folder.join(name), self.folder.join(format!("{name}.{}", std::process::id())));
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0) {
            fs::remove_file(&path)?;
        }
        let created = write_new(&beside, text).and_then(|()| match fs::hard_link(&beside, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
        let _ = fs::remove_file(&beside);
        created
    }

    /// Writes beside the file and renames, so that nobody ever finds half of it. Only the user may read it. What a link
    /// leads to, as some keep their settings, is written there.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        self.create_folder()?;
        let path = self.folder.join(name);
        let path = fs::canonicalize(&path).unwrap_or(path);
        let beside = path.with_file_name(format!("{name}.{}", std::process::id()));
        let written = write_new(&beside, text).and_then(|()| fs::rename(&beside, &path));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Lines that were typed, in a file that only the user may read.
#[derive(Debug, Clone)]
pub struct History {
    profile: Profile,
}

impl History {
    /// What is there, the oldest first. Without a file, or if it cannot be read, that is nothing.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.profile.folder.join(HISTORY)).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() > MAX_HISTORY {
            let kept = &lines[lines.len() - MAX_HISTORY / 2..];
            let _ = self.profile.write(HISTORY, &kept.iter().map(|line| format!("{line}\n")).collect::<String>());
        }
        lines
    }

    /// Keeps a line. Where that is not possible, nobody needs to hear of it.
    pub fn add(&self, line: &str) {
        let append = || -> io::Result<()> {
            self.profile.create_folder()?;
            let path = self.profile.folder.join(HISTORY);
            let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            file.write_all(format!("{line}\n").as_bytes())
        };
        let _ = append();
    }
}

/// A username as the app lets people choose one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Username {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_fit = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match is_fit && (3..=20).contains(&text.len()) {
            true => Ok(Self(text.to_owned())),
            false => Err("a username is 3 to 20 of a-z, A-Z, 0-9 and _"),
        }
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a profile, which is also that of its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileName(String);

impl FromStr for ProfileName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_fit = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        match is_fit && (1..=32).contains(&text.len()) && !text.starts_with(['-', '.']) {
            true => Ok(Self(text.to_owned())),
            false => Err("the name of a profile is 1 to 32 of a-z, A-Z, 0-9, _, - and ., without - or . at its start"),
        }
    }
}

const CONFIG: &str = "config.toml";
const KNOWN_PEERS: &str = "known_peers";
const BLOCKED: &str = "blocked";
const HISTORY: &str = "history";

/// Lines of history beyond which the older half is dropped.
const MAX_HISTORY: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_are_those_of_the_app() {
        for good in ["abc", "A_9", "abcdefghijklmnopqrst"] {
            assert!(good.parse::<Username>().is_ok(), "{good}");
        }
        for bad in ["", "ab", "abcdefghijklmnopqrstu", "a b", "bob!", "böb"] {
            assert!(bad.parse::<Username>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_of_a_profile_is_that_of_a_folder_and_leads_nowhere_else() {
        let home = |name: &str| (name == "HOME").then(|| "/home/alice".to_owned());
        for good in ["a", "work", "A_9.b-c", "abcdefghijklmnopqrstuvwxyz_12345"] {
            let profile = Profile::find(home, Some(&good.parse().unwrap())).unwrap();
            assert_eq!(
                profile.path(),
                PathBuf::from(format!("/home/alice/.config/lowkey/profiles/{good}/config.toml"))
            );
        }
        assert_eq!(Profile::find(home, None).unwrap().path(), PathBuf::from("/home/alice/.config/lowkey/config.toml"));
        for bad in ["", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "böb", "abcdefghijklmnopqrstuvwxyz_123456"] {
            assert!(bad.parse::<ProfileName>().is_err(), "{bad}");
        }
    }
}
