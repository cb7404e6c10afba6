//! Reading a device's frames: each number once, in order, verified.

use std::collections::{HashSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use trough_protocol::{DeviceId, Micros, Seq};
use trough_store::object_catalog::ObjectId;

use super::cache::OpenError;
use super::lot::{Lot, is_within, keep_groups};
use super::walk::Walk;
use super::{Rank, Reader};
use crate::journal::scan::{Segment, cut, resolve};
use crate::journal::{Chunk, Order, ReadError, ScanRange};
use crate::objects::names;

/// Bytes of an object that are read at once, at most, unless one run is larger.
const WINDOW_BYTES: u64 = 1024 * 1024;
/// Bytes between two wanted runs that are read along rather than read around.
const GAP_BYTES_MAX: u64 = 64 * 1024;

/// The frames of a scan, chunk by chunk. After a damage it goes on behind it; any other error ends it.
pub(in crate::objects) struct Scan {
    reader: Arc<Reader>,
    device: DeviceId,
    order: Order,
    ts: Option<RangeInclusive<Micros>>,
    walk: Walk,
    lot: Option<Lot>,
    out: VecDeque<Segment<Rank>>,
    lost: VecDeque<ReadError>,
    damaged: HashSet<(Rank, u32)>,
    /// The bytes read last: whose, from where.
    window: Option<(Rank, u64, Bytes)>,
    ended: bool,
}

impl Scan {
    pub(in crate::objects) fn new(reader: Arc<Reader>, device: DeviceId, range: ScanRange) -> Self {
        let ScanRange { after, ts, order } = range;
        let walk = Walk::new(reader.clone(), device.clone(), order, after);
        Self {
            reader,
            device,
            order,
            ts,
            walk,
            lot: None,
            out: VecDeque::new(),
            lost: VecDeque::new(),
            damaged: HashSet::new(),
            window: None,
            ended: false,
        }
    }

    /// The next chunk.
    pub(in crate::objects) async fn next(&mut self) -> Option<Result<Chunk, ReadError>> {
        if self.ended {
            return None;
        }
        let next = self.step().await.transpose();
        self.ended = !matches!(&next, Some(Ok(_) | Err(ReadError::DamagedObject { .. })));
        next
    }

    async fn step(&mut self) -> Result<Option<Chunk>, ReadError> {
        loop {
            if let Some(lost) = self.lost.pop_front() {
                return Err(lost);
            }
            let Some(segment) = self.out.pop_front() else {
                if !self.take_lot().await? {
                    return Ok(None);
                }
                continue;
            };
            let run = segment.of.run;
            if self.ts.as_ref().is_some_and(|ts| run.max_ts < *ts.start() || run.min_ts > *ts.end()) {
                continue;
            }
            match self.data(&segment).await?.and_then(|data| cut(&segment, &data)) {
                Some(bytes) => {
                    return Ok(Some(Chunk {
                        epoch: run.epoch,
                        first: segment.first,
                        count: segment.last.0 - segment.first.0 + 1,
                        received_at: segment.of.file.received_at,
                        source: segment.of.file.id,
                        bytes,
                    }));
                }
                None => self.replace(segment),
            }
        }
    }

    /// Decides the next numbers. Whether there were any.
    async fn take_lot(&mut self) -> Result<bool, ReadError> {
        let Some(mut numbers) = self.walk.next().await? else { return Ok(false) };
        if let Some(ts) = &self.ts {
            numbers.pieces = keep_groups(numbers.pieces, |piece| is_within(piece, ts));
        }
        // Where there are only losses, there is nothing to read.
        numbers.pieces = keep_groups(numbers.pieces, |piece| piece.span.frames > 0);
        self.walk.opens(numbers.pieces.len())?;
        let lot = Lot::load(&self.reader, &self.device, numbers).await?;
        let segments = resolve(&lot.frames, lot.first, lot.last);
        match self.order {
            Order::Asc => self.out.extend(segments),
            Order::Desc => self.out.extend(segments.into_iter().rev()),
        }
        self.lot = Some(lot);
        Ok(true)
    }

    /// The data of a segment's run, verified; `None` if it is damaged.
    async fn data(&mut self, segment: &Segment<Rank>) -> Result<Option<Bytes>, ReadError> {
        let (file, run) = (segment.of.file, segment.of.run);
        let wanted = u64::from(run.offset)..run.end();
        let opened = self.lot.as_ref().and_then(|lot| lot.objects.get(&file));
        let at_hand = opened.and_then(|opened| opened.at_hand(wanted.clone())).or_else(|| {
            let (of, start, bytes) = self.window.as_ref().filter(|(of, ..)| *of == file)?;
            debug_assert_eq!(*of, file);
            let from = usize::try_from(wanted.start.checked_sub(*start)?).ok()?;
            let to = from + run.len as usize;
            (to <= bytes.len()).then(|| bytes.slice(from..to))
        });
        let data = match at_hand {
            Some(data) => data,
            None => {
                let range = self.plan(segment);
                let start = range.start;
                match self.reader.range(file.id, range).await {
                    Ok(bytes) => {
                        let from =
                            usize::try_from(wanted.start - start).expect("an object has at most 64 MiB");
                        let to = from + run.len as usize;
                        let data = (to <= bytes.len()).then(|| bytes.slice(from..to));
                        self.window = Some((file, start, bytes));
                        let Some(data) = data else { return Ok(None) };
                        data
                    }
                    Err(OpenError::Store(error)) => return Err(error.into()),
                    Err(OpenError::Damaged { found, .. }) => {
                        tracing::error!(key = %names::key(file.id), %found, "a journal object cannot be read");
                        return Ok(None);
                    }
                }
            }
        };
        Ok((crc32c::crc32c(&data) == run.crc).then_some(data))
    }

    /// Which bytes to read for a segment, so that those of the next ones come along.
    fn plan(&self, segment: &Segment<Rank>) -> std::ops::Range<u64> {
        let (mut start, mut end) = (u64::from(segment.of.run.offset), segment.of.run.end());
        for next in self.out.iter().filter(|next| next.of.file == segment.of.file) {
            let (from, to) = (u64::from(next.of.run.offset), next.of.run.end());
            let near = from <= end + GAP_BYTES_MAX && to + GAP_BYTES_MAX >= start;
            let (wider_start, wider_end) = (start.min(from), end.max(to));
            if !near || wider_end - wider_start > WINDOW_BYTES {
                break;
            }
            (start, end) = (wider_start, wider_end);
        }
        start..end
    }

    /// Puts copies of a damaged segment in its place, and an error for each part that has none.
    fn replace(&mut self, segment: Segment<Rank>) {
        let (file, run) = (segment.of.file, segment.of.run);
        self.damaged.insert(segment.of.position());
        let ObjectId { incarnation, n } = file.id;
        tracing::error!(
            device = %self.device, epoch = %run.epoch, first = %segment.first, last = %segment.last,
            %incarnation, n, offset = run.offset, "frames are damaged"
        );
        let frames = self.lot.as_ref().map(|lot| &lot.frames[..]).unwrap_or_default();
        // All copies of a lot's numbers are in it.
        let copies: Vec<_> =
            frames.iter().filter(|placed| !self.damaged.contains(&placed.position())).copied().collect();
        let mut found = resolve(&copies, segment.first, segment.last);
        let mut at = segment.first;
        let mut lose = |first: Seq, last: Seq| {
            if first <= last {
                let (object, offset, epoch) = (names::key(file.id), run.offset.into(), run.epoch);
                self.lost.push_back(ReadError::DamagedObject { object, offset, epoch, first, last });
            }
        };
        for copy in &found {
            lose(at, Seq(copy.first.0 - 1));
            at = copy.last.next();
        }
        lose(at, segment.last);
        if self.order == Order::Asc {
            found.reverse();
        }
        found.into_iter().for_each(|copy| self.out.push_front(copy));
    }
}
