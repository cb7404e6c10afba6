//! What an index has of a device: stretches of frames, losses, and the last frame of each channel.

use trough_protocol::wire::{Reader, WireError};
use trough_protocol::{Channel, Epoch, Micros, Seq};
use trough_store::object_catalog::{Incarnation, ObjectId};

use super::STRETCH_FRAMES_MAX;
use crate::journal::GapKind;

/// Bytes of a stretch.
pub(super) const STRETCH_BYTES: usize = 56;
/// Bytes of a loss.
pub(super) const LOSS_BYTES: usize = 58;

/// Consecutive frames of one device and epoch, in consecutive rows.
///
/// ```text
///  0  u64 epoch           u64 first seq
/// 16  u32 count, at least 1              u32 its first row in the file
/// 24  u64 lowest ts       u64 highest ts
/// 40  u64 first received  u64 last received
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Their epoch.
    pub epoch: Epoch,
    /// The first one's number.
    pub first: Seq,
    /// How many, at most [`STRETCH_FRAMES_MAX`].
    pub count: u32,
    /// The first one's row in the whole file, from 0.
    pub row: u32,
    /// The lowest and the highest time stamp that the device gave them.
    pub ts: (Micros, Micros),
    /// The lowest and the highest time at which they were received.
    pub received: (Micros, Micros),
}

impl Stretch {
    /// The last one's number.
    pub fn last(&self) -> Seq {
        Seq(self.first.0 + u64::from(self.count) - 1)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.first.0.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.row.to_le_bytes());
        for field in [self.ts.0, self.ts.1, self.received.0, self.received.1] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let stretch = Self {
            epoch: Epoch(reader.int("epoch", 1)?),
            first: Seq(reader.int("first seq", 1)?),
            count: reader.u32("count")?,
            row: reader.u32("first row")?,
            ts: (reader.int("lowest ts", 0)?, reader.int("highest ts", 0)?),
            received: (reader.int("first received", 0)?, reader.int("last received", 0)?),
        };
        if !(1..=STRETCH_FRAMES_MAX).contains(&stretch.count) {
            let rule = "a stretch has 1 to 4096 frames";
            return Err(WireError::Invalid { what: "count", value: stretch.count.into(), rule });
        }
        stretch.first.last_of(stretch.count.into())?;
        Ok(stretch)
    }
}

/// Numbers without frames, as somebody declared them. A frame in the same segment or another beats it.
///
/// ```text
///  0  u8  kind: 0 skipped, 1 damaged, 2 expired
///  1  u8  a skip's reason, 0 with the others
///  2  u64 epoch           u64 first seq   u64 last seq   u64 received at
/// 34  16 incarnation      u64 n: the journal file or object in which it was declared
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
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
    /// In which journal object it was declared, or in which file of the local journal.
    pub source: ObjectId,
}

impl Loss {
    /// Takes in what expired right behind it: whether that was so. What expires day by day would never end else.
    pub(in crate::segments) fn take_in(&mut self, later: &Self) -> bool {
        let expired = [self.kind, later.kind] == [GapKind::Expired; 2];
        let follows = self.epoch == later.epoch && (self.first..=self.last.next()).contains(&later.first);
        if expired && follows {
            self.last = self.last.max(later.last);
            self.received_at = self.received_at.max(later.received_at);
        }
        expired && follows
    }

    /// Where it stands among a device's losses.
    pub(in crate::segments) fn key(&self) -> (Epoch, Seq, Micros, ObjectId, Seq) {
        (self.epoch, self.first, self.received_at, self.source, self.last)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&match self.kind {
            GapKind::Skipped { reason } => [0, reason],
            GapKind::Damaged => [1, 0],
            GapKind::Expired => [2, 0],
        });
        for field in [self.epoch.0, self.first.0, self.last.0, self.received_at] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.source.incarnation.0);
        out.extend_from_slice(&self.source.n.to_le_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let kind = match reader.array("kind of loss")? {
            [0, reason] => GapKind::Skipped { reason },
            [1, 0] => GapKind::Damaged,
            [2, 0] => GapKind::Expired,
            [value, _] => {
                let known = "0 (skipped), 1 (damaged) and 2 (expired)";
                return Err(WireError::Unsupported { what: "kind of loss", value: value.into(), known });
            }
        };
        let loss = Self {
            kind,
            epoch: Epoch(reader.int("epoch", 1)?),
            first: Seq(reader.int("first seq", 1)?),
            last: Seq(reader.int("last seq", 1)?),
            received_at: reader.int("received at", 0)?,
            source: ObjectId {
                incarnation: Incarnation(reader.array("incarnation")?),
                n: reader.int("journal number", 0)?,
            },
        };
        if loss.last < loss.first {
            let rule = "a loss does not end before it begins";
            return Err(WireError::Invalid { what: "last seq", value: loss.last.0, rule });
        }
        Ok(loss)
    }
}

/// Where the last frame of a channel is: the one with the highest (epoch, seq) in this segment.
///
/// ```text
/// u8 channel length   channel   u64 epoch   u64 seq   u32 row
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastAt {
    /// The channel.
    pub channel: Channel,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its number.
    pub seq: Seq,
    /// Its row in the whole file, from 0.
    pub row: u32,
}

impl LastAt {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let name = self.channel.as_str().as_bytes();
        out.push(u8::try_from(name.len()).expect("a channel has at most 64 bytes"));
        out.extend_from_slice(name);
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.seq.0.to_le_bytes());
        out.extend_from_slice(&self.row.to_le_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let (channel, epoch, seq, row) = Self::peek(reader)?;
        Ok(Self { channel: Channel::new(channel)?, epoch, seq, row })
    }

    /// The same without keeping the channel's name.
    pub(super) fn peek<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, Epoch, Seq, u32), WireError> {
        let len = reader.u8("channel length")?;
        let channel = Channel::check(reader.bytes("channel", usize::from(len))?)?;
        let (epoch, seq) = (Epoch(reader.int("epoch", 1)?), Seq(reader.int("seq", 1)?));
        Ok((channel, epoch, seq, reader.u32("row")?))
    }
}
