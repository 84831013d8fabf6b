//! The data channel of a chat: a task that reads it and one that writes it, so that neither waits for the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use log::debug;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::error::Error;

use super::build::{NARROW_MTU, RtcEvent};
use super::caught::{Caught, Panicked};
use super::command::{InputSender, Queued};
use super::guarded::GuardedConnection;
use super::pace::Pace;
use super::stall::Stall;
use crate::peer::engine::{Input, PeerConnectionId};
use crate::peer::event::CloseReason;
use crate::trouble;

/// What the tasks of one connection have in common.
#[derive(Clone)]
pub struct Tasks {
    /// The connection's id.
    pub id: PeerConnectionId,
    /// Where what is read goes.
    pub inputs: InputSender,
    /// Where the connection's own task is told.
    pub rtc_events: UnboundedSender<RtcEvent>,
    /// How long WebRTC's driver may sleep.
    pub pace: Arc<Pace>,
    /// The guard, which is told of each message that was taken.
    pub guarded: Arc<GuardedConnection>,
    /// The way passes only short datagrams.
    pub is_narrow: bool,
}

/// The task that sends texts, one after another, as fast as the other side takes them.
pub struct Writer {
    /// Where texts are queued; the task ends once this is gone and all are sent.
    texts: UnboundedSender<(String, Queued)>,
    /// How many of them are not handed to WebRTC yet.
    left: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Queues a text.
    pub fn send(&self, text: String, waiting: Queued) {
        self.left.fetch_add(1, Ordering::Relaxed);
        // A task that could not go on has said so.
        let _ = self.texts.send((text, waiting));
    }

    /// Whether all that was queued is handed to WebRTC, or nothing can be any more.
    pub fn is_done(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0 || self.task.is_finished()
    }
}

impl Tasks {
    /// Starts to read the channel. WebRTC tells its reader when there is room for more, who hands that on.
    pub fn read(&self, channel: Arc<dyn DataChannel>, room: Arc<SendRoom>) -> JoinHandle<()> {
        let tasks = self.clone();
        self.spawn(async move { tasks.read_to_end(channel, room).await })
    }

    /// Starts to write the channel.
    pub fn write(&self, channel: Arc<dyn DataChannel>, room: Arc<SendRoom>) -> Writer {
        let (texts, queued) = mpsc::unbounded_channel();
        let left = Arc::new(AtomicUsize::new(0));
        let (tasks, unsent) = (self.clone(), left.clone());
        let task = self.spawn(async move { tasks.write_all(channel, queued, &unsent, room).await });
        Writer { texts, left, task }
    }

    async fn read_to_end(&self, channel: Arc<dyn DataChannel>, room: Arc<SendRoom>) {
        let (id, mut is_open, mut is_closed) = (self.id, false, false);
        let mut last_wait: Option<Instant> = None;
        loop {
            let event = if is_closed {
                // The crate tells of the end before the texts that it still holds for a slow reader.
                let is_slow = last_wait.is_some_and(|last_wait| last_wait.elapsed() < SLOW_READER);
                let patience = if is_slow { LAST_TEXTS_OF_SLOW } else { LAST_TEXTS };
                timeout(patience, channel.poll()).await.ok().flatten()
            } else {
                channel.poll().await
            };
            // Where the first text comes right behind, the crate tells of it before it tells of the opening.
            let is_opening = matches!(event, Some(DataChannelEvent::OnOpen | DataChannelEvent::OnMessage(_)));
            if is_opening && !is_open {
                is_open = true;
                self.pace.active();
                self.inputs.send(Input::Opened { id }).await;
            }
            match event {
                Some(DataChannelEvent::OnMessage(message)) => {
                    self.pace.active();
                    self.guarded.take();
                    let text = message.is_string.then(|| String::from_utf8(message.data.into()).ok()).flatten();
                    if self.inputs.send(Input::Received { id, text }).await {
                        last_wait = Some(Instant::now());
                    }
                }
                Some(DataChannelEvent::OnBufferedAmountLow) => room.grow(),
                Some(DataChannelEvent::OnClose) => is_closed = true,
                Some(_) => {}
                None => break,
            }
        }
        room.end();
        let _ = self.rtc_events.send(RtcEvent::Ended(CloseReason::PeerLeft));
    }

