//! The thread that takes files which come over one connection: opens, writes and hashes, and says how far the disk has
//! come.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use super::super::files::lane::{LaneReport, Message, Opener, Sealer};
use super::super::files::note::{Digest, EndReason, FileId, PauseReason};
use super::super::files::work::{News, OfferedFile};
use super::super::keys::PublicKey;
use super::super::sync::{Gauge, next};
use super::store::{Ready, Store, StoreError};
use super::tell::{DiskNews, PROGRESS_EVERY, Tell};
use crate::lock::lock;

/// What reaches the thread.
pub enum TakingMail {
    /// Be ready for this file.
    Prepare(Box<TakingJob>),
    /// Take nothing more of a file.
    Stop {
        /// The file's id.
        file: FileId,
        /// Whether what is here stays.
        is_kept: bool,
    },
    /// A sealed message of the other side.
    Sealed(Vec<u8>),
    /// The connection is no more.
    End,
}

/// A file that is to be taken.
pub struct TakingJob {
    /// The sender's name.
    pub peer: String,
    /// The identity that it has proven.
    pub identity: PublicKey,
    /// What was offered.
    pub offered: OfferedFile,
    /// The number of the take that will ask for it.
    pub take: u64,
    /// Where it goes.
    pub store: Arc<Mutex<Store>>,
}

/// The thread's state.
pub struct Taking {
    opener: Opener,
    sealer: Sealer,
    outbox: Sender<Vec<u8>>,
    in_flight: Gauge,
    takers: Gauge,
    /// Bytes that the socket and SCTP hold at most.
    window: u64,
    tell: Tell,
    /// The files that may come, and from which byte on. One without that has failed and comes no more: it only waits
    /// to be told what is to become of its part.
    prepared: HashMap<FileId, (Box<TakingJob>, Option<u64>)>,
    current: Option<Current>,
    /// Sealed messages that have come and are not opened yet, while the disk is full.
    unopened: VecDeque<Vec<u8>>,
    /// Bytes of all files that have come over this connection and are dealt with.
    taken: u64,
    reported: Option<u64>,
}

/// The file that comes.
struct Current {
    job: Box<TakingJob>,
    told: Option<Instant>,
    full: Option<Full>,
}

/// The disk is full.
struct Full {
    since: Instant,
    next_try: Instant,
    /// What there was no room for.
    rest: Rest,
}

enum Rest {
    Data(Vec<u8>),
    End(u64, Digest),
}

/// The other side does not keep to the protocol, or the connection is of no use any more.
struct Broken;

impl Taking {
    /// A thread that opens what comes and seals what it says. What has come is counted by `in_flight` until it is dealt
    /// with, and threads of this kind by `takers`; so many bytes may be on their way at most.
    pub fn new(
        opener: Opener,
        sealer: Sealer,
        outbox: Sender<Vec<u8>>,
        in_flight: Gauge,
        (takers, window): (Gauge, u64),
        tell: Tell,
    ) -> Self {
        takers.add(1);
        Self {
            opener,
            sealer,
            outbox,
            in_flight,
            takers,
            window,
            tell,
            prepared: HashMap::new(),
            current: None,
            unopened: VecDeque::new(),
            taken: 0,
            reported: None,
        }
    }

    /// Works until the connection ends.
    pub fn run(mut self, mailbox: &Receiver<TakingMail>) {
        loop {
            let mail = match mailbox.try_recv() {
                Ok(mail) => Ok(mail),
                Err(TryRecvError::Disconnected) => break,
                // All that came is dealt with, so it is said.
                Err(TryRecvError::Empty) => {
                    self.report();
                    next(mailbox, self.patience())
                }
            };
            let done = match mail {
                Ok(TakingMail::End) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(TakingMail::Prepare(job)) => self.prepare(job),
                Ok(TakingMail::Stop { file, is_kept }) => self.stop(file, is_kept),
                Ok(TakingMail::Sealed(sealed)) => {
                    self.unopened.push_back(sealed);
                    self.work()
                }
                Err(RecvTimeoutError::Timeout) => self.try_again(),
            };
            if done.is_err() {
                return self.break_off(mailbox);
            }
            if self.taken >= self.reported.unwrap_or(0) + REPORT_BYTES {
                self.report();
            }
        }
        if let Some(Current { job, .. }) = &self.current {
            lock(&job.store).rest(job.take);
        }
    }

