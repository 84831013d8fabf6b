//! Two sides of a chat and their files, in memory: every word may be lost with a program, held up or crossed by
//! another.

use std::time::{Duration, Instant};

use lowkey::peer::files::note::Note;
use lowkey::peer::files::work::{News, OfferedFile, Output, Work};
use lowkey::peer::files::{ChatFiles, FILE_OFFER_TIME, MAX_FILE_OFFERS, MAX_FILES};
use lowkey::peer::{Digest, EndReason, Event, FileId};
use proptest::prelude::*;

use crate::world::identity;

const FILE: FileId = FileId([1; 16]);
const OTHER: FileId = FileId([2; 16]);

/// The files of a chat with `peer`.
fn with(peer: &str) -> ChatFiles {
    ChatFiles::new(peer.to_owned(), identity(peer).public())
}

fn pair() -> (ChatFiles, ChatFiles) {
    (with("bob"), with("alice"))
}

fn digest(of: u8) -> Digest {
    Digest([of; 32])
}

fn file(id: FileId) -> OfferedFile {
    OfferedFile { file: id, name: "a".to_owned(), size: Some(10), modified: None, entries: None }
}

fn offered(transfers: &mut ChatFiles, file: FileId) -> Vec<Output> {
    hear(transfers, Note::Offer { file, name: "a".to_owned(), size: Some(10), modified: None, entries: None })
}

fn hear(transfers: &mut ChatFiles, note: Note) -> Vec<Output> {
    transfers.receive(note, Instant::now())
}

fn ended(peer: &str, file: FileId, reason: EndReason, is_kept: bool) -> Output {
    Output::Event(Event::FileEnded { peer: peer.to_owned(), file, reason, trouble: None, is_kept })
}

fn take(file: FileId, number: u64, from: u64) -> Note {
    Note::Take { file, number, from, proof: (from > 0).then(|| digest(7)) }
}

fn send(file: FileId, take: u64, from: u64) -> Output {
    Output::Work(file, Work::Send { take, from, digest_before: (from > 0).then(|| digest(7)) })
}

fn prepare(file_id: FileId, take: u64) -> Output {
    let identity = identity("alice").public();
    Output::Work(file_id, Work::Prepare { offered: file(file_id), identity, take })
}

fn stop_sending(file: FileId) -> Output {
    Output::Work(file, Work::StopSending)
}

fn stop_taking(file: FileId, is_kept: bool) -> Output {
    Output::Work(file, Work::StopTaking { is_kept })
}

fn done(file: FileId) -> Note {
    Note::Done { file, size: 10, digest: digest(1) }
}

#[test]
fn a_file_that_is_taken_is_sent_and_done_once_it_is_stored() {
    let (mut alice, mut bob) = pair();
    assert_eq!(alice.offer(file(FILE)).len(), 1);
    assert_eq!(alice.offer(file(FILE)), [], "it is offered already");
    assert!(matches!(&offered(&mut bob, FILE)[..], [Output::Event(Event::FileOffered { .. })]));
    assert_eq!(bob.take(FILE, true), [prepare(FILE, 0)]);
    assert_eq!(bob.hear(FILE, 0, News::Ready { from: 0, digest_before: None }), [Output::Note(take(FILE, 0, 0))]);
    assert_eq!(hear(&mut alice, take(FILE, 0, 0)), [send(FILE, 0, 0)]);
    let started = |peer: &str| Output::Event(Event::FileStarted { peer: peer.to_owned(), file: FILE, from: 0 });
    assert_eq!(alice.hear(FILE, 0, News::Begun(0)), [started("bob")]);
    assert_eq!(bob.hear(FILE, 0, News::Begun(0)), [started("alice")]);
    assert_eq!(alice.hear(FILE, 0, News::AllSent), []);
    let stored = News::Stored { path: None, size: 10, digest: digest(1) };
    let (peer, digest) = ("alice".to_owned(), digest(1));
    let received = Event::FileReceived { peer, file: FILE, path: None, size: 10, digest };
    assert_eq!(bob.hear(FILE, 0, stored), [Output::Note(done(FILE)), Output::Event(received)]);
    let sent = Event::FileSent { peer: "bob".to_owned(), file: FILE, size: 10, digest };
    assert_eq!(hear(&mut alice, done(FILE)), [Output::Event(sent)]);
    assert!(alice.is_idle() && bob.is_idle());
}

