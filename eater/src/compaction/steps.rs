//! The steps of compaction: journals first, then small segments.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use tokio::task::JoinSet;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_runtime::clock::micros;
use trough_runtime::random::random_bytes;
use trough_store::ObjectCatalog;
use trough_store::object_catalog::{DeviceHead, HEADS_MAX, Incarnation, ObjectRow, ROWS_MAX};
use trough_store::objects::ObjectError;
use trough_store::segment_catalog::{Change, Manifest, Segment, SegmentId, Through};

use super::config::Journals;
use super::copies::Copies;
use super::input::{self, Input};
use super::levels;
use super::local::LocalInput;
use super::merge;
use super::objects::{LostObject, ObjectsInput};
use super::output::{Output, day, last_day_with};
use super::{CompactError, Compactor};
use crate::journal::{Journal, ReadError};
use crate::objects::{WholeObject, object_key};
use crate::segments::{OpenSegment, Written, index_key, parquet_key};

/// Objects fetched at a time.
const FETCHES_MAX: usize = 16;
/// Most objects of one step: all their indexes are in memory.
const OBJECTS_MAX: usize = 4096;

/// What a step read of journals.
struct Taken {
    input: Box<dyn Input>,
    through: Vec<Through>,
}

impl Compactor {
    /// Makes the next step, if there is one.
    pub(super) fn step(&mut self, manifest: &Manifest, token: u64) -> Result<bool, CompactError> {
        if self.step_of_journals(manifest, token)? {
            return Ok(true);
        }
        let today = day(self.parts.clock.now());
        let whole = manifest.segments.iter().filter(|segment| !self.damaged.contains(&segment.id));
        let Some(merging) = levels::plan(&whole.cloned().collect::<Vec<_>>(), today) else {
            return Ok(false);
        };
        match self.merge(manifest, token, merging) {
            Err(CompactError::Read(error)) if self.note_damage(&error) => Ok(true),
            done => done.map(|()| true),
        }
    }

    /// The same of journals alone.
    pub(super) fn step_of_journals(&mut self, manifest: &Manifest, token: u64) -> Result<bool, CompactError> {
        let taken = match self.parts.journals.clone() {
            Journals::Local(journal) => self.take_files(manifest, journal),
            Journals::Objects(catalog) => self.take_objects(manifest, &*catalog, token)?,
        };
        let Some(taken) = taken else { return Ok(false) };
        self.compact(manifest, token, taken)?;
        Ok(true)
    }

    /// Takes note that a segment is damaged, if that is what it says and is news: what is whole does not wait for it.
    fn note_damage(&mut self, error: &ReadError) -> bool {
        let Some(damaged) = error.damaged_segment() else { return false };
        tracing::error!(segment = %damaged, %error, "a damaged segment is not merged until the next start");
        self.damaged.insert(damaged)
    }

    fn compact(&mut self, manifest: &Manifest, token: u64, taken: Taken) -> Result<(), CompactError> {
        let Taken { mut input, through } = taken;
        let written = self.write(token, 1, |output, go_on| input::write(&mut *input, output, go_on));
        let (add, frames) = written.map_err(|error| match error {
            CompactError::Read(error @ ReadError::DamagedObject { .. }) => unusable_run(error),
            error => error,
        })?;
        self.commit(manifest, token, add, Vec::new(), through)?;
        self.count(frames, input.copies());
        if let Some(given_up) = &mut self.given_up {
            given_up.extend(input.given_up());
        }
        Ok(())
    }

    fn count(&self, frames: u64, copies: Copies) {
        self.parts.metrics.frames.inc_by(frames);
        self.parts.metrics.repeated.inc_by(copies.repeated);
        self.parts.metrics.conflicts.inc_by(copies.conflicts);
    }

    fn merge(
        &mut self,
        manifest: &Manifest,
        token: u64,
        merging: levels::Merging,
    ) -> Result<(), CompactError> {
        let opening = merging.segments.iter().map(|segment| OpenSegment::open(&self.parts.cache, segment));
        let segments = self.wait(try_join_all(opening))?;
        let (add, merged) = self.write(token, merging.level, |output, go_on| {
            output.all_into(merging.date);
            merge::write(&segments, output, &self.handle, go_on)
        })?;
        let remove: Vec<SegmentId> = merging.segments.iter().map(|segment| segment.id).collect();
        self.commit(manifest, token, add, remove, Vec::new())?;
        self.count(merged.frames, merged.copies);
        Ok(())
    }

