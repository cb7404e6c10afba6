//! What an index says of one device.

use trough_protocol::wire::{Reader, WireError};
use trough_protocol::{Channel, DeviceId, Epoch, Micros, Seq};

use crate::journal::run::Key;

/// Where the last frame of a channel lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) struct LastAt {
    pub channel: Channel,
    pub epoch: Epoch,
    pub seq: Seq,
    pub ts: Micros,
    pub received_at: Micros,
    pub offset: u32,
    pub len: u32,
}

/// A device in one sealed file.
///
/// ```text
/// u32 bytes that follow   u8 n, n device id
/// u64 first record   u32 records of frames   u32 records of numbers without frames
/// u64 most frames in a run   u64 frames not durable before   u64 last received at   u64 its highest ts
/// u64 lowest, highest ts   u64 lowest epoch, its first seq   u64 highest epoch, its highest first seq
/// u32 spans   u32 channels
/// span: u64 epoch, u64 first seq, u64 last seq: numbers that the file has, frames or not
/// channel: u8 n, n name   u64 epoch, seq, ts, received at   u32 offset, bytes of its last frame
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) struct Entry {
    pub device: DeviceId,
    pub first_record: u64,
    pub frame_runs: u32,
    pub gap_runs: u32,
    pub span: u64,
    pub fresh: u64,
    pub last_received: Micros,
    pub last_ts: Micros,
    pub ts: (Micros, Micros),
    pub low: (Epoch, Seq),
    pub high: (Epoch, Seq),
    pub spans: Vec<(Epoch, Seq, Seq)>,
    pub channels: Vec<LastAt>,
}

impl Entry {
    /// No frame run stands before this.
    pub(in crate::journal) fn low_key(&self) -> Key {
        Key::before(self.low.0, self.low.1)
    }

    /// No frame run stands behind this.
    pub(in crate::journal) fn high_key(&self) -> Key {
        Key { epoch: self.high.0, first: self.high.1, offset: u32::MAX }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        put_u32(out, 0);
        put_name(out, self.device.as_str());
        out.extend_from_slice(&self.first_record.to_le_bytes());
        put_u32(out, self.frame_runs as usize);
        put_u32(out, self.gap_runs as usize);
        let (low, high) = (self.low, self.high);
        for field in [self.span, self.fresh, self.last_received, self.last_ts, self.ts.0, self.ts.1] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for field in [low.0.0, low.1.0, high.0.0, high.1.0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        put_u32(out, self.spans.len());
        put_u32(out, self.channels.len());
        for (epoch, first, last) in &self.spans {
            for field in [epoch.0, first.0, last.0] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
        for last in &self.channels {
            put_name(out, last.channel.as_str());
            for field in [last.epoch.0, last.seq.0, last.ts, last.received_at] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            put_u32(out, last.offset as usize);
            put_u32(out, last.len as usize);
        }
        let len = u32::try_from(out.len() - start - 4).expect("an index is below 4 GiB");
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// Takes the next entry from a directory block, if it is the device's or any is wanted; `None` if it is
    /// another's.
    pub(super) fn decode(block: &mut Reader<'_>, wanted: Option<&str>) -> Result<Option<Self>, WireError> {
        let len = block.u32("bytes of an entry")?;
        let mut reader = Reader::new(block.bytes("entry", len as usize)?);
        let device = name(&mut reader)?;
        if wanted.is_some_and(|wanted| wanted.as_bytes() != device) {
            return Ok(None);
        }
        Self::decode_fields(DeviceId::new(DeviceId::check(device)?)?, &mut reader).map(Some)
    }

    fn decode_fields(device: DeviceId, reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let first_record = reader.u64("first record")?;
        let (frame_runs, gap_runs) = (reader.u32("records of frames")?, reader.u32("records of gaps")?);
        let mut next = || reader.u64("index entry");
        let (span, fresh) = (next()?, next()?);
        let (last_received, last_ts) = (next()?, next()?);
        let ts = (next()?, next()?);
        let low = (Epoch(next()?), Seq(next()?));
        let high = (Epoch(next()?), Seq(next()?));
        let (spans, channels) = (reader.u32("spans")?, reader.u32("channels")?);
        let mut entry = Self {
            device,
            first_record,
            frame_runs,
            gap_runs,
            span,
            fresh,
            last_received,
            last_ts,
            ts,
            low,
            high,
            spans: Vec::new(),
            channels: Vec::new(),
        };
        for _ in 0..spans {
            let epoch = Epoch(reader.int("epoch", 1)?);
            let first = reader.int("first seq", 1)?;
            entry.spans.push((epoch, Seq(first), Seq(reader.int("last seq", first)?)));
        }
        for _ in 0..channels {
            entry.channels.push(LastAt {
                channel: Channel::new(Channel::check(name(reader)?)?)?,
                epoch: Epoch(reader.u64("epoch")?),
                seq: Seq(reader.u64("seq")?),
                ts: reader.u64("ts")?,
                received_at: reader.u64("received at")?,
                offset: reader.u32("offset")?,
                len: reader.u32("bytes")?,
            });
        }
        reader.end("entry")?;
        Ok(entry)
    }
}

fn put_u32(out: &mut Vec<u8>, value: usize) {
    let value = u32::try_from(value).expect("counts and offsets of a file below 4 GiB");
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.push(u8::try_from(name.len()).expect("device ids and channels have at most 64 bytes"));
    out.extend_from_slice(name.as_bytes());
}

fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let len = reader.u8("length of a name")?;
    reader.bytes("name", usize::from(len))
}
