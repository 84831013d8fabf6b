//! A server of a cluster whose way to the database is slow, or leads one way only; and one that is newer than the
//! others.

use std::thread;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use lowkey::server::cluster::GRACE;
use serde_json::json;
use sha1::Sha1;

use crate::cluster::{Cluster, ice};
use crate::cluster_alike::Real;
use crate::cluster_faults::{ALONE, get, until_reached};
use crate::databases::{Lost, Way, databases};
use crate::model_database::{Reply, SCRIPTS, hash};
use crate::world::{Client, until};

/// What a metric of a node says.
pub fn metric(cluster: &Cluster, node: usize, name: &str) -> String {
    let (_, metrics) = get(&cluster.nodes[node].address, "/metrics");
    let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned()
}

#[test]
fn a_slow_way_makes_everything_slow_and_nothing_fail() {
    for database in databases() {
        let mut cluster = Cluster::start(&database, 1);
        let way = Way::to(cluster.database.port);
        way.delay(Duration::from_millis(300));
        // A lease that is renewed in time all the same.
        cluster.add_by(way.port, &[("CLUSTER_LEASE", "5s")]);
        let (mut alice, mut bob) = (cluster.client(0, "alice"), cluster.client(1, "bob"));
        alice.send(r#"{"type":"session:connect","target":"bob"}"#);
        assert_eq!(
            (alice.json()["type"].clone(), bob.json()["type"].clone()),
            ("session:joined".into(), "session:joined".into())
        );
        (0..50).for_each(|number| alice.send(ice("bob", number)));
        (0..50).for_each(|number| bob.send(ice("alice", number)));
        for number in 0..50 {
            assert_eq!(bob.json()["payload"]["number"], number);
            assert_eq!(alice.json()["payload"]["number"], number);
        }
        assert!(cluster.with_token(1, "carol", "c").is_some() && cluster.with_token(0, "carol", "thief").is_none());
        assert_eq!(metric(&cluster, 1, "lowkey_cluster_losses_total"), "0");
    }
}

#[test]
fn a_database_that_comes_back_empty_gives_no_name_away_of_a_server_that_is_cut_off_meanwhile() {
    thread::scope(|scope| {
        for database in databases() {
            for is_empty in [true, false] {
                let database = database.clone();
                scope.spawn(move || forgetful(&database, is_empty));
            }
        }
    });
}

/// The database comes back empty, or as it was before the name came.
fn forgetful(database: &str, is_empty: bool) {
    let own = [("CLUSTER_LEASE", "30s")];
    let mut cluster = Cluster::start_with(database, 0, &own);
    let way = Way::to(cluster.database.port);
    cluster.add_by(way.port, &own);
    // This one knows of the other from the first moment on.
    cluster.add(&own);
    if !is_empty {
        save_with_ended_leases(&cluster);
    }
    let mut bob = until("bob has his name", || cluster.with_token(0, "bob", "secret"));
    let mut alice = until("alice has hers", || cluster.with_token(1, "alice", "hers"));
    // The server of bob learns nothing of the end of its connection, and reaches nobody for longer than the grace.
    way.cut(true);
    cluster.database.kill();
    cluster.database.start_again();
    let began = Instant::now();
    while began.elapsed() < GRACE + Duration::from_secs(2) {
        assert!(cluster.with_token(1, "bob", "thief").is_none(), "after {:?}", began.elapsed());
        assert!(Client::try_connect(&cluster.nodes[1].address, "/ws?username=bob").is_err());
    }
    way.cut(false);
    until_reached(&mut alice, "bob", &mut bob);
    assert!(cluster.with_token(1, "bob", "thief").is_none());
}

/// Has the database save itself with leases as they are in an old copy, while those that hold go on. A server may renew
/// its own meanwhile: then the copy is made again.
fn save_with_ended_leases(cluster: &Cluster) {
    let mut database = Real::connect(&cluster.database);
    let mut run = |command: &[&[u8]]| database.run(&parts(command));
    until("a copy has no lease that holds", || {
        let Reply::List(members) = run(&[b"ZRANGE", b"lk1:nodes", b"0", b"-1"]) else { panic!("no list") };
        let members: Vec<Vec<u8>> = members
            .into_iter()
            .map(|member| if let Reply::Bytes(member) = member { member } else { panic!("no member") })
            .collect();
        members.iter().for_each(|member| drop(run(&[b"ZADD", b"lk1:nodes", b"1", member])));
        assert_eq!(cluster.database.ask(&["SAVE"]), "+OK");
        let holding = run(&[b"ZCOUNT", b"lk1:nodes", b"(1", b"+inf"]);
        members.iter().for_each(|member| drop(run(&[b"ZADD", b"lk1:nodes", b"99999999999999", member])));
        // Whoever has seen its lease ended is back.
        let is_up = |node| metric(cluster, node, "lowkey_cluster_up") == "1";
        (holding == Reply::Number(0) && is_up(0) && is_up(1)).then_some(())
    });
}

#[test]
fn a_way_that_leads_in_one_direction_only_is_given_up_and_taken_anew() {
    thread::scope(|scope| {
        for (database, lost) in databases()
            .into_iter()
            .flat_map(|database| [Lost::ToDatabase, Lost::FromDatabase].map(|lost| (database.clone(), lost)))
        {
            scope.spawn(move || half_open(&database, lost));
        }
    });
}

fn half_open(database: &str, lost: Lost) {
    let mut cluster = Cluster::start(database, 1);
    let way = Way::to(cluster.database.port);
    cluster.add_by(way.port, &[]);
    let mut alice = cluster.with_token(0, "alice", "a").unwrap();
    let mut bob = cluster.with_token(1, "bob", "b").unwrap();
    let mut dave = cluster.client(1, "dave");
    until_reached(&mut alice, "bob", &mut bob);
    until_reached(&mut bob, "alice", &mut alice);
    way.lose(lost, true);
    until("bob is told", || {
        bob.send(ice("alice", 1));
        (bob.json()["payload"]["message"] == ALONE).then_some(())
    });
    bob.send(ice("dave", 2));
    assert_eq!(dave.json()["payload"]["number"], 2, "who is at the same server is reached");
    assert!(cluster.with_token(0, "bob", "thief").is_none(), "his name is kept");
    until("the way is given up", || (metric(&cluster, 1, "lowkey_cluster_up") == "0").then_some(()));
    way.lose(lost, false);
    until_reached(&mut alice, "bob", &mut bob);
    until_reached(&mut bob, "alice", &mut alice);
    assert!(cluster.with_token(0, "bob", "thief").is_none(), "and it is his");
}

/// A server of a later version, as far as others meet it.
struct Newer {
    database: Real,
    heard: Real,
}

impl Newer {
    /// Its lease, its channel, and a user `zoe`.
    fn start(cluster: &Cluster) -> Self {
        let (mut database, mut heard) = (Real::connect(&cluster.database), Real::connect(&cluster.database));
        heard.run(&parts(&[b"SUBSCRIBE", b"lk1:to:newer1"]));
        let script = |number: usize| hash(SCRIPTS[number].as_bytes()).into_bytes();
        let member = b"newer1\0\x01";
        database.run(&parts(&[
            b"EVALSHA",
            &script(5),
            b"2",
            b"lk1:nodes",
            b"lk1:grace",
            b"60000",
            b"60000",
            b"0",
            b"0",
            member,
        ]));
        let mut mac = Hmac::<Sha1>::new_from_slice(b"").unwrap();
        mac.update(b"nzoe");
        let name = [b"lk1:n:", &mac.finalize().into_bytes()[..16]].concat();
        let owner = [&member[..], b"\0\0\0\0\0\x09"].concat();
        let keys: [&[u8]; 3] = [&name, b"lk1:nodes", b"lk1:grace"];
        let (claim, count) = (script(0), b"3");
        let head: [&[u8]; 3] = [b"EVALSHA", &claim, count];
        let arguments: [&[u8]; 5] = [&owner, b"", b"60000", b"60000", b"3000"];
        let claim = [&head[..], &keys, &arguments].concat();
        assert!(matches!(database.run(&parts(&claim)), Reply::Bytes(since) if since.len() == 7));
        Self { database, heard }
    }

    /// The bundle that comes next.
    fn hear(&mut self) -> Vec<u8> {
        let Reply::List(items) = self.heard.reply() else { panic!("no message") };
        let Some(Reply::Bytes(bundle)) = items.last() else { panic!("no bundle") };
        bundle.clone()
    }
}

fn parts(parts: &[&[u8]]) -> Vec<Vec<u8>> {
    parts.iter().map(|part| part.to_vec()).collect()
}

fn framed(kind: u8, rest: &[u8]) -> Vec<u8> {
    [&(1 + rest.len() as u32).to_be_bytes()[..], &[kind], rest].concat()
}

#[test]
fn a_newer_server_beside_this_one_is_understood_as_far_as_it_says_what_is_known() {
    for database in databases() {
        let cluster = Cluster::start(&database, 1);
        let mut newer = Newer::start(&cluster);
        let mut alice = cluster.client(0, "alice");
        until("both know of each other", || (metric(&cluster, 0, "lowkey_cluster_nodes") == "2").then_some(()));
        // What this version says is what every version reads: length, kind, receiver, sender, hops, name, type, text.
        alice.send(ice("zoe", 1));
        let frame = newer.hear();
        let (head, origin, rest) = (&frame[..11], &frame[11..23], &frame[23..]);
        assert_eq!((&head[4..], &rest[..6]), (&b"M\0\0\0\0\0\x09"[..], &b"\0\x03zoe\x04"[..]));
        assert_eq!(u32::from_be_bytes(*head.first_chunk().unwrap()) as usize, frame.len() - 4);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&rest[6..]).unwrap()["sender"], "alice");
        // What that one says of itself, among much that only later versions know.
        let (process, conn) = (&origin[..6], &origin[6..]);
        let text =
            json!({"type": "signal:ice", "target": "alice", "sender": "zoe", "payload": {"number": 2}}).to_string();
        let zoe = b"newer1\0\0\0\0\0\x09\0\x05alice";
        let bundle = [
            framed(b'Q', b"of a kind that is not known yet"),
            framed(b'M', &[conn, zoe, &[200], b"of a type that is not known yet"].concat()),
            framed(b'M', &[conn, zoe, &[4], text.as_bytes()].concat()),
            framed(b'Z', b""),
            framed(b'N', &[conn, b"\x63\x03zoeand what a later version adds"].concat()),
        ]
        .concat();
        let channel = [b"lk1:to:", process].concat();
        assert_eq!(newer.database.run(&parts(&[b"PUBLISH", &channel, &bundle])), Reply::Number(1));
        assert_eq!(alice.json()["payload"]["number"], 2);
        let told = alice.json();
        assert_eq!((&told["payload"]["code"], &told["payload"]["target"]), (&json!("RELAY_FAILED"), &json!("zoe")));
        until("they are counted", || (metric(&cluster, 0, "lowkey_cluster_strange_frames_total") == "3").then_some(()));
        assert_eq!(metric(&cluster, 0, "lowkey_cluster_up"), "1");
        alice.send(ice("zoe", 3));
        newer.hear();
    }
}
