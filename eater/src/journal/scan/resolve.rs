//! One frame, several copies: which of them is shown.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use trough_protocol::Seq;

use crate::journal::run::Located;

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment<F = u64> {
    pub of: Located<F>,
    pub first: Seq,
    pub last: Seq,
}

/// Covers the numbers from `low` to `high` with parts of `runs`, each number once, by the run that arrived
/// first of those that have it. `runs` are of one epoch, by first seq; the segments rise.
pub(crate) fn resolve<F: Copy + Ord>(runs: &[Located<F>], low: Seq, high: Seq) -> Vec<Segment<F>> {
    let mut segments = Vec::with_capacity(runs.len());
    let mut covering = BinaryHeap::new();
    let (mut next, mut at) = (0, low);
    while at <= high {
        while let Some(located) = runs.get(next).filter(|located| located.run.first <= at) {
            covering.push(Reverse((located.position(), next)));
            next += 1;
        }
        let Some(Reverse((_, best))) = covering.peek() else {
            let Some(located) = runs.get(next) else { break };
            at = located.run.first;
            continue;
        };
        let of = runs[*best];
        if of.run.last() < at {
            covering.pop();
            continue;
        }
        let mut last = of.run.last().min(high);
        // A run that arrived earlier takes over where it begins.
        while let Some(located) = runs.get(next).filter(|located| located.run.first <= last) {
            if located.position() < of.position() {
                last = Seq(located.run.first.0 - 1);
                break;
            }
            covering.push(Reverse((located.position(), next)));
            next += 1;
        }
        segments.push(Segment { of, first: at, last });
        at = last.next();
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::run::{Kind, Run};
    use crate::journal::testing::Rng;
    use trough_protocol::Epoch;

    fn located(offset: u32, first: u64, last: u64) -> Located {
        let run = Run {
            epoch: Epoch(1),
            first: Seq(first),
            count: last - first + 1,
            min_ts: 1,
            max_ts: 1,
            received_at: 0,
            offset,
            len: 1,
            crc: 0,
            kind: Kind::Frames,
        };
        Located { file: 1, run }
    }

    fn plain(segments: &[Segment]) -> Vec<(u32, u64, u64)> {
        segments.iter().map(|s| (s.of.run.offset, s.first.0, s.last.0)).collect()
    }

    #[test]
    fn the_first_to_arrive_wins_wherever_it_begins() {
        let runs = [located(2, 3, 7), located(1, 5, 10)];
        assert_eq!(plain(&resolve(&runs, Seq(1), Seq(99))), [(2, 3, 4), (1, 5, 10)]);
        let runs = [located(1, 1, 10), located(2, 2, 3), located(3, 9, 12)];
        assert_eq!(plain(&resolve(&runs, Seq(2), Seq(99))), [(1, 2, 10), (3, 11, 12)]);
        assert_eq!(plain(&resolve(&runs, Seq(2), Seq(4))), [(1, 2, 4)]);
    }

    #[test]
    fn agrees_with_a_choice_number_by_number() {
        for seed in 0..500 {
            let mut rng = Rng::new(seed);
            let mut runs: Vec<Located> = (0..rng.below(12))
                .map(|offset| {
                    let first = 1 + rng.below(30);
                    located(offset as u32 + 1, first, first + rng.below(8))
                })
                .collect();
            runs.sort_by_key(|located| located.run.key());
            let (low, high) = (1 + rng.below(10), 5 + rng.below(40));
            let chosen: Vec<(u64, u32)> = resolve(&runs, Seq(low), Seq(high))
                .iter()
                .flat_map(|s| (s.first.0..=s.last.0).map(|seq| (seq, s.of.run.offset)))
                .collect();
            let expected: Vec<(u64, u32)> = (low..=high)
                .filter_map(|seq| {
                    let has = |l: &&Located| l.run.first.0 <= seq && seq <= l.run.last().0;
                    let best = runs.iter().filter(has).min_by_key(|l| l.position())?;
                    Some((seq, best.run.offset))
                })
                .collect();
            assert_eq!(chosen, expected, "seed {seed}");
        }
    }
}
