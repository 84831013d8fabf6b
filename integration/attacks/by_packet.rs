//! Attacks below the data channel, before any proof: a stranger calls, and sends SCTP packets that no program sends.
//! Whoever is called goes on with the others as if nothing was, takes no more memory, and ends when told to.

use std::time::Duration;

use lowkey::peer::Event;
use rtc::data_channel::RTCDataChannelInit;

use crate::attacker::Attacker;
use crate::old_app::OldApp;
use crate::sctp::{chunk, open_channel, piece};
use crate::world::{Program, Server, User};

/// The bot, in a chat with an honest peer and in one with an attacker.
struct Scene {
    _server: Server,
    bot: Program,
    honest: User,
    mallory: Attacker,
    _app: OldApp,
    /// What the bot had in memory before the attack, in KiB.
    before: usize,
}

impl Scene {
    fn new() -> Self {
        let server = Server::start();
        let bot = server.bot();
        let mut honest = server.peer("honest");
        honest.call("echo");
        let mallory = Attacker::default();
        let mut app = OldApp::online(&server, "mallory");
        app.attacker = Some(mallory.clone());
        app.connect("echo");
        app.send_key();
        app.meet_consent();
        let before = bot.resident_kilobytes();
        let mut scene = Self { _server: server, bot, honest, mallory, _app: app, before };
        scene.still_serves();
        scene
    }

    /// The honest chat goes on, at once.
    fn still_serves(&mut self) {
        self.honest.peer.send("echo", "still there?");
        assert_eq!(self.honest.message().1, "still there?");
    }

    /// The bot has ended the chat with the attacker, and with nobody else.
    fn is_cut_off(&mut self, what: &str) {
        self.bot.stderr.find(&format!(
            "no chat with mallory: the other side's program broke the rules of WebRTC and was cut off: it sent {what}"
        ));
        self.still_serves();
    }

    /// What the bot has taken in memory since, in KiB.
    fn grown_by(&self) -> usize {
        self.bot.resident_kilobytes().saturating_sub(self.before)
    }

    fn ends_on_a_signal(mut self) {
        self.bot.signal("TERM");
        self.honest.find("the end of the chat", |event| matches!(event, Event::Closed { .. }).then_some(()));
        assert!(self.bot.wait().success());
    }
}

/// Sends packets for some time or until the bot has cut the attacker off, in bursts that its receive buffer holds.
fn flood(scene: &mut Scene, count: u32, mut chunks: impl FnMut(u32) -> Vec<Vec<u8>>) {
    for number in 0..count {
        scene.mallory.send(&chunks(number));
        if number % 64 == 63 {
            // The honest chat is what says that the bot has read them.
            scene.still_serves();
        }
    }
}

const TEXT: u32 = 51;
const CONTROL: u32 = 50;

/// Goal: have the program loop two thousand million times by one packet.
#[test]
fn forward_tsn_costs_nothing() {
    let mut scene = Scene::new();
    let begin = scene.bot.cpu_time();
    // Each would be a walk over two thousand million numbers, to where the one before ended.
    let forward: Vec<Vec<u8>> = (1..=60_u32)
        .map(|step| chunk(192, 0, &scene.mallory.tsn().wrapping_add(step.wrapping_mul(0x7fff_ffff)).to_be_bytes()))
        .collect();
    scene.mallory.send(&forward);
    scene.still_serves();
    for _ in 0..10 {
        scene.mallory.send(&forward);
    }
    scene.is_cut_off("a chunk that no reliable channel has");
    assert!(scene.bot.cpu_time() - begin < Duration::from_secs(2));
    scene.ends_on_a_signal();
}

/// Goal: bring the program down by packets that no program sends.
#[test]
fn malformed_packets_end_no_program() {
    let forward = chunk(192, 0, &[0x7f, 0, 0, 0]);
    let cases: &[fn(&Attacker) -> Vec<u8>] = &[
        |_| chunk(9, 0, &[0, 1, 0, 200, 0, 0, 0, 0]),
        |_| chunk(6, 0, &[0, 1, 0, 200, 0, 0, 0, 0]),
        // A message about thresholds is of WebRTC's own, and too short for one.
        |mallory| {
            let (stream, ssn) = mallory.stream();
            piece(mallory.tsn(), stream, ssn, 3, CONTROL, &[0])
        },
    ];
    let mut scene = Scene::new();
    for case in cases {
        let malformed = case(&scene.mallory);
        scene.mallory.send(&[malformed]);
        scene.still_serves();
    }
    // And behind chunks whose end WebRTC sees elsewhere.
    for kind in [11, 8, 14] {
        scene.mallory.send(&[chunk(kind, 0, &forward)]);
        scene.mallory.send(&[chunk(kind, 0, &chunk(9, 0, &[0, 1, 0, 200, 0, 0, 0, 0]))]);
        scene.still_serves();
    }
    scene.is_cut_off("a chunk with a false length");
    scene.ends_on_a_signal();
}

