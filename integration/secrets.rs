//! What becomes of secrets: in the memory of the real programs, when these crash, and in their files.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crypto_box::{PublicKey, SecretKey};
use data_encoding::BASE64;
use lowkey::peer::cipher::Cipher;
use lowkey::peer::keys::{KeyPair, PublicKey as PublicHalf};
use lowkey::peer::{CloseReason, Event, Settings, TextFormat};
use lowkey::profile::{Profile, transcript};

use crate::evil_server::EvilServer;
use crate::world::{Folder, Program, Server, User, identity, in_namespace, pass_in_namespace, path, until};

/// All that a process may write in its memory, which is where its secrets are.
fn memory(process: u32) -> io::Result<Vec<Vec<u8>>> {
    let file = File::open(format!("/proc/{process}/mem"))?;
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let mut regions = Vec::new();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').unwrap();
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        if !words[1].starts_with("rw") {
            continue;
        }
        let mut region = vec![0; (end - start) as usize];
        // What was never touched cannot be read of some regions, and holds nothing.
        if file.read_exact_at(&mut region, start).is_ok() {
            regions.push(region);
        }
    }
    if regions.is_empty() {
        return Err(io::Error::other("no memory can be read"));
    }
    Ok(regions)
}

/// How often these bytes are there, at any place.
fn count(memory: &[Vec<u8>], bytes: &[u8]) -> usize {
    let is_here = |window: &[u8]| window[0] == bytes[0] && window == bytes;
    memory.iter().map(|region| region.windows(bytes.len()).filter(|window| is_here(window)).count()).sum()
}

/// The secret half of this public key, if it is there: every run of 32 bytes that looks like chance is tried.
fn find_secret(memory: &[Vec<u8>], public: &[u8]) -> Option<[u8; 32]> {
    let mut tried = HashSet::new();
    let words = memory.iter().flat_map(|region| region.windows(32).step_by(8));
    let fit = words.filter(|bytes| bytes.iter().collect::<HashSet<_>>().len() >= 22);
    fit.filter_map(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .filter(|bytes| tried.insert(*bytes))
        .find(|bytes| SecretKey::from_bytes(*bytes).public_key().as_bytes() == public)
}

fn home_with_identity(name: &str, user: &str) -> Folder {
    let home = Folder::new(name);
    let folder = home.0.join(".config/lowkey");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("identity-{user}"));
    fs::write(&file, format!("{}\n", *identity(user).secret_to_base64())).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    home
}

/// The goal: who gets to see a program's memory later finds keys of chats that are over, or the identity in more places
/// than the one where it is needed.
#[test]
fn of_a_chat_that_is_over_no_secret_is_left_in_memory() {
    let probe = Program::start("lowkey", &["--name", "alice", "--server", "ws://127.0.0.1:1"], &[]);
    if memory(probe.id()).is_ok() {
        return nothing_is_left();
    }
    drop(probe);
    // In a user namespace of one's own, all programs that are started there can be looked into.
    let inside = ["--ignored", "--exact", "secrets::nothing_is_left"];
    if in_namespace("ip link set lo up\nexit", &[]).output().is_ok_and(|output| output.status.success()) {
        pass_in_namespace(&mut in_namespace("ip link set lo up", &inside), 1);
    } else {
        eprintln!("skipped: this user cannot look into the memory of programs, and has no user namespaces");
    }
}

