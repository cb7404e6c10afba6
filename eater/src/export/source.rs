//! Frames of storage, read without a server.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::{DeviceId, Epoch, Seq};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::metrics::Registry;
use trough_runtime::random::random_bytes;
use trough_store::object_catalog::{HEADS_MAX, Incarnation, ROWS_MAX};
use trough_store::{ObjectCatalog, ObjectStore, SegmentCatalog};

use super::{ExportError, ExportRange, Exported};
use crate::frames::{AnyJournal, Frames};
use crate::fsck::{FsckError, JournalParts};
use crate::history::{History, Segments};
use crate::journal::{Chunk, Journal, JournalConfig, JournalError, JournalMetrics, ReadError, ScanRange};
use crate::objects::{ObjectJournal, ObjectMetrics, ObjectsConfig, ObjectsParts};
use crate::segments::{OpenSegment, SegmentCache, SegmentCacheLimits, SegmentMetrics};

/// Devices of the local journal asked for at a time.
const PAGE_DEVICES: usize = 1000;

/// Where frames are.
pub struct DirectParts {
    /// Where segments lie.
    pub store: Arc<dyn ObjectStore>,
    /// Which of them are live.
    pub segments: Arc<dyn SegmentCatalog>,
    /// What is not compacted yet.
    pub journals: JournalParts,
    /// The time.
    pub clock: Clock,
}

/// All frames of storage. It blocks, and waits for stores and catalogs on the runtime of its handle.
pub struct DirectSource {
    history: History,
    journal: Either,
    segments: Arc<dyn SegmentCatalog>,
    cache: Arc<SegmentCache>,
    handle: Handle,
}

enum Either {
    Local(Journal),
    Objects(Arc<dyn ObjectCatalog>),
}

impl DirectSource {
    /// Opens storage. A local journal is opened as an eater does it, and nobody else may have it open. Blocks.
    ///
    /// # Errors
    /// [`JournalError`], [`JournalError::InUse`] among them.
    pub fn open(parts: DirectParts, handle: Handle) -> Result<Self, JournalError> {
        let DirectParts { store, segments, journals, clock } = parts;
        let (any, journal): (AnyJournal, Either) = match journals {
            JournalParts::Local { dir, catalog } => {
                let manifest = handle.block_on(segments.manifest(None))?;
                let through = manifest.map_or(0, |manifest| manifest.through_of(Incarnation::LOCAL));
                let config = JournalConfig { compacted_through: through, ..JournalConfig::new(dir) };
                let metrics = JournalMetrics::register(&mut Registry::default());
                let parts = crate::journal::JournalParts {
                    clock,
                    catalog,
                    health: Health::new(),
                    metrics,
                    doorbell: None,
                };
                let (journal, _) = Journal::open(config, parts)?;
                (Arc::new(journal.clone()), Either::Local(journal))
            }
            JournalParts::Objects(catalog) => {
                let parts = ObjectsParts {
                    store: store.clone(),
                    catalog: catalog.clone(),
                    incarnation: Incarnation(random_bytes()),
                    clock,
                    health: Health::new(),
                    journal_metrics: JournalMetrics::register(&mut Registry::default()),
                    metrics: ObjectMetrics::register(&mut Registry::default()),
                    doorbell: None,
                    killed: CancellationToken::new(),
                };
                // It only reads: eaters look after each other.
                let config =
                    ObjectsConfig { sweep_every: std::time::Duration::MAX / 4, ..ObjectsConfig::default() };
                let _inside = handle.enter();
                (Arc::new(ObjectJournal::open(config, parts)), Either::Objects(catalog))
            }
        };
        let cache = SegmentCache::new(store, SegmentCacheLimits::default(), SegmentMetrics::default());
        let live = Segments::new(segments.clone(), cache.clone(), handle.clone());
        Ok(Self { history: History::new(any, live), journal, segments, cache, handle })
    }

    /// Everybody who has frames, by id.
    ///
    /// # Errors
    /// [`FsckError`], as nothing else can go wrong than with a check.
    pub fn devices(&self) -> Result<BTreeSet<DeviceId>, FsckError> {
        let mut devices = BTreeSet::new();
        let manifest = match &self.journal {
            Either::Local(journal) => {
                let mut after: Option<DeviceId> = None;
                loop {
                    let page = journal.devices_seen(after.as_ref().map(DeviceId::as_str), PAGE_DEVICES);
                    let Some(last) = page.last() else { break };
                    after = Some(last.device.clone());
                    devices.extend(page.into_iter().map(|state| state.device));
                }
                self.handle.block_on(self.segments.manifest(None))?
            }
            Either::Objects(catalog) => {
                self.noted(&**catalog, &mut devices)?;
                self.handle.block_on(self.segments.manifest(None))?
            }
        };
        for segment in manifest.into_iter().flat_map(|manifest| manifest.segments) {
            let opened = self.handle.block_on(OpenSegment::open(&self.cache, &segment))?;
            devices.extend(opened.index().devices().map(|device| device.id()));
        }
        Ok(devices)
    }

    /// Those that the catalog of objects knows: by their heads, and by rows that are newer.
    fn noted(&self, catalog: &dyn ObjectCatalog, devices: &mut BTreeSet<DeviceId>) -> Result<(), FsckError> {
        let mut after = None;
        loop {
            let page = self.handle.block_on(catalog.device_heads(after, HEADS_MAX))?;
            after = page.last().map(|head| head.device.clone());
            if after.is_none() {
                break;
            }
            devices.extend(page.into_iter().map(|head| head.device));
        }
        for state in self.handle.block_on(catalog.incarnations())? {
            let mut after = 0;
            loop {
                let rows = self.handle.block_on(catalog.rows(state.incarnation, after, ROWS_MAX))?;
                let Some(last) = rows.last() else { break };
                after = last.id.n;
                devices.extend(rows.into_iter().flat_map(|row| row.spans).map(|span| span.device));
            }
        }
        Ok(())
    }

    /// Gives a device's frames behind a place to `take`, each once, in order. What is damaged is given to `lost`, which
    /// says whether to go on.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn frames(
        &self,
        device: &DeviceId,
        after: (u64, u64),
        range: &ExportRange,
        mut take: impl FnMut(&Exported<'_>) -> Result<(), ExportError>,
        mut lost: impl FnMut(ReadError) -> Result<(), ReadError>,
    ) -> Result<(), ExportError> {
        let after = (after != (0, 0)).then_some((Epoch(after.0), Seq(after.1)));
        let scan = ScanRange { after, ts: range.ts.clone(), ..ScanRange::default() };
        for chunk in self.history.scan(device, scan) {
            match chunk {
                Ok(chunk) => give(device, &chunk, range, &mut take)?,
                Err(error) if error.lost().is_some() => lost(error)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn give(
    device: &DeviceId,
    chunk: &Chunk,
    range: &ExportRange,
    take: &mut impl FnMut(&Exported<'_>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut rest = &chunk.bytes[..];
    let Chunk { epoch, received_at, .. } = *chunk;
    for seq in (chunk.first.0..=chunk.last().0).map(Seq) {
        let device = device.as_str();
        let frame = FrameRef::decode(&mut rest, FRAME_BYTES_MAX).map_err(|error| ExportError::Frame {
            device: device.to_owned(),
            epoch,
            seq,
            found: error.to_string(),
        })?;
        if range.wants(&frame) {
            take(&Exported { device, epoch, seq, received_at, frame })?;
        }
    }
    Ok(())
}
