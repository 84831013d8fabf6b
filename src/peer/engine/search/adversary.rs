//! What the adversary of the search can do: it has the server, and with it every message; keys of its own, for a place
//! in the middle of a call; and, where it is a thief, an identity of somebody else.

#![cfg(test)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::{Value, json};

use super::super::super::agreement::{self, Agreement, GreetingAnswer, Names, OwnKeys};
use super::super::super::frame::ChatPosition;
use super::super::super::hello::{self, Hello, Inside, Said};
use super::super::super::keys::{KeyPair, PublicKey};
use super::super::super::random::row;
use super::{NAMES, hash};
use crate::protocol::MessageType;

/// Something on its way to a user, as the server has it.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) sender: usize,
    pub(super) value: Value,
    pub(super) text: String,
    /// By which two are the same.
    pub(super) hash: u64,
}

impl Posted {
    pub(super) fn new(sender: usize, value: Value) -> Rc<Self> {
        let text = value.to_string();
        Rc::new(Self { sender, hash: hash(&(sender, &text)), value, text })
    }

    /// Says that there is a session with somebody.
    pub(super) fn joined(peer: usize) -> Rc<Self> {
        let payload = json!({ "sessionId": "x", "peer": NAMES[peer] });
        Self::new(peer, json!({ "type": "session:joined", "payload": payload }))
    }

    fn said(sender: usize, kind: &str, payload: &Value) -> Rc<Self> {
        Self::new(sender, json!({ "type": kind, "sender": NAMES[sender], "payload": payload }))
    }

    fn exchange(&self) -> Option<Said> {
        (self.value["type"] == "key:exchange").then_some(())?;
        Some(Said::read(&serde_json::from_value(self.value["payload"].clone()).ok()?))
    }
}

impl Manner {
    fn pass(self, inside: Vec<u8>) -> Vec<u8> {
        match Inside::read(MessageType::SignalIce, &inside) {
            Some(Inside::Hello(hello)) if self == Self::Strips => Hello { features: Vec::new(), ..hello }.write(),
            _ => inside,
        }
    }
}

/// What is done to a message before a user gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Act {
    Drop,
    /// It comes twice.
    Repeat,
    /// It comes behind all that is on its way.
    Delay,
    /// It comes from somebody else.
    Rename(usize),
    /// A field is that of the adversary's own keys.
    Own(Field),
    /// A field is that of another message that was heard: the how manieth.
    Cross(Field, usize),
    Version,
    Strip,
    Garble,
    /// A greeting is the adversary's own from here on, and so is the answer to it and what is said behind it.
    Middle(Manner),
}

/// What somebody in the middle does with a hello that it can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Manner {
    /// It passes it on as it is.
    Passes,
    /// It takes out what the sender's program can do.
    Strips,
}

/// The fields of a `key:exchange` that hold keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Field {
    Key,
    Kem,
    Ciphertext,
    Answers,
}

pub(super) const FIELDS: [Field; 4] = [Field::Key, Field::Kem, Field::Ciphertext, Field::Answers];

/// All that can be done to a message but to cross it with another.
pub(super) const ACTS: [Act; 15] = [
    Act::Drop,
    Act::Repeat,
    Act::Delay,
    Act::Rename(0),
    Act::Rename(1),
    Act::Rename(2),
    Act::Own(Field::Key),
    Act::Own(Field::Kem),
    Act::Own(Field::Ciphertext),
    Act::Own(Field::Answers),
    Act::Version,
    Act::Strip,
    Act::Garble,
    Act::Middle(Manner::Passes),
    Act::Middle(Manner::Strips),
];

impl Field {
    fn pointer(self) -> &'static str {
        match self {
            Self::Key => "/payload/publicKey",
            Self::Kem => "/payload/lowkey/kem",
            Self::Ciphertext => "/payload/lowkey/ciphertext",
            Self::Answers => "/payload/lowkey/answers",
        }
    }

    /// What a message has that fits here: to answer is to name somebody's key.
    fn of(self, message: &Posted) -> Option<&Value> {
        let pointer = if self == Self::Answers { Self::Key.pointer() } else { self.pointer() };
        message.value.pointer(pointer)
    }
}

/// What a message is changed to, if there is anything to change.
type Changed = Option<Rc<Posted>>;

