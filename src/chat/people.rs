//! Who the peers are, as far as this user knows: what is said when one is new or not who it was, and the commands about it.
//! Pure: the file of known peers is written by whoever carries out [`Effect::Remember`] and [`Effect::Forget`].

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::effect::{Effect, mistake, notice};
use super::report::{PeerReport, Report};
use super::screen;
use crate::peer::keys::PublicKey;
use crate::peer::link::Link;
use crate::peer::safety_number::SafetyNumber;
use crate::peer::trust::Known;
use crate::peer::{ServerUrl, Trust};
use crate::profile::known_peers::{KnownPeer, KnownPeers};
use crate::protocol::MAX_USERNAME_BYTES;

/// The user, and the peers that were seen before.
#[derive(Debug)]
pub struct People {
    /// The user's own name.
    pub name: String,
    /// The user's own identity; none where there was no place to keep one.
    pub identity: Option<PublicKey>,
    /// The server, as it stands in links and in the file of known peers: a host, perhaps with a port.
    pub server: String,
    /// Whether the connection to it is not encrypted.
    pub is_plain: bool,
    /// Who was seen before.
    pub known: KnownPeers,
    /// Today's date.
    pub today: String,
    /// What the user calls some of the peers.
    pub aliases: BTreeMap<String, String>,
    /// Who is there in each open chat.
    present: HashMap<String, Present>,
    /// Who was called by a link, until they have proven that they are the one.
    pinned: HashMap<String, KnownPeer>,
    /// The keys of whoever was there, in chats that end since a link names somebody else.
    left_for_link: HashMap<String, PublicKey>,
    /// Who was refused because it is not who it was: our identity and its new one.
    refused: HashMap<String, (PublicKey, Option<PublicKey>)>,
    /// Who was refused for that or for a link, and hears of it only if the user says so.
    turned_away: HashSet<String>,
    /// Whose safety number was shown in this run, with the keys that stand for both in it.
    shown: HashMap<String, (PublicKey, PublicKey)>,
    /// Whose was the last.
    shown_last: Option<String>,
    /// Whom nobody has named, and who is known for this run only; who came first is forgotten first.
    passing: VecDeque<String>,
}

#[derive(Debug, Clone, Copy)]
struct Present {
    trust: Trust,
    /// The keys that stand for both in the safety number.
    own: PublicKey,
    other: PublicKey,
}

impl People {
    /// A user who has seen `known` before.
    pub fn new(
        name: &str,
        identity: Option<PublicKey>,
        server: &str,
        is_plain: bool,
        known: KnownPeers,
        today: &str,
    ) -> Self {
        Self {
            name: name.to_owned(),
            identity,
            server: server.to_owned(),
            is_plain,
            known,
            today: today.to_owned(),
            aliases: BTreeMap::new(),
            present: HashMap::new(),
            pinned: HashMap::new(),
            left_for_link: HashMap::new(),
            refused: HashMap::new(),
            turned_away: HashSet::new(),
            shown: HashMap::new(),
            shown_last: None,
            passing: VecDeque::new(),
        }
    }

    /// Somebody is there, and has proven who it is or cannot. Whom nobody `is_named` has not become known by it for longer than
    /// the program runs: a name does not belong for good to the first stranger who comes by it.
    pub fn identified(
        &mut self,
        peer: &str,
        trust: Trust,
        own: PublicKey,
        other: PublicKey,
        is_named: bool,
    ) -> Vec<Effect> {
        self.present.insert(peer.to_owned(), Present { trust, own, other });
        self.refused.remove(peer);
        self.turned_away.remove(peer);
        let number = SafetyNumber::new((own, &self.name), (other, peer));
        let mut effects = vec![Effect::Show(Report::Identified { peer: peer.to_owned(), trust, number })];
        match trust {
            Trust::Verified => {
                if let Some(known) = self.pinned.remove(peer).filter(|known| known.identity == other) {
                    effects.push(self.remember(peer, known, true));
                }
            }
            Trust::New if !is_named => effects.extend(self.pass(peer)),
            Trust::New => {
                let known = KnownPeer { identity: other, is_verified: false, since: self.today.clone() };
                effects.push(self.remember(peer, known, false));
            }
            Trust::Known | Trust::Unproven => {}
        }
        effects
    }

