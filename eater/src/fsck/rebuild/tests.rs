//! Catalogs that were lost:
//!
//! 1. Of a local journal and of objects, whatever compaction was at: all that could be read can be read, gaps, last frames
//!    and heads are the same, and compaction goes on.
//! 2. A rebuild that is killed anywhere is begun again.
//! 3. A segment that is missing is told, and left out only if that is said.
//! 4. What is not lost stays, and nothing is done while somebody is at work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trough_store::segment_catalog::SegmentId;
use trough_store::sqlite::SqliteSegmentCatalog;
use trough_store::{ObjectCatalog, ObjectStore};

use super::*;
use crate::compaction::Journals;
use crate::compaction::tests::local::Eater;
use crate::compaction::tests::objects::Eater as ObjectsEater;
use crate::compaction::tests::{Ground, Model, compare, each_seed};
use crate::frames::Frames;
use crate::fsck::FindingKind;
use crate::fsck::tests::{LONG, Sender, Stopped, check_of};
use crate::journal::testing::{MemoryCatalog, Rng};
use crate::objects::tests::world::{Line, World};
use crate::segments::parquet_key;

const NOTHING: RebuildOptions = RebuildOptions { replace: false, without_missing: false };

/// The catalog of segments is gone.
fn lose(ground: &mut Ground) {
    let name = format!("lost-{}.sqlite", ground.clock.now());
    ground.clock.advance(Duration::from_secs(61));
    let path = ground.dir.path().join(name);
    ground.segments = Arc::new(SqliteSegmentCatalog::open(&path, ground.clock.clone()).unwrap());
}

fn rebuild_of(
    ground: &Ground,
    store: Arc<dyn ObjectStore>,
    journals: JournalParts,
    options: RebuildOptions,
) -> Result<Rebuilt, RebuildError> {
    let (segments, clock) = (ground.segments.clone(), ground.clock.clone());
    let parts = FsckParts { store, segments, journals, grace: LONG, clock };
    rebuild(parts, options, ground.runtime.handle().clone(), &mut |done, total| assert!(done <= total))
}

impl Stopped {
    fn rebuild(&self, options: RebuildOptions) -> Result<Rebuilt, RebuildError> {
        rebuild_of(&self.ground, self.ground.store.clone(), self.journals(), options)
    }

    fn manifest(&self) -> Manifest {
        self.ground.runtime.block_on(self.ground.segments.manifest(None)).unwrap().unwrap()
    }
}

/// Nothing is wrong. Frames that were compacted once more are in two segments for a while.
fn assert_whole(ground: &Ground, store: Arc<dyn ObjectStore>, journals: JournalParts, what: &str) {
    let found = check_of(ground, store, journals, LONG).findings;
    let wrong = found.iter().find(|finding| finding.kind != FindingKind::Doubled);
    assert_eq!(wrong, None, "{what}");
}

#[test]
fn of_a_local_journal() {
    let (made, adopted) = (AtomicU64::new(0), AtomicU64::new(0));
    each_seed(50, |seed| {
        let mut rng = Rng::new(seed ^ 0x10);
        let mut stopped = Stopped::new(seed);
        lose(&mut stopped.ground);
        let heads_too = rng.percent(50);
        if heads_too {
            stopped.catalog = Arc::new(MemoryCatalog::default());
        }
        // Killed now and then, before it is done.
        while rng.percent(50) {
            stopped.ground.store.fail(rng.below(20));
            let _ = stopped.rebuild(NOTHING);
            stopped.ground.store.fail(u64::MAX);
            stopped.ground.clock.advance(Duration::from_secs(61));
        }
        let rebuilt = stopped.rebuild(NOTHING).unwrap();
        made.fetch_add(u64::from(rebuilt.manifest.is_some()), Ordering::Relaxed);
        adopted.fetch_add(rebuilt.adopted, Ordering::Relaxed);
        let what = format!("seed {seed}, {rebuilt:?}");
        assert_whole(&stopped.ground, stopped.ground.store.clone(), stopped.journals(), &what);
        assert_eq!(stopped.rebuild(NOTHING).unwrap().manifest, None, "{what}: it is there now");

        let eater = Eater::open(&stopped.ground, &stopped.catalog);
        let history = stopped.ground.history(stopped.ground.store.clone(), Arc::new(eater.journal.clone()));
        compare(&history, &stopped.model, &mut rng, seed);
        let known = eater.journal.sealed_files().len();
        crate::journal::testing::wait_until("sealed files are recorded", || {
            stopped.catalog.file_ids().len() >= known
        });
        stopped.ground.settle(stopped.ground.store.clone(), Journals::Local(eater.journal.clone()));
        compare(&history, &stopped.model, &mut rng, seed);
    });
    let (made, adopted) = (made.into_inner(), adopted.into_inner());
    println!("{made} manifests were made, and {adopted} segments adopted");
    assert!(made > 0);
}

