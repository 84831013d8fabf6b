//! What both sides of a call know of each other and of the peer connection between them, while it is sought and once it
//! is open.

use serde::Serialize;

use super::super::agreement::Agreement;
use super::super::boxes::{self, Boxes};
use super::super::candidate::{Candidate, Candidates, Kind, Trickle};
use super::super::cipher::{Cipher, Exhausted, OpenError, Opened};
use super::super::description::{DEFAULT_MAX_MESSAGE, Description, Layout, MAX_MESSAGE};
use super::super::event::CloseReason;
use super::super::files::lane::FileKeys;
use super::super::frame::{ChatPosition, Instance, TEXT_EXTRA_BYTES};
use super::super::hello::{Refusal, padded};
use super::super::keys::PublicKey;
use super::interface::{Output, PeerConnectionId, Round};
use crate::protocol::{self, MessageType};

/// What texts are sealed with.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) enum Sealing {
    /// With an old app (protocol 1.4).
    OldApp(Cipher),
    /// With another of Lowkey's own programs (2.2).
    Ours(Boxes),
}

impl Sealing {
    pub(super) fn seal(&mut self, bytes: &[u8]) -> Result<String, Exhausted> {
        match self {
            Self::OldApp(cipher) => cipher.seal(bytes),
            Self::Ours(boxes) => boxes.seal(bytes),
        }
    }

    pub(super) fn open(&mut self, text: &str) -> Result<Opened, OpenError> {
        match self {
            Self::OldApp(cipher) => cipher.open(text),
            Self::Ours(boxes) => boxes.open(text).map(|bytes| Opened { bytes, key_changed: false }),
        }
    }

    /// The most bytes that take at most `max_message` on the data channel.
    pub(super) fn longest(&self, max_message: usize) -> usize {
        match self {
            Self::OldApp(cipher) => cipher.longest_text(max_message),
            Self::Ours(_) => boxes::longest(max_message),
        }
    }
}

/// Who is on the other side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Other {
    /// The identity that it has proven; `None` of an old app.
    pub(super) identity: Option<PublicKey>,
    /// Its key for this call.
    pub(super) key: PublicKey,
    /// Our own key for this call.
    pub(super) own_key: PublicKey,
}

/// A peer connection that is being sought: descriptions and candidates go back and forth.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Negotiation {
    pub(super) other: Other,
    pub(super) sealing: Sealing,
    /// What files are sealed with, where the other side's program knows of them.
    pub(super) files: Option<FileKeys>,
    /// What signals are sealed with; `None` with an old app.
    pub(super) signals: Option<Boxes>,
    /// Our side of a chat that begins by this call.
    instance: Instance,
    /// Where the other side is in the chat; `None` of an old app.
    pub(super) position: Option<ChatPosition>,
    /// The largest message that the other side takes, in bytes; `None` until its description has come.
    max_message: Option<usize>,
    /// What of the other side's offer our answer has to repeat.
    pub(super) offered: Option<Layout>,
    /// The other side's candidates that came before its description.
    early: Candidates,
    pub(super) trickle: Trickle,
    /// ICE has found a way to the other side.
    pub(super) has_way: bool,
}

impl Negotiation {
    /// With an old app. `early`: the candidates that came before.
    pub(super) fn with_old_app(cipher: Cipher, key: PublicKey, early: Candidates) -> Self {
        let other = Other { identity: None, key, own_key: cipher.own_key() };
        Self::new(other, Sealing::OldApp(cipher), (None, None), (Instance::default(), None), early)
    }

    /// With another of Lowkey's own programs, which has proven this identity. `first` and `second` are both hellos, and
    /// the positions are where we are and where the other side is in the chat.
    pub(super) fn with_ours(
        (identity, knows_files): (PublicKey, bool),
        agreement: Agreement,
        [first, second]: [&[u8]; 2],
        (instance, position): (Instance, Option<ChatPosition>),
    ) -> Self {
        let other = Other { identity: Some(identity), key: agreement.other_key(), own_key: agreement.own_key() };
        let (boxes, files, signals) = agreement.conclude(first, second);
        let position = Some(position.unwrap_or_else(ChatPosition::nowhere));
        let keys = (knows_files.then_some(files), Some(signals));
        Self::new(other, Sealing::Ours(boxes), keys, (instance, position), Candidates::default())
    }

