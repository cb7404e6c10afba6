//! What segments exist: which of the compacted files of a deployment are live, and how far each journal is in them.
//!
//! Segments come and go in *changes*, one after another; each makes a new *manifest*, which has a number and names
//! everything that is live. A change says which manifest it was made for, so that of two compactors only one gets
//! through; and it carries the token of its *claim*, so that one whose claim was taken over while it slept gets
//! through with nothing at all. These two, and not the lease, carry the safety.
//!
//! A frame is in a live segment, or in a journal behind what [`Manifest::through`] says, or in both for a while:
//! what a segment has replaced is removed from its journal only some time later, for whoever still reads it.

use std::fmt;
use std::time::Duration;

use trough_protocol::{DeviceId, Micros};

use crate::BoxFuture;
use crate::error::CatalogError;
use crate::format_level::FormatLevel;
use crate::object_catalog::Incarnation;

pub(crate) mod check;

/// Most segments that one change adds or removes.
pub const CHANGE_SEGMENTS_MAX: usize = 1000;
/// Most journals that one change moves.
pub const CHANGE_JOURNALS_MAX: usize = 10_000;
/// Most segments that one [`SegmentCatalog::removed`] returns.
pub const REMOVED_MAX: usize = 1000;
/// So many changes back a catalog knows which were made.
pub const CHANGES_KNOWN: u64 = 100;
/// Shortest and longest life of a claim.
pub const CLAIM_TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// A claim that has more than this to live was made before the clock was set back, and counts for nothing. It is far
/// above what may be claimed: who looks at the clock first and at the claim a moment later sees a claim of the full
/// time live a little longer.
pub(crate) const CLAIM_LEFT_MAX: Duration = Duration::from_secs(2 * 3600);

/// Which segment: a UUID of version 7, so that its time of birth can be told from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub [u8; 16]);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A segment: one Parquet object, and one with its index and checksums beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Which one. Its objects' keys follow from it and from `date`.
    pub id: SegmentId,
    /// How often its frames were compacted, from 1.
    pub level: u8,
    /// The day on which its frames were received (UTC), in days since 1970-01-01.
    pub date: u32,
    /// Size of the Parquet object, in bytes.
    pub bytes: u64,
    /// Size of the index object, in bytes.
    pub index_bytes: u64,
    /// CRC32C of the index object, which holds those of the Parquet object.
    pub index_crc: u32,
    /// Its frames.
    pub frames: u64,
    /// The lowest and the highest device in it, by the bytes of their ids.
    pub devices: (DeviceId, DeviceId),
    /// The lowest and highest time stamp that devices gave its frames; (0, 0) if it has only losses.
    pub ts: (Micros, Micros),
    /// When its first and its last frame or declared loss was received.
    pub received: (Micros, Micros),
}

/// How far a journal has been compacted: everything up to and including `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Through {
    /// Whose journal: an eater's incarnation, or [`Incarnation::LOCAL`].
    pub incarnation: Incarnation,
    /// The number of its object, or of its file.
    pub n: u64,
}

/// What is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its number: 0 before the first change, then rising by one.
    pub number: u64,
    /// How far the journals are compacted, by incarnation.
    pub through: Vec<Through>,
    /// The live segments, by (date, level, id).
    pub segments: Vec<Segment>,
    /// The number of the last manifest with which frames were removed for good; 0 if none ever were.
    pub expired: u64,
}

impl Manifest {
    /// How far a journal is compacted: 0 if nothing of it is.
    pub fn through_of(&self, incarnation: Incarnation) -> u64 {
        let found = self.through.iter().find(|through| through.incarnation == incarnation);
        found.map_or(0, |through| through.n)
    }
}

/// A change, to be made whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which change: random, so that one whose outcome was left open can be told from another's.
    pub id: [u8; 16],
    /// The claim under which it was prepared.
    pub token: u64,
    /// The number of the manifest for which it was made.
    pub after: u64,
    /// Segments whose objects are stored, and were not known before.
    pub add: Vec<Segment>,
    /// Live segments that are replaced, or whose frames have all expired.
    pub remove: Vec<SegmentId>,
    /// How far journals are compacted now; those that are not named stay as they are. Never less than before.
    pub through: Vec<Through>,
    /// Whether frames are removed for good.
    pub expires: bool,
}

