//! The catalog, asked from threads that may block.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::{Catalog, CatalogError, ChannelLast, DeviceState, DeviceSummary, SealedFile};

use super::table::{LastAt, Table, TableError};

/// How many devices are asked for at once.
const PAGE_DEVICES: usize = 1000;

/// The catalog and a small runtime for its futures, which must not depend on the caller's.
pub(super) struct CatalogLink {
    catalog: Arc<dyn Catalog>,
    runtime: Option<Runtime>,
}

impl CatalogLink {
    pub(super) fn new(catalog: Arc<dyn Catalog>) -> std::io::Result<Self> {
        Ok(Self { catalog, runtime: Some(Builder::new_current_thread().enable_time().build()?) })
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is taken only on drop").block_on(future)
    }

    /// All files it knows, by id.
    pub(super) fn files(&self) -> Result<Vec<SealedFile>, CatalogError> {
        self.wait(self.catalog.files())
    }

    /// Calls `visit` with what it knows of each device.
    pub(super) fn each_device(&self, mut visit: impl FnMut(&DeviceState)) -> Result<(), CatalogError> {
        let mut after: Option<DeviceId> = None;
        loop {
            let page = self.wait(self.catalog.device_states(after.clone(), PAGE_DEVICES))?;
            let Some(last) = page.last() else { return Ok(()) };
            page.iter().for_each(&mut visit);
            after = Some(last.device.clone());
        }
    }

    /// The last frame of each channel in the files it knows.
    pub(super) fn channels(&self, device: &DeviceId) -> Result<Vec<ChannelLast>, CatalogError> {
        self.wait(self.catalog.device_channels(device))
    }

    pub(super) fn clear(&self) -> Result<(), CatalogError> {
        self.wait(self.catalog.clear())
    }

    pub(super) fn remove(&self, files: &[u64]) -> Result<(), CatalogError> {
        self.wait(self.catalog.remove_files(files))
    }

    pub(super) fn record(&self, file: SealedFile, devices: Vec<DeviceSummary>) -> Result<(), CatalogError> {
        self.wait(self.catalog.record_sealed(file, devices))
    }
}

impl Drop for CatalogLink {
    fn drop(&mut self) {
        // The last handle of a journal may be dropped by a task, where waiting for a runtime's end panics.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the catalog is to know of a sealed file. `head` gives a device's head as far as it is in memory: a file
/// may have numbers behind a hole, which must not be taken for a head.
pub(super) fn summaries(
    table: &Table,
    mut head: impl FnMut(&DeviceId, Epoch) -> Option<Seq>,
) -> Result<Vec<DeviceSummary>, TableError> {
    let file_id = table.header().facts.file_id;
    let mut devices = Vec::new();
    table.each(|entry| {
        let mut heads: Vec<(Epoch, Seq)> = Vec::new();
        for (epoch, _, last) in &entry.spans {
            let head = head(&entry.device, *epoch).map_or(*last, |head| head.min(*last));
            match heads.last_mut() {
                Some((known, seq)) if known == epoch => *seq = head.max(*seq),
                _ if head > Seq::ZERO => heads.push((*epoch, head)),
                _ => {}
            }
        }
        devices.push(DeviceSummary {
            device: entry.device,
            heads,
            frames: entry.fresh,
            last_received: entry.last_received,
            last_ts: entry.last_ts,
            channels: entry.channels.into_iter().map(|last| channel_last(file_id, last)).collect(),
        });
    })?;
    Ok(devices)
}

/// A channel's last frame, as the catalog has it.
pub(super) fn channel_last(file_id: u64, last: LastAt) -> ChannelLast {
    ChannelLast {
        channel: last.channel,
        epoch: last.epoch,
        seq: last.seq,
        ts: last.ts,
        received_at: last.received_at,
        file_id,
        offset: last.offset.into(),
        len: last.len,
    }
}
