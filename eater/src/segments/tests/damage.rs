//! Bytes that are not those that were written: an error or the right frames, never wrong ones.

use bytes::Bytes;
use trough_store::objects::ObjectError;
use trough_store::segment_catalog::SegmentId;

use super::world::{Owned, Shape, World, block_on, random_rows, scan, written};
use crate::journal::testing::Rng;
use crate::journal::{Order, ReadError, ScanRange};
use crate::segments::{Written, index_key, parquet_key};

fn fixture() -> (Vec<Owned>, Written) {
    let shape = Shape { devices: 4, runs: 3, frames: 500, payload: 300, large: 90_000 };
    let rows = random_rows(&mut Rng::new(3), &shape);
    let written = written(&rows, &[]);
    assert!(written.parquet.len() > 8 * 64 * 1024, "{} bytes", written.parquet.len());
    (rows, written)
}

fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut damaged = bytes.to_vec();
    damaged[at] ^= 0x10;
    damaged.into()
}

#[test]
fn every_damaged_byte_of_an_index_is_found() {
    let shape = Shape { devices: 2, runs: 2, frames: 5, payload: 20, large: 20 };
    let written = written(&random_rows(&mut Rng::new(1), &shape), &[]);
    let world = World::new(&written);
    let key = index_key(written.segment.date, written.segment.id);
    for at in 0..written.index.len() {
        world.store.set(&key, flipped(&written.index, at));
        let error = world.open().err().unwrap();
        assert!(matches!(&error, ReadError::Segment { object, .. } if *object == key), "byte {at}: {error}");
    }
    for len in [0, 1, written.index.len() - 1] {
        world.store.set(&key, written.index.slice(..len));
        assert!(matches!(world.open(), Err(ReadError::Segment { .. })), "{len} bytes");
    }
}

/// Reads everything in all ways. What was given is right, and all that was not given is named once. How many frames readers
/// were given, how many they lost, and how many rows are lost to who reads all.
fn check(world: &World, rows: &[Owned], damaged: usize) -> (usize, usize, usize) {
    let segment = match world.open() {
        Ok(segment) => segment,
        Err(ReadError::Segment { offset, .. }) => {
            assert_eq!(offset as usize / 65_536, damaged / 65_536);
            return (0, rows.len(), rows.len());
        }
        Err(error) => panic!("{error}"),
    };
    let (mut given, mut lost) = (0, 0);
    for device in ["bus-00", "bus-01", "bus-02", "bus-03"] {
        let of_device = || rows.iter().filter(|row| row.device == device);
        for order in [Order::Asc, Order::Desc] {
            let (mut frames, errors) = scan(&segment, device, ScanRange { order, ..ScanRange::default() });
            if order == Order::Desc {
                frames.reverse();
            }
            let mut named = Vec::new();
            for error in &errors {
                let ReadError::DamagedSegment { object, offset, device: of, epoch, first, last } = error
                else {
                    panic!("{error}");
                };
                assert_eq!(*object, parquet_key(world.segment.date, world.segment.id));
                assert_eq!((*offset as usize / 65_536, of.as_str()), (damaged / 65_536, device));
                named.extend((first.0..=last.0).map(|seq| (epoch.0, seq)));
            }
            if order == Order::Desc {
                named.reverse();
            }
            let expected: Vec<_> =
                of_device().map(Owned::frame).filter(|frame| !named.contains(&frame.0)).collect();
            assert!(frames == expected, "byte {damaged}: {device} {order:?}");
            assert_eq!(frames.len() + named.len(), of_device().count(), "byte {damaged}: each once");
            (given, lost) = (given + frames.len(), lost + named.len());
        }
    }
    let (mut reader, mut at, mut rows_lost) = (segment.rows(), 0, 0);
    while let Some(piece) = block_on(reader.next()) {
        match piece {
            Ok(piece) => {
                for row in piece.iter() {
                    assert_eq!(Owned::of(&row), rows[at], "byte {damaged}");
                    at += 1;
                }
            }
            Err(ReadError::DamagedSegment { device, epoch, first, last, .. }) => {
                for seq in first.0..=last.0 {
                    let key = (rows[at].device.as_str(), rows[at].epoch, rows[at].seq);
                    assert_eq!(key, (device.as_str(), epoch.0, seq));
                    at += 1;
                    rows_lost += 1;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(at, rows.len());
    (given, lost, rows_lost)
}

#[test]
fn a_damaged_byte_costs_its_frames_and_no_others() {
    let (rows, written) = fixture();
    let world = World::new(&written);
    assert_eq!(check(&world, &rows, 0), (2 * rows.len(), 0, 0));
    let key = parquet_key(written.segment.date, written.segment.id);
    let (mut most_given, mut all_lost, mut rng) = (0, Vec::new(), Rng::new(9));
    let blocks = written.parquet.len().div_ceil(65_536);
    for block in 0..blocks {
        let start = block * 65_536;
        let end = written.parquet.len().min(start + 65_536);
        let at = [start, start + rng.below((end - start) as u64) as usize, end - 1][block % 3];
        world.store.set(&key, flipped(&written.parquet, at));
        let (given, lost, rows_lost) = check(&world, &rows, at);
        assert!(lost + rows_lost > 0, "byte {at} of {}", written.parquet.len());
        most_given = most_given.max(given);
        all_lost.push(rows_lost);
    }
    assert!(most_given > rows.len(), "most frames do not suffer: {most_given} of {}", 2 * rows.len());
    // Wherever the block lies: to read ahead costs nothing that lies before it.
    all_lost.sort_unstable();
    assert!(all_lost[blocks / 2] < rows.len() / 4, "of {} rows {all_lost:?}", rows.len());
}

#[test]
fn an_object_that_is_cut_gone_or_another() {
    let (rows, written) = fixture();
    let world = World::new(&written);
    let key = parquet_key(written.segment.date, written.segment.id);
    let open = world.open().unwrap();
    world.store.set(&key, written.parquet.slice(..written.parquet.len() - 1));
    assert!(matches!(world.open(), Err(ReadError::Segment { .. })));
    world.store.set(&key, written.parquet.slice(..3 * 65_536));
    let (frames, errors) = scan(&open, "bus-00", ScanRange::default());
    assert!(frames.len() < rows.len() && !errors.is_empty());
    assert!(errors.iter().all(|error| matches!(error, ReadError::DamagedSegment { .. })));

    let mut other = rows.clone();
    other.iter_mut().for_each(|row| row.ts += 1);
    world.store.set(&key, super::world::written(&other, &[]).parquet);
    assert!(matches!(world.open(), Err(ReadError::Segment { .. })));

    let mut unknown = world.segment.clone();
    unknown.id = SegmentId([8; 16]);
    world.store.set(&index_key(unknown.date, unknown.id), written.index.clone());
    let wrong = World { segment: unknown, ..world };
    assert!(matches!(wrong.open(), Err(ReadError::Segment { .. })), "an index says whose it is");

    let gone = World { segment: written.segment.clone(), ..wrong };
    gone.store.set(&key, written.parquet.clone());
    let open = gone.open().unwrap();
    block_on(async {
        use trough_store::ObjectStore;
        gone.store.delete(&key).await.unwrap();
    });
    let (frames, errors) = scan(&open, "bus-00", ScanRange::default());
    assert!(frames.is_empty());
    assert!(matches!(&errors[..], [ReadError::Store(ObjectError::NotFound(_))]), "{errors:?}");
    assert!(matches!(gone.open(), Err(ReadError::Store(ObjectError::NotFound(_)))));
}
