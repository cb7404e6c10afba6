//! The local journal.

use std::sync::Arc;
use std::time::Duration;

use trough_store::object_catalog::Incarnation;

use super::*;
use crate::journal::testing::{MemoryCatalog, TestRun, TestSink, batch, config, parts, wait_until};
use crate::journal::{Journal, JournalConfig, Submission};

pub(crate) struct Eater {
    pub journal: Journal,
    sink: Arc<TestSink>,
    sent: u64,
}

impl Eater {
    pub(crate) fn open(ground: &Ground, catalog: &Arc<MemoryCatalog>) -> Self {
        let manifest = ground.runtime.block_on(ground.segments.manifest(None)).unwrap().unwrap();
        let config = JournalConfig {
            compacted_through: manifest.through_of(Incarnation::LOCAL),
            ..config(ground.dir.path().join("journal"))
        };
        let (journal, _) = Journal::open(config, parts(catalog.clone(), ground.clock.clone())).unwrap();
        Self { journal, sink: Arc::default(), sent: 0 }
    }

    pub(crate) fn send(&mut self, run: &TestRun) {
        self.sent += 1;
        let submission = Submission {
            batch: batch(std::slice::from_ref(run)),
            number: self.sent,
            sink: self.sink.clone(),
        };
        self.journal.submit(submission).unwrap();
        self.sink.wait_for(self.sent);
    }
}

#[test]
fn what_was_acknowledged_is_read_whatever_happens() {
    each_seed(200, |seed| {
        let mut rng = Rng::new(seed);
        let ground = Ground::new(seed);
        let catalog = Arc::new(MemoryCatalog::default());
        let mut eater = Eater::open(&ground, &catalog);
        let mut history = ground.history(ground.store.clone(), Arc::new(eater.journal.clone()));
        let (mut model, mut next) = (Model::default(), BTreeMap::new());
        for _ in 0..20 + rng.below(60) {
            match rng.below(10) {
                0..=5 => {
                    let device = DEVICES[rng.below(3) as usize];
                    let (epoch, first) = next.entry(device).or_insert((1_u64, 1_u64));
                    if rng.percent(5) {
                        (*epoch, *first) = (*epoch + 1, 1);
                    }
                    // Now and then some of the last ones come again.
                    let from =
                        if rng.percent(20) { (*first).saturating_sub(rng.below(20)).max(1) } else { *first };
                    let (count, epoch) = (1 + rng.below(40), *epoch);
                    let frames = rng.percent(90) || from < *first;
                    let run = match frames {
                        true => TestRun::Frames { device, epoch, first: from, count },
                        false => TestRun::Skip { device, epoch, first: from, count },
                    };
                    eater.send(&run);
                    model.sent(device, epoch, (from, count), frames);
                    *first = (*first).max(from + count);
                }
                6..=7 => {
                    ground.clock.advance(Duration::from_millis(rng.below(5000)));
                    ground.compact(Journals::Local(eater.journal.clone()), &mut rng);
                }
                8 => compare(&history, &model, &mut rng, seed),
                _ => {
                    drop(history);
                    ground.runtime.block_on(eater.journal.close()).unwrap();
                    eater = Eater::open(&ground, &catalog);
                    history = ground.history(ground.store.clone(), Arc::new(eater.journal.clone()));
                }
            }
        }
        compare(&history, &model, &mut rng, seed);
        let newest = |eater: &Eater| eater.journal.sealed_files().len();
        wait_until("sealed files are recorded", || catalog.file_ids().len() == newest(&eater));
        ground.settle(ground.store.clone(), Journals::Local(eater.journal.clone()));
        compare(&history, &model, &mut rng, seed);
        ground.assert_clean(&ground.store.keys());
        assert!(eater.journal.sealed_files().is_empty(), "seed {seed}: all of it is compacted and removed");
    });
}

#[test]
fn what_has_waited_for_days_becomes_few_segments() {
    let ground = Ground::new(1);
    let catalog = Arc::new(MemoryCatalog::default());
    let mut eater = Eater::open(&ground, &catalog);
    for day in 0..12 {
        for device in DEVICES {
            eater.send(&TestRun::Frames { device, epoch: 1, first: 1 + day * 40, count: 40 });
        }
        ground.clock.advance(Duration::from_secs(24 * 3600));
    }
    ground.runtime.block_on(eater.journal.close()).unwrap();
    let eater = Eater::open(&ground, &catalog);
    let files = eater.journal.sealed_files().len();
    let mut compactor = ground.compactor(ground.store.clone(), Journals::Local(eater.journal.clone()));
    compactor.config.input_bytes = u64::MAX;
    let manifest = compactor.manifest().unwrap();
    let token = ground.runtime.block_on(ground.segments.claim(Duration::from_secs(60))).unwrap().unwrap();
    assert!(files > 6 && compactor.step(&manifest, token).unwrap());
    let manifest = compactor.manifest().unwrap();
    assert!(manifest.segments.len() <= 3, "three days at a time, each in one piece: {:?}", manifest.segments);
}
