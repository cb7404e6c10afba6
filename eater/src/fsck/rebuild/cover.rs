//! What of a segment other segments do not have.

use std::collections::BTreeMap;

use trough_protocol::{DeviceId, Epoch, Seq};

use crate::journal::GapKind;
use crate::segments::format::Index;

/// Numbers of devices, as ranges that rise and do not touch others of their epoch.
#[derive(Debug, Default)]
pub(super) struct Numbers(BTreeMap<DeviceId, Vec<(Epoch, Seq, Seq)>>);

impl Numbers {
    /// The frames of a segment.
    pub(super) fn of(index: &Index) -> Self {
        let ranges = |device: crate::segments::format::Device| {
            let ranges: Vec<_> =
                device.stretches().map(|stretch| (stretch.epoch, stretch.first, stretch.last())).collect();
            (device.id(), ranges)
        };
        Self(index.devices().map(ranges).filter(|(_, ranges)| !ranges.is_empty()).collect())
    }

    /// Takes in what a segment says has expired.
    pub(super) fn add_expired(&mut self, index: &Index) {
        for device in index.devices() {
            let expired = device.losses().filter(|loss| loss.kind == GapKind::Expired);
            let mut expired = expired.map(|loss| (loss.epoch, loss.first, loss.last)).peekable();
            if expired.peek().is_some() {
                let ranges = self.0.entry(device.id()).or_default();
                ranges.extend(expired);
                ranges.sort_unstable();
            }
        }
    }

    /// Without those that this segment has.
    pub(super) fn subtract(&mut self, index: &Index) {
        self.without(|device| {
            let stretches = index.find(device.as_str())?;
            Some(
                stretches.stretches().map(|stretch| (stretch.epoch, stretch.first, stretch.last())).collect(),
            )
        });
    }

    /// Without these.
    pub(super) fn subtract_all(&mut self, others: &Self) {
        self.without(|device| others.0.get(device).cloned());
    }

    /// Without the ranges that `find` gives of a device, by their beginnings.
    fn without(&mut self, find: impl Fn(&DeviceId) -> Option<Vec<(Epoch, Seq, Seq)>>) {
        self.0.retain(|device, ranges| {
            let Some(others) = find(device) else { return true };
            let mut at = 0;
            let mut left = Vec::new();
            for (epoch, mut first, last) in std::mem::take(ranges) {
                while others.get(at).is_some_and(|(of, _, end)| (*of, *end) < (epoch, first)) {
                    at += 1;
                }
                // The last of them may reach into the next range, too: it is only looked at here.
                let within = others[at..].iter().take_while(|(of, begin, _)| (*of, *begin) <= (epoch, last));
                for (_, begin, end) in within {
                    if *begin > first {
                        left.push((epoch, first, Seq(begin.0 - 1)));
                    }
                    first = first.max(end.next());
                }
                if first <= last {
                    left.push((epoch, first, last));
                }
            }
            *ranges = left;
            !ranges.is_empty()
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, device: &str, epoch: Epoch, seq: Seq) -> bool {
        let Ok(device) = DeviceId::new(device) else { return false };
        let Some(ranges) = self.0.get(&device) else { return false };
        let behind = ranges.partition_point(|(of, first, _)| (*of, *first) <= (epoch, seq));
        behind.checked_sub(1).is_some_and(|at| ranges[at].0 == epoch && seq <= ranges[at].2)
    }
}
