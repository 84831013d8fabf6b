//! A server that lies, and a network that does, where a test has to look into the peers, to stop at each step, or to
//! change what nobody but the peers can: engines and a hub joined in memory; what lies is a function on what is on its
//! way. What a server can do to real peers is in `by_server` and `in_the_middle`.

use lowkey::peer::agreement::{Agreement, Names, OwnKeys};
use lowkey::peer::engine::{Engine, Input, Output, Setup};
use lowkey::peer::frame::ChatPosition;
use lowkey::peer::hello::{self, Hello, Refusal, Said};
use lowkey::peer::keys::{KeyPair, PublicKey};
use lowkey::peer::trust::{Known, Trust};
use lowkey::peer::{CloseReason, Event};
use lowkey::protocol::KeyExchange;
use serde_json::{Value, json};

use crate::engine_pair::{ALICE, BOB, CANDIDATE, EnginePair, NAMES, closed, message, open, text};

/// Alice calls and bob accepts.
pub fn call(pair: &mut EnginePair) {
    pair.command(ALICE, |peer| Input::Call { peer });
    pair.settle();
    pair.command(BOB, |peer| Input::Accept { peer });
    pair.settle();
}

/// The end of a call that came to nothing: no chat was open, and no text was shown.
pub fn ends(pair: &mut EnginePair) -> [Vec<CloseReason>; 2] {
    pair.command(ALICE, text);
    pair.command(BOB, text);
    pair.settle();
    pair.pass(60);
    pair.settle();
    [ALICE, BOB].map(|user| {
        let events = pair.taken(user);
        let is_false = |event: &Event| matches!(event, Event::Open { .. } | Event::Message { .. });
        assert!(!events.iter().any(is_false), "{} sees {events:?}", NAMES[user]);
        let reason = |event| match event {
            Event::Closed { reason, .. } | Event::Refused { reason, .. } => Some(reason),
            _ => None,
        };
        events.into_iter().filter_map(reason).collect()
    })
}

pub fn is_open(pair: &mut EnginePair, user: usize, other: &str) -> Option<Trust> {
    let events = pair.taken(user);
    let trust = events.iter().find_map(|event| match event {
        Event::Identified { trust, .. } => Some(*trust),
        _ => None,
    });
    trust.filter(|_| events.contains(&open(other)))
}

pub fn base64(bytes: [u8; 32]) -> String {
    data_encoding::BASE64.encode(&bytes)
}

/// Goal of none: what the attacks below are told apart from.
#[test]
fn honest_peers_prove_themselves_and_are_known_the_next_time() {
    let mut pair = EnginePair::new();
    call(&mut pair);
    assert_eq!([is_open(&mut pair, ALICE, "bob"), is_open(&mut pair, BOB, "alice")], [Some(Trust::New); 2]);
    pair.command(ALICE, |peer| Input::Leave { peer });
    pair.settle();
    call(&mut pair);
    assert_eq!([is_open(&mut pair, ALICE, "bob"), is_open(&mut pair, BOB, "alice")], [Some(Trust::Known); 2]);
    pair.command(ALICE, text);
    pair.settle();
    assert_eq!(pair.taken(BOB), [message("alice", "hello")]);
}

/// Goal: learn addresses and certificates by looking at signals.
#[test]
fn descriptions_and_candidates_are_sealed() {
    let mut pair = EnginePair::new();
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let all = seen.clone();
    pair.server = Box::new(move |_, text| {
        all.borrow_mut().push(text.clone());
        vec![text]
    });
    call(&mut pair);
    assert_eq!(is_open(&mut pair, ALICE, "bob"), Some(Trust::New));
    let seen = seen.borrow();
    let signals: Vec<&String> = seen.iter().filter(|text| text.contains("\"signal:")).collect();
    assert!(signals.len() >= 3, "{seen:?}");
    for text in signals {
        assert!(text.contains("sealed") && !text.contains("fingerprint") && !text.contains("candidate"), "{text}");
    }
    let identities = [ALICE, BOB].map(|user| pair.identity(user).public().to_base64());
    assert!(!seen.iter().any(|text| identities.iter().any(|identity| text.contains(identity))), "nor who they are");
}