#[test]
fn nothing_is_sent_or_stored_that_nobody_has_agreed_to() {
    let (mut alice, mut bob) = pair();
    alice.offer(file(FILE));
    let withdrawn = Note::Withdraw { file: OTHER, reason: EndReason::Cancelled };
    assert_eq!(hear(&mut alice, take(OTHER, 0, 0)), [Output::Note(withdrawn)]);
    offered(&mut bob, FILE);
    for news in [News::Ready { from: 0, digest_before: None }, News::Begun(0), News::Progress(1)] {
        assert_eq!(bob.hear(FILE, 0, news), [], "nobody has asked the disk");
    }
    assert_eq!(bob.take(OTHER, true), [ended("alice", OTHER, EndReason::Cancelled, false)]);
    // Nobody says that it has a file that is longer than what was offered.
    let longer = Note::Done { file: FILE, size: 11, digest: digest(1) };
    assert_eq!(hear(&mut alice, longer), [ended("bob", FILE, EndReason::Damaged, false)]);
}

#[test]
fn offers_that_wait_are_bounded_and_told_once() {
    let (mut alice, mut bob) = pair();
    let id = |number: usize| FileId((number as u128 + 1).to_be_bytes());
    for number in 0..MAX_FILE_OFFERS {
        assert_eq!(offered(&mut bob, id(number)).len(), 1);
        assert_eq!(offered(&mut bob, id(number)), []);
    }
    let too_many = Note::Refuse { file: id(99), reason: EndReason::TooMany };
    assert_eq!(offered(&mut bob, id(99)), [Output::Note(too_many)]);
    bob.take(id(0), true);
    assert_eq!(offered(&mut bob, id(99)).len(), 1);
    // So who offers more says it bit by bit.
    for number in 0..MAX_FILES {
        assert_eq!(alice.offer(file(id(number))).len(), usize::from(number < MAX_FILE_OFFERS));
    }
    assert_eq!(alice.offer(file(FileId([99; 16]))), [ended("bob", FileId([99; 16]), EndReason::TooMany, false)]);
    let refused = hear(&mut alice, Note::Refuse { file: id(3), reason: EndReason::Declined });
    assert_eq!(refused[0], ended("bob", id(3), EndReason::Declined, false));
    assert!(matches!(&refused[1..], [Output::Note(Note::Offer { file, .. })] if *file == id(MAX_FILE_OFFERS)));
    // And what is taken is bounded, too.
    let mut carol = with("alice");
    for number in 0..MAX_FILES {
        offered(&mut carol, id(number));
        carol.take(id(number), true);
    }
    assert!(matches!(offered(&mut carol, FileId([99; 16]))[..], [Output::Note(Note::Refuse { .. })]));
}

#[test]
fn an_offer_that_nobody_answers_ends_after_a_day() {
    let mut bob = with("alice");
    let start = Instant::now();
    bob.receive(Note::Offer { file: FILE, name: "a".to_owned(), size: None, modified: None, entries: None }, start);
    let deadline = bob.next_deadline().unwrap();
    assert_eq!(deadline, start + FILE_OFFER_TIME);
    assert_eq!(bob.tick(deadline - Duration::from_secs(1)), []);
    let refused = Output::Note(Note::Refuse { file: FILE, reason: EndReason::Expired });
    assert_eq!(bob.tick(deadline), [refused, ended("alice", FILE, EndReason::Expired, false)]);
    assert_eq!(bob.next_deadline(), None);
}

#[test]
fn one_file_is_sent_after_another_in_the_order_in_which_they_are_offered() {
    let mut alice = with("bob");
    [FILE, OTHER].into_iter().for_each(|id| drop(alice.offer(file(id))));
    assert_eq!(hear(&mut alice, take(OTHER, 0, 5)), [send(OTHER, 0, 5)]);
    let again = hear(&mut alice, take(OTHER, 1, 5));
    assert_eq!(again, [stop_sending(OTHER), send(OTHER, 1, 5)], "as it was said last");
    assert_eq!(alice.hear(OTHER, 0, News::AllSent), [], "that was for the take before");
    assert_eq!(hear(&mut alice, take(FILE, 2, 5)), []);
    assert_eq!(alice.hear(OTHER, 1, News::AllSent), [send(FILE, 2, 5)]);
    // The end of one that is being sent makes room, too.
    let third = FileId([3; 16]);
    alice.offer(file(third));
    hear(&mut alice, take(third, 3, 5));
    let outputs = alice.end(FILE, EndReason::Cancelled);
    assert!(outputs.contains(&stop_sending(FILE)), "{outputs:?}");
    assert_eq!(outputs.last(), Some(&send(third, 3, 5)));
}

