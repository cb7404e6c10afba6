//! Segments that were opened, and blocks that were checked, as many as fit.

use std::sync::Arc;

use bytes::Bytes;
use trough_protocol::DeviceId;
use trough_store::ObjectStore;
use trough_store::segment_catalog::SegmentId;

use super::SegmentMetrics;
use super::format::{Device, Index};
use super::opened::Opened;
use super::weighted::Weighted;

/// What may be kept in memory of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentCacheLimits {
    /// For indexes and footers of opened segments, and for what indexes say of single devices, in bytes.
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
    /// Indexes whose footers nobody has asked for.
    pub(super) indexes: Weighted<SegmentId, Index>,
    /// What indexes say of single devices, by segment and device; `None` if it is nothing. With some hundred bytes for each
    /// segment, a reader who goes from page to page does not fetch all indexes each time.
    pub(super) entries: Weighted<(SegmentId, DeviceId), Option<Device>>,
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
            opened: Weighted::new(limits.opened_bytes_max / 2),
            indexes: Weighted::new(limits.opened_bytes_max / 4),
            entries: Weighted::new(limits.opened_bytes_max / 4),
            blocks: Weighted::new(limits.blocks_bytes_max),
            metrics,
        })
    }

    /// Bytes of what is in it, but for blocks.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.opened.bytes() + self.indexes.bytes() + self.entries.bytes()
    }

    /// What it counts.
    pub fn metrics(&self) -> &SegmentMetrics {
        &self.metrics
    }
}
