//! Names of the user's own for peers. Nobody else sees them, and none of them passes for somebody's name of the wire.

use super::People;
use crate::chat::effect::{Effect, mistake, notice};
use crate::chat::screen;
use crate::protocol::MAX_USERNAME_BYTES;

impl People {
    /// `/alias`: the user calls `peer` so from now on. One of the two names is that of somebody `is_met`, and the other
    /// is new.
    pub fn alias(&mut self, alias: String, peer: String, is_met: impl Fn(&str) -> bool) -> Vec<Effect> {
        let (alias, peer) = match (is_met(&alias), is_met(&peer)) {
            (false, true) => (alias, peer),
            (true, false) => (peer, alias),
            (true, true) => {
                let line = format!("{} is the name of somebody, so it stands for nobody else", screen::name(&alias));
                return vec![mistake(&line)];
            }
            (false, false) => {
                let (one, other) = (screen::name(&alias), screen::name(&peer));
                return vec![mistake(&format!("you have met neither {one} nor {other}"))];
            }
        };
        let is_plain = *screen::name(&alias) == *alias && alias.len() <= MAX_USERNAME_BYTES;
        if !is_plain || alias == self.name {
            return vec![mistake(&format!("{} cannot be used as a name of yours for somebody", screen::name(&alias)))];
        }
        let line = notice(&format!("{} is what you call {} from now on", alias, screen::name(&peer)));
        self.aliases.retain(|_, name| *name != peer);
        self.aliases.insert(alias.clone(), peer.clone());
        vec![line, Effect::Alias { alias, peer: Some(peer) }]
    }

    /// `/unalias`: the user calls nobody so any more.
    pub fn unalias(&mut self, alias: String) -> Vec<Effect> {
        match self.aliases.remove(&alias) {
            Some(peer) => {
                let line = notice(&format!("{} is called by that name again", screen::name(&peer)));
                vec![line, Effect::Alias { alias, peer: None }]
            }
            None => vec![mistake(&format!("you call nobody {}", screen::name(&alias)))],
        }
    }

    /// `/alias` alone: says what the user calls whom.
    pub fn all_aliases(&self) -> Vec<Effect> {
        let line = |(alias, peer): (&String, &String)| format!("{alias} is what you call {}", screen::name(peer));
        match self.aliases.is_empty() {
            true => vec![notice("you call everybody by their own name")],
            false => vec![notice(&self.aliases.iter().map(line).collect::<Vec<_>>().join("\n"))],
        }
    }
}
