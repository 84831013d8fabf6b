//! All clients with their streams: what comes in goes through the connection to the hub, what the hub says goes into
//! the connections' outputs, and the end of a turn writes it. Timers are in `timers`, who is let in in `admission`, and
//! how a client ends in `closing`.
//!
//! Which streams these are is the loop's matter, and time comes in as an argument: so a million clients can be tried
//! without a socket.

mod admission;
mod closing;
#[cfg(feature = "cluster")]
mod nodes;
mod timers;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::ErrorKind;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::access::AccessToken;
use super::addresses::{Addresses, Caps, Role};
use super::backlog::Backlog;
pub use super::client::ClientStream;
use super::client::{Client, ClientInput, ClientOrigin, End, NAME_TAKEN};
use super::config::Config;
use super::connection::{Buffers, Event};
use super::deadlines::Deadlines;
use super::http;
use super::hub::{ByConn, ConnId, Hub, Output, Refused};
use super::metrics::Metrics;
use super::turn_servers::TurnServers;

/// Everybody who is connected.
pub struct Clients<S> {
    config: Config,
    hub: Hub,
    clients: ByConn<Client<S>>,
    /// How many of them are at their end.
    ending: usize,
    addresses: Addresses,
    /// The latest of the clients for whom there is no room. They may still send a request head, so that somebody who
    /// only asks for `/health` gets an answer.
    reserve: VecDeque<ConnId>,
    backlog: Backlog,
    /// When the server was last back after a long absence.
    back: Option<Instant>,
    next_id: usize,
    heads: Deadlines<ConnId>,
    pings: Deadlines<ConnId>,
    /// Clients that will have been silent for too long before their next ping is due, unless they say something.
    silent: BinaryHeap<Reverse<(Instant, ConnId)>>,
    ends: Deadlines<ConnId>,
    /// Clients whose stream had more than a turn's share.
    unread: Vec<ConnId>,
    /// Clients whom this turn has to look at once more before it ends. Each stands here once.
    touched: Vec<ConnId>,
    /// Clients whose stream took less than there was, for the first time.
    blocked: Vec<ConnId>,
    spare: Buffers,
    metrics: Metrics,
    /// It was logged that a trusted address sends no `X-Forwarded-For`, which is logged once.
    has_warned_of_proxy: bool,
    /// The other servers could be asked once.
    #[cfg(feature = "cluster")]
    was_in_cluster: bool,
}

impl<S: ClientStream> Clients<S> {
    /// Nobody yet. Ids begin at `first_id`.
    pub fn new(config: Config, first_id: usize) -> Self {
        let limits = &config.limits;
        let hub = Hub::new(config.session_ttl, limits.clone(), Uuid::new_v4)
            .with_turn_servers(config.turn_servers.clone(), unix_time);
        #[cfg(feature = "cluster")]
        let hub = if config.cluster.is_some() { hub.in_cluster() } else { hub };
        let caps = Caps { address: limits.clients_per_address, network: limits.clients_per_network };
        Self {
            hub,
            clients: ByConn::default(),
            ending: 0,
            addresses: Addresses::new(caps, limits.arrivals),
            reserve: VecDeque::new(),
            backlog: Backlog::new(limits.held_bytes, limits.pace),
            back: None,
            next_id: first_id,
            heads: Deadlines::new(limits.head_time),
            pings: Deadlines::new(limits.ping_interval),
            silent: BinaryHeap::new(),
            ends: Deadlines::new(limits.close_time),
            unread: Vec::new(),
            touched: Vec::new(),
            blocked: Vec::new(),
            spare: Buffers::default(),
            metrics: Metrics::default(),
            has_warned_of_proxy: false,
            #[cfg(feature = "cluster")]
            was_in_cluster: false,
            config,
        }
    }

