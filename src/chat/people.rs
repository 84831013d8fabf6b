//! Who the peers are, as far as this user knows: what is said when one is new or not who it was, and the commands about
//! it. Pure: the file of known peers is written by whoever carries out [`Effect::Remember`] and [`Effect::Forget`].

pub mod links;
mod nicknames;
mod numbers;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::effect::{Effect, mistake, notice};
use super::report::{PeerReport, Report};
use super::screen;
use crate::options::nearest;
use crate::peer::SafetyNumber;
use crate::peer::Trust;
use crate::peer::keys::PublicKey;
use crate::peer::trust::Known;
use crate::profile::known_peers::{KnownPeer, KnownPeers};

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
    /// The keys of whoever was there, in chats that end because a link names somebody else.
    left_for_link: HashMap<String, PublicKey>,
    /// Who was refused because it is not who it was: our identity and its new one.
    refused: HashMap<String, (PublicKey, Option<PublicKey>)>,
    /// Who was refused for that or for a link, and hears of it only if the user says so.
    turned_away: HashSet<String>,
    /// Whose safety number was shown in this run, with the keys that stand for both in it.
    shown: HashMap<String, (PublicKey, PublicKey)>,
    /// The peer whose number was shown last.
    shown_last: Option<String>,
    /// Strangers whom nobody has named and who are known for this run only, in the order in which they came.
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

    /// Somebody is there, who has proven an identity or cannot. Who is new is kept in mind for good only if our user
    /// has named them (`is_named`), else until the program ends: a name does not belong for good to the first stranger
    /// who comes by it.
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
            Trust::New if !is_named => effects.extend(self.know_for_this_run(peer)),
            Trust::New => {
                let known = KnownPeer { identity: other, is_verified: false, since: self.today.clone() };
                effects.push(self.remember(peer, known, false));
            }
            Trust::Known | Trust::Unproven => {}
        }
        effects
    }

    /// Remembers who has this name, if nobody of it is known, so that they are told apart from all others again.
    pub fn tell_apart_again(&mut self, peer: &str, identity: PublicKey) -> Option<Effect> {
        let known = KnownPeer { identity, is_verified: false, since: self.today.clone() };
        self.known.get(peer, &self.server).is_none().then(|| self.remember(peer, known, false))
    }

    /// A call by a link has come to nothing, as nobody has proven to be whom it names: what was known before holds
    /// again.
    pub fn link_led_nowhere(&mut self, peer: &str) -> Vec<Effect> {
        if self.pinned.remove(peer).is_none() {
            return Vec::new();
        }
        let before = match self.known.get(peer, &self.server) {
            Some(known) => Effect::Pin { peer: peer.to_owned(), known: Some(known.clone()) },
            None => Effect::Forget(peer.to_owned()),
        };
        let line = format!(
            "nobody has proven to be whom the link names: {} may be away, or the link be wrong",
            screen::name(peer)
        );
        vec![notice(&line), before]
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
            let hint = "They may have a new device, and so a new link: ask them for the one that /link shows them now. \
                        Or the link is wrong, or somebody, such as the server, stands in between.";
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

    /// What the user calls this peer.
    pub fn alias_of(&self, peer: &str) -> Option<String> {
        self.aliases.iter().find(|(_, name)| *name == peer).map(|(alias, _)| alias.clone())
    }

    /// The key that stands for the peer of an open chat.
    pub fn key(&self, peer: &str) -> Option<PublicKey> {
        self.present.get(peer).map(|present| present.other)
    }

    /// Who was refused because they are not who they were, and waits for the user's word.
    pub fn refused(&self) -> Vec<String> {
        let mut refused: Vec<String> = self.refused.keys().cloned().collect();
        refused.sort();
        refused
    }

    /// Since when somebody is verified, if they are.
    pub fn verified_since(&self, peer: &str) -> Option<&str> {
        self.known.get(peer, &self.server).filter(|known| known.is_verified).map(|known| known.since.as_str())
    }

    /// Whether somebody of this name was refused, because they are not who they were or whom a link names.
    pub fn was_turned_away(&self, peer: &str) -> bool {
        self.turned_away.contains(peer)
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

    /// The identity of somebody who was seen before at this server.
    pub fn known_identity(&self, peer: &str) -> Option<PublicKey> {
        self.known.get(peer, &self.server).map(|known| known.identity)
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
        let names: Vec<String> = self.names().collect();
        let near = nearest::within(name, names.iter().map(String::as_str), |near| (near.chars().count() / 3).max(1));
        near.filter(|near| *near != name).map(str::to_owned)
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

    /// Whether a chat with this peer is open.
    pub fn is_present(&self, peer: &str) -> bool {
        self.present.contains_key(peer)
    }

    /// Whether a chat with this peer is open, who has proven this identity.
    pub fn is_with(&self, peer: &str, identity: PublicKey) -> bool {
        let is_it = |present: &Present| present.other == identity && present.trust != Trust::Unproven;
        self.present.get(peer).is_some_and(is_it)
    }

    /// Notes that a stranger whom nobody has named is known for this run. Where that makes too many, returns what
    /// forgets the oldest of them who is not here.
    fn know_for_this_run(&mut self, peer: &str) -> Option<Effect> {
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
