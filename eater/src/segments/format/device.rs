//! One device in an index.

use bytes::Bytes;
use trough_protocol::wire::{Reader, WireError};
use trough_protocol::{DeviceId, Epoch, Seq};

use super::entry::{LOSS_BYTES, STRETCH_BYTES};
use super::{LASTS_MAX, LastAt, Loss, Stretch};

/// What an index is made from: one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceParts {
    /// Which device.
    pub device: DeviceId,
    /// Its frames, rising.
    pub stretches: Vec<Stretch>,
    /// Its losses, by (epoch, first seq, received at, journal object, last seq).
    pub losses: Vec<Loss>,
    /// The last frames of its channels, by channel; at most [`LASTS_MAX`].
    pub lasts: Vec<LastAt>,
}

impl DeviceParts {
    /// ```text
    /// u8  device id length, device id
    /// u32 number of stretches   u32 number of losses   u16 number of last frames
    /// the stretches, 56 bytes each; the losses, 58 bytes each; the last frames
    /// ```
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let count = |len: usize| u32::try_from(len).expect("bounded by the size of an index");
        let name = self.device.as_str().as_bytes();
        out.push(u8::try_from(name.len()).expect("a device id has at most 64 bytes"));
        out.extend_from_slice(name);
        out.extend_from_slice(&count(self.stretches.len()).to_le_bytes());
        out.extend_from_slice(&count(self.losses.len()).to_le_bytes());
        let lasts = u16::try_from(self.lasts.len()).expect("at most a thousand");
        out.extend_from_slice(&lasts.to_le_bytes());
        self.stretches.iter().for_each(|stretch| stretch.encode(out));
        self.losses.iter().for_each(|loss| loss.encode(out));
        self.lasts.iter().for_each(|last| last.encode(out));
    }
}

/// A device of an index whose checksum and structure have been found good. It shares the index's memory, and decodes
/// what is asked for.
#[derive(Debug, Clone)]
pub struct Device {
    pub(super) name: Bytes,
    pub(super) stretches: Bytes,
    pub(super) losses: Bytes,
    pub(super) lasts: Bytes,
}

impl Device {
    /// The same in memory of its own, so that the index can go.
    pub(in crate::segments) fn detached(&self) -> Self {
        let parts = [&self.name, &self.stretches, &self.losses, &self.lasts];
        let mut all = Bytes::from(parts.map(|part| &part[..]).concat());
        let [name, stretches, losses, lasts] = parts.map(|part| all.split_to(part.len()));
        Self { name, stretches, losses, lasts }
    }

    /// How much memory it takes, about.
    pub(in crate::segments) fn bytes(&self) -> usize {
        self.name.len() + self.stretches.len() + self.losses.len() + self.lasts.len()
    }

    /// Which device.
    pub fn id(&self) -> DeviceId {
        let name = std::str::from_utf8(&self.name).ok().and_then(|name| DeviceId::new(name).ok());
        name.expect("decode() has read the same bytes")
    }

    /// How many stretches it has.
    pub fn stretch_count(&self) -> usize {
        self.stretches.len() / STRETCH_BYTES
    }

    /// The stretch at this place, from 0; they rise.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn stretch(&self, at: usize) -> Stretch {
        let bytes = &self.stretches[at * STRETCH_BYTES..(at + 1) * STRETCH_BYTES];
        Stretch::read(&mut Reader::new(bytes)).expect("decode() has read the same bytes")
    }

    /// Its frames, rising.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch> + '_ {
        (0..self.stretch_count()).map(|at| self.stretch(at))
    }

    /// How many of its stretches end before or at this number.
    pub(crate) fn stretches_through(&self, (epoch, seq): (Epoch, Seq)) -> usize {
        let (mut low, mut high) = (0, self.stretch_count());
        while low < high {
            let middle = low + (high - low) / 2;
            let stretch = self.stretch(middle);
            if (stretch.epoch, stretch.last()) <= (epoch, seq) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Its losses, by (epoch, first seq).
    pub fn losses(&self) -> impl Iterator<Item = Loss> + '_ {
        self.losses
            .chunks_exact(LOSS_BYTES)
            .map(|bytes| Loss::read(&mut Reader::new(bytes)).expect("decode() has read the same bytes"))
    }

    /// The last frame of each channel, by channel.
    pub fn lasts(&self) -> impl Iterator<Item = LastAt> + '_ {
        let mut reader = Reader::new(&self.lasts);
        std::iter::from_fn(move || {
            let more = !reader.rest().is_empty();
            more.then(|| LastAt::read(&mut reader).expect("decode() has read the same bytes"))
        })
    }
}

