//! The queue of events between a peer's thread and its user, with both of its ends. It is bounded: events for which the
//! user has no room wait on the thread's side, and the thread sees how many these are. What the user has taken goes
//! back the other way.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mio::Waker;

use super::engine::Receipt;
use super::event::Event;
use super::files::note::FileId;
use super::settings::Wake;
use crate::lock::lock;

/// What happens to a [`Peer`](super::Peer), in order. Ends when the peer has shut down.
///
/// Whoever asks for the next event has dealt with the one before, so a text is acknowledged to its sender only then.
/// The last text before a program breaks off is not acknowledged. Who stores texts later, or elsewhere, asks for their
/// [receipts](Self::receipt).
pub struct Events {
    receiver: Receiver<Queued>,
    taken: Arc<Mutex<Taken>>,
    is_full: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Events {
    /// The next event, if one comes within `timeout`.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Event> {
        self.come_back();
        let queued = self.receiver.recv_timeout(timeout).ok()?;
        Some(self.hand_out(queued))
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if there is none yet; [`TryRecvError::Disconnected`] if there will be none, as the peer
    /// has shut down.
    pub fn try_next(&mut self) -> Result<Event, TryRecvError> {
        self.come_back();
        let queued = self.receiver.try_recv()?;
        Ok(self.hand_out(queued))
    }

    /// The receipt of the text that was given out last. Once it is asked for, that text counts as taken not when the
    /// next event is asked for, but when [`Peer::taken`](super::Peer::taken) is told so. `None` where the last event
    /// was no text, where its receipt was asked for already, and where it came from an old app, which waits for no
    /// acknowledgement.
    pub fn receipt(&mut self) -> Option<Receipt> {
        lock(&self.taken).last.take()
    }

    /// Learns that the event before is dealt with.
    fn come_back(&mut self) {
        if lock(&self.taken).add_last() {
            let _ = self.waker.wake();
        }
    }

    fn hand_out(&mut self, queued: Queued) -> Event {
        if self.is_full.swap(false, Ordering::AcqRel) {
            let _ = self.waker.wake();
        }
        lock(&self.taken).last = queued.receipt;
        queued.event
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.come_back();
        let queued = self.receiver.recv().ok()?;
        Some(self.hand_out(queued))
    }
}

/// The end of the queue that the peer's thread holds.
pub struct EventSender {
    sender: SyncSender<Queued>,
    /// What tells the user of new events, where that is wanted.
    wake: Option<Wake>,
    /// Events for which the user has no room yet.
    undelivered: VecDeque<Queued>,
    /// Set while events wait, so that whoever takes one wakes the thread.
    is_full: Arc<AtomicBool>,
    taken: Arc<Mutex<Taken>>,
}

/// Makes the queue. Its user wakes the thread by `waker`, and the thread its user by `wake`.
pub fn queue(waker: Arc<Waker>, wake: Option<Wake>) -> (EventSender, Events) {
    let (sender, receiver) = mpsc::sync_channel(EVENTS);
    let (is_full, taken) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Taken>>::default());
    let events = Events { receiver, taken: taken.clone(), is_full: is_full.clone(), waker };
    (EventSender { sender, wake, undelivered: VecDeque::new(), is_full, taken }, events)
}

impl EventSender {
    /// Keeps an event for the user.
    pub fn tell(&mut self, event: Event) {
        // A word of what was delivered says all that the one before it said, and takes its place.
        if let (Event::Delivered { peer, .. }, Some(Queued { event: last @ Event::Delivered { .. }, .. })) =
            (&event, self.undelivered.back_mut())
            && matches!(&last, Event::Delivered { peer: before, .. } if before == peer)
        {
            *last = event;
            return;
        }
        // And so does a word of how far a file has come, if the last that is said of that file was such a word too.
        if let Event::FileProgress { peer, file, .. } = &event {
            let last = self.undelivered.iter_mut().rev().find(|queued| is_on_its_way(&queued.event, peer, *file));
            if let Some(Queued { event: last @ Event::FileProgress { .. }, .. }) = last {
                *last = event;
                return;
            }
        }
        self.undelivered.push_back(Queued { event, receipt: None });
    }

