//! All clients with their streams: what comes in goes through the connection to the hub, what the hub says goes into the
//! connections' outputs, and the end of a turn writes it. Here are the timers, too, and the one door out.
//!
//! Which streams these are is the loop's matter, and time comes in as an argument: so a million clients can be tried
//! without a socket.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, info};
use uuid::Uuid;

use super::address::{self, Caps, Crowd, Refusal, Role};
use super::backlog::{Backlog, Finding};
use super::config::Config;
use super::connection::{Buffers, Connection, Event};
use super::deadlines::Deadlines;
use super::http::{self, AccessToken, Caller, Door};
use super::hub::{ByConn, ConnId, Departure, GOING_AWAY, Hub, Output, POLICY};
use super::metrics::Metrics;
use super::relays::Relays;

/// What a client is reached by.
pub trait Stream: Read + Write {
    /// Ends our side of the stream. What the client sends can still be read.
    fn shut(&mut self);

    /// Has the stream broken off once it is closed, and what it still holds for the client thrown away.
    fn reset(&mut self);
}

/// Everybody who is connected.
pub struct Clients<S> {
    config: Config,
    hub: Hub,
    clients: ByConn<Client<S>>,
    /// How many of them are at their end.
    ending: usize,
    crowd: Crowd,
    /// Clients that came beyond what may be, the latest of them, which get an answer all the same if they only probe.
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
    /// It was said that a trusted proxy, or somebody beside it, does not tell whom it stands for. Once is enough.
    has_told_of_silence: bool,
}

struct Client<S> {
    stream: S,
    origin: Origin,
    connection: Connection,
    heard: Instant,
    end: End,
    /// The system has said that the client's side of the stream is at its end, which it says only once.
    has_ended: bool,
    /// All of that was read. The client may still read, too.
    is_read_to_end: bool,
    /// It was closed for what it did: nothing more of it is served.
    is_cut: bool,
    is_touched: bool,
    /// The backlog has an entry of it.
    is_held: bool,
    /// It has taken bytes in this turn already.
    has_taken: bool,
    /// Its stream once took less than there was, and the loop was told.
    was_blocked: bool,
}

/// Where a client comes from, and as what it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The TCP connection is from here: a proxy, or somebody beyond what may be.
    Uncounted(IpAddr),
    /// It is counted in the crowd as one from here.
    Counted(IpAddr, Role),
    /// It was counted out.
    Gone,
}

/// Why a client cannot come online.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum No {
    ServerFull,
    Crowded(Refusal),
}

impl No {
    /// The HTTP status, the reason for people, and the cause for the metrics.
    fn answer(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ServerFull => ("503 Service Unavailable", "the server is full", "server full"),
            Self::Crowded(Refusal::TooMany) => {
                (TOO_MANY_REQUESTS, "too many connections from this address", "address full")
            }
            Self::Crowded(Refusal::NetworkFull) => {
                (TOO_MANY_REQUESTS, "too many connections from this network", "network full")
            }
            Self::Crowded(Refusal::TooFast) => {
                let reason = "too many new connections from this address; try again in a minute";
                (TOO_MANY_REQUESTS, reason, "address too fast")
            }
        }
    }
}

/// How far the end of a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not begun.
    No,
    /// The hub has been told, the deadline is set, and last bytes may go out.
    Begun,
    /// Our side of the stream is shut; the client's end of stream is awaited, since closing with unread bytes would
    /// reset the connection, and the client might never see our last bytes.
    Shut,
}

