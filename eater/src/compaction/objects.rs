//! Journal objects, to be compacted: in memory as a whole.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use trough_protocol::{DeviceId, Seq};

use super::CompactError;
use super::copies::Copies;
use super::input::{Input, TakeChunk, loss};
use super::runs::{RunData, RunFrames};
use crate::journal::run::Located;
use crate::journal::scan::{Segment, cut};
use crate::journal::{Chunk, Rank, ReadError};
use crate::objects::WholeObject;
use crate::segments::format::Loss;

/// Objects of any eaters.
pub(super) struct ObjectsInput {
    data: ObjectData,
    copies: Copies,
}

struct ObjectData {
    /// By rank.
    objects: Vec<WholeObject>,
}

impl ObjectsInput {
    pub(super) fn new(mut objects: Vec<WholeObject>) -> Self {
        objects.sort_unstable_by_key(WholeObject::rank);
        Self { data: ObjectData { objects }, copies: Copies::default() }
    }
}

impl Input for ObjectsInput {
    fn devices(&mut self) -> Result<Vec<DeviceId>, ReadError> {
        let devices: BTreeSet<DeviceId> = self.data.objects.iter().flat_map(WholeObject::devices).collect();
        Ok(devices.into_iter().collect())
    }

    fn device(&mut self, device: &DeviceId, take: &mut TakeChunk<'_>) -> Result<Vec<Loss>, CompactError> {
        let (mut runs, mut losses) = (Vec::new(), Vec::new());
        for object in &self.data.objects {
            let rank = object.rank();
            for run in object.runs(device.as_str()) {
                match run.is_frames() {
                    true => runs.push(Located { file: rank, run }),
                    false => losses.push(loss(&run, rank.id)),
                }
            }
        }
        if !have_numbers_in_common(&runs) {
            for chunk in RunFrames::new(&mut self.data, runs) {
                take(&chunk?)?;
            }
            return Ok(losses);
        }
        let chunks: Vec<Chunk> = RunFrames::new(&mut self.data, runs.clone()).collect::<Result<_, _>>()?;
        for chunk in chunks {
            self.compare(device, &runs, &chunk);
            take(&chunk)?;
        }
        Ok(losses)
    }

    fn copies(&self) -> Copies {
        self.copies
    }
}

impl ObjectsInput {
    /// Compares frames with their copies in other runs.
    fn compare(&mut self, device: &DeviceId, runs: &[Located<Rank>], chunk: &Chunk) {
        let copies = runs.iter().filter(|located| {
            let Located { file, run } = located;
            let near = run.first <= chunk.last() && run.last() >= chunk.first;
            run.epoch == chunk.epoch && near && *file != chunk.rank()
        });
        for of in copies {
            let (first, last) = (of.run.first.max(chunk.first), of.run.last().min(chunk.last()));
            let segment = Segment { of: *of, first, last };
            let Some(data) = self.data.object(of.file).data(&of.run) else { continue };
            let (Some(kept), Some(copy)) = (chunk.part(first, last), cut(&segment, &data)) else { continue };
            if kept.bytes == copy {
                self.copies.repeated += last.0 - first.0 + 1;
                continue;
            }
            for seq in (first.0..=last.0).map(Seq) {
                let copy = cut(&Segment { of: *of, first: seq, last: seq }, &data);
                let kept = chunk.part(seq, seq).map(|kept| kept.bytes);
                self.copies.note(kept == copy, device.as_str(), chunk.epoch, seq);
            }
        }
    }
}

/// Whether some number is in more than one run.
fn have_numbers_in_common(runs: &[Located<Rank>]) -> bool {
    let mut spans: Vec<_> = runs.iter().map(|of| (of.run.epoch, of.run.first, of.run.last())).collect();
    spans.sort_unstable();
    spans.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[1].1 <= pair[0].2)
}

impl ObjectData {
    fn object(&self, rank: Rank) -> &WholeObject {
        let at = self.objects.binary_search_by_key(&rank, WholeObject::rank);
        &self.objects[at.expect("its runs came from here")]
    }
}

impl RunData for ObjectData {
    fn data(
        &mut self,
        of: &Located<Rank>,
        _soon: &VecDeque<Segment<Rank>>,
    ) -> Result<Option<Bytes>, ReadError> {
        Ok(self.object(of.file).data(&of.run))
    }

    fn lost(&self, of: &Located<Rank>, first: Seq, last: Seq) -> ReadError {
        ReadError::DamagedObject {
            object: self.object(of.file).key(),
            offset: of.run.offset.into(),
            epoch: of.run.epoch,
            first,
            last,
        }
    }
}
