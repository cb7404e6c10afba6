//! Segments that were opened, and blocks that were checked, as many as fit.

use std::sync::Arc;

use bytes::Bytes;
use trough_store::ObjectStore;
use trough_store::segment_catalog::SegmentId;

use super::SegmentMetrics;
use super::opened::Opened;
use super::weighted::Weighted;

/// What may be kept in memory of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentCacheLimits {
    /// For indexes and footers of opened segments, in bytes.
    pub opened_bytes_max: usize,
    /// For blocks that were read, in bytes.
    pub blocks_bytes_max: usize,
}

impl Default for SegmentCacheLimits {
    fn default() -> Self {
        Self { opened_bytes_max: 32 * 1024 * 1024, blocks_bytes_max: 32 * 1024 * 1024 }
    }
}

/// Through which segments are read. What is in it never grows stale: objects do not change.
pub struct SegmentCache {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) opened: Weighted<SegmentId, Arc<Opened>>,
    pub(super) blocks: Weighted<(SegmentId, u64), Bytes>,
    pub(super) metrics: SegmentMetrics,
}

impl SegmentCache {
    /// An empty one.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        limits: SegmentCacheLimits,
        metrics: SegmentMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            opened: Weighted::new(limits.opened_bytes_max),
            blocks: Weighted::new(limits.blocks_bytes_max),
            metrics,
        })
    }

    /// What it counts.
    pub fn metrics(&self) -> &SegmentMetrics {
        &self.metrics
    }
}
