//! Folders: from a real one to a real one, by all ways that files go, whatever becomes of either side on the way.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use lowkey::peer::files::entries::MAX_DEPTH;
use lowkey::peer::{EndReason, Event, FileId, FileOffer, Folder, Sink};
use serde_json::json;

use crate::file_commands::{listener, sent_through_kills, start};
use crate::file_prompts::two_prompts;
use crate::file_users::{Held, bytes, ended, names, offered, pair, received, sent};
use crate::world::{Folder as Scratch, Server, User};

/// All that is below a folder, in order: paths, and what is in files.
fn content(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let (mut all, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
            let name = path.strip_prefix(folder).unwrap().to_owned();
            if kind.is_dir() {
                all.push((name, None));
                folders.push(path);
            } else {
                all.push((name, Some(fs::read(path).unwrap())));
            }
        }
    }
    all.sort();
    all
}

/// A folder of photos: deep, wide, with what is empty and a long one in it.
fn photos(scratch: &Scratch) -> PathBuf {
    let photos = scratch.0.join("photos");
    fs::create_dir_all(photos.join("empty")).unwrap();
    let deep = (0..MAX_DEPTH).fold(photos.clone(), |path, number| path.join(number.to_string()));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("deepest"), "deepest").unwrap();
    fs::write(photos.join("nothing"), "").unwrap();
    fs::write(photos.join("Grüße aus Köln.jpg"), bytes(3_000_000)).unwrap();
    (0..50).for_each(|number| fs::write(photos.join(format!("{number}.txt")), number.to_string()).unwrap());
    photos
}

/// Bob takes what alice offers into a folder.
fn take(bob: &mut User, file: FileId, folder: &Folder) {
    assert_eq!(offered(bob), file);
    bob.peer.take_file("alice", file, Sink::folder(folder.clone()));
}

#[test]
fn a_folder_arrives_whole_under_one_name_and_what_is_there_stays() {
    let (server, scratch) = (Server::start(), Scratch::new("folder-whole"));
    let (mut alice, mut bob) = pair(&server);
    let photos = photos(&scratch);
    let folder = Folder::open(scratch.0.join("in")).unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    fs::write(folder.path().join("photos/mine"), "mine").unwrap();
    let expected = content(&photos);
    // Neither links nor modes go.
    symlink("/etc/passwd", photos.join("link")).unwrap();
    fs::set_permissions(photos.join("1.txt"), fs::Permissions::from_mode(0o755)).unwrap();
    let offer = FileOffer::open(&photos).unwrap();
    assert_eq!((offer.name(), offer.entries(), offer.skipped()), ("photos", Some(expected.len() as u64), 1));
    let size = offer.size().unwrap();
    let file = alice.peer.offer_file("bob", offer);
    let entries = bob.find("an offer", |event| match event {
        Event::FileOffered { entries, .. } => Some(*entries),
        _ => None,
    });
    assert_eq!(entries, Some(expected.len() as u64));
    assert_eq!(names(folder.path()), ["photos"], "nothing before the yes");
    bob.peer.take_file("alice", file, Sink::folder(folder.clone()));
    let (path, of, digest) = received(&mut bob, file);
    assert_eq!(sent(&mut alice, file), (size, digest));
    assert_eq!((path.as_deref(), of), (Some(&*folder.path().join("photos (1)")), size));
    assert!(content(&path.unwrap()) == expected);
    let mode = fs::metadata(folder.path().join("photos (1)/1.txt")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0, "{mode:o}");
    assert_eq!(content(&folder.path().join("photos")).len(), 1);
    let left = fs::read_dir(folder.path().join(".lowkey")).unwrap().map(|entry| entry.unwrap().path());
    assert!(left.into_iter().all(|left| left.extension().is_some_and(|end| end == "json")), "nothing but the receipt");
    // The same again is there already; after a change it is another one.
    let again = alice.peer.offer_file("bob", FileOffer::open(&photos).unwrap());
    assert_eq!(again, file);
    take(&mut bob, again, &folder);
    assert_eq!(received(&mut bob, again).0.unwrap(), folder.path().join("photos (1)"));
    sent(&mut alice, again);
    fs::write(photos.join("0.txt"), "changed").unwrap();
    let other = alice.peer.offer_file("bob", FileOffer::open(&photos).unwrap());
    assert_ne!(other, file);
    take(&mut bob, other, &folder);
    assert_eq!(received(&mut bob, other).0.unwrap(), folder.path().join("photos (2)"));
    assert_eq!(names(folder.path()), ["photos", "photos (1)", "photos (2)"]);
}

#[test]
fn a_folder_in_which_something_changes_under_way_ends_and_leaves_nothing() {
    let (server, scratch) = (Server::start(), Scratch::new("folder-changed"));
    let (mut alice, mut bob) = pair(&server);
    let photos = photos(&scratch);
    let folder = Folder::open(scratch.0.join("in")).unwrap();
    for what in ["grows", "is removed"] {
        let file = alice.peer.offer_file("bob", FileOffer::open(&photos).unwrap());
        take(&mut bob, file, &folder);
        // It is looked at when it is taken, and at its end.
        let (go, held) = channel();
        let waiting = alice.peer.offer_file("bob", FileOffer::stream("x", std::io::repeat(7)));
        assert_eq!(offered(&mut bob), waiting);
        received(&mut bob, file);
        sent(&mut alice, file);
        bob.peer.take_file("alice", waiting, Sink::write(Held(held, false)));
        bob.find("it begins", |event| matches!(event, Event::FileStarted { .. }).then_some(()));
        // The next one waits behind the stream, and so is read only after it has changed.
        fs::write(photos.join("first"), what).unwrap();
        let file = alice.peer.offer_file("bob", FileOffer::open(&photos).unwrap());
        take(&mut bob, file, &folder);
        match what {
            "grows" => File::options().write(true).open(photos.join("49.txt")).unwrap().set_len(17).unwrap(),
            _ => fs::remove_file(photos.join("49.txt")).unwrap(),
        }
        alice.peer.cancel_file("bob", waiting);
        // It may have come to nothing before its first byte.
        drop(go);
        let reason = alice.find("its end", |event| match event {
            Event::FileEnded { file: of, reason, .. } if *of == file => Some(*reason),
            Event::FileSent { .. } => panic!("{event:?}"),
            _ => None,
        });
        assert!(matches!(reason, EndReason::Changed | EndReason::Failed), "it {what}: {reason:?}");
        bob.find("its end", |event| matches!(event, Event::FileEnded { file: of, .. } if *of == file).then_some(()));
    }
    assert_eq!(names(folder.path()), ["photos", "photos (1)"]);
}

