//! The thread that sends files over one connection, one after another: reads, hashes and seals, and keeps no more on
//! its way than the window allows.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use super::super::clock::Clock;
use super::super::files::checksum::Checksum;
use super::super::files::lane::{LaneReport, MAX_DATA, Message, Opener, Sealer};
use super::super::files::note::{Digest, EndReason, FileId, PauseReason};
use super::super::files::window::Window;
use super::super::files::work::News;
use super::super::sync::{Gauge, next};
use super::content::ReadError;
use super::source::Source;
use super::tell::{DiskNews, PROGRESS_EVERY, Tell};
use crate::lock::lock;

/// What reaches the thread.
pub enum SendingMail {
    /// Send this file once those before it are sent.
    Send(SendingJob),
    /// Send nothing more of this file.
    Stop(FileId),
    /// A sealed report of the other side.
    Report(Vec<u8>),
    /// The connection is no more.
    End,
}

/// A file that is to be sent.
pub struct SendingJob {
    /// The receiver's name.
    pub peer: String,
    /// The file's id.
    pub file: FileId,
    /// The number of the take that asks for it.
    pub take: u64,
    /// The first byte to send.
    pub from: u64,
    /// The digest of what is before `from`; `None` at the beginning.
    pub digest_before: Option<Digest>,
    /// Where its bytes come from.
    pub source: Arc<Mutex<Source>>,
}

/// The thread's state.
pub struct Sending {
    sealer: Sealer,
    opener: Opener,
    outbox: Sender<Vec<u8>>,
    /// How many bytes of the window may be on the way itself.
    limit: Gauge,
    tell: Tell,
    window: Window,
    waiting: Vec<SendingJob>,
    current: Option<Current>,
    buffer: Vec<u8>,
    /// It stands still while the program does, so that nobody seems to.
    clock: Clock,
}

/// The file that is being sent.
struct Current {
    job: SendingJob,
    /// The checksum of all that was read of it.
    sum: Checksum,
    stage: SendingStage,
    told: Option<Instant>,
    /// When the other side took something last.
    moved: Instant,
    is_paused: bool,
}

#[derive(Clone, Copy)]
enum SendingStage {
    /// It is looked whether the other side has the same beginning.
    Proving,
    /// It has begun, from this byte on, when so many bytes had been sent over this connection.
    Begun { from: u64, at: u64 },
}

/// The connection, or the other side, is of no use any more.
struct Broken;

impl Sending {
    /// A thread that seals what it sends and opens what comes back. Its data channel keeps to the limit that it sets.
    pub fn new(sealer: Sealer, opener: Opener, (outbox, limit): (Sender<Vec<u8>>, Gauge), tell: Tell) -> Self {
        let (window, buffer) = (Window::new(Instant::now()), vec![0; READ_BYTES]);
        limit.set(window.way());
        let (waiting, clock) = (Vec::new(), Clock::default());
        Self { sealer, opener, outbox, limit, tell, window, waiting, current: None, buffer, clock }
    }