#[test]
fn after_an_interruption_it_goes_on_from_what_the_disk_has() {
    let (mut alice, mut bob) = pair();
    alice.offer(file(FILE));
    offered(&mut bob, FILE);
    bob.take(FILE, true);
    bob.hear(FILE, 0, News::Ready { from: 0, digest_before: None });
    hear(&mut alice, take(FILE, 0, 0));
    alice.interrupt();
    bob.interrupt();
    assert_eq!(alice.hear(FILE, 0, News::AllSent), [], "nothing is on its way");
    assert_eq!(alice.resume(), []);
    assert_eq!(bob.resume(), [prepare(FILE, 1)]);
    assert_eq!(bob.hear(FILE, 0, News::Failed { reason: EndReason::Failed, trouble: None }), []);
    let ready = News::Ready { from: 4, digest_before: Some(digest(7)) };
    assert_eq!(bob.hear(FILE, 1, ready), [Output::Note(take(FILE, 1, 4))]);
    assert_eq!(hear(&mut alice, take(FILE, 1, 4)), [send(FILE, 1, 4)]);
}

#[test]
fn what_is_taken_while_there_is_no_connection_waits_for_one() {
    let mut bob = with("alice");
    offered(&mut bob, FILE);
    bob.interrupt();
    assert_eq!(bob.take(FILE, true), []);
    assert_eq!(bob.resume(), [prepare(FILE, 0)]);
}

#[test]
fn another_instance_is_offered_again_and_one_that_had_agreed_is_not_asked_again() {
    let (mut alice, mut bob) = pair();
    let first = alice.offer(file(FILE));
    hear(&mut alice, take(FILE, 0, 0));
    alice.interrupt();
    assert_eq!(alice.restart(), first);
    offered(&mut bob, FILE);
    bob.take(FILE, true);
    offered(&mut bob, OTHER);
    bob.interrupt();
    assert_eq!(bob.restart(), [ended("alice", OTHER, EndReason::Cancelled, false)], "the offer is gone");
    assert_eq!(offered(&mut bob, FILE), [prepare(FILE, 1)], "it was agreed to");
    assert_eq!(offered(&mut bob, OTHER).len(), 1, "this was not");
    // It is another file now, whatever its id.
    let larger = Note::Offer { file: FILE, name: "a".to_owned(), size: Some(11), modified: None, entries: None };
    assert!(hear(&mut bob, larger).contains(&ended("alice", FILE, EndReason::Damaged, false)));
}

#[test]
fn whoever_ends_a_file_ends_it_for_both_and_what_crosses_has_no_effect() {
    // What has changed is another file, and of what has not come there is nothing to keep.
    for (reason, has_come, is_kept) in
        [(EndReason::Cancelled, true, true), (EndReason::Cancelled, false, false), (EndReason::Changed, true, false)]
    {
        let mut bob = with("alice");
        offered(&mut bob, FILE);
        bob.take(FILE, true);
        bob.hear(FILE, 0, News::Ready { from: 0, digest_before: None });
        bob.hear(FILE, 0, News::Progress(u64::from(has_come)));
        let outputs = hear(&mut bob, Note::Withdraw { file: FILE, reason });
        assert_eq!(outputs, [stop_taking(FILE, is_kept), ended("alice", FILE, reason, is_kept)]);
        assert_eq!(bob.end(FILE, reason), []);
        assert_eq!(bob.hear(FILE, 0, News::Stored { path: None, size: 10, digest: digest(1) }), []);
    }
    let mut alice = with("bob");
    alice.offer(file(FILE));
    hear(&mut alice, take(FILE, 0, 0));
    let refused = hear(&mut alice, Note::Refuse { file: FILE, reason: EndReason::NoSpace });
    assert_eq!(refused, [stop_sending(FILE), ended("bob", FILE, EndReason::NoSpace, false)]);
    assert_eq!(alice.hear(FILE, 0, News::AllSent), []);
    assert_eq!(hear(&mut alice, done(FILE)), []);
    let mut carol = with("alice");
    offered(&mut carol, FILE);
    let no = Note::Refuse { file: FILE, reason: EndReason::Declined };
    assert_eq!(carol.end(FILE, EndReason::Declined), [Output::Note(no)], "there was nothing to stop");
}