    /// Segments out of what `fill` gives, stored.
    pub(super) fn write<T>(
        &self,
        token: u64,
        level: u8,
        fill: impl FnOnce(&mut Output<'_>, &dyn Fn() -> Result<(), CompactError>) -> Result<T, CompactError>,
    ) -> Result<(Vec<Segment>, T), CompactError> {
        let go_on = || self.keep(token);
        let mut store = |written: Written| {
            let Written { parquet, index, segment } = written;
            self.parts.metrics.bytes.inc_by(parquet.len() as u64 + index.len() as u64);
            let (parquet_key, index_key) =
                (parquet_key(segment.date, segment.id), index_key(segment.date, segment.id));
            self.keep(token)?;
            self.wait(self.parts.store.put(&parquet_key, parquet))?;
            self.keep(token)?;
            self.wait(self.parts.store.put(&index_key, index))?;
            Ok(segment)
        };
        let mut output = Output::new(level, self.config.segment_bytes, self.parts.clock.clone(), &mut store);
        let filled = fill(&mut output, &go_on)?;
        Ok((output.finish()?, filled))
    }

    fn commit(
        &mut self,
        manifest: &Manifest,
        token: u64,
        add: Vec<Segment>,
        remove: Vec<SegmentId>,
        through: Vec<Through>,
    ) -> Result<(), CompactError> {
        let (id, after) = (random_bytes(), manifest.number);
        self.make(manifest, Change { id, token, after, add, remove, through, expires: false })
    }

    /// Replaces a segment by some that have less.
    pub(super) fn expire(
        &mut self,
        manifest: &Manifest,
        token: u64,
        add: Vec<Segment>,
        segment: SegmentId,
    ) -> Result<(), CompactError> {
        let (id, after, remove) = (random_bytes(), manifest.number, vec![segment]);
        self.make(manifest, Change { id, token, after, add, remove, through: Vec::new(), expires: true })
    }

    fn make(&mut self, manifest: &Manifest, change: Change) -> Result<(), CompactError> {
        let number = self.wait(self.parts.segments.commit(&change))?;
        self.made = number;
        self.parts.metrics.steps.inc();
        let live = manifest.segments.len() + change.add.len() - change.remove.len();
        self.parts.metrics.segments.set(live as i64);
        tracing::info!(
            manifest = number,
            added = change.add.len(),
            frames = change.add.iter().map(|segment| segment.frames).sum::<u64>(),
            removed = change.remove.len(),
            journals = change.through.len(),
            "compacted"
        );
        Ok(())
    }

    /// The oldest sealed files of the local journal that are not compacted yet.
    fn take_files(&self, manifest: &Manifest, journal: Journal) -> Option<Taken> {
        let done = manifest.through_of(Incarnation::LOCAL);
        let mut sealed = journal.sealed_files().into_iter().filter(|file| file.file_id > done);
        let first = sealed.next()?;
        let (mut bytes, last_day) = (first.bytes, last_day_with(first.min_received));
        let more = sealed.take_while(|file| {
            bytes += file.bytes;
            bytes <= self.config.input_bytes && day(file.max_received) <= last_day
        });
        let files: Vec<u64> = [first.file_id].into_iter().chain(more.map(|file| file.file_id)).collect();
        let n = *files.last()?;
        let input = Box::new(LocalInput::new(journal, files));
        Some(Taken { input, through: vec![Through { incarnation: Incarnation::LOCAL, n }] })
    }

    /// The oldest objects of every eater that are not compacted yet, if they are enough or have waited long enough.
    fn take_objects(
        &self,
        manifest: &Manifest,
        catalog: &dyn ObjectCatalog,
        token: u64,
    ) -> Result<Option<Taken>, CompactError> {
        let now = self.parts.clock.now();
        let settled = now.saturating_sub(micros(self.config.settle));
        let mut pages: BTreeMap<Incarnation, Vec<ObjectRow>> = BTreeMap::new();
        let (mut bytes, mut count) = (0, 0);
        for state in self.wait(catalog.incarnations())? {
            let mut after = manifest.through_of(state.incarnation);
            while after < state.last && bytes < self.config.input_bytes && count < OBJECTS_MAX {
                self.keep(token)?;
                let mut rows = self.wait(catalog.rows(state.incarnation, after, ROWS_MAX))?;
                let page = rows.len();
                rows.retain(|row| row.received_at <= settled);
                let Some(last) = rows.last() else { break };
                after = last.id.n;
                bytes += rows.iter().map(|row| row.bytes).sum::<u64>();
                count += rows.len();
                let whole = rows.len() == page;
                pages.entry(state.incarnation).or_default().extend(rows);
                if !whole {
                    break;
                }
            }
        }
        let oldest = pages.values().filter_map(|rows| rows.first()).map(|row| row.received_at).min();
        let Some(oldest) = oldest else { return Ok(None) };
        let last_day = last_day_with(oldest);
        let waited = now.saturating_sub(oldest) >= micros(self.config.gather);
        if !waited && bytes < self.config.input_bytes / 4 {
            return Ok(None);
        }
        // Those of an eater rise, so what is left is the oldest of each.
        pages.values_mut().for_each(|rows| rows.retain(|row| day(row.received_at) <= last_day));
        let through = pages.iter().filter_map(|(incarnation, rows)| {
            Some(Through { incarnation: *incarnation, n: rows.last()?.id.n })
        });
        let through = through.collect();
        let rows: Vec<ObjectRow> = pages.into_values().flatten().collect();
        let (objects, lost) = self.fetch(rows, token)?;
        self.note_heads(catalog, &objects, &lost, token)?;
        let input = ObjectsInput::new(objects);
        let input = if self.given_up.is_some() { input.past_damage(lost) } else { input };
        Ok(Some(Taken { input: Box::new(input), through }))
    }

    /// An eater that died may not have come to it, and when its rows are gone nobody else can tell.
    fn note_heads(
        &self,
        catalog: &dyn ObjectCatalog,
        objects: &[WholeObject],
        lost: &[LostObject],
        token: u64,
    ) -> Result<(), CompactError> {
        let mut heads: BTreeMap<(DeviceId, Epoch), (Seq, Micros)> = BTreeMap::new();
        for LostObject { row, .. } in lost {
            for span in &row.spans {
                let head = heads.entry((span.device.clone(), span.epoch)).or_default();
                *head = (span.last, row.received_at).max(*head);
            }
        }
        for object in objects {
            for device in object.devices() {
                for run in object.runs(device.as_str()) {
                    let head = heads.entry((device.clone(), run.epoch)).or_default();
                    *head = (run.last(), run.received_at).max(*head);
                }
            }
        }
        let heads = heads.into_iter().map(|((device, epoch), (head, received_at))| DeviceHead {
            device,
            epoch,
            head,
            received_at,
        });
        let heads: Vec<DeviceHead> = heads.collect();
        for heads in heads.chunks(HEADS_MAX) {
            self.keep(token)?;
            self.wait(catalog.note_heads(heads))?;
        }
        Ok(())
    }

    /// Objects, and those that are lost, if they may be given up.
    fn fetch(
        &self,
        rows: Vec<ObjectRow>,
        token: u64,
    ) -> Result<(Vec<WholeObject>, Vec<LostObject>), CompactError> {
        self.wait(async {
            let (mut objects, mut lost) = (Vec::with_capacity(rows.len()), Vec::new());
            let (mut rows, mut fetching) = (rows.into_iter(), JoinSet::new());
            loop {
                while fetching.len() < FETCHES_MAX
                    && let Some(row) = rows.next()
                {
                    let store = self.parts.store.clone();
                    fetching.spawn(async move {
                        let object = match store.get(&object_key(row.id)).await {
                            Ok(bytes) => WholeObject::new(&row, bytes).map_err(|error| error.to_string()),
                            Err(ObjectError::NotFound(_)) => Err("it is not there".to_owned()),
                            Err(error) => return Err(ReadError::from(error)),
                        };
                        Ok(object.map_err(|found| LostObject { row, found }))
                    });
                }
                self.keep_claim(token).await?;
                match fetching.join_next().await {
                    Some(Ok(fetched)) => match fetched? {
                        Ok(object) => objects.push(object),
                        Err(object) if self.given_up.is_some() => lost.push(object),
                        Err(LostObject { row, found }) => {
                            return Err(CompactError::JournalObject { object: object_key(row.id), found });
                        }
                    },
                    Some(Err(error)) => return Err(ReadError::Broken(error.to_string()).into()),
                    None => return Ok((objects, lost)),
                }
            }
        })
    }
}

fn unusable_run(error: ReadError) -> CompactError {
    match error {
        ReadError::DamagedObject { object, offset, epoch, first, last } => {
            let found = format!("frames {first} to {last} of epoch {epoch} are damaged at offset {offset}");
            CompactError::JournalObject { object, found }
        }
        error => error.into(),
    }
}
