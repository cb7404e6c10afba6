//! The live segments, for reading.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, StreamExt as _};
use tokio::runtime::Handle;
use trough_protocol::{DeviceId, Micros};
use trough_store::SegmentCatalog;
use trough_store::segment_catalog::{Manifest, Segment};

use crate::journal::ReadError;
use crate::segments::format::Device;
use crate::segments::{OpenSegment, SegmentCache};

/// Indexes fetched at a time for one read, which are in memory together.
pub(super) const FETCHING_MAX: usize = 8;

/// Which segments are live, and what was read of them.
pub struct Segments {
    catalog: Arc<dyn SegmentCatalog>,
    pub(super) cache: Arc<SegmentCache>,
    /// Where reads wait for the store and the catalog, whatever thread they are asked on.
    handle: Handle,
    known: Mutex<Option<Arc<Manifest>>>,
}

impl Segments {
    /// Reads wait on this runtime.
    pub fn new(catalog: Arc<dyn SegmentCatalog>, cache: Arc<SegmentCache>, handle: Handle) -> Arc<Self> {
        Arc::new(Self { catalog, cache, handle, known: Mutex::new(None) })
    }

    /// Waits for a future. Blocks.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }

    /// The newest manifest. Asks the catalog, which says nothing more if it is the one that is known.
    pub(super) async fn manifest(&self) -> Result<Arc<Manifest>, ReadError> {
        let known = self.known().clone();
        let news = self.catalog.manifest(known.as_ref().map(|manifest| manifest.number)).await?;
        let Some(manifest) = news.map(Arc::new) else {
            return Ok(known.unwrap_or_else(|| unreachable!("nothing is known, so the newest is news")));
        };
        let mut known = self.known();
        if known.as_ref().is_none_or(|known| known.number < manifest.number) {
            *known = Some(manifest.clone());
        }
        Ok(manifest)
    }

    /// The last manifest with which frames were removed for good.
    pub(super) async fn expired(&self) -> Result<u64, ReadError> {
        Ok(self.manifest().await?.expired)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Arc<Manifest>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live segments that may have frames or losses of a device. Blocks.
    ///
    /// With `ts` only those that may have frames with such a time stamp.
    pub(super) fn of(
        self: &Arc<Self>,
        device: &DeviceId,
        ts: Option<&RangeInclusive<Micros>>,
    ) -> Result<Live, ReadError> {
        let manifest = self.wait(self.manifest())?;
        let wants = |segment: &Segment| {
            let within = ts.is_none_or(|ts| segment.ts.1 >= *ts.start() && segment.ts.0 <= *ts.end());
            within && may_have(segment, device)
        };
        let wanted = (0..manifest.segments.len()).filter(|at| wants(&manifest.segments[*at])).collect();
        Ok(Live { segments: self.clone(), manifest, device: device.clone(), wanted })
    }
}

/// Whether a device is among those that a segment may have.
pub(super) fn may_have(segment: &Segment, device: &DeviceId) -> bool {
    let (low, high) = &segment.devices;
    low <= device && device <= high
}

/// The segments of one manifest that may have something of a device. They are as many as there are, so what a read keeps of
/// each must be small.
pub(super) struct Live {
    segments: Arc<Segments>,
    manifest: Arc<Manifest>,
    pub device: DeviceId,
    /// Their places in the manifest, rising.
    wanted: Vec<usize>,
}

impl Live {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Shows what each has of the device, with the segment's place, by (date, level, id). Of a few of them that is in memory
    /// at a time. Blocks.
    pub(super) fn each(&self, mut see: impl FnMut(usize, &Device)) -> Result<(), ReadError> {
        let find = |at: usize| {
            let (cache, segment) = (&self.segments.cache, &self.manifest.segments[at]);
            async move { (at, cache.find(segment, std::slice::from_ref(&self.device)).await) }
        };
        self.segments.wait(async {
            let mut found = stream::iter(self.wanted.iter().copied().map(find)).buffered(FETCHING_MAX);
            while let Some((at, entries)) = found.next().await {
                entries?.iter().flatten().for_each(|entry| see(at, entry));
            }
            Ok(())
        })
    }

    /// Opens the segment at this place. Blocks.
    pub(super) fn open(&self, at: usize) -> Result<OpenSegment, ReadError> {
        self.segments.wait(OpenSegment::open(&self.segments.cache, &self.manifest.segments[at]))
    }

    /// Waits for a future. Blocks.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.segments.wait(future)
    }
}
