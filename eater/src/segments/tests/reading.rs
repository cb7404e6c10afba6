//! What went in comes out: in both directions, from every cursor, in every span of time.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use trough_protocol::{Epoch, Seq};

use super::world::{Frame, Owned, Shape, World, block_on, random_rows, scan, written};
use crate::journal::testing::Rng;
use crate::journal::{Order, ScanRange};
use crate::segments::{OpenSegment, SegmentCacheLimits};

fn expected(rows: &[Owned], device: &str) -> Vec<Frame> {
    rows.iter().filter(|row| row.device == device).map(Owned::frame).collect()
}

fn devices(rows: &[Owned]) -> BTreeSet<String> {
    rows.iter().map(|row| row.device.clone()).collect()
}

fn check_cursor(segment: &OpenSegment, device: &str, all: &[Frame], cursor: (u64, u64), seed: u64) {
    let after = Some((Epoch(cursor.0), Seq(cursor.1)));
    let (rising, errors) = scan(segment, device, ScanRange { after, ..ScanRange::default() });
    let behind: Vec<Frame> = all.iter().filter(|(key, ..)| *key > cursor).cloned().collect();
    assert!(errors.is_empty() && rising == behind, "seed {seed}: {device} behind {cursor:?}");
    let range = ScanRange { after, order: Order::Desc, ..ScanRange::default() };
    let (falling, errors) = scan(segment, device, range);
    let before: Vec<Frame> = all.iter().rev().filter(|(key, ..)| *key < cursor).cloned().collect();
    assert!(errors.is_empty() && falling == before, "seed {seed}: {device} before {cursor:?}");
}

#[test]
fn every_frame_from_every_cursor() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let shape = Shape { devices: 1 + rng.below(4), runs: 4, frames: 8, payload: 40, large: 300 };
        let rows = random_rows(&mut rng, &shape);
        let segment = World::new(&written(&rows, &[])).open().unwrap();
        for device in devices(&rows) {
            let all = expected(&rows, &device);
            let (frames, errors) = scan(&segment, &device, ScanRange::default());
            assert!(errors.is_empty() && frames == all, "seed {seed}: {device}");
            let mut cursors: Vec<(u64, u64)> = all.iter().map(|(key, ..)| *key).collect();
            cursors.extend(all.iter().map(|((epoch, seq), ..)| (*epoch, seq - 1)));
            cursors.extend(all.iter().map(|((epoch, seq), ..)| (*epoch, seq + 1)));
            cursors.extend([(0, 0), (1, u64::MAX), (99, 1), (u64::MAX, u64::MAX)]);
            for cursor in cursors {
                check_cursor(&segment, &device, &all, cursor, seed);
            }
        }
        assert!(scan(&segment, "nobody", ScanRange::default()).0.is_empty());
        assert!(segment.device("nobody").is_none());
    }
}

#[test]
fn many_pages_groups_and_blocks() {
    for seed in 0..3 {
        let mut rng = Rng::new(seed);
        let shape = Shape { devices: 5, runs: 6, frames: 900, payload: 120, large: 150_000 };
        let rows = random_rows(&mut rng, &shape);
        let world = World::new(&written(&rows, &[]));
        let segment = world.open().unwrap();
        for device in devices(&rows) {
            let all = expected(&rows, &device);
            for _ in 0..6 {
                let cursor = all[rng.below(all.len() as u64) as usize].0;
                check_cursor(&segment, &device, &all, cursor, seed);
            }
        }
        assert!(world.store.largest.load(Ordering::Relaxed) <= 1024 * 1024, "of one request");
    }
}

#[test]
fn a_span_of_time_leaves_out_only_what_is_outside() {
    let mut left_out = 0;
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let shape = Shape { devices: 2, runs: 8, frames: 20, payload: 20, large: 20 };
        let rows = random_rows(&mut rng, &shape);
        let segment = World::new(&written(&rows, &[])).open().unwrap();
        for (device, order) in
            devices(&rows).into_iter().flat_map(|d| [(d.clone(), Order::Asc), (d, Order::Desc)])
        {
            let low = rng.below(50_000_000);
            let high = low + rng.below(10_000_000);
            let of_device = || rows.iter().filter(|row| row.device == device);
            let at = of_device().nth(rng.below(of_device().count() as u64) as usize).unwrap();
            let after = rng.percent(50).then_some((Epoch(at.epoch), Seq(at.seq)));
            let range = ScanRange { after, ts: Some(low..=high), order };
            let frames: BTreeSet<_> = scan(&segment, &device, range).0.iter().map(|frame| frame.0).collect();
            let behind = |row: &Owned| match (after, order) {
                (None, _) => true,
                (Some((epoch, seq)), Order::Asc) => (row.epoch, row.seq) > (epoch.0, seq.0),
                (Some((epoch, seq)), Order::Desc) => (row.epoch, row.seq) < (epoch.0, seq.0),
            };
            for row in of_device() {
                let given = frames.contains(&(row.epoch, row.seq));
                assert!(!given || behind(row), "seed {seed}: the cursor counts");
                assert!(given || !behind(row) || !(low..=high).contains(&row.ts), "seed {seed}: {row:?}");
                left_out += u32::from(!given && behind(row));
            }
        }
    }
    assert!(left_out > 1000, "{left_out}");
}

