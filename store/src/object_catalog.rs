//! What journal objects exist: the ledger of a deployment whose eaters keep nothing on their disks.
//!
//! An eater gives itself a random *incarnation* when it starts and numbers its journal objects from 1. It stores an
//! object, and then enters it here, strictly in the order of the numbers. The pair (incarnation, n) is unique, and
//! that alone carries the safety: whoever declares an eater dead enters a *closing* row under its next number, so
//! that the eater, should it still live, finds its number taken and stops without having acknowledged anything.
//! The rows of an incarnation are therefore always 1 to some number without a hole, with at most one closing
//! row, the last.
//!
//! Rows whose frames are in segments are removed, from the front, and the last of an incarnation leaves a *stub* in its
//! place, so that its number stays taken: an eater whose answer was lost finds its own there, and everybody what the
//! last number is.
//!
//! Unlike [`crate::Catalog`], this one is on the path of an acknowledgement: a frame is durable when its object is
//! stored *and* its row is here.

use std::fmt;

use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use crate::BoxFuture;
use crate::error::CatalogError;
use crate::segment_catalog::Through;

mod check;

/// Most spans one [`ObjectCatalog::spans`] returns.
pub const SPANS_MAX: usize = 10_000;
/// Most devices a row lists; one more, and the row says of itself that it is [`ObjectRow::wide`].
pub const ROW_SPANS_MAX: usize = 4096;
/// Most rows that one [`ObjectCatalog::rows`] returns, or one [`ObjectCatalog::remove_through`] removes: each may list
/// [`ROW_SPANS_MAX`] devices.
pub const ROWS_MAX: usize = 100;
/// Most heads one [`ObjectCatalog::device_heads`] returns.
pub const HEADS_MAX: usize = 10_000;

/// One life of one eater: random, so that no two are ever the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub [u8; 16]);

impl Incarnation {
    /// The local journal, which has one life: its files are its numbers.
    pub const LOCAL: Self = Self([0; 16]);
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Which object: the n-th of an incarnation, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// Who wrote it.
    pub incarnation: Incarnation,
    /// Its number.
    pub n: u64,
}

/// What one object has of one device and epoch: frames and declared losses alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpan {
    /// Which device.
    pub device: DeviceId,
    /// In which epoch.
    pub epoch: Epoch,
    /// The lowest number.
    pub first: Seq,
    /// The highest number. Numbers between the two may be missing, and be in another object.
    pub last: Seq,
    /// Its frames.
    pub frames: u64,
    /// The lowest and highest time stamp that the device gave them; (0, 0) if there are only losses.
    pub ts: (Micros, Micros),
}

/// A journal object's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    /// Which object.
    pub id: ObjectId,
    /// Its size, in bytes. It lies under a key that follows from its id.
    pub bytes: u64,
    /// CRC32C of the whole object: tells an own row from another's when a row is entered again.
    pub crc: u32,
    /// When its eater sealed it, in µs since 1970. Rises with n.
    pub received_at: Micros,
    /// What it holds, rising by (device, epoch), each once; at most [`ROW_SPANS_MAX`].
    pub spans: Vec<DeviceSpan>,
    /// It holds more devices than a row lists: whoever looks for a device must ask the object itself.
    pub wide: bool,
}

/// What is known of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncarnationState {
    /// Which one.
    pub incarnation: Incarnation,
    /// When it said last that it lives, by the catalog's own clock (the database's, if there is one).
    pub heartbeat_at: Micros,
    /// The catalog's own clock at the time of the answer.
    pub now: Micros,
    /// The number of the last row that was entered, without the closing row; 0 if none was. Removing rows leaves it.
    pub last: u64,
    /// A closing row stands behind its last one.
    pub closed: bool,
}

/// A device's span in one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which object.
    pub id: ObjectId,
    /// The object's size, in bytes.
    pub bytes: u64,
    /// When its eater sealed it.
    pub received_at: Micros,
    /// What it has of the device and epoch; `None` if the row is wide and only the object can tell.
    pub span: Option<DeviceSpan>,
}

/// Which objects to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanQuery {
    /// Whose.
    pub device: DeviceId,
    /// Only numbers behind this one (rising), or all.
    pub after: Option<(Epoch, Seq)>,
    /// Only numbers before this one, or all.
    pub before: Option<(Epoch, Seq)>,
    /// At most this many, and never more than [`SPANS_MAX`].
    pub limit: usize,
}

/// All that is known of where a device stands in an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceHead {
    /// Which device.
    pub device: DeviceId,
    /// In which epoch.
    pub epoch: Epoch,
    /// The highest number.
    pub head: Seq,
    /// When the object that holds it was sealed, in µs since 1970.
    pub received_at: Micros,
}

/// An incarnation whose rows were lost with the catalog, and were made again from its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostLife {
    /// Which one.
    pub incarnation: Incarnation,
    /// Rows up to this number had been removed; 0 if none had.
    pub removed: u64,
    /// Those behind it, by number, without a hole.
    pub rows: Vec<ObjectRow>,
}

impl LostLife {
    /// Its last number.
    pub fn last(&self) -> u64 {
        self.rows.last().map_or(self.removed, |row| row.id.n)
    }
}

