//! What a journal counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use trough_runtime::metrics::Registry;

/// A journal's metrics, all named `trough_journal_…`. Clones share them.
#[derive(Debug, Clone)]
pub struct JournalMetrics {
    /// Commit groups that became durable, markers not among them.
    pub groups: Counter,
    /// Batches in them.
    pub batches: Counter,
    /// Frames in them, as the directories count them; copies included.
    pub frames: Counter,
    /// Bytes of them.
    pub bytes: Counter,
    /// Bytes of files and their indexes that were read, for readers and for compaction.
    pub read_bytes: Counter,
    /// How long fdatasync took, in seconds.
    pub sync_seconds: Histogram,
    /// Batches in a group.
    pub group_batches: Histogram,
    /// Frames that came again with the same bytes.
    pub duplicates: Counter,
    /// Frames that came again with other bytes. Each is a fault of a device or of a token used twice.
    pub conflicts: Counter,
    /// Frames that came again and were not compared, as too many waited.
    pub unchecked: Counter,
    /// Commits that failed: a write, an fdatasync, or a new file.
    pub failures: Counter,
    /// Journal files, sealed or not.
    pub files: Gauge,
    /// Bytes of batches that wait for their commit.
    pub queued_bytes: Gauge,
    /// Bytes of index kept in memory for files that are not sealed yet.
    pub index_bytes: Gauge,
    /// 1 while nothing can be stored.
    pub degraded: Gauge,
}

impl JournalMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            groups: Counter::default(),
            batches: Counter::default(),
            frames: Counter::default(),
            bytes: Counter::default(),
            read_bytes: Counter::default(),
            // 50 µs to 1.6 s
            sync_seconds: Histogram::new(exponential_buckets(50e-6, 2.0, 16)),
            group_batches: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            duplicates: Counter::default(),
            conflicts: Counter::default(),
            unchecked: Counter::default(),
            failures: Counter::default(),
            files: Gauge::default(),
            queued_bytes: Gauge::default(),
            index_bytes: Gauge::default(),
            degraded: Gauge::default(),
        };
        let all = registry.sub_registry_with_prefix("trough_journal");
        all.register("groups", "Commit groups made durable", metrics.groups.clone());
        all.register("batches", "Batches made durable", metrics.batches.clone());
        all.register("frames", "Frames made durable, copies included", metrics.frames.clone());
        all.register("written_bytes", "Bytes made durable", metrics.bytes.clone());
        all.register("read_bytes", "Bytes of journal files and indexes read", metrics.read_bytes.clone());
        all.register("sync_seconds", "How long fdatasync took", metrics.sync_seconds.clone());
        all.register("group_batches", "Batches in a commit group", metrics.group_batches.clone());
        all.register("duplicates", "Frames that came again, with the same bytes", metrics.duplicates.clone());
        all.register("conflicts", "Frames that came again, with other bytes", metrics.conflicts.clone());
        all.register("unchecked", "Frames that came again and were not compared", metrics.unchecked.clone());
        all.register("failures", "Commits that failed", metrics.failures.clone());
        all.register("files", "Journal files", metrics.files.clone());
        all.register("queued_bytes", "Bytes that wait for their commit", metrics.queued_bytes.clone());
        all.register("index_bytes", "Bytes of index held in memory", metrics.index_bytes.clone());
        all.register("degraded", "1 while nothing can be stored", metrics.degraded.clone());
        metrics
    }
}
