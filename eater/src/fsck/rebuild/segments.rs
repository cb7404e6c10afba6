//! Which segments count.

use std::collections::{BTreeMap, HashSet};

use trough_protocol::DeviceId;
use trough_store::object_catalog::Incarnation;
use trough_store::objects::ObjectError;
use trough_store::segment_catalog::{SegmentId, Through};

use super::cover::Numbers;
use super::*;
use crate::compaction::born;
use crate::compaction::manifest_file::{ManifestFile, number};
use crate::journal::GapKind;
use crate::segments::format::{Index, Loss};
use crate::segments::{OpenSegment, describe, index_key, parquet_key, segment_of_key};

/// How far journals are compacted, as far as is known.
type Reached = BTreeMap<Incarnation, u64>;

/// What is being put together.
#[derive(Default)]
struct Chosen {
    segments: Vec<Segment>,
    ids: HashSet<SegmentId>,
    /// By segments that a manifest names: their journals are compacted so far.
    named: Reached,
    /// By the others: only where nothing is left of the journal.
    adopted: Reached,
    /// Something that a manifest names is left out: what is left of journals may have it, and is compacted once more.
    lossy: bool,
    /// What is gone for good: a segment that still has it does not count.
    expired: Numbers,
}

impl Chosen {
    /// Whether a frame or a loss from there is read from its journal.
    fn is_in_journal(&self, present: &Present, source: ObjectId) -> bool {
        let compacted = self.named.get(&source.incarnation).is_some_and(|n| source.n <= *n);
        present.has(source) && (self.lossy || !compacted)
    }
}

