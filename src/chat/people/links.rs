//! Links: the user's own, and those by which others are called, whose identity is known by them before the first word.

use super::People;
use crate::chat::effect::{Effect, mistake, notice};
use crate::chat::report::Report;
use crate::chat::screen;
use crate::peer::link::Link;
use crate::peer::{ServerUrl, Trust};
use crate::profile::known_peers::KnownPeer;

impl People {
    /// `/link`: shows the user's own link.
    pub fn link(&self) -> Vec<Effect> {
        match self.own_link() {
            Ok(link) => {
                let warning = local(&link).map(|words| notice(&words));
                [Effect::Show(Report::Link(link.to_string()))].into_iter().chain(warning).collect()
            }
            Err(reason) => vec![mistake(reason)],
        }
    }

    /// The user's own link.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn own_link(&self) -> Result<Link, &'static str> {
        if self.server.contains('/') {
            return Err("a link has no place for the path of this server's URL");
        }
        let identity =
            self.identity.ok_or("there was no place to keep an identity, so there is no link that would hold")?;
        Ok(Link { host: self.server.clone(), is_plain: self.is_plain, name: self.name.clone(), identity })
    }

    /// Prepares a call by a link, in which only the identity of the link is taken, and returns the name to call.
    ///
    /// # Errors
    /// What is wrong with the link, for people: it is for another server, or for somebody else than is known by that
    /// name.
    pub fn connect_by(&mut self, link: &Link) -> Result<(String, Vec<Effect>), Vec<Effect>> {
        let place = link.server().parse::<ServerUrl>().map(|server| server.place());
        if place.as_ref() != Ok(&self.server) || link.is_plain != self.is_plain {
            let host = screen::harmless(&link.host);
            return Err(vec![mistake(&format!("that link is for the server {host}; start lowkey with it instead"))]);
        }
        let peer = &link.name;
        let mut since = self.today.clone();
        if let Some(known) = self.known.get(peer, &self.server).cloned() {
            // Of whom was just refused, a link says as much as their number.
            let is_new = self.refused.get(peer).is_some_and(|(_, identity)| *identity == Some(link.identity));
            if known.identity != link.identity && !is_new {
                let name = screen::name(peer);
                let since = screen::harmless(&known.since);
                return Err(vec![
                    mistake(&format!("the link names somebody else than the {name} who is known here since {since}")),
                    notice(&format!("if you are sure that the link is right: /forget {name}, then the link again")),
                ]);
            }
            if known.identity == link.identity {
                since = known.since;
            }
        }
        let known = KnownPeer { identity: link.identity, is_verified: true, since };
        if self.is_with(peer, link.identity) {
            self.present.get_mut(peer).into_iter().for_each(|present| present.trust = Trust::Verified);
            return Ok((peer.clone(), vec![self.remember(peer, known, true)]));
        }
        if let Some(present) = self.present.remove(peer) {
            self.left_for_link.insert(peer.clone(), present.other);
        }
        self.pinned.insert(peer.clone(), known.clone());
        Ok((peer.clone(), vec![Effect::Pin { peer: peer.clone(), known: Some(known) }]))
    }
}

/// What is said of a link that leads nowhere from elsewhere.
pub fn local(link: &Link) -> Option<String> {
    let is_local = link.server().parse::<ServerUrl>().is_ok_and(|server| server.is_loopback());
    let host = &link.host;
    is_local.then(|| {
        format!(
            "this link is good on this machine alone, since its server is {host}; for others, start with --server and \
             an address that they reach"
        )
    })
}
