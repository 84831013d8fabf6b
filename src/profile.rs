//! Where the programs keep what outlives them: the folder `lowkey` in the user's configuration folder
//! (`$XDG_CONFIG_HOME`, else `~/.config`), and for a profile with a name its folder in `profiles` there. `config.toml`
//! holds settings, `token` the secret that names are held with, `identity-NAME` the long-term key of a name,
//! `known_peers` who was seen before, `blocked` who may not call, `aliases` what the user calls peers, `log` texts if
//! that is wanted, and `history` what was typed.

mod files;
pub mod known_peers;
mod names;
pub(crate) mod permissions;
pub mod transcript;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::peer::keys::KeyPair;
use crate::peer::new_token;
use crate::trouble;
use known_peers::KnownPeers;
pub use names::{ProfileName, Username};

/// The folder of one user's settings.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The first folder that is ours, which holds those of all profiles.
    root: PathBuf,
    folder: PathBuf,
}

impl Profile {
    /// The profile of this name in this environment; `None` is the default one.
    ///
    /// # Errors
    /// Neither `XDG_CONFIG_HOME` nor `HOME` says where it is.
    pub fn find<T: AsRef<OsStr>>(
        lookup: impl Fn(&str) -> Option<T>,
        name: Option<&ProfileName>,
    ) -> Result<Self, String> {
        let folder = config_home(lookup)
            .ok_or("neither XDG_CONFIG_HOME nor HOME is set to an absolute path, so there is no place for settings")?;
        let root = folder.join("lowkey");
        let folder = name.map_or(root.clone(), |name| root.join("profiles").join(name.as_str()));
        Ok(Self { root, folder })
    }

