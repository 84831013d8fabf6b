//! How clients end. Each way begins here or in `admission`, and all of them come to `drop`.
//!
//! | call | of whom | what is sent first |
//! |---|---|---|
//! | `dismiss` | everybody, when the server stops | a close frame with 1001; nothing before the request head has come |
//! | `cut` | who goes beyond a bound | a close frame with 1008 |
//! | `close` | who is replaced, or errs too often | a close frame with the code that is given |
//! | `expel` | who makes the server hold too much | a close frame with 1008 whose answer is not awaited, or a reset |
//! | `turn_away` | who cannot come online, and is counted | an HTTP status |
//! | `send_away` | who does not get its name | an HTTP response |
//! | `drop` | all of them | nothing: the stream is closed |

use std::fmt::Display;
use std::time::Instant;

use log::debug;

use super::{ClientStream, Clients, with_gaps};
use crate::server::client::End;
use crate::server::hub::{GOING_AWAY, POLICY};
use crate::server::ids::ConnId;

impl<S: ClientStream> Clients<S> {
    /// Begins the end of a client because of the server's own. One whose request head has not come has nothing to
    /// lose, and is not waited for.
    pub(crate) fn dismiss(&mut self, id: ConnId, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.connection.is_awaiting_head() {
            return self.drop(id, "the server stops", now);
        }
        client.connection.close(GOING_AWAY, "server is shutting down", &self.config.limits);
        client.touch(id, &mut self.touched);
    }

    /// Begins the end of a client that has gone beyond a bound.
    pub(super) fn cut(&mut self, id: ConnId, cause: &'static str) {
        self.close(id, POLICY, cause);
    }

    /// Ends a client at once to free what the server holds for it. One that does not read gets a reset in place of a
    /// close frame, which it would not read either.
    pub(super) fn expel(&mut self, id: ConnId, cause: &'static str, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return self.backlog.remove(id) };
        if client.connection.unsent() > 0 || client.connection.is_closing() {
            client.stream.reset();
            self.metrics.cut(cause);
            return self.drop(id, cause, now);
        }
        if client.connection.is_awaiting_head() {
            self.turn_away(id, "503 Service Unavailable", "the server has no room for this", cause);
        } else if !client.is_cut {
            debug!("{}: closed with {POLICY} ({cause})", id.0);
            client.is_cut = true;
            client.connection.expel(POLICY, cause, &self.config.limits);
            client.touch(id, &mut self.touched);
            self.metrics.cut(cause);
        }
        if let Some(client) = self.clients.get(&id) {
            self.backlog.set(id, with_gaps(client.connection.unfinished()), 0, now);
        }
    }

    /// Begins the end of a client with this close code, unless it has begun for another cause.
    pub(super) fn close(&mut self, id: ConnId, code: u16, cause: &'static str) {
        if let Some(client) = self.clients.get_mut(&id).filter(|client| !client.is_cut) {
            debug!("{}: closed with {code} ({cause})", id.0);
            client.connection.close(code, cause, &self.config.limits);
            client.is_cut = true;
            client.touch(id, &mut self.touched);
            self.metrics.cut(cause);
        }
    }

    /// Ends the life of a client: every other way comes to this. Closing the stream takes it out of the poll, too.
    pub(super) fn drop(&mut self, id: ConnId, cause: impl Display, now: Instant) {
        let Some(mut client) = self.clients.remove(&id) else { return };
        debug!("{}: gone ({cause})", id.0);
        self.hub.disconnect(id, client.departure(), now);
        if client.end != End::No {
            self.ending -= 1;
        }
        if client.is_held {
            self.backlog.remove(id);
        }
        client.count_out(&mut self.addresses, now);
    }
}