#[test]
fn of_journal_objects() {
    each_seed(50, |seed| {
        let mut rng = Rng::new(seed);
        let mut ground = Ground::new(seed);
        let world = Arc::new(World::default());
        let name = seed * 1000 + 1;
        let mut eaters =
            [ObjectsEater::open(&ground, &world, name), ObjectsEater::open(&ground, &world, name + 1)];
        let line = Line::new(&world, seed, (0, 0));
        let catalog: Arc<dyn ObjectCatalog> = line.clone();
        let (mut model, mut sender) = (Model::default(), Sender::default());
        for _ in 0..40 {
            let at = rng.below(2) as usize;
            eaters[at].send(&sender.next(&mut rng, &mut model));
            eaters[at].acknowledged();
            if rng.percent(10) {
                ground.clock.advance(Duration::from_millis(rng.below(5000)));
                *line.trouble.lock().unwrap() = (if rng.percent(40) { 10 } else { 0 }, 0);
                if ground.compactor(line.clone(), Journals::Objects(catalog.clone())).pass().is_err() {
                    ground.clock.advance(Duration::from_secs(2));
                }
                *line.trouble.lock().unwrap() = (0, 0);
            }
        }
        for eater in &eaters {
            ground.runtime.block_on(eater.journal.close()).unwrap();
        }
        lose(&mut ground);
        world.forget();
        let journals = JournalParts::Objects(catalog.clone());
        // A PUT that was still on its way may arrive only now: whatever arrives is whole.
        let rebuilt = rebuild_of(&ground, line.clone(), journals.clone(), NOTHING).unwrap();
        let what = format!("seed {seed}, {rebuilt:?}");
        assert_whole(&ground, line.clone(), journals, &what);
        let reader = ObjectsEater::open(&ground, &world, name + 2);
        let history = ground.history(line.clone(), reader.journal.clone());
        compare(&history, &model, &mut rng, seed);
        ground.settle(line.clone(), Journals::Objects(catalog.clone()));
        compare(&history, &model, &mut rng, seed);
    });
}

#[test]
fn wherever_compaction_was_killed() {
    use crate::journal::testing::{TestRun, wait_until};
    let mut adopted = 0;
    for calls in 0..60 {
        let mut ground = Ground::new(calls);
        let mut catalog = Arc::new(MemoryCatalog::default());
        let mut model = Model::default();
        let mut eater = Eater::open(&ground, &catalog);
        let send = |ground: &Ground, eater: &mut Eater, model: &mut Model, from: u64| {
            for first in (from..from + 600).step_by(100) {
                for device in ["a", "z"] {
                    eater.send(&TestRun::Frames { device, epoch: 1, first, count: 99 });
                    eater.send(&TestRun::Skip { device, epoch: 1, first: first + 99, count: 1 });
                    model.sent(device, 1, (first, 99), true);
                    model.sent(device, 1, (first + 99, 1), false);
                }
                // Into the next day.
                ground.clock.advance(Duration::from_millis(300));
            }
            wait_until("sealed files are recorded", || {
                catalog.file_ids().len() == eater.journal.sealed_files().len()
            });
        };
        send(&ground, &mut eater, &mut model, 1);
        ground.compactor(ground.store.clone(), Journals::Local(eater.journal.clone())).pass().unwrap();
        send(&ground, &mut eater, &mut model, 601);
        ground.store.fail(calls);
        let _ = ground.compactor(ground.store.clone(), Journals::Local(eater.journal.clone())).pass();
        ground.store.fail(u64::MAX);
        // A start removes what is compacted, before anybody has written the manifest down.
        ground.runtime.block_on(eater.journal.close()).unwrap();
        let eater = Eater::open(&ground, &catalog);
        ground.runtime.block_on(eater.journal.close()).unwrap();

        lose(&mut ground);
        catalog = Arc::new(MemoryCatalog::default());
        let dir = ground.dir.path().join("journal");
        let journals = JournalParts::Local { dir, catalog: catalog.clone() };
        let rebuilt = rebuild_of(&ground, ground.store.clone(), journals.clone(), NOTHING).unwrap();
        adopted += rebuilt.adopted;
        assert_whole(&ground, ground.store.clone(), journals, &format!("{calls} calls, {rebuilt:?}"));
        let eater = Eater::open(&ground, &catalog);
        let history = ground.history(ground.store.clone(), Arc::new(eater.journal.clone()));
        compare(&history, &model, &mut Rng::new(calls), calls);
    }
    println!("{adopted} segments were adopted");
    assert!(adopted > 0, "some were committed, and no manifest names them");
}