/// Goal: take the program's memory by a message without an end.
#[test]
fn an_endless_message_takes_no_memory() {
    let mut scene = Scene::new();
    let ((stream, ssn), tsn) = (scene.mallory.stream(), scene.mallory.tsn());
    flood(&mut scene, 20_000, |number| {
        let flags = if number == 0 { 2 } else { 0 };
        vec![piece(tsn.wrapping_add(number), stream, ssn, flags, TEXT, &[b'x'; 1100])]
    });
    assert!(scene.grown_by() < 16 * 1024, "{} KiB", scene.grown_by());
    scene.is_cut_off("a message that is too long");
    scene.ends_on_a_signal();
}

/// Goal: take the program's memory by pieces of which each is next to nothing.
#[test]
fn crumbs_take_no_memory() {
    let mut scene = Scene::new();
    let ((stream, ssn), tsn) = (scene.mallory.stream(), scene.mallory.tsn());
    flood(&mut scene, 10_000, |number| {
        let crumb = |place: u32| {
            let number = number * 50 + place;
            piece(tsn.wrapping_add(number), stream, ssn, if number == 0 { 2 } else { 0 }, TEXT, b"x")
        };
        (0..50).map(crumb).collect()
    });
    assert!(scene.grown_by() < 16 * 1024, "{} KiB", scene.grown_by());
    scene.is_cut_off("a message in too many pieces");
    scene.ends_on_a_signal();
}

/// Goal: take the program's memory by opening one channel after the other.
#[test]
fn channels_without_end_take_no_memory() {
    let mut scene = Scene::new();
    let tsn = scene.mallory.tsn();
    flood(&mut scene, 32_767, |number| {
        vec![piece(tsn.wrapping_add(number), (2 * number + 101) as u16, 0, 3, CONTROL, &open_channel("x"))]
    });
    assert!(scene.grown_by() < 16 * 1024, "{} KiB", scene.grown_by());
    scene.is_cut_off("too many streams");
    scene.ends_on_a_signal();
}

/// Goal: have a chat whose texts get lost or come in another order.
#[test]
fn a_channel_that_loses_or_reorders_is_refused_as_it_is_opened() {
    let server = Server::start();
    let mut bot = server.bot();
    let reliable = RTCDataChannelInit { ordered: true, ..RTCDataChannelInit::default() };
    for (name, kind) in [
        ("disorderly", RTCDataChannelInit { ordered: false, ..reliable.clone() }),
        ("forgetful", RTCDataChannelInit { max_retransmits: Some(0), ..reliable.clone() }),
        ("hasty", RTCDataChannelInit { max_packet_life_time: Some(1), ..reliable }),
    ] {
        let mut app = OldApp::online(&server, name);
        app.channel_kind = Some(kind);
        app.connect("echo");
        app.send_key();
        app.await_key();
        app.offer();
        // No text is sent.
        app.meet_end();
        bot.stderr.find(&format!(
            "no chat with {name}: the other side's program broke the rules of WebRTC and was cut off: it sent the \
             opening of a data channel that loses or reorders"
        ));
    }
}

/// Goal: take memory or time before any proof, by a handshake in crumbs.
#[test]
fn crumbs_of_a_handshake_end_no_program() {
    let mut scene = Scene::new();
    // Each message in pieces of one byte, of which DTLS puts together what it waits for. Anybody can write them: no key
    // is needed.
    let three = |number: u32| number.to_be_bytes()[1..].to_vec();
    let mut record_number = 1 << 40;
    for message in 0..12_u16 {
        for start in (0..30_000_u32).step_by(80).rev() {
            let piece = |start: u32| {
                let head = [&[11], &three(30_000)[..], &message.to_be_bytes(), &three(start), &three(1)].concat();
                [&head[..], b"x"].concat()
            };
            let pieces: Vec<u8> = (start..start + 80).rev().flat_map(piece).collect();
            record_number += 1_u64;
            let number = &record_number.to_be_bytes()[2..];
            let length = (pieces.len() as u16).to_be_bytes();
            scene.mallory.send_raw(&[&[22, 254, 253, 0, 0], number, &length, &pieces].concat());
            if record_number % 64 == 0 {
                scene.still_serves();
            }
        }
    }
    scene.still_serves();
    assert!(scene.grown_by() < 16 * 1024, "{} KiB", scene.grown_by());
    scene.ends_on_a_signal();
}

/// Goal: disturb the chats with others, and go on doing so unnoticed.
#[test]
fn who_breaks_the_rules_is_told_of_in_a_sentence() {
    let server = Server::start();
    let url = server.url();
    let mut lowkey = Program::start("lowkey", &["--server", &url, "--name", "victim", "--old-apps", "listen"], &[]);
    lowkey.stderr.find("online");
    let mallory = Attacker::default();
    let mut app = OldApp::online(&server, "mallory");
    app.attacker = Some(mallory.clone());
    app.connect("victim");
    app.send_key();
    app.meet_consent();
    app.send("hello");
    lowkey.stdout.find("hello");
    for _ in 0..9 {
        mallory.send(&[chunk(192, 0, &[0, 0, 0, 1])]);
    }
    lowkey.stderr.find("the other side's program broke the rules of WebRTC and was cut off: it sent a chunk that no");
    lowkey.signal("TERM");
    lowkey.wait();
}
