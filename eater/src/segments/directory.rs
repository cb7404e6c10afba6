//! The devices of a segment that is being written.

use std::collections::{BTreeMap, HashMap};

use trough_protocol::wire::WireError;
use trough_protocol::{Channel, DeviceId, Epoch, Seq};

use super::Row;
use super::format::{DeviceParts, LASTS_MAX, LastAt, Loss, STRETCH_FRAMES_MAX, Stretch};

/// About how many bytes of the index a device, a stretch, a loss or a channel takes.
const ENTRY_BYTES: usize = 64;

/// What the index will say of the rows and losses that came.
#[derive(Default)]
pub(super) struct Directory {
    done: Vec<DeviceParts>,
    current: Option<Current>,
    losses: BTreeMap<DeviceId, Vec<Loss>>,
    rows: u32,
    entries: usize,
}

impl Directory {
    /// The row that came last.
    pub(super) fn last(&self) -> Option<(&DeviceId, (Epoch, Seq))> {
        let current = self.current.as_ref()?;
        let last = current.stretches.last()?;
        Some((&current.device, (last.epoch, last.last())))
    }

    /// Rows that came.
    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    /// About how many bytes the index will have, without its checksums.
    pub(super) fn bytes(&self) -> usize {
        self.entries * ENTRY_BYTES
    }

    /// Notes a row that comes behind the last one; its channel was checked.
    pub(super) fn push(&mut self, row: &Row<'_>) -> Result<(), WireError> {
        if self.current.as_ref().is_none_or(|current| current.device.as_str() != row.device) {
            let device = DeviceId::new(row.device)?;
            self.end_device();
            self.current = Some(Current::new(device));
            self.entries += 1;
        }
        if let Some(current) = &mut self.current {
            self.entries += current.push(row, self.rows);
        }
        self.rows += 1;
        Ok(())
    }

    /// Notes a loss; they may come in any order. One that is known is not noted again.
    pub(super) fn lose(&mut self, device: &DeviceId, loss: Loss) {
        self.losses.entry(device.clone()).or_default().push(loss);
        self.entries += 1;
    }

    /// The devices, by the bytes of their ids.
    pub(super) fn finish(mut self) -> Vec<DeviceParts> {
        self.end_device();
        let with_frames = self.done.len();
        for (device, mut losses) in self.losses {
            losses.sort_unstable_by_key(Loss::key);
            losses.dedup_by(|later, earlier| later == earlier || earlier.take_in(later));
            match self.done[..with_frames].binary_search_by(|parts| parts.device.cmp(&device)) {
                Ok(at) => self.done[at].losses = losses,
                Err(_) => {
                    let (stretches, lasts) = (Vec::new(), Vec::new());
                    self.done.push(DeviceParts { device, stretches, losses, lasts });
                }
            }
        }
        // Two sorted parts, which this sort merges.
        self.done.sort_by(|a, b| a.device.cmp(&b.device));
        self.done
    }

    fn end_device(&mut self) {
        self.done.extend(self.current.take().map(Current::finish));
    }
}

/// The device whose rows are coming.
struct Current {
    device: DeviceId,
    stretches: Vec<Stretch>,
    lasts: HashMap<Box<str>, (Epoch, Seq, u32)>,
}

impl Current {
    fn new(device: DeviceId) -> Self {
        Self { device, stretches: Vec::new(), lasts: HashMap::new() }
    }

    /// Gives how many entries were added.
    fn push(&mut self, row: &Row<'_>, at: u32) -> usize {
        let mut added = 0;
        let place = (row.epoch, row.seq, at);
        if let Some(last) = self.lasts.get_mut(row.frame.channel) {
            *last = place;
        } else {
            added += 1;
            self.lasts.insert(row.frame.channel.into(), place);
            // In bulk, so that a device with ever new channels does not cost a search for the oldest each time.
            if self.lasts.len() >= 2 * LASTS_MAX {
                self.trim();
            }
        }
        let (ts, received) = (row.frame.ts, row.received_at);
        match self.stretches.last_mut() {
            Some(last)
                if last.epoch == row.epoch
                    && last.last().next() == row.seq
                    && last.count < STRETCH_FRAMES_MAX =>
            {
                last.count += 1;
                last.ts = (last.ts.0.min(ts), last.ts.1.max(ts));
                last.received = (last.received.0.min(received), last.received.1.max(received));
            }
            _ => {
                added += 1;
                self.stretches.push(Stretch {
                    epoch: row.epoch,
                    first: row.seq,
                    count: 1,
                    row: at,
                    ts: (ts, ts),
                    received: (received, received),
                });
            }
        }
        added
    }

    /// Forgets the channels that were heard longest ago.
    fn trim(&mut self) {
        let mut ages: Vec<u32> = self.lasts.values().map(|(_, _, row)| *row).collect();
        if let Some(surplus) = ages.len().checked_sub(LASTS_MAX + 1) {
            let oldest_gone = *ages.select_nth_unstable(surplus).1;
            self.lasts.retain(|_, (_, _, row)| *row > oldest_gone);
        }
    }

    fn finish(mut self) -> DeviceParts {
        self.trim();
        let last = |(channel, (epoch, seq, row)): (Box<str>, _)| {
            let channel = Channel::new(&channel).expect("the writer checks channels");
            LastAt { channel, epoch, seq, row }
        };
        let mut lasts: Vec<LastAt> = self.lasts.into_iter().map(last).collect();
        lasts.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
        DeviceParts { device: self.device, stretches: self.stretches, losses: Vec::new(), lasts }
    }
}
