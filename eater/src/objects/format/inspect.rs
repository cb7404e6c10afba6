//! Everything that an object says of itself, from its bytes alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use trough_protocol::batch::Batch;
use trough_protocol::wire::WireError;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::object_catalog::{DeviceSpan, ObjectRow, ROW_SPANS_MAX};

use super::{HEADER_BYTES, Header, Index, TRAILER_BYTES, Trailer};
use crate::journal::run::Run;

/// Checks a whole object: header, every batch with its data, the index against the batches, the trailer. Gives the
/// row that belongs into the catalog, so that the catalog can be rebuilt from the store.
///
/// # Errors
/// The first fault.
pub fn inspect(bytes: &Bytes) -> Result<ObjectRow, WireError> {
    let header = Header::decode(bytes)?;
    let split = bytes.len().checked_sub(TRAILER_BYTES).ok_or_else(|| short(bytes.len()))?;
    let trailer = Trailer::decode(&bytes[split..])?;
    if trailer.id != header.id {
        let rule = "header and trailer name the same object";
        return Err(WireError::Invalid { what: "object number", value: trailer.id.n, rule });
    }
    let start = trailer.index_start(bytes.len() as u64)?;
    let at = usize::try_from(start).map_err(|_| short(bytes.len()))?;
    let index = Index::decode(bytes.slice(at..split), start, &trailer, header.received_at)?;
    let (devices, batches) = runs_of_batches(&bytes[..at], header.received_at)?;
    if batches != trailer.batches {
        let rule = "it is the number of batches";
        return Err(WireError::Invalid { what: "number of batches", value: trailer.batches.into(), rule });
    }
    let rebuilt = Index::encode(devices.iter().map(|(device, runs)| (device, &runs[..])));
    if rebuilt != index.bytes()[..] {
        let rule = "the index says what the batches hold";
        return Err(WireError::Invalid { what: "bytes of the index", value: rebuilt.len() as u64, rule });
    }
    Ok(row(header, bytes, spans(devices.iter().map(|(device, runs)| (device, &runs[..])))))
}

/// The row of an object.
pub(in crate::objects) fn row(header: Header, bytes: &[u8], spans: Vec<DeviceSpan>) -> ObjectRow {
    let wide = spans.len() > ROW_SPANS_MAX;
    ObjectRow {
        id: header.id,
        bytes: bytes.len() as u64,
        crc: crc32c::crc32c(bytes),
        received_at: header.received_at,
        spans: if wide { Vec::new() } else { spans },
        wide,
    }
}

fn short(had: usize) -> WireError {
    WireError::Truncated { what: "journal object", needed: HEADER_BYTES + TRAILER_BYTES, had }
}

type RunsByDevice = BTreeMap<DeviceId, Vec<Run>>;

fn runs_of_batches(bytes: &[u8], received_at: Micros) -> Result<(RunsByDevice, u32), WireError> {
    let (mut devices, mut batches, mut at) = (RunsByDevice::new(), 0, HEADER_BYTES);
    while at < bytes.len() {
        let len = Batch::peek_len(&bytes[at..])?;
        let end = at.saturating_add(len).min(bytes.len());
        let batch = Batch::check(&bytes[at..end])?;
        let offset = u32::try_from(at).map_err(|_| short(bytes.len()))?;
        for run in batch.runs() {
            let device = DeviceId::new(run.device)?;
            devices.entry(device).or_default().push(Run::new(&run, batch.data(&run), offset, received_at));
        }
        batches += 1;
        at = end;
    }
    devices.values_mut().for_each(|runs| runs.sort_unstable_by_key(Run::key));
    Ok((devices, batches))
}

/// What devices have, by (device, epoch). The runs of each come by key.
pub(in crate::objects) fn spans<'a>(
    devices: impl Iterator<Item = (&'a DeviceId, &'a [Run])>,
) -> Vec<DeviceSpan> {
    let mut spans = Vec::new();
    for (device, runs) in devices {
        for runs in runs.chunk_by(|a, b| a.epoch == b.epoch) {
            spans.push(span(device, runs[0].epoch, runs));
        }
    }
    spans
}

fn span(device: &DeviceId, epoch: Epoch, runs: &[Run]) -> DeviceSpan {
    let (mut frames, mut ts) = (0, None::<(Micros, Micros)>);
    // Each number is counted once, so that `frames` tells whether every number has a frame.
    let mut counted = Seq::ZERO;
    for run in runs.iter().filter(|run| run.is_frames()) {
        let from = run.first.max(counted.next());
        if run.last() >= from {
            frames += run.last().0 - from.0 + 1;
            counted = run.last();
        }
        let (low, high) = ts.unwrap_or((run.min_ts, run.max_ts));
        ts = Some((low.min(run.min_ts), high.max(run.max_ts)));
    }
    DeviceSpan {
        device: device.clone(),
        epoch,
        first: runs.iter().map(|run| run.first).min().unwrap_or_default(),
        last: runs.iter().map(Run::last).max().unwrap_or_default(),
        frames,
        ts: ts.unwrap_or((0, 0)),
    }
}
