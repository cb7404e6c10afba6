//! The local journal, from any place on: each number once, whatever was sent twice, in files of whatever kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use trough_runtime::clock::Clock;
use trough_store::object_catalog::Incarnation;

use crate::compaction::tests::{directory, each_seed};
use crate::journal::testing::{MemoryCatalog, Rng, TestRun, TestSink, batch, config, parts, wait_until};
use crate::journal::{Journal, Lot, Submission};
use crate::live::commit::Content;
use crate::live::local::LocalWalk;
use crate::live::{LiveError, Place, Source, Vector, Walk as _};

const DEVICES: [&str; 3] = ["a", "b", "c"];

/// A vector, and what was given until then.
type Point = (Vector, BTreeMap<&'static str, u64>);

fn send(journal: &Journal, sink: &Arc<TestSink>, number: u64, run: TestRun) {
    let submission = Submission { batch: batch(&[run]), number, sink: sink.clone() };
    journal.submit(submission).unwrap();
    sink.wait_for(number);
}

/// Walks from a point to the end, and notes points on the way. Unless it is `exact`, numbers may come again.
async fn walk(
    journal: &Journal,
    (vector, mut given): Point,
    points: &mut Vec<Point>,
    exact: bool,
    lot: Lot,
) -> BTreeMap<&'static str, u64> {
    let mut walk = LocalWalk::new(journal.clone(), vector, None, lot);
    loop {
        let found = walk.step(None).await.unwrap();
        for commit in &found.commits {
            let Content::Local(runs) = &commit.content else { panic!("runs") };
            assert!(runs.len() <= lot.open.max(lot.sealed), "{} are too many", runs.len());
            for arrival in runs {
                let device = DEVICES.into_iter().find(|device| *device == arrival.device.as_str()).unwrap();
                let last = given.entry(device).or_default();
                let (fresh, end) = (arrival.fresh.0, arrival.run.last().0);
                if fresh <= end {
                    assert!(fresh == *last + 1 || (!exact && fresh <= *last), "behind {last}: {arrival:?}");
                } else {
                    assert!(end <= *last, "{arrival:?}");
                }
                *last = end.max(*last);
            }
        }
        points.push((walk.vector().clone(), given.clone()));
        if !found.more {
            return given;
        }
    }
}

#[test]
fn each_number_comes_once_from_any_place_on() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    each_seed(50, |seed| {
        let mut rng = Rng::new(seed);
        let mut size = || usize::try_from(4 + rng.below(60)).unwrap();
        let lot = Lot { open: size(), sealed: size() };
        let dir = directory();
        let mut config = config(dir.path());
        config.roll_bytes = 4096;
        let catalog = Arc::new(MemoryCatalog::default());
        let (mut journal, _) =
            Journal::open(config.clone(), parts(catalog.clone(), Clock::system())).unwrap();
        let (mut sink, mut number) = (Arc::new(TestSink::default()), 0);
        let mut sent: BTreeMap<&'static str, u64> = BTreeMap::new();
        // What a device gave up it does not send any more.
        let mut given_up: BTreeMap<&'static str, u64> = BTreeMap::new();
        let begin = (runtime.block_on(Source::end(&journal)).unwrap(), BTreeMap::new());
        let mut points = vec![begin];
        for _ in 0..150 {
            let device = DEVICES[rng.below(3) as usize];
            let head = sent.entry(device).or_default();
            let lost = given_up.entry(device).or_default();
            let back = if rng.percent(30) { rng.below(9).min(*head - *lost) } else { 0 };
            let (first, count) = (*head + 1 - back, 1 + rng.below(12));
            *head = (first + count - 1).max(*head);
            number += 1;
            let run = match rng.percent(10) && back == 0 {
                true => {
                    *lost = *head;
                    TestRun::Skip { device, epoch: 1, first, count }
                }
                false => TestRun::Frames { device, epoch: 1, first, count },
            };
            send(&journal, &sink, number, run);
            if rng.percent(10) {
                let point = points[rng.below(points.len() as u64) as usize].clone();
                let given = runtime.block_on(walk(&journal, point, &mut points, true, lot));
                assert_eq!(given, sent, "seed {seed}");
            }
            if rng.percent(2) {
                runtime.block_on(journal.close()).unwrap();
                (journal, _) =
                    Journal::open(config.clone(), parts(catalog.clone(), Clock::system())).unwrap();
                (sink, number) = (Arc::new(TestSink::default()), 0);
            }
        }
        let sealed = journal.clone();
        wait_until("some files are sealed", || sealed.sealed_files().len() > 3);
        let through = journal.sealed_files()[2].file_id;
        journal.remove_through(through).unwrap();
        for point in points.clone() {
            let at = point.0.place(Incarnation::LOCAL).n;
            let found = runtime.block_on(Source::walk(&journal, point.0.clone(), None).step(None));
            if at <= through {
                assert!(matches!(found, Err(LiveError::Expired)), "seed {seed}: {at}");
            } else {
                // What was sent again of what is gone cannot be told from what is new.
                let given = runtime.block_on(walk(&journal, point, &mut Vec::new(), false, lot));
                assert_eq!(given, sent, "seed {seed}");
            }
        }
        // The end, with nothing in the journal, is a place to go on from.
        let end = runtime.block_on(Source::end(&journal)).unwrap();
        assert!(end.place(Incarnation::LOCAL) > Place::behind(through));
    });
}
