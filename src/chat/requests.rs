//! Who is calling, each by a number that is never used again; and how many calls are told one by one. Pure.

use std::collections::BTreeSet;
use std::time::Instant;

use super::flood::{Minute, SHOWN};
use super::screen;

/// Who waits for an answer.
#[derive(Debug, Default)]
pub struct Requests {
    /// In the order of their calls.
    waiting: Vec<(String, u64)>,
    last_number: u64,
    /// How many calls come from strangers, whatever names they make up, and from those who are known.
    of_strangers: Minute,
    of_known: Minute,
    /// Whose request came among so many that it was not told.
    untold: BTreeSet<String>,
}

impl Requests {
    /// Somebody calls: the number of the request, and how many have called like this within a minute. Who calls again has one
    /// request, with a new number.
    pub fn add(&mut self, peer: &str, is_stranger: bool, now: Instant) -> (u64, u64) {
        self.end(peer);
        self.last_number += 1;
        self.waiting.push((peer.to_owned(), self.last_number));
        let count = if is_stranger { &mut self.of_strangers } else { &mut self.of_known }.count(now);
        if count > SHOWN {
            self.untold.insert(peer.to_owned());
        }
        (self.last_number, count)
    }

    /// A request waits no longer; whether it was told that it came.
    pub fn end(&mut self, peer: &str) -> bool {
        self.waiting.retain(|(caller, _)| caller != peer);
        !self.untold.remove(peer)
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
                let request = |(peer, number): &(String, u64)| format!("{} (call {number})", screen::name(peer));
                let names: Vec<String> = several.iter().map(request).collect();
                Err(format!("several are calling, so say whom: {}", names.join(", ")))
            }
        }
    }
}