    /// The text of the file of settings, if there is one. It may hold secrets, and is not left in memory.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn config(&self) -> Result<Option<Zeroizing<String>>, String> {
        self.read(CONFIG, false)
    }

    /// Changes the text of the file of settings, as it is by now: another program may have written it.
    ///
    /// # Errors
    /// What `change` says, or the file cannot be read or written.
    pub fn change_config(&self, change: impl FnOnce(&str) -> Result<String, String>) -> Result<(), String> {
        let path = self.path();
        let _lock = self.lock(CONFIG)?;
        let text = change(&self.config()?.unwrap_or_default());
        let text = Zeroizing::new(text.map_err(|why| format!("{}: {why}", path.display()))?);
        files::write(&self.folder, CONFIG, &text).map_err(|error| trouble::said(&path, &error))
    }

    /// The secret that this user's names are held with at a server, made on the first call.
    ///
    /// # Errors
    /// The file cannot be read, or not be written where it is missing.
    pub fn token(&self) -> Result<String, String> {
        let token = self.read_or_make(TOKEN, || Zeroizing::new(new_token()))?;
        Ok(token.trim().to_owned())
    }

    /// Whether there is such a secret.
    pub(crate) fn has_token(&self) -> bool {
        self.has(TOKEN)
    }

    /// The long-term key pair of the user of this name, made on the first call. Each name has its own: several that one
    /// person uses on one machine are strangers to each other.
    ///
    /// # Errors
    /// The file cannot be read or understood, or not be written where it is missing. It is never replaced: that would
    /// make a stranger of the user to everybody who knows them.
    pub fn identity(&self, name: &str) -> Result<KeyPair, String> {
        let file = format!("identity-{name}");
        let path = self.folder.join(&file);
        let no_identity = |_| {
            format!("{}: this is no identity; restore it from a backup, or remove it to get a new one", path.display())
        };
        let text = match self.read(&file, true)? {
            Some(text) => text,
            None => self.read_or_make(&file, || KeyPair::generate().secret_to_base64())?,
        };
        KeyPair::from_base64(text.trim()).map_err(no_identity)
    }

    /// Keeps an identity that was brought along from elsewhere.
    ///
    /// # Errors
    /// There is one of this name, which is not replaced; or it cannot be written.
    pub fn import_identity(&self, name: &str, identity: &KeyPair) -> Result<(), String> {
        let path = self.identity_path(name);
        let is_there = || format!("{} is there already and is not replaced; move it away first", path.display());
        if path.symlink_metadata().is_ok() {
            return Err(is_there());
        }
        // Before the secret is written where others may read or change it.
        self.check_folders()?;
        let text = Zeroizing::new(format!("{}\n", *identity.secret_to_base64()));
        files::create(&self.folder, &format!("identity-{name}"), &text)
            .map_err(|error| trouble::said(&path, &error))?;
        // Another program may have been quicker.
        if self.identity(name)?.public() == identity.public() { Ok(()) } else { Err(is_there()) }
    }

    /// Where the identity of this name is kept.
    pub(crate) fn identity_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("identity-{name}"))
    }

    /// Whether there is an identity of this name.
    pub(crate) fn has_identity(&self, name: &str) -> bool {
        self.has(&format!("identity-{name}"))
    }

    /// The peers that were seen before.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn known_peers(&self) -> Result<KnownPeers, String> {
        let path = self.folder.join(KNOWN_PEERS);
        let text = self.read(KNOWN_PEERS, false)?;
        KnownPeers::parse(&text.unwrap_or_default()).map_err(|line| {
            format!("{}: line {line} is no known peer: NAME@SERVER KEY DATE seen|verified", path.display())
        })
    }

    /// Changes the file of known peers, as it is by now: another program may have written it.
    ///
    /// # Errors
    /// The file cannot be read, understood or written.
    pub fn change_known_peers(&self, change: impl FnOnce(&mut KnownPeers)) -> Result<(), String> {
        let said = |error: io::Error| trouble::said(&self.folder.join(KNOWN_PEERS), &error);
        let _lock = self.lock(KNOWN_PEERS)?;
        let mut peers = self.known_peers()?;
        change(&mut peers);
        files::write(&self.folder, KNOWN_PEERS, &peers.to_string()).map_err(said)
    }

    /// Who may not call, as [`known_peers::place`] writes them, a line each.
    ///
    /// # Errors
    /// The file cannot be read or understood: who is not blocked as the user meant must not get through unseen.
    pub(crate) fn blocked(&self) -> Result<BTreeSet<String>, String> {
        let text = self.read(BLOCKED, false)?.unwrap_or_default();
        let place = |(line, text): (usize, &str)| match known_peers::read_place(text) {
            _ if text.starts_with('#') => Ok(text.to_owned()),
            // However it was written: by hand, or by an earlier version, which left names as they are.
            Some((name, server)) if is_place(server) => Ok(known_peers::place(&name, server)),
            _ => Err(format!("{}: line {} is not NAME@SERVER", self.folder.join(BLOCKED).display(), line + 1)),
        };
        text.lines().map(str::trim_end).enumerate().filter(|(_, line)| !line.is_empty()).map(place).collect()
    }

    /// What the user calls peers: by alias and server, their names.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn aliases(&self) -> Result<BTreeMap<(String, String), String>, String> {
        let path = self.folder.join(ALIASES);
        let text = self.read(ALIASES, false)?.unwrap_or_default();
        let read = |line: &str| {
            let (alias, place) = line.split_once(' ')?;
            let (name, server) = place.split_once('@')?;
            let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
            Some(((alias.to_owned(), server.to_owned()), name.into_owned()))
        };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
        let said = |number: usize| format!("{}: line {} is not ALIAS NAME@SERVER", path.display(), number + 1);
        lines.map(|(number, line)| read(line).ok_or_else(|| said(number))).collect()
    }

    /// Changes the file of what the user calls peers.
    ///
    /// # Errors
    /// The file cannot be read, understood or written.
    pub fn change_aliases(&self, change: impl FnOnce(&mut BTreeMap<(String, String), String>)) -> Result<(), String> {
        let said = |error: io::Error| trouble::said(&self.folder.join(ALIASES), &error);
        let _lock = self.lock(ALIASES)?;
        let mut aliases = self.aliases()?;
        change(&mut aliases);
        let encoded =
            |name: &str| percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string();
        let line =
            |((alias, server), name): (&(String, String), &String)| format!("{alias} {}@{server}\n", encoded(name));
        let text: String = aliases.iter().map(line).collect();
        files::write(&self.folder, ALIASES, &text).map_err(said)
    }

    /// Changes the file of who may not call.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn change_blocked(&self, change: impl FnOnce(&mut BTreeSet<String>)) -> Result<(), String> {
        let said = |error: io::Error| trouble::said(&self.folder.join(BLOCKED), &error);
        let _lock = self.lock(BLOCKED)?;
        let mut blocked = self.blocked()?;
        change(&mut blocked);
        let text: String = blocked.iter().map(|line| format!("{line}\n")).collect();
        files::write(&self.folder, BLOCKED, &text).map_err(said)
    }

    /// The lines that were typed in earlier starts, and a place for more.
    pub fn history(&self) -> History {
        History { profile: self.clone() }
    }

    /// Reads a file of the folder, if others on this machine cannot have written it.
    fn read(&self, file: &str, holds_secret: bool) -> Result<Option<Zeroizing<String>>, String> {
        self.check_folders()?;
        permissions::read(&self.folder.join(file), holds_secret)
    }

    /// Whoever changes the same file at the same time waits as long as what comes back is held. Where the folder is
    /// refused, nothing is written into it.
    fn lock(&self, file: &str) -> Result<fs::File, String> {
        self.check_folders()?;
        files::lock(&self.folder, file).map_err(|error| trouble::said(&self.folder.join(file), &error))
    }

    /// Looks at the folders, from the first that is ours down: whoever may put another in the place of one has all that
    /// is in it.
    fn check_folders(&self) -> Result<(), String> {
        let mut folders: Vec<_> = self.folder.ancestors().take_while(|path| path.starts_with(&self.root)).collect();
        folders.reverse();
        folders.into_iter().try_for_each(|folder| permissions::check(folder, false))
    }

    /// Looks at a file that is read in part or added to, with its folders. Where these are ours, nobody can put another
    /// in its place in between.
    fn check(&self, file: &str, holds_secret: bool) -> Result<(), String> {
        self.check_folders()?;
        permissions::check(&self.folder.join(file), holds_secret)
    }

    /// Reads a secret of the folder, which is made where there is none.
    fn read_or_make(&self, file: &str, make: impl FnOnce() -> Zeroizing<String>) -> Result<Zeroizing<String>, String> {
        let is_there = |text: &Zeroizing<String>| !text.trim().is_empty();
        if let Some(text) = self.read(file, true)?.filter(is_there) {
            return Ok(text);
        }
        let path = self.folder.join(file);
        let secret = make();
        // With room for all of it, so that no part is left behind where it has grown out of its place.
        let mut text = Zeroizing::new(String::with_capacity(secret.len() + 1));
        text.push_str(&secret);
        text.push('\n');
        files::create(&self.folder, file, &text).map_err(|error| trouble::said(&path, &error))?;
        // It is there now, be it by another program that was quicker.
        self.read(file, true)?
            .filter(is_there)
            .ok_or_else(|| format!("{}: there is nothing in it; remove it to get a new one", path.display()))
    }

    /// Whether there is something of this name, be it a symbolic link that leads nowhere.
    fn has(&self, file: &str) -> bool {
        self.folder.join(file).symlink_metadata().is_ok()
    }

    /// Appends an entry to the log of texts, which is made if it is not there.
    ///
    /// # Errors
    /// The file cannot be written, or others could have written it.
    pub fn add_to_log(&self, entry: &transcript::TranscriptEntry) -> Result<(), String> {
        self.check(LOG, true)?;
        let said = |error: io::Error| trouble::said(&self.folder.join(LOG), &error);
        files::append(&self.folder, LOG, &entry.to_line()).map_err(said)
    }

    /// The last lines of the log of texts; nothing where there is none.
    ///
    /// # Errors
    /// The file cannot be read, or others could have written it.
    pub fn last_of_log(&self) -> Result<String, String> {
        self.check(LOG, true)?;
        let path = self.folder.join(LOG);
        files::read_end(&path, LOG_END).map_err(|error| trouble::said(&path, &error))
    }

    /// Where the settings are.
    pub fn path(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }
}

