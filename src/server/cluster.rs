//! One stream to the database of a cluster, without the socket: what the hub asks goes out as commands, what comes back
//! is answers to the hub and dispatches of other nodes. Pure; `database` does the I/O. Here and there `now` is the
//! system's time, which goes on while this server is away, as a lease does: what the loop calls `real`.
//!
//! All that goes to the database goes in one stream, and so do its replies: two messages of one user stay in order
//! without anybody's help, and what another node sends on learning of a session is behind the answer that told of it.
//!
//! A name is online while its record says so and the lease of its node, in the incarnation of then, has not ended. So a
//! node renews one entry for a million names. After each loss of the stream it takes a new incarnation and marks all
//! its names in that one (the sweep); the old one is renewed until then, and ends with all that was not marked.

mod asks;
mod dispatch;
mod keys;
mod renewing;
mod replies;
mod resp;
mod scripts;
mod trouble;
pub mod url;

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::ids::ConnId;
use super::nodes::{Answer, ClusterCounts, NodeId, Passed, Seek};
use dispatch::Dispatches;
use keys::KeyedHash;
use scripts::LuaScript;
pub use trouble::DatabaseLoss;
use trouble::loss;
use url::ClusterUrl;

/// What a node has to know of its cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Where the database is.
    pub url: ClusterUrl,
    /// What makes the hashes in it.
    pub secret: String,
    /// How long the names of a node that is heard of no more are taken for online.
    pub lease: Duration,
    /// How long a session lives.
    pub session_ttl: Duration,
    /// How long a name with a token is kept for its owner.
    pub reservation: Duration,
}

impl fmt::Debug for ClusterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterSettings {{ {:?}, lease {:?} }}", self.url, self.lease)
    }
}

/// What has come of the cluster.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// An answer to the hub.
    Answer(Answer),
    /// Word of another node, to be read by [`Cluster::dispatches`].
    Bundle(Vec<u8>),
    /// The database can be asked by this node, and all names are to be marked.
    Up(NodeId),
    /// It cannot be asked any more.
    Down,
    /// All names are to be marked again.
    Sweep,
    /// These nodes are there.
    Alive(Vec<NodeId>),
}

impl Event {
    /// How much there is to do with it, as one for an answer.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Answer(Answer::Passed(passed)) => 1 + passed.len() / 16,
            Self::Bundle(bytes) => 1 + bytes.len() / 512,
            _ => 1,
        }
    }
}

/// What one node says to the database, and what it hears from it.
pub struct Cluster {
    settings: ClusterSettings,
    hash: KeyedHash,
    node: NodeId,
    incarnation: u16,
    /// The one before, while names are marked.
    previous: Option<u16>,
    state: ClusterState,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Commands without a reply, the oldest first.
    pending: VecDeque<Pending>,
    /// How many of them, at the front, the hub has been answered already, because the database was late.
    overdue: usize,
    /// Those of a stream that was lost, which the hub has still to be answered.
    lost: VecDeque<Pending>,
    /// Messages for the nodes of this turn.
    bundles: Vec<Bundle>,
    /// The memory of one that is gone, for the next.
    spare: Vec<u8>,
    events: VecDeque<Event>,
    sweep: Option<Sweep>,
    next_sweep: Instant,
    heard: Instant,
    /// The nodes that the database knew when it was asked last.
    alive: Vec<NodeId>,
    /// Nodes that have not come back since the database lost its data, and until when names of theirs may be held.
    awaited: Vec<(NodeId, Instant)>,
    /// When the database last had no room for something new.
    full: Option<Instant>,
    /// When the lease was last renewed.
    renewed: Instant,
    /// Until when the lease lasts that the database has confirmed last.
    leased_until: Instant,
    /// The database did not know a lease that should have lasted: it has lost its data, and names of other nodes have
    /// still to be waited for.
    has_forgotten: bool,
    renew_at: Instant,
    counts: ClusterCounts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClusterState {
    Down,
    Greeting,
    Up,
}

/// Names are being marked.
struct Sweep {
    began: Instant,
    /// The database may not know all names that are held: nobody takes an unknown one for the time being.
    is_after_loss: bool,
    /// The hub has given all its marks.
    has_all: bool,
    in_flight: usize,
}

struct Pending {
    what: What,
    asked: Instant,
}

/// What a reply is to.
enum What {
    /// A part of the greeting whose reply says nothing, unless it is an error.
    Greeting,
    LuaScript(LuaScript),
    Check,
    Subscribe,
    Renew,
    Ping,
    Claim {
        conn: ConnId,
        name: Rc<str>,
    },
    Release,
    Mark(ConnId),
    Seek(Box<Seek>),
    Bundle(Vec<Passed>),
    Create {
        conn: ConnId,
        id: Uuid,
    },
    Join {
        conn: ConnId,
        id: Uuid,
    },
}

/// All that goes to one node in a turn: one message of the database, which is much cheaper than one for each.
struct Bundle {
    to: NodeId,
    bytes: Vec<u8>,
    passed: Vec<Passed>,
}

impl Cluster {
    /// A node that has not reached its database yet. `node` is random.
    pub fn new(settings: ClusterSettings, node: [u8; 6], now: Instant) -> Self {
        Self {
            hash: KeyedHash::new(&settings.secret),
            settings,
            node: NodeId(node),
            incarnation: 0,
            previous: None,
            state: ClusterState::Down,
            input: Vec::new(),
            output: Vec::new(),
            pending: VecDeque::new(),
            overdue: 0,
            lost: VecDeque::new(),
            bundles: Vec::new(),
            spare: Vec::new(),
            events: VecDeque::new(),
            sweep: None,
            next_sweep: now,
            heard: now,
            alive: Vec::new(),
            awaited: Vec::new(),
            full: None,
            renewed: now,
            leased_until: now,
            has_forgotten: false,
            renew_at: now,
            counts: ClusterCounts::default(),
        }
    }

