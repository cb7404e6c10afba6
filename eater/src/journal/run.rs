//! One run as the index knows it.

use trough_protocol::batch::{Run as BatchRun, RunKind};
use trough_protocol::{Epoch, Micros, Seq};

/// What a run in the index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Frames.
    Frames,
    /// Numbers that the device declared lost, for this reason.
    Skip(u8),
    /// Numbers whose bytes a repair set aside.
    Damaged,
}

/// A run, and where its data lies. 64 bytes, in memory and in an index file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub epoch: Epoch,
    pub first: Seq,
    /// How many numbers; at least 1.
    pub count: u64,
    pub min_ts: Micros,
    pub max_ts: Micros,
    pub received_at: Micros,
    /// Where the data begins in its file, in bytes. Tells runs of one file apart: each has at least a byte.
    pub offset: u32,
    /// Bytes of data.
    pub len: u32,
    /// CRC32C of the data.
    pub crc: u32,
    pub kind: Kind,
}

/// Where a run stands in the order of an index: by epoch, first seq, and then by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub epoch: Epoch,
    pub first: Seq,
    pub offset: u32,
}

impl Key {
    /// Before every run.
    pub(crate) const MIN: Self = Self::before(Epoch(0), Seq(0));
    /// Behind every run.
    pub(crate) const MAX: Self = Self::before(Epoch(u64::MAX), Seq(u64::MAX));

    /// Before every run of this epoch that begins at `first` or later.
    pub(crate) const fn before(epoch: Epoch, first: Seq) -> Self {
        Self { epoch, first, offset: 0 }
    }

    /// Right behind the run that has this key.
    pub(crate) fn behind(self) -> Self {
        Self { offset: self.offset + 1, ..self }
    }
}

impl Run {
    /// A run of a batch that begins at `batch_offset` of its file; `data` is the run's.
    pub(crate) fn new(run: &BatchRun<'_>, data: &[u8], batch_offset: u32, received_at: Micros) -> Self {
        Self {
            epoch: run.epoch,
            first: run.first,
            count: run.count,
            min_ts: run.min_ts,
            max_ts: run.max_ts,
            received_at,
            offset: batch_offset + run.offset,
            len: run.len,
            crc: run.crc,
            kind: match run.kind {
                RunKind::Frames => Kind::Frames,
                RunKind::Skip => Kind::Skip(data.first().copied().unwrap_or(0)),
            },
        }
    }

    pub(crate) fn last(&self) -> Seq {
        Seq(self.first.0 + self.count - 1)
    }

    pub(crate) fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.len)
    }

    pub(crate) fn key(&self) -> Key {
        Key { epoch: self.epoch, first: self.first, offset: self.offset }
    }

    pub(crate) fn is_frames(&self) -> bool {
        self.kind == Kind::Frames
    }
}

/// A run and the file it is in, or the object (`F`). The lower position is the earlier arrival: files and groups are in
/// the order of `received_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Located<F = u64> {
    pub file: F,
    pub run: Run,
}

impl<F: Copy> Located<F> {
    pub(crate) fn position(&self) -> (F, u32) {
        (self.file, self.run.offset)
    }
}
