//! What a change must be like, whichever catalog takes it.

use trough_protocol::limits::INT_MAX;

use super::{CHANGE_JOURNALS_MAX, CHANGE_SEGMENTS_MAX, Change, Segment};
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
            .or_else(|| many("segments to remove", self.remove.len(), CHANGE_SEGMENTS_MAX))
            .or_else(|| many("journals", self.through.len(), CHANGE_JOURNALS_MAX))
            .or_else(|| self.add.iter().find_map(reason_against))
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