/// What the test above runs where it may.
#[test]
#[ignore = "needs a user who may look into memory; run by of_a_chat_that_is_over_no_secret_is_left_in_memory"]
fn nothing_is_left() {
    for (program, name, more) in [("lowkey-bot", "echo", &[][..]), ("lowkey", "echo", &["--old-apps", "listen"])] {
        let server = EvilServer::start();
        let home = home_with_identity("memory", name);
        let url = server.url();
        let arguments = [&["--server", &url, "--name", name], more].concat();
        let mut program = Program::start(program, &arguments, &[("HOME", home.path())]);
        program.stderr.find("online");
        let watched = WatchedProgram { program, server, name };
        let mut alice = watched.user("alice");
        // With a peer of ours the session key's secret is gone once the keys are made, while the chat is open.
        watched.chats_with(&mut alice, "hello");
        let theirs = watched.key(name, "alice");
        until_gone(|| find_secret(&watched.memory(), &theirs).is_none())
            .expect("the session key's secret is left while the chat is open");
        alice.peer.leave(name);
        alice.wait(&Event::Closed { peer: name.to_owned(), reason: CloseReason::Left });
        // With an old app it is needed to the end.
        watched.server.play(|mut frame| {
            if let Some(payload) = frame.message["payload"].as_object_mut() {
                payload.remove("lowkey");
            }
            vec![frame]
        });
        let mut app = watched.user("app");
        app.peer.call(name);
        app.talk_to_app(name);
        app.wait(&Event::Open { peer: name.to_owned() });
        let theirs = watched.key(name, "app");
        let secret = until("the session key's secret is found while the chat is open", || {
            find_secret(&watched.memory(), &theirs)
        });
        let shared = shared(&watched.key("app", name), &secret);
        let counted = || {
            let (session, identity) = watched.left(&secret);
            (session, count(&watched.memory(), &shared), identity)
        };
        let open = counted();
        assert_eq!(open.0[0], 1, "the session key's secret is in one place: {open:?}");
        assert!(open.1 >= 1, "the shared key is found: {open:?}");
        app.peer.leave(name);
        app.wait(&Event::Closed { peer: name.to_owned(), reason: CloseReason::Left });
        // Another chat begins and ends, and one call comes to nothing.
        watched.server.play(crate::evil_server::honest);
        watched.chats_with(&mut alice, "again");
        alice.peer.leave(name);
        let mut last = open;
        until_gone(|| {
            last = counted();
            // The identity is needed in one place, as long as the program runs.
            last == ([0; 4], 0, [1, 0])
        })
        .unwrap_or_else(|| {
            panic!("left of the session key's secret, its scalar, the shared key, its base64; identity: {last:?}")
        });
    }
}

/// A program whose memory is looked into, online as `name` at this server.
struct WatchedProgram<'a> {
    program: Program,
    server: EvilServer,
    name: &'a str,
}

impl WatchedProgram<'_> {
    fn memory(&self) -> Vec<Vec<u8>> {
        memory(self.program.id()).unwrap()
    }

    /// Another user of its server.
    fn user(&self, name: &str) -> User {
        let mut settings = Settings::default();
        settings.identity = Some(identity(name));
        User::online(&self.server.url(), name, settings)
    }

    /// A user calls it, and it takes this text.
    fn chats_with(&self, user: &mut User, text: &str) {
        user.call(self.name);
        let id = user.peer.send(self.name, text);
        user.find("delivered", |event| match event {
            Event::Delivered { id: taken, .. } => (*taken == id).then_some(()),
            _ => None,
        });
    }

    /// The session key that one of two has told the other last.
    fn key(&self, from: &str, to: &str) -> Vec<u8> {
        let sent = self.server.sent(from, to);
        let key = sent.iter().rev().find(|message| message["type"] == "key:exchange").unwrap();
        BASE64.decode(key["payload"]["publicKey"].as_str().unwrap().as_bytes()).unwrap()
    }

    /// How often its memory has this secret of a session key, its scalar, the key that it shares with alice, and the
    /// secret in base64; and the identity, and that in base64.
    fn left(&self, secret: &[u8; 32]) -> ([usize; 4], [usize; 2]) {
        let identity = BASE64.decode(identity(self.name).secret_to_base64().as_bytes()).unwrap();
        let scalar = SecretKey::from_bytes(*secret).to_scalar().to_bytes();
        let shared = shared(&self.key("alice", self.name), secret);
        let base64 = [&secret[..], &identity].map(|bytes| BASE64.encode(bytes));
        let memory = self.memory();
        let session = [&secret[1..31], &scalar, &shared, base64[0].as_bytes()].map(|bytes| count(&memory, bytes));
        (session, [&identity[1..31], base64[1].as_bytes()].map(|bytes| count(&memory, bytes)))
    }
}

