//! What the search goes through: two whole calls of each kind.

#![cfg(test)]

use super::super::super::trust::Known;
use super::super::Setup;
use super::actor::Memory;
use super::world::{Wish, World};

/// Two calls.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    wishes: &'static [Wish],
    before: Before,
}

/// What was before.
#[derive(PartialEq)]
enum Before {
    Nothing,
    /// The first two have met.
    Met,
    /// The first two have a chat, whose one side loses the connection; both users are away. A thief has her identity.
    Chat,
}

pub(super) const SCENARIOS: [Scenario; 6] = [
    Scenario { name: "both call", wishes: &[Wish::Call(0, 1), Wish::Call(1, 0)], before: Before::Nothing },
    Scenario {
        name: "both call who know each other",
        wishes: &[Wish::Call(0, 1), Wish::Call(1, 0)],
        before: Before::Met,
    },
    Scenario {
        name: "called again",
        wishes: &[Wish::Call(0, 1), Wish::Leave(0, 1), Wish::Call(0, 1)],
        before: Before::Nothing,
    },
    Scenario { name: "two callers", wishes: &[Wish::Call(0, 1), Wish::Call(2, 1)], before: Before::Nothing },
    Scenario { name: "two called", wishes: &[Wish::Call(0, 1), Wish::Call(0, 2)], before: Before::Nothing },
    Scenario {
        name: "carried on while a third user calls",
        wishes: &[Wish::Lose(0, 1), Wish::Call(2, 1)],
        before: Before::Chat,
    },
];

impl Scenario {
    pub(super) fn world(&self, memory: &mut Memory) -> Result<World, String> {
        let world = World::new(self.wishes, |user, identities| {
            let mut setup = Setup::default();
            if self.before == Before::Met && user < 2 {
                let known = Known { identity: identities[1 - user].public(), is_verified: false };
                setup.known.insert(super::NAMES[1 - user].to_owned(), known);
            }
            setup
        });
        if self.before != Before::Chat {
            return Ok(world);
        }
        let mut world = world.with_chat(0, 1, memory)?;
        world.wishes = self.wishes.to_vec();
        Ok(world)
    }
}