#[test]
fn all_rows_come_in_small_pieces() {
    let mut rng = Rng::new(11);
    let shape = Shape { devices: 30, runs: 3, frames: 300, payload: 900, large: 400_000 };
    let rows = random_rows(&mut rng, &shape);
    let world = World::new(&written(&rows, &[]));
    let cache = world.cache();
    let segment = block_on(OpenSegment::open(&cache, &world.segment)).unwrap();
    let (mut reader, mut at, mut pieces) = (segment.rows(), 0, 0);
    while let Some(piece) = block_on(reader.next()) {
        let piece = piece.unwrap();
        for row in piece.iter() {
            assert_eq!(Owned::of(&row), rows[at]);
            at += 1;
        }
        let payload: usize = piece.iter().map(|row| row.frame.payload.len()).sum();
        assert!(piece.len() <= 4096 && payload <= 1024 * 1024, "{} rows, {payload} bytes", piece.len());
        pieces += 1;
    }
    assert_eq!(at, rows.len());
    let bytes: usize = rows.iter().map(|row| row.payload.len()).sum();
    assert!(pieces < 20 + bytes / (256 * 1024), "{pieces} pieces for {bytes} bytes");
    // And of the store in large ones, each once: what lies on the way to a bucket is not gone for every piece.
    let (all, mib) = (world.segment.bytes, 1024 * 1024);
    let (requests, fetched) = (cache.metrics().requests.get(), cache.metrics().fetched_bytes.get());
    assert!(all > 5 * mib, "{all} bytes are more than are fetched at once");
    assert!(requests < 20 + 3 * all / mib, "{requests} requests for {all} bytes");
    assert!(fetched < all + all / 4 + mib, "{fetched} bytes fetched of {all}");
}

#[test]
fn one_device_reads_little_and_the_second_time_nothing() {
    let mut rng = Rng::new(5);
    let shape = Shape { devices: 40, runs: 2, frames: 800, payload: 200, large: 200 };
    let rows = random_rows(&mut rng, &shape);
    let written = written(&rows, &[]);
    assert!(written.parquet.len() > 2 * 1024 * 1024, "{} bytes", written.parquet.len());
    let mut world = World::new(&written);
    let segment = world.open().unwrap();
    let cache = world.cache();
    let segment_again = block_on(OpenSegment::open(&cache, &world.segment)).unwrap();
    let fetched = || cache.metrics().fetched_bytes.get();
    let opened = fetched();
    let all = scan(&segment, "bus-20", ScanRange::default()).0;
    assert_eq!(scan(&segment_again, "bus-20", ScanRange::default()).0, all);
    let once = fetched() - opened;
    assert!(once < 800 * 1024, "{once} bytes for {} frames", all.len());
    scan(&block_on(OpenSegment::open(&cache, &world.segment)).unwrap(), "bus-20", ScanRange::default());
    assert_eq!(fetched() - opened, once);
    assert_eq!(cache.metrics().opened.get(), 1);
    assert!(cache.metrics().block_hits.get() > 0);

    world.limits = SegmentCacheLimits { opened_bytes_max: 1000, blocks_bytes_max: 300_000 };
    let cache = world.cache();
    let segment = block_on(OpenSegment::open(&cache, &world.segment)).unwrap();
    for device in devices(&rows) {
        assert_eq!(scan(&segment, &device, ScanRange::default()).0, expected(&rows, &device));
        assert!(cache.blocks.bytes() <= 300_000 && cache.opened.bytes() <= 1000);
    }
}

#[test]
fn the_last_frame_of_each_channel() {
    for seed in 0..10 {
        let mut rng = Rng::new(seed);
        let shape = Shape { devices: 3, runs: 5, frames: 30, payload: 60, large: 60 };
        let rows = random_rows(&mut rng, &shape);
        let segment = World::new(&written(&rows, &[])).open().unwrap();
        for device in devices(&rows) {
            let lasts: Vec<_> = segment.device(&device).unwrap().lasts().collect();
            assert!(lasts.is_sorted_by(|a, b| a.channel < b.channel));
            let channels: BTreeSet<&str> =
                rows.iter().filter(|row| row.device == device).map(|row| row.channel.as_str()).collect();
            assert_eq!(lasts.len(), channels.len(), "seed {seed}");
            for last in lasts {
                let of = |row: &&Owned| row.device == device && row.channel == last.channel.as_str();
                let row = rows.iter().rfind(of).unwrap();
                let (frame, rank) = block_on(segment.last_frame(&device, &last)).unwrap().unwrap();
                assert_eq!((frame.epoch.0, frame.seq.0), (row.epoch, row.seq));
                assert_eq!((frame.bytes.to_vec(), rank), (row.frame().3, row.row().rank()));
            }
        }
    }
}
