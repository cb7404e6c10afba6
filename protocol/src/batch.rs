//! A batch: frames of many devices, with a directory of runs before them. It travels from feeder to journal
//! without being re-encoded; the commit path looks at header, directory and checksums, never at payloads.
//!
//! ```text
//! header, 24 bytes                         run, 50 bytes and the device id
//!   4  magic "TRBA"                          u8  kind: 0 frames, 1 skip
//!   u8 version, 1                            u8  device id length
//!   u8 codec, 0 = none                           device id
//!   u8 critical flags, 0                     u64 epoch
//!   u8 other flags, ignored                  u64 first seq
//!   u32 number of runs                       u64 count
//!   u32 directory bytes                      u64 lowest ts     (0 in a skip)
//!   u32 data bytes                           u64 highest ts    (0 in a skip)
//!   u32 CRC32C of the 20 bytes before        u32 data bytes
//!       and of the directory                 u32 CRC32C of its data
//! directory: the runs; then the runs' data in the same order
//! ```
//! A run's data is its frames ([`crate::frame`]) one after another, or for a skip one byte, the reason.

use crate::limits::{BATCH_BYTES_MAX, BATCH_RUNS_MAX, INT_MAX};
use crate::wire::{Reader, WireError};
use crate::words::{DeviceId, Epoch, Micros, Seq};

/// The first bytes of a batch.
pub const MAGIC: [u8; 4] = *b"TRBA";
/// Bytes of the fixed part before the directory.
pub const HEADER_BYTES: usize = 24;
/// Bytes of a run in the directory, besides the device id.
pub const RUN_BYTES: usize = 50;
const VERSION: u8 = 1;

/// What a run holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// Frames.
    Frames,
    /// Numbers that the device declared lost.
    Skip,
}

/// Consecutive sequence numbers of one device and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// Frames or a declared loss.
    pub kind: RunKind,
    /// Whose.
    pub device: &'a str,
    /// In which numbering.
    pub epoch: Epoch,
    /// The first number.
    pub first: Seq,
    /// How many numbers; at least 1.
    pub count: u64,
    /// Lowest ts of the frames; 0 in a skip.
    pub min_ts: Micros,
    /// Highest ts of the frames; 0 in a skip.
    pub max_ts: Micros,
    /// Where the run's data begins, in bytes from the start of the batch.
    pub offset: u32,
    /// Bytes of the run's data.
    pub len: u32,
    /// CRC32C of the run's data.
    pub crc: u32,
}

impl Run<'_> {
    /// The last number.
    pub fn last(&self) -> Seq {
        Seq(self.first.0 + self.count - 1)
    }
}

/// Collects runs into a batch. Reused from batch to batch: it keeps its allocations.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    head: Vec<u8>,
    data: Vec<u8>,
    runs: u32,
}

