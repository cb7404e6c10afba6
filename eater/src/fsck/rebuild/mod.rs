//! Making catalogs again that were lost, from storage alone.
//!
//! What counts is the newest manifest that was written down, as it is written before anything is removed because of it;
//! and what others left in the store that is nowhere else ([`segments`]). Journals are compacted as far as what counts
//! tells; if that is less than it was, frames are compacted once more, which shows nothing twice. [`heads`] of what is
//! compacted are told by segments, and [`objects`] say themselves what their rows were.
//!
//! Each catalog is made whole or not at all, so a rebuild may be killed anywhere and begun again.

mod cover;
mod heads;
mod objects;
mod segments;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use trough_runtime::clock::micros;
use trough_store::object_catalog::{Incarnation, ObjectId};
use trough_store::objects::ObjectError;
use trough_store::segment_catalog::{Manifest, Segment};
use trough_store::{CatalogError, ObjectKey};

use super::listing::{Listing, each};
use super::{CACHE, FsckError, FsckParts, JournalParts, OnProgress};
use crate::journal::{self, JournalError, ReadError};
use crate::objects::id_of_key;
use crate::segments::{SegmentCache, SegmentMetrics};

/// An eater that was heard this lately may live: as long as others wait before they declare it dead.
const ALIVE: Duration = Duration::from_secs(60);
/// How long the claim is kept that keeps compactors away, renewed on the way.
const CLAIM_TTL: Duration = Duration::from_secs(60);

/// What may be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RebuildOptions {
    /// Make the catalog of segments anew though it has something.
    pub replace: bool,
    /// Go on without segments that the newest manifest names and that are missing or damaged.
    pub without_missing: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The manifest that was made; `None` if the catalog of segments was whole.
    pub manifest: Option<u64>,
    /// Segments in it.
    pub segments: u64,
    /// Those among them that no manifest names, and that have what is nowhere else.
    pub adopted: u64,
    /// Frames in them, copies included.
    pub frames: u64,
    /// Eaters whose rows were made again, and these rows.
    pub incarnations: u64,
    /// Rows of journal objects.
    pub rows: u64,
    /// Devices whose heads were noted.
    pub devices: u64,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// It cannot be told what there is.
    #[error(transparent)]
    Fsck(#[from] FsckError),
    /// Somebody is at work.
    #[error("{0}: stop every server of this storage, and try again")]
    InUse(String),
    /// It is not lost.
    #[error(
        "the catalog of segments has manifest {known}, and manifest {written} was written down: it belongs to another store, \
         or was begun anew; drop what it has with --replace"
    )]
    Something {
        /// What it has.
        known: u64,
        /// What lies in the store.
        written: u64,
    },
    /// What was live is not there.
    #[error(
        "{} cannot be read, first {}: restore what is missing from a copy, or go on without it with --without-missing",
        if .0.len() == 1 { "a segment".to_owned() } else { format!("{} segments", .0.len()) }, .0[0]
    )]
    Missing(Vec<String>),
}

macro_rules! fsck_from {
    ($($error:ty),*) => {$(
        impl From<$error> for RebuildError {
            fn from(error: $error) -> Self {
                Self::Fsck(error.into())
            }
        }
    )*};
}

fsck_from!(ObjectError, CatalogError, JournalError, ReadError);

/// Makes catalogs again. Blocks; it waits for stores and catalogs on the runtime of `handle`.
///
/// # Errors
/// [`RebuildError`].
pub fn rebuild(
    parts: FsckParts,
    options: RebuildOptions,
    handle: Handle,
    progress: OnProgress<'_>,
) -> Result<Rebuilt, RebuildError> {
    let _lock = match &parts.journals {
        JournalParts::Local { dir, .. } if dir.is_dir() => {
            Some(journal::lock(dir).map_err(|error| RebuildError::InUse(error.to_string()))?)
        }
        _ => None,
    };
    let cache = SegmentCache::new(parts.store.clone(), CACHE, SegmentMetrics::default());
    let (rebuilt, token) = (Rebuilt::default(), 0);
    let mut rebuild = Rebuild { parts, options, handle, cache, progress, done: 0, total: 0, token, rebuilt };
    rebuild.check_eaters()?;
    rebuild.token = rebuild.claim()?;
    let done = rebuild.run();
    // Should this not be heard, it runs out.
    let _ = rebuild.wait(rebuild.parts.segments.release(rebuild.token));
    done.map(|()| rebuild.rebuilt)
}

