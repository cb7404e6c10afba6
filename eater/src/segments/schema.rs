//! The columns of a segment, and how each is encoded.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use trough_store::segment_catalog::SegmentId;

/// What the column `journal` says of frames of the local journal; of others it has the incarnation.
pub(super) const LOCAL: &str = "local";
/// Most rows of one page.
pub(super) const PAGE_ROWS_MAX: usize = 4096;
/// At this size a page ends, in bytes before compression. A larger value has a page of its own.
pub(super) const PAGE_BYTES_MAX: usize = 64 * 1024;
/// Most rows of one row group.
const GROUP_ROWS_MAX: usize = 256 * 1024;
/// At this size a row group ends, in bytes.
const GROUP_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Of 1 to 22: what zstd itself takes if nothing is said.
const ZSTD_LEVEL: i32 = 3;

/// Where the columns stand. Field ids are one more.
pub(super) mod at {
    pub const DEVICE: usize = 0;
    pub const EPOCH: usize = 1;
    pub const SEQ: usize = 2;
    pub const TS: usize = 3;
    pub const RECEIVED_AT: usize = 4;
    pub const CHANNEL: usize = 5;
    pub const CONTENT_TYPE: usize = 6;
    pub const PAYLOAD: usize = 7;
    pub const JOURNAL: usize = 8;
    pub const JOURNAL_N: usize = 9;
}

/// How many of the columns are the frame itself; the others say where it came from.
pub(crate) const FRAME_COLUMNS: usize = at::PAYLOAD + 1;

/// The columns. Later releases add nullable ones behind them, with new field ids, and nothing else ever changes.
pub(crate) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns = [
        ("device", DataType::Utf8, false),
        ("epoch", DataType::Int64, false),
        ("seq", DataType::Int64, false),
        ("ts", time(), false),
        ("received_at", time(), false),
        ("channel", DataType::Utf8, false),
        ("content_type", DataType::Utf8, false),
        ("payload", DataType::Binary, false),
        ("journal", DataType::Utf8, true),
        ("journal_n", DataType::Int64, true),
    ];
    let fields = (1..).zip(columns).map(|(id, (name, kind, nullable))| {
        let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), format!("{id}"))]);
        Field::new(name, kind, nullable).with_metadata(id)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
});

/// How a file of frames is written that is no segment.
pub(crate) fn export_properties() -> WriterProperties {
    properties(None)
}

/// How a segment's file is written.
pub(super) fn properties(id: Option<SegmentId>) -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("zstd has this level");
    let sorted = |at| SortingColumn { column_idx: at, descending: false, nulls_first: false };
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_data_page_row_count_limit(PAGE_ROWS_MAX)
        .set_data_page_size_limit(PAGE_BYTES_MAX)
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
        .set_max_row_group_bytes(Some(GROUP_BYTES_MAX))
        .set_sorting_columns(Some([at::DEVICE, at::EPOCH, at::SEQ].map(|at| sorted(at as i32)).into()))
        .set_key_value_metadata(id.map(|id| {
            vec![
                KeyValue::new("trough.format".to_owned(), "1".to_owned()),
                KeyValue::new("trough.segment".to_owned(), id.to_string()),
            ]
        }));
    for at in [at::EPOCH, at::SEQ, at::TS, at::RECEIVED_AT, at::JOURNAL_N] {
        properties = properties
            .set_column_dictionary_enabled(path(at), false)
            .set_column_encoding(path(at), Encoding::DELTA_BINARY_PACKED);
    }
    properties
        .set_column_dictionary_enabled(path(at::PAYLOAD), false)
        .set_column_encoding(path(at::PAYLOAD), Encoding::PLAIN)
        // The least and the greatest of opaque bytes help nobody.
        .set_column_statistics_enabled(path(at::PAYLOAD), EnabledStatistics::None)
        .build()
}

fn path(at: usize) -> ColumnPath {
    ColumnPath::from(SCHEMA.field(at).name().as_str())
}
