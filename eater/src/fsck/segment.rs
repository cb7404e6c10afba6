//! The two objects of a live segment: their bytes, and whether they say what the catalog says.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use trough_store::ObjectStore;
use trough_store::objects::ObjectError;
use trough_store::segment_catalog::Segment;

use super::held::Held;
use super::report::{Finding, FindingKind, LostFrames, RESTORE};
use super::rows::RowCheck;
use super::{CACHE, Check, FsckError, Sizes};
use crate::journal::ReadError;
use crate::segments::format::{BLOCK_BYTES, Index};
use crate::segments::{OpenSegment, SegmentCache, SegmentMetrics, describe, index_key, parquet_key};

/// Bytes fetched at a time: whole blocks.
const FETCH_BYTES: u64 = 64 * BLOCK_BYTES;
/// A Parquet object up to this size is fetched once and kept while it is checked; a larger one is fetched twice.
const HELD_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Frames that are lost are listed up to so many stretches of one segment.
const LOST_MAX: usize = 1000;

/// A Parquet object, as far as it was fetched.
struct Fetched {
    held: Option<Bytes>,
    /// Blocks that are not what was written, adjacent ones together: bytes of the object, and the checksums of the first.
    bad: Vec<(Range<u64>, u32, u32)>,
}

impl Check<'_> {
    /// Checks a segment. Whether all of it can be read.
    pub(super) fn check_segment(&mut self, segment: &Segment, sizes: Sizes) -> Result<bool, FsckError> {
        let mut found = Vec::new();
        let before = self.done;
        let index = self.check_index(segment, sizes.index, &mut found)?;
        if let Some(index) = index {
            self.check_parquet(segment, sizes.parquet, &index, &mut found)?;
        }
        let left = (before + segment.bytes + segment.index_bytes).saturating_sub(self.done);
        self.advance(left);
        if !found.is_empty() && !self.is_live(segment)? {
            return Ok(false);
        }
        let totals = &mut self.report.totals;
        totals.segments += 1;
        totals.segment_bytes += segment.bytes + segment.index_bytes;
        totals.segment_frames += segment.frames;
        let whole = found.is_empty();
        self.report.findings.extend(found);
        Ok(whole)
    }

    /// The index, if it can be believed.
    fn check_index(
        &mut self,
        segment: &Segment,
        listed: Option<u64>,
        found: &mut Vec<Finding>,
    ) -> Result<Option<Index>, FsckError> {
        let key = index_key(segment.date, segment.id);
        let bytes = match self.wait(self.parts.store.get(&key)) {
            Ok(bytes) => bytes,
            Err(ObjectError::NotFound(_)) => {
                found.push(missing(&key, segment.index_bytes, segment.frames));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        self.advance(segment.index_bytes);
        let size = listed.unwrap_or(bytes.len() as u64);
        if size != segment.index_bytes {
            found.push(
                Finding::new(FindingKind::Damaged, &key)
                    .at(size.min(segment.index_bytes))
                    .saw(format!("{} bytes", segment.index_bytes), format!("{size}")),
            );
            return Ok(None);
        }
        let computed = crc32c::crc32c(&bytes);
        if computed != segment.index_crc {
            let (expected, is) = (crc(segment.index_crc), crc(computed));
            found.push(Finding::new(FindingKind::Damaged, &key).at(0).saw(expected, is));
            return Ok(None);
        }
        let index = match Index::decode(bytes) {
            Ok(index) => index,
            Err(error) => {
                found
                    .push(Finding::new(FindingKind::Damaged, &key).at(0).saw("an index of a segment", error));
                return Ok(None);
            }
        };
        let described = describe(&index);
        if described.as_ref() != Some(segment) {
            let is =
                described.map_or_else(|| "no device".to_owned(), |described| differs(segment, &described));
            let finding = Finding::new(FindingKind::Disagrees, &key)
                .saw(format!("what the catalog says of segment {}", segment.id), is)
                .remedy(
                    "restore the catalog from a backup, or rebuild it with `trough fsck --rebuild --replace`",
                );
            found.push(finding);
            return Ok(None);
        }
        Ok(Some(index))
    }

    fn check_parquet(
        &mut self,
        segment: &Segment,
        listed: Option<u64>,
        index: &Index,
        found: &mut Vec<Finding>,
    ) -> Result<(), FsckError> {
        let key = parquet_key(segment.date, segment.id);
        if let Some(size) = listed.filter(|size| *size != segment.bytes) {
            found.push(
                Finding::new(FindingKind::Damaged, &key)
                    .at(size.min(segment.bytes))
                    .saw(format!("{} bytes", segment.bytes), format!("{size}")),
            );
        }
        let fetched = match self.fetch(segment, index)? {
            Ok(fetched) => fetched,
            Err(ObjectError::NotFound(_)) => {
                found.push(missing(&key, segment.bytes, segment.frames));
                return Ok(());
            }
            Err(error) => {
                // It ends before its last byte; the size says so, too.
                if found.is_empty() {
                    let expected = format!("{} bytes", segment.bytes);
                    found.push(Finding::new(FindingKind::Damaged, &key).at(0).saw(expected, error));
                }
                return Ok(());
            }
        };
        let mut damage: Vec<Finding> = Vec::new();
        for (span, written, computed) in &fetched.bad {
            let more = (span.end - span.start).div_ceil(BLOCK_BYTES) - 1;
            let more = if more > 0 { format!(", and {more} more blocks behind it") } else { String::new() };
            let finding = Finding::new(FindingKind::Damaged, &key).at(span.start);
            damage.push(finding.saw(crc(*written), format!("{}{more}", crc(*computed))));
        }
        self.check_rows(segment, &fetched, &mut damage)?;
        found.append(&mut damage);
        Ok(())
    }

    /// Fetches all of it and compares every block. The inner error is one of this object alone.
    fn fetch(&mut self, segment: &Segment, index: &Index) -> Result<Result<Fetched, ObjectError>, FsckError> {
        let key = parquet_key(segment.date, segment.id);
        let mut fetched = Fetched { held: None, bad: Vec::new() };
        let mut held = (segment.bytes <= HELD_BYTES_MAX).then(BytesMut::new);
        let mut at = 0;
        while at < segment.bytes {
            let end = (at + FETCH_BYTES).min(segment.bytes);
            let bytes = match self.wait(self.parts.store.get_range(&key, at..end)) {
                Ok(bytes) if bytes.len() as u64 == end - at => bytes,
                Ok(bytes) => {
                    let short = format!("{} bytes where {} were asked for", bytes.len(), end - at);
                    return Ok(Err(ObjectError::Invalid(short)));
                }
                Err(error @ (ObjectError::NotFound(_) | ObjectError::Invalid(_))) => return Ok(Err(error)),
                Err(error) => return Err(error.into()),
            };
            for (number, block) in (at / BLOCK_BYTES..).zip(bytes.chunks(BLOCK_BYTES as usize)) {
                let (written, computed) =
                    (index.block_crc(number).unwrap_or_default(), crc32c::crc32c(block));
                if written == computed {
                    continue;
                }
                let start = number * BLOCK_BYTES;
                let span = start..start + block.len() as u64;
                match fetched.bad.last_mut() {
                    Some((last, ..)) if last.end == span.start => last.end = span.end,
                    _ => fetched.bad.push((span, written, computed)),
                }
            }
            if let Some(held) = &mut held {
                held.extend_from_slice(&bytes);
            }
            self.advance(end - at);
            at = end;
        }
        fetched.held = held.map(BytesMut::freeze);
        Ok(Ok(fetched))
    }

    /// Reads all rows, and says which cannot be read.
    fn check_rows(
        &mut self,
        segment: &Segment,
        fetched: &Fetched,
        damage: &mut Vec<Finding>,
    ) -> Result<(), FsckError> {
        let key = parquet_key(segment.date, segment.id);
        let cache = match fetched.held.clone() {
            Some(bytes) => {
                let held = Held { store: self.parts.store.clone(), key: key.clone(), bytes };
                let held: Arc<dyn ObjectStore> = Arc::new(held);
                SegmentCache::new(held, CACHE, SegmentMetrics::default())
            }
            None => self.cache.clone(),
        };
        let opened = match self.wait(OpenSegment::open(&cache, segment)) {
            Ok(opened) => opened,
            Err(ReadError::Segment { object, offset, found }) => {
                let place = by_offset(damage, offset, || Finding::new(FindingKind::Damaged, &object));
                if place.found.is_empty() {
                    *place = place.clone().saw("a segment of ours", found);
                }
                place.remedy = "none of the segment's frames can be read: restore the object from a copy";
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut check = RowCheck::new(&opened);
        let mut rows = opened.rows();
        let mut lost = 0;
        while let Some(next) = self.wait(rows.next()) {
            match next {
                Ok(rows) => rows.iter().for_each(|row| check.take(&row)),
                Err(ReadError::DamagedSegment { object, offset, device, epoch, first, last }) => {
                    let place = by_offset(damage, offset, || {
                        let finding = Finding::new(FindingKind::Damaged, &object);
                        finding.saw("rows as the index has them", "others, or none that can be decoded")
                    });
                    lost += 1;
                    if lost <= LOST_MAX {
                        place.lost.push(LostFrames { device, epoch, first, last });
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some((expected, found)) = check.finish() {
            let finding = Finding::new(FindingKind::Disagrees, &key).saw(expected, found);
            damage.push(finding.remedy("restore both objects of the segment from a copy"));
        }
        Ok(())
    }
}

/// The finding that has this offset, or a new one.
fn by_offset(damage: &mut Vec<Finding>, offset: u64, new: impl FnOnce() -> Finding) -> &mut Finding {
    // Runs of blocks begin at their offsets, so it is the last one that begins before.
    let at = damage.iter().rposition(|finding| finding.offset.is_some_and(|at| at <= offset));
    let at = at.unwrap_or_else(|| {
        damage.push(new().at(offset).remedy(RESTORE));
        damage.len() - 1
    });
    &mut damage[at]
}

fn missing(key: &trough_store::ObjectKey, bytes: u64, frames: u64) -> Finding {
    let finding = Finding::new(FindingKind::Missing, key);
    finding.saw(format!("an object of {bytes} bytes for a segment of {frames} frames"), "none")
}

fn crc(value: u32) -> String {
    format!("CRC32C {value:08x}")
}

/// The first thing in which two rows of the catalog differ.
fn differs(known: &Segment, is: &Segment) -> String {
    macro_rules! first {
        ($($field:ident: $what:literal),*) => {$(
            if known.$field != is.$field {
                return format!(concat!($what, " {:?} where the catalog has {:?}"), is.$field, known.$field);
            }
        )*};
    }
    first!(id: "id", date: "date", level: "level", bytes: "bytes", frames: "frames", devices: "devices", ts: "ts",
           received: "received");
    "something else".to_owned()
}
