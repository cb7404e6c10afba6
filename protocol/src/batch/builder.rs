//! Making a batch.

use super::{HEADER_BYTES, MAGIC, RUN_BYTES, RunKind, VERSION, head_crc};
use crate::limits::{BATCH_BYTES_MAX, BATCH_RUNS_MAX};
use crate::words::{DeviceId, Epoch, Micros, Seq};

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
    /// caller has asked [`BatchBuilder::fits`] and [`Seq::last_of`]: one run that breaks a rule makes the eater
    /// refuse the whole batch.
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
        debug_assert!(first.last_of(count).is_ok(), "the caller asks last_of() first");
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
