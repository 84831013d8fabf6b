//! Sessions and their leases: who has opened one, who has joined it, and when it ends. No sockets, clock or randomness
//! in here: time and new ids come in as arguments.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::deadlines::Deadlines;

/// All sessions that have not expired.
#[derive(Debug)]
pub struct Sessions {
    sessions: HashMap<Uuid, Session>,
    /// One entry for each lease that was given. A renewed session has an older entry too, which finds it alive.
    leases: Deadlines<Uuid>,
}

/// Two places: the creator's and the joiner's.
#[derive(Debug)]
struct Session {
    creator: Box<str>,
    joiner: Option<Box<str>>,
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
    pub fn new(ttl: Duration) -> Self {
        Self { sessions: HashMap::new(), leases: Deadlines::new(ttl) }
    }

    /// Opens the session `id` with both its places taken.
    pub fn connect(&mut self, id: Uuid, creator: &str, joiner: &str, now: Instant) {
        self.insert(id, creator, Some(joiner.into()), now);
    }

    /// Opens the session `id`, which waits for a joiner.
    pub fn create(&mut self, id: Uuid, creator: &str, now: Instant) {
        self.insert(id, creator, None, now);
    }

    /// Gives `joiner` the second place of the session `id` and renews its lease. Returns the creator's username.
    ///
    /// # Errors
    /// [`JoinError`] where there is no place for `joiner`.
    pub fn join(&mut self, id: Uuid, joiner: &str, now: Instant) -> Result<String, JoinError> {
        let session = self.sessions.get_mut(&id).filter(|session| session.expires > now).ok_or(JoinError::NotFound)?;
        if session.joiner.is_some() {
            return Err(JoinError::Full);
        }
        if &*session.creator == joiner {
            return Err(JoinError::AlreadyIn);
        }
        session.joiner = Some(joiner.into());
        session.expires = self.leases.set(id, now);
        Ok(session.creator.to_string())
    }

    /// Ends the sessions whose lease is over at `now`.
    pub fn tick(&mut self, now: Instant) {
        while let Some(id) = self.leases.pop_due(now) {
            if self.sessions.get(&id).is_some_and(|session| session.expires <= now) {
                self.sessions.remove(&id);
            }
        }
        // A crowd's table is given back once most of it has gone.
        if self.sessions.capacity() > KEPT_CAPACITY && self.sessions.len() < self.sessions.capacity() / 8 {
            self.sessions.shrink_to(self.sessions.len() * 2);
        }
    }

    /// When the next lease is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.leases.next()
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn insert(&mut self, id: Uuid, creator: &str, joiner: Option<Box<str>>, now: Instant) {
        let expires = self.leases.set(id, now);
        self.sessions.insert(id, Session { creator: creator.into(), joiner, expires });
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

/// A table of up to this many places is never made smaller.
const KEPT_CAPACITY: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(600);
    const ID: Uuid = Uuid::from_u128(1);

    #[test]
    fn a_session_has_a_place_for_one_joiner() {
        let now = Instant::now();
        let mut sessions = Sessions::new(TTL);
        sessions.create(ID, "alice", now);
        assert_eq!(sessions.join(ID, "alice", now), Err(JoinError::AlreadyIn));
        assert_eq!(sessions.join(ID, "bob", now), Ok("alice".to_owned()));
        assert_eq!(sessions.join(ID, "carol", now), Err(JoinError::Full));
        assert_eq!(sessions.join(Uuid::from_u128(2), "carol", now), Err(JoinError::NotFound));
    }

    #[test]
    fn a_session_of_a_connect_is_full() {
        let now = Instant::now();
        let mut sessions = Sessions::new(TTL);
        sessions.connect(ID, "alice", "bob", now);
        assert_eq!(sessions.join(ID, "carol", now), Err(JoinError::Full));
    }

    #[test]
    fn a_session_ends_with_its_lease_and_a_join_renews_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sessions = Sessions::new(TTL);
        sessions.create(ID, "alice", at(0));
        sessions.create(Uuid::from_u128(2), "alice", at(0));
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
}
