//! Reading a device's frames: each number once, in order, verified.
//!
//! [`Merge`] brings the runs of all files into one order, [`resolve`] chooses between copies, [`Fetch`] reads.
//! Runs are taken in lots: all those that can have a number of some interval are gathered before any number of
//! the interval is decided.

mod fetch;
mod merge;
mod resolve;

use std::collections::{HashSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use super::error::ReadError;
use super::index::Extent;
use super::names;
use super::run::Located;
use super::shared::Shared;
use super::view::{Chunk, Order, ScanRange, local};

pub(super) use fetch::Fetch;
pub(crate) use fetch::cut;
pub(super) use merge::{Merge, Of};
pub(crate) use resolve::{Segment, resolve};

/// Runs in a lot, at first and later: someone who wants ten frames should not wait for a thousand runs.
const LOT_RUNS_FIRST: usize = 64;
const LOT_RUNS: usize = 1024;

/// The frames of a scan, chunk by chunk. After a [`ReadError::Damaged`] it goes on behind the damage; any other
/// error ends it.
pub struct Scan {
    /// `None` once it has ended.
    state: Option<State>,
    /// It could not begin.
    failed: Option<ReadError>,
}

struct State {
    shared: Arc<Shared>,
    device: DeviceId,
    order: Order,
    ts: Option<RangeInclusive<Micros>>,
    merge: Merge,
    fetch: Fetch,
    end: (u64, u64),
    /// Most frames in a run, over all files.
    span: u64,
    /// The next number that is wanted: no lower one (rising), no higher one (falling).
    at: (Epoch, Seq),
    lot_runs: usize,
    /// Runs of the last lot that reach into the next, by key.
    carry: Vec<Located>,
    out: VecDeque<Segment>,
    lost: VecDeque<ReadError>,
    damaged: HashSet<(u64, u32)>,
}

impl Scan {
    pub(super) fn new(shared: Arc<Shared>, device: &str, range: ScanRange) -> Self {
        // Whatever is not a device id is nobody's.
        let state = DeviceId::new(device).ok().map(|device| State::new(shared, device, range)).transpose();
        match state {
            Ok(state) => Self { state, failed: None },
            Err(error) => Self { state: None, failed: Some(error) },
        }
    }
}

impl State {
    fn new(shared: Arc<Shared>, device: DeviceId, range: ScanRange) -> Result<Self, ReadError> {
        let (mut extents, end) = shared.extents(device.as_str())?;
        let span = extents.iter().map(|extent| extent.span).max().unwrap_or(0);
        if let Some(ts) = &range.ts {
            leave_out(&mut extents, ts);
        }
        let at = match (range.order, range.after) {
            (Order::Asc, None) => (Epoch(0), Seq(0)),
            (Order::Asc, Some((epoch, seq))) => (epoch, seq.next()),
            (Order::Desc, None) => (Epoch(u64::MAX), Seq(u64::MAX)),
            (Order::Desc, Some((epoch, seq))) => (epoch, Seq(seq.0.saturating_sub(1))),
        };
        let merge = Merge::new(
            shared.clone(),
            device.clone(),
            (Of::Frames, range.order),
            range.after,
            (extents, end),
        );
        Ok(Self {
            fetch: Fetch::new(shared.clone()),
            shared,
            device,
            order: range.order,
            ts: range.ts,
            merge,
            end,
            span,
            at,
            lot_runs: LOT_RUNS_FIRST,
            carry: Vec::new(),
            out: VecDeque::new(),
            lost: VecDeque::new(),
            damaged: HashSet::new(),
        })
    }
}

/// Leaves out files without a frame in `ts`, if no other file has copies of what they have: a copy that is not
/// the canonical one must not come to light because the canonical one was left out.
fn leave_out(extents: &mut Vec<Extent>, ts: &RangeInclusive<Micros>) {
    let last = |extent: &Extent| (extent.high.epoch, extent.high.first.0 + extent.span);
    extents.sort_unstable_by_key(|extent| extent.low);
    let alone: Vec<bool> = (0..extents.len())
        .map(|at| {
            let low = (extents[at].low.epoch, extents[at].low.first.0);
            let before = extents[..at].iter().all(|other| last(other) <= low);
            let behind = extents.get(at + 1);
            let behind = behind.is_none_or(|o| last(&extents[at]) <= (o.low.epoch, o.low.first.0));
            before && behind
        })
        .collect();
    let mut alone = alone.into_iter();
    extents.retain(|extent| {
        let outside = extent.ts.1 < *ts.start() || extent.ts.0 > *ts.end();
        !(outside && alone.next().unwrap_or(false))
    });
}

impl Iterator for Scan {
    type Item = Result<Chunk, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(state) = self.state.as_mut() else { return self.failed.take().map(Err) };
        let next = state.next();
        if !matches!(&next, Some(Ok(_) | Err(ReadError::Damaged { .. }))) {
            self.state = None;
        }
        next
    }
}