/// What two keys share, as X25519 and then HSalsa20 give it.
fn shared(public: &[u8], secret: &[u8; 32]) -> [u8; 32] {
    let public = PublicKey::from_bytes(public.try_into().unwrap());
    dryoc::classic::crypto_box::crypto_box_beforenm(public.as_bytes(), secret).unwrap()
}

/// The goal: a copy that a calculation has left on the stack.
#[test]
fn what_a_key_is_calculated_with_is_left_nowhere() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "secrets::holder_of_a_key"]);
    command.env("TEST_HOLDER", "1");
    let mut holder = Program::spawn(command);
    let keys = holder.stdout.find("the keys are ");
    let Ok(memory) = memory(holder.id()) else {
        return eprintln!("skipped: this user cannot look into the memory of programs");
    };
    let keys = keys.split_once("the keys are ").unwrap().1.split(' ').map(|key| BASE64.decode(key.as_bytes()).unwrap());
    let secrets = keys.map(|public| find_secret(&memory, &public).expect("the secret is there"));
    let [kept, spilt] = secrets.collect::<Vec<_>>().try_into().unwrap();
    let scalar = SecretKey::from_bytes(kept).to_scalar().to_bytes();
    let shared = shared(identity("peer").public().as_bytes(), &kept);
    let left = [&kept[1..31], &scalar, &shared[..]].map(|bytes| count(&memory, bytes));
    assert_eq!(left, [1, 0, 1], "of the secret, its scalar, and the key that is shared with a peer");
    assert_eq!(count(&memory, &spilt), 2, "a copy that is left is found");
}

/// What the test above starts: a program whose thread has a key, has used it, and does nothing more that could cover
/// what is left.
#[test]
#[ignore = "waits to be looked into; run by what_a_key_is_calculated_with_is_left_nowhere"]
fn holder_of_a_key() {
    if std::env::var_os("TEST_HOLDER").is_none() {
        return;
    }
    let (told, key) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let pair = beneath::<16_384, _>(KeyPair::generate);
        let peer = identity("peer").public();
        let mut cipher = beneath::<65_536, _>(|| Cipher::new(pair.clone(), peer, TextFormat::V1).unwrap());
        beneath::<131_072, _>(|| cipher.seal("hello").unwrap());
        // And another, of which something is left.
        let spilt = KeyPair::generate();
        std::hint::black_box(Box::leak(BASE64.decode(spilt.secret_to_base64().as_bytes()).unwrap().into_boxed_slice()));
        told.send([pair.public(), spilt.public()].map(PublicHalf::to_base64).join(" ")).unwrap();
        loop {
            std::thread::park();
        }
    });
    println!("the keys are {}", key.recv().unwrap());
    // Until nobody reads any more what is written there.
    let _ = io::stdin().read_line(&mut String::new());
}

/// Does something so far down the stack that nothing which comes later gets there by chance.
#[inline(never)]
fn beneath<const DEPTH: usize, T>(work: impl FnOnce() -> T) -> T {
    let mut room = [0u8; DEPTH];
    std::hint::black_box(&mut room);
    let done = work();
    std::hint::black_box(&mut room);
    done
}

fn until_gone(mut is_gone: impl FnMut() -> bool) -> Option<()> {
    let deadline = std::time::Instant::now() + crate::world::SOON;
    while std::time::Instant::now() < deadline {
        if is_gone() {
            return Some(());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    None
}

#[test]
fn a_program_that_crashes_leaves_no_core() {
    let server = Server::start();
    for name in ["lowkey-bot", "lowkey"] {
        let folder = Folder::new("core");
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited 2>/dev/null || ulimit -c hard; exec \"$0\" \"$@\"", path(name)]);
        command.args(["--server", &server.url(), "--name", &name.replace('-', "_")]).env_clear().current_dir(&folder.0);
        let mut program = Program::spawn(command);
        program.stderr.find("online");
        let limits = fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        program.signal("ABRT");
        let status = program.wait();
        assert_eq!((status.signal(), status.core_dumped()), (Some(6), false), "{name}");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
    }
}