/// A segment that is live no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Which one.
    pub id: SegmentId,
    /// Its day.
    pub date: u32,
    /// When it was removed, by the catalog's own clock.
    pub at: Micros,
    /// The catalog's own clock at the time of the answer.
    pub now: Micros,
}

/// A change was not made. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Somebody else has claimed compaction since: drop what was prepared.
    #[error("claim {token} on compaction was taken over: what was prepared under it is dropped")]
    Fenced {
        /// The claim.
        token: u64,
    },
    /// The manifest has changed: look at it, and prepare the change anew.
    #[error("the manifest is at {found} and the change was made for {after}: it must be prepared anew")]
    Outdated {
        /// What the change was made for.
        after: u64,
        /// What is there.
        found: u64,
    },
    /// The catalog cannot say; the same change may be committed again.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// The catalog of segments. What a method returns is durable, and seen by every later call of anybody.
///
/// Cancel safety: dropping a future that changes something leaves it open whether the change happens, but it
/// happens whole or not at all; doing it again is harmless.
pub trait SegmentCatalog: Send + Sync + 'static {
    /// The newest manifest; `None` if that is the one the caller knows.
    fn manifest(&self, known: Option<u64>) -> BoxFuture<'_, Result<Option<Manifest>, CatalogError>>;

    /// The format level of the storage.
    ///
    /// # Errors
    /// Also if it is one that this release does not know, as those of all other methods then.
    fn format_level(&self) -> BoxFuture<'_, Result<FormatLevel, CatalogError>>;

    /// Raises the format level; one that is as high already stays as it is. Gives what it is then.
    fn raise_format_level(&self, to: FormatLevel) -> BoxFuture<'_, Result<FormatLevel, CatalogError>>;

    /// Claims compaction for `ttl` from now on, by the catalog's own clock; `None` if somebody else has a claim
    /// that has not run out. The token is greater than every one before.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] if `ttl` is not within [`CLAIM_TTL`].
    fn claim(&self, ttl: Duration) -> BoxFuture<'_, Result<Option<u64>, CatalogError>>;

    /// Lengthens a claim to `ttl` from now on; `false` if it was taken over, which is for good. One that has run
    /// out and was not taken over lives again.
    ///
    /// # Errors
    /// As those of a claim.
    fn renew(&self, token: u64, ttl: Duration) -> BoxFuture<'_, Result<bool, CatalogError>>;

    /// Gives a claim back, so that others need not wait. One that was taken over is left alone.
    fn release(&self, token: u64) -> BoxFuture<'_, Result<(), CatalogError>>;

    /// Makes a change: the number of the manifest that has it. One of the last [`CHANGES_KNOWN`] that were made, again,
    /// is a success, whoever has claimed compaction since.
    ///
    /// # Errors
    /// [`CommitError`]; [`CatalogError::Invalid`] if a value is not one that [`Change::check`] passes, a segment to
    /// add is known, one to remove is not live, a journal would go back, or the change is so old that nobody can tell
    /// whether it was made.
    fn commit<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<u64, CommitError>>;

    /// Puts a manifest into a catalog that was lost, whole or not at all; `false` if it has something, unless `replace`: then
    /// all that it has is dropped first. Nobody's change or claim from before gets through.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] if a segment or a number is not one that [`Change::check`] passes.
    fn restore<'a>(
        &'a self,
        manifest: &'a Manifest,
        replace: bool,
    ) -> BoxFuture<'a, Result<bool, CatalogError>>;

    /// Segments that are live no more and were not forgotten, those removed first at the front, at most `limit` and
    /// never more than [`REMOVED_MAX`].
    fn removed(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Removed>, CatalogError>>;

    /// Forgets removed segments, whose objects were deleted. Those that are live or not known are passed over.
    fn forget<'a>(&'a self, segments: &'a [SegmentId]) -> BoxFuture<'a, Result<(), CatalogError>>;
}
