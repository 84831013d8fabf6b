//! What it costs that two of our peers prove who they are, and seal and number all that they say: the bytes of the
//! signals of a call, and the processor time of a text. The baseline is an old app: its signals as they would be in a
//! box each, without padding and proofs, and its texts, which are a `crypto_box` each.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use lowkey::peer::Event;
use lowkey::peer::agreement::{self, Names, OwnKeys};
use lowkey::peer::cipher::{Cipher, TextFormat};
use lowkey::peer::engine::{Engine, Input, Output, Setup};
use lowkey::peer::frame::Frame;
use lowkey::peer::keys::KeyPair;
use lowkey::protocol::Candidate;
use serde_json::{Value, json};

use super::report::{APP, Goal, Report};

pub fn run(report: &mut Report, rounds: usize) {
    let [app, ours] = [true, false].map(signals);
    let rows = [("bytes of a call's signals but for candidates", 6500.0), ("bytes of a candidate's signal", 500.0)];
    for (place, (what, more)) in rows.into_iter().enumerate() {
        report.add(what, "B", APP, vec![app[place]], None);
        report.add(what, "B", OURS, vec![ours[place]], Some(Goal::Most(app[place] + more)));
    }
    for (what, length, most) in
        [("a text of 200 B, sealed and opened", 200, 1.2), ("a text of 5 kB, sealed and opened", 5000, 1.5)]
    {
        let text = "x".repeat(length);
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            samples[0].push(of_app(&text));
            samples[1].push(of_ours(&text));
        }
        let [app, ours] = samples;
        report.add(what, "µs CPU", APP, app, None);
        report.add(what, "µs CPU", OURS, ours, Some(Goal::Ratio(most)));
    }
}

const OURS: &str = "a peer of ours";
const NAMES: [&str; 2] = ["alice", "bob"];

/// How many bytes go to the server in a call, in all but candidates, and in a candidate. An old app is one of ours of
/// which nothing is heard but what that would say; it has no boxes, so they are added.
fn signals(is_app: bool) -> [f64; 2] {
    let now = Instant::now();
    let mut engines = NAMES.map(|name| Engine::new(name, Setup::default()));
    let mut inputs = VecDeque::from([(0, Input::Online), (1, Input::Online)]);
    inputs.push_back((0, Input::Call { peer: NAMES[1].to_owned() }));
    let (mut bytes, mut of_candidates) = (0, Vec::new());
    let mut candidates = 0;
    while let Some((user, input)) = inputs.pop_front() {
        let is_candidate = matches!(input, Input::Candidate { .. });
        for output in engines[user].handle(input, now) {
            match output {
                Output::Signal(text) => {
                    let mut message: Value = serde_json::from_str(&text).unwrap();
                    if message["type"] == "session:connect" {
                        for to in [user, 1 - user] {
                            let payload = json!({"sessionId": "x", "peer": NAMES[1 - to]});
                            let joined = json!({"type": "session:joined", "payload": payload});
                            inputs.push_back((to, Input::Signal(joined.to_string())));
                        }
                        continue;
                    }
                    if is_app && let Some(payload) = message["payload"].as_object_mut() {
                        payload.remove("lowkey");
                    }
                    let is_sealed = is_app && message["type"] != "key:exchange";
                    let in_box = if is_sealed { boxed(&message["payload"]) } else { 0 };
                    let length = message.to_string().len() + in_box;
                    if is_candidate {
                        of_candidates.push(length as f64)
                    } else {
                        bytes += length
                    }
                    message["sender"] = json!(NAMES[user]);
                    inputs.push_back((1 - user, Input::Signal(message.to_string())));
                }
                Output::Event(Event::Request { peer, .. } | Event::OldApp { peer }) => {
                    inputs.push_back((user, Input::Accept { peer }));
                }
                Output::Offer { id } | Output::Answer { id, .. } => {
                    candidates += 1;
                    let candidate =
                        format!("candidate:{candidates} 1 udp 2130706431 192.0.2.{candidates} 50000 typ host");
                    let candidate = Candidate { candidate, sdp_mid: None, sdp_mline_index: None };
                    let fingerprint = vec!["AB"; 32].join(":");
                    let sdp = format!("{DESCRIPTION}a=fingerprint:sha-256 {fingerprint}\r\n");
                    inputs.extend([(user, Input::Described { id, sdp }), (user, Input::Candidate { id, candidate })]);
                }
                _ => {}
            }
        }
    }
    assert_eq!(of_candidates.len(), 2, "both have told one");
    [bytes as f64, of_candidates[0]]
}

/// How many bytes more a payload has in a box: a nonce and a MAC, all of it in base64, and its name.
fn boxed(payload: &Value) -> usize {
    let bytes = payload.to_string().len();
    (24 + 16 + bytes).div_ceil(3) * 4 + r#"{"sealed":""}"#.len() - bytes
}

/// What WebRTC makes for a data channel, but for the fingerprint.
const DESCRIPTION: &str = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n\
    a=ice-ufrag:abcdefghijklmnop\r\na=ice-pwd:abcdefghijklmnopqrstuvwxyzabcdef\r\n";

/// Texts in one sample.
const TEXTS: u32 = 2000;

fn of_app(text: &str) -> f64 {
    let pairs = [KeyPair::generate(), KeyPair::generate()];
    let keys = [pairs[0].public(), pairs[1].public()];
    let [one, other] = pairs;
    let mut sender = Cipher::new(one, keys[1], TextFormat::V1).unwrap();
    let mut receiver = Cipher::new(other, keys[0], TextFormat::V1).unwrap();
    let begin = Instant::now();
    for _ in 0..TEXTS {
        let sealed = sender.seal(black_box(text)).unwrap();
        black_box(String::from_utf8(receiver.open(&sealed).unwrap().bytes).unwrap());
    }
    begin.elapsed().as_secs_f64() * 1e6 / f64::from(TEXTS)
}

fn of_ours(text: &str) -> f64 {
    let own = OwnKeys::generate();
    let names = Names { caller: NAMES[0], called: NAMES[1] };
    let (answer, called) = agreement::answer(&own.greeting(), names).unwrap();
    let (mut sender, ..) = own.agree(&answer, names).conclude(&[], &[]);
    let (mut receiver, ..) = called.conclude(&[], &[]);
    let begin = Instant::now();
    for number in 1..=TEXTS {
        let frame = Frame::text(0, number.into(), black_box(text), 196_568);
        let sealed = sender.seal(&frame).unwrap();
        black_box(Frame::read(receiver.open(&sealed).unwrap()).unwrap());
    }
    begin.elapsed().as_secs_f64() * 1e6 / f64::from(TEXTS)
}
