//! The tables of protocol 1.1 and 1.2, row by row, spoken by a bare WebSocket client. With
//! `TEST_SERVER=ws://HOST:PORT` those that need no settings of their own are tried against the server there.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::world::{Client, Program, SOON, Server};

/// A server with default settings: ours, or the one that the environment names.
struct Target {
    address: String,
    _server: Option<Server>,
    /// The tests use the same names, so on a server that they share they take turns.
    _turn: Option<MutexGuard<'static, ()>>,
}

static TURN: Mutex<()> = Mutex::new(());

fn target() -> Target {
    match std::env::var("TEST_SERVER") {
        Ok(url) => {
            let address = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
            let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            Target { address, _server: None, _turn: Some(turn) }
        }
        Err(_) => {
            let server = Server::start();
            Target { address: server.address.clone(), _server: Some(server), _turn: None }
        }
    }
}

impl Target {
    fn client(&self, name: &str) -> Client {
        Client::connect(&self.address, name)
    }
}

/// Sends one request, as it stands, and returns all of the response.
fn request(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn each_request_of_the_http_table_has_its_answer() {
    let target = target();
    let get = |path: &str| request(&target.address, &format!("GET {path} HTTP/1.1\nHost: x\nConnection: close\n\n"));
    let health = get("/health");
    assert_eq!(status(&health), "200");
    let (head, body) = health.split_once("\r\n\r\n").unwrap();
    assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), json!({"status": "ok"}));
    assert_eq!(status(&get("/ws")), "400");
    assert_eq!(status(&get("/ws?username=")), "400");
    assert_eq!(status(&get("/ws?username=bob")), "426");
    assert_eq!(status(&get("/nowhere")), "404");
    let method = |line: &str| request(&target.address, &format!("{line} HTTP/1.1\nHost: x\nConnection: close\n\n"));
    assert_eq!(status(&method("DELETE /health")), "405");
    for path in ["/ws", "/health", "/nowhere"] {
        let preflight = method(&format!("OPTIONS {path}"));
        assert_eq!(status(&preflight), "204", "{path}");
        let lower = preflight.to_ascii_lowercase();
        assert!(lower.contains("access-control-allow-origin: *"), "{preflight}");
        assert!(lower.contains("access-control-allow-methods: get, post, options"), "{preflight}");
        assert!(lower.contains("access-control-allow-headers: content-type"), "{preflight}");
    }
}

