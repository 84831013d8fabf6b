//! The files that go between two peers in one chat: what is offered, what is taken, what is on its way, and how each of
//! them ends. It outlives a connection, as texts do. Disks and data channels are somebody else's. Pure.

pub(crate) mod checksum;
pub mod entries;
pub mod lane;
pub(crate) mod name;
pub mod note;
pub(crate) mod window;
pub mod work;

use std::time::{Duration, Instant};

use super::event::Event;
use super::keys::PublicKey;
use entries::MAX_ENTRIES;
use note::{Digest, EndReason, FileId, Note};
use work::{News, OfferedFile, Output, Work};

/// The files of one chat, in both directions.
#[derive(Debug, Clone)]
pub struct ChatFiles {
    peer: String,
    /// Who the peer has proven to be.
    identity: PublicKey,
    outgoing: Vec<Outgoing>,
    incoming: Vec<Incoming>,
    is_connected: bool,
    /// How many takes we have sent, and so the number of the next one.
    takes: u64,
}

/// A file that we have offered.
#[derive(Debug, Clone)]
struct Outgoing {
    offered: OfferedFile,
    stage: OutgoingStage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutgoingStage {
    /// The other side has not heard of it: too many others wait for its answer.
    Waiting,
    /// The other side is to say that it takes it.
    Offered,
    /// It has said so, and is to say it again, since the connection was lost.
    Agreed,
    /// The other side takes it, and it is not its turn yet.
    Taken { take: u64, from: u64, digest_before: Option<Digest> },
    /// It is being sent, as the take with this number asks.
    Running(u64),
    /// All of it was sent, as the take with this number asks.
    Sent(u64),
}

/// A file that was offered to us.
#[derive(Debug, Clone)]
struct Incoming {
    offered: OfferedFile,
    stage: IncomingStage,
    /// Whether what comes of it is kept where it does not come to its end.
    is_kept: bool,
    /// Whether something of it is here; `None` until the disk has looked, since it may be of an earlier chat.
    has_come: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IncomingStage {
    /// Our user has not answered. It came then.
    Offered(Instant),
    /// Our user takes it; there is no connection, or the other side has begun anew and is to offer it again.
    Agreed,
    /// It is looked how much of it is here already, for the take with this number, which is sent then.
    Prepared(u64),
    /// The take with this number was sent.
    Taken(u64),
}

impl ChatFiles {
    /// The files of a chat with this peer, which has proven this identity, over a connection that is open.
    pub fn new(peer: String, identity: PublicKey) -> Self {
        Self { peer, identity, outgoing: Vec::new(), incoming: Vec::new(), is_connected: true, takes: 0 }
    }

    /// Our user offers a file.
    pub fn offer(&mut self, offered: OfferedFile) -> Vec<Output> {
        let file = offered.file;
        if self.outgoing(file).is_some() {
            return Vec::new();
        }
        if self.outgoing.len() >= MAX_FILES {
            return vec![self.ended(file, EndReason::TooMany, None, false)];
        }
        // Only a peer that plays back our own ids offers one of them.
        let mut outputs = self.end_incoming(file, EndReason::Failed, None);
        self.outgoing.push(Outgoing { offered, stage: OutgoingStage::Waiting });
        outputs.extend(self.go_on());
        outputs
    }

    /// Our user takes what was offered. `is_kept`: what comes of it is kept where it does not come to its end.
    pub fn take(&mut self, file: FileId, is_kept: bool) -> Vec<Output> {
        match self.incoming(file) {
            Some(incoming) if matches!(incoming.stage, IncomingStage::Offered(_)) => {
                (incoming.stage, incoming.is_kept) = (IncomingStage::Agreed, is_kept);
                self.prepare(file)
            }
            Some(_) => Vec::new(),
            // It was withdrawn a moment ago, and what was to be taken is to be forgotten.
            None => vec![self.ended(file, EndReason::Cancelled, None, false)],
        }
    }

