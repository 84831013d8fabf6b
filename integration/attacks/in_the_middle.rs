//! A man in the middle: the server gives each of two peers somebody of its own under the other's name, and that
//! somebody is the far end of both data channels. With keys of its own it is a peer like any other, so it is one of
//! ours that plays it; with the true keys of an old app, whose secrets it has not, it passes texts on, and may change
//! them on the way.

use std::thread::{self, JoinHandle};

use data_encoding::BASE64;
use dryoc::classic::crypto_box::crypto_box_keypair;
use lowkey::peer::{CloseReason, Event};
use serde_json::{Value, json};

use crate::evil_server::{EvilServer, Friends, honest, known, user};
use crate::old_app::{OldApp, seal, talk_to_app};
use crate::world::{Client, Folder, SOON, User, identity, lowkey, until};

/// The far ends of both data channels, with the true keys.
struct Middle {
    /// Toward the caller, under the name of the called.
    caller: OldApp,
    /// Toward the called, under the name of the caller.
    called: OldApp,
}

impl Middle {
    /// Comes between two users. `call` makes the first call the second, which is the original app, and `agree` makes it
    /// talk to an old app.
    fn between(server: &EvilServer, [one, other]: [&str; 2], call: impl FnOnce(), agree: impl FnOnce()) -> Self {
        let [to_one, to_other] = server.come_between(one, other);
        let mut caller = OldApp::with(Client::connect(&to_one, other));
        let mut called = OldApp::with(Client::connect(&to_other, one));
        call();
        caller.be_called();
        called.introduction = caller.await_key();
        called.connect(other);
        called.send_key();
        caller.introduction = called.await_key();
        caller.send_key();
        agree();
        caller.accept_offer();
        caller.negotiate();
        called.offer();
        called.negotiate();
        Self { caller, called }
    }

    /// The next text of the caller, as it came.
    fn of_caller(&mut self) -> String {
        self.caller.raw_text(SOON).expect("a text of the caller")
    }

    /// The next text of the called, as it came.
    fn of_called(&mut self) -> String {
        self.called.raw_text(SOON).expect("a text of the called")
    }
}

/// Alice in a call with the original app, whose data channel ends in the middle.
struct WithApp {
    middle: Middle,
    app: OldApp,
}

impl WithApp {
    fn new(friends: &mut Friends) -> Self {
        let app = take_call(&friends.server);
        let alice = friends.alice.peer.clone();
        let call = || alice.call("flutter");
        let agree = || friends.alice.talk_to_app("flutter");
        let middle = Middle::between(&friends.server, ["alice", "flutter"], call, agree);
        friends.alice.wait(&Event::Open { peer: "flutter".to_owned() });
        Self { middle, app: app.join().unwrap() }
    }

    /// What alice is shown before an honest text of the app.
    fn shown(&mut self, alice: &mut User) -> Vec<Event> {
        self.app.send("honest");
        let text = self.middle.of_called();
        self.middle.caller.send_raw(&text);
        let mut shown = Vec::new();
        loop {
            match alice.next() {
                event if event == message("honest") => return shown,
                event => shown.push(event),
            }
        }
    }
}

/// The original app, online as flutter, which takes the first call.
fn take_call(server: &EvilServer) -> JoinHandle<OldApp> {
    let mut app = OldApp::with(Client::connect(&server.address, "flutter"));
    thread::spawn(move || {
        app.take_call(|| {});
        app
    })
}

fn message(text: &str) -> Event {
    Event::Message { peer: "flutter".to_owned(), text: text.to_owned() }
}

/// Goal: have a text shown twice.
#[test]
fn a_text_of_an_app_that_is_played_back_is_shown_once() {
    Friends::with(honest, |friends| {
        let mut chat = WithApp::new(friends);
        chat.app.send("v1");
        let text = chat.middle.of_called();
        [&text, &text, &text].into_iter().for_each(|text| chat.middle.caller.send_raw(text));
        assert_eq!(chat.shown(&mut friends.alice), [message("v1")]);
        chat.app.send_v2("v2");
        let text = chat.middle.of_called();
        // Without its envelope it is the same box, and the same text.
        let bare = serde_json::from_str::<Value>(&text).unwrap()["ct"].as_str().unwrap().to_owned();
        [&text, &text, &bare].into_iter().for_each(|text| chat.middle.caller.send_raw(text));
        assert_eq!(chat.shown(&mut friends.alice), [message("v2")]);
    });
}

/// Goal: have texts shown twice, or not at all, by their order.
#[test]
fn texts_of_an_app_in_another_order_are_each_shown_once() {
    Friends::with(honest, |friends| {
        let mut chat = WithApp::new(friends);
        let texts = ["one", "two", "three"].map(|text| {
            chat.app.send(text);
            chat.middle.of_called()
        });
        [2, 0, 2, 1, 0].into_iter().for_each(|number: usize| chat.middle.caller.send_raw(&texts[number]));
        assert_eq!(chat.shown(&mut friends.alice), [message("three"), message("one"), message("two")]);
    });
}