    /// Works until the connection ends.
    pub fn run(mut self, mailbox: &Receiver<SendingMail>) {
        loop {
            let mail = match mailbox.try_recv() {
                Ok(mail) => Ok(mail),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => match self.step() {
                    Ok(true) => continue,
                    Ok(false) => {
                        let patience = self.patience();
                        let _idling = self.clock.waits(patience);
                        next(mailbox, patience)
                    }
                    Err(Broken) => return self.wait_for_end(mailbox),
                },
            };
            match mail {
                Ok(SendingMail::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(SendingMail::Send(job)) => self.waiting.push(job),
                Ok(SendingMail::Stop(file)) => self.stop(file),
                Ok(SendingMail::Report(mut sealed)) => {
                    let report = self.opener.open_report(&mut sealed);
                    if report.is_none_or(|report| self.take(report).is_err()) {
                        return self.break_off(mailbox, EndReason::Damaged);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.look_for_stall(),
            }
        }
    }

    fn stop(&mut self, file: FileId) {
        self.waiting.retain(|job| job.file != file);
        self.current.take_if(|current| current.job.file == file);
    }

    /// The other side's disk has come further.
    fn take(&mut self, report: LaneReport) -> Result<(), Broken> {
        let (now, before) = (Instant::now(), self.window.taken());
        self.window.reported(report.taken, report.window, now).map_err(|_| Broken)?;
        self.limit.set(self.window.way());
        let Some(current) = &mut self.current else { return Ok(()) };
        let SendingStage::Begun { from, at } = current.stage else { return Ok(()) };
        if report.taken == before {
            return Ok(());
        }
        (current.moved, current.is_paused) = (self.clock.now(), false);
        let done = from + report.taken.saturating_sub(at);
        lock(&current.job.source).let_go(done);
        if current.told.is_none_or(|told| now >= told + PROGRESS_EVERY) {
            current.told = Some(now);
            self.tell(News::Progress(done));
        }
        Ok(())
    }

    /// Does a piece of work, if there is any.
    fn step(&mut self) -> Result<bool, Broken> {
        if self.current.is_none() {
            if self.waiting.is_empty() {
                return Ok(false);
            }
            let job = self.waiting.remove(0);
            let started = lock(&job.source).start(job.from);
            let (sum, failed) = match started {
                Ok(sum) => (sum, None),
                Err(error) => (Checksum::default(), Some(error)),
            };
            let moved = self.clock.now();
            self.current =
                Some(Current { job, sum, stage: SendingStage::Proving, told: None, moved, is_paused: false });
            if let Some(error) = failed {
                self.fail(error);
            }
            return Ok(true);
        }
        let done = match self.current.as_ref().map(|current| current.stage) {
            Some(SendingStage::Proving) => self.prove(),
            Some(SendingStage::Begun { .. }) => self.send(),
            None => return Ok(false),
        };
        done.or_else(|failed| match failed {
            Failed::Broken => Err(Broken),
            Failed::Read(error) => {
                self.fail(error);
                Ok(true)
            }
        })
    }

    /// Reads on toward the byte from which the other side wants the file, and begins there, or at its beginning where
    /// the other side has something else.
    fn prove(&mut self) -> Result<bool, Failed> {
        let Some(current) = &mut self.current else { return Ok(false) };
        let from = current.job.from;
        let left = from.saturating_sub(current.sum.position());
        if left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
            let count = lock(&current.job.source).read(&mut current.sum, &mut self.buffer[..room])?;
            if count > 0 {
                return Ok(true);
            }
        }
        let is_same = current.sum.position() == from && current.sum.digest_before() == current.job.digest_before;
        if !is_same {
            current.sum = lock(&current.job.source).start(0)?;
        }
        let from = current.sum.position();
        current.stage = SendingStage::Begun { from, at: self.window.sent() };
        current.moved = self.clock.now();
        let (file, take) = (current.job.file, current.job.take);
        self.post(&Message::Begin { file, take, from })?;
        self.tell(News::Begun(from));
        Ok(true)
    }

    /// Sends the next bytes, if there is room in the window for some.
    fn send(&mut self) -> Result<bool, Failed> {
        let room = self.window.next();
        let Some(current) = self.current.as_mut().filter(|_| room > 0) else { return Ok(false) };
        let mut buffer = [0; MAX_DATA];
        let count = lock(&current.job.source).read(&mut current.sum, &mut buffer[..room])?;
        if count > 0 {
            // Its way begins here: it may have arrived before it is known that it went.
            self.window.send(count, Instant::now());
            self.post(&Message::Data(&buffer[..count]))?;
            return Ok(true);
        }
        let (size, digest) = lock(&current.job.source).finish(&current.sum)?;
        self.post(&Message::End { size, digest })?;
        self.tell(News::AllSent);
        self.current = None;
        Ok(true)
    }

    fn post(&mut self, message: &Message<'_>) -> Result<(), Broken> {
        let sealed = self.sealer.seal(message);
        self.outbox.blocking_send(sealed).map_err(|_| Broken)
    }

    /// How long mail is waited for at most: a file that goes may come to a standstill.
    fn patience(&self) -> Option<Duration> {
        self.current.as_ref().filter(|current| !current.is_paused).map(|_| LOOK)
    }

    fn look_for_stall(&mut self) {
        if let Some(current) = &mut self.current
            && matches!(current.stage, SendingStage::Begun { .. })
            && !current.is_paused
            && self.window.sent() > self.window.taken()
            && self.clock.now().saturating_duration_since(current.moved) >= STALL_TIME
        {
            current.is_paused = true;
            self.tell(News::Paused(PauseReason::Stalled));
        }
    }

    fn fail(&mut self, ReadError { reason, trouble }: ReadError) {
        self.tell(News::Failed { reason, trouble });
        self.current = None;
    }

    /// The channel takes nothing more. As a rule its connection is about to end, and the files go on over the next one.
    fn wait_for_end(mut self, mailbox: &Receiver<SendingMail>) {
        let until = self.clock.now() + GONE_TIME;
        loop {
            let left = until.saturating_duration_since(self.clock.now());
            let idling = self.clock.waits(Some(left.min(LOOK)));
            let mail = mailbox.recv_timeout(left.min(LOOK));
            drop(idling);
            match mail {
                Ok(SendingMail::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(SendingMail::Send(job)) => self.waiting.push(job),
                Ok(SendingMail::Stop(file)) => self.stop(file),
                Ok(SendingMail::Report(_)) => {}
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return self.break_off(mailbox, EndReason::Failed),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// What the other side says makes no sense, so nothing more is said to it: all that is asked of this thread fails,
    /// until the connection ends.
    fn break_off(mut self, mailbox: &Receiver<SendingMail>, reason: EndReason) {
        let failed = || News::Failed { reason, trouble: None };
        self.tell(failed());
        for job in std::mem::take(&mut self.waiting) {
            self.tell_of(&job, failed());
        }
        while let Ok(mail) = mailbox.recv() {
            match mail {
                SendingMail::End => return,
                SendingMail::Send(job) => self.tell_of(&job, failed()),
                SendingMail::Stop(_) | SendingMail::Report(_) => {}
            }
        }
    }

    fn tell(&self, news: News) {
        if let Some(Current { job, .. }) = &self.current {
            self.tell_of(job, news);
        }
    }

    fn tell_of(&self, SendingJob { peer, file, take, .. }: &SendingJob, news: News) {
        (self.tell)(DiskNews { peer: peer.clone(), file: *file, take: *take, news });
    }
}

/// Why nothing more is sent.
enum Failed {
    Broken,
    Read(ReadError),
}

impl From<Broken> for Failed {
    fn from(Broken: Broken) -> Self {
        Self::Broken
    }
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// How long the other side may take nothing before our user is told, and how often that is looked at. If the program is
/// stopped meanwhile, so much of the time is lost as is left until the next look.
const STALL_TIME: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(5);

/// How long a connection may outlive its channel for files: a little longer than it takes to be found lost.
const GONE_TIME: Duration = Duration::from_secs(60);

/// How much is read at once where nothing is sent of it.
const READ_BYTES: usize = 256 * 1024;
