//! Rows of a downsampled answer in columns.

use std::sync::Arc;

use arrow_array::builder::{Float64Builder, Int64Builder, StringBuilder};
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::table::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, TableWriter};
use super::{Row, RowValue, TableFormat, ValueKind};
use crate::segments::{int, ints, times};

/// Gathers rows column by column.
#[derive(Debug)]
pub(super) struct RowTable {
    writer: TableWriter,
    schema: SchemaRef,
    device: StringBuilder,
    ts: Vec<i64>,
    count: Vec<i64>,
    skipped: Vec<i64>,
    value: Values,
    /// Bytes of values that are gathered.
    bytes: usize,
}

#[derive(Debug)]
enum Values {
    Float(Float64Builder),
    Count(Int64Builder),
    Json(StringBuilder),
}

impl RowTable {
    pub(super) fn new(format: TableFormat, kind: ValueKind) -> Self {
        let (value, kind) = match kind {
            ValueKind::Float => (Values::Float(Float64Builder::new()), DataType::Float64),
            ValueKind::Count => (Values::Count(Int64Builder::new()), DataType::Int64),
            ValueKind::Json => (Values::Json(StringBuilder::new()), DataType::Utf8),
        };
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("device", DataType::Utf8, false),
            Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Field::new("count", DataType::Int64, false),
            Field::new("skipped", DataType::Int64, false),
            Field::new("value", kind, true),
        ]));
        Self {
            writer: TableWriter::new(format, &schema),
            schema,
            device: StringBuilder::new(),
            ts: Vec::new(),
            count: Vec::new(),
            skipped: Vec::new(),
            value,
            bytes: 0,
        }
    }

    pub(super) fn push(&mut self, row: &Row<'_>) {
        self.device.append_value(row.device.as_str());
        self.ts.push(int(row.ts));
        self.count.push(int(row.count));
        self.skipped.push(int(row.skipped));
        match (&mut self.value, row.value) {
            (Values::Float(column), Some(RowValue::Float(value))) => column.append_value(value),
            (Values::Count(column), Some(RowValue::Count(value))) => column.append_value(int(value)),
            (Values::Json(column), Some(RowValue::Json(value))) => {
                column.append_value(value);
                self.bytes += value.len();
            }
            (Values::Float(column), _) => column.append_null(),
            (Values::Count(column), _) => column.append_null(),
            (Values::Json(column), _) => column.append_null(),
        }
        if self.ts.len() >= BATCH_ROWS_MAX || self.bytes >= BATCH_BYTES_MAX {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.ts.is_empty() {
            return;
        }
        self.bytes = 0;
        let value: ArrayRef = match &mut self.value {
            Values::Float(column) => Arc::new(column.finish()),
            Values::Count(column) => Arc::new(column.finish()),
            Values::Json(column) => Arc::new(column.finish()),
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.device.finish()),
            times(&mut self.ts),
            ints::<Int64Type>(&mut self.count),
            ints::<Int64Type>(&mut self.skipped),
            value,
        ];
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

    pub(super) fn take(&mut self) -> Vec<u8> {
        self.writer.take()
    }
}