/// One that has segments and a manifest.
fn stopped(seed: u64) -> Stopped {
    let found = (seed..seed + 100).map(Stopped::new).find(|stopped| {
        let written = stopped.ground.store.keys().iter().any(|key| key.starts_with("manifests/"));
        stopped.manifest().segments.len() > 1 && written
    });
    found.expect("one of a hundred is compacted")
}

#[test]
fn a_segment_that_is_missing_is_told() {
    let mut stopped = stopped(1000);
    let segment = stopped.manifest().segments[0].clone();
    lose(&mut stopped.ground);
    let key = parquet_key(segment.date, segment.id);
    let bytes = stopped.ground.store.take(key.as_str());
    let newest = stopped.ground.store.keys().into_iter().rfind(|key| key.starts_with("manifests/"));
    let named =
        stopped.ground.runtime.block_on(stopped.ground.store.get(&ObjectKey::new(&newest.unwrap()).unwrap()));
    if !String::from_utf8_lossy(&named.unwrap()).contains(key.as_str()) {
        // It was merged into it: nobody misses it.
        return;
    }
    let error = stopped.rebuild(NOTHING).unwrap_err().to_string();
    assert!(error.contains(key.as_str()) && error.contains("--without-missing"), "{error}");
    assert_eq!(stopped.manifest().number, 0);
    stopped.ground.clock.advance(Duration::from_secs(61));
    let rebuilt = stopped.rebuild(RebuildOptions { without_missing: true, ..NOTHING }).unwrap();
    assert!(rebuilt.notes.iter().any(|note| note.contains(key.as_str())), "{rebuilt:?}");
    assert!(stopped.manifest().segments.iter().all(|live| live.id != segment.id));
    // It turns up again.
    stopped.ground.runtime.block_on(stopped.ground.store.put(&key, bytes)).unwrap();
    let rebuilt = stopped.rebuild(RebuildOptions { replace: true, ..NOTHING }).unwrap();
    assert!(rebuilt.manifest.is_some());
    let eater = Eater::open(&stopped.ground, &stopped.catalog);
    let history = stopped.ground.history(stopped.ground.store.clone(), Arc::new(eater.journal.clone()));
    compare(&history, &stopped.model, &mut Rng::new(1), 1000);
}

#[test]
fn what_is_there_stays_and_who_is_at_work_is_left_alone() {
    let stopped = stopped(2000);
    let before = stopped.manifest();
    stopped.ground.clock.advance(Duration::from_secs(61));
    assert_eq!(stopped.rebuild(NOTHING).unwrap().manifest, None);
    assert_eq!(stopped.manifest(), before);
    let replaced = stopped.rebuild(RebuildOptions { replace: true, ..NOTHING }).unwrap();
    assert!(replaced.manifest > Some(before.number));

    let eater = Eater::open(&stopped.ground, &stopped.catalog);
    let error = stopped.rebuild(NOTHING).unwrap_err();
    assert!(matches!(&error, RebuildError::InUse(why) if why.contains("in use by process")), "{error}");
    stopped.ground.runtime.block_on(eater.journal.close()).unwrap();
    let claim =
        stopped.ground.runtime.block_on(stopped.ground.segments.claim(Duration::from_secs(60))).unwrap();
    let error = stopped.rebuild(NOTHING).unwrap_err();
    assert!(matches!(&error, RebuildError::InUse(why) if why.contains("claimed compaction")), "{error}");
    stopped.ground.runtime.block_on(stopped.ground.segments.release(claim.unwrap())).unwrap();
    stopped.rebuild(NOTHING).unwrap();

    let (ground, world) = (Ground::new(1), Arc::new(World::default()));
    let mut eater = ObjectsEater::open(&ground, &world, 1);
    eater.send(&crate::journal::testing::TestRun::Frames { device: "a", epoch: 1, first: 1, count: 1 });
    eater.acknowledged();
    let line = Line::new(&world, 1, (0, 0));
    let error = rebuild_of(&ground, line.clone(), JournalParts::Objects(line), NOTHING).unwrap_err();
    assert!(matches!(&error, RebuildError::InUse(why) if why.contains("was heard")), "{error}");
}

