//! Servers of a cluster in memory with their users, over a database in memory: what each user says and hears, how time
//! and bytes go, and what has to hold of names and messages whatever happens (`cluster_model` says what does).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lowkey::server::http::Endpoints;
use lowkey::server::hub::ConnId;
use serde_json::Value;

use crate::model_database::ModelDatabase;
use crate::model_nodes::{Node, take_frame};
use crate::websocket::{text_frame, upgrade};
use crate::wire_ends::Wire;

/// How long a name may count as online whose server was killed: its lease, and the time until that is looked at.
pub const GHOST: Duration = Duration::from_secs(4);

/// As many losses as there never are, for a message of which nobody can tell what became of it.
const UNTOLD: usize = usize::MAX;

/// How many servers there are, and which names somebody may want.
pub const NODES: usize = 3;
pub const NAMES: [&str; 3] = ["alice", "bob", "carol"];

/// How far somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Waits,
    Refused,
    Online,
    Over,
}

/// Somebody at a server.
pub struct User {
    pub node: usize,
    conn: ConnId,
    wire: Wire,
    pub name: &'static str,
    token: Option<&'static str>,
    pub stage: Stage,
    /// Somebody with its token has come after it. Its server may be cut off and not know yet.
    is_replaced: bool,
    /// Messages that have come: from whom, and which.
    got: Vec<(String, u64)>,
    /// For each message of which it was told that it came to nothing: after how many losses.
    told: Vec<usize>,
    /// How often it called, and was answered or called itself.
    pub calls: usize,
    call_answers: usize,
}

/// All of it.
pub struct World {
    pub database: ModelDatabase,
    pub nodes: Vec<Node>,
    pub users: Vec<User>,
    start: Instant,
    pub now: Instant,
    database_start: u64,
    /// Who wrote each message, and after how many losses.
    messages: Vec<(usize, usize)>,
    /// How often a server was killed, or lost the database.
    pub losses: usize,
    /// Servers that have had a connection of whose end the database has not learnt, and counts as one that hears: until
    /// they have another one, what is written to somebody there is lost, and nobody knows.
    pub half_open: [bool; NODES],
    /// Names that were at such a server when it was killed, until its lease is over: what is written to them is given
    /// to that connection, and nobody knows that it is lost.
    pub ghosts: Vec<(&'static str, Instant)>,
    processes: u8,
}

impl World {
    /// Servers that give names out, and nobody at them.
    pub fn new(pushes_first: bool) -> Self {
        let now = Instant::now();
        let database = ModelDatabase::new(pushes_first);
        let database_start = database.now;
        let mut world = Self {
            database,
            nodes: Vec::new(),
            users: Vec::new(),
            start: now,
            now,
            database_start,
            messages: Vec::new(),
            losses: 0,
            half_open: [false; NODES],
            ghosts: Vec::new(),
            processes: 0,
        };
        (0..NODES).for_each(|_| {
            let node = world.node();
            world.nodes.push(node);
        });
        // The first names of a new cluster are given out after some seconds.
        world.pass(5000, true);
        world.losses = 0;
        world
    }

    /// Another server.
    pub fn node(&mut self) -> Node {
        self.processes += 1;
        Node::new([b'p', b'r', b'o', b'c', 0, self.processes], self.now)
    }

    /// Somebody comes to a server and wants a name.
    pub fn come(&mut self, node: usize, name: &'static str, token: Option<&'static str>) {
        let wire = Wire::default();
        let clients = &mut self.nodes[node].clients;
        let conn = clients.next_id();
        let endpoints = Endpoints { users: true, metrics: false };
        clients.add(wire.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST), endpoints, self.now);
        let head = upgrade(&format!("{name}{}", token.map(|token| format!("&token={token}")).unwrap_or_default()));
        let (stage, got) = (Stage::Waits, Vec::new());
        let is_replaced = false;
        let user = User {
            node,
            conn,
            wire,
            name,
            token,
            stage,
            is_replaced,
            got,
            told: Vec::new(),
            calls: 0,
            call_answers: 0,
        };
        self.users.push(user);
        self.say(self.users.len() - 1, head.as_bytes());
    }

