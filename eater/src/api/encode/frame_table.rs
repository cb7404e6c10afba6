//! Frames in columns: those of a segment, without what is only of use to us.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use trough_protocol::frame::FrameRef;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use super::table::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, TableWriter};
use super::{Payload, Pointer, TableFormat};
use crate::segments::{FRAME_COLUMNS, FrameColumns, SCHEMA};

/// Gathers frames column by column: a frame costs no allocation of its own.
#[derive(Debug)]
pub(super) struct FrameTable {
    writer: TableWriter,
    schema: SchemaRef,
    rows: FrameColumns,
    /// In place of payloads, if there are any.
    fields: Vec<(Pointer, StringBuilder)>,
    /// Bytes of these.
    fields_bytes: usize,
    frames: u64,
    /// Of the frames that follow.
    run: (Option<DeviceId>, Epoch, Micros),
}

impl FrameTable {
    pub(super) fn new(format: TableFormat, fields: Vec<Pointer>) -> Self {
        let schema = schema(&fields);
        Self {
            writer: TableWriter::new(format, &schema),
            schema,
            rows: FrameColumns::default(),
            fields: fields.into_iter().map(|field| (field, StringBuilder::new())).collect(),
            fields_bytes: 0,
            frames: 0,
            run: (None, Epoch(0), 0),
        }
    }

    pub(super) fn begin_device(&mut self, device: &DeviceId) {
        self.run.0 = Some(device.clone());
    }

    pub(super) fn begin_run(&mut self, epoch: Epoch, received_at: Micros) {
        (self.run.1, self.run.2) = (epoch, received_at);
    }

    pub(super) fn push(&mut self, seq: Seq, frame: &FrameRef<'_>) {
        let (device, epoch, received_at) = &self.run;
        let device = device.as_ref().map_or("", DeviceId::as_str);
        if self.fields.is_empty() {
            self.rows.push(device, (*epoch, seq), *received_at, frame);
        } else {
            self.rows.push_head(device, (*epoch, seq), *received_at, frame);
            let json = Payload::json(frame);
            for (field, column) in &mut self.fields {
                let value = json.and_then(|json| field.find(json));
                let value = value.and_then(|value| std::str::from_utf8(value).ok());
                column.append_option(value);
                self.fields_bytes += value.map_or(0, str::len);
            }
        }
        self.frames += 1;
        if self.rows.len() >= BATCH_ROWS_MAX || self.bytes() >= BATCH_BYTES_MAX {
            self.write();
        }
    }

    /// Of what is gathered.
    fn bytes(&self) -> usize {
        self.rows.payload_bytes() + self.fields_bytes
    }

    fn write(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let columns = if self.fields.is_empty() {
            self.rows.take()
        } else {
            self.fields_bytes = 0;
            let mut columns = self.rows.take_heads();
            columns.extend(self.fields.iter_mut().map(|(_, column)| Arc::new(column.finish()) as ArrayRef));
            columns
        };
        let batch = RecordBatch::try_new(self.schema.clone(), columns);
        self.writer.write(&batch.expect("as many values in each column, of the schema's types"));
    }

    pub(super) fn finish(&mut self) {
        self.write();
        self.writer.finish();
    }

    pub(super) fn len(&self) -> usize {
        self.writer.ready() + self.writer.waiting() + self.bytes()
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
