//! Record batches as the bytes of an answer.
//!
//! Both kinds are written as they come: memory holds what was written and not taken yet, and of Parquet one row group. An
//! answer that breaks off has no end mark (Arrow) or no footer (Parquet).

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

/// Rows that are gathered for a batch, and the bytes of what varies in length in them.
pub(super) const BATCH_ROWS_MAX: usize = 4096;
pub(super) const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Most rows of one row group, and about its largest size, in bytes.
const GROUP_ROWS_MAX: usize = 64 * 1024;
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Of 1 to 22: somebody is waiting.
const ZSTD_LEVEL: i32 = 1;

/// Which kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableFormat {
    /// Arrow's IPC stream.
    Arrow,
    /// Parquet.
    Parquet,
}

/// Batches in, bytes out.
pub(super) enum TableWriter {
    Arrow(Box<StreamWriter<Vec<u8>>>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

/// Neither writer refuses batches of its own schema, and memory takes every byte.
const CANNOT_FAIL: &str = "a batch of this schema, written into memory";

impl TableWriter {
    pub(super) fn new(format: TableFormat, schema: &SchemaRef) -> Self {
        match format {
            TableFormat::Arrow => {
                let writer = StreamWriter::try_new(Vec::new(), schema).expect(CANNOT_FAIL);
                Self::Arrow(Box::new(writer))
            }
            TableFormat::Parquet => {
                // As in segments: plain Parquet, the same to every reader.
                let options = ArrowWriterOptions::new()
                    .with_properties(properties(schema))
                    .with_skip_arrow_metadata(true);
                let writer = ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options);
                Self::Parquet(Box::new(writer.expect(CANNOT_FAIL)))
            }
        }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) {
        match self {
            Self::Arrow(writer) => writer.write(batch).expect(CANNOT_FAIL),
            Self::Parquet(writer) => writer.write(batch).expect(CANNOT_FAIL),
        }
    }

    /// Writes the end. Nothing may be written behind it.
    pub(super) fn finish(&mut self) {
        match self {
            Self::Arrow(writer) => writer.finish().expect(CANNOT_FAIL),
            Self::Parquet(writer) => drop(writer.finish().expect(CANNOT_FAIL)),
        }
    }

    /// Bytes that can be taken.
    pub(super) fn ready(&self) -> usize {
        match self {
            Self::Arrow(writer) => writer.get_ref().len(),
            Self::Parquet(writer) => writer.inner().len(),
        }
    }

    /// Bytes that were encoded and cannot be taken yet, about.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::Arrow(_) => 0,
            Self::Parquet(writer) => writer.in_progress_size(),
        }
    }

    /// The bytes written since the last time. Both writers count for themselves where they are.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Arrow(writer) => writer.get_mut(),
            Self::Parquet(writer) => writer.inner_mut(),
        })
    }
}

impl std::fmt::Debug for TableWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableWriter").field("ready", &self.ready()).finish_non_exhaustive()
    }
}

/// Encoded as in segments.
fn properties(schema: &SchemaRef) -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("zstd has this level");
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        // What is kept of each page until the footer is written would grow with the answer.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
        .set_max_row_group_bytes(Some(GROUP_BYTES_MAX));
    for field in schema.fields() {
        let column = ColumnPath::from(field.name().as_str());
        properties = match field.data_type() {
            DataType::Int64 | DataType::Timestamp(..) => properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED),
            DataType::Binary => properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_statistics_enabled(column, EnabledStatistics::None),
            _ => properties,
        };
    }
    properties.build()
}
