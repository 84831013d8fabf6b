//! What must hold in every world of the search, and at the end of every way through it.

#![cfg(test)]

use std::rc::Rc;

use super::super::super::agreement::Side;
use super::super::super::keys::PublicKey;
use super::super::call::CallStage;
use super::super::channel::Negotiation;
use super::NAMES;
use super::actor::{Actor, Agreed, Memory, Talk};
use super::world::World;

impl World {
    /// No proof holds for two who do not agree on all that was said in the open.
    pub(super) fn check_proofs(&mut self, fresh: &Agreed, memory: &Memory) {
        for other in self.agreed.iter() {
            let (caller, called) = match (fresh.side, other.side) {
                (Side::Caller, Side::Called) => (fresh, &**other),
                (Side::Called, Side::Caller) => (&**other, fresh),
                _ => continue,
            };
            if memory.is_deceived(caller, called, &self.actors[caller.user].engine.setup.identity) {
                self.fault = Some("a proof holds for something else than was said".to_owned());
            }
        }
    }

    /// What must hold now; otherwise what does not.
    pub(super) fn check(&self, memory: &Memory) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        for (user, actor) in self.actors.iter().enumerate() {
            for talk in &actor.talks {
                self.check_talk(user, talk, memory)?;
            }
        }
        if let Some((one, other)) = self.thief {
            for (user, peer) in [(one, other), (other, one)] {
                if !self.actors[user].engine.peers.chats.contains_key(NAMES[peer]) {
                    return Err(format!("the chat of {} is ended by others", NAMES[user]));
                }
            }
        }
        Ok(())
    }

    fn check_talk(&self, user: usize, talk: &Talk, memory: &Memory) -> Result<(), String> {
        let (name, peer) = (NAMES[user], NAMES[talk.peer]);
        let Some(identity) = talk.identity else {
            return Err(format!("{name} talks to an old app that nobody wanted"));
        };
        let is_wanted = |identity: Option<[u8; 32]>| self.wanted.contains(&(user, talk.peer, identity));
        if !is_wanted(None) && !is_wanted(Some(*identity.as_bytes())) {
            return Err(format!("{name} goes on with {peer} before consent"));
        }
        if memory.adversary.has(talk.keys[1]) {
            return Err(format!("{name} has keys with the adversary in place of {peer}"));
        }
        let [own, other] = talk.keys;
        let of = |agreed: &&Rc<Agreed>, user: usize, keys: (PublicKey, PublicKey)| {
            agreed.user == user && (agreed.agreement.own_key(), agreed.agreement.other_key()) == keys
        };
        let ours = self.agreed.iter().find(|agreed| of(agreed, user, (own, other)) && agreed.side == talk.side);
        let Some(there) = self.actors.iter().position(|actor| actor.identity() == identity) else {
            return Err(format!("{name} agrees with somebody who is nobody"));
        };
        let theirs = self.agreed.iter().find(|agreed| of(agreed, there, (other, own)) && agreed.side != talk.side);
        let transcript = |agreed: Option<&Rc<Agreed>>| agreed.map(|agreed| agreed.agreement.transcript());
        if theirs.is_none() || transcript(ours) != transcript(theirs) {
            return Err(format!("{name} agrees with nobody"));
        }
        let negotiation = self.negotiation(user, talk.peer).expect("they talk");
        if negotiation.files.is_none() {
            return Err(format!("{name} takes {peer} for somebody who can do less"));
        }
        let mut signals = negotiation.signals.clone().expect("it is one of ours");
        let sealed = signals.seal(b"x").unwrap();
        if signals.open(&sealed).is_ok() {
            return Err("what was sent opens where it comes from".to_owned());
        }
        Ok(())
    }

    fn negotiation(&self, user: usize, peer: usize) -> Option<&Negotiation> {
        match &self.actors[user].engine.peers.calls.get(NAMES[peer])?.stage {
            CallStage::Negotiating(negotiation) => Some(negotiation),
            _ => None,
        }
    }

    /// What must hold when nothing is on its way any more.
    pub(super) fn check_end(&self, memory: &Memory) -> Result<(), String> {
        if self.acts == 0 {
            let (one, other) = LAST_CALL;
            let has_both = |user: usize, peer: usize| match self.thief {
                None => self.negotiation(user, peer).is_some_and(Negotiation::is_described),
                Some(_) => self.actors[user].engine.peers.chats[NAMES[peer]].connection.is_some(),
            };
            if !has_both(one, other) || !has_both(other, one) {
                return Err(format!("{} and {} wait for each other", NAMES[one], NAMES[other]));
            }
        }
        for (user, actor) in self.actors.iter().enumerate() {
            for talk in actor.talks.iter().filter(|talk| self.is_mutual(user, talk)) {
                let Some(there) = self.negotiation(talk.peer, user) else { continue };
                let Some(here) = self.negotiation(user, talk.peer) else { continue };
                let sealed = here.clone().sealing.seal(b"x").unwrap();
                if there.other.key == talk.keys[0] && there.clone().sealing.open(&sealed).is_err() {
                    return Err(format!("{} and {} do not understand each other", NAMES[user], NAMES[talk.peer]));
                }
            }
            if !memory.ends(user, actor) {
                return Err(format!("{} waits for ever", NAMES[user]));
            }
        }
        Ok(())
    }

    /// An old connection of a chat may go once a frame has come over the new one: then there is one connection, and it
    /// is used.
    pub(super) fn is_given_up_in_time(&self, user: usize, before: &Actor) -> bool {
        let [before, after] = [before, &*self.actors[user]].map(|actor| &actor.engine.peers.chats);
        before.iter().all(|(peer, chat)| {
            let Some(after) = after.get(peer) else { return true };
            match (&chat.connection, &after.connection) {
                (Some(before), Some(after)) => before.id == after.id || after.is_used,
                _ => true,
            }
        })
    }
}

/// Who is to talk with whom when all has gone well, in each scenario.
const LAST_CALL: (usize, usize) = (0, 1);
