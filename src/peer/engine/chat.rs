//! An open or interrupted chat with one peer: its connection, and what of it outlives that. What is done about chats is
//! in `chats` and `resume`.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::super::event::{CloseReason, Event, NotSentReason};
use super::super::files::ChatFiles;
use super::super::frame::{Frame, Instance};
use super::super::keys::PublicKey;
use super::super::texts::{Kept, Texts};
use super::channel::PeerConnection;
use super::interface::{Output, PeerConnectionId, Round};

/// An open chat with one peer.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Chat {
    /// `None` while it is interrupted.
    pub(super) connection: Option<PeerConnection>,
    /// Who the peer has proven to be.
    pub(super) identity: Option<PublicKey>,
    /// What outlives the peer connection; `None` with an old app, which acknowledges nothing.
    pub(super) lasting: Option<Lasting>,
}

/// What of a chat outlives its peer connection.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Lasting {
    /// The chat's number, as receipts have it.
    pub(super) number: u64,
    /// Our own side of the chat, and the peer's.
    pub(super) instances: [Instance; 2],
    pub(super) texts: Texts,
    pub(super) files: ChatFiles,
    /// Whether the other side's program knows of files.
    pub(super) knows_files: bool,
    /// The longest text that goes through, in bytes.
    pub(super) longest: usize,
    /// When to say how far our user has come, if no text says so before.
    pub(super) tell_at: Option<Instant>,
    /// When its other side was last answered without a question.
    pub(super) answered_at: Option<Instant>,
    pub(super) state: LastingState,
}

impl Lasting {
    /// Something was taken: the other side is told within [`TELL_TIME`], if no text tells it before.
    pub(super) fn tell_soon(&mut self, now: Instant) {
        if self.texts.is_due() {
            self.tell_at.get_or_insert(now + TELL_TIME);
        }
    }
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) enum LastingState {
    Connected,
    /// The user has left. Until then, what was sent may still be acknowledged.
    Leaving(Instant),
    Interrupted {
        since: Instant,
        /// When it is given up.
        until: Instant,
        /// How many calls have come to nothing.
        attempts: u32,
        /// When to call next, if there is room for a call.
        next: Instant,
        /// When it was called last.
        sought: Option<Instant>,
    },
}

/// A chat that one side has left, or both, until its peer connection has ended too. Where the other side has left, what
/// our user still takes of the chat is acknowledged.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct LeftChat {
    /// The chat's number, where our user may still take something of it.
    pub(super) chat: Option<u64>,
    pub(super) connection: PeerConnection,
    pub(super) texts: Texts,
    /// The other side's farewell has come.
    pub(super) is_heard: bool,
    /// The other side's farewell was answered.
    pub(super) is_answered: bool,
    /// We have said `stop`, behind which nothing is said.
    pub(super) is_stopped: bool,
    /// When the peer connection is ended, once there is nothing else to wait for.
    pub(super) deadline: Option<Instant>,
}

