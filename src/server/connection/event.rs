//! What a client did. Pure.

use std::borrow::Cow;

use crate::server::http::UpgradeRequest;

/// What a client did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// It wants to come online. [`Connection::accept`](super::Connection::accept) or `Connection::refuse` answers it.
    Upgrade(Box<UpgradeRequest>),
    /// It wants to read the metrics. `Connection::respond` answers it.
    Metrics,
    /// It sent a text message.
    Text(Cow<'a, str>),
    /// It sent a binary message.
    Binary,
    /// It sent a fragment of a message that goes on.
    Fragment,
    /// It sent a ping, which is answered already, or a pong.
    Control,
}
