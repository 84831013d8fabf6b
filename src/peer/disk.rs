//! The files of a peer on its own side: where they are read from and where they go. Disks may be slow, so all of it is
//! done by threads apart from the peer's loop: for each peer connection one that sends and one that takes, once there
//! is something to do. They are joined to the data channels by queues that hold no more than is in flight.

pub mod content;
pub mod sending;
pub mod source;
pub mod store;
pub mod taking;
pub mod tell;

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::engine::PeerConnectionId;
use super::file_offer::FileOffer;
use super::files::lane::{FileKeys, Way};
use super::files::note::{EndReason, FileId};
use super::files::window::NEAR;
use super::files::work::{News, Work};
use super::rtc::{self, FileThread, Rtc, RtcCommand};
use super::sink::Sink;
use super::sync::Gauge;
use crate::lock::lock;
use crate::threads;
use sending::{Sending, SendingJob, SendingMail};
use source::Source;
use store::Store;
use taking::{Taking, TakingJob, TakingMail};
use tell::{DiskNews, Tell};

/// What is known of all files that are offered or taken, and the threads that work on them.
pub struct Disk {
    sources: HashMap<Key, Arc<Mutex<Source>>>,
    stores: HashMap<Key, Arc<Mutex<Store>>>,
    lanes: HashMap<PeerConnectionId, LaneThreads>,
    /// How many threads take files.
    takers: Gauge,
    tell: Tell,
    /// Each thread has one, so that it is seen when all have ended.
    working: Sender<()>,
    ended: Receiver<()>,
}

/// A file of one chat.
type Key = (String, FileId);

/// The threads of one peer connection, once there are any.
#[derive(Default)]
struct LaneThreads {
    sending: Option<Sender<SendingMail>>,
    taking: Option<Sender<TakingMail>>,
}

impl Disk {
    /// No files yet. What happens to them is told.
    pub fn new(tell: impl Fn(DiskNews) + Send + Sync + 'static) -> Self {
        let (working, ended) = mpsc::channel();
        Self {
            sources: HashMap::new(),
            stores: HashMap::new(),
            lanes: HashMap::new(),
            takers: Gauge::default(),
            tell: Arc::new(tell),
            working,
            ended,
        }
    }

    /// A file is offered.
    pub fn offer(&mut self, peer: &str, file: FileId, offer: FileOffer) {
        let source = || Arc::new(Mutex::new(Source::new(offer)));
        self.sources.entry((peer.to_owned(), file)).or_insert_with(source);
    }

    /// Our user takes a file: its bytes go to `sink`.
    pub fn take(&mut self, peer: &str, file: FileId, sink: Sink) {
        let store = || Arc::new(Mutex::new(Store::new(sink)));
        self.stores.entry((peer.to_owned(), file)).or_insert_with(store);
    }

    /// A file has ended.
    pub fn forget(&mut self, peer: &str, file: FileId) {
        let key = (peer.to_owned(), file);
        self.sources.remove(&key);
        self.stores.remove(&key);
    }

    /// A connection is no more. Its threads end once they have written down how far they have come.
    pub fn close(&mut self, id: PeerConnectionId) {
        let Some(LaneThreads { sending, taking }) = self.lanes.remove(&id) else { return };
        sending.map(|sending| sending.send(SendingMail::End));
        taking.map(|taking| taking.send(TakingMail::End));
    }

    /// Does as the engine wishes.
    pub fn work(
        &mut self,
        peer: String,
        file: FileId,
        connection: Option<(PeerConnectionId, FileKeys)>,
        work: Work,
        rtc: &Rtc,
    ) {
        let key = (peer, file);
        match (work, connection) {
            (Work::Send { take, from, digest_before }, Some((id, keys))) => {
                let Some(source) = self.sources.get(&key).cloned() else { return };
                let job = SendingJob { peer: key.0.clone(), file, take, from, digest_before, source };
                if self.sender(id, keys, rtc).is_none_or(|lane| lane.send(SendingMail::Send(job)).is_err()) {
                    self.fail(key, take);
                }
            }
            (Work::StopSending, Some((id, _))) => {
                let lane = self.lanes.get(&id).and_then(|lanes| lanes.sending.as_ref());
                lane.map(|lane| lane.send(SendingMail::Stop(file)));
            }
            (Work::Prepare { offered, identity, take }, Some((id, keys))) => {
                let Some(store) = self.stores.get(&key).cloned() else { return };
                let job = TakingJob { peer: key.0.clone(), offered, identity, take, store };
                if self.taker(id, keys, rtc).is_none_or(|lane| lane.send(TakingMail::Prepare(Box::new(job))).is_err()) {
                    self.fail(key, take);
                }
            }
            (Work::StopTaking { is_kept }, connection) => {
                let lane = connection.and_then(|(id, _)| self.lanes.get(&id)?.taking.as_ref());
                let is_told = lane.is_some_and(|lane| lane.send(TakingMail::Stop { file, is_kept }).is_ok());
                // It may wait for a thread that still writes.
                if let Some(store) = self.stores.get(&key).cloned().filter(|_| !is_told && !is_kept) {
                    let _ = spawn(self.working.clone(), move || lock(&store).discard(file));
                }
            }
            // Without a peer connection nothing is sent or prepared, and its threads end.
            (_, None) => {}
        }
    }

