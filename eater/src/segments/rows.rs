//! All of a segment, for who makes new ones from it or checks it.

use super::loaded::Rows;
use super::steps::{Step, Steps};
use crate::journal::ReadError;

/// The rows of a segment by (device, epoch, seq), some at a time: it holds a few MiB.
///
/// The columns that say which frame a row is are read too, and must agree with the index. After a
/// [`ReadError::DamagedSegment`] it goes on behind the damage; any other error ends it.
pub struct SegmentRows {
    steps: Steps,
    ended: bool,
}

impl SegmentRows {
    pub(super) fn new(steps: Steps) -> Self {
        Self { steps, ended: false }
    }

    /// The next rows. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Rows, ReadError>> {
        if self.ended {
            return None;
        }
        match self.steps.next().await {
            Ok(Some(Step::Rows(rows))) => Some(Ok(rows)),
            Ok(Some(Step::Lost(error))) => Some(Err(error)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}
