//! Sessions: who has opened one, who has joined it, and when it expires. No sockets, clock or randomness in here: time
//! and new ids come in as arguments.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::deadlines::Deadlines;
use super::table::Table;

/// All sessions that have not expired.
#[derive(Debug)]
pub struct Sessions {
    sessions: Table<Uuid, Session>,
    /// How many of them each name has begun.
    begun: Table<Rc<str>, usize>,
    limits: Bounds,
    /// When sessions expire. One that was renewed has an older entry, too, which finds it alive.
    ends: Deadlines<Uuid>,
}

/// How many sessions may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub in_all: usize,
    /// Begun by one name.
    pub per_name: usize,
}

/// There is no room for another session of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// Two places: the creator's and the joiner's.
#[derive(Debug)]
struct Session {
    creator: Rc<str>,
    is_full: bool,
    expires: Instant,
}

/// Why a session cannot be joined. Its `Display` is the wire's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinError {
    /// There is no such session, or it has expired.
    NotFound,
    /// Both places are taken.
    Full,
    /// The user already has one of its places.
    AlreadyIn,
}

impl Sessions {
    /// No sessions yet; each will live `ttl` from its creation or its last join.
    pub fn new(ttl: Duration, limits: Bounds) -> Self {
        Self { sessions: Table::default(), begun: Table::default(), limits, ends: Deadlines::new(ttl) }
    }

    /// Opens the session `id` with both its places taken.
    ///
    /// # Errors
    /// [`NoRoom`] where there are too many.
    pub fn connect(&mut self, id: Uuid, creator: &Rc<str>, now: Instant) -> Result<(), NoRoom> {
        self.insert(id, creator, true, now)
    }

    /// Opens the session `id`, which waits for a joiner.
    ///
    /// # Errors
    /// [`NoRoom`] where there are too many.
    pub fn create(&mut self, id: Uuid, creator: &Rc<str>, now: Instant) -> Result<(), NoRoom> {
        self.insert(id, creator, false, now)
    }

    /// Gives `joiner` the second place of the session `id` and renews its time. Returns the creator's username.
    ///
    /// # Errors
    /// [`JoinError`] where there is no place for `joiner`.
    pub fn join(&mut self, id: Uuid, joiner: &str, now: Instant) -> Result<String, JoinError> {
        let session = self.sessions.get_mut(&id).filter(|session| session.expires > now).ok_or(JoinError::NotFound)?;
        if session.is_full {
            return Err(JoinError::Full);
        }
        if &*session.creator == joiner {
            return Err(JoinError::AlreadyIn);
        }
        session.is_full = true;
        session.expires = self.ends.set(id, now);
        Ok(session.creator.to_string())
    }

    /// Ends a session that did not come about.
    pub fn cancel(&mut self, id: Uuid) {
        if let Some(session) = self.sessions.get(&id) {
            self.end(id, session.expires);
        }
    }

    /// Ends sessions whose time is over at `now`, as many as one turn has time for. While there are more,
    /// [`next_deadline`](Self::next_deadline) is in the past.
    pub fn tick(&mut self, now: Instant) {
        for _ in 0..ENDS_PER_TICK {
            let Some(id) = self.ends.pop_due(now) else { return };
            self.end(id, now);
        }
    }

    /// When the next session may expire.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.ends.next()
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Ends a session if its time is over at `end`.
    fn end(&mut self, id: Uuid, end: Instant) {
        if self.sessions.get(&id).is_some_and(|session| session.expires <= end)
            && let Some(session) = self.sessions.remove(&id)
            && let Some(begun) = self.begun.get_mut(&session.creator)
        {
            *begun -= 1;
            if *begun == 0 {
                self.begun.remove(&session.creator);
            }
        }
    }

