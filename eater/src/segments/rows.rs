//! All of a segment, for who makes new ones from it or checks it.

use super::Row;
use super::loaded::{Place, Rows};
use super::steps::{Step, Steps};
use crate::journal::ReadError;

/// The rows of a segment by (device, epoch, seq), some at a time: it reads ahead, and holds a few MiB.
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

/// The rows of a segment, one after another.
pub struct RowsCursor {
    rows: SegmentRows,
    block: Option<Rows>,
    at: Place,
}

impl RowsCursor {
    /// Stands before the first row; [`RowsCursor::load`] goes there.
    pub fn new(rows: SegmentRows) -> Self {
        Self { rows, block: None, at: Place::default() }
    }

    /// The row that it stands on; `None` at the end, or if [`RowsCursor::load`] must be called first.
    pub fn row(&self) -> Option<Row<'_>> {
        self.block.as_ref()?.get(&self.at)
    }

    /// Goes to the next row. Whether it must be loaded first.
    pub fn advance(&mut self) -> bool {
        let more = self.block.as_ref().is_some_and(|block| block.step(&mut self.at));
        if !more {
            self.block = None;
        }
        !more
    }

    /// Loads the next rows, and stands on the first of them, if there is one.
    ///
    /// # Errors
    /// [`ReadError`]; a damage, too.
    pub async fn load(&mut self) -> Result<(), ReadError> {
        self.at = Place::default();
        self.block = None;
        while let Some(rows) = self.rows.next().await {
            let rows = rows?;
            if !rows.is_empty() {
                self.block = Some(rows);
                break;
            }
        }
        Ok(())
    }
}
