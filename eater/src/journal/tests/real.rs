//! The journal in a directory, with its threads.
//!
//! 1. What is acknowledged is read back, each frame once, in either order, from any cursor.
//! 2. A second eater is refused; a reopened journal has everything and goes on in the same file.
//! 3. Files roll, are sealed, and are read from their index; the catalog knows them.
//! 4. The catalog lost, the indexes lost: all is found again.
//! 5. Resends are shown once; other content under the same number is counted and does not show.
//! 6. A batch that was not checked is refused.
//! 7. Gaps and last frames.
//! 8. Damage is refused; after a repair everything else is there, and the damage is a gap.

use std::path::Path;
use std::sync::Arc;

use trough_protocol::{Epoch, Seq};
use trough_runtime::clock::Clock;

use crate::journal::testing::*;
use crate::journal::{Gap, GapKind, Journal, JournalError, JournalMetrics, Order, ScanRange, Submission};

struct Fixture {
    journal: Journal,
    sink: Arc<TestSink>,
    catalog: Arc<MemoryCatalog>,
    metrics: JournalMetrics,
    sent: u64,
}

impl Fixture {
    fn open(dir: &Path, catalog: Arc<MemoryCatalog>) -> Self {
        let parts = parts(catalog.clone(), Clock::system());
        let metrics = parts.metrics.clone();
        let (journal, _) = Journal::open(config(dir), parts).unwrap();
        Self { journal, sink: Arc::default(), catalog, metrics, sent: 0 }
    }

    fn send(&mut self, runs: &[TestRun]) {
        self.sent += 1;
        let (batch, sink) = (batch(runs), self.sink.clone());
        self.journal.submit(Submission { batch, number: self.sent, sink }).unwrap();
    }

    fn frames(&mut self, device: &'static str, epoch: u64, first: u64, count: u64) {
        self.send(&[TestRun::Frames { device, epoch, first, count }]);
        self.sink.wait_for(self.sent);
    }

    fn read(&self, device: &str, range: ScanRange) -> Vec<((u64, u64), Vec<u8>)> {
        let falling = range.order == Order::Desc;
        frames_of(self.journal.scan(device, range), falling)
    }

    /// Everything of the device, which must be what it sent: epochs with their heads.
    fn assert_has(&self, device: &str, epochs: &[(u64, u64)]) {
        let expected: Vec<_> = epochs
            .iter()
            .flat_map(|(epoch, head)| (1..=*head).map(|seq| ((*epoch, seq), frame(device, *epoch, seq))))
            .collect();
        assert_eq!(self.read(device, ScanRange::default()), expected);
        let mut falling = self.read(device, ScanRange { order: Order::Desc, ..ScanRange::default() });
        falling.reverse();
        assert_eq!(falling, expected);
        for (epoch, head) in epochs {
            assert_eq!(self.journal.head(device, Epoch(*epoch)), Seq(*head), "{device} {epoch}");
        }
    }

    fn close(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.journal.close()).unwrap();
    }
}

#[test]
fn what_is_acknowledged_is_read_from_any_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Fixture::open(dir.path(), Arc::default());
    for epoch in 1..=3 {
        for first in (1..300).step_by(10) {
            journal.frames("a", epoch, first, 10);
            journal.frames("b", epoch, first, 10);
        }
    }
    journal.assert_has("a", &[(1, 300), (2, 300), (3, 300)]);
    journal.assert_has("b", &[(1, 300), (2, 300), (3, 300)]);
    journal.assert_has("nobody", &[]);
    for (order, expected) in [(Order::Asc, (2, 156)), (Order::Desc, (2, 154))] {
        let range = ScanRange { after: Some((Epoch(2), Seq(155))), order, ts: None };
        assert_eq!(journal.read("a", range)[0].0, expected);
    }
    let range = ScanRange { after: Some((Epoch(2), Seq(300))), ..ScanRange::default() };
    assert_eq!(journal.read("a", range)[0].0, (3, 1));
    let range = ScanRange { after: Some((Epoch(2), Seq(1))), order: Order::Desc, ts: None };
    assert_eq!(journal.read("a", range)[0].0, (1, 300));
    let range = ScanRange { ts: Some(1_000_295..=2_000_000), ..ScanRange::default() };
    let found: Vec<_> = journal.read("a", range).into_iter().map(|(key, _)| key).collect();
    assert_eq!(found.len(), 30, "whole runs, one an epoch");
    assert!((1..=3).all(|epoch| found.contains(&(epoch, 300))));
    journal.close();
}