#[test]
fn a_log_and_a_history_that_others_could_have_written_are_neither_added_to_nor_read() {
    let home = Folder::new("log");
    let profile = Profile::find(|name| (name == "HOME").then(|| home.path().to_owned()), None).unwrap();
    let entry = transcript::TranscriptEntry {
        time: "T".to_owned(),
        server: "a".to_owned(),
        peer: "bob".to_owned(),
        sent: true,
        text: "hi".to_owned(),
    };
    profile.add_to_log(&entry).unwrap();
    profile.history().add("line");
    let folder = home.0.join(".config/lowkey");
    let chmod = |file: &str, mode| fs::set_permissions(folder.join(file), Permissions::from_mode(mode)).unwrap();
    for (file, mode, kept) in [("log", 0o666, 0o600), ("", 0o777, 0o700)] {
        chmod(file, mode);
        for result in [profile.add_to_log(&entry), profile.last_of_log().map(drop)] {
            assert!(result.as_ref().is_err_and(|error| error.contains("chmod go-w")), "{file}: {result:?}");
        }
        chmod(file, kept);
    }
    assert_eq!(profile.last_of_log(), Ok(entry.to_line()), "nothing was added");
    chmod("history", 0o666);
    profile.history().add("another");
    chmod("history", 0o600);
    assert_eq!(profile.history().lines(), ["line"]);
}

#[test]
fn each_folder_of_a_named_profile_is_looked_at() {
    for open in ["", "profiles", "profiles/p"] {
        let home = Folder::new("folders");
        let profile = Profile::find(|name| (name == "HOME").then(|| home.path().to_owned()), "p".parse().ok().as_ref());
        let (profile, folder) = (profile.unwrap(), home.0.join(".config/lowkey"));
        profile.token().unwrap();
        fs::set_permissions(folder.join(open), Permissions::from_mode(0o777)).unwrap();
        let refused = profile.token().unwrap_err();
        let advice = format!("chmod go-w {}", folder.join(open).to_str().unwrap().trim_end_matches('/'));
        assert!(refused.ends_with(&advice), "{refused}");
    }
}

#[test]
fn into_a_folder_that_is_refused_nothing_is_written() {
    let home = Folder::new("refused");
    let profile = Profile::find(|name| (name == "HOME").then(|| home.path().to_owned()), None).unwrap();
    let folder = home.0.join(".config/lowkey");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    profile.history().add("line");
    for (what, result) in [
        ("a setting", profile.change_config(|_| Ok("bell = true\n".to_owned()))),
        ("who is known", profile.change_known_peers(|_| {})),
        ("who is called what", profile.change_aliases(|_| {})),
        ("who is blocked", profile.change_blocked(|_| {})),
        ("an identity from elsewhere", profile.import_identity("alice", &KeyPair::generate())),
        ("an identity", profile.identity("alice").map(drop)),
        ("a token", profile.token().map(drop)),
    ] {
        assert!(result.as_ref().is_err_and(|error| error.contains("chmod go-w")), "{what}: {result:?}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{what}");
    }
}

