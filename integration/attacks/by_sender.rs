//! Attacks with files, by a peer that has proven who it is and whose call was taken: over a real connection, with true
//! boxes, and against the rules. Nothing is written that nobody took, nothing grows, and the chat goes on.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lowkey::peer::files::MAX_FILE_OFFERS;
use lowkey::peer::files::entries::Entry;
use lowkey::peer::files::lane::{LaneReport, MAX_DATA, Message, Sealer, Way};
use lowkey::peer::files::note::Note;
use lowkey::peer::{Digest, EndReason, Event, FileId, FileOffer, Folder, Sink};

use crate::file_users::{bytes, ended, offered, received, sent, sum, user};
use crate::mallory::Mallory;
use crate::old_app::Side;
use crate::world::{Folder as Scratch, Program, SOON, Server, User, identity, until};

const FILE: FileId = FileId([1; 16]);
const OTHER: FileId = FileId([2; 16]);

/// Bob, who takes files into a folder, in a chat with mallory.
struct Scene {
    server: Server,
    scratch: Scratch,
    bob: User,
    mallory: Mallory,
}

impl Scene {
    fn new(name: &str) -> Self {
        let (server, scratch) = (Server::start(), Scratch::new(name));
        let mut bob = user(&server, "bob");
        let mallory = call(&server, &mut bob);
        Self { server, scratch, bob, mallory }
    }

    /// Mallory calls anew.
    fn again(&mut self) {
        self.bob.peer.leave("mallory");
        self.bob.find("the end of the chat", |event| matches!(event, Event::Closed { .. }).then_some(()));
        self.mallory = call(&self.server, &mut self.bob);
    }

    fn folder(&self) -> Folder {
        Folder::open(self.scratch.0.join("in")).unwrap()
    }

    /// Mallory offers so many bytes, and bob takes them: the number that they are asked for by.
    fn take(&mut self, file: FileId, size: Option<u64>) -> u64 {
        self.mallory.offer(file, "x", size);
        assert_eq!(offered(&mut self.bob), file);
        self.bob.peer.take_file("mallory", file, Sink::folder(self.folder()));
        let (number, from) = self.mallory.taken();
        assert_eq!(from, 0);
        number
    }

    /// Both still talk.
    fn still_talks(&mut self) {
        self.mallory.text("still there?");
        assert_eq!(self.bob.message(), ("mallory".to_owned(), "still there?".to_owned()));
        self.bob.peer.send("mallory", "yes");
        self.mallory.hears("yes");
    }

    /// What lies in bob's folder, whole or not, with its length.
    fn lies(&self) -> Vec<(PathBuf, u64)> {
        let folder = self.scratch.0.join("in");
        let entries = [folder.clone(), folder.join(".lowkey")].into_iter().filter_map(|path| fs::read_dir(path).ok());
        let entries = entries.flatten().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        let lies = files.map(|entry| (entry.path(), entry.metadata().unwrap().len()));
        lies.filter(|(path, _)| path.extension().is_none_or(|end| end != "json")).collect()
    }
}

/// Mallory calls bob, who takes the call.
fn call(server: &Server, bob: &mut User) -> Mallory {
    let client = server.client("mallory");
    std::thread::scope(|scope| {
        let mallory = scope.spawn(|| Mallory::call(client, "mallory", "bob"));
        bob.answer("mallory");
        mallory.join().unwrap()
    })
}

/// What mallory sends over a channel for files.
struct Lane {
    side: Side,
    sealer: Sealer,
}

impl Lane {
    fn open(mallory: &Mallory) -> Self {
        Self { side: mallory.lane(), sealer: mallory.keys.sealer(Way::There) }
    }

    fn say(&mut self, message: &Message<'_>) {
        let sealed = self.sealer.seal(message);
        self.side.send(&sealed);
    }

    fn begin(&mut self, file: FileId, take: u64, from: u64) {
        self.say(&Message::Begin { file, take, from });
    }

    fn data(&mut self, bytes: &[u8]) {
        self.say(&Message::Data(bytes));
    }

    fn end(&mut self, size: u64, digest: Digest) {
        self.say(&Message::End { size, digest });
    }
}