    /// The id that the next client will have.
    pub fn next_id(&self) -> ConnId {
        ConnId(self.next_id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Who is online, and with whom.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What was done, to be added to.
    pub fn metrics(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    /// Gives each stream to `watch` that took less than there was, once in its life: from then on the loop has to say
    /// when it can take bytes again.
    pub(crate) fn for_each_blocked(&mut self, mut watch: impl FnMut(ConnId, &mut S)) {
        for id in self.blocked.drain(..) {
            if let Some(client) = self.clients.get_mut(&id) {
                watch(id, &mut client.stream);
            }
        }
    }

    /// The client's stream can take bytes again.
    pub(crate) fn writable(&mut self, id: ConnId) {
        if self.clients.get(&id).is_some_and(|client| !client.connection.output().is_empty()) {
            self.touch(id);
        }
    }

    /// The client's side of the stream is at its end, or broken.
    pub fn ended(&mut self, id: ConnId) {
        if let Some(client) = self.clients.get_mut(&id).filter(|client| client.input == ClientInput::Open) {
            client.input = ClientInput::Ended;
        }
    }

    /// Whether somebody's stream had more to read than a turn's share.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Reads once more from those who had more than a turn's share.
    pub fn read_more(&mut self, buffer: &mut [u8], now: Instant) {
        let mut unread = std::mem::take(&mut self.unread);
        unread.sort_unstable();
        unread.dedup();
        for id in unread {
            self.read(id, buffer, now);
        }
    }

    /// Reads a client's share of this turn, which is one buffer, and serves what it says. A client whose stream has
    /// ended is read to that end.
    pub fn read(&mut self, id: ConnId, buffer: &mut [u8], now: Instant) {
        loop {
            let Some(client) = self.clients.get_mut(&id).filter(|client| client.input != ClientInput::ReadToEnd) else {
                return;
            };
            match client.stream.read(buffer) {
                Ok(0) => {
                    client.input = ClientInput::ReadToEnd;
                    client.connection.end();
                    return self.touch(id);
                }
                Ok(length) => {
                    let has_ended = client.input == ClientInput::Ended;
                    client.heard = now;
                    if client.is_held {
                        self.backlog.received(id, length);
                    }
                    self.metrics.bytes_in += length as u64;
                    let outputs = self.hub.receive_bytes(id, length, now);
                    self.carry_out(&outputs, now);
                    self.serve(id, &mut buffer[..length], now);
                    if length == buffer.len() {
                        return self.unread.push(id);
                    }
                    // Less than was asked for: the socket is empty, and more to come gives another event (epoll(7)).
                    if !has_ended {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.drop(id, error, now),
            }
        }
    }

    /// Writes what the turn has queued, once for each client, and carries ends on.
    pub fn flush(&mut self, now: Instant) {
        let mut touched = std::mem::take(&mut self.touched);
        while !touched.is_empty() {
            for id in touched.drain(..) {
                self.flush_client(id, now);
            }
            // Only what was touched holds more than before.
            while let Some(id) = self.backlog.excess() {
                self.expel(id, "the furthest behind of all", now);
            }
            // Whoever was cut just now has a close frame to be sent.
            std::mem::swap(&mut touched, &mut self.touched);
        }
        // The list's memory serves the next turn.
        self.touched = touched;
    }

    /// Everybody who is here. It takes a moment where there are many.
    pub fn ids(&mut self) -> Vec<ConnId> {
        self.clients.iter_mut().map(|(id, _)| *id).collect()
    }

    /// Whether somebody has not left yet.
    pub fn is_here(&self, id: ConnId) -> bool {
        self.clients.get(&id).is_some()
    }

    /// Whether somebody's request head has not come yet.
    pub(crate) fn is_awaiting_head(&self, id: ConnId) -> bool {
        self.clients.get(&id).is_some_and(|client| client.connection.is_awaiting_head())
    }

    /// Tells whoever asks from now on to come again after so many seconds.
    pub fn drain(&mut self, retry_after: u64) {
        self.config.access.retry_after = Some(retry_after);
    }

    /// Takes what who comes in has to know from now on. Nobody is cut.
    pub(crate) fn renew_access(&mut self, tokens: Vec<AccessToken>) {
        self.config.access.tokens = tokens;
    }

    /// Takes the STUN and TURN servers that users are told of from now on.
    pub(crate) fn renew_turn_servers(&mut self, turn_servers: Option<TurnServers>) {
        self.hub.set_turn_servers(turn_servers, unix_time);
    }

    fn touch(&mut self, id: ConnId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.touch(id, &mut self.touched);
        }
    }

    /// Serves bytes of a client.
    fn serve(&mut self, id: ConnId, mut bytes: &mut [u8], now: Instant) {
        loop {
            let Some(client) = self.clients.get_mut(&id) else { return };
            match client.connection.receive(&mut bytes, &self.config.limits, &self.config.access) {
                None => {
                    // It may have an answer, or have come to its end, without an event, or hold another amount than
                    // before.
                    let is_held = client.is_held || client.connection.unfinished() > 0;
                    if is_held || client.connection.is_closing() || !client.connection.output().is_empty() {
                        client.touch(id, &mut self.touched);
                    }
                    return;
                }
                // Of one that was cut, only the answer to our close frame counts, and the connection takes that by
                // itself.
                Some(_) if client.is_cut => {}
                Some(Event::Text(text)) => {
                    let outputs = self.hub.receive(id, &text, now);
                    self.carry_out(&outputs, now);
                }
                Some(Event::Fragment) => self.hub.receive_fragment(id, now),
                Some(Event::Binary) => {
                    let outputs = self.hub.receive_binary(id, now);
                    self.carry_out(&outputs, now);
                }
                Some(Event::Control) => {
                    let outputs = self.hub.receive_control(id, now);
                    self.carry_out(&outputs, now);
                }
                Some(Event::Upgrade(request)) => {
                    let mut rest = self.open(id, &request, now);
                    return self.serve(id, &mut rest, now);
                }
                Some(Event::Metrics) => {
                    let text = self.metrics.render(&self.hub, self.clients.len());
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.connection.respond(http::metrics(&text));
                    }
                }
            }
        }
    }

    fn carry_out(&mut self, outputs: &[Output<'_>], now: Instant) {
        for output in outputs {
            match output {
                Output::Send { to, text } => {
                    self.send(*to, |output| output.extend_from_slice(text.as_bytes()));
                }
                Output::Forward { from, to, message } => {
                    if self.send(*to, |output| message.write(output)) {
                        self.hub.queued(message);
                    } else {
                        let outputs = self.hub.not_queued(*from, *to, now);
                        self.carry_out(&outputs, now);
                    }
                }
                Output::ForwardRemote { to, message } => {
                    if !self.send(*to, |output| output.extend_from_slice(message.text.as_bytes())) {
                        self.hub.remote_not_queued(message);
                    }
                }
                Output::Admit { conn, has_replaced } => {
                    let mut rest = self.admit(*conn, *has_replaced, now);
                    self.serve(*conn, &mut rest, now);
                }
                Output::Refuse { conn, cause } => {
                    let response = match cause {
                        Refused::Taken => http::refusal("409 Conflict", NAME_TAKEN),
                        Refused::Away => http::come_again(AWAY),
                        Refused::Full => http::no_room(FULL),
                    };
                    self.send_away(*conn, response);
                }
                Output::Close { conn, code, reason } => self.close(*conn, *code, reason),
            }
        }
    }

    /// Queues a message, and returns whether there is room for it. A client that is too far behind is cut.
    fn send(&mut self, to: ConnId, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(client) = self.clients.get_mut(&to).filter(|client| !client.connection.is_closing()) else {
            return false;
        };
        client.touch(to, &mut self.touched);
        client.connection.send(&mut self.spare, write);
        let limit = self.config.limits.unsent_bytes;
        if client.connection.output().len() <= limit {
            return true;
        }
        // It may only be this turn that has so much to say: what counts is what its socket does not take.
        let written = client.write(&mut self.spare, &mut self.metrics);
        if written.is_err() || client.connection.output().len() > limit {
            self.cut(to, BEHIND);
            return false;
        }
        client.has_taken |= written.is_ok_and(|count| count > 0);
        true
    }

    fn flush_client(&mut self, id: ConnId, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.is_touched = false;
        let written = match client.write(&mut self.spare, &mut self.metrics) {
            Ok(written) => written,
            Err(error) => return self.drop(id, error, now),
        };
        let (unfinished, unsent) = (client.connection.unfinished(), client.connection.unsent());
        if client.is_held || unfinished + unsent > 0 {
            client.is_held = true;
            if written > 0 || client.has_taken {
                self.backlog.taken(id, now);
            }
            // What waits here waits because the system's own buffer is full.
            let in_system = if unsent > 0 { SYSTEM_BYTES } else { 0 };
            self.backlog.set(id, with_gaps(unfinished), with_gaps(unsent) + in_system, now);
        }
        client.has_taken = false;
        if !client.connection.output().is_empty() && !client.was_blocked {
            client.was_blocked = true;
            self.blocked.push(id);
        }
        if !client.connection.is_closing() {
            // Pongs wait there too, and nobody else looks at them.
            if client.connection.output().len() > self.config.limits.unsent_bytes {
                self.cut(id, BEHIND);
            }
            return;
        }
        if client.end == End::No {
            client.end = End::Begun;
            // A probe leaves nothing behind.
            if let ClientOrigin::Counted(_, Role::Newcomer) = client.origin {
                client.count_out(&mut self.addresses, now);
            }
            self.ending += 1;
            self.hub.disconnect(id, client.departure(), now);
            self.ends.set(id, now);
        }
        if client.connection.is_finished() {
            if client.input == ClientInput::ReadToEnd {
                return self.drop(id, "end of stream", now);
            }
            if self.ending > MAX_ENDING {
                return self.drop(id, "too many are at their end", now);
            }
            if client.end == End::Begun {
                client.end = End::Shut;
                client.stream.shut();
            }
        }
    }
}

/// What so many bytes take of the memory: pieces of many sizes that come and go leave gaps, a fifth of all when it
/// was measured.
fn with_gaps(bytes: usize) -> usize {
    bytes + bytes / 4
}

/// The time of day as seconds since 1970. A clock that stands before that is not set, and no credentials of its work.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default()
}

/// Clients whose last bytes are sent and whose end is awaited, at once. Beyond these they are not waited for.
const MAX_ENDING: usize = 1024;

/// Why a client gets no name for the moment.
const AWAY: &str = "the other servers cannot be asked right now; try again";

/// Why a client does not get a name that is new.
const FULL: &str = "there is no room for new names right now; try again later";

/// Why a client is cut that does not read.
const BEHIND: &str = "too far behind in reading";

/// What the system holds of a client that does not read: the send buffer that its socket is given, which Linux
/// doubles for what it needs itself.
pub(crate) const SEND_BUFFER_BYTES: usize = 16 * 1024;
const SYSTEM_BYTES: usize = 2 * SEND_BUFFER_BYTES;
