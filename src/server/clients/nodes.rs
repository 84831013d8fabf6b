//! What comes of the cluster, for the hub and for those who are connected.

use std::time::Instant;

use super::{ClientStream, Clients};
use crate::server::cluster::{Cluster, Event};

impl<S: ClientStream> Clients<S> {
    /// Asks for the hub what it has to ask, and takes what has come of the cluster. `real` goes on while this server is
    /// away, as a lease does; `now` stands still then. What comes beyond a turn's share is left for the next turn.
    pub fn exchange(&mut self, cluster: &mut Cluster, real: Instant, now: Instant) {
        let mut left = EVENTS_PER_EXCHANGE;
        loop {
            while let Some((ask, texts)) = self.hub.next_ask() {
                cluster.ask(ask, texts, real);
            }
            if left == 0 {
                break;
            }
            let Some(event) = cluster.next_event() else { break };
            left = left.saturating_sub(event.weight());
            self.take(event, cluster, now);
        }
        if cluster.room_for_marks() > 0 {
            let has_more = self.hub.mark(cluster.room_for_marks());
            while let Some((ask, texts)) = self.hub.next_ask() {
                cluster.ask(ask, texts, real);
            }
            if !has_more {
                cluster.end_of_marks(real);
            }
        }
        cluster.send_bundles(real);
        self.config.access.is_cut_off = !self.was_in_cluster || self.hub.is_cut_off(now);
        self.metrics.cluster = Some(cluster.counts());
    }

    fn take(&mut self, event: Event, cluster: &mut Cluster, now: Instant) {
        match event {
            Event::Answer(answer) => {
                let outputs = self.hub.answered(answer, now);
                self.carry_out(&outputs, now);
            }
            Event::Bundle(bytes) => {
                for dispatch in cluster.dispatches(&bytes) {
                    let outputs = self.hub.arrived(dispatch, now);
                    self.carry_out(&outputs, now);
                }
            }
            Event::Up(node) => {
                self.was_in_cluster = true;
                self.hub.database_is_back(node);
            }
            Event::Down => self.hub.database_is_away(now),
            Event::Sweep => self.hub.begin_marks(),
            Event::Alive(nodes) => self.hub.nodes_are(nodes),
        }
    }
}

/// What is taken of the cluster at once, by its weight, at about a microsecond each. A turn does so twice.
const EVENTS_PER_EXCHANGE: usize = 512;
