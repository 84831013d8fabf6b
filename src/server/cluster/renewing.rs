//! How a node's names stay known: the lease, one entry for all of them, and the sweep that marks them anew. Pure.

use std::time::{Duration, Instant};

use super::keys;
use super::scripts::LuaScript;
use super::{Cluster, ClusterState, Event, GRACE, Sweep, What};

impl Cluster {
    /// Whether more names can be marked, and how many.
    pub(crate) fn room_for_marks(&self) -> usize {
        match &self.sweep {
            Some(sweep) if !sweep.has_all && self.output.len() < MAX_OUTPUT_FOR_MARKS => {
                MARKS_IN_FLIGHT.saturating_sub(sweep.in_flight).min(MARKS_PER_TURN)
            }
            _ => 0,
        }
    }

    /// All names were given to be marked.
    pub(crate) fn end_of_marks(&mut self, now: Instant) {
        if let Some(sweep) = &mut self.sweep {
            sweep.has_all = true;
        }
        self.finish_sweep(now);
    }

    /// Ends this node's lease: its names are kept for their owners, or free, from now on.
    pub fn leave(&mut self, now: Instant) {
        self.send_bundles(now);
        if self.state == ClusterState::Up {
            let members = self.members();
            self.run_renew(&members, 0, Duration::ZERO, now);
        }
    }

    /// Renews the lease in its time. Whoever's names the database may not know has the grace extended.
    pub(super) fn renew_in_turn(&mut self, now: Instant) {
        self.awaited.retain(|(_, until)| now < *until);
        let is_long = |sweep: &Sweep| now.saturating_duration_since(sweep.began) >= LONGEST_GRACE;
        let is_marking = self.sweep.as_ref().is_some_and(|sweep| sweep.is_after_loss && !is_long(sweep));
        let is_grace = is_marking || !self.awaited.is_empty();
        self.renew(now, if is_grace { GRACE } else { Duration::ZERO });
    }

    /// Marks all names again after a long time.
    pub(super) fn sweep_again(&mut self, now: Instant) {
        self.previous = Some(self.incarnation);
        self.incarnation = self.incarnation.wrapping_add(1).max(1);
        self.renew(now, Duration::ZERO);
        self.begin_sweep(false, now);
        self.events.push_back(Event::Sweep);
    }

    fn members(&self) -> Vec<Vec<u8>> {
        let incarnations = [Some(self.incarnation), self.previous].into_iter().flatten();
        incarnations.map(|incarnation| keys::member(self.node, incarnation)).collect()
    }

    /// Renews the lease; nobody takes a name that the database does not know for as long as `grace` says.
    pub(super) fn renew(&mut self, now: Instant, grace: Duration) {
        self.run_renew(&self.members(), self.settings.lease.as_millis(), grace, now);
        let pause = if grace.is_zero() { self.settings.lease / 3 } else { RENEW_IN_SWEEP.min(self.settings.lease / 3) };
        self.renew_at = now + pause;
    }

    fn run_renew(&mut self, members: &[Vec<u8>], lease: u128, grace: Duration, now: Instant) {
        let numbers = [lease, NODES_KEPT.as_millis(), grace.as_millis(), GRACE.as_millis()];
        let numbers = numbers.map(|number| number.to_string());
        let arguments: Vec<&[u8]> =
            numbers.iter().map(|text| text.as_bytes()).chain(members.iter().map(|member| &member[..])).collect();
        self.run(What::Renew, LuaScript::Renew, &[keys::NODES, keys::GRACE], &arguments, now);
    }

    pub(super) fn begin_sweep(&mut self, is_after_loss: bool, now: Instant) {
        self.sweep = Some(Sweep { began: now, is_after_loss, has_all: false, in_flight: 0 });
        self.next_sweep = now + SWEEP_INTERVAL;
    }

    pub(super) fn finish_sweep(&mut self, now: Instant) {
        if let Some(sweep) = &self.sweep
            && sweep.has_all
            && sweep.in_flight == 0
        {
            self.counts.sweep_millis = now.saturating_duration_since(sweep.began).as_millis() as u64;
            self.sweep = None;
            // What was not marked ends with its lease.
            self.previous = None;
            if self.awaited.is_empty() {
                self.renew_at = now + self.settings.lease / 3;
            }
        }
    }
}

/// How long the grace is extended while a node marks its names: a million take some five seconds.
const LONGEST_GRACE: Duration = Duration::from_secs(120);

/// How often the lease is renewed while names are marked: well within the grace.
const RENEW_IN_SWEEP: Duration = Duration::from_secs(1);

/// All names are marked again after this long, so that none expires whose user stays.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// How long the lease of a node is remembered after its end: far longer than any name is kept.
const NODES_KEPT: Duration = Duration::from_secs(600);

/// Marks whose answers are awaited, and those that one turn makes, at some three microseconds each.
const MARKS_IN_FLIGHT: usize = 512;
const MARKS_PER_TURN: usize = 128;

/// Marks wait while the database takes no more than this.
const MAX_OUTPUT_FOR_MARKS: usize = 256 * 1024;
