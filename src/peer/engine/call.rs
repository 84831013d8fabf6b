//! A call with one peer: how far it is, and what ends it. What is done about calls is in `calls`.

use std::time::{Duration, Instant};

use super::super::agreement::{Agreement, OwnKeys, Side};
use super::super::boxes::Boxes;
use super::super::event::CloseReason;
use super::super::frame::{ChatPosition, Instance};
use super::super::hello::Refusal;
use super::super::keys::PublicKey;
use super::channel::{Negotiation, PeerConnection};
use super::interface::{PeerConnectionId, Round};
use crate::protocol::MessageType;

/// A call with one peer, which becomes a chat or carries one on.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Call {
    pub(super) id: PeerConnectionId,
    pub(super) side: Side,
    pub(super) stage: CallStage,
    /// When to give up.
    pub(super) deadline: Instant,
    /// It is there to say that our user has left a chat, and nothing else.
    pub(super) farewell: Option<Farewell>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) enum CallStage {
    /// The server is asked for a session.
    Calling,
    /// Our greeting is sent (C1).
    Greeting(OwnKeys),
    /// The other side has answered as an old app does, and our user has not said that the call may go on. An offer of
    /// its own waits behind it: it has called at the same time.
    OldApp(Negotiation, Option<String>),
    /// Our hello is sent (C2), and the other side's awaited.
    AwaitingHello { agreement: Agreement, first: Vec<u8>, instance: Instance },
    /// The other side called while our user wanted to, and was answered (S1); its hello is awaited. `calls_then`: if
    /// that does not come, or cannot be read, our user's call goes out after all.
    Greeted { agreement: Agreement, calls_then: bool },
    /// Both want to talk, and know who they are.
    Negotiating(Negotiation),
    /// The data channel is open that a chat is to go on by, and a first frame on it is awaited.
    Confirming(PeerConnection),
}

impl Call {
    /// Why it ends when its time is up. `is_resuming`: it is to carry a chat on. `is_known`: who was called should have
    /// proven who they are.
    pub(super) fn overdue(&self, is_resuming: bool, is_known: bool) -> CloseReason {
        match &self.stage {
            // The server may be out of reach without a word.
            CallStage::Calling if is_resuming => CloseReason::ServerLost,
            CallStage::Greeting(_) | CallStage::Greeted { .. } if is_resuming => CloseReason::NoConnection,
            CallStage::AwaitingHello { .. } if is_known => CloseReason::NoHello,
            CallStage::Calling
            | CallStage::Greeting(_)
            | CallStage::Greeted { .. }
            | CallStage::AwaitingHello { .. } => CloseReason::NoAnswer,
            // Our user has not said yes.
            CallStage::OldApp(..) => CloseReason::Left,
            CallStage::Negotiating(negotiation)
                if self.side == Side::Called && !negotiation.is_described() && !is_resuming =>
            {
                CloseReason::NoAnswer
            }
            CallStage::Negotiating(negotiation) => negotiation.no_connection(),
            // The connection that was just there may be gone again.
            CallStage::Confirming(_) => CloseReason::ConnectionLost,
        }
    }

    /// Why it ends when its connection does.
    pub(super) fn closed(&self, reason: CloseReason) -> CloseReason {
        match (&self.stage, reason) {
            // What never came about was not lost.
            (CallStage::Negotiating(negotiation), CloseReason::ConnectionLost) => negotiation.no_connection(),
            (_, reason) => reason,
        }
    }

    /// The other side's key for this call.
    fn other_key(&self) -> Option<PublicKey> {
        match &self.stage {
            CallStage::Calling | CallStage::Greeting(_) => None,
            CallStage::OldApp(negotiation, _) => Some(negotiation.other.key),
            CallStage::AwaitingHello { agreement, .. } | CallStage::Greeted { agreement, .. } => {
                Some(agreement.other_key())
            }
            CallStage::Negotiating(negotiation) => Some(negotiation.other.key),
            CallStage::Confirming(connection) => Some(connection.other.key),
        }
    }

    /// What the other side's sealed signals are opened with.
    pub(super) fn signals(&mut self) -> Option<&mut Boxes> {
        match &mut self.stage {
            CallStage::Calling | CallStage::Greeting(_) | CallStage::OldApp(..) => None,
            CallStage::AwaitingHello { agreement, .. } | CallStage::Greeted { agreement, .. } => {
                Some(agreement.signals())
            }
            CallStage::Negotiating(negotiation) => negotiation.signals.as_mut(),
            CallStage::Confirming(connection) => connection.signals.as_mut(),
        }
    }

    /// Whether our user's call goes out if that of the other side comes to nothing.
    pub(super) fn calls_then(&self) -> bool {
        matches!(self.stage, CallStage::Greeted { calls_then: true, .. }) && self.farewell.is_none()
    }

    /// Whether the other side is an old app.
    pub(super) fn is_with_old_app(&self) -> bool {
        match &self.stage {
            CallStage::OldApp(..) => true,
            CallStage::Negotiating(negotiation) => negotiation.signals.is_none(),
            _ => false,
        }
    }

    /// Who the other side has proven to be, and where it is in the chat.
    pub(super) fn proven(&self) -> Option<(PublicKey, ChatPosition)> {
        match &self.stage {
            CallStage::Negotiating(Negotiation { other, position, .. })
            | CallStage::Confirming(PeerConnection { other, position, .. }) => Some((other.identity?, (*position)?)),
            _ => None,
        }
    }

    /// Whether this key of the other side is no news.
    pub(super) fn has_key(&self, key: PublicKey) -> bool {
        self.other_key() == Some(key)
    }

    /// Tells the other side that our user does not want to talk any more, where it can be told yet.
    pub(super) fn decline(&mut self, peer: &str, round: &mut Round<'_>) {
        match &mut self.stage {
            CallStage::Calling | CallStage::Confirming(_) => {}
            // It may be an old app, which rings.
            CallStage::Greeting(_) => round.decline(peer),
            CallStage::AwaitingHello { agreement, .. } | CallStage::Greeted { agreement, .. } => {
                let sealed = agreement.signals().seal(&Refusal::Declined.write());
                round.sealed(MessageType::SignalIce, peer, sealed);
            }
            CallStage::OldApp(negotiation, _) | CallStage::Negotiating(negotiation) => negotiation.decline(peer, round),
        }
    }
}

/// A call that says that our user has left a chat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Farewell {
    /// Whom the chat was with.
    pub(super) identity: PublicKey,
    /// Where we are in it.
    pub(super) position: ChatPosition,
}

/// Why a call comes to nothing for which there was no room in time.
pub(super) fn too_many_calls() -> CloseReason {
    let message = "too many calls at once; try again in a minute".to_owned();
    CloseReason::Refused { code: RATE_LIMITED.to_owned(), message }
}

/// The server's word for more than it takes (protocol 1.2).
pub(super) const RATE_LIMITED: &str = "RATE_LIMITED";

/// How long a request waits for its user, and a caller for an answer.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(60);

/// How long a caller may take for its hello once it was answered, and the other side for its first frame once the data
/// channel is open.
pub(super) const HELLO_TIME: Duration = Duration::from_secs(10);

/// How long the server may take to answer a call that is to carry a chat on, and the other side its greeting.
pub(super) const SEEK_TIME: Duration = Duration::from_secs(10);
