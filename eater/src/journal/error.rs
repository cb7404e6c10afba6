//! What can go wrong, by what the caller can do about it.

use std::io;
use std::path::PathBuf;

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::objects::ObjectError;
use trough_store::segment_catalog::SegmentId;
use trough_store::{CatalogError, ObjectKey};

use crate::segments::segment_of_key;

/// A journal cannot be opened, repaired or closed cleanly.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A setting cannot work: change it.
    #[error("{0}")]
    Config(String),
    /// Another process has the directory: stop it, or use another directory.
    #[error(
        "journal {} is in use by process {pid}: a journal has exactly one eater; stop that process or choose another data directory",
        dir.display()
    )]
    InUse {
        /// The journal's directory.
        dir: PathBuf,
        /// What the lock file says; `unknown` if it says nothing.
        pid: String,
    },
    /// Durable bytes are damaged: a person must decide. Nothing was changed.
    #[error(
        "journal file {} is damaged at offset {offset}: {found}; restore it from a copy, or set the damaged bytes aside with `trough journal repair --data-dir DIR`",
        file.display()
    )]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// What is there, and how it is known to be damage.
        found: String,
    },
    /// Written by a later release: start that one.
    #[error("journal file {} needs a later release: {found}; start the release that wrote it", file.display())]
    TooNew {
        /// The file.
        file: PathBuf,
        /// Which field has which value.
        found: String,
    },
    /// The disk refused: look at it, then try again.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `read`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The catalog refused. All in it can be rebuilt: remove it and start again.
    #[error("the journal's catalog cannot be used: {0}")]
    Catalog(#[from] CatalogError),
    /// Another eater has declared this one dead, or the catalog refuses what it enters, for ever. Stop, and start again
    /// as a new one: nothing was acknowledged since, and devices send it again.
    #[error("this eater must stop: {0}; nothing that was not durable was acknowledged, start it again")]
    Fenced(String),
    /// Closed before everything was durable. The batches were never acknowledged, so their devices hold them.
    #[error(
        "the journal closed with {batches} batches that could not be stored ({reason}); none was acknowledged"
    )]
    Unstored {
        /// How many.
        batches: usize,
        /// Why.
        reason: String,
    },
}

/// The journal is closed and takes no more batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal is closed: the eater is stopping")]
pub struct Closed;

/// Frames cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes of these frames are damaged and no copy is left. Other frames can be read: go on after
    /// `last`.
    #[error(
        "frames {first} to {last} of epoch {epoch} are damaged in journal file {} at offset {offset}: restore the file from a copy, or stop the eater and run `trough journal repair --data-dir DIR`",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the run's data begins, in bytes.
        offset: u64,
        /// The epoch.
        epoch: Epoch,
        /// The first frame that cannot be read.
        first: Seq,
        /// The last one.
        last: Seq,
    },
    /// A sealed file's index is damaged. It holds nothing of its own.
    #[error(
        "journal index {} is damaged ({found}): remove it and start the eater again, it is rebuilt from the journal",
        file.display()
    )]
    Index {
        /// The index file.
        file: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The disk refused: try again.
    #[error("cannot read journal file {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The catalog does not answer: try again.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// As [`ReadError::Damaged`], of an object.
    #[error(
        "frames {first} to {last} of epoch {epoch} are damaged in journal object {object} at offset {offset}: restore the object from a copy"
    )]
    DamagedObject {
        /// Its key.
        object: ObjectKey,
        /// Where the run's data begins, in bytes.
        offset: u64,
        /// The epoch.
        epoch: Epoch,
        /// The first frame that cannot be read.
        first: Seq,
        /// The last one.
        last: Seq,
    },
    /// As [`ReadError::Damaged`], of a segment.
    #[error(
        "frames {first} to {last} of epoch {epoch} of device {device} are damaged in segment {object} at offset {offset}: restore the object from a copy"
    )]
    DamagedSegment {
        /// The key of its Parquet object.
        object: ObjectKey,
        /// Where the damaged block begins, in bytes.
        offset: u64,
        /// The device.
        device: DeviceId,
        /// The epoch.
        epoch: Epoch,
        /// The first frame that cannot be read.
        first: Seq,
        /// The last one.
        last: Seq,
    },
    /// A segment cannot be opened: what says where its frames are is damaged, so none of them can be read.
    #[error(
        "segment object {object} is damaged at offset {offset} ({found}): restore the object from a copy"
    )]
    Segment {
        /// The key of the object, of the two that a segment has.
        object: ObjectKey,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong with it.
        found: String,
    },
    /// A journal object with more devices than its row names cannot be opened: only it says whose frames it has, and where.
    #[error(
        "journal object {object} is damaged at offset {offset} ({found}), and only it says whose frames it has: restore the object from a copy"
    )]
    Object {
        /// Its key.
        object: ObjectKey,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong with it.
        found: String,
    },
    /// The object store does not answer: try again.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// The frames lie in so many objects that reading them would be a burden for everybody: ask for less.
    #[error(
        "this would read {objects} journal objects or more, which is too many at once: ask for fewer frames"
    )]
    TooManyObjects {
        /// How many, at least.
        objects: usize,
    },
    /// The frames may lie in so many segments that reading them would be a burden for everybody: ask for a span of time.
    #[error(
        "this would read {segments} segments, which is too many at once: ask for a span of time, with from and to"
    )]
    TooManySegments {
        /// How many.
        segments: usize,
    },
    /// A task of the read died; the log has it.
    #[error("reading broke off: {0}")]
    Broken(String),
}

impl ReadError {
    /// The numbers that are damaged, if it is that: an epoch, the first and the last.
    pub fn lost_numbers(&self) -> Option<(Epoch, Seq, Seq)> {
        self.lost()
    }

    /// The segment that is damaged, or of which an object is gone, if it is that.
    pub(crate) fn damaged_segment(&self) -> Option<SegmentId> {
        let (Self::Segment { object, .. }
        | Self::DamagedSegment { object, .. }
        | Self::Store(ObjectError::NotFound(object))) = self
        else {
            return None;
        };
        segment_of_key(object)
    }

    /// The numbers that are damaged, if it is that: reading goes on behind them.
    pub(crate) fn lost(&self) -> Option<(Epoch, Seq, Seq)> {
        match self {
            Self::Damaged { epoch, first, last, .. }
            | Self::DamagedObject { epoch, first, last, .. }
            | Self::DamagedSegment { epoch, first, last, .. } => Some((*epoch, *first, *last)),
            _ => None,
        }
    }

    /// The same of some of the damaged numbers only.
    ///
    /// # Panics
    /// It says nothing of damage.
    pub(crate) fn of(&self, first: Seq, last: Seq) -> Self {
        match self {
            Self::Damaged { file, offset, epoch, .. } => {
                Self::Damaged { file: file.clone(), offset: *offset, epoch: *epoch, first, last }
            }
            Self::DamagedObject { object, offset, epoch, .. } => {
                Self::DamagedObject { object: object.clone(), offset: *offset, epoch: *epoch, first, last }
            }
            Self::DamagedSegment { object, offset, device, epoch, .. } => {
                let (object, device) = (object.clone(), device.clone());
                Self::DamagedSegment { object, offset: *offset, device, epoch: *epoch, first, last }
            }
            other => unreachable!("{other} says nothing of damage"),
        }
    }
}