    /// How it is, and what was done.
    pub fn counts(&self) -> ClusterCounts {
        ClusterCounts {
            is_up: self.state == ClusterState::Up,
            unanswered: self.pending.len() as u64,
            ..self.counts.clone()
        }
    }

    /// Whether the database can be asked.
    pub fn is_up(&self) -> bool {
        self.state == ClusterState::Up
    }

    /// Whether the database had no room for a name or a session within the last minute.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full.is_some_and(|full| now < full + FULL_TIME)
    }

    /// There is a stream to the database: greets it.
    pub fn connect(&mut self, now: Instant) {
        self.state = ClusterState::Greeting;
        (self.heard, self.renewed) = (now, now);
        if self.incarnation > 0 {
            self.previous = Some(self.incarnation);
        }
        self.incarnation = self.incarnation.wrapping_add(1).max(1);
        let name = format!("lowkey-{}", data_encoding::HEXLOWER.encode(&self.node.0));
        let ClusterUrl { user, password, number, .. } = self.settings.url.clone();
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &password {
            hello.extend([b"AUTH", user.as_deref().unwrap_or("default").as_bytes(), password.as_bytes()]);
        }
        hello.extend([b"SETNAME", name.as_bytes()]);
        self.command(What::Greeting, &hello, now);
        if number > 0 {
            self.command(What::Greeting, &[b"SELECT", number.to_string().as_bytes()], now);
        }
        for script in LuaScript::ALL {
            self.command(What::LuaScript(script), &[b"SCRIPT", b"LOAD", script.text().as_bytes()], now);
        }
        let (ttl, kept) = (self.settings.session_ttl.as_millis(), self.settings.reservation.as_millis());
        let check = self.hash.check(&format!("1 {ttl} {kept}"));
        self.command(What::Greeting, &[b"SET", keys::CHECK, &check, b"NX"], now);
        self.command(What::Check, &[b"GET", keys::CHECK], now);
        let channel = keys::channel(self.node);
        self.command(What::Subscribe, &[b"SUBSCRIBE", &channel], now);
        // What every ask will need is tried once, so that a right that is missing is told at the start.
        self.command(What::Greeting, &[b"PUBLISH", &channel, b""], now);
        self.command(What::Greeting, &[b"DEL", &channel], now);
        self.command(What::Greeting, &[b"PING"], now);
        // Who has just begun holds no name that others would have to wait for.
        self.renew(now, if self.previous.is_some() { GRACE } else { Duration::ZERO });
    }

    /// The stream has ended, or is of no use: what was asked is answered, and nothing of it is sent again.
    pub fn lose(&mut self, now: Instant) {
        let was_up = std::mem::replace(&mut self.state, ClusterState::Down) == ClusterState::Up;
        self.counts.losses += u64::from(was_up);
        self.input = Vec::new();
        self.output = Vec::new();
        self.sweep = None;
        for bundle in std::mem::take(&mut self.bundles) {
            self.not_passed(bundle.passed, false);
        }
        // There may be so many that they are answered one by one, as the hub takes what has come.
        self.pending.drain(..std::mem::take(&mut self.overdue));
        self.lost.append(&mut self.pending);
        if was_up {
            self.events.push_back(Event::Down);
        }
        self.heard = now;
    }

