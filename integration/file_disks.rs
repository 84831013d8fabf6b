//! Files and the troubles of disks: what cannot be read is not offered, what does not fit is not taken, and what goes
//! wrong under way is said in a sentence, with the path, and ends no program.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use lowkey::peer::{EndReason, Event, FileOffer, Folder, Sink};

use crate::file_commands::{file, find, start};
use crate::file_users::{Held, bytes, ended, names, offered, pair, received, sent, sum};
use crate::world::{Folder as Scratch, Program, Server, path};

/// A shell's command that runs this before it becomes `lowkey`, which is bob and takes all into this folder.
fn listener_after(script: &str, server: &Server, home: &Scratch, inbox: &Path, more: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{script} && exec \"$0\" \"$@\""), path("lowkey"), "--server", &server.url()]);
    command.args(["--name", "bob", "listen", "--from-anybody", "--accept-files", inbox.to_str().unwrap()]).args(more);
    command.env_clear().env("HOME", home.path()).env("PATH", std::env::var_os("PATH").unwrap());
    command
}

/// The same with this folder on a disk of its own, of 8 MiB; what is done to it first is up to `script`. `None` where
/// this machine does not let us mount anything.
fn listener_on_a_disk(script: &str, server: &Server, home: &Scratch, inbox: &Path, more: &[&str]) -> Option<Program> {
    let within = |command: Command| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount"]).arg(command.get_program()).args(command.get_args());
        unshare.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        unshare
    };
    let mount = format!("mount -t tmpfs -o size=8m none '{}'", inbox.display());
    let mut trial = Command::new("sh");
    trial.args(["-c", &mount]).env("PATH", std::env::var_os("PATH").unwrap());
    if !within(trial).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine does not let us mount anything");
        return None;
    }
    let command = listener_after(&format!("{mount} && {script}"), server, home, inbox, more);
    Some(Program::spawn(within(command)))
}

/// What lies in a folder as a program sees it, which has disks of its own.
fn seen_by(program: &Program, folder: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{}", program.id(), folder.display()))
}

/// Sends a file to bob: the exit code, and what was said.
fn send(server: &Server, home: &Scratch, path: &str) -> (i32, String) {
    let mut alice = start(server, home, "alice", &["send", "bob", "--file", path]);
    (alice.wait().code().unwrap(), alice.stderr.rest().join("\n"))
}

/// A file of nothing but zeros that takes no room; `None` where this disk has none so long.
fn sparse(folder: &Path, length: u64) -> Option<PathBuf> {
    let path = folder.join("sparse");
    File::create(&path).unwrap().set_len(length).ok()?;
    Some(path)
}

#[test]
fn what_does_not_fit_is_refused_with_both_figures_and_what_fits_comes() {
    let (server, home) = (Server::start(), Scratch::new("disk-room"));
    let inbox = home.0.join("inbox");
    fs::create_dir(&inbox).unwrap();
    let Some(mut bob) = listener_on_a_disk("true", &server, &home, &inbox, &[]) else { return };
    bob.stderr.find("online");
    let long = sparse(&home.0, 20_000_000).unwrap();
    let (code, told) = send(&server, &home, long.to_str().unwrap());
    assert!(code == 4 && told.contains("there is no room for it at bob's"), "{code}: {told}");
    let words = bob.stderr.find("has not come");
    let figures = "inbox: it takes 20 MB, and there is room for 8.3 MB; make some, or choose another disk";
    assert!(words.contains(figures), "{words}");
    assert_eq!(names(&seen_by(&bob, &inbox)), [""; 0]);
    let short = file(&home, "short", &bytes(4_000_000));
    assert_eq!(send(&server, &home, &short).0, 0);
    assert!(fs::read(seen_by(&bob, &inbox).join("short")).unwrap() == bytes(4_000_000));
}

#[test]
fn a_disk_that_is_full_midway_is_waited_for_and_one_that_can_only_be_read_is_not_begun_with() {
    let (server, home) = (Server::start(), Scratch::new("disk-full"));
    let inbox = home.0.join("inbox");
    fs::create_dir(&inbox).unwrap();
    let ballast = format!("head -c 4194304 /dev/zero > '{}/ballast'", inbox.display());
    let Some(mut bob) = listener_on_a_disk(&ballast, &server, &home, &inbox, &[]) else { return };
    bob.stderr.find("online");
    // Of a stream nobody knows the length before.
    let mut alice = start(&server, &home, "alice", &["send", "bob", "--file", "-", "--as", "x"]);
    let content = bytes(6 << 20);
    let mut stdin = alice.stdin.take().unwrap();
    let fed = content.clone();
    let feeder = std::thread::spawn(move || stdin.write_all(&fed).unwrap());
    bob.stderr.find("x: the disk is full; make room within a minute");
    fs::remove_file(seen_by(&bob, &inbox).join("ballast")).unwrap();
    feeder.join().unwrap();
    assert_eq!(alice.wait().code(), Some(0));
    assert!(fs::read(seen_by(&bob, &inbox).join("x")).unwrap() == content);
    drop(bob);
    let read_only = format!("mount -o remount,ro '{}'", inbox.display());
    let mut bob = listener_on_a_disk(&read_only, &server, &home, &inbox, &[]).unwrap();
    assert_eq!(bob.wait().code(), Some(2));
    bob.stderr.find("inbox: the disk that it is on can only be read");
}

