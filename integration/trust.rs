//! Who a peer is, as a user of `lowkey` meets it: safety numbers, known peers, links, old apps and strictness.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::old_app::{OldApp, talk_to_app};
use crate::world::{Folder, Program, Server, lowkey, until};

/// Alice calls bob, who takes it.
fn call(alice: &mut Program, bob: &mut Program) {
    call_from(alice, bob, "alice");
}

fn call_from(caller: &mut Program, bob: &mut Program, name: &str) {
    caller.write("/connect bob");
    bob.stderr.find(&format!("{name} wants to talk to you"));
    bob.write(&format!("/accept {name}"));
    for program in [caller, bob] {
        program.stderr.find("connected with");
    }
}

/// The digits of the next safety number, which stands in several rows.
fn number(program: &mut Program) -> String {
    let mut digits = String::new();
    while digits.len() < 60 {
        let line = program.stderr.find("    ");
        digits.extend(line.chars().filter(char::is_ascii_digit));
    }
    assert_eq!(digits.len(), 60, "{digits}");
    digits
}

#[test]
fn a_safety_number_is_the_same_on_both_sides_and_a_verified_peer_stays_so() {
    let server = Server::start();
    let (home, other) = (Folder::new("verify-alice"), Folder::new("verify-bob"));
    let (mut alice, mut bob) = (lowkey(&server.url(), &home, "alice", &[]), lowkey(&server.url(), &other, "bob", &[]));
    alice.write("/peers");
    alice.stderr.find("nobody was seen before");
    alice.write("/connect bob");
    bob.stderr.find("alice wants to talk to you");
    bob.write("/accept");
    alice.stderr.find("bob is new to you");
    bob.stderr.find("alice is new to you");
    let numbers = [&mut alice, &mut bob].map(|program| {
        program.stderr.find("connected with");
        program.write("/verify");
        program.stderr.find("your safety number with");
        number(program)
    });
    assert_eq!(numbers[0], numbers[1]);
    alice.write("/verify yes");
    alice.stderr.find("bob is verified");
    alice.write("/who");
    alice.stderr.find("you are writing to bob");
    assert_eq!(alice.stderr.next(), format!("* {:<20} verified", "bob"));
    alice.write("/quit");
    alice.wait();
    let file = home.0.join(".config/lowkey/known_peers");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(&format!("bob@{} ", server.address)) && text.ends_with(" verified\n"), "{text}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // And by another program, with the same profile.
    let mut alice = lowkey(&server.url(), &home, "alice", &[]);
    call(&mut alice, &mut bob);
    assert!(alice.stderr.seen.iter().any(|line| line == "* bob is verified"), "{:?}", alice.stderr.seen);
    bob.write("/peers");
    bob.stderr.find("alice");
    bob.write("/forget alice");
    bob.stderr.find("alice is forgotten");
}

/// Bob leaves alice, and comes again without the identity that she knows.
fn on_a_new_device(mut bob: Program, alice: &mut Program, server: &Server, home: &Folder) -> Program {
    bob.write("/quit");
    bob.wait();
    alice.stderr.find("bob left");
    fs::remove_file(home.0.join(".config/lowkey/identity-bob")).unwrap();
    lowkey(&server.url(), home, "bob", &[])
}