    fn insert(&mut self, id: Uuid, creator: &Rc<str>, is_full: bool, now: Instant) -> Result<(), NoRoom> {
        if self.begun.get(creator).is_some_and(|begun| *begun >= self.limits.per_name) {
            return Err(NoRoom);
        }
        while self.sessions.len() >= self.limits.in_all {
            // Whoever fills the table must not keep others out of it. A renewed session has a later entry, too.
            let Some((due, oldest)) = self.ends.pop() else { break };
            self.end(oldest, due);
        }
        let begun = self.begun.get(creator).copied().unwrap_or_default();
        self.begun.insert(creator.clone(), begun + 1);
        let expires = self.ends.set(id, now);
        self.sessions.insert(id, Session { creator: creator.clone(), is_full, expires });
        Ok(())
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "session not found",
            Self::Full => "session is full",
            Self::AlreadyIn => "user already in session",
        })
    }
}

/// Sessions that one tick ends: less than a millisecond of work.
const ENDS_PER_TICK: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(600);
    const ID: Uuid = Uuid::from_u128(1);
    const LIMITS: Bounds = Bounds { in_all: 3, per_name: 2 };

    #[test]
    fn a_session_has_a_place_for_one_joiner() {
        let now = Instant::now();
        let mut sessions = Sessions::new(TTL, LIMITS);
        sessions.create(ID, &"alice".into(), now).unwrap();
        assert_eq!(sessions.join(ID, "alice", now), Err(JoinError::AlreadyIn));
        assert_eq!(sessions.join(ID, "bob", now), Ok("alice".to_owned()));
        assert_eq!(sessions.join(ID, "carol", now), Err(JoinError::Full));
        assert_eq!(sessions.join(Uuid::from_u128(2), "carol", now), Err(JoinError::NotFound));
    }

    #[test]
    fn a_session_of_a_connect_is_full() {
        let now = Instant::now();
        let mut sessions = Sessions::new(TTL, LIMITS);
        sessions.connect(ID, &"alice".into(), now).unwrap();
        assert_eq!(sessions.join(ID, "carol", now), Err(JoinError::Full));
    }

    #[test]
    fn a_session_ends_with_its_time_and_a_join_renews_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sessions = Sessions::new(TTL, LIMITS);
        sessions.create(ID, &"alice".into(), at(0)).unwrap();
        sessions.create(Uuid::from_u128(2), &"alice".into(), at(0)).unwrap();
        sessions.join(ID, "bob", at(500)).unwrap();
        assert_eq!(sessions.next_deadline(), Some(at(600)));
        assert_eq!(sessions.join(Uuid::from_u128(2), "bob", at(600)), Err(JoinError::NotFound), "before any tick");
        sessions.tick(at(600));
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions.next_deadline(), Some(at(1100)));
        sessions.tick(at(1099));
        assert_eq!(sessions.len(), 1);
        sessions.tick(at(1100));
        assert!(sessions.is_empty());
        assert_eq!(sessions.next_deadline(), None);
    }

    #[test]
    fn there_are_only_so_many_in_all_and_of_one_name() {
        let now = Instant::now();
        let mut sessions = Sessions::new(TTL, LIMITS);
        let mut create = |number, name: &str| sessions.create(Uuid::from_u128(number), &name.into(), now);
        assert_eq!([create(1, "alice"), create(2, "alice"), create(3, "alice")], [Ok(()), Ok(()), Err(NoRoom)]);
        assert_eq!([create(4, "bob"), create(5, "bob")], [Ok(()), Ok(())], "the oldest makes room");
        assert_eq!(sessions.join(Uuid::from_u128(1), "carol", now), Err(JoinError::NotFound));
        assert_eq!(sessions.join(Uuid::from_u128(2), "carol", now), Ok("alice".to_owned()));
        assert_eq!(sessions.len(), 3);
        sessions.tick(now + TTL);
        assert_eq!(sessions.begun.len(), 0);
        assert_eq!(sessions.create(ID, &"alice".into(), now + TTL), Ok(()));
    }
}
