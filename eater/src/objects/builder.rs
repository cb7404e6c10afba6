//! Building one object out of batches.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use trough_protocol::batch::Batch;
use trough_protocol::wire::WireError;
use trough_protocol::{DeviceId, Micros};
use trough_store::object_catalog::{DeviceHead, ObjectId, ObjectRow, ROW_SPANS_MAX};

use super::acks::Acks;
use super::format::{HEADER_BYTES, Header, Index, TRAILER_BYTES, Trailer, row, spans};
use crate::journal::Submission;
use crate::journal::run::Run;

/// The next object, as far as it has come.
#[derive(Default)]
pub(super) struct Builder {
    batches: Vec<Bytes>,
    bytes: usize,
    devices: HashMap<DeviceId, Vec<Run>>,
    spans: usize,
    frames: u64,
    acks: Acks,
}

/// An object that is complete, and all that must be known to enter it.
pub(super) struct Sealed {
    pub bytes: Bytes,
    pub row: ObjectRow,
    /// Where its devices stand once it is durable.
    pub heads: Vec<DeviceHead>,
    pub acks: Acks,
    pub batches: usize,
    pub frames: u64,
    /// Bytes of its batches.
    pub batch_bytes: usize,
}

impl Builder {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Bytes of its batches.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many batches.
    pub(super) fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Whether the catalog's row could not name many more devices.
    pub(super) fn is_crowded(&self) -> bool {
        self.spans > ROW_SPANS_MAX / 2
    }

    /// Adds a batch. The caller sees to the size.
    ///
    /// # Errors
    /// The batch cannot be read, and was not added: give it back.
    pub(super) fn push(&mut self, submission: Submission) -> Result<(), (Submission, WireError)> {
        let bytes = submission.batch.clone();
        let batch = match Batch::check_directory(&bytes) {
            Ok(batch) => batch,
            Err(error) => return Err((submission, error)),
        };
        let offset = u32::try_from(HEADER_BYTES + self.bytes).expect("an object is sealed long before 4 GiB");
        for run in batch.runs() {
            let entry = Run::new(&run, batch.data(&run), offset, 0);
            self.frames += if entry.is_frames() { entry.count } else { 0 };
            match self.devices.get_mut(run.device) {
                Some(runs) => {
                    // Nearly always it is the epoch of the one before.
                    self.spans += usize::from(!runs.iter().rev().any(|known| known.epoch == entry.epoch));
                    runs.push(entry);
                }
                None => {
                    let device = DeviceId::new(run.device).expect("the batch's directory was checked");
                    self.devices.insert(device, vec![entry]);
                    self.spans += 1;
                }
            }
        }
        self.bytes += bytes.len();
        self.batches.push(bytes);
        self.acks.note(submission.sink, submission.number);
        Ok(())
    }

    /// Completes the object. The batches are copied, and let go.
    pub(super) fn seal(self, id: ObjectId, received_at: Micros) -> Sealed {
        let header = Header { id, received_at };
        let mut devices: Vec<(DeviceId, Vec<Run>)> = self.devices.into_iter().collect();
        devices.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        devices.iter_mut().for_each(|(_, runs)| runs.sort_unstable_by_key(Run::key));
        let by_device = || devices.iter().map(|(device, runs)| (device, &runs[..]));
        let index = Index::encode(by_device());
        let count = |len| u32::try_from(len).expect("an object is sealed long before 4 GiB");
        let trailer = Trailer {
            id,
            batches: count(self.batches.len()),
            devices: count(devices.len()),
            index_len: count(index.len()),
            index_crc: crc32c::crc32c(&index),
        };
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + self.bytes + index.len() + TRAILER_BYTES);
        bytes.put_slice(&header.encode());
        self.batches.iter().for_each(|batch| bytes.put_slice(batch));
        bytes.put_slice(&index);
        bytes.put_slice(&trailer.encode());
        let spans = spans(by_device());
        let head = |span: &trough_store::object_catalog::DeviceSpan| DeviceHead {
            device: span.device.clone(),
            epoch: span.epoch,
            head: span.last,
            received_at,
        };
        Sealed {
            heads: spans.iter().map(head).collect(),
            row: row(header, &bytes, spans),
            bytes: bytes.freeze(),
            acks: self.acks,
            batches: self.batches.len(),
            frames: self.frames,
            batch_bytes: self.bytes,
        }
    }
}