    /// The bytes that wait to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// So many of them were sent.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count);
    }

    /// What has come of it.
    pub fn next_event(&mut self) -> Option<Event> {
        while self.events.is_empty() {
            match self.lost.pop_front()?.what {
                // It is marked again, in another sweep.
                What::Mark(_) => {}
                what => self.give_up(what),
            }
        }
        self.events.pop_front()
    }

    /// Whether something has come of it that was not taken yet.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.lost.is_empty()
    }

    /// What stands in a bundle.
    pub fn dispatches<'a>(&'a mut self, bundle: &'a [u8]) -> Dispatches<'a> {
        Dispatches::new(bundle, &mut self.counts)
    }

    /// Does what is due at `now`.
    ///
    /// # Errors
    /// [`DatabaseLoss`] where the database is silent for too long.
    pub fn tick(&mut self, now: Instant) -> Result<(), DatabaseLoss> {
        if self.state == ClusterState::Down {
            return Ok(());
        }
        if now.saturating_duration_since(self.heard) >= SILENCE {
            return Err(loss(format!("it has been silent for {} s", SILENCE.as_secs())));
        }
        for _ in 0..OVERDUE_PER_TURN {
            if self.pending.get(self.overdue).is_none_or(|pending| now < pending.asked + ASK_TIME) {
                break;
            }
            let given_up = match &mut self.pending[self.overdue].what {
                // Whoever is told that a claim came to nothing may have the name all the same: the hub gives it back.
                What::Claim { conn, name } => Some(What::Claim { conn: *conn, name: name.clone() }),
                // It stays what it is, since a database without room for it is not lost.
                What::Create { conn, id } => Some(What::Create { conn: *conn, id: *id }),
                What::Greeting | What::LuaScript(_) | What::Check | What::Subscribe | What::Renew | What::Ping => None,
                what => Some(std::mem::replace(what, What::Release)),
            };
            self.overdue += 1;
            if let Some(what) = given_up {
                self.give_up(what);
            }
        }
        if self.state == ClusterState::Up {
            if self.renew_at <= now {
                self.renew_in_turn(now);
            }
            if self.next_sweep <= now && self.sweep.is_none() {
                self.sweep_again(now);
            }
            if self.pending.is_empty() && self.heard + IDLE <= now {
                self.command(What::Ping, &[b"PING"], now);
            }
        }
        Ok(())
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let silent = self.heard + SILENCE;
        match self.state {
            ClusterState::Down => None,
            ClusterState::Greeting => Some(silent),
            ClusterState::Up => {
                let idle = if self.pending.is_empty() { self.heard + IDLE } else { silent };
                let ask = self.pending.get(self.overdue).map_or(silent, |pending| pending.asked + ASK_TIME);
                let sweep = if self.sweep.is_none() { self.next_sweep } else { silent };
                Some(idle.min(ask).min(self.renew_at).min(sweep))
            }
        }
    }
}

/// How long an ask may take. Whoever waits for it is told then that the database cannot be asked.
pub(crate) const ASK_TIME: Duration = Duration::from_secs(2);

/// The database is asked for a sign of life when nothing was heard for this long.
const IDLE: Duration = Duration::from_secs(1);

/// A database that says nothing for this long is lost: it may be stopped while the system keeps its connections open.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);

/// For this long after a node is back nobody takes a name that the database does not know: it may be held by somebody
/// whose node has not told of it yet. All nodes are back within this time, even those that learn by its silence alone
/// that the database was another for a moment (`database` has a test of that).
pub const GRACE: Duration = Duration::from_millis(4500);

/// For how long a database counts as full that had no room.
const FULL_TIME: Duration = Duration::from_secs(60);

/// When the record of a name that nobody marks is thrown away.
const NAME_TTL: Duration = Duration::from_secs(2 * 3600);

/// Asks that one turn answers for a database that does not, at some microseconds each.
const OVERDUE_PER_TURN: usize = 256;

/// What may wait for the database, in bytes and in asks. Beyond, it counts as away.
const MAX_OUTPUT: usize = 8 * 1024 * 1024;
const MAX_PENDING: usize = 65_536;

/// What the database may have begun to say and not finished.
const MAX_INPUT: usize = 8 * 1024 * 1024;

/// A bundle that is as long as this goes out at once.
const BUNDLE_BYTES: usize = 64 * 1024;
