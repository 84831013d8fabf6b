//! What is due at its time: request heads that are late, pings, clients that are silent or too slow, and ends that
//! take too long.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::{ClientStream, Clients};
use crate::server::backlog::Finding;
use crate::server::client::{Client, End};
use crate::server::ids::ConnId;

impl<S: ClientStream> Clients<S> {
    /// Does what is due at `now`, as much as one turn has time for. While there is more,
    /// [`next_deadline`](Self::next_deadline) is in the past.
    pub fn tick(&mut self, now: Instant) {
        self.hub.tick(now);
        self.addresses.tick(now);
        self.hub.retry_claims(now);
        for _ in 0..TIMERS_PER_TURN {
            let Some(output) = self.hub.overdue_claim(now) else { break };
            self.carry_out(&[output], now);
        }
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
        for _ in 0..LOOKS_PER_TURN {
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
        let pure = [self.hub.next_deadline(), self.addresses.next_deadline()];
        let timers = [self.heads.next(), self.pings.next(), self.ends.next(), silent, self.backlog.next_deadline()];
        timers.into_iter().chain(pure).flatten().min()
    }

    /// The server is back after it was away for so long, in which nobody could be heard.
    pub fn come_back(&mut self, away: Duration, now: Instant) {
        if away >= self.config.limits.ping_interval {
            self.back = Some(now);
        }
    }

    /// When a client will have been silent for too long. After a long absence of the server each has the time anew:
    /// its pong may have been lost on the way, and comes when it is sent again.
    fn silent_at(&self, client: &Client<S>) -> Instant {
        self.back.map_or(client.heard, |back| back.max(client.heard)) + self.config.limits.silence
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
}

/// Timers of each kind that one turn serves. A ping costs a system call, so these take about a millisecond.
const TIMERS_PER_TURN: usize = 128;

/// Clients in arrears that one turn looks at. Each may have to go, with all that it has, which takes some ten
/// microseconds.
const LOOKS_PER_TURN: usize = 48;
