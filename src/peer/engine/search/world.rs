//! The world of the search: three engines, what is on its way to each, what its users want, and every step that can
//! come next.

#![cfg(test)]

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use super::super::super::event::CloseReason;
use super::super::super::keys::KeyPair;
use super::super::super::random::row;
use super::super::{Engine, Input, PeerConnectionId, Setup};
use super::actor::{Actor, Agreed, Consequence, Memory, Talk};
use super::adversary::{ACTS, Act, FIELDS, Posted};
use super::{NAMES, hash};

/// What users want to do, each in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wish {
    Call(usize, usize),
    Leave(usize, usize),
    /// One loses the connection to another, who does not notice.
    Lose(usize, usize),
}

impl Wish {
    fn user(self) -> usize {
        let (Self::Call(user, _) | Self::Leave(user, _) | Self::Lose(user, _)) = self;
        user
    }
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Wish(usize),
    Accept(usize, usize),
    Deliver(usize),
    /// The data channel of a user's call opens.
    Open(usize, usize),
    /// What is on its way on a data channel comes to a user.
    Frame(usize),
    Act(usize, Act),
    /// A user hears once more what was heard: the how manieth.
    Replay(usize, usize),
    /// A user hears of a session that there is not.
    Announce(usize, usize),
    /// Nothing comes for so many seconds.
    Wait(u64),
    /// The thief calls a user under the name of somebody.
    Thief(usize, usize),
}

impl Step {
    pub(super) fn is_act(self) -> bool {
        matches!(self, Self::Act(..) | Self::Replay(..) | Self::Announce(..) | Self::Wait(..) | Self::Thief(..))
    }
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) actors: [Rc<Actor>; 3],
    pub(super) queues: [VecDeque<Rc<Posted>>; 3],
    /// What is on its way on data channels, and where it comes from.
    pub(super) frames: [VecDeque<(PeerConnectionId, Rc<str>)>; 3],
    /// Data channels: both ends.
    pub(super) channels: Vec<[(usize, PeerConnectionId); 2]>,
    pub(super) wishes: Vec<Wish>,
    /// Whom users are asked about.
    pub(super) asked: BTreeSet<(usize, usize, Option<[u8; 32]>)>,
    /// Whom users have called, or which identity they have said yes to.
    pub(super) wanted: BTreeSet<(usize, usize, Option<[u8; 32]>)>,
    /// All keys that were ever agreed on.
    pub(super) agreed: Rc<Vec<Rc<Agreed>>>,
    /// All that was ever said.
    pub(super) heard: Rc<Vec<Rc<Posted>>>,
    pub(super) acts: usize,
    /// How many seconds have passed.
    pub(super) time: u64,
    /// Whose next message was changed just now, so that it comes next: another order would come to the same.
    pub(super) bound: Option<usize>,
    /// Users who are away say neither yes nor no.
    pub(super) away: [bool; 3],
    /// Somebody who has a chat, and whose identity and position in it are stolen: with whom, and who.
    pub(super) thief: Option<(usize, usize)>,
    /// What went wrong on the way here.
    pub(super) fault: Option<String>,
}

impl World {
    pub(super) fn new(wishes: &[Wish], setups: impl Fn(usize, &[KeyPair; 3]) -> Setup) -> Self {
        row::begin(8, 0);
        let identities = [(); 3].map(|()| KeyPair::generate());
        row::end();
        let now = Instant::now();
        let actor = |user: usize| {
            let setup = Setup { identity: identities[user].clone(), ..setups(user, &identities) };
            let mut engine = Engine::new(NAMES[user], setup);
            engine.handle(Input::Online, now);
            Rc::new(Actor::new(user, engine, [0; 3]))
        };
        Self {
            actors: [0, 1, 2].map(actor),
            queues: Default::default(),
            frames: Default::default(),
            channels: Vec::new(),
            wishes: wishes.to_vec(),
            asked: BTreeSet::new(),
            wanted: BTreeSet::new(),
            agreed: Rc::default(),
            heard: Rc::default(),
            acts: 0,
            time: 0,
            bound: None,
            away: [false; 3],
            thief: None,
            fault: None,
        }
    }