    /// Looks how much of a file is here.
    fn prepare(&mut self, job: Box<TakingJob>) -> Result<(), Broken> {
        let file = job.offered.file;
        // It is asked for anew.
        if let Some(job) = self.drop_current(file) {
            lock(&job.store).rest(job.take);
        }
        let ready = lock(&job.store).prepare(&job.offered, job.identity, job.take);
        let news = match ready {
            Ok(Ready::From(from, digest_before)) => News::Ready { from, digest_before },
            Ok(Ready::Whole((path, size, digest))) => News::Stored { path, size, digest },
            Err(error) => failed(error),
        };
        let from = if let News::Ready { from, .. } = &news { Some(*from) } else { None };
        self.tell(&job, news);
        match from {
            Some(from) => self.prepared.insert(file, (job, Some(from))),
            None => self.prepared.remove(&file),
        };
        Ok(())
    }

    fn stop(&mut self, file: FileId, is_kept: bool) -> Result<(), Broken> {
        let prepared = self.prepared.remove(&file);
        // What was to begin and has not is of no use to anybody.
        let is_empty = matches!(prepared, Some((_, Some(0))));
        let current = self.drop_current(file);
        if let Some(job) = current.or(prepared.map(|(job, _)| job)) {
            match is_kept && !is_empty {
                true => lock(&job.store).rest(job.take),
                false => lock(&job.store).discard(file),
            }
        }
        self.work()
    }

    /// Takes nothing more of a file, if it is the one that comes.
    fn drop_current(&mut self, file: FileId) -> Option<Box<TakingJob>> {
        let Current { job, full, .. } = self.current.take_if(|current| current.job.offered.file == file)?;
        if let Some(Full { rest: Rest::Data(bytes), .. }) = full {
            self.taken += bytes.len() as u64;
        }
        Some(job)
    }

    /// Deals with what has come, as long as there is room for it.
    fn work(&mut self) -> Result<(), Broken> {
        while self.current.as_ref().is_none_or(|current| current.full.is_none())
            && let Some(mut sealed) = self.unopened.pop_front()
        {
            self.in_flight.subtract(sealed.len());
            match self.opener.open(&mut sealed).ok_or(Broken)? {
                Message::Begin { file, take, from } => self.begin(file, take, from)?,
                Message::Data(bytes) => self.write(bytes),
                Message::End { size, digest } => self.finish(size, digest),
            }
        }
        Ok(())
    }

    /// A file begins. What was not asked for, or is not asked for any more, is passed over with all that follows it.
    fn begin(&mut self, file: FileId, take: u64, from: u64) -> Result<(), Broken> {
        if let Some(Current { job, .. }) = self.current.take() {
            lock(&job.store).rest(job.take);
        }
        let is_asked = |(job, asked): &(Box<TakingJob>, Option<u64>)| {
            job.take == take && asked.is_some_and(|asked| from == asked || from == 0)
        };
        if !self.prepared.get(&file).is_some_and(is_asked) {
            return Ok(());
        }
        let Some((job, _)) = self.prepared.remove(&file) else { return Ok(()) };
        let begun = lock(&job.store).begin(&job.offered, job.identity, from);
        match begun {
            Ok(()) => {
                self.tell(&job, News::Begun(from));
                self.current = Some(Current { job, told: None, full: None });
            }
            Err(error) => self.tell(&job, failed(error)),
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) {
        let Some(current) = &mut self.current else {
            self.taken += bytes.len() as u64;
            return;
        };
        let written = lock(&current.job.store).write(current.job.take, bytes);
        match written {
            Ok(()) => {
                self.taken += bytes.len() as u64;
                self.progress();
            }
            Err(error) => self.wait_or_fail(error, Rest::Data(bytes.to_vec())),
        }
    }

    fn progress(&mut self) {
        let Some(current) = &mut self.current else { return };
        current.full = None;
        if current.told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
            current.told = Some(Instant::now());
            let done = lock(&current.job.store).position();
            self.tell_current(News::Progress(done));
        }
    }

    fn finish(&mut self, size: u64, digest: Digest) {
        let Some(current) = &mut self.current else { return };
        let finished = lock(&current.job.store).finish(current.job.take, size, digest);
        match finished {
            Ok((path, size, digest)) => {
                self.tell_current(News::Stored { path, size, digest });
                self.current = None;
            }
            Err(error) => self.wait_or_fail(error, Rest::End(size, digest)),
        }
    }