/// Goal: be told something under the name of somebody who is known.
#[test]
fn somebody_else_under_a_known_name_is_refused_without_a_question_and_hears_nothing() {
    let mut pair = EnginePair::new();
    call(&mut pair);
    pair.command(ALICE, |peer| Input::Leave { peer });
    pair.settle();
    pair.taken(ALICE);
    pair.taken(BOB);
    // The server gives alice's name to another.
    pair.engines[ALICE] = Engine::new("alice", Setup::default());
    pair.handle(ALICE, Input::Online);
    let seen = record(&mut pair);
    pair.command(ALICE, |peer| Input::Call { peer });
    pair.settle();
    let told = pair.taken(BOB);
    let [Event::Refused { reason: CloseReason::IdentityChanged { identity: Some(_), known, .. }, .. }] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert!(!known.is_verified);
    assert!(
        !seen.borrow().iter().any(|(user, text)| *user == ALICE && text.contains("signal:")),
        "no word but the program's"
    );
    // Only if bob says so, they learn that he knows alice by another identity.
    pair.command(BOB, |peer| Input::Decline { peer });
    pair.settle();
    assert_eq!(pair.taken(ALICE), [closed("bob", CloseReason::NotRecognized)]);
}

/// All that users receive of the server from now on.
fn record(pair: &mut EnginePair) -> std::rc::Rc<std::cell::RefCell<Vec<(usize, String)>>> {
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let all = seen.clone();
    pair.server = Box::new(move |user, text| {
        all.borrow_mut().push((user, text.clone()));
        vec![text]
    });
    seen
}

/// Somebody who calls bob with a program of their own.
pub struct Liar {
    name: &'static str,
    pub agreement: Agreement,
}

impl Liar {
    /// Greets bob, who answers.
    pub fn greet(pair: &mut EnginePair, name: &'static str) -> Self {
        let own = OwnKeys::generate();
        pair.handle(
            BOB,
            Input::Signal(json!({"type": "session:joined", "payload": {"sessionId": "x", "peer": name}}).to_string()),
        );
        let payload = serde_json::to_value(hello::write_greeting(&own.greeting())).unwrap();
        let greeting = json!({"type": "key:exchange", "sender": name, "payload": payload});
        let outputs = pair.engines[BOB].handle(Input::Signal(greeting.to_string()), pair.now());
        let answer = outputs.iter().find_map(|output| match output {
            Output::Signal(text) => Some(text),
            _ => None,
        });
        let answer: Value = serde_json::from_str(answer.expect("an answer")).unwrap();
        assert_eq!((&answer["target"], &answer["type"]), (&json!(name), &json!("key:exchange")));
        let exchange: KeyExchange = serde_json::from_value(answer["payload"].clone()).unwrap();
        let Said::Answer(answer) = Said::read(&exchange) else { panic!("{exchange:?}") };
        Self { name, agreement: own.agree(&answer, Names { caller: name, called: "bob" }) }
    }

    /// A true hello with this identity.
    pub fn hello(&self, identity: &KeyPair, position: Option<ChatPosition>) -> Hello {
        let proof = self.agreement.prove(identity, &[]);
        Hello { identity: identity.public(), proof, features: Vec::new(), position }
    }

    /// Says something sealed: what bob does.
    pub fn say(&self, pair: &mut EnginePair, kind: &str, sealed: String) -> Vec<Output> {
        let message = json!({"type": kind, "sender": self.name, "payload": {"sealed": sealed}}).to_string();
        pair.engines[BOB].handle(Input::Signal(message), pair.now())
    }
}