#[test]
fn what_has_expired_is_not_adopted() {
    use crate::journal::GapKind;
    use crate::segments::format::Loss;
    use crate::segments::{NewSegment, SegmentWriter, index_key};
    use trough_protocol::{DeviceId, Epoch, Seq};
    use trough_store::segment_catalog::Change;
    let mut stopped = stopped(3000);
    let ground = &stopped.ground;
    let before = stopped.manifest();
    // All that the catalog has is replaced by the word that it has expired; the replaced segments are still there.
    let id = SegmentId([0xee; 16]);
    let mut writer = SegmentWriter::new(NewSegment { id, date: before.segments[0].date, level: 2 }).unwrap();
    for device in crate::compaction::tests::DEVICES {
        for epoch in (1..100).map(Epoch) {
            let source = ObjectId { incarnation: Incarnation::LOCAL, n: 0 };
            let (first, last, kind) = (Seq(1), Seq(1_000_000), GapKind::Expired);
            let loss = Loss { epoch, first, last, kind, received_at: before.segments[0].received.0, source };
            writer.lose(&DeviceId::new(device).unwrap(), loss).unwrap();
        }
    }
    // Losses that devices declared stay.
    for segment in &before.segments {
        let opened = ground.runtime.block_on(crate::segments::OpenSegment::open(
            &crate::compaction::tests::cache(ground.store.clone()),
            segment,
        ));
        for device in opened.unwrap().index().devices() {
            device.losses().for_each(|loss| writer.lose(&device.id(), loss).unwrap());
        }
    }
    let written = writer.finish().unwrap();
    let segment = written.segment.clone();
    let put = |key: ObjectKey, bytes| ground.runtime.block_on(ground.store.put(&key, bytes)).unwrap();
    put(parquet_key(segment.date, id), written.parquet);
    put(index_key(segment.date, id), written.index);
    ground.clock.advance(Duration::from_secs(61));
    let token = ground.runtime.block_on(ground.segments.claim(Duration::from_secs(1))).unwrap().unwrap();
    let change = Change {
        id: [3; 16],
        token,
        after: before.number,
        add: vec![segment.clone()],
        remove: before.segments.iter().map(|segment| segment.id).collect(),
        through: Vec::new(),
        expires: true,
    };
    ground.runtime.block_on(ground.segments.commit(&change)).unwrap();
    let now = stopped.manifest();
    put(
        crate::compaction::manifest_file::key(now.number),
        crate::compaction::manifest_file::ManifestFile::of(&now).encode(),
    );
    lose(&mut stopped.ground);
    stopped.rebuild(NOTHING).unwrap();
    let live: Vec<SegmentId> = stopped.manifest().segments.iter().map(|live| live.id).collect();
    let returned = before.segments.iter().find(|old| live.contains(&old.id) && old.frames > 0);
    assert_eq!(returned, None);
    assert!(live.contains(&id));
}

/// Writes a segment: of each device the frames 1 to 10, or only that they have expired.
fn put_segment(ground: &Ground, id: u8, date: u32, devices: &[(&str, bool)]) -> SegmentId {
    use crate::journal::GapKind;
    use crate::segments::format::Loss;
    use crate::segments::{NewSegment, Row, SegmentWriter, index_key};
    use trough_protocol::frame::FrameRef;
    use trough_protocol::{ContentType, DeviceId, Epoch, Seq};
    let id = SegmentId([id; 16]);
    let mut writer = SegmentWriter::new(NewSegment { id, date, level: 1 }).unwrap();
    let (epoch, received_at) = (Epoch(1), u64::from(date) * 86_400_000_000);
    for (device, expired) in devices {
        if *expired {
            let (first, last, kind) = (Seq(1), Seq(10), GapKind::Expired);
            let source = ObjectId { incarnation: Incarnation::LOCAL, n: 0 };
            let loss = Loss { epoch, first, last, kind, received_at, source };
            writer.lose(&DeviceId::new(device).unwrap(), loss).unwrap();
            continue;
        }
        for seq in (1..=10).map(Seq) {
            // Of a journal that is gone.
            let source = ObjectId { incarnation: Incarnation([7; 16]), n: 1 };
            let frame = FrameRef { ts: 1, channel: "c", content_type: ContentType::Text, payload: b"x" };
            writer.push(&Row { device, epoch, seq, received_at, source, frame }).unwrap();
        }
    }
    let written = writer.finish().unwrap();
    let put = |key: ObjectKey, bytes| ground.runtime.block_on(ground.store.put(&key, bytes)).unwrap();
    put(parquet_key(date, id), written.parquet);
    put(index_key(date, id), written.index);
    id
}

