//! What ingest and the reader API need of a journal, wherever it keeps its bytes.

use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::{BoxFuture, DeviceState};

use crate::journal::{
    Chunk, Closed, Gap, Journal, JournalError, LastFrame, ReadError, ScanRange, Submission,
};

/// The chunks of a scan. Taking the next one may block on a disk or on a store.
pub type Chunks = Box<dyn Iterator<Item = Result<Chunk, ReadError>> + Send>;

/// Durable frames: batches go in, and what is durable can be read.
///
/// What is said to block must be called on a thread that may ([`tokio::task::spawn_blocking`]).
pub trait Frames: Send + Sync + 'static {
    /// Queues a batch. Never blocks: the links' credit bounds what waits. Batches are decided in the order in
    /// which they were submitted.
    ///
    /// # Errors
    /// [`Closed`]; the batch is dropped, and was not acknowledged.
    fn submit(&self, submission: Submission) -> Result<(), Closed>;

    /// The highest contiguous durable seq of a device's epoch; [`Seq::ZERO`] if there is none, `None` if that could
    /// not be found out in time. Never too high.
    fn head<'a>(&'a self, device: &'a DeviceId, epoch: Epoch) -> BoxFuture<'a, Option<Seq>>;

    /// A number that changes whenever what a reader of this device can see changes, and otherwise mostly stays,
    /// also over restarts. 0 for a device that was never heard.
    fn generation<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<u64, ReadError>>;

    /// What is known of each of these devices; `None` for one that was never heard. Blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    fn device_states(&self, devices: &[DeviceId]) -> Result<Vec<Option<DeviceState>>, ReadError>;

    /// Whether it knows every device that was ever heard, however long ago. One that was repaired may not.
    fn knows_all_devices(&self) -> bool;

    /// The last frame of each channel, by channel; of the thousand channels heard last. Blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    fn last_per_channel(&self, device: &DeviceId) -> Result<Vec<LastFrame>, ReadError>;

    /// Reads a device's frames, each (epoch, seq) once, and holds a few MiB, whatever the range. All that was
    /// durable when it was made is in it. After a damage it goes on behind it; any other error ends it. Blocks.
    fn scan(&self, device: &DeviceId, range: ScanRange) -> Chunks;

    /// A page of the numbers that have no frames, in rising order, those that begin after `after`, at most
    /// `limit`. Blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    fn gaps(
        &self,
        device: &DeviceId,
        after: Option<(Epoch, Seq)>,
        limit: usize,
    ) -> Result<Vec<Gap>, ReadError>;

    /// Waits until the journal can never again store anything, and says why: the process must stop, and nothing
    /// more is acknowledged. Cancel-safe.
    fn failed(&self) -> BoxFuture<'_, JournalError>;

    /// Commits all that was submitted and ends. Later submissions are refused.
    ///
    /// Cancel safety: dropped before it is done, the journal closes all the same, and nobody learns how it went.
    ///
    /// # Errors
    /// [`JournalError`] if what is left cannot be stored. It was not acknowledged.
    fn close(&self) -> BoxFuture<'_, Result<(), JournalError>>;
}

/// A journal of either kind; clones are the same.
pub type AnyJournal = Arc<dyn Frames>;

impl Frames for Journal {
    fn submit(&self, submission: Submission) -> Result<(), Closed> {
        Self::submit(self, submission)
    }

    fn head<'a>(&'a self, device: &'a DeviceId, epoch: Epoch) -> BoxFuture<'a, Option<Seq>> {
        // In memory but for epochs that were long forgotten, which feeders hardly ever ask for.
        Box::pin(async move { Some(Self::head(self, device.as_str(), epoch)) })
    }

    fn generation<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(async move { Ok(Self::generation(self, device.as_str())) })
    }

    fn device_states(&self, devices: &[DeviceId]) -> Result<Vec<Option<DeviceState>>, ReadError> {
        Ok(devices.iter().map(|device| self.device_state(device.as_str())).collect())
    }

    fn knows_all_devices(&self) -> bool {
        false
    }

    fn last_per_channel(&self, device: &DeviceId) -> Result<Vec<LastFrame>, ReadError> {
        Self::last_per_channel(self, device.as_str())
    }

    fn scan(&self, device: &DeviceId, range: ScanRange) -> Chunks {
        Box::new(Self::scan(self, device.as_str(), range))
    }

    fn gaps(
        &self,
        device: &DeviceId,
        after: Option<(Epoch, Seq)>,
        limit: usize,
    ) -> Result<Vec<Gap>, ReadError> {
        Self::gaps(self, device.as_str(), after, limit)
    }

    fn failed(&self) -> BoxFuture<'_, JournalError> {
        // A disk that refuses is tried again for ever.
        Box::pin(std::future::pending())
    }

    fn close(&self) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(self.clone().close())
    }
}