    /// Somebody is not who it was, and was refused.
    pub fn changed(&mut self, peer: &str, own: PublicKey, known: &Known, identity: Option<PublicKey>) -> Vec<Effect> {
        let name = screen::name(peer);
        self.turned_away.insert(peer.to_owned());
        if self.pinned.remove(peer).is_some_and(|pinned| pinned.identity == known.identity) {
            // The link was wrong, or this is: what was known before holds again.
            let before = match self.known.get(peer, &self.server) {
                Some(known) => Effect::Pin { peer: peer.to_owned(), known: Some(known.clone()) },
                None => Effect::Forget(peer.to_owned()),
            };
            let line = format!("{name} IS NOT THE ONE THAT THE LINK NAMES. No text was sent to them in this call.");
            let hint =
                "Either the link is wrong, or somebody, such as the server, stands in between: ask for it again.";
            let told = format!("They were not told; /decline {name} lets them know that you will not talk to them.");
            return vec![notice(&line), notice(hint), notice(&told), before];
        }
        self.refused.insert(peer.to_owned(), (own, identity));
        let dated = self.known.get(peer, &self.server).filter(|dated| dated.identity == known.identity);
        let since = dated.map(|dated| dated.since.clone()).unwrap_or_default();
        let number = |identity| SafetyNumber::new((own, &self.name), (identity, peer));
        vec![Effect::Show(Report::IdentityChanged {
            peer: peer.to_owned(),
            known: KnownPeer { identity: known.identity, is_verified: known.is_verified, since },
            known_number: number(known.identity),
            number: identity.map(number),
        })]
    }

    /// Whether a chat that ended like this has made way for a call by a link.
    pub fn has_made_way(&mut self, peer: &str, identity: Option<PublicKey>) -> bool {
        self.left_for_link.remove(peer).is_some_and(|other| identity.is_none_or(|identity| identity == other))
    }

    /// A chat has ended.
    pub fn left(&mut self, peer: &str) {
        self.present.remove(peer);
    }

    /// Who is there in the open chat with this peer.
    pub fn trust_in(&self, peer: &str) -> Option<Trust> {
        self.present.get(peer).map(|present| present.trust)
    }