/// Goal: have bytes written that nobody took, or at another place than where they belong.
#[test]
fn bytes_that_nobody_asked_for_are_written_nowhere() {
    let mut scene = Scene::new("unasked");
    // Before anything is taken there is not even a channel.
    let mut early = Lane::open(&scene.mallory);
    early.begin(FILE, 0, 0);
    scene.mallory.offer(FILE, "x", Some(3));
    assert_eq!(offered(&mut scene.bob), FILE);
    early.data(b"bad");
    scene.still_talks();
    assert!(!scene.scratch.0.join("in").exists(), "nothing is written before bob says so");
    scene.again();
    let number = scene.take(FILE, Some(3));
    let mut lane = Lane::open(&scene.mallory);
    lane.data(b"without a beginning");
    lane.end(3, sum(b"bad"));
    for (file, number, from) in [
        // Never offered, asked for by another word, and from where nobody has asked for it.
        (OTHER, number, 0),
        (FILE, number + 1, 0),
        (FILE, number, 1),
        (FILE, number, u64::MAX),
    ] {
        lane.begin(file, number, from);
        lane.data(b"bad");
        lane.end(3, sum(b"bad"));
    }
    // Offered, and not taken.
    scene.mallory.offer(OTHER, "y", Some(3));
    assert_eq!(offered(&mut scene.bob), OTHER);
    lane.begin(OTHER, number, 0);
    lane.data(b"bad");
    scene.still_talks();
    lane.begin(FILE, number, 0);
    lane.data(b"abc");
    lane.end(3, sum(b"abc"));
    let (path, size, digest) = received(&mut scene.bob, FILE);
    assert_eq!((size, digest), (3, sum(b"abc")));
    assert_eq!(fs::read(path.unwrap()).unwrap(), b"abc");
    assert_eq!(scene.lies(), [(scene.scratch.0.join("in/x"), 3)]);
    scene.still_talks();
}

/// Goal: have something stored that is not what was offered.
#[test]
fn what_is_longer_shorter_or_other_than_was_said_gets_no_name() {
    let mut scene = Scene::new("other");
    let mut lane: Option<Lane> = None;
    for (number, (size, content, end)) in [
        (Some(3), &b"abcd"[..], (4, sum(b"abcd"))),
        (Some(3), b"ab", (2, sum(b"ab"))),
        (Some(3), b"ab", (3, sum(b"ab"))),
        (Some(3), b"abc", (3, sum(b"abd"))),
        (Some(0), b"a", (0, sum(b""))),
        (None, b"abc", (u64::MAX, sum(b"abc"))),
        (None, b"abc", (3, Digest([0; 32]))),
    ]
    .into_iter()
    .enumerate()
    {
        let file = FileId([number as u8 + 10; 16]);
        let take = scene.take(file, size);
        let lane = lane.get_or_insert_with(|| Lane::open(&scene.mallory));
        lane.begin(file, take, 0);
        lane.data(content);
        lane.end(end.0, end.1);
        assert_eq!(ended(&mut scene.bob, file), (EndReason::Damaged, false), "{size:?} {content:?}");
        assert_eq!(scene.mallory.refused(file), EndReason::Damaged);
        until("nothing stays of it", || scene.lies().is_empty().then_some(()));
    }
    scene.still_talks();
}

/// Goal: have something taken twice, in another order, or forged; or spoil the chat with it.
#[test]
fn what_does_not_open_at_its_place_ends_files_and_not_the_chat() {
    let mut scene = Scene::new("places");
    type Attack = fn(&mut Lane, u64);
    let attacks: [(&str, Attack); 5] = [
        ("played back", |lane, number| {
            lane.begin(FILE, number, 0);
            let sealed = lane.sealer.seal(&Message::Data(b"ab"));
            lane.side.send(&sealed);
            lane.side.send(&sealed);
        }),
        ("in another order", |lane, number| {
            lane.begin(FILE, number, 0);
            let [first, second] = [b"ab", b"cd"].map(|bytes| lane.sealer.seal(&Message::Data(bytes)));
            lane.side.send(&second);
            lane.side.send(&first);
        }),
        ("forged", |lane, number| {
            lane.begin(FILE, number, 0);
            let mut sealed = lane.sealer.seal(&Message::Data(b"ab"));
            *sealed.last_mut().unwrap() ^= 1;
            lane.side.send(&sealed);
        }),
        ("too long", |lane, number| {
            lane.begin(FILE, number, 0);
            lane.data(&[0; MAX_DATA + 1]);
        }),
        ("no box", |lane, _| lane.side.send(b"x")),
    ];
    for (what, attack) in attacks {
        let number = scene.take(FILE, Some(1 << 20));
        let mut lane = Lane::open(&scene.mallory);
        attack(&mut lane, number);
        assert_eq!(ended(&mut scene.bob, FILE), (EndReason::Damaged, false), "{what}");
        until("nothing stays of it", || scene.lies().is_empty().then_some(()));
        scene.still_talks();
        scene.again();
    }
}