    fn new(
        other: Other,
        sealing: Sealing,
        (files, signals): (Option<FileKeys>, Option<Boxes>),
        (instance, position): (Instance, Option<ChatPosition>),
        early: Candidates,
    ) -> Self {
        Self {
            other,
            sealing,
            files,
            signals,
            instance,
            position,
            max_message: None,
            offered: None,
            early,
            trickle: Trickle::default(),
            has_way: false,
        }
    }

    /// Whether the other side's description has come.
    pub(super) fn is_described(&self) -> bool {
        self.max_message.is_some()
    }

    /// Takes the other side's description. It holds some candidates, and those that came before it are of use now.
    pub(super) fn take_description(&mut self, id: PeerConnectionId, described: &Description, round: &mut Round<'_>) {
        self.max_message = Some(described.max_message().min(MAX_MESSAGE));
        let early = std::mem::take(&mut self.early);
        for candidate in described.candidates().iter().chain(early.iter()) {
            self.add(id, candidate, round);
        }
    }

    /// Takes a candidate of the other side, which waits for the description, and returns whether it is of use.
    pub(super) fn take_candidate(
        &mut self,
        id: PeerConnectionId,
        candidate: &Candidate,
        round: &mut Round<'_>,
    ) -> bool {
        match self.is_described() {
            true => self.add(id, candidate, round),
            false => self.early.admit(candidate, round.setup.with_loopback),
        }
    }

    fn add(&mut self, id: PeerConnectionId, candidate: &Candidate, round: &mut Round<'_>) -> bool {
        let taken = self.trickle.take(candidate, round.setup.with_loopback);
        let is_taken = taken.is_some();
        round.out.extend(taken.map(|candidate| Output::AddCandidate { id, candidate }));
        is_taken
    }

    /// Tells the other side that no peer connection comes about, and why. An old app hears of its description alone.
    pub(super) fn refuse(&mut self, refusal: Refusal, peer: &str, round: &mut Round<'_>) {
        match &mut self.signals {
            Some(signals) => round.sealed(MessageType::SignalIce, peer, signals.seal(&refusal.write())),
            None => {
                let refusal = protocol::DeclinePayload { refused: REFUSED_DESCRIPTION.to_owned() };
                round.signal(MessageType::SessionDecline, peer, Some(&refusal));
            }
        }
    }

    /// Tells the other side that our user does not want to talk.
    pub(super) fn decline(&mut self, peer: &str, round: &mut Round<'_>) {
        match &mut self.signals {
            Some(signals) => round.sealed(MessageType::SignalIce, peer, signals.seal(&Refusal::Declined.write())),
            None => round.decline(peer),
        }
    }

    /// Why no peer connection came about, as far as the addresses tell.
    pub(super) fn no_connection(&self) -> CloseReason {
        let Trickle { own, other, .. } = &self.trickle;
        let is_outside = |candidates: &Candidates| candidates.has(Kind::Reflexive) || candidates.has(Kind::Relayed);
        if own.iter().next().is_none() {
            CloseReason::NoCandidates
        } else if self.has_way {
            CloseReason::NotOpened
        } else if own.has(Kind::Relayed) && !other.has(Kind::Relayed) {
            CloseReason::PeerHasNoRelay
        } else if other.iter().next().is_none() {
            CloseReason::PeerHasNoCandidates
        } else if !is_outside(own) && !is_outside(other) {
            CloseReason::LocalOnly
        } else {
            CloseReason::NoConnection
        }
    }
}

/// An open peer connection.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct PeerConnection {
    pub(super) id: PeerConnectionId,
    pub(super) other: Other,
    pub(super) sealing: Sealing,
    /// What files are sealed with, where the other side's program knows of them.
    pub(super) files: Option<FileKeys>,
    pub(super) signals: Option<Boxes>,
    /// Our instance, as the other side was told.
    pub(super) instance: Instance,
    /// Where the other side was in the chat when it was called.
    pub(super) position: Option<ChatPosition>,
    /// The largest message that the other side takes, in bytes.
    pub(super) max_message: usize,
    pub(super) trickle: Trickle,
    /// Texts in a row that could not be opened.
    failures: u32,
    /// Something has come over it that means something.
    pub(super) is_used: bool,
}

