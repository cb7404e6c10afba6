//! What the journal knows of each device: its heads, and when it was last heard.

use std::collections::HashMap;

use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::DeviceState;

use super::run::Run;

/// How many epochs of a device stay in memory once the files that have them are sealed. Only the newest one
/// gets frames: the feeder refuses stale ones.
const EPOCHS_KEPT: usize = 8;

/// All devices that were ever heard.
#[derive(Debug, Default)]
pub(super) struct Devices {
    by_id: HashMap<DeviceId, u32>,
    all: Vec<Device>,
}

/// One device.
#[derive(Debug)]
pub(super) struct Device {
    pub id: DeviceId,
    /// Rising.
    epochs: Vec<EpochState>,
    /// Epochs below are not in memory.
    trimmed: Epoch,
    /// Frames, copies not counted.
    frames: u64,
    last_received: Micros,
    last_ts: Micros,
    /// Losses that repairs found.
    losses: u64,
}

#[derive(Debug)]
struct EpochState {
    epoch: Epoch,
    head: Seq,
    /// Durable numbers that do not touch the head: first and last of each span, rising, never adjacent.
    /// Nothing should ever come here, as a session sends its frames in order; it is kept right all the same.
    beyond: Vec<(Seq, Seq)>,
    /// The newest file that has runs of it.
    file: u64,
}

/// What a run changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Covered {
    /// Numbers that were not durable before.
    pub fresh: u64,
}

impl EpochState {
    fn cover(&mut self, first: Seq, last: Seq) -> Covered {
        if self.beyond.is_empty() && first.0 <= self.head.0 + 1 {
            let fresh = last.0.saturating_sub(self.head.0);
            self.head = self.head.max(last);
            return Covered { fresh };
        }
        self.cover_apart(first, last)
    }

    #[cold]
    fn cover_apart(&mut self, first: Seq, last: Seq) -> Covered {
        let held = |spans: &[(Seq, Seq)]| spans.iter().map(|(a, b)| b.0 - a.0 + 1).sum::<u64>();
        let before = self.head.0 + held(&self.beyond);
        let mut spans = std::mem::take(&mut self.beyond);
        spans.extend([(Seq(1), self.head), (first, last)].into_iter().filter(|(a, b)| a <= b));
        spans.sort_unstable();
        let mut joined: Vec<(Seq, Seq)> = Vec::new();
        for (a, b) in spans {
            match joined.last_mut() {
                Some(open) if a.0 <= open.1.0 + 1 => open.1 = open.1.max(b),
                _ => joined.push((a, b)),
            }
        }
        if joined.first().is_some_and(|(a, _)| *a == Seq::FIRST) {
            self.head = joined.remove(0).1;
        }
        self.beyond = joined;
        Covered { fresh: self.head.0 + held(&self.beyond) - before }
    }
}

impl Device {
    /// The head of an epoch; `None` if it is not in memory and sealed files must be asked.
    pub(super) fn head(&self, epoch: Epoch) -> Option<Seq> {
        match self.epochs.binary_search_by_key(&epoch, |state| state.epoch) {
            Ok(at) => Some(self.epochs[at].head),
            Err(_) if epoch < self.trimmed => None,
            Err(_) => Some(Seq::ZERO),
        }
    }

    /// Takes note of a durable run of `file`.
    pub(super) fn cover(&mut self, file: u64, run: &Run) -> Covered {
        let covered = self.cover_span(file, run.epoch, run.first, run.last());
        self.hear(run.received_at, if run.is_frames() { run.max_ts } else { self.last_ts });
        if run.is_frames() {
            self.frames += covered.fresh;
        }
        covered
    }

    /// Takes note of durable numbers, whatever they are.
    pub(super) fn cover_span(&mut self, file: u64, epoch: Epoch, first: Seq, last: Seq) -> Covered {
        let state = self.state_mut(epoch);
        state.file = state.file.max(file);
        state.cover(first, last)
    }

    /// Takes note that it was heard; `ts` is 0 if it was heard without a frame.
    pub(super) fn hear(&mut self, received_at: Micros, ts: Micros) {
        if received_at >= self.last_received {
            self.last_received = received_at;
            if ts > 0 {
                self.last_ts = ts;
            }
        }
    }

    pub(super) fn add_frames(&mut self, frames: u64) {
        self.frames += frames;
    }

    pub(super) fn add_losses(&mut self, losses: u64) {
        self.losses += losses;
    }

    /// Puts the head of an epoch that is not in memory, as sealed files have it.
    pub(super) fn restore_head(&mut self, epoch: Epoch, head: Seq) {
        let state = self.state_mut(epoch);
        if head > Seq::ZERO {
            state.cover(Seq::FIRST, head);
        }
    }

    fn state_mut(&mut self, epoch: Epoch) -> &mut EpochState {
        // Nearly always the newest one.
        let at = match self.epochs.last() {
            Some(newest) if newest.epoch == epoch => self.epochs.len() - 1,
            _ => match self.epochs.binary_search_by_key(&epoch, |state| state.epoch) {
                Ok(at) => at,
                Err(at) => {
                    self.epochs
                        .insert(at, EpochState { epoch, head: Seq::ZERO, beyond: Vec::new(), file: 0 });
                    at
                }
            },
        };
        &mut self.epochs[at]
    }

