//! A catalog of segments that is not the one that it was: nothing that it does not know may be removed because of that,
//! whether it is empty or from an older copy, and whether a process has begun before or after.

use super::local::Eater;
use super::*;
use crate::journal::testing::{MemoryCatalog, TestRun};

/// An eater whose frames are compacted, and what is stored then.
struct Compacted {
    ground: Ground,
    catalog: Arc<MemoryCatalog>,
    eater: Option<Eater>,
    compactor: Compactor,
    next: u64,
}

impl Compacted {
    fn new() -> Self {
        let ground = Ground::new(1);
        let catalog = Arc::new(MemoryCatalog::default());
        let eater = Eater::open(&ground, &catalog);
        let compactor = ground.compactor(ground.store.clone(), Journals::Local(eater.journal.clone()));
        let mut compacted = Self { ground, catalog, eater: Some(eater), compactor, next: 1 };
        compacted.more();
        compacted
    }

    /// Another 1,000 frames, compacted and removed from the journal.
    fn more(&mut self) {
        let mut eater = self.eater.take().unwrap();
        for _ in 0..10 {
            eater.send(&TestRun::Frames { device: "a", epoch: 1, first: self.next, count: 100 });
            self.next += 100;
        }
        self.ground.runtime.block_on(eater.journal.close()).unwrap();
        let eater = Eater::open(&self.ground, &self.catalog);
        self.compactor.parts.journals = Journals::Local(eater.journal.clone());
        self.eater = Some(eater);
        self.ground.clock.advance(Duration::from_secs(2));
        for _ in 0..3 {
            self.compactor.pass().unwrap();
        }
    }

    fn catalog(&self, name: &str) -> Arc<dyn SegmentCatalog> {
        let file = self.ground.dir.path().join(name);
        Arc::new(SqliteSegmentCatalog::open(&file, self.ground.clock.clone()).unwrap())
    }

    /// Has both the process that compacted and one that begins now compact by the word of this catalog.
    fn refuse(&mut self, catalog: &Arc<dyn SegmentCatalog>, at: u64) {
        let keys = self.ground.store.keys();
        assert!(keys.iter().any(|key| key.ends_with(".parquet")), "{keys:?}");
        self.ground.segments = catalog.clone();
        self.compactor.parts.segments = catalog.clone();
        let journals = self.compactor.parts.journals.clone();
        let mut other = self.ground.compactor(self.ground.store.clone(), journals);
        // Old enough to be removed, were they nobody's.
        self.ground.clock.advance(Duration::from_secs(1_000_000));
        for compactor in [&mut self.compactor, &mut other] {
            for _ in 0..2 {
                let pass = compactor.pass();
                let lost = |known: u64, made: u64| known == at && made > at;
                assert!(
                    matches!(pass, Err(CompactError::CatalogLost { known, made }) if lost(known, made)),
                    "{pass:?}"
                );
                assert_eq!(self.ground.store.keys(), keys);
            }
        }
    }
}

#[test]
fn an_empty_catalog_costs_no_segment() {
    let mut compacted = Compacted::new();
    let empty = compacted.catalog("other.sqlite");
    compacted.refuse(&empty, 0);
}

#[test]
fn a_catalog_from_an_older_copy_costs_no_segment() {
    let mut compacted = Compacted::new();
    let before = compacted.compactor.manifest().unwrap();
    compacted.more();
    let copy = compacted.catalog("copy.sqlite");
    assert!(compacted.ground.runtime.block_on(copy.restore(&before, false)).unwrap());
    compacted.refuse(&copy, before.number);
}

#[test]
fn a_catalog_that_is_lost_while_one_compacts_costs_no_segment() {
    let mut compacted = Compacted::new();
    compacted.ground.clock.advance(Duration::from_secs(1_000_000));
    let keys = compacted.ground.store.keys();
    let empty = compacted.catalog("other.sqlite");
    let token = compacted.ground.runtime.block_on(empty.claim(Duration::from_secs(60))).unwrap().unwrap();
    compacted.compactor.parts.segments = empty;
    let swept = compacted.compactor.remove_orphans(token);
    assert!(matches!(swept, Err(CompactError::CatalogLost { known: 0, .. })), "{swept:?}");
    assert_eq!(compacted.ground.store.keys(), keys);
}

#[test]
fn nothing_is_swept_before_anything_was_committed() {
    let mut compacted = Compacted::new();
    let store = compacted.ground.store.clone();
    for manifest in store.keys().iter().filter(|key| key.starts_with("manifests/")) {
        store.take(manifest);
    }
    let keys = store.keys();
    compacted.ground.segments = compacted.catalog("other.sqlite");
    compacted.ground.clock.advance(Duration::from_secs(1_000_000));
    let journals = compacted.compactor.parts.journals.clone();
    compacted.ground.compactor(store.clone(), journals).pass().unwrap();
    assert_eq!(store.keys(), keys);
}
