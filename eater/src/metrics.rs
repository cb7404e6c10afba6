//! What an eater counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::api::ApiMetrics;
use crate::compaction::CompactionMetrics;
use crate::journal::JournalMetrics;
use crate::objects::ObjectMetrics;
use crate::segments::SegmentMetrics;
use crate::watch::WatchMetrics;

/// The metrics of ingest. Cloning is cheap: clones count together.
#[derive(Debug, Clone, Default)]
pub struct IngestMetrics {
    /// Open links.
    pub links: Gauge,
    /// Bytes of batches that wait for their commit.
    pub waiting_bytes: Gauge,
    /// Bytes that all links together may have waiting.
    pub budget_bytes: Gauge,
    /// Batches refused.
    pub batches_rejected: Counter,
}

impl IngestMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let r = registry.sub_registry_with_prefix("trough_eater");
        r.register("links", "Open links from feeders", metrics.links.clone());
        r.register(
            "waiting_bytes",
            "Bytes of batches that wait for their commit",
            metrics.waiting_bytes.clone(),
        );
        r.register("budget_bytes", "Bytes that may wait over all links", metrics.budget_bytes.clone());
        r.register("batches_rejected", "Batches refused as damaged", metrics.batches_rejected.clone());
        metrics
    }
}

/// All metrics of an eater.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Links and their batches.
    pub ingest: IngestMetrics,
    /// Commits and files.
    pub journal: JournalMetrics,
    /// Objects, if that is where frames are kept.
    pub objects: ObjectMetrics,
    /// Segments that are read.
    pub segments: SegmentMetrics,
    /// Segments that are made.
    pub compaction: CompactionMetrics,
    /// Rules and events.
    pub watch: WatchMetrics,
    /// Requests of readers.
    pub api: ApiMetrics,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        Self {
            ingest: IngestMetrics::register(registry),
            journal: JournalMetrics::register(registry),
            objects: ObjectMetrics::register(registry),
            segments: SegmentMetrics::register(registry),
            compaction: CompactionMetrics::register(registry),
            watch: WatchMetrics::register(registry),
            api: ApiMetrics::register(registry),
        }
    }
}