#[test]
fn a_second_eater_is_refused_and_a_reopened_journal_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let catalog: Arc<MemoryCatalog> = Arc::default();
    let mut journal = Fixture::open(dir.path(), catalog.clone());
    journal.frames("a", 1, 1, 5);
    let again = Journal::open(config(dir.path()), parts(catalog.clone(), Clock::system()));
    assert!(matches!(again, Err(JournalError::InUse { .. })));
    let generation = journal.journal.generation("a");
    assert_ne!(generation, 0);
    assert_eq!(journal.journal.generation("b"), 0);
    journal.close();
    let mut journal = Fixture::open(dir.path(), catalog.clone());
    assert_eq!(journal.journal.generation("a"), generation);
    journal.frames("a", 1, 6, 5);
    assert_ne!(journal.journal.generation("a"), generation);
    journal.assert_has("a", &[(1, 10)]);
    assert_eq!(journal.metrics.files.get(), 1);
    journal.close();
}

#[test]
fn files_are_sealed_and_found_again_without_catalog_and_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Fixture::open(dir.path(), Arc::default());
    for first in (1..2000).step_by(20) {
        let frames = |device| TestRun::Frames { device, epoch: 1, first, count: 20 };
        journal.send(&[frames("a"), frames("b"), frames("c")]);
        journal.sink.wait_for(journal.sent);
    }
    let files = journal.metrics.files.get() as usize;
    assert!(files > 20, "{files}");
    wait_until("all are sealed and known", || journal.catalog.file_ids().len() == files - 1);
    wait_until("their index left memory", || journal.metrics.index_bytes.get() < 8192);
    let states = (journal.catalog.states(), journal.journal.device_state("b").unwrap());
    assert_eq!(states.1.frames, 2000);
    let generation = journal.journal.generation("c");
    for device in ["a", "b", "c"] {
        journal.assert_has(device, &[(1, 2000)]);
    }
    let lasts = journal.journal.last_per_channel("b").unwrap();
    let catalog = journal.catalog.clone();
    journal.close();

    for (lost, catalog) in [
        ("nothing", catalog.clone()),
        ("catalog", Arc::default()),
        ("indexes", catalog),
        ("both", Arc::default()),
    ] {
        if lost == "indexes" || lost == "both" {
            for entry in std::fs::read_dir(dir.path()).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|e| e == "tri") {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
        let journal = Fixture::open(dir.path(), catalog);
        for device in ["a", "b", "c"] {
            journal.assert_has(device, &[(1, 2000)]);
        }
        assert_eq!(journal.journal.generation("c"), generation, "{lost}");
        assert_eq!(journal.journal.device_state("b").unwrap(), states.1, "{lost}");
        assert_eq!(journal.journal.last_per_channel("b").unwrap(), lasts, "{lost}");
        wait_until("the catalog is full", || journal.catalog.file_ids().len() == files - 1);
        assert_eq!(journal.catalog.states(), states.0, "{lost}");
        assert_eq!(journal.journal.last_per_channel("b").unwrap(), lasts, "{lost}");
        journal.close();
    }
}

#[test]
fn resends_show_once_and_conflicts_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Fixture::open(dir.path(), Arc::default());
    journal.frames("a", 1, 1, 50);
    journal.frames("a", 1, 41, 10);
    journal.frames("a", 1, 31, 40);
    journal.assert_has("a", &[(1, 70)]);
    wait_until("they are compared", || journal.metrics.duplicates.get() == 30);
    let payloads = vec![b"other".to_vec(); 3];
    journal.send(&[TestRun::Own { device: "a", epoch: 1, first: 70, channel: "x", payloads }]);
    wait_until("it is noticed", || journal.metrics.conflicts.get() == 1);
    let frames = journal.read("a", ScanRange::default());
    assert_eq!(frames.len(), 72);
    assert_eq!(frames[69].1, frame("a", 1, 70), "the first content stays");
    assert_eq!(journal.journal.device_state("a").unwrap().frames, 72);
    journal.close();
}

#[test]
fn an_unchecked_batch_is_refused_and_the_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Fixture::open(dir.path(), Arc::default());
    journal.frames("a", 1, 1, 1);
    journal.sent += 1;
    let (batch, sink) = ("no batch".into(), journal.sink.clone());
    journal.journal.submit(Submission { batch, number: journal.sent, sink }).unwrap();
    journal.frames("a", 1, 2, 1);
    assert_eq!(*journal.sink.rejected.lock().unwrap(), [2]);
    journal.assert_has("a", &[(1, 2)]);
    journal.close();
}