    /// The thread that sends over this connection.
    fn sender(&mut self, id: PeerConnectionId, keys: FileKeys, rtc: &Rtc) -> Option<&Sender<SendingMail>> {
        let lanes = self.lanes.entry(id).or_default();
        if lanes.sending.is_none() {
            let (mail, mailbox) = mpsc::channel();
            let (outbox, sealed) = tokio::sync::mpsc::channel(OUTBOX);
            let limit = Gauge::default();
            let ends = (outbox, limit.clone());
            let sending = Sending::new(keys.sealer(Way::There), keys.opener(Way::Back), ends, self.tell.clone());
            spawn(self.working.clone(), move || sending.run(&mailbox)).ok()?;
            let reports = mail.clone();
            let inbox = move |report| reports.send(SendingMail::Report(report)).is_ok();
            rtc.command(id, RtcCommand::SendFiles(FileThread { inbox: Box::new(inbox), outbox: sealed, limit }));
            lanes.sending = Some(mail);
        }
        lanes.sending.as_ref()
    }

    /// The thread that takes what comes over this connection.
    fn taker(&mut self, id: PeerConnectionId, keys: FileKeys, rtc: &Rtc) -> Option<&Sender<TakingMail>> {
        let lanes = self.lanes.entry(id).or_default();
        if lanes.taking.is_none() {
            let (mail, mailbox) = mpsc::channel();
            let (outbox, reports) = tokio::sync::mpsc::channel(OUTBOX);
            let (in_flight, limit) = (Gauge::default(), Gauge::default());
            // Reports are few.
            limit.set(usize::MAX);
            let (opener, sealer) = (keys.opener(Way::There), keys.sealer(Way::Back));
            let (takers, tell) = (self.takers.clone(), self.tell.clone());
            let window = rtc::receive_window(NEAR);
            let taking = Taking::new(opener, sealer, outbox, in_flight.clone(), (takers, window), tell);
            spawn(self.working.clone(), move || taking.run(&mailbox)).ok()?;
            let sealed = mail.clone();
            // A sender that keeps to its window never comes near it.
            let inbox = move |bytes: Vec<u8>| {
                in_flight.add(bytes.len());
                in_flight.get() <= MAX_IN_FLIGHT && sealed.send(TakingMail::Sealed(bytes)).is_ok()
            };
            rtc.command(id, RtcCommand::TakeFiles(FileThread { inbox: Box::new(inbox), outbox: reports, limit }));
            lanes.taking = Some(mail);
        }
        lanes.taking.as_ref()
    }

    fn fail(&self, (peer, file): Key, take: u64) {
        let trouble = Some("this machine has no thread for it; end some programs, and try again".to_owned());
        (self.tell)(DiskNews { peer, file, take, news: News::Failed { reason: EndReason::Failed, trouble } });
    }
}

impl Drop for Disk {
    /// Waits until it is written down how far each file has come; not for a stream that gives nothing.
    fn drop(&mut self) {
        self.lanes.clear();
        (self.working, _) = mpsc::channel();
        let _ = self.ended.recv_timeout(END_TIME);
    }
}

/// Starts a thread, which holds `working` until its end.
fn spawn(working: Sender<()>, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work = move || {
        work();
        drop(working);
    };
    threads::spawn("files", work).map(drop)
}

/// Messages that may wait for a data channel: one while the other is handed over.
const OUTBOX: usize = 2;

/// Bytes that may have come and not been written: a little more than the largest window, since each message has some
/// that do not count there.
const MAX_IN_FLIGHT: usize = 2 * taking::MAX_WINDOW as usize;

/// How long the end of a program waits for threads that write.
const END_TIME: Duration = Duration::from_secs(5);