/// Lines that were typed, in a file that only the user may read.
#[derive(Debug, Clone)]
pub struct History {
    profile: Profile,
}

impl History {
    /// What is there, the oldest first. Without a file, or if it cannot be read, that is nothing.
    pub fn lines(&self) -> Vec<String> {
        let text = self.profile.read(HISTORY, false).ok().flatten().unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() > MAX_HISTORY {
            let kept = &lines[lines.len() - MAX_HISTORY / 2..];
            let _ = files::write(
                &self.profile.folder,
                HISTORY,
                &kept.iter().map(|line| format!("{line}\n")).collect::<String>(),
            );
        }
        lines
    }

    /// Keeps a line. Where that is not possible, nobody needs to hear of it.
    pub fn add(&self, line: &str) {
        if self.profile.check(HISTORY, false).is_ok() {
            let _ = files::append(&self.profile.folder, HISTORY, &format!("{line}\n"));
        }
    }
}

const CONFIG: &str = "config.toml";
const TOKEN: &str = "token";
const KNOWN_PEERS: &str = "known_peers";
const BLOCKED: &str = "blocked";
const ALIASES: &str = "aliases";
const HISTORY: &str = "history";
const LOG: &str = "log";

/// How much of the log is looked at for its last entries, in bytes: some of the longest texts.
const LOG_END: u64 = 1024 * 1024;

/// Lines of history beyond which the older half is dropped.
const MAX_HISTORY: usize = 2000;