#[test]
fn gaps_and_last_frames() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Fixture::open(dir.path(), Arc::default());
    journal.frames("a", 1, 1, 4);
    let skip = |first, count| TestRun::Skip { device: "a", epoch: 1, first, count };
    journal.send(&[skip(5, 6)]);
    journal.send(&[skip(5, 6)]);
    journal.frames("a", 1, 7, 2);
    journal.frames("a", 1, 11, 2);
    journal.send(&[skip(13, 1_000_000_000)]);
    journal.sink.wait_for(journal.sent);
    assert_eq!(journal.journal.head("a", Epoch(1)), Seq(1_000_000_012));
    let plain = |gaps: Vec<Gap>| -> Vec<_> {
        assert!(gaps.iter().all(|gap| gap.kind == GapKind::Skipped { reason: 2 }));
        gaps.into_iter().map(|gap| (gap.first.0, gap.last.0)).collect()
    };
    let gaps = journal.journal.gaps("a", None, 100).unwrap();
    assert_eq!(plain(gaps), [(5, 6), (9, 10), (13, 1_000_000_012)], "a frame beats a declared loss");
    let gaps = journal.journal.gaps("a", Some((Epoch(1), Seq(5))), 1).unwrap();
    assert_eq!(plain(gaps), [(9, 10)]);
    let numbers: Vec<u64> = journal.read("a", ScanRange::default()).iter().map(|(key, _)| key.1).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 7, 8, 11, 12]);
    let lasts = journal.journal.last_per_channel("a").unwrap();
    let plain: Vec<_> = lasts.iter().map(|last| (last.channel.as_str(), last.seq.0)).collect();
    assert_eq!(plain, [("even", 11), ("odd", 12)]);
    assert_eq!(lasts[1].bytes, frame("a", 1, 12));
    assert_eq!(lasts[1].ts, 1_000_012);
    wait_until("it is compared", || journal.metrics.duplicates.get() == 6);
    assert_eq!(journal.metrics.conflicts.get(), 2, "frames that had been given up");
    journal.close();
}

#[test]
fn a_damaged_journal_is_refused_and_can_be_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let catalog: Arc<MemoryCatalog> = Arc::default();
    let mut journal = Fixture::open(dir.path(), catalog.clone());
    for first in [1, 11, 21] {
        journal.frames("a", 1, first, 10);
        journal.frames("b", 1, first, 10);
    }
    let generation = journal.journal.generation("a");
    journal.close();
    let path = dir.path().join("00000000000000000001.trj");
    let mut bytes = std::fs::read(&path).unwrap();
    let inside = frame("a", 1, 15);
    let at = bytes.windows(inside.len()).position(|window| window == inside).unwrap();
    bytes[at + 20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();

    let refused = Journal::open(config(dir.path()), parts(catalog.clone(), Clock::system()));
    assert!(matches!(refused, Err(JournalError::Corrupt { .. })));
    let checked = crate::journal::check(dir.path(), catalog.clone()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "a check changes nothing");
    let repaired = crate::journal::repair(dir.path(), catalog.clone()).unwrap();
    assert_eq!(repaired, checked);
    let [damage] = &repaired.damage[..] else { panic!("{repaired:?}") };
    assert!((damage.from..damage.to).contains(&(at as u64)));
    let [lost] = &damage.losses[..] else { panic!("{damage:?}") };
    assert_eq!((lost.device.as_str(), lost.epoch, lost.first, lost.last), ("a", Epoch(1), Seq(11), Seq(20)));
    assert_eq!((repaired.files, repaired.frames), (1, 50));

    let mut journal = Fixture::open(dir.path(), catalog.clone());
    journal.assert_has("b", &[(1, 30)]);
    assert_eq!(journal.journal.head("a", Epoch(1)), Seq(30));
    assert_ne!(journal.journal.generation("a"), generation, "readers must look again");
    let found: Vec<u64> = journal.read("a", ScanRange::default()).iter().map(|(key, _)| key.1).collect();
    assert_eq!(found, (1..=10).chain(21..=30).collect::<Vec<_>>());
    let gaps = journal.journal.gaps("a", None, 10).unwrap();
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].first, gaps[0].last, gaps[0].kind), (Seq(11), Seq(20), GapKind::Damaged));
    journal.frames("a", 1, 31, 1);
    journal.close();
}

#[test]
fn the_last_handle_dropped_ends_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Fixture::open(dir.path(), Arc::default());
    journal.send(&[TestRun::Frames { device: "a", epoch: 1, first: 1, count: 1 }]);
    let sink = journal.sink.clone();
    drop(journal);
    sink.wait_for(1);
    wait_until("the lock is free", || {
        Journal::open(config(dir.path()), parts(Arc::default(), Clock::system())).is_ok()
    });
}
