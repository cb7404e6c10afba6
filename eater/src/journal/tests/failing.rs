//! One failure at a time, on the simulated disk.
//!
//! 1. A full disk: nothing is acknowledged, health says what to do, it goes on by itself, nothing was dropped,
//!    and the directory does not fill with empty files.
//! 2. A failed fdatasync: the file is cut and left, the group goes to a new one.
//! 3. The catalog away: files are sealed all the same, and entered later.
//! 4. Indexes cannot be written: groups stop before memory ends, and go on.
//! 5. Damage and later formats: the messages say where and what to do.
//! 6. Closing with a full disk says how many batches were never acknowledged.

use std::sync::Arc;
use std::time::Duration;

use trough_runtime::clock::Clock;
use trough_runtime::health::Health;

use crate::journal::committer::Step;
use crate::journal::disk::Disk;
use crate::journal::disk::sim::{Faults, SimDisk};
use crate::journal::error::JournalError;
use crate::journal::open::Core;
use crate::journal::scan::Scan;
use crate::journal::testing::*;
use crate::journal::{JournalConfig, ScanRange, Submission, names};

struct Fixture {
    disk: SimDisk,
    catalog: Arc<MemoryCatalog>,
    core: Core,
    health: Health,
    sink: Arc<TestSink>,
    sent: u64,
}

fn try_open(disk: &SimDisk, catalog: &Arc<MemoryCatalog>) -> Result<(Core, Health), JournalError> {
    let mut nonces = Rng::new(disk.list().unwrap().len() as u64);
    let parts = parts(catalog.clone(), Clock::manual(1_000));
    let health = parts.health.clone();
    let config = JournalConfig { retry_every: Duration::from_millis(1), ..config("/simulated/journal") };
    let core = Core::open(config, parts, Arc::new(disk.clone()), Box::new(move || nonces.next()))?;
    Ok((core, health))
}

impl Fixture {
    fn new() -> Self {
        let (disk, catalog) = (SimDisk::new(1), Arc::default());
        let (core, health) = try_open(&disk, &catalog).unwrap();
        Self { disk, catalog, core, health, sink: Arc::default(), sent: 0 }
    }

    /// Submits ten frames of device `a`.
    fn submit(&mut self) {
        let first = self.sent * 10 + 1;
        self.sent += 1;
        let runs = [TestRun::Frames { device: "a", epoch: 1, first, count: 10 }];
        let submission = Submission { batch: batch(&runs), number: self.sent, sink: self.sink.clone() };
        self.core.shared.queue.push(submission).unwrap();
    }

    /// No room is left in the open file: its zeros are cut.
    fn trim(&mut self) {
        self.core.committer.finish().unwrap();
    }

    fn commit(&mut self) {
        self.submit();
        assert_eq!(self.core.committer.step(), Step::Committed);
    }

    fn journals(&self) -> usize {
        names::ids(&self.disk.list().unwrap(), names::Kind::Journal).len()
    }