#[test]
fn what_is_damaged_is_thrown_away_and_what_there_was_no_room_for_is_kept() {
    for (reason, has_folder, has_come, is_kept) in [
        (EndReason::Damaged, true, true, false),
        (EndReason::NoSpace, true, true, true),
        (EndReason::NoSpace, true, false, false),
        (EndReason::Failed, true, true, true),
        (EndReason::Failed, true, false, false),
        (EndReason::NoSpace, false, true, false),
        (EndReason::TooLarge, true, true, false),
    ] {
        let mut bob = with("alice");
        offered(&mut bob, FILE);
        bob.take(FILE, has_folder);
        bob.hear(FILE, 0, News::Ready { from: u64::from(has_come), digest_before: None });
        let outputs = bob.hear(FILE, 0, News::Failed { reason, trouble: None });
        assert_eq!(outputs[1..], [stop_taking(FILE, is_kept), ended("alice", FILE, reason, is_kept)]);
    }
}

#[test]
fn what_may_be_here_of_an_earlier_chat_is_not_removed_before_it_was_looked_at() {
    let failed = |reason| News::Failed { reason, trouble: None };
    for reason in [EndReason::NoSpace, EndReason::Failed] {
        let mut bob = with("alice");
        offered(&mut bob, FILE);
        bob.take(FILE, true);
        let outputs = bob.hear(FILE, 0, failed(reason));
        assert_eq!(outputs[1..], [stop_taking(FILE, true), ended("alice", FILE, reason, false)]);
    }
    let mut bob = with("alice");
    offered(&mut bob, FILE);
    bob.take(FILE, true);
    let outputs = hear(&mut bob, Note::Withdraw { file: FILE, reason: EndReason::Cancelled });
    assert_eq!(outputs, [stop_taking(FILE, true), ended("alice", FILE, EndReason::Cancelled, false)]);
}

#[test]
fn what_is_said_to_go_on_is_what_is_here_of_a_file_when_a_chat_ends() {
    let ready = |from| News::Ready { from, digest_before: None };
    for (news, is_kept) in [
        (vec![ready(0), News::Begun(0)], false),
        (vec![ready(0), News::Begun(0), News::Progress(1)], true),
        (vec![ready(7)], true),
        // Its sender has another beginning.
        (vec![ready(7), News::Begun(0)], false),
    ] {
        let mut bob = with("alice");
        offered(&mut bob, FILE);
        bob.take(FILE, true);
        news.into_iter().for_each(|news| drop(bob.hear(FILE, 0, news)));
        let outputs = [stop_taking(FILE, true), ended("alice", FILE, EndReason::ChatEnded, is_kept)];
        assert_eq!(bob.close(EndReason::ChatEnded), outputs);
    }
}

#[test]
fn nobody_ends_our_file_by_offering_one_with_its_id() {
    let mut alice = with("bob");
    alice.offer(file(FILE));
    assert_eq!(offered(&mut alice, FILE), []);
    assert_eq!(hear(&mut alice, take(FILE, 0, 0)), [send(FILE, 0, 0)]);
    assert_eq!(hear(&mut alice, Note::Withdraw { file: FILE, reason: EndReason::Cancelled }), []);
    // One that was there before ours makes room for it.
    offered(&mut alice, OTHER);
    let outputs = alice.offer(file(OTHER));
    assert!(matches!(outputs[..], [Output::Note(Note::Refuse { .. }), Output::Note(Note::Offer { .. })]));
}

/// What may happen in a world of two sides, their disks and a connection between them.
#[derive(Debug, Clone)]
enum Step {
    Offer(u8),
    Take(u8),
    Deliver(bool),
    Work(bool),
    Break,
    Restart,
    End(bool, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..4_u8).prop_map(Step::Offer),
        3 => (0..4_u8).prop_map(Step::Take),
        12 => any::<bool>().prop_map(Step::Deliver),
        12 => any::<bool>().prop_map(Step::Work),
        1 => Just(Step::Break),
        1 => Just(Step::Restart),
        1 => (any::<bool>(), 0..4_u8).prop_map(|(side, file)| Step::End(side, file)),
    ];
    prop::collection::vec(step, 0..120)
}

/// One side: its state, what its disk is asked for, and what it says.
struct Side {
    transfers: ChatFiles,
    disk: Vec<(FileId, Work)>,
    says: Vec<Note>,
    events: Vec<Event>,
}