impl Rebuild<'_> {
    /// The manifest that counts: the catalog's own, if it is whole, or one that is made now.
    pub(super) fn rebuild_segments(
        &mut self,
        listing: &Listing,
        present: &Present,
    ) -> Result<Manifest, RebuildError> {
        let known = self.wait(self.parts.segments.manifest(None))?;
        let known = known.unwrap_or_else(|| unreachable!("nothing is known, so the newest is news"));
        let written = listing.manifests.iter().filter_map(number).max().unwrap_or(0);
        let is_empty = known.number == 0 && known.segments.is_empty();
        if !self.options.replace {
            if !is_empty && known.number >= written {
                return Ok(known);
            }
            if !is_empty {
                return Err(RebuildError::Something { known: known.number, written });
            }
            if listing.segments.is_empty() && written == 0 {
                return Ok(known);
            }
        }
        let sizes = |sizes: &super::super::Sizes| sizes.parquet.unwrap_or(0) + sizes.index.unwrap_or(0);
        self.total = listing.segments.values().map(sizes).sum();
        let mut chosen = Chosen::default();
        self.take_named(listing, &mut chosen)?;
        self.adopt(listing, present, &mut chosen)?;
        let manifest = manifest(chosen, present, known.number.max(written) + 1);
        self.keep_claim()?;
        let restored = self.wait(self.parts.segments.restore(&manifest, self.options.replace))?;
        if !restored {
            return Err(RebuildError::InUse(
                "somebody has filled the catalog of segments meanwhile".to_owned(),
            ));
        }
        // The claims of before count no more.
        self.token = self.claim()?;
        self.rebuilt.manifest = Some(manifest.number);
        self.rebuilt.segments = manifest.segments.len() as u64;
        self.rebuilt.frames = manifest.segments.iter().map(|segment| segment.frames).sum();
        Ok(manifest)
    }

    /// The newest manifest that can be read.
    fn newest_written(&mut self, listing: &Listing) -> Result<Option<ManifestFile<'static>>, RebuildError> {
        for key in listing.manifests.iter().rev().filter(|key| number(key).is_some()) {
            let bytes = match self.wait(self.parts.store.get(key)) {
                Ok(bytes) => bytes,
                Err(ObjectError::NotFound(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            match ManifestFile::decode(&bytes) {
                Ok(file) if Some(file.number) == number(key) => return Ok(Some(file)),
                Ok(file) => {
                    self.note(format!("{key} says that it is manifest {}, and is not used", file.number))
                }
                Err(error) => self.note(format!("{key} cannot be read ({error}), and is not used")),
            }
        }
        Ok(None)
    }

    /// What the newest manifest names.
    fn take_named(&mut self, listing: &Listing, chosen: &mut Chosen) -> Result<(), RebuildError> {
        let Some(file) = self.newest_written(listing)? else {
            self.note("no manifest can be read: what counts is told by the segments alone".to_owned());
            return Ok(());
        };
        let mut missing = Vec::new();
        for listed in &file.segments {
            let found = ObjectKey::new(&listed.key).ok().and_then(|key| segment_of_key(&key));
            let named = match found {
                Some(id) => self.load(listing, id)?,
                None => Err("it is no key of a segment".to_owned()),
            };
            match named {
                Ok((segment, index)) => {
                    let read = self.sources(&segment, &index, |_| {})?;
                    raise(&mut chosen.named, read);
                    chosen.expired.add_expired(&index);
                    chosen.ids.insert(segment.id);
                    chosen.segments.push(segment);
                }
                Err(why) => missing.push(format!("{} with {} frames ({why})", listed.key, listed.frames)),
            }
        }
        if !missing.is_empty() && !self.options.without_missing {
            return Err(RebuildError::Missing(missing));
        }
        chosen.lossy = !missing.is_empty();
        missing.into_iter().for_each(|missing| self.note(format!("left out: {missing}")));
        Ok(())
    }

    /// Segments that no manifest names, if they have what is nowhere else: they were committed after it was written, or
    /// were live before and what replaced them is gone.
    fn adopt(
        &mut self,
        listing: &Listing,
        present: &Present,
        chosen: &mut Chosen,
    ) -> Result<(), RebuildError> {
        let mut others: Vec<SegmentId> =
            listing.segments.keys().filter(|id| !chosen.ids.contains(id)).copied().collect();
        others.sort_unstable_by_key(|id| std::cmp::Reverse((born(*id), *id)));
        for id in others {
            // One that is not whole was never committed, or is of no use.
            let Ok((segment, index)) = self.load(listing, id)? else { continue };
            let mut left = Numbers::of(&index);
            left.subtract_all(&chosen.expired);
            let mut losses: Vec<(DeviceId, Loss)> = Vec::new();
            for device in index.devices() {
                // What has expired came from no journal.
                let declared = device.losses().filter(|loss| loss.kind != GapKind::Expired);
                let gone = declared.filter(|loss| !chosen.is_in_journal(present, loss.source));
                losses.extend(gone.map(|loss| (device.id(), loss)));
            }
            for known in &chosen.segments {
                // Copies of another day are other copies; losses of several days may stand together.
                let may_cover = known.date == segment.date && !left.is_empty();
                if !may_cover && losses.is_empty() {
                    continue;
                }
                let Ok((_, index)) = self.load(listing, known.id)? else { continue };
                if may_cover {
                    left.subtract(&index);
                }
                losses.retain(|(device, loss)| {
                    let found = index.find(device.as_str());
                    found.is_none_or(|found| !found.losses().any(|known| known == *loss))
                });
            }
            // What has expired may have been taken in by a later segment, together with more.
            let mut expired = Numbers::default();
            expired.add_expired(&index);
            expired.subtract_all(&chosen.expired);
            let mut needed = !losses.is_empty() || !expired.is_empty();
            if left.is_empty() && !needed {
                continue;
            }
            let sources = self.sources(&segment, &index, |row| {
                needed |=
                    !chosen.is_in_journal(present, row.source) && left.has(row.device, row.epoch, row.seq);
            })?;
            if needed {
                raise(&mut chosen.adopted, sources);
                chosen.expired.add_expired(&index);
                chosen.ids.insert(id);
                chosen.segments.push(segment);
                self.rebuilt.adopted += 1;
            }
        }
        Ok(())
    }

    /// A segment by its index. The inner error says why it is not whole.
    fn load(
        &self,
        listing: &Listing,
        id: SegmentId,
    ) -> Result<Result<(Segment, Index), String>, RebuildError> {
        let Some((sizes, date)) = listing.segments.get(&id).zip(listing.date_of(id)) else {
            return Ok(Err("it is not there".to_owned()));
        };
        let (Some(_), Some(bytes)) = (sizes.index, sizes.parquet) else {
            return Ok(Err("one of its two objects is not there".to_owned()));
        };
        let key = index_key(date, id);
        let index = match self.wait(self.parts.store.get(&key)) {
            Ok(bytes) => Index::decode(bytes),
            Err(ObjectError::NotFound(_)) => return Ok(Err(format!("{key} is not there"))),
            Err(error) => return Err(error.into()),
        };
        let index = match index {
            Ok(index) => index,
            Err(error) => return Ok(Err(format!("{key}: {error}"))),
        };
        let facts = index.facts();
        if (facts.id, facts.date, facts.bytes) != (id, date, bytes) {
            return Ok(Err(format!(
                "{} has {bytes} bytes, and its index is of another",
                parquet_key(date, id)
            )));
        }
        Ok(describe(&index).map(|segment| (segment, index)).ok_or_else(|| format!("{key} has no device")))
    }

    /// How far journals are in a segment, by its rows and losses. Each row is shown to `look`. What is damaged is noted.
    fn sources(
        &mut self,
        segment: &Segment,
        index: &Index,
        mut look: impl FnMut(&crate::segments::Row<'_>),
    ) -> Result<Reached, RebuildError> {
        self.keep_claim()?;
        let mut reached = Reached::new();
        let mut reach = |source: ObjectId| {
            let n = reached.entry(source.incarnation).or_insert(0);
            *n = source.n.max(*n);
        };
        for device in index.devices() {
            let declared = device.losses().filter(|loss| loss.kind != GapKind::Expired);
            declared.for_each(|loss| reach(loss.source));
        }
        let opened = match self.wait(OpenSegment::open(&self.cache, segment)) {
            Ok(opened) => Some(opened),
            Err(error @ ReadError::Segment { .. }) => {
                self.note(error.to_string());
                None
            }
            Err(error) => return Err(error.into()),
        };
        let mut damage = Vec::new();
        if let Some(opened) = opened {
            let mut rows = opened.rows();
            while let Some(next) = self.wait(rows.next()) {
                match next {
                    Ok(rows) => {
                        for row in rows.iter() {
                            reach(row.source);
                            look(&row);
                        }
                    }
                    Err(error) if error.lost().is_some() => damage.push(error.to_string()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // The first says enough: a check lists them all.
        damage.truncate(1);
        damage.into_iter().for_each(|damage| self.note(damage));
        self.advance(segment.bytes + segment.index_bytes);
        Ok(reached)
    }
}

fn raise(reached: &mut Reached, by: Reached) {
    for (incarnation, n) in by {
        let known = reached.entry(incarnation).or_insert(0);
        *known = n.max(*known);
    }
}

/// What is live. Of a journal of which nothing is left all is compacted; of any other at least what is not there any more,
/// and never more than a manifest vouches for.
fn manifest(chosen: Chosen, present: &Present, number: u64) -> Manifest {
    let Chosen { mut segments, named, adopted, lossy, .. } = chosen;
    segments.sort_unstable_by_key(|segment| (segment.date, segment.level, segment.id));
    let mut through = named;
    if lossy {
        through.retain(|incarnation, _| !present.files.contains_key(incarnation));
    }
    for incarnation in present.files.keys() {
        let removed = present.removed(*incarnation).unwrap_or(0);
        let known = through.entry(*incarnation).or_insert(0);
        *known = removed.max(*known);
    }
    let gone = adopted.into_iter().filter(|(incarnation, _)| !present.files.contains_key(incarnation));
    raise(&mut through, gone.collect());
    let through = through.into_iter().filter(|(_, n)| *n > 0);
    let through = through.map(|(incarnation, n)| Through { incarnation, n }).collect();
    // Nobody knows any more when something expired last: whoever kept an answer asks anew.
    Manifest { number, through, segments, expired: number }
}
