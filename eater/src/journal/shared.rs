//! What the committer, the background thread and readers have in common.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use trough_protocol::{Epoch, Seq};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;

use super::catalog::CatalogLink;
use super::config::JournalConfig;
use super::disk::Disk;
use super::error::ReadError;
use super::handles::Handles;
use super::index::{Extent, Index, Way};
use super::last_frames::LastCache;
use super::metrics::JournalMetrics;
use super::names;
use super::queue::Queue;
use super::run::{Key, Located, Run};
use super::table::TableError;
use super::work::Work;
use crate::doorbell::Doorbell;

/// The part of health that the journal speaks for.
pub(super) const PART: &str = "journal";
/// Most runs looked at to find copies of one run.
const COPIES_MAX: usize = 16 * 1024;

pub(super) struct Shared {
    pub config: JournalConfig,
    pub disk: Arc<dyn Disk>,
    pub handles: Handles,
    pub index: RwLock<Index>,
    pub queue: Queue,
    pub work: Work,
    /// Sealed files that the catalog does not know yet.
    pub unrecorded: Mutex<BTreeSet<u64>>,
    pub last_cache: LastCache,
    pub catalog: CatalogLink,
    pub clock: Clock,
    pub health: Health,
    pub metrics: JournalMetrics,
    pub doorbell: Option<Doorbell>,
}

impl Shared {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of a device's epoch; asks sealed files for one that was long forgotten.
    pub(super) fn head(&self, device: &str, epoch: Epoch) -> Seq {
        let in_memory = self.read().head(device, epoch);
        in_memory.unwrap_or_else(|()| self.sealed_head(device, epoch))
    }

    /// The head that sealed files give an epoch which is not in memory.
    pub(super) fn sealed_head(&self, device: &str, epoch: Epoch) -> Seq {
        let sealed: Vec<u64> = self.read().sealed.iter().map(|file| file.file_id).collect();
        let mut spans = Vec::new();
        for file in sealed {
            match self.handles.table(file).and_then(|table| table.spans(device, epoch)) {
                Ok(found) => spans.extend(found),
                Err(error) => {
                    // A head that is too low makes a device send again what is durable, which does no harm.
                    let error = self.index_error(file, error);
                    tracing::error!(device, %epoch, %error, "the head of an old epoch may be too low");
                }
            }
        }
        spans.sort_unstable();
        spans.into_iter().fold(
            Seq::ZERO,
            |head, (first, last)| {
                if first.0 <= head.0 + 1 { head.max(last) } else { head }
            },
        )
    }

    /// Where a device's frames are, by file, and where the durable part of the journal ends now.
    pub(super) fn extents(&self, device: &str) -> Result<(Vec<Extent>, (u64, u64)), ReadError> {
        let (in_memory, sealed, end) = {
            let index = self.read();
            if index.devices.number(device).is_none() {
                return Ok((Vec::new(), index.end));
            }
            let sealed: Vec<u64> = index.sealed.iter().map(|file| file.file_id).collect();
            (index.extents(device), sealed, index.end)
        };
        let mut extents = Vec::with_capacity(in_memory.len());
        for file in sealed {
            extents.extend(self.sealed_extent(device, file)?);
        }
        extents.extend(in_memory);
        Ok((extents, end))
    }

    /// Where a device's frames are in one file; `None` if it has none, or is not there.
    pub(super) fn extent_in(&self, device: &str, file: u64) -> Result<Option<Extent>, ReadError> {
        let (in_memory, sealed) = {
            let index = self.read();
            (index.extents(device), index.sealed.iter().any(|sealed| sealed.file_id == file))
        };
        match in_memory.into_iter().find(|extent| extent.file == file) {
            None if sealed => self.sealed_extent(device, file),
            found => Ok(found),
        }
    }

    fn sealed_extent(&self, device: &str, file: u64) -> Result<Option<Extent>, ReadError> {
        let found = self.handles.table(file).and_then(|table| table.find(device));
        let entry = found.map_err(|error| self.index_error(file, error))?;
        Ok(entry.filter(|entry| entry.frame_runs > 0).map(|entry| Extent {
            file,
            low: entry.low_key(),
            high: entry.high_key(),
            span: entry.span,
            ts: entry.ts,
        }))
    }

