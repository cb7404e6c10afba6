//! Journal objects of two eaters.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trough_runtime::metrics::Registry;
use trough_store::ObjectCatalog;
use trough_store::object_catalog::Incarnation;

use super::*;
use crate::journal::testing::{TestRun, TestSink, batch, encode, wait_until};
use crate::journal::{JournalMetrics, Submission};
use crate::objects::tests::world::{Line, World};
use crate::objects::{ObjectJournal, ObjectMetrics, ObjectsConfig, ObjectsParts};

pub(crate) struct Eater {
    pub incarnation: Incarnation,
    pub journal: Arc<ObjectJournal>,
    sink: Arc<TestSink>,
    sent: u64,
}

impl Eater {
    pub(crate) fn open(ground: &Ground, world: &Arc<World>, name: u64) -> Self {
        let line = Line::new(world, name, (0, 0));
        let mut incarnation = [0; 16];
        incarnation[..8].copy_from_slice(&name.to_be_bytes());
        let incarnation = Incarnation(incarnation);
        let parts = ObjectsParts {
            store: line.clone(),
            catalog: line,
            incarnation,
            clock: ground.clock.clone(),
            health: Health::new(),
            journal_metrics: JournalMetrics::register(&mut Registry::default()),
            metrics: ObjectMetrics::register(&mut Registry::default()),
            doorbell: None,
            killed: CancellationToken::new(),
        };
        let config = ObjectsConfig { flush_after: Duration::from_millis(1), ..ObjectsConfig::default() };
        let _inside = ground.runtime.enter();
        let journal = Arc::new(ObjectJournal::open(config, parts));
        Self { incarnation, journal, sink: Arc::default(), sent: 0 }
    }

    pub(crate) fn send(&mut self, run: &TestRun) {
        self.sent += 1;
        let sink = self.sink.clone();
        let submission = Submission { batch: batch(std::slice::from_ref(run)), number: self.sent, sink };
        self.journal.submit(submission).unwrap();
    }

    pub(crate) fn acknowledged(&self) {
        wait_until("the batch is durable", || self.sink.highest() >= self.sent);
    }
}

#[test]
fn two_eaters_make_one_history() {
    each_seed(50, |seed| {
        let mut rng = Rng::new(seed);
        let ground = Ground::new(seed);
        let world = Arc::new(World::default());
        let mut name = seed * 1000 + 2;
        let mut eaters = [Eater::open(&ground, &world, name - 1), Eater::open(&ground, &world, name)];
        let line = Line::new(&world, seed, (0, 0));
        let catalog: Arc<dyn ObjectCatalog> = line.clone();
        let (mut model, mut next) = (Model::default(), BTreeMap::new());
        for _ in 0..30 + rng.below(30) {
            match rng.below(10) {
                0..=5 => {
                    let device = DEVICES[rng.below(3) as usize];
                    let (epoch, first) = next.entry(device).or_insert((1_u64, 1_u64));
                    if rng.percent(5) {
                        (*epoch, *first) = (*epoch + 1, 1);
                    }
                    let again = if rng.percent(30) { rng.below(20) } else { 0 };
                    let from = first.saturating_sub(again).max(1);
                    let (count, epoch) = (1 + rng.below(40), *epoch);
                    let frames = rng.percent(90) || from < *first;
                    let run = match frames {
                        true => TestRun::Frames { device, epoch, first: from, count },
                        false => TestRun::Skip { device, epoch, first: from, count },
                    };
                    let at = rng.below(2) as usize;
                    eaters[at].send(&run);
                    if rng.percent(20) {
                        eaters[1 - at].send(&run);
                    }
                    eaters.iter().for_each(Eater::acknowledged);
                    model.sent(device, epoch, (from, count), frames);
                    *first = (*first).max(from + count);
                }
                6..=7 => {
                    ground.clock.advance(Duration::from_millis(rng.below(5000)));
                    *line.trouble.lock().unwrap() = (if rng.percent(40) { 10 } else { 0 }, 0);
                    match ground.compactor(line.clone(), Journals::Objects(catalog.clone())).pass() {
                        Ok(_) => {}
                        Err(_) => ground.clock.advance(Duration::from_secs(2)),
                    }
                    *line.trouble.lock().unwrap() = (0, 0);
                }
                8 => {
                    let eater = &eaters[rng.below(2) as usize];
                    let history = ground.history(line.clone(), eater.journal.clone());
                    compare_but_old_heads(&history, &model, &mut rng, seed);
                }
                _ => {
                    let at = rng.below(2) as usize;
                    ground.runtime.block_on(catalog.close(eaters[at].incarnation)).unwrap();
                    name += 1;
                    eaters[at] = Eater::open(&ground, &world, name);
                }
            }
        }
        ground.settle(line.clone(), Journals::Objects(catalog.clone()));
        for eater in &eaters {
            let history = ground.history(line.clone(), eater.journal.clone());
            compare(&history, &model, &mut rng, seed);
            for device in DEVICES {
                let id = DeviceId::new(device).unwrap();
                for (epoch, head) in model.heads(device) {
                    let found = ground.runtime.block_on(history.head(&id, Epoch(epoch)));
                    assert_eq!(found, Some(Seq(head)), "seed {seed}: head of {device} in {epoch}");
                }
            }
        }
        // What a compactor that was given up had on its way may arrive only now, and is removed with the next pass.
        let stored = || -> Vec<String> { world.objects.lock().unwrap().keys().cloned().collect() };
        wait_until("what nobody names is removed", || {
            ground.settle(line.clone(), Journals::Objects(catalog.clone()));
            ground.stray(&stored()).is_none()
        });
        let keys = stored();
        ground.assert_clean(&keys);
        assert!(keys.iter().all(|key| !key.starts_with("journal/")), "seed {seed}: all of it is compacted");
    });
}