impl State {
    fn next(&mut self) -> Option<Result<Chunk, ReadError>> {
        loop {
            if let Some(lost) = self.lost.pop_front() {
                return Some(Err(lost));
            }
            let Some(segment) = self.out.pop_front() else {
                match self.take_lot() {
                    Ok(true) => continue,
                    Ok(false) => return None,
                    Err(error) => return Some(Err(error)),
                }
            };
            let Located { file, run } = segment.of;
            if self.ts.as_ref().is_some_and(|ts| run.max_ts < *ts.start() || run.min_ts > *ts.end()) {
                continue;
            }
            match self.fetch.run(file, &run, self.out.iter().map(|next| (next.of.file, &next.of.run))) {
                Ok(data) => match data.and_then(|data| cut(&segment, &data)) {
                    Some(bytes) => {
                        return Some(Ok(Chunk {
                            epoch: run.epoch,
                            first: segment.first,
                            count: segment.last.0 - segment.first.0 + 1,
                            received_at: run.received_at,
                            source: local(file),
                            bytes,
                        }));
                    }
                    None => {
                        if let Err(error) = self.replace(segment) {
                            return Some(Err(error));
                        }
                    }
                },
                Err(source) => return Some(Err(self.shared.read_error(file, source))),
            }
        }
    }

    /// Decides the next interval of numbers. Whether there was one.
    fn take_lot(&mut self) -> Result<bool, ReadError> {
        let mut runs = std::mem::take(&mut self.carry);
        let epoch = match runs.first() {
            Some(located) => located.run.epoch,
            None => match self.merge.peek()? {
                Some(located) => located.run.epoch,
                None => return Ok(false),
            },
        };
        match self.order {
            Order::Asc => self.take_rising(epoch, &mut runs)?,
            Order::Desc => self.take_falling(epoch, &mut runs)?,
        }
        self.lot_runs = LOT_RUNS;
        Ok(true)
    }

    fn take_rising(&mut self, epoch: Epoch, runs: &mut Vec<Located>) -> Result<(), ReadError> {
        let low = if self.at.0 == epoch { self.at.1 } else { Seq::FIRST };
        let mut high = None;
        while let Some(located) = self.merge.peek()?.filter(|located| located.run.epoch == epoch) {
            // All that begin before it are here, so all numbers before it can be decided.
            if runs.len() >= self.lot_runs && located.run.first > low {
                high = Some(Seq(located.run.first.0 - 1));
                break;
            }
            runs.push(located);
            self.merge.advance()?;
            if runs.len() >= 4 * self.lot_runs {
                drop_hidden(runs, low);
                self.lot_runs = self.lot_runs.max(runs.len());
            }
        }
        self.out.extend(resolve(runs, low, high.unwrap_or(Seq(u64::MAX))));
        match high {
            Some(high) => {
                self.at = (epoch, high.next());
                runs.retain(|located| located.run.last() > high);
                drop_hidden(runs, high.next());
                self.carry = std::mem::take(runs);
            }
            None => self.at = (Epoch(epoch.0 + 1), Seq::FIRST),
        }
        Ok(())
    }

    fn take_falling(&mut self, epoch: Epoch, runs: &mut Vec<Located>) -> Result<(), ReadError> {
        let high = if self.at.0 == epoch { self.at.1 } else { Seq(u64::MAX) };
        let mut low = None;
        while let Some(located) = self.merge.peek()?.filter(|located| located.run.epoch == epoch) {
            // No run that is not here yet reaches this number.
            let decided = Seq(located.run.first.0.saturating_add(self.span));
            if runs.len() >= self.lot_runs && decided <= high {
                low = Some(decided);
                break;
            }
            runs.push(located);
            self.merge.advance()?;
        }
        runs.sort_unstable_by_key(|located| (located.run.key(), located.file));
        self.out.extend(resolve(runs, low.unwrap_or(Seq::FIRST), high).into_iter().rev());
        match low {
            Some(low) => {
                self.at = (epoch, Seq(low.0 - 1));
                runs.retain(|located| located.run.first < low);
                self.carry = std::mem::take(runs);
            }
            None => self.at = (Epoch(epoch.0.saturating_sub(1)), Seq(u64::MAX)),
        }
        Ok(())
    }

    /// Puts copies of a damaged segment in its place, and an error for each part that has none.
    fn replace(&mut self, segment: Segment) -> Result<(), ReadError> {
        let Located { file, run } = segment.of;
        self.damaged.insert(segment.of.position());
        let path = self.shared.disk.path_of(&names::journal(file));
        tracing::error!(
            device = %self.device, epoch = %run.epoch, first = %segment.first, last = %segment.last,
            file = %path.display(), offset = run.offset, "frames are damaged"
        );
        let numbers = (segment.first, segment.last);
        let device = self.device.as_str();
        let (extents, _) = self.shared.extents(device)?;
        let copies =
            self.shared.overlapping(device, &extents, run.epoch, numbers, self.end, &self.damaged)?;
        let found = resolve(&copies, segment.first, segment.last);
        let mut at = segment.first;
        let mut lose = |first: Seq, last: Seq| {
            if first <= last {
                let (offset, epoch) = (run.offset.into(), run.epoch);
                let lost = ReadError::Damaged { file: path.clone(), offset, epoch, first, last };
                self.lost.push_back(lost);
            }
        };
        for copy in &found {
            lose(at, Seq(copy.first.0 - 1));
            at = copy.last.next();
        }
        lose(at, segment.last);
        for copy in found.iter().rev() {
            match self.order {
                Order::Asc => self.out.push_front(*copy),
                Order::Desc => {}
            }
        }
        if self.order == Order::Desc {
            found.iter().for_each(|copy| self.out.push_front(*copy));
        }
        Ok(())
    }
}

/// Drops runs that others hide wholly from `low` on.
fn drop_hidden(runs: &mut Vec<Located>, low: Seq) {
    let segments = resolve(runs, low, Seq(u64::MAX));
    let shown: HashSet<(u64, u32)> = segments.iter().map(|segment| segment.of.position()).collect();
    runs.retain(|located| shown.contains(&located.position()));
}
