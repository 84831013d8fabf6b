//! Who is let in: room for one more, in all and from one address, and a name that is free.

use std::net::IpAddr;
use std::time::Instant;

use log::{debug, info};

use super::{ClientStream, Clients};
use crate::server::addresses::{self, NotAdmitted, Role};
use crate::server::client::{Client, ClientOrigin, NAME_TAKEN, NotOnline};
use crate::server::http::{self, Endpoints, UpgradeRequest};
use crate::server::ids::ConnId;

impl<S: ClientStream> Clients<S> {
    /// Takes in a client that comes from `source` to a socket where these endpoints are served.
    pub fn add(&mut self, stream: S, source: IpAddr, endpoints: Endpoints, now: Instant) {
        let id = self.next_id();
        self.next_id += 1;
        self.metrics.accepted += 1;
        debug!("{}: accepted", id.0);
        let is_full = self.clients.len() - self.ending >= self.config.limits.clients;
        let is_counted = !is_full && !self.config.proxies.contains(source);
        let is_crowded = is_counted && self.addresses.enter(source, Role::Newcomer, now).is_err();
        let is_in_reserve = is_full || is_crowded;
        let origin = if is_counted && !is_crowded {
            ClientOrigin::Counted(source, Role::Newcomer)
        } else {
            ClientOrigin::Uncounted(source)
        };
        self.clients.insert(id, Client::new(stream, origin, endpoints, now));
        self.heads.set(id, now);
        if is_in_reserve {
            self.take_in_reserve(id);
        }
    }

    /// Lets a client wait for whom there is no room. The one that has waited so for the longest may have to go. A probe
    /// sends its head at once, so it is answered before as many others have come.
    fn take_in_reserve(&mut self, id: ConnId) {
        self.reserve.push_back(id);
        if self.reserve.len() <= RESERVE {
            return;
        }
        if let Some(oldest) = self.reserve.pop_front()
            && self.clients.get(&oldest).is_some_and(|client| client.connection.is_awaiting_head())
        {
            self.refuse(
                oldest,
                if self.is_full() { NotOnline::ServerFull } else { NotOnline::Crowded(NotAdmitted::TooMany) },
            );
        }
    }

    /// Whether there are more clients than may be, those aside who are at their end.
    fn is_full(&self) -> bool {
        self.clients.len() - self.ending > self.config.limits.clients
    }

    /// Lets a client in that asks for the upgrade, if there is room for it and the name is free; returns what it has
    /// sent already.
    pub(super) fn open(&mut self, id: ConnId, request: &UpgradeRequest, now: Instant) -> Vec<u8> {
        if let Err(cause) = self.count_in(id, request, now) {
            self.refuse(id, cause);
            return Vec::new();
        }
        if self.clients.get(&id).is_none_or(|client| client.connection.is_closing()) {
            return Vec::new();
        }
        if self.hub.is_in_cluster() {
            let outputs = self.hub.claim(id, &request.username, request.token.as_deref(), now);
            self.carry_out(&outputs, now);
            return Vec::new();
        }
        match self.hub.connect(id, &request.username, request.token.as_deref(), now) {
            Ok(outputs) => {
                let rest = self.admit(id, !outputs.is_empty(), now);
                self.carry_out(&outputs, now);
                rest
            }
            Err(_) => {
                self.send_away(id, http::refusal("409 Conflict", NAME_TAKEN));
                Vec::new()
            }
        }
    }

    /// Lets a client in that has its name now, in place of another one or not; returns what it has sent already.
    pub(super) fn admit(&mut self, id: ConnId, has_replaced: bool, now: Instant) -> Vec<u8> {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.connection.is_closing()) else {
            return Vec::new();
        };
        debug!("{}: online", id.0);
        let rest = client.connection.accept(has_replaced);
        client.touch(id, &mut self.touched);
        self.pings.set(id, now);
        if let ClientOrigin::Uncounted(address) | ClientOrigin::Counted(address, _) = client.origin {
            self.hub.locate(id, addresses::place(address));
        }
        rest
    }

    /// Answers a client that does not get its name.
    pub(super) fn send_away(&mut self, id: ConnId, response: Vec<u8>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.connection.respond(response);
            client.touch(id, &mut self.touched);
        }
    }

    /// Counts a client in as a user, if there is room for one.
    fn count_in(&mut self, id: ConnId, request: &UpgradeRequest, now: Instant) -> Result<(), NotOnline> {
        if self.is_full() {
            return Err(NotOnline::ServerFull);
        }
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        let (ClientOrigin::Uncounted(source) | ClientOrigin::Counted(source, _)) = client.origin else { return Ok(()) };
        let is_silent = request.forwarded_for.is_empty() && request.real_ip.is_none();
        let is_trusted = self.config.proxies.contains(source);
        if is_silent && is_trusted && !std::mem::replace(&mut self.has_warned_of_proxy, true) {
            info!(
                "a client came from an address in TRUSTED_PROXIES without X-Forwarded-For: that is right for a program \
                 there, but a proxy has to send it, or all its clients count as one address"
            );
        }
        let address = self.config.proxies.client_behind(source, &request.forwarded_for, request.real_ip);
        self.addresses.enter(address, Role::User, now).map_err(NotOnline::Crowded)?;
        client.count_out(&mut self.addresses, now);
        client.origin = ClientOrigin::Counted(address, Role::User);
        Ok(())
    }

    /// Tells a client why it cannot come online.
    fn refuse(&mut self, id: ConnId, cause: NotOnline) {
        let (status, reason, cause) = cause.answer();
        self.turn_away(id, status, reason, cause);
    }

    pub(super) fn turn_away(&mut self, id: ConnId, status: &'static str, reason: &str, cause: &'static str) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.connection.refuse(status, reason);
            client.touch(id, &mut self.touched);
            self.metrics.cut(cause);
        }
    }
}

/// Clients without room for them whose request head is awaited: twice as many as one turn takes in, so that a head that
/// is sent at once is read before its client has to go.
const RESERVE: usize = 256;