#[test]
fn without_a_manifest_what_has_expired_is_known_and_does_not_return() {
    use crate::journal::GapKind;
    use trough_protocol::DeviceId;
    let ground = Ground::new(1);
    let catalog = Arc::new(MemoryCatalog::default());
    ground.runtime.block_on(Eater::open(&ground, &catalog).journal.close()).unwrap();
    // Of one day a part has expired, of another all; what was replaced is still there, within its grace.
    put_segment(&ground, 1, 100, &[("a", false), ("b", false)]);
    let part = put_segment(&ground, 2, 100, &[("a", true), ("b", false)]);
    put_segment(&ground, 3, 101, &[("c", false)]);
    let all = put_segment(&ground, 4, 101, &[("c", true)]);
    // What had expired was taken over into this one, with more; both have it still.
    put_segment(&ground, 5, 102, &[("d", true)]);
    let both = put_segment(&ground, 6, 102, &[("d", true), ("e", true)]);
    let dir = ground.dir.path().join("journal");
    let journals = JournalParts::Local { dir, catalog: catalog.clone() };
    let rebuilt = rebuild_of(&ground, ground.store.clone(), journals, NOTHING).unwrap();
    let manifest = ground.runtime.block_on(ground.segments.manifest(None)).unwrap().unwrap();
    let live: BTreeSet<SegmentId> = manifest.segments.iter().map(|segment| segment.id).collect();
    assert_eq!(live, BTreeSet::from([part, all, both]), "{rebuilt:?}");
    assert_eq!((rebuilt.adopted, rebuilt.frames, rebuilt.devices), (3, 10, 5), "{rebuilt:?}");

    let eater = Eater::open(&ground, &catalog);
    let history = ground.history(ground.store.clone(), Arc::new(eater.journal.clone()));
    for device in ["a", "b", "c", "d", "e"].map(|name| DeviceId::new(name).unwrap()) {
        let state = history.device_states(std::slice::from_ref(&device)).unwrap().remove(0).unwrap();
        let heads: Vec<_> = state.heads.iter().map(|(epoch, head)| (epoch.0, head.0)).collect();
        assert_eq!(heads, [(1, 10)], "{device}");
        let gaps = history.gaps(&device, None, 10).unwrap();
        let gaps: Vec<_> = gaps.iter().map(|gap| (gap.first.0, gap.last.0, gap.kind)).collect();
        let wanted = if device.as_str() == "b" { vec![] } else { vec![(1, 10, GapKind::Expired)] };
        assert_eq!(gaps, wanted, "{device}");
    }
}

#[test]
fn numbers_without_those_of_others() {
    use crate::segments::{NewSegment, SegmentWriter};
    use trough_protocol::frame::FrameRef;
    use trough_protocol::{ContentType, Epoch, Seq};
    let index = |numbers: &[(&str, u64, u64)]| {
        let new = NewSegment { id: SegmentId([1; 16]), date: 0, level: 1 };
        let mut writer = SegmentWriter::new(new).unwrap();
        for (device, epoch, seq) in numbers {
            let frame = FrameRef { ts: 1, channel: "c", content_type: ContentType::Text, payload: b"x" };
            let source = ObjectId { incarnation: Incarnation::LOCAL, n: 1 };
            let (epoch, seq) = (Epoch(*epoch), Seq(*seq));
            writer.push(&crate::segments::Row { device, epoch, seq, received_at: 1, source, frame }).unwrap();
        }
        crate::segments::format::Index::decode(writer.finish().unwrap().index).unwrap()
    };
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut random = || {
            let mut numbers: BTreeSet<(&str, u64, u64)> = BTreeSet::from([("z", 9, 9)]);
            for _ in 0..rng.below(60) {
                numbers.insert((["a", "b"][rng.below(2) as usize], 1 + rng.below(2), 1 + rng.below(20)));
            }
            numbers
        };
        let (all, gone) = (random(), random());
        let of = |numbers: &BTreeSet<(&'static str, u64, u64)>| {
            index(&numbers.iter().copied().collect::<Vec<_>>())
        };
        let mut left = cover::Numbers::of(&of(&all));
        left.subtract(&of(&gone));
        for device in ["a", "b", "z", "q"] {
            for (epoch, seq) in (0..4).flat_map(|epoch| (0..25).map(move |seq| (epoch, seq))) {
                let wanted = all.contains(&(device, epoch, seq)) && !gone.contains(&(device, epoch, seq));
                assert_eq!(
                    left.has(device, Epoch(epoch), Seq(seq)),
                    wanted,
                    "seed {seed}: {device} {epoch} {seq}"
                );
            }
        }
        assert_eq!(left.is_empty(), all.is_subset(&gone), "seed {seed}");
    }
}
