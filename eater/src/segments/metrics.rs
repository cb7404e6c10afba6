//! What reading segments counts.

use prometheus_client::metrics::counter::Counter;
use trough_runtime::metrics::Registry;

/// Metrics, all named `trough_segments_…`. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct SegmentMetrics {
    /// Segments opened, those that were open already not counted.
    pub opened: Counter,
    /// Requests to the store.
    pub requests: Counter,
    /// Bytes that came from the store.
    pub fetched_bytes: Counter,
    /// Blocks that were at hand, verified.
    pub block_hits: Counter,
    /// Blocks that had to be fetched.
    pub block_misses: Counter,
    /// Pieces that were not what was written.
    pub damaged: Counter,
}

impl SegmentMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let all = registry.sub_registry_with_prefix("trough_segments");
        all.register("opened", "Segments opened", metrics.opened.clone());
        all.register("requests", "Requests to the store for bytes of segments", metrics.requests.clone());
        all.register("fetched_bytes", "Bytes of segments that were fetched", metrics.fetched_bytes.clone());
        all.register("block_hits", "Blocks of segments that were in memory", metrics.block_hits.clone());
        all.register(
            "block_misses",
            "Blocks of segments that had to be fetched",
            metrics.block_misses.clone(),
        );
        all.register("damaged", "Pieces of segments that were found damaged", metrics.damaged.clone());
        metrics
    }
}
