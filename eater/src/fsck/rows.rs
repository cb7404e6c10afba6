//! The rows of a segment against its index: order and number are checked where rows are read, the rest is checked here.

use trough_protocol::{Epoch, Micros, Seq};

use crate::compaction::day;
use crate::segments::format::Stretch;
use crate::segments::{OpenSegment, Row};

/// Rows that come one after another, with holes where something is damaged.
pub(super) struct RowCheck<'a> {
    opened: &'a OpenSegment,
    /// The place of the device in the index, and of its stretch.
    device: usize,
    name: String,
    stretch: Option<Stretch>,
    at: usize,
    /// What was seen of the stretch.
    seen: u32,
    ts: (Micros, Micros),
    received: (Micros, Micros),
    wrong: Option<(String, String)>,
}

const NOTHING: (Micros, Micros) = (Micros::MAX, 0);

impl<'a> RowCheck<'a> {
    pub(super) fn new(opened: &'a OpenSegment) -> Self {
        let mut check = Self {
            opened,
            device: 0,
            name: String::new(),
            stretch: None,
            at: 0,
            seen: 0,
            ts: NOTHING,
            received: NOTHING,
            wrong: None,
        };
        check.enter(0);
        check
    }

    /// The next row.
    pub(super) fn take(&mut self, row: &Row<'_>) {
        while !self.is_within(row) {
            self.end_stretch();
            if !self.next_stretch() {
                self.blame("rows that the index has", format!("frame {} of {}", row.seq, row.device));
                return;
            }
        }
        self.seen += 1;
        widen(&mut self.ts, row.frame.ts);
        widen(&mut self.received, row.received_at);
        let date = self.opened.segment().date;
        if day(row.received_at) != date {
            let expected = format!("frames received on day {date} since 1970");
            self.blame(&expected, format!("one of day {}: {}", day(row.received_at), name(row)));
        }
    }

    /// The first thing that was wrong: what was expected, and what is there.
    pub(super) fn finish(mut self) -> Option<(String, String)> {
        self.end_stretch();
        self.wrong
    }

    fn is_within(&self, row: &Row<'_>) -> bool {
        let (epoch, seq): (Epoch, Seq) = (row.epoch, row.seq);
        row.device == self.name
            && self.stretch.is_some_and(|s| s.epoch == epoch && s.first <= seq && seq <= s.last())
    }

    fn end_stretch(&mut self) {
        let Some(stretch) = self.stretch.take().filter(|stretch| stretch.count == self.seen) else { return };
        for (what, said, is) in
            [("ts", stretch.ts, self.ts), ("received_at", stretch.received, self.received)]
        {
            if said != is {
                let of = format!("frames {} to {} of {}", stretch.first, stretch.last(), self.name);
                self.blame(
                    &format!("{what} from {} to {} in {of}", said.0, said.1),
                    format!("{} to {}", is.0, is.1),
                );
            }
        }
    }

    /// Goes to the next stretch. Whether there is one.
    fn next_stretch(&mut self) -> bool {
        (self.seen, self.ts, self.received) = (0, NOTHING, NOTHING);
        self.at += 1;
        while self.device < self.opened.index().device_count() {
            let device = self.opened.index().device(self.device);
            if self.at < device.stretch_count() {
                self.stretch = Some(device.stretch(self.at));
                return true;
            }
            self.enter(self.device + 1);
            if self.stretch.is_some() {
                return true;
            }
        }
        false
    }

    fn enter(&mut self, device: usize) {
        (self.device, self.at, self.stretch) = (device, 0, None);
        if device < self.opened.index().device_count() {
            let device = self.opened.index().device(device);
            self.name = device.id().to_string();
            self.stretch = (device.stretch_count() > 0).then(|| device.stretch(0));
        }
    }

    fn blame(&mut self, expected: &str, found: String) {
        if self.wrong.is_none() {
            self.wrong = Some((expected.to_owned(), found));
        }
    }
}

fn widen(range: &mut (Micros, Micros), value: Micros) {
    *range = (range.0.min(value), range.1.max(value));
}

fn name(row: &Row<'_>) -> String {
    format!("frame {} of epoch {} of {}", row.seq, row.epoch, row.device)
}
