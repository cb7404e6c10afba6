//! What was found out about a year.

use serde::Serialize;

use super::query::{Answer, Query, Read};
use crate::machine::Machine;
use crate::storage::Compacted;

/// Everything.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryReport {
    /// Where.
    pub machine: Machine,
    /// Devices that the frames are of.
    pub devices: usize,
    /// For each number of frames.
    pub sizes: Vec<SizeFigures>,
}

/// For one number of frames.
#[derive(Debug, Clone, Serialize)]
pub struct SizeFigures {
    /// Frames of the year.
    pub frames: u64,
    /// How long the bench took to write them.
    pub fill_seconds: f64,
    /// Bytes of journal files, their indexes included.
    pub journal_bytes: u64,
    /// From the start of a server to the end of its last step.
    pub compaction_seconds: f64,
    /// What they became.
    pub compacted: Compacted,
    /// While all of them are in the journal.
    pub before: PhaseFigures,
    /// When all of them are in segments.
    pub after: PhaseFigures,
}

/// Of each query.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct PhaseFigures(pub Vec<QueryFigures>);

/// Of one query. Times are medians, and what was read is that of the same request.
#[derive(Debug, Clone, Serialize)]
pub struct QueryFigures {
    /// Which.
    pub query: Query,
    /// Frames of each answer.
    pub frames: u64,
    /// Bytes of each answer.
    pub bytes: u64,
    /// By a server that was just started, with nothing of its files in the system's memory, in ms.
    pub cold_ms: f64,
    /// What it read.
    pub cold_read: Read,
    /// By one that has answered the same before, in ms.
    pub warm_ms: f64,
    /// What that read.
    pub warm_read: Read,
}

impl QueryFigures {
    pub(super) fn new(query: Query, cold: &Answer, warm: &Answer) -> Self {
        Self {
            query,
            frames: cold.frames,
            bytes: cold.bytes,
            cold_ms: cold.took.as_secs_f64() * 1e3,
            cold_read: cold.read,
            warm_ms: warm.took.as_secs_f64() * 1e3,
            warm_read: warm.read,
        }
    }
}