#[test]
fn somebody_else_under_a_known_name_is_refused_until_the_number_is_typed_in() {
    let server = Server::start();
    let (home, other) = (Folder::new("changed-alice"), Folder::new("changed-bob"));
    let (mut alice, mut bob) = (lowkey(&server.url(), &home, "alice", &[]), lowkey(&server.url(), &other, "bob", &[]));
    call(&mut alice, &mut bob);
    let mut bob = on_a_new_device(bob, &mut alice, &server, &other);
    // Nobody but the bob whom she knows can read who is calling, so he is not asked; but he may call.
    alice.write("/connect bob");
    alice.write("a secret");
    alice.stderr.find("calling bob");
    bob.write("/connect alice");
    alice.stderr.find("bob IS NOT WHO THEY WERE. No text was sent to them.");
    let old = number(&mut alice);
    let new = number(&mut alice);
    assert_ne!(old, new);
    alice.stderr.find("not sent to bob (they are not who they were; kept, /retry sends it again): a secret");
    // She finds both numbers again.
    alice.write("/who");
    alice.stderr.find("bob was refused with another key: /verify bob shows both numbers");
    alice.write("/verify bob");
    alice.stderr.find("They were refused, since they came with another key. With that it would be:");
    let rows = [alice.stderr.next(), alice.stderr.next()];
    assert_eq!(rows.map(|row| row.trim_start_matches('*').replace(' ', "")).concat(), new);
    // He is told nothing until she says so.
    alice.write("/accept bob");
    alice.stderr.find("bob is not who they were, and cannot be accepted");
    alice.write("/decline bob");
    alice.stderr.find("bob is told that you will not talk to them");
    bob.stderr.find("alice knows somebody else by your name");
    bob.stderr.find("in another way than this, your link, which /link shows");
    // Bob can read it to her.
    bob.write("/verify alice");
    assert_eq!(number(&mut bob), new);
    alice.write(&format!("/trust bob {old}"));
    alice.stderr.find("not the new safety number");
    alice.write(&format!("/trust bob {} {}", &new[..30], &new[30..]));
    alice.stderr.find("bob is trusted");
    call(&mut alice, &mut bob);
    alice.write("no secret");
    assert_eq!(bob.stdout.next(), "alice: no secret");
}

#[test]
fn who_called_and_is_trusted_then_need_not_call_again() {
    let server = Server::start();
    let (home, other) = (Folder::new("trusted-alice"), Folder::new("trusted-bob"));
    let (mut alice, mut bob) = (lowkey(&server.url(), &home, "alice", &[]), lowkey(&server.url(), &other, "bob", &[]));
    call(&mut alice, &mut bob);
    let mut bob = on_a_new_device(bob, &mut alice, &server, &other);
    bob.write("/connect alice");
    let refused = std::time::Instant::now();
    alice.stderr.find("bob IS NOT WHO THEY WERE");
    let (old, new) = (number(&mut alice), number(&mut alice));
    // It is said whose each half is.
    let own = alice.stderr.find("is yours, and the same in both").split(' ').nth(6).unwrap().to_owned();
    let has_it = |number: &str| [&number[..30], &number[30..]].iter().filter(|half| half.starts_with(&own)).count();
    assert_eq!((has_it(&old), has_it(&new)), (1, 1), "{own}: {old} {new}");
    until("the call of bob is no new one", || {
        (refused.elapsed() > std::time::Duration::from_millis(1500)).then_some(())
    });
    alice.write(&format!("/trust bob {new}"));
    alice.stderr.find("bob is trusted with the new number");
    // He waits all the time, and may be impatient.
    bob.write("/connect alice");
    for program in [&mut alice, &mut bob] {
        program.stderr.find("connected with");
    }
    bob.write("it is me");
    assert_eq!(alice.stdout.next(), "bob: it is me");
}

#[test]
fn who_is_not_answered_is_told_of_their_number_where_they_are_known() {
    let server = Server::start();
    let (home, other) = (Folder::new("unanswered-alice"), Folder::new("unanswered-bob"));
    let (mut alice, mut bob) = (lowkey(&server.url(), &home, "alice", &[]), lowkey(&server.url(), &other, "bob", &[]));
    call(&mut alice, &mut bob);
    let mut bob = on_a_new_device(bob, &mut alice, &server, &other);
    bob.write("/connect alice");
    alice.stderr.find("With whoever this is it would be");
    let new = number(&mut alice);
    // He sees what anybody sees whom nobody answers, after a minute.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(90);
    let told = "* alice has not answered, though a program is there: they may be away; or it is somebody else by that \
                name; or one of you has a new device";
    while !bob.stderr.next_until(deadline).expect("he is told").starts_with(told) {}
    bob.stderr.find("your safety number with them");
    assert_eq!(number(&mut bob), new);
}

