//! What the bench does to a data directory behind the servers' backs: filling the journal, and holding compaction up.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::runtime::Handle;
use trough_bench::history::Year;
use trough_bench::storage::{Compacted, Durable, Storage};
use trough_eater::journal::{CommitSink, Journal, JournalConfig, JournalMetrics, JournalParts, Submission};
use trough_protocol::link::LinkCode;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::metrics::Registry;
use trough_store::SegmentCatalog;
use trough_store::segment_catalog::CLAIM_TTL;
use trough_store::sqlite::SqliteSegmentCatalog;

use crate::registry;
use crate::storage::SEGMENT_CATALOG;

/// Longer than a disk takes that works.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The smallest file that the journal makes, in bytes.
const ROLL_BYTES_MIN: u64 = 4096;

/// Storage of one machine.
pub(crate) const STORAGE: Storage = Storage { fill, claim, release, compacted };

fn fill(data_dir: &Path, year: &Year, durable: Durable<'_>) -> Result<()> {
    let clock = Clock::manual(year.start());
    let parts = JournalParts {
        clock: clock.clone(),
        catalog: Arc::new(registry::open_catalog(data_dir)?),
        health: Health::new(),
        metrics: JournalMetrics::register(&mut Registry::default()),
        doorbell: None,
    };
    let mut hours = year.hours().peekable();
    let bytes: usize = hours.peek().map_or(0, |hour| hour.batches.iter().map(|batch| batch.len()).sum());
    let mut config = JournalConfig::new(registry::journal_dir(data_dir));
    // In a year that takes a year a file has minutes: what is compacted together is of a day or two.
    config.roll_bytes = (24 * bytes as u64).clamp(ROLL_BYTES_MIN, config.roll_bytes);
    let (journal, _) = Journal::open(config, parts)?;
    let sink = Arc::new(Sink::default());
    let (mut number, mut frames) = (0, 0);
    for hour in hours {
        // A group is received when the clock says at its commit: the next hour is made meanwhile, and no more.
        sink.wait(number)?;
        clock.set(hour.received_at);
        for batch in hour.batches {
            number += 1;
            journal.submit(Submission { batch, number, sink: sink.clone() })?;
        }
        frames += hour.frames;
        durable(frames);
    }
    sink.wait(number)?;
    Ok(Handle::current().block_on(journal.close())?)
}

/// What has become of the batches.
#[derive(Default)]
struct Sink {
    decided: Mutex<Decided>,
    told: Condvar,
}

#[derive(Default)]
struct Decided {
    durable: u64,
    refused: Option<String>,
}

impl Sink {
    /// Waits until this batch is durable. Blocks.
    fn wait(&self, number: u64) -> Result<()> {
        let decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |decided: &mut Decided| decided.durable < number && decided.refused.is_none();
        let (decided, timeout) = self
            .told
            .wait_timeout_while(decided, COMMIT_TIMEOUT, waits)
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &decided.refused {
            bail!("the journal refuses a batch: {reason}");
        }
        if timeout.timed_out() {
            bail!("batch {number} is not durable after {COMMIT_TIMEOUT:?}: is the disk full?");
        }
        Ok(())
    }

    fn tell(&self, change: impl FnOnce(&mut Decided)) {
        change(&mut self.decided.lock().unwrap_or_else(PoisonError::into_inner));
        self.told.notify_all();
    }
}

impl CommitSink for Sink {
    fn committed(&self, number: u64) {
        self.tell(|decided| decided.durable = number);
    }

    fn rejected(&self, _: u64, _: LinkCode, text: &str) {
        self.tell(|decided| decided.refused = Some(text.to_owned()));
    }
}

fn catalog(data_dir: &Path) -> Result<SqliteSegmentCatalog> {
    Ok(SqliteSegmentCatalog::open(&data_dir.join(SEGMENT_CATALOG), Clock::system())?)
}

fn claim(data_dir: &Path) -> Result<Option<u64>> {
    let catalog = catalog(data_dir)?;
    Ok(Handle::current().block_on(catalog.claim(CLAIM_TTL.1))?)
}

fn release(data_dir: &Path, token: u64) -> Result<()> {
    let catalog = catalog(data_dir)?;
    Ok(Handle::current().block_on(catalog.release(token))?)
}

fn compacted(data_dir: &Path) -> Result<Compacted> {
    let catalog = catalog(data_dir)?;
    let manifest = Handle::current().block_on(catalog.manifest(None))?;
    let segments = manifest.context("the catalog of segments has no manifest")?.segments;
    Ok(Compacted {
        segments: segments.len(),
        frames: segments.iter().map(|segment| segment.frames).sum(),
        bytes: segments.iter().map(|segment| segment.bytes + segment.index_bytes).sum(),
    })
}
