//! A segment, open for reading.

use std::sync::Arc;

use bytes::Bytes;
use trough_store::segment_catalog::Segment;

use super::format::{Device, Index, LastAt};
use super::opened::Opened;
use super::steps::{Step, Steps, Want};
use super::walk::{Span, Walk};
use super::{Rank, SegmentCache, SegmentRows, SegmentScan};
use crate::journal::{LastFrame, Order, ReadError, ScanRange};

/// A segment whose index and footer have been fetched and found good. Clones are the same.
#[derive(Clone)]
pub struct OpenSegment {
    cache: Arc<SegmentCache>,
    opened: Arc<Opened>,
}

impl OpenSegment {
    /// Opens a segment: fetches its index and the footer of its Parquet object, unless the cache has them.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`ReadError::Segment`] if either is damaged; [`ReadError::Store`] if they cannot be fetched, or are not there: then
    /// the segment may have been replaced, and a newer manifest tells.
    pub async fn open(cache: &Arc<SegmentCache>, segment: &Segment) -> Result<Self, ReadError> {
        Ok(Self { cache: cache.clone(), opened: cache.opened(segment).await? })
    }

    /// Which one it is.
    pub fn segment(&self) -> &Segment {
        &self.opened.segment
    }

    /// What it says of its devices.
    pub fn index(&self) -> &Index {
        &self.opened.index
    }

    /// What it has of a device: stretches, losses and last frames.
    pub fn device(&self, device: &str) -> Option<Device> {
        self.opened.index.find(device)
    }

    /// Reads a device's frames. Nothing is fetched before the first chunk is asked for.
    pub fn scan(&self, device: &str, range: ScanRange) -> SegmentScan {
        let order = range.order;
        let walk = Walk::of(self.opened.clone(), device, range);
        SegmentScan::new(self.steps(walk, order, Want::Frames), order)
    }

    /// Reads everything, by (device, epoch, seq).
    pub fn rows(&self) -> SegmentRows {
        let walk = Walk::whole(self.opened.clone());
        SegmentRows::new(self.steps(walk, Order::Asc, Want::Everything))
    }

    /// The frame of which [`Device::lasts`] of this device says where it is.
    ///
    /// # Errors
    /// [`ReadError::DamagedSegment`] and [`ReadError::Store`].
    pub async fn last_frame(
        &self,
        device: &str,
        last: &LastAt,
    ) -> Result<Option<(LastFrame, Rank)>, ReadError> {
        let Some(place) = self.opened.index.place(device) else { return Ok(None) };
        let LastAt { channel, epoch, seq, row } = last.clone();
        let span = Span { device: place, epoch, first: seq, count: 1, row };
        let walk = Walk::only(self.opened.clone(), span);
        let mut steps = self.steps(walk, Order::Asc, Want::Frames);
        let rows = match steps.next().await? {
            Some(Step::Rows(rows)) => rows,
            Some(Step::Lost(error)) => return Err(error),
            None => return Ok(None),
        };
        Ok(rows.iter().next().map(|row| {
            let mut bytes = Vec::new();
            row.frame.encode(&mut bytes).expect("the words and numbers of rows were checked");
            let (ts, received_at) = (row.frame.ts, row.received_at);
            let frame = LastFrame { channel, epoch, seq, ts, received_at, bytes: Bytes::from(bytes) };
            (frame, row.rank())
        }))
    }

    fn steps(&self, walk: Walk, order: Order, want: Want) -> Steps {
        Steps::new(self.cache.clone(), self.opened.clone(), walk, order, want)
    }
}