impl PeerConnection {
    pub(super) fn new(id: PeerConnectionId, negotiation: Negotiation) -> Self {
        let Negotiation { other, sealing, files, signals, instance, position, max_message, trickle, .. } = negotiation;
        let max_message = max_message.unwrap_or(DEFAULT_MAX_MESSAGE);
        let (failures, is_used) = (0, false);
        Self { id, other, sealing, files, signals, instance, position, max_message, trickle, failures, is_used }
    }

    /// The most bytes that go through as one frame or text.
    pub(super) fn longest(&self) -> usize {
        self.sealing.longest(self.max_message)
    }

    /// The longest text that goes through in a frame, in bytes.
    pub(super) fn longest_text(&self) -> usize {
        self.longest().saturating_sub(TEXT_EXTRA_BYTES)
    }

    /// Sends a frame, and returns whether it could be sealed: keys are used up some time.
    pub(super) fn transmit(&mut self, frame: &[u8], round: &mut Round<'_>) -> bool {
        let Ok(text) = self.sealing.seal(frame) else { return false };
        round.out.push(Output::Transmit { id: self.id, text, is_kept: true });
        true
    }

    /// Something came that means something.
    pub(super) fn has_understood(&mut self) {
        self.failures = 0;
        self.is_used = true;
    }

    /// Counts what came and does not open, or means nothing, and returns whether it is one too many in a row.
    pub(super) fn has_failed(&mut self) -> bool {
        self.failures += 1;
        self.failures >= MAX_FAILURES
    }
}

/// Tells the other side of a description or a candidate of ours, sealed but for an old app.
pub(super) fn tell(
    signals: Option<&mut Boxes>,
    kind: MessageType,
    peer: &str,
    payload: &impl Serialize,
    round: &mut Round<'_>,
) {
    match signals {
        Some(signals) => round.sealed(kind, peer, signals.seal(&padded(payload))),
        None => round.signal(kind, peer, Some(payload)),
    }
}

/// How a refusal to an old app names a description.
pub(super) const REFUSED_DESCRIPTION: &str = "description";

/// Texts in a row that could not be opened, after which a chat ends.
const MAX_FAILURES: u32 = 5;

#[cfg(test)]
mod tests {
    use super::super::super::cipher::TextFormat;
    use super::super::super::keys::KeyPair;
    use super::*;

    #[test]
    fn the_addresses_tell_why_no_connection_came_about() {
        let pairs = [KeyPair::generate(), KeyPair::generate()];
        let key = pairs[1].public();
        let line = |kind: &str| format!("candidate:1 1 udp 1 192.0.2.1 9 typ {kind}");
        let told = |own: &[&str], other: &[&str], has_way: bool| {
            let cipher = Cipher::new(pairs[0].clone(), key, TextFormat::V1).unwrap();
            let mut negotiation = Negotiation::with_old_app(cipher, key, Candidates::default());
            for kind in own {
                negotiation.trickle.tell(&line(kind)).unwrap();
            }
            for kind in other {
                negotiation.trickle.take(&Candidate::read(&line(kind)).unwrap(), false).unwrap();
            }
            negotiation.has_way = has_way;
            negotiation.no_connection()
        };
        let reason = |own: &[&str], other: &[&str]| told(own, other, false);
        assert_eq!(reason(&[], &["host"]), CloseReason::NoCandidates);
        assert_eq!(reason(&["host"], &["host"]), CloseReason::LocalOnly);
        for own in [&["host"][..], &["host", "srflx"]] {
            assert_eq!(reason(own, &[]), CloseReason::PeerHasNoCandidates, "of which it is not known what they know");
        }
        assert_eq!(reason(&["relay"], &[]), CloseReason::PeerHasNoRelay, "most likely it wants nothing but one");
        assert_eq!(reason(&["host", "srflx"], &["host"]), CloseReason::NoConnection);
        assert_eq!(reason(&["host"], &["relay"]), CloseReason::NoConnection);
        assert_eq!(reason(&["host", "relay"], &["relay"]), CloseReason::NoConnection);
        assert_eq!(reason(&["host", "relay"], &["host"]), CloseReason::PeerHasNoRelay);
        // Once there was a way, it was not for want of one.
        assert_eq!(told(&["host"], &["host"], true), CloseReason::NotOpened);
        assert_eq!(told(&["host", "relay"], &["host"], true), CloseReason::NotOpened);
    }
}