    /// By which two worlds are the same. What was said before counts only while it may be said again.
    pub(super) fn state(&self, most_acts: usize) -> u64 {
        let prints = self.actors.each_ref().map(|actor| actor.print);
        let queues = self.queues.each_ref().map(|queue| queue.iter().map(|one| one.hash).collect::<Vec<_>>());
        let any_order = |hashes: &mut dyn Iterator<Item = u64>| hashes.fold(0, |all, one| all ^ one);
        let agreed = any_order(&mut self.agreed.iter().map(|agreed| agreed.hash));
        let heard = any_order(&mut self.heard.iter().map(|heard| heard.hash).filter(|_| self.acts < most_acts));
        let channels = (&self.frames, &self.channels);
        hash(&(
            prints,
            queues,
            channels,
            &self.wishes,
            &self.asked,
            &self.wanted,
            (agreed, heard, self.acts, self.time, self.bound),
        ))
    }

    pub(super) fn steps(&self, most_acts: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let may_act = self.acts < most_acts;
        if let Some(user) = self.bound {
            steps.push(Step::Deliver(user));
            if may_act {
                self.add_acts(user, &mut steps);
            }
            return steps;
        }
        let is_first =
            |(place, wish): &(usize, &Wish)| !self.wishes[..*place].iter().any(|before| before.user() == wish.user());
        steps.extend(self.wishes.iter().enumerate().filter(is_first).map(|(place, _)| Step::Wish(place)));
        let asked = self.asked.iter().filter(|(user, ..)| !self.away[*user]);
        steps.extend(asked.map(|(user, peer, _)| Step::Accept(*user, *peer)));
        for user in 0..3 {
            let ready = self.actors[user].talks.iter().filter(|talk| talk.is_described && self.is_mutual(user, talk));
            if self.thief.is_some() {
                steps.extend(ready.map(|talk| Step::Open(user, talk.peer)));
            }
            if self.frames[user].front().is_some_and(|(id, _)| self.is_open(user, *id)) {
                steps.push(Step::Frame(user));
            }
            if self.queues[user].is_empty() {
                continue;
            }
            steps.push(Step::Deliver(user));
            if may_act {
                self.add_acts(user, &mut steps);
            }
        }
        if may_act {
            for user in 0..3 {
                let others = (0..self.heard.len()).filter(|place| self.heard[*place].sender != user);
                steps.extend(others.map(|place| Step::Replay(user, place)));
                let others = (0..3).filter(|peer| *peer != user);
                steps.extend(others.map(|peer| Step::Announce(user, peer)));
            }
            steps.extend([Step::Wait(11), Step::Wait(61)]);
            steps.extend(self.thief.map(|(user, owner)| Step::Thief(user, owner)));
        }
        steps
    }

    fn add_acts(&self, user: usize, steps: &mut Vec<Step>) {
        let Some(head) = self.queues[user].front() else { return };
        steps.extend(ACTS.map(|act| Step::Act(user, act)));
        if head.value["type"] == "key:exchange" {
            let exchanges = (0..self.heard.len()).filter(|place| self.heard[*place].value["type"] == "key:exchange");
            steps.extend(exchanges.flat_map(|place| FIELDS.map(|field| Step::Act(user, Act::Cross(field, place)))));
        }
    }

    /// Whether the other side is ready to connect, too, or has done so.
    pub(super) fn is_mutual(&self, user: usize, talk: &Talk) -> bool {
        let mirrored = [talk.keys[1], talk.keys[0]];
        self.actors[talk.peer]
            .talks
            .iter()
            .any(|there| there.peer == user && there.is_described && there.keys == mirrored)
            || self.channels.iter().any(|ends| ends.contains(&(user, talk.id)))
    }

    fn is_open(&self, user: usize, id: PeerConnectionId) -> bool {
        self.actors[user].connections.iter().any(|(_, open)| *open == id)
            || !self.actors[user].talks.iter().any(|talk| talk.id == id)
    }

