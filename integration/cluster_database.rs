//! What the database of a cluster lets servers do, and what it does to them: rights that are missing, no room, another
//! cluster beside this one, a clock that is set.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::cluster::{Cluster, code, ice};
use crate::cluster_alike::Real;
use crate::cluster_faults::{NO_ROOM, get, until_reached};
use crate::cluster_links::metric;
use crate::databases::{Database, Nginx, databases, upstream_options};
use crate::model_database::Reply;
use crate::world::{Program, Server, until};

/// What of these the server is refused without is said to everybody who connects: the database asks for no right.
const FREE: [&str; 4] = ["+hello", "+auth", "+select", "+client|setname"];

#[test]
fn each_right_that_the_guide_gives_is_missed_at_the_start_and_named() {
    let conf = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/lowkey-database.conf")).unwrap();
    let user = conf.lines().find_map(|line| line.strip_prefix("user lowkey on >PASSWORD ")).expect("a user");
    let rules: Vec<&str> = user.split(' ').collect();
    let is_right = |rule: &&&str| !FREE.contains(*rule) && !rule.starts_with("-") && !rule.starts_with("reset");
    assert!(rules.iter().filter(is_right).count() > 12, "{rules:?}");
    for path in databases() {
        let database = Database::start(&path);
        let url = format!("redis://lowkey:secret@127.0.0.1:{}", database.port);
        let start =
            || Program::start("lowkey-server", &[], &[("HOST", "127.0.0.1"), ("PORT", "0"), ("CLUSTER_URL", &url)]);
        let allow = |without: &[&str]| {
            let rules = rules.iter().filter(|rule| !without.contains(rule));
            let user = ["ACL", "SETUSER", "lowkey", "reset", "on", ">secret"];
            let command: Vec<&str> = user.into_iter().chain(rules.copied()).collect();
            assert_eq!(database.ask(&command), "+OK");
        };
        for missing in rules.iter().filter(is_right) {
            allow(&[*missing]);
            let mut server = start();
            assert_eq!(server.wait().code(), Some(2), "without {missing}");
            let said = server.stderr.rest().join("\n");
            assert!(said.contains("lacks a right") && said.contains("lowkey-database.conf"), "{missing}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
        allow(&FREE);
        start().stderr.find("can be asked");
    }
}

#[test]
fn a_database_that_is_full_refuses_new_names_and_sessions_and_nothing_else() {
    thread::scope(|scope| {
        for database in databases() {
            scope.spawn(move || full(&database));
        }
    });
}

fn full(database: &str) {
    let mut cluster = Cluster::start(database, 2);
    let mut alice = cluster.with_token(0, "alice", "a").unwrap();
    let mut older = cluster.with_token(1, "bob", "b").unwrap();
    alice.send(r#"{"type":"session:create"}"#);
    let id = alice.json()["payload"]["sessionId"].as_str().unwrap().to_owned();
    until_reached(&mut alice, "bob", &mut older);
    cluster.database.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let asked = Instant::now();
    let (status, answer) = get(&cluster.nodes[0].address, "/ws?username=carol");
    assert!(status == "507" && answer.contains("Retry-After") && answer.contains("no room"), "{answer}");
    assert!(asked.elapsed() < Duration::from_secs(4), "at once: {:?}", asked.elapsed());
    alice.send(r#"{"type":"session:create"}"#);
    let told = alice.json()["payload"].clone();
    assert_eq!(told, json!({"code": "RATE_LIMITED", "message": NO_ROOM}));
    for (kind, result, count) in [("claim", "full", "1"), ("create", "full", "1"), ("create", "away", "0")] {
        let name = format!("lowkey_cluster_asks_total{{kind=\"{kind}\",result=\"{result}\"}}");
        assert_eq!(metric(&cluster, 0, &name), count, "{name}");
    }
    cluster.nodes[0].program.stderr.find("is full");
    // All leases are renewed several times.
    let later = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + Duration::from_secs(4);
    let later = later.as_millis().to_string();
    until("both leases go on", || {
        (cluster.database.ask(&["ZCOUNT", "lk1:nodes", &later, "+inf"]) == ":2").then_some(())
    });
    // Who is known comes back, wherever that is, and is found.
    let mut bob = cluster.with_token(0, "bob", "b").expect("his name is known");
    assert_eq!(older.close_frame().reason.as_str(), "replaced by new connection");
    bob.send(json!({"type": "session:join", "sessionId": id}).to_string());
    assert_eq!((&bob.json()["payload"]["peer"], &alice.json()["payload"]["peer"]), (&json!("alice"), &json!("bob")));
    drop(bob);
    let mut bob = until("bob is at the other server", || cluster.with_token(1, "bob", "b"));
    until_reached(&mut alice, "bob", &mut bob);
    assert_eq!([0, 1].map(|node| metric(&cluster, node, "lowkey_cluster_losses_total")), ["0", "0"]);
    // So are all whose server has to greet it anew.
    cluster.database.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until("both were cut off", || {
        [0, 1].iter().all(|node| metric(&cluster, *node, "lowkey_cluster_losses_total") == "1").then_some(())
    });
    until_reached(&mut alice, "bob", &mut bob);
    until_reached(&mut bob, "alice", &mut alice);
    assert!(cluster.with_token(0, "bob", "thief").is_none());
    newcomers_behind_nginx_shut_nobody_out(&cluster);
    cluster.add(&[]);
    cluster.database.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    let mut carol = cluster.client(2, "carol");
    until_reached(&mut alice, "carol", &mut carol);
}

/// Those whom a full database refuses take no server away from those whom it knows, with the settings of the guide.
fn newcomers_behind_nginx_shut_nobody_out(cluster: &Cluster) {
    let servers: Vec<String> = cluster.nodes.iter().map(|node| node.address.clone()).collect();
    let Some(nginx) = Nginx::start(&servers, upstream_options()) else { return };
    for number in 0..10 {
        let (status, answer) = get(&nginx.address, &format!("/ws?username=new{number}"));
        assert_eq!(status, "507", "{answer}");
    }
    assert_eq!(get(&nginx.address, "/ws?username=bob&token=thief").0, "409");
    assert_eq!(get(&nginx.address, "/ws?username=bob&token=b").0, "101");
}

#[test]
fn two_clusters_in_one_redis_know_nothing_of_each_other() {
    for path in databases() {
        let database = Database::start(&path);
        let numbers = ["0", "1"];
        let select = |number: &str| format!("*2\r\n$6\r\nSELECT\r\n$1\r\n{number}\r\n");
        let nodes: Vec<Server> = ["0", "0", "1", "1"]
            .iter()
            .map(|number| {
                assert_eq!(database.ask_after(&select(number), &["SET", "lk1:grace", "1"]), "+OK");
                let (url, secret) = (format!("{}/{number}", database.url()), format!("secret {number}"));
                let mut node = Server::start_one(&[("CLUSTER_URL", &url), ("CLUSTER_SECRET", &secret)]);
                node.program.stderr.find("can be asked");
                node
            })
            .collect();
        let mut pairs = [0, 2].map(|first| (nodes[first].client("alice"), nodes[first + 1].client("bob")));
        for (number, (alice, bob)) in pairs.iter_mut().enumerate() {
            alice.send(ice("bob", number));
            assert_eq!(bob.json()["payload"]["number"], number);
        }
        let zoe = nodes[0].client("zoe");
        pairs[1].0.send(ice("zoe", 1));
        assert_eq!(code(&mut pairs[1].0), "RELAY_FAILED", "she is in the other cluster");
        drop(zoe);
        for number in numbers {
            let (url, other) = (format!("{}/{number}", database.url()), ("CLUSTER_SECRET", "another"));
            let variables = [("HOST", "127.0.0.1"), ("PORT", "0"), ("CLUSTER_URL", &*url), other];
            let mut third = Program::start("lowkey-server", &[], &variables);
            assert_eq!(third.wait().code(), Some(2));
            third.stderr.find("takes another number, as in redis://HOST/1");
        }
    }
}

#[test]
fn a_clock_of_the_database_that_is_set_keeps_nobody_out_and_gives_no_name_away() {
    for path in databases() {
        let cluster = Cluster::start(&path, 2);
        let mut alice = cluster.with_token(0, "alice", "a").unwrap();
        let mut bob = cluster.with_token(1, "bob", "b").unwrap();
        until_reached(&mut alice, "bob", &mut bob);
        // By an hour back: what was over when it was set is to come.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let later = (now + Duration::from_secs(3600)).as_millis().to_string();
        assert_eq!(cluster.database.ask(&["SET", "lk1:grace", &later]), "+OK");
        until("somebody new comes in", || cluster.with_token(0, "carol", "c"));
        // By half a minute ahead: all leases are over.
        let before = (now - Duration::from_secs(30)).as_millis().to_string().into_bytes();
        let mut database = Real::connect(&cluster.database);
        let all = ["ZRANGE", "lk1:nodes", "0", "-1"].map(|part| part.as_bytes().to_vec());
        let Reply::List(members) = database.run(&all) else { panic!("no list") };
        for member in members {
            let Reply::Bytes(member) = member else { panic!("no member") };
            database.run(&[b"ZADD".to_vec(), b"lk1:nodes".to_vec(), before.clone(), member]);
        }
        assert!(cluster.with_token(0, "bob", "thief").is_none());
        until("both have seen it", || {
            [0, 1].iter().all(|node| metric(&cluster, *node, "lowkey_cluster_losses_total") == "1").then_some(())
        });
        until_reached(&mut alice, "bob", &mut bob);
        assert!(cluster.with_token(0, "bob", "thief").is_none());
    }
}

#[test]
fn ten_servers_are_one() {
    const NODES: usize = 10;
    for path in databases() {
        let cluster = Cluster::start(&path, NODES);
        let mut users: Vec<_> = (0..NODES).map(|node| cluster.client(node, &format!("user{node}"))).collect();
        for (from, user) in users.iter_mut().enumerate() {
            (0..NODES).filter(|to| *to != from).for_each(|to| user.send(ice(&format!("user{to}"), from)));
        }
        for (to, user) in users.iter_mut().enumerate() {
            let mut heard: Vec<u64> = (1..NODES).map(|_| user.json()["payload"]["number"].as_u64().unwrap()).collect();
            heard.sort_unstable();
            let others: Vec<u64> = (0..NODES as u64).filter(|from| *from != to as u64).collect();
            assert_eq!(heard, others, "user{to}");
        }
        for node in 0..NODES {
            until("it knows of all", || (metric(&cluster, node, "lowkey_cluster_nodes") == "10").then_some(()));
        }
    }
}
