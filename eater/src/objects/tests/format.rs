//! The bytes of release 1, which every later release must read: `golden/`, append-only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use trough_protocol::{Epoch, Seq};
use trough_store::object_catalog::{Incarnation, ObjectId};

use crate::journal::Submission;
use crate::journal::testing::{TestRun, TestSink, batch};
use crate::objects::builder::{Builder, Sealed};
use crate::objects::format::inspect;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/objects/golden/v1.tro")
}

/// Two devices, two epochs, a skip, a run that comes twice, three batches.
fn sealed() -> Sealed {
    let frames = |device, epoch, first, count| TestRun::Frames { device, epoch, first, count };
    let batches = [
        vec![frames("gps:12", 3, 1, 4), frames("bus-7", 1, 1, 20)],
        vec![TestRun::Skip { device: "gps:12", epoch: 3, first: 5, count: 8 }, frames("bus-7", 1, 15, 10)],
        vec![frames("bus-7", 2, 1, 3)],
    ];
    let mut builder = Builder::default();
    let sink = Arc::new(TestSink::default());
    for (number, runs) in (1..).zip(batches) {
        let sink = sink.clone();
        assert!(builder.push(Submission { batch: batch(&runs), number, sink }).is_ok());
    }
    let id = ObjectId { incarnation: Incarnation(*b"0123456789abcdef"), n: 7 };
    builder.seal(id, 1_700_000_000_000_000)
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let kept = std::fs::read(golden()).unwrap();
    assert!(sealed().bytes == kept, "v1.tro has changed: keep reading the old form, and add a v2");
}

#[test]
fn an_object_says_what_its_row_says() {
    let sealed = sealed();
    assert_eq!(inspect(&Bytes::from(std::fs::read(golden()).unwrap())).unwrap(), sealed.row);
    let spans = &sealed.row.spans;
    let plain: Vec<_> =
        spans.iter().map(|s| (s.device.as_str(), s.epoch, s.first, s.last, s.frames)).collect();
    let expected = [
        ("bus-7", Epoch(1), Seq(1), Seq(24), 24),
        ("bus-7", Epoch(2), Seq(1), Seq(3), 3),
        ("gps:12", Epoch(3), Seq(1), Seq(12), 4),
    ];
    assert_eq!(plain, expected, "a frame that came twice is counted once");
    assert_eq!(spans[0].ts, (1_000_001, 1_000_024));
    assert_eq!(sealed.heads.len(), 3);
}

#[test]
fn every_damaged_byte_is_found() {
    let bytes = sealed().bytes;
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x10;
        assert!(inspect(&damaged.into()).is_err(), "byte {at}");
    }
    for len in 0..bytes.len() {
        assert!(inspect(&bytes.slice(..len)).is_err(), "{len} bytes");
    }
}

/// `cargo test -p trough-eater --lib make_golden_object -- --ignored`, once for each version.
#[test]
#[ignore = "writes the golden file, which must never be done again for a version that was released"]
fn make_golden_object() {
    let path = golden();
    assert!(!path.exists(), "{} is there already", path.display());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, sealed().bytes).unwrap();
}