/// Goal: take memory and disk by saying much and sending little.
#[test]
fn what_is_only_said_takes_neither_disk_nor_memory() {
    let (server, scratch) = (Server::start(), Scratch::new("said"));
    let folder = scratch.0.join("in");
    let listen = ["listen", "--json", "--from", "mallory", "--accept-files", folder.to_str().unwrap()];
    let url = server.url();
    let arguments = [&["--server", &url, "--name", "bob"][..], &listen].concat();
    let mut bob = Program::start("lowkey", &arguments, &[("HOME", scratch.path())]);
    bob.stdout.find("\"online\"");
    let mut mallory = Mallory::call(server.client("mallory"), "mallory", "bob");
    // It reads no answer, and acknowledges nothing.
    mallory.acknowledges = false;
    mallory.offer(FILE, "x", Some(1 << 63));
    mallory.offer(OTHER, "x", Some(u64::MAX));
    for file in [FILE, OTHER] {
        let reason = mallory.refused(file);
        assert!(matches!(reason, EndReason::TooLarge | EndReason::NoSpace), "{reason:?}");
    }
    mallory.text("how much?");
    bob.stdout.find("how much?");
    let before = bob.resident_kilobytes();
    let name = "x".repeat(10_000);
    for number in 0..MANY {
        let file = FileId((u128::from(number) + 1_000_000).to_be_bytes());
        match number % 3 {
            // Each other one is too long, and is refused.
            0 => mallory.offer(file, &name, Some(1 << 63)),
            1 => mallory.note(&Note::Take { file, number, from: u64::MAX, proof: None }),
            _ => mallory.note_as(&format!("{{\"note\":\"later\",\"file\":{number}}}")),
        }
        if number % 100 == 99 {
            // That it is said says that all before it was read.
            mallory.text(&format!("text {number}"));
            bob.stdout.find(&format!("text {number}"));
        }
    }
    let grown = bob.resident_kilobytes().saturating_sub(before);
    assert!(grown < 12 * 1024, "{grown} KiB");
    assert_eq!(fs::read_dir(&folder).map_or(0, Iterator::count), 0, "nothing is on the disk");
}

/// Goal: fill a disk with files of which nothing comes.
#[test]
fn parts_of_which_nothing_came_do_not_stay() {
    let mut scene = Scene::new("parts");
    let mut lane: Option<Lane> = None;
    for number in 0..50_u8 {
        let file = FileId([number + 100; 16]);
        let take = scene.take(file, Some(1000));
        let lane = lane.get_or_insert_with(|| Lane::open(&scene.mallory));
        if number % 2 == 0 {
            lane.begin(file, take, 0);
        }
        scene.mallory.note(&Note::Withdraw { file, reason: EndReason::Cancelled });
        assert_eq!(ended(&mut scene.bob, file).0, EndReason::Cancelled);
    }
    let parts = scene.scratch.0.join("in/.lowkey");
    until("nothing stays", || (fs::read_dir(&parts).unwrap().count() == 0).then_some(()));
    scene.still_talks();
}