impl BatchBuilder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of the batch as it stands.
    pub fn len(&self) -> usize {
        self.head.len().max(HEADER_BYTES) + self.data.len()
    }

    /// Whether it has no run.
    pub fn is_empty(&self) -> bool {
        self.runs == 0
    }

    /// Whether a run of `device` with `len` bytes of data still fits.
    pub fn fits(&self, device: &DeviceId, len: usize) -> bool {
        (self.runs as usize) < BATCH_RUNS_MAX
            && self.len() + RUN_BYTES + device.as_str().len() + len <= BATCH_BYTES_MAX
    }

    /// Appends a run. `data` is frames that [`crate::frame::check_frames`] accepted, in one or more pieces; the
    /// caller has asked [`BatchBuilder::fits`].
    pub fn push_frames(
        &mut self,
        device: &DeviceId,
        epoch: Epoch,
        first: Seq,
        summary: crate::frame::FramesSummary,
        data: &[u8],
    ) {
        let bounds = (summary.min_ts, summary.max_ts);
        self.push(RunKind::Frames, device, epoch, first, summary.count, bounds, data);
    }

    /// Appends a declared loss of `count` numbers from `first` for `reason`.
    pub fn push_skip(&mut self, device: &DeviceId, epoch: Epoch, first: Seq, count: u64, reason: u8) {
        self.push(RunKind::Skip, device, epoch, first, count, (0, 0), &[reason]);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a run, in the order of the wire")]
    fn push(
        &mut self,
        kind: RunKind,
        device: &DeviceId,
        epoch: Epoch,
        first: Seq,
        count: u64,
        (min_ts, max_ts): (Micros, Micros),
        data: &[u8],
    ) {
        debug_assert!(self.fits(device, data.len()), "the caller asks fits() first");
        if self.head.is_empty() {
            self.head.resize(HEADER_BYTES, 0);
        }
        let name = device.as_str().as_bytes();
        let len = u32::try_from(data.len()).expect("fits() bounds it to 4 MiB");
        let out = &mut self.head;
        out.reserve(RUN_BYTES + name.len());
        out.push(match kind {
            RunKind::Frames => 0,
            RunKind::Skip => 1,
        });
        out.push(u8::try_from(name.len()).expect("a device id has at most 64 bytes"));
        out.extend_from_slice(name);
        for field in [epoch.0, first.0, count, min_ts, max_ts] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(data).to_le_bytes());
        self.data.extend_from_slice(data);
        self.runs += 1;
    }

    /// Completes the batch and gives its two parts, header with directory and data, to be sent one after the
    /// other. [`BatchBuilder::clear`] makes it empty again.
    pub fn finish(&mut self) -> (&[u8], &[u8]) {
        if self.head.is_empty() {
            self.head.resize(HEADER_BYTES, 0);
        }
        let directory_len = u32::try_from(self.head.len() - HEADER_BYTES).expect("fits() bounds it to 4 MiB");
        let data_len = u32::try_from(self.data.len()).expect("fits() bounds it to 4 MiB");
        self.head[0..4].copy_from_slice(&MAGIC);
        self.head[4..8].copy_from_slice(&[VERSION, 0, 0, 0]);
        self.head[8..12].copy_from_slice(&self.runs.to_le_bytes());
        self.head[12..16].copy_from_slice(&directory_len.to_le_bytes());
        self.head[16..20].copy_from_slice(&data_len.to_le_bytes());
        let crc = head_crc(&self.head);
        self.head[20..24].copy_from_slice(&crc.to_le_bytes());
        (&self.head, &self.data)
    }

    /// Empties it, keeping up to `keep` bytes of allocation.
    pub fn clear(&mut self, keep: usize) {
        for part in [&mut self.head, &mut self.data] {
            part.clear();
            part.shrink_to(keep);
        }
        self.runs = 0;
    }
}

fn head_crc(head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..20]), &head[HEADER_BYTES..])
}

/// A batch whose header, directory and checksums have been found good.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    bytes: &'a [u8],
    runs: u32,
    directory_end: usize,
}

impl<'a> Batch<'a> {
    /// Bytes of the batch that begins at the front of `bytes`, from its header alone.
    ///
    /// # Errors
    /// Not a batch, of a version that is not known, or over a limit.
    pub fn peek_len(bytes: &[u8]) -> Result<usize, WireError> {
        Header::read(bytes).map(|header| header.total())
    }

    /// Checks a batch: header, directory and every run's checksum. `bytes` must end where the batch ends.
    ///
    /// # Errors
    /// The first fault. Nothing is allocated.
    pub fn check(bytes: &'a [u8]) -> Result<Self, WireError> {
        let header = Header::read(bytes)?;
        if bytes.len() < header.total() {
            return Err(WireError::Truncated { what: "batch", needed: header.total(), had: bytes.len() });
        }
        Reader::new(&bytes[header.total()..]).end("batch")?;
        let directory_end = HEADER_BYTES + header.directory_len;
        let computed = head_crc(&bytes[..directory_end]);
        if computed != header.crc {
            return Err(WireError::Checksum {
                what: "batch header or directory",
                found: header.crc,
                computed,
            });
        }
        let mut reader = Reader::new(&bytes[HEADER_BYTES..directory_end]);
        let mut offset = directory_end;
        for _ in 0..header.runs {
            let run = read_run(&mut reader, u32::try_from(offset).expect("bounded by BATCH_BYTES_MAX"))?;
            let end = offset + run.len as usize;
            let data = bytes.get(offset..end).ok_or(WireError::Truncated {
                what: "run data",
                needed: run.len as usize,
                had: bytes.len() - offset,
            })?;
            run.check(data)?;
            offset = end;
        }
        reader.end("batch directory")?;
        Reader::new(&bytes[offset..]).end("the last run's data")?;
        Ok(Self { bytes, runs: header.runs, directory_end })
    }

