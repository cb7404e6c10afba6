//! Numbers that several live segments have. A frame that was sent again may be in two of them; one that was received once
//! may not.
//!
//! Devices are looked at in windows, so that memory is bounded whatever the size of history: another window is another
//! look at the segments' indexes.

use std::collections::BTreeMap;

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::ObjectKey;
use trough_store::segment_catalog::{Segment, SegmentId};

use super::report::{Finding, FindingKind};
use super::{Check, FsckError};
use crate::journal::{Rank, ReadError, ScanRange};
use crate::segments::{OpenSegment, parquet_key};

/// Stretches in memory, at the most, unless one device alone has more.
const WINDOW_STRETCHES_MAX: usize = 1_000_000;

/// Consecutive numbers that a segment has of a device.
#[derive(Debug, Clone, Copy)]
struct Span {
    epoch: Epoch,
    first: Seq,
    last: Seq,
    segment: usize,
}

/// Devices from one on, with what segments have of them; and where the next window begins.
struct Window {
    devices: BTreeMap<DeviceId, Vec<Span>>,
    next: Option<DeviceId>,
}

/// Numbers that two segments have from one place, and the first of them.
type Doubled = BTreeMap<(SegmentId, SegmentId), (u64, String)>;

impl Check<'_> {
    pub(super) fn check_overlaps(&mut self, segments: &[Segment]) -> Result<(), FsckError> {
        let (mut doubled, mut from) = (Doubled::new(), None);
        loop {
            let window = self.window(segments, from.as_ref())?;
            for (device, mut spans) in window.devices {
                spans.sort_unstable_by_key(|span| (span.epoch, span.first, span.last));
                self.sweep(segments, &device, &spans, &mut doubled)?;
            }
            let Some(next) = window.next else { break };
            from = Some(next);
        }
        for ((a, b), (count, example)) in doubled {
            let key = |id: SegmentId| -> Option<ObjectKey> {
                let found = segments.iter().find(|segment| segment.id == id)?;
                Some(parquet_key(found.date, id))
            };
            let (Some(a), Some(b)) = (key(a), key(b)) else { continue };
            let finding = Finding::new(FindingKind::Doubled, &b)
                .saw(
                    "each received frame in one live segment",
                    format!("{count} that are in {a} as well, {example} for one"),
                )
                .remedy("none is needed: each is shown once, and merging segments leaves one");
            self.report.findings.push(finding);
        }
        Ok(())
    }

    fn window(&mut self, segments: &[Segment], from: Option<&DeviceId>) -> Result<Window, FsckError> {
        let mut window = Window { devices: BTreeMap::new(), next: None };
        let mut held = 0;
        for (at, segment) in segments.iter().enumerate() {
            if from.is_some_and(|from| segment.devices.1 < *from)
                || window.next.as_ref().is_some_and(|next| segment.devices.0 >= *next)
            {
                continue;
            }
            let Some(opened) = self.open(segment)? else { continue };
            for device in opened.index().devices() {
                let id = device.id();
                if from.is_some_and(|from| id < *from) || window.next.as_ref().is_some_and(|next| id >= *next)
                {
                    continue;
                }
                let spans = device.stretches().map(|stretch| Span {
                    epoch: stretch.epoch,
                    first: stretch.first,
                    last: stretch.last(),
                    segment: at,
                });
                held += device.stretch_count();
                window.devices.entry(id).or_default().extend(spans);
                while held > WINDOW_STRETCHES_MAX
                    && window.devices.len() > 1
                    && let Some((last, spans)) = window.devices.pop_last()
                {
                    held -= spans.len();
                    window.next = Some(last);
                }
            }
        }
        Ok(window)
    }

    /// Compares all spans of a device that have numbers in common; they come by (epoch, first).
    fn sweep(
        &mut self,
        segments: &[Segment],
        device: &DeviceId,
        spans: &[Span],
        doubled: &mut Doubled,
    ) -> Result<(), FsckError> {
        let mut active: Vec<Span> = Vec::new();
        for span in spans {
            active.retain(|other| other.epoch == span.epoch && other.last >= span.first);
            for other in &active {
                let numbers = (span.first, span.last.min(other.last));
                self.compare(
                    segments,
                    (device, span.epoch, numbers),
                    (other.segment, span.segment),
                    doubled,
                )?;
            }
            active.push(*span);
        }
        Ok(())
    }

    fn compare(
        &mut self,
        segments: &[Segment],
        (device, epoch, (first, last)): (&DeviceId, Epoch, (Seq, Seq)),
        (a, b): (usize, usize),
        doubled: &mut Doubled,
    ) -> Result<(), FsckError> {
        let (a, b) = (&segments[a], &segments[b]);
        let (Some(of_a), Some(of_b)) =
            (self.ranks(a, device, epoch, (first, last))?, self.ranks(b, device, epoch, (first, last))?)
        else {
            return Ok(());
        };
        for (seq, rank) in &of_a {
            match of_b.get(seq) {
                Some(other) if other == rank => {
                    let example = || format!("frame {seq} of epoch {epoch} of {device}");
                    doubled.entry((a.id, b.id)).or_insert_with(|| (0, example())).0 += 1;
                }
                Some(_) => self.report.totals.copies += 1,
                None => {}
            }
        }
        Ok(())
    }

    /// Which copies a segment has of some numbers; `None` if it was replaced and removed meanwhile.
    fn ranks(
        &self,
        segment: &Segment,
        device: &DeviceId,
        epoch: Epoch,
        (first, last): (Seq, Seq),
    ) -> Result<Option<BTreeMap<Seq, Rank>>, FsckError> {
        let Some(opened) = self.open(segment)? else { return Ok(None) };
        let range = ScanRange { after: Some((epoch, Seq(first.0 - 1))), ..ScanRange::default() };
        let (mut scan, mut ranks) = (opened.scan(device.as_str(), range), BTreeMap::new());
        while let Some(chunk) = self.wait(scan.next()) {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return self.gone(segment, error).map(|()| None),
            };
            if chunk.epoch != epoch || chunk.first > last {
                break;
            }
            let numbers = chunk.first.0.max(first.0)..=chunk.last().0.min(last.0);
            ranks.extend(numbers.map(|seq| (Seq(seq), chunk.rank())));
        }
        Ok(Some(ranks))
    }

    fn open(&self, segment: &Segment) -> Result<Option<OpenSegment>, FsckError> {
        match self.wait(OpenSegment::open(&self.cache, segment)) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) => self.gone(segment, error).map(|()| None),
        }
    }

    /// A segment was whole a moment ago: unless it was replaced since, nothing can be said.
    fn gone(&self, segment: &Segment, error: ReadError) -> Result<(), FsckError> {
        if self.is_live(segment)? { Err(error.into()) } else { Ok(()) }
    }
}