    pub(super) fn take(&mut self, step: Step, memory: &Memory) -> Option<()> {
        if step.is_act() {
            self.acts += 1;
        }
        match step {
            Step::Wish(place) => self.wish(place, memory),
            Step::Accept(user, peer) => {
                let asked = *self.asked.iter().find(|(one, other, _)| (*one, *other) == (user, peer))?;
                self.asked.remove(&asked);
                let input = Input::Accept { peer: NAMES[peer].to_owned() };
                self.round((user, peer), hash(&("accept", peer)), vec![input], memory);
                self.wanted.insert(asked);
            }
            Step::Deliver(user) => {
                self.bound = None;
                let message = self.queues[user].pop_front()?;
                self.round((user, message.sender), message.hash, vec![Input::Signal(message.text.clone())], memory);
            }
            Step::Open(user, peer) => self.open(user, peer, memory)?,
            Step::Frame(user) => {
                let (id, text) = self.frames[user].pop_front()?;
                let label = hash(&("frame", id, &text));
                let peer = self.actors[user]
                    .connections
                    .iter()
                    .find(|(_, connection)| *connection == id)
                    .map_or(user, |(peer, _)| *peer);
                self.round((user, peer), label, vec![Input::Received { id, text: Some(text.to_string()) }], memory);
            }
            Step::Act(user, act) => self.act(user, act, memory)?,
            Step::Replay(user, place) => {
                self.queues[user].push_front(self.heard[place].clone());
                self.bound = Some(user);
            }
            Step::Announce(user, peer) => {
                self.queues[user].push_front(Posted::joined(peer));
                self.bound = Some(user);
            }
            Step::Wait(seconds) => {
                self.time += seconds;
                (0..3).for_each(|user| self.round((user, user), hash(&"tick"), vec![Input::Tick], memory));
            }
            Step::Thief(user, owner) => {
                self.queues[user].push_front(memory.adversary.stolen_greeting(owner));
                self.queues[user].push_front(Posted::joined(owner));
                self.bound = Some(user);
            }
        }
        Some(())
    }

    fn wish(&mut self, place: usize, memory: &Memory) {
        let wish = self.wishes.remove(place);
        match wish {
            Wish::Call(user, peer) => {
                self.wanted.insert((user, peer, None));
                let input = Input::Call { peer: NAMES[peer].to_owned() };
                self.round((user, peer), hash(&wish), vec![input], memory);
            }
            Wish::Leave(user, peer) => {
                let input = Input::Leave { peer: NAMES[peer].to_owned() };
                self.round((user, peer), hash(&wish), vec![input], memory);
            }
            Wish::Lose(user, peer) => {
                let connections = &self.actors[user].connections;
                let Some((_, id)) = connections.iter().find(|(other, _)| *other == peer).copied() else { return };
                let lost = Input::Closed { id, reason: CloseReason::ConnectionLost };
                self.round((user, peer), hash(&wish), vec![lost, Input::Tick], memory);
            }
        }
    }

    fn open(&mut self, user: usize, peer: usize, memory: &Memory) -> Option<()> {
        let talk = self.actors[user].talks.iter().find(|talk| talk.peer == peer)?;
        let (id, mirrored) = (talk.id, [talk.keys[1], talk.keys[0]]);
        if !self.channels.iter().any(|ends| ends.contains(&(user, id))) {
            let other = self.actors[peer].talks.iter().find(|there| there.keys == mirrored)?.id;
            self.channels.push([(user, id), (peer, other)]);
        }
        self.round((user, peer), hash(&("open", id)), vec![Input::Opened { id }], memory);
        Some(())
    }

    fn act(&mut self, user: usize, act: Act, memory: &Memory) -> Option<()> {
        let head = self.queues[user].front()?.clone();
        match act {
            Act::Drop => drop(self.queues[user].pop_front()),
            Act::Delay => {
                (self.queues[user].len() > 1).then_some(())?;
                self.queues[user].rotate_left(1);
            }
            Act::Repeat => {
                self.queues[user].push_front(head);
                self.bound = Some(user);
            }
            act => {
                self.queues[user][0] = memory.adversary.change(act, &head, &self.heard)?;
                self.bound = Some(user);
            }
        }
        Some(())
    }

