//! What the server has done and is doing, in Prometheus' text format, without a name in it. Pure.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use super::hub::Hub;
use super::nodes::ClusterCounts;
use crate::protocol::{ErrorCode, MessageType};

/// What the loop counts. What the hub counts stays with the hub.
#[derive(Debug, Default)]
pub struct Metrics {
    /// TCP connections taken.
    pub accepted: u64,
    /// Clients that were cut, by the cause.
    pub cuts: HashMap<&'static str, u64>,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Bytes written to clients.
    pub bytes_out: u64,
    turns: Histogram,
    /// How its cluster is, where it is in one.
    pub cluster: Option<ClusterCounts>,
}

/// Durations of turns, in the classes of [`BOUNDS`].
#[derive(Debug, Default)]
struct Histogram {
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Metrics {
    /// Counts a client that was cut.
    pub fn cut(&mut self, cause: &'static str) {
        *self.cuts.entry(cause).or_default() += 1;
    }

    /// Counts a turn of the loop.
    pub fn count_turn(&mut self, duration: Duration) {
        for (count, bound) in self.turns.counts.iter_mut().zip(BOUNDS) {
            *count += u64::from(duration.as_secs_f64() <= bound);
        }
        self.turns.count += 1;
        self.turns.sum += duration;
    }

    /// The text of it all. `connections` is how many TCP connections there are now.
    pub fn render(&self, hub: &Hub, connections: usize) -> String {
        let mut text = Text::default();
        text.family("lowkey_build_info", "gauge", "The version.");
        text.value("lowkey_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        text.single("lowkey_connections", "gauge", "TCP connections now.", connections as u64);
        text.single("lowkey_users", "gauge", "Users online now.", hub.online() as u64);
        text.single("lowkey_names", "gauge", "Names held now, online or kept for who was lost.", hub.names() as u64);
        text.single("lowkey_sessions", "gauge", "Open sessions now.", hub.sessions() as u64);
        text.single("lowkey_accepted_total", "counter", "TCP connections taken.", self.accepted);
        text.family("lowkey_relays_total", "counter", "Messages forwarded, by type.");
        for kind in MessageType::ALL.into_iter().filter(|kind| kind.is_forwarded()) {
            let count = hub.counts().forwarded(kind);
            text.value("lowkey_relays_total", &[("type", kind.name())], count);
        }
        text.family("lowkey_errors_total", "counter", "Errors answered, by code.");
        for code in ErrorCode::ALL {
            let count = hub.counts().errors(code);
            text.value("lowkey_errors_total", &[("code", code.name())], count);
        }
        text.family("lowkey_cuts_total", "counter", "Clients cut, by cause.");
        let mut cuts: Vec<_> = self.cuts.iter().collect();
        cuts.sort();
        for (cause, count) in cuts {
            text.value("lowkey_cuts_total", &[("cause", cause)], *count);
        }
        text.single("lowkey_received_bytes_total", "counter", "Bytes read from clients.", self.bytes_in);
        text.single("lowkey_sent_bytes_total", "counter", "Bytes written to clients.", self.bytes_out);
        text.family("lowkey_turn_seconds", "histogram", "Time of a turn of the loop, without its sleep.");
        for (bound, count) in BOUNDS.iter().zip(self.turns.counts) {
            text.value("lowkey_turn_seconds_bucket", &[("le", &bound.to_string())], count);
        }
        text.value("lowkey_turn_seconds_bucket", &[("le", "+Inf")], self.turns.count);
        text.value("lowkey_turn_seconds_sum", &[], self.turns.sum.as_secs_f64());
        text.value("lowkey_turn_seconds_count", &[], self.turns.count);
        if let Some(counts) = &self.cluster {
            render_cluster(&mut text, counts);
        }
        text.0
    }
}

/// How the cluster is, as this node sees it.
fn render_cluster(text: &mut Text, counts: &ClusterCounts) {
    text.single("lowkey_cluster_up", "gauge", "Whether the database can be asked.", counts.is_up.into());
    text.single("lowkey_cluster_nodes", "gauge", "Nodes whose lease holds.", counts.nodes);
    text.family("lowkey_cluster_asks_total", "counter", "Questions to the database, by kind and result.");
    for (kind, results) in ClusterCounts::ASKS.iter().zip(counts.asks) {
        for (result, count) in ClusterCounts::RESULTS.iter().zip(results) {
            text.value("lowkey_cluster_asks_total", &[("kind", kind), ("result", result)], count);
        }
    }
    text.family("lowkey_cluster_round_trip_seconds", "gauge", "Time of the last question to its answer.");
    text.value("lowkey_cluster_round_trip_seconds", &[], counts.round_trip_micros as f64 / 1e6);
    text.single("lowkey_cluster_unanswered", "gauge", "Questions without an answer now.", counts.unanswered);
    text.single("lowkey_cluster_losses_total", "counter", "How often the database was lost.", counts.losses);
    text.family("lowkey_cluster_frames_total", "counter", "Messages from other nodes and to them.");
    for (way, count) in ["in", "out"].iter().zip(counts.dispatches) {
        text.value("lowkey_cluster_frames_total", &[("way", way)], count);
    }
    let strange = counts.strange_dispatches;
    text.single("lowkey_cluster_strange_frames_total", "counter", "Messages that were not understood.", strange);
    let conflicts = counts.conflicts;
    text.single("lowkey_cluster_conflicts_total", "counter", "Names that another node held.", conflicts);
    text.family("lowkey_cluster_sweep_seconds", "gauge", "Time that the last marking of all names took.");
    text.value("lowkey_cluster_sweep_seconds", &[], counts.sweep_millis as f64 / 1e3);
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.value(name, &[], value);
    }
}

/// Upper bounds of the histogram's classes, in seconds.
const BOUNDS: [f64; 6] = [0.000_1, 0.000_5, 0.002, 0.01, 0.05, 0.25];

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use uuid::Uuid;

