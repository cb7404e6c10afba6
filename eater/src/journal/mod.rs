//! The local journal: batches appended as received, durable before they are acknowledged, readable as soon as
//! they are durable.
//!
//! The bytes and the rules of recovery are in `docs/storage.md`.

mod config;
mod error;
mod metrics;
mod queue;
mod view;

use trough_protocol::{Epoch, Seq};
use trough_store::DeviceState;

pub use config::{JournalConfig, JournalParts, ROLL_BYTES_MAX};
pub use error::{Closed, JournalError, ReadError};
pub use metrics::JournalMetrics;
pub use queue::{CommitSink, Submission};
pub use view::{Chunk, Gap, GapKind, LastFrame, Order, ScanRange};

/// What opening found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Journal files.
    pub files: usize,
    /// Files whose batches were read through, because the catalog did not know them.
    pub files_scanned: usize,
    /// Bytes of the files that were read through.
    pub bytes_scanned: u64,
    /// Bytes of a torn tail that were cut. None of them was ever acknowledged.
    pub bytes_cut: u64,
    /// Whether the catalog was filled anew from the journal.
    pub catalog_rebuilt: bool,
}

/// A journal, open. Clones are the same journal.
#[derive(Clone)]
pub struct Journal {}

impl Journal {
    /// Opens the journal, or makes it. Blocks: reads what is not sealed yet. Call it on a thread that may block.
    ///
    /// # Errors
    /// [`JournalError`]; nothing was changed then, except that a torn tail may have been cut.
    pub fn open(config: JournalConfig, parts: JournalParts) -> Result<(Self, RecoveryReport), JournalError> {
        config.check()?;
        drop(parts);
        Ok((Self {}, RecoveryReport::default()))
    }

    /// Queues a batch. Never blocks: the links' credit bounds what waits.
    ///
    /// # Errors
    /// [`Closed`]; the batch is dropped, and was not acknowledged.
    pub fn submit(&self, submission: Submission) -> Result<(), Closed> {
        drop(submission);
        Err(Closed)
    }

    /// The highest contiguous durable seq of a device's epoch; [`Seq::ZERO`] if there is none.
    pub fn head(&self, device: &str, epoch: Epoch) -> Seq {
        let _ = (device, epoch);
        Seq::ZERO
    }

    /// A number that changes whenever what a reader of this device can see changes, and otherwise stays, also
    /// over restarts. 0 for a device that was never heard of.
    pub fn generation(&self, device: &str) -> u64 {
        let _ = device;
        0
    }

    /// What is known of a device.
    pub fn device_state(&self, device: &str) -> Option<DeviceState> {
        let _ = device;
        None
    }

    /// Devices that have something in the journal, by id, those after `after`, at most `limit`.
    pub fn devices_seen(&self, after: Option<&str>, limit: usize) -> Vec<DeviceState> {
        let _ = (after, limit);
        Vec::new()
    }

    /// The last frame of each channel, by channel. Blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn last_per_channel(&self, device: &str) -> Result<Vec<LastFrame>, ReadError> {
        let _ = device;
        Ok(Vec::new())
    }

    /// Reads a device's frames, each (epoch, seq) once. The iterator blocks on the disk. It gives what was
    /// durable when it was made, however long it is used, and holds a few MiB, whatever the range.
    pub fn scan(&self, device: &str, range: ScanRange) -> Scan {
        let _ = (device, range);
        Scan {}
    }

    /// A page of the numbers that have no frames, in rising order, those that begin after `after`, at most
    /// `limit`. Blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn gaps(
        &self,
        device: &str,
        after: Option<(Epoch, Seq)>,
        limit: usize,
    ) -> Result<Vec<Gap>, ReadError> {
        let _ = (device, after, limit);
        Ok(Vec::new())
    }

    /// Commits all that was submitted, writes the marker, and ends the journal's threads. Later submissions are
    /// refused. Not cancel-safe in one respect: dropping it leaves the closing to go on by itself.
    ///
    /// # Errors
    /// [`JournalError::Unstored`] if the disk does not take what is left.
    pub async fn close(self) -> Result<(), JournalError> {
        Ok(())
    }
}

/// The frames of a scan, chunk by chunk. After a [`ReadError::Damaged`] it goes on behind the damage; any other
/// error ends it.
pub struct Scan {}

impl Iterator for Scan {
    type Item = Result<Chunk, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