/// Who gets what in place of a message, if it is not to go its way.
type Instead = Option<(usize, Rc<Posted>)>;

/// Both halves of a call that the adversary is in the middle of.
struct Middle {
    /// Toward who calls, and who answers.
    halves: [Agreement; 2],
    users: [usize; 2],
    manner: Manner,
}

/// The adversary's own keys, and what it knows by them.
pub(super) struct Adversary {
    own: OwnKeys,
    /// The keys by which it goes into the middle to strip.
    stripping: OwnKeys,
    identity: KeyPair,
    /// What the fields of its messages are.
    fields: HashMap<Field, Value>,
    /// The identity that it has stolen, and where its owner is in the chat with whom.
    pub(super) stolen: Option<(KeyPair, ChatPosition)>,
    middles: RefCell<Vec<Rc<Middle>>>,
    changed: RefCell<HashMap<(u64, Act, u64), Changed>>,
    caught: RefCell<HashMap<(u64, usize, u64), Instead>>,
}

impl Adversary {
    pub(super) fn new() -> Self {
        row::begin(ROW, 0);
        let [own, stripping] = [(); 2].map(|()| OwnKeys::generate());
        let names = Names { caller: NAMES[0], called: NAMES[1] };
        let (answer, _) = agreement::answer(&OwnKeys::generate().greeting(), names).expect("it is a key");
        let identity = KeyPair::generate();
        row::end();
        let exchanges = [hello::write_greeting(&own.greeting()), hello::write_answer(&answer)];
        let messages = exchanges.map(|exchange| Posted::said(2, "key:exchange", &json!(exchange)));
        let find = |field: Field| messages.iter().find_map(|message| field.of(message)).cloned();
        let fields = FIELDS.map(|field| (field, find(field).expect("one of them has it")));
        Self {
            own,
            stripping,
            identity,
            fields: fields.into(),
            stolen: None,
            middles: RefCell::default(),
            changed: RefCell::default(),
            caught: RefCell::default(),
        }
    }

    /// The message as it is changed; `None` where there is nothing to change.
    pub(super) fn change(&self, act: Act, message: &Rc<Posted>, heard: &[Rc<Posted>]) -> Changed {
        let other = match act {
            Act::Cross(_, place) => heard[place].hash,
            _ => 0,
        };
        let act_on = match act {
            Act::Cross(field, _) => Act::Cross(field, 0),
            act => act,
        };
        let key = (message.hash, act_on, other);
        if let Some(changed) = self.changed.borrow().get(&key) {
            return changed.clone();
        }
        let changed = self.changed(act, message, heard);
        self.changed.borrow_mut().insert(key, changed.clone());
        changed
    }

    fn changed(&self, act: Act, message: &Posted, heard: &[Rc<Posted>]) -> Changed {
        let mut value = message.value.clone();
        let mut sender = message.sender;
        let put = |place: Option<&mut Value>, new: &Value| {
            let place = place?;
            let differs = !place.is_null() && place != new;
            place.clone_from(new);
            differs.then_some(())
        };
        match act {
            Act::Own(field) => put(value.pointer_mut(field.pointer()), &self.fields[&field])?,
            Act::Cross(field, place) => put(value.pointer_mut(field.pointer()), field.of(&heard[place])?)?,
            Act::Version => put(value.pointer_mut("/payload/lowkey/version"), &json!(3))?,
            Act::Strip => drop(value.get_mut("payload")?.as_object_mut()?.remove("lowkey")?),
            Act::Garble => {
                let sealed = value.pointer_mut("/payload/sealed")?;
                let text = sealed.as_str()?.to_owned();
                *sealed = json!(format!("AAAA{}", &text[4..]));
            }
            Act::Rename(user) => {
                put(value.get_mut("sender"), &json!(NAMES[user]))?;
                sender = user;
            }
            Act::Middle(manner) => {
                let Said::Greeting(_) = message.exchange()? else { return None };
                let greeting = json!(hello::write_greeting(&self.keys(manner).greeting()));
                put(value.get_mut("payload"), &greeting)?;
            }
            Act::Drop | Act::Repeat | Act::Delay => return None,
        }
        Some(Posted::new(sender, value))
    }

    /// Whether this is a key of the adversary.
    pub(super) fn has(&self, key: PublicKey) -> bool {
        self.manner(key).is_some()
    }

