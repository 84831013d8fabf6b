//! Who is calling, each by a number that is never used again; and how many calls are told one by one. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::flood::{Minute, SHOWN};
use super::screen;
use crate::peer::keys::PublicKey;

/// Who waits for an answer.
#[derive(Debug, Default)]
pub struct Requests {
    /// In the order of their calls.
    waiting: Vec<(String, u64)>,
    last_number: u64,
    /// Who those of them have proven to be that are no old apps.
    identities: BTreeMap<String, PublicKey>,
    /// How many calls come from strangers, whatever names they make up, and from those who are known.
    of_strangers: Minute,
    of_known: Minute,
    /// Whose request came among so many that it was not told.
    untold: BTreeSet<String>,
    /// Whose call was taken without a word, among so many that people hear no more of it than its texts; the last of
    /// them.
    quiet: VecDeque<String>,
}

impl Requests {
    /// Somebody calls: the number of the request, and how many have called like this within a minute. Who calls again
    /// has one request, with a new number.
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

    /// Who somebody that waits has proven to be.
    pub fn prove(&mut self, peer: &str, identity: Option<PublicKey>) {
        self.identities.extend(identity.map(|identity| (peer.to_owned(), identity)));
    }

    /// Who a caller that waits has proven to be.
    pub fn identity(&self, peer: &str) -> Option<PublicKey> {
        self.identities.get(peer).copied()
    }

    /// Somebody calls whose call is taken without asking anybody: how many have called like this within a minute.
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

    /// A request waits no longer; whether it did, and it was told that it came.
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
    /// Why nobody is, for people.
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
