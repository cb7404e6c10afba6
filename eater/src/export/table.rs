//! Frames as Parquet: finished parts, which are put together in the end without decoding them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::writer::SerializedFileWriter;

use super::{ExportError, Exported};
use crate::segments::{FRAME_COLUMNS, FrameColumns, SCHEMA, export_properties};

/// Rows that are gathered before they are encoded, and their bytes.
const ROWS_MAX: usize = 4096;
const BYTES_MAX: usize = 1024 * 1024;

/// Those columns of a segment that say what the frame is, and not where it came from.
static FRAME_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(SCHEMA.fields()[..FRAME_COLUMNS].to_vec())));

/// A part that is being written.
pub(super) struct Part {
    path: PathBuf,
    writer: ArrowWriter<File>,
    rows: FrameColumns,
}

fn failed(path: &Path) -> impl Fn(ParquetError) -> ExportError + '_ {
    |source| ExportError::Parquet { path: path.to_owned(), source }
}

impl Part {
    pub(super) fn create(path: PathBuf) -> Result<Self, ExportError> {
        let file = File::create(&path).map_err(ExportError::io("create", &*path))?;
        let writer = ArrowWriter::try_new(file, FRAME_SCHEMA.clone(), Some(export_properties()));
        Ok(Self { writer: writer.map_err(failed(&path))?, path, rows: FrameColumns::default() })
    }

    pub(super) fn push(&mut self, exported: &Exported<'_>) -> Result<(), ExportError> {
        let Exported { device, epoch, seq, received_at, frame } = exported;
        self.rows.push(device, (*epoch, *seq), *received_at, frame);
        if self.rows.len() >= ROWS_MAX || self.rows.payload_bytes() >= BYTES_MAX {
            self.encode()
        } else {
            Ok(())
        }
    }

    fn encode(&mut self) -> Result<(), ExportError> {
        if !self.rows.is_empty() {
            let batch = RecordBatch::try_new(FRAME_SCHEMA.clone(), self.rows.take());
            let batch = batch.map_err(|error| failed(&self.path)(error.into()))?;
            self.writer.write(&batch).map_err(failed(&self.path))?;
        }
        Ok(())
    }

    /// Completes it, durably.
    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        self.encode()?;
        let file = self.writer.into_inner().map_err(failed(&self.path))?;
        file.sync_data().map_err(ExportError::io("write", &*self.path))
    }
}

/// Puts parts together, row group by row group, as they are; the parts stay.
pub(super) fn join(parts: &[PathBuf], out: &Path) -> Result<(), ExportError> {
    let file = File::create(out).map_err(ExportError::io("create", out))?;
    let mut writer: Option<SerializedFileWriter<File>> = None;
    let mut file = Some(file);
    for path in parts {
        let part = File::open(path).map_err(ExportError::io("open", &**path))?;
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .parse_and_finish(&part)
            .map_err(failed(path))?;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                let schema = metadata.file_metadata().schema_descr().root_schema_ptr();
                let properties = Arc::new(export_properties());
                let file = file.take().expect("it is taken with the first part");
                none.insert(SerializedFileWriter::new(file, schema, properties).map_err(failed(out))?)
            }
        };
        for (at, group) in metadata.row_groups().iter().enumerate() {
            let mut copy = writer.next_row_group().map_err(failed(out))?;
            for (column, chunk) in group.columns().iter().enumerate() {
                let page_index = metadata.page_index();
                let close = ColumnCloseResult {
                    bytes_written: chunk.compressed_size().max(0) as u64,
                    rows_written: group.num_rows().max(0) as u64,
                    metadata: chunk.clone(),
                    bloom_filter: None,
                    column_index: page_index.and_then(|index| index.column_index(at, column)).cloned(),
                    offset_index: page_index.and_then(|index| index.offset_index(at, column)).cloned(),
                };
                copy.append_column(&part, close).map_err(failed(out))?;
            }
            copy.close().map_err(failed(out))?;
        }
    }
    if let Some(writer) = writer {
        let file = writer.into_inner().map_err(failed(out))?;
        file.sync_data().map_err(ExportError::io("write", out))?;
    }
    Ok(())
}