#[test]
fn a_link_names_a_peer_and_its_identity() {
    let server = Server::start();
    let other = Folder::new("link-bob");
    let mut bob = lowkey(&server.url(), &other, "bob", &[]);
    bob.write("/link");
    let link = bob.stderr.find("lowkey://").trim_start_matches("* ").to_owned();
    let url = server.url();
    let mut qr = Program::start("lowkey", &["--server", &url, "--name", "bob", "--qr"], &[("HOME", other.path())]);
    let lines = qr.stdout.rest();
    assert_eq!((lines.last(), qr.wait().code()), (Some(&link), Some(0)));
    assert!(lines.len() > 10 && lines[0].contains('█'), "{lines:?}");
    assert!(link.starts_with(&format!("lowkey://{}/bob?plain#", server.address)), "{link}");
    // The server stands in the link.
    let home = Folder::new("link-alice");
    let mut alice = Program::start("lowkey", &["--name", "alice", &link], &[("HOME", home.path())]);
    bob.stderr.find("alice wants to talk to you");
    bob.write("/accept");
    alice.stderr.find("bob is verified");
    alice.stderr.find("connected with");
    // A link with another key takes nobody else.
    let (place, key) = link.split_once('#').unwrap();
    let false_link = format!("{place}#{}{}", if key.starts_with('A') { "B" } else { "A" }, &key[1..]);
    let stranger = Folder::new("link-carol");
    let mut carol = lowkey(&server.url(), &stranger, "carol", &[]);
    carol.write(&format!("/connect {false_link}"));
    carol.stderr.find("calling bob");
    carol.write("/leave");
    carol.stderr.find("nobody has proven to be whom the link names");
    assert!(!bob.stderr.seen.iter().any(|line| line.contains("carol")), "bob could not read who calls");
    // A wrong link leaves nothing behind.
    call_from(&mut carol, &mut bob, "carol");
    carol.write(&format!("/connect {false_link}"));
    carol.stderr.find("the link names somebody else than the bob who is known here");
    carol.write("/verify bob");
    number(&mut carol);
    carol.write("/connect lowkey://chat.example/bob#x");
    carol.stderr.find("the link is not whole");
}

#[test]
fn a_server_has_an_ipv6_address() {
    let server = Server::start_with(&[("HOST", "::1")]);
    let _bot = server.bot();
    let home = Folder::new("ipv6-bob");
    let mut bob = lowkey(&server.url(), &home, "bob", &["echo"]);
    bob.stderr.find("connected with");
    bob.write("over IPv6");
    assert_eq!(bob.stdout.next(), "echo: over IPv6");
    bob.write("/link");
    let link = bob.stderr.find("lowkey://").trim_start_matches("* ").to_owned();
    assert!(link.starts_with("lowkey://[::1]:"), "{link}");
    let mut alice = Program::start("lowkey", &["--name", "alice", &link], &[]);
    bob.stderr.find("alice wants to talk to you");
    bob.write("/accept");
    alice.stderr.find("bob is verified");
    alice.write("hello");
    assert_eq!(bob.stdout.next(), "alice: hello");
}

#[test]
fn an_old_app_is_called_one_and_refused_by_who_is_strict() {
    let server = Server::start();
    let home = Folder::new("old-app");
    let mut alice = lowkey(&server.url(), &home, "alice", &[]);
    let mut app = OldApp::online(&server, "flutter");
    alice.write("/connect flutter");
    app.take_call(|| talk_to_app(&mut alice));
    alice.stderr.find("flutter uses an old app, which cannot prove who they are");
    alice.stderr.find("connected with");
    alice.write("hello");
    assert_eq!(app.text(), "hello");
    alice.write("/verify");
    number(&mut alice);
    alice.stderr.find("good for this chat only");
    alice.write("/verify yes");
    alice.stderr.find("no identity that could be kept");
    let mut strict = lowkey(&server.url(), &home, "strict", &["--strict"]);
    let mut app = OldApp::online(&server, "fluttered");
    app.connect("strict");
    app.send_key();
    strict.stderr.find("an old app, which cannot prove who it is, is refused (--strict)");
}

