//! What lies in the store, and what of it belongs to nobody.

use std::collections::{HashMap, HashSet};

use tokio::runtime::Handle;
use trough_store::objects::LIST_MAX;
use trough_store::segment_catalog::{Manifest, REMOVED_MAX, SegmentId};
use trough_store::{ObjectKey, ObjectStore};

use super::report::{Finding, FindingKind};
use super::{Check, FsckError, SizesById};
use crate::compaction::born;
use crate::segments::{date_of_key, segment_of_key};

/// Objects of segments, and how much there is of journals.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub segments: SizesById,
    pub journal_bytes: u64,
    /// By number, rising.
    pub manifests: Vec<ObjectKey>,
    segment_keys: Vec<(SegmentId, ObjectKey)>,
    dates: HashMap<SegmentId, u32>,
}

impl Listing {
    pub(super) fn take(store: &dyn ObjectStore, handle: &Handle) -> Result<Self, FsckError> {
        let mut listing = Self::default();
        handle.block_on(each(store, "segments/", |key, bytes| {
            let Some(id) = segment_of_key(&key) else { return };
            let sizes = listing.segments.entry(id).or_default();
            let place = if key.as_str().ends_with(".idx") { &mut sizes.index } else { &mut sizes.parquet };
            *place = Some(bytes);
            if let Some(date) = date_of_key(&key) {
                listing.dates.insert(id, date);
            }
            listing.segment_keys.push((id, key));
        }))?;
        handle.block_on(each(store, "journal/", |_, bytes| listing.journal_bytes += bytes))?;
        handle.block_on(each(store, "manifests/", |key, _| listing.manifests.push(key)))?;
        Ok(listing)
    }

    /// The day under which a segment lies.
    pub(super) fn date_of(&self, id: SegmentId) -> Option<u32> {
        self.dates.get(&id).copied()
    }

    /// Bytes of the objects of live segments.
    pub(super) fn bytes_of(&self, manifest: &Manifest) -> u64 {
        manifest.segments.iter().map(|segment| segment.bytes + segment.index_bytes).sum()
    }
}

/// Calls `take` with every object under a prefix.
pub(super) async fn each(
    store: &dyn ObjectStore,
    prefix: &str,
    mut take: impl FnMut(ObjectKey, u64),
) -> Result<(), FsckError> {
    let mut after = None;
    loop {
        let page = store.list(prefix, after.as_ref(), LIST_MAX).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        page.into_iter().for_each(|entry| take(entry.key, entry.bytes));
    }
}

impl Check<'_> {
    /// Old objects of segments that are not live and were not replaced lately.
    pub(super) fn find_orphans(&mut self, listing: &Listing) -> Result<(), FsckError> {
        // In this order: what is replaced meanwhile is in both.
        let manifest = self.manifest()?;
        let removed = self.wait(self.parts.segments.removed(REMOVED_MAX))?;
        if removed.len() == REMOVED_MAX {
            // Too many to know them all; compaction, which waits for the same, will have removed them some time.
            return Ok(());
        }
        let mut known: HashSet<SegmentId> = manifest.segments.iter().map(|segment| segment.id).collect();
        known.extend(removed.iter().map(|removed| removed.id));
        let old = self.old();
        for (id, key) in &listing.segment_keys {
            if !known.contains(id) && born(*id) <= old && self.is_there(key)? {
                let finding = Finding::new(FindingKind::Orphan, key)
                    .saw("a segment that the catalog knows", "one that was never committed or was forgotten")
                    .remedy("none is needed: compaction removes it while a server runs");
                self.report.findings.push(finding);
            }
        }
        Ok(())
    }
}
