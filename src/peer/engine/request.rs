//! Somebody who calls us, until our user has said yes or no: *announced* once the server has opened a session, an
//! [`Approach`] once its greeting is answered, a [`Guest`] once its hello has proven who it is, and then a [`Request`].
//! (An old app is a request at once.) What is done about those who call is in `requests`.

use std::time::Instant;

use super::super::agreement::Agreement;
use super::super::candidate::Candidates;
use super::super::keys::PublicKey;
use super::proof::Guest;

/// Somebody's greeting is answered, and their hello awaited.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Approach {
    pub(super) agreement: Agreement,
    pub(super) deadline: Instant,
    /// What has come since cannot be read, so it is probably a hello to somebody else whom the caller knows by our
    /// name.
    pub(super) is_for_another: bool,
}

/// Somebody calls, and has said who they are.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Request {
    pub(super) caller: Caller,
    pub(super) state: RequestState,
    pub(super) deadline: Instant,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) enum Caller {
    /// An old app, with its key and the candidates that came before ours.
    OldApp(PublicKey, Candidates),
    /// Another of Lowkey's own programs.
    Guest(Box<Guest>),
    /// The same with this identity, which has called anew, so that its hello is awaited.
    Anew(PublicKey),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestState {
    /// The user was asked, and has not answered.
    Asked,
    /// The user has said yes, and a caller that has called anew in the meantime is awaited.
    Accepted,
    /// It carries on a chat, and is answered at this time without a question.
    Waiting(Instant),
    /// The user was told that it was refused, and may say so to it.
    Refused,
}

impl Request {
    pub(super) fn identity(&self) -> Option<PublicKey> {
        match &self.caller {
            Caller::OldApp(..) => None,
            Caller::Guest(guest) => Some(guest.identity),
            Caller::Anew(identity) => Some(*identity),
        }
    }

    /// Whether it is the user's to answer.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.state, RequestState::Asked | RequestState::Accepted)
    }

    /// When there is something to do about it.
    pub(super) fn next_deadline(&self) -> Instant {
        match self.state {
            RequestState::Waiting(due) if matches!(self.caller, Caller::Guest(_)) => due.min(self.deadline),
            _ => self.deadline,
        }
    }
}

/// How many approaches, and how many announcements, are kept: more than anybody has friends who call within the same
/// ten seconds, and few enough to cost nothing.
pub(super) const MAX_APPROACHES: usize = 64;
