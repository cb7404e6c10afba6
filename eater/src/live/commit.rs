//! What became durable together.

use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::object_catalog::{Incarnation, ObjectId};

use super::vector::{Place, Vector};
use crate::journal::Arrival;
use crate::journal::run::Run;

/// A journal object, or some runs of a file of the local journal that stand one behind the other.
#[derive(Debug)]
pub struct Commit {
    /// The object, or the file.
    pub id: ObjectId,
    /// The place behind it.
    pub through: Place,
    /// It is a part of what the object has, and all of it comes later, with nothing new of this: when it is shown, the
    /// place stays where it is.
    pub is_part: bool,
    /// What it has.
    pub(super) content: Content,
}

/// What a commit has.
#[derive(Debug)]
pub(super) enum Content {
    /// Runs in the order of arrival.
    Local(Vec<Arrival>),
    /// What an object has, rising by device, epoch and number; the runs are in the object.
    Object { received_at: Micros, spans: Vec<Span> },
}

/// Numbers of one device and epoch that an object has, without a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub device: DeviceId,
    pub epoch: Epoch,
    pub first: Seq,
    pub last: Seq,
    /// Numbers below are copies of what was committed before.
    pub fresh: Seq,
}

/// About how many bytes of frames are read at a time.
const READ_BYTES: usize = 256 * 1024;

/// One run of a commit, to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRun {
    /// Whose.
    pub device: DeviceId,
    /// Which numbers, and where they lie.
    pub(crate) run: Run,
    /// Numbers below are copies of what was committed before.
    pub fresh: Seq,
}

impl LiveRun {
    /// How many of some runs are read at a time.
    pub fn portion(runs: &[Self]) -> usize {
        let mut bytes = 0;
        let within = runs.iter().take_while(|live| {
            bytes += live.run.len as usize;
            bytes <= READ_BYTES
        });
        within.count().max(1)
    }
}

impl Commit {
    /// Whether it is done, as far as a vector says.
    pub fn is_in(&self, vector: &Vector) -> bool {
        vector.place(self.id.incarnation) >= self.through
    }

    /// Its devices; some may come several times.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        let (runs, spans) = match &self.content {
            Content::Local(runs) => (&runs[..], &[][..]),
            Content::Object { spans, .. } => (&[][..], &spans[..]),
        };
        runs.iter().map(|arrival| &arrival.device).chain(spans.iter().map(|span| &span.device))
    }

    /// A whole object of some eater, or a part of it, the runs of which lie in a local journal.
    #[cfg(test)]
    pub(crate) fn of_runs(id: ObjectId, is_part: bool, runs: Vec<Arrival>) -> Self {
        Self { id, through: Place::behind(id.n), is_part, content: Content::Local(runs) }
    }

    /// About how much memory it takes, in runs and spans.
    pub(super) fn weight(&self) -> usize {
        1 + match &self.content {
            Content::Local(runs) => runs.len(),
            Content::Object { spans, .. } => spans.len(),
        }
    }

    /// Runs of the local journal.
    pub(super) fn local(file: u64, runs: Vec<Arrival>, (n, offset): (u64, u32)) -> Self {
        let id = ObjectId { incarnation: Incarnation::LOCAL, n: file };
        let through = Place { n, offset, seq: 0 };
        Self { id, through, is_part: false, content: Content::Local(runs) }
    }
}
