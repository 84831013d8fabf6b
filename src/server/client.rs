//! One client with its stream: where it comes from, how far its life has come, and what of it is looked at in this
//! turn.

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::time::Instant;

use super::addresses::{Addresses, NotAdmitted, Role};
use super::connection::{Buffers, Connection};
use super::http::Endpoints;
use super::hub::{ConnId, Departure};
use super::metrics::Metrics;

/// The stream of a client: a TCP stream, or memory in tests.
pub trait ClientStream: Read + Write {
    /// Ends our side of the stream. What the client sends can still be read.
    fn shut(&mut self);

    /// Has the stream broken off once it is closed, and what it still holds for the client thrown away.
    fn reset(&mut self);
}

/// Somebody who is connected.
pub(super) struct Client<S> {
    pub(super) stream: S,
    pub(super) origin: ClientOrigin,
    pub(super) connection: Connection,
    pub(super) heard: Instant,
    pub(super) end: End,
    pub(super) input: ClientInput,
    /// It was closed for what it did: nothing more of it is served.
    pub(super) is_cut: bool,
    pub(super) is_touched: bool,
    /// The backlog has an entry of it.
    pub(super) is_held: bool,
    /// It has taken bytes in this turn already.
    pub(super) has_taken: bool,
    /// Its stream once took less than there was. From then on the loop watches when it can be written to.
    pub(super) was_blocked: bool,
}

/// Where a client comes from, and as what it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientOrigin {
    /// It is from here and not counted: it comes by a proxy at this address that has not said for whom, or there is no
    /// room for it.
    Uncounted(IpAddr),
    /// It is counted as one from here.
    Counted(IpAddr, Role),
    /// It was counted out.
    Gone,
}

/// How far the end of a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Not begun.
    No,
    /// The hub has been told, the deadline is set, and last bytes may go out.
    Begun,
    /// Our side of the stream is shut; the client's end of stream is awaited, since closing with unread bytes would
    /// reset the connection, and the client might never see our last bytes.
    Shut,
}

/// How far the client's side of the stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientInput {
    /// There may be more.
    Open,
    /// The system has said that it is at its end, which it says only once: what is there is read to that end.
    Ended,
    /// All of it was read. The client may still receive.
    ReadToEnd,
}

/// Why a client cannot come online.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotOnline {
    ServerFull,
    Crowded(NotAdmitted),
}

impl NotOnline {
    /// The HTTP status, the reason for people, and the cause for the metrics.
    pub(super) fn answer(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ServerFull => ("503 Service Unavailable", "the server is full", "server full"),
            Self::Crowded(NotAdmitted::TooMany) => {
                (TOO_MANY_REQUESTS, "too many connections from this address", "address full")
            }
            Self::Crowded(NotAdmitted::NetworkFull) => {
                (TOO_MANY_REQUESTS, "too many connections from this network", "network full")
            }
            Self::Crowded(NotAdmitted::TooFast) => {
                let reason = "too many new connections from this address; try again in a minute";
                (TOO_MANY_REQUESTS, reason, "address too fast")
            }
        }
    }
}

impl<S: ClientStream> Client<S> {
    /// A client that has just come.
    pub(super) fn new(stream: S, origin: ClientOrigin, endpoints: Endpoints, now: Instant) -> Self {
        Self {
            stream,
            origin,
            connection: Connection::new(endpoints),
            heard: now,
            end: End::No,
            input: ClientInput::Open,
            is_cut: false,
            is_touched: false,
            is_held: false,
            has_taken: false,
            was_blocked: false,
        }
    }

    pub(super) fn touch(&mut self, id: ConnId, touched: &mut Vec<ConnId>) {
        if !self.is_touched {
            self.is_touched = true;
            touched.push(id);
        }
    }

    /// Counts it out of those from its address.
    pub(super) fn count_out(&mut self, addresses: &mut Addresses, now: Instant) {
        if let ClientOrigin::Counted(address, role) = std::mem::replace(&mut self.origin, ClientOrigin::Gone) {
            addresses.leave(address, role, now);
        }
    }

    /// Writes as much as the stream takes, and returns how much that was.
    pub(super) fn write(&mut self, spare: &mut Buffers, metrics: &mut Metrics) -> io::Result<usize> {
        let mut written = 0;
        while !self.connection.output().is_empty() {
            match self.stream.write(self.connection.output()) {
                Ok(length) => {
                    self.connection.sent(length, spare);
                    metrics.bytes_out += length as u64;
                    written += length;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    pub(super) fn departure(&self) -> Departure {
        if self.connection.has_left() { Departure::Left } else { Departure::Lost }
    }
}

const TOO_MANY_REQUESTS: &str = "429 Too Many Requests";

/// Why a client does not get its name.
pub(super) const NAME_TAKEN: &str = "the name is taken";
