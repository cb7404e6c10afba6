//! Up to which numbers a device's stream has come.

use std::collections::BTreeMap;

use trough_protocol::{Epoch, Seq};

/// Newest epochs that are remembered.
const EPOCHS_MAX: usize = 64;
/// So many epochs before those are looked at for what came late: a device that has a new one with each connection may have
/// thousands, and none of them is still under way.
const LATE_MAX: u64 = 1024;

/// Of a device's newest epochs, up to which number frames were given. A device is seldom heard in an epoch before its
/// newest one: when frames of it were under way as it began the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Given {
    epochs: BTreeMap<Epoch, Seq>,
    /// Epochs before this one are not remembered.
    floor: Epoch,
}

/// A part of a device's history: behind a frame, and before an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub after: Option<(Epoch, Seq)>,
    pub before: Option<Epoch>,
    /// Its epochs are not remembered: some of it was given.
    pub is_forgotten: bool,
}

impl Given {
    /// All of an epoch up to its number; of epochs before the first one it is not known.
    pub fn from_place(of: impl IntoIterator<Item = (Epoch, Seq)>) -> Self {
        let mut given: Self = of.into_iter().collect();
        given.floor = given.epochs.first_key_value().map_or(given.floor, |(epoch, _)| *epoch);
        given
    }

    /// Takes note that an epoch was given up to this number.
    pub fn pass(&mut self, epoch: Epoch, seq: Seq) {
        if epoch < self.floor {
            return;
        }
        let last = self.epochs.entry(epoch).or_insert(seq);
        *last = seq.max(*last);
        while self.epochs.len() > EPOCHS_MAX
            && let Some((epoch, _)) = self.epochs.pop_first()
        {
            self.floor = Epoch(epoch.0 + 1);
        }
    }

    /// Takes note of epochs that were not remembered, all of which are done by now up to these numbers.
    pub fn recall(&mut self, forgotten: Self) {
        self.floor = forgotten.floor;
        forgotten.epochs.into_iter().for_each(|(epoch, seq)| self.pass(epoch, seq));
    }

    /// Up to where an epoch was given, if it is remembered.
    pub fn of(&self, epoch: Epoch) -> Option<Seq> {
        self.epochs.get(&epoch).copied()
    }

    /// The last number of the newest epoch.
    pub fn place(&self) -> Option<(Epoch, Seq)> {
        self.newest().next()
    }

    /// All that are remembered, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = (Epoch, Seq)> {
        self.epochs.iter().rev().map(|(epoch, seq)| (*epoch, *seq))
    }

    /// What of a device's history may not have been given, in the order of numbers. The last part is what comes behind the
    /// place.
    pub fn parts(&self) -> Vec<Part> {
        let floor = self.floor;
        let late = floor.0.checked_sub(LATE_MAX).map(|epoch| (Epoch(epoch), Seq::ZERO));
        let mut parts = match floor {
            Epoch(0) => vec![Part { after: None, before: None, is_forgotten: false }],
            _ => vec![
                Part { after: late, before: Some(floor), is_forgotten: true },
                Part { after: Some((floor, Seq::ZERO)), before: None, is_forgotten: false },
            ],
        };
        for (epoch, seq) in &self.epochs {
            if let Some(last) = parts.last_mut() {
                last.before = Some(*epoch);
            }
            parts.push(Part { after: Some((*epoch, *seq)), before: None, is_forgotten: false });
        }
        // Nothing is between an epoch and itself.
        parts.retain(|part| {
            part.after.is_none_or(|(epoch, _)| part.before.is_none_or(|before| epoch < before))
        });
        parts
    }
}

impl FromIterator<(Epoch, Seq)> for Given {
    fn from_iter<I: IntoIterator<Item = (Epoch, Seq)>>(of: I) -> Self {
        let mut given = Self::default();
        of.into_iter().for_each(|(epoch, seq)| given.pass(epoch, seq));
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_have_been_given_is_behind_each_epoch() {
        let part = |after: Option<(u64, u64)>, before: Option<u64>, is_forgotten| Part {
            after: after.map(|(epoch, seq)| (Epoch(epoch), Seq(seq))),
            before: before.map(Epoch),
            is_forgotten,
        };
        assert_eq!(Given::default().parts(), [part(None, None, false)]);
        let known = [(Epoch(5), Seq(8)), (Epoch(2), Seq(3))];
        let mut given: Given = known.into_iter().collect();
        given.pass(Epoch(5), Seq(7));
        let behind = [part(Some((2, 3)), Some(5), false), part(Some((5, 8)), None, false)];
        assert_eq!(given.parts(), [&[part(None, Some(2), false)], &behind[..]].concat());
        let mut given = Given::from_place(known);
        given.pass(Epoch(1), Seq(9));
        assert_eq!(given.parts(), [&[part(None, Some(2), true)], &behind[..]].concat());
        let mut recalled = given.clone();
        recalled.recall([(Epoch(1), Seq(4))].into_iter().collect());
        let before = [part(None, Some(1), false), part(Some((1, 4)), Some(2), false)];
        assert_eq!(recalled.parts(), [&before[..], &behind[..]].concat());
        (6..100).for_each(|epoch| given.pass(Epoch(epoch), Seq(1)));
        assert_eq!((given.of(Epoch(35)), given.of(Epoch(99))), (None, Some(Seq(1))));
        assert_eq!(given.parts().len(), 65);
        assert_eq!(given.parts()[0], part(None, Some(36), true));
        let given = Given::from_place([(Epoch(LATE_MAX + 5), Seq(1))]);
        assert_eq!(given.parts()[0], part(Some((5, 0)), Some(LATE_MAX + 5), true));
    }
}