    /// An engine's round, and what comes of it.
    fn round(&mut self, (user, peer): (usize, usize), label: u64, inputs: Vec<Input>, memory: &Memory) {
        let outcome = memory.round((user, peer), &self.actors[user], label, self.time, inputs);
        let before = std::mem::replace(&mut self.actors[user], outcome.0.clone());
        for consequence in &outcome.1 {
            match consequence {
                Consequence::Says(target, message) => self.forward(*target, message, memory),
                Consequence::Asks(peer, identity) => {
                    if let Some(identity) = identity {
                        self.asked.retain(|(one, other, _)| (*one, *other) != (user, *peer));
                        self.asked.insert((user, *peer, Some(*identity.as_bytes())));
                    }
                }
                // A call of the user's own goes on beside what came of one of theirs.
                Consequence::AsksNoMore(peer) => {
                    self.asked.retain(|(one, other, _)| (*one, *other) != (user, *peer));
                    self.wanted.retain(|(one, other, who)| (*one, *other) != (user, *peer) || who.is_none());
                }
                Consequence::Ends(peer) => self.wanted.retain(|(one, other, _)| (*one, *other) != (user, *peer)),
                Consequence::Closes(id) => {
                    let is_open = before.connections.iter().any(|(_, connection)| connection == id);
                    if is_open && !self.is_given_up_in_time(user, &before) {
                        self.fault = Some(format!("{} gives an old connection up too early", NAMES[user]));
                    }
                }
                Consequence::Gathers(id) => {
                    if !self.actors[user].talks.iter().any(|talk| talk.id == *id) {
                        self.fault = Some(format!("{} gathers addresses for nobody", NAMES[user]));
                    }
                }
                Consequence::Transmits(id, text) => {
                    let ends = self.channels.iter().find(|ends| ends.contains(&(user, *id)));
                    if let Some(ends) = ends {
                        let (other, other_id) = ends[usize::from(ends[0] == (user, *id))];
                        self.frames[other].push_back((other_id, text.as_str().into()));
                    }
                }
            }
        }
        let fresh: Vec<_> = outcome.0.agreed.iter().filter(|agreed| !self.has_agreed(agreed)).cloned().collect();
        for agreed in fresh {
            self.check_proofs(&agreed, memory);
            Rc::make_mut(&mut self.agreed).push(agreed);
        }
    }

    fn has_agreed(&self, agreed: &Agreed) -> bool {
        self.agreed.iter().any(|before| before.hash == agreed.hash)
    }

    /// The server, as it should be, but for where the adversary is in the middle.
    fn forward(&mut self, target: usize, message: &Rc<Posted>, memory: &Memory) {
        if message.value["type"] == "session:joined" {
            return self.queues[target].push_back(message.clone());
        }
        let payload = &message.value["payload"];
        if message.value["type"] != "key:exchange" && !payload.is_null() && payload["sealed"].is_null() {
            self.fault = Some(format!("{} says something in the open", NAMES[message.sender]));
        }
        if !self.heard.iter().any(|one| one.hash == message.hash) {
            Rc::make_mut(&mut self.heard).push(message.clone());
        }
        match memory.adversary.catch(message, target, &self.heard) {
            Some((target, message)) => self.queues[target].push_back(message),
            None => self.queues[target].push_back(message.clone()),
        }
    }

    /// Goes on without choices until nothing is on its way.
    pub(super) fn settle(&mut self, memory: &Memory) {
        while let Some(step) = self.steps(0).first().copied() {
            self.take(step, memory).unwrap();
        }
    }

    /// Has an open chat of these two, and users who do not answer any more; and a thief who has the identity and the
    /// place of the one.
    pub(super) fn with_chat(mut self, owner: usize, other: usize, memory: &mut Memory) -> Result<Self, String> {
        self.wishes = vec![Wish::Call(owner, other)];
        self.thief = Some((other, owner));
        self.settle(memory);
        self.away = [true; 3];
        let engine = &self.actors[owner].engine;
        let position = engine.position(NAMES[other]).ok_or("no chat opens")?;
        memory.adversary.stolen = Some((engine.setup.identity.clone(), position));
        self.wanted.extend([(owner, other, None), (other, owner, None)]);
        self.check(memory)?;
        Ok(self)
    }
}
