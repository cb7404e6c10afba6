//! The bytes of release 1, which every later release must read: `golden/`, append-only.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::object_catalog::{Incarnation, ObjectId};

use super::world::{Owned, World, scan, written};
use crate::journal::{GapKind, ScanRange};
use crate::segments::Written;
use crate::segments::format::{DeviceParts, Index, Loss, blocks_of};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/segments/golden").join(name)
}

/// Two devices with frames and one with a loss, two epochs, two journals, three content types.
fn rows() -> Vec<Owned> {
    let local = ObjectId { incarnation: Incarnation::LOCAL, n: 12 };
    let object = ObjectId { incarnation: Incarnation(*b"0123456789abcdef"), n: 7 };
    let row = |device: &str, epoch: u64, seq: u64, source: ObjectId| Owned {
        device: device.into(),
        epoch,
        seq,
        received_at: 1_700_000_000_000_000 + seq,
        source,
        ts: 1_600_000_000_000_000 + 10 * seq,
        channel: if seq.is_multiple_of(3) { "odd" } else { "even" }.into(),
        content_type: ["application/json", "text/plain; charset=utf-8", "text/csv"][(seq % 3) as usize]
            .into(),
        payload: format!("{{\"seq\":{seq}}}").into_bytes(),
    };
    let mut rows: Vec<Owned> = (1..=20).map(|seq| row("bus-7", 1, seq, local)).collect();
    rows.extend((30..=33).map(|seq| row("bus-7", 1, seq, object)));
    rows.extend((1..=3).map(|seq| row("bus-7", 2, seq, object)));
    rows.extend((1..=4).map(|seq| row("gps:12", 3, seq, object)));
    rows
}

fn losses() -> Vec<(DeviceId, Loss)> {
    let source = ObjectId { incarnation: Incarnation(*b"0123456789abcdef"), n: 8 };
    let loss = |epoch, first, last, kind| {
        let (epoch, first, last) = (Epoch(epoch), Seq(first), Seq(last));
        Loss { epoch, first, last, kind, received_at: 1_700_000_000_000_500, source }
    };
    vec![
        (DeviceId::new("bus-7").unwrap(), loss(1, 21, 29, GapKind::Skipped { reason: 2 })),
        (DeviceId::new("gps:12").unwrap(), loss(3, 5, 9, GapKind::Damaged)),
        (DeviceId::new("tram").unwrap(), loss(1, 1, 9, GapKind::Expired)),
    ]
}

/// The golden segment as if it had just been written.
fn kept() -> Written {
    let read = |name| Bytes::from(std::fs::read(golden(name)).unwrap());
    let (parquet, index) = (read("v1.parquet"), read("v1.idx"));
    let mut segment = written(&rows(), &losses()).segment;
    segment.bytes = parquet.len() as u64;
    segment.index_bytes = index.len() as u64;
    segment.index_crc = crc32c::crc32c(&index);
    Written { parquet, index, segment }
}

#[test]
fn a_segment_of_release_1_is_read() {
    let segment = World::new(&kept()).open().unwrap();
    for device in ["bus-7", "gps:12"] {
        let expected: Vec<_> = rows().iter().filter(|row| row.device == device).map(Owned::frame).collect();
        assert_eq!(scan(&segment, device, ScanRange::default()).0, expected);
    }
    for (device, loss) in losses() {
        let found: Vec<Loss> = segment.device(device.as_str()).unwrap().losses().collect();
        assert_eq!(found, [loss]);
    }
}

/// The Parquet object is not compared: what its library writes may change, as long as it reads what it wrote.
#[test]
fn the_same_parts_give_the_same_index() {
    let kept = kept();
    let index = Index::decode(kept.index.clone()).unwrap();
    let facts = index.facts();
    let blocks: Vec<u32> = (0..blocks_of(facts.bytes)).map(|at| index.block_crc(at).unwrap()).collect();
    assert_eq!(index.block_crc(blocks.len() as u64), None);
    let parts: Vec<DeviceParts> = index
        .devices()
        .map(|device| DeviceParts {
            device: device.id(),
            stretches: device.stretches().collect(),
            losses: device.losses().collect(),
            lasts: device.lasts().collect(),
        })
        .collect();
    let new = Index::decode(written(&rows(), &losses()).index).unwrap();
    let new_parts: Vec<_> = new.devices().map(|device| device.stretches().collect::<Vec<_>>()).collect();
    assert_eq!(new_parts, parts.iter().map(|parts| parts.stretches.clone()).collect::<Vec<_>>());
    let encoded = Index::encode(facts, &blocks, &parts).unwrap();
    assert!(encoded == kept.index, "v1.idx has changed: keep reading the old form, and add a v2");
}

#[test]
fn every_damaged_byte_of_an_index_is_an_error() {
    let bytes = kept().index;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            assert!(Index::decode(damaged.into()).is_err(), "byte {at}");
        }
    }
    for len in 0..bytes.len() {
        assert!(Index::decode(bytes.slice(..len)).is_err(), "{len} bytes");
    }
}

/// `cargo test -p trough-eater --lib make_golden_segment -- --ignored`, once for each version.
#[test]
#[ignore = "writes the golden files, which must never be done again for a version that was released"]
fn make_golden_segment() {
    let written = written(&rows(), &losses());
    for (name, bytes) in [("v1.parquet", &written.parquet), ("v1.idx", &written.index)] {
        let path = golden(name);
        assert!(!path.exists(), "{} is there already", path.display());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}
