//! Which segments are merged into larger ones.

use trough_store::segment_catalog::Segment;

/// A segment of this size or more is large enough, in bytes.
const LARGE_BYTES: u64 = 12 * 1024 * 1024;
/// So many small ones of one day and level are merged into one of the next.
const FAN_IN: usize = 8;
/// Most segments merged at once: each takes some MiB while it is read.
const MERGED_MAX: usize = 16;
/// Most bytes merged at once: what is made of them is stored before any of them is replaced.
const MERGED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How many days are waited before a day's small segments are merged though they are few, in case more come.
const SETTLED_DAYS: u32 = 2;

/// Segments of one day that should become one, or a few large ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merging {
    pub date: u32,
    /// The level of what is made of them.
    pub level: u8,
    pub segments: Vec<Segment>,
}

/// How large the larger one of its two objects is, in bytes: one with many losses has a large index.
fn size(segment: &Segment) -> u64 {
    segment.bytes.max(segment.index_bytes)
}

fn small(segment: &&Segment) -> bool {
    size(segment) < LARGE_BYTES
}

/// The next segments to merge, if there are any: the oldest day first, and in the end what is left of days of which all
/// frames have expired. `live` are by (date, level, id).
///
/// Each byte is written once for each level, and there are as many levels as it takes to fill a large segment eight by
/// eight; so a day costs a few writes of each of its bytes, and ends as few segments.
pub(super) fn plan(live: &[Segment], today: u32) -> Option<Merging> {
    let of_a_day = live.chunk_by(|a, b| a.date == b.date).find_map(|day| {
        let date = day[0].date;
        let full = day.chunk_by(|a, b| a.level == b.level).find_map(|level| {
            let small: Vec<&Segment> = level.iter().filter(small).collect();
            (small.len() >= FAN_IN).then_some(small)
        });
        let left = || {
            let small: Vec<&Segment> = day.iter().filter(small).collect();
            (date.saturating_add(SETTLED_DAYS) <= today && small.len() > 1).then_some(small)
        };
        let chosen = full.or_else(left)?;
        let mut bytes = 0;
        let fits = |segment: &&&Segment| {
            bytes += size(segment);
            bytes <= MERGED_BYTES_MAX
        };
        let segments: Vec<Segment> =
            chosen.iter().take(MERGED_MAX).take_while(fits).map(|s| (*s).clone()).collect();
        let level = segments.iter().map(|segment| segment.level).max()?.saturating_add(1);
        (segments.len() > 1).then_some(Merging { date, level, segments })
    });
    of_a_day.or_else(|| losses(live, today))
}

/// Segments of settled days that only say which numbers are gone. Those of a whole year would each be opened by who
/// reads a device.
fn losses(live: &[Segment], today: u32) -> Option<Merging> {
    let empty = |segment: &&Segment| {
        segment.frames == 0
            && segment.date.saturating_add(SETTLED_DAYS) <= today
            && segment.bytes < LARGE_BYTES
    };
    let segments: Vec<Segment> = live.iter().filter(empty).take(MERGED_MAX).cloned().collect();
    let date = segments.iter().map(|segment| segment.date).max()?;
    let level = segments.iter().map(|segment| segment.level).max()?.saturating_add(1);
    (segments.len() >= FAN_IN).then_some(Merging { date, level, segments })
}

#[cfg(test)]
mod tests {
    use trough_protocol::DeviceId;
    use trough_store::segment_catalog::SegmentId;

    use super::*;

    fn segment(date: u32, level: u8, n: u8, bytes: u64) -> Segment {
        let device = DeviceId::new("d").unwrap();
        Segment {
            id: SegmentId([n; 16]),
            level,
            date,
            bytes,
            index_bytes: 1,
            index_crc: 0,
            frames: 1,
            devices: (device.clone(), device),
            ts: (1, 1),
            received: (1, 1),
        }
    }

    #[test]
    fn eight_of_a_kind_become_one() {
        let mut live: Vec<Segment> = (0..7).map(|n| segment(10, 1, n, 1000)).collect();
        live.extend((7..14).map(|n| segment(10, 2, n, 9000)));
        assert_eq!(plan(&live, 10), None);
        live.insert(7, segment(10, 1, 99, 1000));
        let merging = plan(&live, 10).unwrap();
        assert_eq!((merging.date, merging.level, merging.segments.len()), (10, 2, 8));
        assert!(merging.segments.iter().all(|segment| segment.level == 1));
    }

    #[test]
    fn large_ones_are_left_alone() {
        let live: Vec<Segment> = (0..20).map(|n| segment(10, 1, n, LARGE_BYTES)).collect();
        assert_eq!(plan(&live, 10), None);
        assert_eq!(plan(&live, 99), None);
    }

    #[test]
    fn what_is_left_of_a_day_becomes_one_in_the_end() {
        let live = [segment(10, 1, 1, 1000), segment(10, 3, 2, 1000), segment(11, 1, 3, 1000)];
        assert_eq!(plan(&live, 11), None);
        let merging = plan(&live, 12).unwrap();
        assert_eq!((merging.date, merging.level, merging.segments.len()), (10, 4, 2));
        assert_eq!(plan(&live[2..], 99), None, "one alone is as good as it gets");
    }

    #[test]
    fn what_is_left_of_expired_days_becomes_one() {
        let empty = |date, n| Segment { frames: 0, ts: (0, 0), ..segment(date, 1, n, 900) };
        let mut live: Vec<Segment> = (0..7).map(|n| empty(10 + u32::from(n), n)).collect();
        live.push(segment(17, 1, 50, 900));
        live.push(empty(20, 60));
        assert_eq!(plan(&live, 21), None, "the last one is not settled");
        let merging = plan(&live, 22).unwrap();
        assert!(merging.segments.iter().all(|segment| segment.frames == 0));
        assert_eq!((merging.date, merging.level, merging.segments.len()), (20, 2, 8));
    }

    #[test]
    fn merging_ends() {
        let mut live: Vec<Segment> = (0..200).map(|n| segment(10, 1, n, 400_000)).collect();
        let mut merges = 0;
        while let Some(merging) = plan(&live, 12) {
            live.retain(|segment| !merging.segments.contains(segment));
            let bytes = merging.segments.iter().map(|segment| segment.bytes).sum();
            let at = live.partition_point(|segment| segment.level <= merging.level);
            live.insert(at, segment(10, merging.level, 200 + merges, bytes));
            merges += 1;
            assert!(merges < 50);
        }
        assert!(live.len() < 12, "{}", live.len());
    }
}
