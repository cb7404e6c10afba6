//! The index of one file that is not sealed: in memory, by device.

use std::collections::{BTreeMap, HashMap};

use trough_protocol::{Epoch, Micros, Seq};

use super::run::{Key, Run};

/// One device's runs in one file.
#[derive(Debug, Default)]
pub(super) struct DeviceRuns {
    /// Frames, in the order of [`Key`], which nearly always is the order of arrival.
    in_order: Vec<Run>,
    /// Frames that came behind a higher key: resends.
    late: BTreeMap<Key, Run>,
    /// Numbers without frames, in the order of arrival.
    pub gaps: Vec<Run>,
    /// Frames that were not durable before.
    pub fresh: u64,
    /// Most frames in a run.
    pub span: u64,
    /// When its last run came, and the highest ts in its last run of frames.
    pub last_received: Micros,
    pub last_ts: Micros,
    /// Lowest and highest ts of the frames.
    pub ts: Option<(Micros, Micros)>,
    /// The numbers it has, frames or not: spans joined while they touch.
    pub spans: Vec<(Epoch, Seq, Seq)>,
}

impl DeviceRuns {
    fn push(&mut self, run: Run, fresh: u64) {
        self.last_received = self.last_received.max(run.received_at);
        match self.spans.last_mut() {
            Some((epoch, _, last)) if *epoch == run.epoch && run.first == last.next() => *last = run.last(),
            _ => self.spans.push((run.epoch, run.first, run.last())),
        }
        if !run.is_frames() {
            self.gaps.push(run);
            return;
        }
        self.fresh += fresh;
        self.span = self.span.max(run.count);
        self.last_ts = run.max_ts;
        let (low, high) = self.ts.unwrap_or((run.min_ts, run.max_ts));
        self.ts = Some((low.min(run.min_ts), high.max(run.max_ts)));
        match self.in_order.last() {
            Some(last) if last.key() > run.key() => drop(self.late.insert(run.key(), run)),
            _ => self.in_order.push(run),
        }
    }

    pub(super) fn frame_runs(&self) -> usize {
        self.in_order.len() + self.late.len()
    }

    /// The lowest and the highest key of the frames.
    pub(super) fn bounds(&self) -> Option<(Key, Key)> {
        let (low, high) = (self.in_order.first()?.key(), self.in_order.last()?.key());
        let late = self.late.first_key_value().map_or(low, |(key, _)| *key);
        Some((low.min(late), high))
    }

    /// Up to `limit` frame runs from `from` on, rising.
    pub(super) fn rising(&self, from: Key, limit: usize) -> Vec<Run> {
        let start = self.in_order.partition_point(|run| run.key() < from);
        let in_order = self.in_order[start..].iter().take(limit);
        merge(in_order, self.late.range(from..).map(|(_, run)| run).take(limit), limit, |a, b| a < b)
    }

    /// Up to `limit` frame runs whose data lies at `offset` or behind, in the order of arrival.
    pub(super) fn since(&self, offset: u32, limit: usize) -> Vec<Run> {
        // What is in order by key arrived in that order too.
        let start = self.in_order.partition_point(|run| run.offset < offset);
        let late = self.late.values().filter(|run| run.offset >= offset);
        let mut runs: Vec<Run> = self.in_order[start..].iter().take(limit).chain(late).copied().collect();
        runs.sort_unstable_by_key(|run| run.offset);
        runs.truncate(limit);
        runs
    }

    /// The run whose data lies at this offset.
    fn at(&self, offset: u32) -> Option<Run> {
        let in_order = self.in_order.binary_search_by_key(&offset, |run| run.offset);
        let in_order = in_order.ok().map(|at| self.in_order[at]);
        let other = || self.late.values().chain(&self.gaps).find(|run| run.offset == offset).copied();
        in_order.or_else(other)
    }

    /// Up to `limit` frame runs before `below`, falling.
    pub(super) fn falling(&self, below: Key, limit: usize) -> Vec<Run> {
        let end = self.in_order.partition_point(|run| run.key() < below);
        let in_order = self.in_order[..end].iter().rev().take(limit);
        merge(in_order, self.late.range(..below).rev().map(|(_, run)| run).take(limit), limit, |a, b| a > b)
    }
}

fn merge<'a>(
    a: impl Iterator<Item = &'a Run>,
    b: impl Iterator<Item = &'a Run>,
    limit: usize,
    before: impl Fn(Key, Key) -> bool,
) -> Vec<Run> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    let mut merged = Vec::with_capacity(limit.min(a.size_hint().1.unwrap_or(0) + b.size_hint().0));
    while merged.len() < limit {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if before(y.key(), x.key()) => b.next(),
            (Some(_), _) => a.next(),
            (None, _) => b.next(),
        };
        let Some(run) = next else { break };
        merged.push(*run);
    }
    merged
}

/// Which device's run arrived at an offset.
#[derive(Debug, Clone, Copy)]
struct Arrived {
    offset: u32,
    device: u32,
}