    /// Where the disk is full, it may have room again soon.
    fn wait_or_fail(&mut self, error: StoreError, rest: Rest) {
        let Some(current) = &mut self.current else { return };
        let now = Instant::now();
        let since = current.full.as_ref().map(|full| full.since);
        if error.may_pass() && since.is_none_or(|since| now < since + FULL_TIME) {
            current.full = Some(Full { since: since.unwrap_or(now), next_try: now + FULL_POLL, rest });
            if since.is_none() {
                self.tell_current(News::Paused(PauseReason::NoSpace));
            }
            return;
        }
        if let Rest::Data(bytes) = rest {
            self.taken += bytes.len() as u64;
        }
        lock(&current.job.store).rest(current.job.take);
        self.tell_current(failed(error));
        if let Some(Current { job, .. }) = self.current.take() {
            self.prepared.insert(job.offered.file, (job, None));
        }
    }

    fn try_again(&mut self) -> Result<(), Broken> {
        let full = self.current.as_mut().and_then(|current| current.full.as_mut());
        if let Some(full) = full.filter(|full| full.next_try <= Instant::now()) {
            // Where it fails again, it is put back; how long the disk is full stays known until then.
            match std::mem::replace(&mut full.rest, Rest::Data(Vec::new())) {
                Rest::Data(bytes) => self.write(&bytes),
                Rest::End(size, digest) => self.finish(size, digest),
            }
        }
        self.work()
    }

    /// How long mail is waited for at most.
    fn patience(&self) -> Option<Duration> {
        let full = self.current.as_ref()?.full.as_ref()?;
        Some(full.next_try.saturating_duration_since(Instant::now()))
    }

    /// Says how far the disk has come, if that is news. It is said once at first, so that the sender knows how much it
    /// may send.
    fn report(&mut self) {
        if self.reported == Some(self.taken) {
            return;
        }
        let others = self.takers.get().max(1) as u64;
        let window = (ALL_WINDOWS / others).min(self.window).clamp(MIN_WINDOW, MAX_WINDOW);
        let sealed = self.sealer.seal_report(LaneReport { taken: self.taken, window });
        // A connection that is no more needs no report.
        let _ = self.outbox.blocking_send(sealed);
        self.reported = Some(self.taken);
    }

    /// Nothing that comes can be believed any more: all that is asked of this thread fails, until the connection ends.
    fn break_off(&mut self, mailbox: &Receiver<TakingMail>) {
        let damaged = || News::Failed { reason: EndReason::Damaged, trouble: None };
        let prepared = self.prepared.drain().filter_map(|(_, (job, asked))| asked.map(|_| job));
        let jobs: Vec<Box<TakingJob>> = prepared.chain(self.current.take().map(|current| current.job)).collect();
        for job in jobs {
            lock(&job.store).discard(job.offered.file);
            self.tell(&job, damaged());
        }
        self.unopened.clear();
        while let Ok(mail) = mailbox.recv() {
            match mail {
                TakingMail::End => return,
                TakingMail::Prepare(job) => self.tell(&job, damaged()),
                TakingMail::Stop { .. } | TakingMail::Sealed(_) => {}
            }
        }
    }

    fn tell_current(&self, news: News) {
        if let Some(Current { job, .. }) = &self.current {
            self.tell(job, news);
        }
    }

    fn tell(&self, job: &TakingJob, news: News) {
        (self.tell)(DiskNews { peer: job.peer.clone(), file: job.offered.file, take: job.take, news });
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.takers.subtract(1);
    }
}

fn failed(StoreError { reason, trouble }: StoreError) -> News {
    News::Failed { reason, trouble }
}

/// Bytes of a window: at most, which is what SCTP takes, and at least.
pub const MAX_WINDOW: u64 = 1024 * 1024;
const MIN_WINDOW: u64 = 32 * 1024;

/// Bytes that may be on their way to all threads of this kind together, unless there are very many.
const ALL_WINDOWS: u64 = 8 * 1024 * 1024;

/// Bytes after which it is said how far the disk has come, also where more has come already.
const REPORT_BYTES: u64 = 64 * 1024;

/// How long a full disk is waited for, and how often it is tried.
const FULL_TIME: Duration = Duration::from_secs(60);
const FULL_POLL: Duration = Duration::from_secs(5);