    /// Our user does not want what was offered, or ends what is on its way in either direction.
    pub fn end(&mut self, file: FileId, reason: EndReason) -> Vec<Output> {
        match self.outgoing(file) {
            Some(_) => self.end_outgoing(file, reason, None, true),
            None => self.end_incoming(file, reason, None),
        }
    }

    /// The other side says something. What does not fit is passed over: both may have ended the same file at once.
    pub fn receive(&mut self, note: Note, now: Instant) -> Vec<Output> {
        match note {
            Note::Offer { file, name, size, modified, entries } => {
                self.offered(OfferedFile { file, name, size, modified, entries }, now)
            }
            Note::Take { file, number: take, from, proof: digest_before } => {
                self.taken(file, OutgoingStage::Taken { take, from, digest_before })
            }
            Note::Refuse { file, reason } => self.end_outgoing(file, reason, None, false),
            Note::Withdraw { file, reason } => {
                let Some(Incoming { stage, is_kept, has_come, .. }) = self.remove_incoming(file) else {
                    return Vec::new();
                };
                // What has changed is another file, and does not go on.
                let is_kept = is_kept && reason != EndReason::Changed;
                let mut outputs = stop_taking(file, stage, is_kept && has_come != Some(false));
                outputs.push(self.ended(file, reason, None, is_kept && has_come == Some(true)));
                outputs
            }
            // Also where it was not sent, or is being sent once more: it may have arrived before.
            Note::Done { file, size, digest } => {
                let Some(Outgoing { stage, offered }) = self.remove_outgoing(file) else { return Vec::new() };
                let mut outputs = stop_sending(file, stage);
                outputs.push(match offered.size.is_none_or(|offered| offered == size) {
                    true => Output::Event(Event::FileSent { peer: self.peer.clone(), file, size, digest }),
                    false => self.ended(file, EndReason::Damaged, None, false),
                });
                outputs.extend(self.go_on());
                outputs
            }
        }
    }

    fn offered(&mut self, offered: OfferedFile, now: Instant) -> Vec<Output> {
        let file = offered.file;
        if self.outgoing(file).is_some() {
            return Vec::new();
        }
        if let Some(incoming) = self.incoming(file) {
            if matches!(incoming.stage, IncomingStage::Offered(_)) {
                return Vec::new();
            }
            if (incoming.offered.size, incoming.offered.entries) != (offered.size, offered.entries) {
                return self.end_incoming(file, EndReason::Damaged, None);
            }
            // The sender has begun anew. What was agreed to is agreed to.
            incoming.stage = IncomingStage::Agreed;
            return self.prepare(file);
        }
        let is_too_large = offered.entries.is_some_and(|entries| entries > MAX_ENTRIES);
        if self.waiting() >= MAX_FILE_OFFERS || self.incoming.len() >= MAX_FILES || is_too_large {
            return vec![Output::Note(Note::Refuse { file, reason: EndReason::TooMany })];
        }
        let OfferedFile { file, name, size, modified, entries } = offered.clone();
        self.incoming.push(Incoming { offered, stage: IncomingStage::Offered(now), is_kept: false, has_come: None });
        let (peer, identity) = (self.peer.clone(), self.identity);
        vec![Output::Event(Event::FileOffered { peer, identity, file, name, size, modified, entries })]
    }

    fn taken(&mut self, file: FileId, stage: OutgoingStage) -> Vec<Output> {
        let Some(outgoing) = self.outgoing(file) else {
            // It was withdrawn before this was known, or by a program that has ended since.
            return vec![Output::Note(Note::Withdraw { file, reason: EndReason::Cancelled })];
        };
        // Where it is being sent already, the take before this was on its way when a connection was lost.
        let mut outputs = stop_sending(file, std::mem::replace(&mut outgoing.stage, stage));
        outputs.extend(self.go_on());
        outputs
    }

