//! Servers of a cluster in memory: all of a server but its sockets, over a database in memory.

use std::time::{Duration, Instant};

use lowkey::server::Config;
use lowkey::server::clients::Clients;
use lowkey::server::cluster::url::ClusterUrl;
use lowkey::server::cluster::{Cluster, ClusterSettings};
use lowkey::server::limits::Limits;

use crate::model_database::ModelDatabase;
use crate::wire_ends::Wire;

/// A server, with its connection to the database.
pub struct Node {
    pub clients: Clients<Wire>,
    pub cluster: Cluster,
    pub link: Option<usize>,
    /// What is sent there comes to nobody, and nothing comes back.
    pub is_broken: bool,
    pub to_database: Vec<u8>,
    pub from_database: Vec<u8>,
    pub connect_at: Instant,
    pub failures: u32,
    pub stopped_until: Instant,
}

impl Node {
    /// A server that connects in its first turn. `process` is no other's.
    pub fn new(process: [u8; 6], now: Instant) -> Self {
        let url = ClusterUrl::parse("redis://127.0.0.1").unwrap();
        let (session_ttl, reservation) = (Duration::from_secs(600), Duration::from_secs(60));
        let settings = ClusterSettings { url, secret: "secret".to_owned(), lease: LEASE, session_ttl, reservation };
        let limits = Limits { ping_interval: Duration::from_secs(3600), ..Limits::default().without_rates() };
        let config = Config { limits, cluster: Some(settings.clone()), ..Config::default() };
        Self {
            clients: Clients::new(config, 5),
            cluster: Cluster::new(settings, process, now),
            link: None,
            is_broken: false,
            to_database: Vec::new(),
            from_database: Vec::new(),
            connect_at: now,
            failures: 0,
            stopped_until: now,
        }
    }

    /// One turn of its loop; whether its connection to the database is of any use.
    pub fn turn(&mut self, database: &mut ModelDatabase, now: Instant) -> bool {
        if self.link.is_none() && self.connect_at <= now {
            self.link = Some(database.open());
            self.cluster.connect(now);
        }
        let bytes = std::mem::take(&mut self.from_database);
        let read = if bytes.is_empty() { Ok(()) } else { self.cluster.receive(&bytes, now) };
        if self.link.is_some() && read.and_then(|()| self.cluster.tick(now)).is_err() {
            return false;
        }
        if self.cluster.is_up() {
            self.failures = 0;
        }
        self.clients.tick(now);
        for _ in 0..2 {
            self.clients.exchange(&mut self.cluster, now, now);
            self.clients.flush(now);
        }
        self.to_database.extend_from_slice(self.cluster.output());
        self.cluster.sent(self.cluster.output().len());
        true
    }
}

/// How long the names of a server count as online that is heard of no more.
pub const LEASE: Duration = Duration::from_secs(3);

/// The next frame of a server: its opcode and what is in it.
pub fn take_frame<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (head, mut rest) = bytes.split_first_chunk::<2>()?;
    let mut length = usize::from(head[1]);
    if length == 126 {
        let (more, behind) = rest.split_first_chunk::<2>()?;
        (length, rest) = (u16::from_be_bytes(*more).into(), behind);
    }
    let (payload, rest) = rest.split_at(length);
    *bytes = rest;
    Some((head[0] & 15, payload))
}
