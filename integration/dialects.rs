//! Programs of others, which write the handshake down in other ways than ours: what the protocol allows is understood,
//! and what it does not allow is not (protocol 2.1 to 2.3).

use std::time::Instant;

use data_encoding::{BASE64, BASE64_NOPAD};
use lowkey::peer::agreement::{self, Names, OwnKeys};
use lowkey::peer::engine::{Engine, Input, Output, Setup};
use lowkey::peer::hello::{self, Hello, Inside, Said};
use lowkey::peer::keys::{KeyPair, PublicKey};
use lowkey::peer::{Event, Trust};
use lowkey::protocol::{KeyExchange, MessageType};
use serde_json::{Value, json};

const NAMES: Names<'static> = Names { caller: "carol", called: "bob" };

/// One of ours, who hears from the other of the two.
struct Ours {
    engine: Engine,
    now: Instant,
    peer: &'static str,
}

impl Ours {
    fn new(name: &'static str, identity: &KeyPair) -> Self {
        let peer = if name == NAMES.caller { NAMES.called } else { NAMES.caller };
        let mut engine = Engine::new(name, Setup { identity: identity.clone(), ..Setup::default() });
        let now = Instant::now();
        engine.handle(Input::Online, now);
        Self { engine, now, peer }
    }

    fn hears(&mut self, kind: &str, payload: &str) -> Vec<Output> {
        let text = format!(r#"{{"payload": {payload}, "type": "{kind}", "sender": "{}", "x": 1}}"#, self.peer);
        self.engine.handle(Input::Signal(text), self.now)
    }

    fn meets(&mut self) -> Vec<Output> {
        let payload = json!({"sessionId": "x", "peer": self.peer}).to_string();
        self.hears("session:joined", &payload)
    }

    fn hears_sealed(&mut self, sealed: &str) -> Vec<Output> {
        self.hears("signal:ice", &format!("{{ \"more\" : {{}}, \"sealed\":\t{} }}", json!(sealed)))
    }
}

/// What is said in the open, as it is read.
fn exchange(outputs: &[Output]) -> Said {
    let [Output::Signal(text)] = outputs else { panic!("{outputs:?}") };
    let message: Value = serde_json::from_str(text).unwrap();
    let exchange: KeyExchange = serde_json::from_value(message["payload"].clone()).unwrap();
    Said::read(&exchange)
}

/// What is sealed.
fn sealed(outputs: &[Output]) -> String {
    let signal = outputs.iter().find_map(|output| match output {
        Output::Signal(text) => Some(text),
        _ => None,
    });
    let message: Value = serde_json::from_str(signal.expect("it says something")).unwrap();
    assert_eq!(message["type"], "signal:ice");
    message["payload"]["sealed"].as_str().unwrap().to_owned()
}

/// Ways in which a `key:exchange` may be written, of a key and what is said of ours: the names of fields, and texts.
type Form = fn(&str, &[(&str, &str)]) -> String;

fn fields(all: &[(&str, &str)], between: &str) -> String {
    all.iter().map(|(name, value)| format!("\"{name}\":{between}\"{value}\"")).collect::<Vec<_>>().join(",")
}

const FORMS: [(&str, Form); 6] = [
    ("as ours", |key, all| format!(r#"{{"publicKey":"{key}","lowkey":{{"version":2,{}}}}}"#, fields(all, ""))),
    ("in another order", |key, all| format!(r#"{{"lowkey":{{{},"version":2}},"publicKey":"{key}"}}"#, fields(all, ""))),
    ("with spaces", |key, all| {
        format!(
            "\n{{\t\"publicKey\" : \"{key}\" ,\r\n\"lowkey\" : {{ {} , \"version\" : 2 }} }} ",
            fields(all, "\n\t ")
        )
    }),
    ("with names that nobody knows", |key, all| {
        let all = fields(all, "");
        format!(
            r#"{{"identity":"x","lowkey":{{"v":[],"a":{{"kem":1}},{all},"version":2}},"publicKey":"{key}","z":null}}"#
        )
    }),
    ("with nulls in place of what there is not", |key, all| {
        let missing =
            ["kem", "ciphertext", "answers"].into_iter().filter(|name| !all.iter().any(|(one, _)| one == name));
        let missing: String = missing.map(|name| format!("\"{name}\":null,")).collect();
        format!(r#"{{"publicKey":"{key}","lowkey":{{{missing}"version":2,{}}}}}"#, fields(all, ""))
    }),
    ("with escapes", |key, all| {
        let escaped = |text: &str| text.replace('/', "\\/").replace('+', "\\u002b").replace('=', "\\u003D");
        let all: Vec<(&str, String)> = all.iter().map(|(name, text)| (*name, escaped(text))).collect();
        let all: Vec<(&str, &str)> = all.iter().map(|(name, text)| (*name, text.as_str())).collect();
        format!(r#"{{"\u0070ublicKey":"{}","lowkey":{{"version":2,{}}}}}"#, escaped(key), fields(&all, ""))
    }),
];

/// Ways in which a hello may be written.
fn hellos(hello: &Hello) -> Vec<(&'static str, String)> {
    let (identity, proof) = (hello.identity.to_base64(), BASE64.encode(&hello.proof));
    let place = hello.position.map_or("null".to_owned(), |place| format!("\"{}\"", BASE64.encode(&place.to_bytes())));
    let many = json!((0..32).map(|number| format!("{}-{number}", "x".repeat(29))).collect::<Vec<_>>());
    let short = format!(r#"{{"hello":{{"resume":{place},"features":[],"proof":"{proof}","identity":"{identity}"}}}}"#);
    vec![
        ("in another order, without spaces", short.clone()),
        ("with spaces in front", format!(" \n\t\r{short}")),
        ("as long as may be", short.clone() + &" \n\t\r".repeat(16 * 1024)[..16 * 1024 - short.len()]),
        (
            "with all features that there may be, which nobody knows",
            format!(r#"{{"hello":{{"identity":"{identity}","proof":"{proof}","features":{many},"resume":{place}}}}}"#),
        ),
        (
            "with names that nobody knows",
            format!(
                r#"{{"v":3,"hello":{{"a":{{}},"identity":"{identity}","proof":"{proof}","b":[1],
                "features":["files","files","later"],"resume":{place},"refused":"proof"}},"refused":null,"z":"x"}}"#
            ),
        ),
        (
            "with escapes",
            format!(
                r#"{{"\u0068ello":{{"identity":"{}","proof":"{proof}","features":["\u0066iles"],"resume":{place}}}}}"#,
                identity.replace('=', "\\u003d")
            ),
        ),
    ]
}

#[test]
fn a_caller_may_write_in_any_way_that_is_json() {
    let [carol, bob] = [(); 2].map(|()| KeyPair::generate());
    for (form, greets) in FORMS {
        for place in 0.. {
            let mut ours = Ours::new("bob", &bob);
            ours.meets();
            let own = OwnKeys::generate();
            let greeting = own.greeting();
            let payload = greets(&greeting.key.to_base64(), &[("kem", &BASE64.encode(&greeting.kem[..]))]);
            let Said::Answer(answer) = exchange(&ours.hears("key:exchange", &payload)) else { panic!("{form}") };
            let mut agreement = own.agree(&answer, NAMES);
            let proof = agreement.prove(&carol, &[]);
            let hello = Hello { identity: carol.public(), proof, features: vec![], position: None };
            let Some((what, hello)) = hellos(&hello).into_iter().nth(place) else { break };
            let outputs = ours.hears_sealed(&agreement.seal_first(hello.as_bytes(), Some(bob.public())));
            let identity = Some(carol.public());
            let asks = Event::Request { peer: "carol".to_owned(), trust: Trust::New, identity };
            assert_eq!(outputs, [Output::Event(asks)], "{form}, {what}");
            let answers = ours.engine.handle(Input::Accept { peer: "carol".to_owned() }, ours.now);
            let second = agreement.signals().open(&sealed(&answers)).unwrap();
            let Some(Inside::Hello(read)) = Inside::read(MessageType::SignalIce, &second) else { panic!("{what}") };
            assert!(agreement.is_proven(&read.proof, bob.public(), hello.as_bytes()), "{form}, {what}");
        }
    }
}

#[test]
fn who_is_called_may_answer_in_any_way_that_is_json() {
    let [carol, bob] = [(); 2].map(|()| KeyPair::generate());
    for (form, answers) in FORMS {
        for place in 0.. {
            let mut ours = Ours::new("carol", &carol);
            ours.engine.handle(Input::Call { peer: "bob".to_owned() }, ours.now);
            let Said::Greeting(greeting) = exchange(&ours.meets()) else { panic!("no greeting") };
            let (answer, mut agreement) = agreement::answer(&greeting, NAMES).unwrap();
            let all =
                [("answers", &*answer.answers.to_base64()), ("ciphertext", &*BASE64.encode(&answer.ciphertext[..]))];
            let outputs = ours.hears("key:exchange", &answers(&answer.key.to_base64(), &all));
            let (first, _) = agreement.open_first(&sealed(&outputs), &bob).expect("it is for whoever answers");
            let proof = agreement.prove(&bob, &first);
            let hello = Hello { identity: bob.public(), proof, features: vec![], position: None };
            let Some((what, hello)) = hellos(&hello).into_iter().nth(place) else { break };
            let sealed = agreement.signals().seal(hello.as_bytes()).unwrap();
            let outputs = ours.hears_sealed(&sealed);
            assert!(outputs.iter().any(|output| matches!(output, Output::Offer { .. })), "{form}, {what}: {outputs:?}");
        }
    }
}

/// Other ways of writing the same bytes, or ones of another length: none of them is strict base64 of a key.
fn misspelled(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let right = BASE64.encode(bytes);
    let turned = |at: usize, to: u8| {
        let mut text = right.clone().into_bytes();
        text[at] = to;
        String::from_utf8(text).unwrap()
    };
    let mut all = vec![
        ("a byte less", BASE64.encode(&bytes[1..])),
        ("a byte more", BASE64.encode(&[bytes, &[0]].concat())),
        ("twice", BASE64.encode(&[bytes, bytes].concat())),
        ("nothing", String::new()),
        ("a space behind", format!("{right} ")),
        ("a line's end behind", format!("{right}\\n")),
        ("lines of 76", format!("{}\\n{}", &right[..20], &right[20..])),
        ("more padding", format!("{right}=")),
        ("another alphabet", turned(4, b'_')),
        ("hexadecimal", data_encoding::HEXLOWER.encode(bytes)),
    ];
    if !bytes.len().is_multiple_of(3) {
        all.push(("no padding", BASE64_NOPAD.encode(bytes)));
        // The last bits of the last letter mean nothing, and have to be zero.
        let last = right.trim_end_matches('=').len() - 1;
        all.push(("bits that mean nothing", turned(last, right.as_bytes()[last] + 1)));
    }
    all
}

/// The seven points of low order, also with the bit that means nothing.
fn low_order() -> Vec<(&'static str, String)> {
    let mut points = vec![[0; 32], [0xff; 32], [0xff; 32], [0xff; 32]];
    points.push(std::array::from_fn(|at| u8::from(at == 0)));
    for (point, first) in points[1..4].iter_mut().zip([0xec, 0xed, 0xee]) {
        (point[0], point[31]) = (first, 0x7f);
    }
    for hex in [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ] {
        points.push(data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap());
    }
    let turned = points.clone().into_iter().map(|mut point: [u8; 32]| {
        point[31] |= 0x80;
        point
    });
    points.clone().into_iter().chain(turned).map(|point| ("a point of low order", BASE64.encode(&point))).collect()
}

#[test]
fn keys_that_are_none_are_heard_by_nobody_and_answered_by_nobody() {
    let [carol, bob] = [(); 2].map(|()| KeyPair::generate());
    let own = OwnKeys::generate().greeting();
    let (key, kem) = (own.key.to_base64(), BASE64.encode(&own.kem[..]));
    let as_ours = FORMS[0].1;
    let of_key = misspelled(own.key.as_bytes()).into_iter().chain(low_order());
    let mut payloads: Vec<(&str, String)> = of_key.map(|(what, key)| (what, as_ours(&key, &[("kem", &kem)]))).collect();
    payloads.extend(misspelled(&own.kem[..]).into_iter().map(|(what, kem)| (what, as_ours(&key, &[("kem", &kem)]))));
    let right = as_ours(&key, &[("kem", &kem)]);
    for version in ["1", "0", "-2", "2.5", "\"2\"", "true", "null", "[2]", "1e400", "18446744073709551616"] {
        payloads.push((version, right.replace("\"version\":2", &format!("\"version\":{version}"))));
    }
    payloads.push(("a key twice", right.replacen('{', &format!("{{\"publicKey\":\"{key}\","), 1)));
    payloads.push(("a list", format!("[{right}]")));
    payloads.push(("a list of ours", format!(r#"{{"publicKey":"{key}","lowkey":[2,"{kem}"]}}"#)));
    payloads.push(("a text", json!(right).to_string()));
    for (what, payload) in payloads {
        let mut ours = Ours::new("bob", &bob);
        ours.meets();
        assert_eq!(ours.hears("key:exchange", &payload), [], "{what}");
        // Who said it may still call as it should.
        assert!(matches!(exchange(&ours.hears("key:exchange", &right)), Said::Answer(_)), "{what}");
    }
    // An answer that is none ends the call, and nothing is said of who calls.
    let answers = |ours: &mut Ours| {
        let Said::Greeting(greeting) = exchange(&ours.meets()) else { panic!("no greeting") };
        agreement::answer(&greeting, NAMES).unwrap().0
    };
    let new = || {
        let mut ours = Ours::new("carol", &carol);
        ours.engine.handle(Input::Call { peer: "bob".to_owned() }, ours.now);
        ours
    };
    let sample = answers(&mut new());
    let cases = [
        ("answers", misspelled(sample.answers.as_bytes()).into_iter().chain(low_order()).collect::<Vec<_>>().len()),
        ("ciphertext", misspelled(&sample.ciphertext[..]).len()),
        ("publicKey", misspelled(sample.key.as_bytes()).into_iter().chain(low_order()).collect::<Vec<_>>().len()),
    ];
    for (field, count) in cases {
        for place in 0..count {
            let mut ours = new();
            let answer = answers(&mut ours);
            let (key, named) = (answer.key.to_base64(), answer.answers.to_base64());
            let ciphertext = BASE64.encode(&answer.ciphertext[..]);
            let nth = |bytes: &[u8]| misspelled(bytes).into_iter().chain(low_order()).nth(place).unwrap();
            let (what, payload) = match field {
                "answers" => {
                    let (what, named) = nth(answer.answers.as_bytes());
                    (what, as_ours(&key, &[("answers", &named), ("ciphertext", &ciphertext)]))
                }
                "ciphertext" => {
                    let (what, ciphertext) = nth(&answer.ciphertext[..]);
                    (what, as_ours(&key, &[("answers", &named), ("ciphertext", &ciphertext)]))
                }
                _ => {
                    let (what, key) = nth(answer.key.as_bytes());
                    (what, as_ours(&key, &[("answers", &named), ("ciphertext", &ciphertext)]))
                }
            };
            let outputs = ours.hears("key:exchange", &payload);
            let is_ended = outputs.iter().any(|output| matches!(output, Output::Event(Event::Closed { .. })));
            let says = outputs.iter().filter(|output| matches!(output, Output::Signal(_))).count();
            assert!(is_ended && says == 0, "{field}: {what}: {outputs:?}");
        }
    }
}

#[test]
fn what_of_a_hello_is_misspelled_is_not_asked_about() {
    let [carol, bob] = [(); 2].map(|()| KeyPair::generate());
    let identities = misspelled(carol.public().as_bytes()).into_iter().chain(low_order());
    let mut changes: Vec<(&str, &str, String)> =
        identities.map(|(what, identity)| (what, "/hello/identity", identity)).collect();
    changes.extend(misspelled(&[1; 64]).into_iter().map(|(what, proof)| (what, "/hello/proof", proof)));
    changes.extend(misspelled(&[0; 40]).into_iter().map(|(what, place)| (what, "/hello/resume", place)));
    changes.push(("a feature without a name", "/hello/features/0", String::new()));
    changes.push(("a long feature", "/hello/features/0", "x".repeat(33)));
    changes.push(("capitals", "/hello/features/0", "Files".to_owned()));
    for (what, pointer, value) in changes {
        let mut ours = Ours::new("bob", &bob);
        ours.meets();
        let own = OwnKeys::generate();
        let greeting = json!(hello::write_greeting(&own.greeting())).to_string();
        let Said::Answer(answer) = exchange(&ours.hears("key:exchange", &greeting)) else { panic!("no answer") };
        let agreement = own.agree(&answer, NAMES);
        let proof = agreement.prove(&carol, &[]);
        let hello = Hello { identity: carol.public(), proof, features: vec!["files".to_owned()], position: None };
        let mut written: Value = serde_json::from_slice(&hello.write()).unwrap();
        *written.pointer_mut(pointer).unwrap() = json!(value.replace("\\n", "\n"));
        let outputs = ours.hears_sealed(&agreement.seal_first(written.to_string().as_bytes(), None));
        assert_eq!(outputs, [], "{pointer}: {what}");
    }
}

/// A key whose highest bit is set is the one without it, and is in T without it.
#[test]
fn the_bit_of_a_key_that_means_nothing_changes_nothing() {
    let [carol, bob] = [(); 2].map(|()| KeyPair::generate());
    let with_bit = |key: PublicKey| {
        let mut bytes = *key.as_bytes();
        bytes[31] |= 0x80;
        BASE64.encode(&bytes)
    };
    let mut ours = Ours::new("bob", &bob);
    ours.meets();
    let own = OwnKeys::generate();
    let greeting = own.greeting();
    let payload = FORMS[0].1(&with_bit(greeting.key), &[("kem", &BASE64.encode(&greeting.kem[..]))]);
    let Said::Answer(answer) = exchange(&ours.hears("key:exchange", &payload)) else { panic!("no answer") };
    let agreement = own.agree(&answer, NAMES);
    let hello =
        Hello { identity: carol.public(), proof: agreement.prove(&carol, &[]), features: vec![], position: None };
    let mut written: Value = serde_json::from_slice(&hello.write()).unwrap();
    written["hello"]["identity"] = json!(with_bit(carol.public()));
    let outputs = ours.hears_sealed(&agreement.seal_first(written.to_string().as_bytes(), None));
    let identity = Some(carol.public());
    let asks = Event::Request { peer: "carol".to_owned(), trust: Trust::New, identity };
    assert_eq!(outputs, [Output::Event(asks)]);
}

/// X-Wing takes any bytes for the half of a key or of a ciphertext that is X25519's, also such as come to nothing: then
/// ML-KEM and the call's own X25519 are what is left, and whoever did that knows no more than before.
#[test]
fn half_a_key_of_x_wing_that_comes_to_nothing_ends_no_program_and_tells_nobody_anything() {
    let [carol, bob] = [(); 2].map(|()| KeyPair::generate());
    for half in [[0; 32], [0xff; 32]] {
        let mut ours = Ours::new("bob", &bob);
        ours.meets();
        let own = OwnKeys::generate();
        let mut greeting = own.greeting();
        greeting.kem[1184..].copy_from_slice(&half);
        let payload = json!(hello::write_greeting(&greeting)).to_string();
        let Said::Answer(answer) = exchange(&ours.hears("key:exchange", &payload)) else { panic!("no answer") };
        // It was changed on the way: nothing opens.
        let agreement = own.agree(&answer, NAMES);
        let proof = agreement.prove(&carol, &[]);
        let hello = Hello { identity: carol.public(), proof, features: vec![], position: None };
        assert_eq!(ours.hears_sealed(&agreement.seal_first(&hello.write(), None)), []);
        // So with an answer.
        let mut ours = Ours::new("carol", &carol);
        ours.engine.handle(Input::Call { peer: "bob".to_owned() }, ours.now);
        let Said::Greeting(greeting) = exchange(&ours.meets()) else { panic!("no greeting") };
        let (mut answer, agreement) = agreement::answer(&greeting, NAMES).unwrap();
        answer.ciphertext[1088..].copy_from_slice(&half);
        let outputs = ours.hears("key:exchange", &json!(hello::write_answer(&answer)).to_string());
        assert!(agreement.open_first(&sealed(&outputs), &bob).is_none());
    }
}

#[test]
fn a_call_that_was_recorded_is_of_no_use_with_a_program_that_was_started_anew() {
    let [carol, bob] = [(); 2].map(|()| KeyPair::generate());
    let mut caller = Ours::new("carol", &carol);
    let mut answerer = Ours::new("bob", &bob);
    caller.engine.handle(Input::Call { peer: "bob".to_owned() }, caller.now);
    let said = |outputs: &[Output]| -> (String, String) {
        let Some(Output::Signal(text)) = outputs.first() else { panic!("{outputs:?}") };
        let message: Value = serde_json::from_str(text).unwrap();
        (message["type"].as_str().unwrap().to_owned(), message["payload"].to_string())
    };
    let greeting = said(&caller.meets());
    answerer.meets();
    let answer = said(&answerer.hears(&greeting.0, &greeting.1));
    let first = said(&caller.hears(&answer.0, &answer.1));
    let asks = answerer.hears(&first.0, &first.1);
    assert!(matches!(asks[..], [Output::Event(Event::Request { .. })]), "{asks:?}");
    let second = said(&answerer.engine.handle(Input::Accept { peer: "carol".to_owned() }, answerer.now));
    // Bob's program was started anew, and hears all of it once more.
    let mut anew = Ours::new("bob", &bob);
    anew.meets();
    assert!(matches!(exchange(&anew.hears(&greeting.0, &greeting.1)), Said::Answer(_)));
    assert_eq!(anew.hears(&first.0, &first.1), [], "it asks nobody");
    // So does carol's, which calls again.
    let mut anew = Ours::new("carol", &carol);
    anew.engine.handle(Input::Call { peer: "bob".to_owned() }, anew.now);
    anew.meets();
    for (kind, payload) in [&answer, &second] {
        assert_eq!(anew.hears(kind, payload), [], "it says nothing to whoever it is");
    }
}
