//! What of the peers at one server outlives the program: who they are, what the user calls them, and who may not call.

use std::collections::{BTreeMap, BTreeSet};

use crate::profile::Profile;
use crate::profile::known_peers::{KnownPeer, KnownPeers, place, read_place};

/// The files of a profile that say who the peers are.
pub struct Records {
    pub profile: Option<Profile>,
    /// The server, as it is named in those files.
    pub place: String,
}

impl Records {
    pub fn known_peers(&self) -> Result<KnownPeers, String> {
        let known = self.profile.as_ref().map(Profile::known_peers).transpose()?;
        Ok(known.unwrap_or_default())
    }

    /// What the user calls peers at this server.
    pub fn aliases(&self) -> Result<BTreeMap<String, String>, String> {
        let aliases = self.profile.as_ref().map(Profile::aliases).transpose()?.unwrap_or_default();
        let at_this = aliases.into_iter().filter(|((_, place), _)| *place == self.place);
        Ok(at_this.map(|((alias, _), name)| (alias, name)).collect())
    }

    /// The names of those who may not call at this server.
    pub fn blocked(&self) -> Result<BTreeSet<String>, String> {
        let blocked = self.profile.as_ref().map(Profile::blocked).transpose()?;
        let at_this = |entry: String| {
            let (name, place) = read_place(&entry)?;
            (place == self.place).then_some(name)
        };
        Ok(blocked.unwrap_or_default().into_iter().filter_map(at_this).collect())
    }

    /// Remembers a peer. Where another program has seen somebody else under that name, and this was not the user's
    /// wish, that one stays known, and comes back.
    ///
    /// # Errors
    /// It could not be kept; for people.
    pub fn remember(&self, name: &str, known: KnownPeer, replaces: bool) -> (Option<KnownPeer>, Result<(), String>) {
        let mut other = None;
        let kept = self.change_known_peers(|peers| match peers.get(name, &self.place) {
            Some(seen) if !replaces && seen.identity != known.identity => other = Some(seen.clone()),
            Some(seen) if !replaces && seen.is_verified => {}
            _ => peers.insert(name, &self.place, known),
        });
        (other, kept)
    }

    /// Forgets who a peer was.
    ///
    /// # Errors
    /// It could not be kept; for people.
    pub fn forget(&self, name: &str) -> Result<(), String> {
        self.change_known_peers(|peers| {
            peers.remove(name, &self.place);
        })
    }

    /// Without a profile it is remembered as long as the program runs.
    fn change_known_peers(&self, change: impl FnOnce(&mut KnownPeers)) -> Result<(), String> {
        self.profile.as_ref().map_or(Ok(()), |profile| profile.change_known_peers(change))
    }

    /// Keeps what the user calls a peer; or that nobody is called so.
    ///
    /// # Errors
    /// It could not be kept; for people.
    pub fn alias(&self, alias: &str, peer: Option<String>) -> Result<(), String> {
        let place = &self.place;
        self.profile.as_ref().map_or(Ok(()), |profile| {
            profile.change_aliases(|aliases| match peer {
                Some(peer) => {
                    aliases.retain(|(_, at), name| at != place || *name != peer);
                    aliases.insert((alias.to_owned(), place.clone()), peer);
                }
                None => drop(aliases.remove(&(alias.to_owned(), place.clone()))),
            })
        })
    }

    /// Keeps that a peer may not call, or may again.
    ///
    /// # Errors
    /// It could not be kept; for people.
    pub fn block(&self, name: &str, is_blocked: bool) -> Result<(), String> {
        let entry = place(name, &self.place);
        let change = |blocked: &mut BTreeSet<String>| match is_blocked {
            true => drop(blocked.insert(entry)),
            false => drop(blocked.remove(&entry)),
        };
        self.profile.as_ref().map_or(Ok(()), |profile| profile.change_blocked(change))
    }
}