/// Goal: have somebody's own text shown to them as the other side's.
#[test]
fn a_text_of_ones_own_is_never_shown_as_the_apps() {
    Friends::with(honest, |friends| {
        let mut chat = WithApp::new(friends);
        let [alices, apps] = [&chat.middle.called, &chat.middle.caller]
            .map(|end| end.introduction["publicKey"].as_str().unwrap().to_owned());
        let third = BASE64.encode(&crypto_box_keypair().0);
        friends.alice.peer.send("flutter", "mine");
        let bare = chat.middle.of_caller();
        // As it is, and in format v2 under every key there is.
        let mut texts = vec![bare.clone()];
        texts.extend([&alices, &apps, &third].map(|rk| json!({"rk": rk, "ct": bare}).to_string()));
        for text in texts {
            chat.middle.caller.send_raw(&text);
            assert_eq!(chat.shown(&mut friends.alice), []);
        }
        // And one that was in format v2.
        chat.app.send_v2("v2");
        let text = chat.middle.of_called();
        chat.middle.caller.send_raw(&text);
        friends.alice.wait(&message("v2"));
        friends.alice.peer.send("flutter", "mine in v2");
        let text = chat.middle.of_caller();
        let mut texts =
            vec![text.clone(), serde_json::from_str::<Value>(&text).unwrap()["ct"].as_str().unwrap().to_owned()];
        texts.extend([&apps, &third].map(|rk| text.replace(&alices, rk)));
        for text in texts {
            chat.middle.caller.send_raw(&text);
            assert_eq!(chat.shown(&mut friends.alice), [], "{text}");
        }
    });
}

/// Goal: slip a text of one's own into the chat of an old app.
#[test]
fn a_text_of_a_third_key_is_told_of_before_it_is_shown() {
    Friends::with(honest, |friends| {
        let chat = WithApp::new(friends);
        chat.middle.caller.send_raw(&third_key(&chat.middle));
        assert_eq!(friends.alice.next(), Event::KeyChanged { peer: "flutter".to_owned() });
        assert_eq!(friends.alice.next(), message("false"));
    });
}

/// A text for the caller in format v2, from a key that is neither side's.
fn third_key(middle: &Middle) -> String {
    let (public, secret) = crypto_box_keypair();
    json!({"rk": BASE64.encode(&public), "ct": seal("false", &middle.caller.peer_key, &secret)}).to_string()
}

/// Goal: do so without the user's seeing it on the screen.
#[test]
fn lowkey_says_what_an_app_is_and_that_its_key_has_changed() {
    let server = EvilServer::start();
    let home = Folder::new("middle-app");
    let mut alice = lowkey(&server.url(), &home, "alice", &[]);
    let app = take_call(&server);
    alice.write("/connect flutter");
    let agree = || talk_to_app(&mut alice);
    let mut middle = Middle::between(&server, ["alice", "flutter"], || {}, agree);
    let app = app.join().unwrap();
    alice.stderr.find(
        "flutter uses an old app, which cannot prove who they are: it could be anybody, and others may read along",
    );
    alice.stderr.find("connected with flutter");
    app.send("true");
    let text = middle.of_called();
    middle.caller.send_raw(&text);
    assert_eq!(alice.stdout.next(), "flutter: true");
    middle.caller.send_raw(&third_key(&middle));
    alice.stderr.find("flutter has another key from now on");
    assert_eq!(alice.stdout.next(), "flutter: false");
}

/// Somebody with keys of their own on both sides of alice's call to bob, who pass on what they are told.
struct Impostors {
    of_bob: User,
    of_alice: User,
}

impl Impostors {
    fn between(server: &EvilServer) -> Self {
        let [to_alice, to_bob] = server.come_between("alice", "bob").map(|address| format!("ws://{address}"));
        Self {
            of_bob: user(&to_alice, "bob", identity("mallory")),
            of_alice: user(&to_bob, "alice", identity("mallory")),
        }
    }

    /// Takes alice's call, and calls bob.
    fn take_call(&mut self) {
        self.of_bob.asked_by("alice");
        self.of_alice.peer.call("bob");
        self.of_bob.peer.accept("alice");
    }
}

