//! What the catalog is to know of a segment, from its index alone.

use trough_protocol::Micros;
use trough_store::segment_catalog::Segment;

use super::format::Index;

/// The row of the segment that has this index; `None` if the index has no device, as none is written.
pub(crate) fn describe(index: &Index) -> Option<Segment> {
    let last = index.device_count().checked_sub(1)?;
    let (mut ts, mut received) = (None, None);
    for device in index.devices() {
        for stretch in device.stretches() {
            widen(&mut ts, stretch.ts);
            widen(&mut received, stretch.received);
        }
        device.losses().for_each(|loss| widen(&mut received, (loss.received_at, loss.received_at)));
    }
    let facts = index.facts();
    Some(Segment {
        id: facts.id,
        level: facts.level,
        date: facts.date,
        bytes: facts.bytes,
        index_bytes: index.bytes().len() as u64,
        index_crc: crc32c::crc32c(index.bytes()),
        frames: facts.frames,
        devices: (index.device(0).id(), index.device(last).id()),
        ts: ts.unwrap_or((0, 0)),
        received: received?,
    })
}

fn widen(range: &mut Option<(Micros, Micros)>, other: (Micros, Micros)) {
    let (low, high) = range.unwrap_or(other);
    *range = Some((low.min(other.0), high.max(other.1)));
}
