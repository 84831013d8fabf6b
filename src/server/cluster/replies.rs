//! What the database says: replies, each to the oldest command without one, and messages of other nodes. Pure.

use std::time::Instant;

use super::keys;
use super::resp::{self, Reply};
use super::trouble::{DatabaseLoss, loss, refusal};
use super::{Cluster, ClusterState, Event, MAX_INPUT, Pending, What};
use crate::server::nodes::{Answer, Found, NodeId, NotCreated, NotJoined, Verdict};

impl Cluster {
    /// Takes what the database has said.
    ///
    /// # Errors
    /// [`DatabaseLoss`] where the stream is of no use any more.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), DatabaseLoss> {
        if now.saturating_duration_since(self.renewed) > self.settings.lease {
            // What the database has kept for it is stale, and others may hold its names.
            return Err(loss("this server was away for longer than its lease"));
        }
        self.heard = now;
        let mut input = std::mem::take(&mut self.input);
        // Mostly nothing waits for its end, and what comes is read where it is.
        let begins_here = input.is_empty();
        let mut rest = bytes;
        if !begins_here {
            input.extend_from_slice(bytes);
            rest = &input;
        }
        while let Some(reply) = resp::take(&mut rest).map_err(|_| loss("it does not speak the protocol of Redis"))? {
            match reply {
                Reply::Push(parts) => self.receive_push(parts),
                reply => self.receive_reply(reply, now)?,
            }
        }
        let left = rest.len();
        match begins_here {
            true => input.extend_from_slice(&bytes[bytes.len() - left..]),
            false => drop(input.drain(..input.len() - left)),
        }
        if input.len() > MAX_INPUT {
            return Err(loss("it says more than may be"));
        }
        self.input = input;
        Ok(())
    }

    fn receive_push(&mut self, mut parts: Vec<Reply>) {
        match &mut parts[..] {
            [Reply::Bytes(kind), _, Reply::Bytes(bytes)] if kind == b"message" => {
                self.events.push_back(Event::Bundle(std::mem::take(bytes)));
            }
            [Reply::Bytes(kind), ..] if kind == b"subscribe" => {
                // That is the reply to it.
                if let Some(index) = self.pending.iter().position(|pending| matches!(pending.what, What::Subscribe)) {
                    self.pending.remove(index);
                    self.overdue -= usize::from(index < self.overdue);
                }
            }
            _ => {}
        }
    }

    fn receive_reply(&mut self, reply: Reply, now: Instant) -> Result<(), DatabaseLoss> {
        let Some(Pending { what, asked }) = self.pending.pop_front() else {
            return Err(loss("it answers what was not asked"));
        };
        let is_overdue = self.overdue > 0;
        self.overdue -= usize::from(is_overdue);
        // Of pings, too: where few ask, the last ask may be long ago.
        self.counts.round_trip_micros = now.saturating_duration_since(asked).as_micros() as u64;
        if let Reply::Error(error) = &reply {
            return self.receive_error(error, what, is_overdue, now);
        }
        if let Some(kind) = what.kind().filter(|_| !is_overdue) {
            self.counts.asks[kind][0] += 1;
        }
        let number = match &reply {
            Reply::Number(number) => Some(*number),
            _ => None,
        };
        let answer = match what {
            What::LuaScript(script) => {
                let is_known = matches!(&reply, Reply::Bytes(hash) if hash == script.hash().as_bytes());
                return if is_known { Ok(()) } else { Err(loss("it does not keep scripts")) };
            }
            What::Check => return self.check(&reply),
            What::Renew => return self.receive_renewal(reply, asked, now),
            What::Claim { conn, name } => {
                let verdict = match (&reply, number) {
                    (Reply::Bytes(bytes), _) => {
                        let since = bytes.first_chunk().copied().unwrap_or_default();
                        Verdict::Yes { since, has_replaced: bytes.get(6).is_some_and(|byte| *byte != 0) }
                    }
                    (_, Some(2)) => Verdict::Later,
                    _ => Verdict::Taken,
                };
                Answer::Claimed { conn, name, verdict }
            }
            What::Bundle(passed) => {
                match number {
                    Some(1..) => self.events.push_back(Event::Answer(Answer::Passed(passed))),
                    _ => self.not_passed(passed, true),
                }
                return Ok(());
            }
            What::Mark(conn) => {
                if let Some(sweep) = &mut self.sweep {
                    sweep.in_flight = sweep.in_flight.saturating_sub(1);
                }
                self.finish_sweep(now);
                self.counts.conflicts += u64::from(number != Some(1));
                Answer::Marked { conn, is_ours: Some(number == Some(1)) }
            }
            What::Seek(seek) => {
                let route = match &reply {
                    Reply::Bytes(owner) => keys::route(owner),
                    _ => None,
                };
                Answer::Sought { seek, found: route.map_or(Found::Nowhere, Found::At) }
            }
            What::Create { conn, id } => {
                let outcome = if reply == Reply::Null { Err(NotCreated::Away) } else { Ok(()) };
                Answer::Created { conn, id, outcome }
            }
            What::Join { conn, id } => {
                let outcome = match (reply, number) {
                    (Reply::Bytes(creator), _) => Ok(String::from_utf8_lossy(&creator).into_owned()),
                    (_, Some(1)) => Err(NotJoined::Full),
                    (_, Some(2)) => Err(NotJoined::AlreadyIn),
                    _ => Err(NotJoined::NotFound),
                };
                Answer::Joined { conn, id, outcome }
            }
            What::Greeting | What::Subscribe | What::Ping | What::Release => return Ok(()),
        };
        let is_claim = matches!(answer, Answer::Claimed { .. });
        if !is_overdue || is_claim {
            self.events.push_back(Event::Answer(answer));
        }
        Ok(())
    }

    /// Takes what the database says in place of an answer.
    fn receive_error(&mut self, error: &str, what: What, is_overdue: bool, now: Instant) -> Result<(), DatabaseLoss> {
        let is_new = matches!(what, What::Greeting | What::Claim { .. } | What::Create { .. });
        let is_full = is_new && error.starts_with("OOM ");
        if let Some(kind) = what.kind().filter(|_| is_full && !is_overdue) {
            self.counts.asks[kind][2] += 1;
        }
        match what {
            // Told late as well, or it would be made again and again until its time is over.
            What::Claim { conn, name } if is_full => {
                self.events.push_back(Event::Answer(Answer::Claimed { conn, name, verdict: Verdict::Full }));
            }
            _ if is_overdue => {}
            // It was not answered before, and is now.
            What::Create { conn, id } if is_full => {
                let outcome = Err(NotCreated::Full);
                self.events.push_back(Event::Answer(Answer::Created { conn, id, outcome }));
            }
            what => self.give_up(what),
        }
        if is_full {
            // It has no room for what it does not know yet, and does all the rest.
            self.full = Some(now);
            return Ok(());
        }
        Err(refusal(error))
    }

    /// Whether the nodes agree on what they have to share: secret, layout and settings.
    fn check(&self, reply: &Reply) -> Result<(), DatabaseLoss> {
        let (ttl, kept) = (self.settings.session_ttl.as_millis(), self.settings.reservation.as_millis());
        let own = self.hash.check(&format!("1 {ttl} {kept}"));
        match reply {
            Reply::Bytes(found) if *found == own => return Ok(()),
            // It was to be set just now.
            Reply::Null => return Err(loss("its memory is full")),
            _ => {}
        }
        let reason = "other servers of it have another CLUSTER_SECRET, SESSION_TTL or version: they have to be the \
                      same (another cluster in the same Redis takes another number, as in redis://HOST/1; or delete \
                      lk1:check in the database while no server runs)";
        Err(DatabaseLoss { reason: reason.to_owned(), is_refusal: true })
    }

    fn receive_renewal(&mut self, reply: Reply, asked: Instant, now: Instant) -> Result<(), DatabaseLoss> {
        let Reply::List(items) = reply else { return Err(loss("it answers strangely")) };
        let before = items.first();
        self.has_forgotten |= match before {
            Some(Reply::Number(2)) => true,
            // It answers from an older copy of its data: the lease that it confirmed last has not run out.
            Some(Reply::Number(1)) => now < self.leased_until,
            _ => false,
        };
        self.leased_until = asked + self.settings.lease;
        if self.state == ClusterState::Up && before != Some(&Reply::Number(0)) {
            return Err(loss("it does not know this server's lease any more"));
        }
        self.renewed = now;
        let mut alive: Vec<NodeId> = items
            .iter()
            .filter_map(|item| match item {
                Reply::Bytes(member) => member.first_chunk::<6>().copied().map(NodeId),
                _ => None,
            })
            .collect();
        alive.sort_unstable();
        alive.dedup();
        self.counts.nodes = alive.len() as u64;
        if self.state == ClusterState::Greeting && std::mem::take(&mut self.has_forgotten) && self.previous.is_some() {
            // Who is not back yet may hold names for as long as its lease.
            let until = now + self.settings.lease;
            self.awaited.extend(self.alive.iter().map(|node| (*node, until)));
        }
        self.awaited.retain(|(node, _)| !alive.contains(node));
        self.alive.clone_from(&alive);
        self.events.push_back(Event::Alive(alive));
        if self.state == ClusterState::Greeting {
            if self.pending.iter().any(|pending| matches!(pending.what, What::Subscribe)) {
                return Err(loss("it does not let this server subscribe"));
            }
            self.state = ClusterState::Up;
            self.begin_sweep(self.previous.is_some(), now);
            self.events.push_back(Event::Up(self.node));
        }
        Ok(())
    }
}
