//! The local journal: batches appended as received, durable before they are acknowledged, readable as soon as
//! they are durable. The bytes and the rules of recovery are in `docs/storage.md`.
//!
//! - [`queue`] → [`committer`] → [`writer`]: the way of a batch to the disk, on one thread.
//! - [`index`]: what is durable and where, in memory for the newest files ([`memory`]), on disk for those that
//!   are sealed ([`table`]). [`devices`] has the heads.
//! - [`scan`], [`gaps`], [`last_frames`]: reading. [`follow`]: what has arrived since.
//! - [`background`]: sealing, the catalog, comparing resends.
//! - [`recovery`] and [`repair`]: what a crash or a bad disk left.
//! - [`disk`]: everything that touches the disk, and its simulation.

mod aside;
mod background;
mod catalog;
mod committer;
mod compacted;
mod config;
mod devices;
mod disk;
mod error;
mod follow;
pub mod format;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gaps;
mod handles;
mod index;
mod last_frames;
mod lasts;
mod lock;
mod memory;
mod metrics;
mod names;
mod open;
mod outage;
mod queue;
mod recovery;
mod repair;
pub(crate) mod run;
pub(crate) mod scan;
mod seal;
mod shared;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;
mod view;
mod walk;
mod window;
mod work;
mod writer;

use std::sync::Arc;

use trough_protocol::{Epoch, Seq};
use trough_store::DeviceState;

pub(crate) use compacted::FileReader;
pub use config::{JournalConfig, JournalParts, ROLL_BYTES_MAX};
pub use error::{Closed, JournalError, ReadError};
pub(crate) use follow::{Arrival, Arrivals, Heads, Lot};
pub use metrics::JournalMetrics;
pub use open::RecoveryReport;
pub use queue::{CommitSink, Submission};
pub use repair::{Damage, Inspection, Lost, check, inspect, repair};
pub(crate) use repair::{bytes_in, ids_in, lock, path_of};
pub use scan::Scan;
pub(crate) use view::local;
pub use view::{Chunk, Gap, GapKind, LastFrame, Order, Rank, ScanRange};

use open::Running;
use shared::Shared;

/// A journal, open. Clones are the same journal.
///
/// When the last clone is dropped without [`Journal::close`], the threads commit what was submitted and end by
/// themselves; the directory stays locked until they have.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    running: Arc<Running>,
}

impl Journal {
    /// Opens the journal, or makes it. Blocks: reads what is not sealed yet, and asks the catalog. Call it on a
    /// thread that may block ([`tokio::task::spawn_blocking`]), not in a task.
    ///
    /// # Errors
    /// [`JournalError`]. Nothing was changed then, except that what was never acknowledged may have been cut.
    pub fn open(config: JournalConfig, parts: JournalParts) -> Result<(Self, RecoveryReport), JournalError> {
        open::open(config, parts)
    }

    /// Queues a batch. Never blocks: the links' credit bounds what waits.
    ///
    /// # Errors
    /// [`Closed`]; the batch is dropped, and was not acknowledged.
    pub fn submit(&self, submission: Submission) -> Result<(), Closed> {
        let bytes = submission.batch.len() as i64;
        self.shared.queue.push(submission)?;
        self.shared.metrics.queued_bytes.inc_by(bytes);
        Ok(())
    }

    /// The highest contiguous durable seq of a device's epoch; [`Seq::ZERO`] if there is none. Blocks on the disk
    /// if the epoch is older than the device's newest eight.
    pub fn head(&self, device: &str, epoch: Epoch) -> Seq {
        self.shared.head(device, epoch)
    }

    /// A number that changes whenever what a reader of this device can see changes, and otherwise stays, also
    /// over restarts. 0 for a device that was never heard.
    pub fn generation(&self, device: &str) -> u64 {
        self.shared.read().devices.get(device).map_or(0, devices::Device::generation)
    }

    /// What is known of a device. Its heads are those of its newest epochs, at least eight if it has so many.
    pub fn device_state(&self, device: &str) -> Option<DeviceState> {
        self.shared.read().devices.get(device).map(devices::Device::state)
    }

    /// Devices that have something in the journal, by id, those after `after`, at most `limit`.
    pub fn devices_seen(&self, after: Option<&str>, limit: usize) -> Vec<DeviceState> {
        self.shared.read().devices.page(after, limit)
    }

    /// The last frame of each channel, by channel; of the thousand channels heard last. Blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn last_per_channel(&self, device: &str) -> Result<Vec<LastFrame>, ReadError> {
        last_frames::last_frames(&self.shared, device)
    }

    /// Reads a device's frames, each (epoch, seq) once. The iterator blocks on the disk. It gives what was
    /// durable when it was made, however long it is used, and holds a few MiB, whatever the range.
    pub fn scan(&self, device: &str, range: ScanRange) -> Scan {
        Scan::new(self.shared.clone(), device, range)
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
        gaps::page(&self.shared, device, after, limit)
    }

    /// Commits all that was submitted, writes the marker, and ends the journal's threads. Later submissions are
    /// refused.
    ///
    /// Cancel safety: dropped before it is done, the journal closes all the same, and nobody learns how it went.
    ///
    /// # Errors
    /// [`JournalError::Unstored`] if the disk does not take what is left.
    pub async fn close(self) -> Result<(), JournalError> {
        self.shared.queue.close();
        let closing = tokio::task::spawn_blocking(move || self.running.end());
        closing.await.expect("joining threads does not panic")
    }
}
