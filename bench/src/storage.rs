//! What the bench asks of the storage of one machine without knowing it; made by its caller. All of it blocks.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::history::Year;

/// Told how many frames are durable.
pub type Durable<'a> = &'a mut dyn FnMut(u64);

/// Works on the data directory of a deployment that is made, whether it runs or not.
#[derive(Debug, Clone, Copy)]
pub struct Storage {
    /// Writes frames into the journal, received when they say; only while no server runs.
    pub fill: fn(&Path, &Year, Durable<'_>) -> Result<()>,
    /// Claims compaction, so that nobody compacts; `None` while somebody does.
    pub claim: fn(&Path) -> Result<Option<u64>>,
    /// Gives such a claim back.
    pub release: fn(&Path, u64) -> Result<()>,
    /// What is compacted.
    pub compacted: fn(&Path) -> Result<Compacted>,
}

/// The live segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// How many they are.
    pub segments: usize,
    /// Frames in them.
    pub frames: u64,
    /// Bytes of them, indexes included.
    pub bytes: u64,
}

/// Runs one of these where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    data: &Path,
    work: impl FnOnce(&Path) -> Result<T> + Send + 'static,
) -> Result<T> {
    let data: PathBuf = data.to_owned();
    tokio::task::spawn_blocking(move || work(&data)).await.context("a thread of the bench has panicked")?
}