/// Whether this can be how files call a server: its host, and perhaps a port.
fn is_place(server: &str) -> bool {
    !server.is_empty() && !server.contains(|sign: char| sign.is_whitespace() || matches!(sign, '/' | '#' | '%'))
}

/// The folder for what the programs of this environment's user keep; `None` where nothing says where it is.
pub(crate) fn config_home<T: AsRef<OsStr>>(lookup: impl Fn(&str) -> Option<T>) -> Option<PathBuf> {
    // A relative path is to be ignored (XDG Base Directory Specification): it would be another place for each folder
    // that the program is started in.
    let path = |value: T| Some(PathBuf::from(value.as_ref())).filter(|path| path.is_absolute());
    let set = |name| lookup(name).and_then(path);
    set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_that_hangs_on_where_one_stands_is_none() {
        for relative in ["home", ".", ""] {
            let told = Profile::find(|_| Some(relative), None).map(|profile| profile.path()).unwrap_err();
            assert!(told.starts_with("neither XDG_CONFIG_HOME nor HOME is set to an absolute path"), "{told}");
        }
        let variables = |name: &str| (name == "HOME").then_some("/home/alice").or(Some("config"));
        assert_eq!(
            Profile::find(variables, None).unwrap().path(),
            std::path::Path::new("/home/alice/.config/lowkey/config.toml")
        );
    }

    #[test]
    fn a_home_is_found_whatever_its_name() {
        use std::os::unix::ffi::OsStrExt;
        let odd = OsStr::from_bytes(b"/home/\xff");
        for (variable, path) in [
            ("HOME", "/home/\u{fffd}/.config/lowkey/config.toml"),
            ("XDG_CONFIG_HOME", "/home/\u{fffd}/lowkey/config.toml"),
        ] {
            let profile = Profile::find(|name| (name == variable).then_some(odd), None).unwrap();
            assert!(profile.path().as_os_str().as_bytes().starts_with(odd.as_bytes()));
            assert_eq!(profile.path().to_string_lossy(), path);
        }
    }

    #[test]
    fn a_token_file_with_nothing_in_it_is_told_of() {
        let folder = std::env::temp_dir().join(format!("lowkey-token-{:016x}", fastrand::u64(..)));
        let profile = Profile::find(|name| (name == "XDG_CONFIG_HOME").then_some(&folder), None).unwrap();
        let token = profile.token().unwrap();
        for nothing in ["\u{feff}", "\r\n"] {
            std::fs::write(folder.join("lowkey/token"), nothing).unwrap();
            let error = profile.token().unwrap_err();
            assert!(error.ends_with("there is nothing in it; remove it to get a new one"), "{error}");
        }
        std::fs::write(folder.join("lowkey/token"), "").unwrap();
        assert_ne!(profile.token().unwrap(), token);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn whoever_is_blocked_is_so_again_at_the_next_start_and_nobody_else() {
        let folder = std::env::temp_dir().join(format!("lowkey-blocked-{:016x}", fastrand::u64(..)));
        let profile = Profile::find(|name| (name == "XDG_CONFIG_HOME").then_some(&folder), None).unwrap();
        for name in ["\u{feff}spam", "a\nbob", " bob", "b@b", "a%62", "b\u{f6}b", "#bob", ""] {
            let place = known_peers::place(name, "chat.example");
            profile.change_blocked(|blocked| *blocked = BTreeSet::from([place.clone()])).unwrap();
            assert_eq!(profile.blocked().unwrap(), BTreeSet::from([place.clone()]), "{name:?}");
            assert_eq!(known_peers::read_place(&place), Some((name.to_owned(), "chat.example")));
        }
        // As earlier versions have written it.
        std::fs::write(folder.join("lowkey/blocked"), "b\u{f6}b@chat.example\n").unwrap();
        assert_eq!(profile.blocked().unwrap(), BTreeSet::from([known_peers::place("b\u{f6}b", "chat.example")]));
        std::fs::write(folder.join("lowkey/blocked"), "# spammers\nbob@chat.example \n").unwrap();
        assert!(profile.blocked().unwrap().contains("bob@chat.example"));
        // Whom the user meant is not to get through unseen.
        for wrong in ["bob", "bob@", "bob@ws://chat.example", "bob chat.example"] {
            std::fs::write(folder.join("lowkey/blocked"), format!("carol@chat.example\n{wrong}\n")).unwrap();
            let told = profile.blocked().unwrap_err();
            assert!(told.ends_with("blocked: line 2 is not NAME@SERVER"), "{told}");
        }
        std::fs::remove_dir_all(folder).unwrap();
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