#[test]
fn a_file_beyond_what_the_process_may_write_is_a_sentence_and_no_death() {
    let (server, home) = (Server::start(), Scratch::new("disk-limit"));
    let inbox = home.0.join("inbox");
    // The unit is 512 or 1024 bytes, as the shell likes.
    let command = listener_after("ulimit -f 2048", &server, &home, &inbox, &[]);
    let mut bob = Program::spawn(command);
    bob.stderr.find("online");
    let (code, told) = send(&server, &home, &file(&home, "long", &bytes(5_000_000)));
    assert!(code == 4 && told.contains("there is no room for it at bob's"), "{code}: {told}");
    let words = bob.stderr.find("has not come");
    assert!(words.contains("no file may become so long there; look at ulimit -f"), "{words}");
    assert_eq!(send(&server, &home, &file(&home, "short", b"x")).0, 0, "he lives");
    assert_eq!(names(&inbox), ["short"]);
}

#[test]
fn what_cannot_be_read_is_not_offered_and_nobody_is_called_for_it() {
    let (server, home) = (Server::start(), Scratch::new("disk-sources"));
    let at = |name: &str| home.0.join(name).to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let _socket = UnixListener::bind(at("socket")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    symlink(at("fifo"), at("to-fifo")).unwrap();
    file(&home, "file", b"x");
    let mut cases = vec![
        (at("fifo"), "no file, but a device, a pipe or a socket"),
        (at("to-fifo"), "no file, but a device, a pipe or a socket"),
        (at("socket"), "no file, but a device, a pipe or a socket"),
        ("/dev/null".to_owned(), "no file, but a device, a pipe or a socket"),
        (at("dangling"), "it is a symbolic link, and what it leads to is not there"),
        (at("loop"), "it is a symbolic link that leads to itself"),
        (at("nowhere"), "it, or the folder for it, is not there"),
        (at("file/below"), "a part of that path is a file"),
        (at(&"x".repeat(300)), "no file can have that name"),
    ];
    let secret = file(&home, "secret", b"x");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    // Whoever may read everything can read it.
    if File::open(&secret).is_err() {
        cases.push((secret, "this user may not read or write it"));
    }
    for (path, words) in cases {
        let (code, told) = send(&server, &home, &path);
        assert!(code == 1 && told.contains(words) && told.contains(&path), "{path}: {code}: {told}");
    }
}

#[test]
fn a_file_that_shrinks_under_way_ends_and_one_that_is_removed_or_replaced_is_sent_as_it_was() {
    let (server, scratch) = (Server::start(), Scratch::new("disk-under-way"));
    let (mut alice, mut bob) = pair(&server);
    let path = scratch.0.join("x");
    let content = bytes(3_000_000);
    for what in ["shrinks", "grows", "is removed", "is replaced"] {
        fs::write(&path, &content).unwrap();
        let file = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
        assert_eq!(offered(&mut bob), file);
        let (go, held) = channel();
        bob.peer.take_file("alice", file, Sink::write(Held(held, false)));
        bob.find("it begins", |event| matches!(event, Event::FileStarted { .. }).then_some(()));
        // The window is full long before its end.
        match what {
            "shrinks" => File::options().write(true).open(&path).unwrap().set_len(2_900_000).unwrap(),
            "grows" => File::options().write(true).open(&path).unwrap().set_len(3_100_000).unwrap(),
            "is removed" => fs::remove_file(&path).unwrap(),
            _ => {
                fs::write(scratch.0.join("y"), bytes(17)).unwrap();
                fs::rename(scratch.0.join("y"), &path).unwrap();
            }
        }
        go.send(()).unwrap();
        if matches!(what, "shrinks" | "grows") {
            assert_eq!(ended(&mut alice, file), (EndReason::Changed, false), "it {what}");
            assert_eq!(ended(&mut bob, file).0, EndReason::Changed, "it {what}");
        } else {
            assert_eq!(sent(&mut alice, file), (3_000_000, sum(&content)), "it {what}");
            received(&mut bob, file);
        }
    }
}

/// A stream that ends when it is told to.
struct Until(Receiver<()>, usize);

impl Read for Until {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(buffer.len());
        if count == 0 {
            let _ = self.0.recv();
        }
        self.1 -= count;
        buffer[..count].fill(7);
        Ok(count)
    }
}

