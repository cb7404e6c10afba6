//! The last frame of each channel, found by going through frames.

use std::collections::HashMap;

use trough_protocol::frame::skim;
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
        let mut candidate: Option<(&[u8], LastAt)> = None;
        for seq in run.first.0..=run.last().0 {
            // What the feeder let through is whole; a count that the data does not hold ends the run early.
            let Some((ts, name, len)) = skim(rest) else { break };
            let offset = run.offset + bytes(data.len() - rest.len());
            rest = &rest[len..];
            let len = bytes(len);
            match &mut candidate {
                Some((held, last)) if *held == name => {
                    (last.seq, last.ts, last.offset, last.len) = (Seq(seq), ts, offset, len);
                }
                _ => {
                    let Ok(channel) = Channel::check(name).and_then(Channel::new) else { break };
                    let (epoch, received_at) = (run.epoch, run.received_at);
                    let last = LastAt { channel, epoch, seq: Seq(seq), ts, received_at, offset, len };
                    if let Some((_, done)) = candidate.replace((name, last)) {
                        self.put(done);
                    }
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