    /// Keeps a text for the user, with the receipt that acknowledges it once it is taken.
    pub fn tell_message(&mut self, peer: String, text: String, receipt: Option<Receipt>) {
        self.undelivered.push_back(Queued { event: Event::Message { peer, text }, receipt });
    }

    /// Hands the user as many events as there is room for.
    pub fn deliver(&mut self) {
        let mut is_news = false;
        while let Some(queued) = self.undelivered.pop_front() {
            match self.sender.try_send(queued) {
                Ok(()) => is_news = true,
                Err(TrySendError::Full(queued)) => {
                    self.undelivered.push_front(queued);
                    // Room may have been made just before the flag was seen, so it is tried once more.
                    if self.is_full.swap(true, Ordering::AcqRel) {
                        break;
                    }
                }
                // Nobody listens any more.
                Err(TrySendError::Disconnected(_)) => self.undelivered.clear(),
            }
        }
        if is_news && let Some(wake) = &self.wake {
            wake();
        }
    }

    /// Whether no event waits for room.
    pub fn are_delivered(&self) -> bool {
        self.undelivered.is_empty()
    }

    /// How many events wait until there is room.
    pub fn undelivered(&self) -> usize {
        self.undelivered.len()
    }

    /// The texts that the user has taken since this was asked last.
    pub fn taken(&self) -> Vec<Receipt> {
        std::mem::take(&mut lock(&self.taken).done)
    }

    /// Takes the event that was given out last as dealt with, or as never taken.
    pub fn close_last(&self, is_dealt_with: bool) {
        let mut taken = lock(&self.taken);
        if is_dealt_with {
            taken.add_last();
        } else {
            taken.last = None;
        }
    }

    /// Ends the queue. A user who is woken then finds that it has ended.
    pub fn end(self) {
        let Self { sender, wake, .. } = self;
        drop(sender);
        if let Some(wake) = wake {
            wake();
        }
    }
}

/// Whether an event tells how this file fares on its way.
fn is_on_its_way(event: &Event, peer: &str, file: FileId) -> bool {
    match event {
        Event::FileStarted { peer: of, file: this, .. }
        | Event::FileProgress { peer: of, file: this, .. }
        | Event::FilePaused { peer: of, file: this, .. } => (&**of, *this) == (peer, file),
        _ => false,
    }
}

/// An event on its way to the user.
struct Queued {
    event: Event,
    /// Of a text that is acknowledged.
    receipt: Option<Receipt>,
}

/// The texts that the user has taken and the thread does not know of yet: the last of each run of texts of one chat.
#[derive(Debug, Default)]
struct Taken {
    /// Of the event that was given out last.
    last: Option<Receipt>,
    /// Of those before it.
    done: Vec<Receipt>,
}

impl Taken {
    /// Learns that the event that was given out last is dealt with, and returns whether the thread has to hear of that.
    fn add_last(&mut self) -> bool {
        let Some(receipt) = self.last.take() else { return false };
        let is_first = self.done.is_empty();
        match self.done.last_mut().filter(|last| last.chat == receipt.chat) {
            Some(last) => *last = receipt,
            None => self.done.push(receipt),
        }
        is_first
    }
}

/// Events that may wait for the user. Each may be a text of up to 196 KB.
const EVENTS: usize = 128;

#[cfg(test)]
mod tests {
    use super::super::files::note::PauseReason;
    use super::*;

    #[test]
    fn how_far_a_file_has_come_is_told_once_and_never_before_what_came_earlier() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let (mut sender, events) = queue(waker, None);
        let (peer, file) = (|| "bob".to_owned(), FileId([1; 16]));
        let progress = |file, done| Event::FileProgress { peer: peer(), file, done };
        let paused = || Event::FilePaused { peer: peer(), file, reason: PauseReason::Stalled };
        let other = FileId([2; 16]);
        for event in [
            progress(file, 1),
            progress(other, 5),
            progress(file, 2),
            paused(),
            progress(file, 3),
            progress(other, 6),
            progress(file, 4),
        ] {
            sender.tell(event);
        }
        sender.deliver();
        sender.end();
        let told: Vec<Event> = events.collect();
        assert_eq!(told, [progress(file, 2), progress(other, 6), paused(), progress(file, 4)]);
    }
}