/// The index of one file.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub id: u64,
    pub nonce: u64,
    /// By the device's number.
    pub devices: HashMap<u32, DeviceRuns>,
    /// Its runs in the order of arrival, which is that of their offsets.
    arrivals: Vec<Arrived>,
    pub runs: u64,
    /// Frames, copies included.
    pub frames: u64,
    pub received: Option<(Micros, Micros)>,
}

impl OpenFile {
    pub(super) fn new(id: u64, nonce: u64) -> Self {
        let (devices, arrivals) = (HashMap::new(), Vec::new());
        Self { id, nonce, devices, arrivals, runs: 0, frames: 0, received: None }
    }

    /// Takes in a run that is durable; `fresh` of its numbers were not before.
    pub(super) fn push(&mut self, device: u32, run: Run, fresh: u64) {
        self.runs += 1;
        if run.is_frames() {
            self.frames += run.count;
        }
        let (low, high) = self.received.unwrap_or((run.received_at, run.received_at));
        self.received = Some((low.min(run.received_at), high.max(run.received_at)));
        let arrived = Arrived { offset: run.offset, device };
        match self.arrivals.last() {
            // What a repair set aside is entered before everything else, wherever it lies.
            Some(last) if last.offset > run.offset => {
                let at = self.arrivals.partition_point(|known| known.offset < run.offset);
                self.arrivals.insert(at, arrived);
            }
            _ => self.arrivals.push(arrived),
        }
        self.devices.entry(device).or_default().push(run, fresh);
    }

    /// Up to `limit` runs of any device that lie at `offset` or behind, in the order of arrival, each with the device's
    /// number.
    pub(super) fn arrivals(&self, offset: u32, limit: usize) -> Vec<(u32, Run)> {
        let start = self.arrivals.partition_point(|known| known.offset < offset);
        let some = self.arrivals[start..].iter().take(limit);
        let run = |arrived: &Arrived| {
            let run = self.devices.get(&arrived.device)?.at(arrived.offset)?;
            Some((arrived.device, run))
        };
        some.filter_map(run).collect()
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.runs * (size_of::<Run>() + size_of::<Arrived>()) as u64
            + self.devices.len() as u64 * size_of::<(u32, DeviceRuns)>() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::run::Kind;

    fn run(first: u64, offset: u32) -> Run {
        Run {
            epoch: Epoch(1),
            first: Seq(first),
            count: 2,
            min_ts: first,
            max_ts: first + 1,
            received_at: u64::from(offset),
            offset,
            len: 30,
            crc: 0,
            kind: Kind::Frames,
        }
    }

    #[test]
    fn resends_are_found_where_they_belong() {
        assert_eq!(size_of::<Run>(), 64);
        let mut runs = DeviceRuns::default();
        for (offset, first) in [(1, 1), (2, 3), (3, 5), (4, 3), (5, 1), (6, 7)] {
            runs.push(run(first, offset), 2);
        }
        let rising: Vec<u32> = runs.rising(Key::MIN, 99).iter().map(|run| run.offset).collect();
        assert_eq!(rising, [1, 5, 2, 4, 3, 6]);
        let falling: Vec<u32> = runs.falling(Key::MAX, 99).iter().map(|run| run.offset).collect();
        assert_eq!(falling, [6, 3, 4, 2, 5, 1]);
        let page: Vec<u32> = runs.rising(run(1, 1).key().behind(), 2).iter().map(|run| run.offset).collect();
        assert_eq!(page, [5, 2]);
        let page: Vec<u32> = runs.falling(run(3, 4).key(), 2).iter().map(|run| run.offset).collect();
        assert_eq!(page, [2, 5]);
        assert_eq!(runs.bounds(), Some((run(1, 1).key(), run(7, 6).key())));
        assert_eq!(runs.at(3), Some(run(5, 3)));
        assert_eq!(runs.at(5), Some(run(1, 5)), "one that came late");
        assert_eq!(runs.at(7), None);
        assert_eq!(
            runs.spans,
            [
                (Epoch(1), Seq(1), Seq(6)),
                (Epoch(1), Seq(3), Seq(4)),
                (Epoch(1), Seq(1), Seq(2)),
                (Epoch(1), Seq(7), Seq(8))
            ]
        );
    }
    #[test]
    fn arrivals_of_all_devices_come_in_the_order_of_their_offsets() {
        let mut file = OpenFile::new(1, 0);
        file.push(7, Run { kind: Kind::Damaged, ..run(9, 40) }, 2);
        for (device, offset, first, fresh) in [(7, 10, 1, 2), (8, 20, 1, 2), (7, 30, 2, 1)] {
            file.push(device, run(first, offset), fresh);
        }
        let arrived = |from, limit| -> Vec<(u32, u32)> {
            let some = file.arrivals(from, limit);
            some.into_iter().map(|(device, run)| (device, run.offset)).collect()
        };
        assert_eq!(arrived(0, 99), [(7, 10), (8, 20), (7, 30), (7, 40)]);
        assert_eq!(arrived(11, 2), [(8, 20), (7, 30)]);
        assert_eq!(arrived(41, 2), []);
    }
}