/// Entering a row failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Somebody has declared this incarnation dead: stop without acknowledging.
    #[error(
        "incarnation {0} was declared dead: it must stop, and its devices send again what was not acknowledged"
    )]
    Closed(Incarnation),
    /// The number holds another object's row. Two processes use one incarnation: stop without acknowledging.
    #[error("object {} of incarnation {} is in the catalog with other content: two eaters use one incarnation", .0.n, .0.incarnation)]
    Taken(ObjectId),
    /// The number's row was entered, and was removed since, so that nobody can tell whose it was: stop without
    /// acknowledging.
    #[error("object {} of incarnation {} was entered long ago and its row was removed: its eater must stop, and what it has not acknowledged is sent again", .0.n, .0.incarnation)]
    Removed(ObjectId),
    /// The catalog cannot say; the same row may be entered again.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// The catalog of journal objects. What a method returns is durable, and seen by every later call of anybody.
///
/// Cancel safety: dropping a future that changes something leaves it open whether the change happens, but it
/// happens whole or not at all; doing it again is harmless.
pub trait ObjectCatalog: Send + Sync + 'static {
    /// Makes a new incarnation known, alive as of now. Twice is once; it opens nothing that was closed.
    fn open<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<(), CatalogError>>;

    /// Says that an incarnation lives.
    ///
    /// # Errors
    /// [`AppendError::Closed`] if it was declared dead; [`CatalogError::Invalid`] if it was never opened.
    fn heartbeat<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<(), AppendError>>;

    /// Enters an object's row, durably (majority and journaled, or synced). The row before must be there: the
    /// caller enters them one after another. The same row again is a success, also after the incarnation was
    /// closed: it is in the catalog, and stays there.
    ///
    /// # Errors
    /// [`AppendError::Closed`] for every number from the closing row's on; [`AppendError::Taken`];
    /// [`AppendError::Removed`] for every number that was removed, but the incarnation's last, whose row may be
    /// entered again like any other; [`CatalogError::Invalid`] if the row before is missing, the incarnation was
    /// never opened, or a value is not one that [`ObjectRow::check`] passes. Nothing changed then.
    fn append<'a>(&'a self, row: &'a ObjectRow) -> BoxFuture<'a, Result<(), AppendError>>;

    /// Declares an incarnation dead, or ended: enters the closing row behind its last one. The number of its last
    /// object. Twice is once; an unknown one is made known and closed.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`] also if it enters rows all the time: it lives, and nothing is closed.
    fn close<'a>(&'a self, incarnation: Incarnation) -> BoxFuture<'a, Result<u64, CatalogError>>;

    /// Every incarnation, by its bytes.
    fn incarnations(&self) -> BoxFuture<'_, Result<Vec<IncarnationState>, CatalogError>>;

    /// Where a device's numbers are, by (epoch, first, received_at, id): every span whose last number is behind
    /// `after` and whose first is before `before`. Wide rows stand at the front, by (received_at, id), as they may
    /// hold anything. Everything that was entered before the call is in it. Fewer than `limit` are all.
    fn spans<'a>(&'a self, query: &'a SpanQuery) -> BoxFuture<'a, Result<Vec<Found>, CatalogError>>;

    /// Rows of an incarnation in the order of n, those after `after`, at most `limit` and never more than
    /// [`ROWS_MAX`], without the closing row and without those that were removed: what a compaction, a rebuild, a check
    /// or a live reader follows. An empty page is the end.
    fn rows<'a>(
        &'a self,
        incarnation: Incarnation,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectRow>, CatalogError>>;

    /// Removes rows of an incarnation whose frames are in segments, those with the lowest numbers first, up to and
    /// including `through.n`, at most `limit` and never more than [`ROWS_MAX`]. How many; 0 is the end. It may stop
    /// earlier, as it must not keep others from entering rows.
    ///
    /// What was removed is found by nobody any more and cannot be entered anew. An incarnation's last number, and
    /// that it is closed, stay known for good: the closing row is what keeps an eater that wakes up after a year from
    /// entering anything.
    fn remove_through(&self, through: Through, limit: usize) -> BoxFuture<'_, Result<u64, CatalogError>>;

    /// Enters an incarnation that is not known with all its rows, and closes it; `false` if it is known. Nobody sees it
    /// before all of it is there.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] if a row is not one that [`ObjectRow::check`] passes, or is not behind the one before.
    fn restore<'a>(&'a self, life: &'a LostLife) -> BoxFuture<'a, Result<bool, CatalogError>>;

    /// Takes note of heads: of those of a device and epoch the greatest (head, received_at) is kept. Written behind
    /// the rows, so that a stale one is too low, which is safe, and never too high.
    fn note_heads<'a>(&'a self, heads: &'a [DeviceHead]) -> BoxFuture<'a, Result<(), CatalogError>>;

    /// The heads that were noted of a device, by epoch.
    fn heads<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Vec<DeviceHead>, CatalogError>>;

    /// Devices with a head, in the order of their ids' bytes, those after `after`, at most `limit` and never more
    /// than [`HEADS_MAX`]: the head of each in its newest epoch. An empty page is the end.
    fn device_heads(
        &self,
        after: Option<DeviceId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeviceHead>, CatalogError>>;
}
