//! A third user at an honest server, who knows everybody's names and identities, which are no secrets, and has a
//! program of their own: what they learn of somebody whose chat partner is away.

use lowkey::peer::agreement::{self, Agreement, Names, OwnKeys};
use lowkey::peer::frame::ChatPosition;
use lowkey::peer::hello::{self, Hello, Inside, Refusal, Said};
use lowkey::peer::keys::{KeyPair, PublicKey};
use lowkey::peer::{CloseReason, Event};
use lowkey::protocol::{KeyExchange, MessageType};
use serde_json::{Value, json};

use crate::evil_server::user;
use crate::world::{Client, Server, identity};

/// The third user, online under some name, and all calls that they were ever in with bob.
struct Third {
    client: Client,
    name: &'static str,
    agreements: Vec<Agreement>,
    /// What bob has said.
    heard: Vec<Value>,
}

impl Third {
    fn online(server: &Server, name: &'static str) -> Self {
        Self { client: server.client(name), name, agreements: Vec::new(), heard: Vec::new() }
    }

    /// The next `key:exchange` of bob of which this holds; all else that comes is kept.
    fn exchange(&mut self, is_it: impl Fn(&Said) -> bool) -> Said {
        loop {
            let message = self.client.json();
            assert_ne!(message["type"], "error", "{message}");
            self.heard.push(message.clone());
            let exchange = serde_json::from_value::<KeyExchange>(message["payload"].clone());
            if let Some(said) = exchange.ok().map(|exchange| Said::read(&exchange)).filter(&is_it) {
                return said;
            }
        }
    }

    fn say(&mut self, kind: &str, payload: &Value) {
        self.client.send(json!({"type": kind, "target": "bob", "payload": payload}).to_string());
    }

    /// Greets bob, whose program answers: so all that it has said before is heard.
    fn greet(&mut self) -> Agreement {
        let own = OwnKeys::generate();
        self.say("session:connect", &Value::Null);
        while self.heard_joined() {}
        self.say("key:exchange", &json!(hello::write_greeting(&own.greeting())));
        let said = self.exchange(|said| matches!(said, Said::Answer(answer) if answer.answers == own.key()));
        let Said::Answer(answer) = said else { unreachable!() };
        own.agree(&answer, Names { caller: self.name, called: "bob" })
    }

    /// Takes messages until the server has opened a session; whether there is one more to take.
    fn heard_joined(&mut self) -> bool {
        let message = self.client.json();
        assert_ne!(message["type"], "error", "{message}");
        let is_joined = message["type"] == "session:joined";
        self.heard.push(message);
        !is_joined
    }

    /// Calls bob, says this first, and leaves it at that.
    fn call(&mut self, known: Option<PublicKey>, hello: impl FnOnce(&Agreement) -> Hello) {
        let agreement = self.greet();
        let sealed = agreement.seal_first(&hello(&agreement).write(), known);
        self.say("signal:ice", &json!({ "sealed": sealed }));
        self.agreements.push(agreement);
    }

    /// Waits for a call of bob, answers it, and says this as who was called.
    fn answer(&mut self, hello: impl FnOnce(&Agreement) -> Hello) {
        let Said::Greeting(greeting) = self.exchange(|said| matches!(said, Said::Greeting(_))) else { unreachable!() };
        let (answer, mut agreement) = agreement::answer(&greeting, Names { caller: "bob", called: self.name }).unwrap();
        self.say("key:exchange", &json!(hello::write_answer(&answer)));
        let second = hello(&agreement).write();
        let sealed = agreement.signals().seal(&second).unwrap();
        self.say("signal:ice", &json!({ "sealed": sealed }));
        self.agreements.push(agreement);
    }

    /// What bob's signals tell the third user, who has their own identity and can read nothing that is for another's.
    fn learnt(&mut self, own: &KeyPair) -> Vec<Inside> {
        let mut learnt = Vec::new();
        for message in self.heard.iter().filter(|message| message["type"] != "session:joined") {
            if message["type"] == "key:exchange" {
                continue;
            }
            let kind = MessageType::from_name(message["type"].as_str().unwrap()).unwrap();
            let sealed = message["payload"]["sealed"].as_str().unwrap_or_else(|| panic!("not sealed: {message}"));
            for agreement in &mut self.agreements {
                let first = agreement.open_first(sealed, own).map(|(first, _)| first);
                if let Some(bytes) = first.or_else(|| agreement.signals().open(sealed).ok()) {
                    learnt.extend(Inside::read(kind, &bytes));
                }
            }
        }
        learnt
    }
}

fn hello(agreement: &Agreement, prover: &KeyPair, shown: PublicKey, position: Option<ChatPosition>) -> Hello {
    let proof = agreement.prove(prover, &[]);
    Hello { identity: shown, proof, features: Vec::new(), position }
}

/// Goal: have the program of somebody tell its addresses, or who it is, by posing as a chat partner who is away.
#[test]
fn who_takes_the_name_of_a_chat_partner_who_is_away_learns_no_address_and_no_identity() {
    let server = Server::start();
    let mut alice = user(&server.url(), "alice", identity("alice"));
    let mut bob = server.peer("bob");
    alice.peer.call("bob");
    bob.answer("alice");
    alice.wait(&Event::Open { peer: "bob".to_owned() });
    // She is away, and the chat is interrupted: bob calls her again and again.
    alice.peer.stop();
    bob.wait(&Event::Interrupted { peer: "alice".to_owned() });
    drop(alice);
    let mallory = identity("mallory");
    let [alices, bobs] = ["alice", "bob"].map(|name| identity(name).public());
    for name in ["alice", "mallory"] {
        let mut third = Third::online(&server, name);
        if name == "alice" {
            // As who is called: nobody but alice can read what bob says first. He calls at once where he writes to her.
            for shown in [alices, mallory.public()] {
                bob.peer.send("alice", "are you there?");
                third.answer(|agreement| hello(agreement, &mallory, shown, None));
            }
        }
        for known in [None, Some(bobs)] {
            for shown in [alices, bobs, mallory.public()] {
                for position in [None, Some(ChatPosition::nowhere())] {
                    third.call(known, |agreement| hello(agreement, &mallory, shown, position));
                }
            }
        }
        let last = third.greet();
        third.agreements.push(last);
        let learnt = third.learnt(&mallory);
        let is_refusal = |inside: &Inside| matches!(inside, Inside::Refused(Refusal::Proof | Refusal::Identity));
        assert!(learnt.iter().all(is_refusal), "{name}: {learnt:?}");
        let all = json!(third.heard).to_string();
        assert!(![alices, bobs].iter().any(|identity| all.contains(&identity.to_base64())), "{all}");
    }
    // Bob was asked about mallory under her own name alone, and told of her under alice's. The chat is not over.
    bob.peer.leave("alice");
    loop {
        match bob.next() {
            Event::Request { peer, identity, .. } => {
                assert_eq!((&*peer, identity), ("mallory", Some(mallory.public())));
            }
            Event::Refused { peer, reason: CloseReason::IdentityChanged { identity, .. } } => {
                assert_eq!((&*peer, identity), ("alice", Some(mallory.public())));
            }
            Event::Closed { peer, reason } if peer == "alice" => break assert_eq!(reason, CloseReason::Left),
            event @ (Event::Open { .. } | Event::Resumed { .. } | Event::Identified { .. }) => panic!("{event:?}"),
            _ => {}
        }
    }
}
