//! Why the database cannot be asked, for people. Pure.

use crate::escape::quoted;

/// The stream to the database is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseLoss {
    /// Why, for people.
    pub reason: String,
    /// The database wants nothing of this node: it is not only away.
    pub is_refusal: bool,
}

pub(super) fn loss(reason: impl Into<String>) -> DatabaseLoss {
    DatabaseLoss { reason: reason.into(), is_refusal: false }
}

/// What an error of the database means. It may name a user, a command or a key of the database, and none of ours in
/// clear.
pub(super) fn refusal(error: &str) -> DatabaseLoss {
    let code = error.split(' ').next().unwrap_or_default();
    let lacks_right = code == "NOPERM"
        || ["ACL failure in script", "user executing the script"].iter().any(|way| error.contains(way));
    let is_refusal =
        lacks_right || matches!(code, "WRONGPASS" | "NOAUTH" | "NOPROTO") || error.contains("unknown command");
    let reason = match code {
        "WRONGPASS" | "NOAUTH" => "it wants another user name or password than CLUSTER_URL has".to_owned(),
        _ if lacks_right => {
            format!("its ACL lacks a right that this server needs ({}); lowkey-database.conf has all", quoted(error))
        }
        "NOPROTO" => "it is older than Redis 6".to_owned(),
        "LOADING" => "it is starting".to_owned(),
        "READONLY" => "it is a replica, which takes no names".to_owned(),
        "OOM" => "its memory is full".to_owned(),
        _ if is_refusal => format!("it is older than Redis 6, or lacks a command ({})", quoted(error)),
        _ => format!("it says {}", quoted(error)),
    };
    DatabaseLoss { reason, is_refusal }
}
