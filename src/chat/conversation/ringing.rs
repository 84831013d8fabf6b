//! Somebody calls, or who was called turns out to use an old app: whether the user is asked, and what is done without a
//! question.

use std::time::Instant;

use super::{Chat, ChatStage, Conversation};
use crate::chat::effect::{Effect, notice};
use crate::chat::flood::{SHOWN, is_told};
use crate::chat::report::Report;
use crate::chat::screen;
use crate::chat::script::{Accepts, OldApps, ScriptFailure};
use crate::peer::Trust;
use crate::peer::keys::PublicKey;

impl Conversation {
    pub(super) fn request(
        &mut self,
        peer: String,
        trust: Trust,
        identity: Option<PublicKey>,
        now: Instant,
    ) -> Vec<Effect> {
        let is_taken = match &self.script.accepts {
            _ if self.is_blocked(&peer, identity) => false,
            _ if self.script.only_known && !trust.is_known() => false,
            _ if trust == Trust::Unproven && self.script.old_apps == OldApps::Refuse => {
                let name = screen::name(&peer);
                let line = format!("{name} calls by an old app, which cannot prove who they are, and is not answered");
                let told = match self.requests.take(&peer, true, now) {
                    count if count > SHOWN => is_told(count).then(|| notice(&format!("{count} calls within a minute"))),
                    _ => Some(notice(&line)),
                };
                return told.into_iter().chain([Effect::Ignore(peer)]).collect();
            }
            Accepts::None => return self.ring(peer, trust, identity, now),
            accepts => accepts.is_for(&peer, trust.is_known()),
        };
        // Whoever is not wanted hears nothing, and does not learn that.
        if !is_taken {
            return vec![Effect::Ignore(peer)];
        }
        if self.script.accepts == Accepts::All && !self.called.contains(&peer) {
            self.unnamed.insert(peer.clone());
        }
        self.set_stage(&peer, ChatStage::Calling);
        let is_stranger = !trust.is_known() && !self.called.contains(&peer);
        let mut effects = match self.requests.take(&peer, is_stranger, now) {
            SHOWN => vec![notice(&format!("{SHOWN} calls within a minute: of more of them only texts are shown"))],
            count if count > SHOWN && is_told(count) => vec![notice(&format!("{count} calls within a minute"))],
            _ => Vec::new(),
        };
        effects.push(Effect::Accept(peer));
        effects
    }

    /// Asks the user whether to talk to somebody.
    fn ring(&mut self, peer: String, trust: Trust, identity: Option<PublicKey>, now: Instant) -> Vec<Effect> {
        let is_stranger = !trust.is_known() && !self.called.contains(&peer);
        let (number, count) = self.requests.add(&peer, is_stranger, now);
        self.requests.prove(&peer, identity);
        let called = self.people.aliases.get(&peer).filter(|_| count <= SHOWN).map(|name| {
            let (alias, name) = (screen::name(&peer), screen::name(name));
            notice(&format!("{alias} is what you call {name}, but this is somebody else, whose name it is"))
        });
        let has_chat = self.chat(&peer).is_some_and(Chat::is_open);
        let report = Report::Request { peer, number, count, trust, has_chat };
        [Effect::Show(report)].into_iter().chain(called).collect()
    }

    /// Whether this name is blocked, or another blocked name whose user is known by this identity.
    fn is_blocked(&self, peer: &str, identity: Option<PublicKey>) -> bool {
        let is_same = |name: &String| identity.is_some() && self.people.known_identity(name) == identity;
        self.blocked.contains(peer) || self.blocked.iter().any(is_same)
    }

    /// Somebody whom the user has called uses an old app.
    pub(super) fn old_app(&mut self, peer: String, now: Instant) -> Vec<Effect> {
        match self.script.old_apps {
            OldApps::Ask => {
                let (number, _) = self.requests.add(&peer, false, now);
                vec![Effect::Show(Report::OldApp { peer, number })]
            }
            OldApps::Take => vec![Effect::Accept(peer)],
            OldApps::Refuse => {
                self.progress.fail(ScriptFailure::Untrusted);
                let line = format!(
                    "{} uses an old app, which cannot prove who they are: nothing is sent to it",
                    screen::name(&peer)
                );
                vec![notice(&line), Effect::Leave(peer)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn of_many_old_apps_that_are_not_answered_five_are_told() {
        let now = Instant::now();
        let script = Script { accepts: Accepts::All, old_apps: OldApps::Refuse, ..Script::default() };
        let mut chat = start(script);
        chat.event(Event::Online, now);
        let (mut lines, mut ignored) = (0, 0);
        for index in 0..1000 {
            let peer = format!("stranger_{index}");
            let request = Event::Request { peer, trust: Trust::Unproven, identity: None };
            for effect in chat.event(request, now) {
                match effect {
                    Effect::Ignore(_) => ignored += 1,
                    _ => lines += 1,
                }
            }
        }
        assert_eq!((lines, ignored), (5 + 3, 1000));
    }
}
