//! What has arrived behind a place, in the order of arrival: what live tails follow.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use trough_protocol::{DeviceId, Epoch, Seq};

use super::Journal;
use super::error::ReadError;
use super::index::Index;
use super::run::Run;
use super::scan::Fetch;
use super::shared::Shared;

/// Most heads that are remembered: more are looked up anew.
const HEADS_MAX: usize = 64 * 1024;

/// A run of any device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Whose.
    pub device: DeviceId,
    /// What came.
    pub run: Run,
    /// The first of its numbers that was not durable before; behind its last, if all were.
    pub fresh: Seq,
}

/// The highest number of devices and epochs up to where somebody has come.
#[derive(Debug, Default)]
pub(crate) struct Heads(HashMap<(DeviceId, Epoch), Seq>);

/// How many runs are given at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lot {
    /// Of a file that is in memory.
    pub open: usize,
    /// Of one that is sealed, whose index is gone through each time.
    pub sealed: usize,
}

/// What was found behind a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// Runs of one file in the order of arrival, and the place behind them. No runs: the place may all the same be one
    /// further on, in the next file.
    Runs { file: u64, runs: Vec<Arrival>, next: (u64, u32) },
    /// Files behind the place were removed: nobody can tell what was in them, or the place is none of this journal.
    Gone,
}

/// Where to look.
enum At {
    Runs(Arrivals),
    /// In the index file of a file that is sealed.
    Sealed,
}

impl Journal {
    /// Where the durable part of the journal ends: file and offset.
    pub(crate) fn end(&self) -> (u64, u32) {
        let index = self.shared.read();
        let (file, offset) = index.end;
        // What is gone is no place to go on from.
        if file > index.removed { (file, narrow(offset)) } else { (index.removed + 1, 0) }
    }

    /// What has arrived at a place or behind it, as much as a lot has; with `only`, of a sealed file only what is this
    /// device's. `heads` is what the last calls found out, and is kept for the next one. Blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn arrivals(
        &self,
        from: (u64, u32),
        only: Option<&DeviceId>,
        lot: Lot,
        heads: &mut Heads,
    ) -> Result<Arrivals, ReadError> {
        let at = look(&self.shared.read(), from, lot.open);
        let found = match at {
            At::Runs(found) => Ok(found),
            At::Sealed => self.sealed_arrivals(from, only, lot.sealed),
        };
        let marked = found.and_then(|mut found| {
            if let Arrivals::Runs { file, runs, .. } = &mut found {
                self.shared.mark_copies(*file, runs, heads)?;
            }
            Ok(found)
        });
        match marked {
            Err(_) if self.shared.read().removed >= from.0 => Ok(Arrivals::Gone),
            found => found,
        }
    }

    /// The data of runs of a file, each verified: `None` for one that is damaged. Blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn data_of(&self, file: u64, runs: &[Run]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let mut fetch = Fetch::new(self.shared.clone());
        let read = |at: usize| fetch.run(file, &runs[at], runs[at + 1..].iter().map(|next| (file, next)));
        let data: Result<Vec<_>, _> = (0..runs.len()).map(read).collect();
        data.map_err(|source| self.shared.read_error(file, source))
    }

    fn sealed_arrivals(
        &self,
        (file, offset): (u64, u32),
        only: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Arrivals, ReadError> {
        let devices = match only {
            Some(device) => vec![device.clone()],
            None => self.devices_in(file)?,
        };
        // The index stands by device: of what lies behind the place, the first ones are kept.
        let mut first: BTreeMap<u32, Arrival> = BTreeMap::new();
        let mut is_cut = false;
        for device in devices {
            self.each_run_in(file, device.as_str(), |run| {
                let is_full = first.len() >= limit;
                let end = first.last_key_value().filter(|_| is_full).map(|(end, _)| *end);
                if run.offset < offset || end.is_some_and(|end| run.offset > end) {
                    is_cut |= run.offset >= offset;
                    return;
                }
                first.insert(run.offset, Arrival { device: device.clone(), run, fresh: run.first });
                if first.len() > limit {
                    first.pop_last();
                    is_cut = true;
                }
            })?;
        }
        let next = match first.last_key_value() {
            Some((end, _)) if is_cut => (file, end + 1),
            _ => (file + 1, 0),
        };
        Ok(Arrivals::Runs { file, runs: first.into_values().collect(), next })
    }
}

/// What the index in memory says of a place.
fn look(index: &Index, (file, offset): (u64, u32), limit: usize) -> At {
    if let Some((open, active)) = index.open_file(file) {
        if active && index.end.0 == file && u64::from(offset) > index.end.1 {
            return At::Runs(Arrivals::Gone);
        }
        let found = open.arrivals(offset, limit);
        let next = match found.last() {
            Some((_, run)) => (file, run.offset + 1),
            None if active => (file, offset),
            None => (file + 1, 0),
        };
        let arrival = |(device, run): (u32, Run)| Arrival {
            device: index.devices.id(device).clone(),
            fresh: run.first,
            run,
        };
        let found = Arrivals::Runs { file, runs: found.into_iter().map(arrival).collect(), next };
        return At::Runs(found);
    }
    if index.sealed.iter().any(|sealed| sealed.file_id == file) {
        return At::Sealed;
    }
    let files = index.files();
    if file <= index.removed || (index.end.0 > 0 && file > index.end.0 + 1) {
        return At::Runs(Arrivals::Gone);
    }
    let later = files.into_iter().find(|known| *known > file);
    let next = later.map_or((file, offset), |later| (later, 0));
    At::Runs(Arrivals::Runs { file, runs: Vec::new(), next })
}

impl Shared {
    /// Finds out which numbers of runs of one file, which stand in the order of arrival, were durable before.
    fn mark_copies(&self, file: u64, runs: &mut [Arrival], heads: &mut Heads) -> Result<(), ReadError> {
        if heads.0.len() > HEADS_MAX {
            heads.0.clear();
        }
        for arrival in runs {
            let run = &arrival.run;
            let key = (arrival.device.clone(), run.epoch);
            let known = match heads.0.get(&key) {
                Some(head) => *head,
                None => self.last_before(file, &arrival.device, run)?,
            };
            arrival.fresh = known.next().max(run.first).min(run.last().next());
            if known < run.last() {
                // It had a number that is new: the highest so far is known.
                heads.0.insert(key, run.last());
            }
        }
        Ok(())
    }

    /// The highest number that a run has in common with what arrived before it, or the one before its first.
    fn last_before(&self, file: u64, device: &DeviceId, run: &Run) -> Result<Seq, ReadError> {
        let (extents, _) = self.extents(device.as_str())?;
        let (numbers, before) = ((run.first, run.last()), (file, run.offset.into()));
        let earlier =
            self.overlapping(device.as_str(), &extents, run.epoch, numbers, before, &HashSet::new())?;
        let last = earlier.iter().map(|located| located.run.last()).max();
        Ok(last.unwrap_or(Seq(run.first.0 - 1)).min(run.last()))
    }
}

fn narrow(offset: u64) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
