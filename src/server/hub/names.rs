//! Who holds which name, and for whom one is kept whose connection was lost. Pure.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use crate::server::deadlines::Deadlines;
use crate::server::ids::ConnId;
use crate::server::table::Table;

/// All names that are held.
#[derive(Debug)]
pub(super) struct HeldNames {
    names: Table<Rc<str>, Holder>,
    /// Those that are kept for a time after their connection was lost.
    kept: Deadlines<Rc<str>>,
    most_kept: usize,
}

/// The name belongs to somebody who has proven by a token that it is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameTaken;

/// How a connection ends, as far as its name is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The client has said good-bye: its name is free at once.
    Left,
    /// It was lost or cut: a name with a token is kept for its owner.
    Lost,
}

/// Who has a name.
struct Holder {
    /// The token that was given for it, which only its owner knows.
    token: Option<Box<[u8]>>,
    at: At,
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.at)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Online(ConnId),
    /// Nobody until this time, when the name is free again.
    KeptUntil(Instant),
}

impl HeldNames {
    /// None yet. A name with a token is kept for `reservation` after its connection was lost, and so are `most_kept`
    /// at once.
    pub(super) fn new(reservation: Duration, most_kept: usize) -> Self {
        Self { names: Table::default(), kept: Deadlines::new(reservation), most_kept }
    }

    /// Gives `name` to `conn`, and returns the connection that held it until now. A name with a token goes to the
    /// same token only.
    ///
    /// # Errors
    /// [`NameTaken`]; nothing has changed then.
    pub(super) fn take(
        &mut self,
        name: &Rc<str>,
        conn: ConnId,
        token: Option<&str>,
        now: Instant,
    ) -> Result<Option<ConnId>, NameTaken> {
        let mut replaced = None;
        if let Some(holder) = self.names.get(&**name) {
            let is_kept = match holder.at {
                At::Online(_) => true,
                At::KeptUntil(end) => end > now,
            };
            let is_theirs = match &holder.token {
                Some(held) => token.is_some_and(|token| bool::from(held.ct_eq(token.as_bytes()))),
                None => true,
            };
            if is_kept && !is_theirs {
                return Err(NameTaken);
            }
            if let At::Online(conn) = holder.at {
                replaced = Some(conn);
            }
        }
        let holder = Holder { token: token.map(|token| token.as_bytes().into()), at: At::Online(conn) };
        self.names.insert(name.clone(), holder);
        Ok(replaced)
    }

    /// Gives `name` to `conn` whoever holds it, and returns the connection that held it until now: others have decided.
    pub(super) fn give(&mut self, name: &Rc<str>, conn: ConnId) -> Option<ConnId> {
        let replaced = self.online_at(name);
        self.names.insert(name.clone(), Holder { token: None, at: At::Online(conn) });
        replaced
    }

    /// Frees a name at once.
    pub(super) fn remove(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Takes a name from whoever holds it: its connection has ended.
    pub(super) fn leave(&mut self, name: Rc<str>, departure: Departure, now: Instant) {
        match self.names.get_mut(&*name) {
            Some(holder) if holder.token.is_some() && departure == Departure::Lost => {
                holder.at = At::KeptUntil(self.kept.set(name, now));
                if self.kept.len() > self.most_kept
                    && let Some((due, oldest)) = self.kept.pop()
                {
                    self.free(&oldest, due);
                }
            }
            _ => {
                self.names.remove(&*name);
            }
        }
    }

    /// Where the user of this name is online.
    pub(super) fn online_at(&self, name: &str) -> Option<ConnId> {
        match self.names.get(name)?.at {
            At::Online(conn) => Some(conn),
            At::KeptUntil(_) => None,
        }
    }

    /// Frees the names that are kept no longer, as many as one turn has time for.
    pub(super) fn tick(&mut self, now: Instant) {
        for _ in 0..NAMES_PER_TICK {
            let Some(name) = self.kept.pop_due(now) else { break };
            self.free(&name, now);
        }
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.kept.next()
    }

    /// How many there are, online or kept.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Ends a reservation that lasts until `end` at most. The owner may be back, and lost again, in the meantime.
    fn free(&mut self, name: &str, end: Instant) {
        if self.names.get(name).is_some_and(|holder| matches!(holder.at, At::KeptUntil(kept) if kept <= end)) {
            self.names.remove(name);
        }
    }
}

/// Names that one tick sets free.
const NAMES_PER_TICK: usize = 400;

#[cfg(test)]
mod tests {
    use super::super::output::only;
    use super::super::tests::{ALICE, CAROL, hub, hub_with};
    use super::super::{Output, Outputs};
    use super::*;
    use crate::server::limits::Limits;

