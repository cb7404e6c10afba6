//! What a notifier counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Which way, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    channel: &'static str,
    outcome: &'static str,
}

/// Which way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Channel {
    channel: &'static str,
}

/// What waits in one shard.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiting {
    /// How many deliveries.
    pub pending: u64,
    /// How long the oldest of them has waited.
    pub oldest: Duration,
}

/// The metrics of one notifier. Cloning is cheap: clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Events routed.
    pub events: Counter,
    /// Deliveries made of them.
    pub deliveries: Counter,
    /// Subscriptions disabled.
    pub disabled: Counter,
    /// Requests on their way.
    pub in_flight: Gauge,
    attempts: Family<Outcome, Counter>,
    durations: Family<Channel, Histogram>,
    dead: Family<Channel, Counter>,
    pending: Gauge,
    oldest: Gauge,
    waiting: Arc<Mutex<BTreeMap<u16, Waiting>>>,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        // From 1 ms to above the longest time that a request may take.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let metrics = Self {
            events: Counter::default(),
            deliveries: Counter::default(),
            disabled: Counter::default(),
            in_flight: Gauge::default(),
            attempts: Family::default(),
            durations: Family::new_with_constructor(seconds),
            dead: Family::default(),
            pending: Gauge::default(),
            oldest: Gauge::default(),
            waiting: Arc::default(),
        };
        let r = registry.sub_registry_with_prefix("trough_notifier");
        r.register("events", "Events routed to subscriptions", metrics.events.clone());
        r.register("deliveries", "Deliveries made of events", metrics.deliveries.clone());
        r.register(
            "subscriptions_disabled",
            "Subscriptions disabled by themselves",
            metrics.disabled.clone(),
        );
        r.register("in_flight", "Requests on their way", metrics.in_flight.clone());
        r.register("attempts", "Tries to deliver, by channel and outcome", metrics.attempts.clone());
        r.register("attempt_seconds", "How long tries took, by channel", metrics.durations.clone());
        // From the beginning, so that the first one is seen to rise.
        for channel in ["webhook", "apns"] {
            metrics.dead.get_or_create(&Channel { channel }).inc_by(0);
        }
        r.register("dead", "Deliveries given up, by channel", metrics.dead.clone());
        r.register(
            "pending",
            "Deliveries that wait, of the shards that this process has",
            metrics.pending.clone(),
        );
        r.register(
            "oldest_pending_seconds",
            "How long the oldest of them has waited",
            metrics.oldest.clone(),
        );
        metrics
    }

    /// A try has ended.
    pub fn attempted(&self, channel: &'static str, outcome: &'static str, took: Duration) {
        self.attempts.get_or_create(&Outcome { channel, outcome }).inc();
        self.durations.get_or_create(&Channel { channel }).observe(took.as_secs_f64());
        if outcome == "dead" {
            self.dead.get_or_create(&Channel { channel }).inc();
        }
    }

    /// What waits in a shard; `None` if it is not this process's any more.
    pub fn waits(&self, shard: u16, waiting: Option<Waiting>) {
        // Numbers are whole, whoever panicked.
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting {
            Some(waiting) => drop(all.insert(shard, waiting)),
            None => drop(all.remove(&shard)),
        }
        self.pending.set(all.values().map(|shard| shard.pending as i64).sum());
        self.oldest.set(all.values().map(|shard| shard.oldest.as_secs() as i64).max().unwrap_or(0));
    }
}
