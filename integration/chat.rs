//! Two users of the library, through a real server and a real data channel.

use std::time::{Duration, Instant};

use data_encoding::BASE64;
use lowkey::peer::{CloseReason, Event, NotSentReason, Peer, Settings, TextFormat, Trust};
use serde_json::json;

use crate::old_app::OldApp;
use crate::world::{self, Client, Program, SOON, Server, User, identity, until};

fn closed(peer: &str, reason: CloseReason) -> Event {
    Event::Closed { peer: peer.to_owned(), reason }
}

/// Alice and bob in an open chat.
fn pair(server: &Server) -> (User, User) {
    world::pair(["alice", "bob"].map(|name| server.peer(name)))
}

fn says(from: &User, name: &str, to: &mut User, text: &str, sender: &str) {
    from.peer.send(name, text);
    assert_eq!(to.message(), (sender.to_owned(), text.to_owned()));
}

#[test]
fn a_call_tells_each_step_and_texts_go_both_ways() {
    let server = Server::start();
    let (mut alice, mut bob) = (server.peer("alice"), server.peer("bob"));
    alice.peer.call("bob");
    bob.asked_next_by("alice");
    bob.peer.accept("alice");
    for (user, other) in [(&mut alice, "bob"), (&mut bob, "alice")] {
        user.expect(&Event::Connecting { peer: other.to_owned() });
        let identified = user.next();
        let (own, peer) = match other {
            "bob" => (identity("alice"), identity("bob")),
            _ => (identity("bob"), identity("alice")),
        };
        let (trust, own, peer_key) = (Trust::New, own.public(), peer.public());
        assert_eq!(identified, Event::Identified { peer: other.to_owned(), trust, own, other: peer_key });
        user.expect(&Event::Open { peer: other.to_owned() });
    }
    says(&alice, "bob", &mut bob, "hello", "alice");
    says(&bob, "alice", &mut alice, "hi", "bob");
    assert_eq!(bob.events.next_timeout(Duration::ZERO), None, "bob comes back for more");
    alice.expect(&Event::Delivered { peer: "bob".to_owned(), id: 1 });
    bob.expect(&Event::Delivered { peer: "alice".to_owned(), id: 1 });
    alice.peer.leave("bob");
    alice.expect(&closed("bob", CloseReason::Left));
    bob.expect(&closed("alice", CloseReason::PeerLeft));
}

#[test]
fn what_was_sent_before_leaving_arrives() {
    let server = Server::start();
    let (alice, mut bob) = pair(&server);
    for number in 0..200 {
        alice.peer.send("bob", &format!("{number} {}", "x".repeat(1000)));
    }
    alice.peer.leave("bob");
    for number in 0..200 {
        assert_eq!(bob.message().1.split(' ').next(), Some(&*number.to_string()));
    }
    bob.wait(&closed("alice", CloseReason::PeerLeft));
}

#[test]
fn what_was_sent_before_leaving_is_not_lost_on_one_who_reads_late() {
    let server = Server::start();
    let (alice, mut bob) = pair(&server);
    for number in 0..3000 {
        alice.peer.send("bob", &format!("{number} {}", "x".repeat(1000)));
    }
    let sender = alice.peer.clone();
    let leaving = std::thread::spawn(move || alice.peer.shutdown());
    // Bob does not read until all that can be on its way is on its way: nothing more has gone out for a while.
    let (mut queued, mut unchanged) = (usize::MAX, 0);
    until("the sender stalls", || {
        unchanged = if sender.queued_bytes() == queued { unchanged + 1 } else { 0 };
        queued = sender.queued_bytes();
        (unchanged == 50).then_some(())
    });
    for number in 0..3000 {
        assert_eq!(bob.message().1.split(' ').next(), Some(&*number.to_string()));
    }
    bob.wait(&closed("alice", CloseReason::PeerLeft));
    assert!(leaving.join().unwrap(), "all was acknowledged");
}

#[test]
fn leaving_takes_no_time_where_all_is_read() {
    let server = Server::start();
    let (alice, bob) = pair(&server);
    alice.peer.send("bob", "good-bye");
    let reader = std::thread::spawn(move || bob.events.collect::<Vec<Event>>());
    let started = Instant::now();
    assert!(alice.peer.shutdown(), "it was acknowledged");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    bob.peer.shutdown();
    let text = "good-bye".to_owned();
    assert!(reader.join().unwrap().contains(&Event::Message { peer: "alice".to_owned(), text }));
}

