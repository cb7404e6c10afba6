//! Which rows are read, one span after another.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use trough_protocol::{Epoch, Micros, Seq};

use super::format::{Device, Stretch};
use super::opened::Opened;
use crate::journal::{Order, ScanRange};

/// Consecutive frames in consecutive rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The place of the device in the index.
    pub device: usize,
    pub epoch: Epoch,
    pub first: Seq,
    pub count: u32,
    pub row: u32,
}

impl Span {
    fn new(device: usize, stretch: &Stretch) -> Self {
        let Stretch { epoch, first, count, row, .. } = *stretch;
        Self { device, epoch, first, count, row }
    }

    pub(super) fn last(&self) -> Seq {
        Seq(self.first.0 + u64::from(self.count) - 1)
    }

    pub(super) fn rows(&self) -> Range<u32> {
        self.row..self.row + self.count
    }

    /// The part of it in these rows, if there is any.
    pub(super) fn within(&self, rows: &Range<u32>) -> Option<Self> {
        let (from, to) = (self.row.max(rows.start), self.rows().end.min(rows.end));
        let first = Seq(self.first.0 + u64::from(from.saturating_sub(self.row)));
        (from < to).then(|| Self { first, count: to - from, row: from, ..*self })
    }
}

/// A walk over a segment's spans.
pub(super) struct Walk {
    opened: Arc<Opened>,
    order: Order,
    ts: Option<RangeInclusive<Micros>>,
    /// Devices that are still to come.
    devices: Range<usize>,
    /// The device that is walked over, and which of its stretches are still to come.
    current: Option<(usize, Device, Range<usize>)>,
    /// What is given before anything else.
    next: Option<Span>,
}

impl Walk {
    /// Over everything, rising.
    pub(super) fn whole(opened: Arc<Opened>) -> Self {
        let devices = 0..opened.index.device_count();
        Self { opened, order: Order::Asc, ts: None, devices, current: None, next: None }
    }

    /// Over one span.
    pub(super) fn only(opened: Arc<Opened>, span: Span) -> Self {
        Self { opened, order: Order::Asc, ts: None, devices: 0..0, current: None, next: Some(span) }
    }

    /// Over one device.
    pub(super) fn of(opened: Arc<Opened>, device: &str, range: ScanRange) -> Self {
        let ScanRange { after, ts, order } = range;
        let place = opened.index.place(device);
        let mut walk = Self { opened, order, ts, devices: 0..0, current: None, next: None };
        if let Some(place) = place {
            walk.start(place, after);
        }
        walk
    }

    fn start(&mut self, place: usize, after: Option<(Epoch, Seq)>) {
        let device = self.opened.index.device(place);
        let mut stretches = 0..device.stretch_count();
        if let Some((epoch, seq)) = after {
            // Of the stretch that the cursor stands in, a part is wanted.
            match self.order {
                Order::Asc => {
                    stretches.start = device.stretches_through((epoch, seq));
                    let numbers = seq.0.saturating_add(1)..=u64::MAX;
                    self.next = self.cut(place, &device, stretches.start, epoch, &numbers);
                    stretches.start += usize::from(self.next.is_some());
                }
                Order::Desc => {
                    let below = seq.0.saturating_sub(1);
                    stretches.end = device.stretches_through((epoch, Seq(below)));
                    self.next = self.cut(place, &device, stretches.end, epoch, &(0..=below));
                }
            }
        }
        self.current = Some((place, device, stretches));
    }

    /// The part with these numbers of the stretch at `at`, if it is of this epoch and wanted.
    fn cut(
        &self,
        place: usize,
        device: &Device,
        at: usize,
        epoch: Epoch,
        numbers: &RangeInclusive<u64>,
    ) -> Option<Span> {
        let stretch = (at < device.stretch_count()).then(|| device.stretch(at))?;
        let span = Span::new(place, &stretch);
        let low = span.first.0.max(*numbers.start());
        let high = span.last().0.min(*numbers.end());
        if stretch.epoch != epoch || low > high || !wants(self.ts.as_ref(), &stretch) {
            return None;
        }
        let from = span.row + u32::try_from(low - span.first.0).ok()?;
        span.within(&(from..from + u32::try_from(high - low + 1).ok()?))
    }

    /// The next span, in the walk's direction.
    fn next(&mut self) -> Option<Span> {
        if let Some(span) = self.next.take() {
            return Some(span);
        }
        loop {
            if let Some((place, device, stretches)) = &mut self.current {
                let (place, order) = (*place, self.order);
                let mut take = || if order == Order::Asc { stretches.next() } else { stretches.next_back() };
                while let Some(at) = take() {
                    let stretch = device.stretch(at);
                    if wants(self.ts.as_ref(), &stretch) {
                        return Some(Span::new(place, &stretch));
                    }
                }
            }
            self.current = None;
            let place = self.devices.next()?;
            self.start(place, None);
        }
    }

    /// The next spans that lie together in the file and are read at once, rising; none at the end.
    pub(super) fn step(&mut self) -> Vec<Span> {
        let Some(first) = self.next() else { return Vec::new() };
        let mut spans = Vec::new();
        let mut rows = match self.order {
            Order::Asc => first.row..self.opened.step_end(first.row),
            Order::Desc => self.opened.step_start(first.rows().end)..first.rows().end,
        };
        let mut next = Some(first);
        while let Some(span) = next {
            let adjacent = match self.order {
                Order::Asc => span.row == rows.start,
                Order::Desc => span.rows().end == rows.end,
            };
            let taken = span.within(&rows).filter(|_| adjacent);
            let Some(taken) = taken else {
                self.next = Some(span);
                break;
            };
            spans.push(taken);
            let rest = match self.order {
                Order::Asc => {
                    rows.start = taken.rows().end;
                    rows.start..span.rows().end
                }
                Order::Desc => {
                    rows.end = taken.row;
                    span.row..rows.end
                }
            };
            if let Some(rest) = span.within(&rest) {
                self.next = Some(rest);
                break;
            }
            next = self.next();
        }
        if self.order == Order::Desc {
            spans.reverse();
        }
        spans
    }
}

/// Whether a stretch may have a frame in this span of device time.
fn wants(ts: Option<&RangeInclusive<Micros>>, stretch: &Stretch) -> bool {
    ts.is_none_or(|ts| stretch.ts.1 >= *ts.start() && stretch.ts.0 <= *ts.end())
}
