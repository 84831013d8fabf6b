//! What the hub has the loop do. Pure.

use arrayvec::ArrayVec;
use serde::Serialize;

use super::message::Forwarded;
use crate::protocol::{self, MessageType};
use crate::server::ids::ConnId;
use crate::server::nodes::Route;

/// What is to be done for one input: two things at most.
pub type Outputs<'a> = ArrayVec<Output<'a>, 2>;

/// What the loop is to do.
#[derive(Debug, PartialEq)]
pub enum Output<'a> {
    /// Send a message of the server's own.
    Send {
        /// The connection that gets it.
        to: ConnId,
        /// One envelope as JSON.
        text: String,
    },
    /// Send this message of another user. [`Hub::queued`](super::Hub::queued) or
    /// [`Hub::not_queued`](super::Hub::not_queued) is told whether there was room.
    Forward {
        /// The connection of its sender.
        from: ConnId,
        /// The connection that gets it.
        to: ConnId,
        /// What is sent, with the sender's name.
        message: Forwarded<'a>,
    },
    /// Send this message of a user of another node. `Hub::remote_not_queued` is told where there was no room.
    ForwardRemote {
        /// The connection that gets it.
        to: ConnId,
        /// What is sent, and where its sender is.
        message: RemoteMessage<'a>,
    },
    /// Let somebody in who has waited for a name.
    Admit {
        /// The connection that has the name now.
        conn: ConnId,
        /// Somebody who is online gives way to it.
        has_replaced: bool,
    },
    /// Send somebody away who has waited for a name.
    Refuse {
        /// The connection that does not get the name.
        conn: ConnId,
        /// Why it does not.
        cause: Refused,
    },
    /// Begin the close handshake.
    Close {
        /// The connection that is closed, to which nothing more is sent.
        conn: ConnId,
        /// The close code (RFC 6455, section 7.4).
        code: u16,
        /// The reason for people.
        reason: &'static str,
    },
}

/// A message of a user of another node.
#[derive(Debug, PartialEq, Eq)]
pub struct RemoteMessage<'a> {
    /// Where its sender is.
    pub from: Route,
    /// The name of the user that it is for.
    pub target: &'a str,
    /// One envelope as JSON, with the sender's name.
    pub text: &'a str,
}

/// Why somebody does not get a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Somebody else has it.
    Taken,
    /// Those who know could not be asked.
    Away,
    /// It is new, and there is no room for it anywhere.
    Full,
}

/// Nothing is to be done.
pub(super) fn no_outputs<'a>() -> Outputs<'a> {
    Outputs::new()
}

pub(super) fn only(output: Output<'_>) -> Outputs<'_> {
    let mut outputs = Outputs::new();
    outputs.push(output);
    outputs
}

pub(super) fn send(to: ConnId, kind: MessageType, payload: &impl Serialize) -> Output<'static> {
    Output::Send { to, text: protocol::message(kind, None, Some(payload)) }
}

pub(super) fn close(conn: ConnId, code: u16, reason: &'static str) -> Output<'static> {
    Output::Close { conn, code, reason }
}

/// The close code of an endpoint that goes away (RFC 6455, section 7.4.1).
pub const GOING_AWAY: u16 = 1001;

/// The close code for a client that has broken a rule of ours (RFC 6455, section 7.4.1).
pub const POLICY: u16 = 1008;

/// Why a message goes to nobody.
pub(super) const OFFLINE: &str = "the user is not online";

/// What a client is told where only the others could have helped, and where they have no room.
pub(super) const AWAY: &str = "the other servers cannot be asked right now";
pub(super) const NO_ROOM: &str = "there is no room for new sessions right now";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_message_is_handed_on_in_stays_small() {
        assert_eq!(size_of::<Output<'_>>(), 88);
    }
}