    use super::super::hub::{ConnId, Output};
    use super::super::limits::Limits;
    use super::*;

    #[test]
    fn everything_is_counted_and_nobody_is_named() {
        let now = Instant::now();
        let mut hub = Hub::new(Duration::from_secs(60), Limits::default(), Uuid::new_v4);
        for (number, name) in ["alice", "bob"].iter().enumerate() {
            hub.connect(ConnId(number), name, Some("token"), now).unwrap();
        }
        let outputs = hub.receive(ConnId(0), r#"{"type":"signal:ice","target":"bob","payload":"secret"}"#, now);
        let [Output::Forward { message, .. }] = &outputs[..] else { panic!("{outputs:?}") };
        hub.queued(message);
        hub.receive(ConnId(0), "x", now);
        let mut metrics = Metrics { accepted: 3, bytes_in: 10, ..Metrics::default() };
        metrics.cut("silence");
        metrics.count_turn(Duration::from_micros(300));
        let text = metrics.render(&hub, 2);
        for line in [
            "lowkey_connections 2",
            "lowkey_users 2",
            "lowkey_relays_total{type=\"signal:ice\"} 1",
            "lowkey_relays_total{type=\"key:exchange\"} 0",
            "lowkey_errors_total{code=\"INVALID_MESSAGE\"} 1",
            "lowkey_cuts_total{cause=\"silence\"} 1",
            "lowkey_received_bytes_total 10",
            "lowkey_turn_seconds_bucket{le=\"0.0001\"} 0",
            "lowkey_turn_seconds_bucket{le=\"0.0005\"} 1",
            "lowkey_turn_seconds_bucket{le=\"+Inf\"} 1",
            "lowkey_turn_seconds_sum 0.0003",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        for secret in ["alice", "bob", "token", "secret"] {
            assert!(!text.contains(secret), "{secret}");
        }
    }
}
