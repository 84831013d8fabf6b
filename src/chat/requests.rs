//! Who is calling, each by a number that is never used again; and how many calls are told one by one. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::flood::{Minute, SHOWN};
use super::screen;
use crate::peer::keys::PublicKey;

/// Who waits for an answer.
#[derive(Debug, Default)]
pub struct Requests {
    /// Who waits, by name and number, in the order of their calls.
    waiting: Vec<(String, u64)>,
    last_number: u64,
    /// The identities that they have proven; old apps prove none.
    identities: BTreeMap<String, PublicKey>,
    /// How many calls come from strangers, whatever names they make up, and from those who are known.
    of_strangers: Minute,
    of_known: Minute,
    /// Whose request came among so many that it was not told.
    untold: BTreeSet<String>,
    /// The latest peers whose calls were taken in a flood of calls: only their texts are shown.
    quiet: VecDeque<String>,
}

impl Requests {
    /// Adds a caller, and returns the number of the request and how many have called like this within a minute. Who
    /// calls again has one request, with a new number.
    pub fn add(&mut self, peer: &str, is_stranger: bool, now: Instant) -> (u64, u64) {
        self.end(peer);
        self.last_number += 1;
        self.waiting.push((peer.to_owned(), self.last_number));
        let count = self.count(is_stranger, now);
        if count > SHOWN {
            self.untold.insert(peer.to_owned());
        }
        (self.last_number, count)
    }

    /// Notes the identity that a caller has proven.
    pub fn prove(&mut self, peer: &str, identity: Option<PublicKey>) {
        self.identities.extend(identity.map(|identity| (peer.to_owned(), identity)));
    }

    /// The identity that a caller who waits has proven.
    pub fn identity(&self, peer: &str) -> Option<PublicKey> {
        self.identities.get(peer).copied()
    }

    /// Counts a call that is taken without asking anybody, and returns how many have called like this within a minute.
    pub fn take(&mut self, peer: &str, is_stranger: bool, now: Instant) -> u64 {
        let count = self.count(is_stranger, now);
        self.quiet.retain(|other| other != peer);
        if count > SHOWN {
            self.quiet.push_back(peer.to_owned());
            if self.quiet.len() > MAX_QUIET {
                self.quiet.pop_front();
            }
        }
        count
    }

    /// Whether people hear no more of this peer's chat than its texts.
    pub fn is_quiet(&self, peer: &str) -> bool {
        self.quiet.iter().any(|quiet| quiet == peer)
    }

    fn count(&mut self, is_stranger: bool, now: Instant) -> u64 {
        if is_stranger { &mut self.of_strangers } else { &mut self.of_known }.count(now)
    }

    /// Ends a request, and returns whether it has waited and people were told that it came.
    pub fn end(&mut self, peer: &str) -> bool {
        let has_waited = self.has(peer);
        self.waiting.retain(|(caller, _)| caller != peer);
        self.identities.remove(peer);
        !self.untold.remove(peer) && has_waited
    }

    /// Whether this peer waits for an answer.
    pub fn has(&self, peer: &str) -> bool {
        self.waiting.iter().any(|(caller, _)| caller == peer)
    }

    /// All of them, with their numbers.
    pub fn all(&self) -> &[(String, u64)] {
        &self.waiting
    }

    /// Whose request has this number.
    pub fn numbered(&self, number: Option<u64>) -> Option<&str> {
        self.waiting.iter().find(|(_, other)| Some(*other) == number).map(|(peer, _)| &**peer)
    }

    /// Who is meant by a name or a number; without either, the only one who calls.
    ///
    /// # Errors
    /// Why nobody is meant, for people.
    pub fn meant(&self, peer: Option<String>, number: Option<u64>) -> Result<String, String> {
        let peer = self.numbered(number).map(str::to_owned).or(peer);
        match (peer, number, &self.waiting[..]) {
            (_, _, []) => Err("nobody is calling".to_owned()),
            (Some(peer), _, _) if self.has(&peer) => Ok(peer),
            (Some(peer), _, _) => Err(format!("{} is not calling", screen::name(&peer))),
            (None, Some(number), _) => Err(format!("there is no call {number}")),
            (None, None, [(only, _)]) => Ok(only.clone()),
            (None, None, several) => {
                let request = |(peer, number): &(String, u64)| match screen::name(peer) {
                    name if name.starts_with('"') => format!("{name} ({number})"),
                    name => name.into_owned(),
                };
                let names: Vec<String> = several.iter().map(request).collect();
                Err(format!("several are calling, so say whom: {}", names.join(", ")))
            }
        }
    }
}

/// Peers of whom people hear no more than their texts. A server that lies makes up names without end; of those before
/// these a line more is shown when they leave.
const MAX_QUIET: usize = 1000;