    /// The runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = Run<'a>> + use<'a> {
        let mut reader = Reader::new(&self.bytes[HEADER_BYTES..self.directory_end]);
        let mut offset = u32::try_from(self.directory_end).expect("bounded by BATCH_BYTES_MAX");
        (0..self.runs).map(move |_| {
            let run = read_run(&mut reader, offset).expect("check() has read the same bytes");
            offset += run.len;
            run
        })
    }

    /// How many runs.
    pub fn run_count(&self) -> u32 {
        self.runs
    }

    /// A run's data.
    pub fn data(&self, run: &Run<'_>) -> &'a [u8] {
        &self.bytes[run.offset as usize..(run.offset + run.len) as usize]
    }

    /// The whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl Run<'_> {
    /// Checks the run's data against its checksum.
    ///
    /// # Errors
    /// [`WireError::Checksum`].
    pub fn check(&self, data: &[u8]) -> Result<(), WireError> {
        let computed = crc32c::crc32c(data);
        if computed == self.crc {
            Ok(())
        } else {
            Err(WireError::Checksum { what: "run data", found: self.crc, computed })
        }
    }
}

struct Header {
    runs: u32,
    directory_len: usize,
    data_len: usize,
    crc: u32,
}

impl Header {
    fn total(&self) -> usize {
        HEADER_BYTES + self.directory_len + self.data_len
    }

    fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let found = reader.array("batch magic")?;
        if found != MAGIC {
            return Err(WireError::Magic { what: "batch", found });
        }
        let [version, codec, critical, _] = reader.array("batch header")?;
        for (what, value, known) in [
            ("batch version", version, VERSION),
            ("batch codec", codec, 0),
            ("batch critical flags", critical, 0),
        ] {
            if value != known {
                let known = if known == 0 { "0" } else { "1" };
                return Err(WireError::Unsupported { what, value: value.into(), known });
            }
        }
        let runs = reader.u32("number of runs")?;
        if runs as usize > BATCH_RUNS_MAX {
            let max = BATCH_RUNS_MAX as u64;
            return Err(WireError::TooLarge { what: "number of runs", value: runs.into(), max });
        }
        let header = Self {
            runs,
            directory_len: reader.u32("directory bytes")? as usize,
            data_len: reader.u32("data bytes")? as usize,
            crc: reader.u32("batch checksum")?,
        };
        if header.total() > BATCH_BYTES_MAX {
            let (value, max) = (header.total() as u64, BATCH_BYTES_MAX as u64);
            return Err(WireError::TooLarge { what: "batch bytes", value, max });
        }
        Ok(header)
    }
}

fn read_run<'a>(reader: &mut Reader<'a>, offset: u32) -> Result<Run<'a>, WireError> {
    let kind = match reader.u8("run kind")? {
        0 => RunKind::Frames,
        1 => RunKind::Skip,
        value => {
            let known = "0 (frames) and 1 (skip)";
            return Err(WireError::Unsupported { what: "run kind", value: value.into(), known });
        }
    };
    let device_len = reader.u8("device id length")?;
    let device = DeviceId::check(reader.bytes("device id", usize::from(device_len))?)?;
    let epoch = Epoch(reader.int("epoch", 1)?);
    let first = Seq(reader.int("first seq", 1)?);
    let count = reader.int("count", 1)?;
    if first.0 + count - 1 > INT_MAX {
        return Err(WireError::TooLarge { what: "last seq", value: first.0 + count - 1, max: INT_MAX });
    }
    let min_ts = reader.int("lowest ts", 0)?;
    let max_ts = reader.int("highest ts", 0)?;
    if min_ts > max_ts {
        return Err(WireError::Invalid {
            what: "lowest ts",
            value: min_ts,
            rule: "it must not be above the highest ts",
        });
    }
    let len = reader.u32("run data bytes")?;
    let crc = reader.u32("run checksum")?;
    Ok(Run { kind, device, epoch, first, count, min_ts, max_ts, offset, len, crc })
}
