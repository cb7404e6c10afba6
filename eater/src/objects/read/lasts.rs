//! The last frame of each channel.

use std::collections::BTreeMap;
use std::sync::Arc;

use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::{Channel, DeviceId, Seq};

use super::Reader;
use super::scan::Scan;
use crate::journal::{Chunk, LastFrame, Order, ReadError, ScanRange};

/// Most channels that are given.
const CHANNELS_MAX: usize = 1000;
/// How far back is looked, in chunks and in bytes of frames: a channel that was heard last before that is not given.
const CHUNKS_MAX: usize = 256;
const BYTES_MAX: usize = 8 * 1024 * 1024;

impl Reader {
    /// The last frame of each channel that was heard lately, by channel: of the newest frames, as many as a quick answer
    /// allows.
    pub(in crate::objects) async fn lasts(
        self: &Arc<Self>,
        device: &DeviceId,
    ) -> Result<Vec<LastFrame>, ReadError> {
        let range = ScanRange { order: Order::Desc, ..ScanRange::default() };
        let mut scan = Scan::new(self.clone(), device.clone(), range);
        let mut lasts = BTreeMap::new();
        let (mut chunks, mut bytes) = (0, 0);
        while chunks < CHUNKS_MAX
            && bytes < BYTES_MAX
            && let Some(chunk) = scan.next().await
        {
            let chunk = chunk?;
            chunks += 1;
            bytes += chunk.bytes.len();
            note(&mut lasts, &chunk);
        }
        Ok(lasts.into_values().collect())
    }
}

/// Takes the last frame of each channel that is not known yet: chunks come newest first.
fn note(lasts: &mut BTreeMap<Channel, LastFrame>, chunk: &Chunk) {
    let mut here: BTreeMap<&str, LastFrame> = BTreeMap::new();
    let (mut rest, mut seq) = (&chunk.bytes[..], chunk.first);
    while !rest.is_empty() {
        let before = rest;
        // What the feeder let through is whole; a chunk that is not ends early.
        let Ok(frame) = FrameRef::decode(&mut rest, FRAME_BYTES_MAX) else { break };
        let Ok(channel) = Channel::new(frame.channel) else { break };
        let bytes = chunk.bytes.slice_ref(&before[..before.len() - rest.len()]);
        let last = LastFrame {
            channel,
            epoch: chunk.epoch,
            seq,
            ts: frame.ts,
            received_at: chunk.received_at,
            bytes,
        };
        here.insert(frame.channel, last);
        seq = Seq(seq.0 + 1);
    }
    for last in here.into_values() {
        if lasts.len() < CHANNELS_MAX || lasts.contains_key(&last.channel) {
            lasts.entry(last.channel.clone()).or_insert(last);
        }
    }
}