#[test]
fn who_leaves_at_once_with_the_other_does_not_wait_for_them() {
    let server = Server::start();
    // One for whom something is still to be acknowledged, and one for whom nothing is.
    for sends in [true, false] {
        let (alice, mut bob) = pair(&server);
        if sends {
            alice.peer.send("bob", "good-bye");
            bob.message();
        }
        let begin = std::sync::Barrier::new(2);
        let leave = |user: User| {
            begin.wait();
            let started = Instant::now();
            user.peer.shutdown();
            started.elapsed()
        };
        let took = std::thread::scope(|scope| {
            [alice, bob].map(|user| scope.spawn(|| leave(user))).map(|leaving| leaving.join().unwrap())
        });
        // Each would wait fifteen seconds for the other's end.
        assert!(took.iter().all(|took| *took < Duration::from_secs(10)), "{took:?}");
    }
}

#[test]
fn a_text_is_delivered_once_the_other_side_comes_back_for_the_next_event() {
    let server = Server::start();
    let (mut alice, mut bob) = pair(&server);
    let first = alice.peer.send("bob", "one");
    assert_eq!(bob.message().1, "one");
    // Bob has it, and may still be about to show it.
    assert_eq!(alice.events.next_timeout(Duration::from_millis(300)), None);
    let second = alice.peer.send("bob", "two");
    assert!(second > first);
    assert_eq!(bob.message().1, "two");
    alice.expect(&Event::Delivered { peer: "bob".to_owned(), id: first });
    assert_eq!(bob.events.next_timeout(Duration::from_millis(1)), None);
    alice.expect(&Event::Delivered { peer: "bob".to_owned(), id: second });
    until("nothing is kept", || (alice.peer.queued_bytes() == 0).then_some(()));
}

#[test]
fn what_the_other_side_has_not_taken_when_one_leaves_comes_back() {
    let server = Server::start();
    let (mut alice, mut bob) = pair(&server);
    let ids = ["one", "two"].map(|text| alice.peer.send("bob", text));
    assert_eq!(bob.message().1, "one");
    bob.peer.leave("alice");
    let peer = || "bob".to_owned();
    for (id, text) in ids.into_iter().zip(["one", "two"]) {
        let (text, reason) = (text.to_owned(), NotSentReason::Unconfirmed);
        alice.expect(&Event::NotSent { peer: peer(), id, text, reason });
    }
    alice.expect(&closed("bob", CloseReason::PeerLeft));
}

#[test]
fn who_does_not_read_is_sent_only_so_much() {
    let server = Server::start();
    let (mut alice, bob) = pair(&server);
    let text = "x".repeat(100_000);
    for _ in 0..1500 {
        alice.peer.send("bob", &text);
    }
    let busy = alice.find("a text that comes back", |event| match event {
        Event::NotSent { text, reason: NotSentReason::Busy, .. } => Some(text.len()),
        _ => None,
    });
    assert_eq!(busy, text.len());
    until("the rest comes back too", || (alice.peer.queued_bytes() < 16 * 1024 * 1024).then_some(()));
    drop(bob);
}

#[test]
fn format_v2_may_be_chosen_from_the_start_toward_an_old_app() {
    let server = Server::start();
    let mut settings = Settings::default();
    settings.text_format = TextFormat::V2;
    let mut alice = User::online(&server.url(), "alice", settings);
    let caller = alice.peer.clone();
    let mut app = OldApp::answer(&server, "flutter", || caller.call("flutter"), || alice.talk_to_app("flutter"));
    alice.wait(&Event::Open { peer: "flutter".to_owned() });
    alice.peer.send("flutter", "in v2");
    assert_eq!(app.text_v2(), "in v2");
    app.send_v2("and back");
    assert_eq!(alice.message().1, "and back");
}

