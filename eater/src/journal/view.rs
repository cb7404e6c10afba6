//! What readers ask of a journal, and what they get.

use std::ops::RangeInclusive;

use bytes::Bytes;
use trough_protocol::{Channel, Epoch, Micros, Seq};

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
    /// The encoded frames ([`trough_protocol::frame`]), one after another; their checksum was verified. It
    /// shares memory with its neighbours: up to 1 MiB stays allocated while it lives.
    pub bytes: Bytes,
}

impl Chunk {
    /// The last one's number.
    pub fn last(&self) -> Seq {
        Seq(self.first.0 + self.count - 1)
    }
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
