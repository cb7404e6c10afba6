//! Reading an index, piece by piece.

use std::sync::Arc;

use trough_protocol::wire::Reader;
use trough_protocol::{DeviceId, Epoch, Seq};

use super::{
    BLOCK_BYTES, BLOCK_RECORDS, Entry, HEADER_BYTES, Header, RECORD_BYTES, TableError, check_crc,
    decode_record,
};
use crate::journal::disk::DiskFile;
use crate::journal::run::{Key, Run};

/// An open index. Only its fences are in memory.
pub(in crate::journal) struct Table {
    file: Arc<dyn DiskFile>,
    header: Header,
    fences: Vec<Fence>,
}

struct Fence {
    first: DeviceId,
    at: u64,
    len: u32,
}

fn damaged(found: impl Into<String>) -> TableError {
    TableError::Damaged(found.into())
}

impl Table {
    /// Opens the index in `file`.
    ///
    /// # Errors
    /// It cannot be read, or is not an index of this release.
    pub(in crate::journal) fn open(file: Arc<dyn DiskFile>) -> Result<Self, TableError> {
        let header = Header::decode(&file.read_at(0, HEADER_BYTES)?)?;
        let len = file.len()?;
        let mut places = [header.directory, header.fences].into_iter();
        if places.any(|(at, bytes)| at.checked_add(bytes).is_none_or(|end| end > len)) {
            return Err(damaged(format!("it ends early, at {len} bytes")));
        }
        if header.records > len / RECORD_BYTES as u64 {
            return Err(damaged(format!("{} records in {len} bytes", header.records)));
        }
        let bytes = file.read_at(header.fences.0, usize_of(header.fences.1)?)?;
        let mut reader = Reader::new(&bytes);
        let (found, computed) = (reader.u32("fences")?, crc32c::crc32c(reader.rest()));
        if found != computed {
            return Err(damaged("the checksum of its fences is wrong"));
        }
        let mut fences = Vec::new();
        while !reader.rest().is_empty() {
            let (at, len) = (reader.u64("fence")?, reader.u32("fence")?);
            let name = reader.u8("fence")?;
            let name = DeviceId::check(reader.bytes("fence", usize::from(name))?);
            let first = name.and_then(DeviceId::new).map_err(|error| damaged(error.to_string()))?;
            fences.push(Fence { first, at, len });
        }
        Ok(Self { file, header, fences })
    }

    pub(in crate::journal) fn header(&self) -> &Header {
        &self.header
    }

    /// About how much memory it takes, in bytes.
    pub(in crate::journal) fn memory(&self) -> usize {
        size_of::<Self>() + self.fences.len() * (size_of::<Fence>() + 40)
    }

    /// What it says of a device.
    pub(in crate::journal) fn find(&self, device: &str) -> Result<Option<Entry>, TableError> {
        let behind = self.fences.partition_point(|fence| fence.first.as_str() <= device);
        let Some(block) = behind.checked_sub(1) else { return Ok(None) };
        let mut found = None;
        self.each_of(block, Some(device), |entry| found = Some(entry))?;
        Ok(found)
    }

    /// Calls `visit` with every entry, by device id.
    pub(in crate::journal) fn each(&self, mut visit: impl FnMut(Entry)) -> Result<(), TableError> {
        (0..self.fences.len()).try_for_each(|block| self.each_of(block, None, &mut visit))
    }

    fn each_of(
        &self,
        block: usize,
        wanted: Option<&str>,
        mut visit: impl FnMut(Entry),
    ) -> Result<(), TableError> {
        let fence = &self.fences[block];
        let bytes = self.file.read_at(fence.at, fence.len as usize)?;
        let mut reader = Reader::new(&bytes);
        let (len, found) = (reader.u32("directory block")?, reader.u32("directory block")?);
        let mut entries = Reader::new(reader.bytes("directory block", len as usize)?);
        let computed = crc32c::crc32c(entries.rest());
        if found != computed {
            return Err(damaged(format!("the checksum of its directory block at {} is wrong", fence.at)));
        }
        while !entries.rest().is_empty() {
            if let Some(entry) = Entry::decode(&mut entries, wanted)? {
                visit(entry);
            }
        }
        Ok(())
    }

