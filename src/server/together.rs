//! The way of one server to the others with which it is a cluster, where there are any: the database that they share,
//! in the server's loop. `real` goes on while this server is away, as a lease in the database does; `now` stands still
//! then.

use std::io;
#[cfg(feature = "cluster")]
use std::io::ErrorKind;
#[cfg(feature = "cluster")]
use std::sync::Arc;
use std::time::Instant;

#[cfg(feature = "cluster")]
use mio::Waker;
use mio::net::TcpStream;
use mio::{Registry, Token};

use super::clients::Clients;
use super::config::Config;
#[cfg(feature = "cluster")]
use super::database::Database;
#[cfg(feature = "cluster")]
use crate::trouble;

/// The way to the other servers, where there are any.
#[cfg(feature = "cluster")]
pub struct Together(Option<Database>);

#[cfg(feature = "cluster")]
impl Together {
    /// The way that `config` names. Events of the database come with `database`, and `looked_up` wakes the loop when
    /// its name was looked up.
    ///
    /// # Errors
    /// The system is out of descriptors.
    pub fn new(config: &Config, registry: &Registry, database: Token, looked_up: Token) -> io::Result<Self> {
        let Some(settings) = config.cluster.clone() else { return Ok(Self(None)) };
        let waker = Arc::new(Waker::new(registry, looked_up)?);
        Ok(Self(Some(Database::new(settings, database, waker, Instant::now()))))
    }

    /// The system says that the stream to the database can be read or written, or is at its end.
    pub fn ready(&mut self, has_ended: bool) {
        if let Some(database) = &mut self.0 {
            database.ready(has_ended);
        }
    }

    /// When there is something to do, by the clock of `now`.
    pub fn next_deadline(&self, real: Instant, now: Instant) -> Option<Instant> {
        let database = self.0.as_ref()?;
        if database.has_unread() {
            return Some(now);
        }
        Some(now + database.next_deadline()?.saturating_duration_since(real))
    }

    /// Carries questions of the clients to the database, and what comes of it to them.
    ///
    /// # Errors
    /// The database refuses this server, which has never reached it; for people.
    pub fn exchange(
        &mut self,
        clients: &mut Clients<TcpStream>,
        registry: &Registry,
        real: Instant,
        now: Instant,
    ) -> io::Result<()> {
        let Some(database) = &mut self.0 else { return Ok(()) };
        database.tick(registry, real);
        if let Some(refusal) = database.refusal() {
            return Err(trouble::ours(ErrorKind::PermissionDenied, refusal));
        }
        clients.exchange(&mut database.cluster, real, now);
        database.write(real);
        Ok(())
    }

    /// Tells the database that this server ends.
    pub fn leave(&mut self, real: Instant) {
        if let Some(database) = &mut self.0 {
            database.leave(real);
        }
    }
}

/// A server that is never one of several.
#[cfg(not(feature = "cluster"))]
pub struct Together;

#[cfg(not(feature = "cluster"))]
impl Together {
    /// No way to anybody.
    pub fn new(_: &Config, _: &Registry, _: Token, _: Token) -> io::Result<Self> {
        Ok(Self)
    }

    /// Never called for: there is no database.
    pub fn ready(&mut self, _: bool) {}

    /// Never.
    pub fn next_deadline(&self, _: Instant, _: Instant) -> Option<Instant> {
        None
    }

    /// Nothing.
    pub fn exchange(&mut self, _: &mut Clients<TcpStream>, _: &Registry, _: Instant, _: Instant) -> io::Result<()> {
        Ok(())
    }

    /// Nobody is told.
    pub fn leave(&mut self, _: Instant) {}
}