#[test]
fn a_folder_goes_into_no_stream() {
    let (server, scratch) = (Server::start(), Scratch::new("folder-stream"));
    let (mut alice, mut bob) = pair(&server);
    let file = alice.peer.offer_file("bob", FileOffer::open(photos(&scratch)).unwrap());
    assert_eq!(offered(&mut bob), file);
    bob.peer.take_file("alice", file, Sink::write(std::io::sink()));
    assert_eq!(ended(&mut bob, file).0, EndReason::Failed);
    assert_eq!(ended(&mut alice, file).0, EndReason::Failed);
}

#[test]
fn a_folder_goes_from_prompt_to_prompt() {
    let (server, home) = (Server::start(), Scratch::new("folder-prompts"));
    let photos = photos(&home);
    symlink("/etc/passwd", photos.join("link")).unwrap();
    let (mut alice, mut bob) = two_prompts(&server, &home);
    alice.type_keys("/file ~/photos\r");
    let count = content(&photos).len() - 1;
    alice.shows(&format!("* offering photos (folder of {count}, 3.0 MB, file 1) to bob"));
    alice.shows("* a symbolic link, device, pipe or socket in photos is not sent");
    bob.shows(&format!("* alice offers photos (folder of {count}, 3.0 MB, file 1): /take or /refuse"));
    bob.type_keys("/take as holidays\r");
    bob.shows("* alice's photos is in");
    alice.shows("* bob has photos (3.0 MB)");
    fs::remove_file(photos.join("link")).unwrap();
    assert!(content(&home.0.join("Downloads/holidays")) == content(&photos));
    bob.type_keys("/files\r");
    bob.shows(&format!("file 1 ↓ photos (folder of {count}, 3.0 MB) of alice: done"));
}

#[test]
fn a_folder_goes_on_by_the_same_command_after_either_side_was_killed() {
    let (server, home) = (Server::start(), Scratch::new("folder-killed"));
    let photos = photos(&home);
    fs::write(photos.join("5 long"), bytes(64 << 20)).unwrap();
    let [offering, received] = sent_through_kills(&server, &home, photos.to_str().unwrap());
    let inbox = home.0.join("inbox");
    assert_eq!(offering["entries"], content(&photos).len());
    assert_eq!(received["path"], json!(inbox.join("photos")));
    assert_eq!(names(&inbox), ["photos"]);
    assert!(content(&inbox.join("photos")) == content(&photos));
}

#[test]
fn a_listener_keeps_within_its_bound_with_folders_in_it_too() {
    let (server, home) = (Server::start(), Scratch::new("folder-quota"));
    let photos = photos(&home);
    let inbox = home.0.join("inbox");
    let send = || {
        let mut alice = start(&server, &home, "alice", &["send", "bob", "--file", photos.to_str().unwrap()]);
        (alice.wait().code(), alice.stderr.rest().join("\n"))
    };
    let arguments = ["--accept-files", inbox.to_str().unwrap(), "--from-anybody", "--max-files", "5M"];
    let bob = listener(&server, &home, &arguments);
    assert_eq!(send().0, Some(0));
    fs::write(photos.join("new"), "new").unwrap();
    let (code, told) = send();
    assert!(code == Some(4) && told.contains("there is no room for it at bob's"), "{code:?}: {told}");
    drop(bob);
    let arguments = ["-c", "exec \"$0\" \"$@\" > /dev/null", crate::world::path("lowkey"), "--server", &server.url()];
    let mut command = std::process::Command::new("sh");
    command.args(arguments).args(["--name", "bob", "listen", "--from", "alice", "--accept-files", "-"]);
    command.env_clear().env("HOME", home.path());
    let mut bob = crate::world::Program::spawn(command);
    bob.stderr.find("online");
    let (code, told) = send();
    assert!(code == Some(4) && told.contains("bob takes no files"), "{code:?}: {told}");
    bob.stderr.find("a folder goes into a folder, and not to standard output");
}

/// For `make trials`: a folder of so many small files. How long it took.
pub fn many_small_ones(count: usize) -> Duration {
    let (server, scratch) = (Server::start(), Scratch::new(&format!("folder-small-{count}")));
    let (mut alice, mut bob) = pair(&server);
    let many = scratch.0.join("many");
    for number in 0..count {
        let folder = many.join(format!("{}", number / 1000));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(number.to_string()), number.to_string()).unwrap();
    }
    let folder = Folder::open(scratch.0.join("in")).unwrap();
    let begin = Instant::now();
    let file = alice.peer.offer_file("bob", FileOffer::open(&many).unwrap());
    take(&mut bob, file, &folder);
    sent(&mut alice, file);
    let took = begin.elapsed();
    assert!(content(&received(&mut bob, file).0.unwrap()) == content(&many));
    took
}

#[test]
fn a_folder_of_many_small_files_arrives() {
    many_small_ones(3000);
}
