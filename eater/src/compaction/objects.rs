//! Journal objects, to be compacted: in memory as a whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use trough_protocol::{DeviceId, Seq};
use trough_store::object_catalog::ObjectRow;

use super::CompactError;
use super::copies::Copies;
use super::input::{Input, TakeChunk, loss};
use super::repair::GivenUp;
use super::runs::{RunData, RunFrames};
use crate::fsck::LostFrames;
use crate::journal::run::Located;
use crate::journal::scan::{Segment, cut};
use crate::journal::{Chunk, GapKind, Rank, ReadError};
use crate::objects::{WholeObject, object_key};
use crate::segments::format::Loss;

/// Objects of any eaters.
pub(super) struct ObjectsInput {
    data: ObjectData,
    copies: Copies,
    /// Those of which nothing can be read; `None` if nothing may be passed over.
    lost: Option<Vec<LostObject>>,
    /// Of the others, what was passed over so far.
    given_up: BTreeMap<Rank, GivenUp>,
}

/// An object that is gone, or of which it cannot be told what is where.
pub(super) struct LostObject {
    pub row: ObjectRow,
    pub found: String,
}

struct ObjectData {
    /// By rank.
    objects: Vec<WholeObject>,
}

impl ObjectsInput {
    pub(super) fn new(mut objects: Vec<WholeObject>) -> Self {
        objects.sort_unstable_by_key(WholeObject::rank);
        let (copies, given_up) = (Copies::default(), BTreeMap::new());
        Self { data: ObjectData { objects }, copies, lost: None, given_up }
    }

    /// Passes over what is damaged: as losses, like all of these objects.
    pub(super) fn past_damage(mut self, lost: Vec<LostObject>) -> Self {
        self.lost = Some(lost);
        self
    }
}

impl Input for ObjectsInput {
    fn devices(&mut self) -> Result<Vec<DeviceId>, ReadError> {
        let mut devices: BTreeSet<DeviceId> =
            self.data.objects.iter().flat_map(WholeObject::devices).collect();
        let lost = self.lost.iter().flatten().flat_map(|lost| &lost.row.spans);
        devices.extend(lost.map(|span| span.device.clone()));
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
        losses.extend(self.losses_of(device));
        let compared = if have_numbers_in_common(&runs) { runs.clone() } else { Vec::new() };
        let mut frames = RunFrames::new(&mut self.data, runs);
        if self.lost.is_some() {
            frames = frames.past_damage();
        }
        let damaged = match compared.is_empty() {
            true => {
                for chunk in frames.by_ref() {
                    take(&chunk?)?;
                }
                frames.lost()
            }
            false => {
                let chunks: Vec<Chunk> = frames.by_ref().collect::<Result<_, _>>()?;
                let damaged = frames.lost();
                for chunk in chunks {
                    self.compare(device, &compared, &chunk);
                    take(&chunk)?;
                }
                damaged
            }
        };
        losses.extend(damaged.iter().map(|segment| self.give_up(device, segment)));
        Ok(losses)
    }

    fn copies(&self) -> Copies {
        self.copies
    }

    fn given_up(&mut self) -> Vec<GivenUp> {
        let lost = self.lost.iter_mut().flat_map(std::mem::take);
        let whole = lost.map(|LostObject { row, found }| GivenUp::whole(object_key(row.id), found, &row));
        whole.chain(std::mem::take(&mut self.given_up).into_values()).collect()
    }
}

impl ObjectsInput {
    /// What lost objects had of a device.
    fn losses_of<'a>(&'a self, device: &'a DeviceId) -> impl Iterator<Item = Loss> + 'a {
        self.lost.iter().flatten().flat_map(move |LostObject { row, .. }| {
            let of_device = row.spans.iter().filter(move |span| span.device == *device);
            of_device.map(|span| Loss {
                epoch: span.epoch,
                first: span.first,
                last: span.last,
                kind: GapKind::Damaged,
                received_at: row.received_at,
                source: row.id,
            })
        })
    }

    /// The loss of damaged numbers of a run.
    fn give_up(&mut self, device: &DeviceId, damaged: &Segment<Rank>) -> Loss {
        let Segment { of: Located { file, run }, first, last } = *damaged;
        let given_up = self.given_up.entry(file).or_insert_with(|| GivenUp {
            object: object_key(file.id),
            found: "a checksum is wrong".to_owned(),
            lost: Vec::new(),
            more: false,
        });
        let (epoch, kind) = (run.epoch, GapKind::Damaged);
        given_up.lost.push(LostFrames { device: device.clone(), epoch, first, last });
        Loss { epoch, first, last, kind, received_at: run.received_at, source: file.id }
    }

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