/// Goal: stand between two peers who know each other, with keys of one's own.
#[test]
fn somebody_in_the_middle_of_peers_who_know_each_other_learns_nothing_and_is_refused() {
    Friends::with(honest, |friends| {
        friends.have_met();
        let mut impostors = Impostors::between(&friends.server);
        friends.alice.peer.call("bob");
        // Nobody but bob can read who calls, so the impostor has nobody to ask about.
        until("alice has said who she is", || {
            let hello = |message: &Value| message["type"] == "signal:ice";
            friends.server.sent("alice", "bob").iter().any(hello).then_some(())
        });
        impostors.of_alice.peer.call("bob");
        let reason = friends.bob.find("a refusal", |event| match event {
            Event::Refused { peer, reason } if peer == "alice" => Some(reason.clone()),
            _ => None,
        });
        let known = Box::new(known(identity("alice").public(), false));
        let [own, mallorys] = ["bob", "mallory"].map(|name| identity(name).public());
        assert_eq!(reason, CloseReason::IdentityChanged { own, known, identity: Some(mallorys) });
        friends.hear_nothing();
        assert!(impostors.of_bob.events.try_next().is_err());
        friends.alice.peer.leave("bob");
        friends.alice.wait(&Event::Closed { peer: "bob".to_owned(), reason: CloseReason::Left });
    });
}

/// Goal: stand between strangers without its ever showing.
#[test]
fn somebody_in_the_middle_of_strangers_shows_in_the_safety_numbers() {
    let server = EvilServer::start();
    let homes = ["alice", "bob"].map(|name| Folder::new(&format!("middle-{name}")));
    let mut alice = lowkey(&server.url(), &homes[0], "alice", &[]);
    let mut bob = lowkey(&server.url(), &homes[1], "bob", &[]);
    let mut impostors = Impostors::between(&server);
    alice.write("/connect bob");
    impostors.take_call();
    bob.stderr.find("alice wants to talk to you");
    bob.write("/accept");
    let numbers = [(&mut alice, "bob"), (&mut bob, "alice")].map(|(program, other)| {
        program.stderr.find(&format!(
            "{other} is new to you, and nobody knows yet whether it is the {other} whom you mean: /verify {other} \
             tells how to be sure"
        ));
        program.stderr.find("connected with");
        program.write("/verify");
        program.stderr.find("your safety number with");
        [(); 2].map(|()| program.stderr.find("    ")).concat()
    });
    let [digits, other_digits] = &numbers.each_ref().map(|number| number.matches(|c: char| c.is_ascii_digit()).count());
    assert_eq!((*digits, *other_digits), (60, 60), "{numbers:?}");
    assert_ne!(numbers[0], numbers[1]);
    // Nothing else tells: what alice writes comes to bob by way of somebody who reads it.
    alice.write("a secret");
    let (_, text) = impostors.of_bob.message();
    assert_eq!(text, "a secret");
    impostors.of_alice.wait(&Event::Open { peer: "bob".to_owned() });
    impostors.of_alice.peer.send("bob", &text);
    assert_eq!(bob.stdout.next(), "alice: a secret");
}

/// Goal: stand between two users of the real program, who have met or use a link.
#[test]
fn lowkey_refuses_somebody_in_the_middle_of_a_call_by_link_and_of_one_who_is_known() {
    let server = EvilServer::start();
    let homes = ["alice", "bob", "carol"].map(|name| Folder::new(&format!("middle-link-{name}")));
    let mut alice = lowkey(&server.url(), &homes[0], "alice", &[]);
    let mut bob = lowkey(&server.url(), &homes[1], "bob", &[]);
    let mut carol = lowkey(&server.url(), &homes[2], "carol", &[]);
    bob.write("/link");
    let link = bob.stderr.find("lowkey://").trim_start_matches("* ").to_owned();
    carol.write("/connect bob");
    bob.stderr.find("carol wants to talk to you");
    bob.write("/accept");
    carol.stderr.find("connected with bob");
    // Alice has only the link.
    let mut impostors = Impostors::between(&server);
    alice.write(&format!("/connect {link}"));
    alice.write("a secret");
    until("alice has said who she is", || {
        let hello = |message: &Value| message["type"] == "signal:ice";
        server.sent("alice", "bob").iter().any(hello).then_some(())
    });
    alice.write("/leave");
    alice.stderr.find("not sent to bob (you left): a secret");
    assert!(impostors.of_bob.events.try_next().is_err(), "nobody was asked");
    // Carol knows him, and her chat with him goes on, until the server comes between them as well.
    carol.write("still there?");
    assert_eq!(bob.stdout.next(), "carol: still there?");
    carol.write("/leave");
    bob.stderr.find("carol left");
    drop(impostors);
    let [to_carol, _] = server.come_between("carol", "bob").map(|address| format!("ws://{address}"));
    let mut impostor = user(&to_carol, "bob", identity("mallory"));
    impostor.peer.call("carol");
    carol.stderr.find("bob IS NOT WHO THEY WERE. No text was sent to them.");
    carol.write("/decline bob");
    assert_eq!(
        impostor.find("an end", |event| matches!(event, Event::Closed { .. }).then(|| event.clone())),
        Event::Closed { peer: "carol".to_owned(), reason: CloseReason::NotRecognized }
    );
}
