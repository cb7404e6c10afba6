//! Checking storage: whether what the catalogs name is there, and is what was written.
//!
//! A check changes nothing, and may run beside those who write. What it finds is looked at again before it is told: it may
//! have been replaced or removed meanwhile by whoever has a right to. It holds one segment or one journal object in memory.
//!
//! - [`segment`]: the two objects of a segment, byte by byte and row by row ([`rows`]). [`overlaps`]: segments among each other.
//! - [`objects`] and [`local`]: journals. [`manifests`]: what others read. [`listing`]: what nobody names.
//! - [`report`]: what is found. [`mod@rebuild`]: catalogs that were lost are made again.

mod held;
mod listing;
mod local;
mod manifests;
mod objects;
mod overlaps;
mod rebuild;
mod report;
mod rows;
mod segment;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use trough_protocol::Micros;
use trough_runtime::clock::{Clock, micros};
use trough_store::objects::ObjectError;
use trough_store::segment_catalog::{Manifest, Segment};
use trough_store::{Catalog, CatalogError, ObjectCatalog, ObjectKey, ObjectStore, SegmentCatalog};

use crate::compaction::ORPHAN_GRACES;
use crate::journal::{JournalError, ReadError};
use crate::segments::{SegmentCache, SegmentCacheLimits, SegmentMetrics};
use listing::Listing;
pub use rebuild::{RebuildError, RebuildOptions, Rebuilt, rebuild};
pub use report::{Finding, FindingKind, LostFrames, Report, Totals};

/// What is kept of segments while they are checked: each is read once.
const CACHE: SegmentCacheLimits =
    SegmentCacheLimits { opened_bytes_max: 32 * 1024 * 1024, blocks_bytes_max: 1024 * 1024 };

/// What is checked.
pub struct FsckParts {
    /// Where segments lie, and journal objects.
    pub store: Arc<dyn ObjectStore>,
    /// Which segments are live.
    pub segments: Arc<dyn SegmentCatalog>,
    /// What is not compacted yet.
    pub journals: JournalParts,
    /// How long what was replaced is kept ([`crate::compaction::CompactionConfig::grace`]): what nobody names is an orphan
    /// only when it is much older.
    pub grace: Duration,
    /// For what is old.
    pub clock: Clock,
}

/// Journals, and what is said of them.
#[derive(Clone)]
pub enum JournalParts {
    /// Files of this machine.
    Local {
        /// Where they are.
        dir: PathBuf,
        /// Which of them are sealed.
        catalog: Arc<dyn Catalog>,
    },
    /// Objects in the store of the segments.
    Objects(Arc<dyn ObjectCatalog>),
}

/// It cannot be told whether storage is whole.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The object store does not answer, or refuses.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// A catalog does not answer, or refuses.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The local journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Something cannot be read for another reason than damage.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// How far it has come: bytes that were checked, of how many there were in the beginning.
pub type OnProgress<'a> = &'a mut dyn FnMut(u64, u64);

/// Checks everything. Blocks; it waits for stores and catalogs on the runtime of `handle`.
///
/// # Errors
/// [`FsckError`] if it cannot be told.
pub fn check(parts: FsckParts, handle: Handle, progress: OnProgress<'_>) -> Result<Report, FsckError> {
    let cache = SegmentCache::new(parts.store.clone(), CACHE, SegmentMetrics::default());
    let mut check = Check { parts, handle, cache, progress, done: 0, total: 0, report: Report::default() };
    check.run()?;
    Ok(check.report)
}

/// A check that is going on.
struct Check<'a> {
    parts: FsckParts,
    handle: Handle,
    cache: Arc<SegmentCache>,
    progress: OnProgress<'a>,
    done: u64,
    total: u64,
    report: Report,
}

impl Check<'_> {
    fn run(&mut self) -> Result<(), FsckError> {
        // In this order: what is committed or entered after the listing is in the store, though not in the list.
        let listing = Listing::take(&*self.parts.store, &self.handle)?;
        let manifest = self.manifest()?;
        self.total = listing.bytes_of(&manifest) + self.journal_bytes(&listing);
        self.check_manifests(&listing, &manifest)?;
        let mut whole = Vec::new();
        for segment in &manifest.segments {
            let sizes = listing.segments.get(&segment.id).copied().unwrap_or_default();
            if self.check_segment(segment, sizes)? {
                whole.push(segment.clone());
            }
        }
        self.check_overlaps(&whole)?;
        match self.parts.journals.clone() {
            JournalParts::Local { dir, catalog } => self.check_local(&dir, &catalog)?,
            JournalParts::Objects(catalog) => self.check_objects(&*catalog)?,
        }
        self.find_orphans(&listing)
    }

    fn journal_bytes(&self, listing: &Listing) -> u64 {
        match &self.parts.journals {
            JournalParts::Local { dir, .. } => crate::journal::bytes_in(dir),
            JournalParts::Objects(_) => listing.journal_bytes,
        }
    }

    fn manifest(&self) -> Result<Manifest, FsckError> {
        let manifest = self.wait(self.parts.segments.manifest(None))?;
        Ok(manifest.unwrap_or_else(|| unreachable!("nothing is known, so the newest is news")))
    }

    /// Whether a segment is still live: what was replaced may be gone.
    fn is_live(&self, segment: &Segment) -> Result<bool, FsckError> {
        Ok(self.manifest()?.segments.iter().any(|live| live.id == segment.id))
    }

    fn is_there(&self, key: &ObjectKey) -> Result<bool, FsckError> {
        let found = self.wait(self.parts.store.list(key.as_str(), None, 1))?;
        Ok(found.first().is_some_and(|entry| entry.key == *key))
    }

    /// What is not named and older than this belongs to nobody who is still at work.
    fn old(&self) -> Micros {
        self.parts.clock.now().saturating_sub(micros(self.parts.grace * ORPHAN_GRACES))
    }

    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        self.total = self.total.max(self.done);
        (self.progress)(self.done, self.total);
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }
}

/// Sizes of a segment's objects, as the store lists them.
#[derive(Debug, Clone, Copy, Default)]
struct Sizes {
    parquet: Option<u64>,
    index: Option<u64>,
}

/// Those of all segments that lie in the store.
type SizesById = HashMap<trough_store::segment_catalog::SegmentId, Sizes>;
