//! How a journal is set up, and what it needs from around it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use trough_protocol::limits::BATCH_BYTES_MAX;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::Catalog;

use super::error::JournalError;
use super::metrics::JournalMetrics;
use crate::doorbell::Doorbell;

/// Largest `roll_bytes`: offsets within a file are kept in 32 bits, and a file may exceed it by one group.
pub const ROLL_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// How a journal is set up. [`JournalConfig::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// The journal's directory; made if it is missing. Exactly one process may have it open.
    pub dir: PathBuf,
    /// A file that has reached this many bytes is followed by a new one. 128 MiB.
    pub roll_bytes: u64,
    /// So is one whose first group is this old, so that it can be compacted. 10 min.
    pub roll_after: Duration,
    /// Files up to this one are compacted: their frames are in segments, and they may be gone. 0.
    pub compacted_through: u64,
    /// A commit group takes no further batch once it has this many bytes. 8 MiB.
    pub group_bytes_max: usize,
    /// How long after the last group a marker vouches for it, if nothing else came. 1 s.
    pub marker_after: Duration,
    /// How long to wait after a failed commit, before it is tried again. 1 s.
    pub retry_every: Duration,
    /// Most duplicates that wait to be compared with what they repeat; further ones are counted as unchecked.
    pub checks_max: usize,
    /// Most bytes of sealed files' directories kept in memory for readers. 16 MiB.
    pub cache_bytes_max: usize,
}

impl JournalConfig {
    /// The defaults, for a journal in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            roll_bytes: 128 * 1024 * 1024,
            roll_after: Duration::from_secs(10 * 60),
            compacted_through: 0,
            group_bytes_max: 8 * 1024 * 1024,
            marker_after: Duration::from_secs(1),
            retry_every: Duration::from_secs(1),
            checks_max: 4096,
            cache_bytes_max: 16 * 1024 * 1024,
        }
    }

    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        let refuse = |what: &str, value: u64, rule: &str| {
            Err(JournalError::Config(format!("journal {what} is {value}: {rule}")))
        };
        if !(4096..=ROLL_BYTES_MAX).contains(&self.roll_bytes) {
            return refuse("roll_bytes", self.roll_bytes, "use 4096 to 2147483648 (2 GiB)");
        }
        let group_max = 64 * BATCH_BYTES_MAX as u64;
        if self.group_bytes_max as u64 > group_max {
            return refuse("group_bytes_max", self.group_bytes_max as u64, "use at most 268435456 (256 MiB)");
        }
        Ok(())
    }
}

/// What a journal needs from around it.
pub struct JournalParts {
    /// For `received_at`.
    pub clock: Clock,
    /// Where sealed files are entered. Never on the path of an acknowledgement.
    pub catalog: Arc<dyn Catalog>,
    /// Where the part `journal` is degraded while nothing can be stored.
    pub health: Health,
    /// Registered by the caller, with [`JournalMetrics::register`].
    pub metrics: JournalMetrics,
    /// Rung behind each commit.
    pub doorbell: Option<Doorbell>,
}