    /// The disk tells something of what it was asked for by the take with this number.
    pub fn hear(&mut self, file: FileId, take: u64, news: News) -> Vec<Output> {
        if !self.is_current(file, take) {
            return Vec::new();
        }
        let peer = self.peer.clone();
        match news {
            News::Ready { from, digest_before } => match self.incoming(file) {
                Some(incoming) => {
                    incoming.stage = IncomingStage::Taken(take);
                    incoming.has_come = Some(from > 0);
                    vec![Output::Note(Note::Take { file, number: take, from, proof: digest_before })]
                }
                None => Vec::new(),
            },
            News::Begun(from) => {
                // From 0 on it is begun anew, whatever was here.
                if let Some(incoming) = self.incoming(file) {
                    incoming.has_come = Some(from > 0);
                }
                vec![Output::Event(Event::FileStarted { peer, file, from })]
            }
            News::Progress(done) => {
                if let Some(incoming) = self.incoming(file).filter(|_| done > 0) {
                    incoming.has_come = Some(true);
                }
                vec![Output::Event(Event::FileProgress { peer, file, done })]
            }
            News::Paused(reason) => vec![Output::Event(Event::FilePaused { peer, file, reason })],
            News::AllSent => {
                if let Some(outgoing) = self.outgoing(file) {
                    outgoing.stage = OutgoingStage::Sent(take);
                }
                self.go_on()
            }
            News::Stored { path, size, digest } => match self.remove_incoming(file) {
                Some(_) => vec![
                    Output::Note(Note::Done { file, size, digest }),
                    Output::Event(Event::FileReceived { peer, file, path, size, digest }),
                ],
                None => Vec::new(),
            },
            News::Failed { reason, trouble } => match self.outgoing(file) {
                Some(_) => self.end_outgoing(file, reason, trouble, true),
                None => self.end_incoming(file, reason, trouble),
            },
        }
    }

    /// Whether the take with this number is the last one of this file, and the disk still works for it.
    fn is_current(&mut self, file: FileId, take: u64) -> bool {
        let outgoing = self.outgoing(file).map(|outgoing| outgoing.stage);
        match (outgoing, self.incoming(file).map(|incoming| incoming.stage)) {
            (Some(OutgoingStage::Running(of) | OutgoingStage::Sent(of)), _) => of == take,
            (None, Some(IncomingStage::Prepared(of) | IncomingStage::Taken(of))) => of == take,
            _ => false,
        }
    }

    /// The connection was lost. Nothing is on its way any more.
    pub fn interrupt(&mut self) {
        self.is_connected = false;
        for outgoing in &mut self.outgoing {
            if !matches!(outgoing.stage, OutgoingStage::Waiting | OutgoingStage::Offered) {
                outgoing.stage = OutgoingStage::Agreed;
            }
        }
        for incoming in self.incoming.iter_mut().filter(|incoming| was_taken(incoming.stage)) {
            incoming.stage = IncomingStage::Agreed;
        }
    }

    /// There is a connection again, to the same instance of the other side. What is to come goes on from where it is.
    pub fn resume(&mut self) -> Vec<Output> {
        self.is_connected = true;
        let agreed = self.incoming.iter().filter(|incoming| was_taken(incoming.stage));
        let files: Vec<FileId> = agreed.map(|incoming| incoming.offered.file).collect();
        files.into_iter().flat_map(|file| self.prepare(file)).collect()
    }

    /// There is a connection again, to another instance of the other side, which knows of nothing: it is offered again
    /// what it does not have. Of what it had offered, it offers again what it still has, and what our user has agreed
    /// to goes on then.
    pub fn restart(&mut self) -> Vec<Output> {
        self.is_connected = true;
        let (waiting, agreed): (Vec<_>, Vec<_>) =
            self.incoming.drain(..).partition(|incoming| !was_taken(incoming.stage));
        self.incoming = agreed;
        let gone = waiting.iter().map(|gone| self.ended(gone.offered.file, EndReason::Cancelled, None, false));
        let gone: Vec<Output> = gone.collect();
        self.outgoing.iter_mut().for_each(|outgoing| outgoing.stage = OutgoingStage::Waiting);
        gone.into_iter().chain(self.go_on()).collect()
    }

