//! Peers that do not play by the rules: the bot says nothing to them and goes on serving.

use std::time::Duration;

use data_encoding::BASE64;
use serde_json::json;

use crate::old_app::OldApp;
use crate::world::{Program, Server};

/// The bot at a server, which honest peers go on calling.
struct AttackedBot {
    server: Server,
    _bot: Program,
}

impl AttackedBot {
    fn new() -> Self {
        let server = Server::start();
        let bot = server.bot();
        Self { server, _bot: bot }
    }

    /// The bot still serves an honest peer. This also waits for it to have dealt with what came before.
    fn still_serves(&self, name: &str) {
        let mut honest = self.server.peer(name);
        honest.call("echo");
        honest.peer.send("echo", "still there?");
        assert_eq!(honest.message().1, "still there?");
    }
}

/// Goal: have plaintext or forged texts shown, or the program busy with them for ever.
#[test]
fn texts_that_do_not_open_are_dropped_and_five_in_a_row_end_the_chat() {
    let world = AttackedBot::new();
    let mut app = OldApp::call(&world.server, "mallory", "echo");
    let sealed = app.seal("true");
    let mut forged = BASE64.decode(sealed.as_bytes()).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    for garbage in ["plaintext", &BASE64.encode(&forged), "{\"rk\":1}", &sealed[..sealed.len() - 1]] {
        app.send_raw(garbage);
    }
    // Four are not five: the fifth is true, and the answer to it is the first thing that the bot says.
    app.send_raw(&sealed);
    assert_eq!(app.text(), "true");
    app.send_raw(&sealed);
    for _ in 0..4 {
        app.send_raw(&BASE64.encode(&[0; 64]));
    }
    app.closed();
    world.still_serves("alice");
}

/// Goal: force a box that anybody can open, by a key that is none.
#[test]
fn a_key_that_is_not_fit_for_use_gets_no_chat() {
    let world = AttackedBot::new();
    let points = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let keys = points.map(|point| BASE64.encode(&data_encoding::HEXLOWER.decode(point.as_bytes()).unwrap()));
    let good = BASE64.encode(&[7; 32]);
    let bad = [good[..43].to_owned(), format!("{good} "), BASE64.encode(&[7; 31]), "key".to_owned(), String::new()];
    let mut apps = Vec::new();
    for (number, key) in keys.iter().chain(&bad).enumerate() {
        let mut app = OldApp::online(&world.server, &format!("mallory{number}"));
        app.connect("echo");
        app.signal("key:exchange", &json!({ "publicKey": key }));
        app.offer();
        apps.push(app);
    }
    world.still_serves("alice");
    apps.iter_mut().for_each(says_no_more_than_a_key);
}

/// Looks at all that has come from the bot: a key of its own is the most, no answer and no candidate.
fn says_no_more_than_a_key(app: &mut OldApp) {
    app.client.socket.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    while let Ok(message) = app.client.socket.read() {
        assert!(message.to_text().unwrap().contains("key:exchange"), "{message}");
    }
}

/// Somebody whose description is of no use hears so, and nothing else.
fn is_declined(app: &mut OldApp) {
    let message = app.client.json();
    assert_eq!((&message["type"], &message["payload"]["refused"]), (&json!("session:decline"), &json!("description")));
    says_no_more_than_a_key(app);
}

/// Goal: bring the program down by a description or a candidate.
#[test]
fn malformed_descriptions_and_candidates_are_survived() {
    let world = AttackedBot::new();
    let sdps = [
        json!(""),
        json!("v=0"),
        json!("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"),
        json!("x".repeat(50_000)),
        json!(null),
        json!(17),
    ];
    let mut apps = Vec::new();
    for (number, sdp) in sdps.iter().enumerate() {
        let mut app = OldApp::online(&world.server, &format!("mallory{number}"));
        app.connect("echo");
        app.send_key();
        app.await_key();
        app.signal("signal:offer", &json!({"sdp": sdp, "type": "offer"}));
        apps.push(app);
    }
    let mut app = OldApp::online(&world.server, "mallory");
    app.connect("echo");
    app.send_key();
    app.await_key();
    app.offer();
    app.find("signal:answer");
    for candidate in
        ["candidate:", "candidate:1 1 udp x x 0 typ host", "", "candidate:1 1 UDP 1 999.1.1.1 70000 typ host"]
    {
        app.signal("signal:ice", &json!({"candidate": candidate, "sdpMid": "9", "sdpMLineIndex": 65535}));
    }
    app.signal("signal:ice", &json!({"candidate": 5}));
    app.signal("signal:ice", &json!("candidate"));
    app.signal("signal:answer", &json!({"sdp": "v=0", "type": "answer"}));
    app.signal("key:exchange", &json!(null));
    world.still_serves("alice");
    apps.iter_mut().for_each(is_declined);
}

/// Goal: skip a step of the way to a chat.
#[test]
fn frames_out_of_order_have_no_effect() {
    let world = AttackedBot::new();
    let mut app = OldApp::online(&world.server, "mallory");
    app.peer = "echo".to_owned();
    // Without a session, and before any key.
    app.offer();
    app.signal("signal:answer", &json!({"sdp": "v=0", "type": "answer"}));
    app.send_key();
    app.signal("session:accept", &json!(null));
    app.signal("session:decline", &json!(null));
    world.still_serves("alice");
    app.client.socket.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(app.client.socket.read().is_err(), "the bot has said nothing");
}
