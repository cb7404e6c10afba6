//! A segment whose index and footer are known.

use std::ops::Range;
use std::sync::Arc;

use parquet::DecodeResult;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder, RowGroupMetaData,
};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use trough_store::ObjectKey;
use trough_store::objects::ObjectError;
use trough_store::segment_catalog::Segment;

use super::SegmentCache;
use super::blocks::{BlockError, Object};
use super::format::{Index, PARQUET_BYTES_MAX};
use super::names;
use super::schema::{SCHEMA, at};
use crate::journal::ReadError;

/// Most rows that are read at once, and their payloads, in bytes; one page more at the most.
const STEP_ROWS_MAX: u32 = 4096;
const STEP_BYTES_MAX: i64 = 512 * 1024;

pub(super) struct Opened {
    pub segment: Segment,
    pub key: ObjectKey,
    pub index: Index,
    pub parquet: ArrowReaderMetadata,
    /// The first row of each row group, and the row behind the last.
    groups: Vec<u32>,
}

impl SegmentCache {
    /// Opens a segment, unless it is open.
    pub(super) async fn opened(&self, segment: &Segment) -> Result<Arc<Opened>, ReadError> {
        if let Some(opened) = self.opened.get(&segment.id) {
            return Ok(opened);
        }
        let opened = Arc::new(self.open_anew(segment).await.inspect_err(|error| {
            if let ReadError::Segment { .. } = error {
                self.metrics.damaged.inc();
            }
        })?);
        self.metrics.opened.inc();
        let weight = opened.index.bytes().len() + opened.parquet.metadata().memory_size() + 1024;
        self.opened.put(segment.id, opened.clone(), weight);
        Ok(opened)
    }

    async fn open_anew(&self, segment: &Segment) -> Result<Opened, ReadError> {
        let index = match self.indexes.get(&segment.id) {
            Some(index) => index,
            None => self.fetched_index(segment).await?,
        };
        let key = names::parquet_key(segment.date, segment.id);
        let metadata = self.footer(Object { key: &key, index: &index }).await?;
        let fault = |found: String| damaged(&key, segment.bytes, found);
        let groups = groups(metadata.row_groups())
            .filter(|groups| groups.last().is_some_and(|rows| u64::from(*rows) == segment.frames));
        let groups = groups.ok_or_else(|| fault("the rows of its footer are not its frames".to_owned()))?;
        // Without Arrow's own schema: the columns are what Parquet says.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let parquet = ArrowReaderMetadata::try_new(Arc::new(metadata), options)
            .map_err(|error| fault(error.to_string()))?;
        check_columns(&parquet).map_err(fault)?;
        Ok(Opened { segment: segment.clone(), key, index, parquet, groups })
    }

    /// The index of a segment, fetched and found good.
    pub(super) async fn fetched_index(&self, segment: &Segment) -> Result<Index, ReadError> {
        let index_key = names::index_key(segment.date, segment.id);
        let bytes = match self.store.get_range(&index_key, 0..segment.index_bytes).await {
            Ok(bytes) => bytes,
            Err(ObjectError::Invalid(found)) => return Err(damaged(&index_key, 0, found)),
            Err(error) => return Err(error.into()),
        };
        self.metrics.requests.inc();
        self.metrics.fetched_bytes.inc_by(bytes.len() as u64);
        let computed = crc32c::crc32c(&bytes);
        if computed != segment.index_crc {
            let found = format!("checksum {:08x}, computed {computed:08x} (CRC32C)", segment.index_crc);
            return Err(damaged(&index_key, 0, found));
        }
        let index = Index::decode(bytes).map_err(|error| damaged(&index_key, 0, error.to_string()))?;
        let facts = index.facts();
        if (facts.id, facts.bytes, facts.frames) != (segment.id, segment.bytes, segment.frames) {
            let found = format!(
                "it is of segment {} with {} frames in {} bytes, and the catalog has {} with {} in {}",
                facts.id, facts.frames, facts.bytes, segment.id, segment.frames, segment.bytes
            );
            return Err(damaged(&index_key, 0, found));
        }
        Ok(index)
    }