#[test]
fn an_identity_is_its_users_alone_and_is_never_replaced() {
    let server = Server::start();
    let home = Folder::new("identity");
    let mut alice = lowkey(&server.url(), &home, "alice", &[]);
    alice.write("/quit");
    alice.wait();
    let file = home.0.join(".config/lowkey/identity-alice");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&file, "garbage\n").unwrap();
    let url = server.url();
    let mut alice = Program::start("lowkey", &["--server", &url, "--name", "alice"], &[("HOME", home.path())]);
    alice.stderr.find("this is no identity");
    assert_eq!(alice.wait().code(), Some(2));
    assert_eq!(fs::read_to_string(&file).unwrap(), "garbage\n");
    // So with the list of known peers.
    fs::remove_file(&file).unwrap();
    fs::write(home.0.join(".config/lowkey/known_peers"), "bob\n").unwrap();
    let mut alice = Program::start("lowkey", &["--server", &url, "--name", "alice"], &[("HOME", home.path())]);
    alice.stderr.find("known_peers: line 1 is no known peer");
    assert_eq!(alice.wait().code(), Some(2));
}

#[test]
fn who_wants_calls_of_known_people_alone_is_called_by_nobody_else_whatever_their_name() {
    let server = Server::start();
    let homes = ["alice", "bob", "carol"].map(|name| Folder::new(&format!("only-known-{name}")));
    let mut alice = lowkey(&server.url(), &homes[0], "alice", &[]);
    let mut bob = lowkey(&server.url(), &homes[1], "bob", &[]);
    call(&mut alice, &mut bob);
    for program in [&mut alice, &mut bob] {
        program.write("/quit");
        program.wait();
    }
    let mut bob = lowkey(&server.url(), &homes[1], "bob", &["--only-known"]);
    // A stranger, by a program of ours and by an old app: neither is asked about, and both hear nothing of it.
    let mut carol = lowkey(&server.url(), &homes[2], "carol", &[]);
    carol.write("/connect bob");
    carol.stderr.find("calling bob");
    let mut app = OldApp::online(&server, "dave");
    app.connect("bob");
    app.send_key();
    // Alice has proven who she is.
    let mut alice = lowkey(&server.url(), &homes[0], "alice", &[]);
    alice.write("/connect bob");
    let asked = bob.stderr.next();
    assert!(asked.contains("alice wants to talk to you"), "{asked}");
    bob.write("/accept alice");
    bob.stderr.find("connected with alice");
    // He may call whom he likes.
    bob.write("/connect carol");
    bob.stderr.find("connected with carol");
    carol.stderr.find("connected with bob");
    bob.write("/quit");
    bob.wait();
    let heard = bob.stderr.rest();
    assert!(!heard.iter().any(|line| line.contains("wants to talk") || line.contains("dave")), "{heard:?}");
}

#[test]
fn who_is_blocked_is_not_heard_by_another_name_either() {
    let server = Server::start();
    let homes = ["bob", "mallory"].map(|name| Folder::new(&format!("blocked-{name}")));
    let mut bob = lowkey(&server.url(), &homes[0], "bob", &[]);
    let mut mallory = lowkey(&server.url(), &homes[1], "mallory", &[]);
    mallory.write("/connect bob");
    bob.stderr.find("mallory wants to talk to you");
    bob.write("/block mallory");
    bob.stderr.find("mallory is blocked");
    mallory.write("/quit");
    mallory.wait();
    let folder = homes[1].0.join(".config/lowkey");
    fs::copy(folder.join("identity-mallory"), folder.join("identity-nicer")).unwrap();
    let mut nicer = lowkey(&server.url(), &homes[1], "nicer", &[]);
    nicer.write("/connect bob");
    nicer.stderr.find("calling bob");
    // And bob's next start knows it still.
    bob.write("/quit");
    bob.wait();
    let mut bob = lowkey(&server.url(), &homes[0], "bob", &[]);
    nicer.write("/leave");
    nicer.write("/connect bob");
    // What is said of the next caller comes first of all.
    let carols = Folder::new("blocked-carol");
    let mut carol = lowkey(&server.url(), &carols, "carol", &[]);
    nicer.stderr.find("calling bob");
    carol.write("/connect bob");
    let asked = bob.stderr.next();
    assert!(asked.contains("carol wants to talk to you"), "{asked}");
}