    async fn write_all(
        &self,
        channel: Arc<dyn DataChannel>,
        mut queued: UnboundedReceiver<(String, Queued)>,
        left: &AtomicUsize,
        room: Arc<SendRoom>,
    ) {
        let mut sent = Sent::new(self.clone(), channel.clone());
        // Told once what is on its way is no more than this.
        let _ = channel.set_buffered_amount_low_threshold(SEND_BUFFER as u32 - 1).await;
        while let Some((text, _queued)) = queued.recv().await {
            sent.begin(text.len());
            room.wait(&*channel, SEND_BUFFER).await;
            if let Err(error) = channel.send_text(&text).await {
                let _ = self.rtc_events.send(RtcEvent::Ended(failed(&error)));
                break;
            }
            sent.done(text.len());
            left.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Runs a task of the connection. If it panics, the connection ends.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let rtc_events = self.rtc_events.clone();
        tokio::spawn(async move {
            if Caught::new(Box::pin(future)).await == Err(Panicked) {
                let _ = rtc_events.send(RtcEvent::Ended(CloseReason::Crashed));
            }
        })
    }
}

/// What is sent over one channel. While something long is on its way, a task watches over it.
pub(super) struct Sent {
    tasks: Tasks,
    channel: Arc<dyn DataChannel>,
    bytes: Arc<AtomicUsize>,
    watch: Option<JoinHandle<()>>,
}

impl Sent {
    /// Nothing yet.
    pub(super) fn new(tasks: Tasks, channel: Arc<dyn DataChannel>) -> Self {
        Self { tasks, channel, bytes: Arc::default(), watch: None }
    }

    /// A message of so many bytes is about to be sent.
    pub(super) fn begin(&mut self, length: usize) {
        self.tasks.pace.active();
        if length > SHORT && self.watch.as_ref().is_none_or(JoinHandle::is_finished) {
            let (tasks, channel, bytes) = (self.tasks.clone(), self.channel.clone(), self.bytes.clone());
            self.watch = Some(self.tasks.spawn(async move { tasks.watch_over(channel, &bytes).await }));
        }
    }

    /// It was handed to WebRTC.
    pub(super) fn done(&self, length: usize) {
        self.bytes.fetch_add(length, Ordering::Relaxed);
    }
}

impl Tasks {
    /// Watches over what is on its way until all of it has arrived, or a stall is told.
    async fn watch_over(&self, channel: Arc<dyn DataChannel>, sent: &AtomicUsize) {
        let mut stall = Stall::new(Instant::now());
        loop {
            tokio::time::sleep(STALL_POLL).await;
            match channel.outstanding_bytes().await {
                Err(_) | Ok(0) => return,
                Ok(outstanding) => {
                    let (sent, heard) = (sent.load(Ordering::Relaxed), self.pace.heard());
                    if stall.is_one(sent, outstanding, heard, self.is_narrow, Instant::now()) {
                        let _ = self.rtc_events.send(RtcEvent::Stalled);
                        return;
                    }
                }
            }
        }
    }
}

/// The room that a channel has for more, as the task that reads it hears of it and the one that writes it waits for it.
#[derive(Default)]
pub(super) struct SendRoom {
    bell: Notify,
    is_over: AtomicBool,
}

impl SendRoom {
    /// Less is on its way than was.
    pub(super) fn grow(&self) {
        self.bell.notify_one();
    }

    /// Nothing more comes of the channel, and what is on its way stays there: WebRTC counts it for ever.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.bell.notify_one();
    }

    /// Waits until less than so many bytes are on their way, or the channel has ended.
    pub(super) async fn wait(&self, channel: &dyn DataChannel, limit: usize) {
        while !self.is_over.load(Ordering::Relaxed)
            && channel.outstanding_bytes().await.is_ok_and(|outstanding| outstanding >= limit)
        {
            let _ = timeout(ROOM_POLL, self.bell.notified()).await;
        }
    }
}

/// What this machine lacks for a connection, if no file can be opened any more. The crate does not say so: it fails
/// without a reason, or goes on without the sockets that it could not have.
pub fn lack() -> Option<CloseReason> {
    let lack = std::fs::File::open("/dev/null").err()?;
    Some(CloseReason::NotBegun { message: trouble::lacking(&lack) })
}

/// What is told where no connection can be begun, which is for lack of something on this machine.
pub fn not_begun(error: &Error) -> CloseReason {
    debug!("webrtc: {error}");
    lack().unwrap_or(CloseReason::NotBegun { message: "call again".to_owned() })
}

/// What is told where the crate cannot go on: its own words are for those who look into it.
pub fn failed(error: &Error) -> CloseReason {
    debug!("webrtc: {error}");
    CloseReason::Failed { message: "WebRTC could not go on; call again".to_owned() }
}

/// Bytes of one chat that may be on their way. More would only wait at the receiver, and a text behind them.
const SEND_BUFFER: usize = 65_536;

/// How often it is looked whether there is room where nobody says so: the reader, whom WebRTC tells, waits for a user
/// who takes nothing.
const ROOM_POLL: Duration = Duration::from_millis(16);

/// Bytes of a text that fits into one such packet, and how often it is looked whether a longer one arrives.
const SHORT: usize = NARROW_MTU as usize - 28;
const STALL_POLL: Duration = Duration::from_millis(500);

/// How long to look for texts behind the end of a channel. Where the reader was slow of late, the crate may hold some,
/// and hands them on in its own time.
const LAST_TEXTS: Duration = Duration::from_millis(20);
const LAST_TEXTS_OF_SLOW: Duration = Duration::from_millis(1500);
const SLOW_READER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_words_of_ours() {
        let error = Error::ErrDataChannelClosed;
        let told = failed(&error).to_string();
        assert!(!told.contains(&error.to_string()) && told.contains("call again"), "{told}");
    }
}