    async fn footer(&self, object: Object<'_>) -> Result<ParquetMetaData, ReadError> {
        let bytes = object.index.facts().bytes;
        let fault = |error: ParquetError| damaged(object.key, bytes, error.to_string());
        let mut decoder = ParquetMetaDataPushDecoder::try_new(bytes)
            .map_err(fault)?
            .with_column_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(PageIndexPolicy::Required);
        loop {
            match decoder.try_decode().map_err(fault)? {
                DecodeResult::Data(metadata) => return Ok(metadata),
                DecodeResult::NeedsData(ranges) => {
                    if ranges.iter().any(|range| range.end > bytes.min(PARQUET_BYTES_MAX)) {
                        return Err(damaged(
                            object.key,
                            bytes,
                            "its footer points behind its end".to_owned(),
                        ));
                    }
                    let pieces = self.read(object, &ranges, true).await.map_err(|error| match error {
                        BlockError::Damaged { block, found } => damaged(object.key, block.start, found),
                        BlockError::Store(error) => error.into(),
                    })?;
                    decoder.push_ranges(ranges, pieces).map_err(fault)?;
                }
                DecodeResult::Finished => {
                    return Err(damaged(object.key, bytes, "it has no footer".to_owned()));
                }
            }
        }
    }
}

fn damaged(object: &ObjectKey, offset: u64, found: String) -> ReadError {
    ReadError::Segment { object: object.clone(), offset, found }
}

fn groups(groups: &[RowGroupMetaData]) -> Option<Vec<u32>> {
    let mut starts = vec![0_u32];
    for group in groups {
        let rows = u32::try_from(group.num_rows()).ok()?;
        starts.push(starts.last()?.checked_add(rows)?);
    }
    Some(starts)
}

/// Columns that a later release has added behind ours do not matter.
fn check_columns(parquet: &ArrowReaderMetadata) -> Result<(), String> {
    for (at, ours) in SCHEMA.fields().iter().enumerate() {
        let theirs = parquet.schema().fields().get(at);
        let same = |theirs: &&Arc<arrow_schema::Field>| {
            theirs.name() == ours.name() && theirs.data_type() == ours.data_type()
        };
        if theirs.filter(same).is_none() {
            return Err(format!(
                "column {} is {theirs:?} and not {} {}",
                at + 1,
                ours.name(),
                ours.data_type()
            ));
        }
    }
    Ok(())
}