    /// Where a device's numbers without frames are, and where the durable part of the journal ends now.
    pub(super) fn gap_extents(&self, device: &str) -> Result<(Vec<Extent>, (u64, u64)), ReadError> {
        let (in_memory, sealed, end) = {
            let index = self.read();
            let sealed: Vec<u64> = index.sealed.iter().map(|file| file.file_id).collect();
            (index.files_with_gaps(device), sealed, index.end)
        };
        let mut files = Vec::new();
        for file in sealed {
            let found = self.handles.table(file).and_then(|table| table.find(device));
            if found.map_err(|error| self.index_error(file, error))?.is_some_and(|entry| entry.gap_runs > 0) {
                files.push(file);
            }
        }
        let whole = |file| Extent { file, low: Key::MIN, high: Key::MAX, span: 0, ts: (0, u64::MAX) };
        Ok((files.into_iter().chain(in_memory).map(whole).collect(), end))
    }

    /// A page of a device's runs in one file, wherever its index is now.
    pub(super) fn page(
        &self,
        file: u64,
        device: &str,
        way: Way,
        limit: usize,
    ) -> Result<Vec<Run>, ReadError> {
        if let Some(runs) = self.read().page(file, device, way, limit) {
            return Ok(runs);
        }
        let from_table = || {
            let table = self.handles.table(file)?;
            let Some(entry) = table.find(device)? else { return Ok(Vec::new()) };
            match way {
                Way::Rising(from) => table.rising(&entry, from, limit),
                Way::Falling(below) => table.falling(&entry, below, limit),
                Way::Gaps(from) => table.gaps(&entry, from, limit),
                // It was sealed meanwhile, so its index has the last frames.
                Way::Since(_) => Ok(Vec::new()),
            }
        };
        from_table().map_err(|error| self.index_error(file, error))
    }

    /// The runs of frames in `extents` that have one of the numbers from `first` to `last`, but for those in
    /// `excluded` and those that came at `before` or later. By key; at most [`COPIES_MAX`].
    pub(super) fn overlapping(
        &self,
        device: &str,
        extents: &[Extent],
        epoch: Epoch,
        (first, last): (Seq, Seq),
        before: (u64, u64),
        excluded: &HashSet<(u64, u32)>,
    ) -> Result<Vec<Located>, ReadError> {
        let mut found = Vec::new();
        for extent in extents {
            let start = Seq((first.0 + 1).saturating_sub(extent.span));
            let mut from = Key::before(epoch, start);
            if extent.file > before.0 || extent.high < from || extent.low > Key::before(epoch, last.next()) {
                continue;
            }
            'file: loop {
                let page = self.page(extent.file, device, Way::Rising(from), 256)?;
                let Some(end) = page.last() else { break };
                from = end.key().behind();
                for run in page {
                    if run.epoch != epoch || run.first > last || found.len() >= COPIES_MAX {
                        break 'file;
                    }
                    let located = Located { file: extent.file, run };
                    let earlier = (extent.file, u64::from(run.offset)) < before;
                    if run.last() >= first && earlier && !excluded.contains(&located.position()) {
                        found.push(located);
                    }
                }
            }
        }
        found.sort_unstable_by_key(|located| (located.run.key(), located.file));
        Ok(found)
    }

    pub(super) fn index_error(&self, file: u64, error: TableError) -> ReadError {
        match error {
            TableError::Io(source) => ReadError::Io { file: self.disk.path_of(&names::index(file)), source },
            TableError::Damaged(found) => {
                ReadError::Index { file: self.disk.path_of(&names::index(file)), found }
            }
        }
    }

    pub(super) fn read_error(&self, file: u64, source: io::Error) -> ReadError {
        ReadError::Io { file: self.disk.path_of(&names::journal(file)), source }
    }
}