    /// The key that stands for the peer of an open chat.
    pub fn key(&self, peer: &str) -> Option<PublicKey> {
        self.present.get(peer).map(|present| present.other)
    }

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
        let number = SafetyNumber::new((own, &self.name), (other, peer));
        vec![Effect::Show(Report::SafetyNumber { peer: peer.to_owned(), trust, number })]
    }

    /// `/verify yes`, `/verify NAME yes`: the number was compared. Without a name it is the one that was shown last. What was
    /// compared says nothing of another key that has taken its place since.
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

    /// Whether somebody of this name was refused, since they are not who they were or whom a link names.
    pub fn was_turned_away(&self, peer: &str) -> bool {
        self.turned_away.contains(peer)
    }

    /// A call to somebody was not answered. If they know us by another key, they need the number that we have with them.
    pub fn unanswered(&self, peer: &str) -> Option<Effect> {
        let (own, known) = (self.identity?, self.known.get(peer, &self.server)?);
        let number = SafetyNumber::new((own, &self.name), (known.identity, peer));
        let words =
            "if you have a new device, let them know by another way, and read them your safety number with them";
        Some(notice(&format!("{words}:\n    {number}")))
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

    /// `/peers`: who was seen before at this server, and who is here now.
    pub fn peers(&self) -> Vec<Effect> {
        let report = |peer: &str, known: Option<&KnownPeer>| PeerReport {
            peer: peer.to_owned(),
            alias: self.alias_of(peer),
            known: known.cloned(),
            is_here: self.is_present(peer),
        };
        let mut peers: Vec<PeerReport> =
            self.known.at(&self.server).map(|(name, known)| report(&name, Some(known))).collect();
        let mut others: Vec<&String> = self.present.keys().filter(|peer| !self.is_known(peer)).collect();
        others.sort();
        peers.extend(others.into_iter().map(|peer| report(peer, None)));
        vec![Effect::Show(Report::Peers(peers))]
    }

    /// What the user calls this peer.
    pub fn alias_of(&self, peer: &str) -> Option<String> {
        self.aliases.iter().find(|(_, name)| *name == peer).map(|(alias, _)| alias.clone())
    }

    /// `/alias`: the user calls `peer` so from now on. One of the two names is that of somebody `is_met`, and the other is new.
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

    /// `/unalias`
    pub fn unalias(&mut self, alias: String) -> Vec<Effect> {
        match self.aliases.remove(&alias) {
            Some(peer) => {
                let line = notice(&format!("{} is called by that name again", screen::name(&peer)));
                vec![line, Effect::Alias { alias, peer: None }]
            }
            None => vec![mistake(&format!("you call nobody {}", screen::name(&alias)))],
        }
    }

    /// `/alias` alone.
    pub fn all_aliases(&self) -> Vec<Effect> {
        let line = |(alias, peer): (&String, &String)| format!("{alias} is what you call {}", screen::name(peer));
        match self.aliases.is_empty() {
            true => vec![notice("you call everybody by their own name")],
            false => vec![notice(&self.aliases.iter().map(line).collect::<Vec<_>>().join("\n"))],
        }
    }

    /// The names of who was seen before at this server.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.known.at(&self.server).map(|(name, _)| name)
    }

    /// Whether somebody of this name was seen before at this server.
    pub fn is_known(&self, peer: &str) -> bool {
        self.known.get(peer, &self.server).is_some()
    }

    /// Who of those who were seen before was probably meant by `name`.
    pub fn nearest(&self, name: &str) -> Option<String> {
        let distance = |other: &String| strsim::damerau_levenshtein(name, other);
        self.names()
            .min_by_key(distance)
            .filter(|near| (1..=(near.chars().count() / 3).max(1)).contains(&distance(near)))
    }

    /// `/forget`: the next one of that name is new.
    pub fn forget(&mut self, peer: &str) -> Vec<Effect> {
        let name = screen::name(peer);
        self.refused.remove(peer);
        let was_pinned = self.pinned.remove(peer).is_some();
        self.present.get_mut(peer).into_iter().for_each(|present| present.trust = Trust::New);
        let was_passing = self.passing.iter().any(|name| name == peer);
        self.passing.retain(|name| name != peer);
        match self.known.remove(peer, &self.server) || was_pinned || was_passing {
            true => vec![notice(&format!("{name} is forgotten")), Effect::Forget(peer.to_owned())],
            false => vec![mistake(&format!("{name} is not known"))],
        }
    }

    /// `/link`: the user's own.
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

    /// Whether a chat with this peer is open.
    pub fn is_present(&self, peer: &str) -> bool {
        self.present.contains_key(peer)
    }

    /// Whether a chat with this peer is open, who has proven this identity.
    pub fn is_with(&self, peer: &str, identity: PublicKey) -> bool {
        let is_it = |present: &Present| present.other == identity && present.trust != Trust::Unproven;
        self.present.get(peer).is_some_and(is_it)
    }

    /// A call by a link: only the identity in it is taken. The name to call.
    ///
    /// # Errors
    /// What is wrong with the link, for people: it is for another server, or for somebody else than is known by that name.
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

    /// Somebody has come by whom nobody has named. Of those who left, as many are known again as there is room for.
    fn pass(&mut self, peer: &str) -> Option<Effect> {
        self.passing.retain(|name| name != peer);
        self.passing.push_back(peer.to_owned());
        let too_many = self.passing.len() > MAX_PASSING;
        let oldest = self.passing.iter().position(|name| too_many && !self.present.contains_key(name))?;
        let peer = self.passing.remove(oldest)?;
        Some(Effect::Pin { peer, known: None })
    }

    fn remember(&mut self, peer: &str, known: KnownPeer, replaces: bool) -> Effect {
        self.passing.retain(|name| name != peer);
        self.known.insert(peer, &self.server, known.clone());
        Effect::Remember { peer: peer.to_owned(), known, replaces }
    }
}

/// Strangers whom nobody has named and who are known until the program ends. A bot meets as many as there are names.
const MAX_PASSING: usize = 1000;

/// What is said of a link that leads nowhere from elsewhere.
pub fn local(link: &Link) -> Option<String> {
    let is_local = link.server().parse::<ServerUrl>().is_ok_and(|server| server.is_loopback());
    let host = &link.host;
    is_local.then(|| {
        format!("this link is good on this machine alone, since its server is {host}; for others, name by --server an address that they reach")
    })
}
