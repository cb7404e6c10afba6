//! The last frame of each channel, found by going through frames.

use std::collections::HashMap;

use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_protocol::{Channel, Seq};

use super::run::Run;
use super::table::LastAt;

/// Most channels of one device that are remembered. Of more, those with the oldest frames are forgotten.
pub(super) const CHANNELS_MAX: usize = 1000;

/// The last frames of one device.
#[derive(Debug, Clone, Default)]
pub(super) struct Lasts {
    channels: HashMap<Channel, LastAt>,
}

impl Lasts {
    /// Goes through a run's frames. Runs may come in any order; of copies the one that comes first stays.
    pub(super) fn note(&mut self, run: &Run, data: &[u8]) {
        let mut rest = data;
        // Frames of one channel often stand together: the last of them is all that counts.
        let mut candidate: Option<(FrameRef<'_>, LastAt)> = None;
        for seq in run.first.0..=run.last().0 {
            let before = rest.len();
            // What the feeder let through is whole; a count that the data does not hold ends the run early.
            let Ok(frame) = FrameRef::decode(&mut rest, FRAME_BYTES_MAX) else { break };
            let offset = run.offset + bytes(data.len() - before);
            let len = bytes(before - rest.len());
            match &mut candidate {
                Some((held, last)) if held.channel == frame.channel => {
                    (last.seq, last.ts, last.offset, last.len) = (Seq(seq), frame.ts, offset, len);
                }
                _ => {
                    if let Some((_, last)) = candidate.take() {
                        self.put(last);
                    }
                    let channel = Channel::new(frame.channel).expect("decode checked it");
                    let (epoch, received_at) = (run.epoch, run.received_at);
                    let (seq, ts) = (Seq(seq), frame.ts);
                    candidate = Some((frame, LastAt { channel, epoch, seq, ts, received_at, offset, len }));
                }
            }
        }
        if let Some((_, last)) = candidate {
            self.put(last);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    fn put(&mut self, last: LastAt) {
        if let Some(held) = self.channels.get_mut(&last.channel) {
            if (last.epoch, last.seq) > (held.epoch, held.seq) {
                *held = last;
            }
            return;
        }
        self.channels.insert(last.channel.clone(), last);
        // In bulk, so that a device with ever new channels does not cost a search for the oldest each time.
        if self.channels.len() >= 2 * CHANNELS_MAX {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let mut ages: Vec<_> = self.channels.values().map(|last| (last.epoch, last.seq)).collect();
        if let Some(surplus) = ages.len().checked_sub(CHANNELS_MAX + 1) {
            let (_, oldest_gone, _) = ages.select_nth_unstable(surplus);
            let oldest_gone = *oldest_gone;
            self.channels.retain(|_, last| (last.epoch, last.seq) > oldest_gone);
        }
    }

    /// By channel.
    pub(super) fn into_sorted(mut self) -> Vec<LastAt> {
        self.trim();
        let mut channels: Vec<LastAt> = self.channels.into_values().collect();
        channels.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
        channels
    }
}

fn bytes(len: usize) -> u32 {
    u32::try_from(len).expect("a run has at most 4 MiB")
}
