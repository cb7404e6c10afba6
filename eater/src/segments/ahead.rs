//! Reading ahead, for who reads all of a segment once: a few large requests instead of many small ones, so that what it
//! takes is a bucket's bandwidth and not its latency.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::SegmentCache;
use super::blocks::{BlockError, Object, join, piece, wanted};

/// About how many bytes of a row group are fetched at once, and held. Of each column so much of them as it is of the group:
/// all are used up at about the same time.
const WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// Blocks that were fetched and are wanted soon.
#[derive(Default)]
pub(super) struct Ahead {
    blocks: BTreeMap<u64, Bytes>,
}

impl Ahead {
    /// Bytes of these ranges of a row group whose columns lie at `columns`. What was fetched and lies before them is let
    /// go.
    pub(super) async fn read(
        &mut self,
        cache: &SegmentCache,
        object: Object<'_>,
        ranges: &[Range<u64>],
        columns: &[Range<u64>],
    ) -> Result<Vec<Bytes>, BlockError> {
        if wanted(ranges).iter().all(|at| self.blocks.contains_key(at)) {
            return pieces(&self.blocks, ranges);
        }
        let (mut blocks, mut missing) = (BTreeMap::new(), Vec::new());
        for at in wanted(&window(ranges, columns)) {
            match self.blocks.get(&at).cloned().or_else(|| cache.cached(object, at)) {
                Some(block) => drop(blocks.insert(at, block)),
                None => join(&mut missing, at),
            }
        }
        match cache.fetch(object, &missing, false, &mut blocks).await {
            Ok(()) => {}
            // Perhaps it is not wanted yet: then what lies before it is still to be had.
            Err(BlockError::Damaged { .. }) => return cache.read(object, ranges, false).await,
            Err(error) => return Err(error),
        }
        self.blocks = blocks;
        pieces(&self.blocks, ranges)
    }
}

fn pieces(blocks: &BTreeMap<u64, Bytes>, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, BlockError> {
    ranges.iter().map(|range| piece(blocks, range)).collect()
}

/// These ranges, and what comes behind them in each of the columns.
fn window(ranges: &[Range<u64>], columns: &[Range<u64>]) -> Vec<Range<u64>> {
    let total: u64 = columns.iter().map(|column| column.end - column.start).sum();
    let mut window = ranges.to_vec();
    for column in columns {
        let of_column = ranges.iter().filter(|range| column.start <= range.start && range.end <= column.end);
        // The last is where one is; the dictionary at its beginning is wanted every time.
        let Some(at) = of_column.map(|range| range.start).max() else { continue };
        let len = u128::from(column.end - column.start) * u128::from(WINDOW_BYTES);
        let len = u64::try_from(len / u128::from(total.max(WINDOW_BYTES))).unwrap_or(WINDOW_BYTES);
        window.push(at..column.end.min(at + len));
    }
    window
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_small_group_is_fetched_whole() {
        let columns = [100..1000, 1000..MIB];
        let window = window(&[100..120, 300..400, 1000..2000], &columns);
        assert_eq!(window, [100..120, 300..400, 1000..2000, 300..1000, 1000..MIB]);
    }

    #[test]
    fn of_a_large_group_each_column_is_fetched_in_proportion() {
        let columns = [0..8 * MIB, 8 * MIB..40 * MIB];
        let window = window(&[MIB..MIB + 5, 39 * MIB..39 * MIB + 7], &columns);
        let ahead = &window[2..];
        assert_eq!(ahead, [MIB..MIB + 8 * MIB * 4 / 40, 39 * MIB..40 * MIB]);
    }
}
