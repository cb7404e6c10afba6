//! A device's frames, from everywhere, in one order.

use std::sync::Arc;

use tokio::time::{Duration, Instant};
use trough_protocol::{DeviceId, Epoch, Seq};

use super::merge::{Merge, Place, Source};
use super::segments::{Live, Segments};
use crate::frames::{AnyJournal, Chunks};
use crate::journal::{Chunk, Order, ReadError, ScanRange};
use crate::segments::SegmentScan;
use crate::segments::format::Device;

/// A read that takes longer begins anew where it is: what it began with may be removed some time.
const AFRESH: Duration = Duration::from_secs(60);

/// Most segments that one read goes through: of each it keeps a place.
const SEGMENTS_MAX: usize = 100_000;

/// The frames of a scan. After a damage it goes on behind it; any other error ends it. It blocks.
pub(super) struct HistoryScan {
    journal: AnyJournal,
    segments: Arc<Segments>,
    device: DeviceId,
    /// What is still to come.
    range: ScanRange,
    merge: Option<(Merge, Instant)>,
    ended: bool,
}

impl HistoryScan {
    pub(super) fn new(
        journal: AnyJournal,
        segments: Arc<Segments>,
        device: DeviceId,
        range: ScanRange,
    ) -> Self {
        let mut scan = Self { journal, segments, device, range, merge: None, ended: false };
        // All that is durable now is in it: an error is given when it is asked for.
        scan.merge = scan.begin().ok().map(|merge| (merge, Instant::now()));
        scan
    }

    fn begin(&self) -> Result<Merge, ReadError> {
        let journal = JournalSource::new(self.journal.scan(&self.device, self.range.clone()), &self.range);
        let mut sources: Vec<Box<dyn Source>> = vec![Box::new(journal)];
        let live = self.segments.of(&self.device, self.range.ts.as_ref())?;
        if live.len() > SEGMENTS_MAX {
            return Err(ReadError::TooManySegments { segments: live.len() });
        }
        let mut bounds: Vec<(usize, Place)> = Vec::new();
        live.each(|at, entry| bounds.extend(bound_of(entry, &self.range).map(|bound| (at, bound))))?;
        let read = Arc::new(SegmentRead { live, range: self.range.clone() });
        for (at, bound) in bounds {
            let (read, bound) = (read.clone(), Some(bound));
            sources.push(Box::new(SegmentSource { read, at, scan: None, bound }));
        }
        Ok(Merge::new(self.range.order, sources))
    }

    fn step(&mut self) -> Option<Result<Chunk, ReadError>> {
        let fresh = self.merge.take().filter(|(_, begun)| begun.elapsed() < AFRESH);
        let (merge, _) = match fresh {
            Some(merge) => self.merge.insert(merge),
            None => match self.begin() {
                Ok(merge) => self.merge.insert((merge, Instant::now())),
                Err(error) => return Some(Err(error)),
            },
        };
        merge.next()
    }
}

impl Iterator for HistoryScan {
    type Item = Result<Chunk, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.step();
        let numbers = match &next {
            Some(Ok(chunk)) => Some((chunk.epoch, chunk.first, chunk.last())),
            Some(Err(error)) => error.lost(),
            None => None,
        };
        match numbers {
            Some((epoch, first, last)) => {
                let done = if self.range.order == Order::Asc { last } else { first };
                self.range.after = Some((epoch, done));
            }
            None => self.ended = true,
        }
        next
    }
}

/// Behind a place, in the direction of the scan.
fn behind(order: Order, (epoch, seq): Place) -> Place {
    match order {
        Order::Asc => (epoch, seq.next()),
        Order::Desc => (epoch, Seq(seq.0.saturating_sub(1))),
    }
}

/// Where a scan begins at the earliest.
fn start(range: &ScanRange) -> Place {
    match (range.after, range.order) {
        (Some(after), order) => behind(order, after),
        (None, Order::Asc) => (Epoch(0), Seq::ZERO),
        (None, Order::Desc) => (Epoch(u64::MAX), Seq(u64::MAX)),
    }
}

/// The place of a chunk, or of a damage, that comes first in the direction of the scan, and the one that comes last.
fn ends(order: Order, next: &Result<Chunk, ReadError>) -> Option<(Place, Place)> {
    let (epoch, first, last) = match next {
        Ok(chunk) => (chunk.epoch, chunk.first, chunk.last()),
        Err(error) => error.lost()?,
    };
    Some(match order {
        Order::Asc => ((epoch, first), (epoch, last)),
        Order::Desc => ((epoch, last), (epoch, first)),
    })
}

struct JournalSource {
    order: Order,
    chunks: Chunks,
    /// What was looked at already.
    peeked: Option<Result<Chunk, ReadError>>,
    bound: Option<Place>,
}

impl JournalSource {
    /// Looks at the first chunk, so that what is in the journal is settled before anybody looks at the manifest.
    fn new(mut chunks: Chunks, range: &ScanRange) -> Self {
        let peeked = chunks.next();
        let bound =
            peeked.as_ref().map(|next| ends(range.order, next).map_or_else(|| start(range), |ends| ends.0));
        Self { order: range.order, chunks, peeked, bound }
    }
}

impl Source for JournalSource {
    fn bound(&self) -> Option<Place> {
        self.bound
    }

    fn next(&mut self) -> Option<Result<Chunk, ReadError>> {
        let next = self.peeked.take().or_else(|| self.chunks.next());
        let ends = next.as_ref().and_then(|next| ends(self.order, next));
        self.bound = ends.map(|(_, last)| behind(self.order, last));
        next
    }
}

/// What the segments of a scan share.
struct SegmentRead {
    live: Live,
    range: ScanRange,
}

/// A segment: opened when its turn comes, and let go at its end.
struct SegmentSource {
    read: Arc<SegmentRead>,
    at: usize,
    scan: Option<SegmentScan>,
    bound: Option<Place>,
}

/// Before which place a segment with this has nothing in the range, in the range's direction; `None` if it has nothing
/// behind it either.
fn bound_of(entry: &Device, range: &ScanRange) -> Option<Place> {
    let start = start(range);
    // Those that end before the start.
    let before = entry.stretches_through((start.0, Seq(start.1.0.saturating_sub(1))));
    let stretch = |at: usize| (at < entry.stretch_count()).then(|| entry.stretch(at));
    match range.order {
        Order::Asc => stretch(before).map(|stretch| (stretch.epoch, stretch.first).max(start)),
        Order::Desc => {
            let reaches = stretch(before).filter(|stretch| (stretch.epoch, stretch.first) <= start);
            let last = reaches.or_else(|| stretch(before.checked_sub(1)?))?;
            Some((last.epoch, last.last()).min(start))
        }
    }
}

impl SegmentSource {
    fn step(&mut self) -> Option<Result<Chunk, ReadError>> {
        let SegmentRead { live, range } = &*self.read;
        let scan = match &mut self.scan {
            Some(scan) => scan,
            none => match live.open(self.at) {
                Ok(opened) => none.insert(opened.scan(live.device.as_str(), range.clone())),
                Err(error) => return Some(Err(error)),
            },
        };
        live.wait(scan.next())
    }
}

impl Source for SegmentSource {
    fn bound(&self) -> Option<Place> {
        self.bound
    }

    fn next(&mut self) -> Option<Result<Chunk, ReadError>> {
        let next = self.step();
        let ends = next.as_ref().and_then(|next| ends(self.read.range.order, next));
        self.bound = ends.map(|(_, last)| behind(self.read.range.order, last));
        if next.is_none() {
            self.scan = None;
        }
        next
    }
}