struct Rebuild<'a> {
    parts: FsckParts,
    options: RebuildOptions,
    handle: Handle,
    cache: Arc<SegmentCache>,
    progress: OnProgress<'a>,
    done: u64,
    total: u64,
    token: u64,
    rebuilt: Rebuilt,
}

/// Journals as they lie in the store.
#[derive(Debug, Default)]
struct Present {
    files: BTreeMap<Incarnation, BTreeSet<u64>>,
}

impl Present {
    /// Whether a frame that came in this object or file is still there.
    fn has(&self, source: ObjectId) -> bool {
        self.files.get(&source.incarnation).is_some_and(|files| files.contains(&source.n))
    }

    /// How far a journal was removed, by what is left of it; `None` if nothing is.
    fn removed(&self, incarnation: Incarnation) -> Option<u64> {
        self.files.get(&incarnation)?.first().map(|first| first - 1)
    }
}

impl Rebuild<'_> {
    fn run(&mut self) -> Result<(), RebuildError> {
        let listing = Listing::take(&*self.parts.store, &self.handle)?;
        let present = self.present()?;
        let manifest = self.rebuild_segments(&listing, &present)?;
        if let JournalParts::Objects(catalog) = self.parts.journals.clone() {
            self.rebuild_objects(&*catalog, &manifest, &present)?;
        }
        self.note_heads(&manifest.segments)
    }

    /// That no eater is alive, as far as the catalog knows.
    fn check_eaters(&self) -> Result<(), RebuildError> {
        let JournalParts::Objects(catalog) = &self.parts.journals else { return Ok(()) };
        let states = self.wait(catalog.incarnations())?;
        let alive = |state: &&trough_store::object_catalog::IncarnationState| {
            !state.closed && state.now.saturating_sub(state.heartbeat_at) < micros(ALIVE)
        };
        match states.iter().find(alive) {
            None => Ok(()),
            Some(state) => Err(RebuildError::InUse(format!(
                "eater {} was heard {} s ago",
                state.incarnation,
                state.now.saturating_sub(state.heartbeat_at) / 1_000_000
            ))),
        }
    }

    fn present(&self) -> Result<Present, RebuildError> {
        let mut present = Present::default();
        match &self.parts.journals {
            JournalParts::Local { dir, .. } => {
                let ids = journal::ids_in(dir)?;
                if !ids.is_empty() {
                    present.files.insert(Incarnation::LOCAL, ids.into_iter().collect());
                }
            }
            JournalParts::Objects(_) => self.wait(each(&*self.parts.store, "journal/", |key, _| {
                if let Some(id) = id_of_key(&key) {
                    present.files.entry(id.incarnation).or_default().insert(id.n);
                }
            }))?,
        }
        Ok(present)
    }

    /// Keeps compactors away.
    fn claim(&self) -> Result<u64, RebuildError> {
        let claim = self.wait(self.parts.segments.claim(CLAIM_TTL))?;
        claim.ok_or_else(|| {
            RebuildError::InUse(
                "somebody has claimed compaction, and has it for some minutes if it was killed".to_owned(),
            )
        })
    }

    /// Keeps compactors away for longer.
    fn keep_claim(&self) -> Result<(), RebuildError> {
        let kept = self.wait(self.parts.segments.renew(self.token, CLAIM_TTL))?;
        if kept { Ok(()) } else { Err(RebuildError::InUse("somebody has taken over compaction".to_owned())) }
    }

    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        self.total = self.total.max(self.done);
        (self.progress)(self.done, self.total);
    }

    fn note(&mut self, note: String) {
        self.rebuilt.notes.push(note);
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }
}
