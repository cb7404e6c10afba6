//! What a change and a claim must be like, whichever catalog takes them.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use trough_protocol::limits::INT_MAX;

use super::{
    CHANGE_JOURNALS_MAX, CHANGE_SEGMENTS_MAX, CHANGES_KNOWN, CLAIM_TTL, Change, CommitError, Manifest,
    Segment, SegmentId, Through,
};
use crate::error::CatalogError;

impl Change {
    /// Checks what every catalog refuses.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] names the segment, the value and the rule.
    pub fn check(&self) -> Result<(), CatalogError> {
        let many = |what, len, max| {
            (len > max).then(|| format!("a change of {len} {what}: {max} at the most, divide it"))
        };
        let reason = many("segments to add", self.add.len(), CHANGE_SEGMENTS_MAX)
            .or_else(|| {
                let after = self.after;
                (after >= INT_MAX).then(|| format!("a change for manifest {after}: none is above {INT_MAX}"))
            })
            .or_else(|| many("segments to remove", self.remove.len(), CHANGE_SEGMENTS_MAX))
            .or_else(|| many("journals", self.through.len(), CHANGE_JOURNALS_MAX))
            .or_else(|| self.add.iter().find_map(reason_against))
            .or_else(|| {
                let (mut seen, all) = (HashSet::new(), self.add.iter().map(|segment| &segment.id));
                let twice = all.chain(&self.remove).find(|id| !seen.insert(**id))?;
                Some(format!("segment {twice} is in the change twice: add it or remove it, once"))
            })
            .or_else(|| {
                let through = self.through.iter().find(|through| through.n > INT_MAX)?;
                Some(format!("journal {} through {}: {INT_MAX} at the most", through.incarnation, through.n))
            })
            .or_else(|| {
                let pair = self.through.windows(2).find(|pair| pair[0].incarnation >= pair[1].incarnation)?;
                Some(format!("journals must rise, and {} does not", pair[1].incarnation))
            });
        reason.map_or(Ok(()), |reason| Err(CatalogError::Invalid(reason)))
    }

    /// Whether it may be made where the manifest is at `number` and `token` is that of the last claim, or was made
    /// already: then, as which manifest. `made` is the change that made the manifest behind `after`, if that is known.
    pub(crate) fn turn(
        &self,
        number: u64,
        token: u64,
        made: Option<[u8; 16]>,
    ) -> Result<Option<u64>, CommitError> {
        let after = self.after;
        match made {
            // First of all: whoever is told that it was not made drops what was prepared.
            Some(id) if id == self.id => return Ok(Some(after + 1)),
            None if after < number => {
                let reason = format!(
                    "whether the change for manifest {after} was made cannot be told any more: the manifest is at \
                     {number}, and only the last {CHANGES_KNOWN} changes are known; look whether its segments are live"
                );
                return Err(CatalogError::Invalid(reason).into());
            }
            _ => {}
        }
        if token != self.token {
            return Err(CommitError::Fenced { token: self.token });
        }
        if number != after {
            return Err(CommitError::Outdated { after, found: number });
        }
        Ok(None)
    }
}

impl Manifest {
    /// Checks what every catalog refuses to restore.
    pub(crate) fn check(&self) -> Result<(), CatalogError> {
        for segments in self.segments.chunks(CHANGE_SEGMENTS_MAX) {
            let (id, add) = ([0; 16], segments.to_vec());
            Change { id, token: 0, after: self.number, add, remove: vec![], through: vec![], expires: false }
                .check()?;
        }
        for through in self.through.chunks(CHANGE_JOURNALS_MAX) {
            let (id, through) = ([0; 16], through.to_vec());
            Change { id, token: 0, after: self.number, add: vec![], remove: vec![], through, expires: false }
                .check()?;
        }
        Ok(())
    }
}

/// A claim's life that is too short or too long.
pub(crate) fn claim_ttl(ttl: Duration) -> Result<(), CatalogError> {
    let (shortest, longest) = CLAIM_TTL;
    if (shortest..=longest).contains(&ttl) {
        return Ok(());
    }
    Err(CatalogError::Invalid(format!(
        "compaction cannot be claimed for {ttl:?}: ask for {shortest:?} to {longest:?}"
    )))
}

/// A segment to add is known.
pub(crate) fn known(which: impl fmt::Display) -> CatalogError {
    CatalogError::Invalid(format!("a segment to add is known already ({which}): give each a new id"))
}

/// A segment to remove is not live.
pub(crate) fn not_live(id: SegmentId) -> CatalogError {
    CatalogError::Invalid(format!("segment {id} cannot be removed: it is not live"))
}

/// A journal would go back.
pub(crate) fn goes_back(to: Through, from: u64) -> CatalogError {
    let Through { incarnation, n } = to;
    CatalogError::Invalid(format!(
        "journal {incarnation} is compacted through {from} and cannot go back to {n}"
    ))
}

fn reason_against(segment: &Segment) -> Option<String> {
    let outside = |what: &str, value: u64, low: u64| {
        (!(low..=INT_MAX).contains(&value)).then(|| format!("{what} {value} is not from {low} to {INT_MAX}"))
    };
    outside("level", segment.level.into(), 1)
        .or_else(|| outside("size", segment.bytes, 0))
        .or_else(|| outside("size of the index", segment.index_bytes, 0))
        .or_else(|| outside("frames", segment.frames, 0))
        .or_else(|| outside("lowest time stamp", segment.ts.0, 0))
        .or_else(|| outside("highest time stamp", segment.ts.1, segment.ts.0))
        .or_else(|| outside("first received", segment.received.0, 0))
        .or_else(|| outside("last received", segment.received.1, segment.received.0))
        .or_else(|| {
            let (low, high) = &segment.devices;
            (low > high)
                .then(|| format!("devices from {low} to {high}: the first must not be behind the last"))
        })
        .map(|reason| format!("segment {} cannot be entered: {reason}", segment.id))
}
