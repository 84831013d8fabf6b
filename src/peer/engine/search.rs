//! Looks at every order in which two whole calls may go, with acts of an adversary in between, and at what must hold in
//! each: no address and no hello of the called side before a proof and consent, agreement on who is there and on the
//! keys, no end in which both wait. The adversary has the server and the network: it drops, repeats, delays and changes
//! what is said, says it under other names, and plays back what was said in either call. What holds is tried on faults
//! that are planted.

#[cfg(test)]
mod tests {
    use std::collections::hash_map::DefaultHasher;
    use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
    use std::hash::{Hash, Hasher};
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use super::super::super::agreement::{self, Names, OwnKeys, Side};
    use super::super::super::event::{CloseReason, Event};
    use super::super::super::hello;
    use super::super::super::keys::{KeyPair, PublicKey};
    use super::super::super::planted::{Fault, plant};
    use super::super::call::Stage;
    use super::super::{Engine, Input, Output, Setup};

    const NAMES: [&str; 3] = ["alice", "bob", "mallory"];

    /// What users want to do, each in this order.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    enum Wish {
        Call(usize, usize),
        Leave(usize, usize),
    }

    impl Wish {
        fn user(self) -> usize {
            match self {
                Self::Call(user, _) | Self::Leave(user, _) => user,
            }
        }
    }

    /// Something on its way to a user. The label names it by where it comes from, whatever random bytes are in it.
    #[derive(Debug, Clone)]
    struct Message {
        sender: usize,
        value: Value,
        label: u64,
    }

    /// What can happen next.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Step {
        Wish(usize),
        Accept(usize, usize),
        Deliver(usize),
        Act(usize, Act),
        Replay(usize, usize),
    }

    /// What the adversary does to what a user would get next.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    enum Act {
        Drop,
        Repeat,
        Delay,
        Rename(usize),
        Key,
        Kem,
        Ciphertext,
        Answers,
        Version,
        Strip,
        Garble,
    }

    const ACTS: [Act; 13] = [
        Act::Drop,
        Act::Repeat,
        Act::Delay,
        Act::Rename(0),
        Act::Rename(1),
        Act::Rename(2),
        Act::Key,
        Act::Kem,
        Act::Ciphertext,
        Act::Answers,
        Act::Version,
        Act::Strip,
        Act::Garble,
    ];

    /// The adversary's own keys.
    struct Adversary {
        key: String,
        kem: String,
        ciphertext: String,
    }

    impl Adversary {
        fn new() -> Self {
            let own = OwnKeys::generate();
            let names = Names { caller: NAMES[0], called: NAMES[1] };
            let (answer, _) = agreement::answer(&own.greeting(), names).unwrap();
            let kem = serde_json::to_value(hello::write_greeting(&own.greeting())).unwrap();
            let answer = serde_json::to_value(hello::write_answer(&answer)).unwrap();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            Self {
                key: text(&kem["publicKey"]),
                kem: text(&kem["lowkey"]["kem"]),
                ciphertext: text(&answer["lowkey"]["ciphertext"]),
            }
        }

        /// The message as it is changed; `None` where there is nothing to change.
        fn change(&self, act: Act, message: &Message) -> Option<Message> {
            let mut changed = message.clone();
            let payload = &mut changed.value["payload"];
            let put = |field: &mut Value, value: Value| {
                let differs = !field.is_null() && *field != value;
                *field = value;
                differs.then_some(())
            };
            match act {
                Act::Key => put(&mut payload["publicKey"], json!(self.key))?,
                Act::Kem => put(payload.pointer_mut("/lowkey/kem")?, json!(self.kem))?,
                Act::Ciphertext => put(payload.pointer_mut("/lowkey/ciphertext")?, json!(self.ciphertext))?,
                Act::Answers => put(payload.pointer_mut("/lowkey/answers")?, json!(self.key))?,
                Act::Version => put(payload.pointer_mut("/lowkey/version")?, json!(3))?,
                Act::Strip => drop(payload.as_object_mut()?.remove("lowkey")?),
                Act::Garble => {
                    let sealed = payload.get_mut("sealed")?;
                    let text = sealed.as_str()?.to_owned();
                    *sealed = json!(format!("AAAA{}", &text[4..]));
                }
                Act::Rename(user) => {
                    (changed.value.get("sender")?.as_str()? != NAMES[user]).then_some(())?;
                    changed.value["sender"] = json!(NAMES[user]);
                    changed.sender = user;
                }
                Act::Drop | Act::Repeat | Act::Delay => return None,
            }
            changed.label = hash(&(message.label, act));
            Some(changed)
        }
    }

    fn hash(of: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        of.hash(&mut hasher);
        hasher.finish()
    }

    /// Somebody who negotiates: which side, with whom and by which keys.
    type Party = (usize, Side, PublicKey, PublicKey, PublicKey);

    #[derive(Clone)]
    struct World {
        engines: [Engine; 3],
        queues: [VecDeque<Message>; 3],
        /// What each engine has got so far.
        histories: [u64; 3],
        wishes: Vec<Wish>,
        /// Whom users are asked about.
        asked: BTreeSet<(usize, usize)>,
        /// Whom users have called, or have said yes to.
        wanted: BTreeSet<(usize, usize)>,
        parties: Vec<Party>,
        heard: Vec<Message>,
        acts: usize,
    }

    impl World {
        fn new(wishes: &[Wish], now: Instant) -> Self {
            let engine = |name: &str| {
                let mut engine = Engine::new(name, Setup { identity: KeyPair::generate(), ..Setup::default() });
                engine.handle(Input::Online, now);
                engine
            };
            Self {
                engines: NAMES.map(engine),
                queues: Default::default(),
                histories: [0, 1, 2],
                wishes: wishes.to_vec(),
                asked: BTreeSet::new(),
                wanted: BTreeSet::new(),
                parties: Vec::new(),
                heard: Vec::new(),
                acts: 0,
            }
        }

        /// By which two worlds are the same: what each engine has got, and what is on its way.
        fn state(&self) -> u64 {
            let queues =
                self.queues.each_ref().map(|queue| queue.iter().map(|one| (one.sender, one.label)).collect::<Vec<_>>());
            hash(&(self.histories, queues, &self.wishes, &self.asked, &self.wanted, self.acts))
        }

        fn steps(&self, most_acts: usize) -> Vec<Step> {
            let is_first = |(place, wish): &(usize, &Wish)| {
                !self.wishes[..*place].iter().any(|before| before.user() == wish.user())
            };
            let mut steps: Vec<Step> =
                self.wishes.iter().enumerate().filter(is_first).map(|(place, _)| Step::Wish(place)).collect();
            steps.extend(self.asked.iter().map(|(user, peer)| Step::Accept(*user, *peer)));
            for user in 0..3 {
                if self.queues[user].is_empty() {
                    continue;
                }
                steps.push(Step::Deliver(user));
                if self.acts < most_acts {
                    steps.extend(ACTS.map(|act| Step::Act(user, act)));
                }
            }
            if self.acts < most_acts {
                let users = (0..3).filter(|user| !self.queues[*user].is_empty() || self.wishes.is_empty());
                steps.extend(users.flat_map(|user| (0..self.heard.len()).map(move |place| Step::Replay(user, place))));
            }
            steps
        }

        fn take(&mut self, step: Step, adversary: &Adversary, now: Instant) -> Option<()> {
            match step {
                Step::Wish(place) => match self.wishes.remove(place) {
                    Wish::Call(user, peer) => {
                        self.wanted.insert((user, peer));
                        self.handle(user, Input::Call { peer: NAMES[peer].to_owned() }, hash(&("call", peer)), now);
                    }
                    Wish::Leave(user, peer) => {
                        self.handle(user, Input::Leave { peer: NAMES[peer].to_owned() }, hash(&("leave", peer)), now);
                    }
                },
                Step::Accept(user, peer) => {
                    self.asked.remove(&(user, peer));
                    self.wanted.insert((user, peer));
                    self.handle(user, Input::Accept { peer: NAMES[peer].to_owned() }, hash(&("accept", peer)), now);
                }
                Step::Deliver(user) => {
                    let message = self.queues[user].pop_front()?;
                    self.deliver(user, message, now);
                }
                Step::Act(user, act) => {
                    self.acts += 1;
                    let head = self.queues[user].front()?.clone();
                    match act {
                        Act::Drop => drop(self.queues[user].pop_front()),
                        Act::Repeat => self.queues[user].push_front(head),
                        Act::Delay => {
                            (self.queues[user].len() > 1).then_some(())?;
                            let head = self.queues[user].pop_front()?;
                            self.queues[user].push_back(head);
                        }
                        act => {
                            let changed = adversary.change(act, &head)?;
                            self.queues[user][0] = changed;
                        }
                    }
                }
                Step::Replay(user, place) => {
                    self.acts += 1;
                    let mut message = self.heard[place].clone();
                    (message.sender != user).then_some(())?;
                    message.value["sender"] = json!(NAMES[message.sender]);
                    self.queues[user].push_front(message);
                }
            }
            Some(())
        }

        fn deliver(&mut self, user: usize, message: Message, now: Instant) {
            if message.value["type"] != "session:joined" && !self.heard.iter().any(|one| one.label == message.label) {
                self.heard.push(message.clone());
            }
            let label = hash(&(message.sender, message.label));
            self.handle(user, Input::Signal(message.value.to_string()), label, now);
        }

        fn handle(&mut self, user: usize, input: Input, label: u64, now: Instant) {
            self.histories[user] = hash(&(self.histories[user], label));
            for (place, output) in self.engines[user].handle(input, now).into_iter().enumerate() {
                let label = hash(&(self.histories[user], place));
                match output {
                    Output::Signal(text) => self.relay(user, serde_json::from_str(&text).unwrap(), label),
                    Output::Event(Event::Request { peer, trust, identity }) => {
                        let peer = NAMES.iter().position(|name| *name == peer).unwrap();
                        if identity.is_some() {
                            self.asked.insert((user, peer));
                        }
                        let _ = trust;
                    }
                    Output::Event(Event::RequestEnded { peer } | Event::Refused { peer, .. }) => {
                        let peer = NAMES.iter().position(|name| *name == peer).unwrap();
                        self.asked.remove(&(user, peer));
                    }
                    _ => {}
                }
            }
        }

        /// The server, as it should be.
        fn relay(&mut self, user: usize, message: Value, label: u64) {
            let target = NAMES.iter().position(|name| message["target"] == *name).unwrap();
            if message["type"] == "session:connect" {
                for (to, peer) in [(user, target), (target, user)] {
                    let payload = json!({ "sessionId": "x", "peer": NAMES[peer] });
                    let value = json!({ "type": "session:joined", "payload": payload });
                    self.queues[to].push_back(Message { sender: peer, value, label: hash(&(label, to)) });
                }
            } else {
                let mut value = json!({ "type": message["type"], "sender": NAMES[user] });
                if !message["payload"].is_null() {
                    value["payload"] = message["payload"].clone();
                }
                self.queues[target].push_back(Message { sender: user, value, label });
            }
        }

        fn identity(&self, user: usize) -> PublicKey {
            self.engines[user].setup.identity.public()
        }

        /// What must hold now; otherwise what does not.
        fn check(&mut self) -> Result<(), String> {
            let mut found = Vec::new();
            for (user, engine) in self.engines.iter().enumerate() {
                for (peer, call) in &engine.contacts.calls {
                    let peer = NAMES.iter().position(|name| name == peer).unwrap();
                    let Stage::Negotiating(negotiation) = &call.stage else { continue };
                    let Some(identity) = negotiation.other.identity else {
                        return Err(format!("{} talks to an old app that nobody wanted", NAMES[user]));
                    };
                    if !self.wanted.contains(&(user, peer)) {
                        return Err(format!("{} goes on with {} before consent", NAMES[user], NAMES[peer]));
                    }
                    let (own, other) = (negotiation.other.own_key, negotiation.other.key);
                    found.push((user, call.side, own, other, identity));
                    let mut signals = negotiation.signals.clone().expect("it is one of ours");
                    let sealed = signals.seal(b"x").unwrap();
                    if signals.open(&sealed).is_ok() {
                        return Err("what was sent opens where it comes from".to_owned());
                    }
                }
            }
            for party in found {
                if !self.parties.contains(&party) {
                    self.parties.push(party);
                    let (user, side, own, other, identity) = party;
                    let is_it = |(there, its_side, its_own, its_other, its_identity): &Party| {
                        *its_side != side
                            && self.identity(*there) == identity
                            && (*its_own, *its_other, *its_identity) == (other, own, self.identity(user))
                    };
                    // The called side goes first, and has gone.
                    if side == Side::Caller && !self.parties.iter().any(is_it) {
                        return Err(format!("{} agrees with nobody", NAMES[user]));
                    }
                }
            }
            self.check_proofs()
        }

        /// No proof holds for two who do not agree on all that was said in the open.
        fn check_proofs(&self) -> Result<(), String> {
            let mut calling = Vec::new();
            let mut called = Vec::new();
            for (user, engine) in self.engines.iter().enumerate() {
                for call in engine.contacts.calls.values() {
                    match &call.stage {
                        Stage::AwaitingHello { agreement, .. } => calling.push((user, agreement)),
                        Stage::Greeted { agreement, .. } => called.push(agreement),
                        _ => {}
                    }
                }
                called.extend(engine.contacts.approaches.values().map(|approach| &approach.agreement));
            }
            for (user, caller) in &calling {
                for called in &called {
                    let is_same = (caller.own_key(), caller.other_key()) == (called.other_key(), called.own_key());
                    let identity = &self.engines[*user].setup.identity;
                    if is_same
                        && caller.transcript() != called.transcript()
                        && called.is_proven(&caller.prove(identity, &[]), identity.public(), &[])
                    {
                        return Err("a proof holds for something else than was said".to_owned());
                    }
                }
            }
            Ok(())
        }

        /// What must hold when nothing is on its way any more. `is_honest`: nobody has acted.
        fn check_end(&mut self, last_call: (usize, usize), is_honest: bool, now: Instant) -> Result<(), String> {
            let (one, other) = last_call;
            let negotiates = |user: usize, peer: usize| {
                let call = self.engines[user].contacts.calls.get(NAMES[peer]);
                call.is_some_and(|call| matches!(call.stage, Stage::Negotiating(_)))
            };
            if is_honest && !(negotiates(one, other) && negotiates(other, one)) {
                return Err(format!("{} and {} wait for each other", NAMES[one], NAMES[other]));
            }
            // Whatever was done, nobody waits for ever.
            for engine in &mut self.engines {
                let mut later = now;
                for _ in 0..4 {
                    later += Duration::from_secs(61);
                    engine.handle(Input::Tick, later);
                }
                if !engine.is_idle() {
                    return Err(format!("{} waits for ever", engine.username));
                }
            }
            Ok(())
        }
    }

    /// Goes through all that can happen with so many acts; how many states there are.
    fn search(wishes: &[Wish], most_acts: usize, last_call: (usize, usize)) -> Result<usize, String> {
        let (now, adversary) = (Instant::now(), Adversary::new());
        let mut seen = HashSet::new();
        let mut open = vec![(World::new(wishes, now), Vec::new())];
        while let Some((world, path)) = open.pop() {
            let mut is_end = true;
            for step in world.steps(most_acts) {
                let mut next = world.clone();
                if next.take(step, &adversary, now).is_none() {
                    continue;
                }
                is_end &= matches!(step, Step::Act(..) | Step::Replay(..));
                if !seen.insert(next.state()) {
                    continue;
                }
                let path = [&path[..], &[step]].concat();
                next.check().map_err(|fault| format!("{fault}: {path:?}"))?;
                open.push((next, path));
            }
            if is_end {
                let is_honest = world.acts == 0;
                world.clone().check_end(last_call, is_honest, now).map_err(|fault| format!("{fault}: {path:?}"))?;
            }
        }
        Ok(seen.len())
    }

    /// Two whole calls of each kind: both at once, one that is left and made again, a third user's beside it, and one
    /// caller's to two.
    fn scenarios() -> BTreeMap<&'static str, (Vec<Wish>, (usize, usize))> {
        BTreeMap::from([
            ("both call", (vec![Wish::Call(0, 1), Wish::Call(1, 0)], (0, 1))),
            ("called again", (vec![Wish::Call(0, 1), Wish::Leave(0, 1), Wish::Call(0, 1)], (0, 1))),
            ("two callers", (vec![Wish::Call(0, 1), Wish::Call(2, 1)], (0, 1))),
            ("two called", (vec![Wish::Call(0, 1), Wish::Call(0, 2)], (0, 1))),
        ])
    }

    fn search_all(most_acts: usize) -> Result<(), String> {
        for (name, (wishes, last_call)) in scenarios() {
            let begin = Instant::now();
            let states = search(&wishes, most_acts, last_call).map_err(|fault| format!("{name}: {fault}"))?;
            println!("{name}, {most_acts} acts: {states} states in {:?}", begin.elapsed());
        }
        Ok(())
    }

    #[test]
    fn whatever_the_order_and_the_act_of_an_adversary_only_who_is_proven_and_wanted_is_talked_to() {
        search_all(1).unwrap();
    }

    /// Run by `make trials`.
    #[test]
    #[ignore = "takes long: make trials"]
    fn whatever_two_acts_of_an_adversary() {
        search_all(2).unwrap();
    }

    #[test]
    fn planted_faults_are_found() {
        for fault in [
            Fault::ProofWithoutTranscript,
            Fault::AnswerBeforeConsent,
            Fault::AnyAnswer,
            Fault::OneKeyBothWays,
            Fault::BothWin,
        ] {
            plant(Some(fault));
            let found = search_all(usize::from(fault == Fault::ProofWithoutTranscript));
            plant(None);
            println!("{fault:?}: {found:?}");
            assert!(found.is_err(), "{fault:?} is not found");
        }
        for fault in [Fault::ResumedByStranger, Fault::HastyChange] {
            plant(Some(fault));
            let found = resume();
            plant(None);
            println!("{fault:?}: {found:?}");
            assert!(found.is_err(), "{fault:?} is not found");
        }
        resume().unwrap();
    }

    /// A chat is carried on while one side believes the old connection alive, in every order.
    fn resume() -> Result<(), String> {
        let now = Instant::now();
        let mut world = World::new(&[Wish::Call(0, 1)], now);
        let adversary = Adversary::new();
        let settle = |world: &mut World| {
            while let Some(step) = world.steps(0).first().copied() {
                world.take(step, &adversary, now);
            }
        };
        settle(&mut world);
        let ids = [0, 1].map(|user| world.engines[user].contacts.calls[NAMES[1 - user]].id);
        for user in [0, 1] {
            world.handle(user, Input::Opened { id: ids[user] }, 7, now);
        }
        stranger(&world, now)?;
        // Alice alone has lost the connection.
        world.handle(0, Input::Closed { id: ids[0], reason: CloseReason::ConnectionLost }, 8, now);
        world.handle(0, Input::Tick, 9, now);
        settle(&mut world);
        let new = [0, 1].map(|user| world.engines[user].contacts.calls.get(NAMES[1 - user]).map(|call| call.id));
        let [Some(_), Some(at_bob)] = new else { return Err("the chat is not carried on".to_owned()) };
        let closes = |outputs: &[Output]| {
            outputs.iter().any(|output| matches!(output, Output::Close { id, .. } if *id == ids[1]))
        };
        let outputs = world.engines[1].handle(Input::Opened { id: at_bob }, now);
        if closes(&outputs) {
            return Err("the old connection is given up before a frame has opened on the new one".to_owned());
        }
        Ok(())
    }

    /// Somebody with alice's identity, who does not know bob's, would carry on her chat.
    fn stranger(world: &World, now: Instant) -> Result<(), String> {
        let mut bob = world.engines[1].clone();
        let alice = &world.engines[0].setup.identity;
        let place = world.engines[0].place(NAMES[1]).unwrap();
        let joined = json!({ "type": "session:joined", "payload": { "sessionId": "x", "peer": NAMES[0] } });
        bob.handle(Input::Signal(joined.to_string()), now);
        let own = OwnKeys::generate();
        let greeting = serde_json::to_value(hello::write_greeting(&own.greeting())).unwrap();
        let greeting = json!({ "type": "key:exchange", "sender": NAMES[0], "payload": greeting });
        let outputs = bob.handle(Input::Signal(greeting.to_string()), now);
        let Some(Output::Signal(answer)) = outputs.first() else { return Err(format!("{outputs:?}")) };
        let answer: Value = serde_json::from_str(answer).unwrap();
        let hello::Said::Answer(answer) =
            hello::Said::read(&serde_json::from_value(answer["payload"].clone()).unwrap())
        else {
            return Err("no answer".to_owned());
        };
        let agreement = own.agree(&answer, Names { caller: NAMES[0], called: NAMES[1] });
        let proof = agreement.prove(alice, &[]);
        let hello = hello::Hello { identity: alice.public(), proof, features: Vec::new(), place: Some(place) };
        let sealed = agreement.seal_first(&hello.write(), None);
        let first = json!({ "type": "signal:ice", "sender": NAMES[0], "payload": { "sealed": sealed } });
        let outputs = bob.handle(Input::Signal(first.to_string()), now);
        let is_asked = outputs.iter().any(|output| matches!(output, Output::Event(Event::Request { .. })));
        if is_asked { Ok(()) } else { Err("a chat is carried on by who does not know us".to_owned()) }
    }
}