impl Side {
    fn new(peer: &str) -> Self {
        Self { transfers: with(peer), disk: Vec::new(), says: Vec::new(), events: Vec::new() }
    }

    fn act(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Note(note) => self.says.push(note),
                Output::Event(event) => self.events.push(event),
                // What is stopped is asked for no more.
                Output::Work(file, Work::StopSending) => {
                    self.disk.retain(|(of, work)| *of != file || !matches!(work, Work::Send { .. }));
                }
                Output::Work(file, Work::StopTaking { .. }) => {
                    self.disk.retain(|(of, work)| *of != file || !matches!(work, Work::Prepare { .. }));
                }
                Output::Work(file, work) => self.disk.push((file, work)),
            }
        }
    }

    /// The disk does a piece of work. What comes over the channel of files is stored at once where it is asked for.
    fn work(&mut self) -> Option<(FileId, u64)> {
        if self.disk.is_empty() {
            return None;
        }
        let (file, work) = self.disk.remove(0);
        let (news, sent) = match work {
            Work::Send { take, .. } => ((take, News::AllSent), Some((file, take))),
            Work::Prepare { take, .. } => ((take, News::Ready { from: 0, digest_before: None }), None),
            other => panic!("{other:?} is no work"),
        };
        let outputs = self.transfers.hear(file, news.0, news.1);
        self.act(outputs);
        sent
    }

    fn store(&mut self, (file, take): (FileId, u64)) {
        let stored = News::Stored { path: None, size: 10, digest: digest(file.0[0]) };
        let outputs = self.transfers.hear(file, take, stored);
        self.act(outputs);
    }
}

proptest! {
    #[test]
    fn both_sides_agree_on_every_file_whatever_is_lost_or_ended(steps in steps()) {
        let mut sides = [Side::new("bob"), Side::new("alice")];
        let id = |number| FileId([number; 16]);
        let heal = |sides: &mut [Side; 2]| {
            for side in sides.iter_mut() {
                side.transfers.interrupt();
                side.disk.clear();
            }
            for side in sides.iter_mut() {
                let outputs = side.transfers.resume();
                side.act(outputs);
            }
        };
        let deliver = |sides: &mut [Side; 2], from: usize| {
            if !sides[from].says.is_empty() {
                let note = Note::read(sides[from].says.remove(0).write().as_bytes()).unwrap();
                let outputs = hear(&mut sides[1 - from].transfers, note);
                sides[1 - from].act(outputs);
            }
        };
        for step in steps {
            match step {
                Step::Offer(number) => {
                    let outputs = sides[0].transfers.offer(OfferedFile { size: None, ..file(id(number)) });
                    sides[0].act(outputs);
                }
                Step::Take(number) => {
                    let outputs = sides[1].transfers.take(id(number), true);
                    sides[1].act(outputs);
                }
                Step::Deliver(side) => deliver(&mut sides, usize::from(side)),
                Step::Work(side) => {
                    if let Some(sent) = sides[usize::from(side)].work() {
                        sides[1 - usize::from(side)].store(sent);
                    }
                }
                // Notes outlive it, as texts do; what goes over a channel of files does not.
                Step::Break => heal(&mut sides),
                Step::Restart => {
                    // The receiver's program ends, with all that it knew, and begins anew.
                    sides[1] = Side::new("alice");
                    sides[0].says.clear();
                    sides[0].transfers.interrupt();
                    sides[0].disk.clear();
                    let outputs = sides[0].transfers.restart();
                    sides[0].act(outputs);
                }
                Step::End(side, number) => {
                    let outputs = sides[usize::from(side)].transfers.end(id(number), EndReason::Cancelled);
                    sides[usize::from(side)].act(outputs);
                }
            }
        }
        // In the end all is said and done, and everything that is offered is taken.
        for _ in 0..200 {
            (0..2).for_each(|side| deliver(&mut sides, side));
            for number in 0..4 {
                let outputs = sides[1].transfers.take(id(number), true);
                sides[1].act(outputs);
            }
            for side in 0..2 {
                if let Some(sent) = sides[side].work() {
                    sides[1 - side].store(sent);
                }
            }
        }
        prop_assert!(sides.iter().all(|side| side.says.is_empty() && side.disk.is_empty()));
        let [alice, bob] = &sides;
        prop_assert!(alice.transfers.is_idle() && bob.transfers.is_idle(), "{:?} {:?}", alice.transfers, bob.transfers);
    }
}
