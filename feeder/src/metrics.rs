//! What a feeder counts. Frames are counted once per batch, so counting costs nothing per frame.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use trough_protocol::close::CloseCode;
use trough_store::CommandState;

use crate::uplink::Settled;

/// The label set of things that end: sessions, links, refusals.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    reason: &'static str,
}

/// The label set of commands that have ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct State {
    state: &'static str,
}

/// The metrics of one feeder. Cloning is cheap: clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Open connections, sessions included.
    pub connections: Gauge,
    /// Most connections at once.
    pub connections_max: Gauge,
    /// Open sessions.
    pub sessions: Gauge,
    /// Most sessions at once.
    pub sessions_max: Gauge,
    /// Links that are up.
    pub links: Gauge,
    /// Eaters that they lead to.
    pub eaters: Gauge,
    /// Bytes of batches without an answer.
    pub in_flight_bytes: Gauge,
    /// Frames acknowledged as durable.
    pub frames: Counter,
    /// Batches acknowledged as durable.
    pub batches: Counter,
    /// Bytes of acknowledged batches.
    pub bytes: Counter,
    /// Batches that the eater refused.
    pub batches_rejected: Counter,
    /// Sessions told to send again because a link died.
    pub rewinds: Counter,
    /// Epochs granted.
    pub epochs_granted: Counter,
    /// Sessions that ended because their device has a newer one on another feeder.
    pub taken_elsewhere: Counter,
    /// Commands handed to sessions, those that come again included.
    pub commands_sent: Counter,
    /// Answers that were dropped because the store was behind.
    pub command_results_dropped: Counter,
    commands_ended: Family<State, Counter>,
    sessions_ended: Family<Reason, Counter>,
    links_ended: Family<Reason, Counter>,
    link_age: LinkAge,
    sessions_moved: Family<Reason, Counter>,
    refused: Family<Reason, Counter>,
}

/// How old links become, from a second to some hours.
#[derive(Debug, Clone)]
struct LinkAge(Histogram);

impl Default for LinkAge {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(1.0, 4.0, 8)))
    }
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let r = registry.sub_registry_with_prefix("trough_feeder");
        let gauges = [
            ("connections", "Open connections, sessions included", &metrics.connections),
            ("connections_max", "Most connections at once", &metrics.connections_max),
            ("sessions", "Open sessions", &metrics.sessions),
            ("sessions_max", "Most sessions at once", &metrics.sessions_max),
            ("links", "Links to eaters that are up", &metrics.links),
            ("eaters", "Eaters that links lead to", &metrics.eaters),
            ("in_flight_bytes", "Bytes of batches sent and not answered", &metrics.in_flight_bytes),
        ];
        for (name, help, gauge) in gauges {
            r.register(name, help, gauge.clone());
        }
        let counters = [
            ("frames", "Frames acknowledged as durable", &metrics.frames),
            ("batches", "Batches acknowledged as durable", &metrics.batches),
            ("batch_bytes", "Bytes of batches acknowledged as durable", &metrics.bytes),
            ("batches_rejected", "Batches refused by an eater", &metrics.batches_rejected),
            ("rewinds", "Sessions told to send again after a link died", &metrics.rewinds),
            ("epochs_granted", "Epochs granted to devices", &metrics.epochs_granted),
            ("taken_elsewhere", "Sessions taken over by one on another feeder", &metrics.taken_elsewhere),
            ("commands_sent", "Commands handed to sessions", &metrics.commands_sent),
            (
                "command_results_dropped",
                "Answers to commands dropped because the store was behind; devices give them again",
                &metrics.command_results_dropped,
            ),
        ];
        for (name, help, counter) in counters {
            r.register(name, help, counter.clone());
        }
        let ended = "Commands that were answered, or found to be expired, here, by how they ended";
        r.register("commands_ended", ended, metrics.commands_ended.clone());
        r.register("sessions_ended", "Sessions ended, by reason", metrics.sessions_ended.clone());
        r.register("links_ended", "Links ended, by reason", metrics.links_ended.clone());
        r.register("link_age_seconds", "How old links were when they ended", metrics.link_age.0.clone());
        let moved = "Sessions that changed their link, by why they left it";
        r.register("sessions_moved", moved, metrics.sessions_moved.clone());
        r.register("handshakes_refused", "Handshakes refused, by problem code", metrics.refused.clone());
        metrics
    }

    /// A session ended with a close of ours, or for one of the device's reasons.
    pub fn session_ended(&self, reason: &'static str) {
        self.sessions_ended.get_or_create(&Reason { reason }).inc();
    }

    /// A command has ended.
    pub fn command_finished(&self, state: CommandState) {
        self.commands_ended.get_or_create(&State { state: state.as_str() }).inc();
    }

    /// A link ended after `age`.
    pub fn link_ended(&self, reason: &'static str, age: Duration) {
        self.links_ended.get_or_create(&Reason { reason }).inc();
        self.link_age.0.observe(age.as_secs_f64());
    }

    /// Sessions left their link.
    pub fn sessions_moved(&self, reason: &'static str, sessions: usize) {
        self.sessions_moved.get_or_create(&Reason { reason }).inc_by(sessions as u64);
    }

    /// How many sessions left their link for `reason`, for tests.
    pub fn moved_for(&self, reason: &'static str) -> u64 {
        self.sessions_moved.get_or_create(&Reason { reason }).get()
    }

    /// A handshake was refused.
    pub fn handshake_refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// How many sessions ended with `code`, for tests and the canonical line.
    pub fn ended_with(&self, code: CloseCode) -> u64 {
        self.sessions_ended.get_or_create(&Reason { reason: code.name() }).get()
    }

    pub(crate) fn settled(&self, settled: &Settled) {
        self.frames.inc_by(settled.frames);
        self.batches.inc_by(settled.batches);
        self.bytes.inc_by(settled.bytes as u64);
        self.in_flight_bytes.dec_by(settled.bytes as i64);
    }
}
