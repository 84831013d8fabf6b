//! A million names at a server of a cluster, in this very process with a database beside it: whether it ever pauses
//! while they come, while it renews its lease, and while it marks them all anew after the database was lost.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lowkey::server::Config;
use lowkey::server::clients::Clients;
use lowkey::server::cluster::url::ClusterUrl;
use lowkey::server::cluster::{Cluster, ClusterSettings};
use lowkey::server::http::Endpoints;
use lowkey::server::hub::ConnId;
use lowkey::server::limits::Limits;

use super::load::{frame, upgrade};
use super::memory::{Nothing, give, thread_time};
use super::model_database::ModelDatabase;
use super::report::{Goal, Report};

/// A server without sockets.
struct Node {
    clients: Clients<Nothing>,
    cluster: Cluster,
    link: usize,
    /// What the database has said.
    input: Vec<u8>,
    buffer: Vec<u8>,
    /// The longest turn so far.
    longest: Duration,
}

impl Node {
    fn new(process: &[u8; 6], database: &mut ModelDatabase, now: Instant) -> Self {
        let url = ClusterUrl::parse("redis://127.0.0.1").expect("a URL");
        let settings = ClusterSettings {
            url,
            secret: "secret".to_owned(),
            lease: Duration::from_secs(15),
            session_ttl: Duration::from_secs(600),
            reservation: Duration::from_secs(60),
        };
        let limits = Limits { ping_interval: Duration::from_secs(86_400), ..Limits::default().without_rates() };
        let config = Config { limits, cluster: Some(settings.clone()), ..Config::default() };
        let (clients, mut cluster) = (Clients::new(config, 0), Cluster::new(settings, *process, now));
        cluster.connect(now);
        let (input, buffer) = (Vec::new(), vec![0; 32 * 1024]);
        Self { clients, cluster, link: database.open(), input, buffer, longest: Duration::ZERO }
    }

    /// One turn of the loop, its time taken; then the database has its own.
    fn turn(&mut self, database: &mut ModelDatabase, now: Instant, serve: impl FnOnce(&mut Self)) {
        let input = std::mem::take(&mut self.input);
        let started = thread_time();
        serve(self);
        if !input.is_empty() {
            self.cluster.receive(&input, now).expect("the database is well");
        }
        self.cluster.tick(now).expect("the database is well");
        self.clients.tick(now);
        for _ in 0..2 {
            self.clients.exchange(&mut self.cluster, now, now);
            self.clients.flush(now);
        }
        self.longest = self.longest.max(thread_time() - started);
        database.hear(self.link, self.cluster.output());
        self.cluster.sent(self.cluster.output().len());
        self.input = database.say(self.link, READ_SHARE);
    }

    /// Turns until there is nothing more to say.
    fn settle(&mut self, database: &mut ModelDatabase, now: Instant) {
        self.turn(database, now, |_| {});
        while !self.input.is_empty() || self.cluster.counts().unanswered > 0 {
            self.turn(database, now, |_| {});
        }
    }

    fn read(&mut self, id: usize, bytes: &[u8], now: Instant) {
        give(bytes);
        self.clients.read(ConnId(id), &mut self.buffer, now);
    }

    fn come(&mut self, database: &mut ModelDatabase, id: usize, name: &str, now: Instant) {
        let head = upgrade(name);
        self.turn(database, now, |node| {
            let door = Endpoints { users: true, metrics: false };
            node.clients.add(Nothing, IpAddr::V4(Ipv4Addr::LOCALHOST), door, now);
            node.read(id, head.as_bytes(), now);
        });
    }

    fn milliseconds(&mut self) -> Vec<f64> {
        vec![std::mem::take(&mut self.longest).as_secs_f64() * 1e3]
    }
}

/// What the link reads in a turn at most.
const READ_SHARE: usize = 256 * 1024;

/// Runs it all.
pub fn run(report: &mut Report, is_quick: bool) {
    let count = if is_quick { 100_000 } else { 1_000_000 };
    let (start, mut database) = (Instant::now(), ModelDatabase::new(true));
    let mut node = Node::new(b"bench0", &mut database, start);
    let mut other = Node::new(b"bench1", &mut database, start);
    [&mut node, &mut other].into_iter().for_each(|node| node.settle(&mut database, start));
    // In a new cluster names are given out after some seconds.
    let mut now = start;
    for _ in 0..5 {
        now += Duration::from_secs(1);
        database.now += 1000;
        [&mut node, &mut other].into_iter().for_each(|node| node.settle(&mut database, now));
    }
    other.come(&mut database, 0, "zoe", now);
    other.settle(&mut database, now);
    let goal = Some(Goal::Most(2.0));
    let mut row = |what: &str, samples: Vec<f64>| {
        report.add(&format!("longest turn {what}, {count} names in memory"), "ms", "one of two servers", samples, goal);
    };
    node.longest = Duration::ZERO;
    for id in 0..count {
        node.come(&mut database, id, &format!("user{id}"), now);
    }
    node.settle(&mut database, now);
    assert_eq!(node.clients.hub().online(), count);
    row("while they are claimed", node.milliseconds());
    let message = frame(r#"{"type":"signal:ice","target":"zoe","payload":1}"#);
    for id in 0..count {
        node.turn(&mut database, now, |node| node.read(id, &message, now));
        if id % 1000 == 0 {
            other.settle(&mut database, now);
        }
    }
    node.settle(&mut database, now);
    other.settle(&mut database, now);
    row("while each writes to another server", node.milliseconds());
    for _ in 0..6 {
        now += Duration::from_secs(1);
        database.now += 1000;
        node.settle(&mut database, now);
    }
    row("while the lease is renewed", node.milliseconds());
    database.close(node.link);
    node.turn(&mut database, now, |node| node.cluster.lose(now));
    node.link = database.open();
    node.cluster.connect(now);
    node.settle(&mut database, now);
    assert_eq!(node.clients.hub().online(), count, "nobody is thrown out");
    let counts = node.cluster.counts();
    assert_eq!((counts.asks[2], counts.conflicts), ([count as u64, 0, 0], 0), "each was marked");
    row("of a sweep", node.milliseconds());
}
