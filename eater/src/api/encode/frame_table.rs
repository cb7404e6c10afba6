//! Frames in columns: those of a segment, without what is only of use to us.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use trough_protocol::frame::FrameRef;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use super::table::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, TableWriter};
use super::{Payload, Pointer, TableFormat};
use crate::segments::{FRAME_COLUMNS, SCHEMA};

/// Gathers frames column by column: a frame costs no allocation of its own.
#[derive(Debug)]
pub(super) struct FrameTable {
    writer: TableWriter,
    schema: SchemaRef,
    device: StringBuilder,
    epoch: Vec<i64>,
    seq: Vec<i64>,
    ts: Vec<i64>,
    received_at: Vec<i64>,
    channel: StringBuilder,
    content_type: StringBuilder,
    payload: BinaryBuilder,
    /// In place of payloads, if there are any.
    fields: Vec<(Pointer, StringBuilder)>,
    /// Bytes of what is gathered.
    bytes: usize,
    frames: u64,
    /// Of the frames that follow.
    run: (Option<DeviceId>, i64, i64),
}

impl FrameTable {
    pub(super) fn new(format: TableFormat, fields: Vec<Pointer>) -> Self {
        let schema = schema(&fields);
        Self {
            writer: TableWriter::new(format, &schema),
            schema,
            device: StringBuilder::new(),
            epoch: Vec::new(),
            seq: Vec::new(),
            ts: Vec::new(),
            received_at: Vec::new(),
            channel: StringBuilder::new(),
            content_type: StringBuilder::new(),
            payload: BinaryBuilder::new(),
            fields: fields.into_iter().map(|field| (field, StringBuilder::new())).collect(),
            bytes: 0,
            frames: 0,
            run: (None, 0, 0),
        }
    }

    pub(super) fn begin_device(&mut self, device: &DeviceId) {
        self.run.0 = Some(device.clone());
    }

    pub(super) fn begin_run(&mut self, epoch: Epoch, received_at: Micros) {
        (self.run.1, self.run.2) = (int(epoch.0), int(received_at));
    }

    pub(super) fn push(&mut self, seq: Seq, frame: &FrameRef<'_>) {
        let (device, epoch, received_at) = &self.run;
        self.device.append_value(device.as_ref().map_or("", DeviceId::as_str));
        self.epoch.push(*epoch);
        self.seq.push(int(seq.0));
        self.ts.push(int(frame.ts));
        self.received_at.push(*received_at);
        self.channel.append_value(frame.channel);
        self.content_type.append_value(frame.content_type.as_str());
        if self.fields.is_empty() {
            self.payload.append_value(frame.payload);
            self.bytes += frame.payload.len();
        } else {
            let json = Payload::json(frame);
            for (field, column) in &mut self.fields {
                let value = json.and_then(|json| field.find(json));
                let value = value.and_then(|value| std::str::from_utf8(value).ok());
                column.append_option(value);
                self.bytes += value.map_or(0, str::len);
            }
        }
        self.frames += 1;
        if self.epoch.len() >= BATCH_ROWS_MAX || self.bytes >= BATCH_BYTES_MAX {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.epoch.is_empty() {
            return;
        }
        self.bytes = 0;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.device.finish()),
            ints::<Int64Type>(&mut self.epoch),
            ints::<Int64Type>(&mut self.seq),
            times(&mut self.ts),
            times(&mut self.received_at),
            Arc::new(self.channel.finish()),
            Arc::new(self.content_type.finish()),
        ];
        if self.fields.is_empty() {
            columns.push(Arc::new(self.payload.finish()));
        }
        columns.extend(self.fields.iter_mut().map(|(_, column)| Arc::new(column.finish()) as ArrayRef));
        let batch = RecordBatch::try_new(self.schema.clone(), columns);
        self.writer.write(&batch.expect("as many values in each column, of the schema's types"));
    }

    pub(super) fn finish(&mut self) {
        self.write();
        self.writer.finish();
    }

    pub(super) fn len(&self) -> usize {
        self.writer.ready() + self.writer.waiting() + self.bytes
    }

    pub(super) fn ready(&self) -> usize {
        self.writer.ready()
    }

    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        self.writer.take()
    }
}

/// The columns of segments that are of use to others; chosen fields in place of the payload.
fn schema(fields: &[Pointer]) -> SchemaRef {
    let common = if fields.is_empty() { FRAME_COLUMNS } else { FRAME_COLUMNS - 1 };
    let mut columns: Vec<FieldRef> = SCHEMA.fields()[..common].to_vec();
    columns.extend(fields.iter().map(|field| Arc::new(Field::new(field.as_str(), DataType::Utf8, true))));
    Arc::new(Schema::new(columns))
}

/// All numbers of frames are at most 2^53 - 1.
pub(super) fn int(value: u64) -> i64 {
    value as i64
}

pub(super) fn ints<T: ArrowPrimitiveType<Native = i64>>(values: &mut Vec<i64>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(std::mem::take(values).into(), None))
}

pub(super) fn times(values: &mut Vec<i64>) -> ArrayRef {
    let times = PrimitiveArray::<TimestampMicrosecondType>::new(std::mem::take(values).into(), None);
    Arc::new(times.with_timezone("UTC"))
}
