//! Segments as input: their rows in one order.

use futures_util::future::try_join_all;
use tokio::runtime::Handle;

use super::CompactError;
use super::copies::Copies;
use super::output::Output;
use crate::segments::{OpenSegment, Row, RowsCursor};

/// Where a row stands.
fn place<'a>(row: &Row<'a>) -> (&'a str, u64, u64) {
    (row.device, row.epoch.0, row.seq.0)
}

/// Rows that were written, and copies that were not.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub frames: u64,
    pub copies: Copies,
}

/// Writes all rows and losses of some segments. `go_on` is asked now and then.
pub(super) fn write(
    segments: &[OpenSegment],
    output: &mut Output<'_>,
    handle: &Handle,
    go_on: &dyn Fn() -> Result<(), CompactError>,
) -> Result<Merged, CompactError> {
    let mut merged = Merged::default();
    let mut sources: Vec<RowsCursor> =
        segments.iter().map(|segment| RowsCursor::new(segment.rows())).collect();
    // All at once: each waits for the store.
    handle.block_on(try_join_all(sources.iter_mut().map(RowsCursor::load)))?;
    loop {
        sources.retain(|source| source.row().is_some());
        let Some(at) = first(&sources) else { break };
        // The others wait while this one is ahead of them: rows of one device often stand together.
        let others = (0..sources.len()).filter(|other| *other != at);
        let next = others.filter_map(|other| sources[other].row()).map(|row| place(&row)).min();
        let next = next.map(|(device, epoch, seq)| (device.to_owned(), epoch, seq));
        let next = next.as_ref().map(|(device, epoch, seq)| (device.as_str(), *epoch, *seq));
        while let Some(row) = sources[at].row().filter(|row| next.is_none_or(|next| place(row) <= next)) {
            output.push(&row)?;
            merged.frames += 1;
            let has_copies = next == Some(place(&row));
            if has_copies {
                drop_copies(&mut sources, at, handle, &mut merged.copies)?;
            }
            if sources[at].advance() {
                go_on()?;
                handle.block_on(sources[at].load())?;
            }
            if has_copies {
                break;
            }
        }
    }
    for segment in segments {
        for device in segment.index().devices() {
            for loss in device.losses() {
                output.lose(&device.id(), loss)?;
            }
        }
    }
    Ok(merged)
}

/// The source whose row is next.
fn first(sources: &[RowsCursor]) -> Option<usize> {
    let rows = sources.iter().enumerate().filter_map(|(at, source)| Some((at, source.row()?)));
    // Of copies the one that counts.
    rows.min_by(|(_, a), (_, b)| (place(a), a.rank()).cmp(&(place(b), b.rank()))).map(|(at, _)| at)
}

/// Passes over the copies that others have of the row of `of`.
fn drop_copies(
    sources: &mut [RowsCursor],
    of: usize,
    handle: &Handle,
    copies: &mut Copies,
) -> Result<(), CompactError> {
    for other in 0..sources.len() {
        let (Some(kept), Some(copy)) = (sources[of].row(), sources[other].row()) else { continue };
        if other == of || place(&copy) != place(&kept) {
            continue;
        }
        copies.note(copy.frame == kept.frame, kept.device, kept.epoch, kept.seq);
        if sources[other].advance() {
            handle.block_on(sources[other].load())?;
        }
    }
    Ok(())
}