#[test]
fn a_folder_that_is_removed_under_way_is_told_of() {
    let (server, scratch) = (Server::start(), Scratch::new("disk-gone"));
    let (mut alice, mut bob) = pair(&server);
    let folder = Folder::open(scratch.0.join("in")).unwrap();
    let (end, until) = channel();
    let file = alice.peer.offer_file("bob", FileOffer::stream("x", Until(until, 100_000)));
    offered(&mut bob);
    bob.peer.take_file("alice", file, Sink::folder(folder.clone()));
    bob.find("it begins", |event| matches!(event, Event::FileStarted { .. }).then_some(()));
    fs::remove_dir_all(folder.path()).unwrap();
    end.send(()).unwrap();
    let trouble = bob.find("its end", |event| match event {
        Event::FileEnded { reason: EndReason::Failed, trouble, .. } => trouble.clone(),
        _ => None,
    });
    let place = folder.path().join("x");
    assert_eq!(trouble, format!("{}: it, or the folder for it, is not there; is the path right?", place.display()));
    assert_eq!(ended(&mut alice, file).0, EndReason::Failed);
}

#[test]
fn a_length_beyond_what_a_double_holds_is_told_to_the_byte_and_does_not_fit() {
    let (server, home, memory) = (Server::start(), Scratch::new("disk-sparse"), Path::new("/dev/shm"));
    const LENGTH: u64 = (1 << 53) + 1;
    // Not every disk has so long a file, and one in memory does.
    let elsewhere = memory.join(format!("lowkey-sparse-{}", std::process::id()));
    let path = sparse(&home.0, LENGTH).or_else(|| {
        fs::create_dir(&elsewhere).ok()?;
        sparse(&elsewhere, LENGTH)
    });
    let Some(path) = path else { return eprintln!("skipped: no disk here has so long a file") };
    let inbox = home.0.join("inbox");
    let arguments = [
        "--json",
        "--accept-files",
        inbox.to_str().unwrap(),
        "--from-anybody",
        "--max-file",
        "9999T",
        "--max-files",
        "9999T",
        "--max-peer",
        "9999T",
    ];
    let mut bob = start(&server, &home, "bob", &[&["listen"], &arguments[..]].concat());
    find(&mut bob, "online");
    let (code, told) = send(&server, &home, path.to_str().unwrap());
    let _ = fs::remove_dir_all(elsewhere);
    assert!(code == 4 && told.contains("there is no room for it at bob's"), "{code}: {told}");
    assert_eq!(find(&mut bob, "file_offered")["size"], LENGTH);
    let message = find(&mut bob, "file_ended")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("it takes 9007 TB, and there is room for"), "{message}");
    assert_eq!(names(&inbox), [""; 0]);
}

/// A disk that takes so many bytes in a second.
struct Slow(File, Duration, u32);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        std::thread::sleep(self.1.mul_f64(bytes.len() as f64 / f64::from(self.2)));
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// For `make trials`: round trips of a thousand texts while a file goes as fast as a disk of 4 MB/s takes it, from
/// short to long.
pub fn round_trips_beside_a_slow_disk() -> Vec<Duration> {
    let (server, scratch) = (Server::start(), Scratch::new("disk-slow"));
    let (mut alice, mut bob) = pair(&server);
    let file = alice.peer.offer_file("bob", FileOffer::stream("x", io::repeat(7)));
    assert_eq!(offered(&mut bob), file);
    let slow = Slow(File::create(scratch.0.join("x")).unwrap(), Duration::from_secs(1), 4_000_000);
    bob.peer.take_file("alice", file, Sink::write(slow));
    alice.find("it is on its way", |event| matches!(event, Event::FileProgress { .. }).then_some(()));
    let echo = std::thread::spawn(move || {
        for _ in 0..1000 {
            let (peer, text) = bob.message();
            bob.peer.send(&peer, &text);
        }
        bob
    });
    let mut took: Vec<Duration> = (0..1000)
        .map(|number| {
            let begin = Instant::now();
            alice.peer.send("bob", &number.to_string());
            assert_eq!(alice.message().1, number.to_string());
            begin.elapsed()
        })
        .collect();
    drop(echo.join().unwrap());
    took.sort();
    took
}