    const TOKEN: Option<&str> = Some("a secret of dave's");
    const DAVE: ConnId = ConnId(4);
    const ROBBER: ConnId = ConnId(5);

    #[test]
    fn a_name_with_a_token_goes_to_the_same_token_only() {
        let mut hub = hub();
        let now = Instant::now();
        assert_eq!(hub.connect(DAVE, "dave", TOKEN, now), Ok(Outputs::new()));
        for token in [None, Some(""), Some("a secret of dave'S"), Some("a secret of dave's ")] {
            assert_eq!(hub.connect(ROBBER, "dave", token, now), Err(NameTaken));
        }
        assert_eq!(hub.online(), 3);
        let replaced = Output::Close { conn: DAVE, code: 1001, reason: "replaced by new connection" };
        assert_eq!(hub.connect(CAROL, "dave", TOKEN, now), Ok(only(replaced)));
        hub.disconnect(DAVE, Departure::Lost, now);
        assert_eq!(hub.connect(ROBBER, "dave", None, now), Err(NameTaken), "the end of the older frees nothing");
    }

    #[test]
    fn a_lost_name_is_kept_for_a_minute_and_one_that_was_left_is_not() {
        let mut hub = hub();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        hub.connect(DAVE, "dave", TOKEN, at(0)).unwrap();
        hub.disconnect(DAVE, Departure::Lost, at(0));
        let call = r#"{"type":"session:connect","target":"dave"}"#;
        let [Output::Send { text, .. }] = &hub.receive(ALICE, call, at(1))[..] else { panic!() };
        assert!(text.contains("USER_OFFLINE"), "a name that is kept is not online");
        assert_eq!(hub.connect(ROBBER, "dave", None, at(59)), Err(NameTaken));
        assert_eq!(hub.connect(CAROL, "dave", TOKEN, at(59)), Ok(Outputs::new()), "back in time");
        hub.tick(at(60));
        assert_eq!(hub.connect(ROBBER, "dave", None, at(60)), Err(NameTaken), "the old reservation ends nothing");
        hub.disconnect(CAROL, Departure::Lost, at(70));
        assert_eq!(hub.next_deadline(), Some(at(130)));
        assert_eq!(hub.connect(ROBBER, "dave", None, at(130)), Ok(Outputs::new()), "even before the tick");
        hub.disconnect(ROBBER, Departure::Lost, at(131));
        hub.tick(at(200));
        assert_eq!(hub.names(), 2);
        hub.connect(DAVE, "dave", TOKEN, at(200)).unwrap();
        hub.disconnect(DAVE, Departure::Left, at(200));
        assert_eq!(hub.connect(ROBBER, "dave", None, at(200)), Ok(Outputs::new()));
    }

    #[test]
    fn only_so_many_names_are_kept_and_the_oldest_goes_first() {
        let mut hub = hub_with(Limits { reservations: 2, ..Limits::default() });
        let now = Instant::now();
        for (number, name) in ["one", "two", "three"].iter().enumerate() {
            let conn = ConnId(10 + number);
            hub.connect(conn, name, TOKEN, now).unwrap();
            hub.disconnect(conn, Departure::Lost, now + Duration::from_secs(number as u64));
        }
        let mut is_free = |name| hub.connect(ROBBER, name, None, now + Duration::from_secs(3)).is_ok();
        assert_eq!([is_free("one"), is_free("two"), is_free("three")], [true, false, false]);
    }
}
