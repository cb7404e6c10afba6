//! How compaction is set up.

use std::sync::Arc;
use std::time::Duration;

use trough_store::ObjectCatalog;

use crate::journal::Journal;

/// What is compacted.
#[derive(Clone)]
pub enum Journals {
    /// The journal of this process.
    Local(Journal),
    /// Those of all eaters: their objects are in the store of the segments.
    Objects(Arc<dyn ObjectCatalog>),
}

/// Settings.
#[derive(Debug, Clone)]
pub struct CompactionConfig {
    /// How often it is looked whether there is something to do. 10 s.
    pub every: Duration,
    /// Journal objects wait for more so long, so that segments do not become too small. 30 s.
    pub gather: Duration,
    /// Journal objects this young are left alone: what was sealed earlier may be entered later. 5 s.
    pub settle: Duration,
    /// About how much of journals is compacted at once, in bytes. 128 MiB.
    pub input_bytes: u64,
    /// About how large a segment becomes, in bytes. 32 MiB.
    pub segment_bytes: u64,
    /// How long what was replaced stays, for those who still read it. 10 min.
    pub grace: Duration,
    /// How long after an end without a word another may take over. 5 min.
    pub claim_ttl: Duration,
    /// How often it is cleaned up while there is one step after another. 1 min.
    pub tidy_every: Duration,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            gather: Duration::from_secs(30),
            settle: Duration::from_secs(5),
            input_bytes: 128 * 1024 * 1024,
            segment_bytes: 32 * 1024 * 1024,
            grace: Duration::from_secs(10 * 60),
            claim_ttl: Duration::from_secs(5 * 60),
            tidy_every: Duration::from_secs(60),
        }
    }
}
