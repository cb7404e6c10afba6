//! What segments have of some devices, by their indexes alone.

use trough_protocol::DeviceId;
use trough_store::segment_catalog::Segment;

use super::SegmentCache;
use super::format::{Device, Index};
use crate::journal::ReadError;

/// What is known of single devices is kept if it is not larger: most have a few hundred bytes in a segment.
const ENTRY_BYTES_MAX: usize = 64 * 1024;
/// It is not kept if more devices are asked for at once: they would drive out each other.
const DEVICES_KEPT_MAX: usize = 16;

impl SegmentCache {
    /// What a segment has of each of these devices: stretches, losses and last frames, in memory of their own. Fetches its
    /// index, unless that is known.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`ReadError::Segment`] if the index is damaged; [`ReadError::Store`] if it cannot be fetched, or is not there.
    pub(crate) async fn find(
        &self,
        segment: &Segment,
        devices: &[DeviceId],
    ) -> Result<Vec<Option<Device>>, ReadError> {
        let known = |device: &DeviceId| self.entries.get(&(segment.id, device.clone()));
        if let Some(found) = devices.iter().map(known).collect() {
            return Ok(found);
        }
        let index = self.index(segment).await?;
        let mut found = Vec::with_capacity(devices.len());
        for device in devices {
            // A part of the index would keep all of it in memory.
            let entry = index.find(device.as_str()).map(|entry| entry.detached());
            let bytes = entry.as_ref().map_or(0, Device::bytes);
            if bytes <= ENTRY_BYTES_MAX && devices.len() <= DEVICES_KEPT_MAX {
                self.entries.put((segment.id, device.clone()), entry.clone(), bytes + 256);
            }
            found.push(entry);
        }
        Ok(found)
    }

    async fn index(&self, segment: &Segment) -> Result<Index, ReadError> {
        if let Some(opened) = self.opened.get(&segment.id) {
            return Ok(opened.index.clone());
        }
        if let Some(index) = self.indexes.get(&segment.id) {
            return Ok(index);
        }
        let index = self.fetched_index(segment).await.inspect_err(|error| {
            if let ReadError::Segment { .. } = error {
                self.metrics.damaged.inc();
            }
        })?;
        self.indexes.put(segment.id, index.clone(), index.bytes().len() + 256);
        Ok(index)
    }
}
