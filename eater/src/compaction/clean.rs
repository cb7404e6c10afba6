//! Removing what is not needed any more, after a grace: whoever reads may have begun before.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join_all;
use tokio::time::Instant;
use trough_protocol::Micros;
use trough_runtime::clock::micros;
use trough_store::object_catalog::{Incarnation, ROWS_MAX};
use trough_store::objects::LIST_MAX;
use trough_store::segment_catalog::{CommitError, Manifest, REMOVED_MAX, SegmentId, Through};
use trough_store::{ObjectCatalog, ObjectKey};

use super::config::Journals;
use super::{CompactError, Compactor};
use crate::objects::{object_number, object_prefix};
use crate::segments::{index_key, parquet_key, segment_of_key};

/// How many times the grace an object must be old that no manifest names, to be removed: its compactor may be slow.
pub(crate) const ORPHAN_GRACES: u32 = 6;

/// Objects deleted at a time.
const DELETES_MAX: usize = 16;

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
    pub(super) fn clean(&mut self, manifest: &Manifest, token: u64) -> Result<(), CompactError> {
        let now = Instant::now();
        for through in self.cleaner.due(now, self.config.grace, &manifest.through) {
            match self.parts.journals.clone() {
                Journals::Local(journal) if through.incarnation == Incarnation::LOCAL => {
                    let files = journal.remove_through(through.n)?;
                    tracing::info!(files, through = through.n, "compacted journal files are removed");
                }
                Journals::Objects(catalog) if through.incarnation != Incarnation::LOCAL => {
                    self.remove_objects(&*catalog, through, token)?;
                }
                // Of a deployment that was moved: its journal is not ours to remove.
                _ => {}
            }
            self.cleaner.removed.insert(through.incarnation, through.n);
        }
        self.remove_segments(token)?;
        let pause = self.config.grace * ORPHAN_GRACES;
        if self.cleaner.swept.is_none_or(|swept| now.duration_since(swept) >= pause) {
            self.remove_orphans(token)?;
            self.cleaner.swept = Some(now);
        }
        Ok(())
    }

    /// Rows first: nobody must find what is not there.
    fn remove_objects(
        &self,
        catalog: &dyn ObjectCatalog,
        through: Through,
        token: u64,
    ) -> Result<(), CompactError> {
        while self.wait(catalog.remove_through(through, ROWS_MAX))? > 0 {
            self.keep(token)?;
        }
        let (prefix, mut after) = (object_prefix(through.incarnation), None);
        loop {
            let page = self.wait(self.parts.store.list(&prefix, after.as_ref(), LIST_MAX))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            let listed = page.len();
            let is_due =
                |key: &ObjectKey| object_number(through.incarnation, key).is_some_and(|n| n <= through.n);
            // They come in the order of their numbers.
            let due: Vec<ObjectKey> = page.into_iter().map(|entry| entry.key).take_while(is_due).collect();
            self.delete(&due, token)?;
            if due.len() < listed {
                return Ok(());
            }
        }
    }

    fn remove_segments(&self, token: u64) -> Result<(), CompactError> {
        loop {
            let removed = self.wait(self.parts.segments.removed(REMOVED_MAX))?;
            let grace = micros(self.config.grace);
            let due = removed.iter().filter(|removed| removed.now.saturating_sub(removed.at) >= grace);
            let due: Vec<(u32, SegmentId)> = due.map(|removed| (removed.date, removed.id)).collect();
            if due.is_empty() {
                return Ok(());
            }
            let keys = due.iter().flat_map(|(date, id)| [parquet_key(*date, *id), index_key(*date, *id)]);
            self.delete(&keys.collect::<Vec<_>>(), token)?;
            let ids: Vec<SegmentId> = due.into_iter().map(|(_, id)| id).collect();
            self.wait(self.parts.segments.forget(&ids))?;
        }
    }

    /// Removes old objects of segments that were never committed. Only who holds the claim does it: a compactor that
    /// slept cannot commit any more what is removed here.
    pub(super) fn remove_orphans(&mut self, token: u64) -> Result<(), CompactError> {
        let old = self.parts.clock.now().saturating_sub(micros(self.config.grace * ORPHAN_GRACES));
        let (mut known, mut after): (Option<HashSet<SegmentId>>, _) = (None, None);
        loop {
            self.keep(token)?;
            let page = self.wait(self.parts.store.list("segments/", after.as_ref(), LIST_MAX))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            let of_segments =
                page.into_iter().filter_map(|entry| Some((segment_of_key(&entry.key)?, entry.key)));
            let mut orphans: Vec<(SegmentId, ObjectKey)> =
                of_segments.filter(|(id, _)| born(*id) <= old && !is_in(known.as_ref(), *id)).collect();
            if orphans.is_empty() {
                continue;
            }
            let Some(anew) = self.known_segments(token)? else { return Ok(()) };
            orphans.retain(|(id, _)| !anew.contains(id));
            known = Some(anew);
            for (_, key) in &orphans {
                tracing::info!(%key, "an object of a segment that was never committed is removed");
            }
            let keys: Vec<ObjectKey> = orphans.into_iter().map(|(_, key)| key).collect();
            self.delete(&keys, token)?;
        }
    }

    /// What the catalog knows of segments, asked anew: that it was lost meanwhile must cost nothing. `None` if that does
    /// not tell what was never committed.
    fn known_segments(&mut self, token: u64) -> Result<Option<HashSet<SegmentId>>, CompactError> {
        if !self.renew(token)? {
            return Err(CommitError::Fenced { token }.into());
        }
        let manifest = self.sure_manifest()?;
        let removed = self.wait(self.parts.segments.removed(REMOVED_MAX))?;
        // Before anything was committed it may be a catalog that was begun anew, beside what is left of another. And of too
        // many that were removed not all are told: later.
        if manifest.number == 0 || removed.len() == REMOVED_MAX {
            return Ok(None);
        }
        let live = manifest.segments.iter().map(|segment| segment.id);
        Ok(Some(live.chain(removed.iter().map(|removed| removed.id)).collect()))
    }

    /// Deletes objects, some at a time. After an error some of them are gone.
    fn delete(&self, keys: &[ObjectKey], token: u64) -> Result<(), CompactError> {
        for some in keys.chunks(DELETES_MAX) {
            self.keep(token)?;
            self.wait(try_join_all(some.iter().map(|key| self.parts.store.delete(key))))?;
        }
        Ok(())
    }
}

fn is_in(known: Option<&HashSet<SegmentId>>, id: SegmentId) -> bool {
    known.is_some_and(|known| known.contains(&id))
}

/// When a segment was begun, by its id (RFC 9562, section 5.7: 48 bits of milliseconds).
pub(crate) fn born(id: SegmentId) -> Micros {
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&id.0[..6]);
    u64::from_be_bytes(millis).saturating_mul(1000)
}
