//! Files between two users of the library, through a real server, real data channels and real disks.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lowkey::peer::files::MAX_FILES;
use lowkey::peer::{EndReason, Event, FileOffer, Folder, Sink};

use crate::file_users::{bytes, ended, offered, pair, received, sent, sum};
use crate::world::{Folder as Scratch, Server, User, identity};

#[test]
fn files_of_all_lengths_arrive_whole_under_their_names() {
    let (server, scratch) = (Server::start(), Scratch::new("files-lengths"));
    let (mut alice, mut bob) = pair(&server);
    let folder = Folder::open(scratch.0.join("in")).unwrap();
    const BLOCK: usize = 4 * 1024 * 1024;
    for length in [0, 1, 32 * 1024, 32 * 1024 + 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17] {
        let (path, content) = (scratch.0.join(format!("{length} bytes.bin")), bytes(length));
        fs::write(&path, &content).unwrap();
        let file = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
        let (name, size) = bob.find("an offer", |event| match event {
            Event::FileOffered { peer, identity: of, file: id, name, size, modified, .. } => {
                assert_eq!((&**peer, *of, *id), ("alice", identity("alice").public(), file));
                assert!(modified.is_some());
                Some((name.clone(), *size))
            }
            _ => None,
        });
        assert_eq!((&*name, size), (&*format!("{length} bytes.bin"), Some(length as u64)));
        assert!(!folder.path().join(&name).exists(), "nothing is written before bob says so");
        bob.peer.take_file("alice", file, Sink::folder(folder.clone()));
        let whole = (length as u64, sum(&content));
        assert_eq!(sent(&mut alice, file), whole);
        let (stored, size, digest) = received(&mut bob, file);
        assert_eq!((size, digest), whole);
        let stored = stored.unwrap();
        assert_eq!(stored, folder.path().join(&name));
        assert!(fs::read(&stored).unwrap() == content, "{length} bytes");
        assert_eq!(fs::metadata(&stored).unwrap().modified().unwrap().elapsed().unwrap().as_secs() / 60, 0);
    }
}

#[test]
fn what_nobody_takes_is_not_sent() {
    let (server, scratch) = (Server::start(), Scratch::new("files-refused"));
    let (mut alice, mut bob) = pair(&server);
    let path = scratch.0.join("x");
    fs::write(&path, "x").unwrap();
    let file = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
    assert_eq!(offered(&mut bob), file);
    bob.peer.refuse_file("alice", file, EndReason::TooLarge);
    assert_eq!(ended(&mut alice, file), (EndReason::TooLarge, false));
    // The same file again is the same offer.
    assert_eq!(alice.peer.offer_file("bob", FileOffer::open(&path).unwrap()), file);
    assert_eq!(offered(&mut bob), file);
    alice.peer.cancel_file("bob", file);
    assert_eq!(ended(&mut alice, file), (EndReason::Cancelled, false));
    assert_eq!(ended(&mut bob, file), (EndReason::Cancelled, false));
    let folder = Folder::open(scratch.0.join("in")).unwrap();
    bob.peer.take_file("alice", file, Sink::folder(folder.clone()));
    assert_eq!(ended(&mut bob, file), (EndReason::Cancelled, false), "it is not offered any more");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // Whoever is not there, and whoever does not want to hear of files.
    let nobody = alice.peer.offer_file("carol", FileOffer::open(&path).unwrap());
    assert_eq!(ended(&mut alice, nobody), (EndReason::NotOpen, false));
    assert_ne!(nobody, file, "nobody can tell that it is the same file");
    let mut carol = server.peer("carol");
    alice.peer.call("carol");
    carol.answer("alice");
    alice.wait(&Event::Open { peer: "carol".to_owned() });
    let file = alice.peer.offer_file("carol", FileOffer::open(&path).unwrap());
    assert_eq!(ended(&mut alice, file), (EndReason::NotAccepting, false));
    assert_eq!(carol.events.next_timeout(Duration::from_millis(50)), None, "it is not even told");
}