#[test]
fn cors_origins_guards_answers_and_upgrades() {
    let server = Server::start_with(&[("CORS_ORIGINS", "https://chat.example, https://b.example")]);
    let from = |origin: &str, path: &str| {
        let upgrade = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n";
        let headers = if path.starts_with("/ws") { upgrade } else { "" };
        let head = format!("GET {path} HTTP/1.1\nHost: x\nOrigin: {origin}\n{headers}\n");
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
        let mut buffer = [0; 2048];
        let length = stream.read(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(status(&from("https://CHAT.example", "/ws?username=bob")), "101");
    assert_eq!(status(&from("https://evil.example", "/ws?username=bob")), "403");
    assert!(from("https://b.example", "/health").contains("Access-Control-Allow-Origin: https://b.example\r\n"));
    assert!(!from("https://evil.example", "/health").contains("Access-Control-Allow-Origin"));
}

#[test]
fn a_name_is_decoded() {
    let target = target();
    let mut alice = target.client("alice");
    let mut bob = target.client("b%C3%B6b%20%26");
    bob.send(r#"{"type":"session:connect","target":"alice"}"#);
    assert_eq!(alice.json()["payload"]["peer"], "böb &");
}

#[test]
fn a_connect_opens_a_session_of_both() {
    let target = target();
    let (mut alice, mut bob) = (target.client("alice"), target.client("bob"));
    alice.send(r#"{"type":"session:connect","target":"bob"}"#);
    let (to_alice, to_bob) = (alice.json(), bob.json());
    assert_eq!((&to_alice["type"], &to_bob["type"]), (&json!("session:joined"), &json!("session:joined")));
    assert_eq!((&to_alice["payload"]["peer"], &to_bob["payload"]["peer"]), (&json!("bob"), &json!("alice")));
    let id = to_alice["payload"]["sessionId"].as_str().unwrap();
    assert_eq!(to_bob["payload"]["sessionId"], id);
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);
}

#[test]
fn a_created_session_is_joined_by_one_other() {
    let target = target();
    let (mut alice, mut bob, mut carol) = (target.client("alice"), target.client("bob"), target.client("carol"));
    alice.send(r#"{"type":"session:create"}"#);
    let created = alice.json();
    assert_eq!(created["type"], "session:created");
    let id = created["payload"]["sessionId"].as_str().unwrap();
    let join = json!({"type": "session:join", "sessionId": id}).to_string();
    let failed = |client: &mut Client, message: &str| {
        client.send(join.as_str());
        let error = client.json();
        assert_eq!(error["payload"]["code"], "SESSION_JOIN_FAILED");
        assert_eq!(error["payload"]["message"], message);
    };
    failed(&mut alice, "user already in session");
    bob.send(join.as_str());
    assert_eq!(bob.json()["payload"], json!({"sessionId": id, "peer": "alice"}));
    assert_eq!(alice.json()["payload"], json!({"sessionId": id, "peer": "bob"}));
    failed(&mut carol, "session is full");
}

#[test]
fn each_forwarded_type_reaches_its_target_as_it_was_with_the_true_sender() {
    let target = target();
    let (mut alice, mut bob) = (target.client("alice"), target.client("bob"));
    for kind in ["key:exchange", "signal:offer", "signal:answer", "signal:ice", "session:accept", "session:decline"] {
        let payload = r#"{"z" : 1.50,"a":[null, "\u00e9ü\/"],  "big":12345678901234567890.0}"#;
        alice.send(format!(r#"{{"type":"{kind}","target":"bob","sender":"mallory","payload":{payload}}}"#));
        let text = bob.text();
        let forwarded: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&forwarded["type"], &forwarded["sender"]), (&json!(kind), &json!("alice")));
        assert!(text.contains(payload), "byte for byte: {text}");
    }
    alice.send(r#"{"type":"session:accept","target":"bob"}"#);
    assert!(bob.json().get("payload").is_none(), "what is absent stays absent");
}

#[test]
fn each_mistake_is_answered_with_its_code_and_the_connection_stays_open() {
    let target = target();
    let mut alice = target.client("alice");
    let no_session = json!({"type": "session:join", "sessionId": uuid::Uuid::new_v4().to_string()}).to_string();
    let rows = [
        ("hello", "INVALID_MESSAGE"),
        (r#"["session:create"]"#, "INVALID_MESSAGE"),
        ("{}", "INVALID_MESSAGE"),
        (r#"{"type":5}"#, "INVALID_MESSAGE"),
        (r#"{"type":"session:dance"}"#, "UNKNOWN_TYPE"),
        (r#"{"type":"session:connect"}"#, "MISSING_TARGET"),
        (r#"{"type":"signal:offer","payload":{}}"#, "MISSING_TARGET"),
        (r#"{"type":"session:connect","target":"alice"}"#, "INVALID_TARGET"),
        (r#"{"type":"session:connect","target":"nobody"}"#, "USER_OFFLINE"),
        (r#"{"type":"key:exchange","target":"nobody","payload":{}}"#, "RELAY_FAILED"),
        (r#"{"type":"session:join"}"#, "MISSING_SESSION_ID"),
        (r#"{"type":"session:join","sessionId":"seven"}"#, "INVALID_SESSION_ID"),
        (no_session.as_str(), "SESSION_JOIN_FAILED"),
    ];
    for (text, code) in rows {
        alice.send(text);
        let error = alice.json();
        assert_eq!((&error["type"], &error["payload"]["code"]), (&json!("error"), &json!(code)), "{text}");
        assert!(error["payload"]["message"].is_string());
    }
    alice.socket.send(Message::binary(vec![1, 2, 3])).unwrap();
    assert_eq!(alice.json()["payload"]["code"], "INVALID_MESSAGE");
    alice.send(r#"{"type":"session:create"}"#);
    assert_eq!(alice.json()["type"], "session:created");
}

#[test]
fn our_errors_name_the_target_that_they_are_about() {
    let server = Server::start();
    let mut alice = server.client("alice");
    for kind in ["session:connect", "signal:ice"] {
        alice.send(json!({"type": kind, "target": "nobody"}).to_string());
        assert_eq!(alice.json()["payload"]["target"], "nobody");
    }
}

#[test]
fn a_newer_connection_takes_the_name_and_the_end_of_the_older_leaves_it_online() {
    let target = target();
    let (mut alice, mut older) = (target.client("alice"), target.client("bob"));
    let mut newer = target.client("bob");
    let frame = older.close_frame();
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Away, "replaced by new connection"));
    older.end();
    alice.send(r#"{"type":"session:connect","target":"bob"}"#);
    assert_eq!(alice.json()["type"], "session:joined");
    assert_eq!(newer.json()["payload"]["peer"], "alice");
}

#[test]
fn a_session_ends_after_its_time_and_a_join_renews_it() {
    let server = Server::start_with(&[("SESSION_TTL", "300ms"), ("RATE_LIMITS", "off")]);
    let (mut alice, mut bob) = (server.client("alice"), server.client("bob"));
    alice.send(r#"{"type":"session:create"}"#);
    let id = alice.json()["payload"]["sessionId"].as_str().unwrap().to_owned();
    let join = json!({"type": "session:join", "sessionId": id}).to_string();
    let message = crate::world::until("the session ends", || {
        alice.send(join.as_str());
        let message = alice.json()["payload"]["message"].as_str().unwrap().to_owned();
        (message != "user already in session").then_some(message)
    });
    assert_eq!(message, "session not found");
    bob.send(join);
    assert_eq!(bob.json()["payload"]["code"], "SESSION_JOIN_FAILED");
}

#[test]
fn a_signal_ends_the_server_with_a_close_frame_to_all() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start();
        let (mut alice, mut bob) = (server.client("alice"), server.client("bob"));
        server.program.signal(signal);
        for client in [&mut alice, &mut bob] {
            assert_eq!(client.close_frame().code, CloseCode::Away);
            client.end();
        }
        assert_eq!(server.program.wait().code(), Some(0));
    }
}

#[test]
fn the_server_listens_on_both_families_and_says_where() {
    let mut server = Program::start("lowkey-server", &[], &[("PORT", "0")]);
    let line = server.stderr.find("listening on ");
    let port = line.rsplit_once(':').unwrap().1;
    for host in ["127.0.0.1", "[::1]"] {
        Client::connect(&format!("{host}:{port}"), "alice");
    }
}

#[test]
fn a_setting_that_cannot_be_understood_stops_the_start_and_is_named() {
    let mut server = Program::start("lowkey-server", &["\u{fffd}"], &[]);
    assert_eq!(server.wait().code(), Some(2));
    for (name, value) in [("PORT", "http"), ("SESSION_TTL", "ten"), ("CORS_ORIGINS", "nonsense"), ("HOST", "x y")] {
        let mut server = Program::start("lowkey-server", &[], &[(name, value)]);
        assert_eq!(server.wait().code(), Some(2));
        let lines = server.stderr.rest();
        assert!(lines.len() == 1 && lines[0].contains(name) && lines[0].contains(value), "{lines:?}");
    }
    let mut server = Program::start("lowkey-server", &["--port"], &[]);
    assert_eq!(server.wait().code(), Some(2));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut server = Program::start("lowkey-server", &[], &[("HOST", "127.0.0.1"), ("PORT", &port)]);
    assert_eq!(server.wait().code(), Some(1));
    let lines = server.stderr.rest();
    assert!(lines.len() == 1 && lines[0].contains(&port), "{lines:?}");
}

#[test]
fn the_log_at_info_holds_no_name_address_or_key() {
    let mut server = Server::start();
    let (mut alice, mut bob) = (server.client("alice"), server.client("bob"));
    alice.send(r#"{"type":"session:connect","target":"bob"}"#);
    bob.json();
    alice.send(r#"{"type":"key:exchange","target":"bob","payload":{"publicKey":"secretkey"}}"#);
    bob.json();
    alice.send("garbage");
    drop((alice, bob));
    server.program.signal("TERM");
    server.program.wait();
    let log = server.program.stderr.rest().join("\n");
    for secret in ["alice", "bob", "secretkey", "127.0.0.1"] {
        assert!(!log.contains(secret), "{log}");
    }
}
