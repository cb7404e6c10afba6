//! Compaction: journals become segments, and small segments become larger ones.
//!
//! Whoever compacts holds the claim in the catalog of segments; any eater of a deployment may. A *step* reads some
//! input, stores segments, and commits one change that names them and what they replace. Before the commit nobody sees
//! them, and after it nothing that was replaced is needed; what was replaced is removed only after a grace, as somebody
//! may still be reading it. So a compactor may be killed anywhere: it leaves objects that nobody names, which are
//! removed when they are old.
//!
//! - [`local`] and [`objects`]: journals as input, by [`runs`]. [`merge`]: segments as input.
//! - [`output`]: rows into segments, by day. [`levels`]: what is merged when.
//! - [`repair`]: journals that are damaged, past the damage. [`retention`]: removing what has expired. [`clean`]: removing what is not needed any more. [`manifest`]: the list of live segments for others.

mod claim;
mod clean;
mod config;
mod copies;
mod input;
mod levels;
mod local;
mod manifest;
pub(crate) mod manifest_file;
mod merge;
mod metrics;
mod objects;
mod output;
mod repair;
mod retention;
mod runs;
mod steps;
#[cfg(test)]
pub(crate) mod tests;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::objects::ObjectError;
use trough_store::outbox::OutboxError;
use trough_store::segment_catalog::{CommitError, SegmentCatalog, SegmentId};
use trough_store::{CatalogError, ObjectKey, ObjectStore, Outbox, Registry, RegistryError};

pub(crate) use clean::{ORPHAN_GRACES, born};
pub use config::{CompactionConfig, Journals};
pub use metrics::CompactionMetrics;
pub(crate) use output::day;
pub use repair::{GivenUp, repair};

use crate::journal::{JournalError, ReadError};
use crate::segments::{SegmentCache, WriteError};
use clean::Cleaner;

/// The part of health that says that compaction does not get on.
const PART: &str = "compaction";

/// A step of compaction was not made. Nothing is lost: its input stays where it is, and it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// Its input cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A segment cannot be made of it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The object store does not take it, or does not give it.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// The catalog does not answer.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The registry does not say what is to be kept.
    #[error("what is to be kept is not known: {0}")]
    Registry(#[from] RegistryError),
    /// What is about to expire cannot be told.
    #[error("what expires cannot be told: {0}")]
    Outbox(#[from] OutboxError),
    /// The change was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// What is compacted cannot be removed from the journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Frames are not what they were when they were acknowledged.
    #[error("a frame of device {device} cannot be read back: {reason}")]
    Frame {
        /// Whose.
        device: String,
        /// What is wrong.
        reason: String,
    },
    /// A journal object is not what it was, and nobody has said that what is lost of it is given up.
    #[error(
        "journal object {object} is not what was stored ({found}), so no journal is compacted: restore it from a copy, or, if \
         there is none, give up what is lost of it with `trough journal repair --store …`: then readers see gaps of the kind \
         damaged"
    )]
    JournalObject {
        /// Its key.
        object: ObjectKey,
        /// What is wrong with it.
        found: String,
    },
    /// Somebody else compacts all the time.
    #[error(
        "somebody else has claimed compaction for {} s: stop what compacts, or wait some minutes if it was killed, and try again",
        .waited.as_secs()
    )]
    Claimed {
        /// How long it was waited.
        waited: Duration,
    },
    /// The catalog knows less than what was written down from it, or than it knew before.
    #[error(
        "the catalog of segments knows manifest {known}, and manifest {made} was made: the catalog was lost, was restored from \
         an older copy, or belongs to another store; nothing is removed; restore it from a newer backup (segments.sqlite, or \
         the database), or stop every server and run `trough fsck --rebuild`"
    )]
    CatalogLost {
        /// The newest manifest that it knows.
        known: u64,
        /// The newest that lies in the store, or that this process has seen in the catalog.
        made: u64,
    },
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
}

impl CompactError {
    /// Whether nothing more can be done under this claim.
    fn is_the_end(&self) -> bool {
        matches!(self, Self::Stopping | Self::CatalogLost { .. } | Self::Commit(CommitError::Fenced { .. }))
    }
}

/// What compaction stands on.
pub struct CompactionParts {
    /// What is compacted.
    pub journals: Journals,
    /// Where segments lie.
    pub store: Arc<dyn ObjectStore>,
    /// Which of them are live.
    pub segments: Arc<dyn SegmentCatalog>,
    /// How long frames are kept.
    pub registry: Arc<dyn Registry>,
    /// Where it is told what expired; nowhere, if there is none.
    pub outbox: Option<Arc<dyn Outbox>>,
    /// Through which they are read.
    pub cache: Arc<SegmentCache>,
    /// For what is old.
    pub clock: Clock,
    /// Where the part `compaction` is degraded while it does not get on.
    pub health: Health,
    /// Registered by the caller.
    pub metrics: CompactionMetrics,
}

