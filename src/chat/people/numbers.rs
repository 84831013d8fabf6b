//! Safety numbers: which are shown, what it means that one was compared, and whom a new one makes known.

use super::{People, Present};
use crate::chat::effect::{Effect, mistake, notice};
use crate::chat::report::Report;
use crate::chat::screen;
use crate::peer::SafetyNumber;
use crate::peer::{CloseReason, Trust};
use crate::profile::known_peers::KnownPeer;

impl People {
    /// `/verify`: shows the safety number.
    pub fn verify(&mut self, peer: &str) -> Vec<Effect> {
        let (trust, own, other) = match (self.present.get(peer), self.identity, self.known.get(peer, &self.server)) {
            (Some(present), _, _) => (Some(present.trust), present.own, present.other),
            // Somebody who refuses to talk may still want to hear it.
            (None, Some(own), Some(known)) => (None, own, known.identity),
            _ => {
                let name = screen::name(peer);
                return vec![mistake(&format!("there is no open chat with {name}, and they are not known"))];
            }
        };
        self.shown.insert(peer.to_owned(), (own, other));
        self.shown_last = Some(peer.to_owned());
        let number = |other| SafetyNumber::new((own, &self.name), (other, peer));
        // Of whom was refused, what it would be with whom they are now.
        let new_number =
            self.refused.get(peer).filter(|_| trust.is_none()).and_then(|(_, identity)| *identity).map(number);
        let number = number(other);
        vec![Effect::Show(Report::SafetyNumber { peer: peer.to_owned(), trust, number, new_number })]
    }

    /// `/verify yes`, `/verify NAME yes`: the number was compared. Without a name it is the one that was shown last.
    /// What was compared says nothing of another key that has taken its place since.
    pub fn compared(&mut self, peer: Option<String>) -> Vec<Effect> {
        let Some(peer) = peer.or_else(|| self.shown_last.clone()) else {
            return vec![mistake("no safety number was shown yet: /verify NAME shows it, to be compared first")];
        };
        let is_other =
            |present: &Present| self.shown.get(&peer).is_some_and(|shown| *shown != (present.own, present.other));
        if self.present.get(&peer).is_some_and(is_other) {
            let name = screen::name(&peer);
            let line = format!(
                "the number with {name} is another one than was shown: /verify {name} shows it, to be compared"
            );
            return vec![mistake(&line)];
        }
        self.now_verified(&peer)
    }

    /// The number was compared, and is this one.
    pub fn verified(&mut self, peer: &str, number: &str) -> Vec<Effect> {
        if let Some(Present { own, other, .. }) = self.present.get(peer)
            && !SafetyNumber::new((*own, &self.name), (*other, peer)).is(number)
        {
            let name = screen::name(peer);
            return vec![mistake(&format!("that is not the safety number with {name}; nothing has changed"))];
        }
        self.now_verified(peer)
    }

    /// `/unverify`: they are known, but not verified any more.
    pub fn unverify(&mut self, peer: &str) -> Vec<Effect> {
        let name = screen::name(peer).into_owned();
        let Some(known) = self.known.get(peer, &self.server).filter(|known| known.is_verified).cloned() else {
            return vec![mistake(&format!("{name} is not verified"))];
        };
        if let Some(present) = self.present.get_mut(peer).filter(|present| present.trust == Trust::Verified) {
            present.trust = Trust::Known;
        }
        let line = notice(&format!("{name} is not verified any more, but known as before"));
        vec![line, self.remember(peer, KnownPeer { is_verified: false, ..known }, true)]
    }

    fn now_verified(&mut self, peer: &str) -> Vec<Effect> {
        let name = screen::name(peer).into_owned();
        match self.present.get_mut(peer) {
            None if self.refused.contains_key(peer) => {
                let line =
                    format!("{name} was refused, since they have another key now: /trust {name} NUMBER takes it");
                vec![mistake(&line)]
            }
            None => vec![mistake(&format!("there is no open chat with {name}"))],
            Some(Present { trust: Trust::Unproven, .. }) => {
                vec![mistake(&format!("{name} uses an old app, which has no identity that could be kept"))]
            }
            Some(present) => {
                present.trust = Trust::Verified;
                let since = self.known.get(peer, &self.server).map_or(self.today.clone(), |known| known.since.clone());
                let known = KnownPeer { identity: present.other, is_verified: true, since };
                vec![notice(&format!("{name} is verified")), self.remember(peer, known, true)]
            }
        }
    }

    /// A call to somebody was not answered. If they know us by another key, they have been warned, and need our link or
    /// the number that we have with them.
    pub fn unanswered(&self, peer: &str, reason: &CloseReason) -> Option<Effect> {
        let (own, known) = (self.identity?, self.known.get(peer, &self.server));
        let words = if *reason == CloseReason::NotRecognized {
            "if that was you, give them, in another way than this, your link, which /link shows"
        } else {
            "if you have a new device, or were set up anew: who knows you from before was warned of this one, and \
             needs your link, which /link shows, in another way than this"
        };
        match known {
            // Who is known and says nothing is away.
            Some(_) if *reason == CloseReason::NoAnswer => None,
            Some(known) => {
                let number = SafetyNumber::new((own, &self.name), (known.identity, peer));
                Some(notice(&format!("{words}, or your safety number with them:\n    {number}")))
            }
            None => Some(notice(words)),
        }
    }

    /// `/trust`: takes the new identity of somebody who was refused, if this is its number.
    pub fn trust(&mut self, peer: &str, number: &str) -> Vec<Effect> {
        let name = screen::name(peer).into_owned();
        match self.refused.get(peer).copied() {
            None => vec![mistake(&format!("{name} was not refused"))],
            Some((_, None)) => vec![mistake(&format!("{name} proves nothing; /forget {name} lets an old app in"))],
            Some((own, Some(identity))) => {
                if !SafetyNumber::new((own, &self.name), (identity, peer)).is(number) {
                    return vec![mistake(&format!("that is not the new safety number of {name}; nothing has changed"))];
                }
                self.refused.remove(peer);
                let known = KnownPeer { identity, is_verified: false, since: self.today.clone() };
                vec![notice(&format!("{name} is trusted with the new number")), self.remember(peer, known, true)]
            }
        }
    }
}
