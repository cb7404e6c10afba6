//! Which numbers of each device are there, and so which are missing.

use std::collections::BTreeMap;

use trough_protocol::{DeviceId, Epoch, Seq};

use crate::journal::aside::Loss;
use crate::journal::run::Run;

/// Where a run lies: file and offset.
pub(super) type Place = (u64, u64);

/// The first and the last of consecutive numbers, and the place of the first run that has some of them.
type Span = (Seq, Seq, Place);

/// The numbers of all devices.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// Spans with the place of the first run that was found in each.
    spans: BTreeMap<(DeviceId, Epoch), Vec<Span>>,
}

/// Numbers that are missing before, or behind, what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hole {
    pub loss: Loss,
    /// They stood before this place; `None` if all that is there stands before them.
    pub before: Option<Place>,
}

impl Coverage {
    pub(super) fn add(&mut self, device: &str, run: &Run, place: Place) {
        let device = DeviceId::new(device).expect("the batch's directory was checked");
        let spans = self.spans.entry((device, run.epoch)).or_default();
        match spans.last_mut() {
            Some(last) if run.first.0 <= last.1.0 + 1 && run.first >= last.0 => {
                last.1 = last.1.max(run.last())
            }
            _ => spans.push((run.first, run.last(), place)),
        }
    }

    /// The numbers that are missing, from 1 to the last that is there or that the catalog knows of.
    pub(super) fn holes(mut self, heads: &[(DeviceId, Vec<(Epoch, Seq)>)]) -> Vec<Hole> {
        for (device, heads) in heads {
            for (epoch, _) in heads {
                self.spans.entry((device.clone(), *epoch)).or_default();
            }
        }
        let known: BTreeMap<(&DeviceId, Epoch), Seq> = heads
            .iter()
            .flat_map(|(device, heads)| heads.iter().map(move |(epoch, head)| ((device, *epoch), *head)))
            .collect();
        let mut holes = Vec::new();
        for ((device, epoch), mut spans) in self.spans {
            spans.sort_unstable();
            let mut at = Seq::FIRST;
            let mut hole = |first: Seq, last: Seq, before| {
                let loss = Loss { device: device.clone(), epoch, first, last };
                holes.push(Hole { loss, before });
            };
            for (first, last, place) in spans {
                if first > at {
                    hole(at, Seq(first.0 - 1), Some(place));
                }
                at = at.max(last.next());
            }
            match known.get(&(&device, epoch)) {
                Some(head) if *head >= at => hole(at, *head, None),
                _ => {}
            }
        }
        holes
    }
}