#[test]
fn copies_are_compared() {
    let ground = Ground::new(1);
    // Into the next day, all of it: segments of different days are not merged.
    ground.clock.advance(Duration::from_secs(10));
    let world = Arc::new(World::default());
    let mut eaters = [Eater::open(&ground, &world, 1), Eater::open(&ground, &world, 2)];
    let own = |payloads: &[&[u8]]| TestRun::Own {
        device: "a",
        epoch: 1,
        first: 1,
        channel: "c",
        payloads: payloads.iter().map(|payload| payload.to_vec()).collect(),
    };
    let line = Line::new(&world, 1, (0, 0));
    eaters[0].send(&own(&[b"1", b"2", b"3", b"4"]));
    eaters[0].acknowledged();
    ground.clock.advance(Duration::from_secs(1));
    eaters[1].send(&own(&[b"1", b"two", b"3"]));
    eaters[1].acknowledged();
    let mut compactor = ground.compactor(line.clone(), Journals::Objects(line.clone()));
    compactor.pass().unwrap();
    let metrics = compactor.parts.metrics.clone();
    assert_eq!((metrics.frames.get(), metrics.repeated.get(), metrics.conflicts.get()), (4, 3, 1));

    // A copy that comes when the first ones are in a segment is compared when the two are merged.
    ground.clock.advance(Duration::from_secs(1));
    eaters[1].send(&own(&[b"1", b"2", b"THREE"]));
    eaters[1].acknowledged();
    for n in 1..=7 {
        compactor.pass().unwrap();
        eaters[1].send(&TestRun::Frames { device: "z", epoch: 1, first: n, count: 1 });
        eaters[1].acknowledged();
        ground.clock.advance(Duration::from_secs(1));
    }
    compactor.pass().unwrap();
    assert_eq!(metrics.conflicts.get(), 2, "1 and 2 are the same, wherever the first copy lies");
    let history = ground.history(line.clone(), eaters[0].journal.clone());
    let chunks = history.scan(&DeviceId::new("a").unwrap(), ScanRange::default());
    let bytes: Vec<u8> = chunks.flat_map(|chunk| chunk.unwrap().bytes.to_vec()).collect();
    let payloads = [b"1", b"2", b"3", b"4"].into_iter().zip(1..);
    let wanted = payloads.flat_map(|(payload, seq)| encode(1_000_000 + seq, "c", payload));
    assert_eq!(bytes, wanted.collect::<Vec<u8>>());
}