/// How a program starts whose profile was dealt with like this: its exit code, and what it says.
fn start_with(change: impl FnOnce(&std::path::Path)) -> (Option<i32>, Vec<String>) {
    static STARTS: AtomicUsize = AtomicUsize::new(0);
    let home = home_with_identity(&format!("files-{}", STARTS.fetch_add(1, Ordering::Relaxed)), "alice");
    let folder = home.0.join(".config/lowkey");
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    for (file, text) in
        [("token", "a-token\n"), ("config.toml", "bell = false\n"), ("known_peers", ""), ("blocked", "")]
    {
        fs::write(folder.join(file), text).unwrap();
        fs::set_permissions(folder.join(file), Permissions::from_mode(0o600)).unwrap();
    }
    change(&folder);
    let arguments = ["--name", "alice", "--server", "ws://127.0.0.1:1", "-e", "/quit"];
    let mut program = Program::start("lowkey", &arguments, &[("HOME", home.path())]);
    let code = program.wait().code();
    (code, program.stderr.rest())
}

#[test]
fn files_that_others_could_have_written_stop_the_start_and_such_as_they_may_read_are_warned_of() {
    let chmod = |file: &'static str, mode: u32| {
        start_with(move |folder| fs::set_permissions(folder.join(file), Permissions::from_mode(mode)).unwrap())
    };
    let is_plain =
        |(code, said): &(Option<i32>, Vec<String>)| *code != Some(2) && !said.iter().any(|line| line.contains("chmod"));
    for (file, mode) in [("identity-alice", 0o600), ("identity-alice", 0o400), ("config.toml", 0o644), ("", 0o755)] {
        let started = chmod(file, mode);
        assert!(is_plain(&started), "{file} {mode:o}: {started:?}");
    }
    for file in ["identity-alice", "token", "config.toml", "known_peers", "blocked", ""] {
        let (code, said) = chmod(file, 0o666 | if file.is_empty() { 0o111 } else { 0 });
        assert_eq!((code, said.len()), (Some(2), 1), "{file}: {said:?}");
        assert!(said[0].contains("may write") && said[0].contains("chmod go-w"), "{said:?}");
        if !file.is_empty() {
            let (code, said) = start_with(|folder| {
                fs::remove_file(folder.join(file)).unwrap();
                symlink("nowhere", folder.join(file)).unwrap();
            });
            assert_eq!((code, said.len()), (Some(2), 1), "{file}: {said:?}");
            assert!(said[0].contains("a symbolic link that leads to nothing"), "{said:?}");
        }
    }
    for (file, mode, advice) in [
        ("identity-alice", 0o644, "chmod 600 "),
        ("token", 0o640, "chmod 600 "),
        ("config.toml", 0o660, "chmod g-w "),
        ("known_peers", 0o664, "chmod g-w "),
        ("", 0o770, "chmod g-w "),
    ] {
        let (code, said) = chmod(file, mode);
        assert_ne!(code, Some(2), "{said:?}");
        let told: Vec<_> = said.iter().filter(|line| line.contains(advice)).collect();
        assert_eq!(told.len(), 1, "{file} {mode:o}: {said:?}");
    }
}

#[test]
fn files_of_another_user_stop_the_start() {
    let other = |folder: &std::path::Path, file: &str| std::os::unix::fs::chown(folder.join(file), Some(12345), None);
    let probe = Folder::new("chown");
    if other(&probe.0, "").is_err() {
        return eprintln!("skipped: only root can give files away");
    }
    for file in ["identity-alice", "token", "config.toml", "known_peers", "blocked", ""] {
        let (code, said) = start_with(|folder| other(folder, file).unwrap());
        assert_eq!((code, said.len()), (Some(2), 1), "{file}: {said:?}");
        assert!(said[0].contains("belongs to another user") && said[0].contains("12345"), "{said:?}");
    }
}

#[test]
fn an_access_token_in_a_file_that_all_may_write_is_not_used() {
    let folder = Folder::new("token-file");
    let file = folder.0.join("token");
    fs::write(&file, "open-sesame").unwrap();
    let start = |mode, said| {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let arguments = ["--server", "ws://127.0.0.1:1", "--access-token-file", file.to_str().unwrap()];
        Program::start("lowkey-bot", &arguments, &[]).stderr.find(said);
    };
    start(0o600, "offline: ");
    start(0o644, "chmod 600 ");
    start(0o646, "chmod go-w ");
}
