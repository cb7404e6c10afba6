//! Rows on their way into the Parquet writer.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::StringBuilder;
use arrow_array::types::Int64Type;
use parquet::errors::ParquetError;
use trough_store::object_catalog::Incarnation;

use super::schema::{LOCAL, SCHEMA};
use super::{FrameColumns, Row, int, ints};

/// Rows that are gathered before they are encoded, and their bytes.
const ROWS_MAX: usize = 4096;
const BYTES_MAX: usize = 1024 * 1024;

/// Some rows, column by column: a row costs no allocation of its own.
#[derive(Default)]
pub(super) struct Columns {
    frames: FrameColumns,
    journal: StringBuilder,
    journal_n: Vec<i64>,
    /// The last incarnation, and what it is called.
    incarnation: Option<(Incarnation, String)>,
}

impl Columns {
    /// Takes a row whose numbers were checked.
    pub(super) fn push(&mut self, row: &Row<'_>) {
        self.frames.push(row.device, (row.epoch, row.seq), row.received_at, &row.frame);
        let incarnation = row.source.incarnation;
        if self.incarnation.as_ref().is_none_or(|(known, _)| *known != incarnation) {
            let name =
                if incarnation == Incarnation::LOCAL { LOCAL.to_owned() } else { incarnation.to_string() };
            self.incarnation = Some((incarnation, name));
        }
        self.journal.append_option(self.incarnation.as_ref().map(|(_, name)| name));
        self.journal_n.push(int(row.source.n));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether it is time to encode them.
    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= ROWS_MAX || self.bytes() >= BYTES_MAX
    }

    /// Bytes of payload that wait.
    pub(super) fn bytes(&self) -> usize {
        self.frames.payload_bytes()
    }

    /// Gives all rows out.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ParquetError> {
        let mut columns = self.frames.take();
        columns.push(Arc::new(self.journal.finish()));
        columns.push(ints::<Int64Type>(&mut self.journal_n));
        Ok(RecordBatch::try_new(SCHEMA.clone(), columns)?)
    }
}
