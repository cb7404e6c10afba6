//! Journal objects: each that has a row, and those that have none.

use std::collections::HashMap;

use bytes::Bytes;
use trough_protocol::Micros;
use trough_protocol::batch::Batch;
use trough_store::object_catalog::{Incarnation, IncarnationState, ObjectId, ObjectRow, ROWS_MAX};
use trough_store::objects::ObjectError;
use trough_store::{ObjectCatalog, ObjectKey};

use super::listing::each;
use super::report::{Finding, FindingKind, LostFrames, RESTORE};
use super::{Check, FsckError};
use crate::objects::format::{HEADER_BYTES, Header, TRAILER_BYTES, inspect};
use crate::objects::{WholeObject, id_of_key, object_key};

const GIVE_UP: &str = "restore the object from a copy; if there is none, give up what is lost of it with `trough journal \
     repair --store …`: then readers see gaps";
const FOR_NOTHING: &str = "none is needed: nothing in it was acknowledged, and eaters remove it while they run; unless the catalog was restored \
     from an older copy, of which `/readyz` tells (part `catalog`)";
const UNKNOWN: &str =
    "if the catalog was lost, rebuild it with `trough fsck --rebuild`; else it may be removed";

impl Check<'_> {
    pub(super) fn check_objects(&mut self, catalog: &dyn ObjectCatalog) -> Result<(), FsckError> {
        for state in self.wait(catalog.incarnations())? {
            let mut after = 0;
            loop {
                let rows = self.wait(catalog.rows(state.incarnation, after, ROWS_MAX))?;
                let Some(last) = rows.last() else { break };
                after = last.id.n;
                for row in &rows {
                    self.check_object(catalog, row)?;
                }
            }
        }
        self.find_orphan_objects(catalog)
    }

    fn check_object(&mut self, catalog: &dyn ObjectCatalog, row: &ObjectRow) -> Result<(), FsckError> {
        let key = object_key(row.id);
        let mut findings = match self.wait(self.parts.store.get(&key)) {
            Ok(bytes) => faults(&key, row, &bytes),
            Err(ObjectError::NotFound(_)) => {
                let expected = format!("an object of {} bytes, as the catalog has it", row.bytes);
                let mut finding = Finding::new(FindingKind::Missing, &key).saw(expected, "none");
                finding.lost = spans(row);
                vec![finding]
            }
            Err(error) => return Err(error.into()),
        };
        self.advance(row.bytes);
        if !findings.is_empty() && !self.is_needed(catalog, row)? {
            return Ok(());
        }
        for finding in findings.iter_mut().filter(|finding| finding.remedy == RESTORE) {
            finding.remedy = GIVE_UP;
        }
        self.report.totals.journals += 1;
        self.report.totals.journal_bytes += row.bytes;
        self.report.findings.extend(findings);
        Ok(())
    }

    /// Whether its frames are nowhere else: what is compacted is removed, row first.
    fn is_needed(&self, catalog: &dyn ObjectCatalog, row: &ObjectRow) -> Result<bool, FsckError> {
        let ObjectId { incarnation, n } = row.id;
        let rows = self.wait(catalog.rows(incarnation, n - 1, 1))?;
        let is_there = rows.first().is_some_and(|found| found.id == row.id);
        Ok(is_there && self.manifest()?.through_of(incarnation) < n)
    }

    /// Objects that have no row and will get none.
    fn find_orphan_objects(&mut self, catalog: &dyn ObjectCatalog) -> Result<(), FsckError> {
        let mut keys: Vec<(ObjectId, ObjectKey)> = Vec::new();
        let before = self.wait(catalog.incarnations())?;
        let is_named = |id: &ObjectId| {
            let state = before.iter().find(|state| state.incarnation == id.incarnation);
            // Of one that lives it may be on its way into the catalog.
            state.is_some_and(|state| !state.closed || id.n <= state.last)
        };
        self.wait(each(&*self.parts.store, "journal/", |key, _| {
            if let Some(id) = id_of_key(&key).filter(|id| !is_named(id)) {
                keys.push((id, key));
            }
        }))?;
        if keys.is_empty() {
            return Ok(());
        }
        // Once more, as eaters come and go.
        let states: HashMap<Incarnation, IncarnationState> =
            self.wait(catalog.incarnations())?.into_iter().map(|state| (state.incarnation, state)).collect();
        for (id, key) in keys {
            let (since, remedy) = match states.get(&id.incarnation) {
                Some(state) if !state.closed || id.n <= state.last => continue,
                Some(state) => (state.heartbeat_at, FOR_NOTHING),
                None => (self.sealed_at(&key)?, UNKNOWN),
            };
            if since <= self.old() && self.is_there(&key)? {
                let finding = Finding::new(FindingKind::Orphan, &key);
                self.report.findings.push(finding.saw("a row in the catalog", "none").remedy(remedy));
            }
        }
        Ok(())
    }

    /// When an object was sealed, by its own word; long ago, if it cannot say.
    fn sealed_at(&self, key: &ObjectKey) -> Result<Micros, FsckError> {
        match self.wait(self.parts.store.get_range(key, 0..HEADER_BYTES as u64)) {
            Ok(bytes) => Ok(Header::decode(&bytes).map_or(0, |header| header.received_at)),
            Err(ObjectError::Invalid(_)) => Ok(0),
            Err(ObjectError::NotFound(_)) => Ok(Micros::MAX),
            Err(error) => Err(error.into()),
        }
    }
}

