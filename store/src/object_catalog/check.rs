//! What a row and a head must be like, whichever catalog takes them.

use trough_protocol::limits::INT_MAX;

use super::{DeviceHead, DeviceSpan, Incarnation, LostLife, ObjectId, ObjectRow, ROW_SPANS_MAX};
use crate::error::CatalogError;

impl ObjectRow {
    /// Checks what every catalog refuses.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] names the object, the value and the rule.
    pub fn check(&self) -> Result<(), CatalogError> {
        self.reason_against().map_or(Ok(()), |reason| {
            let (n, incarnation) = (self.id.n, self.id.incarnation);
            invalid(format!("object {n} of incarnation {incarnation} cannot be entered: {reason}"))
        })
    }

    fn reason_against(&self) -> Option<String> {
        // The number behind the last one is left to the closing row.
        outside("its number", self.id.n, 1, INT_MAX - 1)
            .or_else(|| outside("its size", self.bytes, 0, INT_MAX))
            .or_else(|| outside("its time", self.received_at, 0, INT_MAX))
            .or_else(|| outside("the number of its spans", self.spans.len() as u64, 0, ROW_SPANS_MAX as u64))
            .or_else(|| self.spans.iter().find_map(reason_against_span))
            .or_else(|| {
                let key = |span: &DeviceSpan| (span.device.clone(), span.epoch);
                let pair = self.spans.windows(2).find(|pair| key(&pair[0]) >= key(&pair[1]))?;
                let DeviceSpan { device, epoch, .. } = &pair[1];
                Some(format!("its spans must rise by device and epoch, and {device} with {epoch} does not"))
            })
    }
}

impl LostLife {
    /// Checks what every catalog refuses to restore.
    pub(crate) fn check(&self) -> Result<(), CatalogError> {
        let LostLife { incarnation, removed, rows } = self;
        rows.iter().try_for_each(ObjectRow::check)?;
        match rows
            .iter()
            .zip(removed + 1..)
            .find(|(row, n)| row.id != ObjectId { incarnation: *incarnation, n: *n })
        {
            None if *removed < INT_MAX => Ok(()),
            found => invalid(format!(
                "incarnation {incarnation} cannot be restored behind number {removed}: {}",
                found.map_or_else(
                    || "it is too high".to_owned(),
                    |(_, n)| format!("the row of object {n} is missing")
                )
            )),
        }
    }
}

fn reason_against_span(span: &DeviceSpan) -> Option<String> {
    let (first, last) = (span.first.0, span.last.0);
    outside("epoch", span.epoch.0, 1, INT_MAX)
        .or_else(|| outside("first seq", first, 1, INT_MAX))
        .or_else(|| outside("last seq", last, first, INT_MAX))
        .or_else(|| outside("frames", span.frames, 0, INT_MAX))
        .or_else(|| outside("lowest time stamp", span.ts.0, 0, INT_MAX))
        .or_else(|| outside("highest time stamp", span.ts.1, span.ts.0, INT_MAX))
        .map(|reason| format!("of device {}, {reason}", span.device))
}

impl DeviceHead {
    /// Checks what every catalog refuses.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] names the device, the value and the rule.
    pub fn check(&self) -> Result<(), CatalogError> {
        let Self { device, epoch, head, received_at } = self;
        outside("epoch", epoch.0, 1, INT_MAX)
            .or_else(|| outside("head", head.0, 0, INT_MAX))
            .or_else(|| outside("time", *received_at, 0, INT_MAX))
            .map_or(Ok(()), |reason| invalid(format!("of device {device}, {reason}")))
    }
}

impl Incarnation {
    /// What it is told if it says something before it was opened.
    pub(crate) fn never_opened(self) -> CatalogError {
        CatalogError::Invalid(format!("incarnation {self} is not in the catalog: open it first"))
    }
}

impl ObjectId {
    /// What it is told if the row before its own, behind this last one, is missing.
    pub(crate) fn out_of_turn(self, last: u64) -> CatalogError {
        let Self { incarnation, n } = self;
        CatalogError::Invalid(format!(
            "object {n} of incarnation {incarnation} cannot be entered: the last one is {last}, enter those between first"
        ))
    }
}

fn outside(what: &str, value: u64, min: u64, max: u64) -> Option<String> {
    let fits = (min..=max).contains(&value);
    (!fits).then(|| format!("{what} is {value}, and must be from {min} to {max}"))
}

fn invalid(reason: String) -> Result<(), CatalogError> {
    Err(CatalogError::Invalid(reason))
}