impl Chat {
    pub(super) fn has_connection(&self, id: PeerConnectionId) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.id == id)
    }

    pub(super) fn unkept_connection(&self) -> Option<PeerConnectionId> {
        self.connection.as_ref().filter(|_| self.lasting.is_none()).map(|connection| connection.id)
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.lasting.as_ref().map_or(0, |lasting| lasting.texts.bytes())
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.lasting.as_ref().is_some_and(|lasting| matches!(lasting.state, LastingState::Interrupted { .. }))
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.lasting.as_ref().is_some_and(|lasting| matches!(lasting.state, LastingState::Leaving(_)))
    }

    /// Whether a call of the other side may carry it on.
    pub(super) fn may_be_carried_on(&self) -> bool {
        self.lasting.is_some() && !self.is_leaving()
    }

    /// When it has something to do. `next_seek`: when there is room for a call that carries a chat on; while there is
    /// no server, never.
    pub(super) fn next_deadline(&self, next_seek: Option<Instant>) -> Option<Instant> {
        let lasting = self.lasting.as_ref()?;
        let state = match &lasting.state {
            LastingState::Connected => None,
            LastingState::Leaving(until) => Some(*until),
            LastingState::Interrupted { until, next, .. } => {
                Some(next_seek.map_or(*until, |next_seek| next_seek.max(*next).min(*until)))
            }
        };
        lasting.tell_at.into_iter().chain(state).chain(lasting.files.next_deadline()).min()
    }

    /// Where it stands among those that are to be called, if it is: first who was not called since the loss, of them
    /// the newest, and then whose call is longest ago.
    pub(super) fn seek_order(&self, now: Instant) -> Option<(Option<Instant>, Reverse<Instant>)> {
        match &self.lasting.as_ref()?.state {
            LastingState::Interrupted { since, next, sought, .. } if *next <= now => Some((*sought, Reverse(*since))),
            _ => None,
        }
    }

    /// The other side is being called.
    pub(super) fn was_sought(&mut self, now: Instant) {
        if let Some(Lasting { state: LastingState::Interrupted { sought, .. }, .. }) = &mut self.lasting {
            *sought = Some(now);
        }
        self.await_call();
    }

    /// The other side is not called until the call that there is has come to nothing.
    pub(super) fn await_call(&mut self) {
        if let Some(Lasting { state: LastingState::Interrupted { until, next, .. }, .. }) = &mut self.lasting {
            *next = *until;
        }
    }

    /// Whether what the user writes is a reason to call, since it would be long until the next call, and the last one
    /// was not just now.
    pub(super) fn is_to_be_sought_for_text(&self, now: Instant) -> bool {
        match self.lasting.as_ref().map(|lasting| &lasting.state) {
            Some(LastingState::Interrupted { next, sought, .. }) => {
                *next > now + FIRST_PAUSE && sought.is_none_or(|sought| now >= sought + WRITTEN_PAUSE)
            }
            _ => false,
        }
    }

    /// Calls at this time, if it is interrupted, and soon again if that comes to nothing.
    pub(super) fn seek_at(&mut self, now: Instant) {
        if let Some(Lasting { state: LastingState::Interrupted { attempts, next, .. }, .. }) = &mut self.lasting {
            (*attempts, *next) = (0, now);
        }
    }

    /// A call has come to nothing; another is made after a pause.
    pub(super) fn seek_again(&mut self, reason: &CloseReason, now: Instant) {
        if let Some(Lasting { state: LastingState::Interrupted { attempts, next, .. }, .. }) = &mut self.lasting {
            let pause = match reason {
                // It rang for a minute, so somebody's program is there, but has no such chat any more.
                CloseReason::NoAnswer | CloseReason::NoHello => UNANSWERED_PAUSE,
                _ => LONGEST_PAUSE.min(FIRST_PAUSE * 2u32.saturating_pow(*attempts)),
            };
            *attempts += 1;
            *next = now + pause;
        }
    }
}

impl LeftChat {
    /// A chat that our user has left, and of which all was acknowledged, or is not waited for.
    pub(super) fn by_us(connection: PeerConnection, now: Instant) -> Self {
        let (texts, deadline) = (Texts::default(), Some(now + LEAVE_TIME));
        Self { chat: None, connection, texts, is_heard: false, is_answered: true, is_stopped: false, deadline }
    }

    pub(super) fn has_connection(&self, id: PeerConnectionId) -> bool {
        self.connection.id == id
    }

    /// Acknowledges what was taken; with the last of it we say that we leave too, and that we have heard.
    pub(super) fn tell(&mut self, round: &mut Round<'_>) {
        if !self.texts.is_all_taken() {
            if self.texts.is_due() {
                self.connection.transmit(&Frame::taken(self.texts.tell()), round);
            }
        } else if !self.is_answered {
            self.is_answered = true;
            for _ in 0..2 {
                self.connection.transmit(&Frame::leave(self.texts.tell()), round);
            }
            self.deadline.get_or_insert(round.now + LEAVE_TIME);
        }
    }
}

/// A text that was kept comes back.
pub(super) fn not_sent(peer: &str, kept: Kept) -> Output {
    let Kept { id, text, is_transmitted } = kept;
    let reason = if is_transmitted { NotSentReason::Unconfirmed } else { NotSentReason::NotOpen };
    Output::Event(Event::NotSent { peer: peer.to_owned(), id, text, reason })
}

/// How long an acknowledgement may wait for a text to go along with.
const TELL_TIME: Duration = Duration::from_millis(10);

/// How long who leaves waits until all is acknowledged, and who was left until the connection is closed.
pub(super) const LEAVE_TIME: Duration = Duration::from_secs(30);

/// The first pause between calls that carry a chat on.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest of these, of which each is twice as long as the one before, and the one after a call that nobody took.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const UNANSWERED_PAUSE: Duration = Duration::from_secs(300);

/// How long after a call what the user writes is no reason to call again.
const WRITTEN_PAUSE: Duration = Duration::from_secs(5);