    /// Up to `limit` frame runs of a device from `from` on, rising.
    pub(in crate::journal) fn rising(
        &self,
        entry: &Entry,
        from: Key,
        limit: usize,
    ) -> Result<Vec<Run>, TableError> {
        let end = entry.first_record + u64::from(entry.frame_runs);
        let start = self.lower_bound(entry.first_record, end, from)?;
        self.records(start, end.min(start + limit as u64))
    }

    /// Up to `limit` frame runs of a device before `below`, falling.
    pub(in crate::journal) fn falling(
        &self,
        entry: &Entry,
        below: Key,
        limit: usize,
    ) -> Result<Vec<Run>, TableError> {
        let start = entry.first_record;
        let end = self.lower_bound(start, start + u64::from(entry.frame_runs), below)?;
        let mut runs = self.records(start.max(end.saturating_sub(limit as u64)), end)?;
        runs.reverse();
        Ok(runs)
    }

    /// Up to `limit` runs without frames from `from` on, rising.
    pub(in crate::journal) fn gaps(
        &self,
        entry: &Entry,
        from: Key,
        limit: usize,
    ) -> Result<Vec<Run>, TableError> {
        let begin = entry.first_record + u64::from(entry.frame_runs);
        let end = begin + u64::from(entry.gap_runs);
        let start = self.lower_bound(begin, end, from)?;
        self.records(start, end.min(start + limit as u64))
    }

    /// The first record from `start` to `end` that does not stand before `key`; `end` if all do.
    fn lower_bound(&self, mut start: u64, mut end: u64, key: Key) -> Result<u64, TableError> {
        while start < end {
            let middle = start + (end - start) / 2;
            // The whole block is at hand, so a short range needs no further read.
            let block_start = start.max(middle - middle % BLOCK_RECORDS as u64);
            let block_end = end.min(block_start - block_start % BLOCK_RECORDS as u64 + BLOCK_RECORDS as u64);
            let block = self.records(block_start, block_end)?;
            let before = block.partition_point(|run| run.key() < key) as u64;
            match before {
                0 if block_start == start => return Ok(start),
                0 => end = block_start,
                all if all == block.len() as u64 => start = block_end,
                some => return Ok(block_start + some),
            }
        }
        Ok(start)
    }

    /// The records from `start` to before `end`.
    fn records(&self, start: u64, end: u64) -> Result<Vec<Run>, TableError> {
        if start >= end {
            return Ok(Vec::new());
        }
        if end > self.header.records {
            return Err(damaged(format!("an entry names record {end} of {}", self.header.records)));
        }
        let per_block = BLOCK_RECORDS as u64;
        let (first, last) = (start / per_block, (end - 1) / per_block);
        let at = HEADER_BYTES as u64 + first * BLOCK_BYTES as u64;
        let bytes = self.file.read_at(at, usize_of(last - first + 1)? * BLOCK_BYTES)?;
        let mut runs = Vec::with_capacity(usize_of(end - start)?);
        for block in first..=last {
            let count = usize_of((self.header.records - block * per_block).min(per_block))?;
            let from = usize_of(block - first)? * BLOCK_BYTES;
            let block_bytes = bytes
                .get(from..from + count * RECORD_BYTES + 4)
                .ok_or_else(|| damaged(format!("block {block} of its records is missing")))?;
            check_crc("block of records", block_bytes)?;
            for (record, bytes) in block_bytes[..count * RECORD_BYTES].chunks_exact(RECORD_BYTES).enumerate()
            {
                if (start..end).contains(&(block * per_block + record as u64)) {
                    runs.push(decode_record(bytes)?);
                }
            }
        }
        Ok(runs)
    }

    /// The head that this file alone gives an epoch of a device: the end of the span that begins at or before
    /// `from`.
    pub(in crate::journal) fn spans(
        &self,
        device: &str,
        epoch: Epoch,
    ) -> Result<Vec<(Seq, Seq)>, TableError> {
        let spans = self.find(device)?.map(|entry| entry.spans).unwrap_or_default();
        Ok(spans.into_iter().filter(|span| span.0 == epoch).map(|(_, first, last)| (first, last)).collect())
    }
}

fn usize_of(value: u64) -> Result<usize, TableError> {
    usize::try_from(value).map_err(|_| damaged(format!("a length of {value}")))
}
