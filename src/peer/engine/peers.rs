//! All with whom there is something, and what is to be thought of them (protocol 2.5).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::super::event::CloseReason;
use super::super::ice::IceServer;
use super::super::keys::PublicKey;
use super::super::trust::{Known, Trust};
use super::call::{ANSWER_TIME, Call};
use super::chat::{Chat, LeftChat};
use super::interface::{PeerConnectionId, Round};
use super::pacing::Pacing;
use super::request::{Approach, MAX_APPROACHES, Request};

/// All with whom there is a chat, a call or a request, by name.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Peers {
    pub(super) is_online: bool,
    /// With whom the server has opened sessions: how many greetings of theirs count, and until when.
    pub(super) announced: BTreeMap<String, (u32, Instant)>,
    /// Whose greeting is answered, and whose hello is awaited.
    pub(super) approaches: BTreeMap<String, Approach>,
    pub(super) requests: BTreeMap<String, Request>,
    pub(super) calls: BTreeMap<String, Call>,
    /// Beside an open or interrupted chat there may be a call that is to carry it on.
    pub(super) chats: BTreeMap<String, Chat>,
    /// Chats that were left, and whose peer connections have not ended.
    pub(super) left: Vec<LeftChat>,
    /// With whom the server was asked for a session (`session:connect`) and has not answered: it answers in the same
    /// order, also about a call that was left in the meantime.
    pub(super) unanswered: VecDeque<String>,
    pub(super) connections: BTreeMap<PeerConnectionId, String>,
    pub(super) pacing: Pacing,
    /// Peers to whom the way passes only short datagrams.
    pub(super) narrow: BTreeSet<String>,
    /// The STUN and TURN servers that the server has named last.
    pub(super) offered: Vec<IceServer>,
    pub(super) next_id: u64,
    pub(super) next_chat: u64,
    pub(super) dropped: u64,
}

impl Peers {
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let approaches = self.approaches.values().map(|approach| approach.deadline);
        let requests = self.requests.values().map(Request::next_deadline);
        let calls = self.calls.values().map(|call| call.deadline);
        let next_seek = self.is_online.then(|| self.pacing.next_seek(now));
        let chats = self.chats.values().filter_map(|chat| chat.next_deadline(next_seek));
        let left = self.left.iter().filter_map(|left| left.deadline);
        let waiting = self.pacing.has_waiting().then(|| self.pacing.next_own(now));
        approaches.chain(requests).chain(calls).chain(chats).chain(left).chain(waiting).min()
    }

    pub(super) fn peers(&self) -> Vec<String> {
        let calls = self.calls.iter().filter(|(_, call)| call.farewell.is_none()).map(|(peer, _)| peer);
        let requests = self.requests.iter().filter(|(_, request)| request.is_asked()).map(|(peer, _)| peer);
        let names: BTreeSet<&String> = self.chats.keys().chain(calls).chain(requests).collect();
        names.into_iter().cloned().collect()
    }

    /// The server has answered a `session:connect`: takes it off the list, and returns whether one to this peer was
    /// there.
    pub(super) fn take_unanswered(&mut self, peer: &str) -> bool {
        let index = self.unanswered.iter().position(|called| called == peer);
        index.and_then(|index| self.unanswered.remove(index)).is_some()
    }

    pub(super) fn drop_message(&mut self) {
        self.dropped += 1;
    }

    /// What is to be thought of somebody who has proven this identity, or none.
    pub(super) fn judge(
        &self,
        peer: &str,
        identity: Option<PublicKey>,
        round: &Round<'_>,
    ) -> Result<Trust, CloseReason> {
        match (round.setup.known.get(peer), identity) {
            (Some(known), Some(identity)) if known.identity == identity => {
                Ok(if known.is_verified { Trust::Verified } else { Trust::Known })
            }
            (Some(known), identity) => Err(changed(known.clone(), identity, round)),
            (None, Some(_)) => Ok(Trust::New),
            (None, None) if round.setup.is_strict => Err(CloseReason::Unproven),
            (None, None) => Ok(Trust::Unproven),
        }
    }

    /// Judges whom we have called by what is known of it, and by who it was in the chat that is to be carried on.
    pub(super) fn judge_called(
        &self,
        peer: &str,
        identity: Option<PublicKey>,
        round: &Round<'_>,
    ) -> Result<Trust, CloseReason> {
        let trust = self.judge(peer, identity, round)?;
        match self.chats.get(peer).and_then(|chat| chat.identity) {
            Some(before) if identity != Some(before) => {
                let known = Known { identity: before, is_verified: false };
                Err(changed(known, identity, round))
            }
            _ => Ok(trust),
        }
    }

    /// The identity that somebody of this name has to prove, as far as one is known: by the user, or from the chat that
    /// there is.
    pub(super) fn known_identity(&self, peer: &str, round: &Round<'_>) -> Option<PublicKey> {
        let known = round.setup.known.get(peer).map(|known| known.identity);
        known.or_else(|| self.chats.get(peer).and_then(|chat| chat.identity))
    }

    /// The server has opened a session with somebody, so one greeting of theirs counts.
    pub(super) fn announce(&mut self, peer: String, round: &mut Round<'_>) {
        let (count, until) = self.announced.entry(peer).or_insert((0, round.now));
        *count = (*count + 1).min(MAX_ANNOUNCED);
        *until = round.now + ANSWER_TIME;
        if self.announced.len() > MAX_APPROACHES {
            let oldest = self.announced.iter().min_by_key(|(_, (_, until))| *until).map(|(peer, _)| peer.clone());
            oldest.map(|peer| self.announced.remove(&peer));
        }
    }

    /// Somebody greets us: uses up one announcement of theirs, and returns whether there was one.
    pub(super) fn take_announcement(&mut self, peer: &str, round: &Round<'_>) -> bool {
        let Some((count, until)) = self.announced.get_mut(peer) else { return false };
        let counts = *until > round.now;
        *count -= 1;
        if *count == 0 || !counts {
            self.announced.remove(peer);
        }
        counts
    }
}

fn changed(known: Known, identity: Option<PublicKey>, round: &Round<'_>) -> CloseReason {
    CloseReason::IdentityChanged { own: round.setup.identity.public(), known: Box::new(known), identity }
}

/// Greetings of one name that count, since so many sessions with it were opened: two where both have called at once.
const MAX_ANNOUNCED: u32 = 4;