/// Goal: learn what somebody else has sent, by offering it.
#[test]
fn a_part_of_somebody_elses_file_is_not_gone_on_with() {
    let mut scene = Scene::new("elses");
    let client = scene.server.client("alice");
    let mut alice = std::thread::scope(|scope| {
        let alice = scope.spawn(|| Mallory::call(client, "alice", "bob"));
        scene.bob.answer("alice");
        alice.join().unwrap()
    });
    let folder = scene.folder();
    alice.offer(FILE, "x", Some(1000));
    assert_eq!(offered(&mut scene.bob), FILE);
    scene.bob.peer.take_file("alice", FILE, Sink::folder(folder.clone()));
    let (number, _) = alice.taken();
    let mut lane = Lane::open(&alice);
    lane.begin(FILE, number, 0);
    lane.data(&[7; 400]);
    let done = Event::FileProgress { peer: "alice".to_owned(), file: FILE, done: 400 };
    scene.bob.wait(&done);
    scene.bob.peer.leave("alice");
    assert_eq!(ended(&mut scene.bob, FILE), (EndReason::ChatEnded, true));
    let [her, mallory] = ["alice", "mallory"].map(|name| identity(name).public());
    until("what came is written down", || folder.has_begun(her, FILE, Some(1000)).then_some(()));
    assert!(!folder.has_begun(mallory, FILE, Some(1000)));
    // It begins with the first byte, as if nothing was there.
    scene.take(FILE, Some(1000));
    scene.still_talks();
}

/// Goal: end a file of bob's, or have it go elsewhere, by offering one with its id.
#[test]
fn an_offer_with_the_id_of_a_file_of_ours_is_passed_over() {
    let mut scene = Scene::new("crossed");
    let path = scene.scratch.0.join("x");
    fs::write(&path, b"abc").unwrap();
    let file = scene.bob.peer.offer_file("mallory", FileOffer::open(&path).unwrap());
    assert!(matches!(scene.mallory.next_note(SOON), Some(Note::Offer { .. })));
    scene.mallory.offer(file, "y", Some(3));
    scene.still_talks();
    scene.mallory.note(&Note::Take { file, number: 0, from: 0, proof: None });
    let side = until("bob opens a channel", || scene.mallory.app.take_side());
    let mut opener = scene.mallory.keys.opener(Way::There);
    let mut came = Vec::new();
    while came.is_empty() {
        let mut sealed = side.next(SOON).expect("a message");
        if !sealed.is_empty()
            && let Some(Message::Data(bytes)) = opener.open(&mut sealed)
        {
            came.extend_from_slice(bytes);
        }
    }
    assert_eq!(came, b"abc");
    scene.mallory.note(&Note::Done { file, size: 3, digest: sum(b"abc") });
    assert_eq!(sent(&mut scene.bob, file), (3, sum(b"abc")));
}

/// Goal: have more than eight offers wait for a user who has not answered.
#[test]
fn offers_that_nobody_answers_are_few() {
    let mut scene = Scene::new("offers");
    let id = |number: usize| FileId((number as u128 + 1).to_be_bytes());
    for number in 0..3 * MAX_FILE_OFFERS {
        scene.mallory.offer(id(number), "x", None);
    }
    for number in 0..MAX_FILE_OFFERS {
        assert_eq!(offered(&mut scene.bob), id(number));
    }
    for number in MAX_FILE_OFFERS..3 * MAX_FILE_OFFERS {
        assert_eq!(scene.mallory.refused(id(number)), EndReason::TooMany);
    }
    scene.still_talks();
}

/// Goal: be sent what was not offered, or what was offered to somebody else.
#[test]
fn a_file_goes_to_nobody_but_whom_it_was_offered_to() {
    let mut scene = Scene::new("takers");
    let mut alice = user(&scene.server, "alice");
    scene.bob.peer.call("alice");
    alice.answer("bob");
    scene.bob.wait(&Event::Open { peer: "alice".to_owned() });
    let path = scene.scratch.0.join("secret");
    fs::write(&path, bytes(100_000)).unwrap();
    let file = scene.bob.peer.offer_file("alice", FileOffer::open(&path).unwrap());
    assert_eq!(offered(&mut alice), file);
    // Mallory knows its id, from wherever.
    for file in [file, OTHER] {
        scene.mallory.note(&Note::Take { file, number: 0, from: 0, proof: None });
        let withdrawn = Note::Withdraw { file, reason: EndReason::Cancelled };
        assert_eq!(scene.mallory.next_note(SOON), Some(withdrawn));
    }
    scene.still_talks();
    assert!(scene.mallory.app.take_side().is_none(), "no channel is opened to her");
}

