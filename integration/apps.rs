//! The original app and its newest successor ([`OldApp`]) with our bot, our library and `lowkey`.

use crate::old_app::{OldApp, talk_to_app};
use crate::world::{Folder, Program, Server, lowkey};

#[test]
fn an_old_app_calls_the_bot_and_is_answered_in_v1() {
    let server = Server::start();
    let _bot = server.bot();
    let mut app = OldApp::call(&server, "flutter", "echo");
    for text in ["hello", "", "👋🏽"] {
        app.send(text);
        assert_eq!(app.text(), text);
    }
}

#[test]
fn an_app_that_speaks_v2_is_answered_in_v2_from_then_on() {
    let server = Server::start();
    let _bot = server.bot();
    let mut app = OldApp::call(&server, "flutter", "echo");
    app.send("in v1");
    assert_eq!(app.text(), "in v1");
    for text in ["in v2", "👋🏽"] {
        app.send_v2(text);
        assert_eq!(app.text_v2(), text);
    }
    app.send("v1 again");
    assert_eq!(app.text_v2(), "v1 again");
}

#[test]
fn an_old_app_is_called_and_answers() {
    let server = Server::start();
    let mut alice = server.peer("alice");
    let caller = alice.peer.clone();
    let mut app = OldApp::answer(&server, "flutter", || caller.call("flutter"), || alice.talk_to_app("flutter"));
    alice.wait(&lowkey::peer::Event::Open { peer: "flutter".to_owned() });
    app.send("from the app");
    assert_eq!(alice.message(), ("flutter".to_owned(), "from the app".to_owned()));
    alice.peer.send("flutter", "from alice");
    assert_eq!(app.text(), "from alice");
    alice.peer.leave("flutter");
    app.closed();
}

/// Texts go both ways between `lowkey` and an app of each format, whichever of them writes first.
fn chats_with_lowkey(alice: &mut Program, app: &mut OldApp, is_v2: bool) {
    alice.stderr.find("flutter uses an old app, which cannot prove who they are");
    alice.stderr.find("connected with flutter");
    alice.write("hello");
    assert_eq!(app.text(), "hello", "in v1 as long as nothing says that v2 is understood");
    for text in ["one", "", "👋🏽"] {
        if is_v2 {
            app.send_v2(text)
        } else {
            app.send(text)
        }
        assert_eq!(alice.stdout.next(), format!("flutter: {text}"));
        alice.write("answer");
        assert_eq!(if is_v2 { app.text_v2() } else { app.text() }, "answer");
    }
    if is_v2 {
        for text in ["a new key", "another"] {
            app.change_key();
            app.send_v2(text);
            assert_eq!(alice.stdout.next(), format!("flutter: {text}"));
            alice.write("followed");
            assert_eq!(app.text_v2(), "followed");
        }
        alice.stderr.find("flutter has another key from now on");
    }
    alice.write("/leave");
    app.closed();
}

#[test]
fn apps_of_both_formats_call_lowkey() {
    for is_v2 in [false, true] {
        let (server, home) = (Server::start(), Folder::new("called-by-app"));
        let mut alice = lowkey(&server.url(), &home, "alice", &[]);
        let mut app = OldApp::online(&server, "flutter");
        app.connect("alice");
        app.send_key();
        alice.stderr.find("flutter wants to talk to you");
        alice.write("/accept");
        app.meet_consent();
        chats_with_lowkey(&mut alice, &mut app, is_v2);
    }
}

#[test]
fn apps_of_both_formats_are_called_by_lowkey() {
    for is_v2 in [false, true] {
        let (server, home) = (Server::start(), Folder::new("calls-app"));
        let mut alice = lowkey(&server.url(), &home, "alice", &[]);
        let mut app = OldApp::online(&server, "flutter");
        alice.write("/connect flutter");
        app.take_call(|| talk_to_app(&mut alice));
        chats_with_lowkey(&mut alice, &mut app, is_v2);
    }
}

#[test]
fn the_bot_follows_an_app_that_changes_its_key() {
    let server = Server::start();
    let _bot = server.bot();
    let mut app = OldApp::call(&server, "flutter", "echo");
    for text in ["one", "two", "three"] {
        app.send_v2(text);
        assert_eq!(app.text_v2(), text);
        app.change_key();
    }
}
