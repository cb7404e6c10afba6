//! A segment without what has expired of it.

use tokio::runtime::Handle;
use trough_store::object_catalog::{Incarnation, ObjectId};

use crate::compaction::CompactError;
use crate::compaction::output::Output;
use crate::journal::GapKind;
use crate::segments::format::Loss;
use crate::segments::{OpenSegment, RowsCursor};

/// Writes the rows and losses of a segment; of devices that have `expired`, only which numbers are gone. `go_on` is
/// asked now and then.
pub(super) fn write(
    segment: &OpenSegment,
    output: &mut Output<'_>,
    handle: &Handle,
    go_on: &dyn Fn() -> Result<(), CompactError>,
    expired: &dyn Fn(&str) -> bool,
) -> Result<(), CompactError> {
    output.all_into(segment.segment().date);
    let mut stays = false;
    for device in segment.index().devices() {
        let id = device.id();
        for loss in device.losses() {
            output.lose(&id, loss)?;
        }
        if !expired(id.as_str()) {
            stays |= device.stretch_count() > 0;
            continue;
        }
        for stretch in device.stretches() {
            let (epoch, first, last) = (stretch.epoch, stretch.first, stretch.last());
            let source = ObjectId { incarnation: Incarnation::LOCAL, n: 0 };
            let loss =
                Loss { epoch, first, last, kind: GapKind::Expired, received_at: stretch.received.1, source };
            output.lose(&id, loss)?;
        }
    }
    if !stays {
        return Ok(());
    }
    let mut rows = RowsCursor::new(segment.rows());
    let (mut device, mut gone) = (String::new(), false);
    loop {
        go_on()?;
        handle.block_on(rows.load())?;
        if rows.row().is_none() {
            return Ok(());
        }
        while let Some(row) = rows.row() {
            if row.device != device {
                row.device.clone_into(&mut device);
                gone = expired(row.device);
            }
            if !gone {
                output.push(&row)?;
            }
            if rows.advance() {
                break;
            }
        }
    }
}