/// What is wrong with an object that has this row.
fn faults(key: &ObjectKey, row: &ObjectRow, bytes: &Bytes) -> Vec<Finding> {
    let damaged = |offset: usize| Finding::new(FindingKind::Damaged, key).at(offset as u64);
    if bytes.len() as u64 != row.bytes {
        let mut finding = damaged(bytes.len().min(row.bytes as usize));
        finding = finding.saw(format!("{} bytes", row.bytes), bytes.len());
        finding.lost = spans(row);
        return vec![finding];
    }
    let computed = crc32c::crc32c(bytes);
    if computed == row.crc {
        return match inspect(bytes) {
            Ok(found) if found == *row => Vec::new(),
            Ok(_) => vec![disagrees(key, "another row")],
            Err(error) => vec![disagrees(key, error)],
        };
    }
    let whole = match WholeObject::new(row, bytes.clone()) {
        Ok(whole) => whole,
        Err(error) => {
            let offset =
                if Header::decode(bytes).is_ok() { bytes.len().saturating_sub(TRAILER_BYTES) } else { 0 };
            let mut finding = damaged(offset).saw("a journal object", error);
            finding.lost = spans(row);
            return vec![finding];
        }
    };
    let mut findings = Vec::new();
    for device in whole.devices() {
        for run in whole.runs(device.as_str()) {
            if whole.data(&run).is_some() {
                continue;
            }
            let expected = format!("CRC32C {:08x} in {} bytes", run.crc, run.len);
            let mut finding = damaged(run.offset as usize).saw(expected, "another");
            let (epoch, first, last) = (run.epoch, run.first, run.last());
            finding.lost.push(LostFrames { device: device.clone(), epoch, first, last });
            findings.push(finding);
        }
    }
    if findings.is_empty() {
        // What readers do not look at: the batches' own directories, or the front.
        let expected = format!("CRC32C {:08x} of the whole", row.crc);
        findings.push(damaged(bad_batch(bytes)).saw(expected, format!("{computed:08x}")));
    }
    findings.sort_by_key(|finding| finding.offset);
    findings
}

fn disagrees(key: &ObjectKey, found: impl ToString) -> Finding {
    Finding::new(FindingKind::Disagrees, key)
        .saw("what the catalog's row says", found)
        .remedy("restore the catalog from a backup")
}

/// Where the first batch begins whose head is damaged; 0 if none is.
fn bad_batch(bytes: &[u8]) -> usize {
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let rest = &bytes[at..];
        match Batch::peek_len(rest).ok().and_then(|len| rest.get(..len)) {
            Some(batch) if Batch::check_directory(batch).is_ok() => at += batch.len(),
            // Behind the batches lies the index, which was found good.
            _ => return at,
        }
    }
    0
}

fn spans(row: &ObjectRow) -> Vec<LostFrames> {
    let lost = |span: &trough_store::object_catalog::DeviceSpan| LostFrames {
        device: span.device.clone(),
        epoch: span.epoch,
        first: span.first,
        last: span.last,
    };
    row.spans.iter().map(lost).collect()
}
