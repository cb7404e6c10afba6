//! All that is stored of a device, wherever it lies: in a journal, in segments, or in both for a while.
//!
//! A journal is asked before the manifest: what has left it meanwhile is in the segments that the manifest names.
//! What is compacted stays in the journal for a grace that is much longer than the time after which a read begins anew
//! with what there is then, so that no read, however long, comes upon something that was removed.

mod gaps;
mod lasts;
pub(crate) mod merge;
mod scan;
mod segments;
mod states;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::{BoxFuture, DeviceState};

use crate::frames::{AnyJournal, Chunks, Frames};
use crate::journal::{Closed, Gap, JournalError, LastFrame, ReadError, ScanRange, Submission};
use scan::HistoryScan;
pub use segments::Segments;

/// Odd and large: generations of journals are apart by other numbers.
const EXPIRED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A journal, and the segments that were made of it and of others.
pub struct History {
    journal: AnyJournal,
    segments: Arc<Segments>,
}

impl History {
    /// Frames go into `journal`, and are read from both.
    pub fn new(journal: AnyJournal, segments: Arc<Segments>) -> Self {
        Self { journal, segments }
    }
}

impl Frames for History {
    fn submit(&self, submission: Submission) -> Result<(), Closed> {
        self.journal.submit(submission)
    }

    fn head<'a>(&'a self, device: &'a DeviceId, epoch: Epoch) -> BoxFuture<'a, Option<Seq>> {
        // Journals remember heads of what has left them.
        self.journal.head(device, epoch)
    }

    fn generation<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(async move {
            let generation = self.journal.generation(device).await?;
            // What expired is seen no more by readers of any device that had it. That is rare, so all are told.
            let expired = self.segments.expired().await?;
            Ok(if generation == 0 { 0 } else { generation.wrapping_add(expired.wrapping_mul(EXPIRED_STEP)) })
        })
    }

    fn device_states(&self, devices: &[DeviceId]) -> Result<Vec<Option<DeviceState>>, ReadError> {
        let mut states = self.journal.device_states(devices)?;
        // Its newest frames have left the journal, which only remembers that they were there; or, after a repair, the
        // journal does not know of it.
        let vague = |at: &usize| match &states[*at] {
            Some(state) => state.last_ts == 0,
            None => !self.journal.knows_all_devices(),
        };
        let vague: Vec<usize> = (0..states.len()).filter(vague).collect();
        let asked: Vec<_> = vague.iter().map(|at| (&devices[*at], states[*at].as_ref())).collect();
        let found = self.segments.states(&asked)?;
        for (at, found) in vague.into_iter().zip(found) {
            match &mut states[at] {
                Some(state) => state.last_ts = found.map_or(0, |found| found.last_ts),
                none => *none = found,
            }
        }
        Ok(states)
    }

    fn knows_all_devices(&self) -> bool {
        true
    }

    fn last_per_channel(&self, device: &DeviceId) -> Result<Vec<LastFrame>, ReadError> {
        lasts::per_channel(&self.journal, &self.segments, device)
    }

    fn scan(&self, device: &DeviceId, range: ScanRange) -> Chunks {
        Box::new(HistoryScan::new(self.journal.clone(), self.segments.clone(), device.clone(), range))
    }

    fn gaps(
        &self,
        device: &DeviceId,
        after: Option<(Epoch, Seq)>,
        limit: usize,
    ) -> Result<Vec<Gap>, ReadError> {
        gaps::page(&self.journal, &self.segments, device, after, limit)
    }

    fn failed(&self) -> BoxFuture<'_, JournalError> {
        self.journal.failed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), JournalError>> {
        self.journal.close()
    }
}
