//! Checking a batch and reading its directory.

use super::{HEADER_BYTES, MAGIC, Run, RunKind, VERSION, head_crc};
use crate::frame::FRAME_BYTES_MIN;
use crate::limits::{BATCH_BYTES_MAX, BATCH_RUNS_MAX};
use crate::wire::{Reader, WireError};
use crate::words::{DeviceId, Epoch, Seq};

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
        Self::read(bytes, true)
    }

    /// Checks header and directory, and leaves the runs' data unread: for a batch that has been found good
    /// before, or whose data is to be checked run by run with [`Run::check`].
    ///
    /// # Errors
    /// As [`Batch::check`], but for the data's checksums.
    pub fn check_directory(bytes: &'a [u8]) -> Result<Self, WireError> {
        Self::read(bytes, false)
    }

    fn read(bytes: &'a [u8], with_data: bool) -> Result<Self, WireError> {
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
            let end = offset.saturating_add(run.len as usize);
            let data = bytes.get(offset..end).ok_or_else(|| WireError::Truncated {
                what: "run data",
                needed: run.len as usize,
                had: bytes.len() - offset,
            })?;
            if with_data {
                run.check(data)?;
            }
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

struct Header {
    runs: u32,
    directory_len: usize,
    data_len: usize,
    crc: u32,
}

impl Header {
    fn total(&self) -> usize {
        HEADER_BYTES.saturating_add(self.directory_len).saturating_add(self.data_len)
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
        if runs == 0 {
            return Err(WireError::Invalid {
                what: "number of runs",
                value: 0,
                rule: "a batch has at least one",
            });
        }
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
    first.last_of(count)?;
    let min_ts = reader.int("lowest ts", 0)?;
    let max_ts = reader.int("highest ts", 0)?;
    let len = reader.u32("run data bytes")?;
    let crc = reader.u32("run checksum")?;
    let run = Run { kind, device, epoch, first, count, min_ts, max_ts, offset, len, crc };
    check_consistent(&run)?;
    Ok(run)
}

/// What the directory alone can tell of a run: a count that its data cannot hold would acknowledge frames that were
/// never stored.
fn check_consistent(run: &Run<'_>) -> Result<(), WireError> {
    let invalid = |what, value, rule| Err(WireError::Invalid { what, value, rule });
    if run.min_ts > run.max_ts {
        return invalid("lowest ts", run.min_ts, "it must not be above the highest ts");
    }
    match run.kind {
        RunKind::Frames if run.min_ts == 0 => invalid("lowest ts", 0, "frames have a ts of 1 at least"),
        RunKind::Frames if run.count > u64::from(run.len) / FRAME_BYTES_MIN as u64 => {
            invalid("count", run.count, "the run's data is too short for so many frames")
        }
        RunKind::Skip if run.max_ts != 0 => invalid("highest ts", run.max_ts, "it must be 0 in a skip"),
        RunKind::Skip if run.len != 1 => {
            invalid("run data bytes", run.len.into(), "a skip has one, the reason")
        }
        _ => Ok(()),
    }
}
