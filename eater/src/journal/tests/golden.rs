//! The bytes of release 1, which every later release must read: `golden/`, append-only.
//!
//! 1. The same input still gives the same bytes.
//! 2. A directory with those bytes opens and reads as it did.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_runtime::clock::Clock;

use crate::journal::aside::{Aside, Loss, Piece};
use crate::journal::committer::Step;
use crate::journal::disk::FileDisk;
use crate::journal::open::Core;
use crate::journal::scan::Scan;
use crate::journal::testing::*;
use crate::journal::{JournalConfig, ScanRange, Submission, gaps};

const FILES: [&str; 3] = ["00000000000000000001.trj", "00000000000000000001.tri", "00000000000000000002.trj"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/journal/golden/v1")
}

fn open(dir: &Path) -> Core {
    let mut nonce = 0x1122_3344_5566_7788;
    let nonces = Box::new(move || {
        nonce += 1;
        nonce
    });
    let config = JournalConfig { roll_bytes: 4096, ..JournalConfig::new(dir) };
    let parts = parts(Arc::default(), Clock::manual(1_700_000_000_000_000));
    Core::open(config, parts, Arc::new(FileDisk::open(dir).unwrap()), nonces).unwrap()
}

/// Two devices, two epochs, a skip, a resend, a second file, a marker.
fn write(dir: &Path) {
    let mut core = open(dir);
    let frames = |device, epoch, first, count| TestRun::Frames { device, epoch, first, count };
    let groups = [
        vec![frames("bus-7", 1, 1, 20), frames("gps:12", 3, 1, 1)],
        vec![frames("bus-7", 1, 15, 10), TestRun::Skip { device: "gps:12", epoch: 3, first: 2, count: 8 }],
        vec![frames("bus-7", 2, 1, 30)],
        vec![frames("gps:12", 3, 10, 25)],
        vec![frames("bus-7", 2, 31, 2)],
    ];
    for (number, runs) in (1..).zip(groups) {
        let sink = Arc::new(TestSink::default());
        core.shared.queue.push(Submission { batch: batch(&runs), number, sink }).unwrap();
        assert_eq!(core.committer.step(), Step::Committed);
    }
    while core.background.step() {}
    core.committer.finish().unwrap();
}

fn aside() -> Aside {
    let loss = |device, first, last| {
        let device = DeviceId::new(device).unwrap();
        Loss { device, epoch: Epoch(2), first: Seq(first), last: Seq(last) }
    };
    let bytes = b"what was there".to_vec();
    let losses = vec![loss("bus-7", 3, 9), loss("gps:12", 1, 1)];
    Aside { pieces: vec![Piece { from: 100, to: 114, received_at: 1_700_000_000_000_000, losses, bytes }] }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    for name in FILES {
        let (made, kept) =
            (std::fs::read(dir.path().join(name)).unwrap(), std::fs::read(golden().join(name)));
        assert!(kept.unwrap() == made, "{name} has changed: keep reading the old form, and add a golden/v2");
    }
    let kept = std::fs::read(golden().join("00000000000000000009.damaged")).unwrap();
    assert_eq!(aside().encode(9, 77), kept);
    assert_eq!(Aside::decode(&kept, 9, 77).unwrap(), aside());
    assert!(Aside::decode(&kept, 9, 78).is_err() && Aside::decode(&kept[..kept.len() - 1], 9, 77).is_err());
}

#[test]
fn old_bytes_read_as_they_did() {
    for with_index in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        for name in FILES.iter().filter(|name| with_index || name.ends_with(".trj")) {
            std::fs::copy(golden().join(name), dir.path().join(name)).unwrap();
        }
        let core = open(dir.path());
        for (device, epochs) in [("bus-7", &[(1, 1..=24), (2, 1..=32)][..]), ("gps:12", &[(3, 1..=34)])] {
            let expected: Vec<_> = epochs
                .iter()
                .flat_map(|(epoch, seqs)| seqs.clone().map(|seq| ((*epoch, seq), frame(device, *epoch, seq))))
                .filter(|((epoch, seq), _)| *epoch != 3 || !(2..=9).contains(seq))
                .collect();
            let found = frames_of(Scan::new(core.shared.clone(), device, ScanRange::default()), false);
            assert_eq!(found, expected);
        }
        let gaps = gaps::page(&core.shared, "gps:12", None, 9).unwrap();
        assert_eq!(gaps.len(), 1);
        assert_eq!(
            (gaps[0].first, gaps[0].last, gaps[0].received_at),
            (Seq(2), Seq(9), 1_700_000_000_000_001)
        );
    }
}

/// `cargo test -p trough-eater --lib make_golden -- --ignored`, once for each version.
#[test]
#[ignore = "writes the golden files, which must never be done again for a version that was released"]
fn make_golden() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    std::fs::create_dir_all(golden()).unwrap();
    let put = |name: &str, bytes: Vec<u8>| {
        let path = golden().join(name);
        assert!(!path.exists(), "{name} is there already");
        std::fs::write(path, bytes).unwrap();
    };
    for name in FILES {
        put(name, std::fs::read(dir.path().join(name)).unwrap());
    }
    put("00000000000000000009.damaged", aside().encode(9, 77));
}
