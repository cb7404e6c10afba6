//! Storage that is whole is found whole, and whatever is wrong with it is found:
//!
//! 1. Any byte of any object or file: a read is right or says what it cannot read, never wrong; and a check finds it
//!    ([`damage`]).
//! 2. Objects that are missing, that nobody names, that two segments have; manifests and catalogs ([`findings`]).

mod damage;
mod findings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trough_protocol::DeviceId;
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_store::ObjectStore;

use super::*;
use crate::compaction::Journals;
use crate::compaction::tests::local::Eater;
use crate::compaction::tests::{DEVICES, Ground, Model};
use crate::frames::Frames;
use crate::history::History;
use crate::journal::testing::{MemoryCatalog, Rng, TestRun, frame, wait_until};
use crate::journal::{Order, ScanRange};

/// Longer than any test: nothing is an orphan.
pub(crate) const LONG: Duration = Duration::from_secs(100_000_000);

/// A deployment with a local journal, stopped.
pub(crate) struct Stopped {
    pub ground: Ground,
    pub catalog: Arc<MemoryCatalog>,
    pub model: Model,
}

/// What is sent next of each device.
#[derive(Default)]
pub(crate) struct Sender(BTreeMap<&'static str, (u64, u64)>);

impl Sender {
    /// A run of frames or of a loss, now and then of numbers that were sent before.
    pub(crate) fn next(&mut self, rng: &mut Rng, model: &mut Model) -> TestRun {
        let device = DEVICES[rng.below(3) as usize];
        let (epoch, first) = self.0.entry(device).or_insert((1, 1));
        if rng.percent(5) {
            (*epoch, *first) = (*epoch + 1, 1);
        }
        let from = if rng.percent(20) { first.saturating_sub(rng.below(20)).max(1) } else { *first };
        let (count, epoch) = (1 + rng.below(40), *epoch);
        let frames = rng.percent(90) || from < *first;
        model.sent(device, epoch, (from, count), frames);
        *first = (*first).max(from + count);
        match frames {
            true => TestRun::Frames { device, epoch, first: from, count },
            false => TestRun::Skip { device, epoch, first: from, count },
        }
    }
}

impl Stopped {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let ground = Ground::new(seed);
        let catalog = Arc::new(MemoryCatalog::default());
        let (mut model, mut sender) = (Model::default(), Sender::default());
        let mut eater = Eater::open(&ground, &catalog);
        for _ in 0..60 + rng.below(60) {
            match rng.below(10) {
                0..=7 => eater.send(&sender.next(&mut rng, &mut model)),
                _ => {
                    ground.clock.advance(Duration::from_millis(rng.below(5000)));
                    ground.compact(Journals::Local(eater.journal.clone()), &mut rng);
                }
            }
        }
        let known = eater.journal.sealed_files().len();
        wait_until("sealed files are recorded", || catalog.file_ids().len() >= known);
        ground.runtime.block_on(eater.journal.close()).unwrap();
        Self { ground, catalog, model }
    }

    pub(crate) fn journals(&self) -> JournalParts {
        JournalParts::Local { dir: self.dir(), catalog: self.catalog.clone() }
    }

    fn dir(&self) -> PathBuf {
        self.ground.dir.path().join("journal")
    }

    fn check(&self, dir: &Path, grace: Duration) -> Report {
        let catalog: Arc<dyn Catalog> = self.catalog.clone();
        check_of(
            &self.ground,
            self.ground.store.clone(),
            JournalParts::Local { dir: dir.to_owned(), catalog },
            grace,
        )
    }
}

pub(crate) fn check_of(
    ground: &Ground,
    store: Arc<dyn ObjectStore>,
    journals: JournalParts,
    grace: Duration,
) -> Report {
    let (segments, clock) = (ground.segments.clone(), ground.clock.clone());
    let parts = FsckParts { store, segments, journals, grace, clock };
    let mut last = (0, 0);
    let report = check(parts, ground.runtime.handle().clone(), &mut |done, total| {
        assert!(done >= last.0 && done <= total, "{done} of {total} after {last:?}");
        last = (done, total);
    });
    report.unwrap()
}

/// Reads everything in both directions. What is given must be what was sent, and what is not given must be named.
/// Whether all was given.
fn read_all(history: &History, model: &Model, what: &str) -> bool {
    let mut all = true;
    for device in DEVICES {
        let id = DeviceId::new(device).unwrap();
        let wanted: BTreeSet<(u64, u64)> = model.numbers(device, true).into_iter().collect();
        for order in [Order::Asc, Order::Desc] {
            let (mut given, mut named, mut ended) = (BTreeSet::new(), BTreeSet::new(), false);
            for chunk in history.scan(&id, ScanRange { order, ..ScanRange::default() }) {
                match chunk {
                    Ok(chunk) => {
                        let mut rest = &chunk.bytes[..];
                        for seq in chunk.first.0..=chunk.last().0 {
                            let before = rest;
                            FrameRef::decode(&mut rest, FRAME_BYTES_MAX).unwrap();
                            let own = &before[..before.len() - rest.len()];
                            assert_eq!(own, frame(device, chunk.epoch.0, seq), "{what}: wrong data");
                            assert!(given.insert((chunk.epoch.0, seq)), "{what}: {seq} of {device} twice");
                        }
                    }
                    Err(error) => match error.lost() {
                        Some((epoch, first, last)) => {
                            named.extend((first.0..=last.0).map(|seq| (epoch.0, seq)));
                        }
                        None => {
                            let named = matches!(error, ReadError::Segment { .. } | ReadError::Index { .. });
                            assert!(named, "{what}: {error}");
                            ended = true;
                        }
                    },
                }
            }
            assert!(given.is_subset(&wanted), "{what}: {device} has more than was sent");
            if !ended {
                let missing = wanted.difference(&given).find(|number| !named.contains(*number));
                assert_eq!(missing, None, "{what}: {device} {order:?}: it is dropped in silence");
            }
            all &= given == wanted;
        }
    }
    all
}
