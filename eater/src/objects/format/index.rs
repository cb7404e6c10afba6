//! The index of a journal object: which device has which runs, and where.

use bytes::Bytes;
use trough_protocol::wire::{Reader, WireError};
use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use super::Trailer;
use crate::journal::run::{Kind, Run};

/// Bytes of one run in the index.
pub const RUN_BYTES: usize = 54;

/// An index whose checksum and structure have been found good. Kept as the bytes that it is.
///
/// ```text
/// device, by the bytes of its id           run, by (epoch, first seq, offset)
///   u8  device id length                     u8  kind: 0 frames, 1 skip
///       device id                            u8  a skip's reason, 0 with frames
///   u32 number of runs, at least 1           u64 epoch
///       the runs                             u64 first seq
///                                            u64 count
///                                            u64 lowest ts     (0 in a skip)
///                                            u64 highest ts    (0 in a skip)
///                                            u32 offset of its data in the object
///                                            u32 data bytes
///                                            u32 CRC32C of its data
/// ```
#[derive(Debug, Clone)]
pub struct Index {
    bytes: Bytes,
    received_at: Micros,
}

impl Index {
    /// Encodes devices, which come by the bytes of their ids, each with its runs by key.
    pub(in crate::objects) fn encode<'a>(
        devices: impl Iterator<Item = (&'a DeviceId, &'a [Run])>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        for (device, runs) in devices {
            let name = device.as_str().as_bytes();
            out.reserve(5 + name.len() + runs.len() * RUN_BYTES);
            out.push(u8::try_from(name.len()).expect("a device id has at most 64 bytes"));
            out.extend_from_slice(name);
            out.extend_from_slice(
                &u32::try_from(runs.len()).expect("bounded by a batch's runs").to_le_bytes(),
            );
            for run in runs {
                out.extend_from_slice(&match run.kind {
                    Kind::Frames | Kind::Damaged => [0, 0],
                    Kind::Skip(reason) => [1, reason],
                });
                for field in [run.epoch.0, run.first.0, run.count, run.min_ts, run.max_ts] {
                    out.extend_from_slice(&field.to_le_bytes());
                }
                for field in [run.offset, run.len, run.crc] {
                    out.extend_from_slice(&field.to_le_bytes());
                }
            }
        }
        out
    }

    /// Checks an index that `trailer` speaks of, and that begins at `start` of its object.
    ///
    /// # Errors
    /// The first fault.
    pub fn decode(
        bytes: Bytes,
        start: u64,
        trailer: &Trailer,
        received_at: Micros,
    ) -> Result<Self, WireError> {
        let computed = crc32c::crc32c(&bytes);
        if computed != trailer.index_crc {
            return Err(WireError::Checksum {
                what: "journal object index",
                found: trailer.index_crc,
                computed,
            });
        }
        let index = Self { bytes, received_at };
        let (mut devices, mut before): (u32, Option<&str>) = (0, None);
        let mut reader = Reader::new(&index.bytes);
        while !reader.rest().is_empty() {
            let (device, runs) = read_device(&mut reader)?;
            if before.is_some_and(|before| before >= device) {
                let rule = "the devices of an index rise";
                return Err(WireError::Invalid { what: "device number", value: devices.into(), rule });
            }
            let mut last = None;
            for run in runs.chunks_exact(RUN_BYTES) {
                let run = read_run(&mut Reader::new(run), received_at)?;
                if u64::from(run.offset) < super::HEADER_BYTES as u64 || run.end() > start {
                    let rule = "a run lies between header and index";
                    return Err(WireError::Invalid { what: "run offset", value: run.offset.into(), rule });
                }
                if last.replace(run.key()).is_some_and(|last| last >= run.key()) {
                    let rule = "the runs of a device rise";
                    return Err(WireError::Invalid { what: "first seq", value: run.first.0, rule });
                }
            }
            before = Some(device);
            devices += 1;
        }
        if devices != trailer.devices {
            let rule = "it is the number of devices in the index";
            return Err(WireError::Invalid {
                what: "number of devices",
                value: trailer.devices.into(),
                rule,
            });
        }
        Ok(index)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The runs of a device, by key.
    pub(in crate::objects) fn runs(&self, device: &str) -> Vec<Run> {
        let found = self.devices().find(|(name, _)| *name == device);
        found.map(|(_, runs)| self.decode_runs(runs)).unwrap_or_default()
    }

    /// Where its devices begin, by the order of their ids.
    pub(in crate::objects) fn places(&self) -> Vec<u32> {
        let place = |(device, _): (&str, &[u8])| {
            let at = device.as_ptr().addr() - self.bytes.as_ptr().addr() - 1;
            u32::try_from(at).expect("an object has at most 64 MiB")
        };
        self.devices().map(place).collect()
    }

    /// The device that begins at a place.
    pub(in crate::objects) fn device_at(&self, place: u32) -> &str {
        self.entry_at(place).0
    }

    /// The runs, by key, of the device that begins at a place.
    pub(in crate::objects) fn runs_at(&self, place: u32) -> Vec<Run> {
        self.decode_runs(self.entry_at(place).1)
    }

    fn entry_at(&self, place: u32) -> (&str, &[u8]) {
        let mut reader = Reader::new(&self.bytes[place as usize..]);
        read_device(&mut reader).expect("decode() has read the same bytes")
    }

    fn devices(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut reader = Reader::new(&self.bytes);
        std::iter::from_fn(move || {
            let more = !reader.rest().is_empty();
            more.then(|| read_device(&mut reader).expect("decode() has read the same bytes"))
        })
    }

    fn decode_runs(&self, runs: &[u8]) -> Vec<Run> {
        let run = |bytes| read_run(&mut Reader::new(bytes), self.received_at);
        runs.chunks_exact(RUN_BYTES)
            .map(|bytes| run(bytes).expect("decode() has read the same bytes"))
            .collect()
    }
}

fn read_device<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, &'a [u8]), WireError> {
    let len = reader.u8("device id length")?;
    let device = DeviceId::check(reader.bytes("device id", usize::from(len))?)?;
    let runs = reader.u32("number of runs")?;
    if runs == 0 {
        let rule = "a device in an index has at least one";
        return Err(WireError::Invalid { what: "number of runs", value: 0, rule });
    }
    Ok((device, reader.bytes("runs", (runs as usize).saturating_mul(RUN_BYTES))?))
}

fn read_run(reader: &mut Reader<'_>, received_at: Micros) -> Result<Run, WireError> {
    let kind = match reader.array("run kind")? {
        [0, 0] => Kind::Frames,
        [1, reason] => Kind::Skip(reason),
        [value, _] => {
            let known = "0 (frames) and 1 (skip)";
            return Err(WireError::Unsupported { what: "run kind", value: value.into(), known });
        }
    };
    let run = Run {
        epoch: Epoch(reader.int("epoch", 1)?),
        first: Seq(reader.int("first seq", 1)?),
        count: reader.int("count", 1)?,
        min_ts: reader.int("lowest ts", 0)?,
        max_ts: reader.int("highest ts", 0)?,
        received_at,
        offset: reader.u32("run offset")?,
        len: reader.u32("run data bytes")?,
        crc: reader.u32("run checksum")?,
        kind,
    };
    run.first.last_of(run.count)?;
    Ok(run)
}