    /// Forgets all but the newest epochs, those excepted that have runs in files behind `sealed` or wait for
    /// numbers. Their heads can be found in the sealed files.
    pub(super) fn trim(&mut self, sealed: u64) {
        let Some(surplus) = self.epochs.len().checked_sub(EPOCHS_KEPT + 1) else { return };
        let keep_from = self.epochs[surplus + 1].epoch;
        let mut trimmed = self.trimmed;
        self.epochs.retain(|state| {
            let keep = state.epoch >= keep_from || state.file > sealed || !state.beyond.is_empty();
            if !keep {
                trimmed = trimmed.max(Epoch(state.epoch.0 + 1));
            }
            keep
        });
        self.epochs.shrink_to(EPOCHS_KEPT);
        self.trimmed = trimmed;
    }

    /// See [`crate::journal::Journal::generation`].
    pub(super) fn generation(&self) -> u64 {
        // Every group has a received_at of its own, so the last one names the device's state; a repair changes
        // what can be read without a group, and only ever adds losses.
        self.last_received.wrapping_mul(31).wrapping_add(self.losses)
    }

    pub(super) fn state(&self) -> DeviceState {
        DeviceState {
            device: self.id.clone(),
            heads: self.epochs.iter().map(|state| (state.epoch, state.head)).collect(),
            frames: self.frames,
            last_received: self.last_received,
            last_ts: self.last_ts,
        }
    }
}

impl Devices {
    pub(super) fn number(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Device> {
        self.number(id).map(|number| &self.all[number as usize])
    }

    pub(super) fn by_number(&mut self, number: u32) -> &mut Device {
        &mut self.all[number as usize]
    }

    pub(super) fn id(&self, number: u32) -> &DeviceId {
        &self.all[number as usize].id
    }

    /// The number of a device, new or known. `id` was checked.
    pub(super) fn number_or_new(&mut self, id: &str) -> u32 {
        if let Some(number) = self.by_id.get(id) {
            return *number;
        }
        let number = u32::try_from(self.all.len()).expect("memory ends before 2^32 devices");
        let id = DeviceId::new(id).expect("the batch's directory was checked");
        self.by_id.insert(id.clone(), number);
        self.all.push(Device {
            id,
            epochs: Vec::new(),
            trimmed: Epoch(0),
            frames: 0,
            last_received: 0,
            last_ts: 0,
            losses: 0,
        });
        number
    }

    /// Takes over what the catalog knows of a device.
    pub(super) fn restore(&mut self, state: &DeviceState) {
        let number = self.number_or_new(state.device.as_str());
        let device = self.by_number(number);
        for (epoch, head) in &state.heads {
            device.restore_head(*epoch, *head);
        }
        device.frames = state.frames;
        device.hear(state.last_received, state.last_ts);
        device.trim(u64::MAX);
    }

    /// A page by id.
    pub(super) fn page(&self, after: Option<&str>, limit: usize) -> Vec<DeviceState> {
        let behind = |device: &&Device| after.is_none_or(|after| device.id.as_str() > after);
        let mut page: Vec<&Device> = self.all.iter().filter(behind).collect();
        if page.len() > limit {
            page.select_nth_unstable_by(limit, |a, b| a.id.cmp(&b.id));
            page.truncate(limit);
        }
        page.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        page.into_iter().map(Device::state).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Devices {
        let mut devices = Devices::default();
        devices.number_or_new("a");
        devices
    }

    fn cover(devices: &mut Devices, epoch: u64, first: u64, last: u64) -> (u64, u64) {
        let device = devices.by_number(0);
        let covered = device.cover_span(1, Epoch(epoch), Seq(first), Seq(last));
        (covered.fresh, device.head(Epoch(epoch)).unwrap().0)
    }

    #[test]
    fn a_head_moves_over_what_is_contiguous_and_repeats_change_nothing() {
        let mut devices = device();
        assert_eq!(cover(&mut devices, 1, 1, 3), (3, 3));
        assert_eq!(cover(&mut devices, 1, 2, 5), (2, 5));
        assert_eq!(cover(&mut devices, 1, 1, 5), (0, 5));
        assert_eq!(cover(&mut devices, 1, 8, 9), (2, 5), "a hole stops the head");
        assert_eq!(cover(&mut devices, 1, 12, 12), (1, 5));
        assert_eq!(cover(&mut devices, 1, 9, 12), (2, 5));
        assert_eq!(cover(&mut devices, 1, 6, 7), (2, 12), "filling it joins what is beyond");
        assert_eq!(cover(&mut devices, 2, 1, 1), (1, 1));
    }

    #[test]
    fn old_epochs_leave_memory_and_say_so() {
        let mut devices = device();
        for epoch in 1..=20 {
            cover(&mut devices, epoch, 1, epoch);
        }
        let device = devices.by_number(0);
        device.trim(0);
        assert_eq!(device.epochs.len(), 20, "file 1 is not sealed");
        device.trim(1);
        assert_eq!(device.epochs.len(), EPOCHS_KEPT);
        assert_eq!(device.head(Epoch(12)), None);
        assert_eq!(device.head(Epoch(13)), Some(Seq(13)));
        assert_eq!(device.head(Epoch(21)), Some(Seq::ZERO));
        device.restore_head(Epoch(5), Seq(5));
        assert_eq!(device.head(Epoch(5)), Some(Seq(5)));
    }
}
