//! Bytes of a Parquet object, of which every block is checked before anybody sees it.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use trough_store::ObjectKey;
use trough_store::objects::ObjectError;

use super::SegmentCache;
use super::format::{BLOCK_BYTES, Index};

/// Most blocks that one request asks for, and most requests at a time.
const REQUEST_BLOCKS_MAX: u64 = 16;
const REQUESTS_MAX: usize = 8;
/// What a block that is kept takes besides its bytes.
const BLOCK_OVERHEAD: usize = 128;

/// Bytes cannot be had.
#[derive(Debug)]
pub(super) enum BlockError {
    /// They are not those that were written.
    Damaged {
        /// Which bytes of the object are concerned.
        block: Range<u64>,
        /// What is wrong.
        found: String,
    },
    /// Not now, or the whole object is gone.
    Store(ObjectError),
}

/// A Parquet object, with what its bytes must be.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    pub key: &'a ObjectKey,
    pub index: &'a Index,
}

impl Object<'_> {
    /// The bytes of these blocks.
    fn span(&self, blocks: &Range<u64>) -> Range<u64> {
        let end = (blocks.end * BLOCK_BYTES).min(self.index.facts().bytes);
        blocks.start * BLOCK_BYTES..end
    }
}

impl SegmentCache {
    /// Bytes of these ranges. Whole blocks are fetched, and kept for others if `keep`.
    pub(super) async fn read(
        &self,
        object: Object<'_>,
        ranges: &[Range<u64>],
        keep: bool,
    ) -> Result<Vec<Bytes>, BlockError> {
        let mut blocks = BTreeMap::new();
        let mut missing: Vec<Range<u64>> = Vec::new();
        for at in wanted(ranges) {
            match self.cached(object, at) {
                Some(block) => drop(blocks.insert(at, block)),
                None => join(&mut missing, at),
            }
        }
        self.fetch(object, &missing, keep, &mut blocks).await?;
        ranges.iter().map(|range| piece(&blocks, range)).collect()
    }

    /// A block that was kept.
    pub(super) fn cached(&self, object: Object<'_>, at: u64) -> Option<Bytes> {
        let block = self.blocks.get(&(object.index.facts().id, at));
        let counted = if block.is_some() { &self.metrics.block_hits } else { &self.metrics.block_misses };
        counted.inc();
        block
    }

    /// Fetches blocks, several requests at a time, and puts them among `blocks`.
    pub(super) async fn fetch(
        &self,
        object: Object<'_>,
        missing: &[Range<u64>],
        keep: bool,
        blocks: &mut BTreeMap<u64, Bytes>,
    ) -> Result<(), BlockError> {
        for requests in missing.chunks(REQUESTS_MAX) {
            let asking = requests.iter().map(|blocks| self.store.get_range(object.key, object.span(blocks)));
            let answers = join_all(asking).await;
            for (request, answer) in requests.iter().zip(answers) {
                self.metrics.requests.inc();
                self.take(object, request, answer, keep, blocks)?;
            }
        }
        Ok(())
    }

    /// Checks what came, and puts it among `blocks`.
    fn take(
        &self,
        object: Object<'_>,
        request: &Range<u64>,
        answer: Result<Bytes, ObjectError>,
        keep: bool,
        blocks: &mut BTreeMap<u64, Bytes>,
    ) -> Result<(), BlockError> {
        let span = object.span(request);
        let damaged = |block, found| Err(BlockError::Damaged { block, found });
        let bytes = match answer {
            Ok(bytes) => bytes,
            Err(ObjectError::Invalid(found)) => return damaged(span, found),
            Err(error) => return Err(BlockError::Store(error)),
        };
        self.metrics.fetched_bytes.inc_by(bytes.len() as u64);
        if bytes.len() as u64 != span.end - span.start {
            let found = format!("{} bytes came where {} were asked for", bytes.len(), span.end - span.start);
            return damaged(span, found);
        }
        for (at, part) in request.clone().zip(bytes.chunks(BLOCK_BYTES as usize)) {
            let (written, computed) = (object.index.block_crc(at), crc32c::crc32c(part));
            if written != Some(computed) {
                let block = object.span(&(at..at + 1));
                let written = written.map_or("none".to_owned(), |crc| format!("{crc:08x}"));
                return damaged(block, format!("checksum {written}, computed {computed:08x} (CRC32C)"));
            }
            if keep {
                // A block of its own: a slice would keep all that came with it.
                let block = Bytes::copy_from_slice(part);
                let id = object.index.facts().id;
                self.blocks.put((id, at), block.clone(), block.len() + BLOCK_OVERHEAD);
                blocks.insert(at, block);
            } else {
                blocks.insert(at, bytes.slice_ref(part));
            }
        }
        Ok(())
    }
}

/// Adds a block behind the last to what is to be fetched.
pub(super) fn join(missing: &mut Vec<Range<u64>>, at: u64) {
    match missing.last_mut() {
        Some(last) if last.end == at && last.end - last.start < REQUEST_BLOCKS_MAX => last.end = at + 1,
        _ => missing.push(at..at + 1),
    }
}

/// The blocks that these ranges touch, rising, each once.
pub(super) fn wanted(ranges: &[Range<u64>]) -> Vec<u64> {
    let mut blocks: Vec<u64> = ranges
        .iter()
        .filter(|range| !range.is_empty())
        .flat_map(|range| range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES))
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

/// The bytes of a range out of the blocks that it touches. They were checked, so what is asked for beyond them is what
/// somebody has written.
pub(super) fn piece(blocks: &BTreeMap<u64, Bytes>, range: &Range<u64>) -> Result<Bytes, BlockError> {
    let beyond = || BlockError::Damaged {
        block: range.clone(),
        found: "the object's footer points behind its end".to_owned(),
    };
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let part = |at: u64| {
        let start = at * BLOCK_BYTES;
        let block = blocks.get(&at).ok_or_else(beyond)?;
        let from = range.start.saturating_sub(start) as usize;
        let to = (range.end - start).min(BLOCK_BYTES) as usize;
        if to > block.len() { Err(beyond()) } else { Ok(block.slice(from..to)) }
    };
    let (first, end) = (range.start / BLOCK_BYTES, range.end.div_ceil(BLOCK_BYTES));
    if end == first + 1 {
        return part(first);
    }
    let mut whole = BytesMut::new();
    for at in first..end {
        whole.extend_from_slice(&part(at)?);
    }
    Ok(whole.freeze())
}
