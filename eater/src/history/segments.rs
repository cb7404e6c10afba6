//! The live segments, for reading.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::segment_catalog::{Manifest, Segment};
use trough_store::{DeviceState, SegmentCatalog};

use crate::journal::ReadError;
use crate::segments::{OpenSegment, SegmentCache};

/// Segments opened at a time for one read.
const OPENING_MAX: usize = 8;
/// Most segments that one read may need: their indexes are in memory for as long as it takes.
const SEGMENTS_MAX: usize = 10_000;

/// Which segments are live, and what was read of them.
pub struct Segments {
    catalog: Arc<dyn SegmentCatalog>,
    cache: Arc<SegmentCache>,
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
    async fn manifest(&self) -> Result<Arc<Manifest>, ReadError> {
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

    /// The live segments that may have frames or losses of a device, opened, by (date, level, id). Blocks.
    ///
    /// With `ts` only those that may have frames with such a time stamp.
    pub(super) fn of(
        &self,
        device: &DeviceId,
        ts: Option<&RangeInclusive<Micros>>,
    ) -> Result<Vec<OpenSegment>, ReadError> {
        self.wait(async { self.open(&*self.manifest().await?, device, ts).await })
    }

    async fn open(
        &self,
        manifest: &Manifest,
        device: &DeviceId,
        ts: Option<&RangeInclusive<Micros>>,
    ) -> Result<Vec<OpenSegment>, ReadError> {
        let has = |segment: &&Segment| {
            let (low, high) = &segment.devices;
            let within = ts.is_none_or(|ts| segment.ts.1 >= *ts.start() && segment.ts.0 <= *ts.end());
            low <= device && device <= high && within
        };
        let wanted: Vec<Segment> = manifest.segments.iter().filter(has).cloned().collect();
        if wanted.len() > SEGMENTS_MAX {
            return Err(ReadError::TooManyObjects { objects: wanted.len() });
        }
        let mut opened: Vec<Option<OpenSegment>> = vec![None; wanted.len()];
        let (mut wanted, mut opening) = (wanted.into_iter().enumerate(), JoinSet::new());
        loop {
            while opening.len() < OPENING_MAX
                && let Some((at, segment)) = wanted.next()
            {
                let cache = self.cache.clone();
                opening.spawn(async move { (at, OpenSegment::open(&cache, &segment).await) });
            }
            match opening.join_next().await {
                Some(Ok((at, segment))) => opened[at] = Some(segment?),
                Some(Err(error)) => return Err(ReadError::Broken(error.to_string())),
                None => break,
            }
        }
        let has = |segment: &OpenSegment| segment.device(device.as_str()).is_some();
        Ok(opened.into_iter().flatten().filter(has).collect())
    }

    /// What segments know of some devices; `None` for one of which they have nothing. Asks for the manifest once,
    /// however many devices there are. Blocks.
    pub(super) fn states(&self, devices: &[&DeviceId]) -> Result<Vec<Option<DeviceState>>, ReadError> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        self.wait(async {
            let manifest = self.manifest().await?;
            let mut states = Vec::with_capacity(devices.len());
            for device in devices {
                states.push(state(device, &self.open(&manifest, device, None).await?));
            }
            Ok(states)
        })
    }
}

/// What these segments know of a device.
fn state(device: &DeviceId, opened: &[OpenSegment]) -> Option<DeviceState> {
    let mut heads: BTreeMap<Epoch, Seq> = BTreeMap::new();
    let (mut frames, mut last_received, mut newest) = (0, 0, (Epoch(0), Seq::ZERO, 0));
    for found in opened.iter().filter_map(|segment| segment.device(device.as_str())) {
        for stretch in found.stretches() {
            frames += u64::from(stretch.count);
            last_received = stretch.received.1.max(last_received);
            newest = newest.max((stretch.epoch, stretch.last(), stretch.ts.1));
            let head = heads.entry(stretch.epoch).or_default();
            *head = stretch.last().max(*head);
        }
        for loss in found.losses() {
            last_received = loss.received_at.max(last_received);
            let head = heads.entry(loss.epoch).or_default();
            *head = loss.last.max(*head);
        }
    }
    let (device, last_ts) = (device.clone(), newest.2);
    let heads: Vec<_> = heads.into_iter().collect();
    (!heads.is_empty()).then_some(DeviceState { device, heads, frames, last_received, last_ts })
}