/// A device as it stands in the bytes.
pub(super) struct RawDevice<'a> {
    pub name: &'a str,
    pub stretches: &'a [u8],
    pub losses: &'a [u8],
    pub lasts: &'a [u8],
}

impl<'a> RawDevice<'a> {
    /// Takes one from the front. Only how long it is has been checked then.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let len = reader.u8("device id length")?;
        let name = DeviceId::check(reader.bytes("device id", usize::from(len))?)?;
        let stretches = reader.u32("number of stretches")? as usize;
        let losses = reader.u32("number of losses")? as usize;
        let lasts = usize::from(reader.u16("number of last frames")?);
        if lasts > LASTS_MAX {
            let (value, max) = (lasts as u64, LASTS_MAX as u64);
            return Err(WireError::TooLarge { what: "number of last frames", value, max });
        }
        let stretches = reader.bytes("stretches", stretches.saturating_mul(STRETCH_BYTES))?;
        let losses = reader.bytes("losses", losses.saturating_mul(LOSS_BYTES))?;
        let before = reader.rest();
        for _ in 0..lasts {
            LastAt::peek(reader)?;
        }
        Ok(Self { name, stretches, losses, lasts: &before[..before.len() - reader.rest().len()] })
    }

    /// Checks everything in it; `row` is the first row that it may have. Gives the row behind its last one.
    pub(super) fn check(&self, mut row: u32) -> Result<u32, WireError> {
        let invalid = |what, value, rule| Err(WireError::Invalid { what, value, rule });
        if self.stretches.is_empty() && self.losses.is_empty() {
            return invalid("number of stretches", 0, "a device of an index has frames or losses");
        }
        let first_row = row;
        let mut behind = (Epoch(0), Seq(0));
        for bytes in self.stretches.chunks_exact(STRETCH_BYTES) {
            let stretch = Stretch::read(&mut Reader::new(bytes))?;
            if stretch.row != row {
                return invalid("first row", stretch.row.into(), "stretches lie without a hole between them");
            }
            if (stretch.epoch, stretch.first) <= behind {
                return invalid("first seq", stretch.first.0, "the stretches of a device rise");
            }
            if stretch.ts.0 > stretch.ts.1 || stretch.received.0 > stretch.received.1 {
                return invalid("lowest ts", stretch.ts.0, "what is lowest is not above what is highest");
            }
            behind = (stretch.epoch, stretch.last());
            let Some(next) = row.checked_add(stretch.count) else {
                return invalid("first row", row.into(), "rows are counted with 32 bits");
            };
            row = next;
        }
        let mut before = None;
        for bytes in self.losses.chunks_exact(LOSS_BYTES) {
            let loss = Loss::read(&mut Reader::new(bytes))?;
            if before.replace(loss.key()).is_some_and(|before| before > loss.key()) {
                return invalid("first seq", loss.first.0, "the losses of a device rise");
            }
        }
        let (mut reader, mut before) = (Reader::new(self.lasts), None);
        while !reader.rest().is_empty() {
            let (channel, _, _, at) = LastAt::peek(&mut reader)?;
            if before.replace(channel).is_some_and(|before| before >= channel) {
                return invalid("row", at.into(), "the channels of a device rise");
            }
            if !(first_row..row).contains(&at) {
                return invalid("row", at.into(), "a last frame is one of the device's rows");
            }
        }
        Ok(row)
    }
}