    /// Time has passed: file offers that nobody has answered end.
    pub fn tick(&mut self, now: Instant) -> Vec<Output> {
        let is_over = |incoming: &&Incoming| deadline(incoming).is_some_and(|deadline| deadline <= now);
        let over: Vec<FileId> = self.incoming.iter().filter(is_over).map(|incoming| incoming.offered.file).collect();
        let mut outputs = Vec::new();
        for file in over {
            outputs.extend(self.end_incoming(file, EndReason::Expired, None));
            outputs.push(self.ended(file, EndReason::Expired, None, false));
        }
        outputs
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.incoming.iter().filter_map(deadline).min()
    }

    /// The chat has ended, or there are no files in it any more. What was taken in part is kept.
    pub fn close(&mut self, reason: EndReason) -> Vec<Output> {
        let mut outputs = Vec::new();
        for Outgoing { offered: OfferedFile { file, .. }, stage } in std::mem::take(&mut self.outgoing) {
            outputs.extend(stop_sending(file, stage));
            outputs.push(self.ended(file, reason, None, false));
        }
        for incoming in std::mem::take(&mut self.incoming) {
            let Incoming { offered: OfferedFile { file, .. }, stage, is_kept, has_come } = incoming;
            outputs.extend(stop_taking(file, stage, is_kept));
            outputs.push(self.ended(file, reason, None, is_kept && has_come == Some(true)));
        }
        outputs
    }

    /// Whether there is something about this file.
    pub(crate) fn knows(&self, file: FileId) -> bool {
        self.outgoing.iter().any(|outgoing| outgoing.offered.file == file)
            || self.incoming.iter().any(|incoming| incoming.offered.file == file)
    }

    /// How many file offers wait for our user's answer.
    pub fn waiting(&self) -> usize {
        self.incoming.iter().filter(|incoming| !was_taken(incoming.stage)).count()
    }

    /// Whether nothing is offered, and nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.outgoing.is_empty() && self.incoming.is_empty()
    }

    /// Has the disk look how much is here of what our user has agreed to take.
    fn prepare(&mut self, file: FileId) -> Vec<Output> {
        if !self.is_connected {
            return Vec::new();
        }
        let (take, identity) = (self.takes, self.identity);
        let Some(incoming) = self.incoming(file) else { return Vec::new() };
        incoming.stage = IncomingStage::Prepared(take);
        let work = Work::Prepare { offered: incoming.offered.clone(), identity, take };
        self.takes += 1;
        vec![Output::Work(file, work)]
    }

    /// Offers what waits for that, as far as there is room, and sends the next file that is taken, if none is being
    /// sent.
    fn go_on(&mut self) -> Vec<Output> {
        let is_offered = |outgoing: &&Outgoing| outgoing.stage == OutgoingStage::Offered;
        let room = MAX_FILE_OFFERS.saturating_sub(self.outgoing.iter().filter(is_offered).count());
        let waiting = self.outgoing.iter_mut().filter(|outgoing| outgoing.stage == OutgoingStage::Waiting);
        let mut outputs = Vec::new();
        for outgoing in waiting.take(room) {
            outgoing.stage = OutgoingStage::Offered;
            outputs.push(Output::Note(note_of(&outgoing.offered)));
        }
        if self.outgoing.iter().any(|outgoing| matches!(outgoing.stage, OutgoingStage::Running(_))) {
            return outputs;
        }
        outputs.extend(self.outgoing.iter_mut().find_map(|outgoing| {
            let OutgoingStage::Taken { take, from, digest_before } = outgoing.stage else { return None };
            outgoing.stage = OutgoingStage::Running(take);
            Some(Output::Work(outgoing.offered.file, Work::Send { take, from, digest_before }))
        }));
        outputs
    }

