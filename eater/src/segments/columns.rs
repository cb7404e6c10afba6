//! Rows on their way into the Parquet writer.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch};
use parquet::errors::ParquetError;
use trough_store::object_catalog::Incarnation;

use super::Row;
use super::schema::{LOCAL, SCHEMA};

/// Rows that are gathered before they are encoded, and their bytes.
const ROWS_MAX: usize = 4096;
const BYTES_MAX: usize = 1024 * 1024;

/// Some rows, column by column: a row costs no allocation of its own.
#[derive(Default)]
pub(super) struct Columns {
    device: StringBuilder,
    epoch: Vec<i64>,
    seq: Vec<i64>,
    ts: Vec<i64>,
    received_at: Vec<i64>,
    channel: StringBuilder,
    content_type: StringBuilder,
    payload: BinaryBuilder,
    journal: StringBuilder,
    journal_n: Vec<i64>,
    bytes: usize,
    /// The last incarnation, and what it is called.
    incarnation: Option<(Incarnation, String)>,
}

impl Columns {
    /// Takes a row whose numbers were checked.
    pub(super) fn push(&mut self, row: &Row<'_>) {
        // All are at most 2^53 - 1.
        let int = |value: u64| value as i64;
        self.device.append_value(row.device);
        self.epoch.push(int(row.epoch.0));
        self.seq.push(int(row.seq.0));
        self.ts.push(int(row.frame.ts));
        self.received_at.push(int(row.received_at));
        self.channel.append_value(row.frame.channel);
        self.content_type.append_value(row.frame.content_type.as_str());
        self.payload.append_value(row.frame.payload);
        let incarnation = row.source.incarnation;
        if self.incarnation.as_ref().is_none_or(|(known, _)| *known != incarnation) {
            let name =
                if incarnation == Incarnation::LOCAL { LOCAL.to_owned() } else { incarnation.to_string() };
            self.incarnation = Some((incarnation, name));
        }
        self.journal.append_option(self.incarnation.as_ref().map(|(_, name)| name));
        self.journal_n.push(int(row.source.n));
        self.bytes += row.frame.payload.len();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.epoch.is_empty()
    }

    /// Whether it is time to encode them.
    pub(super) fn is_full(&self) -> bool {
        self.epoch.len() >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    /// Bytes of payload that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives all rows out.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ParquetError> {
        self.bytes = 0;
        let time = |values: &mut Vec<i64>| -> ArrayRef {
            Arc::new(ints::<TimestampMicrosecondType>(values).with_timezone("UTC"))
        };
        let int = |values: &mut Vec<i64>| -> ArrayRef { Arc::new(ints::<Int64Type>(values)) };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.device.finish()),
            int(&mut self.epoch),
            int(&mut self.seq),
            time(&mut self.ts),
            time(&mut self.received_at),
            Arc::new(self.channel.finish()),
            Arc::new(self.content_type.finish()),
            Arc::new(self.payload.finish()),
            Arc::new(self.journal.finish()),
            int(&mut self.journal_n),
        ];
        Ok(RecordBatch::try_new(SCHEMA.clone(), columns)?)
    }
}

fn ints<T: ArrowPrimitiveType<Native = i64>>(values: &mut Vec<i64>) -> PrimitiveArray<T> {
    PrimitiveArray::new(std::mem::take(values).into(), None)
}
