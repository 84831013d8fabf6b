//! The words of a cluster, in which several servers, its nodes, serve one crowd: what the hub asks of the database that
//! they share, what it is answered, and what one node has to say to another. Pure; who carries it is
//! [`cluster`](super::cluster).

use std::ops::Range;
use std::rc::Rc;

use uuid::Uuid;

use super::ids::ConnId;
use crate::protocol::MessageType;

/// One node: a random id, made anew by each start of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 6]);

/// Where a user is: a node of the cluster, and the connection there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    pub node: NodeId,
    pub conn: ConnId,
}

/// What the hub asks. [`Release`](Self::Release) and [`Tell`](Self::Tell) get no [`Answer`], several
/// [`Pass`](Self::Pass) may share one, and a claim whose answer is late gets two: that the database is away, and what
/// it said then.
#[derive(Debug, PartialEq, Eq)]
pub enum Ask {
    /// May this connection have the name? Whoever has to give way is told so.
    Claim {
        conn: ConnId,
        name: Rc<str>,
        /// What it is to be held with.
        token: Option<Rc<str>>,
    },
    /// The connection has the name no more.
    Release {
        conn: ConnId,
        name: Rc<str>,
        /// The name is free at once, and not kept for its owner.
        is_free: bool,
    },
    /// The connection has the name: it is to be known as long as this node lives.
    Mark {
        conn: ConnId,
        name: Rc<str>,
        /// What it is held with.
        token: Option<Rc<str>>,
        /// Since when, as the claim was answered.
        since: Since,
    },
    /// Look where the name is online, and send this there.
    Seek(Box<Seek>),
    /// Send this where the name was found a moment ago.
    Pass {
        to: Route,
        from: ConnId,
        target: Rc<str>,
        kind: MessageType,
        /// Where the message, which says from whom it is, stands among the texts that come with the asks of a turn.
        text: Range<usize>,
    },
    /// Tell a user of another node that a message did not reach its target.
    Tell {
        /// The sender of that message.
        to: Route,
        /// To whom it was.
        target: Rc<str>,
        reason: Undelivered,
    },
    /// Keep a session that waits for its second user.
    Create { conn: ConnId, id: Uuid, creator: Rc<str> },
    /// Give this user the second place of a session.
    Join { conn: ConnId, id: Uuid, joiner: Rc<str> },
}

/// What is to be sent to a name, wherever that is online.
#[derive(Debug, PartialEq, Eq)]
pub struct Seek {
    /// From whom: one of ours, or one of another node whose message did not find its target here any more.
    pub from: Sender,
    pub target: Rc<str>,
    /// The sender has not met the target. What a miss costs was paid in advance, and is given back unless the database
    /// says that the target is not online.
    pub is_stranger: bool,
    /// It is a `session:connect`, whose sender waits for the answer.
    pub is_call: bool,
    pub parcel: Parcel,
}

/// Who sends something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A user of this node.
    Here(ConnId),
    /// A user of another node.
    There(Route),
}

/// What goes from node to node for a user.
#[derive(Debug, PartialEq, Eq)]
pub enum Parcel {
    /// A message that is forwarded.
    Message {
        kind: MessageType,
        /// The message, which says from whom it is.
        text: Vec<u8>,
    },
    /// Word of a session that both are in.
    Joined { id: Uuid, peer: Rc<str> },
}

/// What the database calls the time of a claim: milliseconds since 1970 by its clock.
pub type Since = [u8; 6];

/// What the hub asked, answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Ask::Claim`].
    Claimed {
        conn: ConnId,
        name: Rc<str>,
        /// Whether it has it.
        verdict: Verdict,
    },
    /// To [`Ask::Mark`].
    Marked {
        conn: ConnId,
        /// Whether it still has the name. `None` where the database could not be asked, and it keeps the name.
        is_ours: Option<bool>,
    },
    /// To [`Ask::Seek`].
    Sought {
        /// What was asked; its text is gone.
        seek: Box<Seek>,
        /// Where it went.
        found: Found,
    },
    /// To several [`Ask::Pass`]: the other node has these messages.
    Passed(Vec<Passed>),
    /// To [`Ask::Pass`], where it came to nothing.
    NotPassed {
        /// What it was.
        passed: Passed,
        /// The other node does not have it. Else that is not known.
        is_certain: bool,
    },
    /// To [`Ask::Create`].
    Created {
        conn: ConnId,
        id: Uuid,
        /// It is there, or why not.
        outcome: Result<(), NotCreated>,
    },
    /// To [`Ask::Join`].
    Joined {
        conn: ConnId,
        id: Uuid,
        /// The creator's name, or why not.
        outcome: Result<String, NotJoined>,
    },
}