/// Goal: a question at somebody's screen, or an answer, without a proof of who asks.
#[test]
fn a_caller_that_proves_nothing_is_not_asked_about_and_hears_nothing() {
    let mut pair = EnginePair::new();
    let bob = KeyPair::generate();
    pair.engines[BOB] = Engine::new("bob", Setup { identity: bob.clone(), ..Setup::default() });
    pair.handle(BOB, Input::Online);
    let mallory = KeyPair::generate();
    type Lie = fn(&Liar, &KeyPair, &KeyPair) -> Vec<u8>;
    let lies: [(&str, Lie); 9] = [
        ("a false proof", |liar, mallory, _| {
            let mut hello = liar.hello(mallory, None);
            hello.proof[0] ^= 1;
            hello.write()
        }),
        ("somebody else's identity", |liar, mallory, _| {
            Hello { identity: KeyPair::generate().public(), ..liar.hello(mallory, None) }.write()
        }),
        ("bob's own identity", |liar, _, bob| liar.hello(bob, None).write()),
        ("no feature", |liar, mallory, _| {
            Hello { features: vec!["A B".to_owned()], ..liar.hello(mallory, None) }.write()
        }),
        ("too many features", |liar, mallory, _| {
            Hello { features: vec!["a".to_owned(); 33], ..liar.hello(mallory, None) }.write()
        }),
        ("half a hello", |liar, mallory, _| liar.hello(mallory, None).write()[..100].to_vec()),
        ("too long a hello", |liar, mallory, _| {
            let mut bytes = liar.hello(mallory, None).write();
            bytes.resize(16 * 1024 + 1, b' ');
            bytes
        }),
        ("a refusal", |_, _, _| Refusal::Declined.write()),
        ("a candidate", |_, _, _| json!({"candidate": CANDIDATE}).to_string().into_bytes()),
    ];
    for (what, lie) in lies {
        for known in [None, Some(bob.public())] {
            let liar = Liar::greet(&mut pair, "mallory");
            let sealed = liar.agreement.seal_first(&lie(&liar, &mallory, &bob), known);
            assert_eq!(liar.say(&mut pair, "signal:ice", sealed), [], "{what}");
            pair.pass(10);
        }
    }
    // And what is true is asked about, once, and only as what it is.
    for known in [None, Some(bob.public())] {
        let liar = Liar::greet(&mut pair, "mallory");
        let sealed = liar.agreement.seal_first(&liar.hello(&mallory, None).write(), known);
        assert_eq!(liar.say(&mut pair, "signal:offer", sealed.clone()), [], "out of place");
        let identity = Some(mallory.public());
        let request = Event::Request { peer: "mallory".to_owned(), trust: Trust::New, identity };
        assert_eq!(liar.say(&mut pair, "signal:ice", sealed.clone()), [Output::Event(request)]);
        assert_eq!(liar.say(&mut pair, "signal:ice", sealed), [], "once");
        pair.handle(BOB, Input::Ignore { peer: "mallory".to_owned() });
    }
    assert!(pair.engines[BOB].peers().is_empty());
}

/// What bob does about a caller with alice's identity, who says this of the chat that there is: whether he answers
/// unasked.
fn resumes(pair: &mut EnginePair, alice: &KeyPair, position: Option<ChatPosition>, known: Option<PublicKey>) -> bool {
    let liar = Liar::greet(pair, "alice");
    let sealed = liar.agreement.seal_first(&liar.hello(alice, position).write(), known);
    let outputs = liar.say(pair, "signal:ice", sealed);
    match &outputs[..] {
        [Output::Signal(text)] if text.contains("signal:ice") => true,
        [Output::Event(Event::Request { trust: Trust::Known, .. })] => {
            pair.handle(BOB, Input::Ignore { peer: "alice".to_owned() });
            false
        }
        [] => false,
        _ => panic!("{outputs:?}"),
    }
}

/// Goal: a chat that goes on with somebody else, or answers without end.
#[test]
fn a_chat_is_carried_on_unasked_only_for_who_knows_us_and_names_our_side_of_it_and_not_too_often() {
    let mut pair = EnginePair::open();
    let [alice, bob] = [ALICE, BOB].map(|user| pair.identity(user));
    // What the true alice would say.
    let position = pair.position_of(ALICE);
    let known = Some(bob.public());
    assert!(!resumes(&mut pair, &alice, Some(position), None), "whoever poses as bob could have heard that");
    assert!(!resumes(&mut pair, &alice, None, known));
    assert!(!resumes(&mut pair, &alice, Some(ChatPosition::nowhere()), known));
    assert!(!resumes(&mut pair, &alice, Some(ChatPosition { other: position.instance, ..position }), known));
    assert!(resumes(&mut pair, &alice, Some(position), known));
    // The chat itself has gone on all the time.
    pair.command(ALICE, text);
    pair.settle();
    assert_eq!(pair.taken(BOB).last(), Some(&message("alice", "hello")));
    // The newest call that comes too early waits.
    for _ in 0..3 {
        assert!(!resumes(&mut pair, &alice, Some(position), known), "not so often");
    }
    let outputs = pair.engines[BOB].handle(Input::Tick, pair.now() + std::time::Duration::from_secs(5));
    let answers = outputs.iter().filter(|output| matches!(output, Output::Signal(text) if text.contains("signal:ice")));
    assert_eq!(answers.count(), 1, "{outputs:?}");
}

