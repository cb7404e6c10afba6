//! What watching counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use trough_runtime::metrics::Registry;

/// Metrics, all named `trough_watch_…`. Clones share them.
#[derive(Debug, Clone)]
pub struct WatchMetrics {
    /// Rules about frames.
    pub rules: Gauge,
    /// Shards that this process watches.
    pub shards: Gauge,
    /// What rules know of devices, in these shards.
    pub states: Gauge,
    /// Frames that rules were asked about.
    pub frames: Counter,
    /// Events found and stored.
    pub events: Counter,
    /// Frames that could not be read, and were passed over.
    pub damaged: Counter,
    /// How often looking or storing failed, and was tried again.
    pub failures: Counter,
    /// How long storing a step took, in seconds.
    pub step_seconds: Histogram,
    /// From a frame's receipt until what it brought about is stored, in seconds.
    pub event_seconds: Histogram,
}

impl WatchMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(1e-3, 2.0, 16));
        let metrics = Self {
            rules: Gauge::default(),
            shards: Gauge::default(),
            states: Gauge::default(),
            frames: Counter::default(),
            events: Counter::default(),
            damaged: Counter::default(),
            failures: Counter::default(),
            step_seconds: seconds(),
            event_seconds: seconds(),
        };
        let all = registry.sub_registry_with_prefix("trough_watch");
        all.register("rules", "Rules about frames", metrics.rules.clone());
        all.register("shards", "Shards that this process watches", metrics.shards.clone());
        all.register("states", "What rules know of devices, one by one", metrics.states.clone());
        all.register("frames", "Frames that rules were asked about", metrics.frames.clone());
        all.register("events", "Events found and stored", metrics.events.clone());
        all.register("damaged", "Frames passed over, as they cannot be read", metrics.damaged.clone());
        all.register(
            "failures",
            "Looks and steps that failed and were tried again",
            metrics.failures.clone(),
        );
        all.register("step_seconds", "How long storing a step took", metrics.step_seconds.clone());
        all.register(
            "event_seconds",
            "From a frame's receipt until what it brought about is stored",
            metrics.event_seconds.clone(),
        );
        metrics
    }
}