#[test]
fn both_may_call_at_once() {
    let server = Server::start();
    for round in 0..10 {
        let (mut alice, mut bob) = (server.peer("alice"), server.peer("bob"));
        alice.peer.call("bob");
        bob.peer.call("alice");
        // Whoever's call came first there may be asked, as after any call.
        let open = |user: &mut User, other: &str| {
            let peer = user.peer.clone();
            user.find(&format!("round {round}: open with {other}"), |event| match event {
                Event::Request { peer: caller, .. } => {
                    peer.accept(caller);
                    None
                }
                Event::Open { .. } => Some(()),
                Event::Closed { reason, .. } => panic!("{reason}"),
                _ => None,
            });
        };
        open(&mut alice, "bob");
        open(&mut bob, "alice");
        says(&alice, "bob", &mut bob, "hello", "alice");
        says(&bob, "alice", &mut alice, "hi", "bob");
    }
}

#[test]
fn a_call_is_declined_not_answered_or_to_nobody() {
    let server = Server::start();
    let (mut alice, mut bob) = (server.peer("alice"), server.peer("bob"));
    alice.peer.call("bob");
    bob.asked_next_by("alice");
    bob.peer.decline("alice");
    alice.expect(&closed("bob", CloseReason::Declined));
    alice.peer.call("bob");
    bob.asked_next_by("alice");
    alice.peer.leave("bob");
    bob.expect(&Event::RequestEnded { peer: "alice".to_owned() });
    alice.expect(&closed("bob", CloseReason::Left));
    alice.peer.call("nobody");
    alice.expect(&closed("nobody", CloseReason::NotOnline));
    alice.peer.call("alice");
    alice.expect(&closed("alice", CloseReason::Oneself));
}

