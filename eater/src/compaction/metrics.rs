//! What compaction counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use trough_runtime::metrics::Registry;

/// Metrics, all named `trough_compaction_…`. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct CompactionMetrics {
    /// Steps made.
    pub steps: Counter,
    /// Passes that failed.
    pub failures: Counter,
    /// Frames written to segments, each time they are.
    pub frames: Counter,
    /// Bytes of segments written.
    pub bytes: Counter,
    /// Copies of frames that were left out, as another counts.
    pub repeated: Counter,
    /// Copies that differ from the one that counts.
    pub conflicts: Counter,
    /// Frames that have expired and were removed.
    pub expired_frames: Counter,
    /// About how many bytes these took.
    pub expired_bytes: Counter,
    /// Live segments.
    pub segments: Gauge,
}

impl CompactionMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let all = registry.sub_registry_with_prefix("trough_compaction");
        all.register("steps", "Steps of compaction", metrics.steps.clone());
        all.register("failures", "Passes of compaction that failed", metrics.failures.clone());
        all.register("frames", "Frames written to segments", metrics.frames.clone());
        all.register("bytes", "Bytes of segments written", metrics.bytes.clone());
        all.register("repeated", "Copies of frames left out", metrics.repeated.clone());
        all.register(
            "conflicts",
            "Copies of frames that differ from the one that counts",
            metrics.conflicts.clone(),
        );
        all.register("expired_frames", "Expired frames removed", metrics.expired_frames.clone());
        all.register("expired_bytes", "Bytes that these took, about", metrics.expired_bytes.clone());
        all.register("segments", "Live segments", metrics.segments.clone());
        metrics
    }
}