/// One compactor. It blocks: it lives on a thread of its own.
pub(crate) struct Compactor {
    config: CompactionConfig,
    parts: CompactionParts,
    /// Where it waits for stores and catalogs.
    handle: Handle,
    stop: CancellationToken,
    cleaner: Cleaner,
    /// When the claim was renewed last.
    renewed: Cell<Instant>,
    /// The newest manifest of which it is known that it was made.
    made: u64,
    /// The manifest that was written down last.
    written: Option<u64>,
    /// Segments that could not be read.
    damaged: HashSet<SegmentId>,
    /// What was given up of journals and not told yet; `None` if nothing may be given up.
    given_up: Option<Vec<GivenUp>>,
    /// When it looked what has expired.
    looked: Option<retention::Looked>,
}

impl Compactor {
    /// A compactor that waits on the runtime of `handle`, and ends soon after `stop`.
    pub(crate) fn new(
        config: CompactionConfig,
        parts: CompactionParts,
        handle: Handle,
        stop: CancellationToken,
    ) -> Self {
        Self {
            config,
            parts,
            handle,
            stop,
            cleaner: Cleaner::default(),
            renewed: Cell::new(Instant::now()),
            made: 0,
            written: None,
            damaged: HashSet::new(),
            given_up: None,
            looked: None,
        }
    }

    /// Compacts now and then, until it is stopped.
    pub(crate) fn run(mut self) {
        // Timers and connections are made on this thread, too.
        let handle = self.handle.clone();
        let _inside = handle.enter();
        // The rest of the process goes first: what is compacted later is none the worse.
        let nice = rustix::process::setpriority_process(None, NICE);
        if let Err(error) = nice {
            tracing::debug!(%error, "compaction runs at the priority of everything else");
        }
        loop {
            let waited =
                self.handle.block_on(self.stop.run_until_cancelled(tokio::time::sleep(self.config.every)));
            if waited.is_none() {
                return;
            }
            match self.pass() {
                Ok(_) if self.damaged.is_empty() => self.parts.health.restore(PART),
                Ok(_) => {
                    let reason = format!(
                        "{} segments are damaged and are left as they are: `trough fsck` names them; restore them from a \
                         copy, then start this process again",
                        self.damaged.len()
                    );
                    self.parts.health.degrade(PART, reason);
                }
                Err(CompactError::Stopping) => return,
                Err(error) => {
                    self.parts.metrics.failures.inc();
                    let reason = format!(
                        "history is not compacted: {error}; frames are stored and read all the same, from more \
                         and more pieces; it is tried again by itself"
                    );
                    self.parts.health.degrade(PART, reason);
                }
            }
        }
    }

    /// Makes every step there is, if nobody else is at it, and cleans up. How many steps were made.
    ///
    /// # Errors
    /// The first step that failed; those before it were made.
    pub(crate) fn pass(&mut self) -> Result<u64, CompactError> {
        let Some(token) = self.wait(self.parts.segments.claim(self.config.claim_ttl))? else { return Ok(0) };
        let done = self.steps(token);
        // Another takes it over in time, if this is not heard.
        if let Err(error) = self.wait(self.parts.segments.release(token)) {
            tracing::debug!(%error, "the claim on compaction could not be given back");
        }
        done
    }

    fn steps(&mut self, token: u64) -> Result<u64, CompactError> {
        self.sure_manifest()?;
        let (mut steps, mut tidied) = (0, Instant::now());
        loop {
            if self.stop.is_cancelled() {
                return Err(CompactError::Stopping);
            }
            if !self.renew(token)? {
                return Ok(steps);
            }
            let manifest = self.manifest()?;
            match self.step(&manifest, token) {
                Ok(true) => steps += 1,
                Ok(false) => return self.tidy(token).map(|removed| steps + u64::from(removed)),
                Err(error) if error.is_the_end() => return Err(error),
                Err(error) => {
                    // What was compacted before does not wait for it: disks would fill.
                    if let Err(error) = self.tidy(token) {
                        tracing::debug!(%error, "history could not be cleaned up");
                    }
                    return Err(error);
                }
            }
            if tidied.elapsed() >= self.config.tidy_every {
                self.tidy(token)?;
                tidied = Instant::now();
            }
        }
    }

    /// What is to be done besides steps: removes what has expired, writes the manifest down, and removes what is not needed
    /// any more. Whether anything has expired.
    fn tidy(&mut self, token: u64) -> Result<bool, CompactError> {
        if !self.renew(token)? {
            return Ok(false);
        }
        // What cannot expire keeps nothing from being cleaned up.
        let retained = self.retain(token);
        if !self.renew(token)? {
            return retained;
        }
        let manifest = self.manifest()?;
        self.write_manifest(&manifest)?;
        self.clean(&manifest, token)?;
        retained
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }
}

/// How much everything else goes before compaction, as `nice` counts.
const NICE: i32 = 10;