#[test]
fn nothing_is_sent_before_consent() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let mut caller = server.client("alice");
    caller.send(r#"{"type":"session:connect","target":"bob"}"#);
    assert_eq!(caller.json()["type"], "session:joined");
    let key = json!({"publicKey": BASE64.encode(&[7; 32])});
    caller.send(json!({"type": "key:exchange", "target": "bob", "payload": key}).to_string());
    caller.send(r#"{"type":"signal:offer","target":"bob","payload":{"sdp":"v=0","type":"offer"}}"#);
    bob.asked_next_by("alice");
    caller.socket.get_ref().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(caller.socket.read().is_err(), "bob has said nothing");
    bob.peer.accept("alice");
    caller.socket.get_ref().set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(caller.json()["type"], "key:exchange");
}

#[test]
fn three_requests_wait_and_a_fourth_is_dropped() {
    let server = Server::start();
    let mut bob = server.peer("bob");
    let mut callers: Vec<Client> = (0..4).map(|number| server.client(&format!("caller{number}"))).collect();
    for (number, caller) in callers.iter_mut().enumerate() {
        caller.send(r#"{"type":"session:connect","target":"bob"}"#);
        assert_eq!(caller.json()["type"], "session:joined");
        let key = lowkey::peer::keys::KeyPair::generate().public().to_base64();
        let payload = serde_json::json!({ "publicKey": key });
        caller.send(serde_json::json!({ "type": "key:exchange", "target": "bob", "payload": payload }).to_string());
        // Two callers at two servers are in no order unless one waits for the other.
        if number < 3 {
            bob.asked_next_by(&format!("caller{number}"));
        }
    }
    // What the fourth sent before this answer was read by the server, and bob was told.
    callers[3].send(r#"{"type":"session:connect","target":"caller3"}"#);
    assert_eq!(callers[3].json()["type"], "error");
    bob.peer.call("nobody");
    bob.expect(&closed("nobody", CloseReason::NotOnline));
}

#[test]
fn many_chats_go_on_at_once() {
    let server = Server::start();
    let mut hub = server.peer("hub");
    let mut others: Vec<(String, User)> =
        (0..5).map(|number| (format!("peer{number}"), server.peer(&format!("peer{number}")))).collect();
    for (name, user) in &mut others {
        user.peer.call("hub");
        hub.answer(name);
        user.wait(&Event::Open { peer: "hub".to_owned() });
    }
    for (name, user) in &mut others {
        says(&hub, name, user, &format!("for {name}"), "hub");
        says(user, "hub", &mut hub, "back", name);
    }
}

#[test]
fn a_text_that_is_too_long_or_has_no_chat_comes_back() {
    let server = Server::start();
    let (mut alice, mut bob) = pair(&server);
    let text = "x".repeat(300_000);
    let id = alice.peer.send("bob", &text);
    let reason = NotSentReason::TooLong { max_bytes: 196_547 };
    alice.expect(&Event::NotSent { peer: "bob".to_owned(), id, text, reason });
    says(&alice, "bob", &mut bob, &"x".repeat(196_547), "alice");
    let id = alice.peer.send("carol", "hello");
    let reason = NotSentReason::NotOpen;
    alice.expect(&Event::NotSent { peer: "carol".to_owned(), id, text: "hello".to_owned(), reason });
}

#[test]
fn a_chat_outlives_the_server_and_the_server_is_found_again() {
    let server = Server::start();
    let (mut alice, mut bob) = pair(&server);
    let port = server.address.rsplit_once(':').unwrap().1.to_owned();
    drop(server);
    for user in [&mut alice, &mut bob] {
        user.find("offline", |event| matches!(event, Event::Offline { retry_in: Some(_), .. }).then_some(()));
    }
    says(&alice, "bob", &mut bob, "without a server", "alice");
    alice.peer.call("carol");
    alice.expect(&closed("carol", CloseReason::ServerLost));
    let server = Server::start_with(&[("PORT", &port)]);
    alice.wait(&Event::Online);
    bob.wait(&Event::Online);
    says(&bob, "alice", &mut alice, "with a server", "bob");
    let mut carol = server.peer("carol");
    alice.peer.call("carol");
    carol.answer("alice");
}

#[test]
fn a_killed_peer_is_noticed_within_thirty_seconds() {
    let server = Server::start();
    let mut alice = server.peer("alice");
    let mut bob = Program::start("lowkey", &["--server", &server.url(), "--name", "bob", "alice"], &[]);
    alice.answer("bob");
    bob.signal("KILL");
    bob.wait();
    let killed = Instant::now();
    let event = alice.events.next_timeout(Duration::from_secs(30)).expect("noticed");
    assert_eq!(event, Event::Interrupted { peer: "bob".to_owned() }, "after {:?}", killed.elapsed());
}

#[test]
fn a_call_of_a_program_that_was_started_anew_carries_the_chat_on() {
    let server = Server::start();
    let (mut alice, mut bob) = pair(&server);
    // Alice does not take it.
    let id = bob.peer.send("alice", "perhaps");
    alice.find("the text", |event| matches!(event, Event::Message { .. }).then_some(()));
    // Alice's program is started anew while bob still believes in the old chat.
    let mut again = server.peer("alice");
    again.peer.call("bob");
    // Bob sees no loss yet, so he is asked.
    bob.asked_next_by("alice");
    bob.peer.accept("alice");
    again.wait(&Event::Open { peer: "bob".to_owned() });
    bob.expect(&Event::Interrupted { peer: "alice".to_owned() });
    let (text, reason) = ("perhaps".to_owned(), NotSentReason::Unconfirmed);
    bob.expect(&Event::NotSent { peer: "alice".to_owned(), id, text, reason });
    bob.expect(&Event::Resumed { peer: "alice".to_owned() });
    says(&again, "bob", &mut bob, "again", "alice");
    says(&bob, "alice", &mut again, "welcome back", "bob");
    drop(alice);
}

#[test]
fn dropping_the_last_handle_ends_the_chats_and_the_events() {
    let server = Server::start();
    let (alice, mut bob) = pair(&server);
    let User { peer, events } = alice;
    drop(peer);
    bob.wait(&closed("alice", CloseReason::PeerLeft));
    let left: Vec<Event> = events.collect();
    assert_eq!(left, [closed("bob", CloseReason::Left)]);
}

#[test]
fn a_flood_toward_one_who_does_not_read_loses_nothing() {
    let server = Server::start();
    let (alice, mut bob) = pair(&server);
    // More than bob's events, mailbox and buffers have room for, while bob does not read.
    for number in 0..5000 {
        alice.peer.send("bob", &number.to_string());
    }
    for number in 0..5000 {
        assert_eq!(bob.message().1, number.to_string());
    }
}

#[test]
fn a_username_or_a_server_that_is_none_is_refused() {
    assert!(Peer::connect("http://localhost", "alice").is_err());
    for name in ["", "a\nb", &"x".repeat(65)] {
        assert!(Peer::connect("ws://localhost", name).is_err());
    }
}