/// Goal: change a call by sealed signals that are not its own.
#[test]
fn sealed_signals_that_are_played_back_or_forged_have_no_effect() {
    let mut pair = EnginePair::new();
    // Every sealed signal comes twice, once more to its author, and forged.
    let author = std::cell::RefCell::new([const { Vec::<String>::new() }; 2]);
    pair.server = Box::new(move |user, text| {
        let mut all = vec![text.clone()];
        if text.contains("sealed") {
            let name = NAMES[1 - user];
            let back = text.replace(&format!("\"sender\":\"{name}\""), &format!("\"sender\":\"{}\"", NAMES[user]));
            author.borrow_mut()[1 - user].push(back);
            all.push(text.clone());
            all.push(text.replace("sealed\":\"", "sealed\":\"AAAA"));
        }
        all.append(&mut author.borrow_mut()[user]);
        all
    });
    call(&mut pair);
    assert_eq!([is_open(&mut pair, ALICE, "bob"), is_open(&mut pair, BOB, "alice")], [Some(Trust::New); 2]);
    assert!(pair.engines.iter().all(|engine| engine.dropped() > 0));
    pair.command(ALICE, text);
    pair.command(ALICE, |peer| Input::Leave { peer });
    pair.settle();
    assert_eq!(pair.taken(BOB), [message("alice", "hello"), closed("alice", CloseReason::PeerLeft)]);
}

/// Goal: slip in a signal of one's own, in the clear.
#[test]
fn an_unsealed_signal_in_a_sealed_call_has_no_effect() {
    let mut pair = EnginePair::new();
    // Behind every message, from the first one on: while a request waits, before the keys, and behind them.
    pair.server = Box::new(|user, text| {
        let payload = json!({"candidate": CANDIDATE.replace("9000", "6666")});
        let plain = json!({"type": "signal:ice", "sender": NAMES[1 - user], "payload": payload});
        vec![text, plain.to_string()]
    });
    call(&mut pair);
    assert_eq!(is_open(&mut pair, ALICE, "bob"), Some(Trust::New));
    assert_eq!(pair.added, [vec![], vec![CANDIDATE.to_owned()]], "bob has alice's, and there is no other");
}

/// Goal: keep the place of somebody whom the user now names by a link.
#[test]
fn who_is_named_by_a_link_takes_the_position_of_somebody_else_at_any_time() {
    let bob = Known { identity: KeyPair::generate().public(), is_verified: true };
    let trust = Input::Trust { peer: "bob".to_owned(), known: Some(bob.clone()) };
    // In the middle of a chat.
    let mut pair = EnginePair::new();
    call(&mut pair);
    pair.taken(ALICE);
    pair.handle(ALICE, trust.clone());
    pair.settle();
    let [alices, bobs] = ends_of_open(&mut pair);
    assert!(matches!(&alices[..], [CloseReason::IdentityChanged { known, .. }] if **known == bob), "{alices:?}");
    assert_eq!(bobs, [CloseReason::PeerLeft]);
    // After any number of steps of a call that is still on its way.
    for steps in 0..30 {
        let mut pair = EnginePair::new();
        pair.command(ALICE, |peer| Input::Call { peer });
        pair.settle();
        pair.command(BOB, |peer| Input::Accept { peer });
        for _ in 0..steps {
            pair.step(0);
        }
        pair.handle(ALICE, trust.clone());
        pair.settle();
        pair.pass(60);
        let [alices, _] = ends_of_open(&mut pair);
        // Before she has said who she is, nobody but the one whom the link names can read it.
        let is_refused = matches!(&alices[..], [CloseReason::IdentityChanged { .. } | CloseReason::NoHello]);
        assert!(is_refused, "{steps}: {alices:?}");
    }
}

/// How the chats of both have ended.
fn ends_of_open(pair: &mut EnginePair) -> [Vec<CloseReason>; 2] {
    [ALICE, BOB].map(|user| {
        let closed = pair.taken(user).into_iter().filter_map(|event| match event {
            Event::Closed { reason, .. } => Some(reason),
            _ => None,
        });
        closed.collect()
    })
}

/// Goal: be called under a name that nobody can have.
#[test]
fn a_name_that_nobody_can_have_calls_nobody() {
    let mut pair = EnginePair::new();
    for name in ["bob\nalice", "\u{9b}bob", ""] {
        let joined = json!({"type": "session:joined", "payload": {"sessionId": "x", "peer": name}});
        pair.handle(ALICE, Input::Signal(joined.to_string()));
    }
    assert_eq!(pair.taken(ALICE), []);
}

/// Goal: pass for somebody by the identity of the one who is called.
#[test]
fn an_identity_of_our_own_is_refused() {
    let own = KeyPair::generate();
    let mut pair = EnginePair::new();
    for (user, name) in [(ALICE, "alice"), (BOB, "bob")] {
        pair.engines[user] = Engine::new(name, Setup { identity: own.clone(), ..Setup::default() });
        pair.handle(user, Input::Online);
    }
    call(&mut pair);
    assert_eq!(pair.taken(BOB), [closed("alice", CloseReason::NotCalling)], "nobody is asked about");
}