/// Goal: have a sender send faster than it may, believe what is not so, or keep what it sends for ever.
#[test]
fn acknowledgements_of_what_was_never_sent_end_the_file() {
    let mut scene = Scene::new("reports");
    let path = scene.scratch.0.join("x");
    fs::write(&path, bytes(1 << 20)).unwrap();
    for (round, reports) in [[(1 << 40, u64::MAX)].as_slice(), &[(8192, u64::MAX), (0, 0)]].into_iter().enumerate() {
        // Another time makes another file of it.
        fs::write(&path, bytes((1 << 20) + round)).unwrap();
        let file = scene.bob.peer.offer_file("mallory", FileOffer::open(&path).unwrap());
        assert!(matches!(scene.mallory.next_note(SOON), Some(Note::Offer { .. })));
        scene.mallory.note(&Note::Take { file, number: 0, from: 0, proof: None });
        let side = until("bob opens a channel", || scene.mallory.app.take_side());
        let (mut opener, mut sealer) = (scene.mallory.keys.opener(Way::There), scene.mallory.keys.sealer(Way::Back));
        // Nothing is reported, and so no more comes than may be on its way at first.
        let mut came = 0;
        while let Some(mut sealed) = side.next(if came < LEAST { SOON } else { Duration::from_millis(300) }) {
            if !sealed.is_empty()
                && let Some(Message::Data(bytes)) = opener.open(&mut sealed)
            {
                came += bytes.len();
                assert!(came <= 16 * 1024, "{came}");
            }
        }
        for (taken, window) in reports {
            side.send(&sealer.seal_report(LaneReport { taken: *taken, window: *window }));
        }
        assert_eq!(ended(&mut scene.bob, file), (EndReason::Damaged, false));
        scene.still_talks();
        scene.again();
    }
}

/// Bytes that come before anything was reported.
const LEAST: usize = 12 * 1024;

/// Words about files, of which a third are long.
const MANY: u64 = 6000;

/// Goal: have a folder made that leads out of itself, or holds what was not offered.
#[test]
fn a_folder_that_leads_elsewhere_is_refused_as_a_whole() {
    let mut scene = Scene::new("evil-folder");
    fs::write(scene.scratch.0.join("precious"), "precious").unwrap();
    let entry = |path: &[&str]| {
        let path = path.iter().map(|name| (*name).to_owned()).collect();
        [Entry { path, size: Some(4), modified: None }.header(), b"evil".to_vec()].concat()
    };
    let mut lane = None;
    for (number, evil) in (1..).zip([
        entry(&["..", "precious"]),
        entry(&["../precious"]),
        entry(&["..", "..", "precious"]),
        entry(&["/tmp/precious"]),
        entry(&["good"]),
        entry(&["good", "below"]),
        [entry(&["b"]), entry(&["c"])].concat(),
        b"\xff\xff\xff\xff".to_vec(),
    ]) {
        let (file, sequence) = (FileId([number; 16]), [entry(&["good"]), evil].concat());
        let (name, size) = ("photos".to_owned(), Some(sequence.len() as u64));
        scene.mallory.note(&Note::Offer { file, name, size, modified: None, entries: Some(2) });
        assert_eq!(offered(&mut scene.bob), file);
        scene.bob.peer.take_file("mallory", file, Sink::folder(scene.folder()));
        let (asked, _) = scene.mallory.taken();
        let lane = lane.get_or_insert_with(|| Lane::open(&scene.mallory));
        lane.begin(file, asked, 0);
        lane.data(&sequence);
        lane.end(sequence.len() as u64, sum(&sequence));
        assert_eq!(ended(&mut scene.bob, file), (EndReason::Damaged, false), "{number}");
        assert_eq!(scene.mallory.refused(file), EndReason::Damaged);
    }
    until("nothing is left", || {
        let left = |path: PathBuf| fs::read_dir(path).unwrap().count();
        let folder = scene.scratch.0.join("in");
        (left(folder.join(".lowkey")) == 0 && left(folder) == 1).then_some(())
    });
    assert_eq!(fs::read_to_string(scene.scratch.0.join("precious")).unwrap(), "precious");
    scene.still_talks();
}