/// A message that goes to a node by [`Ask::Pass`]; its text is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    pub from: ConnId,
    pub target: Rc<str>,
    pub kind: MessageType,
}

/// Whether a connection may have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has it.
    Yes {
        /// Since then.
        since: Since,
        /// Somebody who is online gives way to it.
        has_replaced: bool,
    },
    /// Somebody holds it with another token.
    Taken,
    /// Nobody is known to hold it, but the database does not know all names again yet.
    Later,
    /// The database does not know it, and has no room for it.
    Full,
    /// The database could not be asked.
    Away,
}

/// Where something went that was sent to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There.
    At(Route),
    /// The name is not online.
    Nowhere,
    /// The database could not be asked.
    Away,
}

/// Why a session was not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCreated {
    /// The database has no room for it.
    Full,
    /// The database could not be asked.
    Away,
}

/// Why a session was not joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotJoined {
    /// There is no such session, or it has expired.
    NotFound,
    /// Both places are taken.
    Full,
    /// The user already has one of its places.
    AlreadyIn,
    /// The database could not be asked.
    Away,
}

/// Why a message that another node had taken did not reach its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undelivered {
    /// The target is not online.
    Offline,
    /// The target does not read.
    Unread,
}

/// What another node says.
#[derive(Debug, PartialEq, Eq)]
pub enum Dispatch<'a> {
    /// Something for a user.
    Parcel(Arrival<'a>),
    /// The name of this connection has gone to another one.
    Replaced(ConnId),
    /// A message of this connection did not reach its target.
    Undelivered {
        to: ConnId,
        /// To whom it was.
        target: &'a str,
        reason: Undelivered,
    },
}

/// Something that another node has sent for a user.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// Where the user was.
    pub to: ConnId,
    pub from: Route,
    /// The node that has sent it on, since the user was there no more; `None` where it comes straight from its sender's
    /// node.
    pub via: Option<NodeId>,
    pub target: &'a str,
    pub parcel: ParcelRef<'a>,
}

/// A [`Parcel`] as it came, which borrows from the bytes of the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParcelRef<'a> {
    /// A message that is forwarded.
    Message {
        kind: MessageType,
        /// The message, which says from whom it is.
        text: &'a str,
    },
    /// Word of a session that both are in.
    Joined { id: Uuid, peer: &'a str },
}

impl ParcelRef<'_> {
    /// The same, to be sent on.
    pub fn into_owned(self) -> Parcel {
        match self {
            Self::Message { kind, text } => Parcel::Message { kind, text: text.as_bytes().to_vec() },
            Self::Joined { id, peer } => Parcel::Joined { id, peer: peer.into() },
        }
    }
}

/// What the cluster has done and how it is, for the metrics.
#[derive(Debug, Clone, Default)]
pub struct ClusterCounts {
    /// The database can be asked.
    pub is_up: bool,
    /// Nodes whose lease holds.
    pub nodes: u64,
    /// Asks by kind and result (see [`ASKS`](Self::ASKS) and [`RESULTS`](Self::RESULTS)).
    pub asks: [[u64; Self::RESULTS.len()]; Self::ASKS.len()],
    /// The last time from an ask to its answer, in microseconds.
    pub round_trip_micros: u64,
    /// Asks that are not answered yet.
    pub unanswered: u64,
    /// How often the database was lost.
    pub losses: u64,
    /// Dispatches that came from other nodes, and of those that went to them.
    pub dispatches: [u64; 2],
    /// Dispatches that could not be understood.
    pub strange_dispatches: u64,
    /// Names that another node held when they were marked here.
    pub conflicts: u64,
    /// How long the last sweep took, in milliseconds.
    pub sweep_millis: u64,
}

impl ClusterCounts {
    /// The kinds of asks.
    pub const ASKS: [&'static str; 7] = ["claim", "release", "mark", "seek", "pass", "create", "join"];

    /// What came of an ask: it was answered; it was not; or the database had no room for what is new.
    pub const RESULTS: [&'static str; 3] = ["answered", "away", "full"];
}