    /// Ends a file of ours. `is_told`: the other side is told so.
    fn end_outgoing(&mut self, file: FileId, reason: EndReason, trouble: Option<String>, is_told: bool) -> Vec<Output> {
        let Some(Outgoing { stage, .. }) = self.remove_outgoing(file) else { return Vec::new() };
        let mut outputs = stop_sending(file, stage);
        outputs.extend(is_told.then_some(Output::Note(Note::Withdraw { file, reason })));
        outputs.push(self.ended(file, reason, trouble, false));
        outputs.extend(self.go_on());
        outputs
    }

    /// Ends a file of theirs. Of one that our user had not taken, nothing is told.
    fn end_incoming(&mut self, file: FileId, reason: EndReason, trouble: Option<String>) -> Vec<Output> {
        let Some(Incoming { stage, is_kept, has_come, .. }) = self.remove_incoming(file) else { return Vec::new() };
        let mut outputs = vec![Output::Note(Note::Refuse { file, reason })];
        // What is damaged is of no use to anybody; what there was no room for goes on once there is.
        let is_kept = is_kept && matches!(reason, EndReason::NoSpace | EndReason::Failed);
        outputs.extend(stop_taking(file, stage, is_kept && has_come != Some(false)));
        let is_left = is_kept && has_come == Some(true);
        outputs.extend(was_taken(stage).then(|| self.ended(file, reason, trouble, is_left)));
        outputs
    }

    fn ended(&self, file: FileId, reason: EndReason, trouble: Option<String>, is_kept: bool) -> Output {
        Output::Event(Event::FileEnded { peer: self.peer.clone(), file, reason, trouble, is_kept })
    }

    fn outgoing(&mut self, file: FileId) -> Option<&mut Outgoing> {
        self.outgoing.iter_mut().find(|outgoing| outgoing.offered.file == file)
    }

    fn incoming(&mut self, file: FileId) -> Option<&mut Incoming> {
        self.incoming.iter_mut().find(|incoming| incoming.offered.file == file)
    }

    fn remove_outgoing(&mut self, file: FileId) -> Option<Outgoing> {
        let place = self.outgoing.iter().position(|outgoing| outgoing.offered.file == file)?;
        Some(self.outgoing.remove(place))
    }

    fn remove_incoming(&mut self, file: FileId) -> Option<Incoming> {
        let place = self.incoming.iter().position(|incoming| incoming.offered.file == file)?;
        Some(self.incoming.remove(place))
    }
}

fn note_of(OfferedFile { file, name, size, modified, entries }: &OfferedFile) -> Note {
    Note::Offer { file: *file, name: name.clone(), size: *size, modified: *modified, entries: *entries }
}

fn stop_sending(file: FileId, stage: OutgoingStage) -> Vec<Output> {
    let is_running = matches!(stage, OutgoingStage::Running(_));
    is_running.then_some(Output::Work(file, Work::StopSending)).into_iter().collect()
}

fn stop_taking(file: FileId, stage: IncomingStage, is_kept: bool) -> Vec<Output> {
    was_taken(stage).then_some(Output::Work(file, Work::StopTaking { is_kept })).into_iter().collect()
}

/// Whether our user has agreed to it.
fn was_taken(stage: IncomingStage) -> bool {
    !matches!(stage, IncomingStage::Offered(_))
}

fn deadline(incoming: &Incoming) -> Option<Instant> {
    match incoming.stage {
        IncomingStage::Offered(since) => Some(since + FILE_OFFER_TIME),
        _ => None,
    }
}

/// File offers of one peer that may wait for our user's answer.
pub const MAX_FILE_OFFERS: usize = 8;

/// Files that may be offered, taken or on their way in one direction.
pub const MAX_FILES: usize = 1000;

/// How long an offer waits for our user's answer.
pub const FILE_OFFER_TIME: Duration = Duration::from_secs(24 * 60 * 60);