    /// A user writes to a name.
    pub fn write(&mut self, user: usize, to: &str) {
        let number = self.messages.len();
        let is_deaf = |user: &User| self.half_open[user.node] && !self.nodes[user.node].cluster.is_up();
        let is_ghost = self.ghosts.iter().any(|(name, until)| *name == to && self.now < *until)
            || self.users.iter().any(|user| user.name == to && is_deaf(user));
        self.messages.push((user, if is_ghost { UNTOLD } else { self.losses }));
        self.say(user, &text_frame(&format!(r#"{{"type":"signal:ice","target":"{to}","payload":{number}}}"#)));
    }

    /// A client's bytes come to its server.
    pub fn say(&mut self, user: usize, bytes: &[u8]) {
        let User { node, conn, wire, .. } = &self.users[user];
        wire.0.borrow_mut().sent.extend_from_slice(bytes);
        self.nodes[*node].clients.read(*conn, &mut [0; 4096], self.now);
    }

    /// A client is gone.
    pub fn end(&mut self, user: usize) {
        self.users[user].stage = Stage::Over;
        let User { node, conn, wire, .. } = &self.users[user];
        wire.0.borrow_mut().has_ended = true;
        let clients = &mut self.nodes[*node].clients;
        clients.ended(*conn);
        clients.read(*conn, &mut [0; 4096], self.now);
    }

    /// A server learns that its connection to the database is no more.
    pub fn lose(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let Some(link) = node.link.take() else { return };
        self.losses += 1;
        // Of a connection that is broken the database learns nothing: for a while it counts as one that hears.
        match std::mem::take(&mut node.is_broken) {
            true => self.half_open[number] = true,
            false => self.database.close(link),
        }
        node.cluster.lose(self.now);
        node.to_database.clear();
        node.from_database.clear();
        node.connect_at = self.now + Duration::from_millis((50 << node.failures.min(4)).min(500));
        node.failures += 1;
    }

    /// So many bytes get through, each way.
    pub fn carry(&mut self, number: usize, most: usize) {
        let node = &mut self.nodes[number];
        let Some(link) = node.link else { return };
        let count = most.min(node.to_database.len());
        let bytes: Vec<u8> = node.to_database.drain(..count).collect();
        if node.is_broken {
            return;
        }
        if !self.database.is_open(link) {
            return self.lose(number);
        }
        self.database.hear(link, &bytes);
        node.from_database.extend(self.database.say(link, most));
    }

    /// Each server has its turn, if it does not stand still.
    pub fn turns(&mut self) {
        for number in 0..NODES {
            if self.nodes[number].stopped_until > self.now {
                continue;
            }
            if !self.nodes[number].turn(&mut self.database, self.now) {
                self.lose(number);
            }
        }
        self.hear();
        self.check_holders();
    }

    /// All that is under way gets through.
    pub fn flow(&mut self) {
        for _ in 0..6 {
            (0..NODES).for_each(|node| self.carry(node, usize::MAX));
            self.turns();
        }
    }

    /// So much time goes by, in which all gets through if it `flows`.
    pub fn pass(&mut self, milliseconds: u64, flows: bool) {
        let end = self.now + Duration::from_millis(milliseconds);
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(50));
            self.database.now = self.database_start + self.now.duration_since(self.start).as_millis() as u64;
            if flows {
                self.flow();
            } else {
                self.turns();
            }
        }
    }

    /// Everybody reads what has come.
    fn hear(&mut self) {
        for number in 0..self.users.len() {
            let user = &mut self.users[number];
            let bytes = std::mem::take(&mut user.wire.0.borrow_mut().got);
            let mut rest = &bytes[..];
            let was_waiting = user.stage == Stage::Waits;
            if was_waiting && !rest.is_empty() {
                let end = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
                let is_in = rest.starts_with(b"HTTP/1.1 101");
                user.stage = if is_in { Stage::Online } else { Stage::Refused };
                rest = if is_in { &rest[end..] } else { &[] };
            }
            let mut is_closed = false;
            while let Some((opcode, payload)) = take_frame(&mut rest) {
                match opcode {
                    1 => user.take(payload, self.losses),
                    8 => is_closed = true,
                    _ => {}
                }
            }
            let (is_new, name, token) = (user.stage == Stage::Online && was_waiting, user.name, user.token);
            if is_new {
                let same = |other: &User| other.name == name && other.token == token;
                let others = self.users.iter_mut().enumerate().filter(|(other, user)| *other != number && same(user));
                others.for_each(|(_, user)| user.is_replaced = true);
            }
            let user = &self.users[number];
            if is_closed && user.stage == Stage::Online || user.stage == Stage::Refused {
                self.end(number);
            }
        }
    }

    /// A name that somebody holds with a token is nobody else's.
    fn check_holders(&self) {
        let online: Vec<&User> =
            self.users.iter().filter(|user| user.stage == Stage::Online && !user.is_replaced).collect();
        for (place, older) in online.iter().enumerate() {
            for newer in &online[place + 1..] {
                // Users stand in the order in which they came, which is not quite that in which they got their names:
                // of one without a token nothing is promised, whenever the other came.
                let is_fine = older.name != newer.name || older.token == newer.token;
                assert!(is_fine || older.token.is_none() || newer.token.is_none(), "{} has two holders", older.name);
            }
        }
    }

    /// All faults are over, and all times but those of pings pass: then all agree.
    pub fn settle(&mut self) {
        for node in &mut self.nodes {
            node.stopped_until = self.now;
        }
        self.database.is_full = false;
        self.pass(15_000, true);
        for (number, user) in self.users.iter().enumerate() {
            assert_ne!(user.stage, Stage::Waits, "user {number} waits for ever");
        }
        let mut holders = BTreeMap::new();
        for (number, user) in self.users.iter().enumerate().filter(|(_, user)| user.stage == Stage::Online) {
            assert_eq!(holders.insert(user.name, number), None, "{} has two holders in the end", user.name);
        }
        self.check_messages();
        // Each is reached from everywhere.
        for node in 0..NODES {
            let asker = ["asker0", "asker1", "asker2"][node];
            self.come(node, asker, None);
            self.pass(200, true);
            let asker = self.users.len() - 1;
            for name in NAMES {
                let (number, told) = (self.messages.len() as u64, self.users[asker].told.len());
                self.write(asker, name);
                self.pass(50, true);
                match holders.get(name) {
                    Some(holder) => assert_eq!(self.users[*holder].got.last().map(|(_, got)| *got), Some(number)),
                    None => assert_eq!(self.users[asker].told.len(), told + 1, "{name} is not online"),
                }
            }
        }
        self.check_messages();
    }

    /// What became of the messages.
    fn check_messages(&self) {
        let mut came = vec![0; self.messages.len()];
        for user in &self.users {
            let mut last = BTreeMap::new();
            for (sender, number) in &user.got {
                came[*number as usize] += 1;
                let (from, _) = self.messages[*number as usize];
                assert_eq!(self.users[from].name, sender, "from whom it is");
                let before = last.insert(from, *number);
                assert!(before.is_none_or(|before| before < *number), "in the order in which they were written");
            }
        }
        assert!(came.iter().all(|count| *count <= 1), "each at most once");
        for (number, user) in self.users.iter().enumerate().filter(|(_, user)| user.stage == Stage::Online) {
            // What is lost with a server or a connection is told of where that is known; of what was written after the
            // last loss it is always known.
            let written = |(message, (from, losses)): (usize, &(usize, usize))| {
                (*from == number && *losses == self.losses).then_some(came[message] > 0)
            };
            let written: Vec<bool> = self.messages.iter().enumerate().filter_map(written).collect();
            let arrived = written.iter().filter(|came| **came).count();
            let told = user.told.iter().filter(|losses| **losses == self.losses).count();
            assert!(arrived + told >= written.len(), "{number}: {arrived} arrived, {told} told of {}", written.len());
            assert!(user.call_answers >= user.calls || self.losses > 0, "each call has an answer");
        }
    }
}

impl User {
    fn take(&mut self, payload: &[u8], losses: usize) {
        let message: Value = serde_json::from_slice(payload).expect("JSON");
        let code = message["payload"]["code"].as_str().unwrap_or_default();
        match message["type"].as_str().unwrap() {
            "signal:ice" => {
                let sender = message["sender"].as_str().unwrap().to_owned();
                self.got.push((sender, message["payload"].as_u64().unwrap()));
            }
            "session:joined" => self.call_answers += 1,
            "error" if code == "RELAY_FAILED" => self.told.push(losses),
            "error" if code == "USER_OFFLINE" || code == "INVALID_TARGET" => self.call_answers += 1,
            _ => {}
        }
    }
}