    fn keys(&self, manner: Manner) -> &OwnKeys {
        match manner {
            Manner::Passes => &self.own,
            Manner::Strips => &self.stripping,
        }
    }

    /// What it does where this is its key.
    fn manner(&self, key: PublicKey) -> Option<Manner> {
        [Manner::Passes, Manner::Strips].into_iter().find(|manner| self.keys(*manner).key() == key)
    }

    /// What becomes of what a user says to another, where the adversary is in the middle of the call, or is the caller:
    /// who gets what in its stead. `heard`: what was said before.
    pub(super) fn catch(&self, message: &Rc<Posted>, target: usize, heard: &[Rc<Posted>]) -> Instead {
        // What it read before, it reads again; and what it answers with hangs on what it answers.
        let greeting = heard.iter().rev().find(|one| one.sender == target && one.value["type"] == "key:exchange");
        let key = (message.hash, target, greeting.map_or(0, |greeting| greeting.hash));
        if let Some(caught) = self.caught.borrow().get(&key) {
            return caught.clone();
        }
        row::begin(ROW, 1 << 20 | hash(&key) >> 32);
        let caught = match message.exchange() {
            Some(Said::Answer(answer)) if self.has(answer.answers) => {
                self.answered(&answer, message.sender, target, greeting)
            }
            _ => self.in_the_middle(message, target),
        };
        row::end();
        self.caught.borrow_mut().insert(key, caught.clone());
        caught
    }

    /// A user has answered the adversary's own greeting, which it thinks is that of `target`.
    fn answered(&self, answer: &GreetingAnswer, user: usize, target: usize, greeting: Option<&Rc<Posted>>) -> Instead {
        let names = Names { caller: NAMES[target], called: NAMES[user] };
        let manner = self.manner(answer.answers)?;
        let agreement = self.keys(manner).clone().agree(answer, names);
        if let Some((stolen, position)) = &self.stolen {
            let proof = agreement.prove(stolen, &[]);
            let hello = Hello { identity: stolen.public(), proof, features: Vec::new(), position: Some(*position) };
            let sealed = agreement.seal_first(&hello.write(), None);
            return Some((user, Posted::said(target, "signal:ice", &json!({ "sealed": sealed }))));
        }
        let Some(Said::Greeting(greeting)) = greeting?.exchange() else { return None };
        let (own_answer, toward_caller) = agreement::answer(&greeting, names)?;
        let middle = Middle { halves: [toward_caller, agreement], users: [target, user], manner };
        self.middles.borrow_mut().push(Rc::new(middle));
        let answer = json!(hello::write_answer(&own_answer));
        Some((target, Posted::said(user, "key:exchange", &answer)))
    }

    /// What the adversary can read since it is in the middle, sealed anew for the other.
    fn in_the_middle(&self, message: &Posted, target: usize) -> Instead {
        let sealed = message.value.pointer("/payload/sealed")?.as_str()?;
        let kind = message.value["type"].as_str()?;
        for middle in self.middles.borrow().iter() {
            let [caller, called] = middle.users;
            let (mut toward_caller, mut toward_called) = (middle.halves[0].clone(), middle.halves[1].clone());
            let sealed = match (message.sender, target) {
                (sender, target) if (sender, target) == (caller, called) => {
                    match toward_caller.open_first(sealed, &self.identity) {
                        Some((first, _)) => Some(toward_called.seal_first(&middle.manner.pass(first), None)),
                        None => {
                            let inside = toward_caller.signals().open(sealed).ok();
                            inside.and_then(|inside| toward_called.signals().seal(&inside).ok())
                        }
                    }
                }
                (sender, target) if (sender, target) == (called, caller) => {
                    let inside = toward_called.signals().open(sealed).ok();
                    inside.and_then(|inside| toward_caller.signals().seal(&middle.manner.pass(inside)).ok())
                }
                _ => None,
            };
            if let Some(sealed) = sealed {
                return Some((target, Posted::said(message.sender, kind, &json!({ "sealed": sealed }))));
            }
        }
        None
    }

    /// The thief's greeting under the name of whom the identity is.
    pub(super) fn stolen_greeting(&self, owner: usize) -> Rc<Posted> {
        Posted::said(owner, "key:exchange", &json!(hello::write_greeting(&self.own.greeting())))
    }
}

/// The row that the adversary draws from.
const ROW: u64 = 9;