#[test]
fn names_of_all_kinds_stay_in_the_folder_and_overwrite_nothing() {
    let (server, scratch) = (Server::start(), Scratch::new("files-names"));
    let (mut alice, mut bob) = pair(&server);
    let folder = Folder::open(scratch.0.join("in")).unwrap();
    fs::write(scratch.0.join("precious"), "precious").unwrap();
    fs::write(folder.path().join("taken.txt"), "taken").unwrap();
    let absolute = scratch.0.join("precious").to_str().unwrap().to_owned();
    let long = "x".repeat(3000);
    for (number, (name, stored)) in [
        ("../precious", "precious"),
        (&*absolute, "precious (1)"),
        ("taken.txt", "taken (1).txt"),
        ("..", "file"),
        (".bashrc", "_bashrc"),
        ("-rf", "_rf"),
        ("a\0b\n\u{1b}[31m\u{202e}gpj.exe", "a_b__[31m_gpj.exe"),
        ("", "file (1)"),
        ("NUL", "_NUL"),
        (".lowkey", "_lowkey"),
        (&long, &long[..200]),
    ]
    .into_iter()
    .enumerate()
    {
        let path = scratch.0.join(format!("source {number}"));
        fs::write(&path, format!("{number}")).unwrap();
        let file = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap().with_name(name));
        let told = bob.find("an offer", |event| match event {
            Event::FileOffered { name, .. } => Some(name.clone()),
            _ => None,
        });
        assert_eq!(told, name, "as it was said");
        bob.peer.take_file("alice", file, Sink::folder(folder.clone()));
        let (path, ..) = received(&mut bob, file);
        sent(&mut alice, file);
        assert_eq!(path.unwrap(), folder.path().join(stored), "{name:?}");
        assert_eq!(fs::read_to_string(folder.path().join(stored)).unwrap(), format!("{number}"));
    }
    assert_eq!(fs::read_to_string(scratch.0.join("precious")).unwrap(), "precious");
    assert_eq!(fs::read_to_string(folder.path().join("taken.txt")).unwrap(), "taken");
    // By a name of bob's choice, which is as harmless.
    let path = scratch.0.join("source");
    fs::write(&path, "chosen").unwrap();
    let file = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
    offered(&mut bob);
    bob.peer.take_file("alice", file, Sink::folder_as(folder.clone(), "../chosen"));
    assert_eq!(received(&mut bob, file).0.unwrap(), folder.path().join("chosen"));
}

#[test]
fn both_send_at_once_and_several_files_wait_for_each_other() {
    let (server, scratch) = (Server::start(), Scratch::new("files-both"));
    let (alice, bob) = pair(&server);
    let folder = Folder::open(scratch.0.join("in")).unwrap();
    const FILES: usize = 20;
    let content = |number: usize| bytes(number * 50_000 + number);
    for (user, peer, side) in [(&alice, "bob", "a"), (&bob, "alice", "b")] {
        for number in 0..FILES {
            let path = scratch.0.join(format!("{side}{number}"));
            fs::write(&path, content(number)).unwrap();
            user.peer.offer_file(peer, FileOffer::open(path).unwrap());
        }
    }
    let take = |mut user: User, peer: &'static str| {
        let folder = folder.clone();
        std::thread::spawn(move || {
            let (mut received, mut sent) = (0, 0);
            while received < FILES || sent < FILES {
                match user.next() {
                    Event::FileOffered { file, .. } => user.peer.take_file(peer, file, Sink::folder(folder.clone())),
                    Event::FileReceived { .. } => received += 1,
                    Event::FileSent { .. } => sent += 1,
                    event @ Event::FileEnded { .. } => panic!("{event:?}"),
                    _ => {}
                }
            }
            user
        })
    };
    let both = [take(alice, "bob"), take(bob, "alice")].map(|thread| thread.join().unwrap());
    for side in ["a", "b"] {
        for number in 0..FILES {
            assert!(fs::read(folder.path().join(format!("{side}{number}"))).unwrap() == content(number));
        }
    }
    drop(both);
}

/// A stream that gives what it is told to, and a sink that takes only so much.
struct Gated<T>(std::sync::mpsc::Receiver<Vec<u8>>, T);

impl std::io::Read for Gated<()> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Ok(bytes) = self.0.recv() else { return Ok(0) };
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

