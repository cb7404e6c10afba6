//! The last frame of each channel, for readers.
//!
//! Sealed files' are in the catalog, or in the index of a file that the catalog does not know yet. Those of the
//! files in memory are found by going through the device's frames there, once: what was found is kept.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::{Channel, DeviceId, Seq};
use trough_store::ChannelLast;

use super::catalog::channel_last;
use super::error::ReadError;
use super::index::Way;
use super::lasts::Lasts;
use super::run::{Key, Located, Run};
use super::scan::{Fetch, Scan, Segment, cut};
use super::shared::Shared;
use super::table::LastAt;
use super::view::{Chunk, LastFrame, ScanRange, local};

/// Most (device, file) pairs that are remembered.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not 0");
/// Devices with more channels are not remembered, so that the memory has a bound: about 4 MiB.
const CHANNELS_REMEMBERED_MAX: usize = 100;
/// Runs looked at between two looks at the lock.
const PAGE_RUNS: usize = 1024;

/// What was found in files in memory.
pub(super) struct LastCache {
    found: Mutex<LruCache<(DeviceId, u64), Found>>,
}

#[derive(Debug, Clone, Default)]
struct Found {
    /// Runs before this offset have been looked at.
    to: u32,
    lasts: Lasts,
}

impl LastCache {
    pub(super) fn new() -> Self {
        Self { found: Mutex::new(LruCache::new(REMEMBERED_MAX)) }
    }

    fn get(&self, key: &(DeviceId, u64)) -> Found {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned().unwrap_or_default()
    }

    fn put(&self, key: (DeviceId, u64), found: Found) {
        if found.lasts.len() <= CHANNELS_REMEMBERED_MAX {
            self.found.lock().unwrap_or_else(PoisonError::into_inner).put(key, found);
        }
    }
}

/// The last frame of each channel of a device, by channel.
pub(super) fn last_frames(shared: &Arc<Shared>, device: &str) -> Result<Vec<LastFrame>, ReadError> {
    let Ok(device) = DeviceId::new(device) else { return Ok(Vec::new()) };
    let mut best: HashMap<Channel, ChannelLast> = HashMap::new();
    // Of copies the one received first.
    let rank = |last: &ChannelLast| (last.epoch, last.seq, Reverse(last.received_at));
    let mut consider = |last: ChannelLast| match best.get(&last.channel) {
        Some(held) if rank(held) >= rank(&last) => {}
        _ => drop(best.insert(last.channel.clone(), last)),
    };
    // In the order in which files move: one that moves meanwhile is seen twice rather than not at all.
    let in_memory: Vec<u64> = shared.read().files_in_memory();
    for file in in_memory {
        let lasts = in_file(shared, &device, file)?;
        lasts.into_iter().for_each(|last| consider(channel_last(file, last)));
    }
    let unrecorded: Vec<u64> =
        shared.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
    for file in unrecorded {
        let entry = shared.handles.table(file).and_then(|table| table.find(device.as_str()));
        let entry = entry.map_err(|error| shared.index_error(file, error))?;
        let lasts = entry.map(|entry| entry.channels).unwrap_or_default();
        lasts.into_iter().for_each(|last| consider(channel_last(file, last)));
    }
    shared.catalog.channels(&device)?.into_iter().for_each(consider);
    let mut lasts: Vec<ChannelLast> = best.into_values().collect();
    lasts.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
    let mut frames = Vec::with_capacity(lasts.len());
    for last in lasts {
        frames.extend(read(shared, &device, last)?);
    }
    Ok(frames)
}

/// The last frames in one file that is in memory.
fn in_file(shared: &Arc<Shared>, device: &DeviceId, file: u64) -> Result<Vec<LastAt>, ReadError> {
    let key = (device.clone(), file);
    let mut found = shared.last_cache.get(&key);
    let mut fetch = Fetch::new(shared.clone());
    loop {
        let runs = shared.page(file, device.as_str(), Way::Since(found.to), PAGE_RUNS)?;
        for (at, run) in runs.iter().enumerate() {
            let data = fetch.run(file, run, runs[at + 1..].iter().map(|next| (file, next)));
            match data.map_err(|source| shared.read_error(file, source))? {
                Some(data) => found.lasts.note(run, &data),
                None => tracing::error!(%device, file, offset = run.offset, "frames are damaged"),
            }
            found.to = run.offset + 1;
        }
        if runs.len() < PAGE_RUNS {
            break;
        }
    }
    let lasts = found.lasts.clone().into_sorted();
    shared.last_cache.put(key, found);
    Ok(lasts)
}

/// Reads the frame, out of a run whose checksum is good. `None` if its file is gone.
fn read(shared: &Arc<Shared>, device: &DeviceId, last: ChannelLast) -> Result<Option<LastFrame>, ReadError> {
    let frame = |chunk: &Chunk| {
        let mut rest = &chunk.bytes[..];
        let frame = FrameRef::decode(&mut rest, FRAME_BYTES_MAX).ok()?;
        let len = chunk.bytes.len() - rest.len();
        (frame.channel == last.channel.as_str()).then(|| LastFrame {
            channel: last.channel.clone(),
            epoch: chunk.epoch,
            seq: chunk.first,
            ts: frame.ts,
            received_at: chunk.received_at,
            bytes: chunk.bytes.slice(..len),
        })
    };
    if let Some(chunk) = chunk_at(shared, device, &last)?
        && let Some(frame) = frame(&chunk)
    {
        return Ok(Some(frame));
    }
    // The run is damaged, or its file is gone: another copy will do.
    let range = ScanRange { after: Some((last.epoch, Seq(last.seq.0 - 1))), ..ScanRange::default() };
    match Scan::new(shared.clone(), device.as_str(), range).next() {
        Some(Ok(chunk)) if (chunk.epoch, chunk.first) == (last.epoch, last.seq) => Ok(frame(&chunk)),
        Some(Err(error)) => Err(error),
        _ => Ok(None),
    }
}

/// The frame's run from where it is said to lie, cut to begin with the frame.
fn chunk_at(shared: &Arc<Shared>, device: &DeviceId, last: &ChannelLast) -> Result<Option<Chunk>, ReadError> {
    let Some(extent) = shared.extent_in(device.as_str(), last.file_id)? else { return Ok(None) };
    let from = Key::before(last.epoch, Seq((last.seq.0 + 1).saturating_sub(extent.span)));
    let runs = shared.page(last.file_id, device.as_str(), Way::Rising(from), PAGE_RUNS)?;
    let holds = |run: &&Run| {
        u64::from(run.offset) <= last.offset && last.offset < run.end() && run.epoch == last.epoch
    };
    let Some(run) = runs.iter().find(holds) else { return Ok(None) };
    let data = Fetch::new(shared.clone()).run(last.file_id, run, std::iter::empty());
    let data: Option<Bytes> = data.map_err(|source| shared.read_error(last.file_id, source))?;
    let of = Located { file: last.file_id, run: *run };
    let segment = Segment { of, first: last.seq, last: run.last() };
    Ok(data.and_then(|data| cut(&segment, &data)).map(|bytes| Chunk {
        epoch: last.epoch,
        first: last.seq,
        count: run.last().0 - last.seq.0 + 1,
        received_at: run.received_at,
        source: local(last.file_id),
        bytes,
    }))
}
