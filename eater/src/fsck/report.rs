//! What a check finds.

use std::fmt;

use trough_protocol::{DeviceId, Epoch, Seq};

/// What a check has looked at, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How much there was.
    pub totals: Totals,
    /// What is wrong; nothing, if all is well.
    pub findings: Vec<Finding>,
}

/// How much was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// The newest manifest.
    pub manifest: u64,
    /// Its segments.
    pub segments: u64,
    /// Bytes of their objects.
    pub segment_bytes: u64,
    /// Frames in them.
    pub segment_frames: u64,
    /// Numbers that are in several segments, because they were sent again: each is shown once, and they are merged with
    /// the segments some time.
    pub copies: u64,
    /// Journal files or objects.
    pub journals: u64,
    /// Their bytes.
    pub journal_bytes: u64,
}

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// It is not there.
    Missing,
    /// Its bytes are not those that were written.
    Damaged,
    /// It is whole, and says something else than the catalog or its index.
    Disagrees,
    /// Nobody names it. It costs space, and nothing else.
    Orphan,
    /// It has frames that another segment has from the same place. They are shown once.
    Doubled,
}

impl FindingKind {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Disagrees => "disagrees",
            Self::Orphan => "orphan",
            Self::Doubled => "doubled",
        }
    }
}

/// Frames that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostFrames {
    /// Their device.
    pub device: DeviceId,
    /// Their epoch.
    pub epoch: Epoch,
    /// The first one.
    pub first: Seq,
    /// The last one.
    pub last: Seq,
}

impl fmt::Display for LostFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, epoch, first, last } = self;
        write!(f, "frames {first} to {last} of {device}, epoch {epoch}")
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// The key of the object, the path of the file, or the row of the catalog.
    pub object: String,
    /// Where in it, in bytes.
    pub offset: Option<u64>,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What can be done.
    pub remedy: &'static str,
    /// What cannot be read because of it, as far as that can be told.
    pub lost: Vec<LostFrames>,
}

/// Where an object is not what it was, only another copy of it helps.
pub(super) const RESTORE: &str = "restore the object from a copy";

impl Finding {
    pub(super) fn new(kind: FindingKind, object: impl ToString) -> Self {
        Self {
            kind,
            object: object.to_string(),
            offset: None,
            expected: String::new(),
            found: String::new(),
            remedy: RESTORE,
            lost: Vec::new(),
        }
    }

    pub(super) fn at(self, offset: u64) -> Self {
        Self { offset: Some(offset), ..self }
    }

    pub(super) fn saw(self, expected: impl ToString, found: impl ToString) -> Self {
        Self { expected: expected.to_string(), found: found.to_string(), ..self }
    }

    pub(super) fn remedy(self, remedy: &'static str) -> Self {
        Self { remedy, ..self }
    }
}

impl fmt::Display for Finding {
    /// One line, without what is lost.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, object, offset, expected, found, remedy, .. } = self;
        write!(f, "{}: {object}", kind.as_str())?;
        if let Some(offset) = offset {
            write!(f, " at offset {offset}")?;
        }
        write!(f, ": expected {expected}, found {found}; {remedy}")
    }
}