impl std::io::Write for Gated<std::sync::mpsc::Sender<Vec<u8>>> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.recv();
        let _ = self.1.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stream_goes_into_a_stream_and_talk_goes_on_while_it_stands_still() {
    let server = Server::start();
    let (mut alice, mut bob) = pair(&server);
    let (give, given) = std::sync::mpsc::channel();
    let (open, gate) = std::sync::mpsc::channel();
    let (written, read) = std::sync::mpsc::channel();
    let file = alice.peer.offer_file("bob", FileOffer::stream("dump.sql", Gated(given, ())));
    let size = bob.find("an offer", |event| match event {
        Event::FileOffered { size, name, .. } => {
            assert_eq!(name, "dump.sql");
            Some(*size)
        }
        _ => None,
    });
    assert_eq!(size, None);
    bob.peer.take_file("alice", file, Sink::write(Gated(gate, written)));
    // Nothing is read from the sink's side yet, and as much as there is room for is sent.
    let content = bytes(3 * 1024 * 1024);
    content.chunks(1000).for_each(|chunk| give.send(chunk.to_vec()).unwrap());
    for number in 0..100 {
        alice.peer.send("bob", &format!("{number}"));
        assert_eq!(bob.message().1, format!("{number}"));
    }
    (0..content.len()).for_each(|_| open.send(vec![]).unwrap());
    let mut came = Vec::new();
    while came.len() < content.len() {
        came.extend(read.recv_timeout(crate::world::SOON).unwrap());
    }
    assert!(came == content);
    drop(give);
    let whole = (content.len() as u64, sum(&content));
    assert_eq!(sent(&mut alice, file), whole);
    assert_eq!(received(&mut bob, file), (None, whole.0, whole.1));
}

#[test]
fn a_stream_that_is_longer_than_was_agreed_to_ends() {
    let (server, scratch) = (Server::start(), Scratch::new("files-longer"));
    let (mut alice, mut bob) = pair(&server);
    let folder = Folder::open(&scratch.0).unwrap();
    let endless = std::io::repeat(7);
    let file = alice.peer.offer_file("bob", FileOffer::stream("x", endless));
    offered(&mut bob);
    bob.peer.take_file("alice", file, Sink::folder(folder).at_most(1_000_000));
    assert_eq!(ended(&mut bob, file), (EndReason::TooLarge, false));
    assert_eq!(ended(&mut alice, file), (EndReason::TooLarge, false));
    nothing_is_left(&scratch);
}

/// Waits until a folder and the folder of parts in it are empty.
fn nothing_is_left(scratch: &Scratch) {
    let parts = scratch.0.join(".lowkey");
    crate::world::until("nothing is left", || {
        let names = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count);
        (names(&scratch.0) <= usize::from(parts.exists()) && names(&parts) == 0).then_some(())
    });
}

#[test]
fn whoever_cancels_ends_it_for_both_and_nothing_is_left() {
    for is_sender in [false, true] {
        let (server, scratch) = (Server::start(), Scratch::new("files-cancel"));
        let (mut alice, mut bob) = pair(&server);
        let folder = Folder::open(&scratch.0).unwrap();
        let file = alice.peer.offer_file("bob", FileOffer::stream("x", std::io::repeat(7)));
        offered(&mut bob);
        bob.peer.take_file("alice", file, Sink::folder(folder));
        bob.find("some of it", |event| matches!(event, Event::FileProgress { .. }).then_some(()));
        match is_sender {
            true => alice.peer.cancel_file("bob", file),
            false => bob.peer.cancel_file("alice", file),
        }
        // What the other side has taken back may be offered again, so it stays; what we have, goes.
        assert_eq!(ended(&mut alice, file), (EndReason::Cancelled, false));
        assert_eq!(ended(&mut bob, file), (EndReason::Cancelled, is_sender));
        if !is_sender {
            nothing_is_left(&scratch);
        }
        // The next one goes.
        let path = scratch.0.join("y");
        fs::write(&path, "y").unwrap();
        let next = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
        assert_eq!(offered(&mut bob), next);
        bob.peer.take_file("alice", next, Sink::write(std::io::sink()));
        assert_eq!(sent(&mut alice, next).0, 1);
    }
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_not_sent() {
    let (server, scratch) = (Server::start(), Scratch::new("files-changed"));
    let (mut alice, mut bob) = pair(&server);
    let path = scratch.0.join("x");
    fs::write(&path, bytes(3_000_000)).unwrap();
    let file = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
    offered(&mut bob);
    let (open, gate) = std::sync::mpsc::channel();
    let (written, _read) = std::sync::mpsc::channel();
    bob.peer.take_file("alice", file, Sink::write(Gated(gate, written)));
    bob.find("it begins", |event| matches!(event, Event::FileStarted { .. }).then_some(()));
    // The window is full long before its end.
    let mut changed = fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut changed, b"more").unwrap();
    (0..3_000_000).for_each(|_| drop(open.send(vec![])));
    assert_eq!(ended(&mut alice, file), (EndReason::Changed, false));
    assert_eq!(ended(&mut bob, file), (EndReason::Changed, false));
    // As it is now, it is another one.
    let other = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
    assert_ne!(other, file);
    assert_eq!(offered(&mut bob), other);
    // What was offered and has changed before it was taken does not begin.
    std::io::Write::write_all(&mut changed, b"more").unwrap();
    bob.peer.take_file("alice", other, Sink::write(std::io::sink()));
    assert_eq!(ended(&mut alice, other), (EndReason::Changed, false));
    // What cannot be read at all is not offered.
    for (path, words) in [("/dev/null", "device"), ("/no/such", "not there")] {
        let error = FileOffer::open(path).unwrap_err();
        assert!(lowkey::trouble::why(&error).contains(words), "{error}");
    }
}

