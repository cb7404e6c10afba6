//! What a writer takes, refuses, and says of what it made.

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::object_catalog::{Incarnation, ObjectId};

use super::world::{NEW, Owned, Shape, World, random_rows, scan, written};
use crate::journal::testing::Rng;
use crate::journal::{GapKind, ScanRange};
use crate::segments::format::{LASTS_MAX, Loss};
use crate::segments::{SegmentWriter, WriteError};

const SOURCE: ObjectId = ObjectId { incarnation: Incarnation([3; 16]), n: 4 };

fn row(device: &str, epoch: u64, seq: u64) -> Owned {
    Owned {
        device: device.into(),
        epoch,
        seq,
        received_at: 1000 + seq,
        source: SOURCE,
        ts: 50 + seq,
        channel: "gps".into(),
        content_type: "text/csv".into(),
        payload: b"x".to_vec(),
    }
}

fn loss(first: u64, last: u64, received_at: u64) -> Loss {
    let (epoch, first, last) = (Epoch(1), Seq(first), Seq(last));
    Loss { epoch, first, last, kind: GapKind::Skipped { reason: 2 }, received_at, source: SOURCE }
}

#[test]
fn disorder_is_refused_and_nothing_of_it_is_kept() {
    let mut writer = SegmentWriter::new(NEW).unwrap();
    writer.push(&row("b", 2, 5).row()).unwrap();
    for wrong in [row("b", 2, 5), row("b", 2, 4), row("b", 1, 9), row("a", 9, 9)] {
        let error = writer.push(&wrong.row()).unwrap_err();
        assert!(matches!(error, WriteError::Disorder { .. }), "{error}");
    }
    for wrong in [row("b", 2, 0), row("b", 1 << 53, 1), Owned { ts: 0, ..row("c", 1, 1) }] {
        let error = writer.push(&wrong.row()).unwrap_err();
        assert!(matches!(error, WriteError::Invalid(_)), "{error}");
    }
    for wrong in [
        Owned { channel: "no spaces".into(), ..row("c", 1, 1) },
        Owned { device: "no spaces".into(), ..row("c", 1, 1) },
        Owned { payload: vec![0; 1024 * 1024 + 1], ..row("c", 1, 1) },
    ] {
        let error = writer.push(&wrong.row()).unwrap_err();
        assert!(matches!(error, WriteError::Invalid(_)), "{error}");
    }
    writer.push(&row("b", 2, 6).row()).unwrap();
    writer.push(&row("b", 3, 1).row()).unwrap();
    writer.push(&row("c", 1, 1).row()).unwrap();
    let written = writer.finish().unwrap();
    assert_eq!(written.segment.frames, 4);
    let segment = World::new(&written).open().unwrap();
    assert_eq!(scan(&segment, "b", ScanRange::default()).0.len(), 3);
}

#[test]
fn nothing_makes_no_segment() {
    let writer = SegmentWriter::new(NEW).unwrap();
    assert!(writer.is_empty());
    assert!(matches!(writer.finish(), Err(WriteError::Empty)));
}

#[test]
fn losses_are_kept_with_and_without_frames() {
    let device = |name: &str| DeviceId::new(name).unwrap();
    let losses = [
        (device("m"), loss(7, 9, 30)),
        (device("a"), loss(1, 2, 20)),
        (device("m"), loss(2, 3, 10)),
        (device("z"), Loss { kind: GapKind::Expired, ..loss(1, 1, 5) }),
        (device("m"), loss(7, 9, 30)),
    ];
    let written = written(&[row("m", 1, 1), row("m", 1, 4)], &losses);
    assert_eq!(written.segment.devices, (device("a"), device("z")));
    assert_eq!((written.segment.ts, written.segment.received), ((51, 54), (5, 1004)));
    let segment = World::new(&written).open().unwrap();
    let of = |name: &str| segment.device(name).unwrap().losses().collect::<Vec<Loss>>();
    assert_eq!(of("m"), [loss(2, 3, 10), loss(7, 9, 30)], "each once, by number");
    assert_eq!((of("a"), of("z")[0].kind), (vec![loss(1, 2, 20)], GapKind::Expired));
    assert_eq!(segment.device("m").unwrap().stretches().map(|s| s.first.0).collect::<Vec<_>>(), [1, 4]);

    let only = super::world::written(&[], &losses[..1]);
    assert_eq!((only.segment.frames, only.segment.ts), (0, (0, 0)));
    let segment = World::new(&only).open().unwrap();
    assert_eq!(segment.device("m").unwrap().losses().count(), 1);
    assert!(scan(&segment, "m", ScanRange::default()).0.is_empty());
    let mut writer = SegmentWriter::new(NEW).unwrap();
    assert!(matches!(writer.lose(&device("a"), loss(3, 2, 1)), Err(WriteError::Invalid(_))));
}

#[test]
fn of_very_many_channels_the_newest_are_noted() {
    let rows: Vec<Owned> = (1..=3 * LASTS_MAX as u64)
        .map(|seq| Owned { channel: format!("c{seq}"), ..row("d", 1, seq) })
        .collect();
    let segment = World::new(&written(&rows, &[])).open().unwrap();
    let lasts: Vec<_> = segment.device("d").unwrap().lasts().collect();
    assert_eq!(lasts.len(), LASTS_MAX);
    assert!(lasts.iter().all(|last| last.seq.0 > 2 * LASTS_MAX as u64));
}

#[test]
fn it_tells_its_size_as_it_grows() {
    let shape = Shape { devices: 3, runs: 4, frames: 2000, payload: 400, large: 400 };
    let rows = random_rows(&mut Rng::new(4), &shape);
    let mut writer = SegmentWriter::new(NEW).unwrap();
    let mut before = writer.bytes();
    for row in &rows {
        writer.push(&row.row()).unwrap();
        // An estimate of what is not encoded yet may prove too high.
        assert!(writer.bytes() + 1024 * 1024 > before);
        before = before.max(writer.bytes());
    }
    let (told, frames) = (writer.bytes(), writer.frames());
    let written = writer.finish().unwrap();
    assert_eq!(frames, rows.len() as u64);
    let bytes = written.segment.bytes;
    assert!(told > bytes / 2 && told < bytes * 2 + 2 * 1024 * 1024, "{told} told, {bytes} made");
    assert_eq!(written.parquet.len() as u64, bytes);
    assert_eq!(written.index.len() as u64, written.segment.index_bytes);
}
