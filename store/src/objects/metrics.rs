//! What an object store counts, by operation.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use trough_runtime::metrics::Registry;

/// The label set: put, get, `get_range`, delete, list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Operation {
    pub operation: &'static str,
}

/// A store's metrics, all named `trough_objects_…`. Clones share them.
#[derive(Debug, Clone)]
pub struct ObjectMetrics {
    pub(super) requests: Family<Operation, Counter>,
    pub(super) failures: Family<Operation, Counter>,
    pub(super) retries: Family<Operation, Counter>,
    pub(super) bytes: Family<Operation, Counter>,
    pub(super) seconds: Family<Operation, Histogram, fn() -> Histogram>,
    pub(super) in_flight: Family<Operation, Gauge>,
    pub(super) waiting: Family<Operation, Gauge>,
}

impl Default for ObjectMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            failures: Family::default(),
            retries: Family::default(),
            bytes: Family::default(),
            // 1 ms to 16 s
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1e-3, 2.0, 15))),
            in_flight: Family::default(),
            waiting: Family::default(),
        }
    }
}

impl ObjectMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let all = registry.sub_registry_with_prefix("trough_objects");
        let counters = [
            ("requests", "Requests to the object store, those tried again included", &metrics.requests),
            ("failures", "Requests that failed: no answer in time, or an error", &metrics.failures),
            ("retries", "Requests that were tried again", &metrics.retries),
            ("transferred_bytes", "Bytes of objects stored and fetched", &metrics.bytes),
        ];
        for (name, help, counter) in counters {
            all.register(name, help, counter.clone());
        }
        all.register("seconds", "How long a request took, waiting not included", metrics.seconds.clone());
        all.register("in_flight", "Requests that have no answer yet", metrics.in_flight.clone());
        all.register("waiting", "Calls that wait, as too much is in flight", metrics.waiting.clone());
        metrics
    }
}