    fn assert_readable(&self, batches: u64) {
        let found = frames_of(Scan::new(self.core.shared.clone(), "a", ScanRange::default()), false);
        let expected: Vec<_> = (1..=batches * 10).map(|seq| ((1, seq), frame("a", 1, seq))).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_full_disk_stops_acknowledgements_until_there_is_space() {
    let mut it = Fixture::new();
    it.commit();
    it.trim();
    it.disk.set_faults(Faults { capacity: Some(700), ..Faults::default() });
    it.submit();
    for _ in 0..50 {
        assert_eq!(it.core.committer.step(), Step::Failed);
    }
    assert_eq!(it.sink.highest(), 1);
    it.assert_readable(1);
    let degraded = it.health.degraded();
    let [(part, reason)] = &degraded[..] else { panic!("{degraded:?}") };
    assert_eq!(part, "journal");
    for wanted in ["/simulated/journal", "bytes wait", "free some space"] {
        assert!(reason.contains(wanted), "{wanted} in {reason}");
    }
    assert_eq!(it.core.shared.metrics.degraded.get(), 1);
    assert!(it.journals() <= 2, "no file for each attempt");
    it.disk.set_faults(Faults::default());
    it.submit();
    assert_eq!(it.core.committer.step(), Step::Committed);
    assert_eq!(it.sink.highest(), 3);
    assert_eq!((it.health.degraded(), it.core.shared.metrics.degraded.get()), (vec![], 0));
    it.assert_readable(3);
}

#[test]
fn small_groups_overwrite_zeros_that_are_no_part_of_the_journal() {
    let mut it = Fixture::new();
    it.commit();
    let size = it.disk.bytes(&names::journal(1)).len();
    // A full disk takes what needs no room.
    it.disk.set_faults(Faults { capacity: Some(size), ..Faults::default() });
    (0..3).for_each(|_| it.commit());
    assert_eq!(it.disk.bytes(&names::journal(1)).len(), size, "the file keeps its size");
    it.disk.set_faults(Faults::default());
    it.disk.power_loss();
    (it.core, it.health) = try_open(&it.disk, &it.catalog).unwrap();
    it.assert_readable(4);
    assert!(it.disk.bytes(&names::journal(1)).len() < size, "a start cuts them");
    it.commit();
    it.assert_readable(5);
    it.core.committer.finish().unwrap();
    let end = it.core.shared.read().end;
    assert_eq!(end, (1, it.disk.bytes(&names::journal(1)).len() as u64), "and so does an orderly end");
}

#[test]
fn the_thread_goes_on_by_itself() {
    let mut it = Fixture::new();
    it.disk.set_faults(Faults { capacity: Some(100), ..Faults::default() });
    (0..5).for_each(|_| it.submit());
    let (shared, committer) = (it.core.shared.clone(), it.core.committer);
    let thread = std::thread::spawn(move || committer.run());
    wait_until("it has tried often", || shared.metrics.failures.get() > 5);
    assert_eq!(it.sink.highest(), 0);
    it.disk.set_faults(Faults::default());
    it.sink.wait_for(5);
    shared.queue.close();
    thread.join().unwrap().unwrap();
}

#[test]
fn closing_with_a_full_disk_says_what_was_not_stored() {
    let mut it = Fixture::new();
    it.disk.set_faults(Faults { capacity: Some(100), ..Faults::default() });
    (0..3).for_each(|_| it.submit());
    it.core.shared.queue.close();
    let error = it.core.committer.run().unwrap_err().to_string();
    assert!(error.contains("3 batches") && error.contains("free some space"), "{error}");
    assert_eq!(it.sink.highest(), 0);
}

#[test]
fn after_a_failed_sync_the_group_goes_to_a_new_file() {
    let mut it = Fixture::new();
    it.commit();
    it.trim();
    let durable = it.disk.bytes(&names::journal(1)).len();
    it.disk.set_faults(Faults { sync: 100, ..Faults::default() });
    it.submit();
    let mut steps = Vec::new();
    while !it.disk.stopped() && steps.len() < 3 {
        steps.push(it.core.committer.step());
    }
    it.disk.kill();
    it.disk.set_faults(Faults::default());
    assert!(steps.iter().all(|step| *step == Step::Failed));
    assert_eq!(it.sink.highest(), 1);
    assert_eq!(it.core.committer.step(), Step::Committed);
    let syncs_of_old = it.disk.bytes(&names::journal(1)).len();
    // The machine may stop before the header of an attempt is taken back.
    assert!((2..=3).contains(&it.journals()), "{steps:?}");
    assert!(syncs_of_old >= durable, "{syncs_of_old} bytes of {durable}");
    it.assert_readable(2);
    it.disk.power_loss();
    (it.core, it.health) = try_open(&it.disk, &it.catalog).unwrap();
    it.assert_readable(2);
    assert_eq!(it.disk.bytes(&names::journal(1)).len(), durable, "cut where the new file says");
}

#[test]
fn without_the_catalog_files_are_sealed_and_entered_later() {
    let mut it = Fixture::new();
    it.catalog.refuse(true);
    (0..40).for_each(|_| it.commit());
    while it.core.background.step() {}
    assert!(it.catalog.file_ids().is_empty());
    assert_eq!(it.core.shared.read().rolled.len(), 0, "the index left memory all the same");
    assert_eq!(it.health.degraded()[0].0, "catalog");
    it.assert_readable(40);
    it.catalog.refuse(false);
    it.core.background.retry();
    while it.core.background.step() {}
    assert_eq!(it.catalog.file_ids().len(), it.journals() - 1);
    assert!(it.health.degraded().is_empty());
}

#[test]
fn groups_wait_when_too_many_files_have_no_index() {
    let mut it = Fixture::new();
    let mut steps = Vec::new();
    // No background thread runs here.
    while steps.last() != Some(&Step::Full) {
        it.submit();
        steps.push(it.core.committer.step());
        assert!(steps.len() < 1000, "memory has a bound");
    }
    let committed = steps.len() as u64 - 1;
    assert_eq!(it.sink.highest(), committed);
    while it.core.background.step() {}
    assert_eq!(it.core.committer.step(), Step::Committed);
    it.assert_readable(committed + 1);
}

#[test]
fn damage_and_later_formats_are_refused_with_advice() {
    let mut it = Fixture::new();
    (0..3).for_each(|_| it.commit());
    it.core.committer.finish().unwrap();
    let refusal = |disk: &SimDisk| try_open(disk, &Arc::default()).map(drop).unwrap_err().to_string();

    let damaged = it.disk.fork(1);
    damaged.flip(&names::journal(1), 300, 1);
    let error = refusal(&damaged);
    for wanted in ["00000000000000000001.trj", "offset 128", "trough journal repair --data-dir DIR"] {
        assert!(error.contains(wanted), "{wanted} in {error}");
    }

    let later = it.disk.fork(1);
    let mut header = later.bytes(&names::journal(1))[..64].to_vec();
    header[4] = 2;
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    later.open(&names::journal(1)).unwrap().write_at(&mut [std::io::IoSlice::new(&header)], 0).unwrap();
    let error = refusal(&later);
    assert!(error.contains("version 2") && error.contains("later release"), "{error}");

    let missing = it.disk.fork(1);
    (0..40).for_each(|_| it.commit());
    let file = it.disk.bytes(&names::journal(3));
    let newer = missing.create(&names::journal(3)).unwrap();
    newer.write_at(&mut [std::io::IoSlice::new(&file)], 0).unwrap();
    let error = refusal(&missing);
    assert!(error.contains("00000000000000000002.trj") && error.contains("missing"), "{error}");
}
