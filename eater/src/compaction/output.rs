//! Rows that come by (device, epoch, seq), divided into segments by the day on which they were received.

use std::collections::BTreeMap;

use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::Clock;
use trough_store::segment_catalog::{Segment, SegmentId};
use uuid::{NoContext, Timestamp, Uuid};

use super::CompactError;
use crate::segments::format::Loss;
use crate::segments::{NewSegment, Row, SegmentWriter, Written};

/// Days that are written at the same time: each holds a segment in memory. Input of more days is written all the same, in
/// segments that are as small as what one device has of a day.
const DAYS_MAX: usize = 3;
const MICROS_PER_DAY: Micros = 86_400_000_000;

/// Stores a segment's objects.
pub(super) type Storing<'a> = dyn FnMut(Written) -> Result<Segment, CompactError> + 'a;

/// Segments that are being made.
pub(super) struct Output<'a> {
    level: u8,
    /// A segment is finished when it has so many bytes.
    segment_bytes: u64,
    /// Tells when a segment is born.
    clock: Clock,
    /// Where everything belongs, if not to the day on which it was received.
    into: Option<u32>,
    open: BTreeMap<u32, SegmentWriter>,
    store: &'a mut Storing<'a>,
    done: Vec<Segment>,
}

/// On which day (UTC) a time is, in days since 1970-01-01.
pub(crate) fn day(at: Micros) -> u32 {
    u32::try_from(at / MICROS_PER_DAY).unwrap_or(u32::MAX)
}

/// The last day that is written together with one on which something was received at this time.
pub(super) fn last_day_with(at: Micros) -> u32 {
    day(at).saturating_add(DAYS_MAX as u32 - 1)
}

/// A new id: a UUID of version 7 (RFC 9562, section 5.7).
fn new_id(now: Micros) -> SegmentId {
    let nanos = u32::try_from(now % 1_000_000 * 1000).expect("less than a second");
    SegmentId(Uuid::new_v7(Timestamp::from_unix(NoContext, now / 1_000_000, nanos)).into_bytes())
}

impl<'a> Output<'a> {
    pub(super) fn new(level: u8, segment_bytes: u64, clock: Clock, store: &'a mut Storing<'a>) -> Self {
        Self { level, segment_bytes, clock, into: None, open: BTreeMap::new(), store, done: Vec::new() }
    }

    /// Has all of it belong to one day, as what is replaced did: losses of several days may stand together, which nobody
    /// looks for by day.
    pub(super) fn all_into(&mut self, date: u32) {
        self.into = Some(date);
    }

    /// Takes a row; they rise by (device, epoch, seq).
    pub(super) fn push(&mut self, row: &Row<'_>) -> Result<(), CompactError> {
        let date = self.date(row.received_at);
        let writer = self.writer(date)?;
        writer.push(row)?;
        if writer.bytes() >= self.segment_bytes {
            self.finish_day(date)?;
        }
        Ok(())
    }

    /// Takes numbers without frames.
    pub(super) fn lose(&mut self, device: &DeviceId, loss: Loss) -> Result<(), CompactError> {
        let date = self.date(loss.received_at);
        let writer = self.writer(date)?;
        writer.lose(device, loss)?;
        if writer.bytes() >= self.segment_bytes {
            self.finish_day(date)?;
        }
        Ok(())
    }

    fn date(&self, received_at: Micros) -> u32 {
        self.into.unwrap_or_else(|| day(received_at))
    }

    /// Finishes what is open. What was stored.
    pub(super) fn finish(mut self) -> Result<Vec<Segment>, CompactError> {
        while let Some(date) = self.open.keys().next().copied() {
            self.finish_day(date)?;
        }
        Ok(self.done)
    }

    fn writer(&mut self, date: u32) -> Result<&mut SegmentWriter, CompactError> {
        if !self.open.contains_key(&date) {
            if self.open.len() >= DAYS_MAX
                && let Some((largest, _)) = self.open.iter().max_by_key(|(_, writer)| writer.bytes())
            {
                self.finish_day(*largest)?;
            }
            let id = new_id(self.clock.now());
            self.open.insert(date, SegmentWriter::new(NewSegment { id, date, level: self.level })?);
        }
        Ok(self.open.get_mut(&date).expect("it was put there"))
    }

    fn finish_day(&mut self, date: u32) -> Result<(), CompactError> {
        if let Some(writer) = self.open.remove(&date) {
            self.done.push((self.store)(writer.finish()?)?);
        }
        Ok(())
    }
}