/// For `make trials`: a file whose places need more than 32 bits.
pub fn one_of_five_gigabytes() {
    let (server, scratch) = (Server::start(), Scratch::new("files-long"));
    let (mut alice, mut bob) = pair(&server);
    let path = scratch.0.join("x");
    let length = 5 * 1024 * 1024 * 1024 + 5;
    let file = fs::File::create(&path).unwrap();
    file.set_len(length).unwrap();
    for place in [0, u64::from(u32::MAX) - 2, length - 5] {
        std::os::unix::fs::FileExt::write_all_at(&file, b"bytes", place).unwrap();
    }
    let id = alice.peer.offer_file("bob", FileOffer::open(&path).unwrap());
    assert_eq!(offered(&mut bob), id);
    let (give, came) = std::sync::mpsc::channel();
    bob.peer.take_file("alice", id, Sink::write(Ends(0, give)));
    let end = loop {
        match alice.events.next_timeout(crate::world::SOON).expect("it goes on") {
            Event::FileSent { size, digest, .. } => break (size, digest),
            event @ Event::FileEnded { .. } => panic!("{event:?}"),
            _ => {}
        }
    };
    assert_eq!(end.0, length);
    assert_eq!(received(&mut bob, id), (None, length, end.1));
    // Three places hold something, and all else is zero.
    assert_eq!(came.try_iter().collect::<Vec<_>>(), [0, u64::from(u32::MAX) - 2, length - 5]);
}

/// Says where something else than zeros begins.
struct Ends(u64, std::sync::mpsc::Sender<u64>);

impl std::io::Write for Ends {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(5);
        match bytes.iter().position(|byte| *byte != 0) {
            Some(0) => {
                self.1.send(self.0).unwrap();
                self.0 += count as u64;
                Ok(count)
            }
            zeros => {
                let zeros = zeros.unwrap_or(bytes.len());
                self.0 += zeros as u64;
                Ok(zeros)
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// For `make trials`.
pub fn ten_thousand_small_ones() {
    send_small_ones(10_000);
}

#[test]
fn many_small_files_arrive() {
    send_small_ones(300);
}

fn send_small_ones(count: usize) {
    let (server, scratch) = (Server::start(), Scratch::new(&format!("files-small-{count}")));
    let (mut alice, mut bob) = pair(&server);
    let folder = Folder::open(scratch.0.join("in")).unwrap();
    let name = |number: usize| format!("{number}.txt");
    for number in 0..count {
        fs::write(scratch.0.join(name(number)), name(number)).unwrap();
    }
    let taking = folder.clone();
    let taker = std::thread::spawn(move || {
        let mut left = count;
        while left > 0 {
            match bob.next() {
                Event::FileOffered { file, .. } => bob.peer.take_file("alice", file, Sink::folder(taking.clone())),
                Event::FileReceived { .. } => left -= 1,
                event @ Event::FileEnded { .. } => panic!("{event:?}"),
                _ => {}
            }
        }
        bob
    });
    let (mut offered, mut sent) = (0, 0);
    while sent < count {
        while offered < count && offered < sent + MAX_FILES {
            alice.peer.offer_file("bob", FileOffer::open(scratch.0.join(name(offered))).unwrap());
            offered += 1;
        }
        match alice.next() {
            Event::FileSent { .. } => sent += 1,
            event @ Event::FileEnded { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
    drop(taker.join().unwrap());
    for number in 0..count {
        assert_eq!(fs::read_to_string(folder.path().join(name(number))).unwrap(), name(number));
    }
}
