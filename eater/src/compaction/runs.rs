//! The frames of runs, of copies the one that counts.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use trough_protocol::Seq;

use crate::journal::run::{Located, Run};
use crate::journal::scan::{Segment, cut, resolve};
use crate::journal::{Chunk, Rank, ReadError};

/// Where runs' data is.
pub(super) trait RunData {
    /// The data of a run, verified; `None` if it is damaged. `soon` are those wanted next.
    fn data(
        &mut self,
        of: &Located<Rank>,
        soon: &VecDeque<Segment<Rank>>,
    ) -> Result<Option<Bytes>, ReadError>;

    /// These numbers of a run are damaged, and there is no copy.
    fn lost(&self, of: &Located<Rank>, first: Seq, last: Seq) -> ReadError;
}

/// The frames of one device's runs, rising.
pub(super) struct RunFrames<'a, D> {
    data: &'a mut D,
    /// By key.
    runs: Vec<Located<Rank>>,
    out: VecDeque<Segment<Rank>>,
    damaged: HashSet<(Rank, u32)>,
    /// Damaged numbers, if they are passed over.
    lost: Option<Vec<Segment<Rank>>>,
}

impl<'a, D: RunData> RunFrames<'a, D> {
    /// The frames of these runs, in any order.
    pub(super) fn new(data: &'a mut D, mut runs: Vec<Located<Rank>>) -> Self {
        runs.sort_unstable_by_key(|located| (located.run.key(), located.file));
        let epochs = runs.chunk_by(|a, b| a.run.epoch == b.run.epoch);
        let out = epochs.flat_map(|runs| resolve(runs, Seq::FIRST, Seq(u64::MAX))).collect();
        Self { data, runs, out, damaged: HashSet::new(), lost: None }
    }

    /// Passes over numbers that are damaged and have no copy: [`RunFrames::lost`] has them in the end.
    pub(super) fn past_damage(mut self) -> Self {
        self.lost = Some(Vec::new());
        self
    }

    /// What was passed over.
    pub(super) fn lost(self) -> Vec<Segment<Rank>> {
        self.lost.unwrap_or_default()
    }

    /// Puts copies of a damaged run in its place.
    fn replace(&mut self, segment: &Segment<Rank>) -> Result<(), ReadError> {
        self.damaged.insert(segment.of.position());
        let usable = |located: &&Located<Rank>| {
            located.run.epoch == segment.of.run.epoch && !self.damaged.contains(&located.position())
        };
        let copies: Vec<_> = self.runs.iter().filter(usable).copied().collect();
        let found = resolve(&copies, segment.first, segment.last);
        let (mut at, mut holes) = (segment.first, Vec::new());
        for copy in &found {
            if copy.first > at {
                holes.push((at, Seq(copy.first.0 - 1)));
            }
            at = copy.last.next();
        }
        if at <= segment.last {
            holes.push((at, segment.last));
        }
        match (&mut self.lost, holes.first()) {
            (None, Some((first, last))) => return Err(self.data.lost(&segment.of, *first, *last)),
            (Some(lost), _) => {
                lost.extend(holes.into_iter().map(|(first, last)| Segment { of: segment.of, first, last }));
            }
            (None, None) => {}
        }
        found.into_iter().rev().for_each(|copy| self.out.push_front(copy));
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Chunk>, ReadError> {
        while let Some(segment) = self.out.pop_front() {
            let run: Run = segment.of.run;
            let data = self.data.data(&segment.of, &self.out)?;
            let Some(bytes) = data.and_then(|data| cut(&segment, &data)) else {
                self.replace(&segment)?;
                continue;
            };
            return Ok(Some(Chunk {
                epoch: run.epoch,
                first: segment.first,
                count: segment.last.0 - segment.first.0 + 1,
                received_at: run.received_at,
                source: segment.of.file.id,
                bytes,
            }));
        }
        Ok(None)
    }
}

impl<D: RunData> Iterator for RunFrames<'_, D> {
    type Item = Result<Chunk, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
