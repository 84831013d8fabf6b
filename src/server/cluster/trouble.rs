//! Why the database cannot be asked, for people. Pure.

/// The connection to the database is of no use any more.
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

/// What an error of the database means.
pub(super) fn refusal(error: &str) -> DatabaseLoss {
    let code = error.split(' ').next().unwrap_or_default();
    let lacks_right = code == "NOPERM"
        || ["ACL failure in script", "user executing the script"].iter().any(|way| error.contains(way));
    let is_refusal =
        lacks_right || matches!(code, "WRONGPASS" | "NOAUTH" | "NOPROTO") || error.contains("unknown command");
    let reason = match code {
        "WRONGPASS" | "NOAUTH" => "it wants another user name or password than CLUSTER_URL has".to_owned(),
        _ if lacks_right => {
            format!("its ACL lacks a right that this server needs ({}); lowkey-database.conf has all", harmless(error))
        }
        "NOPROTO" => "it is older than Redis 6".to_owned(),
        "LOADING" => "it is starting".to_owned(),
        "READONLY" => "it is a replica, which takes no names".to_owned(),
        "OOM" => "its memory is full".to_owned(),
        _ if is_refusal => format!("it is older than Redis 6, or lacks a command ({})", harmless(error)),
        _ => format!("it says {}", harmless(error)),
    };
    DatabaseLoss { reason, is_refusal }
}

/// An error of the database as a log can hold it. It may name a user, a command or a key of the database, and none of
/// ours in clear.
fn harmless(error: &str) -> String {
    error.chars().filter(|character| !character.is_control()).take(MAX_ERROR_CHARS).collect()
}

const MAX_ERROR_CHARS: usize = 160;