impl<S: Stream> Clients<S> {
    /// Nobody yet. Ids begin at `first_id`.
    pub fn new(config: Config, first_id: usize) -> Self {
        let limits = &config.limits;
        let caps = Caps { address: limits.clients_per_address, network: limits.clients_per_network };
        Self {
            hub: Hub::new(config.session_ttl, limits.clone(), Uuid::new_v4)
                .with_relays(config.relays.clone(), unix_time),
            clients: ByConn::default(),
            ending: 0,
            crowd: Crowd::new(caps, limits.arrivals),
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
            has_told_of_silence: false,
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

    /// Takes in a client that comes from `peer` by a door.
    pub fn welcome(&mut self, stream: S, peer: IpAddr, door: Door, now: Instant) {
        let id = self.next_id();
        self.next_id += 1;
        self.metrics.accepted += 1;
        debug!("{}: accepted", id.0);
        let is_full = self.clients.len() - self.ending >= self.config.limits.clients;
        let is_counted = !is_full && !self.config.proxies.contains(peer);
        let is_crowded = is_counted && self.crowd.enter(peer, Role::Caller, now).is_err();
        let is_in_reserve = is_full || is_crowded;
        let origin =
            if is_counted && !is_crowded { Origin::Counted(peer, Role::Caller) } else { Origin::Uncounted(peer) };
        let client = Client {
            stream,
            origin,
            connection: Connection::new(door),
            heard: now,
            end: End::No,
            has_ended: false,
            is_read_to_end: false,
            is_cut: false,
            is_touched: false,
            is_held: false,
            has_taken: false,
            was_blocked: false,
        };
        self.clients.insert(id, client);
        self.heads.set(id, now);
        if is_in_reserve {
            self.take_in_reserve(id);
        }
    }

    /// Lets a client wait that came beyond what may be, in the place of the one who has done so for the longest. A probe sends
    /// its head at once, so it is answered before as many others have come.
    fn take_in_reserve(&mut self, id: ConnId) {
        self.reserve.push_back(id);
        if self.reserve.len() <= RESERVE {
            return;
        }
        if let Some(oldest) = self.reserve.pop_front()
            && self.clients.get(&oldest).is_some_and(|client| client.connection.is_awaiting_head())
        {
            self.refuse(oldest, if self.is_full() { No::ServerFull } else { No::Crowded(Refusal::TooMany) });
        }
    }

    /// Whether there are more clients than may be, those aside who are at their end.
    fn is_full(&self) -> bool {
        self.clients.len() - self.ending > self.config.limits.clients
    }

    /// The streams that took less than there was, each once and for all: from then on the loop has to say when one can take
    /// bytes again.
    pub fn for_each_blocked(&mut self, mut watch: impl FnMut(ConnId, &mut S)) {
        for id in self.blocked.drain(..) {
            if let Some(client) = self.clients.get_mut(&id) {
                watch(id, &mut client.stream);
            }
        }
    }

    /// The client's stream can take bytes again.
    pub fn writable(&mut self, id: ConnId) {
        if self.clients.get(&id).is_some_and(|client| !client.connection.output().is_empty()) {
            self.touch(id);
        }
    }

    /// The client's side of the stream is at its end, or broken.
    pub fn ended(&mut self, id: ConnId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.has_ended = true;
        }
    }

    /// Whether somebody's stream had more to read than a turn's share.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Reads once more from those who had more than a turn's share.
    pub fn go_on(&mut self, buffer: &mut [u8], now: Instant) {
        let mut unread = std::mem::take(&mut self.unread);
        unread.sort_unstable();
        unread.dedup();
        for id in unread {
            self.read(id, buffer, now);
        }
    }

    /// Reads a client's share of this turn, which is one buffer, and serves what it says. A client whose stream has ended is
    /// read to that end.
    pub fn read(&mut self, id: ConnId, buffer: &mut [u8], now: Instant) {
        loop {
            let Some(client) = self.clients.get_mut(&id).filter(|client| !client.is_read_to_end) else { return };
            match client.stream.read(buffer) {
                Ok(0) => {
                    client.is_read_to_end = true;
                    client.connection.end();
                    return self.touch(id);
                }
                Ok(length) => {
                    let has_ended = client.has_ended;
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

    /// Does what is due at `now`, as much as one turn has time for. While there is more,
    /// [`next_deadline`](Self::next_deadline) is in the past.
    pub fn tick(&mut self, now: Instant) {
        self.hub.tick(now);
        self.crowd.tick(now);
        for _ in 0..TIMERS_PER_TURN {
            let Some(id) = self.heads.pop_due(now) else { break };
            if self.clients.get(&id).is_some_and(|client| client.connection.is_awaiting_head()) {
                self.turn_away(id, "408 Request Timeout", "the request took too long", "slow head");
            }
        }
        for _ in 0..TIMERS_PER_TURN {
            let Some(id) = self.pings.pop_due(now) else { break };
            self.ping(id, now);
        }
        for _ in 0..TIMERS_PER_TURN {
            let Some(Reverse((due, id))) = self.silent.peek().copied().filter(|Reverse((due, _))| *due <= now) else {
                break;
            };
            self.silent.pop();
            if self.clients.get(&id).is_some_and(|client| self.silent_at(client) <= due) {
                self.cut(id, "no sign of life");
            }
        }
        for _ in 0..TIMERS_PER_TURN {
            match self.backlog.look(now) {
                Some((id, Some(Finding::Slow))) => self.expel(id, "a message takes too long", now),
                Some((id, Some(Finding::Deaf))) => self.cut(id, "takes nothing"),
                Some((id, Some(Finding::Done))) => {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.is_held = false;
                    }
                }
                Some((_, None)) => {}
                None => break,
            }
        }
        for _ in 0..TIMERS_PER_TURN {
            let Some(id) = self.ends.pop_due(now) else { break };
            if let Some(client) = self.clients.get_mut(&id).filter(|client| !client.connection.output().is_empty()) {
                client.stream.reset();
            }
            self.drop(id, "the end took too long", now);
        }
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let silent = self.silent.peek().map(|Reverse((due, _))| *due);
        let pure = [self.hub.next_deadline(), self.crowd.next_deadline()];
        let timers = [self.heads.next(), self.pings.next(), self.ends.next(), silent, self.backlog.next_deadline()];
        timers.into_iter().chain(pure).flatten().min()
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
    pub fn is_awaiting_head(&self, id: ConnId) -> bool {
        self.clients.get(&id).is_some_and(|client| client.connection.is_awaiting_head())
    }

    /// Begins the end of a client because of the server's own. One whose request head has not come has nothing to lose, and
    /// is not waited for.
    pub fn dismiss(&mut self, id: ConnId, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.connection.is_awaiting_head() {
            return self.drop(id, "the server stops", now);
        }
        client.connection.close(GOING_AWAY, "server is shutting down", &self.config.limits);
        client.touch(id, &mut self.touched);
    }

    /// Tells whoever asks from now on to come again after so many seconds.
    pub fn drain(&mut self, retry_after: u64) {
        self.config.access.retry_after = Some(retry_after);
    }

    /// Takes what may change while the server runs: who may come in, and the secret of the TURN server. Nobody is cut.
    pub fn renew(&mut self, tokens: Vec<AccessToken>, relays: Option<Relays>) {
        self.config.access.tokens = tokens;
        self.hub.set_relays(relays, unix_time);
    }

    /// The server is back after it was away for so long, in which nobody could be heard.
    pub fn come_back(&mut self, away: Duration, now: Instant) {
        if away >= self.config.limits.ping_interval {
            self.back = Some(now);
        }
    }

    /// When a client will have been silent for too long. After a long absence of the server each has the time anew: its pong
    /// may have been lost on the way, and comes when it is sent again.
    fn silent_at(&self, client: &Client<S>) -> Instant {
        self.back.map_or(client.heard, |back| back.max(client.heard)) + self.config.limits.silence
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
                    // It may have an answer, or have come to its end, without an event, or hold another amount than before.
                    let is_held = client.is_held || client.connection.unfinished() > 0;
                    if is_held || client.connection.is_closing() || !client.connection.output().is_empty() {
                        client.touch(id, &mut self.touched);
                    }
                    return;
                }
                // Of one that was cut, only the answer to our close frame counts, and the connection takes that by itself.
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
                Some(Event::Knock(caller)) => {
                    let mut rest = self.open(id, &caller, now);
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

    /// Lets a client in that has knocked, if there is room for it and the name is free; returns what it has sent already.
    fn open(&mut self, id: ConnId, caller: &Caller, now: Instant) -> Vec<u8> {
        if let Err(no) = self.count(id, caller, now) {
            self.refuse(id, no);
            return Vec::new();
        }
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.connection.is_closing()) else {
            return Vec::new();
        };
        match self.hub.connect(id, &caller.username, caller.token.as_deref(), now) {
            Ok(outputs) => {
                debug!("{}: online", id.0);
                let rest = client.connection.accept();
                self.pings.set(id, now);
                if let Origin::Uncounted(address) | Origin::Counted(address, _) = client.origin {
                    self.hub.locate(id, address::place(address));
                }
                self.carry_out(&outputs, now);
                rest
            }
            Err(_) => {
                client.connection.refuse("409 Conflict", "the name is taken");
                Vec::new()
            }
        }
    }

    /// Counts a client as a user, if there is room for one.
    fn count(&mut self, id: ConnId, caller: &Caller, now: Instant) -> Result<(), No> {
        if self.is_full() {
            return Err(No::ServerFull);
        }
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        let (Origin::Uncounted(peer) | Origin::Counted(peer, _)) = client.origin else { return Ok(()) };
        let is_silent = caller.forwarded_for.is_empty() && caller.real_ip.is_none();
        let is_trusted = self.config.proxies.contains(peer);
        if is_silent && is_trusted && !std::mem::replace(&mut self.has_told_of_silence, true) {
            info!(
                "somebody came from a trusted address without X-Forwarded-For: a program there, or perhaps a proxy that hides addresses"
            );
        }
        let address = self.config.proxies.client_behind(peer, &caller.forwarded_for, caller.real_ip);
        self.crowd.enter(address, Role::User, now).map_err(No::Crowded)?;
        client.count_out(&mut self.crowd, now);
        client.origin = Origin::Counted(address, Role::User);
        Ok(())
    }

    /// Tells a client why it cannot come online.
    fn refuse(&mut self, id: ConnId, no: No) {
        let (status, reason, cause) = no.answer();
        self.turn_away(id, status, reason, cause);
    }

    fn turn_away(&mut self, id: ConnId, status: &'static str, reason: &str, cause: &'static str) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.connection.refuse(status, reason);
            client.touch(id, &mut self.touched);
            self.metrics.cut(cause);
        }
    }

    fn ping(&mut self, id: ConnId, now: Instant) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| client.end == End::No) else { return };
        client.connection.ping();
        client.touch(id, &mut self.touched);
        self.pings.set(id, now);
        let Some(silent_at) = self.clients.get(&id).map(|client| self.silent_at(client)) else { return };
        if silent_at <= now + self.config.limits.ping_interval {
            self.silent.push(Reverse((silent_at, id)));
        }
    }

    fn carry_out(&mut self, outputs: &[Output<'_>], now: Instant) {
        for output in outputs {
            match output {
                Output::Send { to, text } => {
                    self.send(*to, |output| output.extend_from_slice(text.as_bytes()));
                }
                Output::Relay { from, to, message } => {
                    if self.send(*to, |output| message.write(output)) {
                        self.hub.delivered(message);
                    } else {
                        let outputs = self.hub.undelivered(*from, *to, now);
                        self.carry_out(&outputs, now);
                    }
                }
                Output::Close { conn, code, reason } => self.close(*conn, *code, reason),
            }
        }
    }

    /// Queues a message; whether there is room for it. A client that is too far behind is cut.
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

    /// Begins the end of a client that keeps no measure.
    fn cut(&mut self, id: ConnId, cause: &'static str) {
        self.close(id, POLICY, cause);
    }

    /// Ends a client at once that makes the server hold what it gets nothing from. Where it does not take what is there, it
    /// would not take the reason either.
    fn expel(&mut self, id: ConnId, cause: &'static str, now: Instant) {
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

    fn close(&mut self, id: ConnId, code: u16, cause: &'static str) {
        if let Some(client) = self.clients.get_mut(&id).filter(|client| !client.is_cut) {
            debug!("{}: closed with {code} ({cause})", id.0);
            client.connection.close(code, cause, &self.config.limits);
            client.is_cut = true;
            client.touch(id, &mut self.touched);
            self.metrics.cut(cause);
        }
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
            if let Origin::Counted(_, Role::Caller) = client.origin {
                client.count_out(&mut self.crowd, now);
            }
            self.ending += 1;
            self.hub.disconnect(id, client.departure(), now);
            self.ends.set(id, now);
        }
        if client.connection.is_finished() {
            if client.is_read_to_end {
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

    /// The one door out of the server. Closing the stream takes it out of the poll, too.
    fn drop(&mut self, id: ConnId, cause: impl Display, now: Instant) {
        let Some(mut client) = self.clients.remove(&id) else { return };
        debug!("{}: gone ({cause})", id.0);
        self.hub.disconnect(id, client.departure(), now);
        if client.end != End::No {
            self.ending -= 1;
        }
        if client.is_held {
            self.backlog.remove(id);
        }
        client.count_out(&mut self.crowd, now);
    }
}

impl<S: Stream> Client<S> {
    fn touch(&mut self, id: ConnId, touched: &mut Vec<ConnId>) {
        if !self.is_touched {
            self.is_touched = true;
            touched.push(id);
        }
    }

    /// Counts it out of the crowd.
    fn count_out(&mut self, crowd: &mut Crowd, now: Instant) {
        if let Origin::Counted(address, role) = std::mem::replace(&mut self.origin, Origin::Gone) {
            crowd.leave(address, role, now);
        }
    }

    /// Writes as much as the stream takes, and returns how much that was.
    fn write(&mut self, spare: &mut Buffers, metrics: &mut Metrics) -> io::Result<usize> {
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

    fn departure(&self) -> Departure {
        if self.connection.has_left() { Departure::Left } else { Departure::Lost }
    }
}

/// What so many bytes take of the memory: pieces of many sizes that come and go leave gaps, a fifth of all when it was measured.
fn with_gaps(bytes: usize) -> usize {
    bytes + bytes / 4
}

/// The time of day as seconds since 1970. A clock that stands before that is not set, and no credentials of its work.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default()
}

/// Clients whose last bytes are sent and whose end is awaited, at once. Beyond these they are not waited for.
const MAX_ENDING: usize = 1024;

/// Timers of each kind that one turn serves. A ping costs a system call, so these take about a millisecond.
const TIMERS_PER_TURN: usize = 128;

/// Why a client is cut that does not read.
const BEHIND: &str = "too far behind in reading";

const TOO_MANY_REQUESTS: &str = "429 Too Many Requests";

/// Clients beyond what may be whose request head is awaited: twice as many as one turn takes in, so that a head that is sent at
/// once is read before its client has to go.
const RESERVE: usize = 256;

/// What the system holds of a client that does not read: the send buffer that its socket is given, which Linux doubles for
/// what it needs itself.
pub const SEND_BUFFER_BYTES: usize = 16 * 1024;
const SYSTEM_BYTES: usize = 2 * SEND_BUFFER_BYTES;
