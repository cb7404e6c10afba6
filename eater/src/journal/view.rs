//! What readers ask of a journal, and what they get.

use std::ops::RangeInclusive;

use bytes::Bytes;
use trough_protocol::{Channel, Epoch, Micros, Seq};
use trough_store::object_catalog::{Incarnation, ObjectId};

/// In which order a scan goes through a device's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Rising (epoch, seq).
    #[default]
    Asc,
    /// Falling (epoch, seq).
    Desc,
}

/// Which frames of a device a scan gives. The default is all of them, in rising order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScanRange {
    /// A cursor: go on behind this frame, in the scan's direction. The frame itself is not given.
    pub after: Option<(Epoch, Seq)>,
    /// Leave out runs without a frame in this span of device time, in µs since 1970. A chunk may still have
    /// frames outside: the consumer looks at each.
    pub ts: Option<RangeInclusive<Micros>>,
    /// The direction.
    pub order: Order,
}

/// Consecutive frames of one device and epoch.
///
/// Chunks of a falling scan come in falling order; within each the frames still stand in rising order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Their epoch.
    pub epoch: Epoch,
    /// The first one's number.
    pub first: Seq,
    /// How many.
    pub count: u64,
    /// When the eater received them, in µs since 1970.
    pub received_at: Micros,
    /// Where this copy of them was stored first: an object, or with [`Incarnation::LOCAL`] a file of the local journal.
    pub source: ObjectId,
    /// The encoded frames ([`trough_protocol::frame`]), one after another; their checksum was verified. It
    /// shares memory with its neighbours: up to 1 MiB stays allocated while it lives.
    pub bytes: Bytes,
}

impl Chunk {
    /// The last one's number.
    pub fn last(&self) -> Seq {
        Seq(self.first.0 + self.count - 1)
    }

    /// Which of two copies counts.
    pub fn rank(&self) -> Rank {
        Rank::new(self.received_at, self.source)
    }

    /// The frames from number `first` to number `last`, which it must have; `None` if its bytes are not frames.
    pub(crate) fn part(&self, first: Seq, last: Seq) -> Option<Self> {
        if (first, last) == (self.first, self.last()) {
            return Some(self.clone());
        }
        let from = frames_len(&self.bytes, first.0 - self.first.0)?;
        let count = last.0 - first.0 + 1;
        let len = frames_len(&self.bytes[from..], count)?;
        Some(Self { first, count, bytes: self.bytes.slice(from..from + len), ..self.clone() })
    }
}

/// Which copy of a frame counts: that of the lowest rank, everywhere.
///
/// Of objects it is the one received first, then that of the lower (incarnation, n). Of the local journal it is the one
/// in the older file: its clock may have been set back, the numbers of its files never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rank {
    pub(crate) received_at: Micros,
    pub(crate) id: ObjectId,
}

impl Rank {
    /// The rank of what came at `received_at` and was stored in `id`.
    pub fn new(received_at: Micros, id: ObjectId) -> Self {
        let local = id.incarnation == Incarnation::LOCAL;
        Self { received_at: if local { 0 } else { received_at }, id }
    }
}

/// A file of the local journal, as a source.
pub(crate) fn local(file: u64) -> ObjectId {
    ObjectId { incarnation: Incarnation::LOCAL, n: file }
}

/// Bytes of the first `count` encoded frames of `data`.
pub(crate) fn frames_len(data: &[u8], count: u64) -> Option<usize> {
    let mut at = 0;
    for _ in 0..count {
        let len = data.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)?;
        at = at.checked_add(4)?.checked_add(len as usize)?;
    }
    (at <= data.len()).then_some(at)
}

/// The last frame of a channel: the one with the highest (epoch, seq).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFrame {
    /// The channel.
    pub channel: Channel,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its number.
    pub seq: Seq,
    /// When the device made it, in µs since 1970.
    pub ts: Micros,
    /// When the eater received it, in µs since 1970.
    pub received_at: Micros,
    /// The encoded frame.
    pub bytes: Bytes,
}

/// Numbers without frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Their epoch.
    pub epoch: Epoch,
    /// The first number.
    pub first: Seq,
    /// The last number.
    pub last: Seq,
    /// Why there are none.
    pub kind: GapKind,
    /// When the eater learnt of it, in µs since 1970.
    pub received_at: Micros,
}

/// Why there are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapKind {
    /// The device declared them lost, for this reason ([`trough_protocol::device`]).
    Skipped {
        /// The reason's code.
        reason: u8,
    },
    /// They were durable, and their bytes were damaged and set aside by a repair.
    Damaged,
    /// Retention removed them.
    Expired,
}
