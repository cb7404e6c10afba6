//! One row of a segment.

use trough_protocol::frame::FrameRef;
use trough_protocol::limits::INT_MAX;
use trough_protocol::wire::WireError;
use trough_protocol::words::WordError;
use trough_protocol::{Epoch, Micros, Seq};
use trough_store::object_catalog::ObjectId;

use super::Rank;

/// A frame, with everything that a segment keeps of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// Whose.
    pub device: &'a str,
    /// In which numbering.
    pub epoch: Epoch,
    /// Its number.
    pub seq: Seq,
    /// When an eater received this copy, in µs since 1970.
    pub received_at: Micros,
    /// The journal object that this copy came in, or the file of the local journal.
    pub source: ObjectId,
    /// The frame.
    pub frame: FrameRef<'a>,
}

impl Row<'_> {
    /// Where this copy stands among others.
    pub fn rank(&self) -> Rank {
        Rank::new(self.received_at, self.source)
    }

    /// Checks the numbers, which Parquet would store as they are, and no reader would take.
    pub(super) fn check(&self) -> Result<(), WireError> {
        for (what, value, min) in [
            ("epoch", self.epoch.0, 1),
            ("seq", self.seq.0, 1),
            ("ts (µs since 1970)", self.frame.ts, 1),
            ("received at (µs since 1970)", self.received_at, 0),
            ("journal number", self.source.n, 0),
        ] {
            if !(min..=INT_MAX).contains(&value) {
                return Err(WordError::Integer { what, value, min }.into());
            }
        }
        Ok(())
    }
}
