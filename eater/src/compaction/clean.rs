//! Removing what is not needed any more, after a grace: whoever reads may have begun before.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;
use trough_protocol::Micros;
use trough_runtime::clock::micros;
use trough_store::ObjectCatalog;
use trough_store::object_catalog::{Incarnation, ROWS_MAX};
use trough_store::objects::LIST_MAX;
use trough_store::segment_catalog::{Manifest, REMOVED_MAX, SegmentId, Through};

use super::config::Journals;
use super::{CompactError, Compactor};
use crate::objects::{object_number, object_prefix};
use crate::segments::{index_key, parquet_key, segment_of_key};

/// How many times the grace an object must be old that no manifest names, to be removed: its compactor may be slow.
pub(crate) const ORPHAN_GRACES: u32 = 6;

/// What a compactor remembers of what it has to remove.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// How far journals were compacted, and since when that is known; oldest first.
    seen: Vec<(Instant, Vec<Through>)>,
    /// How far they are removed.
    removed: HashMap<Incarnation, u64>,
    /// When objects that nobody names were looked for last.
    swept: Option<Instant>,
}

impl Cleaner {
    /// Takes note of how far journals are compacted. How far they have been for longer than `grace`.
    fn due(&mut self, now: Instant, grace: std::time::Duration, through: &[Through]) -> Vec<Through> {
        if self.seen.last().is_none_or(|(_, last)| last != through) {
            self.seen.push((now, through.to_vec()));
        }
        let old = self.seen.iter().rposition(|(at, _)| now.duration_since(*at) >= grace);
        let Some(old) = old else { return Vec::new() };
        self.seen.drain(..old);
        let due = self.seen[0].1.iter().copied();
        due.filter(|due| self.removed.get(&due.incarnation).is_none_or(|n| *n < due.n)).collect()
    }
}

impl Compactor {
    /// Removes what has been replaced for long enough.
    pub(super) fn clean(&mut self, manifest: &Manifest) -> Result<(), CompactError> {
        let now = Instant::now();
        for through in self.cleaner.due(now, self.config.grace, &manifest.through) {
            match self.parts.journals.clone() {
                Journals::Local(journal) if through.incarnation == Incarnation::LOCAL => {
                    let files = journal.remove_through(through.n)?;
                    tracing::info!(files, through = through.n, "compacted journal files are removed");
                }
                Journals::Objects(catalog) if through.incarnation != Incarnation::LOCAL => {
                    self.remove_objects(&*catalog, through)?;
                }
                // Of a deployment that was moved: its journal is not ours to remove.
                _ => {}
            }
            self.cleaner.removed.insert(through.incarnation, through.n);
        }
        self.remove_segments()?;
        let pause = self.config.grace * ORPHAN_GRACES;
        if self.cleaner.swept.is_none_or(|swept| now.duration_since(swept) >= pause) {
            self.remove_orphans(manifest)?;
            self.cleaner.swept = Some(now);
        }
        Ok(())
    }

    /// Rows first: nobody must find what is not there.
    fn remove_objects(&self, catalog: &dyn ObjectCatalog, through: Through) -> Result<(), CompactError> {
        while self.wait(catalog.remove_through(through, ROWS_MAX))? > 0 {
            if self.stop.is_cancelled() {
                return Err(CompactError::Stopping);
            }
        }
        let (prefix, mut after) = (object_prefix(through.incarnation), None);
        loop {
            let page = self.wait(self.parts.store.list(&prefix, after.as_ref(), LIST_MAX))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for entry in page {
                match object_number(through.incarnation, &entry.key) {
                    Some(n) if n <= through.n => self.wait(self.parts.store.delete(&entry.key))?,
                    // They come in the order of their numbers.
                    _ => return Ok(()),
                }
            }
            if self.stop.is_cancelled() {
                return Err(CompactError::Stopping);
            }
        }
    }

    fn remove_segments(&self) -> Result<(), CompactError> {
        loop {
            let removed = self.wait(self.parts.segments.removed(REMOVED_MAX))?;
            let grace = micros(self.config.grace);
            let due = removed.iter().filter(|removed| removed.now.saturating_sub(removed.at) >= grace);
            let due: Vec<(u32, SegmentId)> = due.map(|removed| (removed.date, removed.id)).collect();
            if due.is_empty() {
                return Ok(());
            }
            for (date, id) in &due {
                self.wait(self.parts.store.delete(&parquet_key(*date, *id)))?;
                self.wait(self.parts.store.delete(&index_key(*date, *id)))?;
            }
            let ids: Vec<SegmentId> = due.into_iter().map(|(_, id)| id).collect();
            self.wait(self.parts.segments.forget(&ids))?;
        }
    }

    /// Removes old objects of segments that were never committed. Only who holds the claim does it: a compactor that
    /// slept cannot commit any more what is removed here.
    fn remove_orphans(&self, manifest: &Manifest) -> Result<(), CompactError> {
        let mut known: HashSet<SegmentId> = manifest.segments.iter().map(|segment| segment.id).collect();
        let removed = self.wait(self.parts.segments.removed(REMOVED_MAX))?;
        if removed.len() == REMOVED_MAX {
            // Too many to know them all: later.
            return Ok(());
        }
        known.extend(removed.iter().map(|removed| removed.id));
        let old = self.parts.clock.now().saturating_sub(micros(self.config.grace * ORPHAN_GRACES));
        let mut after = None;
        loop {
            let page = self.wait(self.parts.store.list("segments/", after.as_ref(), LIST_MAX))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for entry in page {
                let orphan = segment_of_key(&entry.key).filter(|id| !known.contains(id) && born(*id) <= old);
                if orphan.is_some() {
                    self.wait(self.parts.store.delete(&entry.key))?;
                    tracing::info!(key = %entry.key, "an object of a segment that was never committed is removed");
                }
            }
        }
    }
}

/// When a segment was begun, by its id (RFC 9562, section 5.7: 48 bits of milliseconds).
pub(crate) fn born(id: SegmentId) -> Micros {
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&id.0[..6]);
    u64::from_be_bytes(millis).saturating_mul(1000)
}
