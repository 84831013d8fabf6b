//! The loop of a server that is one of several: it reads from the database that they share, and writes to it.

use std::io;
#[cfg(feature = "cluster")]
use std::io::ErrorKind;
use std::time::Instant;

use super::Server;
#[cfg(feature = "cluster")]
use crate::trouble;

/// The other servers, where there are any. The database has its own time: a lease goes on while this server is away.
#[cfg(feature = "cluster")]
impl Server {
    pub(super) fn database_is_ready(&mut self, has_ended: bool) {
        if let Some(database) = &mut self.database {
            database.ready(has_ended);
        }
    }

    /// When there is something to do, by the clock of `now`.
    pub(super) fn database_deadline(&self, real: Instant, now: Instant) -> Option<Instant> {
        let database = self.database.as_ref()?;
        if database.has_unread() {
            return Some(now);
        }
        Some(now + database.next_deadline()?.saturating_duration_since(real))
    }

    /// Carries questions to the database, and what comes of it to the clients.
    pub(super) fn exchange(&mut self, real: Instant, now: Instant) -> io::Result<()> {
        let Some(database) = &mut self.database else { return Ok(()) };
        database.tick(self.poll.registry(), real);
        if let Some(refusal) = database.refusal() {
            return Err(trouble::ours(ErrorKind::PermissionDenied, refusal));
        }
        self.clients.exchange(&mut database.cluster, real, now);
        database.write(real);
        Ok(())
    }

    pub(super) fn leave_cluster(&mut self, real: Instant) {
        if let Some(database) = &mut self.database {
            database.leave(real);
        }
    }
}

#[cfg(not(feature = "cluster"))]
impl Server {
    pub(super) fn database_is_ready(&mut self, _: bool) {}

    pub(super) fn database_deadline(&self, _: Instant, _: Instant) -> Option<Instant> {
        None
    }

    pub(super) fn exchange(&mut self, _: Instant, _: Instant) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn leave_cluster(&mut self, _: Instant) {}
}