impl Opened {
    /// The Parquet object.
    pub(super) fn object(&self) -> Object<'_> {
        Object { key: &self.key, index: &self.index }
    }

    /// Where these columns of a row group lie in the Parquet object.
    pub(super) fn columns(&self, group: usize, columns: &[usize]) -> Vec<Range<u64>> {
        let group = self.parquet.metadata().row_group(group);
        let place = |column: &usize| {
            let (start, len) = group.column(*column).byte_range();
            start..start + len
        };
        columns.iter().map(place).collect()
    }

    /// The row group that has this row, and its rows.
    pub(super) fn group_of(&self, row: u32) -> (usize, Range<u32>) {
        let at =
            self.groups.partition_point(|start| *start <= row).clamp(1, self.groups.len().max(2) - 1) - 1;
        (at, self.groups[at]..self.groups[at + 1])
    }

    /// Up to which row is read at once from `row` on: whole pages of payload, within one row group.
    pub(super) fn step_end(&self, row: u32) -> u32 {
        let (group, rows) = self.group_of(row);
        let most = row.saturating_add(STEP_ROWS_MAX).min(rows.end);
        let pages = Pages::new(self.offset_index(group, at::PAYLOAD), &rows);
        let (mut page, mut bytes) = (pages.of(row), 0);
        while page < pages.len() {
            let next = bytes + pages.bytes(page);
            if bytes > 0 && next > STEP_BYTES_MAX {
                return pages.rows(page).start.clamp(row + 1, most);
            }
            (bytes, page) = (next.max(1), page + 1);
        }
        most
    }

    /// From which row on is read at once up to `end`, which is not 0.
    pub(super) fn step_start(&self, end: u32) -> u32 {
        let (group, rows) = self.group_of(end - 1);
        let least = end.saturating_sub(STEP_ROWS_MAX).max(rows.start);
        let pages = Pages::new(self.offset_index(group, at::PAYLOAD), &rows);
        let (mut page, mut bytes) = (pages.of(end - 1), 0);
        loop {
            let next = bytes + pages.bytes(page);
            if bytes > 0 && next > STEP_BYTES_MAX {
                return pages.rows(page).end.clamp(least, end - 1);
            }
            bytes = next.max(1);
            match page.checked_sub(1) {
                Some(before) => page = before,
                None => return least,
            }
        }
    }

    /// The rows of a row group that are lost with these bytes, if these columns are read: all from the first to the last.
    pub(super) fn rows_in(&self, group: usize, bytes: &Range<u64>, columns: &[usize]) -> Option<Range<u32>> {
        let rows = self.groups[group]..self.groups[group + 1];
        let touches = |place: &Range<u64>| place.start < bytes.end && bytes.start < place.end;
        let mut lost: Option<Range<u32>> = None;
        for column in columns {
            let (start, len) = self.parquet.metadata().row_group(group).column(*column).byte_range();
            let pages = Pages::new(self.offset_index(group, *column), &rows);
            // What stands before the first page is the dictionary, which all pages need.
            let dictionary = start..pages.place(0).map_or(start + len, |place| place.start);
            if touches(&dictionary) {
                return Some(rows);
            }
            for page in 0..pages.len() {
                if pages.place(page).is_some_and(|place| touches(&place)) {
                    let of = pages.rows(page);
                    let before = lost.unwrap_or(of.clone());
                    lost = Some(before.start.min(of.start)..before.end.max(of.end));
                }
            }
        }
        lost
    }

    fn offset_index(&self, group: usize, column: usize) -> Option<&OffsetIndexMetaData> {
        self.parquet.metadata().page_index()?.offset_index(group, column)
    }
}

/// The pages of a column in a row group. Without an offset index the group is one page.
struct Pages<'a> {
    index: Option<&'a OffsetIndexMetaData>,
    group: Range<u32>,
}

impl<'a> Pages<'a> {
    fn new(index: Option<&'a OffsetIndexMetaData>, group: &Range<u32>) -> Self {
        Self { index: index.filter(|index| !index.page_locations().is_empty()), group: group.clone() }
    }

    fn len(&self) -> usize {
        self.index.map_or(1, |index| index.page_locations().len())
    }

    fn start(&self, page: usize) -> u32 {
        let location = self.index.and_then(|index| index.page_locations().get(page));
        location.map_or(self.group.end, |location| {
            self.group.start.saturating_add(u32::try_from(location.first_row_index).unwrap_or(u32::MAX))
        })
    }

    /// The page that has this row.
    fn of(&self, row: u32) -> usize {
        let Some(index) = self.index else { return 0 };
        let within = i64::from(row.saturating_sub(self.group.start));
        index.page_locations().partition_point(|page| page.first_row_index <= within).saturating_sub(1)
    }

    fn rows(&self, page: usize) -> Range<u32> {
        if self.index.is_none() {
            return self.group.clone();
        }
        self.start(page)..self.start(page + 1)
    }

    /// Bytes of its values, without compression; unknown ones count as a whole step.
    fn bytes(&self, page: usize) -> i64 {
        let known = self.index.and_then(OffsetIndexMetaData::unencoded_byte_array_data_bytes);
        known.and_then(|bytes| bytes.get(page).copied()).unwrap_or(STEP_BYTES_MAX)
    }

    /// Where it lies in the object.
    fn place(&self, page: usize) -> Option<Range<u64>> {
        let location = self.index?.page_locations().get(page)?;
        let start = u64::try_from(location.offset).ok()?;
        Some(start..start + u64::try_from(location.compressed_page_size).ok()?)
    }
}
