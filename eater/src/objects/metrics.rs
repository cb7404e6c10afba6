//! What an object journal counts besides what every journal does.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use trough_runtime::metrics::Registry;

/// Metrics, all named `trough_journal_objects_…`. Clones share them.
#[derive(Debug, Clone)]
pub struct ObjectMetrics {
    /// How long it took until an object was stored, tries and all, in seconds.
    pub put_seconds: Histogram,
    /// How long it took until its row was entered, in seconds.
    pub enter_seconds: Histogram,
    /// Objects sealed and not entered yet.
    pub in_flight: Gauge,
    /// Objects opened for readers.
    pub opened: Counter,
    /// Heads that were not found in time.
    pub heads_late: Counter,
    /// Eaters that this one declared dead.
    pub declared_dead: Counter,
    /// Objects of dead eaters that were never entered, removed.
    pub orphans_removed: Counter,
}

impl ObjectMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(1e-3, 2.0, 16));
        let metrics = Self {
            put_seconds: seconds(),
            enter_seconds: seconds(),
            in_flight: Gauge::default(),
            opened: Counter::default(),
            heads_late: Counter::default(),
            declared_dead: Counter::default(),
            orphans_removed: Counter::default(),
        };
        let all = registry.sub_registry_with_prefix("trough_journal_objects");
        all.register("put_seconds", "How long storing a journal object took", metrics.put_seconds.clone());
        all.register("enter_seconds", "How long entering its row took", metrics.enter_seconds.clone());
        all.register("in_flight", "Objects sealed and not entered yet", metrics.in_flight.clone());
        all.register("opened", "Objects opened for readers", metrics.opened.clone());
        all.register("heads_late", "Heads not found in time", metrics.heads_late.clone());
        all.register("declared_dead", "Eaters declared dead by this one", metrics.declared_dead.clone());
        all.register("orphans_removed", "Objects never entered, removed", metrics.orphans_removed.clone());
        metrics
    }
}
